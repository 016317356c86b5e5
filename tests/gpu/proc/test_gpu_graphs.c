/* CUDA graphs of runs, both lanes: captured, replayed, captured again; what cannot be captured is refused and leaves the capture as it was.
 */
#include "cases_failure.h"
#include "ctl_case.h"
#include "gpu.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

enum { NODES = 8 };

struct graph {
    CUgraph graph;
    CUgraphExec exec;
};

static void begin(struct gpu *gpu, CUstream stream)
{
    CHECK_CU(gpu->cuda->cuStreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL));
}

static struct graph finish(struct gpu *gpu, CUstream stream)
{
    struct graph graph = {NULL, NULL};

    CHECK_CU(gpu->cuda->cuStreamEndCapture(stream, &graph.graph));
    CHECK_CU(gpu->cuda->cuGraphInstantiate(&graph.exec, graph.graph, 0));
    return graph;
}

static void destroy(struct gpu *gpu, struct graph *graph)
{
    CHECK_CU(gpu->cuda->cuGraphExecDestroy(graph->exec));
    CHECK_CU(gpu->cuda->cuGraphDestroy(graph->graph));
}

/* Sums of different sizes, each of the sum before it: what is wrong anywhere is wrong in the end. */
struct chain {
    unsigned length;
    struct gpu_sum sums[NODES];
};

static struct chain chain_make(struct gpu *gpu, struct trtcoll_group *group, unsigned lane, unsigned length)
{
    struct chain chain = {.length = length};

    for (unsigned i = 0; i < length; i++)
        chain.sums[i] = gpu_sum_make(gpu, group, lane, TRTCOLL_GRAPH, i % 3 == 1 ? 1 << 16 : 1024);
    return chain;
}

static void chain_run(struct gpu *gpu, struct chain *chain, CUstream stream)
{
    for (unsigned i = 0; i < chain->length; i++) {
        if (i) {
            CHECK_CU(gpu->cuda->cuMemsetD8Async(chain->sums[i].in, 0, chain->sums[i].count * sizeof(float), stream));
            CHECK_CU(gpu->cuda->cuMemcpyAsync(chain->sums[i].in, chain->sums[i - 1].out, 256 * sizeof(float), stream));
        }
        CHECK_OK(gpu_sum_run(&chain->sums[i], stream, NULL));
    }
}

static void chain_check(struct gpu *gpu, const struct chain *chain, unsigned round)
{
    float got[256], want;
    unsigned n = chain->sums[0].nranks;

    want = (float)(n * (n + 1) / 2 + n * round);
    for (unsigned i = 1; i < chain->length; i++)
        want *= (float)n;
    CHECK_CU(gpu->cuda->cuMemcpyDtoH(got, chain->sums[chain->length - 1].out, sizeof(got)));
    for (unsigned i = 0; i < 256; i++)
        CHECK_MSG(got[i] == want, "round %u: element %u at the end of the chain is %g, not %g", round, i, (double)got[i], (double)want);
}

static void chain_release(struct chain *chain)
{
    for (unsigned i = 0; i < chain->length; i++)
        CHECK_OK(trtcoll_plan_release(chain->sums[i].plan));
}

static uint64_t finished(struct trtcoll_group *group)
{
    return case_group_info(group).runs_finished;
}

/* ---- replays ---- */

struct replay {
    unsigned lane, length;
};

