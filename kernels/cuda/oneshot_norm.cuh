/*
 * One-shot with what follows a sum: bias, residual, RMSNorm, quantization. A cluster takes a row at a time, clusters take rows with the
 * stride of the grid. Rows of up to cluster * block packs stay in registers; longer ones pass through residual_out.
 */
#ifndef TCK_CUDA_ONESHOT_NORM_CUH
#define TCK_CUDA_ONESHOT_NORM_CUH

#include "epilogue.cuh"
#include "oneshot.cuh"

/* What a thread needs of its own rank for one pack. */
struct tck_operands {
    uint4 mine, residual;
};

/* A thread's work on one row after the other. A row is short where the thread has one pack of it at most. */
template <class T, int N> struct tck_oneshot_rows {
    const struct tck_cuda_args &args;
    const struct tck_cuda_operation &run;
    const struct tck_place place;
    struct tck_cluster_sum &sums;
    const uint32_t stride, rows; /* from a row to the thread's next one, and how many there are */
    struct tck_turn turn;
    uint32_t round; /* rows so far */
    /* of short rows: */
    const uint32_t pack;
    const bool mine; /* whether there is such a pack */
    struct tck_operands next;
    uint4 gamma;
    float factor;

    TCK_MEMBER tck_oneshot_rows(const struct tck_cuda_args &a, const struct tck_place &p, struct tck_cluster_sum &s)
        : args(a), run(a.run), place(p), sums(s), stride(gridDim.x / p.cluster), rows((uint32_t)a.run.tokens), turn(), round(0),
          pack(tck_place_pack(p, a.run, 0)), mine(pack < a.run.row_packs), next()
    {
    }

    TCK_MEMBER bool is_short() const { return place.steps == 1; }

    TCK_MEMBER struct tck_operands load(uint32_t row, uint32_t of_row) const
    {
        const uint32_t at = row * run.row_packs + of_row;
        return {((const uint4 *)run.in)[at], ((const uint4 *)run.residual_in)[at]};
    }
    /* Of a short row: what `next` holds of it. */
    TCK_MEMBER void push_next(uint32_t row) const
    {
        if (N != 1 && !turn.dead)
            tck_push<N>(args, turn.buffer, row * run.row_packs + pack, next.mine);
    }
    /* Of a long one. */
    TCK_MEMBER void push(uint32_t row) const
    {
        if constexpr (N != 1) {
            if (row >= rows || turn.dead)
                return;
#pragma unroll 1
            for (uint32_t step = 0; step < place.steps; step++) {
                const uint32_t of_row = tck_place_pack(place, run, step), at = row * run.row_packs + of_row;
                if (of_row < run.row_packs)
                    tck_push<N>(args, turn.buffer, at, ((const uint4 *)run.in)[at]);
            }
        }
    }

    TCK_MEMBER uint4 collect(uint32_t row, uint32_t of_row, uint4 own, bool wanted) const
    {
        return N == 1 ? own : tck_collect<T, N>(args, turn, row * run.row_packs + of_row, own, wanted);
    }

    /* Bias and residual, to a sum: u, stored. */
    TCK_MEMBER uint4 add_residual(uint32_t row, uint32_t of_row, uint4 sum, uint4 residual) const
    {
        if (run.bias)
            sum = T::add(sum, ((const uint4 *)run.bias)[of_row]);
        sum = T::add(sum, residual);
        ((uint4 *)run.residual_out)[row * run.row_packs + of_row] = sum;
        return sum;
    }

    /* u of this thread's pack of a short row. The row after goes out and comes in meanwhile. */
    TCK_MEMBER uint4 sum_short(uint32_t row, float *squares)
    {
        const struct tck_operands o = next;
        uint4 u = o.mine;
        if (mine && row + stride < rows) {
            next = load(row + stride, pack);
            push_next(row + stride);
        }
        u = collect(row, pack, o.mine, mine);
        if (mine) {
            u = add_residual(row, pack, u, o.residual);
            *squares = tck_pack_squares<T>(run, u);
        }
        return u;
    }

    /* Leaves u in residual_out. */
    TCK_MEMBER void sum_long(uint32_t row, float *squares) const
    {
        push(row + stride);
#pragma unroll 1
        for (uint32_t step = 0; step < place.steps; step++) {
            const uint32_t of_row = tck_place_pack(place, run, step);
            const bool wanted = of_row < run.row_packs;
            struct tck_operands o = {};
            if (wanted)
                o = load(row, of_row);
            const uint4 sum = collect(row, of_row, o.mine, wanted);
            if (wanted)
                *squares = __fadd_rn(*squares, tck_pack_squares<T>(run, add_residual(row, of_row, sum, o.residual)));
        }
    }

    /* A row, from its sum on. */
    TCK_MEMBER void finish(uint32_t row)
    {
        uint4 u = {};
        float squares = 0;
        if (is_short())
            u = sum_short(row, &squares);
        else
            sum_long(row, &squares);
        const float k = tck_row_inverse(place, run, tck_row_total(place, squares, &sums, round++));
#pragma unroll 1
        for (uint32_t step = 0; step < place.steps; step++) {
            const uint32_t of_row = tck_place_pack(place, run, step);
            if (!is_short()) {
                gamma = tck_load_gamma<T>(run, of_row);
                if (of_row < run.row_packs)
                    u = ((const uint4 *)run.residual_out)[row * run.row_packs + of_row];
            }
            tck_pack_finish<T>(run, row, of_row, u, gamma, k, factor);
        }
    }

    TCK_MEMBER void all(uint64_t start_ns)
    {
        const uint32_t own = blockIdx.x / place.cluster;
        const bool first = blockIdx.x == 0 && threadIdx.x == 0;
        const uint64_t steps = N == 1 && first ? tck_alone_steps(args) : 0;
        struct tck_entry entry = {};
        if (mine)
            next = load(own, pack); /* at the same time as the state */
        if (N != 1) {
            turn = tck_turn_begin(args.link);
            if (!is_short())
                push(own);
            else if (mine)
                push_next(own);
            entry = tck_turn_enter(args, turn, tck_dirty_behind(args));
            if (!turn.dead)
                tck_turn_clear(args.link, turn, blockIdx.x * blockDim.x + threadIdx.x, gridDim.x * blockDim.x);
        }
        tck_stream_release(run);
        gamma = tck_load_gamma<T>(run, pack);
        factor = tck_quant_factor(run);
#pragma unroll 1
        for (uint32_t at = own; at < rows; at += stride)
            finish(at);
        if (N != 1)
            tck_turn_leave(args, turn, entry, tck_dirty_behind(args), blockIdx.x == 0, start_ns);
        else if (first)
            tck_alone_leave(args, steps, start_ns);
    }
};

template <class T, int N> TCK_DEVICE void tck_oneshot_norm(const struct tck_cuda_args &args)
{
    __shared__ struct tck_cluster_sum sums;
    const uint64_t start_ns = blockIdx.x == 0 && threadIdx.x == 0 ? tck_global_ns() : 0;
    const struct tck_place place = tck_place_find(args.run);
    struct tck_oneshot_rows<T, N> rows(args, place, sums);
    tck_args_touch(args);
    tck_cluster_begin(place, &sums);
    tck_stream_order();
    rows.all(start_ns);
}

#endif
