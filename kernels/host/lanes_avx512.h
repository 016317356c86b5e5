/* 16 fp32 lanes with AVX-512 F, BW, DQ and VL. Meaning and bits: lanes_portable.h. */
#ifndef TCK_HOST_LANES_AVX512_H
#define TCK_HOST_LANES_AVX512_H

#include "arith/fp4.h"

#include <immintrin.h>
#include <stddef.h>

#define V16_SPECIALIZE 1

struct v16 {
    __m512 r;
};

static inline struct v16 v16_of(__m512 r)
{
    return (struct v16){r};
}
static inline struct v16 v16_set(float x)
{
    return v16_of(_mm512_set1_ps(x));
}
static inline struct v16 v16_add(struct v16 a, struct v16 b)
{
    return v16_of(_mm512_add_ps(a.r, b.r));
}
static inline struct v16 v16_mul(struct v16 a, struct v16 b)
{
    return v16_of(_mm512_mul_ps(a.r, b.r));
}
static inline struct v16 v16_div(struct v16 a, struct v16 b)
{
    return v16_of(_mm512_div_ps(a.r, b.r));
}

static inline struct v16 v16_min(struct v16 a, struct v16 b)
{
    __mmask16 take = _mm512_cmp_ps_mask(b.r, a.r, _CMP_LT_OQ) | _mm512_cmp_ps_mask(b.r, b.r, _CMP_UNORD_Q);
    return v16_of(_mm512_mask_blend_ps(take, a.r, b.r));
}

static inline struct v16 v16_max(struct v16 a, struct v16 b)
{
    __mmask16 take = _mm512_cmp_ps_mask(b.r, a.r, _CMP_GT_OQ) | _mm512_cmp_ps_mask(b.r, b.r, _CMP_UNORD_Q);
    return v16_of(_mm512_mask_blend_ps(take, a.r, b.r));
}

/* bf16 codes in the low halves of 32-bit lanes. */
static inline __m512i v16_bf16_codes(struct v16 a)
{
    __m512i bits = _mm512_castps_si512(a.r);
    __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    __m512i codes = _mm512_srli_epi32(_mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), odd), 16);
    __mmask16 nan = _mm512_cmp_ps_mask(a.r, a.r, _CMP_UNORD_Q);
    return _mm512_mask_or_epi32(codes, nan, _mm512_srli_epi32(bits, 16), _mm512_set1_epi32(0x40));
}

static inline struct v16 v16_round_bf16(struct v16 a)
{
    return v16_of(_mm512_castsi512_ps(_mm512_slli_epi32(v16_bf16_codes(a), 16)));
}
static inline __m256i v16_fp16_codes(struct v16 a)
{
    return _mm512_cvtps_ph(a.r, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
static inline struct v16 v16_round_fp16(struct v16 a)
{
    return v16_of(_mm512_cvtph_ps(v16_fp16_codes(a)));
}

static inline float v16_largest(struct v16 a)
{
    __mmask16 number = _mm512_cmp_ps_mask(a.r, a.r, _CMP_ORD_Q);
    return _mm512_reduce_max_ps(_mm512_maskz_mov_ps(number, _mm512_abs_ps(a.r)));
}

static inline __mmask16 v16_first(size_t n)
{
    return (__mmask16)((1u << n) - 1u);
}
static inline struct v16 v16_from_bf16(__m256i h)
{
    return v16_of(_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16)));
}

static inline struct v16 v16_load_fp32(const void *p)
{
    return v16_of(_mm512_loadu_ps(p));
}
static inline struct v16 v16_load_fp16(const void *p)
{
    return v16_of(_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i_u *)p)));
}
static inline struct v16 v16_load_bf16(const void *p)
{
    return v16_from_bf16(_mm256_loadu_si256((const __m256i_u *)p));
}
static inline void v16_store_fp32(void *p, struct v16 a)
{
    _mm512_storeu_ps(p, a.r);
}
static inline void v16_store_fp16(void *p, struct v16 a)
{
    _mm256_storeu_si256((__m256i_u *)p, v16_fp16_codes(a));
}
static inline void v16_store_bf16(void *p, struct v16 a)
{
    _mm256_storeu_si256((__m256i_u *)p, _mm512_cvtepi32_epi16(v16_bf16_codes(a)));
}
static inline void v16_store_exact_bf16(void *p, struct v16 a)
{
    _mm256_storeu_si256((__m256i_u *)p, _mm512_cvtepi32_epi16(_mm512_srli_epi32(_mm512_castps_si512(a.r), 16)));
}

