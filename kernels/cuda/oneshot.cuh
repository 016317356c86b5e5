/*
 * One-shot all-reduce (seed-spec 7): every rank pushes its whole message to all others, waits for theirs in its own buffer, and finishes
 * every element itself.
 *
 * In a buffer of rank r, rank s has slot tck_slot(s, r): nranks - 1 slots of the message's packs; the own message does not travel. Threads
 * send some packs ahead of their waits, so that everything is on its way at once in short messages, and pushing and collecting overlap in
 * long ones.
 *
 * N is the number of ranks; 0 any, in chunks of four; 1 alone, no exchange and no state (also the epilogue behind a library's sum).
 */
#ifndef TCK_CUDA_ONESHOT_CUH
#define TCK_CUDA_ONESHOT_CUH

#include "epilogue.cuh"
#include "signal.cuh"
#include "wait.cuh"

enum { TCK_ONESHOT_AHEAD = 4 };

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

/* The sum of everybody's pack `at`, `mine` being this rank's; waits for it. */
template <class T, int N>
TCK_DEVICE uint4 tck_collect(const struct tck_cuda_args &args, const struct tck_turn &turn, uint32_t at, uint4 mine)
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
                if (from != rank && (N || from < n))
                    v[i] = tck_load_volatile(slots + (uint64_t)tck_slot(from, rank) * packs);
            }
#pragma unroll
            for (uint32_t i = 0; i < CHUNK; i++)
                missing = tck_has_arrived(v[i]) ? missing : first + i;
            if (missing == TCK_NOBODY || turn.dead || tck_give_up(args.link, turn, &patience, missing))
                break;
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

/* Sum, or sum and bias; threads take packs with the stride of the grid. */
template <class T, int N> TCK_DEVICE void tck_oneshot_plain(const struct tck_cuda_args &args)
{
    const uint32_t own = blockIdx.x * blockDim.x + threadIdx.x, stride = gridDim.x * blockDim.x, packs = tck_message_packs(args.run);
    const uint64_t start_ns = own == 0 ? tck_global_ns() : 0;
    const uint4 *in = (const uint4 *)args.run.in, *bias = (const uint4 *)args.run.bias;
    uint4 *out = (uint4 *)args.run.out;
    struct tck_turn turn = {};
    struct tck_entry entry = {};
    uint64_t steps = 0;
    uint32_t sent = own;
    uint4 v = {};

    tck_args_touch(args);
    tck_stream_order(args.run);
    if (N == 1 && own == 0)
        steps = tck_alone_steps(args);
    if (own < packs)
        v = in[own];
    if (N != 1) {
        turn = tck_turn_begin(args.link);
        if (turn.dead)
            sent = packs; /* send nothing, wait for nothing */
        if (sent < packs) {
            tck_push<N>(args, turn.buffer, own, v);
            sent += stride;
        }
#pragma unroll 1
        for (int i = 1; i < TCK_ONESHOT_AHEAD && sent < packs; i++, sent += stride)
            tck_push<N>(args, turn.buffer, sent, in[sent]);
        entry = tck_turn_enter(args, turn, tck_dirty_behind(args));
        if (!turn.dead)
            tck_turn_clear(args.link, turn, own, stride);
    }
#pragma unroll 1
    for (uint32_t at = own; at < packs; at += stride) {
        if (at != own)
            v = in[at];
        if (N != 1) {
            if (sent < packs) {
                tck_push<N>(args, turn.buffer, sent, in[sent]);
                sent += stride;
            }
            v = tck_collect<T, N>(args, turn, at, v);
        }
        out[at] = bias ? T::add(v, bias[at % args.run.row_packs]) : v;
    }
    if (N != 1)
        tck_turn_leave(args, turn, entry, tck_dirty_behind(args), blockIdx.x == 0, start_ns);
    else if (own == 0)
        tck_alone_leave(args, steps, start_ns);
}

/* Pushes this thread's packs of a row. */
template <int N>
TCK_DEVICE void tck_push_row(const struct tck_cuda_args &args, const struct tck_place &place, uint32_t buffer, uint32_t row)
{
#pragma unroll 1
    for (uint32_t step = 0; step < place.steps; step++) {
        uint32_t pack = tck_place_pack(place, args.run, step), at = row * args.run.row_packs + pack;
        if (pack < args.run.row_packs)
            tck_push<N>(args, buffer, at, ((const uint4 *)args.run.in)[at]);
    }
}

/* A thread's operands of one pack. */
struct tck_operands {
    uint4 mine, residual, bias;
};

/* Those at `at` of the message, pack `pack` of the row; nothing behind the row. */
TCK_DEVICE struct tck_operands tck_load_operands(const struct tck_cuda_operation &run, uint32_t at, uint32_t pack)
{
    struct tck_operands o = {};
    if (pack < run.row_packs) {
        o.mine = ((const uint4 *)run.in)[at];
        o.residual = ((const uint4 *)run.residual_in)[at];
        if (run.bias)
            o.bias = ((const uint4 *)run.bias)[pack];
    }
    return o;
}

/* Sum, bias, residual: u of one pack, stored. */
template <class T, int N>
TCK_DEVICE uint4 tck_finish_sum(const struct tck_cuda_args &args, const struct tck_turn &turn, uint32_t at, const struct tck_operands &o)
{
    uint4 v = N != 1 ? tck_collect<T, N>(args, turn, at, o.mine) : o.mine;
    if (args.run.bias)
        v = T::add(v, o.bias);
    v = T::add(v, o.residual);
    ((uint4 *)args.run.residual_out)[at] = v;
    return v;
}

