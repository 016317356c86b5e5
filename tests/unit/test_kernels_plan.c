/* What plans need on CUDA devices; no GPU is needed to answer that. */
#include "cmocka_all.h"
#include "plan_fixture.h"

#include "kernels/cuda/args.h"

#include <tck/comm.h>

enum { UNIT = 8 << 20 };

static uint64_t buffer_bytes(uint64_t workspace)
{
    return workspace < TCK_CUDA_HEADER_BYTES ? 0 : (workspace - TCK_CUDA_HEADER_BYTES) / TCK_CUDA_BUFFERS / 128 * 128;
}

static uint64_t wanted(const struct tcw_plan_desc *desc, uint32_t nranks)
{
    struct tcw_complaint complaint = {0};
    uint64_t bytes = 7;
    if (tck_plan_workspace(TCK_DEVICE_CUDA, desc, nranks, &bytes, &complaint))
        fail_msg("%s: %s", complaint.field, complaint.text);
    assert_int_equal(bytes % UNIT, 0);
    return bytes;
}

static void refused(const struct tcw_plan_desc *desc, uint32_t nranks, const char *field, uint64_t value, const char *mentions)
{
    struct tcw_complaint complaint = {0};
    uint64_t bytes = 7;
    assert_int_equal(tck_plan_workspace(TCK_DEVICE_CUDA, desc, nranks, &bytes, &complaint), TCW_ENOTSUP);
    assert_string_equal(complaint.field, field);
    assert_int_equal(complaint.mine, value);
    if (!strstr(complaint.text, mentions))
        fail_msg("\"%s\" does not mention %s", complaint.text, mentions);
    assert_int_equal(bytes, 7);
    assert_int_equal(tck_plan_workspace(TCK_DEVICE_CUDA, desc, nranks, &bytes, NULL), TCW_ENOTSUP);
}

static struct tcw_plan_desc all_reduce(unsigned strategy, unsigned dtype, unsigned fusion, uint64_t tokens, uint64_t hidden)
{
    struct tcw_plan_desc desc = plan_all_reduce(dtype, fusion, tokens, hidden);
    desc.strategy = (uint16_t)strategy;
    return desc;
}

/* A library moves the data. */
static void test_nothing_needed(void **state)
{
    (void)state;
    static const unsigned moving[] = {TCW_OP_NOP,        TCW_OP_ALL_GATHER, TCW_OP_REDUCE_SCATTER,
                                      TCW_OP_ALL_TO_ALL, TCW_OP_BROADCAST,  TCW_OP_BARRIER};
    for (unsigned i = 0; i < sizeof(moving) / sizeof(moving[0]); i++) {
        struct tcw_plan_desc desc = plan_of(moving[i]);
        plan_add_absent(&desc);
        plan_add_tensor(&desc, TCW_BF16, 1, 1, 1);
        assert_int_equal(wanted(&desc, 64), 0);
    }
    struct tcw_plan_desc desc = all_reduce(TCW_STRATEGY_NCCL, TCW_BF16, TCW_FUSION_RESIDUAL_RMS_NORM, 10, 8192);
    assert_int_equal(wanted(&desc, 64), 0);
    desc.strategy = TCW_STRATEGY_NCCL_SYMMETRIC;
    assert_int_equal(wanted(&desc, 4), 0);
    desc = all_reduce(TCW_STRATEGY_NCCL, TCW_INT64, TCW_FUSION_NONE, 10, 7);
    desc.redop = TCW_MAX;
    assert_int_equal(wanted(&desc, 4), 0);
    desc.strategy = TCW_STRATEGY_AUTO; /* which means NCCL here */
    assert_int_equal(wanted(&desc, 4), 0);
    desc = all_reduce(TCW_STRATEGY_AUTO, TCW_BF16, TCW_FUSION_NONE, 10, 8192);
    assert_int_equal(wanted(&desc, 17), 0);
    desc = all_reduce(TCW_STRATEGY_ONESHOT, TCW_BF16, TCW_FUSION_NONE, 10, 8192);
    assert_int_equal(wanted(&desc, 1), 0); /* nobody to exchange with */
}

static void test_one_shot(void **state)
{
    (void)state;
    for (uint32_t n = 2; n <= 16; n++)
        for (uint64_t tokens = 1; tokens <= 64; tokens *= 2) { /* everybody's message, at once */
            struct tcw_plan_desc desc = all_reduce(TCW_STRATEGY_ONESHOT, TCW_BF16, TCW_FUSION_NONE, tokens, 8192);
            uint64_t bytes = wanted(&desc, n), message = tokens * 8192 * 2 * (n - 1);
            assert_true(buffer_bytes(bytes) >= message);
            assert_true(bytes == UNIT || buffer_bytes(bytes - UNIT) < message);
        }
    /* long messages take several launches, not more memory */
    struct tcw_plan_desc desc = all_reduce(TCW_STRATEGY_ONESHOT, TCW_FP32, TCW_FUSION_NONE, UINT64_C(1) << 20, 8192);
    uint64_t most = wanted(&desc, 16);
    desc.max_tokens = UINT64_C(1) << 26;
    assert_int_equal(wanted(&desc, 16), most);
    assert_true(most <= 160 << 20);
    /* but rows that belong together fit */
    desc = all_reduce(TCW_STRATEGY_ONESHOT, TCW_FP32, TCW_FUSION_RESIDUAL_RMS_NORM, 3, 1 << 22);
    assert_true(buffer_bytes(wanted(&desc, 16)) >= 15 * (UINT64_C(4) << 22));
    desc.fusion = TCW_FUSION_NONE;
    assert_true(wanted(&desc, 16) == most);
    desc.flags = TCW_PLAN_BIAS;
    assert_true(buffer_bytes(wanted(&desc, 16)) >= 15 * (UINT64_C(4) << 22));
}

