/* Memory on GPUs: what is zero copy is so, what is not is staged, and both say so; handing memory in and taking it back; seeing it all. */
#include "gpu.h"

#include "ctl_case.h"

#include <stdlib.h>
#include <string.h>

enum { COUNT = 1 << 18, RUNS = 3 };

static const char *const names[GPU_KINDS] = {"allocated", "registered, of cuMemCreate", "registered, of cuMemAlloc", "unknown"};

static uint64_t staged_runs(struct trtcoll_plan *plan)
{
    struct trtcoll_plan_info info = {.size = sizeof(info)};

    CHECK_OK(trtcoll_plan_info(plan, &info));
    return info.staged_runs;
}

/* ---- kinds ---- */

static void kinds_body(struct proc_me *me)
{
    struct trtcoll_ctx *ctx = proc_open(me, me->rank);
    struct trtcoll_group *group = proc_group(me, ctx, "kinds");
    struct gpu *gpu = gpu_open(ctx);

    for (unsigned in = 0; in < GPU_KINDS; in++) {
        for (unsigned out = 0; out < GPU_KINDS; out++) {
            struct gpu_sum sum;
            bool known = in != GPU_STRANGE && out != GPU_STRANGE;

            gpu_reset(gpu);
            gpu->kind = (gpu_kind)in;
            gpu_take(gpu, 3 << 19); /* what comes next lies across two of the pieces of GPU_VMM */
            sum = gpu_sum_make(gpu, group, TRTCOLL_LANE_SERVED, 0, COUNT);
            gpu->kind = (gpu_kind)out;
            sum.out = gpu_take(gpu, COUNT * sizeof(float));
            for (unsigned round = 0; round < RUNS; round++) {
                CUstream stream = gpu->streams[round % GPU_STREAMS];

                gpu_sum_fill(gpu, &sum, (unsigned)me->rank, round, stream);
                CHECK_OK(gpu_sum_run(&sum, stream, NULL));
                gpu_drain(gpu, stream, PROC_PATIENCE_MS);
                gpu_sum_check(gpu, &sum, round);
            }
            CHECK_MSG(staged_runs(sum.plan) == (known ? 0 : RUNS), "from memory %s to memory %s: %llu of %d runs were staged", names[in],
                      names[out], (unsigned long long)staged_runs(sum.plan), RUNS);
            CHECK_OK(trtcoll_plan_release(sum.plan));
        }
    }
    gpu_part(me, gpu);
    trtcoll_ctx_close(ctx);
}

static void test_kinds(void **state)
{
    struct proc_daemon *daemon = proc_daemon_start(&(struct proc_settings){.devices = 2});

    (void)state;
    proc_run_all(daemon, 2, kinds_body, NULL, 30000);
    proc_daemon_finish(daemon);
}

/* ---- handing in, taking back ---- */

static void life_body(struct proc_me *me)
{
    struct trtcoll_ctx *ctx = proc_open(me, me->rank);
    struct trtcoll_group *group = proc_group(me, ctx, "life");
    struct gpu *gpu = gpu_open(ctx);
    CUstream stream = gpu->streams[0];
    CUdeviceptr plain, part;
    unsigned char bytes[4096], zeros[4096] = {0};
    struct gpu_sum sum;
    void *pointer;

    CHECK_CODE(trtcoll_register(ctx, bytes, sizeof(bytes), -1), TRTCOLL_EINVAL);
    CHECK_CU(gpu->cuda->cuMemAlloc(&plain, 8 << 20));
    part = plain + (3 << 20); /* a part of an allocation */
    CHECK_CODE(trtcoll_register(ctx, (void *)(uintptr_t)part, 6 << 20, -1), TRTCOLL_EINVAL);
    CHECK_OK(trtcoll_register(ctx, (void *)(uintptr_t)part, 4 << 20, -1));
    CHECK_CODE(trtcoll_register(ctx, (void *)(uintptr_t)(part + 4096), 4096, -1), TRTCOLL_EEXIST);
    CHECK_OK(trtcoll_alloc(ctx, 1 << 20, &pointer));
    CHECK_CU(gpu->cuda->cuMemcpyDtoH(bytes, (CUdeviceptr)(uintptr_t)pointer + (1 << 20) - sizeof(bytes), sizeof(bytes)));
    CHECK_MSG(memcmp(bytes, zeros, sizeof(zeros)) == 0, "new memory is not zero");

    sum = gpu_sum_make(gpu, group, TRTCOLL_LANE_SERVED, 0, COUNT / 2);
    sum.in = part + 4096;
    sum.out = (CUdeviceptr)(uintptr_t)pointer;
    gpu_block(gpu, stream);
    gpu_sum_fill(gpu, &sum, (unsigned)me->rank, 5, stream);
    CHECK_OK(gpu_sum_run(&sum, stream, NULL));
    CHECK_CODE(trtcoll_unregister(ctx, (void *)(uintptr_t)part), TRTCOLL_EBUSY);
    CHECK_CODE(trtcoll_free(ctx, pointer), TRTCOLL_EBUSY);
    gpu_release(gpu);
    gpu_drain(gpu, stream, PROC_PATIENCE_MS);
    gpu_sum_check(gpu, &sum, 5);
    CHECK_EQ(staged_runs(sum.plan), 0);

    proc_barrier(me);
    uint64_t end = proc_now_ns() + PROC_PATIENCE_MS * 1000000ull;
    int code;
    while ((code = trtcoll_unregister(ctx, (void *)(uintptr_t)part)) == TRTCOLL_EBUSY && proc_now_ns() < end)
        proc_nap(); /* the completion comes a little after the stream has passed */
    CHECK_OK(code);
    CHECK_OK(trtcoll_free(ctx, pointer));
    CHECK_CODE(trtcoll_unregister(ctx, (void *)(uintptr_t)part), TRTCOLL_EINVAL);
    CHECK_CU(gpu->cuda->cuMemFree(plain));
    CHECK_OK(trtcoll_plan_release(sum.plan));
    gpu_part(me, gpu);
    trtcoll_ctx_close(ctx);
}

