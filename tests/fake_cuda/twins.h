/*
 * Kernels by name. A twin does on the host what its kernel does on a device: same parameters, same effect on memory that others see, not
 * the same algorithm. Twins run on the thread of their stream.
 */
#ifndef TESTS_FAKE_CUDA_TWINS_H
#define TESTS_FAKE_CUDA_TWINS_H

#include "memory.h"

struct fake_launch {
    char name[128];
    const struct fake_context *context;
    unsigned grid[3], block[3], cluster; /* cluster: along x, the only direction */
    const void *params;                  /* the kernel's only parameter, a copy */
};

struct fake_twin {
    const char *prefix; /* of the names that it stands for */
    size_t param_bytes;
    CUresult (*run)(const struct fake_launch *launch);
};

const struct fake_twin *fake_twin_find(const char *name);

/* The twins; CUDA_ERROR_ILLEGAL_ADDRESS where the device could not have reached the memory. */
CUresult fake_twin_all_reduce(const struct fake_launch *launch);
CUresult fake_twin_epilogue(const struct fake_launch *launch);
CUresult fake_twin_copy(const struct fake_launch *launch);
CUresult fake_twin_tell(const struct fake_launch *launch);

/* What the end of a launch tells. */
struct tck_cuda_signal;
CUresult fake_twin_signal(const struct fake_launch *launch, const struct tck_cuda_signal *signal);

#endif
