#include "nccl_fake.h"

#include "memory.h"

#include <stdlib.h>
#include <string.h>

/* What everybody sent of a chunk, in rank order; transfers to and from all others. */
struct gathering {
    unsigned char *parts[NCCL_MAX_RANKS];
    struct nccl_transfer transfers[2 * NCCL_MAX_RANKS];
    size_t count;
};

static void send_to(struct gathering *g, int peer, const void *data, uint64_t bytes)
{
    g->transfers[g->count++] = (struct nccl_transfer){.peer = peer, .send = true, .data = (unsigned char *)(uintptr_t)data, .bytes = bytes};
}

static void receive_from(struct gathering *g, int peer, void *data, uint64_t bytes)
{
    g->transfers[g->count++] = (struct nccl_transfer){.peer = peer, .data = data, .bytes = bytes};
}

/*
 * The reductions: element `first` on of the result of rank `to` (-1: of all ranks, the same data), `count` of them. `in` is where this
 * rank's contribution to rank r's result begins: in + r * stride.
 */
static bool reduce_chunk(const struct nccl_call *call, unsigned char *scratch, uint64_t stride, size_t first, size_t count)
{
    struct ncclComm *comm = call->comm;
    size_t size = nccl_type_bytes(call->type), at = first * size, bytes = count * size;
    const unsigned char *in = call->send;
    bool wants = call->kind != NCCL_REDUCE || comm->rank == call->peer;
    const void *src[NCCL_MAX_RANKS];
    struct gathering g = {.count = 0};
    for (int i = 0; i < comm->nranks; i++) {
        src[i] = scratch + (size_t)i * NCCL_CHUNK_BYTES;
        if (i == comm->rank)
            continue;
        if (call->kind != NCCL_REDUCE || i == call->peer)
            send_to(&g, i, in + (uint64_t)i * stride + at, bytes);
        if (wants)
            receive_from(&g, i, scratch + (size_t)i * NCCL_CHUNK_BYTES, bytes);
    }
    src[comm->rank] = in + (uint64_t)comm->rank * stride + at;
    if (!nccl_exchange(comm, g.transfers, g.count))
        return false;
    if (wants)
        nccl_reduce((unsigned char *)call->receive + at, src, (unsigned)comm->nranks, count, call->type, call->op);
    return true;
}

static bool reduce(const struct nccl_call *call)
{
    size_t size = nccl_type_bytes(call->type), step = NCCL_CHUNK_BYTES / size;
    uint64_t stride = call->kind == NCCL_REDUCE_SCATTER ? call->count * size : 0;
    unsigned char *scratch = malloc((size_t)call->comm->nranks * NCCL_CHUNK_BYTES);
    bool done = true;
    if (!scratch)
        abort();
    for (size_t first = 0; first < call->count && done; first += step)
        done = reduce_chunk(call, scratch, stride, first, call->count - first < step ? call->count - first : step);
    free(scratch);
    return done;
}

static bool broadcast(const struct nccl_call *call)
{
    struct ncclComm *comm = call->comm;
    uint64_t bytes = call->count * nccl_type_bytes(call->type);
    struct gathering g = {.count = 0};
    if (comm->rank != call->peer) {
        receive_from(&g, call->peer, call->receive, bytes);
    } else {
        if (call->receive != call->send)
            memmove(call->receive, call->send, bytes);
        for (int i = 0; i < comm->nranks; i++)
            if (i != comm->rank)
                send_to(&g, i, call->send, bytes);
    }
    return nccl_exchange(comm, g.transfers, g.count);
}

static bool all_gather(const struct nccl_call *call)
{
    struct ncclComm *comm = call->comm;
    uint64_t bytes = call->count * nccl_type_bytes(call->type);
    unsigned char *out = call->receive, *mine = out + (uint64_t)comm->rank * bytes;
    struct gathering g = {.count = 0};
    if (mine != call->send)
        memmove(mine, call->send, bytes);
    for (int i = 0; i < comm->nranks; i++) {
        if (i == comm->rank)
            continue;
        send_to(&g, i, mine, bytes);
        receive_from(&g, i, out + (uint64_t)i * bytes, bytes);
    }
    return nccl_exchange(comm, g.transfers, g.count);
}

static bool point_to_point(struct ncclComm *comm, const struct nccl_call *calls, size_t count)
{
    struct nccl_transfer *transfers = calloc(count, sizeof(*transfers));
    size_t used = 0;
    bool done;
    if (!transfers)
        abort();
    for (size_t i = 0; i < count; i++) {
        uint64_t bytes = calls[i].count * nccl_type_bytes(calls[i].type);
        void *data = calls[i].kind == NCCL_SEND ? (void *)(uintptr_t)calls[i].send : calls[i].receive;
        if (calls[i].kind == NCCL_SEND || calls[i].kind == NCCL_RECV)
            transfers[used++] =
                (struct nccl_transfer){.peer = calls[i].peer, .send = calls[i].kind == NCCL_SEND, .data = data, .bytes = bytes};
    }
    done = nccl_exchange(comm, transfers, used);
    free(transfers);
    return done;
}

