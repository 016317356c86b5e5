/* Executors and the control process that are killed or stopped, idle and in the middle of runs. */
#include "cases_failure.h"
#include "../linux_version.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

static double in_time(void)
{
    return PROC_REACTION_MS + proc_allowance_ms();
}

static int run(struct trtcoll_plan *plan)
{
    struct trtcoll_run_args args = TRTCOLL_RUN_ARGS_INIT;
    return trtcoll_plan_run(plan, &args, NULL, NULL);
}

static void kill_executor(struct proc_run *ranks, struct proc_daemon *daemon, unsigned which, int signal)
{
    pid_t executors[8];
    unsigned count = proc_daemon_executors(daemon, executors, 8);
    assert_true(which < count);
    atomic_store(&ranks->shared->parent.values[0], proc_now_ns());
    assert_int_equal(kill(executors[which], signal), 0);
}

/* ---- executors ---- */

/* Ranks 0 and 1 wait inside a served run for rank 2 when an executor dies; or all are idle. */
static void executor_body(struct proc_me *me)
{
    bool idle = *(bool *)me->arg;
    struct trtcoll_ctx *ctx = proc_open(me, me->rank);
    struct trtcoll_group *group = proc_group(me, ctx, "executor");
    struct trtcoll_plan *plan = failure_plan(group, TRTCOLL_LANE_SERVED);
    CHECK_OK(run(plan));
    if (idle || me->rank == 2) {
        proc_reach(me, 1);
        proc_await_parent(me, 1);
        failure_await_broken(group);
        CHECK_MSG(proc_ms_since_parent(me) <= in_time(), "known after %.0f ms", proc_ms_since_parent(me));
        CHECK_EQ(run(plan), TRTCOLL_EEXECUTOR);
    } else {
        proc_reach(me, 1);
        int code = run(plan);
        double ms = proc_ms_since_parent(me);
        struct trtcoll_error error = proc_last_error();
        CHECK_MSG(code == TRTCOLL_EEXECUTOR, "%s: %s", trtcoll_error_name(code), error.text);
        CHECK_MSG(ms <= in_time(), "after %.0f ms, allowed are %.0f", ms, in_time());
    }
    CHECK_OK(trtcoll_plan_release(plan));
    failure_go_on(group, 0); /* the same ranks, with a new executor */
    trtcoll_ctx_close(ctx);
}

static void executor_killed(bool idle)
{
    struct proc_daemon *daemon = proc_daemon_start(&(struct proc_settings){.devices = 3});
    for (unsigned which = 0; which < 3; which++) {
        struct proc_run *ranks = proc_run_start(daemon, 3, executor_body, &idle);
        proc_run_await_all(ranks, 1);
        kill_executor(ranks, daemon, which, SIGKILL);
        atomic_store(&ranks->shared->parent.step, 1);
        proc_run_wait(ranks, 30000);
    }
    proc_daemon_finish(daemon);
}

static void test_executor_killed_idle(void **state)
{
    (void)state;
    executor_killed(true);
}

static void test_executor_killed_in_run(void **state)
{
    (void)state;
    executor_killed(false);
}

/* A group that only uses the direct lane does not even notice. */
static void bystander_body(struct proc_me *me)
{
    struct trtcoll_ctx *ctx = proc_open(me, me->rank);
    struct trtcoll_group *group = proc_group(me, ctx, "bystander");
    struct trtcoll_plan *plan = failure_plan(group, TRTCOLL_LANE_DIRECT);
    for (uint32_t i = 0; i < 5; i++)
        CHECK_OK(run(plan));
    proc_reach(me, 1);
    proc_await_parent(me, 1);
    for (uint32_t i = 0; i < 200; i++)
        CHECK_OK(run(plan));
    CHECK_EQ(case_group_info(group).state, TRTCOLL_GROUP_READY);
    proc_sum(group, TRTCOLL_LANE_SERVED, 100); /* a new executor is there when it is needed */
    trtcoll_ctx_close(ctx);
}

static void test_direct_lane_ignores_executors(void **state)
{
    (void)state;
    struct proc_daemon *daemon = proc_daemon_start(&(struct proc_settings){.devices = 2});
    struct proc_run *ranks = proc_run_start(daemon, 2, bystander_body, NULL);
    proc_run_await_all(ranks, 1);
    kill_executor(ranks, daemon, 1, SIGKILL);
    kill_executor(ranks, daemon, 0, SIGKILL);
    /* A plan that is being made while its executor dies may say so; here the daemon is to know before. */
    uint64_t end = proc_now_ns() + PROC_PATIENCE_MS * 1000000ull;
    while (proc_daemon_executors(daemon, NULL, 0))
        if (proc_now_ns() > end)
            fail_msg("the daemon does not notice that its executors are dead");
    atomic_store(&ranks->shared->parent.step, 1);
    proc_run_wait(ranks, 30000);
    proc_daemon_finish(daemon);
}

