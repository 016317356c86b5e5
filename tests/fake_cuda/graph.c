#include "graph.h"

#include <signal.h>
#include <stdlib.h>

/* Counted by graphs and by whoever made it. */
struct object {
    void *pointer;
    CUhostFn destroy;
    unsigned references;
};

struct held {
    struct held *next;
    struct object *object;
    unsigned count;
};

/* An instantiated graph: the operations and objects of the graph as it was. */
struct executable {
    struct fake_graph graph;
    unsigned references; /* the application, and launches under way */
    struct fake_context *context;
    pthread_mutex_t running; /* one launch at a time */
};

struct launch {
    struct fake_op op;
    struct executable *executable;
};

/* The destructor is called on a thread of the driver's, and not while the driver does something. */
static void *call_destructor(void *arg)
{
    struct object *object = arg;
    object->destroy(object->pointer);
    free(object);
    return NULL;
}

static void object_drop(struct object *object, unsigned count)
{
    pthread_t thread;
    sigset_t all, before;
    object->references -= count;
    if (object->references)
        return;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    if (pthread_create(&thread, NULL, call_destructor, object))
        abort();
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_detach(thread);
}

static void hold(struct fake_graph *graph, struct object *object, unsigned count)
{
    struct held *held = calloc(1, sizeof(*held));
    if (!held)
        abort();
    held->object = object;
    held->count = count;
    held->next = graph->held;
    graph->held = held;
}

static void graph_clear(struct fake_graph *graph)
{
    while (graph->held) {
        struct held *held = graph->held;
        graph->held = held->next;
        object_drop(held->object, held->count);
        free(held);
    }
    for (size_t i = 0; i < graph->count; i++)
        fake_op_drop(graph->ops[i]);
    free(graph->ops);
}

void fake_graph_free(struct fake_graph *graph)
{
    graph_clear(graph);
    free(graph);
}

CUresult cuGraphDestroy(CUgraph handle)
{
    CUresult result = fake_enter("cuGraphDestroy", FAKE_INIT);
    if (result)
        return result;
    if (!handle)
        return fake_leave(CUDA_ERROR_INVALID_VALUE);
    fake_graph_free((struct fake_graph *)handle);
    return fake_leave(CUDA_SUCCESS);
}

CUresult cuGraphInstantiate(CUgraphExec *out, CUgraph handle, unsigned long long flags)
{
    CUresult result = fake_enter("cuGraphInstantiate", FAKE_CONTEXT);
    const struct fake_graph *graph = (const struct fake_graph *)handle;
    struct executable *executable;
    (void)flags;
    if (result)
        return result;
    if (!graph || !out)
        return fake_leave(CUDA_ERROR_INVALID_VALUE);
    executable = calloc(1, sizeof(*executable));
    if (executable)
        executable->graph.ops = calloc(graph->count ? graph->count : 1, sizeof(struct fake_op *));
    if (!executable || !executable->graph.ops)
        abort();
    executable->references = 1;
    executable->context = fake_context_current();
    pthread_mutex_init(&executable->running, NULL);
    for (size_t i = 0; i < graph->count; i++) {
        fake_op_hold(graph->ops[i]);
        executable->graph.ops[executable->graph.count++] = graph->ops[i];
    }
    for (struct held *held = graph->held; held; held = held->next) {
        held->object->references++;
        hold(&executable->graph, held->object, 1);
    }
    *out = (CUgraphExec)executable;
    return fake_leave(CUDA_SUCCESS);
}

static void executable_drop(struct executable *executable)
{
    if (--executable->references)
        return;
    graph_clear(&executable->graph);
    pthread_mutex_destroy(&executable->running);
    free(executable);
}

static CUresult run_launch(struct fake_op *op, struct fake_stream *stream)
{
    struct executable *executable = ((struct launch *)op)->executable;
    CUresult result = CUDA_SUCCESS;
    pthread_mutex_lock(&executable->running);
    for (size_t i = 0; i < executable->graph.count && !result; i++)
        result = executable->graph.ops[i]->run(executable->graph.ops[i], stream);
    pthread_mutex_unlock(&executable->running);
    return result;
}

static void destroy_launch(struct fake_op *op)
{
    executable_drop(((struct launch *)op)->executable);
}

CUresult cuGraphLaunch(CUgraphExec handle, CUstream stream_handle)
{
    CUresult result = fake_enter("cuGraphLaunch", FAKE_CONTEXT);
    struct executable *executable = (struct executable *)handle;
    struct fake_stream *stream;
    struct launch *launch;
    if (result)
        return result;
    result = fake_stream_find(stream_handle, &stream);
    if (!result && (!executable || executable->context != stream->context))
        result = CUDA_ERROR_INVALID_VALUE;
    if (result)
        return fake_leave(result);
    launch = fake_op_new(sizeof(*launch), run_launch, destroy_launch);
    launch->executable = executable;
    executable->references++;
    return fake_leave(fake_stream_submit(stream, &launch->op));
}

/* A launch under way still ends. */
CUresult cuGraphExecDestroy(CUgraphExec handle)
{
    CUresult result = fake_enter("cuGraphExecDestroy", FAKE_INIT);
    if (result)
        return result;
    if (!handle)
        return fake_leave(CUDA_ERROR_INVALID_VALUE);
    executable_drop((struct executable *)handle);
    return fake_leave(CUDA_SUCCESS);
}

CUresult cuUserObjectCreate(CUuserObject *out, void *pointer, CUhostFn destroy, unsigned int references, unsigned int flags)
{
    CUresult result = fake_enter("cuUserObjectCreate", FAKE_INIT);
    struct object *object;
    if (result)
        return result;
    if (!out || !destroy || !references || flags != CU_USER_OBJECT_NO_DESTRUCTOR_SYNC)
        return fake_leave(CUDA_ERROR_INVALID_VALUE);
    object = calloc(1, sizeof(*object));
    if (!object)
        abort();
    *object = (struct object){pointer, destroy, references};
    *out = (CUuserObject)object;
    return fake_leave(CUDA_SUCCESS);
}

CUresult cuUserObjectRelease(CUuserObject handle, unsigned int count)
{
    CUresult result = fake_enter("cuUserObjectRelease", FAKE_INIT);
    struct object *object = (struct object *)handle;
    if (result)
        return result;
    if (!object || !count || count > object->references)
        return fake_leave(CUDA_ERROR_INVALID_VALUE);
    object_drop(object, count);
    return fake_leave(CUDA_SUCCESS);
}

CUresult cuGraphRetainUserObject(CUgraph graph, CUuserObject handle, unsigned int count, unsigned int flags)
{
    CUresult result = fake_enter("cuGraphRetainUserObject", FAKE_INIT);
    struct object *object = (struct object *)handle;
    if (result)
        return result;
    if (!graph || !object || !count || flags & ~(unsigned)CU_GRAPH_USER_OBJECT_MOVE)
        return fake_leave(CUDA_ERROR_INVALID_VALUE);
    if (!(flags & CU_GRAPH_USER_OBJECT_MOVE))
        object->references += count;
    hold((struct fake_graph *)graph, object, count);
    return fake_leave(CUDA_SUCCESS);
}
