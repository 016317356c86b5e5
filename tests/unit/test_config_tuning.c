/* Tuning files: what is read, what is refused, which table is nearest, and that a configuration reads the file that it names. */
#include "cmocka_all.h"

#include <tcf/tuning.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define STEP(bytes, strategy) "{\"max_bytes\":" bytes ",\"strategy\":\"" strategy "\"}"
#define TABLE(ranks, more)    "{\"ranks\":" ranks more ",\"steps\":[" STEP("null", "oneshot") "]}"
#define TIMED(times)          "{\"ranks\":2,\"steps\":[" STEP("null", "oneshot") "],\"measured\":" times "}"
#define FILE_OF(tables)       "{\"version\":1,\"tables\":[" tables "]}"

static struct tcf_tuning *parse(const char *text, struct tcf_issues *issues)
{
    *issues = (struct tcf_issues){0};
    return tcf_tuning_parse("t.json", text, strlen(text), issues);
}

static struct tcf_tuning *parse_good(const char *text)
{
    struct tcf_issues issues;
    struct tcf_tuning *tuning = parse(text, &issues);

    if (!tuning)
        tcf_issues_print(&issues, stderr);
    assert_non_null(tuning);
    tcf_issues_free(&issues);
    return tuning;
}

static void expect_issue(const char *text, const char *pointer, const char *words)
{
    struct tcf_issues issues;
    bool found = false;
    uint32_t i;

    assert_null(parse(text, &issues));
    for (i = 0; i < issues.count; i++)
        found |= !strcmp(issues.items[i].pointer, pointer) && strstr(issues.items[i].text, words);
    if (!found)
        tcf_issues_print(&issues, stderr);
    assert_true(found);
    tcf_issues_free(&issues);
}

static void values_are_read(void **state)
{
    struct tcf_tuning *tuning =
        parse_good("{\"version\":1,\"gpu\":\"H200\",\"command\":\"trtcollctl tune\",\"tables\":["
                   "{\"ranks\":8,\"fused\":true,\"steps\":[{\"max_bytes\":10,\"strategy\":\"twoshot\",\"blocks\":5},"
                   "{\"max_bytes\":null,\"strategy\":\"oneshot\"}]}]}");
    (void)state;
    assert_string_equal(tuning->name, "t.json (H200)");
    assert_string_equal(tuning->gpu, "H200");
    assert_int_equal(tuning->table_count, 1);
    assert_int_equal(tuning->tables[0].ranks, 8);
    assert_true(tuning->tables[0].fused);
    assert_int_equal(tuning->tables[0].step_count, 2);
    assert_true(tuning->tables[0].steps[0].max_bytes == 10);
    assert_int_equal(tuning->tables[0].steps[0].strategy, TCW_STRATEGY_TWOSHOT);
    assert_int_equal(tuning->tables[0].steps[0].blocks, 5);
    assert_true(tuning->tables[0].steps[1].max_bytes == UINT64_MAX);
    assert_int_equal(tuning->tables[0].steps[1].strategy, TCW_STRATEGY_ONESHOT);
    tcf_tuning_free(tuning);
}

static void times_are_read(void **state)
{
    static const char text[] = FILE_OF(TIMED("[{\"bytes\":16384,\"oneshot_us\":2.5,\"twoshot_us\":3},{\"bytes\":65536,\"twoshot_us\":4}]"));
    struct tcf_tuning *tuning = parse_good(text), *same = parse_good(text), *without = parse_good(FILE_OF(TABLE("2", "")));
    struct tcf_tuning *other = parse_good(FILE_OF(TIMED("[{\"bytes\":16384,\"oneshot_us\":2.5},{\"bytes\":65536,\"twoshot_us\":4}]")));
    const struct tcf_tuning_table *table = &tuning->tables[0];

    (void)state;
    assert_int_equal(table->time_count, 2);
    assert_true(table->times[0].bytes == 16384 && table->times[1].bytes == 65536);
    assert_true(table->times[0].oneshot_us == 2.5 && table->times[0].twoshot_us == 3);
    assert_true(table->times[1].oneshot_us == 0 && table->times[1].twoshot_us == 4);
    assert_int_equal(without->tables[0].time_count, 0);
    assert_true(tcf_tuning_equal(tuning, same));
    assert_false(tcf_tuning_equal(tuning, without));
    assert_false(tcf_tuning_equal(tuning, other));
    tcf_tuning_free(tuning);
    tcf_tuning_free(same);
    tcf_tuning_free(without);
    tcf_tuning_free(other);
}

