#include "gpu.h"

#include "../figures.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { WARM_REPLAYS = 3, HOST_BATCHES = 40, SCRATCH_BYTES = 1 << 20, KERNEL_BYTES = 64 << 10 };

int gpu_fail(struct gpu *gpu, int code, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(gpu->note, GPU_NOTE_BYTES, format, arguments);
    va_end(arguments);
    fprintf(stderr, "trtcoll-bench: rank %u: %s\n", gpu->rank->rank, gpu->note);
    return code;
}

int gpu_check(struct gpu *gpu, CUresult result, const char *what)
{
    char text[128];
    return result == CUDA_SUCCESS ? 0 : gpu_fail(gpu, TRTCOLL_EDEVICE, "%s: %s", what, tck_cuda_text(result, text, sizeof(text)));
}

int gpu_complain(struct gpu *gpu, int code, const char *what)
{
    struct trtcoll_error error = TRTCOLL_ERROR_INIT;
    const char *text = trtcoll_last_error(&error) == code && error.text[0] ? error.text : trtcoll_error_text(code);
    return gpu_fail(gpu, code, "%s: %s: %.190s", what, trtcoll_error_name(code), text);
}

static int prepare(struct gpu *gpu)
{
    int code = gpu_check(gpu, gpu->cuda->cuStreamCreateWithPriority(&gpu->stream, CU_STREAM_NON_BLOCKING, 0), "stream");
    if (code == 0)
        code = gpu_check(gpu, gpu->cuda->cuEventCreate(&gpu->begin, CU_EVENT_DEFAULT), "event");
    if (code == 0)
        code = gpu_check(gpu, gpu->cuda->cuEventCreate(&gpu->end, CU_EVENT_DEFAULT), "event");
    return code == 0 ? gpu_allocate(gpu, SCRATCH_BYTES, &gpu->scratch) : code;
}

int gpu_open(struct gpu *gpu, struct fleet_rank *rank, char *note)
{
    char why[192] = "";
    *gpu = (struct gpu){.rank = rank};
    gpu->note = note;
    int code = tck_device_open(NULL, (int)rank->rank, &gpu->device, why, sizeof(why));
    if (code == 0 && (code = tck_cuda_enter(gpu->device)) != 0)
        tck_device_close(gpu->device);
    if (code != 0) {
        gpu->device = NULL;
        return gpu_fail(gpu, code, "GPU %u: %s", rank->rank, why[0] ? why : trtcoll_error_text(code));
    }
    gpu->cuda = tck_cuda_driver();
    return prepare(gpu);
}

void gpu_close(struct gpu *gpu)
{
    if (!gpu->device)
        return;
    if (gpu->scratch)
        gpu->cuda->cuMemFree(gpu->scratch);
    if (gpu->begin)
        gpu->cuda->cuEventDestroy(gpu->begin);
    if (gpu->end)
        gpu->cuda->cuEventDestroy(gpu->end);
    if (gpu->stream)
        gpu->cuda->cuStreamDestroy(gpu->stream);
    tck_cuda_leave(gpu->device);
    tck_device_close(gpu->device);
    gpu->device = NULL;
}

int gpu_allocate(struct gpu *gpu, uint64_t bytes, CUdeviceptr *address)
{
    return gpu_check(gpu, gpu->cuda->cuMemAlloc(address, bytes), "memory");
}

int gpu_synchronize(struct gpu *gpu)
{
    return gpu_check(gpu, gpu->cuda->cuStreamSynchronize(gpu->stream), "stream");
}

uint64_t gpu_free_bytes(struct gpu *gpu)
{
    size_t left = 0, all;
    return gpu->cuda->cuMemGetInfo(&left, &all) == CUDA_SUCCESS ? left : 0;
}

int gpu_barrier(struct gpu *gpu)
{
    uint64_t nothing = 0;
    return fleet_agree(gpu->rank, &nothing);
}

/* The engine's own work: about as short as kernels are. */
static int compute(struct gpu *gpu)
{
    struct tck_cuda_box box = {
        .source = (const void *)gpu->scratch, .target = (void *)(gpu->scratch + SCRATCH_BYTES / 2), .row_bytes = KERNEL_BYTES, .rows = 1};
    int code = tck_cuda_copy_launch(gpu->device, &box, 1, gpu->stream);
    return code == 0 ? 0 : gpu_fail(gpu, code, "kernel: %s", trtcoll_error_text(code));
}

