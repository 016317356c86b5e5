/* trtcollctl looks at a real daemon with real clients: all well, a rank late, a group broken, the daemon stopped, gone, never there. */
#include "ctl_case.h"

#include <pty.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

/* ---- a working group ---- */

enum { RUNS = 20 };

static void work_and_stay(struct proc_me *me)
{
    struct trtcoll_ctx *ctx = proc_open(me, -1);
    struct trtcoll_group *group = proc_group(me, ctx, "tp0");

    for (int i = 0; i < RUNS; i++) {
        proc_sum(group, TRTCOLL_LANE_DIRECT, 1000);
        proc_sum(group, TRTCOLL_LANE_SERVED, 100000);
    }
    proc_reach(me, 1);
    proc_await_parent(me, 1);
    trtcoll_ctx_close(ctx);
}

static void looks_while_running(struct proc_daemon *daemon)
{
    until(daemon, "status", EXIT_OK, "160 finished, 0 failed, 0 under way"); /* 4 ranks, 2 lanes */
    shows(": healthy");
    shows("1 ready      tp0");
    shows("4 attached");
    ctl(daemon, "health", EXIT_OK);
    assert_string_equal(output, "healthy\n");
    json(daemon, "status", "d[\"verdict\"] == \"healthy\" and d[\"problems\"] == [] and d[\"groups\"][\"ready\"] == 1");
    json(daemon, "health", "d[\"degraded\"] is False and d[\"snapshot\"][\"daemon\"] == \"running\"");

    ctl(daemon, "groups", EXIT_OK);
    shows("GROUP  EPOCH  STATE  RANKS");
    ctl(daemon, "groups --names", EXIT_OK);
    assert_string_equal(output, "tp0\n");
    ctl(daemon, "groups tp0", EXIT_OK);
    shows("tp0 epoch 1: ready, 4 of 4 ranks");
    ctl(daemon, "groups nobody", EXIT_FAILED);
    json(daemon, "groups",
         "[m[\"rank\"] for m in d[\"groups\"][0][\"members\"]] == [0, 1, 2, 3] and "
         "all(m[\"direct\"][\"finished\"] == m[\"served\"][\"finished\"] == 20 for m in d[\"groups\"][0][\"members\"])");
    json(daemon, "clients", "len(d[\"clients\"]) == 4 and all(c[\"memory_bytes\"] > 0 for c in d[\"clients\"])");
    json(daemon, "memory", "d[\"total_bytes\"] > 0 and d[\"groups\"][0][\"workspace_bytes\"] > 0 and len(d[\"devices\"]) == 4");
    ctl(daemon, "memory", EXIT_OK);
    shows("by client");

    ctl(daemon, "latency", EXIT_OK);
    shows("all-reduce  direct  <= 4 KiB    80");
    shows("all-reduce  served  <= 2 MiB    80");
    json(daemon, "latency --lane direct", "sum(r[\"runs\"] for r in d[\"rows\"]) == 80 == sum(sum(r[\"counts\"]) for r in d[\"rows\"])");
    ctl(daemon, "latency --chart --op barrier", EXIT_OK);
    assert_string_equal(output, "no runs yet\n");

    ctl(daemon, "dump --count 3", EXIT_OK);
    shows("tp0 epoch 1, ready, 4 ranks, direct lane: the last 3 of 20 kept requests");
    shows("served lane");
    shows("all ok");
    json(daemon, "dump tp0 --lane served --count 5",
         "[r[\"step\"] for r in d[\"traces\"][0][\"requests\"]] == [16, 17, 18, 19, 20] and "
         "all(k[\"state\"] == \"ok\" and k[\"end_ns\"] >= k[\"start_ns\"] >= k[\"submit_ns\"] > 0 "
         "for r in d[\"traces\"][0][\"requests\"] for k in r[\"ranks\"])");
    json(daemon, "top --count 1 --interval 0.2", "d[\"groups\"][0][\"name\"] == \"tp0\" and d[\"groups\"][0][\"runs_per_s\"] == 0");
    ctl(daemon, "top --batch --count 2 --interval 0.1", EXIT_OK);
    shows("RUNS/S");
    json(daemon, "fields",
         "[t[\"name\"] for t in d[\"tables\"]][:2] == [\"daemon\", \"device\"] and \"row_values\" not in d[\"tables\"][0]");
    json(daemon, "fields member --rows", "len(d[\"tables\"]) == 1 and len(d[\"tables\"][0][\"row_values\"]) == 4");
}

static void test_live(void **state)
{
    (void)state;
    struct proc_daemon *daemon = proc_daemon_start(&(struct proc_settings){.devices = 4});
    struct proc_run *run = proc_run_start(daemon, 4, work_and_stay, NULL);

    proc_run_await_all(run, 1);
    looks_while_running(daemon);
    proc_run_reach(run, 1);
    proc_run_wait(run, PROC_PATIENCE_MS);
    until(daemon, "status", EXIT_OK, "0 attached, 4 since the start");
    proc_daemon_finish(daemon);
}

/* ---- a rank that does not come ---- */

