/* The one-call forms: describe, look the plan up, run, wait. One at a time per group, which the rules for collective calls ask for anyway.
 */
#include "args.h"
#include "descriptor.h"
#include "error.h"
#include "run.h"

#include <string.h>

/* Descriptors differ by the size of the data, so sizes are rounded up: few plans serve all. */
static uint64_t capacity(uint64_t tokens)
{
    uint64_t power = 1;

    while (power < tokens && power < 1ull << 62)
        power *= 2;
    return power;
}

static int count_check(uint64_t count)
{
    return count ? 0 : tcc_fail_plainly(TRTCOLL_EINVAL, "count is 0, at least 1 is needed");
}

/* With create_lock and a filled descriptor. */
static int execute(struct trtcoll_group *group, const struct tcw_plan_desc *desc, const struct trtcoll_run_args *args)
{
    struct trtcoll_plan *plan;
    struct trtcoll_event *event;
    int code = tcc_cache_get(group, desc, &plan);

    if (code || !plan->member->lane)
        return code ? code : tcc_plan_run(plan, args, NULL, NULL);
    code = tcc_plan_run(plan, args, NULL, &event);
    if (code)
        return code;
    code = trtcoll_event_wait(event, UINT32_MAX);
    trtcoll_event_put(event);
    return code;
}

static int reduce(struct trtcoll_group *group, const struct trtcoll_all_reduce_desc *user, const struct trtcoll_run_args *args)
{
    struct tcw_plan_desc desc;
    int code;

    pthread_mutex_lock(&group->create_lock);
    code = tcc_describe_all_reduce(user, tcc_member_kind(group->member), group->member->ready.size, &desc);
    if (!code)
        code = execute(group, &desc, args);
    pthread_mutex_unlock(&group->create_lock);
    return code;
}

int trtcoll_all_reduce(struct trtcoll_group *group, const void *in, void *out, uint64_t count, uint32_t dtype, uint32_t redop)
{
    struct trtcoll_all_reduce_desc desc = TRTCOLL_ALL_REDUCE_DESC_INIT;
    struct trtcoll_run_args args = TRTCOLL_RUN_ARGS_INIT;
    int code = tcc_group_enter(group);

    if (!code)
        code = count_check(count);
    if (code)
        return code;
    desc.dtype = dtype;
    desc.redop = redop;
    desc.max_tokens = capacity(count);
    args.tokens = count;
    args.in = in;
    args.out = out;
    return reduce(group, &desc, &args);
}

int trtcoll_all_reduce_fused(struct trtcoll_group *group, const struct trtcoll_all_reduce_desc *user, const struct trtcoll_run_args *args)
{
    struct trtcoll_all_reduce_desc desc;
    struct trtcoll_run_args run;
    int code = tcc_group_enter(group);

    if (!code)
        code = tcc_args_in("desc", user, &desc, sizeof(desc));
    if (!code)
        code = tcc_args_in("args", args, &run, sizeof(run));
    if (!code && !run.tokens)
        code = tcc_fail_plainly(TRTCOLL_EINVAL, "args.tokens is 0, at least 1 is needed");
    if (code)
        return code;
    desc.size = sizeof(desc);
    desc.max_tokens = capacity(run.tokens);
    return reduce(group, &desc, args);
}

static int gather(struct trtcoll_group *group, tcw_op op, const void *in, void *out, uint64_t count, uint32_t dtype, uint32_t redop)
{
    struct trtcoll_gather_desc user = TRTCOLL_GATHER_DESC_INIT;
    struct trtcoll_run_args args = TRTCOLL_RUN_ARGS_INIT;
    struct trtcoll_tensor tensor = {.present = 1, .dtype = dtype, .ndim = 1};
    struct tcw_plan_desc desc;
    uint32_t nranks;
    int code = tcc_group_enter(group);

    if (!code)
        code = count_check(count);
    if (code)
        return code;
    user.redop = redop;
    user.tensors = &tensor;
    args.tokens = count;
    args.in = in;
    args.out = out;
    pthread_mutex_lock(&group->create_lock);
    nranks = group->member->ready.size;
    tensor.shape[0] = capacity(count);
    if (op == TCW_OP_REDUCE_SCATTER && __builtin_mul_overflow(tensor.shape[0], nranks, &tensor.shape[0]))
        code = tcc_fail(TRTCOLL_EINVAL, "count is %llu, which is too large", (unsigned long long)count);
    if (!code)
        code = tcc_describe_gather(&user, op, tcc_member_kind(group->member), nranks, group->member->ready.rank, &desc);
    if (!code)
        code = execute(group, &desc, &args);
    pthread_mutex_unlock(&group->create_lock);
    return code;
}

