#include "cuda/lane.h"

#include "clock.h"
#include "error.h"
#include "member.h"
#include "run.h"
#include "served.h"
#include "workspace.h"

#include <tck/cuda_multicast.h>

#include <stddef.h>
#include <stdio.h>
#include <string.h>

static struct tcc_gpu *gpu_of(const struct tcc_member *member)
{
    return atomic_load_explicit(&member->ctx->gpu, memory_order_acquire);
}

/* ---- making and unmaking ---- */

int tcc_lane_create(struct tcc_member *member)
{
    struct tcc_gpu *gpu = gpu_of(member);
    struct tcc_lane *lane = tcc_alloc(member->ctx, sizeof(*lane));
    struct tcc_visit visit;
    int code;

    if (!lane)
        return tcc_fail_code(TRTCOLL_ENOMEM, "group");
    lane->timed = true;
    code = tcc_visit_begin(&visit, gpu);
    if (!code) {
        code = tck_cuda_register_host(gpu->device, member->page, member->ready.page_bytes, &lane->page);
        if (code)
            code = tcc_fail(code, "the member page of %s could not be registered with %s: %s (is the limit of locked memory too low?)",
                            member->name, tcc_gpu_name(gpu), trtcoll_error_text(code));
        tcc_visit_end(&visit);
    }
    if (code) {
        tcc_free(member->ctx, lane);
        return code;
    }
    member->lane = lane;
    return 0;
}

void tcc_lane_destroy(struct tcc_member *member)
{
    struct tcc_gpu *gpu = gpu_of(member);
    struct tcc_lane *lane = member->lane;
    struct tcc_visit visit;

    if (!lane)
        return;
    if (lane->latest)
        tcc_event_drop(lane->latest);
    if (!tcc_visit_begin(&visit, gpu)) {
        tck_cuda_unregister_host(gpu->device, member->page);
        tcc_visit_end(&visit);
    }
    tcc_free(member->ctx, lane);
    member->lane = NULL;
}

int tcc_lane_multicast_check(void)
{
    return tck_cuda_multicast_allowed()
               ? 0
               : tcc_fail_plainly(TRTCOLL_ENOTSUP,
                                  "the daemon uses NVLink multicast for this group, but here NCCL_NVLS_ENABLE is 0: take that "
                                  "out of the environment, or \"multicast\" out of the daemon's configuration");
}

int tcc_lane_connect(struct tcc_member *member, struct tcc_workspace *workspace)
{
    struct tcc_gpu *gpu = gpu_of(member);
    void *bases[TCW_MAX_RANKS + 1];
    struct tck_cuda_comm_params params = {
        .device = gpu->device,
        .rank = member->ready.rank,
        .nranks = member->ready.size,
        .workspaces = bases,
        .workspace_bytes = workspace->bytes,
        .abort_word = member->lane->page + offsetof(struct tcw_member_page, abort_word),
        .deadline_ns = member->lane->page + offsetof(struct tcw_member_page, deadline_ns),
        .progress = member->lane->page + offsetof(struct tcw_member_page, device),
    };
    struct tcc_gpu_comm *comm = tcc_alloc(member->ctx, sizeof(*comm));
    struct tcc_visit visit;
    uint32_t i;
    int code;

    if (!comm)
        return tcc_fail_code(TRTCOLL_ENOMEM, "communicator of the direct lane");
    for (i = 0; i < workspace->count; i++)
        bases[i] = workspace->memory[i].base;
    params.multicast = workspace->count > member->ready.size ? bases[member->ready.size] : NULL;
    code = tcc_leash_create(member->ctx, &comm->leash);
    if (!code)
        code = tcc_visit_begin(&visit, gpu);
    if (!code) {
        code = tck_cuda_comm_create(&params, &comm->comm);
        tcc_visit_end(&visit);
        if (code)
            code = tcc_fail_code(code, "communicator of the direct lane");
    }
    if (code) {
        if (comm->leash)
            tcc_leash_drop(comm->leash);
        tcc_free(member->ctx, comm);
        return code;
    }
    workspace->gpu = comm;
    return 0;
}

void tcc_lane_disconnect(struct tcc_member *member, struct tcc_workspace *workspace)
{
    struct tcc_visit visit;

    if (!workspace->gpu)
        return;
    if (!tcc_visit_begin(&visit, gpu_of(member))) {
        tck_cuda_comm_destroy(workspace->gpu->comm);
        tcc_visit_end(&visit);
    }
    tcc_leash_drop(workspace->gpu->leash);
    tcc_free(member->ctx, workspace->gpu);
    workspace->gpu = NULL;
}

/* ---- who still uses it ---- */

void tcc_lane_end(struct tcc_member *member)
{
    uint64_t none = 0;

    /* The daemon has let go of the page by now, so that this is its only writer. */
    atomic_compare_exchange_strong(&member->page->abort_word, &none, tcw_abort_pack(TRTCOLL_EABORTED, member->ready.rank));
}

