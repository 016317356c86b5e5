#include "twin_row.h"

#include "arith/fp8.h"
#include "arith/half.h"

#include <tcw/member.h>

#include <stdlib.h>
#include <string.h>

static uint32_t fusion_of(const struct tck_cuda_operation *operation)
{
    bool norm = operation->flags & TCK_CUDA_WRITE_NORM;
    if (!operation->residual_in)
        return TCW_FUSION_NONE;
    if (operation->flags & TCK_CUDA_WRITE_FP8)
        return norm ? TCW_FUSION_RESIDUAL_RMS_NORM_OUT_QUANT_FP8 : TCW_FUSION_RESIDUAL_RMS_NORM_QUANT_FP8;
    if (operation->flags & TCK_CUDA_WRITE_FP4)
        return norm ? TCW_FUSION_RESIDUAL_RMS_NORM_OUT_QUANT_NVFP4 : TCW_FUSION_RESIDUAL_RMS_NORM_QUANT_NVFP4;
    return TCW_FUSION_RESIDUAL_RMS_NORM;
}

static CUresult touch(const struct fake_launch *launch, const void *address, uint64_t bytes, bool write)
{
    return address ? fake_memory_touch(launch->context, launch->name, address, bytes, write, false) : CUDA_SUCCESS;
}

/* Everything that the kernel would read and write of the application's. */
static CUresult touch_all(const struct fake_twin_row *row, const struct fake_launch *launch)
{
    const struct tck_cuda_operation *operation = row->operation;
    uint64_t elements = operation->tokens * operation->hidden;
    bool fp8 = operation->flags & TCK_CUDA_WRITE_FP8, fp4 = operation->flags & TCK_CUDA_WRITE_FP4;
    bool norm = operation->residual_in != NULL;
    CUresult result = touch(launch, operation->in, row->total, false);
    if (!result && (!norm || operation->flags & TCK_CUDA_WRITE_NORM))
        result = touch(launch, operation->out, row->total, true);
    if (!result)
        result = touch(launch, operation->bias, row->row_bytes, false);
    if (!result && norm)
        result = touch(launch, operation->residual_in, row->total, false);
    if (!result && norm)
        result = touch(launch, operation->residual_out, row->total, true);
    if (!result && norm)
        result = touch(launch, operation->gamma, row->row_bytes, false);
    if (!result && (fp8 || fp4))
        result = touch(launch, operation->scale, sizeof(float), false);
    if (!result && (fp8 || fp4))
        result = touch(launch, operation->quant_out, fp8 ? elements : elements / 2, true);
    if (!result && fp4)
        result =
            touch(launch, operation->scale_out, tcw_plan_slot_bytes(&row->desc, 1, 0, operation->run_tokens, TCW_SLOT_SCALE_OUT, 0), true);
    return result;
}

/* Where the run's first token would be: the epilogue counts from there, pointers are those of the launch's first token. */
static void *before(const struct fake_twin_row *row, const void *pointer, uint64_t token_bytes)
{
    return pointer ? (void *)((uintptr_t)pointer - row->operation->first_token * token_bytes) : NULL;
}

CUresult fake_twin_row_prepare(struct fake_twin_row *row, const struct fake_launch *launch, const struct tck_cuda_operation *operation)
{
    bool wide = operation->flags & TCK_CUDA_WIDE;
    CUresult result;
    memset(row, 0, sizeof(*row));
    row->operation = operation;
    row->loops = tck_loops_best();
    row->dtype = strstr(launch->name, "_fp32_") ? TCW_FP32 : strstr(launch->name, "_fp16_") ? TCW_FP16 : TCW_BF16;
    row->row_bytes = (uint64_t)operation->row_packs * TCK_CUDA_PACK;
    row->total = operation->tokens * row->row_bytes;
    row->rows = operation->residual_in || operation->bias;
    if (row->rows && (uint64_t)operation->hidden * tcw_dtype_bytes(row->dtype) != row->row_bytes) {
        fake_complain("%s: %u elements are not %u packs", launch->name, operation->hidden, operation->row_packs);
        return CUDA_ERROR_INVALID_VALUE;
    }
    row->desc = (struct tcw_plan_desc){.op = TCW_OP_ALL_REDUCE,
                                       .dtype = (uint16_t)row->dtype,
                                       .fusion = (uint16_t)fusion_of(operation),
                                       .redop = TCW_SUM,
                                       .flags = operation->bias ? TCW_PLAN_BIAS : 0,
                                       .hidden = operation->hidden,
                                       .max_tokens = operation->run_tokens};
    memcpy(&row->desc.eps_bits, &operation->eps, sizeof(row->desc.eps_bits));
    result = touch_all(row, launch);
    if (result)
        return result;
    row->out[0] = before(row, operation->out, row->row_bytes);
    row->run = (struct tck_run){
        .desc = &row->desc,
        .tokens = operation->run_tokens,
        .out = row->out,
        .residual_in = before(row, operation->residual_in, row->row_bytes),
        .residual_out = before(row, operation->residual_out, row->row_bytes),
        .norm_weight = operation->gamma,
        .bias = operation->bias,
        .scale = operation->scale,
        .quant_out = before(row, operation->quant_out, operation->flags & TCK_CUDA_WRITE_FP8 ? operation->hidden : operation->hidden / 2),
        .scale_out = operation->scale_out};
    if (row->rows)
        tck_epilogue_prepare(&row->epilogue, &row->run, row->loops, wide, operation->flags & TCK_CUDA_ROUND_SQUARES,
                             operation->flags & TCK_CUDA_GAMMA_FIRST ? TCK_NORM_GAMMA_FIRST : TCK_NORM_SCALE_FIRST);
    return CUDA_SUCCESS;
}

