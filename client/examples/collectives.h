/*
 * What a tensor-parallel model asks of its ranks, as an interface with two implementations: trtcoll (one per lane), and the arithmetic
 * of a single rank in plain C, which is the reference of the check and shares no code with trtcoll.
 *
 * Owner: who created it; give it back with collectives->destroy. One thread at a time.
 */
#ifndef EXAMPLES_COLLECTIVES_H
#define EXAMPLES_COLLECTIVES_H

#include "tensor.h"

#include <stddef.h>
#include <stdint.h>

struct collectives {
    uint32_t rank, nranks;
    uint64_t calls;   /* collectives run since the caller last cleared it */
    uint64_t wait_ns; /* time spent in them, waiting for the other ranks included */

    /* Memory that collectives can reach without copying, zeroed; lives as long as the collectives. NULL: none left. */
    void *(*allocate)(struct collectives *self, size_t bytes);

    /*
     * The step between two blocks of a transformer: residual += sum of all ranks' partial; normed = RMSNorm(residual) * weight.
     * [tokens][HIDDEN]. 0, or a negative TRTCOLL_E* code.
     */
    int (*reduce_norm)(struct collectives *self, const bf16 *partial, bf16 *residual, const bf16 *weight, bf16 *normed, uint32_t tokens);

    /* all = every rank's VOCABULARY / nranks logits, in rank order. */
    int (*gather_logits)(struct collectives *self, const float *mine, float *all);

    void (*destroy)(struct collectives *self);
};

/* A single rank: sums nothing, but rounds and normalises like the real thing. NULL: out of memory. */
struct collectives *collectives_create_single(void);

#endif
