/*
 * What the operations must compute, written down a second time: doubles and searches instead of bit tricks, nothing shared with kernels/.
 */
#ifndef TESTS_KERNELS_REFERENCE_H
#define TESTS_KERNELS_REFERENCE_H

#include <tcw/types.h>

#include <math.h>
#include <stdbool.h>
#include <string.h>

/* The nearest value with `mantissa` stored bits and smallest normal exponent `emin`, ties to even; overflow beyond `largest` to infinity.
 */
static inline double ref_nearest(double x, int mantissa, int emin, double largest)
{
    int exponent;
    if (isnan(x) || isinf(x) || x == 0)
        return x;
    frexp(x, &exponent); /* |x| = f * 2^exponent, f in [0.5, 1) */
    exponent = exponent - 1 < emin ? emin : exponent - 1;
    double step = ldexp(1.0, exponent - mantissa);
    double r = nearbyint(x / step) * step; /* exact scaling; nearbyint in round-to-nearest-even */
    if (fabs(r) > largest)
        return copysign(INFINITY, x);
    return copysign(r, x);
}

static inline double ref_round(unsigned dtype, double x)
{
    switch (dtype) {
    case TCW_FP16:
        return ref_nearest(x, 10, -14, 65504.0);
    case TCW_BF16:
        return ref_nearest(x, 7, -126, 0x1.fep127);
    case TCW_FP32:
        return (float)x;
    default:
        return x;
    }
}

static inline double ref_load(unsigned dtype, const void *base, uint64_t index)
{
    uint16_t h;
    uint32_t w;
    float f;
    double d;
    switch (dtype) {
    case TCW_FP16: {
        memcpy(&h, (const uint8_t *)base + 2 * index, 2);
        int e = h >> 10 & 31, m = h & 1023;
        d = e == 31 ? (m ? NAN : INFINITY) : e ? ldexp(1024 + m, e - 25) : ldexp(m, -24);
        return h & 0x8000 ? -d : d;
    }
    case TCW_BF16:
        memcpy(&h, (const uint8_t *)base + 2 * index, 2);
        w = (uint32_t)h << 16;
        memcpy(&f, &w, 4);
        return f;
    case TCW_FP32:
        memcpy(&f, (const uint8_t *)base + 4 * index, 4);
        return f;
    case TCW_FP64:
        memcpy(&d, (const uint8_t *)base + 8 * index, 8);
        return d;
    default:
        return NAN;
    }
}

/* x must be a value of the type. */
static inline void ref_store(unsigned dtype, void *base, uint64_t index, double x)
{
    float f = (float)x;
    uint32_t w;
    uint16_t h;
    memcpy(&w, &f, 4);
    switch (dtype) {
    case TCW_FP16: {
        uint16_t sign = signbit(x) ? 0x8000 : 0;
        double a = fabs(x);
        if (isnan(x)) {
            h = 0x7e00;
        } else if (isinf(x)) {
            h = (uint16_t)(sign | 0x7c00);
        } else if (a < 0x1p-14) {
            h = (uint16_t)(sign | (uint16_t)ldexp(a, 24));
        } else {
            int e;
            double m = frexp(a, &e);
            h = (uint16_t)(sign | (uint16_t)((e + 14) << 10) | (uint16_t)(ldexp(m, 11) - 1024));
        }
        memcpy((uint8_t *)base + 2 * index, &h, 2);
        break;
    }
    case TCW_BF16:
        h = isnan(x) ? 0x7fc0 : (uint16_t)(w >> 16);
        memcpy((uint8_t *)base + 2 * index, &h, 2);
        break;
    case TCW_FP32:
        memcpy((uint8_t *)base + 4 * index, &f, 4);
        break;
    default:
        memcpy((uint8_t *)base + 8 * index, &x, 8);
    }
}

/* Equal bits; any NaN equals any NaN. */
static inline bool ref_same(double a, double b)
{
    return (isnan(a) && isnan(b)) || (a == b && signbit(a) == signbit(b));
}

static inline double ref_decode_e4m3(uint8_t code)
{
    int e = code >> 3 & 15, m = code & 7;
    double a = (code & 127) == 127 ? NAN : e ? ldexp(8 + m, e - 10) : ldexp(m, -9);
    return code & 128 ? -a : a;
}

/* Nearest of the 127 magnitudes, ties to the even code. */
static inline uint8_t ref_encode_e4m3(double x)
{
    uint8_t best = 0;
    if (isnan(x))
        return 127;
    double a = fabs(x) > 448 ? 448 : fabs(x);
    for (uint8_t code = 1; code < 127; code++) {
        double closer = fabs(ref_decode_e4m3(code) - a) - fabs(ref_decode_e4m3(best) - a);
        if (closer < 0 || (closer == 0 && !(code & 1)))
            best = code;
    }
    return (uint8_t)(best | (signbit(x) ? 128 : 0));
}

static inline uint8_t ref_encode_e2m1(double x)
{
    static const double values[8] = {0, 0.5, 1, 1.5, 2, 3, 4, 6};
    uint8_t best = 0;
    if (isnan(x))
        return 7;
    double a = fabs(x) > 6 ? 6 : fabs(x);
    for (uint8_t code = 1; code < 8; code++) {
        double closer = fabs(values[code] - a) - fabs(values[best] - a);
        if (closer < 0 || (closer == 0 && !(code & 1)))
            best = code;
    }
    return (uint8_t)(best | (signbit(x) ? 8 : 0));
}

/* One element's reduction over n values in ascending order. step_dtype: rounded to after every step (TCW_FP32 for wide sums). */
static inline double ref_fold(const double *x, unsigned n, unsigned redop, unsigned dtype, unsigned step_dtype)
{
    double acc = x[0];
    for (unsigned i = 1; i < n; i++) {
        if (redop == TCW_MIN || redop == TCW_MAX) {
            if (isnan(acc))
                continue;
            if (isnan(x[i]) || (redop == TCW_MIN ? x[i] < acc : x[i] > acc))
                acc = x[i];
        } else {
            acc = redop == TCW_PROD ? acc * x[i] : acc + x[i];
            acc = ref_round(step_dtype, step_dtype == TCW_FP64 ? acc : (double)(float)acc);
        }
    }
    if (redop == TCW_AVG)
        acc = dtype == TCW_FP64 ? acc / n : (float)acc / (float)n;
    return ref_round(dtype, acc);
}

#endif
