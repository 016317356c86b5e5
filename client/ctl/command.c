#include "command.h"

#include "json.h"
#include "snapshot.h"
#include "table.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

const struct tcc_command *const tcc_commands[] = {
    &tcc_command_status,
    &tcc_command_health,
    &tcc_command_groups,
    &tcc_command_clients,
    &tcc_command_memory,
    &tcc_command_top,
    &tcc_command_latency,
    &tcc_command_dump,
    &tcc_command_fields,
    &tcc_command_doctor,
    &tcc_command_explain,
    &tcc_command_config,
    &tcc_command_drain,
    &tcc_command_undrain,
    &tcc_command_reload,
    &tcc_command_kick,
    &tcc_command_log_level,
    &tcc_command_tune,
    NULL,
};

const struct tcc_command *tcc_command_find(const char *name)
{
    for (size_t i = 0; tcc_commands[i]; i++) {
        if (strcmp(tcc_commands[i]->name, name) == 0)
            return tcc_commands[i];
    }
    return NULL;
}

static void print_options(FILE *file, const struct tcc_option *options)
{
    for (; options && options->name; options++) {
        char left[64];

        snprintf(left, sizeof left, "%c%c%s --%s%s%s", options->letter ? '-' : ' ', options->letter ? options->letter : ' ',
                 options->letter ? "," : " ", options->name, options->value ? " " : "", options->value ? options->value : "");
        fprintf(file, "  %-24s %s\n", left, options->help);
    }
}

static void print_commands(FILE *file, bool asks)
{
    for (size_t i = 0; tcc_commands[i]; i++) {
        char left[64];

        if (tcc_commands[i]->asks != asks)
            continue;
        snprintf(left, sizeof left, "%s%s%s", tcc_commands[i]->name, tcc_commands[i]->arguments ? " " : "",
                 tcc_commands[i]->arguments ? tcc_commands[i]->arguments : "");
        fprintf(file, "  %-24s %s\n", left, tcc_commands[i]->help);
    }
}

void tcc_usage_print(FILE *file, const struct tcc_option *globals)
{
    fputs("usage: trtcollctl [options] COMMAND [arguments]\n\n"
          "Shows and controls the trtcoll daemon of this node.\n\n"
          "Looking (reads the stats segment: works while the daemon is stuck or gone)\n",
          file);
    print_commands(file, false);
    fputs("\nAsking and changing (talks to the daemon)\n", file);
    print_commands(file, true);
    fputs("\nOptions, before or behind the command\n", file);
    print_options(file, globals);
    fputs("\nExit codes: 0 ok, 1 failure, 2 usage, 3 unreachable, 4 degraded (status, health and doctor).\n"
          "trtcollctl COMMAND --help tells more; the manual is trtcollctl(1).\n",
          file);
}

void tcc_command_usage_print(FILE *file, const struct tcc_command *command, const struct tcc_option *globals)
{
    fprintf(file, "usage: trtcollctl %s%s%s%s\n\n%c%s.\n", command->name, command->options ? " [options]" : "",
            command->arguments ? " " : "", command->arguments ? command->arguments : "", command->help[0] & ~0x20, command->help + 1);
    if (command->details)
        fprintf(file, "\n%s\n", command->details);
    if (command->options) {
        fputs("\nOptions\n", file);
        print_options(file, command->options);
    }
    fputs("\nOptions of every command\n", file);
    print_options(file, globals);
}

const char *tcc_option(const struct tcc_session *session, const char *name)
{
    const struct tcc_option *options = session->command->options;

    for (size_t i = 0; options && options[i].name; i++) {
        if (strcmp(options[i].name, name) == 0)
            return session->options[i];
    }
    return NULL;
}

bool tcc_option_u64(struct tcc_session *session, const char *name, unsigned long long min, unsigned long long max,
                    unsigned long long *value)
{
    const char *text = tcc_option(session, name);
    uint64_t parsed;

    if (!text)
        return true;
    if (!tcc_parse_u64(text, &parsed) || parsed < min || parsed > max) {
        tcc_misuse(session, "--%s: found \"%s\", allowed: %llu to %llu", name, text, min, max);
        return false;
    }
    *value = parsed;
    return true;
}

static const char *exit_name(tcc_exit code)
{
    static const char *const names[] = {"ok", "failure", "usage", "unreachable", "degraded"};

    return names[code];
}

tcc_exit tcc_complain(struct tcc_session *session, tcc_exit code, const char *format, ...)
{
    char text[1024];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    tcc_text_clean(text, !session->out.utf8);
    fprintf(stderr, "trtcollctl: %s\n", text);
    if (session->json) {
        cJSON *document = tcc_json_begin(session->command ? session->command->name : NULL, NULL);
        cJSON *error = tcc_json_object(document, "error");

        tcc_json_text(error, "kind", exit_name(code));
        tcc_json_text(error, "text", text);
        if (session->refusal)
            cJSON_AddItemToObject(document, "answer", tcc_must(cJSON_Duplicate(session->refusal, true)));
        tcc_json_end(document, session->out.file, session->compact);
    }
    return code;
}

tcc_exit tcc_misuse(struct tcc_session *session, const char *format, ...)
{
    char text[512];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    tcc_complain(session, TCC_EXIT_USAGE, "%s", text);
    fprintf(stderr, "try: trtcollctl %s%s--help\n", session->command ? session->command->name : "", session->command ? " " : "");
    return TCC_EXIT_USAGE;
}

tcc_exit tcc_session_snapshot(struct tcc_session *session, unsigned flags, struct tcc_snapshot *snapshot)
{
    const char *why = "unknown reason";
    int rc = tcc_snapshot_load(session->stats_path, flags, !session->out.utf8, snapshot, &why);

    if (rc == TCW_ENOENT)
        return tcc_complain(session, TCC_EXIT_UNREACHABLE,
                            "%s: no daemon runs here, and none has left its state%s (--runtime-dir says where to look)",
                            session->stats_path, session->elsewhere);
    if (rc == TCW_EPERM)
        return tcc_complain(session, TCC_EXIT_UNREACHABLE, "%s: not readable for this user", session->stats_path);
    if (rc)
        return tcc_complain(session, TCC_EXIT_UNREACHABLE, "%s: %s", session->stats_path, why);
    return TCC_EXIT_OK;
}

void tcc_session_caution(const struct tcc_session *session, const struct tcc_snapshot *snapshot)
{
    char text[256];

    if (tcc_snapshot_caution(snapshot, text, sizeof text))
        tcc_print(&session->out, TCC_BAD, "%s\n\n", text);
}
