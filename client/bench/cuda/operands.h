/*
 * The buffers of one rank's all-reduces, filled so that every result is known, and the check of the results. Rows of FIGURES_HIDDEN bf16.
 * Owner: the rank's process, one thread. The memory is trtcoll's and CUDA's, and goes with the process.
 */
#ifndef BENCH_CUDA_OPERANDS_H
#define BENCH_CUDA_OPERANDS_H

#include "gpu.h"

struct operands {
    struct gpu *gpu;
    uint32_t part; /* what is done with them; those made for PART_FP8 may be used for PART_NORM, and for PART_DIRECT */
    /* from trtcoll_alloc; 0: what the part it was made for does not need */
    CUdeviceptr in, out, residual_in, residual_out, weight, scale, quant;
    CUdeviceptr own_in, own_out; /* from CUDA itself: what NCCL works on */
};

/* For messages of up to `bytes`. 0, or a code after a message. */
int operands_create(struct operands *operands, struct gpu *gpu, uint32_t part, uint64_t bytes);

/* What trtcoll is to do with them: `plan_desc` without strategy and lane, `args`. */
void operands_describe(const struct operands *operands, uint64_t bytes, struct trtcoll_all_reduce_desc *desc,
                       struct trtcoll_run_args *args);

/* Before and after runs: forgets results; 0 if results are there and right. `own`: those of NCCL, which has no epilogue of its own. */
int operands_clear(struct operands *operands, uint64_t bytes);
int operands_check(struct operands *operands, uint64_t bytes, bool own);

#endif
