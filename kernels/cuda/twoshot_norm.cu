/*
 * Two-shot all-reduce with what follows a sum, in one launch: bias, residual, RMSNorm, quantization. Shards are whole tokens
 * (seed-spec 8.1) of any number, fewer than ranks included. Owners send the sum, once: the residual is the same on all ranks, so each of
 * them does the rest for all tokens by itself, which costs no wire and hides behind it.
 *
 * A cluster of blocks has one token of every shard per round. Grid: a multiple of the cluster, the same on all ranks. Block: a multiple of
 * 32 up to TCK_TWOSHOT_THREADS. Static shared memory only. Rows of up to cluster * block packs stay in registers; longer ones pass through
 * residual_out.
 */
#include "twoshot.cuh"

/* Rows whose sums of squares are added up together: one barrier for all of them. */
template <int NR> struct tck_batch {
    enum { ROWS = NR == 0 ? 1 : NR < 4 ? NR : 4 };
};

/* This thread's cluster and its tokens. */
struct tck_rows {
    struct tck_place place;
    uint32_t cluster, clusters;

    TCK_MEMBER uint32_t at(uint32_t round) const { return round * clusters + cluster; }
};

template <int NR>
TCK_DEVICE bool tck_row_of(const struct tck_twoshot<NR> &two, const struct tck_rows &rows, uint32_t shard, uint32_t round, uint64_t *row)
{
    const uint32_t tokens = (uint32_t)two.run.tokens, at = rows.at(round);
    *row = tck_twoshot_first(tokens, two.ranks(), shard) + at;
    return at < tck_twoshot_tokens(tokens, two.ranks(), shard);
}

/*
 * The sums of ROWS rows over all threads of a cluster, in all of them; tck_cluster_sum for several rows at once. The order within a row is
 * the same, and so is the argument for two places: see there.
 */
template <int ROWS> struct tck_rows_sum {
    enum { PARTS = TCK_MAX_CLUSTER * TCK_TWOSHOT_THREADS / 32 };
    uint64_t barrier[2];
    __align__(16) float parts[2][PARTS][ROWS];

    /* Every thread of the cluster, first of all; what it announces is waited for in `begun`, before the first sum. */
    TCK_MEMBER void begin(const struct tck_place &place)
    {
#if __CUDA_ARCH__ >= 900
        if (place.cluster == 1)
            return;
        if (threadIdx.x == 0) {
            for (int i = 0; i < 2; i++)
                asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"((uint32_t)__cvta_generic_to_shared(&barrier[i])) : "memory");
            asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
        }
        asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
#endif
    }
    TCK_MEMBER void begun(const struct tck_place &place)
    {
#if __CUDA_ARCH__ >= 900
        if (place.cluster > 1)
            asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
#endif
    }

#if __CUDA_ARCH__ >= 900
    static TCK_MEMBER void send(uint32_t at, uint32_t barrier_there, const float mine[ROWS])
    {
        if (ROWS == 4)
            asm volatile("st.async.shared::cluster.mbarrier::complete_tx::bytes.v4.b32 [%0], {%1, %2, %3, %4}, [%5];" ::"r"(at),
                         "r"(__float_as_uint(mine[0])), "r"(__float_as_uint(mine[1 % ROWS])), "r"(__float_as_uint(mine[2 % ROWS])),
                         "r"(__float_as_uint(mine[3 % ROWS])), "r"(barrier_there)
                         : "memory");
        else if (ROWS == 2)
            asm volatile("st.async.shared::cluster.mbarrier::complete_tx::bytes.v2.b32 [%0], {%1, %2}, [%3];" ::"r"(at),
                         "r"(__float_as_uint(mine[0])), "r"(__float_as_uint(mine[1 % ROWS])), "r"(barrier_there)
                         : "memory");
        else
            asm volatile("st.async.shared::cluster.mbarrier::complete_tx::bytes.b32 [%0], %1, [%2];" ::"r"(at),
                         "r"(__float_as_uint(mine[0])), "r"(barrier_there)
                         : "memory");
    }

    TCK_MEMBER void exchange(const struct tck_place &place, const float mine[ROWS], uint32_t batch, uint32_t part)
    {
        const uint32_t which = batch & 1, parity = batch >> 1 & 1, bytes = place.cluster * blockDim.x / 32 * ROWS * 4;
        const uint32_t here = (uint32_t)__cvta_generic_to_shared(&barrier[which]), lane = threadIdx.x & 31;
        if (lane < place.cluster) {
            uint32_t at = (uint32_t)__cvta_generic_to_shared(&parts[which][part][0]), at_there, barrier_there;
            asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(at_there) : "r"(at), "r"(lane));
            asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(barrier_there) : "r"(here), "r"(lane));
            send(at_there, barrier_there, mine);
        }
        if (threadIdx.x == 0)
            asm volatile("mbarrier.arrive.expect_tx.relaxed.cluster.shared::cta.b64 _, [%0], %1;" ::"r"(here), "r"(bytes) : "memory");
        asm volatile("{\n"
                     ".reg .pred done;\n"
                     "again: mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 done, [%0], %1;\n"
                     "@!done bra again;\n"
                     "}" ::"r"(here),
                     "r"(parity)
                     : "memory");
    }
