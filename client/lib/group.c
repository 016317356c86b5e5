#include "group.h"

#include "clock.h"
#include "error.h"
#include "args.h"
#include "cuda/gpu.h"
#include "plan.h"
#include "served.h"

#include <string.h>

enum { VERDICT_MS = 2000 }; /* how long the daemon may take to say what it makes of a run that has failed */

uint64_t tcc_peers_deadline(const struct trtcoll_ctx *ctx, uint32_t timeout_ms)
{
    return tcc_deadline_after(tcw_now_ns(), (uint64_t)timeout_ms + ctx->timeout_ms);
}

int tcc_group_enter(const struct trtcoll_group *group)
{
    if (!group)
        return tcc_fail_plainly(TRTCOLL_EINVAL, "group is NULL");
    return tcc_ctx_enter(group->ctx);
}

struct tcc_member *tcc_group_member(struct trtcoll_group *group)
{
    struct tcc_member *member;

    pthread_mutex_lock(&group->lock);
    member = group->member;
    tcc_member_hold(member);
    pthread_mutex_unlock(&group->lock);
    return member;
}

static void free_group(struct trtcoll_group *group)
{
    pthread_mutex_destroy(&group->create_lock);
    pthread_mutex_destroy(&group->lock);
    tcc_free(group->ctx, group);
}

static struct trtcoll_group *new_group(struct trtcoll_ctx *ctx, const char *name)
{
    struct trtcoll_group *group = tcc_alloc(ctx, sizeof(*group));

    if (!group)
        return NULL;
    group->ctx = ctx;
    tcw_text_set(group->name, sizeof(group->name), name);
    if (pthread_mutex_init(&group->create_lock, NULL)) {
        tcc_free(ctx, group);
        return NULL;
    }
    if (pthread_mutex_init(&group->lock, NULL)) {
        pthread_mutex_destroy(&group->create_lock);
        tcc_free(ctx, group);
        return NULL;
    }
    return group;
}

/* Tells the daemon that a membership it has made ready is not taken. */
static void decline(struct trtcoll_ctx *ctx, const struct tcw_packet *reply)
{
    struct tcw_group_leave leave = {.group_id = reply->payload.GROUP_READY.group_id};

    tcc_rpc_notify(&ctx->rpc, TCW_MSG_GROUP_LEAVE, &leave);
}

/* A request that GROUP_READY answers. */
static int become_member(struct trtcoll_ctx *ctx, const char *name, unsigned opcode, const void *request, uint32_t timeout_ms,
                         struct tcc_member **member)
{
    struct tcw_packet reply;
    int code = tcc_rpc_call(&ctx->rpc, opcode, request, NULL, 0, TCW_MSG_GROUP_READY, tcc_peers_deadline(ctx, timeout_ms), &reply);

    if (!code) {
        code = tcc_member_create(ctx, name, &reply, member);
        if (code) {
            tcw_packet_close_fds(&reply);
            decline(ctx, &reply);
        }
    }
    if (code) {
        tcw_text_set(tcc_error()->group, sizeof(tcc_error()->group), name);
        return code;
    }
    atomic_store_explicit(&ctx->device, reply.payload.GROUP_READY.device, memory_order_relaxed);
    tcc_log(ctx, TCC_LOG_INFO, "group %s, epoch %llu: rank %u of %u", name, (unsigned long long)reply.payload.GROUP_READY.epoch,
            reply.payload.GROUP_READY.rank, reply.payload.GROUP_READY.size);
    return 0;
}

static int join(struct trtcoll_ctx *ctx, const struct tcw_group_join *request, struct trtcoll_group **result)
{
    struct trtcoll_group *group = new_group(ctx, request->name);
    int code;

    if (!group)
        return tcc_fail_code(TRTCOLL_ENOMEM, "group");
    code = become_member(ctx, request->name, TCW_MSG_GROUP_JOIN, request, request->timeout_ms, &group->member);
    if (code) {
        free_group(group);
        return code;
    }
    pthread_mutex_lock(&ctx->lock);
    group->next = ctx->groups;
    ctx->groups = group;
    pthread_mutex_unlock(&ctx->lock);
    *result = group;
    return 0;
}

