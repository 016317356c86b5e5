/*
 * Waiting for a peer: spin, then yield, then bounded naps on the doorbell; always watching the abort word, the deadline and poll().
 */
#ifndef TCK_HOST_WAIT_H
#define TCK_HOST_WAIT_H

#include "host/comm_private.h"

/* Between two looks at a word that another processor is about to write. */
static inline void tck_pause(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* The fast path: the peer is there, or is a few cache misses away, so that not even the clock needs to be read. */
enum { TCK_BRIEF_SPINS = 40 };
static inline bool tck_wait_briefly(const struct tck_comm *comm, const _Atomic uint64_t *word, uint64_t wanted)
{
    unsigned spins = comm->spin_ns ? TCK_BRIEF_SPINS : 0;
    while (atomic_load_explicit(word, memory_order_acquire) < wanted) {
        if (!spins--)
            return false;
        tck_pause();
    }
    return true;
}

/* One wait for one or several peers. Zeroed at its beginning; the clock is read only when the peer is not there yet. */
struct tck_patience {
    uint64_t began_ns; /* 0: nothing had to be waited for so far */
    uint64_t polled_ns;
    uint64_t last_ns; /* the latest look at the clock */
};

/* Waits until rank `peer` has published step `wanted - 1`. 0, or the code that comm->fault now holds. */
int tck_wait_sequence(struct tck_comm *comm, uint32_t peer, uint64_t wanted, struct tck_patience *patience);

/* After the last peer of this wait has come: tells observers. */
void tck_wait_done(struct tck_comm *comm, const struct tck_patience *patience);

/* Wakes rank `peer` if it still sleeps until this rank publishes. */
void tck_wake(struct tck_comm *comm, uint32_t peer);

/* Fills comm->fault, which makes the communicator unusable, and returns the code. */
int tck_comm_fail(struct tck_comm *comm, int code, uint32_t rank);

#endif
