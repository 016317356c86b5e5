/*
 * One rank of a kernel test: an open GPU, workspaces of all ranks, a communicator, a stream, and buffers for every slot of a run.
 *
 * Owner: the rank's process, single-threaded; the GPU's context is current from open to the end of the process. Whatever goes wrong ends
 * the process through comm_board_fail.
 */
#ifndef TRTCOLL_TESTS_GPU_COMM_RANK_H
#define TRTCOLL_TESTS_GPU_COMM_RANK_H

#include "comm_board.h"

#include <tck/comm.h>
#include <tck/cuda_comm.h>

struct comm_rank {
    struct comm_board *board;
    uint32_t rank, nranks;
    struct tck_device *device;
    const struct tck_cuda_driver *cuda;
    CUstream stream;
    CUdeviceptr page; /* device address of this rank's member page */
    struct tck_memory workspaces[COMM_MAX_RANKS];
    uint64_t workspace_bytes;
    struct tck_cuda_comm *comm;
    /* board->region_bytes each, but for the small ones. */
    CUdeviceptr in, out, residual_in, residual_out, gamma, bias, scale, quant_out, scale_out;
};

/* 0, or COMM_SKIP where there is no such GPU. */
int comm_rank_open(struct comm_rank *self, struct comm_board *board, uint32_t rank);
/* Loads the kernels ahead of the first communicator: by way of one that nothing is launched on. Not collective. */
void comm_rank_load(struct comm_rank *self);
void comm_rank_close(struct comm_rank *self);

/* Collective: makes, exchanges and maps workspaces of `bytes` and a communicator over them, in place of those before. */
void comm_rank_workspace(struct comm_rank *self, uint64_t bytes);
/* Collective: a workspace that suits the plan; keeps a larger one. */
void comm_rank_grow(struct comm_rank *self, const struct tcw_plan_desc *desc);

/* The driver's answer must be CUDA_SUCCESS. */
void comm_rank_cuda(struct comm_rank *self, CUresult result, const char *what);

/* A run over this rank's buffers. `lists` keeps the arrays that the run points into. */
struct comm_lists {
    const void *in[1];
    void *out[1];
};
void comm_rank_run(struct comm_rank *self, const struct tcw_plan_desc *desc, uint32_t strategy, uint64_t tokens, struct comm_lists *lists,
                   struct tck_run *run);
/* Launches on the stream; ends the process on a refusal. */
void comm_rank_launch(struct comm_rank *self, const struct tck_run *run);

/* Number of GPUs that a process sees; asked in a child, so that the caller stays clean of CUDA. */
uint32_t comm_gpu_count(void);

struct tcw_plan_desc comm_desc(unsigned dtype, unsigned fusion, uint64_t hidden, uint64_t max_tokens, uint32_t flags);

#endif
