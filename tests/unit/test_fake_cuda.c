/* The fake driver itself: what tests of everything else rely on. Every case runs in processes of its own. */
#include "fake_cuda_ranks.h"

#include <pthread.h>

enum { MEGABYTE = 1 << 20, GRANULE = 2 << 20 };

static CUmemAllocationProp on_device(int ordinal)
{
    return (CUmemAllocationProp){.type = CU_MEM_ALLOCATION_TYPE_PINNED,
                                 .requestedHandleTypes = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR,
                                 .location = {.type = CU_MEM_LOCATION_TYPE_DEVICE, .id = ordinal}};
}

static CUmemAccessDesc for_device(int ordinal)
{
    return (CUmemAccessDesc){.location = {.type = CU_MEM_LOCATION_TYPE_DEVICE, .id = ordinal}, .flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE};
}

static CUstream new_stream(struct rank *rank)
{
    CUstream stream;
    RANK_CUDA(cuStreamCreateWithPriority(&stream, CU_STREAM_NON_BLOCKING, 0));
    return stream;
}

/* Maps a handle, for access from the rank's own device. */
static CUdeviceptr map(struct rank *rank, CUmemGenericAllocationHandle handle, size_t bytes)
{
    CUmemAccessDesc access = for_device(rank->rank);
    CUdeviceptr address;
    RANK_CUDA(cuMemAddressReserve(&address, bytes, 0, 0, 0));
    RANK_CUDA(cuMemMap(address, bytes, 0, handle, 0));
    RANK_CHECK(cuMemsetD8Async(address, 0, 16, NULL) == CUDA_ERROR_INVALID_VALUE); /* no access yet */
    RANK_CUDA(cuMemSetAccess(address, bytes, &access, 1));
    return address;
}

static void rank_vmm(struct rank *rank)
{
    CUmemAllocationProp prop = on_device(0);
    CUmemGenericAllocationHandle handle, again;
    CUdeviceptr address;
    unsigned char seen[4];
    int fd;
    rank_open(rank);
    if (rank->rank == 0) {
        RANK_CHECK(cuMemCreate(&handle, MEGABYTE, &prop, 0) == CUDA_ERROR_INVALID_VALUE); /* not whole granules */
        RANK_CUDA(cuMemCreate(&handle, GRANULE, &prop, 0));
        RANK_CUDA(cuMemExportToShareableHandle(&fd, handle, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0));
        rank_send_fd(rank, 1, fd);
        close(fd);
    } else {
        fd = rank_receive_fd(rank);
        RANK_CUDA(cuMemImportFromShareableHandle(&handle, (void *)(intptr_t)fd, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR));
        close(fd);
        RANK_CUDA(cuMemGetAllocationPropertiesFromHandle(&prop, handle));
        RANK_CHECK(prop.location.id == 0);
        RANK_CUDA(cuMemAddressReserve(&address, 2 * GRANULE, 0, 0, 0));
        RANK_CHECK(cuMemMap(address, 2 * GRANULE, 0, handle, 0) == CUDA_ERROR_INVALID_VALUE); /* more than there is */
        RANK_CUDA(cuMemAddressFree(address, 2 * GRANULE));
    }
    address = map(rank, handle, GRANULE);
    RANK_CUDA(cuMemRelease(handle));
    RANK_CHECK(cuMemRelease(handle) == CUDA_ERROR_INVALID_VALUE);
    RANK_CUDA(cuMemRetainAllocationHandle(&again, (void *)(uintptr_t)(address + 100)));
    RANK_CUDA(cuMemRelease(again));
    if (rank->rank == 0) {
        RANK_CUDA(cuMemcpyDtoH(seen, address, sizeof(seen)));
        RANK_CHECK(seen[0] == 0xa5); /* new memory is not zeroed */
        RANK_CUDA(cuMemsetD8(address, 7, GRANULE));
        RANK_CUDA(cuCtxSynchronize());
        rank->shared->words[0] = 1;
    } else {
        rank_await(rank, 0, 1);
        RANK_CUDA(cuMemcpyDtoH(seen, address + GRANULE - sizeof(seen), sizeof(seen)));
        RANK_CHECK(seen[0] == 7 && seen[3] == 7);
    }
    RANK_CUDA(cuMemUnmap(address, GRANULE));
    RANK_CUDA(cuMemAddressFree(address, GRANULE));
}