static int enqueue_all(struct gpu *gpu, const struct gpu_work *work)
{
    int code = 0;
    for (uint32_t i = 0; i < GPU_OPERATIONS && code == 0; i++) {
        if (work->computing)
            code = compute(gpu);
        if (code == 0)
            code = work->enqueue(work->arg);
    }
    return code;
}

static int capture(struct gpu *gpu, const struct gpu_work *work, CUgraphExec *exec)
{
    CUgraph graph = NULL;
    int code = work->computing ? compute(gpu) : 0; /* kernels are loaded on first use, which a capture forbids */
    if (code == 0)
        code = gpu_synchronize(gpu);
    if (code == 0)
        code = gpu_check(gpu, gpu->cuda->cuStreamBeginCapture(gpu->stream, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL), "capture");
    if (code != 0)
        return code;
    code = enqueue_all(gpu, work);
    CUresult ended = gpu->cuda->cuStreamEndCapture(gpu->stream, &graph);
    if (code == 0)
        code = gpu_check(gpu, ended, "capture");
    if (code == 0)
        code = gpu_check(gpu, gpu->cuda->cuGraphInstantiate(exec, graph, 0), "graph");
    if (graph)
        gpu->cuda->cuGraphDestroy(graph);
    return code;
}

static int replay(struct gpu *gpu, const struct gpu_work *work, CUgraphExec exec, double *us)
{
    float ms = 0;
    int code = gpu_barrier(gpu);
    if (code == 0)
        code = gpu_check(gpu, gpu->cuda->cuEventRecord(gpu->begin, gpu->stream), "event");
    if (code == 0)
        code = exec ? gpu_check(gpu, gpu->cuda->cuGraphLaunch(exec, gpu->stream), "graph") : enqueue_all(gpu, work);
    if (code == 0)
        code = gpu_check(gpu, gpu->cuda->cuEventRecord(gpu->end, gpu->stream), "event");
    if (code == 0)
        code = gpu_check(gpu, gpu->cuda->cuEventSynchronize(gpu->end), "replay");
    if (code == 0)
        code = gpu_check(gpu, gpu->cuda->cuEventElapsedTime(&ms, gpu->begin, gpu->end), "time");
    *us = (double)ms * 1e3 / GPU_OPERATIONS;
    return code;
}

int gpu_time(struct gpu *gpu, const struct gpu_work *work, uint32_t replays, double *us)
{
    double times[GPU_MOST_REPLAYS], warm;
    CUgraphExec exec = NULL;
    int code = work->graph ? capture(gpu, work, &exec) : 0;
    replays = replays > GPU_MOST_REPLAYS ? GPU_MOST_REPLAYS : replays;
    for (uint32_t i = 0; i < WARM_REPLAYS && code == 0; i++)
        code = replay(gpu, work, exec, &warm);
    for (uint32_t i = 0; i < replays && code == 0; i++)
        code = replay(gpu, work, exec, &times[i]);
    if (exec)
        gpu->cuda->cuGraphExecDestroy(exec);
    if (code == 0)
        *us = figures_quantile(times, replays, 0.5);
    return code;
}

int gpu_time_host(struct gpu *gpu, const struct gpu_work *work, double *mean_us, double *p99_us)
{
    static double times[HOST_BATCHES * GPU_OPERATIONS];
    int code = 0;
    /* One batch more than counts: the first is warm-up, and overwritten. */
    for (uint32_t batch = 0; batch <= HOST_BATCHES && code == 0; batch++) {
        double *of_batch = &times[(batch ? batch - 1 : 0) * GPU_OPERATIONS];
        code = gpu_barrier(gpu);
        for (uint32_t i = 0; i < GPU_OPERATIONS && code == 0; i++) {
            uint64_t start = loop_now_ns();
            code = work->enqueue(work->arg);
            of_batch[i] = (double)(loop_now_ns() - start) / 1e3;
        }
        if (code == 0)
            code = gpu_synchronize(gpu);
    }
    *mean_us = code == 0 ? figures_mean(times, HOST_BATCHES * GPU_OPERATIONS) : 0;
    *p99_us = code == 0 ? figures_quantile(times, HOST_BATCHES * GPU_OPERATIONS, 0.99) : 0;
    return code;
}

static int enqueue_compute(void *arg)
{
    return compute(arg);
}

int gpu_time_launch(struct gpu *gpu, double *mean_us)
{
    const struct gpu_work work = {.enqueue = enqueue_compute, .arg = gpu};
    double p99_us;
    return gpu_time_host(gpu, &work, mean_us, &p99_us);
}
