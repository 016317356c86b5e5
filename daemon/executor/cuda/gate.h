/*
 * One rank's view of a gate and of an order log (shared/gate.h): who may launch, and when. Only shared host memory, no CUDA.
 *
 * Rank 0 decides. A rank that has published its request is bound: it may ask for the request to be given up, but whether it is launched or
 * not is what rank 0 says, so that no rank launches what another one has left. Rank 0 launches number n when all ranks have taken theirs,
 * all tags agree and nobody gave up; it appends the group to the order log and says so in its `launched`. Gate numbers count the requests
 * that came so far, from 1; refused ones and probes are not among them.
 *
 * Lives in an executor process: gate and log are mapped by the lane (lane.h) and the communicator; the caller's.
 */
#ifndef TCD_CUDA_GATE_H
#define TCD_CUDA_GATE_H

#include "../../shared/gate.h"

#include <tcw/member.h>

#include <stdbool.h>

typedef enum tcd_gate_state {
    TCD_GATE_SHUT = 0,    /* not all ranks have come */
    TCD_GATE_OPEN = 1,    /* rank 0: all have come and agree, to be launched; others: rank 0 has launched it */
    TCD_GATE_GIVEN_UP = 2 /* it will never be launched, on any rank */
} tcd_gate_state;

struct tcd_gate_view {
    struct tcd_gate *gate;
    uint32_t rank, nranks;
    uint64_t taken; /* requests published so far */
};

/* What went wrong, as far as a gate knows. */
struct tcd_gate_fault {
    int code;
    uint32_t rank;
    uint64_t mine, theirs; /* EMISMATCH: tags; equal: of another rank's pair */
};

/* Publishes the next request; its number is view->taken then. */
void tcd_gate_take(struct tcd_gate_view *view, uint64_t tag);
/* Request number view->taken. GIVEN_UP fills *fault. Rank 0 gives up itself when it sees a difference or that another rank wants to. */
tcd_gate_state tcd_gate_look(struct tcd_gate_view *view, struct tcd_gate_fault *fault);
/* Rank 0, of an open gate: what tells the others. After the log entry. */
void tcd_gate_launch(struct tcd_gate_view *view);
/* Asks for an end of everything that has not been launched; for rank 0 that is the end. The first call counts. */
void tcd_gate_give_up(struct tcd_gate_view *view, int code, uint32_t culprit);
/* Ranks that have not taken number view->taken, a bit each. */
uint64_t tcd_gate_missing(const struct tcd_gate_view *view);
uint64_t tcd_gate_taken(const struct tcd_gate_view *view, uint32_t rank);

/* This rank's inputs of request `number` and of all later ones did not come: whatever is computed of them is an error. The first counts. */
void tcd_gate_spoil(struct tcd_gate_view *view, uint64_t number);
/* Whether some rank's inputs of `number` did not come: its code in *fault. To be asked after the request has ended. */
bool tcd_gate_spoiled(const struct tcd_gate_view *view, uint64_t number, struct tcd_gate_fault *fault);

/* ---- order log ---- */

/* Rank 0: false while the slowest rank has too many entries ahead of it. */
bool tcd_order_has_room(const struct tcd_order_log *log, uint32_t nranks);
void tcd_order_append(struct tcd_order_log *log, uint64_t group); /* rank 0; and it counts as launched by rank 0 */
/* Others: whether the next launch is this group's; entry `head` of the log. */
bool tcd_order_is_turn(const struct tcd_order_log *log, uint64_t head, uint64_t group);
void tcd_order_consume(struct tcd_order_log *log, uint32_t rank, uint64_t head); /* launched up to here */

#endif
