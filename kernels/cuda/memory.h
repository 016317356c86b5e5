/* GPU memory: VMM allocations exported as descriptors. The CUDA device's part of tck/memory.h. Owner and threads: as there. */
#ifndef TCK_CUDA_MEMORY_H
#define TCK_CUDA_MEMORY_H

#include <tck/memory.h>

int tck_cuda_memory_create(struct tck_device *device, uint64_t bytes, struct tck_memory *memory);
int tck_cuda_memory_import(struct tck_device *device, int fd, uint64_t bytes, struct tck_memory *memory);
void tck_cuda_memory_unmap(struct tck_memory *memory);

#endif
