/*
 * Ranks that were given different parts of their GPUs, and executors that were: kernels are launched alike on all of them, so they meet,
 * and norms have the same bits. On real GPUs this needs MPS, which can give clients parts (tests/gpu/run-all --mps); executors only on the
 * fake driver.
 */
#include "gpu.h"

#include "ctl_case.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* How many ranks there are, and what the odd one of them sees of its GPU. */
struct shares {
    unsigned lane, ranks, odd;
    const char *multiprocessors, *percentage;
};

enum { EXPLAINED = 100 }; /* step: all runs are over, the group is still there */

static void take_share(const struct shares *shares)
{
    if (gpu_is_fake())
        setenv("TRTCOLL_FAKE_MULTIPROCESSORS", shares->multiprocessors, 1);
    else
        setenv("CUDA_MPS_ACTIVE_THREAD_PERCENTAGE", shares->percentage, 1);
}

/* What the plan says of itself. */
static void check_reason(struct trtcoll_group *group, const struct shares *shares)
{
    struct trtcoll_all_reduce_desc desc = TRTCOLL_ALL_REDUCE_DESC_INIT;
    struct trtcoll_plan_info info = {.size = sizeof(info)};
    struct trtcoll_plan *plan;
    char wanted[64];

    desc.lane = shares->lane;
    desc.dtype = TRTCOLL_BF16;
    desc.strategy = TRTCOLL_STRATEGY_TWOSHOT;
    desc.hidden = 1024;
    CHECK_OK(trtcoll_plan_create_all_reduce(group, &desc, &plan));
    CHECK_OK(trtcoll_plan_info(plan, &info));
    if (gpu_is_fake())
        snprintf(wanted, sizeof(wanted), "; grids for %s multiprocessors: ", shares->multiprocessors);
    else
        snprintf(wanted, sizeof(wanted), "; grids for ");
    CHECK_MSG(strstr(info.reason, wanted) != NULL, "\"%s\" is not in \"%s\"", wanted, info.reason);
    snprintf(wanted, sizeof(wanted), "rank %u (", shares->odd);
    CHECK_MSG(strstr(info.reason, wanted) != NULL, "\"%s\" is not in \"%s\"", wanted, info.reason);
    CHECK_OK(trtcoll_plan_release(plan));
}

static void share_body(struct proc_me *me)
{
    static const struct {
        unsigned dtype, strategy, fusion;
        uint64_t tokens, hidden;
    } jobs[] = {
        {TRTCOLL_BF16, TRTCOLL_STRATEGY_ONESHOT, 0, 16, 1024},  {TRTCOLL_FP32, TRTCOLL_STRATEGY_ONESHOT, 0, 300, 4096},
        {TRTCOLL_BF16, TRTCOLL_STRATEGY_ONESHOT, 1, 3, 8192},   {TRTCOLL_FP16, TRTCOLL_STRATEGY_ONESHOT, 4, 129, 2880},
        {TRTCOLL_BF16, TRTCOLL_STRATEGY_TWOSHOT, 0, 16, 1024},  {TRTCOLL_BF16, TRTCOLL_STRATEGY_TWOSHOT, 0, 1300, 4096},
        {TRTCOLL_BF16, TRTCOLL_STRATEGY_TWOSHOT, 1, 5, 8192},   {TRTCOLL_FP32, TRTCOLL_STRATEGY_TWOSHOT, 4, 129, 4096},
        {TRTCOLL_BF16, TRTCOLL_STRATEGY_TWOSHOT, 1, 64, 16384}, {TRTCOLL_BF16, TRTCOLL_STRATEGY_MNNVL, 1, 129, 2880},
    };
    const struct shares *shares = me->arg;

    if (shares->lane == TRTCOLL_LANE_DIRECT && me->rank == (int)shares->odd)
        take_share(shares);
    struct trtcoll_ctx *ctx = proc_open(me, me->rank);
    struct trtcoll_group *group = proc_group(me, ctx, "shares");
    struct gpu *gpu = gpu_open(ctx);

    check_reason(group, shares);
    for (size_t i = 0; i < sizeof(jobs) / sizeof(jobs[0]); i++) {
        struct case_all_reduce job = {.lane = shares->lane, .dtype = jobs[i].dtype, .strategy = jobs[i].strategy, .fusion = jobs[i].fusion};

        job.tokens = job.max_tokens = jobs[i].tokens;
        job.hidden = jobs[i].hidden;
        job.seed = i;
        proc_reach(me, (uint32_t)i);
        case_all_reduce_run(me, group, &job, gpu_rounds(2, 1));
    }
    gpu_check_group(group);
    proc_reach(me, EXPLAINED);
    proc_await_parent(me, EXPLAINED);
    gpu_part(me, gpu);
    trtcoll_ctx_close(ctx);
}

static void run(struct shares *shares)
{
    struct proc_daemon *daemon = proc_daemon_start(&(struct proc_settings){.devices = shares->ranks, .operation_ms = 20000});
    struct proc_run *ranks = proc_run_start(daemon, (int)shares->ranks, share_body, shares);
    char wanted[96];

    proc_run_await_all(ranks, EXPLAINED);
    snprintf(wanted, sizeof(wanted), "\"; grids for \" in d[\"answer\"][\"why\"] and \"rank %u (\" in d[\"answer\"][\"why\"]", shares->odd);
    json(daemon,
         shares->lane == TRTCOLL_LANE_DIRECT ? "explain all-reduce 16x1024 --group shares --lane direct"
                                             : "explain all-reduce 16x1024 --group shares --lane served",
         wanted);
    proc_run_reach(ranks, EXPLAINED);
    proc_run_wait(ranks, 60000);
    proc_daemon_finish(daemon);
}

static void test_clients(void **state)
{
    struct shares half = {TRTCOLL_LANE_DIRECT, 2, 1, "66", "50"}, few = {TRTCOLL_LANE_DIRECT, 2, 0, "3", "3"};
    struct shares of_four = {TRTCOLL_LANE_DIRECT, 4, 2, "14", "10"};

    (void)state;
    if (!gpu_is_fake() && !gpu_has_mps())
        skip();
    run(&half);
    run(&few);
    if (gpu_count() >= 4)
        run(&of_four);
}

static int unset_share(void **state)
{
    unsetenv("TRTCOLL_FAKE_MULTIPROCESSORS");
    return proc_teardown(state);
}

static void test_executors(void **state)
{
    struct shares half = {TRTCOLL_LANE_SERVED, 2, 1, "66", NULL}, of_four = {TRTCOLL_LANE_SERVED, 4, 2, "14", NULL};

    (void)state;
    if (!gpu_is_fake())
        skip();
    setenv("TRTCOLL_FAKE_MULTIPROCESSORS", "132,66", 1);
    run(&half);
    setenv("TRTCOLL_FAKE_MULTIPROCESSORS", "132,108,14,132", 1);
    run(&of_four);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_clients, proc_teardown),
        cmocka_unit_test_teardown(test_executors, unset_share),
    };

    return gpu_main("shares of GPUs", tests, sizeof(tests) / sizeof(tests[0]));
}
