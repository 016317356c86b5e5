/* Every operation on GPUs, both lanes, every type, strategy and epilogue, random and adversarial shapes, memory of every kind. */
#include "gpu.h"

#include <stdio.h>
#include <string.h>

struct sweep {
    unsigned lane, rounds;
    uint64_t seed;
};

static bool is_library(unsigned strategy)
{
    return strategy == TRTCOLL_STRATEGY_NCCL || strategy == TRTCOLL_STRATEGY_NCCL_SYMMETRIC;
}

/* Turns what no kernel takes into its neighbour that one does. That the rest is refused is another test. */
static void fit(struct case_all_reduce *job)
{
    bool floating = job->dtype == TRTCOLL_FP32 || job->dtype == TRTCOLL_FP16 || job->dtype == TRTCOLL_BF16;
    uint64_t pack = 16 / ref_bytes(job->dtype);
    bool direct = job->lane == TRTCOLL_LANE_DIRECT;

    if (direct && (!floating || job->redop != TRTCOLL_SUM)) {
        job->dtype = TRTCOLL_BF16;
        job->redop = TRTCOLL_SUM;
        floating = true;
        pack = 8;
    }
    if (direct && is_library(job->strategy))
        job->strategy = TRTCOLL_STRATEGY_ONESHOT;
    if (!direct && (!floating || job->redop != TRTCOLL_SUM))
        job->strategy = TRTCOLL_STRATEGY_NCCL;
    if (is_library(job->strategy) || (!direct && job->strategy == TRTCOLL_STRATEGY_AUTO)) {
        if (!job->fusion && !(job->flags & TRTCOLL_BIAS))
            return; /* any shape */
    }
    job->hidden = (job->hidden + pack - 1) / pack * pack;
}

static void any_operation(struct proc_me *me, struct trtcoll_group *group, uint64_t *random, unsigned lane)
{
    unsigned which = lane == TRTCOLL_LANE_DIRECT ? 5 + (unsigned)(ref_random(random) % 4) : (unsigned)(ref_random(random) % 9);

    if (which == 0) {
        case_all_gather(me, group, random, lane);
    } else if (which == 1) {
        case_reduce_scatter(me, group, random, lane);
    } else if (which == 2) {
        case_all_to_all(me, group, random, lane);
    } else if (which == 3) {
        case_broadcast(me, group, random, lane);
    } else if (which == 4) {
        case_barrier(me, group, random, lane);
    } else if (which == 5) {
        struct case_finalize job = case_finalize_random(random, lane);

        case_finalize_run(me, group, &job, 1 + (unsigned)(ref_random(random) % 3));
    } else {
        struct case_all_reduce job = case_all_reduce_random(random, lane, 40000);

        fit(&job);
        case_all_reduce_run(me, group, &job, 1 + (unsigned)(ref_random(random) % 3));
    }
}

static void random_body(struct proc_me *me)
{
    const struct sweep *sweep = me->arg;
    uint64_t random = sweep->seed;
    struct trtcoll_ctx *ctx = proc_open(me, me->rank);
    struct trtcoll_group *group = proc_group(me, ctx, "sweep");
    struct gpu *gpu = gpu_open(ctx);

    for (unsigned round = 0; round < sweep->rounds; round++) {
        proc_reach(me, round);
        gpu->kind = (gpu_kind)((round + (unsigned)me->rank) % GPU_KINDS);
        any_operation(me, group, &random, sweep->lane);
    }
    gpu_part(me, gpu);
    CHECK_OK(trtcoll_group_leave(group));
    trtcoll_ctx_close(ctx);
}

static void random_operations(unsigned lane)
{
    struct proc_daemon *daemon = proc_daemon_start(&(struct proc_settings){.devices = gpu_count(), .operation_ms = 30000});

    for (unsigned ranks = 1; ranks <= gpu_count() && ranks <= 4; ranks++) {
        struct sweep sweep = {lane, gpu_rounds(150, 30), 100 * ranks + lane};

        proc_run_all(daemon, (int)ranks, random_body, &sweep, 60000);
    }
    proc_daemon_finish(daemon);
}

static void test_random_direct(void **state)
{
    (void)state;
    random_operations(TRTCOLL_LANE_DIRECT);
}

