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

static struct trtcoll_plan *barrier_plan(struct trtcoll_group *group, unsigned lane)
{
    struct trtcoll_barrier_desc desc = TRTCOLL_BARRIER_DESC_INIT;
    struct trtcoll_plan *plan = NULL;

    desc.lane = lane;
    CHECK_OK(trtcoll_plan_create_barrier(group, &desc, &plan));
    return plan;
}

/* Rank 0 waits for rank 1, which never comes: hours, if it went by the deadline that was in effect when it began. */
static void wait_by_deadlines(struct proc_me *me)
{
    struct trtcoll_run_args args = TRTCOLL_RUN_ARGS_INIT;
    struct trtcoll_ctx *ctx = proc_open(me, -1);
    struct trtcoll_group *group = NULL;
    uint32_t step = 0;

    CHECK_OK(trtcoll_group_join(ctx, "tp", me->rank, 0, &group));
    for (unsigned lane = TRTCOLL_LANE_DIRECT; lane <= TRTCOLL_LANE_SERVED; lane++) {
        struct trtcoll_plan *plan = barrier_plan(group, lane);

        CHECK_OK(trtcoll_plan_run(plan, &args, NULL, NULL));
        proc_reach(me, ++step);
        if (me->rank == 0) {
            CHECK_CODE(trtcoll_plan_run(plan, &args, NULL, NULL), TRTCOLL_ETIMEOUT);
            struct trtcoll_error error = proc_last_error();
            CHECK_MSG(error.rank == 1, "rank %d is blamed: %s", (int)error.rank, error.text);
        }
        proc_await_parent(me, step);
        CHECK_OK(trtcoll_plan_release(plan));
        CHECK_OK(trtcoll_group_reform(group, 0, 0));
        proc_sum(group, lane, 100);
        proc_reach(me, ++step);
        proc_await_parent(me, step);
    }
    trtcoll_ctx_close(ctx);
}

/* What the parent does with one lane's wait. The group begins and ends without a deadline of its own, under one of a day. */
static void change_deadlines(struct proc_daemon *daemon, struct proc_settings *settings, struct proc_run *run, uint32_t step)
{
    proc_run_await_all(run, step);
    until(daemon, "groups tp", EXIT_OK, "waiting");
    settings->groups = "[{\"name\": \"tp\", \"ranks\": [0, 1], \"deadline_ms\": 200}]";
    proc_daemon_configure(daemon, settings);
    ctl(daemon, "reload", EXIT_OK);
    shows("the configuration was read again: 1 change applied, 0 refused");
    shows("/groups/0/deadline_ms: absent -> 200");
    until(daemon, "--json groups | tr -d ' \\n'", EXIT_OK, "\"error\":\"ETIMEOUT\",\"culprit\":1");
    json(daemon, "groups", "d[\"groups\"][0][\"deadline_ns\"] == 200000000");

    /* Another change of it is refused, but not what is said of the deadline with it. */
    settings->groups = "[{\"name\": \"tp\", \"ranks\": [0, 1], \"lane\": \"served\", \"deadline_ms\": 15000}]";
    proc_daemon_configure(daemon, settings);
    ctl(daemon, "reload", EXIT_OK);
    shows("1 change applied, 1 refused");
    shows("/groups/0/deadline_ms: 200 -> 15000");
    shows("it cannot change while the group has members");
    json(daemon, "config", "d[\"answer\"][\"groups\"][0][\"deadline_ms\"] == 15000 and d[\"answer\"][\"groups\"][0][\"lane\"] == \"auto\"");
    proc_run_reach(run, step);
    proc_run_await_all(run, step + 1);
    json(daemon, "groups", "d[\"groups\"][0][\"deadline_ns\"] == 15000000000"); /* also in the epoch after */

    settings->groups = "[{\"name\": \"tp\", \"ranks\": [0, 1]}]";
    proc_daemon_configure(daemon, settings);
    ctl(daemon, "reload", EXIT_OK);
    shows("/groups/0/deadline_ms: 15000 -> absent");
    json(daemon, "groups", "d[\"groups\"][0][\"deadline_ns\"] == 86400000000000");
    proc_run_reach(run, step + 1);
}

static void test_group_deadline(void **state)
{
    (void)state;
    struct proc_settings settings = {.devices = 2, .operation_ms = 86400000, .groups = "[{\"name\": \"tp\", \"ranks\": [0, 1]}]"};
    struct proc_daemon *daemon = proc_daemon_start(&settings);
    struct proc_run *run = proc_run_start(daemon, 2, wait_by_deadlines, NULL);

    change_deadlines(daemon, &settings, run, 1);
    change_deadlines(daemon, &settings, run, 3);
    proc_run_wait(run, PROC_PATIENCE_MS);
    proc_daemon_finish(daemon);
}

/* With other nodes no group is taken over, but the deadlines are. */
static void test_group_deadline_and_nodes(void **state)
{
    (void)state;
    struct proc_settings settings = {.devices = 2, .groups = "[{\"name\": \"tp\", \"ranks\": [0, 1], \"deadline_ms\": 7000}]"};
    struct proc_daemon *daemon = proc_daemon_start(&settings);

    settings.devices = 3;
    settings.groups = "[{\"name\": \"tp\", \"ranks\": [1, 2], \"deadline_ms\": 8000}]";
    proc_daemon_configure(daemon, &settings);
    ctl(daemon, "reload", EXIT_OK);
    shows("1 change applied, 2 refused");
    shows("/groups/0/deadline_ms: 7000 -> 8000");
    shows("it cannot change while the nodes it is written for are not in effect");
    json(daemon, "groups", "d[\"groups\"][0][\"deadline_ns\"] == 8000000000");
    json(daemon, "config", "[r[\"device\"] for r in d[\"answer\"][\"groups\"][0][\"ranks\"]] == [0, 1]");
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
        cmocka_unit_test_teardown(test_drain, proc_teardown),
        cmocka_unit_test_teardown(test_reload, proc_teardown),
        cmocka_unit_test_teardown(test_group_deadline, proc_teardown),
        cmocka_unit_test_teardown(test_group_deadline_and_nodes, proc_teardown),
        cmocka_unit_test_teardown(test_kick, proc_teardown),
        cmocka_unit_test_teardown(test_explain, proc_teardown),
        cmocka_unit_test_teardown(test_log_level, proc_teardown),
    };
    return cmocka_run_group_tests_name("trtcollctl, asking and changing", tests, NULL, NULL);
}
