/*
 * Memory: allocations (memfds, shared by reference), reserved addresses, mappings of allocations, registered host memory. `access` is a
 * set of bits, one per ordinal of this process. Owner: the process.
 */
#ifndef TESTS_FAKE_CUDA_MEMORY_H
#define TESTS_FAKE_CUDA_MEMORY_H

#include "context.h"

/* One piece of device memory. Its memfd's name says which device it lies on, so that importers know. */
struct fake_allocation {
    struct fake_allocation *next;
    int fd;
    uint64_t bytes;
    unsigned index;   /* of the machine */
    unsigned handles; /* references by handle */
    unsigned maps;    /* by mapping */
    CUmemAllocationHandleType types;
    struct fake_context *payer; /* NULL: imported */
};

typedef enum fake_mapping_kind { FAKE_VMM, FAKE_LEGACY, FAKE_IPC, FAKE_HOST } fake_mapping_kind;

struct fake_mapping {
    struct fake_mapping *next;
    fake_mapping_kind kind;
    uintptr_t base;
    uint64_t bytes;
    uint64_t offset;                    /* in the allocation */
    struct fake_allocation *allocation; /* NULL: host */
    uint32_t readable, writable;        /* by ordinal */
    uint64_t id;
};

/* Lock held. The mapping that contains the address, or NULL. */
struct fake_mapping *fake_mapping_find(uintptr_t address);
struct fake_mapping *fake_mapping_add(fake_mapping_kind kind, uintptr_t base, uint64_t bytes);
void fake_mapping_remove(struct fake_mapping *mapping);

/* Lock held. An allocation with one handle; NULL when the device is full. */
struct fake_allocation *fake_allocation_new(struct fake_context *payer, uint64_t bytes, CUmemAllocationHandleType types);
struct fake_allocation *fake_allocation_adopt(int fd); /* takes fd on success; NULL: not memory of a device */
void fake_allocation_unmap(struct fake_allocation *allocation);
void fake_allocation_release(struct fake_allocation *allocation);

/* Lock held. What a handle stands for, NULL: nothing; and a handle, which takes over one reference, 0: out of memory. */
struct fake_allocation *fake_handle_allocation(CUmemGenericAllocationHandle name);
CUmemGenericAllocationHandle fake_handle_for(struct fake_allocation *allocation);

/* May this device's stream touch the bytes? `pageable`: memory that we know nothing about is the host's and fine (copies only). */
bool fake_memory_reachable(const struct fake_context *context, const void *address, uint64_t bytes, bool write, bool pageable);
/* The same for operations: complains, and says what becomes of the device. Without the lock. */
CUresult fake_memory_touch(const struct fake_context *context, const char *who, const void *address, uint64_t bytes, bool write,
                           bool pageable);

/* For the fake NCCL: the same, on behalf of a context. */
FAKE_EXPORT CUresult trtcoll_fake_touch(CUcontext context, const char *who, const void *address, uint64_t bytes, bool write);

#endif
