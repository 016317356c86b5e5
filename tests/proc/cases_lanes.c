#include "cases_lanes.h"

#include <stdlib.h>
#include <string.h>

struct sweep {
    unsigned lane, rounds;
    uint64_t seed;
};

static void random_body(struct proc_me *me)
{
    const struct sweep *sweep = me->arg;
    uint64_t random = sweep->seed;
    struct trtcoll_ctx *ctx = proc_open(me, -1);
    struct trtcoll_group *group = proc_group(me, ctx, "sweep");
    for (unsigned round = 0; round < sweep->rounds; round++) {
        proc_reach(me, round);
        case_any(me, group, &random, sweep->lane);
    }
    CHECK_OK(trtcoll_group_leave(group));
    trtcoll_ctx_close(ctx);
}

void lane_random_operations(unsigned lane)
{
    static const int sizes[] = {1, 2, 3, 4, 5, 7, 8, 16};
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    static const unsigned rounds[] = {20, 40, 25, 25, 15, 10, 10, 5};
#else
    static const unsigned rounds[] = {40, 80, 60, 60, 40, 30, 30, 15};
#endif
    struct proc_daemon *daemon = proc_daemon_start(&(struct proc_settings){.devices = 4, .operation_ms = 30000});
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        struct sweep sweep = {lane, rounds[i], 1000 * i + lane};
        proc_run_all(daemon, sizes[i], random_body, &sweep, 60000);
    }
    proc_daemon_finish(daemon);
}

/* Every strategy with every fusion and type, at shapes where implementations change their minds. */
static void matrix_body(struct proc_me *me)
{
    const struct sweep *sweep = me->arg;
    static const unsigned strategies[] = {TRTCOLL_STRATEGY_NCCL,        TRTCOLL_STRATEGY_ONESHOT, TRTCOLL_STRATEGY_TWOSHOT,
                                          TRTCOLL_STRATEGY_MIN_LATENCY, TRTCOLL_STRATEGY_MNNVL,   TRTCOLL_STRATEGY_AUTO};
    static const unsigned fusions[] = {0, 1, 4, 5, 6, 7}, types[] = {TRTCOLL_FP32, TRTCOLL_FP16, TRTCOLL_BF16};
    uint64_t n = (uint64_t)me->nranks, shape = sweep->seed;
    const uint64_t tokens[] = {1, n > 1 ? n - 1 : 1, n, n + 1, 2 * n + 1}, widths[] = {16, 48, 80, 1024, 2880};
    struct trtcoll_ctx *ctx = proc_open(me, -1);
    struct trtcoll_group *group = proc_group(me, ctx, "matrix");
    for (unsigned s = 0; s < 6; s++) {
        for (unsigned f = 0; f < 6; f++) {
            for (unsigned t = 0; t < 3; t++) {
                struct case_all_reduce job = {.lane = sweep->lane, .dtype = types[t], .strategy = strategies[s], .fusion = fusions[f]};
                if ((fusions[f] == 5 || fusions[f] == 7) && types[t] == TRTCOLL_FP32)
                    continue;
                shape++;
                job.tokens = job.max_tokens = tokens[shape % 5];
                job.hidden = widths[shape / 5 % 5];
                job.data = (ref_data)(shape / 3 % 3);
                job.flags = shape % 7 == 0 ? TRTCOLL_BIAS : 0;
                job.seed = shape;
                proc_reach(me, (uint32_t)shape);
                case_all_reduce_run(me, group, &job, 1);
            }
        }
    }
    CHECK_OK(trtcoll_group_leave(group));
    trtcoll_ctx_close(ctx);
}

void lane_every_combination(unsigned lane)
{
    static const int sizes[] = {1, 2, 3, 4, 8};
    struct proc_daemon *daemon = proc_daemon_start(&(struct proc_settings){.devices = 3, .operation_ms = 30000});
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        struct sweep sweep = {lane, 0, 7 * i};
        proc_run_all(daemon, sizes[i], matrix_body, &sweep, 60000);
    }
    proc_daemon_finish(daemon);
}

