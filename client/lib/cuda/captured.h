/*
 * Served requests in captured CUDA graphs, as a client keeps them: see struct tcw_captured. Each has its index in the ring, its buffers,
 * which cannot be freed meanwhile, and a leash that tells when no graph has it any more.
 *
 * Owner: the served lane, from its first captured run on, under served.lock; what a leash counts is atomic.
 */
#ifndef TCC_CUDA_CAPTURED_H
#define TCC_CUDA_CAPTURED_H

#include "cuda/lane.h"

#include <tcw/ring.h>

typedef enum tcc_captured_state {
    TCC_CAPTURED_FREE = 0,
    TCC_CAPTURED_POSTED = 1,    /* the executor has yet to answer */
    TCC_CAPTURED_ABANDONED = 2, /* and nobody waits for that */
    TCC_CAPTURED_ACCEPTED = 3,  /* on its way into the graph */
    TCC_CAPTURED_HELD = 4,      /* by graphs, as long as the leash counts any */
    TCC_CAPTURED_RELEASED = 5,  /* given back, the executor has yet to answer */
} tcc_captured_state;

struct tcc_captured_request {
    tcc_captured_state state;
    struct tcc_leash *leash;
    struct tcc_range **ranges;
    uint32_t count;
};

struct tcc_captured {
    uint32_t used; /* that are not free */
    uint32_t gone; /* tcc_leash_graphs_gone when all that no graph had any more was given back */
    struct tcc_captured_request requests[TCW_CAPTURED];
};

#endif
