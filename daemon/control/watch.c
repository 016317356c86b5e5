#include "watch.h"

#include "attachment.h"
#include "daemon.h"
#include "group.h"
#include "notify.h"
#include "publish.h"
#include "text.h"

#include <stdlib.h>
#include <string.h>

enum {
    QUICK_MS = 100,
    SLOW_MS = 1000,
    QUIET_TICKS = 10, /* a second without movement */
    STILL_LOOKS = 2,  /* so many equal looks make a page comparable */
};
static const uint64_t SLACK_NS = 300000000ull;            /* beyond a deadline: the runner itself is first */
static const uint64_t STALE_EXECUTOR_NS = 10000000000ull; /* no answer for so long: the watchdog is not fed */

/* ---- looking ---- */

static bool look_at_page(struct tcd_watch *watch, struct tcd_member *member, struct tcd_page *page, unsigned lane)
{
    bool moved = false;

    if (tcd_page_observe(page, lane, watch->totals, &moved) && moved)
        tcd_publish_records(member, page, lane);
    return moved;
}

static bool look_at_member(struct tcd_watch *watch, struct tcd_member *member)
{
    bool moved;

    if (!member->client)
        return false;
    moved = look_at_page(watch, member, &member->page, TCW_LANE_DIRECT);
    if (member->attachment)
        moved |= look_at_page(watch, member, &member->attachment->page, TCW_LANE_SERVED);
    return moved;
}

static bool look_at_instance(struct tcd_watch *watch, struct tcd_instance *instance)
{
    bool moved = false;
    uint32_t i;

    for (i = 0; i < instance->size; i++)
        moved |= look_at_member(watch, &instance->members[i]);
    return moved;
}

/* ---- judging ---- */

static const struct tcd_observed *observed(const struct tcd_member *member, unsigned lane)
{
    if (lane == TCW_LANE_DIRECT)
        return tcd_page_observed(&member->page);
    return member->attachment ? tcd_page_observed(&member->attachment->page) : NULL;
}

/*
 * Two ranks that rest at the same run must have got there the same way. Only pages that were equal in several looks are compared: the words
 * of a moving page belong to different moments.
 */
static bool judge_history(struct tcd_instance *instance, unsigned lane)
{
    const struct tcd_observed *first = NULL;
    uint32_t first_rank = 0, i;
    struct tcw_error cause;

    for (i = 0; i < instance->size; i++) {
        const struct tcd_observed *now = observed(&instance->members[i], lane);

        if (!now || now->still < STILL_LOOKS || !now->started)
            continue;
        if (!first) {
            first = now;
            first_rank = i;
            continue;
        }
        if (now->started != first->started || now->hash == first->hash)
            continue;
        tcd_error_set(&cause, TCW_EMISMATCH, "after %llu %s runs, rank %u has not run the same plans with the same token counts as rank %u",
                      (unsigned long long)now->started, tcw_lane_name(lane), i, first_rank);
        tcw_text_set(cause.field, sizeof(cause.field), "history");
        cause.rank = i;
        cause.mine = first->hash;
        cause.theirs = now->hash;
        cause.step = now->finished;
        tcd_instance_break(instance, &cause);
        return true;
    }
    return false;
}

/* A rank that waits for one that has not even begun the run, longer than the deadline: its own clock should have ended that. */
static bool judge_waiting(struct tcd_instance *instance, unsigned lane, uint64_t now_ns)
{
    struct tcw_error cause;
    char who[64];
    uint32_t i, j;

    for (i = 0; i < instance->size; i++) {
        const struct tcd_observed *waiter = observed(&instance->members[i], lane);

        if (!waiter || !waiter->missing || waiter->still < STILL_LOOKS ||
            (waiter->state != TCW_MEMBER_WAITING && waiter->state != TCW_MEMBER_RUNNING) || waiter->since_ns > now_ns ||
            now_ns - waiter->since_ns <= instance->deadline_ns + SLACK_NS)
            continue;
        for (j = 0; j < instance->size; j++) {
            const struct tcd_observed *late = observed(&instance->members[j], lane);

            if (j == i || !(waiter->missing >> j & 1) || (late && late->started >= waiter->started))
                continue;
            tcd_error_set(&cause, TCW_ETIMEOUT, "rank %u has waited %llu ms for %s, whose last finished run is %llu", i,
                          (unsigned long long)((now_ns - waiter->since_ns) / 1000000),
                          tcd_member_text(&instance->members[j], who, sizeof(who)), (unsigned long long)(late ? late->finished : 0));
            cause.rank = j;
            cause.step = late ? late->finished : 0;
            tcd_instance_break(instance, &cause);
            return true;
        }
    }
    return false;
}