/* A stopped executor is a late rank: its peers time out. The daemon blames the executor once that is known to stand still. */
static const uint32_t stopped_short_ms = 700, stopped_long_ms = 4500;
static void stopped_body(struct proc_me *me)
{
    uint32_t deadline_ms = *(const uint32_t *)me->arg;
    struct trtcoll_ctx *ctx = proc_open(me, me->rank);
    struct trtcoll_group *group = proc_group(me, ctx, "stopped");
    struct trtcoll_plan *plan = failure_plan(group, TRTCOLL_LANE_SERVED);
    CHECK_OK(run(plan));
    proc_reach(me, 1);
    proc_await_parent(me, 1);
    uint64_t begin = proc_now_ns();
    int code = run(plan);
    double ms = (double)(proc_now_ns() - begin) / 1e6;
    struct trtcoll_error error = proc_last_error();
    CHECK_MSG(code == TRTCOLL_ETIMEOUT || code == TRTCOLL_EEXECUTOR, "%s: %s", trtcoll_error_name(code), error.text);
    CHECK_MSG(ms <= deadline_ms + 100 + proc_allowance_ms(), "after %.0f ms, the deadline is %u", ms, deadline_ms);
    failure_await_broken(group);
    /* An executor is asked for a sign of life each second, so after the long deadline the daemon knows better than to blame the rank. */
    CHECK_EQ(case_group_info(group).code, deadline_ms == stopped_long_ms ? TRTCOLL_EEXECUTOR : TRTCOLL_ETIMEOUT);
    proc_reach(me, 2);
    proc_await_parent(me, 2);
    CHECK_OK(trtcoll_plan_release(plan));
    failure_go_on(group, 0);
    trtcoll_ctx_close(ctx);
}

static void executor_stopped(uint32_t deadline_ms)
{
    struct proc_daemon *daemon = proc_daemon_start(&(struct proc_settings){.devices = 2, .operation_ms = deadline_ms});
    struct proc_run *ranks = proc_run_start(daemon, 2, stopped_body, &deadline_ms);
    proc_run_await_all(ranks, 1);
    pid_t executors[2];
    assert_int_equal(proc_daemon_executors(daemon, executors, 2), 2);
    proc_stop(executors[1]);
    proc_run_reach(ranks, 1);
    proc_run_await_all(ranks, 2);
    kill(executors[1], SIGCONT); /* unless the daemon has replaced it already */
    proc_run_reach(ranks, 2);
    proc_run_wait(ranks, 30000);
    proc_daemon_finish(daemon);
}

static void test_executor_stopped(void **state)
{
    (void)state;
    executor_stopped(stopped_short_ms);
}

static void test_executor_stopped_for_long(void **state)
{
    (void)state;
    executor_stopped(stopped_long_ms);
}

/* ---- the control process ---- */

/*
 * The direct lane goes on as if nothing had happened. Served requests fail with ECONN: those in flight and those to come. The context
 * closes in good order, and a new one on the next daemon works.
 */