/* Messages of several chunks and steps, growth by wide rows, small and large runs in turn on one plan and one workspace. */
static void large_body(struct proc_me *me)
{
    const struct sweep *sweep = me->arg;
    struct trtcoll_ctx *ctx = proc_open(me, -1);
    struct trtcoll_group *group = proc_group(me, ctx, "large");
    static const struct {
        unsigned dtype, strategy, fusion;
        uint64_t max_tokens, tokens, hidden;
    } jobs[] = {
        {TRTCOLL_BF16, TRTCOLL_STRATEGY_TWOSHOT, 1, 129, 128, 16384},    {TRTCOLL_FP32, TRTCOLL_STRATEGY_ONESHOT, 0, 300, 300, 4096},
        {TRTCOLL_FP16, TRTCOLL_STRATEGY_MNNVL, 0, 31, 31, 8192},         {TRTCOLL_BF16, TRTCOLL_STRATEGY_NCCL, 7, 129, 129, 7168},
        {TRTCOLL_BF16, TRTCOLL_STRATEGY_MNNVL, 1, 2048, 12, 2880},       {TRTCOLL_FP64, TRTCOLL_STRATEGY_AUTO, 0, 1, 1, 300001},
        {TRTCOLL_BF16, TRTCOLL_STRATEGY_AUTO, 1, 2, 2, 1u << 19},        {TRTCOLL_INT8, TRTCOLL_STRATEGY_NCCL, 0, 3, 2, 1000003},
        {TRTCOLL_BF16, TRTCOLL_STRATEGY_MIN_LATENCY, 6, 200, 129, 2880}, {TRTCOLL_FP32, TRTCOLL_STRATEGY_TWOSHOT, 4, 2, 1, 8},
    };
    for (size_t i = 0; i < sizeof(jobs) / sizeof(jobs[0]); i++) {
        struct case_all_reduce job = {.lane = sweep->lane, .dtype = jobs[i].dtype, .strategy = jobs[i].strategy, .fusion = jobs[i].fusion};
        job.max_tokens = jobs[i].max_tokens;
        job.tokens = jobs[i].tokens;
        job.hidden = jobs[i].hidden;
        job.seed = i;
        proc_reach(me, (uint32_t)i);
        case_all_reduce_run(me, group, &job, 2);
    }
    CHECK_OK(trtcoll_group_leave(group));
    trtcoll_ctx_close(ctx);
}

void lane_large_messages(unsigned lane)
{
    struct proc_daemon *daemon = proc_daemon_start(&(struct proc_settings){.devices = 2, .operation_ms = 60000});
    struct sweep sweep = {lane, 0, 0};
    proc_run_all(daemon, 2, large_body, &sweep, 80000);
    proc_run_all(daemon, 3, large_body, &sweep, 80000);
    proc_daemon_finish(daemon);
}

/* Plans of different kinds open at the same time, run in turn, many times back to back: the buffers of one never show in another. */
static void rotation_body(struct proc_me *me)
{
    const struct sweep *sweep = me->arg;
    enum { PLANS = 4, ROUNDS = 40 };
    static const unsigned types[PLANS] = {TRTCOLL_BF16, TRTCOLL_FP32, TRTCOLL_INT32, TRTCOLL_FP16};
    static const unsigned strategies[PLANS] = {TRTCOLL_STRATEGY_ONESHOT, TRTCOLL_STRATEGY_TWOSHOT, TRTCOLL_STRATEGY_NCCL,
                                               TRTCOLL_STRATEGY_MNNVL};
    struct trtcoll_ctx *ctx = proc_open(me, -1);
    struct trtcoll_group *group = proc_group(me, ctx, "rotation");
    struct trtcoll_plan *plans[PLANS];
    for (unsigned p = 0; p < PLANS; p++) {
        struct trtcoll_all_reduce_desc desc = TRTCOLL_ALL_REDUCE_DESC_INIT;
        desc.dtype = types[p];
        desc.strategy = strategies[p];
        desc.lane = sweep->lane;
        desc.max_tokens = 64;
        desc.hidden = 96;
        CHECK_OK(trtcoll_plan_create_all_reduce(group, &desc, &plans[p]));
    }
    uint64_t random = 5;
    for (unsigned round = 0; round < ROUNDS; round++) {
        unsigned p = (unsigned)(ref_random(&random) % PLANS);
        uint64_t tokens = 1 + ref_random(&random) % 64;
        size_t count = tokens * 96;
        void *in = case_buffer(count * ref_bytes(types[p])), *out = case_buffer(count * ref_bytes(types[p]));
        /* Small whole numbers: exact in every type and order. */
        for (size_t i = 0; i < count; i++)
            ref_set(types[p], in, i, (double)((i + round) % 7 + (size_t)me->rank));
        if (ref_random(&random) % (unsigned)me->nranks == (unsigned)me->rank && round % 5 == 0)
            proc_nap(); /* a delayed rank */
        struct trtcoll_run_args args = TRTCOLL_RUN_ARGS_INIT;
        args.tokens = tokens;
        args.in = in;
        args.out = out;
        case_execute(plans[p], &args, round % 2);
        double ranks = me->nranks, offset = ranks * (ranks - 1) / 2;
        for (size_t i = 0; i < count; i++)
            CHECK_EQ(ref_get(types[p], out, i), (double)((i + round) % 7) * ranks + offset);
        free(in);
        free(out);
    }
    for (unsigned p = 0; p < PLANS; p++)
        CHECK_OK(trtcoll_plan_release(plans[p]));
    CHECK_OK(trtcoll_group_leave(group));
    trtcoll_ctx_close(ctx);
}

