/*
 * A launch's begin and end on one GPU: reading the state, moving it on, and what is posted to the host. See args.h for the protocol.
 *
 *   begin   every thread, once the stream's earlier work is visible: which buffer, what to clear, has the group failed
 *   enter   every thread, behind its first pushes: marks the block's door, and writes those of blocks that this launch lacks
 *   leave   every thread, last of all: writes the block's door; one block posts the record
 *
 * Two launches at the same time would share buffers. Then some block enters by a door that another one has not left, and the group ends
 * with EBUSY.
 *
 * Little of this costs time: loads are issued together with those of the input, stores are waited for by nobody but the next launch.
 * (A counter that all blocks of a launch share made it 0.1 us slower.)
 */
#ifndef TCK_CUDA_STATE_CUH
#define TCK_CUDA_STATE_CUH

#include "args.h"

#include <tcw/types.h>

#define TCK_NOBODY 0xffffffffu /* TCW_NOBODY */
#define TCK_DEVICE static __device__ __forceinline__
#define TCK_MEMBER __device__ __forceinline__ /* of a struct */

/* What a thread knows of its launch. */
struct tck_turn {
    uint64_t step;
    uint32_t buffer;   /* of this round */
    uint32_t dirty;    /* packs to clear in buffer + 2 */
    uint32_t launch;   /* launches before this one */
    mutable bool dead; /* the group has failed, or this thread has given up: do not send, do not wait */
};

/* What a thread has found in doors; looked at when the thread leaves. */
struct tck_entry {
    uint32_t mine;  /* thread 0: `entered` of this block's */
    uint2 others;   /* `left` and `entered` of the last absent block's that the thread wrote */
    bool collision; /* in those before it */
};

/*
 * The thread's place in its warp. Lanes that leave a loop one by one may stay apart, even behind __syncwarp(), and then do all that follows
 * one by one: a tenth of a microsecond becomes one, for every block of a cluster that waits for such a warp. So loops are those of the
 * warp, of the same length for all lanes, and polls are left by vote (tck_warp_has).
 */
TCK_DEVICE uint32_t tck_lane()
{
    return threadIdx.x % 32;
}

TCK_DEVICE uint64_t tck_global_ns()
{
    uint64_t ns;
    asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(ns));
    return ns;
}

/*
 * First of all: fetches the arguments into the constant cache, which is cold when a kernel begins, while the kernel before may still run.
 */
TCK_DEVICE void tck_args_touch(const struct tck_cuda_args &args)
{
    uint32_t all = 0;
#pragma unroll
    for (unsigned i = 0; i < sizeof(args) / 64; i++)
        all |= ((const uint32_t *)&args)[16 * i];
    if (!all) /* hardly ever, but only the loads can tell */
        asm volatile("nanosleep.u32 0;");
}

