#include "communicator.h"

#include "../shared/gate.h"
#include "daemon.h"
#include "instance.h"
#include "log.h"
#include "text.h"

#include <tcw/channel.h>
#include <tcw/member.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Without users and without a group of the configuration: members of run-time groups may choose any order of any devices. */
enum { MAX_IDLE = 4, MAX_COMMUNICATORS = 64 };

/* A request to an executor for a communicator that may be gone when the answer comes. */
struct call {
    struct tcd_daemon *daemon;
    uint64_t id;
    uint32_t rank;
};

static void begin_soon(struct tcd_daemon *daemon);

const char *tcd_communicator_text(const struct tcd_communicator *communicator, char *text, size_t bytes)
{
    size_t used = 0;
    uint32_t i;

    *text = 0;
    for (i = 0; i < communicator->size && used < bytes; i++) {
        const char *before = !i ? "" : i + 1 < communicator->size ? ", " : " and ";
        int wrote = snprintf(text + used, bytes - used, "%s%u", before, communicator->devices[i]->number);
        used += wrote > 0 ? (size_t)wrote : 0;
    }
    return text;
}

/* ---- the object ---- */

static void communicator_free(struct tcd_communicator *communicator)
{
    struct tcd_daemon *daemon = communicator->daemon;

    tcd_alarm_stop(&communicator->patience);
    if (communicator->row != TCD_NO_ROW)
        tcd_stats_clear(daemon->stats, TCW_STATS_TABLE_COMMUNICATOR, communicator->row);
    tcd_rows_give(&daemon->communicator_rows, communicator->row);
    tcd_handle_remove(&daemon->communicator_ids, communicator->id);
    tcd_list_remove(&communicator->link);
    if (communicator->order >= 0)
        close(communicator->order);
    free(communicator);
}

static struct tcd_communicator *communicator_new(struct tcd_daemon *daemon, struct tcd_device *const *devices, uint32_t size)
{
    struct tcd_communicator *communicator = calloc(1, sizeof(*communicator));

    if (!communicator)
        return NULL;
    communicator->daemon = daemon;
    communicator->size = size;
    memcpy(communicator->devices, devices, size * sizeof(*devices));
    tcd_list_init(&communicator->waits);
    tcd_list_append(&daemon->communicators, &communicator->link);
    communicator->id = tcd_handle_add(&daemon->communicator_ids, communicator);
    communicator->row = tcd_rows_take(&daemon->communicator_rows);
    communicator->order = tcw_memfd_create("trtcoll-order", sizeof(struct tcd_order_log), 1);
    if (communicator->id && communicator->order >= 0)
        return communicator;
    communicator_free(communicator);
    return NULL;
}

static struct tcd_communicator *find(struct tcd_daemon *daemon, struct tcd_device *const *devices, uint32_t size)
{
    struct tcd_link *at;

    TCD_EACH (at, &daemon->communicators) {
        struct tcd_communicator *communicator = TCD_ENTRY(at, struct tcd_communicator, link);
        if (communicator->state != TCD_COMM_ENDED && communicator->size == size &&
            !memcmp(communicator->devices, devices, size * sizeof(*devices)))
            return communicator;
    }
    return NULL;
}

/* ---- ending ---- */

/* Every executor that has heard of it and still runs forgets it; what runs there ends. */
static void drop_ranks(struct tcd_communicator *communicator)
{
    struct tcd_ex_message message = {
        .opcode = TCD_EX_COMM_DROP, .communicator = communicator->id, .value = communicator->id, .nranks = communicator->size};
    uint32_t i;

    for (i = 0; i < communicator->size; i++) {
        if (!(communicator->asked >> i & 1) || communicator->incarnations[i] != communicator->devices[i]->incarnation)
            continue;
        message.rank = i;
        tcd_device_tell(communicator->devices[i], &message);
    }
}

static void tell_waits(struct tcd_communicator *communicator, const struct tcw_error *error)
{
    while (!tcd_list_empty(&communicator->waits)) {
        struct tcd_communicator_wait *wait = TCD_ENTRY(communicator->waits.next, struct tcd_communicator_wait, link);

        tcd_communicator_wait_end(wait);
        wait->done(wait->arg, error);
    }
}

