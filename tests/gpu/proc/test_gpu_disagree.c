/*
 * Ranks of the direct lane that run other tokens or another plan than the rest. Kernels compare nothing, so a rank waits for what does not
 * come, or takes what came. Eager runs: the control process compares their history, EMISMATCH long before the deadline. Replays: the
 * deadline, or where nobody waits what kernels have recorded, EMISMATCH. Streams drain, and the group works again. The fake driver's
 * kernels are told to be as blind as real ones.
 */
#include "cases_failure.h"
#include "gpu.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    HIDDEN = 1024, /* floats of a token */
    DEADLINE_MS = 700,
    PATIENT_MS = 15000, /* the deadline where it must not be what ends a run */
    COMPARED_MS = 1500, /* an idle control process looks once a second, then ten times; a difference takes it three looks */
    RANKS = 3,          /* at most */
    MOST_TOKENS = 1 << 11,
};

struct scene {
    const char *what;
    bool captured;
    bool busy;       /* replays go on until somebody notices; else everybody rests after one */
    unsigned odd;    /* the rank that disagrees */
    unsigned plan;   /* it runs this one; the others plan 0 */
    uint64_t odds;   /* ... with so many tokens */
    uint64_t tokens; /* the others' */
};

struct stage {
    struct trtcoll_group *group;
    struct gpu *gpu;
    struct trtcoll_plan *plans[2];
    CUdeviceptr in, out;
};

static bool is_odd(const struct proc_me *me)
{
    const struct scene *scene = me->arg;

    return (unsigned)me->rank == scene->odd % (unsigned)me->nranks;
}

static uint64_t tokens_of(const struct proc_me *me)
{
    const struct scene *scene = me->arg;

    return is_odd(me) ? scene->odds : scene->tokens;
}

/* Some rank has published less than this one wants: its run cannot end well. */
static bool must_wait(const struct proc_me *me)
{
    const struct scene *scene = me->arg;

    return scene->odds != scene->tokens && tokens_of(me) == (scene->odds > scene->tokens ? scene->odds : scene->tokens);
}

static struct stage stage_set(struct proc_me *me, struct trtcoll_ctx *ctx)
{
    struct trtcoll_all_reduce_desc desc = TRTCOLL_ALL_REDUCE_DESC_INIT;
    struct stage stage = {.group = proc_group(me, ctx, "disagree")};

    stage.gpu = gpu_open(ctx);
    desc.dtype = TRTCOLL_FP32;
    desc.lane = TRTCOLL_LANE_DIRECT;
    desc.flags = TRTCOLL_GRAPH;
    desc.hidden = HIDDEN;
    desc.max_tokens = MOST_TOKENS;
    for (unsigned i = 0; i < 2; i++)
        CHECK_OK(trtcoll_plan_create_all_reduce(stage.group, &desc, &stage.plans[i]));
    stage.in = gpu_take(stage.gpu, (uint64_t)MOST_TOKENS * HIDDEN * sizeof(float));
    stage.out = gpu_take(stage.gpu, (uint64_t)MOST_TOKENS * HIDDEN * sizeof(float));
    CHECK_CU(stage.gpu->cuda->cuMemsetD8(stage.in, 0, (uint64_t)MOST_TOKENS * HIDDEN * sizeof(float)));
    return stage;
}

static int run(struct stage *stage, unsigned plan, uint64_t tokens, struct trtcoll_event **event)
{
    struct trtcoll_run_args args = TRTCOLL_RUN_ARGS_INIT;

    args.tokens = tokens;
    args.in = (const void *)(uintptr_t)stage->in;
    args.out = (void *)(uintptr_t)stage->out;
    return trtcoll_plan_run(stage->plans[plan], &args, stage->gpu->streams[0], event);
}

/* All together, so that what comes after it is the first thing that is wrong. */
static void agree(struct proc_me *me, struct stage *stage)
{
    for (unsigned i = 0; i < 4; i++)
        CHECK_OK(run(stage, i % 2, 1 + i, NULL));
    gpu_drain(stage->gpu, stage->gpu->streams[0], PROC_PATIENCE_MS);
    gpu_check_group(stage->group);
    proc_barrier(me);
}

