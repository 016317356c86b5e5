/*
 * Operations: what one request of each kind is on CUDA devices, enqueued on a communicator's stream in one sequence without a host wait:
 * NCCL calls, our kernels over the executors' workspaces, the epilogue that follows NCCL's sum, and copies that make pieces contiguous
 * where ranks are concatenated along an inner dimension.
 *
 * Lives in an executor process; called by workers that hold the communicator's lock, checks by anybody. No state.
 */
#ifndef TCD_CUDA_OPERATIONS_H
#define TCD_CUDA_OPERATIONS_H

#include "communicator.h"

#include <tck/cuda_comm.h>

struct tcd_ex_plan;

struct tcd_cuda_operation {
    struct tck_device *device;
    struct tcd_cuda_communicator *communicator;
    CUstream stream;               /* of the communicator's */
    struct tck_cuda_comm *kernels; /* our own, NULL: the plan has none */
    const struct tck_run *run;
    const struct tck_cuda_end *end;     /* what is to be told when it is over; by its own kernel where that is its last */
    unsigned char *scratch;             /* of at least tcd_cuda_operation_scratch bytes */
    uint64_t until_ns;                  /* the longest that the library may take to enqueue, which it does with its peers the first time */
    const _Atomic uint64_t *abort_word; /* the attachment's */
    char *text;                         /* TCW_TEXT_BYTES: what went wrong */
};

/* Whether a strategy is one of NCCL's; the others are our kernels. */
bool tcd_cuda_operation_is_library(const struct tcw_plan_desc *desc, uint32_t strategy);
/* Bytes that the longest run of a checked plan needs in between. `decision`: what runs which of its messages. */
uint64_t tcd_cuda_operation_scratch(const struct tcw_plan_desc *desc, const struct tcw_decision *decision, uint32_t nranks);
/* Launches and copies that a request is made of, or a few more. */
uint64_t tcd_cuda_operation_pieces(const struct tcd_cuda_operation *operation);
/*
 * Whether this run's pointers are aligned as kernels want them; those of sums without fusion and bias need not be, they are staged. 0, or
 * TCW_EINVAL with `text`. Nothing may fail for it later.
 */
int tcd_cuda_operation_check(const struct tck_run *run, char *text);
/*
 * Enqueues it. 1: it tells its end itself; 0: that is to be told behind it; or a code: peers may then wait for what this rank has not
 * enqueued.
 */
int tcd_cuda_operation_enqueue(const struct tcd_cuda_operation *operation);

#endif
