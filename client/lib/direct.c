/* The direct lane of host devices: the calling thread runs the operation over the group's workspaces. No system call and no allocation on
 * the way. */
#include "error.h"
#include "run.h"

#include <tck/recorded.h>

#include <stdio.h>
#include <string.h>

/* Tells the whole story of a failure that this rank has seen itself. */
static void describe(const struct trtcoll_plan *plan, uint64_t step, const struct tck_fault *fault, struct tcw_error *error)
{
    const struct tcc_member *member = plan->member;
    const char *op = tcw_op_name(plan->desc.op);
    int length;

    memset(error, 0, sizeof(*error));
    error->code = fault->code;
    error->rank = fault->rank;
    error->step = fault->step;
    error->mine = fault->mine;
    error->theirs = fault->theirs;
    if (fault->rank < member->ready.size)
        error->pid = member->ready.peers[fault->rank].pid;
    tcw_text_set(error->field, sizeof(error->field), fault->field ? fault->field : "");
    length = snprintf(error->text, sizeof(error->text), "%s step %llu of group %s: ", op, (unsigned long long)step, member->name);
    if (length < 0 || (size_t)length >= sizeof(error->text))
        return;
    if (fault->code == TRTCOLL_ETIMEOUT)
        snprintf(error->text + length, sizeof(error->text) - (size_t)length,
                 "rank %u (pid %d) has not arrived within %llu ms; its last step was %llu", fault->rank, error->pid,
                 (unsigned long long)(tcc_member_deadline_ns(member) / 1000000), (unsigned long long)fault->step);
    else if (fault->code == TRTCOLL_EMISMATCH)
        snprintf(error->text + length, sizeof(error->text) - (size_t)length, "%s is %llu on rank %u (pid %d), but %llu here",
                 fault->field ? fault->field : "a field", (unsigned long long)fault->theirs, fault->rank, error->pid,
                 (unsigned long long)fault->mine);
    else
        snprintf(error->text + length, sizeof(error->text) - (size_t)length, "%s", trtcoll_error_text(fault->code));
}

static int failed(struct trtcoll_plan *plan, uint64_t step, const struct tck_fault *fault)
{
    struct tcw_error error;

    /* What the daemon says knows more than one rank does. */
    if (!tcc_member_failed(plan->member)) {
        describe(plan, step, fault, &error);
        tcc_member_report(plan->member, &error);
    }
    return tcc_member_fail(plan->member);
}

int tcc_direct_run(struct trtcoll_plan *plan, const struct tcc_run *run, struct trtcoll_event **event)
{
    struct tcc_member *member = plan->member;
    struct trtcoll_event *done = NULL;
    struct tck_run work;
    struct tck_recording recording = {.page = member->page,
                                      .note = {.plan_id = plan->plan_id,
                                               .op = plan->desc.op,
                                               .lane = TCW_LANE_DIRECT,
                                               .strategy = (uint8_t)run->strategy,
                                               .dtype_fusion = (uint32_t)plan->desc.fusion << 16 | plan->desc.dtype,
                                               .bytes = run->message_bytes,
                                               .tokens = run->tokens}};
    struct tck_fault fault = {0};
    uint64_t step, end_ns;
    int code;

    if (event) {
        done = tcc_event_get(member->ctx);
        if (!done)
            return tcc_fail_code(TRTCOLL_ENOMEM, "event");
    }
    tcc_run_work(plan, run, &work);

    pthread_mutex_lock(&member->run_lock);
    code = tcc_member_failed(member);
    if (code) {
        pthread_mutex_unlock(&member->run_lock);
        if (done)
            tcc_event_drop(done);
        return tcc_member_fail(member);
    }
    code = tck_recorded_run(plan->workspace->comm, &work, &recording, &fault);
    end_ns = tck_recording_end(&recording, code);
    step = atomic_load_explicit(&member->page->runs_started, memory_order_relaxed);
    tcc_plan_count(&plan->runs);
    pthread_mutex_unlock(&member->run_lock);

    if (code) {
        fault.code = code;
        if (done)
            tcc_event_drop(done);
        return failed(plan, step, &fault);
    }
    if (done) {
        done->lane = TCW_LANE_DIRECT;
        done->plan_id = plan->plan_id;
        done->submit_ns = recording.note.submit_ns;
        tcc_event_complete(done, 0, TRTCOLL_RANK_NONE, recording.note.submit_ns, end_ns);
        *event = done;
    }
    return 0;
}
