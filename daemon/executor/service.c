#include "service.h"

#include "allocation.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

int tcd_ex_service_open(struct tcd_ex_service *service, struct tcd_ex_engine *engine)
{
    memset(service, 0, sizeof *service);
    int rc = tcd_ex_mailbox_open(&service->mailbox);
    if (rc < 0)
        return rc;
    tcd_ex_chores_open(&service->chores);
    engine->mailbox = &service->mailbox;
    engine->chores = &service->chores;
    service->engine = service->clients.engine = engine;
    return 0;
}

static struct tcd_ex_attachment *find(struct tcd_ex_service *service, uint64_t id)
{
    struct tcd_ex_attachment *attachment = service->attachments;
    while (attachment && attachment->id != id)
        attachment = attachment->next;
    return attachment;
}

/* Answers a request that wants it. */
static void answer(struct tcd_ex_service *service, const struct tcd_ex_message *request, int code, uint64_t value, const char *text)
{
    if (!request->cookie)
        return;
    struct tcd_ex_letter *letter = tcd_ex_letter_answer(request);
    if (!letter)
        abort(); /* an answer that never comes would hold the control process; a death is noticed */
    letter->message.code = code;
    letter->message.value = value;
    if (request->opcode == TCD_EX_UNIQUE_ID)
        memcpy(letter->message.blob, request->blob, sizeof letter->message.blob);
    snprintf(letter->message.text, sizeof letter->message.text, "%s", text);
    tcd_ex_mailbox_post(&service->mailbox, letter);
}

static int attach(struct tcd_ex_service *service, const struct tcd_ex_message *message, int *fds, unsigned fd_count, char *text)
{
    unsigned wanted = service->engine->ops->attach_fds;
    if (fd_count != wanted || find(service, message->attachment)) {
        snprintf(text, TCW_TEXT_BYTES, "%u descriptors instead of %u, or the id is in use", fd_count, wanted);
        return TCW_EINVAL;
    }
    struct tcd_ex_client *client = tcd_ex_clients_get(&service->clients, message->client);
    if (!client)
        return TCW_ENOMEM;
    struct tcd_ex_attachment *attachment;
    int rc = tcd_ex_attachment_create(message, fds, client, service->engine, &attachment, text);
    if (rc < 0)
        return rc;
    fds[2] = fds[3] = -1;
    ++client->attachments;
    attachment->next = service->attachments;
    service->attachments = attachment;
    return 0;
}

static void detach(struct tcd_ex_service *service, struct tcd_ex_attachment *attachment, uint64_t cookie)
{
    if (cookie)
        attachment->detach_cookie = cookie;
    if (!attachment->leaving) {
        attachment->leaving = true;
        ++service->leaving;
    }
    tcd_ex_attachment_stop(attachment);
}

static int memory_add(struct tcd_ex_service *service, const struct tcd_ex_message *message, int *fds, unsigned fd_count, char *text)
{
    if (!message->value) {
        snprintf(text, TCW_TEXT_BYTES, "no size");
        return TCW_EINVAL;
    }
    struct tcd_ex_client *client = tcd_ex_clients_get(&service->clients, message->client);
    if (!client)
        return TCW_ENOMEM;
    int rc = tcd_ex_client_memory_add(&service->clients, client, message, fds, fd_count, text);
    if (rc < 0 && !text[0])
        snprintf(text, TCW_TEXT_BYTES, "the memory cannot be mapped: %s", tcw_error_text(rc));
    return rc;
}

static bool device_waits(void *arg, const void *of)
{
    struct tcd_ex_engine *engine = arg;
    return engine->ops->waits && engine->ops->waits(engine, of);
}

/*
 * A ping: a beat for the chores. With one that stands still this process is of no use any more: it says so and ends (main.c). Quietly if
 * there is no memory to say it.
 */
static void beat(struct tcd_ex_service *service)
{
    unsigned beats = 0;
    const char *what = tcd_ex_chores_beat(&service->chores, device_waits, service->engine, &beats);
    if (!what || atomic_exchange(&service->mailbox.fatal, true))
        return;
    struct tcd_ex_letter *letter = tcd_ex_letter_create();
    if (!letter)
        return;
    letter->message.opcode = TCD_EX_FAULT;
    letter->message.code = TCW_EEXECUTOR;
    letter->message.rank = TCW_NOBODY;
    snprintf(letter->message.text, sizeof letter->message.text, "%s has not returned for about %u s", what, beats);
    tcd_ex_mailbox_post(&service->mailbox, letter);
}

/* Messages about an attachment. True if the answer follows later. */
static bool handle_attachment(struct tcd_ex_service *service, const struct tcd_ex_message *message, const int *fds, unsigned fd_count,
                              int *code, char *text)
{
    struct tcd_ex_attachment *attachment = find(service, message->attachment);
    if (!attachment || attachment->leaving) {
        *code = TCW_ENOENT;
        snprintf(text, TCW_TEXT_BYTES, "no such attachment");
        return false;
    }
    switch (message->opcode) {
    case TCD_EX_WORKSPACE:
        *code = tcd_ex_attachment_workspace(attachment, message, fds, fd_count, text);
        return false;
    case TCD_EX_PLAN:
        *code = tcd_ex_attachment_plan(attachment, message, text);
        return false;
    case TCD_EX_PLAN_DROP:
        *code = tcd_ex_attachment_plan_drop(attachment, message->handle);
        return false;
    case TCD_EX_ABORT:
        tcd_ex_attachment_abort(attachment, message->code, message->rank);
        *code = 0;
        return false;
    default: /* DETACH */
        detach(service, attachment, message->cookie);
        return true;
    }
}

