/* trtcollctl asks a real daemon and changes it: explain, config, drain, undrain, reload, kick, log-level. */
#include "ctl_case.h"

static void attach_and_stay(struct proc_me *me)
{
    struct trtcoll_ctx *ctx = proc_open(me, -1);

    proc_reach(me, 1);
    proc_await_parent(me, 1);
    trtcoll_ctx_close(ctx);
}

static void attach_and_go(struct proc_me *me)
{
    trtcoll_ctx_close(proc_open(me, -1));
}

static void be_refused(struct proc_me *me)
{
    struct trtcoll_ctx_options options = TRTCOLL_CTX_OPTIONS_INIT;
    struct trtcoll_ctx *ctx;

    options.socket_path = me->daemon->socket;
    CHECK_CODE(trtcoll_ctx_open(&options, &ctx), TRTCOLL_EDRAIN);
}

static void test_drain(void **state)
{
    (void)state;
    struct proc_daemon *daemon = proc_daemon_start(&(struct proc_settings){.devices = 1});
    struct proc_run *run = proc_run_start(daemon, 1, attach_and_stay, NULL);

    proc_run_await_all(run, 1);
    ctl(daemon, "drain", EXIT_OK);
    shows("draining: no new clients are let in; 1 attached");
    proc_run_all(daemon, 1, be_refused, NULL, PROC_PATIENCE_MS);
    until(daemon, "health", EXIT_DEGRADED, "degraded: draining");
    ctl(daemon, "drain --wait 0.2", EXIT_FAILED);
    shows("1 client is still attached after 0.2 s");
    json(daemon, "drain --wait 0.2", "d[\"error\"][\"kind\"] == \"failure\""); /* one object, not the answer and then the failure */
    proc_run_reach(run, 1);
    ctl(daemon, "drain --wait 20", EXIT_OK);
    proc_run_wait(run, PROC_PATIENCE_MS);
    json(daemon, "undrain", "d[\"ok\"] and d[\"answer\"][\"draining\"] is False");
    until(daemon, "health", EXIT_OK, "healthy");
    proc_run_all(daemon, 1, attach_and_go, NULL, PROC_PATIENCE_MS);
    proc_daemon_finish(daemon);
}

static void test_reload(void **state)
{
    (void)state;
    struct proc_settings settings = {.devices = 2, .operation_ms = 9000};
    struct proc_daemon *daemon = proc_daemon_start(&settings);

    ctl(daemon, "reload", EXIT_OK);
    assert_string_equal(output, "the configuration was read again; nothing differs\n");

    settings.operation_ms = 7000;
    settings.more = "\"multicast\": true, \"log_level\": \"notice\",\n";
    proc_daemon_configure(daemon, &settings);
    ctl(daemon, "reload", EXIT_OK);
    shows("the configuration was read again: 2 changes applied, 1 refused");
    shows("/deadlines/operation_ms: 9000 -> 7000");
    shows("refused\n  /multicast: stays false, not true: it cannot change while the daemon runs");
    json(daemon, "config", "d[\"ok\"] and d[\"answer\"][\"deadlines\"][\"operation_ms\"] == 7000 and not d[\"answer\"][\"multicast\"]");
    json(daemon, "reload",
         "d[\"answer\"][\"applied\"] == [] and d[\"answer\"][\"refused\"][0][\"pointer\"] == \"/multicast\" and "
         "d[\"answer\"][\"refused\"][0][\"cannot_change_while\"] == \"the daemon runs\"");
    until(daemon, "status", EXIT_OK, "1 change of the configuration is not in effect");

    settings.more = "\"logs_level\": 3,\n";
    settings.operation_ms = 100000000;
    proc_daemon_configure(daemon, &settings);
    ctl(daemon, "reload", EXIT_FAILED);
    shows("config.json: /logs_level: "); /* every error, not only the first */
    shows("config.json: /deadlines/operation_ms: found 100000000");
    shows("nothing has changed: the configuration has 2 errors");
    json(daemon, "config", "d[\"answer\"][\"deadlines\"][\"operation_ms\"] == 7000");
    until(daemon, "status", EXIT_OK, "the changed configuration was refused");
    settings.operation_ms = 7000;
    settings.more = NULL;
    proc_daemon_configure(daemon, &settings);
    ctl(daemon, "reload", EXIT_OK);
    until(daemon, "--json status | tr -d ' \\n'", EXIT_OK, "\"reload_refused\":0,\"reload_kept\":0");
    json(daemon, "status", "not any(p[\"kind\"] == \"reload-refused\" for p in d[\"problems\"])");
    proc_daemon_finish(daemon);
}

