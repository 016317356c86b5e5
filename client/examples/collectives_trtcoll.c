/*
 * This is all that an engine needs of trtcoll for tensor parallelism: join a group, make two plans, run them.
 */
#include "collectives_trtcoll.h"
#include "weights.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { ALLOCATIONS = 16 };

struct lane {
    struct collectives base;
    struct membership *membership;
    struct trtcoll_plan *reduce_norm;
    struct trtcoll_plan *gather;
    uint32_t count;
    void *allocations[ALLOCATIONS];
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
    membership->rank = info.rank;
    membership->nranks = info.nranks;
    return code;
}

void membership_close(struct membership *membership)
{
    trtcoll_ctx_close(membership->ctx); /* leaves the group too */
    *membership = (struct membership){0};
}

/* Memory of the daemon, which its executors can reach: served runs need no copies. The direct lane would take any pointer. */
static void *lane_allocate(struct collectives *self, size_t bytes)
{
    struct lane *lane = (struct lane *)self;
    void *memory;
    if (lane->count == ALLOCATIONS || trtcoll_alloc(lane->membership->ctx, bytes, &memory) != 0)
        return NULL;
    lane->allocations[lane->count++] = memory;
    return memory;
}

static int timed_run(struct collectives *self, struct trtcoll_plan *plan, const struct trtcoll_run_args *args)
{
    struct timespec start, end;
    clock_gettime(CLOCK_MONOTONIC, &start);
    /* Without an event the call returns when the result is there, on both lanes. Its stream is NULL: these are host devices. */
    int code = trtcoll_plan_run(plan, args, NULL, NULL);
    clock_gettime(CLOCK_MONOTONIC, &end);
    self->calls++;
    self->wait_ns += (uint64_t)((end.tv_sec - start.tv_sec) * 1000000000 + (end.tv_nsec - start.tv_nsec));
    return code;
}

static int lane_reduce_norm(struct collectives *self, const bf16 *partial, bf16 *residual, const bf16 *weight, bf16 *normed,
                            uint32_t tokens)
{
    struct trtcoll_run_args args = TRTCOLL_RUN_ARGS_INIT;
    args.tokens = tokens;
    args.in = partial;
    args.residual_in = residual;
    args.residual_out = residual;
    args.norm_weight = weight;
    args.out = normed;
    return timed_run(self, ((struct lane *)self)->reduce_norm, &args);
}

static int lane_gather_logits(struct collectives *self, const float *mine, float *all)
{
    struct trtcoll_run_args args = TRTCOLL_RUN_ARGS_INIT;
    args.in = mine;
    args.out = all;
    return timed_run(self, ((struct lane *)self)->gather, &args);
}

static void lane_destroy(struct collectives *self)
{
    struct lane *lane = (struct lane *)self;
    trtcoll_plan_release(lane->reduce_norm);
    trtcoll_plan_release(lane->gather);
    for (uint32_t i = 0; i < lane->count; i++)
        trtcoll_free(lane->membership->ctx, lane->allocations[i]);
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
    gather.lane = which;
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
