/* Stream memory operations: words that streams write, and wait for as a GPU does, by looking. */
#include "memory.h"
#include "stream.h"

#include <stdlib.h>
#include <string.h>

struct words {
    struct fake_op op;
    unsigned count;
    CUstreamBatchMemOpParams params[];
};

static uint64_t load(CUdeviceptr address, bool wide)
{
    return wide ? __atomic_load_n((uint64_t *)(uintptr_t)address, __ATOMIC_SEQ_CST)
                : __atomic_load_n((uint32_t *)(uintptr_t)address, __ATOMIC_SEQ_CST);
}

static bool satisfied(uint64_t found, uint64_t wanted, bool wide, unsigned flags)
{
    switch (flags & 3) {
    case CU_STREAM_WAIT_VALUE_GEQ: /* cyclic */
        return wide ? (int64_t)(found - wanted) >= 0 : (int32_t)((uint32_t)found - (uint32_t)wanted) >= 0;
    case CU_STREAM_WAIT_VALUE_EQ:
        return found == wanted;
    case CU_STREAM_WAIT_VALUE_AND:
        return (found & wanted) != 0;
    default: /* NOR */
        return ~(found | wanted) & (wide ? UINT64_MAX : UINT32_MAX);
    }
}

static bool has_faulted(const struct fake_context *context)
{
    bool faulted;
    fake_lock();
    faulted = context->fault != CUDA_SUCCESS;
    fake_unlock();
    return faulted;
}

static CUresult wait_for(const CUstreamBatchMemOpParams *params, bool wide, const struct fake_context *context)
{
    uint64_t wanted = wide ? params->waitValue.value64 : params->waitValue.value;
    unsigned naps = 0;
    CUresult result =
        fake_memory_touch(context, "wait for a word", (void *)(uintptr_t)params->waitValue.address, wide ? 8 : 4, false, false);
    if (result)
        return result;
    while (!satisfied(load(params->waitValue.address, wide), wanted, wide, params->waitValue.flags)) {
        fake_nap(&naps);
        if (has_faulted(context))
            break;
    }
    return CUDA_SUCCESS;
}

static CUresult write_to(const CUstreamBatchMemOpParams *params, bool wide, const struct fake_context *context)
{
    void *word = (void *)(uintptr_t)params->writeValue.address;
    CUresult result = fake_memory_touch(context, "write a word", word, wide ? 8 : 4, true, false);
    if (result)
        return result;
    if (wide)
        __atomic_store_n((uint64_t *)word, params->writeValue.value64, __ATOMIC_SEQ_CST);
    else
        __atomic_store_n((uint32_t *)word, params->writeValue.value, __ATOMIC_SEQ_CST);
    return CUDA_SUCCESS;
}

static CUresult run_words(struct fake_op *op, struct fake_stream *stream)
{
    struct words *words = (struct words *)op;
    CUresult result = CUDA_SUCCESS;
    for (unsigned i = 0; i < words->count && !result; i++) {
        const CUstreamBatchMemOpParams *params = &words->params[i];
        switch (params->operation) {
        case CU_STREAM_MEM_OP_WAIT_VALUE_32:
        case CU_STREAM_MEM_OP_WAIT_VALUE_64:
            result = wait_for(params, params->operation == CU_STREAM_MEM_OP_WAIT_VALUE_64, stream->context);
            break;
        case CU_STREAM_MEM_OP_WRITE_VALUE_32:
        case CU_STREAM_MEM_OP_WRITE_VALUE_64:
            result = write_to(params, params->operation == CU_STREAM_MEM_OP_WRITE_VALUE_64, stream->context);
            break;
        default:
            __atomic_thread_fence(__ATOMIC_SEQ_CST);
        }
    }
    return result;
}

static CUresult check(const CUstreamBatchMemOpParams *params, const struct fake_context *context)
{
    bool wide = params->operation == CU_STREAM_MEM_OP_WAIT_VALUE_64 || params->operation == CU_STREAM_MEM_OP_WRITE_VALUE_64;
    CUdeviceptr address = params->waitValue.address; /* writeValue has it at the same place */
    switch (params->operation) {
    case CU_STREAM_MEM_OP_WAIT_VALUE_32:
    case CU_STREAM_MEM_OP_WAIT_VALUE_64:
    case CU_STREAM_MEM_OP_WRITE_VALUE_32:
    case CU_STREAM_MEM_OP_WRITE_VALUE_64:
        if (!address || address % (wide ? 8 : 4) || !fake_memory_reachable(context, (void *)(uintptr_t)address, wide ? 8 : 4, false, false))
            return CUDA_ERROR_INVALID_VALUE;
        return CUDA_SUCCESS;
    case CU_STREAM_MEM_OP_BARRIER:
        return CUDA_SUCCESS;
    default:
        return CUDA_ERROR_NOT_SUPPORTED;
    }
}

static CUresult submit(const char *function, CUstream handle, unsigned count, const CUstreamBatchMemOpParams *params)
{
    struct fake_stream *stream;
    struct words *words;
    CUresult result = fake_enter(function, FAKE_CONTEXT);
    if (result)
        return result;
    result = fake_stream_find(handle, &stream);
    if (!result && (!count || count > 256 || !params))
        result = CUDA_ERROR_INVALID_VALUE;
    for (unsigned i = 0; i < count && !result; i++)
        result = check(&params[i], stream->context);
    if (result)
        return fake_leave(result);
    words = fake_op_new(sizeof(*words) + count * sizeof(words->params[0]), run_words, NULL);
    words->count = count;
    memcpy(words->params, params, count * sizeof(words->params[0]));
    return fake_leave(fake_stream_submit(stream, &words->op));
}

CUresult cuStreamWriteValue32(CUstream handle, CUdeviceptr address, cuuint32_t value, unsigned int flags)
{
    CUstreamBatchMemOpParams params = {.writeValue = {CU_STREAM_MEM_OP_WRITE_VALUE_32, address, {.value = value}, flags, 0}};
    return submit("cuStreamWriteValue32", handle, 1, &params);
}

CUresult cuStreamWriteValue64(CUstream handle, CUdeviceptr address, cuuint64_t value, unsigned int flags)
{
    CUstreamBatchMemOpParams params = {.writeValue = {CU_STREAM_MEM_OP_WRITE_VALUE_64, address, {.value64 = value}, flags, 0}};
    return submit("cuStreamWriteValue64", handle, 1, &params);
}

CUresult cuStreamWaitValue32(CUstream handle, CUdeviceptr address, cuuint32_t value, unsigned int flags)
{
    CUstreamBatchMemOpParams params = {.waitValue = {CU_STREAM_MEM_OP_WAIT_VALUE_32, address, {.value = value}, flags, 0}};
    return submit("cuStreamWaitValue32", handle, 1, &params);
}

CUresult cuStreamWaitValue64(CUstream handle, CUdeviceptr address, cuuint64_t value, unsigned int flags)
{
    CUstreamBatchMemOpParams params = {.waitValue = {CU_STREAM_MEM_OP_WAIT_VALUE_64, address, {.value64 = value}, flags, 0}};
    return submit("cuStreamWaitValue64", handle, 1, &params);
}

CUresult cuStreamBatchMemOp(CUstream handle, unsigned int count, CUstreamBatchMemOpParams *params, unsigned int flags)
{
    return flags ? CUDA_ERROR_INVALID_VALUE : submit("cuStreamBatchMemOp", handle, count, params);
}
