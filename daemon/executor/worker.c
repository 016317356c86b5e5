#include "worker.h"

#include "attachment.h"
#include "engine.h"
#include "outcome.h"

#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/prctl.h>

enum {
    POLLS_PER_CLOCK_CHECK = 64,
    EVENTS = 2,
    DEVICE_NS = 200000, /* between two looks while anything is under way on the device */
    REPLAY_NS = 50000,  /* and while graphs may be replayed, after some time without */
    REPLAY_SPINS = 20,  /* so many times as long as else one looks without sleeping then: no replay wakes anybody, a nap delays it */
};

static inline void cpu_relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* A request of a known operation that does not hold water. Its peers wait for a rank that will not come, so the group is over. */
static void refuse(struct tcd_ex_attachment *attachment, int code, const char *why)
{
    if (attachment->nranks > 1) {
        char text[TCW_TEXT_BYTES];
        snprintf(text, sizeof text, "a request of rank %u was refused: %.200s", attachment->rank, why);
        tcd_ex_fail(attachment, TCW_EMISMATCH, attachment->rank,
                    atomic_load_explicit(&attachment->page->runs_finished, memory_order_relaxed), text);
    }
    attachment->ops->answer(attachment, code, attachment->rank);
}

/* To be kept for replays, or given back. Answered at once, past what is under way: the host of the client waits for it. */
static void serve_captured(struct tcd_ex_attachment *attachment, uint32_t position)
{
    struct tcd_ex_job *job = &attachment->job;
    const struct tcw_sqe *head = &job->request.head;
    uint64_t now = tcw_now_ns(), abort_word = atomic_load_explicit(&attachment->abort_word, memory_order_acquire);
    uint32_t culprit = TCW_NOBODY;
    int rc = TCW_ENOSYS;
    if (attachment->ops->capture && head->flags & TCW_SQE_RELEASE) {
        rc = attachment->ops->uncapture(attachment);
    } else if (abort_word) {
        rc = tcw_abort_code(abort_word);
        culprit = tcw_abort_culprit(abort_word);
    } else if (attachment->failed_code) {
        rc = attachment->failed_code;
        culprit = attachment->failed_rank;
    } else if (attachment->ops->capture) {
        struct tcd_ex_plan *plan = tcd_ex_attachment_find_plan(attachment, head->plan, position);
        rc = plan ? tcd_ex_job_prepare(job, plan, attachment->client) : TCW_ENOENT;
        if (rc == 0)
            rc = attachment->ops->capture(attachment, plan);
        if (tcd_ex_job_release(job))
            tcd_ex_mailbox_wake(attachment->mailbox);
    }
    tcd_ex_complete(attachment, head->user_data, rc, culprit, now, now);
}

/* `position`: where in the ring the request began. */
static void serve(struct tcd_ex_attachment *attachment, uint32_t position)
{
    struct tcd_ex_job *job = &attachment->job;
    const struct tcw_sqe *head = &job->request.head;
    if (head->flags & TCW_SQE_CAPTURED) {
        serve_captured(attachment, position);
        return;
    }
    if (head->op == TCW_OP_NOP) {
        attachment->ops->answer(attachment, head->plan || head->ref_count || head->tokens ? TCW_EINVAL : 0, TCW_NOBODY);
        return;
    }
    if (head->op >= TCW_OP_COUNT) {
        attachment->ops->answer(attachment, TCW_ENOSYS, TCW_NOBODY);
        return;
    }
    if (attachment->ops->await)
        attachment->ops->await(attachment);
    uint64_t abort_word = atomic_load_explicit(&attachment->abort_word, memory_order_acquire);
    if (abort_word) {
        attachment->ops->answer(attachment, tcw_abort_code(abort_word), tcw_abort_culprit(abort_word));
        return;
    }
    if (attachment->failed_code) {
        attachment->ops->answer(attachment, attachment->failed_code, attachment->failed_rank);
        return;
    }
    struct tcd_ex_plan *plan = tcd_ex_attachment_find_plan(attachment, head->plan, position);
    if (!plan) {
        refuse(attachment, TCW_ENOENT, "unknown or released plan");
        return;
    }
    int rc = tcd_ex_job_prepare(job, plan, attachment->client);
    if (rc == 0)
        rc = attachment->ops->run(attachment, plan);
    if (rc == 0)
        return;
    if (tcd_ex_job_release(job))
        tcd_ex_mailbox_wake(attachment->mailbox);
    refuse(attachment, rc, job->text);
}

/* ---- the thread ---- */

/* Completes what has ended on the device; whether anything is still under way there. */
static bool progress(struct tcd_ex_attachment *attachment)
{
    return attachment->ops->progress && attachment->ops->progress(attachment);
}

