/*
 * What happens to survivors on GPUs when something dies or stops: their streams drain, the codes are right and name who it was, the group
 * works again. Times are printed: from the signal to the moment when the survivors' streams were empty, and to the next good result.
 */
#include "cases_failure.h"
#include "gpu.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { VICTIM = 1, DEADLINE_MS = 700, EXECUTORS_GRACE_MS = 3500 };
/* What a rank tells the test, in microseconds. */
enum { DRAINED = 0, KNOWN = 1, AGAIN = 2, ATTACHED = 3 };
enum { DRAINED_STEP = 1000000, DONE = 2000000 };

static double bound_ms(void)
{
    return PROC_REACTION_MS + proc_allowance_ms();
}

static void note(struct proc_me *me, unsigned what)
{
    atomic_store(&me->slot->values[what], (uint64_t)(proc_ms_since_parent(me) * 1000));
}

static void print_times(const struct proc_run *run, const char *what)
{
    double drained = 0, known = 0, again = 0;

    for (int rank = 0; rank < run->nranks; rank++) {
        const struct proc_slot *slot = &run->shared->ranks[rank];
        double times[] = {(double)atomic_load(&slot->values[DRAINED]) / 1e3, (double)atomic_load(&slot->values[KNOWN]) / 1e3,
                          (double)atomic_load(&slot->values[AGAIN]) / 1e3};

        drained = times[0] > drained ? times[0] : drained;
        known = times[1] > known ? times[1] : known;
        again = times[2] > again ? times[2] : again;
    }
    printf("  %s: streams empty after %.1f ms", what, drained);
    if (known > 0)
        printf(", cause known after %.1f ms", known);
    if (again > 0)
        printf(", next result %.1f ms after the restart", again);
    if (atomic_load(&run->shared->ranks[VICTIM].values[ATTACHED]))
        printf(", %.1f ms after attaching", (double)atomic_load(&run->shared->ranks[VICTIM].values[ATTACHED]) / 1e3);
    printf("\n");
    fflush(stdout);
}

/* ---- clients ---- */

typedef enum scene_stage {
    BEFORE_READY, /* the victim's request is posted, its inputs never come */
    AFTER_READY,  /* the victim's inputs are there, a survivor's are not */
    IN_A_STREAM,  /* at a random moment of many runs */
    IN_A_REPLAY,  /* of a graph, direct lane */
    STOPPED,      /* SIGSTOP instead of death: the deadline ends it */
    STAGES
} scene_stage;

static const char *const stage_names[STAGES] = {"killed before its inputs are ready", "killed between ready and done",
                                                "killed in a stream of runs", "killed while a graph replays", "stopped"};

struct scene {
    unsigned lane;
    scene_stage stage;
};

static void expect_cause(struct proc_me *me, struct trtcoll_group *group, const struct scene *scene)
{
    int expected = scene->stage == STOPPED ? TRTCOLL_ETIMEOUT : TRTCOLL_EPEERDEAD;
    double limit = bound_ms() + (scene->stage == STOPPED ? DEADLINE_MS + EXECUTORS_GRACE_MS : 0);
    struct trtcoll_group_info info;

    failure_await_broken(group);
    if (!atomic_load(&me->slot->values[KNOWN]))
        note(me, KNOWN);
    info = case_group_info(group);
    CHECK_MSG(info.code == expected && info.culprit == VICTIM, "%s of rank %d, expected %s of rank %d", trtcoll_error_name(info.code),
              (int)info.culprit, trtcoll_error_name(expected), VICTIM);
    double known = (double)atomic_load(&me->slot->values[KNOWN]) / 1e3;
    CHECK_MSG(known <= limit, "known after %.0f ms, allowed are %.0f", known, limit);
}

