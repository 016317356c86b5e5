#include "signals.h"

#include "daemon.h"
#include "reload.h"

#include <signal.h>
#include <string.h>

static void on_stop(uv_signal_t *handle, int number)
{
    tcd_log(TCD_NOTICE, "%s", strsignal(number));
    tcd_daemon_stop(handle->data);
}

static void on_hangup(uv_signal_t *handle, int number)
{
    struct tcd_reload_report report;

    (void)number;
    tcd_reload(handle->data, &report);
    tcd_reload_report_free(&report);
}

int tcd_signals_open(struct tcd_signals *signals, struct tcd_daemon *daemon)
{
    uv_loop_t *loop = &daemon->loop;

    signal(SIGPIPE, SIG_IGN);
    if (uv_signal_init(loop, &signals->terminate) || uv_signal_init(loop, &signals->interrupt) || uv_signal_init(loop, &signals->hangup))
        return TCW_EIO;
    signals->terminate.data = daemon;
    signals->interrupt.data = daemon;
    signals->hangup.data = daemon;
    if (uv_signal_start(&signals->terminate, on_stop, SIGTERM) || uv_signal_start(&signals->interrupt, on_stop, SIGINT) ||
        uv_signal_start(&signals->hangup, on_hangup, SIGHUP))
        return TCW_EIO;
    return 0;
}

static void close_signal(uv_signal_t *handle)
{
    if (handle->loop) /* it was opened */
        uv_close((uv_handle_t *)handle, NULL);
}

void tcd_signals_close(struct tcd_signals *signals)
{
    close_signal(&signals->terminate);
    close_signal(&signals->interrupt);
    close_signal(&signals->hangup);
}
