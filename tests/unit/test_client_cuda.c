/* The client library on GPUs of the fake driver: order of streams, events, failures, memory. Not how fast, and no kernel. */
#ifdef TRTCOLL_CUDA
#include "client_cuda_application.h"

#include <sys/wait.h>

/* ---- direct lane ---- */

static void test_direct_run(void **state)
{
    struct gpu *gpu = *state;
    struct fake_client client = gpu_attach(gpu, TCW_LANE_DIRECT, TOKENS, 0, 0);
    struct trtcoll_ctx_info ctx_info = {.size = sizeof(ctx_info)};
    struct trtcoll_group_info group_info = {.size = sizeof(group_info)};
    struct trtcoll_plan_info plan_info = {.size = sizeof(plan_info)};
    struct trtcoll_event_info event_info = {.size = sizeof(event_info)};
    float *mine = device_floats(gpu, 0, 1), *theirs = device_floats(gpu, 1, 2);
    struct trtcoll_event *event;
    CUevent handle = NULL;
    CUstream stream;

    peer_join(gpu);
    application_begin(gpu);
    stream = new_stream(gpu);
    expect(gpu_run(&client, mine, mine, TOKENS, stream, 0, &event), 0, NULL);
    expect(trtcoll_event_query(event), TRTCOLL_EAGAIN, NULL); /* rank 1 has not come */
    expect(trtcoll_event_wait(event, 1), TRTCOLL_ETIMEOUT, "in flight");
    assert_int_equal(trtcoll_event_cuda(event, &handle), 0);
    assert_int_equal(gpu->driver->cuEventQuery(handle), CUDA_ERROR_NOT_READY);
    peer_run(gpu, theirs, FLOATS);
    expect(trtcoll_event_wait(event, UINT32_MAX), 0, NULL);
    assert_int_equal(gpu->driver->cuEventQuery(handle), CUDA_SUCCESS);
    expect_floats(gpu, mine, 2, 3);
    assert_int_equal(trtcoll_event_status(event, &event_info), 0);
    assert_int_equal(event_info.code, 0);
    assert_int_equal(event_info.lane, TRTCOLL_LANE_DIRECT);
    assert_true(event_info.end_ns >= event_info.submit_ns && event_info.submit_ns);
    trtcoll_event_put(event);
    assert_int_equal(trtcoll_group_status(client.group, &group_info), 0);
    assert_int_equal(group_info.state, TRTCOLL_GROUP_READY);
    assert_int_equal(group_info.device_kind, TRTCOLL_DEVICE_CUDA);
    assert_int_equal(group_info.runs_started, 1);
    assert_int_equal(group_info.runs_finished, 1);
    assert_memory_equal(group_info.device_uuid, tck_device_facts(gpu->devices[0])->uuid, 16);
    assert_int_equal(trtcoll_ctx_info(client.ctx, &ctx_info), 0);
    assert_int_equal(ctx_info.device_kind, TRTCOLL_DEVICE_CUDA);
    assert_memory_equal(ctx_info.device_uuid, tck_device_facts(gpu->devices[0])->uuid, 16);
    assert_int_equal(trtcoll_plan_info(client.plan, &plan_info), 0);
    assert_int_equal(plan_info.device_kind, TRTCOLL_DEVICE_CUDA);
    assert_int_equal(plan_info.runs, 1);
    end_stream(gpu, stream);
    trtcoll_ctx_close(client.ctx);
    application_end(gpu);
    device_free(gpu, 0, mine);
    device_free(gpu, 1, theirs);
}

