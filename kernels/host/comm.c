#include "host/comm_private.h"
#include "host/loops.h"
#include "host/operations.h"
#include "host/step.h"

#include <tcw/machine.h>

#include <stdlib.h>
#include <sys/mman.h>

#if defined(__SSE2__)
#include <immintrin.h>
#endif

static const _Atomic uint64_t never;

/* First touch costs a fault per page: take those that small messages use now, not in the first run. */
static void prefault(const struct tck_comm *comm)
{
#ifdef MADV_POPULATE_WRITE
    size_t bytes = comm->pitch < 65536 ? comm->pitch : 65536;
    for (uint32_t rank = 0; rank < comm->nranks; rank++) {
        (void)madvise(comm->headers[rank], TCK_HEADER_BYTES, MADV_POPULATE_WRITE);
        for (int i = 0; i < TCK_BUFFERS; i++)
            (void)madvise(comm->base[rank] + (uint64_t)i * comm->pitch, bytes, MADV_POPULATE_WRITE);
    }
#else
    (void)comm;
#endif
}

int tck_comm_create(const struct tck_comm_params *params, struct tck_comm **out)
{
    if (!params->nranks || params->nranks > TCK_HOST_MAX_RANKS || params->rank >= params->nranks ||
        params->workspace_bytes < TCK_HEADER_BYTES + TCK_BUFFERS * 16384)
        return TCW_EINVAL;
    for (uint32_t i = 0; i < params->nranks; i++)
        if (!params->workspaces[i] || (uintptr_t)params->workspaces[i] % 4096)
            return TCW_EINVAL;
    struct tck_comm *comm = aligned_alloc(TCW_TWO_LINES, (sizeof(*comm) + TCW_TWO_LINES - 1) / TCW_TWO_LINES * TCW_TWO_LINES);
    if (!comm)
        return TCW_ENOMEM;
    *comm = (struct tck_comm){
        .rank = params->rank,
        .nranks = params->nranks,
        .pitch = tck_layout_pitch(params->workspace_bytes),
        .capacity = tck_layout_capacity(params->workspace_bytes),
        .loops = tck_loops_best(),
        .abort_word = params->abort_word ? params->abort_word : &never,
        .deadline_ns = params->deadline_ns ? params->deadline_ns : &never,
        .missing_ranks = params->missing_ranks,
        .spin_ns = tcw_crowded(params->nranks) ? 0 : (uint64_t)params->spin_us * 1000,
        .poll = params->poll,
        .poll_arg = params->poll_arg,
        .fault = {.rank = TCW_NOBODY},
    };
    for (uint32_t i = 0; i < params->nranks; i++) {
        comm->headers[i] = params->workspaces[i];
        comm->base[i] = (unsigned char *)params->workspaces[i] + TCK_HEADER_BYTES;
    }
    prefault(comm);
    *out = comm;
    return 0;
}

void tck_comm_destroy(struct tck_comm *comm)
{
    free(comm);
}

static int dispatch(struct tck_comm *comm)
{
    switch (comm->run->desc->op) {
    case TCW_OP_NOP:
        return 0;
    case TCW_OP_ALL_REDUCE:
        return tck_host_all_reduce(comm);
    case TCW_OP_ALL_GATHER:
        return tck_host_all_gather(comm);
    case TCW_OP_REDUCE_SCATTER:
        return tck_host_reduce_scatter(comm);
    case TCW_OP_ALL_TO_ALL:
        return tck_host_all_to_all(comm);
    case TCW_OP_BROADCAST:
        return tck_host_broadcast(comm);
    case TCW_OP_BARRIER:
        return tck_host_barrier(comm);
    case TCW_OP_UB_FINALIZE:
        return tck_host_finalize(comm);
    default:
        return TCW_ENOSYS;
    }
}

/* The results must not depend on what the application did to the floating-point environment (flush to zero, rounding, traps). */
struct fp_state {
    unsigned control;
};

static inline struct fp_state fp_enter(void)
{
    struct fp_state state = {0};
#if defined(__SSE2__)
    state.control = _mm_getcsr();
    if ((state.control & ~0x3fu) != 0x1f80u)
        _mm_setcsr(0x1f80u);
#endif
    return state;
}

static inline void fp_leave(struct fp_state state)
{
#if defined(__SSE2__)
    if ((state.control & ~0x3fu) != 0x1f80u)
        _mm_setcsr(state.control);
#else
    (void)state;
#endif
}

int tck_comm_run(struct tck_comm *comm, const struct tck_run *run, struct tck_fault *fault)
{
    int code = comm->fault.code;
    if (!code) {
        uint64_t word = atomic_load_explicit(comm->abort_word, memory_order_acquire);
        if (word)
            code = tck_comm_fail(comm, tcw_abort_code(word), tcw_abort_culprit(word));
    }
    if (!code) {
        struct fp_state state = fp_enter();
        comm->run = run;
        comm->waited_ns = 0;
        comm->under_way = !run->under_way;
        code = dispatch(comm);
        comm->run = NULL;
        fp_leave(state);
    }
    if (code) {
        if (!comm->fault.code)
            (void)tck_comm_fail(comm, code, TCW_NOBODY);
        *fault = comm->fault;
        return code;
    }
    atomic_store_explicit(&comm->headers[comm->rank]->runs, ++comm->runs, memory_order_relaxed);
    return 0;
}
