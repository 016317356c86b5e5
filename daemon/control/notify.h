/*
 * Talking to systemd, when started by it; otherwise every call does nothing. Its socket and its watchdog need libsystemd. Nothing here
 * waits for systemd. Loop thread; owns nothing.
 */
#ifndef TCD_CONTROL_NOTIFY_H
#define TCD_CONTROL_NOTIFY_H

#include <stdint.h>

/* The listening socket handed over by socket activation, -1 if there is none of the right kind. */
int tcd_notify_socket(void);
void tcd_notify_ready(void);
void tcd_notify_reloading(void);
void tcd_notify_stopping(void);
void tcd_notify_status(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* How often the watchdog wants to hear of us, 0 if not at all. */
uint64_t tcd_notify_watchdog_ms(void);
void tcd_notify_watchdog(void);

#endif
