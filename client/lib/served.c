#include "served.h"

#include "clock.h"
#include "cuda/gpu.h"
#include "error.h"

#include <tcw/machine.h>

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    NAP_MS = 5,           /* longest sleep without looking at the member page */
    GRACE_MS = 50,        /* after a break: how long completions of living executors are waited for */
    POLLS_PER_CLOCK = 64, /* while spinning: reading the clock costs as much as some polls */
};

/* ---- making and unmaking ---- */

/* An eventfd is an anonymous inode; anything else could block a read or wake us for nothing. */
static int event_check(int fd)
{
    struct stat status;
    int flags = fcntl(fd, F_GETFL);

    if (flags < 0 || fstat(fd, &status) || status.st_mode & S_IFMT)
        return -1;
    return flags & O_NONBLOCK ? 0 : fcntl(fd, F_SETFL, flags | O_NONBLOCK);
}

static int map_ring(struct tcc_served *served, const struct tcw_packet *reply, const int *fds)
{
    const struct tcw_plan_ready *ready = &reply->payload.PLAN_READY;
    const char *name = served->member->name, *why = "";

    if (event_check(fds[1]) || event_check(fds[2]))
        return tcc_fail(TRTCOLL_EPROTO, "trtcolld sent a ring for group %s without its eventfds", name);
    if (tcw_memfd_check(fds[0], ready->ring_bytes, &why))
        return tcc_fail(TRTCOLL_EPROTO, "trtcolld sent a ring for group %s that is %s", name, why);
    served->bytes = ready->ring_bytes;
    served->base = mmap(NULL, served->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fds[0], 0);
    if (served->base == MAP_FAILED) {
        served->base = NULL;
        return tcc_fail(TRTCOLL_ENOMEM, "the ring of group %s could not be mapped", name);
    }
    if (tcw_ring_open(&served->ring, served->base, served->bytes, fds[1], fds[2]) ||
        served->ring.generation != served->member->ctx->limits.generation ||
        served->ring.client_id != served->member->ctx->limits.client_id)
        return tcc_fail(TRTCOLL_EPROTO, "trtcolld sent a ring for group %s of another ABI, daemon or client", name);
    return 0;
}

static int make_flights(struct tcc_served *served)
{
    uint32_t i;

    served->flights = tcc_alloc(served->member->ctx, served->ring.cq_entries * sizeof(struct tcc_flight));
    if (!served->flights)
        return tcc_fail_code(TRTCOLL_ENOMEM, "requests");
    for (i = served->ring.cq_entries; i-- > 0;) {
        served->flights[i].index = i;
        served->flights[i].newer = served->free;
        served->free = &served->flights[i];
    }
    return 0;
}

static int make_locks(struct tcc_served *served)
{
    if (pthread_mutex_init(&served->lock, NULL))
        return tcc_fail_code(TRTCOLL_ENOMEM, "ring");
    if (!tcc_cond_create(&served->done))
        return 0;
    pthread_mutex_destroy(&served->lock);
    return tcc_fail_code(TRTCOLL_ENOMEM, "ring");
}

static int create(struct tcc_member *member, struct tcw_packet *reply, struct tcc_served **result)
{
    struct tcc_served *served = tcc_alloc(member->ctx, sizeof(*served));
    int *fds = reply->fds + reply->payload.PLAN_READY.workspace_fds;
    int code;

    if (!served)
        return tcc_fail_code(TRTCOLL_ENOMEM, "ring");
    served->member = member;
    served->sq_event = served->cq_event = -1;
    served->crowded = tcw_crowded(2 * member->ready.size);
    code = map_ring(served, reply, fds);
    if (!code)
        code = make_flights(served);
    if (!code && member->lane)
        code = tcc_words_create(served);
    if (!code)
        code = make_locks(served);
    if (code) {
        tcc_words_destroy(served);
        if (served->base)
            munmap(served->base, served->bytes);
        tcc_free(member->ctx, served->flights);
        tcc_free(member->ctx, served);
        return code;
    }
    served->sq_event = fds[1];
    served->cq_event = fds[2];
    fds[1] = fds[2] = -1;
    *result = served;
    return 0;
}

