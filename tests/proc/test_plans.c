/* Plans: agreement, growth, lists of arguments, release and making again, refusals. */
#include "cases.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct proc_daemon *start(void)
{
    return proc_daemon_start(&(struct proc_settings){.devices = 4});
}

/* ---- agreement ---- */

struct change {
    const char *field;
    uint64_t was, is;
    const char *said; /* of rank 2 */
    void (*apply)(struct trtcoll_all_reduce_desc *desc);
};

static void other_dtype(struct trtcoll_all_reduce_desc *desc)
{
    desc->dtype = TRTCOLL_FP16;
}
static void other_redop(struct trtcoll_all_reduce_desc *desc)
{
    desc->redop = TRTCOLL_MAX;
}
static void other_fusion(struct trtcoll_all_reduce_desc *desc)
{
    desc->fusion = TRTCOLL_FUSION_RESIDUAL_RMS_NORM;
}
static void other_strategy(struct trtcoll_all_reduce_desc *desc)
{
    desc->strategy = TRTCOLL_STRATEGY_TWOSHOT;
}
static void other_lane(struct trtcoll_all_reduce_desc *desc)
{
    desc->lane = TRTCOLL_LANE_SERVED;
}
static void other_flags(struct trtcoll_all_reduce_desc *desc)
{
    desc->flags = TRTCOLL_BIAS;
}
static void other_hidden(struct trtcoll_all_reduce_desc *desc)
{
    desc->hidden = 1032;
}
static void other_tokens(struct trtcoll_all_reduce_desc *desc)
{
    desc->max_tokens = 17;
}

static const struct change changes[] = {
    {"dtype", TRTCOLL_BF16, TRTCOLL_FP16, "fp16 on rank 2", other_dtype},
    {"redop", TRTCOLL_SUM, TRTCOLL_MAX, "max on rank 2", other_redop},
    {"fusion", 0, TRTCOLL_FUSION_RESIDUAL_RMS_NORM, "residual-rms-norm on rank 2", other_fusion},
    {"strategy", TRTCOLL_STRATEGY_ONESHOT, TRTCOLL_STRATEGY_TWOSHOT, "twoshot on rank 2", other_strategy},
    {"lane", TRTCOLL_LANE_DIRECT, TRTCOLL_LANE_SERVED, "served on rank 2", other_lane},
    {"flags", 0, TRTCOLL_BIAS, "2 on rank 2", other_flags},
    {"hidden", 1024, 1032, "1032 on rank 2", other_hidden},
    {"max_tokens", 16, 17, "17 on rank 2", other_tokens},
};

/* For every field rank 2 of 4 deviates. Everybody learns whom, what and both values; then a plan on which they agree works. */
static void mismatch_body(struct proc_me *me)
{
    struct trtcoll_ctx *ctx = proc_open(me, -1);
    struct trtcoll_group *group = proc_group(me, ctx, "mismatch");
    for (size_t i = 0; i < sizeof(changes) / sizeof(changes[0]); i++) {
        const struct change *change = &changes[i];
        struct trtcoll_all_reduce_desc desc = TRTCOLL_ALL_REDUCE_DESC_INIT;
        struct trtcoll_plan *plan = NULL;
        desc.strategy = TRTCOLL_STRATEGY_ONESHOT;
        desc.lane = TRTCOLL_LANE_DIRECT;
        desc.hidden = 1024;
        desc.max_tokens = 16;
        if (me->rank == 2)
            change->apply(&desc);
        uint64_t begin = proc_now_ns();
        int code = trtcoll_plan_create_all_reduce(group, &desc, &plan);
        CHECK_MSG(code == TRTCOLL_EMISMATCH, "%s: %s", change->field, trtcoll_error_name(code));
        CHECK(plan == NULL);
        CHECK_MSG((proc_now_ns() - begin) / 1000000 < PROC_PATIENCE_MS / 4, "%s: refused late", change->field);
        struct trtcoll_error error = proc_last_error();
        CHECK_EQ(error.code, TRTCOLL_EMISMATCH);
        CHECK_MSG(strcmp(error.field, change->field) == 0, "field '%s' instead of '%s'", error.field, change->field);
        CHECK_EQ(error.mine, me->rank == 2 ? change->is : change->was);
        CHECK_EQ(error.theirs, me->rank == 2 ? change->was : change->is);
        if (me->rank == 2)
            CHECK_MSG(error.rank < 4 && error.rank != 2, "rank %d is blamed towards rank 2", (int)error.rank);
        else
            CHECK_EQ(error.rank, 2);
        CHECK_MSG(strstr(error.text, change->said), "'%s' does not say '%s'", error.text, change->said);
        CHECK_EQ(case_group_info(group).state, TRTCOLL_GROUP_READY);
    }
    proc_sum(group, TRTCOLL_LANE_DIRECT, 100);
    proc_sum(group, TRTCOLL_LANE_SERVED, 100);
    trtcoll_ctx_close(ctx);
}

