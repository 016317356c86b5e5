/*
 * trtcoll-bench: how fast it is, beside Open MPI, from one run on one machine.
 */
#include "bench.h"
#include "figures.h"
#include "server.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char help[] =
    "usage: trtcoll-bench [options]\n"
    "\n"
    "Measures trtcoll on host devices and prints one table: ring round trip, processor time of an idle daemon, and all-reduce in\n"
    "both lanes beside Open MPI. Starts a daemon of its own unless --socket is given.\n"
    "\n"
    "  --ranks N         ranks, one process each, 2 to 16 (default 2)\n"
    "  --sizes LOW:HIGH  message sizes, bytes with K or M (default 8:64M); powers of two are measured\n"
    "  --dtype TYPE      fp32 or bf16 (default fp32; Open MPI knows no bf16 and is left out)\n"
    "  --rounds N        turns of every contestant, 1 to 25 (default 5)\n"
    "  --budget-ms N     time per size and turn, 1 to 10000 (default 40)\n"
    "  --quick           3 rounds of 10 ms\n"
    "  --lane LANE       direct, served or both (default both)\n"
    "  --no-mpi          leave Open MPI out\n"
    "  --idle SECONDS    how long to watch the idle daemon (default 3, 0: not)\n"
    "  --soak SECONDS    instead of all this, run all-reduces at a fixed rate in each lane and count completions\n"
    "  --rate N          soak: runs per second and rank (default 2000)\n"
    "  --bytes N         soak: message size, bytes with K (default 4K, at most 64K)\n"
    "  --json            JSON instead of the table\n"
    "  --socket PATH     use the daemon behind this socket\n"
    "  --daemon PATH     program to start as the daemon\n"
    "  --help, --version\n"
    "\n"
    "GPUs, beside NCCL in process, with a daemon of its own for every part:\n"
    "  --device cuda     instead of host devices; one process per GPU, bf16, hidden 8192, everything checked\n"
    "  --only PARTS      some of direct,norm,fp8,served,served-nccl,restart,memory (default all)\n"
    "  --ranks N         GPUs (default 2)\n"
    "  --sizes LOW:HIGH  message sizes (default 16K:256M); those of the tables between\n"
    "  --replays N       of a graph of 50 operations, 1 to 101 (default 20)\n"
    "  --save FILE       JSON into FILE, and the tables to the terminal\n"
    "  --tuning FILE     let the daemon choose strategies by the tables of this file, instead of the built-in ones\n"
    "  --tune FILE       instead, measure which strategy and grid serves which size, and write FILE for choosing.tuning;\n"
    "                    for 2, 4, ... and all GPUs unless --ranks is given\n"
    "  --json, --daemon  as above\n"
    "\n"
    "exit status: 0 done, 1 a measurement failed or a soak lost something, 2 usage, 3 no daemon\n";

static volatile sig_atomic_t interrupted;

static void on_signal(int number)
{
    (void)number;
    interrupted = 1;
}

bool bench_interrupted(void)
{
    return interrupted != 0;
}

/* Private daemon and directory must not stay behind. Without SA_RESTART: sleeps end early. */
static void catch_signals(void)
{
    struct sigaction action = {.sa_handler = on_signal};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGHUP, &action, NULL);
    signal(SIGPIPE, SIG_IGN);
}

static int usage(const char *text, const char *value)
{
    fprintf(stderr, "trtcoll-bench: %s: '%s'; --help says more\n", text, value);
    return EXIT_USAGE;
}

/* A number, with K or M for bytes. */
static bool parse_number(const char *text, bool suffix, double low, double high, double *value)
{
    char *end;
    errno = 0;
    *value = strtod(text, &end);
    if (suffix && (*end == 'K' || *end == 'M'))
        *value *= *end++ == 'K' ? 1024 : 1048576;
    return errno == 0 && end != text && *end == 0 && *value >= low && *value <= high;
}

