#include "cases_failure.h"

#include <signal.h>
#include <string.h>
#include <unistd.h>

enum { RANKS = 3, VICTIM = 1 };

typedef enum stage { AFTER_HELLO, WHILE_JOINING, WHILE_PLANNING, IDLE, BETWEEN_RUNS, INSIDE_A_RUN, REQUESTS_IN_FLIGHT, STAGES } stage;

struct failure {
    unsigned lane;
    stage stage;
};

static double in_time(void)
{
    return PROC_REACTION_MS + proc_allowance_ms();
}

struct trtcoll_plan *failure_plan(struct trtcoll_group *group, unsigned lane)
{
    struct trtcoll_barrier_desc desc = TRTCOLL_BARRIER_DESC_INIT;
    struct trtcoll_plan *plan = NULL;
    desc.lane = lane;
    CHECK_OK(trtcoll_plan_create_barrier(group, &desc, &plan));
    return plan;
}

static int run(struct trtcoll_plan *plan)
{
    struct trtcoll_run_args args = TRTCOLL_RUN_ARGS_INIT;
    return trtcoll_plan_run(plan, &args, NULL, NULL);
}

void failure_expect(struct proc_me *me, int code, int expected, uint32_t rank, double within_ms)
{
    double ms = proc_ms_since_parent(me);
    struct trtcoll_error error = proc_last_error();
    CHECK_MSG(code == expected, "%s instead of %s: %s", trtcoll_error_name(code), trtcoll_error_name(expected), error.text);
    CHECK_MSG(ms <= within_ms, "%s came after %.0f ms, allowed are %.0f", trtcoll_error_name(code), ms, within_ms);
    CHECK_MSG(error.code == code, "last_error says %s", trtcoll_error_name(error.code));
    CHECK_MSG(error.rank == rank, "rank %d is blamed instead of %d: %s", (int)error.rank, (int)rank, error.text);
    CHECK_MSG(error.text[0], "no text");
}

void failure_await_broken(struct trtcoll_group *group)
{
    uint64_t end = proc_now_ns() + PROC_PATIENCE_MS * 1000000ull;
    while (case_group_info(group).state != TRTCOLL_GROUP_BROKEN) {
        CHECK_MSG(proc_now_ns() < end, "the group does not become broken");
        proc_nap();
    }
}

void failure_go_on(struct trtcoll_group *group, uint32_t flags)
{
    CHECK_OK(trtcoll_group_reform(group, flags, 0));
    proc_sum(group, TRTCOLL_LANE_DIRECT, 777);
    proc_sum(group, TRTCOLL_LANE_SERVED, 777);
}

/* The survivor's view of a death: code, rank, pid and signal. */
static void expect_death(struct proc_me *me, int code)
{
    failure_expect(me, code, TRTCOLL_EPEERDEAD, VICTIM, in_time());
    struct trtcoll_error error = proc_last_error();
    CHECK_EQ(error.pid, atomic_load(&me->shared->ranks[VICTIM].pid));
    CHECK_MSG(error.signal == SIGKILL, "signal %d: %s", error.signal, error.text);
}

/* ---- one function per stage; the victim never returns from it ---- */

static void joining_stage(struct proc_me *me, struct trtcoll_ctx *ctx)
{
    struct trtcoll_group *group = NULL;
    if (me->rank == 0) { /* stays away until the victim is dead */
        proc_await_parent(me, 1);
        return;
    }
    proc_reach(me, 1);
    int code = trtcoll_group_create(ctx, "stage", RANKS, (uint32_t)me->rank, 0, &group);
    expect_death(me, code);
    CHECK(group == NULL);
}

static void planning_stage(struct proc_me *me, struct trtcoll_group *group, unsigned lane)
{
    struct trtcoll_barrier_desc desc = TRTCOLL_BARRIER_DESC_INIT;
    struct trtcoll_plan *plan = NULL;
    desc.lane = lane;
    if (me->rank == 0)
        proc_await_parent(me, 1);
    else
        proc_reach(me, 1);
    int code = trtcoll_plan_create_barrier(group, &desc, &plan);
    if (me->rank == 0)
        CHECK_EQ(code, TRTCOLL_EPEERDEAD);
    else
        expect_death(me, code);
    CHECK(plan == NULL);
}

static void idle_stage(struct proc_me *me, struct trtcoll_group *group)
{
    proc_reach(me, 1);
    proc_await_parent(me, 1);
    failure_await_broken(group);
    double ms = proc_ms_since_parent(me);
    CHECK_MSG(ms <= in_time(), "known after %.0f ms, allowed are %.0f", ms, in_time());
    CHECK_EQ(case_group_info(group).code, TRTCOLL_EPEERDEAD);
    CHECK_EQ(case_group_info(group).culprit, VICTIM);
}

