/* The served lane's way in: a completion slot, the buffers, one entry in the ring. */
#include "clock.h"
#include "cuda/gpu.h"
#include "error.h"
#include "served.h"

#include <sched.h>

static struct tcc_flight *take_slot(struct tcc_served *served)
{
    struct tcc_flight *flight = served->free;

    if (flight) {
        served->free = flight->newer;
        flight->newer = NULL;
        flight->serial++;
    }
    return flight;
}

static int fail_ended(struct tcc_served *served)
{
    int code = tcc_member_fail(served->member);

    if (code)
        return code;
    if (tcc_rpc_gone(&served->member->ctx->rpc))
        return tcc_rpc_fail_gone(&served->member->ctx->rpc);
    return tcc_fail_code(served->ended_code ? served->ended_code : TRTCOLL_EABORTED, "served lane");
}

/* With the lock: the request is in the ring. */
static void enlist(struct tcc_served *served, struct tcc_flight *flight)
{
    served->sequence++;
    flight->older = served->newest;
    flight->newer = NULL;
    if (served->newest)
        served->newest->newer = flight;
    else
        served->oldest = flight;
    served->newest = flight;
    atomic_store_explicit(&served->in_flight, tcc_served_in_flight(served) + 1, memory_order_relaxed);
}

/* With the lock: is there room in the ring? It can only grow until the lock is given up. */
static bool room(const struct tcc_served *served, uint32_t refs)
{
    const struct tcw_ring *ring = &served->ring;
    uint32_t used = ring->sq_local - atomic_load_explicit(&ring->indices->sq_head, memory_order_acquire);

    return used <= ring->sq_entries && ring->sq_entries - used >= tcw_sqe_entries(refs);
}

/* A failure behind the words: the others' part of the run goes on, this rank's outputs do not come. */
static void report_late(const struct trtcoll_plan *plan, int code)
{
    struct tcw_error error = {.code = code, .rank = plan->member->ready.rank};

    tcw_text_set(error.text, sizeof(error.text), tcc_error()->text);
    tcc_member_report(plan->member, &error);
}

/*
 * With the lock, on GPUs: the stream's part first, so that the executor never hears of what could not be enqueued. The stream orders this
 * run's buffers behind those of older ones. As try_submit.
 */
static int try_enqueue(struct tcc_served *served, struct trtcoll_plan *plan, const struct tcc_run *run, struct tcc_flight *flight,
                       bool *wake)
{
    struct tcw_sqe head = {.op = plan->desc.op,
                           .sequence = served->sequence,
                           .plan = plan->handle,
                           .user_data = (uint64_t)flight->serial << 32 | flight->index,
                           .tokens = (uint32_t)run->tokens,
                           .ref_count = (uint16_t)flight->count,
                           .pair = (uint16_t)flight->index};
    int late = 0, code;

    flight->captured = 0;
    tcc_served_reap(served);
    if (served->ended || tcc_member_failed(served->member) || tcc_rpc_gone(&served->member->ctx->rpc))
        return fail_ended(served);
    if (!room(served, flight->count))
        return 0;
    flight->event->submit_ns = tcw_now_ns();
    code = tcc_words_enqueue(served, flight, run, served->requests + 1, flight->wants_event, &late);
    if (code)
        return code;
    served->requests++;
    code = tcw_ring_submit(&served->ring, &head, flight->refs, wake);
    enlist(served, flight);
    if (late || code)
        report_late(plan, late ? late : tcc_fail_code(TRTCOLL_EPROTO, "ring"));
    return 1;
}

