#include "operands.h"

#include "../figures.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    PERIOD = 8, /* rows after which values repeat */
    BLOCK_ELEMENTS = PERIOD * FIGURES_HIDDEN,
    CHECKED_ROWS = 16,
};

static const float scale = 0.5f;

static uint16_t bf16_of(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof(bits));
    return (uint16_t)(bits >> 16); /* our values have few bits */
}

static float of_bf16(uint16_t half)
{
    uint32_t bits = (uint32_t)half << 16;
    float value;
    memcpy(&value, &bits, sizeof(value));
    return value;
}

/* E4M3: no infinities, 0x7f is no number. */
static float of_fp8(uint8_t code)
{
    int exponent = code >> 3 & 15, mantissa = code & 7;
    float value = exponent ? ldexpf((float)(8 + mantissa), exponent - 10) : ldexpf((float)mantissa, -9);
    return code & 0x80 ? -value : value;
}

/* Small integers: sums of 16 ranks and a residual are exact in bf16, in any order. They repeat after PERIOD rows. */
static float in_value(uint64_t row, uint64_t column, uint32_t rank)
{
    return (float)((row + column + 3u * rank) % 8);
}

static float residual_value(uint64_t row, uint64_t column)
{
    return (float)((row + 2 * column) % 4);
}

static float weight_value(uint64_t column)
{
    return 0.5f + 0.25f * (float)(column % 4);
}

/* Behind copies from ordinary memory, which may still be under way when the call returns. */
static int settle(struct gpu *gpu)
{
    return gpu_check(gpu, gpu->cuda->cuCtxSynchronize(), "upload");
}

/* A block is copied up, and then spread over the rest. */
static int spread(struct gpu *gpu, const uint16_t *block, CUdeviceptr base, uint64_t bytes)
{
    uint64_t period = BLOCK_ELEMENTS * sizeof(*block), done = bytes < period ? bytes : period;
    int code = gpu_check(gpu, gpu->cuda->cuMemcpyHtoD(base, block, done), "upload");
    if (code == 0)
        code = settle(gpu);
    while (code == 0 && done < bytes) {
        uint64_t more = bytes - done < done ? bytes - done : done;
        code = gpu_check(gpu, gpu->cuda->cuMemcpyAsync(base + done, base, more, gpu->stream), "copy");
        done += more;
    }
    return code == 0 ? gpu_synchronize(gpu) : code;
}

static int fill(struct operands *operands, uint64_t bytes)
{
    struct gpu *gpu = operands->gpu;
    uint16_t *block = malloc(BLOCK_ELEMENTS * sizeof(*block));
    if (!block)
        return gpu_fail(gpu, TRTCOLL_ENOMEM, "out of memory");
    for (uint32_t i = 0; i < BLOCK_ELEMENTS; i++)
        block[i] = bf16_of(in_value(i / FIGURES_HIDDEN, i % FIGURES_HIDDEN, gpu->rank->rank));
    int code = spread(gpu, block, operands->in, bytes);
    if (code == 0)
        code = spread(gpu, block, operands->own_in, bytes);
    for (uint32_t i = 0; i < BLOCK_ELEMENTS; i++)
        block[i] = bf16_of(residual_value(i / FIGURES_HIDDEN, i % FIGURES_HIDDEN));
    if (code == 0 && operands->residual_in)
        code = spread(gpu, block, operands->residual_in, bytes);
    for (uint32_t i = 0; i < FIGURES_HIDDEN; i++)
        block[i] = bf16_of(weight_value(i));
    if (code == 0 && operands->weight)
        code = gpu_check(gpu, gpu->cuda->cuMemcpyHtoD(operands->weight, block, FIGURES_ROW_BYTES), "upload");
    if (code == 0 && operands->scale)
        code = gpu_check(gpu, gpu->cuda->cuMemcpyHtoD(operands->scale, &scale, sizeof(scale)), "upload");
    free(block);
    return code == 0 ? settle(gpu) : code;
}

