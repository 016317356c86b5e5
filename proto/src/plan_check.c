/*
 * Is a descriptor allowed? Every field is looked at; the first thing wrong is reported with what was found and what is allowed.
 */
#include <tcw/plan.h>

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

/* Keeps every product of a checked plan (ranks x bytes included) far from overflow. */
#define MAX_BYTES  (1ull << 48)
#define MAX_EXTENT (1ull << 40)

__attribute__((format(printf, 5, 6))) static int complain(struct tcw_complaint *complaint, int code, const char *field, uint64_t found,
                                                          const char *format, ...)
{
    va_list args;

    complaint->field = field;
    complaint->mine = found;
    complaint->theirs = 0;
    va_start(args, format);
    vsnprintf(complaint->text, sizeof(complaint->text), format, args);
    va_end(args);
    return code;
}

static bool is_float(unsigned dtype)
{
    return dtype == TCW_FP32 || dtype == TCW_FP16 || dtype == TCW_BF16;
}
static bool is_summable(unsigned dtype)
{
    return dtype <= TCW_UINT64;
}

/* a * b, or `limit + 1` when that is exceeded. */
static uint64_t product(uint64_t a, uint64_t b, uint64_t limit)
{
    uint64_t result;
    return __builtin_mul_overflow(a, b, &result) || result > limit ? limit + 1 : result;
}

static bool tensor_is_zero(const struct tcw_tensor *tensor)
{
    return !tensor->outer && !tensor->extent && !tensor->inner && !tensor->dtype && !tensor->present;
}

/* Fields that an operation does not use must be zero, so that two equal plans are equal bytes and nothing is dropped silently. */
static int check_unused(const struct tcw_plan_desc *desc, struct tcw_complaint *complaint)
{
    unsigned first = tcw_op_has_tokens(desc->op) ? 0 : desc->tensor_count;
    uint32_t i;

    if (desc->reserved)
        return complain(complaint, TCW_EINVAL, "reserved", desc->reserved, "reserved is %u, must be 0", desc->reserved);
    for (i = first; i < TCW_MAX_TENSORS; i++)
        if (!tensor_is_zero(&desc->tensors[i]))
            return complain(complaint, TCW_EINVAL, "tensors", i, "tensors[%u] is set, but only %u are used", i, first);
    if (!tcw_op_has_tokens(desc->op)) {
        if (desc->max_tokens || desc->hidden || desc->eps_bits || desc->dtype)
            return complain(complaint, TCW_EINVAL, "max_tokens", desc->max_tokens,
                            "max_tokens, hidden, eps and dtype belong to operations of tokens and must be 0 for %s", tcw_op_name(desc->op));
    } else if (desc->tensor_count) {
        return complain(complaint, TCW_EINVAL, "tensor_count", desc->tensor_count, "%s takes no tensor list, found %u entries",
                        tcw_op_name(desc->op), desc->tensor_count);
    }
    if (desc->op != TCW_OP_ALL_REDUCE) {
        if (desc->eps_bits)
            return complain(complaint, TCW_EINVAL, "eps", desc->eps_bits, "eps belongs to all-reduce and must be 0 for %s",
                            tcw_op_name(desc->op));
        if (desc->strategy != TCW_STRATEGY_AUTO || desc->fusion != TCW_FUSION_NONE)
            return complain(complaint, TCW_EINVAL, "strategy", desc->strategy, "%s takes no strategy and no fusion", tcw_op_name(desc->op));
        if (desc->flags & (TCW_PLAN_ACC_FP32 | TCW_PLAN_BIAS))
            return complain(complaint, TCW_EINVAL, "flags", desc->flags, "%s takes neither a bias nor an accumulation width",
                            tcw_op_name(desc->op));
    }
    if (desc->op != TCW_OP_UB_FINALIZE && desc->flags & TCW_PLAN_FORCE)
        return complain(complaint, TCW_EINVAL, "flags", desc->flags, "%s has nothing to force", tcw_op_name(desc->op));
    if (desc->op != TCW_OP_ALL_REDUCE && desc->op != TCW_OP_REDUCE_SCATTER && desc->redop)
        return complain(complaint, TCW_EINVAL, "redop", desc->redop, "%s reduces nothing, redop must be 0", tcw_op_name(desc->op));
    if (desc->op != TCW_OP_BROADCAST && desc->root)
        return complain(complaint, TCW_EINVAL, "root", desc->root, "%s has no root", tcw_op_name(desc->op));
    return 0;
}

