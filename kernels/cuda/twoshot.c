/*
 * How the two-shot kernels are launched. The tokens of a launch, and in norm form cluster and block, must be the same on all ranks, so they
 * are made of what all ranks know.
 */
#include "cuda/twoshot.h"

#include "cuda/family.h"

#include <tcw/types.h>

#include <stdbool.h>

enum {
    WARP = 32,
    NARROWEST = 64,     /* threads of a block */
    AT_ONCE = 48 << 10, /* threads that surely find room, in blocks of any size, on the GPUs that this is made for */
    FREE = 32,          /* one in so many blocks is not used, so that clusters fit in what is there */
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
    return (uint32_t)tck_cuda_room(args) / (2 * (args->link.nranks - 1));
}

/* Launches of equal length: how many of `tokens` go into the next one when it
 * may take `most`. */
static uint32_t tokens_of_launch(uint64_t tokens, uint32_t most)
{
    uint64_t launches = most ? (tokens + most - 1) / most : 1;
    return (uint32_t)((tokens + launches - 1) / launches);
}

/* Blocks (or clusters) for `parts` of each shard, at most `most` of them in
 * all, but one for each. */
static uint32_t for_all_shards(uint32_t most, uint32_t parts, uint32_t nranks)
{
    uint32_t each = least(most / nranks, parts);
    return (each ? each : 1) * nranks;
}

static int shape_plain(const struct tck_cuda_args *args, const struct tck_cuda_target *target, struct tck_cuda_shape *shape)
{
    uint32_t n = args->link.nranks, most = shard_room(args) / 8 * 8 * n / args->run.row_packs;
    uint32_t tokens = tokens_of_launch(args->run.tokens, most), shard = tck_twoshot_shard(tokens * args->run.row_packs, n);
    /* as many blocks as it takes for threads to have one pack each: long messages go better in many waves of blocks */
    uint32_t threads = tck_cuda_resident(target, NARROWEST) < n ? WARP : NARROWEST;
    uint32_t blocks = least(target->blocks ? target->blocks : TCK_CUDA_MOST_BLOCKS, TCK_CUDA_MOST_BLOCKS);
    /* and no wider than lets a block of every shard in, where few multiprocessors are ours: these wait for each other */
    while (threads < TCK_TWOSHOT_MOST_plain(n) && (uint64_t)n * shard > (uint64_t)threads * target->multiprocessors &&
           tck_cuda_resident(target, 2 * threads) >= n)
        threads *= 2;
    *shape = (struct tck_cuda_shape){
        .grid = for_all_shards(blocks, quotient_up(shard, threads), n), .threads = threads, .cluster = 1, .tokens = tokens};
    return most ? 0 : TCW_EINVAL;
}

/* Packs of a row that a block of a cluster of `cluster` takes: an even number,
 * see epilogue.cuh. */
static uint32_t packs_each(const struct tck_cuda_args *args, uint32_t cluster)
{
    uint32_t each = quotient_up(args->run.row_packs, cluster);
    return each + (each & 1);
}

/* Threads of a block that takes a row together with the others of its cluster. */
static uint32_t threads_for(const struct tck_cuda_args *args, uint32_t cluster)
{
    return least(whole_warps(packs_each(args, cluster)), TCK_TWOSHOT_MOST_norm(args->link.nranks));
}

/*
 * The narrowest cluster whose threads take a row at once; wider ones while all rows find room at once. Where few multiprocessors are ours,
 * narrower: a cluster of every shard must be there at the same time, and clusters leave room unused.
 */
static uint32_t choose_cluster(const struct tck_cuda_args *args, const struct tck_cuda_target *target, uint32_t rows)
{
    const uint32_t n = args->link.nranks, widest = tck_cuda_widest_cluster(target);
    const bool spread = (uint64_t)rows * n * args->run.row_packs <= AT_ONCE;
    uint32_t cluster = 1;
    while (cluster < widest && packs_each(args, cluster) > (spread ? 2 * NARROWEST : TCK_TWOSHOT_MOST_norm(n)))
        cluster *= 2;
    while (cluster > 1 && 2 * n * cluster > tck_cuda_resident(target, threads_for(args, cluster)))
        cluster /= 2;
    return cluster;
}

static int shape_norm(const struct tck_cuda_args *args, const struct tck_cuda_target *target, struct tck_cuda_shape *shape)
{
    uint32_t n = args->link.nranks, most = shard_room(args) / args->run.row_packs * n;
    uint32_t tokens = tokens_of_launch(args->run.tokens, most), rows = tck_twoshot_tokens(tokens, n, 0);
    uint32_t cluster = choose_cluster(args, target, rows), threads = threads_for(args, cluster), resident, blocks;
    while (threads > WARP && tck_cuda_resident(target, threads) < n)
        threads = whole_warps(threads / 2);
    resident = tck_cuda_resident(target, threads);
    blocks = least(target->blocks ? target->blocks : resident - resident / FREE, TCK_CUDA_MOST_BLOCKS);
    *shape = (struct tck_cuda_shape){
        .grid = for_all_shards(blocks / cluster, rows, n) * cluster, .threads = threads, .cluster = cluster, .tokens = tokens};
    return most ? 0 : TCW_EINVAL;
}

int tck_cuda_twoshot_shape(const struct tck_cuda_args *args, const struct tck_cuda_target *target, struct tck_cuda_shape *shape)
{
    return args->run.residual_in ? shape_norm(args, target, shape) : shape_plain(args, target, shape);
}
