#include "client.h"

#include "admin.h"
#include "daemon.h"
#include "group.h"
#include "hello.h"
#include "memory.h"
#include "plan.h"
#include "publish.h"
#include "reform.h"
#include "text.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    HELLO_MS = 10000,
    COMMAND_MS = 10000, /* between a guest's commands: there are few seats for them */
    MAX_STRANGERS = 64  /* connections of one uid that have not said hello: descriptors are everybody's */
};

/* ---- words ---- */

static void log_line(const struct tcd_client *client, tcd_level level, const char *format, va_list args)
    __attribute__((format(printf, 3, 0)));
static void log_line(const struct tcd_client *client, tcd_level level, const char *format, va_list args)
{
    char text[TCW_TEXT_BYTES * 2];

    vsnprintf(text, sizeof(text), format, args);
    if (*client->name)
        tcd_log(level, "client %llu (pid %d, %s): %s", (unsigned long long)client->id, (int)client->process.pid, client->name, text);
    else
        tcd_log(level, "client %llu (pid %d): %s", (unsigned long long)client->id, (int)client->process.pid, text);
}

/* Its own rate first: lines that it may not write take nothing from what all clients share. */
static bool allows_line(struct tcd_client *client, tcd_level level, struct tcd_rate *rate, unsigned limit)
{
    uint64_t now = tcw_now_ns();
    unsigned suppressed, all_suppressed;

    if (level > tcd_log_level() || !tcd_rate_allow(rate, limit, now, &suppressed) ||
        !tcd_rate_allow(&client->daemon->client_lines, TCD_RATE_CLIENTS, now, &all_suppressed))
        return false;
    if (all_suppressed)
        tcd_log(TCD_NOTICE, "%u lines about clients were left out", all_suppressed);
    if (suppressed)
        tcd_log(TCD_NOTICE, "client %llu (pid %d): %u lines about it were left out", (unsigned long long)client->id,
                (int)client->process.pid, suppressed);
    return true;
}

bool tcd_client_allows_group_line(struct tcd_client *client, tcd_level level)
{
    return allows_line(client, level, &client->group_rate, TCD_RATE_GROUPS);
}

void tcd_client_log(struct tcd_client *client, tcd_level level, const char *format, ...)
{
    va_list args;

    if (!allows_line(client, level, &client->rate, TCD_RATE_CLIENT))
        return;
    va_start(args, format);
    log_line(client, level, format, args);
    va_end(args);
}

/* ---- sending ---- */

void tcd_client_send(struct tcd_client *client, unsigned opcode, uint32_t sequence, const void *payload, const int *fds, unsigned fd_count)
{
    tcd_connection_send(&client->connection, opcode, sequence, payload, fds, fd_count);
}

void tcd_client_ok(struct tcd_client *client, uint32_t sequence, uint64_t value)
{
    struct tcw_ok ok = {.value = value};

    tcd_client_send(client, TCW_MSG_OK, sequence, &ok, NULL, 0);
}

void tcd_client_refuse(struct tcd_client *client, uint32_t sequence, const struct tcw_error *error)
{
    client->refusals++;
    client->daemon->counters.refusals++;
    tcd_client_log(client, TCD_INFO, "refused with %s: %s", tcw_error_name(error->code), error->text);
    tcd_client_send(client, TCW_MSG_ERROR, sequence, error, NULL, 0);
}

void tcd_client_refuse_text(struct tcd_client *client, uint32_t sequence, int code, const char *format, ...)
{
    struct tcw_error error;
    va_list args;

    va_start(args, format);
    tcd_error_set_args(&error, code, format, args);
    va_end(args);
    tcd_client_refuse(client, sequence, &error);
}

/* ---- messages ---- */

