/*
 * The scalar mathematics of trtcoll, written once: these headers compile as C11 and as CUDA C++, so a kernel and its host twin cannot
 * drift apart. Everything assumes round-to-nearest-even and gradual underflow (tck_comm_run sets both); nothing is fused or reordered
 * (the build says -ffp-contract=off; nvcc needs -fmad=false).
 *
 * Owner: nobody, pure functions. Threads: any.
 */
#ifndef TCK_ARITH_HD_H
#define TCK_ARITH_HD_H

#include <stdint.h>
#include <string.h>

#ifdef __CUDACC__
#define TCK_HD static __host__ __device__ __forceinline__
#else
#define TCK_HD static inline
#endif

TCK_HD uint32_t tck_bits_of(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof(bits));
    return bits;
}

TCK_HD float tck_float_of(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof(x));
    return x;
}

#endif
