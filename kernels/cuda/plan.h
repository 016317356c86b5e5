/*
 * What a plan needs on CUDA devices, and whether they can run it: see tck_plan_workspace. Pure, and built everywhere: the control process,
 * which never calls CUDA, asks it too.
 */
#ifndef TCK_CUDA_PLAN_H
#define TCK_CUDA_PLAN_H

#include <tcw/plan.h>

int tck_cuda_plan_workspace(const struct tcw_plan_desc *desc, uint32_t nranks, uint64_t *bytes, struct tcw_complaint *complaint);

#endif
