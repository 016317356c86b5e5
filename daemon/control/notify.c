#include "notify.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#ifdef TCD_HAVE_SYSTEMD
#include <fcntl.h>
#include <systemd/sd-daemon.h>
#endif

/*
 * Like sd_notify, but a service manager that has stopped reading cannot stop the loop: what is not taken at once is lost. An address that
 * begins with '@' is in the abstract namespace.
 */
static void say(const char *state)
{
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    const char *address = getenv("NOTIFY_SOCKET");
    size_t length = address ? strlen(address) : 0;
    int fd;

    if (length < 2 || length >= sizeof(to.sun_path) || (*address != '/' && *address != '@'))
        return;
    memcpy(to.sun_path, address, length);
    if (*address == '@')
        to.sun_path[0] = 0;
    fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return;
    (void)sendto(fd, state, strlen(state), MSG_NOSIGNAL, (const struct sockaddr *)&to,
                 (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length));
    close(fd);
}

void tcd_notify_ready(void)
{
    say("READY=1");
}

void tcd_notify_reloading(void)
{
    struct timespec now;
    char text[64];

    clock_gettime(CLOCK_MONOTONIC, &now);
    snprintf(text, sizeof(text), "RELOADING=1\nMONOTONIC_USEC=%lld", (long long)now.tv_sec * 1000000 + now.tv_nsec / 1000);
    say(text);
}

void tcd_notify_stopping(void)
{
    say("STOPPING=1");
}

void tcd_notify_status(const char *format, ...)
{
    char text[256] = "STATUS=";
    size_t used = strlen(text);
    va_list args;

    va_start(args, format);
    vsnprintf(text + used, sizeof(text) - used, format, args);
    va_end(args);
    say(text);
}

void tcd_notify_watchdog(void)
{
    say("WATCHDOG=1");
}

#ifdef TCD_HAVE_SYSTEMD

int tcd_notify_socket(void)
{
    int count = sd_listen_fds(1), i;

    for (i = 0; i < count; i++) {
        int fd = SD_LISTEN_FDS_START + i;
        if (sd_is_socket_unix(fd, SOCK_SEQPACKET, 1, NULL, 0) <= 0)
            continue;
        fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
        return fd;
    }
    return -1;
}

uint64_t tcd_notify_watchdog_ms(void)
{
    uint64_t us = 0;

    return sd_watchdog_enabled(0, &us) > 0 ? us / 1000 : 0;
}

#else

int tcd_notify_socket(void)
{
    return -1;
}

uint64_t tcd_notify_watchdog_ms(void)
{
    return 0;
}

#endif
