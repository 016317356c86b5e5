#include "gate.h"

#include <tcw/types.h>

static struct tcd_gate_slot *own(const struct tcd_gate_view *view)
{
    return &view->gate->ranks[view->rank];
}

static bool has_given_up(const struct tcd_gate_slot *slot, struct tcd_gate_fault *fault)
{
    uint64_t word = atomic_load_explicit(&slot->given_up, memory_order_acquire);
    if (!word)
        return false;
    *fault = (struct tcd_gate_fault){.code = tcw_abort_code(word), .rank = tcw_abort_culprit(word)};
    return true;
}

void tcd_gate_take(struct tcd_gate_view *view, uint64_t tag)
{
    struct tcd_gate_slot *slot = own(view);
    /* Only rank 0 reads tags, and nobody takes the next request before rank 0 has decided on this one. */
    atomic_store_explicit(&slot->tag, tag, memory_order_relaxed);
    atomic_store_explicit(&slot->taken, ++view->taken, memory_order_seq_cst);
    /* Peer: tcd_gate_give_up. Either rank 0 sees that we want to leave, or we see that it has come. */
    atomic_thread_fence(memory_order_seq_cst);
}

static tcd_gate_state look_as_first(struct tcd_gate_view *view, struct tcd_gate_fault *fault)
{
    struct tcd_gate_slot *mine = own(view);
    uint64_t tag = atomic_load_explicit(&mine->tag, memory_order_relaxed);
    bool all = true;
    if (has_given_up(mine, fault))
        return TCD_GATE_GIVEN_UP;
    for (uint32_t i = 1; i < view->nranks; ++i) {
        struct tcd_gate_slot *slot = &view->gate->ranks[i];
        if (has_given_up(slot, fault)) {
            tcd_gate_give_up(view, fault->code, fault->rank);
            return TCD_GATE_GIVEN_UP;
        }
        if (atomic_load_explicit(&slot->taken, memory_order_acquire) < view->taken) {
            all = false;
            continue;
        }
        uint64_t theirs = atomic_load_explicit(&slot->tag, memory_order_relaxed);
        if (theirs != tag) {
            *fault = (struct tcd_gate_fault){.code = TCW_EMISMATCH, .rank = i, .mine = tag, .theirs = theirs};
            tcd_gate_give_up(view, TCW_EMISMATCH, i);
            return TCD_GATE_GIVEN_UP;
        }
    }
    return all ? TCD_GATE_OPEN : TCD_GATE_SHUT;
}

tcd_gate_state tcd_gate_look(struct tcd_gate_view *view, struct tcd_gate_fault *fault)
{
    if (!view->rank)
        return look_as_first(view, fault);
    const struct tcd_gate_slot *first = &view->gate->ranks[0];
    if (atomic_load_explicit(&first->launched, memory_order_acquire) >= view->taken)
        return TCD_GATE_OPEN;
    if (!has_given_up(first, fault)) {
        /* Rank 0 has not come: when it does, it sees that this rank has left. If it has come, it is about to decide. */
        bool left = has_given_up(own(view), fault);
        return left && atomic_load_explicit(&first->taken, memory_order_relaxed) < view->taken ? TCD_GATE_GIVEN_UP : TCD_GATE_SHUT;
    }
    /* What rank 0 launched before it gave up is launched. */
    if (atomic_load_explicit(&first->launched, memory_order_acquire) >= view->taken)
        return TCD_GATE_OPEN;
    if (fault->code == TCW_EMISMATCH && fault->rank < view->nranks) {
        fault->mine = atomic_load_explicit(&own(view)->tag, memory_order_relaxed);
        /* The odd one out compares itself with rank 0, the others with the odd one. */
        const struct tcd_gate_slot *odd = &view->gate->ranks[fault->rank == view->rank ? 0 : fault->rank];
        fault->theirs = atomic_load_explicit(&odd->tag, memory_order_relaxed);
    }
    return TCD_GATE_GIVEN_UP;
}

void tcd_gate_launch(struct tcd_gate_view *view)
{
    atomic_store_explicit(&own(view)->launched, view->taken, memory_order_release);
}

void tcd_gate_give_up(struct tcd_gate_view *view, int code, uint32_t culprit)
{
    struct tcd_gate_slot *slot = own(view);
    if (atomic_load_explicit(&slot->given_up, memory_order_relaxed))
        return;
    atomic_store_explicit(&slot->given_up, tcw_abort_pack(code, culprit), memory_order_seq_cst);
    atomic_thread_fence(memory_order_seq_cst); /* peer: tcd_gate_take */
}

uint64_t tcd_gate_taken(const struct tcd_gate_view *view, uint32_t rank)
{
    return atomic_load_explicit(&view->gate->ranks[rank].taken, memory_order_acquire);
}

uint64_t tcd_gate_missing(const struct tcd_gate_view *view)
{
    uint64_t missing = 0;
    for (uint32_t i = 0; i < view->nranks; ++i)
        if (tcd_gate_taken(view, i) < view->taken)
            missing |= UINT64_C(1) << i;
    return missing;
}

void tcd_gate_spoil(struct tcd_gate_view *view, uint64_t number)
{
    struct tcd_gate_slot *slot = own(view);
    if (!atomic_load_explicit(&slot->spoiled, memory_order_relaxed))
        atomic_store_explicit(&slot->spoiled, number, memory_order_release);
}

bool tcd_gate_spoiled(const struct tcd_gate_view *view, uint64_t number, struct tcd_gate_fault *fault)
{
    for (uint32_t i = 0; i < view->nranks; ++i) {
        const struct tcd_gate_slot *slot = &view->gate->ranks[i];
        uint64_t from = atomic_load_explicit(&slot->spoiled, memory_order_acquire);
        if (!from || number < from)
            continue;
        *fault = (struct tcd_gate_fault){.code = TCW_EABORTED, .rank = i};
        has_given_up(slot, fault);
        return true;
    }
    return false;
}

/* ---- order log ---- */

bool tcd_order_has_room(const struct tcd_order_log *log, uint32_t nranks)
{
    uint64_t tail = atomic_load_explicit(&log->tail, memory_order_relaxed);
    for (uint32_t i = 1; i < nranks; ++i)
        if (tail - atomic_load_explicit(&log->consumed[i].head, memory_order_acquire) >= TCD_ORDER_ENTRIES)
            return false;
    return true;
}

void tcd_order_append(struct tcd_order_log *log, uint64_t group)
{
    uint64_t tail = atomic_load_explicit(&log->tail, memory_order_relaxed);
    atomic_store_explicit(&log->attachment_group[tail % TCD_ORDER_ENTRIES], group, memory_order_relaxed);
    atomic_store_explicit(&log->tail, tail + 1, memory_order_release);
    atomic_store_explicit(&log->consumed[0].head, tail + 1, memory_order_relaxed);
}

bool tcd_order_is_turn(const struct tcd_order_log *log, uint64_t head, uint64_t group)
{
    if (head >= atomic_load_explicit(&log->tail, memory_order_acquire))
        return false;
    return atomic_load_explicit(&log->attachment_group[head % TCD_ORDER_ENTRIES], memory_order_relaxed) == group;
}

void tcd_order_consume(struct tcd_order_log *log, uint32_t rank, uint64_t head)
{
    atomic_store_explicit(&log->consumed[rank].head, head, memory_order_release);
}
