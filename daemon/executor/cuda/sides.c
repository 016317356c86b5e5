#include "sides.h"

#include <stdbool.h>

enum {
    SETTLING = 4,      /* requests of a series before its first event: the change of sides is over then */
    MEASURED = 16,     /* and between its events */
    FIRST_PAUSE = 256, /* requests; grows with every trial, */
    LONGEST_PAUSE = 16384,
};

/* What a series must be faster by: less is noise, a wrong side costs several times as much. */
static const float CLEARLY_US = 1.5f;

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
    for (unsigned i = 0; i < TCD_CUDA_SERIES && result == CUDA_SUCCESS; ++i) {
        result = driver->cuEventCreate(&sides->begun[i], CU_EVENT_DEFAULT);
        if (result == CUDA_SUCCESS)
            result = driver->cuEventCreate(&sides->ended[i], CU_EVENT_DEFAULT);
    }
    sides->rest = sides->pause = FIRST_PAUSE;
    return result;
}

static void destroy_event(CUevent event)
{
    if (event)
        tck_cuda_driver()->cuEventDestroy(event);
}

void tcd_cuda_sides_close(struct tcd_cuda_sides *sides)
{
    for (unsigned i = 0; i < TCD_CUDA_SERIES; ++i) {
        destroy_event(sides->begun[i]);
        destroy_event(sides->ended[i]);
    }
    destroy_event(sides->order);
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

unsigned tcd_cuda_sides_choose(const float *ms, unsigned home)
{
    float best[TCD_CUDA_SIDES] = {ms[0], ms[1]};
    /* The fastest of each: whatever else a client does in between makes series longer, never shorter. */
    for (unsigned i = 2; i < TCD_CUDA_SERIES; ++i)
        if (ms[i] < best[i % TCD_CUDA_SIDES])
            best[i % TCD_CUDA_SIDES] = ms[i];
    return best[1] + CLEARLY_US * MEASURED / 1000 < best[0] ? !home : home;
}

/* Once all series are over. */
static CUresult judge(struct tcd_cuda_sides *sides)
{
    float ms[TCD_CUDA_SERIES];
    CUresult result = tck_cuda_driver()->cuEventQuery(sides->ended[TCD_CUDA_SERIES - 1]);
    if (result != CUDA_SUCCESS)
        return result == CUDA_ERROR_NOT_READY ? CUDA_SUCCESS : result;
    for (unsigned i = 0; i < TCD_CUDA_SERIES && result == CUDA_SUCCESS; ++i)
        result = tck_cuda_driver()->cuEventElapsedTime(&ms[i], sides->begun[i], sides->ended[i]);
    if (result != CUDA_SUCCESS)
        return result;
    sides->home = tcd_cuda_sides_choose(ms, sides->home);
    sides->rest = sides->pause;
    sides->pause = sides->pause * 2 < LONGEST_PAUSE ? sides->pause * 2 : LONGEST_PAUSE;
    sides->series = 0;
    ++sides->trials;
    return CUDA_SUCCESS;
}

static unsigned wanted(const struct tcd_cuda_sides *sides)
{
    const bool away = !sides->rest && sides->series < TCD_CUDA_SERIES && sides->series % TCD_CUDA_SIDES;
    return away ? !sides->home : sides->home;
}

CUresult tcd_cuda_sides_turn(struct tcd_cuda_sides *sides, CUstream *stream)
{
    const struct tck_cuda_driver *driver = tck_cuda_driver();
    CUresult result = sides->series == TCD_CUDA_SERIES ? judge(sides) : CUDA_SUCCESS;
    const unsigned side = wanted(sides);
    if (result == CUDA_SUCCESS && side != sides->side) {
        result = driver->cuEventRecord(sides->order, sides->streams[sides->side]);
        if (result == CUDA_SUCCESS)
            result = driver->cuStreamWaitEvent(sides->streams[side], sides->order, 0);
        if (result == CUDA_SUCCESS)
            sides->side = side;
    }
    *stream = sides->streams[sides->side];
    return result;
}

CUresult tcd_cuda_sides_enqueued(struct tcd_cuda_sides *sides)
{
    CUresult result = CUDA_SUCCESS;
    if (sides->rest) {
        --sides->rest;
        return CUDA_SUCCESS;
    }
    if (sides->series == TCD_CUDA_SERIES)
        return CUDA_SUCCESS;
    ++sides->count;
    if (sides->count == SETTLING)
        result = tck_cuda_driver()->cuEventRecord(sides->begun[sides->series], sides->streams[sides->side]);
    if (sides->count == SETTLING + MEASURED) {
        result = tck_cuda_driver()->cuEventRecord(sides->ended[sides->series], sides->streams[sides->side]);
        sides->count = 0;
        ++sides->series;
    }
    return result;
}
