/* The fake NCCL: four processes, every operation, refusals, and ranks that never come. */
#include "fake_cuda_ranks.h"

#include <nccl.h>

enum { COUNT = 100000, PIECE = COUNT / 4, BYTES = COUNT * 4 };

#define RANK_NCCL(call)                                                                                                                    \
    do {                                                                                                                                   \
        ncclResult_t result_ = (call);                                                                                                     \
        if (result_) {                                                                                                                     \
            fprintf(stderr, "rank %d: %s:%d: %s: %s\n", rank->rank, __FILE__, __LINE__, #call, ncclGetLastError(NULL));                    \
            _exit(1);                                                                                                                      \
        }                                                                                                                                  \
    } while (0)

/* After a call that may answer ncclInProgress. */
static void settle(struct rank *rank, ncclComm_t comm, ncclResult_t result)
{
    time_t end = time(NULL) + RANK_SECONDS;
    while (result == ncclInProgress) {
        RANK_CHECK(time(NULL) < end);
        RANK_NCCL(ncclCommGetAsyncError(comm, &result));
    }
    RANK_CHECK(result == ncclSuccess);
}

static ncclResult_t start(struct rank *rank, int blocking, ncclComm_t *comm)
{
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    ncclUniqueId id;
    config.blocking = blocking;
    if (rank->rank == 0) {
        RANK_NCCL(ncclGetUniqueId(&id));
        memcpy(rank->shared->bytes, &id, sizeof(id));
        rank->shared->words[0]++;
    }
    rank_await(rank, 0, 1);
    memcpy(&id, rank->shared->bytes, sizeof(id));
    return ncclCommInitRankConfig(comm, rank->nranks, id, rank->rank, &config);
}

/* Two buffers on the device, and their contents here. */
struct buffers {
    CUdeviceptr in, out;
    CUstream stream;
    float host[COUNT];
};

static void fill(struct rank *rank, struct buffers *b)
{
    for (int i = 0; i < COUNT; i++)
        b->host[i] = (float)(rank->rank * 1000 + i % 1000);
    RANK_CUDA(cuMemcpyHtoD(b->in, b->host, BYTES));
    RANK_CUDA(cuMemsetD8(b->out, 0xff, BYTES));
    RANK_CUDA(cuCtxSynchronize());
}

static const float *fetch(struct rank *rank, struct buffers *b)
{
    RANK_CUDA(cuStreamSynchronize(b->stream));
    RANK_CUDA(cuMemcpyDtoH(b->host, b->out, BYTES));
    return b->host;
}

static void open_buffers(struct rank *rank, struct buffers *b)
{
    RANK_CUDA(cuStreamCreateWithPriority(&b->stream, CU_STREAM_NON_BLOCKING, 0));
    RANK_CUDA(cuMemAlloc(&b->in, BYTES));
    RANK_CUDA(cuMemAlloc(&b->out, BYTES));
    fill(rank, b);
}

static float sum_at(int i)
{
    return (float)(6000 + 4 * (i % 1000));
}

static void check_reductions(struct rank *rank, ncclComm_t comm, struct buffers *b)
{
    const float *out;
    RANK_NCCL(ncclAllReduce((void *)b->in, (void *)b->out, COUNT, ncclFloat, ncclSum, comm, b->stream));
    out = fetch(rank, b);
    for (int i = 0; i < COUNT; i++)
        RANK_CHECK(out[i] == sum_at(i));
    fill(rank, b);
    RANK_NCCL(ncclReduceScatter((void *)b->in, (void *)b->out, PIECE, ncclFloat, ncclSum, comm, b->stream));
    out = fetch(rank, b);
    for (int i = 0; i < PIECE; i++)
        RANK_CHECK(out[i] == sum_at(rank->rank * PIECE + i));
    fill(rank, b);
    RANK_NCCL(ncclReduce((void *)b->in, (void *)b->out, COUNT, ncclFloat, ncclMax, 2, comm, b->stream));
    out = fetch(rank, b);
    if (rank->rank == 2)
        for (int i = 0; i < COUNT; i++)
            RANK_CHECK(out[i] == (float)(3000 + i % 1000));
}

static void check_moves(struct rank *rank, ncclComm_t comm, struct buffers *b)
{
    int right = (rank->rank + 1) % rank->nranks, left = (rank->rank + rank->nranks - 1) % rank->nranks;
    const float *out;
    fill(rank, b);
    RANK_NCCL(ncclAllGather((void *)b->in, (void *)b->out, PIECE, ncclFloat, comm, b->stream));
    out = fetch(rank, b);
    for (int i = 0; i < COUNT; i++)
        RANK_CHECK(out[i] == (float)(i / PIECE * 1000 + i % PIECE % 1000));
    fill(rank, b);
    RANK_NCCL(ncclBroadcast((void *)b->in, (void *)b->out, COUNT, ncclFloat, 3, comm, b->stream));
    out = fetch(rank, b);
    for (int i = 0; i < COUNT; i++)
        RANK_CHECK(out[i] == (float)(3000 + i % 1000));
    fill(rank, b);
    RANK_NCCL(ncclGroupStart()); /* a ring, which would stand still without the group */
    RANK_NCCL(ncclSend((void *)b->in, COUNT, ncclFloat, right, comm, b->stream));
    RANK_NCCL(ncclRecv((void *)b->out, COUNT, ncclFloat, left, comm, b->stream));
    RANK_NCCL(ncclGroupEnd());
    out = fetch(rank, b);
    for (int i = 0; i < COUNT; i++)
        RANK_CHECK(out[i] == (float)(left * 1000 + i % 1000));
}

static void rank_operations(struct rank *rank)
{
    static struct buffers b;
    ncclComm_t comm;
    int number;
    rank_open(rank);
    open_buffers(rank, &b);
    RANK_NCCL(start(rank, 1, &comm));
    RANK_NCCL(ncclCommUserRank(comm, &number));
    RANK_CHECK(number == rank->rank);
    RANK_NCCL(ncclCommCount(comm, &number));
    RANK_CHECK(number == rank->nranks);
    check_reductions(rank, comm, &b);
    check_moves(rank, comm, &b);
    RANK_CHECK(ncclAllReduce((void *)b.in, (void *)b.out, 1, ncclNumTypes, ncclSum, comm, b.stream) == ncclInvalidArgument);
    RANK_NCCL(ncclCommFinalize(comm));
    RANK_NCCL(ncclCommDestroy(comm));
}

static void test_operations(void **state)
{
    (void)state;
    run_ranks(4, rank_operations);
}

/* bf16 is summed in fp32, in the order of the ranks, and rounded once: 256 + 1 + 1 + 1, which bf16 steps would leave at 256. */
static void rank_bf16(struct rank *rank)
{
    static struct buffers b;
    ncclComm_t comm;
    ncclResult_t result;
    uint16_t value = rank->rank ? 0x3f80 : 0x4380, sum;
    rank_open(rank);
    open_buffers(rank, &b);
    result = start(rank, 0, &comm);
    RANK_CHECK(result == ncclInProgress);
    settle(rank, comm, result);
    RANK_CUDA(cuMemcpyHtoD(b.in, &value, sizeof(value)));
    RANK_CUDA(cuCtxSynchronize());
    result = ncclAllReduce((void *)b.in, (void *)b.out, 1, ncclBfloat16, ncclSum, comm, b.stream);
    RANK_CHECK(result == ncclInProgress); /* the first time it has to connect */
    settle(rank, comm, result);
    RANK_CUDA(cuStreamSynchronize(b.stream));
    RANK_CUDA(cuMemcpyDtoH(&sum, b.out, sizeof(sum)));
    RANK_CHECK(sum == 0x4382); /* 259 is between 258 and 260: to even */
    RANK_NCCL(ncclAllReduce((void *)b.out, (void *)b.out, 1, ncclBfloat16, ncclMin, comm, b.stream));
    RANK_CUDA(cuStreamSynchronize(b.stream));
    RANK_NCCL(ncclCommDestroy(comm));
}

static void test_not_blocking(void **state)
{
    (void)state;
    run_ranks(4, rank_bf16);
}

static void rank_captured(struct rank *rank)
{
    static struct buffers b;
    const float *out;
    CUgraph graph;
    CUgraphExec executable;
    ncclComm_t comm;
    rank_open(rank);
    open_buffers(rank, &b);
    RANK_NCCL(start(rank, 1, &comm));
    RANK_CUDA(cuStreamBeginCapture(b.stream, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL));
    RANK_NCCL(ncclAllReduce((void *)b.in, (void *)b.out, COUNT, ncclFloat, ncclSum, comm, b.stream));
    RANK_CUDA(cuStreamEndCapture(b.stream, &graph));
    RANK_CUDA(cuGraphInstantiate(&executable, graph, 0));
    RANK_CUDA(cuGraphDestroy(graph));
    for (int n = 0; n < 3; n++) {
        fill(rank, &b);
        RANK_CUDA(cuGraphLaunch(executable, b.stream));
        out = fetch(rank, &b);
        for (int i = 0; i < COUNT; i++)
            RANK_CHECK(out[i] == sum_at(i));
    }
    RANK_CUDA(cuGraphExecDestroy(executable));
    RANK_NCCL(ncclCommDestroy(comm));
}

static void test_captured(void **state)
{
    (void)state;
    run_ranks(4, rank_captured);
}

/* Rank 1 takes no part in the second operation: the others wait until they abort, and their streams go on. */
static void rank_abort(struct rank *rank)
{
    static struct buffers b;
    ncclComm_t comm;
    rank_open(rank);
    open_buffers(rank, &b);
    RANK_NCCL(start(rank, 1, &comm));
    RANK_NCCL(ncclAllReduce((void *)b.in, (void *)b.out, COUNT, ncclFloat, ncclSum, comm, b.stream));
    RANK_CUDA(cuStreamSynchronize(b.stream));
    if (rank->rank == 0) {
        RANK_NCCL(ncclAllReduce((void *)b.in, (void *)b.out, COUNT, ncclFloat, ncclSum, comm, b.stream));
        usleep(20000);
        RANK_CHECK(cuStreamQuery(b.stream) == CUDA_ERROR_NOT_READY);
    }
    RANK_NCCL(ncclCommAbort(comm));
    RANK_CUDA(cuStreamSynchronize(b.stream));
    RANK_CUDA(cuMemFree(b.in));
}

static void test_abort(void **state)
{
    (void)state;
    run_ranks(2, rank_abort);
}

/* The other rank never comes: joining goes on until it is aborted. */
static void rank_alone(struct rank *rank)
{
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    ncclUniqueId id;
    ncclComm_t comm;
    ncclResult_t result;
    rank_open(rank);
    config.blocking = 0;
    RANK_NCCL(ncclGetUniqueId(&id));
    RANK_CHECK(ncclCommInitRankConfig(&comm, 2, id, 0, &config) == ncclInProgress);
    RANK_NCCL(ncclCommGetAsyncError(comm, &result));
    RANK_CHECK(result == ncclInProgress);
    RANK_CHECK(ncclAllReduce(NULL, NULL, 0, ncclFloat, ncclSum, comm, NULL) == ncclInvalidArgument);
    RANK_NCCL(ncclCommAbort(comm));
    RANK_CHECK(ncclCommInitRankConfig(&comm, 2, id, 2, &config) == ncclInvalidArgument);
}

static void test_alone(void **state)
{
    (void)state;
    run_ranks(1, rank_alone);
}

/* Ranks that disagree about the size of a message find out. */
static void rank_mismatch(struct rank *rank)
{
    static struct buffers b;
    ncclComm_t comm;
    ncclResult_t result;
    rank_open(rank);
    open_buffers(rank, &b);
    RANK_NCCL(start(rank, 1, &comm));
    RANK_NCCL(ncclAllReduce((void *)b.in, (void *)b.out, rank->rank ? 10 : 20, ncclFloat, ncclSum, comm, b.stream));
    RANK_CUDA(cuStreamSynchronize(b.stream));
    RANK_NCCL(ncclCommGetAsyncError(comm, &result));
    RANK_CHECK(result == ncclInvalidUsage);
    rank->shared->words[1 + rank->rank] = 1; /* nobody takes the memory away before the other has seen it */
    rank_await(rank, 2 - (unsigned)rank->rank, 1);
    RANK_NCCL(ncclCommAbort(comm));
}

static void test_mismatch(void **state)
{
    (void)state;
    run_ranks(2, rank_mismatch);
}

static void rank_memory(struct rank *rank)
{
    ncclComm_t comm;
    ncclWindow_t window;
    void *pointer;
    rank_open(rank);
    RANK_NCCL(start(rank, 1, &comm));
    RANK_NCCL(ncclMemAlloc(&pointer, 5000));
    RANK_CUDA(cuMemsetD8((CUdeviceptr)pointer, 1, 5000));
    RANK_CUDA(cuCtxSynchronize()); /* freeing does not wait */
    RANK_NCCL(ncclCommWindowRegister(comm, pointer, 5000, &window, NCCL_WIN_COLL_SYMMETRIC));
    RANK_CHECK(window);
    RANK_NCCL(ncclCommWindowDeregister(comm, window));
    RANK_NCCL(ncclMemFree(pointer));
    RANK_NCCL(ncclCommDestroy(comm));
    RANK_CUDA(cuCtxSynchronize());
}

static void test_memory(void **state)
{
    (void)state;
    run_ranks(2, rank_memory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_operations), cmocka_unit_test(test_not_blocking), cmocka_unit_test(test_captured),
        cmocka_unit_test(test_abort),      cmocka_unit_test(test_alone),        cmocka_unit_test(test_mismatch),
        cmocka_unit_test(test_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