/* Without an event nobody waits, and a group's runs keep their order when they change streams. */
static void test_direct_streams(void **state)
{
    enum { RUNS = 40 };
    struct gpu *gpu = *state;
    struct fake_client client = gpu_attach(gpu, TCW_LANE_DIRECT, TOKENS, 0, 0);
    struct trtcoll_group_info info = {.size = sizeof(info)};
    float *mine = device_floats(gpu, 0, 0), *theirs = device_floats(gpu, 1, 0), *apart = device_floats(gpu, 0, 5);
    CUstream streams[3];
    float scale = 1;
    int i;

    peer_join(gpu);
    application_begin(gpu);
    for (i = 0; i < 3; i++)
        streams[i] = new_stream(gpu);
    for (i = 0; i < RUNS; i++)
        expect(gpu_run(&client, mine, i % 2 ? mine : apart, TOKENS, streams[i % 3], i % 5 == 4 ? TRTCOLL_PDL : 0, NULL), 0, NULL);
    for (i = 0; i < RUNS; i++) {
        peer_run(gpu, theirs, FLOATS);
        scale += i % 2 ? scale : 0;
    }
    for (i = 0; i < 3; i++)
        gpu_call(gpu->driver->cuStreamSynchronize(streams[i]));
    assert_int_equal(trtcoll_group_status(client.group, &info), 0);
    assert_int_equal(info.state, TRTCOLL_GROUP_READY);
    assert_int_equal(info.runs_started, RUNS);
    assert_int_equal(info.runs_finished, RUNS);
    trtcoll_ctx_close(client.ctx);
    for (i = 0; i < 3; i++)
        end_stream(gpu, streams[i]); /* the last run's has to live until the group has been left */
    application_end(gpu);
    device_free(gpu, 0, mine);
    device_free(gpu, 0, apart);
    device_free(gpu, 1, theirs);
}

static void test_refused_arguments(void **state)
{
    struct gpu *gpu = *state;
    struct fake_client client = gpu_attach(gpu, TCW_LANE_DIRECT, TOKENS, 0, 0);
    struct trtcoll_all_reduce_desc desc = TRTCOLL_ALL_REDUCE_DESC_INIT;
    float *mine = device_floats(gpu, 0, 1);
    CUstream foreign;

    assert_int_equal(tck_cuda_enter(gpu->devices[1]), 0);
    foreign = new_stream(gpu);
    tck_cuda_leave(gpu->devices[1]);
    application_begin(gpu);
    expect(gpu_run(&client, mine, mine, TOKENS, foreign, 0, NULL), TRTCOLL_EINVAL, "primary context");
    expect(gpu_run(&client, mine, mine, TOKENS, NULL, 2, NULL), TRTCOLL_EINVAL, "args.flags");
    expect(gpu_run(&client, mine + 1, mine + 1, TOKENS - 1, NULL, 0, NULL), TRTCOLL_ENOTSUP, "16 bytes");
    expect(gpu_run(&client, NULL, mine, TOKENS, NULL, 0, NULL), TRTCOLL_EINVAL, "args.in is NULL");
    desc.flags = TRTCOLL_GRAPH;
    desc.lane = TRTCOLL_LANE_SERVED;
    desc.hidden = 8;
    expect(trtcoll_supports(client.ctx, 2, &desc), 0, NULL);
    desc.lane = TRTCOLL_LANE_DIRECT;
    expect(trtcoll_supports(client.ctx, 2, &desc), 0, NULL);
    trtcoll_ctx_close(client.ctx);
    gpu_call(gpu->driver->cuStreamDestroy(foreign));
    application_end(gpu);
    device_free(gpu, 0, mine);
}

