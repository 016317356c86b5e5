/* The inner loops: every instruction set gives the same bits as the portable one, for any length, alignment and aliasing. */
#include "kernels_fixture.h"
#include "kernels_reference.h"

#include "kernels/host/loops.h"

enum { MOST = 16, ROOM = 700 };

static const char *const sets[] = {"avx2", "avx512"};

/* Bits that hurt: all kinds of special values among ordinary ones. */
static void fill(struct dice *dice, unsigned dtype, void *base, size_t n)
{
    static const float specials[] = {0.0f,       -0.0f,  1.0f,  -1.0f,  6e-8f,    -6e-8f,    1e-40f, -1e-40f, 65504.0f, -65504.0f,
                                     3.3895e38f, -3e38f, 1e-7f, 448.0f, INFINITY, -INFINITY, NAN,    0.25f,   2049.0f};
    for (size_t i = 0; i < n; i++) {
        uint64_t bits = dice_roll(dice);
        if (dtype > TCW_FP64) {
            memcpy((uint8_t *)base + i * tcw_dtype_bytes(dtype), &bits, tcw_dtype_bytes(dtype));
            continue;
        }
        double x = (double)(int32_t)bits / 0x1p28;
        if (bits >> 32 < UINT32_MAX / 8)
            x = (double)specials[bits % (sizeof(specials) / sizeof(specials[0]))];
        ref_store(dtype, base, i, ref_round(dtype, x));
    }
}

static bool same(unsigned dtype, const void *a, const void *b, size_t n)
{
    if (dtype > TCW_FP64)
        return !memcmp(a, b, n * tcw_dtype_bytes(dtype));
    for (size_t i = 0; i < n; i++)
        if (!ref_same(ref_load(dtype, a, i), ref_load(dtype, b, i)))
            return false;
    return true;
}

static void test_reduce(void **state)
{
    (void)state;
    static uint8_t memory[MOST][ROOM * 8 + 64], expected[ROOM * 8 + 64], got[ROOM * 8 + 64];
    struct dice dice = {7};
    for (unsigned dtype = 0; dtype <= TCW_UINT64; dtype++)
        for (unsigned redop = 0; redop < TCW_REDOP_COUNT; redop++)
            for (unsigned trial = 0; trial < 24; trial++) {
                size_t size = tcw_dtype_bytes(dtype), n = trial < 20 ? trial * 7 % 67 : 300 + dice_below(&dice, 400);
                const void *src[MOST];
                struct tck_reduction r = {
                    .src = src, .count = 1 + trial % MOST, .dtype = dtype, .redop = redop, .wide = trial & 1, .elements = n};
                for (uint32_t i = 0; i < r.count; i++) {
                    uint8_t *at = memory[i] + dice_below(&dice, 64 / size) * size;
                    fill(&dice, dtype, at, n);
                    src[i] = at;
                }
                memset(expected, 0xa5, sizeof(expected));
                r.dst = expected;
                tck_loops_find("portable")->reduce(&r);
                for (size_t i = n * size; i < sizeof(expected); i++)
                    assert_int_equal(expected[i], 0xa5);
                if (dtype <= TCW_FP64)
                    for (size_t i = 0; i < n; i++) {
                        double x[MOST];
                        unsigned step = dtype == TCW_FP64 ? TCW_FP64 : r.wide ? TCW_FP32 : dtype;
                        for (uint32_t s = 0; s < r.count; s++)
                            x[s] = ref_load(dtype, src[s], i);
                        double want = ref_fold(x, r.count, redop, dtype, step);
                        if (!ref_same(want, ref_load(dtype, expected, i)))
                            fail_msg("%s %s, %u sources: %a instead of %a", tcw_dtype_name(dtype), tcw_redop_name(redop), r.count,
                                     ref_load(dtype, expected, i), want);
                    }
                for (size_t s = 0; s < sizeof(sets) / sizeof(sets[0]); s++) {
                    const struct tck_loops *loops = tck_loops_find(sets[s]);
                    if (!loops)
                        continue;
                    memset(got, 0xa5, sizeof(got));
                    r.dst = got;
                    loops->reduce(&r);
                    if (!same(dtype, got, expected, n) || memcmp(got + n * size, expected + n * size, sizeof(got) - n * size))
                        fail_msg("%s: %s %s of %zu elements, %u sources", sets[s], tcw_dtype_name(dtype), tcw_redop_name(redop), n,
                                 r.count);
                }
                /* in place: the destination is one of the sources */
                r.dst = (void *)(uintptr_t)src[r.count / 2];
                tck_loops_best()->reduce(&r);
                assert_true(same(dtype, r.dst, expected, n));
            }
}

