/*
 * The GPU of one rank: a stream to measure on, events around it, and a small kernel that stands for the engine's own work.
 * Owner: the rank's process, one thread; the GPU's context is current from gpu_open to gpu_close. Ends with the process if it is not
 * closed.
 */
#ifndef BENCH_CUDA_GPU_H
#define BENCH_CUDA_GPU_H

#include "../fleet.h"

#include <tck/cuda_comm.h>

enum { GPU_OPERATIONS = 50, GPU_MOST_REPLAYS = 101, GPU_NOTE_BYTES = 256 };

struct gpu {
    struct fleet_rank *rank;
    char *note; /* GPU_NOTE_BYTES: the latest complaint, for the report */
    struct tck_device *device;
    const struct tck_cuda_driver *cuda;
    CUstream stream;
    CUevent begin, end;
    CUdeviceptr scratch;
};

/* The GPU with this rank's number. 0, or a code after a message, as everything here. `note`: where messages are kept, too. */
int gpu_open(struct gpu *gpu, struct fleet_rank *rank, char *note);
void gpu_close(struct gpu *gpu);

/* The driver's answer, and what trtcoll said. */
int gpu_check(struct gpu *gpu, CUresult result, const char *what);
int gpu_complain(struct gpu *gpu, int code, const char *what);
/* Other failures. Returns code. */
int gpu_fail(struct gpu *gpu, int code, const char *format, ...) __attribute__((format(printf, 3, 4)));

int gpu_allocate(struct gpu *gpu, uint64_t bytes, CUdeviceptr *address);
int gpu_synchronize(struct gpu *gpu);
uint64_t gpu_free_bytes(struct gpu *gpu);

/* Ranks: everybody is here. Not 0: one has failed. */
int gpu_barrier(struct gpu *gpu);

/* What is timed: GPU_OPERATIONS of these in a row, in a captured graph or as they come. */
struct gpu_work {
    int (*enqueue)(void *arg); /* one operation on gpu->stream; 0, or a code after a message */
    void *arg;
    bool graph;
    bool computing; /* a small kernel before every operation */
};

/* Collective. *us: time of one operation (and its kernel) in the stream, the median of `replays`; of this rank. */
int gpu_time(struct gpu *gpu, const struct gpu_work *work, uint32_t replays, double *us);

/* Collective. What the calling thread spends in one enqueue, in us: the mean and the 99th percentile. */
int gpu_time_host(struct gpu *gpu, const struct gpu_work *work, double *mean_us, double *p99_us);
/* Collective. The same of a launch of the small kernel alone, nothing but the driver's: the mean. */
int gpu_time_launch(struct gpu *gpu, double *mean_us);

#endif