static void rank_multicast(struct rank *rank)
{
    CUmulticastObjectProp kind = {.numDevices = 2, .size = GRANULE, .handleTypes = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR};
    CUmemAllocationProp prop = on_device(rank->rank);
    CUmemGenericAllocationHandle object, memory;
    CUdeviceptr address;
    int fd;
    rank_open(rank);
    RANK_CUDA(cuMemCreate(&memory, GRANULE, &prop, 0));
    RANK_CHECK(cuMulticastAddDevice(memory, rank->rank) == CUDA_ERROR_INVALID_VALUE); /* ordinary memory */
    if (rank->rank == 0) {
        RANK_CUDA(cuMulticastCreate(&object, &kind));
        RANK_CUDA(cuMemExportToShareableHandle(&fd, object, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0));
        rank_send_fd(rank, 1, fd);
        close(fd);
        RANK_CUDA(cuMulticastAddDevice(object, 0));
        RANK_CHECK(cuMulticastAddDevice(object, 0) == CUDA_ERROR_INVALID_VALUE);
        RANK_CHECK(cuMulticastBindMem(object, 0, memory, 0, GRANULE, 0) == CUDA_ERROR_INVALID_DEVICE); /* not all are there */
        rank->shared->words[0] = 1;
        rank_await(rank, 1, 1);
    } else {
        fd = rank_receive_fd(rank);
        rank_await(rank, 0, 1);
        RANK_CUDA(cuMemImportFromShareableHandle(&object, (void *)(intptr_t)fd, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR));
        close(fd);
        RANK_CUDA(cuMulticastAddDevice(object, 1));
        rank->shared->words[1] = 1;
    }
    RANK_CUDA(cuMulticastBindMem(object, 0, memory, 0, GRANULE, 0));
    RANK_CHECK(cuMulticastBindMem(object, 0, memory, 0, GRANULE, 0) == CUDA_ERROR_INVALID_DEVICE); /* for the second time */
    address = map(rank, object, GRANULE);
    RANK_CUDA(cuMemUnmap(address, GRANULE));
    RANK_CUDA(cuMemAddressFree(address, GRANULE));
    RANK_CUDA(cuMemRelease(object));
    RANK_CUDA(cuMemRelease(memory));
}

static void test_vmm(void **state)
{
    (void)state;
    run_ranks(2, rank_vmm);
}

static void test_multicast(void **state)
{
    (void)state;
    run_ranks(2, rank_multicast);
}

/* Rank 0 waits on its stream for what rank 1 writes: from a stream, then by a plain store; and gets an answer. */
static void rank_words(struct rank *rank)
{
    CUdeviceptr words;
    CUevent event;
    CUstream stream;
    rank_open(rank);
    stream = new_stream(rank);
    words = (CUdeviceptr)rank->shared->words;
    RANK_CHECK(cuStreamWaitValue64(stream, words, 1, CU_STREAM_WAIT_VALUE_GEQ) == CUDA_ERROR_INVALID_VALUE); /* not registered */
    RANK_CUDA(cuMemHostRegister(rank->shared->words, 4096, CU_MEMHOSTREGISTER_PORTABLE | CU_MEMHOSTREGISTER_DEVICEMAP));
    RANK_CHECK(cuMemHostRegister(rank->shared->words, 4096, 0) == CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED);
    RANK_CUDA(cuMemHostGetDevicePointer(&words, rank->shared->words, 0));
    RANK_CUDA(cuEventCreate(&event, 0));
    for (uint64_t n = 1; n <= 3; n++) {
        if (rank->rank == 0) {
            RANK_CUDA(cuStreamWaitValue64(stream, words, n, CU_STREAM_WAIT_VALUE_GEQ));
            RANK_CUDA(cuStreamWriteValue64(stream, words + 8, n, 0));
            RANK_CUDA(cuEventRecord(event, stream));
            RANK_CHECK(cuEventQuery(event) == CUDA_ERROR_NOT_READY);
            rank->shared->words[2] = n; /* now */
            RANK_CUDA(cuEventSynchronize(event));
            RANK_CHECK(rank->shared->words[1] == n);
        } else {
            rank_await(rank, 2, n);
            RANK_CHECK(rank->shared->words[1] == n - 1);
            if (n == 2)
                rank->shared->words[0] = n;
            else
                RANK_CUDA(cuStreamWriteValue64(stream, words, n, 0));
            rank_await(rank, 1, n);
        }
    }
    RANK_CUDA(cuStreamSynchronize(stream));
    RANK_CUDA(cuMemHostUnregister(rank->shared->words));
    RANK_CHECK(cuMemHostUnregister(rank->shared->words) == CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED);
}

