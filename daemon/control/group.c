#include "group.h"

#include "daemon.h"
#include "hello.h"
#include "publish.h"
#include "reform.h"
#include "text.h"

#include <tck/comm.h>

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct tcd_group *tcd_group_find(struct tcd_daemon *daemon, const char *name)
{
    struct tcd_link *at;

    TCD_EACH (at, &daemon->groups) {
        struct tcd_group *group = TCD_ENTRY(at, struct tcd_group, link);
        if (!strcmp(group->name, name))
            return group;
    }
    return NULL;
}

static struct tcd_group *group_create(struct tcd_daemon *daemon, const char *name, uint32_t size, bool configured, uint32_t uid)
{
    struct tcd_group *group = calloc(1, sizeof(*group));

    if (!group)
        return NULL;
    group->daemon = daemon;
    tcw_text_set(group->name, sizeof(group->name), name);
    group->configured = configured;
    group->uid = uid;
    group->size = size;
    group->epoch = daemon->last_epoch;
    group->row = TCD_NO_ROW;
    tcd_list_init(&group->instances);
    tcd_list_append(&daemon->groups, &group->link);
    return group;
}

int tcd_group_runnable(struct tcd_daemon *daemon, const struct tcf_group *wanted, struct tcw_error *error)
{
    const struct tcf_config *config = daemon->config;
    struct tcw_error why;
    uint32_t i;

    for (i = 0; i < wanted->size; i++) {
        const struct tcf_rank *rank = &wanted->ranks[i];
        const struct tcd_device *device;

        if (rank->node != config->local_node)
            return tcd_error_set(error, TCW_ENOTSUP, "group '%s': rank %u is on node '%s'; groups that span nodes are not built in",
                                 wanted->name, i, config->nodes[rank->node].name);
        device = tcd_device_find(daemon, rank->device);
        if (!device)
            return tcd_error_set(error, TCW_EINVAL, "group '%s': rank %u is on device %u, which this node does not have", wanted->name, i,
                                 rank->device);
        if (tcd_device_check(device, &why))
            return tcd_error_set(error, why.code, "group '%s': rank %u: %.160s", wanted->name, i, why.text);
    }
    return 0;
}

int tcd_groups_configure(struct tcd_daemon *daemon)
{
    struct tcd_link *at, *safe;
    struct tcw_error obstacle;
    uint32_t i;

    TCD_EACH_SAFE (at, safe, &daemon->groups)
        tcd_group_release(TCD_ENTRY(at, struct tcd_group, link));
    for (i = 0; i < daemon->config->group_count; i++) {
        const struct tcf_group *wanted = &daemon->config->groups[i];
        struct tcd_group *group = tcd_group_find(daemon, wanted->name);

        if (!group && !(group = group_create(daemon, wanted->name, wanted->size, true, 0)))
            return TCW_ENOMEM;
        /* A group that its members had made under this name stays theirs until they have left; then it becomes the configured one. */
        if (tcd_list_empty(&group->instances)) {
            group->configured = true;
            group->size = wanted->size;
        }
        if (tcd_group_runnable(daemon, wanted, &obstacle))
            tcd_log(TCD_WARNING, "%s; joins are refused", obstacle.text);
        tcd_publish_group(group);
    }
    return 0;
}

void tcd_group_release(struct tcd_group *group)
{
    const struct tcf_group *wanted;

    if (!tcd_list_empty(&group->instances))
        return;
    wanted = tcf_config_group(group->daemon->config, group->name);
    if (wanted) {
        group->configured = true;
        group->size = wanted->size;
        tcd_publish_group(group);
        return;
    }
    tcd_publish_group_ended(group);
    tcd_list_remove(&group->link);
    if (group->daemon->last_epoch < group->epoch)
        group->daemon->last_epoch = group->epoch;
    free(group);
}

struct tcd_instance *tcd_group_broken(const struct tcd_group *group)
{
    struct tcd_link *at;

