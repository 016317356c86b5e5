#include "nccl_fake.h"

#include "stream.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MAX_CALLS = 1024, MAX_INITS = NCCL_MAX_RANKS, CONNECT_NS = 2000000 };

/* Calls of one communicator on one stream: one operation of the stream. */
struct operation {
    struct ncclComm *comm;
    CUstream stream;
    bool counted; /* in comm->pending; operations of a graph are not */
    size_t count;
    struct nccl_call calls[];
};

/* Operations of one group. */
struct launch {
    CUcontext context; /* of the caller */
    size_t count;
    struct operation *operations[MAX_CALLS];
};

static _Thread_local struct {
    unsigned depth;
    struct nccl_call calls[MAX_CALLS];
    size_t call_count;
    struct ncclComm *inits[MAX_INITS];
    size_t init_count;
    ncclResult_t failure;
} group;

static int run_operation(void *payload)
{
    struct operation *operation = payload;
    return nccl_calls_run(operation->comm, operation->calls, operation->count);
}

static void destroy_operation(void *payload)
{
    struct operation *operation = payload;
    if (operation->counted)
        operation->comm->pending--;
    nccl_comm_drop(operation->comm);
    free(operation);
}

/* Takes out the calls of the first one's communicator and stream. */
static struct operation *take_operation(struct nccl_call *calls, size_t *count)
{
    struct operation *operation = calloc(1, sizeof(*operation) + *count * sizeof(calls[0]));
    size_t kept = 0;
    if (!operation)
        abort();
    operation->comm = calls[0].comm;
    operation->stream = calls[0].stream;
    nccl_comm_hold(operation->comm);
    for (size_t i = 0; i < *count; i++)
        if (calls[i].comm == operation->comm && calls[i].stream == operation->stream)
            operation->calls[operation->count++] = calls[i];
        else
            calls[kept++] = calls[i];
    *count = kept;
    return operation;
}

static ncclResult_t submit(struct operation *operation)
{
    CUstreamCaptureStatus status = CU_STREAM_CAPTURE_STATUS_NONE;
    CUresult result;
    (void)cuStreamIsCapturing(operation->stream, &status);
    if (status == CU_STREAM_CAPTURE_STATUS_NONE) {
        operation->counted = true;
        operation->comm->pending++;
    }
    result = trtcoll_fake_submit(operation->stream, run_operation, destroy_operation, operation);
    return result ? nccl_fail(ncclUnhandledCudaError, "Cuda failure %d", (int)result) : ncclSuccess;
}

static ncclResult_t submit_all(struct launch *launch)
{
    ncclResult_t first = ncclSuccess;
    for (size_t i = 0; i < launch->count; i++) {
        ncclResult_t result = submit(launch->operations[i]);
        first = first ? first : result;
    }
    free(launch);
    return first;
}

/*
 * What the real one does with communicators that must not block, when they have to connect first: the call has returned ncclInProgress,
 * and the work gets into its stream only later.
 */
static void *submit_later(void *arg)
{
    struct launch *launch = arg;
    struct ncclComm *comms[MAX_CALLS];
    size_t count = launch->count;
    ncclResult_t result;
    nanosleep(&(struct timespec){.tv_nsec = CONNECT_NS}, NULL);
    for (size_t i = 0; i < count; i++) {
        comms[i] = launch->operations[i]->comm;
        nccl_comm_hold(comms[i]);
    }
    (void)cuCtxPushCurrent(launch->context);
    result = submit_all(launch);
    (void)cuCtxPopCurrent(NULL);
    for (size_t i = 0; i < count; i++) {
        int expected = ncclInProgress;
        comms[i]->connected = true;
        atomic_compare_exchange_strong(&comms[i]->result, &expected, (int)result);
        nccl_comm_drop(comms[i]);
    }
    return NULL;
}

static ncclResult_t launch_calls(struct nccl_call *calls, size_t count)
{
    struct launch *launch = calloc(1, sizeof(*launch));
    bool later = false;
    pthread_t thread;
    if (!launch)
        abort();
    while (count) {
        struct operation *operation = take_operation(calls, &count);
        later = later || (!operation->comm->blocking && !operation->comm->connected);
        launch->operations[launch->count++] = operation;
    }
    if (!later)
        return submit_all(launch);
    for (size_t i = 0; i < launch->count; i++)
        launch->operations[i]->comm->result = ncclInProgress;
    (void)cuCtxGetCurrent(&launch->context);
    if (pthread_create(&thread, NULL, submit_later, launch))
        abort();
    pthread_detach(thread);
    return ncclInProgress;
}

ncclResult_t nccl_group_add(const struct nccl_call *call)
{
    struct nccl_call alone = *call;
    if (!group.depth)
        return launch_calls(&alone, 1);
    if (group.call_count == MAX_CALLS)
        return nccl_fail(ncclInternalError, "too many calls in a group");
    group.calls[group.call_count++] = alone;
    return ncclSuccess;
}

bool nccl_group_add_init(struct ncclComm *comm)
{
    if (!group.depth || group.init_count == MAX_INITS)
        return false;
    nccl_comm_hold(comm);
    group.inits[group.init_count++] = comm;
    return true;
}

ncclResult_t ncclGroupStart(void)
{
    ncclResult_t result = nccl_enter("ncclGroupStart");
    if (!result)
        group.depth++;
    return result;
}

static ncclResult_t wait_inits(void)
{
    ncclResult_t first = ncclSuccess;
    for (size_t i = 0; i < group.init_count; i++) {
        struct ncclComm *comm = group.inits[i];
        unsigned naps = 0;
        while (comm->blocking && comm->result == ncclInProgress)
            nccl_nap(&naps);
        first = first ? first : (ncclResult_t)comm->result;
        nccl_comm_drop(comm);
    }
    group.init_count = 0;
    return first;
}

ncclResult_t ncclGroupEnd(void)
{
    ncclResult_t result = nccl_enter("ncclGroupEnd");
    size_t count = group.call_count;
    if (!group.depth)
        return nccl_fail(ncclInvalidUsage, "ncclGroupEnd without ncclGroupStart");
    if (--group.depth)
        return result;
    group.call_count = 0;
    if (!result)
        result = wait_inits();
    if (!result && count)
        result = launch_calls(group.calls, count);
    return result;
}
