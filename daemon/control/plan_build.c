#include "plan_build.h"

#include "../shared/gate.h"
#include "attachment.h"
#include "choosing.h"
#include "daemon.h"
#include "grids.h"
#include "group.h"
#include "plan_call.h"
#include "plan_multicast.h"
#include "text.h"
#include "workspace.h"

#include <tcw/channel.h>

#include <stdlib.h>
#include <unistd.h>

static void fail(struct tcd_plan *plan, const struct tcw_error *error)
{
    struct tcd_instance *instance = plan->instance;

    tcd_plan_fail(plan, error);
    tcd_plan_build_next(instance);
}

void tcd_plan_build_fail(struct tcd_plan *plan, uint32_t rank, int code, const char *text)
{
    struct tcw_error error;
    char who[64];

    tcd_error_set(&error, code, "%s, device %u: %.180s", tcd_member_text(&plan->instance->members[rank], who, sizeof(who)),
                  plan->instance->members[rank].device->number, text);
    error.rank = rank;
    fail(plan, &error);
}

/* ---- the answer ---- */

static bool is_served(const struct tcd_plan *plan)
{
    return plan->choice.decision.lane == TCW_LANE_SERVED;
}

static void answer(struct tcd_plan *plan, struct tcd_member *member)
{
    const struct tcd_workspace *workspace = plan->workspace;
    struct tcw_plan_ready ready = {.plan = plan->handle,
                                   .plan_id = (uint32_t)plan->number,
                                   .workspace_generation = workspace ? workspace->generation : 0,
                                   .workspace_bytes = workspace ? workspace->bytes : 0,
                                   .decision = plan->choice.decision};
    int fds[TCW_MAX_FDS];
    unsigned count = 0;

    if (workspace && !is_served(plan) && tcd_workspace_has_fds(workspace)) {
        for (; count < plan->instance->size; count++)
            fds[count] = workspace->fds[count];
        if (workspace->multicast >= 0)
            fds[count++] = workspace->multicast;
        ready.workspace_fds = count;
    }
    if (is_served(plan) && !member->attachment->given) {
        tcd_attachment_fds(member->attachment, fds + count);
        count += 3;
        ready.ring_bytes = member->attachment->ring_bytes;
    }
    tcw_text_set(ready.reason, sizeof(ready.reason), plan->choice.reason);
    tcd_client_send(member->client, TCW_MSG_PLAN_READY, plan->sequences[member->rank], &ready, fds, count);
    if (ready.ring_bytes)
        tcd_attachment_given(member->attachment);
}

static void finish(struct tcd_plan *plan)
{
    struct tcd_instance *instance = plan->instance;
    uint32_t i;

    tcd_alarm_stop(&plan->patience);
    plan->state = TCD_PLAN_READY;
    instance->ready_plans++;
    plan->holders = plan->waiting;
    plan->waiting = 0;
    for (i = 0; i < instance->size; i++)
        answer(plan, &instance->members[i]);
    if (plan->workspace)
        tcd_workspace_given(plan->workspace);
    tcd_log(TCD_DEBUG, "group '%s' epoch %llu: plan %llu (%s), %s", instance->group->name, (unsigned long long)instance->epoch,
            (unsigned long long)plan->number, tcw_op_name(plan->desc.op), plan->choice.reason);
    instance->building = NULL;
    tcd_plan_build_next(instance);
}

/* ---- the served lane ---- */

static void on_served(void *arg, const struct tcd_ex_message *reply, int fd)
{
    struct tcd_plan *plan = tcd_plan_call_last(arg, reply, fd);

    if (plan)
        finish(plan);
}

static int send_workspace(struct tcd_plan *plan, struct tcd_member *member, struct tcw_error *error)
{
    const struct tcd_workspace *workspace = plan->workspace;
    struct tcd_ex_message message = {.opcode = TCD_EX_WORKSPACE,
                                     .attachment = member->attachment->id,
                                     .client = member->client->id,
                                     .rank = member->rank,
                                     .nranks = plan->instance->size,
                                     .workspace_generation = workspace->generation,
                                     .workspace_bytes = workspace->bytes};

    if (tcd_plan_call_send(plan, member->rank, &message, workspace->fds, plan->instance->size, on_served, error))
        return error->code;
    member->attachment->workspace_generation = workspace->generation;
    return 0;
}

