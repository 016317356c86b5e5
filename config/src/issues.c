#include "issues.h"

#include <stdarg.h>
#include <stdlib.h>

enum { FIRST_CAPACITY = 8 };

/* Keys and texts of the file end up in logs and on terminals: no control characters. */
static void make_printable(char *text)
{
    for (; *text; text++) {
        if ((unsigned char)*text < 0x20 || *text == 0x7f)
            *text = '?';
    }
}

bool tcf_issues_reserve(struct tcf_issues *issues)
{
    *issues = (struct tcf_issues){.items = malloc(FIRST_CAPACITY * sizeof(struct tcf_issue)), .capacity = FIRST_CAPACITY};
    return issues->items != NULL;
}

static struct tcf_issue *issue_append(struct tcf_issues *issues)
{
    if (issues->count == issues->capacity) {
        uint32_t capacity = 2 * issues->capacity;
        struct tcf_issue *items = realloc(issues->items, capacity * sizeof(*items));
        if (!items)
            return NULL;
        issues->items = items;
        issues->capacity = capacity;
    }
    return &issues->items[issues->count++];
}

void tcf_issue_add(struct tcf_issues *issues, const char *file, const char *pointer, const char *format, ...)
{
    if (issues->count > TCF_MAX_ISSUES)
        return;
    bool full = issues->count == TCF_MAX_ISSUES;
    struct tcf_issue *issue = issue_append(issues);
    if (!issue)
        return;
    snprintf(issue->file, sizeof(issue->file), "%s", file);
    snprintf(issue->pointer, sizeof(issue->pointer), "%s", full ? "" : pointer);
    if (full) {
        snprintf(issue->text, sizeof(issue->text), "more than %d errors; the rest is not shown", TCF_MAX_ISSUES);
        return;
    }
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(issue->text, sizeof(issue->text), format, arguments);
    va_end(arguments);
    make_printable(issue->pointer);
    make_printable(issue->text);
}

void tcf_issues_free(struct tcf_issues *issues)
{
    if (!issues)
        return;
    free(issues->items);
    *issues = (struct tcf_issues){0};
}

void tcf_issues_print(const struct tcf_issues *issues, FILE *to)
{
    for (uint32_t i = 0; i < issues->count; i++) {
        const struct tcf_issue *issue = &issues->items[i];
        if (issue->pointer[0])
            fprintf(to, "%s: %s: %s\n", issue->file, issue->pointer, issue->text);
        else
            fprintf(to, "%s: %s\n", issue->file, issue->text);
    }
}
