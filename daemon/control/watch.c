#include "watch.h"

#include "attachment.h"
#include "daemon.h"
#include "instance_break.h"
#include "judge.h"
#include "notify.h"
#include "plan.h"
#include "publish.h"

#include <stdlib.h>

enum {
    QUICK_MS = 100,
    SLOW_MS = 1000,
    QUIET_TICKS = 10, /* a second without movement */
};
/* No answer for so long: the watchdog is not fed. More than executor.c waits before it kills a silent one, which is the better cure. */
static const uint64_t STALE_EXECUTOR_NS = 15000000000ull;

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
 * Kernels number the runs of each workspace. What a plan that is gone has left in records is compared with nothing, and so are graphs that
 * outlive it.
 */
static bool same_run(const void *context, const struct tcd_gpu_run *one, const struct tcd_gpu_run *other)
{
    return tcd_plans_share_workspace(context, one->plan_id, other->plan_id);
}

/* At all ranks at once, or what they remember has nothing in common: kernels run on. */
static void look_at_runs(struct tcd_instance *instance, struct tcd_evidence *evidence)
{
    const bool kernels = tcd_instance_kind(instance) == TCK_DEVICE_CUDA;
    uint32_t i;

    for (i = 0; i < instance->size; i++)
        evidence->gpu_runs[i] = kernels ? tcd_page_look_at_runs(&instance->members[i].page) : NULL;
    evidence->same_run = same_run;
    evidence->context = instance;
}

static bool judge_lane(struct tcd_instance *instance, struct tcd_evidence *evidence)
{
    struct tcw_error cause;
    uint32_t i;

    for (i = 0; i < instance->size; i++)
        evidence->ranks[i] = observed(&instance->members[i], evidence->lane);
    if (!tcd_judge(evidence, &cause))
        return false;
    tcd_instance_break(instance, &cause);
    return true;
}

static void judge(struct tcd_instance *instance)
{
    const struct tcd_evidence common = {.nranks = instance->size, .deadline_ns = instance->deadline_ns, .now_ns = tcw_now_ns()};
    struct tcd_evidence direct = common, served = common;

    direct.lane = TCW_LANE_DIRECT;
    served.lane = TCW_LANE_SERVED;
    look_at_runs(instance, &direct);
    if (!judge_lane(instance, &direct))
        judge_lane(instance, &served);
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
    uint64_t slow = watch->watchdog_ms && watch->watchdog_ms / 3 < SLOW_MS ? watch->watchdog_ms / 3 : SLOW_MS;

    if (watch->quick == quick)
        return;
    watch->quick = quick;
    uv_timer_start(&watch->timer, on_tick, quick ? QUICK_MS : slow, quick ? QUICK_MS : slow);
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
