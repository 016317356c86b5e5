/* The client library on GPUs of the fake driver: order of streams, events, captures, failures, memory. Not how fast, and no kernel. */
#ifdef TRTCOLL_CUDA
#include "client_cuda_fixture.h"

#include <sys/wait.h>

enum { TOKENS = 64, FLOATS = TOKENS * 4, BYTES = FLOATS * 4 };

static void expect(int code, int expected, const char *part)
{
    if (code != expected)
        fail_msg("%s instead of %s: %s", trtcoll_error_name(code), trtcoll_error_name(expected), fake_text());
    if (part && !strstr(fake_text(), part))
        fail_msg("\"%s\" does not say \"%s\"", fake_text(), part);
}

/* ---- what an application does with CUDA, which is current in its thread ---- */

static void application_begin(struct gpu *gpu)
{
    assert_int_equal(tck_cuda_enter(gpu->devices[0]), 0);
}

static void application_end(struct gpu *gpu)
{
    tck_cuda_leave(gpu->devices[0]);
}

static float *device_floats(struct gpu *gpu, int rank, float value)
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

static void device_free(struct gpu *gpu, int rank, void *pointer)
{
    assert_int_equal(tck_cuda_enter(gpu->devices[rank]), 0);
    gpu_call(gpu->driver->cuMemFree((CUdeviceptr)(uintptr_t)pointer));
    tck_cuda_leave(gpu->devices[rank]);
}

/* Element i is scale * i + value. */
static void expect_floats(struct gpu *gpu, const void *pointer, float scale, float value)
{
    float host[FLOATS];
    int i;

    gpu_call(gpu->driver->cuMemcpyDtoH(host, (CUdeviceptr)(uintptr_t)pointer, BYTES));
    for (i = 0; i < FLOATS; i++)
        if (host[i] != scale * (float)i + value)
            fail_msg("element %d is %g instead of %g", i, (double)host[i], (double)(scale * (float)i + value));
}

static CUstream new_stream(struct gpu *gpu)
{
    CUstream stream;

    gpu_call(gpu->driver->cuStreamCreateWithPriority(&stream, CU_STREAM_NON_BLOCKING, 0));
    return stream;
}

static void end_stream(struct gpu *gpu, CUstream stream)
{
    gpu_call(gpu->driver->cuStreamSynchronize(stream));
    gpu_call(gpu->driver->cuStreamDestroy(stream));
}

/* Mappings of memory that came or went as descriptors. */
static unsigned count_mappings(void)
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
        end_stream(gpu, streams[i]);
    assert_int_equal(trtcoll_group_status(client.group, &info), 0);
    assert_int_equal(info.state, TRTCOLL_GROUP_READY);
    assert_int_equal(info.runs_started, RUNS);
    assert_int_equal(info.runs_finished, RUNS);
    trtcoll_ctx_close(client.ctx);
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

/* ---- capture ---- */

static CUgraphExec end_capture(struct gpu *gpu, CUstream stream)
{
    CUgraph graph = NULL;
    CUgraphExec exec = NULL;

    gpu_call(gpu->driver->cuStreamEndCapture(stream, &graph));
    gpu_call(gpu->driver->cuGraphInstantiate(&exec, graph, 0));
    gpu_call(gpu->driver->cuGraphDestroy(graph));
    return exec;
}

static void test_capture_refused(void **state)
{
    struct gpu *gpu = *state;
    struct fake_client client = gpu_attach(gpu, TCW_LANE_DIRECT, TOKENS, 0, 0);
    float *mine = device_floats(gpu, 0, 1);
    struct trtcoll_event *event = NULL;
    CUstream stream;

    application_begin(gpu);
    stream = new_stream(gpu);
    gpu_call(gpu->driver->cuStreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_GLOBAL));
    expect(gpu_run(&client, mine, mine, TOKENS, stream, 0, NULL), TRTCOLL_ECAPTURE, "TRTCOLL_GRAPH");
    gpu_call(gpu->driver->cuMemsetD8Async((CUdeviceptr)(uintptr_t)mine, 0, BYTES, stream));
    gpu_call(gpu->driver->cuGraphExecDestroy(end_capture(gpu, stream))); /* undisturbed */
    end_stream(gpu, stream);
    assert_null(event);
    trtcoll_ctx_close(client.ctx);
    application_end(gpu);
    device_free(gpu, 0, mine);
}

