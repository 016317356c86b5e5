/* What stands in for the CUDA device where it is not built in: nothing can be opened, so nothing else is ever called with a device. */
#include "cuda/memory.h"

#include <tck/device.h>
#include <tcw/types.h>

#include <stdio.h>

bool tck_cuda_built(void)
{
    return false;
}

int tck_device_open(const unsigned char *uuid, int ordinal, struct tck_device **device, char *why, size_t why_bytes)
{
    (void)uuid;
    (void)ordinal;
    (void)device;
    snprintf(why, why_bytes, "CUDA devices are not built in");
    return TCW_ENOTSUP;
}

unsigned tck_device_peers(const struct tck_device *device, struct tck_device_peer *peers, unsigned most)
{
    (void)device;
    (void)peers;
    (void)most;
    return 0;
}

void tck_device_close(struct tck_device *device)
{
    (void)device;
}

const struct tck_device_facts *tck_device_facts(const struct tck_device *device)
{
    (void)device;
    return NULL;
}

int tck_cuda_memory_create(struct tck_device *device, uint64_t bytes, struct tck_memory *memory)
{
    (void)device;
    (void)bytes;
    (void)memory;
    return TCW_ENOTSUP;
}

int tck_cuda_memory_import(struct tck_device *device, int fd, uint64_t bytes, struct tck_memory *memory)
{
    (void)device;
    (void)fd;
    (void)bytes;
    (void)memory;
    return TCW_ENOTSUP;
}

void tck_cuda_memory_unmap(struct tck_memory *memory)
{
    (void)memory;
}
