#include "verdict.h"

#include "json.h"
#include "table.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

__attribute__((format(printf, 4, 5))) static struct tcc_problem *add(struct tcc_verdict *verdict, tcc_severity severity, const char *kind,
                                                                     const char *format, ...)
{
    struct tcc_problem *problem;
    va_list args;

    verdict->problems = tcc_must(realloc(verdict->problems, (verdict->count + 1) * sizeof *verdict->problems));
    problem = &verdict->problems[verdict->count++];
    *problem = (struct tcc_problem){
        .severity = severity, .kind = kind, .epoch = TCC_ABSENT, .rank = TCC_ABSENT, .wait_ns = TCC_ABSENT, .step = TCC_ABSENT};
    va_start(args, format);
    vsnprintf(problem->text, sizeof problem->text, format, args);
    va_end(args);
    verdict->degraded += severity == TCC_DEGRADED;
    return problem;
}

static void set_group(struct tcc_problem *problem, const struct tcw_stats_group *group)
{
    problem->group = group->name;
    problem->epoch = group->epoch;
}

static void judge_daemon(const struct tcc_snapshot *snapshot, struct tcc_verdict *verdict)
{
    static const char *const kinds[] = {"", "daemon-stuck", "daemon-stopped", "daemon-gone"};
    char text[256];

    if (tcc_snapshot_caution(snapshot, text, sizeof text))
        add(verdict, TCC_DEGRADED, kinds[snapshot->life], "%s", text);
    if (snapshot->about.replaced)
        add(verdict, TCC_NOTICE, "daemon-replaced", "a new daemon has just taken over; this is the state of the one before");
    if (tcc_or_zero(snapshot->daemon.draining) && snapshot->life != TCC_LIFE_GONE)
        add(verdict, TCC_DEGRADED, "draining", "%s",
            snapshot->daemon.draining == 2 ? "stopping: no new clients are let in, and the daemon ends when the last one has left"
                                           : "draining: no new clients are let in (trtcollctl undrain)");
}

static void judge_devices(const struct tcc_snapshot *snapshot, struct tcc_verdict *verdict)
{
    for (size_t i = 0; i < snapshot->device_count; i++) {
        const struct tcw_stats_device *device = &snapshot->devices[i];
        unsigned long long number = device->device;

        if (tcc_or_zero(device->failed))
            add(verdict, TCC_DEGRADED, "device-failed", "device %llu (%s) has failed after %llu executor restarts%s%s", number,
                tcc_device_kind_name(device->kind), (unsigned long long)tcc_or_zero(device->restarts), *device->note ? ": " : "",
                device->note);
        else if (*device->note)
            add(verdict, TCC_NOTICE, "device-unusable", "device %llu (%s) cannot be used: %s", number, tcc_device_kind_name(device->kind),
                *device->problem ? device->problem : device->note);
        else if (tcc_or_zero(device->restarts))
            add(verdict, TCC_NOTICE, "executor-restarted", "the executor of device %llu died and was started again %s", number,
                tcc_times(device->restarts).s);
    }
}

/* A broken instance whose members have already formed the next one is history. */
static bool superseded(const struct tcc_snapshot *snapshot, const struct tcw_stats_group *group)
{
    for (size_t i = 0; i < snapshot->group_count; i++) {
        const struct tcw_stats_group *other = &snapshot->groups[i];

        if (other->state == TCC_GROUP_READY && other->epoch > group->epoch && strcmp(other->name, group->name) == 0)
            return true;
    }
    return false;
}

static void judge_broken(const struct tcc_snapshot *snapshot, const struct tcw_stats_group *group, struct tcc_verdict *verdict)
{
    const char *code = tcc_or_zero(group->code) ? tcw_error_name(-(int)group->code) : NULL;
    const char *why = *group->problem ? group->problem : code ? tcw_error_text(-(int)group->code) : "for an unknown reason";
    bool past = superseded(snapshot, group);
    bool blames = group->culprit < TCW_MAX_RANKS;
    char culprit[32] = "";
    struct tcc_problem *problem;

    snprintf(culprit, sizeof culprit, "rank %llu", (unsigned long long)group->culprit);
    if (!blames || strstr(why, culprit)) /* no need to say it twice */
        culprit[0] = 0;
    problem = add(verdict, past ? TCC_NOTICE : TCC_DEGRADED, "group-broken", "group %s (epoch %s) %s: %s%s%s%s%s%s", group->name,
                  tcc_number(group->epoch).s, past ? "was broken and has formed again" : "is broken", culprit, *culprit ? ": " : "", why,
                  code ? " (" : "", code ? code : "", code ? ")" : "");
    set_group(problem, group);
    problem->rank = blames ? group->culprit : TCC_ABSENT;
}

