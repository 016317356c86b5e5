/* fields: what the stats segment says about itself, and with --rows everything it holds, known to this tool or not. */
#include "command.h"
#include "json.h"
#include "snapshot.h"
#include "table.h"

#include <stdlib.h>
#include <string.h>

static const struct tcc_option options[] = {
    {"rows", NULL, "every used row with every field, raw units", 'R'},
    {0},
};

static const char *kind_name(const struct tcw_stats_field_view *field)
{
    static const char *const names[] = {"?", "counter", "gauge", "id"};

    if (field->text)
        return "text";
    return field->kind >= TCW_STATS_COUNTER && field->kind <= TCW_STATS_ID ? names[field->kind] : "?";
}

static bool wanted(const struct tcc_session *session, const struct tcw_stats_table_view *table)
{
    return !session->argument_count || strcmp(session->arguments[0], table->name) == 0;
}

static void print_schema(struct tcc_session *session, const struct tcw_stats_table_view *view)
{
    static const struct tcc_column columns[] = {
        {"FIELD", TCC_LEFT}, {"KIND", TCC_LEFT}, {"UNIT", TCC_OPTIONAL}, {"COUNT", TCC_RIGHT}, {"HELP", TCC_LEFT}};
    struct tcc_table *table = tcc_table_create(columns, 5);

    tcc_print(&session->out, TCC_BOLD, "%s", view->name);
    tcc_print(&session->out, TCC_DIM, "  table %u, room for %u rows\n", view->number, view->rows);
    for (uint32_t i = 0; i < view->field_count; i++) {
        const struct tcw_stats_field_view *field = &view->fields[i];

        tcc_table_cell(table, TCC_PLAIN, "%s", field->name);
        tcc_table_cell(table, TCC_PLAIN, "%s", kind_name(field));
        tcc_table_cell(table, TCC_PLAIN, "%s", tcc_dash(field->unit));
        tcc_table_cell(table, TCC_PLAIN, "%s", field->text ? "-" : tcc_number(field->count).s);
        tcc_table_cell(table, TCC_PLAIN, "%s", field->help);
    }
    tcc_table_print(table, &session->out, 2, 0);
    tcc_table_free(table);
}

static void print_value(FILE *file, const struct tcw_stats_field_view *field, const void *row, bool ascii)
{
    if (field->text) {
        char text[512];

        snprintf(text, sizeof text, "%s", tcw_stats_row_text(field, row));
        tcc_text_clean(text, ascii);
        fprintf(file, "\"%s\"", text);
        return;
    }
    for (uint32_t i = 0; i < field->count; i++)
        fprintf(file, "%s%llu", i ? " " : "", (unsigned long long)tcw_stats_row_u64(field, row, i));
}

static void print_rows(struct tcc_session *session, const struct tcw_stats_reader *reader, const struct tcw_stats_table_view *view)
{
    void *row = tcc_must(malloc(view->row_bytes + 1));

    for (uint32_t index = 0; index < view->rows; index++) {
        if (tcw_stats_reader_copy(reader, view, index, row) != 1)
            continue;
        tcc_print(&session->out, TCC_BOLD, "%s[%u]\n", view->name, index);
        for (uint32_t i = 0; i < view->field_count; i++) {
            fprintf(session->out.file, "  %-22s ", view->fields[i].name);
            print_value(session->out.file, &view->fields[i], row, !session->out.utf8);
            fputc('\n', session->out.file);
        }
    }
    free(row);
}

static void value_json(cJSON *object, const struct tcw_stats_field_view *field, const void *row)
{
    if (field->text) {
        char text[512];

        snprintf(text, sizeof text, "%s", tcw_stats_row_text(field, row));
        tcc_text_clean(text, false);
        tcc_json_text(object, field->name, text);
    } else if (field->count == 1) {
        char text[24];

        snprintf(text, sizeof text, "%llu", (unsigned long long)tcw_stats_row_u64(field, row, 0));
        cJSON_AddRawToObject(object, field->name, text);
    } else {
        cJSON *list = tcc_json_array(object, field->name);

        for (uint32_t i = 0; i < field->count; i++)
            tcc_json_u64(list, NULL, tcw_stats_row_u64(field, row, i));
    }
}

