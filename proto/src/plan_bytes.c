/* Which buffers a run has and how long each must be: the arithmetic of every bounds check. Only for checked descriptors. */
#include <tcw/plan.h>

static uint64_t round_up(uint64_t value, uint64_t step)
{
    return (value + step - 1) / step * step;
}

static int is_fp8(unsigned fusion)
{
    return fusion == TCW_FUSION_RESIDUAL_RMS_NORM_QUANT_FP8 || fusion == TCW_FUSION_RESIDUAL_RMS_NORM_OUT_QUANT_FP8;
}

static int is_nvfp4(unsigned fusion)
{
    return fusion == TCW_FUSION_RESIDUAL_RMS_NORM_QUANT_NVFP4 || fusion == TCW_FUSION_RESIDUAL_RMS_NORM_OUT_QUANT_NVFP4;
}

uint64_t tcw_shard_first(uint64_t tokens, uint32_t nranks, uint32_t rank)
{
    uint64_t rest = tokens % nranks;

    return rank * (tokens / nranks) + (rank < rest ? rank : rest);
}

int tcw_finalize_is_local(const struct tcw_plan_desc *desc, uint32_t nranks, uint64_t tokens)
{
    enum { ONE_SHOT_ELEMENTS = 128 << 10 }; /* of all ranks together: up to here the sum was made by every rank itself */
    uint64_t tokens_of_all = tokens * nranks;

    return nranks == 1 || (!(desc->flags & TCW_PLAN_FORCE) && tokens_of_all <= ONE_SHOT_ELEMENTS / desc->hidden);
}

static int all_reduce_uses(const struct tcw_plan_desc *desc, unsigned slot)
{
    int fused = desc->fusion != TCW_FUSION_NONE;

    switch (slot) {
    case TCW_SLOT_IN:
        return 1;
    case TCW_SLOT_OUT: /* the QUANT forms without OUT do not write the norm */
        return desc->fusion != TCW_FUSION_RESIDUAL_RMS_NORM_QUANT_FP8 && desc->fusion != TCW_FUSION_RESIDUAL_RMS_NORM_QUANT_NVFP4;
    case TCW_SLOT_RESIDUAL_IN:
    case TCW_SLOT_RESIDUAL_OUT:
    case TCW_SLOT_NORM_WEIGHT:
        return fused;
    case TCW_SLOT_BIAS:
        return (desc->flags & TCW_PLAN_BIAS) != 0;
    case TCW_SLOT_SCALE:
    case TCW_SLOT_QUANT_OUT:
        return is_fp8(desc->fusion) || is_nvfp4(desc->fusion);
    case TCW_SLOT_SCALE_OUT:
        return is_nvfp4(desc->fusion);
    default:
        return 0;
    }
}

static uint64_t all_reduce_bytes(const struct tcw_plan_desc *desc, uint64_t tokens, unsigned slot)
{
    uint64_t element = tcw_dtype_bytes(desc->dtype);

    switch (slot) {
    case TCW_SLOT_NORM_WEIGHT:
    case TCW_SLOT_BIAS:
        return desc->hidden * element;
    case TCW_SLOT_SCALE:
        return sizeof(float);
    case TCW_SLOT_QUANT_OUT:
        return is_fp8(desc->fusion) ? tokens * desc->hidden : tokens * (desc->hidden / 2);
    case TCW_SLOT_SCALE_OUT:
        return round_up(tokens, 128) * round_up(desc->hidden / 16, 4);
    default:
        return tokens * desc->hidden * element;
    }
}

/* List position of the index-th present tensor. */
static const struct tcw_tensor *present_tensor(const struct tcw_plan_desc *desc, uint32_t index)
{
    uint32_t i;

    for (i = 0; i < desc->tensor_count; i++)
        if (desc->tensors[i].present && !index--)
            return &desc->tensors[i];
    return NULL;
}

static uint32_t present_count(const struct tcw_plan_desc *desc)
{
    uint32_t count = 0, i;

    for (i = 0; i < desc->tensor_count; i++)
        count += desc->tensors[i].present;
    return count;
}

uint32_t tcw_plan_slot_count(const struct tcw_plan_desc *desc, uint32_t nranks, unsigned slot)
{
    if (tcw_op_has_tokens(desc->op))
        return (uint32_t)all_reduce_uses(desc, slot);
    if (slot == TCW_SLOT_IN)
        return present_count(desc) * (desc->op == TCW_OP_ALL_TO_ALL ? nranks : 1);
    if (slot == TCW_SLOT_OUT)
        return present_count(desc);
    return 0;
}

/* This rank's extent and that of all ranks together, along the dimension that is gathered. */
static uint64_t own_extent(const struct tcw_plan_desc *desc, const struct tcw_tensor *tensor, uint32_t rank, uint64_t tokens)
{
    if (desc->flags & TCW_PLAN_SIZES)
        return desc->sizes[rank];
    return tokens ? tokens : tensor->extent;
}

static uint64_t all_extents(const struct tcw_plan_desc *desc, const struct tcw_tensor *tensor, uint32_t nranks, uint64_t tokens)
{
    uint64_t sum = 0;
    uint32_t i;

    for (i = 0; i < nranks; i++)
        sum += own_extent(desc, tensor, i, tokens);
    return sum;
}

uint64_t tcw_plan_slot_bytes(const struct tcw_plan_desc *desc, uint32_t nranks, uint32_t rank, uint64_t tokens, unsigned slot,
                             uint32_t index)
{
    const struct tcw_tensor *tensor;
    uint64_t unit, own;

    if (index >= tcw_plan_slot_count(desc, nranks, slot))
        return 0;
    if (tcw_op_has_tokens(desc->op))
        return all_reduce_bytes(desc, tokens, slot);
    tensor = present_tensor(desc, desc->op == TCW_OP_ALL_TO_ALL && slot == TCW_SLOT_IN ? index / nranks : index);
    if (!tensor)
        return 0;
    unit = tensor->outer * tensor->inner * tcw_dtype_bytes(tensor->dtype);
    switch (desc->op) {
    case TCW_OP_ALL_GATHER:
    case TCW_OP_REDUCE_SCATTER:
        own = own_extent(desc, tensor, rank, tokens);
        return unit * ((desc->op == TCW_OP_ALL_GATHER) == (slot == TCW_SLOT_IN) ? own : all_extents(desc, tensor, nranks, tokens));
    case TCW_OP_ALL_TO_ALL:
        return slot == TCW_SLOT_IN ? unit : unit * nranks;
    default: /* broadcast: `in` counts on the root only */
        return slot == TCW_SLOT_IN && rank != desc->root ? 0 : unit;
    }
}

uint64_t tcw_plan_message_bytes(const struct tcw_plan_desc *desc, uint32_t nranks, uint32_t rank, uint64_t tokens)
{
    uint64_t in = 0, out = 0;
    uint32_t i;

    if (tcw_op_has_tokens(desc->op))
        return all_reduce_bytes(desc, tokens, TCW_SLOT_IN);
    for (i = 0; i < tcw_plan_slot_count(desc, nranks, TCW_SLOT_IN); i++)
        in += tcw_plan_slot_bytes(desc, nranks, rank, tokens, TCW_SLOT_IN, i);
    for (i = 0; i < tcw_plan_slot_count(desc, nranks, TCW_SLOT_OUT); i++)
        out += tcw_plan_slot_bytes(desc, nranks, rank, tokens, TCW_SLOT_OUT, i);
    return in > out ? in : out;
}
