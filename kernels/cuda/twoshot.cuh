/*
 * What the two-shot kernels share (seed-spec 8, with pushed data in place of barriers).
 *
 * The message is cut into one shard per rank, a shard into rounds. In a round every thread has one place ("column") in each shard, the same
 * on all ranks, and passes three stations:
 *
 *   scatter  its pack of every other shard goes to the owner of that shard
 *   reduce   the packs that the others have scattered to it and its own are summed, in rank order; the sum goes to all others
 *   finish   the sums that the others have sent, and its own, become output
 *
 * Rounds overlap: scatter(k + 1), reduce(k), finish(k - 1), so that the links always have something to carry. A thread waits for the same
 * thread of other ranks only, so blocks may come and go in any number, as long as all GPUs start them in the same order.
 *
 * A buffer holds two stages, all rounds in each, one slot per peer and round. Receivers empty a place as soon as they have read it, so a
 * launch leaves nothing behind (dirty = 0).
 *
 * The grid and the block size must be the same on all ranks. What runs seldom is kept out of line, and loops stay loops: a kernel begins
 * with cold instruction caches, so that code costs time by its length.
 */
#ifndef TCK_CUDA_TWOSHOT_CUH
#define TCK_CUDA_TWOSHOT_CUH

#include "epilogue.cuh"
#include "twoshot.h"
#include "wait.cuh"

/* tck_give_up, every TCK_POLLS_PER_LOOK polls; out of line. Answers since when the thread waits, 0 to give up. */
static __device__ __noinline__ uint64_t tck_twoshot_look(const struct tck_cuda_link &link, uint64_t step, uint32_t launch, uint64_t since,
                                                         uint32_t missing)
{
    struct tck_turn turn = {};
    turn.step = step;
    turn.launch = launch;
    if (tck_door_is_shared(link, turn))
        tck_fail(link, step, tck_fault_word(TCW_EBUSY, TCK_NOBODY), TCK_NOBODY);
    return tck_patience_look(link, step, since, missing);
}

/* NR ranks, 0: any number, with loops in place of arrays. */
template <int NR> struct tck_twoshot {
    enum { PEERS = NR ? NR - 1 : 1 };
    const struct tck_cuda_args &args;
    const struct tck_cuda_operation &run;
    struct tck_turn turn;
    uint32_t rounds, round_packs; /* packs of a shard that a round takes */
    uint32_t column;              /* of this thread in a round */

    TCK_MEMBER tck_twoshot(const struct tck_cuda_args &a) : args(a), run(a.run) {}

    TCK_MEMBER uint32_t ranks() const { return NR ? NR : args.link.nranks; }
    TCK_MEMBER uint32_t rank() const { return args.link.rank; }

    /* The i-th peer in the order of sending: ranks begin with different ones, so that all links are busy from the start. */
    TCK_MEMBER uint32_t peer(uint32_t i) const
    {
        uint32_t to = rank() + 1 + i;
        return to >= ranks() ? to - ranks() : to;
    }

    TCK_MEMBER uint32_t place(uint32_t stage, uint32_t round, uint32_t slot) const
    {
        return ((stage * rounds + round) * (ranks() - 1) + slot) * round_packs + column;
    }

    /* A round takes `packs` of each shard, and the longest shard needs `many` rounds. */
    TCK_MEMBER void begin(uint32_t packs, uint32_t many)
    {
        turn = tck_turn_begin(args.link);
        round_packs = packs;
        rounds = many;
    }

    TCK_MEMBER void send(uint32_t stage, uint32_t round, uint32_t to, uint4 v) const
    {
        tck_send(tck_buffer(args.link, to, turn.buffer) + place(stage, round, tck_slot(rank(), to)), v);
    }

    /* To all others. */
    TCK_MEMBER void send_all(uint32_t stage, uint32_t round, uint4 v) const
    {
        if (turn.dead)
            return;
#pragma unroll
        for (uint32_t i = 0; i < ranks() - 1; i++)
            send(stage, round, peer(i), v);
    }

    /*
     * Waits for what the ranks first + i, i < COUNT, have sent, as far as `wanted` has bit i, and empties the places. Polls all that are
     * missing at once: what has come in the meantime costs no further trip. After giving up, the run goes on with whatever is there.
     */
    template <int COUNT> TCK_MEMBER void receive(uint32_t stage, uint32_t round, uint32_t first, uint32_t wanted, uint4 v[COUNT])
    {
        uint4 *base = tck_buffer(args.link, rank(), turn.buffer) + place(stage, round, 0);
        uint64_t since = 0;
        uint32_t polls = 0;
        uint32_t missing = turn.dead ? 0 : wanted;
        while (missing) {
            const uint32_t asked = missing;
#pragma unroll
            for (uint32_t i = 0; i < COUNT; i++)
                if (asked >> i & 1)
                    v[i] = tck_load_volatile(base + tck_slot(first + i, rank()) * round_packs);
#pragma unroll
            for (uint32_t i = 0; i < COUNT; i++)
                if (asked >> i & 1 && tck_has_arrived(v[i]))
                    missing &= ~(1u << i);
            if (missing && (++polls & (TCK_POLLS_PER_LOOK - 1)) == 0) {
                since = tck_twoshot_look(args.link, turn.step, turn.launch, since, first + __ffs(missing) - 1);
                if (!since) {
                    turn.dead = true;
                    break;
                }
            }
        }
#pragma unroll
        for (uint32_t i = 0; i < COUNT; i++)
            if (wanted >> i & 1)
                tck_clear(base + tck_slot(first + i, rank()) * round_packs);
    }

    TCK_MEMBER uint4 receive_one(uint32_t stage, uint32_t round, uint32_t from)
    {
        uint4 v[1] = {make_uint4(0, 0, 0, 0)};
        receive<1>(stage, round, from, 1, v);
        return v[0];
    }

    /* What all ranks have for this thread's place of this rank's shard, `own` being its own part, summed in rank order. */
    template <class T> TCK_MEMBER uint4 sum(uint32_t round, uint4 own)
    {
        const bool wide = run.flags & TCK_CUDA_WIDE;
        struct tck_sum<T> total;
        if (NR) {
            uint4 v[NR ? NR : 1];
#pragma unroll
            for (int i = 0; i < NR; i++)
                v[i] = own;
            receive<NR ? NR : 1>(0, round, 0, ((1u << NR) - 1) & ~(1u << rank()), v);
#pragma unroll
            for (int i = 0; i < NR; i++) {
                if (i == 0)
                    total.start(v[i], wide);
                else
                    total.add(v[i], wide);
            }
        } else {
            for (uint32_t i = 0; i < ranks(); i++) {
                uint4 next = i == rank() ? own : receive_one(0, round, i);
                if (i == 0)
                    total.start(next, wide);
                else
                    total.add(next, wide);
            }
        }
        return total.result(wide);
    }

    /* What the run before has left in its buffer. */
    TCK_MEMBER void clear_dirty() const
    {
        uint4 *old = tck_buffer(args.link, rank(), tck_buffer_before(turn.buffer));
#pragma unroll 1
        for (uint32_t i = blockIdx.x * blockDim.x + threadIdx.x; i < turn.dirty; i += gridDim.x * blockDim.x)
            tck_clear(old + i);
    }
};

