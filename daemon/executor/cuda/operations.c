#include "operations.h"

#include <stdio.h>
#include <string.h>

enum { ALIGN = 256, KERNEL_ALIGN = 16 };

static uint64_t round_up(uint64_t value)
{
    return (value + ALIGN - 1) / ALIGN * ALIGN;
}

static CUstream stream_of(const struct tcd_cuda_operation *operation)
{
    return operation->stream;
}

static struct tcd_library_comm *library_of(const struct tcd_cuda_operation *operation)
{
    return operation->communicator->library;
}

/* What the library has begun to enqueue is in the stream when this returns: only then may something follow. */
static int settle(const struct tcd_cuda_operation *operation, int rc)
{
    if (rc < 0)
        return rc;
    return tcd_cuda_communicator_settle(operation->communicator, operation->until_ns, operation->abort_word, operation->text);
}

bool tcd_cuda_operation_is_library(const struct tcw_plan_desc *desc, uint32_t strategy)
{
    return desc->op != TCW_OP_ALL_REDUCE || strategy == TCW_STRATEGY_NCCL || strategy == TCW_STRATEGY_NCCL_SYMMETRIC;
}

static int copy(const struct tcd_cuda_operation *operation, void *target, const void *source, uint64_t bytes)
{
    CUresult result =
        tck_cuda_driver()->cuMemcpyAsync((CUdeviceptr)(uintptr_t)target, (CUdeviceptr)(uintptr_t)source, bytes, stream_of(operation));
    if (result != CUDA_SUCCESS)
        tck_cuda_text(result, operation->text, TCW_TEXT_BYTES);
    return tck_cuda_code(result);
}

/* ---- the middle dimension of all-gather and reduce-scatter ---- */

struct extents {
    uint64_t line; /* bytes of one index of the middle dimension */
    uint64_t total;
    uint64_t at[TCW_MAX_RANKS], of[TCW_MAX_RANKS];
    bool equal;
};

static void measure(const struct tcw_plan_desc *desc, const struct tcw_tensor *tensor, uint64_t tokens, uint32_t nranks,
                    struct extents *extents)
{
    extents->line = tensor->inner * tcw_dtype_bytes(tensor->dtype);
    extents->total = 0;
    extents->equal = true;
    for (uint32_t i = 0; i < nranks; ++i) {
        extents->at[i] = extents->total;
        extents->of[i] = desc->flags & TCW_PLAN_SIZES ? desc->sizes[i] : tokens ? tokens : tensor->extent;
        extents->total += extents->of[i];
        extents->equal &= extents->of[i] == extents->of[0];
    }
}

/* Pieces of all ranks lie one behind the other only if nothing is outside of the dimension along which they are concatenated. */
static bool needs_packing(const struct tcw_tensor *tensor)
{
    return tensor->outer > 1;
}

/* Copies between a tensor [outer, total, inner] and its pieces [rank][outer, of[rank], inner], collected into few launches. */
struct packing {
    const struct tcd_cuda_operation *operation;
    struct tck_cuda_box boxes[TCK_CUDA_MAX_BOXES];
    unsigned count;
    int code;
};

static void flush(struct packing *packing)
{
    if (packing->count && packing->code == 0) {
        packing->code = tck_cuda_copy_launch(packing->operation->device, packing->boxes, packing->count, stream_of(packing->operation));
        if (packing->code < 0)
            snprintf(packing->operation->text, TCW_TEXT_BYTES, "the copies of %u pieces cannot be launched: %s", packing->count,
                     tcw_error_text(packing->code));
    }
    packing->count = 0;
}

static void pack(struct packing *packing, const struct tcw_tensor *tensor, const struct extents *extents, unsigned char *whole,
                 unsigned char *pieces, uint32_t nranks, bool gather)
{
    for (uint32_t i = 0; i < nranks; ++i) {
        uint64_t row = extents->of[i] * extents->line, pitch = extents->total * extents->line;
        unsigned char *in_whole = whole + extents->at[i] * extents->line,
                      *in_pieces = pieces + tensor->outer * extents->at[i] * extents->line;
        if (!row)
            continue;
        packing->boxes[packing->count++] = (struct tck_cuda_box){
            .source = gather ? in_pieces : in_whole,
            .target = gather ? in_whole : in_pieces,
            .source_pitch = gather ? row : pitch,
            .target_pitch = gather ? pitch : row,
            .row_bytes = row,
            .rows = tensor->outer,
        };
        if (packing->count == TCK_CUDA_MAX_BOXES)
            flush(packing);
    }
}

