#include "cuda/tell.h"

int tck_cuda_tell_launch(struct tck_device *device, const struct tck_cuda_end *end, CUstream stream)
{
    struct tck_cuda_signal signal = tck_cuda_signal_of(end);
    void *parameters[] = {&signal};
    struct tck_cuda_kernel kernel;
    int code = tck_cuda_kernel(device, "tck_tell", &kernel);
    if (code)
        return code;
    CUlaunchAttribute overlaps = {.id = CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION,
                                  .value.programmaticStreamSerializationAllowed = 1};
    CUlaunchConfig config = {.gridDimX = 1,
                             .gridDimY = 1,
                             .gridDimZ = 1,
                             .blockDimX = 1,
                             .blockDimY = 1,
                             .blockDimZ = 1,
                             .hStream = stream,
                             .attrs = &overlaps,
                             .numAttrs = kernel.overlaps};
    return tck_cuda_code(tck_cuda_driver()->cuLaunchKernelEx(&config, kernel.function, parameters, NULL));
}
