/*
 * NCCL beside our kernels: the library, found by dlopen, and one communicator of all ranks in this process.
 *
 * Owner: the rank's process. Threads: one.
 */
#ifndef TRTCOLL_TESTS_GPU_COMM_NCCL_H
#define TRTCOLL_TESTS_GPU_COMM_NCCL_H

#include "comm_rank.h"

struct comm_nccl;

/* Collective. NULL where there is no library. */
struct comm_nccl *comm_nccl_open(struct comm_rank *rank);
void comm_nccl_close(struct comm_nccl *nccl);
int comm_nccl_version(const struct comm_nccl *nccl);

/* A sum of `count` elements of bf16 on the rank's stream. */
void comm_nccl_sum(struct comm_nccl *nccl, CUdeviceptr in, CUdeviceptr out, uint64_t count);

#endif
