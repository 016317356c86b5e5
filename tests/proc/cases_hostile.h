/* What every hostile test has beside it: an innocent group that works throughout, in both lanes. */
#ifndef PROC_CASES_HOSTILE_H
#define PROC_CASES_HOSTILE_H

#include "cases.h"
#include "raw.h"

struct attack {
    const char *name;
    proc_body body; /* one process */
};

/*
 * Starts a daemon and the innocent group, runs the attacks one after the other, each in a process of its own, and after each one wants
 * the daemon alive and two more rounds of the innocents. In the end all must be given back.
 */
void hostile_run(const struct proc_settings *settings, const struct attack *attacks, size_t count);

#endif