static void between_stage(struct proc_me *me, struct trtcoll_group *group, struct trtcoll_plan *plan)
{
    for (unsigned i = 0; i < 5; i++)
        CHECK_OK(run(plan));
    if (me->rank == VICTIM) {
        proc_reach(me, 1);
        proc_await_parent(me, 99);
    }
    proc_reach(me, 1);
    int code = run(plan); /* waits for the victim, which has finished five steps */
    expect_death(me, code);
    CHECK_EQ(run(plan), TRTCOLL_EPEERDEAD); /* and stays so */
    CHECK_EQ(case_group_info(group).culprit, VICTIM);
}

/* Ranks 1 and 2 wait inside a run for rank 0, which comes too late: the victim has arrived, so in time it would still succeed. */
static void inside_stage(struct proc_me *me, struct trtcoll_group *group, struct trtcoll_plan *plan)
{
    CHECK_OK(run(plan));
    if (me->rank == 0) {
        proc_await_parent(me, 1);
        failure_await_broken(group);
        CHECK_EQ(run(plan), TRTCOLL_EPEERDEAD);
        return;
    }
    proc_reach(me, 1);
    int code = run(plan);
    expect_death(me, code);
}

/* Everybody but the victim has requests in flight; every event must complete once, all with the same story. */
static void flight_stage(struct proc_me *me, struct trtcoll_plan *plan)
{
    enum { FLIGHT = 6 };
    struct trtcoll_run_args args = TRTCOLL_RUN_ARGS_INIT;
    struct trtcoll_event *events[FLIGHT] = {0};
    CHECK_OK(run(plan));
    unsigned mine = me->rank == VICTIM ? 2 : FLIGHT;
    for (unsigned i = 0; i < mine; i++)
        CHECK_OK(trtcoll_plan_run(plan, &args, NULL, &events[i]));
    proc_reach(me, 1);
    if (me->rank == VICTIM)
        proc_await_parent(me, 99);
    for (unsigned i = 0; i < FLIGHT; i++) {
        int code = trtcoll_event_wait(events[i], UINT32_MAX);
        if (code == 0 && i < 2)
            continue; /* the victim took part in these before it died */
        expect_death(me, code);
        struct trtcoll_event_info info = {.size = sizeof(info)};
        CHECK_OK(trtcoll_event_status(events[i], &info));
        CHECK_EQ(info.code, TRTCOLL_EPEERDEAD);
        CHECK_EQ(info.rank, VICTIM);
        CHECK_EQ(trtcoll_event_query(events[i]), TRTCOLL_EPEERDEAD);
    }
    for (unsigned i = 0; i < FLIGHT; i++)
        trtcoll_event_put(events[i]);
}

static void stage_body(struct proc_me *me)
{
    const struct failure *failure = me->arg;
    struct trtcoll_ctx *ctx = proc_open(me, -1);
    struct trtcoll_group *group = NULL;
    struct trtcoll_plan *plan = NULL;
    if (failure->stage == AFTER_HELLO && me->rank == VICTIM) {
        proc_reach(me, 1);
        proc_await_parent(me, 99);
    }
    if (failure->stage == AFTER_HELLO || failure->stage == WHILE_JOINING) {
        if (failure->stage == WHILE_JOINING)
            joining_stage(me, ctx);
        else
            proc_reach(me, 1);
        if (me->rank == VICTIM)
            proc_await_parent(me, 99);
        proc_await_parent(me, 1);
        proc_reach(me, 2);
        proc_await(me, 2 - me->rank, 2); /* else the name still belongs to the group of three */
        CHECK_OK(trtcoll_group_create(ctx, "stage", 2, me->rank ? 1 : 0, 0, &group));
        proc_sum(group, failure->lane, 100);
        trtcoll_ctx_close(ctx);
        return;
    }
    group = proc_group(me, ctx, "stage");
    if (failure->stage == WHILE_PLANNING) {
        planning_stage(me, group, failure->lane);
    } else {
        plan = failure_plan(group, failure->lane);
        if (failure->stage == IDLE)
            idle_stage(me, group);
        else if (failure->stage == BETWEEN_RUNS)
            between_stage(me, group, plan);
        else if (failure->stage == INSIDE_A_RUN)
            inside_stage(me, group, plan);
        else
            flight_stage(me, plan);
        CHECK_EQ(case_group_info(group).state, TRTCOLL_GROUP_BROKEN);
        CHECK_OK(trtcoll_plan_release(plan));
    }
    failure_go_on(group, TRTCOLL_REFORM_SHRINK);
    trtcoll_ctx_close(ctx);
}

/* A moment is only observable from outside as "the rank says it is about to call"; give it the time of a few calls to be inside. */
static void let_it_sink_in(void)
{
    for (int i = 0; i < 30; i++)
        proc_nap();
}

