/* What a plan needs on host devices, and whether they can run it: see tck_plan_workspace. Pure. */
#ifndef TCK_HOST_PLAN_H
#define TCK_HOST_PLAN_H

#include <tcw/plan.h>

int tck_host_plan_workspace(const struct tcw_plan_desc *desc, uint32_t nranks, uint64_t *bytes, struct tcw_complaint *complaint);

#endif
