#include "reload.h"

#include "attachment.h"
#include "communicator.h"
#include "daemon.h"
#include "group.h"
#include "notify.h"
#include "page.h"
#include "publish.h"
#include "text.h"

#include <stdlib.h>
#include <string.h>

struct reloading {
    struct tcd_daemon *daemon;
    struct tcd_reload_report *report;
    bool topology_differs;
    uint32_t refused;
};

/* Its definition does: it has members, or the new one is written for nodes that are not in effect. */
static bool group_stays(void *arg, const char *name)
{
    struct reloading *reloading = arg;
    struct tcd_group *group = tcd_group_find(reloading->daemon, name);

    return reloading->topology_differs || (group && !tcd_list_empty(&group->instances));
}

static void set_value(char *to, size_t bytes, const char *value)
{
    tcw_text_set(to, bytes, value);
    if (strlen(value) >= bytes)
        memcpy(to + bytes - sizeof("..."), "...", sizeof("..."));
}

/* What a difference cannot be applied while. */
static const char *obstacle(const struct reloading *reloading, const char *pointer)
{
    if (strncmp(pointer, "/groups", strlen("/groups")))
        return "the daemon runs";
    return reloading->topology_differs ? "the nodes it is written for are not in effect" : "the group has members";
}

static void on_difference(void *arg, const char *pointer, const char *from, const char *to, bool applicable)
{
    struct reloading *reloading = arg;
    struct tcd_reload_report *report = reloading->report;
    struct tcd_reload_change *change;
    const char *why;

    if (!strncmp(pointer, "/nodes", strlen("/nodes"))) /* which come before the groups */
        reloading->topology_differs = true;
    why = applicable ? NULL : obstacle(reloading, pointer);
    if (!why)
        tcd_log(TCD_NOTICE, "reload: %s: %s -> %s", pointer, from, to);
    else
        tcd_log(TCD_WARNING, "reload: %s: stays %s, not %s: it cannot change while %s", pointer, from, to, why);
    reloading->refused += why != NULL;
    if (report->count == report->capacity) {
        uint32_t capacity = report->capacity ? report->capacity * 2 : 16;
        void *grown = realloc(report->changes, capacity * sizeof(*report->changes));
        if (!grown)
            return;
        report->changes = grown;
        report->capacity = capacity;
    }
    change = &report->changes[report->count++];
    change->why = why;
    tcw_text_set(change->pointer, sizeof(change->pointer), pointer);
    set_value(change->from, sizeof(change->from), from);
    set_value(change->to, sizeof(change->to), to);
}

static void keep_options(struct tcf_options *next, const struct tcf_options *now)
{
#define KEEP(member, reload)                                                                                                               \
    if (!(reload))                                                                                                                         \
        memcpy(&next->member, &now->member, sizeof(next->member));
#define TCF_U64(member, path, min, max, def, unit, reload, help)    KEEP(member, reload)
#define TCF_POWER(member, path, min, max, def, unit, reload, help)  KEEP(member, reload)
#define TCF_MODE(member, path, def, reload, help)                   KEEP(member, reload)
#define TCF_BOOL(member, path, def, reload, help)                   KEEP(member, reload)
#define TCF_STRING(member, path, bytes, def, reload, help)          KEEP(member, reload)
#define TCF_CHOICE(member, path, bytes, choices, def, reload, help) KEEP(member, reload)
#include <tcf/options.def>
#undef TCF_U64
#undef TCF_POWER
#undef TCF_MODE
#undef TCF_BOOL
#undef TCF_STRING
#undef TCF_CHOICE
#undef KEEP
}

static void keep_topology(struct tcf_config *next, const struct tcf_config *now)
{
    next->local_node = now->local_node;
    next->node_count = now->node_count;
    memcpy(next->nodes, now->nodes, sizeof(next->nodes));
}

static struct tcf_group keep_group(const struct tcf_group *now, const struct tcf_config *next)
{
    const struct tcf_group *wanted = tcf_config_group(next, now->name);
    struct tcf_group group = *now;

    if (wanted)
        group.deadline_ns = wanted->deadline_ns;
    return group;
}

/*
 * Groups with members keep their definition, also when the new file does not name them. With other nodes, all groups do. What the new file
 * says of their deadlines holds anyway.
 */
