/* cuMemAlloc and its interprocess handles; host memory registered with the driver. */
#include "memory.h"
#include "stream.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PAGE = 4096, IPC_MAGIC = 0x46435049 };

/* What a CUipcMemHandle holds here: where the exporter keeps the memfd. */
struct ipc {
    uint32_t magic;
    int32_t pid;
    int32_t fd;
    uint64_t bytes;
    uint64_t inode;
};
_Static_assert(sizeof(struct ipc) <= sizeof(CUipcMemHandle), "fits");

static void permit_all(struct fake_mapping *mapping, const struct fake_context *context)
{
    mapping->readable = mapping->writable = UINT32_C(1) << context->ordinal;
}

static CUresult map_whole(fake_mapping_kind kind, struct fake_allocation *allocation, struct fake_context *context, CUdeviceptr *address)
{
    struct fake_mapping *mapping;
    void *base = mmap(NULL, allocation->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, allocation->fd, 0);
    if (base == MAP_FAILED)
        return CUDA_ERROR_OUT_OF_MEMORY;
    mapping = fake_mapping_add(kind, (uintptr_t)base, allocation->bytes);
    if (!mapping) {
        munmap(base, allocation->bytes);
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    mapping->allocation = allocation;
    allocation->maps++;
    permit_all(mapping, context);
    *address = (CUdeviceptr)base;
    return CUDA_SUCCESS;
}

CUresult cuMemAlloc(CUdeviceptr *address, size_t bytes)
{
    CUresult result = fake_enter("cuMemAlloc", FAKE_CONTEXT | FAKE_UNSAFE);
    struct fake_context *context;
    struct fake_allocation *allocation;
    if (result)
        return result;
    context = fake_context_current();
    if (!bytes || !address)
        return fake_leave(CUDA_ERROR_INVALID_VALUE);
    allocation = bytes <= fake_device_bytes() ? fake_allocation_new(context, (bytes + PAGE - 1) & ~(uint64_t)(PAGE - 1), 0) : NULL;
    if (!allocation)
        return fake_leave(CUDA_ERROR_OUT_OF_MEMORY);
    result = map_whole(FAKE_LEGACY, allocation, context, address);
    fake_allocation_release(allocation);
    return fake_leave(result);
}

static void unmap_whole(struct fake_mapping *mapping)
{
    munmap((void *)mapping->base, mapping->bytes);
    fake_allocation_unmap(mapping->allocation);
    fake_mapping_remove(mapping);
}

/* Waits for the device, as the real one does. */
CUresult cuMemFree(CUdeviceptr address)
{
    CUresult result = fake_enter("cuMemFree", FAKE_CONTEXT | FAKE_UNSAFE);
    struct fake_mapping *mapping;
    if (result)
        return result;
    if (!address)
        return fake_leave(CUDA_SUCCESS);
    result = fake_context_drain(fake_context_current());
    mapping = fake_mapping_find((uintptr_t)address);
    if (!mapping || mapping->kind != FAKE_LEGACY || mapping->base != address)
        return fake_leave(CUDA_ERROR_INVALID_VALUE);
    unmap_whole(mapping);
    return fake_leave(result);
}

CUresult cuIpcGetMemHandle(CUipcMemHandle *out, CUdeviceptr address)
{
    CUresult result = fake_enter("cuIpcGetMemHandle", FAKE_CONTEXT | FAKE_UNSAFE);
    struct fake_mapping *mapping;
    struct stat status;
    struct ipc ipc = {.magic = IPC_MAGIC, .pid = getpid()};
    if (result)
        return result;
    mapping = fake_mapping_find((uintptr_t)address);
    if (!mapping || mapping->kind != FAKE_LEGACY || fstat(mapping->allocation->fd, &status))
        return fake_leave(CUDA_ERROR_INVALID_VALUE);
    ipc.fd = mapping->allocation->fd;
    ipc.bytes = mapping->bytes;
    ipc.inode = status.st_ino;
    memset(out, 0, sizeof(*out));
    memcpy(out, &ipc, sizeof(ipc));
    return fake_leave(CUDA_SUCCESS);
}

/* The exporter's memfd, or -1: it is gone, or has been freed. */
static int ipc_open(const struct ipc *ipc)
{
    char path[64];
    struct stat status;
    int fd;
    snprintf(path, sizeof(path), "/proc/%d/fd/%d", ipc->pid, ipc->fd);
    fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd >= 0 && (fstat(fd, &status) || status.st_ino != ipc->inode || (uint64_t)status.st_size != ipc->bytes)) {
        close(fd);
        fd = -1;
    }
    return fd;
}

