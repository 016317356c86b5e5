/*
 * The chooser: on which lane and with which strategies a plan runs, decided once for all ranks, with reasons. The same function answers
 * plan creation and `trtcollctl explain`. Pure; control process.
 */
#ifndef TCD_CONTROL_CHOOSER_H
#define TCD_CONTROL_CHOOSER_H

#include <tcf/tuning.h>
#include <tck/device.h>
#include <tcw/message.h>

#include <stdbool.h>

/* What the choice depends on besides the descriptor. */
struct tcd_choosing {
    tck_device_kind kind;
    uint32_t nranks;
    uint64_t direct_ranks;           /* ranks whose clients can run operations themselves */
    uint64_t served_ranks;           /* ranks whose clients can use a ring */
    uint32_t lane;                   /* of the group in the configuration; AUTO: none */
    uint32_t strategy;               /* likewise */
    uint64_t oneshot_bytes;          /* host devices */
    const struct tcf_tuning *tuning; /* CUDA devices; NULL: the built-in tables */
    char other_gpu[80];              /* CUDA devices: which one is not what `tuning` was measured on; empty: nothing is known against it */
    uint64_t served_kernels_bytes;   /* CUDA devices, served lane: longer messages are NCCL's */
    const char *no_library;          /* CUDA devices: why there is no NCCL; NULL: it is there */
    char no_peers[96];               /* CUDA devices: who cannot map whose memory; empty: nothing is known against it */
    char no_multicast[96];           /* CUDA devices: why NVLink multicast is not used; empty: it can be, and somebody wants it */
    uint64_t max_workspace_bytes;
};

enum { TCD_MAX_REJECTED = 8 };

struct tcd_choice {
    struct tcw_decision decision;
    uint64_t workspace_bytes;
    bool multicast; /* the workspaces need a multicast object */
    char reason[TCW_TEXT_BYTES];
    unsigned rejected_count;
    struct {
        const char *what; /* static string */
        char why[TCW_TEXT_BYTES];
    } rejected[TCD_MAX_REJECTED];
};

/* For a checked descriptor. 0, or a code with *error saying why no choice exists. */
int tcd_choose(const struct tcw_plan_desc *desc, const struct tcd_choosing *choosing, struct tcd_choice *choice, struct tcw_error *error);

#endif
