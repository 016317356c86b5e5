/*
 * What tp_decode prints at the end: output, speed, and whether four ranks agree with one.
 */
#ifndef EXAMPLES_REPORT_H
#define EXAMPLES_REPORT_H

#include "compare.h"
#include "rank.h"

/* EXIT_SAME or EXIT_DIFFERENT. */
int report(const struct task *task, const struct shared *shared, const struct decode_result *reference, const struct bounds *bounds);

#endif
