/* The requests of a lane that are under way: their queue, their ends, and what is done about those that do not end. */
#include "lane.h"

#include "../outcome.h"
#include "operations.h"

#include <stdio.h>

#define MS UINT64_C(1000000)

enum {
    LOOKS_PER_CLOCK = 8,
    PEERS_MS = 2000, /* beyond the deadline: a rank whose client is late says so itself, and is believed first */
    GRACE_MS = 1000, /* how long peers have to raise their words, after an abort, before the communicator is ended */
    ENDED_MS = 5000, /* how long the stream may go on after that */
    QUERY_MS = 5,
};

static struct tcd_cuda_flight *flight_at(const struct tcd_cuda_lane *lane, uint32_t index)
{
    return &lane->flights[index & (lane->capacity - 1)];
}

/* ---- the queue ---- */

static void note(const struct tcd_cuda_lane *lane, struct tcd_cuda_flight *flight, uint64_t start_ns)
{
    tcd_ex_plan_note(flight->plan, start_ns, &flight->note);
    flight->record = tcw_member_run_begin(lane->attachment->page, &flight->note, start_ns);
}

struct tcd_cuda_flight *tcd_cuda_flight_begin(struct tcd_cuda_lane *lane, struct tcd_ex_plan *plan, uint64_t start_ns)
{
    struct tcd_ex_attachment *attachment = lane->attachment;
    struct tcd_ex_job *job = &attachment->job;
    if (lane->last - lane->first == lane->capacity || lane->pin_capacity - (lane->pin_last - lane->pin_first) < job->pin_count)
        return NULL;
    struct tcd_cuda_flight *flight = flight_at(lane, lane->last++);
    *flight = (struct tcd_cuda_flight){
        .user_data = job->request.head.user_data,
        .number = attachment->requests,
        .pair = job->request.head.pair,
        .culprit = TCW_NOBODY,
        .start_ns = start_ns,
    };
    if (!plan)
        return flight;
    flight->plan = plan;
    ++plan->running;
    for (unsigned i = 0; i < job->pin_count; ++i)
        if (job->pins[i]) {
            lane->pins[lane->pin_last++ & (lane->pin_capacity - 1)] = job->pins[i];
            ++flight->pin_count;
        }
    job->pin_count = 0; /* the flight's now */
    flight->run = &job->run;
    note(lane, flight, start_ns);
    return flight;
}

struct tcd_cuda_flight *tcd_cuda_flight_begin_replay(struct tcd_cuda_lane *lane, struct tcd_cuda_captured *captured, uint64_t start_ns)
{
    if (lane->last - lane->first == lane->capacity)
        return NULL;
    struct tcd_cuda_flight *flight = flight_at(lane, lane->last++);
    *flight = (struct tcd_cuda_flight){
        .pair = captured->index,
        .captured = captured,
        .run = &captured->run,
        .culprit = TCW_NOBODY,
        .plan = captured->plan,
        .start_ns = start_ns,
    };
    captured->running = true;
    ++captured->plan->running;
    tcd_ex_plan_size(captured->plan, captured->run.tokens); /* for the note, and the tag in the gate */
    note(lane, flight, start_ns);
    return flight;
}

void tcd_cuda_flight_refuse(struct tcd_cuda_lane *lane, struct tcd_cuda_flight *flight, int result, uint32_t culprit)
{
    flight->result = result;
    flight->culprit = culprit;
    if (flight->captured)
        tcd_cuda_captured_give_up(lane);
    else
        tcd_cuda_words_raise_done(&lane->words, flight->pair, flight->number);
}

static void unpin(struct tcd_cuda_lane *lane, struct tcd_cuda_flight *flight)
{
    bool awaited = false;
    for (; flight->pin_count; --flight->pin_count)
        awaited |= tcd_ex_client_unpin(&lane->pins[lane->pin_first++ & (lane->pin_capacity - 1)], 1);
    if (awaited)
        tcd_ex_mailbox_wake(lane->attachment->mailbox);
}

/* ---- the end of a flight ---- */

/* The control process's word counts more than ours: it knows the cause. */
static void judge_by_abort(struct tcd_cuda_lane *lane, struct tcd_cuda_flight *flight)
{
    struct tcd_ex_attachment *attachment = lane->attachment;
    uint64_t abort_word = atomic_load_explicit(&attachment->abort_word, memory_order_acquire);
    if (!abort_word || flight->result == 0)
        return;
    attachment->failed_code = flight->result = tcw_abort_code(abort_word);
    attachment->failed_rank = flight->culprit = tcw_abort_culprit(abort_word);
}

