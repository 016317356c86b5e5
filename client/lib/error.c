#include "error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static _Thread_local struct trtcoll_error latest = TRTCOLL_ERROR_INIT;

static void start(int code)
{
    memset(&latest, 0, sizeof(latest));
    latest.size = sizeof(latest);
    latest.code = code;
    latest.rank = TRTCOLL_RANK_NONE;
}

int tcc_fail(int code, const char *format, ...)
{
    va_list args;

    start(code);
    va_start(args, format);
    vsnprintf(latest.text, sizeof(latest.text), format, args);
    va_end(args);
    return code;
}

int tcc_fail_plainly(int code, const char *text)
{
    start(code);
    strncpy(latest.text, text, sizeof(latest.text) - 1);
    return code;
}

struct trtcoll_error *tcc_error(void)
{
    return &latest;
}

int tcc_fail_wire(const struct tcw_error *error, const char *group)
{
    _Static_assert(sizeof(latest.text) == sizeof(error->text) && sizeof(latest.field) == sizeof(error->field), "copied whole");

    start(error->code);
    latest.rank = error->rank;
    latest.pid = error->pid;
    latest.signal = error->signal;
    latest.step = error->step;
    latest.mine = error->mine;
    latest.theirs = error->theirs;
    tcw_text_set(latest.group, sizeof(latest.group), group ? group : "");
    tcw_text_set(latest.field, sizeof(latest.field), error->field);
    tcw_text_set(latest.text, sizeof(latest.text), error->text[0] ? error->text : trtcoll_error_text(error->code));
    return error->code;
}

int tcc_fail_code(int code, const char *what)
{
    return tcc_fail(code, "%s: %s", what, trtcoll_error_text(code));
}

int trtcoll_last_error(struct trtcoll_error *error)
{
    uint32_t size = error ? error->size : 0;

    /* An out structure of unknown size is left alone; the code still answers. */
    if (size < sizeof(size))
        return latest.code;
    memcpy(error, &latest, size < sizeof(latest) ? size : sizeof(latest));
    error->size = size;
    return latest.code;
}