static void test_mismatch(void **state)
{
    (void)state;
    struct proc_daemon *daemon = start();
    proc_run_all(daemon, 4, mismatch_body, NULL, 30000);
    proc_daemon_finish(daemon);
}

/* Different operations, shapes of lists, sizes and roots. */
static void mismatch_lists_body(struct proc_me *me)
{
    bool odd = me->rank == 1;
    struct trtcoll_ctx *ctx = proc_open(me, -1);
    struct trtcoll_group *group = proc_group(me, ctx, "lists");
    struct trtcoll_tensor tensors[2] = {{.present = 1, .dtype = TRTCOLL_BF16, .ndim = 2, .shape = {6, 8}},
                                        {.present = 1, .dtype = TRTCOLL_FP32, .ndim = 1, .shape = {6}}};
    struct trtcoll_gather_desc gather = TRTCOLL_GATHER_DESC_INIT;
    struct trtcoll_barrier_desc barrier = TRTCOLL_BARRIER_DESC_INIT;
    struct trtcoll_broadcast_desc broadcast = TRTCOLL_BROADCAST_DESC_INIT;
    struct trtcoll_plan *plan = NULL;
    gather.tensors = tensors;
    gather.tensor_count = 2;
    broadcast.count = 10;

    CHECK_CODE(odd ? trtcoll_plan_create_barrier(group, &barrier, &plan) : trtcoll_plan_create_all_gather(group, &gather, &plan),
               TRTCOLL_EMISMATCH);
    CHECK(strcmp(proc_last_error().field, "op") == 0);
    CHECK_CODE(odd ? trtcoll_plan_create_reduce_scatter(group, &gather, &plan) : trtcoll_plan_create_all_gather(group, &gather, &plan),
               TRTCOLL_EMISMATCH);
    gather.tensor_count = odd ? 1 : 2;
    CHECK_CODE(trtcoll_plan_create_all_gather(group, &gather, &plan), TRTCOLL_EMISMATCH);
    CHECK(strcmp(proc_last_error().field, "tensor_count") == 0);
    gather.tensor_count = 2;
    tensors[1].dtype = odd ? TRTCOLL_INT32 : TRTCOLL_FP32;
    CHECK_CODE(trtcoll_plan_create_all_gather(group, &gather, &plan), TRTCOLL_EMISMATCH);
    CHECK(strcmp(proc_last_error().field, "tensors[1].dtype") == 0);
    tensors[1].dtype = TRTCOLL_FP32;
    tensors[0].shape[1] = odd ? 9 : 8;
    CHECK_CODE(trtcoll_plan_create_all_gather(group, &gather, &plan), TRTCOLL_EMISMATCH);
    CHECK(strcmp(proc_last_error().field, "tensors[0].inner") == 0);
    CHECK_EQ(proc_last_error().mine, odd ? 9 : 8);
    CHECK_EQ(proc_last_error().theirs, odd ? 8 : 9);
    tensors[0].shape[1] = 8;
    broadcast.root = odd;
    CHECK_CODE(trtcoll_plan_create_broadcast(group, &broadcast, &plan), TRTCOLL_EMISMATCH);
    CHECK(strcmp(proc_last_error().field, "root") == 0);
    CHECK(plan == NULL);
    CHECK_OK(trtcoll_plan_create_all_gather(group, &gather, &plan));
    trtcoll_ctx_close(ctx);
}