/* Runs are captured beside plans being made, events being asked for and eager runs on other streams, in the strictest mode. */
static void test_capture_and_replay(void **state)
{
    enum { PER_GRAPH = 3, LAUNCHES = 4 };
    struct gpu *gpu = *state;
    struct fake_client client = gpu_attach(gpu, TCW_LANE_DIRECT, TOKENS, TRTCOLL_GRAPH, 0);
    struct trtcoll_all_reduce_desc desc = TRTCOLL_ALL_REDUCE_DESC_INIT;
    struct trtcoll_group_info info = {.size = sizeof(info)};
    float *mine = device_floats(gpu, 0, 0), *theirs = device_floats(gpu, 1, 0);
    struct trtcoll_event *event, *eager;
    struct trtcoll_plan *other;
    CUstream stream, second;
    CUgraphExec exec;
    int i;

    peer_join(gpu);
    application_begin(gpu);
    stream = new_stream(gpu);
    second = new_stream(gpu);
    expect(gpu_run(&client, mine, mine, TOKENS, second, 0, &eager), 0, NULL);
    gpu_call(gpu->driver->cuStreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_GLOBAL));
    for (i = 0; i < PER_GRAPH; i++)
        expect(gpu_run(&client, mine, mine, TOKENS, stream, 0, NULL), 0, NULL);
    expect(gpu_run(&client, mine, mine, TOKENS, stream, 0, &event), TRTCOLL_ECAPTURE, "NULL");
    peer_run(gpu, theirs, FLOATS);
    expect(trtcoll_event_wait(eager, UINT32_MAX), 0, NULL);
    trtcoll_event_put(eager);
    desc.dtype = TRTCOLL_FP32;
    desc.hidden = 4;
    expect(trtcoll_plan_create_all_reduce(client.group, &desc, &other), 0, NULL);
    exec = end_capture(gpu, stream);
    for (i = 0; i < LAUNCHES; i++)
        gpu_call(gpu->driver->cuGraphLaunch(exec, second)); /* not the stream that was captured */
    for (i = 0; i < LAUNCHES * PER_GRAPH; i++)
        peer_run(gpu, theirs, FLOATS);
    gpu_call(gpu->driver->cuStreamSynchronize(second));
    assert_int_equal(trtcoll_group_status(client.group, &info), 0);
    assert_int_equal(info.state, TRTCOLL_GROUP_READY);
    assert_int_equal(info.runs_started, 1);
    assert_int_equal(info.runs_finished, 1 + LAUNCHES * PER_GRAPH);
    expect_floats(gpu, mine, 1 << (1 + LAUNCHES * PER_GRAPH), 0);
    gpu_call(gpu->driver->cuGraphExecDestroy(exec));
    end_stream(gpu, stream);
    end_stream(gpu, second);
    trtcoll_ctx_close(client.ctx);
    application_end(gpu);
    device_free(gpu, 0, mine);
    device_free(gpu, 1, theirs);
}

/* An old generation of workspaces stays while a graph may use it, and goes with the graph. */
static void test_graph_holds_workspaces(void **state)
{
    struct gpu *gpu = *state;
    struct fake_client client = gpu_attach(gpu, TCW_LANE_DIRECT, TOKENS, TRTCOLL_GRAPH, 0);
    struct trtcoll_all_reduce_desc desc = TRTCOLL_ALL_REDUCE_DESC_INIT;
    float *mine = device_floats(gpu, 0, 0);
    struct trtcoll_plan *plans[3];
    unsigned one, two;
    CUstream stream;
    CUgraphExec exec;
    int i;

    application_begin(gpu);
    stream = new_stream(gpu);
    one = count_mappings();
    gpu_call(gpu->driver->cuStreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL));
    expect(gpu_run(&client, mine, mine, TOKENS, stream, 0, NULL), 0, NULL);
    exec = end_capture(gpu, stream);
    desc.dtype = TRTCOLL_FP32;
    desc.hidden = 4;
    desc.flags = TRTCOLL_GRAPH;
    for (i = 0; i < 3; i++) {
        if (i == 0)
            atomic_store(&gpu->grow, true);
        expect(trtcoll_plan_create_all_reduce(client.group, &desc, &plans[i]), 0, NULL);
    }
    two = count_mappings();
    assert_true(two >= one + GPU_RANKS);
    assert_int_equal(trtcoll_plan_release(client.plan), 0);
    assert_int_equal(trtcoll_plan_release(plans[0]), 0);
    assert_int_equal(count_mappings(), two);
    gpu_call(gpu->driver->cuGraphExecDestroy(exec));
    /* The driver says so when it likes, and giving a plan back is when the library looks. */
    fake_await(!trtcoll_plan_release(plans[1]) && !trtcoll_plan_create_all_reduce(client.group, &desc, &plans[1]) &&
               count_mappings() <= two - GPU_RANKS);
    end_stream(gpu, stream);
    trtcoll_ctx_close(client.ctx);
    application_end(gpu);
    device_free(gpu, 0, mine);
}

