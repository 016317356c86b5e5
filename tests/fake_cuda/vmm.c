/* Virtual memory management: allocations by handle, reserved addresses, mappings, access. */
#include "memory.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

struct handle {
    struct handle *next;
    struct fake_allocation *allocation;
    CUmemGenericAllocationHandle name;
};

struct reservation {
    struct reservation *next;
    uintptr_t base;
    uint64_t bytes;
};

static struct handle *handles;
static CUmemGenericAllocationHandle last_name = 0x1000;
static struct reservation *reservations;

static struct handle *handle_find(CUmemGenericAllocationHandle name)
{
    for (struct handle *handle = handles; handle; handle = handle->next)
        if (handle->name == name)
            return handle;
    return NULL;
}

/* The handle of an allocation; as with the real driver the same one however it was come by. Takes over one reference. */
static struct handle *handle_for(struct fake_allocation *allocation)
{
    struct handle *handle;
    for (handle = handles; handle; handle = handle->next)
        if (handle->allocation == allocation)
            return handle;
    handle = calloc(1, sizeof(*handle));
    if (!handle)
        return NULL;
    handle->allocation = allocation;
    handle->name = ++last_name;
    handle->next = handles;
    handles = handle;
    return handle;
}

struct fake_allocation *fake_handle_allocation(CUmemGenericAllocationHandle name)
{
    struct handle *handle = handle_find(name);
    return handle ? handle->allocation : NULL;
}

CUmemGenericAllocationHandle fake_handle_for(struct fake_allocation *allocation)
{
    struct handle *handle = handle_for(allocation);
    if (!handle)
        fake_allocation_release(allocation);
    return handle ? handle->name : 0;
}

static void handle_drop(struct handle *handle)
{
    bool last = handle->allocation->handles == 1;
    fake_allocation_release(handle->allocation);
    if (last) {
        struct handle **link = &handles;
        while (*link != handle)
            link = &(*link)->next;
        *link = handle->next;
        free(handle);
    }
}

static bool whole_granules(uint64_t bytes)
{
    return bytes && bytes % FAKE_GRANULE == 0;
}

CUresult cuMemGetAllocationGranularity(size_t *granularity, const CUmemAllocationProp *prop, CUmemAllocationGranularity_flags option)
{
    CUresult result = fake_enter("cuMemGetAllocationGranularity", FAKE_INIT);
    (void)option;
    if (result)
        return result;
    if (!granularity || !prop || prop->type != CU_MEM_ALLOCATION_TYPE_PINNED)
        return fake_leave(CUDA_ERROR_INVALID_VALUE);
    *granularity = FAKE_GRANULE;
    return fake_leave(CUDA_SUCCESS);
}

CUresult cuMemCreate(CUmemGenericAllocationHandle *name, size_t bytes, const CUmemAllocationProp *prop, unsigned long long flags)
{
    CUresult result = fake_enter("cuMemCreate", FAKE_INIT);
    struct fake_context *context;
    struct fake_allocation *allocation;
    struct handle *handle;
    if (result)
        return result;
    if (!name || !prop || flags || !whole_granules(bytes) || prop->type != CU_MEM_ALLOCATION_TYPE_PINNED ||
        prop->location.type != CU_MEM_LOCATION_TYPE_DEVICE)
        return fake_leave(CUDA_ERROR_INVALID_VALUE);
    context = fake_context_of_ordinal(prop->location.id);
    if (!context)
        return fake_leave(CUDA_ERROR_INVALID_DEVICE);
    if (context->fault)
        return fake_leave(context->fault);
    if (prop->requestedHandleTypes & CU_MEM_HANDLE_TYPE_FABRIC)
        return fake_leave(CUDA_ERROR_NOT_PERMITTED);
    allocation = fake_allocation_new(context, bytes, prop->requestedHandleTypes);
    if (!allocation)
        return fake_leave(CUDA_ERROR_OUT_OF_MEMORY);
    handle = handle_for(allocation);
    if (!handle) {
        fake_allocation_release(allocation);
        return fake_leave(CUDA_ERROR_OUT_OF_MEMORY);
    }
    *name = handle->name;
    return fake_leave(CUDA_SUCCESS);
}

CUresult cuMemRelease(CUmemGenericAllocationHandle name)
{
    CUresult result = fake_enter("cuMemRelease", FAKE_INIT);
    struct handle *handle;
    if (result)
        return result;
    handle = handle_find(name);
    if (!handle)
        return fake_leave(CUDA_ERROR_INVALID_VALUE);
    handle_drop(handle);
    return fake_leave(CUDA_SUCCESS);
}

CUresult cuMemExportToShareableHandle(void *shareable, CUmemGenericAllocationHandle name, CUmemAllocationHandleType type,
                                      unsigned long long flags)
{
    CUresult result = fake_enter("cuMemExportToShareableHandle", FAKE_INIT);
    struct handle *handle;
    int fd;
    if (result)
        return result;
    handle = handle_find(name);
    if (!handle || flags || type != CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR || !(handle->allocation->types & type))
        return fake_leave(CUDA_ERROR_INVALID_VALUE);
    fd = fcntl(handle->allocation->fd, F_DUPFD_CLOEXEC, 3);
    if (fd < 0)
        return fake_leave(CUDA_ERROR_OPERATING_SYSTEM);
    *(int *)shareable = fd;
    return fake_leave(CUDA_SUCCESS);
}

