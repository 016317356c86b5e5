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
    float per_hidden; /* 1 / hidden */
};

TCK_DEVICE struct tck_place tck_place_find(const struct tck_cuda_operation &run)
{
    struct tck_place place = {1, 0, 0, 0, __frcp_rn((float)run.hidden)};
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

/*
 * Shared memory of a block for the sums of its cluster. Rows alternate between two places. In a cluster, every warp sends its part to all
 * blocks, and the barrier of the place counts the bytes. A place is written again when its senders have everybody's parts of the row
 * after, which they have sent behind reading the place, so nothing else is needed.
 */
struct tck_cluster_sum {
    uint64_t barrier[2];
    float parts[2][TCK_MAX_CLUSTER * TCK_MAX_WARPS];
};

/* Every thread of the cluster, first of all: no block may write into another one's shared memory that has not begun. */
TCK_DEVICE void tck_cluster_begin(const struct tck_place &place, struct tck_cluster_sum *sums)
{
#if __CUDA_ARCH__ >= 900
    if (place.cluster == 1)
        return;
    if (threadIdx.x == 0) {
        for (int i = 0; i < 2; i++)
            asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"((uint32_t)__cvta_generic_to_shared(&sums->barrier[i])) : "memory");
        asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    }
    asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
    asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
#endif
}

TCK_DEVICE float tck_warp_total(float x)
{
#pragma unroll
    for (int distance = 16; distance; distance /= 2)
        x = __fadd_rn(x, __shfl_xor_sync(0xffffffffu, x, distance));
    return x;
}

#if __CUDA_ARCH__ >= 900
/* Sends this warp's part to place `at` of all blocks of the cluster, and waits for everybody's of row `round`. */
TCK_DEVICE void tck_cluster_exchange(const struct tck_place &place, float mine, struct tck_cluster_sum *sums, uint32_t round, uint32_t at)
{
    const uint32_t lane = tck_lane(), which = round & 1, parity = round >> 1 & 1, bytes = place.cluster * blockDim.x / 32 * 4;
    const uint32_t barrier = (uint32_t)__cvta_generic_to_shared(&sums->barrier[which]);
    if (lane < place.cluster) {
        uint32_t part = (uint32_t)__cvta_generic_to_shared(&sums->parts[which][at]), part_there, barrier_there;
        asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(part_there) : "r"(part), "r"(lane));
        asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(barrier_there) : "r"(barrier), "r"(lane));
        asm volatile("st.async.shared::cluster.mbarrier::complete_tx::bytes.u32 [%0], %1, [%2];" ::"r"(part_there),
                     "r"(__float_as_uint(mine)), "r"(barrier_there)
                     : "memory");
    }
    if (threadIdx.x == 0)
        asm volatile("mbarrier.arrive.expect_tx.relaxed.cluster.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory");
    asm volatile("{\n"
                 ".reg .pred done;\n"
                 "again: mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 done, [%0], %1;\n"
                 "@!done bra again;\n"
                 "}" ::"r"(barrier),
                 "r"(parity)
                 : "memory");
}
#endif

/*
 * The sum over all threads of a cluster, in all of them, for row number `round` of this cluster, from 0. Every thread of the cluster calls
 * it for every row.
 */
TCK_DEVICE float tck_row_total(const struct tck_place &place, float mine, struct tck_cluster_sum *sums, uint32_t round)
{
    const uint32_t lane = tck_lane(), warps = blockDim.x / 32, at = place.block * warps + threadIdx.x / 32;
    float total = 0;
    __syncwarp(); /* without it 0.05 us more, where the warp is together as well */
    mine = tck_warp_total(mine);
#if __CUDA_ARCH__ >= 900
    if (place.cluster > 1)
        tck_cluster_exchange(place, mine, sums, round, at);
    else
#endif
    {
        if (lane == 0)
            sums->parts[round & 1][at] = mine;
        __syncthreads();
    }
#pragma unroll 1
    for (uint32_t first = 0; first < place.cluster * warps; first += 32)
        if (first + lane < place.cluster * warps)
            total = __fadd_rn(total, sums->parts[round & 1][first + lane]);
    __syncwarp();
    return tck_warp_total(total);
}

/* What a row's elements are multiplied by, from its sum of squares. */
TCK_DEVICE float tck_row_inverse(const struct tck_place &place, const struct tck_cuda_operation &run, float squares)
{
    return rsqrtf(__fadd_rn(__fmul_rn(squares, place.per_hidden), run.eps));
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

/*
 * Two E2M1 codes, that of `low` in the low half of the byte. The instruction belongs to GPU families, not to all later GPUs, so only images
 * made for a family (100f, 120f) have it. It rounds, saturates and treats NaN as tck_e2m1_from_float() does.
 */
TCK_DEVICE uint32_t tck_e2m1_pair(float low, float high)
{
#ifdef __CUDA_ARCH_FAMILY_SPECIFIC__
    uint16_t pair;
    asm("{ .reg .b8 codes; cvt.rn.satfinite.e2m1x2.f32 codes, %2, %1; mov.b16 %0, {codes, 0}; }" : "=h"(pair) : "f"(low), "f"(high));
    return pair;
#else
    return (uint32_t)tck_e2m1_from_float(low) | (uint32_t)tck_e2m1_from_float(high) << 4;
#endif
}

/* This thread's half of an NVFP4 block, the neighbour lane having the other. All lanes of the warp are here; those without a pack store
 * nothing. Out of line: long, and few want it. */
template <class T>
static __device__ __noinline__ void tck_store_fp4(const struct tck_cuda_operation &run, uint64_t row, uint32_t pack, uint4 norm,
                                                  float global)
{
    float f[8], largest = 0;
    uint32_t codes = 0;
    uint8_t scale;
    float multiplier;
    T::unpack(norm, f);
#pragma unroll
    for (int i = 0; i < 8; i++)
        largest = fmaxf(largest, fabsf(f[i]));
    largest = fmaxf(largest, __shfl_xor_sync(0xffffffffu, largest, 1));
    scale = tck_nvfp4_scale(largest, global);
    multiplier = tck_nvfp4_multiplier(scale, global);
#pragma unroll
    for (int i = 0; i < 8; i += 2)
        codes |= tck_e2m1_pair(__fmul_rn(f[i], multiplier), __fmul_rn(f[i + 1], multiplier)) << (4 * i);
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
    const bool gamma_first = run.flags & TCK_CUDA_GAMMA_FIRST;
#pragma unroll
    for (int i = 0; i < T::ELEMENTS; i++)
        f[i] = __fmul_rn(__fmul_rn(f[i], gamma_first ? g[i] : k), gamma_first ? k : g[i]);
    const uint4 norm = T::pack(f);
    if (mine && run.flags & TCK_CUDA_WRITE_NORM)
        ((uint4 *)run.out)[at] = norm;
    if (run.flags & TCK_CUDA_WRITE_FP8) {
        if (!(run.flags & TCK_CUDA_FP8_UNROUNDED))
            T::unpack(norm, f);
        if (mine)
            tck_store_fp8<T>((uint8_t *)run.quant_out + at * T::ELEMENTS, f, factor);
    }
    if constexpr (T::HALF) {
        if (run.flags & TCK_CUDA_WRITE_FP4)
            tck_store_fp4<T>(run, row, pack, norm, factor);
    }
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
