/*
 * fp16 and bf16: conversion with round-to-nearest-even, and the steps of a native-order sum (seed-spec 0.2, 7.4). A NaN stays a NaN
 * (quiet, upper payload bits kept, as F16C does it); overflow gives infinity; subnormals are exact.
 *
 * Owner: nobody, pure functions. Threads: any.
 */
#ifndef TCK_ARITH_HALF_H
#define TCK_ARITH_HALF_H

#include "hd.h"

TCK_HD float tck_float_from_bf16(uint16_t x)
{
    return tck_float_of((uint32_t)x << 16);
}

TCK_HD uint16_t tck_bf16_from_float(float x)
{
    uint32_t bits = tck_bits_of(x);
    if ((bits & 0x7fffffffu) > 0x7f800000u)
        return (uint16_t)(bits >> 16 | 0x40u);
    return (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

TCK_HD float tck_float_from_fp16(uint16_t x)
{
    uint32_t sign = (uint32_t)(x & 0x8000u) << 16;
    uint32_t magnitude = (uint32_t)(x & 0x7fffu) << 13;
    if ((x & 0x7c00u) == 0x7c00u) {
        uint32_t quiet = x & 0x3ffu ? 0x400000u : 0;
        return tck_float_of(sign | 0x7f800000u | magnitude | quiet);
    }
    /* Scaling by 2^112 moves the exponent and normalizes subnormals, exactly. */
    return tck_float_of(sign | tck_bits_of(tck_float_of(magnitude) * tck_float_of(0x77800000u)));
}

TCK_HD uint16_t tck_fp16_from_float(float x)
{
    uint32_t bits = tck_bits_of(x);
    uint32_t sign = bits >> 16 & 0x8000u;
    uint32_t magnitude = bits & 0x7fffffffu;
    if (magnitude > 0x7f800000u)
        return (uint16_t)(sign | 0x7e00u | (magnitude >> 13 & 0x3ffu));
    if (magnitude >= 0x477ff000u) /* 65520 and more round to infinity */
        return (uint16_t)(sign | 0x7c00u);
    if (magnitude < 0x38800000u) /* subnormal result: one ulp of 0.5f is one step of fp16 there, so the addition rounds for us */
        return (uint16_t)(sign | (tck_bits_of(tck_float_of(magnitude) + 0.5f) - 0x3f000000u));
    return (uint16_t)(sign | (((magnitude + 0xfffu + (magnitude >> 13 & 1u)) >> 13) - (112u << 10)));
}

TCK_HD float tck_round_bf16(float x)
{
    return tck_float_from_bf16(tck_bf16_from_float(x));
}
TCK_HD float tck_round_fp16(float x)
{
    return tck_float_from_fp16(tck_fp16_from_float(x));
}

/* a +_T b: one addition, one rounding. An fp32 addition of two 16-bit values rounded to 16 bits equals the exact sum rounded once. */
TCK_HD uint16_t tck_bf16_add(uint16_t a, uint16_t b)
{
    return tck_bf16_from_float(tck_float_from_bf16(a) + tck_float_from_bf16(b));
}
TCK_HD uint16_t tck_fp16_add(uint16_t a, uint16_t b)
{
    return tck_fp16_from_float(tck_float_from_fp16(a) + tck_float_from_fp16(b));
}

#endif
