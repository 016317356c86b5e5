/* The chooser: which lane and strategies, why, and what it refuses. */
#include "cmocka_all.h"
#include "plan_fixture.h"

#include "daemon/control/chooser.h"
#include "daemon/control/tuning.h"

#include <tck/cuda_defaults.h>

#include <string.h>

static struct tcd_choosing four_ranks(void)
{
    return (struct tcd_choosing){.nranks = 4,
                                 .direct_ranks = UINT64_MAX,
                                 .served_ranks = UINT64_MAX,
                                 .lane = TCW_LANE_AUTO,
                                 .strategy = TCW_STRATEGY_AUTO,
                                 .oneshot_bytes = 65536,
                                 .max_workspace_bytes = 1ull << 30};
}

static void choose(const struct tcw_plan_desc *desc, const struct tcd_choosing *choosing, struct tcd_choice *choice)
{
    struct tcw_error error = {0};

    if (tcd_choose(desc, choosing, choice, &error))
        fail_msg("%s: %s", tcw_error_name(error.code), error.text);
}

static bool is_rejected(const struct tcd_choice *choice, const char *what)
{
    unsigned i;

    for (i = 0; i < choice->rejected_count; i++)
        if (!strcmp(choice->rejected[i].what, what) && choice->rejected[i].why[0])
            return true;
    return false;
}

static void test_auto_small(void **state)
{
    struct tcw_plan_desc desc = plan_all_reduce(TCW_BF16, TCW_FUSION_NONE, 8, 4096); /* 64 KiB at most */
    struct tcd_choosing choosing = four_ranks();
    struct tcd_choice choice;

    (void)state;
    choose(&desc, &choosing, &choice);
    assert_int_equal(choice.decision.lane, TCW_LANE_DIRECT);
    assert_int_equal(choice.decision.step_count, 1);
    assert_int_equal(choice.decision.steps[0].strategy, TCW_STRATEGY_ONESHOT);
    assert_true(choice.decision.steps[0].max_bytes == UINT64_MAX);
    assert_true(is_rejected(&choice, "TWOSHOT"));
    assert_true(is_rejected(&choice, "served lane"));
    assert_true(choice.workspace_bytes > 0 && choice.workspace_bytes % (8u << 20) == 0);
    assert_non_null(strstr(choice.reason, "direct"));
}

static void test_auto_steps(void **state)
{
    struct tcw_plan_desc desc = plan_all_reduce(TCW_BF16, TCW_FUSION_NONE, 1024, 4096);
    struct tcd_choosing choosing = four_ranks();
    struct tcd_choice choice;

    (void)state;
    choose(&desc, &choosing, &choice);
    assert_int_equal(choice.decision.step_count, 2);
    assert_int_equal(tcw_decision_strategy(&choice.decision, 65536), TCW_STRATEGY_ONESHOT);
    assert_int_equal(tcw_decision_strategy(&choice.decision, 65537), TCW_STRATEGY_TWOSHOT);
    assert_true(choice.decision.steps[1].max_bytes == UINT64_MAX);
    assert_non_null(strstr(choice.reason, "65536"));
    choosing.oneshot_bytes = 0;
    choose(&desc, &choosing, &choice);
    assert_int_equal(choice.decision.step_count, 1);
    assert_int_equal(choice.decision.steps[0].strategy, TCW_STRATEGY_TWOSHOT);
}

static void test_auto_narrow(void **state)
{
    struct tcw_plan_desc desc = plan_all_reduce(TCW_FP32, TCW_FUSION_NONE, 1u << 20, 3);
    struct tcd_choosing choosing = four_ranks();
    struct tcd_choice choice;

    (void)state;
    choose(&desc, &choosing, &choice);
    assert_int_equal(tcw_decision_strategy(&choice.decision, UINT64_MAX), TCW_STRATEGY_ONESHOT);
    assert_true(is_rejected(&choice, "TWOSHOT"));
}

static void test_min_latency(void **state)
{
    struct tcw_plan_desc desc = plan_all_reduce(TCW_BF16, TCW_FUSION_NONE, 1000, 64);
    struct tcd_choosing choosing = four_ranks();
    struct tcd_choice choice;

    (void)state;
    desc.strategy = TCW_STRATEGY_MIN_LATENCY;
    choose(&desc, &choosing, &choice);
    assert_int_equal(tcw_decision_strategy(&choice.decision, 128 * 64 * 2), TCW_STRATEGY_ONESHOT);
    assert_int_equal(tcw_decision_strategy(&choice.decision, 129 * 64 * 2), TCW_STRATEGY_TWOSHOT);
    desc.max_tokens = 128;
    choose(&desc, &choosing, &choice);
    assert_int_equal(choice.decision.step_count, 1);
    assert_int_equal(choice.decision.steps[0].strategy, TCW_STRATEGY_ONESHOT);
    desc = plan_all_reduce(TCW_BF16, TCW_FUSION_NONE, 1000, 2);
    desc.strategy = TCW_STRATEGY_MIN_LATENCY;
    choose(&desc, &choosing, &choice);
    assert_int_equal(tcw_decision_strategy(&choice.decision, 4000), TCW_STRATEGY_ONESHOT);
}

