#include "gpu.h"

#include <tcw/types.h>

#include <dlfcn.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { ARENA = 48 << 20, GRANULE = 2 << 20, GUARD = 256, GUARD_BYTE = 0x5c, PAGE = 4096 };

struct gpu *gpu_here;

void gpu_check(const char *file, int line, const char *call, CUresult result)
{
    char text[160];

    if (result != CUDA_SUCCESS)
        proc_fail(file, line, "%s: %s", call, tck_cuda_text(result, text, sizeof(text)));
}

/* ---- the test's own process ---- */

static _Noreturn void count_main(void)
{
    void *library = dlopen("libcuda.so.1", RTLD_NOW);
    CUresult (*init)(unsigned) = NULL, (*count)(int *) = NULL;
    int number = 0;

    if (library) {
        *(void **)&init = dlsym(library, "cuInit");
        *(void **)&count = dlsym(library, "cuDeviceGetCount");
    }
    if (!init || !count || init(0) != CUDA_SUCCESS || count(&number) != CUDA_SUCCESS)
        number = 0;
    _exit(number);
}

unsigned gpu_count(void)
{
    static int known = -1;
    int status = 0;
    pid_t pid;

    if (known >= 0)
        return (unsigned)known;
    fflush(NULL);
    pid = fork();
    if (pid == 0)
        count_main();
    waitpid(pid, &status, 0);
    known = WIFEXITED(status) ? WEXITSTATUS(status) : 0;
    return (unsigned)known;
}

bool gpu_is_fake(void)
{
    return getenv("TRTCOLL_TEST_GPU") != NULL;
}

static unsigned soak(void)
{
    const char *text = getenv("TRTCOLL_TEST_SOAK");
    unsigned long times = text ? strtoul(text, NULL, 10) : 1;

    return times ? (unsigned)times : 1;
}

unsigned gpu_rounds(unsigned real, unsigned fake)
{
    return (gpu_is_fake() ? fake : real) * soak();
}

unsigned gpu_limit_ms(unsigned ms)
{
    return ms * soak();
}

bool gpu_has_mps(void)
{
    return getenv("CUDA_MPS_PIPE_DIRECTORY") != NULL;
}

void gpu_say_rate(const struct proc_me *me, const char *what, uint64_t count, uint64_t begin_ns)
{
    double seconds = (double)(proc_now_ns() - begin_ns) / 1e9;

    if (me->rank)
        return;
    printf("  %s, %d ranks: %llu in %.1f s, %.1f us each\n", what, me->nranks, (unsigned long long)count, seconds,
           seconds * 1e6 / (double)count);
    fflush(stdout);
}

static int run_from_host(struct trtcoll_plan *plan, const struct trtcoll_run_args *args, unsigned ins, unsigned outs, bool with_event);

static const struct proc_machine machine = {"cuda", run_from_host};

int gpu_main(const char *name, const struct CMUnitTest *tests, size_t count)
{
    if (gpu_count() < 2) {
        printf("%s: %u GPUs, two are needed\n", name, gpu_count());
        return gpu_is_fake() ? 1 : 77;
    }
    proc_machine = &machine;
    if (getenv("TRTCOLL_TEST_FILTER"))
        cmocka_set_test_filter(getenv("TRTCOLL_TEST_FILTER"));
    setenv("CUDA_DEVICE_ORDER", "PCI_BUS_ID", 0);
    return _cmocka_run_group_tests(name, tests, count, NULL, NULL);
}

/* ---- memory ---- */

static void make_pieces(struct gpu *gpu, struct gpu_arena *arena)
{
    CUmemAllocationProp prop = {.type = CU_MEM_ALLOCATION_TYPE_PINNED, .requestedHandleTypes = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR};
    CUmemAccessDesc access = {.flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE};
    uint64_t at = 0;

    prop.location = (CUmemLocation){.type = CU_MEM_LOCATION_TYPE_DEVICE, .id = tck_cuda_ordinal(gpu->device)};
    access.location = prop.location;
    CHECK_CU(gpu->cuda->cuMemAddressReserve(&arena->base, ARENA, 0, 0, 0));
    for (unsigned i = 0; i < GPU_PIECES; i++) {
        arena->piece_bytes[i] = i == 0 ? GRANULE : i == 1 ? 10 * GRANULE : ARENA - 11 * GRANULE;
        CHECK_CU(gpu->cuda->cuMemCreate(&arena->pieces[i], arena->piece_bytes[i], &prop, 0));
        CHECK_CU(gpu->cuda->cuMemMap(arena->base + at, arena->piece_bytes[i], 0, arena->pieces[i], 0));
        at += arena->piece_bytes[i];
    }
    CHECK_CU(gpu->cuda->cuMemSetAccess(arena->base, ARENA, &access, 1));
}

