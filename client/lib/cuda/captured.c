#include "cuda/captured.h"

#include "clock.h"
#include "cuda/words.h"
#include "error.h"
#include "run.h"
#include "served.h"

#include <sched.h>
#include <string.h>

enum { PATIENCE_MS = 200 }; /* the driver frees graphs in its own time */

static struct tcc_gpu *gpu_of(const struct tcc_served *served)
{
    return atomic_load_explicit(&served->member->ctx->gpu, memory_order_acquire);
}

/* ---- what is kept; everything here with the lock ---- */

static void drop_ranges(struct tcc_served *served, struct tcc_captured_request *request)
{
    while (request->count)
        tcc_range_drop(request->ranges[--request->count]);
    tcc_free(served->member->ctx, request->ranges);
    request->ranges = NULL;
}

static void forget(struct tcc_served *served, struct tcc_captured_request *request)
{
    drop_ranges(served, request);
    if (request->leash)
        tcc_leash_drop(request->leash);
    *request = (struct tcc_captured_request){.state = TCC_CAPTURED_FREE};
    served->captured->used--;
}

static struct tcc_captured_request *find_free(struct tcc_served *served)
{
    uint32_t i;

    for (i = 0; i < TCW_CAPTURED; i++)
        if (served->captured->requests[i].state == TCC_CAPTURED_FREE)
            return &served->captured->requests[i];
    return NULL;
}

/* The lock is released: something of what is waited for takes its time elsewhere. */
static void step_aside(struct tcc_served *served)
{
    pthread_mutex_unlock(&served->lock);
    sched_yield();
    pthread_mutex_lock(&served->lock);
    tcc_served_reap(served);
    tcc_served_check(served);
}

/* A free index, taken. NULL with the last error set. The lock is released while the driver has yet to say that graphs are gone. */
static struct tcc_captured_request *take(struct tcc_served *served, uint32_t buffers)
{
    struct trtcoll_ctx *ctx = served->member->ctx;
    uint64_t until_ns = tcw_now_ns() + PATIENCE_MS * TCC_MS;
    struct tcc_captured_request *request;

    if (!served->captured)
        served->captured = tcc_alloc(ctx, sizeof(*served->captured));
    if (!served->captured) {
        tcc_fail_code(TRTCOLL_ENOMEM, "captured run");
        return NULL;
    }
    for (tcc_captured_collect(served); !(request = find_free(served)); tcc_captured_collect(served)) {
        if (tcw_now_ns() >= until_ns) {
            tcc_fail(TRTCOLL_EAGAIN, "graphs hold %d served runs of group %s already, and there is room for no more: destroy some",
                     TCW_CAPTURED, served->member->name);
            return NULL;
        }
        step_aside(served);
    }
    request->ranges = tcc_alloc(ctx, (buffers + 1) * sizeof(struct tcc_range *));
    if (!request->ranges) {
        tcc_fail_code(TRTCOLL_ENOMEM, "captured run");
        return NULL;
    }
    if (tcc_leash_create(ctx, &request->leash)) {
        drop_ranges(served, request);
        return NULL;
    }
    request->state = TCC_CAPTURED_POSTED;
    served->captured->used++;
    return request;
}

static uint32_t index_of(const struct tcc_served *served, const struct tcc_captured_request *request)
{
    return (uint32_t)(request - served->captured->requests);
}

static bool in_graphs(const struct tcc_captured_request *request)
{
    return request->leash && atomic_load_explicit(&request->leash->graphs, memory_order_acquire);
}

void tcc_captured_answered(struct tcc_served *served, const struct tcc_flight *flight, int result)
{
    struct tcc_captured_request *request = &served->captured->requests[flight->captured - 1];

    if (result || request->state == TCC_CAPTURED_RELEASED)
        forget(served, request);
    else
        request->state = request->state == TCC_CAPTURED_POSTED ? TCC_CAPTURED_ACCEPTED : TCC_CAPTURED_HELD;
}

