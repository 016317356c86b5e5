/*
 * ub-finalize on GPUs, the host's part: what the kernel is given, and its shape. Owner: nobody, pure functions. Threads: any.
 */
#ifndef TCK_CUDA_FINALIZE_H
#define TCK_CUDA_FINALIZE_H

#include "cuda/operation.h"

/* As tck_cuda_operation_prepare. */
int tck_cuda_finalize_prepare(const struct tck_run *run, uint32_t nranks, struct tck_cuda_operation *operation);

tck_cuda_shape_function tck_cuda_finalize_shape;

#endif
