/*
 * The daemon of client_fixture.h with GPUs of the fake driver: a group of two, of which the client is rank 0 on GPU 0. Its executor moves
 * real bytes in device memory. Rank 1 of the direct lane is the test itself: see peer_run.
 *
 * Owner: the test program. The fixture's thread makes and maps memory, tests only look. Skipped (77) where there is no driver.
 */
#ifndef TESTS_CLIENT_CUDA_FIXTURE_H
#define TESTS_CLIENT_CUDA_FIXTURE_H

#include "client_fixture.h"

#include <tck/cuda_comm.h>
#include <tck/memory.h>

enum { GPU_RANKS = 2, GPU_WORKSPACE = 8 << 20, GPU_TAKEN = FAKE_RING };

/* How a registered range came. */
struct gpu_parcel {
    uint32_t kind;
    unsigned pieces;
    uint64_t offset, bytes;
};

struct gpu {
    struct fake *fake;
    struct tck_device *devices[GPU_RANKS];
    const struct tck_cuda_driver *driver;
    CUstream stream; /* the executor's */
    struct tck_memory workspaces[GPU_RANKS];
    uint64_t generation;
    _Atomic bool grow; /* the next plan brings new workspaces */
    struct tck_memory memories[FAKE_MEMORIES];
    struct gpu_parcel last;
    /* requests in the order of the ring */
    struct tcw_request taken[GPU_TAKEN];
    uint64_t taken_count, done_count;
    _Atomic bool deaf;                     /* the executor takes requests and never ends them */
    struct tcw_request kept[TCW_CAPTURED]; /* for graphs; ref_count 0: none */
    _Atomic unsigned kept_count;
    _Atomic uint64_t replays;
    /* rank 1 */
    struct tcw_member_page *page;
    CUdeviceptr page_address;
    struct tck_cuda_comm *comm;
    CUstream peer_stream;
};

static struct gpu *gpu_of(struct fake *fake)
{
    return fake->devices_arg;
}

static const struct tck_memory no_memory = {.fd = -1};

#define gpu_call(call) assert_int_equal((call), CUDA_SUCCESS)

/* ---- the daemon's side, on its thread ---- */

static void gpu_ready(struct fake *fake, struct tcw_group_ready *ready)
{
    struct gpu *gpu = gpu_of(fake);

    ready->size = GPU_RANKS;
    ready->device_kind = TCW_DEVICE_CUDA;
    memcpy(ready->device_uuid, tck_device_facts(gpu->devices[0])->uuid, sizeof(ready->device_uuid));
    ready->peers[1].pid = getpid();
    ready->peers[1].device = 1;
    gpu->taken_count = gpu->done_count = 0;
    atomic_store(&gpu->grow, true);
}

static void gpu_workspaces(struct fake *fake, struct tcw_plan_ready *ready, int *fds)
{
    struct gpu *gpu = gpu_of(fake);
    int i;

    ready->workspace_bytes = GPU_WORKSPACE;
    if (atomic_exchange(&gpu->grow, false)) {
        gpu->generation++;
        ready->workspace_fds = GPU_RANKS;
        for (i = 0; i < GPU_RANKS; i++) {
            tck_memory_release(&gpu->workspaces[i]);
            assert_int_equal(tck_memory_create(gpu->devices[i], "workspace", GPU_WORKSPACE, &gpu->workspaces[i]), 0);
            assert_int_equal(tck_cuda_workspace_format(gpu->devices[i], gpu->workspaces[i].base, GPU_WORKSPACE), 0);
            fds[i] = dup(gpu->workspaces[i].fd);
        }
    }
    ready->workspace_generation = gpu->generation;
}

/* Maps the descriptors side by side, as an executor does. */
static void gpu_map_pieces(struct gpu *gpu, const struct tcw_packet *request, struct tck_memory *memory)
{
    const struct tcw_mem_register *wish = &request->payload.MEM_REGISTER;
    CUmemAccessDesc access = {.location = {.type = CU_MEM_LOCATION_TYPE_DEVICE, .id = 0}, .flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE};
    CUmemGenericAllocationHandle handle;
    uint64_t total = 0, at = 0;
    CUdeviceptr base;
    unsigned i;

    for (i = 0; i < request->fd_count; i++)
        total += wish->piece_bytes[i];
    assert_int_equal(tck_cuda_enter(gpu->devices[0]), 0);
    gpu_call(gpu->driver->cuMemAddressReserve(&base, total, 0, 0, 0));
    for (i = 0; i < request->fd_count; at += wish->piece_bytes[i++]) {
        gpu_call(gpu->driver->cuMemImportFromShareableHandle(&handle, (void *)(intptr_t)request->fds[i],
                                                             CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR));
        gpu_call(gpu->driver->cuMemMap(base + at, wish->piece_bytes[i], 0, handle, 0));
        gpu_call(gpu->driver->cuMemRelease(handle));
    }
    gpu_call(gpu->driver->cuMemSetAccess(base, total, &access, 1));
    tck_cuda_leave(gpu->devices[0]);
    *memory = (struct tck_memory){.base = (void *)(uintptr_t)base, .bytes = total, .fd = -1, .device = gpu->devices[0]};
}

