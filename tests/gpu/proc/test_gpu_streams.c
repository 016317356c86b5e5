/* Streams and events: many of them at once, in whatever order, several groups and engines on the same devices. */
#include "gpu.h"

#include <stdio.h>
#include <string.h>

enum { PLANS = 6, ROUNDS = 20 };

/* ---- several streams of one client ---- */

/* Runs wait for nothing but their own stream; nobody waits on the host before the end of a round. */
static void several_body(struct proc_me *me)
{
    unsigned lane = *(unsigned *)me->arg;
    struct trtcoll_ctx *ctx = proc_open(me, me->rank);
    struct trtcoll_group *group = proc_group(me, ctx, "several");
    struct gpu *gpu = gpu_open(ctx);
    struct gpu_sum sums[PLANS];

    for (unsigned i = 0; i < PLANS; i++) {
        gpu->kind = (gpu_kind)(i % GPU_KINDS);
        sums[i] = gpu_sum_make(gpu, group, lane, 0, 4u << (3 * i));
    }
    for (unsigned round = 0; round < ROUNDS; round++) {
        bool late = round % 2 == (unsigned)me->rank % 2;

        proc_reach(me, round);
        if (late)
            gpu_block(gpu, gpu->streams[round % GPU_STREAMS]);
        for (unsigned i = 0; i < PLANS; i++) {
            CUstream stream = gpu->streams[(i + round) % GPU_STREAMS];

            gpu_sum_fill(gpu, &sums[i], (unsigned)me->rank, round, stream);
            CHECK_OK(gpu_sum_run(&sums[i], stream, NULL));
        }
        if (late) {
            for (unsigned i = 0; i < 3; i++)
                proc_nap();
            gpu_release(gpu);
        }
        for (unsigned i = 0; i < GPU_STREAMS; i++)
            gpu_drain(gpu, gpu->streams[i], PROC_PATIENCE_MS);
        gpu_check_group(group);
        for (unsigned i = 0; i < PLANS; i++)
            gpu_sum_check(gpu, &sums[i], round);
    }
    for (unsigned i = 0; i < PLANS; i++)
        CHECK_OK(trtcoll_plan_release(sums[i].plan));
    gpu_part(me, gpu);
    trtcoll_ctx_close(ctx);
}

static void several(unsigned lane)
{
    struct proc_daemon *daemon = proc_daemon_start(&(struct proc_settings){.devices = gpu_count()});

    for (unsigned ranks = 2; ranks <= gpu_count() && ranks <= 4; ranks++)
        proc_run_all(daemon, (int)ranks, several_body, &lane, 30000);
    proc_daemon_finish(daemon);
}

static void test_several_served(void **state)
{
    (void)state;
    several(TRTCOLL_LANE_SERVED);
}

static void test_several_direct(void **state)
{
    (void)state;
    several(TRTCOLL_LANE_DIRECT);
}

/* ---- long runs ---- */

/* Behind a long run an executor may wait for the inputs of the next before it enqueues anything: who posts does not wait with it. */
static void long_body(struct proc_me *me)
{
    struct trtcoll_ctx *ctx = proc_open(me, me->rank);
    struct trtcoll_group *group = proc_group(me, ctx, "long");
    struct gpu *gpu = gpu_open(ctx);
    struct gpu_sum sums[2] = {gpu_sum_make(gpu, group, TRTCOLL_LANE_SERVED, 0, 4 << 20),
                              gpu_sum_make(gpu, group, TRTCOLL_LANE_SERVED, 0, 4096)};

    for (unsigned round = 0; round < 2; round++) {
        bool late = round == (unsigned)me->rank;

        proc_reach(me, round);
        for (unsigned i = 0; i < 2; i++)
            gpu_sum_fill(gpu, &sums[i], (unsigned)me->rank, round, gpu->streams[0]);
        if (late)
            gpu_block(gpu, gpu->streams[0]);
        for (unsigned k = 0; k < 5; k++)
            CHECK_OK(gpu_sum_run(&sums[k % 2], gpu->streams[0], NULL));
        if (late)
            gpu_release(gpu);
        gpu_drain(gpu, gpu->streams[0], PROC_PATIENCE_MS);
        gpu_check_group(group);
        for (unsigned i = 0; i < 2; i++)
            gpu_sum_check(gpu, &sums[i], round);
    }
    for (unsigned i = 0; i < 2; i++)
        CHECK_OK(trtcoll_plan_release(sums[i].plan));
    gpu_part(me, gpu);
    trtcoll_ctx_close(ctx);
}

