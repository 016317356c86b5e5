/*
 * How long engines wait when they are started anew: all clients of a group are killed, and as many new ones attach, join, and run their
 * first all-reduce. The daemon and its communicators stay. Beside it: NCCL from nothing, in process.
 */
#include "../server.h"
#include "cuda.h"
#include "nccl_peer.h"
#include "operands.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { ROUNDS = 6, ROUND_S = 60, BYTES = 16 * FIGURES_ROW_BYTES };

struct restart_slot {
    unsigned char meeting[NCCL_ID_BYTES];
    _Atomic uint32_t done;
    double context_ms, total_ms, join_ms, alloc_ms, plan_ms, run_ms;
    char note[CUDA_NOTE_BYTES];
};

struct restart {
    struct gpu gpu;
    struct operands operands;
    struct trtcoll_all_reduce_desc desc;
    struct trtcoll_run_args args;
};

static double since_ms(uint64_t start)
{
    return (double)(loop_now_ns() - start) / 1e6;
}

/* All ranks begin together: with contexts on their GPUs, and nothing else. */
static int begin(struct restart *restart, struct fleet_rank *rank, struct restart_slot *slot)
{
    uint64_t start = loop_now_ns();
    int code = gpu_open(&restart->gpu, rank, slot->note);
    slot->context_ms = since_ms(start);
    return code == 0 ? gpu_barrier(&restart->gpu) : code;
}

/* Milliseconds since *last, which becomes now. */
static double lap(uint64_t *last)
{
    uint64_t now = loop_now_ns();
    double ms = (double)(now - *last) / 1e6;
    *last = now;
    return ms;
}

/* From a member of the group to a result. */
static int first_run(struct restart *restart, struct fleet_rank *rank, trtcoll_lane lane, struct restart_slot *slot)
{
    struct trtcoll_plan *plan = NULL;
    uint64_t last = loop_now_ns();
    int code = operands_create(&restart->operands, &restart->gpu, PART_SERVED, BYTES);
    if (code != 0)
        return code;
    slot->alloc_ms = lap(&last);
    operands_describe(&restart->operands, BYTES, &restart->desc, &restart->args);
    restart->desc.lane = lane;
    code = trtcoll_plan_create_all_reduce(rank->group, &restart->desc, &plan);
    slot->plan_ms = lap(&last);
    if (code == 0)
        code = trtcoll_plan_run(plan, &restart->args, restart->gpu.stream, NULL);
    if (code != 0)
        return gpu_complain(&restart->gpu, code, "first run");
    code = gpu_synchronize(&restart->gpu);
    slot->run_ms = lap(&last);
    return code;
}

static int restart_body(struct fleet_rank *rank)
{
    const trtcoll_lane lane = *(const trtcoll_lane *)rank->arg;
    struct restart_slot *slot = rank->slot;
    struct restart restart;
    int code = begin(&restart, rank, slot);
    if (code != 0)
        return code;
    uint64_t start = loop_now_ns();
    code = fleet_attach(rank);
    if (code == 0)
        code = fleet_enter(rank, BENCH_GROUP);
    if (code != 0)
        return gpu_complain(&restart.gpu, code, "group");
    slot->join_ms = since_ms(start);
    code = first_run(&restart, rank, lane, slot);
    if (code != 0)
        return code;
    slot->total_ms = since_ms(start);
    code = operands_check(&restart.operands, BYTES, false);
    atomic_store(&slot->done, code == 0);
    if (code == 0)
        fleet_stay();
    return code;
}

static int nccl_body(struct fleet_rank *rank)
{
    struct restart_slot *slot = rank->slot;
    struct restart restart;
    double setup_ms;
    int code = begin(&restart, rank, slot);
    if (code == 0)
        code = gpu_allocate(&restart.gpu, BYTES, &restart.operands.own_in);
    if (code == 0)
        code = gpu_allocate(&restart.gpu, BYTES, &restart.operands.own_out);
    if (code != 0)
        return code;
    uint64_t start = loop_now_ns();
    struct nccl *nccl = nccl_open(&restart.gpu, ((struct restart_slot *)fleet_slot(rank->fleet, 0))->meeting, &setup_ms);
    if (!nccl)
        return TRTCOLL_EDEVICE;
    code = nccl_sum(nccl, restart.operands.own_in, restart.operands.own_out, BYTES / 2);
    if (code == 0)
        code = gpu_synchronize(&restart.gpu);
    slot->total_ms = since_ms(start);
    atomic_store(&slot->done, code == 0);
    if (code == 0)
        fleet_stay();
    return code;
}