/* ---- all-gather ---- */

static int gather_pieces(const struct tcd_cuda_operation *operation, const struct tcw_tensor *tensor, const struct extents *extents,
                         const void *in, unsigned char *pieces)
{
    uint64_t unit = tensor->outer * extents->line;
    int rc = 0;
    if (!extents->total || !unit)
        return 0;
    if (extents->equal)
        return tcd_library_all_gather(library_of(operation), in, pieces, extents->of[0] * unit, stream_of(operation), operation->text);
    for (uint32_t i = 0; i < operation->communicator->nranks && rc == 0; ++i) {
        unsigned char *piece = pieces + extents->at[i] * unit;
        if (extents->of[i])
            rc = tcd_library_broadcast(library_of(operation), i == operation->communicator->rank ? in : piece, piece, extents->of[i] * unit,
                                       i, stream_of(operation), operation->text);
    }
    return rc;
}

static int end_group(const struct tcd_cuda_operation *operation, int rc)
{
    char ignored[TCW_TEXT_BYTES];
    int end = tcd_library_group_end(rc < 0 ? ignored : operation->text);
    return rc < 0 ? rc : settle(operation, end);
}

static int all_gather(const struct tcd_cuda_operation *operation)
{
    const struct tck_run *run = operation->run;
    const struct tcw_plan_desc *desc = run->desc;
    uint32_t nranks = operation->communicator->nranks, buffer = 0;
    struct packing packing = {.operation = operation};
    unsigned char *scratch = operation->scratch;
    struct extents extents;
    int rc = tcd_library_group_begin(operation->text);
    if (rc < 0)
        return rc;
    for (uint32_t t = 0; t < desc->tensor_count && rc == 0; ++t) {
        const struct tcw_tensor *tensor = &desc->tensors[t];
        if (!tensor->present)
            continue;
        measure(desc, tensor, run->tokens, nranks, &extents);
        rc = gather_pieces(operation, tensor, &extents, run->in[buffer], needs_packing(tensor) ? scratch : run->out[buffer]);
        if (needs_packing(tensor))
            scratch += round_up(tensor->outer * extents.total * extents.line);
        ++buffer;
    }
    rc = end_group(operation, rc);
    scratch = operation->scratch;
    buffer = 0;
    for (uint32_t t = 0; t < desc->tensor_count && rc == 0; ++t) {
        const struct tcw_tensor *tensor = &desc->tensors[t];
        if (!tensor->present)
            continue;
        if (needs_packing(tensor)) {
            measure(desc, tensor, run->tokens, nranks, &extents);
            pack(&packing, tensor, &extents, run->out[buffer], scratch, nranks, true);
            scratch += round_up(tensor->outer * extents.total * extents.line);
        }
        ++buffer;
    }
    flush(&packing);
    return rc < 0 ? rc : packing.code;
}

/* ---- reduce-scatter ---- */

static int scatter_pieces(const struct tcd_cuda_operation *operation, const struct tcw_tensor *tensor, const struct extents *extents,
                          const unsigned char *pieces, void *out)
{
    unsigned redop = operation->run->desc->redop;
    uint64_t unit = tensor->outer * extents->line, size = tcw_dtype_bytes(tensor->dtype);
    int rc = 0;
    if (!extents->total || !unit)
        return 0;
    if (extents->equal)
        return tcd_library_reduce_scatter(library_of(operation), pieces, out, extents->of[0] * unit / size, tensor->dtype, redop,
                                          stream_of(operation), operation->text);
    for (uint32_t i = 0; i < operation->communicator->nranks && rc == 0; ++i)
        if (extents->of[i])
            rc = tcd_library_reduce(library_of(operation), pieces + extents->at[i] * unit, out, extents->of[i] * unit / size, tensor->dtype,
                                    redop, i, stream_of(operation), operation->text);
    return rc;
}

