/*
 * NCCL as an engine uses it without trtcoll: libnccl.so.2 by dlopen, a communicator of all ranks in their own processes.
 * Owner: the rank's process, one thread. The library stays loaded: it has threads.
 */
#ifndef BENCH_CUDA_NCCL_PEER_H
#define BENCH_CUDA_NCCL_PEER_H

#include "gpu.h"

struct nccl;

enum { NCCL_ID_BYTES = 128 };

/* Collective. `meeting`: NCCL_ID_BYTES of memory that all ranks share. NULL after a message. *ms: how long the set-up took here. */
struct nccl *nccl_open(struct gpu *gpu, void *meeting, double *ms);
void nccl_close(struct nccl *nccl);

/* The library's version as it counts (22803); 0: there is none. Needs no device. */
uint32_t nccl_version(void);

/* A sum of `count` elements of bf16 on the GPU's stream. */
int nccl_sum(struct nccl *nccl, CUdeviceptr in, CUdeviceptr out, uint64_t count);

#endif