/* With run_lock: gives the latest run its mark if it came without. */
static int mark_latest(struct tcc_gpu *gpu, struct tcc_lane *lane)
{
    struct trtcoll_event *event;
    int code;

    if (!lane->unmarked)
        return 0;
    event = tcc_event_get(gpu->ctx);
    if (!event)
        return tcc_fail_code(TRTCOLL_ENOMEM, "event");
    code = tcc_mark_record(gpu, event, lane->stream);
    if (code) {
        tcc_event_drop(event);
        return code;
    }
    if (lane->latest)
        tcc_event_drop(lane->latest);
    lane->latest = event;
    lane->unmarked = false;
    return 0;
}

static bool running(struct tcc_member *member)
{
    struct tcc_gpu *gpu = gpu_of(member);
    struct tcc_lane *lane = member->lane;
    struct tcc_visit visit;
    bool marked;

    pthread_mutex_lock(&member->run_lock);
    marked = !lane->unmarked;
    if (!marked && !tcc_visit_begin(&visit, gpu)) {
        marked = !mark_latest(gpu, lane);
        tcc_visit_end(&visit);
    }
    /* A device that has failed runs nothing any more. */
    marked = marked && (!lane->latest || tcc_mark_query(lane->latest) != TRTCOLL_EAGAIN);
    pthread_mutex_unlock(&member->run_lock);
    return !marked;
}

static bool captured(const struct tcc_workspace *workspace)
{
    return workspace->gpu && atomic_load_explicit(&workspace->gpu->leash->graphs, memory_order_acquire);
}

tcc_lane_use tcc_lane_in_use(struct tcc_member *member, struct tcc_workspace *workspace)
{
    struct tcc_served *served = atomic_load_explicit(&member->served, memory_order_acquire);
    bool held = workspace && captured(workspace);
    struct tcc_workspace *each;

    pthread_mutex_lock(&member->lock);
    for (each = member->workspaces; each && !workspace; each = each->next)
        held = held || captured(each);
    pthread_mutex_unlock(&member->lock);
    held = held || (!workspace && served && tcc_captured_in_use(served));
    if (running(member) || (!workspace && served && tcc_words_in_use(served)))
        return TCC_LANE_RUNNING;
    return held ? TCC_LANE_CAPTURED : TCC_LANE_IDLE;
}

/* ---- notes ---- */

/* Ends the records of runs that the GPU has finished. Their times are the device's; when they began is not known on the host's clock. */
static void settle(struct tcc_member *member)
{
    const struct tcw_device_progress *device = &member->page->device;
    struct tcc_lane *lane = member->lane;
    uint64_t steps = atomic_load_explicit(&device->steps, memory_order_acquire);

    while (lane->timed && lane->settled < lane->launches && lane->settled < steps) {
        uint64_t step = ++lane->settled;
        const struct tcw_device_record *times = &device->records[step % TCW_DEVICE_RECORDS];
        struct tcw_run_note *note = &lane->notes[step % TCW_RECORDS];

        if (steps - step < TCW_DEVICE_RECORDS && atomic_load_explicit(&times->step, memory_order_acquire) == step)
            tcw_member_run_end(member->page, lane->records[step % TCW_RECORDS], note, note->submit_ns + times->end_ns - times->start_ns, 0);
    }
}

static void note_run(const struct trtcoll_plan *plan, const struct tcc_run *run, uint64_t now_ns)
{
    struct tcc_member *member = plan->member;
    struct tcc_lane *lane = member->lane;
    struct tcw_run_note note = {.plan_id = plan->plan_id,
                                .op = plan->desc.op,
                                .lane = TCW_LANE_DIRECT,
                                .strategy = (uint8_t)run->strategy,
                                .dtype_fusion = (uint32_t)plan->desc.fusion << 16 | plan->desc.dtype,
                                .bytes = run->message_bytes,
                                .tokens = run->tokens,
                                .submit_ns = now_ns};
    uint64_t record = tcw_member_run_begin(member->page, &note, now_ns);

    lane->timed = lane->timed && (!lane->workspace || lane->workspace == plan->workspace);
    lane->workspace = plan->workspace;
    lane->launches++;
    lane->records[lane->launches % TCW_RECORDS] = record;
    lane->notes[lane->launches % TCW_RECORDS] = note;
    /* Nobody is inside a run on the host's side. */
    atomic_store_explicit(&member->page->state, TCW_MEMBER_IDLE, memory_order_relaxed);
    settle(member);
}

/* ---- runs ---- */

/* With run_lock: makes the stream wait for the latest run if that is on another one. */
static int order(struct tcc_gpu *gpu, struct tcc_lane *lane, CUstream stream)
{
    CUresult result;
    int code;

    if (!lane->used || lane->stream == stream)
        return 0;
    code = mark_latest(gpu, lane);
    if (code)
        return code;
    result = gpu->driver->cuStreamWaitEvent(stream, lane->latest->mark, 0);
    return result == CUDA_SUCCESS ? 0 : tcc_driver_fail(result, "order of streams");
}

