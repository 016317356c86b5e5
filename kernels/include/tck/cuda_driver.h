/*
 * The CUDA driver API, found in libcuda.so.1 by dlopen when the first device is opened: no program of ours links it, so the same binaries
 * run on machines without a GPU. Only for code that is left out of builds without CUDA (folders named cuda).
 *
 * Owner: the process; never unloaded. Threads: any.
 */
#ifndef TCK_CUDA_DRIVER_H
#define TCK_CUDA_DRIVER_H

#include <tck/device.h>

#include <cuda.h>

/* Members are called like the functions, in the version that cuda.h of this build names. */
struct tck_cuda_driver {
#define TCK_CUDA_FUNCTION(name) __typeof__(&name) name;
#include <tck/cuda_functions.def>
#undef TCK_CUDA_FUNCTION
};

/* The table; never NULL once a device has been opened. */
const struct tck_cuda_driver *tck_cuda_driver(void);

/* The primary context of an open device, and its ordinal. */
CUcontext tck_cuda_context(const struct tck_device *device);
CUdevice tck_cuda_ordinal(const struct tck_device *device);

/* Makes the device's context current for this thread until the matching leave. 0 or TCW_EDEVICE. Cheap when it is current already. */
int tck_cuda_enter(struct tck_device *device);
void tck_cuda_leave(struct tck_device *device);

/* 0, or the tcw_errno that a driver's answer means: ENOMEM, EAGAIN (not ready), ECAPTURE, ENOTSUP, else EDEVICE. */
int tck_cuda_code(CUresult result);
/* "CUDA_ERROR_NOT_PERMITTED: operation not permitted", never NULL. */
const char *tck_cuda_text(CUresult result, char *text, size_t bytes);

/*
 * Host memory that kernels and stream operations reach: page-locks [base, base + bytes) of a mapping, whole pages, and returns its device
 * address. For a mapping registered already in this process by somebody else the answer is EBUSY.
 */
int tck_cuda_register_host(struct tck_device *device, void *base, uint64_t bytes, CUdeviceptr *address);
void tck_cuda_unregister_host(struct tck_device *device, void *base);

/* A kernel of the built-in images, loaded when it is first asked for: the driver may wait for everything that runs then. */
struct tck_cuda_kernel {
    CUfunction function;
    uint32_t registers; /* per thread */
    bool overlaps;      /* waits by itself for what was before it on its stream, so it may be launched to overlap with that */
};
/* 0, ENOTSUP: there is none of this name, or what the driver's answer means. */
int tck_cuda_kernel(struct tck_device *device, const char *name, struct tck_cuda_kernel *kernel);

/*
 * Loads the kernels that follow what a library does (copies, epilogues, the one that tells an end), and launches the first of them, so that
 * nothing of them has to wait or can fail for want of memory later, behind work that waits for others. `scratch`: 256 bytes of the device's
 * memory, of which something is overwritten. Does not wait for `stream`.
 */
int tck_cuda_warm_up(struct tck_device *device, void *scratch, CUstream stream);

#endif
