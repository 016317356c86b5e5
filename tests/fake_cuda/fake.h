/*
 * A CUDA driver and an NCCL without a GPU: libcuda.so.1 and libnccl.so.2 over ordinary memory, for tests of programs that load those
 * libraries by name. LD_LIBRARY_PATH decides which ones a process gets.
 *
 * What it is: the functions of tck/cuda_functions.def (and a few more that tests like) with the real ones' control flow, ordering,
 * lifetimes and cross-process behaviour. Device memory is memfds, streams are threads with queues, kernels are C functions with the same
 * names ("twins"), communicators move real bytes between processes. Mistakes that a GPU punishes are punished: memory without
 * cuMemSetAccess crashes or faults the device, calls without a context or in the middle of a capture are refused, handles are checked.
 *
 * What it is not: a simulation of a GPU. It proves control flow and nothing else: no speed, no memory model, no scheduling of blocks, no
 * kernel. What works here has not been shown to work on a device.
 *
 * Environment, read once:
 *   TRTCOLL_FAKE_GPUS         number of devices (4; at most 16)
 *   TRTCOLL_FAKE_GPU_MEMORY   bytes of one device that one process can allocate (8 GiB)
 *   TRTCOLL_FAKE_ISLAND       so many GPUs at a time can map each other's memory (all of them)
 *   TRTCOLL_FAKE_MULTIPROCESSORS  that this process sees of each device: a number for all, or "132,66,..." (132)
 *   TRTCOLL_FAKE_MPS          1: says that an MPS server is used; nothing else is different
 *   TRTCOLL_FAKE_UNCHECKED    1: kernels do not compare what ranks launch, as real ones do not; see twin_all_reduce.c
 *   TRTCOLL_FAKE_FAULTS       file with faults to inject, see inject.h
 *   CUDA_VISIBLE_DEVICES      as for the real driver: ordinals or "GPU-<uuid>"
 *
 * Owner of everything: the process. One lock covers all state; it is never held while an operation of a stream runs. Streams, events and
 * contexts are never freed, only marked dead: stale handles are found out instead of being followed.
 */
#ifndef TESTS_FAKE_CUDA_FAKE_H
#define TESTS_FAKE_CUDA_FAKE_H

#pragma GCC visibility push(default)
#include <cuda.h>
#pragma GCC visibility pop

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FAKE_EXPORT __attribute__((visibility("default")))

enum { FAKE_MAX_DEVICES = 16, FAKE_GRANULE = 2 << 20 };

/* What a function wants before it does anything. */
enum {
    FAKE_INIT = 1u << 0,    /* cuInit has been called, by this process and not by its parent */
    FAKE_CONTEXT = 1u << 1, /* a live context is current, and its device has not faulted */
    FAKE_UNSAFE = 1u << 2,  /* not while a capture forbids it (cuStreamBeginCapture's mode) */
};

/* Every function of the API begins with it. On CUDA_SUCCESS the lock is held; otherwise the answer is the function's. */
CUresult fake_enter(const char *function, unsigned needs);
/* ... and ends with it: gives up the lock, returns `result`. */
CUresult fake_leave(CUresult result);

void fake_lock(void);
void fake_unlock(void);
pthread_mutex_t *fake_mutex(void); /* the lock, for waits on conditions of one's own */
/* With the lock held: waits for any change of anything, and says that something changed. */
void fake_wait(void);
void fake_changed(void);

/* A line on stderr for what a test's author should know. */
void fake_complain(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* For waits on memory, which nobody announces: short naps, longer with every call. *naps starts at 0. Without the lock. */
void fake_nap(unsigned *naps);

#endif