/* Rank 1 never comes: the kernel gives up, the event names it, the daemon hears of it once, and everything later is refused. */
static void test_direct_timeout(void **state)
{
    struct gpu *gpu = *state;
    struct fake_client client = gpu_attach(gpu, TCW_LANE_DIRECT, TOKENS, 0, 0);
    struct trtcoll_group_info info = {.size = sizeof(info)};
    struct trtcoll_error error = TRTCOLL_ERROR_INIT;
    float *mine = device_floats(gpu, 0, 1);
    struct trtcoll_event *event, *second;

    application_begin(gpu);
    expect(gpu_run(&client, mine, mine, TOKENS, NULL, 0, &event), 0, NULL);
    expect(gpu_run(&client, mine, mine, TOKENS, NULL, 0, &second), 0, NULL);
    expect(trtcoll_event_wait(event, UINT32_MAX), TRTCOLL_ETIMEOUT, "rank 1");
    trtcoll_last_error(&error);
    assert_int_equal(error.rank, 1);
    assert_int_equal(error.pid, getpid());
    expect(trtcoll_event_wait(second, UINT32_MAX), TRTCOLL_ETIMEOUT, "rank 1");
    expect(gpu_run(&client, mine, mine, TOKENS, NULL, 0, NULL), TRTCOLL_ETIMEOUT, "rank 1");
    assert_int_equal(trtcoll_group_status(client.group, &info), 0);
    assert_int_equal(info.state, TRTCOLL_GROUP_BROKEN);
    assert_int_equal(info.culprit, 1);
    fake_await(fake_count(gpu->fake, TCW_MSG_GROUP_REPORT) == 1);
    trtcoll_event_put(event);
    trtcoll_event_put(second);
    trtcoll_ctx_close(client.ctx);
    assert_int_equal(fake_count(gpu->fake, TCW_MSG_GROUP_REPORT), 1);
    application_end(gpu);
    device_free(gpu, 0, mine);
}

/* The daemon raises the abort word: the kernel ends, and what the daemon says is what the event tells. */
static void test_direct_abort(void **state)
{
    struct gpu *gpu = *state;
    struct fake_client client = gpu_attach(gpu, TCW_LANE_DIRECT, TOKENS, 0, 0);
    struct tcw_abort_info death = {.code = TCW_EPEERDEAD, .rank = 1, .pid = 4711, .signal = 9, .text = "rank 1 was killed"};
    struct trtcoll_error error = TRTCOLL_ERROR_INIT;
    float *mine = device_floats(gpu, 0, 1);
    struct trtcoll_event *event;

    application_begin(gpu);
    expect(gpu_run(&client, mine, mine, TOKENS, NULL, 0, &event), 0, NULL);
    assert_int_equal(tcw_member_abort(gpu->fake->page, &death), 1);
    expect(trtcoll_event_wait(event, UINT32_MAX), TRTCOLL_EPEERDEAD, "was killed");
    trtcoll_last_error(&error);
    assert_int_equal(error.signal, 9);
    trtcoll_event_put(event);
    trtcoll_ctx_close(client.ctx);
    assert_int_equal(fake_count(gpu->fake, TCW_MSG_GROUP_REPORT), 0);
    application_end(gpu);
    device_free(gpu, 0, mine);
}

/* Leaving lets kernels go that wait for peers, so that closing does not wait for anybody. */
static void test_close_in_flight(void **state)
{
    struct gpu *gpu = *state;
    unsigned before = count_mappings();
    struct fake_client client = gpu_attach(gpu, TCW_LANE_DIRECT, TOKENS, 0, 0);
    float *mine = device_floats(gpu, 0, 1);
    struct trtcoll_event *event;

    application_begin(gpu);
    atomic_store(&gpu->fake->page->deadline_ns, 60000000000ull);
    expect(gpu_run(&client, mine, mine, TOKENS, NULL, 0, &event), 0, NULL);
    expect(gpu_run(&client, mine, mine, TOKENS, NULL, TRTCOLL_PDL, NULL), 0, NULL);
    trtcoll_ctx_close(client.ctx);
    gpu_call(gpu->driver->cuCtxSynchronize());
    application_end(gpu);
    device_free(gpu, 0, mine);
    fake_await(atomic_load(&gpu->fake->connection) < 0);
    /* what the fixture holds itself: workspaces of two ranks; threads of the fake driver and daemon may be a moment behind */
    fake_await(count_mappings() <= before + GPU_RANKS);
}

/* ---- served lane ---- */