static void test_wishes(void **state)
{
    struct tcw_plan_desc desc = plan_all_reduce(TCW_BF16, TCW_FUSION_NONE, 1, 64);
    struct tcd_choosing choosing = four_ranks();
    struct tcd_choice choice;

    (void)state;
    /* The group's configuration counts where the plan leaves it open, and only there. */
    choosing.lane = TCW_LANE_SERVED;
    choosing.strategy = TCW_STRATEGY_NCCL;
    choose(&desc, &choosing, &choice);
    assert_int_equal(choice.decision.lane, TCW_LANE_SERVED);
    assert_int_equal(choice.decision.steps[0].strategy, TCW_STRATEGY_NCCL);
    assert_non_null(strstr(choice.reason, "configured for the group"));
    desc.lane = TCW_LANE_DIRECT;
    desc.strategy = TCW_STRATEGY_MNNVL;
    choose(&desc, &choosing, &choice);
    assert_int_equal(choice.decision.lane, TCW_LANE_DIRECT);
    assert_int_equal(choice.decision.steps[0].strategy, TCW_STRATEGY_MNNVL);
    assert_non_null(strstr(choice.reason, "asked for"));
}

static void test_abilities(void **state)
{
    struct tcw_plan_desc desc = plan_all_reduce(TCW_BF16, TCW_FUSION_NONE, 1, 64);
    struct tcd_choosing choosing = four_ranks();
    struct tcd_choice choice;
    struct tcw_error error;

    (void)state;
    choosing.direct_ranks = 0xb; /* not rank 2 */
    choose(&desc, &choosing, &choice);
    assert_int_equal(choice.decision.lane, TCW_LANE_SERVED);
    assert_true(is_rejected(&choice, "direct lane"));
    desc.lane = TCW_LANE_DIRECT;
    assert_int_equal(tcd_choose(&desc, &choosing, &choice, &error), TCW_ENOTSUP);
    assert_non_null(strstr(error.text, "rank 2"));
    desc.lane = TCW_LANE_AUTO;
    choosing.served_ranks = 0x7;
    assert_int_equal(tcd_choose(&desc, &choosing, &choice, &error), TCW_ENOTSUP);
    assert_non_null(strstr(error.text, "rank 3"));
}

static void test_refusals(void **state)
{
    struct tcw_plan_desc desc = plan_all_reduce(TCW_BF16, TCW_FUSION_NONE, 1, 64);
    struct tcd_choosing choosing = four_ranks();
    struct tcd_choice choice;
    struct tcw_error error;

    (void)state;
    desc.flags = TCW_PLAN_GRAPH;
    assert_int_equal(tcd_choose(&desc, &choosing, &choice, &error), TCW_ENOTSUP);
    desc.flags = 0;
    desc.strategy = TCW_STRATEGY_UB;
    assert_int_equal(tcd_choose(&desc, &choosing, &choice, &error), TCW_ENOTSUP);
    assert_string_equal(error.field, "strategy");
    desc = plan_all_reduce(TCW_BF16, TCW_FUSION_RESIDUAL_RMS_NORM, 1, 64u << 20);
    choosing.max_workspace_bytes = 64u << 20;
    assert_int_equal(tcd_choose(&desc, &choosing, &choice, &error), TCW_EQUOTA);
    assert_non_null(strstr(error.text, "67108864"));
    choosing.nranks = 17;
    assert_int_equal(tcd_choose(&desc, &choosing, &choice, &error), TCW_ENOTSUP);
}

static void test_moving(void **state)
{
    static const unsigned ops[] = {TCW_OP_ALL_GATHER, TCW_OP_REDUCE_SCATTER, TCW_OP_ALL_TO_ALL, TCW_OP_BROADCAST, TCW_OP_BARRIER};
    struct tcd_choosing choosing = four_ranks();
    struct tcd_choice choice;
    unsigned i;

    (void)state;
    for (i = 0; i < sizeof(ops) / sizeof(ops[0]); i++) {
        struct tcw_plan_desc desc = plan_of(ops[i]);

        if (ops[i] != TCW_OP_BARRIER)
            plan_add_tensor(&desc, TCW_FP16, 1, ops[i] == TCW_OP_ALL_GATHER || ops[i] == TCW_OP_REDUCE_SCATTER ? 8 : 1, 64);
        /* A strategy configured for the group is about all-reduce. */
        choosing.strategy = TCW_STRATEGY_MNNVL;
        choose(&desc, &choosing, &choice);
        assert_int_equal(choice.decision.step_count, 1);
        assert_int_not_equal(choice.decision.steps[0].strategy, TCW_STRATEGY_AUTO);
        assert_int_not_equal(choice.decision.steps[0].strategy, TCW_STRATEGY_MNNVL);
    }
}

