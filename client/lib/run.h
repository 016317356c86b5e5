/*
 * One execution of a plan, with its buffers in the order of the contract: slot by slot, lists without their absent entries.
 * Lives on the stack of trtcoll_plan_run.
 */
#ifndef TCC_RUN_H
#define TCC_RUN_H

#include "plan.h"

struct tcc_run {
    uint64_t tokens;
    uint64_t message_bytes;
    uint32_t strategy;           /* of a run of this size */
    uint32_t blocks;             /* GPUs: grid as decided */
    bool pdl;                    /* GPUs: TRTCOLL_PDL */
    struct CUstream_st *stream;  /* GPUs */
    void *buffers[TCW_MAX_REFS]; /* plan.ref_count of them; inputs are only read */
};

/* Checks the application's arguments against the plan. 0 with *run filled, or EINVAL with the last error set. */
int tcc_run_fill(const struct trtcoll_plan *plan, const struct trtcoll_run_args *args, struct tcc_run *run);

/* The same for the device layer. *work refers to *run and *plan. */
void tcc_run_work(const struct trtcoll_plan *plan, const struct tcc_run *run, struct tck_run *work);

/* The public call without its entry checks, for the one-call forms. */
int tcc_plan_run(struct trtcoll_plan *plan, const struct trtcoll_run_args *args, struct CUstream_st *stream, struct trtcoll_event **event);

/* The lanes. 0, or a code with the last error set; `event` as in trtcoll_plan_run. */
int tcc_direct_run(struct trtcoll_plan *plan, const struct tcc_run *run, struct trtcoll_event **event);
int tcc_served_run(struct trtcoll_plan *plan, const struct tcc_run *run, struct trtcoll_event **event);

#endif
