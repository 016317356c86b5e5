/* Runs of the client library in CUDA graphs, on GPUs of the fake driver: what is captured, replayed, held, and given back. */
#ifdef TRTCOLL_CUDA
#include "client_cuda_application.h"

/* ---- direct lane ---- */

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        gpu_test(test_capture_refused),        gpu_test(test_capture_and_replay),     gpu_test(test_graph_holds_workspaces),
        gpu_test(test_graph_outlives_context), gpu_test(test_served_capture_refused), gpu_test(test_served_capture),
        gpu_test(test_served_graph_gone),      gpu_test(test_served_replay_ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
#else
int main(void)
{
    return 77; /* built without CUDA */
}
#endif
