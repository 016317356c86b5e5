/* Buffer sizes against values computed by hand. */
#include "cmocka_all.h"
#include "plan_fixture.h"

static void expect(const struct tcw_plan_desc *desc, uint32_t nranks, uint32_t rank, uint64_t tokens, unsigned slot, uint32_t index,
                   uint64_t bytes)
{
    uint64_t got = tcw_plan_slot_bytes(desc, nranks, rank, tokens, slot, index);
    if (got != bytes)
        fail_msg("%s[%u] of rank %u of %u, tokens %llu: %llu bytes instead of %llu", tcw_slot_name(slot), index, rank, nranks,
                 (unsigned long long)tokens, (unsigned long long)got, (unsigned long long)bytes);
}

static void expect_counts(const struct tcw_plan_desc *desc, uint32_t nranks, const uint32_t counts[TCW_SLOT_COUNT])
{
    struct tcw_complaint complaint = {0};
    assert_int_equal(tcw_plan_desc_check(desc, nranks, &complaint), 0);
    for (unsigned slot = 0; slot < TCW_SLOT_COUNT; slot++) {
        assert_int_equal(tcw_plan_slot_count(desc, nranks, slot), counts[slot]);
        assert_int_equal(tcw_plan_slot_bytes(desc, nranks, 0, 1, slot, counts[slot]), 0);
        assert_int_equal(tcw_plan_slot_bytes(desc, nranks, 0, 1, slot, UINT32_MAX), 0);
    }
    assert_int_equal(tcw_plan_slot_count(desc, nranks, TCW_SLOT_COUNT), 0);
}

static void test_finalize(void **state)
{
    struct tcw_plan_desc desc = {
        .op = TCW_OP_UB_FINALIZE, .dtype = TCW_BF16, .strategy = TCW_STRATEGY_AUTO, .max_tokens = 100, .hidden = 7};
    struct tcw_complaint complaint;

    (void)state;
    expect_counts(&desc, 3, (const uint32_t[TCW_SLOT_COUNT]){1, 1});
    expect(&desc, 3, 1, 10, TCW_SLOT_IN, 0, 140);
    expect(&desc, 3, 1, 10, TCW_SLOT_OUT, 0, 140);
    assert_int_equal(tcw_plan_message_bytes(&desc, 3, 1, 10), 140);
    assert_int_equal(tcw_plan_tokens_check(&desc, 101, &complaint), TCW_EINVAL);
    /* 11 tokens on 4 ranks: 3, 3, 3, 2. */
    assert_int_equal(tcw_shard_first(11, 4, 0), 0);
    assert_int_equal(tcw_shard_first(11, 4, 1), 3);
    assert_int_equal(tcw_shard_first(11, 4, 3), 9);
    assert_int_equal(tcw_shard_first(11, 4, 4), 11);
    assert_int_equal(tcw_shard_first(2, 4, 3), 2);
    /* One rank, or 131072 elements of all ranks together. */
    desc.hidden = 8192;
    assert_true(tcw_finalize_is_local(&desc, 1, 100) && tcw_finalize_is_local(&desc, 4, 4) && tcw_finalize_is_local(&desc, 2, 8));
    assert_false(tcw_finalize_is_local(&desc, 4, 5) || tcw_finalize_is_local(&desc, 2, 9));
    desc.flags = TCW_PLAN_FORCE;
    assert_int_equal(tcw_plan_desc_check(&desc, 4, &complaint), 0);
    assert_true(!tcw_finalize_is_local(&desc, 4, 4) && tcw_finalize_is_local(&desc, 1, 1));
    desc.dtype = TCW_INT32;
    assert_int_equal(tcw_plan_desc_check(&desc, 4, &complaint), TCW_EINVAL);
    desc = plan_all_reduce(TCW_BF16, TCW_FUSION_NONE, 8, 8);
    desc.flags = TCW_PLAN_FORCE;
    assert_int_equal(tcw_plan_desc_check(&desc, 4, &complaint), TCW_EINVAL);
    assert_string_equal(complaint.field, "flags");
}

static void test_plain_all_reduce(void **state)
{
    (void)state;
    struct tcw_plan_desc desc = plan_all_reduce(TCW_BF16, TCW_FUSION_NONE, 100, 7);
    expect_counts(&desc, 3, (const uint32_t[TCW_SLOT_COUNT]){1, 1});
    expect(&desc, 3, 0, 100, TCW_SLOT_IN, 0, 1400);
    expect(&desc, 3, 2, 3, TCW_SLOT_IN, 0, 42);
    expect(&desc, 3, 2, 3, TCW_SLOT_OUT, 0, 42);
    expect(&desc, 3, 2, 3, TCW_SLOT_BIAS, 0, 0);
    desc.flags = TCW_PLAN_BIAS;
    expect_counts(&desc, 3, (const uint32_t[TCW_SLOT_COUNT]){1, 1, 0, 0, 0, 1});
    expect(&desc, 3, 2, 3, TCW_SLOT_BIAS, 0, 14);
    assert_int_equal(tcw_plan_message_bytes(&desc, 3, 1, 10), 140);
    desc = plan_all_reduce(TCW_FP64, TCW_FUSION_NONE, 1, 3);
    expect(&desc, 2, 0, 1, TCW_SLOT_IN, 0, 24);
}