void tcd_ex_service_handle(struct tcd_ex_service *service, const struct tcd_ex_message *message, int *fds, unsigned fd_count)
{
    char text[TCW_TEXT_BYTES] = "";
    uint64_t value = 0;
    int code = 0;
    switch (message->opcode) {
    case TCD_EX_ALLOC:
        code = tcd_ex_allocation_start(message, service->engine);
        if (code == 0)
            return;
        break;
    case TCD_EX_RECLAIM:
        code = fd_count == 1 ? tcd_ex_reclaim_start(message, fds[0], service->engine) : TCW_EINVAL;
        if (code == 0) {
            fds[0] = -1;
            return;
        }
        break;
    case TCD_EX_MULTICAST:
    case TCD_EX_MULTICAST_JOIN:
    case TCD_EX_MULTICAST_BIND:
        code = tcd_ex_multicast_start(message, fds, fd_count, service->engine);
        if (code == 0)
            return;
        break;
    case TCD_EX_ATTACH:
        code = attach(service, message, fds, fd_count, text);
        break;
    case TCD_EX_WORKSPACE:
    case TCD_EX_PLAN:
    case TCD_EX_PLAN_DROP:
    case TCD_EX_ABORT:
    case TCD_EX_DETACH:
        if (handle_attachment(service, message, fds, fd_count, &code, text))
            return;
        break;
    case TCD_EX_MEM:
        code = memory_add(service, message, fds, fd_count, text);
        break;
    case TCD_EX_MEM_DROP: {
        struct tcd_ex_client *client = tcd_ex_clients_find(&service->clients, message->client);
        code = client ? tcd_ex_client_memory_drop(client, message->handle, message->cookie) : TCW_ENOENT;
        if (code == 0)
            return; /* the sweep answers */
        break;
    }
    case TCD_EX_CLIENT_GONE: {
        struct tcd_ex_client *client = tcd_ex_clients_find(&service->clients, message->client);
        if (client) {
            tcd_ex_client_memory_drop_all(client, message->cookie);
            return; /* the sweep answers */
        }
        break;
    }
    case TCD_EX_UNIQUE_ID:
    case TCD_EX_COMM:
    case TCD_EX_COMM_DROP:
    case TCD_EX_LIBRARY: {
        struct tcd_ex_message with_answer = *message;
        code = TCW_ENOSYS;
        if (service->engine->ops->handle)
            code = service->engine->ops->handle(service->engine, &with_answer, fds, fd_count, text);
        if (code != TCD_EX_LATER)
            answer(service, &with_answer, code, 0, text);
        return;
    }
    case TCD_EX_QUIT:
        service->quitting = true;
        tcd_ex_service_stop_all(service);
        break;
    case TCD_EX_PING:
        beat(service);
        for (const struct tcd_ex_attachment *attachment = service->attachments; attachment; attachment = attachment->next)
            ++value;
        value += tcd_ex_clients_memory_count(&service->clients) + atomic_load(&service->chores.threads);
        break;
    default:
        code = TCW_ENOSYS;
        break;
    }
    if (code < 0 && !text[0])
        snprintf(text, sizeof text, "%s", tcw_error_text(code));
    answer(service, message, code, value, text);
}

void tcd_ex_service_sweep(struct tcd_ex_service *service)
{
    for (struct tcd_ex_attachment **at = &service->attachments; *at;) {
        struct tcd_ex_attachment *attachment = *at;
        if (!attachment->leaving || !atomic_load_explicit(&attachment->ended, memory_order_acquire)) {
            at = &attachment->next;
            continue;
        }
        *at = attachment->next;
        --service->leaving;
        --attachment->client->attachments;
        struct tcd_ex_message request = {.cookie = attachment->detach_cookie, .attachment = attachment->id};
        tcd_ex_attachment_free(attachment);
        answer(service, &request, 0, 0, "");
    }
    tcd_ex_clients_sweep(&service->clients, &service->mailbox);
}

void tcd_ex_service_stop_all(struct tcd_ex_service *service)
{
    if (service->engine->ops->stop)
        service->engine->ops->stop(service->engine);
    for (struct tcd_ex_attachment *attachment = service->attachments; attachment; attachment = attachment->next) {
        tcd_ex_attachment_abort(attachment, TCW_ECONN, TCW_NOBODY);
        detach(service, attachment, 0);
    }
}

void tcd_ex_service_nudge(struct tcd_ex_service *service)
{
    for (struct tcd_ex_attachment *attachment = service->attachments; attachment; attachment = attachment->next)
        if (attachment->leaving)
            tcd_ex_attachment_stop(attachment);
}

bool tcd_ex_service_idle(const struct tcd_ex_service *service)
{
    return !service->attachments && !atomic_load(&service->chores.threads);
}

void tcd_ex_service_close(struct tcd_ex_service *service)
{
    for (struct tcd_ex_client *client = service->clients.first; client; client = client->next)
        tcd_ex_client_memory_drop_all(client, 0);
    tcd_ex_clients_sweep(&service->clients, &service->mailbox);
    while (atomic_load(&service->chores.threads)) { /* that close what was still mapped */
        const struct timespec soon = {.tv_nsec = 1000000};
        nanosleep(&soon, NULL);
    }
    if (service->engine->ops->close)
        service->engine->ops->close(service->engine);
    tcd_ex_chores_close(&service->chores);
    tcd_ex_mailbox_close(&service->mailbox);
}