static void test_mismatch_lists(void **state)
{
    (void)state;
    struct proc_daemon *daemon = start();
    proc_run_all(daemon, 3, mismatch_lists_body, NULL, 30000);
    proc_daemon_finish(daemon);
}

/* A rank that never asks for the plan is named, and the others are not kept longer than the plan deadline. */
static void absent_body(struct proc_me *me)
{
    struct trtcoll_ctx *ctx = proc_open(me, -1);
    struct trtcoll_group *group = proc_group(me, ctx, "absent");
    struct trtcoll_barrier_desc desc = TRTCOLL_BARRIER_DESC_INIT;
    struct trtcoll_plan *plan = NULL;
    if (me->rank != 1) {
        uint64_t begin = proc_now_ns();
        CHECK_CODE(trtcoll_plan_create_barrier(group, &desc, &plan), TRTCOLL_ETIMEOUT);
        double waited = (double)(proc_now_ns() - begin) / 1e6;
        CHECK_MSG(waited < 500 + proc_allowance_ms(), "waited %.0f ms instead of 500", waited);
        struct trtcoll_error error = proc_last_error();
        CHECK_MSG(strstr(error.text, "1") != NULL, "rank 1 is not named: %s", error.text);
    }
    proc_barrier(me);
    trtcoll_ctx_close(ctx);
}

static void test_absent_rank(void **state)
{
    (void)state;
    struct proc_daemon *daemon = proc_daemon_start(&(struct proc_settings){.devices = 4, .plan_ms = 500});
    proc_run_all(daemon, 3, absent_body, NULL, 30000);
    proc_daemon_finish(daemon);
}

/* ---- growth ---- */

/* A wide row makes the workspace grow; plans made before go on in the old one, in turn with the new. */
static void growth_body(struct proc_me *me)
{
    unsigned lane = *(unsigned *)me->arg;
    struct trtcoll_ctx *ctx = proc_open(me, -1);
    struct trtcoll_group *group = proc_group(me, ctx, "growth");
    static const uint64_t widths[] = {64, 1u << 20, 4096, 3u << 20, 128};
    struct trtcoll_plan *plans[5];
    uint16_t *in = calloc(3u << 20, 2), *weight = calloc(3u << 20, 2), *out = calloc(3u << 20, 2), *sum = calloc(3u << 20, 2);
    CHECK(in && weight && out && sum);
    for (size_t i = 0; i < 3u << 20; i++)
        in[i] = weight[i] = 0x3f80; /* one */
    for (unsigned round = 0; round < 2; round++) {
        for (unsigned p = 0; p < 5; p++) {
            if (!round) {
                struct trtcoll_all_reduce_desc desc = TRTCOLL_ALL_REDUCE_DESC_INIT;
                desc.fusion = TRTCOLL_FUSION_RESIDUAL_RMS_NORM;
                desc.lane = lane;
                desc.hidden = widths[p];
                CHECK_OK(trtcoll_plan_create_all_reduce(group, &desc, &plans[p]));
            }
            for (unsigned q = round ? 0 : p; q <= p; q++) {
                struct trtcoll_run_args args = TRTCOLL_RUN_ARGS_INIT;
                args.tokens = 1;
                args.in = in;
                args.out = out;
                args.residual_in = in;
                args.residual_out = sum;
                args.norm_weight = weight;
                CHECK_OK(trtcoll_plan_run(plans[q], &args, NULL, NULL));
                /* n ones and the residual's one; all elements alike, so the norm is one. */
                for (size_t i = 0; i < widths[q]; i += widths[q] / 64) {
                    CHECK_EQ(ref_get(TRTCOLL_BF16, sum, i), me->nranks + 1);
                    CHECK(ref_get(TRTCOLL_BF16, out, i) > 0.99 && ref_get(TRTCOLL_BF16, out, i) < 1.01);
                }
            }
        }
    }
    for (unsigned p = 0; p < 5; p++)
        CHECK_OK(trtcoll_plan_release(plans[p]));
    proc_sum(group, lane, 100);
    free(in);
    free(weight);
    free(out);
    free(sum);
    trtcoll_ctx_close(ctx);
}

