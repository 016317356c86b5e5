/*
 * Commands and what they are given. A command is one constant with everything `--help`, the usage and the argument parser need.
 * Owner: the session lives in main; commands are constants.
 */
#ifndef TCC_CTL_COMMAND_H
#define TCC_CTL_COMMAND_H

#include "out.h"

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>

/* Exit codes, documented in trtcollctl(1). */
typedef enum tcc_exit {
    TCC_EXIT_OK = 0,
    TCC_EXIT_FAILURE = 1,
    TCC_EXIT_USAGE = 2,
    TCC_EXIT_UNREACHABLE = 3, /* no daemon to talk to; for inspection: not even its stats */
    TCC_EXIT_DEGRADED = 4,
} tcc_exit;

enum { TCC_MAX_OPTIONS = 20, TCC_MAX_ARGUMENTS = 4 };

struct tcc_option {
    const char *name;  /* long name */
    const char *value; /* what its value is called, NULL: a switch */
    const char *help;
    char letter; /* 0: none */
};

struct tcc_session {
    struct tcc_out out;
    const struct tcc_command *command;
    char stats_path[256];
    char socket_path[108];
    char elsewhere[256]; /* where no daemon was found either: ", nor in DIR", for complaints */
    bool json;
    bool compact;         /* JSON on one line */
    bool batch;           /* repeat without taking over the terminal */
    double interval;      /* seconds between repetitions; 0: once */
    unsigned long frames; /* how often; 0: until interrupted */
    double timeout;       /* seconds that the daemon has for an answer */
    const cJSON *refusal; /* what the daemon said when it refused, for the error's JSON; borrowed while complaining */

    const char *options[TCC_MAX_OPTIONS]; /* values by position in command->options; "" for a given switch, NULL: not given */
    const char *arguments[TCC_MAX_ARGUMENTS];
    unsigned argument_count;
};

struct tcc_command {
    const char *name;
    const char *arguments;            /* for the usage; NULL: none */
    const char *help;                 /* one line */
    const char *details;              /* for --help of the command; NULL: none */
    const struct tcc_option *options; /* ends with a name of NULL; may be NULL */
    unsigned min_arguments, max_arguments;
    bool asks;           /* talks to the daemon instead of reading its stats; cannot be repeated */
    bool repeats_itself; /* takes care of --watch on its own */
    tcc_exit (*run)(struct tcc_session *session);
};

/* One in each cmd_*.c, in the order of the usage. */
extern const struct tcc_command tcc_command_status, tcc_command_health, tcc_command_groups, tcc_command_clients, tcc_command_memory,
    tcc_command_top, tcc_command_latency, tcc_command_dump, tcc_command_fields, tcc_command_explain, tcc_command_config, tcc_command_drain,
    tcc_command_undrain, tcc_command_reload, tcc_command_kick, tcc_command_log_level, tcc_command_doctor, tcc_command_tune;
extern const struct tcc_command *const tcc_commands[]; /* all of them; ends with NULL */

const struct tcc_command *tcc_command_find(const char *name);
void tcc_usage_print(FILE *file, const struct tcc_option *globals);
void tcc_command_usage_print(FILE *file, const struct tcc_command *command, const struct tcc_option *globals);

/* Value of the command's option `name`; NULL if it was not given. */
const char *tcc_option(const struct tcc_session *session, const char *name);
/* Whole number of option `name` into *value if it was given: false after a complaint if it is not between min and max. */
bool tcc_option_u64(struct tcc_session *session, const char *name, unsigned long long min, unsigned long long max,
                    unsigned long long *value);

/*
 * Reports a failure on stderr, with --json also as {"schema_version", "command", "error"} on stdout. Returns `code`, so that a command can
 * say `return tcc_complain(...)`.
 */
__attribute__((format(printf, 3, 4))) tcc_exit tcc_complain(struct tcc_session *session, tcc_exit code, const char *format, ...);
/* Complains about usage, pointing at --help. */
__attribute__((format(printf, 2, 3))) tcc_exit tcc_misuse(struct tcc_session *session, const char *format, ...);

struct tcc_snapshot;
/* Loads the session's stats segment: TCC_EXIT_OK and *snapshot, or the exit code after a complaint. */
tcc_exit tcc_session_snapshot(struct tcc_session *session, unsigned flags, struct tcc_snapshot *snapshot);
/* For text output: says on which state the output rests when the daemon does not run. */
void tcc_session_caution(const struct tcc_session *session, const struct tcc_snapshot *snapshot);

/* `--limit` of list commands; 50 by default, 0: all. */
#define TCC_OPTION_LIMIT                                                                                                                   \
    {                                                                                                                                      \
        "limit", "N", "show at most N lines of each list (default 50, 0: all); JSON is never cut", 'l'                                     \
    }
enum { TCC_LIMIT = 50 };

#endif