static inline struct v16 v16_load_tail_fp32(const void *p, size_t n)
{
    return v16_of(_mm512_maskz_loadu_ps(v16_first(n), p));
}
static inline struct v16 v16_load_tail_fp16(const void *p, size_t n)
{
    return v16_of(_mm512_cvtph_ps(_mm256_maskz_loadu_epi16(v16_first(n), p)));
}
static inline struct v16 v16_load_tail_bf16(const void *p, size_t n)
{
    return v16_from_bf16(_mm256_maskz_loadu_epi16(v16_first(n), p));
}
static inline void v16_store_tail_fp32(void *p, struct v16 a, size_t n)
{
    _mm512_mask_storeu_ps(p, v16_first(n), a.r);
}
static inline void v16_store_tail_fp16(void *p, struct v16 a, size_t n)
{
    _mm256_mask_storeu_epi16(p, v16_first(n), v16_fp16_codes(a));
}
static inline void v16_store_tail_bf16(void *p, struct v16 a, size_t n)
{
    _mm256_mask_storeu_epi16(p, v16_first(n), _mm512_cvtepi32_epi16(v16_bf16_codes(a)));
}

/* See tck_e4m3_from_float. */
static inline void v16_store_e4m3(void *p, struct v16 a)
{
    __m512i bits = _mm512_castps_si512(a.r);
    __m512i sign = _mm512_and_si512(_mm512_srli_epi32(bits, 24), _mm512_set1_epi32(0x80));
    __mmask16 nan = _mm512_cmp_ps_mask(a.r, a.r, _CMP_UNORD_Q);
    __m512i magnitude = _mm512_min_epu32(_mm512_and_si512(bits, _mm512_set1_epi32(0x7fffffff)), _mm512_set1_epi32(0x43e00000));
    __mmask16 small = _mm512_cmplt_epu32_mask(magnitude, _mm512_set1_epi32(0x3c800000));
    __m512i odd = _mm512_and_si512(_mm512_srli_epi32(magnitude, 20), _mm512_set1_epi32(1));
    __m512i codes = _mm512_srli_epi32(_mm512_add_epi32(_mm512_add_epi32(magnitude, _mm512_set1_epi32(0x7ffff)), odd), 20);
    codes = _mm512_sub_epi32(codes, _mm512_set1_epi32(120 << 3));
    __m512 shifted = _mm512_add_ps(_mm512_castsi512_ps(magnitude), _mm512_set1_ps(16384.0f));
    codes = _mm512_mask_sub_epi32(codes, small, _mm512_castps_si512(shifted), _mm512_set1_epi32(0x46800000));
    codes = _mm512_mask_mov_epi32(_mm512_or_si512(codes, sign), nan, _mm512_set1_epi32(0x7f));
    _mm_storeu_si128((__m128i_u *)p, _mm512_cvtepi32_epi8(codes));
}

/* See tck_e2m1_from_float: the code is the number of thresholds passed; the negated comparisons let NaN pass them all. */
static inline void v16_store_e2m1(void *p, struct v16 a)
{
    const __m512i one = _mm512_set1_epi32(1);
    __m512 x = _mm512_abs_ps(a.r);
    __mmask16 number = _mm512_cmp_ps_mask(a.r, a.r, _CMP_ORD_Q);
    __m512i codes = _mm512_maskz_and_epi32(number, _mm512_srli_epi32(_mm512_castps_si512(a.r), 28), _mm512_set1_epi32(8));
    codes = _mm512_mask_add_epi32(codes, _mm512_cmp_ps_mask(x, _mm512_set1_ps(0.25f), _CMP_NLE_UQ), codes, one);
    codes = _mm512_mask_add_epi32(codes, _mm512_cmp_ps_mask(x, _mm512_set1_ps(0.75f), _CMP_NLT_UQ), codes, one);
    codes = _mm512_mask_add_epi32(codes, _mm512_cmp_ps_mask(x, _mm512_set1_ps(1.25f), _CMP_NLE_UQ), codes, one);
    codes = _mm512_mask_add_epi32(codes, _mm512_cmp_ps_mask(x, _mm512_set1_ps(1.75f), _CMP_NLT_UQ), codes, one);
    codes = _mm512_mask_add_epi32(codes, _mm512_cmp_ps_mask(x, _mm512_set1_ps(2.5f), _CMP_NLE_UQ), codes, one);
    codes = _mm512_mask_add_epi32(codes, _mm512_cmp_ps_mask(x, _mm512_set1_ps(3.5f), _CMP_NLT_UQ), codes, one);
    codes = _mm512_mask_add_epi32(codes, _mm512_cmp_ps_mask(x, _mm512_set1_ps(5.0f), _CMP_NLE_UQ), codes, one);
    /* 16 bytes; even + 16 * odd per pair; 8 bytes */
    __m128i pairs = _mm_maddubs_epi16(_mm512_cvtepi32_epi8(codes), _mm_set1_epi16(0x1001));
    _mm_storel_epi64((__m128i_u *)p, _mm_packus_epi16(pairs, pairs));
}

#endif