static int send_plan(struct tcd_plan *plan, struct tcd_member *member, struct tcw_error *error)
{
    struct tcd_ex_message message = {.opcode = TCD_EX_PLAN,
                                     .attachment = member->attachment->id,
                                     .client = member->client->id,
                                     .handle = plan->handle,
                                     .rank = member->rank,
                                     .nranks = plan->instance->size,
                                     .plan_id = (uint32_t)plan->number,
                                     .workspace_generation = plan->workspace ? plan->workspace->generation : 0,
                                     .workspace_bytes = plan->workspace ? plan->workspace->bytes : 0,
                                     .decision = plan->choice.decision,
                                     .desc = plan->desc};

    return tcd_plan_call_send(plan, member->rank, &message, NULL, 0, on_served, error);
}

static int attach(struct tcd_plan *plan, struct tcd_member *member, struct tcw_error *error)
{
    void *call;

    if (member->attachment)
        return 0;
    call = tcd_plan_call_create(plan, member->rank);
    if (!call)
        return tcd_error_set(error, TCW_ENOMEM, "no memory for a request");
    if (tcd_attachment_create(member, on_served, call, error)) {
        free(call);
        return error->code;
    }
    plan->outstanding++;
    return 0;
}

static bool needs_workspace(const struct tcd_plan *plan, const struct tcd_attachment *attachment)
{
    return plan->workspace && attachment->workspace_generation != plan->workspace->generation;
}

static void serve(struct tcd_plan *plan)
{
    struct tcd_instance *instance = plan->instance;
    struct tcw_error error;
    uint32_t i;

    for (i = 0; i < instance->size; i++) {
        struct tcd_member *member = &instance->members[i];

        if (attach(plan, member, &error) || (needs_workspace(plan, member->attachment) && send_workspace(plan, member, &error)) ||
            send_plan(plan, member, &error)) {
            struct tcw_error why = error;
            tcd_plan_build_fail(plan, i, why.code, why.text);
            return;
        }
    }
}

/* ---- workspaces ---- */

void tcd_plan_build_go_on(struct tcd_plan *plan)
{
    tcd_grids_agree(plan->instance, &plan->choice);
    if (is_served(plan))
        serve(plan);
    else
        finish(plan);
}

static void on_allocated(void *arg, const struct tcd_ex_message *reply, int fd)
{
    uint32_t rank;
    struct tcd_plan *plan = tcd_plan_call_end(arg, &rank);

    if (plan && !reply->code && fd >= 0) {
        if (!tcd_workspace_arrived(plan->workspace, rank, fd))
            return;
        if (plan->choice.multicast)
            tcd_plan_multicast_make(plan);
        else
            tcd_plan_build_go_on(plan);
        return;
    }
    if (fd >= 0)
        close(fd);
    if (plan)
        tcd_plan_build_fail(plan, rank, reply->code ? reply->code : TCW_EINTERNAL, reply->text);
}

static void use_workspace(struct tcd_plan *plan, struct tcd_workspace *workspace)
{
    plan->workspace = workspace;
    tcd_workspace_use(workspace);
    workspace->captured |= (plan->desc.flags & TCW_PLAN_GRAPH) != 0;
}

/* The newest workspace of the lane, a larger one, or none if the plan needs none. */
static void find_workspace(struct tcd_plan *plan)
{
    struct tcd_instance *instance = plan->instance;
    tcw_lane lane = plan->choice.decision.lane;
    struct tcd_workspace *workspace = instance->newest[lane];
    uint64_t bytes = plan->choice.workspace_bytes;
    struct tcw_error error;

    if (!bytes) {
        tcd_plan_build_go_on(plan);
    } else if (workspace && workspace->bytes >= bytes && (workspace->multicast >= 0 || !plan->choice.multicast)) {
        use_workspace(plan, workspace);
        tcd_plan_build_go_on(plan);
    } else if ((workspace = tcd_workspace_create(instance, lane, bytes, on_allocated, tcd_plan_call_create, plan, &error))) {
        use_workspace(plan, workspace);
    } else {
        fail(plan, &error);
    }
}

/* ---- the communicator ---- */

static void on_communicator(void *arg, const struct tcw_error *error)
{
    struct tcd_plan *plan = arg;
    struct tcw_error why;

    if (!error) {
        find_workspace(plan);
        return;
    }
    why = *error;
    fail(plan, &why);
}

