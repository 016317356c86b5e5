/*
 * tp_decode: a transformer on four ranks, talking through trtcoll, against the same transformer on one.
 *
 * The parent computes the reference, starts one process per rank, shows progress while they decode, then compares and reports. It never
 * attaches to the daemon itself.
 */
#include "collectives.h"
#include "compare.h"
#include "processes.h"
#include "progress.h"
#include "rank.h"
#include "report.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

enum { PROMPT_MIN = LAYERS * REACH + 1 };

static const char help[] =
    "usage: tp_decode [options] [FILE]\n"
    "\n"
    "Decodes bytes after the beginning of FILE (default README.md) with a transformer that is sharded over four processes, once through "
    "each\n"
    "lane of trtcoll, and compares tokens and logits with the same transformer in one process. Needs a running trtcolld with a\n"
    "group of four ranks, on host devices or GPUs; `run-demo` starts one.\n"
    "\n"
    "  --prompt N      feed the first N bytes of FILE, 129 to 2048 (default 256); a shorter file is padded with spaces on the left\n"
    "  --tokens N      decode N bytes, 1 to 256 (default 64)\n"
    "  --lane LANE     direct, served or both (default both)\n"
    "  --group NAME    group to join (default tp)\n"
    "  --socket PATH   socket of the daemon (default: as trtcolld(8) chooses it)\n"
    "  --seed N        seed of the weights (default 1)\n"
    "  --then COMMAND  run this with sh when all ranks have finished, before they leave\n"
    "  --break         one rank contributes nothing in one layer: shows that the check notices\n"
    "  --help          this text\n"
    "\n"
    "exit status: 0 same as the reference, 1 different, 2 usage, 3 the ranks could not do their work\n";

static int usage(const char *text, const char *value)
{
    fprintf(stderr, "tp_decode: %s: '%s'; --help says more\n", text, value);
    return EXIT_USAGE;
}

static bool parse_number(const char *text, unsigned long long low, unsigned long long high, unsigned long long *value)
{
    char *end;
    errno = 0;
    *value = strtoull(text, &end, 10);
    return errno == 0 && *text >= '0' && *text <= '9' && *end == 0 && *value >= low && *value <= high;
}

static int parse_lanes(const char *text, struct task *task)
{
    for (uint32_t lane = 0; lane < LANES; lane++)
        task->lanes[lane] = strcmp(text, "both") == 0 || strcmp(text, lane_names[lane]) == 0;
    return task->lanes[LANE_DIRECT] || task->lanes[LANE_SERVED] ? 0 : usage("no such lane", text);
}

/* Fills the task, *path and *then. -1: go on; else the exit code. */
static int parse_options(int argc, char **argv, struct task *task, const char **path, const char **then)
{
    static const struct option options[] = {
        {"prompt", required_argument, NULL, 'p'}, {"tokens", required_argument, NULL, 't'},
        {"lane", required_argument, NULL, 'l'},   {"group", required_argument, NULL, 'g'},
        {"socket", required_argument, NULL, 's'}, {"seed", required_argument, NULL, 'S'},
        {"then", required_argument, NULL, 'T'},   {"break", no_argument, NULL, 'b'},
        {"help", no_argument, NULL, 'h'},         {NULL, 0, NULL, 0},
    };
    unsigned long long number;
    for (int option; (option = getopt_long(argc, argv, "h", options, NULL)) != -1;) {
        switch (option) {
        case 'p':
            if (!parse_number(optarg, PROMPT_MIN, PROMPT_MAX, &number))
                return usage("--prompt takes 129 to 2048 bytes", optarg);
            task->prompt_bytes = (uint32_t)number;
            break;
        case 't':
            if (!parse_number(optarg, 1, TOKENS_MAX, &number))
                return usage("--tokens takes 1 to 256", optarg);
            task->count = (uint32_t)number;
            break;
        case 'S':
            if (!parse_number(optarg, 0, UINT64_MAX, &number))
                return usage("--seed takes a number", optarg);
            task->seed = number;
            break;
        case 'l':
            if (parse_lanes(optarg, task) != 0)
                return EXIT_USAGE;
            break;
        case 'g':
            task->group = optarg;
            break;
        case 's':
            task->socket_path = optarg;
            break;
        case 'T':
            *then = optarg;
            break;
        case 'b':
            task->sabotaged_rank = RANKS / 2;
            break;
        case 'h':
            fputs(help, stdout);
            return 0;
        default:
            return EXIT_USAGE;
        }
    }
    if (argc - optind > 1)
        return usage("one FILE at most", argv[optind + 1]);
    *path = optind < argc ? argv[optind] : "README.md";
    return -1;
}

