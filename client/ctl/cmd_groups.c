/* groups: all group instances, or one with its members. */
#include "command.h"
#include "gpus.h"
#include "json.h"
#include "snapshot.h"
#include "table.h"

#include <string.h>

static const struct tcc_option options[] = {
    {"names", NULL, "only the names, one per line, for scripts", 'n'},
    TCC_OPTION_LIMIT,
    {0},
};

static tcc_style state_style(uint64_t state)
{
    static const tcc_style styles[] = {TCC_DIM, TCC_WARN, TCC_GOOD, TCC_BAD};

    return state < 4 ? styles[state] : TCC_PLAIN;
}

/* The furthest step of any rank on both lanes. */
static uint64_t group_steps(const struct tcc_snapshot *snapshot, uint64_t group, tcw_lane lane)
{
    uint64_t most = 0;
    size_t count;
    const struct tcw_stats_member *members = tcc_snapshot_members(snapshot, group, &count);

    for (size_t i = 0; i < count; i++) {
        uint64_t started = tcc_or_zero(tcc_member_progress(&members[i], lane).started);

        if (started > most)
            most = started;
    }
    return most;
}

static void print_list(struct tcc_session *session, const struct tcc_snapshot *snapshot, size_t limit)
{
    static const struct tcc_column columns[] = {
        {"GROUP", TCC_LEFT},     {"EPOCH", TCC_RIGHT},  {"STATE", TCC_LEFT},       {"RANKS", TCC_RIGHT},
        {"PLANS", TCC_RIGHT},    {"DIRECT", TCC_RIGHT}, {"SERVED", TCC_RIGHT},     {"WORKSPACES", TCC_RIGHT},
        {"DEADLINE", TCC_RIGHT}, {"ORIGIN", TCC_LEFT},  {"PROBLEM", TCC_OPTIONAL},
    };
    struct tcc_table *table = tcc_table_create(columns, sizeof columns / sizeof columns[0]);

    for (size_t i = 0; i < snapshot->group_count; i++) {
        const struct tcw_stats_group *group = &snapshot->groups[i];

        tcc_table_cell(table, TCC_PLAIN, "%s", tcc_dash(group->name));
        tcc_table_cell(table, TCC_PLAIN, "%s", tcc_number(group->epoch).s);
        tcc_table_cell(table, state_style(group->state), "%s", tcc_group_state_name(group->state));
        tcc_table_cell(table, group->joined < group->size && group->state == TCC_GROUP_FORMING ? TCC_WARN : TCC_PLAIN, "%s/%s",
                       tcc_number(group->joined).s, tcc_number(group->size).s);
        tcc_table_cell(table, TCC_PLAIN, "%s", tcc_number(group->plans).s);
        tcc_table_cell(table, TCC_PLAIN, "%s", tcc_count(group_steps(snapshot, group->group, TCW_LANE_DIRECT)).s);
        tcc_table_cell(table, TCC_PLAIN, "%s", tcc_count(group_steps(snapshot, group->group, TCW_LANE_SERVED)).s);
        tcc_table_cell(table, TCC_PLAIN, "%s", tcc_bytes(group->workspace_bytes).s);
        tcc_table_cell(table, TCC_PLAIN, "%s", group->deadline_ns ? tcc_ns(group->deadline_ns).s : "none");
        tcc_table_cell(table, TCC_PLAIN, "%s", tcc_dash(group->origin));
        tcc_table_cell(table, TCC_BAD, "%s", tcc_dash(group->problem));
    }
    if (snapshot->group_count)
        tcc_table_print(table, &session->out, 0, limit);
    else
        fputs("no groups\n", session->out.file);
    tcc_table_free(table);
}

/* "idle", or "waiting 1.2 s for 3" */
static void state_cell(struct tcc_table *table, const struct tcc_snapshot *snapshot, const struct tcw_stats_member *member)
{
    struct tcc_progress direct = tcc_member_progress(member, TCW_LANE_DIRECT), served = tcc_member_progress(member, TCW_LANE_SERVED);
    const struct tcc_progress *progress = served.state != TCC_ABSENT && served.state > tcc_or_zero(direct.state) ? &served : &direct;
    struct tcc_text age = tcc_ns(tcc_snapshot_age(snapshot, progress->since_ns));
    struct tcc_kernels kernels = tcc_member_kernels(snapshot, member);

    if (!member->client)
        tcc_table_cell(table, TCC_WARN, "absent");
    else if (*kernels.s)
        tcc_table_cell(table, kernels.bad ? TCC_BAD : TCC_WARN, "%s", kernels.s);
    else if (progress->waits)
        tcc_table_cell(table, TCC_WARN, "waiting %s for %s", age.s, tcc_ranks(progress->missing).s);
    else if (progress->state == TCW_MEMBER_RUNNING || progress->state == TCW_MEMBER_WAITING)
        tcc_table_cell(table, TCC_PLAIN, "running %s", age.s);
    else
        tcc_table_cell(table, progress->state == TCW_MEMBER_FAILED ? TCC_BAD : TCC_PLAIN, "%s", tcc_member_state_name(progress->state));
}