void lane_rotation(unsigned lane)
{
    struct proc_daemon *daemon = proc_daemon_start(&(struct proc_settings){.devices = 4});
    struct sweep sweep = {lane, 0, 0};
    proc_run_all(daemon, 4, rotation_body, &sweep, 60000);
    proc_run_all(daemon, 3, rotation_body, &sweep, 60000);
    proc_daemon_finish(daemon);
}

/* The quantised forms with and without the norm output give the same codes and the same residual. */
static void twins_body(struct proc_me *me)
{
    const struct sweep *sweep = me->arg;
    struct trtcoll_ctx *ctx = proc_open(me, -1);
    struct trtcoll_group *group = proc_group(me, ctx, "twins");
    enum { TOKENS = 5, HIDDEN = 160, ELEMENTS = TOKENS * HIDDEN, SCALES = 128 * 12 };
    uint16_t in[ELEMENTS], residual[ELEMENTS], weight[HIDDEN], out[2][ELEMENTS], sum[2][ELEMENTS];
    static const unsigned pairs[2][2] = {{4, 6}, {5, 7}};
    ref_fill(TRTCOLL_BF16, REF_WIDE, (uint64_t)me->rank, in, ELEMENTS);
    ref_fill(TRTCOLL_BF16, REF_SMALL, 77, residual, ELEMENTS);
    ref_fill(TRTCOLL_BF16, REF_SMALL, 78, weight, HIDDEN);
    for (unsigned pair = 0; pair < 2; pair++) {
        uint8_t codes[2][ELEMENTS], scales[2][SCALES];
        float scale = pair ? 500.0f : 0.02f;
        memset(codes, 0, sizeof(codes));
        memset(scales, 0, sizeof(scales));
        for (unsigned form = 0; form < 2; form++) {
            struct trtcoll_all_reduce_desc desc = TRTCOLL_ALL_REDUCE_DESC_INIT;
            struct trtcoll_run_args args = TRTCOLL_RUN_ARGS_INIT;
            desc.fusion = pairs[pair][form];
            desc.lane = sweep->lane;
            desc.max_tokens = TOKENS;
            desc.hidden = HIDDEN;
            args.tokens = TOKENS;
            args.in = in;
            args.out = form ? out[form] : NULL;
            args.residual_in = residual;
            args.residual_out = sum[form];
            args.norm_weight = weight;
            args.scale = &scale;
            args.quant_out = codes[form];
            args.scale_out = pair ? scales[form] : NULL;
            CHECK_OK(trtcoll_all_reduce_fused(group, &desc, &args));
        }
        CHECK_MSG(memcmp(codes[0], codes[1], sizeof(codes[0])) == 0, "codes differ with and without the norm output");
        CHECK_MSG(memcmp(scales[0], scales[1], sizeof(scales[0])) == 0, "block scales differ with and without the norm output");
        CHECK_MSG(memcmp(sum[0], sum[1], sizeof(sum[0])) == 0, "residuals differ");
    }
    CHECK_OK(trtcoll_group_leave(group));
    trtcoll_ctx_close(ctx);
}

void lane_quantised_twins(unsigned lane)
{
    struct proc_daemon *daemon = proc_daemon_start(&(struct proc_settings){.devices = 3});
    struct sweep sweep = {lane, 0, 0};
    proc_run_all(daemon, 3, twins_body, &sweep, 30000);
    proc_daemon_finish(daemon);
}
