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
    pthread_mutex_t lock; /* the one field below */
    CUmodule *modules;    /* the built-in images, in their order; NULL until the first kernel is asked for */
};

/* image.c: unloads what has been loaded. The context is current. */
void tck_cuda_unload_images(struct tck_device *device);

#endif
