/*
 * ub-finalize (seed-spec 13.4): what an all-reduce has left in shards, whole on every rank. Each rank offers the tokens that it owns,
 * window by window, and takes the others' tokens from them; no other row of its input is read. Bytes are moved as they are.
 */
#include "host/operations.h"
#include "host/step.h"

#include <string.h>

static inline uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* Bytes [at, at + bytes) of the message. */
struct shard {
    uint64_t at, bytes;
};

static struct shard shard_of(const struct tck_comm *comm, uint32_t rank, uint64_t row)
{
    uint64_t first = tcw_shard_first(comm->run->tokens, comm->nranks, rank);
    return (struct shard){first * row, (tcw_shard_first(comm->run->tokens, comm->nranks, rank + 1) - first) * row};
}

static inline uint64_t window_of(const struct shard *shard, uint64_t done, uint64_t window)
{
    return done < shard->bytes ? least(window, shard->bytes - done) : 0;
}

static void collect(struct tck_comm *comm, uint64_t row, uint64_t done, uint64_t window)
{
    for (uint32_t n = 1; n < comm->nranks; n++) {
        uint32_t from = (comm->rank + n) % comm->nranks; /* not all from the same rank at the same time */
        struct shard shard = shard_of(comm, from, row);
        uint64_t bytes = window_of(&shard, done, window);
        memcpy((unsigned char *)comm->run->out[0] + shard.at + done, tck_step_data(comm, from, bytes), bytes);
    }
}

int tck_host_finalize(struct tck_comm *comm)
{
    const struct tck_run *run = comm->run;
    const unsigned char *in = run->in[0];
    unsigned char *out = run->out[0];
    uint64_t row = run->desc->hidden * tcw_dtype_bytes(run->desc->dtype), window = least(TCK_CHUNK_BYTES, comm->capacity);
    struct shard mine = shard_of(comm, comm->rank, row), longest = shard_of(comm, 0, row);
    if (tcw_finalize_is_local(run->desc, comm->nranks, run->tokens)) {
        if (in != out)
            memcpy(out, in, run->tokens * row);
        return 0;
    }
    for (uint64_t done = 0; done < longest.bytes; done += window) {
        uint64_t bytes = window_of(&mine, done, window);
        int code = tck_step_begin(comm);
        if (code)
            return code;
        memcpy(tck_step_data(comm, comm->rank, bytes), in + mine.at + done, bytes);
        tck_step_publish(comm);
        code = tck_step_wait_all(comm);
        if (code)
            return code;
        collect(comm, row, done, window);
        tck_step_end(comm);
    }
    if (in != out)
        memcpy(out + mine.at, in + mine.at, mine.bytes);
    return 0;
}