/* The daemon wants an absolute path. It reads the file, and says what is wrong with it. */
static int find_tuning(const char *text, struct settings *settings)
{
    static char path[PATH_MAX];
    if (!realpath(text, path)) {
        fprintf(stderr, "trtcoll-bench: %s: %s\n", text, strerror(errno));
        return EXIT_FAILED;
    }
    settings->tuning_path = path;
    return -1;
}

static bool parse_sizes(const char *text, struct settings *settings)
{
    char low[32];
    const char *colon = strchr(text, ':');
    double first, last;
    uint64_t sizes[LOOP_MAX_CASES];
    if (!colon || (size_t)(colon - text) >= sizeof(low))
        return false;
    memcpy(low, text, (size_t)(colon - text));
    low[colon - text] = 0;
    if (!parse_number(low, true, 8, 1 << 30, &first) || !parse_number(colon + 1, true, first, 1 << 30, &last))
        return false;
    settings->low = (uint64_t)first;
    settings->high = (uint64_t)last;
    return loop_sizes(settings->low, settings->high, sizes) > 0;
}

enum {
    OPTION_RANKS = 256,
    OPTION_SIZES,
    OPTION_DTYPE,
    OPTION_ROUNDS,
    OPTION_BUDGET,
    OPTION_QUICK,
    OPTION_LANE,
    OPTION_NO_MPI,
    OPTION_IDLE,
    OPTION_SOAK,
    OPTION_RATE,
    OPTION_BYTES,
    OPTION_REPLAYS,
    OPTION_DEVICE,
    OPTION_ONLY,
    OPTION_SAVE,
    OPTION_TUNE,
    OPTION_TUNING,
    OPTION_JSON,
    OPTION_SOCKET,
    OPTION_DAEMON,
    OPTION_HELP,
    OPTION_VERSION
};

static const struct option options[] = {
    {"ranks", required_argument, NULL, OPTION_RANKS},
    {"sizes", required_argument, NULL, OPTION_SIZES},
    {"dtype", required_argument, NULL, OPTION_DTYPE},
    {"rounds", required_argument, NULL, OPTION_ROUNDS},
    {"budget-ms", required_argument, NULL, OPTION_BUDGET},
    {"quick", no_argument, NULL, OPTION_QUICK},
    {"lane", required_argument, NULL, OPTION_LANE},
    {"no-mpi", no_argument, NULL, OPTION_NO_MPI},
    {"idle", required_argument, NULL, OPTION_IDLE},
    {"soak", required_argument, NULL, OPTION_SOAK},
    {"rate", required_argument, NULL, OPTION_RATE},
    {"bytes", required_argument, NULL, OPTION_BYTES},
    {"replays", required_argument, NULL, OPTION_REPLAYS},
    {"device", required_argument, NULL, OPTION_DEVICE},
    {"only", required_argument, NULL, OPTION_ONLY},
    {"save", required_argument, NULL, OPTION_SAVE},
    {"tune", required_argument, NULL, OPTION_TUNE},
    {"tuning", required_argument, NULL, OPTION_TUNING},
    {"json", no_argument, NULL, OPTION_JSON},
    {"socket", required_argument, NULL, OPTION_SOCKET},
    {"daemon", required_argument, NULL, OPTION_DAEMON},
    {"help", no_argument, NULL, OPTION_HELP},
    {"version", no_argument, NULL, OPTION_VERSION},
    {NULL, 0, NULL, 0},
};

