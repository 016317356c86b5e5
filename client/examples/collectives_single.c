/*
 * One rank needs nobody: memory from the heap, and the epilogue of the fused all-reduce in plain C.
 */
#include "collectives.h"
#include "weights.h"

#include <stdlib.h>

enum { ALLOCATIONS = 16 };

struct single {
    struct collectives base;
    uint32_t count;
    void *allocations[ALLOCATIONS];
};

static void *single_allocate(struct collectives *self, size_t bytes)
{
    struct single *single = (struct single *)self;
    void *memory = single->count < ALLOCATIONS ? calloc(1, bytes) : NULL;
    if (memory)
        single->allocations[single->count++] = memory;
    return memory;
}

static int single_reduce_norm(struct collectives *self, const bf16 *partial, bf16 *residual, const bf16 *weight, bf16 *normed,
                              uint32_t tokens)
{
    for (uint32_t i = 0; i < tokens * HIDDEN; i++)
        residual[i] = bf16_from_float(bf16_to_float(partial[i]) + bf16_to_float(residual[i]));
    for (uint32_t t = 0; t < tokens; t++)
        rms_norm(residual + (uint64_t)t * HIDDEN, weight, normed + (uint64_t)t * HIDDEN, HIDDEN, NORM_EPS);
    self->calls++;
    return 0;
}

static int single_gather_logits(struct collectives *self, const float *mine, float *all)
{
    memcpy(all, mine, VOCABULARY * sizeof(*all));
    self->calls++;
    return 0;
}

static void single_destroy(struct collectives *self)
{
    struct single *single = (struct single *)self;
    for (uint32_t i = 0; i < single->count; i++)
        free(single->allocations[i]);
    free(single);
}

struct collectives *collectives_create_single(void)
{
    struct single *single = calloc(1, sizeof(*single));
    if (!single)
        return NULL;
    single->base = (struct collectives){.rank = 0,
                                        .nranks = 1,
                                        .allocate = single_allocate,
                                        .reduce_norm = single_reduce_norm,
                                        .gather_logits = single_gather_logits,
                                        .destroy = single_destroy};
    return &single->base;
}