int tcc_served_ensure(struct tcc_member *member, struct tcw_packet *reply)
{
    bool known = atomic_load_explicit(&member->served, memory_order_acquire) != NULL;
    struct tcc_served *served;
    int code;

    if (known != !reply->payload.PLAN_READY.ring_bytes)
        return tcc_fail(TRTCOLL_EPROTO, "trtcolld sent %s ring for group %s", known ? "a second" : "no", member->name);
    if (known)
        return 0;
    code = create(member, reply, &served);
    if (!code)
        atomic_store_explicit(&member->served, served, memory_order_release);
    return code;
}

void tcc_served_destroy(struct tcc_served *served)
{
    struct trtcoll_ctx *ctx = served->member->ctx;
    uint32_t i;

    for (; served->draining; served->draining = served->draining->newer)
        tcc_flight_empty(served->draining, ctx, false, true);
    tcc_captured_destroy(served);
    tcc_words_destroy(served);
    for (i = 0; i < served->ring.cq_entries; i++)
        tcc_flight_destroy(&served->flights[i], ctx);
    tcc_free(ctx, served->flights);
    munmap(served->base, served->bytes);
    close(served->sq_event);
    close(served->cq_event);
    /* A child has inherited waiters that will never leave: destroying the condition would wait for them. */
    if (!tcc_forked(ctx)) {
        pthread_cond_destroy(&served->done);
        pthread_mutex_destroy(&served->lock);
    }
    tcc_free(ctx, served);
}

/* ---- completions; everything here with the lock ---- */

static void put_slot(struct tcc_served *served, struct tcc_flight *flight)
{
    struct tcc_flight **list = flight->draining ? &served->draining : &served->free;

    flight->newer = *list;
    *list = flight;
}

/* Slots whose blocks the streams have done with are free again. */
static void drain(struct tcc_served *served)
{
    struct tcc_flight **link = &served->draining, *flight;

    while ((flight = *link)) {
        if (tcc_words_drained(served, flight)) {
            link = &flight->newer;
            continue;
        }
        *link = flight->newer;
        tcc_flight_empty(flight, served->member->ctx, false, flight->condemn);
        flight->draining = false;
        put_slot(served, flight);
    }
}

static void finish(struct tcc_served *served, struct tcc_flight *flight, const struct tcw_cqe *cqe, bool condemn)
{
    struct trtcoll_event *event = flight->event;
    bool lent = flight->lent;

    if (flight->captured)
        tcc_captured_answered(served, flight, cqe->result);
    else if (served->words && cqe->result)
        tcc_words_failed(served, flight);
    flight->draining = served->words && flight->staged;
    flight->condemn = condemn;
    if (!flight->draining)
        tcc_flight_empty(flight, served->member->ctx, cqe->result == 0, condemn);
    if (cqe->result && served->words && !flight->wants_event && !flight->captured)
        tcc_log(served->member->ctx, TCC_LOG_WARNING, "a run of plan %u of group %s that nobody waits for has failed: %s", event->plan_id,
                served->member->name, trtcoll_error_text(cqe->result));
    if (flight->older)
        flight->older->newer = flight->newer;
    else
        served->oldest = flight->newer;
    if (flight->newer)
        flight->newer->older = flight->older;
    else
        served->newest = flight->older;
    if (tcc_member_breaks_with(cqe->result))
        atomic_store_explicit(&served->member->suspect, true, memory_order_release); /* before anybody can see the result */
    flight->event = NULL;
    flight->older = NULL;
    put_slot(served, flight);
    atomic_store_explicit(&served->in_flight, tcc_served_in_flight(served) - 1, memory_order_relaxed);
    tcc_event_complete(event, cqe->result, cqe->culprit == UINT16_MAX ? TRTCOLL_RANK_NONE : cqe->culprit, cqe->start_ns, cqe->end_ns);
    if (!lent)
        tcc_event_drop(event);
}

