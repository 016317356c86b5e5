/*
 * A request to a rank's executor for a plan that is being made runnable, and that may be gone when the answer comes. The answer's callback
 * gets the call as its argument and ends it, which frees it.
 * Control process, loop thread. Belongs to the request it is the argument of; to whoever made it, where there was none.
 */
#ifndef TCD_CONTROL_PLAN_CALL_H
#define TCD_CONTROL_PLAN_CALL_H

#include "executor.h"
#include "plan.h"

struct tcd_plan_call;

/* `arg`: the plan. NULL: out of memory. One whose request cannot be made is free()'s. */
void *tcd_plan_call_create(void *arg, uint32_t rank);
/* Makes the call and its request to the rank's executor; one more answer is outstanding. 0, or a code with *error. */
int tcd_plan_call_send(struct tcd_plan *plan, uint32_t rank, const struct tcd_ex_message *message, const int *fds, unsigned fd_count,
                       tcd_executor_done done, struct tcw_error *error);
/* The plan a call was made for, if it still waits for the answer. Frees the call. */
struct tcd_plan *tcd_plan_call_end(struct tcd_plan_call *call, uint32_t *rank);
/* Ends the call of an answer of which only the code matters. The plan, when all have answered well; a bad answer fails it. Else NULL. */
struct tcd_plan *tcd_plan_call_last(struct tcd_plan_call *call, const struct tcd_ex_message *reply, int fd);

#endif
