/*
 * GPUs that cannot map each other's memory have NCCL, and everybody says so alike; a group of one has nobody to reach, and the direct lane.
 * The first part only on the fake driver, which can pretend.
 */
#include "gpu.h"

#include "ctl_case.h"

#include <stdlib.h>

static struct trtcoll_plan_info info_of(struct trtcoll_plan *plan)
{
    struct trtcoll_plan_info info = {.size = sizeof(info)};

    CHECK_OK(trtcoll_plan_info(plan, &info));
    return info;
}

/* ---- GPUs apart ---- */

static void expect_refusal(struct trtcoll_group *group, unsigned lane, unsigned strategy, const char *remedy)
{
    struct trtcoll_all_reduce_desc desc = TRTCOLL_ALL_REDUCE_DESC_INIT;
    struct trtcoll_plan *plan = NULL;
    struct trtcoll_error error;

    desc.lane = lane;
    desc.strategy = strategy;
    desc.dtype = TRTCOLL_BF16;
    desc.hidden = 64;
    desc.max_tokens = 8;
    CHECK_CODE(trtcoll_plan_create_all_reduce(group, &desc, &plan), TRTCOLL_ENOTSUP);
    error = proc_last_error();
    CHECK_MSG(strstr(error.text, "device 0 cannot map the memory of device ") && strstr(error.text, remedy), "it says: %s", error.text);
}

static void apart_body(struct proc_me *me)
{
    struct trtcoll_ctx *ctx = proc_open(me, me->rank);
    struct trtcoll_group *group = proc_group(me, ctx, "apart");
    struct gpu *gpu = gpu_open(ctx);
    struct gpu_sum sum = gpu_sum_make(gpu, group, TRTCOLL_LANE_AUTO, 0, 4096);
    struct trtcoll_plan_info info = info_of(sum.plan);

    CHECK_EQ(info.lane, TRTCOLL_LANE_SERVED);
    CHECK_EQ(info.strategy, TRTCOLL_STRATEGY_NCCL);
    for (unsigned round = 0; round < 3; round++) {
        gpu_sum_fill(gpu, &sum, (unsigned)me->rank, round, gpu->streams[0]);
        CHECK_OK(gpu_sum_run(&sum, gpu->streams[0], NULL));
        gpu_drain(gpu, gpu->streams[0], PROC_PATIENCE_MS);
        gpu_sum_check(gpu, &sum, round);
    }
    expect_refusal(group, TRTCOLL_LANE_DIRECT, TRTCOLL_STRATEGY_AUTO, "the served lane");
    expect_refusal(group, TRTCOLL_LANE_SERVED, TRTCOLL_STRATEGY_TWOSHOT, "strategy nccl");
    proc_sum(group, TRTCOLL_LANE_SERVED, 1001);
    gpu_check_group(group);
    CHECK_OK(trtcoll_plan_release(sum.plan));
    proc_reach(me, 1);
    proc_await_parent(me, 1);
    gpu_part(me, gpu);
    trtcoll_ctx_close(ctx);
}

/* Within an island nothing is different. */
static void together_body(struct proc_me *me)
{
    struct trtcoll_ctx *ctx = proc_open(me, me->rank);
    struct trtcoll_group *group = proc_group(me, ctx, "together");
    struct gpu *gpu = gpu_open(ctx);
    struct gpu_sum sum = gpu_sum_make(gpu, group, TRTCOLL_LANE_AUTO, 0, 4096);

    CHECK_EQ(info_of(sum.plan).lane, TRTCOLL_LANE_DIRECT);
    proc_sum(group, TRTCOLL_LANE_DIRECT, 1000);
    CHECK_OK(trtcoll_plan_release(sum.plan));
    gpu_part(me, gpu);
    trtcoll_ctx_close(ctx);
}

static int unset_island(void **state)
{
    unsetenv("TRTCOLL_FAKE_ISLAND");
    return proc_teardown(state);
}

static void test_apart(void **state)
{
    struct proc_daemon *daemon;
    struct proc_run *run;

    (void)state;
    if (!gpu_is_fake())
        skip();
    setenv("TRTCOLL_FAKE_ISLAND", "1", 1);
    daemon = proc_daemon_start(&(struct proc_settings){.devices = 2});
    run = proc_run_start(daemon, 2, apart_body, NULL);
    proc_run_await_all(run, 1);
    json(daemon, "explain all-reduce 8x4096 --group apart",
         "d[\"answer\"][\"lane\"] == \"served\" and d[\"answer\"][\"strategy\"] == \"nccl\" and "
         "[r for r in d[\"answer\"][\"rejected\"] if r[\"what\"] == \"direct lane\" and \"device 0 cannot map\" in r[\"why\"]]");
    json(daemon, "explain all-reduce 8x4096 --ranks 2", "d[\"answer\"][\"strategy\"] == \"nccl\"");
    json(daemon, "explain all-reduce 8x4096 --ranks 1", "d[\"answer\"][\"lane\"] == \"direct\"");
    until(daemon, "status", EXIT_OK, "0 cannot map the memory of 1");
    json(daemon, "status", "[x[\"gpu\"][\"cannot_map\"] for x in d[\"devices\"]] == [[1], [0]]");
    json(daemon, "doctor", "[f for f in d[\"findings\"] if f[\"topic\"] == \"peer access\" and \"no peer access\" in f[\"found\"]]");
    json(daemon, "doctor", "[f for f in d[\"findings\"] if f[\"topic\"] == \"descriptors\" and f[\"level\"] == \"good\"]");
    proc_run_reach(run, 1);
    proc_run_wait(run, 20000);
    proc_daemon_finish(daemon);
}