static CUresult touch(const struct nccl_call *call)
{
    uint64_t bytes = call->count * nccl_type_bytes(call->type), all = bytes * (uint64_t)call->comm->nranks;
    bool root = call->comm->rank == call->peer;
    CUcontext context = call->comm->context;
    CUresult result = CUDA_SUCCESS;
    if (call->kind != NCCL_RECV && (call->kind != NCCL_BROADCAST || root))
        result = trtcoll_fake_touch(context, "nccl", call->send, call->kind == NCCL_REDUCE_SCATTER ? all : bytes, false);
    if (!result && call->kind != NCCL_SEND && (call->kind != NCCL_REDUCE || root))
        result = trtcoll_fake_touch(context, "nccl", call->receive, call->kind == NCCL_ALL_GATHER ? all : bytes, true);
    return result;
}

static bool collective(const struct nccl_call *call)
{
    switch (call->kind) {
    case NCCL_ALL_REDUCE:
    case NCCL_REDUCE:
    case NCCL_REDUCE_SCATTER:
        return reduce(call);
    case NCCL_BROADCAST:
        return broadcast(call);
    case NCCL_ALL_GATHER:
        return all_gather(call);
    default:
        return true;
    }
}

int nccl_calls_run(struct ncclComm *comm, const struct nccl_call *calls, size_t count)
{
    CUresult result = CUDA_SUCCESS;
    bool going = true;
    for (size_t i = 0; i < count && !result; i++)
        result = touch(&calls[i]);
    if (result)
        return result;
    pthread_mutex_lock(&comm->running);
    if (comm->aborted || comm->result == ncclInvalidUsage)
        going = false;
    for (size_t i = 0; i < count && going; i++)
        going = collective(&calls[i]);
    if (going)
        (void)point_to_point(comm, calls, count);
    pthread_mutex_unlock(&comm->running);
    return CUDA_SUCCESS;
}

static ncclResult_t add(const char *function, struct nccl_call *call)
{
    ncclResult_t result = nccl_enter(function);
    if (!result)
        result = nccl_comm_check(call->comm);
    if (result)
        return result;
    if (!nccl_type_bytes(call->type) || (unsigned)call->op >= ncclNumOps || call->peer < 0 || call->peer >= call->comm->nranks)
        return nccl_fail(ncclInvalidArgument, "%s: type %d, operation %d, peer %d", function, call->type, call->op, call->peer);
    return nccl_group_add(call);
}

ncclResult_t ncclAllReduce(const void *send, void *receive, size_t count, ncclDataType_t type, ncclRedOp_t op, ncclComm_t comm,
                           cudaStream_t stream)
{
    struct nccl_call call = {NCCL_ALL_REDUCE, comm, stream, send, receive, count, type, op, 0};
    return add("ncclAllReduce", &call);
}

ncclResult_t ncclReduce(const void *send, void *receive, size_t count, ncclDataType_t type, ncclRedOp_t op, int root, ncclComm_t comm,
                        cudaStream_t stream)
{
    struct nccl_call call = {NCCL_REDUCE, comm, stream, send, receive, count, type, op, root};
    return add("ncclReduce", &call);
}

ncclResult_t ncclBroadcast(const void *send, void *receive, size_t count, ncclDataType_t type, int root, ncclComm_t comm,
                           cudaStream_t stream)
{
    struct nccl_call call = {NCCL_BROADCAST, comm, stream, send, receive, count, type, ncclSum, root};
    return add("ncclBroadcast", &call);
}

ncclResult_t ncclAllGather(const void *send, void *receive, size_t count, ncclDataType_t type, ncclComm_t comm, cudaStream_t stream)
{
    struct nccl_call call = {NCCL_ALL_GATHER, comm, stream, send, receive, count, type, ncclSum, 0};
    return add("ncclAllGather", &call);
}

ncclResult_t ncclReduceScatter(const void *send, void *receive, size_t count, ncclDataType_t type, ncclRedOp_t op, ncclComm_t comm,
                               cudaStream_t stream)
{
    struct nccl_call call = {NCCL_REDUCE_SCATTER, comm, stream, send, receive, count, type, op, 0};
    return add("ncclReduceScatter", &call);
}

ncclResult_t ncclSend(const void *send, size_t count, ncclDataType_t type, int peer, ncclComm_t comm, cudaStream_t stream)
{
    struct nccl_call call = {NCCL_SEND, comm, stream, send, NULL, count, type, ncclSum, peer};
    return add("ncclSend", &call);
}

ncclResult_t ncclRecv(void *receive, size_t count, ncclDataType_t type, int peer, ncclComm_t comm, cudaStream_t stream)
{
    struct nccl_call call = {NCCL_RECV, comm, stream, NULL, receive, count, type, ncclSum, peer};
    return add("ncclRecv", &call);
}
