#include "cuda/plan.h"

#include "cuda/args.h"

#include <tcw/types.h>

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>

enum {
    WORKSPACE_UNIT = 8 << 20,
    MOST_BUFFER_BYTES = 48 << 20,     /* longer messages take several launches, each of which costs about 4 us */
    LONGEST_ONE_SHOT_BYTES = 4 << 20, /* of AUTO with more than two ranks; two of them need no more than for a two-shot */
    ROWS_OF_TWO_SHOT = 12,            /* two stages of some rows of every shard */
};

__attribute__((format(printf, 4, 5))) static int refuse(struct tcw_complaint *complaint, const char *field, uint64_t value,
                                                        const char *format, ...)
{
    va_list args;
    if (complaint) {
        *complaint = (struct tcw_complaint){.field = field, .mine = value};
        va_start(args, format);
        vsnprintf(complaint->text, sizeof(complaint->text), format, args);
        va_end(args);
    }
    return TCW_ENOTSUP;
}

static const char *name_or_unknown(const char *name)
{
    return name ? name : "unknown";
}

static bool is_float(unsigned dtype)
{
    return dtype == TCW_FP32 || dtype == TCW_FP16 || dtype == TCW_BF16;
}

/* What NCCL sums. */
static int check_dtype(unsigned dtype, struct tcw_complaint *complaint)
{
    if (dtype < TCW_DTYPE_COUNT && dtype != TCW_FP8_E4M3 && dtype != TCW_BOOL)
        return 0;
    return refuse(complaint, "dtype", dtype, "%s is moved, never reduced; reductions take fp32, fp16, bf16, fp64 and the integers",
                  name_or_unknown(tcw_dtype_name(dtype)));
}

/* What our kernels take, with or without an exchange. */
static int check_kernels(const struct tcw_plan_desc *desc, struct tcw_complaint *complaint)
{
    uint64_t elements;
    if (!is_float(desc->dtype))
        return refuse(complaint, "dtype", desc->dtype, "the kernels take fp32, fp16 or bf16, not %s; NCCL sums the others, without fusion",
                      name_or_unknown(tcw_dtype_name(desc->dtype)));
    elements = TCK_CUDA_PACK / tcw_dtype_bytes(desc->dtype);
    if (desc->redop != TCW_SUM)
        return refuse(complaint, "redop", desc->redop, "the kernels compute sums only; NCCL computes the others, without fusion");
    if (desc->hidden % elements || desc->hidden / elements > UINT64_C(1) << 30)
        return refuse(complaint, "hidden", desc->hidden, "the kernels take rows of whole 16 bytes: hidden must be a multiple of %u for %s",
                      (unsigned)elements, tcw_dtype_name(desc->dtype));
    return 0;
}

