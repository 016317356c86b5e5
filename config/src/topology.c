#include "reader.h"

#include "issues.h"
#include "option.h"
#include "words.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- devices ---- */

static bool has_uuid(const struct tcf_node *node, const char *uuid)
{
    for (uint32_t i = 0; i < node->device_count; i++) {
        if (strcmp(node->devices[i].uuid, uuid) == 0)
            return true;
    }
    return false;
}

static void read_uuid(const struct tcf_value *value, const struct tcf_node *node, struct tcf_device *device, struct tcf_issues *issues)
{
    if (!value)
        return;
    size_t length = value->kind == TCF_TEXT ? strlen(value->text) : 0;
    if (value->kind != TCF_TEXT || length >= sizeof(device->uuid))
        tcf_value_reject(value, issues, "the UUID of a GPU, of at most %zu bytes, or \"\"", sizeof(device->uuid) - 1);
    else if (length && device->kind == TCF_DEVICE_HOST)
        tcf_value_reject(value, issues, "\"\" for a host device");
    else if (length && has_uuid(node, value->text))
        tcf_value_reject(value, issues, "a UUID that no other device of the node has");
    else
        memcpy(device->uuid, value->text, length + 1);
}

static void read_device(const struct tcf_value *value, struct tcf_node *node, struct tcf_issues *issues)
{
    if (!tcf_keys_check(value, "number|kind|uuid", issues))
        return;
    struct tcf_device *device = &node->devices[node->device_count];
    const struct tcf_value *number = tcf_read_member(value, "number", issues);
    const struct tcf_value *kind = tcf_read_member(value, "kind", issues);
    bool good = true;
    if (kind && (kind->kind != TCF_TEXT || !tcf_is_choice("host|cuda", kind->text))) {
        tcf_value_reject(kind, issues, "\"host\" or \"cuda\"");
        good = false;
    }
    device->kind = kind && good && strcmp(kind->text, "cuda") == 0 ? TCF_DEVICE_CUDA : TCF_DEVICE_HOST;
    if (good)
        read_uuid(tcf_value_member(value, "uuid"), node, device, issues);
    uint64_t read;
    if (!number || !kind || !tcf_read_integer(number, 0, TCF_MAX_DEVICES - 1, "", &read, issues))
        return;
    for (uint32_t i = 0; i < node->device_count; i++) {
        if (node->devices[i].number == read) {
            tcf_value_reject(number, issues, "a number that no other device of the node has");
            return;
        }
    }
    device->number = (uint32_t)read;
    node->device_count++;
}

/* {"host": 4}: devices 0 to 3. */
static void read_device_count(const struct tcf_value *value, struct tcf_node *node, struct tcf_issues *issues)
{
    if (!tcf_keys_check(value, "host|cuda", issues))
        return;
    const struct tcf_value *host = tcf_value_member(value, "host"), *cuda = tcf_value_member(value, "cuda");
    if (!host == !cuda) {
        tcf_value_reject(value, issues, "either \"host\" or \"cuda\" with a count; an array of devices may mix them");
        return;
    }
    uint64_t count;
    if (!tcf_read_integer(host ? host : cuda, 1, TCF_MAX_DEVICES, "devices", &count, issues))
        return;
    for (uint32_t i = 0; i < count; i++)
        node->devices[i] = (struct tcf_device){.number = i, .kind = host ? TCF_DEVICE_HOST : TCF_DEVICE_CUDA};
    node->device_count = (uint32_t)count;
}

static void read_devices(const struct tcf_value *value, struct tcf_node *node, struct tcf_issues *issues)
{
    if (value->kind == TCF_OBJECT) {
        read_device_count(value, node, issues);
        return;
    }
    uint32_t count = value->kind == TCF_ARRAY ? tcf_value_count(value) : 0;
    if (count < 1 || count > TCF_MAX_DEVICES) {
        tcf_value_reject(value, issues, "an array of 1 to %d devices, or {\"host\": COUNT}", TCF_MAX_DEVICES);
        return;
    }
    for (const struct tcf_value *entry = value->first; entry; entry = entry->next)
        read_device(entry, node, issues);
}

/* ---- nodes ---- */

/* HOST:PORT, where HOST may be [an IPv6 address]. */
static bool is_address(const char *text)
{
    const char *colon = strrchr(text, ':');
    if (!colon || colon == text)
        return false;
    size_t host = (size_t)(colon - text), digits = strlen(colon + 1);
    if (text[0] == '[' ? host < 3 || text[host - 1] != ']' : memchr(text, ':', host) != NULL)
        return false;
    if (digits < 1 || digits > 5 || strspn(colon + 1, "0123456789") != digits)
        return false;
    long port = strtol(colon + 1, NULL, 10);
    return port >= 1 && port <= 65535 && strcspn(text, " \t\r\n") == strlen(text);
}