static int allocate(struct operands *operands, uint64_t bytes, CUdeviceptr *address)
{
    void *memory;
    int code = trtcoll_alloc(operands->gpu->rank->ctx, bytes, &memory);
    if (code != 0)
        return gpu_complain(operands->gpu, code, "memory");
    *address = (CUdeviceptr)(uintptr_t)memory;
    return 0;
}

static bool is_fused(uint32_t part)
{
    return part == PART_NORM || part == PART_FP8;
}

int operands_create(struct operands *operands, struct gpu *gpu, uint32_t part, uint64_t bytes)
{
    const struct {
        CUdeviceptr *address;
        bool wanted;
        uint64_t bytes;
    } wishes[] = {
        {&operands->in, true, bytes},
        {&operands->out, true, bytes},
        {&operands->residual_in, is_fused(part), bytes},
        {&operands->residual_out, is_fused(part), bytes},
        {&operands->weight, is_fused(part), FIGURES_ROW_BYTES},
        {&operands->scale, part == PART_FP8, sizeof(scale)},
        {&operands->quant, part == PART_FP8, bytes / 2},
    };
    *operands = (struct operands){.gpu = gpu, .part = part};
    int code = gpu_allocate(gpu, bytes, &operands->own_in);
    if (code == 0)
        code = gpu_allocate(gpu, bytes, &operands->own_out);
    for (size_t i = 0; i < sizeof(wishes) / sizeof(wishes[0]) && code == 0; i++)
        if (wishes[i].wanted)
            code = allocate(operands, wishes[i].bytes, wishes[i].address);
    return code == 0 ? fill(operands, bytes) : code;
}

static void *pointer(CUdeviceptr address)
{
    return (void *)(uintptr_t)address;
}

void operands_describe(const struct operands *operands, uint64_t bytes, struct trtcoll_all_reduce_desc *desc, struct trtcoll_run_args *args)
{
    *desc = (struct trtcoll_all_reduce_desc)TRTCOLL_ALL_REDUCE_DESC_INIT;
    *args = (struct trtcoll_run_args)TRTCOLL_RUN_ARGS_INIT;
    desc->dtype = TRTCOLL_BF16;
    desc->flags = TRTCOLL_ACC_FP32; /* as NCCL adds */
    desc->max_tokens = args->tokens = bytes / FIGURES_ROW_BYTES;
    desc->hidden = FIGURES_HIDDEN;
    desc->fusion = operands->part == PART_FP8    ? TRTCOLL_FUSION_RESIDUAL_RMS_NORM_QUANT_FP8
                   : operands->part == PART_NORM ? TRTCOLL_FUSION_RESIDUAL_RMS_NORM
                                                 : TRTCOLL_FUSION_NONE;
    args->in = pointer(operands->in);
    if (is_fused(operands->part)) {
        args->residual_in = pointer(operands->residual_in);
        args->residual_out = pointer(operands->residual_out);
        args->norm_weight = pointer(operands->weight);
    }
    if (operands->part == PART_FP8) {
        args->scale = pointer(operands->scale);
        args->quant_out = pointer(operands->quant);
    } else {
        args->out = pointer(operands->out);
    }
}

int operands_clear(struct operands *operands, uint64_t bytes)
{
    struct gpu *gpu = operands->gpu;
    const CUdeviceptr outputs[] = {operands->out, operands->own_out, operands->residual_out};
    int code = 0;
    for (size_t i = 0; i < sizeof(outputs) / sizeof(outputs[0]) && code == 0; i++)
        if (outputs[i])
            code = gpu_check(gpu, gpu->cuda->cuMemsetD8Async(outputs[i], 0xff, bytes, gpu->stream), "fill");
    if (code == 0 && operands->quant)
        code = gpu_check(gpu, gpu->cuda->cuMemsetD8Async(operands->quant, 0xff, bytes / 2, gpu->stream), "fill");
    return code == 0 ? gpu_synchronize(gpu) : code;
}

