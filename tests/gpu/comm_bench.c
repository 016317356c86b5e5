/*
 * Kernels of the all-reduce family on GPUs, one process per GPU, without the daemon: correctness, speed, and what happens when a rank dies.
 *
 *   comm_bench check|time|sweep|kill [--ranks N] [--seconds S] [--seed X] [--gpus N] [--replays R] [--soak N] [--spares N] [--large]
 *              [--no-nccl] [--eager] [--json FILE] [--label TEXT]
 *
 * Exit status: 0, 1 when something is wrong, 77 where there are not two GPUs.
 */
#include "comm_modes.h"
#include "comm_rank.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int usage(void)
{
    fprintf(
        stderr,
        "usage: comm_bench check|time|sweep|kill [--ranks N] [--seconds S] [--seed X] [--gpus N] [--replays R] [--soak N] [--spares N]\n"
        "                  [--large] [--no-nccl] [--eager] [--json FILE] [--label TEXT]\n"
        "  check   random cases against the reference, for S seconds; --gpus N: the ranks share so many GPUs, which then take turns\n"
        "          between their kernels (not under MPS, where kernels that wait for each other may not find room side by side)\n"
        "  time    each strategy, and NCCL beside it; --gpus N: up to 256 KB and without NCCL, on GPUs that are shared under MPS, where\n"
        "          kernels for more ranks than there are GPUs can be compared with each other, and with nothing else\n"
        "  sweep   strategies and grids over sizes; --gpus N: as for time\n"
        "  kill    kills or stops one rank after another, and forms the group anew each time: for S seconds, or N times (--soak N);\n"
        "          --spares N: processes per GPU that have opened it and wait to take a dead rank's place\n");
    return 2;
}

static const struct {
    const char *name;
    int (*run)(const struct comm_options *options);
} modes[] = {{"check", comm_check}, {"time", comm_time}, {"sweep", comm_sweep}, {"kill", comm_kill}};
enum { MODES = sizeof(modes) / sizeof(modes[0]) };

static int parse(int argc, char **argv, struct comm_options *options)
{
    static const struct option list[] = {{"ranks", required_argument, NULL, 'n'},
                                         {"seconds", required_argument, NULL, 's'},
                                         {"seed", required_argument, NULL, 'x'},
                                         {"replays", required_argument, NULL, 'r'},
                                         {"large", no_argument, NULL, 'l'},
                                         {"no-nccl", no_argument, NULL, 'N'},
                                         {"json", required_argument, NULL, 'j'},
                                         {"label", required_argument, NULL, 't'},
                                         {"soak", required_argument, NULL, 'k'},
                                         {"spares", required_argument, NULL, 'p'},
                                         {"gpus", required_argument, NULL, 'g'},
                                         {"eager", no_argument, NULL, 'e'},
                                         {0}};
    int letter;
    while ((letter = getopt_long(argc, argv, "", list, NULL)) >= 0)
        switch (letter) {
        case 'n':
            options->ranks = (uint32_t)strtoul(optarg, NULL, 10);
            break;
        case 's':
            options->seconds = (uint32_t)strtoul(optarg, NULL, 10);
            break;
        case 'x':
            options->seed = strtoull(optarg, NULL, 10);
            break;
        case 'g':
            options->gpus = (uint32_t)strtoul(optarg, NULL, 10);
            break;
        case 'r':
            options->replays = (uint32_t)strtoul(optarg, NULL, 10);
            break;
        case 'k':
            options->soak = (uint32_t)strtoul(optarg, NULL, 10);
            break;
        case 'p':
            options->spares = (uint32_t)strtoul(optarg, NULL, 10);
            break;
        case 'l':
            options->long_sizes = true;
            break;
        case 'N':
            options->nccl = false;
            break;
        case 'e':
            options->eager = true;
            break;
        case 'j':
            options->json = optarg;
            break;
        case 't':
            options->label = optarg;
            break;
        default:
            return -1;
        }
    return options->ranks <= COMM_MAX_RANKS && options->replays && options->seconds ? 0 : -1;
}

int main(int argc, char **argv)
{
    struct comm_options options = {.seconds = 10, .seed = 1, .replays = 20, .nccl = true, .label = ""};
    size_t mode = 0;
    while (mode < MODES && (argc < 2 || strcmp(argv[1], modes[mode].name)))
        mode++;
    if (mode == MODES || parse(argc - 1, argv + 1, &options))
        return usage();
    if (options.gpus && modes[mode].run == comm_kill) {
        fprintf(stderr, "comm_bench: kill takes no --gpus: a victim's GPU must be its own\n");
        return usage();
    }
    if (!options.ranks)
        options.ranks = comm_gpu_count();
    if (options.ranks < 2) {
        printf("two GPUs are needed\n");
        return COMM_SKIP;
    }
    return modes[mode].run(&options);
}
