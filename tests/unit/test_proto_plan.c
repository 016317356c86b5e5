/* Plan descriptors: every field is looked at, and every field that must agree is compared. */
#include "cmocka_all.h"
#include "plan_fixture.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>

enum { RANKS = 4 };

static void accept(const char *what, const struct tcw_plan_desc *desc, uint32_t nranks)
{
    struct tcw_complaint complaint = {0};
    if (tcw_plan_desc_check(desc, nranks, &complaint) != 0)
        fail_msg("refused: %s: %s: %s", what, complaint.field, complaint.text);
}

static void refuse(const char *what, const struct tcw_plan_desc *desc, uint32_t nranks, int code, const char *field)
{
    struct tcw_complaint complaint = {0};
    int got = tcw_plan_desc_check(desc, nranks, &complaint);
    if (got != code)
        fail_msg("%s: %s instead of %s", what, tcw_error_name(got), tcw_error_name(code));
    assert_non_null(complaint.field);
    if (strcmp(complaint.field, field) != 0)
        fail_msg("%s: blames %s instead of %s", what, complaint.field, field);
    assert_true(complaint.text[0]);
    assert_non_null(memchr(complaint.text, 0, sizeof(complaint.text)));
}

#define BASE_AR    plan_all_reduce(TCW_BF16, TCW_FUSION_NONE, 128, 1024)
#define BASE_FUSED plan_all_reduce(TCW_BF16, TCW_FUSION_RESIDUAL_RMS_NORM, 128, 1024)
#define BASE_NVFP4 plan_all_reduce(TCW_BF16, TCW_FUSION_RESIDUAL_RMS_NORM_QUANT_NVFP4, 128, 1024)

static struct tcw_plan_desc gather(unsigned op)
{
    struct tcw_plan_desc desc = plan_of(op);
    plan_add_tensor(&desc, TCW_BF16, 3, 5, 7);
    plan_add_absent(&desc);
    plan_add_tensor(&desc, TCW_INT32, 1, 2, 9);
    return desc;
}

static struct tcw_plan_desc gather_sizes(unsigned op)
{
    struct tcw_plan_desc desc = plan_of(op);
    desc.flags = TCW_PLAN_SIZES;
    plan_add_tensor(&desc, TCW_BF16, 3, 0, 7);
    for (unsigned i = 0; i < RANKS; i++)
        desc.sizes[i] = i * 2;
    return desc;
}

static struct tcw_plan_desc all_to_all(void)
{
    struct tcw_plan_desc desc = plan_of(TCW_OP_ALL_TO_ALL);
    plan_add_tensor(&desc, TCW_FP8_E4M3, 1, 1, 100);
    return desc;
}

static struct tcw_plan_desc broadcast(void)
{
    struct tcw_plan_desc desc = plan_of(TCW_OP_BROADCAST);
    plan_add_tensor(&desc, TCW_BOOL, 1, 1, 100);
    desc.root = 3;
    return desc;
}

static void test_good_plans(void **state)
{
    (void)state;
    struct tcw_plan_desc desc;
    for (uint32_t nranks = 1; nranks <= TCW_MAX_RANKS; nranks++) {
        desc = BASE_AR;
        accept("all-reduce", &desc, nranks);
    }
    static const uint16_t summable[] = {TCW_FP32,  TCW_FP16,  TCW_BF16,   TCW_FP64,  TCW_INT8,
                                        TCW_UINT8, TCW_INT32, TCW_UINT32, TCW_INT64, TCW_UINT64};
    for (size_t i = 0; i < sizeof(summable) / sizeof(summable[0]); i++) {
        for (uint16_t redop = 0; redop < TCW_REDOP_COUNT; redop++) {
            desc = BASE_AR;
            desc.dtype = summable[i];
            desc.redop = redop;
            desc.hidden = 1;
            accept("plain all-reduce", &desc, RANKS);
        }
    }
    static const uint16_t fusions[] = {1, 4, 5, 6, 7};
    for (size_t i = 0; i < 5; i++) {
        desc = plan_all_reduce(TCW_FP16, fusions[i], 1, 16);
        desc.flags = TCW_PLAN_BIAS | TCW_PLAN_ACC_FP32;
        accept("fused", &desc, 16);
    }
    desc = plan_all_reduce(TCW_FP32, TCW_FUSION_RESIDUAL_RMS_NORM_OUT_QUANT_FP8, 7, 4);
    accept("fp32 to fp8", &desc, 3);
    desc = gather(TCW_OP_ALL_GATHER);
    accept("all-gather", &desc, RANKS);
    desc = gather(TCW_OP_REDUCE_SCATTER);
    accept("reduce-scatter", &desc, RANKS);
    desc = gather_sizes(TCW_OP_ALL_GATHER);
    accept("all-gather with sizes", &desc, RANKS);
    desc = gather_sizes(TCW_OP_REDUCE_SCATTER);
    accept("reduce-scatter with sizes", &desc, RANKS);
    desc = all_to_all();
    accept("all-to-all", &desc, RANKS);
    desc = broadcast();
    accept("broadcast", &desc, RANKS);
    desc = plan_of(TCW_OP_BARRIER);
    accept("barrier", &desc, RANKS);
}

