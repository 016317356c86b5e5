/*
 * Timing of one operation: one CUDA graph (or just a row) of COMM_GRAPH_OPERATIONS of it, median of the replays, maximum over ranks.
 *
 * Owner: the rank's process. Threads: one. Every function is collective and has the same answer on all ranks.
 */
#ifndef TRTCOLL_TESTS_GPU_COMM_TIMING_H
#define TRTCOLL_TESTS_GPU_COMM_TIMING_H

#include "comm_nccl.h"

enum { COMM_GRAPH_OPERATIONS = 50, COMM_TIMED_HIDDEN = 8192 };

typedef enum comm_form { COMM_FORM_PLAIN = 0, COMM_FORM_NORM, COMM_FORM_FP8, COMM_FORM_COUNT } comm_form;
const char *comm_form_name(comm_form form);

/* bf16, hidden COMM_TIMED_HIDDEN. */
struct comm_point {
    comm_form form;
    uint64_t tokens;
    uint32_t strategy; /* TCW_STRATEGY_NCCL: the library, and behind it the epilogue as a kernel of its own */
    uint32_t blocks;
    bool eager; /* enqueued one by one, no graph */
    double us;
};

static inline uint64_t comm_point_bytes(const struct comm_point *point)
{
    return point->tokens * COMM_TIMED_HIDDEN * 2;
}

/* Random operands, and a workspace that is large enough for `tokens`. */
void comm_timing_prepare(struct comm_rank *rank, uint64_t tokens);
/* Sets point->us. `nccl`: for the library's points. */
void comm_timing_measure(struct comm_rank *rank, struct comm_nccl *nccl, unsigned replays, struct comm_point *point);
/* Host time of one launch, us, eager. */
double comm_timing_launch(struct comm_rank *rank, const struct comm_point *point);

#endif
