/*
 * Served runs in CUDA graphs: 1 to 64 of them in one, replayed on other streams than captured, between eager runs, captured and destroyed
 * again and again, and while clients, executors or the control process die.
 */
#include "cases_failure.h"
#include "gpu.h"

#include <signal.h>
#include <stdio.h>
#include <unistd.h>

enum { MOST = 64, PLANS = 3, VICTIM = 1, EXECUTORS_GRACE_MS = 3500, BROKEN = 1000000, DONE = 2000000 };

/* Each run takes its input from the first one's, and what it delivers is copied on: a replay that passes too early copies what was there.
 */
struct work {
    struct gpu_sum sums[MOST];
    CUdeviceptr copies[MOST];
    unsigned count;
};

struct graph {
    CUgraph graph;
    CUgraphExec exec;
};

static void work_make(struct gpu *gpu, struct trtcoll_group *group, unsigned count, struct work *work)
{
    static const uint64_t sizes[PLANS] = {256, 1024, 1 << 14};

    work->count = count;
    for (unsigned i = 0; i < count; i++) {
        if (i < PLANS) {
            work->sums[i] = gpu_sum_make(gpu, group, TRTCOLL_LANE_SERVED, TRTCOLL_GRAPH, sizes[i]);
        } else {
            work->sums[i] = work->sums[i % PLANS];
            work->sums[i].in = gpu_take(gpu, work->sums[i].count * sizeof(float));
            work->sums[i].out = gpu_take(gpu, work->sums[i].count * sizeof(float));
        }
        work->copies[i] = gpu_take(gpu, work->sums[i].count * sizeof(float));
    }
}

static void work_release(struct work *work)
{
    for (unsigned i = 0; i < work->count && i < PLANS; i++)
        CHECK_OK(trtcoll_plan_release(work->sums[i].plan));
}

static struct graph capture(struct gpu *gpu, struct work *work, CUstream stream)
{
    struct graph graph = {NULL, NULL};

    CHECK_CU(gpu->cuda->cuStreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_GLOBAL));
    for (unsigned i = 0; i < work->count; i++) {
        struct gpu_sum *sum = &work->sums[i];

        if (i)
            CHECK_CU(gpu->cuda->cuMemcpyAsync(sum->in, work->sums[0].in, 256 * sizeof(float), stream));
        CHECK_OK(gpu_sum_run(sum, stream, NULL));
        CHECK_CU(gpu->cuda->cuMemcpyAsync(work->copies[i], sum->out, 256 * sizeof(float), stream));
    }
    CHECK_CU(gpu->cuda->cuStreamEndCapture(stream, &graph.graph));
    CHECK_CU(gpu->cuda->cuGraphInstantiate(&graph.exec, graph.graph, 0));
    return graph;
}

static void destroy(struct gpu *gpu, struct graph *graph)
{
    CHECK_CU(gpu->cuda->cuGraphExecDestroy(graph->exec));
    CHECK_CU(gpu->cuda->cuGraphDestroy(graph->graph));
}

static void launch(struct gpu *gpu, struct proc_me *me, struct work *work, const struct graph *graph, unsigned round, CUstream stream)
{
    gpu_sum_fill(gpu, &work->sums[0], (unsigned)me->rank, round, stream);
    CHECK_CU(gpu->cuda->cuGraphLaunch(graph->exec, stream));
}

static void check(struct gpu *gpu, const struct work *work, unsigned round)
{
    unsigned n = work->sums[0].nranks;
    float got[256], want = (float)(n * (n + 1) / 2 + n * round);

    for (unsigned i = 0; i < work->count; i++) {
        CHECK_CU(gpu->cuda->cuMemcpyDtoH(got, work->copies[i], sizeof(got)));
        for (unsigned k = 0; k < 256; k++)
            CHECK_MSG(got[k] == want, "round %u, run %u of the graph: element %u is %g, not %g", round, i, k, (double)got[k], (double)want);
    }
}

/* ---- replays ---- */