static void test_fused_all_reduce(void **state)
{
    (void)state;
    struct tcw_plan_desc desc = plan_all_reduce(TCW_FP16, TCW_FUSION_RESIDUAL_RMS_NORM, 300, 80);
    expect_counts(&desc, 4, (const uint32_t[TCW_SLOT_COUNT]){1, 1, 1, 1, 1});
    expect(&desc, 4, 0, 129, TCW_SLOT_RESIDUAL_IN, 0, 129 * 160);
    expect(&desc, 4, 0, 129, TCW_SLOT_RESIDUAL_OUT, 0, 129 * 160);
    expect(&desc, 4, 0, 129, TCW_SLOT_OUT, 0, 129 * 160);
    expect(&desc, 4, 0, 129, TCW_SLOT_NORM_WEIGHT, 0, 160);

    desc = plan_all_reduce(TCW_FP32, TCW_FUSION_RESIDUAL_RMS_NORM_QUANT_FP8, 300, 80);
    expect_counts(&desc, 4, (const uint32_t[TCW_SLOT_COUNT]){1, 0, 1, 1, 1, 0, 1, 1, 0});
    expect(&desc, 4, 0, 129, TCW_SLOT_QUANT_OUT, 0, 129 * 80);
    expect(&desc, 4, 0, 129, TCW_SLOT_SCALE, 0, 4);
    expect(&desc, 4, 0, 129, TCW_SLOT_NORM_WEIGHT, 0, 320);

    desc = plan_all_reduce(TCW_BF16, TCW_FUSION_RESIDUAL_RMS_NORM_OUT_QUANT_FP8, 300, 80);
    expect_counts(&desc, 4, (const uint32_t[TCW_SLOT_COUNT]){1, 1, 1, 1, 1, 0, 1, 1, 0});

    desc = plan_all_reduce(TCW_BF16, TCW_FUSION_RESIDUAL_RMS_NORM_QUANT_NVFP4, 300, 80);
    expect_counts(&desc, 4, (const uint32_t[TCW_SLOT_COUNT]){1, 0, 1, 1, 1, 0, 1, 1, 1});
    expect(&desc, 4, 0, 3, TCW_SLOT_QUANT_OUT, 0, 3 * 40);
    /* 80 / 16 = 5 blocks, rounded up to 8 columns; rows to 128. */
    expect(&desc, 4, 0, 1, TCW_SLOT_SCALE_OUT, 0, 128 * 8);
    expect(&desc, 4, 0, 128, TCW_SLOT_SCALE_OUT, 0, 128 * 8);
    expect(&desc, 4, 0, 129, TCW_SLOT_SCALE_OUT, 0, 256 * 8);
    desc.fusion = TCW_FUSION_RESIDUAL_RMS_NORM_OUT_QUANT_NVFP4;
    expect_counts(&desc, 4, (const uint32_t[TCW_SLOT_COUNT]){1, 1, 1, 1, 1, 0, 1, 1, 1});
}

static void test_gather_and_scatter(void **state)
{
    (void)state;
    struct tcw_plan_desc desc = plan_of(TCW_OP_ALL_GATHER);
    plan_add_tensor(&desc, TCW_BF16, 3, 5, 7);
    plan_add_absent(&desc);
    plan_add_tensor(&desc, TCW_INT64, 1, 9, 2);
    expect_counts(&desc, 4, (const uint32_t[TCW_SLOT_COUNT]){2, 2});
    expect(&desc, 4, 1, 0, TCW_SLOT_IN, 0, 3 * 5 * 7 * 2);
    expect(&desc, 4, 1, 0, TCW_SLOT_OUT, 0, 4 * 3 * 5 * 7 * 2);
    expect(&desc, 4, 1, 0, TCW_SLOT_IN, 1, 9 * 2 * 8);
    expect(&desc, 4, 1, 0, TCW_SLOT_OUT, 1, 4 * 9 * 2 * 8);
    expect(&desc, 4, 1, 2, TCW_SLOT_IN, 0, 3 * 2 * 7 * 2); /* a smaller extent of one run */
    expect(&desc, 4, 1, 2, TCW_SLOT_OUT, 1, 4 * 2 * 2 * 8);
    assert_int_equal(tcw_plan_message_bytes(&desc, 4, 1, 0), 4 * 3 * 5 * 7 * 2 + 4 * 9 * 2 * 8);
    desc.op = TCW_OP_REDUCE_SCATTER;
    expect(&desc, 4, 1, 0, TCW_SLOT_IN, 0, 4 * 3 * 5 * 7 * 2);
    expect(&desc, 4, 1, 0, TCW_SLOT_OUT, 0, 3 * 5 * 7 * 2);
    expect(&desc, 4, 1, 2, TCW_SLOT_IN, 1, 4 * 2 * 2 * 8);
}

