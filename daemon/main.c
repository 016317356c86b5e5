/*
 * trtcolld: the command line. The control process is control/daemon.h; the same binary is also every executor process.
 */
#include "control/daemon.h"
#include "executor/main.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { EXIT_USAGE = 2, EXECUTOR_SOCKET = 3 };
enum { OPT_RUNTIME_DIR = 256, OPT_LOG_LEVEL, OPT_CHECK_CONFIG, OPT_EXECUTOR, OPT_DEVICE, OPT_CUDA };

static const struct option long_options[] = {
    {"config", required_argument, NULL, 'c'},
    {"runtime-dir", required_argument, NULL, OPT_RUNTIME_DIR},
    {"log-level", required_argument, NULL, OPT_LOG_LEVEL},
    {"check-config", required_argument, NULL, OPT_CHECK_CONFIG},
    {"executor", no_argument, NULL, OPT_EXECUTOR},
    {"device", required_argument, NULL, OPT_DEVICE},
    {"cuda", required_argument, NULL, OPT_CUDA},
    {"version", no_argument, NULL, 'V'},
    {"help", no_argument, NULL, 'h'},
    {NULL, 0, NULL, 0},
};

static void print_help(FILE *to)
{
    fputs("usage: trtcolld --config FILE [--runtime-dir DIR] [--log-level LEVEL]\n"
          "       trtcolld --check-config FILE\n"
          "\n"
          "  -c, --config FILE       configuration: JSON, and FILE.d/*.json over it\n"
          "      --runtime-dir DIR   where socket, lock and statistics live, whatever the configuration says\n"
          "      --log-level LEVEL   err, warning, notice, info or debug, whatever the configuration says\n"
          "      --check-config FILE check a configuration and exit: 0 valid, 2 not\n"
          "  -V, --version           print the version\n"
          "  -h, --help              print this\n"
          "\n"
          "SIGTERM stops after clients have left (twice: at once), SIGHUP reads the configuration again.\n"
          "exit status: 0 stopped, 1 failure, 2 usage or invalid configuration, 3 already running\n",
          to);
}

static bool has_cuda_devices(const struct tcf_node *node)
{
    uint32_t i;

    for (i = 0; i < node->device_count; i++)
        if (node->devices[i].kind == TCF_DEVICE_CUDA)
            return true;
    return false;
}

static int check_config(const char *path)
{
    struct tcf_issues issues = {0};
    struct tcf_config *config = tcf_config_load(path, &issues);

    if (!config) {
        tcf_issues_print(&issues, stderr);
        tcf_issues_free(&issues);
        return EXIT_USAGE;
    }
    printf("%s: valid, %u node%s, %u group%s\n", path, config->node_count, config->node_count == 1 ? "" : "s", config->group_count,
           config->group_count == 1 ? "" : "s");
    if (!tck_cuda_built() && has_cuda_devices(&config->nodes[config->local_node]))
        printf("%s: note: it has cuda devices, which are not built into this trtcolld; groups on them are refused\n", path);
    tcf_config_free(config);
    return EXIT_SUCCESS;
}

static int misuse(const char *text)
{
    fprintf(stderr, "trtcolld: %s (see trtcolld --help)\n", text);
    return EXIT_USAGE;
}

int main(int argc, char **argv)
{
    struct tcd_daemon_options options = {.config_path = NULL};
    const char *check = NULL, *cuda = NULL;
    char *end = NULL;
    bool executor = false;
    long device = -1;
    tcd_level level;
    int found;

    while ((found = getopt_long(argc, argv, "c:Vh", long_options, NULL)) != -1) {
        switch (found) {
        case 'c':
            options.config_path = optarg;
            break;
        case OPT_RUNTIME_DIR:
            options.runtime_dir = optarg;
            break;
        case OPT_LOG_LEVEL:
            options.log_level = optarg;
            if (!tcd_level_parse(optarg, &level))
                return misuse("--log-level is one of err, warning, notice, info, debug");
            break;
        case OPT_CHECK_CONFIG:
            check = optarg;
            break;
        case OPT_EXECUTOR:
            executor = true;
            break;
        case OPT_DEVICE:
            device = strtol(optarg, &end, 10);
            if (!*optarg || *end || device < 0)
                return misuse("--device takes a device number");
            break;
        case OPT_CUDA:
            cuda = optarg;
            break;
        case 'V':
            puts("trtcolld " TCD_VERSION);
            return EXIT_SUCCESS;
        case 'h':
            print_help(stdout);
            return EXIT_SUCCESS;
        default:
            return EXIT_USAGE;
        }
    }
    if (optind < argc)
        return misuse("there are no arguments without an option");
    if (executor)
        return device < 0 ? misuse("--executor needs --device") : tcd_executor_main((unsigned)device, cuda, EXECUTOR_SOCKET);
    if (check)
        return check_config(check);
    if (!options.config_path)
        return misuse("needs --config FILE: the nodes, devices and groups; examples are in the folder config/examples");
    return tcd_daemon_run(&options);
}
