/*
 * Nothing hangs: a rank is killed, or stopped, while all of them run without pause, in every strategy, eager and captured. The survivors'
 * kernels must end, by the abort word that the parent raises (as the control process would) or by their own deadline; the page must say
 * why; the survivors' contexts must still work.
 */
#include "comm_modes.h"
#include "comm_rank.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { TOKENS = 64, HIDDEN = 4096, RUNS_BEFORE = 300, CAPTURED = 20, VICTIM = 1, KINDS = 8 };

static const uint64_t deadline_ns = UINT64_C(300000000), patience_ns = UINT64_C(10000000000);

/* How long survivors took to end, of all scenes of a kind. */
struct tally {
    unsigned survivors, failed;
    double least, most;
};

struct scene {
    uint32_t strategy;
    unsigned fusion;
    bool captured;
    bool stopped; /* SIGSTOP and the deadline, else SIGKILL and the abort word */
};

static void loop_eager(struct comm_rank *rank, const struct tck_run *run)
{
    while (!atomic_load(&rank->board->page[rank->rank]->device.fault)) {
        for (int i = 0; i < CAPTURED; i++)
            comm_rank_launch(rank, run);
        comm_rank_cuda(rank, rank->cuda->cuStreamSynchronize(rank->stream), "cuStreamSynchronize");
    }
}

static void loop_captured(struct comm_rank *rank, const struct tck_run *run)
{
    CUgraph graph;
    CUgraphExec exec;
    comm_rank_cuda(rank, rank->cuda->cuStreamBeginCapture(rank->stream, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL), "cuStreamBeginCapture");
    for (int i = 0; i < CAPTURED; i++)
        comm_rank_launch(rank, run);
    comm_rank_cuda(rank, rank->cuda->cuStreamEndCapture(rank->stream, &graph), "cuStreamEndCapture");
    comm_rank_cuda(rank, rank->cuda->cuGraphInstantiate(&exec, graph, 0), "cuGraphInstantiate");
    while (!atomic_load(&rank->board->page[rank->rank]->device.fault)) {
        comm_rank_cuda(rank, rank->cuda->cuGraphLaunch(exec, rank->stream), "cuGraphLaunch");
        comm_rank_cuda(rank, rank->cuda->cuStreamSynchronize(rank->stream), "cuStreamSynchronize");
    }
    comm_rank_cuda(rank, rank->cuda->cuGraphExecDestroy(exec), "cuGraphExecDestroy");
    comm_rank_cuda(rank, rank->cuda->cuGraphDestroy(graph), "cuGraphDestroy");
}

/* Later runs end at once, and ordinary work of the context goes on. */
static void check_health(struct comm_rank *rank, const struct tck_run *run)
{
    unsigned char byte = 0;
    uint64_t start = tcw_now_ns();
    for (int i = 0; i < 100; i++)
        comm_rank_launch(rank, run);
    comm_rank_cuda(rank, rank->cuda->cuStreamSynchronize(rank->stream), "runs after the fault");
    if (tcw_now_ns() - start > UINT64_C(500000000))
        comm_board_fail(rank->board, rank->rank, "100 runs after the fault took %.1f ms", (double)(tcw_now_ns() - start) / 1e6);
    comm_rank_cuda(rank, rank->cuda->cuMemsetD8Async(rank->out, 0x5a, 1 << 20, rank->stream), "memset after the fault");
    comm_rank_cuda(rank, rank->cuda->cuStreamSynchronize(rank->stream), "cuStreamSynchronize");
    comm_rank_cuda(rank, rank->cuda->cuMemcpyDtoH(&byte, rank->out + 4711, 1), "copy after the fault");
    if (byte != 0x5a)
        comm_board_fail(rank->board, rank->rank, "memory reads %#x after the fault", byte);
}

static int scene_rank(struct comm_board *board, uint32_t number, void *arg)
{
    const struct scene *scene = arg;
    struct tcw_plan_desc desc = comm_desc(TCW_BF16, scene->fusion, HIDDEN, TOKENS, 0);
    struct comm_lists lists;
    struct comm_rank rank;
    struct tck_run run;
    int code = comm_rank_open(&rank, board, number);
    if (code)
        return code;
    comm_rank_grow(&rank, &desc);
    comm_rank_run(&rank, &desc, scene->strategy, TOKENS, &lists, &run);
    if (scene->captured)
        loop_captured(&rank, &run);
    else
        loop_eager(&rank, &run);
    board->digest[number] = tcw_now_ns();
    check_health(&rank, &run);
    comm_rank_close(&rank);
    return 0;
}

static uint64_t steps_of(const struct comm_board *board, uint32_t rank)
{
    return atomic_load(&board->page[rank]->device.steps);
}

/* Waits until the child has ended; false when it takes too long. */
static bool reap(pid_t pid, int *status)
{
    uint64_t end = tcw_now_ns() + patience_ns;
    while (tcw_now_ns() < end) {
        if (waitpid(pid, status, WNOHANG) == pid)
            return true;
        usleep(500);
    }
    return false;
}

/* Whether it ended as it should; *took: in ms. */
static bool judge(const struct comm_board *board, const struct scene *scene, uint32_t rank, bool ended, int status, uint64_t raised,
                  double *took)
{
    uint64_t fault = atomic_load(&board->page[rank]->device.fault);
    int want = scene->stopped ? TCW_ETIMEOUT : TCW_EPEERDEAD;
    if (!ended || !WIFEXITED(status) || WEXITSTATUS(status)) {
        fprintf(stderr, "rank %u: %s (status %#x)\n", rank, ended ? "ended badly" : "HANGS", ended ? status : 0);
        return false;
    }
    if (tcw_abort_code(fault) != want || tcw_abort_culprit(fault) != VICTIM) {
        fprintf(stderr, "rank %u: fault %s of rank %u\n", rank, tcw_error_name(tcw_abort_code(fault)), tcw_abort_culprit(fault));
        return false;
    }
    *took = (double)(int64_t)(board->digest[rank] - raised) / 1e6;
    return true;
}

