/* The option table, the JSON schema, the manual page and the examples say the same. TRTCOLL_TEST_SOURCE: the source tree. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <cjson/cJSON.h>
#include <dirent.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include <config/src/option.h>
#include <config/src/words.h>
#include <tcf/config.h>
#include <tck/comm.h>

static char *read_source(const char *name)
{
    char path[4096];
    const char *source = getenv("TRTCOLL_TEST_SOURCE");
    snprintf(path, sizeof(path), "%s/config/%s", source ? source : ".", name);
    FILE *file = fopen(path, "r");
    if (!file)
        fail_msg("%s cannot be opened", path);
    char *text = calloc(1, 1 << 20);
    assert_non_null(text);
    size_t bytes = fread(text, 1, (1 << 20) - 1, file);
    assert_true(bytes > 0);
    fclose(file);
    return text;
}

static cJSON *read_schema(void)
{
    char *text = read_source("schema/trtcolld.schema.json");
    cJSON *schema = cJSON_Parse(text);
    free(text);
    assert_non_null(schema);
    return schema;
}

static const cJSON *member(const cJSON *object, const char *key)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);
    if (!item)
        fail_msg("the schema has no \"%s\" in \"%s\"", key, object && object->string ? object->string : "(root)");
    return item;
}

static const cJSON *schema_of_option(const cJSON *schema, const char *path)
{
    char part[64];
    for (;;) {
        size_t length = strcspn(path, ".");
        snprintf(part, sizeof(part), "%.*s", (int)length, path);
        schema = member(member(schema, "properties"), part);
        if (!path[length])
            return schema;
        assert_true(cJSON_IsFalse(member(schema, "additionalProperties")));
        path += length + 1;
    }
}

static void expect_number(const cJSON *leaf, const char *key, uint64_t value)
{
    const cJSON *item = member(leaf, key);
    if (!cJSON_IsNumber(item) || item->valuedouble != (double)value)
        fail_msg("%s of %s is not %" PRIu64, key, leaf->string, value);
}

static void expect_text(const cJSON *leaf, const char *key, const char *value)
{
    assert_true(cJSON_IsString(member(leaf, key)));
    assert_string_equal(member(leaf, key)->valuestring, value);
}

static void expect_powers(const cJSON *leaf, const struct tcf_option *option)
{
    const cJSON *item = member(leaf, "enum")->child;
    for (uint64_t power = 1; power <= option->max; power *= 2) {
        if (power < option->min)
            continue;
        assert_non_null(item);
        assert_true(item->valuedouble == (double)power);
        item = item->next;
    }
    assert_null(item);
}

static void expect_choices(const cJSON *leaf, const struct tcf_option *option)
{
    char joined[256] = "";
    const cJSON *item;
    cJSON_ArrayForEach (item, member(leaf, "enum"))
        snprintf(joined + strlen(joined), sizeof(joined) - strlen(joined), "%s%s", joined[0] ? "|" : "", item->valuestring);
    assert_string_equal(joined, option->choices);
}

static void schema_has_every_option(void **state)
{
    (void)state;
    cJSON *schema = read_schema();
    for (size_t i = 0; i < tcf_option_count; i++) {
        const struct tcf_option *option = &tcf_option_table[i];
        const cJSON *leaf = schema_of_option(schema, option->path);
        assert_int_equal(strncmp(member(leaf, "description")->valuestring, option->help, strlen(option->help)), 0);
        switch (option->type) {
        case TCF_OPTION_U64:
            expect_text(leaf, "type", "integer");
            expect_number(leaf, "minimum", option->min);
            expect_number(leaf, "maximum", option->max);
            expect_number(leaf, "default", option->value);
            break;
        case TCF_OPTION_POWER:
            expect_powers(leaf, option);
            expect_number(leaf, "default", option->value);
            break;
        case TCF_OPTION_MODE:
            expect_text(leaf, "type", "string");
            assert_int_equal(strtoul(member(leaf, "default")->valuestring, NULL, 8), option->value);
            break;
        case TCF_OPTION_BOOL:
            expect_text(leaf, "type", "boolean");
            assert_int_equal(cJSON_IsTrue(member(leaf, "default")), option->value);
            break;
        case TCF_OPTION_STRING:
            expect_text(leaf, "type", "string");
            expect_number(leaf, "maxLength", option->bytes - 1);
            expect_text(leaf, "default", option->text);
            break;
        case TCF_OPTION_CHOICE:
            expect_choices(leaf, option);
            expect_text(leaf, "default", option->text);
            break;
        }
    }
    cJSON_Delete(schema);
}

static bool is_option_or_prefix(const char *path)
{
    size_t length = strlen(path);
    for (size_t i = 0; i < tcf_option_count; i++) {
        const char *known = tcf_option_table[i].path;
        if (strncmp(known, path, length) == 0 && (known[length] == '.' || known[length] == '\0'))
            return true;
    }
    return false;
}

static void check_no_more(const cJSON *object, const char *prefix)
{
    static const char structure[] = "$schema|access|admin|devices|groups|nodes";
    const cJSON *property;
    cJSON_ArrayForEach (property, cJSON_GetObjectItemCaseSensitive(object, "properties")) {
        char path[256];
        snprintf(path, sizeof(path), "%s%s%s", prefix, prefix[0] ? "." : "", property->string);
        if (!prefix[0] && tcf_is_choice(structure, property->string))
            continue;
        if (!is_option_or_prefix(path))
            fail_msg("the schema knows %s, which is no option", path);
        check_no_more(property, path);
    }
}

static void schema_has_nothing_else(void **state)
{
    (void)state;
    cJSON *schema = read_schema();
    check_no_more(schema, "");
    assert_true(cJSON_IsFalse(member(schema, "additionalProperties")));
    cJSON_Delete(schema);
}

/* Limits and names of the structure, which no table declares. */
static void schema_has_the_limits_of_the_structure(void **state)
{
    (void)state;
    assert_int_equal(TCF_MAX_HOST_RANKS, TCK_HOST_MAX_RANKS);
    cJSON *schema = read_schema();
    const cJSON *defs = member(schema, "$defs");
    expect_number(member(member(schema, "properties"), "groups"), "maxItems", TCF_MAX_GROUPS);
    expect_number(member(member(schema, "properties"), "nodes"), "maxItems", TCF_MAX_NODES);
    expect_number(member(defs, "device_number"), "maximum", TCF_MAX_DEVICES - 1);
    expect_number(member(defs, "device_count"), "maximum", TCF_MAX_DEVICES);
    const cJSON *group = member(member(defs, "group"), "properties");
    expect_number(member(group, "ranks"), "maxItems", TCW_MAX_RANKS);
    expect_number(member(member(member(defs, "access"), "properties"), "uids"), "maxItems", TCF_MAX_UIDS);
    expect_number(member(member(member(defs, "access"), "properties"), "gids"), "maxItems", TCF_MAX_UIDS);
    for (unsigned i = 0; i < TCW_STRATEGY_COUNT; i++)
        assert_string_equal(cJSON_GetArrayItem(member(member(group, "strategy"), "enum"), (int)i)->valuestring, tcw_strategy_name(i));
    assert_int_equal(cJSON_GetArraySize(member(member(group, "strategy"), "enum")), TCW_STRATEGY_COUNT);
    for (unsigned i = 0; i < TCW_LANE_COUNT; i++)
        assert_string_equal(cJSON_GetArrayItem(member(member(group, "lane"), "enum"), (int)i)->valuestring, tcw_lane_name(i));
    cJSON_Delete(schema);
}

