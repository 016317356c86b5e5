/* What an operator types behind `explain` becomes a descriptor that the daemon accepts, or a complaint that says what is allowed. */
#include "client/ctl/shape.h"

#include <string.h>

#include "cmocka_all.h"

static void accept(const struct tcc_shape_request *request, uint32_t ranks, struct tcw_plan_desc *desc, uint64_t *tokens)
{
    struct tcw_complaint complaint;

    if (tcc_shape_parse(request, desc, tokens, &complaint) || tcw_plan_desc_check(desc, ranks, &complaint))
        fail_msg("%s", complaint.text);
}

static void refuse(const struct tcc_shape_request *request, const char *field, const char *part)
{
    struct tcw_plan_desc desc;
    struct tcw_complaint complaint;
    uint64_t tokens;

    assert_int_equal(tcc_shape_parse(request, &desc, &tokens, &complaint), TCW_EINVAL);
    assert_string_equal(complaint.field, field);
    if (!strstr(complaint.text, part))
        fail_msg("\"%s\" does not contain \"%s\"", complaint.text, part);
}

static void test_all_reduce(void **state)
{
    (void)state;
    struct tcw_plan_desc desc;
    uint64_t tokens;

    accept(&(struct tcc_shape_request){.op = "all-reduce", .shape = "64x7168"}, 4, &desc, &tokens);
    assert_int_equal(desc.op, TCW_OP_ALL_REDUCE);
    assert_int_equal(tokens, 64);
    assert_int_equal(desc.max_tokens, 64);
    assert_int_equal(desc.hidden, 7168);
    assert_int_equal(desc.dtype, TCW_BF16);
    assert_int_equal(desc.strategy, TCW_STRATEGY_AUTO);
    assert_int_equal(desc.eps_bits, 0);
    assert_int_equal(tcw_plan_message_bytes(&desc, 4, 0, tokens), 64 * 7168 * 2);

    accept(&(struct tcc_shape_request){.op = "all-reduce",
                                       .shape = "1x4096",
                                       .dtype = "fp16",
                                       .fusion = "residual-rms-norm",
                                       .strategy = "oneshot",
                                       .lane = "direct",
                                       .max_tokens = "512",
                                       .bias = true,
                                       .acc_fp32 = true,
                                       .graph = true},
           4, &desc, &tokens);
    assert_int_equal(tokens, 1);
    assert_int_equal(desc.max_tokens, 512);
    assert_int_equal(desc.fusion, TCW_FUSION_RESIDUAL_RMS_NORM);
    assert_int_equal(desc.strategy, TCW_STRATEGY_ONESHOT);
    assert_int_equal(desc.lane, TCW_LANE_DIRECT);
    assert_int_equal(desc.flags, TCW_PLAN_BIAS | TCW_PLAN_ACC_FP32 | TCW_PLAN_GRAPH);
    float eps;
    memcpy(&eps, &desc.eps_bits, sizeof eps);
    assert_true(eps == 1e-6f);
}

static void test_others(void **state)
{
    (void)state;
    struct tcw_plan_desc desc;
    uint64_t tokens;

    accept(&(struct tcc_shape_request){.op = "all-gather", .shape = "64x7168", .dtype = "fp8-e4m3"}, 4, &desc, &tokens);
    assert_int_equal(desc.tensor_count, 1);
    assert_int_equal(desc.tensors[0].extent, 64);
    assert_int_equal(desc.tensors[0].inner, 7168);
    assert_int_equal(tcw_plan_message_bytes(&desc, 4, 0, 0), 4 * 64 * 7168);

    accept(&(struct tcc_shape_request){.op = "reduce-scatter", .shape = "1x16", .sizes = "3,0,5,1", .redop = "max", .dtype = "int32"}, 4,
           &desc, &tokens);
    assert_int_equal(desc.flags, TCW_PLAN_SIZES);
    assert_int_equal(desc.sizes[2], 5);
    assert_int_equal(tcc_shape_ranks("3,0,5,1"), 4);
    assert_int_equal(desc.redop, TCW_MAX);

    accept(&(struct tcc_shape_request){.op = "all-to-all", .shape = "4096"}, 4, &desc, &tokens);
    accept(&(struct tcc_shape_request){.op = "broadcast", .shape = "4096", .root = "3"}, 4, &desc, &tokens);
    assert_int_equal(desc.root, 3);
    accept(&(struct tcc_shape_request){.op = "barrier"}, 4, &desc, &tokens);
    accept(&(struct tcc_shape_request){.op = "ub-finalize", .shape = "64x7168", .max_tokens = "100"}, 4, &desc, &tokens);
    assert_true(tokens == 64 && desc.max_tokens == 100 && desc.hidden == 7168 && desc.dtype == TCW_BF16);
}