/* ---- CUDA devices ---- */

static struct tcd_choosing four_gpus(void)
{
    struct tcd_choosing choosing = four_ranks();

    choosing.kind = TCK_DEVICE_CUDA;
    choosing.served_kernels_bytes = 8u << 20;
    return choosing;
}

static const char *refusal(const struct tcw_plan_desc *desc, const struct tcd_choosing *choosing, int code)
{
    static struct tcw_error error;
    struct tcd_choice choice;

    assert_int_equal(tcd_choose(desc, choosing, &choice, &error), code);
    assert_int_equal(error.code, code);
    return error.text;
}

static void test_cuda_direct_by_default(void **state)
{
    struct tcw_plan_desc desc = plan_all_reduce(TCW_BF16, TCW_FUSION_NONE, 4096, 8192);
    struct tcd_choosing choosing = four_gpus();
    struct tcd_choice choice;

    (void)state;
    choose(&desc, &choosing, &choice);
    assert_int_equal(choice.decision.lane, TCW_LANE_DIRECT);
    assert_true(choice.decision.step_count >= 2);
    assert_int_equal(tcw_decision_strategy(&choice.decision, 16384), TCW_STRATEGY_ONESHOT);
    assert_int_equal(tcw_decision_strategy(&choice.decision, 64 << 20), TCW_STRATEGY_TWOSHOT);
    assert_true(choice.decision.steps[choice.decision.step_count - 1].max_bytes == UINT64_MAX);
    assert_true(choice.workspace_bytes > 0);
    assert_true(is_rejected(&choice, "served lane"));
    /* Captured or not. */
    desc.flags |= TCW_PLAN_GRAPH;
    choose(&desc, &choosing, &choice);
    assert_int_equal(choice.decision.lane, TCW_LANE_DIRECT);
    /* Small plans need no more than their messages. */
    desc = plan_all_reduce(TCW_BF16, TCW_FUSION_NONE, 1, 8192);
    choose(&desc, &choosing, &choice);
    assert_int_equal(choice.decision.step_count, 1);
    assert_int_equal(choice.decision.steps[0].strategy, TCW_STRATEGY_ONESHOT);
    /* What longer messages would get is known, and from where on. */
    assert_true(is_rejected(&choice, tcw_strategy_name(TCW_STRATEGY_TWOSHOT)));
    assert_non_null(strstr(choice.rejected[0].why, "163840 bytes, the largest of this plan has 16384"));
    /* What neither lane can do is said once, to its end. */
    desc.strategy = TCW_STRATEGY_LOWPRECISION;
    assert_non_null(strstr(refusal(&desc, &choosing, TCW_ENOTSUP), "SYMM_MEM and UB are"));
}

static void test_cuda_served_where_kernels_cannot(void **state)
{
    struct tcw_plan_desc desc = plan_all_reduce(TCW_INT32, TCW_FUSION_NONE, 16, 4096);
    struct tcd_choosing choosing = four_gpus();
    struct tcd_choice choice;

    (void)state;
    choose(&desc, &choosing, &choice);
    assert_int_equal(choice.decision.lane, TCW_LANE_SERVED);
    assert_int_equal(choice.decision.steps[0].strategy, TCW_STRATEGY_NCCL);
    assert_true(choice.workspace_bytes == 0);
    assert_true(is_rejected(&choice, "direct lane"));
    assert_true(is_rejected(&choice, tcw_strategy_name(TCW_STRATEGY_ONESHOT)));
    desc = plan_all_reduce(TCW_BF16, TCW_FUSION_NONE, 16, 4096);
    desc.strategy = TCW_STRATEGY_NCCL;
    choose(&desc, &choosing, &choice);
    assert_int_equal(choice.decision.lane, TCW_LANE_SERVED);
    desc.strategy = TCW_STRATEGY_AUTO;
    choosing.strategy = TCW_STRATEGY_NCCL_SYMMETRIC;
    choose(&desc, &choosing, &choice);
    assert_int_equal(choice.decision.lane, TCW_LANE_SERVED);
    assert_int_equal(choice.decision.steps[0].strategy, TCW_STRATEGY_NCCL_SYMMETRIC);
    choosing.strategy = TCW_STRATEGY_AUTO;
    choosing.direct_ranks = ~4ull;
    choose(&desc, &choosing, &choice);
    assert_int_equal(choice.decision.lane, TCW_LANE_SERVED);
    assert_int_equal(choice.decision.steps[0].strategy, TCW_STRATEGY_ONESHOT);
    desc.flags = TCW_PLAN_GRAPH; /* captured or not */
    choose(&desc, &choosing, &choice);
    assert_int_equal(choice.decision.lane, TCW_LANE_SERVED);
    desc.op = TCW_OP_BARRIER;
    choose(&desc, &choosing, &choice);
    assert_int_equal(choice.decision.lane, TCW_LANE_SERVED);
}