/* The application forgets its graph: launching it later does nothing, and nothing is taken from under it. */
static void test_graph_outlives_context(void **state)
{
    struct gpu *gpu = *state;
    struct fake_client client = gpu_attach(gpu, TCW_LANE_DIRECT, TOKENS, TRTCOLL_GRAPH, 0);
    float *mine = device_floats(gpu, 0, 7);
    CUstream stream;
    CUgraphExec exec;

    application_begin(gpu);
    stream = new_stream(gpu);
    gpu_call(gpu->driver->cuStreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_RELAXED));
    expect(gpu_run(&client, mine, mine, TOKENS, stream, 0, NULL), 0, NULL);
    exec = end_capture(gpu, stream);
    trtcoll_ctx_close(client.ctx);
    gpu_call(gpu->driver->cuGraphLaunch(exec, stream));
    gpu_call(gpu->driver->cuStreamSynchronize(stream));
    gpu_call(gpu->driver->cuGraphExecDestroy(exec));
    end_stream(gpu, stream);
    application_end(gpu);
    device_free(gpu, 0, mine);
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

static void test_served_capture_refused(void **state)
{
    struct gpu *gpu = *state;
    struct fake_client client = gpu_attach(gpu, TCW_LANE_SERVED, TOKENS, 0, 0);
    float *mine = device_floats(gpu, 0, 1);
    CUstream stream;

    application_begin(gpu);
    stream = new_stream(gpu);
    gpu_call(gpu->driver->cuStreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_GLOBAL));
    expect(gpu_run(&client, mine, mine, TOKENS, stream, 0, NULL), TRTCOLL_ECAPTURE, "TRTCOLL_GRAPH");
    gpu_call(gpu->driver->cuMemsetD8Async((CUdeviceptr)(uintptr_t)mine, 0, BYTES, stream));
    gpu_call(gpu->driver->cuGraphExecDestroy(end_capture(gpu, stream)));
    end_stream(gpu, stream);
    trtcoll_ctx_close(client.ctx);
    application_end(gpu);
    device_free(gpu, 0, mine);
}

static void run_eagerly(struct fake_client *client, void *memory, CUstream stream)
{
    struct trtcoll_event *event = NULL;

    expect(gpu_run(client, memory, memory, TOKENS, stream, 0, &event), 0, NULL);
    expect(trtcoll_event_wait(event, UINT32_MAX), 0, NULL);
    trtcoll_event_put(event);
}