static void replay_body(struct proc_me *me)
{
    const struct replay *replay = me->arg;
    unsigned lane = replay->lane;
    struct trtcoll_ctx *ctx = proc_open(me, me->rank);
    struct trtcoll_group *group = proc_group(me, ctx, "replay");
    struct gpu *gpu = gpu_open(ctx);
    struct chain chain = chain_make(gpu, group, lane, replay->length);
    unsigned rounds = gpu_rounds(2500, 50) * (NODES / replay->length); /* as many runs */
    struct graph graph;
    uint64_t start;
    char what[64];

    begin(gpu, gpu->streams[0]);
    chain_run(gpu, &chain, gpu->streams[0]);
    graph = finish(gpu, gpu->streams[0]);
    start = proc_now_ns();
    for (unsigned round = 0; round < rounds; round++) {
        CUstream stream = gpu->streams[1 + round / 100 % 2]; /* never where it was captured */
        bool look = round % 100 == 99 || gpu_is_fake();

        proc_reach(me, round);
        gpu_sum_fill(gpu, &chain.sums[0], (unsigned)me->rank, round % 64, stream);
        CHECK_CU(gpu->cuda->cuGraphLaunch(graph.exec, stream));
        if (look) {
            gpu_drain(gpu, stream, PROC_PATIENCE_MS);
            gpu_check_group(group);
            chain_check(gpu, &chain, round % 64);
        }
    }
    snprintf(what, sizeof(what), "replays, %u %s in each", chain.length, lane == TRTCOLL_LANE_DIRECT ? "direct" : "served");
    gpu_say_rate(me, what, rounds, start);
    if (lane == TRTCOLL_LANE_DIRECT)
        CHECK_EQ(finished(group), (uint64_t)rounds * chain.length);
    /* Between replays an eager run, on a stream that is ordered behind them. */
    gpu_sum_fill(gpu, &chain.sums[0], (unsigned)me->rank, 3, gpu->streams[2]);
    CHECK_OK(gpu_sum_run(&chain.sums[0], gpu->streams[2], NULL));
    gpu_drain(gpu, gpu->streams[2], PROC_PATIENCE_MS);
    gpu_sum_check(gpu, &chain.sums[0], 3);
    /* The graph goes on when its plans have been given back: it holds what it needs. */
    chain_release(&chain);
    gpu_sum_fill(gpu, &chain.sums[0], (unsigned)me->rank, 7, gpu->streams[3]);
    CHECK_CU(gpu->cuda->cuGraphLaunch(graph.exec, gpu->streams[3]));
    gpu_drain(gpu, gpu->streams[3], PROC_PATIENCE_MS);
    chain_check(gpu, &chain, 7);
    destroy(gpu, &graph);
    gpu_part(me, gpu);
    trtcoll_ctx_close(ctx);
}

static void replay(unsigned lane)
{
    struct proc_daemon *daemon = proc_daemon_start(&(struct proc_settings){.devices = gpu_count()});

    for (unsigned ranks = 2; ranks <= gpu_count() && ranks <= 4; ranks++)
        for (unsigned length = 1; length <= NODES; length += NODES - 1) {
            struct replay job = {lane, length};

            proc_run_all(daemon, (int)ranks, replay_body, &job, gpu_limit_ms(60000));
        }
    proc_daemon_finish(daemon);
}

static void test_replay_direct(void **state)
{
    (void)state;
    replay(TRTCOLL_LANE_DIRECT);
}

static void test_replay_served(void **state)
{
    (void)state;
    replay(TRTCOLL_LANE_SERVED);
}

/* ---- again and again ---- */

/* Of workspaces, pages, device memory: those of the allocator come and go as it likes. */
static unsigned mappings(void)
{
    FILE *file = fopen("/proc/self/maps", "re");
    unsigned lines = 0;
    char line[512];

    while (file && fgets(line, sizeof(line), file))
        lines += strstr(line, "/memfd:") || strstr(line, "/dev/nvidia");
    if (file)
        fclose(file);
    return lines;
}

static size_t free_memory(struct gpu *gpu)
{
    size_t available = 0, total = 0;

    CHECK_CU(gpu->cuda->cuMemGetInfo(&available, &total));
    return available;
}

