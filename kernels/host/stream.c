#include "host/stream.h"

#include <string.h>

void tck_stream_add(struct tck_stream *stream, const void *base, uint64_t runs, uint64_t run, uint64_t pitch, uint32_t dtype)
{
    struct tck_piece *piece = &stream->pieces[stream->count++];
    bool whole = run == pitch || runs == 1;
    piece->at = (stream->bytes + TCW_LINE - 1) & ~(uint64_t)(TCW_LINE - 1);
    piece->bytes = runs * run;
    piece->base = (unsigned char *)(uintptr_t)base; /* written only where the stream is unpacked */
    piece->run = whole ? piece->bytes : run;
    piece->pitch = whole ? piece->bytes : pitch;
    piece->dtype = dtype;
    stream->bytes = piece->at + piece->bytes;
}

bool tck_stream_overlap(const struct tck_stream *stream, uint32_t index, uint64_t at, uint64_t bytes, struct tck_overlap *overlap)
{
    const struct tck_piece *piece = &stream->pieces[index];
    uint64_t begin = piece->at > at ? piece->at : at;
    uint64_t end = piece->at + piece->bytes < at + bytes ? piece->at + piece->bytes : at + bytes;
    if (begin >= end)
        return false;
    *overlap = (struct tck_overlap){.from = begin - piece->at, .bytes = end - begin, .window_at = begin - at};
    return true;
}

/* Whole runs of a few bytes, as a last dimension of small tensors has them: a call of memcpy each would be most of the time. */
#define COPY_RUNS(size)                                                                                                                    \
    for (uint64_t i = 0; i < runs; i++) {                                                                                                  \
        if (pack)                                                                                                                          \
            memcpy(window, memory, size);                                                                                                  \
        else                                                                                                                               \
            memcpy(memory, window, size);                                                                                                  \
        window += size;                                                                                                                    \
        memory += pitch;                                                                                                                   \
    }

static inline void copy_runs(unsigned char *memory, uint64_t pitch, unsigned char *window, uint64_t run, uint64_t runs, bool pack)
{
    switch (run) {
    case 1:
        COPY_RUNS(1)
        break;
    case 2:
        COPY_RUNS(2)
        break;
    case 4:
        COPY_RUNS(4)
        break;
    case 8:
        COPY_RUNS(8)
        break;
    case 16:
        COPY_RUNS(16)
        break;
    default:
        COPY_RUNS(run)
    }
}

static void copy_piece(const struct tck_piece *piece, uint64_t from, uint64_t bytes, unsigned char *window, bool pack)
{
    uint64_t within = from % piece->run;
    unsigned char *memory = piece->base + from / piece->run * piece->pitch + within;
    if (within) {
        uint64_t part = piece->run - within < bytes ? piece->run - within : bytes;
        copy_runs(memory, 0, window, part, 1, pack);
        memory += piece->pitch - within;
        window += part;
        bytes -= part;
    }
    uint64_t runs = bytes / piece->run, rest = bytes % piece->run;
    copy_runs(memory, piece->pitch, window, piece->run, runs, pack);
    if (rest)
        copy_runs(memory + runs * piece->pitch, 0, window + runs * piece->run, rest, 1, pack);
}

static void copy_window(const struct tck_stream *stream, uint64_t at, uint64_t bytes, unsigned char *window, bool pack)
{
    struct tck_overlap overlap;
    for (uint32_t i = 0; i < stream->count; i++)
        if (tck_stream_overlap(stream, i, at, bytes, &overlap))
            copy_piece(&stream->pieces[i], overlap.from, overlap.bytes, window + overlap.window_at, pack);
}

void tck_stream_pack(const struct tck_stream *stream, uint64_t at, uint64_t bytes, unsigned char *window)
{
    copy_window(stream, at, bytes, window, true);
}

void tck_stream_unpack(const struct tck_stream *stream, uint64_t at, uint64_t bytes, const unsigned char *window)
{
    copy_window(stream, at, bytes, (unsigned char *)(uintptr_t)window, false);
}
