#include "cuda/operation.h"

#include <stdio.h>

/* A group of one without an exchange. */
int tck_cuda_epilogue_launch(struct tck_device *device, const struct tck_run *run, const void *sum, CUstream stream)
{
    struct tck_cuda_args args = {.link = {.nranks = 1}};
    struct tck_cuda_kernel kernel;
    char name[64];
    int code = tck_cuda_operation_prepare(run, sum, &args.run);
    if (code)
        return code;
    snprintf(name, sizeof(name), "tck_epilogue_%s_%s", tck_cuda_type_name(run->desc->dtype), tck_cuda_form_name(&args.run));
    code = tck_cuda_kernel(device, name, &kernel);
    if (code)
        return code;
    /* The same on all ranks: block and cluster say in which order a row's squares are added. */
    struct tck_cuda_target target = tck_cuda_operation_target(device, run, &kernel);
    return tck_cuda_operation_launch(&kernel, tck_cuda_oneshot_shape, &target, &args, (uint32_t)tcw_dtype_bytes(run->desc->dtype), NULL,
                                     stream);
}
