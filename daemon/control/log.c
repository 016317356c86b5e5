#include "log.h"

#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LINE_BYTES = 1024 };
static const uint64_t RATE_WINDOW_NS = 10000000000ull;

static tcd_level threshold = TCD_INFO;
static bool journal;
static unsigned long long lost; /* lines that nobody took */

static const struct {
    tcd_level level;
    const char *name;
} levels[] = {
    {TCD_ERR, "err"}, {TCD_WARNING, "warning"}, {TCD_NOTICE, "notice"}, {TCD_INFO, "info"}, {TCD_DEBUG, "debug"},
};

void tcd_log_open(void)
{
    const char *stream = getenv("JOURNAL_STREAM");
    unsigned long long device, inode;
    struct stat status;

    /* systemd sets the variable for the whole service; the comparison notices a redirected standard error. */
    journal = stream && sscanf(stream, "%llu:%llu", &device, &inode) == 2 && !fstat(STDERR_FILENO, &status) && status.st_dev == device &&
              status.st_ino == inode;
}

void tcd_log_set_level(tcd_level level)
{
    threshold = level;
}

tcd_level tcd_log_level(void)
{
    return threshold;
}

bool tcd_level_parse(const char *name, tcd_level *level)
{
    size_t i;

    for (i = 0; i < sizeof(levels) / sizeof(levels[0]); i++) {
        if (!strcmp(levels[i].name, name)) {
            *level = levels[i].level;
            return true;
        }
    }
    return false;
}

const char *tcd_level_name(tcd_level level)
{
    size_t i;

    for (i = 0; i < sizeof(levels) / sizeof(levels[0]); i++)
        if (levels[i].level == level)
            return levels[i].name;
    return "?";
}

/*
 * Whoever reads a pipe or a terminal may have stopped: the loop does not wait for that. A pipe that is writable takes a line as a whole.
 * One write, so that lines of the executors, which share the descriptor, do not mix with it.
 */
static bool put(const char *line, size_t bytes)
{
    struct pollfd ready = {.fd = STDERR_FILENO, .events = POLLOUT};

    return poll(&ready, 1, 0) == 1 && (ready.revents & POLLOUT) && write(STDERR_FILENO, line, bytes) >= 0;
}

/* The line's length, 0: it cannot be made. */
static size_t format_line(char line[LINE_BYTES], tcd_level level, const char *format, va_list args) __attribute__((format(printf, 3, 0)));
static size_t format_line(char line[LINE_BYTES], tcd_level level, const char *format, va_list args)
{
    size_t used, i;
    int wrote = journal ? snprintf(line, LINE_BYTES, "<%d>", (int)level) : snprintf(line, LINE_BYTES, "%s: ", tcd_level_name(level));

    used = (size_t)wrote;
    wrote = vsnprintf(line + used, LINE_BYTES - used - 1, format, args);
    if (wrote < 0)
        return 0;
    used += (size_t)wrote < LINE_BYTES - used - 1 ? (size_t)wrote : LINE_BYTES - used - 2;
    /* Names come from clients: nothing of theirs may end a line or move a cursor. */
    for (i = 0; i < used; i++)
        if ((unsigned char)line[i] < 0x20 || line[i] == 0x7f)
            line[i] = '?';
    line[used++] = '\n';
    return used;
}

static bool write_line(tcd_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));
static bool write_line(tcd_level level, const char *format, ...)
{
    char line[LINE_BYTES];
    va_list args;
    size_t used;

    va_start(args, format);
    used = format_line(line, level, format, args);
    va_end(args);
    return put(line, used);
}

void tcd_log(tcd_level level, const char *format, ...)
{
    char line[LINE_BYTES];
    va_list args;
    size_t used;

    if (level > threshold)
        return;
    va_start(args, format);
    used = format_line(line, level, format, args);
    va_end(args);
    if (lost && write_line(TCD_WARNING, "%llu lines before this one are lost: standard error did not take them", lost))
        lost = 0;
    if (lost || !put(line, used))
        lost++;
}

bool tcd_rate_allow(struct tcd_rate *rate, unsigned limit, uint64_t now_ns, unsigned *suppressed)
{
    *suppressed = 0;
    if (now_ns - rate->window_ns >= RATE_WINDOW_NS) {
        *suppressed = rate->suppressed;
        *rate = (struct tcd_rate){.window_ns = now_ns};
    }
    if (rate->lines >= limit) {
        rate->suppressed++;
        return false;
    }
    rate->lines++;
    return true;
}
