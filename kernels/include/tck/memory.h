/*
 * Shareable memory of a device: made by an executor, exported as a descriptor, imported and mapped by clients and other executors.
 * On host devices it is a sealed memfd; on GPUs it will be VMM memory. Owner: the process that holds the struct; the memory lives
 * until its last descriptor and mapping are gone.
 */
#ifndef TCK_MEMORY_H
#define TCK_MEMORY_H

#include <stdint.h>

typedef enum tck_device_kind { TCK_DEVICE_HOST = 0, TCK_DEVICE_CUDA = 1 } tck_device_kind;

struct tck_memory {
    void *base;     /* mapping, NULL until mapped */
    uint64_t bytes; /* whole pages */
    int fd;         /* owned; -1 when only the mapping is kept */
    tck_device_kind kind;
};

/* Allocates and maps zeroed memory, `bytes` rounded up to whole pages, pages reserved. 0 or a negative tcw_errno; *memory set on success.
 */
int tck_memory_create(tck_device_kind kind, const char *name, uint64_t bytes, struct tck_memory *memory);
/* Maps memory of another process; takes ownership of `fd` on success only. Checks type, seals and size. */
int tck_memory_import(tck_device_kind kind, int fd, uint64_t bytes, struct tck_memory *memory);
/* Unmaps and closes what is there; leaves an empty struct. */
void tck_memory_release(struct tck_memory *memory);

#endif
