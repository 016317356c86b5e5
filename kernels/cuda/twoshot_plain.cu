/*
 * Two-shot all-reduce without a norm: the sum, plus the bias if there is one, is the output. The message is a run of packs, whatever
 * its rows are: shards are equal to within a cache line, and so any token count is balanced.
 *
 * Grid: a multiple of the ranks; best one that leaves a thread one pack, so that the blocks of a long message come one after the other
 * and never wait or send all together. Block: a multiple of 32 up to TCK_TWOSHOT_MOST_plain. No shared memory. in == out is allowed: a
 * thread reads its packs before it can write them.
 */
#include "twoshot.cuh"

/* A thread's work on one pack of its shard after the other. */
template <class T, int NR> struct tck_plain_flow {
    struct tck_twoshot<NR> two;
    const struct tck_share share;
    const uint32_t shard, first, end; /* its first pack in the message, and its number of packs: the last shards may be short or empty */
    const uint32_t own, stride;
    uint32_t sent; /* the pack that is pushed next, from `end` on none, */
    uint4 next;    /* and what it is */

    TCK_MEMBER tck_plain_flow(const struct tck_cuda_args &args, uint32_t packs, uint32_t ranks)
        : two(args, tck_twoshot_shard(packs, ranks)), share(blockIdx.x, gridDim.x, ranks), shard(two.shard(share.set)),
          first(shard * two.slot_packs), end(first < packs ? min(packs - first, two.slot_packs) : 0),
          own(share.part * blockDim.x + threadIdx.x), stride(share.parts * blockDim.x), sent(share.set ? own : end)
    {
    }

    TCK_MEMBER uint4 input(uint32_t at) const { return ((const uint4 *)two.run.in)[first + at]; }
    TCK_MEMBER void load_next()
    {
        if (sent < end)
            next = input(sent);
    }
    /* The next pack, if there is one. */
    TCK_MEMBER void push()
    {
        if (sent >= end)
            return;
        two.send(0, shard, sent, tck_sendable(next));
        sent += stride;
        load_next();
    }

    /* Pack `at` of this rank's shard, to all others too. All lanes of the warp; `wanted`: whether this one has such a pack. */
    TCK_MEMBER uint4 make(uint32_t at, bool wanted) const
    {
        uint4 sum = make_uint4(0, 0, 0, 0);
        if (wanted)
            sum = input(at);
        sum = two.template reduce<T>(at, sum, wanted);
        if (!wanted)
            return sum;
        if (two.run.bias)
            sum = T::add(sum, ((const uint4 *)two.run.bias)[(first + at) % two.run.row_packs]);
        sum = tck_sendable(sum);
        two.broadcast(at, sum);
        return sum;
    }

    TCK_MEMBER void all(uint64_t start)
    {
        const bool posts = tck_twoshot_posts(shard, share.part, share.parts, 0);
        load_next(); /* at the same time as the state */
        two.turn = tck_turn_begin(two.args.link);
        if (two.turn.dead)
            sent = end;
            /* the lanes', not the warp's as tck_lane has it: that was 0.05 to 0.1 us slower up to 512 KB */
#pragma unroll 1
        for (int i = 0; i < TCK_TWOSHOT_AHEAD && sent < end; i++)
            push();
        const struct tck_entry entry = tck_turn_enter(two.args, two.turn, 0);
        start = tck_turn_since(two.args, two.turn, posts, start);
        two.clear_dirty();
#pragma unroll 1
        for (uint32_t of_warp = own - tck_lane(); of_warp < end; of_warp += stride) {
            const uint32_t at = of_warp + tck_lane();
            const bool wanted = at < end;
            push();
            const uint4 v = share.set ? two.receive(1, shard, at, wanted) : make(at, wanted);
            if (wanted)
                ((uint4 *)two.run.out)[first + at] = v;
        }
        tck_turn_leave(two.args, two.turn, entry, 0, posts, start);
    }
};

template <class T, int NR> TCK_DEVICE void tck_twoshot_plain(const struct tck_cuda_args &args)
{
    const uint64_t start = tck_global_ns();
    struct tck_plain_flow<T, NR> flow(args, (uint32_t)args.run.tokens * args.run.row_packs, NR ? NR : args.link.nranks);
    tck_args_touch(args);
    tck_stream_order();
    tck_stream_release(args.run);
    flow.all(start);
}

TCK_TWOSHOT_KERNELS(plain)
