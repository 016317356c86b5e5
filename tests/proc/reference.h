/*
 * What every operation must compute, in plain double precision and in the most obvious order, written from the specification and
 * without a look at the implementation. Slow on purpose. Pure functions; no state.
 */
#ifndef PROC_REFERENCE_H
#define PROC_REFERENCE_H

#include <trtcoll.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---- types ---- */

size_t ref_bytes(unsigned dtype);
bool ref_is_float(unsigned dtype);
/* Element i as a double. Integers of 64 bits are handled apart, see ref_reduce_integers. */
double ref_get(unsigned dtype, const void *buffer, size_t i);
/* Stores with one rounding to nearest, ties to even. */
void ref_set(unsigned dtype, void *buffer, size_t i, double value);
/* The value rounded to the type. */
double ref_round(unsigned dtype, double value);
/* Distance of two stored values in units of the last place; NaNs are equal to each other, zeros too. */
uint64_t ref_distance(unsigned dtype, const void *a, const void *b, size_t i);

double ref_e4m3_value(unsigned code);
double ref_e2m1_value(unsigned code);
/*
 * Whether `code` is the saturating round-to-nearest-even of `value`, where value may be off by a relative 2^-20: next to a tie either
 * neighbour is right, because the factors are fp32 products. `strict`: the value itself is exact, and exactly on a tie the even code
 * counts.
 */
bool ref_is_e4m3(unsigned code, double value, bool strict);
bool ref_is_e2m1(unsigned code, double value);

/* ---- all-reduce ---- */

struct ref_all_reduce {
    unsigned dtype, redop, fusion, flags;
    unsigned strategy; /* resolved: which order of additions and roundings is promised */
    double eps;
    unsigned nranks;
    size_t tokens, hidden;
    const void *const *in; /* one per rank */
    const void *residual_in, *norm_weight, *bias;
    float scale;
};

/* What a rank got. Buffers that the fusion does not have are NULL. */
struct ref_outputs {
    const void *out, *residual_out;
    const uint8_t *quant_out, *scale_out;
    uint8_t padding; /* what scale_out was filled with before the run */
};

/* NULL if all outputs are right, else a description of the first wrong element (static storage). */
const char *ref_check_all_reduce(const struct ref_all_reduce *job, const struct ref_outputs *got);

/* Reduction of `count` elements of all ranks at element offset `at` into `out`, exactly, as reduce-scatter promises it; compares. */
const char *ref_check_reduction(unsigned dtype, unsigned redop, unsigned nranks, const void *const *in, size_t at, const void *got,
                                size_t got_at, size_t count);

/* ---- data ---- */

typedef enum ref_data { REF_SMALL = 0, REF_WIDE = 1, REF_ZEROS = 2, REF_SPECIAL = 3, REF_SPIKES = 4, REF_DATA_COUNT } ref_data;

uint64_t ref_random(uint64_t *state);
/*
 * Fills `count` elements. SMALL: near 1, so that every rounding counts. WIDE: many magnitudes. ZEROS: both signs of zero and the bit
 * patterns of other sentinels. SPECIAL: infinities, NaN, largest, subnormals. SPIKES: zero but for one large value per block.
 */
void ref_fill(unsigned dtype, ref_data kind, uint64_t seed, void *buffer, size_t count);

#endif
