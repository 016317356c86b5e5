#include "plan.h"

#include "args.h"
#include "clock.h"
#include "cuda/gpu.h"
#include "descriptor.h"
#include "error.h"
#include "served.h"

#include <string.h>

int tcc_plan_enter(const struct trtcoll_plan *plan)
{
    if (!plan)
        return tcc_fail_plainly(TRTCOLL_EINVAL, "plan is NULL");
    return tcc_ctx_enter(plan->group->ctx);
}

void tcc_plan_destroy(struct trtcoll_plan *plan)
{
    struct tcc_member *member = plan->member;
    struct trtcoll_ctx *ctx = member->ctx;

    /* In a forked child locks may be held for ever; there the workspaces go with the member. */
    if (plan->workspace && !tcc_forked(ctx))
        tcc_workspace_put(member, plan->workspace);
    tcc_member_drop(member);
    tcc_free(ctx, plan);
}

static void fill_in(struct trtcoll_plan *plan, const struct tcw_plan_desc *desc, const struct tcw_plan_ready *ready)
{
    unsigned slot;

    plan->handle = ready->plan;
    plan->plan_id = ready->plan_id;
    plan->decision = ready->decision;
    plan->desc = *desc;
    tcw_text_set(plan->reason, sizeof(plan->reason), ready->reason);
    for (slot = 0; slot < TCW_SLOT_COUNT; slot++) {
        plan->counts[slot] = tcw_plan_slot_count(desc, plan->member->ready.size, slot);
        plan->ref_count += plan->counts[slot];
        if (plan->counts[slot])
            plan->used |= 1u << slot;
    }
}

/* What the lane needs: workspaces and a communicator, or the ring. */
static int prepare_lane(struct trtcoll_plan *plan, struct tcw_packet *reply)
{
    const struct tcw_plan_ready *ready = &reply->payload.PLAN_READY;
    unsigned ring_fds = ready->ring_bytes ? 3 : 0;

    if (reply->fd_count != ready->workspace_fds + ring_fds)
        return tcc_fail(TRTCOLL_EPROTO, "trtcolld announced %u descriptors with a plan and sent %u", ready->workspace_fds + ring_fds,
                        reply->fd_count);
    switch (ready->decision.lane) {
    case TCW_LANE_DIRECT:
        return tcc_workspace_get(plan->member, reply, &plan->workspace);
    case TCW_LANE_SERVED:
        return tcc_served_ensure(plan->member, reply);
    default:
        return tcc_fail(TRTCOLL_EPROTO, "trtcolld chose lane %u, which this library does not know", ready->decision.lane);
    }
}

static void tell_released(struct trtcoll_ctx *ctx, uint64_t handle)
{
    struct tcw_plan_release request = {.plan = handle};

    tcc_rpc_notify(&ctx->rpc, TCW_MSG_PLAN_RELEASE, &request);
}

/* The other ranks have agreed and this one cannot go along: they must not wait for its runs. */
static void drop_out(struct tcc_member *member)
{
    struct tcw_error error = {.code = TRTCOLL_EABORTED, .rank = member->ready.rank};

    tcw_text_set(error.text, sizeof(error.text), tcc_error()->text);
    tcc_member_report(member, &error);
}

/* No answer though the daemon's deadline has passed: this rank's count of plans is not the others' any more. */
static void give_up(struct tcc_member *member)
{
    struct tcw_error error = {.code = TRTCOLL_ETIMEOUT, .rank = TCW_NOBODY};

    tcw_text_set(error.text, sizeof(error.text), tcc_error()->text);
    tcc_member_report(member, &error);
}

/* Processes may have been given parts of their GPUs: kernels are launched as it suits the smallest. */
static uint32_t multiprocessors(const struct tcc_member *member)
{
    struct tck_device *device = member->lane ? tcc_gpu_device(atomic_load(&member->ctx->gpu)) : NULL;

    return device ? tck_device_facts(device)->multiprocessors : 0;
}