#endif

    /* Every thread of the cluster, `batch` counting the calls from 0. */
    TCK_MEMBER void total(const struct tck_place &place, float mine[ROWS], uint32_t batch)
    {
        const uint32_t lane = threadIdx.x & 31, warps = blockDim.x / 32, part = place.block * warps + threadIdx.x / 32;
        __syncwarp(); /* shuffles of a warp that waits has taken apart go one by one, slowly */
#pragma unroll
        for (int i = 0; i < ROWS; i++)
            mine[i] = tck_warp_total(mine[i]);
#if __CUDA_ARCH__ >= 900
        if (place.cluster > 1)
            exchange(place, mine, batch, part);
        else
#endif
        {
#pragma unroll
            for (int i = 0; i < ROWS; i++)
                if (lane == 0)
                    parts[batch & 1][part][i] = mine[i];
            __syncthreads();
        }
        __syncwarp();
#pragma unroll
        for (int i = 0; i < ROWS; i++)
            mine[i] = 0;
#pragma unroll 1
        for (uint32_t w = lane; w < place.cluster * warps; w += 32)
#pragma unroll
            for (int i = 0; i < ROWS; i++)
                mine[i] = __fadd_rn(mine[i], parts[batch & 1][w][i]);
        __syncwarp();
#pragma unroll
        for (int i = 0; i < ROWS; i++)
            mine[i] = tck_warp_total(mine[i]);
    }
};

/* u, from the sum of all ranks. */
template <class T> TCK_DEVICE uint4 tck_row_u(const struct tck_cuda_operation &run, uint32_t pack, uint4 sum, uint4 residual)
{
    if (run.bias)
        sum = T::add(sum, ((const uint4 *)run.bias)[pack]);
    return T::add(sum, residual);
}