static void be_kicked(struct proc_me *me)
{
    struct trtcoll_ctx *ctx = proc_open(me, -1);
    struct trtcoll_group *group = proc_group(me, ctx, "tp0");

    proc_sum(group, TRTCOLL_LANE_DIRECT, 1);
    proc_reach(me, 1);
    proc_await_parent(me, 1);
    trtcoll_ctx_close(ctx);
}

static void test_kick(void **state)
{
    (void)state;
    struct proc_daemon *daemon = proc_daemon_start(&(struct proc_settings){.devices = 2});
    struct proc_run *run = proc_run_start(daemon, 2, be_kicked, NULL);

    proc_run_await_all(run, 1);
    ctl(daemon, "kick 99999", EXIT_FAILED);
    shows("there is no client 99999 (ENOENT)");
    assert_int_equal(shell(daemon, "id=$(\"$CTL\" -r \"$RUN\" clients --ids | head -n 1) && \"$CTL\" -r \"$RUN\" kick $id"), 0);
    shows(" is out");
    until(daemon, "status", EXIT_DEGRADED, "1 client was expelled");
    shows("group tp0 (epoch 1) is broken");
    shows("1 attached");
    proc_run_reach(run, 1);
    proc_run_wait(run, PROC_PATIENCE_MS);
    until(daemon, "health", EXIT_OK, "healthy");
    proc_daemon_finish(daemon);
}

static void test_explain(void **state)
{
    (void)state;
    struct proc_daemon *daemon =
        proc_daemon_start(&(struct proc_settings){.devices = 4, .groups = "[{\"name\": \"pp\", \"ranks\": [0, 1, 2]}]"});

    ctl(daemon, "explain all-reduce 64x7168 --fusion residual-rms-norm --ranks 4", EXIT_OK);
    shows("all-reduce+residual-rms-norm of 64x7168 bf16 on 4 ranks: 896 KiB per rank and run\n");
    shows("\n  lane      direct\n");
    shows("\n  strategy  twoshot\n");
    shows("up to 64 KiB     oneshot");
    shows("not chosen");
    json(daemon, "explain all-reduce 1x8 --lane served --strategy mnnvl",
         "d[\"ok\"] and d[\"answer\"][\"lane\"] == \"served\" and d[\"answer\"][\"strategy\"] == \"mnnvl\" and d[\"answer\"][\"why\"]");
    json(daemon, "explain all-gather 4096 --group pp --dtype fp8-e4m3",
         "d[\"answer\"][\"ranks\"] == 3 and d[\"answer\"][\"message_bytes\"] == 12288");
    ctl(daemon, "explain barrier --group nobody", EXIT_FAILED);
    shows("there is no group 'nobody'");
    ctl(daemon, "explain all-reduce 64x7 --fusion residual-rms-norm", 2); /* told here, before the daemon is asked */
    shows("multiple of 16 bytes");
    proc_daemon_finish(daemon);
}

static void test_log_level(void **state)
{
    (void)state;
    struct proc_daemon *daemon = proc_daemon_start(&(struct proc_settings){.devices = 1});

    ctl(daemon, "log-level debug", EXIT_OK);
    assert_string_equal(output, "the log level is debug now\n");
    assert_true(proc_daemon_logged(daemon, "log level is debug now", PROC_PATIENCE_MS));
    json(daemon, "log-level info", "d[\"answer\"][\"log_level\"] == \"info\"");
    proc_daemon_finish(daemon);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_drain, proc_teardown),     cmocka_unit_test_teardown(test_reload, proc_teardown),
        cmocka_unit_test_teardown(test_kick, proc_teardown),      cmocka_unit_test_teardown(test_explain, proc_teardown),
        cmocka_unit_test_teardown(test_log_level, proc_teardown),
    };
    return cmocka_run_group_tests_name("trtcollctl, asking and changing", tests, NULL, NULL);
}
