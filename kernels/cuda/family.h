/*
 * A family of all-reduce kernels, as comm.c launches it. The kernels of a family are named tck_<family>_<type>_<form>_<ranks>, type fp32,
 * fp16 or bf16; form plain or norm; ranks 2, 4, 8, or n for any other number. Each takes one struct tck_cuda_args by value.
 *
 * Owner: nobody, constants and pure functions. Threads: any.
 */
#ifndef TCK_CUDA_FAMILY_H
#define TCK_CUDA_FAMILY_H

#include "args.h"

enum { TCK_CUDA_STAGED_PACKS = 4 << 20 }; /* TCK_CUDA_STAGED_BYTES */

/* What a shape function may know of the GPU and of the kernel that it shapes. */
struct tck_cuda_target {
    uint32_t compute; /* 90 for SM 9.0 */
    uint32_t multiprocessors;
    uint32_t registers; /* per thread of this kernel */
    uint32_t blocks;    /* wanted grid, 0: the family's own rule */
};

struct tck_cuda_shape {
    uint32_t grid; /* blocks, a multiple of the cluster */
    uint32_t threads;
    uint32_t cluster;             /* 1 below SM 9.0 */
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

/* Blocks of `threads` threads that are resident at once, by registers and threads. */
static inline uint32_t tck_cuda_resident(const struct tck_cuda_target *target, uint32_t threads)
{
    uint32_t registers = target->registers ? (target->registers + 7) / 8 * 8 : 64;
    uint32_t by_registers = 65536 / (registers * threads), by_threads = (target->compute == 89 ? 1536u : 2048u) / threads;
    uint32_t blocks = by_registers < by_threads ? by_registers : by_threads;
    blocks = blocks > 16 ? 16 : blocks;
    return (blocks ? blocks : 1) * target->multiprocessors;
}

#endif