/* Where the executors agree before they launch; only they map it. */
static int make_gate(struct tcd_instance *instance, struct tcw_error *error)
{
    if (instance->gate >= 0)
        return 0;
    instance->gate = tcw_memfd_create("trtcoll-gate", sizeof(struct tcd_gate), 1);
    return instance->gate < 0 ? tcd_error_set(error, instance->gate, "no memory or descriptors for a gate") : 0;
}

/* An attachment is bound to its communicator. One that has ended takes attachments along, unless there were none yet. */
static struct tcd_communicator *take_communicator(struct tcd_instance *instance, struct tcw_error *error)
{
    struct tcd_device *devices[TCW_MAX_RANKS];
    uint32_t i;

    if (instance->communicator && instance->communicator->state == TCD_COMM_ENDED) {
        tcd_communicator_put(instance->communicator);
        instance->communicator = NULL;
    }
    for (i = 0; i < instance->size; i++)
        devices[i] = instance->members[i].device;
    if (!instance->communicator)
        instance->communicator = tcd_communicator_get(instance->daemon, devices, instance->size, error);
    return instance->communicator;
}

static void find_communicator(struct tcd_plan *plan)
{
    struct tcd_instance *instance = plan->instance;
    struct tcd_communicator *communicator;
    struct tcw_error error;

    if (make_gate(instance, &error) || !(communicator = take_communicator(instance, &error)))
        fail(plan, &error);
    else if (communicator->state == TCD_COMM_READY)
        find_workspace(plan);
    else
        tcd_communicator_await(communicator, &plan->communicator, on_communicator, plan);
}

/* ---- beginning ---- */

static void start(struct tcd_plan *plan)
{
    struct tcd_instance *instance = plan->instance;
    struct tcd_choosing choosing;
    struct tcw_error error;

    tcd_choosing_set(&choosing, instance->daemon, instance,
                     instance->group->configured ? tcf_config_group(instance->daemon->config, instance->group->name) : NULL,
                     instance->size);
    if (tcd_choose(&plan->desc, &choosing, &plan->choice, &error))
        tcd_plan_fail(plan, &error);
    else if (choosing.kind == TCK_DEVICE_CUDA && is_served(plan))
        find_communicator(plan);
    else
        find_workspace(plan);
}

void tcd_plan_build_next(struct tcd_instance *instance)
{
    while (!instance->building && instance->state == TCD_READY) {
        struct tcd_plan *next = NULL;
        struct tcd_link *at;

        TCD_EACH (at, &instance->plans) {
            next = TCD_ENTRY(at, struct tcd_plan, link);
            if (next->state == TCD_PLAN_QUEUED)
                break;
        }
        if (at == &instance->plans || !next)
            return;
        next->state = TCD_PLAN_BUILDING;
        instance->building = next;
        start(next);
    }
}

void tcd_plan_build_drop(const struct tcd_plan *plan, const struct tcd_member *member)
{
    struct tcd_ex_message message = {.opcode = TCD_EX_PLAN_DROP, .handle = plan->handle};

    if (plan->choice.decision.lane != TCW_LANE_SERVED || !member->attachment || member->attachment->lost)
        return;
    message.attachment = member->attachment->id;
    message.client = member->client->id;
    tcd_device_tell(member->device, &message);
}

void tcd_plan_build_undo(struct tcd_plan *plan)
{
    uint32_t i;

    tcd_communicator_wait_end(&plan->communicator);
    if (!plan->workspace && !plan->outstanding)
        return;
    for (i = 0; i < plan->instance->size; i++) {
        struct tcd_member *member = &plan->instance->members[i];

        if (!member->attachment)
            continue;
        /* An attachment that no client knows yet may be what failed: the next plan makes a new one. */
        if (!member->attachment->given)
            tcd_attachment_destroy(member->attachment);
        else if (plan->outstanding)
            tcd_plan_build_drop(plan, member);
    }
    if (!plan->workspace)
        return;
    /* Some may have got this workspace and some not: the next plan makes its own. */
    if (tcd_workspace_has_fds(plan->workspace))
        tcd_workspace_retire(plan->workspace);
    tcd_workspace_drop(plan->workspace);
    plan->workspace = NULL;
}
