/*
 * A client's socket on the loop: reads whole messages, sends without ever waiting. What a client does not read is queued up to a bound;
 * beyond it the client has ended. Stands inside its client; descriptors in the queue are its own. Loop thread.
 */
#ifndef TCD_CONTROL_CONNECTION_H
#define TCD_CONTROL_CONNECTION_H

#include "alarm.h"

#include <tcw/channel.h>
#include <uv.h>

#include <stdbool.h>

struct tcd_connection_callbacks {
    /*
     * One message. Descriptors that the callee takes it sets to -1; the others are closed afterwards. There are none, though the header
     * announces some, when this process may not open as many.
     */
    void (*received)(void *arg, struct tcw_packet *packet);
    /* Nothing more will come: TCW_ECONN hang-up, TCW_EPROTO a violation, TCW_EBUSY or TCW_ENOMEM what it is sent has no place. Called once;
     * *why is static. */
    void (*ended)(void *arg, int code, const char *why);
    void *arg;
};

struct tcd_connection {
    uv_poll_t poll;
    int socket;
    bool ended;
    bool deaf; /* the peer takes nothing any more; what it sent before may still be read */
    uint64_t generation;
    struct tcd_clock *clock;
    struct tcd_alarm retry;
    struct tcd_link queue;
    unsigned queued;
    size_t queued_bytes;
    unsigned queued_fds;
    struct tcd_connection_callbacks callbacks;
};

/* Takes the socket over on success. `generation` goes into every header. */
int tcd_connection_open(struct tcd_connection *connection, uv_loop_t *loop, struct tcd_clock *clock, int socket, uint64_t generation,
                        const struct tcd_connection_callbacks *callbacks);
/* No callback comes afterwards, except `closed`, when the memory may be freed. */
void tcd_connection_close(struct tcd_connection *connection, uv_close_cb closed);
/* Stops reading; sending still works. */
void tcd_connection_quiet(struct tcd_connection *connection);

/* Sends or queues. The caller keeps the fds. */
void tcd_connection_send(struct tcd_connection *connection, unsigned opcode, uint32_t sequence, const void *payload, const int *fds,
                         unsigned fd_count);

#endif
