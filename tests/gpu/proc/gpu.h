/*
 * A rank's GPU, for tests of real processes: streams, memory of every kind that an application may pass, blocked streams, and runs whose
 * buffers are given as host memory (proc_machine). The same on real GPUs and on the fake driver.
 *
 * Owner: the rank; one at a time (gpu_here). Threads: one. Failures end the rank (CHECK).
 */
#ifndef TESTS_GPU_PROC_GPU_H
#define TESTS_GPU_PROC_GPU_H

#include "cases.h"

#include <tck/cuda_driver.h>

typedef enum gpu_kind {
    GPU_ALLOCATED, /* trtcoll_alloc */
    GPU_VMM,       /* several allocations of cuMemCreate under one range, registered */
    GPU_IPC,       /* cuMemAlloc, registered */
    GPU_STRANGE,   /* cuMemAlloc, unknown to trtcoll: staged on the served lane */
    GPU_KINDS
} gpu_kind;

enum { GPU_STREAMS = 4, GPU_PIECES = 3 };

struct gpu_arena {
    CUdeviceptr base;
    uint64_t bytes, used;
    CUmemGenericAllocationHandle pieces[GPU_PIECES];
    uint64_t piece_bytes[GPU_PIECES];
};

struct gpu {
    struct trtcoll_ctx *ctx;
    struct tck_device *device;
    const struct tck_cuda_driver *cuda;
    CUstream streams[GPU_STREAMS];
    struct gpu_arena arenas[GPU_KINDS];
    gpu_kind kind; /* of what gpu_take and runs use next */
    unsigned turn; /* runs so far: streams take turns */
    _Atomic uint64_t *gate;
    CUdeviceptr gate_address;
};

extern struct gpu *gpu_here;

/* In the test's own process, which never opens a GPU itself. */
unsigned gpu_count(void);
/* main of every test: exits 77 if there are fewer than two GPUs (or fails, where the fake driver should have given some). */
int gpu_main(const char *name, const struct CMUnitTest *tests, size_t count);
/* The fake driver is slow: fewer rounds. TRTCOLL_TEST_SOAK=N in the environment: N times as many, and N times as long for them. */
bool gpu_is_fake(void);
unsigned gpu_rounds(unsigned real, unsigned fake);
unsigned gpu_limit_ms(unsigned ms);
/* An MPS server is asked for (tests/gpu/run-all --mps). */
bool gpu_has_mps(void);
/* Rank 0 says how long `count` of them took since begin_ns. */
void gpu_say_rate(const struct proc_me *me, const char *what, uint64_t count, uint64_t begin_ns);

/* After the context's first group is ready: opens its GPU. */
struct gpu *gpu_open(struct trtcoll_ctx *ctx);
void gpu_close(struct gpu *gpu); /* before the context */
/* The same, when all ranks have come here: who leaves breaks the group, and another rank may still ask how its last run ended. */
void gpu_part(struct proc_me *me, struct gpu *gpu);

/* Memory of gpu->kind; given back all at once by gpu_reset. */
CUdeviceptr gpu_take(struct gpu *gpu, uint64_t bytes);
void gpu_reset(struct gpu *gpu);

/* From here on nothing that comes on the stream runs, until gpu_release. */
void gpu_block(struct gpu *gpu, CUstream stream);
void gpu_release(struct gpu *gpu);
/* Waits until the stream has passed all that is on it, fails after `ms`; returns how long that took, in ms. */
double gpu_drain(struct gpu *gpu, CUstream stream, double ms);

/* The group is ready; else the rank fails with its story. */
void gpu_check_group(struct trtcoll_group *group);

void gpu_check(const char *file, int line, const char *call, CUresult result);
#define CHECK_CU(call) gpu_check(__FILE__, __LINE__, #call, (call))

/* An all-reduce of `count` floats: made, filled, run and checked without waiting in between. */
struct gpu_sum {
    struct trtcoll_plan *plan;
    CUdeviceptr in, out;
    uint64_t count;
    unsigned nranks;
};
struct gpu_sum gpu_sum_make(struct gpu *gpu, struct trtcoll_group *group, unsigned lane, unsigned flags, uint64_t count);
/* Rank r contributes r + 1 + round, everywhere. */
void gpu_sum_fill(struct gpu *gpu, struct gpu_sum *sum, unsigned rank, unsigned round, CUstream stream);
int gpu_sum_run(struct gpu_sum *sum, CUstream stream, struct trtcoll_event **event);
void gpu_sum_check(struct gpu *gpu, const struct gpu_sum *sum, unsigned round); /* the stream has passed it */

#endif