static void test_served_staged(void **state)
{
    enum { RUNS = 60 };
    struct gpu *gpu = *state;
    struct fake_client client = gpu_attach(gpu, TCW_LANE_SERVED, TOKENS, 0, 0);
    struct trtcoll_plan_info info = {.size = sizeof(info)};
    float *in[2] = {device_floats(gpu, 0, 1), device_floats(gpu, 0, 9)}, *out[2] = {device_floats(gpu, 0, 0), device_floats(gpu, 0, 0)};
    struct trtcoll_event *event;
    CUstream streams[2];
    int i, code;

    application_begin(gpu);
    streams[0] = new_stream(gpu);
    streams[1] = new_stream(gpu);
    for (i = 0; i < RUNS; i++) {
        do
            code = gpu_run(&client, in[i % 2], out[i % 2], TOKENS, streams[i % 2], 0, i % 3 ? NULL : &event);
        while (code == TRTCOLL_EAGAIN);
        expect(code, 0, NULL);
        if (i % 3)
            continue;
        expect(trtcoll_event_wait(event, UINT32_MAX), 0, NULL);
        expect_floats(gpu, out[i % 2], 1, i % 2 ? 9 : 1);
        trtcoll_event_put(event);
    }
    end_stream(gpu, streams[0]);
    end_stream(gpu, streams[1]);
    expect_floats(gpu, out[0], 1, 1);
    expect_floats(gpu, out[1], 1, 9);
    assert_int_equal(trtcoll_plan_info(client.plan, &info), 0);
    assert_int_equal(info.runs, RUNS);
    assert_int_equal(info.staged_runs, RUNS);
    trtcoll_ctx_close(client.ctx);
    application_end(gpu);
    for (i = 0; i < 2; i++) {
        device_free(gpu, 0, in[i]);
        device_free(gpu, 0, out[i]);
    }
}

/* Two streams: the one whose inputs are late does not matter to what the host does, and the order is the calls'. */
static void test_served_waits_on_the_stream(void **state)
{
    struct gpu *gpu = *state;
    struct fake_client client = gpu_attach(gpu, TCW_LANE_SERVED, TOKENS, 0, 0);
    _Atomic uint64_t *gate = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    struct trtcoll_event *events[FAKE_RING], *more;
    void *in = NULL, *out = NULL;
    CUdeviceptr address;
    CUstream late;
    int i;

    application_begin(gpu);
    late = new_stream(gpu);
    assert_int_equal(tck_cuda_register_host(gpu->devices[0], gate, 4096, &address), 0);
    assert_int_equal(trtcoll_alloc(client.ctx, BYTES, &in), 0);
    assert_int_equal(trtcoll_alloc(client.ctx, BYTES, &out), 0);
    gpu_call(gpu->driver->cuStreamWaitValue64(late, address, 1, CU_STREAM_WAIT_VALUE_GEQ));
    for (i = 0; i < FAKE_RING; i++)
        expect(gpu_run(&client, in, out, TOKENS, late, 0, &events[i]), 0, NULL);
    expect(gpu_run(&client, in, out, TOKENS, late, 0, &more), TRTCOLL_EAGAIN, "in flight");
    expect(trtcoll_event_query(events[0]), TRTCOLL_EAGAIN, NULL);
    expect(trtcoll_free(client.ctx, in), TRTCOLL_EBUSY, NULL);
    atomic_store(gate, 1);
    for (i = 0; i < FAKE_RING; i++) {
        expect(trtcoll_event_wait(events[i], UINT32_MAX), 0, NULL);
        trtcoll_event_put(events[i]);
    }
    end_stream(gpu, late);
    expect(trtcoll_free(client.ctx, in), 0, NULL);
    trtcoll_ctx_close(client.ctx);
    tck_cuda_unregister_host(gpu->devices[0], (void *)gate);
    munmap((void *)gate, 4096);
    application_end(gpu);
}

