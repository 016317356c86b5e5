/*
 * "Why does this plan run like this?": the chooser's decision for a descriptor, as JSON. Control process, loop thread.
 */
#ifndef TCD_CONTROL_EXPLAIN_H
#define TCD_CONTROL_EXPLAIN_H

#include <cJSON.h>
#include <tcw/message.h>

struct tcd_daemon;

/* Fills `answer`; 0, or a code with *error. */
int tcd_explain(struct tcd_daemon *daemon, const struct tcw_admin *question, cJSON *answer, struct tcw_error *error);

#endif