static void dispatch(struct tcd_client *client, struct tcw_packet *packet)
{
    const union tcw_payload *payload = &packet->payload;
    uint32_t sequence = packet->header.sequence;

    switch (packet->header.opcode) {
    case TCW_MSG_GROUP_JOIN:
        tcd_group_join(client, sequence, &payload->GROUP_JOIN);
        break;
    case TCW_MSG_GROUP_LEAVE:
        tcd_group_leave(client, sequence, &payload->GROUP_LEAVE);
        break;
    case TCW_MSG_GROUP_REFORM:
        tcd_group_reform(client, sequence, &payload->GROUP_REFORM);
        break;
    case TCW_MSG_GROUP_ABORT:
        tcd_group_abort(client, sequence, &payload->GROUP_ABORT);
        break;
    case TCW_MSG_GROUP_REPORT:
        tcd_group_report(client, &payload->GROUP_REPORT);
        break;
    case TCW_MSG_PLAN_CREATE:
        tcd_plan_create(client, sequence, &payload->PLAN_CREATE);
        break;
    case TCW_MSG_PLAN_RELEASE:
        tcd_plan_release(client, sequence, &payload->PLAN_RELEASE);
        break;
    case TCW_MSG_MEM_ALLOC:
        tcd_memory_alloc(client, sequence, &payload->MEM_ALLOC);
        break;
    case TCW_MSG_MEM_REGISTER:
        tcd_memory_register(client, sequence, &payload->MEM_REGISTER, packet->fds, packet->fd_count);
        break;
    case TCW_MSG_MEM_FREE:
        tcd_memory_free(client, sequence, &payload->MEM_FREE);
        break;
    case TCW_MSG_ADMIN:
        tcd_admin(client, sequence, &payload->ADMIN);
        break;
    default:
        tcd_client_doom(client, TCD_EXPELLED, "a client does not send %s", tcw_message_name(packet->header.opcode));
        break;
    }
}

static void on_message(void *arg, struct tcw_packet *packet)
{
    struct tcd_client *client = arg;
    unsigned opcode = packet->header.opcode;

    if (client->doom)
        return;
    client->requests++;
    if (!client->greeted) {
        if (opcode == TCW_MSG_HELLO)
            tcd_hello(client, packet->header.sequence, &packet->payload.HELLO);
        else
            tcd_client_doom(client, TCD_EXPELLED, "%s before hello", tcw_message_name(opcode));
        return;
    }
    if (client->guest)
        tcd_client_expect_command(client);
    if (opcode == TCW_MSG_HELLO)
        tcd_client_doom(client, TCD_EXPELLED, "a second hello");
    else if (packet->header.generation != client->daemon->generation)
        tcd_client_doom(client, TCD_EXPELLED, "%s of generation %llu, this daemon's is %llu", tcw_message_name(opcode),
                        (unsigned long long)packet->header.generation, (unsigned long long)client->daemon->generation);
    else if (client->tool && opcode != TCW_MSG_ADMIN)
        tcd_client_doom(client, TCD_EXPELLED, "an operator's tool sends admin, not %s", tcw_message_name(opcode));
    else if (packet->fd_count != packet->header.fd_count)
        tcd_client_refuse_text(client, packet->header.sequence, TCW_EIO, "the daemon is out of file descriptors");
    else
        dispatch(client, packet);
}

/* ---- beginning ---- */

static void on_ended(void *arg, int code, const char *why)
{
    struct tcd_client *client = arg;

    if (code == TCW_ECONN)
        tcd_client_doom(client, TCD_HANGUP, "hang-up");
    else if (code == TCW_EPROTO)
        tcd_client_doom(client, TCD_EXPELLED, "a bad message: %s", why);
    else
        tcd_client_doom(client, TCD_EXPELLED, "%s", why);
}

/* The process ended, though its socket may still be open in a child that it forked. */
static void on_death(uv_poll_t *poll, int status, int events)
{
    (void)status;
    (void)events;
    uv_poll_stop(poll);
    tcd_client_doom(poll->data, TCD_HANGUP, "its process ended");
}

static void on_no_hello(void *arg)
{
    tcd_client_doom(arg, TCD_EXPELLED, "no hello within %d ms", HELLO_MS);
}

static void on_no_command(void *arg)
{
    tcd_client_doom(arg, TCD_EXPELLED, "no command within %d ms", COMMAND_MS);
}

