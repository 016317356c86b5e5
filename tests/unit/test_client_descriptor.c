/* From public descriptors to the contract's: shapes, ranges, and clear refusals. */
#include "cmocka_all.h"

#include "client/lib/descriptor.h"
#include "client/lib/error.h"

#include <string.h>

static void assert_text(const char *part)
{
    struct trtcoll_error error = TRTCOLL_ERROR_INIT;

    trtcoll_last_error(&error);
    if (!strstr(error.text, part))
        fail_msg("\"%s\" does not say \"%s\"", error.text, part);
}

static void test_all_reduce(void **state)
{
    struct trtcoll_all_reduce_desc user = TRTCOLL_ALL_REDUCE_DESC_INIT;
    struct tcw_plan_desc desc;
    float eps;

    (void)state;
    user.max_tokens = 64;
    user.hidden = 128;
    user.fusion = TRTCOLL_FUSION_RESIDUAL_RMS_NORM;
    user.flags = TRTCOLL_BIAS;
    assert_int_equal(tcc_describe_all_reduce(&user, TCK_DEVICE_HOST, 4, &desc), 0);
    assert_int_equal(desc.op, TCW_OP_ALL_REDUCE);
    assert_int_equal(desc.dtype, TCW_BF16);
    assert_int_equal(desc.strategy, TCW_STRATEGY_AUTO);
    assert_int_equal(desc.max_tokens, 64);
    assert_int_equal(desc.hidden, 128);
    assert_int_equal(desc.flags, TCW_PLAN_BIAS);
    memcpy(&eps, &desc.eps_bits, sizeof(eps));
    assert_true(eps == 1e-6f); /* the default, when something is normalised */
    user.eps = 1e-5f;
    assert_int_equal(tcc_describe_all_reduce(&user, TCK_DEVICE_HOST, 4, &desc), 0);
    memcpy(&eps, &desc.eps_bits, sizeof(eps));
    assert_true(eps == 1e-5f);
}

static void test_all_reduce_refusals(void **state)
{
    struct trtcoll_all_reduce_desc user = TRTCOLL_ALL_REDUCE_DESC_INIT;
    struct trtcoll_error error = TRTCOLL_ERROR_INIT;
    struct tcw_plan_desc desc;

    (void)state;
    /* Would be 0 if it were cut to 16 bits. */
    user.dtype = 65536;
    assert_int_equal(tcc_describe_all_reduce(&user, TCK_DEVICE_HOST, 4, &desc), TRTCOLL_EINVAL);
    trtcoll_last_error(&error);
    assert_string_equal(error.field, "dtype");
    assert_int_equal(error.mine, 65536);
    user.dtype = TRTCOLL_BF16;
    user.flags = 1u << 3; /* a flag of the contract that is not public */
    assert_int_equal(tcc_describe_all_reduce(&user, TCK_DEVICE_HOST, 4, &desc), TRTCOLL_EINVAL);
    assert_text("flags");
    user.flags = 0;
    user.eps = 0.5f;
    assert_int_equal(tcc_describe_all_reduce(&user, TCK_DEVICE_HOST, 4, &desc), TRTCOLL_EINVAL);
    assert_text("eps");
    user.eps = 0;
    user.strategy = TRTCOLL_STRATEGY_UB;
    assert_int_equal(tcc_describe_all_reduce(&user, TCK_DEVICE_HOST, 4, &desc), TRTCOLL_ENOTSUP);
    user.strategy = TRTCOLL_STRATEGY_AUTO;
    user.hidden = 0;
    assert_int_equal(tcc_describe_all_reduce(&user, TCK_DEVICE_HOST, 4, &desc), TRTCOLL_EINVAL);
    assert_text("hidden");
    user.hidden = 1;
    assert_int_equal(tcc_describe_all_reduce(&user, TCK_DEVICE_HOST, 0, &desc), TRTCOLL_EINVAL);
    assert_int_equal(tcc_describe_all_reduce(NULL, TCK_DEVICE_HOST, 4, &desc), TRTCOLL_EINVAL);
    assert_text("NULL");
}

static struct trtcoll_tensor tensor(uint32_t dtype, uint32_t ndim, uint64_t a, uint64_t b, uint64_t c)
{
    return (struct trtcoll_tensor){.present = 1, .dtype = dtype, .ndim = ndim, .shape = {a, b, c}};
}