static double since_ms(uint64_t begin_ns)
{
    return (double)(proc_now_ns() - begin_ns) / 1e6;
}

static void say(const struct proc_me *me, double drained, double known)
{
    const struct scene *scene = me->arg;

    if (!must_wait(me) && scene->odds != scene->tokens)
        return;
    if (scene->odds == scene->tokens && me->rank)
        return;
    printf("  %s, rank %d of %d: its stream was empty after %.0f ms, the cause known after %.0f ms\n", scene->what, me->rank, me->nranks,
           drained, known);
    fflush(stdout);
}

/* The next call tells the story: of the rank that disagrees and of another one. */
static void check_story(struct proc_me *me, struct stage *stage)
{
    const struct scene *scene = me->arg;
    unsigned odd = scene->odd % (unsigned)me->nranks;
    struct trtcoll_error error;
    char name[32];
    unsigned named = 0;

    CHECK_CODE(run(stage, 0, 1, NULL), TRTCOLL_EMISMATCH);
    error = proc_last_error();
    for (unsigned i = 0; i < (unsigned)me->nranks; i++) {
        snprintf(name, sizeof(name), "rank %u", i);
        named += strstr(error.text, name) != NULL;
        CHECK_MSG(i != odd || strstr(error.text, name), "%s is not named: %s", name, error.text);
    }
    CHECK_MSG(named == 2 && error.rank < (unsigned)me->nranks, "rank %d is blamed: %s", (int)error.rank, error.text);
}

static void eager(struct proc_me *me, struct stage *stage)
{
    const struct scene *scene = me->arg;
    struct trtcoll_event *event = NULL;
    uint64_t begin = proc_now_ns();
    double drained, known, limit;
    int code;

    CHECK_OK(run(stage, is_odd(me) ? scene->plan : 0, tokens_of(me), &event));
    code = trtcoll_event_wait(event, UINT32_MAX);
    CHECK_MSG(code == TRTCOLL_EMISMATCH || (code == 0 && !must_wait(me)), "the run ends with %s: %s", trtcoll_error_name(code),
              code ? proc_last_error().text : "");
    trtcoll_event_put(event);
    gpu_drain(stage->gpu, stage->gpu->streams[0], PROC_PATIENCE_MS);
    drained = since_ms(begin);
    failure_await_broken(stage->group);
    known = since_ms(begin);
    limit = COMPARED_MS + proc_allowance_ms();
    say(me, drained, known);
    CHECK_MSG(drained < limit && known < limit, "more than %.0f ms", limit);
    CHECK_EQ(case_group_info(stage->group).code, TRTCOLL_EMISMATCH);
    check_story(me, stage);
}

static CUgraphExec capture(struct proc_me *me, struct stage *stage)
{
    const struct scene *scene = me->arg;
    const struct tck_cuda_driver *cuda = stage->gpu->cuda;
    CUgraphExec exec;
    CUgraph graph;

    CHECK_CU(cuda->cuStreamBeginCapture(stage->gpu->streams[0], CU_STREAM_CAPTURE_MODE_THREAD_LOCAL));
    CHECK_OK(run(stage, is_odd(me) ? scene->plan : 0, tokens_of(me), NULL));
    CHECK_CU(cuda->cuStreamEndCapture(stage->gpu->streams[0], &graph));
    CHECK_CU(cuda->cuGraphInstantiate(&exec, graph, 0));
    CHECK_CU(cuda->cuGraphDestroy(graph));
    return exec;
}

