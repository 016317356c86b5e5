#include "option.h"
#include "print.h"

#include <tcf/tuning.h>

#include <stdlib.h>
#include <string.h>

struct differ {
    tcf_difference report;
    void *arg;
    unsigned refused;
};

static void tell(struct differ *differ, const char *pointer, const char *from, const char *to, bool applicable)
{
    if (!applicable)
        differ->refused++;
    if (differ->report)
        differ->report(differ->arg, pointer, from, to, applicable);
}

/* Two printed forms, which it frees; NULL stands for "absent". Out of memory reads as absent: the words suffer, the verdict does not. */
static void tell_printed(struct differ *differ, const char *pointer, char *from, char *to, bool applicable)
{
    tell(differ, pointer, from ? from : "absent", to ? to : "absent", applicable);
    free(from);
    free(to);
}

static void diff_options(struct differ *differ, const struct tcf_options *now, const struct tcf_options *next)
{
    for (size_t i = 0; i < tcf_option_count; i++) {
        const struct tcf_option *option = &tcf_option_table[i];
        char pointer[128], from[TCF_OPTION_TEXT_BYTES], to[TCF_OPTION_TEXT_BYTES];
        if (tcf_option_equal(option, now, next))
            continue;
        snprintf(pointer, sizeof(pointer), "/%s", option->path);
        for (char *dot = strchr(pointer, '.'); dot; dot = strchr(dot, '.'))
            *dot = '/';
        tcf_option_format(option, now, from);
        tcf_option_format(option, next, to);
        tell(differ, pointer, from, to, option->reloadable);
    }
}

static bool ids_equal(const uint32_t *one, uint32_t one_count, const uint32_t *other, uint32_t other_count)
{
    return one_count == other_count && memcmp(one, other, one_count * sizeof(*one)) == 0;
}

static bool access_equal(const struct tcf_access *one, const struct tcf_access *other)
{
    return ids_equal(one->uids, one->uid_count, other->uids, other->uid_count) &&
           ids_equal(one->gids, one->gid_count, other->gids, other->gid_count);
}

static void diff_access(struct differ *differ, const char *pointer, const struct tcf_access *now, const struct tcf_access *next)
{
    if (!access_equal(now, next))
        tell_printed(differ, pointer, tcf_access_print(now), tcf_access_print(next), true);
}

static bool node_equal(const struct tcf_node *one, const struct tcf_node *other)
{
    if (strcmp(one->name, other->name) != 0 || strcmp(one->address, other->address) != 0 || one->device_count != other->device_count)
        return false;
    for (uint32_t i = 0; i < one->device_count; i++) {
        const struct tcf_device *a = &one->devices[i], *b = &other->devices[i];
        if (a->number != b->number || a->kind != b->kind || strcmp(a->uuid, b->uuid) != 0)
            return false;
    }
    return true;
}

static void diff_nodes(struct differ *differ, const struct tcf_config *now, const struct tcf_config *next)
{
    uint32_t count = now->node_count > next->node_count ? now->node_count : next->node_count;
    for (uint32_t i = 0; i < count; i++) {
        const struct tcf_node *from = i < now->node_count ? &now->nodes[i] : NULL;
        const struct tcf_node *to = i < next->node_count ? &next->nodes[i] : NULL;
        char pointer[32];
        if (from && to && node_equal(from, to))
            continue;
        snprintf(pointer, sizeof(pointer), "/nodes/%u", i);
        tell_printed(differ, pointer, from ? tcf_node_print(from) : NULL, to ? tcf_node_print(to) : NULL, false);
    }
}

/*
 * In all but the deadline. Ranks are compared by the node's name: its index may have moved, and then the nodes' difference is told already.
 */
static bool group_equal(const struct tcf_config *now, const struct tcf_group *one, const struct tcf_config *next,
                        const struct tcf_group *other)
{
    if (one->size != other->size || one->lane != other->lane || one->strategy != other->strategy)
        return false;
    for (uint32_t i = 0; i < one->size; i++) {
        if (one->ranks[i].device != other->ranks[i].device ||
            strcmp(now->nodes[one->ranks[i].node].name, next->nodes[other->ranks[i].node].name) != 0)
            return false;
    }
    return access_equal(&one->access, &other->access);
}

static char *deadline_print(const struct tcf_group *group)
{
    char *text = NULL;
    if (group->deadline_ns && asprintf(&text, "%llu", (unsigned long long)(group->deadline_ns / 1000000)) < 0)
        return NULL;
    return text;
}

/* A group of both. One that can be replaced is, with its deadline; where another stays as it is, its deadline changes all the same. */
static void diff_group(struct differ *differ, uint32_t index, const struct tcf_config *now, const struct tcf_group *from,
                       const struct tcf_config *next, const struct tcf_group *to, bool in_use)
{
    char pointer[64];
    bool equal = group_equal(now, from, next, to);
    if (!equal) {
        snprintf(pointer, sizeof(pointer), "/groups/%u", index);
        tell_printed(differ, pointer, tcf_group_print(now, from), tcf_group_print(next, to), !in_use);
    }
    if ((equal || in_use) && from->deadline_ns != to->deadline_ns) {
        snprintf(pointer, sizeof(pointer), "/groups/%u/deadline_ms", index);
        tell_printed(differ, pointer, deadline_print(from), deadline_print(to), true);
    }
}

unsigned tcf_config_diff(const struct tcf_config *now, const struct tcf_config *next, bool (*group_in_use)(void *arg, const char *name),
                         tcf_difference report, void *arg)
{
    struct differ differ = {.report = report, .arg = arg};
    char pointer[32];
    diff_options(&differ, &now->options, &next->options);
    if (!strcmp(now->options.tuning, next->options.tuning) && !tcf_tuning_equal(now->tuning, next->tuning))
        tell(&differ, "/choosing/tuning", "the file as it was read before", "the file as it is now", true);
    diff_access(&differ, "/access", &now->access, &next->access);
    diff_access(&differ, "/admin", &now->admin, &next->admin);
    diff_nodes(&differ, now, next);
    for (uint32_t i = 0; i < now->group_count; i++) {
        const struct tcf_group *from = &now->groups[i], *to = tcf_config_group(next, from->name);
        bool in_use = group_in_use && group_in_use(arg, from->name);
        if (to) {
            diff_group(&differ, i, now, from, next, to, in_use);
            continue;
        }
        snprintf(pointer, sizeof(pointer), "/groups/%u", i);
        tell_printed(&differ, pointer, tcf_group_print(now, from), NULL, !in_use);
    }
    for (uint32_t i = 0; i < next->group_count; i++) {
        const struct tcf_group *to = &next->groups[i];
        if (tcf_config_group(now, to->name))
            continue;
        /* A group made at run time may bear the name now; the configured one waits until it is gone. */
        bool applicable = !group_in_use || !group_in_use(arg, to->name);
        snprintf(pointer, sizeof(pointer), "/groups/%u", i);
        tell_printed(&differ, pointer, NULL, tcf_group_print(next, to), applicable);
    }
    return differ.refused;
}
