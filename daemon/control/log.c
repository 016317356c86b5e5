#include "log.h"

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

void tcd_log(tcd_level level, const char *format, ...)
{
    char line[LINE_BYTES];
    size_t used, i;
    va_list args;
    int wrote;

    if (level > threshold)
        return;
    wrote = journal ? snprintf(line, sizeof(line), "<%d>", (int)level) : snprintf(line, sizeof(line), "%s: ", tcd_level_name(level));
    used = (size_t)wrote;
    va_start(args, format);
    wrote = vsnprintf(line + used, sizeof(line) - used - 1, format, args);
    va_end(args);
    if (wrote < 0)
        return;
    used += (size_t)wrote < sizeof(line) - used - 1 ? (size_t)wrote : sizeof(line) - used - 2;
    /* Names come from clients: nothing of theirs may end a line or move a cursor. */
    for (i = 0; i < used; i++)
        if ((unsigned char)line[i] < 0x20 || line[i] == 0x7f)
            line[i] = '?';
    line[used++] = '\n';
    /* One write, so that lines of the executors, which share the descriptor, do not mix with it. A full disk loses a line, no more. */
    if (write(STDERR_FILENO, line, used) < 0)
        return;
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
