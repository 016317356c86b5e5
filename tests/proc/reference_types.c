#include "reference.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

size_t ref_bytes(unsigned dtype)
{
    static const size_t bytes[] = {4, 2, 2, 8, 1, 1, 4, 4, 8, 8, 1, 1};
    return bytes[dtype];
}

bool ref_is_float(unsigned dtype)
{
    return dtype <= TRTCOLL_FP64;
}

/* A binary format with `mantissa` stored bits: the value rounded to nearest even. */
static double round_format(double value, int mantissa, int min_exponent, double largest)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof(bits));
    int exponent = (int)(bits >> 52 & 0x7ff) - 1023;
    if (value == 0 || exponent == 1024)
        return value;
    if (exponent < min_exponent) { /* subnormal there: steps of fixed size; the quotient is exact, a power of two */
        double step = ldexp(1.0, min_exponent - mantissa);
        return copysign(nearbyint(value / step) * step, value);
    }
    int drop = 52 - mantissa;
    bits += ((uint64_t)1 << (drop - 1)) - 1 + (bits >> drop & 1); /* a carry into the exponent is right */
    bits &= ~(((uint64_t)1 << drop) - 1);
    memcpy(&value, &bits, sizeof(value));
    return fabs(value) > largest ? copysign(INFINITY, value) : value;
}

double ref_round(unsigned dtype, double value)
{
    switch (dtype) {
    case TRTCOLL_FP32:
        return (float)value;
    case TRTCOLL_FP16:
        return round_format(value, 10, -14, 65504.0);
    case TRTCOLL_BF16:
        return round_format(value, 7, -126, 0x1.fep127);
    default:
        return value;
    }
}

/* The bytes of element `i`, little-endian. Every element of every test comes here: sizes are constants, calls of memcpy none. */
static uint64_t load(size_t bytes, const void *buffer, size_t i)
{
    const unsigned char *at = (const unsigned char *)buffer + i * bytes;
    uint64_t value = 0;
    switch (bytes) {
    case 1:
        return *at;
    case 2:
        memcpy(&value, at, 2);
        return value;
    case 4:
        memcpy(&value, at, 4);
        return value;
    default:
        memcpy(&value, at, 8);
        return value;
    }
}

static double unpack_bf16(uint16_t bits)
{
    uint32_t wide = (uint32_t)bits << 16;
    float value;
    memcpy(&value, &wide, sizeof(value));
    return (double)value;
}

static double unpack_fp16(unsigned bits)
{
    int exponent = (int)(bits >> 10 & 31);
    double fraction = bits & 1023, sign = bits & 0x8000 ? -1.0 : 1.0;
    if (exponent == 31)
        return fraction != 0 ? (double)NAN : sign * (double)INFINITY;
    if (!exponent)
        return sign * fraction * 0x1p-24;
    uint64_t power = (uint64_t)(exponent - 25 + 1023) << 52;
    double scale;
    memcpy(&scale, &power, sizeof(scale));
    return sign * (fraction + 1024) * scale;
}

double ref_get(unsigned dtype, const void *buffer, size_t i)
{
    union {
        float f32;
        double f64;
        uint16_t u16;
        int8_t i8;
        uint8_t u8;
        int32_t i32;
        uint32_t u32;
        int64_t i64;
        uint64_t u64;
    } value = {.u64 = load(ref_bytes(dtype), buffer, i)};
    switch (dtype) {
    case TRTCOLL_FP32:
        return (double)value.f32;
    case TRTCOLL_FP16:
        return unpack_fp16(value.u16);
    case TRTCOLL_BF16:
        return unpack_bf16(value.u16);
    case TRTCOLL_FP64:
        return value.f64;
    case TRTCOLL_INT8:
        return value.i8;
    case TRTCOLL_INT32:
        return value.i32;
    case TRTCOLL_UINT32:
        return value.u32;
    case TRTCOLL_INT64:
        return (double)value.i64;
    case TRTCOLL_UINT64:
        return (double)value.u64;
    default:
        return value.u8;
    }
}

