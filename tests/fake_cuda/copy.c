/* Copies and fills. Pageable host memory is copied as the driver does it: from there at the call, to there before the call returns. */
#include "memory.h"
#include "stream.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { PAGE = 4096, CACHED_BYTES = 16 << 10, MANY_BYTES = 1 << 20 };

struct copy {
    struct fake_op op;
    unsigned char *target;
    const unsigned char *source;
    size_t target_pitch, source_pitch, row_bytes, rows;
    unsigned char *staged; /* or NULL */
};

struct fill {
    struct fake_op op;
    unsigned char *target;
    size_t count;
    unsigned width;
    uint32_t value;
};

static uint64_t span(size_t pitch, size_t row_bytes, size_t rows)
{
    return rows && row_bytes ? (uint64_t)pitch * (rows - 1) + row_bytes : 0;
}

static CUresult run_copy(struct fake_op *op, struct fake_stream *stream)
{
    struct copy *copy = (struct copy *)op;
    CUresult result =
        fake_memory_touch(stream->context, "copy", copy->target, span(copy->target_pitch, copy->row_bytes, copy->rows), true, true);
    if (!result)
        result =
            fake_memory_touch(stream->context, "copy", copy->source, span(copy->source_pitch, copy->row_bytes, copy->rows), false, true);
    for (size_t row = 0; row < copy->rows && !result; row++)
        memmove(copy->target + row * copy->target_pitch, copy->source + row * copy->source_pitch, copy->row_bytes);
    return result;
}

static void destroy_copy(struct fake_op *op)
{
    free(((struct copy *)op)->staged);
}

static bool pageable(const void *address)
{
    return !fake_mapping_find((uintptr_t)address);
}

/* Lock held; `copy` says what, the rest is made here. `waits`: a synchronous call. */
static CUresult submit_copy(struct fake_stream *stream, const struct copy *what, bool waits)
{
    uint64_t bytes = span(what->source_pitch, what->row_bytes, what->rows);
    struct copy *copy;
    CUresult result;
    if (!bytes)
        return CUDA_SUCCESS;
    copy = fake_op_new(sizeof(*copy), run_copy, destroy_copy);
    copy->target = what->target;
    copy->source = what->source;
    copy->target_pitch = what->target_pitch;
    copy->source_pitch = what->source_pitch;
    copy->row_bytes = what->row_bytes;
    copy->rows = what->rows;
    if (pageable(what->source) && !stream->capture) {
        copy->staged = malloc(bytes);
        if (!copy->staged)
            abort();
        memcpy(copy->staged, what->source, bytes);
        copy->source = copy->staged;
    }
    waits = waits || (pageable(what->target) && !stream->capture);
    result = fake_stream_submit(stream, &copy->op);
    return result || !waits ? result : fake_stream_drain(stream);
}

static CUresult copy_linear(const char *function, CUdeviceptr target, CUdeviceptr source, size_t bytes, CUstream handle, bool waits)
{
    struct copy what = {
        .target = (unsigned char *)(uintptr_t)target, .source = (const unsigned char *)(uintptr_t)source, .row_bytes = bytes, .rows = 1};
    struct fake_stream *stream;
    CUresult result = fake_enter(function, FAKE_CONTEXT);
    if (result)
        return result;
    result = fake_stream_find(handle, &stream);
    return fake_leave(result ? result : submit_copy(stream, &what, waits));
}

CUresult cuMemcpyAsync(CUdeviceptr target, CUdeviceptr source, size_t bytes, CUstream handle)
{
    return copy_linear("cuMemcpyAsync", target, source, bytes, handle, false);
}

CUresult cuMemcpy(CUdeviceptr target, CUdeviceptr source, size_t bytes)
{
    return copy_linear("cuMemcpy", target, source, bytes, NULL, true);
}

CUresult cuMemcpyDtoD(CUdeviceptr target, CUdeviceptr source, size_t bytes)
{
    return copy_linear("cuMemcpyDtoD", target, source, bytes, NULL, false);
}

CUresult cuMemcpyDtoDAsync(CUdeviceptr target, CUdeviceptr source, size_t bytes, CUstream handle)
{
    return copy_linear("cuMemcpyDtoDAsync", target, source, bytes, handle, false);
}

CUresult cuMemcpyDtoH(void *target, CUdeviceptr source, size_t bytes)
{
    return copy_linear("cuMemcpyDtoH", (CUdeviceptr)target, source, bytes, NULL, true);
}

CUresult cuMemcpyHtoD(CUdeviceptr target, const void *source, size_t bytes)
{
    return copy_linear("cuMemcpyHtoD", target, (CUdeviceptr)source, bytes, NULL, true);
}

CUresult cuMemcpyDtoHAsync(void *target, CUdeviceptr source, size_t bytes, CUstream handle)
{
    return copy_linear("cuMemcpyDtoHAsync", (CUdeviceptr)target, source, bytes, handle, false);
}

CUresult cuMemcpyHtoDAsync(CUdeviceptr target, const void *source, size_t bytes, CUstream handle)
{
    return copy_linear("cuMemcpyHtoDAsync", target, (CUdeviceptr)source, bytes, handle, false);
}