static void again_body(struct proc_me *me)
{
    unsigned lane = *(unsigned *)me->arg;
    struct trtcoll_ctx *ctx = proc_open(me, me->rank);
    struct trtcoll_group *group = proc_group(me, ctx, "again");
    struct gpu *gpu = gpu_open(ctx);
    struct chain chain = chain_make(gpu, group, lane, NODES);
    unsigned rounds = gpu_rounds(100, 40), maps = 0;
    size_t before = 0;

    for (unsigned round = 0; round < rounds; round++) {
        CUstream stream = gpu->streams[round % GPU_STREAMS];
        struct graph graph;

        proc_reach(me, round);
        begin(gpu, stream);
        chain_run(gpu, &chain, stream);
        graph = finish(gpu, stream);
        gpu_sum_fill(gpu, &chain.sums[0], (unsigned)me->rank, round, stream);
        CHECK_CU(gpu->cuda->cuGraphLaunch(graph.exec, stream));
        gpu_drain(gpu, stream, PROC_PATIENCE_MS);
        chain_check(gpu, &chain, round);
        destroy(gpu, &graph);
        /* Also a plan that comes and goes, whose graph outlives it. */
        struct gpu_sum sum = gpu_sum_make(gpu, group, lane, TRTCOLL_GRAPH, 4096);
        begin(gpu, stream);
        CHECK_OK(gpu_sum_run(&sum, stream, NULL));
        graph = finish(gpu, stream);
        CHECK_OK(trtcoll_plan_release(sum.plan));
        gpu_sum_fill(gpu, &sum, (unsigned)me->rank, round, stream);
        CHECK_CU(gpu->cuda->cuGraphLaunch(graph.exec, stream));
        gpu_drain(gpu, stream, PROC_PATIENCE_MS);
        gpu_sum_check(gpu, &sum, round);
        destroy(gpu, &graph);
        gpu_reset(gpu);
        gpu_take(gpu, 8 << 20); /* the chain's */
        proc_barrier(me);
        if (round == rounds / 2) {
            maps = mappings();
            before = free_memory(gpu);
        }
    }
    CHECK_MSG(mappings() <= maps, "%u mappings after %u captures, %u after half of them", mappings(), rounds, maps);
    CHECK_MSG(gpu_is_fake() || free_memory(gpu) + (4 << 20) >= before, "%zu bytes of the GPU are free after %u captures, %zu after half",
              free_memory(gpu), rounds, before);
    chain_release(&chain);
    gpu_part(me, gpu);
    trtcoll_ctx_close(ctx);
}

static void again(unsigned lane)
{
    struct proc_daemon *daemon = proc_daemon_start(&(struct proc_settings){.devices = 2});

    proc_run_all(daemon, 2, again_body, &lane, gpu_limit_ms(60000));
    proc_daemon_finish(daemon);
}

static void test_again_direct(void **state)
{
    (void)state;
    again(TRTCOLL_LANE_DIRECT);
}

/* More requests than a ring keeps at a time. */
static void test_again_served(void **state)
{
    (void)state;
    again(TRTCOLL_LANE_SERVED);
}

/* ---- refusals ---- */

static void refusal_body(struct proc_me *me)
{
    struct trtcoll_ctx *ctx = proc_open(me, me->rank);
    struct trtcoll_group *group = proc_group(me, ctx, "refusal");
    struct gpu *gpu = gpu_open(ctx);
    struct gpu_sum plain = gpu_sum_make(gpu, group, TRTCOLL_LANE_DIRECT, 0, 4096);
    struct gpu_sum captured = gpu_sum_make(gpu, group, TRTCOLL_LANE_DIRECT, TRTCOLL_GRAPH, 4096);
    struct gpu_sum served = gpu_sum_make(gpu, group, TRTCOLL_LANE_SERVED, 0, 4096);
    struct trtcoll_event *event = NULL;
    CUstream stream = gpu->streams[0];
    struct graph graph;

    begin(gpu, stream);
    CHECK_CODE(gpu_sum_run(&plain, stream, NULL), TRTCOLL_ECAPTURE);
    CHECK_CODE(gpu_sum_run(&served, stream, NULL), TRTCOLL_ECAPTURE);
    CHECK_CODE(gpu_sum_run(&captured, stream, &event), TRTCOLL_ECAPTURE);
    CHECK(event == NULL);
    /* A plan may be made and run elsewhere while this stream is being captured. */
    struct gpu_sum other = gpu_sum_make(gpu, group, TRTCOLL_LANE_DIRECT, 0, 1 << 18);
    gpu_sum_fill(gpu, &other, (unsigned)me->rank, 2, gpu->streams[1]);
    CHECK_OK(gpu_sum_run(&other, gpu->streams[1], &event));
    CHECK_OK(trtcoll_event_wait(event, UINT32_MAX));
    trtcoll_event_put(event);
    CHECK_OK(gpu_sum_run(&captured, stream, NULL));
    graph = finish(gpu, stream);
    gpu_sum_check(gpu, &other, 2);
    gpu_sum_fill(gpu, &captured, (unsigned)me->rank, 4, stream);
    CHECK_CU(gpu->cuda->cuGraphLaunch(graph.exec, stream));
    gpu_drain(gpu, stream, PROC_PATIENCE_MS);
    gpu_sum_check(gpu, &captured, 4);
    destroy(gpu, &graph);
    CHECK_OK(trtcoll_plan_release(plain.plan));
    CHECK_OK(trtcoll_plan_release(captured.plan));
    CHECK_OK(trtcoll_plan_release(served.plan));
    CHECK_OK(trtcoll_plan_release(other.plan));
    gpu_part(me, gpu);
    trtcoll_ctx_close(ctx);
}

