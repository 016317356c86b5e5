/* The scalar mathematics, against searches in double precision. */
#include "cmocka_all.h"
#include "kernels_reference.h"

#include "kernels/arith/fp4.h"
#include "kernels/arith/half.h"
#include "kernels/arith/norm.h"

static uint64_t state = 1;

static uint32_t roll(void)
{
    state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(state >> 32);
}

/* Values around every rounding boundary of a 16-bit type: each code, the midpoint to the next, and its neighbours in fp32. */
static void check_sixteen(unsigned dtype, float (*decode)(uint16_t), uint16_t (*encode)(float))
{
    for (uint32_t code = 0; code < 0x10000; code++) {
        uint16_t h = (uint16_t)code;
        float value = decode(h);
        if (!ref_same(value, ref_load(dtype, &h, 0)))
            fail_msg("%s code %04x decodes to %a", tcw_dtype_name(dtype), code, (double)value);
        if (isnan(value)) {
            assert_true(isnan(decode(encode(value))));
            continue;
        }
        assert_int_equal(encode(value), code);
        if (isinf(value))
            continue;
        uint16_t up = (uint16_t)(code + 1);
        float next = decode(up);
        double middle = isfinite(next) ? ((double)value + (double)next) / 2 : 2.0 * (double)value; /* beyond the largest: infinity */
        float around[3] = {nextafterf((float)middle, -INFINITY), (float)middle, nextafterf((float)middle, INFINITY)};
        for (int i = 0; i < 3; i++)
            if (!ref_same(decode(encode(around[i])), ref_round(dtype, around[i])))
                fail_msg("%s of %a is %04x", tcw_dtype_name(dtype), (double)around[i], encode(around[i]));
    }
    for (int i = 0; i < 200000; i++) {
        float x = tck_float_of(roll());
        if (!ref_same(decode(encode(x)), ref_round(dtype, x)))
            fail_msg("%s of %a is %04x", tcw_dtype_name(dtype), (double)x, encode(x));
    }
}

static float decode_fp16(uint16_t x)
{
    return tck_float_from_fp16(x);
}
static float decode_bf16(uint16_t x)
{
    return tck_float_from_bf16(x);
}
static uint16_t encode_fp16(float x)
{
    return tck_fp16_from_float(x);
}
static uint16_t encode_bf16(float x)
{
    return tck_bf16_from_float(x);
}

static void test_fp16(void **unused)
{
    (void)unused;
    check_sixteen(TCW_FP16, decode_fp16, encode_fp16);
    assert_int_equal(tck_fp16_from_float(65519.996f), 0x7bff);
    assert_int_equal(tck_fp16_from_float(65520.0f), 0x7c00);
    assert_int_equal(tck_fp16_from_float(0x1p-25f), 0); /* half of the smallest subnormal: tie to even */
    assert_int_equal(tck_fp16_from_float(-0x1.000002p-25f), 0x8001);
}

static void test_bf16(void **unused)
{
    (void)unused;
    check_sixteen(TCW_BF16, decode_bf16, encode_bf16);
    assert_int_equal(tck_bf16_from_float(0x1.ffp127f), 0x7f80);
    assert_int_equal(tck_bf16_from_float(-0.0f), 0x8000);
}

/* One addition in fp32 and one rounding are one rounding of the exact sum. */
static void test_native_steps(void **unused)
{
    (void)unused;
    for (int i = 0; i < 300000; i++) {
        uint16_t a = (uint16_t)roll(), b = (uint16_t)roll();
        double exact = ref_load(TCW_FP16, &a, 0) + ref_load(TCW_FP16, &b, 0); /* exact in double */
        assert_true(ref_same(tck_float_from_fp16(tck_fp16_add(a, b)), ref_round(TCW_FP16, exact)));
        float sum = (float)(ref_load(TCW_BF16, &a, 0) + ref_load(TCW_BF16, &b, 0));
        assert_true(ref_same(tck_float_from_bf16(tck_bf16_add(a, b)), ref_round(TCW_BF16, sum)));
    }
}

static void test_e4m3(void **unused)
{
    (void)unused;
    for (unsigned code = 0; code < 256; code++) {
        double value = ref_decode_e4m3((uint8_t)code);
        assert_true(ref_same(tck_float_from_e4m3((uint8_t)code), value));
        if (isnan(value))
            continue;
        assert_int_equal(tck_e4m3_from_float((float)value), code);
        double next = ref_decode_e4m3((uint8_t)(code + 1));
        float middle = (float)((value + (isnan(next) ? value : next)) / 2);
        float around[3] = {nextafterf(middle, -INFINITY), middle, nextafterf(middle, INFINITY)};
        for (int i = 0; i < 3; i++)
            assert_int_equal(tck_e4m3_from_float(around[i]), ref_encode_e4m3(around[i]));
    }
    for (int i = 0; i < 100000; i++) {
        float x = tck_float_of(roll());
        assert_int_equal(tck_e4m3_from_float(x), ref_encode_e4m3(x));
    }
    assert_int_equal(tck_e4m3_from_float(INFINITY), 0x7e);
    assert_int_equal(tck_e4m3_from_float(-1e30f), 0xfe);
    assert_int_equal(tck_e4m3_from_float(NAN), 0x7f);
    assert_int_equal(tck_e4m3_from_float(-NAN), 0x7f);
    assert_int_equal(tck_e4m3_from_float(-0.0f), 0x80);
}

