/* What the daemon tells its service manager, also when that does not listen. */
#include "cmocka_all.h"

#include "daemon/control/notify.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { MORE_THAN_FITS = 20000 };

/* A manager at an address of the abstract namespace, which needs no cleaning up. */
static int open_manager(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char name[sizeof(address.sun_path)];
    socklen_t length = sizeof(address.sun_family);
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    assert_true(fd >= 0);
    length += (socklen_t)snprintf(name, sizeof(name), "@trtcoll-test-notify-%d", (int)getpid());
    memcpy(address.sun_path, name, strlen(name));
    address.sun_path[0] = 0;
    assert_int_equal(bind(fd, (const struct sockaddr *)&address, length), 0);
    assert_int_equal(setenv("NOTIFY_SOCKET", name, 1), 0);
    return fd;
}

static void expect(int manager, const char *begin)
{
    char text[512];
    ssize_t got = recv(manager, text, sizeof(text) - 1, 0);

    assert_true(got >= 0);
    text[got] = 0;
    if (strncmp(text, begin, strlen(begin)) != 0)
        fail_msg("found \"%s\", not \"%s\"", text, begin);
}

static void test_messages(void **state)
{
    int manager = open_manager();
    (void)state;

    tcd_notify_ready();
    expect(manager, "READY=1");
    tcd_notify_status("%u clients", 3u);
    expect(manager, "STATUS=3 clients");
    tcd_notify_reloading();
    expect(manager, "RELOADING=1\nMONOTONIC_USEC=");
    tcd_notify_watchdog();
    expect(manager, "WATCHDOG=1");
    tcd_notify_stopping();
    expect(manager, "STOPPING=1");
    close(manager);
}

/* Nobody reads: no call waits. One that did would be ended by the alarm. */
static void test_nobody_reads(void **state)
{
    int manager = open_manager();
    (void)state;

    alarm(60);
    for (int i = 0; i < MORE_THAN_FITS; i++)
        tcd_notify_status("%d", i);
    alarm(0);
    expect(manager, "STATUS=0");
    close(manager);
}

static void test_nobody_there(void **state)
{
    char endless[200] = "/";
    (void)state;

    close(open_manager());
    tcd_notify_ready();
    setenv("NOTIFY_SOCKET", "", 1);
    tcd_notify_ready();
    memset(endless + 1, 'x', sizeof(endless) - 2);
    setenv("NOTIFY_SOCKET", endless, 1);
    tcd_notify_ready();
    unsetenv("NOTIFY_SOCKET");
    tcd_notify_ready();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_messages),
        cmocka_unit_test(test_nobody_reads),
        cmocka_unit_test(test_nobody_there),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