bool tcc_captured_any(const struct tcc_served *served)
{
    return served->captured && served->captured->used;
}

/* False: not now. Half of the slots are left to runs, which would find none free just because a large graph has gone. */
static bool give_back(struct tcc_served *served, struct tcc_captured_request *request)
{
    struct tcw_sqe head = {.op = TCW_OP_NOP, .flags = TCW_SQE_CAPTURED | TCW_SQE_RELEASE, .pair = (uint16_t)index_of(served, request)};
    struct trtcoll_event *event;
    bool posted;

    if (2 * tcc_served_in_flight(served) >= served->ring.cq_entries)
        return false;
    event = tcc_event_get(served->member->ctx);
    if (!event)
        return false;
    event->lane = TCW_LANE_SERVED;
    posted = tcc_served_post(served, event, &head, NULL, head.pair + 1u);
    if (posted)
        request->state = TCC_CAPTURED_RELEASED; /* the entry has the event */
    else
        tcc_event_drop(event);
    return posted;
}

/* False: some could not be given back now. */
static bool collect(struct tcc_served *served)
{
    uint32_t i;

    for (i = 0; tcc_captured_any(served) && i < TCW_CAPTURED; i++) {
        struct tcc_captured_request *request = &served->captured->requests[i];

        if (request->state != TCC_CAPTURED_HELD || in_graphs(request))
            continue;
        if (served->ended)
            forget(served, request);
        else if (!give_back(served, request))
            return false;
    }
    return true;
}

void tcc_captured_collect(struct tcc_served *served)
{
    collect(served);
}

void tcc_captured_refresh(struct tcc_served *served)
{
    uint32_t gone;

    if (!tcc_captured_any(served))
        return;
    gone = tcc_leash_graphs_gone();
    if (gone != served->captured->gone && collect(served))
        served->captured->gone = gone;
}

void tcc_captured_end(struct tcc_served *served)
{
    uint32_t i;

    tcw_ring_captured_over(&served->ring);
    for (i = 0; served->captured && i < TCW_CAPTURED; i++)
        drop_ranges(served, &served->captured->requests[i]); /* the executor has let go of them too */
}

bool tcc_captured_in_use(struct tcc_served *served)
{
    bool used = false;
    uint32_t i;

    pthread_mutex_lock(&served->lock);
    for (i = 0; served->captured && i < TCW_CAPTURED; i++)
        used = used || in_graphs(&served->captured->requests[i]);
    pthread_mutex_unlock(&served->lock);
    return used;
}

void tcc_captured_destroy(struct tcc_served *served)
{
    uint32_t i;

    for (i = 0; served->captured && i < TCW_CAPTURED; i++) {
        struct tcc_captured_request *request = &served->captured->requests[i];

        request->count = 0; /* let go of when the lane ended; in a forked child they are not even there */
        if (request->state != TCC_CAPTURED_FREE)
            forget(served, request);
    }
    tcc_free(served->member->ctx, served->captured);
    served->captured = NULL;
}

/* ---- capturing ---- */

/* One node: the graph says that the inputs are there, and goes no further until the outputs are. */
static CUresult exchange(const struct tcc_gpu *gpu, const struct tcc_served *served, uint32_t index, CUstream stream)
{
    const unsigned char *words = (const unsigned char *)served->ring.words, *captured = (const unsigned char *)served->ring.captured;
    CUdeviceptr at = served->words->device + (uint64_t)(captured - words) + index * sizeof(struct tcw_captured);
    CUstreamBatchMemOpParams steps[2] = {0};

    steps[0].writeValue.operation = CU_STREAM_MEM_OP_WRITE_VALUE_32;
    steps[0].writeValue.address = at + offsetof(struct tcw_captured, turn);
    steps[0].writeValue.value = TCW_TURN_EXECUTOR;
    steps[1].waitValue.operation = CU_STREAM_MEM_OP_WAIT_VALUE_64;
    steps[1].waitValue.address = at + offsetof(struct tcw_captured, turn); /* and over, behind it */
    steps[1].waitValue.value64 = TCW_TURN_CLIENT;
    steps[1].waitValue.flags = CU_STREAM_WAIT_VALUE_GEQ;
    return gpu->driver->cuStreamBatchMemOp(stream, 2, steps, 0);
}