static void gpu_memory(struct fake *fake, struct tcw_packet *request)
{
    struct gpu *gpu = gpu_of(fake);
    struct tcw_mem_ready ready = {.handle = ++fake->next_handle};
    struct fake_memory *entry = fake_memory_find(fake, 0);
    struct tck_memory *memory;
    int fd = -1;

    assert_non_null(entry);
    memory = &gpu->memories[entry - fake->memories];
    if (request->header.opcode == TCW_MSG_MEM_ALLOC) {
        assert_int_equal(tck_memory_create(gpu->devices[0], "memory", request->payload.MEM_ALLOC.bytes, memory), 0);
        fd = dup(memory->fd);
        *entry = (struct fake_memory){.handle = ready.handle, .bytes = memory->bytes, .base = memory->base, .own = true};
        ready.bytes = memory->bytes;
        fake->allocated += memory->bytes;
    } else {
        const struct tcw_mem_register *wish = &request->payload.MEM_REGISTER;

        gpu->last = (struct gpu_parcel){.kind = wish->kind, .pieces = request->fd_count, .offset = wish->offset, .bytes = wish->bytes};
        if (wish->kind == TCW_MEM_VMM)
            gpu_map_pieces(gpu, request, memory);
        *entry = (struct fake_memory){
            .handle = ready.handle, .bytes = wish->bytes, .base = memory->base ? (unsigned char *)memory->base + wish->offset : NULL};
        ready.bytes = wish->bytes;
    }
    fake_send(fake, request, TCW_MSG_MEM_READY, &ready, &fd, fd >= 0 ? 1 : 0);
}

static void gpu_memory_drop(struct fake *fake, struct fake_memory *entry)
{
    struct gpu *gpu = gpu_of(fake);
    struct tck_memory *memory = &gpu->memories[entry - fake->memories];

    if (entry->own || !memory->base) {
        tck_memory_release(memory);
        return;
    }
    assert_int_equal(tck_cuda_enter(gpu->devices[0]), 0);
    gpu_call(gpu->driver->cuMemUnmap((CUdeviceptr)(uintptr_t)memory->base, memory->bytes));
    gpu_call(gpu->driver->cuMemAddressFree((CUdeviceptr)(uintptr_t)memory->base, memory->bytes));
    tck_cuda_leave(gpu->devices[0]);
    *memory = no_memory;
}

static int gpu_copy(struct gpu *gpu, const struct tcw_request *request)
{
    struct fake *fake = gpu->fake;
    struct fake_memory *from = fake_memory_find(fake, request->refs[0].handle), *to = fake_memory_find(fake, request->refs[1].handle);

    if (!from || !to || request->refs[0].offset + request->refs[0].length > from->bytes ||
        request->refs[1].offset + request->refs[1].length > to->bytes || request->refs[0].length != request->refs[1].length)
        return TCW_EINVAL;
    assert_int_equal(tck_cuda_enter(gpu->devices[0]), 0);
    gpu_call(gpu->driver->cuMemcpyAsync((CUdeviceptr)(uintptr_t)to->base + request->refs[1].offset,
                                        (CUdeviceptr)(uintptr_t)from->base + request->refs[0].offset, request->refs[0].length,
                                        gpu->stream));
    gpu_call(gpu->driver->cuStreamSynchronize(gpu->stream));
    tck_cuda_leave(gpu->devices[0]);
    return 0;
}

/* Keeps or forgets what graphs ask for. */
static int gpu_keep(struct gpu *gpu, const struct tcw_request *request)
{
    struct tcw_request *kept = &gpu->kept[request->head.pair];
    bool release = request->head.flags & TCW_SQE_RELEASE;

    assert_true(release == (kept->head.ref_count != 0));
    if (release)
        kept->head.ref_count = 0;
    else
        *kept = *request;
    atomic_fetch_add(&gpu->kept_count, release ? -1u : 1u);
    return 0;
}

