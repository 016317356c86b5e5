/*
 * Multicast objects: who has joined and what is bound is kept in the first bytes of the object's memory, where all processes see it.
 * Nothing is replicated: the twins of kernels that use an object see to that themselves, and only if it is complete.
 */
#include "multicast.h"

#include <stdatomic.h>
#include <sys/mman.h>

#define MAGIC UINT64_C(0x6d756c7469636173)

struct object {
    uint64_t magic;
    uint32_t wanted;
    _Atomic uint32_t joined, bound; /* devices of the machine, a bit each */
};

static struct object *object_map(const struct fake_allocation *allocation)
{
    struct object *object = mmap(NULL, sizeof(*object), PROT_READ | PROT_WRITE, MAP_SHARED, allocation->fd, 0);
    return object == MAP_FAILED ? NULL : object;
}

/* Lock held. NULL: no multicast object. To be unmapped. */
static struct object *object_of(CUmemGenericAllocationHandle name)
{
    struct fake_allocation *allocation = fake_handle_allocation(name);
    struct object *object = allocation ? object_map(allocation) : NULL;
    if (object && object->magic != MAGIC) {
        munmap(object, sizeof(*object));
        object = NULL;
    }
    return object;
}

CUresult cuMulticastGetGranularity(size_t *granularity, const CUmulticastObjectProp *prop, CUmulticastGranularity_flags option)
{
    CUresult result = fake_enter("cuMulticastGetGranularity", FAKE_INIT);
    (void)option;
    if (result)
        return result;
    if (!granularity || !prop)
        return fake_leave(CUDA_ERROR_INVALID_VALUE);
    *granularity = FAKE_GRANULE;
    return fake_leave(CUDA_SUCCESS);
}

CUresult cuMulticastCreate(CUmemGenericAllocationHandle *name, const CUmulticastObjectProp *prop)
{
    CUresult result = fake_enter("cuMulticastCreate", FAKE_CONTEXT);
    struct fake_allocation *allocation;
    struct object *object;
    if (result)
        return result;
    if (!name || !prop || prop->numDevices < 2 || prop->numDevices > FAKE_MAX_DEVICES || !prop->size || prop->size % FAKE_GRANULE ||
        prop->flags)
        return fake_leave(CUDA_ERROR_INVALID_VALUE);
    allocation = fake_allocation_new(fake_context_current(), prop->size, (CUmemAllocationHandleType)prop->handleTypes);
    if (!allocation)
        return fake_leave(CUDA_ERROR_OUT_OF_MEMORY);
    object = object_map(allocation);
    if (!object) {
        fake_allocation_release(allocation);
        return fake_leave(CUDA_ERROR_OUT_OF_MEMORY);
    }
    *object = (struct object){.magic = MAGIC, .wanted = prop->numDevices};
    munmap(object, sizeof(*object));
    *name = fake_handle_for(allocation);
    return fake_leave(*name ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY);
}

static unsigned count(uint32_t bits)
{
    return (unsigned)__builtin_popcount(bits);
}

CUresult cuMulticastAddDevice(CUmemGenericAllocationHandle name, CUdevice device)
{
    CUresult result = fake_enter("cuMulticastAddDevice", FAKE_INIT);
    struct fake_context *context = fake_context_of_ordinal(device);
    struct object *object;
    if (result)
        return result;
    object = object_of(name);
    if (!object || !context)
        return fake_leave(CUDA_ERROR_INVALID_VALUE);
    if (count(atomic_load(&object->joined)) == object->wanted ||
        atomic_fetch_or(&object->joined, UINT32_C(1) << context->index) >> context->index & 1)
        result = CUDA_ERROR_INVALID_VALUE; /* one too many, or for the second time */
    munmap(object, sizeof(*object));
    return fake_leave(result);
}

/* The real one waits for devices that have not joined; here it is a mistake not to have waited for them before. */
CUresult cuMulticastBindMem(CUmemGenericAllocationHandle name, size_t offset, CUmemGenericAllocationHandle memory, size_t memory_offset,
                            size_t bytes, unsigned long long flags)
{
    CUresult result = fake_enter("cuMulticastBindMem", FAKE_INIT);
    struct fake_allocation *allocation;
    struct object *object;
    if (result)
        return result;
    object = object_of(name);
    allocation = fake_handle_allocation(memory);
    if (!object || !allocation || offset || memory_offset || flags || bytes > allocation->bytes ||
        bytes > fake_handle_allocation(name)->bytes)
        result = CUDA_ERROR_INVALID_VALUE;
    else if (count(atomic_load(&object->joined)) != object->wanted || !(atomic_load(&object->joined) >> allocation->index & 1) ||
             atomic_fetch_or(&object->bound, UINT32_C(1) << allocation->index) >> allocation->index & 1)
        result = CUDA_ERROR_INVALID_DEVICE;
    if (object)
        munmap(object, sizeof(*object));
    return fake_leave(result);
}

CUresult fake_multicast_check(const struct fake_launch *launch, const void *address)
{
    const struct object *object = address;
    CUresult result = fake_memory_touch(launch->context, launch->name, address, sizeof(*object), true, false);
    if (result)
        return result;
    if (object->magic == MAGIC && count(atomic_load(&object->bound)) == object->wanted)
        return CUDA_SUCCESS;
    fake_complain("%s: %p is no multicast object, or not every GPU is bound to it", launch->name, address);
    return CUDA_ERROR_ILLEGAL_ADDRESS;
}