void failure_killed_at_each_step(unsigned lane)
{
    struct proc_daemon *daemon = proc_daemon_start(&(struct proc_settings){.devices = 3});
    for (unsigned i = 0; i < STAGES; i++) {
        struct failure failure = {lane, (stage)i};
        if (i == REQUESTS_IN_FLIGHT && lane == TRTCOLL_LANE_DIRECT)
            continue; /* a direct run is done when the call returns */
        print_message("stage %u\n", i);
        struct proc_run *ranks = proc_run_start(daemon, RANKS, stage_body, &failure);
        proc_run_await(ranks, VICTIM, 1);
        proc_run_await(ranks, 2, 1);
        if (i == IDLE || i == BETWEEN_RUNS || i == REQUESTS_IN_FLIGHT)
            proc_run_await(ranks, 0, 1); /* in the other stages it stays away on purpose */
        let_it_sink_in();
        proc_run_kill(ranks, VICTIM, SIGKILL);
        atomic_store(&ranks->shared->parent.step, 1);
        proc_run_wait(ranks, 30000);
        proc_daemon_settled(daemon);
    }
    proc_daemon_finish(daemon);
}

/* ---- any moment ---- */

static void stream_body(struct proc_me *me)
{
    unsigned lane = *(unsigned *)me->arg;
    struct trtcoll_ctx *ctx = proc_open(me, -1);
    struct trtcoll_group *group = proc_group(me, ctx, "stream");
    struct trtcoll_all_reduce_desc desc = TRTCOLL_ALL_REDUCE_DESC_INIT;
    struct trtcoll_plan *plan = NULL;
    static float in[4096], out[4096];
    desc.dtype = TRTCOLL_FP32;
    desc.lane = lane;
    desc.hidden = 4096;
    CHECK_OK(trtcoll_plan_create_all_reduce(group, &desc, &plan));
    struct trtcoll_run_args args = TRTCOLL_RUN_ARGS_INIT;
    args.tokens = 1;
    args.in = in;
    args.out = out;
    int code = 0;
    for (uint32_t i = 0; !code; i++) {
        for (unsigned k = 0; k < 4096; k++)
            in[k] = (float)(i % 100 + (unsigned)me->rank);
        code = trtcoll_plan_run(plan, &args, NULL, NULL);
        if (!code) /* a run that was reported good is good, also around a death */
            for (unsigned k = 0; k < 4096; k++)
                CHECK_EQ(out[k], 4 * (i % 100) + 6);
        proc_reach(me, i + 1);
    }
    expect_death(me, code);
    CHECK_OK(trtcoll_plan_release(plan));
    failure_go_on(group, TRTCOLL_REFORM_SHRINK);
    trtcoll_ctx_close(ctx);
}

void failure_killed_at_any_moment(unsigned lane)
{
    struct proc_daemon *daemon = proc_daemon_start(&(struct proc_settings){.devices = 4});
    uint64_t random = 17 + lane;
    for (unsigned i = 0; i < 6; i++) {
        struct proc_run *ranks = proc_run_start(daemon, 4, stream_body, &lane);
        proc_run_await(ranks, VICTIM, 2 + (uint32_t)(ref_random(&random) % 40));
        uint64_t until = proc_now_ns() + ref_random(&random) % 2000000;
        while (proc_now_ns() < until)
            ;
        proc_run_kill(ranks, VICTIM, SIGKILL);
        proc_run_wait(ranks, 30000);
    }
    proc_daemon_finish(daemon);
}

/* ---- stopped and late ---- */

enum { DEADLINE_MS = 700 };

static void stopped_body(struct proc_me *me)
{
    unsigned lane = *(unsigned *)me->arg;
    struct trtcoll_ctx *ctx = proc_open(me, -1);
    struct trtcoll_group *group = proc_group(me, ctx, "stopped");
    struct trtcoll_plan *plan = failure_plan(group, lane);
    for (unsigned i = 0; i < 4; i++)
        CHECK_OK(run(plan));
    proc_reach(me, 1);
    proc_await_parent(me, 1); /* the victim is stopped in here */
    if (me->rank == VICTIM) {
        /* It wakes up in a group that has gone on without it: told so, at once. */
        CHECK_EQ(run(plan), TRTCOLL_ETIMEOUT);
        CHECK_EQ(case_group_info(group).culprit, VICTIM);
        CHECK_OK(trtcoll_group_leave(group));
        trtcoll_ctx_close(ctx);
        return;
    }
    uint64_t begin = proc_now_ns();
    int code = run(plan);
    double ms = (double)(proc_now_ns() - begin) / 1e6;
    CHECK_MSG(ms <= DEADLINE_MS + 100 + proc_allowance_ms(), "%s after %.0f ms, the deadline is %d", trtcoll_error_name(code), ms,
              DEADLINE_MS);
    CHECK_MSG(ms >= DEADLINE_MS / 2, "%s after only %.0f ms, the deadline is %d", trtcoll_error_name(code), ms, DEADLINE_MS);
    struct trtcoll_error error = proc_last_error();
    CHECK_MSG(code == TRTCOLL_ETIMEOUT, "%s: %s", trtcoll_error_name(code), error.text);
    CHECK_MSG(error.rank == VICTIM, "rank %d is blamed: %s", (int)error.rank, error.text);
    CHECK_MSG(error.step == 4, "its last step is given as %llu: %s", (unsigned long long)error.step, error.text);
    CHECK_OK(trtcoll_plan_release(plan));
    failure_go_on(group, TRTCOLL_REFORM_SHRINK); /* without it, while it is still stopped */
    CHECK_EQ(case_group_info(group).nranks, RANKS - 1);
    proc_reach(me, 2);
    trtcoll_ctx_close(ctx);
}