static void rows_json(cJSON *parent, const struct tcw_stats_reader *reader, const struct tcw_stats_table_view *view)
{
    cJSON *rows = tcc_json_array(parent, "row_values");
    void *row = tcc_must(malloc(view->row_bytes + 1));

    for (uint32_t index = 0; index < view->rows; index++) {
        cJSON *item;

        if (tcw_stats_reader_copy(reader, view, index, row) != 1)
            continue;
        item = tcc_json_object(rows, NULL);
        for (uint32_t i = 0; i < view->field_count; i++)
            value_json(item, &view->fields[i], row);
    }
    free(row);
}

static void table_json(cJSON *tables, const struct tcw_stats_reader *reader, const struct tcw_stats_table_view *view, bool rows)
{
    cJSON *item = tcc_json_object(tables, NULL), *fields;

    tcc_json_text(item, "name", view->name);
    tcc_json_u64(item, "number", view->number);
    tcc_json_u64(item, "rows", view->rows);
    fields = tcc_json_array(item, "fields");
    for (uint32_t i = 0; i < view->field_count; i++) {
        cJSON *field = tcc_json_object(fields, NULL);

        tcc_json_text(field, "name", view->fields[i].name);
        tcc_json_text(field, "kind", kind_name(&view->fields[i]));
        tcc_json_text(field, "unit", view->fields[i].unit);
        tcc_json_u64(field, "count", view->fields[i].text ? 1 : view->fields[i].count);
        tcc_json_text(field, "help", view->fields[i].help);
    }
    if (rows)
        rows_json(item, reader, view);
}

static tcc_exit print_tables(struct tcc_session *session, const struct tcw_stats_reader *reader)
{
    cJSON *document = session->json ? tcc_json_begin("fields", NULL) : NULL;
    cJSON *tables = document ? tcc_json_array(document, "tables") : NULL;
    bool rows = tcc_option(session, "rows");
    unsigned found = 0;

    for (uint32_t i = 0; i < tcw_stats_reader_table_count(reader); i++) {
        const struct tcw_stats_table_view *view = tcw_stats_reader_table_at(reader, i);

        if (!wanted(session, view))
            continue;
        if (document) {
            table_json(tables, reader, view, rows);
        } else if (rows) {
            print_rows(session, reader, view);
        } else {
            if (found)
                fputc('\n', session->out.file);
            print_schema(session, view);
        }
        found++;
    }
    if (!found) {
        cJSON_Delete(document);
        return tcc_complain(session, TCC_EXIT_FAILURE, "the stats segment has no table \"%s\"",
                            session->argument_count ? session->arguments[0] : "");
    }
    if (document)
        tcc_json_end(document, session->out.file, session->compact);
    return TCC_EXIT_OK;
}

static tcc_exit run(struct tcc_session *session)
{
    struct tcw_stats_reader *reader;
    struct tcc_snapshot snapshot;
    const char *why;
    tcc_exit code = tcc_session_snapshot(session, 0, &snapshot); /* for its complaints and the caution */

    if (code)
        return code;
    if (!session->json)
        tcc_session_caution(session, &snapshot);
    tcc_snapshot_free(&snapshot);
    if (tcw_stats_reader_open(session->stats_path, &reader, &why))
        return tcc_complain(session, TCC_EXIT_UNREACHABLE, "%s: %s", session->stats_path, why);
    code = print_tables(session, reader);
    tcw_stats_reader_close(reader);
    return code;
}

const struct tcc_command tcc_command_fields = {
    .name = "fields",
    .arguments = "[TABLE]",
    .help = "the tables and fields of the stats segment",
    .details = "Shows what the daemon publishes, also fields that this version of the tool does not use. Numbers are 64 bits wide;\n"
               "2^64-1 means none.",
    .options = options,
    .max_arguments = 1,
    .run = run,
};