/* The beginning of the file; what is missing is filled with spaces on the left. */
static int read_prompt(const char *path, struct task *task)
{
    FILE *file = fopen(path, "rb");
    if (!file) {
        fprintf(stderr, "tp_decode: %s: %s\n", path, strerror(errno));
        return EXIT_USAGE;
    }
    size_t got = fread(task->prompt, 1, task->prompt_bytes, file);
    int failed = ferror(file);
    fclose(file);
    if (failed || got == 0) {
        fprintf(stderr, "tp_decode: %s: %s\n", path, failed ? "cannot be read" : "is empty");
        return EXIT_USAGE;
    }
    memmove(task->prompt + (task->prompt_bytes - got), task->prompt, got);
    memset(task->prompt, ' ', task->prompt_bytes - got);
    return 0;
}

static void reference_progress(void *arg, uint32_t done, uint32_t count)
{
    progress_show(arg, "one rank", done, count);
}

/* The same model on one rank, without trtcoll; also the bounds for the comparison, which depend on its head. */
static int run_reference(const struct task *task, struct progress *progress, struct decode_result *result, struct bounds *bounds)
{
    struct weights *weights = weights_create(task->seed, 0, 1);
    struct collectives *collectives = collectives_create_single();
    struct model *model = weights && collectives ? model_create(weights, collectives, task->prompt_bytes + task->count) : NULL;
    int status = EXIT_TROUBLE;
    if (model) {
        decode_run(model, task->prompt, task->prompt_bytes, task->count, reference_progress, progress, result);
        *bounds = bounds_derive(weights->head, RANKS);
        printf("model      %d layers, hidden %d, %d heads, %.0f million bf16 weights (%.0f MB) from seed %llu\n", LAYERS, HIDDEN, HEADS,
               (double)weights->bytes / 2e6, (double)weights->bytes / 1e6, (unsigned long long)task->seed);
        status = EXIT_SAME;
    } else {
        fprintf(stderr, "tp_decode: out of memory\n");
    }
    model_destroy(model);
    if (collectives)
        collectives->destroy(collectives);
    weights_destroy(weights);
    progress_clear(progress);
    return status;
}

/* Ranks decode; report; the command of --then; ranks leave. */
static int run_all(const struct task *task, const char *then, const struct decode_result *reference, const struct bounds *bounds,
                   struct progress *progress, struct shared *shared)
{
    struct processes processes;
    processes_start(&processes, task, shared);
    int status = processes_decode(&processes, task, shared, progress);
    if (status == EXIT_SAME)
        status = report(task, shared, reference, bounds);
    if (then && status != EXIT_TROUBLE && processes_command(then) != 0) {
        fprintf(stderr, "tp_decode: '%s' failed\n", then);
        status = EXIT_TROUBLE;
    }
    return processes_leave(&processes, shared) == EXIT_SAME ? status : EXIT_TROUBLE;
}

int main(int argc, char **argv)
{
    static struct task task = {.group = "tp", .seed = 1, .count = 64, .prompt_bytes = 256, .lanes = {true, true}, .sabotaged_rank = -1};
    static struct decode_result reference;
    struct bounds bounds = {0};
    struct progress progress;
    const char *path, *then = NULL;
    int status = parse_options(argc, argv, &task, &path, &then);
    if (status >= 0)
        return status;
    if ((status = read_prompt(path, &task)) != 0)
        return status;
    struct shared *shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED) {
        fprintf(stderr, "tp_decode: out of memory\n");
        return EXIT_TROUBLE;
    }
    printf("prompt     %s, first %u bytes as tokens\n", path, task.prompt_bytes);
    progress_start(&progress);
    status = run_reference(&task, &progress, &reference, &bounds);
    if (status == EXIT_SAME)
        status = run_all(&task, then, &reference, &bounds, &progress, shared);
    munmap(shared, sizeof(*shared));
    return status;
}