static void errors_of_times_are_named(void **state)
{
    char many[2048] = FILE_OF("{\"ranks\":2,\"steps\":[" STEP("null", "oneshot") "],\"measured\":[{}");
    int i;

    (void)state;
    many[strlen(many) - strlen("]}")] = 0;
    for (i = 0; i < TCF_MAX_TUNING_TIMES; i++)
        strcat(many, ",{}");
    strcat(many, "]}]}");
    expect_issue(many, "/tables/0/measured", "1 to 32 measurements");
    expect_issue(FILE_OF(TIMED("{}")), "/tables/0/measured", "found an object, allowed an array");
    expect_issue(FILE_OF(TIMED("[]")), "/tables/0/measured", "1 to 32 measurements");
    expect_issue(FILE_OF(TIMED("[7]")), "/tables/0/measured/0", "an object");
    expect_issue(FILE_OF(TIMED("[{\"oneshot_us\":1}]")), "/tables/0/measured/0", "no \"bytes\"");
    expect_issue(FILE_OF(TIMED("[{\"bytes\":0,\"oneshot_us\":1}]")), "/tables/0/measured/0/bytes", "found 0");
    expect_issue(FILE_OF(TIMED("[{\"bytes\":8,\"oneshot_us\":1},{\"bytes\":8,\"oneshot_us\":1}]")), "/tables/0/measured/1/bytes",
                 "more than in the measurement before");
    expect_issue(FILE_OF(TIMED("[{\"bytes\":8}]")), "/tables/0/measured/0", "\"twoshot_us\" or both");
    expect_issue(FILE_OF(TIMED("[{\"bytes\":8,\"oneshot_us\":0}]")), "/tables/0/measured/0/oneshot_us", "found 0, allowed");
    expect_issue(FILE_OF(TIMED("[{\"bytes\":8,\"twoshot_us\":-1}]")), "/tables/0/measured/0/twoshot_us", "more than 0");
    expect_issue(FILE_OF(TIMED("[{\"bytes\":8,\"twoshot_us\":1e10}]")), "/tables/0/measured/0/twoshot_us", "at most 1000000000");
    expect_issue(FILE_OF(TIMED("[{\"bytes\":8,\"twoshot_us\":\"3\"}]")), "/tables/0/measured/0/twoshot_us", "microseconds");
    expect_issue(FILE_OF(TIMED("[{\"bytes\":8,\"us\":3}]")), "/tables/0/measured/0/us", "unknown key");
}

static void errors_are_named(void **state)
{
    (void)state;
    expect_issue("{}", "", "no \"version\"");
    expect_issue("{\"version\":2,\"tables\":[" TABLE("2", "") "]}", "/version", "found 2");
    expect_issue(FILE_OF(""), "/tables", "1 to 64 tables");
    expect_issue(FILE_OF(TABLE("0", "")), "/tables/0/ranks", "found 0");
    expect_issue(FILE_OF(TABLE("2", ",\"fused\":1")), "/tables/0/fused", "true or false");
    expect_issue(FILE_OF(TABLE("2", "") "," TABLE("2", ",\"fused\":false")), "/tables/1", "one table");
    expect_issue(FILE_OF("{\"ranks\":2,\"steps\":[]}"), "/tables/0/steps", "1 to 16 steps");
    expect_issue(FILE_OF("{\"ranks\":2,\"steps\":[" STEP("5", "oneshot") "]}"), "/tables/0/steps/0/max_bytes", "null in the last step");
    expect_issue(FILE_OF("{\"ranks\":2,\"steps\":[" STEP("null", "oneshot") "," STEP("null", "oneshot") "]}"),
                 "/tables/0/steps/0/max_bytes", "found null");
    expect_issue(FILE_OF("{\"ranks\":2,\"steps\":[" STEP("5", "oneshot") "," STEP("5", "twoshot") "," STEP("null", "oneshot") "]}"),
                 "/tables/0/steps/1/max_bytes", "more than in the step before");
    expect_issue(FILE_OF("{\"ranks\":2,\"steps\":[" STEP("null", "lowprecision") "]}"), "/tables/0/steps/0/strategy", "\"twoshot\"");
    expect_issue(FILE_OF("{\"ranks\":2,\"steps\":[{\"max_bytes\":null,\"strategy\":\"oneshot\",\"blocks\":1025}]}"),
                 "/tables/0/steps/0/blocks", "found 1025");
    expect_issue(FILE_OF("{\"ranks\":2,\"step\":[]}"), "/tables/0/step", "unknown key");
    expect_issue("[", "", "");
}