/* Options with a number. -1: done; else the exit code. */
static int apply_number(int option, const char *text, struct settings *settings)
{
    double number;
    switch (option) {
    case OPTION_RANKS:
        if (!parse_number(text, false, 2, BENCH_MAX_RANKS, &number))
            return usage("--ranks takes 2 to 16", text);
        settings->ranks = (uint32_t)number;
        settings->ranks_given = true;
        return -1;
    case OPTION_ROUNDS:
        if (!parse_number(text, false, 1, BENCH_MAX_ROUNDS, &number))
            return usage("--rounds takes 1 to 25", text);
        settings->rounds = (uint32_t)number;
        return -1;
    case OPTION_BUDGET:
        if (!parse_number(text, false, 1, 10000, &number))
            return usage("--budget-ms takes 1 to 10000", text);
        settings->budget_ns = (uint64_t)(number * 1e6);
        return -1;
    case OPTION_REPLAYS:
        if (!parse_number(text, false, 1, 101, &number))
            return usage("--replays takes 1 to 101", text);
        settings->replays = (uint32_t)number;
        return -1;
    case OPTION_IDLE:
        return parse_number(text, false, 0, 3600, &settings->idle_s) ? -1 : usage("--idle takes 0 to 3600 seconds", text);
    case OPTION_SOAK:
        return parse_number(text, false, 0.1, 86400, &settings->soak_s) ? -1 : usage("--soak takes 0.1 to 86400 seconds", text);
    case OPTION_RATE:
        return parse_number(text, false, 1, 1e6, &settings->soak_rate) ? -1 : usage("--rate takes 1 to 1000000", text);
    default:
        if (!parse_number(text, true, 4, 65536, &number))
            return usage("--bytes takes 4 to 64K", text);
        settings->soak_bytes = (uint64_t)number / 4 * 4;
        return -1;
    }
}

/* The others. -1: done; else the exit code. */
static int apply_word(int option, const char *text, struct settings *settings)
{
    switch (option) {
    case OPTION_SIZES:
        return parse_sizes(text, settings) ? -1 : usage("--sizes takes LOW:HIGH, 8 to 1024M, with a power of two between", text);
    case OPTION_DTYPE:
        settings->bf16 = strcmp(text, "bf16") == 0;
        return settings->bf16 || strcmp(text, "fp32") == 0 ? -1 : usage("--dtype takes fp32 or bf16", text);
    case OPTION_LANE:
        settings->peers[PEER_DIRECT] = strcmp(text, "served") != 0;
        settings->peers[PEER_SERVED] = strcmp(text, "direct") != 0;
        return (settings->peers[PEER_DIRECT] && settings->peers[PEER_SERVED]) == (strcmp(text, "both") == 0)
                   ? -1
                   : usage("--lane takes direct, served or both", text);
    case OPTION_DEVICE:
        settings->cuda = strcmp(text, "cuda") == 0;
        return settings->cuda || strcmp(text, "host") == 0 ? -1 : usage("--device takes host or cuda", text);
    case OPTION_ONLY:
        return figures_parse_parts(text, &settings->parts) ? -1 : usage("--only takes parts, with commas between", text);
    case OPTION_SAVE:
        settings->save_path = text;
        return -1;
    case OPTION_TUNE:
        settings->tune_path = text;
        return -1;
    case OPTION_TUNING:
        return find_tuning(text, settings);
    case OPTION_QUICK:
        settings->rounds = 3;
        settings->budget_ns = 10000000;
        return -1;
    case OPTION_NO_MPI:
        settings->peers[PEER_MPI] = false;
        return -1;
    case OPTION_JSON:
        settings->json = true;
        return -1;
    case OPTION_SOCKET:
        settings->socket_path = text;
        return -1;
    case OPTION_DAEMON:
        settings->daemon_path = text;
        return -1;
    case OPTION_HELP:
        fputs(help, stdout);
        return EXIT_GOOD;
    case OPTION_VERSION:
        printf("trtcoll-bench %s\n", trtcoll_version());
        return EXIT_GOOD;
    default:
        return EXIT_USAGE;
    }
}

static int refuse_sizes(uint32_t part)
{
    uint64_t sizes[FIGURES_MAX_SIZES];
    uint32_t count = figures_sizes(part, 0, UINT64_MAX, sizes);
    fprintf(stderr, "trtcoll-bench: --sizes has none of those that part %s measures:", figures_part_name(part));
    for (uint32_t i = 0; i < count; i++)
        fprintf(stderr, " %" PRIu64 "%c", sizes[i] >> 20 ? sizes[i] >> 20 : sizes[i] >> 10, sizes[i] >> 20 ? 'M' : 'K');
    fputs("; --help says more\n", stderr);
    return EXIT_USAGE;
}