static void test_refusals(void **state)
{
    struct proc_daemon *daemon = proc_daemon_start(&(struct proc_settings){.devices = 2});

    (void)state;
    proc_run_all(daemon, 2, refusal_body, NULL, 20000);
    proc_daemon_finish(daemon);
}

/* ---- deadlines ---- */

enum { LONG_MS = 20000, SHORT_MS = 400, LATE = 1 };

/* A graph is captured under one deadline and replayed under another, which its kernels and the executors read from memory. */
static void deadline_body(struct proc_me *me)
{
    unsigned lane = *(unsigned *)me->arg;
    struct trtcoll_ctx *ctx = proc_open(me, me->rank);
    struct trtcoll_group *group = proc_group(me, ctx, "deadline");
    struct gpu *gpu = gpu_open(ctx);
    struct gpu_sum sum = gpu_sum_make(gpu, group, lane, TRTCOLL_GRAPH, 4096);
    CUstream stream = gpu->streams[0];
    struct graph graph;

    CHECK_EQ(case_group_info(group).deadline_ns, LONG_MS * 1000000ull);
    begin(gpu, stream);
    CHECK_OK(gpu_sum_run(&sum, stream, NULL));
    graph = finish(gpu, stream);
    gpu_sum_fill(gpu, &sum, (unsigned)me->rank, 1, stream);
    CHECK_CU(gpu->cuda->cuGraphLaunch(graph.exec, stream));
    gpu_drain(gpu, stream, PROC_PATIENCE_MS);
    gpu_sum_check(gpu, &sum, 1);
    proc_reach(me, 1);
    proc_await_parent(me, 1);
    CHECK_EQ(case_group_info(group).deadline_ns, SHORT_MS * 1000000ull);
    if (me->rank != LATE) {
        CHECK_CU(gpu->cuda->cuGraphLaunch(graph.exec, stream));
        double took = gpu_drain(gpu, stream, LONG_MS / 2.0);
        CHECK_MSG(took >= SHORT_MS - 1, "the replay ended after %.0f ms", took);
    }
    failure_await_broken(group);
    struct trtcoll_group_info info = case_group_info(group);
    CHECK_MSG(info.code == TRTCOLL_ETIMEOUT && info.culprit == LATE, "%s because of rank %u: %s", trtcoll_error_name(info.code),
              info.culprit, proc_last_error().text);
    destroy(gpu, &graph);
    CHECK_OK(trtcoll_plan_release(sum.plan));
    gpu_part(me, gpu);
    trtcoll_ctx_close(ctx);
}

static void deadline(unsigned lane)
{
    struct proc_settings settings = {.devices = 2, .operation_ms = LONG_MS};
    struct proc_daemon *daemon = proc_daemon_start(&settings);
    struct proc_run *run = proc_run_start(daemon, 2, deadline_body, &lane);

    proc_run_await_all(run, 1);
    settings.operation_ms = SHORT_MS;
    proc_daemon_configure(daemon, &settings);
    assert_int_equal(kill(daemon->pid, SIGHUP), 0);
    assert_true(proc_daemon_logged(daemon, "1 differences, 0 of them refused", PROC_PATIENCE_MS));
    until(daemon, "groups deadline", EXIT_OK, "deadline 400 ms");
    proc_run_reach(run, 1);
    proc_run_wait(run, PROC_PATIENCE_MS);
    proc_daemon_finish(daemon);
}

