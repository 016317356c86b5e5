/*
 * A latency histogram: counts per bucket, with the inclusive upper bound of each. Pure functions over the caller's arrays.
 */
#ifndef TCC_CTL_HISTOGRAM_H
#define TCC_CTL_HISTOGRAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct tcc_histogram {
    const uint64_t *counts;
    const uint64_t *limits; /* ns, ascending; the last is UINT64_MAX: everything longer */
    size_t buckets;
};

uint64_t tcc_histogram_total(const struct tcc_histogram *histogram);

/*
 * Upper bound (ns) of the bucket that holds the run at `per_mille` of all runs in ascending order (500: the median, 1000: the slowest).
 * 0 without runs; UINT64_MAX when it lies in the last bucket.
 */
uint64_t tcc_histogram_quantile(const struct tcc_histogram *histogram, unsigned per_mille);

/* First and last bucket that is not empty: false if all are. */
bool tcc_histogram_span(const struct tcc_histogram *histogram, size_t *first, size_t *last);

/*
 * One character per bucket from `first` to `last`, height by count relative to the largest: " .:-=+*#" or, with utf8, eighth blocks. A
 * bucket that is not empty never shows as blank. `text` needs 3 * (last - first + 1) + 1 bytes.
 */
void tcc_histogram_spark(const struct tcc_histogram *histogram, size_t first, size_t last, bool utf8, char *text);

#endif
