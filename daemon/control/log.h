/*
 * The log of the control process: one line per event on standard error, level first. Under journald the level is the `<N>` prefix, else a
 * word. Process-wide, loop thread; owns nothing.
 */
#ifndef TCD_CONTROL_LOG_H
#define TCD_CONTROL_LOG_H

#include <stdbool.h>
#include <stdint.h>

/* As in syslog. */
typedef enum tcd_level { TCD_ERR = 3, TCD_WARNING = 4, TCD_NOTICE = 5, TCD_INFO = 6, TCD_DEBUG = 7 } tcd_level;

/* Looks whether standard error is the journal. */
void tcd_log_open(void);
void tcd_log_set_level(tcd_level level);
tcd_level tcd_log_level(void);
/* false for an unknown name. */
bool tcd_level_parse(const char *name, tcd_level *level);
const char *tcd_level_name(tcd_level level);

/* Never waits: a line that standard error does not take at once is dropped and counted, and the next that it takes says how many. */
void tcd_log(tcd_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* At most `limit` lines in ten seconds: one per client, one per client about its groups, and one for all lines that clients cause, so that
 * reconnecting helps nobody to flood the log. */
enum { TCD_RATE_CLIENT = 20, TCD_RATE_GROUPS = 100, TCD_RATE_CLIENTS = 2000 };
struct tcd_rate {
    uint64_t window_ns;
    unsigned lines;
    unsigned suppressed;
};
/* Whether one more line may be written; *suppressed: lines that were dropped before it and should be mentioned. */
bool tcd_rate_allow(struct tcd_rate *rate, unsigned limit, uint64_t now_ns, unsigned *suppressed);

#endif
