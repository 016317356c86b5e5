#include "file.h"
#include "issues.h"
#include "reader.h"

#include <tcf/tuning.h>

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_FRAGMENTS = 256 };

/* The documents of one configuration, in the order in which they are laid over each other. */
struct document_list {
    struct tcf_document *items[1 + MAX_FRAGMENTS];
    unsigned count;
};

static void list_free(struct document_list *list)
{
    while (list->count)
        tcf_document_free(list->items[--list->count]);
}

/* ---- tree to configuration ---- */

static struct tcf_config *build(struct document_list *list, struct tcf_issues *issues)
{
    struct tcf_value *root = tcf_document_root(list->items[0]);
    for (unsigned i = 1; i < list->count; i++)
        tcf_value_merge(root, tcf_document_root(list->items[i]));

    struct tcf_config *config = calloc(1, sizeof(*config));
    if (!config) {
        tcf_issue_add(issues, tcf_document_file(list->items[0]), "", "out of memory");
        return NULL;
    }
    struct tcf_reader reader = {.root = root, .config = config, .issues = issues};
    tcf_read_options(&reader);
    uint32_t before = issues->count;
    tcf_read_topology(&reader);
    reader.topology_good = issues->count == before;
    if (!tcf_read_groups(&reader))
        tcf_issue_add(issues, tcf_document_file(list->items[0]), "", "out of memory");
    tcf_read_access(&reader);
    tcf_check_consistency(&reader);
    if (issues->count) {
        tcf_config_free(config);
        return NULL;
    }
    return config;
}

/* Builds even after complaints, to find the others. Frees the documents; the issues too if there are none, so that success leaves the
 * caller nothing to free but the configuration. */
static struct tcf_config *finish(struct document_list *list, struct tcf_issues *issues)
{
    struct tcf_config *config = list->count ? build(list, issues) : NULL;
    list_free(list);
    if (issues->count == 0)
        tcf_issues_free(issues);
    return config;
}

struct tcf_config *tcf_config_parse(const char *file, const char *text, size_t bytes, struct tcf_issues *issues)
{
    struct document_list list = {.count = 0};
    if (!tcf_issues_reserve(issues))
        return NULL;
    struct tcf_document *document = tcf_document_parse(file, text, bytes, issues);
    if (document)
        list.items[list.count++] = document;
    return finish(&list, issues);
}

void tcf_config_free(struct tcf_config *config)
{
    if (!config)
        return;
    tcf_tuning_free(config->tuning);
    free(config->groups);
    free(config);
}

/* ---- files ---- */

static void load_file(const char *path, struct document_list *list, struct tcf_issues *issues)
{
    struct tcf_document *document = tcf_document_load(path, issues);
    if (document)
        list->items[list->count++] = document;
}

static int is_fragment(const struct dirent *entry)
{
    size_t length = strlen(entry->d_name);
    return entry->d_name[0] != '.' && length > 5 && strcmp(entry->d_name + length - 5, ".json") == 0;
}

/* By bytes, whatever the locale. */
static int by_name(const struct dirent **one, const struct dirent **other)
{
    return strcmp((*one)->d_name, (*other)->d_name);
}

static void load_fragments(const char *path, struct document_list *list, struct tcf_issues *issues)
{
    char directory[4096], file[4096 + 256];
    if ((size_t)snprintf(directory, sizeof(directory), "%s.d", path) >= sizeof(directory))
        return; /* the file itself could not be opened either */
    struct dirent **entries;
    int count = scandir(directory, &entries, is_fragment, by_name);
    if (count < 0) {
        if (errno != ENOENT)
            tcf_issue_add(issues, directory, "", "cannot be read: %s", strerror(errno));
        return;
    }
    if (count > MAX_FRAGMENTS)
        tcf_issue_add(issues, directory, "", "found %d files, allowed at most %d", count, MAX_FRAGMENTS);
    for (int i = 0; i < count; i++) {
        snprintf(file, sizeof(file), "%s/%s", directory, entries[i]->d_name);
        if (i < MAX_FRAGMENTS)
            load_file(file, list, issues);
        free(entries[i]);
    }
    free(entries);
}

/* The file that the configuration names. Takes the configuration, and frees it if the file is no good. */
static struct tcf_config *load_tuning(struct tcf_config *config, struct tcf_issues *issues)
{
    if (!config || !config->options.tuning[0])
        return config;
    config->tuning = tcf_tuning_load(config->options.tuning, issues);
    if (!config->tuning) {
        tcf_config_free(config);
        return NULL;
    }
    tcf_issues_free(issues);
    return config;
}

struct tcf_config *tcf_config_load(const char *path, struct tcf_issues *issues)
{
    struct document_list list = {.count = 0};
    if (!tcf_issues_reserve(issues))
        return NULL;
    load_file(path, &list, issues);
    if (list.count)
        load_fragments(path, &list, issues);
    return load_tuning(finish(&list, issues), issues);
}

/* ---- looking ---- */

const struct tcf_group *tcf_config_group(const struct tcf_config *config, const char *name)
{
    for (uint32_t i = 0; i < config->group_count; i++) {
        if (strcmp(config->groups[i].name, name) == 0)
            return &config->groups[i];
    }
    return NULL;
}

const struct tcf_device *tcf_config_device(const struct tcf_config *config, uint32_t number)
{
    const struct tcf_node *node = &config->nodes[config->local_node];
    for (uint32_t i = 0; i < node->device_count; i++) {
        if (node->devices[i].number == number)
            return &node->devices[i];
    }
    return NULL;
}
