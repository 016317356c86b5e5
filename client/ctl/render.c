#include "render.h"

#include "table.h"
#include "text.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static bool ends(const char *name, const char *with)
{
    size_t length = strlen(name), tail = strlen(with);

    return length >= tail && strcmp(name + length - tail, with) == 0;
}

/* "max_bytes" -> "max bytes"; titles of columns in capitals. */
static struct tcc_text label(const char *name, bool title)
{
    struct tcc_text text;
    size_t i;

    for (i = 0; name[i] && i + 1 < sizeof text.s; i++)
        text.s[i] = name[i] == '_' ? ' ' : title ? (char)toupper((unsigned char)name[i]) : name[i];
    text.s[i] = 0;
    return text;
}

static bool is_scalar(const cJSON *value)
{
    return !cJSON_IsObject(value) && !cJSON_IsArray(value);
}

static char *number_text(const char *name, double number)
{
    char text[64];

    /* 2^64-1 has no exact double: what is as large as that means "no limit" */
    if (number >= 18446744073709549568.0)
        snprintf(text, sizeof text, "any");
    else if (ends(name, "bytes") && number >= 0)
        snprintf(text, sizeof text, "%s", tcc_bytes((uint64_t)number).s);
    else if (ends(name, "_ns") && number >= 0)
        snprintf(text, sizeof text, "%s", tcc_ns((uint64_t)number).s);
    else if (ends(name, "_ms") && number >= 0 && number < 1e12)
        snprintf(text, sizeof text, "%s", tcc_ns((uint64_t)(number * 1e6)).s);
    else
        snprintf(text, sizeof text, "%.15g", number);
    return tcc_must(strdup(text));
}

/* A scalar, or a list of scalars, as one piece of text; the caller frees it. */
static char *value_text(const char *name, const cJSON *value, const struct tcc_out *out)
{
    char *text = NULL;
    size_t bytes;
    FILE *memory;

    if (cJSON_IsNumber(value))
        return number_text(name, value->valuedouble);
    if (is_scalar(value)) {
        const char *word = cJSON_IsString(value) ? value->valuestring : cJSON_IsTrue(value) ? "yes" : cJSON_IsFalse(value) ? "no" : "-";

        text = tcc_must(strdup(tcc_dash(word)));
        tcc_text_clean(text, !out->utf8);
        return text;
    }
    memory = tcc_must(open_memstream(&text, &bytes));
    for (const cJSON *item = value->child; item; item = item->next) {
        char *part = value_text(name, item, out);

        fprintf(memory, "%s%s", item == value->child ? "" : ", ", part);
        free(part);
    }
    fclose(memory);
    return tcc_must(text);
}

static bool only_scalars(const cJSON *list)
{
    for (const cJSON *item = list->child; item; item = item->next) {
        if (!is_scalar(item))
            return false;
    }
    return true;
}

static bool is_table(const cJSON *list)
{
    if (!cJSON_IsArray(list) || !list->child)
        return false;
    for (const cJSON *item = list->child; item; item = item->next) {
        if (!cJSON_IsObject(item))
            return false;
        for (const cJSON *member = item->child; member; member = member->next) {
            if (!is_scalar(member) && !(cJSON_IsArray(member) && only_scalars(member)))
                return false;
        }
    }
    return true;
}

enum { MAX_COLUMNS = 12 };

/* Columns are the members of all items, in the order in which they are first met. */
static size_t find_columns(const cJSON *list, const char **names)
{
    size_t count = 0;

    for (const cJSON *item = list->child; item; item = item->next) {
        for (const cJSON *member = item->child; member; member = member->next) {
            size_t i = 0;

            while (i < count && strcmp(names[i], member->string) != 0)
                i++;
            if (i == count && count < MAX_COLUMNS)
                names[count++] = member->string;
        }
    }
    return count;
}

static void render_table(const cJSON *list, const struct tcc_out *out, unsigned indent)
{
    const char *names[MAX_COLUMNS];
    struct tcc_text titles[MAX_COLUMNS];
    struct tcc_column columns[MAX_COLUMNS] = {{0}};
    size_t count = find_columns(list, names);
    struct tcc_table *table;

    for (size_t i = 0; i < count; i++) {
        const cJSON *first = cJSON_GetObjectItemCaseSensitive(list->child, names[i]);

        titles[i] = label(names[i], true);
        columns[i] = (struct tcc_column){titles[i].s, first && cJSON_IsNumber(first) ? TCC_RIGHT : TCC_LEFT};
    }
    table = tcc_table_create(columns, count);
    for (const cJSON *item = list->child; item && count; item = item->next) {
        for (size_t i = 0; i < count; i++) {
            const cJSON *member = cJSON_GetObjectItemCaseSensitive(item, names[i]);
            char *text = member ? value_text(names[i], member, out) : NULL;

            tcc_table_cell(table, TCC_PLAIN, "%s", text ? text : "-");
            free(text);
        }
    }
    tcc_table_print(table, out, indent, 0);
    tcc_table_free(table);
}

static void render_object(const cJSON *object, const struct tcc_out *out, unsigned indent)
{
    unsigned width = 0;

    for (const cJSON *member = object->child; member; member = member->next) {
        if (is_scalar(member) && strlen(member->string) > width)
            width = (unsigned)strlen(member->string);
    }
    for (const cJSON *member = object->child; member; member = member->next) {
        bool line = is_scalar(member) || (cJSON_IsArray(member) && only_scalars(member));

        tcc_print(out, line ? TCC_PLAIN : TCC_BOLD, "%*s%-*s", (int)indent, "", line ? (int)width : 0, label(member->string, false).s);
        if (line) {
            char *text = value_text(member->string, member, out);

            fputs("  ", out->file);
            tcc_print_wrapped(out, TCC_PLAIN, indent + width + 2, indent + width + 2, tcc_dash(text));
            free(text);
        } else {
            fputc('\n', out->file);
            tcc_render(member, out, indent + 2);
        }
    }
}

void tcc_render(const cJSON *value, const struct tcc_out *out, unsigned indent)
{
    if (is_table(value)) {
        render_table(value, out, indent);
    } else if (cJSON_IsObject(value)) {
        render_object(value, out, indent);
    } else if (cJSON_IsArray(value) && !only_scalars(value)) {
        for (const cJSON *item = value->child; item; item = item->next)
            tcc_render(item, out, indent);
    } else {
        char *text = value_text("", value, out);

        fprintf(out->file, "%*s%s\n", (int)indent, "", text);
        free(text);
    }
}