CUresult cuIpcOpenMemHandle(CUdeviceptr *address, CUipcMemHandle handle, unsigned int flags)
{
    CUresult result = fake_enter("cuIpcOpenMemHandle", FAKE_CONTEXT | FAKE_UNSAFE);
    struct fake_allocation *allocation;
    struct ipc ipc;
    int fd;
    if (result)
        return result;
    memcpy(&ipc, &handle, sizeof(ipc));
    if (flags != CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS || ipc.magic != IPC_MAGIC)
        return fake_leave(CUDA_ERROR_INVALID_VALUE);
    if (ipc.pid == getpid()) /* not for the exporter itself */
        return fake_leave(CUDA_ERROR_INVALID_CONTEXT);
    fd = ipc_open(&ipc);
    if (fd < 0)
        return fake_leave(CUDA_ERROR_INVALID_VALUE);
    allocation = fake_allocation_adopt(fd);
    if (!allocation) {
        close(fd);
        return fake_leave(CUDA_ERROR_INVALID_VALUE);
    }
    result = fake_context_reaches(fake_context_current(), allocation->index)
                 ? map_whole(FAKE_IPC, allocation, fake_context_current(), address)
                 : CUDA_ERROR_PEER_ACCESS_UNSUPPORTED;
    fake_allocation_release(allocation);
    return fake_leave(result);
}

CUresult cuIpcCloseMemHandle(CUdeviceptr address)
{
    CUresult result = fake_enter("cuIpcCloseMemHandle", FAKE_CONTEXT | FAKE_UNSAFE);
    struct fake_mapping *mapping;
    if (result)
        return result;
    mapping = fake_mapping_find((uintptr_t)address);
    if (!mapping || mapping->kind != FAKE_IPC || mapping->base != address)
        return fake_leave(CUDA_ERROR_INVALID_VALUE);
    unmap_whole(mapping);
    return fake_leave(CUDA_SUCCESS);
}

CUresult cuMemHostRegister(void *base, size_t bytes, unsigned int flags)
{
    CUresult result = fake_enter("cuMemHostRegister", FAKE_CONTEXT | FAKE_UNSAFE);
    const unsigned known = CU_MEMHOSTREGISTER_PORTABLE | CU_MEMHOSTREGISTER_DEVICEMAP;
    struct fake_mapping *mapping;
    unsigned char present;
    if (result)
        return result;
    if (!base || !bytes || flags & ~known || (uintptr_t)base % PAGE || bytes % PAGE)
        return fake_leave(CUDA_ERROR_INVALID_VALUE);
    for (uint64_t at = 0; at < bytes; at += PAGE) {
        mapping = fake_mapping_find((uintptr_t)base + at);
        if (mapping)
            return fake_leave(mapping->kind == FAKE_HOST ? CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED : CUDA_ERROR_INVALID_VALUE);
        if (mincore((unsigned char *)base + at, PAGE, &present)) /* not mapped at all */
            return fake_leave(CUDA_ERROR_INVALID_VALUE);
    }
    mapping = fake_mapping_add(FAKE_HOST, (uintptr_t)base, bytes);
    if (!mapping)
        return fake_leave(CUDA_ERROR_OUT_OF_MEMORY);
    permit_all(mapping, fake_context_current());
    if (flags & CU_MEMHOSTREGISTER_PORTABLE)
        mapping->readable = mapping->writable = UINT32_MAX;
    return fake_leave(CUDA_SUCCESS);
}

CUresult cuMemHostUnregister(void *base)
{
    CUresult result = fake_enter("cuMemHostUnregister", FAKE_CONTEXT | FAKE_UNSAFE);
    struct fake_mapping *mapping;
    if (result)
        return result;
    mapping = fake_mapping_find((uintptr_t)base);
    if (!mapping || mapping->kind != FAKE_HOST || mapping->base != (uintptr_t)base)
        return fake_leave(CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED);
    fake_mapping_remove(mapping);
    return fake_leave(CUDA_SUCCESS);
}

CUresult cuMemHostGetDevicePointer(CUdeviceptr *address, void *pointer, unsigned int flags)
{
    CUresult result = fake_enter("cuMemHostGetDevicePointer", FAKE_CONTEXT);
    struct fake_mapping *mapping;
    if (result)
        return result;
    mapping = fake_mapping_find((uintptr_t)pointer);
    if (!mapping || mapping->kind != FAKE_HOST || flags)
        return fake_leave(CUDA_ERROR_INVALID_VALUE);
    *address = (CUdeviceptr)pointer;
    return fake_leave(CUDA_SUCCESS);
}
