/* Host devices: memory is memfds, and the worker itself runs every operation before it takes the next request. */
#include "attachment.h"
#include "engine.h"
#include "outcome.h"

#include <tck/recorded.h>

#include <stdio.h>
#include <stdlib.h>

/* ---- memory ---- */

static int memory_open(struct tcd_ex_engine *engine, const struct tcd_ex_message *message, int *fds, unsigned fd_count,
                       struct tcd_ex_memory *memory, char *text)
{
    struct tck_memory mapping;
    (void)engine;
    if (fd_count != 1) {
        snprintf(text, TCW_TEXT_BYTES, "%u descriptors instead of 1", fd_count);
        return TCW_EINVAL;
    }
    int rc = tck_memory_import(NULL, fds[0], message->value, &mapping);
    if (rc < 0)
        return rc;
    mapping.fd = -1; /* the caller closes it: the mapping is enough */
    memory->mapping = mapping;
    memory->base = mapping.base;
    memory->bytes = message->value;
    return 0;
}

static void memory_close(struct tcd_ex_engine *engine, struct tcd_ex_memory *memory)
{
    (void)engine;
    tck_memory_release(&memory->mapping);
}

static int workspace_open(struct tcd_ex_attachment *attachment, struct tcd_ex_workspace *workspace,
                          char *text) /* NOLINT(readability-non-const-parameter): the engine's signature */
{
    void *bases[TCW_MAX_RANKS];
    (void)text;
    for (uint32_t i = 0; i < attachment->nranks; ++i)
        bases[i] = workspace->ranks[i].base;
    struct tck_comm_params params = {
        .rank = attachment->rank,
        .nranks = attachment->nranks,
        .workspaces = bases,
        .workspace_bytes = workspace->bytes,
        .abort_word = &attachment->abort_word,
        .deadline_ns = attachment->deadline_ns,
        .missing_ranks = &attachment->page->missing_ranks,
        .spin_us = attachment->crowded ? 0 : attachment->spin_us,
    };
    return tck_comm_create(&params, &workspace->host);
}

static void workspace_close(struct tcd_ex_workspace *workspace)
{
    tck_comm_destroy(workspace->host);
}

/* ---- runs ---- */

static void answer(struct tcd_ex_attachment *attachment, int result, uint32_t culprit)
{
    uint64_t now = tcw_now_ns();
    tcd_ex_complete(attachment, attachment->job.request.head.user_data, result, culprit, now, now);
}

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

static void explain(struct tcd_ex_attachment *attachment, const struct tcd_ex_plan *plan, struct tck_fault *fault, uint64_t took_ns,
                    int *rc)
{
    uint64_t abort_word = atomic_load_explicit(&attachment->abort_word, memory_order_acquire);
    if (abort_word) {
        /* The control process knows: it said so. */
        attachment->failed_code = *rc = tcw_abort_code(abort_word);
        attachment->failed_rank = fault->rank = tcw_abort_culprit(abort_word);
    } else {
        char text[TCW_TEXT_BYTES];
        describe_fault(attachment, plan, fault, took_ns, text, sizeof text);
        tcd_ex_fail(attachment, *rc, fault->rank, fault->step, text);
    }
}

static int run(struct tcd_ex_attachment *attachment, struct tcd_ex_plan *plan)
{
    struct tcd_ex_job *job = &attachment->job;
    const struct tcw_sqe *head = &job->request.head;
    struct tck_recording recording = {.page = attachment->page};
    struct tck_fault fault = {.rank = TCW_NOBODY};
    tcd_ex_plan_note(plan, 0, &recording.note);
    int rc = tck_recorded_run(plan->workspace->host, &job->run, &recording, &fault);
    /* Before the completion: afterwards the client may give the memory back and expects it to be free. */
    if (tcd_ex_job_release(job))
        tcd_ex_mailbox_wake(attachment->mailbox);
    if (rc == 0 && head->flags & TCW_SQE_UNTIMED) {
        tcw_member_run_count(recording.page, &recording.note);
        tcd_ex_complete(attachment, head->user_data, 0, TCW_NOBODY, 0, 0);
        tck_recording_end(&recording, 0); /* while the client goes on */
        return 0;
    }
    uint64_t end_ns = tck_recording_end(&recording, rc);
    if (rc < 0)
        explain(attachment, plan, &fault, end_ns - recording.note.submit_ns, &rc);
    tcd_ex_complete(attachment, head->user_data, rc, fault.rank, recording.note.submit_ns, end_ns);
    return 0;
}

static const struct tcd_ex_engine_ops host_ops = {
    .attach_fds = 4,
    .memory_open = memory_open,
    .memory_close = memory_close,
    .workspace_open = workspace_open,
    .workspace_close = workspace_close,
    .run = run,
    .answer = answer,
};

struct tcd_ex_engine *tcd_ex_host_engine(void)
{
    static struct tcd_ex_engine engine = {.ops = &host_ops};
    return &engine;
}