CUresult cuMemImportFromShareableHandle(CUmemGenericAllocationHandle *name, void *shareable, CUmemAllocationHandleType type)
{
    CUresult result = fake_enter("cuMemImportFromShareableHandle", FAKE_INIT);
    struct fake_allocation *allocation;
    struct handle *handle;
    int fd;
    if (result)
        return result;
    if (!name || type != CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR)
        return fake_leave(CUDA_ERROR_INVALID_VALUE);
    fd = fcntl((int)(intptr_t)shareable, F_DUPFD_CLOEXEC, 3);
    if (fd < 0)
        return fake_leave(CUDA_ERROR_INVALID_VALUE);
    allocation = fake_allocation_adopt(fd);
    if (!allocation) {
        close(fd);
        return fake_leave(CUDA_ERROR_INVALID_VALUE);
    }
    allocation->types = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR;
    handle = handle_for(allocation);
    if (!handle) {
        fake_allocation_release(allocation);
        return fake_leave(CUDA_ERROR_OUT_OF_MEMORY);
    }
    *name = handle->name;
    return fake_leave(CUDA_SUCCESS);
}

CUresult cuMemRetainAllocationHandle(CUmemGenericAllocationHandle *name, void *address)
{
    CUresult result = fake_enter("cuMemRetainAllocationHandle", FAKE_INIT);
    struct fake_mapping *mapping;
    struct handle *handle;
    if (result)
        return result;
    mapping = fake_mapping_find((uintptr_t)address);
    if (!mapping || mapping->kind != FAKE_VMM)
        return fake_leave(CUDA_ERROR_INVALID_VALUE);
    handle = handle_for(mapping->allocation);
    if (!handle)
        return fake_leave(CUDA_ERROR_OUT_OF_MEMORY);
    mapping->allocation->handles++;
    *name = handle->name;
    return fake_leave(CUDA_SUCCESS);
}

CUresult cuMemGetAllocationPropertiesFromHandle(CUmemAllocationProp *prop, CUmemGenericAllocationHandle name)
{
    CUresult result = fake_enter("cuMemGetAllocationPropertiesFromHandle", FAKE_INIT);
    struct handle *handle;
    if (result)
        return result;
    handle = handle_find(name);
    if (!handle || !prop)
        return fake_leave(CUDA_ERROR_INVALID_VALUE);
    memset(prop, 0, sizeof(*prop));
    prop->type = CU_MEM_ALLOCATION_TYPE_PINNED;
    prop->requestedHandleTypes = handle->allocation->types;
    prop->location.type = CU_MEM_LOCATION_TYPE_DEVICE;
    prop->location.id = fake_ordinal_of_index(handle->allocation->index);
    return fake_leave(CUDA_SUCCESS);
}

