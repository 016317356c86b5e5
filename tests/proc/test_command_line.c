/* trtcolld as a program: checking configurations, the second daemon, signals, readiness, reloading. */
#include "cases.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static int daemon_command(const char *const *arguments, char *output, size_t size)
{
    const char *argv[12] = {proc_daemon_path()};
    for (unsigned i = 0; arguments[i]; i++)
        argv[i + 1] = arguments[i];
    int status = proc_command(argv, NULL, 20000, output, size);
    if (!WIFEXITED(status))
        fail_msg("trtcolld %s died, wait status %#x: %s", arguments[0], (unsigned)status, output);
    return WEXITSTATUS(status);
}

#define RUN(output, ...) daemon_command((const char *const[]){__VA_ARGS__, NULL}, output, sizeof(output))

static void expect_in(const char *output, const char *text)
{
    if (!strstr(output, text))
        fail_msg("'%s' is not in: %s", text, output);
}

static void write_file(const char *path, const char *text)
{
    FILE *file = fopen(path, "we");
    assert_non_null(file);
    fputs(text, file);
    assert_int_equal(fclose(file), 0);
}

/* ---- options ---- */

static void test_options(void **state)
{
    (void)state;
    char output[4096];
    assert_int_equal(RUN(output, "--help"), 0);
    expect_in(output, "--check-config");
    assert_int_equal(RUN(output, "--version"), 0);
    expect_in(output, "0.1.0");
    assert_int_equal(RUN(output, "--nonsense"), 2);
    assert_int_equal(RUN(output, "extra"), 2);
    assert_int_equal(RUN(output, "--log-level", "loud", "--config", "x"), 2);
    assert_int_equal(RUN(output, "--executor"), 2);
    assert_int_equal(RUN(output, "--config", "/nonexistent/trtcolld.json"), 2);
    expect_in(output, "/nonexistent/trtcolld.json");
}

/* ---- --check-config ---- */

/* Every error is printed with the file, the JSON pointer, what was found and what is allowed. */
static void test_check_config(void **state)
{
    (void)state;
    char output[8192];
    struct proc_daemon *daemon = proc_daemon_prepare(&(struct proc_settings){.groups = "[{\"name\": \"tp\", \"ranks\": [0, 1]}]"});
    assert_int_equal(RUN(output, "--check-config", daemon->config), 0);
    assert_int_equal(access(daemon->socket, F_OK), -1); /* it only checked */

    write_file(daemon->config,
               "{\n \"devices\": {\"host\": 2},\n \"ring\": {\"entries\": 100},\n \"limits\": {\"client\": {\"byts\": 5}},\n"
               " \"groups\": [{\"name\": \"tp\", \"ranks\": [0, 7]}, {\"name\": \"a b\", \"ranks\": [0]}]\n}\n");
    assert_int_equal(RUN(output, "--check-config", daemon->config), 2);
    expect_in(output, daemon->config);
    expect_in(output, "/ring/entries");
    expect_in(output, "100");
    expect_in(output, "/limits/client/byts");
    expect_in(output, "/groups/0/ranks/1");
    expect_in(output, "/groups/1/name");

    write_file(daemon->config, "{\"devices\": {\"host\": 2},");
    assert_int_equal(RUN(output, "--check-config", daemon->config), 2);
    expect_in(output, daemon->config);
    assert_int_equal(RUN(output, "--config", daemon->config), 2); /* the daemon refuses the same */
    expect_in(output, daemon->config);
    assert_int_equal(access(daemon->socket, F_OK), -1);

    const char *source = getenv("TRTCOLL_TEST_SOURCE");
    static const char *const examples[] = {"laptop", "tp4-pp2", "two-engines", "multi-node"};
    assert_non_null(source);
    for (size_t i = 0; i < sizeof(examples) / sizeof(examples[0]); i++) {
        char path[512];
        snprintf(path, sizeof(path), "%s/config/examples/%s.json", source, examples[i]);
        int code = RUN(output, "--check-config", path);
        if (code != 0)
            fail_msg("%s: exit status %d: %s", path, code, output);
    }
    proc_daemon_finish(daemon);
}