static void judge(struct tcd_instance *instance)
{
    uint64_t now_ns = tcw_now_ns();
    unsigned lane;

    for (lane = TCW_LANE_DIRECT; lane <= TCW_LANE_SERVED; lane++) {
        if (judge_history(instance, lane))
            return;
        if (instance->deadline_ns && judge_waiting(instance, lane, now_ns))
            return;
    }
}

/* ---- the timer ---- */

static bool executors_fresh(const struct tcd_daemon *daemon)
{
    uint64_t now = tcw_now_ns();
    uint32_t i;

    for (i = 0; i < daemon->device_count; i++) {
        const struct tcd_executor *executor = daemon->devices[i].executor;
        uint64_t beat = executor && tcd_executor_pid(executor) ? tcd_executor_heartbeat_ns(executor) : 0;
        if (beat && now - beat > STALE_EXECUTOR_NS)
            return false;
    }
    return true;
}

static void feed_watchdog(struct tcd_watch *watch)
{
    uint64_t now = uv_now(&watch->daemon->loop);

    if (!watch->watchdog_ms || now < watch->watchdog_due_ms || !executors_fresh(watch->daemon))
        return;
    watch->watchdog_due_ms = now + watch->watchdog_ms / 3;
    tcd_notify_watchdog();
}

static void on_tick(uv_timer_t *timer);

static void set_pace(struct tcd_watch *watch, bool quick)
{
    if (watch->quick == quick)
        return;
    watch->quick = quick;
    uv_timer_start(&watch->timer, on_tick, quick ? QUICK_MS : SLOW_MS, quick ? QUICK_MS : SLOW_MS);
}

static void on_tick(uv_timer_t *timer)
{
    struct tcd_watch *watch = timer->data;
    struct tcd_daemon *daemon = watch->daemon;
    bool moved = false;
    uint32_t i;

    for (i = 0; i < daemon->instances.capacity; i++) {
        struct tcd_instance *instance = tcd_handle_at(&daemon->instances, i);

        if (!instance)
            continue;
        moved |= look_at_instance(watch, instance);
        if (instance->state == TCD_READY)
            judge(instance);
    }
    tcd_publish_latency(daemon, watch->totals);
    tcd_publish_all(daemon);
    tcd_daemon_show_state(daemon);
    feed_watchdog(watch);
    watch->quiet_ticks = moved ? 0 : watch->quiet_ticks + 1;
    set_pace(watch, watch->quiet_ticks < QUIET_TICKS);
}

int tcd_watch_open(struct tcd_watch *watch, struct tcd_daemon *daemon)
{
    watch->daemon = daemon;
    watch->totals = calloc(1, sizeof(*watch->totals));
    if (!watch->totals || uv_timer_init(&daemon->loop, &watch->timer))
        return TCW_ENOMEM;
    watch->timer.data = watch;
    watch->watchdog_ms = tcd_notify_watchdog_ms();
    watch->quick = true;
    set_pace(watch, false);
    tcd_publish_all(daemon);
    return 0;
}

void tcd_watch_close(struct tcd_watch *watch)
{
    if (watch->timer.data)
        uv_close((uv_handle_t *)&watch->timer, NULL);
    free(watch->totals);
    watch->totals = NULL;
}

void tcd_watch_wake(struct tcd_watch *watch)
{
    watch->quiet_ticks = 0;
    set_pace(watch, true);
}

void tcd_watch_instance(struct tcd_watch *watch, struct tcd_instance *instance)
{
    uint32_t i;

    look_at_instance(watch, instance);
    tcd_publish_instance(instance);
    for (i = 0; i < instance->size; i++)
        tcd_publish_member(&instance->members[i]);
    tcd_watch_wake(watch);
}

void tcd_watch_member(struct tcd_watch *watch, struct tcd_member *member)
{
    if (watch->totals)
        look_at_member(watch, member);
}
