#include "reference.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char report[512];

__attribute__((format(printf, 1, 2))) static const char *wrong(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(report, sizeof(report), format, arguments);
    va_end(arguments);
    return report;
}

/* ---- sums ---- */

static double combine(unsigned redop, double a, double b)
{
    switch (redop) {
    case TRTCOLL_MIN:
        return b < a ? b : a;
    case TRTCOLL_MAX:
        return b > a ? b : a;
    case TRTCOLL_PROD:
        return a * b;
    default:
        return a + b;
    }
}

/* How the strategies add (seed-spec 7.4, 8.4, 15.5): at every addition rounded to the type, or in fp32 and rounded once. */
static bool rounds_every_addition(const struct ref_all_reduce *job)
{
    return (job->strategy == TRTCOLL_STRATEGY_ONESHOT || job->strategy == TRTCOLL_STRATEGY_TWOSHOT ||
            job->strategy == TRTCOLL_STRATEGY_MIN_LATENCY) &&
           !(job->flags & TRTCOLL_ACC_FP32);
}

static double reduce_float(const struct ref_all_reduce *job, size_t i)
{
    double sum = ref_get(job->dtype, job->in[0], i);
    bool every = rounds_every_addition(job);
    for (unsigned rank = 1; rank < job->nranks; rank++) {
        sum = combine(job->redop, sum, ref_get(job->dtype, job->in[rank], i));
        sum = every ? ref_round(job->dtype, sum) : job->dtype == TRTCOLL_FP64 ? sum : (double)(float)sum;
    }
    if (job->redop == TRTCOLL_AVG)
        sum /= job->nranks;
    return ref_round(job->dtype, sum);
}

/* Integers wrap; 64 bits do not fit a double, so they are added as integers. */
static void reduce_integer(unsigned dtype, unsigned redop, unsigned nranks, const void *const *in, size_t i, void *out)
{
    size_t bytes = ref_bytes(dtype);
    bool is_signed = dtype == TRTCOLL_INT8 || dtype == TRTCOLL_INT32 || dtype == TRTCOLL_INT64;
    uint64_t result = 0;
    for (unsigned rank = 0; rank < nranks; rank++) {
        uint64_t value = 0, sign = 1ull << (bytes * 8 - 1);
        memcpy(&value, (const unsigned char *)in[rank] + i * bytes, bytes);
        if (is_signed && bytes < 8 && value & sign)
            value |= ~((sign << 1) - 1);
        bool less = is_signed ? (int64_t)value < (int64_t)result : value < result;
        if (!rank)
            result = value;
        else if (redop == TRTCOLL_MIN)
            result = less ? value : result;
        else if (redop == TRTCOLL_MAX)
            result = less ? result : value;
        else
            result = redop == TRTCOLL_PROD ? result * value : result + value;
    }
    if (redop == TRTCOLL_AVG)
        result = is_signed ? (uint64_t)((int64_t)result / (int64_t)nranks) : result / nranks;
    memcpy(out, &result, bytes);
}

/*
 * Units in the last place that a sum may differ: none where the order is promised. The library form and averages may round in another
 * order: half a unit per addition, at the magnitude of the largest partial sum.
 */
static double float_tolerance(const struct ref_all_reduce *job, size_t i)
{
    double largest = 0, sum = 0;
    bool library = job->strategy == TRTCOLL_STRATEGY_NCCL || job->strategy == TRTCOLL_STRATEGY_NCCL_SYMMETRIC;
    bool exact = !library && job->redop != TRTCOLL_AVG && job->redop != TRTCOLL_PROD;
    if (exact || job->redop == TRTCOLL_MIN || job->redop == TRTCOLL_MAX)
        return 0;
    if (job->redop == TRTCOLL_PROD)
        return INFINITY; /* checked with data that multiplies exactly, see the callers */
    for (unsigned rank = 0; rank < job->nranks; rank++) {
        sum += fabs(ref_get(job->dtype, job->in[rank], i));
        largest = sum > largest ? sum : largest;
    }
    int exponent;
    if (largest == 0 || isinf(largest) || isnan(largest))
        return 0;
    frexp(largest, &exponent);
    int mantissa = job->dtype == TRTCOLL_FP32 ? 23 : job->dtype == TRTCOLL_FP16 ? 10 : job->dtype == TRTCOLL_BF16 ? 7 : 52;
    return (job->nranks + 1) * 0.5 * ldexp(1.0, exponent - 1 - mantissa);
}

