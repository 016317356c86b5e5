#include "admin.h"

#include "daemon.h"
#include "explain.h"
#include "hello.h"
#include "reload.h"
#include "text.h"

#include <cJSON.h>
#include <stdlib.h>
#include <string.h>

static void send_text(struct tcd_client *client, uint32_t sequence, int code, const char *text)
{
    struct tcw_admin_text part = {.code = code};
    size_t left = strlen(text);

    do {
        size_t bytes = left < sizeof(part.text) - 1 ? left : sizeof(part.text) - 1;

        memset(part.text, 0, sizeof(part.text));
        memcpy(part.text, text, bytes);
        part.bytes = (uint32_t)bytes;
        text += bytes;
        left -= bytes;
        part.more = left > 0;
        tcd_client_send(client, TCW_MSG_ADMIN_TEXT, sequence, &part, NULL, 0);
    } while (left);
}

static const char *command_name(uint32_t command)
{
    static const char *const names[] = {"?", "drain", "reload", "explain", "kick", "log-level", "config", "undrain"};

    return command < sizeof(names) / sizeof(names[0]) ? names[command] : names[0];
}

static bool needs_right(uint32_t command)
{
    return command != TCW_ADMIN_EXPLAIN && command != TCW_ADMIN_CONFIG;
}

static void drain(struct tcd_daemon *daemon, bool on, cJSON *answer)
{
    tcd_daemon_drain(daemon, on);
    cJSON_AddBoolToObject(answer, "draining", daemon->draining);
    cJSON_AddNumberToObject(answer, "clients", (double)daemon->counters.clients);
}

static void add_issues(cJSON *answer, const struct tcf_issues *issues)
{
    cJSON *list = cJSON_AddArrayToObject(answer, "issues");
    uint32_t i;

    for (i = 0; i < issues->count; i++) {
        cJSON *item = cJSON_CreateObject();
        cJSON_AddStringToObject(item, "file", issues->items[i].file);
        cJSON_AddStringToObject(item, "pointer", issues->items[i].pointer);
        cJSON_AddStringToObject(item, "text", issues->items[i].text);
        cJSON_AddItemToArray(list, item);
    }
}

static int reload(struct tcd_daemon *daemon, cJSON *answer, struct tcw_error *error)
{
    struct tcd_reload_report report;
    cJSON *applied = cJSON_AddArrayToObject(answer, "applied"), *refused = cJSON_AddArrayToObject(answer, "refused");
    int code;
    uint32_t i;

    tcd_reload(daemon, &report);
    for (i = 0; i < report.count; i++) {
        cJSON *item = cJSON_CreateObject();
        cJSON_AddStringToObject(item, "pointer", report.changes[i].pointer);
        cJSON_AddStringToObject(item, "from", report.changes[i].from);
        cJSON_AddStringToObject(item, "to", report.changes[i].to);
        if (report.changes[i].why)
            cJSON_AddStringToObject(item, "cannot_change_while", report.changes[i].why);
        cJSON_AddItemToArray(report.changes[i].why ? refused : applied, item);
    }
    code = report.code;
    if (code) {
        add_issues(answer, &report.issues);
        if (report.issues.count)
            tcd_error_set(error, code, "nothing has changed: the configuration has %u error%s", report.issues.count,
                          report.issues.count == 1 ? "" : "s");
        else
            tcd_error_set(error, code, "nothing has changed: %s", tcw_error_text(code));
    }
    tcd_reload_report_free(&report);
    return code;
}

static int kick(struct tcd_client *operator, uint64_t id, cJSON *answer, struct tcw_error *error)
{
    struct tcd_handles *clients = &operator->daemon->clients;
    uint32_t i;

    for (i = 0; i < clients->capacity; i++) {
        struct tcd_client *client = tcd_handle_at(clients, i);
        if (!client || client->id != id || client->doom || client->tool)
            continue;
        cJSON_AddNumberToObject(answer, "client", (double)id);
        cJSON_AddNumberToObject(answer, "pid", client->process.pid);
        cJSON_AddStringToObject(answer, "name", client->name);
        tcd_client_doom(client, TCD_EXPELLED, "an operator (uid %u) closed the connection", operator->uid);
        return 0;
    }
    return tcd_error_set(error, TCW_ENOENT, "there is no client %llu", (unsigned long long)id);
}

static int log_level(uint64_t value, cJSON *answer, struct tcw_error *error)
{
    if (value < TCD_ERR || value > TCD_DEBUG)
        return tcd_error_set(error, TCW_EINVAL, "log level %llu; allowed are %d (err) to %d (debug)", (unsigned long long)value, TCD_ERR,
                             TCD_DEBUG);
    tcd_log_set_level((tcd_level)value);
    tcd_log(TCD_NOTICE, "log level is %s now", tcd_level_name((tcd_level)value));
    cJSON_AddStringToObject(answer, "log_level", tcd_level_name((tcd_level)value));
    return 0;
}

static int execute(struct tcd_client *client, const struct tcw_admin *message, cJSON *answer, struct tcw_error *error)
{
    struct tcd_daemon *daemon = client->daemon;

    if (needs_right(message->command) && !tcd_access_allows_listed(&daemon->config->admin, client))
        return tcd_error_set(error, TCW_EPERM, "uid %u and its groups are not among the configured administrators", client->uid);
    switch (message->command) {
    case TCW_ADMIN_DRAIN:
        drain(daemon, true, answer);
        return 0;
    case TCW_ADMIN_UNDRAIN:
        if (daemon->stopping)
            return tcd_error_set(error, TCW_EDRAIN, "the daemon is stopping; that cannot be taken back");
        drain(daemon, false, answer);
        return 0;
    case TCW_ADMIN_RELOAD:
        return reload(daemon, answer, error);
    case TCW_ADMIN_EXPLAIN:
        return tcd_explain(daemon, message, answer, error);
    case TCW_ADMIN_KICK:
        return kick(client, message->value, answer, error);
    case TCW_ADMIN_LOG_LEVEL:
        return log_level(message->value, answer, error);
    default:
        return tcd_error_set(error, TCW_ENOSYS, "command %u is unknown to this daemon", message->command);
    }
}

void tcd_admin(struct tcd_client *client, uint32_t sequence, const struct tcw_admin *message)
{
    struct tcw_error error;
    cJSON *answer = NULL;
    char *text = NULL;
    int code = 0;

    if (message->command == TCW_ADMIN_CONFIG) {
        text = tcf_config_print(client->daemon->config);
    } else {
        answer = cJSON_CreateObject();
        code = execute(client, message, answer, &error);
        if (code) {
            client->daemon->counters.refusals++;
            cJSON_AddStringToObject(answer, "error", error.text);
        }
        text = cJSON_PrintUnformatted(answer);
    }
    tcd_client_log(client, TCD_INFO, "%s by uid %u: %s", command_name(message->command), client->uid, code ? error.text : "done");
    if (text)
        send_text(client, sequence, code, text);
    else
        tcd_client_refuse_text(client, sequence, TCW_ENOMEM, "no memory for the answer");
    cJSON_Delete(answer);
    free(text);
}