static int check_sizes(const struct tcw_plan_desc *desc, uint32_t nranks, struct tcw_complaint *complaint)
{
    bool has_sizes = desc->flags & TCW_PLAN_SIZES;
    uint32_t i;

    if (has_sizes && desc->op != TCW_OP_ALL_GATHER && desc->op != TCW_OP_REDUCE_SCATTER)
        return complain(complaint, TCW_EINVAL, "sizes", 0, "only all-gather and reduce-scatter take sizes, not %s", tcw_op_name(desc->op));
    for (i = 0; i < TCW_MAX_RANKS; i++) {
        if ((!has_sizes || i >= nranks) && desc->sizes[i])
            return complain(complaint, TCW_EINVAL, "sizes", desc->sizes[i], "sizes[%u] is %llu, but %u sizes are expected", i,
                            (unsigned long long)desc->sizes[i], has_sizes ? nranks : 0);
        if (desc->sizes[i] > MAX_EXTENT)
            return complain(complaint, TCW_EINVAL, "sizes", desc->sizes[i], "sizes[%u] is %llu, at most 2^40 is allowed", i,
                            (unsigned long long)desc->sizes[i]);
    }
    return 0;
}

static int check_tokens(const struct tcw_plan_desc *desc, struct tcw_complaint *complaint)
{
    size_t element = tcw_dtype_bytes(desc->dtype);

    if (!desc->max_tokens || desc->max_tokens > UINT32_MAX)
        return complain(complaint, TCW_EINVAL, "max_tokens", desc->max_tokens, "max_tokens is %llu, allowed: 1 to 4294967295",
                        (unsigned long long)desc->max_tokens);
    if (!desc->hidden || desc->hidden > MAX_EXTENT)
        return complain(complaint, TCW_EINVAL, "hidden", desc->hidden, "hidden is %llu, allowed: 1 to 2^40",
                        (unsigned long long)desc->hidden);
    if (product(product(desc->max_tokens, desc->hidden, MAX_BYTES), element, MAX_BYTES) > MAX_BYTES)
        return complain(complaint, TCW_EINVAL, "max_tokens", desc->max_tokens, "max_tokens x hidden is more than 2^48 bytes");
    return 0;
}

static int check_finalize(const struct tcw_plan_desc *desc, struct tcw_complaint *complaint)
{
    if (!is_float(desc->dtype))
        return complain(complaint, TCW_EINVAL, "dtype", desc->dtype, "%s takes fp32, fp16 or bf16, found %s", tcw_op_name(desc->op),
                        tcw_dtype_name(desc->dtype));
    return 0;
}

static int check_all_reduce(const struct tcw_plan_desc *desc, struct tcw_complaint *complaint)
{
    bool fused = desc->fusion != TCW_FUSION_NONE;
    bool nvfp4 = desc->fusion == TCW_FUSION_RESIDUAL_RMS_NORM_QUANT_NVFP4 || desc->fusion == TCW_FUSION_RESIDUAL_RMS_NORM_OUT_QUANT_NVFP4;
    size_t element = tcw_dtype_bytes(desc->dtype);
    float eps;

    if (!is_summable(desc->dtype))
        return complain(complaint, TCW_EINVAL, "dtype", desc->dtype, "%s cannot be reduced; allowed: fp32 fp16 bf16 fp64 and the integers",
                        tcw_dtype_name(desc->dtype));
    if ((desc->flags & TCW_PLAN_ACC_FP32) && desc->dtype != TCW_FP16 && desc->dtype != TCW_BF16)
        return complain(complaint, TCW_EINVAL, "flags", desc->flags, "fp32 accumulation is for fp16 and bf16, not %s",
                        tcw_dtype_name(desc->dtype));
    if ((desc->flags & TCW_PLAN_BIAS) && (!is_float(desc->dtype) || desc->redop != TCW_SUM))
        return complain(complaint, TCW_EINVAL, "flags", desc->flags, "a bias needs sum and fp32, fp16 or bf16, found %s of %s",
                        tcw_redop_name(desc->redop), tcw_dtype_name(desc->dtype));
    if (!fused) {
        if (desc->eps_bits)
            return complain(complaint, TCW_EINVAL, "eps", desc->eps_bits, "eps is set, but nothing is normalised without a fusion");
        return 0;
    }
    if (!is_float(desc->dtype))
        return complain(complaint, TCW_EINVAL, "dtype", desc->dtype, "fusion %s needs fp32, fp16 or bf16, found %s",
                        tcw_fusion_name(desc->fusion), tcw_dtype_name(desc->dtype));
    if (desc->redop != TCW_SUM)
        return complain(complaint, TCW_EINVAL, "redop", desc->redop, "fusion %s needs sum, found %s", tcw_fusion_name(desc->fusion),
                        tcw_redop_name(desc->redop));
    if (desc->hidden * element % 16)
        return complain(complaint, TCW_EINVAL, "hidden", desc->hidden,
                        "hidden is %llu: with a fusion a row must be a multiple of 16 bytes (%zu elements of %s)",
                        (unsigned long long)desc->hidden, 16 / element, tcw_dtype_name(desc->dtype));
    if (nvfp4 && (desc->dtype == TCW_FP32 || desc->hidden % 16))
        return complain(complaint, TCW_EINVAL, desc->dtype == TCW_FP32 ? "dtype" : "hidden",
                        desc->dtype == TCW_FP32 ? desc->dtype : desc->hidden,
                        "NVFP4 needs fp16 or bf16 and hidden a multiple of 16, found %s and %llu", tcw_dtype_name(desc->dtype),
                        (unsigned long long)desc->hidden);
    memcpy(&eps, &desc->eps_bits, sizeof(eps));
    if (!(eps >= 0.0f) || eps > 1.0f)
        return complain(complaint, TCW_EINVAL, "eps", desc->eps_bits, "eps is %g, allowed: 0 to 1", (double)eps);
    return 0;
}