static void test_deadline_direct(void **state)
{
    (void)state;
    deadline(TRTCOLL_LANE_DIRECT);
}

static void test_deadline_served(void **state)
{
    (void)state;
    deadline(TRTCOLL_LANE_SERVED);
}

/* ---- graphs that overlap ---- */

/* Two graphs of one group, launched on two streams without an order between them: the second begins while the first waits for its peer. */
static void overlap_body(struct proc_me *me)
{
    struct trtcoll_ctx *ctx = proc_open(me, me->rank);
    struct trtcoll_group *group = proc_group(me, ctx, "overlap");
    struct gpu *gpu = gpu_open(ctx);
    struct gpu_sum sum = gpu_sum_make(gpu, group, TRTCOLL_LANE_DIRECT, TRTCOLL_GRAPH, 4096);
    struct graph graphs[2];
    struct trtcoll_group_info info;

    for (unsigned i = 0; i < 2; i++) {
        begin(gpu, gpu->streams[i]);
        CHECK_OK(gpu_sum_run(&sum, gpu->streams[i], NULL));
        graphs[i] = finish(gpu, gpu->streams[i]);
    }
    proc_barrier(me);
    if (me->rank != LATE) {
        for (unsigned i = 0; i < 2; i++)
            CHECK_CU(gpu->cuda->cuGraphLaunch(graphs[i].exec, gpu->streams[i]));
        for (unsigned i = 0; i < 2; i++)
            gpu_drain(gpu, gpu->streams[i], LONG_MS / 2.0);
    }
    failure_await_broken(group);
    info = case_group_info(group);
    CHECK_MSG(info.code == TRTCOLL_EBUSY, "%s: %s", trtcoll_error_name(info.code), proc_last_error().text);
    CHECK_CODE(gpu_sum_run(&sum, gpu->streams[0], NULL), TRTCOLL_EBUSY);
    for (unsigned i = 0; i < 2; i++)
        destroy(gpu, &graphs[i]);
    CHECK_OK(trtcoll_plan_release(sum.plan));
    CHECK_OK(trtcoll_group_reform(group, 0, 0));
    sum = gpu_sum_make(gpu, group, TRTCOLL_LANE_DIRECT, 0, 4096);
    gpu_sum_fill(gpu, &sum, (unsigned)me->rank, 3, gpu->streams[0]);
    CHECK_OK(gpu_sum_run(&sum, gpu->streams[0], NULL));
    gpu_drain(gpu, gpu->streams[0], PROC_PATIENCE_MS);
    gpu_sum_check(gpu, &sum, 3);
    CHECK_OK(trtcoll_plan_release(sum.plan));
    gpu_part(me, gpu);
    trtcoll_ctx_close(ctx);
}

static void test_overlap(void **state)
{
    struct proc_daemon *daemon = proc_daemon_start(&(struct proc_settings){.devices = 2, .operation_ms = LONG_MS});

    (void)state;
    proc_run_all(daemon, 2, overlap_body, NULL, PROC_PATIENCE_MS);
    proc_daemon_finish(daemon);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_refusals, proc_teardown),        cmocka_unit_test_teardown(test_replay_direct, proc_teardown),
        cmocka_unit_test_teardown(test_replay_served, proc_teardown),   cmocka_unit_test_teardown(test_again_direct, proc_teardown),
        cmocka_unit_test_teardown(test_again_served, proc_teardown),    cmocka_unit_test_teardown(test_deadline_direct, proc_teardown),
        cmocka_unit_test_teardown(test_deadline_served, proc_teardown), cmocka_unit_test_teardown(test_overlap, proc_teardown),
    };

    return gpu_main("graphs on GPUs", tests, sizeof(tests) / sizeof(tests[0]));
}
