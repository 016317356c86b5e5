/*
 * The kernels of the forms in nvls.h. A store or a load through the multicast object concerns the same place of all ranks' workspaces, this
 * one's included; nothing else may be done with its addresses. Each form is made of
 *
 *   offer   every thread brings its packs to where others find them
 *   settle  two-shot forms: sums of the packs that this rank owns, to all ranks
 *   take    the sum of one pack, which the thread waits for
 *
 * and of an end that the others have too: out, or residual, norm and quantization. Threads have the same packs on all ranks, since grids
 * are alike. Every rank waits for something that all ranks have had a part in, so none runs ahead of the others by more than a launch.
 */
#include "epilogue.cuh"
#include "nvls.h"
#include "wait.cuh"

#define TCK_HERE make_uint4(1, 1, 1, 1)

TCK_DEVICE uint4 *tck_multicast_buffer(const struct tck_cuda_link &link, uint32_t buffer)
{
    return (uint4 *)((char *)link.multicast + TCK_CUDA_HEADER_BYTES) + buffer * link.buffer_packs;
}

TCK_DEVICE void tck_multicast_send(uint4 *at, uint4 v)
{
#if __CUDA_ARCH__ >= 900
    asm volatile("multimem.st.relaxed.sys.global.v4.f32 [%0], {%1, %2, %3, %4};" ::"l"(at), "f"(__uint_as_float(v.x)),
                 "f"(__uint_as_float(v.y)), "f"(__uint_as_float(v.z)), "f"(__uint_as_float(v.w))
                 : "memory");
#endif
}

/* What the switch makes of all ranks' packs at this place. */
template <class T> struct tck_switch;
#if __CUDA_ARCH__ >= 900
#define TCK_SWITCH(type, words)                                                                                                            \
    template <> struct tck_switch<type> {                                                                                                  \
        static TCK_MEMBER uint4 sum(const uint4 *at)                                                                                       \
        {                                                                                                                                  \
            uint4 v;                                                                                                                       \
            asm volatile("multimem.ld_reduce.relaxed.sys.global.add" words " {%0, %1, %2, %3}, [%4];"                                      \
                         : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)                                                                      \
                         : "l"(at)                                                                                                         \
                         : "memory");                                                                                                      \
            return v;                                                                                                                      \
        }                                                                                                                                  \
    };
TCK_SWITCH(tck_fp16, ".acc::f32.v4.f16x2")
TCK_SWITCH(tck_bf16, ".acc::f32.v4.bf16x2")
template <> struct tck_switch<tck_fp32> {
    static TCK_MEMBER uint4 sum(const uint4 *at)
    {
        float x, y, z, w;
        asm volatile("multimem.ld_reduce.relaxed.sys.global.add.v4.f32 {%0, %1, %2, %3}, [%4];"
                     : "=f"(x), "=f"(y), "=f"(z), "=f"(w)
                     : "l"(at)
                     : "memory");
        return make_uint4(__float_as_uint(x), __float_as_uint(y), __float_as_uint(z), __float_as_uint(w));
    }
};
#else
template <class T> struct tck_switch {
    static TCK_MEMBER uint4 sum(const uint4 *at) { return *at; } /* never launched there */
};
#endif

/* The same memory is reached by addresses of two kinds: accesses before are ordered before those behind. */
TCK_DEVICE void tck_alias_order()
{
    __threadfence_system();
    asm volatile("fence.proxy.alias;" ::: "memory");
}

/* The packs of this thread, in ascending order: whole rows in norm form, as epilogue.cuh spreads them. */
template <bool ROWS> struct tck_walk {
    const struct tck_cuda_operation &run;
    const struct tck_place place;
    uint32_t first, stride, end; /* packs, or rows */

    TCK_MEMBER tck_walk(const struct tck_cuda_operation &r) : run(r), place(tck_place_find(r))
    {
        first = ROWS ? blockIdx.x / place.cluster : blockIdx.x * blockDim.x + threadIdx.x;
        stride = ROWS ? gridDim.x / place.cluster : gridDim.x * blockDim.x;
        end = (uint32_t)run.tokens * (ROWS ? 1 : run.row_packs);
    }

    template <class F> TCK_MEMBER void each(F &&visit) const
    {
#pragma unroll 1
        for (uint32_t i = first; i < end; i += stride) {
            if constexpr (ROWS) {
#pragma unroll 1
                for (uint32_t step = 0; step < place.steps; step++) {
                    const uint32_t pack = tck_place_pack(place, run, step);
                    if (pack < run.row_packs)
                        visit(i * run.row_packs + pack);
                }
            } else {
                visit(i);
            }
        }
    }
};