static void test_e2m1(void **unused)
{
    (void)unused;
    const struct {
        float x;
        uint8_t code;
    } ties[] = {{0.25f, 0}, {0.75f, 2}, {1.25f, 2}, {1.75f, 4}, {2.5f, 4}, {3.5f, 6}, {5.0f, 6}, {7.0f, 7}, {-INFINITY, 15}, {-0.0f, 8}};
    for (size_t i = 0; i < sizeof(ties) / sizeof(ties[0]); i++) {
        assert_int_equal(tck_e2m1_from_float(ties[i].x), ties[i].code);
        for (float to = -INFINITY;; to = INFINITY) {
            float near = nextafterf(ties[i].x, to);
            assert_int_equal(tck_e2m1_from_float(near), ref_encode_e2m1(near));
            if (to > 0)
                break;
        }
    }
    for (int i = 0; i < 200000; i++) {
        float x = tck_float_of((roll() & 0x81ffffffu) | 0x3e000000u); /* 1/8 .. 32 */
        assert_int_equal(tck_e2m1_from_float(x), ref_encode_e2m1(x));
    }
    for (uint8_t code = 0; code < 16; code++)
        assert_int_equal(tck_e2m1_from_float(tck_float_from_e2m1(code)), code);
    assert_int_equal(tck_e2m1_from_float(NAN), 7);
    assert_int_equal(tck_e2m1_from_float(-NAN), 7);
}

static void test_nvfp4_scale(void **unused)
{
    (void)unused;
    assert_int_equal(tck_nvfp4_scale(0, 100), 0);
    assert_true(tck_nvfp4_multiplier(0, 100) == 0);
    assert_int_equal(tck_nvfp4_scale(6, 1), 0x38); /* 1.0 */
    assert_true(tck_nvfp4_multiplier(0x38, 2) == 2);
    assert_int_equal(tck_nvfp4_scale(INFINITY, 1), 0x7e);
}

/* The offsets of the swizzle are a permutation of the padded tensor, and a few are known by hand. */
static void test_swizzle(void **unused)
{
    (void)unused;
    enum { ROWS = 256, BLOCKS = 12 };
    static uint8_t seen[ROWS * BLOCKS];
    memset(seen, 0, sizeof(seen));
    for (uint64_t m = 0; m < ROWS; m++)
        for (uint64_t b = 0; b < BLOCKS; b++) {
            uint64_t offset = tck_nvfp4_scale_offset(m, b, BLOCKS);
            assert_true(offset < sizeof(seen));
            assert_int_equal(seen[offset]++, 0);
        }
    assert_int_equal(tck_nvfp4_scale_offset(0, 0, 5), 0);
    assert_int_equal(tck_nvfp4_scale_offset(1, 3, 5), 19);
    assert_int_equal(tck_nvfp4_scale_offset(33, 0, 5), 20);
    assert_int_equal(tck_nvfp4_scale_offset(0, 4, 5), 512);
    assert_int_equal(tck_nvfp4_scale_offset(128, 1, 5), 1025);
}

static void test_norm(void **unused)
{
    (void)unused;
    float lanes[TCK_NORM_LANES];
    for (int i = 0; i < TCK_NORM_LANES; i++)
        lanes[i] = (float)(i + 1);
    assert_true(tck_norm_tree(lanes) == 64 * 65 / 2);
    for (int i = 0; i < TCK_NORM_LANES; i++) /* only the documented pairing keeps these: 2^30 + -2^30 first */
        lanes[i] = i == 3 ? 0x1p30f : i == 35 ? -0x1p30f : 1;
    assert_true(tck_norm_tree(lanes) == 62);
    assert_true(tck_norm_inverse(400, 4, 0) == 0.1f);
    assert_true(isinf(tck_norm_inverse(0, 8, 0)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fp16), cmocka_unit_test(test_bf16),        cmocka_unit_test(test_native_steps), cmocka_unit_test(test_e4m3),
        cmocka_unit_test(test_e2m1), cmocka_unit_test(test_nvfp4_scale), cmocka_unit_test(test_swizzle),      cmocka_unit_test(test_norm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