/* A value that the format has. */
static unsigned pack(double value, int mantissa, int exponent_bits)
{
    uint64_t bits;
    int bias = (1 << (exponent_bits - 1)) - 1, exponent;
    unsigned sign = signbit(value) ? 1u << (mantissa + exponent_bits) : 0;
    unsigned infinity = ((1u << exponent_bits) - 1) << mantissa;
    if (isnan(value))
        return infinity | 1u << (mantissa - 1);
    if (isinf(value))
        return sign | infinity;
    if (value == 0)
        return sign;
    memcpy(&bits, &value, sizeof(bits));
    exponent = (int)(bits >> 52 & 0x7ff) - 1023;
    if (exponent < 1 - bias)
        return sign | (unsigned)ldexp(fabs(value), bias - 1 + mantissa);
    return sign | (unsigned)(exponent + bias) << mantissa | ((unsigned)(bits >> (52 - mantissa)) & ((1u << mantissa) - 1));
}

void ref_set(unsigned dtype, void *buffer, size_t i, double value)
{
    unsigned char *at = (unsigned char *)buffer + i * ref_bytes(dtype);
    float single = (float)value;
    uint16_t half;
    int64_t integer = value >= 9.2e18 ? INT64_MAX : (int64_t)value;
    switch (dtype) {
    case TRTCOLL_FP32:
        memcpy(at, &single, sizeof(single));
        break;
    case TRTCOLL_FP16:
        half = (uint16_t)pack(ref_round(dtype, value), 10, 5);
        memcpy(at, &half, sizeof(half));
        break;
    case TRTCOLL_BF16:
        half = (uint16_t)pack(ref_round(dtype, value), 7, 8);
        memcpy(at, &half, sizeof(half));
        break;
    case TRTCOLL_FP64:
        memcpy(at, &value, sizeof(value));
        break;
    default: /* little-endian: the low bytes of the two's complement */
        memcpy(at, &integer, ref_bytes(dtype));
        break;
    }
}

/* Bit patterns of floats, mapped so that neighbours differ by one and both zeros meet. */
static int64_t ordered(unsigned dtype, const void *buffer, size_t i)
{
    size_t bytes = ref_bytes(dtype);
    uint64_t bits = load(bytes, buffer, i);
    uint64_t sign = 1ull << (bytes * 8 - 1);
    return bits & sign ? -(int64_t)(bits & (sign - 1)) : (int64_t)bits;
}

uint64_t ref_distance(unsigned dtype, const void *a, const void *b, size_t i)
{
    if (!ref_is_float(dtype))
        return load(ref_bytes(dtype), a, i) == load(ref_bytes(dtype), b, i) ? 0 : UINT64_MAX;
    bool a_nan = isnan(ref_get(dtype, a, i)), b_nan = isnan(ref_get(dtype, b, i));
    if (a_nan || b_nan)
        return a_nan && b_nan ? 0 : UINT64_MAX;
    int64_t x = ordered(dtype, a, i), y = ordered(dtype, b, i);
    return x > y ? (uint64_t)x - (uint64_t)y : (uint64_t)y - (uint64_t)x;
}

/* ---- small formats ---- */

double ref_e4m3_value(unsigned code)
{
    unsigned fraction = code & 7, exponent = code >> 3 & 15;
    double sign = code & 0x80 ? -1.0 : 1.0;
    if ((code & 0x7f) == 0x7f)
        return NAN;
    return sign * (exponent ? ldexp(8 + fraction, (int)exponent - 10) : ldexp(fraction, -9));
}

double ref_e2m1_value(unsigned code)
{
    static const double values[] = {0, 0.5, 1, 1.5, 2, 3, 4, 6};
    return code & 8 ? -values[code & 7] : values[code & 7];
}

/*
 * Codes 0..last of a sign-magnitude format ascend in value. Near a tie both neighbours are accepted. Exactly on it only the even one,
 * where the value is a single product (`strict`) and no earlier rounding can have moved it.
 */