static void drop_pieces(struct gpu *gpu, struct gpu_arena *arena)
{
    uint64_t at = 0;

    for (unsigned i = 0; i < GPU_PIECES; i++) {
        CHECK_CU(gpu->cuda->cuMemUnmap(arena->base + at, arena->piece_bytes[i]));
        CHECK_CU(gpu->cuda->cuMemRelease(arena->pieces[i]));
        at += arena->piece_bytes[i];
    }
    CHECK_CU(gpu->cuda->cuMemAddressFree(arena->base, ARENA));
}

static void *pointer_of(CUdeviceptr address)
{
    return (void *)(uintptr_t)address;
}

static void arena_make(struct gpu *gpu, gpu_kind kind)
{
    struct gpu_arena *arena = &gpu->arenas[kind];
    void *pointer = NULL;

    switch (kind) {
    case GPU_ALLOCATED:
        CHECK_OK(trtcoll_alloc(gpu->ctx, ARENA, &pointer));
        arena->base = (CUdeviceptr)(uintptr_t)pointer;
        break;
    case GPU_VMM:
        make_pieces(gpu, arena);
        break;
    default:
        CHECK_CU(gpu->cuda->cuMemAlloc(&arena->base, ARENA));
        break;
    }
    if (kind == GPU_VMM || kind == GPU_IPC)
        CHECK_OK(trtcoll_register(gpu->ctx, pointer_of(arena->base), ARENA, -1));
    arena->bytes = ARENA;
}

static void arena_drop(struct gpu *gpu, gpu_kind kind)
{
    struct gpu_arena *arena = &gpu->arenas[kind];
    int code = 0;

    if (!arena->bytes)
        return;
    if (kind == GPU_VMM || kind == GPU_IPC)
        code = trtcoll_unregister(gpu->ctx, pointer_of(arena->base));
    if (kind == GPU_ALLOCATED)
        code = trtcoll_free(gpu->ctx, pointer_of(arena->base));
    else if (kind == GPU_VMM)
        drop_pieces(gpu, arena);
    else
        CHECK_CU(gpu->cuda->cuMemFree(arena->base));
    CHECK_MSG(code == 0 || code == TRTCOLL_ECONN, "memory of kind %d is given back: %s", (int)kind, trtcoll_error_name(code));
    arena->bytes = 0;
}

CUdeviceptr gpu_take(struct gpu *gpu, uint64_t bytes)
{
    struct gpu_arena *arena = &gpu->arenas[gpu->kind];
    CUdeviceptr address;

    if (!arena->bytes)
        arena_make(gpu, gpu->kind);
    CHECK_MSG(arena->used + bytes + GUARD <= arena->bytes, "the test's memory is too small");
    address = arena->base + arena->used;
    arena->used += (bytes + GUARD + GUARD - 1) / GUARD * GUARD;
    return address;
}

void gpu_reset(struct gpu *gpu)
{
    for (unsigned kind = 0; kind < GPU_KINDS; kind++)
        gpu->arenas[kind].used = 0;
}

/* ---- opening ---- */

struct gpu *gpu_open(struct trtcoll_ctx *ctx)
{
    struct trtcoll_ctx_info info = {.size = sizeof(info)};
    struct gpu *gpu = calloc(1, sizeof(*gpu));
    char why[256] = "";

    CHECK(gpu != NULL && !gpu_here);
    gpu->ctx = ctx;
    CHECK_OK(trtcoll_ctx_info(ctx, &info));
    CHECK_EQ(info.device_kind, TRTCOLL_DEVICE_CUDA);
    CHECK_MSG(!tck_device_open(info.device_uuid, -1, &gpu->device, why, sizeof(why)), "%s", why);
    CHECK(!tck_cuda_enter(gpu->device));
    gpu->cuda = tck_cuda_driver();
    for (unsigned i = 0; i < GPU_STREAMS; i++)
        CHECK_CU(gpu->cuda->cuStreamCreateWithPriority(&gpu->streams[i], CU_STREAM_NON_BLOCKING, 0));
    gpu->gate = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(gpu->gate != MAP_FAILED);
    CHECK(!tck_cuda_register_host(gpu->device, gpu->gate, PAGE, &gpu->gate_address));
    gpu_here = gpu;
    return gpu;
}