static void test_words(void **state)
{
    (void)state;
    run_ranks(2, rank_words);
}

static void rank_ipc(struct rank *rank)
{
    CUipcMemHandle handle;
    CUdeviceptr address;
    unsigned char byte;
    rank_open(rank);
    if (rank->rank == 0) {
        RANK_CUDA(cuMemAlloc(&address, 1000));
        RANK_CUDA(cuMemsetD8(address, 9, 1000));
        RANK_CUDA(cuCtxSynchronize());
        RANK_CUDA(cuIpcGetMemHandle(&handle, address));
        memcpy(rank->shared->bytes, &handle, sizeof(handle));
        rank->shared->words[0] = 1;
        rank_await(rank, 1, 1);
        RANK_CUDA(cuMemFree(address));
        rank->shared->words[0] = 2;
        return;
    }
    rank_await(rank, 0, 1);
    memcpy(&handle, rank->shared->bytes, sizeof(handle));
    RANK_CUDA(cuIpcOpenMemHandle(&address, handle, CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS));
    RANK_CUDA(cuMemcpyDtoH(&byte, address + 999, 1));
    RANK_CHECK(byte == 9);
    RANK_CUDA(cuIpcCloseMemHandle(address));
    rank->shared->words[1] = 1;
    rank_await(rank, 0, 2);
    RANK_CHECK(cuIpcOpenMemHandle(&address, handle, CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS) == CUDA_ERROR_INVALID_VALUE);
}

static void test_ipc(void **state)
{
    (void)state;
    run_ranks(2, rank_ipc);
}

static void count(void *arg)
{
    (*(_Atomic int *)arg)++;
}

/* Two streams in one graph, replayed. */
static CUgraph capture(struct rank *rank, CUstream stream, CUstream side, CUdeviceptr memory, _Atomic int *counter)
{
    CUevent fork_event, join_event;
    CUgraph graph;
    RANK_CUDA(cuEventCreate(&fork_event, CU_EVENT_DISABLE_TIMING));
    RANK_CUDA(cuEventCreate(&join_event, CU_EVENT_DISABLE_TIMING));
    RANK_CUDA(cuStreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_GLOBAL));
    RANK_CUDA(cuMemsetD32Async(memory, 5, 4, stream));
    RANK_CUDA(cuEventRecord(fork_event, stream));
    RANK_CUDA(cuStreamWaitEvent(side, fork_event, 0));
    RANK_CUDA(cuLaunchHostFunc(side, count, counter));
    RANK_CUDA(cuEventRecord(join_event, side));
    RANK_CUDA(cuStreamWaitEvent(stream, join_event, 0));
    RANK_CUDA(cuMemcpyAsync(memory + 64, memory, 16, stream));
    RANK_CUDA(cuStreamEndCapture(stream, &graph));
    RANK_CHECK(cuEventQuery(join_event) == CUDA_ERROR_CAPTURED_EVENT);
    return graph;
}

