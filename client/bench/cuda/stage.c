/*
 * All-reduces of one part over sizes: trtcoll and NCCL in the same processes, one after the other at every size, so that both see the same
 * machine. Largest first: the workspaces grow once.
 */
#include "../server.h"
#include "cuda.h"
#include "nccl_peer.h"
#include "operands.h"

#include <stdio.h>
#include <string.h>

enum { STAGE_S = 90 };

struct stage_slot {
    unsigned char meeting[NCCL_ID_BYTES];
    struct cuda_stage stage; /* as this rank sees it */
};

struct stage {
    struct fleet_rank *rank;
    uint32_t part;
    uint64_t bytes; /* of the operation at hand */
    struct gpu gpu;
    struct operands operands;
    struct nccl *nccl; /* NULL: none */
    struct trtcoll_plan *plan;
    struct trtcoll_all_reduce_desc desc;
    struct trtcoll_run_args args;
    struct tcw_plan_desc epilogue; /* for the kernel behind NCCL */
};

static bool is_direct(uint32_t part)
{
    return part <= PART_FP8;
}

/* ---- the two contestants ---- */

static int enqueue_trtcoll(void *arg)
{
    struct stage *stage = arg;
    /* The ring is longer than what is timed at once: EAGAIN would be a failure. */
    int code = trtcoll_plan_run(stage->plan, &stage->args, stage->gpu.stream, NULL);
    return code == 0 || code == TRTCOLL_ECAPTURE ? code : gpu_complain(&stage->gpu, code, "run");
}

/* What is not fused: the same arithmetic as a kernel of its own. */
static int enqueue_epilogue(struct stage *stage)
{
    const struct operands *operands = &stage->operands;
    void *out[1] = {(void *)(uintptr_t)operands->own_out};
    const void *in[1] = {(const void *)(uintptr_t)operands->own_in};
    const struct tck_run run = {.desc = &stage->epilogue,
                                .plan_id = 1,
                                .strategy = TCW_STRATEGY_NCCL,
                                .tokens = stage->args.tokens,
                                .in = in,
                                .out = out,
                                .residual_in = stage->args.residual_in,
                                .residual_out = stage->args.residual_out,
                                .norm_weight = stage->args.norm_weight,
                                .scale = stage->args.scale,
                                .quant_out = stage->args.quant_out};
    int code = tck_cuda_epilogue_launch(stage->gpu.device, &run, out[0], stage->gpu.stream);
    return code == 0 ? 0 : gpu_fail(&stage->gpu, code, "norm kernel: %s", trtcoll_error_text(code));
}

static int enqueue_nccl(void *arg)
{
    struct stage *stage = arg;
    int code = nccl_sum(stage->nccl, stage->operands.own_in, stage->operands.own_out, stage->bytes / 2);
    return code == 0 && stage->desc.fusion != TRTCOLL_FUSION_NONE ? enqueue_epilogue(stage) : code;
}

static void describe(struct stage *stage)
{
    const float eps = 1e-6f;
    operands_describe(&stage->operands, stage->bytes, &stage->desc, &stage->args);
    stage->desc.lane = is_direct(stage->part) ? TRTCOLL_LANE_DIRECT : TRTCOLL_LANE_SERVED;
    stage->desc.strategy = stage->part == PART_SERVED_NCCL ? TRTCOLL_STRATEGY_NCCL : TRTCOLL_STRATEGY_AUTO;
    stage->desc.flags |= TRTCOLL_GRAPH;
    if (is_direct(stage->part))
        stage->args.flags = TRTCOLL_PDL;
    else if (stage->desc.strategy == TRTCOLL_STRATEGY_NCCL)
        stage->desc.flags &= ~(uint32_t)TRTCOLL_ACC_FP32; /* NCCL's accumulation is its own affair */
    stage->epilogue = (struct tcw_plan_desc){.op = TCW_OP_ALL_REDUCE,
                                             .dtype = TCW_BF16,
                                             .strategy = TCW_STRATEGY_NCCL,
                                             .fusion = (uint16_t)stage->desc.fusion,
                                             .redop = TCW_SUM,
                                             .max_tokens = stage->desc.max_tokens,
                                             .hidden = stage->desc.hidden};
    memcpy(&stage->epilogue.eps_bits, &eps, sizeof(eps));
}

/* ---- one size ---- */