/* Where some rank waits for what does not come. */
static void replay(struct proc_me *me, struct stage *stage)
{
    const struct tck_cuda_driver *cuda = stage->gpu->cuda;
    CUstream stream = stage->gpu->streams[1];
    CUgraphExec exec = capture(me, stage);
    struct trtcoll_group_info info;
    double drained, known, limit;
    uint64_t begin;

    proc_barrier(me);
    begin = proc_now_ns();
    CHECK_CU(cuda->cuGraphLaunch(exec, stream));
    gpu_drain(stage->gpu, stream, PROC_PATIENCE_MS);
    drained = since_ms(begin);
    failure_await_broken(stage->group);
    known = since_ms(begin);
    info = case_group_info(stage->group);
    limit = DEADLINE_MS + COMPARED_MS + proc_allowance_ms();
    say(me, drained, known);
    CHECK_MSG(info.code == TRTCOLL_ETIMEOUT && info.culprit < info.nranks, "%s of rank %d", trtcoll_error_name(info.code),
              (int)info.culprit);
    CHECK_MSG(drained < limit && known < limit, "more than %.0f ms", limit);
    CHECK_MSG(!must_wait(me) || drained >= DEADLINE_MS / 2, "the replay ended after %.0f ms", drained);
    for (unsigned i = 0; i < 20; i++) /* of what is broken they end at once */
        CHECK_CU(cuda->cuGraphLaunch(exec, stream));
    CHECK(gpu_drain(stage->gpu, stream, PROC_PATIENCE_MS) < 500 + proc_allowance_ms());
    CHECK_CU(cuda->cuGraphExecDestroy(exec));
}

/* Where nobody waits. */
static void replay_alike(struct proc_me *me, struct stage *stage)
{
    const struct scene *scene = me->arg;
    const struct tck_cuda_driver *cuda = stage->gpu->cuda;
    CUstream stream = stage->gpu->streams[1];
    CUgraphExec exec = capture(me, stage);
    double drained, known, limit = COMPARED_MS + proc_allowance_ms();
    uint64_t begin;

    proc_barrier(me);
    begin = proc_now_ns();
    do {
        CHECK_CU(cuda->cuGraphLaunch(exec, stream));
        gpu_drain(stage->gpu, stream, PROC_PATIENCE_MS);
    } while (scene->busy && case_group_info(stage->group).code == 0 && since_ms(begin) < limit);
    drained = since_ms(begin);
    failure_await_broken(stage->group);
    known = since_ms(begin);
    say(me, drained, known);
    CHECK_MSG(known < limit, "more than %.0f ms", limit);
    CHECK_EQ(case_group_info(stage->group).code, TRTCOLL_EMISMATCH);
    check_story(me, stage);
    CHECK_CU(cuda->cuGraphExecDestroy(exec));
}

static void good_sum(struct proc_me *me, struct stage *stage, unsigned lane, uint64_t count)
{
    struct gpu_sum sum;

    gpu_reset(stage->gpu);
    sum = gpu_sum_make(stage->gpu, stage->group, lane, 0, count);
    proc_barrier(me);                              /* deadlines may be short here, and making a plan may take its time */
    for (unsigned round = 0; round < 6; round++) { /* every buffer of the workspaces twice */
        gpu_sum_fill(stage->gpu, &sum, (unsigned)me->rank, round, stage->gpu->streams[0]);
        CHECK_OK(gpu_sum_run(&sum, stage->gpu->streams[0], NULL));
        gpu_drain(stage->gpu, stage->gpu->streams[0], PROC_PATIENCE_MS);
        gpu_check_group(stage->group);
        gpu_sum_check(stage->gpu, &sum, round);
    }
    CHECK_OK(trtcoll_plan_release(sum.plan));
}

static void scene_body(struct proc_me *me)
{
    const struct scene *scene = me->arg;
    struct trtcoll_ctx *ctx = proc_open(me, me->rank);
    struct stage stage = stage_set(me, ctx);

    agree(me, &stage);
    if (scene->captured && scene->odds == scene->tokens)
        replay_alike(me, &stage);
    else if (scene->captured)
        replay(me, &stage);
    else
        eager(me, &stage);
    for (unsigned i = 0; i < 2; i++)
        CHECK_OK(trtcoll_plan_release(stage.plans[i]));
    CHECK_OK(trtcoll_group_reform(stage.group, 0, 0));
    good_sum(me, &stage, TRTCOLL_LANE_DIRECT, HIDDEN);
    good_sum(me, &stage, TRTCOLL_LANE_DIRECT, 1 << 20);
    good_sum(me, &stage, TRTCOLL_LANE_SERVED, HIDDEN);
    gpu_part(me, stage.gpu);
    trtcoll_ctx_close(ctx);
}

