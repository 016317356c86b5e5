/* Running trtcollctl and judging what it printed; for the tests named test_ctl*.c, each of which has one of these. */
#ifndef PROC_CTL_CASE_H
#define PROC_CTL_CASE_H

#include "harness.h"

#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

enum { OUTPUT = 1 << 17 };
static char output[OUTPUT];

enum { EXIT_OK = 0, EXIT_FAILED = 1, EXIT_UNREACHABLE = 3, EXIT_DEGRADED = 4 };

/* Runs a shell command with $CTL and $RUN set; its output is in `output`. */
static inline int shell(const struct proc_daemon *daemon, const char *command)
{
    char ctl[512], run[128];
    const char *argv[] = {"/bin/sh", "-c", command, NULL};
    const char *env[] = {ctl, run, "LC_ALL=C.UTF-8", "TERM=xterm", NULL};

    snprintf(ctl, sizeof ctl, "CTL=%s", proc_ctl_path());
    snprintf(run, sizeof run, "RUN=%s", daemon->runtime);
    int status = proc_command(argv, env, PROC_PATIENCE_MS, output, sizeof output);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static inline void ctl(const struct proc_daemon *daemon, const char *arguments, int code)
{
    char command[512];

    snprintf(command, sizeof command, "\"$CTL\" --runtime-dir \"$RUN\" %s", arguments);
    int found = shell(daemon, command);
    if (found != code)
        fail_msg("trtcollctl %s: exit code %d, expected %d; it printed:\n%s", arguments, found, code, output);
    assert_null(strchr(output, '\033')); /* no colour: the output is a pipe */
}

static inline void shows(const char *part)
{
    if (!strstr(output, part))
        fail_msg("\"%s\" is not in:\n%s", part, output);
}

/* The command's JSON is valid, of our schema, and the Python expression about it, `d`, holds. */
static inline void json(const struct proc_daemon *daemon, const char *arguments, const char *expression)
{
    char command[1024];

    snprintf(command, sizeof command,
             "\"$CTL\" --runtime-dir \"$RUN\" --json %s | python3 -c '\n"
             "import json, sys\n"
             "d = json.load(sys.stdin)\n"
             "assert d[\"schema_version\"] == 1 and d[\"command\"] == \"%.*s\", d\n"
             "assert %s, json.dumps(d, indent=1)\n'",
             arguments, (int)strcspn(arguments, " "), arguments, expression);
    if (shell(daemon, command) != 0)
        fail_msg("trtcollctl --json %s: %s does not hold:\n%s", arguments, expression, output);
}

/* Repeats a command until its output has the part: for what the daemon publishes some ten times a second. */
static inline void until(const struct proc_daemon *daemon, const char *arguments, int code, const char *part)
{
    uint64_t end = proc_now_ns() + PROC_PATIENCE_MS * 1000000ull;
    char command[512];
    int found;

    snprintf(command, sizeof command, "\"$CTL\" --runtime-dir \"$RUN\" %s", arguments);
    do {
        found = shell(daemon, command);
        if (found == code && strstr(output, part))
            return;
    } while (proc_now_ns() < end);
    fail_msg("trtcollctl %s: exit code %d, expected %d with \"%s\"; at last it printed:\n%s", arguments, found, code, part, output);
}

#endif
