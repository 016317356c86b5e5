#include "stream.h"

#include "graph.h"

#include <signal.h>
#include <stdlib.h>

/* Work of another stream that an operation of this one has to come after. */
struct after {
    struct fake_stream *stream;
    uint64_t count;
};

struct fake_entry {
    struct fake_entry *next;
    struct fake_op *op;
    unsigned afters;
    struct after after[];
};

static struct fake_stream *streams;

static _Thread_local struct fake_stream *default_of_thread[FAKE_MAX_DEVICES];

void *fake_op_new(size_t bytes, CUresult (*run)(struct fake_op *op, struct fake_stream *stream), void (*destroy)(struct fake_op *op))
{
    struct fake_op *op = calloc(1, bytes);
    if (!op)
        abort(); /* nobody tests this library without memory */
    op->references = 1;
    op->run = run;
    op->destroy = destroy;
    return op;
}

void fake_op_hold(struct fake_op *op)
{
    op->references++;
}

void fake_op_drop(struct fake_op *op)
{
    if (--op->references)
        return;
    if (op->destroy)
        op->destroy(op);
    free(op);
}

static bool is_current(const struct fake_stream *stream)
{
    return stream->alive && stream->life == stream->context->life;
}

static struct fake_stream *stream_new(struct fake_context *context, fake_stream_kind kind)
{
    struct fake_stream *stream = calloc(1, sizeof(*stream));
    if (!stream)
        abort();
    stream->context = context;
    stream->life = context->life;
    stream->kind = kind;
    stream->alive = true;
    stream->last = &stream->first;
    pthread_cond_init(&stream->work, NULL);
    stream->next = streams;
    streams = stream;
    return stream;
}

static struct fake_stream *legacy_of(struct fake_context *context)
{
    for (struct fake_stream *stream = streams; stream; stream = stream->next)
        if (stream->kind == FAKE_STREAM_LEGACY && stream->context == context && is_current(stream))
            return stream;
    return stream_new(context, FAKE_STREAM_LEGACY);
}

static struct fake_stream *per_thread_of(struct fake_context *context)
{
    struct fake_stream **mine = &default_of_thread[context->ordinal];
    if (!*mine || !is_current(*mine)) {
        *mine = stream_new(context, FAKE_STREAM_BLOCKING);
        (*mine)->of_thread = true;
    }
    return *mine;
}

CUresult fake_stream_find(CUstream handle, struct fake_stream **found)
{
    struct fake_context *current = fake_context_current();
    struct fake_stream *stream;
    if (handle == NULL || handle == CU_STREAM_LEGACY)
        stream = legacy_of(current);
    else if (handle == CU_STREAM_PER_THREAD)
        stream = per_thread_of(current);
    else
        for (stream = streams; stream; stream = stream->next)
            if ((CUstream)stream == handle && is_current(stream))
                break;
    if (!stream)
        return CUDA_ERROR_INVALID_HANDLE;
    *found = stream;
    return fake_context_check(stream->context);
}

static bool is_over(const struct after *after)
{
    return after->stream->finished >= after->count;
}

/* Lock held, given up while the operation runs. */
static void run_first(struct fake_stream *stream)
{
    struct fake_entry *entry = stream->first;
    CUresult result = CUDA_SUCCESS;
    for (unsigned i = 0; i < entry->afters; i++)
        while (!is_over(&entry->after[i]))
            fake_wait();
    if (!stream->context->fault) {
        fake_unlock();
        result = entry->op->run(entry->op, stream);
        fake_lock();
    }
    if (result)
        fake_context_break(stream->context, result);
    stream->first = entry->next;
    if (!stream->first)
        stream->last = &stream->first;
    stream->finished++;
    fake_op_drop(entry->op);
    free(entry);
    fake_changed();
}

static void *serve(void *arg)
{
    struct fake_stream *stream = arg;
    fake_lock();
    for (;;) {
        while (!stream->first && stream->alive)
            pthread_cond_wait(&stream->work, fake_mutex());
        if (!stream->first)
            break;
        run_first(stream);
    }
    stream->started = false;
    fake_unlock();
    return NULL;
}

