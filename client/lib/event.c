#include "event.h"

#include "args.h"
#include "clock.h"
#include "context.h"
#include "error.h"
#include "member.h"
#include "served.h"

#include <poll.h>
#include <string.h>

enum { SLAB_EVENTS = 64 };

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

    for (slab = ctx->events.slabs; slab; slab = next) {
        next = slab->next;
        for (i = 0; i < SLAB_EVENTS; i++)
            if (slab->events[i].member)
                tcc_member_drop(slab->events[i].member);
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
    atomic_store_explicit(&event->state, TCC_EVENT_PENDING, memory_order_relaxed);
}

void tcc_event_init(struct trtcoll_event *event, struct trtcoll_ctx *ctx)
{
    event->ctx = ctx;
    event->next = NULL;
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
    atomic_store_explicit(&event->state, TCC_EVENT_DONE, memory_order_release);
}

/* Codes that end a whole group instance, so that the group knows more about them than the request does. */
static bool breaks_group(int code)
{
    switch (code) {
    case TRTCOLL_ETIMEOUT:
    case TRTCOLL_EPEERDEAD:
    case TRTCOLL_EMISMATCH:
    case TRTCOLL_EEXECUTOR:
    case TRTCOLL_EABORTED:
    case TRTCOLL_EDEVICE:
    case TRTCOLL_ENODE:
        return true;
    default:
        return false;
    }
}

int tcc_event_result(struct trtcoll_event *event)
{
    struct tcw_error failure;

    if (!event->result)
        return 0;
    if (event->result == TRTCOLL_ECONN && tcc_rpc_gone(&event->ctx->rpc))
        return tcc_rpc_fail_gone(&event->ctx->rpc);
    if (breaks_group(event->result) && tcc_member_failure(event->member, &failure) && failure.code == event->result)
        return tcc_fail_wire(&failure, event->member->name);
    tcc_fail(event->result, "a run of plan %u of group %s failed: %s", event->plan_id, event->member->name,
             trtcoll_error_text(event->result));
    tcc_error()->rank = event->rank;
    if (event->rank < event->member->ready.size)
        tcc_error()->pid = event->member->ready.peers[event->rank].pid;
    tcw_text_set(tcc_error()->group, sizeof(tcc_error()->group), event->member->name);
    return event->result;
}

/*
 * An executor's completion can be faster than the daemon's account of what happened. A wait has the time for it: a few round trips,
 * bounded, and only after a failure.
 */
static void await_details(struct trtcoll_event *event)
{
    uint64_t deadline_ns = tcc_deadline_after(tcw_now_ns(), 50);
    struct pollfd readable = {.fd = event->ctx->rpc.socket, .events = POLLIN};
    struct tcw_error failure;

    if (!breaks_group(event->result) && event->result != TRTCOLL_ECONN)
        return;
    while (!tcc_member_failure(event->member, &failure) && !tcc_rpc_gone(&event->ctx->rpc) && tcc_deadline_left_ms(deadline_ns, 1)) {
        poll(&readable, 1, tcc_deadline_left_ms(deadline_ns, 2));
        tcc_rpc_pump(&event->ctx->rpc);
    }
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
        tcc_served_wait(event, timeout_ms == UINT32_MAX ? TCC_FOREVER : tcc_deadline_after(tcw_now_ns(), timeout_ms));
        if (!tcc_event_done(event))
            return tcc_fail(TRTCOLL_ETIMEOUT, "the run of plan %u of group %s is still in flight after %u ms", event->plan_id,
                            event->member->name, timeout_ms);
    }
    if (event->result)
        await_details(event);
    return tcc_event_result(event);
}

int trtcoll_event_query(struct trtcoll_event *event)
{
    int code = enter(event);

    if (code)
        return code;
    if (!tcc_event_done(event)) {
        tcc_served_look(event);
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
        tcc_served_look(event);
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

void trtcoll_event_put(struct trtcoll_event *event)
{
    if (event && !tcc_forked(event->ctx))
        tcc_event_drop(event);
}
