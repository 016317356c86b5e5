#include "descriptor.h"

#include "args.h"
#include "error.h"

#include <string.h>

#include <tck/comm.h>

static int refuse(const char *field, uint64_t found, const char *why)
{
    struct trtcoll_error *error;
    int code = tcc_fail(TRTCOLL_EINVAL, "%s is %llu: %s", field, (unsigned long long)found, why);

    error = tcc_error();
    error->mine = found;
    tcw_text_set(error->field, sizeof(error->field), field);
    return code;
}

/* The contract's fields are narrower than the public ones, so they are checked before they are cut. */
static int narrow(const char *field, uint32_t found, uint32_t count, uint16_t *to)
{
    if (found >= count)
        return refuse(field, found, "no such number is defined");
    *to = (uint16_t)found;
    return 0;
}

static int refuse_graph(const struct tcw_plan_desc *desc, const char *why)
{
    tcc_fail_plainly(TRTCOLL_ENOTSUP, why);
    tcc_error()->mine = desc->flags;
    tcw_text_set(tcc_error()->field, sizeof(tcc_error()->field), "flags");
    return TRTCOLL_ENOTSUP;
}

/* What the daemon and the device layer would say, said here: at once, and without the other ranks. */
static int check(const struct tcw_plan_desc *desc, tck_device_kind kind, uint32_t nranks)
{
    struct tcw_complaint complaint = {0};
    uint64_t bytes;
    int code = tcw_plan_desc_check(desc, nranks, &complaint);

    if (!code && desc->flags & TCW_PLAN_GRAPH && kind == TCK_DEVICE_HOST)
        return refuse_graph(desc, "host devices have no streams to capture: TRTCOLL_GRAPH is for groups on GPUs");
    if (!code)
        code = tck_plan_workspace(kind, desc, nranks, &bytes, &complaint);
    /* What our kernels do not know on GPUs, a library may do for the daemon: it will say. */
    if (code == TCW_ENOTSUP && kind == TCK_DEVICE_CUDA && desc->lane != TCW_LANE_DIRECT && tck_cuda_built())
        return 0;
    if (!code)
        return 0;
    complaint.text[sizeof(complaint.text) - 1] = 0;
    tcc_fail_plainly(code, complaint.text[0] ? complaint.text : trtcoll_error_text(code));
    tcc_error()->mine = complaint.mine;
    tcw_text_set(tcc_error()->field, sizeof(tcc_error()->field), complaint.field ? complaint.field : "");
    return code;
}

int tcc_describe_all_reduce(const struct trtcoll_all_reduce_desc *user, tck_device_kind kind, uint32_t nranks, struct tcw_plan_desc *desc)
{
    struct trtcoll_all_reduce_desc from;
    float eps;
    int code = tcc_args_in("desc", user, &from, sizeof(from));

    if (code)
        return code;
    memset(desc, 0, sizeof(*desc));
    desc->op = TCW_OP_ALL_REDUCE;
    if ((code = narrow("dtype", from.dtype, TCW_DTYPE_COUNT, &desc->dtype)) ||
        (code = narrow("redop", from.redop, TCW_REDOP_COUNT, &desc->redop)) ||
        (code = narrow("strategy", from.strategy, TCW_STRATEGY_COUNT, &desc->strategy)) ||
        (code = narrow("fusion", from.fusion, TCW_FUSION_COUNT, &desc->fusion)) ||
        (code = narrow("lane", from.lane, TCW_LANE_COUNT, &desc->lane)))
        return code;
    desc->flags = from.flags;
    if (desc->flags & ~(uint32_t)(TRTCOLL_ACC_FP32 | TRTCOLL_BIAS | TRTCOLL_GRAPH))
        return refuse("flags", desc->flags, "allowed are TRTCOLL_ACC_FP32, TRTCOLL_BIAS and TRTCOLL_GRAPH");
    eps = from.eps;
    if (desc->fusion != TCW_FUSION_NONE && eps == 0.0f)
        eps = 1e-6f;
    memcpy(&desc->eps_bits, &eps, sizeof(eps));
    desc->max_tokens = from.max_tokens;
    desc->hidden = from.hidden;
    return check(desc, kind, nranks);
}

/* Product of shape[from] to shape[to - 1]; larger than any allowed size if it overflows. */
static uint64_t volume(const struct trtcoll_tensor *tensor, uint32_t from, uint32_t to)
{
    uint64_t product = 1;
    uint32_t i;

    for (i = from; i < to; i++)
        if (__builtin_mul_overflow(product, tensor->shape[i], &product))
            product = tensor->shape[i] ? UINT64_MAX : 0;
    return product;
}