static void test_islands(void **state)
{
    struct proc_daemon *daemon;

    (void)state;
    if (!gpu_is_fake() || gpu_count() < 4)
        skip();
    setenv("TRTCOLL_FAKE_ISLAND", "2", 1);
    daemon = proc_daemon_start(&(struct proc_settings){.devices = 4});
    proc_run_all(daemon, 2, together_body, NULL, 20000);
    until(daemon, "status", EXIT_OK, "0, 1 cannot map the memory of 2, 3");
    json(daemon, "explain all-reduce 8x4096 --ranks 2", "d[\"answer\"][\"lane\"] == \"direct\"");
    json(daemon, "explain all-reduce 8x4096 --ranks 4", "d[\"answer\"][\"lane\"] == \"served\"");
    proc_daemon_finish(daemon);
}

/* ---- a rank alone ---- */

static void alone_body(struct proc_me *me)
{
    struct trtcoll_ctx *ctx = proc_open(me, me->rank);
    struct trtcoll_group *group = proc_group(me, ctx, "alone");
    struct gpu *gpu = gpu_open(ctx);
    struct gpu_sum eager = gpu_sum_make(gpu, group, TRTCOLL_LANE_AUTO, 0, 4096);
    struct gpu_sum captured = gpu_sum_make(gpu, group, TRTCOLL_LANE_DIRECT, TRTCOLL_GRAPH, 1000);
    CUgraph graph;
    CUgraphExec exec;
    unsigned round;

    CHECK_EQ(info_of(eager.plan).lane, TRTCOLL_LANE_DIRECT);
    for (round = 0; round < 5; round++) {
        struct trtcoll_event *event;

        gpu_sum_fill(gpu, &eager, 0, round, gpu->streams[round % 2]);
        CHECK_OK(gpu_sum_run(&eager, gpu->streams[round % 2], &event));
        CHECK_OK(trtcoll_event_wait(event, PROC_PATIENCE_MS));
        trtcoll_event_put(event);
        gpu_sum_check(gpu, &eager, round);
    }
    CHECK_CU(gpu->cuda->cuStreamBeginCapture(gpu->streams[0], CU_STREAM_CAPTURE_MODE_THREAD_LOCAL));
    CHECK_OK(gpu_sum_run(&captured, gpu->streams[0], NULL));
    CHECK_CU(gpu->cuda->cuStreamEndCapture(gpu->streams[0], &graph));
    CHECK_CU(gpu->cuda->cuGraphInstantiate(&exec, graph, 0));
    for (round = 0; round < 20; round++) {
        gpu_sum_fill(gpu, &captured, 0, round, gpu->streams[1]);
        CHECK_CU(gpu->cuda->cuGraphLaunch(exec, gpu->streams[1]));
        gpu_drain(gpu, gpu->streams[1], PROC_PATIENCE_MS);
        gpu_sum_check(gpu, &captured, round);
    }
    CHECK_EQ(case_group_info(group).runs_finished, 5 + 20); /* replays are counted too */
    gpu_check_group(group);
    CHECK_CU(gpu->cuda->cuGraphExecDestroy(exec));
    CHECK_CU(gpu->cuda->cuGraphDestroy(graph));
    CHECK_OK(trtcoll_plan_release(captured.plan));
    CHECK_OK(trtcoll_plan_release(eager.plan));
    gpu_close(gpu);
    CHECK_OK(trtcoll_group_leave(group));
    trtcoll_ctx_close(ctx);
}

static void test_alone(void **state)
{
    struct proc_daemon *daemon = proc_daemon_start(&(struct proc_settings){.devices = 2});

    (void)state;
    proc_run_all(daemon, 1, alone_body, NULL, 20000);
    proc_daemon_finish(daemon);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_apart, unset_island),
        cmocka_unit_test_teardown(test_islands, unset_island),
        cmocka_unit_test_teardown(test_alone, proc_teardown),
    };

    return gpu_main("GPUs and their peers", tests, sizeof(tests) / sizeof(tests[0]));
}