    for (at = group->instances.prev; at != &group->instances; at = at->prev) {
        struct tcd_instance *instance = TCD_ENTRY(at, struct tcd_instance, link);
        if (instance->state == TCD_BROKEN)
            return instance;
    }
    return NULL;
}

uint64_t tcd_group_deadline_ns(const struct tcd_group *group)
{
    const struct tcf_group *wanted = group->configured ? tcf_config_group(group->daemon->config, group->name) : NULL;

    return wanted && wanted->deadline_ns ? wanted->deadline_ns : group->daemon->config->options.operation_ms * 1000000ull;
}

/* ---- joining ---- */

static int check_name(const char *name, struct tcw_error *error)
{
    const char *at;

    if (!*name)
        return tcd_error_set(error, TCW_EINVAL, "the group's name is empty");
    for (at = name; *at; at++)
        if (!isalnum((unsigned char)*at) && !strchr("._:/-", *at))
            return tcd_error_set(error, TCW_EINVAL, "a group's name has the byte 0x%02x, allowed are letters, digits and . _ : / -",
                                 (unsigned char)*at);
    return 0;
}

static int check_configured(const struct tcd_client *client, const struct tcf_group *wanted, const struct tcw_group_join *join,
                            struct tcw_error *error)
{
    if (join->rank < -1 || (join->rank >= 0 && (uint32_t)join->rank >= wanted->size))
        return tcd_error_set(error, TCW_EINVAL, "group '%s' has ranks 0 to %u, not %d", wanted->name, wanted->size - 1, join->rank);
    if (!tcd_access_allows(&wanted->access, client))
        return tcd_error_set(error, TCW_EPERM, "group '%s': uid %u and its groups are not in the configured users or groups", wanted->name,
                             client->uid);
    return tcd_group_runnable(client->daemon, wanted, error);
}

static int check_made(struct tcd_daemon *daemon, const struct tcw_group_join *join, struct tcw_error *error)
{
    if (tcf_config_group(daemon->config, join->name))
        return tcd_error_set(error, TCW_EEXIST, "group '%s' is configured; join it without a size", join->name);
    if (check_name(join->name, error))
        return error->code;
    if (join->size > TCW_MAX_RANKS || join->rank < 0 || (uint32_t)join->rank >= join->size)
        return tcd_error_set(error, TCW_EINVAL, "group '%s': rank %d of %u; a group has 1 to %d ranks, counted from 0", join->name,
                             join->rank, join->size, TCW_MAX_RANKS);
    return 0;
}

static int check_size(uint32_t size, const char *name, struct tcw_error *error)
{
    if (size > TCK_HOST_MAX_RANKS) /* of groups on cuda devices too */
        return tcd_error_set(error, TCW_ENOTSUP, "group '%s' has %u ranks; groups have 1 to %d", name, size, TCK_HOST_MAX_RANKS);
    return 0;
}

static bool has_membership(const struct tcd_client *client, const struct tcd_group *group)
{
    struct tcd_link *at;

    TCD_EACH (at, &client->members)
        if (TCD_ENTRY(at, struct tcd_member, of_client)->instance->group == group)
            return true;
    return false;
}

/* What an existing group of this name has to say. */
static int check_existing(struct tcd_group *group, const struct tcd_client *client, const struct tcw_group_join *join,
                          struct tcw_error *error)
{
    struct tcd_instance *other;

