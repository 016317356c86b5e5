/*
 * How the multicast kernels are launched: grid, cluster and block are the same on all ranks, since blocks meet those of the same number.
 */
#include "cuda/nvls.h"

#include <tcw/types.h>

enum {
    WARP = 32,
    NARROW = 128,
    WIDEST_PLAIN = 512, /* threads, as the kernels' launch bounds say */
    WIDEST_NORM = 256,
    MOST_PACKS = 1 << 26, /* of a launch: indices have 32 bits, and count the slots of 16 ranks */
};

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* Packs of a row that a block of a cluster of `cluster` takes: an even number, see epilogue.cuh. */
static uint32_t packs_each(const struct tck_cuda_args *args, uint32_t cluster)
{
    uint32_t each = (args->run.row_packs + cluster - 1) / cluster;
    return each + (each & 1);
}

static int shape(const struct tck_cuda_args *args, const struct tck_cuda_target *target, uint64_t most_tokens,
                 struct tck_cuda_shape *result)
{
    uint64_t tokens = least(least(args->run.tokens, most_tokens), MOST_PACKS / args->run.row_packs), packs = tokens * args->run.row_packs;
    uint32_t threads = NARROW, cluster = 1, blocks;
    if (!tokens)
        return TCW_EINVAL;
    if (args->run.residual_in) {
        for (cluster = tck_cuda_widest_cluster(target); cluster > 1 && packs_each(args, cluster) < NARROW; cluster /= 2)
            ;
        threads = (uint32_t)least((packs_each(args, cluster) + WARP - 1) / WARP * WARP, WIDEST_NORM);
        blocks = (uint32_t)least(tokens, TCK_NVLS_BLOCKS / cluster) * cluster;
    } else {
        while (threads < WIDEST_PLAIN && packs > (uint64_t)threads * TCK_NVLS_BLOCKS)
            threads *= 2;
        blocks = (uint32_t)least((packs + threads - 1) / threads, TCK_NVLS_BLOCKS);
    }
    *result = (struct tck_cuda_shape){.grid = blocks, .threads = threads, .cluster = cluster, .tokens = tokens};
    return 0;
}

/* A slot for each rank. */
int tck_cuda_nvls_oneshot_shape(const struct tck_cuda_args *args, const struct tck_cuda_target *target, struct tck_cuda_shape *result)
{
    return shape(args, target, tck_cuda_room(args) / args->link.nranks / args->run.row_packs, result);
}

/*
 * Two messages, and besides: a shard's rounding to whole lines or rows for each rank, a flag for each block of each rank.
 */
int tck_cuda_nvls_shape(const struct tck_cuda_args *args, const struct tck_cuda_target *target, struct tck_cuda_shape *result)
{
    uint64_t besides = (uint64_t)args->link.nranks * (args->run.row_packs + 8 + TCK_NVLS_BLOCKS), room = tck_cuda_room(args);
    return shape(args, target, room < besides ? 0 : (room - besides) / 2 / args->run.row_packs, result);
}