static uint64_t absent_ranks(const struct tcc_snapshot *snapshot, const struct tcw_stats_group *group)
{
    uint64_t absent = group->size < 64 ? (1ull << group->size) - 1 : UINT64_MAX;
    size_t count;
    const struct tcw_stats_member *members = tcc_snapshot_members(snapshot, group->group, &count);

    for (size_t i = 0; i < count; i++) {
        if (members[i].rank < 64 && members[i].client)
            absent &= ~(1ull << members[i].rank);
    }
    return absent;
}

static void judge_forming(const struct tcc_snapshot *snapshot, const struct tcw_stats_group *group, struct tcc_verdict *verdict)
{
    uint64_t absent = absent_ranks(snapshot, group);

    set_group(add(verdict, TCC_NOTICE, "group-forming", "group %s is forming: %s of %s ranks have joined%s%s", group->name,
                  tcc_number(group->joined).s, tcc_number(group->size).s, absent ? ", not yet " : "", absent ? tcc_ranks(absent).s : ""),
              group);
}

static void add_late(const struct tcc_snapshot *snapshot, const struct tcw_stats_group *group, tcw_lane lane, const struct tcc_wait *wait,
                     unsigned rank, struct tcc_verdict *verdict)
{
    const struct tcw_stats_member *member = tcc_snapshot_member(snapshot, group->group, rank);
    uint64_t age = tcc_snapshot_age(snapshot, wait->since_ns);
    bool several = wait->waiting & (wait->waiting - 1);
    struct tcc_problem *problem;
    char who[32] = "";

    if (member && member->pid != TCC_ABSENT)
        snprintf(who, sizeof who, " (pid %llu)", (unsigned long long)member->pid);
    problem =
        add(verdict, TCC_DEGRADED, "rank-late", "rank %u%s of group %s is late by %s at step %llu, %s lane: rank%s %s wait%s (deadline %s)",
            rank, who, group->name, tcc_ns(age).s, (unsigned long long)wait->step, tcw_lane_name(lane), several ? "s" : "",
            tcc_ranks(wait->waiting).s, several ? "" : "s", group->deadline_ns ? tcc_ns(group->deadline_ns).s : "none");
    set_group(problem, group);
    problem->rank = rank;
    problem->wait_ns = age;
    problem->step = wait->step;
}

static void judge_late(const struct tcc_snapshot *snapshot, const struct tcw_stats_group *group, struct tcc_verdict *verdict)
{
    for (int lane = TCW_LANE_DIRECT; lane <= TCW_LANE_SERVED; lane++) {
        struct tcc_wait wait = tcc_group_wait(snapshot, group, (tcw_lane)lane);
        uint64_t age = wait.missing ? tcc_snapshot_age(snapshot, wait.since_ns) : 0;

        if (age < TCC_LATE_NS)
            continue;
        if (wait.mutual) {
            struct tcc_problem *problem = add(verdict, TCC_DEGRADED, "ranks-stuck",
                                              "ranks %s of group %s have waited for each other for %s at step %llu, %s lane (deadline %s)",
                                              tcc_ranks(wait.waiting).s, group->name, tcc_ns(age).s, (unsigned long long)wait.step,
                                              tcw_lane_name((unsigned)lane), group->deadline_ns ? tcc_ns(group->deadline_ns).s : "none");
            set_group(problem, group);
            problem->wait_ns = age;
            problem->step = wait.step;
            continue;
        }
        for (unsigned rank = 0; rank < 64; rank++) {
            if (wait.missing >> rank & 1)
                add_late(snapshot, group, (tcw_lane)lane, &wait, rank, verdict);
        }
    }
}

static void judge_groups(const struct tcc_snapshot *snapshot, struct tcc_verdict *verdict)
{
    for (size_t i = 0; i < snapshot->group_count; i++) {
        const struct tcw_stats_group *group = &snapshot->groups[i];

        if (group->state == TCC_GROUP_BROKEN)
            judge_broken(snapshot, group, verdict);
        else if (group->state == TCC_GROUP_FORMING)
            judge_forming(snapshot, group, verdict);
        else if (group->state == TCC_GROUP_READY)
            judge_late(snapshot, group, verdict);
    }
}

