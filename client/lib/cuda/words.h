/*
 * How a client's stream and the stream of its executor wait for each other: the ring's words, registered with CUDA. This object is the
 * only place on the client's side that knows what operations write and wait for them.
 *
 * Owner: the served lane, under served.lock.
 */
#ifndef TCC_CUDA_WORDS_H
#define TCC_CUDA_WORDS_H

#include "cuda/visit.h"

#include <tcw/ring.h>

/* The latest request on a pair. */
struct tcc_pair {
    uint64_t number;
    bool failed; /* somebody may have raised its words by a plain store: they do not tell where the stream is */
};

struct tcc_words {
    struct tcw_words *host;
    CUdeviceptr device;
    CUstream stream; /* that was looked at last */
    bool known;
    struct tcc_pair pairs[];
};

#endif
