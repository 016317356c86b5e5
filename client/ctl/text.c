#include "text.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <wchar.h>

static const struct tcc_text absent = {"-"};

/* Three significant digits, no decimals for whole values. */
static struct tcc_text scaled(double value, const char *unit)
{
    struct tcc_text text;
    int digits = value < 9.995 ? 2 : value < 99.95 ? 1 : 0;

    if (value == floor(value))
        digits = 0;
    snprintf(text.s, sizeof text.s, "%.*f%s%s", digits, value, *unit ? " " : "", unit);
    return text;
}

struct tcc_text tcc_number(uint64_t value)
{
    struct tcc_text text;

    if (value == TCC_ABSENT)
        return absent;
    snprintf(text.s, sizeof text.s, "%llu", (unsigned long long)value);
    return text;
}

struct tcc_text tcc_times(uint64_t value)
{
    struct tcc_text text = {"once"};

    if (value != 1)
        snprintf(text.s, sizeof text.s, "%llu times", (unsigned long long)value);
    return text;
}

static struct tcc_text decimal(double value)
{
    static const char *const units[] = {"", "k", "M", "G", "T", "P", "E"};
    unsigned unit = 0;

    /* four plain digits are as short as a scaled number, and exact */
    if (value < 9999.5)
        return scaled(value >= 99.95 ? floor(value + 0.5) : value, "");
    while (value >= 999.5 && unit + 1 < sizeof units / sizeof units[0]) {
        value /= 1000;
        unit++;
    }
    return scaled(value, units[unit]);
}

struct tcc_text tcc_count(uint64_t value)
{
    return value == TCC_ABSENT ? absent : decimal((double)value);
}

struct tcc_text tcc_rate(double per_second)
{
    return decimal(per_second);
}

static struct tcc_text binary(double value, const char *suffix)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    unsigned unit = 0;
    char name[8];

    while (value >= 1023.5 && unit + 1 < sizeof units / sizeof units[0]) {
        value /= 1024;
        unit++;
    }
    if (unit == 0)
        value = floor(value + 0.5);
    snprintf(name, sizeof name, "%s%s", units[unit], suffix);
    return scaled(value, name);
}

struct tcc_text tcc_bytes(uint64_t bytes)
{
    return bytes == TCC_ABSENT ? absent : binary((double)bytes, "");
}

struct tcc_text tcc_byte_rate(double per_second)
{
    return binary(per_second, "/s");
}

static struct tcc_text two_units(uint64_t major, const char *major_unit, uint64_t minor, const char *minor_unit)
{
    struct tcc_text text;

    if (minor)
        snprintf(text.s, sizeof text.s, "%u %s %u %s", (unsigned)major, major_unit, (unsigned)minor, minor_unit);
    else
        snprintf(text.s, sizeof text.s, "%u %s", (unsigned)major, major_unit);
    return text;
}

struct tcc_text tcc_ns(uint64_t ns)
{
    uint64_t seconds = ns / 1000000000;

    if (ns == TCC_ABSENT)
        return absent;
    if (ns < 1000)
        return scaled((double)ns, "ns");
    if (ns < 999500)
        return scaled((double)ns / 1e3, "us");
    if (ns < 999500000)
        return scaled((double)ns / 1e6, "ms");
    if (seconds < 60)
        return scaled((double)ns / 1e9, "s");
    if (seconds < 3600)
        return two_units(seconds / 60, "min", seconds % 60, "s");
    if (seconds < 86400)
        return two_units(seconds / 3600, "h", seconds / 60 % 60, "min");
    return two_units(seconds / 86400, "d", seconds / 3600 % 24, "h");
}

struct tcc_text tcc_percent(double fraction)
{
    struct tcc_text text;
    double percent = fraction * 100;

    if (percent > 0 && percent < 0.05)
        snprintf(text.s, sizeof text.s, "< 0.1 %%");
    else
        snprintf(text.s, sizeof text.s, "%.*f %%", percent > 0 && percent < 9.95 ? 1 : 0, percent);
    return text;
}

struct tcc_text tcc_time(uint64_t realtime_ns)
{
    struct tcc_text text;
    time_t seconds = (time_t)(realtime_ns / 1000000000);
    struct tm local;

    if (realtime_ns == TCC_ABSENT || !localtime_r(&seconds, &local) || !strftime(text.s, sizeof text.s, "%Y-%m-%d %H:%M:%S", &local))
        return absent;
    return text;
}