static void test_random_served(void **state)
{
    (void)state;
    random_operations(TRTCOLL_LANE_SERVED);
}

/* ---- every combination ---- */

/* NCCL needs GPUs that map each other for it. */
static bool has_symmetric(struct proc_me *me, struct trtcoll_group *group)
{
    struct trtcoll_all_reduce_desc desc = TRTCOLL_ALL_REDUCE_DESC_INIT;
    struct trtcoll_plan *plan = NULL;
    int code;

    desc.lane = TRTCOLL_LANE_SERVED;
    desc.dtype = TRTCOLL_BF16;
    desc.hidden = 64;
    desc.strategy = TRTCOLL_STRATEGY_NCCL_SYMMETRIC;
    code = trtcoll_plan_create_all_reduce(group, &desc, &plan);
    if (code == TRTCOLL_ENOTSUP && !me->rank)
        printf("  NCCL_SYMMETRIC, %d ranks: left out: %s\n", me->nranks, proc_last_error().text);
    fflush(stdout);
    if (code == TRTCOLL_ENOTSUP)
        return false;
    CHECK_OK(code);
    CHECK_OK(trtcoll_plan_release(plan));
    return true;
}

static void matrix_body(struct proc_me *me)
{
    const struct sweep *sweep = me->arg;
    static const unsigned strategies[] = {
        TRTCOLL_STRATEGY_NCCL,    TRTCOLL_STRATEGY_NCCL_SYMMETRIC, TRTCOLL_STRATEGY_ONESHOT, TRTCOLL_STRATEGY_TWOSHOT,
        TRTCOLL_STRATEGY_MNNVL,   TRTCOLL_STRATEGY_MIN_LATENCY,    TRTCOLL_STRATEGY_AUTO,    TRTCOLL_STRATEGY_UB,
        TRTCOLL_STRATEGY_SYMM_MEM};
    static const unsigned fusions[] = {0, 1, 4, 5, 6, 7}, types[] = {TRTCOLL_FP32, TRTCOLL_FP16, TRTCOLL_BF16};
    uint64_t n = (uint64_t)me->nranks, shape = sweep->seed;
    const uint64_t tokens[] = {1, n > 1 ? n - 1 : 1, n, n + 1, 2 * n + 1, 128, 129}, widths[] = {16, 48, 80, 1024, 2880, 7176};
    struct trtcoll_ctx *ctx = proc_open(me, me->rank);
    struct trtcoll_group *group = proc_group(me, ctx, "matrix");
    struct gpu *gpu = gpu_open(ctx);
    bool symmetric = sweep->lane == TRTCOLL_LANE_SERVED && has_symmetric(me, group);

    for (unsigned s = 0; s < sizeof(strategies) / sizeof(strategies[0]); s++) {
        if (sweep->lane == TRTCOLL_LANE_DIRECT && is_library(strategies[s]))
            continue;
        if (strategies[s] == TRTCOLL_STRATEGY_NCCL_SYMMETRIC && !symmetric)
            continue;
        for (unsigned f = 0; f < 6; f++) {
            for (unsigned t = 0; t < 3; t++) {
                struct case_all_reduce job = {.lane = sweep->lane, .dtype = types[t], .strategy = strategies[s], .fusion = fusions[f]};
                bool nvfp4 = fusions[f] == 5 || fusions[f] == 7;

                if (nvfp4 && types[t] == TRTCOLL_FP32)
                    continue;
                shape++;
                job.tokens = job.max_tokens = tokens[shape % 7];
                job.hidden = widths[shape / 7 % (nvfp4 ? 5 : 6)];
                if (gpu_is_fake() && job.tokens > 16)
                    job.hidden = 48;
                job.data = (ref_data)(shape / 3 % 3);
                job.flags = shape % 7 == 0 ? TRTCOLL_BIAS : 0;
                job.seed = shape;
                gpu->kind = (gpu_kind)(shape % GPU_KINDS);
                proc_reach(me, (uint32_t)shape);
                case_all_reduce_run(me, group, &job, 1);
            }
        }
    }
    gpu_part(me, gpu);
    CHECK_OK(trtcoll_group_leave(group));
    trtcoll_ctx_close(ctx);
}