/* The fake executor copies; each replay must have its inputs, and must not pass before its outputs are there. */
static void test_served_capture(void **state)
{
    enum { LAUNCHES = 5 };
    struct gpu *gpu = *state;
    struct fake_client client = gpu_attach(gpu, TCW_LANE_SERVED, TOKENS, TRTCOLL_GRAPH, 0);
    struct trtcoll_event *event = NULL;
    float *strange = device_floats(gpu, 0, 1);
    void *memory = NULL;
    CUstream stream, second;
    CUdeviceptr in, mid, out;
    CUgraphExec exec;
    unsigned i;

    expect(trtcoll_alloc(client.ctx, 3 * BYTES, &memory), 0, NULL);
    in = (CUdeviceptr)(uintptr_t)memory;
    mid = in + BYTES;
    out = mid + BYTES;
    application_begin(gpu);
    stream = new_stream(gpu);
    second = new_stream(gpu);
    gpu_call(gpu->driver->cuStreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_GLOBAL));
    expect(gpu_run(&client, strange, strange, TOKENS, stream, 0, NULL), TRTCOLL_ECAPTURE, "trtcoll_register");
    expect(gpu_run(&client, memory, (void *)(uintptr_t)mid, TOKENS, stream, 0, &event), TRTCOLL_ECAPTURE, "NULL");
    atomic_store(&gpu->fake->result, TCW_EINVAL);
    expect(gpu_run(&client, memory, (void *)(uintptr_t)mid, TOKENS, stream, 0, NULL), TRTCOLL_EINVAL, "does not accept");
    atomic_store(&gpu->fake->result, 0);
    expect(gpu_run(&client, memory, (void *)(uintptr_t)mid, TOKENS, stream, 0, NULL), 0, NULL);
    expect(gpu_run(&client, (void *)(uintptr_t)mid, (void *)(uintptr_t)out, TOKENS, stream, 0, NULL), 0, NULL);
    exec = end_capture(gpu, stream);
    assert_int_equal(atomic_load(&gpu->kept_count), 2);
    assert_int_equal(atomic_load(&gpu->replays), 0);
    for (i = 1; i <= LAUNCHES; i++) {
        float got[4], want = (float)i;
        uint32_t bits;

        memcpy(&bits, &want, sizeof(bits));
        gpu_call(gpu->driver->cuMemsetD32Async(in, bits, BYTES / 4, second));
        gpu_call(gpu->driver->cuGraphLaunch(exec, second)); /* not the stream that was captured */
        gpu_call(gpu->driver->cuStreamSynchronize(second));
        gpu_call(gpu->driver->cuMemcpyDtoH(got, out, sizeof(got)));
        assert_true(got[0] == want && got[3] == want);
    }
    assert_int_equal(atomic_load(&gpu->replays), 2 * LAUNCHES);
    /* The memory is in use until the graph is gone. */
    expect(trtcoll_free(client.ctx, memory), TRTCOLL_EBUSY, "graphs");
    run_eagerly(&client, memory, stream);
    assert_int_equal(atomic_load(&gpu->kept_count), 2);
    gpu_call(gpu->driver->cuGraphExecDestroy(exec));
    /* The next runs tell it, as soon as the driver has told the client; which it may do in its own time. */
    for (i = 0; i < 10000 && atomic_load(&gpu->kept_count); i++)
        run_eagerly(&client, memory, stream);
    assert_int_equal(atomic_load(&gpu->kept_count), 0);
    expect(trtcoll_free(client.ctx, memory), 0, NULL);
    assert_int_equal(atomic_load(&gpu->kept_count), 0);
    end_stream(gpu, stream);
    end_stream(gpu, second);
    trtcoll_ctx_close(client.ctx);
    application_end(gpu);
    device_free(gpu, 0, strange);
}

static uint32_t in_flight(struct fake_client *client)
{
    struct trtcoll_group_info info = {.size = sizeof(info)};

    assert_int_equal(trtcoll_group_status(client->group, &info), 0);
    return info.in_flight;
}

/* A graph with as many runs as the ring has slots has gone, and the executor is slow: there is room for a run all the same. */
static void test_served_graph_gone(void **state)
{
    struct gpu *gpu = *state;
    struct fake_client client = gpu_attach(gpu, TCW_LANE_SERVED, TOKENS, TRTCOLL_GRAPH, 0);
    struct trtcoll_event *event = NULL;
    void *memory = NULL;
    CUstream stream;
    unsigned i;

    expect(trtcoll_alloc(client.ctx, BYTES, &memory), 0, NULL);
    application_begin(gpu);
    stream = new_stream(gpu);
    gpu_call(gpu->driver->cuStreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_GLOBAL));
    for (i = 0; i < FAKE_RING; i++)
        expect(gpu_run(&client, memory, memory, TOKENS, stream, 0, NULL), 0, NULL);
    CUgraphExec exec = end_capture(gpu, stream);
    assert_int_equal(atomic_load(&gpu->kept_count), FAKE_RING);
    fake_hold(gpu->fake);
    gpu_call(gpu->driver->cuGraphExecDestroy(exec));
    fake_await(in_flight(&client) == FAKE_RING / 2);
    /* The driver tells of each run in its own time; by the end of this it has. */
    for (i = 0; i < 200; i++) {
        const struct timespec while_told = {.tv_nsec = 1000000};

        nanosleep(&while_told, NULL);
        assert_true(in_flight(&client) <= FAKE_RING / 2);
    }
    expect(gpu_run(&client, memory, memory, TOKENS, stream, 0, &event), 0, NULL);
    atomic_store(&gpu->fake->hold, false);
    expect(trtcoll_event_wait(event, UINT32_MAX), 0, NULL);
    trtcoll_event_put(event);
    fake_await(!in_flight(&client) && !atomic_load(&gpu->kept_count)); /* and the others behind them */
    expect(trtcoll_free(client.ctx, memory), 0, NULL);
    end_stream(gpu, stream);
    trtcoll_ctx_close(client.ctx);
    application_end(gpu);
}