static void replay_body(struct proc_me *me)
{
    unsigned count = *(const unsigned *)me->arg;
    struct trtcoll_ctx *ctx = proc_open(me, me->rank);
    struct trtcoll_group *group = proc_group(me, ctx, "replay");
    struct gpu *gpu = gpu_open(ctx);
    struct gpu_sum eager = gpu_sum_make(gpu, group, TRTCOLL_LANE_SERVED, 0, 4096);
    struct trtcoll_group *other = proc_group(me, ctx, "other"); /* on the same communicator */
    struct gpu_sum beside = gpu_sum_make(gpu, other, TRTCOLL_LANE_SERVED, 0, 512);
    unsigned rounds = gpu_rounds(6400 / count, count < 64 ? 200 : 60);
    char what[64];
    struct work work;
    struct graph graph;
    uint64_t begin;

    work_make(gpu, group, count, &work);
    graph = capture(gpu, &work, gpu->streams[0]);
    begin = proc_now_ns();
    for (unsigned round = 0; round < rounds; round++) {
        CUstream stream = gpu->streams[1 + round / 10 % 2];
        bool look = gpu_is_fake() || round % 100 == 99;

        proc_reach(me, round);
        launch(gpu, me, &work, &graph, round % 64, stream);
        if (round % 10 == 9) { /* posted while the graph before it has yet to run */
            gpu_sum_fill(gpu, &eager, (unsigned)me->rank, round % 64, stream);
            CHECK_OK(gpu_sum_run(&eager, stream, NULL));
            gpu_sum_fill(gpu, &beside, (unsigned)me->rank, round % 64, stream);
            CHECK_OK(gpu_sum_run(&beside, stream, NULL));
        }
        if (!look && round % 10 != 9)
            continue;
        gpu_drain(gpu, stream, PROC_PATIENCE_MS);
        gpu_check_group(group);
        check(gpu, &work, round % 64);
        if (round % 10 == 9) {
            gpu_sum_check(gpu, &eager, round % 64);
            gpu_sum_check(gpu, &beside, round % 64);
        }
    }
    snprintf(what, sizeof(what), "served runs, %u in each graph", count);
    gpu_say_rate(me, what, (uint64_t)rounds * count, begin);
    /* The graph goes on when its plans have been given back. */
    work_release(&work);
    launch(gpu, me, &work, &graph, 7, gpu->streams[3]);
    gpu_drain(gpu, gpu->streams[3], PROC_PATIENCE_MS);
    check(gpu, &work, 7);
    destroy(gpu, &graph);
    gpu_sum_fill(gpu, &eager, (unsigned)me->rank, 5, gpu->streams[0]);
    CHECK_OK(gpu_sum_run(&eager, gpu->streams[0], NULL));
    gpu_drain(gpu, gpu->streams[0], PROC_PATIENCE_MS);
    gpu_sum_check(gpu, &eager, 5);
    gpu_close(gpu); /* its memory is not in use any more */
    trtcoll_ctx_close(ctx);
}

static void replay(unsigned count)
{
    struct proc_daemon *daemon = proc_daemon_start(&(struct proc_settings){.devices = gpu_count()});

    for (unsigned ranks = 2; ranks <= gpu_count() && ranks <= 4; ranks += 2)
        proc_run_all(daemon, (int)ranks, replay_body, &count, gpu_limit_ms(60000));
    proc_daemon_finish(daemon);
}

static void test_replay_1(void **state)
{
    (void)state;
    replay(1);
}

static void test_replay_8(void **state)
{
    (void)state;
    replay(8);
}

static void test_replay_64(void **state)
{
    (void)state;
    replay(MOST);
}

/* ---- again and again ---- */