static int reduce_scatter(const struct tcd_cuda_operation *operation)
{
    const struct tck_run *run = operation->run;
    const struct tcw_plan_desc *desc = run->desc;
    uint32_t nranks = operation->communicator->nranks, buffer = 0;
    struct packing packing = {.operation = operation};
    unsigned char *scratch = operation->scratch;
    struct extents extents;
    for (uint32_t t = 0; t < desc->tensor_count; ++t) {
        const struct tcw_tensor *tensor = &desc->tensors[t];
        if (!tensor->present)
            continue;
        if (needs_packing(tensor)) {
            measure(desc, tensor, run->tokens, nranks, &extents);
            pack(&packing, tensor, &extents, (unsigned char *)(uintptr_t)run->in[buffer], scratch, nranks, false);
            scratch += round_up(tensor->outer * extents.total * extents.line);
        }
        ++buffer;
    }
    flush(&packing);
    if (packing.code < 0)
        return packing.code;
    int rc = tcd_library_group_begin(operation->text);
    if (rc < 0)
        return rc;
    scratch = operation->scratch;
    buffer = 0;
    for (uint32_t t = 0; t < desc->tensor_count && rc == 0; ++t) {
        const struct tcw_tensor *tensor = &desc->tensors[t];
        if (!tensor->present)
            continue;
        measure(desc, tensor, run->tokens, nranks, &extents);
        rc = scatter_pieces(operation, tensor, &extents, needs_packing(tensor) ? scratch : run->in[buffer], run->out[buffer]);
        if (needs_packing(tensor))
            scratch += round_up(tensor->outer * extents.total * extents.line);
        ++buffer;
    }
    return end_group(operation, rc);
}

/* ---- the others that only move ---- */

static int all_to_all(const struct tcd_cuda_operation *operation)
{
    const struct tck_run *run = operation->run;
    uint32_t nranks = operation->communicator->nranks, list = 0;
    int rc = tcd_library_group_begin(operation->text);
    if (rc < 0)
        return rc;
    for (uint32_t t = 0; t < run->desc->tensor_count && rc == 0; ++t) {
        const struct tcw_tensor *tensor = &run->desc->tensors[t];
        if (!tensor->present)
            continue;
        uint64_t bytes = tensor->outer * tensor->extent * tensor->inner * tcw_dtype_bytes(tensor->dtype);
        const void *const *in = run->in + (uint64_t)list * nranks;
        unsigned char *out = run->out[list++];
        for (uint32_t i = 0; i < nranks && bytes && rc == 0; ++i) {
            rc = tcd_library_send(library_of(operation), in[i], bytes, i, stream_of(operation), operation->text);
            if (rc == 0)
                rc = tcd_library_receive(library_of(operation), out + i * bytes, bytes, i, stream_of(operation), operation->text);
        }
    }
    return end_group(operation, rc);
}

static int broadcast(const struct tcd_cuda_operation *operation)
{
    const struct tck_run *run = operation->run;
    const struct tcw_tensor *tensor = &run->desc->tensors[0];
    uint64_t bytes = tensor->outer * tensor->extent * tensor->inner * tcw_dtype_bytes(tensor->dtype);
    bool is_root = operation->communicator->rank == run->desc->root;
    if (!bytes)
        return 0;
    int rc = tcd_library_broadcast(library_of(operation), is_root ? run->in[0] : run->out[0], run->out[0], bytes, run->desc->root,
                                   stream_of(operation), operation->text);
    return settle(operation, rc);
}

/* The shards lie in the message one behind the other, the last ranks' a token shorter. */
static int finalize(const struct tcd_cuda_operation *operation)
{
    const struct tck_run *run = operation->run;
    const struct tcd_cuda_communicator *communicator = operation->communicator;
    uint64_t row = run->desc->hidden * tcw_dtype_bytes(run->desc->dtype);
    const unsigned char *in = run->in[0];
    unsigned char *out = run->out[0];
    if (tcw_finalize_is_local(run->desc, communicator->nranks, run->tokens))
        return in == out ? 0 : copy(operation, out, in, run->tokens * row);
    int rc = tcd_library_group_begin(operation->text);
    if (rc < 0)
        return rc;
    for (uint32_t i = 0; i < communicator->nranks && rc == 0; ++i) {
        uint64_t at = tcw_shard_first(run->tokens, communicator->nranks, i) * row;
        uint64_t bytes = tcw_shard_first(run->tokens, communicator->nranks, i + 1) * row - at;
        if (bytes)
            rc = tcd_library_broadcast(library_of(operation), i == communicator->rank ? in + at : out + at, out + at, bytes, i,
                                       stream_of(operation), operation->text);
    }
    return end_group(operation, rc);
}