static void print_members(struct tcc_session *session, const struct tcc_snapshot *snapshot, const struct tcw_stats_group *group)
{
    static const struct tcc_column columns[] = {
        {"RANK", TCC_RIGHT},
        {"CLIENT", TCC_RIGHT},
        {"PID", TCC_RIGHT},
        {"DEVICE", TCC_RIGHT},
        {"STATE", TCC_LEFT},
        {"DIRECT", TCC_RIGHT},
        {"SERVED", TCC_RIGHT},
        {"BYTES", TCC_RIGHT},
        {"ERRORS", TCC_RIGHT},
        {"BUSY", TCC_RIGHT},
        {"KERNELS", TCC_RIGHT | TCC_OPTIONAL},
    };
    struct tcc_table *table = tcc_table_create(columns, sizeof columns / sizeof columns[0]);
    bool kernels = tcc_group_has_kernels(snapshot, group->group);
    size_t count;
    const struct tcw_stats_member *members = tcc_snapshot_members(snapshot, group->group, &count);

    for (size_t i = 0; i < count; i++) {
        const struct tcw_stats_member *member = &members[i];
        bool blamed = group->state == TCC_GROUP_BROKEN && group->culprit == member->rank;

        tcc_table_cell(table, blamed ? TCC_BAD : TCC_PLAIN, "%s%s", blamed ? "! " : "", tcc_number(member->rank).s);
        tcc_table_cell(table, TCC_PLAIN, "%s", member->client ? tcc_number(member->client).s : "-");
        tcc_table_cell(table, TCC_PLAIN, "%s", member->pid ? tcc_number(member->pid).s : "-");
        tcc_table_cell(table, TCC_PLAIN, "%s", tcc_number(member->device).s);
        state_cell(table, snapshot, member);
        tcc_table_cell(table, TCC_PLAIN, "%s", tcc_number(member->direct_started).s);
        tcc_table_cell(table, TCC_PLAIN, "%s", tcc_number(member->served_started).s);
        tcc_table_cell(table, TCC_PLAIN, "%s", tcc_bytes(member->bytes).s);
        tcc_table_cell(table, tcc_or_zero(member->errors) ? TCC_BAD : TCC_PLAIN, "%s", tcc_count(member->errors).s);
        tcc_table_cell(table, TCC_PLAIN, "%s", tcc_ns(member->busy_ns).s);
        tcc_table_cell(table, TCC_PLAIN, "%s", kernels ? tcc_number(member->device_steps).s : "-");
    }
    if (count)
        tcc_table_print(table, &session->out, 2, 0);
    tcc_table_free(table);
}

static void print_group(struct tcc_session *session, const struct tcc_snapshot *snapshot, const struct tcw_stats_group *group)
{
    tcc_print(&session->out, TCC_BOLD, "%s", tcc_dash(group->name));
    fprintf(session->out.file, " epoch %s: ", tcc_number(group->epoch).s);
    tcc_print(&session->out, state_style(group->state), "%s", tcc_group_state_name(group->state));
    fprintf(session->out.file, ", %s of %s ranks, %s plan%s, workspaces %s (generation %s), deadline %s, %s\n", tcc_number(group->joined).s,
            tcc_number(group->size).s, tcc_number(group->plans).s, tcc_plural(group->plans), tcc_bytes(group->workspace_bytes).s,
            tcc_number(group->workspace_generation).s, group->deadline_ns ? tcc_ns(group->deadline_ns).s : "none", tcc_dash(group->origin));
    if (*group->problem)
        tcc_print(&session->out, TCC_BAD, "  ! %s\n", group->problem);
    print_members(session, snapshot, group);
}

static void lane_json(cJSON *parent, const char *name, const struct tcw_stats_member *member, tcw_lane lane)
{
    struct tcc_progress progress = tcc_member_progress(member, lane);
    cJSON *item = tcc_json_object(parent, name);

    tcc_json_u64(item, "started", progress.started);
    tcc_json_u64(item, "finished", progress.finished);
    tcc_json_hex(item, "hash", progress.hash);
    tcc_json_text(item, "state", tcc_member_state_name(progress.state));
    tcc_json_u64(item, "since_ns", progress.since_ns);
    tcc_json_ranks(item, "missing", tcc_or_zero(progress.missing));
}

static void kernels_json(cJSON *parent, const struct tcw_stats_member *member)
{
    const char *fault = tcc_or_zero(member->device_fault) ? tcw_error_name(-(int)(uint32_t)member->device_fault) : NULL;
    cJSON *item = tcc_json_object(parent, "kernels");

    tcc_json_u64(item, "finished", member->device_steps);
    tcc_json_u64(item, "since_ns", tcc_or_zero(member->device_since_ns) ? member->device_since_ns : TCC_ABSENT);
    tcc_json_text(item, "fault", fault);
    tcc_json_u64(item, "culprit", fault && member->device_culprit < TCW_MAX_RANKS ? member->device_culprit : TCC_ABSENT);
    tcc_json_u64(item, "fault_step", fault ? member->device_fault_step : TCC_ABSENT);
    tcc_json_u64(item, "their_step", fault ? member->device_their_step : TCC_ABSENT);
}

