/*
 * What follows a sum (seed-spec 4): bias, residual, RMSNorm, quantization, on packs that are spread over the threads of a cluster.
 *
 * A row belongs to a cluster of blocks; block c of C owns `each` packs of it from c * each on (an even number, so that the two packs of an
 * NVFP4 block are neighbours in a warp), thread t those at t, t + threads, ... The order of the sum of squares is fixed by that shape and
 * by nothing else: within a pack as a tree, over a thread's packs in ascending order, over a warp as a butterfly, over the warps of the
 * cluster in lane order as a butterfly again. So ranks with the same shape get the same bits.
 */
#ifndef TCK_CUDA_EPILOGUE_CUH
#define TCK_CUDA_EPILOGUE_CUH

#include "pack.cuh"

#include "arith/fp4.h"

enum { TCK_MAX_CLUSTER = 8, TCK_MAX_WARPS = 32 };

/* A thread's place in its row. */
struct tck_place {
    uint32_t cluster; /* blocks */
    uint32_t block;   /* of this thread in its cluster */
    uint32_t each;    /* packs of a block */
    uint32_t steps;   /* packs of a thread, at most */
};

TCK_DEVICE struct tck_place tck_place_find(const struct tck_cuda_operation &run)
{
    struct tck_place place = {1, 0, 0, 0};
#if __CUDA_ARCH__ >= 900
    asm("mov.u32 %0, %%cluster_nctaid.x;" : "=r"(place.cluster));
    asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(place.block));
#endif
    place.each = (run.row_packs + place.cluster - 1) / place.cluster;
    place.each += place.each & 1;
    place.steps = (place.each + blockDim.x - 1) / blockDim.x;
    return place;
}

/* Pack of the row that is this thread's at `step`; row_packs or more: none. */
TCK_DEVICE uint32_t tck_place_pack(const struct tck_place &place, const struct tck_cuda_operation &run, uint32_t step)
{
    uint32_t in_block = step * blockDim.x + threadIdx.x;
    return in_block < place.each ? place.block * place.each + in_block : run.row_packs;
}

/* Before the first tck_row_total, as early as possible: announces this block to the others of its cluster. */
TCK_DEVICE void tck_cluster_begin(const struct tck_place &place)
{
#if __CUDA_ARCH__ >= 900
    if (place.cluster > 1)
        asm volatile("barrier.cluster.arrive.relaxed.aligned;" ::: "memory");
#endif
}
TCK_DEVICE void tck_cluster_begun(const struct tck_place &place)
{
#if __CUDA_ARCH__ >= 900
    if (place.cluster > 1)
        asm volatile("barrier.cluster.wait.aligned;" ::: "memory");
#endif
}

TCK_DEVICE float tck_warp_total(float x)
{
#pragma unroll
    for (int distance = 16; distance; distance /= 2)
        x = __fadd_rn(x, __shfl_xor_sync(0xffffffffu, x, distance));
    return x;
}

/*
 * The sum over all threads of a cluster, in all of them. `partial` is shared memory for two rounds, of which `parity` names one: the rounds
 * of a kernel must alternate, then one barrier is enough. Every thread of the cluster calls it equally often.
 */
TCK_DEVICE float tck_row_total(const struct tck_place &place, float mine, float (*partial)[TCK_MAX_CLUSTER * TCK_MAX_WARPS],
                               uint32_t parity)
{
    const uint32_t lane = threadIdx.x & 31, warps = blockDim.x / 32, mail = place.block * warps + threadIdx.x / 32;
    float total = 0;
    mine = tck_warp_total(mine);
#if __CUDA_ARCH__ >= 900
    if (place.cluster > 1) {
        if (lane < place.cluster) {
            uint32_t here = (uint32_t)__cvta_generic_to_shared(&partial[parity][mail]), there;
            asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(there) : "r"(here), "r"(lane));
            asm volatile("st.shared::cluster.f32 [%0], %1;" ::"r"(there), "f"(mine) : "memory");
        }
        asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
        asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
    } else
#endif
    {
        if (lane == 0)
            partial[parity][mail] = mine;
        __syncthreads();
    }
    for (uint32_t i = lane; i < place.cluster * warps; i += 32)
        total = __fadd_rn(total, partial[parity][i]);
    return tck_warp_total(total);
}

/* What a row's elements are multiplied by, from its sum of squares. */
TCK_DEVICE float tck_row_inverse(const struct tck_cuda_operation &run, float squares)
{
    return rsqrtf(__fadd_rn(__fdiv_rn(squares, (float)run.hidden), run.eps));
}

/* The squares of a pack. */
template <class T> TCK_DEVICE float tck_pack_squares(const struct tck_cuda_operation &run, uint4 u)
{
    float f[T::ELEMENTS];
    T::unpack(u, f);
#pragma unroll
    for (int i = 0; i < T::ELEMENTS; i++)
        f[i] = __fmul_rn(f[i], f[i]);
    if (T::HALF && run.flags & TCK_CUDA_ROUND_SQUARES) {
#pragma unroll
        for (int i = 0; i < T::ELEMENTS; i++)
            f[i] = T::round(f[i]);
    }
#pragma unroll
    for (int half = T::ELEMENTS / 2; half; half /= 2)
#pragma unroll
        for (int i = 0; i < half; i++)
            f[i] = __fadd_rn(f[i], f[i + half]);
    return f[0];
}