static bool all_done(struct fleet *fleet, uint32_t ranks)
{
    for (uint32_t rank = 0; rank < ranks; rank++)
        if (!atomic_load(&((struct restart_slot *)fleet_slot(fleet, rank))->done))
            return false;
    return true;
}

/* Processes of their own until all are done, then SIGKILL for all. False: not all were done. */
static bool play(const struct settings *settings, fleet_body body, trtcoll_lane lane, struct restart_slot *slowest, char *note)
{
    struct fleet *fleet = fleet_start_bare(settings, settings->ranks, sizeof(struct restart_slot), body, &lane);
    bool done = false;
    memset(slowest, 0, sizeof(*slowest));
    for (uint64_t deadline = loop_now_ns() + ROUND_S * 1000000000ull; fleet && !done && loop_now_ns() < deadline;) {
        if (fleet_ended(fleet) || bench_interrupted())
            break;
        usleep(1000);
        done = all_done(fleet, settings->ranks);
    }
    for (uint32_t rank = 0; fleet && rank < settings->ranks; rank++) {
        const struct restart_slot *slot = fleet_slot(fleet, rank);
        if (slot->total_ms > slowest->total_ms) {
            slowest->total_ms = slot->total_ms;
            slowest->join_ms = slot->join_ms;
            slowest->alloc_ms = slot->alloc_ms;
            slowest->plan_ms = slot->plan_ms;
            slowest->run_ms = slot->run_ms;
        }
        slowest->context_ms = slot->context_ms > slowest->context_ms ? slot->context_ms : slowest->context_ms;
        if (slot->note[0] && !note[0])
            memcpy(note, slot->note, CUDA_NOTE_BYTES);
    }
    fleet_destroy(fleet); /* kills */
    if (!done && !note[0])
        snprintf(note, CUDA_NOTE_BYTES, "a rank did not finish its first all-reduce");
    return done;
}

static bool play_rounds(const struct settings *settings, uint32_t at, struct cuda_restart *restart)
{
    const trtcoll_lane lanes[CUDA_LANES] = {TRTCOLL_LANE_DIRECT, TRTCOLL_LANE_SERVED};
    double totals[ROUNDS], contexts[ROUNDS], joins[ROUNDS], allocs[ROUNDS], plans[ROUNDS], runs[ROUNDS];
    struct restart_slot slowest;
    for (uint32_t round = 0; round < ROUNDS; round++) {
        if (!play(settings, restart_body, lanes[at], &slowest, restart->note))
            return false;
        totals[round] = slowest.total_ms;
        joins[round] = slowest.join_ms;
        allocs[round] = slowest.alloc_ms;
        plans[round] = slowest.plan_ms;
        runs[round] = slowest.run_ms;
        contexts[round] = slowest.context_ms;
    }
    restart->cold_ms[at] = totals[0];
    restart->warm_ms[at] = figures_quantile(totals + 1, ROUNDS - 1, 0.5);
    restart->join_ms[at] = figures_quantile(joins + 1, ROUNDS - 1, 0.5);
    restart->alloc_ms[at] = figures_quantile(allocs + 1, ROUNDS - 1, 0.5);
    restart->plan_ms[at] = figures_quantile(plans + 1, ROUNDS - 1, 0.5);
    restart->run_ms[at] = figures_quantile(runs + 1, ROUNDS - 1, 0.5);
    restart->context_ms = figures_quantile(contexts + 1, ROUNDS - 1, 0.5);
    return true;
}

int cuda_restart_measure(struct settings *settings, struct cuda_restart *restart)
{
    struct server server;
    struct restart_slot slowest;
    settings->configured_group = true;
    int status = server_start(settings, &server);
    bool started = status == 0, good = started;
    if (!started)
        snprintf(restart->note, sizeof(restart->note), "the daemon did not start");
    for (uint32_t at = CUDA_LANES; started && at-- > 0;) /* served first: its first time is with the communicator that was prepared */
        good = play_rounds(settings, at, restart) && good;
    if (started && play(settings, nccl_body, TRTCOLL_LANE_AUTO, &slowest, restart->note))
        restart->nccl_ms = slowest.total_ms;
    if (started && !good)
        server_show_log(&server);
    restart->measured = good && restart->nccl_ms > 0;
    int stopped = server_stop(&server);
    if (status != 0)
        return status;
    return good ? stopped : EXIT_FAILED;
}
