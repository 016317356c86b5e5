/* trtcollctl on a living, stopped, killed and absent daemon: what it says, in text and JSON, and its exit codes. */
#include "cases.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

enum { OUTPUT = 1 << 18 };
static char output[OUTPUT];

static int ctl_command(const struct proc_daemon *daemon, const char *const *arguments)
{
    const char *argv[16] = {proc_ctl_path(), "--runtime-dir", daemon->runtime};
    for (unsigned i = 0; arguments[i]; i++)
        argv[i + 3] = arguments[i];
    int status = proc_command(argv, NULL, 20000, output, sizeof(output));
    if (!WIFEXITED(status))
        fail_msg("trtcollctl %s died, wait status %#x: %s", arguments[0], (unsigned)status, output);
    if (strchr(output, '\033'))
        fail_msg("trtcollctl %s: escape sequences though this is no terminal", arguments[0]);
    return WEXITSTATUS(status);
}

#define CTL(daemon, ...) ctl_command(daemon, (const char *const[]){__VA_ARGS__, NULL})

static void expect(int code, int wanted, const char *text)
{
    if (code != wanted)
        fail_msg("exit code %d instead of %d: %s", code, wanted, output);
    if (text && !strstr(output, text))
        fail_msg("'%s' is not in: %s", text, output);
}

/* Well-formed JSON, as far as brackets and quotes can tell; the parsers of programs are tested elsewhere. */
static void expect_json(const char *command)
{
    int depth = 0;
    bool quoted = false;
    for (const char *at = output; *at; at++) {
        if (quoted) {
            at += *at == '\\' && at[1];
            quoted = *at != '"';
            continue;
        }
        quoted = *at == '"';
        depth += (*at == '{' || *at == '[') - (*at == '}' || *at == ']');
        if (depth < 0)
            break;
    }
    if (depth != 0 || quoted || !strstr(output, "\"schema_version\": 1"))
        fail_msg("%s: not the JSON that was promised: %.300s", command, output);
}

static void busy_body(struct proc_me *me)
{
    struct trtcoll_ctx *ctx = proc_open(me, me->rank);
    struct trtcoll_group *group = proc_group(me, ctx, "busy");
    for (unsigned i = 0; i < 10; i++)
        proc_sum(group, i % 2 ? TRTCOLL_LANE_DIRECT : TRTCOLL_LANE_SERVED, 1000);
    void *memory = NULL;
    CHECK_OK(trtcoll_alloc(ctx, 123456, &memory));
    proc_reach(me, 1);
    proc_await_parent(me, 1);
    trtcoll_ctx_close(ctx);
}

static const char *const looking[] = {"status", "health", "groups", "clients", "memory", "latency", "dump", "fields"};

static void look_around(struct proc_daemon *daemon, int wanted)
{
    for (size_t i = 0; i < sizeof(looking) / sizeof(looking[0]); i++) {
        bool judges = i < 2;
        expect(CTL(daemon, looking[i]), judges ? wanted : 0, NULL);
        assert_true(output[0]);
        expect(CTL(daemon, looking[i], "--json"), judges ? wanted : 0, NULL);
        expect_json(looking[i]);
    }
    expect(CTL(daemon, "top", "--batch", "--count", "2", "--interval", "0.1"), 0, NULL);
}

/* Waits until a looking command shows the text: the segment is written ten times a second. */
static void await_text(struct proc_daemon *daemon, const char *command, const char *text)
{
    uint64_t end = proc_now_ns() + PROC_PATIENCE_MS * 1000000ull;
    do {
        CTL(daemon, command);
        if (strstr(output, text))
            return;
        proc_nap();
    } while (proc_now_ns() < end);
    fail_msg("%s does not show '%s': %s", command, text, output);
}