static void test_cuda_refusals(void **state)
{
    struct tcw_plan_desc desc = plan_all_reduce(TCW_BF16, TCW_FUSION_NONE, 16, 4096);
    struct tcd_choosing choosing = four_gpus();

    (void)state;
    desc.lane = TCW_LANE_DIRECT;
    desc.strategy = TCW_STRATEGY_NCCL;
    assert_non_null(strstr(refusal(&desc, &choosing, TCW_ENOTSUP), "NCCL is in the executors"));
    desc.strategy = TCW_STRATEGY_LOWPRECISION;
    assert_non_null(strstr(refusal(&desc, &choosing, TCW_ENOTSUP), "direct lane is asked for"));
    desc.strategy = TCW_STRATEGY_AUTO;
    desc.hidden = 4095;
    assert_non_null(strstr(refusal(&desc, &choosing, TCW_ENOTSUP), "hidden must be a multiple of 8"));
    desc.hidden = 4096;
    desc.lane = TCW_LANE_SERVED;
    desc.strategy = TCW_STRATEGY_AUTO;
    choosing.no_library = "libnccl.so.2 is not there";
    assert_non_null(strstr(refusal(&desc, &choosing, TCW_ENOTSUP), "libnccl.so.2 is not there"));
    desc.lane = TCW_LANE_AUTO;
    desc.dtype = TCW_INT32;
    assert_non_null(strstr(refusal(&desc, &choosing, TCW_ENOTSUP), "neither lane"));
    choosing.no_library = NULL;
    choosing.served_ranks = 1;
    assert_non_null(strstr(refusal(&desc, &choosing, TCW_ENOTSUP), "cannot use a ring"));
}

/* A group of one exchanges nothing, and is on the direct lane all the same: its epilogue is a launch. */
static void test_cuda_alone(void **state)
{
    struct tcw_plan_desc desc = plan_all_reduce(TCW_BF16, TCW_FUSION_RESIDUAL_RMS_NORM, 4096, 8192);
    struct tcd_choosing choosing = four_gpus();
    struct tcd_choice choice;

    (void)state;
    choosing.nranks = 1;
    choosing.no_peers[0] = 'x'; /* nobody to reach */
    choose(&desc, &choosing, &choice);
    assert_int_equal(choice.decision.lane, TCW_LANE_DIRECT);
    assert_int_equal(choice.decision.step_count, 1);
    assert_int_equal(choice.decision.steps[0].strategy, TCW_STRATEGY_ONESHOT);
    assert_true(choice.workspace_bytes == 0);
    desc.strategy = TCW_STRATEGY_MNNVL; /* its rounding is its own */
    choose(&desc, &choosing, &choice);
    assert_int_equal(choice.decision.lane, TCW_LANE_DIRECT);
    assert_int_equal(choice.decision.steps[0].strategy, TCW_STRATEGY_MNNVL);
    desc.strategy = TCW_STRATEGY_NCCL;
    choose(&desc, &choosing, &choice);
    assert_int_equal(choice.decision.lane, TCW_LANE_SERVED);
    desc = plan_all_reduce(TCW_INT32, TCW_FUSION_NONE, 16, 4096);
    choose(&desc, &choosing, &choice);
    assert_int_equal(choice.decision.lane, TCW_LANE_SERVED);
}

/* Multicast is for three strategies on the direct lane, and for who wants it; the reason says where it is not used. */
static void test_cuda_multicast(void **state)
{
    static const unsigned with[] = {TCW_STRATEGY_MNNVL, TCW_STRATEGY_SYMM_MEM, TCW_STRATEGY_UB};
    struct tcw_plan_desc desc = plan_all_reduce(TCW_BF16, TCW_FUSION_NONE, 64, 4096);
    struct tcd_choosing choosing = four_gpus();
    struct tcd_choice choice;
    unsigned i;

    (void)state;
    for (i = 0; i < 3; i++) {
        desc.strategy = (uint16_t)with[i];
        desc.lane = TCW_LANE_AUTO;
        choosing.no_multicast[0] = 0;
        choose(&desc, &choosing, &choice);
        assert_true(choice.multicast);
        assert_non_null(strstr(choice.reason, "over NVLink multicast"));
        snprintf(choosing.no_multicast, sizeof(choosing.no_multicast), "not asked for");
        choose(&desc, &choosing, &choice);
        assert_true(!choice.multicast && is_rejected(&choice, "multicast"));
        assert_null(strstr(choice.reason, "multicast"));
        choosing.no_multicast[0] = 0;
        desc.lane = TCW_LANE_SERVED;
        choose(&desc, &choosing, &choice);
        assert_false(choice.multicast);
    }
    desc.lane = TCW_LANE_AUTO;
    choosing.nranks = 1;
    choose(&desc, &choosing, &choice);
    assert_false(choice.multicast);
    choosing.nranks = 4;
    desc.strategy = TCW_STRATEGY_AUTO;
    choose(&desc, &choosing, &choice);
    assert_true(!choice.multicast && !is_rejected(&choice, "multicast"));
}

