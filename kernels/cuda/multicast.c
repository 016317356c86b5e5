#include <tck/cuda_multicast.h>

#include "cuda/device.h"

#include <tck/cuda_driver.h>
#include <tcw/types.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool tck_cuda_multicast_allowed(void)
{
    const char *nvls = getenv("NCCL_NVLS_ENABLE");
    return !nvls || strcmp(nvls, "0") != 0;
}

/* With the context current; each step begins and ends with these. */
static int begin(struct tck_device *device, CUstreamCaptureMode *mode, char *why, size_t why_bytes)
{
    int code = TCW_ENOTSUP;
    if (!tck_cuda_multicast_allowed())
        snprintf(why, why_bytes, "the environment says NCCL_NVLS_ENABLE=0");
    else if ((code = tck_cuda_begin_setup(device, mode)))
        snprintf(why, why_bytes, "the context cannot be used");
    return code;
}

static int end(struct tck_device *device, CUstreamCaptureMode mode, CUresult result, const char *what, char *why, size_t why_bytes)
{
    char text[160];
    tck_cuda_end_setup(device, mode);
    if (result != CUDA_SUCCESS)
        snprintf(why, why_bytes, "%s: %s", what, tck_cuda_text(result, text, sizeof(text)));
    return tck_cuda_code(result);
}

static CUresult import(int fd, CUmemGenericAllocationHandle *handle)
{
    return tck_cuda_driver()->cuMemImportFromShareableHandle(handle, (void *)(uintptr_t)fd, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR);
}

int tck_cuda_multicast_create(struct tck_device *device, uint64_t bytes, uint32_t nranks, int *fd, char *why, size_t why_bytes)
{
    const struct tck_cuda_driver *driver = tck_cuda_driver();
    CUmulticastObjectProp kind = {.numDevices = nranks, .size = bytes, .handleTypes = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR};
    CUmemGenericAllocationHandle object;
    CUstreamCaptureMode mode;
    size_t granule = 0;
    int code = begin(device, &mode, why, why_bytes);
    if (code)
        return code;
    CUresult result = driver->cuMulticastGetGranularity(&granule, &kind, CU_MULTICAST_GRANULARITY_MINIMUM);
    if (result == CUDA_SUCCESS && (!granule || bytes % granule))
        result = CUDA_ERROR_INVALID_VALUE;
    if (result == CUDA_SUCCESS)
        result = driver->cuMulticastCreate(&object, &kind);
    if (result == CUDA_SUCCESS) {
        result = driver->cuMemExportToShareableHandle(fd, object, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0);
        if (result == CUDA_SUCCESS)
            fcntl(*fd, F_SETFD, FD_CLOEXEC);
        driver->cuMemRelease(object); /* the descriptor keeps it */
    }
    return end(device, mode, result, "no multicast object", why, why_bytes);
}

int tck_cuda_multicast_join(struct tck_device *device, int fd, char *why, size_t why_bytes)
{
    CUmemGenericAllocationHandle object;
    CUstreamCaptureMode mode;
    int code = begin(device, &mode, why, why_bytes);
    if (code)
        return code;
    CUresult result = import(fd, &object);
    if (result == CUDA_SUCCESS) {
        result = tck_cuda_driver()->cuMulticastAddDevice(object, tck_cuda_ordinal(device));
        tck_cuda_driver()->cuMemRelease(object);
    }
    return end(device, mode, result, "the GPU cannot join the multicast object", why, why_bytes);
}

int tck_cuda_multicast_bind(struct tck_device *device, int fd, int workspace_fd, uint64_t bytes, char *why, size_t why_bytes)
{
    const struct tck_cuda_driver *driver = tck_cuda_driver();
    CUmemGenericAllocationHandle object, memory;
    CUstreamCaptureMode mode;
    int code = begin(device, &mode, why, why_bytes);
    if (code)
        return code;
    CUresult result = import(fd, &object);
    if (result == CUDA_SUCCESS) {
        result = import(workspace_fd, &memory);
        if (result == CUDA_SUCCESS) {
            result = driver->cuMulticastBindMem(object, 0, memory, 0, bytes, 0);
            driver->cuMemRelease(memory);
        }
        driver->cuMemRelease(object);
    }
    return end(device, mode, result, "the workspace cannot be bound to the multicast object", why, why_bytes);
}
