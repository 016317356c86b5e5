/*
 * Looking into a member page: copies what its runner has written, adds up what is new since the last look, bounds what it displays.
 * Control process, loop thread. The totals belong to the watch.
 */
#ifndef TCD_CONTROL_OBSERVE_H
#define TCD_CONTROL_OBSERVE_H

#include "gpu_runs.h"
#include "page.h"

#include <tcw/stats.h>

/* Counters of all runs of the node, per operation, lane and size class; they outlive the members. */
struct tcd_totals {
    uint64_t latency[TCW_MEMBER_MAX_OPS][2][TCW_SIZE_CLASSES][TCW_LATENCY_BUCKETS];
    bool changed[TCW_MEMBER_MAX_OPS][2][TCW_SIZE_CLASSES];
};

/* What a page said at the last look. */
struct tcd_observed {
    uint64_t started, finished, hash, state, since_ns, missing;
    uint64_t bytes, errors, busy_ns; /* over all operations */
    uint64_t records;                /* ever begun */
    unsigned still;                  /* looks in a row without any change of started, finished and hash */
    /* Of kernels on CUDA devices. */
    uint64_t device_steps, device_since_ns; /* their count, and since when it has not changed */
    uint64_t device_fault;                  /* 0, or tcw_abort_pack */
    uint64_t device_fault_step, device_their_step;
    bool replays; /* they have run more often than they were launched: graphs have been replayed */
};

/* Looks. False if the page is not there or memory is short; *moved: something has changed or a run is under way. */
bool tcd_page_observe(struct tcd_page *page, unsigned lane, struct tcd_totals *totals, bool *moved);
/* The last look, NULL before the first. */
const struct tcd_observed *tcd_page_observed(const struct tcd_page *page);
/* Looks at what kernels ran, and says what it has found at this look and the one before. NULL before the first of the looks above. */
const struct tcd_gpu_runs *tcd_page_look_at_runs(struct tcd_page *page);

/* Copies record `index` (0 is the first ever) if it is whole and still there. */
bool tcd_page_record(const struct tcd_page *page, uint64_t index, struct tcw_stats_record *row);
/*
 * The same for what kernels recorded about step `step`. Times are of the GPU's clock, moved by the least difference seen between the end of
 * a run there and the look at it here: some microseconds late if runs are frequent, up to the time between two looks if they are not. What
 * the plan was is left to the caller.
 */
bool tcd_page_replay(const struct tcd_page *page, uint64_t step, struct tcw_stats_record *row, uint64_t *tokens);

#endif