/* Failed for a reason that the control process has not been told yet, perhaps. */
static void report(struct tcd_cuda_lane *lane, const struct tcd_cuda_flight *flight)
{
    struct tcd_ex_attachment *attachment = lane->attachment;
    char text[TCW_TEXT_BYTES];
    if (attachment->failed_code)
        return;
    snprintf(text, sizeof text, "rank %u, %s (plan %u): %s", attachment->rank, tcw_op_name(flight->note.op), flight->note.plan_id,
             tcw_error_text(flight->result));
    tcd_ex_fail(attachment, flight->result, flight->culprit, flight->taken, text);
}

/* What came out of a launched flight that has ended. */
static void judge(struct tcd_cuda_lane *lane, struct tcd_cuda_flight *flight)
{
    struct tcd_gate_fault fault;
    if (flight->result < 0)
        return; /* only half of it could be enqueued */
    if (tcd_gate_spoiled(&lane->view, flight->taken, &fault)) {
        flight->result = fault.code;
        flight->culprit = fault.rank;
    } else if (tcd_cuda_communicator_is_broken(lane->communicator)) {
        flight->result = TCW_EEXECUTOR;
    } else if (!tcd_cuda_operation_is_library(&flight->plan->desc, flight->note.strategy)) {
        uint64_t word = atomic_load_explicit(&lane->attachment->page->device.fault, memory_order_acquire);
        if (word) {
            flight->result = tcw_abort_code(word);
            flight->culprit = tcw_abort_culprit(word);
        }
    }
}

/* The oldest flight, whose result is known. */
static void end_flight(struct tcd_cuda_lane *lane, struct tcd_cuda_flight *flight)
{
    struct tcd_ex_attachment *attachment = lane->attachment;
    uint64_t end_ns = tcw_now_ns();
    if (flight->plan) {
        judge_by_abort(lane, flight);
        if (flight->result < 0)
            report(lane, flight);
        tcw_member_run_end(attachment->page, flight->record, &flight->note, end_ns, flight->result);
        unpin(lane, flight);
        --flight->plan->running;
    }
    lane->pieces -= flight->pieces;
    ++lane->first;
    if (flight->captured)
        flight->captured->running = false;
    else
        tcd_ex_complete(attachment, flight->user_data, flight->result, flight->culprit, flight->start_ns, end_ns);
}

static void complete_ended(struct tcd_cuda_lane *lane)
{
    while (!tcd_cuda_lane_is_empty(lane)) {
        struct tcd_cuda_flight *flight = flight_at(lane, lane->first);
        if (flight->plan && !flight->ticket && flight->result == 0)
            return; /* still at the gate */
        if (flight->ticket) {
            if (tcd_cuda_communicator_ended(lane->communicator) < flight->ticket)
                return;
            judge(lane, flight);
        }
        end_flight(lane, flight);
    }
}

/* ---- those that do not end ---- */

/* Replays begin with them. */
static bool inputs_are_there(const struct tcd_cuda_lane *lane, const struct tcd_cuda_flight *flight)
{
    return flight->captured || tcd_cuda_words_is_ready(&lane->words, flight->pair, flight->number);
}

void tcd_cuda_lane_release(struct tcd_cuda_lane *lane, int code, uint32_t culprit)
{
    if (!lane->ending_ns) {
        lane->ending_ns = tcw_now_ns();
        lane->cause = (struct tcd_gate_fault){.code = code, .rank = culprit};
        tcd_gate_give_up(&lane->view, code, culprit);
        atomic_store_explicit(&lane->own->abort_word, tcw_abort_pack(code, culprit), memory_order_release);
    }
    for (uint32_t i = lane->first; i != lane->last; ++i) {
        struct tcd_cuda_flight *flight = flight_at(lane, i);
        if (!flight->ticket || inputs_are_there(lane, flight))
            continue;
        tcd_gate_spoil(&lane->view, flight->taken); /* before the word: whoever sees its effect sees this */
        tcd_cuda_words_raise_ready(&lane->words, flight->pair, flight->number);
    }
}

static void end_communicator(struct tcd_cuda_lane *lane, const char *why)
{
    if (tcd_cuda_communicator_break(lane->communicator, false, why) < 0)
        tcd_cuda_lane_die(lane, "NCCL does not return");
}

/* After an abort: words are raised again (a client may lower its own), and what peers owe is not waited for much longer. */
static void press_on(struct tcd_cuda_lane *lane, uint64_t now_ns)
{
    struct tcd_cuda_communicator *communicator = lane->communicator;
    tcd_cuda_lane_release(lane, lane->cause.code, lane->cause.rank);
    if (tcd_cuda_communicator_is_broken(communicator)) {
        uint64_t broken_ns = atomic_load(&communicator->broken_ns);
        if (now_ns > broken_ns + ENDED_MS * MS && now_ns > lane->ending_ns + ENDED_MS * MS)
            tcd_cuda_lane_die(lane, "the stream of an ended communicator stands still");
        return;
    }
    bool is_head = lane->watched && now_ns > lane->watched_ns + GRACE_MS * MS;
    if (lane->cause.code == TCW_EEXECUTOR)
        end_communicator(lane, "an executor of the group is gone");
    else if (is_head && now_ns > lane->ending_ns + GRACE_MS * MS)
        end_communicator(lane, "a launched operation did not end after its group was aborted");
}

