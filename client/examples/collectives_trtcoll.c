/*
 * This is all that an engine needs of trtcoll for tensor parallelism: join a group, make two plans, run them.
 *
 * Whether the group's devices are host devices or GPUs is the daemon's configuration. This model computes on the processor: on GPUs, what
 * the collectives work on has a twin in memory of the GPU, and is copied there and back around each.
 */
#include "collectives_trtcoll.h"
#include "weights.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { ALLOCATIONS = 16 };

/* Memory as the model sees it, and as the collectives do; on host devices the same. */
struct twin {
    char *here, *there;
    size_t bytes;
};

struct lane {
    struct collectives base;
    struct membership *membership;
    struct trtcoll_plan *reduce_norm;
    struct trtcoll_plan *gather;
    uint32_t count;
    struct twin twins[ALLOCATIONS];
};

int membership_open(struct membership *membership, const char *socket_path, const char *group, uint32_t rank)
{
    struct trtcoll_ctx_options options = TRTCOLL_CTX_OPTIONS_INIT;
    struct trtcoll_group_info info = {.size = sizeof(info)};
    *membership = (struct membership){0};
    options.socket_path = socket_path;
    options.name = "tp_decode";
    int code = trtcoll_ctx_open(&options, &membership->ctx);
    if (code == 0)
        code = trtcoll_group_join(membership->ctx, group, (int)rank, 0, &membership->group);
    if (code == 0)
        code = trtcoll_group_status(membership->group, &info);
    if (code == 0 && info.device_kind == TRTCOLL_DEVICE_CUDA)
        code = gpu_open(info.device_uuid, &membership->gpu);
    membership->rank = info.rank;
    membership->nranks = info.nranks;
    return code;
}

void membership_close(struct membership *membership)
{
    trtcoll_ctx_close(membership->ctx); /* leaves the group too */
    gpu_close(membership->gpu);
    *membership = (struct membership){0};
}

/* Memory of the daemon, which its executors can reach: served runs need no copies. The direct lane would take any pointer. */
static void *lane_allocate(struct collectives *self, size_t bytes)
{
    struct lane *lane = (struct lane *)self;
    struct twin *twin = &lane->twins[lane->count];
    void *there;
    if (lane->count == ALLOCATIONS || trtcoll_alloc(lane->membership->ctx, bytes, &there) != 0)
        return NULL;
    *twin = (struct twin){.here = lane->membership->gpu ? calloc(1, bytes) : there, .there = there, .bytes = bytes};
    if (!twin->here) {
        trtcoll_free(lane->membership->ctx, there);
        return NULL;
    }
    lane->count++;
    return twin->here;
}

/* Where the collectives find what the model has here. */
static void *there_of(const struct lane *lane, const void *here)
{
    for (uint32_t i = 0; i < lane->count; i++) {
        const struct twin *twin = &lane->twins[i];
        if ((const char *)here >= twin->here && (const char *)here < twin->here + twin->bytes)
            return twin->there + ((const char *)here - twin->here);
    }
    return NULL; /* which trtcoll refuses */
}

static int upload(struct lane *lane, const void *here, size_t bytes)
{
    struct gpu *gpu = lane->membership->gpu;
    return gpu ? gpu_upload(gpu, there_of(lane, here), here, bytes) : 0;
}

static int download(struct lane *lane, void *here, size_t bytes)
{
    struct gpu *gpu = lane->membership->gpu;
    return gpu ? gpu_download(gpu, here, there_of(lane, here), bytes) : 0;
}

/* Without an event the call returns on host devices when the result is there, on both lanes. On GPUs it only enqueues, and an engine would
 * go on enqueuing; this model wants the result now. */
static int run(struct lane *lane, struct trtcoll_plan *plan, const struct trtcoll_run_args *args)
{
    struct gpu *gpu = lane->membership->gpu;
    struct trtcoll_event *event;
    if (!gpu)
        return trtcoll_plan_run(plan, args, NULL, NULL);
    int code = trtcoll_plan_run(plan, args, gpu_stream(gpu), &event);
    if (code != 0)
        return code;
    code = trtcoll_event_wait(event, UINT32_MAX);
    trtcoll_event_put(event);
    return code;
}

static int timed_run(struct collectives *self, struct trtcoll_plan *plan, const struct trtcoll_run_args *args)
{
    struct timespec start, end;
    clock_gettime(CLOCK_MONOTONIC, &start);
    int code = run((struct lane *)self, plan, args);
    clock_gettime(CLOCK_MONOTONIC, &end);
    self->calls++;
    self->wait_ns += (uint64_t)((end.tv_sec - start.tv_sec) * 1000000000 + (end.tv_nsec - start.tv_nsec));
    return code;
}