/* Who owns which packs of the launch: rows in norm form (seed-spec 8.1), cache lines otherwise. */
template <bool ROWS> struct tck_shards {
    uint32_t nranks, row_packs, each, rest; /* each: rows, or packs */

    TCK_MEMBER tck_shards(const struct tck_cuda_args &args) : nranks(args.link.nranks), row_packs(args.run.row_packs)
    {
        const uint32_t tokens = (uint32_t)args.run.tokens;
        each = ROWS ? tokens / nranks : ((tokens * row_packs + nranks - 1) / nranks + 7) & ~7u;
        rest = ROWS ? tokens % nranks : 0;
    }
    /* Packs of the longest. */
    TCK_MEMBER uint32_t longest() const { return ROWS ? (each + (rest != 0)) * row_packs : each; }
    TCK_MEMBER uint32_t owner(uint32_t at) const
    {
        if (!ROWS)
            return at / each;
        const uint32_t row = at / row_packs, longer = rest * (each + 1);
        return row < longer ? row / (each + 1) : rest + (row - longer) / each;
    }
    TCK_MEMBER uint32_t first(uint32_t rank) const { return ROWS ? (rank * each + (rank < rest ? rank : rest)) * row_packs : rank * each; }
};

/* Waits for one pack from rank `from`. Each lane by itself, unlike tck_receive: what a warp does behind this, it does lane by lane. */
TCK_DEVICE void tck_nvls_receive(const struct tck_cuda_link &link, const struct tck_turn &turn, const uint4 *at, uint32_t from, uint4 *v,
                                 bool indirect = false)
{
    struct tck_patience patience = {0, 0};
    *v = tck_load_volatile(at);
    while (!tck_has_arrived(*v) && !turn.dead && !tck_give_up(link, turn, &patience, from, indirect))
        *v = tck_load_volatile(at);
}

/* ---- the forms ---- */

template <class T, bool ROWS> struct tck_nvls_oneshot {
    const struct tck_cuda_args &args;
    const struct tck_turn &turn;
    const uint32_t packs;

    TCK_MEMBER tck_nvls_oneshot(const struct tck_cuda_args &a, const struct tck_turn &t)
        : args(a), turn(t), packs((uint32_t)a.run.tokens * a.run.row_packs)
    {
    }
    TCK_MEMBER uint64_t dirty() const { return (uint64_t)args.link.nranks * packs; }
    TCK_MEMBER void offer(const tck_walk<ROWS> &walk) const
    {
        uint4 *mine = tck_multicast_buffer(args.link, turn.buffer) + (uint64_t)args.link.rank * packs;
        walk.each([&](uint32_t at) { tck_multicast_send(mine + at, tck_sendable(((const uint4 *)args.run.in)[at])); });
    }
    TCK_MEMBER void settle(const tck_walk<ROWS> &walk) const {}
    /* The own slot is waited for as well: what was sent to it must not come when it has been cleared. */
    TCK_MEMBER uint4 take(uint32_t at) const
    {
        const bool wide = args.run.flags & TCK_CUDA_WIDE;
        const uint4 *slots = tck_buffer(args.link, args.link.rank, turn.buffer) + at;
        struct tck_sum<T> sum;
#pragma unroll 1
        for (uint32_t from = 0; from < args.link.nranks; from++) {
            uint4 v;
            tck_nvls_receive(args.link, turn, slots + (uint64_t)from * packs, from, &v);
            if (from == 0)
                sum.start(v, wide);
            else
                sum.add(v, wide);
        }
        return sum.result(wide);
    }
};

