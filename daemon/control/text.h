/*
 * Words for people: error answers and lists of ranks. Pure functions, control process.
 */
#ifndef TCD_CONTROL_TEXT_H
#define TCD_CONTROL_TEXT_H

#include <tcw/message.h>

#include <stdarg.h>

/* Sets everything of *error: the code, nobody to blame, the text. Returns the code. */
int tcd_error_set(struct tcw_error *error, int code, const char *format, ...) __attribute__((format(printf, 3, 4)));
int tcd_error_set_args(struct tcw_error *error, int code, const char *format, va_list args) __attribute__((format(printf, 3, 0)));

/* "rank 2", "ranks 0, 2 and 5", "no rank"; at most TCW_TEXT_BYTES with the NUL. Returns `text`. */
const char *tcd_ranks_text(uint64_t ranks, char *text, size_t bytes);

/* Zeroes what does not fit or is not printable: for names that go to tools. */
void tcd_text_clean(char *to, size_t bytes, const char *from);

#endif