/* Rows in registers: one pack per thread and row. */
template <class T, int NR> struct tck_short_rows {
    enum { ROWS = tck_batch<NR>::ROWS, PEERS = tck_twoshot<NR>::PEERS };
    struct tck_twoshot<NR> &two;
    const struct tck_rows &rows;
    tck_rows_sum<ROWS> &sums;
    uint32_t batch;
    uint32_t pack;
    uint4 gamma;
    float factor;
    uint4 own, own_before; /* this rank's sums of the last round that was reduced and of the one before */

    TCK_MEMBER tck_short_rows(struct tck_twoshot<NR> &t, const struct tck_rows &r, tck_rows_sum<ROWS> &s)
        : two(t), rows(r), sums(s), batch(0), pack(tck_place_pack(r.place, t.run, 0)), own(make_uint4(0, 0, 0, 0))
    {
        two.column = rows.cluster * two.run.row_packs + (mine() ? pack : 0);
        gamma = tck_load_gamma<T>(two.run, pack);
        factor = tck_quant_factor(two.run);
    }

    TCK_MEMBER bool mine() const { return pack < two.run.row_packs; }
    TCK_MEMBER uint4 load(const void *base, uint64_t row) const { return ((const uint4 *)base)[row * two.run.row_packs + pack]; }

    TCK_MEMBER void begun() const { sums.begun(rows.place); }
    TCK_MEMBER void shift() { own_before = own; }

    TCK_MEMBER void scatter(uint32_t round) const
    {
        uint4 v[PEERS];
        uint64_t row;
        if (NR) { /* all loads before the first store */
#pragma unroll
            for (int i = 0; i < PEERS; i++)
                if (tck_row_of(two, rows, two.peer(i), round, &row) && mine())
                    v[i] = load(two.run.in, row);
        }
        if (two.turn.dead)
            return;
#pragma unroll
        for (uint32_t i = 0; i < two.ranks() - 1; i++)
            if (tck_row_of(two, rows, two.peer(i), round, &row) && mine())
                two.send(0, round, two.peer(i), tck_sendable(NR ? v[NR ? i : 0] : load(two.run.in, row)));
    }

    TCK_MEMBER void reduce(uint32_t round)
    {
        uint64_t row;
        if (!tck_row_of(two, rows, two.rank(), round, &row) || !mine())
            return;
        own = tck_sendable(two.template sum<T>(round, load(two.run.in, row)));
        two.send_all(1, round, own);
    }

    /*
     * Rows of the shards [first, first + ROWS), whose sums are in v. The loops stay loops: what they walk through is turned by one instead,
     * so that it needs no index and stays in registers.
     */
    template <class V> static TCK_MEMBER void turn_by_one(V list[ROWS], V last)
    {
#pragma unroll
        for (int i = 0; i + 1 < ROWS; i++)
            list[i] = list[i + 1];
        list[ROWS - 1] = last;
    }

    TCK_MEMBER void finish_batch(uint32_t round, uint32_t first, uint4 v[ROWS], uint4 residual[ROWS])
    {
        float squares[ROWS] = {};
        uint64_t row;
#pragma unroll 1
        for (uint32_t i = 0; i < ROWS; i++) {
            uint4 u = v[0];
            float square = 0;
            if (tck_row_of(two, rows, first + i, round, &row) && mine()) {
                u = tck_row_u<T>(two.run, pack, u, residual[0]);
                ((uint4 *)two.run.residual_out)[row * two.run.row_packs + pack] = u;
                square = tck_pack_squares<T>(two.run, u);
            }
            turn_by_one(v, u);
            turn_by_one(residual, residual[0]);
            turn_by_one(squares, square);
        }
        sums.total(rows.place, squares, batch++);
#pragma unroll 1
        for (uint32_t i = 0; i < ROWS; i++) {
            if (tck_row_of(two, rows, first + i, round, &row)) /* the same for all threads of the block */
                tck_pack_finish<T>(two.run, row, pack, v[0], gamma, tck_row_inverse(rows.place, two.run, squares[0]), factor);
            turn_by_one(v, v[0]);
            turn_by_one(squares, squares[0]);
        }
    }

    TCK_MEMBER void finish(uint32_t round)
    {
#pragma unroll 1
        for (uint32_t first = 0; first < two.ranks(); first += ROWS) {
            uint4 v[ROWS], residual[ROWS];
            uint32_t wanted = 0;
            uint64_t row;
#pragma unroll
            for (uint32_t i = 0; i < ROWS; i++) {
                v[i] = own_before; /* where nothing is received */
                residual[i] = make_uint4(0, 0, 0, 0);
                if (tck_row_of(two, rows, first + i, round, &row) && mine()) {
                    residual[i] = load(two.run.residual_in, row);
                    wanted |= (uint32_t)(first + i != two.rank()) << i;
                }
            }
            two.template receive<ROWS>(1, round, first, wanted, v);
            finish_batch(round, first, v, residual);
        }
    }
};