static void test_long_served(void **state)
{
    struct proc_daemon *daemon = proc_daemon_start(&(struct proc_settings){.devices = 2});

    (void)state;
    proc_run_all(daemon, 2, long_body, NULL, 30000);
    proc_daemon_finish(daemon);
}

/* ---- two streams of one group, for long ---- */

enum { TURNS = 1000 };

/* A ring holds so many requests and no more. */
static void run_when_possible(struct gpu_sum *sum, CUstream stream)
{
    uint64_t begin = proc_now_ns();
    int code;

    while ((code = gpu_sum_run(sum, stream, NULL)) == TRTCOLL_EAGAIN && proc_now_ns() - begin < PROC_PATIENCE_MS * 1000000ull)
        ;
    CHECK_OK(code);
}

/* Runs take turns on two streams. What came out is looked at now and then, how many have ended at the end. */
static void many_body(struct proc_me *me)
{
    unsigned lane = *(unsigned *)me->arg;
    struct trtcoll_ctx *ctx = proc_open(me, me->rank);
    struct trtcoll_group *group = proc_group(me, ctx, "many");
    struct gpu *gpu = gpu_open(ctx);
    struct gpu_sum sums[2] = {gpu_sum_make(gpu, group, lane, 0, 4096), gpu_sum_make(gpu, group, lane, 0, 1 << 15)};
    unsigned rounds = gpu_rounds(lane == TRTCOLL_LANE_DIRECT ? 20 : 5, 1);
    uint64_t begin = proc_now_ns();

    for (unsigned round = 0; round < rounds; round++) {
        proc_reach(me, round);
        for (unsigned i = 0; i < 2; i++)
            gpu_sum_fill(gpu, &sums[i], (unsigned)me->rank, round % 64 + i, gpu->streams[i]);
        for (unsigned i = 0; i < TURNS; i++)
            run_when_possible(&sums[i % 2], gpu->streams[i % 2]);
        for (unsigned i = 0; i < 2; i++)
            gpu_drain(gpu, gpu->streams[i], PROC_PATIENCE_MS);
        gpu_check_group(group);
        for (unsigned i = 0; i < 2; i++)
            gpu_sum_check(gpu, &sums[i], round % 64 + i);
    }
    gpu_say_rate(me, lane == TRTCOLL_LANE_DIRECT ? "direct runs on two streams" : "served runs on two streams", (uint64_t)rounds * TURNS,
                 begin);
    if (lane == TRTCOLL_LANE_DIRECT) /* the group counts what it runs itself */
        CHECK_EQ(case_group_info(group).runs_finished, (uint64_t)rounds * TURNS);
    for (unsigned i = 0; i < 2; i++)
        CHECK_OK(trtcoll_plan_release(sums[i].plan));
    gpu_part(me, gpu);
    trtcoll_ctx_close(ctx);
}

static void test_many(void **state)
{
    struct proc_daemon *daemon = proc_daemon_start(&(struct proc_settings){.devices = gpu_count()});
    unsigned direct = TRTCOLL_LANE_DIRECT, served = TRTCOLL_LANE_SERVED;

    (void)state;
    for (unsigned ranks = 2; ranks <= gpu_count() && ranks <= 4; ranks += 2) {
        proc_run_all(daemon, (int)ranks, many_body, &direct, gpu_limit_ms(30000));
        proc_run_all(daemon, (int)ranks, many_body, &served, gpu_limit_ms(30000));
    }
    proc_daemon_finish(daemon);
}

/* ---- events ---- */

