#include "memory.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define MEMFD_NAME "fake-gpu:"

enum { POISON = 0xa5, POISON_BYTES = 32 << 20 };

static struct fake_mapping *mappings;
static uint64_t mapping_ids;

struct fake_mapping *fake_mapping_find(uintptr_t address)
{
    for (struct fake_mapping *mapping = mappings; mapping; mapping = mapping->next)
        if (address >= mapping->base && address - mapping->base < mapping->bytes)
            return mapping;
    return NULL;
}

struct fake_mapping *fake_mapping_add(fake_mapping_kind kind, uintptr_t base, uint64_t bytes)
{
    struct fake_mapping *mapping = calloc(1, sizeof(*mapping));
    if (!mapping)
        return NULL;
    mapping->kind = kind;
    mapping->base = base;
    mapping->bytes = bytes;
    mapping->id = ++mapping_ids;
    mapping->next = mappings;
    mappings = mapping;
    return mapping;
}

void fake_mapping_remove(struct fake_mapping *mapping)
{
    struct fake_mapping **link = &mappings;
    while (*link != mapping)
        link = &(*link)->next;
    *link = mapping->next;
    free(mapping);
}

/* New device memory is not zeroed: whoever relies on it shall see. Written, not mapped: page faults take twice as long. */
static bool poison(int fd, uint64_t bytes)
{
    unsigned char block[1 << 16];
    uint64_t length = bytes < POISON_BYTES ? bytes : POISON_BYTES;
    memset(block, POISON, sizeof(block));
    for (uint64_t at = 0; at < length;) {
        uint64_t left = length - at;
        ssize_t written = pwrite(fd, block, left < sizeof(block) ? left : sizeof(block), (off_t)at);
        if (written <= 0)
            return false;
        at += (uint64_t)written;
    }
    return true;
}

static struct fake_allocation *allocation_over(int fd, uint64_t bytes, unsigned index)
{
    struct fake_allocation *allocation = calloc(1, sizeof(*allocation));
    if (!allocation)
        return NULL;
    allocation->fd = fd;
    allocation->bytes = bytes;
    allocation->index = index;
    allocation->handles = 1;
    return allocation;
}

struct fake_allocation *fake_allocation_new(struct fake_context *payer, uint64_t bytes, CUmemAllocationHandleType types)
{
    struct fake_allocation *allocation;
    char name[32];
    int fd;
    if (bytes > fake_device_bytes() - payer->in_use)
        return NULL;
    snprintf(name, sizeof(name), MEMFD_NAME "%u", payer->index);
    fd = memfd_create(name, MFD_CLOEXEC);
    if (fd < 0)
        return NULL;
    if (ftruncate(fd, (off_t)bytes) || !poison(fd, bytes) || !(allocation = allocation_over(fd, bytes, payer->index))) {
        close(fd);
        return NULL;
    }
    allocation->types = types;
    allocation->payer = payer;
    payer->in_use += bytes;
    return allocation;
}

struct fake_allocation *fake_allocation_adopt(int fd)
{
    char link[64], target[128];
    struct stat status;
    unsigned index;
    ssize_t length;
    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    length = readlink(link, target, sizeof(target) - 1);
    if (length < 0 || fstat(fd, &status) || status.st_size <= 0)
        return NULL;
    target[length] = 0;
    if (sscanf(target, "/memfd:" MEMFD_NAME "%u", &index) != 1)
        return NULL;
    return allocation_over(fd, (uint64_t)status.st_size, index);
}

static void maybe_free(struct fake_allocation *allocation)
{
    if (allocation->handles || allocation->maps)
        return;
    if (allocation->payer)
        allocation->payer->in_use -= allocation->bytes;
    close(allocation->fd);
    free(allocation);
}

void fake_allocation_unmap(struct fake_allocation *allocation)
{
    allocation->maps--;
    maybe_free(allocation);
}

void fake_allocation_release(struct fake_allocation *allocation)
{
    allocation->handles--;
    maybe_free(allocation);
}

bool fake_memory_reachable(const struct fake_context *context, const void *address, uint64_t bytes, bool write, bool pageable)
{
    uintptr_t at = (uintptr_t)address;
    uint32_t bit = UINT32_C(1) << context->ordinal;
    while (bytes) {
        const struct fake_mapping *mapping = fake_mapping_find(at);
        uint64_t here;
        if (!mapping)
            return pageable;
        if (!((write ? mapping->writable : mapping->readable) & bit))
            return false;
        here = mapping->bytes - (at - mapping->base);
        if (here >= bytes)
            return true;
        at += here;
        bytes -= here;
    }
    return true;
}

