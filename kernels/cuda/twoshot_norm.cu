/*
 * Two-shot all-reduce with what follows a sum, in one launch: bias, residual, RMSNorm, quantization. Shards are whole tokens
 * (seed-spec 8.1) of any number, fewer than ranks included. Owners send the sum, once: the residual is the same on all ranks, so each of
 * them does the rest for all tokens by itself, which costs no wire and hides behind it.
 *
 * A cluster of blocks takes a token at a time. Grid: a multiple of ranks * cluster; cluster and block are the same on all ranks, since they
 * decide the order of a row's sum of squares. Block: a multiple of 32 up to TCK_TWOSHOT_MOST_norm. Static shared memory only. Rows of up to
 * cluster * block packs stay in registers; longer ones pass through residual_out.
 */
#include "twoshot.cuh"

/* A thread's work on one row of its shard after the other. */
template <class T, int NR> struct tck_rows_flow {
    struct tck_twoshot<NR> two;
    const struct tck_place place;
    const struct tck_share share;
    struct tck_cluster_sum &sums;
    const uint32_t shard, begin, end; /* its first row in the message, and its number of rows */
    uint32_t round;                   /* rows so far */
    uint32_t sent;                    /* the row that is pushed next, from `end` on none */
    const uint32_t ahead;             /* rows that are pushed before the first wait: with many to go, more of them would only delay sums */
    /* where the thread has one pack of each row: */
    uint4 next; /* that of row `sent` */
    uint4 gamma;
    float factor;

    TCK_MEMBER tck_rows_flow(const struct tck_cuda_args &args, const struct tck_place &p, struct tck_cluster_sum &s, uint32_t ranks)
        : two(args, tck_twoshot_tokens((uint32_t)args.run.tokens, ranks, 0) * args.run.row_packs), place(p),
          share(blockIdx.x / p.cluster, gridDim.x / p.cluster, ranks), sums(s), shard(two.shard(share.set)),
          begin(tck_twoshot_first((uint32_t)args.run.tokens, ranks, shard)),
          end(tck_twoshot_tokens((uint32_t)args.run.tokens, ranks, shard)), round(0), sent(share.set ? share.part : end),
          ahead(end > TCK_TWOSHOT_AHEAD * share.parts ? 1 : TCK_TWOSHOT_AHEAD)
    {
    }

    TCK_MEMBER uint32_t pack_of(uint32_t step) const { return tck_place_pack(place, two.run, step); }
    TCK_MEMBER bool has(uint32_t at, uint32_t pack) const { return at < end && pack < two.run.row_packs; }
    TCK_MEMBER uint4 input(uint32_t at, uint32_t pack) const
    {
        return ((const uint4 *)two.run.in)[(begin + at) * two.run.row_packs + pack];
    }

    TCK_MEMBER void load_next()
    {
        if (has(sent, pack_of(0)))
            next = input(sent, pack_of(0));
    }
    TCK_MEMBER void push_pack(uint32_t pack, uint4 v) const
    {
        if (has(sent, pack))
            two.send(0, shard, sent * two.run.row_packs + pack, tck_sendable(v));
    }
    /* The next row, if there is one. */
    TCK_MEMBER void push()
    {
        if (sent >= end)
            return;
        if (place.steps == 1) {
            push_pack(pack_of(0), next);
        } else {
#pragma unroll 1
            for (uint32_t step = 0; step < place.steps; step++)
                if (has(sent, pack_of(step)))
                    push_pack(pack_of(step), input(sent, pack_of(step)));
        }
        sent += share.parts;
        load_next();
    }

    /* Row `at` of the shard, from its sum on. */
    TCK_MEMBER void finish(uint32_t at)
    {
        const struct tck_cuda_operation &run = two.run;
        const bool own = shard == two.rank();
        const uint32_t row_packs = run.row_packs, in_message = (begin + at) * row_packs;
        uint4 u = make_uint4(0, 0, 0, 0);
        float squares = 0;
#pragma unroll 1
        for (uint32_t step = 0; step < place.steps; step++) {
            const uint32_t pack = pack_of(step), in_shard = at * row_packs + pack;
            const bool mine = pack < row_packs;
            uint4 residual = make_uint4(0, 0, 0, 0), in = residual;
            if (mine)
                residual = ((const uint4 *)run.residual_in)[in_message + pack];
            if (mine && own)
                in = ((const uint4 *)run.in)[in_message + pack];
            u = own ? tck_sendable(two.template reduce<T>(in_shard, in, mine)) : two.receive(1, shard, in_shard, mine);
            if (!mine)
                continue;
            if (own)
                two.broadcast(in_shard, u);
            if (run.bias)
                u = T::add(u, ((const uint4 *)run.bias)[pack]);
            u = T::add(u, residual);
            ((uint4 *)run.residual_out)[in_message + pack] = u;
            squares = __fadd_rn(squares, tck_pack_squares<T>(run, u));
        }
        const float k = tck_row_inverse(place, run, tck_row_total(place, squares, &sums, round++));
#pragma unroll 1
        for (uint32_t step = 0; step < place.steps; step++) {
            const uint32_t pack = pack_of(step);
            if (place.steps > 1) {
                gamma = tck_load_gamma<T>(run, pack);
                if (pack < row_packs)
                    u = ((const uint4 *)run.residual_out)[in_message + pack];
            }
            tck_pack_finish<T>(run, begin + at, pack, u, gamma, k, factor);
        }
    }

    TCK_MEMBER void all(uint64_t start)
    {
        const bool posts = tck_twoshot_posts(shard, share.part, share.parts, end) && place.block == 0;
        load_next(); /* at the same time as the state */
        two.turn = tck_turn_begin(two.args.link);
        if (two.turn.dead)
            sent = end;
#pragma unroll 1
        for (uint32_t i = 0; i < ahead && sent < end; i++)
            push();
        const struct tck_entry entry = tck_turn_enter(two.args, two.turn, 0);
        start = tck_turn_since(two.args, two.turn, posts, start);
        two.clear_dirty();
        gamma = tck_load_gamma<T>(two.run, pack_of(0));
        factor = tck_quant_factor(two.run);
#pragma unroll 1
        for (uint32_t at = share.part; at < end; at += share.parts) {
            push();
            finish(at);
        }
        tck_turn_leave(two.args, two.turn, entry, 0, posts, start);
    }
};

template <class T, int NR> TCK_DEVICE void tck_twoshot_norm(const struct tck_cuda_args &args)
{
    __shared__ struct tck_cluster_sum sums;
    const uint64_t start = tck_global_ns();
    const struct tck_place place = tck_place_find(args.run);
    struct tck_rows_flow<T, NR> flow(args, place, sums, NR ? NR : args.link.nranks);
    tck_args_touch(args);
    tck_cluster_begin(place, &sums);
    tck_stream_order();
    tck_stream_release(args.run);
    flow.all(start);
}

TCK_TWOSHOT_KERNELS(norm)