/* Nobody serves replays any more: the thread that watches lets them pass, this one and all later ones. */
static void test_served_replay_ends(void **state)
{
    struct gpu *gpu = *state;
    struct fake_client client = gpu_attach(gpu, TCW_LANE_SERVED, TOKENS, TRTCOLL_GRAPH, 1);
    void *memory = NULL;
    CUstream stream;
    CUgraphExec exec;
    unsigned i;

    expect(trtcoll_alloc(client.ctx, BYTES, &memory), 0, NULL);
    application_begin(gpu);
    stream = new_stream(gpu);
    gpu_call(gpu->driver->cuStreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL));
    expect(gpu_run(&client, memory, memory, TOKENS, stream, 0, NULL), 0, NULL);
    exec = end_capture(gpu, stream);
    atomic_store(&gpu->deaf, true);
    gpu_call(gpu->driver->cuGraphLaunch(exec, stream));
    assert_int_equal(gpu->driver->cuStreamQuery(stream), CUDA_ERROR_NOT_READY);
    shutdown(atomic_load(&gpu->fake->connection), SHUT_RDWR);
    for (i = 0; i < 10; i++)
        gpu_call(gpu->driver->cuGraphLaunch(exec, stream));
    gpu_call(gpu->driver->cuStreamSynchronize(stream));
    expect(gpu_run(&client, memory, memory, TOKENS, stream, 0, NULL), TRTCOLL_ECONN, NULL);
    gpu_call(gpu->driver->cuGraphExecDestroy(exec));
    end_stream(gpu, stream);
    trtcoll_ctx_close(client.ctx);
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
    gpu_call(gpu->driver->cuMemAddressReserve(&base, 2 * GRANULE, 0, 0, 0));
    for (i = 0; i < 2; i++) {
        gpu_call(gpu->driver->cuMemCreate(&handle, GRANULE, &kind, 0));
        gpu_call(gpu->driver->cuMemMap(base + (unsigned)i * GRANULE, GRANULE, 0, handle, 0));
        gpu_call(gpu->driver->cuMemRelease(handle));
    }
    gpu_call(gpu->driver->cuMemSetAccess(base, 2 * GRANULE, &access, 1));
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

    expect(trtcoll_register(client.ctx, single + 4, BYTES - 16, -1), 0, NULL);
    assert_int_equal(gpu->last.kind, TCW_MEM_IPC);
    assert_int_equal(gpu->last.offset, 16);
    expect(trtcoll_unregister(client.ctx, single + 4), 0, NULL);
    expect(trtcoll_register(client.ctx, single, BYTES + (1 << 30), -1), TRTCOLL_EINVAL, "reach beyond");
    expect(trtcoll_register(client.ctx, host, sizeof(host), -1), TRTCOLL_EINVAL, "not memory of a GPU");
    expect(trtcoll_register(client.ctx, single, BYTES, 0), TRTCOLL_EINVAL, "fd -1");
    trtcoll_ctx_close(client.ctx);
    gpu_call(gpu->driver->cuMemUnmap(base, 2 * GRANULE));
    gpu_call(gpu->driver->cuMemAddressFree(base, 2 * GRANULE));
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

#define gpu_test(function) cmocka_unit_test_setup_teardown(function, gpu_setup, gpu_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        gpu_test(test_direct_run),
        gpu_test(test_direct_streams),
        gpu_test(test_refused_arguments),
        gpu_test(test_direct_timeout),
        gpu_test(test_direct_abort),
        gpu_test(test_close_in_flight),
        gpu_test(test_capture_refused),
        gpu_test(test_capture_and_replay),
        gpu_test(test_graph_holds_workspaces),
        gpu_test(test_graph_outlives_context),
        gpu_test(test_served_staged),
        gpu_test(test_served_waits_on_the_stream),
        gpu_test(test_served_capture_refused),
        gpu_test(test_served_capture),
        gpu_test(test_served_graph_gone),
        gpu_test(test_served_replay_ends),
        gpu_test(test_served_refusal),
        gpu_test(test_daemon_gone),
        gpu_test(test_daemon_gone_watched),
        gpu_test(test_memory_allocated),
        gpu_test(test_memory_registered),
        gpu_test(test_one_call),
        gpu_test(test_wrong_device),
        gpu_test(test_fork),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
#else
int main(void)
{
    return 77; /* built without CUDA */
}
#endif
