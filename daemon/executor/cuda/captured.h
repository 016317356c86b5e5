/*
 * Captured requests of a lane: what the client's CUDA graphs ask for again and again (struct tcw_captured). Each was checked when the graph
 * was captured, and is kept with its plan and its memory pinned until the client gives it back or the attachment ends.
 *
 * Lives in an executor process, part of a lane; used by the attachment's worker alone.
 */
#ifndef TCD_CUDA_CAPTURED_H
#define TCD_CUDA_CAPTURED_H

#include "../attachment.h"

struct tcd_cuda_captured {
    struct tcd_ex_plan *plan; /* NULL: none here */
    uint32_t index;
    bool running; /* a replay is under way */
    unsigned pin_count;
    struct tck_run run; /* its lists lie in `addresses` */
    void **addresses;
    struct tcd_ex_memory **pins;
};

/* All of a lane. */
struct tcd_cuda_captures {
    struct tcd_cuda_captured slots[TCW_CAPTURED];
    uint16_t live[TCW_CAPTURED]; /* the used ones, in the order in which they came, as far as none has gone */
    unsigned count;
    unsigned next; /* of `live`: the one behind the latest replayed, where graphs mostly go on */
    bool over;     /* nobody waits for anything here any more */
};

/* ---- worker: see engine.h ---- */

int tcd_cuda_captured_add(struct tcd_ex_attachment *attachment, struct tcd_ex_plan *plan);
int tcd_cuda_captured_remove(struct tcd_ex_attachment *attachment);
bool tcd_cuda_captured_poll(struct tcd_ex_attachment *attachment);
bool tcd_cuda_captured_expected(const struct tcd_ex_attachment *attachment);

/* ---- lane ---- */

struct tcd_cuda_lane;

/* The group is over for this rank: the client's graphs pass, now and later. */
void tcd_cuda_captured_give_up(struct tcd_cuda_lane *lane);
/* Gives all back; nothing is under way any more. */
void tcd_cuda_captured_end(struct tcd_cuda_lane *lane);

#endif
