#include "value.h"

#include "issues.h"
#include "syntax.h"

#include <cjson/cJSON.h>

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_MEMBERS = 1024 }; /* of one object: looking for duplicates compares all pairs */

struct tcf_document {
    char *file;
    cJSON *json; /* holds every string of the tree */
    struct tcf_value *values;
    size_t used;
};

static size_t json_count(const cJSON *item)
{
    size_t count = 1;
    for (const cJSON *child = item->child; child; child = child->next)
        count += json_count(child);
    return count;
}

static tcf_kind json_kind(const cJSON *item)
{
    if (cJSON_IsBool(item))
        return TCF_TRUTH;
    if (cJSON_IsNumber(item))
        return TCF_NUMBER;
    if (cJSON_IsString(item))
        return TCF_TEXT;
    if (cJSON_IsArray(item))
        return TCF_ARRAY;
    return cJSON_IsObject(item) ? TCF_OBJECT : TCF_NULL;
}

static struct tcf_value *convert(struct tcf_document *document, const cJSON *item)
{
    struct tcf_value *value = &document->values[document->used++];
    value->document = document;
    value->kind = json_kind(item);
    value->key = item->string;
    value->text = cJSON_IsString(item) ? item->valuestring : NULL;
    value->number = cJSON_IsNumber(item) ? item->valuedouble : 0;
    value->truth = cJSON_IsTrue(item);
    struct tcf_value **end = &value->first;
    uint32_t index = 0;
    for (const cJSON *child = item->child; child; child = child->next) {
        *end = convert(document, child);
        (*end)->parent = value;
        (*end)->index = index++;
        end = &(*end)->next;
    }
    return value;
}

/* ---- sameness: what must not stand twice, and what merges ---- */

typedef bool (*same_fn)(const struct tcf_value *one, const struct tcf_value *other);

static bool same_key(const struct tcf_value *one, const struct tcf_value *other)
{
    return strcmp(one->key, other->key) == 0;
}

static bool same_name(const struct tcf_value *one, const struct tcf_value *other)
{
    const struct tcf_value *a = tcf_value_member(one, "name"), *b = tcf_value_member(other, "name");
    return a && b && a->kind == TCF_TEXT && b->kind == TCF_TEXT && strcmp(a->text, b->text) == 0;
}

static bool merges_by_name(const struct tcf_value *value)
{
    return value->kind == TCF_ARRAY && value->key && value->parent && !value->parent->parent &&
           (strcmp(value->key, "groups") == 0 || strcmp(value->key, "nodes") == 0);
}

/* Members of `container` must differ: in their keys, which the pointer shows, or in their names. */
static void check_twice(const struct tcf_value *container, same_fn same, struct tcf_issues *issues)
{
    char pointer[256], found[128];
    uint32_t count = tcf_value_count(container);
    if (count > MAX_MEMBERS) {
        tcf_value_pointer(container, pointer, sizeof(pointer));
        tcf_issue_add(issues, container->document->file, pointer, "found %u members, allowed at most %d", count, MAX_MEMBERS);
        return;
    }
    for (const struct tcf_value *one = container->first; one; one = one->next) {
        const struct tcf_value *other = container->first;
        while (other != one && !same(one, other))
            other = other->next;
        if (other == one)
            continue;
        tcf_value_pointer(one, pointer, sizeof(pointer));
        snprintf(found, sizeof(found), "the key");
        if (same == same_name)
            tcf_value_describe(tcf_value_member(one, "name"), found, sizeof(found));
        tcf_issue_add(issues, container->document->file, pointer, "found %s for the second time, allowed once", found);
    }
}

static void check_tree(const struct tcf_value *value, struct tcf_issues *issues)
{
    if (value->kind == TCF_OBJECT)
        check_twice(value, same_key, issues);
    else if (merges_by_name(value))
        check_twice(value, same_name, issues);
    for (const struct tcf_value *child = value->first; child; child = child->next)
        check_tree(child, issues);
}

/* ---- documents ---- */

static struct tcf_document *document_create(const char *file, const char *text, size_t bytes, struct tcf_issues *issues)
{
    struct tcf_document *document = calloc(1, sizeof(*document));
    if (!document)
        goto out_of_memory;
    document->file = strdup(file);
    document->json = cJSON_ParseWithLength(text, bytes);
    if (!document->file || !document->json)
        goto out_of_memory;
    document->values = calloc(json_count(document->json), sizeof(*document->values));
    if (!document->values)
        goto out_of_memory;
    return document;

out_of_memory:
    /* The syntax was checked before, so cJSON has no other reason to fail. */
    tcf_issue_add(issues, file, "", "out of memory");
    tcf_document_free(document);
    return NULL;
}

struct tcf_document *tcf_document_parse(const char *file, const char *text, size_t bytes, struct tcf_issues *issues)
{
    if (bytes > TCF_MAX_FILE_BYTES) {
        tcf_issue_add(issues, file, "", "found more than %d bytes, allowed at most that", TCF_MAX_FILE_BYTES);
        return NULL;
    }
    struct tcf_syntax_error error;
    if (!tcf_syntax_check(text, bytes, &error)) {
        tcf_issue_add(issues, file, "", "line %u, column %u: %s", error.line, error.column, error.text);
        return NULL;
    }
    struct tcf_document *document = document_create(file, text, bytes, issues);
    if (!document)
        return NULL;
    struct tcf_value *root = convert(document, document->json);
    if (root->kind != TCF_OBJECT) {
        tcf_value_reject(root, issues, "an object");
        tcf_document_free(document);
        return NULL;
    }
    check_tree(root, issues);
    return document;
}