static void test_gather_shapes(void **state)
{
    struct trtcoll_tensor tensors[3] = {tensor(TRTCOLL_FP16, 3, 2, 3, 5), {0}, tensor(TRTCOLL_INT8, 2, 7, 11, 0)};
    struct trtcoll_gather_desc user = TRTCOLL_GATHER_DESC_INIT;
    struct tcw_plan_desc desc;

    (void)state;
    user.tensors = tensors;
    user.tensor_count = 3;
    user.dim = 1;
    assert_int_equal(tcc_describe_gather(&user, TCW_OP_ALL_GATHER, TCK_DEVICE_HOST, 4, 2, &desc), 0);
    assert_int_equal(desc.tensors[0].outer, 2);
    assert_int_equal(desc.tensors[0].extent, 3);
    assert_int_equal(desc.tensors[0].inner, 5);
    assert_int_equal(desc.tensors[1].present, 0);
    assert_int_equal(desc.tensors[2].outer, 7);
    assert_int_equal(desc.tensors[2].extent, 11);
    assert_int_equal(desc.tensors[2].inner, 1);
    /* Negative dimensions count from each entry's end. */
    user.dim = -1;
    assert_int_equal(tcc_describe_gather(&user, TCW_OP_ALL_GATHER, TCK_DEVICE_HOST, 4, 2, &desc), 0);
    assert_int_equal(desc.tensors[0].outer, 6);
    assert_int_equal(desc.tensors[0].extent, 5);
    assert_int_equal(desc.tensors[2].extent, 11);
    user.dim = -3;
    assert_int_equal(tcc_describe_gather(&user, TCW_OP_ALL_GATHER, TCK_DEVICE_HOST, 4, 2, &desc), TRTCOLL_EINVAL);
    assert_text("dim is -3");
    user.dim = 2;
    assert_int_equal(tcc_describe_gather(&user, TCW_OP_ALL_GATHER, TCK_DEVICE_HOST, 4, 2, &desc), TRTCOLL_EINVAL);
    user.dim = INT32_MIN;
    assert_int_equal(tcc_describe_gather(&user, TCW_OP_ALL_GATHER, TCK_DEVICE_HOST, 4, 2, &desc), TRTCOLL_EINVAL);
}

static void test_reduce_scatter_extents(void **state)
{
    struct trtcoll_tensor one = tensor(TRTCOLL_FP32, 2, 12, 3, 0);
    struct trtcoll_gather_desc user = TRTCOLL_GATHER_DESC_INIT;
    uint64_t sizes[4] = {5, 0, 4, 3};
    struct tcw_plan_desc desc;

    (void)state;
    user.tensors = &one;
    assert_int_equal(tcc_describe_gather(&user, TCW_OP_REDUCE_SCATTER, TCK_DEVICE_HOST, 4, 0, &desc), 0);
    assert_int_equal(desc.tensors[0].extent, 3);
    assert_int_equal(tcc_describe_gather(&user, TCW_OP_REDUCE_SCATTER, TCK_DEVICE_HOST, 5, 0, &desc), TRTCOLL_EINVAL);
    assert_text("divisible");
    user.sizes = sizes;
    assert_int_equal(tcc_describe_gather(&user, TCW_OP_REDUCE_SCATTER, TCK_DEVICE_HOST, 4, 1, &desc), 0);
    assert_int_equal(desc.tensors[0].extent, 0);
    assert_int_equal(desc.flags, TCW_PLAN_SIZES);
    assert_int_equal(desc.sizes[2], 4);
    sizes[0] = 6;
    assert_int_equal(tcc_describe_gather(&user, TCW_OP_REDUCE_SCATTER, TCK_DEVICE_HOST, 4, 1, &desc), TRTCOLL_EINVAL);
    assert_text("sum of sizes");
    sizes[0] = UINT64_MAX; /* does not wrap around to a fitting sum */
    sizes[1] = 6;
    assert_int_equal(tcc_describe_gather(&user, TCW_OP_REDUCE_SCATTER, TCK_DEVICE_HOST, 4, 1, &desc), TRTCOLL_EINVAL);
    sizes[1] = 12;
    assert_int_equal(tcc_describe_gather(&user, TCW_OP_ALL_GATHER, TCK_DEVICE_HOST, 4, 0, &desc), TRTCOLL_EINVAL);
    assert_text("this rank's size");
}