static void one_comes_late(struct proc_me *me)
{
    struct trtcoll_ctx *ctx = proc_open(me, -1);
    struct trtcoll_group *group = proc_group(me, ctx, "tp0");
    struct trtcoll_plan *plan;
    struct trtcoll_event *event;
    struct trtcoll_all_reduce_desc desc = TRTCOLL_ALL_REDUCE_DESC_INIT;
    float value = 1;

    desc.dtype = TRTCOLL_FP32;
    desc.lane = *(const uint32_t *)me->arg;
    proc_sum(group, desc.lane, 1);
    CHECK_OK(trtcoll_plan_create_all_reduce(group, &desc, &plan));
    if (me->rank == 1)
        proc_await_parent(me, 1);
    struct trtcoll_run_args args = TRTCOLL_RUN_ARGS_INIT;
    args.tokens = 1;
    args.in = &value;
    args.out = &value;
    CHECK_OK(trtcoll_plan_run(plan, &args, NULL, &event));
    CHECK_OK(trtcoll_event_wait(event, PROC_PATIENCE_MS));
    trtcoll_event_put(event);
    CHECK(value == 2);
    proc_reach(me, 1);
    proc_await_parent(me, 2);
    trtcoll_ctx_close(ctx);
}

static void late_rank(uint32_t lane)
{
    struct proc_daemon *daemon = proc_daemon_start(&(struct proc_settings){.devices = 2, .operation_ms = 60000});
    struct proc_run *run = proc_run_start(daemon, 2, one_comes_late, &lane);
    char text[160];

    snprintf(text, sizeof text, "  ! rank 1 (pid %d) of group tp0 is late by ", (int)run->pids[1]);
    until(daemon, "status", EXIT_DEGRADED, text);
    snprintf(text, sizeof text, " at step 2, %s lane: rank 0 waits (deadline 1 min)", lane == TRTCOLL_LANE_DIRECT ? "direct" : "served");
    shows(text);
    ctl(daemon, "health", EXIT_DEGRADED);
    shows("degraded: rank 1 ");
    json(daemon, "top --count 1 --interval 0.1", "d[\"groups\"][0][\"missing\"] == [1] and d[\"groups\"][0][\"missing_for_ns\"] > 5e8");
    ctl(daemon, "dump tp0", EXIT_OK);
    shows("! did not arrive: 1; under way: 0");
    ctl(daemon, "groups tp0", EXIT_OK);
    shows(" for 1 ");
    proc_run_reach(run, 1);
    proc_run_await_all(run, 1);
    until(daemon, "status", EXIT_OK, ": healthy");
    proc_run_reach(run, 2);
    proc_run_wait(run, PROC_PATIENCE_MS);
    proc_daemon_finish(daemon);
}

static void test_late_direct(void **state)
{
    (void)state;
    late_rank(TRTCOLL_LANE_DIRECT);
}

static void test_late_served(void **state)
{
    (void)state;
    late_rank(TRTCOLL_LANE_SERVED);
}

/* ---- broken, stopped, gone ---- */

static void stay_whatever_happens(struct proc_me *me)
{
    struct trtcoll_ctx *ctx = proc_open(me, -1);
    struct trtcoll_group *group = proc_group(me, ctx, "tp0");

    proc_sum(group, TRTCOLL_LANE_DIRECT, 1);
    proc_reach(me, 1);
    proc_await_parent(me, 1);
    trtcoll_ctx_close(ctx);
}

static void test_broken(void **state)
{
    (void)state;
    struct proc_daemon *daemon = proc_daemon_start(&(struct proc_settings){.devices = 3});
    struct proc_run *run = proc_run_start(daemon, 3, stay_whatever_happens, NULL);
    char text[96];

    proc_run_await_all(run, 1);
    snprintf(text, sizeof text, "rank 1 (pid %d)", (int)run->pids[1]);
    proc_run_kill(run, 1, SIGKILL);
    until(daemon, "status", EXIT_DEGRADED, "  ! group tp0 (epoch 1) is broken: ");
    shows(text);
    shows("(EPEERDEAD)");
    shows("1 broken     tp0");
    json(daemon, "groups tp0", "d[\"groups\"][0][\"culprit\"] == 1 and d[\"groups\"][0][\"error\"] == \"EPEERDEAD\"");
    json(daemon, "status", "[p[\"rank\"] for p in d[\"problems\"] if p[\"kind\"] == \"group-broken\"] == [1]");
    proc_run_reach(run, 1);
    proc_run_wait(run, PROC_PATIENCE_MS);
    until(daemon, "health", EXIT_OK, "healthy");
    proc_daemon_finish(daemon);
}

