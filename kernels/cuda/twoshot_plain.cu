/*
 * Two-shot all-reduce without a norm: the sum, plus the bias if there is one, is the output. The message is a run of packs, whatever
 * its rows are: shards are equal to within a cache line, and so any token count is balanced.
 *
 * Grid: any, the same on all ranks. Block: a multiple of 32 up to TCK_TWOSHOT_THREADS. No shared memory. in == out is allowed: a thread
 * reads its pack of a shard before its sum can arrive.
 */
#include "twoshot.cuh"

template <class T, int NR> struct tck_plain_flow {
    enum { PEERS = tck_twoshot<NR>::PEERS };
    struct tck_twoshot<NR> &two;
    const uint32_t total, each; /* packs of the message and of a shard; the last shards may be shorter or empty */

    TCK_MEMBER tck_plain_flow(struct tck_twoshot<NR> &t)
        : two(t), total((uint32_t)t.run.tokens * t.run.row_packs), each(tck_twoshot_shard(total, t.ranks()))
    {
        const uint32_t packs = gridDim.x * blockDim.x;
        two.column = blockIdx.x * blockDim.x + threadIdx.x;
        two.begin(packs, (each + packs - 1) / packs);
    }

    /* This thread's pack of a shard in a round. */
    TCK_MEMBER bool pack_of(uint32_t shard, uint32_t round, uint32_t *pack) const
    {
        const uint32_t at = round * two.round_packs + two.column;
        *pack = shard * each + at;
        return at < each && *pack < total;
    }
    TCK_MEMBER uint4 load(uint32_t pack) const { return ((const uint4 *)two.run.in)[pack]; }
    TCK_MEMBER void store(uint32_t pack, uint4 v) const { ((uint4 *)two.run.out)[pack] = v; }

    TCK_MEMBER void begun() const {}
    TCK_MEMBER void shift() const {}

    TCK_MEMBER void scatter(uint32_t round) const
    {
        uint4 v[PEERS];
        uint32_t pack;
        if (NR) { /* all loads before the first store */
#pragma unroll
            for (int i = 0; i < PEERS; i++)
                if (pack_of(two.peer(i), round, &pack))
                    v[i] = load(pack);
        }
        if (two.turn.dead)
            return;
#pragma unroll
        for (uint32_t i = 0; i < two.ranks() - 1; i++)
            if (pack_of(two.peer(i), round, &pack))
                two.send(0, round, two.peer(i), tck_sendable(NR ? v[NR ? i : 0] : load(pack)));
    }

    TCK_MEMBER void reduce(uint32_t round)
    {
        uint32_t pack;
        if (!pack_of(two.rank(), round, &pack))
            return;
        uint4 sum = two.template sum<T>(round, load(pack));
        if (two.run.bias)
            sum = T::add(sum, ((const uint4 *)two.run.bias)[pack % two.run.row_packs]);
        sum = tck_sendable(sum);
        two.send_all(1, round, sum);
        store(pack, sum);
    }

    TCK_MEMBER void finish(uint32_t round)
    {
        uint4 v[NR ? NR : 1];
        uint32_t wanted = 0, pack;
        for (uint32_t shard = 0; !NR && shard < two.ranks(); shard++)
            if (shard != two.rank() && pack_of(shard, round, &pack))
                store(pack, two.receive_one(1, round, shard));
#pragma unroll
        for (int shard = 0; shard < NR; shard++)
            wanted |= (uint32_t)((uint32_t)shard != two.rank() && pack_of(shard, round, &pack)) << shard;
        if (NR)
            two.template receive<NR ? NR : 1>(1, round, 0, wanted, v);
#pragma unroll
        for (int shard = 0; shard < NR; shard++)
            if (wanted >> shard & 1) {
                (void)pack_of(shard, round, &pack);
                store(pack, v[shard]);
            }
    }
};

template <class T, int NR> TCK_DEVICE void tck_twoshot_plain(const struct tck_cuda_args &args)
{
    const uint64_t start = tck_global_ns();
    struct tck_twoshot<NR> two(args);
    tck_args_touch(args);
    tck_stream_order(args.run);
    struct tck_plain_flow<T, NR> flow(two);
    tck_twoshot_rounds(two, flow, start);
}

TCK_TWOSHOT_KERNELS(plain)
