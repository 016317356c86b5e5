#include "graph.h"

#include <stdlib.h>

static struct fake_capture *captures;
static uint64_t capture_ids;
static _Thread_local CUstreamCaptureMode thread_mode = CU_STREAM_CAPTURE_MODE_GLOBAL;

bool fake_capture_forbids(void)
{
    bool forbids = false;
    if (thread_mode == CU_STREAM_CAPTURE_MODE_RELAXED)
        return false;
    for (struct fake_capture *capture = captures; capture; capture = capture->next) {
        bool mine = pthread_equal(capture->thread, pthread_self());
        if ((capture->mode == CU_STREAM_CAPTURE_MODE_GLOBAL && (mine || thread_mode == CU_STREAM_CAPTURE_MODE_GLOBAL)) ||
            (capture->mode == CU_STREAM_CAPTURE_MODE_THREAD_LOCAL && mine)) {
            fake_capture_break(capture);
            forbids = true;
        }
    }
    return forbids;
}

void fake_capture_break(struct fake_capture *capture)
{
    capture->broken = true;
}

CUresult fake_capture_add(struct fake_stream *stream, struct fake_op *op)
{
    struct fake_graph *graph = stream->capture->graph;
    if (stream->capture->broken) {
        fake_op_drop(op);
        return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
    }
    if (graph->count == graph->room) {
        graph->room = graph->room ? 2 * graph->room : 16;
        graph->ops = realloc(graph->ops, graph->room * sizeof(struct fake_op *));
        if (!graph->ops)
            abort();
    }
    graph->ops[graph->count++] = op;
    stream->capture_nodes = graph->count;
    stream->capture_open = stream != stream->capture->origin;
    return CUDA_SUCCESS;
}

struct fake_capture *fake_capture_of_blocking(const struct fake_context *context)
{
    for (struct fake_capture *capture = captures; capture; capture = capture->next)
        if (capture->origin->context == context && capture->origin->kind == FAKE_STREAM_BLOCKING)
            return capture;
    return NULL;
}

void fake_capture_record(struct fake_stream *stream, struct fake_event *event)
{
    event->capture = stream->capture->id;
    event->capture_nodes = stream->capture->graph->count;
    event->capture_stream = stream;
}

static struct fake_capture *capture_find(uint64_t id)
{
    for (struct fake_capture *capture = captures; capture; capture = capture->next)
        if (capture->id == id)
            return capture;
    return NULL;
}

CUresult fake_capture_wait(struct fake_stream *stream, struct fake_event *event)
{
    struct fake_capture *of_event = event->capture ? capture_find(event->capture) : NULL;
    if (!of_event || (stream->capture && stream->capture != of_event)) {
        /* Work that is not in the graph; an event that was never recorded is nothing to wait for, though. */
        if (!event->capture && !event->recorded)
            return CUDA_SUCCESS;
        if (stream->capture)
            fake_capture_break(stream->capture);
        return CUDA_ERROR_STREAM_CAPTURE_ISOLATION;
    }
    if (of_event->broken)
        return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
    if (!stream->capture) {
        if (stream->kind == FAKE_STREAM_LEGACY)
            return CUDA_ERROR_STREAM_CAPTURE_IMPLICIT;
        stream->capture = of_event;
        stream->capture_nodes = of_event->graph->count;
        stream->capture_open = true;
    }
    if (event->capture_stream != stream && event->capture_stream->capture_nodes <= event->capture_nodes)
        event->capture_stream->capture_open = false;
    return CUDA_SUCCESS;
}

CUresult cuThreadExchangeStreamCaptureMode(CUstreamCaptureMode *mode)
{
    CUresult result = fake_enter("cuThreadExchangeStreamCaptureMode", FAKE_INIT);
    CUstreamCaptureMode before = thread_mode;
    if (result)
        return result;
    if (!mode)
        return fake_leave(CUDA_ERROR_INVALID_VALUE);
    thread_mode = *mode;
    *mode = before;
    return fake_leave(CUDA_SUCCESS);
}

