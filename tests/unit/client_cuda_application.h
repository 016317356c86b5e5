/*
 * What an application does with CUDA beside the client library, in tests on GPUs of the fake driver.
 *
 * Owner: the test program; everything here is called by the test's own thread, between application_begin and _end unless it says a rank.
 */
#ifndef TESTS_CLIENT_CUDA_APPLICATION_H
#define TESTS_CLIENT_CUDA_APPLICATION_H

#include "client_cuda_fixture.h"

#define gpu_test(function) cmocka_unit_test_setup_teardown(function, gpu_setup, gpu_teardown)

enum { TOKENS = 64, FLOATS = TOKENS * 4, BYTES = FLOATS * 4 };

static inline void expect(int code, int expected, const char *part)
{
    if (code != expected)
        fail_msg("%s instead of %s: %s", trtcoll_error_name(code), trtcoll_error_name(expected), fake_text());
    if (part && !strstr(fake_text(), part))
        fail_msg("\"%s\" does not say \"%s\"", fake_text(), part);
}

/* ---- what an application does with CUDA, which is current in its thread ---- */

static inline void application_begin(struct gpu *gpu)
{
    assert_int_equal(tck_cuda_enter(gpu->devices[0]), 0);
}

static inline void application_end(struct gpu *gpu)
{
    tck_cuda_leave(gpu->devices[0]);
}

static inline float *device_floats(struct gpu *gpu, int rank, float value)
{
    float host[FLOATS];
    CUdeviceptr address;
    int i;

    for (i = 0; i < FLOATS; i++)
        host[i] = value + (float)i;
    assert_int_equal(tck_cuda_enter(gpu->devices[rank]), 0);
    gpu_call(gpu->driver->cuMemAlloc(&address, BYTES));
    gpu_call(gpu->driver->cuMemcpyHtoD(address, host, BYTES));
    tck_cuda_leave(gpu->devices[rank]);
    return (float *)(uintptr_t)address;
}

static inline void device_free(struct gpu *gpu, int rank, void *pointer)
{
    assert_int_equal(tck_cuda_enter(gpu->devices[rank]), 0);
    gpu_call(gpu->driver->cuMemFree((CUdeviceptr)(uintptr_t)pointer));
    tck_cuda_leave(gpu->devices[rank]);
}

/* Element i is scale * i + value. */
static inline void expect_floats(struct gpu *gpu, const void *pointer, float scale, float value)
{
    float host[FLOATS];
    int i;

    gpu_call(gpu->driver->cuMemcpyDtoH(host, (CUdeviceptr)(uintptr_t)pointer, BYTES));
    for (i = 0; i < FLOATS; i++)
        if (host[i] != scale * (float)i + value)
            fail_msg("element %d is %g instead of %g", i, (double)host[i], (double)(scale * (float)i + value));
}

static inline CUstream new_stream(struct gpu *gpu)
{
    CUstream stream;

    gpu_call(gpu->driver->cuStreamCreateWithPriority(&stream, CU_STREAM_NON_BLOCKING, 0));
    return stream;
}

static inline void end_stream(struct gpu *gpu, CUstream stream)
{
    gpu_call(gpu->driver->cuStreamSynchronize(stream));
    gpu_call(gpu->driver->cuStreamDestroy(stream));
}

static inline CUgraphExec end_capture(struct gpu *gpu, CUstream stream)
{
    CUgraph graph = NULL;
    CUgraphExec exec = NULL;

    gpu_call(gpu->driver->cuStreamEndCapture(stream, &graph));
    gpu_call(gpu->driver->cuGraphInstantiate(&exec, graph, 0));
    gpu_call(gpu->driver->cuGraphDestroy(graph));
    return exec;
}

/* Mappings of memory that came or went as descriptors. */
static inline unsigned count_mappings(void)
{
    FILE *maps = fopen("/proc/self/maps", "r");
    char line[512];
    unsigned count = 0;

    assert_non_null(maps);
    while (fgets(line, sizeof(line), maps))
        count += strstr(line, "memfd:") != NULL;
    fclose(maps);
    return count;
}

#endif
