#include "device.h"

#include "attachment.h"
#include "communicator.h"
#include "daemon.h"
#include "instance.h"
#include "log.h"
#include "text.h"
#include "tuning.h"

#include <stdio.h>
#include <string.h>

/* A GPU has become known, or turned out to be unusable: groups that were complete but for that go on. */
static void settle(struct tcd_device *device)
{
    tcd_instances_device_settled(device);
    tcd_communicators_prepare(device->daemon);
}

static void on_died(void *arg, struct tcd_executor *executor, pid_t pid, int status)
{
    struct tcd_device *device = arg;

    (void)executor;
    device->incarnation++;
    device->daemon->counters.executor_deaths++;
    tcd_attachments_lost(device, pid, status);
    tcd_communicators_device_lost(device);
    if (tcd_executor_failed(device->executor))
        tcd_daemon_problem(device->daemon, "device %u: its executor dies too often, requests are refused for a while", device->number);
    settle(device);
}

static void on_report(void *arg, struct tcd_executor *executor, const struct tcd_ex_message *message)
{
    struct tcd_device *device = arg;

    (void)executor;
    if (message->communicator && message->opcode == TCD_EX_FAULT)
        tcd_communicator_fault(device, message);
    else if (!message->attachment && message->opcode == TCD_EX_FAULT)
        tcd_daemon_problem(device->daemon, "device %u, its executor: %.200s", device->number, message->text);
    else
        tcd_attachment_report(device->daemon, message);
}

/* It is tried again and again: only news are told. */
static void note_trouble(struct tcd_device *device, const char *text)
{
    if (!strcmp(device->told, text))
        return;
    tcw_text_set(device->told, sizeof(device->told), text);
    tcd_daemon_problem(device->daemon, "device %u cannot be used: %.200s", device->number, text);
}

/* The first communicator will be the quicker for it. */
static void prepare_library(struct tcd_device *device)
{
    const struct tcd_ex_message message = {.opcode = TCD_EX_LIBRARY};

    if (device->facts.library && device->daemon->config->options.prepare_communicators)
        tcd_device_tell(device, &message);
}

static void tell_found(const struct tcd_device *device, const struct tcd_ex_facts *facts)
{
    char library[128];

    if (facts->library)
        snprintf(library, sizeof(library), "NCCL %u.%u.%u", facts->library / 10000, facts->library / 100 % 100, facts->library % 100);
    else
        snprintf(library, sizeof(library), "no NCCL (%.95s)", facts->library_why);
    tcd_log(TCD_NOTICE, "device %u: %.63s, %llu MiB, SM %u.%u, driver %u.%u, %s%s", device->number, facts->device.name,
            (unsigned long long)(facts->device.memory_bytes >> 20), facts->device.compute / 10, facts->device.compute % 10,
            facts->device.driver / 1000, facts->device.driver % 1000 / 10, library, facts->device.mps ? ", MPS" : "");
}

static void on_ready(void *arg, struct tcd_executor *executor, const struct tcd_ex_message *message)
{
    struct tcd_device *device = arg;
    const struct tcd_ex_facts *facts = &message->facts;

    (void)executor;
    if (device->kind != TCF_DEVICE_CUDA)
        return;
    if (message->code < 0) {
        device->incarnation++;
        note_trouble(device, *message->text ? message->text : tcw_error_text(message->code));
    } else {
        if (!device->known || memcmp(device->facts.device.uuid, facts->device.uuid, TCK_UUID_BYTES) != 0 ||
            device->facts.device.driver != facts->device.driver || device->facts.library != facts->library)
            tell_found(device, facts);
        device->facts = *facts;
        device->facts.device.name[sizeof(facts->device.name) - 1] = 0;
        device->facts.device.pci[sizeof(facts->device.pci) - 1] = 0;
        device->facts.device.fabric_why[sizeof(facts->device.fabric_why) - 1] = 0;
        device->facts.library_why[sizeof(facts->library_why) - 1] = 0;
        device->known = true;
        device->told[0] = 0;
        tcd_tuning_note_foreign(device->daemon);
        prepare_library(device);
    }
    settle(device);
}

/* GPUs are named by their uuid, else by their position among the node's: CUDA sees them in the same order. */
static void keep_executor(struct tcd_device *device, const struct tcf_device *wanted)
{
    char ordinal[16];

    snprintf(ordinal, sizeof(ordinal), "%u", device->ordinal);
    tcd_executor_keep(device->executor, *wanted->uuid ? wanted->uuid : ordinal, device->daemon->environment);
}