static void again_body(struct proc_me *me)
{
    struct trtcoll_ctx *ctx = proc_open(me, me->rank);
    struct trtcoll_group *group = proc_group(me, ctx, "again");
    struct gpu *gpu = gpu_open(ctx);
    struct work work;

    work_make(gpu, group, MOST / 4, &work);
    /* More than a ring keeps at a time: what is destroyed must have been given back. */
    for (unsigned round = 0; round < 50; round++) {
        struct graph graph = capture(gpu, &work, gpu->streams[0]);

        proc_reach(me, round);
        launch(gpu, me, &work, &graph, round, gpu->streams[1]);
        launch(gpu, me, &work, &graph, round + 1, gpu->streams[1]);
        gpu_drain(gpu, gpu->streams[1], PROC_PATIENCE_MS);
        gpu_check_group(group);
        check(gpu, &work, round + 1);
        destroy(gpu, &graph);
    }
    /* A capture that is thrown away, and a graph that outlives its group: its replays pass. */
    struct graph graph = capture(gpu, &work, gpu->streams[0]);
    destroy(gpu, &graph);
    graph = capture(gpu, &work, gpu->streams[0]);
    launch(gpu, me, &work, &graph, 3, gpu->streams[1]);
    gpu_drain(gpu, gpu->streams[1], PROC_PATIENCE_MS);
    check(gpu, &work, 3);
    proc_barrier(me);
    CHECK_OK(trtcoll_group_leave(group));
    for (unsigned i = 0; i < 3; i++)
        launch(gpu, me, &work, &graph, 4, gpu->streams[1]);
    gpu_drain(gpu, gpu->streams[1], PROC_PATIENCE_MS);
    destroy(gpu, &graph);
    gpu_close(gpu);
    trtcoll_ctx_close(ctx);
}

static void test_again(void **state)
{
    struct proc_daemon *daemon = proc_daemon_start(&(struct proc_settings){.devices = 2});

    (void)state;
    proc_run_all(daemon, 2, again_body, NULL, 60000);
    proc_daemon_finish(daemon);
}

/* ---- refusals ---- */

static void refusal_body(struct proc_me *me)
{
    struct trtcoll_ctx *ctx = proc_open(me, me->rank);
    struct trtcoll_group *group = proc_group(me, ctx, "refusal");
    struct gpu *gpu = gpu_open(ctx);
    struct gpu_sum plain = gpu_sum_make(gpu, group, TRTCOLL_LANE_SERVED, 0, 4096), strange;
    struct trtcoll_event *event = NULL;
    CUstream stream = gpu->streams[0];
    struct work work;
    struct graph graph = {NULL, NULL};

    work_make(gpu, group, 1, &work);
    strange = work.sums[0];
    gpu->kind = GPU_STRANGE;
    strange.in = gpu_take(gpu, strange.count * sizeof(float));
    CHECK_CU(gpu->cuda->cuStreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL));
    CHECK_CODE(gpu_sum_run(&plain, stream, NULL), TRTCOLL_ECAPTURE);
    CHECK_CODE(gpu_sum_run(&strange, stream, NULL), TRTCOLL_ECAPTURE);
    CHECK_CODE(gpu_sum_run(&work.sums[0], stream, &event), TRTCOLL_ECAPTURE);
    CHECK(event == NULL);
    CHECK_OK(gpu_sum_run(&work.sums[0], stream, NULL));
    CHECK_CU(gpu->cuda->cuMemcpyAsync(work.copies[0], work.sums[0].out, 256 * sizeof(float), stream));
    CHECK_CU(gpu->cuda->cuStreamEndCapture(stream, &graph.graph));
    CHECK_CU(gpu->cuda->cuGraphInstantiate(&graph.exec, graph.graph, 0));
    launch(gpu, me, &work, &graph, 4, stream);
    gpu_drain(gpu, stream, PROC_PATIENCE_MS);
    check(gpu, &work, 4);
    /* Its memory is in use as long as the graph is there, and not any longer. */
    CHECK_CODE(trtcoll_free(ctx, (void *)(uintptr_t)gpu->arenas[GPU_ALLOCATED].base), TRTCOLL_EBUSY);
    destroy(gpu, &graph);
    /* Outside of captures such a plan runs as any other. */
    gpu_sum_fill(gpu, &work.sums[0], (unsigned)me->rank, 6, stream);
    CHECK_OK(gpu_sum_run(&work.sums[0], stream, NULL));
    gpu_drain(gpu, stream, PROC_PATIENCE_MS);
    gpu_sum_check(gpu, &work.sums[0], 6);
    gpu_close(gpu);
    trtcoll_ctx_close(ctx);
}

