/*
 * Waiting for a peer: spin, then yield, then bounded naps on the doorbell; always watching the abort word, the deadline and poll().
 */
#ifndef TCK_HOST_WAIT_H
#define TCK_HOST_WAIT_H

#include "host/comm_private.h"

/* One wait for one or several peers. Zeroed at its beginning; the clock is read only when the peer is not there yet. */
struct tck_patience {
    uint64_t began_ns; /* 0: nothing had to be waited for so far */
    uint64_t polled_ns;
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