static int name_check(const char *name, bool strictly)
{
    static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._:/-";
    size_t length = name ? strnlen(name, TCW_NAME_BYTES) : 0;

    if (!length || length == TCW_NAME_BYTES)
        return tcc_fail(TRTCOLL_EINVAL, "a group's name has 1 to %d bytes, found %s", TCW_NAME_BYTES - 1, length ? "a longer one" : "none");
    if (strictly && strspn(name, allowed) != length)
        return tcc_fail(TRTCOLL_EINVAL, "a group's name consists of A-Z a-z 0-9 . _ : / -, found \"%s\"", name);
    return 0;
}

/* 0 is the daemon's default as it was when this context attached, said in so many words: both sides then wait equally long. */
static uint32_t join_timeout(const struct trtcoll_ctx *ctx, uint32_t timeout_ms)
{
    return timeout_ms ? timeout_ms : ctx->limits.join_ms;
}

int trtcoll_group_join(struct trtcoll_ctx *ctx, const char *name, int rank, uint32_t timeout_ms, struct trtcoll_group **group)
{
    struct tcw_group_join request = {.rank = rank};
    int code = tcc_ctx_enter(ctx);

    if (!code && !group)
        code = tcc_fail_plainly(TRTCOLL_EINVAL, "group is NULL: there is nowhere to put the result");
    if (!code)
        code = name_check(name, false);
    if (code)
        return code;
    if (rank < -1 || rank >= TCW_MAX_RANKS)
        return tcc_fail(TRTCOLL_EINVAL, "rank is %d, allowed: -1 (any) to %d", rank, TCW_MAX_RANKS - 1);
    request.timeout_ms = join_timeout(ctx, timeout_ms);
    tcw_text_set(request.name, sizeof(request.name), name);
    return join(ctx, &request, group);
}

int trtcoll_group_create(struct trtcoll_ctx *ctx, const char *name, uint32_t size, uint32_t rank, uint32_t timeout_ms,
                         struct trtcoll_group **group)
{
    struct tcw_group_join request = {.size = size};
    int code = tcc_ctx_enter(ctx);

    if (!code && !group)
        code = tcc_fail_plainly(TRTCOLL_EINVAL, "group is NULL: there is nowhere to put the result");
    if (!code)
        code = name_check(name, true);
    if (code)
        return code;
    if (!size || size > TCW_MAX_RANKS)
        return tcc_fail(TRTCOLL_EINVAL, "size is %u, allowed: 1 to %d", size, TCW_MAX_RANKS);
    if (rank >= size)
        return tcc_fail(TRTCOLL_EINVAL, "rank is %u, allowed in a group of %u: 0 to %u", rank, size, size - 1);
    request.rank = (int32_t)rank;
    request.timeout_ms = join_timeout(ctx, timeout_ms);
    tcw_text_set(request.name, sizeof(request.name), name);
    return join(ctx, &request, group);
}

/* Frees everything local of a group that is in no list any more. */
static void destroy(struct trtcoll_group *group)
{
    struct trtcoll_plan *plan, *next;

    for (plan = group->plans; plan; plan = next) {
        next = plan->next;
        tcc_plan_destroy(plan);
    }
    tcc_member_drop(group->member);
    free_group(group);
}

/* Ends the present membership: whatever waits for it gets the failure, or else "left". */
static void retire(struct tcc_member *member)
{
    struct tcw_error error = {.code = TRTCOLL_EABORTED, .rank = member->ready.rank};
    struct tcc_served *served = atomic_load_explicit(&member->served, memory_order_acquire);

    tcw_text_set(error.text, sizeof(error.text), "this rank has left the group");
    atomic_store_explicit(&member->left, true, memory_order_release);
    if (!tcc_member_failed(member))
        tcc_member_break(member, &error, TCC_FAILURE_LOCAL);
    if (served)
        tcc_served_end(served);
    if (member->lane)
        tcc_lane_end(member);
}