/* ---- one daemon per directory ---- */

static void test_second_daemon(void **state)
{
    (void)state;
    char output[4096], text[64];
    struct proc_daemon *daemon = proc_daemon_start(&(struct proc_settings){.devices = 1});
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(RUN(output, "--config", daemon->config), 3);
        snprintf(text, sizeof(text), "already running as pid %d", daemon->pid);
        expect_in(output, text);
        assert_true(proc_daemon_alive(daemon));
    }
    /* The lock dies with its holder, also when nobody cleans up; the socket that is left behind does not hinder. */
    proc_daemon_kill(daemon);
    assert_int_equal(access(daemon->socket, F_OK), 0);
    proc_daemon_restart(daemon);
    proc_daemon_finish(daemon);
}

/* A symlink at the place of the socket is somebody's trap. */
static void test_symlink_at_socket(void **state)
{
    (void)state;
    char target[128], output[4096];
    struct proc_daemon *daemon = proc_daemon_prepare(&(struct proc_settings){.devices = 1});
    struct stat status;
    snprintf(target, sizeof(target), "%s/precious", daemon->base);
    write_file(target, "precious");
    assert_int_equal(symlink(target, daemon->socket), 0);
    int code = RUN(output, "--config", daemon->config, "--check-config", daemon->config);
    assert_int_equal(code, 0);
    fflush(NULL);
    const char *argv[] = {"/usr/bin/timeout", "0.5", proc_daemon_path(), "--config", daemon->config, NULL};
    int end = proc_command(argv, NULL, 10000, output, sizeof(output));
    assert_int_equal(stat(target, &status), 0); /* whether it refused or replaced the link: the target is as it was */
    assert_true(S_ISREG(status.st_mode) && status.st_size == 8);
    assert_true(WIFEXITED(end));
    unlink(target);
    unlink(daemon->socket);
    proc_daemon_finish(daemon);
}

/* ---- stopping ---- */

static void attached_body(struct proc_me *me)
{
    struct trtcoll_ctx *ctx = proc_open(me, -1);
    struct trtcoll_group *group = proc_group(me, ctx, "attached");
    proc_sum(group, TRTCOLL_LANE_SERVED, 10);
    proc_reach(me, 1);
    proc_await_parent(me, 1);
    /* Draining: what is there goes on, nobody new comes in. */
    struct trtcoll_ctx_options options = TRTCOLL_CTX_OPTIONS_INIT;
    struct trtcoll_ctx *other = NULL;
    options.socket_path = me->daemon->socket;
    int code;
    uint64_t end = proc_now_ns() + PROC_PATIENCE_MS * 1000000ull;
    while ((code = trtcoll_ctx_open(&options, &other)) == 0) { /* until the signal has arrived */
        trtcoll_ctx_close(other);
        CHECK(proc_now_ns() < end);
    }
    CHECK_MSG(code == TRTCOLL_EDRAIN || code == TRTCOLL_ECONN, "%s", trtcoll_error_name(code));
    proc_barrier(me);
    struct trtcoll_run_args args = TRTCOLL_RUN_ARGS_INIT;
    (void)args;
    CHECK_OK(trtcoll_barrier(group));
    proc_reach(me, 2);
    proc_await_parent(me, 2);
    trtcoll_ctx_close(ctx);
}

/* SIGTERM waits for the clients to leave. */
static void test_drain(void **state)
{
    (void)state;
    struct proc_daemon *daemon = proc_daemon_start(&(struct proc_settings){.devices = 2, .drain_ms = 30000});
    struct proc_run *ranks = proc_run_start(daemon, 2, attached_body, NULL);
    proc_run_await_all(ranks, 1);
    assert_int_equal(kill(daemon->pid, SIGTERM), 0);
    proc_run_reach(ranks, 1);
    proc_run_await_all(ranks, 2);
    assert_true(proc_daemon_alive(daemon));
    proc_run_reach(ranks, 2);
    proc_run_wait(ranks, 20000);
    int status = -1;
    uint64_t end = proc_now_ns() + PROC_PATIENCE_MS * 1000000ull;
    while (waitpid(daemon->pid, &status, WNOHANG) == 0) {
        if (proc_now_ns() > end)
            fail_msg("the daemon stays though its clients have left");
        proc_nap();
    }
    daemon->pid = 0;
    assert_int_equal(status, 0);
    proc_daemon_finish(daemon);
}

