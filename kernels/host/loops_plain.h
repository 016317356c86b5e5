/*
 * Loops over fp64 and the integers, which are reduced natively. Sums and products of integers wrap; an average of integers up to 32 bits
 * is taken of the exact sum, one of 64-bit integers of the wrapped sum; both truncate toward zero. Included by loops.c.
 */
#ifndef TCK_HOST_LOOPS_PLAIN_H
#define TCK_HOST_LOOPS_PLAIN_H

enum { PLAIN_TILE = 256 };

/* TYPE in memory; WIDE accumulates (unsigned, so that wrapping is defined); AVG accumulates averages. `acc` lives in the first cache. */
#define PLAIN_FOLD(ACC, TYPE, step)                                                                                                        \
    do {                                                                                                                                   \
        ACC acc[PLAIN_TILE];                                                                                                               \
        for (size_t i = 0; i < n; i++)                                                                                                     \
            acc[i] = (ACC)((const TYPE *)r->src[0])[at + i];                                                                               \
        for (uint32_t s = 1; s < r->count; s++) {                                                                                          \
            const TYPE *restrict src = (const TYPE *)r->src[s] + at;                                                                       \
            for (size_t i = 0; i < n; i++) {                                                                                               \
                ACC a = acc[i];                                                                                                            \
                ACC x = (ACC)src[i];                                                                                                       \
                acc[i] = (ACC)(step);                                                                                                      \
            }                                                                                                                              \
        }                                                                                                                                  \
        for (size_t i = 0; i < n; i++)                                                                                                     \
            ((TYPE *)r->dst)[at + i] = (TYPE)acc[i];                                                                                       \
    } while (0)

#define PLAIN_AVERAGE(ACC, SIGNED, TYPE)                                                                                                   \
    do {                                                                                                                                   \
        ACC acc[PLAIN_TILE];                                                                                                               \
        for (size_t i = 0; i < n; i++)                                                                                                     \
            acc[i] = (ACC)((const TYPE *)r->src[0])[at + i];                                                                               \
        for (uint32_t s = 1; s < r->count; s++) {                                                                                          \
            const TYPE *restrict src = (const TYPE *)r->src[s] + at;                                                                       \
            for (size_t i = 0; i < n; i++)                                                                                                 \
                acc[i] += (ACC)src[i];                                                                                                     \
        }                                                                                                                                  \
        for (size_t i = 0; i < n; i++)                                                                                                     \
            ((TYPE *)r->dst)[at + i] = (TYPE)((SIGNED)acc[i] / (SIGNED)r->count);                                                          \
    } while (0)

#define PLAIN_REDUCE(name, TYPE, WRAP, AVG, AVG_SIGNED)                                                                                    \
    static void reduce_##name(const struct tck_reduction *r)                                                                               \
    {                                                                                                                                      \
        for (size_t at = 0; at < r->elements; at += PLAIN_TILE) {                                                                          \
            size_t n = r->elements - at < PLAIN_TILE ? r->elements - at : PLAIN_TILE;                                                      \
            switch (r->redop) {                                                                                                            \
            case TCW_MIN:                                                                                                                  \
                PLAIN_FOLD(TYPE, TYPE, x < a || x != x ? x : a);                                                                           \
                break;                                                                                                                     \
            case TCW_MAX:                                                                                                                  \
                PLAIN_FOLD(TYPE, TYPE, x > a || x != x ? x : a);                                                                           \
                break;                                                                                                                     \
            case TCW_PROD:                                                                                                                 \
                PLAIN_FOLD(WRAP, TYPE, a *x);                                                                                              \
                break;                                                                                                                     \
            case TCW_AVG:                                                                                                                  \
                PLAIN_AVERAGE(AVG, AVG_SIGNED, TYPE);                                                                                      \
                break;                                                                                                                     \
            default:                                                                                                                       \
                PLAIN_FOLD(WRAP, TYPE, a + x);                                                                                             \
            }                                                                                                                              \
        }                                                                                                                                  \
    }

PLAIN_REDUCE(fp64, double, double, double, double)
PLAIN_REDUCE(int8, int8_t, uint32_t, uint32_t, int32_t)
PLAIN_REDUCE(uint8, uint8_t, uint32_t, uint32_t, uint32_t)
PLAIN_REDUCE(int32, int32_t, uint32_t, uint64_t, int64_t)
PLAIN_REDUCE(uint32, uint32_t, uint32_t, uint64_t, uint64_t)
PLAIN_REDUCE(int64, int64_t, uint64_t, uint64_t, int64_t)
PLAIN_REDUCE(uint64, uint64_t, uint64_t, uint64_t, uint64_t)

static void reduce_plain(const struct tck_reduction *r)
{
    static void (*const by_dtype[TCW_DTYPE_COUNT])(const struct tck_reduction *) = {
        [TCW_FP64] = reduce_fp64,     [TCW_INT8] = reduce_int8,   [TCW_UINT8] = reduce_uint8,   [TCW_INT32] = reduce_int32,
        [TCW_UINT32] = reduce_uint32, [TCW_INT64] = reduce_int64, [TCW_UINT64] = reduce_uint64,
    };
    if (r->dtype < TCW_DTYPE_COUNT && by_dtype[r->dtype])
        by_dtype[r->dtype](r);
}

#endif
