/*
 * Streams: a queue and a thread each, started with the first operation. Owner: the process; never freed.
 */
#ifndef TESTS_FAKE_CUDA_STREAM_H
#define TESTS_FAKE_CUDA_STREAM_H

#include "context.h"

struct fake_capture;
struct fake_entry;
struct fake_stream;

/* One operation, constant once it has been submitted: graphs run it many times. First member of the real thing. */
struct fake_op {
    unsigned references;
    CUresult (*run)(struct fake_op *op, struct fake_stream *stream); /* without the lock; a failure is the device's end */
    void (*destroy)(struct fake_op *op);                             /* with the lock; NULL: nothing to do */
};

void *fake_op_new(size_t bytes, CUresult (*run)(struct fake_op *op, struct fake_stream *stream), void (*destroy)(struct fake_op *op));
void fake_op_hold(struct fake_op *op);
void fake_op_drop(struct fake_op *op);

typedef enum fake_stream_kind { FAKE_STREAM_LEGACY, FAKE_STREAM_BLOCKING, FAKE_STREAM_FREE } fake_stream_kind;

struct fake_stream {
    struct fake_stream *next;
    struct fake_context *context;
    uint64_t life; /* of the context */
    fake_stream_kind kind;
    bool alive;
    bool started;
    bool of_thread; /* some thread's default stream */
    pthread_t thread;
    pthread_cond_t work;
    struct fake_entry *first, **last;
    uint64_t submitted, finished; /* operations */
    struct fake_capture *capture;
    uint64_t capture_nodes; /* of the graph, when this stream last added one */
    bool capture_open;      /* forked off and not joined since */
};

/* Lock held. The stream of a handle (NULL, legacy and per-thread ones included); an error when it is dead or its device has faulted. */
CUresult fake_stream_find(CUstream handle, struct fake_stream **stream);

/* Lock held. Queues the operation, or records it when the stream captures. Takes the reference, on failure too. */
CUresult fake_stream_submit(struct fake_stream *stream, struct fake_op *op);
/* Lock held. Waits until everything submitted so far has run; the device's fault if it has one. */
CUresult fake_stream_drain(struct fake_stream *stream);
CUresult fake_context_drain(struct fake_context *context);

/*
 * For the fake NCCL: calls run(payload) in stream order, and destroy(payload) when nothing refers to it any more, on failure
 * at once. A capturing stream records it. run returns 0, or a CUresult that faults the device.
 */
FAKE_EXPORT CUresult trtcoll_fake_submit(CUstream stream, int (*run)(void *payload), void (*destroy)(void *payload), void *payload);

#endif