static int leave(struct trtcoll_group *group, uint64_t deadline_ns)
{
    struct trtcoll_ctx *ctx = group->ctx;
    struct tcw_group_leave request = {.group_id = group->member->ready.group_id};
    int code = tcc_ctx_command(ctx, TCW_MSG_GROUP_LEAVE, &request, deadline_ns);

    retire(group->member);
    destroy(group);
    /* A daemon that is gone, or that has dropped a broken membership already, knows no more of it than we do now. */
    return code == TRTCOLL_ECONN || code == TRTCOLL_ENOENT ? 0 : code;
}

int trtcoll_group_leave(struct trtcoll_group *group)
{
    struct trtcoll_group **link;
    struct trtcoll_ctx *ctx;
    int code = tcc_group_enter(group);

    if (code)
        return code;
    pthread_mutex_lock(&group->ctx->lock);
    for (link = &group->ctx->groups; *link && *link != group; link = &(*link)->next)
        ;
    if (*link)
        *link = group->next;
    pthread_mutex_unlock(&group->ctx->lock);
    ctx = group->ctx;
    code = leave(group, tcc_ctx_deadline(ctx));
    tcc_staging_trim(ctx, false);
    return code;
}

void tcc_groups_end(struct trtcoll_ctx *ctx, bool forked)
{
    uint64_t deadline_ns = tcc_ctx_deadline(ctx);
    struct trtcoll_group *group;

    while ((group = ctx->groups)) {
        ctx->groups = group->next;
        if (forked)
            destroy(group);
        else
            leave(group, deadline_ns);
    }
}

/* What the GPU has finished, replays of graphs included. */
static uint64_t steps(const struct tcc_member *member)
{
    return atomic_load_explicit(&member->page->device.steps, memory_order_relaxed);
}

int trtcoll_group_status(struct trtcoll_group *group, struct trtcoll_group_info *user)
{
    struct trtcoll_group_info info = {.culprit = TRTCOLL_RANK_NONE};
    struct tcc_member *member;
    struct tcc_served *served;
    struct tcw_error error;
    int code = tcc_group_enter(group);

    if (code)
        return code;
    member = tcc_group_member(group);
    served = atomic_load_explicit(&member->served, memory_order_acquire);
    if (served && member->lane)
        tcc_served_watch(served); /* replays of graphs have no event that would be asked */
    info.rank = member->ready.rank;
    info.nranks = member->ready.size;
    info.state = TRTCOLL_GROUP_READY;
    info.epoch = member->ready.epoch;
    info.deadline_ns = tcc_member_deadline_ns(member);
    if (tcc_member_failure(member, &error)) {
        info.state = TRTCOLL_GROUP_BROKEN;
        info.code = error.code;
        info.culprit = error.rank;
    }
    info.runs_started = atomic_load_explicit(&member->page->runs_started, memory_order_relaxed);
    info.runs_finished = atomic_load_explicit(&member->page->runs_finished, memory_order_relaxed);
    if (served)
        info.in_flight = tcc_served_in_flight(served);
    info.device = member->ready.device;
    tcw_text_set(info.name, sizeof(info.name), group->name);
    info.device_kind = member->ready.device_kind;
    memcpy(info.device_uuid, member->ready.device_uuid, sizeof(info.device_uuid));
    if (member->lane && info.runs_finished < steps(member))
        info.runs_finished = steps(member);
    tcc_member_drop(member);
    return tcc_args_out("info", &info, sizeof(info), user);
}

/* Puts the new membership in place of the old one and lets go of what belonged to that. */
static void move_on(struct trtcoll_group *group, struct tcc_member *fresh)
{
    struct tcc_member *old;

    pthread_mutex_lock(&group->lock);
    old = group->member;
    group->member = fresh;
    pthread_mutex_unlock(&group->lock);
    retire(old);
    tcc_cache_clear(group);
    tcc_member_drop(old);
    tcc_staging_trim(group->ctx, false);
}

/* Who has seen a run fail need not wait for the daemon's account of it before asking for what follows. */
static bool is_broken(struct tcc_member *member)
{
    struct tcw_error failure;

    return tcc_member_failure(member, &failure) ||
           (atomic_load_explicit(&member->suspect, memory_order_acquire) && tcc_member_await_failure(member, VERDICT_MS));
}