static const char *check_sum(const struct ref_all_reduce *job, const void *got, const char *name, size_t i, double expected,
                             double tolerance)
{
    double value = ref_get(job->dtype, got, i);
    if (isnan(expected) ? isnan(value) : value == expected)
        return NULL;
    if (tolerance > 0 && fabs(value - expected) <= tolerance)
        return NULL;
    return wrong("%s[%zu][%zu] is %a, expected %a (dtype %u, redop %u, strategy %u, fusion %u, flags %u, ranks %u, in[0] %a)", name,
                 i / job->hidden, i % job->hidden, value, expected, job->dtype, job->redop, job->strategy, job->fusion, job->flags,
                 job->nranks, ref_get(job->dtype, job->in[0], i));
}

const char *ref_check_reduction(unsigned dtype, unsigned redop, unsigned nranks, const void *const *in, size_t at, const void *got,
                                size_t got_at, size_t count)
{
    struct ref_all_reduce job = {.dtype = dtype, .redop = redop, .nranks = nranks, .in = in, .hidden = SIZE_MAX};
    job.strategy = TRTCOLL_STRATEGY_NCCL; /* fp32, any order */
    for (size_t i = 0; i < count; i++) {
        unsigned char expected[8];
        const unsigned char *value = (const unsigned char *)got + (got_at + i) * ref_bytes(dtype);
        const char *fault = NULL;
        if (ref_is_float(dtype)) {
            double sum = reduce_float(&job, at + i), is = ref_get(dtype, got, got_at + i);
            if (!(isnan(sum) ? isnan(is) : sum == is || fabs(sum - is) <= float_tolerance(&job, at + i)))
                fault = wrong("element %zu is %a, expected %a (dtype %u, redop %u)", i, is, sum, dtype, redop);
        } else {
            reduce_integer(dtype, redop, nranks, in, at + i, expected);
            if (memcmp(expected, value, ref_bytes(dtype)) != 0)
                fault = wrong("element %zu is %g, expected %g (dtype %u, redop %u)", i, ref_get(dtype, value, 0),
                              ref_get(dtype, expected, 0), dtype, redop);
        }
        if (fault)
            return fault;
    }
    return NULL;
}

/* ---- epilogues ---- */

static bool is_fp8(unsigned fusion)
{
    return fusion == TRTCOLL_FUSION_RESIDUAL_RMS_NORM_QUANT_FP8 || fusion == TRTCOLL_FUSION_RESIDUAL_RMS_NORM_OUT_QUANT_FP8;
}

static bool is_nvfp4(unsigned fusion)
{
    return fusion == TRTCOLL_FUSION_RESIDUAL_RMS_NORM_QUANT_NVFP4 || fusion == TRTCOLL_FUSION_RESIDUAL_RMS_NORM_OUT_QUANT_NVFP4;
}

static double unit_in_last_place(unsigned dtype, double value)
{
    int exponent, mantissa = dtype == TRTCOLL_FP16 ? 10 : 7, least = dtype == TRTCOLL_FP16 ? -14 : -126;
    if (value == 0)
        return ldexp(1.0, least - mantissa);
    frexp(value, &exponent);
    return ldexp(1.0, (exponent - 1 < least ? least : exponent - 1) - mantissa);
}

/* The exact norm of one row of u (already rounded to the type). MNNVL rounds the squares to the type (seed-spec 15.7). */
static void exact_norm(const struct ref_all_reduce *job, const double *u, double *norm)
{
    double sum = 0;
    for (size_t j = 0; j < job->hidden; j++)
        sum += job->strategy == TRTCOLL_STRATEGY_MNNVL ? ref_round(job->dtype, u[j] * u[j]) : u[j] * u[j];
    double k = 1 / sqrt(sum / (double)job->hidden + job->eps);
    for (size_t j = 0; j < job->hidden; j++)
        norm[j] = u[j] * k * ref_get(job->dtype, job->norm_weight, j);
}