static uintptr_t origin(CUmemorytype type, const void *host, CUdeviceptr device, size_t x, size_t y, size_t pitch)
{
    return (type == CU_MEMORYTYPE_HOST ? (uintptr_t)host : (uintptr_t)device) + y * pitch + x;
}

CUresult cuMemcpy2DAsync(const CUDA_MEMCPY2D *desc, CUstream handle)
{
    struct copy what;
    struct fake_stream *stream;
    CUresult result = fake_enter("cuMemcpy2DAsync", FAKE_CONTEXT);
    if (result)
        return result;
    result = fake_stream_find(handle, &stream);
    if (!result && (!desc || desc->srcMemoryType == CU_MEMORYTYPE_ARRAY || desc->dstMemoryType == CU_MEMORYTYPE_ARRAY))
        result = CUDA_ERROR_INVALID_VALUE;
    if (!result && desc->Height > 1 && (desc->srcPitch < desc->WidthInBytes || desc->dstPitch < desc->WidthInBytes))
        result = CUDA_ERROR_INVALID_VALUE;
    if (result)
        return fake_leave(result);
    what = (struct copy){
        .target =
            (unsigned char *)origin(desc->dstMemoryType, desc->dstHost, desc->dstDevice, desc->dstXInBytes, desc->dstY, desc->dstPitch),
        .source =
            (unsigned char *)origin(desc->srcMemoryType, desc->srcHost, desc->srcDevice, desc->srcXInBytes, desc->srcY, desc->srcPitch),
        .target_pitch = desc->dstPitch,
        .source_pitch = desc->srcPitch,
        .row_bytes = desc->WidthInBytes,
        .rows = desc->Height,
    };
    return fake_leave(submit_copy(stream, &what, false));
}

/* What is written already is copied on, as much at a time as a cache holds. */
static void repeat(unsigned char *target, const void *value, size_t width, size_t bytes)
{
    size_t done = width;
    memcpy(target, value, width);
    while (done < bytes) {
        size_t piece = done < CACHED_BYTES ? done : CACHED_BYTES;
        piece = piece < bytes - done ? piece : bytes - done;
        memcpy(target + done, target, piece);
        done += piece;
    }
}

/* Of much memory little is looked at before it is written again: whole pages are given back, and come again as zeroes if somebody looks. */
static void clear(unsigned char *target, size_t bytes)
{
    uintptr_t first = ((uintptr_t)target + PAGE - 1) / PAGE * PAGE, last = ((uintptr_t)target + bytes) / PAGE * PAGE;
    if (bytes < MANY_BYTES || madvise((void *)first, last - first, MADV_REMOVE)) {
        memset(target, 0, bytes);
        return;
    }
    memset(target, 0, first - (uintptr_t)target);
    memset((void *)last, 0, (uintptr_t)target + bytes - last);
}

static CUresult run_fill(struct fake_op *op, struct fake_stream *stream)
{
    struct fill *fill = (struct fill *)op;
    CUresult result = fake_memory_touch(stream->context, "memset", fill->target, fill->count * fill->width, true, false);
    if (result)
        return result;
    if (fill->value)
        repeat(fill->target, &fill->value, fill->width, fill->count * fill->width);
    else
        clear(fill->target, fill->count * fill->width);
    return CUDA_SUCCESS;
}

static CUresult submit_fill(const char *function, CUdeviceptr target, unsigned width, uint32_t value, size_t count, CUstream handle)
{
    struct fake_stream *stream;
    struct fill *fill;
    CUresult result = fake_enter(function, FAKE_CONTEXT);
    if (result)
        return result;
    result = fake_stream_find(handle, &stream);
    if (!result && target % width)
        result = CUDA_ERROR_INVALID_VALUE;
    /* A wrong address is found at the call already. */
    if (!result && count && !fake_memory_reachable(stream->context, (void *)(uintptr_t)target, (uint64_t)count * width, true, false))
        result = CUDA_ERROR_INVALID_VALUE;
    if (result || !count)
        return fake_leave(result);
    fill = fake_op_new(sizeof(*fill), run_fill, NULL);
    fill->target = (unsigned char *)(uintptr_t)target;
    fill->count = count;
    fill->width = width;
    fill->value = value;
    return fake_leave(fake_stream_submit(stream, &fill->op));
}

CUresult cuMemsetD8Async(CUdeviceptr target, unsigned char value, size_t count, CUstream handle)
{
    return submit_fill("cuMemsetD8Async", target, 1, value, count, handle);
}

CUresult cuMemsetD8(CUdeviceptr target, unsigned char value, size_t count)
{
    return submit_fill("cuMemsetD8", target, 1, value, count, NULL);
}

CUresult cuMemsetD32Async(CUdeviceptr target, unsigned int value, size_t count, CUstream handle)
{
    return submit_fill("cuMemsetD32Async", target, 4, value, count, handle);
}

CUresult cuMemsetD32(CUdeviceptr target, unsigned int value, size_t count)
{
    return submit_fill("cuMemsetD32", target, 4, value, count, NULL);
}
