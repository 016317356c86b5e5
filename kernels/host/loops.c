/*
 * Compiled once per instruction set: the build defines TCK_LANES, the header with the 16-lane operations, and TCK_LOOPS, the name of
 * the table to define.
 */
#include "host/loops.h"

#include <tcw/types.h>

#include TCK_LANES

/* HOT: specialized for its constant arguments where the lanes are worth it. COLD: one copy, whatever the arguments. */
#ifdef V16_SPECIALIZE
#define HOT inline __attribute__((always_inline))
#else
#define HOT inline
#endif
#define COLD __attribute__((noinline))

#define T                   fp32
#define T_STORE_EXACT(p, v) v16_store_fp32(p, v)
#define T_BYTES             4
#define T_ROUND(v)          (v)
#include "host/loops_float.h"

#define T                   fp16
#define T_STORE_EXACT(p, v) v16_store_fp16(p, v)
#define T_BYTES             2
#define T_ROUND(v)          v16_round_fp16(v)
#include "host/loops_float.h"

#define T                   bf16
#define T_STORE_EXACT(p, v) v16_store_exact_bf16(p, v)
#define T_BYTES             2
#define T_ROUND(v)          v16_round_bf16(v)
#include "host/loops_float.h"

#include "host/loops_plain.h"

static void reduce(const struct tck_reduction *r)
{
    switch (r->dtype) {
    case TCW_FP32:
        reduce_fp32(r);
        break;
    case TCW_FP16:
        reduce_fp16(r);
        break;
    case TCW_BF16:
        reduce_bf16(r);
        break;
    default:
        reduce_plain(r);
    }
}

static float row_sum(const struct tck_row_sum *r)
{
    return r->dtype == TCW_BF16 ? row_sum_bf16(r) : r->dtype == TCW_FP16 ? row_sum_fp16(r) : row_sum_fp32(r);
}

static void row_norm(const struct tck_row_norm *r)
{
    if (r->dtype == TCW_BF16)
        row_norm_bf16(r);
    else if (r->dtype == TCW_FP16)
        row_norm_fp16(r);
    else
        row_norm_fp32(r);
}

extern const struct tck_loops TCK_LOOPS;
#define TCK_QUOTE_(x) #x
#define TCK_QUOTE(x)  TCK_QUOTE_(x)
const struct tck_loops TCK_LOOPS = {
    .name = &TCK_QUOTE(TCK_LOOPS)[sizeof("tck_loops_") - 1],
    .reduce = reduce,
    .row_sum = row_sum,
    .row_norm = row_norm,
};
