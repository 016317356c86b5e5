/*
 * tp_decode: a transformer on four ranks, talking through trtcoll, against the same transformer on one.
 *
 * The parent computes the reference, starts one process per rank, shows progress while they decode, then compares and reports. It never
 * attaches to the daemon itself.
 */
#include "collectives.h"
#include "compare.h"
#include "progress.h"
#include "rank.h"

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { PROMPT_MIN = LAYERS * REACH + 1, PROGRESS_MS = 100, PATIENCE_S = 600, MOURNING_S = 60 };

static const char *const lane_names[LANES] = {"direct", "served"};

static const char help[] =
    "usage: tp_decode [options] [FILE]\n"
    "\n"
    "Decodes bytes after the beginning of FILE (default README.md) with a transformer that is sharded over four processes, once through "
    "each\n"
    "lane of trtcoll, and compares tokens and logits with the same transformer in one process. Needs a running trtcolld with a\n"
    "group of four ranks; `run-demo` starts one.\n"
    "\n"
    "  --prompt N      feed the first N bytes of FILE, 129 to 2048 (default 256); a shorter file is padded with spaces on the left\n"
    "  --tokens N      decode N bytes, 1 to 256 (default 64)\n"
    "  --lane LANE     direct, served or both (default both)\n"
    "  --group NAME    group to join (default tp)\n"
    "  --socket PATH   socket of the daemon (default: as trtcolld(8) chooses it)\n"
    "  --seed N        seed of the weights (default 1)\n"
    "  --break         one rank contributes nothing in one layer: shows that the check notices\n"
    "  --help          this text\n"
    "\n"
    "exit status: 0 same as the reference, 1 different, 2 usage, 3 the ranks could not do their work\n";

/* Everything the ranks write, and the parent reads. */
struct shared {
    struct rank_report ranks[RANKS];
};

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