static void gpu_replay(struct fake *fake)
{
    struct gpu *gpu = gpu_of(fake);
    unsigned i;

    for (i = 0; i < TCW_CAPTURED && !atomic_load(&gpu->deaf); i++) {
        if (!gpu->kept[i].head.ref_count || atomic_load(&fake->ring.captured[i].turn) != TCW_TURN_EXECUTOR)
            continue;
        assert_int_equal(gpu_copy(gpu, &gpu->kept[i]), 0);
        atomic_fetch_add(&gpu->replays, 1);
        atomic_store(&fake->ring.captured[i].turn, TCW_TURN_CLIENT);
    }
}

/* Takes what is there, and ends requests in their order as their inputs come. */
static void gpu_execute(struct fake *fake)
{
    struct gpu *gpu = gpu_of(fake);
    struct tcw_cqe cqe = {.culprit = 0xffff};
    const struct tcw_request *request;
    const char *why;

    if (!fake->ring_base)
        return;
    gpu_replay(fake);
    while (gpu->taken_count - gpu->done_count < GPU_TAKEN && !atomic_load(&fake->hold) &&
           tcw_ring_take(&fake->ring, &gpu->taken[gpu->taken_count % GPU_TAKEN], &why) == 1) {
        gpu->taken_count++;
        atomic_fetch_add(&fake->served, 1);
    }
    while (gpu->done_count < gpu->taken_count && !atomic_load(&gpu->deaf)) {
        request = &gpu->taken[gpu->done_count % GPU_TAKEN];
        bool captured = request->head.flags & TCW_SQE_CAPTURED;

        if (!captured && atomic_load(&fake->ring.words[request->head.pair].ready) < gpu->done_count + 1 && !atomic_load(&fake->result))
            return;
        cqe.result = atomic_load(&fake->result);
        if (!cqe.result)
            cqe.result = captured ? gpu_keep(gpu, request) : gpu_copy(gpu, request);
        cqe.user_data = request->head.user_data;
        cqe.start_ns = cqe.end_ns = tcw_now_ns();
        gpu->done_count++;
        if (!captured)
            atomic_store(&fake->ring.words[request->head.pair].done, gpu->done_count);
        tcw_ring_complete(&fake->ring, &cqe);
    }
}

static void gpu_forget(struct fake *fake)
{
    struct gpu *gpu = gpu_of(fake);

    gpu->taken_count = gpu->done_count = 0;
    memset(gpu->kept, 0, sizeof(gpu->kept));
    atomic_store(&gpu->kept_count, 0);
}

/* ---- rank 1 ---- */