/*
 * The stations of all rounds; a flow has scatter, reduce, finish, and shift, which makes what reduce has kept that of the round before. Its
 * begun() is the last thing before the first wait.
 */
template <int NR, class FLOW> TCK_DEVICE void tck_twoshot_rounds(struct tck_twoshot<NR> &two, FLOW &flow, uint64_t start)
{
    struct tck_entry entry = {};
#pragma unroll 1
    for (uint32_t step = 0; step < two.rounds + 2; step++) {
        if (step < two.rounds)
            flow.scatter(step);
        if (step == 0) {
            entry = tck_turn_enter(two.args, two.turn, 0);
            if (!two.turn.dead)
                two.clear_dirty();
            flow.begun();
            continue;
        }
        flow.shift();
        if (step <= two.rounds)
            flow.reduce(step - 1);
        if (step > 1)
            flow.finish(step - 2);
    }
    tck_turn_leave(two.args, two.turn, entry, 0, start);
}

#define TCK_TWOSHOT_KERNELS(form)                                                                                                          \
    TCK_TWOSHOT_TYPE(form, fp32)                                                                                                           \
    TCK_TWOSHOT_TYPE(form, fp16)                                                                                                           \
    TCK_TWOSHOT_TYPE(form, bf16)
#define TCK_TWOSHOT_TYPE(form, type)                                                                                                       \
    TCK_TWOSHOT_KERNEL(form, type, 2, 2)                                                                                                   \
    TCK_TWOSHOT_KERNEL(form, type, 4, 4)                                                                                                   \
    TCK_TWOSHOT_KERNEL(form, type, 8, 8)                                                                                                   \
    TCK_TWOSHOT_KERNEL(form, type, n, 0)
#define TCK_TWOSHOT_KERNEL(form, type, suffix, ranks)                                                                                      \
    extern "C" __global__ void __launch_bounds__(TCK_TWOSHOT_THREADS, 1)                                                                   \
        tck_twoshot_##type##_##form##_##suffix(const __grid_constant__ struct tck_cuda_args args)                                          \
    {                                                                                                                                      \
        tck_twoshot_##form<tck_##type, ranks>(args);                                                                                       \
    }

#endif
