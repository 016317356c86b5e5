#include "captured.h"

#include "lane.h"
#include "operations.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- keeping them ---- */

static void forget(struct tcd_cuda_lane *lane, struct tcd_cuda_captured *captured)
{
    struct tcd_ex_attachment *attachment = lane->attachment;
    if (captured->pin_count && tcd_ex_client_unpin(captured->pins, captured->pin_count))
        tcd_ex_mailbox_wake(attachment->mailbox);
    free(captured->addresses);
    free(captured->pins);
    --captured->plan->captured;
    if (captured->plan->dropping)
        atomic_store_explicit(&attachment->retired, true, memory_order_release); /* that may have been the last that needs it */
    *captured = (struct tcd_cuda_captured){.index = captured->index};
    atomic_fetch_sub(&lane->communicator->captured, 1);
}

/* From attachment->job, whose pins it takes. */
static int keep(struct tcd_ex_attachment *attachment, struct tcd_ex_plan *plan, struct tcd_cuda_captured *captured)
{
    struct tcd_ex_job *job = &attachment->job;
    captured->addresses = malloc((plan->buffer_count + 1) * sizeof *captured->addresses);
    captured->pins = malloc((plan->buffer_count + 1) * sizeof(struct tcd_ex_memory *));
    if (!captured->addresses || !captured->pins) {
        free(captured->addresses);
        free(captured->pins);
        captured->addresses = NULL;
        captured->pins = NULL;
        snprintf(job->text, sizeof job->text, "out of memory");
        return TCW_ENOMEM;
    }
    memcpy(captured->addresses, job->addresses, plan->buffer_count * sizeof *captured->addresses);
    memcpy(captured->pins, job->pins, job->pin_count * sizeof(struct tcd_ex_memory *));
    captured->pin_count = job->pin_count;
    job->pin_count = 0;
    captured->run = job->run;
    captured->run.in = (const void *const *)captured->addresses;
    captured->run.out = captured->addresses + plan->in_count;
    captured->plan = plan;
    ++plan->captured;
    return 0;
}

int tcd_cuda_captured_add(struct tcd_ex_attachment *attachment, struct tcd_ex_plan *plan)
{
    struct tcd_cuda_lane *lane = attachment->cuda;
    struct tcd_cuda_captures *captures = &lane->captures;
    struct tcd_ex_job *job = &attachment->job;
    uint32_t index = job->request.head.pair;
    struct tcd_cuda_captured *captured = &captures->slots[index];
    if (!(plan->desc.flags & TCW_PLAN_GRAPH) || captured->plan) {
        snprintf(job->text, sizeof job->text, "not a plan for graphs, or captured request %u is in use", index);
        return TCW_EINVAL;
    }
    int rc = tcd_cuda_operation_check(&job->run, job->text);
    if (rc == 0)
        rc = keep(attachment, plan, captured);
    if (rc < 0)
        return rc;
    captured->index = index;
    captures->live[captures->count++] = (uint16_t)index;
    /* From here on no lane of the communicator enqueues ahead of its client's stream: see ahead.c. */
    atomic_fetch_add(&lane->communicator->captured, 1);
    return 0;
}

int tcd_cuda_captured_remove(struct tcd_ex_attachment *attachment)
{
    struct tcd_cuda_lane *lane = attachment->cuda;
    struct tcd_cuda_captures *captures = &lane->captures;
    struct tcd_cuda_captured *captured = &captures->slots[attachment->job.request.head.pair];
    if (!captured->plan)
        return TCW_ENOENT;
    /* A kernel has told the client a moment before it told us; a client that is too early waits for its own replay. */
    for (unsigned turn = 0; captured->running; ++turn)
        tcd_cuda_lane_pause(lane, turn);
    for (unsigned i = 0, kept = 0, count = captures->count; i < count; ++i)
        if (captures->live[i] != captured->index)
            captures->live[kept++] = captures->live[i];
    --captures->count;
    captures->next = 0;
    forget(lane, captured);
    return 0;
}

void tcd_cuda_captured_end(struct tcd_cuda_lane *lane)
{
    struct tcd_cuda_captures *captures = &lane->captures;
    while (captures->count)
        forget(lane, &captures->slots[captures->live[--captures->count]]);
}

/* ---- replays ---- */

void tcd_cuda_captured_give_up(struct tcd_cuda_lane *lane)
{
    if (!lane->captures.over)
        tcw_ring_captured_over(&lane->attachment->ring);
    lane->captures.over = true;
}

bool tcd_cuda_captured_expected(const struct tcd_ex_attachment *attachment)
{
    return attachment->cuda->captures.count;
}

/* Whether its stream has come to it. That does not change before it has been served; what is being served, `running` says. */
static bool begins(struct tcd_cuda_lane *lane, const struct tcd_cuda_captured *captured)
{
    const _Atomic uint32_t *turn = &lane->attachment->ring.captured[captured->index].turn;
    if (atomic_load_explicit(turn, memory_order_acquire) != TCW_TURN_EXECUTOR)
        return false;
    if (!captured->running)
        return true;
    tcd_cuda_flights_progress(lane); /* this may be the next replay already: the one before it has ended on the device, but not yet here */
    return !captured->running && atomic_load_explicit(turn, memory_order_acquire) == TCW_TURN_EXECUTOR;
}

bool tcd_cuda_captured_poll(struct tcd_ex_attachment *attachment)
{
    struct tcd_cuda_lane *lane = attachment->cuda;
    struct tcd_cuda_captures *captures = &lane->captures;
    if (!captures->count)
        return false;
    if (tcd_cuda_lane_is_lost(lane))
        tcd_cuda_captured_give_up(lane);
    if (captures->over) {
        /* Nothing of them will run, so their memory is the client's again: it may want to give it back before it leaves. */
        if (tcd_cuda_lane_is_empty(lane))
            tcd_cuda_captured_end(lane);
        return false;
    }
    for (unsigned i = 0; i < captures->count; ++i) {
        unsigned at = (captures->next + i) % captures->count;
        struct tcd_cuda_captured *captured = &captures->slots[captures->live[at]];
        if (!begins(lane, captured))
            continue;
        captures->next = at + 1;
        tcd_cuda_lane_replay(lane, captured, tcw_now_ns());
        return true;
    }
    return false;
}
