/*
 * Judging the ranks of a group by what their pages said at the last looks: have they run the same, have their kernels, does one wait in
 * vain, has a kernel given up? Pure; control process.
 */
#ifndef TCD_CONTROL_JUDGE_H
#define TCD_CONTROL_JUDGE_H

#include "observe.h"

#include <tcw/message.h>

/* One lane of a group. NULL entries: nothing is known of that rank's runs. */
struct tcd_evidence {
    const struct tcd_observed *ranks[TCW_MAX_RANKS];
    const struct tcd_gpu_runs *gpu_runs[TCW_MAX_RANKS];
    tcd_gpu_same *same_run; /* where gpu_runs are known */
    const void *context;    /* of same_run */
    uint32_t nranks;
    unsigned lane;
    uint64_t deadline_ns; /* 0: none */
    uint64_t now_ns;
};

/* 0: nothing to complain about. TCW_EMISMATCH, TCW_ETIMEOUT, or what kernels ended with, and *cause: who, what, his last step. */
int tcd_judge(const struct tcd_evidence *evidence, struct tcw_error *cause);

#endif
