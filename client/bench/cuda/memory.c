/*
 * What a second engine on the same group shapes costs in memory of the GPU. Every engine tells how much is free before and after it has
 * what it needs of trtcoll; the first has the GPU to itself, and even the daemon comes after it.
 */
#include "../server.h"
#include "cuda.h"
#include "operands.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { ENGINES = 2, STEP_S = 60, BYTES = 512 * FIGURES_ROW_BYTES };
enum { REFRESH_US = 300000 }; /* the daemon writes its figures ten times a second */

/* Free bytes of this rank's GPU. */
struct memory_slot {
    uint64_t alone;    /* with a context, without a daemon (of the first engine) */
    uint64_t attached; /* attached, and the executor is there */
    uint64_t ready;    /* with plans of both lanes, used */
    _Atomic uint32_t done;
    char note[CUDA_NOTE_BYTES];
};

/* A group of this rank only: ready as soon as its executor is. */
static int await_executor(struct gpu *gpu)
{
    struct trtcoll_group *alone;
    char name[64];
    snprintf(name, sizeof(name), "bench-alone-%d", (int)getpid());
    int code = trtcoll_group_create(gpu->rank->ctx, name, 1, 0, 0, &alone);
    return code == 0 ? 0 : gpu_complain(gpu, code, "group of one");
}

static int use(struct gpu *gpu, struct operands *operands, trtcoll_lane lane, uint32_t strategy)
{
    struct trtcoll_all_reduce_desc desc;
    struct trtcoll_run_args args;
    struct trtcoll_plan *plan;
    operands_describe(operands, BYTES, &desc, &args);
    desc.lane = lane;
    desc.strategy = strategy;
    desc.flags = 0;
    int code = trtcoll_plan_create_all_reduce(gpu->rank->group, &desc, &plan);
    if (code == 0)
        code = trtcoll_plan_run(plan, &args, gpu->stream, NULL);
    if (code != 0)
        return gpu_complain(gpu, code, lane == TRTCOLL_LANE_DIRECT ? "direct lane" : "served lane");
    code = gpu_synchronize(gpu);
    return code == 0 ? operands_check(operands, BYTES, false) : code;
}

static int work(struct gpu *gpu, struct memory_slot *slot)
{
    struct operands operands;
    int code = fleet_attach(gpu->rank);
    if (code == 0)
        code = await_executor(gpu);
    if (code == 0)
        code = operands_create(&operands, gpu, PART_SERVED, BYTES); /* the engine's own, not trtcoll's */
    if (code == 0)
        code = gpu_barrier(gpu);
    slot->attached = gpu_free_bytes(gpu);
    if (code == 0)
        code = fleet_enter(gpu->rank, NULL);
    if (code == 0)
        code = use(gpu, &operands, TRTCOLL_LANE_DIRECT, TRTCOLL_STRATEGY_AUTO);
    if (code == 0)
        code = use(gpu, &operands, TRTCOLL_LANE_SERVED, TRTCOLL_STRATEGY_NCCL);
    if (code == 0)
        code = gpu_barrier(gpu);
    slot->ready = gpu_free_bytes(gpu);
    return code;
}

static int memory_body(struct fleet_rank *rank)
{
    struct memory_slot *slot = rank->slot;
    struct gpu gpu;
    int code = gpu_open(&gpu, rank, slot->note);
    if (code != 0)
        return code;
    slot->alone = gpu_free_bytes(&gpu);
    fleet_ready(rank);
    code = work(&gpu, slot);
    atomic_store(&slot->done, code == 0);
    if (code == 0)
        fleet_stay(); /* the other engine wants to find this one */
    return code;
}

static bool await_done(struct fleet *fleet, uint32_t ranks)
{
    for (uint64_t deadline = loop_now_ns() + STEP_S * 1000000000ull; loop_now_ns() < deadline && !bench_interrupted(); usleep(1000)) {
        uint32_t done = 0;
        for (uint32_t rank = 0; rank < ranks; rank++)
            done += atomic_load(&((struct memory_slot *)fleet_slot(fleet, rank))->done);
        if (done == ranks)
            return true;
        if (fleet_ended(fleet))
            break;
    }
    return false;
}

static void keep_note(struct fleet *fleet, uint32_t ranks, char *note)
{
    for (uint32_t rank = 0; rank < ranks && !note[0]; rank++)
        memcpy(note, ((struct memory_slot *)fleet_slot(fleet, rank))->note, CUDA_NOTE_BYTES);
    if (!note[0])
        snprintf(note, CUDA_NOTE_BYTES, "a rank did not come so far");
}

/* What the daemon says of it. */
static void ask_ctl(const struct server *server, char *text)
{
    usleep(REFRESH_US);
    server_ctl(server, "memory", text, CUDA_TEXT_BYTES);
}

static uint64_t less(uint64_t before, uint64_t after)
{
    return before > after ? before - after : 0;
}

/* Of the GPU where it is most. */
static void collect(struct fleet *const *engines, uint32_t ranks, struct cuda_memory *memory)
{
    for (uint32_t rank = 0; rank < ranks; rank++) {
        const struct memory_slot *one = fleet_slot(engines[0], rank), *two = fleet_slot(engines[1], rank);
        uint64_t executor = less(one->alone, one->attached + 4ull * BYTES); /* its own buffers */
        uint64_t first = less(one->attached, one->ready), second = less(two->attached, two->ready);
        memory->executor = executor > memory->executor ? executor : memory->executor;
        memory->first = first > memory->first ? first : memory->first;
        memory->second = second > memory->second ? second : memory->second;
    }
    memory->measured = memory->first > 0;
    if (!memory->measured)
        snprintf(memory->note, sizeof(memory->note), "the driver does not tell what other processes hold");
}

static int play(struct settings *settings, struct server *server, struct fleet **engines, struct cuda_memory *memory)
{
    int status = 0;
    for (uint32_t i = 0; i < ENGINES; i++) {
        /* The address of the socket is known to processes that are forked before there is one. */
        engines[i] = fleet_start_bare(settings, settings->ranks, sizeof(struct memory_slot), memory_body, NULL);
        bool good = engines[i] && fleet_await_ready(engines[i], STEP_S);
        if (good && i == 0 && (status = server_launch(settings, server)) != 0) {
            snprintf(memory->note, sizeof(memory->note), "the daemon did not start");
            return status;
        }
        if (good)
            fleet_release(engines[i]);
        if (!good || !await_done(engines[i], settings->ranks)) {
            if (engines[i])
                keep_note(engines[i], settings->ranks, memory->note);
            return EXIT_FAILED;
        }
    }
    ask_ctl(server, memory->ctl);
    collect(engines, settings->ranks, memory);
    return 0;
}

int cuda_memory_measure(struct settings *settings, struct cuda_memory *memory)
{
    struct fleet *engines[ENGINES] = {NULL};
    struct server server;
    settings->configured_group = false;
    int status = server_prepare(settings, &server);
    if (status == 0)
        status = play(settings, &server, engines, memory);
    if (status == EXIT_FAILED && server.pid > 0)
        server_show_log(&server);
    for (uint32_t i = 0; i < ENGINES; i++)
        fleet_destroy(engines[i]);
    int stopped = server_stop(&server);
    return status != 0 ? status : stopped;
}
