#include "reform.h"

#include "daemon.h"
#include "group.h"
#include "text.h"

#include <stdio.h>

/* Who was late may be stopped for good: nobody waits for it. If it asks in time, it takes part. */
static bool is_excused(const struct tcd_member *member)
{
    const struct tcw_error *cause = &member->instance->cause;

    return cause->code == TCW_ETIMEOUT && cause->rank == member->rank;
}

uint64_t tcd_reform_reserved(const struct tcd_instance *broken)
{
    uint64_t ranks = tcd_instance_present_ranks(broken);

    if (broken->cause.code == TCW_ETIMEOUT && broken->cause.rank < broken->size)
        ranks &= ~(1ull << broken->cause.rank);
    return ranks;
}

/* The client's membership in the instance that is being formed, if it waits there. */
static struct tcd_member *forming_member(const struct tcd_member *old)
{
    struct tcd_instance *forming = old->instance->group->forming;

    return forming && old->client ? tcd_instance_member(forming, old->client) : NULL;
}

static void answer(struct tcd_member *member, const struct tcw_error *error)
{
    tcd_alarm_stop(&member->patience);
    member->waiting = false;
    tcd_client_refuse(member->client, member->sequence, error);
}

static void refuse_shrinkers(struct tcd_instance *instance, const struct tcw_error *error)
{
    uint32_t i;

    for (i = 0; i < instance->size; i++)
        if (instance->members[i].client && instance->members[i].waiting)
            answer(&instance->members[i], error);
}

static uint64_t missing_shrinkers(const struct tcd_instance *instance)
{
    uint64_t missing = 0;
    uint32_t i;

    for (i = 0; i < instance->size; i++) {
        const struct tcd_member *member = &instance->members[i];
        if (member->client && !member->waiting && !is_excused(member))
            missing |= 1ull << i;
    }
    return missing;
}

static void shrink(struct tcd_instance *broken)
{
    struct tcd_group *group = broken->group;
    struct survivor {
        struct tcd_client *client;
        struct tcd_device *device;
        uint32_t sequence;
    } survivors[TCW_MAX_RANKS];
    struct tcd_instance *next;
    struct tcw_error error;
    uint32_t i, count = 0;

    if (group->forming) {
        tcd_error_set(&error, TCW_EBUSY, "group '%s': its members re-formed it without waiting for others", group->name);
        tcd_instance_dissolve(group->forming, &error);
    }
    for (i = 0; i < broken->size; i++) {
        struct tcd_member *member = &broken->members[i];
        if (!member->client || !member->waiting)
            continue;
        tcd_alarm_stop(&member->patience);
        member->waiting = false;
        survivors[count++] = (struct survivor){member->client, member->device, member->sequence};
    }
    next = tcd_instance_create(group, count);
    if (!next) {
        tcd_error_set(&error, TCW_ENOMEM, "group '%s': no memory for the next instance", group->name);
        for (i = 0; i < count; i++)
            tcd_client_refuse(survivors[i].client, survivors[i].sequence, &error);
        return;
    }
    group->size = count;
    /* The last one completes it, which frees the broken instance if nobody else is left in there. */
    for (i = 0; i < count; i++)
        tcd_instance_enter(next, i, survivors[i].client, survivors[i].device, survivors[i].sequence, 1000);
}

/* Whether the group has gone on without those who are still in this instance. Refuses nobody. */
static bool is_left_behind(const struct tcd_instance *instance, struct tcw_error *error)
{
    const struct tcd_group *group = instance->group;

    if (instance->epoch == group->epoch)
        return false;
    tcd_error_set(error, TCW_EBUSY, "group '%s' was re-formed as epoch %llu without some of epoch %llu; leave and join again", group->name,
                  (unsigned long long)group->epoch, (unsigned long long)instance->epoch);
    return true;
}

static void shrink_if_complete(struct tcd_instance *instance)
{
    struct tcw_error error;
    uint32_t i;

    if (missing_shrinkers(instance))
        return;
    if (is_left_behind(instance, &error)) {
        refuse_shrinkers(instance, &error);
        return;
    }
    for (i = 0; i < instance->size; i++) {
        if (instance->members[i].client && instance->members[i].waiting) {
            shrink(instance);
            return;
        }
    }
}

void tcd_reform_member_gone(struct tcd_instance *instance, const struct tcw_error *death)
{
    if (death)
        refuse_shrinkers(instance, death);
    else
        shrink_if_complete(instance);
}