void tcd_client_expect_command(struct tcd_client *client)
{
    tcd_alarm_set(&client->patience, &client->daemon->clock, COMMAND_MS, on_no_command, client);
}

static uint64_t realtime_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000000000ull + (uint64_t)now.tv_nsec;
}

static struct tcd_client *client_new(struct tcd_daemon *daemon, int socket)
{
    struct tcd_client *client = calloc(1, sizeof(*client));
    struct ucred peer;
    socklen_t bytes = sizeof(peer);

    if (!client)
        return NULL;
    client->daemon = daemon;
    client->process.pidfd = -1;
    tcd_list_init(&client->members);
    tcd_list_init(&client->memories);
    tcd_list_init(&client->doomed);
    if (!getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &bytes)) {
        client->uid = peer.uid;
        client->gid = peer.gid;
        client->account = tcd_account_open(&daemon->accounts, peer.uid);
        client->handle = client->account ? tcd_handle_add(&daemon->clients, client) : 0;
    }
    if (client->handle && client->account->strangers >= MAX_STRANGERS) {
        tcd_handle_remove(&daemon->clients, client->handle);
        client->handle = 0;
    }
    if (client->handle) {
        client->account->strangers++;
        client->id = ++daemon->last_client_id;
        client->attached_ns = realtime_ns();
        tcd_process_open(&client->process, socket, peer.pid);
        return client;
    }
    if (client->account)
        tcd_account_close(client->account, &client->usage);
    free(client);
    return NULL;
}

static void client_delete(struct tcd_client *client)
{
    tcd_process_close(&client->process);
    client->account->strangers--;
    tcd_account_close(client->account, &client->usage);
    tcd_handle_remove(&client->daemon->clients, client->handle);
    free(client);
}

static void watch_death(struct tcd_client *client)
{
    if (client->process.pidfd < 0 || uv_poll_init(&client->daemon->loop, &client->death, client->process.pidfd))
        return;
    client->death.data = client;
    client->watches_death = true;
    client->open_handles++;
    uv_poll_start(&client->death, UV_READABLE, on_death);
}

void tcd_client_accept(struct tcd_daemon *daemon, int socket)
{
    struct tcd_client *client = client_new(daemon, socket);
    struct tcd_connection_callbacks callbacks = {on_message, on_ended, client};
    unsigned suppressed;

    if (!client) {
        if (tcd_rate_allow(&daemon->client_lines, TCD_RATE_CLIENTS, tcw_now_ns(), &suppressed))
            tcd_log(TCD_ERR, "a connection was dropped: no memory, or its user has too many that say nothing");
        close(socket);
        return;
    }
    if (tcd_connection_open(&client->connection, &daemon->loop, &daemon->clock, socket, daemon->generation, &callbacks)) {
        tcd_log(TCD_ERR, "a connection was dropped: its socket cannot be watched");
        client_delete(client);
        close(socket);
        return;
    }
    client->open_handles = 1;
    watch_death(client);
    tcd_alarm_set(&client->patience, &daemon->clock, HELLO_MS, on_no_hello, client);
}

void tcd_client_bind(struct tcd_client *client, struct tcd_device *device)
{
    if (client->device)
        return;
    client->device = device;
    device->clients++;
}

/* ---- ending ---- */

void tcd_client_doom(struct tcd_client *client, tcd_doom doom, const char *format, ...)
{
    struct tcd_daemon *daemon = client->daemon;
    va_list args;

    if (client->doom)
        return;
    client->doom = doom;
    va_start(args, format);
    vsnprintf(client->doom_text, sizeof(client->doom_text), format, args);
    va_end(args);
    tcd_connection_quiet(&client->connection);
    tcd_list_append(&daemon->doomed, &client->doomed);
    tcd_daemon_reap_soon(daemon);
}