static void test_refusals(void **state)
{
    (void)state;
    refuse(&(struct tcc_shape_request){.op = "all-produce"}, "operation", "all-reduce, all-gather");
    refuse(&(struct tcc_shape_request){.op = "all-reduce"}, "shape", "TOKENSxHIDDEN");
    static const char *const shapes[] = {"", "64", "64x", "x64", "0x64", "64x-1", "64x64x64", "64 x 64", "18446744073709551616x1"};
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++)
        refuse(&(struct tcc_shape_request){.op = "all-reduce", .shape = shapes[i]}, "shape", "TOKENSxHIDDEN");
    refuse(&(struct tcc_shape_request){.op = "broadcast", .shape = "4294967296x4294967296"}, "shape", "2^64");
    refuse(&(struct tcc_shape_request){.op = "barrier", .shape = "1"}, "shape", "takes none");
    refuse(&(struct tcc_shape_request){.op = "all-reduce", .shape = "1x8", .dtype = "fp4"}, "dtype", "bf16");
    refuse(&(struct tcc_shape_request){.op = "all-reduce", .shape = "1x8", .fusion = "everything"}, "fusion", "residual-rms-norm");
    refuse(&(struct tcc_shape_request){.op = "all-reduce", .shape = "9x8", .max_tokens = "8"}, "max_tokens", "9 or more");
    refuse(&(struct tcc_shape_request){.op = "all-reduce", .shape = "9x8", .eps = "tiny"}, "eps", "0 to 1");
    refuse(&(struct tcc_shape_request){.op = "all-gather", .shape = "1", .sizes = "1,,2"}, "sizes", "commas");
    refuse(&(struct tcc_shape_request){.op = "all-gather", .shape = "4096", .sizes = "1,2"}, "shape", "the first number is 1");
    refuse(&(struct tcc_shape_request){.op = "all-reduce", .shape = "1x8", .sizes = "1,2"}, "sizes", "all-reduce takes none");
    refuse(&(struct tcc_shape_request){.op = "broadcast", .shape = "9", .sizes = "1,2"}, "sizes", "broadcast takes none");
    refuse(&(struct tcc_shape_request){.op = "all-gather", .shape = "9", .max_tokens = "9"}, "max_tokens", "takes none");
    refuse(&(struct tcc_shape_request){.op = "barrier", .eps = "0.1"}, "eps", "takes none");
    refuse(&(struct tcc_shape_request){.op = "ub-finalize", .shape = "8x8", .eps = "0.1"}, "eps", "takes none");
    refuse(&(struct tcc_shape_request){.op = "ub-finalize", .shape = "64"}, "shape", "ub-finalize takes TOKENSxHIDDEN");
    refuse(&(struct tcc_shape_request){.op = "all-to-all", .shape = "9", .root = "1"}, "root", "takes none");
    refuse(&(struct tcc_shape_request){.op = "broadcast", .shape = "9", .root = "64"}, "root", "a rank");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_reduce),
        cmocka_unit_test(test_others),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