static void test_refusals(void **state)
{
    struct proc_daemon *daemon = proc_daemon_start(&(struct proc_settings){.devices = 2});

    (void)state;
    proc_run_all(daemon, 2, refusal_body, NULL, 20000);
    proc_daemon_finish(daemon);
}

/* ---- failures while graphs are replayed ---- */

typedef enum scene { CLIENT_DIES, EXECUTOR_DIES, CONTROL_DIES, SCENES } scene;

static const char *const scene_names[SCENES] = {"a client", "an executor", "the control process"};

/* Rank 0's context has a thread that notices what is gone. */
static struct trtcoll_ctx *open_watched(const struct proc_me *me)
{
    struct trtcoll_ctx_options options = TRTCOLL_CTX_OPTIONS_INIT;
    struct trtcoll_ctx *ctx = NULL;

    options.socket_path = me->daemon->socket;
    options.device = me->rank;
    options.timeout_ms = PROC_PATIENCE_MS;
    options.watch = me->rank == 0;
    CHECK_OK(trtcoll_ctx_open(&options, &ctx));
    return ctx;
}

/* Until the stream is empty. Without such a thread the group is asked meanwhile, as an application would that waits. */
static void drain(struct proc_me *me, struct gpu *gpu, struct trtcoll_group *group, CUstream stream, double ms)
{
    uint64_t begin = proc_now_ns();

    while (me->rank && gpu->cuda->cuStreamQuery(stream) == CUDA_ERROR_NOT_READY && (double)(proc_now_ns() - begin) / 1e6 < ms) {
        case_group_info(group);
        proc_nap();
    }
    gpu_drain(gpu, stream, ms);
}

static bool works(struct trtcoll_ctx *ctx, struct trtcoll_group *group)
{
    struct trtcoll_ctx_info info = {.size = sizeof(info)};

    CHECK_OK(trtcoll_ctx_info(ctx, &info));
    return info.connected && case_group_info(group).state == TRTCOLL_GROUP_READY;
}

static void failure_body(struct proc_me *me)
{
    scene what = *(const scene *)me->arg;
    struct trtcoll_ctx *ctx = open_watched(me);
    struct trtcoll_group *group = proc_group(me, ctx, "failure");
    struct gpu *gpu = gpu_open(ctx);
    CUstream stream = gpu->streams[1];
    struct work work;
    struct graph graph;

    work_make(gpu, group, 8, &work);
    graph = capture(gpu, &work, gpu->streams[0]);
    for (uint32_t i = 0; works(ctx, group); i++) {
        launch(gpu, me, &work, &graph, i % 64, stream);
        if (i % 4 == 3)
            drain(me, gpu, group, stream, PROC_PATIENCE_MS);
        proc_reach(me, i + 1);
    }
    drain(me, gpu, group, stream, PROC_REACTION_MS + proc_allowance_ms() + EXECUTORS_GRACE_MS);
    atomic_store(&me->slot->values[0], (uint64_t)(proc_ms_since_parent(me) * 1000));
    /* Replays of what is broken pass at once, one behind the other, for as long as there are any. */
    for (unsigned i = 0; i < 50; i++)
        launch(gpu, me, &work, &graph, 1, stream);
    drain(me, gpu, group, stream, 500 + proc_allowance_ms());
    if (what == CONTROL_DIES) {
        CHECK_CODE(gpu_sum_run(&work.sums[0], stream, NULL), TRTCOLL_ECONN);
    } else {
        int expected = what == CLIENT_DIES ? TRTCOLL_EPEERDEAD : TRTCOLL_EEXECUTOR;
        struct trtcoll_group_info info = case_group_info(group);

        CHECK_MSG(info.code == expected, "%s", trtcoll_error_name(info.code));
        CHECK_CODE(gpu_sum_run(&work.sums[0], stream, NULL), expected);
        proc_reach(me, BROKEN);
        CHECK_OK(trtcoll_group_reform(group, 0, 0));
        gpu_reset(gpu);
        destroy(gpu, &graph);
        work_make(gpu, group, 8, &work);
        graph = capture(gpu, &work, gpu->streams[0]);
        launch(gpu, me, &work, &graph, 9, stream);
        gpu_drain(gpu, stream, PROC_PATIENCE_MS);
        gpu_check_group(group);
        check(gpu, &work, 9);
        proc_barrier(me); /* nobody leaves before all have looked */
    }
    destroy(gpu, &graph);
    gpu_close(gpu);
    trtcoll_ctx_close(ctx);
    proc_reach(me, DONE);
}

