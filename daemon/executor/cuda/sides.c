#include "sides.h"

enum {
    SETTLING = 4,       /* requests of a series before those that are measured: the change of sides is over then */
    MEASURED = 16,      /* those */
    FIRST_PAUSE = 256,  /* requests; grows with every trial, */
    MOST_PAUSE = 16384, /* up to here */
    OLDEST = 1024,      /* requests of a trial, then it is given up: others come in between, or records are missing */
    CLEARLY_NS = 400,   /* what a request must be faster by: less is noise, a wrong side costs three times as much and more */
};
_Static_assert(TCD_CUDA_SERIES *(SETTLING + MEASURED) < TCW_DEVICE_RECORDS, "all of a trial is there when it is judged");

CUresult tcd_cuda_sides_open(struct tcd_cuda_sides *sides)
{
    const struct tck_cuda_driver *driver = tck_cuda_driver();
    int least = 0, greatest = 0;
    CUresult result = driver->cuCtxGetStreamPriorityRange(&least, &greatest);
    /* One behind the other: neighbours are on different sides. */
    for (unsigned i = 0; i < TCD_CUDA_SIDES && result == CUDA_SUCCESS; ++i)
        result = driver->cuStreamCreateWithPriority(&sides->streams[i], CU_STREAM_NON_BLOCKING, greatest);
    if (result == CUDA_SUCCESS)
        result = driver->cuEventCreate(&sides->order, CU_EVENT_DISABLE_TIMING);
    sides->rest = sides->pause = FIRST_PAUSE;
    return result;
}

void tcd_cuda_sides_close(struct tcd_cuda_sides *sides)
{
    if (sides->order)
        tck_cuda_driver()->cuEventDestroy(sides->order);
    for (unsigned i = 0; i < TCD_CUDA_SIDES; ++i)
        if (sides->streams[i])
            tck_cuda_driver()->cuStreamDestroy(sides->streams[i]);
    *sides = (struct tcd_cuda_sides){.side = 0};
}

CUresult tcd_cuda_sides_query(const struct tcd_cuda_sides *sides)
{
    CUresult worst = CUDA_SUCCESS;
    for (unsigned i = 0; i < TCD_CUDA_SIDES; ++i) {
        CUresult result = tck_cuda_driver()->cuStreamQuery(sides->streams[i]);
        if (result != CUDA_SUCCESS && (worst == CUDA_SUCCESS || worst == CUDA_ERROR_NOT_READY))
            worst = result;
    }
    return worst;
}

/* ---- trials ---- */

static void end_trial(struct tcd_cuda_sides *sides)
{
    sides->rest = sides->pause;
    sides->pause = sides->pause * 2 < MOST_PAUSE ? sides->pause * 2 : MOST_PAUSE;
    sides->series = sides->count = sides->age = 0;
}

static bool is_recorded(const struct tcw_device_progress *progress, uint64_t step)
{
    return atomic_load_explicit(&progress->records[step % TCW_DEVICE_RECORDS].step, memory_order_acquire) == step;
}

/* The time between the kernels of a series. UINT64_MAX: something is missing. */
static uint64_t measure(const struct tcw_device_progress *progress, uint64_t last)
{
    uint64_t between_ns = 0;
    for (uint64_t step = last - MEASURED; step < last; ++step) {
        const struct tcw_device_record *one = &progress->records[step % TCW_DEVICE_RECORDS],
                                       *next = &progress->records[(step + 1) % TCW_DEVICE_RECORDS];
        if (!is_recorded(progress, step) || !is_recorded(progress, step + 1))
            return UINT64_MAX;
        between_ns += next->start_ns > one->end_ns ? next->start_ns - one->end_ns : 0;
    }
    return between_ns;
}

/* Once all series are over. Without a clear answer one stays at home. */
static void judge(struct tcd_cuda_sides *sides)
{
    uint64_t best[TCD_CUDA_SIDES] = {UINT64_MAX, UINT64_MAX};
    /* The fastest of each side: whatever else a client does in between makes series longer, never shorter. */
    for (unsigned i = 0; i < TCD_CUDA_SERIES; ++i) {
        uint64_t ns = measure(sides->progress, sides->last[i]);
        if (ns < best[i % TCD_CUDA_SIDES])
            best[i % TCD_CUDA_SIDES] = ns;
    }
    if (best[0] != UINT64_MAX && best[1] != UINT64_MAX) {
        ++sides->trials;
        if (best[1] + MEASURED * CLEARLY_NS < best[0])
            sides->home = !sides->home;
    }
    end_trial(sides);
}

/* Series take turns, beginning at home. */
static unsigned wanted(const struct tcd_cuda_sides *sides)
{
    const bool away = !sides->rest && sides->series < TCD_CUDA_SERIES && sides->series % TCD_CUDA_SIDES;
    return away ? !sides->home : sides->home;
}

CUresult tcd_cuda_sides_turn(struct tcd_cuda_sides *sides, const struct tcw_device_progress *progress, CUstream *stream)
{
    const struct tck_cuda_driver *driver = tck_cuda_driver();
    CUresult result = CUDA_SUCCESS;
    if (sides->series == TCD_CUDA_SERIES && progress == sides->progress && is_recorded(progress, sides->last[TCD_CUDA_SERIES - 1]))
        judge(sides);
    const unsigned side = wanted(sides);
    if (side != sides->side) {
        result = driver->cuEventRecord(sides->order, sides->streams[sides->side]);
        if (result == CUDA_SUCCESS)
            result = driver->cuStreamWaitEvent(sides->streams[side], sides->order, 0);
        if (result == CUDA_SUCCESS)
            sides->side = side;
    }
    *stream = sides->streams[sides->side];
    return result;
}

void tcd_cuda_sides_enqueued(struct tcd_cuda_sides *sides, const struct tcw_device_progress *progress, uint64_t step)
{
    const bool follows = step && step == sides->step + 1 && progress == sides->progress;
    if (sides->rest) {
        --sides->rest;
        return;
    }
    if (++sides->age > OLDEST) {
        end_trial(sides);
        return;
    }
    if (sides->series == TCD_CUDA_SERIES)
        return;
    /* A series is of requests that follow each other directly, a trial of one lane. */
    if (progress != sides->progress)
        sides->series = 0;
    sides->count = follows ? sides->count + 1 : 0;
    sides->progress = progress;
    sides->step = step;
    if (sides->count == SETTLING + MEASURED) {
        sides->last[sides->series++] = step;
        sides->count = 0;
    }
}