int tcc_capture_check(const struct trtcoll_plan *plan, bool wants_event)
{
    if (!(plan->desc.flags & TCW_PLAN_GRAPH))
        return tcc_fail_plainly(TRTCOLL_ECAPTURE, "the stream is being captured: make the plan with TRTCOLL_GRAPH for that");
    if (wants_event)
        return tcc_fail_plainly(TRTCOLL_ECAPTURE, "a captured run has no event, it happens whenever its graph is launched: pass NULL");
    return 0;
}

/* A launch that failed on this rank alone leaves the others waiting, unless it was the arguments. */
static int launch_failed(struct trtcoll_plan *plan, int code)
{
    struct tcw_error error = {.code = code, .rank = plan->member->ready.rank};

    if (code == TRTCOLL_ENOTSUP || code == TRTCOLL_EINVAL)
        return tcc_fail(code, "this %s of plan %u cannot be launched: its buffers must be aligned to 16 bytes", tcw_op_name(plan->desc.op),
                        plan->plan_id);
    snprintf(error.text, sizeof(error.text), "rank %u could not launch its part of plan %u of group %s: %s", error.rank, plan->plan_id,
             plan->member->name, trtcoll_error_text(code));
    tcc_member_report(plan->member, &error);
    return tcc_member_fail(plan->member);
}

/* With run_lock, on the visit. `done`: an event with its mark to come, or NULL: none is needed. */
static int launch(struct trtcoll_plan *plan, const struct tcc_run *run, bool capturing, struct trtcoll_event *done)
{
    struct tcc_member *member = plan->member;
    struct tcc_lane *lane = member->lane;
    struct tcc_gpu *gpu = gpu_of(member);
    struct tcc_gpu_comm *comm = plan->workspace->gpu;
    struct tck_run work;
    uint64_t now_ns;
    int code = capturing ? tcc_leash_hold(gpu, comm->leash, &comm->capture, run->stream) : order(gpu, lane, run->stream);

    if (code)
        return code;
    tcc_run_work(plan, run, &work);
    now_ns = tcw_now_ns();
    code = tck_cuda_comm_launch(comm->comm, &work, run->stream, run->pdl);
    if (code)
        return launch_failed(plan, code);
    if (capturing) {
        lane->timed = false;
        return 0;
    }
    lane->used = true;
    lane->stream = run->stream;
    lane->unmarked = true;
    note_run(plan, run, now_ns);
    atomic_fetch_add_explicit(&plan->runs, 1, memory_order_relaxed);
    if (!done)
        return 0;
    done->submit_ns = now_ns;
    done->step = lane->timed ? lane->launches : 0;
    code = tcc_mark_record(gpu, done, run->stream);
    if (code)
        return launch_failed(plan, TRTCOLL_EDEVICE);
    tcc_event_hold(done);
    if (lane->latest)
        tcc_event_drop(lane->latest);
    lane->latest = done;
    lane->unmarked = false;
    return 0;
}

static int run_locked(struct trtcoll_plan *plan, const struct tcc_run *run, bool wants_event, struct trtcoll_event **done)
{
    struct tcc_member *member = plan->member;
    struct tcc_lane *lane = member->lane;
    bool capturing = false;
    int code = tcc_member_fail(member);

    if (!code)
        code = tcc_stream_look(gpu_of(member), run->stream, lane->used && lane->stream == run->stream, &capturing);
    if (!code && capturing)
        code = tcc_capture_check(plan, wants_event);
    if (code)
        return code;
    /* A mark between two kernels would keep the second from starting early; who wants that and no event gets none. */
    if (!capturing && (wants_event || !run->pdl)) {
        *done = tcc_event_get(member->ctx);
        if (!*done)
            return tcc_fail_code(TRTCOLL_ENOMEM, "event");
        (*done)->lane = TCW_LANE_DIRECT;
        (*done)->plan_id = plan->plan_id;
    }
    return launch(plan, run, capturing, *done);
}

int tcc_lane_run(struct trtcoll_plan *plan, const struct tcc_run *run, struct trtcoll_event **event)
{
    struct tcc_member *member = plan->member;
    struct trtcoll_event *done = NULL;
    struct tcc_visit visit;
    int code = tcc_visit_begin(&visit, gpu_of(member));

    if (code)
        return code;
    pthread_mutex_lock(&member->run_lock);
    code = run_locked(plan, run, event != NULL, &done);
    pthread_mutex_unlock(&member->run_lock);
    tcc_visit_end(&visit);
    if (!code && event && done) {
        /* The mark alone would do for a stream; who asks for the run's result asks this membership. */
        done->member = member;
        tcc_member_hold(member);
        *event = done;
    } else if (done) {
        tcc_event_drop(done);
    }
    return code;
}