static int agree(struct tcc_member *member, const struct tcw_plan_desc *desc, struct tcw_packet *reply)
{
    struct trtcoll_ctx *ctx = member->ctx;
    struct tcw_plan_create request = {
        .group_id = member->ready.group_id, .timeout_ms = ctx->limits.plan_ms, .multiprocessors = multiprocessors(member), .desc = *desc};
    int code = tcc_member_fail(member);

    if (code)
        return code;
    code = tcc_rpc_call(&ctx->rpc, TCW_MSG_PLAN_CREATE, &request, NULL, 0, TCW_MSG_PLAN_READY, tcc_peers_deadline(ctx, request.timeout_ms),
                        reply);
    if (code == TRTCOLL_ETIMEOUT && !reply->header.opcode)
        give_up(member);
    else if (code && tcc_rpc_starved(reply))
        drop_out(member);
    if (code)
        tcw_text_set(tcc_error()->group, sizeof(tcc_error()->group), member->name);
    return code;
}

int tcc_plan_create(struct trtcoll_group *group, const struct tcw_plan_desc *desc, struct trtcoll_plan **result)
{
    struct trtcoll_plan *plan = tcc_alloc(group->ctx, sizeof(*plan));
    struct tcw_packet reply;
    int code;

    if (!plan)
        return tcc_fail_code(TRTCOLL_ENOMEM, "plan");
    plan->group = group;
    plan->member = tcc_group_member(group);
    code = agree(plan->member, desc, &reply);
    if (!code) {
        fill_in(plan, desc, &reply.payload.PLAN_READY);
        code = prepare_lane(plan, &reply);
        tcw_packet_close_fds(&reply); /* those that were not taken */
        if (code) {
            tell_released(group->ctx, plan->handle);
            drop_out(plan->member);
        }
    }
    if (code) {
        tcc_plan_destroy(plan);
        return code;
    }
    pthread_mutex_lock(&group->lock);
    plan->next = group->plans;
    group->plans = plan;
    pthread_mutex_unlock(&group->lock);
    *result = plan;
    return 0;
}

int tcc_plan_release(struct trtcoll_plan *plan)
{
    struct trtcoll_group *group = plan->group;
    struct tcw_plan_release request = {.plan = plan->handle};
    struct trtcoll_plan **link;
    int code = 0;

    pthread_mutex_lock(&group->lock);
    for (link = &group->plans; *link && *link != plan; link = &(*link)->next)
        ;
    if (*link)
        *link = plan->next;
    pthread_mutex_unlock(&group->lock);
    if (!atomic_load_explicit(&plan->member->left, memory_order_acquire))
        code = tcc_ctx_command(group->ctx, TCW_MSG_PLAN_RELEASE, &request, tcc_ctx_deadline(group->ctx));
    tcc_plan_destroy(plan);
    /* A daemon that is gone, or has dropped the plans of a broken instance itself, holds nothing more of it. */
    return code == TRTCOLL_ECONN || code == TRTCOLL_ENOENT ? 0 : code;
}

int trtcoll_plan_release(struct trtcoll_plan *plan)
{
    int code;

    if (!plan)
        return 0;
    code = tcc_plan_enter(plan);
    return code ? code : tcc_plan_release(plan);
}

int trtcoll_plan_info(struct trtcoll_plan *plan, struct trtcoll_plan_info *user)
{
    struct trtcoll_plan_info info = {0};
    int code = tcc_plan_enter(plan);

    if (code)
        return code;
    info.plan_id = plan->plan_id;
    info.op = plan->desc.op;
    info.lane = plan->decision.lane;
    info.strategy = tcw_decision_strategy(
        &plan->decision, tcw_plan_message_bytes(&plan->desc, plan->member->ready.size, plan->member->ready.rank, plan->desc.max_tokens));
    info.runs = atomic_load_explicit(&plan->runs, memory_order_relaxed);
    info.staged_runs = atomic_load_explicit(&plan->staged_runs, memory_order_relaxed);
    tcw_text_set(info.reason, sizeof(info.reason), plan->reason);
    info.device_kind = plan->member->ready.device_kind;
    return tcc_args_out("info", &info, sizeof(info), user);
}

