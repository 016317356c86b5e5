#include "syntax.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

struct scanner {
    const char *text;
    size_t bytes, at;
    struct tcf_syntax_error *error;
};

static void describe_found(const struct scanner *scanner, char *out, size_t size)
{
    if (scanner->at >= scanner->bytes) {
        snprintf(out, size, "the end of the text");
        return;
    }
    unsigned char byte = (unsigned char)scanner->text[scanner->at];
    if (byte > ' ' && byte < 0x7f)
        snprintf(out, size, "'%c'", byte);
    else if (byte == '\n')
        snprintf(out, size, "the end of the line");
    else
        snprintf(out, size, "byte 0x%02x", byte);
}

/* Notes the first error, at the present position. Always false, so that callers can return it. */
static bool fail(struct scanner *scanner, const char *allowed)
{
    struct tcf_syntax_error *error = scanner->error;
    char found[32];
    describe_found(scanner, found, sizeof(found));
    snprintf(error->text, sizeof(error->text), "found %s, allowed %s", found, allowed);
    error->line = 1;
    error->column = 1;
    for (size_t i = 0; i < scanner->at && i < scanner->bytes; i++) {
        unsigned char byte = (unsigned char)scanner->text[i];
        if (byte == '\n') {
            error->line++;
            error->column = 1;
        } else if ((byte & 0xc0) != 0x80) {
            error->column++;
        }
    }
    return false;
}

static int peek(const struct scanner *scanner)
{
    return scanner->at < scanner->bytes ? (unsigned char)scanner->text[scanner->at] : -1;
}

static bool take(struct scanner *scanner, char wanted)
{
    if (peek(scanner) != (unsigned char)wanted)
        return false;
    scanner->at++;
    return true;
}

static void skip_space(struct scanner *scanner)
{
    while (scanner->at < scanner->bytes && memchr(" \t\r\n", scanner->text[scanner->at], 4))
        scanner->at++;
}

static bool scan_hex4(struct scanner *scanner, unsigned *value)
{
    *value = 0;
    for (int i = 0; i < 4; i++) {
        int c = peek(scanner);
        unsigned digit;
        if (c >= '0' && c <= '9')
            digit = (unsigned)c - '0';
        else if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f')
            digit = (unsigned)(c | 0x20) - 'a' + 10;
        else
            return fail(scanner, "four hexadecimal digits after \\u");
        *value = 16 * *value + digit;
        scanner->at++;
    }
    return true;
}

static bool scan_escape(struct scanner *scanner)
{
    int c = peek(scanner);
    if (c < 0 || c == 0 || !strchr("\"\\/bfnrtu", c))
        return fail(scanner, "one of \" \\ / b f n r t u after a backslash");
    scanner->at++;
    if (c != 'u')
        return true;
    unsigned high, low;
    size_t start = scanner->at;
    if (!scan_hex4(scanner, &high))
        return false;
    if (high >= 0xd800 && high < 0xdc00) {
        if (!take(scanner, '\\') || !take(scanner, 'u'))
            return fail(scanner, "the second half of a surrogate pair");
        if (!scan_hex4(scanner, &low))
            return false;
        if (low >= 0xdc00 && low < 0xe000)
            return true;
    } else if (high != 0 && (high < 0xdc00 || high >= 0xe000)) {
        return true;
    }
    scanner->at = start;
    return fail(scanner, "the code of a character other than NUL");
}

/* One character outside ASCII: no overlong forms, no surrogates, nothing past U+10FFFF. */
static bool scan_utf8(struct scanner *scanner)
{
    uint32_t code = (uint32_t)peek(scanner);
    unsigned more = code >= 0xf0 && code < 0xf5 ? 3 : code >= 0xe0 && code < 0xf0 ? 2 : code >= 0xc2 && code < 0xe0 ? 1 : 0;
    if (more == 0)
        return fail(scanner, "UTF-8 text");
    code &= 0x3fu >> more;
    for (unsigned i = 1; i <= more; i++) {
        size_t at = scanner->at + i;
        if (at >= scanner->bytes || ((unsigned char)scanner->text[at] & 0xc0) != 0x80)
            return fail(scanner, "UTF-8 text");
        code = code << 6 | ((unsigned char)scanner->text[at] & 0x3fu);
    }
    static const uint32_t least[] = {0, 0x80, 0x800, 0x10000};
    if (code < least[more] || code > 0x10ffff || (code >= 0xd800 && code < 0xe000))
        return fail(scanner, "UTF-8 text");
    scanner->at += more + 1;
    return true;
}

