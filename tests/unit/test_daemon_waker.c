/* Waking those who sleep on an eventfd, whatever its other owner has done to it. */
#include "cmocka_all.h"

#include "daemon/control/waker.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { ROUNDS = 300 /* more than any queue of completions holds */ };

static int readable(int fd)
{
    struct pollfd watched = {.fd = fd, .events = POLLIN};

    return poll(&watched, 1, 0) == 1 && (watched.revents & POLLIN);
}

static void open_both(struct tcd_waker *waker, int *event)
{
    if (tcd_waker_open(waker))
        skip(); /* a kernel without asynchronous I/O */
    *event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    assert_true(*event >= 0);
}

static void test_wakes(void **state)
{
    struct tcd_waker waker;
    int event;
    (void)state;
    open_both(&waker, &event);
    for (int i = 0; i < ROUNDS; i++) {
        eventfd_t count = 0;
        assert_false(readable(event));
        tcd_waker_wake(&waker, event);
        assert_true(readable(event));
        assert_int_equal(eventfd_read(event, &count), 0);
        assert_int_equal(count, 1);
    }
    tcd_waker_wake(&waker, -1);
    close(event);
    tcd_waker_close(&waker);
}

/* Blocking and full: a write would never come back. It stays readable, and the call returns. */
static void test_full(void **state)
{
    struct tcd_waker waker;
    int event;
    (void)state;
    open_both(&waker, &event);
    assert_int_equal(eventfd_write(event, UINT64_MAX - 1), 0);
    assert_int_equal(fcntl(event, F_SETFL, 0), 0);
    alarm(20);
    for (int i = 0; i < ROUNDS; i++)
        tcd_waker_wake(&waker, event);
    alarm(0);
    assert_true(readable(event));
    close(event);
    tcd_waker_close(&waker);
}

static void test_without(void **state)
{
    struct tcd_waker waker = {.nothing = -1};
    int event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    (void)state;
    tcd_waker_wake(&waker, event);
    assert_false(readable(event));
    close(event);
    tcd_waker_close(&waker);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_wakes),
        cmocka_unit_test(test_full),
        cmocka_unit_test(test_without),
    };
    return cmocka_run_group_tests_name("daemon: waker", tests, NULL, NULL);
}
