/* memory: what the daemon has handed out, by device, by group and by client, the largest first; and what NCCL has taken beside it. */
#include "command.h"
#include "gpus.h"
#include "json.h"
#include "snapshot.h"
#include "table.h"

#include <stdlib.h>
#include <string.h>

static const struct tcc_option options[] = {TCC_OPTION_LIMIT, {0}};

static uint64_t client_bytes(const struct tcw_stats_client *client)
{
    return tcc_or_zero(client->memory_bytes) + tcc_or_zero(client->registered_bytes);
}

static int larger_client(const void *a, const void *b)
{
    uint64_t x = client_bytes(a), y = client_bytes(b);

    return x > y ? -1 : x < y;
}

/* By what is theirs alone: communicators are shared. */
static int larger_group(const void *a, const void *b)
{
    const struct tcw_stats_group *group = a, *other = b;
    uint64_t x = tcc_or_zero(group->workspace_bytes), y = tcc_or_zero(other->workspace_bytes);

    if (x != y)
        return x > y ? -1 : 1;
    return strcmp(group->name, other->name);
}

/* Of all GPUs; each communicator counts once, however many groups use it. */
static uint64_t communicators_bytes(const struct tcc_snapshot *snapshot)
{
    uint64_t sum = 0, bytes;

    for (size_t i = 0; i < snapshot->device_count; i++) {
        tcc_device_communicators(snapshot, snapshot->devices[i].device, &bytes);
        sum += bytes;
    }
    return sum;
}

static void print_totals(struct tcc_session *session, const struct tcc_snapshot *snapshot)
{
    uint64_t taken = communicators_bytes(snapshot);

    fprintf(session->out.file, "%s handed out: workspaces, rings and client memory\n", tcc_bytes(snapshot->daemon.memory_bytes).s);
    if (taken)
        fprintf(session->out.file, "about %s more taken by NCCL communicators\n", tcc_bytes(taken).s);
}

/* A title and a table, or nothing if the table has no rows. */
static void print_section(struct tcc_session *session, const char *title, struct tcc_table *table, size_t limit)
{
    if (tcc_table_rows(table)) {
        tcc_print(&session->out, TCC_BOLD, "\n%s\n", title);
        tcc_table_print(table, &session->out, 2, limit);
    }
    tcc_table_free(table);
}

static void print_devices(struct tcc_session *session, const struct tcc_snapshot *snapshot, size_t limit)
{
    static const struct tcc_column columns[] = {{"DEVICE", TCC_RIGHT},
                                                {"KIND", TCC_LEFT},
                                                {"HANDED OUT", TCC_RIGHT},
                                                {"OF", TCC_RIGHT | TCC_OPTIONAL},
                                                {"MPS", TCC_LEFT | TCC_OPTIONAL},
                                                {"NCCL", TCC_LEFT | TCC_OPTIONAL},
                                                {"COMMUNICATORS", TCC_RIGHT | TCC_OPTIONAL},
                                                {"THEIR MEMORY", TCC_RIGHT | TCC_OPTIONAL}};
    struct tcc_table *table = tcc_table_create(columns, sizeof columns / sizeof columns[0]);

    for (size_t i = 0; i < snapshot->device_count; i++) {
        const struct tcw_stats_device *device = &snapshot->devices[i];
        bool known = tcc_or_zero(device->known) != 0;
        uint64_t bytes, communicators = tcc_device_communicators(snapshot, device->device, &bytes);

        tcc_table_cell(table, TCC_PLAIN, "%s", tcc_number(device->device).s);
        tcc_table_cell(table, TCC_PLAIN, "%s", tcc_device_kind_name(device->kind));
        tcc_table_cell(table, TCC_PLAIN, "%s", tcc_bytes(device->memory_bytes).s);
        tcc_table_cell(table, TCC_PLAIN, "%s", known ? tcc_bytes(device->gpu_memory_bytes).s : "-");
        tcc_table_cell(table, TCC_PLAIN, "%s", !known ? "-" : tcc_or_zero(device->mps) ? "yes" : "no");
        tcc_table_cell(table, TCC_PLAIN, "%s", known ? tcc_gpu_library(device).s : "-");
        tcc_table_cell(table, TCC_PLAIN, "%s", known ? tcc_number(communicators).s : "-");
        tcc_table_cell(table, TCC_PLAIN, "%s", known && bytes ? tcc_bytes(bytes).s : "-");
    }
    print_section(session, "by device", table, limit);
}

