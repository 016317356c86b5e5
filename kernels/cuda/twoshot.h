/*
 * What the two-shot kernels and their shape function both compute. Plain C and CUDA C++.
 *
 * Owner: nobody, pure functions. Threads: any.
 */
#ifndef TCK_CUDA_TWOSHOT_H
#define TCK_CUDA_TWOSHOT_H

#include "arith/hd.h"

#include <stdbool.h>

/* Threads of a block, at most, in kernels for `ranks`, 0 being those for any number: who waits for eight at once needs registers. */
#define TCK_TWOSHOT_MOST_plain(ranks) ((ranks) == 8 ? 512 : 1024)
#define TCK_TWOSHOT_MOST_norm(ranks)  512

/* Plain form: packs of a shard, whole cache lines of 128 bytes. */
TCK_HD uint32_t tck_twoshot_shard(uint32_t packs, uint32_t nranks)
{
    return ((packs + nranks - 1) / nranks + 7) & ~7u;
}

/* Norm form (seed-spec 8.1): tokens of a shard, and the first of them. */
TCK_HD uint32_t tck_twoshot_tokens(uint32_t tokens, uint32_t nranks, uint32_t rank)
{
    return tokens / nranks + (rank < tokens % nranks);
}
TCK_HD uint32_t tck_twoshot_first(uint32_t tokens, uint32_t nranks, uint32_t rank)
{
    uint32_t rest = tokens % nranks;
    return rank * (tokens / nranks) + (rank < rest ? rank : rest);
}

/*
 * Whether the blocks (norm form: of a cluster, the first) that work on part `part` of `parts` of this shard post the end of the run. One of
 * a launch does, and ends with it: the first shard is never shorter than others, its last part begins last, or has one of the longest
 * (`rows`; 0: plain form).
 */
TCK_HD bool tck_twoshot_posts(uint32_t shard, uint32_t part, uint32_t parts, uint32_t rows)
{
    return shard == 0 && part == (rows ? (rows - 1) % parts : parts - 1);
}

#endif
