/*
 * ub-finalize (seed-spec 13.4): every rank sends the tokens that it owns to all others, as they are. So no bit pattern is free to say that
 * something has not arrived: in a buffer stand the tokens of the launch, behind them a pack for each that says that it is there, written
 * after it, and behind these a pack for each rank, which says that the rank has come: ranks that own no token must not run ahead either.
 *
 * A block takes a token at a time and sends all of its own before it waits for the first of others'. Grid: the same on all ranks, blocks of
 * whole warps, up to 512 threads. Shape: finalize.c.
 */
#include "signal.cuh"
#include "wait.cuh"

#define TCK_HERE make_uint4(1, 1, 1, 1)

/* Who owns a token of the run: seed-spec 8.1. */
TCK_DEVICE uint32_t tck_owner(const struct tck_cuda_args &args, uint64_t token)
{
    const uint64_t each = args.run.run_tokens / args.link.nranks, rest = args.run.run_tokens % args.link.nranks, longer = rest * (each + 1);
    return (uint32_t)(token < longer ? token / (each + 1) : rest + (token - longer) / each);
}

/* `v` to place `at` of everybody else's buffer, the next rank's first. */
TCK_DEVICE void tck_to_others(const struct tck_cuda_link &link, uint32_t buffer, uint64_t at, uint4 v)
{
#pragma unroll 1
    for (uint32_t i = 1; i < link.nranks; i++) {
        uint32_t to = link.rank + i < link.nranks ? link.rank + i : link.rank + i - link.nranks;
        tck_send(tck_buffer(link, to, buffer) + at, v);
    }
}

/* One token of this rank's: to its own output, and with `send` to all others. Every thread of the block. */
TCK_DEVICE void tck_give(const struct tck_cuda_args &args, const struct tck_turn &turn, uint32_t token, uint64_t flags, bool send)
{
    const uint64_t first = (uint64_t)token * args.run.row_packs;
#pragma unroll 1
    for (uint32_t pack = threadIdx.x; pack < args.run.row_packs; pack += blockDim.x) {
        const uint4 v = ((const uint4 *)args.run.in)[first + pack];
        if (send)
            tck_to_others(args.link, turn.buffer, first + pack, v);
        if (args.run.in != args.run.out)
            ((uint4 *)args.run.out)[first + pack] = v;
    }
    if (!send)
        return;
    __syncthreads();
    if (threadIdx.x == 0) {
        __threadfence_system();
        tck_to_others(args.link, turn.buffer, flags + token, TCK_HERE);
    }
}

/* One token of rank `from`. Every thread of the block; the first warp waits for all. */
TCK_DEVICE void tck_take(const struct tck_cuda_args &args, const struct tck_turn &turn, uint32_t token, uint64_t flags, uint32_t from)
{
    const uint4 *mine = tck_buffer(args.link, args.link.rank, turn.buffer);
    const uint64_t first = (uint64_t)token * args.run.row_packs;
    if (threadIdx.x < 32) {
        tck_receive(args.link, turn, mine + flags + token, from, true);
        __threadfence_system();
    }
    __syncthreads();
#pragma unroll 1
    for (uint32_t pack = threadIdx.x; pack < args.run.row_packs; pack += blockDim.x)
        ((uint4 *)args.run.out)[first + pack] = tck_load_volatile(mine + first + pack);
}

extern "C" __global__ void __launch_bounds__(512, 2) tck_finalize(const __grid_constant__ struct tck_cuda_args args)
{
    const uint32_t tokens = (uint32_t)args.run.tokens, own = blockIdx.x * blockDim.x + threadIdx.x;
    const uint64_t start_ns = own == 0 ? tck_global_ns() : 0, flags = (uint64_t)tokens * args.run.row_packs, ranks = flags + tokens;
    const bool local = args.run.flags & TCK_CUDA_LOCAL;
    uint64_t dirty = ranks + args.link.nranks;
    tck_args_touch(args);
    tck_stream_order();
    tck_stream_release(args.run);
    struct tck_turn turn = tck_turn_begin(args.link);
    turn.dead = __syncthreads_or(turn.dead); /* all or none come to the barriers below */
    const bool exchanges = !local && !turn.dead;
    if (local) { /* no round takes place: the next launch finds what this one has found */
        turn.buffer = tck_buffer_before(turn.buffer);
        dirty = turn.dirty;
    }
    if (exchanges && own == 0)
        tck_to_others(args.link, turn.buffer, ranks + args.link.rank, TCK_HERE);
#pragma unroll 1
    for (uint32_t token = blockIdx.x; token < tokens; token += gridDim.x)
        if (local || tck_owner(args, args.run.first_token + token) == args.link.rank)
            tck_give(args, turn, token, flags, exchanges);
    const struct tck_entry entry = tck_turn_enter(args, turn, dirty);
    if (exchanges) {
        tck_turn_clear(args.link, turn, own, gridDim.x * blockDim.x);
#pragma unroll 1
        for (uint32_t token = blockIdx.x; token < tokens; token += gridDim.x) {
            const uint32_t from = tck_owner(args, args.run.first_token + token);
            if (from != args.link.rank)
                tck_take(args, turn, token, flags, from);
        }
    }
    if (exchanges && blockIdx.x == 0 && threadIdx.x < 32)
        tck_receive(args.link, turn, tck_buffer(args.link, args.link.rank, turn.buffer) + ranks + threadIdx.x, threadIdx.x,
                    threadIdx.x < args.link.nranks && threadIdx.x != args.link.rank);
    tck_turn_leave(args, turn, entry, dirty, blockIdx.x == 0, start_ns);
    tck_signal(args);
}
