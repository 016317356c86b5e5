#include "connection.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    MAX_QUEUED = 1024,
    MAX_QUEUED_BYTES = 4 << 20,
    MAX_QUEUED_FDS = 512,   /* descriptors are everybody's */
    MESSAGES_PER_TURN = 16, /* then other clients have their turn */
    RETRY_MS = 5,
};

struct outgoing {
    struct tcd_link link;
    uint32_t sequence;
    unsigned opcode;
    unsigned fd_count;
    size_t bytes;
    int fds[TCW_MAX_FDS];
    unsigned char payload[];
};

static void on_poll(uv_poll_t *poll, int status, int events);

static void end(struct tcd_connection *connection, int code, const char *why)
{
    if (connection->ended)
        return;
    connection->ended = true;
    uv_poll_stop(&connection->poll);
    connection->callbacks.ended(connection->callbacks.arg, code, why);
}

static void listen_to(struct tcd_connection *connection)
{
    int events = 0;

    if (!connection->ended)
        events |= UV_READABLE | UV_DISCONNECT;
    if (!tcd_list_empty(&connection->queue) && !connection->deaf && !connection->retry.clock)
        events |= UV_WRITABLE;
    if (events)
        uv_poll_start(&connection->poll, events, on_poll);
    else
        uv_poll_stop(&connection->poll);
}

static void outgoing_free(struct tcd_connection *connection, struct outgoing *out)
{
    unsigned i;

    for (i = 0; i < out->fd_count; i++)
        close(out->fds[i]);
    connection->queued--;
    connection->queued_bytes -= out->bytes;
    connection->queued_fds -= out->fd_count;
    tcd_list_remove(&out->link);
    free(out);
}

static void drop_queue(struct tcd_connection *connection)
{
    struct tcd_link *at, *safe;

    TCD_EACH_SAFE (at, safe, &connection->queue)
        outgoing_free(connection, TCD_ENTRY(at, struct outgoing, link));
}

static void on_retry(void *arg)
{
    listen_to(arg);
}

/* Sends one message; whether it has left (or never will). */
static bool send_now(struct tcd_connection *connection, unsigned opcode, uint32_t sequence, const void *payload, const int *fds,
                     unsigned fd_count)
{
    int code = tcw_channel_send(connection->socket, opcode, sequence, connection->generation, payload, fds, fd_count);

    if (code == TCW_EAGAIN) {
        /* Too many descriptors on their way, or no memory: the socket says it is writable and is not. Looking again soon is enough. */
        if (errno == ETOOMANYREFS || errno == ENOBUFS)
            tcd_alarm_set(&connection->retry, connection->clock, RETRY_MS, on_retry, connection);
        return false;
    }
    /* The peer hung up. What it had sent before is still to be read, and then the end of file, which tells everything. */
    if (code)
        connection->deaf = true;
    return true;
}

static void flush(struct tcd_connection *connection)
{
    struct tcd_link *at, *safe;

    TCD_EACH_SAFE (at, safe, &connection->queue) {
        struct outgoing *out = TCD_ENTRY(at, struct outgoing, link);

        if (connection->deaf || !send_now(connection, out->opcode, out->sequence, out->payload, out->fds, out->fd_count))
            break;
        outgoing_free(connection, out);
    }
    if (connection->deaf)
        drop_queue(connection);
}

static void receive(struct tcd_connection *connection)
{
    struct tcw_packet packet;
    const char *why = "";
    unsigned i;

    for (i = 0; i < MESSAGES_PER_TURN && !connection->ended; i++) {
        int got = tcw_channel_receive(connection->socket, &packet, &why);

        if (!got)
            return;
        if (got < 0 && got != TCW_EQUOTA) {
            end(connection, got == TCW_EPROTO ? TCW_EPROTO : TCW_ECONN, why);
            return;
        }
        connection->callbacks.received(connection->callbacks.arg, &packet);
        tcw_packet_close_fds(&packet);
    }
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
    struct tcd_connection *connection = poll->data;

    if (status < 0) {
        end(connection, TCW_ECONN, "the socket failed");
        return;
    }
    if (events & UV_WRITABLE)
        flush(connection);
    if ((events & (UV_READABLE | UV_DISCONNECT)) && !connection->ended)
        receive(connection);
    listen_to(connection);
}

int tcd_connection_open(struct tcd_connection *connection, uv_loop_t *loop, struct tcd_clock *clock, int socket, uint64_t generation,
                        const struct tcd_connection_callbacks *callbacks)
{
    int flags = fcntl(socket, F_GETFL);

    *connection = (struct tcd_connection){.socket = socket, .generation = generation, .clock = clock, .callbacks = *callbacks};
    tcd_list_init(&connection->queue);
    if (flags < 0 || fcntl(socket, F_SETFL, flags | O_NONBLOCK) || uv_poll_init(loop, &connection->poll, socket))
        return TCW_EIO;
    connection->poll.data = connection;
    listen_to(connection);
    return 0;
}

void tcd_connection_close(struct tcd_connection *connection, uv_close_cb closed)
{
    connection->ended = true;
    tcd_alarm_stop(&connection->retry);
    drop_queue(connection);
    uv_close((uv_handle_t *)&connection->poll, closed);
    close(connection->socket);
    connection->socket = -1;
}

void tcd_connection_quiet(struct tcd_connection *connection)
{
    connection->ended = true;
    listen_to(connection);
}

static struct outgoing *outgoing_new(unsigned opcode, uint32_t sequence, const void *payload, const int *fds, unsigned fd_count)
{
    size_t bytes = tcw_message_bytes(opcode);
    struct outgoing *out = malloc(sizeof(*out) + bytes);

    if (!out)
        return NULL;
    *out = (struct outgoing){.sequence = sequence, .opcode = opcode, .bytes = bytes};
    memcpy(out->payload, payload, bytes);
    for (; out->fd_count < fd_count; out->fd_count++) {
        int fd = fcntl(fds[out->fd_count], F_DUPFD_CLOEXEC, 3);
        if (fd < 0)
            break;
        out->fds[out->fd_count] = fd;
    }
    if (out->fd_count == fd_count)
        return out;
    while (out->fd_count)
        close(out->fds[--out->fd_count]);
    free(out);
    return NULL;
}

void tcd_connection_send(struct tcd_connection *connection, unsigned opcode, uint32_t sequence, const void *payload, const int *fds,
                         unsigned fd_count)
{
    struct outgoing *out;

    if (connection->deaf || connection->socket < 0)
        return;
    if (tcd_list_empty(&connection->queue) && send_now(connection, opcode, sequence, payload, fds, fd_count))
        return;
    if (connection->queued >= MAX_QUEUED || connection->queued_bytes >= MAX_QUEUED_BYTES ||
        connection->queued_fds + fd_count > MAX_QUEUED_FDS) {
        connection->deaf = true;
        end(connection, TCW_EBUSY, "it does not read what it is sent");
        return;
    }
    out = outgoing_new(opcode, sequence, payload, fds, fd_count);
    if (!out) {
        connection->deaf = true;
        end(connection, TCW_ENOMEM, "no memory or descriptors for its messages");
        return;
    }
    tcd_list_append(&connection->queue, &out->link);
    connection->queued++;
    connection->queued_bytes += out->bytes;
    connection->queued_fds += out->fd_count;
    listen_to(connection);
}
