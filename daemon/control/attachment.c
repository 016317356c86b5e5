#include "attachment.h"

#include "communicator.h"
#include "daemon.h"
#include "group.h"
#include "instance_break.h"
#include "memory.h"
#include "text.h"

#include <tcw/channel.h>
#include <tcw/ring.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

/* A request may need this many entries, whatever the configured number of requests is. */
enum { MIN_SQ_ENTRIES = 128 };
_Static_assert(1 + (TCW_MAX_REFS - TCW_SQE_HEAD_REFS + TCW_SQE_CONT_REFS - 1) / TCW_SQE_CONT_REFS <= MIN_SQ_ENTRIES, "largest request");

/* Completion entries: as configured, less if the quota has less room. A power of two; the smallest ring is what the quota then refuses. */
static uint32_t choose_slots(const struct tcd_client *client)
{
    const struct tcf_options *options = &client->daemon->config->options;
    uint64_t room = tcd_quota_room(&client->usage, client->account, options, TCD_IN_FLIGHT);
    uint32_t slots = TCW_RING_MIN_ENTRIES;

    while (slots * 2 <= options->ring_entries && slots * 2 <= room && slots * 2 <= TCW_RING_MAX_ENTRIES)
        slots *= 2;
    return slots;
}

/* Streams of CUDA devices wait in the ring, and when its executor is gone they are released here: the ring stays mapped. */
static bool has_words(const struct tcd_attachment *attachment)
{
    return attachment->device->kind == TCF_DEVICE_CUDA;
}

static int make_ring(struct tcd_attachment *attachment)
{
    struct tcd_client *client = attachment->member->client;
    void *map;
    int code;

    attachment->ring = tcw_memfd_create("trtcoll-ring", attachment->ring_bytes, 1);
    if (attachment->ring < 0)
        return attachment->ring;
    map = mmap(NULL, attachment->ring_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, attachment->ring, 0);
    if (map == MAP_FAILED)
        return TCW_ENOMEM;
    code = tcw_ring_format(map, attachment->ring_bytes, attachment->sq_entries, attachment->slots, has_words(attachment), client->id,
                           client->daemon->generation);
    if (has_words(attachment))
        attachment->map = map;
    else
        munmap(map, attachment->ring_bytes);
    return code;
}

/*
 * Nobody raises `done` any more: whatever the client's streams wait for, now or later, is there. The largest number that is still ahead of
 * every request's in the comparison of streams, which is signed.
 */
static void release_words(struct tcd_attachment *attachment)
{
    struct tcw_ring ring;
    uint32_t i;

    if (!attachment->map || tcw_ring_open(&ring, attachment->map, attachment->ring_bytes, -1, -1) || !ring.words)
        return;
    for (i = 0; i < ring.cq_entries; i++)
        atomic_store_explicit(&ring.words[i].done, INT64_MAX, memory_order_release);
    tcw_ring_captured_over(&ring);
}

static int make_events(struct tcd_attachment *attachment)
{
    attachment->sq_event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    attachment->cq_event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return attachment->sq_event < 0 || attachment->cq_event < 0 ? TCW_EIO : 0;
}