static void test_sizes(void **state)
{
    (void)state;
    struct tcw_plan_desc desc = plan_of(TCW_OP_ALL_GATHER);
    desc.flags = TCW_PLAN_SIZES;
    plan_add_tensor(&desc, TCW_FP32, 2, 0, 3);
    desc.sizes[0] = 4;
    desc.sizes[1] = 0;
    desc.sizes[2] = 10;
    expect_counts(&desc, 3, (const uint32_t[TCW_SLOT_COUNT]){1, 1});
    expect(&desc, 3, 0, 0, TCW_SLOT_IN, 0, 2 * 4 * 3 * 4);
    expect(&desc, 3, 1, 0, TCW_SLOT_IN, 0, 0);
    expect(&desc, 3, 2, 0, TCW_SLOT_IN, 0, 2 * 10 * 3 * 4);
    for (uint32_t rank = 0; rank < 3; rank++)
        expect(&desc, 3, rank, 0, TCW_SLOT_OUT, 0, 2 * 14 * 3 * 4);
    desc.op = TCW_OP_REDUCE_SCATTER;
    expect(&desc, 3, 1, 0, TCW_SLOT_IN, 0, 2 * 14 * 3 * 4);
    expect(&desc, 3, 1, 0, TCW_SLOT_OUT, 0, 0);
    expect(&desc, 3, 2, 0, TCW_SLOT_OUT, 0, 2 * 10 * 3 * 4);
}

static void test_all_to_all(void **state)
{
    (void)state;
    struct tcw_plan_desc desc = plan_of(TCW_OP_ALL_TO_ALL);
    plan_add_tensor(&desc, TCW_BF16, 1, 1, 10);
    plan_add_absent(&desc);
    plan_add_tensor(&desc, TCW_FP64, 1, 1, 3);
    expect_counts(&desc, 5, (const uint32_t[TCW_SLOT_COUNT]){10, 2});
    for (uint32_t i = 0; i < 10; i++)
        expect(&desc, 5, 2, 0, TCW_SLOT_IN, i, i < 5 ? 20 : 24);
    expect(&desc, 5, 2, 0, TCW_SLOT_OUT, 0, 100);
    expect(&desc, 5, 2, 0, TCW_SLOT_OUT, 1, 120);
    assert_int_equal(tcw_plan_message_bytes(&desc, 5, 0, 0), 220);
}

static void test_broadcast_and_barrier(void **state)
{
    (void)state;
    struct tcw_plan_desc desc = plan_of(TCW_OP_BROADCAST);
    plan_add_tensor(&desc, TCW_UINT8, 1, 1, 77);
    desc.root = 2;
    expect_counts(&desc, 4, (const uint32_t[TCW_SLOT_COUNT]){1, 1});
    for (uint32_t rank = 0; rank < 4; rank++) {
        expect(&desc, 4, rank, 0, TCW_SLOT_IN, 0, rank == 2 ? 77 : 0);
        expect(&desc, 4, rank, 0, TCW_SLOT_OUT, 0, 77);
    }
    desc = plan_of(TCW_OP_BARRIER);
    expect_counts(&desc, 4, (const uint32_t[TCW_SLOT_COUNT]){0});
    assert_int_equal(tcw_plan_message_bytes(&desc, 4, 0, 0), 0);
}

/* The largest plans that pass the check do not overflow. */
static void test_limits(void **state)
{
    (void)state;
    struct tcw_complaint complaint = {0};
    struct tcw_plan_desc desc = plan_all_reduce(TCW_INT8, TCW_FUSION_NONE, 1ull << 31, 1ull << 17);
    assert_int_equal(tcw_plan_desc_check(&desc, 64, &complaint), 0);
    expect(&desc, 64, 0, 1ull << 31, TCW_SLOT_IN, 0, 1ull << 48);
    desc = plan_of(TCW_OP_ALL_GATHER);
    for (unsigned i = 0; i < TCW_MAX_TENSORS; i++)
        plan_add_tensor(&desc, TCW_INT8, 1, 1ull << 40, 4);
    assert_int_equal(tcw_plan_desc_check(&desc, 64, &complaint), 0);
    expect(&desc, 64, 0, 0, TCW_SLOT_OUT, 15, 1ull << 48);
    assert_true(tcw_plan_message_bytes(&desc, 64, 0, 0) == 1ull << 52);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_finalize),
        cmocka_unit_test(test_plain_all_reduce),
        cmocka_unit_test(test_fused_all_reduce),
        cmocka_unit_test(test_gather_and_scatter),
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_all_to_all),
        cmocka_unit_test(test_broadcast_and_barrier),
        cmocka_unit_test(test_limits),
    };
    return cmocka_run_group_tests_name("buffer sizes", tests, NULL, NULL);
}
