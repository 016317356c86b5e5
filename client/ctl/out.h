/*
 * Where and how text is printed: a stream, whether colour and UTF-8 are wanted, and the width of the terminal.
 * Owner: the session, which fills it once; a frame of a repeated command swaps the stream. Threads: the tool has one.
 */
#ifndef TCC_CTL_OUT_H
#define TCC_CTL_OUT_H

#include <stdbool.h>
#include <stdio.h>

typedef enum tcc_style { TCC_PLAIN, TCC_BOLD, TCC_DIM, TCC_GOOD, TCC_WARN, TCC_BAD } tcc_style;

struct tcc_out {
    FILE *file;
    bool color;
    bool utf8;
    bool terminal;
    unsigned width; /* columns; 0: unlimited, not a terminal */
};

/* Looks at `file`, the locale, NO_COLOR and TERM. Call setlocale before. */
void tcc_out_init(struct tcc_out *out, FILE *file, bool no_color);

/* Escape sequences around styled text; "" without colour or for TCC_PLAIN. */
const char *tcc_style_on(const struct tcc_out *out, tcc_style style);
const char *tcc_style_off(const struct tcc_out *out, tcc_style style);

__attribute__((format(printf, 3, 4))) void tcc_print(const struct tcc_out *out, tcc_style style, const char *format, ...);

/* Prints words of `text`, wrapped at the terminal's width, `first` columns being used already and later lines indented by `indent`. */
void tcc_print_wrapped(const struct tcc_out *out, tcc_style style, unsigned first, unsigned indent, const char *text);

#endif