static const char *check_norm_row(const struct ref_all_reduce *job, const struct ref_outputs *got, size_t row, const double *norm)
{
    for (size_t j = 0; j < job->hidden; j++) {
        double value = ref_get(job->dtype, got->out, row * job->hidden + j);
        if (isnan(norm[j]) && isnan(value))
            continue;
        /* 16 bits: one unit around the rounded value. MNNVL may scale in either order (15.7): one more. */
        double tolerance = job->dtype == TRTCOLL_FP32
                               ? 1e-5 * fabs(norm[j]) + 1e-37
                               : (job->strategy == TRTCOLL_STRATEGY_MNNVL ? 2.0 : 1.0) * unit_in_last_place(job->dtype, norm[j]);
        double expected = ref_round(job->dtype, norm[j]);
        if (!(fabs(value - expected) <= tolerance))
            return wrong("out[%zu][%zu] is %a, expected %a (dtype %u, strategy %u, fusion %u, ranks %u)", row, j, value, expected,
                         job->dtype, job->strategy, job->fusion, job->nranks);
    }
    return NULL;
}

/* The values that were quantised: bit for bit from the norm output where there is one, else the exact norm with a unit of doubt. */
static bool fp8_fits(const struct ref_all_reduce *job, const struct ref_outputs *got, size_t i, double norm, unsigned code)
{
    double inverse = (double)(1.0f / job->scale);
    if (got->out && job->strategy != TRTCOLL_STRATEGY_UB) /* UB quantises the norm before it is rounded (13.3) */
        return ref_is_e4m3(code, (double)((float)ref_get(job->dtype, got->out, i) * (float)inverse), true);
    double doubt = job->dtype == TRTCOLL_FP32 ? 2e-5 * fabs(norm) : 2 * unit_in_last_place(job->dtype, norm);
    double middle = ref_round(job->dtype, norm);
    for (int k = -4; k <= 4; k++)
        if (ref_is_e4m3(code, (middle + k * doubt / 4) * inverse, false))
            return true;
    return false;
}

static const char *check_fp8_row(const struct ref_all_reduce *job, const struct ref_outputs *got, size_t row, const double *norm)
{
    for (size_t j = 0; j < job->hidden; j++) {
        size_t i = row * job->hidden + j;
        if (!fp8_fits(job, got, i, norm[j], got->quant_out[i]))
            return wrong("quant_out[%zu][%zu] is %#x (%g), expected the code of %g / %g (dtype %u, fusion %u)", row, j, got->quant_out[i],
                         ref_e4m3_value(got->quant_out[i]), norm[j], (double)job->scale, job->dtype, job->fusion);
    }
    return NULL;
}

/* seed-spec 4.3: the place of block kb of row m in the 128x4 swizzle. */
static size_t swizzle(size_t m, size_t kb, size_t hidden)
{
    size_t k4 = (hidden / 16 + 3) / 4;
    return m / 128 * k4 * 512 + kb / 4 * 512 + m % 32 * 16 + m % 128 / 32 * 4 + kb % 4;
}

static const char *check_nvfp4_row(const struct ref_all_reduce *job, const struct ref_outputs *got, size_t row, const double *norm)
{
    double g = (double)job->scale;
    for (size_t kb = 0; kb < job->hidden / 16; kb++) {
        double most = 0;
        bool strange = false;
        for (size_t j = kb * 16; j < kb * 16 + 16; j++) {
            double value = got->out ? ref_get(job->dtype, got->out, row * job->hidden + j) : ref_round(job->dtype, norm[j]);
            strange |= isnan(value) || isinf(value);
            most = fabs(value) > most ? fabs(value) : most;
        }
        if (strange)
            continue; /* nothing is promised for blocks with NaN or infinity */
        unsigned code = got->scale_out[swizzle(row, kb, job->hidden)];
        double sf = ref_e4m3_value(code), exact = g * most / 6;
        bool fits = ref_is_e4m3(code, exact, false);
        if (!fits && !got->out) /* one unit of doubt in the norm */
            fits = ref_is_e4m3(code, exact * (1 + 0x1p-7), false) || ref_is_e4m3(code, exact * (1 - 0x1p-7), false);
        if (!fits)
            return wrong("scale_out of row %zu, block %zu is %#x (%g), expected the code of %g (dtype %u)", row, kb, code, sf, exact,
                         job->dtype);
        for (size_t j = kb * 16; j < kb * 16 + 16; j++) {
            size_t i = row * job->hidden + j;
            unsigned nibble = got->quant_out[i / 2] >> (i % 2 * 4) & 15u;
            double value = got->out ? ref_get(job->dtype, got->out, i) : ref_round(job->dtype, norm[j]);
            double scaled = sf == 0 ? 0 : value * g / sf;
            fits = ref_is_e2m1(nibble, scaled);
            if (!fits && !got->out)
                fits = ref_is_e2m1(nibble, scaled * (1 + 0x1p-6)) || ref_is_e2m1(nibble, scaled * (1 - 0x1p-6));
            if (!fits)
                return wrong("quant_out[%zu][%zu] is code %u (%g), expected the code of %g (norm %g, scale %g, block scale %g)", row, j,
                             nibble, ref_e2m1_value(nibble), scaled, value, g, sf);
        }
    }
    return NULL;
}

