#include "out.h"

#include "text.h"

#include <langinfo.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

void tcc_out_init(struct tcc_out *out, FILE *file, bool no_color)
{
    const char *unwanted = getenv("NO_COLOR");
    const char *term = getenv("TERM");
    struct winsize size = {0};

    *out = (struct tcc_out){.file = file, .terminal = isatty(fileno(file)) == 1};
    out->utf8 = strcmp(nl_langinfo(CODESET), "UTF-8") == 0;
    out->color = out->terminal && !no_color && !(unwanted && *unwanted) && term && strcmp(term, "dumb") != 0;
    if (out->terminal)
        out->width = ioctl(fileno(file), TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

const char *tcc_style_on(const struct tcc_out *out, tcc_style style)
{
    static const char *const codes[] = {
        [TCC_PLAIN] = "",        [TCC_BOLD] = "\033[1m",  [TCC_DIM] = "\033[2m",
        [TCC_GOOD] = "\033[32m", [TCC_WARN] = "\033[33m", [TCC_BAD] = "\033[1;31m",
    };

    return out->color ? codes[style] : "";
}

const char *tcc_style_off(const struct tcc_out *out, tcc_style style)
{
    return out->color && style != TCC_PLAIN ? "\033[0m" : "";
}

void tcc_print(const struct tcc_out *out, tcc_style style, const char *format, ...)
{
    va_list args;

    fputs(tcc_style_on(out, style), out->file);
    va_start(args, format);
    vfprintf(out->file, format, args);
    va_end(args);
    fputs(tcc_style_off(out, style), out->file);
}

void tcc_print_wrapped(const struct tcc_out *out, tcc_style style, unsigned first, unsigned indent, const char *text)
{
    unsigned column = first;
    bool fresh = true;

    fputs(tcc_style_on(out, style), out->file);
    while (*text) {
        size_t length = strcspn(text, " ");
        unsigned width = tcc_text_width_n(text, length);

        if (!fresh && out->width && column + 1 + width > out->width) {
            fprintf(out->file, "\n%*s", (int)indent, "");
            column = indent;
            fresh = true;
        }
        if (!fresh) {
            fputc(' ', out->file);
            column++;
        }
        fwrite(text, 1, length, out->file);
        column += width;
        fresh = false;
        text += length;
        text += strspn(text, " ");
    }
    fprintf(out->file, "%s\n", tcc_style_off(out, style));
}