/* Sum, bias, residual, norm, quantization; a cluster per row, clusters take rows with the stride of the grid. */
template <class T, int N> TCK_DEVICE void tck_oneshot_norm(const struct tck_cuda_args &args)
{
    __shared__ struct tck_cluster_sum sums;
    const struct tck_place place = tck_place_find(args.run);
    const uint32_t own = blockIdx.x / place.cluster, stride = gridDim.x / place.cluster, rows = (uint32_t)args.run.tokens;
    const bool first = blockIdx.x == 0 && threadIdx.x == 0;
    const uint64_t start_ns = first ? tck_global_ns() : 0;
    const uint32_t row_packs = args.run.row_packs, first_pack = tck_place_pack(place, args.run, 0);
    struct tck_turn turn = {};
    struct tck_entry entry = {};
    uint64_t steps = 0;
    uint32_t sent = own, round = 0;

    tck_args_touch(args);
    tck_cluster_begin(place, &sums);
    tck_stream_order(args.run);
    if (N == 1 && first)
        steps = tck_alone_steps(args);
    struct tck_operands o = tck_load_operands(args.run, own * row_packs + first_pack, first_pack);
    if (N != 1) {
        turn = tck_turn_begin(args.link);
        if (turn.dead)
            sent = rows; /* send nothing, wait for nothing, but come to every barrier */
        if (place.steps == 1 && !turn.dead) {
            if (first_pack < row_packs)
                tck_push<N>(args, turn.buffer, own * row_packs + first_pack, o.mine);
            sent += stride;
        }
#pragma unroll 1
        for (int i = 0; i < TCK_ONESHOT_AHEAD && sent < rows; i++, sent += stride)
            tck_push_row<N>(args, place, turn.buffer, sent);
        entry = tck_turn_enter(args, turn, tck_dirty_behind(args));
        if (!turn.dead)
            tck_turn_clear(args.link, turn, blockIdx.x * blockDim.x + threadIdx.x, gridDim.x * blockDim.x);
    }
    uint4 gamma = tck_load_gamma<T>(args.run, first_pack);
    const float factor = tck_quant_factor(args.run);
#pragma unroll 1
    for (uint32_t row = own; row < rows; row += stride, round++) {
        uint4 u = {};
        float squares = 0;
        if (N != 1 && sent < rows) {
            tck_push_row<N>(args, place, turn.buffer, sent);
            sent += stride;
        }
#pragma unroll 1
        for (uint32_t step = 0; step < place.steps; step++) {
            uint32_t pack = tck_place_pack(place, args.run, step), at = row * row_packs + pack;
            if (row != own || step != 0)
                o = tck_load_operands(args.run, at, pack);
            if (pack < row_packs) {
                u = tck_finish_sum<T, N>(args, turn, at, o);
                squares = __fadd_rn(squares, tck_pack_squares<T>(args.run, u));
            }
        }
        const float k = tck_row_inverse(place, args.run, tck_row_total(place, squares, &sums, round));
#pragma unroll 1
        for (uint32_t step = 0; step < place.steps; step++) {
            uint32_t pack = tck_place_pack(place, args.run, step);
            if (place.steps > 1) {
                gamma = tck_load_gamma<T>(args.run, pack);
                if (pack < row_packs)
                    u = ((const uint4 *)args.run.residual_out)[row * row_packs + pack];
            }
            tck_pack_finish<T>(args.run, row, pack, u, gamma, k, factor);
        }
    }
    if (N != 1)
        tck_turn_leave(args, turn, entry, tck_dirty_behind(args), blockIdx.x == 0, start_ns);
    else if (first)
        tck_alone_leave(args, steps, start_ns);
}

/* Registers for two blocks of an SM with a few ranks, for one with many; the same per thread in blocks of half the size. */
#define TCK_ONESHOT_KERNELS(prefix, type, suffix, N)                                                                                       \
    extern "C" __global__ void __launch_bounds__(512, (N) == 0 || (N) > 4 ? 1 : 2)                                                         \
        prefix##_##type##_plain##suffix(const __grid_constant__ struct tck_cuda_args args)                                                 \
    {                                                                                                                                      \
        tck_oneshot_plain<tck_##type, N>(args);                                                                                            \
        if ((N) != 1)                                                                                                                      \
            tck_signal(args);                                                                                                              \
    }                                                                                                                                      \
    extern "C" __global__ void __launch_bounds__(256, (N) == 0 || (N) > 4 ? 2 : 3)                                                         \
        prefix##_##type##_norm##suffix(const __grid_constant__ struct tck_cuda_args args)                                                  \
    {                                                                                                                                      \
        tck_oneshot_norm<tck_##type, N>(args);                                                                                             \
        if ((N) != 1)                                                                                                                      \
            tck_signal(args);                                                                                                              \
    }

#define TCK_ONESHOT_TYPES(prefix, suffix, N)                                                                                               \
    TCK_ONESHOT_KERNELS(prefix, fp32, suffix, N)                                                                                           \
    TCK_ONESHOT_KERNELS(prefix, fp16, suffix, N)                                                                                           \
    TCK_ONESHOT_KERNELS(prefix, bf16, suffix, N)

#endif