static void the_nearest_is_found(void **state)
{
    struct tcf_tuning *tuning =
        parse_good(FILE_OF(TABLE("2", "") "," TABLE("4", "") "," TABLE("4", ",\"fused\":true") "," TABLE("8", ",\"fused\":true")));
    struct tcf_tuning *other = parse_good(FILE_OF(TABLE("2", "") "," TABLE("4", "")));

    (void)state;
    assert_ptr_equal(tcf_tuning_find(tuning, 4, false), &tuning->tables[1]);
    assert_ptr_equal(tcf_tuning_find(tuning, 4, true), &tuning->tables[2]);
    assert_ptr_equal(tcf_tuning_find(tuning, 2, true), &tuning->tables[0]);
    assert_ptr_equal(tcf_tuning_find(tuning, 3, true), &tuning->tables[2]);
    assert_ptr_equal(tcf_tuning_find(tuning, 6, false), &tuning->tables[3]);
    assert_ptr_equal(tcf_tuning_find(tuning, 16, false), &tuning->tables[3]);
    assert_true(tcf_tuning_equal(tuning, tuning));
    assert_false(tcf_tuning_equal(tuning, other));
    assert_false(tcf_tuning_equal(tuning, NULL));
    assert_true(tcf_tuning_equal(NULL, NULL));
    tcf_tuning_free(other);
    other = parse_good("{\"version\":1,\"gpu\":\"H200\",\"tables\":[" TABLE("2", "") "]}");
    tcf_tuning_free(tuning);
    tuning = parse_good(FILE_OF(TABLE("2", "")));
    assert_string_equal(tuning->gpu, "");
    assert_false(tcf_tuning_equal(tuning, other));
    tcf_tuning_free(tuning);
    tcf_tuning_free(other);
}

static void write_text(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");

    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static void note(void *arg, const char *pointer, const char *from, const char *to, bool applicable)
{
    (void)from;
    (void)to;
    assert_true(applicable);
    snprintf(arg, 64, "%s", pointer);
}

static void a_configuration_reads_it(void **state)
{
    char config_path[64], tuning_path[64], text[256], seen[64] = "";
    struct tcf_config *now, *next;
    struct tcf_issues issues = {0};

    (void)state;
    snprintf(config_path, sizeof(config_path), "/tmp/trtcoll-config-%d.json", (int)getpid());
    snprintf(tuning_path, sizeof(tuning_path), "/tmp/trtcoll-tuning-%d.json", (int)getpid());
    snprintf(text, sizeof(text), "{\"devices\":{\"cuda\":2},\"choosing\":{\"tuning\":\"%s\"}}", tuning_path);
    write_text(config_path, text);
    write_text(tuning_path, FILE_OF(TABLE("2", "")));
    now = tcf_config_load(config_path, &issues);
    assert_non_null(now);
    assert_non_null(now->tuning);
    write_text(tuning_path, FILE_OF(TABLE("4", "")));
    next = tcf_config_load(config_path, &issues);
    assert_non_null(next);
    assert_int_equal(tcf_config_diff(now, next, NULL, note, seen), 0);
    assert_string_equal(seen, "/choosing/tuning");
    write_text(tuning_path, FILE_OF(TABLE("99", "")));
    assert_null(tcf_config_load(config_path, &issues));
    assert_int_equal(issues.count, 1);
    assert_string_equal(issues.items[0].file, tuning_path);
    assert_string_equal(issues.items[0].pointer, "/tables/0/ranks");
    tcf_issues_free(&issues);
    unlink(tuning_path);
    assert_null(tcf_config_load(config_path, &issues));
    assert_int_equal(issues.count, 1);
    tcf_issues_free(&issues);
    unlink(config_path);
    tcf_config_free(now);
    tcf_config_free(next);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_are_read),  cmocka_unit_test(times_are_read),       cmocka_unit_test(errors_of_times_are_named),
        cmocka_unit_test(errors_are_named), cmocka_unit_test(the_nearest_is_found), cmocka_unit_test(a_configuration_reads_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