/* In the place of a client that has died. */
static void successor_body(struct proc_me *me)
{
    struct trtcoll_ctx *ctx = proc_open(me, me->rank);
    struct trtcoll_group *group = proc_group(me, ctx, "failure");
    struct gpu *gpu = gpu_open(ctx);
    struct work work;
    struct graph graph;

    work_make(gpu, group, 8, &work);
    graph = capture(gpu, &work, gpu->streams[0]);
    launch(gpu, me, &work, &graph, 9, gpu->streams[1]);
    gpu_drain(gpu, gpu->streams[1], PROC_PATIENCE_MS);
    check(gpu, &work, 9);
    proc_barrier(me);
    destroy(gpu, &graph);
    gpu_close(gpu);
    trtcoll_ctx_close(ctx);
    proc_reach(me, DONE);
}

static void play(struct proc_daemon *daemon, scene what)
{
    struct proc_run *run = proc_run_start(daemon, 2, failure_body, &what);
    pid_t executors[2];

    proc_run_await(run, VICTIM, 7);
    assert_int_equal(proc_daemon_executors(daemon, executors, 2), 2);
    atomic_store(&run->shared->parent.values[0], proc_now_ns());
    if (what == CLIENT_DIES) {
        proc_run_kill(run, VICTIM, SIGKILL);
        proc_run_await(run, 0, BROKEN);
        proc_run_again(run, VICTIM, successor_body, &what);
    } else if (what == EXECUTOR_DIES) {
        assert_int_equal(kill(executors[VICTIM], SIGKILL), 0);
    } else {
        proc_daemon_kill(daemon);
    }
    proc_run_await_all(run, DONE);
    printf("  %s killed while graphs are replayed: streams empty after %.1f ms\n", scene_names[what],
           (double)atomic_load(&run->shared->ranks[0].values[0]) / 1e3);
    fflush(stdout);
    proc_run_wait(run, 30000);
}

static void test_failures(void **state)
{
    struct proc_daemon *daemon = proc_daemon_start(&(struct proc_settings){.devices = 2, .join_ms = 60000});

    (void)state;
    for (unsigned times = 0; times < gpu_rounds(5, 2); times++) {
        play(daemon, CLIENT_DIES);
        play(daemon, EXECUTOR_DIES);
    }
    play(daemon, CONTROL_DIES);
    proc_daemon_restart(daemon);
    proc_daemon_finish(daemon);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_refusals, proc_teardown), cmocka_unit_test_teardown(test_replay_1, proc_teardown),
        cmocka_unit_test_teardown(test_replay_8, proc_teardown), cmocka_unit_test_teardown(test_replay_64, proc_teardown),
        cmocka_unit_test_teardown(test_again, proc_teardown),    cmocka_unit_test_teardown(test_failures, proc_teardown),
    };

    return gpu_main("served runs in graphs on GPUs", tests, sizeof(tests) / sizeof(tests[0]));
}
