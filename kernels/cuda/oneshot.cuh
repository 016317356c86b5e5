/*
 * One-shot all-reduce (seed-spec 7): every rank pushes its whole message to all others, waits for theirs in its own buffer, and finishes
 * every element itself.
 *
 * In a buffer of rank r, rank s has slot tck_slot(s, r): nranks - 1 slots of the message's packs; the own message does not travel.
 *
 * A thread is at most one piece (plain: pack; norm: its packs of a row) ahead of its waits. That fills the links, and keeps what waits for
 * them short: stores to peers that have to queue hold up the multiprocessor's other accesses too, and with everything pushed at once the
 * work behind the waits came after the transfer instead of during it.
 *
 * N is the number of ranks; 0 any, in chunks of four; 1 alone, no exchange and no state (also the epilogue behind a library's sum).
 */
#ifndef TCK_CUDA_ONESHOT_CUH
#define TCK_CUDA_ONESHOT_CUH

#include "pack.cuh"
#include "wait.cuh"

/* Packs of the message: of a slot. */
TCK_DEVICE uint32_t tck_message_packs(const struct tck_cuda_operation &run)
{
    return (uint32_t)run.tokens * run.row_packs;
}

/* Sends this rank's pack `at` to everybody else, the next rank first. */
template <int N> TCK_DEVICE void tck_push(const struct tck_cuda_args &args, uint32_t buffer, uint32_t at, uint4 v)
{
    const uint32_t n = N ? N : args.link.nranks, rank = args.link.rank, packs = tck_message_packs(args.run);
    v = tck_sendable(v);
#pragma unroll(N ? N : 1)
    for (uint32_t i = 1; i < n; i++) {
        uint32_t to = rank + i < n ? rank + i : rank + i - n;
        tck_send(tck_buffer(args.link, to, buffer) + ((uint64_t)tck_slot(rank, to) * packs + at), v);
    }
}

/*
 * The sum of everybody's pack `at`, `mine` being this rank's; waits for it. All lanes of the warp; `wanted`: whether this one has such a
 * pack, others come with zeros and get zeros.
 */
template <class T, int N>
TCK_DEVICE uint4 tck_collect(const struct tck_cuda_args &args, const struct tck_turn &turn, uint32_t at, uint4 mine, bool wanted)
{
    enum { CHUNK = N ? N : 4 };
    const uint32_t n = N ? N : args.link.nranks, rank = args.link.rank, packs = tck_message_packs(args.run);
    const bool wide = args.run.flags & TCK_CUDA_WIDE;
    const uint4 *slots = tck_buffer(args.link, rank, turn.buffer) + at;
    struct tck_patience patience = {0, 0};
    struct tck_sum<T> sum;
    mine = tck_sendable(mine);
#pragma unroll 1
    for (uint32_t first = 0; first < n; first += CHUNK) {
        uint4 v[CHUNK];
        for (;;) {
            uint32_t missing = TCK_NOBODY;
#pragma unroll
            for (uint32_t i = 0; i < CHUNK; i++) {
                uint32_t from = first + i;
                v[i] = mine;
                if (wanted && from != rank && (N || from < n))
                    v[i] = tck_load_volatile(slots + (uint64_t)tck_slot(from, rank) * packs);
            }
#pragma unroll
            for (uint32_t i = 0; i < CHUNK; i++)
                missing = tck_has_arrived(v[i]) ? missing : first + i;
            if (tck_warp_has(missing == TCK_NOBODY || turn.dead))
                break;
            if (missing != TCK_NOBODY)
                tck_give_up(args.link, turn, &patience, missing, N != 2);
        }
#pragma unroll
        for (uint32_t i = 0; i < CHUNK; i++) {
            if (i == 0 && first == 0)
                sum.start(v[0], wide);
            else if (N || first + i < n)
                sum.add(v[i], wide);
        }
    }
    return sum.result(wide);
}

/* What the launch leaves behind in its buffer. */
TCK_DEVICE uint64_t tck_dirty_behind(const struct tck_cuda_args &args)
{
    return (uint64_t)(args.link.nranks - 1) * tck_message_packs(args.run);
}

#endif
