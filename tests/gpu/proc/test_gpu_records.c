/*
 * What the flight recorder has of replayed graphs: nobody but the kernels knows of those runs, and trtcollctl dump shows them like others.
 */
#include "gpu.h"

#include "ctl_case.h"

#include <stdlib.h>

enum { LAUNCHES = 3, NODES = 4, REPLAYS = 20, COUNT = 1 << 12, REPLAYED = 1 };

static void body(struct proc_me *me)
{
    struct trtcoll_ctx *ctx = proc_open(me, me->rank);
    struct trtcoll_group *group = proc_group(me, ctx, "records");
    struct gpu *gpu = gpu_open(ctx);
    struct gpu_sum sum = gpu_sum_make(gpu, group, TRTCOLL_LANE_DIRECT, TRTCOLL_GRAPH, COUNT);
    CUstream stream = gpu->streams[0];
    CUgraphExec exec;
    CUgraph graph;

    gpu_sum_fill(gpu, &sum, (unsigned)me->rank, 0, stream);
    for (unsigned i = 0; i < LAUNCHES; i++)
        CHECK_OK(gpu_sum_run(&sum, stream, NULL));
    CHECK_CU(gpu->cuda->cuStreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL));
    for (unsigned i = 0; i < NODES; i++)
        CHECK_OK(gpu_sum_run(&sum, stream, NULL));
    CHECK_CU(gpu->cuda->cuStreamEndCapture(stream, &graph));
    CHECK_CU(gpu->cuda->cuGraphInstantiate(&exec, graph, 0));
    for (unsigned i = 0; i < REPLAYS; i++)
        CHECK_CU(gpu->cuda->cuGraphLaunch(exec, stream));
    gpu_drain(gpu, stream, PROC_PATIENCE_MS);
    gpu_check_group(group);
    gpu_sum_check(gpu, &sum, 0);
    proc_reach(me, REPLAYED);
    proc_await_parent(me, REPLAYED);
    CHECK_CU(gpu->cuda->cuGraphExecDestroy(exec));
    CHECK_CU(gpu->cuda->cuGraphDestroy(graph));
    CHECK_OK(trtcoll_plan_release(sum.plan));
    gpu_part(me, gpu);
    trtcoll_ctx_close(ctx);
}

static unsigned count(const char *text, const char *part)
{
    unsigned found = 0;

    for (text = strstr(text, part); text; text = strstr(text + 1, part))
        found++;
    return found;
}

static void test_replays(void **state)
{
    struct proc_daemon *daemon;
    struct proc_run *run;
    uint64_t until_ns;
    char last[64];

    (void)state;
    if (!getenv("TRTCOLL_TEST_CTL"))
        skip();
    daemon = proc_daemon_start(&(struct proc_settings){.devices = 2});
    run = proc_run_start(daemon, 2, body, NULL);
    proc_run_await_all(run, REPLAYED);
    snprintf(last, sizeof(last), "\"step\": %u,", LAUNCHES + NODES * REPLAYS);
    until_ns = proc_now_ns() + PROC_PATIENCE_MS * 1000000ull;
    do { /* the daemon looks ten times a second */
        ctl(daemon, "dump records --count 32 --json", EXIT_OK);
        assert_true(proc_now_ns() < until_ns);
    } while (!strstr(output, last));
    assert_int_equal(count(output, "\"all-reduce\""), 32);
    assert_int_equal(count(output, "\"ok\""), 64);
    assert_int_equal(count(output, "\"outlier\": true"), 0);
    ctl(daemon, "dump records", EXIT_OK);
    printf("%s", output);
    proc_run_reach(run, REPLAYED);
    proc_run_wait(run, 20000);
    proc_daemon_finish(daemon);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_replays, proc_teardown),
    };

    return gpu_main("gpus: records", tests, sizeof(tests) / sizeof(tests[0]));
}