static void start(struct fake_stream *stream)
{
    pthread_attr_t attributes;
    sigset_t all, before;
    if (stream->started)
        return;
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    sigfillset(&all); /* the application's signals are not for our threads */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    if (pthread_create(&stream->thread, &attributes, serve, stream))
        abort();
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    stream->started = true;
}

/* Whether work of `stream` comes after what `other` has now. */
static bool comes_after(const struct fake_stream *stream, const struct fake_stream *other)
{
    if (other == stream || other->context != stream->context || is_over(&(struct after){(struct fake_stream *)other, other->submitted}))
        return false;
    return (stream->kind == FAKE_STREAM_LEGACY && other->kind == FAKE_STREAM_BLOCKING) ||
           (stream->kind == FAKE_STREAM_BLOCKING && other->kind == FAKE_STREAM_LEGACY);
}

static void queue(struct fake_stream *stream, struct fake_op *op)
{
    struct fake_entry *entry;
    unsigned count = 0;
    for (struct fake_stream *other = streams; other; other = other->next)
        count += comes_after(stream, other);
    entry = calloc(1, sizeof(*entry) + count * sizeof(entry->after[0]));
    if (!entry)
        abort();
    entry->op = op;
    for (struct fake_stream *other = streams; other; other = other->next)
        if (comes_after(stream, other))
            entry->after[entry->afters++] = (struct after){other, other->submitted};
    *stream->last = entry;
    stream->last = &entry->next;
    stream->submitted++;
    start(stream);
    pthread_cond_signal(&stream->work);
}

CUresult fake_stream_submit(struct fake_stream *stream, struct fake_op *op)
{
    struct fake_capture *capture;
    if (stream->capture)
        return fake_capture_add(stream, op);
    capture = stream->kind == FAKE_STREAM_LEGACY ? fake_capture_of_blocking(stream->context) : NULL;
    if (capture) {
        fake_capture_break(capture);
        fake_op_drop(op);
        return CUDA_ERROR_STREAM_CAPTURE_IMPLICIT;
    }
    queue(stream, op);
    return CUDA_SUCCESS;
}

bool fake_streams_leave(const struct fake_capture *capture)
{
    bool open = false;
    for (struct fake_stream *stream = streams; stream; stream = stream->next)
        if (stream->capture == capture) {
            open = open || stream->capture_open;
            stream->capture = NULL;
        }
    return open;
}

CUresult fake_stream_drain(struct fake_stream *stream)
{
    uint64_t wanted = stream->submitted;
    while (stream->finished < wanted)
        fake_wait();
    return stream->context->fault;
}

CUresult fake_context_drain(struct fake_context *context)
{
    for (struct fake_stream *stream = streams; stream; stream = stream->next)
        if (stream->context == context)
            (void)fake_stream_drain(stream);
    return context->fault;
}

CUresult cuStreamCreateWithPriority(CUstream *handle, unsigned int flags, int priority)
{
    CUresult result = fake_enter("cuStreamCreateWithPriority", FAKE_CONTEXT);
    (void)priority; /* out of range is allowed, and cut off */
    if (result)
        return result;
    if (!handle || flags & ~(unsigned)CU_STREAM_NON_BLOCKING)
        return fake_leave(CUDA_ERROR_INVALID_VALUE);
    *handle = (CUstream)stream_new(fake_context_current(), flags & CU_STREAM_NON_BLOCKING ? FAKE_STREAM_FREE : FAKE_STREAM_BLOCKING);
    return fake_leave(CUDA_SUCCESS);
}

CUresult cuStreamCreate(CUstream *handle, unsigned int flags)
{
    return cuStreamCreateWithPriority(handle, flags, 0);
}

/* Enters, and finds the stream. */
static CUresult enter_stream(const char *function, unsigned needs, CUstream handle, struct fake_stream **stream)
{
    CUresult result = fake_enter(function, needs);
    *stream = NULL;
    if (result)
        return result;
    result = fake_stream_find(handle, stream);
    return result ? fake_leave(result) : CUDA_SUCCESS;
}

