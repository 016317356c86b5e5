/*
 * The forms over NVLink multicast: who gets them, that all ranks agree, that sums are right, that failures in between break nothing. On the
 * fake driver only: multicast objects can put the GPUs of a shared host out of service.
 */
#include "gpu.h"

#include "ctl_case.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

static const unsigned strategies[] = {TRTCOLL_STRATEGY_MNNVL, TRTCOLL_STRATEGY_SYMM_MEM, TRTCOLL_STRATEGY_UB};

static bool says(struct trtcoll_group *group, unsigned strategy, const char *words)
{
    struct trtcoll_all_reduce_desc desc = TRTCOLL_ALL_REDUCE_DESC_INIT;
    struct trtcoll_plan_info info = {.size = sizeof(info)};
    struct trtcoll_plan *plan;

    desc.lane = TRTCOLL_LANE_DIRECT;
    desc.strategy = strategy;
    desc.max_tokens = 8;
    desc.hidden = 64;
    CHECK_OK(trtcoll_plan_create_all_reduce(group, &desc, &plan));
    CHECK_OK(trtcoll_plan_info(plan, &info));
    CHECK_OK(trtcoll_plan_release(plan));
    return strstr(info.reason, words) != NULL;
}

/* Every type, fusion and strategy; between them kernels that use the same workspaces without the object. */
static void sums_body(struct proc_me *me)
{
    static const unsigned fusions[] = {0, 1, 4, 5, 6, 7}, types[] = {TRTCOLL_FP32, TRTCOLL_FP16, TRTCOLL_BF16};
    static const uint64_t tokens[] = {1, 3, 5, 129}, widths[] = {16, 80, 1024, 7168};
    struct trtcoll_ctx *ctx = proc_open(me, me->rank);
    struct trtcoll_group *group = proc_group(me, ctx, "sums");
    struct gpu *gpu = gpu_open(ctx);

    proc_sum(group, TRTCOLL_LANE_DIRECT, 1000); /* workspaces without an object come first */
    for (unsigned i = 0; i < 3 * 6 * 3; i++) {
        struct case_all_reduce job = {
            .lane = TRTCOLL_LANE_DIRECT, .strategy = strategies[i % 3], .fusion = fusions[i / 3 % 6], .dtype = types[i / 18]};

        if ((job.fusion == 5 || job.fusion == 7) && job.dtype == TRTCOLL_FP32)
            continue;
        job.tokens = job.max_tokens = tokens[i % 4];
        job.hidden = widths[i / 4 % 4];
        job.data = (ref_data)(i / 5 % 3);
        job.flags = i % 7 == 0 ? TRTCOLL_BIAS : 0;
        job.seed = i;
        gpu->kind = (gpu_kind)(i % GPU_KINDS);
        proc_reach(me, i);
        case_all_reduce_run(me, group, &job, 2);
        if (i % 9 == 0)
            proc_sum(group, TRTCOLL_LANE_DIRECT, 1000 + 4 * i);
    }
    for (unsigned i = 0; i < 3; i++)
        CHECK(says(group, strategies[i], "over NVLink multicast"));
    CHECK(!says(group, TRTCOLL_STRATEGY_TWOSHOT, "multicast"));
    gpu_part(me, gpu);
    CHECK_OK(trtcoll_group_leave(group));
    trtcoll_ctx_close(ctx);
}

static int restore(void **state)
{
    unsetenv("NCCL_NVLS_ENABLE");
    unsetenv("TRTCOLL_FAKE_FAULTS");
    return proc_teardown(state);
}

static struct proc_daemon *start(unsigned devices)
{
    return proc_daemon_start(&(struct proc_settings){.devices = devices, .operation_ms = 30000, .more = "\"multicast\": true,\n"});
}

static void test_sums(void **state)
{
    struct proc_daemon *daemon;

    (void)state;
    if (!gpu_is_fake())
        skip();
    unsetenv("NCCL_NVLS_ENABLE");
    daemon = start(gpu_count());
    for (unsigned ranks = 2; ranks <= gpu_count() && ranks <= 4; ranks++)
        proc_run_all(daemon, (int)ranks, sums_body, NULL, 60000);
    json(daemon, "explain all-reduce 8x4096 --ranks 2 --strategy mnnvl", "d[\"answer\"][\"multicast\"]");
    json(daemon, "explain all-reduce 8x4096 --ranks 2", "not d[\"answer\"][\"multicast\"]");
    json(daemon, "doctor", "[f for f in d[\"findings\"] if f[\"topic\"] == \"multicast\" and \"not set\" in f[\"found\"]]");
    proc_daemon_finish(daemon);
}