/* Waits until everything that the stream did before is visible. */
TCK_DEVICE void tck_stream_order()
{
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

/* Lets the next kernel of the stream be scheduled, if that is wanted: once a thread of every block has done so, or the block has ended. */
TCK_DEVICE void tck_stream_release(const struct tck_cuda_operation &run)
{
#if __CUDA_ARCH__ >= 900
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

TCK_DEVICE struct tck_cuda_door *tck_door(const struct tck_cuda_link &link, uint32_t block)
{
    return (struct tck_cuda_door *)((char *)link.workspaces[link.rank] + TCK_CUDA_DOORS_OFFSET) + block;
}

TCK_DEVICE struct tck_turn tck_turn_begin(const struct tck_cuda_link &link)
{
    const struct tck_cuda_door *door = tck_door(link, blockIdx.x);
    uint4 first = tck_load_volatile(door), second = tck_load_volatile(&door->step);
    uint64_t fault = *(volatile uint64_t *)&tck_state(link, link.rank)->fault;
    struct tck_turn turn;
    turn.launch = first.x;
    turn.buffer = first.z;
    turn.dirty = first.w;
    turn.step = (uint64_t)second.y << 32 | second.x;
    turn.dead = fault != 0;
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
    __threadfence_system(); /* who sees the end of the run (signal.cuh) sees this */
}

/* tcw_abort_pack */
TCK_DEVICE uint64_t tck_fault_word(int code, uint32_t rank)
{
    return (uint64_t)rank << 32 | (uint32_t)-code;
}

/* Whether another launch has come through this block's door at the same time. Once this one has entered; for those who have time to look.
 */
TCK_DEVICE bool tck_door_is_shared(const struct tck_cuda_link &link, const struct tck_turn &turn)
{
    return (int32_t)(*(volatile uint32_t *)&tck_door(link, blockIdx.x)->entered - turn.launch) > 1;
}

/* How a door is left behind. */
TCK_DEVICE void tck_door_write(const struct tck_cuda_args &args, const struct tck_turn &turn, uint32_t block, uint64_t dirty)
{
    uint4 *door = (uint4 *)tck_door(args.link, block);
    uint64_t step = turn.step + (args.run.flags & TCK_CUDA_LAST ? 1 : 0);
    door[0] = make_uint4(turn.launch + 1, turn.launch + 1, tck_buffer_behind(turn.buffer), (uint32_t)dirty);
    door[1] = make_uint4((uint32_t)step, (uint32_t)(step >> 32), 0, 0);
}

/* Every thread. The launch will leave `dirty` packs in its buffer. The answer goes to tck_turn_leave. */
TCK_DEVICE struct tck_entry tck_turn_enter(const struct tck_cuda_args &args, const struct tck_turn &turn, uint64_t dirty)
{
    struct tck_entry entry = {turn.launch, make_uint2(turn.launch, turn.launch), false};
    if (turn.dead)
        return entry;
    if (threadIdx.x == 0)
        entry.mine = atomicAdd(&tck_door(args.link, blockIdx.x)->entered, 1u);
#pragma unroll 1
    for (uint32_t of_warp = gridDim.x + blockIdx.x * blockDim.x + threadIdx.x - tck_lane(); of_warp < TCK_CUDA_MOST_BLOCKS;
         of_warp += gridDim.x * blockDim.x) {
        const uint32_t block = of_warp + tck_lane();
        if (block >= TCK_CUDA_MOST_BLOCKS)
            continue;
        entry.collision |= entry.others.x != turn.launch || entry.others.y != turn.launch;
        asm volatile("ld.volatile.global.v2.u32 {%0, %1}, [%2];"
                     : "=r"(entry.others.x), "=r"(entry.others.y)
                     : "l"(tck_door(args.link, block))
                     : "memory");
        tck_door_write(args, turn, block, dirty);
    }
    return entry;
}

/*
 * When the run began, for the block that posts its record where that is not block 0: it may start waves of blocks later, or in another
 * launch. Block 0 of the first launch says it; a block that starts at the same time may miss that, and takes its own start. All threads,
 * once they have entered.
 */
TCK_DEVICE uint64_t tck_turn_since(const struct tck_cuda_args &args, const struct tck_turn &turn, bool posts, uint64_t start_ns)
{
    uint64_t *began = &tck_state(args.link, args.link.rank)->began_step, step, ns;
    if (threadIdx.x != 0 || turn.dead)
        return start_ns;
    if (blockIdx.x == 0 && args.run.first_token == 0)
        asm volatile("st.volatile.global.v2.u64 [%0], {%1, %2};" ::"l"(began), "l"(turn.step + 1), "l"(start_ns) : "memory");
    if (!posts)
        return start_ns;
    asm volatile("ld.volatile.global.v2.u64 {%0, %1}, [%2];" : "=l"(step), "=l"(ns) : "l"(began) : "memory");
    return step == turn.step + 1 ? ns : start_ns;
}

/* Posted writes without a fence: one sector, in this order; a reader that sees half of a record sees times that do not fit. */
TCK_DEVICE void tck_record_post(const struct tck_cuda_args &args, uint64_t step, uint64_t start_ns)
{
    struct tck_cuda_record *record = &args.link.progress->records[step % TCK_CUDA_RECORDS];
    uint64_t what = (uint64_t)(uint32_t)args.run.run_tokens << 32 | args.run.plan_id;
    asm volatile("st.volatile.global.v2.u64 [%0], {%1, %2};" ::"l"(&record->end_ns), "l"(tck_global_ns()), "l"(what) : "memory");
    asm volatile("st.volatile.global.v2.u64 [%0], {%1, %2};" ::"l"(record), "l"(step), "l"(start_ns) : "memory");
    *(volatile uint64_t *)&args.link.progress->steps = step;
}

/*
 * Every thread, as soon as it waits for nothing any more; what it still has to store of its results comes better behind this. `dirty` as
 * for enter. `posts`: in one block, one that ends with the launch; `start_ns` is looked at there only.
 */
TCK_DEVICE void tck_turn_leave(const struct tck_cuda_args &args, const struct tck_turn &turn, const struct tck_entry &entry, uint64_t dirty,
                               bool posts, uint64_t start_ns)
{
    __syncthreads();
    if (turn.dead)
        return;
    if (entry.collision || entry.mine != turn.launch || entry.others.x != turn.launch || entry.others.y != turn.launch)
        tck_fail(args.link, turn.step, tck_fault_word(TCW_EBUSY, TCK_NOBODY), TCK_NOBODY);
    if (threadIdx.x != 0)
        return;
    tck_door_write(args, turn, blockIdx.x, dirty);
    if (posts && args.run.flags & TCK_CUDA_LAST) {
        tck_record_post(args, turn.step + 1, start_ns);
        tck_state(args.link, args.link.rank)->step = turn.step + 1;
    }
}

/*
 * A group of one has no workspace, so its runs are counted where they are posted. Thread 0 of block 0, once the stream's earlier work is
 * visible: those before this one, for tck_alone_leave. Nobody waits for the trip over the bus before that.
 */
TCK_DEVICE uint64_t tck_alone_steps(const struct tck_cuda_args &args)
{
    return args.link.progress ? *(volatile uint64_t *)&args.link.progress->steps : 0;
}

/* The same thread, last of all. Behind a library's sum nothing is posted: there is no page then. */
TCK_DEVICE void tck_alone_leave(const struct tck_cuda_args &args, uint64_t steps, uint64_t start_ns)
{
    if (args.link.progress && args.run.flags & TCK_CUDA_LAST)
        tck_record_post(args, steps + 1, start_ns);
}

#endif