/* Returns at once; what is queued still runs. */
CUresult cuStreamDestroy(CUstream handle)
{
    struct fake_stream *stream;
    CUresult result = enter_stream("cuStreamDestroy", FAKE_CONTEXT, handle, &stream);
    if (result)
        return result;
    if (stream->kind == FAKE_STREAM_LEGACY || stream->of_thread)
        return fake_leave(CUDA_ERROR_INVALID_HANDLE);
    if (stream->capture) {
        fake_capture_break(stream->capture);
        return fake_leave(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
    }
    stream->alive = false;
    pthread_cond_signal(&stream->work);
    return fake_leave(CUDA_SUCCESS);
}

/* A question or a wait that a capture of the stream does not survive. */
static CUresult refuse_capturing(struct fake_stream *stream)
{
    if (!stream->capture)
        return CUDA_SUCCESS;
    fake_capture_break(stream->capture);
    return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
}

CUresult cuStreamSynchronize(CUstream handle)
{
    struct fake_stream *stream;
    CUresult result = enter_stream("cuStreamSynchronize", FAKE_CONTEXT | FAKE_UNSAFE, handle, &stream);
    if (result)
        return result;
    result = refuse_capturing(stream);
    return fake_leave(result ? result : fake_stream_drain(stream));
}

CUresult cuStreamQuery(CUstream handle)
{
    struct fake_stream *stream;
    CUresult result = enter_stream("cuStreamQuery", FAKE_CONTEXT | FAKE_UNSAFE, handle, &stream);
    if (result)
        return result;
    result = refuse_capturing(stream);
    if (!result && stream->finished < stream->submitted)
        result = CUDA_ERROR_NOT_READY;
    return fake_leave(result);
}

CUresult cuStreamGetCtx(CUstream handle, CUcontext *context)
{
    struct fake_stream *stream;
    CUresult result = enter_stream("cuStreamGetCtx", FAKE_CONTEXT, handle, &stream);
    if (result)
        return result;
    *context = (CUcontext)stream->context;
    return fake_leave(CUDA_SUCCESS);
}

struct call {
    struct fake_op op;
    int (*run)(void *payload);
    void (*destroy)(void *payload);
    void *payload;
};

static CUresult run_call(struct fake_op *op, struct fake_stream *stream)
{
    struct call *call = (struct call *)op;
    (void)stream;
    return (CUresult)call->run(call->payload);
}

static void destroy_call(struct fake_op *op)
{
    struct call *call = (struct call *)op;
    call->destroy(call->payload);
}

CUresult trtcoll_fake_submit(CUstream handle, int (*run)(void *payload), void (*destroy)(void *payload), void *payload)
{
    struct fake_stream *stream;
    struct call *call;
    CUresult result = enter_stream("trtcoll_fake_submit", FAKE_CONTEXT, handle, &stream);
    if (result) {
        destroy(payload);
        return result;
    }
    call = fake_op_new(sizeof(*call), run_call, destroy_call);
    call->run = run;
    call->destroy = destroy;
    call->payload = payload;
    return fake_leave(fake_stream_submit(stream, &call->op));
}

struct host_function {
    struct fake_op op;
    CUhostFn function;
    void *data;
};

static CUresult run_host_function(struct fake_op *op, struct fake_stream *stream)
{
    struct host_function *host = (struct host_function *)op;
    (void)stream;
    host->function(host->data);
    return CUDA_SUCCESS;
}

CUresult cuLaunchHostFunc(CUstream handle, CUhostFn function, void *data)
{
    struct fake_stream *stream;
    struct host_function *host;
    CUresult result = enter_stream("cuLaunchHostFunc", FAKE_CONTEXT, handle, &stream);
    if (result)
        return result;
    host = fake_op_new(sizeof(*host), run_host_function, NULL);
    host->function = function;
    host->data = data;
    return fake_leave(fake_stream_submit(stream, &host->op));
}
