#include "instance.h"

#include "attachment.h"
#include "communicator.h"
#include "daemon.h"
#include "group.h"
#include "instance_break.h"
#include "plan.h"
#include "publish.h"
#include "reform.h"
#include "text.h"
#include "workspace.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct tcd_instance *tcd_instance_create(struct tcd_group *group, uint32_t size)
{
    struct tcd_daemon *daemon = group->daemon;
    struct tcd_instance *instance = calloc(1, sizeof(*instance) + size * sizeof(instance->members[0]));
    uint32_t i;

    if (!instance)
        return NULL;
    instance->daemon = daemon;
    instance->group = group;
    instance->state = TCD_FORMING;
    instance->size = size;
    instance->epoch = group->epoch + 1;
    instance->deadline_ns = tcd_group_deadline_ns(group);
    instance->row = TCD_NO_ROW;
    instance->gate = -1;
    tcd_list_init(&instance->plans);
    tcd_list_init(&instance->workspaces);
    for (i = 0; i < size; i++) {
        instance->members[i].instance = instance;
        instance->members[i].rank = i;
        instance->members[i].row = TCD_NO_ROW;
        tcd_list_init(&instance->members[i].of_client);
    }
    instance->id = tcd_handle_add(&daemon->instances, instance);
    if (!instance->id) {
        free(instance);
        return NULL;
    }
    tcd_list_append(&group->instances, &instance->link);
    group->forming = instance;
    tcd_publish_group_began(group, instance);
    return instance;
}

static void instance_free(struct tcd_instance *instance)
{
    struct tcd_daemon *daemon = instance->daemon;
    struct tcd_group *group = instance->group;
    uint32_t i;

    tcd_alarm_stop(&instance->gentle);
    tcd_plans_free(instance);
    tcd_workspaces_free(instance);
    if (instance->communicator)
        tcd_communicator_put(instance->communicator);
    if (instance->gate >= 0)
        close(instance->gate);
    for (i = 0; i < instance->size; i++)
        tcd_publish_member_ended(&instance->members[i]);
    tcd_publish_instance_ended(instance);
    tcd_handle_remove(&daemon->instances, instance->id);
    tcd_list_remove(&instance->link);
    if (group->forming == instance)
        group->forming = NULL;
    if (group->ready == instance)
        group->ready = NULL;
    free(instance);
    tcd_group_release(group);
}

struct tcd_instance *tcd_instance_find(struct tcd_daemon *daemon, uint64_t id)
{
    return tcd_handle_get(&daemon->instances, id);
}

struct tcd_member *tcd_instance_member(struct tcd_instance *instance, const struct tcd_client *client)
{
    uint32_t i;

    for (i = 0; i < instance->size; i++)
        if (instance->members[i].client == client)
            return &instance->members[i];
    return NULL;
}

uint64_t tcd_instance_present_ranks(const struct tcd_instance *instance)
{
    uint64_t ranks = 0;
    uint32_t i;

    for (i = 0; i < instance->size; i++)
        if (instance->members[i].client)
            ranks |= 1ull << i;
    return ranks;
}

const char *tcd_member_text(const struct tcd_member *member, char *text, size_t bytes)
{
    if (member->client)
        snprintf(text, bytes, "rank %u (pid %d)", member->rank, (int)member->client->process.pid);
    else
        snprintf(text, bytes, "rank %u", member->rank);
    return text;
}

uint64_t tcd_member_step(const struct tcd_member *member)
{
    return tcd_page_finished(&member->page) + (member->attachment ? tcd_page_finished(&member->attachment->page) : 0);
}

bool tcd_instance_allows_line(const struct tcd_instance *instance, uint32_t rank, tcd_level level)
{
    uint32_t i = rank < instance->size && instance->members[rank].client ? rank : 0;

    while (i < instance->size && !instance->members[i].client)
        i++;
    return i == instance->size || tcd_client_allows_group_line(instance->members[i].client, level);
}

/* ---- forming ---- */

