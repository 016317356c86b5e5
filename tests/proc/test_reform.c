/* A rank that was stopped and left behind cannot pull the group back to its old epoch. */
#include "cases_failure.h"

#include <signal.h>
#include <string.h>

enum { RANKS = 4, LATE = 3, DEADLINE_MS = 1500, WORKED = 1, SHRUNK = 2, BROKEN_AGAIN = 3, REFUSED = 4 };

static void await_broken_with(struct trtcoll_group *group, int code)
{
    failure_await_broken(group);
    CHECK_EQ(case_group_info(group).code, code);
}

static void expect_epoch(struct trtcoll_group *group, uint64_t epoch)
{
    struct trtcoll_group_info info = case_group_info(group);
    CHECK_EQ(info.epoch, epoch);
    CHECK_EQ(info.nranks, RANKS - 1);
}

/* Goes on where it was stopped, with an instance that the group has left two breaks ago. */
static void late_body(struct proc_me *me, struct trtcoll_group *group)
{
    proc_await_parent(me, BROKEN_AGAIN);
    await_broken_with(group, TRTCOLL_ETIMEOUT);
    CHECK_EQ(case_group_info(group).culprit, LATE);
    CHECK_CODE(trtcoll_group_reform(group, TRTCOLL_REFORM_SHRINK, 0), TRTCOLL_EBUSY);
    struct trtcoll_error error = proc_last_error();
    CHECK_MSG(strstr(error.text, "epoch 2") != NULL, "the newer epoch is not named: %s", error.text);
    proc_reach(me, REFUSED);
    CHECK_OK(trtcoll_group_leave(group));
}

static void timely_body(struct proc_me *me, struct trtcoll_group *group, struct trtcoll_plan *plan)
{
    struct trtcoll_run_args args = TRTCOLL_RUN_ARGS_INIT;
    proc_await_parent(me, WORKED); /* the late rank is stopped */
    CHECK_CODE(trtcoll_plan_run(plan, &args, NULL, NULL), TRTCOLL_ETIMEOUT);
    CHECK_EQ(proc_last_error().rank, LATE);
    CHECK_OK(trtcoll_plan_release(plan));
    failure_go_on(group, TRTCOLL_REFORM_SHRINK);
    expect_epoch(group, 2);
    proc_reach(me, SHRUNK);
    for (int rank = 0; rank < LATE; rank++)
        proc_await(me, rank, SHRUNK);
    if (me->rank == 0)
        CHECK_OK(trtcoll_group_abort(group, "once more"));
    await_broken_with(group, TRTCOLL_EABORTED);
    proc_reach(me, BROKEN_AGAIN);
    proc_await(me, LATE, REFUSED);
    failure_go_on(group, TRTCOLL_REFORM_SHRINK);
    expect_epoch(group, 3);
}

static void left_behind_body(struct proc_me *me)
{
    struct trtcoll_run_args args = TRTCOLL_RUN_ARGS_INIT;
    struct trtcoll_ctx *ctx = proc_open(me, -1);
    struct trtcoll_group *group = proc_group(me, ctx, "behind");
    struct trtcoll_plan *plan = failure_plan(group, *(unsigned *)me->arg);
    CHECK_OK(trtcoll_plan_run(plan, &args, NULL, NULL));
    CHECK_EQ(case_group_info(group).epoch, 1);
    proc_reach(me, WORKED);
    if (me->rank == LATE)
        late_body(me, group);
    else
        timely_body(me, group, plan);
    trtcoll_ctx_close(ctx);
}

static void left_behind(unsigned lane)
{
    struct proc_daemon *daemon = proc_daemon_start(&(struct proc_settings){.devices = RANKS, .operation_ms = DEADLINE_MS});
    struct proc_run *run = proc_run_start(daemon, RANKS, left_behind_body, &lane);
    proc_run_await_all(run, WORKED);
    proc_run_kill(run, LATE, SIGSTOP);
    proc_run_reach(run, WORKED);
    for (int rank = 0; rank < LATE; rank++)
        proc_run_await(run, rank, BROKEN_AGAIN);
    proc_run_reach(run, BROKEN_AGAIN);
    proc_run_kill(run, LATE, SIGCONT);
    proc_run_wait(run, 30000);
    proc_daemon_finish(daemon);
}

static void test_left_behind_direct(void **state)
{
    (void)state;
    left_behind(TRTCOLL_LANE_DIRECT);
}

static void test_left_behind_served(void **state)
{
    (void)state;
    left_behind(TRTCOLL_LANE_SERVED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_left_behind_direct, proc_teardown),
        cmocka_unit_test_teardown(test_left_behind_served, proc_teardown),
    };
    return cmocka_run_group_tests_name("re-forming without a rank that was stopped", tests, NULL, NULL);
}
