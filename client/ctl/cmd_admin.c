/* config, drain, undrain, reload, kick, log-level: the daemon does it, its answer is shown. */
#include "admin.h"
#include "command.h"
#include "json.h"
#include "render.h"
#include "screen.h"
#include "snapshot.h"
#include "table.h"

#include <string.h>

/* What the daemon said, or `otherwise` if it said nothing. */
static void show(struct tcc_session *session, const struct tcc_answer *answer, const char *otherwise)
{
    if (session->json)
        tcc_answer_json(session, answer);
    else if (answer->json && (cJSON_IsObject(answer->json) || cJSON_IsArray(answer->json)) && answer->json->child)
        tcc_render(answer->json, &session->out, 0);
    else if (!answer->json && *answer->text)
        fprintf(session->out.file, "%s%s", answer->text, answer->text[strlen(answer->text) - 1] == '\n' ? "" : "\n");
    else
        fprintf(session->out.file, "%s\n", otherwise);
}

static tcc_exit order(struct tcc_session *session, const struct tcw_admin *question, const char *otherwise)
{
    struct tcc_answer answer;
    tcc_exit code = tcc_admin_ask(session, question, &answer);

    if (code)
        return code;
    if (!answer.json)
        tcc_text_clean_lines(answer.text, !session->out.utf8);
    code = tcc_answer_check(session, &answer);
    if (!code)
        show(session, &answer, otherwise);
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
        show(session, &answer, "");
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
            return tcc_fail(session, TCC_EXIT_FAILURE, "drain: %llu client%s still attached after %g s (trtcollctl clients)",
                            (unsigned long long)clients, clients == 1 ? " is" : "s are", seconds);
        tcc_screen_wait(0.05);
    }
}

static tcc_exit drain_run(struct tcc_session *session)
{
    const char *wait = tcc_option(session, "wait");
    double seconds = 0;
    tcc_exit code;

    if (wait && !tcc_parse_seconds(wait, &seconds))
        return tcc_misuse(session, "--wait: found \"%s\", allowed: seconds above 0, at most 86400", wait);
    code = order(session, &(struct tcw_admin){.command = TCW_ADMIN_DRAIN}, "draining: no new clients are let in");
    return code || !wait ? code : wait_for_clients(session, seconds);
}

static tcc_exit undrain_run(struct tcc_session *session)
{
    return order(session, &(struct tcw_admin){.command = TCW_ADMIN_UNDRAIN}, "new clients are let in again");
}

static tcc_exit reload_run(struct tcc_session *session)
{
    return order(session, &(struct tcw_admin){.command = TCW_ADMIN_RELOAD}, "the configuration was read again");
}

static tcc_exit kick_run(struct tcc_session *session)
{
    struct tcw_admin question = {.command = TCW_ADMIN_KICK};

    if (!tcc_parse_u64(session->arguments[0], &question.value))
        return tcc_misuse(session, "kick: \"%s\" is no client id (trtcollctl clients lists them)", session->arguments[0]);
    return order(session, &question, "the client's connection is closed");
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
    return order(session, &question, "the log level is changed");
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
    .details =
        "The new configuration is validated whole; what may change while running is applied, the rest is refused and listed. A file\n"
        "with errors changes nothing.",
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