static void test_growth(void **state)
{
    (void)state;
    struct proc_daemon *daemon = start();
    for (unsigned lane = TRTCOLL_LANE_DIRECT; lane <= TRTCOLL_LANE_SERVED; lane++)
        proc_run_all(daemon, 3, growth_body, &lane, 60000);
    proc_daemon_finish(daemon);
}

/* Growth beyond the configured limit is refused without a hang, and what was there goes on. */
static void growth_refused_body(struct proc_me *me)
{
    struct trtcoll_ctx *ctx = proc_open(me, -1);
    struct trtcoll_group *group = proc_group(me, ctx, "limit");
    for (unsigned lane = TRTCOLL_LANE_DIRECT; lane <= TRTCOLL_LANE_SERVED; lane++) {
        struct trtcoll_all_reduce_desc desc = TRTCOLL_ALL_REDUCE_DESC_INIT;
        struct trtcoll_plan *plan = NULL;
        desc.fusion = TRTCOLL_FUSION_RESIDUAL_RMS_NORM;
        desc.lane = lane;
        desc.hidden = 32u << 20;
        int code = trtcoll_plan_create_all_reduce(group, &desc, &plan);
        CHECK_MSG(code == TRTCOLL_ENOTSUP || code == TRTCOLL_EQUOTA || code == TRTCOLL_ENOMEM, "%s", trtcoll_error_name(code));
        CHECK(plan == NULL && proc_last_error().text[0]);
        proc_sum(group, lane, 100);
    }
    trtcoll_ctx_close(ctx);
}

static void test_growth_refused(void **state)
{
    (void)state;
    struct proc_daemon *daemon = proc_daemon_start(&(struct proc_settings){.limits = "{\"workspace_bytes\": 16777216}"});
    proc_run_all(daemon, 2, growth_refused_body, NULL, 30000);
    proc_daemon_finish(daemon);
}

/* ---- making and releasing ---- */

/* Many plans, one after the other and a heap at once; nothing grows in the daemon or the executors. */
static void churn_body(struct proc_me *me)
{
    struct trtcoll_ctx *ctx = proc_open(me, -1);
    struct trtcoll_group *group = proc_group(me, ctx, "churn");
    for (unsigned phase = 0; phase < 3; phase++) {
        for (unsigned i = 0; i < 60; i++)
            proc_sum(group, i % 2 ? TRTCOLL_LANE_DIRECT : TRTCOLL_LANE_SERVED, 100 + i);
        struct trtcoll_plan *heap[40];
        for (unsigned i = 0; i < 40; i++) {
            struct trtcoll_barrier_desc desc = TRTCOLL_BARRIER_DESC_INIT;
            desc.lane = i % 2 ? TRTCOLL_LANE_DIRECT : TRTCOLL_LANE_SERVED;
            CHECK_OK(trtcoll_plan_create_barrier(group, &desc, &heap[i]));
        }
        for (unsigned i = 0; i < 40; i++)
            CHECK_OK(trtcoll_plan_release(heap[i]));
        proc_reach(me, phase + 1);
        proc_await_parent(me, phase + 1);
    }
    trtcoll_ctx_close(ctx);
}

static void test_churn(void **state)
{
    (void)state;
    struct proc_daemon *daemon = proc_daemon_start(&(struct proc_settings){.devices = 2});
    struct proc_run *run = proc_run_start(daemon, 2, churn_body, NULL);
    struct proc_census first[3], now[3];
    for (unsigned phase = 0; phase < 3; phase++) {
        proc_run_await_all(run, phase + 1);
        pid_t executors[2];
        assert_int_equal(proc_daemon_executors(daemon, executors, 2), 2);
        assert_true(proc_census_take(daemon->pid, &now[0]));
        assert_true(proc_census_take(executors[0], &now[1]));
        assert_true(proc_census_take(executors[1], &now[2]));
        for (unsigned i = 0; i < 3 && phase; i++) {
            if (now[i].fds > first[i].fds || now[i].memfds > first[i].memfds || now[i].maps > first[i].maps)
                fail_msg("process %u grew: fds %u to %u, memfds %u to %u, maps %u to %u", i, first[i].fds, now[i].fds, first[i].memfds,
                         now[i].memfds, first[i].maps, now[i].maps);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
            if (now[i].rss_bytes > first[i].rss_bytes + (4u << 20))
                fail_msg("process %u grew from %llu to %llu bytes", i, (unsigned long long)first[i].rss_bytes,
                         (unsigned long long)now[i].rss_bytes);
#endif
        }
        if (!phase)
            memcpy(first, now, sizeof(first));
        proc_run_reach(run, phase + 1);
    }
    proc_run_wait(run, 40000);
    proc_daemon_finish(daemon);
}