static void control_body(struct proc_me *me)
{
    bool in_run = *(bool *)me->arg;
    struct trtcoll_ctx *ctx = proc_open(me, me->rank);
    struct trtcoll_group *group = proc_group(me, ctx, "control");
    struct trtcoll_plan *direct = failure_plan(group, TRTCOLL_LANE_DIRECT), *served = failure_plan(group, TRTCOLL_LANE_SERVED);
    struct trtcoll_run_args args = TRTCOLL_RUN_ARGS_INIT;
    struct trtcoll_event *event = NULL;
    struct trtcoll_ctx_info info = {.size = sizeof(info)};
    CHECK_OK(run(direct));
    CHECK_OK(run(served));
    if (in_run && me->rank != 0) {
        proc_reach(me, 1);
        int code = run(served);
        failure_expect(me, code, TRTCOLL_ECONN, TRTCOLL_RANK_NONE, in_time());
    } else {
        proc_reach(me, 1);
        proc_await_parent(me, 1);
    }
    for (unsigned i = 0; i < 100; i++)
        CHECK_OK(run(direct));
    uint64_t begin = proc_now_ns();
    int code = trtcoll_plan_run(served, &args, NULL, &event);
    if (code == 0) { /* posted before the hang-up was seen: then the event tells */
        code = trtcoll_event_wait(event, UINT32_MAX);
        trtcoll_event_put(event);
        event = NULL;
    }
    CHECK_MSG(code == TRTCOLL_ECONN, "a served run without a daemon: %s", trtcoll_error_name(code));
    CHECK_MSG((double)(proc_now_ns() - begin) / 1e6 <= in_time(), "ECONN came late");
    CHECK_CODE(trtcoll_plan_run(served, &args, NULL, &event), TRTCOLL_ECONN); /* from now on at once */
    CHECK(event == NULL);
    CHECK_OK(trtcoll_ctx_info(ctx, &info));
    CHECK_EQ(info.connected, 0);
    struct trtcoll_barrier_desc desc = TRTCOLL_BARRIER_DESC_INIT;
    struct trtcoll_plan *none = NULL;
    CHECK_CODE(trtcoll_plan_create_barrier(group, &desc, &none), TRTCOLL_ECONN);
    struct trtcoll_ctx_options options = TRTCOLL_CTX_OPTIONS_INIT;
    struct trtcoll_ctx *other = NULL;
    options.socket_path = me->daemon->socket;
    CHECK_CODE(trtcoll_ctx_open(&options, &other), TRTCOLL_ECONN);
    CHECK_MSG(strstr(proc_last_error().text, me->daemon->socket) != NULL, "the path is not named: %s", proc_last_error().text);
    for (unsigned i = 0; i < 10; i++)
        CHECK_OK(run(direct));
    proc_reach(me, 2);
    proc_await_parent(me, 2); /* the next daemon runs */
    trtcoll_ctx_close(ctx);
    ctx = proc_open(me, me->rank);
    group = proc_group(me, ctx, "control");
    proc_sum(group, TRTCOLL_LANE_DIRECT, 100);
    proc_sum(group, TRTCOLL_LANE_SERVED, 100);
    trtcoll_ctx_close(ctx);
}

static void control_killed(bool in_run)
{
    struct proc_daemon *daemon = proc_daemon_start(&(struct proc_settings){.devices = 3});
    struct proc_run *ranks = proc_run_start(daemon, 3, control_body, &in_run);
    proc_run_await_all(ranks, 1);
    for (int i = 0; i < 30; i++)
        proc_nap();
    atomic_store(&ranks->shared->parent.values[0], proc_now_ns());
    proc_daemon_kill(daemon);
    atomic_store(&ranks->shared->parent.step, 1);
    proc_run_await_all(ranks, 2);
    proc_daemon_restart(daemon);
    proc_run_reach(ranks, 2);
    proc_run_wait(ranks, 30000);
    proc_daemon_finish(daemon);
}

static void test_control_killed_idle(void **state)
{
    (void)state;
    control_killed(false);
}

static void test_control_killed_in_run(void **state)
{
    (void)state;
    control_killed(true);
}

/* Killed while ranks wait inside a direct run: the run goes on and ends well when the last rank comes. */
static void direct_body(struct proc_me *me)
{
    struct trtcoll_ctx *ctx = proc_open(me, me->rank);
    struct trtcoll_group *group = proc_group(me, ctx, "direct");
    struct trtcoll_plan *plan = failure_plan(group, TRTCOLL_LANE_DIRECT);
    CHECK_OK(run(plan));
    proc_reach(me, 1);
    if (me->rank == 0)
        proc_await_parent(me, 1);
    CHECK_OK(run(plan));
    CHECK_EQ(case_group_info(group).state, TRTCOLL_GROUP_READY);
    trtcoll_ctx_close(ctx);
}

static void test_control_killed_in_direct_run(void **state)
{
    (void)state;
    struct proc_daemon *daemon = proc_daemon_start(&(struct proc_settings){.devices = 3});
    struct proc_run *ranks = proc_run_start(daemon, 3, direct_body, NULL);
    proc_run_await_all(ranks, 1);
    proc_daemon_kill(daemon);
    proc_run_reach(ranks, 1);
    proc_run_wait(ranks, 30000);
    proc_daemon_finish(daemon);
}