struct row {
    uint16_t out[FIGURES_HIDDEN], residual[FIGURES_HIDDEN];
    uint8_t quant[FIGURES_HIDDEN];
};

static int fetch(struct operands *operands, uint64_t number, bool own, struct row *row)
{
    struct gpu *gpu = operands->gpu;
    const uint64_t at = number * FIGURES_ROW_BYTES;
    const CUdeviceptr out = own ? operands->own_out : operands->out;
    int code = out ? gpu_check(gpu, gpu->cuda->cuMemcpyDtoH(row->out, out + at, FIGURES_ROW_BYTES), "download") : 0;
    if (code == 0 && operands->residual_out)
        code = gpu_check(gpu, gpu->cuda->cuMemcpyDtoH(row->residual, operands->residual_out + at, FIGURES_ROW_BYTES), "download");
    if (code == 0 && operands->quant)
        code = gpu_check(gpu, gpu->cuda->cuMemcpyDtoH(row->quant, operands->quant + at / 2, FIGURES_HIDDEN), "download");
    return code;
}

/* Not NaN, which is what cleared memory holds, and within `share` of what it should be. */
static bool is_near(float value, float expected, float share)
{
    return fabsf(value - expected) <= share * fabsf(expected) + 1e-6f;
}

/* The number of wrong values. Sums are exact; a norm may be off by two roundings, a quantised one by half a step of E4M3 more. */
static uint32_t count_wrong(const struct operands *operands, uint64_t number, const struct row *row)
{
    const bool fused = is_fused(operands->part);
    float sums[FIGURES_HIDDEN];
    double squares = 0;
    uint32_t wrong = 0;
    for (uint32_t c = 0; c < FIGURES_HIDDEN; c++) {
        sums[c] = fused ? residual_value(number, c) : 0;
        for (uint32_t rank = 0; rank < operands->gpu->rank->nranks; rank++)
            sums[c] += in_value(number, c, rank);
        squares += (double)sums[c] * (double)sums[c];
    }
    const float factor = (float)(1 / sqrt(squares / FIGURES_HIDDEN + 1e-6));
    for (uint32_t c = 0; c < FIGURES_HIDDEN; c++) {
        float norm = sums[c] * factor * weight_value(c);
        if (!fused)
            wrong += of_bf16(row->out[c]) != sums[c];
        else
            wrong += of_bf16(row->residual[c]) != sums[c];
        if (operands->part == PART_NORM)
            wrong += !is_near(of_bf16(row->out[c]), norm, 1.0f / 64);
        if (operands->part == PART_FP8)
            wrong += !is_near(of_fp8(row->quant[c]), norm / scale, 5.0f / 64);
    }
    return wrong;
}

int operands_check(struct operands *operands, uint64_t bytes, bool own)
{
    static struct row row;
    const uint64_t rows = bytes / FIGURES_ROW_BYTES;
    for (uint64_t i = 0; i < CHECKED_ROWS && i < rows; i++) {
        /* All of few rows; of many, the first, the last and some between, at every place of the period. */
        uint64_t number = rows <= CHECKED_ROWS ? i : (rows - 1) * i / (CHECKED_ROWS - 1);
        int code = fetch(operands, number, own, &row);
        uint32_t wrong = code == 0 ? count_wrong(operands, number, &row) : 0;
        if (code == 0 && wrong > 0)
            code = gpu_fail(operands->gpu, TRTCOLL_EINTERNAL, "%s, %llu bytes: %u wrong values in row %llu of %s",
                            figures_part_name(operands->part), (unsigned long long)bytes, wrong, (unsigned long long)number,
                            own ? "NCCL" : "trtcoll");
        if (code != 0)
            return code;
    }
    return 0;
}