static void every_combination(unsigned lane)
{
    struct proc_daemon *daemon = proc_daemon_start(&(struct proc_settings){.devices = gpu_count(), .operation_ms = 30000});

    for (unsigned ranks = lane == TRTCOLL_LANE_DIRECT ? 1 : 2; ranks <= gpu_count() && ranks <= 4; ranks++) {
        struct sweep sweep = {lane, 0, 7 * ranks};

        proc_run_all(daemon, (int)ranks, matrix_body, &sweep, 60000);
    }
    proc_daemon_finish(daemon);
}

static void test_every_combination_direct(void **state)
{
    (void)state;
    every_combination(TRTCOLL_LANE_DIRECT);
}

static void test_every_combination_served(void **state)
{
    (void)state;
    every_combination(TRTCOLL_LANE_SERVED);
}

/* ---- finalize ---- */

static void finalize_body(struct proc_me *me)
{
    const struct sweep *sweep = me->arg;
    static const uint64_t tokens[] = {1, 2, 3, 5, 8, 129}, widths[] = {8, 48, 2880, 7176};
    struct trtcoll_ctx *ctx = proc_open(me, me->rank);
    struct trtcoll_group *group = proc_group(me, ctx, "finalize");
    struct gpu *gpu = gpu_open(ctx);

    for (unsigned i = 0; i < 2 * 6 * 4; i++) {
        struct case_finalize job = {.dtype = i % 3, .lane = sweep->lane, .tokens = tokens[i / 2 % 6], .hidden = widths[i / 12], .seed = i};

        job.max_tokens = job.tokens + i % 2;
        job.force = i % 2;
        job.in_place = i % 5 == 0;
        gpu->kind = (gpu_kind)(i % GPU_KINDS);
        proc_reach(me, i);
        case_finalize_run(me, group, &job, 2);
        if (i % 8 == 0 && sweep->lane == TRTCOLL_LANE_DIRECT) /* between runs of the other kernels */
            proc_sum(group, sweep->lane, 1000 + i);
    }
    CHECK_EQ(trtcoll_userbuffers_allreduce_finalize(group, NULL, NULL, 0, 8, TRTCOLL_BF16, 1), TRTCOLL_EINVAL);
    gpu_part(me, gpu);
    CHECK_OK(trtcoll_group_leave(group));
    trtcoll_ctx_close(ctx);
}

static void test_finalize(void **state)
{
    struct proc_daemon *daemon = proc_daemon_start(&(struct proc_settings){.devices = gpu_count(), .operation_ms = 30000});

    (void)state;
    for (unsigned ranks = 1; ranks <= gpu_count() && ranks <= 4; ranks++) {
        struct sweep direct = {TRTCOLL_LANE_DIRECT, 0, 0}, served = {TRTCOLL_LANE_SERVED, 0, 0};

        proc_run_all(daemon, (int)ranks, finalize_body, &direct, 60000);
        proc_run_all(daemon, (int)ranks, finalize_body, &served, 60000);
    }
    proc_daemon_finish(daemon);
}

/* ---- large messages, growth ---- */

static void large_body(struct proc_me *me)
{
    static const struct {
        unsigned dtype, strategy, fusion;
        uint64_t max_tokens, tokens, hidden;
    } jobs[] = {
        {TRTCOLL_BF16, TRTCOLL_STRATEGY_AUTO, 1, 8, 8, 4096},
        {TRTCOLL_BF16, TRTCOLL_STRATEGY_TWOSHOT, 1, 129, 128, 16384},
        {TRTCOLL_FP32, TRTCOLL_STRATEGY_ONESHOT, 0, 300, 300, 4096},
        {TRTCOLL_FP16, TRTCOLL_STRATEGY_MNNVL, 0, 31, 31, 8192},
        {TRTCOLL_BF16, TRTCOLL_STRATEGY_AUTO, 7, 129, 129, 7168},
        {TRTCOLL_BF16, TRTCOLL_STRATEGY_MNNVL, 1, 2048, 12, 2880},
        {TRTCOLL_BF16, TRTCOLL_STRATEGY_MIN_LATENCY, 6, 200, 129, 2880},
        {TRTCOLL_FP32, TRTCOLL_STRATEGY_TWOSHOT, 4, 2, 1, 8},
    };
    const struct sweep *sweep = me->arg;
    struct trtcoll_ctx *ctx = proc_open(me, me->rank);
    struct trtcoll_group *group = proc_group(me, ctx, "large");
    struct gpu *gpu = gpu_open(ctx);

    for (size_t i = 0; i < sizeof(jobs) / sizeof(jobs[0]); i++) {
        struct case_all_reduce job = {.lane = sweep->lane, .dtype = jobs[i].dtype, .strategy = jobs[i].strategy, .fusion = jobs[i].fusion};

        job.max_tokens = jobs[i].max_tokens;
        job.tokens = jobs[i].tokens;
        job.hidden = jobs[i].hidden;
        job.seed = i;
        gpu->kind = (gpu_kind)(i % GPU_KINDS);
        proc_reach(me, (uint32_t)i);
        case_all_reduce_run(me, group, &job, 2);
    }
    gpu_part(me, gpu);
    trtcoll_ctx_close(ctx);
}