/* Fills the task and *path. -1: go on; else the exit code. */
static int parse_options(int argc, char **argv, struct task *task, const char **path)
{
    static const struct option options[] = {
        {"prompt", required_argument, NULL, 'p'}, {"tokens", required_argument, NULL, 't'}, {"lane", required_argument, NULL, 'l'},
        {"group", required_argument, NULL, 'g'},  {"socket", required_argument, NULL, 's'}, {"seed", required_argument, NULL, 'S'},
        {"break", no_argument, NULL, 'b'},        {"help", no_argument, NULL, 'h'},         {NULL, 0, NULL, 0},
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

/* Starts the ranks. Each dies with the parent. A pid of -1: fork failed, the others will hear of it through the group's join deadline. */
static void start_ranks(const struct task *task, struct shared *shared, pid_t *pids)
{
    pid_t parent = getpid();
    for (uint32_t rank = 0; rank < RANKS; rank++) {
        pids[rank] = fork();
        if (pids[rank] == 0) {
            sigset_t none;
            sigemptyset(&none);
            sigprocmask(SIG_SETMASK, &none, NULL);
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            if (getppid() != parent)
                _exit(EXIT_TROUBLE);
            _exit(rank_run(task, rank, &shared->ranks[rank]));
        }
        if (pids[rank] < 0)
            fprintf(stderr, "tp_decode: fork: %s\n", strerror(errno));
    }
}

/* Reaps what has ended; pid 0 marks a finished rank. Returns how many are left. */
static uint32_t reap_ranks(pid_t *pids, int *status)
{
    uint32_t left = 0;
    for (uint32_t rank = 0; rank < RANKS; rank++) {
        int how = 0;
        if (pids[rank] > 0 && waitpid(pids[rank], &how, WNOHANG) == 0) {
            left++;
            continue;
        }
        if (pids[rank] != 0 && (pids[rank] < 0 || !WIFEXITED(how) || WEXITSTATUS(how) != 0))
            *status = EXIT_TROUBLE;
        if (pids[rank] > 0 && WIFSIGNALED(how))
            fprintf(stderr, "tp_decode: rank %u: killed by signal %d (%s)\n", rank, WTERMSIG(how), strsignal(WTERMSIG(how)));
        pids[rank] = 0;
    }
    return left;
}

/* Waits for all ranks, drawing rank 0's progress; a rank that hangs, or survives a failed one for too long, is killed. */
static int await_ranks(const struct task *task, struct shared *shared, pid_t *pids, struct progress *progress)
{
    sigset_t child;
    int status = EXIT_SAME;
    time_t deadline = time(NULL) + PATIENCE_S;
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    while (reap_ranks(pids, &status) > 0) {
        struct timespec pause = {0, PROGRESS_MS * 1000000};
        struct rank_report *first = &shared->ranks[0];
        uint32_t done = atomic_load(&first->done);
        if (done > 0)
            progress_show(progress, lane_names[atomic_load(&first->lane)], done, task->count);
        if (status != EXIT_SAME && deadline > time(NULL) + MOURNING_S)
            deadline = time(NULL) + MOURNING_S;
        if (time(NULL) > deadline)
            for (uint32_t rank = 0; rank < RANKS; rank++)
                if (pids[rank] > 0)
                    kill(pids[rank], SIGKILL);
        sigtimedwait(&child, NULL, &pause);
    }
    progress_clear(progress);
    return status;
}

static int run_ranks(const struct task *task, struct shared *shared, struct progress *progress)
{
    sigset_t child, before;
    pid_t pids[RANKS];
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    sigprocmask(SIG_BLOCK, &child, &before);
    fflush(NULL);
    start_ranks(task, shared, pids);
    int status = await_ranks(task, shared, pids, progress);
    sigprocmask(SIG_SETMASK, &before, NULL);
    return status;
}

/* Bytes as text: what is not printable becomes an escape. */
static void print_text(const uint8_t *bytes, uint32_t count)
{
    putchar('"');
    for (uint32_t i = 0; i < count; i++) {
        if (bytes[i] == '\n')
            fputs("\\n", stdout);
        else if (bytes[i] == '"' || bytes[i] == '\\')
            printf("\\%c", bytes[i]);
        else if (bytes[i] < 0x20 || bytes[i] > 0x7e)
            printf("\\x%02x", bytes[i]);
        else
            putchar(bytes[i]);
    }
    puts("\"");
}

static void print_row(const char *name, const struct task *task, const struct decode_result *result, double calls, double prefill_wait_ns,
                      double decode_wait_ns)
{
    double decoded = result->count - 1, prefill_s = (double)result->prefill_ns / 1e9, decode_s = (double)result->decode_ns / 1e9;
    printf("%-9s %10.1f %10.1f", name, task->prompt_bytes / prefill_s, decoded > 0 ? decoded / decode_s : 0);
    if (calls > 0)
        printf(" %8.0f %9.1f ms %9.1f ms %6.1f us %6.1f %%\n", calls, prefill_wait_ns / 1e6, decode_wait_ns / 1e6,
               (prefill_wait_ns + decode_wait_ns) / calls / 1e3, 100 * (prefill_wait_ns + decode_wait_ns) / 1e9 / (prefill_s + decode_s));
    else
        printf(" %8s %12s %12s %9s %8s\n", "-", "-", "-", "-", "-");
}

static void print_table(const struct task *task, const struct shared *shared, const struct decode_result *reference)
{
    printf("\n%-9s %10s %10s %8s %12s %12s %9s %8s\n", "", "prefill", "decode", "", "", "collectives", "", "");
    printf("%-9s %10s %10s %8s %12s %12s %9s %8s\n", "lane", "tokens/s", "tokens/s", "calls", "in prefill", "in decode", "each", "share");
    print_row("one rank", task, reference, 0, 0, 0);
    for (uint32_t lane = 0; lane < LANES; lane++) {
        double calls = 0, prefill = 0, decode = 0;
        if (!task->lanes[lane])
            continue;
        for (uint32_t rank = 0; rank < RANKS; rank++) {
            const struct decode_result *result = &shared->ranks[rank].lanes[lane].result;
            calls += (double)(result->prefill_calls + result->decode_calls) / RANKS;
            prefill += (double)result->prefill_wait_ns / RANKS;
            decode += (double)result->decode_wait_ns / RANKS;
        }
        print_row(lane_names[lane], task, &shared->ranks[0].lanes[lane].result, calls, prefill, decode);
    }
    printf("time in collectives: mean of the ranks, waiting for the slowest rank included\n\n");
}

/* Every rank of a lane against the reference; the worst is told. The logits are gathered, so all ranks must have the same bits. */
static bool check_lane(const struct task *task, const struct shared *shared, uint32_t lane, const struct decode_result *reference,
                       const struct bounds *bounds)
{
    const struct decode_result *first = &shared->ranks[0].lanes[lane].result;
    struct comparison comparison = compare_results(first, reference, bounds);
    bool identical = true, finished = true;
    uint64_t staged = 0;
    for (uint32_t rank = 0; rank < RANKS; rank++) {
        const struct decode_result *result = &shared->ranks[rank].lanes[lane].result;
        identical = identical && memcmp(result->tokens, first->tokens, sizeof(first->tokens)) == 0 &&
                    memcmp(result->logits, first->logits, sizeof(first->logits)) == 0;
        finished = finished && result->finished;
        staged += shared->ranks[rank].lanes[lane].staged_runs;
    }
    printf("%s: %u of %u tokens equal, logits differ by %.4f at most and %.4f rms, %s on all ranks, %llu runs copied: %s\n",
           lane_names[lane], comparison.equal_tokens, task->count, comparison.largest, comparison.rms,
           identical ? "identical" : "NOT IDENTICAL", (unsigned long long)staged,
           comparison.same && identical && finished ? "same" : "DIFFERENT");
    if (shared->ranks[0].lanes[lane].decision[0])
        printf("        %s\n", shared->ranks[0].lanes[lane].decision);
    return comparison.same && identical && finished;
}

static int report(const struct task *task, const struct shared *shared, const struct decode_result *reference, const struct bounds *bounds)
{
    bool same = true;
    struct comparison self = compare_results(reference, reference, bounds);
    printf("output     ");
    print_text(reference->tokens, reference->count);
    print_table(task, shared, reference);
    printf("bound: %u roundings to bf16 (2^-9 / sqrt 3 each) may differ between one rank and four, times the head's rows: deviation %.4f;\n"
           "       the layers may amplify it 4 times, and the largest may be 5 deviations: logits %.4f at most, %.4f rms.\n"
           "       The best logit leads by %.2f or more: tokens cannot differ while logits stay within the bound.\n",
           bounds->roundings, bounds->deviation, bounds->largest, bounds->rms, self.margin);
    for (uint32_t lane = 0; lane < LANES; lane++)
        if (task->lanes[lane])
            same = check_lane(task, shared, lane, reference, bounds) && same;
    printf("\n%s\n", same ? "same tokens and logits on four ranks as on one" : "FOUR RANKS DIFFER FROM ONE");
    return same ? EXIT_SAME : EXIT_DIFFERENT;
}

int main(int argc, char **argv)
{
    static struct task task = {.group = "tp", .seed = 1, .count = 64, .prompt_bytes = 256, .lanes = {true, true}, .sabotaged_rank = -1};
    static struct decode_result reference;
    struct bounds bounds = {0};
    struct progress progress;
    const char *path;
    int status = parse_options(argc, argv, &task, &path);
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
        status = run_ranks(&task, shared, &progress);
    if (status == EXIT_SAME)
        status = report(&task, shared, &reference, &bounds);
    munmap(shared, sizeof(*shared));
    return status;
}