/* What goes with which device. -1, or the exit code. */
static int check_device(struct settings *settings)
{
    uint64_t sizes[FIGURES_MAX_SIZES];
    if (!settings->cuda && settings->low == 0) {
        settings->low = 8;
        settings->high = 64u << 20;
    }
    if (!settings->cuda)
        return settings->save_path || settings->tune_path || settings->tuning_path || settings->parts
                   ? usage("--only, --save, --tune and --tuning go with --device cuda", "host")
                   : -1;
    if (settings->socket_path || settings->soak_s > 0)
        return usage("--socket and --soak do not go with --device", "cuda");
    if (settings->tune_path && (settings->save_path || settings->tuning_path || settings->parts))
        return usage("--only, --save and --tuning do not go with --tune", settings->tune_path);
    if (settings->tune_path)
        settings->parts = 1u << PART_NORM; /* whose sizes are measured */
    if (settings->low == 0) {
        settings->low = 16u << 10;
        settings->high = 256u << 20;
    }
    if (settings->parts == 0)
        settings->parts = (1u << PARTS) - 1;
    for (uint32_t part = 0; part < STAGES; part++)
        if (settings->parts & 1u << part && figures_sizes(part, settings->low, settings->high, sizes) == 0)
            return refuse_sizes(part);
    return -1;
}

static int parse_options(int argc, char **argv, struct settings *settings)
{
    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        bool number = option == OPTION_RANKS || option == OPTION_ROUNDS || option == OPTION_BUDGET || option == OPTION_IDLE ||
                      option == OPTION_SOAK || option == OPTION_RATE || option == OPTION_BYTES || option == OPTION_REPLAYS;
        int status = number ? apply_number(option, optarg, settings) : apply_word(option, optarg, settings);
        if (status >= 0)
            return status;
    }
    if (optind < argc)
        return usage("unexpected argument", argv[optind]);
    settings->peers[PEER_MPI] = settings->peers[PEER_MPI] && !settings->bf16;
    return check_device(settings);
}

static int soak(const struct settings *settings, struct results *results)
{
    int status = 0;
    for (uint32_t i = 0; i < 2; i++)
        if (settings->peers[i] &&
            soak_measure(settings, i == PEER_DIRECT ? TRTCOLL_LANE_DIRECT : TRTCOLL_LANE_SERVED, &results->soak[i]) != 0)
            status = EXIT_FAILED;
    return status;
}

static int measure(const struct settings *settings, pid_t daemon, struct results *results)
{
    int status = 0;
    if (settings->soak_s > 0)
        return soak(settings, results);
    if (settings->peers[PEER_SERVED])
        status = ring_measure(settings, &results->ring);
    if (status == 0)
        status = sweep_measure(settings, &results->sweep);
    if (status == 0 && settings->idle_s > 0)
        status = idle_measure(settings, daemon, &results->idle);
    return status;
}

static void join_arguments(int argc, char **argv, char *text, size_t size)
{
    size_t used = 0;
    for (int i = 0; i < argc && used < size; i++)
        used += (size_t)snprintf(text + used, size - used, "%s%s", i ? " " : "", argv[i]);
}

int main(int argc, char **argv)
{
    static struct results results;
    struct settings settings = {.ranks = 2,
                                .rounds = 5,
                                .budget_ns = 40000000,
                                .peers = {true, true, true},
                                .idle_s = 3,
                                .soak_rate = 2000,
                                .soak_bytes = 4096,
                                .replays = 20};
    char command[1024];
    struct server server;
    int status = parse_options(argc, argv, &settings);
    if (status >= 0)
        return status;
    catch_signals();
    if (settings.cuda) {
        join_arguments(argc, argv, command, sizeof(command));
        settings.command = command;
        return cuda_measure(&settings);
    }
    machine_describe(&results.machine);
    status = server_start(&settings, &server);
    if (status == 0) {
        status = measure(&settings, server.pid, &results);
        /* A soak that lost something still tells what; other failures have nothing to show. */
        if (status == 0 || settings.soak_s > 0)
            (settings.json ? report_json : report_text)(&settings, &results);
    }
    int stopped = server_stop(&server);
    return status != 0 ? status : stopped;
}
