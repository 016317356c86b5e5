#include "comm_reference.h"

#include <arith/fp4.h>
#include <arith/half.h>

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool comm_fusion_keeps_norm(unsigned fusion)
{
    return fusion == TCW_FUSION_RESIDUAL_RMS_NORM || fusion == TCW_FUSION_RESIDUAL_RMS_NORM_OUT_QUANT_FP8 ||
           fusion == TCW_FUSION_RESIDUAL_RMS_NORM_OUT_QUANT_NVFP4;
}
bool comm_fusion_is_fp8(unsigned fusion)
{
    return fusion == TCW_FUSION_RESIDUAL_RMS_NORM_QUANT_FP8 || fusion == TCW_FUSION_RESIDUAL_RMS_NORM_OUT_QUANT_FP8;
}
bool comm_fusion_is_fp4(unsigned fusion)
{
    return fusion == TCW_FUSION_RESIDUAL_RMS_NORM_QUANT_NVFP4 || fusion == TCW_FUSION_RESIDUAL_RMS_NORM_OUT_QUANT_NVFP4;
}

static uint64_t mix(uint64_t x)
{
    x ^= x >> 30;
    x *= UINT64_C(0xbf58476d1ce4e5b9);
    x ^= x >> 27;
    x *= UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

static float load(unsigned dtype, const void *base, uint64_t i)
{
    if (dtype == TCW_FP32)
        return ((const float *)base)[i];
    uint16_t bits = ((const uint16_t *)base)[i];
    return dtype == TCW_FP16 ? tck_float_from_fp16(bits) : tck_float_from_bf16(bits);
}

static void store(unsigned dtype, void *base, uint64_t i, float x)
{
    if (dtype == TCW_FP32)
        ((float *)base)[i] = x;
    else
        ((uint16_t *)base)[i] = dtype == TCW_FP16 ? tck_fp16_from_float(x) : tck_bf16_from_float(x);
}

static float rounded(unsigned dtype, float x)
{
    return dtype == TCW_FP32 ? x : dtype == TCW_FP16 ? tck_round_fp16(x) : tck_round_bf16(x);
}

static float largest(unsigned dtype)
{
    return dtype == TCW_FP16 ? 65504.0f : dtype == TCW_BF16 ? tck_float_of(0x7f7f0000u) : FLT_MAX;
}

/* About normal, a few binary orders wide. */
static float random_value(uint64_t h)
{
    float x = (float)(int32_t)(h >> 32) * (1.0f / 2147483648.0f);
    return x * (float)(1u << (h & 3)) * 0.5f;
}

static float value(comm_data data, unsigned dtype, uint64_t h, uint64_t i)
{
    float x = random_value(h);
    switch (data) {
    case COMM_DATA_ZEROS:
        return h & 1 ? -0.0f : h & 6 ? 0.0f : x;
    case COMM_DATA_SUBNORMALS:
        if (i % 16 == (h >> 8) % 16 && h & 64)
            return dtype == TCW_FP16 ? 30000.0f : 1e30f;
        return h & 1 ? x : rounded(dtype, dtype == TCW_FP16 ? -6e-8f : -tck_float_of(0x00010000u));
    case COMM_DATA_SPECIAL:
        switch (h % 61) {
        case 0:
            return INFINITY;
        case 1:
            return -INFINITY;
        case 2:
            return NAN;
        case 3:
            return largest(dtype);
        case 4:
            return -largest(dtype);
        default:
            return x;
        }
    default:
        return x;
    }
}

void comm_reference_fill(struct comm_board *board, uint32_t rank, const struct comm_case *test)
{
    unsigned dtype = test->desc.dtype;
    uint64_t hidden = test->desc.hidden, count = test->tokens * hidden;
    for (uint64_t i = 0; i < count; i++) {
        uint64_t h = mix(test->seed * 0x9e3779b97f4a7c15u + ((uint64_t)rank << 40) + i);
        /* Special values in a few rows only, so that norms of others say something. */
        comm_data data = test->data == COMM_DATA_SPECIAL && i / hidden % 3 ? COMM_DATA_RANDOM : test->data;
        store(dtype, board->in[rank], i, value(data, dtype, h, i));
    }
    if (rank)
        return;
    for (uint64_t i = 0; i < count; i++)
        store(dtype, board->residual, i, random_value(mix(test->seed + 77 + i)));
    for (uint64_t i = 0; i < hidden; i++) {
        store(dtype, board->gamma, i, 1.0f + 0.25f * random_value(mix(test->seed + 99 + i)));
        store(dtype, board->bias, i, random_value(mix(test->seed + 55 + i)));
    }
}

static float sum_of(const struct comm_board *board, const struct comm_case *test, uint64_t i)
{
    unsigned dtype = test->desc.dtype;
    bool wide = test->mnnvl || test->desc.flags & TCW_PLAN_ACC_FP32;
    float sum = load(dtype, board->in[0], i);
    for (uint32_t r = 1; r < board->nranks; r++) {
        sum += load(dtype, board->in[r], i);
        if (!wide)
            sum = rounded(dtype, sum);
    }
    return rounded(dtype, sum);
}

static void compute_row(struct comm_board *board, const struct comm_case *test, uint64_t row)
{
    unsigned dtype = test->desc.dtype;
    uint64_t hidden = test->desc.hidden, first = row * hidden;
    double squares = 0;
    float eps;
    memcpy(&eps, &test->desc.eps_bits, sizeof(eps));
    for (uint64_t j = 0; j < hidden; j++) {
        float sum = sum_of(board, test, first + j);
        if (test->desc.flags & TCW_PLAN_BIAS)
            sum = rounded(dtype, sum + load(dtype, board->bias, j));
        store(dtype, board->sum, first + j, sum);
        if (test->desc.fusion == TCW_FUSION_NONE)
            continue;
        float u = rounded(dtype, sum + load(dtype, board->residual, first + j));
        store(dtype, board->u, first + j, u);
        squares += test->mnnvl ? (double)rounded(dtype, u * u) : (double)u * u;
    }
    if (test->desc.fusion == TCW_FUSION_NONE)
        return;
    double inverse = squares > FLT_MAX ? 0 : 1 / sqrt(squares / (double)hidden + eps);
    if (isnan(squares))
        inverse = NAN;
    for (uint64_t j = 0; j < hidden; j++) {
        double n = load(dtype, board->u, first + j) * inverse * load(dtype, board->gamma, j);
        store(dtype, board->norm, first + j, (float)n);
    }
}

void comm_reference_compute(struct comm_board *board, uint32_t rank, const struct comm_case *test)
{
    for (uint64_t row = rank; row < test->tokens; row += board->nranks)
        compute_row(board, test, row);
}

/* Neighbouring numbers of T are neighbouring integers here. */
static int64_t ordinal(unsigned dtype, float x)
{
    int64_t bits = dtype == TCW_FP32 ? (int64_t)(tck_bits_of(x) & 0x7fffffffu)
                                     : (dtype == TCW_FP16 ? tck_fp16_from_float(x) : tck_bf16_from_float(x)) & 0x7fff;
    return tck_bits_of(x) >> 31 ? -bits : bits;
}

static float of_ordinal(unsigned dtype, int64_t ordinal_value)
{
    uint32_t sign = ordinal_value < 0, bits = (uint32_t)(ordinal_value < 0 ? -ordinal_value : ordinal_value);
    if (dtype == TCW_FP32)
        return tck_float_of(sign << 31 | bits);
    return dtype == TCW_FP16 ? tck_float_from_fp16((uint16_t)(sign << 15 | bits)) : tck_float_from_bf16((uint16_t)(sign << 15 | bits));
}

static bool same_bits(float a, float b)
{
    return a == b || (isnan(a) && isnan(b)); /* either sign of zero */
}

static bool near_norm(unsigned dtype, float got, float want)
{
    if (same_bits(got, want))
        return true;
    if (isnan(got) || isnan(want))
        return false;
    if (dtype == TCW_FP32)
        return fabsf(got - want) <= 1e-5f * fabsf(want) + 1e-37f;
    int64_t distance = ordinal(dtype, got) - ordinal(dtype, want);
    return distance >= -1 && distance <= 1;
}

struct difference {
    const char *field;
    uint64_t at;
    double got, want;
};

static bool compare_values(const struct comm_case *test, const char *field, const void *got, const void *want, bool norm,
                           struct difference *found)
{
    unsigned dtype = test->desc.dtype;
    uint64_t count = test->tokens * test->desc.hidden;
    if (!memcmp(got, want, count * tcw_dtype_bytes(dtype)))
        return true;
    for (uint64_t i = 0; i < count; i++) {
        float g = load(dtype, got, i), w = load(dtype, want, i);
        if (norm ? !near_norm(dtype, g, w) : !same_bits(g, w)) {
            *found = (struct difference){field, i, (double)g, (double)w};
            return false;
        }
    }
    return true;
}

/* Codes of E4M3 in the order of their values; NaN apart. */
static int fp8_ordinal(uint8_t code)
{
    return code & 0x80 ? -(code & 0x7f) : code;
}

static bool fp8_fits(const struct comm_case *test, uint8_t code, float norm, bool exact)
{
    float multiplier = tck_e4m3_multiplier(test->scale);
    uint8_t want = tck_e4m3_from_float(norm * multiplier);
    if (code == want || (isnan(norm) && (code & 0x7f) == 0x7f) || (norm == 0 && !(code & 0x7f)))
        return true;
    if (exact || isnan(norm))
        return false;
    if (test->desc.dtype == TCW_FP32)
        return abs(fp8_ordinal(code) - fp8_ordinal(want)) <= 1;
    int64_t at = ordinal(test->desc.dtype, norm);
    int low = fp8_ordinal(tck_e4m3_from_float(of_ordinal(test->desc.dtype, at - 1) * multiplier));
    int high = fp8_ordinal(tck_e4m3_from_float(of_ordinal(test->desc.dtype, at + 1) * multiplier));
    return fp8_ordinal(code) >= low && fp8_ordinal(code) <= high;
}

static bool compare_fp8(const struct comm_case *test, const uint8_t *codes, const void *norm, bool exact, struct difference *found)
{
    for (uint64_t i = 0; i < test->tokens * test->desc.hidden; i++) {
        float n = load(test->desc.dtype, norm, i);
        if (!fp8_fits(test, codes[i], n, exact)) {
            *found = (struct difference){"fp8", i, (double)tck_float_from_e4m3(codes[i]), (double)(n / test->scale)};
            return false;
        }
    }
    return true;
}

static int fp4_ordinal(uint8_t code)
{
    return code & 8 ? -(code & 7) : code & 7;
}

static bool compare_fp4_block(const struct comm_case *test, const uint8_t *codes, uint8_t scale, const void *norm, uint64_t first,
                              bool exact, struct difference *found)
{
    unsigned dtype = test->desc.dtype;
    float most = 0;
    for (int i = 0; i < 16; i++) {
        float n = load(dtype, norm, first + i);
        if (isnan(n))
            return true; /* what becomes of such a block is not laid down */
        most = fmaxf(most, fabsf(n));
    }
    if (isinf(most))
        return true;
    uint8_t want = tck_nvfp4_scale(most, test->scale);
    if (exact ? scale != want : abs(scale - want) > 1) {
        *found = (struct difference){"fp4 scale", first, (double)tck_float_from_e4m3(scale), (double)tck_float_from_e4m3(want)};
        return false;
    }
    float multiplier = tck_nvfp4_multiplier(want, test->scale);
    for (uint64_t i = first; i < first + 16; i++) {
        uint8_t code = i & 1 ? codes[i / 2] >> 4 : codes[i / 2] & 15, wanted = tck_e2m1_from_float(load(dtype, norm, i) * multiplier);
        int distance = abs(fp4_ordinal(code) - fp4_ordinal(wanted));
        if (distance > (exact ? 0 : 1)) {
            *found = (struct difference){"fp4", i, (double)tck_float_from_e2m1(code), (double)tck_float_from_e2m1(wanted)};
            return false;
        }
    }
    return true;
}

static bool compare_fp4(const struct comm_case *test, const struct comm_outputs *outputs, const void *norm, bool exact,
                        struct difference *found)
{
    uint64_t blocks = test->desc.hidden / 16;
    for (uint64_t row = 0; row < test->tokens; row++)
        for (uint64_t block = 0; block < blocks; block++) {
            uint8_t scale = outputs->scale_out[tck_nvfp4_scale_offset(row, block, blocks)];
            if (!compare_fp4_block(test, outputs->quant_out, scale, norm, row * test->desc.hidden + block * 16, exact, found))
                return false;
        }
    return true;
}

int comm_reference_compare(const struct comm_board *board, const struct comm_case *test, const struct comm_outputs *outputs, char *text,
                           size_t text_bytes)
{
    unsigned fusion = test->desc.fusion;
    struct difference found = {0};
    bool keeps = comm_fusion_keeps_norm(fusion), good;
    const void *norm = keeps ? outputs->out : board->norm; /* quantised outputs follow from the norm that the GPU returned */
    if (fusion == TCW_FUSION_NONE) {
        good = compare_values(test, "sum", outputs->out, board->sum, false, &found);
    } else {
        good = compare_values(test, "residual_out", outputs->residual_out, board->u, false, &found) &&
               (!keeps || compare_values(test, "norm", outputs->out, board->norm, true, &found)) &&
               (!comm_fusion_is_fp8(fusion) || compare_fp8(test, outputs->quant_out, norm, keeps, &found)) &&
               (!comm_fusion_is_fp4(fusion) || compare_fp4(test, outputs, norm, keeps, &found));
    }
    if (!good)
        snprintf(text, text_bytes, "%s of token %llu, element %llu: %.9g, not %.9g", found.field,
                 (unsigned long long)(found.at / test->desc.hidden), (unsigned long long)(found.at % test->desc.hidden), found.got,
                 found.want);
    return !good;
}
