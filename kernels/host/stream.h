/*
 * Streams: what one rank sends to another in a list operation, as one run of bytes. A stream strings together the pieces of all present
 * tensors, each beginning at a whole cache line, so that elements stay aligned; both ends compute it from the descriptor. A piece is
 * spread over its tensor in equal runs (one per outer index).
 *
 * Owner: the stack of a running operation.
 */
#ifndef TCK_HOST_STREAM_H
#define TCK_HOST_STREAM_H

#include <tcw/plan.h>

#include <stdbool.h>

struct tck_piece {
    uint64_t at;    /* in the stream */
    uint64_t bytes; /* runs * run */
    unsigned char *base;
    uint64_t run;   /* bytes of one run */
    uint64_t pitch; /* from run to run in the tensor */
    uint32_t dtype;
};

struct tck_stream {
    uint64_t bytes; /* of the whole stream, padding included */
    uint32_t count;
    struct tck_piece pieces[TCW_MAX_TENSORS];
};

/* Appends a piece of `runs` runs. A stream starts as bytes = 0, count = 0. */
void tck_stream_add(struct tck_stream *stream, const void *base, uint64_t runs, uint64_t run, uint64_t pitch, uint32_t dtype);

/* Bytes of the stream in the window of `size` bytes at `at`. */
static inline uint64_t tck_stream_window(const struct tck_stream *stream, uint64_t at, uint64_t size)
{
    return at >= stream->bytes ? 0 : stream->bytes - at < size ? stream->bytes - at : size;
}

/* Tensors to window (pack) and back (unpack): the `bytes` of the stream at `at`. */
void tck_stream_pack(const struct tck_stream *stream, uint64_t at, uint64_t bytes, unsigned char *window);
void tck_stream_unpack(const struct tck_stream *stream, uint64_t at, uint64_t bytes, const unsigned char *window);

/* What piece `index` has in the window: false if nothing; else from which byte of the piece, how many, and where in the window. */
struct tck_overlap {
    uint64_t from, bytes, window_at;
};
bool tck_stream_overlap(const struct tck_stream *stream, uint32_t index, uint64_t at, uint64_t bytes, struct tck_overlap *overlap);

#endif
