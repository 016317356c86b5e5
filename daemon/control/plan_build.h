/*
 * Making an agreed plan runnable: choose, get workspaces, tell executors, answer everybody. One plan of an instance at a time, in order,
 * because later ones may need the workspace that an earlier one makes. Control process, loop thread; owns nothing.
 */
#ifndef TCD_CONTROL_PLAN_BUILD_H
#define TCD_CONTROL_PLAN_BUILD_H

#include "plan.h"

/* Starts the next QUEUED plan unless one is BUILDING. */
void tcd_plan_build_next(struct tcd_instance *instance);
/* BUILDING, and all memory that it needs is there: what is left to do. */
void tcd_plan_build_go_on(struct tcd_plan *plan);
/* BUILDING: it fails because of a rank's device, and the next one is started. May free the plan. */
void tcd_plan_build_fail(struct tcd_plan *plan, uint32_t rank, int code, const char *text);
/* The plan has failed: lets go of what was made for it. */
void tcd_plan_build_undo(struct tcd_plan *plan);
/* A rank has released the plan: its executor forgets it. */
void tcd_plan_build_drop(const struct tcd_plan *plan, const struct tcd_member *member);

#endif
