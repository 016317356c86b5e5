#include "reader.h"

#include "issues.h"
#include "option.h"
#include "words.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static const struct tcf_device *find_device(const struct tcf_node *node, uint64_t number)
{
    for (uint32_t i = 0; i < node->device_count; i++) {
        if (node->devices[i].number == number)
            return &node->devices[i];
    }
    return NULL;
}

static void reject_device(const struct tcf_reader *reader, const struct tcf_value *number, const struct tcf_node *node)
{
    struct tcf_words numbers = {.count = 0};
    char list[256];
    for (uint32_t i = 0; i < node->device_count; i++) {
        char word[16];
        int length = snprintf(word, sizeof(word), "%" PRIu32, node->devices[i].number);
        tcf_words_add(&numbers, word, (size_t)length);
    }
    tcf_words_list(&numbers, list, sizeof(list));
    tcf_value_reject(number, reader->issues, "a device of node %s: %s", node->name, list);
}

static bool read_rank_node(const struct tcf_reader *reader, const struct tcf_value *value, uint32_t *node)
{
    const struct tcf_config *config = reader->config;
    for (uint32_t i = 0; i < config->node_count && value->kind == TCF_TEXT; i++) {
        if (strcmp(config->nodes[i].name, value->text) == 0) {
            *node = i;
            return true;
        }
    }
    struct tcf_words names = {.count = 0};
    char list[256];
    for (uint32_t i = 0; i < config->node_count; i++)
        tcf_words_add(&names, config->nodes[i].name, strlen(config->nodes[i].name));
    tcf_words_list(&names, list, sizeof(list));
    tcf_value_reject(value, reader->issues, "the name of a node: %s", list);
    return false;
}

/* 3, or {"node": "a", "device": 3}. */
static bool read_rank(const struct tcf_reader *reader, const struct tcf_value *value, struct tcf_rank *rank)
{
    const struct tcf_value *number = value;
    rank->node = reader->config->local_node;
    if (value->kind != TCF_NUMBER) {
        if (value->kind != TCF_OBJECT) {
            tcf_value_reject(value, reader->issues, "a device number, or {\"node\": NAME, \"device\": NUMBER}");
            return false;
        }
        tcf_keys_check(value, "node|device", reader->issues);
        const struct tcf_value *node = tcf_value_member(value, "node");
        number = tcf_read_member(value, "device", reader->issues);
        if (!number || (node && !read_rank_node(reader, node, &rank->node)))
            return false;
    }
    uint64_t device;
    if (!tcf_read_integer(number, 0, TCF_MAX_DEVICES - 1, "", &device, reader->issues))
        return false;
    const struct tcf_node *node = &reader->config->nodes[rank->node];
    if (!find_device(node, device)) {
        reject_device(reader, number, node);
        return false;
    }
    rank->device = (uint32_t)device;
    return true;
}

static bool is_host(const struct tcf_reader *reader, const struct tcf_rank *rank)
{
    return find_device(&reader->config->nodes[rank->node], rank->device)->kind == TCF_DEVICE_HOST;
}

static void read_ranks(const struct tcf_reader *reader, const struct tcf_value *ranks, struct tcf_group *group)
{
    uint32_t count = ranks->kind == TCF_ARRAY ? tcf_value_count(ranks) : 0;
    if (count < 1 || count > TCW_MAX_RANKS) {
        tcf_value_reject(ranks, reader->issues, "an array of 1 to %d ranks", TCW_MAX_RANKS);
        return;
    }
    if (!reader->topology_good)
        return; /* absent devices would be complained about twice */
    bool good = true, host = false, mixed = false;
    for (const struct tcf_value *value = ranks->first; value; value = value->next) {
        struct tcf_rank *rank = &group->ranks[group->size];
        if (!read_rank(reader, value, rank)) {
            good = false;
            continue;
        }
        host = host || is_host(reader, rank);
        mixed = mixed || (group->size && is_host(reader, rank) != is_host(reader, &group->ranks[0]));
        for (uint32_t i = 0; i < group->size && !is_host(reader, rank); i++) {
            if (group->ranks[i].node == rank->node && group->ranks[i].device == rank->device) {
                tcf_value_reject(value, reader->issues, "a cuda device only once in a group");
                good = false;
            }
        }
        group->size++;
    }
    if (good && mixed)
        tcf_value_reject(ranks, reader->issues, "host devices only, or cuda devices only");
    else if (good && host && count > TCF_MAX_HOST_RANKS)
        tcf_value_reject(ranks, reader->issues, "at most %d ranks in a group of host devices", TCF_MAX_HOST_RANKS);
}

static void read_deadline(const struct tcf_value *value, struct tcf_group *group, struct tcf_issues *issues)
{
    uint64_t ms;
    if (value && tcf_read_integer(value, 1, 86400000, "ms", &ms, issues))
        group->deadline_ns = ms * 1000000;
}

/* One of a list of the contract; `name_of` gives NULL for a number that has no name. */
static unsigned read_enum(const struct tcf_value *value, const char *(*name_of)(unsigned), unsigned count, unsigned def,
                          struct tcf_issues *issues)
{
    struct tcf_words names = {.count = 0};
    char list[256];
    for (unsigned i = 0; value && i < count; i++) {
        const char *name = name_of(i);
        if (!name)
            continue;
        if (value->kind == TCF_TEXT && strcmp(name, value->text) == 0)
            return i;
        tcf_words_add(&names, name, strlen(name));
    }
    if (value) {
        tcf_words_list(&names, list, sizeof(list));
        tcf_value_reject(value, issues, "one of %s", list);
    }
    return def;
}

static void read_group(const struct tcf_reader *reader, const struct tcf_value *value)
{
    if (!tcf_keys_check(value, "name|ranks|access|deadline_ms|lane|strategy", reader->issues))
        return;
    struct tcf_group *group = &reader->config->groups[reader->config->group_count++];
    tcf_read_name(value, tcf_value_member(value, "name"), group->name, reader->issues);
    const struct tcf_value *ranks = tcf_read_member(value, "ranks", reader->issues);
    if (ranks)
        read_ranks(reader, ranks, group);
    tcf_access_read(tcf_value_member(value, "access"), &group->access, reader->issues);
    read_deadline(tcf_value_member(value, "deadline_ms"), group, reader->issues);
    group->lane = (tcw_lane)read_enum(tcf_value_member(value, "lane"), tcw_lane_name, TCW_LANE_COUNT, TCW_LANE_AUTO, reader->issues);
    group->strategy = (tcw_strategy)read_enum(tcf_value_member(value, "strategy"), tcw_strategy_name, TCW_STRATEGY_COUNT, TCW_STRATEGY_AUTO,
                                              reader->issues);
}

bool tcf_read_groups(const struct tcf_reader *reader)
{
    const struct tcf_value *groups = tcf_value_member(reader->root, "groups");
    uint32_t count = groups && groups->kind == TCF_ARRAY ? tcf_value_count(groups) : 0;
    if (groups && (groups->kind != TCF_ARRAY || count > TCF_MAX_GROUPS)) {
        tcf_value_reject(groups, reader->issues, "an array of at most %d groups", TCF_MAX_GROUPS);
        return true;
    }
    if (count == 0)
        return true;
    reader->config->groups = calloc(count, sizeof(*reader->config->groups));
    if (!reader->config->groups)
        return false;
    for (const struct tcf_value *entry = groups->first; entry; entry = entry->next)
        read_group(reader, entry);
    return true;
}
