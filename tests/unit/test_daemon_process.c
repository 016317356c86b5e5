/* What is known of a process that is nobody's child here, and how the lock of a runtime directory tells who has it. */
#include "cmocka_all.h"

#include "daemon/control/process.h"
#include "daemon/control/runtime.h"
#include "tests/linux_version.h"

#include <tcw/types.h>

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* A child that waits to be ended, at the other end of a socket. */
struct peer {
    struct tcd_process process;
    pid_t pid;
    int socket;
};

static void start(struct peer *peer)
{
    int pair[2];
    char byte;

    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    peer->pid = fork();
    if (!peer->pid) {
        close(pair[0]);
        _exit(read(pair[1], &byte, 1) == 1 ? byte : 99);
    }
    close(pair[1]);
    peer->socket = pair[0];
    /* Of a socketpair the kernel names the maker as peer; the pid is what a listener would have got. */
    peer->process = (struct tcd_process){.pid = peer->pid, .pidfd = -1};
    tcd_process_open(&peer->process, STDIN_FILENO, peer->pid); /* no socket: falls back to the pid */
    assert_true(peer->process.pidfd >= 0);
}

static void wait_ended(const struct peer *peer)
{
    struct pollfd ended = {.fd = peer->process.pidfd, .events = POLLIN};

    assert_int_equal(poll(&ended, 1, 10000), 1);
}

static void finish(struct peer *peer)
{
    waitpid(peer->pid, NULL, 0);
    tcd_process_close(&peer->process);
    close(peer->socket);
}

static void test_alive(void **state)
{
    struct peer peer;
    struct tcd_fate fate;
    char text[128];

    (void)state;
    start(&peer);
    tcd_process_fate(&peer.process, &fate);
    assert_false(fate.dead);
    assert_int_equal(tcd_fate_text(&fate, text, sizeof(text)), 0);
    assert_string_equal(text, "closed its connection");
    kill(peer.pid, SIGKILL);
    finish(&peer);
}

static void test_killed(void **state)
{
    struct peer peer;
    struct tcd_fate fate;
    char text[128];

    (void)state;
    start(&peer);
    kill(peer.pid, SIGKILL);
    wait_ended(&peer);
    tcd_process_fate(&peer.process, &fate);
    assert_true(fate.dead);
    assert_true(fate.known);
    assert_int_equal(tcd_fate_text(&fate, text, sizeof(text)), SIGKILL);
    assert_non_null(strstr(text, "signal 9"));
    finish(&peer);
}

static void test_exited(void **state)
{
    struct peer peer;
    struct tcd_fate fate;
    char text[128];

    (void)state;
    start(&peer);
    assert_int_equal(write(peer.socket, "\x07", 1), 1);
    wait_ended(&peer);
    tcd_process_fate(&peer.process, &fate);
    assert_true(fate.dead);
    assert_int_equal(tcd_fate_text(&fate, text, sizeof(text)), 0);
    assert_non_null(strstr(text, "status 7"));
    finish(&peer);
}

/* Whether the kernel tells how a process ended that was reaped. */
static bool tells_of_reaped(void)
{
    return linux_at_least(6, 15);
}

/* The parent was faster: what ended is certain, and how, if the kernel tells. */
static void expect_reaped(const struct peer *peer, int signal, const char *told)
{
    struct tcd_fate fate;
    char text[128];

    tcd_process_fate(&peer->process, &fate);
    assert_true(fate.dead);
    if (!fate.known)
        assert_false(tells_of_reaped());
    assert_int_equal(tcd_fate_text(&fate, text, sizeof(text)), fate.known ? signal : 0);
    assert_string_equal(text, fate.known ? told : "ended without leaving");
}