static void read_address(const struct tcf_value *value, struct tcf_node *node, struct tcf_issues *issues)
{
    if (!value)
        return;
    size_t length = value->kind == TCF_TEXT ? strlen(value->text) : 0;
    if (value->kind != TCF_TEXT || length >= sizeof(node->address) || (length && !is_address(value->text)))
        tcf_value_reject(value, issues, "HOST:PORT of at most %zu bytes, or \"\"", sizeof(node->address) - 1);
    else
        memcpy(node->address, value->text, length + 1);
}

static void read_node(const struct tcf_reader *reader, const struct tcf_value *value)
{
    if (!tcf_keys_check(value, "name|address|devices", reader->issues))
        return;
    struct tcf_node *node = &reader->config->nodes[reader->config->node_count++];
    tcf_read_name(value, tcf_value_member(value, "name"), node->name, reader->issues);
    read_address(tcf_value_member(value, "address"), node, reader->issues);
    const struct tcf_value *devices = tcf_read_member(value, "devices", reader->issues);
    if (devices)
        read_devices(devices, node, reader->issues);
}

static void read_nodes(const struct tcf_reader *reader, const struct tcf_value *nodes)
{
    uint32_t count = nodes->kind == TCF_ARRAY ? tcf_value_count(nodes) : 0;
    if (count < 1 || count > TCF_MAX_NODES) {
        tcf_value_reject(nodes, reader->issues, "an array of 1 to %d nodes", TCF_MAX_NODES);
        return;
    }
    for (const struct tcf_value *entry = nodes->first; entry; entry = entry->next)
        read_node(reader, entry);
}

/* ---- which of them is this machine ---- */

static void own_name(char out[TCW_NAME_BYTES])
{
    char host[256] = "";
    if (gethostname(host, sizeof(host) - 1) != 0 || !host[0] || strlen(host) >= TCW_NAME_BYTES)
        snprintf(host, sizeof(host), "localhost");
    memcpy(out, host, strlen(host) + 1);
}

static bool find_node(const struct tcf_config *config, const char *name, uint32_t *index)
{
    for (uint32_t i = 0; i < config->node_count; i++) {
        if (config->nodes[i].name[0] && strcmp(config->nodes[i].name, name) == 0) {
            *index = i;
            return true;
        }
    }
    return false;
}

static void find_local_node(const struct tcf_reader *reader)
{
    struct tcf_config *config = reader->config;
    const struct tcf_value *option = tcf_value_member(reader->root, "node");
    char host[TCW_NAME_BYTES];
    own_name(host);
    const char *wanted = config->options.node[0] ? config->options.node : host;
    if (find_node(config, wanted, &config->local_node) || (!config->options.node[0] && config->node_count == 1))
        return;

    struct tcf_words names = {.count = 0};
    char list[256];
    for (uint32_t i = 0; i < config->node_count; i++)
        tcf_words_add(&names, config->nodes[i].name, strlen(config->nodes[i].name));
    tcf_words_list(&names, list, sizeof(list));
    if (config->options.node[0])
        tcf_value_reject(option, reader->issues, "the name of one of the nodes: %s", list);
    else
        tcf_issue_add(reader->issues, tcf_document_file(reader->root->document), "/nodes",
                      "found no node with this machine's name \"%s\"; \"node\" may say which it is: %s", host, list);
}

void tcf_read_topology(const struct tcf_reader *reader)
{
    struct tcf_config *config = reader->config;
    const struct tcf_value *nodes = tcf_value_member(reader->root, "nodes"), *devices = tcf_value_member(reader->root, "devices");
    if (nodes && devices) {
        tcf_value_reject(devices, reader->issues, "only one of \"nodes\" and \"devices\"");
    } else if (nodes) {
        read_nodes(reader, nodes);
        if (config->node_count)
            find_local_node(reader);
    } else if (devices) {
        struct tcf_node *node = &config->nodes[config->node_count++];
        own_name(node->name);
        if (config->options.node[0])
            tcf_read_name(reader->root, tcf_value_member(reader->root, "node"), node->name, reader->issues);
        read_devices(devices, node, reader->issues);
    } else {
        tcf_issue_add(reader->issues, tcf_document_file(reader->root->document), "",
                      "found neither \"devices\" nor \"nodes\", one must be there");
    }
}