static void test_large_messages(void **state)
{
    struct proc_daemon *daemon = proc_daemon_start(&(struct proc_settings){.devices = 2, .operation_ms = 60000});
    struct sweep direct = {TRTCOLL_LANE_DIRECT, 0, 0}, served = {TRTCOLL_LANE_SERVED, 0, 0};

    (void)state;
    proc_run_all(daemon, 2, large_body, &direct, 80000);
    proc_run_all(daemon, 2, large_body, &served, 80000);
    proc_daemon_finish(daemon);
}

/* ---- refusals ---- */

static void refused_body(struct proc_me *me)
{
    struct trtcoll_ctx *ctx = proc_open(me, me->rank);
    struct trtcoll_group *group = proc_group(me, ctx, "refused");
    struct trtcoll_all_reduce_desc desc = TRTCOLL_ALL_REDUCE_DESC_INIT;
    struct trtcoll_barrier_desc barrier = TRTCOLL_BARRIER_DESC_INIT;
    struct trtcoll_plan *plan = NULL;
    struct gpu *gpu = gpu_open(ctx);

    desc.lane = TRTCOLL_LANE_DIRECT;
    desc.dtype = TRTCOLL_INT32;
    desc.hidden = 64;
    CHECK_CODE(trtcoll_plan_create_all_reduce(group, &desc, &plan), TRTCOLL_ENOTSUP);
    desc.dtype = TRTCOLL_BF16;
    desc.hidden = 9;
    CHECK_CODE(trtcoll_plan_create_all_reduce(group, &desc, &plan), TRTCOLL_ENOTSUP);
    desc.hidden = 64;
    desc.strategy = TRTCOLL_STRATEGY_NCCL;
    CHECK_CODE(trtcoll_plan_create_all_reduce(group, &desc, &plan), TRTCOLL_ENOTSUP);
    barrier.lane = TRTCOLL_LANE_DIRECT;
    CHECK_CODE(trtcoll_plan_create_barrier(group, &barrier, &plan), TRTCOLL_ENOTSUP);
    desc.strategy = TRTCOLL_STRATEGY_LOWPRECISION;
    desc.lane = TRTCOLL_LANE_SERVED;
    CHECK_CODE(trtcoll_plan_create_all_reduce(group, &desc, &plan), TRTCOLL_ENOTSUP);
    CHECK(plan == NULL);
    proc_sum(group, TRTCOLL_LANE_SERVED, 1001);
    proc_sum(group, TRTCOLL_LANE_DIRECT, 1000);
    gpu_part(me, gpu);
    trtcoll_ctx_close(ctx);
}

static void test_refusals(void **state)
{
    struct proc_daemon *daemon = proc_daemon_start(&(struct proc_settings){.devices = 2});

    (void)state;
    proc_run_all(daemon, 2, refused_body, NULL, 20000);
    proc_daemon_finish(daemon);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_refusals, proc_teardown),
        cmocka_unit_test_teardown(test_every_combination_direct, proc_teardown),
        cmocka_unit_test_teardown(test_every_combination_served, proc_teardown),
        cmocka_unit_test_teardown(test_finalize, proc_teardown),
        cmocka_unit_test_teardown(test_large_messages, proc_teardown),
        cmocka_unit_test_teardown(test_random_direct, proc_teardown),
        cmocka_unit_test_teardown(test_random_served, proc_teardown),
    };

    return gpu_main("operations on GPUs", tests, sizeof(tests) / sizeof(tests[0]));
}