static void rank_graph(struct rank *rank)
{
    CUstream stream, side, other;
    CUdeviceptr memory;
    CUgraph graph;
    CUgraphExec executable;
    CUuserObject object;
    _Atomic int ran = 0, destroyed = 0;
    uint32_t seen[4];
    rank_open(rank);
    stream = new_stream(rank);
    side = new_stream(rank);
    other = new_stream(rank);
    RANK_CUDA(cuMemAlloc(&memory, 4096));
    RANK_CUDA(cuMemsetD8(memory, 0, 4096));
    RANK_CUDA(cuCtxSynchronize());
    graph = capture(rank, stream, side, memory, &ran);
    RANK_CUDA(cuUserObjectCreate(&object, (void *)&destroyed, count, 1, CU_USER_OBJECT_NO_DESTRUCTOR_SYNC));
    RANK_CUDA(cuGraphRetainUserObject(graph, object, 1, CU_GRAPH_USER_OBJECT_MOVE));
    RANK_CUDA(cuCtxSynchronize());
    RANK_CUDA(cuMemcpyDtoH(seen, memory, sizeof(seen)));
    RANK_CHECK(ran == 0 && seen[0] == 0); /* recorded, not run */
    RANK_CUDA(cuGraphInstantiate(&executable, graph, 0));
    RANK_CUDA(cuGraphDestroy(graph));
    for (int i = 1; i <= 3; i++) {
        RANK_CUDA(cuMemsetD8Async(memory, 0, 4096, other));
        RANK_CUDA(cuGraphLaunch(executable, other));
        RANK_CUDA(cuStreamSynchronize(other));
        RANK_CUDA(cuMemcpyDtoH(seen, memory + 64, sizeof(seen)));
        RANK_CHECK(ran == i && seen[3] == 5);
    }
    RANK_CHECK(destroyed == 0);
    RANK_CUDA(cuGraphExecDestroy(executable));
    for (time_t end = time(NULL) + RANK_SECONDS; !destroyed && time(NULL) < end;)
        sched_yield();
    RANK_CHECK(destroyed == 1);
}

static void test_graph(void **state)
{
    (void)state;
    run_ranks(1, rank_graph);
}

static void *query(void *event)
{
    CUstreamCaptureMode relaxed = CU_STREAM_CAPTURE_MODE_RELAXED;
    CUresult before = cuEventQuery(event), after;
    cuThreadExchangeStreamCaptureMode(&relaxed);
    after = cuEventQuery(event);
    return (void *)(uintptr_t)(before == CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED && after == CUDA_SUCCESS);
}

/* What a capture does not survive. */
static void rank_capture_errors(struct rank *rank)
{
    CUstream stream, side, blocking;
    CUevent event, fork_event;
    CUdeviceptr memory, more;
    CUgraph graph;
    pthread_t thread;
    void *expected;
    rank_open(rank);
    stream = new_stream(rank);
    side = new_stream(rank);
    RANK_CUDA(cuStreamCreate(&blocking, CU_STREAM_DEFAULT));
    RANK_CUDA(cuMemAlloc(&memory, 4096));
    RANK_CUDA(cuEventCreate(&event, 0));
    RANK_CUDA(cuEventCreate(&fork_event, 0));
    RANK_CUDA(cuEventRecord(event, side));
    RANK_CUDA(cuEventSynchronize(event));
    RANK_CHECK(cuStreamBeginCapture(NULL, CU_STREAM_CAPTURE_MODE_GLOBAL) == CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);

    RANK_CUDA(cuStreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_GLOBAL)); /* calls that are unsafe, of any thread */
    RANK_CHECK(cuMemAlloc(&more, 4096) == CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
    RANK_CHECK(cuMemsetD8Async(memory, 0, 16, stream) == CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
    RANK_CHECK(cuStreamEndCapture(stream, &graph) == CUDA_ERROR_STREAM_CAPTURE_INVALIDATED && !graph);
    RANK_CUDA(cuStreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_GLOBAL));
    RANK_CHECK(!pthread_create(&thread, NULL, query, event) && !pthread_join(thread, &expected) && expected);
    RANK_CHECK(cuStreamEndCapture(stream, &graph) == CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);

    RANK_CUDA(cuStreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_RELAXED)); /* now they are allowed */
    RANK_CUDA(cuMemAlloc(&more, 4096));
    RANK_CUDA(cuEventQuery(event));
    RANK_CUDA(cuStreamEndCapture(stream, &graph));
    RANK_CUDA(cuGraphDestroy(graph));

    RANK_CUDA(cuStreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_RELAXED)); /* work from outside */
    RANK_CHECK(cuStreamWaitEvent(stream, event, 0) == CUDA_ERROR_STREAM_CAPTURE_ISOLATION);
    RANK_CHECK(cuStreamEndCapture(stream, &graph) == CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);

    RANK_CUDA(cuStreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_RELAXED)); /* a side stream that does not come back */
    RANK_CUDA(cuEventRecord(fork_event, stream));
    RANK_CUDA(cuStreamWaitEvent(side, fork_event, 0));
    RANK_CUDA(cuMemsetD8Async(memory, 0, 16, side));
    RANK_CHECK(cuStreamEndCapture(stream, &graph) == CUDA_ERROR_STREAM_CAPTURE_UNJOINED);

    RANK_CUDA(cuStreamBeginCapture(blocking, CU_STREAM_CAPTURE_MODE_RELAXED)); /* the legacy stream would wait for a capture */
    RANK_CHECK(cuMemsetD8(memory, 0, 16) == CUDA_ERROR_STREAM_CAPTURE_IMPLICIT);
    RANK_CHECK(cuStreamEndCapture(blocking, &graph) == CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
    RANK_CUDA(cuMemFree(memory));
    RANK_CUDA(cuMemFree(more));
}

