/*
 * The listening socket: made in the runtime directory, or inherited from systemd. Stands inside the daemon. Loop thread.
 */
#ifndef TCD_CONTROL_LISTENER_H
#define TCD_CONTROL_LISTENER_H

#include "alarm.h"

#include <stdbool.h>
#include <uv.h>

struct tcd_daemon;

struct tcd_listener {
    struct tcd_daemon *daemon;
    uv_poll_t poll;
    int socket; /* -1: closed */
    bool inherited;
    char path[108];
    struct tcd_alarm pause; /* after running out of descriptors */
};

/* 0 or a negative tcw_errno, logged. */
int tcd_listener_open(struct tcd_listener *listener, struct tcd_daemon *daemon);
/* Nobody can connect any more; removes the socket's file unless it is systemd's. */
void tcd_listener_close(struct tcd_listener *listener);

#endif
