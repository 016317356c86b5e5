/*
 * One served request: its slot in the ring's accounting and the buffers it uses. A buffer is referenced where it lies when the executor
 * knows its memory, else copied through a staging block: inputs on submission, outputs when the completion is taken.
 *
 * Owner: the served lane (one per completion slot, reused). Filling it is the submitting thread's business alone; from submission to
 * completion it belongs to served.lock.
 */
#ifndef TCC_FLIGHT_H
#define TCC_FLIGHT_H

#include "run.h"

#include <tcw/ring.h>

struct tcc_use {
    struct tcc_range *range; /* known memory, or */
    struct tcc_block *block; /* staging */
    unsigned char *user;
    uint64_t bytes;
    bool in;  /* its content matters before the run */
    bool out; /* the run writes it */
};

struct tcc_flight {
    struct tcc_flight *older, *newer; /* in flight; `newer` also links the free ones */
    struct trtcoll_event *event;
    bool lent; /* the event lies in a call that waits for it: held by nobody, and gone as soon as it is done */
    uint32_t index;
    uint32_t serial; /* grows with every use of the slot */
    uint32_t count, room;
    bool staged;
    /* On GPUs: */
    bool wants_event;        /* of its run: the application gets it */
    bool draining, condemn;  /* over, but the stream still copies out of its blocks; see tcc_block_put */
    uint64_t number;         /* of the request */
    uint32_t captured;       /* no run: 1 + the captured request that it is about, else 0 */
    struct CUevent_st *mark; /* behind those copies; the slot's for ever */
    struct tcc_use *uses;
    struct tcw_ref *refs;
};

/* What submitting in the presence of older requests needs. */
typedef enum tcc_hazard {
    TCC_HAZARD_NONE = 0,
    TCC_HAZARD_WAIT = 1, /* a buffer overlaps what an older request has yet to deliver */
} tcc_hazard;

/*
 * Finds every buffer of a run where it lies. False, and nothing held, when this takes more: staging, or room in the slot. Asks nobody, so
 * it may be called with served.lock.
 */
bool tcc_flight_find(struct tcc_flight *flight, const struct trtcoll_plan *plan, const struct tcc_run *run);
/* Room for the buffers of a run. 0, or ENOMEM with the last error set. */
int tcc_flight_reserve(struct tcc_flight *flight, struct trtcoll_ctx *ctx, uint32_t count);
/* Whether the executor knows this memory. */
bool tcc_flight_knows(struct trtcoll_ctx *ctx, const void *pointer, uint64_t bytes);
/* Finds or stages every buffer of a run. May ask the daemon for staging memory. 0, or a code with the last error set and nothing held. */
int tcc_flight_fill(struct tcc_flight *flight, const struct trtcoll_plan *plan, const struct tcc_run *run);

/*
 * Copies staged inputs, as the requests from `newest` down to the oldest will leave them. With served.lock. On WAIT nothing is lost: try
 * again when a completion was taken.
 */
tcc_hazard tcc_flight_load(struct tcc_flight *flight, struct trtcoll_ctx *ctx, const struct tcc_flight *newest);

/* Lets go of the buffers. `deliver`: copy staged outputs to their owners first. `condemn`: see tcc_block_put. */
void tcc_flight_empty(struct tcc_flight *flight, struct trtcoll_ctx *ctx, bool deliver, bool condemn);

/* Frees the slot's own memory. */
void tcc_flight_destroy(struct tcc_flight *flight, struct trtcoll_ctx *ctx);

#endif