/* Ends locally whatever is still in flight. */
static void end(struct tcc_served *served, int code, uint32_t rank)
{
    struct tcw_cqe cqe = {.result = code, .culprit = rank < UINT16_MAX ? (uint16_t)rank : UINT16_MAX, .end_ns = tcw_now_ns()};

    if (served->ended)
        return;
    served->ended = true;
    served->ended_code = code;
    if (served->words)
        tcc_captured_end(served);
    while (served->oldest)
        finish(served, served->oldest, &cqe, true);
    pthread_cond_broadcast(&served->done);
    if (served->notify)
        tcw_ring_wake(served->cq_event);
}

/* The executor's side of the ring makes no sense: the daemon hears of it, and nothing read from it is believed any more. */
static void distrust(struct tcc_served *served)
{
    struct tcw_error error = {.code = TRTCOLL_EPROTO, .rank = TCW_NOBODY};

    snprintf(error.text, sizeof(error.text), "the executor of group %s broke the protocol of the completion ring", served->member->name);
    tcc_member_report(served->member, &error);
    end(served, TRTCOLL_EPROTO, TCW_NOBODY);
}

void tcc_served_reap(struct tcc_served *served)
{
    struct tcc_flight *flight;
    struct tcw_cqe cqe;
    bool some = false;
    int got = 0;

    if (served->draining)
        drain(served);
    if (served->ended)
        return;
    while ((got = tcw_ring_reap(&served->ring, &cqe)) == 1) {
        flight = (uint32_t)cqe.user_data < served->ring.cq_entries ? &served->flights[(uint32_t)cqe.user_data] : NULL;
        if (!flight || !flight->event || flight->serial != cqe.user_data >> 32) {
            got = TCW_EPROTO;
            break;
        }
        finish(served, flight, &cqe, false);
        some = true;
    }
    if (some) {
        atomic_store_explicit(&served->taken, served->ring.cq_local, memory_order_release);
        if (served->waiters)
            pthread_cond_broadcast(&served->done);
    }
    if (got < 0)
        distrust(served);
}

/* 0, or why nobody may be there any more to complete what is in flight. */
static int trouble(struct tcc_served *served, uint64_t now_ns)
{
    struct tcc_rpc *rpc = &served->member->ctx->rpc;
    int code = tcc_member_failed(served->member);

    if (code)
        return code;
    tcc_rpc_glance(rpc, now_ns);
    return tcc_rpc_gone(rpc) ? TRTCOLL_ECONN : 0;
}

void tcc_served_check(struct tcc_served *served)
{
    uint64_t now_ns = tcw_now_ns();
    struct tcw_error failure = {.rank = TCW_NOBODY};
    int code;

    if (served->ended)
        return;
    code = trouble(served, now_ns);
    if (!code)
        return;
    if (!served->ending_ns)
        served->ending_ns = now_ns;
    if (now_ns - served->ending_ns < GRACE_MS * TCC_MS) {
        if (served->notify)
            tcw_ring_wake(served->cq_event); /* nobody else will: an event loop must ask again */
        return;
    }
    tcc_served_reap(served);
    if (tcc_member_failure(served->member, &failure))
        code = failure.code;
    end(served, code, failure.rank);
}

void tcc_served_end(struct tcc_served *served)
{
    struct tcw_error failure = {.code = TRTCOLL_EABORTED, .rank = TCW_NOBODY};

    pthread_mutex_lock(&served->lock);
    tcc_served_reap(served);
    tcc_member_failure(served->member, &failure);
    end(served, failure.code, failure.rank);
    pthread_mutex_unlock(&served->lock);
}

/* ---- waiting ---- */

static void relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

void tcc_served_look(struct trtcoll_event *event)
{
    struct tcc_served *served = atomic_load_explicit(&event->member->served, memory_order_acquire);

    /* Not a try: who asks because an eventfd was readable must not go to sleep while another thread is about to end its event. */
    if (tcc_served_news(served)) {
        pthread_mutex_lock(&served->lock);
        tcc_served_reap(served);
        pthread_mutex_unlock(&served->lock);
    }
    if (tcc_event_answered(event) || !trouble(served, tcw_now_ns()))
        return;
    pthread_mutex_lock(&served->lock);
    tcc_served_check(served);
    pthread_mutex_unlock(&served->lock);
}

