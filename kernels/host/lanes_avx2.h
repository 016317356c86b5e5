/* 16 fp32 lanes with AVX2 and F16C, two halves of 8. Meaning and bits: lanes_portable.h. */
#ifndef TCK_HOST_LANES_AVX2_H
#define TCK_HOST_LANES_AVX2_H

#include "arith/fp4.h"

#include <immintrin.h>
#include <stddef.h>

#define V16_SPECIALIZE 1

struct v16 {
    __m256 lo, hi;
};

#define V16_BOTH(expression_lo, expression_hi)                                                                                             \
    return (struct v16)                                                                                                                    \
    {                                                                                                                                      \
        (expression_lo), (expression_hi)                                                                                                   \
    }

static inline struct v16 v16_set(float x)
{
    V16_BOTH(_mm256_set1_ps(x), _mm256_set1_ps(x));
}
static inline struct v16 v16_add(struct v16 a, struct v16 b)
{
    V16_BOTH(_mm256_add_ps(a.lo, b.lo), _mm256_add_ps(a.hi, b.hi));
}
static inline struct v16 v16_mul(struct v16 a, struct v16 b)
{
    V16_BOTH(_mm256_mul_ps(a.lo, b.lo), _mm256_mul_ps(a.hi, b.hi));
}
static inline struct v16 v16_div(struct v16 a, struct v16 b)
{
    V16_BOTH(_mm256_div_ps(a.lo, b.lo), _mm256_div_ps(a.hi, b.hi));
}

static inline __m256 v8_min(__m256 a, __m256 b)
{
    return _mm256_blendv_ps(a, b, _mm256_or_ps(_mm256_cmp_ps(b, a, _CMP_LT_OQ), _mm256_cmp_ps(b, b, _CMP_UNORD_Q)));
}
static inline __m256 v8_max(__m256 a, __m256 b)
{
    return _mm256_blendv_ps(a, b, _mm256_or_ps(_mm256_cmp_ps(b, a, _CMP_GT_OQ), _mm256_cmp_ps(b, b, _CMP_UNORD_Q)));
}
static inline struct v16 v16_min(struct v16 a, struct v16 b)
{
    V16_BOTH(v8_min(a.lo, b.lo), v8_min(a.hi, b.hi));
}
static inline struct v16 v16_max(struct v16 a, struct v16 b)
{
    V16_BOTH(v8_max(a.lo, b.lo), v8_max(a.hi, b.hi));
}

/* bf16 codes in the low halves of 32-bit lanes. */
static inline __m256i v8_bf16_codes(__m256 a)
{
    __m256i bits = _mm256_castps_si256(a);
    __m256i high = _mm256_srli_epi32(bits, 16);
    __m256i odd = _mm256_and_si256(high, _mm256_set1_epi32(1));
    __m256i codes = _mm256_srli_epi32(_mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7fff)), odd), 16);
    __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(a, a, _CMP_UNORD_Q));
    return _mm256_blendv_epi8(codes, _mm256_or_si256(high, _mm256_set1_epi32(0x40)), nan);
}
static inline __m256 v8_round_bf16(__m256 a)
{
    return _mm256_castsi256_ps(_mm256_slli_epi32(v8_bf16_codes(a), 16));
}
static inline __m128i v8_fp16_codes(__m256 a)
{
    return _mm256_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
static inline struct v16 v16_round_bf16(struct v16 a)
{
    V16_BOTH(v8_round_bf16(a.lo), v8_round_bf16(a.hi));
}
static inline struct v16 v16_round_fp16(struct v16 a)
{
    V16_BOTH(_mm256_cvtph_ps(v8_fp16_codes(a.lo)), _mm256_cvtph_ps(v8_fp16_codes(a.hi)));
}

static inline __m256 v8_magnitude(__m256 a)
{
    return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a);
}

static inline float v16_largest(struct v16 a)
{
    __m256 lo = _mm256_and_ps(v8_magnitude(a.lo), _mm256_cmp_ps(a.lo, a.lo, _CMP_ORD_Q));
    __m256 hi = _mm256_and_ps(v8_magnitude(a.hi), _mm256_cmp_ps(a.hi, a.hi, _CMP_ORD_Q));
    __m256 m = _mm256_max_ps(lo, hi);
    __m128 q = _mm_max_ps(_mm256_castps256_ps128(m), _mm256_extractf128_ps(m, 1));
    q = _mm_max_ps(q, _mm_movehl_ps(q, q));
    return _mm_cvtss_f32(_mm_max_ss(q, _mm_shuffle_ps(q, q, 1)));
}

static inline struct v16 v16_load_fp32(const void *p)
{
    V16_BOTH(_mm256_loadu_ps(p), _mm256_loadu_ps((const float *)p + 8));
}
static inline struct v16 v16_load_fp16(const void *p)
{
    const __m128i_u *q = p;
    V16_BOTH(_mm256_cvtph_ps(_mm_loadu_si128(q)), _mm256_cvtph_ps(_mm_loadu_si128(q + 1)));
}
static inline __m256 v8_from_bf16(__m128i h)
{
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16));
}
static inline struct v16 v16_load_bf16(const void *p)
{
    const __m128i_u *q = p;
    V16_BOTH(v8_from_bf16(_mm_loadu_si128(q)), v8_from_bf16(_mm_loadu_si128(q + 1)));
}
static inline void v16_store_fp32(void *p, struct v16 a)
{
    _mm256_storeu_ps(p, a.lo);
    _mm256_storeu_ps((float *)p + 8, a.hi);
}
static inline void v16_store_fp16(void *p, struct v16 a)
{
    _mm_storeu_si128((__m128i_u *)p, v8_fp16_codes(a.lo));
    _mm_storeu_si128((__m128i_u *)p + 1, v8_fp16_codes(a.hi));
}

