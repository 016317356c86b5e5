#include "instance_break.h"

#include "attachment.h"
#include "daemon.h"
#include "group.h"
#include "plan.h"
#include "text.h"

#include <stdio.h>

enum { GENTLE_POLL_MS = 2 };
static const uint64_t GENTLE_LIMIT_NS = 30000000000ull; /* for groups without a deadline */

/* The end for one member: its waits end, requests in its ring complete with the cause, and it is told why. */
static void tell(struct tcd_member *member)
{
    struct tcd_instance *instance = member->instance;
    const struct tcw_error *cause = &instance->cause;
    struct tcw_group_broken broken = {.group_id = instance->id, .error = *cause};
    struct tcw_abort_info info = {
        .code = cause->code, .rank = cause->rank, .pid = cause->pid, .signal = cause->signal, .step = cause->step};

    member->told = true;
    tcw_text_set(info.text, sizeof(info.text), cause->text);
    tcw_member_abort(member->page.map, &info);
    if (member->attachment)
        tcd_attachment_abort(member->attachment, &info);
    tcd_client_send(member->client, TCW_MSG_GROUP_BROKEN, 0, &broken, NULL, 0);
}

static void tell_everybody(struct tcd_instance *instance)
{
    uint32_t i;

    /* All abort words first: they release runs; the messages only explain. */
    for (i = 0; i < instance->size; i++)
        if (instance->members[i].client && !instance->members[i].told)
            tell(&instance->members[i]);
    tcd_alarm_stop(&instance->gentle);
}

static bool passed_floor(const struct tcd_member *member)
{
    const struct tcd_instance *instance = member->instance;
    uint64_t served = member->attachment ? tcd_page_finished(&member->attachment->page) : 0;

    return tcd_page_finished(&member->page) >= instance->floor_direct && served >= instance->floor_served;
}

static void on_gentle(void *arg)
{
    struct tcd_instance *instance = arg;
    bool late = tcw_now_ns() >= instance->gentle_until_ns, all = true;
    uint32_t i;

    for (i = 0; i < instance->size; i++) {
        struct tcd_member *member = &instance->members[i];
        if (!member->client || member->told)
            continue;
        if (late || passed_floor(member))
            tell(member);
        else
            all = false;
    }
    if (!all)
        tcd_alarm_set(&instance->gentle, &instance->daemon->clock, GENTLE_POLL_MS, on_gentle, instance);
}

static void count_cause(struct tcw_stats_daemon *counters, int code)
{
    if (code == TCW_ETIMEOUT)
        counters->timeouts++;
    else if (code == TCW_EMISMATCH)
        counters->mismatches++;
}

static void note_break(struct tcd_instance *instance, bool orderly)
{
    const struct tcw_error *cause = &instance->cause;
    tcd_level level = orderly ? TCD_INFO : TCD_WARNING;
    char text[TCW_TEXT_BYTES * 2];

    snprintf(text, sizeof(text), "group '%s' epoch %llu: %s%s, %s", instance->group->name, (unsigned long long)instance->epoch,
             orderly ? "ended" : "broken with ", orderly ? "" : tcw_error_name(cause->code), cause->text);
    if (!orderly)
        tcd_daemon_remember(instance->daemon, "%s", text);
    if (tcd_instance_allows_line(instance, cause->rank, level))
        tcd_log(level, "%s", text);
}

static void become_broken(struct tcd_instance *instance, const struct tcw_error *cause, bool orderly)
{
    struct tcd_daemon *daemon = instance->daemon;
    struct tcw_error *mine = &instance->cause;

    instance->state = TCD_BROKEN;
    if (instance->group->ready == instance)
        instance->group->ready = NULL;
    *mine = *cause;
    if (mine->rank < instance->size) {
        const struct tcd_member *culprit = &instance->members[mine->rank];
        if (!mine->pid && culprit->client)
            mine->pid = (int32_t)culprit->client->process.pid;
        if (!mine->step)
            mine->step = tcd_member_step(culprit);
    }
    count_cause(&daemon->counters, mine->code);
    note_break(instance, orderly);
    tcd_watch_instance(&daemon->watch, instance);
}

void tcd_instance_break(struct tcd_instance *instance, const struct tcw_error *cause)
{
    /* Ending gently, and now something worse has happened: nobody waits for the one that left any longer. */
    if (instance->state == TCD_BROKEN && instance->gentle.clock)
        tell_everybody(instance);
    if (instance->state != TCD_READY)
        return;
    become_broken(instance, cause, false);
    tell_everybody(instance);
    tcd_plans_fail(instance, &instance->cause);
}

void tcd_instance_break_gently(struct tcd_instance *instance, const struct tcw_error *cause, struct tcd_member *leaver)
{
    uint64_t patience = instance->deadline_ns ? instance->deadline_ns : GENTLE_LIMIT_NS;

    become_broken(instance, cause, true);
    leaver->told = true;
    instance->floor_direct = tcd_page_finished(&leaver->page);
    instance->floor_served = leaver->attachment ? tcd_page_finished(&leaver->attachment->page) : 0;
    instance->gentle_until_ns = tcw_now_ns() + patience;
    on_gentle(instance);
    tcd_plans_fail(instance, &instance->cause);
}

void tcd_member_depart_broken(struct tcd_member *member, bool orderly)
{
    struct tcd_instance *instance = member->instance;
    uint64_t direct = tcd_page_finished(&member->page);
    uint64_t served = member->attachment ? tcd_page_finished(&member->attachment->page) : 0;

    member->told = true;
    if (!instance->gentle.clock)
        return;
    if (!orderly) {
        tell_everybody(instance);
        return;
    }
    if (direct < instance->floor_direct)
        instance->floor_direct = direct;
    if (served < instance->floor_served)
        instance->floor_served = served;
    on_gentle(instance);
}
