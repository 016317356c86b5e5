#include "json.h"

#include "table.h"

#include <math.h>
#include <stdlib.h>

static void add(cJSON *parent, const char *name, cJSON *item)
{
    tcc_must(item);
    if (name)
        cJSON_AddItemToObject(parent, name, item);
    else
        cJSON_AddItemToArray(parent, item);
}

cJSON *tcc_json_object(cJSON *parent, const char *name)
{
    cJSON *item = cJSON_CreateObject();

    add(parent, name, item);
    return item;
}

cJSON *tcc_json_array(cJSON *parent, const char *name)
{
    cJSON *item = cJSON_CreateArray();

    add(parent, name, item);
    return item;
}

/* cJSON keeps numbers as doubles, so integers go in as text. */
void tcc_json_u64(cJSON *object, const char *name, uint64_t value)
{
    add(object, name, value == TCC_ABSENT ? cJSON_CreateNull() : cJSON_CreateRaw(tcc_number(value).s));
}

void tcc_json_i64(cJSON *object, const char *name, int64_t value)
{
    char text[24];

    snprintf(text, sizeof text, "%lld", (long long)value);
    add(object, name, cJSON_CreateRaw(text));
}

void tcc_json_real(cJSON *object, const char *name, double value)
{
    add(object, name, isfinite(value) ? cJSON_CreateNumber(value) : cJSON_CreateNull());
}

void tcc_json_hex(cJSON *object, const char *name, uint64_t value)
{
    char text[20];

    snprintf(text, sizeof text, "%016llx", (unsigned long long)value);
    add(object, name, value == TCC_ABSENT ? cJSON_CreateNull() : cJSON_CreateString(text));
}

void tcc_json_bool(cJSON *object, const char *name, bool value)
{
    add(object, name, cJSON_CreateBool(value));
}

void tcc_json_text(cJSON *object, const char *name, const char *value)
{
    add(object, name, value ? cJSON_CreateString(value) : cJSON_CreateNull());
}

void tcc_json_ranks(cJSON *object, const char *name, uint64_t bits)
{
    cJSON *ranks = tcc_json_array(object, name);

    for (unsigned rank = 0; rank < 64; rank++) {
        if (bits >> rank & 1)
            tcc_json_u64(ranks, NULL, rank);
    }
}

cJSON *tcc_json_begin(const char *command, const struct tcc_snapshot *snapshot)
{
    cJSON *document = tcc_must(cJSON_CreateObject());
    cJSON *source;

    tcc_json_u64(document, "schema_version", TCC_JSON_SCHEMA);
    tcc_json_text(document, "command", command);
    if (!snapshot)
        return document;
    source = tcc_json_object(document, "snapshot");
    tcc_json_text(source, "daemon", tcc_life_name(snapshot->life));
    tcc_json_u64(source, "pid", snapshot->daemon.pid);
    tcc_json_hex(source, "generation", snapshot->daemon.generation);
    tcc_json_u64(source, "taken_ns", snapshot->taken_ns);
    tcc_json_u64(source, "as_of_ns", snapshot->as_of_ns);
    tcc_json_u64(source, "as_of_realtime_ns", snapshot->as_of_real_ns ? snapshot->as_of_real_ns : TCC_ABSENT);
    tcc_json_u64(source, "heartbeat_age_ns", snapshot->about.heartbeat_age_ns);
    return document;
}

static bool nests(const cJSON *value)
{
    return cJSON_IsObject(value) || cJSON_IsArray(value);
}

/* A list without lists or objects in it stays on one line. */
static bool flat(const cJSON *value)
{
    if (!cJSON_IsArray(value))
        return false;
    for (const cJSON *item = value->child; item; item = item->next) {
        if (nests(item))
            return false;
    }
    return true;
}

static void print_string(FILE *file, const char *string)
{
    cJSON *value = tcc_must(cJSON_CreateString(string));
    char *text = tcc_must(cJSON_PrintUnformatted(value));

    fputs(text, file);
    free(text);
    cJSON_Delete(value);
}

static void print_value(FILE *file, const cJSON *value, unsigned indent)
{
    bool object = cJSON_IsObject(value), line = flat(value) || !value->child;

    if (!nests(value)) {
        char *text = tcc_must(cJSON_PrintUnformatted(value));

        fputs(text, file);
        free(text);
        return;
    }
    fputc(object ? '{' : '[', file);
    for (const cJSON *item = value->child; item; item = item->next) {
        if (item != value->child)
            fputs(line ? ", " : ",", file);
        if (!line)
            fprintf(file, "\n%*s", (int)indent + 2, "");
        if (object) {
            print_string(file, item->string);
            fputs(": ", file);
        }
        print_value(file, item, indent + 2);
    }
    if (!line)
        fprintf(file, "\n%*s", (int)indent, "");
    fputc(object ? '}' : ']', file);
}

void tcc_json_print(const cJSON *value, FILE *file)
{
    print_value(file, value, 0);
    fputc('\n', file);
}

void tcc_json_end(cJSON *document, FILE *file, bool compact)
{
    if (compact) {
        char *text = tcc_must(cJSON_PrintUnformatted(document));

        fprintf(file, "%s\n", text);
        free(text);
    } else {
        tcc_json_print(document, file);
    }
    cJSON_Delete(document);
}