/* What the groups of the client are told. */
static void describe(struct tcd_client *client, struct tcd_departure *departure)
{
    struct tcd_fate fate;

    *departure = (struct tcd_departure){.orderly = false};
    if (client->doom == TCD_EXPELLED) {
        snprintf(departure->text, sizeof(departure->text), "was expelled: %.90s", client->doom_text);
    } else if (client->doom == TCD_DISMISSED) {
        snprintf(departure->text, sizeof(departure->text), "was dismissed, the daemon ends");
    } else {
        tcd_process_fate(&client->process, &fate);
        departure->orderly = !fate.dead;
        departure->signal = tcd_fate_text(&fate, departure->text, sizeof(departure->text));
    }
}

static void say_goodbye(struct tcd_client *client)
{
    struct tcw_error error;

    if (client->doom == TCD_EXPELLED)
        tcd_error_set(&error, TCW_EPROTO, "%s", client->doom_text);
    else if (client->doom == TCD_DISMISSED)
        tcd_error_set(&error, TCW_EDRAIN, "%s", client->doom_text);
    else
        return;
    tcd_client_send(client, TCW_MSG_GOODBYE, 0, &error, NULL, 0);
}

static void note_end(struct tcd_client *client, const struct tcd_departure *departure, bool had_groups)
{
    struct tcw_stats_daemon *counters = &client->daemon->counters;

    if (client->doom == TCD_EXPELLED) {
        counters->clients_expelled++;
        tcd_client_log(client, TCD_WARNING, "expelled: %s", client->doom_text);
        tcd_daemon_remember(client->daemon, "client %llu (pid %d) was expelled: %s", (unsigned long long)client->id,
                            (int)client->process.pid, client->doom_text);
    } else if (client->doom == TCD_HANGUP && !departure->orderly && had_groups) {
        counters->clients_died++;
        tcd_client_log(client, TCD_NOTICE, "%s", departure->text);
    } else if (!client->tool) {
        tcd_client_log(client, TCD_INFO, "%s",
                       client->doom == TCD_REFUSED  ? client->doom_text
                       : client->doom == TCD_HANGUP ? had_groups ? departure->text : "left"
                                                    : departure->text);
    }
}

static void on_handle_closed(uv_handle_t *handle)
{
    struct tcd_client *client = handle->data;

    if (!--client->open_handles)
        free(client);
}

static void on_connection_closed(uv_handle_t *handle)
{
    struct tcd_connection *connection = handle->data;

    handle->data = TCD_ENTRY(connection, struct tcd_client, connection);
    on_handle_closed(handle);
}

static void give_seat_back(struct tcd_client *client)
{
    struct tcd_daemon *daemon = client->daemon;

    if (!client->greeted) {
        client->account->strangers--;
    } else if (client->tool) {
        daemon->tools--;
        daemon->guests -= client->guest;
    } else {
        daemon->counters.clients--;
        client->account->seats--;
    }
}

static void client_end(struct tcd_client *client)
{
    struct tcd_daemon *daemon = client->daemon;
    bool had_groups = !tcd_list_empty(&client->members);
    struct tcd_departure departure;

    /* Survivors first: they wait for this. */
    describe(client, &departure);
    while (!tcd_list_empty(&client->members))
        tcd_member_depart(TCD_ENTRY(client->members.next, struct tcd_member, of_client), &departure);
    say_goodbye(client);
    note_end(client, &departure, had_groups);

    tcd_alarm_stop(&client->patience);
    tcd_memories_end(client);
    if (client->device)
        client->device->clients--;
    give_seat_back(client);
    tcd_publish_client_ended(client);
    tcd_account_close(client->account, &client->usage);
    tcd_handle_remove(&daemon->clients, client->handle);
    if (client->watches_death)
        uv_close((uv_handle_t *)&client->death, on_handle_closed);
    tcd_connection_close(&client->connection, on_connection_closed);
    tcd_process_close(&client->process);
    tcd_daemon_client_ended(daemon);
}

void tcd_clients_reap(struct tcd_daemon *daemon)
{
    while (!tcd_list_empty(&daemon->doomed)) {
        struct tcd_client *client = TCD_ENTRY(daemon->doomed.next, struct tcd_client, doomed);

        tcd_list_remove(&client->doomed);
        client_end(client);
    }
}