static bool expects_replays(const struct tcd_ex_attachment *attachment)
{
    return attachment->ops->expects_replays && attachment->ops->expects_replays(attachment);
}

/* Whether a graph was replayed, which has been served then. */
static bool replay(struct tcd_ex_attachment *attachment)
{
    return attachment->ops->replay && attachment->ops->replay(attachment);
}

/* True: something has happened. */
static bool nap(struct tcd_ex_attachment *attachment, long ns)
{
    const struct timespec soon = {.tv_nsec = ns};
    struct pollfd watched = {.fd = attachment->epoll, .events = POLLIN};
    return ppoll(&watched, 1, &soon, NULL) != 0;
}

/* A device wakes nobody: while anything is under way there, or may begin there, it is looked at again soon. */
static void sleep_until_woken(struct tcd_ex_attachment *attachment)
{
    struct epoll_event events[EVENTS];
    bool busy = progress(attachment), woken = false;
    if (expects_replays(attachment)) {
        while (!woken && !replay(attachment) && expects_replays(attachment)) {
            progress(attachment);
            woken = nap(attachment, REPLAY_NS);
        }
        busy = true;
    } else if (busy) {
        nap(attachment, DEVICE_NS);
    }
    epoll_wait(attachment->epoll, events, EVENTS, busy ? 0 : -1);
}

/* Looks at the ring for a while after the last request. False: nothing came, time to sleep. */
static bool spin(struct tcd_ex_attachment *attachment)
{
    const uint64_t times = expects_replays(attachment) && !attachment->crowded ? REPLAY_SPINS : 1;
    const uint64_t until = tcw_now_ns() + attachment->spin_us * 1000ull * times;
    for (unsigned i = 1;; ++i) {
        if (tcw_ring_pending(&attachment->ring) || tcd_ex_attachment_stopping(attachment))
            return true;
        if (replay(attachment))
            return true;
        progress(attachment);
        if (!attachment->crowded && i % POLLS_PER_CLOCK_CHECK) {
            cpu_relax();
            continue;
        }
        /* Whoever is to send the next request may be waiting for this very processor, now and then even where there are enough. */
        sched_yield();
        if (tcw_now_ns() >= until)
            return false;
    }
}

/* Returns when there may be a request, or the thread is to stop. */
static void wait_for_work(struct tcd_ex_attachment *attachment)
{
    if (spin(attachment))
        return;
    if (atomic_load_explicit(&attachment->retired, memory_order_acquire))
        tcd_ex_attachment_sweep_plans(attachment);
    if (!tcw_ring_arm_executor(&attachment->ring))
        return;
    if (!tcd_ex_attachment_stopping(attachment))
        sleep_until_woken(attachment);
    tcw_ring_disarm_executor(&attachment->ring);
}

/* What is still in the ring gets its completion too: at most as many as a client may have in flight. */
static void drain(struct tcd_ex_attachment *attachment)
{
    const char *why;
    for (uint32_t i = 0; i < attachment->ring.cq_entries && !attachment->violated; ++i) {
        uint32_t position = attachment->ring.sq_local;
        if (tcw_ring_take(&attachment->ring, &attachment->job.request, &why) != 1)
            return;
        ++attachment->requests;
        serve(attachment, position);
    }
}

static void *worker_main(void *arg)
{
    struct tcd_ex_attachment *attachment = arg;
    const char *why = "";
    char name[16];
    snprintf(name, sizeof name, "serve-%u", (unsigned)(attachment->id % 1000000));
    prctl(PR_SET_NAME, name);
    if (attachment->ops->begin)
        attachment->ops->begin(attachment);
    while (!tcd_ex_attachment_stopping(attachment)) {
        if (attachment->violated) {
            sleep_until_woken(attachment);
            continue;
        }
        uint32_t position = attachment->ring.sq_local;
        int got = tcw_ring_take(&attachment->ring, &attachment->job.request, &why);
        if (got == 0) {
            wait_for_work(attachment);
        } else if (got < 0) {
            tcd_ex_violate(attachment, why);
        } else {
            ++attachment->requests;
            serve(attachment, position);
            if (atomic_load_explicit(&attachment->retired, memory_order_relaxed))
                tcd_ex_attachment_sweep_plans(attachment);
        }
    }
    drain(attachment);
    if (attachment->ops->end)
        attachment->ops->end(attachment);
    atomic_store_explicit(&attachment->ended, true, memory_order_release);
    tcd_ex_mailbox_wake(attachment->mailbox);
    return NULL;
}

int tcd_ex_worker_start(struct tcd_ex_attachment *attachment)
{
    return pthread_create(&attachment->thread, NULL, worker_main, attachment) ? TCW_ENOMEM : 0;
}
