/*
 * A plan as an executor serves it: the descriptor, checked once, and the list of buffers that each of its requests must bring.
 *
 * Lives in an executor process. Made by the main thread, part of one attachment; afterwards the attachment's worker alone uses and frees it
 * (the main thread once the worker has ended). `dropping` and `drop_at` are written under the attachment's lock.
 */
#ifndef TCD_EXECUTOR_PLAN_H
#define TCD_EXECUTOR_PLAN_H

#include "../shared/executor_wire.h"

#include <tcw/member.h>
#include <tcw/plan.h>

#include <stdbool.h>

struct tcd_ex_workspace;

struct tcd_ex_buffer {
    uint64_t bytes; /* exactly, for the token count that the plan was last sized for */
    uint32_t index; /* within the slot */
    uint16_t slot;  /* tcw_slot */
    uint16_t align; /* of the element */
};

struct tcd_ex_plan {
    uint64_t handle;
    uint32_t plan_id;
    uint32_t rank, nranks;
    struct tcw_plan_desc desc;
    struct tcw_decision decision;
    struct tcd_ex_workspace *workspace; /* counted; NULL on CUDA devices if the library runs all of it */

    /* sized for: */
    bool sized;
    uint64_t tokens;
    uint64_t message_bytes;
    uint32_t strategy;
    uint32_t blocks;

    /* CUDA devices */
    uint32_t running;       /* requests enqueued and not completed */
    uint32_t captured;      /* requests kept for graphs */
    unsigned char *scratch; /* room for steps in between; the communicator's */

    bool dropping;    /* no request posted at or after `drop_at` may name it */
    uint32_t drop_at; /* submission index */

    uint32_t buffer_count;
    uint32_t in_count, out_count; /* the first of the buffers: IN, then OUT, then single slots */
    struct tcd_ex_buffer buffers[];
};

/* 0 or a code, with `text` (TCW_TEXT_BYTES) saying why. */
int tcd_ex_plan_create(const struct tcd_ex_message *message, uint32_t rank, uint32_t nranks, struct tcd_ex_workspace *workspace,
                       struct tcd_ex_plan **plan, char *text);
void tcd_ex_plan_free(struct tcd_ex_plan *plan); /* the workspace's count is the caller's business */

/* Fills in what depends on the token count, checked before; cheap when it is the same as last time. */
void tcd_ex_plan_size(struct tcd_ex_plan *plan, uint64_t tokens);
/* How the member page records a run of the size the plan has now. */
void tcd_ex_plan_note(const struct tcd_ex_plan *plan, uint64_t submit_ns, struct tcw_run_note *note);

#endif
