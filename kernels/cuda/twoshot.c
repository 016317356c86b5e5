/* How the two-shot kernels are launched. Every rank must come to the same answer, so it is made of what all ranks know, see twoshot.cuh. */
#include "cuda/twoshot.h"

#include "cuda/family.h"

#include <tcw/types.h>

enum {
    WARP = 32,
    NARROWEST = 64, /* threads of a block */
    CLUSTER = 8,    /* what every GPU with clusters allows */
    BLOCKS = 128,   /* of any grid: one per multiprocessor of the GPUs that this is made for, a few of them left free */
};

static uint32_t least(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}
static uint32_t quotient_up(uint32_t a, uint32_t b)
{
    return (a + b - 1) / b;
}
static uint32_t whole_warps(uint32_t threads)
{
    return quotient_up(threads, WARP) * WARP;
}

/* Packs of a shard that a buffer has places for. */
static uint32_t shard_room(const struct tck_cuda_args *args)
{
    return (uint32_t)args->link.buffer_packs / (2 * (args->link.nranks - 1));
}

/* Launches of equal length: how many of `tokens` go into the next one when it may take `most`. */
static uint32_t tokens_of_launch(uint64_t tokens, uint32_t most)
{
    uint64_t launches = most ? (tokens + most - 1) / most : 1;
    return (uint32_t)((tokens + launches - 1) / launches);
}

/* A quarter of the room is for the last round, which may lack most of its packs. */
static int shape_plain(const struct tck_cuda_args *args, const struct tck_cuda_target *target, struct tck_cuda_shape *shape)
{
    uint32_t room = shard_room(args), most = room / 4 * 3 / 8 * 8 * args->link.nranks / args->run.row_packs;
    uint32_t tokens = tokens_of_launch(args->run.tokens, most);
    uint32_t shard = tck_twoshot_shard(tokens * args->run.row_packs, args->link.nranks);
    uint32_t blocks = least(target->blocks ? target->blocks : BLOCKS, TCK_CUDA_MOST_BLOCKS);
    uint32_t threads = whole_warps(quotient_up(shard, blocks));
    threads = threads < NARROWEST ? NARROWEST : least(threads, TCK_TWOSHOT_THREADS);
    blocks = least(least(blocks, quotient_up(shard, threads)), room / 4 / threads);
    *shape = (struct tck_cuda_shape){.grid = blocks, .threads = threads, .cluster = 1, .tokens = tokens};
    return most && blocks ? 0 : TCW_EINVAL;
}

/* Packs of a row that a block of a cluster of `cluster` takes: an even number, see epilogue.cuh. */
static uint32_t packs_each(const struct tck_cuda_args *args, uint32_t cluster)
{
    uint32_t each = quotient_up(args->run.row_packs, cluster);
    return each + (each & 1);
}

/* The narrowest cluster whose threads take a row at once; wider ones while there are fewer rows than the GPU has room for. */
static uint32_t choose_cluster(const struct tck_cuda_args *args, const struct tck_cuda_target *target, uint32_t rows, uint32_t blocks)
{
    uint32_t cluster = 1;
    if (target->compute < 90)
        return 1;
    while (cluster < CLUSTER && packs_each(args, cluster) > TCK_TWOSHOT_THREADS)
        cluster *= 2;
    while (cluster < CLUSTER && rows * cluster * 2 <= blocks && packs_each(args, cluster) > 2 * NARROWEST)
        cluster *= 2;
    return cluster;
}

static int shape_norm(const struct tck_cuda_args *args, const struct tck_cuda_target *target, struct tck_cuda_shape *shape)
{
    uint32_t room = shard_room(args) / args->run.row_packs, most = (room - room / 4) * args->link.nranks;
    uint32_t tokens = tokens_of_launch(args->run.tokens, most), rows = tck_twoshot_tokens(tokens, args->link.nranks, 0);
    uint32_t blocks = least(target->blocks ? target->blocks : BLOCKS, TCK_CUDA_MOST_BLOCKS);
    uint32_t cluster = choose_cluster(args, target, rows, blocks), clusters = blocks < cluster ? 1 : blocks / cluster;
    clusters = least(least(rows, clusters), room / 4);
    *shape = (struct tck_cuda_shape){.grid = clusters * cluster,
                                     .threads = least(whole_warps(packs_each(args, cluster)), TCK_TWOSHOT_THREADS),
                                     .cluster = cluster,
                                     .tokens = tokens};
    return clusters ? 0 : TCW_EINVAL;
}

int tck_cuda_twoshot_shape(const struct tck_cuda_args *args, const struct tck_cuda_target *target, struct tck_cuda_shape *shape)
{
    return args->run.residual_in ? shape_norm(args, target, shape) : shape_plain(args, target, shape);
}