/* The entry of one option: from its .It line to the next one. */
static char *manual_entry(const char *manual, const char *path)
{
    char line[128];
    snprintf(line, sizeof(line), "\n.It Ic %s\n", path);
    const char *start = strstr(manual, line);
    if (!start)
        fail_msg("trtcolld.conf.5 does not describe %s", path);
    start += strlen(line);
    const char *end = strstr(start, "\n.It ");
    const char *list_end = strstr(start, "\n.El");
    if (!end || (list_end && list_end < end))
        end = list_end;
    assert_non_null(end);
    return strndup(start, (size_t)(end - start));
}

static void expect_in(const char *path, const char *entry, const char *words)
{
    if (!strstr(entry, words))
        fail_msg("trtcolld.conf.5 does not say \"%s\" of %s", words, path);
}

static void manual_describes_every_option(void **state)
{
    (void)state;
    char *manual = read_source("man/trtcolld.conf.5");
    struct tcf_options defaults;
    for (size_t i = 0; i < tcf_option_count; i++) {
        const struct tcf_option *option = &tcf_option_table[i];
        char value[TCF_OPTION_TEXT_BYTES], words[512];
        bool quoted = option->type == TCF_OPTION_MODE || option->type == TCF_OPTION_STRING || option->type == TCF_OPTION_CHOICE;
        bool bytes = option->unit[0] == 'b';
        char *entry = manual_entry(manual, option->path);
        tcf_option_set_default(option, &defaults);
        tcf_option_format(option, &defaults, value);
        snprintf(words, sizeof(words), quoted ? "efault \\(dq%s\\(dq." : bytes ? "efault %s (" : "efault %s.", value);
        expect_in(option->path, entry, words);
        expect_in(option->path, entry, option->reloadable ? "Applied by a reload." : "Needs a restart.");
        if (option->type == TCF_OPTION_U64 || option->type == TCF_OPTION_POWER) {
            snprintf(words, sizeof(words), "from %" PRIu64 " to %" PRIu64, option->min, option->max);
            expect_in(option->path, entry, words);
        }
        free(entry);
    }
    free(manual);
}

