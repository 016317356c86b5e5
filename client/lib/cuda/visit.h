/*
 * A thread's visit to the context's GPU: the device's context is current meanwhile, and what the driver forbids while some stream is being
 * captured is allowed, as none of it touches that stream. (In the strict modes an innocent question about an event would end a capture of
 * the application.) Lives on the stack; visits may nest.
 */
#ifndef TCC_CUDA_VISIT_H
#define TCC_CUDA_VISIT_H

#include "context.h"
#include "cuda/gpu.h"

#include <tck/cuda_driver.h>

struct tcc_gpu {
    struct trtcoll_ctx *ctx;
    struct tck_device *device;
    const struct tck_cuda_driver *driver;
    unsigned char uuid[TCK_UUID_BYTES];
    pthread_mutex_t lock;
    struct tcc_member *parked; /* under lock; linked by member.parked */
    bool closing;
    struct tcc_gpu *lost; /* the one that was lost before it */
};

struct tcc_visit {
    struct tcc_gpu *gpu;
    CUstreamCaptureMode mode;
};

/* 0, or EDEVICE with the last error set. */
int tcc_visit_begin(struct tcc_visit *visit, struct tcc_gpu *gpu);
void tcc_visit_end(struct tcc_visit *visit);

/* The last error for an answer of the driver: returns its code. */
int tcc_driver_fail(CUresult result, const char *what);

/* Records the mark of a new event: see event.h. 0, or a code with the last error set. */
int tcc_mark_record(struct tcc_gpu *gpu, struct trtcoll_event *event, CUstream stream);

/*
 * Whether the stream is of this GPU, and captured at the moment. `known`: a stream that has been found to be of this GPU. 0, or EINVAL,
 * ECAPTURE or EDEVICE with the last error set.
 */
int tcc_stream_look(struct tcc_gpu *gpu, CUstream stream, bool known, bool *capturing);

#endif
