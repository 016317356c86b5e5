/*
 * Is a text strict JSON (RFC 8259), and small and flat enough for a configuration? cJSON, which then reads the text, tolerates more and
 * does not say where an error is.
 * Owner: nobody, one function without state. Threads: any.
 */
#ifndef TCF_SRC_SYNTAX_H
#define TCF_SRC_SYNTAX_H

#include <stdbool.h>
#include <stddef.h>

enum {
    TCF_MAX_FILE_BYTES = 1 << 20,
    TCF_MAX_DEPTH = 16,        /* of nested objects and arrays */
    TCF_MAX_NUMBER_BYTES = 40, /* characters of one number */
};

struct tcf_syntax_error {
    unsigned line, column; /* from 1; columns count characters, not bytes */
    char text[160];        /* "found '}', allowed a member name in quotes" */
};

/* True, or false with *error filled. */
bool tcf_syntax_check(const char *text, size_t bytes, struct tcf_syntax_error *error);

#endif