    if (group->configured != !join->size)
        return tcd_error_set(error, group->configured ? TCW_EEXIST : TCW_ENOENT, "group '%s' is %s", group->name,
                             group->configured ? "configured; join it without a size" : "made by its members; name its size");
    if (!group->configured && !tcd_list_empty(&group->instances) && group->uid != client->uid && client->uid != 0)
        return tcd_error_set(error, TCW_EPERM, "group '%s' was made by uid %u; only that user may join it, not uid %u", group->name,
                             group->uid, client->uid);
    if (has_membership(client, group))
        return tcd_error_set(error, TCW_EEXIST, "this client is a member of group '%s' already; leave or re-form it", group->name);
    if (group->ready)
        return tcd_error_set(error, group->configured ? TCW_EBUSY : TCW_EEXIST, "group '%s' is complete: all its %u ranks are taken",
                             group->name, group->ready->size);
    other = group->forming ? group->forming : tcd_group_broken(group);
    if (join->size && other && other->size != join->size) {
        tcd_error_set(error, TCW_EMISMATCH, "group '%s': size %u asked for, its other members say %u", group->name, join->size,
                      other->size);
        tcw_text_set(error->field, sizeof(error->field), "size");
        error->mine = join->size;
        error->theirs = other->size;
        error->rank = (uint32_t)__builtin_ctzll(tcd_instance_present_ranks(other));
        error->pid = (int32_t)other->members[error->rank].client->process.pid;
        return TCW_EMISMATCH;
    }
    return 0;
}

/* The device of a rank, as far as it is fixed before somebody takes it. */
static struct tcd_device *rank_device(struct tcd_group *group, uint32_t rank)
{
    const struct tcf_group *wanted = group->configured ? tcf_config_group(group->daemon->config, group->name) : NULL;
    struct tcd_instance *broken = tcd_group_broken(group);

    /* A shrunk group counts its ranks differently from the file. */
    if (broken && rank < broken->size && (!wanted || wanted->size != broken->size))
        return broken->members[rank].device;
    return wanted && rank < wanted->size ? tcd_device_find(group->daemon, wanted->ranks[rank].device) : NULL;
}

static int take_rank(struct tcd_group *group, const struct tcd_client *client, uint64_t taken, uint32_t size, int wanted, uint32_t *rank,
                     struct tcw_error *error)
{
    struct tcd_instance *broken = tcd_group_broken(group);
    uint32_t i;

    if (wanted >= 0) {
        struct tcd_device *device;

        if ((uint32_t)wanted >= size)
            return tcd_error_set(error, TCW_EINVAL, "group '%s' has ranks 0 to %u now, not %d", group->name, size - 1, wanted);
        if (taken >> wanted & 1) {
            struct tcd_instance *holder = group->forming && group->forming->members[wanted].client ? group->forming : broken;
            char who[64];
            tcd_error_set(error, TCW_EBUSY, "group '%s': %s holds that rank", group->name,
                          tcd_member_text(&holder->members[wanted], who, sizeof(who)));
            error->rank = (uint32_t)wanted;
            return TCW_EBUSY;
        }
        device = rank_device(group, (uint32_t)wanted);
        if (device && client->device && device != client->device && group->configured)
            return tcd_error_set(error, TCW_EINVAL, "group '%s': rank %d is on device %u, this context on device %u", group->name, wanted,
                                 device->number, client->device->number);
        *rank = (uint32_t)wanted;
        return 0;
    }
    for (i = 0; i < size; i++) {
        if (taken >> i & 1)
            continue;
        if (client->device && rank_device(group, i) && rank_device(group, i) != client->device)
            continue;
        *rank = i;
        return 0;
    }
    if (client->device)
        return tcd_error_set(error, TCW_EBUSY, "group '%s' has no free rank on device %u", group->name, client->device->number);
    return tcd_error_set(error, TCW_EBUSY, "group '%s' has no free rank", group->name);
}

/* Devices of one kind, and a GPU only once: the ranks of a group run at the same time and wait for each other. */
static int check_beside(const struct tcd_group *group, const struct tcd_device *device, struct tcw_error *error)
{
    const struct tcd_instance *forming = group->forming;
    uint32_t i;

    for (i = 0; forming && i < forming->size; i++) {
        const struct tcd_device *other = forming->members[i].client ? forming->members[i].device : NULL;

        if (!other)
            continue;
        if (other->kind != device->kind) {
            tcd_error_set(error, TCW_EINVAL, "group '%s': device %u is a %s device, rank %u is on %s device %u; a group has one kind",
                          group->name, device->number, tcd_device_kind_name(device->kind), i, tcd_device_kind_name(other->kind),
                          other->number);
            error->rank = i;
            return error->code;
        }
        if (other == device && device->kind == TCF_DEVICE_CUDA) {
            tcd_error_set(error, TCW_EINVAL, "group '%s': device %u is taken by rank %u; a group has a cuda device only once", group->name,
                          device->number, i);
            error->rank = i;
            return error->code;
        }
    }
    return 0;
}