static int check_tensor(const struct tcw_plan_desc *desc, uint32_t nranks, uint32_t index, struct tcw_complaint *complaint)
{
    const struct tcw_tensor *tensor = &desc->tensors[index];
    bool gathers = desc->op == TCW_OP_ALL_GATHER || desc->op == TCW_OP_REDUCE_SCATTER;
    bool has_sizes = desc->flags & TCW_PLAN_SIZES;
    uint64_t extent = tensor->extent, bytes;
    uint32_t i;

    if (!tensor->present) {
        if (!tensor_is_zero(tensor))
            return complain(complaint, TCW_EINVAL, "tensors", index, "tensors[%u] is absent, its other fields must be 0", index);
        if (desc->op == TCW_OP_BROADCAST)
            return complain(complaint, TCW_EINVAL, "tensors", index, "the tensor of a broadcast cannot be absent");
        return 0;
    }
    if (tensor->present != 1)
        return complain(complaint, TCW_EINVAL, "tensors", tensor->present, "tensors[%u].present is %u, allowed: 0 or 1", index,
                        tensor->present);
    if (!tcw_dtype_bytes(tensor->dtype))
        return complain(complaint, TCW_EINVAL, "tensors", tensor->dtype, "tensors[%u].dtype is %u, which is no type", index, tensor->dtype);
    if (desc->op == TCW_OP_REDUCE_SCATTER && !is_summable(tensor->dtype))
        return complain(complaint, TCW_EINVAL, "tensors", tensor->dtype, "tensors[%u]: %s cannot be reduced", index,
                        tcw_dtype_name(tensor->dtype));
    if (has_sizes && extent)
        return complain(complaint, TCW_EINVAL, "tensors", extent, "tensors[%u].extent is %llu, must be 0 beside sizes", index,
                        (unsigned long long)extent);
    if (!gathers && (tensor->outer != 1 || extent != 1))
        return complain(complaint, TCW_EINVAL, "tensors", index, "tensors[%u]: %s takes outer 1 and extent 1", index,
                        tcw_op_name(desc->op));
    if (has_sizes)
        for (i = 0; i < nranks; i++)
            extent += desc->sizes[i];
    else
        extent = product(extent, nranks, MAX_BYTES);
    bytes = product(product(tensor->outer, extent, MAX_BYTES), tensor->inner, MAX_BYTES);
    bytes = product(bytes, tcw_dtype_bytes(tensor->dtype), MAX_BYTES);
    if (tensor->outer > MAX_BYTES || tensor->inner > MAX_BYTES || bytes > MAX_BYTES)
        return complain(complaint, TCW_EINVAL, "tensors", index, "tensors[%u] is larger than 2^48 bytes over all ranks", index);
    return 0;
}

