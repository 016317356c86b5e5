#include "device.h"

#include "attachment.h"
#include "daemon.h"
#include "log.h"
#include "text.h"

#include <stdio.h>
#include <string.h>

static void on_died(void *arg, struct tcd_executor *executor, pid_t pid, int status)
{
    struct tcd_device *device = arg;

    (void)executor;
    device->incarnation++;
    device->daemon->counters.executor_deaths++;
    tcd_attachments_lost(device, pid, status);
    if (tcd_executor_failed(device->executor))
        tcd_daemon_problem(device->daemon, "device %u: its executor dies too often, requests are refused for a while", device->number);
}

static void on_report(void *arg, struct tcd_executor *executor, const struct tcd_ex_message *message)
{
    struct tcd_device *device = arg;

    (void)executor;
    tcd_attachment_report(device->daemon, message);
}

int tcd_devices_open(struct tcd_daemon *daemon)
{
    const struct tcf_node *node = &daemon->config->nodes[daemon->config->local_node];
    uint32_t i;

    for (i = 0; i < node->device_count; i++) {
        struct tcd_device *device = &daemon->devices[i];
        struct tcd_executor_callbacks callbacks = {on_died, on_report, device};
        int code;

        *device = (struct tcd_device){.daemon = daemon, .number = node->devices[i].number, .kind = node->devices[i].kind};
        daemon->device_count++;
        if (device->kind != TCF_DEVICE_HOST) {
            snprintf(device->note, sizeof(device->note), "cuda devices are not built in");
            tcd_log(TCD_WARNING, "device %u: cuda devices are not built in; groups on it are refused", device->number);
            continue;
        }
        code = tcd_executor_create(&daemon->loop, daemon->program, device->number, &callbacks, &device->executor);
        if (code)
            return code;
    }
    tcd_devices_configure(daemon);
    return 0;
}

void tcd_devices_configure(struct tcd_daemon *daemon)
{
    const struct tcf_options *options = &daemon->config->options;
    uint32_t i;

    for (i = 0; i < daemon->device_count; i++)
        if (daemon->devices[i].executor)
            tcd_executor_configure(daemon->devices[i].executor, (unsigned)options->executor_grace_s, (unsigned)options->executor_restarts);
}

static void on_closed(void *arg)
{
    struct tcd_device *device = arg;

    device->executor = NULL;
}

void tcd_devices_close(struct tcd_daemon *daemon, unsigned grace_ms)
{
    uint32_t i;

    for (i = 0; i < daemon->device_count; i++)
        if (daemon->devices[i].executor)
            tcd_executor_destroy(daemon->devices[i].executor, grace_ms, on_closed, &daemon->devices[i]);
}

struct tcd_device *tcd_device_find(struct tcd_daemon *daemon, uint32_t number)
{
    uint32_t i;

    for (i = 0; i < daemon->device_count; i++)
        if (daemon->devices[i].number == number)
            return &daemon->devices[i];
    return NULL;
}

struct tcd_device *tcd_device_least(struct tcd_daemon *daemon)
{
    struct tcd_device *least = NULL;
    uint32_t i;

    for (i = 0; i < daemon->device_count; i++) {
        struct tcd_device *device = &daemon->devices[i];
        if (device->executor && (!least || device->clients < least->clients))
            least = device;
    }
    return least;
}

int tcd_device_check(const struct tcd_device *device, struct tcw_error *error)
{
    if (device->kind != TCF_DEVICE_HOST)
        return tcd_error_set(error, TCW_ENOTSUP, "device %u is a cuda device; those are not built in", device->number);
    return 0;
}

int tcd_device_request(struct tcd_device *device, const struct tcd_ex_message *message, const int *fds, unsigned fd_count,
                       tcd_executor_done done, void *arg, struct tcw_error *error)
{
    int code = device->executor ? tcd_executor_request(device->executor, message, fds, fd_count, done, arg) : TCW_EEXECUTOR;

    if (!code)
        return 0;
    if (device->executor && tcd_executor_failed(device->executor))
        return tcd_error_set(error, code, "the executor of device %u dies too often", device->number);
    return tcd_error_set(error, code, "the executor of device %u cannot be asked: %s", device->number, tcw_error_text(code));
}

void tcd_device_tell(struct tcd_device *device, const struct tcd_ex_message *message)
{
    int code = device->executor ? tcd_executor_request(device->executor, message, NULL, 0, NULL, NULL) : 0;

    if (code && code != TCW_EEXECUTOR)
        tcd_log(TCD_WARNING, "device %u: executor message %u is lost: %s", device->number, message->opcode, tcw_error_text(code));
}
