#include "cuda/tell.h"

#include "cuda/device.h"

int tck_cuda_tell_launch(struct tck_device *device, const struct tck_cuda_end *end, CUstream stream)
{
    struct tck_cuda_signal signal = tck_cuda_signal_of(end);
    void *parameters[] = {&signal};
    CUfunction function;
    int code = tck_cuda_kernel(device, "tck_tell", &function);
    if (code)
        return code;
    /* It waits for what was before it by itself, so it may be scheduled while that still runs. */
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
                             .numAttrs = device->facts.compute >= 90 ? 1 : 0};
    return tck_cuda_code(tck_cuda_driver()->cuLaunchKernelEx(&config, function, parameters, NULL));
}
