/*
 * Kernels of the one-shot, or, for one rank, of the epilogue behind a library's sum: tck_PREFIX_TYPE_plain and _norm, for files that are
 * nothing but a list of them.
 */
#ifndef TCK_CUDA_ONESHOT_KERNELS_CUH
#define TCK_CUDA_ONESHOT_KERNELS_CUH

#include "oneshot_norm.cuh"
#include "oneshot_plain.cuh"
#include "signal.cuh"

/* Registers for two blocks of an SM with a few ranks, for one with many; the same per thread in blocks of half the size. */
#define TCK_ONESHOT_KERNELS(prefix, type, suffix, N)                                                                                       \
    extern "C" __global__ void __launch_bounds__(512, (N) == 0 || (N) > 4 ? 1 : 2)                                                         \
        prefix##_##type##_plain##suffix(const __grid_constant__ struct tck_cuda_args args)                                                 \
    {                                                                                                                                      \
        tck_oneshot_plain<tck_##type, N>(args);                                                                                            \
        if ((N) != 1)                                                                                                                      \
            tck_signal(args);                                                                                                              \
    }                                                                                                                                      \
    extern "C" __global__ void __launch_bounds__(256, (N) == 0 || (N) > 4 ? 2 : 3)                                                         \
        prefix##_##type##_norm##suffix(const __grid_constant__ struct tck_cuda_args args)                                                  \
    {                                                                                                                                      \
        tck_oneshot_norm<tck_##type, N>(args);                                                                                             \
        if ((N) != 1)                                                                                                                      \
            tck_signal(args);                                                                                                              \
    }

#define TCK_ONESHOT_TYPES(prefix, suffix, N)                                                                                               \
    TCK_ONESHOT_KERNELS(prefix, fp32, suffix, N)                                                                                           \
    TCK_ONESHOT_KERNELS(prefix, fp16, suffix, N)                                                                                           \
    TCK_ONESHOT_KERNELS(prefix, bf16, suffix, N)

#endif
