/*
 * A line that says how far things are: redrawn in place on a terminal, a new line now and then elsewhere. Goes to stderr. One thread.
 */
#ifndef EXAMPLES_PROGRESS_H
#define EXAMPLES_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

struct progress {
    bool terminal;
    bool drawn;       /* terminal: a line stands there */
    const char *what; /* static text */
    uint32_t quarter; /* elsewhere: of this `what`, already told */
};

void progress_start(struct progress *progress);
void progress_show(struct progress *progress, const char *what, uint32_t done, uint32_t count);
/* Removes the line, before other output. */
void progress_clear(struct progress *progress);

#endif