static void print_groups(struct tcc_session *session, const struct tcc_snapshot *snapshot, size_t limit)
{
    static const struct tcc_column columns[] = {{"GROUP", TCC_LEFT},
                                                {"EPOCH", TCC_RIGHT},
                                                {"RANKS", TCC_RIGHT},
                                                {"WORKSPACES", TCC_RIGHT},
                                                {"PER RANK", TCC_RIGHT},
                                                {"GENERATION", TCC_RIGHT},
                                                {"NCCL/GPU", TCC_RIGHT | TCC_OPTIONAL},
                                                {"SHARED", TCC_RIGHT | TCC_OPTIONAL}};
    struct tcc_table *table = tcc_table_create(columns, sizeof columns / sizeof columns[0]);

    for (size_t i = 0; i < snapshot->group_count; i++) {
        const struct tcw_stats_group *group = &snapshot->groups[i];
        const struct tcw_stats_communicator *communicator = tcc_group_communicator(snapshot, group);
        uint64_t users = communicator ? tcc_or_zero(communicator->users) : 0;
        uint64_t all = group->workspace_bytes ? group->workspace_bytes : TCC_ABSENT;
        uint64_t each = all == TCC_ABSENT || !tcc_or_zero(group->size) ? TCC_ABSENT : all / group->size;

        if (!group->workspace_bytes && !communicator)
            continue;
        tcc_table_cell(table, TCC_PLAIN, "%s", tcc_dash(group->name));
        tcc_table_cell(table, TCC_PLAIN, "%s", tcc_number(group->epoch).s);
        tcc_table_cell(table, TCC_PLAIN, "%s", tcc_number(group->size).s);
        tcc_table_cell(table, TCC_PLAIN, "%s", tcc_bytes(all).s);
        tcc_table_cell(table, TCC_PLAIN, "%s", tcc_bytes(each).s);
        tcc_table_cell(table, TCC_PLAIN, "%s", tcc_number(all == TCC_ABSENT ? TCC_ABSENT : group->workspace_generation).s);
        tcc_table_cell(table, TCC_PLAIN, "%s", communicator ? tcc_communicator_bytes(communicator).s : "-");
        if (users > 1)
            tcc_table_cell(table, TCC_PLAIN, "by %s", tcc_number(users).s);
        else
            tcc_table_cell(table, TCC_PLAIN, "-");
    }
    print_section(session, "by group", table, limit);
}

static void print_clients(struct tcc_session *session, const struct tcc_snapshot *snapshot, size_t limit)
{
    static const struct tcc_column columns[] = {{"CLIENT", TCC_RIGHT}, {"NAME", TCC_LEFT},  {"PID", TCC_RIGHT},
                                                {"DEVICE", TCC_RIGHT}, {"HELD", TCC_RIGHT}, {"REGISTERED", TCC_RIGHT}};
    struct tcc_table *table = tcc_table_create(columns, sizeof columns / sizeof columns[0]);

    for (size_t i = 0; i < snapshot->client_count; i++) {
        const struct tcw_stats_client *client = &snapshot->clients[i];

        tcc_table_cell(table, TCC_PLAIN, "%s", tcc_number(client->client).s);
        tcc_table_cell(table, TCC_PLAIN, "%s", tcc_dash(client->name));
        tcc_table_cell(table, TCC_PLAIN, "%s", tcc_number(client->pid).s);
        tcc_table_cell(table, TCC_PLAIN, "%s", tcc_number(client->device).s);
        tcc_table_cell(table, TCC_PLAIN, "%s", tcc_bytes(client->memory_bytes).s);
        tcc_table_cell(table, TCC_PLAIN, "%s", tcc_bytes(client->registered_bytes).s);
    }
    print_section(session, "by client", table, limit);
}

