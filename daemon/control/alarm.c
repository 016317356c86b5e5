#include "alarm.h"

static void clock_ring(uv_timer_t *timer);

static void clock_arm(struct tcd_clock *clock)
{
    struct tcd_alarm *first;
    uint64_t now;

    if (tcd_list_empty(&clock->sorted)) {
        uv_timer_stop(&clock->timer);
        return;
    }
    first = TCD_ENTRY(clock->sorted.next, struct tcd_alarm, link);
    now = uv_now(clock->timer.loop);
    uv_timer_start(&clock->timer, clock_ring, first->due_ms > now ? first->due_ms - now : 0, 0);
}

static void clock_ring(uv_timer_t *timer)
{
    struct tcd_clock *clock = timer->data;
    uint64_t now = uv_now(timer->loop);

    /* One at a time from the front: what rings may set and stop any other. */
    while (!tcd_list_empty(&clock->sorted)) {
        struct tcd_alarm *alarm = TCD_ENTRY(clock->sorted.next, struct tcd_alarm, link);

        if (alarm->due_ms > now)
            break;
        tcd_list_remove(&alarm->link);
        alarm->clock = NULL;
        alarm->ring(alarm->arg);
    }
    clock_arm(clock);
}

void tcd_clock_open(struct tcd_clock *clock, uv_loop_t *loop)
{
    tcd_list_init(&clock->sorted);
    uv_timer_init(loop, &clock->timer);
    clock->timer.data = clock;
}

void tcd_clock_close(struct tcd_clock *clock)
{
    uv_close((uv_handle_t *)&clock->timer, NULL);
}

void tcd_alarm_set(struct tcd_alarm *alarm, struct tcd_clock *clock, uint64_t ms, void (*ring)(void *arg), void *arg)
{
    struct tcd_link *at;

    tcd_alarm_stop(alarm);
    uv_update_time(clock->timer.loop);
    /* The loop counts whole milliseconds, so one more: no alarm is early, and one that sets itself again lets the loop turn. */
    alarm->due_ms = uv_now(clock->timer.loop) + ms + 1;
    alarm->ring = ring;
    alarm->arg = arg;
    alarm->clock = clock;
    for (at = clock->sorted.prev; at != &clock->sorted; at = at->prev)
        if (TCD_ENTRY(at, struct tcd_alarm, link)->due_ms <= alarm->due_ms)
            break;
    tcd_list_insert(at->next, &alarm->link);
    if (clock->sorted.next == &alarm->link)
        clock_arm(clock);
}

void tcd_alarm_stop(struct tcd_alarm *alarm)
{
    if (!alarm->clock)
        return;
    tcd_list_remove(&alarm->link);
    alarm->clock = NULL;
}
