/* config, drain, undrain, reload, kick, log-level: the daemon does it, its answer is shown. */
#include "admin.h"
#include "command.h"
#include "json.h"
#include "screen.h"
#include "snapshot.h"
#include "table.h"

#include <stdlib.h>
#include <string.h>

/* What a command prints when the daemon has done it. */
typedef void (*tell_function)(const struct tcc_session *session, const cJSON *answer);

/* Text or number of a member of the answer, "-" without one. */
static struct tcc_text member_text(const cJSON *answer, const char *name)
{
    const cJSON *member = cJSON_GetObjectItemCaseSensitive(answer, name);
    struct tcc_text text = {"-"};

    if (cJSON_IsNumber(member))
        snprintf(text.s, sizeof text.s, "%.15g", member->valuedouble);
    else if (cJSON_IsString(member))
        snprintf(text.s, sizeof text.s, "%s", member->valuestring);
    tcc_text_clean(text.s, true);
    return text;
}

static tcc_exit order(struct tcc_session *session, const struct tcw_admin *question, tell_function tell_answer)
{
    struct tcc_answer answer;
    tcc_exit code = tcc_admin_ask(session, question, &answer);

    if (code)
        return code;
    code = tcc_answer_check(session, &answer);
    if (!code && session->json)
        tcc_answer_json(session, &answer);
    else if (!code)
        tell_answer(session, answer.json);
    tcc_answer_free(&answer);
    return code;
}

/* The configuration is shown as it could be written: its JSON is the text form too. */
static tcc_exit config_run(struct tcc_session *session)
{
    struct tcc_answer answer;
    tcc_exit code = tcc_admin_ask(session, &(struct tcw_admin){.command = TCW_ADMIN_CONFIG}, &answer);

    if (code)
        return code;
    code = tcc_answer_check(session, &answer);
    if (!code && session->json) {
        tcc_answer_json(session, &answer);
    } else if (!code && answer.json) {
        tcc_json_print(answer.json, session->out.file);
    } else if (!code) {
        fprintf(session->out.file, "%s\n", answer.text);
    }
    tcc_answer_free(&answer);
    return code;
}

static const struct tcc_option drain_options[] = {
    {"wait", "SECONDS", "wait until the last client has left, so long at most", 0},
    {0},
};

static tcc_exit wait_for_clients(struct tcc_session *session, double seconds)
{
    uint64_t end = tcw_now_ns() + (uint64_t)(seconds * 1e9);

    for (;;) {
        struct tcc_snapshot snapshot;
        tcc_exit code = tcc_session_snapshot(session, 0, &snapshot);
        uint64_t clients;
        bool gone;

        if (code)
            return code;
        clients = tcc_or_zero(snapshot.daemon.clients);
        gone = snapshot.life == TCC_LIFE_GONE;
        tcc_snapshot_free(&snapshot);
        if (gone || !clients)
            return TCC_EXIT_OK;
        if (tcw_now_ns() >= end)
            return tcc_complain(session, TCC_EXIT_FAILURE, "drain: %llu client%s still attached after %g s (trtcollctl clients)",
                                (unsigned long long)clients, clients == 1 ? " is" : "s are", seconds);
        tcc_screen_wait(0.05);
    }
}

static void tell_drain(const struct tcc_session *session, const cJSON *answer)
{
    fprintf(session->out.file, "draining: no new clients are let in; %s attached\n", member_text(answer, "clients").s);
}

static tcc_exit drain_run(struct tcc_session *session)
{
    const char *wait = tcc_option(session, "wait");
    struct tcc_answer answer;
    double seconds = 0;
    tcc_exit code;

    if (wait && !tcc_parse_seconds(wait, &seconds))
        return tcc_misuse(session, "--wait: found \"%s\", allowed: seconds above 0, at most 86400", wait);
    code = tcc_admin_ask(session, &(struct tcw_admin){.command = TCW_ADMIN_DRAIN}, &answer);
    if (code)
        return code;
    code = tcc_answer_check(session, &answer);
    if (!code && !session->json)
        tell_drain(session, answer.json);
    if (!code && wait)
        code = wait_for_clients(session, seconds);
    if (!code && session->json) /* one object, whatever happens: not before the waiting is over */
        tcc_answer_json(session, &answer);
    tcc_answer_free(&answer);
    return code;
}

static void tell_undrain(const struct tcc_session *session, const cJSON *answer)
{
    fprintf(session->out.file, "new clients are let in again; %s attached\n", member_text(answer, "clients").s);
}

static tcc_exit undrain_run(struct tcc_session *session)
{
    return order(session, &(struct tcw_admin){.command = TCW_ADMIN_UNDRAIN}, tell_undrain);
}

