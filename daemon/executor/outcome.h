/*
 * Outcomes: what becomes of requests. Completions go to the client over its ring; failures of a group and broken rules go to the control
 * process, each once, in letters that were made beforehand.
 *
 * Lives in an executor process; called by the worker of the attachment alone.
 */
#ifndef TCD_EXECUTOR_OUTCOME_H
#define TCD_EXECUTOR_OUTCOME_H

#include <stdint.h>

struct tcd_ex_attachment;

/* Publishes one completion and wakes the client if it sleeps. A ring without room is a violation. */
void tcd_ex_complete(struct tcd_ex_attachment *attachment, uint64_t user_data, int result, uint32_t culprit, uint64_t start_ns,
                     uint64_t end_ns);
/* The group is over for this rank: later requests get `code`, and the control process ends it for the others. */
void tcd_ex_fail(struct tcd_ex_attachment *attachment, int code, uint32_t rank, uint64_t step, const char *text);
/* The client broke the protocol of the ring, which is not touched again. */
void tcd_ex_violate(struct tcd_ex_attachment *attachment, const char *why);

#endif