static void play(const struct scene *scenes, size_t count, unsigned operation_ms)
{
    struct proc_daemon *daemon =
        proc_daemon_start(&(struct proc_settings){.devices = gpu_count(), .operation_ms = operation_ms, .join_ms = 60000});

    for (unsigned ranks = 2; ranks <= RANKS && ranks <= gpu_count(); ranks++)
        for (size_t i = 0; i < count; i++) {
            struct scene scene = scenes[i];

            proc_run_all(daemon, (int)ranks, scene_body, &scene, 60000);
        }
    assert_true(proc_daemon_alive(daemon));
    proc_daemon_finish(daemon);
}

/* Small messages and large ones, which other kernels send. */
static void test_tokens(void **state)
{
    static const struct scene scenes[] = {
        {.what = "more tokens, eager", .odd = 1, .odds = 2, .tokens = 1},
        {.what = "fewer tokens, eager", .odd = 0, .odds = 1, .tokens = 2},
        {.what = "many more tokens, eager", .odd = 0, .odds = MOST_TOKENS, .tokens = 3},
        {.what = "some fewer tokens, eager", .odd = 1, .odds = MOST_TOKENS - 100, .tokens = MOST_TOKENS},
    };

    (void)state;
    play(scenes, sizeof(scenes) / sizeof(scenes[0]), PATIENT_MS);
}

/* Where both plans send the same, all runs end: nothing waits, and only their history tells. */
static void test_plans(void **state)
{
    static const struct scene scenes[] = {
        {.what = "another plan, eager", .odd = 1, .plan = 1, .odds = 8, .tokens = 8},
        {.what = "another plan of other tokens, eager", .odd = 0, .plan = 1, .odds = 3, .tokens = 8},
    };

    (void)state;
    play(scenes, sizeof(scenes) / sizeof(scenes[0]), PATIENT_MS);
}

static void test_replays(void **state)
{
    static const struct scene scenes[] = {
        {.what = "more tokens, a replay", .captured = true, .odd = 1, .odds = 2, .tokens = 1},
        {.what = "fewer tokens, a replay", .captured = true, .odd = 0, .odds = 1, .tokens = 2},
        {.what = "many fewer tokens, a replay", .captured = true, .odd = 1, .odds = 3, .tokens = MOST_TOKENS},
        {.what = "another plan of other tokens, a replay", .captured = true, .odd = 0, .plan = 1, .odds = 12, .tokens = 8},
    };

    (void)state;
    play(scenes, sizeof(scenes) / sizeof(scenes[0]), DEADLINE_MS);
}

/* Which of these replays sends the data of which plan, only records tell. */
static void test_replays_alike(void **state)
{
    static const struct scene scenes[] = {
        {.what = "another plan, a replay", .captured = true, .odd = 1, .plan = 1, .odds = 8, .tokens = 8},
        {.what = "another plan, replays without a rest", .captured = true, .busy = true, .odd = 0, .plan = 1, .odds = 300, .tokens = 300},
    };

    (void)state;
    play(scenes, sizeof(scenes) / sizeof(scenes[0]), PATIENT_MS);
}

/* ---- nothing to find ---- */

enum { PAIRS = 4, REPLAYS = 16, INNOCENT_MS = 1000 };

/* As rank 0 says: kernels of one rank wait for those of the others. */
static bool go_on(struct proc_me *me, bool wanted)
{
    _Atomic uint64_t *word = &me->shared->ranks[0].values[PROC_VALUES - 1];
    bool on;

    if (!me->rank)
        atomic_store(word, wanted);
    proc_barrier(me);
    on = atomic_load(word);
    proc_barrier(me); /* before it is said anew */
    return on;
}