static void test_capture_errors(void **state)
{
    (void)state;
    run_ranks(1, rank_capture_errors);
}

/* The order between the default stream and others; what pageable memory means; handles of the dead. */
static void rank_streams(struct rank *rank)
{
    CUstream blocking, nonblocking;
    CUdeviceptr memory;
    uint64_t value = 0, small = 7;
    rank_open(rank);
    RANK_CUDA(cuStreamCreate(&blocking, CU_STREAM_DEFAULT));
    nonblocking = new_stream(rank);
    RANK_CUDA(cuMemAlloc(&memory, 4096));
    RANK_CUDA(cuMemsetD8Async(memory, 0, 4096, nonblocking));
    RANK_CUDA(cuStreamSynchronize(nonblocking));
    RANK_CUDA(cuStreamWaitValue64(blocking, memory, 1, CU_STREAM_WAIT_VALUE_EQ));
    RANK_CUDA(cuMemcpyAsync(memory + 8, (CUdeviceptr)&small, sizeof(small), NULL)); /* behind `blocking`; the source is taken now */
    small = 8;
    RANK_CHECK(cuStreamQuery(NULL) == CUDA_ERROR_NOT_READY);
    RANK_CUDA(cuMemcpyAsync((CUdeviceptr)&value, memory + 8, sizeof(value), nonblocking)); /* waits for itself only */
    RANK_CHECK(value == 0);
    RANK_CUDA(cuStreamWriteValue64(nonblocking, memory, 1, 0));
    RANK_CUDA(cuMemcpyDtoH(&value, memory + 8, sizeof(value)));
    RANK_CHECK(value == 7);
    RANK_CUDA(cuStreamDestroy(blocking));
    RANK_CHECK(cuStreamSynchronize(blocking) == CUDA_ERROR_INVALID_HANDLE);
    RANK_CUDA(cuMemFree(memory));
    RANK_CUDA(cuCtxPopCurrent(NULL));
    RANK_CHECK(cuMemAlloc(&memory, 4096) == CUDA_ERROR_INVALID_CONTEXT);
    RANK_CHECK(cuCtxPopCurrent(NULL) == CUDA_ERROR_INVALID_CONTEXT);
}

static void test_streams(void **state)
{
    (void)state;
    run_ranks(1, rank_streams);
}

/* A device that touches what it may not is lost to this process; the other one is not. */
static void rank_illegal(struct rank *rank)
{
    CUdevice second;
    CUcontext context;
    CUdeviceptr first_memory, second_memory;
    rank_open(rank);
    RANK_CUDA(cuMemAlloc(&first_memory, 4096));
    RANK_CUDA(cuDeviceGet(&second, 1));
    RANK_CUDA(cuDevicePrimaryCtxRetain(&context, second));
    RANK_CUDA(cuCtxPushCurrent(context));
    RANK_CUDA(cuMemAlloc(&second_memory, 4096));
    RANK_CUDA(cuMemcpyAsync(second_memory, first_memory, 16, NULL)); /* no peer access */
    RANK_CHECK(cuStreamSynchronize(NULL) == CUDA_ERROR_ILLEGAL_ADDRESS);
    RANK_CHECK(cuMemAlloc(&second_memory, 16) == CUDA_ERROR_ILLEGAL_ADDRESS);
    RANK_CUDA(cuCtxPopCurrent(NULL));
    RANK_CUDA(cuMemsetD8(first_memory, 0, 16));
    RANK_CUDA(cuCtxSynchronize());
}