/* With the lock. 1: submitted; 0: not now; else a failure with the last error set. */
static int try_submit(struct tcc_served *served, struct trtcoll_plan *plan, const struct tcc_run *run, struct tcc_flight *flight,
                      bool *wake)
{
    struct tcw_sqe head = {.op = plan->desc.op,
                           .sequence = served->sequence,
                           .plan = plan->handle,
                           .user_data = (uint64_t)flight->serial << 32 | flight->index,
                           .tokens = (uint32_t)run->tokens,
                           .flags = flight->lent ? TCW_SQE_UNTIMED : 0,
                           .ref_count = (uint16_t)flight->count};
    struct trtcoll_event *event = flight->event;

    tcc_served_reap(served);
    if (served->ended || tcc_member_failed(served->member) || tcc_rpc_gone(&served->member->ctx->rpc))
        return fail_ended(served);
    if (tcc_flight_load(flight, served->member->ctx, served->newest) != TCC_HAZARD_NONE)
        return 0;
    if (!flight->lent)
        event->submit_ns = tcw_now_ns(); /* which a lent event never tells anybody */
    if (tcw_ring_submit(&served->ring, &head, flight->refs, wake))
        return 0;
    enlist(served, flight);
    return 1;
}

bool tcc_served_post(struct tcc_served *served, struct trtcoll_event *event, struct tcw_sqe *head, const struct tcw_ref *refs,
                     uint32_t captured)
{
    struct tcc_flight *flight = served->ended || !room(served, head->ref_count) ? NULL : take_slot(served);
    bool wake = false;

    if (!flight)
        return false;
    head->sequence = served->sequence;
    head->user_data = (uint64_t)flight->serial << 32 | flight->index;
    flight->event = event;
    flight->lent = flight->wants_event = flight->staged = false;
    flight->captured = captured;
    flight->count = 0; /* the captured request has the buffers */
    tcw_ring_submit(&served->ring, head, refs, &wake);
    served->requests++;
    enlist(served, flight);
    if (wake)
        tcw_ring_wake(served->sq_event);
    return true;
}

/* The time of one run for both of its waits. It begins with the first of them: who need not wait reads no clock. */
static bool patience_ends(const struct tcc_served *served, uint64_t *until_ns)
{
    uint64_t now_ns = tcw_now_ns();

    if (!*until_ns)
        *until_ns = now_ns + ((uint64_t)served->member->ready.spin_us + 20) * 1000;
    return now_ns >= *until_ns;
}

/* With the lock: lets others have it. */
static void step_aside(struct tcc_served *served)
{
    pthread_mutex_unlock(&served->lock);
    sched_yield();
    pthread_mutex_lock(&served->lock);
}

/* With the lock, which is released while there is no room. */
static int submit(struct tcc_served *served, struct trtcoll_plan *plan, const struct tcc_run *run, struct tcc_flight *flight,
                  uint64_t *until_ns, bool *wake)
{
    int done;

    for (;;) {
        done = served->words ? try_enqueue(served, plan, run, flight, wake) : try_submit(served, plan, run, flight, wake);
        if (!done)
            tcc_served_check(served);
        if (done)
            return done < 0 ? done : 0;
        if (patience_ends(served, until_ns))
            return tcc_fail(TRTCOLL_EAGAIN, "no room in the ring of group %s, or a buffer waits for an earlier run", plan->member->name);
        step_aside(served);
    }
}

/* With the lock, which is released while none is free: a slot, which is also the reserved place of the completion. NULL: none in time. */
static struct tcc_flight *wait_slot(struct tcc_served *served, uint64_t *until_ns)
{
    struct tcc_flight *flight = take_slot(served);

    while (!flight) {
        tcc_served_reap(served);
        tcc_served_check(served);
        flight = take_slot(served);
        if (flight || patience_ends(served, until_ns))
            break;
        step_aside(served);
    }
    return flight;
}

/* With the lock. Where a buffer must be staged, the daemon may have to be asked, which nobody does with a lock. */
static int fill(struct tcc_served *served, struct tcc_flight *flight, const struct trtcoll_plan *plan, const struct tcc_run *run)
{
    int code;

    if (tcc_flight_find(flight, plan, run))
        return 0;
    pthread_mutex_unlock(&served->lock);
    code = tcc_flight_fill(flight, plan, run);
    pthread_mutex_lock(&served->lock);
    return code;
}

