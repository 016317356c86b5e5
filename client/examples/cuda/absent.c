/* Builds without CUDA never get a group of GPUs, and none of this is called but gpu_close(NULL). */
#include "../gpu.h"

#include <trtcoll.h>

int gpu_open(const unsigned char uuid[16], struct gpu **gpu)
{
    (void)uuid, (void)gpu;
    return TRTCOLL_ENOTSUP;
}

void gpu_close(struct gpu *gpu)
{
    (void)gpu;
}

struct CUstream_st *gpu_stream(struct gpu *gpu)
{
    (void)gpu;
    return NULL;
}

int gpu_upload(struct gpu *gpu, void *there, const void *here, size_t bytes)
{
    (void)gpu, (void)there, (void)here, (void)bytes;
    return TRTCOLL_ENOTSUP;
}

int gpu_download(struct gpu *gpu, void *here, const void *there, size_t bytes)
{
    (void)gpu, (void)here, (void)there, (void)bytes;
    return TRTCOLL_ENOTSUP;
}