static void lingering_body(struct proc_me *me)
{
    struct trtcoll_ctx *ctx = proc_open(me, -1);
    struct trtcoll_group *group = proc_group(me, ctx, "lingering");
    proc_sum(group, TRTCOLL_LANE_SERVED, 10);
    proc_reach(me, 1);
    proc_await_parent(me, 1); /* the daemon is gone by now */
    struct trtcoll_group_info info = {.size = sizeof(info)};
    CHECK_OK(trtcoll_group_status(group, &info));
    CHECK_MSG(info.code == TRTCOLL_EABORTED && info.culprit == TRTCOLL_RANK_NONE, "%s, blames rank %u", trtcoll_error_name(info.code),
              info.culprit);
    struct trtcoll_barrier_desc desc = TRTCOLL_BARRIER_DESC_INIT;
    struct trtcoll_plan *plan = NULL;
    int code = trtcoll_plan_create_barrier(group, &desc, &plan);
    CHECK_MSG(code < 0, "a plan without a daemon");
    trtcoll_ctx_close(ctx);
}

/* It waits no longer than it was told, and a second signal ends it at once. */
static void test_drain_ends(void **state)
{
    (void)state;
    for (unsigned twice = 0; twice < 2; twice++) {
        struct proc_daemon *daemon = proc_daemon_start(&(struct proc_settings){.devices = 2, .drain_ms = twice ? 60000 : 400});
        struct proc_run *ranks = proc_run_start(daemon, 2, lingering_body, NULL);
        proc_run_await_all(ranks, 1);
        uint64_t begin = proc_now_ns();
        if (twice) {
            assert_int_equal(kill(daemon->pid, SIGTERM), 0);
            for (int i = 0; i < 50; i++)
                proc_nap();
            assert_true(proc_daemon_alive(daemon));
        }
        int status = proc_daemon_stop(daemon, 400 + 4 * proc_allowance_ms());
        double ms = (double)(proc_now_ns() - begin) / 1e6;
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
        assert_true(twice || ms >= 390);
        proc_run_reach(ranks, 1);
        proc_run_wait(ranks, 20000);
        proc_daemon_finish(daemon);
    }
}

/* ---- reloading ---- */

static void member_body(struct proc_me *me)
{
    struct trtcoll_ctx *ctx = proc_open(me, -1);
    struct trtcoll_group *group = NULL, *added = NULL;
    CHECK_OK(trtcoll_group_join(ctx, "old", me->rank, 0, &group));
    uint64_t deadline = case_group_info(group).deadline_ns;
    CHECK_EQ(deadline, 20000 * 1000000ull);
    proc_reach(me, 1);
    proc_await_parent(me, 1); /* reloaded: a new group is there, the old one goes on */
    CHECK_OK(trtcoll_group_join(ctx, "new", me->rank, 0, &added));
    proc_sum(added, TRTCOLL_LANE_SERVED, 10);
    proc_sum(group, TRTCOLL_LANE_DIRECT, 10);
    uint64_t end = proc_now_ns() + PROC_PATIENCE_MS * 1000000ull;
    while (case_group_info(group).deadline_ns != 5000 * 1000000ull) /* may change at any time, also in groups that are in use */
        CHECK_MSG(proc_now_ns() < end, "the deadline is still %llu ns", (unsigned long long)case_group_info(group).deadline_ns);
    proc_reach(me, 2);
    proc_await_parent(me, 2);
    proc_sum(group, TRTCOLL_LANE_SERVED, 10);
    trtcoll_ctx_close(ctx);
}