/* The survivor's stream must empty by itself. */
static void drain_survivor(struct proc_me *me, struct gpu *gpu, const struct scene *scene)
{
    double limit = bound_ms() + (scene->lane == TRTCOLL_LANE_SERVED ? EXECUTORS_GRACE_MS : 0) + (scene->stage == STOPPED ? DEADLINE_MS : 0);

    for (unsigned i = 0; i < 2; i++)
        gpu_drain(gpu, gpu->streams[i], limit + PROC_PATIENCE_MS);
    note(me, DRAINED);
    CHECK_MSG(proc_ms_since_parent(me) <= limit, "the stream was empty after %.0f ms, allowed are %.0f", proc_ms_since_parent(me), limit);
}

static void run_many(struct proc_me *me, struct gpu *gpu, struct gpu_sum *sum)
{
    int code = 0;

    for (uint32_t i = 0; !code; i++) {
        struct trtcoll_event *event = NULL;

        gpu_sum_fill(gpu, sum, (unsigned)me->rank, i % 64, gpu->streams[0]);
        code = gpu_sum_run(sum, gpu->streams[0], &event);
        if (!code) {
            code = trtcoll_event_wait(event, UINT32_MAX);
            trtcoll_event_put(event);
        }
        if (!code) /* what is called good is good, also around a death */
            gpu_sum_check(gpu, sum, i % 64);
        proc_reach(me, i + 1);
    }
    struct trtcoll_error error = proc_last_error();
    CHECK_MSG(code == TRTCOLL_EPEERDEAD && error.rank == VICTIM, "%s: %s", trtcoll_error_name(code), error.text);
}

static bool works(struct gpu *gpu, struct trtcoll_group *group)
{
    struct trtcoll_ctx_info info = {.size = sizeof(info)};

    CHECK_OK(trtcoll_ctx_info(gpu->ctx, &info));
    return info.connected && case_group_info(group).state == TRTCOLL_GROUP_READY;
}

static void replay_many(struct proc_me *me, struct gpu *gpu, struct trtcoll_group *group, struct gpu_sum *sum)
{
    CUgraph graph;
    CUgraphExec exec;

    CHECK_CU(gpu->cuda->cuStreamBeginCapture(gpu->streams[0], CU_STREAM_CAPTURE_MODE_THREAD_LOCAL));
    for (unsigned i = 0; i < 10; i++)
        CHECK_OK(gpu_sum_run(sum, gpu->streams[0], NULL));
    CHECK_CU(gpu->cuda->cuStreamEndCapture(gpu->streams[0], &graph));
    CHECK_CU(gpu->cuda->cuGraphInstantiate(&exec, graph, 0));
    for (uint32_t i = 0; works(gpu, group); i++) {
        CHECK_CU(gpu->cuda->cuGraphLaunch(exec, gpu->streams[1]));
        if (i % 4 == 3)
            gpu_drain(gpu, gpu->streams[1], PROC_PATIENCE_MS);
        proc_reach(me, i + 1);
    }
    /* Replays of what is broken end at once. */
    for (unsigned i = 0; i < 20; i++)
        CHECK_CU(gpu->cuda->cuGraphLaunch(exec, gpu->streams[1]));
    gpu_drain(gpu, gpu->streams[1], 500 + proc_allowance_ms());
    CHECK_CU(gpu->cuda->cuGraphExecDestroy(exec));
    CHECK_CU(gpu->cuda->cuGraphDestroy(graph));
}

