/*
 * One-shot without a norm: the sum, plus the bias if there is one, is the output. Threads take packs with the stride of the grid. in == out
 * is allowed: a thread reads its packs before it can write them.
 */
#ifndef TCK_CUDA_ONESHOT_PLAIN_CUH
#define TCK_CUDA_ONESHOT_PLAIN_CUH

#include "oneshot.cuh"

template <class T, int N> TCK_DEVICE void tck_oneshot_plain(const struct tck_cuda_args &args)
{
    const uint32_t own = blockIdx.x * blockDim.x + threadIdx.x, stride = gridDim.x * blockDim.x, packs = tck_message_packs(args.run);
    const uint4 *in = (const uint4 *)args.run.in, *bias = (const uint4 *)args.run.bias;
    const bool posts = blockIdx.x == gridDim.x - 1; /* blocks begin in their order, and the last ones may have to wait for room */
    uint4 *out = (uint4 *)args.run.out;
    uint64_t start_ns = tck_global_ns(), steps = 0;
    struct tck_turn turn = {};
    struct tck_entry entry = {};
    uint4 v = {};

    tck_args_touch(args);
    tck_stream_order();
    if (N == 1 && own == 0)
        steps = tck_alone_steps(args);
    if (own < packs)
        v = in[own];
    if (N != 1) {
        turn = tck_turn_begin(args.link);
        if (own < packs && !turn.dead)
            tck_push<N>(args, turn.buffer, own, v);
        entry = tck_turn_enter(args, turn, tck_dirty_behind(args));
        start_ns = tck_turn_since(args, turn, posts, start_ns);
        if (!turn.dead)
            tck_turn_clear(args.link, turn, own, stride);
    }
    tck_stream_release(args.run); /* behind the pushes: before them made 16 KB 0.1 us slower */
#pragma unroll 1
    for (uint32_t of_warp = own - tck_lane(); of_warp < packs; of_warp += stride) {
        const uint32_t at = of_warp + tck_lane();
        const bool wanted = at < packs;
        uint4 next = {};
        if (at + stride < packs) {
            next = in[at + stride];
            if (N != 1 && !turn.dead)
                tck_push<N>(args, turn.buffer, at + stride, next);
        }
        if (N != 1)
            v = tck_collect<T, N>(args, turn, at, v, wanted);
        if (wanted)
            out[at] = bias ? T::add(v, bias[at % args.run.row_packs]) : v;
        v = next;
    }
    if (N != 1)
        tck_turn_leave(args, turn, entry, tck_dirty_behind(args), posts, start_ns);
    else if (own == 0)
        tck_alone_leave(args, steps, start_ns);
}

#endif