/* For good. May free it. */
static void end(struct tcd_communicator *communicator, const struct tcw_error *error)
{
    struct tcd_daemon *daemon = communicator->daemon;

    if (communicator->state == TCD_COMM_ENDED)
        return;
    if (daemon->making == communicator)
        daemon->making = NULL;
    communicator->state = TCD_COMM_ENDED;
    communicator->error = *error;
    tcd_alarm_stop(&communicator->patience);
    drop_ranks(communicator);
    communicator->users++; /* those who wait let go of it */
    tell_waits(communicator, error);
    tcd_communicator_put(communicator);
    begin_soon(daemon);
}

__attribute__((format(printf, 3, 4))) static void fail(struct tcd_communicator *communicator, int code, const char *format, ...)
{
    char devices[64], text[TCW_TEXT_BYTES];
    struct tcw_error error;
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    tcd_error_set(&error, code, "the communicator of devices %s: %.180s", tcd_communicator_text(communicator, devices, sizeof(devices)),
                  text);
    if (!communicator->daemon->ended)
        tcd_daemon_problem(communicator->daemon, "%s", error.text);
    end(communicator, &error);
}

static void on_late(void *arg)
{
    struct tcd_communicator *communicator = arg;
    uint64_t late = communicator->outstanding ? communicator->outstanding : 1;
    char ranks[128];

    fail(communicator, TCW_ETIMEOUT, "the executors of %s did not finish within %llu ms", tcd_ranks_text(late, ranks, sizeof(ranks)),
         (unsigned long long)((tcw_now_ns() - communicator->began_ns) / 1000000));
}

/* ---- making ---- */

static struct call *call_new(const struct tcd_communicator *communicator, uint32_t rank)
{
    struct call *call = malloc(sizeof(*call));

    if (call)
        *call = (struct call){communicator->daemon, communicator->id, rank};
    return call;
}

/* The communicator a call was made for, if it still waits for the answer; else NULL. After a refusal it has failed: NULL too. Frees all. */
static struct tcd_communicator *call_end(struct call *call, const struct tcd_ex_message *answer, int fd, uint32_t *rank)
{
    struct tcd_communicator *communicator = tcd_handle_get(&call->daemon->communicator_ids, call->id);

    *rank = call->rank;
    free(call);
    if (fd >= 0)
        close(fd);
    if (!communicator || communicator->state != TCD_COMM_MAKING)
        return NULL;
    communicator->outstanding &= ~(1ull << *rank);
    if (!answer->code)
        return communicator;
    fail(communicator, answer->code, "rank %u, device %u: %.160s", *rank, communicator->devices[*rank]->number,
         *answer->text ? answer->text : tcw_error_text(answer->code));
    return NULL;
}

/* `how`: what took how long on the rank that was the last. */
static void become_ready(struct tcd_communicator *communicator, const char *how)
{
    struct tcd_daemon *daemon = communicator->daemon;
    char devices[64];

    tcd_alarm_stop(&communicator->patience);
    communicator->state = TCD_COMM_READY;
    communicator->took_ns = tcw_now_ns() - communicator->began_ns;
    daemon->making = NULL;
    tcd_log(TCD_INFO, "the communicator of devices %s is ready after %llu ms%s%.200s%s",
            tcd_communicator_text(communicator, devices, sizeof(devices)), (unsigned long long)(communicator->took_ns / 1000000),
            *how ? " (" : "", how, *how ? ")" : "");
    tell_waits(communicator, NULL);
    begin_soon(daemon);
}

static void on_initialized(void *arg, const struct tcd_ex_message *answer, int fd)
{
    uint32_t rank;
    struct tcd_communicator *communicator = call_end(arg, answer, fd, &rank);

    if (communicator && answer->value > communicator->bytes)
        communicator->bytes = answer->value;
    if (communicator && !communicator->outstanding)
        become_ready(communicator, answer->text);
}

/* Asks the executor of a rank. False: it has failed. */
static bool ask(struct tcd_communicator *communicator, uint32_t rank, struct tcd_ex_message *message, const int *fd, unsigned fd_count,
                tcd_executor_done done)
{
    struct call *call = call_new(communicator, rank);
    struct tcw_error error;

    message->communicator = communicator->id;
    message->rank = rank;
    message->nranks = communicator->size;
    message->deadline_ns = communicator->daemon->config->options.communicator_ms * 1000000ull;
    if (!call)
        tcd_error_set(&error, TCW_ENOMEM, "no memory for a request");
    if (call && !tcd_device_request(communicator->devices[rank], message, fd, fd_count, done, call, &error)) {
        communicator->asked |= 1ull << rank;
        communicator->outstanding |= 1ull << rank;
        communicator->incarnations[rank] = communicator->devices[rank]->incarnation;
        return true;
    }
    free(call);
    fail(communicator, error.code, "rank %u: %.180s", rank, error.text);
    return false;
}

