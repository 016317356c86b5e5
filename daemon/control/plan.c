#include "plan.h"

#include "daemon.h"
#include "group.h"
#include "plan_build.h"
#include "text.h"
#include "workspace.h"

#include <stdio.h>
#include <stdlib.h>

enum { MAX_AHEAD = 64 }; /* plans that one rank may be ahead of another */

static uint64_t all_ranks(const struct tcd_instance *instance)
{
    return instance->size == 64 ? UINT64_MAX : (1ull << instance->size) - 1;
}

static void hold(struct tcd_member *member, int add)
{
    struct tcd_client *client = member->client;

    if (add < 0)
        tcd_quota_give(&client->usage, client->account, TCD_PLANS, 1);
    member->plans += (uint32_t)add;
}

static void plan_free(struct tcd_plan *plan)
{
    tcd_alarm_stop(&plan->patience);
    if (plan->state == TCD_PLAN_READY)
        plan->instance->ready_plans--;
    if (plan->workspace)
        tcd_workspace_drop(plan->workspace);
    tcd_list_remove(&plan->link);
    tcd_handle_remove(&plan->instance->daemon->plans, plan->handle);
    free(plan);
}

/* ---- failing ---- */

/* A mismatch as the rank that differs sees it: the other side is the rank that came first. */
static void turn_round(const struct tcd_plan *plan, struct tcw_error *error)
{
    const struct tcd_client *first = plan->instance->members[plan->first_rank].client;
    uint64_t mine = error->theirs;

    error->rank = plan->first_rank;
    error->pid = first ? (int32_t)first->process.pid : 0;
    error->theirs = error->mine;
    error->mine = mine;
}

static void refuse(const struct tcd_plan *plan, const struct tcd_member *member, uint32_t sequence)
{
    struct tcw_error error = plan->error;

    if (error.code == TCW_EMISMATCH && error.rank == member->rank)
        turn_round(plan, &error);
    tcd_client_refuse(member->client, sequence, &error);
}

void tcd_plan_fail(struct tcd_plan *plan, const struct tcw_error *error)
{
    struct tcd_instance *instance = plan->instance;
    uint32_t i;

    plan->error = *error;
    plan->state = TCD_PLAN_FAILED;
    tcd_alarm_stop(&plan->patience);
    if (instance->building == plan)
        instance->building = NULL;
    if (error->code == TCW_EMISMATCH && instance->state == TCD_READY)
        instance->daemon->counters.mismatches++;
    tcd_plan_build_undo(plan);
    for (i = 0; i < instance->size; i++) {
        if (!(plan->waiting >> i & 1))
            continue;
        plan->waiting &= ~(1ull << i);
        hold(&instance->members[i], -1);
        refuse(plan, &instance->members[i], plan->sequences[i]);
    }
    if (plan->arrived == all_ranks(instance) || instance->state == TCD_BROKEN)
        plan_free(plan);
}

void tcd_plans_fail(struct tcd_instance *instance, const struct tcw_error *cause)
{
    struct tcd_link *at, *safe;

    TCD_EACH_SAFE (at, safe, &instance->plans) {
        struct tcd_plan *plan = TCD_ENTRY(at, struct tcd_plan, link);
        if (plan->state == TCD_PLAN_FAILED)
            plan_free(plan);
        else if (plan->state != TCD_PLAN_READY)
            tcd_plan_fail(plan, cause);
    }
}

void tcd_plans_free(struct tcd_instance *instance)
{
    struct tcd_link *at, *safe;

    TCD_EACH_SAFE (at, safe, &instance->plans)
        plan_free(TCD_ENTRY(at, struct tcd_plan, link));
}

static void on_timeout(void *arg)
{
    struct tcd_plan *plan = arg;
    struct tcd_instance *instance = plan->instance;
    uint64_t absent = all_ranks(instance) & ~plan->arrived;
    unsigned long long ms = (tcw_now_ns() - plan->since_ns) / 1000000;
    struct tcw_error error;
    char ranks[TCW_TEXT_BYTES / 2];

    if (absent) {
        tcd_error_set(&error, TCW_ETIMEOUT, "plan %llu (%s) of group '%s': %s did not call within %llu ms",
                      (unsigned long long)plan->number, tcw_op_name(plan->desc.op), instance->group->name,
                      tcd_ranks_text(absent, ranks, sizeof(ranks)), ms);
        error.rank = (uint32_t)__builtin_ctzll(absent);
    } else {
        tcd_error_set(&error, TCW_ETIMEOUT, "plan %llu (%s) of group '%s': the executors did not answer within %llu ms",
                      (unsigned long long)plan->number, tcw_op_name(plan->desc.op), instance->group->name, ms);
    }
    tcd_plan_fail(plan, &error);
    tcd_plan_build_next(instance);
}

