#include "print.h"

#include "option.h"

#include <cjson/cJSON.h>

#include <string.h>

/*
 * cJSON objects under construction: adding to NULL does nothing and yields NULL, so a lack of memory shows in the end, in finish(), if
 * every addition notes it.
 */
struct builder {
    bool failed;
};

static cJSON *keep(struct builder *builder, cJSON *item)
{
    if (!item)
        builder->failed = true;
    return item;
}

static void add(struct builder *builder, cJSON *object, const char *key, cJSON *item)
{
    if (!keep(builder, item))
        return;
    bool added = key ? cJSON_AddItemToObject(object, key, item) : cJSON_AddItemToArray(object, item);
    if (!added) {
        cJSON_Delete(item);
        builder->failed = true;
    }
}

static cJSON *number(uint64_t value)
{
    return cJSON_CreateNumber((double)value);
}

static char *finish(struct builder *builder, cJSON *root, bool pretty)
{
    char *text = NULL;
    if (root && !builder->failed)
        text = pretty ? cJSON_Print(root) : cJSON_PrintUnformatted(root);
    cJSON_Delete(root);
    return text;
}

/* ---- parts ---- */

static void add_ids(struct builder *builder, cJSON *object, const char *key, const uint32_t *ids, uint32_t count)
{
    cJSON *list = cJSON_CreateArray();
    for (uint32_t i = 0; i < count; i++)
        add(builder, list, NULL, number(ids[i]));
    add(builder, object, key, list);
}

static cJSON *access_json(struct builder *builder, const struct tcf_access *access)
{
    cJSON *object = keep(builder, cJSON_CreateObject());
    add_ids(builder, object, "uids", access->uids, access->uid_count);
    add_ids(builder, object, "gids", access->gids, access->gid_count);
    return object;
}

static cJSON *node_json(struct builder *builder, const struct tcf_node *node)
{
    cJSON *object = keep(builder, cJSON_CreateObject());
    add(builder, object, "name", cJSON_CreateString(node->name));
    add(builder, object, "address", cJSON_CreateString(node->address));
    cJSON *devices = cJSON_CreateArray();
    for (uint32_t i = 0; i < node->device_count; i++) {
        const struct tcf_device *device = &node->devices[i];
        cJSON *entry = keep(builder, cJSON_CreateObject());
        add(builder, entry, "number", number(device->number));
        add(builder, entry, "kind", cJSON_CreateString(device->kind == TCF_DEVICE_CUDA ? "cuda" : "host"));
        add(builder, entry, "uuid", cJSON_CreateString(device->uuid));
        add(builder, devices, NULL, entry);
    }
    add(builder, object, "devices", devices);
    return object;
}

static cJSON *group_json(struct builder *builder, const struct tcf_config *config, const struct tcf_group *group)
{
    cJSON *object = keep(builder, cJSON_CreateObject());
    add(builder, object, "name", cJSON_CreateString(group->name));
    cJSON *ranks = cJSON_CreateArray();
    for (uint32_t i = 0; i < group->size; i++) {
        cJSON *rank = keep(builder, cJSON_CreateObject());
        add(builder, rank, "node", cJSON_CreateString(config->nodes[group->ranks[i].node].name));
        add(builder, rank, "device", number(group->ranks[i].device));
        add(builder, ranks, NULL, rank);
    }
    add(builder, object, "ranks", ranks);
    add(builder, object, "access", access_json(builder, &group->access));
    if (group->deadline_ns)
        add(builder, object, "deadline_ms", number(group->deadline_ns / 1000000));
    add(builder, object, "lane", cJSON_CreateString(tcw_lane_name(group->lane)));
    add(builder, object, "strategy", cJSON_CreateString(tcw_strategy_name(group->strategy)));
    return object;
}

char *tcf_group_print(const struct tcf_config *config, const struct tcf_group *group)
{
    struct builder builder = {false};
    cJSON *object = group_json(&builder, config, group);
    return finish(&builder, object, false);
}

char *tcf_access_print(const struct tcf_access *access)
{
    struct builder builder = {false};
    cJSON *object = access_json(&builder, access);
    return finish(&builder, object, false);
}

char *tcf_node_print(const struct tcf_node *node)
{
    struct builder builder = {false};
    cJSON *object = node_json(&builder, node);
    return finish(&builder, object, false);
}

/* ---- the whole ---- */

static cJSON *option_json(const struct tcf_option *option, const struct tcf_options *options)
{
    char text[TCF_OPTION_TEXT_BYTES];
    switch (option->type) {
    case TCF_OPTION_U64:
    case TCF_OPTION_POWER:
        return number(tcf_option_number(option, options));
    case TCF_OPTION_BOOL:
        return cJSON_CreateBool(tcf_option_number(option, options) != 0);
    default:
        tcf_option_format(option, options, text);
        return cJSON_CreateString(text);
    }
}

/* "limits.client.bytes": makes the objects on the way that are not there yet. */
static void add_option(struct builder *builder, cJSON *object, const struct tcf_option *option, const struct tcf_options *options)
{
    const char *path = option->path;
    char key[64];
    for (size_t length = strcspn(path, "."); path[length]; length = strcspn(path, ".")) {
        snprintf(key, sizeof(key), "%.*s", (int)length, path);
        cJSON *inner = cJSON_GetObjectItemCaseSensitive(object, key);
        if (!inner)
            inner = keep(builder, cJSON_AddObjectToObject(object, key));
        object = inner;
        path += length + 1;
    }
    add(builder, object, path, option_json(option, options));
}

char *tcf_config_print(const struct tcf_config *config)
{
    struct builder builder = {false};
    cJSON *root = keep(&builder, cJSON_CreateObject());
    for (size_t i = 0; i < tcf_option_count; i++)
        add_option(&builder, root, &tcf_option_table[i], &config->options);
    add(&builder, root, "access", access_json(&builder, &config->access));
    add(&builder, root, "admin", access_json(&builder, &config->admin));
    cJSON *nodes = cJSON_CreateArray();
    for (uint32_t i = 0; i < config->node_count; i++)
        add(&builder, nodes, NULL, node_json(&builder, &config->nodes[i]));
    add(&builder, root, "nodes", nodes);
    cJSON *groups = cJSON_CreateArray();
    for (uint32_t i = 0; i < config->group_count; i++)
        add(&builder, groups, NULL, group_json(&builder, config, &config->groups[i]));
    add(&builder, root, "groups", groups);
    return finish(&builder, root, true);
}