static void one_run(struct proc_me *me, struct gpu *gpu, struct trtcoll_group *group, struct gpu_sum *sum, const struct scene *scene)
{
    bool held = me->rank == VICTIM ? scene->stage == BEFORE_READY : scene->stage == AFTER_READY && me->rank == 0;
    struct trtcoll_event *event = NULL;

    if (me->rank == VICTIM && scene->stage == STOPPED) {
        proc_reach(me, 1);
        proc_await_parent(me, 1); /* stopped in here */
        return;
    }
    if (held)
        gpu_block(gpu, gpu->streams[0]);
    gpu_sum_fill(gpu, sum, (unsigned)me->rank, 9, gpu->streams[0]);
    CHECK_OK(gpu_sum_run(sum, gpu->streams[0], &event));
    proc_reach(me, 1);
    if (me->rank == VICTIM)
        proc_await_parent(me, 99);
    proc_await_parent(me, 1);
    if (held) { /* a stream that waits for work of the application is the application's affair: the event comes after it */
        failure_await_broken(group);
        note(me, KNOWN);
        gpu_release(gpu);
    }
    int code = trtcoll_event_wait(event, PROC_PATIENCE_MS);
    int expected = scene->stage == STOPPED ? TRTCOLL_ETIMEOUT : TRTCOLL_EPEERDEAD;
    struct trtcoll_error error = proc_last_error();
    /* The victim had done its part: if a survivor's inputs came before all was given up, the run may still succeed. Then it must be right.
     */
    bool late = code == 0 && scene->stage == AFTER_READY;
    if (late)
        gpu_sum_check(gpu, sum, 9);
    CHECK_MSG(late || (code == expected && error.rank == VICTIM), "%s instead of %s: %s", trtcoll_error_name(code),
              trtcoll_error_name(expected), error.text);
    trtcoll_event_put(event);
}

static void good_sum(struct proc_me *me, struct gpu *gpu, struct trtcoll_group *group, unsigned lane)
{
    struct gpu_sum sum;

    gpu_reset(gpu);
    sum = gpu_sum_make(gpu, group, lane, 0, 1 << 14);
    proc_barrier(me); /* deadlines are short here, and making a plan may take its time */
    gpu_sum_fill(gpu, &sum, case_group_info(group).rank, 21, gpu->streams[0]);
    CHECK_OK(gpu_sum_run(&sum, gpu->streams[0], NULL));
    gpu_drain(gpu, gpu->streams[0], PROC_PATIENCE_MS);
    gpu_check_group(group);
    gpu_sum_check(gpu, &sum, 21);
    CHECK_OK(trtcoll_plan_release(sum.plan));
}

static void scene_body(struct proc_me *me)
{
    const struct scene *scene = me->arg;
    struct trtcoll_ctx *ctx = proc_open(me, me->rank);
    struct trtcoll_group *group = proc_group(me, ctx, "scene");
    struct gpu *gpu = gpu_open(ctx);
    unsigned flags = scene->stage == IN_A_REPLAY ? TRTCOLL_GRAPH : 0;
    struct gpu_sum sum = gpu_sum_make(gpu, group, scene->lane, flags, 1 << 14);

    good_sum(me, gpu, group, scene->lane);
    if (scene->stage == IN_A_STREAM)
        run_many(me, gpu, &sum);
    else if (scene->stage == IN_A_REPLAY)
        replay_many(me, gpu, group, &sum);
    else
        one_run(me, gpu, group, &sum, scene);
    if (me->rank == VICTIM) { /* stopped, and woken up in a group that has given it up */
        failure_await_broken(group);
        CHECK_EQ(case_group_info(group).code, TRTCOLL_ETIMEOUT);
        CHECK_OK(trtcoll_group_leave(group));
    } else {
        drain_survivor(me, gpu, scene);
        expect_cause(me, group, scene);
        CHECK_OK(trtcoll_plan_release(sum.plan));
        proc_reach(me, DRAINED_STEP);
        CHECK_OK(trtcoll_group_reform(group, 0, 0)); /* with a process in the victim's place */
        good_sum(me, gpu, group, scene->lane);
        note(me, AGAIN);
        good_sum(me, gpu, group, TRTCOLL_LANE_SERVED);
        good_sum(me, gpu, group, TRTCOLL_LANE_DIRECT);
    }
    if (me->rank == VICTIM)
        gpu_close(gpu);
    else
        gpu_part(me, gpu);
    trtcoll_ctx_close(ctx);
    if (me->rank != VICTIM)
        proc_reach(me, DONE);
}