/* 16 values of at most 16 bits from 32-bit lanes, in order. */
static inline __m256i v16_pack(__m256i lo, __m256i hi)
{
    return _mm256_permute4x64_epi64(_mm256_packus_epi32(lo, hi), 0xd8);
}
static inline void v16_store_bf16(void *p, struct v16 a)
{
    _mm256_storeu_si256((__m256i_u *)p, v16_pack(v8_bf16_codes(a.lo), v8_bf16_codes(a.hi)));
}
static inline void v16_store_exact_bf16(void *p, struct v16 a)
{
    __m256i lo = _mm256_srli_epi32(_mm256_castps_si256(a.lo), 16), hi = _mm256_srli_epi32(_mm256_castps_si256(a.hi), 16);
    _mm256_storeu_si256((__m256i_u *)p, v16_pack(lo, hi));
}
/* The same down to bytes. */
static inline __m128i v16_pack_bytes(__m256i lo, __m256i hi)
{
    __m256i words = v16_pack(lo, hi);
    return _mm_packus_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
}

/* See tck_e4m3_from_float. Magnitudes are positive as signed integers, so signed comparisons do. */
static inline __m256i v8_e4m3_codes(__m256 a)
{
    __m256i bits = _mm256_castps_si256(a);
    __m256i sign = _mm256_and_si256(_mm256_srli_epi32(bits, 24), _mm256_set1_epi32(0x80));
    __m256i magnitude = _mm256_min_epi32(_mm256_castps_si256(v8_magnitude(a)), _mm256_set1_epi32(0x43e00000));
    __m256i small = _mm256_cmpgt_epi32(_mm256_set1_epi32(0x3c800000), magnitude);
    __m256i odd = _mm256_and_si256(_mm256_srli_epi32(magnitude, 20), _mm256_set1_epi32(1));
    __m256i codes = _mm256_srli_epi32(_mm256_add_epi32(_mm256_add_epi32(magnitude, _mm256_set1_epi32(0x7ffff)), odd), 20);
    codes = _mm256_sub_epi32(codes, _mm256_set1_epi32(120 << 3));
    __m256 shifted = _mm256_add_ps(_mm256_castsi256_ps(magnitude), _mm256_set1_ps(16384.0f));
    codes = _mm256_blendv_epi8(codes, _mm256_sub_epi32(_mm256_castps_si256(shifted), _mm256_set1_epi32(0x46800000)), small);
    __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(a, a, _CMP_UNORD_Q));
    return _mm256_blendv_epi8(_mm256_or_si256(codes, sign), _mm256_set1_epi32(0x7f), nan);
}
static inline void v16_store_e4m3(void *p, struct v16 a)
{
    _mm_storeu_si128((__m128i_u *)p, v16_pack_bytes(v8_e4m3_codes(a.lo), v8_e4m3_codes(a.hi)));
}

/* See tck_e2m1_from_float: the code is the number of thresholds passed; the negated comparisons let NaN pass them all. */
static inline __m256i v8_e2m1_codes(__m256 a)
{
    __m256 x = v8_magnitude(a);
    __m256i number = _mm256_castps_si256(_mm256_cmp_ps(a, a, _CMP_ORD_Q));
    __m256i sign = _mm256_and_si256(_mm256_srli_epi32(_mm256_castps_si256(a), 28), _mm256_set1_epi32(8));
    __m256i codes = _mm256_and_si256(sign, number);
#define V8_PASSED(threshold, how) _mm256_castps_si256(_mm256_cmp_ps(x, _mm256_set1_ps(threshold), how))
    codes = _mm256_sub_epi32(codes, V8_PASSED(0.25f, _CMP_NLE_UQ));
    codes = _mm256_sub_epi32(codes, V8_PASSED(0.75f, _CMP_NLT_UQ));
    codes = _mm256_sub_epi32(codes, V8_PASSED(1.25f, _CMP_NLE_UQ));
    codes = _mm256_sub_epi32(codes, V8_PASSED(1.75f, _CMP_NLT_UQ));
    codes = _mm256_sub_epi32(codes, V8_PASSED(2.5f, _CMP_NLE_UQ));
    codes = _mm256_sub_epi32(codes, V8_PASSED(3.5f, _CMP_NLT_UQ));
    codes = _mm256_sub_epi32(codes, V8_PASSED(5.0f, _CMP_NLE_UQ));
#undef V8_PASSED
    return codes;
}
static inline void v16_store_e2m1(void *p, struct v16 a)
{
    __m128i bytes = v16_pack_bytes(v8_e2m1_codes(a.lo), v8_e2m1_codes(a.hi));
    __m128i pairs = _mm_maddubs_epi16(bytes, _mm_set1_epi16(0x1001)); /* even + 16 * odd */
    _mm_storel_epi64((__m128i_u *)p, _mm_packus_epi16(pairs, pairs));
}

#include "host/lanes_staged_tail.h"

#endif
