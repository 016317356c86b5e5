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
 * A buffer holds `ring` rounds of two stages, one slot per peer in each. Receivers empty a place as soon as they have read it, so a run
 * leaves nothing behind (dirty = 0). Reuse within a run, when there are more rounds than the ring has: who scatters round k + 1 has
 * finished k - 2, so every peer has at least scattered k - 2 to the owners, and so finished k - 5: with six rounds in the ring the place is
 * empty. There the emptying must not be overtaken, hence the fence in tck_twoshot_wrap.
 *
 * The grid and the block size must be the same on all ranks.
 */
#ifndef TCK_CUDA_TWOSHOT_CUH
#define TCK_CUDA_TWOSHOT_CUH

#include "epilogue.cuh"
#include "twoshot.h"
#include "wait.cuh"

/* NR ranks, 0: any number, with loops in place of arrays. */
template <int NR> struct tck_twoshot {
    enum { PEERS = NR ? NR - 1 : 1 };
    const struct tck_cuda_args &args;
    const struct tck_cuda_operation &run;
    struct tck_turn turn;
    uint32_t rounds, round_packs; /* packs of a shard that a round takes */
    uint32_t ring;
    uint32_t column; /* of this thread in a round */

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
        uint32_t of_ring = ring >= rounds ? round : round % ring;
        return ((stage * ring + of_ring) * (ranks() - 1) + slot) * round_packs + column;
    }

    /* A round takes `packs` of each shard, and the longest shard needs `many` rounds. */
    TCK_MEMBER void begin(uint32_t packs, uint32_t many)
    {
        turn = tck_turn_begin(args.link);
        round_packs = packs;
        ring = rounds = many;
        packs *= 2 * (ranks() - 1);
        if ((uint64_t)many * packs > args.link.buffer_packs)
            ring = (uint32_t)args.link.buffer_packs / packs;
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
        struct tck_patience patience = {};
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
            if (missing && tck_give_up(args.link, turn, &patience, first + __ffs(missing) - 1)) {
                turn.dead = true;
                break;
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
            receive<NR ? NR : 1>(0, round, 0, ((1u << NR) - 1) & ~(1u << rank()), v);
#pragma unroll
            for (int i = 0; i < NR; i++) {
                uint4 next = (uint32_t)i == rank() ? own : v[i];
                if (i == 0)
                    total.start(next, wide);
                else
                    total.add(next, wide);
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
        for (uint32_t i = blockIdx.x * blockDim.x + threadIdx.x; i < turn.dirty; i += gridDim.x * blockDim.x)
            tck_clear(old + i);
    }

    /* Before places of the ring are used again: what this thread has emptied is empty for everybody who hears from it from now on. */
    TCK_MEMBER void wrap() const
    {
        if (ring < rounds)
            __threadfence_system();
    }
};

/* The stations of all rounds; a flow has scatter, reduce and finish. Its begun() is the last thing before the first wait. */
template <int NR, class FLOW> TCK_DEVICE void tck_twoshot_rounds(struct tck_twoshot<NR> &two, FLOW &flow, uint64_t start)
{
    flow.scatter(0);
    const struct tck_entry entry = tck_turn_enter(two.args, two.turn, 0);
    if (!two.turn.dead)
        two.clear_dirty();
    flow.begun();
    for (uint32_t round = 0; round < two.rounds; round++) {
        if (round + 1 < two.rounds) {
            two.wrap();
            flow.scatter(round + 1);
        }
        flow.reduce(round);
        if (round)
            flow.finish(round - 1);
    }
    flow.finish(two.rounds - 1);
    tck_turn_leave(two.args, two.turn, entry, 0, start);
}

/* Blocks of the largest size that an SM has registers for. */
#ifndef TCK_TWOSHOT_RESIDENT
#define TCK_TWOSHOT_RESIDENT 1
#endif

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
    extern "C" __global__ void __launch_bounds__(TCK_TWOSHOT_THREADS, ranks == 8 ? 1 : TCK_TWOSHOT_RESIDENT)                               \
        tck_twoshot_##type##_##form##_##suffix(const __grid_constant__ struct tck_cuda_args args)                                          \
    {                                                                                                                                      \
        tck_twoshot_##form<tck_##type, ranks>(args);                                                                                       \
    }

#endif