/* The restarted client: from attaching to its first result. */
static void successor_body(struct proc_me *me)
{
    const struct scene *scene = me->arg;
    uint64_t begin = proc_now_ns();
    struct trtcoll_ctx *ctx = proc_open(me, me->rank);
    struct trtcoll_group *group = proc_group(me, ctx, "scene");
    struct gpu *gpu = gpu_open(ctx);

    good_sum(me, gpu, group, scene->lane);
    atomic_store(&me->slot->values[ATTACHED], (proc_now_ns() - begin) / 1000);
    good_sum(me, gpu, group, TRTCOLL_LANE_SERVED);
    good_sum(me, gpu, group, TRTCOLL_LANE_DIRECT);
    gpu_part(me, gpu);
    trtcoll_ctx_close(ctx);
    proc_reach(me, DONE);
}

static unsigned communicators_made(const struct proc_daemon *daemon)
{
    char line[2048];
    unsigned count = 0;
    FILE *file = fopen(daemon->log, "re");

    while (file && fgets(line, sizeof(line), file))
        count += strstr(line, "is ready after") != NULL;
    if (file)
        fclose(file);
    return count;
}

static void play(struct proc_daemon *daemon, unsigned ranks, struct scene scene)
{
    struct proc_run *run = proc_run_start(daemon, (int)ranks, scene_body, &scene);
    char what[128];

    if (scene.stage == IN_A_STREAM || scene.stage == IN_A_REPLAY) {
        proc_run_await(run, VICTIM, 7);
    } else {
        proc_run_await_all(run, 1);
        for (int i = 0; i < 30; i++)
            proc_nap(); /* survivors' streams and executors are inside the run */
    }
    proc_run_kill(run, VICTIM, scene.stage == STOPPED ? SIGSTOP : SIGKILL);
    atomic_store(&run->shared->parent.step, 1);
    for (unsigned rank = 0; rank < ranks; rank++)
        if (rank != VICTIM)
            proc_run_await(run, (int)rank, DRAINED_STEP);
    if (scene.stage == STOPPED)
        proc_run_kill(run, VICTIM, SIGCONT);
    atomic_store(&run->shared->parent.values[0], proc_now_ns()); /* the next times count from here */
    proc_run_again(run, VICTIM, successor_body, &scene);
    proc_run_await_all(run, DONE);
    snprintf(what, sizeof(what), "%s lane, a client %s", scene.lane == TRTCOLL_LANE_DIRECT ? "direct" : "served", stage_names[scene.stage]);
    print_times(run, what);
    proc_run_wait(run, 30000);
    assert_true(proc_daemon_alive(daemon));
}

/*
 * A process that is killed while its own kernels run, as those of the direct lane do while they wait for peers: the MPS server gives up all
 * work on that GPU and accepts no new process for some seconds.
 */
static bool harms_mps(unsigned lane, scene_stage stage)
{
    return gpu_has_mps() && lane == TRTCOLL_LANE_DIRECT && (stage == AFTER_READY || stage == IN_A_STREAM || stage == IN_A_REPLAY);
}

static void clients(unsigned lane)
{
    struct proc_daemon *daemon =
        proc_daemon_start(&(struct proc_settings){.devices = gpu_count(), .operation_ms = DEADLINE_MS, .join_ms = 60000});

    for (unsigned stage = 0; stage < STAGES; stage++) {
        unsigned made = communicators_made(daemon);

        if (harms_mps(lane, (scene_stage)stage)) {
            printf("  direct lane, a client %s: left out under MPS, whose server does not survive that\n", stage_names[stage]);
            continue;
        }

        for (unsigned times = 0; times < (stage == IN_A_STREAM || stage == IN_A_REPLAY ? gpu_rounds(5, 2) : 1); times++)
            play(daemon, 2, (struct scene){lane, (scene_stage)stage});
        if (made) /* dead and stopped clients cost no communicator */
            assert_int_equal(communicators_made(daemon), made);
    }
    if (gpu_count() > 2 && !harms_mps(lane, IN_A_STREAM))
        play(daemon, gpu_count() > 4 ? 4 : gpu_count(), (struct scene){lane, IN_A_STREAM});
    proc_daemon_finish(daemon);
}

static void test_clients_served(void **state)
{
    (void)state;
    clients(TRTCOLL_LANE_SERVED);
}