static int keep_groups(struct reloading *reloading, struct tcf_config *next, const struct tcf_config *now)
{
    struct tcf_group *groups = calloc(now->group_count + next->group_count + 1, sizeof(*groups));
    uint32_t i, count = 0;

    if (!groups)
        return TCW_ENOMEM;
    for (i = 0; i < now->group_count; i++)
        if (group_stays(reloading, now->groups[i].name))
            groups[count++] = keep_group(&now->groups[i], next);
    for (i = 0; i < next->group_count && !reloading->topology_differs; i++)
        if (!tcf_config_group(now, next->groups[i].name) || !group_stays(reloading, next->groups[i].name))
            groups[count++] = next->groups[i];
    free(next->groups);
    next->groups = groups;
    next->group_count = count;
    return 0;
}

/* Deadlines may change at any time: the waits read them from the pages. */
static void set_deadlines(struct tcd_daemon *daemon)
{
    uint32_t i, rank;

    for (i = 0; i < daemon->instances.capacity; i++) {
        struct tcd_instance *instance = tcd_handle_at(&daemon->instances, i);

        if (!instance)
            continue;
        instance->deadline_ns = tcd_group_deadline_ns(instance->group);
        for (rank = 0; rank < instance->size; rank++) {
            struct tcd_member *member = &instance->members[rank];
            if (member->page.map)
                atomic_store_explicit(&member->page.map->deadline_ns, instance->deadline_ns, memory_order_relaxed);
            if (member->attachment)
                atomic_store_explicit(&member->attachment->page.map->deadline_ns, instance->deadline_ns, memory_order_relaxed);
        }
        tcd_publish_instance(instance);
    }
}

static void apply(struct tcd_daemon *daemon, struct tcf_config *next)
{
    struct tcf_config *before = daemon->config;
    tcd_level level;

    daemon->config = next;
    if (strcmp(next->options.log_level, before->options.log_level) && tcd_level_parse(next->options.log_level, &level))
        tcd_log_set_level(level);
    if (tcd_groups_configure(daemon))
        tcd_daemon_problem(daemon, "reload: no memory for all groups of the configuration");
    set_deadlines(daemon);
    tcd_devices_configure(daemon);
    tcd_communicators_prepare(daemon);
    tcf_config_free(before);
}

static int load(struct reloading *reloading)
{
    struct tcd_daemon *daemon = reloading->daemon;
    struct tcd_reload_report *report = reloading->report;
    struct tcf_config *next = tcf_config_load(daemon->config_path, &report->issues);
    uint32_t i;

    if (!next) {
        for (i = 0; i < report->issues.count; i++)
            tcd_log(TCD_ERR, "reload: %s: %s%s%s", report->issues.items[i].file, report->issues.items[i].pointer,
                    *report->issues.items[i].pointer ? ": " : "", report->issues.items[i].text);
        return TCW_EINVAL;
    }
    tcf_config_diff(daemon->config, next, group_stays, on_difference, reloading);
    keep_options(&next->options, &daemon->config->options);
    keep_topology(next, daemon->config);
    if (keep_groups(reloading, next, daemon->config)) {
        tcf_config_free(next);
        return TCW_ENOMEM;
    }
    apply(daemon, next);
    tcd_log(TCD_NOTICE, "reload: %s read, %u differences, %u of them refused", daemon->config_path, report->count, reloading->refused);
    return 0;
}

void tcd_reload(struct tcd_daemon *daemon, struct tcd_reload_report *report)
{
    struct reloading reloading = {.daemon = daemon, .report = report};

    *report = (struct tcd_reload_report){.code = 0};
    tcd_notify_reloading();
    report->code = load(&reloading);
    daemon->counters.reload_refused = report->code != 0;
    daemon->counters.reload_kept = reloading.refused;
    if (report->code) {
        daemon->counters.reload_failures++;
        tcd_daemon_problem(daemon, "reload: %s is not valid, nothing has changed", daemon->config_path);
    } else {
        daemon->counters.reloads++;
    }
    tcd_notify_ready();
}

void tcd_reload_report_free(struct tcd_reload_report *report)
{
    tcf_issues_free(&report->issues);
    free(report->changes);
    report->changes = NULL;
}