CUresult fake_memory_touch(const struct fake_context *context, const char *who, const void *address, uint64_t bytes, bool write,
                           bool pageable)
{
    bool reachable;
    fake_lock();
    reachable = fake_memory_reachable(context, address, bytes, write, pageable);
    fake_unlock();
    if (reachable)
        return CUDA_SUCCESS;
    fake_complain("%s: device %u may not %s [%p, +%llu)", who, context->index, write ? "write" : "read", address,
                  (unsigned long long)bytes);
    return CUDA_ERROR_ILLEGAL_ADDRESS;
}

CUresult trtcoll_fake_touch(CUcontext context, const char *who, const void *address, uint64_t bytes, bool write)
{
    return fake_memory_touch((const struct fake_context *)context, who, address, bytes, write, false);
}

static CUresult describe(const struct fake_mapping *mapping, void *data, CUpointer_attribute attribute, CUdeviceptr pointer)
{
    const struct fake_allocation *allocation = mapping->allocation;
    int ordinal = allocation ? fake_ordinal_of_index(allocation->index) : 0;
    switch ((int)attribute) {
    case CU_POINTER_ATTRIBUTE_CONTEXT: /* VMM memory belongs to none */
        *(CUcontext *)data = mapping->kind == FAKE_VMM || ordinal < 0 ? NULL : (CUcontext)fake_context_of_ordinal(ordinal);
        return CUDA_SUCCESS;
    case CU_POINTER_ATTRIBUTE_MEMORY_TYPE:
        *(unsigned int *)data = allocation ? CU_MEMORYTYPE_DEVICE : CU_MEMORYTYPE_HOST;
        return CUDA_SUCCESS;
    case CU_POINTER_ATTRIBUTE_DEVICE_POINTER:
        *(CUdeviceptr *)data = pointer;
        return CUDA_SUCCESS;
    case CU_POINTER_ATTRIBUTE_HOST_POINTER:
        if (allocation)
            return CUDA_ERROR_INVALID_VALUE;
        *(void **)data = (void *)(uintptr_t)pointer;
        return CUDA_SUCCESS;
    case CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL:
        *(int *)data = ordinal;
        return CUDA_SUCCESS;
    case CU_POINTER_ATTRIBUTE_RANGE_START_ADDR:
        *(CUdeviceptr *)data = mapping->base;
        return CUDA_SUCCESS;
    case CU_POINTER_ATTRIBUTE_RANGE_SIZE:
        *(size_t *)data = mapping->bytes;
        return CUDA_SUCCESS;
    case CU_POINTER_ATTRIBUTE_BUFFER_ID:
        *(unsigned long long *)data = mapping->id;
        return CUDA_SUCCESS;
    case CU_POINTER_ATTRIBUTE_SYNC_MEMOPS:
    case CU_POINTER_ATTRIBUTE_IS_MANAGED:
        *(unsigned int *)data = 0;
        return CUDA_SUCCESS;
    case CU_POINTER_ATTRIBUTE_MAPPED:
        *(unsigned int *)data = 1;
        return CUDA_SUCCESS;
    case CU_POINTER_ATTRIBUTE_IS_LEGACY_CUDA_IPC_CAPABLE:
        *(unsigned int *)data = mapping->kind == FAKE_LEGACY;
        return CUDA_SUCCESS;
    case CU_POINTER_ATTRIBUTE_ALLOWED_HANDLE_TYPES:
        *(unsigned long long *)data = mapping->kind == FAKE_VMM ? (unsigned long long)allocation->types : 0;
        return CUDA_SUCCESS;
    default:
        return CUDA_ERROR_NOT_SUPPORTED;
    }
}

CUresult cuPointerGetAttribute(void *data, CUpointer_attribute attribute, CUdeviceptr pointer)
{
    const struct fake_mapping *mapping;
    CUresult result = fake_enter("cuPointerGetAttribute", FAKE_CONTEXT);
    if (result)
        return result;
    mapping = fake_mapping_find((uintptr_t)pointer);
    return fake_leave(mapping && data ? describe(mapping, data, attribute, pointer) : CUDA_ERROR_INVALID_VALUE);
}

CUresult cuMemGetAddressRange(CUdeviceptr *base, size_t *bytes, CUdeviceptr pointer)
{
    const struct fake_mapping *mapping;
    CUresult result = fake_enter("cuMemGetAddressRange", FAKE_CONTEXT);
    if (result)
        return result;
    mapping = fake_mapping_find((uintptr_t)pointer);
    if (!mapping || !mapping->allocation)
        return fake_leave(CUDA_ERROR_NOT_FOUND);
    if (base)
        *base = mapping->base;
    if (bytes)
        *bytes = mapping->bytes;
    return fake_leave(CUDA_SUCCESS);
}
