#include "worker.h"

#include "attachment.h"

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <unistd.h>

enum { POLLS_PER_CLOCK_CHECK = 64, EVENTS = 2 };

static inline void cpu_relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static bool stopping(struct tcd_ex_attachment *attachment)
{
    return atomic_load_explicit(&attachment->stop, memory_order_acquire);
}

/* ---- reports ---- */

static void report(struct tcd_ex_attachment *attachment, struct tcd_ex_letter **prepared, uint32_t opcode, int code, uint32_t rank,
                   uint64_t step, const char *text)
{
    struct tcd_ex_letter *letter = *prepared;
    if (!letter)
        return; /* said already */
    *prepared = NULL;
    struct tcd_ex_message *message = &letter->message;
    message->opcode = opcode;
    message->code = code;
    message->attachment = attachment->id;
    message->client = attachment->client->id;
    message->rank = rank;
    message->nranks = attachment->nranks;
    message->step = step;
    snprintf(message->text, sizeof message->text, "%s", text);
    tcd_ex_mailbox_post(attachment->mailbox, letter);
}

/* The group is over for this rank; the control process ends it for the others. */
static void fail(struct tcd_ex_attachment *attachment, int code, uint32_t rank, uint64_t step, const char *text)
{
    attachment->failed_code = code;
    attachment->failed_rank = rank;
    report(attachment, &attachment->fault, TCD_EX_FAULT, code, rank, step, text);
}

static void violate(struct tcd_ex_attachment *attachment, const char *why)
{
    attachment->violated = true;
    report(attachment, &attachment->violation, TCD_EX_VIOLATION, TCW_EPROTO, attachment->rank, 0, why);
}

/* ---- completions ---- */

/*
 * Like tcw_ring_wake, but the client can make the eventfd blocking and fill its counter. One that is full is readable as it is. Should the
 * client fill it between the look and the write, this thread hangs, but not for longer than the attachment lives: the main thread
 * interrupts it when it wants it to stop.
 */
static void wake_client(struct tcd_ex_attachment *attachment)
{
    const uint64_t one = 1;
    struct pollfd room = {.fd = attachment->cq_event, .events = POLLOUT};
    if (poll(&room, 1, 0) != 1 || !(room.revents & POLLOUT))
        return;
    while (write(attachment->cq_event, &one, sizeof one) < 0 && errno == EINTR && !stopping(attachment))
        ;
}

static void complete(struct tcd_ex_attachment *attachment, int result, uint32_t culprit, uint64_t start_ns, uint64_t end_ns)
{
    struct tcw_cqe cqe = {
        .user_data = attachment->job.request.head.user_data,
        .result = result,
        .culprit = culprit < TCW_MAX_RANKS ? (uint16_t)culprit : 0xffff,
        .start_ns = start_ns,
        .end_ns = end_ns,
    };
    if (tcw_ring_complete(&attachment->ring, &cqe) < 0)
        violate(attachment, "a completion has no room: more requests in flight than completion entries");
    else if (atomic_load_explicit(&attachment->ring.indices->cq_sleep, memory_order_relaxed))
        wake_client(attachment); /* the fence between tail and flag stands in tcw_ring_complete */
}

static void complete_now(struct tcd_ex_attachment *attachment, int result, uint32_t culprit)
{
    uint64_t now = tcw_now_ns();
    complete(attachment, result, culprit, now, now);
}

/* ---- runs ---- */

static void describe_fault(const struct tcd_ex_attachment *attachment, const struct tcd_ex_plan *plan, const struct tck_fault *fault,
                           uint64_t waited_ns, char *text, size_t bytes)
{
    const char *op = tcw_op_name(plan->desc.op);
    char whom[24] = "its peers";
    if (fault->rank != TCW_NOBODY)
        snprintf(whom, sizeof whom, "rank %u", fault->rank);
    if (fault->code == TCW_ETIMEOUT)
        snprintf(text, bytes, "rank %u waited %.3f s for %s in %s (plan %u); last known step there: %llu", attachment->rank,
                 (double)waited_ns / 1e9, whom, op, plan->plan_id, (unsigned long long)fault->step);
    else if (fault->code == TCW_EMISMATCH)
        snprintf(text, bytes, "rank %u and %s differ in %s of %s: %llu and %llu", attachment->rank, whom,
                 fault->field ? fault->field : "order", op, (unsigned long long)fault->mine, (unsigned long long)fault->theirs);
    else
        snprintf(text, bytes, "rank %u, %s (plan %u): %s", attachment->rank, op, plan->plan_id, tcw_error_text(fault->code));
}