static int time_and_check(struct stage *stage, int (*enqueue)(void *arg), bool graph, bool computing, double *us)
{
    const struct gpu_work work = {.enqueue = enqueue, .arg = stage, .graph = graph, .computing = computing};
    int code = operands_clear(&stage->operands, stage->bytes);
    if (code == 0)
        code = enqueue(stage); /* loads, allocates and connects what the first run must */
    if (code == 0)
        code = gpu_time(&stage->gpu, &work, stage->rank->settings->replays, us);
    return code == 0 ? operands_check(&stage->operands, stage->bytes, enqueue == enqueue_nccl) : code;
}

static int measure_nccl(struct stage *stage, struct cuda_times *times)
{
    int code = 0;
    if (!stage->nccl)
        return 0;
    code = time_and_check(stage, enqueue_nccl, true, false, &times->nccl);
    if (code == 0 && !is_direct(stage->part))
        code = time_and_check(stage, enqueue_nccl, true, true, &times->nccl_computing);
    return code;
}

/* Served, captured: where that is possible. */
static int measure_captured(struct stage *stage, struct cuda_times *times)
{
    int code = stage->desc.flags & TRTCOLL_GRAPH ? time_and_check(stage, enqueue_trtcoll, true, false, &times->ours_captured) : 0;
    return code == TRTCOLL_ECAPTURE ? 0 : code;
}

static int measure_trtcoll(struct stage *stage, struct cuda_times *times)
{
    struct trtcoll_plan_info info = {.size = sizeof(info)};
    const bool direct = is_direct(stage->part);
    struct trtcoll_group_info group = {.size = sizeof(group)};
    /* Gives back what graphs of the size before held: while an executor keeps captured requests, it enqueues nothing ahead. */
    int code = trtcoll_group_status(stage->rank->group, &group);
    if (code == 0)
        code = time_and_check(stage, enqueue_trtcoll, direct, false, &times->ours);
    if (code == 0 && !direct)
        code = time_and_check(stage, enqueue_trtcoll, false, true, &times->ours_computing);
    if (code == 0 && !direct)
        code = measure_captured(stage, times);
    if (code == 0 && trtcoll_plan_info(stage->plan, &info) == 0) {
        times->strategy = info.strategy;
        times->lane = info.lane;
        if (info.staged_runs > 0)
            code = gpu_fail(&stage->gpu, TRTCOLL_EINTERNAL, "%llu runs were copied", (unsigned long long)info.staged_runs);
    }
    return code;
}

/* All ranks get the same answer. */
static int make_plan(struct stage *stage)
{
    int code = trtcoll_plan_create_all_reduce(stage->rank->group, &stage->desc, &stage->plan);
    if (code == TRTCOLL_ENOTSUP && !is_direct(stage->part)) {
        stage->desc.flags &= ~(uint32_t)TRTCOLL_GRAPH;
        code = trtcoll_plan_create_all_reduce(stage->rank->group, &stage->desc, &stage->plan);
    }
    return code == 0 ? 0 : gpu_complain(&stage->gpu, code, "plan");
}

/* What the quantisation is compared with: the same without, in the same processes. */
static int measure_norm(struct stage *stage, struct cuda_times *times)
{
    stage->operands.part = PART_NORM;
    describe(stage);
    int code = make_plan(stage);
    if (code == 0) {
        code = time_and_check(stage, enqueue_trtcoll, true, false, &times->norm);
        trtcoll_plan_release(stage->plan);
    }
    stage->operands.part = stage->part;
    describe(stage);
    return code;
}

/* What calls cost their thread. */
static int measure_host(struct stage *stage, struct cuda_stage *result)
{
    const struct gpu_work ours = {.enqueue = enqueue_trtcoll, .arg = stage}, theirs = {.enqueue = enqueue_nccl, .arg = stage};
    double p99_us;
    int code = gpu_time_launch(&stage->gpu, &result->launch_mean_us);
    if (code == 0)
        code = gpu_time_host(&stage->gpu, &ours, &result->host_mean_us, &result->host_p99_us);
    if (code == 0 && stage->nccl)
        code = gpu_time_host(&stage->gpu, &theirs, &result->nccl_host_mean_us, &p99_us);
    return code;
}