static void test_clients_direct(void **state)
{
    (void)state;
    clients(TRTCOLL_LANE_DIRECT);
}

/* ---- executors ---- */

/* Memory that an executor has made, with something of each rank's in it. */
enum { KEPT = 1 << 14 };

static CUdeviceptr keep(struct proc_me *me, struct gpu *gpu)
{
    float numbers[KEPT];
    void *memory;

    for (unsigned i = 0; i < KEPT; i++)
        numbers[i] = (float)(me->rank * KEPT + i);
    CHECK_OK(trtcoll_alloc(gpu->ctx, 2 * sizeof(numbers), &memory));
    CHECK_CU(gpu->cuda->cuMemcpyHtoD((CUdeviceptr)(uintptr_t)memory, numbers, sizeof(numbers)));
    return (CUdeviceptr)(uintptr_t)memory;
}

/* It outlives its executor, contents and all, and the next executor reads and writes it where it is. */
static void check_kept(struct proc_me *me, struct gpu *gpu, struct trtcoll_group *group, CUdeviceptr memory)
{
    struct gpu_sum sum = gpu_sum_make(gpu, group, TRTCOLL_LANE_SERVED, 0, KEPT);
    struct trtcoll_plan_info info = {.size = sizeof(info)};
    float numbers[KEPT];

    CHECK_CU(gpu->cuda->cuMemcpyDtoH(numbers, memory, sizeof(numbers)));
    for (unsigned i = 0; i < KEPT; i++)
        CHECK_MSG(numbers[i] == (float)(me->rank * KEPT + i), "element %u is %g now", i, (double)numbers[i]);
    sum.in = memory;
    sum.out = memory + sizeof(numbers);
    CHECK_OK(gpu_sum_run(&sum, gpu->streams[0], NULL));
    gpu_drain(gpu, gpu->streams[0], PROC_PATIENCE_MS);
    CHECK_CU(gpu->cuda->cuMemcpyDtoH(numbers, sum.out, sizeof(numbers)));
    for (unsigned i = 0; i < KEPT; i++)
        CHECK_MSG(numbers[i] == (float)(KEPT + 2 * i), "the sum of element %u is %g", i, (double)numbers[i]);
    CHECK_OK(trtcoll_plan_info(sum.plan, &info));
    CHECK_EQ(info.staged_runs, 0);
    CHECK_OK(trtcoll_plan_release(sum.plan));
}

/* All ranks have runs under way on both lanes, rank 1 is late, an executor dies. The direct lane goes on, over memory that nobody made
 * anew. */
static void executor_body(struct proc_me *me)
{
    struct trtcoll_ctx *ctx = proc_open(me, me->rank);
    struct trtcoll_group *group = proc_group(me, ctx, "executor");
    struct gpu *gpu = gpu_open(ctx);
    struct gpu_sum sum = gpu_sum_make(gpu, group, TRTCOLL_LANE_SERVED, 0, 1 << 14);
    struct trtcoll_event *event = NULL;
    CUdeviceptr kept = keep(me, gpu);

    good_sum(me, gpu, group, TRTCOLL_LANE_SERVED);
    if (me->rank == 1)
        gpu_block(gpu, gpu->streams[0]);
    gpu_sum_fill(gpu, &sum, (unsigned)me->rank, 2, gpu->streams[0]);
    CHECK_OK(gpu_sum_run(&sum, gpu->streams[0], &event));
    proc_reach(me, 1);
    proc_await_parent(me, 1);
    failure_await_broken(group);
    note(me, KNOWN);
    gpu_release(gpu);
    int code = trtcoll_event_wait(event, PROC_PATIENCE_MS);
    struct trtcoll_error error = proc_last_error();
    if (code == 0) /* the executor had done its part */
        gpu_sum_check(gpu, &sum, 2);
    CHECK_MSG(code == TRTCOLL_EEXECUTOR || code == 0, "%s: %s", trtcoll_error_name(code), error.text);
    trtcoll_event_put(event);
    gpu_drain(gpu, gpu->streams[0], PROC_PATIENCE_MS);
    note(me, DRAINED);
    CHECK_MSG(proc_ms_since_parent(me) < bound_ms(), "the stream was empty after %.0f ms", proc_ms_since_parent(me));
    CHECK_OK(trtcoll_plan_release(sum.plan));
    CHECK_OK(trtcoll_group_reform(group, 0, 0));
    good_sum(me, gpu, group, TRTCOLL_LANE_SERVED);
    note(me, AGAIN);
    check_kept(me, gpu, group, kept);
    good_sum(me, gpu, group, TRTCOLL_LANE_DIRECT);
    gpu_part(me, gpu);
    trtcoll_ctx_close(ctx);
    proc_reach(me, DONE);
}