template <class T, bool ROWS> struct tck_nvls_twoshot {
    const struct tck_cuda_args &args;
    const struct tck_turn &turn;
    const tck_shards<ROWS> shards;
    const uint32_t slot;   /* packs */
    const uint64_t result; /* where the sums lie, as in the message */

    TCK_MEMBER tck_nvls_twoshot(const struct tck_cuda_args &a, const struct tck_turn &t)
        : args(a), turn(t), shards(a), slot(shards.longest()), result((uint64_t)(a.link.nranks - 1) * slot)
    {
    }
    TCK_MEMBER uint64_t dirty() const { return result + (uint64_t)args.run.tokens * args.run.row_packs; }
    TCK_MEMBER void offer(const tck_walk<ROWS> &walk) const
    {
        const uint32_t rank = args.link.rank;
        walk.each([&](uint32_t at) {
            const uint32_t to = shards.owner(at);
            if (to != rank)
                tck_send(tck_buffer(args.link, to, turn.buffer) + (uint64_t)tck_slot(rank, to) * slot + (at - shards.first(to)),
                         tck_sendable(((const uint4 *)args.run.in)[at]));
        });
    }
    TCK_MEMBER uint4 reduce(uint32_t at) const
    {
        const uint32_t rank = args.link.rank;
        const bool wide = args.run.flags & TCK_CUDA_WIDE;
        const uint4 *slots = tck_buffer(args.link, rank, turn.buffer) + (at - shards.first(rank));
        struct tck_sum<T> sum;
#pragma unroll 1
        for (uint32_t from = 0; from < args.link.nranks; from++) {
            uint4 v = tck_sendable(((const uint4 *)args.run.in)[at]);
            if (from != rank)
                tck_nvls_receive(args.link, turn, slots + (uint64_t)tck_slot(from, rank) * slot, from, &v);
            if (from == 0)
                sum.start(v, wide);
            else
                sum.add(v, wide);
        }
        return sum.result(wide);
    }
    TCK_MEMBER void settle(const tck_walk<ROWS> &walk) const
    {
        uint4 *sums = tck_multicast_buffer(args.link, turn.buffer) + result;
        walk.each([&](uint32_t at) {
            if (shards.owner(at) != args.link.rank)
                return;
            const uint4 v = tck_sendable(reduce(at));
            if (!turn.dead)
                tck_multicast_send(sums + at, v);
        });
    }
    TCK_MEMBER uint4 take(uint32_t at) const
    {
        uint4 v;
        tck_nvls_receive(args.link, turn, tck_buffer(args.link, args.link.rank, turn.buffer) + result + at, shards.owner(at), &v, true);
        return v;
    }
};

template <class T, bool ROWS> struct tck_nvls_reduce {
    const struct tck_cuda_args &args;
    const struct tck_turn &turn;
    const tck_shards<ROWS> shards;
    const uint32_t packs;

    TCK_MEMBER tck_nvls_reduce(const struct tck_cuda_args &a, const struct tck_turn &t)
        : args(a), turn(t), shards(a), packs((uint32_t)a.run.tokens * a.run.row_packs)
    {
    }
    TCK_MEMBER uint64_t dirty() const { return 2 * (uint64_t)packs + args.link.nranks * gridDim.x; }
    /* Where the block of this number of a rank says that its packs are there. */
    TCK_MEMBER uint64_t flag(uint32_t rank) const { return 2 * (uint64_t)packs + rank * gridDim.x + blockIdx.x; }
    TCK_MEMBER void offer(const tck_walk<ROWS> &walk) const
    {
        uint4 *mine = tck_buffer(args.link, args.link.rank, turn.buffer);
        walk.each([&](uint32_t at) { tck_send(mine + at, ((const uint4 *)args.run.in)[at]); });
        tck_alias_order();
        __syncthreads();
        if (threadIdx.x == 0) {
            __threadfence_system();
            tck_multicast_send(tck_multicast_buffer(args.link, turn.buffer) + flag(args.link.rank), TCK_HERE);
        }
    }
    /* Every block waits for its fellows, whether it owns anything or not: their flags must not come when they have been cleared. */
    TCK_MEMBER void settle(const tck_walk<ROWS> &walk) const
    {
        uint4 *all = tck_multicast_buffer(args.link, turn.buffer), here;
        if (threadIdx.x < args.link.nranks)
            tck_nvls_receive(args.link, turn, tck_buffer(args.link, args.link.rank, turn.buffer) + flag(threadIdx.x), threadIdx.x, &here);
        tck_alias_order();
        const bool dead = __syncthreads_or(turn.dead);
        walk.each([&](uint32_t at) {
            if (!dead && shards.owner(at) == args.link.rank)
                tck_multicast_send(all + packs + at, tck_sendable(tck_switch<T>::sum(all + at)));
        });
    }
    TCK_MEMBER uint4 take(uint32_t at) const
    {
        uint4 v;
        tck_nvls_receive(args.link, turn, tck_buffer(args.link, args.link.rank, turn.buffer) + packs + at, shards.owner(at), &v, true);
        return v;
    }
};

/* ---- the ends ---- */