static void on_join_timeout(void *arg)
{
    struct tcd_member *member = arg;
    struct tcd_instance *instance = member->instance;
    uint64_t all = instance->size == 64 ? UINT64_MAX : (1ull << instance->size) - 1;
    uint64_t absent = all & ~tcd_instance_present_ranks(instance);
    struct tcw_error error;
    char ranks[TCW_TEXT_BYTES / 2];

    if (!absent)
        tcd_error_set(&error, TCW_ETIMEOUT, "group '%s': the executors of its devices were not ready within %llu ms", instance->group->name,
                      (unsigned long long)((tcw_now_ns() - member->waits_since_ns) / 1000000));
    else
        tcd_error_set(&error, TCW_ETIMEOUT, "group '%s': %s of %u did not join within %llu ms", instance->group->name,
                      tcd_ranks_text(absent, ranks, sizeof(ranks)), instance->size,
                      (unsigned long long)((tcw_now_ns() - member->waits_since_ns) / 1000000));
    if (absent)
        error.rank = (uint32_t)__builtin_ctzll(absent);
    member->waiting = false;
    tcd_client_refuse(member->client, member->sequence, &error);
    tcd_member_remove(member);
}

void tcd_instance_enter(struct tcd_instance *instance, uint32_t rank, struct tcd_client *client, struct tcd_device *device,
                        uint32_t sequence, uint32_t timeout_ms)
{
    struct tcd_member *member = &instance->members[rank];

    tcd_client_bind(client, device);
    member->client = client;
    member->device = device;
    member->sequence = sequence;
    member->waiting = true;
    member->waits_since_ns = tcw_now_ns();
    tcd_list_append(&client->members, &member->of_client);
    tcd_publish_member_began(member);
    instance->present++;
    tcd_publish_instance(instance);
    tcd_alarm_set(&member->patience, &instance->daemon->clock, timeout_ms, on_join_timeout, member);
    if (instance->present == instance->size)
        tcd_instance_complete(instance);
}

static int make_pages(struct tcd_instance *instance, int *fds)
{
    uint32_t i;

    for (i = 0; i < instance->size; i++) {
        int code =
            tcd_page_open(&instance->members[i].page, instance->id, instance->epoch, i, instance->size, instance->deadline_ns, &fds[i]);
        if (code) {
            while (i--)
                close(fds[i]);
            return code;
        }
    }
    return 0;
}

tck_device_kind tcd_instance_kind(const struct tcd_instance *instance)
{
    return tcd_device_kind_of(instance->members[0].device);
}

static void fill_ready(const struct tcd_instance *instance, struct tcw_group_ready *ready)
{
    uint32_t i;

    *ready = (struct tcw_group_ready){.group_id = instance->id,
                                      .epoch = instance->epoch,
                                      .size = instance->size,
                                      .spin_us = (uint32_t)instance->daemon->config->options.spin_us,
                                      .deadline_ns = instance->deadline_ns,
                                      .page_bytes = tcw_member_page_bytes(),
                                      .device_kind = tcd_instance_kind(instance)};
    for (i = 0; i < instance->size; i++) {
        ready->peers[i].pid = (int32_t)instance->members[i].client->process.pid;
        ready->peers[i].uid = instance->members[i].client->uid;
        ready->peers[i].device = (int32_t)instance->members[i].device->number;
    }
}

/* A client that re-formed was, until now, also a member of the broken instance. */
static void leave_older(struct tcd_member *member)
{
    struct tcd_client *client = member->client;
    struct tcd_link *at, *safe;

    TCD_EACH_SAFE (at, safe, &client->members) {
        struct tcd_member *old = TCD_ENTRY(at, struct tcd_member, of_client);
        if (old == member || old->instance->group != member->instance->group)
            continue;
        member->counted |= old->counted;
        old->counted = false;
        tcd_member_remove(old);
    }
}

/* 1: all devices are known; 0: an executor is still starting; negative: something is wrong with one. */
static int check_devices(const struct tcd_instance *instance, struct tcw_error *error)
{
    struct tcw_error why;
    bool known = true;
    uint32_t i;

    for (i = 0; i < instance->size; i++) {
        const struct tcd_device *device = instance->members[i].device;

        if (tcd_device_check(device, &why)) {
            tcd_error_set(error, why.code, "group '%s': rank %u: %.180s", instance->group->name, i, why.text);
            error->rank = i;
            return error->code;
        }
        known &= tcd_device_known(device);
    }
    return known;
}