/* After the client's plan is made: rank 1 over the same workspaces, from its own GPU. */
static inline void peer_join(struct gpu *gpu)
{
    struct tcw_member_page *page = mmap(NULL, tcw_member_page_bytes(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    static struct tck_memory mapped;
    void *bases[GPU_RANKS];
    struct tck_cuda_comm_params params = {
        .device = gpu->devices[1], .rank = 1, .nranks = GPU_RANKS, .workspaces = bases, .workspace_bytes = GPU_WORKSPACE};

    assert_ptr_not_equal(page, MAP_FAILED);
    gpu->page = page;
    tcw_member_page_format(page, 1, 1, 1, GPU_RANKS, 200000000);
    assert_int_equal(tck_cuda_enter(gpu->devices[1]), 0);
    assert_int_equal(tck_cuda_register_host(gpu->devices[1], page, tcw_member_page_bytes(), &gpu->page_address), 0);
    assert_int_equal(tck_memory_import(gpu->devices[1], dup(gpu->workspaces[0].fd), GPU_WORKSPACE, &mapped), 0);
    bases[0] = mapped.base;
    bases[1] = gpu->workspaces[1].base;
    params.abort_word = gpu->page_address + offsetof(struct tcw_member_page, abort_word);
    params.deadline_ns = gpu->page_address + offsetof(struct tcw_member_page, deadline_ns);
    params.progress = gpu->page_address + offsetof(struct tcw_member_page, device);
    assert_int_equal(tck_cuda_comm_create(&params, &gpu->comm), 0);
    gpu_call(gpu->driver->cuStreamCreateWithPriority(&gpu->peer_stream, CU_STREAM_NON_BLOCKING, 0));
    tck_cuda_leave(gpu->devices[1]);
}

/* Rank 1's part of a run of plan 1: fp32, `count` elements, in place. */
static inline void peer_run(struct gpu *gpu, void *buffer, uint64_t count)
{
    struct tcw_plan_desc desc = {
        .op = TCW_OP_ALL_REDUCE, .dtype = TCW_FP32, .strategy = TCW_STRATEGY_AUTO, .max_tokens = count, .hidden = 4};
    const void *in = buffer;
    void *out = buffer;
    struct tck_run run = {.desc = &desc, .plan_id = 1, .strategy = TCW_STRATEGY_ONESHOT, .tokens = count / 4, .in = &in, .out = &out};

    assert_int_equal(tck_cuda_enter(gpu->devices[1]), 0);
    assert_int_equal(tck_cuda_comm_launch(gpu->comm, &run, gpu->peer_stream, false), 0);
    tck_cuda_leave(gpu->devices[1]);
}

/* ---- setup ---- */

static const struct fake_devices gpu_devices = {gpu_ready, gpu_workspaces, gpu_memory, gpu_memory_drop, gpu_execute, gpu_forget};

static inline int gpu_setup(void **state)
{
    struct gpu *gpu = calloc(1, sizeof(*gpu));
    char why[256] = "";
    int i, code = 0;

    for (i = 0; i < GPU_RANKS; i++)
        gpu->workspaces[i] = no_memory;
    for (i = 0; i < FAKE_MEMORIES; i++)
        gpu->memories[i] = no_memory;
    for (i = 0; i < GPU_RANKS && !code; i++)
        code = tck_device_open(NULL, i, &gpu->devices[i], why, sizeof(why));
    if (code && getenv("TRTCOLL_TEST_GPU"))
        fail_msg("no GPU: %s", why);
    if (code)
        exit(77);
    gpu->driver = tck_cuda_driver();
    assert_int_equal(tck_cuda_enter(gpu->devices[0]), 0);
    gpu_call(gpu->driver->cuStreamCreateWithPriority(&gpu->stream, CU_STREAM_NON_BLOCKING, 0));
    tck_cuda_leave(gpu->devices[0]);
    gpu->fake = fake_make();
    gpu->fake->devices = &gpu_devices;
    gpu->fake->devices_arg = gpu;
    fake_begin(gpu->fake);
    *state = gpu;
    return 0;
}

static inline int gpu_teardown(void **state)
{
    struct gpu *gpu = *state;
    int i;

    fake_stop(gpu->fake);
    if (gpu->comm) {
        tck_cuda_comm_destroy(gpu->comm);
        tck_cuda_unregister_host(gpu->devices[1], gpu->page);
        munmap(gpu->page, tcw_member_page_bytes());
    }
    for (i = 0; i < GPU_RANKS; i++) {
        tck_memory_release(&gpu->workspaces[i]);
        tck_device_close(gpu->devices[i]);
    }
    free(gpu);
    return 0;
}

/* ---- the client's side ---- */

/* A client whose plan is of rows of 4 floats. */
static inline struct fake_client gpu_attach(struct gpu *gpu, unsigned lane, uint64_t tokens, uint32_t flags, uint32_t watch)
{
    struct trtcoll_all_reduce_desc desc = TRTCOLL_ALL_REDUCE_DESC_INIT;
    struct trtcoll_ctx_options options = TRTCOLL_CTX_OPTIONS_INIT;
    struct fake_client client;

    atomic_store(&gpu->fake->lane, lane);
    options.socket_path = gpu->fake->path;
    options.timeout_ms = 20000; /* sanitizers on a busy machine */
    options.watch = watch;
    desc.dtype = TRTCOLL_FP32;
    desc.max_tokens = tokens;
    desc.hidden = 4;
    desc.flags = flags;
    assert_int_equal(trtcoll_ctx_open(&options, &client.ctx), 0);
    assert_int_equal(trtcoll_group_create(client.ctx, "g", GPU_RANKS, 0, 0, &client.group), 0);
    assert_int_equal(trtcoll_plan_create_all_reduce(client.group, &desc, &client.plan), 0);
    return client;
}

static inline int gpu_run(struct fake_client *client, const void *in, void *out, uint64_t tokens, CUstream stream, uint32_t flags,
                          struct trtcoll_event **event)
{
    struct trtcoll_run_args args = TRTCOLL_RUN_ARGS_INIT;

    args.flags = flags;
    args.tokens = tokens;
    args.in = in;
    args.out = out;
    return trtcoll_plan_run(client->plan, &args, stream, event);
}

#endif
