/*
 * From a run to what a kernel is given: checks of pointers, flags, and the cutting of a run into launches. Owner: nobody, functions over
 * the caller's structs. Threads: any.
 */
#ifndef TCK_CUDA_OPERATION_H
#define TCK_CUDA_OPERATION_H

#include "cuda/family.h"

#include <tck/cuda_comm.h>

/*
 * Fills *operation for all tokens of a run with `in` in place of run->in[0]; flags that depend on the strategy are the caller's affair.
 * 0; EINVAL: a buffer is missing; ENOTSUP: of a kind that kernels do not take, or not aligned to 16 bytes.
 */
int tck_cuda_operation_prepare(const struct tck_run *run, const void *in, struct tck_cuda_operation *operation);
/* The same where in and out need not be aligned. ENOTSUP too: there is more to do than a sum. */
int tck_cuda_operation_prepare_staged(const struct tck_run *run, struct tck_cuda_operation *operation);

/* Says in *part the `tokens` from token `first` of the run *whole; flags TCK_CUDA_LAST by itself. */
void tck_cuda_operation_cut(const struct tck_cuda_operation *whole, uint32_t element_bytes, uint64_t first, uint64_t tokens,
                            struct tck_cuda_operation *part);

/* The type as kernels are named; NULL for types that kernels do not take. */
const char *tck_cuda_type_name(unsigned dtype);

/* The kernel of a group of one, which is also the epilogue behind a library's sum; `norm`: the row form. As tck_cuda_kernel. */
int tck_cuda_epilogue_kernel(struct tck_device *device, unsigned dtype, bool norm, struct tck_cuda_kernel *kernel);

/* What shapes are made of: as agreed, or where nobody had to agree, this process' GPU. */
struct tck_cuda_target tck_cuda_operation_target(const struct tck_device *device, const struct tck_run *run,
                                                 const struct tck_cuda_kernel *kernel);

/*
 * Enqueues all launches of a run. `shape` is asked for each. `staging`: see tck_cuda_comm_launch_staged, NULL: in and out are aligned.
 * 0, EINVAL (the workspace is too small), or what the driver's answer means.
 */
int tck_cuda_operation_launch(const struct tck_cuda_kernel *kernel, tck_cuda_shape_function *shape, const struct tck_cuda_target *target,
                              const struct tck_cuda_args *whole, uint32_t element_bytes, void *staging, CUstream stream);

#endif