/* Nobody's sum is there before everybody has come. */
static int barrier(const struct tcd_cuda_operation *operation)
{
    void *small = operation->communicator->small.base;
    return settle(operation, tcd_library_all_reduce(library_of(operation), small, small, 1, TCW_INT32, TCW_SUM, stream_of(operation),
                                                    operation->text));
}

/* ---- all-reduce ---- */

static bool has_epilogue(const struct tcw_plan_desc *desc)
{
    return desc->fusion != TCW_FUSION_NONE || desc->flags & TCW_PLAN_BIAS;
}

/* Whether the sum can be made where the result goes. The forms that write no norm have no such place. */
static bool has_out(const struct tcw_plan_desc *desc)
{
    return desc->fusion != TCW_FUSION_RESIDUAL_RMS_NORM_QUANT_FP8 && desc->fusion != TCW_FUSION_RESIDUAL_RMS_NORM_QUANT_NVFP4;
}

/* Through the window, which the library reaches on all ranks at once. A message that does not fit goes in pieces. */
static int sum_in_window(const struct tcd_cuda_operation *operation, unsigned char *out, uint64_t bytes)
{
    const struct tcw_plan_desc *desc = operation->run->desc;
    const unsigned char *in = operation->run->in[0];
    const struct tcd_cuda_communicator *communicator = operation->communicator;
    unsigned char *result = communicator->window + communicator->window_bytes;
    int rc = 0;
    for (uint64_t at = 0; at < bytes && rc == 0; at += communicator->window_bytes) {
        uint64_t piece = bytes - at < communicator->window_bytes ? bytes - at : communicator->window_bytes;
        rc = copy(operation, communicator->window, in + at, piece);
        if (rc == 0)
            rc = tcd_library_all_reduce(library_of(operation), communicator->window, result, piece / tcw_dtype_bytes(desc->dtype),
                                        desc->dtype, desc->redop, stream_of(operation), operation->text);
        rc = settle(operation, rc);
        if (rc == 0)
            rc = copy(operation, out + at, result, piece);
    }
    return rc;
}

static uint64_t message_bytes(const struct tck_run *run)
{
    return run->tokens * run->desc->hidden * tcw_dtype_bytes(run->desc->dtype);
}

static bool is_aligned(const void *address)
{
    return (uintptr_t)address % KERNEL_ALIGN == 0;
}

/* A sum in buffers that kernels cannot take: a copy there and one back with every launch. */
static bool is_staged(const struct tck_run *run)
{
    return !has_epilogue(run->desc) && !(is_aligned(run->in[0]) && is_aligned(run->out[0]));
}

/* 1: it tells the end. */
static int run_kernel(const struct tcd_cuda_operation *operation)
{
    const struct tck_run *run = operation->run;
    int rc = is_staged(run) ? tck_cuda_comm_launch_staged(operation->kernels, run, stream_of(operation), operation->scratch)
                            : tck_cuda_comm_launch_telling(operation->kernels, run, stream_of(operation), operation->end);
    if (rc < 0)
        snprintf(operation->text, TCW_TEXT_BYTES, "the kernel of strategy %s cannot be launched: %s", tcw_strategy_name(run->strategy),
                 tcw_error_text(rc));
    return rc;
}

static int all_reduce(const struct tcd_cuda_operation *operation)
{
    const struct tck_run *run = operation->run;
    const struct tcw_plan_desc *desc = run->desc;
    uint64_t bytes = message_bytes(run), count = run->tokens * desc->hidden;
    if (!tcd_cuda_operation_is_library(desc, run->strategy))
        return run_kernel(operation);
    unsigned char *sum = has_out(desc) ? run->out[0] : operation->scratch;
    int rc = run->strategy == TCW_STRATEGY_NCCL_SYMMETRIC
                 ? sum_in_window(operation, sum, bytes)
                 : settle(operation, tcd_library_all_reduce(library_of(operation), run->in[0], sum, count, desc->dtype, desc->redop,
                                                            stream_of(operation), operation->text));
    if (rc < 0 || !has_epilogue(desc))
        return rc;
    rc = tck_cuda_epilogue_launch(operation->device, run, sum, stream_of(operation));
    if (rc < 0)
        snprintf(operation->text, TCW_TEXT_BYTES, "the epilogue of %s cannot be launched: %s", tcw_fusion_name(desc->fusion),
                 tcw_error_text(rc));
    return rc;
}

/* ---- all of them ---- */