/* A group that is broken says why itself. */
static bool told_by_group(const struct tcc_snapshot *snapshot, const char *problem)
{
    for (size_t i = 0; i < snapshot->group_count; i++) {
        const struct tcw_stats_group *group = &snapshot->groups[i];

        if (group->state == TCC_GROUP_BROKEN && *group->problem && strstr(problem, group->problem))
            return true;
    }
    return false;
}

static void judge_history(const struct tcc_snapshot *snapshot, struct tcc_verdict *verdict)
{
    const struct tcw_stats_daemon *daemon = &snapshot->daemon;

    if (tcc_or_zero(daemon->clients_expelled))
        add(verdict, TCC_NOTICE, "clients-expelled", "%s client%s expelled, for a protocol violation or by an operator",
            tcc_count(daemon->clients_expelled).s, daemon->clients_expelled == 1 ? " was" : "s were");
    if (tcc_or_zero(daemon->clients_died))
        add(verdict, TCC_NOTICE, "clients-died", "%s client%s died without a word", tcc_count(daemon->clients_died).s,
            daemon->clients_died == 1 ? "" : "s");
    if (tcc_or_zero(daemon->reload_refused))
        add(verdict, TCC_NOTICE, "reload-refused", "the changed configuration was refused (trtcollctl reload says why)");
    if (tcc_or_zero(daemon->reload_kept))
        add(verdict, TCC_NOTICE, "reload-kept", "%s change%s of the configuration %s not in effect (trtcollctl reload says which, and why)",
            tcc_count(daemon->reload_kept).s, daemon->reload_kept == 1 ? "" : "s", daemon->reload_kept == 1 ? "is" : "are");
    if (snapshot->about.dropped)
        add(verdict, TCC_NOTICE, "stats-full", "%s rows did not fit into the stats segment: lists are incomplete",
            tcc_count(snapshot->about.dropped).s);
    if (verdict->count && *daemon->last_problem && !told_by_group(snapshot, daemon->last_problem))
        add(verdict, TCC_NOTICE, "last-problem", "the latest problem, at %s: %s", tcc_time(daemon->last_problem_ns).s,
            daemon->last_problem);
}

/* What does not work first, otherwise in the order found. */
static void order(struct tcc_verdict *verdict)
{
    struct tcc_problem *sorted = tcc_must(calloc(verdict->count + 1, sizeof *sorted));
    size_t used = 0;

    for (int severity = TCC_DEGRADED; severity <= TCC_NOTICE; severity++) {
        for (size_t i = 0; i < verdict->count; i++) {
            if ((int)verdict->problems[i].severity == severity)
                sorted[used++] = verdict->problems[i];
        }
    }
    free(verdict->problems);
    verdict->problems = sorted;
}

void tcc_verdict_make(const struct tcc_snapshot *snapshot, struct tcc_verdict *verdict)
{
    *verdict = (struct tcc_verdict){0};
    judge_daemon(snapshot, verdict);
    judge_devices(snapshot, verdict);
    judge_groups(snapshot, verdict);
    judge_history(snapshot, verdict);
    order(verdict);
}

void tcc_verdict_free(struct tcc_verdict *verdict)
{
    free(verdict->problems);
    *verdict = (struct tcc_verdict){0};
}

const char *tcc_verdict_word(const struct tcc_snapshot *snapshot, const struct tcc_verdict *verdict)
{
    if (snapshot->life != TCC_LIFE_OK)
        return tcc_life_name(snapshot->life);
    return verdict->degraded ? "degraded" : "healthy";
}

void tcc_verdict_json(const struct tcc_verdict *verdict, cJSON *parent)
{
    cJSON *problems = tcc_json_array(parent, "problems");

    for (size_t i = 0; i < verdict->count; i++) {
        const struct tcc_problem *problem = &verdict->problems[i];
        cJSON *item = tcc_json_object(problems, NULL);

        tcc_json_text(item, "severity", problem->severity == TCC_DEGRADED ? "degraded" : "notice");
        tcc_json_text(item, "kind", problem->kind);
        tcc_json_text(item, "text", problem->text);
        tcc_json_text(item, "group", problem->group);
        tcc_json_u64(item, "epoch", problem->epoch);
        tcc_json_u64(item, "rank", problem->rank);
        tcc_json_u64(item, "wait_ns", problem->wait_ns);
        tcc_json_u64(item, "step", problem->step);
    }
}
