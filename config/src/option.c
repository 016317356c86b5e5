#include "option.h"

#include "issues.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define MEMBER(member) offsetof(struct tcf_options, member), sizeof(((struct tcf_options *)0)->member)

const struct tcf_option tcf_option_table[] = {
#define TCF_U64(member, path, min, max, def, unit, reload, help)                                                                           \
    {TCF_OPTION_U64, path, MEMBER(member), min, max, def, NULL, NULL, unit, reload, help},
#define TCF_POWER(member, path, min, max, def, unit, reload, help)                                                                         \
    {TCF_OPTION_POWER, path, MEMBER(member), min, max, def, NULL, NULL, unit, reload, help},
#define TCF_MODE(member, path, def, reload, help)          {TCF_OPTION_MODE, path, MEMBER(member), 0, 0777, def, NULL, NULL, "", reload, help},
#define TCF_BOOL(member, path, def, reload, help)          {TCF_OPTION_BOOL, path, MEMBER(member), 0, 1, def, NULL, NULL, "", reload, help},
#define TCF_STRING(member, path, bytes, def, reload, help) {TCF_OPTION_STRING, path, MEMBER(member), 0, 0, 0, def, NULL, "", reload, help},
#define TCF_CHOICE(member, path, bytes, choices, def, reload, help)                                                                        \
    {TCF_OPTION_CHOICE, path, MEMBER(member), 0, 0, 0, def, choices, "", reload, help},
#include <tcf/options.def>
#undef TCF_U64
#undef TCF_POWER
#undef TCF_MODE
#undef TCF_BOOL
#undef TCF_STRING
#undef TCF_CHOICE
};
const size_t tcf_option_count = sizeof(tcf_option_table) / sizeof(tcf_option_table[0]);

static void *member_of(const struct tcf_option *option, struct tcf_options *options)
{
    return (char *)options + option->offset;
}

static const void *member_of_const(const struct tcf_option *option, const struct tcf_options *options)
{
    return (const char *)options + option->offset;
}

static void set_number(const struct tcf_option *option, struct tcf_options *options, uint64_t number)
{
    if (option->type == TCF_OPTION_BOOL)
        *(bool *)member_of(option, options) = number != 0;
    else
        *(uint64_t *)member_of(option, options) = number;
}

static void set_text(const struct tcf_option *option, struct tcf_options *options, const char *text)
{
    snprintf(member_of(option, options), option->bytes, "%s", text);
}

uint64_t tcf_option_number(const struct tcf_option *option, const struct tcf_options *options)
{
    const void *member = member_of_const(option, options);
    return option->type == TCF_OPTION_BOOL ? *(const bool *)member : *(const uint64_t *)member;
}

const char *tcf_option_text(const struct tcf_option *option, const struct tcf_options *options)
{
    return member_of_const(option, options);
}

static bool is_text(const struct tcf_option *option)
{
    return option->type == TCF_OPTION_STRING || option->type == TCF_OPTION_CHOICE;
}

void tcf_option_set_default(const struct tcf_option *option, struct tcf_options *options)
{
    if (is_text(option))
        set_text(option, options, option->text);
    else
        set_number(option, options, option->value);
}

bool tcf_option_equal(const struct tcf_option *option, const struct tcf_options *one, const struct tcf_options *other)
{
    if (is_text(option))
        return strcmp(tcf_option_text(option, one), tcf_option_text(option, other)) == 0;
    return tcf_option_number(option, one) == tcf_option_number(option, other);
}

void tcf_option_format(const struct tcf_option *option, const struct tcf_options *options, char out[TCF_OPTION_TEXT_BYTES])
{
    if (is_text(option))
        snprintf(out, TCF_OPTION_TEXT_BYTES, "%s", tcf_option_text(option, options));
    else if (option->type == TCF_OPTION_BOOL)
        snprintf(out, TCF_OPTION_TEXT_BYTES, "%s", tcf_option_number(option, options) ? "true" : "false");
    else
        snprintf(out, TCF_OPTION_TEXT_BYTES, option->type == TCF_OPTION_MODE ? "%04" PRIo64 : "%" PRIu64,
                 tcf_option_number(option, options));
}