/* ub-finalize has one form on each lane. */
static void test_cuda_finalize(void **state)
{
    struct tcw_plan_desc desc = {
        .op = TCW_OP_UB_FINALIZE, .dtype = TCW_BF16, .strategy = TCW_STRATEGY_AUTO, .max_tokens = 64, .hidden = 4096};
    struct tcd_choosing choosing = four_gpus();
    struct tcd_choice choice;

    (void)state;
    choose(&desc, &choosing, &choice);
    assert_int_equal(choice.decision.lane, TCW_LANE_DIRECT);
    assert_int_equal(choice.decision.step_count, 1);
    assert_true(choice.workspace_bytes > 0);
    desc.lane = TCW_LANE_SERVED;
    choosing.strategy = TCW_STRATEGY_ONESHOT; /* of the group's all-reduces */
    choose(&desc, &choosing, &choice);
    assert_int_equal(choice.decision.steps[0].strategy, TCW_STRATEGY_NCCL);
    assert_true(choice.workspace_bytes == 0);
    desc.lane = TCW_LANE_AUTO;
    desc.hidden = 9; /* no whole packs */
    choose(&desc, &choosing, &choice);
    assert_int_equal(choice.decision.lane, TCW_LANE_SERVED);
    assert_true(is_rejected(&choice, "direct lane"));
    choosing.kind = TCK_DEVICE_HOST;
    choose(&desc, &choosing, &choice);
    assert_int_equal(choice.decision.lane, TCW_LANE_DIRECT);
}

/* GPUs that cannot map each other's memory have NCCL, and only NCCL. */
static void test_cuda_without_peers(void **state)
{
    struct tcw_plan_desc desc = plan_all_reduce(TCW_BF16, TCW_FUSION_RESIDUAL_RMS_NORM, 64, 4096);
    struct tcd_choosing choosing = four_gpus();
    struct tcd_choice choice;
    const char *text;

    (void)state;
    snprintf(choosing.no_peers, sizeof(choosing.no_peers), "device 1 cannot map memory of device 2");
    choose(&desc, &choosing, &choice);
    assert_int_equal(choice.decision.lane, TCW_LANE_SERVED);
    assert_int_equal(choice.decision.step_count, 1);
    assert_int_equal(choice.decision.steps[0].strategy, TCW_STRATEGY_NCCL);
    assert_true(choice.workspace_bytes == 0);
    assert_true(is_rejected(&choice, "direct lane") && is_rejected(&choice, "our kernels"));
    assert_non_null(strstr(choice.reason, "nccl"));
    desc.strategy = TCW_STRATEGY_NCCL_SYMMETRIC;
    choose(&desc, &choosing, &choice);
    assert_int_equal(choice.decision.steps[0].strategy, TCW_STRATEGY_NCCL_SYMMETRIC);
    /* What cannot be is refused, naming both and what to do. */
    desc.strategy = TCW_STRATEGY_TWOSHOT;
    text = refusal(&desc, &choosing, TCW_ENOTSUP);
    assert_non_null(strstr(text, "device 1 cannot map memory of device 2"));
    desc.lane = TCW_LANE_SERVED;
    text = refusal(&desc, &choosing, TCW_ENOTSUP);
    assert_non_null(strstr(text, "device 1 cannot map memory of device 2"));
    assert_non_null(strstr(text, "strategy"));
    desc.strategy = TCW_STRATEGY_AUTO;
    desc.lane = TCW_LANE_DIRECT;
    text = refusal(&desc, &choosing, TCW_ENOTSUP);
    assert_non_null(strstr(text, "device 1 cannot map memory of device 2"));
    assert_non_null(strstr(text, "served lane"));
    choosing.no_library = "libnccl.so.2 is not there";
    desc.lane = TCW_LANE_AUTO;
    text = refusal(&desc, &choosing, TCW_ENOTSUP);
    assert_non_null(strstr(text, "device 1 cannot map memory of device 2"));
    assert_non_null(strstr(text, "libnccl.so.2"));
}