void failure_stopped(unsigned lane)
{
    struct proc_daemon *daemon = proc_daemon_start(&(struct proc_settings){.devices = 3, .operation_ms = DEADLINE_MS});
    struct proc_run *ranks = proc_run_start(daemon, RANKS, stopped_body, &lane);
    proc_run_await_all(ranks, 1);
    proc_run_kill(ranks, VICTIM, SIGSTOP);
    proc_run_reach(ranks, 1);
    proc_run_await(ranks, 0, 2);
    proc_run_await(ranks, 2, 2);
    proc_run_kill(ranks, VICTIM, SIGCONT);
    proc_run_wait(ranks, 30000);
    proc_daemon_finish(daemon);
}

static void late_body(struct proc_me *me)
{
    unsigned lane = *(unsigned *)me->arg;
    struct trtcoll_ctx *ctx = proc_open(me, -1);
    struct trtcoll_group *group = proc_group(me, ctx, "late");
    struct trtcoll_plan *plan = failure_plan(group, lane);
    proc_reach(me, 1);
    if (me->rank == VICTIM)
        proc_await_parent(me, 1);
    uint64_t begin = proc_now_ns();
    CHECK_OK(run(plan));
    if (me->rank != VICTIM)
        CHECK_MSG(proc_now_ns() - begin >= 100 * 1000000ull, "the barrier did not wait");
    proc_sum(group, lane, 100);
    trtcoll_ctx_close(ctx);
}

void failure_late(unsigned lane)
{
    struct proc_daemon *daemon = proc_daemon_start(&(struct proc_settings){.devices = 3});
    struct proc_run *ranks = proc_run_start(daemon, RANKS, late_body, &lane);
    proc_run_await_all(ranks, 1);
    for (int i = 0; i < 400; i++)
        proc_nap();
    proc_run_reach(ranks, 1);
    proc_run_wait(ranks, 30000);
    proc_daemon_finish(daemon);
}

/* ---- on purpose ---- */

static void abort_body(struct proc_me *me)
{
    unsigned lane = *(unsigned *)me->arg;
    struct trtcoll_ctx *ctx = proc_open(me, -1);
    struct trtcoll_group *group = proc_group(me, ctx, "abort");
    struct trtcoll_plan *plan = failure_plan(group, lane);
    CHECK_OK(run(plan));
    if (me->rank == 0) {
        proc_await(me, 1, 1);
        proc_await(me, 2, 1);
        let_it_sink_in();
        atomic_store(&me->shared->parent.values[0], proc_now_ns());
        CHECK_OK(trtcoll_group_abort(group, "the operator said so"));
        failure_await_broken(group);
        CHECK_EQ(run(plan), TRTCOLL_EABORTED);
    } else {
        proc_reach(me, 1);
        int code = run(plan);
        double ms = proc_ms_since_parent(me);
        struct trtcoll_error error = proc_last_error();
        CHECK_MSG(code == TRTCOLL_EABORTED, "%s: %s", trtcoll_error_name(code), error.text);
        CHECK_MSG(ms <= in_time(), "after %.0f ms, allowed are %.0f", ms, in_time());
        CHECK_MSG(strstr(error.text, "the operator said so") != NULL, "the reason is not in the text: %s", error.text);
        CHECK_MSG(error.rank == 0 || error.rank == TRTCOLL_RANK_NONE, "rank %d", (int)error.rank);
    }
    CHECK_OK(trtcoll_plan_release(plan));
    failure_go_on(group, 0);
    trtcoll_ctx_close(ctx);
}

void failure_abort(unsigned lane)
{
    struct proc_daemon *daemon = proc_daemon_start(&(struct proc_settings){.devices = 3});
    proc_run_all(daemon, RANKS, abort_body, &lane, 30000);
    proc_daemon_finish(daemon);
}