static void test_executor_killed(void **state)
{
    struct proc_daemon *daemon = proc_daemon_start(&(struct proc_settings){.devices = 2});

    (void)state;
    for (unsigned which = 0; which < 2; which++) {
        struct proc_run *run = proc_run_start(daemon, 2, executor_body, NULL);
        pid_t executors[2];

        proc_run_await_all(run, 1);
        for (int i = 0; i < 30; i++)
            proc_nap();
        assert_int_equal(proc_daemon_executors(daemon, executors, 2), 2);
        atomic_store(&run->shared->parent.values[0], proc_now_ns());
        assert_int_equal(kill(executors[which], SIGKILL), 0);
        atomic_store(&run->shared->parent.step, 1);
        proc_run_await_all(run, DONE);
        print_times(run, "an executor killed in a run");
        proc_run_wait(run, 30000);
    }
    proc_daemon_finish(daemon);
}

/* The same while graphs replay served runs: nobody is in a call of the library then, its thread has to notice. */
static void served_replay_body(struct proc_me *me)
{
    bool control = *(bool *)me->arg;
    struct trtcoll_ctx_options options = TRTCOLL_CTX_OPTIONS_INIT;
    struct trtcoll_ctx *ctx = NULL;
    options.socket_path = me->daemon->socket;
    options.device = me->rank;
    options.watch = 1;
    CHECK_OK(trtcoll_ctx_open(&options, &ctx));
    struct trtcoll_group *group = proc_group(me, ctx, "replay");
    struct gpu *gpu = gpu_open(ctx);
    struct gpu_sum sum = gpu_sum_make(gpu, group, TRTCOLL_LANE_SERVED, TRTCOLL_GRAPH, 1 << 14);

    replay_many(me, gpu, group, &sum);
    gpu_drain(gpu, gpu->streams[1], PROC_PATIENCE_MS);
    note(me, DRAINED);
    CHECK_MSG(proc_ms_since_parent(me) < bound_ms(), "the stream was empty after %.0f ms", proc_ms_since_parent(me));
    CHECK_OK(trtcoll_plan_release(sum.plan));
    if (control) {
        proc_reach(me, DRAINED_STEP);
        proc_await_parent(me, 2);
    } else {
        CHECK_EQ(case_group_info(group).code, TRTCOLL_EEXECUTOR);
        CHECK_OK(trtcoll_group_reform(group, 0, 0));
        good_sum(me, gpu, group, TRTCOLL_LANE_SERVED);
        note(me, AGAIN);
    }
    if (control)
        gpu_close(gpu);
    else
        gpu_part(me, gpu);
    trtcoll_ctx_close(ctx);
    proc_reach(me, DONE);
}

static void test_executor_killed_in_replay(void **state)
{
    struct proc_daemon *daemon = proc_daemon_start(&(struct proc_settings){.devices = 2});
    bool control = false;

    (void)state;
    for (unsigned which = 0; which < 2; which++) {
        struct proc_run *run = proc_run_start(daemon, 2, served_replay_body, &control);
        pid_t executors[2];

        proc_run_await_all(run, 5);
        assert_int_equal(proc_daemon_executors(daemon, executors, 2), 2);
        atomic_store(&run->shared->parent.values[0], proc_now_ns());
        assert_int_equal(kill(executors[which], SIGKILL), 0);
        proc_run_await_all(run, DONE);
        print_times(run, "an executor killed while graphs replay served runs");
        proc_run_wait(run, 30000);
    }
    proc_daemon_finish(daemon);
}