static const char *check_padding(const struct ref_all_reduce *job, const struct ref_outputs *got)
{
    size_t rows = (job->tokens + 127) / 128 * 128, columns = (job->hidden / 16 + 3) / 4 * 4;
    unsigned char *written = calloc(rows * columns, 1);
    const char *fault = NULL;
    if (!written)
        return wrong("out of memory");
    for (size_t m = 0; m < job->tokens; m++)
        for (size_t kb = 0; kb < job->hidden / 16; kb++)
            written[swizzle(m, kb, job->hidden)] = 1;
    for (size_t i = 0; i < rows * columns && !fault; i++)
        if (!written[i] && got->scale_out[i] != got->padding)
            fault = wrong("padding byte %zu of scale_out was written: %#x", i, got->scale_out[i]);
    free(written);
    return fault;
}

static const char *check_row(const struct ref_all_reduce *job, const struct ref_outputs *got, size_t row, double *u, double *norm)
{
    const char *fault = NULL;
    for (size_t j = 0; j < job->hidden && !fault; j++) {
        size_t i = row * job->hidden + j;
        double tolerance = float_tolerance(job, i), sum = reduce_float(job, i);
        if (job->bias) {
            sum = ref_round(job->dtype, sum + ref_get(job->dtype, job->bias, j));
            tolerance *= 2;
        }
        if (job->fusion == TRTCOLL_FUSION_NONE) {
            fault = check_sum(job, got->out, "out", i, sum, tolerance);
            continue;
        }
        sum = ref_round(job->dtype, sum + ref_get(job->dtype, job->residual_in, i));
        fault = check_sum(job, got->residual_out, "residual_out", i, sum, tolerance * 2);
        u[j] = ref_get(job->dtype, got->residual_out, i); /* what was stored is what was normalised */
    }
    if (fault || job->fusion == TRTCOLL_FUSION_NONE)
        return fault;
    exact_norm(job, u, norm);
    if (got->out)
        fault = check_norm_row(job, got, row, norm);
    if (!fault && is_fp8(job->fusion))
        fault = check_fp8_row(job, got, row, norm);
    if (!fault && is_nvfp4(job->fusion))
        fault = check_nvfp4_row(job, got, row, norm);
    return fault;
}

static const char *check_integers(const struct ref_all_reduce *job, const struct ref_outputs *got)
{
    for (size_t i = 0; i < job->tokens * job->hidden; i++) {
        unsigned char expected[8];
        reduce_integer(job->dtype, job->redop, job->nranks, job->in, i, expected);
        if (memcmp(expected, (const unsigned char *)got->out + i * ref_bytes(job->dtype), ref_bytes(job->dtype)) != 0)
            return wrong("out[%zu] is %g, expected %g (dtype %u, redop %u, ranks %u)", i, ref_get(job->dtype, got->out, i),
                         ref_get(job->dtype, expected, 0), job->dtype, job->redop, job->nranks);
    }
    return NULL;
}

const char *ref_check_all_reduce(const struct ref_all_reduce *job, const struct ref_outputs *got)
{
    if (!ref_is_float(job->dtype))
        return check_integers(job, got);
    double *scratch = malloc(2 * job->hidden * sizeof(double));
    const char *fault = NULL;
    if (!scratch)
        return wrong("out of memory");
    for (size_t row = 0; row < job->tokens && !fault; row++)
        fault = check_row(job, got, row, scratch, scratch + job->hidden);
    free(scratch);
    if (!fault && got->scale_out)
        fault = check_padding(job, got);
    return fault;
}
