#include "plan_multicast.h"

#include "plan_build.h"
#include "plan_call.h"
#include "workspace.h"

#include <unistd.h>

static void tell_all(struct tcd_plan *plan, uint32_t opcode, tcd_executor_done done)
{
    const struct tcd_workspace *workspace = plan->workspace;
    uint32_t i;

    for (i = 0; i < plan->instance->size; i++) {
        struct tcd_ex_message message = {
            .opcode = opcode, .client = plan->instance->members[i].client->id, .rank = i, .value = workspace->bytes};
        const int fds[2] = {workspace->multicast, workspace->fds[i]};
        struct tcw_error error;

        if (tcd_plan_call_send(plan, i, &message, fds, opcode - TCD_EX_MULTICAST, done, &error)) {
            tcd_plan_build_fail(plan, i, error.code, error.text);
            return;
        }
    }
}

static void on_bound(void *arg, const struct tcd_ex_message *reply, int fd)
{
    struct tcd_plan *plan = tcd_plan_call_last(arg, reply, fd);

    if (plan)
        tcd_plan_build_go_on(plan);
}

static void on_joined(void *arg, const struct tcd_ex_message *reply, int fd)
{
    struct tcd_plan *plan = tcd_plan_call_last(arg, reply, fd);

    if (plan)
        tell_all(plan, TCD_EX_MULTICAST_BIND, on_bound);
}

static void on_made(void *arg, const struct tcd_ex_message *reply, int fd)
{
    uint32_t rank;
    struct tcd_plan *plan = tcd_plan_call_end(arg, &rank);

    if (plan && !reply->code && fd >= 0) {
        plan->outstanding--;
        plan->workspace->multicast = fd;
        tell_all(plan, TCD_EX_MULTICAST_JOIN, on_joined);
        return;
    }
    if (fd >= 0)
        close(fd);
    if (plan)
        tcd_plan_build_fail(plan, rank, reply->code ? reply->code : TCW_EINTERNAL, reply->text);
}

void tcd_plan_multicast_make(struct tcd_plan *plan)
{
    struct tcd_ex_message message = {.opcode = TCD_EX_MULTICAST,
                                     .client = plan->instance->members[0].client->id,
                                     .nranks = plan->instance->size,
                                     .value = plan->workspace->bytes};
    struct tcw_error error;

    if (tcd_plan_call_send(plan, 0, &message, NULL, 0, on_made, &error))
        tcd_plan_build_fail(plan, 0, error.code, error.text);
}
