#include "cuda/memory.h"
#include "host/memory.h"

#include <unistd.h>

int tck_memory_create(struct tck_device *device, const char *name, uint64_t bytes, struct tck_memory *memory)
{
    return device ? tck_cuda_memory_create(device, bytes, memory) : tck_host_memory_create(name, bytes, memory);
}

int tck_memory_import(struct tck_device *device, int fd, uint64_t bytes, struct tck_memory *memory)
{
    return device ? tck_cuda_memory_import(device, fd, bytes, memory) : tck_host_memory_import(fd, bytes, memory);
}

void tck_memory_release(struct tck_memory *memory)
{
    if (memory->base && memory->device)
        tck_cuda_memory_unmap(memory);
    else if (memory->base)
        tck_host_memory_unmap(memory);
    if (memory->fd >= 0)
        close(memory->fd);
    *memory = (struct tck_memory){.fd = -1};
}