/* One entry of the caller's list; fields of an absent one do not matter. */
static int tensor_check(const struct trtcoll_tensor *tensor)
{
    if (tensor->present > 1)
        return refuse("tensors.present", tensor->present, "allowed: 0 or 1");
    if (!tensor->present)
        return 0;
    if (!tensor->ndim || tensor->ndim > 8)
        return refuse("tensors.ndim", tensor->ndim, "allowed: 1 to 8");
    if (tensor->reserved)
        return refuse("tensors.reserved", tensor->reserved, "must be 0");
    if (!tcw_dtype_bytes(tensor->dtype))
        return refuse("tensors.dtype", tensor->dtype, "no such type is defined");
    return 0;
}

/* This operation's part of shape[dim]: checked against `sizes`, or divided among the ranks. */
static int extent_of(const struct tcw_plan_desc *desc, uint64_t along, uint32_t nranks, uint32_t rank, uint64_t *extent)
{
    uint64_t sum = 0;
    uint32_t i;

    *extent = 0;
    if (desc->flags & TCW_PLAN_SIZES) {
        for (i = 0; i < nranks; i++)
            if (__builtin_add_overflow(sum, desc->sizes[i], &sum))
                sum = UINT64_MAX;
        if (desc->op == TCW_OP_ALL_GATHER && along != desc->sizes[rank])
            return refuse("tensors.shape", along, "all-gather with sizes needs shape[dim] equal to this rank's size");
        if (desc->op == TCW_OP_REDUCE_SCATTER && along != sum)
            return refuse("tensors.shape", along, "reduce-scatter with sizes needs shape[dim] equal to the sum of sizes");
        return 0;
    }
    if (desc->op == TCW_OP_REDUCE_SCATTER && along % nranks)
        return refuse("tensors.shape", along, "reduce-scatter without sizes needs shape[dim] divisible by the number of ranks");
    *extent = desc->op == TCW_OP_REDUCE_SCATTER ? along / nranks : along;
    return 0;
}

static int gather_tensor(const struct trtcoll_tensor *from, int32_t dim, uint32_t nranks, uint32_t rank, struct tcw_plan_desc *desc,
                         struct tcw_tensor *to)
{
    uint32_t at;
    int code = tensor_check(from);

    if (code || !from->present)
        return code;
    if (dim >= (int64_t)from->ndim || dim < -(int64_t)from->ndim)
        return tcc_fail(TRTCOLL_EINVAL, "dim is %d, allowed for a tensor of %u dimensions: %d to %u", dim, from->ndim, -(int)from->ndim,
                        from->ndim - 1);
    at = (uint32_t)(dim < 0 ? dim + (int32_t)from->ndim : dim);
    to->present = 1;
    to->dtype = from->dtype;
    to->outer = volume(from, 0, at);
    to->inner = volume(from, at + 1, from->ndim);
    return extent_of(desc, from->shape[at], nranks, rank, &to->extent);
}

static int list_check(uint32_t count, const struct trtcoll_tensor *tensors, const char *field)
{
    if (!count || count > TCW_MAX_TENSORS)
        return refuse(field, count, "allowed: 1 to 16");
    if (!tensors)
        return tcc_fail_plainly(TRTCOLL_EINVAL, "desc.tensors is NULL: the shapes are missing");
    return 0;
}

int tcc_describe_gather(const struct trtcoll_gather_desc *user, tcw_op op, tck_device_kind kind, uint32_t nranks, uint32_t rank,
                        struct tcw_plan_desc *desc)
{
    struct trtcoll_gather_desc from;
    uint32_t i;
    int code = tcc_args_in("desc", user, &from, sizeof(from));

    if (code)
        return code;
    memset(desc, 0, sizeof(*desc));
    desc->op = (uint16_t)op;
    desc->strategy = TCW_STRATEGY_AUTO;
    if ((code = narrow("lane", from.lane, TCW_LANE_COUNT, &desc->lane)) ||
        (code = narrow("redop", from.redop, TCW_REDOP_COUNT, &desc->redop)) ||
        (code = list_check(from.tensor_count, from.tensors, "tensor_count")))
        return code;
    if (from.flags & ~(uint32_t)TRTCOLL_GRAPH)
        return refuse("flags", from.flags, "allowed is TRTCOLL_GRAPH");
    desc->flags = from.flags;
    desc->tensor_count = from.tensor_count;
    if (from.sizes) {
        desc->flags |= TCW_PLAN_SIZES;
        memcpy(desc->sizes, from.sizes, nranks * sizeof(*from.sizes));
    }
    for (i = 0; i < from.tensor_count; i++) {
        code = gather_tensor(&from.tensors[i], from.dim, nranks, rank, desc, &desc->tensors[i]);
        if (code)
            return code;
    }
    return check(desc, kind, nranks);
}

