/*
 * What the two-shot kernels share (seed-spec 8, with pushed data in place of barriers).
 *
 * The message is cut into one shard per rank, and a launch is cut the same way: its blocks (or clusters) work on one shard each. Threads
 * that work on
 *
 *   the own shard     sum the packs that the others have sent and their own, in rank order, and send the sum to all others
 *   a peer's shard    send this rank's packs of it to its owner, some of them ahead, and wait for the sums to come back
 *
 * and then all of them make output of the sums. So no thread does everything in turn: while some are held up by the links, others go on,
 * and each has little code to run.
 *
 * What waits for what: part p of the shards concerns the blocks p * ranks to p * ranks + ranks - 1 of every rank, and none else. So it is
 * enough that one such group at a time finds room, as long as all GPUs start blocks in the order of their numbers.
 *
 * A buffer holds two stages, in each one slot per peer, in each all packs of a shard. Receivers empty a place as soon as they have read it,
 * so a launch leaves nothing behind (dirty = 0).
 *
 * Loops stay loops: longer code was slower, above all in short runs.
 */
#ifndef TCK_CUDA_TWOSHOT_CUH
#define TCK_CUDA_TWOSHOT_CUH

#include "epilogue.cuh"
#include "signal.cuh"
#include "twoshot.h"
#include "wait.cuh"

enum { TCK_TWOSHOT_AHEAD = 4 }; /* packs or rows that are pushed before the first wait */

/* NR ranks, 0: any number, with loops in place of arrays. */
template <int NR> struct tck_twoshot {
    const struct tck_cuda_args &args;
    const struct tck_cuda_operation &run;
    struct tck_turn turn;
    uint32_t slot_packs; /* of the longest shard */

    TCK_MEMBER tck_twoshot(const struct tck_cuda_args &a, uint32_t packs) : args(a), run(a.run), turn(), slot_packs(packs) {}

    TCK_MEMBER uint32_t ranks() const { return NR ? NR : args.link.nranks; }
    TCK_MEMBER uint32_t rank() const { return args.link.rank; }

    /* The shard of set `set`, 0 being this rank's: ranks begin with different ones, so that all links are busy from the start. */
    TCK_MEMBER uint32_t shard(uint32_t set) const
    {
        uint32_t of = rank() + set;
        return of >= ranks() ? of - ranks() : of;
    }

    /* Pack `at` of a shard, in the slot of `sender` of rank `to`. */
    TCK_MEMBER uint4 *place(uint32_t to, uint32_t stage, uint32_t sender, uint32_t at) const
    {
        return tck_buffer(args.link, to, turn.buffer) + ((stage * (ranks() - 1) + tck_slot(sender, to)) * slot_packs + at);
    }

    TCK_MEMBER void send(uint32_t stage, uint32_t to, uint32_t at, uint4 v) const { tck_send(place(to, stage, rank(), at), v); }

    /*
     * Waits for what rank `from` has sent, in those lanes that want it, and empties the place. After giving up, the run goes on with
     * whatever is there. All lanes of the warp.
     */
    TCK_MEMBER uint4 receive(uint32_t stage, uint32_t from, uint32_t at, bool wanted) const
    {
        uint4 *source = place(rank(), stage, from, at);
        const uint4 v = tck_receive(args.link, turn, source, from, wanted);
        if (wanted)
            tck_clear(source);
        return v;
    }

    /*
     * What all ranks have for pack `at` of this rank's shard, `own` being its own part, summed in rank order. Polls all of them at once.
     * All lanes of the warp; `wanted`: whether this one has such a pack, others come with zeros and get zeros.
     */
    template <class T> TCK_MEMBER uint4 reduce(uint32_t at, uint4 own, bool wanted) const
    {
        const bool wide = run.flags & TCK_CUDA_WIDE;
        struct tck_sum<T> total;
        if constexpr (NR != 0) {
            uint4 v[NR], *base = place(rank(), 0, 0, at);
            struct tck_patience patience = {0, 0};
            for (;;) {
                uint32_t missing = TCK_NOBODY;
#pragma unroll
                for (uint32_t i = 0; i < NR; i++) {
                    v[i] = own;
                    if (i != rank() && wanted)
                        v[i] = tck_load_volatile(base + (i - (i > rank())) * slot_packs);
                }
#pragma unroll
                for (uint32_t i = 0; i < NR; i++)
                    missing = i == rank() || !wanted || tck_has_arrived(v[i]) ? missing : i;
                if (tck_warp_has(missing == TCK_NOBODY || turn.dead))
                    break;
                if (missing != TCK_NOBODY)
                    tck_give_up(args.link, turn, &patience, missing, true);
            }
            if (wanted) {
#pragma unroll
                for (uint32_t i = 0; i < NR - 1; i++)
                    tck_clear(base + i * slot_packs);
            }
#pragma unroll
            for (int i = 0; i < NR; i++) {
                if (i == 0)
                    total.start(v[i], wide);
                else
                    total.add(v[i], wide);
            }
        } else {
            for (uint32_t i = 0; i < ranks(); i++) {
                uint4 next = own;
                if (i != rank())
                    next = receive(0, i, at, wanted);
                if (i == 0)
                    total.start(next, wide);
                else
                    total.add(next, wide);
            }
        }
        return total.result(wide);
    }

    /* The sum of pack `at` of this rank's shard, to all others. */
    TCK_MEMBER void broadcast(uint32_t at, uint4 v) const
    {
        if (turn.dead)
            return;
#pragma unroll
        for (uint32_t i = 1; i < ranks(); i++)
            send(1, shard(i), at, v);
    }

    /* What the run before has left in its buffer. */
    TCK_MEMBER void clear_dirty() const
    {
        if (!turn.dead)
            tck_turn_clear(args.link, turn, blockIdx.x * blockDim.x + threadIdx.x, gridDim.x * blockDim.x);
    }
};

/* What block (or cluster) number `number` of `count`, a multiple of the ranks, works on. */
struct tck_share {
    uint32_t set;   /* of which shard, see tck_twoshot::shard */
    uint32_t part;  /* of the shard */
    uint32_t parts; /* that it is cut into */

    TCK_MEMBER tck_share(uint32_t number, uint32_t count, uint32_t ranks) : set(number % ranks), part(number / ranks), parts(count / ranks)
    {
    }
};

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
    extern "C" __global__ void __launch_bounds__(TCK_TWOSHOT_MOST_##form(ranks), 1)                                                        \
        tck_twoshot_##type##_##form##_##suffix(const __grid_constant__ struct tck_cuda_args args)                                          \
    {                                                                                                                                      \
        tck_twoshot_##form<tck_##type, ranks>(args);                                                                                       \
        tck_signal(args);                                                                                                                  \
    }

#endif
