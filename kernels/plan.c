#include "cuda/plan.h"
#include "host/plan.h"

#include <tck/comm.h>

int tck_plan_workspace(tck_device_kind kind, const struct tcw_plan_desc *desc, uint32_t nranks, uint64_t *bytes,
                       struct tcw_complaint *complaint)
{
    if (kind == TCK_DEVICE_CUDA)
        return tck_cuda_plan_workspace(desc, nranks, bytes, complaint);
    return tck_host_plan_workspace(desc, nranks, bytes, complaint);
}
