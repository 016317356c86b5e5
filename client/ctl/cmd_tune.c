/* tune: has trtcoll-bench measure which strategy and grid serves which message size on this node's GPUs, and write choosing.tuning's file.
 */
#include "command.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

static const struct tcc_option options[] = {
    {"ranks", "N", "measure groups of this many GPUs only (default: 2, 4, 8 and 16 as far as there are, and all)", 'n'},
    {"sizes", "LOW:HIGH", "which of 16K 64K 128K 256K 512K 1M 2M 4M 8M 32M to measure (default 16K:32M)", 0},
    {"replays", "N", "how often each graph of 50 runs counts, 1 to 101 (default 20)", 0},
    {"daemon", "PATH", "the program to measure (default: trtcolld beside this one)", 0},
    {NULL, NULL, NULL, 0},
};

/* Beside this program or in the search path. Returns if there is none. */
static void become_bench(char **arguments)
{
    static const char name[] = "trtcoll-bench";
    char path[512];
    ssize_t length = readlink("/proc/self/exe", path, sizeof path - sizeof name - 1);
    char *slash;

    path[length > 0 ? length : 0] = 0;
    slash = strrchr(path, '/');
    if (slash) {
        memcpy(slash + 1, name, sizeof name);
        execv(path, arguments);
    }
    execvp(name, arguments);
}

/* The exit codes are the same, and it checks the values. */
static tcc_exit run(struct tcc_session *session)
{
    char *arguments[16] = {(char *)"trtcoll-bench", (char *)"--device", (char *)"cuda", (char *)"--tune", (char *)session->arguments[0]};
    static const char *const passed[] = {"ranks", "sizes", "replays", "daemon"};
    static const char *const names[] = {"--ranks", "--sizes", "--replays", "--daemon"};
    unsigned count = 5;

    for (unsigned i = 0; i < sizeof passed / sizeof passed[0]; i++) {
        const char *value = tcc_option(session, passed[i]);

        if (!value)
            continue;
        arguments[count++] = (char *)names[i];
        arguments[count++] = (char *)value;
    }
    if (session->json)
        arguments[count++] = (char *)"--json";
    fflush(NULL);
    become_bench(arguments);
    return tcc_complain(session, TCC_EXIT_FAILURE, "trtcoll-bench, which measures, cannot be started: %s", strerror(errno));
}

const struct tcc_command tcc_command_tune = {
    .name = "tune",
    .arguments = "FILE",
    .help = "measure the GPUs and write the tables for choosing.tuning",
    .details = "Starts a daemon of its own and one process per GPU, times every strategy on several grids, plain and with a fused norm, "
               "and writes\n"
               "what serves which message size best. Takes a minute or two for every number of ranks; nothing else should use the GPUs. A "
               "running\n"
               "daemon is not touched: let choosing.tuning of its configuration name FILE, and reload.",
    .options = options,
    .min_arguments = 1,
    .max_arguments = 1,
    .asks = true,
    .run = run,
};
