#include "cuda/visit.h"

#include "clock.h"
#include "error.h"
#include "member.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

enum {
    SETTLE_NAP_US = 100, /* between two looks at what streams have yet to finish, while the context closes */
    GRAPHS_MS = 200,     /* the driver tells of graphs that the application has destroyed in its own time */
};

int tcc_driver_fail(CUresult result, const char *what)
{
    char text[160];

    tcc_fail(tck_cuda_code(result), "%s: %s", what, tck_cuda_text(result, text, sizeof(text)));
    tcc_error()->device_code = (int32_t)result;
    return tcc_error()->code;
}

int tcc_visit_begin(struct tcc_visit *visit, struct tcc_gpu *gpu)
{
    int code = tck_cuda_enter(gpu->device);

    if (code)
        return tcc_fail(code, "the context of %s cannot be made current", tcc_gpu_name(gpu));
    visit->gpu = gpu;
    visit->mode = CU_STREAM_CAPTURE_MODE_RELAXED;
    gpu->driver->cuThreadExchangeStreamCaptureMode(&visit->mode);
    return 0;
}

void tcc_visit_end(struct tcc_visit *visit)
{
    visit->gpu->driver->cuThreadExchangeStreamCaptureMode(&visit->mode);
    tck_cuda_leave(visit->gpu->device);
}

static void uuid_text(const unsigned char *uuid, char *text, size_t bytes)
{
    snprintf(text, bytes, "GPU-%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", uuid[0], uuid[1], uuid[2], uuid[3],
             uuid[4], uuid[5], uuid[6], uuid[7], uuid[8], uuid[9], uuid[10], uuid[11], uuid[12], uuid[13], uuid[14], uuid[15]);
}

static int open_first(struct trtcoll_ctx *ctx, const unsigned char *uuid)
{
    char why[TCW_TEXT_BYTES] = "", name[64];
    struct tcc_gpu *gpu = tcc_alloc(ctx, sizeof(*gpu));
    int code;

    if (!gpu)
        return tcc_fail_code(TRTCOLL_ENOMEM, "GPU");
    gpu->ctx = ctx;
    memcpy(gpu->uuid, uuid, sizeof(gpu->uuid));
    if (pthread_mutex_init(&gpu->lock, NULL)) {
        tcc_free(ctx, gpu);
        return tcc_fail_code(TRTCOLL_ENOMEM, "GPU");
    }
    code = tck_device_open(uuid, -1, &gpu->device, why, sizeof(why));
    if (code) {
        uuid_text(uuid, name, sizeof(name));
        pthread_mutex_destroy(&gpu->lock);
        tcc_free(ctx, gpu);
        return tcc_fail(code, "the group's device %s: %.150s", name, why[0] ? why : trtcoll_error_text(code));
    }
    gpu->driver = tck_cuda_driver();
    atomic_store_explicit(&ctx->gpu, gpu, memory_order_release);
    return 0;
}

int tcc_gpu_open(struct trtcoll_ctx *ctx, const unsigned char *uuid)
{
    struct tcc_gpu *gpu;
    char name[64];
    int code = 0;

    pthread_mutex_lock(&ctx->gpu_lock);
    gpu = atomic_load_explicit(&ctx->gpu, memory_order_relaxed);
    if (!gpu) {
        code = open_first(ctx, uuid);
    } else if (memcmp(gpu->uuid, uuid, sizeof(gpu->uuid)) != 0) {
        uuid_text(uuid, name, sizeof(name));
        code = tcc_fail(TRTCOLL_ENOTSUP, "the group's device is %s, this context works on %s: open a context for each GPU", name,
                        tcc_gpu_name(gpu));
    }
    pthread_mutex_unlock(&ctx->gpu_lock);
    return code;
}

struct tck_device *tcc_gpu_device(const struct tcc_gpu *gpu)
{
    return gpu ? gpu->device : NULL;
}

const char *tcc_gpu_name(const struct tcc_gpu *gpu)
{
    return tck_device_facts(gpu->device)->name;
}

const unsigned char *tcc_gpu_uuid(const struct tcc_gpu *gpu)
{
    return gpu->uuid;
}

int tcc_stream_look(struct tcc_gpu *gpu, CUstream stream, bool known, bool *capturing)
{
    CUstreamCaptureStatus status = CU_STREAM_CAPTURE_STATUS_NONE;
    CUcontext context = NULL;
    CUresult result;

    if (!known) {
        result = gpu->driver->cuStreamGetCtx(stream, &context);
        if (result == CUDA_SUCCESS && context != tck_cuda_context(gpu->device))
            return tcc_fail(TRTCOLL_EINVAL, "the stream is not of the primary context of %s, this group's GPU", tcc_gpu_name(gpu));
        if (result != CUDA_SUCCESS && result != CUDA_ERROR_STREAM_CAPTURE_IMPLICIT)
            return tcc_driver_fail(result, "stream");
    }
    result = gpu->driver->cuStreamIsCapturing(stream, &status);
    if (result == CUDA_ERROR_STREAM_CAPTURE_IMPLICIT)
        return tcc_fail_plainly(TRTCOLL_ECAPTURE, "the legacy default stream cannot be used while a blocking stream is being captured");
    if (result != CUDA_SUCCESS)
        return tcc_driver_fail(result, "stream");
    if (status == CU_STREAM_CAPTURE_STATUS_INVALIDATED)
        return tcc_fail_plainly(TRTCOLL_ECAPTURE, "the capture of this stream has been invalidated by an earlier call");
    *capturing = status == CU_STREAM_CAPTURE_STATUS_ACTIVE;
    return 0;
}