static void close_fd(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

static void attachment_free(struct tcd_attachment *attachment)
{
    struct tcd_client *client = attachment->member->client;

    if (attachment->slots)
        tcd_quota_give(&client->usage, client->account, TCD_IN_FLIGHT, attachment->slots);
    if (attachment->ring_bytes)
        tcd_quota_give(&client->usage, client->account, TCD_BYTES, attachment->ring_bytes);
    attachment->device->memory_bytes -= attachment->ring_bytes;
    if (attachment->map)
        munmap(attachment->map, attachment->ring_bytes);
    close_fd(&attachment->ring);
    close_fd(&attachment->sq_event);
    close_fd(&attachment->cq_event);
    tcd_page_close(&attachment->page);
    tcd_handle_remove(&attachment->daemon->attachments, attachment->id);
    attachment->member->attachment = NULL;
    free(attachment);
}

static int send_attach(struct tcd_attachment *attachment, int page, tcd_executor_done done, void *arg, struct tcw_error *error)
{
    struct tcd_member *member = attachment->member;
    struct tcd_instance *instance = member->instance;
    int fds[5] = {page, attachment->ring, attachment->sq_event, attachment->cq_event, instance->gate};
    struct tcd_ex_message message = {.opcode = TCD_EX_ATTACH,
                                     .attachment = attachment->id,
                                     .client = member->client->id,
                                     .value = instance->id,
                                     .rank = member->rank,
                                     .nranks = instance->size,
                                     .spin_us = (uint32_t)attachment->daemon->config->options.spin_us,
                                     .deadline_ns = instance->deadline_ns,
                                     .communicator = instance->communicator ? instance->communicator->id : 0};

    /* Requests may name memory from the start. */
    tcd_memories_ensure(member->client);
    return tcd_device_request(attachment->device, &message, fds, instance->gate >= 0 ? 5 : 4, done, arg, error);
}

int tcd_attachment_create(struct tcd_member *member, tcd_executor_done done, void *arg, struct tcw_error *error)
{
    struct tcd_client *client = member->client;
    struct tcd_instance *instance = member->instance;
    const struct tcf_options *options = &client->daemon->config->options;
    struct tcd_attachment *attachment = calloc(1, sizeof(*attachment));
    uint32_t slots = choose_slots(client), sq_entries = slots > MIN_SQ_ENTRIES ? slots : MIN_SQ_ENTRIES;
    uint64_t bytes = tcw_ring_bytes(sq_entries, slots, member->device->kind == TCF_DEVICE_CUDA);
    int code, page = -1;

    if (!attachment)
        return tcd_error_set(error, TCW_ENOMEM, "no memory for an attachment");
    *attachment = (struct tcd_attachment){.daemon = client->daemon,
                                          .member = member,
                                          .device = member->device,
                                          .ring = -1,
                                          .sq_event = -1,
                                          .cq_event = -1,
                                          .sq_entries = sq_entries};
    member->attachment = attachment;
    code = tcd_quota_take(&client->usage, client->account, options, TCD_IN_FLIGHT, slots, error);
    if (code)
        goto failed;
    attachment->slots = slots;
    code = tcd_quota_take(&client->usage, client->account, options, TCD_BYTES, bytes, error);
    if (code)
        goto failed;
    attachment->ring_bytes = bytes;
    attachment->device->memory_bytes += bytes;
    attachment->id = tcd_handle_add(&client->daemon->attachments, attachment);
    code = attachment->id ? make_ring(attachment) : TCW_ENOMEM;
    if (!code)
        code = make_events(attachment);
    if (!code)
        code = tcd_page_open(&attachment->page, instance->id, instance->epoch, member->rank, instance->size, instance->deadline_ns, &page);
    if (code) {
        tcd_error_set(error, code, "no memory or descriptors for a ring of %llu bytes", (unsigned long long)bytes);
        goto failed;
    }
    code = send_attach(attachment, page, done, arg, error);
    close(page);
    if (code)
        goto failed;
    attachment->device->attachments++;
    return 0;

failed:
    attachment_free(attachment);
    return code;
}

void tcd_attachment_destroy(struct tcd_attachment *attachment)
{
    struct tcd_ex_message message = {.opcode = TCD_EX_DETACH, .attachment = attachment->id, .client = attachment->member->client->id};

    if (!attachment->lost) {
        attachment->device->attachments--;
        tcd_device_tell(attachment->device, &message);
    }
    attachment_free(attachment);
}

void tcd_attachment_fds(const struct tcd_attachment *attachment, int fds[3])
{
    fds[0] = attachment->ring;
    fds[1] = attachment->sq_event;
    fds[2] = attachment->cq_event;
}

void tcd_attachment_given(struct tcd_attachment *attachment)
{
    attachment->given = true;
    close_fd(&attachment->ring);
    close_fd(&attachment->sq_event);
}

void tcd_attachment_abort(struct tcd_attachment *attachment, const struct tcw_abort_info *info)
{
    struct tcd_ex_message message = {.opcode = TCD_EX_ABORT,
                                     .code = info->code,
                                     .attachment = attachment->id,
                                     .client = attachment->member->client->id,
                                     .rank = info->rank,
                                     .step = info->step};

    tcw_member_abort(attachment->page.map, info);
    if (!attachment->lost) {
        tcw_text_set(message.text, sizeof(message.text), info->text);
        tcd_device_tell(attachment->device, &message);
    }
    tcd_waker_wake(&attachment->daemon->waker, attachment->cq_event);
}

void tcd_attachments_lost(struct tcd_device *device, pid_t pid, int status)
{
    struct tcd_handles *attachments = &device->daemon->attachments;
    struct tcw_error cause;
    uint32_t i;

    for (i = 0; i < attachments->capacity; i++) {
        struct tcd_attachment *attachment = tcd_handle_at(attachments, i);
        if (attachment && attachment->device == device && !attachment->lost) {
            attachment->lost = true;
            device->attachments--;
        }
    }
    if (WIFSIGNALED(status))
        tcd_error_set(&cause, TCW_EEXECUTOR, "the executor of device %u (pid %d) was killed by signal %d", device->number, (int)pid,
                      WTERMSIG(status));
    else
        tcd_error_set(&cause, TCW_EEXECUTOR, "the executor of device %u (pid %d) exited with status %d", device->number, (int)pid,
                      WEXITSTATUS(status));
    cause.pid = (int32_t)pid;
    cause.signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
    tcd_daemon_problem(device->daemon, "%s", cause.text);
    /* Breaking frees no attachment: those end with their members. */
    for (i = 0; i < attachments->capacity; i++) {
        struct tcd_attachment *attachment = tcd_handle_at(attachments, i);
        if (!attachment || attachment->device != device || !attachment->lost)
            continue;
        tcd_instance_break(attachment->member->instance, &cause);
        release_words(attachment);
    }
}

/* A rank that is late because its executor stands still is not to blame. Executors answer a ping each second. */
static void excuse_rank(const struct tcd_instance *instance, struct tcw_error *cause)
{
    static const uint64_t STILL_NS = 2500000000ull;
    const struct tcd_device *device = cause->rank < instance->size ? instance->members[cause->rank].device : NULL;
    uint64_t heartbeat_ns = device && device->executor ? tcd_executor_heartbeat_ns(device->executor) : 0, now_ns = tcw_now_ns();

    if (cause->code != TCW_ETIMEOUT || !heartbeat_ns || now_ns < heartbeat_ns + STILL_NS)
        return;
    tcd_error_set(cause, TCW_EEXECUTOR, "the executor of device %u (pid %d), which serves rank %u, has not answered for %llu ms",
                  device->number, (int)tcd_executor_pid(device->executor), cause->rank,
                  (unsigned long long)((now_ns - heartbeat_ns) / 1000000));
    cause->pid = (int32_t)tcd_executor_pid(device->executor);
}

void tcd_attachment_report(struct tcd_daemon *daemon, const struct tcd_ex_message *message)
{
    struct tcd_attachment *attachment = tcd_handle_get(&daemon->attachments, message->attachment);
    struct tcw_error cause;
    char who[64];

    if (!attachment)
        return;
    if (message->opcode == TCD_EX_VIOLATION) {
        tcd_client_doom(attachment->member->client, TCD_EXPELLED, "its ring: %.200s", message->text);
        return;
    }
    tcd_error_set(&cause, message->code < 0 ? message->code : TCW_EINTERNAL, "the executor of %s: %.190s",
                  tcd_member_text(attachment->member, who, sizeof(who)), message->text);
    cause.rank = message->rank;
    cause.step = message->step;
    excuse_rank(attachment->member->instance, &cause);
    tcd_instance_break(attachment->member->instance, &cause);
}
