/* From a checked request to its launch: the gate, the turn in the order log, and what is put into the stream. */
#include "lane.h"

#include "../outcome.h"
#include "operations.h"

#include <stdio.h>

#define MS UINT64_C(1000000)

enum {
    MAX_LAUNCHED = 128,   /* of a communicator and not ended: a driver whose queues are full would block, */
    MAX_PIECES = 512,     /* and so it would with fewer that are made of many launches and copies */
    FIRST_RANK_MS = 3000, /* how long rank 0 has to decide about a request that this rank wants to give up */
    ENQUEUE_MS = 30000,   /* the longest that the library may take where no deadline is set */
};

/* ---- the gate ---- */

static uint32_t first_of(uint64_t ranks)
{
    return ranks ? (uint32_t)__builtin_ctzll(ranks) : TCW_NOBODY;
}

/* Why this rank should not go on waiting for its peers. */
static bool wants_to_leave(struct tcd_cuda_lane *lane, uint64_t waited_ns, struct tcd_gate_fault *fault)
{
    struct tcd_ex_attachment *attachment = lane->attachment;
    uint64_t abort_word = atomic_load_explicit(&attachment->abort_word, memory_order_acquire);
    uint64_t deadline_ns = atomic_load_explicit(attachment->deadline_ns, memory_order_relaxed);
    if (abort_word)
        *fault = (struct tcd_gate_fault){.code = tcw_abort_code(abort_word), .rank = tcw_abort_culprit(abort_word)};
    else if (lane->ending_ns)
        *fault = lane->cause;
    else if (tcd_cuda_communicator_is_broken(lane->communicator))
        *fault = (struct tcd_gate_fault){.code = TCW_EEXECUTOR, .rank = TCW_NOBODY};
    else if (deadline_ns && waited_ns > deadline_ns)
        *fault = (struct tcd_gate_fault){.code = TCW_ETIMEOUT, .rank = first_of(tcd_gate_missing(&lane->view))};
    else
        return false;
    return true;
}

/* True: to be launched, as on all ranks. False: on none, *fault says why. */
static bool pass_gate(struct tcd_cuda_lane *lane, struct tcd_gate_fault *fault)
{
    struct tcd_ex_attachment *attachment = lane->attachment;
    uint64_t since_ns = tcw_now_ns(), asked_ns = 0;
    for (unsigned turn = 0;; ++turn) {
        tcd_gate_state state = tcd_gate_look(&lane->view, fault);
        if (state != TCD_GATE_SHUT)
            return state == TCD_GATE_OPEN;
        if (!tcd_cuda_lane_pause(lane, turn))
            continue;
        uint64_t now_ns = tcw_now_ns();
        atomic_store_explicit(&attachment->page->missing_ranks, tcd_gate_missing(&lane->view), memory_order_relaxed);
        if (!asked_ns) {
            if (wants_to_leave(lane, now_ns - since_ns, fault)) {
                asked_ns = now_ns;
                tcd_gate_give_up(&lane->view, fault->code, fault->rank);
            }
        } else if (tcd_cuda_communicator_is_broken(lane->communicator) || now_ns > asked_ns + FIRST_RANK_MS * MS) {
            /* Whether it has launched is not known: then the communicator is in doubt too. */
            if (tcd_cuda_communicator_break(lane->communicator, false, "the executor of rank 0 does not say whether it has launched") < 0)
                tcd_cuda_lane_die(lane, "NCCL does not return");
            *fault = (struct tcd_gate_fault){.code = TCW_EEXECUTOR, .rank = 0};
            return false;
        }
    }
}

static void describe(const struct tcd_cuda_lane *lane, const struct tcd_cuda_flight *flight, const struct tcd_gate_fault *fault, char *text)
{
    uint32_t rank = lane->attachment->rank;
    const char *op = tcw_op_name(flight->note.op);
    char whom[24] = "its peers";
    if (fault->rank != TCW_NOBODY)
        snprintf(whom, sizeof whom, "rank %u", fault->rank);
    if (fault->code == TCW_ETIMEOUT && fault->rank < lane->view.nranks)
        snprintf(text, TCW_TEXT_BYTES, "rank %u waited %.3f s for %s in %s (plan %u); last known step there: %llu", rank,
                 (double)(tcw_now_ns() - flight->start_ns) / 1e9, whom, op, flight->note.plan_id,
                 (unsigned long long)tcd_gate_taken(&lane->view, fault->rank));
    else if (fault->code == TCW_EMISMATCH && fault->mine != fault->theirs)
        snprintf(text, TCW_TEXT_BYTES, "rank %u and %s differ in %s of %s: %llu and %llu", rank, whom,
                 fault->mine >> 32 != fault->theirs >> 32 ? "plan" : "tokens", op,
                 (unsigned long long)(fault->mine >> 32 != fault->theirs >> 32 ? fault->mine >> 32 : (uint32_t)fault->mine),
                 (unsigned long long)(fault->mine >> 32 != fault->theirs >> 32 ? fault->theirs >> 32 : (uint32_t)fault->theirs));
    else
        snprintf(text, TCW_TEXT_BYTES, "rank %u, %s (plan %u): %s", rank, op, flight->note.plan_id, tcw_error_text(fault->code));
}

