/* GPU memory: VMM allocations exported as descriptors. The CUDA device's part of tck/memory.h. Owner and threads: as there. */
#ifndef TCK_CUDA_MEMORY_H
#define TCK_CUDA_MEMORY_H

#include <tck/memory.h>

#include <stdbool.h>
#include <stddef.h>

int tck_cuda_memory_create(struct tck_device *device, uint64_t bytes, struct tck_memory *memory);
int tck_cuda_memory_import(struct tck_device *device, int fd, uint64_t bytes, struct tck_memory *memory);
void tck_cuda_memory_unmap(struct tck_memory *memory);

/*
 * Whether memory can really be made and exported here, as a descriptor or as a fabric handle: does it once, with the context current. 0 or
 * a tcw_errno, and the driver's words in `why` (why_bytes 0: not wanted).
 */
int tck_cuda_memory_probe(struct tck_device *device, bool fabric, char *why, size_t why_bytes);

#endif
