/*
 * The GPU of a rank, for a model that computes on the processor: copies to and from memory of the GPU, and the stream that orders them with
 * collectives. In an engine this is the engine's own business.
 *
 * Owner: who opened it, a single thread.
 */
#ifndef EXAMPLES_GPU_H
#define EXAMPLES_GPU_H

#include <stddef.h>

struct CUstream_st;
struct gpu;

/* Makes the GPU's primary context, which trtcoll uses too, current for this thread. 0 or a negative TRTCOLL_E* code. */
int gpu_open(const unsigned char uuid[16], struct gpu **gpu);
void gpu_close(struct gpu *gpu); /* NULL is allowed */

struct CUstream_st *gpu_stream(struct gpu *gpu);
/* Enqueued on the stream. */
int gpu_upload(struct gpu *gpu, void *there, const void *here, size_t bytes);
/* When it returns, the data is here, and all that was enqueued before is done. */
int gpu_download(struct gpu *gpu, void *here, const void *there, size_t bytes);

#endif