static void test_looking(void **state)
{
    (void)state;
    struct proc_daemon *daemon = proc_daemon_start(&(struct proc_settings){.devices = 2});
    expect(CTL(daemon, "health"), 0, NULL);
    struct proc_run *ranks = proc_run_start(daemon, 2, busy_body, NULL);
    proc_run_await_all(ranks, 1);
    await_text(daemon, "dump", "all-reduce");
    look_around(daemon, 0);
    await_text(daemon, "groups", "busy");
    await_text(daemon, "clients", "test_ctl");
    await_text(daemon, "latency", "all-reduce");
    expect(CTL(daemon, "memory"), 0, "\n  busy  ");
    if (strstr(output, "NCCL") || strstr(output, "MPS"))
        fail_msg("memory speaks of GPUs, and there are none: %s", output);
    expect(CTL(daemon, "memory", "--json"), 0, "\"communicators\": []");
    expect(CTL(daemon, "groups", "nothing"), 1, "nothing");
    expect(CTL(daemon, "explain", "all-reduce", "16x4096", "--group", "busy"), 0, "oneshot");
    expect(CTL(daemon, "explain", "all-reduce", "16x4096", "--json"), 0, NULL);
    expect_json("explain");
    expect(CTL(daemon, "config"), 0, "operation_ms");

    /* The daemon hangs: looking works, asking gives up in time. */
    proc_stop(daemon->pid);
    uint64_t begin = proc_now_ns();
    expect(CTL(daemon, "config", "--timeout", "0.3"), 3, NULL);
    assert_true(proc_now_ns() - begin < (300 + 4 * proc_allowance_ms()) * 1000000ull);
    look_around(daemon, 4);
    expect(CTL(daemon, "status"), 4, "stopped");
    assert_int_equal(kill(daemon->pid, SIGCONT), 0);
    uint64_t end = proc_now_ns() + PROC_PATIENCE_MS * 1000000ull;
    while (CTL(daemon, "health") != 0)
        if (proc_now_ns() > end)
            fail_msg("still not healthy: %s", output);
    proc_run_reach(ranks, 1);
    proc_run_wait(ranks, 20000);

    /* The daemon is dead: its last state is still there. */
    proc_daemon_settled(daemon);
    proc_daemon_kill(daemon);
    expect(CTL(daemon, "status"), 4, NULL);
    look_around(daemon, 4);
    expect(CTL(daemon, "config"), 3, NULL);
    proc_daemon_restart(daemon);
    expect(CTL(daemon, "health"), 0, NULL);
    proc_daemon_finish(daemon);
}

static void test_nothing_there(void **state)
{
    (void)state;
    struct proc_daemon *daemon = proc_daemon_prepare(&(struct proc_settings){.devices = 1});
    for (size_t i = 0; i < sizeof(looking) / sizeof(looking[0]); i++) {
        expect(CTL(daemon, looking[i]), 3, NULL);
        expect(CTL(daemon, looking[i], "--json"), 3, NULL);
    }
    expect(CTL(daemon, "drain"), 3, NULL);
    expect(CTL(daemon, "nonsense"), 2, NULL);
    expect(CTL(daemon, "status", "--nonsense"), 2, NULL);
    expect(CTL(daemon, "--help"), 0, "COMMAND");
    expect(CTL(daemon, "--version"), 0, "0.1.0");
    /* A file that is no segment. */
    char path[128];
    snprintf(path, sizeof(path), "%s/stats", daemon->runtime);
    FILE *file = fopen(path, "we");
    assert_non_null(file);
    for (unsigned i = 0; i < 5000; i++)
        fputc((int)(i * 7 % 256), file);
    fclose(file);
    int code = CTL(daemon, "status");
    if (code != 3 && code != 1)
        fail_msg("a file of noise gives exit code %d: %s", code, output);
    proc_daemon_finish(daemon);
}

/* ---- changing ---- */

static void kicked_body(struct proc_me *me)
{
    struct trtcoll_ctx *ctx = proc_open(me, me->rank);
    struct trtcoll_group *group = proc_group(me, ctx, "kicked");
    struct trtcoll_ctx_info info = {.size = sizeof(info)};
    CHECK_OK(trtcoll_ctx_info(ctx, &info));
    atomic_store(&me->slot->values[0], info.client_id);
    proc_reach(me, 1);
    proc_await_parent(me, 1);
    uint64_t end = proc_now_ns() + PROC_PATIENCE_MS * 1000000ull;
    if (me->rank == 0) {
        while (case_group_info(group).state != TRTCOLL_GROUP_BROKEN)
            CHECK(proc_now_ns() < end);
        CHECK_EQ(case_group_info(group).culprit, 1);
        CHECK_OK(trtcoll_group_reform(group, TRTCOLL_REFORM_SHRINK, 0));
        proc_sum(group, TRTCOLL_LANE_SERVED, 10);
    } else {
        struct trtcoll_group *other = NULL;
        CHECK_CODE(trtcoll_group_create(ctx, "other", 1, 0, 0, &other), TRTCOLL_ECONN);
    }
    trtcoll_ctx_close(ctx);
}

