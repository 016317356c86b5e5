/*
 * Rank processes of one measurement, and the memory they share with the parent.
 * Owner: who created it; fleet_destroy kills what still runs. Parent: one thread.
 */
#ifndef BENCH_FLEET_H
#define BENCH_FLEET_H

#include "bench.h"

#include <stdatomic.h>
#include <stddef.h>

struct fleet;

/* What one rank's process sees. */
struct fleet_rank {
    const struct settings *settings;
    struct fleet *fleet;
    uint32_t rank, nranks;
    void *slot; /* this rank's part of the shared memory, zeroed */
    const void *arg;
    struct trtcoll_ctx *ctx;
    struct trtcoll_group *group;
};

/* Runs in the rank's process, attached and member of a group of all ranks. Returns 0, or not after a message on stderr. */
typedef int (*fleet_body)(struct fleet_rank *rank);

/* Starts the processes. NULL after a message on stderr. On GPUs, rank r is on device r. */
struct fleet *fleet_start(const struct settings *settings, uint32_t nranks, size_t slot_bytes, fleet_body body, const void *arg);
/* The same, but the body starts without a context and a group; fleet_attach and fleet_enter give it those, when it likes. */
struct fleet *fleet_start_bare(const struct settings *settings, uint32_t nranks, size_t slot_bytes, fleet_body body, const void *arg);
void *fleet_slot(struct fleet *fleet, uint32_t rank);
/* Waits for all; 0 if all returned 0 within timeout_s, else EXIT_FAILED. */
int fleet_wait(struct fleet *fleet, uint32_t timeout_s);
/* Whether a rank has ended, which a body that waits to be killed should not. */
bool fleet_ended(struct fleet *fleet);
/* Kills what still runs. NULL is allowed. */
void fleet_destroy(struct fleet *fleet);

/* Parent: true once `count` ranks have called fleet_ready, false after timeout_s or when a rank has ended before. */
bool fleet_await_ready(struct fleet *fleet, uint32_t timeout_s);
void fleet_release(struct fleet *fleet);

/* Ranks: the context of this rank. 0, or a code after a message. It is closed behind the body. */
int fleet_attach(struct fleet_rank *rank);
/* Ranks, collective: membership in a group of all of them; `name` NULL: one of the fleet's own. */
int fleet_enter(struct fleet_rank *rank, const char *name);

/* Ranks: "I am here"; then wait for fleet_release. */
void fleet_ready(struct fleet_rank *rank);

/* Ranks: nothing more to do, but to be there until fleet_destroy. */
_Noreturn void fleet_stay(void);

/* Ranks: agreement through shared memory (loop_subject.agree): everybody gets rank 0's value. Not 0: a rank has failed. */
int fleet_agree(struct fleet_rank *rank, uint64_t *value);

/* Ranks: prints what trtcoll says of the latest failure. Returns code. */
int fleet_complain(const struct fleet_rank *rank, const char *what, int code);

#endif