/* Rows that are longer than a cluster has threads, one at a time; what is known of them lies in residual_out meanwhile. */
template <class T, int NR> struct tck_long_rows {
    struct tck_twoshot<NR> &two;
    const struct tck_rows &rows;
    tck_rows_sum<1> &sums;
    uint32_t batch;
    float factor;

    TCK_MEMBER tck_long_rows(struct tck_twoshot<NR> &t, const struct tck_rows &r, tck_rows_sum<1> &s)
        : two(t), rows(r), sums(s), batch(0), factor(tck_quant_factor(t.run))
    {
    }

    /* This thread's pack of its row at `step`; false behind the last. */
    TCK_MEMBER bool take(uint32_t step, uint32_t *pack)
    {
        *pack = tck_place_pack(rows.place, two.run, step);
        two.column = rows.cluster * two.run.row_packs + *pack;
        return *pack < two.run.row_packs;
    }
    TCK_MEMBER uint64_t at(uint64_t row, uint32_t pack) const { return row * two.run.row_packs + pack; }

    TCK_MEMBER void begun() const { sums.begun(rows.place); }
    TCK_MEMBER void shift() const {}

    TCK_MEMBER void scatter(uint32_t round)
    {
        uint64_t row;
        uint32_t pack;
        for (uint32_t i = 0; i < two.ranks() - 1 && !two.turn.dead; i++)
            if (tck_row_of(two, rows, two.peer(i), round, &row))
                for (uint32_t step = 0; step < rows.place.steps; step++)
                    if (take(step, &pack))
                        two.send(0, round, two.peer(i), tck_sendable(((const uint4 *)two.run.in)[at(row, pack)]));
    }

    TCK_MEMBER void reduce(uint32_t round)
    {
        uint64_t row;
        uint32_t pack;
        if (!tck_row_of(two, rows, two.rank(), round, &row))
            return;
        for (uint32_t step = 0; step < rows.place.steps; step++)
            if (take(step, &pack)) {
                uint4 sum = tck_sendable(two.template sum<T>(round, ((const uint4 *)two.run.in)[at(row, pack)]));
                two.send_all(1, round, sum);
                ((uint4 *)two.run.residual_out)[at(row, pack)] = sum;
            }
    }

    TCK_MEMBER void finish_row(uint32_t round, uint32_t shard, uint64_t row)
    {
        uint4 *u = (uint4 *)two.run.residual_out;
        float squares[1] = {0};
        uint32_t pack;
        for (uint32_t step = 0; step < rows.place.steps; step++)
            if (take(step, &pack)) {
                uint4 sum = shard == two.rank() ? u[at(row, pack)] : two.receive_one(1, round, shard);
                sum = tck_row_u<T>(two.run, pack, sum, ((const uint4 *)two.run.residual_in)[at(row, pack)]);
                u[at(row, pack)] = sum;
                squares[0] = __fadd_rn(squares[0], tck_pack_squares<T>(two.run, sum));
            }
        sums.total(rows.place, squares, batch++);
        const float inverse = tck_row_inverse(rows.place, two.run, squares[0]);
        for (uint32_t step = 0; step < rows.place.steps; step++) {
            bool has = take(step, &pack);
            tck_pack_finish<T>(two.run, row, pack, has ? u[at(row, pack)] : make_uint4(0, 0, 0, 0), tck_load_gamma<T>(two.run, pack),
                               inverse, factor);
        }
    }

    TCK_MEMBER void finish(uint32_t round)
    {
        uint64_t row;
        for (uint32_t shard = 0; shard < two.ranks(); shard++)
            if (tck_row_of(two, rows, shard, round, &row)) /* the same for all threads of the cluster */
                finish_row(round, shard, row);
    }
};

template <int NR> TCK_DEVICE void tck_rows_begin(struct tck_twoshot<NR> &two, struct tck_rows &rows)
{
    const uint32_t longest = tck_twoshot_tokens((uint32_t)two.run.tokens, two.ranks(), 0);
    rows.cluster = blockIdx.x / rows.place.cluster;
    rows.clusters = gridDim.x / rows.place.cluster;
    tck_stream_order(two.run);
    two.begin(rows.clusters * two.run.row_packs, (longest + rows.clusters - 1) / rows.clusters);
}

/* Out of line: see twoshot.cuh. */
template <class T, int NR> static __device__ __noinline__ void tck_twoshot_long(const struct tck_cuda_args &args, uint64_t start)
{
    __shared__ tck_rows_sum<1> sums;
    struct tck_twoshot<NR> two(args);
    struct tck_rows rows;
    rows.place = tck_place_find(args.run);
    sums.begin(rows.place);
    tck_rows_begin(two, rows);
    struct tck_long_rows<T, NR> flow(two, rows, sums);
    tck_twoshot_rounds(two, flow, start);
}

template <class T, int NR> TCK_DEVICE void tck_twoshot_norm(const struct tck_cuda_args &args)
{
    __shared__ tck_rows_sum<tck_batch<NR>::ROWS> sums;
    const uint64_t start = tck_global_ns();
    struct tck_twoshot<NR> two(args);
    struct tck_rows rows;
    tck_args_touch(args);
    rows.place = tck_place_find(args.run);
    if (rows.place.steps > 1) {
        tck_twoshot_long<T, NR>(args, start);
        return;
    }
    sums.begin(rows.place);
    tck_rows_begin(two, rows);
    struct tck_short_rows<T, NR> flow(two, rows, sums);
    tck_twoshot_rounds(two, flow, start);
}

TCK_TWOSHOT_KERNELS(norm)