static void group_json(cJSON *groups, const struct tcc_snapshot *snapshot, const struct tcw_stats_group *group)
{
    cJSON *item = tcc_json_object(groups, NULL), *list;
    size_t count;
    const struct tcw_stats_member *members = tcc_snapshot_members(snapshot, group->group, &count);
    const char *code = tcc_or_zero(group->code) ? tcw_error_name(-(int)group->code) : NULL;

    tcc_json_text(item, "name", group->name);
    tcc_json_u64(item, "group_id", group->group);
    tcc_json_u64(item, "epoch", group->epoch);
    tcc_json_text(item, "state", tcc_group_state_name(group->state));
    tcc_json_u64(item, "size", group->size);
    tcc_json_u64(item, "joined", group->joined);
    tcc_json_u64(item, "plans", group->plans);
    tcc_json_u64(item, "workspace_bytes", group->workspace_bytes);
    tcc_json_u64(item, "workspace_generation", group->workspace_generation);
    tcc_json_u64(item, "deadline_ns", group->deadline_ns);
    tcc_json_text(item, "origin", group->origin);
    tcc_json_text(item, "error", code);
    tcc_json_u64(item, "culprit", group->culprit < TCW_MAX_RANKS && group->state == TCC_GROUP_BROKEN ? group->culprit : TCC_ABSENT);
    tcc_json_text(item, "problem", *group->problem ? group->problem : NULL);
    list = tcc_json_array(item, "members");
    for (size_t i = 0; i < count; i++) {
        const struct tcw_stats_member *member = &members[i];
        cJSON *row = tcc_json_object(list, NULL);

        tcc_json_u64(row, "rank", member->rank);
        tcc_json_u64(row, "client", member->client);
        tcc_json_u64(row, "pid", member->pid);
        tcc_json_u64(row, "device", member->device);
        lane_json(row, "direct", member, TCW_LANE_DIRECT);
        lane_json(row, "served", member, TCW_LANE_SERVED);
        kernels_json(row, member);
        tcc_json_u64(row, "bytes", member->bytes);
        tcc_json_u64(row, "errors", member->errors);
        tcc_json_u64(row, "busy_ns", member->busy_ns);
    }
}

static bool wanted(const struct tcc_session *session, const struct tcw_stats_group *group)
{
    return !session->argument_count || strcmp(session->arguments[0], group->name) == 0;
}

static void print_json(struct tcc_session *session, const struct tcc_snapshot *snapshot)
{
    cJSON *document = tcc_json_begin("groups", snapshot);
    cJSON *groups = tcc_json_array(document, "groups");

    for (size_t i = 0; i < snapshot->group_count; i++) {
        if (wanted(session, &snapshot->groups[i]))
            group_json(groups, snapshot, &snapshot->groups[i]);
    }
    tcc_json_end(document, session->out.file, session->compact);
}

static void print_text(struct tcc_session *session, const struct tcc_snapshot *snapshot, size_t limit)
{
    bool first = true;

    if (!session->argument_count) {
        tcc_session_caution(session, snapshot);
        print_list(session, snapshot, limit);
        return;
    }
    tcc_session_caution(session, snapshot);
    for (size_t i = 0; i < snapshot->group_count; i++) {
        if (!wanted(session, &snapshot->groups[i]))
            continue;
        if (!first)
            fputc('\n', session->out.file);
        print_group(session, snapshot, &snapshot->groups[i]);
        first = false;
    }
}

static tcc_exit run(struct tcc_session *session)
{
    struct tcc_snapshot snapshot;
    unsigned long long limit = TCC_LIMIT;
    size_t found = 0;
    tcc_exit code;

    if (!tcc_option_u64(session, "limit", 0, 1000000000, &limit))
        return TCC_EXIT_USAGE;
    code = tcc_session_snapshot(session, 0, &snapshot);
    if (code)
        return code;
    for (size_t i = 0; i < snapshot.group_count; i++)
        found += wanted(session, &snapshot.groups[i]);
    if (session->argument_count && !found) {
        code = tcc_complain(session, TCC_EXIT_FAILURE, "no group is called \"%s\" (trtcollctl groups --names lists them)",
                            session->arguments[0]);
    } else if (session->json) {
        print_json(session, &snapshot);
    } else if (tcc_option(session, "names")) {
        for (size_t i = 0; i < snapshot.group_count; i++) {
            if (wanted(session, &snapshot.groups[i]) && (!i || strcmp(snapshot.groups[i].name, snapshot.groups[i - 1].name) != 0))
                fprintf(session->out.file, "%s\n", snapshot.groups[i].name);
        }
    } else {
        print_text(session, &snapshot, limit);
    }
    tcc_snapshot_free(&snapshot);
    return code;
}

const struct tcc_command tcc_command_groups = {
    .name = "groups",
    .arguments = "[GROUP]",
    .help = "all groups, or one with its members",
    .details = "DIRECT and SERVED count the runs that the furthest rank has started on that lane.",
    .options = options,
    .max_arguments = 1,
    .run = run,
};