static void count(struct tally *tally, double took)
{
    tally->least = tally->survivors == 0 || took < tally->least ? took : tally->least;
    tally->most = took > tally->most ? took : tally->most;
    tally->survivors++;
}

static int play(const struct comm_options *options, struct scene *scene, struct tally *tally)
{
    struct comm_board *board = comm_board_create(options->ranks, 60);
    pid_t pids[COMM_MAX_RANKS];
    int status[COMM_MAX_RANKS] = {0};
    bool good = true, ended;
    for (uint32_t i = 0; i < options->ranks; i++)
        atomic_store(&board->page[i]->deadline_ns, scene->stopped ? deadline_ns : UINT64_C(30000000000));
    comm_board_fork(board, scene_rank, scene, pids);
    uint64_t end = tcw_now_ns() + 3 * patience_ns;
    while (steps_of(board, VICTIM) < RUNS_BEFORE && tcw_now_ns() < end && !atomic_load(&board->failed)) {
        if (waitpid(pids[VICTIM], &status[VICTIM], WNOHANG) == pids[VICTIM]) {
            int code = WIFEXITED(status[VICTIM]) ? WEXITSTATUS(status[VICTIM]) : 1;
            atomic_store(&board->failed, 1);
            for (uint32_t i = 0; i < options->ranks; i++)
                if (i != VICTIM && waitpid(pids[i], &status[i], 0) < 0)
                    perror("waitpid");
            comm_board_destroy(board);
            return code ? code : 1;
        }
        usleep(200);
    }
    if (steps_of(board, VICTIM) < RUNS_BEFORE) {
        fprintf(stderr, "only %llu runs before the end of patience\n", (unsigned long long)steps_of(board, VICTIM));
        good = false;
    }
    kill(pids[VICTIM], scene->stopped ? SIGSTOP : SIGKILL);
    uint64_t raised = tcw_now_ns();
    if (!scene->stopped) {
        waitpid(pids[VICTIM], &status[VICTIM], 0); /* the kernel closes its GPU first: so would the control process hear of it */
        raised = tcw_now_ns();
        for (uint32_t i = 0; i < options->ranks; i++)
            atomic_store(&board->page[i]->abort_word, tcw_abort_pack(TCW_EPEERDEAD, VICTIM));
    }
    if (!options->soak)
        printf("%s %-10s %-9s %-26s survivors end after ms:", scene->stopped ? "stop" : "kill", tcw_strategy_name(scene->strategy),
               scene->captured ? "captured" : "eager", tcw_fusion_name(scene->fusion));
    for (uint32_t i = 0; i < options->ranks; i++) {
        if (i == VICTIM)
            continue;
        double took = 0;
        ended = reap(pids[i], &status[i]);
        good = judge(board, scene, i, ended, status[i], raised, &took) && good;
        count(tally, took);
        if (!options->soak)
            printf(" %.2f", took);
        if (!ended) {
            kill(pids[i], SIGKILL);
            waitpid(pids[i], &status[i], 0);
        }
    }
    if (scene->stopped) {
        kill(pids[VICTIM], SIGKILL);
        waitpid(pids[VICTIM], &status[VICTIM], 0);
    }
    tally->failed += !good;
    if (!options->soak)
        printf("%s\n", good ? "" : " FAILED");
    fflush(stdout);
    comm_board_destroy(board);
    return good ? 0 : 1;
}

static void say_progress(const struct tally *tallies, unsigned scenes, double seconds)
{
    static const char *const names[2] = {"killed", "stopped"};
    printf("%u scenes in %.0f s", scenes, seconds);
    for (unsigned i = 0; i < 2; i++)
        if (tallies[i].survivors)
            printf("; a rank %s: %u survivors ended after %.2f to %.2f ms, %u scenes failed", names[i], tallies[i].survivors,
                   tallies[i].least, tallies[i].most, tallies[i].failed);
    printf("\n");
    fflush(stdout);
}

int comm_kill(const struct comm_options *options)
{
    static const uint32_t strategies[] = {TCW_STRATEGY_ONESHOT, TCW_STRATEGY_TWOSHOT};
    int answer = 0;
    uint64_t begin = tcw_now_ns(), end = begin + options->seconds * UINT64_C(1000000000);
    struct tally tallies[2] = {0};
    unsigned scenes = options->soak ? options->soak : KINDS;
    for (unsigned i = 0; i < scenes && (i == 0 || options->soak || tcw_now_ns() < end); i++) {
        struct scene scene = {
            .strategy = strategies[i & 1],
            .fusion = (i >> 2 ^ i) & 1 ? TCW_FUSION_RESIDUAL_RMS_NORM : TCW_FUSION_NONE,
            .captured = i >> 1 & 1,
            /* In a long row mostly deaths: a deadline takes its time. */
            .stopped = options->soak ? i % 16 == 7 : i >> 2 & 1,
        };
        int code = play(options, &scene, &tallies[scene.stopped]);
        if (code == COMM_SKIP)
            return code;
        answer |= code;
        if (options->soak && (i % 20 == 19 || i + 1 == scenes))
            say_progress(tallies, i + 1, (double)(tcw_now_ns() - begin) / 1e9);
    }
    printf("kill: %u ranks: %s\n", options->ranks, answer ? "FAILED" : "right");
    return answer;
}