template <class T, class Form>
TCK_DEVICE void tck_nvls_finish_plain(const struct tck_cuda_args &args, const Form &form, const tck_walk<false> &walk)
{
    const uint4 *bias = (const uint4 *)args.run.bias;
    walk.each([&](uint32_t at) {
        const uint4 v = form.take(at);
        ((uint4 *)args.run.out)[at] = bias ? T::add(v, bias[at % args.run.row_packs]) : v;
    });
}

template <class T, class Form>
TCK_DEVICE void tck_nvls_finish_norm(const struct tck_cuda_args &args, const Form &form, const tck_walk<true> &walk,
                                     struct tck_cluster_sum *sums)
{
    const struct tck_cuda_operation &run = args.run;
    const float factor = tck_quant_factor(run);
    uint32_t round = 0;
#pragma unroll 1
    for (uint32_t row = walk.first; row < walk.end; row += walk.stride, round++) {
        float squares = 0;
#pragma unroll 1
        for (uint32_t step = 0; step < walk.place.steps; step++) {
            const uint32_t pack = tck_place_pack(walk.place, run, step), at = row * run.row_packs + pack;
            if (pack >= run.row_packs)
                continue;
            uint4 u = form.take(at);
            if (run.bias)
                u = T::add(u, ((const uint4 *)run.bias)[pack]);
            u = T::add(u, ((const uint4 *)run.residual_in)[at]);
            ((uint4 *)run.residual_out)[at] = u;
            squares = __fadd_rn(squares, tck_pack_squares<T>(run, u));
        }
        const float k = tck_row_inverse(walk.place, run, tck_row_total(walk.place, squares, sums, round));
#pragma unroll 1
        for (uint32_t step = 0; step < walk.place.steps; step++) {
            const uint32_t pack = tck_place_pack(walk.place, run, step);
            const uint4 u = pack < run.row_packs ? ((const uint4 *)run.residual_out)[row * run.row_packs + pack] : make_uint4(0, 0, 0, 0);
            tck_pack_finish<T>(run, row, pack, u, tck_load_gamma<T>(run, pack), k, factor);
        }
    }
}

template <class T, class Form, bool ROWS> TCK_DEVICE void tck_nvls_run(const struct tck_cuda_args &args)
{
    __shared__ struct tck_cluster_sum sums;
    const uint32_t own = blockIdx.x * blockDim.x + threadIdx.x;
    const uint64_t start_ns = own == 0 ? tck_global_ns() : 0;
    const tck_walk<ROWS> walk(args.run);
    tck_args_touch(args);
    if (ROWS)
        tck_cluster_begin(walk.place, &sums);
    tck_stream_order();
    tck_stream_release(args.run);
    struct tck_turn turn = tck_turn_begin(args.link);
    turn.dead = __syncthreads_or(turn.dead); /* all or none offer, and come to the barriers there */
    const bool begins = !turn.dead;
    const Form form(args, turn);
    if (begins)
        form.offer(walk);
    const struct tck_entry entry = tck_turn_enter(args, turn, form.dirty());
    if (begins) {
        tck_turn_clear(args.link, turn, own, gridDim.x * blockDim.x);
        form.settle(walk);
    }
    if constexpr (ROWS)
        tck_nvls_finish_norm<T>(args, form, walk, &sums);
    else
        tck_nvls_finish_plain<T>(args, form, walk);
    tck_turn_leave(args, turn, entry, form.dirty(), blockIdx.x == 0, start_ns);
}

#define TCK_NVLS_KERNELS(form, type)                                                                                                       \
    extern "C" __global__ void __launch_bounds__(512, 1)                                                                                   \
        tck_nvls_##form##_##type##_plain(const __grid_constant__ struct tck_cuda_args args)                                                \
    {                                                                                                                                      \
        tck_nvls_run<tck_##type, tck_nvls_##form<tck_##type, false>, false>(args);                                                         \
    }                                                                                                                                      \
    extern "C" __global__ void __launch_bounds__(256, 1)                                                                                   \
        tck_nvls_##form##_##type##_norm(const __grid_constant__ struct tck_cuda_args args)                                                 \
    {                                                                                                                                      \
        tck_nvls_run<tck_##type, tck_nvls_##form<tck_##type, true>, true>(args);                                                           \
    }

#define TCK_NVLS_TYPES(form)                                                                                                               \
    TCK_NVLS_KERNELS(form, fp32)                                                                                                           \
    TCK_NVLS_KERNELS(form, fp16)                                                                                                           \
    TCK_NVLS_KERNELS(form, bf16)

TCK_NVLS_TYPES(oneshot)
TCK_NVLS_TYPES(twoshot)
TCK_NVLS_TYPES(reduce)
