#include "nccl_fake.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* Moves what fits; the number of bytes. */
static uint64_t pipe_write(struct nccl_pipe *pipe, const void *data, uint64_t bytes)
{
    uint64_t at = atomic_load_explicit(&pipe->written, memory_order_relaxed);
    uint64_t used = at - atomic_load_explicit(&pipe->read, memory_order_acquire);
    uint64_t length = least(bytes, NCCL_PIPE_BYTES - used);
    uint64_t first = least(length, NCCL_PIPE_BYTES - at % NCCL_PIPE_BYTES);
    memcpy(pipe->data + at % NCCL_PIPE_BYTES, data, first);
    memcpy(pipe->data, (const unsigned char *)data + first, length - first);
    atomic_store_explicit(&pipe->written, at + length, memory_order_release);
    return length;
}

static uint64_t pipe_read(struct nccl_pipe *pipe, void *data, uint64_t bytes)
{
    uint64_t at = atomic_load_explicit(&pipe->read, memory_order_relaxed);
    uint64_t length = least(bytes, atomic_load_explicit(&pipe->written, memory_order_acquire) - at);
    uint64_t first = least(length, NCCL_PIPE_BYTES - at % NCCL_PIPE_BYTES);
    memcpy(data, pipe->data + at % NCCL_PIPE_BYTES, first);
    memcpy((unsigned char *)data + first, pipe->data, length - first);
    atomic_store_explicit(&pipe->read, at + length, memory_order_release);
    return length;
}

static struct nccl_pipe *pipe_of(struct ncclComm *comm, const struct nccl_transfer *transfer)
{
    return transfer->send ? &comm->world->pipes[comm->rank][transfer->peer] : &comm->world->pipes[transfer->peer][comm->rank];
}

/* The length goes ahead, whole: both sides must mean the same message. -1: they do not; 0: not yet; 1: it is through. */
static int announce(struct ncclComm *comm, struct nccl_transfer *transfer)
{
    struct nccl_pipe *pipe = pipe_of(comm, transfer);
    uint64_t length = transfer->bytes, waiting = pipe->written - pipe->read;
    if (transfer->announced)
        return 1;
    if (transfer->send ? NCCL_PIPE_BYTES - waiting < sizeof(length) : waiting < sizeof(length))
        return 0;
    if (transfer->send)
        pipe_write(pipe, &length, sizeof(length));
    else
        pipe_read(pipe, &length, sizeof(length));
    transfer->announced = true;
    if (length == transfer->bytes)
        return 1;
    fprintf(stderr, "fake nccl [%d]: rank %d sends %llu bytes where rank %d expects %llu\n", (int)getpid(), transfer->peer,
            (unsigned long long)length, comm->rank, (unsigned long long)transfer->bytes);
    comm->result = ncclInvalidUsage;
    return -1;
}

/* True if something moved. */
static bool advance(struct ncclComm *comm, struct nccl_transfer *transfer)
{
    struct nccl_pipe *pipe = pipe_of(comm, transfer);
    uint64_t rest = transfer->bytes - transfer->done;
    uint64_t moved =
        transfer->send ? pipe_write(pipe, transfer->data + transfer->done, rest) : pipe_read(pipe, transfer->data + transfer->done, rest);
    transfer->done += moved;
    return moved > 0;
}

static bool is_over(const struct nccl_transfer *transfer)
{
    return transfer->announced && transfer->done == transfer->bytes;
}

bool nccl_exchange(struct ncclComm *comm, struct nccl_transfer *transfers, size_t count)
{
    unsigned naps = 0;
    for (;;) {
        uint32_t busy[2] = {0, 0}; /* peers whose pipe an earlier transfer still uses */
        size_t open = 0;
        bool moved = false;
        for (size_t i = 0; i < count; i++) {
            struct nccl_transfer *transfer = &transfers[i];
            uint32_t bit = UINT32_C(1) << transfer->peer;
            int announced;
            if (is_over(transfer))
                continue;
            open++;
            if (busy[transfer->send] & bit)
                continue;
            busy[transfer->send] |= bit;
            announced = announce(comm, transfer);
            if (announced < 0)
                return false;
            if (announced)
                moved = advance(comm, transfer) || moved;
        }
        if (!open)
            return true;
        if (comm->aborted)
            return false;
        if (moved)
            naps = 0;
        else
            nccl_nap(&naps);
    }
}