/* On the served lane: the table up to choosing.served_kernels_bytes, NCCL above; a wish for NCCL is a wish for NCCL. */
static void test_cuda_served_by_size(void **state)
{
    struct tcw_plan_desc desc = plan_all_reduce(TCW_BF16, TCW_FUSION_RESIDUAL_RMS_NORM, 4096, 8192); /* 64 MiB at most */
    struct tcd_choosing choosing = four_gpus();
    struct tcd_choice choice, direct;
    uint64_t workspace;

    (void)state;
    choose(&desc, &choosing, &direct);
    desc.lane = TCW_LANE_SERVED;
    choose(&desc, &choosing, &choice);
    assert_int_equal(choice.decision.lane, TCW_LANE_SERVED);
    assert_int_equal(tcw_decision_strategy(&choice.decision, 16384), TCW_STRATEGY_ONESHOT);
    assert_int_equal(tcw_decision_strategy(&choice.decision, 8 << 20), TCW_STRATEGY_TWOSHOT);
    assert_int_equal(tcw_decision_strategy(&choice.decision, (8 << 20) + 1), TCW_STRATEGY_NCCL);
    assert_non_null(strstr(choice.reason, "8388608 bytes (choosing.served_kernels_bytes), NCCL above"));
    assert_true(choice.workspace_bytes > 0 && choice.workspace_bytes < direct.workspace_bytes); /* the small part's */
    workspace = choice.workspace_bytes;
    /* All of it is small. */
    desc.max_tokens = 512;
    choose(&desc, &choosing, &choice);
    assert_int_equal(choice.workspace_bytes, workspace);
    assert_int_equal(tcw_decision_strategy(&choice.decision, UINT64_MAX), TCW_STRATEGY_TWOSHOT);
    assert_true(is_rejected(&choice, tcw_strategy_name(TCW_STRATEGY_NCCL)));
    desc.max_tokens = 4096;
    /* A limit in the middle of the table, and none. */
    choosing.served_kernels_bytes = 65536;
    choose(&desc, &choosing, &choice);
    assert_int_equal(choice.decision.step_count, 2);
    assert_int_equal(tcw_decision_strategy(&choice.decision, 65536), TCW_STRATEGY_ONESHOT);
    assert_int_equal(tcw_decision_strategy(&choice.decision, 65537), TCW_STRATEGY_NCCL);
    choosing.served_kernels_bytes = 0;
    choose(&desc, &choosing, &choice);
    assert_int_equal(tcw_decision_strategy(&choice.decision, 16384), TCW_STRATEGY_NCCL);
    assert_true(choice.workspace_bytes == 0 && is_rejected(&choice, "our kernels"));
    /* Wishes. */
    choosing.served_kernels_bytes = 8u << 20;
    choosing.strategy = TCW_STRATEGY_NCCL;
    choose(&desc, &choosing, &choice);
    assert_int_equal(tcw_decision_strategy(&choice.decision, 16384), TCW_STRATEGY_NCCL);
    assert_true(choice.workspace_bytes == 0);
}

/* Of the built-in tables: two ranks alone send everything to each other for longer. */
static uint32_t long_strategy(uint32_t nranks, unsigned fusion, uint64_t mib)
{
    return nranks == 2 && fusion == TCW_FUSION_NONE && mib <= 64 ? TCW_STRATEGY_ONESHOT : TCW_STRATEGY_TWOSHOT;
}

/* As configured by default: our kernels up to 1 GiB, the longer ones in several launches over one and the same workspace. */
static void test_cuda_served_long_messages(void **state)
{
    static const unsigned fusions[] = {TCW_FUSION_NONE, TCW_FUSION_RESIDUAL_RMS_NORM};
    static const uint32_t ranks[] = {2, 4, 8, 16};
    struct tcd_choosing choosing = four_gpus();
    struct tcd_choice choice;
    uint64_t mib;
    unsigned i;

    (void)state;
    choosing.served_kernels_bytes = 1u << 30;
    for (i = 0; i < 8; i++)
        for (mib = 64; mib <= 2048; mib *= 2) {
            struct tcw_plan_desc desc = plan_all_reduce(TCW_BF16, fusions[i & 1], mib << 6, 8192);

            desc.lane = TCW_LANE_SERVED;
            choosing.nranks = ranks[i / 2];
            choose(&desc, &choosing, &choice);
            assert_in_range(choice.workspace_bytes, 144 << 20, 160 << 20);
            assert_int_equal(tcw_decision_strategy(&choice.decision, 32u << 20), long_strategy(choosing.nranks, fusions[i & 1], 32));
            assert_int_equal(tcw_decision_strategy(&choice.decision, (mib < 1024 ? mib : 1024) << 20),
                             long_strategy(choosing.nranks, fusions[i & 1], mib));
            if (mib > 1024)
                assert_int_equal(tcw_decision_strategy(&choice.decision, mib << 20), TCW_STRATEGY_NCCL);
            assert_int_equal(is_rejected(&choice, tcw_strategy_name(TCW_STRATEGY_NCCL)), mib <= 1024);
        }
}

