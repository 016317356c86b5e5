/*
 * The private half of an open GPU. Owner: who opened it. Threads: any; what changes after opening is behind `lock`.
 */
#ifndef TCK_CUDA_DEVICE_H
#define TCK_CUDA_DEVICE_H

#include <tck/cuda_driver.h>

#include <pthread.h>

struct tck_device {
    CUdevice ordinal;
    CUcontext context; /* primary, retained */
    struct tck_device_facts facts;
    pthread_mutex_t lock;         /* what follows */
    CUmodule *modules;            /* the built-in images, in their order; NULL until the first kernel is asked for */
    struct tck_cuda_found *found; /* kernels that have been asked for */
    size_t found_count;
};

/*
 * enter and leave for allocating, mapping, loading: calls that fail, and spoil the capture, while any thread of the process captures a
 * stream in the global mode (a precaution for code that does not know what it calls). They have nothing to do with that stream, so this
 * thread is exempted for their duration. *mode keeps what its own mode was.
 */
int tck_cuda_begin_setup(struct tck_device *device, CUstreamCaptureMode *mode);
void tck_cuda_end_setup(struct tck_device *device, CUstreamCaptureMode mode);

/* image.c: unloads what has been loaded. During a set-up. */
void tck_cuda_unload_images(struct tck_device *device);
/* ... and gives back what was kept about it. Whether the context works or not, last of all. */
void tck_cuda_forget_images(struct tck_device *device);

#endif