static void test_changing(void **state)
{
    (void)state;
    char id[32];
    struct proc_daemon *daemon = proc_daemon_start(&(struct proc_settings){.devices = 2});
    struct proc_run *ranks = proc_run_start(daemon, 2, kicked_body, NULL);
    proc_run_await_all(ranks, 1);
    expect(CTL(daemon, "kick", "999999"), 1, NULL);
    snprintf(id, sizeof(id), "%llu", (unsigned long long)atomic_load(&ranks->shared->ranks[1].values[0]));
    expect(CTL(daemon, "kick", id), 0, NULL);
    proc_run_reach(ranks, 1);
    proc_run_wait(ranks, 20000);

    expect(CTL(daemon, "drain"), 0, NULL);
    await_text(daemon, "status", "draining");
    struct trtcoll_ctx_options options = TRTCOLL_CTX_OPTIONS_INIT;
    struct trtcoll_ctx *ctx = NULL;
    options.socket_path = daemon->socket;
    assert_int_equal(trtcoll_ctx_open(&options, &ctx), TRTCOLL_EDRAIN);
    expect(CTL(daemon, "undrain"), 0, NULL);
    assert_int_equal(trtcoll_ctx_open(&options, &ctx), 0);
    trtcoll_ctx_close(ctx);

    expect(CTL(daemon, "log-level", "debug"), 0, NULL);
    expect(CTL(daemon, "log-level", "deafening"), 2, NULL);
    expect(CTL(daemon, "reload"), 0, NULL);
    FILE *file = fopen(daemon->config, "we");
    assert_non_null(file);
    fputs("{\"devices\": {\"host\": 2}, \"nonsense\": 1}", file);
    fclose(file);
    expect(CTL(daemon, "reload"), 1, "/nonsense");
    assert_true(proc_daemon_alive(daemon));
    proc_daemon_finish(daemon);
}

/* ---- what is wrong comes first ---- */

static void broken_body(struct proc_me *me)
{
    struct trtcoll_ctx *ctx = proc_open(me, me->rank);
    struct trtcoll_group *group = proc_group(me, ctx, "sorry");
    proc_reach(me, 1);
    proc_await_parent(me, 1);
    if (me->rank == 0)
        CHECK_OK(trtcoll_group_abort(group, "for the status page"));
    proc_reach(me, 2);
    proc_await_parent(me, 2);
    trtcoll_ctx_close(ctx);
}

static void test_broken_group(void **state)
{
    (void)state;
    struct proc_daemon *daemon = proc_daemon_start(&(struct proc_settings){.devices = 2});
    struct proc_run *ranks = proc_run_start(daemon, 2, broken_body, NULL);
    proc_run_await_all(ranks, 1);
    proc_run_reach(ranks, 1);
    proc_run_await_all(ranks, 2);
    await_text(daemon, "status", "for the status page");
    expect(CTL(daemon, "health"), 4, "sorry");
    expect(CTL(daemon, "status"), 4, "sorry");
    const char *problem = strstr(output, "for the status page"), *summary = strstr(output, "devices");
    if (summary && problem > summary)
        fail_msg("status does not show first what is wrong: %s", output);
    proc_run_reach(ranks, 2);
    proc_run_wait(ranks, 20000);
    proc_daemon_finish(daemon);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_looking, proc_teardown),
        cmocka_unit_test_teardown(test_nothing_there, proc_teardown),
        cmocka_unit_test_teardown(test_changing, proc_teardown),
        cmocka_unit_test_teardown(test_broken_group, proc_teardown),
    };
    return cmocka_run_group_tests_name("trtcollctl", tests, NULL, NULL);
}