static void test_stopped_and_gone(void **state)
{
    (void)state;
    static const char *const looks[] = {
        "groups", "groups tp0", "clients", "memory", "latency", "dump", "top --batch --count 1 --interval 0.1"};
    struct proc_daemon *daemon = proc_daemon_start(&(struct proc_settings){.devices = 2});
    struct proc_run *run = proc_run_start(daemon, 2, stay_whatever_happens, NULL);
    pid_t pid = daemon->pid;
    char text[96];

    proc_run_await_all(run, 1);
    until(daemon, "status", EXIT_OK, "2 finished");
    assert_int_equal(kill(pid, SIGSTOP), 0);
    snprintf(text, sizeof text, "daemon pid %d is stopped", (int)pid);
    until(daemon, "status", EXIT_DEGRADED, text);
    shows("1 ready      tp0");
    for (size_t i = 0; i < sizeof looks / sizeof looks[0]; i++) {
        ctl(daemon, looks[i], EXIT_OK);
        shows(i + 1 < sizeof looks / sizeof looks[0] ? text : "stopped");
    }
    json(daemon, "health", "d[\"verdict\"] == \"stopped\" and d[\"problems\"][0][\"kind\"] == \"daemon-stopped\"");
    uint64_t before = proc_now_ns();
    ctl(daemon, "drain --timeout 0.3", EXIT_UNREACHABLE);
    shows("does not answer within 0.3 s");
    assert_in_range(proc_now_ns() - before, 300000000ull, (3000ull + PROC_ALLOWANCE_MS) * 1000000ull);
    json(daemon, "explain barrier --timeout 0.3", "d[\"error\"][\"kind\"] == \"unreachable\"");
    assert_int_equal(kill(pid, SIGCONT), 0);
    until(daemon, "health", EXIT_OK, "healthy");

    proc_daemon_kill(daemon);
    snprintf(text, sizeof text, "daemon pid %d is gone; showing its last state from 2", (int)pid);
    ctl(daemon, "status", EXIT_DEGRADED);
    shows(text);
    shows("1 ready      tp0");
    for (size_t i = 0; i + 1 < sizeof looks / sizeof looks[0]; i++) {
        ctl(daemon, looks[i], EXIT_OK);
        shows(text);
    }
    json(daemon, "groups", "d[\"snapshot\"][\"daemon\"] == \"gone\" and len(d[\"groups\"][0][\"members\"]) == 2");
    ctl(daemon, "reload", EXIT_UNREACHABLE);
    shows("is gone");
    proc_run_reach(run, 1);
    proc_run_wait(run, PROC_PATIENCE_MS);

    proc_daemon_restart(daemon);
    until(daemon, "health", EXIT_OK, "healthy");
    ctl(daemon, "clients", EXIT_OK);
    assert_string_equal(output, "no clients\n");
    proc_daemon_finish(daemon);
}

/* On a terminal `top` takes the screen, in colour, and gives it back on q. */
static void test_terminal(void **state)
{
    (void)state;
    struct proc_daemon *daemon = proc_daemon_start(&(struct proc_settings){.devices = 1});
    size_t used = 0;
    int terminal, status;
    pid_t pid = forkpty(&terminal, NULL, NULL, &(struct winsize){.ws_row = 24, .ws_col = 80});

    assert_true(pid >= 0);
    if (pid == 0) {
        setenv("TERM", "xterm", 1);
        unsetenv("NO_COLOR");
        execl(proc_ctl_path(), "trtcollctl", "--runtime-dir", daemon->runtime, "top", (char *)NULL);
        _exit(127);
    }
    bool asked = false;
    for (;;) {
        ssize_t got = read(terminal, output + used, sizeof output - 1 - used);
        if (got <= 0)
            break; /* EIO: nobody has the other end any more */
        used += (size_t)got;
        output[used] = 0;
        if (!asked && strstr(output, "no groups")) {
            assert_int_equal(write(terminal, "q", 1), 1);
            asked = true;
        }
    }
    close(terminal);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    assert_true(asked);
    shows("\033[?1049h");
    shows("\033[32mhealthy\033[0m");
    shows(", q ends");
    const char *end = "\033[?7h\033[?25h\033[?1049l";
    assert_true(used > strlen(end));
    assert_string_equal(output + used - strlen(end), end);
    proc_daemon_finish(daemon);
}

static void test_nothing_there(void **state)
{
    (void)state;
    struct proc_daemon *daemon = proc_daemon_prepare(&(struct proc_settings){.devices = 1});

    ctl(daemon, "status", EXIT_UNREACHABLE);
    shows("no daemon runs here");
    ctl(daemon, "health", EXIT_UNREACHABLE);
    ctl(daemon, "drain", EXIT_UNREACHABLE);
    shows("no daemon listens here");
    json(daemon, "status", "d[\"error\"][\"kind\"] == \"unreachable\"");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_live, proc_teardown),
        cmocka_unit_test_teardown(test_late_direct, proc_teardown),
        cmocka_unit_test_teardown(test_late_served, proc_teardown),
        cmocka_unit_test_teardown(test_broken, proc_teardown),
        cmocka_unit_test_teardown(test_stopped_and_gone, proc_teardown),
        cmocka_unit_test_teardown(test_nothing_there, proc_teardown),
        cmocka_unit_test_teardown(test_terminal, proc_teardown),
    };
    return cmocka_run_group_tests_name("trtcollctl, looking", tests, NULL, NULL);
}