/* Nothing was launched, anywhere. */
static void give_up(struct tcd_cuda_lane *lane, struct tcd_cuda_flight *flight, const struct tcd_gate_fault *fault)
{
    struct tcd_ex_attachment *attachment = lane->attachment;
    uint64_t step = fault->rank < lane->view.nranks ? tcd_gate_taken(&lane->view, fault->rank) : 0;
    char text[TCW_TEXT_BYTES];
    if (!atomic_load_explicit(&attachment->abort_word, memory_order_acquire)) {
        describe(lane, flight, fault, text);
        tcd_ex_fail(attachment, fault->code, fault->rank, step, text);
    }
    tcd_cuda_flight_refuse(lane, flight, fault->code, fault->rank);
    tcd_cuda_flights_progress(lane);
}

/* ---- the launch ---- */

static uint64_t enqueue_limit(const struct tcd_ex_attachment *attachment)
{
    uint64_t deadline_ns = atomic_load_explicit(attachment->deadline_ns, memory_order_relaxed);
    return tcw_now_ns() + (deadline_ns ? deadline_ns : ENQUEUE_MS * MS);
}

/* As which step a kernel of ours records this run; 0: none does. */
static uint64_t count_step(const struct tcd_cuda_flight *flight)
{
    struct tcd_ex_workspace *workspace = flight->plan->workspace;
    if (!workspace || !workspace->cuda || !flight->run->tokens || tcd_cuda_operation_is_library(&flight->plan->desc, flight->run->strategy))
        return 0;
    return ++workspace->runs;
}

/* Everything of one request, into the stream. The caller holds the communicator's lock and has its turn. */
static void enqueue(struct tcd_cuda_lane *lane, struct tcd_cuda_flight *flight)
{
    struct tcd_ex_attachment *attachment = lane->attachment;
    struct tcd_cuda_communicator *communicator = lane->communicator;
    char text[TCW_TEXT_BYTES] = "";
    uint64_t ticket = atomic_load_explicit(&communicator->tickets, memory_order_relaxed) + 1;
    const struct tck_cuda_end end =
        flight->captured ? tcd_cuda_words_replayed(&lane->words, flight->pair, communicator->ended_address, ticket)
                         : tcd_cuda_words_done(&lane->words, flight->pair, flight->number, communicator->ended_address, ticket);
    CUstream stream = NULL;
    CUresult result = tcd_cuda_sides_turn(&communicator->sides, &attachment->page->device, &stream);
    const struct tcd_cuda_operation operation = {
        .device = attachment->engine->device,
        .communicator = communicator,
        .stream = stream,
        .kernels = flight->plan->workspace ? flight->plan->workspace->cuda : NULL,
        .run = flight->run,
        .end = &end,
        .scratch = flight->plan->scratch,
        .until_ns = enqueue_limit(attachment),
        .abort_word = &attachment->abort_word,
        .text = text,
    };
    if (result == CUDA_SUCCESS && !flight->captured)
        result = tcd_cuda_words_await_ready(&lane->words, flight->pair, flight->number, stream);
    if (result != CUDA_SUCCESS)
        tcd_cuda_lane_die(lane, tck_cuda_text(result, text, sizeof text));
    int rc = tcd_cuda_operation_enqueue(&operation);
    if (rc < 0) {
        /* Peers wait for this rank's part, which is not there: only an end of the communicator releases them. */
        flight->result = rc;
        tcd_gate_spoil(&lane->view, flight->taken);
        tcd_ex_fail(attachment, rc, attachment->rank, flight->taken, text);
        tcd_cuda_communicator_break(communicator, true, text);
    }
    int told = rc == 1 ? 0 : tck_cuda_tell_launch(attachment->engine->device, &end, stream);
    if (told < 0) {
        snprintf(text, sizeof text, "kernels can no longer be launched: %s", tcw_error_text(told));
        tcd_cuda_lane_die(lane, text);
    }
    tcd_cuda_sides_enqueued(&communicator->sides, &attachment->page->device, rc < 0 ? 0 : count_step(flight));
    flight->ticket = ticket;
    flight->pieces = tcd_cuda_operation_pieces(&operation);
    lane->pieces += flight->pieces;
    atomic_store_explicit(&communicator->tickets, ticket, memory_order_relaxed);
}

/* Takes the lock when it is this lane's turn. False: the communicator is broken. */
static bool await_turn(struct tcd_cuda_lane *lane)
{
    struct tcd_cuda_communicator *communicator = lane->communicator;
    bool first = lane->view.rank == 0;
    for (unsigned turn = 0;; ++turn) {
        bool mine =
            first ? tcd_order_has_room(communicator->log, communicator->nranks)
                  : tcd_order_is_turn(communicator->log, atomic_load_explicit(&communicator->head, memory_order_acquire), lane->group);
        if (mine && pthread_mutex_trylock(&communicator->lock) == 0) {
            if (communicator->library)
                return true;
            pthread_mutex_unlock(&communicator->lock);
        }
        if (tcd_cuda_communicator_is_broken(communicator))
            return false;
        tcd_cuda_lane_pause(lane, turn);
    }
}

