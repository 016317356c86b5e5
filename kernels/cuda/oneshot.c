#include "cuda/family.h"

#include <tcw/types.h>

enum {
    NARROWEST = 32, /* threads of a block: short messages are spread over many multiprocessors */
    NARROW = 128,
    COUNTED = 256,      /* the narrowest where blocks are counted */
    WIDEST_PLAIN = 512, /* as the kernels' launch bounds say */
    WIDEST_NORM = 256,
    IN_TURNS = 256,       /* threads of a multiprocessor at least, where clusters take one row after the other */
    FEW_TURNS = 8,        /* rows of a cluster, before there are twice as many threads */
    SPREAD = 64,          /* blocks, before they get wider than the narrowest */
    MOST_PACKS = 1 << 26, /* of a launch: indices have 32 bits, and count the slots of 16 ranks */
};

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static void shape_plain(const struct tck_cuda_args *args, const struct tck_cuda_target *target, struct tck_cuda_shape *shape)
{
    uint64_t packs = shape->tokens * args->run.row_packs, blocks, most;
    uint32_t threads = target->few_blocks ? COUNTED : NARROWEST;
    while (threads < WIDEST_PLAIN && (packs + threads - 1) / threads > (threads < NARROW ? SPREAD : target->multiprocessors))
        threads *= 2;
    /* a pack for each thread, though the last blocks of a long message find room only when the first have ended: see family.h */
    most = args->link.nranks > 1 ? TCK_CUDA_MOST_BLOCKS : tck_cuda_resident(target, threads);
    blocks = least((packs + threads - 1) / threads, target->blocks ? target->blocks : most);
    shape->grid = (uint32_t)least(blocks, TCK_CUDA_MOST_BLOCKS);
    shape->threads = threads;
    shape->cluster = 1;
}

/* Packs of a row that a block of a cluster of `cluster` takes: an even number, see epilogue.cuh. */
static uint32_t packs_each(const struct tck_cuda_args *args, uint32_t cluster)
{
    uint32_t each = (args->run.row_packs + cluster - 1) / cluster;
    return each + (each & 1);
}

/*
 * As many clusters as rows if they find room at once. Where they take turns, fewer of them send ahead what the links take anyway: rows come
 * and are finished one after the other, not all at the end. Many turns cost more than that saves, since each begins behind a wait.
 */
static uint64_t clusters_for(const struct tck_cuda_args *args, const struct tck_cuda_target *target, uint64_t rows, uint32_t threads,
                             uint32_t cluster)
{
    uint32_t resident = tck_cuda_resident(target, threads), enough = (IN_TURNS + threads - 1) / threads * target->multiprocessors;
    if (rows > FEW_TURNS * (uint64_t)(enough / cluster))
        enough *= 2;
    if (args->link.nranks > 1 && rows > resident / cluster && enough < resident)
        resident = enough;
    return least(target->blocks ? target->blocks : resident, TCK_CUDA_MOST_BLOCKS) / cluster;
}

static void shape_norm(const struct tck_cuda_args *args, const struct tck_cuda_target *target, struct tck_cuda_shape *shape)
{
    uint32_t cluster = tck_cuda_widest_cluster(target), threads;
    uint64_t clusters;
    while (cluster > 1 && packs_each(args, cluster) < NARROW)
        cluster /= 2;
    threads = (uint32_t)least((packs_each(args, cluster) + 31) / 32 * 32, WIDEST_NORM);
    clusters = clusters_for(args, target, shape->tokens, threads, cluster);
    shape->grid = (uint32_t)least(shape->tokens, clusters ? clusters : 1) * cluster;
    shape->threads = threads;
    shape->cluster = cluster;
}

int tck_cuda_oneshot_shape(const struct tck_cuda_args *args, const struct tck_cuda_target *target, struct tck_cuda_shape *shape)
{
    uint64_t others = args->link.nranks - 1, most = MOST_PACKS / args->run.row_packs;
    *shape = (struct tck_cuda_shape){.tokens = least(args->run.tokens, most)};
    if (others)
        shape->tokens = least(shape->tokens, tck_cuda_room(args) / others / args->run.row_packs);
    if (!shape->tokens)
        return TCW_EINVAL;
    if (args->run.residual_in)
        shape_norm(args, target, shape);
    else
        shape_plain(args, target, shape);
    return 0;
}