/* Values may be whole groups or nodes, as JSON: a line each instead of a table. */
static void print_change(const struct tcc_session *session, const cJSON *change)
{
    static const char *const names[] = {"pointer", "from", "to", "cannot_change_while"};
    char *parts[4];

    for (size_t i = 0; i < 4; i++) {
        const cJSON *part = cJSON_GetObjectItemCaseSensitive(change, names[i]);

        parts[i] = tcc_must(strdup(cJSON_IsString(part) ? tcc_dash(part->valuestring) : ""));
        tcc_text_clean(parts[i], !session->out.utf8);
    }
    if (*parts[3])
        fprintf(session->out.file, "  %s: stays %s, not %s: it cannot change while %s\n", parts[0], parts[1], parts[2], parts[3]);
    else
        fprintf(session->out.file, "  %s: %s -> %s\n", parts[0], parts[1], parts[2]);
    for (size_t i = 0; i < 4; i++)
        free(parts[i]);
}

static void print_changes(const struct tcc_session *session, const char *title, tcc_style style, const cJSON *changes)
{
    if (!cJSON_IsArray(changes) || !changes->child)
        return;
    tcc_print(&session->out, style, "\n%s\n", title);
    for (const cJSON *change = changes->child; change; change = change->next)
        print_change(session, change);
}

static void tell_reload(const struct tcc_session *session, const cJSON *answer)
{
    const cJSON *applied = cJSON_GetObjectItemCaseSensitive(answer, "applied");
    const cJSON *refused = cJSON_GetObjectItemCaseSensitive(answer, "refused");
    int changes = cJSON_GetArraySize(applied), refusals = cJSON_GetArraySize(refused);

    if (!changes && !refusals)
        fputs("the configuration was read again; nothing differs\n", session->out.file);
    else
        fprintf(session->out.file, "the configuration was read again: %d change%s applied, %d refused\n", changes, changes == 1 ? "" : "s",
                refusals);
    print_changes(session, "applied", TCC_BOLD, applied);
    print_changes(session, "refused", TCC_WARN, refused);
}

static tcc_exit reload_run(struct tcc_session *session)
{
    return order(session, &(struct tcw_admin){.command = TCW_ADMIN_RELOAD}, tell_reload);
}

static void tell_kick(const struct tcc_session *session, const cJSON *answer)
{
    fprintf(session->out.file, "client %s (%s, pid %s) is out\n", member_text(answer, "client").s, member_text(answer, "name").s,
            member_text(answer, "pid").s);
}

static tcc_exit kick_run(struct tcc_session *session)
{
    struct tcw_admin question = {.command = TCW_ADMIN_KICK};

    if (!tcc_parse_u64(session->arguments[0], &question.value))
        return tcc_misuse(session, "kick: \"%s\" is no client id (trtcollctl clients lists them)", session->arguments[0]);
    return order(session, &question, tell_kick);
}

static void tell_log_level(const struct tcc_session *session, const cJSON *answer)
{
    fprintf(session->out.file, "the log level is %s now\n", member_text(answer, "log_level").s);
}

static tcc_exit log_level_run(struct tcc_session *session)
{
    static const char *const levels[] = {"err", "warning", "notice", "info", "debug"};
    struct tcw_admin question = {.command = TCW_ADMIN_LOG_LEVEL};

    for (unsigned i = 0; i < sizeof levels / sizeof levels[0]; i++) {
        if (strcmp(session->arguments[0], levels[i]) == 0)
            question.value = 3 + i; /* numbers as in syslog(3) */
    }
    if (!question.value)
        return tcc_misuse(session, "log-level: found \"%s\", allowed: err, warning, notice, info, debug", session->arguments[0]);
    return order(session, &question, tell_log_level);
}

const struct tcc_command tcc_command_config = {
    .name = "config",
    .help = "the configuration in effect",
    .asks = true,
    .run = config_run,
};

const struct tcc_command tcc_command_drain = {
    .name = "drain",
    .help = "let no new clients in",
    .details = "Attached clients go on; undrain takes it back.",
    .options = drain_options,
    .asks = true,
    .run = drain_run,
};

const struct tcc_command tcc_command_undrain = {
    .name = "undrain",
    .help = "let new clients in again",
    .asks = true,
    .run = undrain_run,
};

const struct tcc_command tcc_command_reload = {
    .name = "reload",
    .help = "read the configuration file again",
    .details = "The new configuration is validated whole; what may change while running is applied, the rest is refused, and\n"
               "each refusal says why. A file with errors changes nothing.",
    .asks = true,
    .run = reload_run,
};

const struct tcc_command tcc_command_kick = {
    .name = "kick",
    .arguments = "CLIENT",
    .help = "close a client's connection",
    .details = "CLIENT is an id as `trtcollctl clients` shows it. Its groups break with EABORTED and name it.",
    .min_arguments = 1,
    .max_arguments = 1,
    .asks = true,
    .run = kick_run,
};

const struct tcc_command tcc_command_log_level = {
    .name = "log-level",
    .arguments = "LEVEL",
    .help = "what the daemon logs: err warning notice info debug",
    .min_arguments = 1,
    .max_arguments = 1,
    .asks = true,
    .run = log_level_run,
};