static void test_control_killed_in_replay(void **state)
{
    struct proc_daemon *daemon = proc_daemon_start(&(struct proc_settings){.devices = 2});
    bool control = true;
    struct proc_run *run = proc_run_start(daemon, 2, served_replay_body, &control);

    (void)state;
    proc_run_await_all(run, 5);
    atomic_store(&run->shared->parent.values[0], proc_now_ns());
    proc_daemon_kill(daemon);
    proc_run_await_all(run, DRAINED_STEP);
    print_times(run, "the control process killed while graphs replay served runs");
    atomic_store(&run->shared->parent.step, 2);
    proc_run_wait(run, 30000);
    proc_daemon_restart(daemon);
    proc_daemon_finish(daemon);
}

/* The direct lane needs executors only while plans are made: the memory that they made outlives them. */
static void bystander_body(struct proc_me *me)
{
    struct trtcoll_ctx *ctx = proc_open(me, me->rank);
    struct trtcoll_group *group = proc_group(me, ctx, "bystander");
    struct gpu *gpu = gpu_open(ctx);
    struct gpu_sum sum = gpu_sum_make(gpu, group, TRTCOLL_LANE_DIRECT, 0, 1 << 14);

    for (unsigned round = 0; round < 40; round++) {
        if (round == 20) {
            proc_reach(me, 1);
            proc_await_parent(me, 1);
        }
        gpu_sum_fill(gpu, &sum, (unsigned)me->rank, round, gpu->streams[0]);
        CHECK_OK(gpu_sum_run(&sum, gpu->streams[0], NULL));
        gpu_drain(gpu, gpu->streams[0], PROC_PATIENCE_MS);
        gpu_check_group(group);
        gpu_sum_check(gpu, &sum, round);
    }
    CHECK_OK(trtcoll_plan_release(sum.plan));
    good_sum(me, gpu, group, TRTCOLL_LANE_SERVED); /* a new executor is there when it is needed */
    gpu_part(me, gpu);
    trtcoll_ctx_close(ctx);
}

static void test_direct_lane_ignores_executors(void **state)
{
    struct proc_daemon *daemon = proc_daemon_start(&(struct proc_settings){.devices = 2});
    struct proc_run *run = proc_run_start(daemon, 2, bystander_body, NULL);
    pid_t executors[2];

    (void)state;
    proc_run_await_all(run, 1);
    assert_int_equal(proc_daemon_executors(daemon, executors, 2), 2);
    for (unsigned i = 0; i < 2; i++)
        assert_int_equal(kill(executors[i], SIGKILL), 0);
    /* Both: a plan for the served lane that meets one of them before its death is noticed fails with it. */
    assert_true(proc_daemon_logged(daemon, "the executor of device 0 (pid", PROC_PATIENCE_MS));
    assert_true(proc_daemon_logged(daemon, "the executor of device 1 (pid", PROC_PATIENCE_MS));
    proc_run_reach(run, 1);
    proc_run_wait(run, 30000);
    proc_daemon_finish(daemon);
}

/* ---- the control process ---- */

