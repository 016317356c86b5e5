/* Percentiles and distributions from bucket counts. */
#include "client/ctl/histogram.h"

#include <tcw/member.h>

#include <string.h>

#include "cmocka_all.h"

static const uint64_t limits[] = {10, 20, 40, 80, UINT64_MAX};

static struct tcc_histogram of(const uint64_t *counts)
{
    return (struct tcc_histogram){counts, limits, 5};
}

static void test_quantiles(void **state)
{
    (void)state;
    static const uint64_t counts[] = {50, 40, 9, 1, 0};
    struct tcc_histogram histogram = of(counts);

    assert_int_equal(tcc_histogram_total(&histogram), 100);
    assert_int_equal(tcc_histogram_quantile(&histogram, 0), 10);
    assert_int_equal(tcc_histogram_quantile(&histogram, 500), 10); /* the 50th of 100 is still in the first */
    assert_int_equal(tcc_histogram_quantile(&histogram, 501), 20);
    assert_int_equal(tcc_histogram_quantile(&histogram, 900), 20);
    assert_int_equal(tcc_histogram_quantile(&histogram, 990), 40);
    assert_int_equal(tcc_histogram_quantile(&histogram, 1000), 80);
}

static void test_edges(void **state)
{
    (void)state;
    static const uint64_t none[5] = {0};
    static const uint64_t one[] = {0, 0, 1, 0, 0};
    static const uint64_t beyond[] = {0, 0, 0, 0, 3};
    static const uint64_t huge[] = {UINT64_MAX / 4, UINT64_MAX / 4, UINT64_MAX / 4, 0, 0};
    struct tcc_histogram histogram = of(none);
    size_t first, last;

    assert_int_equal(tcc_histogram_quantile(&histogram, 500), 0);
    assert_false(tcc_histogram_span(&histogram, &first, &last));
    histogram = of(one);
    for (unsigned per_mille = 0; per_mille <= 1000; per_mille += 250)
        assert_int_equal(tcc_histogram_quantile(&histogram, per_mille), 40);
    assert_true(tcc_histogram_span(&histogram, &first, &last));
    assert_int_equal(first, 2);
    assert_int_equal(last, 2);
    histogram = of(beyond);
    assert_true(tcc_histogram_quantile(&histogram, 500) == UINT64_MAX);
    histogram = of(huge);
    assert_int_equal(tcc_histogram_quantile(&histogram, 500), 20); /* no overflow */
    assert_int_equal(tcc_histogram_quantile(&histogram, 1000), 40);
}

/* Against sorting: the bucket of a quantile is the bucket of that run. */
static void test_against_sorted(void **state)
{
    (void)state;
    enum { RUNS = 1000 };
    uint64_t counts[TCW_LATENCY_BUCKETS] = {0}, bounds[TCW_LATENCY_BUCKETS], sorted[RUNS];
    struct tcc_histogram histogram = {counts, bounds, TCW_LATENCY_BUCKETS};

    for (unsigned i = 0; i < TCW_LATENCY_BUCKETS; i++)
        bounds[i] = tcw_latency_bucket_limit(i);
    for (unsigned i = 0; i < RUNS; i++) {
        sorted[i] = 200 + (uint64_t)i * i * 7; /* ascending as it is */
        counts[tcw_latency_bucket(sorted[i])]++;
    }
    for (unsigned per_mille = 1; per_mille <= 1000; per_mille++)
        assert_true(tcc_histogram_quantile(&histogram, per_mille) == bounds[tcw_latency_bucket(sorted[per_mille - 1])]);
}

static void test_spark(void **state)
{
    (void)state;
    static const uint64_t counts[] = {0, 1, 1000000, 500000, 0};
    struct tcc_histogram histogram = of(counts);
    char text[16];

    tcc_histogram_spark(&histogram, 0, 4, false, text);
    assert_string_equal(text, " .@= "); /* one run among a million is still seen */
    tcc_histogram_spark(&histogram, 2, 3, true, text);
    assert_string_equal(text, "\xe2\x96\x88\xe2\x96\x84");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_quantiles),
        cmocka_unit_test(test_edges),
        cmocka_unit_test(test_against_sorted),
        cmocka_unit_test(test_spark),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
