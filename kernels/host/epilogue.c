#include "host/epilogue.h"

#include "arith/fp8.h"

static bool quantizes_fp8(unsigned fusion)
{
    return fusion == TCW_FUSION_RESIDUAL_RMS_NORM_QUANT_FP8 || fusion == TCW_FUSION_RESIDUAL_RMS_NORM_OUT_QUANT_FP8;
}

static bool quantizes_nvfp4(unsigned fusion)
{
    return fusion == TCW_FUSION_RESIDUAL_RMS_NORM_QUANT_NVFP4 || fusion == TCW_FUSION_RESIDUAL_RMS_NORM_OUT_QUANT_NVFP4;
}

static bool keeps_norm(unsigned fusion)
{
    return fusion != TCW_FUSION_RESIDUAL_RMS_NORM_QUANT_FP8 && fusion != TCW_FUSION_RESIDUAL_RMS_NORM_QUANT_NVFP4;
}

void tck_epilogue_prepare(struct tck_epilogue *epilogue, const struct tck_run *run, const struct tck_loops *loops, bool wide, bool mnnvl,
                          tck_norm_order order)
{
    const struct tcw_plan_desc *desc = run->desc;
    *epilogue = (struct tck_epilogue){
        .run = run,
        .loops = loops,
        .row_bytes = desc->hidden * tcw_dtype_bytes(desc->dtype),
        .sum = {.dtype = desc->dtype,
                .wide = wide,
                .round_squares = mnnvl,
                .bias = desc->flags & TCW_PLAN_BIAS ? run->bias : NULL,
                .hidden = desc->hidden},
        .norm = {.gamma = run->norm_weight, .dtype = desc->dtype, .order = order, .hidden = desc->hidden},
    };
    if (quantizes_fp8(desc->fusion))
        epilogue->norm.fp8_multiplier = tck_e4m3_multiplier(*run->scale);
    if (quantizes_nvfp4(desc->fusion)) {
        epilogue->norm.fp4_global = *run->scale;
        epilogue->norm.fp4_scales = run->scale_out;
    }
}

void tck_epilogue_row(struct tck_epilogue *epilogue, uint64_t row, const void *const *src, uint32_t count)
{
    const struct tck_run *run = epilogue->run;
    const struct tcw_plan_desc *desc = run->desc;
    struct tck_row_sum *sum = &epilogue->sum;
    struct tck_row_norm *norm = &epilogue->norm;
    uint64_t at = row * epilogue->row_bytes;
    unsigned char *out = run->out ? run->out[0] : NULL;
    float eps, squares;

    sum->src = src;
    sum->count = count;
    if (desc->fusion == TCW_FUSION_NONE) {
        sum->dst = out + at;
        (void)epilogue->loops->row_sum(sum);
        return;
    }
    sum->dst = (unsigned char *)run->residual_out + at;
    sum->residual = (const unsigned char *)run->residual_in + at;
    squares = epilogue->loops->row_sum(sum);

    memcpy(&eps, &desc->eps_bits, sizeof(eps));
    norm->u = sum->dst;
    norm->inverse = tck_norm_inverse(squares, desc->hidden, eps);
    norm->row = row;
    norm->norm = keeps_norm(desc->fusion) ? out + at : NULL;
    norm->fp8 = quantizes_fp8(desc->fusion) ? (uint8_t *)run->quant_out + row * desc->hidden : NULL;
    norm->fp4 = quantizes_nvfp4(desc->fusion) ? (uint8_t *)run->quant_out + row * (desc->hidden / 2) : NULL;
    epilogue->loops->row_norm(norm);
}