static void test_served_refusal(void **state)
{
    struct gpu *gpu = *state;
    struct fake_client client = gpu_attach(gpu, TCW_LANE_SERVED, TOKENS, 0, 0);
    float *mine = device_floats(gpu, 0, 1), host[FLOATS];
    struct trtcoll_event *event;
    CUstream stream;

    application_begin(gpu);
    stream = new_stream(gpu);
    expect(gpu_run(&client, host, mine, TOKENS, stream, 0, NULL), TRTCOLL_EINVAL, "no GPU knows");
    atomic_store(&gpu->fake->result, TCW_EMISMATCH);
    expect(gpu_run(&client, mine, mine, TOKENS, stream, 0, &event), 0, NULL);
    expect(trtcoll_event_wait(event, UINT32_MAX), TRTCOLL_EMISMATCH, NULL);
    trtcoll_event_put(event);
    expect(gpu_run(&client, mine, mine, TOKENS, stream, 0, NULL), 0, NULL);
    end_stream(gpu, stream); /* it went on */
    trtcoll_ctx_close(client.ctx);
    application_end(gpu);
    device_free(gpu, 0, mine);
}

/* Everybody who could complete a request is gone: the words are raised here. */
static void lose_daemon(struct gpu *gpu, uint32_t watch)
{
    struct fake_client client = gpu_attach(gpu, TCW_LANE_SERVED, TOKENS, 0, watch);
    float *mine = device_floats(gpu, 0, 1), *other = device_floats(gpu, 0, 1);
    struct trtcoll_event *event, *first;
    CUstream stream, second;

    application_begin(gpu);
    stream = new_stream(gpu);
    second = new_stream(gpu);
    atomic_store(&gpu->deaf, true);
    expect(gpu_run(&client, other, other, TOKENS, second, 0, &first), 0, NULL);
    expect(gpu_run(&client, mine, mine, TOKENS, stream, 0, &event), 0, NULL);
    expect(trtcoll_event_query(event), TRTCOLL_EAGAIN, NULL);
    assert_int_equal(gpu->driver->cuStreamQuery(stream), CUDA_ERROR_NOT_READY);
    shutdown(atomic_load(&gpu->fake->connection), SHUT_RDWR);
    if (watch) {
        gpu_call(gpu->driver->cuStreamSynchronize(stream));
        gpu_call(gpu->driver->cuStreamSynchronize(second));
    }
    expect(trtcoll_event_wait(event, 10000), TRTCOLL_ECONN, NULL);
    expect(trtcoll_event_wait(first, 10000), TRTCOLL_ECONN, NULL);
    expect(gpu_run(&client, mine, mine, TOKENS, stream, 0, NULL), TRTCOLL_ECONN, NULL);
    trtcoll_event_put(event);
    end_stream(gpu, stream);
    end_stream(gpu, second);
    trtcoll_ctx_close(client.ctx); /* with an event that was not given back */
    application_end(gpu);
    device_free(gpu, 0, mine);
    device_free(gpu, 0, other);
}

static void test_daemon_gone(void **state)
{
    lose_daemon(*state, 0);
}

static void test_daemon_gone_watched(void **state)
{
    lose_daemon(*state, 1);
}

/* ---- memory ---- */

static void test_memory_allocated(void **state)
{
    struct gpu *gpu = *state;
    struct fake_client client = gpu_attach(gpu, TCW_LANE_SERVED, TOKENS, 0, 0);
    struct trtcoll_plan_info info = {.size = sizeof(info)};
    struct trtcoll_event *event;
    float host[FLOATS];
    void *in, *out;
    int i;

    application_begin(gpu);
    for (i = 0; i < FLOATS; i++)
        host[i] = (float)i + 3;
    expect(trtcoll_alloc(client.ctx, BYTES, &in), 0, NULL);
    expect(trtcoll_alloc(client.ctx, BYTES, &out), 0, NULL);
    gpu_call(gpu->driver->cuMemcpyHtoD((CUdeviceptr)(uintptr_t)in, host, BYTES));
    expect(gpu_run(&client, in, out, TOKENS, NULL, 0, &event), 0, NULL);
    expect(trtcoll_event_wait(event, UINT32_MAX), 0, NULL);
    trtcoll_event_put(event);
    expect_floats(gpu, out, 1, 3);
    assert_int_equal(trtcoll_plan_info(client.plan, &info), 0);
    assert_int_equal(info.staged_runs, 0);
    expect(trtcoll_free(client.ctx, in), 0, NULL);
    trtcoll_ctx_close(client.ctx);
    application_end(gpu);
}

