/*
 * RMSNorm (seed-spec 4.1, 15.7) with a canonical order, so that every rank, instruction set and device gets the same bits:
 *
 *   squares   element j of a row is squared in fp32 (MNNVL: and rounded to T) and added to accumulator j % 64, in ascending j
 *   tree      accumulator i += accumulator i + 32 for i < 32; then 16, 8, 4, 2, 1; the result is accumulator 0
 *   inverse   k = 1 / sqrt(v / H + eps), each operation rounded to fp32
 *   output    RN_T((u * k) * gamma), MNNVL two-shot RN_T((gamma * u) * k)
 *
 * 64 accumulators are four vectors of 16 lanes: enough independent chains to hide the latency of an addition.
 *
 * Owner: nobody, pure functions. Threads: any.
 */
#ifndef TCK_ARITH_NORM_H
#define TCK_ARITH_NORM_H

#include "hd.h"

#include <math.h>

enum { TCK_NORM_LANES = 64 };

typedef enum tck_norm_order {
    TCK_NORM_SCALE_FIRST = 0, /* (u * k) * gamma */
    TCK_NORM_GAMMA_FIRST = 1, /* (gamma * u) * k */
} tck_norm_order;

/* Consumes the accumulators. */
TCK_HD float tck_norm_tree(float lanes[TCK_NORM_LANES])
{
    for (int half = TCK_NORM_LANES / 2; half; half /= 2)
        for (int i = 0; i < half; i++)
            lanes[i] += lanes[i + half];
    return lanes[0];
}

TCK_HD float tck_norm_inverse(float squares, uint64_t hidden, float eps)
{
    return 1.0f / sqrtf(squares / (float)hidden + eps);
}

TCK_HD float tck_norm_output(float u, float gamma, float k, tck_norm_order order)
{
    return order == TCK_NORM_GAMMA_FIRST ? (gamma * u) * k : (u * k) * gamma;
}

#endif
