/*
 * Completion of one run, and the pool that events come from.
 *
 * Owner: the application from plan_run to trtcoll_event_put; a request in flight holds it too, so an event that is given back early
 * returns to the pool when its request has ended. On GPUs an event has a mark in the caller's stream and is done when the stream has passed
 * it, not before. `state` goes PENDING -> DONE exactly once; result, rank and times are written before
 * that (store-release) and constant afterwards.
 */
#ifndef TCC_EVENT_H
#define TCC_EVENT_H

#include "trtcoll.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct tcc_member;

typedef enum tcc_event_state {
    TCC_EVENT_FREE = 0,
    TCC_EVENT_PENDING = 1,
    TCC_EVENT_DONE = 2,
    TCC_EVENT_ANSWERED = 3, /* on GPUs: the result is there, the stream is not */
    TCC_EVENT_ENDING = 4    /* on GPUs: somebody is about to write the result */
} tcc_event_state;

struct trtcoll_event {
    struct trtcoll_ctx *ctx;
    struct trtcoll_event *next; /* in the pool */
    struct tcc_member *member;  /* held; served runs, and all on GPUs */
    struct CUevent_st *mark;    /* on GPUs; stays with the event for its life in the pool */
    bool marked;                /* by this run */
    uint64_t step;              /* direct runs on GPUs: the device's number of it, 0 if not known */
    _Atomic uint32_t state;     /* tcc_event_state */
    _Atomic uint32_t holders;
    int32_t result;
    uint32_t rank;
    uint32_t lane;
    uint32_t plan_id;
    uint64_t submit_ns, start_ns, end_ns;
};

struct tcc_event_pool {
    pthread_mutex_t lock;
    struct trtcoll_event *free;
    struct tcc_event_slab *slabs;
};

int tcc_event_pool_create(struct tcc_event_pool *pool);
void tcc_event_pool_destroy(struct trtcoll_ctx *ctx); /* drops the members that events still hold */

/* A pending event with one holder, or NULL. */
struct trtcoll_event *tcc_event_get(struct trtcoll_ctx *ctx);
/* The same in the caller's memory: of no pool, and to be held or dropped by nobody. */
void tcc_event_init(struct trtcoll_event *event, struct trtcoll_ctx *ctx);
void tcc_event_hold(struct trtcoll_event *event);
void tcc_event_drop(struct trtcoll_event *event);

/* Ends it: writes the result and publishes it. */
void tcc_event_complete(struct trtcoll_event *event, int result, uint32_t rank, uint64_t start_ns, uint64_t end_ns);

static inline bool tcc_event_done(const struct trtcoll_event *event)
{
    return atomic_load_explicit(&event->state, memory_order_acquire) == TCC_EVENT_DONE;
}

/* Whether nothing more is expected of the executor. */
static inline bool tcc_event_answered(const struct trtcoll_event *event)
{
    uint32_t state = atomic_load_explicit(&event->state, memory_order_acquire);

    return state == TCC_EVENT_DONE || state == TCC_EVENT_ANSWERED;
}

/* The result of a completed event, with the last error set when it failed. */
int tcc_event_result(struct trtcoll_event *event);

#endif