static void test_cuda_served_by_nccl_alone(void **state)
{
    struct tcw_plan_desc desc = plan_all_reduce(TCW_BF16, TCW_FUSION_NONE, 4096, 8192);
    struct tcd_choosing choosing = four_gpus();
    struct tcd_choice choice;

    (void)state;
    desc.lane = TCW_LANE_SERVED;
    choosing.max_workspace_bytes = 8u << 20;
    choose(&desc, &choosing, &choice);
    assert_int_equal(tcw_decision_strategy(&choice.decision, 16384), TCW_STRATEGY_NCCL);
    assert_true(choice.workspace_bytes == 0 && is_rejected(&choice, "our kernels"));
    choosing.max_workspace_bytes = 1u << 30;
    desc.hidden = 4099; /* not whole packs */
    choose(&desc, &choosing, &choice);
    assert_int_equal(tcw_decision_strategy(&choice.decision, 16384), TCW_STRATEGY_NCCL);
    assert_true(is_rejected(&choice, tcw_strategy_name(TCW_STRATEGY_ONESHOT)) &&
                is_rejected(&choice, tcw_strategy_name(TCW_STRATEGY_TWOSHOT)));
    desc.hidden = 4096;
    choosing.nranks = 17;
    choose(&desc, &choosing, &choice);
    assert_int_equal(tcw_decision_strategy(&choice.decision, 16384), TCW_STRATEGY_NCCL);
    assert_true(is_rejected(&choice, tcw_strategy_name(TCW_STRATEGY_ONESHOT)));
    choosing.nranks = 1;
    choose(&desc, &choosing, &choice);
    assert_int_equal(tcw_decision_strategy(&choice.decision, 16384), TCW_STRATEGY_NCCL);
    assert_true(choice.workspace_bytes == 0);
    choosing.nranks = 4;
    desc.lane = TCW_LANE_AUTO; /* the direct lane has been tried: each reason stands there once */
    desc.dtype = TCW_INT32;
    choose(&desc, &choosing, &choice);
    assert_int_equal(choice.decision.lane, TCW_LANE_SERVED);
    assert_int_equal(choice.rejected_count, 3);
}

/* A table that needs every step leaves one for NCCL. */
static void test_cuda_served_full_table(void **state)
{
    struct tcw_plan_desc desc = plan_all_reduce(TCW_BF16, TCW_FUSION_NONE, 4096, 8192);
    static struct tcf_tuning tuning = {.name = "full", .table_count = 1};
    struct tcd_choosing choosing = four_gpus();
    struct tcd_choice choice;
    unsigned i;

    (void)state;
    tuning.tables[0] = (struct tcf_tuning_table){.ranks = 4, .step_count = TCW_MAX_DECISION_STEPS};
    for (i = 0; i < TCW_MAX_DECISION_STEPS; i++)
        tuning.tables[0].steps[i] = (struct tcf_tuning_step){(i + 1) << 14, i & 1 ? TCW_STRATEGY_TWOSHOT : TCW_STRATEGY_ONESHOT, i};
    tuning.tables[0].steps[i - 1].max_bytes = UINT64_MAX;
    choosing.tuning = &tuning;
    choose(&desc, &choosing, &choice);
    assert_int_equal(choice.decision.step_count, TCW_MAX_DECISION_STEPS);
    assert_int_equal(choice.decision.steps[TCW_MAX_DECISION_STEPS - 1].blocks, TCW_MAX_DECISION_STEPS - 1);
    desc.lane = TCW_LANE_SERVED;
    choose(&desc, &choosing, &choice);
    assert_int_equal(choice.decision.step_count, TCW_MAX_DECISION_STEPS);
    assert_int_equal(tcw_decision_step(&choice.decision, 8 << 20)->blocks, TCW_MAX_DECISION_STEPS - 2);
    assert_int_equal(tcw_decision_strategy(&choice.decision, (8 << 20) + 1), TCW_STRATEGY_NCCL);
}

