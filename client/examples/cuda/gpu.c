/* libcuda is opened when there is a GPU to use, so that the same program runs on machines without. */
#include "../gpu.h"

#include <cuda.h>
#include <trtcoll.h>

#include <dlfcn.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

struct gpu {
    void *library;
    CUdevice device;
    CUstream stream;
    __typeof__(&cuInit) init;
    __typeof__(&cuDeviceGetCount) count;
    __typeof__(&cuDeviceGet) get;
    __typeof__(&cuDeviceGetUuid) get_uuid;
    __typeof__(&cuDevicePrimaryCtxRetain) retain;
    __typeof__(&cuDevicePrimaryCtxRelease) release;
    __typeof__(&cuCtxSetCurrent) set_current;
    __typeof__(&cuStreamCreate) stream_create;
    __typeof__(&cuStreamDestroy) stream_destroy;
    __typeof__(&cuStreamSynchronize) synchronize;
    __typeof__(&cuMemcpyHtoDAsync) upload;
    __typeof__(&cuMemcpyDtoHAsync) download;
};

static bool find(struct gpu *gpu, const char *name, void *function)
{
    void *symbol = dlsym(gpu->library, name);
    memcpy(function, &symbol, sizeof(symbol));
    return symbol != NULL;
}

/* cuda.h renames functions to their latest versions: the name is taken after that. */
#define NAME(function)       #function
#define FIND(member, symbol) find(gpu, NAME(symbol), &gpu->member)

static bool load(struct gpu *gpu)
{
    gpu->library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
    return gpu->library && FIND(init, cuInit) && FIND(count, cuDeviceGetCount) && FIND(get, cuDeviceGet) &&
           FIND(get_uuid, cuDeviceGetUuid) && FIND(retain, cuDevicePrimaryCtxRetain) && FIND(release, cuDevicePrimaryCtxRelease) &&
           FIND(set_current, cuCtxSetCurrent) && FIND(stream_create, cuStreamCreate) && FIND(stream_destroy, cuStreamDestroy) &&
           FIND(synchronize, cuStreamSynchronize) && FIND(upload, cuMemcpyHtoDAsync) && FIND(download, cuMemcpyDtoHAsync);
}

static bool find_device(struct gpu *gpu, const unsigned char uuid[16])
{
    int count = 0;
    CUuuid found;
    if (gpu->init(0) != CUDA_SUCCESS || gpu->count(&count) != CUDA_SUCCESS)
        return false;
    for (int i = 0; i < count; i++)
        if (gpu->get(&gpu->device, i) == CUDA_SUCCESS && gpu->get_uuid(&found, gpu->device) == CUDA_SUCCESS &&
            memcmp(found.bytes, uuid, sizeof(found.bytes)) == 0)
            return true;
    return false;
}

int gpu_open(const unsigned char uuid[16], struct gpu **gpu_out)
{
    CUcontext context;
    struct gpu *gpu = calloc(1, sizeof(*gpu));
    if (!gpu)
        return TRTCOLL_ENOMEM;
    if (!load(gpu) || !find_device(gpu, uuid) || gpu->retain(&context, gpu->device) != CUDA_SUCCESS) {
        free(gpu);
        return TRTCOLL_EDEVICE;
    }
    if (gpu->set_current(context) != CUDA_SUCCESS || gpu->stream_create(&gpu->stream, CU_STREAM_NON_BLOCKING) != CUDA_SUCCESS) {
        gpu_close(gpu);
        return TRTCOLL_EDEVICE;
    }
    *gpu_out = gpu;
    return 0;
}

void gpu_close(struct gpu *gpu)
{
    if (!gpu)
        return;
    if (gpu->stream)
        gpu->stream_destroy(gpu->stream);
    gpu->release(gpu->device);
    free(gpu); /* the library stays, as trtcoll's */
}

struct CUstream_st *gpu_stream(struct gpu *gpu)
{
    return gpu->stream;
}

int gpu_upload(struct gpu *gpu, void *there, const void *here, size_t bytes)
{
    return gpu->upload((CUdeviceptr)(uintptr_t)there, here, bytes, gpu->stream) == CUDA_SUCCESS ? 0 : TRTCOLL_EDEVICE;
}

int gpu_download(struct gpu *gpu, void *here, const void *there, size_t bytes)
{
    if (gpu->download(here, (CUdeviceptr)(uintptr_t)there, bytes, gpu->stream) != CUDA_SUCCESS)
        return TRTCOLL_EDEVICE;
    return gpu->synchronize(gpu->stream) == CUDA_SUCCESS ? 0 : TRTCOLL_EDEVICE;
}
