#include "plan_call.h"

#include "daemon.h"
#include "plan_build.h"
#include "text.h"

#include <stdlib.h>
#include <unistd.h>

struct tcd_plan_call {
    struct tcd_daemon *daemon;
    uint64_t plan;
    uint32_t rank;
};

void *tcd_plan_call_create(void *arg, uint32_t rank)
{
    const struct tcd_plan *plan = arg;
    struct tcd_plan_call *call = calloc(1, sizeof(*call));

    if (call)
        *call = (struct tcd_plan_call){plan->instance->daemon, plan->handle, rank};
    return call;
}

int tcd_plan_call_send(struct tcd_plan *plan, uint32_t rank, const struct tcd_ex_message *message, const int *fds, unsigned fd_count,
                       tcd_executor_done done, struct tcw_error *error)
{
    struct tcd_plan_call *call = tcd_plan_call_create(plan, rank);

    if (!call)
        return tcd_error_set(error, TCW_ENOMEM, "no memory for a request");
    if (tcd_device_request(plan->instance->members[rank].device, message, fds, fd_count, done, call, error)) {
        free(call);
        return error->code;
    }
    plan->outstanding++;
    return 0;
}

struct tcd_plan *tcd_plan_call_end(struct tcd_plan_call *call, uint32_t *rank)
{
    struct tcd_plan *plan = tcd_handle_get(&call->daemon->plans, call->plan);

    *rank = call->rank;
    free(call);
    return plan && plan->state == TCD_PLAN_BUILDING ? plan : NULL;
}

struct tcd_plan *tcd_plan_call_last(struct tcd_plan_call *call, const struct tcd_ex_message *reply, int fd)
{
    uint32_t rank;
    struct tcd_plan *plan = tcd_plan_call_end(call, &rank);

    if (fd >= 0)
        close(fd);
    if (!plan)
        return NULL;
    if (reply->code) {
        tcd_plan_build_fail(plan, rank, reply->code, reply->text);
        return NULL;
    }
    return --plan->outstanding ? NULL : plan;
}
