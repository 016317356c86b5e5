/* trtcollctl's texts: units, ranges of ranks, the cleaning of what clients chose, numbers typed by operators. */
#include "client/ctl/text.h"

#include <locale.h>
#include <string.h>

#include "cmocka_all.h"

static void test_bytes(void **state)
{
    (void)state;
    assert_string_equal(tcc_bytes(0).s, "0 B");
    assert_string_equal(tcc_bytes(1000).s, "1000 B");
    assert_string_equal(tcc_bytes(1023).s, "1023 B");
    assert_string_equal(tcc_bytes(1024).s, "1 KiB");
    assert_string_equal(tcc_bytes(1536).s, "1.50 KiB");
    assert_string_equal(tcc_bytes(16384).s, "16 KiB");
    assert_string_equal(tcc_bytes(1048575).s, "1.00 MiB"); /* never "1024 KiB" */
    assert_string_equal(tcc_bytes(300ull << 20).s, "300 MiB");
    assert_string_equal(tcc_bytes((1ull << 30) + (1ull << 28)).s, "1.25 GiB");
    assert_string_equal(tcc_bytes(UINT64_MAX - 1).s, "16 EiB");
    assert_string_equal(tcc_bytes(TCC_ABSENT).s, "-");
    assert_string_equal(tcc_byte_rate(1.5 * 1024 * 1024).s, "1.50 MiB/s");
    assert_string_equal(tcc_byte_rate(0).s, "0 B/s");
}

static void test_times(void **state)
{
    (void)state;
    assert_string_equal(tcc_ns(0).s, "0 ns");
    assert_string_equal(tcc_ns(999).s, "999 ns");
    assert_string_equal(tcc_ns(1000).s, "1 us");
    assert_string_equal(tcc_ns(1250).s, "1.25 us");
    assert_string_equal(tcc_ns(45250).s, "45.2 us");
    assert_string_equal(tcc_ns(999499).s, "999 us");
    assert_string_equal(tcc_ns(999999).s, "1.00 ms"); /* never "1000 us" */
    assert_string_equal(tcc_ns(30000000000ull).s, "30 s");
    assert_string_equal(tcc_ns(59900000000ull).s, "59.9 s");
    assert_string_equal(tcc_ns(60000000000ull).s, "1 min");
    assert_string_equal(tcc_ns(125000000000ull).s, "2 min 5 s");
    assert_string_equal(tcc_ns(7384000000000ull).s, "2 h 3 min");
    assert_string_equal(tcc_ns(3600000000000ull * 76).s, "3 d 4 h");
    assert_string_equal(tcc_ns(TCC_ABSENT).s, "-");
}

static void test_counts(void **state)
{
    (void)state;
    assert_string_equal(tcc_count(0).s, "0");
    assert_string_equal(tcc_count(9999).s, "9999");
    assert_string_equal(tcc_count(10000).s, "10 k");
    assert_string_equal(tcc_count(12345).s, "12.3 k");
    assert_string_equal(tcc_count(999999).s, "1.00 M");
    assert_string_equal(tcc_count(13200000).s, "13.2 M");
    assert_string_equal(tcc_count(TCC_ABSENT).s, "-");
    assert_string_equal(tcc_number(UINT64_MAX - 1).s, "18446744073709551614");
    assert_string_equal(tcc_number(TCC_ABSENT).s, "-");
    assert_string_equal(tcc_times(1).s, "once");
    assert_string_equal(tcc_times(2).s, "2 times");
    assert_string_equal(tcc_rate(0.25).s, "0.25");
    assert_string_equal(tcc_rate(842.4).s, "842");
    assert_string_equal(tcc_percent(0).s, "0 %");
    assert_string_equal(tcc_percent(0.0001).s, "< 0.1 %");
    assert_string_equal(tcc_percent(0.004).s, "0.4 %");
    assert_string_equal(tcc_percent(0.264).s, "26 %");
    assert_string_equal(tcc_percent(1).s, "100 %");
}