void gpu_close(struct gpu *gpu)
{
    gpu_release(gpu);
    for (unsigned i = 0; i < GPU_STREAMS; i++) {
        gpu_drain(gpu, gpu->streams[i], 10000);
        CHECK_CU(gpu->cuda->cuStreamDestroy(gpu->streams[i]));
    }
    for (unsigned kind = 0; kind < GPU_KINDS; kind++)
        arena_drop(gpu, (gpu_kind)kind);
    tck_cuda_unregister_host(gpu->device, gpu->gate);
    munmap(gpu->gate, PAGE);
    tck_cuda_leave(gpu->device);
    tck_device_close(gpu->device);
    free(gpu);
    gpu_here = NULL;
}

void gpu_part(struct proc_me *me, struct gpu *gpu)
{
    proc_barrier(me);
    gpu_close(gpu);
}

/* ---- streams ---- */

void gpu_block(struct gpu *gpu, CUstream stream)
{
    atomic_store(gpu->gate, 0);
    CHECK_CU(gpu->cuda->cuStreamWaitValue64(stream, gpu->gate_address, 1, CU_STREAM_WAIT_VALUE_GEQ));
}

void gpu_release(struct gpu *gpu)
{
    atomic_store(gpu->gate, 1);
}

double gpu_drain(struct gpu *gpu, CUstream stream, double ms)
{
    uint64_t begin = proc_now_ns();
    CUresult result;

    for (;;) {
        double took = (double)(proc_now_ns() - begin) / 1e6;

        result = gpu->cuda->cuStreamQuery(stream);
        if (result != CUDA_ERROR_NOT_READY) {
            CHECK_CU(result);
            return took;
        }
        CHECK_MSG(took < ms, "the stream has not passed its work after %.0f ms", took);
        if (took > 1)
            proc_nap();
    }
}

void gpu_check_group(struct trtcoll_group *group)
{
    struct trtcoll_group_info info = case_group_info(group);

    CHECK_MSG(info.state == TRTCOLL_GROUP_READY, "the group is broken: %s, rank %d", trtcoll_error_name(info.code), (int)info.culprit);
}

/* ---- runs from host memory ---- */

enum { MOST_BUFFERS = 64 + 16 };

struct mirror {
    const void *host;
    CUdeviceptr device;
    size_t bytes;
    bool written; /* by the run */
};

struct mirrors {
    struct gpu *gpu;
    CUstream stream;
    struct mirror list[MOST_BUFFERS];
    unsigned count;
};

/* The device memory that stands for this host memory; copied there once, with a guard behind it. */
static void *mirror(struct mirrors *mirrors, const void *host, size_t bytes, bool written)
{
    struct gpu *gpu = mirrors->gpu;
    struct mirror *entry;

    if (!host)
        return NULL;
    for (unsigned i = 0; i < mirrors->count; i++) {
        if (mirrors->list[i].host == host) {
            mirrors->list[i].written |= written;
            return pointer_of(mirrors->list[i].device);
        }
    }
    CHECK(mirrors->count < MOST_BUFFERS);
    entry = &mirrors->list[mirrors->count++];
    *entry = (struct mirror){host, 0, bytes ? bytes : malloc_usable_size((void *)(uintptr_t)host), written};
    entry->device = gpu_take(gpu, entry->bytes);
    /* From pageable memory it may return before the last bytes are there, and streams that do not block would not wait for them. */
    CHECK_CU(gpu->cuda->cuMemcpyHtoD(entry->device, host, entry->bytes));
    CHECK_CU(gpu->cuda->cuStreamSynchronize(NULL));
    CHECK_CU(gpu->cuda->cuMemsetD8Async(entry->device + entry->bytes, GUARD_BYTE, GUARD, mirrors->stream));
    return pointer_of(entry->device);
}

static void bring_back(struct mirrors *mirrors)
{
    unsigned char guard[GUARD];

    for (unsigned i = 0; i < mirrors->count; i++) {
        const struct mirror *entry = &mirrors->list[i];
        void *copy = entry->written ? (void *)(uintptr_t)entry->host : malloc(entry->bytes);

        CHECK(copy != NULL);
        CHECK_CU(mirrors->gpu->cuda->cuMemcpyDtoH(copy, entry->device, entry->bytes));
        if (!entry->written) {
            CHECK_MSG(memcmp(copy, entry->host, entry->bytes) == 0, "an input of %zu bytes was written", entry->bytes);
            free(copy);
        }
        CHECK_CU(mirrors->gpu->cuda->cuMemcpyDtoH(guard, entry->device + entry->bytes, GUARD));
        for (unsigned k = 0; k < GUARD; k++)
            CHECK_MSG(guard[k] == GUARD_BYTE, "byte %u behind a buffer of %zu bytes was written", k, entry->bytes);
    }
}