CUresult cuMemAddressReserve(CUdeviceptr *address, size_t bytes, size_t alignment, CUdeviceptr hint, unsigned long long flags)
{
    CUresult result = fake_enter("cuMemAddressReserve", FAKE_INIT);
    size_t align = alignment > FAKE_GRANULE ? alignment : FAKE_GRANULE;
    struct reservation *reservation;
    unsigned char *base;
    uintptr_t start;
    (void)hint;
    if (result)
        return result;
    if (!address || flags || !whole_granules(bytes) || align & (align - 1))
        return fake_leave(CUDA_ERROR_INVALID_VALUE);
    reservation = calloc(1, sizeof(*reservation));
    base = mmap(NULL, bytes + align, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (!reservation || base == MAP_FAILED) {
        free(reservation);
        return fake_leave(CUDA_ERROR_OUT_OF_MEMORY);
    }
    start = ((uintptr_t)base + align - 1) & ~(uintptr_t)(align - 1);
    if (start > (uintptr_t)base)
        munmap(base, start - (uintptr_t)base);
    munmap((void *)(start + bytes), (uintptr_t)base + align - start);
    reservation->base = start;
    reservation->bytes = bytes;
    reservation->next = reservations;
    reservations = reservation;
    *address = start;
    return fake_leave(CUDA_SUCCESS);
}

/* Any mapping in the range? */
static struct fake_mapping *mapped_in(uintptr_t base, uint64_t bytes)
{
    for (uint64_t at = 0; at < bytes; at += FAKE_GRANULE) {
        struct fake_mapping *mapping = fake_mapping_find(base + at);
        if (mapping)
            return mapping;
    }
    return NULL;
}

CUresult cuMemAddressFree(CUdeviceptr address, size_t bytes)
{
    CUresult result = fake_enter("cuMemAddressFree", FAKE_INIT);
    if (result)
        return result;
    for (struct reservation **link = &reservations; *link; link = &(*link)->next) {
        struct reservation *reservation = *link;
        if (reservation->base != address)
            continue;
        if (reservation->bytes != bytes || mapped_in(reservation->base, bytes))
            break;
        munmap((void *)reservation->base, bytes);
        *link = reservation->next;
        free(reservation);
        return fake_leave(CUDA_SUCCESS);
    }
    return fake_leave(CUDA_ERROR_INVALID_VALUE);
}

static bool reserved(uintptr_t base, uint64_t bytes)
{
    for (struct reservation *r = reservations; r; r = r->next)
        if (base >= r->base && bytes <= r->bytes && base - r->base <= r->bytes - bytes)
            return true;
    return false;
}

CUresult cuMemMap(CUdeviceptr address, size_t bytes, size_t offset, CUmemGenericAllocationHandle name, unsigned long long flags)
{
    CUresult result = fake_enter("cuMemMap", FAKE_INIT);
    struct fake_mapping *mapping;
    struct handle *handle;
    if (result)
        return result;
    handle = handle_find(name);
    if (!handle || flags || offset || !whole_granules(bytes) || address % FAKE_GRANULE || bytes > handle->allocation->bytes ||
        !reserved((uintptr_t)address, bytes) || mapped_in((uintptr_t)address, bytes))
        return fake_leave(CUDA_ERROR_INVALID_VALUE);
    mapping = fake_mapping_add(FAKE_VMM, (uintptr_t)address, bytes);
    if (!mapping)
        return fake_leave(CUDA_ERROR_OUT_OF_MEMORY);
    if (mmap((void *)(uintptr_t)address, bytes, PROT_NONE, MAP_SHARED | MAP_FIXED, handle->allocation->fd, 0) == MAP_FAILED) {
        fake_mapping_remove(mapping);
        return fake_leave(CUDA_ERROR_OUT_OF_MEMORY);
    }
    mapping->allocation = handle->allocation;
    mapping->allocation->maps++;
    return fake_leave(CUDA_SUCCESS);
}

/* Calls what for all mappings in the range if they fill it exactly. */
static bool each_mapping(uintptr_t base, uint64_t bytes, bool (*what)(struct fake_mapping *mapping, const void *arg), const void *arg)
{
    uint64_t at = 0;
    while (at < bytes) {
        struct fake_mapping *mapping = fake_mapping_find(base + at);
        uint64_t length;
        if (!mapping || mapping->kind != FAKE_VMM || mapping->base != base + at || mapping->bytes > bytes - at)
            return false;
        length = mapping->bytes;
        if (what && !what(mapping, arg))
            return false;
        at += length;
    }
    return at == bytes && bytes;
}

static bool unmap(struct fake_mapping *mapping, const void *arg)
{
    void *base = (void *)mapping->base;
    (void)arg;
    if (mmap(base, mapping->bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) == MAP_FAILED)
        return false;
    fake_allocation_unmap(mapping->allocation);
    fake_mapping_remove(mapping);
    return true;
}

CUresult cuMemUnmap(CUdeviceptr address, size_t bytes)
{
    CUresult result = fake_enter("cuMemUnmap", FAKE_INIT);
    if (result)
        return result;
    if (!each_mapping((uintptr_t)address, bytes, NULL, NULL))
        return fake_leave(CUDA_ERROR_INVALID_VALUE);
    return fake_leave(each_mapping((uintptr_t)address, bytes, unmap, NULL) ? CUDA_SUCCESS : CUDA_ERROR_OPERATING_SYSTEM);
}

static bool permit(struct fake_mapping *mapping, const void *arg)
{
    const CUmemAccessDesc *desc = arg;
    const struct fake_context *context = fake_context_of_ordinal(desc->location.id);
    uint32_t bit = UINT32_C(1) << desc->location.id;
    int protection;
    if (!fake_context_reaches(context, mapping->allocation->index))
        return false;
    mapping->readable &= ~bit;
    mapping->writable &= ~bit;
    if (desc->flags & CU_MEM_ACCESS_FLAGS_PROT_READ)
        mapping->readable |= bit;
    if (desc->flags == CU_MEM_ACCESS_FLAGS_PROT_READWRITE)
        mapping->writable |= bit;
    protection = mapping->writable ? PROT_READ | PROT_WRITE : mapping->readable ? PROT_READ : PROT_NONE;
    return !mprotect((void *)mapping->base, mapping->bytes, protection);
}

CUresult cuMemSetAccess(CUdeviceptr address, size_t bytes, const CUmemAccessDesc *desc, size_t count)
{
    CUresult result = fake_enter("cuMemSetAccess", FAKE_INIT);
    if (result)
        return result;
    if (!desc || !count || !each_mapping((uintptr_t)address, bytes, NULL, NULL))
        return fake_leave(CUDA_ERROR_INVALID_VALUE);
    for (size_t i = 0; i < count && !result; i++) {
        if (desc[i].location.type != CU_MEM_LOCATION_TYPE_DEVICE)
            result = CUDA_ERROR_INVALID_VALUE;
        else if (!fake_context_of_ordinal(desc[i].location.id) || !each_mapping((uintptr_t)address, bytes, permit, &desc[i]))
            result = CUDA_ERROR_INVALID_DEVICE; /* there is no such GPU, or it cannot reach the memory's */
    }
    return fake_leave(result);
}
