/*
 * A client: one attached connection, the process behind it, and everything it holds. Made by the listener; ends in stages, always from the
 * loop (tcd_client_doom only marks): intake stops, its groups are told, its objects are given back, the socket closes, the memory is freed
 * when libuv has let go. Loop thread.
 */
#ifndef TCD_CONTROL_CLIENT_H
#define TCD_CONTROL_CLIENT_H

#include "alarm.h"
#include "connection.h"
#include "log.h"
#include "process.h"
#include "quota.h"

#include <tcw/message.h>
#include <tcw/stats.h>

struct tcd_daemon;
struct tcd_device;

typedef enum tcd_doom {
    TCD_ALIVE = 0,
    TCD_HANGUP,   /* its socket closed or its process ended */
    TCD_EXPELLED, /* violation, kick, or it does not read */
    TCD_REFUSED,  /* its hello was not accepted and has been answered */
    TCD_DISMISSED /* the daemon ends */
} tcd_doom;

struct tcd_client {
    struct tcd_daemon *daemon;
    uint64_t handle; /* in daemon->clients; its index is the row in the stats */
    uint64_t id;     /* for people: 1, 2, 3, ... */
    struct tcd_connection connection;
    struct tcd_process process;
    uv_poll_t death; /* of the process, when there is a pidfd */
    bool watches_death;
    unsigned open_handles; /* of libuv */
    uint32_t uid, gid;
    bool greeted;
    bool tool;  /* an operator's: ADMIN only */
    bool guest; /* a tool of a user who may not administer: asked to leave when it says nothing */
    uint64_t features;
    struct tcd_device *device; /* NULL: not bound yet */
    char name[TCW_STATS_TEXT];
    struct tcd_link members;  /* struct tcd_member */
    struct tcd_link memories; /* struct tcd_memory */
    struct tcd_usage usage;
    struct tcd_account *account;
    uint64_t registered_bytes;
    uint64_t attached_ns;
    uint64_t requests, refusals;
    struct tcd_rate rate, group_rate;
    struct tcd_alarm patience; /* until hello; a guest's next command */
    tcd_doom doom;
    struct tcd_link doomed;
    char doom_text[TCW_TEXT_BYTES];
};

/* A connection was accepted. Takes the socket, whatever happens. */
void tcd_client_accept(struct tcd_daemon *daemon, int socket);

/* Marks the client to end; the first reason counts. The text names the reason. */
void tcd_client_doom(struct tcd_client *client, tcd_doom doom, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* Ends every marked client. From the loop only. */
void tcd_clients_reap(struct tcd_daemon *daemon);

void tcd_client_send(struct tcd_client *client, unsigned opcode, uint32_t sequence, const void *payload, const int *fds, unsigned fd_count);
void tcd_client_ok(struct tcd_client *client, uint32_t sequence, uint64_t value);
/* The negative answer to a request, counted and logged. */
void tcd_client_refuse(struct tcd_client *client, uint32_t sequence, const struct tcw_error *error);
void tcd_client_refuse_text(struct tcd_client *client, uint32_t sequence, int code, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* Fixes the device of a client that has none. */
void tcd_client_bind(struct tcd_client *client, struct tcd_device *device);

/* A guest has spoken: it has a while for its next command. */
void tcd_client_expect_command(struct tcd_client *client);

/* Whether a line about a group of this client may be logged: such lines are within rates too. */
bool tcd_client_allows_group_line(struct tcd_client *client, tcd_level level);
/* Logs "client 3 (pid 12, name): ...", within the client's rate. */
void tcd_client_log(struct tcd_client *client, tcd_level level, const char *format, ...) __attribute__((format(printf, 3, 4)));

#endif