int trtcoll_all_gather(struct trtcoll_group *group, const void *in, void *out, uint64_t count, uint32_t dtype)
{
    return gather(group, TCW_OP_ALL_GATHER, in, out, count, dtype, 0);
}

int trtcoll_reduce_scatter(struct trtcoll_group *group, const void *in, void *out, uint64_t count, uint32_t dtype, uint32_t redop)
{
    return gather(group, TCW_OP_REDUCE_SCATTER, in, out, count, dtype, redop);
}

int trtcoll_broadcast(struct trtcoll_group *group, const void *in, void *out, uint64_t count, uint32_t dtype, uint32_t root)
{
    struct trtcoll_broadcast_desc user = TRTCOLL_BROADCAST_DESC_INIT;
    struct trtcoll_run_args args = TRTCOLL_RUN_ARGS_INIT;
    struct tcw_plan_desc desc;
    int code = tcc_group_enter(group);

    if (!code)
        code = count_check(count);
    if (code)
        return code;
    user.dtype = dtype;
    user.root = root;
    user.count = count;
    args.in = in;
    args.out = out;
    pthread_mutex_lock(&group->create_lock);
    code = tcc_describe_broadcast(&user, tcc_member_kind(group->member), group->member->ready.size, &desc);
    if (!code)
        code = execute(group, &desc, &args);
    pthread_mutex_unlock(&group->create_lock);
    return code;
}

int trtcoll_barrier(struct trtcoll_group *group)
{
    struct trtcoll_barrier_desc user = TRTCOLL_BARRIER_DESC_INIT;
    struct tcw_plan_desc desc;
    int code = tcc_group_enter(group);

    if (code)
        return code;
    pthread_mutex_lock(&group->create_lock);
    code = tcc_describe_barrier(&user, tcc_member_kind(group->member), group->member->ready.size, &desc);
    if (!code)
        code = execute(group, &desc, NULL);
    pthread_mutex_unlock(&group->create_lock);
    return code;
}

int trtcoll_supports(struct trtcoll_ctx *ctx, uint32_t nranks, const struct trtcoll_all_reduce_desc *user)
{
    struct tcw_plan_desc desc;
    int code = tcc_ctx_enter(ctx);

    return code ? code : tcc_describe_all_reduce(user, tcc_ctx_kind(ctx), nranks, &desc);
}

int trtcoll_userbuffers_allreduce_finalize(struct trtcoll_group *group, const void *in, void *out, uint64_t tokens, uint64_t hidden,
                                           uint32_t dtype, int force)
{
    struct trtcoll_finalize_desc user = TRTCOLL_FINALIZE_DESC_INIT;
    struct trtcoll_run_args args = TRTCOLL_RUN_ARGS_INIT;
    struct tcw_plan_desc desc;
    int code = tcc_group_enter(group);

    if (!code)
        code = count_check(tokens);
    if (code)
        return code;
    user.dtype = dtype;
    user.hidden = hidden;
    user.max_tokens = capacity(tokens);
    user.flags = force ? TRTCOLL_FORCE : 0;
    args.tokens = tokens;
    args.in = in;
    args.out = out;
    pthread_mutex_lock(&group->create_lock);
    code = tcc_describe_finalize(&user, tcc_member_kind(group->member), group->member->ready.size, &desc);
    if (!code)
        code = execute(group, &desc, &args);
    pthread_mutex_unlock(&group->create_lock);
    return code;
}