/* Widest integers, by hand: wrapping sums, exact averages of small types, truncation toward zero. */
static void test_integers(void **state)
{
    (void)state;
    int8_t a = 127, b = 127, c = -3, out8;
    int64_t p = INT64_MAX, q = 1, out64;
    const void *bytes[] = {&a, &b, &c}, *words[] = {&p, &q};
    struct tck_reduction r = {.dst = &out8, .src = bytes, .count = 2, .dtype = TCW_INT8, .redop = TCW_SUM, .elements = 1};
    tck_loops_best()->reduce(&r);
    assert_int_equal(out8, -2);
    r.redop = TCW_AVG;
    tck_loops_best()->reduce(&r);
    assert_int_equal(out8, 127);
    r.src = bytes + 1;
    b = 0;
    tck_loops_best()->reduce(&r);
    assert_int_equal(out8, -1); /* -3 / 2 */
    r = (struct tck_reduction){.dst = &out64, .src = words, .count = 2, .dtype = TCW_INT64, .redop = TCW_SUM, .elements = 1};
    tck_loops_best()->reduce(&r);
    assert_true(out64 == INT64_MIN);
    r.redop = TCW_MIN;
    tck_loops_best()->reduce(&r);
    assert_true(out64 == 1);
}

struct rows {
    uint8_t u[ROOM * 4], norm[ROOM * 4], fp8[ROOM], fp4[ROOM], scales[ROOM * 8];
    float squares;
};

static void run_rows(const struct tck_loops *loops, struct tck_row_sum *sum, struct tck_row_norm *norm, struct rows *rows)
{
    memset(rows, 0x5a, sizeof(*rows));
    sum->dst = rows->u;
    rows->squares = loops->row_sum(sum);
    norm->u = rows->u;
    norm->norm = rows->norm;
    norm->inverse = tck_norm_inverse(rows->squares, sum->hidden, 1e-5f);
    norm->fp8 = rows->fp8;
    norm->fp4 = sum->hidden % 16 || sum->dtype == TCW_FP32 ? NULL : rows->fp4;
    norm->fp4_scales = rows->scales;
    loops->row_norm(norm);
}

static void test_rows(void **state)
{
    (void)state;
    static uint8_t memory[6][ROOM * 4];
    static struct rows expected, got;
    struct dice dice = {11};
    for (unsigned dtype = 0; dtype <= TCW_BF16; dtype++)
        for (unsigned trial = 0; trial < 400; trial++) {
            size_t n = trial % 3 == 0 ? 16 * (1 + dice_below(&dice, 40)) : 1 + dice_below(&dice, 650);
            const void *src[3] = {memory[0], memory[1], memory[2]};
            struct tck_row_sum sum = {.src = src,
                                      .count = 1 + trial % 3,
                                      .dtype = dtype,
                                      .wide = trial & 4,
                                      .round_squares = trial & 8,
                                      .bias = trial & 16 ? memory[3] : NULL,
                                      .residual = trial & 32 ? memory[4] : NULL,
                                      .hidden = n};
            struct tck_row_norm norm = {.gamma = trial & 64 ? memory[5] : NULL,
                                        .dtype = dtype,
                                        .order = trial & 8 ? TCK_NORM_GAMMA_FIRST : TCK_NORM_SCALE_FIRST,
                                        .hidden = n,
                                        .fp8_multiplier = 1 / 0.013f,
                                        .fp4_global = 37.5f,
                                        .row = dice_below(&dice, 100)};
            for (int i = 0; i < 6; i++) {
                fill(&dice, dtype, memory[i], n);
                if (trial % 4) /* mostly without infinities, so that the norms are numbers */
                    for (size_t j = 0; j < n; j++)
                        if (!(fabs(ref_load(dtype, memory[i], j)) < 1e4))
                            ref_store(dtype, memory[i], j, ref_round(dtype, (double)j / 64 - 2));
            }
            run_rows(tck_loops_find("portable"), &sum, &norm, &expected);
            for (size_t s = 0; s < sizeof(sets) / sizeof(sets[0]); s++) {
                const struct tck_loops *loops = tck_loops_find(sets[s]);
                if (!loops)
                    continue;
                run_rows(loops, &sum, &norm, &got);
                assert_true(ref_same(got.squares, expected.squares));
                assert_true(same(dtype, got.u, expected.u, n));
                assert_true(same(dtype, got.norm, expected.norm, n));
                assert_memory_equal(got.u + n * tcw_dtype_bytes(dtype), expected.u + n * tcw_dtype_bytes(dtype),
                                    sizeof(got.u) - n * tcw_dtype_bytes(dtype));
                assert_memory_equal(got.fp8, expected.fp8, sizeof(got.fp8));
                assert_memory_equal(got.fp4, expected.fp4, sizeof(got.fp4));
                assert_memory_equal(got.scales, expected.scales, sizeof(got.scales));
            }
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_reduce), cmocka_unit_test(test_integers), cmocka_unit_test(test_rows)};
    for (size_t s = 0; s < sizeof(sets) / sizeof(sets[0]); s++)
        if (!tck_loops_find(sets[s]))
            print_message("not compared: %s is not supported here\n", sets[s]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