/* Whose the event of a run is. */
typedef enum start_kind {
    TCC_START_EVENT,  /* the application's */
    TCC_START_FORGET, /* on GPUs: nobody's */
    TCC_START_LENT    /* see struct tcc_flight */
} start_kind;

/* With the lock, which may be released meanwhile. */
static int start(struct tcc_served *served, struct trtcoll_plan *plan, const struct tcc_run *run, struct trtcoll_event *event,
                 start_kind kind, bool *wake)
{
    uint64_t until_ns = 0;
    struct tcc_flight *flight = wait_slot(served, &until_ns);
    bool staged;
    int code;

    if (!flight)
        return tcc_fail(TRTCOLL_EAGAIN, "all %u requests of group %s are in flight", served->ring.cq_entries, plan->member->name);
    code = fill(served, flight, plan, run);
    if (!code) {
        staged = flight->staged;
        flight->event = event;
        flight->lent = kind == TCC_START_LENT;
        flight->wants_event = kind == TCC_START_EVENT;
        code = submit(served, plan, run, flight, &until_ns, wake);
        if (!code) {
            tcc_plan_count(&plan->runs);
            if (staged)
                tcc_plan_count(&plan->staged_runs);
            return 0;
        }
        flight->event = NULL;
        tcc_flight_empty(flight, plan->member->ctx, false, false);
    }
    flight->newer = served->free;
    served->free = flight;
    return code;
}

static int begin(struct tcc_served *served, struct trtcoll_plan *plan, const struct tcc_run *run, struct trtcoll_event *event,
                 start_kind kind)
{
    bool wake = false;
    int code;

    pthread_mutex_lock(&served->lock);
    /* While the executor keeps captured requests it enqueues nothing ahead of its client's stream. */
    if (served->words)
        tcc_captured_refresh(served);
    code = start(served, plan, run, event, kind, &wake);
    pthread_mutex_unlock(&served->lock);
    if (wake)
        tcw_ring_wake(served->sq_event);
    return code;
}

/* A run that its caller waits for: the event lies here, and the plan, which stays meanwhile, holds the member. */
static int run_and_wait(struct tcc_served *served, struct trtcoll_plan *plan, const struct tcc_run *run)
{
    struct trtcoll_event own;
    int code;

    tcc_event_init(&own, plan->member->ctx);
    own.lane = TCW_LANE_SERVED;
    own.plan_id = plan->plan_id;
    own.member = plan->member;
    code = begin(served, plan, run, &own, TCC_START_LENT);
    return code ? code : trtcoll_event_wait(&own, UINT32_MAX);
}

int tcc_served_run(struct trtcoll_plan *plan, const struct tcc_run *run, struct trtcoll_event **event)
{
    struct tcc_served *served = atomic_load_explicit(&plan->member->served, memory_order_acquire);
    struct trtcoll_event *pending;
    bool captured = false;
    int code;

    if (tcc_member_failed(plan->member) || tcc_rpc_gone(&plan->member->ctx->rpc)) {
        tcc_served_watch(served);
        return fail_ended(served);
    }
    if (!event && !served->words)
        return run_and_wait(served, plan, run);
    if (served->words && plan->desc.flags & TCW_PLAN_GRAPH) {
        code = tcc_captured_run(plan, run, event != NULL, &captured);
        if (code || captured)
            return code;
    }
    pending = tcc_event_get(plan->member->ctx);
    if (!pending)
        return tcc_fail_code(TRTCOLL_ENOMEM, "event");
    pending->lane = TCW_LANE_SERVED;
    pending->plan_id = plan->plan_id;
    pending->member = plan->member;
    tcc_member_hold(plan->member);
    tcc_event_hold(pending);
    code = begin(served, plan, run, pending, event ? TCC_START_EVENT : TCC_START_FORGET);
    if (code) {
        tcc_event_drop(pending);
        tcc_event_drop(pending);
        return code;
    }
    if (event)
        *event = pending;
    else
        tcc_event_drop(pending);
    return 0;
}
