#include "reclaim.h"

#include "device.h"
#include "log.h"

#include <stdlib.h>
#include <unistd.h>

struct reclaim {
    struct tcd_device *device; /* these stay as long as the daemon */
    struct tcd_account *account;
    uint64_t bytes;
    void (*done)(void *arg);
    void *arg;
};

static void finish(const struct reclaim *reclaim)
{
    reclaim->device->memory_bytes -= reclaim->bytes;
    tcd_charge_end(reclaim->account, reclaim->bytes);
    if (reclaim->done)
        reclaim->done(reclaim->arg);
}

static void on_reclaimed(void *arg, const struct tcd_ex_message *answer, int fd)
{
    struct reclaim *reclaim = arg;

    if (fd >= 0)
        close(fd);
    if (answer->code && answer->code != TCW_EEXECUTOR)
        tcd_log(TCD_WARNING, "device %u: pages of memory cannot be taken back: %s", reclaim->device->number, tcw_error_text(answer->code));
    finish(reclaim);
    free(reclaim);
}

void tcd_reclaim(struct tcd_device *device, struct tcd_account *account, int fd, uint64_t bytes, unsigned delay_ms, void (*done)(void *arg),
                 void *arg)
{
    const struct reclaim order = {device, account, bytes, done, arg};
    struct tcd_ex_message message = {.opcode = TCD_EX_RECLAIM, .value = bytes, .deadline_ns = delay_ms * 1000000ull};
    struct reclaim *reclaim;
    struct tcw_error error;

    if (device->kind == TCF_DEVICE_CUDA) {
        /* Pages of a GPU cannot be taken from under a mapping: they go when the last one goes. */
        finish(&order);
        close(fd);
        return;
    }
    reclaim = malloc(sizeof(*reclaim));
    if (reclaim)
        *reclaim = order;
    if (!reclaim || tcd_device_request(device, &message, &fd, 1, on_reclaimed, reclaim, &error)) {
        /* There is no executor, or no memory to ask it. The pages go when the last mapping goes. */
        free(reclaim);
        finish(&order);
    }
    close(fd);
}