static bool is_rounded(unsigned magnitude, double value, unsigned last, bool strict, double (*decode)(unsigned))
{
    double slack = fabs(value) * 0x1p-20;
    value = fabs(value);
    if (magnitude > last)
        return false;
    if (magnitude > 0) {
        double tie = (decode(magnitude) + decode(magnitude - 1)) / 2;
        if (strict && value == tie ? magnitude % 2 != 0 : value + slack < tie)
            return false;
    }
    if (magnitude < last) {
        double tie = (decode(magnitude) + decode(magnitude + 1)) / 2;
        if (strict && value == tie ? magnitude % 2 != 0 : value - slack > tie)
            return false;
    }
    return true;
}

bool ref_is_e4m3(unsigned code, double value, bool strict)
{
    if (isnan(value))
        return (code & 0x7f) == 0x7f;
    if (value != 0 && (code & 0x7f) && (code >> 7) != (signbit(value) ? 1u : 0u))
        return false;
    return is_rounded(code & 0x7f, value, 0x7e, strict, ref_e4m3_value);
}

bool ref_is_e2m1(unsigned code, double value)
{
    if (isnan(value))
        return true; /* the format has no NaN; nothing is promised */
    if (value != 0 && (code & 7) && (code >> 3) != (signbit(value) ? 1u : 0u))
        return false;
    return is_rounded(code & 7, value, 7, false, ref_e2m1_value);
}

/* ---- data ---- */

uint64_t ref_random(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15ull;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    return z ^ z >> 31;
}

static double uniform(uint64_t *state)
{
    return (double)(ref_random(state) >> 11) * 0x1p-53;
}

static void fill_special(unsigned dtype, uint64_t *state, void *buffer, size_t i)
{
    static const uint32_t single[] = {0x00000000, 0x80000000, 0x7f800000, 0xff800000, 0x7fc00000, 0x7f7fffff, 0xff7fffff, 0x00000001,
                                      0x80000001, 0x007fffff, 0x00800000, 0x3f800000, 0xbf800000, 0x80008000, 0x00008000, 0x80000000};
    static const uint16_t half[] = {0x0000, 0x8000, 0x7c00, 0xfc00, 0x7e00, 0x7bff, 0xfbff, 0x0001,
                                    0x8001, 0x03ff, 0x0400, 0x3c00, 0xbc00, 0x8000, 0x0000, 0x8000};
    unsigned pick = (unsigned)(ref_random(state) % 16);
    if (dtype == TRTCOLL_FP32) {
        memcpy((uint32_t *)buffer + i, &single[pick], sizeof(single[pick]));
    } else if (dtype == TRTCOLL_FP16) {
        memcpy((uint16_t *)buffer + i, &half[pick], sizeof(half[pick]));
    } else if (dtype == TRTCOLL_BF16) {
        uint16_t high = (uint16_t)(single[pick] >> 16);
        memcpy((uint16_t *)buffer + i, &high, sizeof(high));
    } else {
        float value;
        memcpy(&value, &single[pick], sizeof(value));
        ref_set(dtype, buffer, i, (double)value);
    }
}

void ref_fill(unsigned dtype, ref_data kind, uint64_t seed, void *buffer, size_t count)
{
    uint64_t state = seed;
    if (!ref_is_float(dtype)) {
        for (size_t i = 0; i < count; i++) {
            uint64_t bits = ref_random(&state);
            if (kind == REF_SMALL)
                bits %= 6;
            memcpy((unsigned char *)buffer + i * ref_bytes(dtype), &bits, ref_bytes(dtype));
        }
        return;
    }
    for (size_t i = 0; i < count; i++) {
        double value = uniform(&state) * 4 - 2;
        switch (kind) {
        case REF_WIDE:
            value *= (double)(1u << ref_random(&state) % 21) * 0x1p-14;
            break;
        case REF_ZEROS:
            value = ref_random(&state) % 2 ? -0.0 : 0.0;
            if (ref_random(&state) % 8 == 0)
                value = ldexp(1.0, dtype == TRTCOLL_FP16 ? -24 : -133); /* a subnormal beside a zero: pairs that look like sentinels */
            break;
        case REF_SPECIAL:
            fill_special(dtype, &state, buffer, i);
            continue;
        case REF_SPIKES:
            value = i % 16 == ref_random(&state) % 16 ? value * 500 : 0.0;
            break;
        default:
            break;
        }
        ref_set(dtype, buffer, i, value);
    }
}