static void test_reload(void **state)
{
    (void)state;
    struct proc_settings settings = {.devices = 2, .groups = "[{\"name\": \"old\", \"ranks\": [0, 1]}]"};
    struct proc_daemon *daemon = proc_daemon_start(&settings);
    struct proc_run *ranks = proc_run_start(daemon, 2, member_body, NULL);
    proc_run_await_all(ranks, 1);
    settings.groups = "[{\"name\": \"old\", \"ranks\": [0, 1]}, {\"name\": \"new\", \"ranks\": [0, 1]}]";
    settings.operation_ms = 5000;
    proc_daemon_configure(daemon, &settings);
    assert_int_equal(kill(daemon->pid, SIGHUP), 0);
    assert_true(proc_daemon_logged(daemon, "/groups", PROC_PATIENCE_MS));
    proc_run_reach(ranks, 1);
    proc_run_await_all(ranks, 2);

    /* What cannot change while running stays, and the log says so; a broken file changes nothing. */
    settings.devices = 3;
    proc_daemon_configure(daemon, &settings);
    assert_int_equal(kill(daemon->pid, SIGHUP), 0);
    assert_true(proc_daemon_logged(daemon, "/nodes", PROC_PATIENCE_MS)); /* the devices of this node */
    write_file(daemon->config, "{\"devices\": {\"host\": 2}, \"nonsense\": 1}");
    assert_int_equal(kill(daemon->pid, SIGHUP), 0);
    assert_true(proc_daemon_logged(daemon, "/nonsense", PROC_PATIENCE_MS));
    assert_true(proc_daemon_alive(daemon));
    proc_run_reach(ranks, 2);
    proc_run_wait(ranks, 20000);
    proc_daemon_finish(daemon);
}

/* ---- readiness ---- */

static void await_notice(int socket, const char *wanted)
{
    uint64_t end = proc_now_ns() + PROC_PATIENCE_MS * 1000000ull;
    while (proc_now_ns() < end) {
        char text[512];
        ssize_t got = recv(socket, text, sizeof(text) - 1, MSG_DONTWAIT);
        if (got < 0) {
            proc_nap();
            continue;
        }
        text[got] = 0;
        if (strstr(text, wanted))
            return;
    }
    fail_msg("no '%s' on the notification socket", wanted);
}

static void test_notifications(void **state)
{
    (void)state;
    struct proc_daemon *daemon = proc_daemon_prepare(&(struct proc_settings){.devices = 1});
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof(address.sun_path), "%s/notify", daemon->base);
    int notify = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(notify, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(setenv("NOTIFY_SOCKET", address.sun_path, 1), 0);
    proc_daemon_restart(daemon);
    unsetenv("NOTIFY_SOCKET");
    await_notice(notify, "READY=1");
    assert_int_equal(kill(daemon->pid, SIGHUP), 0);
    await_notice(notify, "RELOADING=1");
    await_notice(notify, "READY=1");
    assert_int_equal(kill(daemon->pid, SIGTERM), 0);
    await_notice(notify, "STOPPING=1");
    int status = -1;
    assert_int_equal(waitpid(daemon->pid, &status, 0), daemon->pid);
    daemon->pid = 0;
    assert_int_equal(status, 0);
    close(notify);
    proc_daemon_finish(daemon);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_options, proc_teardown),       cmocka_unit_test_teardown(test_check_config, proc_teardown),
        cmocka_unit_test_teardown(test_second_daemon, proc_teardown), cmocka_unit_test_teardown(test_symlink_at_socket, proc_teardown),
        cmocka_unit_test_teardown(test_drain, proc_teardown),         cmocka_unit_test_teardown(test_drain_ends, proc_teardown),
        cmocka_unit_test_teardown(test_reload, proc_teardown),        cmocka_unit_test_teardown(test_notifications, proc_teardown),
    };
    return cmocka_run_group_tests_name("command line", tests, NULL, NULL);
}
