/*
 * What a run must compute (seed-spec 24): inputs that every process can see, the sum and residual_out bit for bit, the norm in double
 * precision, and how far each output may be from that. Written over kernels/arith, which the host device uses too.
 *
 * Owner: nobody; data lies on the board. Threads: one per process; all ranks fill and compute their share.
 */
#ifndef TRTCOLL_TESTS_GPU_COMM_REFERENCE_H
#define TRTCOLL_TESTS_GPU_COMM_REFERENCE_H

#include "comm_board.h"

#include <tcw/plan.h>

typedef enum comm_data {
    COMM_DATA_RANDOM = 0,
    COMM_DATA_ZEROS,      /* both signs of zero, in pairs that look like what has not arrived */
    COMM_DATA_SUBNORMALS, /* 16-bit pairs that look like small negative fp32 numbers, and single huge values per block */
    COMM_DATA_SPECIAL,    /* infinities, NaN, largest finite numbers among ordinary ones */
    COMM_DATA_COUNT
} comm_data;

struct comm_case {
    struct tcw_plan_desc desc;
    uint64_t tokens;
    comm_data data;
    uint64_t seed;
    bool mnnvl; /* squares rounded to T, fp32 sum */
    float scale;
};

/* Each rank its own input; rank 0 the operands that all share. A barrier must follow. */
void comm_reference_fill(struct comm_board *board, uint32_t rank, const struct comm_case *test);
/* Each rank its share of the expected rows. A barrier must follow. */
void comm_reference_compute(struct comm_board *board, uint32_t rank, const struct comm_case *test);

/* This rank's outputs, copied to the host. NULL where a fusion has none. */
struct comm_outputs {
    const void *out, *residual_out;
    const uint8_t *quant_out, *scale_out;
};
/* 0, or 1 with `text` saying where the first difference is. */
int comm_reference_compare(const struct comm_board *board, const struct comm_case *test, const struct comm_outputs *outputs, char *text,
                           size_t text_bytes);

bool comm_fusion_keeps_norm(unsigned fusion);
bool comm_fusion_is_fp8(unsigned fusion);
bool comm_fusion_is_fp4(unsigned fusion);

#endif