static void every_example_is_valid(void **state)
{
    (void)state;
    char path[4096], file[4096 + 300];
    const char *source = getenv("TRTCOLL_TEST_SOURCE");
    unsigned count = 0;
    snprintf(path, sizeof(path), "%s/config/examples", source ? source : ".");
    DIR *directory = opendir(path);
    assert_non_null(directory);
    for (const struct dirent *entry = readdir(directory); entry; entry = readdir(directory)) {
        struct tcf_issues issues = {0};
        if (entry->d_name[0] == '.')
            continue;
        snprintf(file, sizeof(file), "%s/%s", path, entry->d_name);
        struct tcf_config *config = tcf_config_load(file, &issues);
        tcf_issues_print(&issues, stderr);
        tcf_issues_free(&issues);
        assert_non_null(config);
        tcf_config_free(config);
        count++;
    }
    closedir(directory);
    assert_true(count >= 5);
}

static void near_words_are_found(void **state)
{
    (void)state;
    struct tcf_words words = {.count = 0};
    static const char *const known[] = {"groups", "nodes", "access", "node"};
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
        tcf_words_add(&words, known[i], strlen(known[i]));
    tcf_words_add(&words, "nodes", 5);
    assert_int_equal(words.count, 4);
    assert_string_equal(tcf_words_nearest(&words, "grops"), "groups");
    assert_string_equal(tcf_words_nearest(&words, "acces"), "access");
    assert_string_equal(tcf_words_nearest(&words, "nodess"), "nodes");
    assert_string_equal(tcf_words_nearest(&words, "nod"), "node");
    assert_null(tcf_words_nearest(&words, "deadline"));
    assert_null(tcf_words_nearest(&words, "x"));
    assert_null(tcf_words_nearest(&words, "0123456789012345678901234567890123456789012345678901234567890123456789"));
    char list[16];
    tcf_words_list(&words, list, sizeof(list));
    assert_string_equal(list, "groups, nodes, ");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(schema_has_every_option),
        cmocka_unit_test(schema_has_nothing_else),
        cmocka_unit_test(schema_has_the_limits_of_the_structure),
        cmocka_unit_test(manual_describes_every_option),
        cmocka_unit_test(every_example_is_valid),
        cmocka_unit_test(near_words_are_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