static void run(struct tcd_ex_attachment *attachment, struct tcd_ex_plan *plan, uint64_t start_ns)
{
    struct tcd_ex_job *job = &attachment->job;
    const struct tcw_run_note note = {
        .plan_id = plan->plan_id,
        .op = plan->desc.op,
        .lane = TCW_LANE_SERVED,
        .strategy = (uint8_t)plan->strategy,
        .dtype_fusion = plan->desc.dtype | (uint32_t)plan->desc.fusion << 16,
        .bytes = plan->message_bytes,
        .tokens = plan->tokens,
        .submit_ns = start_ns,
    };
    struct tck_fault fault = {.rank = TCW_NOBODY};
    uint64_t record = tcw_member_run_begin(attachment->page, &note, start_ns);
    int rc = tck_comm_run(plan->workspace->comm, &job->run, &fault);
    uint64_t end_ns = tcw_now_ns();
    tcw_member_run_end(attachment->page, record, &note, end_ns, rc);
    /* Before the completion: afterwards the client may give the memory back and expects it to be free. */
    if (tcd_ex_job_release(job))
        tcd_ex_mailbox_wake(attachment->mailbox);
    if (rc < 0) {
        uint64_t abort_word = atomic_load_explicit(&attachment->abort_word, memory_order_acquire);
        if (abort_word) {
            /* The control process knows: it said so. */
            attachment->failed_code = rc = tcw_abort_code(abort_word);
            attachment->failed_rank = fault.rank = tcw_abort_culprit(abort_word);
        } else {
            char text[TCW_TEXT_BYTES];
            describe_fault(attachment, plan, &fault, end_ns - start_ns, text, sizeof text);
            fail(attachment, rc, fault.rank, fault.step, text);
        }
    }
    complete(attachment, rc, fault.rank, start_ns, end_ns);
}

/* A request of a known operation that does not hold water. Its peers wait for a rank that will not come, so the group is over. */
static void refuse(struct tcd_ex_attachment *attachment, int code, const char *why)
{
    if (attachment->nranks > 1) {
        char text[TCW_TEXT_BYTES];
        snprintf(text, sizeof text, "a request of rank %u was refused: %.200s", attachment->rank, why);
        fail(attachment, TCW_EMISMATCH, attachment->rank, atomic_load_explicit(&attachment->page->runs_finished, memory_order_relaxed),
             text);
    }
    complete_now(attachment, code, attachment->rank);
}

/* `position`: where in the ring the request began. */
static void serve(struct tcd_ex_attachment *attachment, uint32_t position)
{
    struct tcd_ex_job *job = &attachment->job;
    const struct tcw_sqe *head = &job->request.head;
    if (head->op == TCW_OP_NOP) {
        complete_now(attachment, head->plan || head->ref_count || head->tokens ? TCW_EINVAL : 0, TCW_NOBODY);
        return;
    }
    if (head->op >= TCW_OP_COUNT) {
        complete_now(attachment, TCW_ENOSYS, TCW_NOBODY);
        return;
    }
    uint64_t abort_word = atomic_load_explicit(&attachment->abort_word, memory_order_acquire);
    if (abort_word) {
        complete_now(attachment, tcw_abort_code(abort_word), tcw_abort_culprit(abort_word));
        return;
    }
    if (attachment->failed_code) {
        complete_now(attachment, attachment->failed_code, attachment->failed_rank);
        return;
    }
    uint64_t start_ns = tcw_now_ns();
    struct tcd_ex_plan *plan = tcd_ex_attachment_find_plan(attachment, head->plan, position);
    if (!plan) {
        refuse(attachment, TCW_ENOENT, "unknown or released plan");
        return;
    }
    int rc = tcd_ex_job_prepare(job, plan, attachment->client);
    if (rc == 0) {
        run(attachment, plan, start_ns);
        return;
    }
    if (tcd_ex_job_release(job))
        tcd_ex_mailbox_wake(attachment->mailbox);
    refuse(attachment, rc, job->text);
}

/* ---- the thread ---- */

static void sleep_until_woken(struct tcd_ex_attachment *attachment)
{
    struct epoll_event events[EVENTS];
    epoll_wait(attachment->epoll, events, EVENTS, -1);
}

/* Looks at the ring for a while after the last request. False: nothing came, time to sleep. */
static bool spin(struct tcd_ex_attachment *attachment)
{
    uint64_t until = tcw_now_ns() + attachment->spin_us * 1000ull;
    for (unsigned i = 1;; ++i) {
        if (tcw_ring_pending(&attachment->ring) || stopping(attachment))
            return true;
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
    if (!stopping(attachment))
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
    while (!stopping(attachment)) {
        if (attachment->violated) {
            sleep_until_woken(attachment);
            continue;
        }
        uint32_t position = attachment->ring.sq_local;
        int got = tcw_ring_take(&attachment->ring, &attachment->job.request, &why);
        if (got == 0) {
            wait_for_work(attachment);
        } else if (got < 0) {
            violate(attachment, why);
        } else {
            serve(attachment, position);
            if (atomic_load_explicit(&attachment->retired, memory_order_relaxed))
                tcd_ex_attachment_sweep_plans(attachment);
        }
    }
    drain(attachment);
    atomic_store_explicit(&attachment->ended, true, memory_order_release);
    tcd_ex_mailbox_wake(attachment->mailbox);
    return NULL;
}

int tcd_ex_worker_start(struct tcd_ex_attachment *attachment)
{
    return pthread_create(&attachment->thread, NULL, worker_main, attachment) ? TCW_ENOMEM : 0;
}