static bool is_integer(const struct tcf_value *value, uint64_t min, uint64_t max, uint64_t *number)
{
    /* Every range ends far below 2^53, so the double holds each allowed value exactly. */
    double read = value->number;
    if (value->kind != TCF_NUMBER || read < (double)min || read > (double)max || read != (double)(uint64_t)read)
        return false;
    *number = (uint64_t)read;
    return true;
}

bool tcf_read_integer(const struct tcf_value *value, uint64_t min, uint64_t max, const char *unit, uint64_t *number,
                      struct tcf_issues *issues)
{
    if (is_integer(value, min, max, number))
        return true;
    tcf_value_reject(value, issues, "an integer from %" PRIu64 " to %" PRIu64 "%s%s", min, max, unit[0] ? " " : "", unit);
    return false;
}

bool tcf_is_choice(const char *choices, const char *word)
{
    size_t length = strlen(word);
    for (;;) {
        size_t choice = strcspn(choices, "|");
        if (choice == length && memcmp(choices, word, length) == 0)
            return true;
        if (!choices[choice])
            return false;
        choices += choice + 1;
    }
}

static void read_power(const struct tcf_option *option, const struct tcf_value *value, struct tcf_options *options,
                       struct tcf_issues *issues)
{
    uint64_t number;
    if (!is_integer(value, option->min, option->max, &number) || (number & (number - 1)) != 0)
        tcf_value_reject(value, issues, "a power of two from %" PRIu64 " to %" PRIu64 " %s", option->min, option->max, option->unit);
    else
        set_number(option, options, number);
}

static void read_mode(const struct tcf_option *option, const struct tcf_value *value, struct tcf_options *options,
                      struct tcf_issues *issues)
{
    const char *text = value->kind == TCF_TEXT ? value->text : "";
    size_t length = strlen(text);
    if (length < 3 || length > 4 || strspn(text, "01234567") != length || (length == 4 && text[0] != '0'))
        tcf_value_reject(value, issues, "a string of octal digits from \"0000\" to \"0777\"");
    else
        set_number(option, options, strtoull(text, NULL, 8));
}

static void read_text(const struct tcf_option *option, const struct tcf_value *value, struct tcf_options *options,
                      struct tcf_issues *issues)
{
    if (option->type == TCF_OPTION_CHOICE) {
        if (value->kind != TCF_TEXT || !tcf_is_choice(option->choices, value->text))
            tcf_value_reject(value, issues, "one of %s", option->choices);
        else
            set_text(option, options, value->text);
    } else if (value->kind != TCF_TEXT || strlen(value->text) >= option->bytes) {
        tcf_value_reject(value, issues, "a string of at most %zu bytes", option->bytes - 1);
    } else {
        set_text(option, options, value->text);
    }
}

void tcf_option_read(const struct tcf_option *option, const struct tcf_value *value, struct tcf_options *options, struct tcf_issues *issues)
{
    uint64_t number;
    switch (option->type) {
    case TCF_OPTION_U64:
        if (tcf_read_integer(value, option->min, option->max, option->unit, &number, issues))
            set_number(option, options, number);
        break;
    case TCF_OPTION_POWER:
        read_power(option, value, options, issues);
        break;
    case TCF_OPTION_MODE:
        read_mode(option, value, options, issues);
        break;
    case TCF_OPTION_BOOL:
        if (value->kind == TCF_TRUTH)
            set_number(option, options, value->truth);
        else
            tcf_value_reject(value, issues, "true or false");
        break;
    case TCF_OPTION_STRING:
    case TCF_OPTION_CHOICE:
        read_text(option, value, options, issues);
        break;
    }
}
