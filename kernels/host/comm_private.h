/*
 * The private half of a communicator on host devices. Owner: the process that made it; one thread at a time.
 */
#ifndef TCK_HOST_COMM_PRIVATE_H
#define TCK_HOST_COMM_PRIVATE_H

#include "host/layout.h"

#include <tck/comm.h>

struct tck_loops;

struct tck_comm {
    /* read in every step */
    uint32_t rank;
    uint32_t nranks;
    uint64_t step; /* number of the current step; grows for the life of the communicator, equal on all ranks */
    uint64_t slot; /* step % TCK_BUFFERS, as a byte offset from `base` */
    uint64_t pitch;
    uint64_t capacity; /* data bytes of one buffer */
    const struct tck_run *run;
    const struct tck_loops *loops;
    unsigned char *base[TCK_HOST_MAX_RANKS]; /* first buffer of each rank */
    uint64_t known[TCK_HOST_MAX_RANKS];      /* largest sequence seen of each rank */
    struct tck_header *headers[TCK_HOST_MAX_RANKS];

    /* waiting */
    const _Atomic uint64_t *abort_word;
    const _Atomic uint64_t *deadline_ns;
    _Atomic uint64_t *missing_ranks;
    uint64_t spin_ns;
    uint64_t waited_ns;         /* by the current run, all its finished waits together: the deadline is for the whole operation */
    uint64_t no_yield_until_ns; /* see wait.c */
    int (*poll)(void *arg);
    void *poll_arg;

    bool under_way; /* the current run has said so, or need not */
    uint64_t runs;
    struct tck_fault fault; /* code != 0: unusable */
};

#endif
