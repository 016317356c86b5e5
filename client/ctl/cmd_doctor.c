/* doctor: looks at this machine by using it, and says what would bite and what to do. Needs no daemon. */
#include "command.h"
#include "doctor.h"
#include "json.h"
#include "table.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

static const char *const level_names[] = {"good", "note", "warning", "bad"};
static const char *const level_marks[] = {"ok", "note", "WARN", "BAD"};
static const tcc_style level_styles[] = {TCC_GOOD, TCC_PLAIN, TCC_WARN, TCC_BAD};

void tcc_findings_add(struct tcc_findings *findings, tcc_finding_level level, const char *topic, const char *remedy, const char *format,
                      ...)
{
    struct tcc_finding *finding;
    va_list arguments;

    findings->items = tcc_must(realloc(findings->items, (findings->count + 1) * sizeof *findings->items));
    finding = &findings->items[findings->count++];
    *finding = (struct tcc_finding){.level = level, .topic = topic, .remedy = remedy};
    va_start(arguments, format);
    vsnprintf(finding->found, sizeof finding->found, format, arguments);
    va_end(arguments);
    tcc_text_clean(finding->found, true);
}

void tcc_findings_free(struct tcc_findings *findings)
{
    free(findings->items);
    *findings = (struct tcc_findings){0};
}

static tcc_finding_level worst(const struct tcc_findings *findings)
{
    tcc_finding_level level = TCC_FINDING_GOOD;

    for (size_t i = 0; i < findings->count; i++) {
        if (findings->items[i].level > level)
            level = findings->items[i].level;
    }
    return level;
}

/* Remedies are constants: the same advice for several GPUs is given once. */
static bool said_before(const struct tcc_findings *findings, size_t index)
{
    for (size_t i = 0; i < index; i++) {
        if (findings->items[i].remedy == findings->items[index].remedy)
            return true;
    }
    return false;
}

static void print_text(const struct tcc_session *session, const struct tcc_findings *findings)
{
    static const struct tcc_column columns[] = {{"", TCC_LEFT}, {"topic", TCC_LEFT}, {"found", TCC_LEFT}};
    struct tcc_table *table = tcc_table_create(columns, sizeof columns / sizeof columns[0]);
    bool headed = false;

    for (size_t i = 0; i < findings->count; i++) {
        const struct tcc_finding *finding = &findings->items[i];

        tcc_table_cell(table, level_styles[finding->level], "%s", level_marks[finding->level]);
        tcc_table_cell(table, TCC_PLAIN, "%s", finding->topic);
        tcc_table_cell(table, TCC_PLAIN, "%s", finding->found);
    }
    tcc_table_print(table, &session->out, 0, 0);
    tcc_table_free(table);
    for (size_t i = 0; i < findings->count; i++) {
        const struct tcc_finding *finding = &findings->items[i];

        if (!finding->remedy || said_before(findings, i))
            continue;
        fputs(headed ? "" : "\nwhat to do\n", session->out.file);
        headed = true;
        fprintf(session->out.file, "  %s: ", finding->topic);
        tcc_print_wrapped(&session->out, TCC_PLAIN, (unsigned)strlen(finding->topic) + 4, 4, finding->remedy);
    }
}

static void print_json(const struct tcc_session *session, const struct tcc_findings *findings)
{
    cJSON *document = tcc_json_begin("doctor", NULL);
    cJSON *list;

    tcc_json_text(document, "worst", level_names[worst(findings)]);
    list = tcc_json_array(document, "findings");
    for (size_t i = 0; i < findings->count; i++) {
        cJSON *item = tcc_json_object(list, NULL);

        tcc_json_text(item, "level", level_names[findings->items[i].level]);
        tcc_json_text(item, "topic", findings->items[i].topic);
        tcc_json_text(item, "found", findings->items[i].found);
        tcc_json_text(item, "remedy", findings->items[i].remedy);
    }
    tcc_json_end(document, session->out.file, session->compact);
}

static tcc_exit run(struct tcc_session *session)
{
    struct tcc_findings findings = {0};
    tcc_exit code;

    tcc_doctor_limits(&findings);
    tcc_doctor_gpus(&findings);
    (session->json ? print_json : print_text)(session, &findings);
    code = worst(&findings) >= TCC_FINDING_WARNING ? TCC_EXIT_DEGRADED : TCC_EXIT_OK;
    tcc_findings_free(&findings);
    return code;
}

const struct tcc_command tcc_command_doctor = {
    .name = "doctor",
    .help = "what this machine can do, by trying it, and remedies",
    .details =
        "Looks at limits, driver, NCCL and every GPU: descriptors and fabric handles are tried by real calls, peer access by moving\n"
        "bytes between each pair of GPUs. Takes half a GiB of every GPU while it runs. Needs no daemon. Exit status 4 if something\n"
        "would bite.",
    .run = run,
};