void tcf_document_free(struct tcf_document *document)
{
    if (!document)
        return;
    free(document->values);
    cJSON_Delete(document->json);
    free(document->file);
    free(document);
}

struct tcf_value *tcf_document_root(struct tcf_document *document)
{
    return &document->values[0];
}

const char *tcf_document_file(const struct tcf_document *document)
{
    return document->file;
}

/* ---- merging ---- */

static void merge_children(struct tcf_value *base, struct tcf_value *over, same_fn same);

/* Merges `over` into `base` if their kinds allow it; false: it must be replaced. */
static bool merge_into(struct tcf_value *base, struct tcf_value *over)
{
    if (merges_by_name(base) && merges_by_name(over)) {
        merge_children(base, over, same_name);
        return true;
    }
    bool whole = over->key && strcmp(over->key, "devices") == 0;
    if (base->kind != TCF_OBJECT || over->kind != TCF_OBJECT || whole)
        return false;
    merge_children(base, over, same_key);
    return true;
}

static void merge_children(struct tcf_value *base, struct tcf_value *over, same_fn same)
{
    struct tcf_value *next;
    for (struct tcf_value *child = over->first; child; child = next) {
        next = child->next;
        struct tcf_value **link = &base->first;
        while (*link && !same(*link, child))
            link = &(*link)->next;
        struct tcf_value *old = *link;
        if (old && merge_into(old, child))
            continue;
        child->next = old ? old->next : NULL;
        *link = child;
    }
    over->first = NULL;
}

void tcf_value_merge(struct tcf_value *base, struct tcf_value *over)
{
    merge_children(base, over, same_key);
}

/* ---- looking ---- */

static struct tcf_value *member_of_length(const struct tcf_value *object, const char *key, size_t length)
{
    if (!object || object->kind != TCF_OBJECT)
        return NULL;
    for (struct tcf_value *child = object->first; child; child = child->next) {
        if (strlen(child->key) == length && memcmp(child->key, key, length) == 0)
            return child;
    }
    return NULL;
}

struct tcf_value *tcf_value_member(const struct tcf_value *object, const char *key)
{
    return member_of_length(object, key, strlen(key));
}

struct tcf_value *tcf_value_at(const struct tcf_value *object, const char *path)
{
    for (;;) {
        size_t length = strcspn(path, ".");
        struct tcf_value *member = member_of_length(object, path, length);
        if (!member || !path[length])
            return member;
        object = member;
        path += length + 1;
    }
}

uint32_t tcf_value_count(const struct tcf_value *container)
{
    uint32_t count = 0;
    for (const struct tcf_value *child = container->first; child; child = child->next)
        count++;
    return count;
}

/* ---- describing ---- */

static size_t append(char *out, size_t size, size_t used, char c)
{
    if (used + 1 < size)
        out[used++] = c;
    out[used] = '\0';
    return used;
}

static size_t append_pointer(const struct tcf_value *value, char *out, size_t size)
{
    if (!value->parent) {
        out[0] = '\0';
        return 0;
    }
    size_t used = append_pointer(value->parent, out, size);
    used = append(out, size, used, '/');
    char number[16];
    snprintf(number, sizeof(number), "%u", value->index);
    for (const char *c = value->key ? value->key : number; *c; c++) {
        if (*c == '~' || *c == '/') {
            used = append(out, size, used, '~');
            used = append(out, size, used, *c == '~' ? '0' : '1');
        } else {
            used = append(out, size, used, *c);
        }
    }
    return used;
}

void tcf_value_pointer(const struct tcf_value *value, char *out, size_t size)
{
    append_pointer(value, out, size);
}

static void describe_text(const char *text, char *out, size_t size)
{
    size_t length = strlen(text);
    bool cut = length > 60;
    if (cut) {
        length = 60;
        while ((text[length] & 0xc0) == 0x80) /* never inside a character */
            length--;
    }
    snprintf(out, size, "\"%.*s%s\"", (int)length, text, cut ? "..." : "");
}

void tcf_value_describe(const struct tcf_value *value, char *out, size_t size)
{
    switch (value->kind) {
    case TCF_NULL:
        snprintf(out, size, "null");
        break;
    case TCF_TRUTH:
        snprintf(out, size, "%s", value->truth ? "true" : "false");
        break;
    case TCF_NUMBER:
        snprintf(out, size, "%.16g", value->number);
        break;
    case TCF_TEXT:
        describe_text(value->text, out, size);
        break;
    case TCF_ARRAY:
        snprintf(out, size, "an array of %u", tcf_value_count(value));
        break;
    case TCF_OBJECT:
        snprintf(out, size, "an object");
        break;
    }
}

void tcf_value_reject(const struct tcf_value *value, struct tcf_issues *issues, const char *format, ...)
{
    char pointer[256], found[128], allowed[320];
    tcf_value_pointer(value, pointer, sizeof(pointer));
    tcf_value_describe(value, found, sizeof(found));
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(allowed, sizeof(allowed), format, arguments);
    va_end(arguments);
    tcf_issue_add(issues, value->document->file, pointer, "found %s, allowed %s", found, allowed);
}