static int check_fusion(const struct tcw_plan_desc *desc, struct tcw_complaint *complaint)
{
    switch (desc->fusion) {
    case TCW_FUSION_NONE:
        return desc->flags & TCW_PLAN_BIAS ? check_kernels(desc, complaint) : 0;
    case TCW_FUSION_RESIDUAL_RMS_NORM:
    case TCW_FUSION_RESIDUAL_RMS_NORM_QUANT_FP8:
    case TCW_FUSION_RESIDUAL_RMS_NORM_OUT_QUANT_FP8:
        return check_kernels(desc, complaint);
    case TCW_FUSION_RESIDUAL_RMS_NORM_QUANT_NVFP4:
    case TCW_FUSION_RESIDUAL_RMS_NORM_OUT_QUANT_NVFP4:
        if (desc->dtype == TCW_FP32)
            return refuse(complaint, "dtype", desc->dtype, "NVFP4 takes fp16 or bf16");
        if (desc->hidden % 16)
            return refuse(complaint, "hidden", desc->hidden, "NVFP4 blocks have 16 elements: hidden must be a multiple of 16");
        return check_kernels(desc, complaint);
    default:
        return refuse(complaint, "fusion", desc->fusion, "fusion %s is not available on CUDA devices",
                      name_or_unknown(tcw_fusion_name(desc->fusion)));
    }
}

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}
static uint64_t most(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/* Bytes of a workspace with buffers of at least `buffer`. */
static uint64_t workspace_bytes(uint64_t buffer)
{
    uint64_t line = 128, bytes = TCK_CUDA_HEADER_BYTES + TCK_CUDA_BUFFERS * ((buffer + line - 1) / line * line);
    return (bytes + WORKSPACE_UNIT - 1) / WORKSPACE_UNIT * WORKSPACE_UNIT;
}

/* For strategies whose kernels exchange through a workspace. */
static uint64_t exchange_bytes(const struct tcw_plan_desc *desc, uint32_t nranks)
{
    uint64_t others = nranks - 1, row = desc->hidden * tcw_dtype_bytes(desc->dtype);
    uint64_t message = row * least(desc->max_tokens, (UINT64_C(1) << 40) / row + 1), wanted, needed = 0;
    bool one_shot = desc->strategy == TCW_STRATEGY_ONESHOT, automatic = desc->strategy == TCW_STRATEGY_AUTO;
    if (!others)
        return 0;
    /* one-shot: the messages of all others; two-shot: their parts of mine, and my parts of theirs */
    wanted = one_shot ? others * message : most(2 * message, others * (automatic ? least(message, LONGEST_ONE_SHOT_BYTES) : 0));
    if (desc->fusion != TCW_FUSION_NONE || desc->flags & TCW_PLAN_BIAS) /* rows stay together */
        needed = others * row * (one_shot ? 1 : ROWS_OF_TWO_SHOT);
    return workspace_bytes(most(least(wanted, MOST_BUFFER_BYTES), needed));
}

static int check_all_reduce(const struct tcw_plan_desc *desc, uint32_t nranks, uint64_t *bytes, struct tcw_complaint *complaint)
{
    int code = check_dtype(desc->dtype, complaint);
    if (!code)
        code = check_fusion(desc, complaint);
    if (code)
        return code;
    switch (desc->strategy) {
    case TCW_STRATEGY_NCCL:
    case TCW_STRATEGY_NCCL_SYMMETRIC:
        *bytes = 0;
        return 0;
    case TCW_STRATEGY_AUTO: /* NCCL takes what the kernels do not */
        *bytes = nranks <= TCK_CUDA_RANKS && !check_kernels(desc, NULL) ? exchange_bytes(desc, nranks) : 0;
        return 0;
    case TCW_STRATEGY_MIN_LATENCY:
    case TCW_STRATEGY_UB:
    case TCW_STRATEGY_ONESHOT:
    case TCW_STRATEGY_TWOSHOT:
    case TCW_STRATEGY_MNNVL:
    case TCW_STRATEGY_SYMM_MEM:
        break;
    default:
        return refuse(complaint, "strategy", desc->strategy,
                      "strategy %s is not available on CUDA devices; AUTO, NCCL, NCCL_SYMMETRIC, MIN_LATENCY, ONESHOT, TWOSHOT, MNNVL, "
                      "SYMM_MEM and UB are",
                      name_or_unknown(tcw_strategy_name(desc->strategy)));
    }
    if (nranks > TCK_CUDA_RANKS)
        return refuse(complaint, "nranks", nranks, "strategy %s takes groups of up to %d ranks; the served lane takes more, with NCCL",
                      tcw_strategy_name(desc->strategy), TCK_CUDA_RANKS);
    code = check_kernels(desc, complaint);
    if (!code)
        *bytes = exchange_bytes(desc, nranks);
    return code;
}

/* By the kernel, if it takes them, else by a library. */
static int check_finalize(const struct tcw_plan_desc *desc, uint32_t nranks, uint64_t *bytes, struct tcw_complaint *complaint)
{
    uint64_t row = desc->hidden * tcw_dtype_bytes(desc->dtype), token = row + TCK_CUDA_PACK, ranks = (uint64_t)nranks * TCK_CUDA_PACK;
    int code;
    *bytes = 0;
    if (desc->strategy == TCW_STRATEGY_NCCL)
        return 0;
    if (nranks > TCK_CUDA_RANKS)
        return refuse(complaint, "nranks", nranks, "the kernel takes groups of up to %d ranks; NCCL takes more", TCK_CUDA_RANKS);
    code = check_kernels(desc, complaint);
    if (!code && nranks > 1)
        *bytes =
            workspace_bytes(most(least(token * least(desc->max_tokens, (UINT64_C(1) << 40) / row + 1), MOST_BUFFER_BYTES), token) + ranks);
    return code;
}

int tck_cuda_plan_workspace(const struct tcw_plan_desc *desc, uint32_t nranks, uint64_t *bytes, struct tcw_complaint *complaint)
{
    if (!nranks || nranks > TCW_MAX_RANKS)
        return refuse(complaint, "nranks", nranks, "groups of CUDA devices have 1 to %d ranks", TCW_MAX_RANKS);
    switch (desc->op) {
    case TCW_OP_ALL_REDUCE:
        return check_all_reduce(desc, nranks, bytes, complaint);
    case TCW_OP_UB_FINALIZE:
        return check_finalize(desc, nranks, bytes, complaint);
    case TCW_OP_REDUCE_SCATTER:
        for (uint32_t i = 0; i < desc->tensor_count && i < TCW_MAX_TENSORS; i++)
            if (desc->tensors[i].present && check_dtype(desc->tensors[i].dtype, complaint))
                return TCW_ENOTSUP;
        break;
    case TCW_OP_NOP:
    case TCW_OP_ALL_GATHER:
    case TCW_OP_ALL_TO_ALL:
    case TCW_OP_BROADCAST:
    case TCW_OP_BARRIER:
        break;
    default:
        return refuse(complaint, "op", desc->op, "operation %u is not available on CUDA devices", desc->op);
    }
    *bytes = 0; /* a library moves the data */
    return 0;
}