static void served_body(struct proc_me *me)
{
    struct trtcoll_ctx *ctx = proc_open(me, -1);
    struct trtcoll_group *group = proc_group(me, ctx, "served");
    proc_sum(group, TRTCOLL_LANE_SERVED, 100);
    proc_reach(me, 1);
    proc_await_parent(me, 1);
    proc_sum(group, TRTCOLL_LANE_DIRECT, 100);
    trtcoll_ctx_close(ctx);
}

static void again_body(struct proc_me *me)
{
    struct trtcoll_ctx *ctx = proc_open(me, -1);
    proc_sum(proc_group(me, ctx, "again"), TRTCOLL_LANE_SERVED, 100);
    trtcoll_ctx_close(ctx);
}

/* An executor starts when something needs it, stays while it serves somebody, and leaves when its grace is over. */
static void test_executors_come_and_go(void **state)
{
    (void)state;
    static const unsigned graces[] = {1, PROC_GRACE_NONE};
    for (unsigned i = 0; i < 2; i++) {
        struct proc_daemon *daemon = proc_daemon_start(&(struct proc_settings){.devices = 2, .grace_s = graces[i]});
        struct proc_run *ranks = proc_run_start(daemon, 2, served_body, NULL);
        proc_run_await_all(ranks, 1);
        assert_int_equal(proc_daemon_executors(daemon, NULL, 0), 2);
        proc_run_reach(ranks, 1);
        proc_run_wait(ranks, 20000);
        uint64_t end = proc_now_ns() + PROC_PATIENCE_MS * 1000000ull;
        while (proc_daemon_executors(daemon, NULL, 0)) {
            if (proc_now_ns() > end)
                fail_msg("the executors stay");
            proc_nap();
        }
        proc_run_all(daemon, 2, again_body, NULL, 20000); /* and they come again */
        proc_daemon_finish(daemon);
    }
}

/* ---- arguments ---- */

