/*
 * A run's begin and end on one GPU: reading the state, arriving, leaving, and what is posted to the host. See args.h for the protocol.
 *
 *   begin    every thread, after the stream's earlier work is visible: which buffer, what to clear, has the group failed
 *   arrive   one thread per block, after the pushes: counts, and finds launches that overlap with another one
 *   advance  the same thread, after its waits: the last block to arrive writes the state of the next run. Nobody waits for that but
 *            the next launch, which reads it behind the grid dependency
 *   leave    every thread of a block, last: counts the block out; block 0 posts the record
 *
 * Two launches at the same time would share buffers. Either both read the same state, then more blocks arrive than the grid has;
 * or one begins before all blocks of the other have left. Both end with EBUSY.
 */
#ifndef TCK_CUDA_STATE_CUH
#define TCK_CUDA_STATE_CUH

#include "args.h"

#include <tcw/types.h>

#define TCK_NOBODY 0xffffffffu /* TCW_NOBODY */
#define TCK_DEVICE static __device__ __forceinline__
#define TCK_MEMBER __device__ __forceinline__ /* of a struct */

/* What a thread knows of its run. */
struct tck_turn {
    uint64_t step;
    uint32_t buffer; /* of this round */
    uint32_t dirty;  /* packs to clear in buffer + 2 */
    uint32_t expected;
    bool overlap; /* the run before is not over */
    bool dead;    /* the group has failed: do not send, do not wait */
};

TCK_DEVICE uint64_t tck_global_ns()
{
    uint64_t ns;
    asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(ns));
    return ns;
}

/* Waits until everything that the stream did before is visible, then lets the next kernel of the stream be scheduled if that is wanted. */
TCK_DEVICE void tck_stream_order(const struct tck_cuda_operation &run)
{
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
    if (run.flags & TCK_CUDA_TRIGGER_EARLY)
        asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

TCK_DEVICE struct tck_cuda_state *tck_state(const struct tck_cuda_link &link, uint32_t rank)
{
    return (struct tck_cuda_state *)link.workspaces[rank];
}

/* Buffer `buffer` of rank `rank`, in packs. */
TCK_DEVICE uint4 *tck_buffer(const struct tck_cuda_link &link, uint32_t rank, uint32_t buffer)
{
    return (uint4 *)((char *)link.workspaces[rank] + TCK_CUDA_HEADER_BYTES) + buffer * link.buffer_packs;
}

TCK_DEVICE uint32_t tck_buffer_behind(uint32_t buffer)
{
    return buffer == TCK_CUDA_BUFFERS - 1 ? 0 : buffer + 1;
}
TCK_DEVICE uint32_t tck_buffer_before(uint32_t buffer)
{
    return buffer == 0 ? TCK_CUDA_BUFFERS - 1 : buffer - 1;
}

/* Data that other agents write: 16 bytes in one access, never from a cache that is not coherent. */
TCK_DEVICE uint4 tck_load_volatile(const void *at)
{
    uint4 v;
    asm volatile("ld.volatile.global.v4.u32 {%0, %1, %2, %3}, [%4];" : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "l"(at) : "memory");
    return v;
}

TCK_DEVICE struct tck_turn tck_turn_begin(const struct tck_cuda_link &link)
{
    const char *state = (const char *)link.workspaces[link.rank];
    uint4 places = tck_load_volatile(state), counts = tck_load_volatile(state + 16);
    struct tck_turn turn;
    turn.step = (uint64_t)places.y << 32 | places.x;
    turn.buffer = places.z;
    turn.dirty = places.w;
    turn.expected = counts.x;
    turn.overlap = counts.x != counts.y;
    turn.dead = (counts.z | counts.w) != 0;
    return turn;
}

/*
 * Ends the group's work on this rank with `word` (tcw_abort_pack), if nobody has done so: later waits and launches end at once. `about`:
 * the blamed rank, whose progress is looked up, or TCK_NOBODY.
 */
TCK_DEVICE void tck_fail(const struct tck_cuda_link &link, uint64_t step, uint64_t word, uint32_t about)
{
    volatile struct tck_cuda_progress *progress = link.progress;
    if (atomicCAS((unsigned long long *)&tck_state(link, link.rank)->fault, 0ull, (unsigned long long)word) != 0)
        return;
    progress->fault_step = step + 1;
    progress->their_step = about < link.nranks ? *(volatile uint64_t *)&tck_state(link, about)->step : 0;
    __threadfence_system();
    progress->fault = word;
}

/* tcw_abort_pack */
TCK_DEVICE uint64_t tck_fault_word(int code, uint32_t rank)
{
    return (uint64_t)rank << 32 | (uint32_t)-code;
}

/* One thread per block, once its block has pushed. The answer goes to tck_turn_advance. */
TCK_DEVICE uint64_t tck_turn_arrive(const struct tck_cuda_link &link)
{
    return atomicAdd((unsigned long long *)&tck_state(link, link.rank)->arrived, 1ull);
}

/* The same thread, after its waits: the launch leaves `dirty` packs in its buffer. */
TCK_DEVICE void tck_turn_advance(const struct tck_cuda_args &args, const struct tck_turn &begun, uint64_t arrived, uint64_t dirty)
{
    struct tck_cuda_state *state = tck_state(args.link, args.link.rank);
    uint32_t before = (uint32_t)arrived & 0xffffu;
    if (begun.dead)
        return;
    if (begun.overlap || arrived >> 16 != begun.expected || before >= gridDim.x) {
        tck_fail(args.link, begun.step, tck_fault_word(TCW_EBUSY, TCK_NOBODY), TCK_NOBODY);
    } else if (before == gridDim.x - 1) {
        state->step = begun.step + (args.run.flags & TCK_CUDA_LAST ? 1 : 0);
        state->buffer = tck_buffer_behind(begun.buffer);
        state->dirty = (uint32_t)dirty;
        state->expected = begun.expected + gridDim.x;
        state->arrived = (uint64_t)(begun.expected + gridDim.x) << 16;
    }
}

/* Every thread of a block, behind its last use of the workspace. `start_ns` is looked at in block 0 only. */
TCK_DEVICE void tck_turn_leave(const struct tck_cuda_args &args, const struct tck_turn &begun, uint64_t start_ns)
{
    __syncthreads();
    if (threadIdx.x != 0)
        return;
    atomicAdd(&tck_state(args.link, args.link.rank)->left, 1u);
    if (blockIdx.x == 0 && !begun.dead && args.run.flags & TCK_CUDA_LAST) {
        /* Posted writes without a fence: one sector, in this order; a reader that sees half of a record sees times that do not fit. */
        uint64_t step = begun.step + 1;
        struct tck_cuda_record *record = &args.link.progress->records[step % TCK_CUDA_RECORDS];
        uint64_t what = (uint64_t)(uint32_t)args.run.run_tokens << 32 | args.run.plan_id;
        asm volatile("st.volatile.global.v2.u64 [%0], {%1, %2};" ::"l"(&record->end_ns), "l"(tck_global_ns()), "l"(what) : "memory");
        asm volatile("st.volatile.global.v2.u64 [%0], {%1, %2};" ::"l"(record), "l"(step), "l"(start_ns) : "memory");
        *(volatile uint64_t *)&args.link.progress->steps = step;
    }
}

#endif
