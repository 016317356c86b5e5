/*
 * Re-reading the configuration: validate whole, compare, apply what may change, keep the rest and say why. An invalid file changes nothing.
 * Control process, loop thread. The report is the caller's to free.
 */
#ifndef TCD_CONTROL_RELOAD_H
#define TCD_CONTROL_RELOAD_H

#include <tcf/config.h>

struct tcd_daemon;

struct tcd_reload_change {
    char pointer[128];
    char from[512], to[512]; /* what is longer ends with "..." */
    const char *why;         /* it was refused: what it cannot change while, static; NULL: applied */
};

struct tcd_reload_report {
    int code; /* 0; TCW_EINVAL: the file is not valid; TCW_ENOMEM */
    struct tcf_issues issues;
    struct tcd_reload_change *changes;
    uint32_t count, capacity;
};

void tcd_reload(struct tcd_daemon *daemon, struct tcd_reload_report *report);
void tcd_reload_report_free(struct tcd_reload_report *report);

#endif