#define REFUSE(base, change, code, field)                                                                                                  \
    do {                                                                                                                                   \
        struct tcw_plan_desc desc = base;                                                                                                  \
        accept(#base, &desc, RANKS);                                                                                                       \
        desc.change;                                                                                                                       \
        refuse(#base " " #change, &desc, RANKS, code, field);                                                                              \
    } while (0)

static void test_every_field_is_checked(void **state)
{
    (void)state;
    REFUSE(BASE_AR, op = TCW_OP_COUNT, TCW_ENOSYS, "op");
    REFUSE(BASE_AR, op = 0xffff, TCW_ENOSYS, "op");
    REFUSE(BASE_AR, dtype = TCW_DTYPE_COUNT, TCW_EINVAL, "dtype");
    REFUSE(BASE_AR, dtype = TCW_BOOL, TCW_EINVAL, "dtype");
    REFUSE(BASE_AR, dtype = TCW_FP8_E4M3, TCW_EINVAL, "dtype");
    REFUSE(BASE_AR, strategy = TCW_STRATEGY_COUNT, TCW_EINVAL, "strategy");
    REFUSE(BASE_AR, fusion = 2, TCW_EINVAL, "fusion");
    REFUSE(BASE_AR, fusion = 3, TCW_EINVAL, "fusion");
    REFUSE(BASE_AR, fusion = TCW_FUSION_COUNT, TCW_EINVAL, "fusion");
    REFUSE(BASE_AR, redop = TCW_REDOP_COUNT, TCW_EINVAL, "redop");
    REFUSE(BASE_AR, lane = TCW_LANE_COUNT, TCW_EINVAL, "lane");
    REFUSE(BASE_AR, flags = 16, TCW_EINVAL, "flags");
    REFUSE(BASE_AR, flags = 32, TCW_EINVAL, "flags");
    REFUSE(BASE_AR, flags = 0x80000000u, TCW_EINVAL, "flags");
    REFUSE(BASE_AR, root = 1, TCW_EINVAL, "root");
    REFUSE(BASE_AR, eps_bits = 1, TCW_EINVAL, "eps");
    REFUSE(BASE_AR, max_tokens = 0, TCW_EINVAL, "max_tokens");
    REFUSE(BASE_AR, max_tokens = 1ull << 32, TCW_EINVAL, "max_tokens");
    REFUSE(BASE_AR, max_tokens = UINT64_MAX, TCW_EINVAL, "max_tokens");
    REFUSE(BASE_AR, hidden = 0, TCW_EINVAL, "hidden");
    REFUSE(BASE_AR, hidden = UINT64_MAX, TCW_EINVAL, "hidden");
    REFUSE(BASE_AR, hidden = (1ull << 40) + 1, TCW_EINVAL, "hidden");
    REFUSE(plan_all_reduce(TCW_BF16, 0, 129, 1024), hidden = 1ull << 40, TCW_EINVAL, "max_tokens"); /* the product */
    REFUSE(BASE_AR, tensor_count = 1, TCW_EINVAL, "tensor_count");
    REFUSE(BASE_AR, reserved = 1, TCW_EINVAL, "reserved");
    REFUSE(BASE_AR, sizes[0] = 1, TCW_EINVAL, "sizes");
    REFUSE(BASE_AR, sizes[63] = 1, TCW_EINVAL, "sizes");
    REFUSE(BASE_AR, flags = TCW_PLAN_SIZES, TCW_EINVAL, "sizes");
    REFUSE(BASE_AR, tensors[0].dtype = 1, TCW_EINVAL, "tensors");
    REFUSE(BASE_AR, tensors[15].inner = 1, TCW_EINVAL, "tensors");
    /* Accumulation and bias */
    struct tcw_plan_desc acc = BASE_AR;
    acc.flags = TCW_PLAN_ACC_FP32;
    acc.dtype = TCW_FP32;
    refuse("fp32 accumulation of fp32", &acc, RANKS, TCW_EINVAL, "flags");
    acc.dtype = TCW_INT32;
    acc.flags = TCW_PLAN_BIAS;
    refuse("bias on integers", &acc, RANKS, TCW_EINVAL, "flags");
    acc.dtype = TCW_BF16;
    acc.redop = TCW_MAX;
    refuse("bias on a maximum", &acc, RANKS, TCW_EINVAL, "flags");
}

static void test_fused_fields(void **state)
{
    (void)state;
    REFUSE(BASE_FUSED, dtype = TCW_INT32, TCW_EINVAL, "dtype");
    REFUSE(BASE_FUSED, dtype = TCW_FP64, TCW_EINVAL, "dtype");
    REFUSE(BASE_FUSED, redop = TCW_AVG, TCW_EINVAL, "redop");
    REFUSE(BASE_FUSED, hidden = 1028, TCW_EINVAL, "hidden"); /* 2056 bytes are no multiple of 16 */
    REFUSE(BASE_FUSED, eps_bits = float_bits(-1e-6f), TCW_EINVAL, "eps");
    REFUSE(BASE_FUSED, eps_bits = float_bits(1.5f), TCW_EINVAL, "eps");
    REFUSE(BASE_FUSED, eps_bits = float_bits(INFINITY), TCW_EINVAL, "eps");
    REFUSE(BASE_FUSED, eps_bits = float_bits(NAN), TCW_EINVAL, "eps");
    REFUSE(BASE_NVFP4, dtype = TCW_FP32, TCW_EINVAL, "dtype");
    REFUSE(BASE_NVFP4, hidden = 1032, TCW_EINVAL, "hidden"); /* 16 bytes, but no whole block */
    struct tcw_plan_desc zero = BASE_FUSED;
    zero.eps_bits = 0;
    accept("eps 0", &zero, RANKS);
}

#define GATHER  gather(TCW_OP_ALL_GATHER)
#define SCATTER gather(TCW_OP_REDUCE_SCATTER)
#define SIZES   gather_sizes(TCW_OP_ALL_GATHER)

static struct tcw_plan_desc finalize(void)
{
    return (struct tcw_plan_desc){.op = TCW_OP_UB_FINALIZE,
                                  .dtype = TCW_FP16,
                                  .strategy = TCW_STRATEGY_AUTO,
                                  .flags = TCW_PLAN_FORCE | TCW_PLAN_GRAPH,
                                  .max_tokens = 8,
                                  .hidden = 100};
}

static void test_finalize_fields(void **state)
{
    struct tcw_plan_desc good = finalize();

    (void)state;
    accept("finalize", &good, RANKS);
    REFUSE(finalize(), dtype = TCW_FP64, TCW_EINVAL, "dtype");
    REFUSE(finalize(), max_tokens = 0, TCW_EINVAL, "max_tokens");
    REFUSE(finalize(), hidden = 0, TCW_EINVAL, "hidden");
    REFUSE(finalize(), strategy = TCW_STRATEGY_UB, TCW_EINVAL, "strategy");
    REFUSE(finalize(), fusion = TCW_FUSION_RESIDUAL_RMS_NORM, TCW_EINVAL, "strategy");
    REFUSE(finalize(), eps_bits = 1, TCW_EINVAL, "eps");
    REFUSE(finalize(), redop = TCW_MAX, TCW_EINVAL, "redop");
    REFUSE(finalize(), flags = TCW_PLAN_BIAS, TCW_EINVAL, "flags");
    REFUSE(finalize(), flags = TCW_PLAN_SIZES, TCW_EINVAL, "sizes");
    REFUSE(finalize(), tensor_count = 1, TCW_EINVAL, "tensor_count");
    REFUSE(finalize(), root = 1, TCW_EINVAL, "root");
}

static void test_tensor_fields(void **state)
{
    (void)state;
    REFUSE(GATHER, tensor_count = 0, TCW_EINVAL, "tensor_count");
    REFUSE(GATHER, tensor_count = TCW_MAX_TENSORS + 1, TCW_EINVAL, "tensor_count");
    REFUSE(GATHER, tensor_count = 0xffffffffu, TCW_EINVAL, "tensor_count");
    REFUSE(GATHER, tensor_count = 2, TCW_EINVAL, "tensors"); /* the third stays set */
    REFUSE(GATHER, tensors[0].present = 2, TCW_EINVAL, "tensors");
    REFUSE(GATHER, tensors[0].present = 0, TCW_EINVAL, "tensors"); /* absent, but with a shape */
    REFUSE(GATHER, tensors[0].dtype = TCW_DTYPE_COUNT, TCW_EINVAL, "tensors");
    REFUSE(GATHER, tensors[1].dtype = 1, TCW_EINVAL, "tensors");
    REFUSE(GATHER, tensors[1].inner = 1, TCW_EINVAL, "tensors");
    REFUSE(GATHER, tensors[0].outer = UINT64_MAX, TCW_EINVAL, "tensors");
    REFUSE(GATHER, tensors[0].inner = 1ull << 47, TCW_EINVAL, "tensors");
    REFUSE(GATHER, tensors[0].extent = 1ull << 63, TCW_EINVAL, "tensors");
    REFUSE(GATHER, tensors[0].extent = 1ull << 44, TCW_EINVAL, "tensors");
    REFUSE(GATHER, redop = TCW_MAX, TCW_EINVAL, "redop");
    REFUSE(GATHER, root = 1, TCW_EINVAL, "root");
    REFUSE(GATHER, dtype = TCW_BF16, TCW_EINVAL, "max_tokens");
    REFUSE(GATHER, max_tokens = 1, TCW_EINVAL, "max_tokens");
    REFUSE(GATHER, hidden = 1, TCW_EINVAL, "max_tokens");
    REFUSE(GATHER, eps_bits = 1, TCW_EINVAL, "max_tokens");
    REFUSE(GATHER, strategy = TCW_STRATEGY_ONESHOT, TCW_EINVAL, "strategy");
    REFUSE(GATHER, fusion = TCW_FUSION_RESIDUAL_RMS_NORM, TCW_EINVAL, "strategy");
    REFUSE(GATHER, flags = TCW_PLAN_BIAS, TCW_EINVAL, "flags");
    REFUSE(GATHER, flags = TCW_PLAN_ACC_FP32, TCW_EINVAL, "flags");
    REFUSE(GATHER, sizes[1] = 4, TCW_EINVAL, "sizes");
    REFUSE(SIZES, tensors[0].extent = 1, TCW_EINVAL, "tensors");
    REFUSE(SIZES, sizes[RANKS] = 1, TCW_EINVAL, "sizes");
    REFUSE(SIZES, sizes[63] = 1, TCW_EINVAL, "sizes");
    REFUSE(SIZES, sizes[0] = UINT64_MAX, TCW_EINVAL, "sizes");
    REFUSE(SIZES, sizes[0] = (1ull << 40) + 1, TCW_EINVAL, "sizes");
    REFUSE(SCATTER, tensors[0].dtype = TCW_BOOL, TCW_EINVAL, "tensors");
    REFUSE(SCATTER, tensors[2].dtype = TCW_FP8_E4M3, TCW_EINVAL, "tensors");
    REFUSE(all_to_all(), tensors[0].outer = 2, TCW_EINVAL, "tensors");
    REFUSE(all_to_all(), tensors[0].extent = 2, TCW_EINVAL, "tensors");
    REFUSE(all_to_all(), flags = TCW_PLAN_SIZES, TCW_EINVAL, "sizes");
    REFUSE(broadcast(), root = RANKS, TCW_EINVAL, "root");
    REFUSE(broadcast(), root = 0xffffffffu, TCW_EINVAL, "root");
    REFUSE(broadcast(), tensor_count = 0, TCW_EINVAL, "tensor_count");
    REFUSE(broadcast(), tensor_count = 2, TCW_EINVAL, "tensor_count");
    REFUSE(broadcast(), redop = 1, TCW_EINVAL, "redop");
    REFUSE(plan_of(TCW_OP_BARRIER), tensor_count = 1, TCW_EINVAL, "tensor_count");
    struct tcw_plan_desc absent = plan_of(TCW_OP_BROADCAST);
    plan_add_absent(&absent);
    refuse("absent tensor of a broadcast", &absent, RANKS, TCW_EINVAL, "tensors");
}

static void test_group_sizes(void **state)
{
    (void)state;
    struct tcw_plan_desc desc = BASE_AR;
    refuse("no ranks", &desc, 0, TCW_EINVAL, "nranks");
    refuse("65 ranks", &desc, TCW_MAX_RANKS + 1, TCW_EINVAL, "nranks");
    refuse("4 billion ranks", &desc, UINT32_MAX, TCW_EINVAL, "nranks");
    /* A request names at most TCW_MAX_REFS buffers: lists x ranks in and lists out. */
    struct tcw_plan_desc lists = plan_of(TCW_OP_ALL_TO_ALL);
    for (unsigned i = 0; i < 16; i++)
        plan_add_tensor(&lists, TCW_BF16, 1, 1, 8);
    accept("16 lists of 16 ranks", &lists, 16);
    accept("16 lists of 19 ranks", &lists, 19);
    refuse("16 lists of 20 ranks", &lists, 20, TCW_EINVAL, "tensor_count");
}

/* ---- comparison ---- */

#define DIFFER(base, change, name, was, is)                                                                                                \
    do {                                                                                                                                   \
        struct tcw_plan_desc a = base, b = base;                                                                                           \
        struct tcw_complaint complaint = {0};                                                                                              \
        assert_int_equal(tcw_plan_desc_compare(&a, &b, &complaint), 0);                                                                    \
        assert_true(tcw_plan_desc_hash(&a) == tcw_plan_desc_hash(&b));                                                                     \
        b.change;                                                                                                                          \
        assert_int_equal(tcw_plan_desc_compare(&a, &b, &complaint), TCW_EMISMATCH);                                                        \
        assert_string_equal(complaint.field, name);                                                                                        \
        assert_true(complaint.mine == (uint64_t)(was));                                                                                    \
        assert_true(complaint.theirs == (uint64_t)(is));                                                                                   \
        assert_true(complaint.text[0]);                                                                                                    \
        assert_string_not_equal(complaint.mine_text, complaint.theirs_text);                                                               \
        assert_true(tcw_plan_desc_hash(&a) != tcw_plan_desc_hash(&b));                                                                     \
        assert_int_equal(tcw_plan_desc_compare(&b, &a, &complaint), TCW_EMISMATCH);                                                        \
        assert_true(complaint.mine == (uint64_t)(is));                                                                                     \
    } while (0)

static void test_every_field_is_compared(void **state)
{
    (void)state;
    DIFFER(BASE_AR, op = TCW_OP_BARRIER, "op", TCW_OP_ALL_REDUCE, TCW_OP_BARRIER);
    DIFFER(BASE_AR, dtype = TCW_FP32, "dtype", TCW_BF16, TCW_FP32);
    DIFFER(BASE_AR, redop = TCW_MAX, "redop", TCW_SUM, TCW_MAX);
    DIFFER(BASE_AR, fusion = 4, "fusion", 0, 4);
    DIFFER(BASE_AR, strategy = TCW_STRATEGY_TWOSHOT, "strategy", TCW_STRATEGY_AUTO, TCW_STRATEGY_TWOSHOT);
    DIFFER(BASE_AR, lane = TCW_LANE_SERVED, "lane", 0, TCW_LANE_SERVED);
    DIFFER(BASE_AR, flags = TCW_PLAN_BIAS, "flags", 0, TCW_PLAN_BIAS);
    DIFFER(broadcast(), root = 1, "root", 3, 1);
    DIFFER(BASE_AR, hidden = 1025, "hidden", 1024, 1025);
    DIFFER(BASE_AR, max_tokens = 1ull << 31, "max_tokens", 128, 1ull << 31);
    DIFFER(BASE_FUSED, eps_bits = float_bits(1e-5f), "eps", float_bits(1e-6f), float_bits(1e-5f));
    DIFFER(BASE_FUSED, eps_bits += 1, "eps", float_bits(1e-6f), float_bits(1e-6f) + 1);
    DIFFER(GATHER, tensor_count = 2, "tensor_count", 3, 2);
    DIFFER(SIZES, sizes[3] = 7, "sizes", 6, 7);
    DIFFER(GATHER, tensors[2].present = 0, "tensors[2].present", 1, 0);
    DIFFER(GATHER, tensors[2].dtype = TCW_FP32, "tensors[2].dtype", TCW_INT32, TCW_FP32);
    DIFFER(GATHER, tensors[0].outer = 4, "tensors[0].outer", 3, 4);
    DIFFER(GATHER, tensors[0].extent = 1ull << 40, "tensors[0].extent", 5, 1ull << 40);
    DIFFER(GATHER, tensors[15].inner = 1, "tensors[15].inner", 0, 1);
}

/* ---- tokens and decisions ---- */

static void test_tokens(void **state)
{
    (void)state;
    struct tcw_complaint complaint;
    struct tcw_plan_desc desc = BASE_AR;
    assert_int_equal(tcw_plan_tokens_check(&desc, 0, &complaint), TCW_EINVAL);
    assert_int_equal(tcw_plan_tokens_check(&desc, 1, &complaint), 0);
    assert_int_equal(tcw_plan_tokens_check(&desc, 128, &complaint), 0);
    assert_int_equal(tcw_plan_tokens_check(&desc, 129, &complaint), TCW_EINVAL);
    assert_int_equal(tcw_plan_tokens_check(&desc, UINT64_MAX, &complaint), TCW_EINVAL);
    desc = GATHER; /* extents 5 and 2 */
    assert_int_equal(tcw_plan_tokens_check(&desc, 0, &complaint), 0);
    assert_int_equal(tcw_plan_tokens_check(&desc, 2, &complaint), 0);
    assert_int_equal(tcw_plan_tokens_check(&desc, 3, &complaint), TCW_EINVAL);
    desc = SIZES;
    assert_int_equal(tcw_plan_tokens_check(&desc, 0, &complaint), 0);
    assert_int_equal(tcw_plan_tokens_check(&desc, 1, &complaint), TCW_EINVAL);
    desc = broadcast();
    assert_int_equal(tcw_plan_tokens_check(&desc, 0, &complaint), 0);
    assert_int_equal(tcw_plan_tokens_check(&desc, 1, &complaint), TCW_EINVAL);
    desc = plan_of(TCW_OP_BARRIER);
    assert_int_equal(tcw_plan_tokens_check(&desc, 0, &complaint), 0);
    assert_int_equal(tcw_plan_tokens_check(&desc, 1, &complaint), TCW_EINVAL);
}

static void test_decision(void **state)
{
    (void)state;
    struct tcw_decision decision = {.lane = TCW_LANE_DIRECT, .step_count = 3};
    decision.steps[0] = (struct tcw_decision_step){.max_bytes = 1024, .strategy = TCW_STRATEGY_ONESHOT};
    decision.steps[1] = (struct tcw_decision_step){.max_bytes = 65536, .strategy = TCW_STRATEGY_MNNVL};
    decision.steps[2] = (struct tcw_decision_step){.max_bytes = UINT64_MAX, .strategy = TCW_STRATEGY_TWOSHOT};
    assert_int_equal(tcw_decision_strategy(&decision, 0), TCW_STRATEGY_ONESHOT);
    assert_int_equal(tcw_decision_strategy(&decision, 1024), TCW_STRATEGY_ONESHOT);
    assert_int_equal(tcw_decision_strategy(&decision, 1025), TCW_STRATEGY_MNNVL);
    assert_int_equal(tcw_decision_strategy(&decision, 65537), TCW_STRATEGY_TWOSHOT);
    assert_int_equal(tcw_decision_strategy(&decision, UINT64_MAX), TCW_STRATEGY_TWOSHOT);
    decision.step_count = 0xffffffffu; /* a number from outside never leads beyond the array */
    assert_int_equal(tcw_decision_strategy(&decision, UINT64_MAX), TCW_STRATEGY_TWOSHOT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good_plans),
        cmocka_unit_test(test_every_field_is_checked),
        cmocka_unit_test(test_fused_fields),
        cmocka_unit_test(test_finalize_fields),
        cmocka_unit_test(test_tensor_fields),
        cmocka_unit_test(test_group_sizes),
        cmocka_unit_test(test_every_field_is_compared),
        cmocka_unit_test(test_tokens),
        cmocka_unit_test(test_decision),
    };
    return cmocka_run_group_tests_name("plans", tests, NULL, NULL);
}