static void on_unique_id(void *arg, const struct tcd_ex_message *answer, int fd)
{
    struct tcd_ex_message message = {.opcode = TCD_EX_COMM};
    struct tcd_communicator *communicator;
    uint32_t rank;

    communicator = call_end(arg, answer, fd, &rank);
    if (!communicator)
        return;
    memcpy(message.blob, answer->blob, sizeof(message.blob));
    for (rank = 0; rank < communicator->size; rank++)
        if (!ask(communicator, rank, &message, &communicator->order, 1, on_initialized))
            return;
}

static void begin(struct tcd_communicator *communicator)
{
    struct tcd_ex_message message = {.opcode = TCD_EX_UNIQUE_ID};

    communicator->daemon->making = communicator;
    communicator->state = TCD_COMM_MAKING;
    communicator->began_ns = tcw_now_ns();
    tcd_alarm_set(&communicator->patience, &communicator->daemon->clock, communicator->daemon->config->options.communicator_ms, on_late,
                  communicator);
    ask(communicator, 0, &message, NULL, 0, on_unique_id);
}

static void on_begin(void *arg)
{
    struct tcd_daemon *daemon = arg;
    struct tcd_link *at;

    if (daemon->making)
        return;
    TCD_EACH (at, &daemon->communicators) {
        struct tcd_communicator *communicator = TCD_ENTRY(at, struct tcd_communicator, link);
        if (communicator->state == TCD_COMM_QUEUED) {
            begin(communicator);
            return;
        }
    }
}

/* In a later turn of the loop: nobody is called back by what he calls. */
static void begin_soon(struct tcd_daemon *daemon)
{
    if (!daemon->ended)
        tcd_alarm_set(&daemon->communicator_start, &daemon->clock, 0, on_begin, daemon);
}

/* ---- users ---- */

static void end_idle(struct tcd_daemon *daemon, uint32_t allowed)
{
    struct tcd_communicator *oldest = NULL;
    struct tcw_error error;
    struct tcd_link *at;
    uint32_t idle = 0;

    TCD_EACH (at, &daemon->communicators) {
        struct tcd_communicator *communicator = TCD_ENTRY(at, struct tcd_communicator, link);
        if (communicator->state != TCD_COMM_READY || communicator->users || communicator->configured)
            continue;
        idle++;
        oldest = oldest ? oldest : communicator;
    }
    if (idle <= allowed)
        return;
    tcd_error_set(&error, TCW_EABORTED, "nobody used it, and others are kept");
    end(oldest, &error);
}

struct tcd_communicator *tcd_communicator_get(struct tcd_daemon *daemon, struct tcd_device *const *devices, uint32_t size,
                                              struct tcw_error *error)
{
    struct tcd_communicator *communicator = find(daemon, devices, size);

    if (!communicator) {
        if (daemon->communicator_ids.count >= MAX_COMMUNICATORS)
            end_idle(daemon, 0);
        if (daemon->communicator_ids.count >= MAX_COMMUNICATORS) {
            tcd_error_set(error, TCW_EQUOTA, "%d communicators are in use, that is the most", MAX_COMMUNICATORS);
            return NULL;
        }
        communicator = communicator_new(daemon, devices, size);
        if (!communicator) {
            tcd_error_set(error, TCW_ENOMEM, "no memory or descriptors for a communicator");
            return NULL;
        }
        begin_soon(daemon);
    }
    communicator->users++;
    return communicator;
}

void tcd_communicator_put(struct tcd_communicator *communicator)
{
    struct tcd_daemon *daemon = communicator->daemon;

    if (--communicator->users)
        return;
    if (communicator->state == TCD_COMM_ENDED) {
        communicator_free(communicator);
        return;
    }
    tcd_list_remove(&communicator->link);
    tcd_list_append(&daemon->communicators, &communicator->link);
    end_idle(daemon, MAX_IDLE);
}