/* The control process hangs: both lanes go on, because neither needs it. */
static void hanging_body(struct proc_me *me)
{
    struct trtcoll_ctx *ctx = proc_open(me, me->rank);
    struct trtcoll_group *group = proc_group(me, ctx, "hanging");
    struct trtcoll_plan *direct = failure_plan(group, TRTCOLL_LANE_DIRECT), *served = failure_plan(group, TRTCOLL_LANE_SERVED);
    CHECK_OK(run(direct));
    CHECK_OK(run(served));
    proc_reach(me, 1);
    proc_await_parent(me, 1);
    for (unsigned i = 0; i < 50; i++) {
        CHECK_OK(run(direct));
        CHECK_OK(run(served));
    }
    struct trtcoll_ctx_options options = TRTCOLL_CTX_OPTIONS_INIT;
    struct trtcoll_ctx *other = NULL;
    uint64_t begin = proc_now_ns();
    options.socket_path = me->daemon->socket;
    options.timeout_ms = 200;
    CHECK_CODE(trtcoll_ctx_open(&options, &other), TRTCOLL_ETIMEOUT);
    CHECK_MSG(proc_now_ns() - begin < (200 + proc_allowance_ms()) * 1000000ull, "attaching took longer than its timeout");
    proc_reach(me, 2);
    proc_await_parent(me, 2);
    proc_sum(group, TRTCOLL_LANE_SERVED, 100);
    trtcoll_ctx_close(ctx);
}

static void test_control_hangs(void **state)
{
    (void)state;
    struct proc_daemon *daemon = proc_daemon_start(&(struct proc_settings){.devices = 2});
    struct proc_run *ranks = proc_run_start(daemon, 2, hanging_body, NULL);
    proc_run_await_all(ranks, 1);
    proc_stop(daemon->pid);
    proc_run_reach(ranks, 1);
    proc_run_await_all(ranks, 2);
    assert_int_equal(kill(daemon->pid, SIGCONT), 0);
    proc_run_reach(ranks, 2);
    proc_run_wait(ranks, 30000);
    proc_daemon_finish(daemon);
}

/* ---- the control process comes late ---- */

static void reaped_body(struct proc_me *me)
{
    struct trtcoll_ctx *ctx = proc_open(me, -1);
    struct trtcoll_group *group = proc_group(me, ctx, "reaped");
    struct trtcoll_plan *plan = failure_plan(group, TRTCOLL_LANE_DIRECT);
    CHECK_OK(run(plan));
    proc_reach(me, 1);
    if (me->rank == 1)
        proc_await_parent(me, 99);
    proc_await_parent(me, 1);
    failure_await_broken(group);
    CHECK_EQ(run(plan), TRTCOLL_EPEERDEAD);
    struct trtcoll_error error = proc_last_error();
    CHECK_EQ(error.rank, 1);
    if (linux_at_least(6, 15))
        CHECK_MSG(error.signal == SIGKILL && strstr(error.text, "was killed by signal 9"), "signal %d: %s", error.signal, error.text);
    else
        CHECK_MSG(error.signal == 0 && strstr(error.text, "ended without leaving"), "signal %d: %s", error.signal, error.text);
    CHECK_OK(trtcoll_plan_release(plan));
    failure_go_on(group, TRTCOLL_REFORM_SHRINK);
    trtcoll_ctx_close(ctx);
}

/* A client's parent reaps it before the daemon has looked what became of it: newer kernels still tell what killed it. */
static void test_reaped_before_it_looks(void **state)
{
    (void)state;
    struct proc_daemon *daemon = proc_daemon_start(&(struct proc_settings){.devices = 3});
    struct proc_run *ranks = proc_run_start(daemon, 3, reaped_body, NULL);
    proc_run_await_all(ranks, 1);
    proc_stop(daemon->pid);
    proc_run_kill(ranks, 1, SIGKILL);
    proc_run_reap(ranks, 1);
    assert_int_equal(kill(daemon->pid, SIGCONT), 0);
    proc_run_reach(ranks, 1);
    proc_run_wait(ranks, 30000);
    proc_daemon_finish(daemon);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_executor_killed_idle, proc_teardown),
        cmocka_unit_test_teardown(test_executor_killed_in_run, proc_teardown),
        cmocka_unit_test_teardown(test_direct_lane_ignores_executors, proc_teardown),
        cmocka_unit_test_teardown(test_executor_stopped, proc_teardown),
        cmocka_unit_test_teardown(test_executor_stopped_for_long, proc_teardown),
        cmocka_unit_test_teardown(test_control_killed_idle, proc_teardown),
        cmocka_unit_test_teardown(test_control_killed_in_run, proc_teardown),
        cmocka_unit_test_teardown(test_control_killed_in_direct_run, proc_teardown),
        cmocka_unit_test_teardown(test_control_hangs, proc_teardown),
        cmocka_unit_test_teardown(test_reaped_before_it_looks, proc_teardown),
    };
    return cmocka_run_group_tests_name("failures of the daemon", tests, NULL, NULL);
}
