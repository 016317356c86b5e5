/*
 * FP8 E4M3 (finite form, seed-spec 0.2 and 4.2): round-to-nearest-even, saturating at 448 (infinities too). Every NaN becomes 0x7f.
 *
 * Owner: nobody, pure functions. Threads: any.
 */
#ifndef TCK_ARITH_FP8_H
#define TCK_ARITH_FP8_H

#include "hd.h"

TCK_HD uint8_t tck_e4m3_from_float(float x)
{
    uint32_t bits = tck_bits_of(x);
    uint32_t sign = bits >> 24 & 0x80u;
    uint32_t magnitude = bits & 0x7fffffffu;
    if (magnitude > 0x7f800000u)
        return 0x7f;
    if (magnitude > 0x43e00000u) /* 448 */
        magnitude = 0x43e00000u;
    if (magnitude < 0x3c800000u) /* below 2^-6 the step is 2^-9, one ulp of 2^14: the addition rounds */
        return (uint8_t)(sign | (tck_bits_of(tck_float_of(magnitude) + 16384.0f) - 0x46800000u));
    return (uint8_t)(sign | (((magnitude + 0x7ffffu + (magnitude >> 20 & 1u)) >> 20) - (120u << 3)));
}

TCK_HD float tck_float_from_e4m3(uint8_t x)
{
    uint32_t sign = (uint32_t)(x & 0x80u) << 24;
    uint32_t magnitude = x & 0x7fu;
    if (magnitude == 0x7fu)
        return tck_float_of(sign | 0x7fc00000u);
    if (magnitude < 8u)
        return tck_float_of(sign | tck_bits_of((float)magnitude * (1.0f / 512.0f)));
    return tck_float_of(sign | ((magnitude << 20) + (120u << 23)));
}

/* Multiplier of the fused quantization: the caller gives the dequantization scale, codes are E4M3(norm * multiplier). */
TCK_HD float tck_e4m3_multiplier(float scale)
{
    return 1.0f / scale;
}

#endif