/* The executors are left with no more than they had: handles of memory that came and went. */
static void test_life(void **state)
{
    struct proc_daemon *daemon = proc_daemon_start(&(struct proc_settings){.devices = 2});
    struct proc_census first[2], last[2];
    pid_t executors[2];

    (void)state;
    for (unsigned round = 0; round < gpu_rounds(6, 4); round++) {
        proc_run_all(daemon, 2, life_body, NULL, 30000);
        proc_daemon_settled(daemon);
        assert_int_equal(proc_daemon_executors(daemon, executors, 2), 2);
        for (unsigned i = 0; i < 2; i++) {
            /* The last reader of a membership goes a moment after the daemon has settled. */
            uint64_t end = proc_now_ns() + PROC_PATIENCE_MS / 2 * 1000000ull;
            do {
                assert_true(proc_census_take(executors[i], &last[i]));
                proc_nap();
            } while (round > 1 && last[i].fds > first[i].fds && proc_now_ns() < end);
            if (round == 1)
                first[i] = last[i];
            if (round > 1 && last[i].fds > first[i].fds)
                fail_msg("executor %u has %u descriptors after round %u, and had %u after the second", i, last[i].fds, round + 1,
                         first[i].fds);
        }
    }
    proc_daemon_finish(daemon);
}

/* ---- seeing it ---- */

/* Two groups that NCCL serves, and one that has no use for it. */
static void seen_body(struct proc_me *me)
{
    struct trtcoll_ctx *ctx = proc_open(me, me->rank);
    struct trtcoll_group *first = proc_group(me, ctx, "first"), *second = proc_group(me, ctx, "second");
    struct trtcoll_group *direct = proc_group(me, ctx, "direct");
    struct gpu *gpu = gpu_open(ctx);

    gpu_sum_make(gpu, first, TRTCOLL_LANE_SERVED, 0, COUNT);
    gpu_sum_make(gpu, second, TRTCOLL_LANE_SERVED, 0, COUNT);
    gpu_sum_make(gpu, direct, TRTCOLL_LANE_DIRECT, 0, COUNT);
    proc_reach(me, 1);
    proc_await_parent(me, 1);
    CHECK_OK(trtcoll_group_leave(second));
    proc_reach(me, 2);
    proc_await_parent(me, 2);
    gpu_part(me, gpu);
    trtcoll_ctx_close(ctx);
}

static int unset_mps(void **state)
{
    unsetenv("TRTCOLL_FAKE_MPS");
    return proc_teardown(state);
}

/* `memory` says what each group has taken, and counts once what groups share. */
static void test_seen(void **state)
{
    struct proc_daemon *daemon;
    struct proc_run *run;
    bool mps = gpu_is_fake() || gpu_has_mps();

    (void)state;
    if (gpu_is_fake())
        setenv("TRTCOLL_FAKE_MPS", "1", 1);
    daemon = proc_daemon_start(&(struct proc_settings){.devices = 2});
    run = proc_run_start(daemon, 2, seen_body, NULL);
    proc_run_await_all(run, 1);
    until(daemon, "memory", EXIT_OK, "  by 2\n");
    shows("taken by NCCL communicators\n");
    shows(mps ? "  yes  2." : "  no   2.");
    json(daemon, "memory", "[(c[\"users\"], c[\"bytes\"] > 0) for c in d[\"communicators\"]] == [(2, True)]");
    json(daemon, "memory",
         "{g[\"name\"]: g[\"communicator\"] for g in d[\"groups\"]} == "
         "{\"first\": d[\"communicators\"][0][\"communicator\"], \"second\": d[\"communicators\"][0][\"communicator\"], \"direct\": None}");
    json(daemon, "memory", "d[\"communicators_bytes\"] == 2 * d[\"communicators\"][0][\"bytes\"]"); /* two GPUs */
    json(daemon, "memory",
         mps ? "[(x[\"gpu\"][\"mps\"], x[\"gpu\"][\"nccl\"] > 20000) for x in d[\"devices\"]] == [(True, True)] * 2"
             : "[(x[\"gpu\"][\"mps\"], x[\"gpu\"][\"nccl\"] > 20000) for x in d[\"devices\"]] == [(False, True)] * 2");
    proc_run_reach(run, 1);
    proc_run_await_all(run, 2);
    until(daemon, "memory --json", EXIT_OK, "\"users\": 1,");
    ctl(daemon, "memory", EXIT_OK);
    shows("NCCL/GPU\n"); /* nobody shares it: nothing stands behind */
    proc_run_reach(run, 2);
    proc_run_wait(run, 20000);
    proc_daemon_finish(daemon);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_kinds, proc_teardown),
        cmocka_unit_test_teardown(test_life, proc_teardown),
        cmocka_unit_test_teardown(test_seen, unset_mps),
    };

    return gpu_main("memory of GPUs", tests, sizeof(tests) / sizeof(tests[0]));
}
