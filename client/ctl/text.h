/*
 * Text for people: units, ranges of ranks, and the cleaning of text that clients chose. Pure functions; results are values, so
 * `tcc_bytes(n).s` lives until the end of the full expression and needs no freeing.
 */
#ifndef TCC_CTL_TEXT_H
#define TCC_CTL_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A number that the stats segment does not have (an older daemon); printed as "-", null in JSON. */
#define TCC_ABSENT UINT64_MAX
static inline uint64_t tcc_or_zero(uint64_t value)
{
    return value == TCC_ABSENT ? 0 : value;
}

struct tcc_text {
    char s[40];
};

struct tcc_text tcc_number(uint64_t value);       /* 1234 */
struct tcc_text tcc_times(uint64_t value);        /* once, 3 times */
struct tcc_text tcc_count(uint64_t value);        /* 9999, 12.3 k, 1.23 M */
struct tcc_text tcc_rate(double per_second);      /* 0.25, 3.5, 842, 12.3 k */
struct tcc_text tcc_bytes(uint64_t bytes);        /* 512 B, 8 KiB, 1.25 MiB */
struct tcc_text tcc_byte_rate(double per_second); /* 1.25 GiB/s */
struct tcc_text tcc_ns(uint64_t ns);              /* 250 ns, 1.25 us, 12.5 ms, 3.2 s, 2 min 5 s, 3 h 12 min, 4 d 3 h */
struct tcc_text tcc_percent(double fraction);     /* 12 %, 0.4 % */
struct tcc_text tcc_time(uint64_t realtime_ns);   /* 2026-01-31 12:34:56, local */

/* "0-3, 5, 7-8" of the set bits; as many as fit, then "...". */
struct tcc_ranks {
    char s[96];
};
struct tcc_ranks tcc_ranks(uint64_t bits);

const char *tcc_plural(uint64_t count); /* "s" unless it is one */
/* `text`, or "-" if it is empty. */
const char *tcc_dash(const char *text);

/*
 * Cleans text in place for a terminal and for JSON: control characters, bidirectional overrides and invalid UTF-8 become '?'. With `ascii`
 * everything outside ASCII does.
 */
void tcc_text_clean(char *text, bool ascii);
/* The same, but keeps line ends. */
void tcc_text_clean_lines(char *text, bool ascii);

/* Columns that text takes on a terminal. */
unsigned tcc_text_width(const char *text);
unsigned tcc_text_width_n(const char *text, size_t bytes);

/* Whole decimal number without sign or rest: true and *value. */
bool tcc_parse_u64(const char *text, uint64_t *value);
/* Positive decimal number of seconds, at most a day. */
bool tcc_parse_seconds(const char *text, double *value);

#endif
