#include "notify.h"

#include <stdarg.h>
#include <stdio.h>

#ifdef TCD_HAVE_SYSTEMD
#include <fcntl.h>
#include <sys/socket.h>
#include <systemd/sd-daemon.h>
#include <time.h>

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

void tcd_notify_ready(void)
{
    sd_notify(0, "READY=1");
}

void tcd_notify_reloading(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    sd_notifyf(0, "RELOADING=1\nMONOTONIC_USEC=%lld", (long long)now.tv_sec * 1000000 + now.tv_nsec / 1000);
}

void tcd_notify_stopping(void)
{
    sd_notify(0, "STOPPING=1");
}

void tcd_notify_status(const char *format, ...)
{
    char text[256];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    sd_notifyf(0, "STATUS=%s", text);
}

uint64_t tcd_notify_watchdog_ms(void)
{
    uint64_t us = 0;

    return sd_watchdog_enabled(0, &us) > 0 ? us / 1000 : 0;
}

void tcd_notify_watchdog(void)
{
    sd_notify(0, "WATCHDOG=1");
}

#else

int tcd_notify_socket(void)
{
    return -1;
}

void tcd_notify_ready(void) {}

void tcd_notify_reloading(void) {}

void tcd_notify_stopping(void) {}

void tcd_notify_status(const char *format, ...)
{
    (void)format;
}

uint64_t tcd_notify_watchdog_ms(void)
{
    return 0;
}

void tcd_notify_watchdog(void) {}

#endif
