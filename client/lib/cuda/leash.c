#include "cuda/lane.h"

#include "error.h"

int tcc_leash_create(struct trtcoll_ctx *ctx, struct tcc_leash **result)
{
    struct tcc_leash *leash = tcc_alloc(ctx, sizeof(*leash));

    if (!leash)
        return tcc_fail_code(TRTCOLL_ENOMEM, "workspaces");
    leash->allocator = ctx->allocator;
    atomic_init(&leash->holders, 1);
    *result = leash;
    return 0;
}

void tcc_leash_drop(struct tcc_leash *leash)
{
    struct trtcoll_allocator allocator = leash->allocator;

    if (atomic_fetch_sub_explicit(&leash->holders, 1, memory_order_acq_rel) == 1)
        allocator.release(allocator.arg, leash);
}

static _Atomic uint32_t graphs_gone; /* of all leashes of the process */

uint32_t tcc_leash_graphs_gone(void)
{
    return atomic_load_explicit(&graphs_gone, memory_order_acquire);
}

/* The driver calls it when a graph and everything instantiated from it are gone and no launch of them runs any more. Must not call CUDA. */
static void CUDA_CB on_graph_gone(void *arg)
{
    struct tcc_leash *leash = arg;

    atomic_fetch_sub_explicit(&leash->graphs, 1, memory_order_release);
    atomic_fetch_add_explicit(&graphs_gone, 1, memory_order_release);
    tcc_leash_drop(leash);
}

int tcc_leash_hold(struct tcc_gpu *gpu, struct tcc_leash *leash, uint64_t *capture, CUstream stream)
{
    const struct tck_cuda_driver *driver = gpu->driver;
    CUstreamCaptureStatus status = CU_STREAM_CAPTURE_STATUS_NONE;
    CUuserObject object = NULL;
    CUgraph graph = NULL;
    cuuint64_t id = 0;
    CUresult result = driver->cuStreamGetCaptureInfo(stream, &status, &id, &graph, NULL, NULL, NULL);

    if (result != CUDA_SUCCESS)
        return tcc_driver_fail(result, "capture");
    if (*capture == id)
        return 0;
    atomic_fetch_add_explicit(&leash->holders, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&leash->graphs, 1, memory_order_relaxed);
    result = driver->cuUserObjectCreate(&object, leash, on_graph_gone, 1, CU_USER_OBJECT_NO_DESTRUCTOR_SYNC);
    if (result != CUDA_SUCCESS) {
        on_graph_gone(leash);
        return tcc_driver_fail(result, "what a graph holds");
    }
    result = driver->cuGraphRetainUserObject(graph, object, 1, CU_GRAPH_USER_OBJECT_MOVE);
    if (result != CUDA_SUCCESS) {
        driver->cuUserObjectRelease(object, 1); /* which calls on_graph_gone */
        return tcc_driver_fail(result, "what a graph holds");
    }
    *capture = id;
    return 0;
}