static void test_lists(void **state)
{
    struct trtcoll_tensor tensors[2] = {tensor(TRTCOLL_BF16, 2, 4, 8, 0), tensor(TRTCOLL_INT32, 1, 6, 0, 0)};
    struct trtcoll_all_to_all_desc user = TRTCOLL_ALL_TO_ALL_DESC_INIT;
    struct tcw_plan_desc desc;

    (void)state;
    user.list_count = 2;
    assert_int_equal(tcc_describe_all_to_all(&user, TCK_DEVICE_HOST, 3, &desc), TRTCOLL_EINVAL);
    assert_text("tensors is NULL");
    user.tensors = tensors;
    assert_int_equal(tcc_describe_all_to_all(&user, TCK_DEVICE_HOST, 3, &desc), 0);
    assert_int_equal(desc.tensors[0].inner, 32);
    assert_int_equal(desc.tensors[1].inner, 6);
    user.list_count = 17;
    assert_int_equal(tcc_describe_all_to_all(&user, TCK_DEVICE_HOST, 3, &desc), TRTCOLL_EINVAL);
    user.list_count = 1;
    tensors[0].ndim = 9;
    assert_int_equal(tcc_describe_all_to_all(&user, TCK_DEVICE_HOST, 3, &desc), TRTCOLL_EINVAL);
    assert_text("ndim");
    tensors[0] = tensor(TRTCOLL_BF16, 3, 1ull << 40, 1ull << 40, 1ull << 40);
    assert_int_equal(tcc_describe_all_to_all(&user, TCK_DEVICE_HOST, 3, &desc), TRTCOLL_EINVAL);
    tensors[0] = tensor(99, 1, 1, 0, 0);
    assert_int_equal(tcc_describe_all_to_all(&user, TCK_DEVICE_HOST, 3, &desc), TRTCOLL_EINVAL);
    assert_text("dtype");
}

static void test_broadcast_and_barrier(void **state)
{
    struct trtcoll_broadcast_desc broadcast = TRTCOLL_BROADCAST_DESC_INIT;
    struct trtcoll_barrier_desc barrier = TRTCOLL_BARRIER_DESC_INIT;
    struct tcw_plan_desc desc;

    (void)state;
    broadcast.count = 100;
    broadcast.root = 2;
    assert_int_equal(tcc_describe_broadcast(&broadcast, TCK_DEVICE_HOST, 3, &desc), 0);
    assert_int_equal(desc.tensors[0].inner, 100);
    assert_int_equal(desc.root, 2);
    broadcast.root = 3;
    assert_int_equal(tcc_describe_broadcast(&broadcast, TCK_DEVICE_HOST, 3, &desc), TRTCOLL_EINVAL);
    assert_text("root is 3");
    assert_int_equal(tcc_describe_barrier(&barrier, TCK_DEVICE_HOST, 3, &desc), 0);
    assert_int_equal(desc.op, TCW_OP_BARRIER);
    barrier.lane = 3;
    assert_int_equal(tcc_describe_barrier(&barrier, TCK_DEVICE_HOST, 3, &desc), TRTCOLL_EINVAL);
    assert_text("lane");
}

/* The size rule: what an older program did not know is zero, what a newer one adds must be zero. */
static void test_struct_sizes(void **state)
{
    struct {
        struct trtcoll_barrier_desc known;
        uint32_t future[4];
    } larger = {.known = TRTCOLL_BARRIER_DESC_INIT};
    struct trtcoll_barrier_desc smaller = {.size = 8, .lane = TRTCOLL_LANE_SERVED, .flags = 0xdead, .reserved = 0xbeef};
    struct tcw_plan_desc desc;

    (void)state;
    assert_int_equal(tcc_describe_barrier(&smaller, TCK_DEVICE_HOST, 2, &desc), 0);
    assert_int_equal(desc.lane, TCW_LANE_SERVED);
    assert_int_equal(desc.flags, 0);
    larger.known.size = sizeof(larger);
    assert_int_equal(tcc_describe_barrier(&larger.known, TCK_DEVICE_HOST, 2, &desc), 0);
    larger.future[3] = 1;
    assert_int_equal(tcc_describe_barrier(&larger.known, TCK_DEVICE_HOST, 2, &desc), TRTCOLL_EINVAL);
    assert_text("not zero");
    smaller.size = 3;
    assert_int_equal(tcc_describe_barrier(&smaller, TCK_DEVICE_HOST, 2, &desc), TRTCOLL_EINVAL);
    smaller.size = 0x7fffffff;
    assert_int_equal(tcc_describe_barrier(&smaller, TCK_DEVICE_HOST, 2, &desc), TRTCOLL_EINVAL);
    assert_text("_INIT");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_reduce),    cmocka_unit_test(test_all_reduce_refusals),
        cmocka_unit_test(test_gather_shapes), cmocka_unit_test(test_reduce_scatter_extents),
        cmocka_unit_test(test_lists),         cmocka_unit_test(test_broadcast_and_barrier),
        cmocka_unit_test(test_struct_sizes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