static void print_json(struct tcc_session *session, const struct tcc_snapshot *snapshot)
{
    cJSON *document = tcc_json_begin("memory", snapshot);
    cJSON *list, *item;

    tcc_json_u64(document, "total_bytes", snapshot->daemon.memory_bytes);
    tcc_json_u64(document, "communicators_bytes", communicators_bytes(snapshot));
    list = tcc_json_array(document, "devices");
    for (size_t i = 0; i < snapshot->device_count; i++) {
        uint64_t communicators, bytes;

        item = tcc_json_object(list, NULL);
        tcc_json_u64(item, "device", snapshot->devices[i].device);
        tcc_json_text(item, "kind", tcc_device_kind_name(snapshot->devices[i].kind));
        tcc_json_u64(item, "memory_bytes", snapshot->devices[i].memory_bytes);
        tcc_json_u64(item, "gpu_memory_bytes", snapshot->devices[i].known == 1 ? snapshot->devices[i].gpu_memory_bytes : TCC_ABSENT);
        communicators = tcc_device_communicators(snapshot, snapshot->devices[i].device, &bytes);
        tcc_json_u64(item, "communicators", communicators);
        tcc_json_u64(item, "communicators_bytes", bytes);
        tcc_gpu_json(item, &snapshot->devices[i]);
    }
    list = tcc_json_array(document, "groups");
    for (size_t i = 0; i < snapshot->group_count; i++) {
        item = tcc_json_object(list, NULL);
        tcc_json_text(item, "name", snapshot->groups[i].name);
        tcc_json_u64(item, "epoch", snapshot->groups[i].epoch);
        tcc_json_u64(item, "size", snapshot->groups[i].size);
        tcc_json_u64(item, "workspace_bytes", snapshot->groups[i].workspace_bytes);
        tcc_json_u64(item, "workspace_generation", snapshot->groups[i].workspace_generation);
        tcc_json_u64(item, "communicator", tcc_or_zero(snapshot->groups[i].communicator) ? snapshot->groups[i].communicator : TCC_ABSENT);
    }
    list = tcc_json_array(document, "clients");
    for (size_t i = 0; i < snapshot->client_count; i++) {
        item = tcc_json_object(list, NULL);
        tcc_json_u64(item, "client", snapshot->clients[i].client);
        tcc_json_text(item, "name", snapshot->clients[i].name);
        tcc_json_u64(item, "pid", snapshot->clients[i].pid);
        tcc_json_u64(item, "device", snapshot->clients[i].device);
        tcc_json_u64(item, "memory_bytes", snapshot->clients[i].memory_bytes);
        tcc_json_u64(item, "registered_bytes", snapshot->clients[i].registered_bytes);
    }
    tcc_communicators_json(document, snapshot);
    tcc_json_end(document, session->out.file, session->compact);
}

static tcc_exit run(struct tcc_session *session)
{
    struct tcc_snapshot snapshot;
    unsigned long long limit = TCC_LIMIT;
    tcc_exit code;

    if (!tcc_option_u64(session, "limit", 0, 1000000000, &limit))
        return TCC_EXIT_USAGE;
    code = tcc_session_snapshot(session, 0, &snapshot);
    if (code)
        return code;
    if (session->json) {
        print_json(session, &snapshot);
    } else {
        if (snapshot.client_count)
            qsort(snapshot.clients, snapshot.client_count, sizeof *snapshot.clients, larger_client);
        if (snapshot.group_count)
            qsort(snapshot.groups, snapshot.group_count, sizeof *snapshot.groups, larger_group);
        tcc_session_caution(session, &snapshot);
        print_totals(session, &snapshot);
        print_devices(session, &snapshot, limit);
        print_groups(session, &snapshot, limit);
        print_clients(session, &snapshot, limit);
    }
    tcc_snapshot_free(&snapshot);
    return code;
}

const struct tcc_command tcc_command_memory = {
    .name = "memory",
    .help = "memory by device, by group, by client",
    .details = "Workspaces are daemon memory that the ranks of a group exchange data through; all generations count.\n"
               "NCCL/GPU is what went of each of a group's GPUs, about, when its communicator was made. Groups on the same\n"
               "GPUs share one: SHARED says by how many, and its memory is there once.",
    .options = options,
    .run = run,
};
