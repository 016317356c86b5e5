/* trtcollctl's output: tables, wrapped lines, JSON, and the daemon's answers as text. */
#include "client/ctl/json.h"
#include "client/ctl/out.h"
#include "client/ctl/render.h"
#include "client/ctl/table.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cmocka_all.h"

/* A stream that ends up in `text`. */
struct capture {
    struct tcc_out out;
    char *text;
    size_t bytes;
};

static void capture_open(struct capture *capture)
{
    memset(capture, 0, sizeof *capture);
    capture->out.file = open_memstream(&capture->text, &capture->bytes);
    assert_non_null(capture->out.file);
}

static void capture_expect(struct capture *capture, const char *expected)
{
    fclose(capture->out.file);
    assert_string_equal(capture->text, expected);
    free(capture->text);
}

static const struct tcc_column columns[] = {{"NAME", TCC_LEFT}, {"N", TCC_RIGHT}, {"NOTE", TCC_OPTIONAL}};

static void add(struct tcc_table *table, const char *name, unsigned number, const char *note)
{
    tcc_table_cell(table, TCC_PLAIN, "%s", name);
    tcc_table_cell(table, TCC_BAD, "%u", number);
    tcc_table_cell(table, TCC_PLAIN, "%s", note);
}

static void test_table(void **state)
{
    (void)state;
    struct capture capture;
    struct tcc_table *table = tcc_table_create(columns, 3);

    add(table, "a", 1, "-");
    add(table, "longer", 12345, "");
    assert_int_equal(tcc_table_rows(table), 2);
    capture_open(&capture);
    tcc_table_print(table, &capture.out, 2, 0);
    /* the note has nothing to say and is left out; no line ends in a space */
    capture_expect(&capture, "  NAME        N\n  a           1\n  longer  12345\n");

    add(table, "b", 2, "look here");
    capture_open(&capture);
    tcc_table_print(table, &capture.out, 0, 0);
    capture_expect(&capture, "NAME        N  NOTE\na           1  -\nlonger  12345\nb           2  look here\n");

    capture_open(&capture);
    tcc_table_print(table, &capture.out, 0, 1);
    capture_expect(&capture, "NAME  N\na     1\n... and 2 more (--limit 0 shows all)\n");
    tcc_table_free(table);
}

static void test_color(void **state)
{
    (void)state;
    struct capture capture;
    struct tcc_table *table = tcc_table_create(columns, 3);

    add(table, "a", 1, "-");
    capture_open(&capture);
    capture.out.color = true;
    tcc_table_print(table, &capture.out, 0, 0);
    /* widths do not count escape sequences, and plain cells have none */
    capture_expect(&capture, "\033[1mNAME\033[0m  \033[1mN\033[0m\na     \033[1;31m1\033[0m\n");
    tcc_table_free(table);
}

static void test_wrap(void **state)
{
    (void)state;
    struct capture capture;

    capture_open(&capture);
    capture.out.width = 20;
    fputs("  ! ", capture.out.file);
    tcc_print_wrapped(&capture.out, TCC_PLAIN, 4, 4, "rank 3 of group tp1 is late");
    capture_expect(&capture, "  ! rank 3 of group\n    tp1 is late\n");

    capture_open(&capture);
    tcc_print_wrapped(&capture.out, TCC_PLAIN, 0, 4, "no terminal, no limit to the width of a line that goes on and on");
    capture_expect(&capture, "no terminal, no limit to the width of a line that goes on and on\n");
}

static void test_json(void **state)
{
    (void)state;
    struct capture capture;
    cJSON *document = tcc_json_begin("test", NULL), *list, *item;

    tcc_json_u64(document, "large", UINT64_MAX - 1);
    tcc_json_u64(document, "absent", TCC_ABSENT);
    tcc_json_hex(document, "hash", 0xabc);
    tcc_json_text(document, "text", "a \"b\"");
    tcc_json_text(document, "none", NULL);
    tcc_json_ranks(document, "ranks", 0x0d);
    list = tcc_json_array(document, "items");
    item = tcc_json_object(list, NULL);
    tcc_json_bool(item, "yes", true);
    tcc_json_real(item, "nan", (double)NAN);
    tcc_json_array(document, "empty");
    capture_open(&capture);
    tcc_json_end(document, capture.out.file, false);
    capture_expect(&capture, "{\n"
                             "  \"schema_version\": 1,\n"
                             "  \"command\": \"test\",\n"
                             "  \"large\": 18446744073709551614,\n"
                             "  \"absent\": null,\n"
                             "  \"hash\": \"0000000000000abc\",\n"
                             "  \"text\": \"a \\\"b\\\"\",\n"
                             "  \"none\": null,\n"
                             "  \"ranks\": [0, 2, 3],\n"
                             "  \"items\": [\n"
                             "    {\n"
                             "      \"yes\": true,\n"
                             "      \"nan\": null\n"
                             "    }\n"
                             "  ],\n"
                             "  \"empty\": []\n"
                             "}\n");

    document = tcc_json_begin("test", NULL);
    capture_open(&capture);
    tcc_json_end(document, capture.out.file, true);
    capture_expect(&capture, "{\"schema_version\":1,\"command\":\"test\"}\n");
}

static void check_render(const char *json, const char *expected)
{
    struct capture capture;
    cJSON *value = cJSON_Parse(json);

    assert_non_null(value);
    capture_open(&capture);
    tcc_render(value, &capture.out, 0);
    capture_expect(&capture, expected);
    cJSON_Delete(value);
}

static void test_render(void **state)
{
    (void)state;
    check_render("{\"lane\": \"direct\", \"workspace_bytes\": 8388608, \"deadline_ns\": 2500000, \"drain_ms\": 1500, \"graph\": false}",
                 "lane             direct\n"
                 "workspace bytes  8 MiB\n"
                 "deadline ns      2.50 ms\n"
                 "drain ms         1.50 s\n"
                 "graph            no\n");
    check_render("{\"steps\": [{\"max_bytes\": 65536, \"strategy\": \"oneshot\"}, {\"max_bytes\": 18446744073709551615, \"strategy\": "
                 "\"twoshot\"}]}",
                 "steps\n"
                 "  MAX BYTES  STRATEGY\n"
                 "     64 KiB  oneshot\n"
                 "        any  twoshot\n");
    check_render("{\"ranks\": [0, 1, 2], \"empty\": [], \"inner\": {\"a\": 1}}", "ranks  0, 1, 2\nempty  -\ninner\n  a  1\n");
    check_render("\"just \\u001b[2Jtext\"", "just ?[2Jtext\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table), cmocka_unit_test(test_color),  cmocka_unit_test(test_wrap),
        cmocka_unit_test(test_json),  cmocka_unit_test(test_render),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