static void test_other_strategies(void **state)
{
    (void)state;
    static const unsigned strategies[] = {TCW_STRATEGY_TWOSHOT, TCW_STRATEGY_MIN_LATENCY, TCW_STRATEGY_MNNVL,
                                          TCW_STRATEGY_UB,      TCW_STRATEGY_SYMM_MEM,    TCW_STRATEGY_AUTO};
    for (unsigned i = 0; i < sizeof(strategies) / sizeof(strategies[0]); i++) {
        struct tcw_plan_desc desc = all_reduce(strategies[i], TCW_FP16, TCW_FUSION_RESIDUAL_RMS_NORM_OUT_QUANT_NVFP4, 512, 8192);
        uint64_t bytes = wanted(&desc, 4);
        assert_true(buffer_bytes(bytes) >= 2 * 512 * 8192 * 2);
        desc.max_tokens = UINT64_C(1) << 40;
        bytes = wanted(&desc, 4);
        assert_true(bytes <= 160 << 20);
        desc = all_reduce(strategies[i], TCW_BF16, TCW_FUSION_RESIDUAL_RMS_NORM, 1, 7176);
        assert_int_equal(wanted(&desc, 3), UNIT);
    }
}

static void test_refusals(void **state)
{
    (void)state;
    struct tcw_plan_desc desc = all_reduce(TCW_STRATEGY_LOWPRECISION, TCW_BF16, TCW_FUSION_NONE, 4, 64);
    refused(&desc, 4, "strategy", TCW_STRATEGY_LOWPRECISION, "TWOSHOT");
    desc.strategy = TCW_STRATEGY_ONESHOT;
    refused(&desc, 17, "nranks", 17, "16");
    refused(&desc, 65, "nranks", 65, "64");
    refused(&desc, 0, "nranks", 0, "64");
    desc.hidden = 2884;
    refused(&desc, 4, "hidden", 2884, "multiple of 8");
    desc.dtype = TCW_FP32;
    assert_int_equal(wanted(&desc, 4), UNIT);
    desc.hidden = 2885;
    refused(&desc, 4, "hidden", 2885, "multiple of 4");
    desc = all_reduce(TCW_STRATEGY_TWOSHOT, TCW_INT32, TCW_FUSION_NONE, 4, 64);
    refused(&desc, 4, "dtype", TCW_INT32, "NCCL");
    desc.dtype = TCW_BF16;
    desc.redop = TCW_MAX;
    refused(&desc, 4, "redop", TCW_MAX, "NCCL");
    /* what follows a sum of NCCL is ours, too */
    desc = all_reduce(TCW_STRATEGY_NCCL, TCW_BF16, TCW_FUSION_RESIDUAL_RMS_NORM, 4, 2884);
    refused(&desc, 4, "hidden", 2884, "multiple of 8");
    desc = all_reduce(TCW_STRATEGY_NCCL, TCW_INT8, TCW_FUSION_NONE, 4, 64);
    desc.flags = TCW_PLAN_BIAS;
    refused(&desc, 4, "dtype", TCW_INT8, "fp16");
    desc = all_reduce(TCW_STRATEGY_AUTO, TCW_FP32, TCW_FUSION_RESIDUAL_RMS_NORM_QUANT_NVFP4, 4, 64);
    refused(&desc, 4, "dtype", TCW_FP32, "NVFP4");
    desc = all_reduce(TCW_STRATEGY_AUTO, TCW_BF16, TCW_FUSION_RESIDUAL_RMS_NORM_QUANT_NVFP4, 4, 72);
    refused(&desc, 4, "hidden", 72, "16");
    desc = all_reduce(TCW_STRATEGY_AUTO, TCW_BF16, 3, 4, 64);
    refused(&desc, 4, "fusion", 3, "not available");
    desc = all_reduce(TCW_STRATEGY_AUTO, TCW_BOOL, TCW_FUSION_NONE, 4, 64);
    refused(&desc, 4, "dtype", TCW_BOOL, "never reduced");
    desc = plan_of(TCW_OP_REDUCE_SCATTER);
    plan_add_tensor(&desc, TCW_FP8_E4M3, 1, 1, 1);
    refused(&desc, 4, "dtype", TCW_FP8_E4M3, "fp8");
    desc.op = TCW_OP_COUNT;
    refused(&desc, 4, "op", TCW_OP_COUNT, "not available");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing_needed),
        cmocka_unit_test(test_one_shot),
        cmocka_unit_test(test_other_strategies),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