struct tcc_ranks tcc_ranks(uint64_t bits)
{
    struct tcc_ranks text = {""};
    size_t used = 0;

    for (unsigned rank = 0; rank < 64; rank++) {
        unsigned last = rank;
        char part[16];

        if (!(bits >> rank & 1))
            continue;
        while (last < 63 && bits >> (last + 1) & 1)
            last++;
        if (last == rank)
            snprintf(part, sizeof part, "%s%u", used ? ", " : "", rank);
        else
            snprintf(part, sizeof part, "%s%u%s%u", used ? ", " : "", rank, last == rank + 1 ? ", " : "-", last);
        if (used + strlen(part) + sizeof ", ..." > sizeof text.s) {
            snprintf(text.s + used, sizeof text.s - used, ", ...");
            return text;
        }
        used += (size_t)snprintf(text.s + used, sizeof text.s - used, "%s", part);
        rank = last;
    }
    if (!used)
        strcpy(text.s, "-");
    return text;
}

const char *tcc_plural(uint64_t count)
{
    return count == 1 ? "" : "s";
}

const char *tcc_dash(const char *text)
{
    return *text ? text : "-";
}

/* Length of the UTF-8 sequence at `text` and its code point; 0: invalid. Rejects overlong forms and surrogates. */
static unsigned utf8_decode(const unsigned char *text, uint32_t *code)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    unsigned length;

    if (text[0] < 0x80) {
        *code = text[0];
        return 1;
    }
    if ((text[0] & 0xe0) == 0xc0)
        length = 2;
    else if ((text[0] & 0xf0) == 0xe0)
        length = 3;
    else if ((text[0] & 0xf8) == 0xf0)
        length = 4;
    else
        return 0;
    *code = text[0] & (0x7fu >> length);
    for (unsigned i = 1; i < length; i++) {
        if ((text[i] & 0xc0) != 0x80)
            return 0; /* also stops at the terminating NUL */
        *code = *code << 6 | (text[i] & 0x3fu);
    }
    if (*code < least[length] || *code > 0x10ffff || (*code >= 0xd800 && *code < 0xe000))
        return 0;
    return length;
}

static bool dangerous(uint32_t code)
{
    return code < 0x20 || (code >= 0x7f && code < 0xa0) || (code >= 0x200b && code <= 0x200f) || (code >= 0x2028 && code <= 0x202e) ||
           (code >= 0x2060 && code <= 0x206f) || code == 0xfeff;
}

static void clean(char *text, bool ascii, bool lines)
{
    const unsigned char *from = (const unsigned char *)text;
    char *to = text;

    while (*from) {
        uint32_t code = 0;
        unsigned length = utf8_decode(from, &code);

        if (!length || (dangerous(code) && !(lines && code == '\n')) || (ascii && code > 0x7e)) {
            *to++ = '?';
            from += length ? length : 1;
        } else {
            memmove(to, from, length);
            to += length;
            from += length;
        }
    }
    *to = 0;
}

void tcc_text_clean(char *text, bool ascii)
{
    clean(text, ascii, false);
}

void tcc_text_clean_lines(char *text, bool ascii)
{
    clean(text, ascii, true);
}

unsigned tcc_text_width_n(const char *text, size_t bytes)
{
    const unsigned char *at = (const unsigned char *)text;
    const unsigned char *end = at + bytes;
    unsigned width = 0;

    while (at < end && *at) {
        uint32_t code = 0;
        unsigned length = utf8_decode(at, &code);
        int columns = length > 1 ? wcwidth((wchar_t)code) : 1;

        width += columns > 0 ? (unsigned)columns : columns < 0;
        at += length ? length : 1;
    }
    return width;
}

unsigned tcc_text_width(const char *text)
{
    return tcc_text_width_n(text, strlen(text));
}

bool tcc_parse_u64(const char *text, uint64_t *value)
{
    char *end;
    unsigned long long parsed;

    if (*text < '0' || *text > '9')
        return false;
    errno = 0;
    parsed = strtoull(text, &end, 10);
    if (errno || *end)
        return false;
    *value = parsed;
    return true;
}

bool tcc_parse_seconds(const char *text, double *value)
{
    char *end;
    double parsed;

    if ((*text < '0' || *text > '9') && *text != '.')
        return false;
    parsed = strtod(text, &end);
    if (end == text || *end || !(parsed > 0) || parsed > 86400)
        return false;
    *value = parsed;
    return true;
}
