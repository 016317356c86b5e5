/*
 * Captures and graphs. A graph is the list of its operations in the order in which they were recorded, which is one of the orders that its
 * dependencies allow; a launch runs them one after the other. Owner: a capture belongs to its streams, graphs to the application.
 */
#ifndef TESTS_FAKE_CUDA_GRAPH_H
#define TESTS_FAKE_CUDA_GRAPH_H

#include "event.h"

struct held;

struct fake_graph {
    struct fake_op **ops;
    size_t count, room;
    struct held *held; /* user objects */
};

struct fake_capture {
    struct fake_capture *next;
    uint64_t id;
    CUstreamCaptureMode mode;
    pthread_t thread;
    struct fake_stream *origin;
    struct fake_graph *graph;
    bool broken;
};

/* Lock held, all of them. */
void fake_graph_free(struct fake_graph *graph);
/* Takes all streams out of a capture. True if one had not been joined. */
bool fake_streams_leave(const struct fake_capture *capture);
/* Whether a capture anywhere forbids unsafe calls to this thread; breaks it if so. */
bool fake_capture_forbids(void);
/* Records an operation in a capturing stream; takes the reference. */
CUresult fake_capture_add(struct fake_stream *stream, struct fake_op *op);
void fake_capture_break(struct fake_capture *capture);
/* A blocking stream of this context captures: then the legacy stream must not be used. */
struct fake_capture *fake_capture_of_blocking(const struct fake_context *context);
/* cuEventRecord and cuStreamWaitEvent when the stream or the event is part of a capture. */
void fake_capture_record(struct fake_stream *stream, struct fake_event *event);
CUresult fake_capture_wait(struct fake_stream *stream, struct fake_event *event);

#endif
