/*
 * NVFP4 (seed-spec 4.3): E2M1 codes in blocks of 16 with an E4M3 scale factor per block, in exact arithmetic: where GPUs use approximate
 * reciprocals, here stand a product with the fp32 value of 1/6 and a true quotient.
 *
 * Owner: nobody, pure functions. Threads: any.
 */
#ifndef TCK_ARITH_FP4_H
#define TCK_ARITH_FP4_H

#include "fp8.h"

/* 0, .5, 1, 1.5, 2, 3, 4, 6 with sign; nearest, ties to the even code, saturating at 6. NaN becomes +6, as the GPU instruction does it. */
TCK_HD uint8_t tck_e2m1_from_float(float x)
{
    uint32_t bits = tck_bits_of(x);
    float a = tck_float_of(bits & 0x7fffffffu);
    uint32_t sign = bits >> 28 & 8u;
    if (!(a <= 6.0f)) /* too large, or NaN */
        return (uint8_t)((a != a ? 0u : sign) | 7u);
    return (uint8_t)(sign | (uint32_t)((a > 0.25f) + (a >= 0.75f) + (a > 1.25f) + (a >= 1.75f) + (a > 2.5f) + (a >= 3.5f) + (a > 5.0f)));
}

TCK_HD float tck_float_from_e2m1(uint8_t x)
{
    uint32_t magnitude = x & 7u;
    float a = magnitude < 4u ? (float)magnitude * 0.5f : magnitude == 7u ? 6.0f : (float)(magnitude - 2u);
    return x & 8u ? -a : a;
}

/* Scale factor of a block whose largest magnitude is `largest`; `global` is the encode scale. */
TCK_HD uint8_t tck_nvfp4_scale(float largest, float global)
{
    return tck_e4m3_from_float(global * (largest * (1.0f / 6.0f)));
}

/* What a block's values are multiplied by before E2M1. */
TCK_HD float tck_nvfp4_multiplier(uint8_t scale, float global)
{
    return scale ? global / tck_float_from_e4m3(scale) : 0.0f;
}

/* Byte offset of the scale factor of block `block` (column / 16) of row `row` in the swizzled 128x4 layout. */
TCK_HD uint64_t tck_nvfp4_scale_offset(uint64_t row, uint64_t block, uint64_t blocks_per_row)
{
    uint64_t groups = (blocks_per_row + 3) / 4;
    return row / 128 * groups * 512 + block / 4 * 512 + row % 32 * 16 + row % 128 / 32 * 4 + block % 4;
}

#endif
