/*
 * Operations that move tensors between ranks: all-gather, reduce-scatter, all-to-all, broadcast, barrier. Each is a few streams
 * (stream.h), exchanged window by window, one window per step; a rank whose stream is shorter takes part in all steps with less or
 * nothing.
 */
#include "host/loops.h"
#include "host/operations.h"
#include "host/step.h"
#include "host/stream.h"

static inline uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* Extents of one run of all-gather or reduce-scatter along the tensor's middle dimension. */
struct extents {
    uint64_t total;
    uint64_t at[TCK_HOST_MAX_RANKS];
    uint64_t of[TCK_HOST_MAX_RANKS];
};

static void measure(const struct tck_comm *comm, const struct tcw_tensor *tensor, struct extents *extents)
{
    const struct tck_run *run = comm->run;
    extents->total = 0;
    for (uint32_t i = 0; i < comm->nranks; i++) {
        extents->at[i] = extents->total;
        extents->of[i] = run->desc->flags & TCW_PLAN_SIZES ? run->desc->sizes[i] : run->tokens ? run->tokens : tensor->extent;
        extents->total += extents->of[i];
    }
}

/* Streams of all ranks' slices of the concatenated tensors, and of this rank's own tensors. */
struct slices {
    struct tck_stream whole[TCK_HOST_MAX_RANKS];
    struct tck_stream own;
    uint64_t longest;
};

static void slice(const struct tck_comm *comm, const void *const *whole, const void *const *own, struct slices *slices)
{
    const struct tcw_plan_desc *desc = comm->run->desc;
    uint32_t buffer = 0;
    for (uint32_t i = 0; i < TCK_HOST_MAX_RANKS; i++)
        slices->whole[i].count = 0, slices->whole[i].bytes = 0;
    slices->own.count = 0, slices->own.bytes = 0;
    for (uint32_t t = 0; t < desc->tensor_count; t++) {
        const struct tcw_tensor *tensor = &desc->tensors[t];
        struct extents extents;
        if (!tensor->present)
            continue;
        measure(comm, tensor, &extents);
        uint64_t line = tensor->inner * tcw_dtype_bytes(tensor->dtype);
        for (uint32_t i = 0; i < comm->nranks; i++)
            tck_stream_add(&slices->whole[i], (const unsigned char *)whole[buffer] + extents.at[i] * line, tensor->outer,
                           extents.of[i] * line, extents.total * line, tensor->dtype);
        tck_stream_add(&slices->own, own[buffer], 1, tensor->outer * extents.of[comm->rank] * line, 0, tensor->dtype);
        buffer++;
    }
    slices->longest = 0;
    for (uint32_t i = 0; i < comm->nranks; i++)
        slices->longest = slices->whole[i].bytes > slices->longest ? slices->whole[i].bytes : slices->longest;
}

int tck_host_all_gather(struct tck_comm *comm)
{
    struct slices slices;
    uint64_t window = least(TCK_CHUNK_BYTES, comm->capacity) & ~(uint64_t)(TCW_LINE - 1);
    uint64_t at = 0;
    slice(comm, (const void *const *)comm->run->out, comm->run->in, &slices);
    do {
        uint64_t mine = tck_stream_window(&slices.own, at, window);
        int code = tck_step_begin(comm);
        if (code)
            return code;
        tck_stream_pack(&slices.own, at, mine, tck_step_data(comm, comm->rank, mine));
        tck_step_publish(comm);
        tck_stream_unpack(&slices.whole[comm->rank], at, mine, tck_step_data(comm, comm->rank, mine));
        code = tck_step_wait_all(comm);
        if (code)
            return code;
        for (uint32_t n = 1; n < comm->nranks; n++) {
            uint32_t i = (comm->rank + n) % comm->nranks;
            uint64_t bytes = tck_stream_window(&slices.whole[i], at, window);
            tck_stream_unpack(&slices.whole[i], at, bytes, tck_step_data(comm, i, bytes));
        }
        tck_step_end(comm);
        at += window;
    } while (at < slices.longest);
    return 0;
}

/* Reduces the window of this rank's slice that all ranks have published into its tensors. */
static void reduce_window(struct tck_comm *comm, const struct slices *slices, uint64_t at, uint64_t bytes, uint64_t segment)
{
    const struct tck_stream *mine = &slices->whole[comm->rank];
    const void *src[TCK_HOST_MAX_RANKS];
    struct tck_overlap overlap;
    for (uint32_t p = 0; p < slices->own.count; p++) {
        const struct tck_piece *own = &slices->own.pieces[p];
        if (!tck_stream_overlap(&slices->own, p, at, bytes, &overlap))
            continue;
        for (uint32_t i = 0; i < comm->nranks; i++)
            src[i] = (unsigned char *)tck_step_flag(comm, i) + TCK_FLAG_BYTES + comm->rank * segment + overlap.window_at;
        if (mine->pieces[p].run == mine->pieces[p].bytes) /* in one run: read where it is, see reduce_scatter */
            src[comm->rank] = mine->pieces[p].base + overlap.from;
        struct tck_reduction reduction = {
            .dst = own->base + overlap.from,
            .src = src,
            .count = comm->nranks,
            .dtype = own->dtype,
            .redop = comm->run->desc->redop,
            .wide = true,
            .elements = overlap.bytes / tcw_dtype_bytes(own->dtype),
        };
        comm->loops->reduce(&reduction);
    }
}