static void test_illegal_address(void **state)
{
    (void)state;
    run_ranks(1, rank_illegal);
}

static void add_fault(struct rank *rank, const char *path, const char *line)
{
    FILE *file = fopen(path, "a");
    RANK_CHECK(file && fputs(line, file) >= 0 && !fclose(file));
}

static void rank_injected(struct rank *rank)
{
    char path[] = "/tmp/test-fake-cuda-XXXXXX", mark[sizeof(path) + 8];
    CUdeviceptr memory;
    int fd = mkstemp(path);
    RANK_CHECK(fd >= 0 && !close(fd));
    setenv("TRTCOLL_FAKE_FAULTS", path, 1);
    rank_open(rank);
    RANK_CUDA(cuMemAlloc(&memory, 4096));
    add_fault(rank, path, "# a comment\ncuMemAlloc 2 skip=1\n");
    RANK_CUDA(cuMemFree(memory));
    RANK_CUDA(cuMemAlloc(&memory, 4096));
    RANK_CHECK(cuMemAlloc(&memory, 4096) == CUDA_ERROR_OUT_OF_MEMORY);
    RANK_CUDA(cuMemAlloc(&memory, 4096)); /* once */
    add_fault(rank, path, "cuMemAlloc 2 once\n");
    RANK_CHECK(cuMemAlloc(&memory, 4096) == CUDA_ERROR_OUT_OF_MEMORY);
    add_fault(rank, path, "fault 700 device=1\n");
    RANK_CUDA(cuCtxSynchronize()); /* another device */
    add_fault(rank, path, "fault 700 device=0\n");
    RANK_CHECK(cuCtxSynchronize() == CUDA_ERROR_ILLEGAL_ADDRESS);
    RANK_CHECK(cuMemAlloc(&memory, 4096) == CUDA_ERROR_ILLEGAL_ADDRESS);
    snprintf(mark, sizeof(mark), "%s.3", path);
    RANK_CHECK(!unlink(mark) && !unlink(path));
}

static void test_injected(void **state)
{
    (void)state;
    run_ranks(1, rank_injected);
}

static void rank_visible(struct rank *rank)
{
    CUuuid uuid;
    CUdevice device;
    char name[64];
    int devices;
    setenv("TRTCOLL_FAKE_GPUS", "6", 1);
    setenv("CUDA_VISIBLE_DEVICES", "5,GPU-7c011fa4-e000-4c0d-a000-000000000002,nonsense,1", 1);
    RANK_CHECK(cuDeviceGetCount(&devices) == CUDA_ERROR_NOT_INITIALIZED);
    RANK_CUDA(cuInit(0));
    RANK_CUDA(cuDeviceGetCount(&devices));
    RANK_CHECK(devices == 2);
    RANK_CUDA(cuDeviceGet(&device, 0));
    RANK_CUDA(cuDeviceGetUuid(&uuid, device));
    RANK_CUDA(cuDeviceGetName(name, sizeof(name), device));
    RANK_CHECK(uuid.bytes[15] == 5 && !strcmp(name, "Fake GPU 5"));
    RANK_CUDA(cuDeviceGetUuid(&uuid, 1));
    RANK_CHECK(uuid.bytes[15] == 2);
    RANK_CHECK(cuDeviceGet(&device, 2) == CUDA_ERROR_INVALID_DEVICE);
    if (!fork()) { /* CUDA is not for children */
        _exit(cuDeviceGetCount(&devices) != CUDA_ERROR_NOT_INITIALIZED);
    } else {
        int status;
        RANK_CHECK(wait(&status) > 0 && status == 0);
    }
}

static void test_visible_devices(void **state)
{
    (void)state;
    run_ranks(1, rank_visible);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vmm),      cmocka_unit_test(test_multicast),
        cmocka_unit_test(test_words),    cmocka_unit_test(test_ipc),
        cmocka_unit_test(test_graph),    cmocka_unit_test(test_capture_errors),
        cmocka_unit_test(test_streams),  cmocka_unit_test(test_illegal_address),
        cmocka_unit_test(test_injected), cmocka_unit_test(test_visible_devices),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