/* ---- collecting ---- */

struct tcd_plan *tcd_plan_find(const struct tcd_instance *instance, uint64_t number)
{
    struct tcd_link *at;

    for (at = instance->plans.prev; at != &instance->plans; at = at->prev) {
        struct tcd_plan *plan = TCD_ENTRY(at, struct tcd_plan, link);
        if (plan->number == number)
            return plan;
        if (plan->number < number)
            break;
    }
    return NULL;
}

bool tcd_plans_share_workspace(const struct tcd_instance *instance, uint64_t number, uint64_t other)
{
    const struct tcd_plan *one = tcd_plan_find(instance, number), *two = number == other ? one : tcd_plan_find(instance, other);

    return one && two && one->workspace && one->workspace == two->workspace;
}

static struct tcd_plan *plan_new(struct tcd_instance *instance, uint64_t number, const struct tcw_plan_desc *desc, uint32_t rank)
{
    struct tcd_plan *plan = calloc(1, sizeof(*plan));

    if (!plan)
        return NULL;
    plan->instance = instance;
    plan->number = number;
    plan->state = TCD_PLAN_COLLECTING;
    plan->desc = *desc;
    plan->first_rank = rank;
    plan->since_ns = tcw_now_ns();
    plan->handle = tcd_handle_add(&instance->daemon->plans, plan);
    if (!plan->handle) {
        free(plan);
        return NULL;
    }
    tcd_list_append(&instance->plans, &plan->link);
    return plan;
}

/* The deadline of the most impatient rank counts. */
static void limit_patience(struct tcd_plan *plan, uint32_t timeout_ms)
{
    struct tcd_daemon *daemon = plan->instance->daemon;
    uint64_t ms = timeout_ms ? timeout_ms : daemon->config->options.plan_ms;

    if (!plan->patience.clock || plan->patience.due_ms > uv_now(&daemon->loop) + ms)
        tcd_alarm_set(&plan->patience, &daemon->clock, ms, on_timeout, plan);
}

/* Where this rank's descriptor differs from that of the rank that came first. False if it does not. */
static bool differs(const struct tcd_plan *plan, const struct tcd_member *member, const struct tcw_plan_desc *desc, struct tcw_error *error)
{
    struct tcw_complaint complaint = {0};

    if (!tcw_plan_desc_compare(&plan->desc, desc, &complaint))
        return false;
    tcd_error_set(error, TCW_EMISMATCH, "plan %llu of group '%s': %s is %s on rank %u, but %s on rank %u", (unsigned long long)plan->number,
                  plan->instance->group->name, complaint.field, complaint.mine_text, plan->first_rank, complaint.theirs_text, member->rank);
    tcw_text_set(error->field, sizeof(error->field), complaint.field);
    error->rank = member->rank;
    error->pid = (int32_t)member->client->process.pid;
    error->mine = complaint.mine;
    error->theirs = complaint.theirs;
    return true;
}

/* The plan failed before this rank came. After a mismatch it is told of a rank that differs from itself: the first one, or the odd one. */
static void refuse_late(const struct tcd_plan *plan, const struct tcd_member *member, uint32_t sequence, const struct tcw_plan_desc *desc)
{
    struct tcw_error error = plan->error;

    if (plan->error.code == TCW_EMISMATCH && differs(plan, member, desc, &error))
        turn_round(plan, &error);
    tcd_client_refuse(member->client, sequence, &error);
}

/* What the daemon refuses to one rank it refuses to all: the others would wait for that rank. */
static int check_request(const struct tcd_plan *plan, struct tcd_member *member, const struct tcw_plan_desc *desc, struct tcw_error *error)
{
    struct tcd_client *client = member->client;
    struct tcw_complaint complaint = {0};
    struct tcw_error why;
    char who[64];
    int code = tcw_plan_desc_check(desc, plan->instance->size, &complaint);

    if (code) {
        tcd_error_set(error, code, "%s: %.190s", tcd_member_text(member, who, sizeof(who)), complaint.text);
        if (complaint.field)
            tcw_text_set(error->field, sizeof(error->field), complaint.field);
        error->mine = complaint.mine;
    } else if ((code = tcd_quota_take(&client->usage, client->account, &client->daemon->config->options, TCD_PLANS, 1, &why))) {
        tcd_error_set(error, code, "%s: %.190s", tcd_member_text(member, who, sizeof(who)), why.text);
    }
    if (code)
        error->rank = member->rank;
    return code;
}