static void test_ranks(void **state)
{
    (void)state;
    assert_string_equal(tcc_ranks(0).s, "-");
    assert_string_equal(tcc_ranks(1).s, "0");
    assert_string_equal(tcc_ranks(3).s, "0, 1");
    assert_string_equal(tcc_ranks(0x0f).s, "0-3");
    assert_string_equal(tcc_ranks(0x1af).s, "0-3, 5, 7, 8");
    assert_string_equal(tcc_ranks(1ull << 63).s, "63");
    assert_string_equal(tcc_ranks(UINT64_MAX).s, "0-63");

    struct tcc_ranks many = tcc_ranks(0x5555555555555555ull); /* every second rank does not fit */
    assert_true(strlen(many.s) < sizeof many.s);
    assert_string_equal(many.s + strlen(many.s) - 5, ", ...");
}

static void check_clean(const char *from, bool ascii, const char *expected)
{
    char text[128];
    strcpy(text, from);
    tcc_text_clean(text, ascii);
    assert_string_equal(text, expected);
}

/* A client's name must neither steer the operator's terminal nor break JSON. */
static void test_clean(void **state)
{
    (void)state;
    check_clean("engine \"0\"", false, "engine \"0\"");
    check_clean("\x1b[2J\x1b]0;title\x07", false, "?[2J?]0;title?");
    check_clean("line\nfeed\ttab\x7f", false, "line?feed?tab?");
    check_clean("gr\xc3\xbc\xc3\x9f"
                "e",
                false,
                "gr\xc3\xbc\xc3\x9f"
                "e");
    check_clean("gr\xc3\xbc\xc3\x9f"
                "e",
                true, "gr??e");
    check_clean("\xff\xfe", false, "??");
    check_clean("cut \xc3", false, "cut ?");
    check_clean("cut \xe2\x82", false, "cut ??");
    check_clean("\xc0\xaf", false, "??");            /* overlong */
    check_clean("\xed\xa0\x80", false, "???");       /* surrogate */
    check_clean("\xc2\x9b", false, "?");             /* C1: what some terminals take for an escape sequence */
    check_clean("a\xe2\x80\xaetxt", false, "a?txt"); /* right-to-left override */

    char lines[] = "one\ntwo\r\n";
    tcc_text_clean_lines(lines, false);
    assert_string_equal(lines, "one\ntwo?\n");
}

static void test_width(void **state)
{
    (void)state;
    assert_non_null(setlocale(LC_CTYPE, "C.UTF-8"));
    assert_int_equal(tcc_text_width(""), 0);
    assert_int_equal(tcc_text_width("abc"), 3);
    assert_int_equal(tcc_text_width("gr\xc3\xbc\xc3\x9f"), 4);
    assert_int_equal(tcc_text_width("\xe2\x96\x88\xe2\x96\x81"), 2); /* blocks of a distribution */
    assert_int_equal(tcc_text_width("\xe6\xbc\xa2"), 2);             /* a wide character */
    assert_int_equal(tcc_text_width_n("abcdef", 4), 4);
}

static void test_parse(void **state)
{
    (void)state;
    uint64_t value = 7;
    double seconds = 7;

    assert_true(tcc_parse_u64("0", &value));
    assert_int_equal(value, 0);
    assert_true(tcc_parse_u64("18446744073709551615", &value));
    assert_true(value == UINT64_MAX);
    static const char *const bad[] = {"", "-1", "+1", " 1", "1 ", "0x10", "1e3", "18446744073709551616", "ten"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_false(tcc_parse_u64(bad[i], &value));

    assert_true(tcc_parse_seconds("0.5", &seconds));
    assert_true(seconds == 0.5);
    assert_true(tcc_parse_seconds(".25", &seconds));
    static const char *const bad_seconds[] = {"", "0", "-1", "nan", "inf", "1s", "86401", "."};
    for (size_t i = 0; i < sizeof bad_seconds / sizeof bad_seconds[0]; i++)
        assert_false(tcc_parse_seconds(bad_seconds[i], &seconds));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bytes), cmocka_unit_test(test_times), cmocka_unit_test(test_counts), cmocka_unit_test(test_ranks),
        cmocka_unit_test(test_clean), cmocka_unit_test(test_width), cmocka_unit_test(test_parse),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
