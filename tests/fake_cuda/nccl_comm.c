#include "nccl_fake.h"

#include "inject.h"

#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* references */
static _Thread_local char last_error[256];

ncclResult_t nccl_fail(ncclResult_t result, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    vsnprintf(last_error, sizeof(last_error), format, list);
    va_end(list);
    return result;
}

ncclResult_t nccl_enter(const char *function)
{
    int injected = trtcoll_fake_injected(function);
    return injected ? nccl_fail((ncclResult_t)injected, "%s: as told by TRTCOLL_FAKE_FAULTS", function) : ncclSuccess;
}

void nccl_nap(unsigned *naps)
{
    enum { YIELDS = 64, STEP_NS = 20000, LONGEST_NS = 500000 };
    unsigned n = *naps < 1000 ? (*naps)++ : *naps;
    long ns = n < YIELDS ? 0 : (long)(n - YIELDS + 1) * STEP_NS;
    if (!ns)
        sched_yield();
    else
        nanosleep(&(struct timespec){.tv_nsec = ns < LONGEST_NS ? ns : LONGEST_NS}, NULL);
}

void nccl_comm_hold(struct ncclComm *comm)
{
    pthread_mutex_lock(&lock);
    comm->references++;
    pthread_mutex_unlock(&lock);
}

void nccl_comm_drop(struct ncclComm *comm)
{
    bool last;
    pthread_mutex_lock(&lock);
    last = !--comm->references;
    pthread_mutex_unlock(&lock);
    if (!last)
        return;
    if (comm->world)
        nccl_world_close(comm->world);
    pthread_mutex_destroy(&comm->running);
    nccl_windows_free(comm);
    free(comm);
}

ncclResult_t nccl_comm_check(const struct ncclComm *comm)
{
    if (!comm)
        return nccl_fail(ncclInvalidArgument, "comm is NULL");
    if (comm->result == ncclInProgress)
        return nccl_fail(ncclInvalidArgument, "the communicator is used before its last call has ended");
    if (comm->finalized)
        return nccl_fail(ncclInvalidUsage, "the communicator is finalized");
    return comm->result ? nccl_fail((ncclResult_t)comm->result, "the communicator has failed") : ncclSuccess;
}

static ncclResult_t come(struct ncclComm *comm)
{
    struct nccl_world *world = comm->world;
    uint32_t none = 0, wanted = (uint32_t)comm->nranks, bit = UINT32_C(1) << comm->rank;
    unsigned naps = 0;
    if (!atomic_compare_exchange_strong(&world->nranks, &none, wanted) && none != wanted)
        return nccl_fail(ncclInvalidUsage, "%u ranks here, %u elsewhere", wanted, none);
    if (atomic_fetch_or(&world->came, bit) & bit)
        return nccl_fail(ncclInvalidUsage, "rank %d is there twice", comm->rank);
    (void)cuDeviceGetUuid(&world->devices[comm->rank], comm->device);
    world->ready++;
    while (world->ready < wanted) {
        if (comm->aborted)
            return ncclInternalError;
        nccl_nap(&naps);
    }
    for (int i = 0; i < comm->nranks; i++)
        if (i != comm->rank && !memcmp(&world->devices[i], &world->devices[comm->rank], sizeof(world->devices[i])))
            return nccl_fail(ncclInvalidUsage, "Duplicate GPU detected: rank %d and rank %d", comm->rank, i);
    return ncclSuccess;
}

void nccl_comm_join(struct ncclComm *comm)
{
    ncclResult_t result;
    comm->world = nccl_world_open(&comm->id);
    result = comm->world ? come(comm) : nccl_fail(ncclSystemError, "the maker of the unique id cannot be reached");
    nccl_world_sweep();
    comm->result = (int)result;
}

static void *join_later(void *arg)
{
    struct ncclComm *comm = arg;
    nccl_comm_join(comm);
    nccl_comm_drop(comm);
    return NULL;
}

static void start_joining(struct ncclComm *comm)
{
    pthread_t thread;
    nccl_comm_hold(comm);
    if (pthread_create(&thread, NULL, join_later, comm))
        abort();
    pthread_detach(thread);
}

ncclResult_t ncclCommInitRankConfig(ncclComm_t *out, int nranks, ncclUniqueId id, int rank, ncclConfig_t *config)
{
    const ncclConfig_t defaults = NCCL_CONFIG_INITIALIZER;
    struct ncclComm *comm;
    ncclResult_t result = nccl_enter("ncclCommInitRankConfig");
    if (result)
        return result;
    if (!config)
        config = (ncclConfig_t *)&defaults;
    if (config->magic != defaults.magic || config->size > sizeof(*config))
        return nccl_fail(ncclInvalidArgument, "the config has not been initialized");
    if (!out || nranks < 1 || nranks > NCCL_MAX_RANKS || rank < 0 || rank >= nranks)
        return nccl_fail(ncclInvalidArgument, "rank %d of %d", rank, nranks);
    comm = calloc(1, sizeof(*comm));
    if (!comm)
        abort();
    comm->references = 1;
    comm->id = id;
    comm->rank = rank;
    comm->nranks = nranks;
    comm->blocking = config->blocking != 0;
    comm->result = ncclInProgress;
    pthread_mutex_init(&comm->running, NULL);
    if (cuCtxGetCurrent(&comm->context) || !comm->context || cuCtxGetDevice(&comm->device)) {
        nccl_comm_drop(comm);
        return nccl_fail(ncclUnhandledCudaError, "no device is current");
    }
    *out = comm;
    if (nccl_group_add_init(comm)) {
        start_joining(comm);
        return ncclSuccess;
    }
    if (!comm->blocking) {
        start_joining(comm);
        return ncclInProgress;
    }
    nccl_comm_join(comm);
    result = (ncclResult_t)comm->result;
    if (result) {
        *out = NULL;
        nccl_comm_drop(comm);
    }
    return result;
}