static float element(const void *base, uint32_t dtype, uint64_t index)
{
    uint16_t half;
    float f;
    if (dtype == TCW_FP32) {
        memcpy(&f, (const unsigned char *)base + index * sizeof(f), sizeof(f));
        return f;
    }
    memcpy(&half, (const unsigned char *)base + index * sizeof(half), sizeof(half));
    return dtype == TCW_FP16 ? tck_float_from_fp16(half) : tck_float_from_bf16(half);
}

/* FP8 codes of a token from its norm before that is rounded, which host devices never do. */
static void requantize(const struct fake_twin_row *row, uint64_t token)
{
    const struct tck_row_norm *norm = &row->epilogue.norm;
    for (uint64_t i = 0; i < norm->hidden; i++) {
        float gamma = norm->gamma ? element(norm->gamma, row->dtype, i) : 1.0f;
        float y = tck_norm_output(element(norm->u, row->dtype, i), gamma, norm->inverse, norm->order);
        ((uint8_t *)row->run.quant_out)[token * norm->hidden + i] = tck_e4m3_from_float(y * norm->fp8_multiplier);
    }
}

void fake_twin_row_finish(struct fake_twin_row *row, const void *const *src, uint32_t count, uint64_t at, uint64_t bytes)
{
    const void *here[TCK_CUDA_RANKS];
    if (!row->rows) {
        struct tck_reduction reduction = {.dst = (unsigned char *)row->operation->out + at,
                                          .src = src,
                                          .count = count,
                                          .dtype = row->dtype,
                                          .redop = TCW_SUM,
                                          .wide = row->operation->flags & TCK_CUDA_WIDE,
                                          .elements = bytes / tcw_dtype_bytes(row->dtype)};
        row->loops->reduce(&reduction);
        return;
    }
    for (uint64_t done = 0; done < bytes; done += row->row_bytes) {
        uint64_t token = row->operation->first_token + (at + done) / row->row_bytes;
        for (uint32_t i = 0; i < count; i++)
            here[i] = (const unsigned char *)src[i] + done;
        tck_epilogue_row(&row->epilogue, token, here, count);
        if (row->operation->flags & TCK_CUDA_FP8_UNROUNDED && row->operation->flags & TCK_CUDA_WRITE_FP8)
            requantize(row, token);
    }
}

/* A group of one posts its runs, if this was the last launch of one. */
static void note_run(const struct tck_cuda_args *args, uint64_t began_ns)
{
    struct tcw_device_progress *progress = (struct tcw_device_progress *)args->link.progress;
    uint64_t step = atomic_load_explicit(&progress->steps, memory_order_relaxed) + 1;
    struct tcw_device_record *record = &progress->records[step % TCW_DEVICE_RECORDS];
    record->start_ns = began_ns;
    record->end_ns = tcw_now_ns();
    record->plan_id = args->run.plan_id;
    record->tokens = (uint32_t)args->run.run_tokens;
    atomic_store_explicit(&record->step, step, memory_order_release);
    atomic_store_explicit(&progress->steps, step, memory_order_release);
}

CUresult fake_twin_epilogue(const struct fake_launch *launch)
{
    const struct tck_cuda_args *args = launch->params;
    struct fake_twin_row *row = malloc(sizeof(*row));
    const void *src[1] = {args->run.in};
    uint64_t began_ns = tcw_now_ns();
    CUresult result = row ? fake_twin_row_prepare(row, launch, &args->run) : CUDA_ERROR_OUT_OF_MEMORY;
    if (!result && args->link.progress)
        result = fake_memory_touch(launch->context, launch->name, args->link.progress, sizeof(struct tcw_device_progress), true, false);
    if (!result)
        fake_twin_row_finish(row, src, 1, 0, row->total);
    if (!result && args->link.progress && args->run.flags & TCK_CUDA_LAST)
        note_run(args, began_ns);
    free(row);
    return result;
}
