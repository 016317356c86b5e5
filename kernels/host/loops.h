/*
 * The inner loops of host devices: one table per instruction set, the same source compiled for each, chosen once when a communicator is
 * made. All of them give the same bits (which NaN a NaN is excepted), for any alignment and any length.
 */
#ifndef TCK_HOST_LOOPS_H
#define TCK_HOST_LOOPS_H

#include "../arith/norm.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A reduction over `count` sources in ascending order; dst may be one of the sources. Elements of tcw_dtype `dtype`. */
struct tck_reduction {
    void *dst;
    const void *const *src;
    uint32_t count;

    uint32_t dtype;
    uint32_t redop;
    bool wide; /* 16-bit types: accumulate in fp32 and round once, instead of at every step */
    size_t elements;
};

/* One token: u = (sum of sources +_T bias) +_T residual, in fp32, fp16 or bf16. bias and residual may be NULL; dst may be a source or
 * residual. */
struct tck_row_sum {
    void *dst;
    const void *const *src;
    uint32_t count;
    uint32_t dtype;
    bool wide;
    bool round_squares; /* seed-spec 15.7 */
    const void *bias;
    const void *residual;
    size_t hidden;
};

/* The rest of the epilogue of one token: norm, and from its rounded value the quantized forms. Absent outputs are NULL. */
struct tck_row_norm {
    const void *u;
    const void *gamma; /* NULL: unscaled */
    uint32_t dtype;
    tck_norm_order order;
    float inverse; /* k of seed-spec 4.1 */
    size_t hidden;
    void *norm;
    uint8_t *fp8;
    float fp8_multiplier;
    uint8_t *fp4;
    uint8_t *fp4_scales; /* of the whole tensor, swizzled */
    float fp4_global;
    uint64_t row; /* token number, for the swizzle */
};

struct tck_loops {
    const char *name;
    void (*reduce)(const struct tck_reduction *reduction);
    float (*row_sum)(const struct tck_row_sum *row); /* returns the sum of squares of u, canonical order */
    void (*row_norm)(const struct tck_row_norm *row);
};

/* By name: "portable", "avx2", "avx512". NULL if not built or not supported by this processor. */
const struct tck_loops *tck_loops_find(const char *name);
const struct tck_loops *tck_loops_best(void);

#endif