static bool scan_string(struct scanner *scanner, const char *what)
{
    if (!take(scanner, '"'))
        return fail(scanner, what);
    for (;;) {
        int c = peek(scanner);
        if (c < 0x20 || c == 0x7f)
            return fail(scanner, "a closing quote (control characters need an escape)");
        if (c >= 0x80) {
            if (!scan_utf8(scanner))
                return false;
            continue;
        }
        scanner->at++;
        if (c == '"')
            return true;
        if (c == '\\' && !scan_escape(scanner))
            return false;
    }
}

static bool scan_digits(struct scanner *scanner)
{
    if (peek(scanner) < '0' || peek(scanner) > '9')
        return fail(scanner, "a digit");
    while (peek(scanner) >= '0' && peek(scanner) <= '9')
        scanner->at++;
    return true;
}

static bool scan_number(struct scanner *scanner)
{
    size_t start = scanner->at;
    take(scanner, '-');
    if (!take(scanner, '0') && !scan_digits(scanner))
        return false;
    if (take(scanner, '.') && !scan_digits(scanner))
        return false;
    if (take(scanner, 'e') || take(scanner, 'E')) {
        if (!take(scanner, '+'))
            take(scanner, '-');
        if (!scan_digits(scanner))
            return false;
    }
    if (scanner->at - start > TCF_MAX_NUMBER_BYTES) {
        scanner->at = start;
        return fail(scanner, "a number of at most 40 characters");
    }
    return true;
}

static bool scan_value(struct scanner *scanner, unsigned depth);

static bool scan_member(struct scanner *scanner, unsigned depth)
{
    skip_space(scanner);
    if (!scan_string(scanner, "a member name in quotes"))
        return false;
    skip_space(scanner);
    return take(scanner, ':') ? scan_value(scanner, depth) : fail(scanner, "':' after a member name");
}

/* What is left of an object or an array, its opening bracket taken. */
static bool scan_container(struct scanner *scanner, bool object, unsigned depth)
{
    char closing = object ? '}' : ']';
    if (depth > TCF_MAX_DEPTH) {
        scanner->at--;
        return fail(scanner, "at most 16 objects or arrays inside each other");
    }
    skip_space(scanner);
    if (take(scanner, closing))
        return true;
    for (;;) {
        if (!(object ? scan_member(scanner, depth) : scan_value(scanner, depth)))
            return false;
        skip_space(scanner);
        if (take(scanner, closing))
            return true;
        if (!take(scanner, ','))
            return fail(scanner, object ? "',' or '}'" : "',' or ']'");
    }
}

static bool scan_value(struct scanner *scanner, unsigned depth)
{
    skip_space(scanner);
    int c = peek(scanner);
    if (c == '"')
        return scan_string(scanner, "a string");
    if (c == '-' || (c >= '0' && c <= '9'))
        return scan_number(scanner);
    if (c == '{' || c == '[') {
        scanner->at++;
        return scan_container(scanner, c == '{', depth + 1);
    }
    static const char *const words[] = {"true", "false", "null"};
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        size_t length = strlen(words[i]);
        if (scanner->bytes - scanner->at >= length && memcmp(scanner->text + scanner->at, words[i], length) == 0) {
            scanner->at += length;
            return true;
        }
    }
    return fail(scanner, "a JSON value");
}

bool tcf_syntax_check(const char *text, size_t bytes, struct tcf_syntax_error *error)
{
    struct scanner scanner = {.text = text, .bytes = bytes, .error = error};
    if (!scan_value(&scanner, 0))
        return false;
    skip_space(&scanner);
    if (scanner.at < bytes)
        return fail(&scanner, "nothing after the first JSON value");
    return true;
}