/*
 * Plans that differ so much in size that each has a workspace of its own, which counts its own runs. Replays use both in turn, so that two
 * runs of the same number may stand in the records of two ranks at the same time: the daemon looks often, and must find nothing.
 */
static void innocent_body(struct proc_me *me)
{
    struct trtcoll_all_reduce_desc desc = TRTCOLL_ALL_REDUCE_DESC_INIT;
    struct trtcoll_ctx *ctx = proc_open(me, me->rank);
    struct stage stage = {.group = proc_group(me, ctx, "innocent")};
    const struct tck_cuda_driver *cuda;
    uint64_t begin, bytes = (uint64_t)HIDDEN * sizeof(float), replays = 0;
    bool on = true;
    CUgraphExec exec;
    CUgraph graph;

    stage.gpu = gpu_open(ctx);
    cuda = stage.gpu->cuda;
    desc.dtype = TRTCOLL_FP32;
    desc.lane = TRTCOLL_LANE_DIRECT;
    desc.flags = TRTCOLL_GRAPH;
    desc.hidden = HIDDEN;
    for (unsigned i = 0; i < 2; i++) {
        desc.max_tokens = i ? 8 * MOST_TOKENS : 1;
        CHECK_OK(trtcoll_plan_create_all_reduce(stage.group, &desc, &stage.plans[i]));
    }
    stage.in = gpu_take(stage.gpu, bytes);
    stage.out = gpu_take(stage.gpu, bytes);
    CHECK_CU(cuda->cuMemsetD8(stage.in, 0, bytes));
    CHECK_CU(cuda->cuStreamBeginCapture(stage.gpu->streams[0], CU_STREAM_CAPTURE_MODE_THREAD_LOCAL));
    for (unsigned i = 0; i < 2 * PAIRS; i++)
        CHECK_OK(run(&stage, i % 2, 1, NULL));
    CHECK_CU(cuda->cuStreamEndCapture(stage.gpu->streams[0], &graph));
    CHECK_CU(cuda->cuGraphInstantiate(&exec, graph, 0));
    CHECK_CU(cuda->cuGraphDestroy(graph));
    proc_barrier(me);
    begin = proc_now_ns();
    while (on) {
        for (unsigned i = 0; i < REPLAYS; i++)
            CHECK_CU(cuda->cuGraphLaunch(exec, stage.gpu->streams[1]));
        gpu_drain(stage.gpu, stage.gpu->streams[1], PROC_PATIENCE_MS);
        gpu_check_group(stage.group);
        replays += REPLAYS;
        on = go_on(me, since_ms(begin) < INNOCENT_MS);
    }
    CHECK(replays > REPLAYS);
    CHECK_CU(cuda->cuGraphExecDestroy(exec));
    for (unsigned i = 0; i < 2; i++)
        CHECK_OK(trtcoll_plan_release(stage.plans[i]));
    gpu_part(me, stage.gpu);
    trtcoll_ctx_close(ctx);
}

static void test_two_workspaces(void **state)
{
    struct proc_daemon *daemon = proc_daemon_start(&(struct proc_settings){.devices = gpu_count(), .join_ms = 60000});

    (void)state;
    for (unsigned ranks = 2; ranks <= RANKS && ranks <= gpu_count(); ranks++)
        proc_run_all(daemon, (int)ranks, innocent_body, NULL, 60000);
    assert_true(proc_daemon_alive(daemon));
    proc_daemon_finish(daemon);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_tokens, proc_teardown),         cmocka_unit_test_teardown(test_plans, proc_teardown),
        cmocka_unit_test_teardown(test_replays, proc_teardown),        cmocka_unit_test_teardown(test_replays_alike, proc_teardown),
        cmocka_unit_test_teardown(test_two_workspaces, proc_teardown),
    };

    setenv("TRTCOLL_FAKE_UNCHECKED", "1", 1);
    return gpu_main("ranks that disagree", tests, sizeof(tests) / sizeof(tests[0]));
}