void tcd_communicator_await(struct tcd_communicator *communicator, struct tcd_communicator_wait *wait,
                            void (*done)(void *arg, const struct tcw_error *error), void *arg)
{
    wait->communicator = communicator;
    wait->done = done;
    wait->arg = arg;
    tcd_list_append(&communicator->waits, &wait->link);
}

void tcd_communicator_wait_end(struct tcd_communicator_wait *wait)
{
    if (!wait->communicator)
        return;
    tcd_list_remove(&wait->link);
    wait->communicator = NULL;
}

/* ---- what the configuration will need ---- */

static bool wants(const struct tcd_daemon *daemon, const struct tcf_group *group, struct tcd_device **devices)
{
    uint32_t i;

    if (group->size < 2 || group->lane == TCW_LANE_DIRECT)
        return false;
    for (i = 0; i < group->size; i++) {
        if (group->ranks[i].node != daemon->config->local_node)
            return false;
        devices[i] = tcd_device_find((struct tcd_daemon *)(uintptr_t)daemon, group->ranks[i].device);
        if (!devices[i] || devices[i]->kind != TCF_DEVICE_CUDA || !devices[i]->executor || !tcd_executor_ready(devices[i]->executor) ||
            !devices[i]->facts.library)
            return false;
    }
    return true;
}

void tcd_communicators_prepare(struct tcd_daemon *daemon)
{
    struct tcd_device *devices[TCW_MAX_RANKS];
    struct tcd_communicator *communicator;
    struct tcw_error error;
    uint32_t i;

    for (i = 0; i < daemon->config->group_count; i++) {
        if (daemon->ended || !daemon->config->options.prepare_communicators || !wants(daemon, &daemon->config->groups[i], devices))
            continue;
        communicator = tcd_communicator_get(daemon, devices, daemon->config->groups[i].size, &error);
        if (!communicator) {
            tcd_log(TCD_WARNING, "group '%s': %s", daemon->config->groups[i].name, error.text);
            continue;
        }
        communicator->configured = true;
        tcd_communicator_put(communicator);
    }
}

/* ---- losses ---- */

/* Whether a process that knew of it has ended. */
static bool is_lost(const struct tcd_communicator *communicator)
{
    uint32_t i;

    if (communicator->state != TCD_COMM_MAKING && communicator->state != TCD_COMM_READY)
        return false;
    for (i = 0; i < communicator->size; i++)
        if (communicator->asked >> i & 1 && communicator->incarnations[i] != communicator->devices[i]->incarnation)
            return true;
    return false;
}

static struct tcd_communicator *find_lost(struct tcd_daemon *daemon)
{
    struct tcd_link *at;

    TCD_EACH (at, &daemon->communicators)
        if (is_lost(TCD_ENTRY(at, struct tcd_communicator, link)))
            return TCD_ENTRY(at, struct tcd_communicator, link);
    return NULL;
}

void tcd_communicators_device_lost(struct tcd_device *device)
{
    struct tcd_communicator *lost;

    /* One after the other: those who are told may let go of any. */
    while ((lost = find_lost(device->daemon)))
        fail(lost, TCW_EEXECUTOR, "the executor of device %u has ended", device->number);
}

void tcd_communicator_fault(struct tcd_device *device, const struct tcd_ex_message *message)
{
    struct tcd_communicator *communicator = tcd_handle_get(&device->daemon->communicator_ids, message->communicator);
    int code = message->code < 0 ? message->code : TCW_EINTERNAL;
    struct tcw_error cause;

    if (!communicator || communicator->state == TCD_COMM_ENDED)
        return;
    tcd_error_set(&cause, code, "the executor of device %u, its communicator: %.180s", device->number, message->text);
    cause.rank = message->rank < communicator->size ? message->rank : TCW_NOBODY;
    communicator->users++;
    tcd_instances_communicator_lost(device->daemon, communicator, &cause);
    fail(communicator, code, "device %u: %.160s", device->number, message->text);
    tcd_communicator_put(communicator);
}

void tcd_communicators_clear(struct tcd_daemon *daemon)
{
    struct tcd_link *at, *safe;

    TCD_EACH_SAFE (at, safe, &daemon->communicators)
        communicator_free(TCD_ENTRY(at, struct tcd_communicator, link));
}
