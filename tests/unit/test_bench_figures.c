/* trtcoll-bench --device cuda: names and sizes of its parts, what is wanted of them, and how figures are made of measurements. */
#include "client/bench/figures.h"

#include <math.h>

#include "cmocka_all.h"

/* Of this cmocka's versions, some compare floats and some doubles. */
#define assert_near(value, expected, margin) assert_true(fabs((value) - (expected)) <= (margin))

#define KB UINT64_C(1024)
#define MB (UINT64_C(1024) * 1024)

static void test_parts(void **state)
{
    (void)state;
    uint32_t parts = 0;
    assert_true(figures_parse_parts("direct", &parts));
    assert_int_equal(parts, 1u << PART_DIRECT);
    assert_true(figures_parse_parts("memory,served,restart", &parts));
    assert_int_equal(parts, 1u << PART_MEMORY | 1u << PART_SERVED | 1u << PART_RESTART);
    parts = 0;
    for (uint32_t part = 0; part < PARTS; part++) {
        uint32_t one;
        assert_true(figures_parse_parts(figures_part_name(part), &one));
        assert_int_equal(one, 1u << part); /* "served" is not "served-nccl" */
        parts |= one;
    }
    assert_int_equal(parts, (1u << PARTS) - 1);
}

static void test_parts_refused(void **state)
{
    (void)state;
    static const char *const texts[] = {"", ",", "direct,", ",direct", "direct,,norm", "serve", "served-", "Direct", "direct norm"};
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        uint32_t parts = 77;
        assert_false(figures_parse_parts(texts[i], &parts));
        assert_int_equal(parts, 77);
    }
}

static void test_sizes(void **state)
{
    (void)state;
    uint64_t sizes[FIGURES_MAX_SIZES];
    assert_int_equal(figures_sizes(PART_DIRECT, 0, UINT64_MAX, sizes), 12);
    assert_int_equal(sizes[0], 16 * KB);
    assert_int_equal(sizes[11], 256 * MB);
    for (uint32_t i = 0; i < 12; i++)
        assert_int_equal(sizes[i] % FIGURES_ROW_BYTES, 0); /* whole rows */
    assert_int_equal(figures_sizes(PART_NORM, 0, UINT64_MAX, sizes), 10);
    assert_int_equal(sizes[9], 32 * MB);
    assert_int_equal(figures_sizes(PART_SERVED, 64 * KB, 256 * KB, sizes), 3);
    assert_int_equal(sizes[0], 64 * KB);
    assert_int_equal(sizes[2], 256 * KB);
    assert_int_equal(figures_sizes(PART_FP8, 64 * MB, 256 * MB, sizes), 0);
    assert_int_equal(figures_sizes(PART_SERVED, 17 * KB, 63 * KB, sizes), 0);
}

static void test_goals(void **state)
{
    (void)state;
    assert_near(figures_goal(PART_DIRECT, 4, 16 * KB), 0.25, 0);
    assert_near(figures_goal(PART_DIRECT, 4, 32 * MB), 0.86, 0);
    assert_near(figures_goal(PART_NORM, 4, 1 * MB), 0.50, 0);
    assert_near(figures_goal(PART_DIRECT, 2, 1 * MB), 0.26, 0);
    /* Nothing was said about these. */
    assert_near(figures_goal(PART_DIRECT, 4, 128 * KB), 0, 0);
    assert_near(figures_goal(PART_DIRECT, 3, 16 * KB), 0, 0);
    assert_near(figures_goal(PART_FP8, 4, 16 * KB), 0, 0);
    assert_near(figures_goal(PART_SERVED, 4, 16 * KB), 0, 0);
}

static void test_bounds(void **state)
{
    (void)state;
    bool wire = true;
    /* One-shot: a launch, a hop, three copies of 16 KB. */
    assert_near(figures_bound(4, 16 * KB, &wire), 1.537, 0.001);
    assert_false(wire);
    /* Two-shot: a launch, one and a half times 8 MB, a hop. */
    assert_near(figures_bound(4, 8 * MB, &wire), 36.35, 0.01);
    assert_true(wire);
    /* Of two ranks both move the same. */
    assert_near(figures_bound(2, 1 * MB, &wire), 4.313, 0.001);
    assert_true(wire);
}

static void test_bus_bandwidth(void **state)
{
    (void)state;
    /* 256 MiB on four GPUs in 1181 us: 227 GB/s of message, 341 GB/s on the links. */
    assert_near(figures_bus_bandwidth(256 * MB, 1181, 4), 340.9, 0.1);
    assert_near(figures_bus_bandwidth(1000000, 1000, 2), 1, 1e-9);
    assert_near(figures_bus_bandwidth(1000000, 0, 2), 0, 0);
}

static void test_quantiles(void **state)
{
    (void)state;
    double values[100], one[] = {7}, odd[] = {3, 1, 2};
    for (uint32_t i = 0; i < 100; i++)
        values[i] = 100 - i;
    assert_near(figures_quantile(values, 100, 0.5), 51, 0);
    assert_near(figures_quantile(values, 100, 0.99), 100, 0);
    assert_near(figures_quantile(values, 100, 1), 100, 0);
    assert_near(figures_quantile(values, 100, 0), 1, 0);
    assert_near(figures_quantile(one, 1, 0.99), 7, 0);
    assert_near(figures_quantile(odd, 3, 0.5), 2, 0);
    assert_near(figures_mean(odd, 3), 2, 1e-12);
    assert_near(figures_mean(odd, 0), 0, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parts),  cmocka_unit_test(test_parts_refused), cmocka_unit_test(test_sizes),     cmocka_unit_test(test_goals),
        cmocka_unit_test(test_bounds), cmocka_unit_test(test_bus_bandwidth), cmocka_unit_test(test_quantiles),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