static bool fits_beside(const void *arg, const struct tcd_device *device)
{
    struct tcw_error error;

    return !check_beside(arg, device, &error);
}

static int find_device(struct tcd_group *group, struct tcd_client *client, uint32_t rank, struct tcd_device **device,
                       struct tcw_error *error)
{
    struct tcd_device *fixed = group->configured ? rank_device(group, rank) : NULL;

    *device = fixed ? fixed : client->device ? client->device : tcd_device_least(client->daemon, fits_beside, group);
    if (!*device)
        return tcd_error_set(error, TCW_ENOTSUP, "group '%s': this node has no device left that operations can run on", group->name);
    if (check_beside(group, *device, error))
        return error->code;
    return tcd_device_check(*device, error);
}

static int join_group(struct tcd_client *client, uint32_t sequence, const struct tcw_group_join *join, struct tcw_error *error)
{
    struct tcd_daemon *daemon = client->daemon;
    const struct tcf_group *wanted = tcf_config_group(daemon->config, join->name);
    struct tcd_group *group = tcd_group_find(daemon, join->name);
    struct tcd_instance *broken;
    struct tcd_device *device;
    uint64_t taken = 0;
    uint32_t rank = 0, size;

    if (daemon->draining)
        return tcd_error_set(error, TCW_EDRAIN, "the daemon is draining");
    if (!join->size && !wanted && !group)
        return tcd_error_set(error, TCW_ENOENT, "no group '%s' in the configuration", join->name);
    if (join->size && check_made(daemon, join, error))
        return error->code;
    if (!join->size && wanted && check_configured(client, wanted, join, error))
        return error->code;
    if (group && check_existing(group, client, join, error))
        return error->code;

    broken = group ? tcd_group_broken(group) : NULL;
    size = group && group->forming ? group->forming->size : broken ? broken->size : join->size ? join->size : wanted ? wanted->size : 0;
    if (!size) /* a reload took it out of the configuration, and its last members are still leaving */
        return tcd_error_set(error, TCW_ENOENT, "no group '%s' in the configuration", join->name);
    if (check_size(size, join->name, error))
        return error->code;
    if (group && group->forming)
        taken = tcd_instance_present_ranks(group->forming);
    if (broken)
        taken |= tcd_reform_reserved(broken);
    if (!group && !(group = group_create(daemon, join->name, size, false, client->uid)))
        return tcd_error_set(error, TCW_ENOMEM, "no memory for a group");
    if (take_rank(group, client, taken, size, join->rank, &rank, error) || find_device(group, client, rank, &device, error) ||
        tcd_quota_take(&client->usage, client->account, &daemon->config->options, TCD_GROUPS, 1, error)) {
        tcd_group_release(group);
        return error->code;
    }
    if (!group->forming && !tcd_instance_create(group, size)) {
        tcd_quota_give(&client->usage, client->account, TCD_GROUPS, 1);
        tcd_group_release(group);
        return tcd_error_set(error, TCW_ENOMEM, "no memory for a group");
    }
    group->size = size;
    group->forming->members[rank].counted = true;
    tcd_instance_enter(group->forming, rank, client, device, sequence,
                       join->timeout_ms ? join->timeout_ms : (uint32_t)daemon->config->options.join_ms);
    return 0;
}

void tcd_group_join(struct tcd_client *client, uint32_t sequence, const struct tcw_group_join *join)
{
    struct tcw_error error;

    if (join_group(client, sequence, join, &error))
        tcd_client_refuse(client, sequence, &error);
}