static int run_from_host(struct trtcoll_plan *plan, const struct trtcoll_run_args *args, unsigned ins, unsigned outs, bool with_event)
{
    struct gpu *gpu = gpu_here;
    struct mirrors mirrors = {.gpu = gpu};
    struct trtcoll_run_args mine = *args;
    struct trtcoll_event *event = NULL;
    const void *in_list[MOST_BUFFERS];
    void *out_list[MOST_BUFFERS];
    int code;

    CHECK(gpu != NULL && ins <= MOST_BUFFERS && outs <= MOST_BUFFERS);
    mirrors.stream = gpu->streams[gpu->turn++ % GPU_STREAMS];
    gpu_reset(gpu);
    mine.in = mirror(&mirrors, args->in, 0, false);
    mine.out = mirror(&mirrors, args->out, 0, true);
    mine.residual_in = mirror(&mirrors, args->residual_in, 0, false);
    mine.residual_out = mirror(&mirrors, args->residual_out, 0, true);
    mine.norm_weight = mirror(&mirrors, args->norm_weight, 0, false);
    mine.bias = mirror(&mirrors, args->bias, 0, false);
    mine.scale = mirror(&mirrors, args->scale, sizeof(*args->scale), false);
    mine.quant_out = mirror(&mirrors, args->quant_out, 0, true);
    mine.scale_out = mirror(&mirrors, args->scale_out, 0, true);
    for (unsigned i = 0; i < ins; i++)
        in_list[i] = mirror(&mirrors, args->in_list[i], 0, false);
    for (unsigned i = 0; i < outs; i++)
        out_list[i] = mirror(&mirrors, args->out_list[i], 0, true);
    mine.in_list = ins ? in_list : NULL;
    mine.out_list = outs ? out_list : NULL;
    code = trtcoll_plan_run(plan, &mine, mirrors.stream, with_event ? &event : NULL);
    if (code)
        return code;
    if (with_event) {
        code = trtcoll_event_wait(event, UINT32_MAX);
        if (!code)
            CHECK_OK(trtcoll_event_query(event));
        trtcoll_event_put(event);
    }
    if (!code) {
        gpu_drain(gpu, mirrors.stream, PROC_PATIENCE_MS);
        bring_back(&mirrors);
    }
    return code;
}

/* ---- sums ---- */

struct gpu_sum gpu_sum_make(struct gpu *gpu, struct trtcoll_group *group, unsigned lane, unsigned flags, uint64_t count)
{
    struct trtcoll_all_reduce_desc desc = TRTCOLL_ALL_REDUCE_DESC_INIT;
    struct gpu_sum sum = {.count = count, .nranks = case_group_info(group).nranks};

    desc.dtype = TRTCOLL_FP32;
    desc.lane = lane;
    desc.flags = flags;
    desc.hidden = count;
    CHECK_OK(trtcoll_plan_create_all_reduce(group, &desc, &sum.plan));
    sum.in = gpu_take(gpu, count * sizeof(float));
    sum.out = gpu_take(gpu, count * sizeof(float));
    return sum;
}

static uint32_t bits_of(float value)
{
    uint32_t bits;

    memcpy(&bits, &value, sizeof(bits));
    return bits;
}

void gpu_sum_fill(struct gpu *gpu, struct gpu_sum *sum, unsigned rank, unsigned round, CUstream stream)
{
    CHECK_CU(gpu->cuda->cuMemsetD32Async(sum->in, bits_of((float)(rank + 1 + round)), sum->count, stream));
}

int gpu_sum_run(struct gpu_sum *sum, CUstream stream, struct trtcoll_event **event)
{
    struct trtcoll_run_args args = TRTCOLL_RUN_ARGS_INIT;

    args.tokens = 1;
    args.in = pointer_of(sum->in);
    args.out = pointer_of(sum->out);
    return trtcoll_plan_run(sum->plan, &args, stream, event);
}

void gpu_sum_check(struct gpu *gpu, const struct gpu_sum *sum, unsigned round)
{
    float *got = malloc(sum->count * sizeof(float));
    unsigned n = sum->nranks;

    CHECK(got != NULL);
    CHECK_CU(gpu->cuda->cuMemcpyDtoH(got, sum->out, sum->count * sizeof(float)));
    for (uint64_t i = 0; i < sum->count; i++)
        CHECK_MSG(got[i] == (float)(n * (n + 1) / 2 + n * round), "round %u: element %llu is %g, not %u", round, (unsigned long long)i,
                  (double)got[i], n * (n + 1) / 2 + n * round);
    free(got);
}