static bool in_one_run(const struct tck_stream *stream)
{
    for (uint32_t p = 0; p < stream->count; p++)
        if (stream->pieces[p].run != stream->pieces[p].bytes)
            return false;
    return true;
}

int tck_host_reduce_scatter(struct tck_comm *comm)
{
    struct slices slices;
    uint64_t segment = least(TCK_CHUNK_BYTES, comm->capacity / comm->nranks) & ~(uint64_t)(TCW_LINE - 1);
    uint64_t at = 0;
    slice(comm, comm->run->in, (const void *const *)comm->run->out, &slices);
    bool skip_own = in_one_run(&slices.whole[comm->rank]);
    do {
        int code = tck_step_begin(comm);
        if (code)
            return code;
        unsigned char *data = (unsigned char *)tck_step_flag(comm, comm->rank) + TCK_FLAG_BYTES;
        for (uint32_t i = 0; i < comm->nranks; i++)
            if (i != comm->rank || !skip_own)
                tck_stream_pack(&slices.whole[i], at, tck_stream_window(&slices.whole[i], at, segment), data + i * segment);
        tck_step_publish(comm);
        code = tck_step_wait_all(comm);
        if (code)
            return code;
        reduce_window(comm, &slices, at, tck_stream_window(&slices.own, at, segment), segment);
        tck_step_end(comm);
        at += segment;
    } while (at < slices.longest);
    return 0;
}

int tck_host_all_to_all(struct tck_comm *comm)
{
    const struct tck_run *run = comm->run;
    struct tck_stream to[TCK_HOST_MAX_RANKS], from[TCK_HOST_MAX_RANKS];
    uint64_t segment = least(TCK_CHUNK_BYTES, comm->capacity / comm->nranks) & ~(uint64_t)(TCW_LINE - 1);
    uint64_t at = 0;
    uint32_t list = 0;
    for (uint32_t i = 0; i < TCK_HOST_MAX_RANKS; i++)
        to[i].count = from[i].count = 0, to[i].bytes = from[i].bytes = 0;
    for (uint32_t t = 0; t < run->desc->tensor_count; t++) {
        const struct tcw_tensor *tensor = &run->desc->tensors[t];
        if (!tensor->present)
            continue;
        uint64_t bytes = tensor->outer * tensor->extent * tensor->inner * tcw_dtype_bytes(tensor->dtype);
        const void *const *in = run->in + (uint64_t)list * comm->nranks;
        unsigned char *out = run->out[list++];
        for (uint32_t i = 0; i < comm->nranks; i++) {
            if (i == comm->rank) {
                memcpy(out + i * bytes, in[i], bytes);
                continue;
            }
            tck_stream_add(&to[i], in[i], 1, bytes, bytes, tensor->dtype);
            tck_stream_add(&from[i], out + i * bytes, 1, bytes, bytes, tensor->dtype);
        }
    }
    uint64_t longest = comm->nranks > 1 ? to[comm->rank ? 0 : 1].bytes : 0; /* they are all equal */
    do {
        uint64_t bytes = least(segment, longest - at);
        int code = tck_step_begin(comm);
        if (code)
            return code;
        unsigned char *data = (unsigned char *)tck_step_flag(comm, comm->rank) + TCK_FLAG_BYTES;
        for (uint32_t i = 0; i < comm->nranks; i++)
            tck_stream_pack(&to[i], at, bytes, data + i * segment);
        tck_step_publish(comm);
        code = tck_step_wait_all(comm);
        if (code)
            return code;
        for (uint32_t i = 0; i < comm->nranks; i++)
            tck_stream_unpack(&from[i], at, bytes, (unsigned char *)tck_step_flag(comm, i) + TCK_FLAG_BYTES + comm->rank * segment);
        tck_step_end(comm);
        at += segment;
    } while (at < longest);
    return 0;
}

int tck_host_broadcast(struct tck_comm *comm)
{
    const struct tck_run *run = comm->run;
    const struct tcw_tensor *tensor = &run->desc->tensors[0];
    uint64_t total = tensor->outer * tensor->extent * tensor->inner * tcw_dtype_bytes(tensor->dtype);
    uint64_t window = least(TCK_CHUNK_BYTES, comm->capacity);
    uint32_t root = run->desc->root;
    unsigned char *out = run->out[0];
    uint64_t at = 0;
    do {
        uint64_t bytes = least(window, total - at);
        int code = tck_step_begin(comm); /* the only place where the root waits */
        if (code)
            return code;
        if (comm->rank == root)
            memcpy(tck_step_data(comm, root, bytes), (const unsigned char *)run->in[0] + at, bytes);
        tck_step_publish(comm);
        if (comm->rank != root) {
            code = tck_step_wait(comm, root);
            if (code)
                return code;
            memcpy(out + at, tck_step_data(comm, root, bytes), bytes);
        }
        tck_step_end(comm);
        at += window;
    } while (at < total);
    if (comm->rank == root && run->in[0] != out)
        memcpy(out, run->in[0], total);
    return 0;
}

int tck_host_barrier(struct tck_comm *comm)
{
    int code = tck_step_begin(comm);
    if (code)
        return code;
    tck_step_publish(comm);
    code = tck_step_wait_all(comm);
    if (!code)
        tck_step_end(comm);
    return code;
}
