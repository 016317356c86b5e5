#include "event.h"

#include "args.h"
#include "clock.h"
#include "context.h"
#include "cuda/gpu.h"
#include "error.h"
#include "member.h"
#include "served.h"

#include <string.h>
#include <time.h>

enum {
    SLAB_EVENTS = 64,
    LONGEST_NAP_US = 200, /* on GPUs: between two looks at a stream */
    DETAILS_MS = 50,      /* of a failure: a few round trips to the daemon */
};

struct tcc_event_slab {
    struct tcc_event_slab *next;
    struct trtcoll_event events[SLAB_EVENTS];
};

int tcc_event_pool_create(struct tcc_event_pool *pool)
{
    memset(pool, 0, sizeof(*pool));
    return pthread_mutex_init(&pool->lock, NULL) ? TRTCOLL_ENOMEM : 0;
}

void tcc_event_pool_destroy(struct trtcoll_ctx *ctx)
{
    struct tcc_event_slab *slab, *next;
    unsigned i;

    for (slab = ctx->events.slabs; slab; slab = slab->next)
        for (i = 0; i < SLAB_EVENTS; i++)
            if (slab->events[i].member)
                tcc_member_drop(slab->events[i].member);
    if (!tcc_forked(ctx))
        tcc_gpu_settle(ctx);
    for (slab = ctx->events.slabs; slab; slab = next) {
        next = slab->next;
        for (i = 0; i < SLAB_EVENTS && !tcc_forked(ctx); i++)
            tcc_mark_destroy(&slab->events[i]);
        tcc_free(ctx, slab);
    }
    ctx->events.slabs = NULL;
    pthread_mutex_destroy(&ctx->events.lock);
}

/* With the lock. */
static void grow(struct trtcoll_ctx *ctx)
{
    struct tcc_event_slab *slab = tcc_alloc(ctx, sizeof(*slab));
    unsigned i;

    if (!slab)
        return;
    slab->next = ctx->events.slabs;
    ctx->events.slabs = slab;
    for (i = 0; i < SLAB_EVENTS; i++) {
        slab->events[i].ctx = ctx;
        slab->events[i].next = ctx->events.free;
        ctx->events.free = &slab->events[i];
    }
}

/* For its next run. */
static void begin(struct trtcoll_event *event)
{
    atomic_store_explicit(&event->holders, 1, memory_order_relaxed);
    event->result = 0;
    event->rank = TRTCOLL_RANK_NONE;
    event->submit_ns = event->start_ns = event->end_ns = 0;
    event->marked = false;
    event->step = 0;
    atomic_store_explicit(&event->state, TCC_EVENT_PENDING, memory_order_relaxed);
}

void tcc_event_init(struct trtcoll_event *event, struct trtcoll_ctx *ctx)
{
    event->ctx = ctx;
    event->next = NULL;
    event->mark = NULL;
    begin(event);
}

struct trtcoll_event *tcc_event_get(struct trtcoll_ctx *ctx)
{
    struct trtcoll_event *event;

    pthread_mutex_lock(&ctx->events.lock);
    if (!ctx->events.free)
        grow(ctx);
    event = ctx->events.free;
    if (event)
        ctx->events.free = event->next;
    pthread_mutex_unlock(&ctx->events.lock);
    if (!event)
        return NULL;
    begin(event);
    return event;
}

void tcc_event_hold(struct trtcoll_event *event)
{
    atomic_fetch_add_explicit(&event->holders, 1, memory_order_relaxed);
}

void tcc_event_drop(struct trtcoll_event *event)
{
    struct trtcoll_ctx *ctx = event->ctx;

    if (atomic_fetch_sub_explicit(&event->holders, 1, memory_order_acq_rel) != 1)
        return;
    if (event->member)
        tcc_member_drop(event->member);
    event->member = NULL;
    atomic_store_explicit(&event->state, TCC_EVENT_FREE, memory_order_relaxed);
    pthread_mutex_lock(&ctx->events.lock);
    event->next = ctx->events.free;
    ctx->events.free = event;
    pthread_mutex_unlock(&ctx->events.lock);
}

void tcc_event_complete(struct trtcoll_event *event, int result, uint32_t rank, uint64_t start_ns, uint64_t end_ns)
{
    event->result = result;
    event->rank = rank;
    event->start_ns = start_ns;
    event->end_ns = end_ns;
    atomic_store_explicit(&event->state, event->marked ? TCC_EVENT_ANSWERED : TCC_EVENT_DONE, memory_order_release);
}

/* Direct runs on GPUs: the stream has passed the run, so its result is known to the kernel. `code`: the device's own failure. */
static void end_direct(struct trtcoll_event *event, int code)
{
    uint32_t pending = TCC_EVENT_PENDING, rank = TRTCOLL_RANK_NONE;

    if (!atomic_compare_exchange_strong_explicit(&event->state, &pending, TCC_EVENT_ENDING, memory_order_acquire, memory_order_relaxed))
        return;
    if (!code)
        code = tcc_member_fault(event->member, event->step, &rank);
    event->result = code;
    event->rank = rank;
    event->start_ns = event->submit_ns;
    event->end_ns = tcw_now_ns();
    atomic_store_explicit(&event->state, TCC_EVENT_DONE, memory_order_release);
}

/* A device that has failed ends the membership for all. */
static void report_device(struct trtcoll_event *event, int code)
{
    struct tcw_error error = {.code = code, .rank = event->member->ready.rank, .pid = getpid()};

    tcw_text_set(error.text, sizeof(error.text), tcc_error()->text);
    tcc_member_report(event->member, &error);
}