/* The first microseconds: most completions come now, and sleeping costs more than they take. */
static bool spin(struct tcc_served *served, struct trtcoll_event *event)
{
    uint64_t until_ns = 0, now_ns;
    unsigned round;

    for (round = 1;; round++) {
        if (tcc_served_news(served) && !pthread_mutex_trylock(&served->lock)) {
            tcc_served_reap(served);
            pthread_mutex_unlock(&served->lock);
        }
        if (tcc_event_answered(event))
            return true;
        if (!served->crowded && round % POLLS_PER_CLOCK) {
            relax();
            continue;
        }
        /* Where executors have no processor of their own, they can only answer when this thread lets them. */
        sched_yield();
        now_ns = tcw_now_ns();
        if (!until_ns)
            until_ns = now_ns + (uint64_t)served->member->ready.spin_us * 1000;
        if (now_ns >= until_ns)
            return false;
    }
}

/* With the lock, which is released meanwhile: sleeps for all waiters until the ring or the socket has news. */
static void sleep_for_all(struct tcc_served *served, uint64_t until_ns)
{
    struct tcc_rpc *rpc = &served->member->ctx->rpc;
    struct pollfd news[2] = {{.fd = rpc->socket, .events = POLLIN}, {.fd = served->cq_event, .events = POLLIN}};
    bool own = !served->notify; /* else the eventfd's readability is the application's */

    if (tcc_rpc_gone(rpc))
        news[0].fd = -1; /* readable for ever */
    if (own && !tcw_ring_arm_client(&served->ring))
        return;
    served->sleeping = true;
    pthread_mutex_unlock(&served->lock);
    if (poll(news, own ? 2 : 1, tcc_deadline_left_ms(until_ns, own ? NAP_MS : 1)) > 0 && news[0].revents)
        tcc_rpc_pump(rpc);
    pthread_mutex_lock(&served->lock);
    served->sleeping = false;
    if (!served->notify)
        tcw_ring_disarm_client(&served->ring);
    if (served->waiters)
        pthread_cond_broadcast(&served->done);
}

void tcc_served_wait(struct trtcoll_event *event, uint64_t deadline_ns)
{
    struct tcc_served *served = atomic_load_explicit(&event->member->served, memory_order_acquire);
    uint64_t until_ns;

    if (spin(served, event))
        return;
    pthread_mutex_lock(&served->lock);
    for (;;) {
        tcc_served_reap(served);
        if (!tcc_event_answered(event))
            tcc_served_check(served);
        if (tcc_event_answered(event) || !tcc_deadline_left_ms(deadline_ns, 1))
            break;
        until_ns = tcw_now_ns() + NAP_MS * TCC_MS;
        if (until_ns > deadline_ns)
            until_ns = deadline_ns;
        if (served->sleeping) {
            served->waiters++;
            tcc_cond_wait_until(&served->done, &served->lock, until_ns);
            served->waiters--;
        } else {
            sleep_for_all(served, until_ns);
        }
    }
    pthread_mutex_unlock(&served->lock);
}

bool tcc_served_watch(struct tcc_served *served)
{
    bool ending = false;

    if (!served->words && !tcc_served_in_flight(served))
        return false;
    pthread_mutex_lock(&served->lock);
    tcc_served_reap(served);
    if (served->oldest || tcc_captured_any(served)) {
        tcc_served_check(served);
        tcc_captured_collect(served);
        ending = served->ending_ns && !served->ended; /* replays wait for that, though nothing is in flight */
    }
    pthread_mutex_unlock(&served->lock);
    return ending || tcc_served_in_flight(served) != 0;
}

int tcc_served_notify_fd(struct tcc_served *served)
{
    pthread_mutex_lock(&served->lock);
    if (!served->notify) {
        served->notify = true;
        /* Armed for good: the executor writes the eventfd with every completion from here on. */
        while (!served->ended && !tcw_ring_arm_client(&served->ring))
            tcc_served_reap(served);
        tcw_ring_wake(served->cq_event); /* for what came before */
    }
    pthread_mutex_unlock(&served->lock);
    return served->cq_event;
}
