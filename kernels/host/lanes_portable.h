/*
 * 16 fp32 lanes in plain C, for any processor. What every operation here means is defined by the scalar functions of arith/; the other
 * lanes_*.h give the same bits with intrinsics. `n` < 16 in the _tail forms: the lanes behind are zero, and are not stored.
 */
#ifndef TCK_HOST_LANES_PORTABLE_H
#define TCK_HOST_LANES_PORTABLE_H

#include "arith/fp4.h"
#include "arith/half.h"

#include <stddef.h>

struct v16 {
    float x[16];
};

/* Conversions are too long to be copied to everywhere they are used. */
#define V16_OUTLINED static __attribute__((noinline, unused))

#define V16_EACH(expression)                                                                                                               \
    do {                                                                                                                                   \
        struct v16 r_;                                                                                                                     \
        for (int i = 0; i < 16; i++)                                                                                                       \
            r_.x[i] = (expression);                                                                                                        \
        return r_;                                                                                                                         \
    } while (0)

static inline struct v16 v16_set(float x)
{
    V16_EACH(x);
}
static inline struct v16 v16_add(struct v16 a, struct v16 b)
{
    V16_EACH(a.x[i] + b.x[i]);
}
static inline struct v16 v16_mul(struct v16 a, struct v16 b)
{
    V16_EACH(a.x[i] * b.x[i]);
}
V16_OUTLINED struct v16 v16_div(struct v16 a, struct v16 b)
{
    V16_EACH(a.x[i] / b.x[i]);
}
/* NaN wins; of equal values the first stays. */
V16_OUTLINED struct v16 v16_min(struct v16 a, struct v16 b)
{
    V16_EACH(b.x[i] < a.x[i] || b.x[i] != b.x[i] ? b.x[i] : a.x[i]);
}
V16_OUTLINED struct v16 v16_max(struct v16 a, struct v16 b)
{
    V16_EACH(b.x[i] > a.x[i] || b.x[i] != b.x[i] ? b.x[i] : a.x[i]);
}
V16_OUTLINED struct v16 v16_round_fp16(struct v16 a)
{
    V16_EACH(tck_round_fp16(a.x[i]));
}
V16_OUTLINED struct v16 v16_round_bf16(struct v16 a)
{
    V16_EACH(tck_round_bf16(a.x[i]));
}

/* Largest magnitude; NaN is ignored. */
V16_OUTLINED float v16_largest(struct v16 a)
{
    float largest = 0;
    for (int i = 0; i < 16; i++) {
        float x = tck_float_of(tck_bits_of(a.x[i]) & 0x7fffffffu);
        largest = x > largest ? x : largest;
    }
    return largest;
}

static inline struct v16 v16_load_fp32(const void *p)
{
    struct v16 r;
    memcpy(&r, p, sizeof(r));
    return r;
}
V16_OUTLINED struct v16 v16_load_fp16(const void *p)
{
    uint16_t h[16];
    memcpy(h, p, sizeof(h));
    V16_EACH(tck_float_from_fp16(h[i]));
}
V16_OUTLINED struct v16 v16_load_bf16(const void *p)
{
    uint16_t h[16];
    memcpy(h, p, sizeof(h));
    V16_EACH(tck_float_from_bf16(h[i]));
}
static inline void v16_store_fp32(void *p, struct v16 a)
{
    memcpy(p, &a, sizeof(a));
}
V16_OUTLINED void v16_store_fp16(void *p, struct v16 a)
{
    uint16_t h[16];
    for (int i = 0; i < 16; i++)
        h[i] = tck_fp16_from_float(a.x[i]);
    memcpy(p, h, sizeof(h));
}
V16_OUTLINED void v16_store_bf16(void *p, struct v16 a)
{
    uint16_t h[16];
    for (int i = 0; i < 16; i++)
        h[i] = tck_bf16_from_float(a.x[i]);
    memcpy(p, h, sizeof(h));
}
/* Of values that are bf16 already. */
static inline void v16_store_exact_bf16(void *p, struct v16 a)
{
    uint16_t h[16];
    for (int i = 0; i < 16; i++)
        h[i] = (uint16_t)(tck_bits_of(a.x[i]) >> 16);
    memcpy(p, h, sizeof(h));
}
/* 16 codes of one byte. */
V16_OUTLINED void v16_store_e4m3(void *p, struct v16 a)
{
    uint8_t codes[16];
    for (int i = 0; i < 16; i++)
        codes[i] = tck_e4m3_from_float(a.x[i]);
    memcpy(p, codes, sizeof(codes));
}
/* 16 codes of four bits, the even element in the low half. */
V16_OUTLINED void v16_store_e2m1(void *p, struct v16 a)
{
    uint8_t codes[8];
    for (int i = 0; i < 8; i++)
        codes[i] = (uint8_t)(tck_e2m1_from_float(a.x[2 * i]) | tck_e2m1_from_float(a.x[2 * i + 1]) << 4);
    memcpy(p, codes, sizeof(codes));
}

#include "host/lanes_staged_tail.h"

#endif