int trtcoll_group_reform(struct trtcoll_group *group, uint32_t flags, uint32_t timeout_ms)
{
    struct tcw_group_reform request = {.flags = flags};
    struct tcc_member *fresh = NULL;
    int code = tcc_group_enter(group);

    _Static_assert((int)TRTCOLL_REFORM_SHRINK == (int)TCW_REFORM_SHRINK, "public flag equals the contract's");
    if (code)
        return code;
    if (flags & ~(uint32_t)TRTCOLL_REFORM_SHRINK)
        return tcc_fail(TRTCOLL_EINVAL, "flags is 0x%x, allowed: 0 or TRTCOLL_REFORM_SHRINK (0x%x)", flags,
                        (unsigned)TRTCOLL_REFORM_SHRINK);
    request.timeout_ms = join_timeout(group->ctx, timeout_ms);
    pthread_mutex_lock(&group->create_lock);
    request.group_id = group->member->ready.group_id;
    tcc_rpc_pump(&group->ctx->rpc);
    if (!is_broken(group->member))
        code = tcc_fail(TRTCOLL_EINVAL, "group %s is not broken", group->name);
    if (!code)
        code = become_member(group->ctx, group->name, TCW_MSG_GROUP_REFORM, &request, request.timeout_ms, &fresh);
    if (!code)
        move_on(group, fresh);
    pthread_mutex_unlock(&group->create_lock);
    return code;
}

int trtcoll_group_abort(struct trtcoll_group *group, const char *reason)
{
    struct tcw_group_abort request = {0};
    struct tcc_member *member;
    int code = tcc_group_enter(group);

    if (code)
        return code;
    member = tcc_group_member(group);
    request.group_id = member->ready.group_id;
    tcc_member_drop(member);
    tcw_text_set(request.reason, sizeof(request.reason), reason ? reason : "");
    return tcc_ctx_command(group->ctx, TCW_MSG_GROUP_ABORT, &request, tcc_ctx_deadline(group->ctx));
}

int trtcoll_group_fd(struct trtcoll_group *group, int *fd)
{
    struct tcc_member *member;
    struct tcc_served *served;
    int code = tcc_group_enter(group);

    if (code)
        return code;
    if (!fd)
        return tcc_fail_plainly(TRTCOLL_EINVAL, "fd is NULL");
    member = tcc_group_member(group);
    served = atomic_load_explicit(&member->served, memory_order_acquire);
    if (served)
        *fd = tcc_served_notify_fd(served);
    else
        code = tcc_fail(TRTCOLL_ENOENT, "group %s has no served plan yet, so nothing can complete: make one first", group->name);
    tcc_member_drop(member);
    return code;
}

bool tcc_groups_watch(struct trtcoll_ctx *ctx)
{
    struct trtcoll_group *group;
    struct tcc_member *member;
    struct tcc_served *served;
    unsigned index, i;
    bool busy = false;

    /* One at a time, without the lock: what is found out may be announced, and ends requests. */
    for (index = 0;; index++) {
        pthread_mutex_lock(&ctx->lock);
        for (group = ctx->groups, i = 0; group && i < index; i++)
            group = group->next;
        member = group ? tcc_group_member(group) : NULL;
        pthread_mutex_unlock(&ctx->lock);
        if (!member)
            return busy;
        served = atomic_load_explicit(&member->served, memory_order_acquire);
        if (served && tcc_served_watch(served))
            busy = true;
        tcc_member_drop(member);
    }
}

void tcc_groups_announced(struct trtcoll_ctx *ctx, const struct tcw_group_broken *broken)
{
    struct tcc_member *found = NULL, *member;
    struct trtcoll_group *group;

    pthread_mutex_lock(&ctx->lock);
    for (group = ctx->groups; group && !found; group = group->next) {
        member = tcc_group_member(group);
        if (member->ready.group_id == broken->group_id)
            found = member;
        else
            tcc_member_drop(member);
    }
    pthread_mutex_unlock(&ctx->lock);
    if (found) {
        tcc_member_break(found, &broken->error, TCC_FAILURE_TOLD);
        tcc_member_drop(found);
    }
}