static void test_reaped(void **state)
{
    static const struct {
        const char *told;
        char byte; /* what the child is told to exit with */
        int signal;
    } ends[] = {{"was killed by signal 15 (Terminated)", 0, SIGTERM}, {"exited with status 7", 7, 0}, {"exited with status 0", 0, 0}};

    (void)state;
    for (unsigned i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
        struct peer peer;
        start(&peer);
        if (ends[i].signal)
            assert_int_equal(kill(peer.pid, ends[i].signal), 0);
        else
            assert_int_equal(write(peer.socket, &ends[i].byte, 1), 1);
        assert_int_equal(waitpid(peer.pid, NULL, 0), peer.pid);
        expect_reaped(&peer, ends[i].signal, ends[i].told);
        finish(&peer);
    }
}

/* Reaped at once, by the kernel: asked at any moment of that, it is not known that the process ended without how. */
static void test_reaped_meanwhile(void **state)
{
    (void)state;
    if (!tells_of_reaped()) {
        print_message("skipped: how a reaped process ended is told from Linux 6.15 on\n");
        skip();
    }
    assert_true(signal(SIGCHLD, SIG_IGN) != SIG_ERR);
    for (unsigned i = 0; i < 50; i++) {
        struct tcd_fate fate = {.dead = false};
        struct peer peer;
        char text[128];

        start(&peer);
        assert_int_equal(kill(peer.pid, SIGKILL), 0);
        while (!fate.dead)
            tcd_process_fate(&peer.process, &fate);
        assert_true(fate.known);
        assert_int_equal(tcd_fate_text(&fate, text, sizeof(text)), SIGKILL);
        finish(&peer);
    }
    assert_true(signal(SIGCHLD, SIG_DFL) != SIG_ERR);
}

/* ---- the runtime directory ---- */

static void test_lock(void **state)
{
    char dir[] = "/tmp/trtcoll-test-XXXXXX", path[64];
    struct tcd_runtime first, second;
    pid_t holder = 0;

    (void)state;
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof(path), "%s/run/", dir);
    tcd_runtime_choose(&first, path);
    tcd_runtime_choose(&second, path);
    assert_int_equal(tcd_runtime_open(&first, &holder), 0);
    assert_int_equal(tcd_runtime_open(&second, &holder), TCW_EEXIST);
    assert_int_equal(holder, getpid());
    tcd_runtime_close(&first);
    assert_int_equal(tcd_runtime_open(&second, &holder), 0);
    tcd_runtime_close(&second);
    snprintf(path, sizeof(path), "%s/run/trtcolld.lock", dir);
    assert_int_equal(unlink(path), 0);
    snprintf(path, sizeof(path), "%s/run", dir);
    assert_int_equal(rmdir(path), 0);
    assert_int_equal(rmdir(dir), 0);
}

static void test_open_to_everybody(void **state)
{
    char dir[] = "/tmp/trtcoll-test-XXXXXX";
    struct tcd_runtime runtime;
    pid_t holder = 0;

    (void)state;
    assert_non_null(mkdtemp(dir));
    assert_int_equal(chmod(dir, 0777), 0);
    tcd_runtime_choose(&runtime, dir);
    assert_int_equal(tcd_runtime_open(&runtime, &holder), TCW_EPERM);
    assert_int_equal(runtime.lock, -1);
    assert_int_equal(rmdir(dir), 0);
}

static void test_rule(void **state)
{
    struct tcd_runtime runtime;

    (void)state;
    setenv("RUNTIME_DIRECTORY", "/run/one:/run/two", 1);
    tcd_runtime_choose(&runtime, "");
    assert_string_equal(runtime.dir, "/run/one");
    assert_string_equal(runtime.socket_path, "/run/one/trtcolld.sock");
    tcd_runtime_choose(&runtime, "/here//");
    assert_string_equal(runtime.dir, "/here");
    unsetenv("RUNTIME_DIRECTORY");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_alive),
        cmocka_unit_test(test_killed),
        cmocka_unit_test(test_exited),
        cmocka_unit_test(test_reaped),
        cmocka_unit_test(test_reaped_meanwhile),
        cmocka_unit_test(test_lock),
        cmocka_unit_test(test_rule),
        cmocka_unit_test(test_open_to_everybody),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
