/*
 * A family of all-reduce kernels, as comm.c launches it. The kernels of a family are named tck_<family>_<type>_<form>_<ranks>, type fp32,
 * fp16 or bf16; form plain or norm; ranks 2, 4, 8, or n for any other number. Each takes one struct tck_cuda_args by value.
 *
 * Owner: nobody, constants and pure functions. Threads: any.
 */
#ifndef TCK_CUDA_FAMILY_H
#define TCK_CUDA_FAMILY_H

#include "args.h"

#include <stdbool.h>

enum { TCK_CUDA_STAGED_PACKS = 4 << 20 }; /* TCK_CUDA_STAGED_BYTES */

/*
 * What a shape function may know of the GPUs and of the kernel that it shapes. Ranks may have GPUs of different models, or different shares
 * of them (MPS, partitions), but they launch the same shape: the numbers are what the group has agreed on (struct tcw_decision), the same
 * on all ranks, and only a rank alone, or one on GPUs known to be alike, takes its own.
 *
 * What different shapes would do:
 *
 *   sums                 nothing by themselves: where data lie depends on tokens and ranks only, but for the flags of nvls_reduce
 *   sums of squares      cluster and block say in which order a row's are added: norms would differ from rank to rank in their last bits
 *   one-shot, two-shot   blocks (clusters) wait for those of the same number, or of the same part of the shards, and for no others. So
 *                        it is enough that one such set at a time finds room, and grids may be larger than what does. With different grids
 *                        a block waits for peers' blocks that have not begun and cannot before it ends, wherever not all of a grid is
 *                        there at once: sums without a norm and more packs than find threads, grids of a tuning table, clusters
 *                        that do not all fit. It takes the deadline to end that
 *   nvls, ub-finalize    the same; their grids are made of constants and of the message, their clusters as the others'
 *
 * Besides, a share that is smaller than what a grid was made for only makes it slower. Tokens, ranks, buffers, strategy and `blocks` come
 * with the plan and are the same everywhere.
 */
struct tck_cuda_target {
    uint32_t compute;         /* 90 for SM 9.0; 0: not all GPUs have the same */
    uint32_t multiprocessors; /* the least that any rank has */
    uint32_t registers;       /* per thread of this kernel, for this `compute`; 0: not known */
    uint32_t blocks;          /* wanted grid, 0: the family's own rule */
    bool few_blocks;          /* rather fewer and wider ones: where a run tells its end it counts them, see signal.cuh */
};

struct tck_cuda_shape {
    uint32_t grid; /* blocks, a multiple of the cluster */
    uint32_t threads;
    uint32_t cluster;             /* tck_cuda_widest_cluster at most */
    uint32_t shared;              /* dynamic shared memory */
    uint64_t tokens;              /* that this launch takes: args->run.tokens, or as many as fit a buffer */
    uint32_t rounds, round_packs; /* go to the kernel as they are */
};

/* Fills *shape. 0, or EINVAL when not even one token fits a buffer. */
typedef int tck_cuda_shape_function(const struct tck_cuda_args *args, const struct tck_cuda_target *target, struct tck_cuda_shape *shape);

tck_cuda_shape_function tck_cuda_oneshot_shape, tck_cuda_twoshot_shape;

/* Packs of a buffer that a launch may use: without rows so few that what it takes of the message can be staged. */
static inline uint64_t tck_cuda_room(const struct tck_cuda_args *args)
{
    const uint64_t packs = args->link.buffer_packs;
    return args->run.row_packs == 1 && packs > TCK_CUDA_STAGED_PACKS ? TCK_CUDA_STAGED_PACKS : packs;
}

/* Threads of a multiprocessor; of GPUs that are not alike, what each of them has. */
static inline uint32_t tck_cuda_threads(uint32_t compute)
{
    switch (compute) {
    case 0:
    case 75:
        return 1024;
    case 86:
    case 87:
    case 89:
    case 120:
    case 121:
        return 1536;
    default:
        return 2048;
    }
}

/* Blocks of `threads` threads that are resident at once, by registers and threads. */
static inline uint32_t tck_cuda_resident(const struct tck_cuda_target *target, uint32_t threads)
{
    enum { MOST_REGISTERS = 128 }; /* of any kernel, as launch bounds say */
    uint32_t registers = target->registers ? (target->registers + 7) / 8 * 8 : MOST_REGISTERS;
    uint32_t by_registers = 65536 / (registers * threads), by_threads = tck_cuda_threads(target->compute) / threads;
    uint32_t blocks = by_registers < by_threads ? by_registers : by_threads;
    blocks = blocks > 16 ? 16 : blocks;
    return (blocks ? blocks : 1) * target->multiprocessors;
}

/*
 * The widest cluster that finds room on every rank. Its blocks lie in one of the groups of multiprocessors that a GPU is made of, eight
 * of them, twelve at most with SM 12, and a share may be spread over all.
 */
static inline uint32_t tck_cuda_widest_cluster(const struct tck_cuda_target *target)
{
    enum { WIDEST = 8 /* what every GPU with clusters allows */ };
    uint32_t cluster = target->compute >= 90 ? WIDEST : 1, places = target->compute >= 120 ? 12 : 8;
    while (cluster > 1 && cluster * places > target->multiprocessors)
        cluster /= 2;
    return cluster;
}

#endif