/* ---- marks ---- */

int tcc_mark_record(struct tcc_gpu *gpu, struct trtcoll_event *event, CUstream stream)
{
    CUresult result = CUDA_SUCCESS;

    if (!event->mark)
        result = gpu->driver->cuEventCreate(&event->mark, CU_EVENT_DISABLE_TIMING);
    if (result == CUDA_SUCCESS)
        result = gpu->driver->cuEventRecord(event->mark, stream);
    if (result != CUDA_SUCCESS)
        return tcc_driver_fail(result, "event");
    event->marked = true;
    return 0;
}

int tcc_mark_query(struct trtcoll_event *event)
{
    struct tcc_gpu *gpu = atomic_load_explicit(&event->ctx->gpu, memory_order_acquire);
    struct tcc_visit visit;
    CUresult result;
    int code = tcc_visit_begin(&visit, gpu);

    if (code)
        return code;
    result = gpu->driver->cuEventQuery(event->mark);
    tcc_visit_end(&visit);
    if (result == CUDA_SUCCESS)
        return 0;
    return result == CUDA_ERROR_NOT_READY ? TRTCOLL_EAGAIN : tcc_driver_fail(result, "the GPU has failed");
}

void tcc_mark_destroy(struct trtcoll_event *event)
{
    struct tcc_gpu *gpu = atomic_load_explicit(&event->ctx->gpu, memory_order_acquire);
    struct tcc_visit visit;

    if (!event->mark)
        return;
    if (!tcc_visit_begin(&visit, gpu)) {
        gpu->driver->cuEventDestroy(event->mark);
        tcc_visit_end(&visit);
    }
    event->mark = NULL;
}

/* ---- the parked ---- */

/* With the lock: takes out those that nothing uses any more. */
static struct tcc_member *take_idle(struct tcc_gpu *gpu)
{
    struct tcc_member **link = &gpu->parked, *idle = NULL, *member;

    while ((member = *link)) {
        if (tcc_lane_in_use(member, NULL) != TCC_LANE_IDLE) {
            link = &member->parked;
            continue;
        }
        *link = member->parked;
        member->parked = idle;
        idle = member;
    }
    return idle;
}

static void sweep(struct tcc_gpu *gpu)
{
    struct tcc_member *member, *next;

    pthread_mutex_lock(&gpu->lock);
    member = take_idle(gpu);
    pthread_mutex_unlock(&gpu->lock);
    for (; member; member = next) {
        next = member->parked;
        tcc_member_destroy(member);
    }
}

void tcc_gpu_park(struct tcc_member *member)
{
    struct tcc_gpu *gpu = atomic_load_explicit(&member->ctx->gpu, memory_order_acquire);

    pthread_mutex_lock(&gpu->lock);
    member->parked = gpu->parked;
    gpu->parked = member;
    pthread_mutex_unlock(&gpu->lock);
    sweep(gpu);
}

static bool some_running(const struct tcc_gpu *gpu)
{
    struct tcc_member *member;

    for (member = gpu->parked; member; member = member->parked)
        if (tcc_lane_in_use(member, NULL) == TCC_LANE_RUNNING)
            return true;
    return false;
}

/* Graphs that are still there are not waited for: their end is the application's doing. */
void tcc_gpu_settle(struct trtcoll_ctx *ctx)
{
    struct tcc_gpu *gpu = atomic_load_explicit(&ctx->gpu, memory_order_acquire);
    uint64_t deadline_ns = tcc_ctx_deadline(ctx), graphs_ns = tcc_deadline_after(tcw_now_ns(), GRAPHS_MS);
    struct timespec nap = {.tv_nsec = SETTLE_NAP_US * 1000};

    if (!gpu)
        return;
    gpu->closing = true;
    for (sweep(gpu); gpu->parked; sweep(gpu)) {
        if (some_running(gpu))
            graphs_ns = tcc_deadline_after(tcw_now_ns(), GRAPHS_MS);
        if (!tcc_deadline_left_ms(deadline_ns, 1) || !tcc_deadline_left_ms(graphs_ns, 1))
            break;
        nanosleep(&nap, NULL);
    }
}

/* Keeps what nobody will free where tools that look for leaks can see that it is meant. */
static void lose(struct tcc_gpu *gpu)
{
    static struct tcc_gpu *_Atomic lost;

    gpu->ctx = NULL;
    gpu->lost = atomic_load(&lost);
    while (!atomic_compare_exchange_weak(&lost, &gpu->lost, gpu))
        ;
}

void tcc_gpu_close(struct trtcoll_ctx *ctx)
{
    struct tcc_gpu *gpu = atomic_load_explicit(&ctx->gpu, memory_order_acquire);

    if (!gpu)
        return;
    atomic_store_explicit(&ctx->gpu, NULL, memory_order_relaxed);
    /* Better lost than taken from under a running kernel or a graph: the device stays open for them. */
    if (gpu->parked) {
        lose(gpu);
        tcc_log(ctx, TCC_LOG_WARNING,
                "streams or graphs still use memory of groups that were left: it stays mapped until this process ends");
        return;
    }
    tck_device_close(gpu->device);
    pthread_mutex_destroy(&gpu->lock);
    tcc_free(ctx, gpu);
}