/* Two allocations side by side, as growing segments of an allocator are. */
static void test_memory_registered(void **state)
{
    enum { GRANULE = 2 << 20 };
    struct gpu *gpu = *state;
    struct fake_client client = gpu_attach(gpu, TCW_LANE_SERVED, TOKENS, 0, 0);
    CUmemAllocationProp kind = {.type = CU_MEM_ALLOCATION_TYPE_PINNED,
                                .requestedHandleTypes = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR,
                                .location = {.type = CU_MEM_LOCATION_TYPE_DEVICE, .id = 0}};
    CUmemAccessDesc access = {.location = kind.location, .flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE};
    CUmemGenericAllocationHandle handle;
    struct trtcoll_plan_info info = {.size = sizeof(info)};
    float *single = device_floats(gpu, 0, 5), host[FLOATS];
    struct trtcoll_event *event;
    unsigned fds;
    CUdeviceptr base;
    char *in, *out;
    int i;

    application_begin(gpu);
    gpu_call(gpu->driver->cuMemAddressReserve(&base, 3 * GRANULE, 0, 0, 0));
    for (i = 0; i < 3; i++) { /* the last one on another GPU */
        kind.location.id = i / 2;
        gpu_call(gpu->driver->cuMemCreate(&handle, GRANULE, &kind, 0));
        gpu_call(gpu->driver->cuMemMap(base + (unsigned)i * GRANULE, GRANULE, 0, handle, 0));
        gpu_call(gpu->driver->cuMemRelease(handle));
    }
    gpu_call(gpu->driver->cuMemSetAccess(base, 3 * GRANULE, &access, 1));
    fds = fake_open_fds();
    in = (char *)(uintptr_t)base + GRANULE - BYTES / 2; /* across the seam */
    out = (char *)(uintptr_t)base + 4096;
    expect(trtcoll_register(client.ctx, (void *)(uintptr_t)(base + 4096), 2 * GRANULE - 4096, -1), 0, NULL);
    assert_int_equal(gpu->last.kind, TCW_MEM_VMM);
    assert_int_equal(gpu->last.pieces, 2);
    assert_int_equal(gpu->last.offset, 4096);
    fake_await(fake_open_fds() == fds + gpu->last.pieces); /* the fixture's own; it closes what it received when it has answered */
    expect(trtcoll_register(client.ctx, in, 16, -1), TRTCOLL_EEXIST, NULL);
    for (i = 0; i < FLOATS; i++)
        host[i] = (float)i + 11;
    gpu_call(gpu->driver->cuMemcpyHtoD((CUdeviceptr)(uintptr_t)in, host, BYTES / 2));
    gpu_call(gpu->driver->cuMemcpyHtoD((CUdeviceptr)(uintptr_t)in + BYTES / 2, host + FLOATS / 2, BYTES / 2));
    expect(gpu_run(&client, in, out, TOKENS, NULL, 0, &event), 0, NULL);
    expect(trtcoll_event_wait(event, UINT32_MAX), 0, NULL);
    trtcoll_event_put(event);
    expect_floats(gpu, out, 1, 11);
    assert_int_equal(trtcoll_plan_info(client.plan, &info), 0);
    assert_int_equal(info.staged_runs, 0);
    expect(trtcoll_unregister(client.ctx, (void *)(uintptr_t)(base + 4096)), 0, NULL);
    expect(trtcoll_register(client.ctx, (void *)(uintptr_t)(base + GRANULE), 2 * GRANULE, -1), TRTCOLL_EINVAL, "lies on GPU 1");

    expect(trtcoll_register(client.ctx, single + 4, BYTES - 16, -1), 0, NULL);
    assert_int_equal(gpu->last.kind, TCW_MEM_IPC);
    assert_int_equal(gpu->last.offset, 16);
    expect(trtcoll_unregister(client.ctx, single + 4), 0, NULL);
    expect(trtcoll_register(client.ctx, single, BYTES + (1 << 30), -1), TRTCOLL_EINVAL, "reach beyond");
    expect(trtcoll_register(client.ctx, host, sizeof(host), -1), TRTCOLL_EINVAL, "not memory of a GPU");
    expect(trtcoll_register(client.ctx, single, BYTES, 0), TRTCOLL_EINVAL, "fd -1");
    trtcoll_ctx_close(client.ctx);
    gpu_call(gpu->driver->cuMemUnmap(base, 3 * GRANULE));
    gpu_call(gpu->driver->cuMemAddressFree(base, 3 * GRANULE));
    application_end(gpu);
    device_free(gpu, 0, single);
}

