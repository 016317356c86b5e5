/*
 * The direct lane of one membership on a GPU: its page as kernels see it, the latest run, and what graphs hold.
 *
 * Owner: the member. Threads: run_lock for everything but the leash, whose count is atomic: graphs may go on any thread of the driver.
 *
 * Order: runs of one group must not overlap. Within a stream they cannot; when a run comes on another stream than the one before it, it is
 * made to wait for the mark of that one. Runs inside captures are ordered by their graph, and replays by the streams they are launched on:
 * the application sees to both, and the kernels find out (EBUSY) where it has not.
 */
#ifndef TCC_CUDA_LANE_H
#define TCC_CUDA_LANE_H

#include "cuda/visit.h"

#include <tck/cuda_comm.h>
#include <tcw/member.h>

/* Counts the graphs that captured runs on one workspace, or one run of the served lane. Outlives the context where they do. */
struct tcc_leash {
    struct trtcoll_allocator allocator;
    _Atomic uint32_t holders; /* the workspace or request, and each graph */
    _Atomic uint32_t graphs;
};

/* What a workspace has on a GPU. */
struct tcc_gpu_comm {
    struct tck_cuda_comm *comm;
    struct tcc_leash *leash;
    uint64_t capture; /* id of the latest capture that holds the leash */
};

struct tcc_lane {
    CUdeviceptr page;
    CUstream stream; /* of the latest run outside captures */
    bool used;       /* there was one */
    bool unmarked;   /* it came after `latest`, without a mark of its own */
    struct trtcoll_event *latest;
    /* Times: as long as this rank's runs are all of one workspace and outside captures, their numbers are the device's step numbers. */
    bool timed;
    const struct tcc_workspace *workspace; /* of the latest run */
    uint64_t launches, settled;
    uint64_t records[TCW_RECORDS];
    struct tcw_run_note notes[TCW_RECORDS];
};

/*
 * The graph that the stream is being captured into has the leash from now on. *capture: the id of the latest capture that has it. 0, or
 * a code with the last error set.
 */
int tcc_leash_hold(struct tcc_gpu *gpu, struct tcc_leash *leash, uint64_t *capture, CUstream stream);
int tcc_leash_create(struct trtcoll_ctx *ctx, struct tcc_leash **leash);
void tcc_leash_drop(struct tcc_leash *leash);
/* How many times a graph has gone, of all leashes: as long as that stays the same, no leash has been let go. */
uint32_t tcc_leash_graphs_gone(void);

/* 0, or ECAPTURE with the last error set: runs of this plan, or with an event, cannot be captured. */
int tcc_capture_check(const struct trtcoll_plan *plan, bool wants_event);

#endif