static void events_body(struct proc_me *me)
{
    unsigned lane = *(unsigned *)me->arg;
    struct trtcoll_ctx *ctx = proc_open(me, me->rank);
    struct trtcoll_group *group = proc_group(me, ctx, "events");
    struct gpu *gpu = gpu_open(ctx);
    struct gpu_sum first = gpu_sum_make(gpu, group, lane, 0, 4096), second = gpu_sum_make(gpu, group, lane, 0, 4096);

    for (unsigned round = 0; round < ROUNDS; round++) {
        struct trtcoll_event *event = NULL, *last = NULL;
        struct trtcoll_event_info info = {.size = sizeof(info)};
        struct CUevent_st *handle = NULL;

        proc_reach(me, round);
        gpu_block(gpu, gpu->streams[0]);
        gpu_sum_fill(gpu, &first, (unsigned)me->rank, round, gpu->streams[0]);
        CHECK_OK(gpu_sum_run(&first, gpu->streams[0], &event));
        CHECK_EQ(trtcoll_event_query(event), TRTCOLL_EAGAIN);
        CHECK_EQ(trtcoll_event_wait(event, 2), TRTCOLL_ETIMEOUT);
        /* Another stream goes on where this run ends: its input is the sum. */
        CHECK_OK(trtcoll_event_cuda(event, &handle));
        CHECK_CU(gpu->cuda->cuStreamWaitEvent(gpu->streams[1], handle, 0));
        CHECK_CU(gpu->cuda->cuMemcpyAsync(second.in, first.out, first.count * sizeof(float), gpu->streams[1]));
        CHECK_OK(gpu_sum_run(&second, gpu->streams[1], &last));
        gpu_release(gpu);
        CHECK_OK(trtcoll_event_wait(last, UINT32_MAX));
        CHECK_EQ(trtcoll_event_query(event), 0);
        CHECK_OK(trtcoll_event_status(event, &info));
        CHECK_EQ(info.code, 0);
        CHECK_EQ(info.lane, lane);
        CHECK(info.submit_ns <= info.start_ns && info.start_ns <= info.end_ns);
        trtcoll_event_put(event);
        trtcoll_event_put(last);
        gpu_sum_check(gpu, &first, round);
        float got;
        unsigned n = first.nranks;
        CHECK_CU(gpu->cuda->cuMemcpyDtoH(&got, second.out, sizeof(got)));
        CHECK_EQ(got, n * (n * (n + 1) / 2 + n * round));
    }
    CHECK_OK(trtcoll_plan_release(first.plan));
    CHECK_OK(trtcoll_plan_release(second.plan));
    gpu_part(me, gpu);
    trtcoll_ctx_close(ctx);
}

static void test_events(void **state)
{
    struct proc_daemon *daemon = proc_daemon_start(&(struct proc_settings){.devices = 2});
    unsigned direct = TRTCOLL_LANE_DIRECT, served = TRTCOLL_LANE_SERVED;

    (void)state;
    proc_run_all(daemon, 2, events_body, &served, 30000);
    proc_run_all(daemon, 2, events_body, &direct, 30000);
    proc_daemon_finish(daemon);
}

/* ---- two groups ---- */

/* Each rank calls in another order, now one group first and now the other: the executors agree on one. */
static void groups_body(struct proc_me *me)
{
    unsigned lane = *(unsigned *)me->arg;
    struct trtcoll_ctx *ctx = proc_open(me, me->rank);
    struct trtcoll_group *groups[2] = {proc_group(me, ctx, "one"), proc_group(me, ctx, "other")};
    struct gpu *gpu = gpu_open(ctx);
    struct gpu_sum sums[2];

    for (unsigned g = 0; g < 2; g++)
        sums[g] = gpu_sum_make(gpu, groups[g], lane, 0, 4096u << (4 * g));
    for (unsigned round = 0; round < ROUNDS; round++) {
        proc_reach(me, round);
        for (unsigned k = 0; k < 2; k++) {
            unsigned g = (k + round + (unsigned)me->rank) % 2;

            gpu_sum_fill(gpu, &sums[g], (unsigned)me->rank, round + g, gpu->streams[g]);
            CHECK_OK(gpu_sum_run(&sums[g], gpu->streams[g], NULL));
        }
        for (unsigned g = 0; g < 2; g++)
            gpu_drain(gpu, gpu->streams[g], PROC_PATIENCE_MS);
        for (unsigned g = 0; g < 2; g++)
            gpu_sum_check(gpu, &sums[g], round + g);
    }
    for (unsigned g = 0; g < 2; g++)
        CHECK_OK(trtcoll_plan_release(sums[g].plan));
    gpu_part(me, gpu);
    trtcoll_ctx_close(ctx);
}

/* One stream, first one group and then the other: what the executors enqueue must not wait for what comes behind it there. */
static void sequence_body(struct proc_me *me)
{
    unsigned lane = *(unsigned *)me->arg;
    struct trtcoll_ctx *ctx = proc_open(me, me->rank);
    struct trtcoll_group *groups[2] = {proc_group(me, ctx, "one"), proc_group(me, ctx, "other")};
    struct gpu *gpu = gpu_open(ctx);
    struct gpu_sum sums[2];

    for (unsigned g = 0; g < 2; g++)
        sums[g] = gpu_sum_make(gpu, groups[g], lane, 0, 4096u << (4 * g));
    for (unsigned round = 0; round < ROUNDS; round++) {
        proc_reach(me, round);
        for (unsigned g = 0; g < 2; g++)
            gpu_sum_fill(gpu, &sums[g], (unsigned)me->rank, round + g, gpu->streams[0]);
        for (unsigned k = 0; k < 8; k++)
            CHECK_OK(gpu_sum_run(&sums[(round + k) % 2], gpu->streams[0], NULL));
        gpu_drain(gpu, gpu->streams[0], PROC_PATIENCE_MS);
        for (unsigned g = 0; g < 2; g++)
            gpu_sum_check(gpu, &sums[g], round + g);
    }
    for (unsigned g = 0; g < 2; g++)
        CHECK_OK(trtcoll_plan_release(sums[g].plan));
    gpu_part(me, gpu);
    trtcoll_ctx_close(ctx);
}

