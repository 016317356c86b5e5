/* status and health: what is wrong first, then the healthy in summary. */
#include "command.h"
#include "gpus.h"
#include "json.h"
#include "snapshot.h"
#include "table.h"
#include "verdict.h"

#include <string.h>

static tcc_exit verdict_exit(const struct tcc_verdict *verdict)
{
    return verdict->degraded ? TCC_EXIT_DEGRADED : TCC_EXIT_OK;
}

static tcc_style verdict_style(const struct tcc_verdict *verdict)
{
    return verdict->degraded ? TCC_BAD : TCC_GOOD;
}

static size_t groups_in(const struct tcc_snapshot *snapshot, tcc_group_state state)
{
    size_t count = 0;

    for (size_t i = 0; i < snapshot->group_count; i++)
        count += snapshot->groups[i].state == (uint64_t)state;
    return count;
}

static void print_head(const struct tcc_session *session, const struct tcc_snapshot *snapshot, const struct tcc_verdict *verdict)
{
    const struct tcc_out *out = &session->out;
    const struct tcw_stats_daemon *daemon = &snapshot->daemon;
    uint64_t up = daemon->start_ns != TCC_ABSENT && snapshot->as_of_real_ns > daemon->start_ns ? snapshot->as_of_real_ns - daemon->start_ns
                                                                                               : TCC_ABSENT;

    tcc_print(out, TCC_BOLD, "trtcolld %s", tcc_dash(daemon->version));
    if (*daemon->node)
        fprintf(out->file, " on %s", daemon->node);
    fputs(": ", out->file);
    tcc_print(out, verdict_style(verdict), "%s", tcc_verdict_word(snapshot, verdict));
    tcc_print(out, TCC_DIM, "  (pid %s, %s %s)\n", tcc_number(daemon->pid).s, snapshot->life == TCC_LIFE_GONE ? "ran for" : "up for",
              tcc_ns(up).s);
}

static void print_problems(const struct tcc_out *out, const struct tcc_verdict *verdict)
{
    if (!verdict->count)
        return;
    fputc('\n', out->file);
    for (size_t i = 0; i < verdict->count; i++) {
        bool bad = verdict->problems[i].severity == TCC_DEGRADED;

        tcc_print(out, bad ? TCC_BAD : TCC_WARN, bad ? "  ! " : "  - ");
        tcc_print_wrapped(out, TCC_PLAIN, 4, 4, verdict->problems[i].text);
    }
}

/* "tp0, tp1, pp0" of the groups in a state, wrapped. */
static void print_names(const struct tcc_out *out, const struct tcc_snapshot *snapshot, tcc_group_state state, size_t limit)
{
    char names[4096] = "";
    size_t used = 0, shown = 0, all = 0;

    for (size_t i = 0; i < snapshot->group_count; i++) {
        const struct tcw_stats_group *group = &snapshot->groups[i];

        if (group->state != (uint64_t)state)
            continue;
        all++;
        if ((limit && shown == limit) || used + strlen(group->name) + 4 >= sizeof names)
            continue;
        used += (size_t)snprintf(names + used, sizeof names - used, "%s%s", shown ? ", " : "", tcc_dash(group->name));
        shown++;
    }
    if (shown < all)
        snprintf(names + used, sizeof names - used, " and %zu more", all - shown);
    tcc_print_wrapped(out, TCC_PLAIN, 25, 25, names);
}

static void print_groups(const struct tcc_session *session, const struct tcc_snapshot *snapshot)
{
    static const struct {
        tcc_group_state state;
        tcc_style style;
    } order[] = {{TCC_GROUP_BROKEN, TCC_BAD}, {TCC_GROUP_FORMING, TCC_WARN}, {TCC_GROUP_READY, TCC_GOOD}, {TCC_GROUP_CONFIGURED, TCC_DIM}};
    const char *title = "groups";

    for (size_t i = 0; i < sizeof order / sizeof order[0]; i++) {
        size_t count = groups_in(snapshot, order[i].state);

        if (!count)
            continue;
        tcc_print(&session->out, TCC_BOLD, "  %-8s", title);
        tcc_print(&session->out, order[i].style, "%3zu %-10s", count, tcc_group_state_name(order[i].state));
        fputs(" ", session->out.file);
        print_names(&session->out, snapshot, order[i].state, TCC_LIMIT);
        title = "";
    }
    if (!snapshot->group_count) {
        tcc_print(&session->out, TCC_BOLD, "  %-8s", title);
        fputs("  none\n", session->out.file);
    }
}