ncclResult_t ncclCommInitRank(ncclComm_t *out, int nranks, ncclUniqueId id, int rank)
{
    return ncclCommInitRankConfig(out, nranks, id, rank, NULL);
}

/*
 * All ranks, in their order: nothing else is needed. The child takes its parent's pipes over, so the parent can only be destroyed
 * afterwards.
 */
ncclResult_t ncclCommSplit(ncclComm_t parent, int color, int key, ncclComm_t *out, ncclConfig_t *config)
{
    struct ncclComm *comm;
    ncclResult_t result = nccl_enter("ncclCommSplit");
    if (!result)
        result = nccl_comm_check(parent);
    if (result)
        return result;
    if (!out || color || key != parent->rank)
        return nccl_fail(ncclInvalidArgument, "the fake splits off all ranks in their order, as color 0");
    comm = calloc(1, sizeof(*comm));
    if (!comm)
        abort();
    comm->references = 1;
    comm->id = parent->id;
    comm->rank = parent->rank;
    comm->nranks = parent->nranks;
    comm->blocking = config ? config->blocking != 0 : parent->blocking;
    comm->context = parent->context;
    comm->device = parent->device;
    comm->world = parent->world;
    parent->world = NULL;
    parent->finalized = true;
    pthread_mutex_init(&comm->running, NULL);
    *out = comm;
    return parent->blocking ? ncclSuccess : ncclInProgress;
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t *async)
{
    ncclResult_t result = nccl_enter("ncclCommGetAsyncError");
    if (result)
        return result;
    if (!comm || !async)
        return nccl_fail(ncclInvalidArgument, "comm is NULL");
    *async = (ncclResult_t)comm->result;
    if (!*async && comm->finalized && comm->pending)
        *async = ncclInProgress;
    return ncclSuccess;
}

static void wait_idle(struct ncclComm *comm)
{
    unsigned naps = 0;
    while (comm->pending && !comm->aborted)
        nccl_nap(&naps);
}

ncclResult_t ncclCommFinalize(ncclComm_t comm)
{
    ncclResult_t result = nccl_enter("ncclCommFinalize");
    if (!result)
        result = nccl_comm_check(comm);
    if (result)
        return result;
    comm->finalized = true;
    if (!comm->blocking)
        return comm->pending ? ncclInProgress : ncclSuccess;
    wait_idle(comm);
    return ncclSuccess;
}

ncclResult_t ncclCommDestroy(ncclComm_t comm)
{
    ncclResult_t result = nccl_enter("ncclCommDestroy");
    if (result || !comm)
        return result;
    if (!comm->result)
        wait_idle(comm);
    else
        comm->aborted = true;
    nccl_comm_drop(comm);
    return ncclSuccess;
}

/* Operations that run end at once, those still queued will do nothing. */
ncclResult_t ncclCommAbort(ncclComm_t comm)
{
    ncclResult_t result = nccl_enter("ncclCommAbort");
    if (result || !comm)
        return result;
    comm->aborted = true;
    pthread_mutex_lock(&comm->running);
    pthread_mutex_unlock(&comm->running);
    nccl_comm_drop(comm);
    return ncclSuccess;
}

/* NOLINTNEXTLINE(misc-misplaced-const): as the header has it */
ncclResult_t ncclCommCount(const ncclComm_t comm, int *count)
{
    if (!comm)
        return nccl_fail(ncclInvalidArgument, "comm is NULL");
    *count = comm->nranks;
    return ncclSuccess;
}

/* NOLINTNEXTLINE(misc-misplaced-const): as the header has it */
ncclResult_t ncclCommUserRank(const ncclComm_t comm, int *rank)
{
    if (!comm)
        return nccl_fail(ncclInvalidArgument, "comm is NULL");
    *rank = comm->rank;
    return ncclSuccess;
}

/* NOLINTNEXTLINE(misc-misplaced-const): as the header has it */
ncclResult_t ncclCommCuDevice(const ncclComm_t comm, int *device)
{
    if (!comm)
        return nccl_fail(ncclInvalidArgument, "comm is NULL");
    *device = comm->device;
    return ncclSuccess;
}

ncclResult_t ncclGetVersion(int *version)
{
    ncclResult_t result = nccl_enter("ncclGetVersion");
    if (!result)
        *version = NCCL_VERSION_CODE;
    return result;
}

const char *ncclGetErrorString(ncclResult_t result)
{
    static const char *const texts[ncclNumResults] = {"no error",
                                                      "unhandled cuda error",
                                                      "unhandled system error",
                                                      "internal error",
                                                      "invalid argument",
                                                      "invalid usage",
                                                      "remote process exited or there was a network error",
                                                      "operation in progress"};
    return (unsigned)result < ncclNumResults ? texts[result] : "unknown result code";
}

const char *ncclGetLastError(ncclComm_t comm)
{
    (void)comm;
    return last_error;
}