/* ---- off ---- */

static void off_body(struct proc_me *me)
{
    struct trtcoll_ctx *ctx = proc_open(me, me->rank);
    struct trtcoll_group *group = proc_group(me, ctx, "off");
    struct gpu *gpu = gpu_open(ctx);

    for (unsigned i = 0; i < 3; i++)
        CHECK(!says(group, strategies[i], "multicast"));
    gpu_part(me, gpu);
    trtcoll_ctx_close(ctx);
}

/* By the configuration, which is the default, or by the environment: whichever of them says no. */
static void test_off(void **state)
{
    static const char because[] = "not d[\"answer\"][\"multicast\"] and [r for r in d[\"answer\"][\"rejected\"] if r[\"what\"] == "
                                  "\"multicast\" and \"%s\" in r[\"why\"]]";
    char expression[256];

    (void)state;
    if (!gpu_is_fake())
        skip();
    for (unsigned by_environment = 0; by_environment < 2; by_environment++) {
        struct proc_daemon *daemon;

        setenv("NCCL_NVLS_ENABLE", by_environment ? "0" : "1", 1);
        daemon = by_environment ? start(2) : proc_daemon_start(&(struct proc_settings){.devices = 2});
        proc_run_all(daemon, 2, off_body, NULL, 20000);
        snprintf(expression, sizeof(expression), because, by_environment ? "NCCL_NVLS_ENABLE=0" : "configuration");
        json(daemon, "explain all-reduce 8x4096 --ranks 2 --strategy mnnvl", expression);
        proc_daemon_finish(daemon);
    }
}

/* ---- what can go wrong ---- */

static void refused_body(struct proc_me *me)
{
    struct trtcoll_ctx *ctx = proc_open(me, me->rank);
    struct trtcoll_group *group = proc_group(me, ctx, "refused");
    struct gpu *gpu = gpu_open(ctx);
    struct trtcoll_all_reduce_desc desc = TRTCOLL_ALL_REDUCE_DESC_INIT;
    struct trtcoll_plan *plan = NULL;

    desc.lane = TRTCOLL_LANE_DIRECT;
    desc.strategy = TRTCOLL_STRATEGY_MNNVL;
    desc.max_tokens = 8;
    desc.hidden = 64;
    /* Step by step: no object, no joining, no binding. Nobody gets the plan, and the group goes on. */
    for (unsigned i = 0; i < 3; i++) {
        int code = trtcoll_plan_create_all_reduce(group, &desc, &plan);

        CHECK_MSG(code && strstr(proc_last_error().text, "multicast"), "attempt %u: %d, %s", i, code, proc_last_error().text);
        proc_sum(group, TRTCOLL_LANE_DIRECT, 1000);
    }
    CHECK(says(group, TRTCOLL_STRATEGY_UB, "over NVLink multicast"));
    gpu_check_group(group);
    gpu_part(me, gpu);
    trtcoll_ctx_close(ctx);
}

static void test_refused(void **state)
{
    static const char faults[] = "cuMulticastCreate 1 once\ncuMulticastAddDevice 801 once\ncuMulticastBindMem 2 once\n";
    char path[64];
    struct proc_daemon *daemon;
    int file;

    (void)state;
    if (!gpu_is_fake())
        skip();
    unsetenv("NCCL_NVLS_ENABLE");
    snprintf(path, sizeof(path), "/tmp/trtcoll-multicast-%d", (int)getpid());
    file = open(path, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600);
    assert_true(file >= 0 && write(file, faults, sizeof(faults) - 1) == (ssize_t)sizeof(faults) - 1);
    close(file);
    setenv("TRTCOLL_FAKE_FAULTS", path, 1);
    daemon = start(2);
    proc_run_all(daemon, 2, refused_body, NULL, 20000);
    proc_daemon_finish(daemon);
    for (unsigned line = 0; line < 4; line++) {
        char mark[80];

        snprintf(mark, sizeof(mark), line ? "%s.%u" : "%s", path, line);
        unlink(mark);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_sums, restore),
        cmocka_unit_test_teardown(test_off, restore),
        cmocka_unit_test_teardown(test_refused, restore),
    };

    return gpu_main("NVLink multicast", tests, sizeof(tests) / sizeof(tests[0]));
}