/* Eight (or four, T fp32) E4M3 codes. */
TCK_DEVICE uint32_t tck_e4m3_pair(float low, float high)
{
#if __CUDA_ARCH__ >= 890
    uint16_t codes;
    asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(codes) : "f"(high), "f"(low));
    return codes;
#else
    return (uint32_t)tck_e4m3_from_float(high) << 8 | tck_e4m3_from_float(low);
#endif
}

template <class T> TCK_DEVICE void tck_store_fp8(uint8_t *at, const float f[T::ELEMENTS], float multiplier)
{
    uint32_t words[T::ELEMENTS / 4];
#pragma unroll
    for (int i = 0; i < T::ELEMENTS / 4; i++)
        words[i] = tck_e4m3_pair(__fmul_rn(f[4 * i], multiplier), __fmul_rn(f[4 * i + 1], multiplier)) |
                   tck_e4m3_pair(__fmul_rn(f[4 * i + 2], multiplier), __fmul_rn(f[4 * i + 3], multiplier)) << 16;
    if (T::HALF)
        *(uint2 *)at = make_uint2(words[0], words[T::ELEMENTS / 4 - 1]);
    else
        *(uint32_t *)at = words[0];
}

/* This thread's half of an NVFP4 block, the neighbour lane having the other. All lanes of the warp are here; those without a pack store
 * nothing. */
TCK_DEVICE void tck_store_fp4(const struct tck_cuda_operation &run, uint64_t row, uint32_t pack, const float f[8], float global)
{
    float largest = 0;
    uint32_t codes = 0;
    uint8_t scale;
    float multiplier;
#pragma unroll
    for (int i = 0; i < 8; i++)
        largest = fmaxf(largest, fabsf(f[i]));
    largest = fmaxf(largest, __shfl_xor_sync(0xffffffffu, largest, 1));
    scale = tck_nvfp4_scale(largest, global);
    multiplier = tck_nvfp4_multiplier(scale, global);
#pragma unroll
    for (int i = 0; i < 8; i++)
        codes |= (uint32_t)tck_e2m1_from_float(__fmul_rn(f[i], multiplier)) << (4 * i);
    if (pack >= run.row_packs)
        return;
    ((uint32_t *)run.quant_out)[row * run.row_packs + pack] = codes;
    if (pack % 2 == 0)
        ((uint8_t *)run.scale_out)[tck_nvfp4_scale_offset(run.first_token + row, pack / 2, run.hidden / 16)] = scale;
}

/* What the quantizations multiply by, read once per thread. */
TCK_DEVICE float tck_quant_factor(const struct tck_cuda_operation &run)
{
    if (run.flags & TCK_CUDA_WRITE_FP8)
        return tck_e4m3_multiplier(*run.scale);
    return run.flags & TCK_CUDA_WRITE_FP4 ? *run.scale : 0.0f;
}

/*
 * Norm and quantization of one pack of `u`; with a pack of row_packs or more nothing is stored. All lanes of a warp call it together.
 */
template <class T>
TCK_DEVICE void tck_pack_finish(const struct tck_cuda_operation &run, uint64_t row, uint32_t pack, uint4 u, uint4 gamma, float k,
                                float factor)
{
    float f[T::ELEMENTS], g[T::ELEMENTS];
    const bool mine = pack < run.row_packs;
    const uint64_t at = row * run.row_packs + pack;
    T::unpack(u, f);
    T::unpack(gamma, g);
#pragma unroll
    for (int i = 0; i < T::ELEMENTS; i++)
        f[i] = run.flags & TCK_CUDA_GAMMA_FIRST ? __fmul_rn(__fmul_rn(g[i], f[i]), k) : __fmul_rn(__fmul_rn(f[i], k), g[i]);
    if (mine && (run.flags & (TCK_CUDA_WRITE_FP8 | TCK_CUDA_FP8_UNROUNDED)) == (TCK_CUDA_WRITE_FP8 | TCK_CUDA_FP8_UNROUNDED))
        tck_store_fp8<T>((uint8_t *)run.quant_out + at * T::ELEMENTS, f, factor);
    uint4 norm = T::pack(f);
    if (mine && run.flags & TCK_CUDA_WRITE_NORM)
        ((uint4 *)run.out)[at] = norm;
    if (!(run.flags & (TCK_CUDA_WRITE_FP8 | TCK_CUDA_WRITE_FP4)))
        return;
    T::unpack(norm, f);
    if (mine && (run.flags & (TCK_CUDA_WRITE_FP8 | TCK_CUDA_FP8_UNROUNDED)) == TCK_CUDA_WRITE_FP8)
        tck_store_fp8<T>((uint8_t *)run.quant_out + at * T::ELEMENTS, f, factor);
    if (T::HALF && run.flags & TCK_CUDA_WRITE_FP4)
        tck_store_fp4(run, row, pack, f, factor);
}

/* gamma[pack], ones where there is none. */
template <class T> TCK_DEVICE uint4 tck_load_gamma(const struct tck_cuda_operation &run, uint32_t pack)
{
    if (run.gamma && pack < run.row_packs)
        return ((const uint4 *)run.gamma)[pack];
    float ones[T::ELEMENTS];
#pragma unroll
    for (int i = 0; i < T::ELEMENTS; i++)
        ones[i] = 1.0f;
    return T::pack(ones);
}

#endif