int tcd_devices_open(struct tcd_daemon *daemon)
{
    const struct tcf_node *node = &daemon->config->nodes[daemon->config->local_node];
    uint32_t i, gpus = 0;

    for (i = 0; i < node->device_count; i++) {
        struct tcd_device *device = &daemon->devices[i];
        struct tcd_executor_callbacks callbacks = {on_died, on_report, device, on_ready};
        int code;

        *device = (struct tcd_device){.daemon = daemon, .number = node->devices[i].number, .kind = node->devices[i].kind};
        daemon->device_count++;
        if (device->kind == TCF_DEVICE_CUDA)
            device->ordinal = gpus++;
        if (device->kind == TCF_DEVICE_CUDA && !tck_cuda_built()) {
            snprintf(device->note, sizeof(device->note), "cuda devices are not built in");
            tcd_log(TCD_WARNING, "device %u: cuda devices are not built in; groups on it are refused", device->number);
            continue;
        }
        code = tcd_executor_create(&daemon->loop, daemon->program, device->number, &callbacks, &device->executor);
        if (code)
            return code;
    }
    tcd_devices_configure(daemon);
    for (i = 0; i < daemon->device_count; i++)
        if (daemon->devices[i].executor && daemon->devices[i].kind == TCF_DEVICE_CUDA)
            keep_executor(&daemon->devices[i], &node->devices[i]);
    return 0;
}

void tcd_devices_configure(struct tcd_daemon *daemon)
{
    const struct tcf_options *options = &daemon->config->options;
    uint32_t i;

    for (i = 0; i < daemon->device_count; i++)
        if (daemon->devices[i].executor)
            tcd_executor_configure(daemon->devices[i].executor, (unsigned)options->executor_grace_s, (unsigned)options->executor_restarts);
    daemon->tuning_noted = false;
    tcd_tuning_note_foreign(daemon);
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

struct tcd_device *tcd_device_least(struct tcd_daemon *daemon, bool (*fits)(const void *arg, const struct tcd_device *device),
                                    const void *arg)
{
    struct tcd_device *least = NULL;
    struct tcw_error obstacle;
    uint32_t i;

    for (i = 0; i < daemon->device_count; i++) {
        struct tcd_device *device = &daemon->devices[i];
        if (!tcd_device_check(device, &obstacle) && (!fits || fits(arg, device)) && (!least || device->clients < least->clients))
            least = device;
    }
    return least;
}

int tcd_device_check(const struct tcd_device *device, struct tcw_error *error)
{
    const char *trouble;
    int code;

    if (!device->executor)
        return tcd_error_set(error, TCW_ENOTSUP, "device %u is a cuda device; those are not built in", device->number);
    trouble = tcd_executor_trouble(device->executor, &code);
    if (trouble)
        return tcd_error_set(error, code, "device %u cannot be used: %.200s", device->number, trouble);
    return 0;
}

bool tcd_device_known(const struct tcd_device *device)
{
    return device->kind != TCF_DEVICE_CUDA || device->known;
}

tck_device_kind tcd_device_kind_of(const struct tcd_device *device)
{
    return device->kind == TCF_DEVICE_CUDA ? TCK_DEVICE_CUDA : TCK_DEVICE_HOST;
}

bool tcd_device_maps(const struct tcd_device *from, const struct tcd_device *to)
{
    uint32_t i;

    if (from == to || from->kind != TCF_DEVICE_CUDA || !from->known || !to->known)
        return true;
    for (i = 0; i < from->facts.peer_count && i < TCD_EX_PEERS; i++)
        if (!memcmp(from->facts.peers[i].uuid, to->facts.device.uuid, TCK_UUID_BYTES))
            return from->facts.peers[i].mapped;
    return true;
}

const char *tcd_device_kind_name(tcf_device_kind kind)
{
    return kind == TCF_DEVICE_CUDA ? "cuda" : "host";
}

int tcd_device_request(struct tcd_device *device, const struct tcd_ex_message *message, const int *fds, unsigned fd_count,
                       tcd_executor_done done, void *arg, struct tcw_error *error)
{
    int code = device->executor ? tcd_executor_request(device->executor, message, fds, fd_count, done, arg) : TCW_EEXECUTOR;

    if (!code)
        return 0;
    if (tcd_device_check(device, error))
        return error->code;
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