/* On GPUs: has the stream passed the mark? */
static void look_at_mark(struct trtcoll_event *event)
{
    uint32_t answered = TCC_EVENT_ANSWERED;
    int code = tcc_mark_query(event);

    if (code == TRTCOLL_EAGAIN)
        return;
    if (code)
        report_device(event, code);
    if (event->lane == TCW_LANE_DIRECT)
        end_direct(event, code);
    else if (tcc_event_answered(event))
        atomic_compare_exchange_strong_explicit(&event->state, &answered, TCC_EVENT_DONE, memory_order_acq_rel, memory_order_relaxed);
}

/* Asks once whether the run is over. */
static void look(struct trtcoll_event *event)
{
    if (event->lane == TCW_LANE_SERVED && !tcc_event_answered(event))
        tcc_served_look(event);
    if (event->marked && !tcc_event_done(event))
        look_at_mark(event);
}

/* The driver offers no wait with an end, so it is asked: first often, then in short naps. */
static void wait_for_mark(struct trtcoll_event *event, uint64_t deadline_ns)
{
    uint64_t spin_ns = tcw_now_ns() + (uint64_t)event->member->ready.spin_us * 1000;
    struct timespec nap = {.tv_nsec = 5000};

    for (look_at_mark(event); !tcc_event_done(event); look_at_mark(event)) {
        if (tcw_now_ns() < spin_ns)
            continue;
        if (!tcc_deadline_left_ms(deadline_ns, 1))
            return;
        nanosleep(&nap, NULL);
        if (nap.tv_nsec < LONGEST_NAP_US * 1000)
            nap.tv_nsec += nap.tv_nsec / 4;
    }
}

static void wait_until(struct trtcoll_event *event, uint64_t deadline_ns)
{
    if (event->lane == TCW_LANE_SERVED)
        tcc_served_wait(event, deadline_ns);
    if (event->marked && !tcc_event_done(event) && (event->lane == TCW_LANE_DIRECT || tcc_event_answered(event)))
        wait_for_mark(event, deadline_ns);
}

int tcc_event_result(struct trtcoll_event *event)
{
    struct tcw_error failure;

    if (!event->result)
        return 0;
    if (event->result == TRTCOLL_ECONN && tcc_rpc_gone(&event->ctx->rpc))
        return tcc_rpc_fail_gone(&event->ctx->rpc);
    if (tcc_member_breaks_with(event->result) && tcc_member_failure(event->member, &failure) && failure.code == event->result)
        return tcc_fail_wire(&failure, event->member->name);
    tcc_fail(event->result, "a run of plan %u of group %s failed: %s", event->plan_id, event->member->name,
             trtcoll_error_text(event->result));
    tcc_error()->rank = event->rank;
    if (event->rank < event->member->ready.size)
        tcc_error()->pid = event->member->ready.peers[event->rank].pid;
    tcw_text_set(tcc_error()->group, sizeof(tcc_error()->group), event->member->name);
    return event->result;
}

static int enter(const struct trtcoll_event *event)
{
    if (!event)
        return tcc_fail_plainly(TRTCOLL_EINVAL, "event is NULL");
    return tcc_ctx_enter(event->ctx);
}

int trtcoll_event_wait(struct trtcoll_event *event, uint32_t timeout_ms)
{
    int code = enter(event);

    if (code)
        return code;
    if (!tcc_event_done(event)) {
        wait_until(event, timeout_ms == UINT32_MAX ? TCC_FOREVER : tcc_deadline_after(tcw_now_ns(), timeout_ms));
        if (!tcc_event_done(event))
            return tcc_fail(TRTCOLL_ETIMEOUT, "the run of plan %u of group %s is still in flight after %u ms", event->plan_id,
                            event->member->name, timeout_ms);
    }
    if (tcc_member_breaks_with(event->result) || event->result == TRTCOLL_ECONN)
        tcc_member_await_failure(event->member, DETAILS_MS);
    return tcc_event_result(event);
}

int trtcoll_event_query(struct trtcoll_event *event)
{
    int code = enter(event);

    if (code)
        return code;
    if (!tcc_event_done(event)) {
        look(event);
        if (!tcc_event_done(event))
            return tcc_fail_plainly(TRTCOLL_EAGAIN, "the run is still in flight");
    }
    return tcc_event_result(event);
}

int trtcoll_event_status(struct trtcoll_event *event, struct trtcoll_event_info *user)
{
    struct trtcoll_event_info info = {.code = TRTCOLL_EAGAIN, .rank = TRTCOLL_RANK_NONE};
    int code = enter(event);

    if (code)
        return code;
    if (!tcc_event_done(event))
        look(event);
    info.lane = event->lane;
    info.submit_ns = event->submit_ns;
    if (tcc_event_done(event)) {
        info.code = event->result;
        info.rank = event->rank;
        info.start_ns = event->start_ns;
        info.end_ns = event->end_ns;
    }
    return tcc_args_out("info", &info, sizeof(info), user);
}

int trtcoll_event_cuda(struct trtcoll_event *event, struct CUevent_st **handle)
{
    int code = enter(event);

    if (code)
        return code;
    if (!handle)
        return tcc_fail_plainly(TRTCOLL_EINVAL, "handle is NULL: there is nowhere to put the result");
    if (!event->marked)
        return tcc_fail_plainly(TRTCOLL_ENOTSUP, "this run was on no stream: its event is none of CUDA");
    *handle = event->mark;
    return 0;
}

void trtcoll_event_put(struct trtcoll_event *event)
{
    struct tcc_member *member;

    if (!event || tcc_forked(event->ctx))
        return;
    /* A membership may keep the event for its mark, which must not keep the membership. */
    if (event->marked && event->lane == TCW_LANE_DIRECT) {
        member = event->member;
        event->member = NULL;
        tcc_member_drop(member);
    }
    tcc_event_drop(event);
}
