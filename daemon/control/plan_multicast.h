/*
 * The multicast object over a plan's workspaces: the first rank's executor makes it, then all join, then all bind their workspaces. The
 * object belongs to the workspace set.
 * Control process, loop thread; owns nothing.
 */
#ifndef TCD_CONTROL_PLAN_MULTICAST_H
#define TCD_CONTROL_PLAN_MULTICAST_H

#include "plan.h"

/* BUILDING, and its workspaces are there. Goes on with the plan when the object covers them all, or fails it. */
void tcd_plan_multicast_make(struct tcd_plan *plan);

#endif
