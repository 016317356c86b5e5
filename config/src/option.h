/*
 * The option table of tcf/options.def as data, and what every option needs: its default, reading it from JSON, comparing, printing.
 * Owner: nobody, constants. Threads: any.
 */
#ifndef TCF_SRC_OPTION_H
#define TCF_SRC_OPTION_H

#include "value.h"

typedef enum tcf_option_type {
    TCF_OPTION_U64,
    TCF_OPTION_POWER,
    TCF_OPTION_MODE,
    TCF_OPTION_BOOL,
    TCF_OPTION_STRING,
    TCF_OPTION_CHOICE
} tcf_option_type;

struct tcf_option {
    tcf_option_type type;
    const char *path;    /* dotted */
    size_t offset;       /* in struct tcf_options */
    size_t bytes;        /* STRING, CHOICE: of the member */
    uint64_t min, max;   /* U64, POWER, MODE */
    uint64_t value;      /* default; BOOL: 0 or 1 */
    const char *text;    /* default of STRING, CHOICE */
    const char *choices; /* CHOICE: separated by '|' */
    const char *unit;
    bool reloadable;
    const char *help;
};

enum { TCF_OPTION_TEXT_BYTES = 320 };

extern const struct tcf_option tcf_option_table[];
extern const size_t tcf_option_count;

void tcf_option_set_default(const struct tcf_option *option, struct tcf_options *options);
/* Sets it from `value`, or complains. */
void tcf_option_read(const struct tcf_option *option, const struct tcf_value *value, struct tcf_options *options,
                     struct tcf_issues *issues);
bool tcf_option_equal(const struct tcf_option *option, const struct tcf_options *one, const struct tcf_options *other);
/* As JSON text without quotes: 256, true, 0660, info. */
void tcf_option_format(const struct tcf_option *option, const struct tcf_options *options, char out[TCF_OPTION_TEXT_BYTES]);

uint64_t tcf_option_number(const struct tcf_option *option, const struct tcf_options *options);  /* U64, POWER, MODE, BOOL */
const char *tcf_option_text(const struct tcf_option *option, const struct tcf_options *options); /* STRING, CHOICE */

/* An integer in min..max; complains and returns false otherwise. `unit` may be empty. */
bool tcf_read_integer(const struct tcf_value *value, uint64_t min, uint64_t max, const char *unit, uint64_t *number,
                      struct tcf_issues *issues);
/* Is `word` one of the words of `choices` ("one|another")? */
bool tcf_is_choice(const char *choices, const char *word);

#endif