/* What launches of our kernels may have to stage, in the longest message that these get. */
static uint64_t staged_bytes(const struct tcw_plan_desc *desc, const struct tcw_decision *decision, uint64_t longest)
{
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < decision->step_count && !has_epilogue(desc); ++i)
        if (!tcd_cuda_operation_is_library(desc, decision->steps[i].strategy))
            bytes = decision->steps[i].max_bytes;
    bytes = bytes < longest ? bytes : longest;
    return bytes < TCK_CUDA_STAGED_BYTES ? bytes : TCK_CUDA_STAGED_BYTES;
}

uint64_t tcd_cuda_operation_scratch(const struct tcw_plan_desc *desc, const struct tcw_decision *decision, uint32_t nranks)
{
    uint64_t bytes = 0;
    if (desc->op == TCW_OP_ALL_REDUCE) {
        bytes = desc->max_tokens * desc->hidden * tcw_dtype_bytes(desc->dtype);
        return round_up(has_out(desc) ? staged_bytes(desc, decision, bytes) : bytes);
    }
    if (desc->op != TCW_OP_ALL_GATHER && desc->op != TCW_OP_REDUCE_SCATTER)
        return 0;
    for (uint32_t t = 0; t < desc->tensor_count; ++t) {
        const struct tcw_tensor *tensor = &desc->tensors[t];
        struct extents extents;
        if (!tensor->present || !needs_packing(tensor))
            continue;
        measure(desc, tensor, 0, nranks, &extents);
        bytes += round_up(tensor->outer * extents.total * extents.line);
    }
    return bytes;
}

uint64_t tcd_cuda_operation_pieces(const struct tcd_cuda_operation *operation)
{
    enum { WITH_COPIES = 3 };
    const struct tck_run *run = operation->run;
    if (run->desc->op != TCW_OP_ALL_REDUCE)
        return WITH_COPIES;
    if (!tcd_cuda_operation_is_library(run->desc, run->strategy))
        return tck_cuda_comm_launches(operation->kernels, run) * (is_staged(run) ? WITH_COPIES : 1);
    if (run->strategy != TCW_STRATEGY_NCCL_SYMMETRIC || !operation->communicator->window_bytes)
        return WITH_COPIES;
    return WITH_COPIES * (1 + message_bytes(run) / operation->communicator->window_bytes);
}

int tcd_cuda_operation_check(const struct tck_run *run, char *text)
{
    if (run->desc->op != TCW_OP_ALL_REDUCE || !has_epilogue(run->desc))
        return 0;
    const struct {
        const void *address;
        tcw_slot slot;
    } buffers[] = {
        {run->in[0], TCW_SLOT_IN},
        {has_out(run->desc) ? run->out[0] : NULL, TCW_SLOT_OUT},
        {run->residual_in, TCW_SLOT_RESIDUAL_IN},
        {run->residual_out, TCW_SLOT_RESIDUAL_OUT},
        {run->norm_weight, TCW_SLOT_NORM_WEIGHT},
        {run->bias, TCW_SLOT_BIAS},
        {run->quant_out, TCW_SLOT_QUANT_OUT},
        {run->scale_out, TCW_SLOT_SCALE_OUT},
    };
    for (unsigned i = 0; i < sizeof buffers / sizeof buffers[0]; ++i)
        if (!is_aligned(buffers[i].address)) {
            snprintf(text, TCW_TEXT_BYTES, "buffer %s is not aligned to %d bytes, which strategy %s with fusion %s needs",
                     tcw_slot_name(buffers[i].slot), KERNEL_ALIGN, tcw_strategy_name(run->strategy), tcw_fusion_name(run->desc->fusion));
            return TCW_EINVAL;
        }
    return 0;
}

int tcd_cuda_operation_enqueue(const struct tcd_cuda_operation *operation)
{
    switch (operation->run->desc->op) {
    case TCW_OP_ALL_REDUCE:
        return all_reduce(operation);
    case TCW_OP_ALL_GATHER:
        return all_gather(operation);
    case TCW_OP_REDUCE_SCATTER:
        return reduce_scatter(operation);
    case TCW_OP_ALL_TO_ALL:
        return all_to_all(operation);
    case TCW_OP_BROADCAST:
        return broadcast(operation);
    case TCW_OP_BARRIER:
        return barrier(operation);
    case TCW_OP_UB_FINALIZE:
        return finalize(operation);
    default:
        snprintf(operation->text, TCW_TEXT_BYTES, "operation %u", operation->run->desc->op);
        return TCW_ENOSYS;
    }
}