void tcd_instance_complete(struct tcd_instance *instance)
{
    struct tcd_group *group = instance->group;
    struct tcw_group_ready ready;
    struct tcw_error error;
    int fds[TCW_MAX_RANKS];
    uint32_t i;
    int code = check_devices(instance, &error);

    if (!code)
        return;
    if (code > 0 && (code = make_pages(instance, fds)))
        tcd_error_set(&error, code, "group '%s': no memory for the member pages", group->name);
    if (code) {
        tcd_instance_dissolve(instance, &error);
        return;
    }
    instance->state = TCD_READY;
    group->forming = NULL;
    group->ready = instance;
    group->epoch = instance->epoch;
    fill_ready(instance, &ready);
    for (i = 0; i < instance->size; i++) {
        struct tcd_member *member = &instance->members[i];

        tcd_alarm_stop(&member->patience);
        member->waiting = false;
        ready.rank = i;
        ready.device = (int32_t)member->device->number;
        memcpy(ready.device_uuid, member->device->facts.device.uuid, sizeof(ready.device_uuid));
        tcd_client_send(member->client, TCW_MSG_GROUP_READY, member->sequence, &ready, &fds[i], 1);
        close(fds[i]);
        leave_older(member);
    }
    if (tcd_instance_allows_line(instance, 0, TCD_INFO))
        tcd_log(TCD_INFO, "group '%s' epoch %llu: ready, %u ranks", group->name, (unsigned long long)instance->epoch, instance->size);
    tcd_watch_wake(&instance->daemon->watch);
}

static bool has_device(const struct tcd_instance *instance, const struct tcd_device *device)
{
    uint32_t i;

    for (i = 0; i < instance->size; i++)
        if (instance->members[i].client && instance->members[i].device == device)
            return true;
    return false;
}

void tcd_instances_device_settled(struct tcd_device *device)
{
    struct tcd_handles *instances = &device->daemon->instances;
    uint32_t i;

    for (i = 0; i < instances->capacity; i++) {
        struct tcd_instance *instance = tcd_handle_at(instances, i);
        if (instance && instance->state == TCD_FORMING && instance->present == instance->size && has_device(instance, device))
            tcd_instance_complete(instance);
    }
}

void tcd_instances_communicator_lost(struct tcd_daemon *daemon, const struct tcd_communicator *communicator, const struct tcw_error *cause)
{
    uint32_t i;

    for (i = 0; i < daemon->instances.capacity; i++) {
        struct tcd_instance *instance = tcd_handle_at(&daemon->instances, i);
        if (instance && instance->communicator == communicator)
            tcd_instance_break(instance, cause);
    }
}

void tcd_instance_dissolve(struct tcd_instance *instance, const struct tcw_error *error)
{
    struct tcd_daemon *daemon = instance->daemon;
    uint64_t id = instance->id;
    uint32_t i, size = instance->size;

    for (i = 0; i < size && tcd_instance_find(daemon, id); i++) {
        struct tcd_member *member = &instance->members[i];
        if (!member->client)
            continue;
        if (member->waiting)
            tcd_client_refuse(member->client, member->sequence, error);
        member->waiting = false;
        tcd_member_remove(member);
    }
}

/* ---- going ---- */

void tcd_member_remove(struct tcd_member *member)
{
    struct tcd_instance *instance = member->instance;
    struct tcd_client *client = member->client;

    if (!client)
        return;
    tcd_alarm_stop(&member->patience);
    tcd_watch_member(&instance->daemon->watch, member);
    if (instance->state == TCD_FORMING)
        tcd_publish_member_ended(member);
    else
        tcd_publish_member_gone(member);
    tcd_plans_forget_member(member);
    if (member->attachment)
        tcd_attachment_destroy(member->attachment);
    tcd_workspaces_forget_member(member);
    tcd_page_close(&member->page);
    tcd_list_remove(&member->of_client);
    if (member->counted)
        tcd_quota_give(&client->usage, client->account, TCD_GROUPS, 1);
    member->counted = false;
    member->waiting = false;
    member->client = NULL;
    if (--instance->present)
        tcd_publish_instance(instance);
    else
        instance_free(instance);
}

