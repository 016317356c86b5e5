/*
 * Waiting for data of peers, within bounds: every loop of a kernel that waits goes through tck_patience. A thread that has polled in vain
 * for a while looks at the clock and at its GPU's state; one thread per GPU and interval asks the host's two words, which costs a trip over
 * the bus, and writes the answers into the state for all others. So a raised abort word ends all waits of a GPU within about a tenth of a
 * millisecond, however many threads wait, and a deadline may change at any time.
 *
 * A wait that gives up leaves the thread going: it runs to the end of the kernel with whatever data it has, so that no barrier lacks it.
 */
#ifndef TCK_CUDA_WAIT_CUH
#define TCK_CUDA_WAIT_CUH

#include "state.cuh"

enum {
    TCK_POLLS_PER_LOOK = 128,   /* polls between two looks at the clock, a power of two */
    TCK_NS_PER_QUESTION = 50000 /* between two questions to the host, per GPU */
};

/* -DTCK_WAIT_FOREVER is for measuring what the bounds cost, and for nothing else: such kernels end with their peers or never. */
#ifdef TCK_WAIT_FOREVER
#define TCK_BOUNDED false
#else
#define TCK_BOUNDED true
#endif

struct tck_patience {
    uint64_t since; /* 0: not looked yet */
    uint32_t polls;
};

/*
 * Whom to blame for what rank `missing` has not sent: where it waits for somebody else itself, the rank that has not entered this launch.
 * All enter by block 0's door; a rank that is behind has been there less often than this one.
 */
TCK_DEVICE uint32_t tck_latest(const struct tck_cuda_link &link, uint32_t missing)
{
    uint32_t mine = *(volatile uint32_t *)&tck_door(link, 0)->entered, latest = missing, behind = 0;
#pragma unroll 1
    for (uint32_t i = 0; i < link.nranks; i++) {
        const struct tck_cuda_door *door = (const struct tck_cuda_door *)((const char *)link.workspaces[i] + TCK_CUDA_DOORS_OFFSET);
        uint32_t theirs = mine - *(volatile const uint32_t *)&door->entered;
        if ((int32_t)theirs > 0 && (theirs > behind || (theirs == behind && i == missing))) {
            behind = theirs;
            latest = i;
        }
    }
    return latest;
}

/* Answers since when the thread waits, 0 to give up. `indirect`: the missing rank may itself wait for a third one. */
TCK_DEVICE uint64_t tck_patience_look(const struct tck_cuda_link &link, uint64_t step, uint64_t since, uint32_t missing, bool indirect)
{
    volatile struct tck_cuda_state *state = tck_state(link, link.rank);
    uint64_t now = tck_global_ns(), asked = state->asked_ns, deadline;
    if (state->fault)
        return 0;
    since = since ? since : now;
    if ((int64_t)(now - asked) > TCK_NS_PER_QUESTION &&
        atomicCAS((unsigned long long *)&state->asked_ns, (unsigned long long)asked, (unsigned long long)now) == asked) {
        uint64_t word = *(volatile const uint64_t *)link.abort_word;
        state->deadline_ns = *(volatile const uint64_t *)link.deadline_ns;
        if (word) {
            tck_fail(link, step, word, (uint32_t)(word >> 32));
            return 0;
        }
    }
    deadline = state->deadline_ns;
    if (deadline && (int64_t)(now - since) > (int64_t)deadline) {
        if (indirect)
            missing = tck_latest(link, missing);
        tck_fail(link, step, tck_fault_word(TCW_ETIMEOUT, missing), missing);
        return 0;
    }
    return since;
}

/* After a poll in vain: is it time to give up? `missing` is the rank whose data has not come; `indirect`: see tck_patience_look. */
TCK_DEVICE bool tck_give_up(const struct tck_cuda_link &link, const struct tck_turn &turn, struct tck_patience *patience, uint32_t missing,
                            bool indirect)
{
    if (!TCK_BOUNDED || ++patience->polls & (TCK_POLLS_PER_LOOK - 1))
        return false;
    if (tck_door_is_shared(link, turn))
        tck_fail(link, turn.step, tck_fault_word(TCW_EBUSY, TCK_NOBODY), TCK_NOBODY);
    patience->since = tck_patience_look(link, turn.step, patience->since, missing, indirect);
    turn.dead = patience->since == 0;
    return turn.dead;
}

/* Whether all lanes of the warp have what they wait for, or have given up: the end of loops of polls, see tck_lane. All lanes of it. */
TCK_DEVICE bool tck_warp_has(bool arrived)
{
    return __all_sync(0xffffffffu, arrived);
}

TCK_DEVICE bool tck_has_arrived(uint4 v)
{
    return v.x != TCK_CUDA_SENTINEL && v.y != TCK_CUDA_SENTINEL && v.z != TCK_CUDA_SENTINEL && v.w != TCK_CUDA_SENTINEL;
}

/* What senders send instead of the sentinel. */
TCK_DEVICE uint4 tck_sendable(uint4 v)
{
    v.x = v.x == TCK_CUDA_SENTINEL ? 0 : v.x;
    v.y = v.y == TCK_CUDA_SENTINEL ? 0 : v.y;
    v.z = v.z == TCK_CUDA_SENTINEL ? 0 : v.z;
    v.w = v.w == TCK_CUDA_SENTINEL ? 0 : v.w;
    return v;
}

/* Waits for one pack from rank `from`, in those lanes that want one; zeros in others. All lanes of the warp. */
TCK_DEVICE uint4 tck_receive(const struct tck_cuda_link &link, const struct tck_turn &turn, const uint4 *at, uint32_t from, bool wanted)
{
    struct tck_patience patience = {0, 0};
    uint4 v = make_uint4(0, 0, 0, 0);
    for (;;) {
        if (wanted)
            v = tck_load_volatile(at);
        const bool arrived = tck_has_arrived(v);
        if (tck_warp_has(arrived || turn.dead))
            return v;
        if (!arrived)
            tck_give_up(link, turn, &patience, from, true);
    }
}

TCK_DEVICE void tck_send(uint4 *at, uint4 v)
{
    asm volatile("st.volatile.global.v4.u32 [%0], {%1, %2, %3, %4};" ::"l"(at), "r"(v.x), "r"(v.y), "r"(v.z), "r"(v.w) : "memory");
}

/* Makes a place of a buffer empty again. */
TCK_DEVICE void tck_clear(uint4 *at)
{
    tck_send(at, make_uint4(TCK_CUDA_SENTINEL, TCK_CUDA_SENTINEL, TCK_CUDA_SENTINEL, TCK_CUDA_SENTINEL));
}

/* Empties what the round before has left behind: this thread takes every `stride`th pack from `own` on. */
TCK_DEVICE void tck_turn_clear(const struct tck_cuda_link &link, const struct tck_turn &turn, uint32_t own, uint32_t stride)
{
    uint4 *buffer = tck_buffer(link, link.rank, tck_buffer_before(turn.buffer));
#pragma unroll 4
    for (uint32_t of_warp = own - tck_lane(); of_warp < turn.dirty; of_warp += stride)
        if (of_warp + tck_lane() < turn.dirty)
            tck_clear(buffer + of_warp + tck_lane());
}

/* Where rank `sender` writes in a buffer of rank `receiver` that has a slot for each of the others. */
TCK_DEVICE uint32_t tck_slot(uint32_t sender, uint32_t receiver)
{
    return sender - (sender > receiver);
}

#endif