int tcc_describe_all_to_all(const struct trtcoll_all_to_all_desc *user, tck_device_kind kind, uint32_t nranks, struct tcw_plan_desc *desc)
{
    struct trtcoll_all_to_all_desc from;
    uint32_t i;
    int code = tcc_args_in("desc", user, &from, sizeof(from));

    if (code)
        return code;
    memset(desc, 0, sizeof(*desc));
    desc->op = TCW_OP_ALL_TO_ALL;
    desc->strategy = TCW_STRATEGY_AUTO;
    if ((code = narrow("lane", from.lane, TCW_LANE_COUNT, &desc->lane)) || (code = list_check(from.list_count, from.tensors, "list_count")))
        return code;
    if (from.flags & ~(uint32_t)TRTCOLL_GRAPH)
        return refuse("flags", from.flags, "allowed is TRTCOLL_GRAPH");
    desc->flags = from.flags;
    desc->tensor_count = from.list_count;
    for (i = 0; i < from.list_count; i++) {
        struct tcw_tensor *to = &desc->tensors[i];

        code = tensor_check(&from.tensors[i]);
        if (code)
            return code;
        if (!from.tensors[i].present)
            continue;
        to->present = 1;
        to->dtype = from.tensors[i].dtype;
        to->outer = 1;
        to->extent = 1;
        to->inner = volume(&from.tensors[i], 0, from.tensors[i].ndim);
    }
    return check(desc, kind, nranks);
}

int tcc_describe_broadcast(const struct trtcoll_broadcast_desc *user, tck_device_kind kind, uint32_t nranks, struct tcw_plan_desc *desc)
{
    struct trtcoll_broadcast_desc from;
    int code = tcc_args_in("desc", user, &from, sizeof(from));

    if (code)
        return code;
    memset(desc, 0, sizeof(*desc));
    desc->op = TCW_OP_BROADCAST;
    desc->strategy = TCW_STRATEGY_AUTO;
    if ((code = narrow("lane", from.lane, TCW_LANE_COUNT, &desc->lane)))
        return code;
    if (from.flags & ~(uint32_t)TRTCOLL_GRAPH)
        return refuse("flags", from.flags, "allowed is TRTCOLL_GRAPH");
    if (from.reserved)
        return refuse("reserved", from.reserved, "must be 0");
    desc->flags = from.flags;
    desc->root = from.root;
    desc->tensor_count = 1;
    desc->tensors[0] = (struct tcw_tensor){.outer = 1, .extent = 1, .inner = from.count, .dtype = from.dtype, .present = 1};
    return check(desc, kind, nranks);
}

int tcc_describe_barrier(const struct trtcoll_barrier_desc *user, tck_device_kind kind, uint32_t nranks, struct tcw_plan_desc *desc)
{
    struct trtcoll_barrier_desc from;
    int code = tcc_args_in("desc", user, &from, sizeof(from));

    if (code)
        return code;
    memset(desc, 0, sizeof(*desc));
    desc->op = TCW_OP_BARRIER;
    desc->strategy = TCW_STRATEGY_AUTO;
    if ((code = narrow("lane", from.lane, TCW_LANE_COUNT, &desc->lane)))
        return code;
    if (from.flags & ~(uint32_t)TRTCOLL_GRAPH)
        return refuse("flags", from.flags, "allowed is TRTCOLL_GRAPH");
    if (from.reserved)
        return refuse("reserved", from.reserved, "must be 0");
    desc->flags = from.flags;
    return check(desc, kind, nranks);
}

int tcc_describe_finalize(const struct trtcoll_finalize_desc *user, tck_device_kind kind, uint32_t nranks, struct tcw_plan_desc *desc)
{
    struct trtcoll_finalize_desc from;
    int code = tcc_args_in("desc", user, &from, sizeof(from));

    if (code)
        return code;
    memset(desc, 0, sizeof(*desc));
    desc->op = TCW_OP_UB_FINALIZE;
    desc->strategy = TCW_STRATEGY_AUTO;
    if ((code = narrow("dtype", from.dtype, TCW_DTYPE_COUNT, &desc->dtype)) ||
        (code = narrow("lane", from.lane, TCW_LANE_COUNT, &desc->lane)))
        return code;
    if (from.flags & ~(uint32_t)(TRTCOLL_FORCE | TRTCOLL_GRAPH))
        return refuse("flags", from.flags, "allowed are TRTCOLL_FORCE and TRTCOLL_GRAPH");
    desc->flags = from.flags;
    desc->max_tokens = from.max_tokens;
    desc->hidden = from.hidden;
    return check(desc, kind, nranks);
}