/* With the lock, which is released while there is no room. */
static int post(struct tcc_served *served, struct trtcoll_plan *plan, const struct tcc_run *run, struct trtcoll_event *event,
                const struct tcc_flight *buffers, struct tcc_captured_request **result)
{
    struct tcw_sqe head = {.op = plan->desc.op,
                           .flags = TCW_SQE_CAPTURED,
                           .plan = plan->handle,
                           .tokens = (uint32_t)run->tokens,
                           .ref_count = (uint16_t)buffers->count};
    uint64_t deadline_ns = tcc_ctx_deadline(plan->member->ctx);
    struct tcc_captured_request *request;
    uint32_t i;

    tcc_served_reap(served);
    request = take(served, buffers->count);
    if (!request)
        return tcc_error()->code;
    head.pair = (uint16_t)index_of(served, request);
    while (!tcc_served_post(served, event, &head, buffers->refs, head.pair + 1u)) {
        int code = tcc_member_fail(served->member);

        if (!code && (served->ended || tcc_rpc_gone(&served->member->ctx->rpc)))
            code = tcc_rpc_fail_gone(&served->member->ctx->rpc);
        if (!code && !tcc_deadline_left_ms(deadline_ns, 1))
            code = tcc_fail(TRTCOLL_EAGAIN, "no room in the ring of group %s", plan->member->name);
        if (code) {
            forget(served, request);
            return code;
        }
        step_aside(served);
    }
    for (i = 0; i < buffers->count; i++) {
        if (buffers->uses[i].range) {
            request->ranges[request->count++] = buffers->uses[i].range;
            buffers->uses[i].range = NULL;
        }
    }
    *result = request;
    return 0;
}

/* Without the lock: the executor's answer. */
static int await_answer(struct tcc_served *served, struct trtcoll_event *event, struct tcc_captured_request *request)
{
    const char *name = served->member->name;
    bool answered;

    tcc_served_wait(event, tcc_ctx_deadline(served->member->ctx));
    pthread_mutex_lock(&served->lock);
    answered = tcc_event_answered(event);
    if (!answered)
        request->state = TCC_CAPTURED_ABANDONED;
    pthread_mutex_unlock(&served->lock);
    if (!answered)
        return tcc_fail(TRTCOLL_ETIMEOUT,
                        "the executor of group %s has not accepted a run to be captured in time: do its earlier runs end?", name);
    if (event->result == TRTCOLL_EINVAL || event->result == TRTCOLL_ENOENT)
        return tcc_fail(event->result, "the executor of group %s does not accept this run of plan %u for graphs", name, event->plan_id);
    return tcc_event_result(event);
}

/* The graph that is being captured gets it. Where that fails, a leash without graphs has it given back. */
static int embed(struct tcc_served *served, const struct tcc_run *run, struct tcc_captured_request *request)
{
    struct tcc_gpu *gpu = gpu_of(served);
    uint64_t capture = 0;
    struct tcc_visit visit;
    CUresult result;
    int code = tcc_visit_begin(&visit, gpu);

    if (!code) {
        code = tcc_leash_hold(gpu, request->leash, &capture, run->stream);
        result = code ? CUDA_SUCCESS : exchange(gpu, served, index_of(served, request), run->stream);
        if (result != CUDA_SUCCESS)
            code = tcc_driver_fail(result, "the run cannot be captured");
        tcc_visit_end(&visit);
    }
    pthread_mutex_lock(&served->lock);
    if (request->state == TCC_CAPTURED_ACCEPTED)
        request->state = TCC_CAPTURED_HELD;
    if (!in_graphs(request)) /* not any more, or never: nothing else will say so */
        tcc_captured_collect(served);
    pthread_mutex_unlock(&served->lock);
    return code;
}

