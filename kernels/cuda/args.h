/*
 * What kernels of the all-reduce family are given, and the layout of the workspace that they exchange data through. Plain C and CUDA C++.
 *
 * A workspace is a header and three buffers that take turns, as in seed-spec 7.3: a round of exchange uses buffer b of every rank, clears
 * what the round before it left in buffer b+2 of its own rank, and leaves buffer b+1 untouched, which is clean. Readiness travels in the
 * data: a 32-bit word that still holds TCK_CUDA_SENTINEL has not arrived. Senders replace that pattern by 0. All sizes are in packs of 16
 * bytes, whatever the type, so that types and algorithms may alternate on one workspace; where a buffer has several stages they follow each
 * other, so that what is to be cleared is always [0, dirty).
 *
 * A launch is one round. A run is one launch, or several when the message is larger than a buffer: then each takes some whole tokens.
 * Ending and beginning of launches of one stream order rounds, so grids and even algorithms may differ from launch to launch.
 *
 * Owner: workspaces belong to executors, arguments travel by value with each launch. One writer per word: headers are written by their own
 * rank's kernels only, buffers by the peers (data) and by the own rank (clearing).
 */
#ifndef TCK_CUDA_ARGS_H
#define TCK_CUDA_ARGS_H

#include <stdint.h>

enum {
    TCK_CUDA_RANKS = 16, /* == TCK_CUDA_MAX_RANKS */
    TCK_CUDA_BUFFERS = 3,
    TCK_CUDA_PACK = 16,
    TCK_CUDA_HEADER_BYTES = 64 << 10,
};

#define TCK_CUDA_SENTINEL 0x80000000u

/* Beginning of a workspace; zeroed when it is made. */
struct tck_cuda_state {
    uint64_t step;  /* runs that are over, as the block sees it that posts them */
    uint64_t fault; /* 0, or tcw_abort_pack: every later kernel ends at once */
    /* what waiting threads share, see wait.cuh */
    uint64_t asked_ns;    /* when somebody last looked at the host's words */
    uint64_t deadline_ns; /* what was found there */
    uint32_t finished;    /* blocks of the launch at hand that have come to its end: see signal.cuh */
    uint32_t reserved32;
    uint64_t reserved0;
    uint64_t began_step, began_ns; /* the run at hand, and when its first block began: see tck_turn_since */
    uint64_t reserved[8];
};

/*
 * Behind it, for every block that a grid may have: what this block finds when a launch begins. The block itself writes it when it leaves a
 * launch; for blocks that a launch lacks, those that it has. So the state moves on without a word that all blocks share.
 */
struct tck_cuda_door {
    uint32_t left;    /* launches so far */
    uint32_t entered; /* the same, and one more while the block is inside; counted up, so two launches at once show */
    uint32_t buffer;  /* of the next round */
    uint32_t dirty;   /* packs to be cleared in buffer + 2 */
    uint64_t step;    /* runs so far */
    uint64_t reserved;
};
enum { TCK_CUDA_DOORS_OFFSET = 4096, TCK_CUDA_MOST_BLOCKS = 1024 };

/* struct tcw_device_progress, for compilers without <stdatomic.h> */
struct tck_cuda_record {
    uint64_t step, start_ns, end_ns;
    uint32_t plan_id, tokens;
};
enum { TCK_CUDA_RECORDS = 256 };
struct tck_cuda_progress {
    uint64_t steps, fault, fault_step, their_step;
    uint64_t reserved[12];
    struct tck_cuda_record records[TCK_CUDA_RECORDS];
};

/* One rank's view of its group. */
struct tck_cuda_link {
    void *workspaces[TCK_CUDA_RANKS]; /* of all ranks, as mapped here; [rank] is this rank's */
    void *multicast;                  /* all workspaces at once, NULL: there is no such object. For multimem instructions only */
    uint64_t buffer_packs;            /* of one of the three buffers */
    uint32_t rank;
    uint32_t nranks;
    /* host memory */
    const uint64_t *abort_word;
    const uint64_t *deadline_ns;
    struct tck_cuda_progress *progress;
};

enum {
    TCK_CUDA_WIDE = 1u << 0,          /* sums in fp32, rounded once; else rounded at every addition */
    TCK_CUDA_ROUND_SQUARES = 1u << 1, /* MNNVL, seed-spec 15.7 */
    TCK_CUDA_GAMMA_FIRST = 1u << 2,   /* MNNVL two-shot */
    TCK_CUDA_FP8_UNROUNDED = 1u << 3, /* UB, seed-spec 13.3: codes from the norm before it is rounded to T */
    TCK_CUDA_TRIGGER_EARLY = 1u << 4, /* dependents of the stream may be scheduled while this kernel runs */
    TCK_CUDA_WRITE_NORM = 1u << 5,
    TCK_CUDA_WRITE_FP8 = 1u << 6,
    TCK_CUDA_WRITE_FP4 = 1u << 7,
    TCK_CUDA_LAST = 1u << 8,  /* the run's last launch */
    TCK_CUDA_LOCAL = 1u << 9, /* ub-finalize: a copy, without an exchange */
};

/* One launch. Pointers are those of its first token (scale_out: of the run's), aligned to 16 bytes, optional ones NULL. */
struct tck_cuda_operation {
    const void *in;
    void *out; /* the sum without a norm, else the norm */
    const void *bias;
    const void *residual_in; /* not NULL: row form, with residual_out, and a norm */
    void *residual_out;
    const void *gamma; /* NULL: ones */
    const float *scale;
    void *quant_out;
    void *scale_out;
    uint64_t tokens;      /* of this launch; times row_packs < 2^32 */
    uint64_t first_token; /* those before it */
    uint64_t run_tokens;  /* of the run */
    uint32_t row_packs;   /* packs of a token; without norm and bias a token may be any part of the message */
    uint32_t hidden;
    float eps;
    uint32_t flags;
    uint32_t plan_id;
    /* A family's own, from its shape: how it cuts the message within the launch. */
    uint32_t rounds;
    uint32_t round_packs;
};

/* What the end of a run writes, in this order: struct tck_cuda_end. NULL: nothing. Kernels that can do it end with tck_signal. */
struct tck_cuda_signal {
    void *first;
    uint64_t *second;
    uint64_t first_value, second_value;
    uint32_t first_is_narrow; /* 32 bits */
    uint32_t reserved;
};

struct tck_cuda_args {
    struct tck_cuda_link link;
    struct tck_cuda_operation run;
    struct tck_cuda_signal signal;
};

#endif