static void control_body(struct proc_me *me)
{
    struct trtcoll_ctx *ctx = proc_open(me, me->rank);
    struct trtcoll_group *group = proc_group(me, ctx, "control");
    struct gpu *gpu = gpu_open(ctx);
    struct gpu_sum sum = gpu_sum_make(gpu, group, TRTCOLL_LANE_SERVED, 0, 1 << 14);
    struct gpu_sum direct = gpu_sum_make(gpu, group, TRTCOLL_LANE_DIRECT, 0, 1 << 12);
    struct trtcoll_event *event = NULL;

    good_sum(me, gpu, group, TRTCOLL_LANE_SERVED);
    gpu_reset(gpu);
    gpu_take(gpu, 1 << 20);
    if (me->rank == 1)
        gpu_block(gpu, gpu->streams[0]);
    gpu_sum_fill(gpu, &sum, (unsigned)me->rank, 2, gpu->streams[0]);
    CHECK_OK(gpu_sum_run(&sum, gpu->streams[0], &event));
    proc_reach(me, 1);
    proc_await_parent(me, 1);
    struct trtcoll_ctx_info info = {.size = sizeof(info), .connected = 1};
    while (info.connected && proc_ms_since_parent(me) < PROC_PATIENCE_MS) {
        trtcoll_event_query(event);
        CHECK_OK(trtcoll_ctx_info(ctx, &info));
        proc_nap();
    }
    note(me, KNOWN);
    gpu_release(gpu);
    int code = trtcoll_event_wait(event, PROC_PATIENCE_MS);
    CHECK_MSG(code == TRTCOLL_ECONN, "%s: %s", trtcoll_error_name(code), proc_last_error().text);
    trtcoll_event_put(event);
    gpu_drain(gpu, gpu->streams[0], PROC_PATIENCE_MS);
    note(me, DRAINED);
    CHECK_MSG(proc_ms_since_parent(me) < bound_ms(), "the stream was empty after %.0f ms", proc_ms_since_parent(me));
    CHECK_CODE(gpu_sum_run(&sum, gpu->streams[0], NULL), TRTCOLL_ECONN);
    for (unsigned round = 0; round < 20; round++) { /* the direct lane needs nobody */
        gpu_sum_fill(gpu, &direct, (unsigned)me->rank, round, gpu->streams[1]);
        CHECK_OK(gpu_sum_run(&direct, gpu->streams[1], NULL));
        gpu_drain(gpu, gpu->streams[1], PROC_PATIENCE_MS);
        gpu_check_group(group);
        gpu_sum_check(gpu, &direct, round);
    }
    proc_reach(me, 2);
    proc_await_parent(me, 2); /* the next daemon runs */
    gpu_close(gpu);
    trtcoll_ctx_close(ctx);
    ctx = proc_open(me, me->rank);
    group = proc_group(me, ctx, "control");
    gpu = gpu_open(ctx);
    good_sum(me, gpu, group, TRTCOLL_LANE_SERVED);
    note(me, AGAIN);
    good_sum(me, gpu, group, TRTCOLL_LANE_DIRECT);
    gpu_part(me, gpu);
    trtcoll_ctx_close(ctx);
    proc_reach(me, DONE);
}

static void test_control_killed(void **state)
{
    struct proc_daemon *daemon = proc_daemon_start(&(struct proc_settings){.devices = 2});
    struct proc_run *run = proc_run_start(daemon, 2, control_body, NULL);

    (void)state;
    proc_run_await_all(run, 1);
    for (int i = 0; i < 30; i++)
        proc_nap();
    atomic_store(&run->shared->parent.values[0], proc_now_ns());
    atomic_store(&run->shared->parent.step, 1);
    proc_daemon_kill(daemon);
    proc_run_await_all(run, 2);
    proc_daemon_restart(daemon);
    proc_run_reach(run, 2);
    proc_run_await_all(run, DONE);
    print_times(run, "the control process killed in a run");
    proc_run_wait(run, 30000);
    proc_daemon_finish(daemon);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_clients_served, proc_teardown),
        cmocka_unit_test_teardown(test_clients_direct, proc_teardown),
        cmocka_unit_test_teardown(test_executor_killed, proc_teardown),
        cmocka_unit_test_teardown(test_direct_lane_ignores_executors, proc_teardown),
        cmocka_unit_test_teardown(test_control_killed, proc_teardown),
        cmocka_unit_test_teardown(test_executor_killed_in_replay, proc_teardown),
        cmocka_unit_test_teardown(test_control_killed_in_replay, proc_teardown),
    };

    return gpu_main("failures on GPUs", tests, sizeof(tests) / sizeof(tests[0]));
}