static void launch(struct tcd_cuda_lane *lane, struct tcd_cuda_flight *flight)
{
    struct tcd_cuda_communicator *communicator = lane->communicator;
    if (!await_turn(lane)) {
        const struct tcd_gate_fault fault = {.code = TCW_EEXECUTOR, .rank = TCW_NOBODY};
        tcd_gate_give_up(&lane->view, fault.code, fault.rank);
        give_up(lane, flight, &fault);
        return;
    }
    uint64_t head = atomic_load_explicit(&communicator->head, memory_order_relaxed) + 1;
    if (lane->view.rank == 0) {
        tcd_order_append(communicator->log, lane->group);
        tcd_gate_launch(&lane->view);
    } else {
        tcd_order_consume(communicator->log, communicator->rank, head);
    }
    tcd_ex_chore_begin(lane->attachment->engine->chores, &communicator->calls);
    enqueue(lane, flight);
    tcd_ex_chore_end(&communicator->calls);
    atomic_store_explicit(&communicator->head, head, memory_order_release);
    pthread_mutex_unlock(&communicator->lock);
    if (lane->ending_ns)
        tcd_cuda_lane_release(lane, lane->cause.code, lane->cause.rank);
}

/* ---- requests ---- */

/* Others may be launching; their pieces do not count here, because they wait for no client then: see ahead.c. */
static bool is_crowded(const struct tcd_cuda_lane *lane)
{
    uint64_t launched = atomic_load_explicit(&lane->communicator->tickets, memory_order_relaxed);
    return !tcd_cuda_lane_is_empty(lane) &&
           (launched > tcd_cuda_communicator_ended(lane->communicator) + MAX_LAUNCHED || lane->pieces > MAX_PIECES);
}

/* Until there is room for one more. NULL: there never will be. */
static struct tcd_cuda_flight *begin_flight(struct tcd_cuda_lane *lane, struct tcd_ex_plan *plan, uint64_t start_ns)
{
    for (unsigned turn = 0;; ++turn) {
        bool full = lane->last - lane->first == lane->capacity;
        struct tcd_cuda_flight *flight = is_crowded(lane) ? NULL : tcd_cuda_flight_begin(lane, plan, start_ns);
        if (flight)
            return flight;
        if (full) {
            /* It would need a completion entry that there is not. */
            tcd_ex_violate(lane->attachment, "more requests in flight than completion entries");
            return NULL;
        }
        tcd_cuda_lane_pause(lane, turn);
    }
}

/* Through the gate, with the other ranks' of it. */
static void pass(struct tcd_cuda_lane *lane, struct tcd_cuda_flight *flight)
{
    struct tcd_gate_fault fault = {.code = 0};
    tcd_gate_take(&lane->view, tcd_gate_tag(flight->plan->plan_id, (uint32_t)flight->plan->tokens));
    flight->taken = lane->view.taken;
    if (pass_gate(lane, &fault))
        launch(lane, flight);
    else
        give_up(lane, flight, &fault);
}

void tcd_cuda_lane_replay(struct tcd_cuda_lane *lane, struct tcd_cuda_captured *captured, uint64_t start_ns)
{
    struct tcd_cuda_flight *flight = NULL;
    tcd_cuda_flights_progress(lane);
    for (unsigned turn = 0; !flight; ++turn) {
        flight = is_crowded(lane) ? NULL : tcd_cuda_flight_begin_replay(lane, captured, start_ns);
        if (!flight)
            tcd_cuda_lane_pause(lane, turn);
    }
    pass(lane, flight);
}

int tcd_cuda_lane_run(struct tcd_ex_attachment *attachment, struct tcd_ex_plan *plan)
{
    uint64_t start_ns = tcw_now_ns();
    struct tcd_cuda_lane *lane = attachment->cuda;
    struct tcd_ex_job *job = &attachment->job;
    int rc = tcd_cuda_operation_check(&job->run, job->text);
    if (rc < 0)
        return rc;
    tcd_cuda_flights_progress(lane);
    struct tcd_cuda_flight *flight = begin_flight(lane, plan, start_ns);
    if (!flight) {
        tcd_ex_job_release(job);
        return 0;
    }
    pass(lane, flight);
    return 0;
}

void tcd_cuda_lane_answer(struct tcd_ex_attachment *attachment, int result, uint32_t culprit)
{
    struct tcd_cuda_lane *lane = attachment->cuda;
    uint64_t now_ns = tcw_now_ns();
    uint64_t abort_word = atomic_load_explicit(&attachment->abort_word, memory_order_acquire);
    if (abort_word)
        tcd_gate_give_up(&lane->view, tcw_abort_code(abort_word), tcw_abort_culprit(abort_word));
    else if (attachment->failed_code)
        tcd_gate_give_up(&lane->view, attachment->failed_code, attachment->failed_rank);
    struct tcd_cuda_flight *flight = begin_flight(lane, NULL, now_ns);
    if (flight)
        tcd_cuda_flight_refuse(lane, flight, result, culprit);
    tcd_cuda_flights_progress(lane);
}
