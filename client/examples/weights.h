/*
 * The weights of one shard, made from a seed. Owner: weights_create's caller; free with weights_destroy. Read-only afterwards, any thread.
 */
#ifndef EXAMPLES_WEIGHTS_H
#define EXAMPLES_WEIGHTS_H

#include "tensor.h"

#include <stdint.h>

enum {
    LAYERS = 8,
    HIDDEN = 1024,
    HEADS = 16,
    HEAD_DIM = 64,
    INNER = 2816, /* columns of the MLP */
    VOCABULARY = 256,
    MAX_SHARDS = 4, /* 1, 2 or 4 ranks */
    CHUNK = 64,     /* tokens of one forward pass at most */
    REACH = 16      /* how far back one layer looks for its symbol, see weights.c */
};

#define NORM_EPS    1e-6f
#define ROTARY_BASE 256.0f

struct layer {
    bf16 *query, *key, *value; /* [local heads * HEAD_DIM][HIDDEN] */
    bf16 *output;              /* [HIDDEN][local heads * HEAD_DIM] */
    bf16 *gate, *up;           /* [local inner][HIDDEN] */
    bf16 *down;                /* [HIDDEN][local inner] */
};

struct weights {
    uint32_t rank, nranks;
    bf16 *memory;    /* everything below points into it */
    bf16 *embedding; /* [VOCABULARY][HIDDEN], on every rank */
    bf16 *norms;     /* [2 * LAYERS + 1][HIDDEN], on every rank: before attention and before the MLP of each layer, and the last */
    bf16 *head;      /* [VOCABULARY / nranks][HIDDEN] */
    struct layer layers[LAYERS];
    uint64_t bytes;
};

/* NULL: out of memory, or nranks is not 1, 2 or 4. A shard's weights are the same numbers as the corresponding part of the whole. */
struct weights *weights_create(uint64_t seed, uint32_t rank, uint32_t nranks);
void weights_destroy(struct weights *weights);

#endif
