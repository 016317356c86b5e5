/*
 * Alarms: any number of deadlines on one timer of the loop. An alarm stands inside its object and needs no closing, only tcd_alarm_stop
 * before the object is freed. Control process, loop thread. The clock belongs to the daemon.
 */
#ifndef TCD_CONTROL_ALARM_H
#define TCD_CONTROL_ALARM_H

#include "list.h"

#include <stdint.h>
#include <uv.h>

struct tcd_clock {
    uv_timer_t timer;
    struct tcd_link sorted; /* of struct tcd_alarm, soonest first */
};

struct tcd_alarm {
    struct tcd_link link;
    struct tcd_clock *clock; /* NULL: not set */
    uint64_t due_ms;
    void (*ring)(void *arg);
    void *arg;
};

void tcd_clock_open(struct tcd_clock *clock, uv_loop_t *loop);
void tcd_clock_close(struct tcd_clock *clock);

/* Rings once in `ms` milliseconds; setting a set alarm moves it. */
void tcd_alarm_set(struct tcd_alarm *alarm, struct tcd_clock *clock, uint64_t ms, void (*ring)(void *arg), void *arg);
void tcd_alarm_stop(struct tcd_alarm *alarm);

#endif
