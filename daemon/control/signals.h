/*
 * Signals of the control process: SIGTERM and SIGINT stop (twice: at once), SIGHUP re-reads the configuration. Stands inside the daemon.
 * Loop thread.
 */
#ifndef TCD_CONTROL_SIGNALS_H
#define TCD_CONTROL_SIGNALS_H

#include <uv.h>

struct tcd_daemon;

struct tcd_signals {
    uv_signal_t terminate, interrupt, hangup;
};

int tcd_signals_open(struct tcd_signals *signals, struct tcd_daemon *daemon);
void tcd_signals_close(struct tcd_signals *signals);

#endif
