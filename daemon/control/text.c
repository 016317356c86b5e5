#include "text.h"

#include <tcw/member.h>

#include <stdio.h>
#include <string.h>

int tcd_error_set_args(struct tcw_error *error, int code, const char *format, va_list args)
{
    memset(error, 0, sizeof(*error));
    error->code = code;
    error->rank = TCW_NOBODY;
    vsnprintf(error->text, sizeof(error->text), format, args);
    return code;
}

int tcd_error_set(struct tcw_error *error, int code, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    tcd_error_set_args(error, code, format, args);
    va_end(args);
    return code;
}

const char *tcd_ranks_text(uint64_t ranks, char *text, size_t bytes)
{
    unsigned left = (unsigned)__builtin_popcountll(ranks);
    size_t used = 0;
    unsigned rank;

    if (!left) {
        snprintf(text, bytes, "no rank");
        return text;
    }
    used = (size_t)snprintf(text, bytes, left == 1 ? "rank" : "ranks");
    for (rank = 0; rank < 64 && used + 1 < bytes; rank++) {
        const char *before = " ";
        int wrote;

        if (!(ranks >> rank & 1))
            continue;
        if (used > strlen("ranks"))
            before = left == 1 ? " and " : ", ";
        wrote = snprintf(text + used, bytes - used, "%s%u", before, rank);
        if (wrote < 0 || (size_t)wrote >= bytes - used)
            break;
        used += (size_t)wrote;
        left--;
    }
    return text;
}

void tcd_text_clean(char *to, size_t bytes, const char *from)
{
    size_t i;

    tcw_text_set(to, bytes, from);
    for (i = 0; to[i]; i++)
        if ((unsigned char)to[i] < 0x20 || to[i] == 0x7f)
            to[i] = '?';
}