static int find_buffers(struct tcc_flight *buffers, const struct trtcoll_plan *plan, const struct tcc_run *run)
{
    struct trtcoll_ctx *ctx = plan->member->ctx;
    uint32_t i;

    if (tcc_flight_reserve(buffers, ctx, plan->ref_count))
        return tcc_error()->code;
    if (tcc_flight_find(buffers, plan, run))
        return 0;
    for (i = 0; i < plan->ref_count; i++) {
        const struct tcc_use *use = &buffers->uses[i];

        if (use->bytes && !tcc_flight_knows(ctx, use->user, use->bytes))
            return tcc_fail(TRTCOLL_ECAPTURE,
                            "buffer %p of %llu bytes is not known to the executor, and captured runs of the served lane cannot copy it: "
                            "use trtcoll_alloc or trtcoll_register",
                            (void *)use->user, (unsigned long long)use->bytes);
    }
    return tcc_fail(TRTCOLL_EAGAIN, "the buffers were being registered by another thread");
}

static int capture(struct tcc_served *served, struct trtcoll_plan *plan, const struct tcc_run *run, struct tcc_flight *buffers)
{
    struct trtcoll_event *event = tcc_event_get(plan->member->ctx);
    struct tcc_captured_request *request = NULL;
    int code;

    if (!event)
        return tcc_fail_code(TRTCOLL_ENOMEM, "event");
    event->lane = TCW_LANE_SERVED;
    event->plan_id = plan->plan_id;
    event->member = plan->member;
    tcc_member_hold(plan->member);
    tcc_event_hold(event);
    pthread_mutex_lock(&served->lock);
    code = post(served, plan, run, event, buffers, &request);
    pthread_mutex_unlock(&served->lock);
    if (code)
        tcc_event_drop(event); /* which the entry would have */
    else
        code = await_answer(served, event, request);
    tcc_event_drop(event);
    return code ? code : embed(served, run, request);
}

/* Whether the stream is being captured. Every run of a plan for graphs asks, mostly on the stream of the one before it. */
static int look(struct tcc_served *served, CUstream stream, bool *capturing)
{
    const struct tcc_words *words = served->words;
    struct tcc_gpu *gpu = gpu_of(served);
    CUstreamCaptureStatus status = CU_STREAM_CAPTURE_STATUS_NONE;
    struct tcc_visit visit;
    bool known;
    int code;

    pthread_mutex_lock(&served->lock);
    known = words->known && words->stream == stream;
    pthread_mutex_unlock(&served->lock);
    /* Streams that somebody made can be asked from any context. */
    if (known && stream && stream != CU_STREAM_LEGACY && stream != CU_STREAM_PER_THREAD &&
        gpu->driver->cuStreamIsCapturing(stream, &status) == CUDA_SUCCESS && status != CU_STREAM_CAPTURE_STATUS_INVALIDATED) {
        *capturing = status == CU_STREAM_CAPTURE_STATUS_ACTIVE;
        return 0;
    }
    code = tcc_visit_begin(&visit, gpu);
    if (code)
        return code;
    code = tcc_stream_look(gpu, stream, known, capturing);
    tcc_visit_end(&visit);
    return code;
}

int tcc_captured_run(struct trtcoll_plan *plan, const struct tcc_run *run, bool wants_event, bool *captured)
{
    struct tcc_served *served = atomic_load_explicit(&plan->member->served, memory_order_acquire);
    struct tcc_flight buffers = {.count = 0};
    int code = look(served, run->stream, captured);

    if (code || !*captured)
        return code;
    code = tcc_capture_check(plan, wants_event);
    if (!code)
        code = find_buffers(&buffers, plan, run);
    if (!code)
        code = capture(served, plan, run, &buffers);
    tcc_flight_empty(&buffers, plan->member->ctx, false, false);
    tcc_flight_destroy(&buffers, plan->member->ctx);
    return code;
}