static void print_work(const struct tcc_session *session, const struct tcc_snapshot *snapshot)
{
    uint64_t finished = 0, errors = 0, underway = 0, bytes = 0;

    for (size_t i = 0; i < snapshot->member_count; i++) {
        const struct tcw_stats_member *member = &snapshot->members[i];
        uint64_t started = tcc_or_zero(member->direct_started) + tcc_or_zero(member->served_started);
        uint64_t ended = tcc_or_zero(member->direct_finished) + tcc_or_zero(member->served_finished);

        finished += ended;
        ended += tcc_or_zero(member->errors);
        errors += tcc_or_zero(member->errors);
        underway += started > ended ? started - ended : 0; /* not one moment's numbers: never below zero */
        bytes += tcc_or_zero(member->bytes);
    }
    tcc_print(&session->out, TCC_BOLD, "  %-8s", "runs");
    fprintf(session->out.file, "  %s finished, ", tcc_count(finished).s);
    tcc_print(&session->out, errors ? TCC_WARN : TCC_PLAIN, "%s failed", tcc_count(errors).s);
    fprintf(session->out.file, ", %s under way; %s of payload, by those who are members now\n", tcc_count(underway).s, tcc_bytes(bytes).s);
}

static void print_devices(const struct tcc_session *session, const struct tcc_snapshot *snapshot)
{
    uint64_t well = 0, failed = 0, unusable = 0, running = 0;
    bool host = false, cuda = false;

    for (size_t i = 0; i < snapshot->device_count; i++) {
        const struct tcw_stats_device *device = &snapshot->devices[i];
        uint64_t bit = device->device < 64 ? 1ull << device->device : 0;

        if (tcc_or_zero(device->failed))
            failed |= bit;
        else if (*device->note)
            unusable |= bit;
        else
            well |= bit;
        if (tcc_or_zero(device->pid))
            running |= bit;
        if (well & bit)
            *(device->kind == 1 ? &cuda : &host) = true;
    }
    tcc_print(&session->out, TCC_BOLD, "  %-8s", "devices");
    if (!snapshot->device_count) {
        fputs("  none\n", session->out.file);
        return;
    }
    fprintf(session->out.file, "%3zu ", snapshot->device_count);
    if (failed)
        tcc_print(&session->out, TCC_BAD, "failed: %s; ", tcc_ranks(failed).s);
    if (unusable)
        tcc_print(&session->out, TCC_WARN, "not usable: %s; ", tcc_ranks(unusable).s);
    if (well)
        fprintf(session->out.file, "well: %s (%s); ", tcc_ranks(well).s, !cuda ? "host" : !host ? "cuda" : "host and cuda");
    fprintf(session->out.file, "executors running on: %s\n", running ? tcc_ranks(running).s : "none");
}

static void print_clients(const struct tcc_session *session, const struct tcc_snapshot *snapshot)
{
    const struct tcw_stats_daemon *daemon = &snapshot->daemon;

    tcc_print(&session->out, TCC_BOLD, "  %-8s", "clients");
    fprintf(session->out.file, "%3s attached, %s since the start; %s plan%s; %s handed out\n", tcc_number(daemon->clients).s,
            tcc_count(daemon->clients_total).s, tcc_number(daemon->plans).s, tcc_plural(daemon->plans), tcc_bytes(daemon->memory_bytes).s);
}

