#include "cuda/operation.h"

#include <stdio.h>

int tck_cuda_epilogue_kernel(struct tck_device *device, unsigned dtype, bool norm, struct tck_cuda_kernel *kernel)
{
    char name[64];
    snprintf(name, sizeof(name), "tck_epilogue_%s_%s", tck_cuda_type_name(dtype), norm ? "norm" : "plain");
    return tck_cuda_kernel(device, name, kernel);
}

/* A group of one without an exchange. */
int tck_cuda_epilogue_launch(struct tck_device *device, const struct tck_run *run, const void *sum, CUstream stream)
{
    struct tck_cuda_args args = {.link = {.nranks = 1}};
    struct tck_cuda_kernel kernel;
    int code = tck_cuda_operation_prepare(run, sum, &args.run);
    if (code)
        return code;
    code = tck_cuda_epilogue_kernel(device, run->desc->dtype, args.run.residual_in != NULL, &kernel);
    if (code)
        return code;
    /* The same on all ranks: block and cluster say in which order a row's squares are added. */
    struct tck_cuda_target target = tck_cuda_operation_target(device, run, &kernel);
    return tck_cuda_operation_launch(&kernel, tck_cuda_oneshot_shape, &target, &args, (uint32_t)tcw_dtype_bytes(run->desc->dtype), NULL,
                                     stream);
}
