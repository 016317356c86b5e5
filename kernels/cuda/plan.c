#include "cuda/plan.h"

#include <tck/device.h>
#include <tcw/types.h>

#include <stdio.h>

int tck_cuda_plan_workspace(const struct tcw_plan_desc *desc, uint32_t nranks, uint64_t *bytes, struct tcw_complaint *complaint)
{
    (void)desc;
    (void)nranks;
    (void)bytes;
    if (complaint) {
        *complaint = (struct tcw_complaint){.field = "device", .mine = TCK_DEVICE_CUDA};
        snprintf(complaint->text, sizeof(complaint->text), "CUDA devices are not built in");
    }
    return TCW_ENOTSUP;
}
