#include "memory.h"

#include <tck/cuda_driver.h>

#include <stdio.h>
#include <string.h>

#define MAX_BYTES (UINT64_C(1) << 48) /* more than any GPU has: sums of checked sizes do not overflow */

static int refuse(int code, char *text, const char *why)
{
    snprintf(text, TCW_TEXT_BYTES, "%s", why);
    return code;
}

/* What a driver's answer to somebody else's handle means. */
static int judge(CUresult result, const char *what, char *text)
{
    char detail[160];
    if (result == CUDA_SUCCESS)
        return 0;
    snprintf(text, TCW_TEXT_BYTES, "%s: %s", what, tck_cuda_text(result, detail, sizeof detail));
    return result == CUDA_ERROR_INVALID_VALUE || result == CUDA_ERROR_INVALID_HANDLE ? TCW_EINVAL : tck_cuda_code(result);
}

/* ---- VMM ---- */

static CUresult map_piece(int fd, CUdeviceptr address, uint64_t bytes)
{
    const struct tck_cuda_driver *driver = tck_cuda_driver();
    CUmemGenericAllocationHandle allocation;
    CUresult result = driver->cuMemImportFromShareableHandle(&allocation, (void *)(uintptr_t)fd, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR);
    if (result != CUDA_SUCCESS)
        return result;
    result = driver->cuMemMap(address, bytes, 0, allocation, 0);
    driver->cuMemRelease(allocation); /* the mapping keeps it */
    return result;
}

/* The sizes are the sender's word. They need no trust: the driver maps nothing beyond an allocation's end. */
static int open_pieces(struct tcd_ex_engine *engine, const struct tcw_mem_register *from, const int *fds, unsigned fd_count,
                       struct tcd_ex_memory *memory, char *text)
{
    const struct tck_cuda_driver *driver = tck_cuda_driver();
    const CUmemAccessDesc access = {
        .location = {.type = CU_MEM_LOCATION_TYPE_DEVICE, .id = tck_cuda_ordinal(engine->device)},
        .flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE,
    };
    uint64_t total = 0, mapped = 0;
    CUdeviceptr base;
    for (unsigned i = 0; i < fd_count; ++i) {
        if (!from->piece_bytes[i] || from->piece_bytes[i] > MAX_BYTES)
            return refuse(TCW_EINVAL, text, "a piece of memory without a size");
        total += from->piece_bytes[i];
    }
    if (from->offset > total || memory->bytes > total - from->offset)
        return refuse(TCW_EINVAL, text, "the range is not inside its pieces");
    CUresult result = driver->cuMemAddressReserve(&base, total, 0, 0, 0);
    if (result != CUDA_SUCCESS)
        return judge(result, "no addresses", text);
    for (unsigned i = 0; i < fd_count && result == CUDA_SUCCESS; ++i) {
        result = map_piece(fds[i], base + mapped, from->piece_bytes[i]);
        if (result == CUDA_SUCCESS)
            mapped += from->piece_bytes[i];
    }
    if (result == CUDA_SUCCESS)
        result = driver->cuMemSetAccess(base, total, &access, 1);
    if (result != CUDA_SUCCESS) {
        int rc = judge(result, "the pieces cannot be mapped", text);
        if (mapped)
            driver->cuMemUnmap(base, mapped);
        driver->cuMemAddressFree(base, total);
        return rc;
    }
    memory->mapping = (struct tck_memory){.base = (void *)(uintptr_t)base, .bytes = total, .fd = -1, .device = engine->device};
    memory->base = (unsigned char *)memory->mapping.base + from->offset;
    return 0;
}

/* ---- legacy handles ---- */

static int open_legacy(struct tcd_ex_engine *engine, const struct tcw_mem_register *from, struct tcd_ex_memory *memory, char *text)
{
    const struct tck_cuda_driver *driver = tck_cuda_driver();
    CUipcMemHandle handle;
    CUdeviceptr base, start;
    size_t bytes;
    memcpy(&handle, from->ipc, sizeof handle);
    CUresult result = driver->cuIpcOpenMemHandle(&base, handle, CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS);
    if (result != CUDA_SUCCESS)
        return judge(result, "the memory handle cannot be opened", text);
    result = driver->cuMemGetAddressRange(&start, &bytes, base);
    uint64_t room = result == CUDA_SUCCESS ? bytes - (base - start) : 0;
    if (from->offset > room || memory->bytes > room - from->offset) {
        driver->cuIpcCloseMemHandle(base);
        return result == CUDA_SUCCESS ? refuse(TCW_EINVAL, text, "the range is not inside the allocation of its handle")
                                      : judge(result, "the size of the allocation", text);
    }
    memory->mapping = (struct tck_memory){.base = (void *)(uintptr_t)base, .bytes = room, .fd = -1, .device = engine->device};
    memory->base = (unsigned char *)memory->mapping.base + from->offset;
    return 0;
}

int tcd_cuda_memory_open(struct tcd_ex_engine *engine, const struct tcd_ex_message *message, int *fds, unsigned fd_count,
                         struct tcd_ex_memory *memory, char *text)
{
    const struct tcw_mem_register *from = &message->memory;
    memory->kind = from->kind;
    memory->bytes = message->value;
    if (message->value > MAX_BYTES)
        return refuse(TCW_EINVAL, text, "more memory than any GPU has");
    if (from->kind == TCW_MEM_VMM && (!fd_count || fd_count > TCW_MEM_MAX_FDS))
        return refuse(TCW_EINVAL, text, "no descriptors of memory, or too many");
    if (from->kind != TCW_MEM_VMM && from->kind != TCW_MEM_IPC)
        return refuse(TCW_ENOTSUP, text, "ordinary memory cannot be used by a GPU");
    int rc = tck_cuda_enter(engine->device);
    if (rc < 0)
        return rc;
    rc = from->kind == TCW_MEM_VMM ? open_pieces(engine, from, fds, fd_count, memory, text) : open_legacy(engine, from, memory, text);
    tck_cuda_leave(engine->device);
    return rc;
}

void tcd_cuda_memory_close(struct tcd_ex_engine *engine, struct tcd_ex_memory *memory)
{
    if (memory->kind == TCW_MEM_VMM) {
        tck_memory_release(&memory->mapping);
        return;
    }
    if (tck_cuda_enter(engine->device) < 0)
        return; /* the context is broken, and its mappings with it */
    tck_cuda_driver()->cuIpcCloseMemHandle((CUdeviceptr)(uintptr_t)memory->mapping.base);
    tck_cuda_leave(engine->device);
}