static void on_shrink_timeout(void *arg)
{
    struct tcd_member *member = arg;
    struct tcd_instance *instance = member->instance;
    uint64_t missing = missing_shrinkers(instance);
    struct tcw_error error;
    char ranks[TCW_TEXT_BYTES / 2];

    tcd_error_set(&error, TCW_ETIMEOUT, "group '%s': %s did not ask to re-form within %llu ms", instance->group->name,
                  tcd_ranks_text(missing, ranks, sizeof(ranks)), (unsigned long long)((tcw_now_ns() - member->waits_since_ns) / 1000000));
    if (missing)
        error.rank = (uint32_t)__builtin_ctzll(missing);
    answer(member, &error);
}

/* Both ways cannot be mixed. Refuses the caller and those who asked for the other way; true if that happened. */
static bool refuse_mixed(struct tcd_member *caller, uint32_t sequence, uint32_t flags)
{
    struct tcd_instance *instance = caller->instance;
    uint32_t other = TCW_NOBODY, i;
    struct tcw_error error;

    for (i = 0; i < instance->size && other == TCW_NOBODY; i++) {
        struct tcd_member *member = &instance->members[i];
        if (member->client && member != caller && (flags ? forming_member(member) != NULL : member->waiting))
            other = i;
    }
    if (other == TCW_NOBODY)
        return false;
    tcd_error_set(&error, TCW_EMISMATCH, "group '%s': rank %u re-forms with flags %u, rank %u with flags %u", instance->group->name,
                  caller->rank, flags, other, flags ? 0 : TCW_REFORM_SHRINK);
    tcw_text_set(error.field, sizeof(error.field), "flags");
    error.rank = other;
    error.mine = flags;
    error.theirs = flags ? 0 : TCW_REFORM_SHRINK;
    tcd_client_refuse(caller->client, sequence, &error);
    error.rank = caller->rank;
    error.mine = error.theirs;
    error.theirs = flags;
    if (flags)
        tcd_instance_dissolve(instance->group->forming, &error);
    else
        refuse_shrinkers(instance, &error);
    return true;
}

static void rejoin(struct tcd_member *member, uint32_t sequence, uint32_t timeout_ms)
{
    struct tcd_group *group = member->instance->group;
    struct tcd_instance *forming = group->forming;

    if (!forming) {
        group->size = member->instance->size;
        forming = tcd_instance_create(group, group->size);
    }
    if (!forming) {
        tcd_client_refuse_text(member->client, sequence, TCW_ENOMEM, "group '%s': no memory for the next instance", group->name);
        return;
    }
    if (forming->size != member->instance->size || forming->members[member->rank].client) {
        tcd_client_refuse_text(member->client, sequence, TCW_EBUSY, "group '%s': rank %u of the next epoch is taken by somebody else",
                               group->name, member->rank);
        return;
    }
    tcd_instance_enter(forming, member->rank, member->client, member->device, sequence, timeout_ms);
}

void tcd_group_reform(struct tcd_client *client, uint32_t sequence, const struct tcw_group_reform *reform)
{
    struct tcd_daemon *daemon = client->daemon;
    struct tcd_instance *instance = tcd_instance_find(daemon, reform->group_id);
    struct tcd_member *member = instance ? tcd_instance_member(instance, client) : NULL;
    uint32_t timeout_ms = reform->timeout_ms ? reform->timeout_ms : (uint32_t)daemon->config->options.join_ms;
    struct tcw_error error;

    if (!member || instance->state == TCD_FORMING) {
        tcd_client_refuse_text(client, sequence, TCW_ENOENT, "this client is not a member of group %llu",
                               (unsigned long long)reform->group_id);
        return;
    }
    if (instance->state != TCD_BROKEN) {
        tcd_client_refuse_text(client, sequence, TCW_EINVAL, "group '%s' is not broken", instance->group->name);
        return;
    }
    if (daemon->draining) {
        tcd_client_refuse_text(client, sequence, TCW_EDRAIN, "the daemon is draining");
        return;
    }
    if (member->waiting || forming_member(member)) {
        tcd_client_refuse_text(client, sequence, TCW_EBUSY, "group '%s' is being re-formed by this client already", instance->group->name);
        return;
    }
    if (is_left_behind(instance, &error)) {
        tcd_client_refuse(client, sequence, &error);
        return;
    }
    if (refuse_mixed(member, sequence, reform->flags))
        return;
    if (!(reform->flags & TCW_REFORM_SHRINK)) {
        rejoin(member, sequence, timeout_ms);
        return;
    }
    member->waiting = true;
    member->sequence = sequence;
    member->waits_since_ns = tcw_now_ns();
    tcd_alarm_set(&member->patience, &daemon->clock, timeout_ms, on_shrink_timeout, member);
    shrink_if_complete(instance);
}