int tcw_plan_desc_check(const struct tcw_plan_desc *desc, uint32_t nranks, struct tcw_complaint *complaint)
{
    uint32_t wanted_min = 0, wanted_max = 0, i;
    int code;

    if (!nranks || nranks > TCW_MAX_RANKS)
        return complain(complaint, TCW_EINVAL, "nranks", nranks, "a group has 1 to %d ranks, found %u", TCW_MAX_RANKS, nranks);
    if (!tcw_op_name(desc->op))
        return complain(complaint, TCW_ENOSYS, "op", desc->op, "operation %u is unknown here", desc->op);
    if (!tcw_dtype_bytes(desc->dtype))
        return complain(complaint, TCW_EINVAL, "dtype", desc->dtype, "dtype %u is no type", desc->dtype);
    if (!tcw_strategy_name(desc->strategy))
        return complain(complaint, TCW_EINVAL, "strategy", desc->strategy, "strategy %u does not exist", desc->strategy);
    if (!tcw_fusion_name(desc->fusion))
        return complain(complaint, TCW_EINVAL, "fusion", desc->fusion, "fusion %u does not exist or cannot be asked for", desc->fusion);
    if (desc->redop >= TCW_REDOP_COUNT)
        return complain(complaint, TCW_EINVAL, "redop", desc->redop, "redop %u does not exist", desc->redop);
    if (desc->lane >= TCW_LANE_COUNT)
        return complain(complaint, TCW_EINVAL, "lane", desc->lane, "lane %u does not exist", desc->lane);
    if (desc->flags & ~(uint32_t)TCW_PLAN_FLAGS_KNOWN)
        return complain(complaint, TCW_EINVAL, "flags", desc->flags, "flags 0x%x: bits outside 0x%x are unknown", desc->flags,
                        (unsigned)TCW_PLAN_FLAGS_KNOWN);
    switch (desc->op) {
    case TCW_OP_ALL_GATHER:
    case TCW_OP_REDUCE_SCATTER:
    case TCW_OP_ALL_TO_ALL:
        wanted_min = 1;
        wanted_max = TCW_MAX_TENSORS;
        break;
    case TCW_OP_BROADCAST:
        wanted_min = wanted_max = 1;
        break;
    default:
        break;
    }
    if (desc->tensor_count < wanted_min || desc->tensor_count > wanted_max)
        return complain(complaint, TCW_EINVAL, "tensor_count", desc->tensor_count, "%s takes %u to %u tensors, found %u",
                        tcw_op_name(desc->op), wanted_min, wanted_max, desc->tensor_count);
    code = check_unused(desc, complaint);
    if (!code)
        code = check_sizes(desc, nranks, complaint);
    if (!code && tcw_op_has_tokens(desc->op))
        code = check_tokens(desc, complaint);
    if (!code && desc->op == TCW_OP_ALL_REDUCE)
        code = check_all_reduce(desc, complaint);
    if (!code && desc->op == TCW_OP_UB_FINALIZE)
        code = check_finalize(desc, complaint);
    for (i = 0; !code && i < desc->tensor_count; i++)
        code = check_tensor(desc, nranks, i, complaint);
    if (!code && desc->op == TCW_OP_BROADCAST && desc->root >= nranks)
        code = complain(complaint, TCW_EINVAL, "root", desc->root, "root is %u, allowed: 0 to %u", desc->root, nranks - 1);
    if (!code && desc->op == TCW_OP_ALL_TO_ALL && (nranks + 1) * desc->tensor_count > TCW_MAX_REFS)
        code = complain(complaint, TCW_EINVAL, "tensor_count", desc->tensor_count, "%u lists of %u ranks are more than %d buffers",
                        desc->tensor_count, nranks, TCW_MAX_REFS);
    return code;
}

int tcw_plan_tokens_check(const struct tcw_plan_desc *desc, uint64_t tokens, struct tcw_complaint *complaint)
{
    uint64_t most = 0;
    uint32_t i;

    if (tcw_op_has_tokens(desc->op)) {
        if (!tokens || tokens > desc->max_tokens)
            return complain(complaint, TCW_EINVAL, "tokens", tokens, "tokens is %llu, this plan allows 1 to %llu",
                            (unsigned long long)tokens, (unsigned long long)desc->max_tokens);
        return 0;
    }
    if (!tokens)
        return 0;
    if ((desc->op == TCW_OP_ALL_GATHER || desc->op == TCW_OP_REDUCE_SCATTER) && !(desc->flags & TCW_PLAN_SIZES)) {
        most = UINT32_MAX;
        for (i = 0; i < desc->tensor_count; i++)
            if (desc->tensors[i].present && desc->tensors[i].extent < most)
                most = desc->tensors[i].extent;
        if (tokens <= most)
            return 0;
    }
    return complain(complaint, TCW_EINVAL, "tokens", tokens, "tokens is %llu, this plan allows 0 to %llu", (unsigned long long)tokens,
                    (unsigned long long)most);
}
