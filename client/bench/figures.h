/*
 * Arithmetic and words of trtcoll-bench --device cuda that need no GPU: what is measured, at which sizes, and what we want of it.
 * No state; any thread.
 */
#ifndef BENCH_FIGURES_H
#define BENCH_FIGURES_H

#include <stdbool.h>
#include <stdint.h>

/* What can be measured, in the order of measuring. */
enum {
    PART_DIRECT,      /* direct lane, plain */
    PART_NORM,        /* ... + residual + RMSNorm */
    PART_FP8,         /* ... + quantisation to FP8 */
    PART_SERVED,      /* served lane, the daemon chooses */
    PART_SERVED_NCCL, /* served lane, strategy NCCL */
    PART_RESTART,     /* a restarted client */
    PART_MEMORY,      /* memory of the GPU for a second engine */
    PARTS,
    STAGES = PART_RESTART, /* those before measure all-reduces over sizes */
    FIGURES_MAX_SIZES = 16,
    FIGURES_HIDDEN = 8192,
    FIGURES_ROW_BYTES = FIGURES_HIDDEN * 2, /* bf16 */
};

const char *figures_part_name(uint32_t part);
/* A comma-separated list of names: a bit per part. False if one is unknown, or none is there. */
bool figures_parse_parts(const char *text, uint32_t *parts);

/* Sizes of a part between low and high, in bytes, ascending. Returns how many. */
uint32_t figures_sizes(uint32_t part, uint64_t low, uint64_t high, uint64_t *sizes);

/* How much of NCCL's time we want to need, for a part of the direct lane; 0: no figure. */
double figures_goal(uint32_t part, uint32_t ranks, uint64_t bytes);

/*
 * What no all-reduce over stores can be faster than, in us: a launch, the bytes of a one-shot or a two-shot over the links of an H200,
 * whichever is less, and the hop of the last ones. (A two-shot's first hop hides behind the bytes that are still to be sent, if there are
 * enough of them.) *wire: the links are more than half of it.
 */
double figures_bound(uint32_t ranks, uint64_t bytes, bool *wire);

/* What a rank moves over its links, as NCCL's tests define it: bytes / time * 2 (n - 1) / n, in GB/s. 0 if nothing was measured. */
double figures_bus_bandwidth(uint64_t bytes, double us, uint32_t ranks);

/* The value below which `share` of them lie, 0.5: the median. Sorts them. `count` is not 0. */
double figures_quantile(double *values, uint32_t count, double share);
double figures_mean(const double *values, uint32_t count);

#endif