CUresult cuStreamBeginCapture(CUstream handle, CUstreamCaptureMode mode)
{
    CUresult result = fake_enter("cuStreamBeginCapture", FAKE_CONTEXT);
    struct fake_capture *capture;
    struct fake_stream *stream;
    if (result)
        return result;
    result = fake_stream_find(handle, &stream);
    if (!result && stream->kind == FAKE_STREAM_LEGACY)
        result = CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    if (!result && stream->capture)
        result = CUDA_ERROR_ILLEGAL_STATE;
    if (result)
        return fake_leave(result);
    capture = calloc(1, sizeof(*capture));
    if (capture)
        capture->graph = calloc(1, sizeof(*capture->graph));
    if (!capture || !capture->graph)
        abort();
    capture->id = ++capture_ids;
    capture->mode = mode;
    capture->thread = pthread_self();
    capture->origin = stream;
    capture->next = captures;
    captures = capture;
    stream->capture = capture;
    stream->capture_nodes = 0;
    stream->capture_open = false;
    return fake_leave(CUDA_SUCCESS);
}

static CUresult finish(struct fake_capture *capture)
{
    CUresult result = capture->broken ? CUDA_ERROR_STREAM_CAPTURE_INVALIDATED : CUDA_SUCCESS;
    struct fake_capture **link = &captures;
    if (fake_streams_leave(capture) && !result)
        result = CUDA_ERROR_STREAM_CAPTURE_UNJOINED;
    while (*link != capture)
        link = &(*link)->next;
    *link = capture->next;
    free(capture);
    return result;
}

CUresult cuStreamEndCapture(CUstream handle, CUgraph *out)
{
    CUresult result = fake_enter("cuStreamEndCapture", FAKE_CONTEXT);
    struct fake_graph *graph;
    struct fake_stream *stream;
    if (result)
        return result;
    *out = NULL;
    result = fake_stream_find(handle, &stream);
    if (!result && (!stream->capture || stream->capture->origin != stream))
        result = stream->capture ? CUDA_ERROR_STREAM_CAPTURE_UNMATCHED : CUDA_ERROR_ILLEGAL_STATE;
    if (!result && stream->capture->mode != CU_STREAM_CAPTURE_MODE_RELAXED && !pthread_equal(stream->capture->thread, pthread_self()))
        result = CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD;
    if (result)
        return fake_leave(result);
    graph = stream->capture->graph;
    result = finish(stream->capture);
    if (result)
        fake_graph_free(graph);
    else
        *out = (CUgraph)graph;
    return fake_leave(result);
}

CUresult cuStreamIsCapturing(CUstream handle, CUstreamCaptureStatus *status)
{
    return cuStreamGetCaptureInfo(handle, status, NULL, NULL, NULL, NULL, NULL);
}

CUresult cuStreamGetCaptureInfo(CUstream handle, CUstreamCaptureStatus *status, cuuint64_t *id, CUgraph *graph,
                                const CUgraphNode **dependencies, const CUgraphEdgeData **edges, size_t *count)
{
    CUresult result = fake_enter("cuStreamGetCaptureInfo", FAKE_CONTEXT);
    struct fake_stream *stream;
    struct fake_capture *capture;
    if (result)
        return result;
    result = fake_stream_find(handle, &stream);
    if (!result && stream->kind == FAKE_STREAM_LEGACY && fake_capture_of_blocking(stream->context))
        result = CUDA_ERROR_STREAM_CAPTURE_IMPLICIT;
    if (result)
        return fake_leave(result);
    capture = stream->capture;
    *status = !capture          ? CU_STREAM_CAPTURE_STATUS_NONE
              : capture->broken ? CU_STREAM_CAPTURE_STATUS_INVALIDATED
                                : CU_STREAM_CAPTURE_STATUS_ACTIVE;
    if (capture && id)
        *id = capture->id;
    if (capture && graph)
        *graph = (CUgraph)capture->graph;
    if (dependencies) /* nodes are not shown */
        *dependencies = NULL;
    if (edges)
        *edges = NULL;
    if (count)
        *count = 0;
    return fake_leave(CUDA_SUCCESS);
}