static void collect(struct tcd_plan *plan, struct tcd_member *member, uint32_t sequence, const struct tcw_plan_create *create)
{
    struct tcd_instance *instance = plan->instance;
    struct tcw_error error;

    plan->arrived |= 1ull << member->rank;
    if (plan->state == TCD_PLAN_FAILED) {
        refuse_late(plan, member, sequence, &create->desc);
        if (plan->arrived == all_ranks(instance))
            plan_free(plan);
        return;
    }
    if (check_request(plan, member, &create->desc, &error)) {
        tcd_client_refuse(member->client, sequence, &error);
        tcd_plan_fail(plan, &error);
        return;
    }
    hold(member, 1);
    plan->waiting |= 1ull << member->rank;
    plan->sequences[member->rank] = sequence;
    member->multiprocessors = create->multiprocessors;
    if (differs(plan, member, &create->desc, &error)) {
        tcd_plan_fail(plan, &error);
        return;
    }
    limit_patience(plan, create->timeout_ms);
    if (plan->arrived == all_ranks(instance)) {
        plan->state = TCD_PLAN_QUEUED;
        tcd_plan_build_next(instance);
    }
}

/* How far the rank is ahead of the one that has asked for the fewest plans. */
static uint64_t ahead(const struct tcd_member *member, uint32_t *last)
{
    const struct tcd_instance *instance = member->instance;
    uint64_t least = member->plans_created;
    uint32_t i;

    *last = member->rank;
    for (i = 0; i < instance->size; i++) {
        if (instance->members[i].plans_created >= least)
            continue;
        least = instance->members[i].plans_created;
        *last = i;
    }
    return member->plans_created - least;
}

void tcd_plan_create(struct tcd_client *client, uint32_t sequence, const struct tcw_plan_create *create)
{
    struct tcd_instance *instance = tcd_instance_find(client->daemon, create->group_id);
    struct tcd_member *member = instance ? tcd_instance_member(instance, client) : NULL;
    struct tcd_plan *plan;
    uint32_t last;

    if (!member || instance->state == TCD_FORMING) {
        tcd_client_refuse_text(client, sequence, TCW_ENOENT, "this client is not a member of group %llu",
                               (unsigned long long)create->group_id);
        return;
    }
    if (instance->state == TCD_BROKEN) {
        tcd_client_refuse(client, sequence, &instance->cause);
        return;
    }
    if (ahead(member, &last) >= MAX_AHEAD) {
        tcd_client_refuse_text(client, sequence, TCW_EBUSY, "rank %u is %d plans ahead of rank %u", member->rank, MAX_AHEAD, last);
        return;
    }
    plan = tcd_plan_find(instance, member->plans_created);
    if (!plan)
        plan = plan_new(instance, member->plans_created, &create->desc, member->rank);
    if (!plan) {
        tcd_client_refuse_text(client, sequence, TCW_ENOMEM, "no memory for a plan");
        return;
    }
    member->plans_created++;
    collect(plan, member, sequence, create);
}

/* ---- releasing ---- */

static void release(struct tcd_plan *plan, struct tcd_member *member)
{
    plan->holders &= ~(1ull << member->rank);
    hold(member, -1);
    tcd_plan_build_drop(plan, member);
    if (!plan->holders)
        plan_free(plan);
}

void tcd_plan_release(struct tcd_client *client, uint32_t sequence, const struct tcw_plan_release *message)
{
    struct tcd_plan *plan = tcd_handle_get(&client->daemon->plans, message->plan);
    struct tcd_member *member = plan ? tcd_instance_member(plan->instance, client) : NULL;

    if (!member || !(plan->holders >> member->rank & 1)) {
        tcd_client_refuse_text(client, sequence, TCW_ENOENT, "this client holds no plan %llu", (unsigned long long)message->plan);
        return;
    }
    release(plan, member);
    tcd_client_ok(client, sequence, 0);
}

void tcd_plans_forget_member(struct tcd_member *member)
{
    struct tcd_link *at, *safe;

    TCD_EACH_SAFE (at, safe, &member->instance->plans) {
        struct tcd_plan *plan = TCD_ENTRY(at, struct tcd_plan, link);
        if (plan->holders >> member->rank & 1)
            release(plan, member);
    }
}
