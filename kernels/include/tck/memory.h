/*
 * Shareable memory of a device: made by an executor, exported as a descriptor, imported and mapped by clients and other executors.
 * On host devices it is a sealed memfd, on GPUs VMM memory exported as a descriptor. Owner: the process that holds the struct; the memory
 * lives until its last descriptor and mapping are gone.
 */
#ifndef TCK_MEMORY_H
#define TCK_MEMORY_H

#include <tck/device.h>

#include <stdint.h>

struct tck_memory {
    void *base;                /* mapping, NULL until mapped; on GPUs a device address of this process */
    uint64_t bytes;            /* whole pages; on GPUs whole granules (2 MiB) */
    int fd;                    /* owned; -1 when only the mapping is kept */
    struct tck_device *device; /* NULL: host memory. Must outlive the memory */
};

/*
 * Allocates and maps zeroed memory of `device` (NULL: host), `bytes` rounded up to whole pages or granules, pages reserved. 0 or a negative
 * tcw_errno; *memory set on success. `name` is for people.
 */
int tck_memory_create(struct tck_device *device, const char *name, uint64_t bytes, struct tck_memory *memory);
/*
 * Maps memory of another process; takes ownership of `fd` on success only. Checks type, seals and size. GPU memory may lie on another GPU
 * than `device`: the mapping is for access from `device`.
 */
int tck_memory_import(struct tck_device *device, int fd, uint64_t bytes, struct tck_memory *memory);
/* Unmaps and closes what is there; leaves an empty struct. */
void tck_memory_release(struct tck_memory *memory);

#endif