/* ---- the rest ---- */

static void test_one_call(void **state)
{
    struct gpu *gpu = *state;
    struct fake_client client = gpu_attach(gpu, TCW_LANE_SERVED, TOKENS, 0, 0);
    float *in = device_floats(gpu, 0, 2), *out = device_floats(gpu, 0, 0);

    application_begin(gpu);
    expect(trtcoll_all_reduce(client.group, in, out, FLOATS, TRTCOLL_FP32, TRTCOLL_SUM), 0, NULL);
    expect_floats(gpu, out, 1, 2);
    trtcoll_ctx_close(client.ctx);
    application_end(gpu);
    device_free(gpu, 0, in);
    device_free(gpu, 0, out);
}

/* A second context has a GPU of its own making; a context has one. */
static void test_wrong_device(void **state)
{
    struct gpu *gpu = *state;
    struct fake_client client = gpu_attach(gpu, TCW_LANE_DIRECT, TOKENS, 0, 0);
    struct trtcoll_group *group;
    struct tck_device *swapped = gpu->devices[0];

    gpu->devices[0] = gpu->devices[1];
    expect(trtcoll_group_create(client.ctx, "h", GPU_RANKS, 0, 0, &group), TRTCOLL_ENOTSUP, "open a context for each GPU");
    gpu->devices[0] = swapped;
    trtcoll_ctx_close(client.ctx);
}

static void test_fork(void **state)
{
    struct gpu *gpu = *state;
    struct fake_client client = gpu_attach(gpu, TCW_LANE_SERVED, TOKENS, 0, 1);
    float *mine = device_floats(gpu, 0, 1);
    void *memory;
    int status = 0;
    pid_t child;

    application_begin(gpu);
    expect(trtcoll_alloc(client.ctx, BYTES, &memory), 0, NULL);
    expect(gpu_run(&client, mine, mine, TOKENS, NULL, 0, NULL), 0, NULL);
    gpu_call(gpu->driver->cuCtxSynchronize());
    child = fork();
    assert_true(child >= 0);
    if (!child) {
        int code = gpu_run(&client, mine, mine, TOKENS, NULL, 0, NULL);

        trtcoll_ctx_close(client.ctx);
        _exit(code == TRTCOLL_EFORK ? 0 : 1);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && !WEXITSTATUS(status));
    expect(gpu_run(&client, mine, mine, TOKENS, NULL, 0, NULL), 0, NULL);
    gpu_call(gpu->driver->cuCtxSynchronize());
    trtcoll_ctx_close(client.ctx);
    application_end(gpu);
    device_free(gpu, 0, mine);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        gpu_test(test_direct_run),          gpu_test(test_direct_streams),
        gpu_test(test_refused_arguments),   gpu_test(test_direct_timeout),
        gpu_test(test_direct_abort),        gpu_test(test_close_in_flight),
        gpu_test(test_served_staged),       gpu_test(test_served_waits_on_the_stream),
        gpu_test(test_served_refusal),      gpu_test(test_daemon_gone),
        gpu_test(test_daemon_gone_watched), gpu_test(test_memory_allocated),
        gpu_test(test_memory_registered),   gpu_test(test_one_call),
        gpu_test(test_wrong_device),        gpu_test(test_fork),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
#else
int main(void)
{
    return 77; /* built without CUDA */
}
#endif
