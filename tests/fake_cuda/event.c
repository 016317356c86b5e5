#include "event.h"

#include "graph.h"

#include <stdlib.h>
#include <time.h>

static struct fake_event *events;

struct record {
    struct fake_op op;
    struct fake_event *event;
    uint64_t number;
};

static CUresult event_find(CUevent handle, struct fake_event **found)
{
    for (struct fake_event *event = events; event; event = event->next)
        if ((CUevent)event == handle && event->alive) {
            *found = event;
            return CUDA_SUCCESS;
        }
    return CUDA_ERROR_INVALID_HANDLE;
}

static CUresult enter_event(const char *function, unsigned needs, CUevent handle, struct fake_event **event)
{
    CUresult result = fake_enter(function, needs);
    *event = NULL;
    if (result)
        return result;
    result = event_find(handle, event);
    return result ? fake_leave(result) : CUDA_SUCCESS;
}

CUresult cuEventCreate(CUevent *handle, unsigned int flags)
{
    CUresult result = fake_enter("cuEventCreate", FAKE_CONTEXT);
    struct fake_event *event;
    if (result)
        return result;
    if (!handle || flags & ~(unsigned)(CU_EVENT_BLOCKING_SYNC | CU_EVENT_DISABLE_TIMING))
        return fake_leave(CUDA_ERROR_INVALID_VALUE);
    event = calloc(1, sizeof(*event));
    if (!event)
        abort();
    event->context = fake_context_current();
    event->alive = true;
    event->timing = !(flags & CU_EVENT_DISABLE_TIMING);
    event->next = events;
    events = event;
    *handle = (CUevent)event;
    return fake_leave(CUDA_SUCCESS);
}

CUresult cuEventDestroy(CUevent handle)
{
    struct fake_event *event;
    CUresult result = enter_event("cuEventDestroy", FAKE_INIT, handle, &event);
    if (result)
        return result;
    event->alive = false;
    return fake_leave(CUDA_SUCCESS);
}

static CUresult run_record(struct fake_op *op, struct fake_stream *stream)
{
    struct record *record = (struct record *)op;
    struct timespec now;
    (void)stream;
    clock_gettime(CLOCK_MONOTONIC, &now);
    fake_lock();
    if (record->event->completed < record->number) {
        record->event->completed = record->number;
        record->event->completed_ns = (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
    }
    fake_changed();
    fake_unlock();
    return CUDA_SUCCESS;
}

CUresult cuEventRecord(CUevent handle, CUstream stream_handle)
{
    struct fake_event *event;
    struct fake_stream *stream;
    struct record *record;
    CUresult result = enter_event("cuEventRecord", FAKE_CONTEXT, handle, &event);
    if (result)
        return result;
    result = fake_stream_find(stream_handle, &stream);
    if (!result && stream->context != event->context)
        result = CUDA_ERROR_INVALID_HANDLE;
    if (result)
        return fake_leave(result);
    if (stream->capture) {
        fake_capture_record(stream, event);
        return fake_leave(stream->capture->broken ? CUDA_ERROR_STREAM_CAPTURE_INVALIDATED : CUDA_SUCCESS);
    }
    record = fake_op_new(sizeof(*record), run_record, NULL);
    record->event = event;
    record->number = event->recorded + 1;
    result = fake_stream_submit(stream, &record->op);
    if (!result) {
        event->recorded++;
        event->capture = 0;
    }
    return fake_leave(result);
}

static CUresult run_wait(struct fake_op *op, struct fake_stream *stream)
{
    struct record *record = (struct record *)op;
    fake_lock();
    while (record->event->completed < record->number && !record->event->context->fault && !stream->context->fault)
        fake_wait();
    fake_unlock();
    return CUDA_SUCCESS;
}

CUresult cuStreamWaitEvent(CUstream stream_handle, CUevent handle, unsigned int flags)
{
    struct fake_event *event;
    struct fake_stream *stream;
    struct record *wait;
    CUresult result = enter_event("cuStreamWaitEvent", FAKE_CONTEXT, handle, &event);
    if (result)
        return result;
    result = fake_stream_find(stream_handle, &stream);
    if (!result && flags & ~(unsigned)CU_EVENT_WAIT_EXTERNAL)
        result = CUDA_ERROR_INVALID_VALUE;
    if (result)
        return fake_leave(result);
    if (stream->capture || event->capture)
        return fake_leave(fake_capture_wait(stream, event));
    if (event->completed >= event->recorded)
        return fake_leave(CUDA_SUCCESS);
    wait = fake_op_new(sizeof(*wait), run_wait, NULL);
    wait->event = event;
    wait->number = event->recorded;
    return fake_leave(fake_stream_submit(stream, &wait->op));
}

CUresult cuEventQuery(CUevent handle)
{
    struct fake_event *event;
    CUresult result = enter_event("cuEventQuery", FAKE_INIT | FAKE_UNSAFE, handle, &event);
    if (result)
        return result;
    result = fake_context_check(event->context);
    if (!result && event->capture)
        result = CUDA_ERROR_CAPTURED_EVENT;
    if (!result && event->completed < event->recorded)
        result = CUDA_ERROR_NOT_READY;
    return fake_leave(result);
}

CUresult cuEventSynchronize(CUevent handle)
{
    struct fake_event *event;
    uint64_t wanted;
    CUresult result = enter_event("cuEventSynchronize", FAKE_INIT | FAKE_UNSAFE, handle, &event);
    if (result)
        return result;
    result = fake_context_check(event->context);
    if (!result && event->capture)
        result = CUDA_ERROR_CAPTURED_EVENT;
    wanted = event->recorded;
    while (!result && event->completed < wanted) {
        fake_wait();
        result = event->context->fault;
    }
    return fake_leave(result);
}

CUresult cuEventElapsedTime(float *ms, CUevent from_handle, CUevent to_handle)
{
    struct fake_event *from, *to;
    CUresult result = enter_event("cuEventElapsedTime", FAKE_INIT, from_handle, &from);
    if (result)
        return result;
    result = event_find(to_handle, &to);
    if (!result)
        result = fake_context_check(to->context);
    if (!result && (!from->timing || !to->timing || !from->recorded || !to->recorded || from->context != to->context))
        result = CUDA_ERROR_INVALID_HANDLE;
    if (!result && (from->completed < from->recorded || to->completed < to->recorded))
        result = CUDA_ERROR_NOT_READY;
    if (!result)
        *ms = (float)((double)(int64_t)(to->completed_ns - from->completed_ns) / 1e6);
    return fake_leave(result);
}
