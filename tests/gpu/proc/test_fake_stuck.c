/*
 * An executor that stands still in NCCL while a communicator is made: the ranks are told in time, the executor ends, the same group works
 * then. Only the fake NCCL can be made to stand still. An executor ends after ten of the daemon's pings, which takes as many seconds.
 */
#include "gpu.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { CHANCE_MS = 1000 };
enum { JOINED = 1, REFUSED = 2 };

static char faults[64], mark[80]; /* the second: somebody stands still */

struct scene {
    const char *function;
    unsigned communicator_ms;
    bool peer_dies;
    int code; /* what ranks are told */
    const char *log;
};

static void write_fault(const char *function, pid_t pid)
{
    FILE *file = fopen(faults, "w");

    assert_non_null(file);
    if (function)
        fprintf(file, "%s hang pid=%d once\n", function, (int)pid);
    assert_int_equal(fclose(file), 0);
}

static int no_faults(void **state)
{
    (void)state;
    write_fault(NULL, 0);
    unlink(mark);
    return 0;
}

static void body(struct proc_me *me)
{
    const struct scene *scene = me->arg;
    struct trtcoll_all_reduce_desc desc = TRTCOLL_ALL_REDUCE_DESC_INIT;
    struct trtcoll_ctx *ctx = proc_open(me, me->rank);
    struct trtcoll_group *group = proc_group(me, ctx, "stuck");
    struct gpu *gpu = gpu_open(ctx);
    struct trtcoll_plan *plan = NULL;
    struct gpu_sum sum;

    desc.dtype = TRTCOLL_FP32;
    desc.lane = TRTCOLL_LANE_SERVED;
    desc.hidden = 256;
    proc_reach(me, JOINED);
    proc_await_parent(me, JOINED);
    CHECK_CODE(trtcoll_plan_create_all_reduce(group, &desc, &plan), scene->code);
    proc_reach(me, REFUSED);
    proc_await_parent(me, REFUSED);

    sum = gpu_sum_make(gpu, group, TRTCOLL_LANE_SERVED, 0, 256);
    gpu_sum_fill(gpu, &sum, (unsigned)me->rank, 3, gpu->streams[0]);
    CHECK_OK(gpu_sum_run(&sum, gpu->streams[0], NULL));
    gpu_drain(gpu, gpu->streams[0], PROC_PATIENCE_MS);
    gpu_check_group(group);
    gpu_sum_check(gpu, &sum, 3);
    CHECK_OK(trtcoll_plan_release(sum.plan));
    gpu_part(me, gpu);
    trtcoll_ctx_close(ctx);
}

static void run_scene(const struct scene *scene)
{
    struct proc_daemon *daemon;
    struct proc_run *run;
    pid_t executors[2];
    uint64_t began_ns;

    if (!gpu_is_fake())
        skip();
    daemon = proc_daemon_start(&(struct proc_settings){.devices = 2, .communicator_ms = scene->communicator_ms});
    run = proc_run_start(daemon, 2, body, (void *)(uintptr_t)scene);
    proc_run_await_all(run, JOINED);
    assert_int_equal(proc_daemon_executors(daemon, executors, 2), 2);
    write_fault(scene->function, executors[0]);
    began_ns = proc_now_ns();
    proc_run_reach(run, JOINED);
    while (access(mark, F_OK)) {
        assert_true(proc_now_ns() < began_ns + PROC_PATIENCE_MS * 1000000ull);
        proc_nap();
    }
    if (scene->peer_dies) {
        began_ns = proc_now_ns();
        assert_int_equal(kill(executors[1], SIGKILL), 0);
    }
    proc_run_await_all(run, REFUSED);
    assert_true(proc_now_ns() - began_ns <
                ((scene->peer_dies ? 0 : scene->communicator_ms) + CHANCE_MS + proc_allowance_ms()) * 1000000ull);
    assert_true(proc_daemon_logged(daemon, scene->log, PROC_PATIENCE_MS));
    assert_true(proc_daemon_logged(daemon, "exited with status 3", PROC_PATIENCE_MS));
    proc_run_reach(run, REFUSED);
    proc_run_wait(run, 30000);
    proc_daemon_finish(daemon);
}

/* The peer's executor dies during the first sum: what stands still is to be dropped, and is not waited for. */
static void test_peer_dies(void **state)
{
    static const struct scene scene = {.function = "ncclAllReduce",
                                       .communicator_ms = 60000,
                                       .peer_dies = true,
                                       .code = TRTCOLL_EEXECUTOR,
                                       .log = "NCCL, making a communicator that is to be dropped, has not returned"};
    (void)state;
    run_scene(&scene);
}

/* Nobody dies. */
static void test_nobody_comes_back(void **state)
{
    static const struct scene scene = {.function = "ncclCommWindowRegister",
                                       .communicator_ms = 1500,
                                       .code = TRTCOLL_ETIMEOUT,
                                       .log = "NCCL, making a communicator that is to be dropped, has not returned"};
    (void)state;
    run_scene(&scene);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_peer_dies, no_faults, proc_teardown),
        cmocka_unit_test_setup_teardown(test_nobody_comes_back, no_faults, proc_teardown),
    };
    int failed;

    snprintf(faults, sizeof(faults), "/tmp/trtcoll-test-faults-%d", (int)getpid());
    snprintf(mark, sizeof(mark), "%s.1", faults);
    setenv("TRTCOLL_FAKE_FAULTS", faults, 1);
    failed = gpu_main("gpus: executors that stand still", tests, sizeof(tests) / sizeof(tests[0]));
    unlink(faults);
    unlink(mark);
    return failed;
}