static void check_deadline(struct tcd_cuda_lane *lane, const struct tcd_cuda_flight *flight, uint64_t now_ns)
{
    struct tcd_ex_attachment *attachment = lane->attachment;
    uint64_t deadline_ns = atomic_load_explicit(attachment->deadline_ns, memory_order_relaxed), waited_ns = now_ns - lane->watched_ns;
    char text[TCW_TEXT_BYTES];
    if (!deadline_ns || waited_ns < deadline_ns)
        return;
    const char *op = tcw_op_name(flight->note.op);
    if (!inputs_are_there(lane, flight)) {
        snprintf(text, sizeof text, "rank %u has posted %s (plan %u), but its inputs have not come for %.3f s", attachment->rank, op,
                 flight->note.plan_id, (double)waited_ns / 1e9);
        tcd_ex_fail(attachment, TCW_ETIMEOUT, attachment->rank, flight->taken, text);
        tcd_cuda_lane_release(lane, TCW_ETIMEOUT, attachment->rank);
    } else if (waited_ns > deadline_ns + PEERS_MS * MS) {
        snprintf(text, sizeof text, "rank %u: %s (plan %u) has not ended for %.3f s, though its inputs are there", attachment->rank, op,
                 flight->note.plan_id, (double)waited_ns / 1e9);
        tcd_ex_fail(attachment, TCW_ETIMEOUT, TCW_NOBODY, flight->taken, text);
        tcd_cuda_lane_release(lane, TCW_ETIMEOUT, TCW_NOBODY);
    }
}

/* Which of ours the stream is at, and since when. What other lanes have before it is theirs to hurry. */
static const struct tcd_cuda_flight *find_head(struct tcd_cuda_lane *lane, uint64_t now_ns)
{
    const struct tcd_cuda_flight *flight = flight_at(lane, lane->first);
    uint64_t at_head = flight->ticket && tcd_cuda_communicator_ended(lane->communicator) + 1 >= flight->ticket ? flight->ticket : 0;
    if (at_head != lane->watched) {
        lane->watched = at_head;
        lane->watched_ns = now_ns;
    }
    return at_head ? flight : NULL;
}

static void check_health(struct tcd_cuda_lane *lane, uint64_t now_ns)
{
    char text[TCW_TEXT_BYTES];
    if (now_ns < lane->queried_ns + QUERY_MS * MS)
        return;
    lane->queried_ns = now_ns;
    CUresult result = tcd_cuda_sides_query(&lane->communicator->sides);
    if (result != CUDA_SUCCESS && result != CUDA_ERROR_NOT_READY)
        tcd_cuda_lane_die(lane, tck_cuda_text(result, text, sizeof text));
}

static void watch(struct tcd_cuda_lane *lane)
{
    struct tcd_ex_attachment *attachment = lane->attachment;
    uint64_t now_ns = tcw_now_ns(), abort_word = atomic_load_explicit(&attachment->abort_word, memory_order_acquire);
    const struct tcd_cuda_flight *head = find_head(lane, now_ns);
    check_health(lane, now_ns);
    if (abort_word && (!lane->ending_ns || lane->cause.code != tcw_abort_code(abort_word))) {
        tcd_cuda_lane_release(lane, tcw_abort_code(abort_word), tcw_abort_culprit(abort_word));
        lane->cause.code = tcw_abort_code(abort_word); /* an executor that is gone is not waited for */
    }
    if (atomic_load_explicit(&lane->communicator->cancelled, memory_order_acquire))
        end_communicator(lane, "the communicator is dropped");
    if (!lane->ending_ns && tcd_cuda_communicator_is_broken(lane->communicator))
        tcd_cuda_lane_release(lane, TCW_EEXECUTOR, TCW_NOBODY);
    if (lane->ending_ns)
        press_on(lane, now_ns);
    else if (head)
        check_deadline(lane, head, now_ns);
}

void tcd_cuda_flights_progress(struct tcd_cuda_lane *lane)
{
    complete_ended(lane);
    if (tcd_cuda_lane_is_empty(lane) || ++lane->looks < LOOKS_PER_CLOCK)
        return;
    lane->looks = 0;
    watch(lane);
}