/* A plan that is refused is refused for all ranks: the other sizes go on. */
static int measure_size(struct stage *stage, uint64_t bytes, struct cuda_stage *result, uint32_t at)
{
    struct cuda_times *times = &result->times[at];
    stage->bytes = bytes;
    describe(stage);
    int code = measure_nccl(stage, times);
    if (code != 0)
        return code;
    code = stage->part == PART_FP8 ? measure_norm(stage, times) : 0;
    if (code == 0)
        code = make_plan(stage);
    if (code == TRTCOLL_ENOTSUP || code == TRTCOLL_ENOMEM || code == TRTCOLL_EQUOTA)
        return 0;
    if (code != 0)
        return code;
    code = measure_trtcoll(stage, times);
    if (code == 0 && at == 0) /* the smallest, which comes last */
        code = measure_host(stage, result);
    trtcoll_plan_release(stage->plan);
    return code;
}

/* ---- one rank ---- */

static int stage_body(struct fleet_rank *rank)
{
    struct stage_slot *slot = rank->slot, *first = fleet_slot(rank->fleet, 0);
    struct stage stage = {.rank = rank, .part = *(const uint32_t *)rank->arg};
    struct cuda_stage *result = &slot->stage;
    result->count = figures_sizes(stage.part, rank->settings->low, rank->settings->high, result->sizes);
    int code = gpu_open(&stage.gpu, rank, result->note);
    if (code == 0)
        code = operands_create(&stage.operands, &stage.gpu, stage.part, result->sizes[result->count - 1]);
    if (code == 0)
        code = gpu_barrier(&stage.gpu);
    if (code == 0)
        stage.nccl = nccl_open(&stage.gpu, first->meeting, &result->setup_ms);
    for (uint32_t i = result->count; i-- > 0 && code == 0;)
        code = measure_size(&stage, result->sizes[i], result, i);
    if (code == 0)
        code = gpu_synchronize(&stage.gpu);
    if (code == 0)
        result->measured = true;
    return code; /* the process ends here, and everything with it */
}

/* ---- all ranks ---- */

static void keep_slower(double *value, double other)
{
    *value = other > *value ? other : *value;
}

/* The slowest rank counts; what a rank has not measured, nobody has. */
static void keep_slowest(double *value, double other)
{
    *value = *value > 0 && other > 0 ? (other > *value ? other : *value) : 0;
}

static void collect(struct fleet *fleet, uint32_t ranks, struct cuda_stage *result)
{
    *result = ((struct stage_slot *)fleet_slot(fleet, 0))->stage;
    for (uint32_t rank = 1; rank < ranks; rank++) {
        const struct cuda_stage *stage = &((struct stage_slot *)fleet_slot(fleet, rank))->stage;
        for (uint32_t i = 0; i < result->count; i++) {
            keep_slowest(&result->times[i].nccl, stage->times[i].nccl);
            keep_slowest(&result->times[i].nccl_computing, stage->times[i].nccl_computing);
            keep_slowest(&result->times[i].ours, stage->times[i].ours);
            keep_slowest(&result->times[i].ours_computing, stage->times[i].ours_computing);
            keep_slowest(&result->times[i].ours_captured, stage->times[i].ours_captured);
            keep_slowest(&result->times[i].norm, stage->times[i].norm);
        }
        keep_slower(&result->host_mean_us, stage->host_mean_us);
        keep_slower(&result->host_p99_us, stage->host_p99_us);
        keep_slower(&result->nccl_host_mean_us, stage->nccl_host_mean_us);
        keep_slower(&result->launch_mean_us, stage->launch_mean_us);
        keep_slower(&result->setup_ms, stage->setup_ms);
        result->measured = result->measured && stage->measured;
        if (!result->note[0])
            memcpy(result->note, stage->note, sizeof(result->note));
    }
}

int cuda_stage_measure(struct settings *settings, uint32_t part, struct cuda_stage *stage)
{
    struct server server;
    settings->configured_group = false;
    int status = server_start(settings, &server);
    if (status == 0) {
        struct fleet *fleet = fleet_start(settings, settings->ranks, sizeof(struct stage_slot), stage_body, &part);
        status = fleet ? fleet_wait(fleet, STAGE_S) : EXIT_FAILED;
        if (fleet)
            collect(fleet, settings->ranks, stage);
        fleet_destroy(fleet);
        if (status != 0)
            server_show_log(&server);
    }
    if (status != 0 && !stage->note[0])
        snprintf(stage->note, sizeof(stage->note), "%s", status == EXIT_NO_DAEMON ? "the daemon did not start" : "a rank did not finish");
    int stopped = server_stop(&server);
    if (stopped != 0 && !stage->note[0])
        snprintf(stage->note, sizeof(stage->note), "the daemon did not end properly");
    return status != 0 ? status : stopped;
}