static int lane_reduce_norm(struct collectives *self, const bf16 *partial, bf16 *residual, const bf16 *weight, bf16 *normed,
                            uint32_t tokens)
{
    struct lane *lane = (struct lane *)self;
    const size_t row = HIDDEN * sizeof(bf16), all = tokens * row;
    struct trtcoll_run_args args = TRTCOLL_RUN_ARGS_INIT;
    args.tokens = tokens;
    args.in = there_of(lane, partial);
    args.residual_in = there_of(lane, residual);
    args.residual_out = there_of(lane, residual);
    args.norm_weight = there_of(lane, weight);
    args.out = there_of(lane, normed);
    int code = upload(lane, partial, all);
    if (code == 0)
        code = upload(lane, residual, all);
    if (code == 0)
        code = upload(lane, weight, row);
    if (code == 0)
        code = timed_run(self, lane->reduce_norm, &args);
    if (code == 0)
        code = download(lane, residual, all);
    return code == 0 ? download(lane, normed, all) : code;
}

static int lane_gather_logits(struct collectives *self, const float *mine, float *all)
{
    struct lane *lane = (struct lane *)self;
    struct trtcoll_run_args args = TRTCOLL_RUN_ARGS_INIT;
    args.in = there_of(lane, mine);
    args.out = there_of(lane, all);
    int code = upload(lane, mine, VOCABULARY / self->nranks * sizeof(*mine));
    if (code == 0)
        code = timed_run(self, lane->gather, &args);
    return code == 0 ? download(lane, all, VOCABULARY * sizeof(*all)) : code;
}

static void lane_destroy(struct collectives *self)
{
    struct lane *lane = (struct lane *)self;
    trtcoll_plan_release(lane->reduce_norm);
    trtcoll_plan_release(lane->gather);
    for (uint32_t i = 0; i < lane->count; i++) {
        trtcoll_free(lane->membership->ctx, lane->twins[i].there);
        if (lane->membership->gpu)
            free(lane->twins[i].here);
    }
    free(lane);
}

static int make_plans(struct lane *lane, trtcoll_lane which)
{
    struct trtcoll_all_reduce_desc reduce = TRTCOLL_ALL_REDUCE_DESC_INIT;
    reduce.dtype = TRTCOLL_BF16;
    reduce.fusion = TRTCOLL_FUSION_RESIDUAL_RMS_NORM;
    reduce.lane = which;
    reduce.eps = NORM_EPS;
    reduce.max_tokens = CHUNK;
    reduce.hidden = HIDDEN;
    int code = trtcoll_plan_create_all_reduce(lane->membership->group, &reduce, &lane->reduce_norm);
    if (code != 0)
        return code;

    struct trtcoll_tensor logits = {.present = 1, .dtype = TRTCOLL_FP32, .ndim = 1, .shape = {VOCABULARY / lane->base.nranks}};
    struct trtcoll_gather_desc gather = TRTCOLL_GATHER_DESC_INIT;
    gather.lane = lane->membership->gpu ? TRTCOLL_LANE_AUTO : which; /* on GPUs the daemon's executors move data, whatever the lane */
    gather.tensors = &logits;
    return trtcoll_plan_create_all_gather(lane->membership->group, &gather, &lane->gather);
}

int collectives_create_lane(struct membership *membership, trtcoll_lane which, struct collectives **collectives)
{
    struct lane *lane = calloc(1, sizeof(*lane));
    if (!lane)
        return TRTCOLL_ENOMEM;
    lane->base = (struct collectives){.rank = membership->rank,
                                      .nranks = membership->nranks,
                                      .allocate = lane_allocate,
                                      .reduce_norm = lane_reduce_norm,
                                      .gather_logits = lane_gather_logits,
                                      .destroy = lane_destroy};
    lane->membership = membership;
    int code = make_plans(lane, which);
    if (code == 0)
        *collectives = &lane->base;
    else
        lane_destroy(&lane->base);
    return code;
}

int collectives_lane_info(struct collectives *collectives, char *decision, size_t size, uint64_t *staged_runs)
{
    struct lane *lane = (struct lane *)collectives;
    struct trtcoll_plan_info reduce = {.size = sizeof(reduce)}, gather = {.size = sizeof(gather)};
    int code = trtcoll_plan_info(lane->reduce_norm, &reduce);
    if (code == 0)
        code = trtcoll_plan_info(lane->gather, &gather);
    if (code != 0)
        return code;
    snprintf(decision, size, "%s", reduce.reason);
    *staged_runs = reduce.staged_runs + gather.staged_runs;
    return 0;
}