static tcc_exit print_json(struct tcc_session *session, const struct tcc_snapshot *snapshot, const struct tcc_verdict *verdict)
{
    const struct tcw_stats_daemon *from = &snapshot->daemon;
    cJSON *document = tcc_json_begin(session->command->name, snapshot);
    cJSON *daemon, *groups, *devices;

    tcc_json_text(document, "verdict", tcc_verdict_word(snapshot, verdict));
    tcc_json_bool(document, "degraded", verdict->degraded > 0);
    tcc_verdict_json(verdict, document);
    if (strcmp(session->command->name, "health") != 0) {
        daemon = tcc_json_object(document, "daemon");
        tcc_json_text(daemon, "version", from->version);
        tcc_json_text(daemon, "node", from->node);
        tcc_json_u64(daemon, "pid", from->pid);
        tcc_json_u64(daemon, "start_realtime_ns", from->start_ns);
        tcc_json_u64(daemon, "draining", from->draining);
        tcc_json_u64(daemon, "clients", from->clients);
        tcc_json_u64(daemon, "plans", from->plans);
        tcc_json_u64(daemon, "memory_bytes", from->memory_bytes);
        tcc_json_u64(daemon, "clients_total", from->clients_total);
        tcc_json_u64(daemon, "clients_died", from->clients_died);
        tcc_json_u64(daemon, "clients_expelled", from->clients_expelled);
        tcc_json_u64(daemon, "refusals", from->refusals);
        tcc_json_u64(daemon, "mismatches", from->mismatches);
        tcc_json_u64(daemon, "timeouts", from->timeouts);
        tcc_json_u64(daemon, "executor_deaths", from->executor_deaths);
        tcc_json_u64(daemon, "reloads", from->reloads);
        tcc_json_u64(daemon, "reload_failures", from->reload_failures);
        tcc_json_u64(daemon, "reload_refused", from->reload_refused);
        tcc_json_u64(daemon, "reload_kept", from->reload_kept);
        tcc_json_text(daemon, "last_problem", from->last_problem);
        tcc_json_u64(daemon, "last_problem_realtime_ns", from->last_problem_ns);
        tcc_json_text(daemon, "environment", *from->environment ? from->environment : NULL);
        groups = tcc_json_object(document, "groups");
        for (int state = TCC_GROUP_CONFIGURED; state <= TCC_GROUP_BROKEN; state++)
            tcc_json_u64(groups, tcc_group_state_name((uint64_t)state), groups_in(snapshot, (tcc_group_state)state));
        devices = tcc_json_array(document, "devices");
        for (size_t i = 0; i < snapshot->device_count; i++) {
            const struct tcw_stats_device *device = &snapshot->devices[i];
            cJSON *item = tcc_json_object(devices, NULL);

            tcc_json_u64(item, "device", device->device);
            tcc_json_text(item, "kind", tcc_device_kind_name(device->kind));
            tcc_json_u64(item, "executor_pid", device->pid);
            tcc_json_u64(item, "restarts", device->restarts);
            tcc_json_u64(item, "failed", device->failed);
            tcc_json_u64(item, "attachments", device->attachments);
            tcc_json_u64(item, "memory_bytes", device->memory_bytes);
            tcc_json_text(item, "note", device->note);
            tcc_gpu_json(item, device);
        }
        tcc_communicators_json(document, snapshot);
    }
    tcc_json_end(document, session->out.file, session->compact);
    return verdict_exit(verdict);
}

static void print_status(struct tcc_session *session, const struct tcc_snapshot *snapshot, const struct tcc_verdict *verdict)
{
    print_head(session, snapshot, verdict);
    print_problems(&session->out, verdict);
    fputc('\n', session->out.file);
    print_groups(session, snapshot);
    print_work(session, snapshot);
    print_clients(session, snapshot);
    print_devices(session, snapshot);
    tcc_gpus_print(session, snapshot);
    tcc_communicators_print(session, snapshot);
}

static tcc_exit status_run(struct tcc_session *session)
{
    struct tcc_snapshot snapshot;
    struct tcc_verdict verdict;
    tcc_exit code = tcc_session_snapshot(session, 0, &snapshot);

    if (code)
        return code;
    tcc_verdict_make(&snapshot, &verdict);
    code = verdict_exit(&verdict);
    if (session->json)
        print_json(session, &snapshot, &verdict);
    else
        print_status(session, &snapshot, &verdict);
    tcc_verdict_free(&verdict);
    tcc_snapshot_free(&snapshot);
    return code;
}

static tcc_exit health_run(struct tcc_session *session)
{
    struct tcc_snapshot snapshot;
    struct tcc_verdict verdict;
    tcc_exit code = tcc_session_snapshot(session, 0, &snapshot);

    if (code)
        return code;
    tcc_verdict_make(&snapshot, &verdict);
    code = verdict_exit(&verdict);
    if (session->json) {
        print_json(session, &snapshot, &verdict);
    } else {
        tcc_print(&session->out, verdict_style(&verdict), "%s", tcc_verdict_word(&snapshot, &verdict));
        if (verdict.degraded)
            fprintf(session->out.file, ": %s", verdict.problems[0].text);
        if (verdict.degraded > 1)
            fprintf(session->out.file, " (and %zu more: trtcollctl status)", verdict.degraded - 1);
        fputc('\n', session->out.file);
    }
    tcc_verdict_free(&verdict);
    tcc_snapshot_free(&snapshot);
    return code;
}

const struct tcc_command tcc_command_status = {
    .name = "status",
    .help = "what is wrong, then a summary",
    .details = "Lines with ! say what does not work now, lines with - what is worth knowing.\n"
               "Exits with 4 while anything does not work.",
    .run = status_run,
};

const struct tcc_command tcc_command_health = {
    .name = "health",
    .help = "one line for probes; the exit code says it too",
    .details = "Exits with 0 when everything works, 4 when something does not (the daemon itself included), 3 when there is\n"
               "neither a daemon nor the state of one.",
    .run = health_run,
};