static void arguments_body(struct proc_me *me)
{
    struct trtcoll_ctx *ctx = proc_open(me, -1);
    struct trtcoll_group *group = proc_group(me, ctx, "arguments");
    uint16_t in[32] = {0}, out[32], residual[32] = {0}, weight[16] = {0};
    float scale = 1;
    for (unsigned lane = TRTCOLL_LANE_DIRECT; lane <= TRTCOLL_LANE_SERVED; lane++) {
        struct trtcoll_all_reduce_desc desc = TRTCOLL_ALL_REDUCE_DESC_INIT;
        struct trtcoll_plan *plan = NULL;
        struct trtcoll_event *event = NULL;
        desc.fusion = TRTCOLL_FUSION_RESIDUAL_RMS_NORM;
        desc.lane = lane;
        desc.hidden = 16;
        desc.max_tokens = 2;
        CHECK_OK(trtcoll_plan_create_all_reduce(group, &desc, &plan));
        struct trtcoll_run_args good = TRTCOLL_RUN_ARGS_INIT, args;
        good.tokens = 2;
        good.in = in;
        good.out = out;
        good.residual_in = residual;
        good.residual_out = residual;
        good.norm_weight = weight;
#define REFUSE(change)                                                                                                                     \
    do {                                                                                                                                   \
        args = good;                                                                                                                       \
        args.change;                                                                                                                       \
        CHECK_CODE(trtcoll_plan_run(plan, &args, NULL, &event), TRTCOLL_EINVAL);                                                           \
        CHECK_MSG(event == NULL, "an event for a refused run");                                                                            \
        CHECK_MSG(proc_last_error().text[0], "no text for " #change);                                                                      \
    } while (0)
        REFUSE(in = NULL);
        REFUSE(out = NULL);
        REFUSE(residual_in = NULL);
        REFUSE(residual_out = NULL);
        REFUSE(norm_weight = NULL);
        REFUSE(bias = weight);
        REFUSE(scale = &scale);
        REFUSE(quant_out = out);
        REFUSE(scale_out = out);
        REFUSE(tokens = 0);
        REFUSE(tokens = 3);
        REFUSE(tokens = UINT64_MAX);
        REFUSE(in_list = (const void *const *)&good.in);
        REFUSE(out_list = &good.out);
        REFUSE(size = 3);
#undef REFUSE
        CHECK_CODE(trtcoll_plan_run(plan, &good, (struct CUstream_st *)&scale, &event), TRTCOLL_EINVAL);
        CHECK_CODE(trtcoll_plan_run(plan, NULL, NULL, &event), TRTCOLL_EINVAL);
        CHECK_CODE(trtcoll_plan_run(NULL, &good, NULL, &event), TRTCOLL_EINVAL);
        CHECK_OK(trtcoll_plan_run(plan, &good, NULL, NULL)); /* refusals did not count as steps */
        CHECK_OK(trtcoll_plan_release(plan));
    }
    trtcoll_ctx_close(ctx);
}

static void test_arguments(void **state)
{
    (void)state;
    struct proc_daemon *daemon = start();
    proc_run_all(daemon, 2, arguments_body, NULL, 20000);
    proc_daemon_finish(daemon);
}

/* What cannot be made is refused at once on every rank, with the reason, and trtcoll_supports says the same beforehand. */
static void refusals_body(struct proc_me *me)
{
    struct trtcoll_ctx *ctx = proc_open(me, -1);
    struct trtcoll_group *group = proc_group(me, ctx, "refusals");
    struct trtcoll_all_reduce_desc good = TRTCOLL_ALL_REDUCE_DESC_INIT, desc;
    struct trtcoll_plan *plan = NULL;
    good.hidden = 64;
    good.max_tokens = 4;
    CHECK_OK(trtcoll_supports(ctx, (uint32_t)me->nranks, &good));
#define REFUSE(code, ...)                                                                                                                  \
    do {                                                                                                                                   \
        desc = good;                                                                                                                       \
        __VA_ARGS__;                                                                                                                       \
        CHECK_CODE(trtcoll_plan_create_all_reduce(group, &desc, &plan), code);                                                             \
        CHECK_MSG(proc_last_error().text[0], "no text for " #__VA_ARGS__);                                                                 \
        CHECK_CODE(trtcoll_supports(ctx, (uint32_t)me->nranks, &desc), code);                                                              \
        CHECK(plan == NULL);                                                                                                               \
    } while (0)
    REFUSE(TRTCOLL_ENOTSUP, desc.strategy = TRTCOLL_STRATEGY_UB);
    REFUSE(TRTCOLL_ENOTSUP, desc.strategy = TRTCOLL_STRATEGY_LOWPRECISION);
    REFUSE(TRTCOLL_ENOTSUP, desc.strategy = TRTCOLL_STRATEGY_SYMM_MEM);
    REFUSE(TRTCOLL_ENOTSUP, desc.flags = TRTCOLL_GRAPH);
    REFUSE(TRTCOLL_EINVAL, desc.strategy = 99);
    REFUSE(TRTCOLL_EINVAL, desc.dtype = 99);
    REFUSE(TRTCOLL_EINVAL, desc.dtype = TRTCOLL_BOOL);
    REFUSE(TRTCOLL_EINVAL, desc.fusion = 2);
    REFUSE(TRTCOLL_EINVAL, desc.lane = 3);
    REFUSE(TRTCOLL_EINVAL, desc.redop = 5);
    REFUSE(TRTCOLL_EINVAL, desc.flags = 1u << 9);
    REFUSE(TRTCOLL_EINVAL, desc.hidden = 0);
    REFUSE(TRTCOLL_EINVAL, desc.max_tokens = 0);
    REFUSE(TRTCOLL_EINVAL, desc.fusion = 1; desc.hidden = 9);
    REFUSE(TRTCOLL_EINVAL, desc.fusion = 1; desc.redop = TRTCOLL_MAX);
    REFUSE(TRTCOLL_EINVAL, desc.fusion = 5; desc.dtype = TRTCOLL_FP32);
    REFUSE(TRTCOLL_EINVAL, desc.fusion = 1; desc.eps = -1);
    REFUSE(TRTCOLL_EINVAL, desc.dtype = TRTCOLL_INT32; desc.flags = TRTCOLL_BIAS);
#undef REFUSE
    CHECK_CODE(trtcoll_supports(ctx, 17, &good), TRTCOLL_ENOTSUP);
    CHECK_CODE(trtcoll_supports(ctx, 0, &good), TRTCOLL_EINVAL);
    /* Structs of other sizes: smaller ones are older, larger ones may have zeros behind. */
    struct {
        struct trtcoll_all_reduce_desc desc;
        uint64_t more;
    } larger = {good, 0};
    larger.desc.size = sizeof(larger);
    CHECK_OK(trtcoll_plan_create_all_reduce(group, &larger.desc, &plan));
    CHECK_OK(trtcoll_plan_release(plan));
    plan = NULL;
    larger.more = 1;
    CHECK_CODE(trtcoll_plan_create_all_reduce(group, &larger.desc, &plan), TRTCOLL_EINVAL);
    good.size = 0;
    CHECK_CODE(trtcoll_plan_create_all_reduce(group, &good, &plan), TRTCOLL_EINVAL);
    proc_sum(group, TRTCOLL_LANE_DIRECT, 10);
    trtcoll_ctx_close(ctx);
}

static void test_refusals(void **state)
{
    (void)state;
    struct proc_daemon *daemon = start();
    proc_run_all(daemon, 2, refusals_body, NULL, 20000);
    proc_daemon_finish(daemon);
}

/* ---- one-call forms and their cache ---- */

static void one_call_body(struct proc_me *me)
{
    struct trtcoll_ctx *ctx = proc_open(me, -1);
    struct trtcoll_group *group = proc_group(me, ctx, "one-call");
    uint32_t n = (uint32_t)me->nranks, rank = (uint32_t)me->rank;
    int32_t in[100], out[300];
    /* More descriptors than the cache holds, then again: what fell out is made anew. */
    for (unsigned round = 0; round < 2; round++) {
        for (uint32_t count = 1; count <= 80; count++) {
            for (uint32_t i = 0; i < count; i++)
                in[i] = (int32_t)(i + rank);
            CHECK_OK(trtcoll_all_reduce(group, in, out, count, TRTCOLL_INT32, TRTCOLL_SUM));
            for (uint32_t i = 0; i < count; i++)
                CHECK_EQ(out[i], n * i + n * (n - 1) / 2);
        }
    }
    for (unsigned i = 0; i < 10; i++)
        in[i] = (int32_t)(rank * 10 + i);
    CHECK_OK(trtcoll_all_gather(group, in, out, 10, TRTCOLL_INT32));
    for (uint32_t i = 0; i < 10 * n; i++)
        CHECK_EQ(out[i], i);
    int32_t scatter[300];
    for (uint32_t i = 0; i < 20 * n; i++)
        scatter[i] = (int32_t)(i * (rank + 1));
    CHECK_OK(trtcoll_reduce_scatter(group, scatter, out, 20, TRTCOLL_INT32, TRTCOLL_MAX));
    for (uint32_t i = 0; i < 20; i++)
        CHECK_EQ(out[i], (i + 20 * rank) * n);
    if (rank == 1)
        in[0] = 4711;
    CHECK_OK(trtcoll_broadcast(group, rank == 1 ? in : NULL, out, 1, TRTCOLL_INT32, 1));
    CHECK_EQ(out[0], 4711);
    CHECK_OK(trtcoll_barrier(group));
    CHECK_CODE(trtcoll_all_reduce(group, NULL, out, 5, TRTCOLL_INT32, TRTCOLL_SUM), TRTCOLL_EINVAL);
    CHECK_CODE(trtcoll_all_reduce(group, in, out, 5, 99, TRTCOLL_SUM), TRTCOLL_EINVAL);
    CHECK_OK(trtcoll_group_leave(group));
    trtcoll_ctx_close(ctx);
}

static void test_one_call_forms(void **state)
{
    (void)state;
    struct proc_daemon *daemon = start();
    proc_run_all(daemon, 3, one_call_body, NULL, 40000);
    proc_daemon_finish(daemon);
}

/* ---- order of steps ---- */

/* Rank 1 runs the second plan where the others run the first: named on all of them, in both lanes. */
static void order_body(struct proc_me *me)
{
    unsigned lane = *(unsigned *)me->arg;
    struct trtcoll_ctx *ctx = proc_open(me, -1);
    struct trtcoll_group *group = proc_group(me, ctx, "order");
    struct trtcoll_plan *plans[2];
    float in[64] = {0}, out[64];
    for (unsigned p = 0; p < 2; p++) {
        struct trtcoll_all_reduce_desc desc = TRTCOLL_ALL_REDUCE_DESC_INIT;
        desc.dtype = TRTCOLL_FP32;
        desc.lane = lane;
        desc.hidden = 8;
        desc.max_tokens = 8;
        CHECK_OK(trtcoll_plan_create_all_reduce(group, &desc, &plans[p]));
    }
    struct trtcoll_run_args args = TRTCOLL_RUN_ARGS_INIT;
    args.tokens = 4;
    args.in = in;
    args.out = out;
    for (unsigned i = 0; i < 3; i++)
        CHECK_OK(trtcoll_plan_run(plans[i % 2], &args, NULL, NULL));
    bool skips = me->rank == 1;
    int code = trtcoll_plan_run(plans[skips ? 0 : 1], &args, NULL, NULL);
    CHECK_MSG(code == TRTCOLL_EMISMATCH, "a skipped step gives %s", trtcoll_error_name(code));
    struct trtcoll_error error = proc_last_error();
    CHECK_MSG(error.rank < 3, "nobody is named: %s", error.text);
    CHECK_EQ(case_group_info(group).state, TRTCOLL_GROUP_BROKEN);
    for (unsigned p = 0; p < 2; p++)
        CHECK_OK(trtcoll_plan_release(plans[p]));
    CHECK_OK(trtcoll_group_reform(group, 0, 0));

    /* The same plan with another token count. */
    struct trtcoll_all_reduce_desc desc = TRTCOLL_ALL_REDUCE_DESC_INIT;
    desc.dtype = TRTCOLL_FP32;
    desc.lane = lane;
    desc.hidden = 8;
    desc.max_tokens = 8;
    CHECK_OK(trtcoll_plan_create_all_reduce(group, &desc, &plans[0]));
    CHECK_OK(trtcoll_plan_run(plans[0], &args, NULL, NULL));
    args.tokens = skips ? 5 : 4;
    code = trtcoll_plan_run(plans[0], &args, NULL, NULL);
    CHECK_MSG(code == TRTCOLL_EMISMATCH, "other token counts give %s", trtcoll_error_name(code));
    CHECK_OK(trtcoll_plan_release(plans[0]));
    CHECK_OK(trtcoll_group_reform(group, 0, 0));
    proc_sum(group, lane, 100);
    trtcoll_ctx_close(ctx);
}

static void test_order_of_steps(void **state)
{
    (void)state;
    struct proc_daemon *daemon = start();
    for (unsigned lane = TRTCOLL_LANE_DIRECT; lane <= TRTCOLL_LANE_SERVED; lane++)
        proc_run_all(daemon, 3, order_body, &lane, 30000);
    proc_daemon_finish(daemon);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_mismatch, proc_teardown),
        cmocka_unit_test_teardown(test_mismatch_lists, proc_teardown),
        cmocka_unit_test_teardown(test_absent_rank, proc_teardown),
        cmocka_unit_test_teardown(test_growth, proc_teardown),
        cmocka_unit_test_teardown(test_growth_refused, proc_teardown),
        cmocka_unit_test_teardown(test_churn, proc_teardown),
        cmocka_unit_test_teardown(test_executors_come_and_go, proc_teardown),
        cmocka_unit_test_teardown(test_arguments, proc_teardown),
        cmocka_unit_test_teardown(test_refusals, proc_teardown),
        cmocka_unit_test_teardown(test_one_call_forms, proc_teardown),
        cmocka_unit_test_teardown(test_order_of_steps, proc_teardown),
    };
    return cmocka_run_group_tests_name("plans", tests, NULL, NULL);
}
