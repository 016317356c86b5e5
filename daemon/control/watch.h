/*
 * The watch: the only timer of the control process. Ten times a second while somebody runs operations, once a second otherwise, it copies
 * the member pages into the stats, compares the ranks of a group, and ends groups whose members wait beyond their deadline for one that
 * does not come - the backstop for runners that cannot do so themselves. Stands inside the daemon. Loop thread.
 */
#ifndef TCD_CONTROL_WATCH_H
#define TCD_CONTROL_WATCH_H

#include "observe.h"

#include <stdbool.h>
#include <uv.h>

struct tcd_daemon;
struct tcd_instance;
struct tcd_member;

struct tcd_watch {
    struct tcd_daemon *daemon;
    uv_timer_t timer;
    bool quick;
    unsigned quiet_ticks; /* without anything moving */
    uint64_t watchdog_ms; /* 0: no watchdog */
    uint64_t watchdog_due_ms;
    struct tcd_totals *totals;
};

int tcd_watch_open(struct tcd_watch *watch, struct tcd_daemon *daemon);
void tcd_watch_close(struct tcd_watch *watch);

/* Something has begun: look often for a while. */
void tcd_watch_wake(struct tcd_watch *watch);
/* Copies the pages of one instance now: it has just been broken. */
void tcd_watch_instance(struct tcd_watch *watch, struct tcd_instance *instance);
/* Last look at the pages of a member that goes. */
void tcd_watch_member(struct tcd_watch *watch, struct tcd_member *member);

#endif
