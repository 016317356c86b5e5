#include "host/plan.h"

#include "host/layout.h"

#include <tck/comm.h>

#include <stdarg.h>
#include <stdio.h>

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

static int is_float(unsigned dtype)
{
    return dtype == TCW_FP32 || dtype == TCW_FP16 || dtype == TCW_BF16;
}
static int is_summable(unsigned dtype)
{
    return dtype < TCW_DTYPE_COUNT && dtype != TCW_FP8_E4M3 && dtype != TCW_BOOL;
}
static const char *name_or_unknown(const char *name)
{
    return name ? name : "unknown";
}

static int check_dtype(unsigned dtype, struct tcw_complaint *complaint)
{
    if (is_summable(dtype))
        return 0;
    return refuse(complaint, "dtype", dtype, "%s is moved, never reduced; reductions take fp32, fp16, bf16, fp64 and the integers",
                  name_or_unknown(tcw_dtype_name(dtype)));
}

static int check_all_reduce(const struct tcw_plan_desc *desc, struct tcw_complaint *complaint)
{
    int fused = desc->fusion != TCW_FUSION_NONE;
    switch (desc->strategy) {
    case TCW_STRATEGY_NCCL:
    case TCW_STRATEGY_MIN_LATENCY:
    case TCW_STRATEGY_AUTO:
    case TCW_STRATEGY_ONESHOT:
    case TCW_STRATEGY_TWOSHOT:
    case TCW_STRATEGY_MNNVL:
        break;
    default:
        return refuse(complaint, "strategy", desc->strategy,
                      "strategy %s is not available on host devices; AUTO, NCCL, MIN_LATENCY, ONESHOT, TWOSHOT and MNNVL are",
                      name_or_unknown(tcw_strategy_name(desc->strategy)));
    }
    if (check_dtype(desc->dtype, complaint))
        return TCW_ENOTSUP;
    switch (desc->fusion) {
    case TCW_FUSION_NONE:
    case TCW_FUSION_RESIDUAL_RMS_NORM:
    case TCW_FUSION_RESIDUAL_RMS_NORM_QUANT_FP8:
    case TCW_FUSION_RESIDUAL_RMS_NORM_OUT_QUANT_FP8:
        break;
    case TCW_FUSION_RESIDUAL_RMS_NORM_QUANT_NVFP4:
    case TCW_FUSION_RESIDUAL_RMS_NORM_OUT_QUANT_NVFP4:
        if (desc->dtype == TCW_FP32)
            return refuse(complaint, "dtype", desc->dtype, "NVFP4 takes fp16 or bf16");
        if (desc->hidden % 16)
            return refuse(complaint, "hidden", desc->hidden, "NVFP4 blocks have 16 elements: hidden must be a multiple of 16");
        break;
    default:
        return refuse(complaint, "fusion", desc->fusion, "fusion %s is not available on host devices",
                      name_or_unknown(tcw_fusion_name(desc->fusion)));
    }
    if ((fused || desc->flags & TCW_PLAN_BIAS) && !is_float(desc->dtype))
        return refuse(complaint, "dtype", desc->dtype, "fused epilogues and bias take fp32, fp16 or bf16");
    if ((fused || desc->flags & TCW_PLAN_BIAS) && desc->redop != TCW_SUM)
        return refuse(complaint, "redop", desc->redop, "fused epilogues and bias follow a sum");
    return 0;
}

int tck_host_plan_workspace(const struct tcw_plan_desc *desc, uint32_t nranks, uint64_t *bytes, struct tcw_complaint *complaint)
{
    uint64_t data = 0; /* least data bytes of a buffer */
    if (!nranks || nranks > TCK_HOST_MAX_RANKS)
        return refuse(complaint, "nranks", nranks, "groups of host devices have 1 to %d ranks", TCK_HOST_MAX_RANKS);
    switch (desc->op) {
    case TCW_OP_ALL_REDUCE:
        if (check_all_reduce(desc, complaint))
            return TCW_ENOTSUP;
        /* an epilogue works on whole rows: one that arrives and one that leaves must fit */
        if (desc->fusion != TCW_FUSION_NONE || desc->flags & TCW_PLAN_BIAS) {
            if (desc->hidden > UINT64_C(1) << 40)
                return refuse(complaint, "hidden", desc->hidden, "rows of more than 2^40 elements do not fit into a workspace");
            data = 2 * ((desc->hidden * tcw_dtype_bytes(desc->dtype) + 63) & ~UINT64_C(63));
        }
        break;
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
    case TCW_OP_UB_FINALIZE:
        break;
    default:
        return refuse(complaint, "op", desc->op, "operation %u is not available on host devices", desc->op);
    }
    *bytes = TCK_WORKSPACE_UNIT;
    while (tck_layout_capacity(*bytes) < data) {
        uint64_t lacking = TCK_BUFFERS * (data - tck_layout_capacity(*bytes));
        *bytes += (lacking + TCK_WORKSPACE_UNIT - 1) / TCK_WORKSPACE_UNIT * TCK_WORKSPACE_UNIT;
    }
    return 0;
}
