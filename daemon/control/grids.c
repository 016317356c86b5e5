#include "grids.h"

#include "device.h"

#include <stdio.h>
#include <string.h>

static uint32_t multiprocessors(const struct tcd_member *member, uint32_t lane)
{
    return lane == TCW_LANE_DIRECT && member->multiprocessors ? member->multiprocessors : member->device->facts.device.multiprocessors;
}

/* Where no workspace is needed, no kernels meet. */
static void tell(const struct tcd_member *member, struct tcd_choice *choice)
{
    size_t length = strlen(choice->reason);
    char who[64];

    if (choice->workspace_bytes)
        snprintf(choice->reason + length, sizeof(choice->reason) - length, "; grids for %u multiprocessors: %s%s has no more",
                 choice->decision.multiprocessors, choice->decision.lane == TCW_LANE_DIRECT ? "" : "the executor of ",
                 tcd_member_text(member, who, sizeof(who)));
}

void tcd_grids_agree(const struct tcd_instance *instance, struct tcd_choice *choice)
{
    const struct tcd_member *poorest = &instance->members[0];
    struct tcw_decision *decision = &choice->decision;
    uint32_t least, most, i;

    if (tcd_device_kind_of(poorest->device) != TCK_DEVICE_CUDA)
        return;
    least = most = multiprocessors(poorest, decision->lane);
    decision->compute = poorest->device->facts.device.compute;
    for (i = 1; i < instance->size; i++) {
        const struct tcd_member *member = &instance->members[i];
        uint32_t count = multiprocessors(member, decision->lane);

        if (count < least) {
            least = count;
            poorest = member;
        }
        if (count > most)
            most = count;
        if (member->device->facts.device.compute != decision->compute)
            decision->compute = 0;
    }
    decision->multiprocessors = least;
    if (least < most)
        tell(poorest, choice);
}
