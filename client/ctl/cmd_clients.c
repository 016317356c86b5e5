/* clients: who is attached. */
#include "command.h"
#include "json.h"
#include "snapshot.h"
#include "table.h"

static const struct tcc_option options[] = {
    {"ids", NULL, "only the ids, one per line, for scripts", 'i'},
    TCC_OPTION_LIMIT,
    {0},
};

static void print_text(struct tcc_session *session, const struct tcc_snapshot *snapshot, size_t limit)
{
    static const struct tcc_column columns[] = {
        {"CLIENT", TCC_RIGHT},   {"NAME", TCC_LEFT},      {"PID", TCC_RIGHT},     {"UID", TCC_RIGHT},    {"DEVICE", TCC_RIGHT},
        {"ATTACHED", TCC_RIGHT}, {"GROUPS", TCC_RIGHT},   {"PLANS", TCC_RIGHT},   {"MEMORY", TCC_RIGHT}, {"REGISTERED", TCC_RIGHT},
        {"SLOTS", TCC_RIGHT},    {"REQUESTS", TCC_RIGHT}, {"REFUSED", TCC_RIGHT},
    };
    struct tcc_table *table = tcc_table_create(columns, sizeof columns / sizeof columns[0]);

    for (size_t i = 0; i < snapshot->client_count; i++) {
        const struct tcw_stats_client *client = &snapshot->clients[i];
        uint64_t attached = client->attached_ns < snapshot->as_of_real_ns ? snapshot->as_of_real_ns - client->attached_ns : TCC_ABSENT;

        tcc_table_cell(table, TCC_BOLD, "%s", tcc_number(client->client).s);
        tcc_table_cell(table, TCC_PLAIN, "%s", tcc_dash(client->name));
        tcc_table_cell(table, TCC_PLAIN, "%s", tcc_number(client->pid).s);
        tcc_table_cell(table, TCC_PLAIN, "%s", tcc_number(client->uid).s);
        tcc_table_cell(table, TCC_PLAIN, "%s", tcc_number(client->device).s);
        tcc_table_cell(table, TCC_PLAIN, "%s", tcc_ns(attached).s);
        tcc_table_cell(table, TCC_PLAIN, "%s", tcc_number(client->groups).s);
        tcc_table_cell(table, TCC_PLAIN, "%s", tcc_number(client->plans).s);
        tcc_table_cell(table, TCC_PLAIN, "%s", tcc_bytes(client->memory_bytes).s);
        tcc_table_cell(table, TCC_PLAIN, "%s", tcc_bytes(client->registered_bytes).s);
        tcc_table_cell(table, TCC_PLAIN, "%s", tcc_number(client->in_flight_limit).s);
        tcc_table_cell(table, TCC_PLAIN, "%s", tcc_count(client->requests).s);
        tcc_table_cell(table, tcc_or_zero(client->refusals) ? TCC_WARN : TCC_PLAIN, "%s", tcc_count(client->refusals).s);
    }
    tcc_session_caution(session, snapshot);
    if (snapshot->client_count)
        tcc_table_print(table, &session->out, 0, limit);
    else
        fputs("no clients\n", session->out.file);
    tcc_table_free(table);
}

static void print_json(struct tcc_session *session, const struct tcc_snapshot *snapshot)
{
    cJSON *document = tcc_json_begin("clients", snapshot);
    cJSON *clients = tcc_json_array(document, "clients");

    for (size_t i = 0; i < snapshot->client_count; i++) {
        const struct tcw_stats_client *client = &snapshot->clients[i];
        cJSON *item = tcc_json_object(clients, NULL);

        tcc_json_u64(item, "client", client->client);
        tcc_json_text(item, "name", client->name);
        tcc_json_u64(item, "pid", client->pid);
        tcc_json_u64(item, "uid", client->uid);
        tcc_json_u64(item, "device", client->device);
        tcc_json_u64(item, "attached_realtime_ns", client->attached_ns);
        tcc_json_u64(item, "groups", client->groups);
        tcc_json_u64(item, "plans", client->plans);
        tcc_json_u64(item, "memory_bytes", client->memory_bytes);
        tcc_json_u64(item, "registered_bytes", client->registered_bytes);
        tcc_json_u64(item, "in_flight_limit", client->in_flight_limit);
        tcc_json_u64(item, "requests", client->requests);
        tcc_json_u64(item, "refusals", client->refusals);
    }
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
    } else if (tcc_option(session, "ids")) {
        for (size_t i = 0; i < snapshot.client_count; i++)
            fprintf(session->out.file, "%s\n", tcc_number(snapshot.clients[i].client).s);
    } else {
        print_text(session, &snapshot, limit);
    }
    tcc_snapshot_free(&snapshot);
    return code;
}

const struct tcc_command tcc_command_clients = {
    .name = "clients",
    .help = "who is attached",
    .details = "MEMORY is daemon memory the client holds, REGISTERED its own that the daemon may use, SLOTS the requests it may have\n"
               "under way on the served lane.",
    .options = options,
    .run = run,
};