void tcd_member_depart(struct tcd_member *member, const struct tcd_departure *departure)
{
    struct tcd_instance *instance = member->instance;
    struct tcd_daemon *daemon = instance->daemon;
    tcd_instance_state state = instance->state;
    uint64_t id = instance->id;
    struct tcw_error cause;
    char who[64];

    tcd_error_set(&cause, TCW_EPEERDEAD, "%s %s", tcd_member_text(member, who, sizeof(who)), departure->text);
    cause.rank = member->rank;
    cause.pid = (int32_t)member->client->process.pid;
    cause.signal = departure->signal;
    cause.step = tcd_member_step(member);

    if (state == TCD_READY && departure->orderly)
        tcd_instance_break_gently(instance, &cause, member);
    else if (state == TCD_READY)
        tcd_instance_break(instance, &cause);
    else if (state == TCD_BROKEN)
        tcd_member_depart_broken(member, departure->orderly);
    member->waiting = false;
    tcd_member_remove(member);

    instance = tcd_instance_find(daemon, id);
    if (!instance)
        return;
    if (state == TCD_FORMING && !departure->orderly)
        tcd_instance_dissolve(instance, &cause);
    else if (state == TCD_BROKEN)
        tcd_reform_member_gone(instance, departure->orderly ? NULL : &cause);
}

/* ---- handlers ---- */

/* The client's membership in a group id of a message, or NULL after refusing. */
static struct tcd_member *find_member(struct tcd_client *client, uint32_t sequence, uint64_t group_id)
{
    struct tcd_instance *instance = tcd_instance_find(client->daemon, group_id);
    struct tcd_member *member = instance ? tcd_instance_member(instance, client) : NULL;

    if (member && instance->state != TCD_FORMING)
        return member;
    tcd_client_refuse_text(client, sequence, TCW_ENOENT, "this client is not a member of group %llu", (unsigned long long)group_id);
    return NULL;
}

void tcd_group_leave(struct tcd_client *client, uint32_t sequence, const struct tcw_group_leave *leave)
{
    static const struct tcd_departure departure = {.orderly = true, .text = "left the group"};
    struct tcd_member *member = find_member(client, sequence, leave->group_id);

    if (!member)
        return;
    tcd_client_log(client, TCD_INFO, "leaves group '%s' epoch %llu", member->instance->group->name,
                   (unsigned long long)member->instance->epoch);
    tcd_member_depart(member, &departure);
    tcd_client_ok(client, sequence, 0);
}

void tcd_group_abort(struct tcd_client *client, uint32_t sequence, const struct tcw_group_abort *message)
{
    struct tcd_member *member = find_member(client, sequence, message->group_id);
    char who[64], reason[TCW_TEXT_BYTES];
    struct tcw_error cause;

    if (!member)
        return;
    tcd_text_clean(reason, sizeof(reason), message->reason);
    tcd_error_set(&cause, TCW_EABORTED, "%s aborted the group%s%.160s", tcd_member_text(member, who, sizeof(who)), *reason ? ": " : "",
                  reason);
    cause.rank = member->rank;
    tcd_instance_break(member->instance, &cause);
    tcd_client_ok(client, sequence, 0);
}

void tcd_group_report(struct tcd_client *client, const struct tcw_group_report *report)
{
    struct tcd_instance *instance = tcd_instance_find(client->daemon, report->group_id);
    struct tcd_member *member = instance ? tcd_instance_member(instance, client) : NULL;
    char who[64], text[TCW_TEXT_BYTES];
    struct tcw_error cause;

    /* The group may have ended while the report was on its way. */
    if (!member || instance->state == TCD_FORMING)
        return;
    if (report->code >= 0 || !tcw_error_name(report->code) || (report->rank != TCW_NOBODY && report->rank >= instance->size)) {
        tcd_client_doom(client, TCD_EXPELLED, "group-report with code %d about rank %u of %u", report->code, report->rank, instance->size);
        return;
    }
    tcd_text_clean(text, sizeof(text), report->text);
    tcd_error_set(&cause, report->code, "%s reports: %.190s", tcd_member_text(member, who, sizeof(who)), text);
    cause.rank = report->rank;
    cause.step = report->step;
    tcd_instance_break(instance, &cause);
}
