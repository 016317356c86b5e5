/* The log: a reader that has stopped stops nobody, and learns later what it has missed. */
#include "cmocka_all.h"

#include "daemon/control/log.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

struct fixture {
    int reader, before;
    char text[65536 + 1];
};

/* Standard error becomes a small pipe: the kernel calls it writable while one of its pages is free. */
static void redirect(struct fixture *fixture)
{
    int ends[2];

    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    assert_true(fcntl(ends[1], F_SETPIPE_SZ, 16384) > 0);
    assert_int_equal(fcntl(ends[0], F_SETFL, O_NONBLOCK), 0);
    fixture->reader = ends[0];
    fixture->before = dup(STDERR_FILENO);
    assert_true(fixture->before >= 0);
    assert_true(dup2(ends[1], STDERR_FILENO) >= 0);
    close(ends[1]);
}

static void restore(struct fixture *fixture)
{
    dup2(fixture->before, STDERR_FILENO);
    close(fixture->before);
    if (fixture->reader >= 0)
        close(fixture->reader);
}

static const char *drain(struct fixture *fixture)
{
    size_t used = 0;
    ssize_t got;

    while ((got = read(fixture->reader, fixture->text + used, sizeof(fixture->text) - 1 - used)) > 0)
        used += (size_t)got;
    fixture->text[used] = 0;
    return fixture->text;
}

static unsigned lines_of(const char *text)
{
    unsigned lines = 0;

    for (; *text; text++)
        lines += *text == '\n';
    return lines;
}

static void test_stopped_reader(void **state)
{
    enum { LINES = 500 };
    static struct fixture fixture;
    const char *text, *words;
    unsigned i, read_lines;
    unsigned long long lost = 0;

    (void)state;
    redirect(&fixture);
    alarm(20); /* a log that waits never comes back */
    for (i = 0; i < LINES; i++)
        tcd_log(TCD_WARNING, "line %u of a pipe that holds fewer of them than this test writes", i);
    alarm(0);
    text = drain(&fixture);
    read_lines = lines_of(text);
    tcd_log(TCD_WARNING, "and on");
    tcd_log(TCD_WARNING, "and on again");
    text = drain(&fixture);
    restore(&fixture);
    assert_in_range(read_lines, 1, LINES - 1);
    words = strstr(text, " lines before this one are lost");
    assert_non_null(words);
    assert_int_equal(sscanf(text, "warning: %llu lines", &lost), 1);
    assert_int_equal(lost, LINES - read_lines);
    assert_non_null(strstr(text, "\nwarning: and on\nwarning: and on again\n"));
    assert_int_equal(lines_of(text), 3);
}

/* Clients choose names and reasons. */
static void test_one_line(void **state)
{
    static struct fixture fixture;
    const char *text;
    char longest[4096];

    (void)state;
    memset(longest, 'x', sizeof(longest) - 1);
    longest[sizeof(longest) - 1] = 0;
    redirect(&fixture);
    tcd_log(TCD_NOTICE, "%s", "a\nb\033[2Jc\177");
    tcd_log(TCD_NOTICE, "%s", longest);
    tcd_log(TCD_DEBUG, "too much detail");
    text = drain(&fixture);
    restore(&fixture);
    assert_int_equal(lines_of(text), 2);
    assert_memory_equal(text, "notice: a?b?[2Jc?\nnotice: xxx", 29);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stopped_reader),
        cmocka_unit_test(test_one_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