/* The six public forms differ in their descriptor only. `describe` needs the size and rank of the present membership. */
typedef int (*describe_fn)(const void *user, const struct tcc_member *member, struct tcw_plan_desc *desc);

static int create(struct trtcoll_group *group, const void *user, describe_fn describe, struct trtcoll_plan **plan)
{
    struct tcw_plan_desc desc;
    int code = tcc_group_enter(group);

    if (code)
        return code;
    if (!plan)
        return tcc_fail_plainly(TRTCOLL_EINVAL, "plan is NULL: there is nowhere to put the result");
    pthread_mutex_lock(&group->create_lock);
    code = describe(user, group->member, &desc);
    if (!code)
        code = tcc_plan_create(group, &desc, plan);
    else
        tcw_text_set(tcc_error()->group, sizeof(tcc_error()->group), group->name);
    pthread_mutex_unlock(&group->create_lock);
    return code;
}

static int describe_all_reduce(const void *user, const struct tcc_member *member, struct tcw_plan_desc *desc)
{
    return tcc_describe_all_reduce(user, tcc_member_kind(member), member->ready.size, desc);
}

static int describe_all_gather(const void *user, const struct tcc_member *member, struct tcw_plan_desc *desc)
{
    return tcc_describe_gather(user, TCW_OP_ALL_GATHER, tcc_member_kind(member), member->ready.size, member->ready.rank, desc);
}

static int describe_reduce_scatter(const void *user, const struct tcc_member *member, struct tcw_plan_desc *desc)
{
    return tcc_describe_gather(user, TCW_OP_REDUCE_SCATTER, tcc_member_kind(member), member->ready.size, member->ready.rank, desc);
}

static int describe_all_to_all(const void *user, const struct tcc_member *member, struct tcw_plan_desc *desc)
{
    return tcc_describe_all_to_all(user, tcc_member_kind(member), member->ready.size, desc);
}

static int describe_broadcast(const void *user, const struct tcc_member *member, struct tcw_plan_desc *desc)
{
    return tcc_describe_broadcast(user, tcc_member_kind(member), member->ready.size, desc);
}

static int describe_barrier(const void *user, const struct tcc_member *member, struct tcw_plan_desc *desc)
{
    return tcc_describe_barrier(user, tcc_member_kind(member), member->ready.size, desc);
}

static int describe_finalize(const void *user, const struct tcc_member *member, struct tcw_plan_desc *desc)
{
    return tcc_describe_finalize(user, tcc_member_kind(member), member->ready.size, desc);
}

int trtcoll_plan_create_all_reduce(struct trtcoll_group *group, const struct trtcoll_all_reduce_desc *desc, struct trtcoll_plan **plan)
{
    return create(group, desc, describe_all_reduce, plan);
}

int trtcoll_plan_create_all_gather(struct trtcoll_group *group, const struct trtcoll_gather_desc *desc, struct trtcoll_plan **plan)
{
    return create(group, desc, describe_all_gather, plan);
}

int trtcoll_plan_create_reduce_scatter(struct trtcoll_group *group, const struct trtcoll_gather_desc *desc, struct trtcoll_plan **plan)
{
    return create(group, desc, describe_reduce_scatter, plan);
}

int trtcoll_plan_create_all_to_all(struct trtcoll_group *group, const struct trtcoll_all_to_all_desc *desc, struct trtcoll_plan **plan)
{
    return create(group, desc, describe_all_to_all, plan);
}

int trtcoll_plan_create_broadcast(struct trtcoll_group *group, const struct trtcoll_broadcast_desc *desc, struct trtcoll_plan **plan)
{
    return create(group, desc, describe_broadcast, plan);
}

int trtcoll_plan_create_barrier(struct trtcoll_group *group, const struct trtcoll_barrier_desc *desc, struct trtcoll_plan **plan)
{
    return create(group, desc, describe_barrier, plan);
}

int trtcoll_plan_create_finalize(struct trtcoll_group *group, const struct trtcoll_finalize_desc *desc, struct trtcoll_plan **plan)
{
    return create(group, desc, describe_finalize, plan);
}