/* The tables say of every size what tck/cuda_defaults.h says, grids included, and serve every size. */
static void test_cuda_builtin_tables(void **state)
{
    static const struct {
        uint32_t ranks;
        bool fused;
        uint64_t max_bytes;
        uint32_t strategy, blocks;
    } rows[] = {
#define ROW(ranks, fused, max_bytes, strategy, blocks) {ranks, fused, max_bytes, strategy, blocks},
        TCK_CUDA_DEFAULTS(ROW)
#undef ROW
    };
    const struct tcf_tuning *tuning = tcd_tuning_default();
    uint32_t i, steps = 0;

    (void)state;
    for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const struct tcf_tuning_table *table = tcf_tuning_find(tuning, rows[i].ranks, rows[i].fused);
        const struct tcf_tuning_step *step = table->steps;

        assert_true(table->ranks == rows[i].ranks && table->fused == rows[i].fused);
        while (step->max_bytes < rows[i].max_bytes)
            step++;
        assert_true(step < table->steps + table->step_count && step->max_bytes == rows[i].max_bytes);
        assert_int_equal(step->strategy, rows[i].strategy);
        assert_int_equal(step->blocks, rows[i].blocks);
    }
    for (i = 0; i < tuning->table_count; i++) {
        assert_true(tuning->tables[i].steps[tuning->tables[i].step_count - 1].max_bytes == UINT64_MAX);
        steps += tuning->tables[i].step_count;
    }
    assert_int_equal(steps, sizeof(rows) / sizeof(rows[0]));
    assert_int_equal(tcf_tuning_find(tuning, 3, true)->ranks, 4);
    assert_int_equal(tcf_tuning_find(tuning, 64, true)->ranks, 16);
}

static void test_cuda_tuning(void **state)
{
    static const char text[] =
        "{\"version\":1,\"tables\":[{\"ranks\":4,\"steps\":[{\"max_bytes\":4096,\"strategy\":\"oneshot\",\"blocks\":3},"
        "{\"max_bytes\":100000,\"strategy\":\"twoshot\",\"blocks\":7},{\"max_bytes\":null,\"strategy\":\"oneshot\"}]}]}";
    struct tcw_plan_desc desc = plan_all_reduce(TCW_BF16, TCW_FUSION_NONE, 16, 2048); /* 64 KiB at most */
    struct tcd_choosing choosing = four_gpus();
    struct tcf_issues issues = {0};
    struct tcf_tuning *tuning = tcf_tuning_parse("t.json", text, strlen(text), &issues);
    struct tcd_choice choice;

    (void)state;
    assert_non_null(tuning);
    choosing.tuning = tuning;
    choose(&desc, &choosing, &choice);
    assert_int_equal(choice.decision.step_count, 2);
    assert_int_equal(choice.decision.steps[0].strategy, TCW_STRATEGY_ONESHOT);
    assert_true(choice.decision.steps[0].max_bytes == 4096);
    assert_int_equal(choice.decision.steps[0].blocks, 3);
    assert_int_equal(choice.decision.steps[1].strategy, TCW_STRATEGY_TWOSHOT);
    assert_true(choice.decision.steps[1].max_bytes == UINT64_MAX);
    assert_int_equal(choice.decision.steps[1].blocks, 7);
    assert_non_null(strstr(choice.reason, "of t.json"));
    assert_null(strstr(choice.reason, "but"));
    /* The tables of other GPUs are in effect, and the reason says so where they were used, on both lanes. */
    snprintf(choosing.other_gpu, sizeof(choosing.other_gpu), "device 2 is another");
    choose(&desc, &choosing, &choice);
    assert_int_equal(choice.decision.step_count, 2);
    assert_non_null(strstr(choice.reason, "of t.json, but device 2 is another"));
    desc.lane = TCW_LANE_SERVED;
    choose(&desc, &choosing, &choice);
    assert_non_null(strstr(choice.reason, "of t.json, but device 2 is another"));
    desc.lane = TCW_LANE_AUTO;
    desc.strategy = TCW_STRATEGY_ONESHOT;
    choose(&desc, &choosing, &choice);
    assert_null(strstr(choice.reason, "another"));
    tcf_tuning_free(tuning);
    tcf_issues_free(&issues);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_auto_small),
        cmocka_unit_test(test_cuda_direct_by_default),
        cmocka_unit_test(test_cuda_served_where_kernels_cannot),
        cmocka_unit_test(test_cuda_refusals),
        cmocka_unit_test(test_cuda_alone),
        cmocka_unit_test(test_cuda_without_peers),
        cmocka_unit_test(test_cuda_finalize),
        cmocka_unit_test(test_cuda_multicast),
        cmocka_unit_test(test_cuda_served_by_size),
        cmocka_unit_test(test_cuda_served_long_messages),
        cmocka_unit_test(test_cuda_served_by_nccl_alone),
        cmocka_unit_test(test_cuda_served_full_table),
        cmocka_unit_test(test_cuda_builtin_tables),
        cmocka_unit_test(test_cuda_tuning),
        cmocka_unit_test(test_auto_steps),
        cmocka_unit_test(test_auto_narrow),
        cmocka_unit_test(test_min_latency),
        cmocka_unit_test(test_wishes),
        cmocka_unit_test(test_abilities),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_moving),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