static void test_two_groups(void **state)
{
    struct proc_daemon *daemon = proc_daemon_start(&(struct proc_settings){.devices = gpu_count()});
    unsigned served = TRTCOLL_LANE_SERVED;

    (void)state;
    proc_run_all(daemon, (int)(gpu_count() > 3 ? 3 : 2), groups_body, &served, 30000);
    proc_run_all(daemon, (int)(gpu_count() > 3 ? 3 : 2), sequence_body, &served, 30000);
    proc_daemon_finish(daemon);
}

/* ---- two engines ---- */

static void engine_body(struct proc_me *me)
{
    const char *name = me->arg;
    struct trtcoll_ctx *ctx = proc_open(me, me->rank);
    struct trtcoll_group *group = proc_group(me, ctx, name);
    struct gpu *gpu = gpu_open(ctx);
    struct gpu_sum served = gpu_sum_make(gpu, group, TRTCOLL_LANE_SERVED, 0, 1 << 16);
    struct gpu_sum direct = gpu_sum_make(gpu, group, TRTCOLL_LANE_DIRECT, 0, 1 << 12);

    proc_reach(me, 1);
    proc_await_parent(me, 1); /* both engines are there */
    for (unsigned round = 0; round < gpu_rounds(500, 30); round++) {
        gpu_sum_fill(gpu, &served, (unsigned)me->rank, round, gpu->streams[0]);
        gpu_sum_fill(gpu, &direct, (unsigned)me->rank, round, gpu->streams[1]);
        CHECK_OK(gpu_sum_run(&served, gpu->streams[0], NULL));
        CHECK_OK(gpu_sum_run(&direct, gpu->streams[1], NULL));
        gpu_drain(gpu, gpu->streams[0], PROC_PATIENCE_MS);
        gpu_drain(gpu, gpu->streams[1], PROC_PATIENCE_MS);
        gpu_sum_check(gpu, &served, round);
        gpu_sum_check(gpu, &direct, round);
    }
    CHECK_OK(trtcoll_plan_release(served.plan));
    CHECK_OK(trtcoll_plan_release(direct.plan));
    gpu_part(me, gpu);
    trtcoll_ctx_close(ctx);
}

static unsigned lines_with(const struct proc_daemon *daemon, const char *text)
{
    char line[2048];
    unsigned count = 0;
    FILE *file = fopen(daemon->log, "re");

    while (file && fgets(line, sizeof(line), file))
        count += strstr(line, text) != NULL;
    if (file)
        fclose(file);
    return count;
}

static void test_two_engines(void **state)
{
    struct proc_daemon *daemon = proc_daemon_start(&(struct proc_settings){.devices = 2});
    char one[] = "engine-1", two[] = "engine-2";
    struct proc_run *first = proc_run_start(daemon, 2, engine_body, one), *second = proc_run_start(daemon, 2, engine_body, two);

    (void)state;
    proc_run_await_all(first, 1);
    proc_run_await_all(second, 1);
    proc_run_reach(first, 1);
    proc_run_reach(second, 1);
    proc_run_wait(first, 30000);
    proc_run_wait(second, 30000);
    assert_int_equal(lines_with(daemon, "is ready after"), 1); /* one communicator served both */
    proc_daemon_finish(daemon);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_several_served, proc_teardown), cmocka_unit_test_teardown(test_several_direct, proc_teardown),
        cmocka_unit_test_teardown(test_events, proc_teardown),         cmocka_unit_test_teardown(test_two_groups, proc_teardown),
        cmocka_unit_test_teardown(test_two_engines, proc_teardown),    cmocka_unit_test_teardown(test_many, proc_teardown),
        cmocka_unit_test_teardown(test_long_served, proc_teardown),
    };

    return gpu_main("streams of GPUs", tests, sizeof(tests) / sizeof(tests[0]));
}
