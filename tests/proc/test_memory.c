/* Memory of the served lane: allocated, registered, staged; what may not be registered, freed or used; quotas of everything. */
#include "cases.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { COUNT = 5000 };

static struct trtcoll_plan *sum_plan(struct trtcoll_group *group, unsigned lane)
{
    struct trtcoll_all_reduce_desc desc = TRTCOLL_ALL_REDUCE_DESC_INIT;
    struct trtcoll_plan *plan = NULL;
    desc.dtype = TRTCOLL_FP32;
    desc.lane = lane;
    desc.hidden = COUNT;
    CHECK_OK(trtcoll_plan_create_all_reduce(group, &desc, &plan));
    return plan;
}

static void sum(struct trtcoll_plan *plan, float *in, float *out, int rank, int nranks, int salt)
{
    struct trtcoll_run_args args = TRTCOLL_RUN_ARGS_INIT;
    for (int i = 0; i < COUNT; i++)
        in[i] = (float)(i % 100 + rank + salt);
    args.tokens = 1;
    args.in = in;
    args.out = out;
    CHECK_OK(trtcoll_plan_run(plan, &args, NULL, NULL));
    for (int i = 0; i < COUNT; i++)
        CHECK_EQ(out[i], nranks * (i % 100 + salt) + nranks * (nranks - 1) / 2);
}

static uint64_t staged(struct trtcoll_plan *plan)
{
    struct trtcoll_plan_info info = {.size = sizeof(info)};
    CHECK_OK(trtcoll_plan_info(plan, &info));
    return info.staged_runs;
}

/* The three kinds of memory, mixed, on both lanes. Only the foreign kind is staged. */
static void kinds_body(struct proc_me *me)
{
    struct trtcoll_ctx *ctx = proc_open(me, -1);
    struct trtcoll_group *group = proc_group(me, ctx, "kinds");
    int fd = proc_memfd(64 << 10, true), r = me->rank, n = me->nranks;
    float *registered = mmap(NULL, 64 << 10, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), *foreign = case_buffer(2 * COUNT * 4);
    void *pointer = NULL;
    CHECK(registered != MAP_FAILED);
    CHECK_OK(trtcoll_alloc(ctx, 100000, &pointer));
    CHECK((uintptr_t)pointer % 4096 == 0);
    float *owned = pointer;
    for (size_t i = 0; i < 100000 / 4; i++)
        CHECK(owned[i] == 0);
    CHECK_OK(trtcoll_register(ctx, registered, 64 << 10, fd));
    struct trtcoll_plan *served = sum_plan(group, TRTCOLL_LANE_SERVED), *direct = sum_plan(group, TRTCOLL_LANE_DIRECT);
    sum(served, owned, owned + COUNT, r, n, 1);
    sum(served, registered, registered + COUNT, r, n, 2);
    sum(served, owned, registered, r, n, 3);
    sum(served, registered + 1, owned, r, n, 4);
    CHECK_EQ(staged(served), 0);
    sum(served, foreign, foreign + COUNT, r, n, 5);
    CHECK_EQ(staged(served), 1);
    sum(served, owned, foreign, r, n, 6);
    sum(served, foreign, owned, r, n, 7);
    CHECK_EQ(staged(served), 3);
    /* Half inside: the end of the registered range is not the end of the buffer. */
    sum(served, registered + (64 << 10) / 4 - COUNT, owned, r, n, 8);
    CHECK_EQ(staged(served), 3);
    sum(direct, owned, registered, r, n, 9);
    sum(direct, foreign, foreign + COUNT, r, n, 10);
    CHECK_EQ(staged(direct), 0);

    CHECK_OK(trtcoll_unregister(ctx, registered));
    sum(served, registered, registered + COUNT, r, n, 11); /* as foreign memory now */
    CHECK_EQ(staged(served), 4);
    CHECK_OK(trtcoll_free(ctx, owned));
    CHECK_CODE(trtcoll_free(ctx, owned), TRTCOLL_EINVAL);
    CHECK_CODE(trtcoll_unregister(ctx, registered), TRTCOLL_EINVAL);
    CHECK_OK(trtcoll_plan_release(served));
    CHECK_OK(trtcoll_plan_release(direct));
    munmap(registered, 64 << 10);
    close(fd);
    free(foreign);
    trtcoll_ctx_close(ctx);
}

static void test_kinds(void **state)
{
    (void)state;
    struct proc_daemon *daemon = proc_daemon_start(&(struct proc_settings){.devices = 3});
    proc_run_all(daemon, 3, kinds_body, NULL, 20000);
    proc_daemon_finish(daemon);
}

static void refusals_body(struct proc_me *me)
{
    struct trtcoll_ctx *ctx = proc_open(me, -1);
    int good = proc_memfd(16384, true), open_end = proc_memfd(16384, false);
    char *base = mmap(NULL, 16384, PROT_READ | PROT_WRITE, MAP_SHARED, good, 0);
    char *loose = mmap(NULL, 16384, PROT_READ | PROT_WRITE, MAP_SHARED, open_end, 0);
    void *pointer = NULL;
    CHECK(base != MAP_FAILED && loose != MAP_FAILED);
    CHECK_CODE(trtcoll_register(ctx, loose, 16384, open_end), TRTCOLL_EINVAL);
    CHECK_MSG(strstr(proc_last_error().text, "seal") != NULL, "%s", proc_last_error().text);
    CHECK_CODE(trtcoll_register(ctx, base, 16385, good), TRTCOLL_EINVAL);
    CHECK_CODE(trtcoll_register(ctx, base, 0, good), TRTCOLL_EINVAL);
    CHECK_CODE(trtcoll_register(ctx, base, 16384, -1), TRTCOLL_EINVAL);
    CHECK_CODE(trtcoll_register(ctx, base, 16384, STDERR_FILENO), TRTCOLL_EINVAL);
    CHECK_CODE(trtcoll_register(ctx, NULL, 16384, good), TRTCOLL_EINVAL);
    CHECK_OK(trtcoll_register(ctx, base, 8192, good));
    CHECK_CODE(trtcoll_register(ctx, base, 8192, good), TRTCOLL_EEXIST);
    CHECK_CODE(trtcoll_register(ctx, base + 4096, 4096, good), TRTCOLL_EEXIST);
    CHECK_CODE(trtcoll_unregister(ctx, base + 4096), TRTCOLL_EINVAL);
    CHECK_CODE(trtcoll_free(ctx, base), TRTCOLL_EINVAL);
    CHECK_OK(trtcoll_unregister(ctx, base));
    CHECK_OK(trtcoll_register(ctx, base, 16384, good));
    CHECK_CODE(trtcoll_alloc(ctx, 0, &pointer), TRTCOLL_EINVAL);
    CHECK_CODE(trtcoll_free(ctx, NULL), TRTCOLL_EINVAL);
    CHECK_CODE(trtcoll_free(ctx, &pointer), TRTCOLL_EINVAL);
    CHECK(pointer == NULL);
    munmap(base, 16384);
    munmap(loose, 16384);
    close(good);
    close(open_end);
    trtcoll_ctx_close(ctx); /* gives back what is still registered */
}

static void test_refusals(void **state)
{
    (void)state;
    struct proc_daemon *daemon = proc_daemon_start(&(struct proc_settings){.devices = 1});
    proc_run_all(daemon, 1, refusals_body, NULL, 20000);
    proc_daemon_finish(daemon);
}

/* Memory in use by a request in flight cannot be given back; afterwards it can. */
static void busy_body(struct proc_me *me)
{
    struct trtcoll_ctx *ctx = proc_open(me, -1);
    struct trtcoll_group *group = proc_group(me, ctx, "busy");
    struct trtcoll_plan *plan = sum_plan(group, TRTCOLL_LANE_SERVED);
    struct trtcoll_run_args args = TRTCOLL_RUN_ARGS_INIT;
    struct trtcoll_event *event = NULL;
    struct trtcoll_group_info info;
    void *in = NULL, *out = NULL;
    CHECK_OK(trtcoll_alloc(ctx, COUNT * 4, &in));
    CHECK_OK(trtcoll_alloc(ctx, COUNT * 4, &out));
    args.tokens = 1;
    args.in = in;
    args.out = out;
    if (me->rank == 0) {
        CHECK_OK(trtcoll_plan_run(plan, &args, NULL, &event));
        CHECK_CODE(trtcoll_event_query(event), TRTCOLL_EAGAIN);
        CHECK_CODE(trtcoll_event_wait(event, 30), TRTCOLL_ETIMEOUT);
        CHECK_CODE(trtcoll_event_query(event), TRTCOLL_EAGAIN);
        CHECK_CODE(trtcoll_free(ctx, in), TRTCOLL_EBUSY);
        CHECK_CODE(trtcoll_free(ctx, out), TRTCOLL_EBUSY);
        info = case_group_info(group);
        CHECK_EQ(info.in_flight, 1);
        proc_reach(me, 1);
    } else {
        proc_await(me, 0, 1);
        CHECK_OK(trtcoll_plan_run(plan, &args, NULL, &event));
    }
    CHECK_OK(trtcoll_event_wait(event, UINT32_MAX));
    struct trtcoll_event_info times = {.size = sizeof(times)};
    CHECK_OK(trtcoll_event_status(event, &times));
    CHECK_EQ(times.code, 0);
    CHECK_EQ(times.lane, TRTCOLL_LANE_SERVED);
    CHECK(times.submit_ns > 0 && times.submit_ns <= times.start_ns && times.start_ns <= times.end_ns);
    trtcoll_event_put(event);
    CHECK_OK(trtcoll_free(ctx, in));
    CHECK_OK(trtcoll_free(ctx, out));
    trtcoll_ctx_close(ctx);
}

static void test_busy(void **state)
{
    (void)state;
    struct proc_daemon *daemon = proc_daemon_start(&(struct proc_settings){.devices = 2});
    proc_run_all(daemon, 2, busy_body, NULL, 20000);
    proc_daemon_finish(daemon);
}

/* ---- quotas ---- */

/* Workspaces count too, 8 MiB each at least: so the bytes have a daemon of their own. */
static const char few_bytes[] = "{\"client\": {\"bytes\": 4194304, \"plans\": 4, \"groups\": 3, \"in_flight\": 16},"
                                " \"uid\": {\"bytes\": 6291456}, \"max_clients\": 3}";
static const char few_objects[] = "{\"client\": {\"plans\": 4, \"groups\": 3, \"in_flight\": 16},"
                                  " \"uid\": {\"plans\": 6, \"groups\": 5, \"in_flight\": 40}}";

/* What a context that was closed had is free for others once the daemon has seen that and its pages are gone. */
static void *alloc_in_time(struct trtcoll_ctx *ctx, size_t bytes)
{
    uint64_t end = proc_now_ns() + PROC_PATIENCE_MS * 1000000ull;
    void *pointer = NULL;
    int code;
    while ((code = trtcoll_alloc(ctx, bytes, &pointer)) == TRTCOLL_EQUOTA && proc_now_ns() < end)
        ;
    CHECK_OK(code);
    return pointer;
}

static void bytes_body(struct proc_me *me)
{
    struct trtcoll_ctx *ctx = proc_open(me, -1), *second = proc_open(me, -1);
    void *a = NULL, *b = NULL, *c = NULL;
    CHECK_OK(trtcoll_alloc(ctx, 3 << 20, &a));
    CHECK_CODE(trtcoll_alloc(ctx, 2 << 20, &b), TRTCOLL_EQUOTA);
    CHECK_MSG(strstr(proc_last_error().text, "bytes") != NULL, "%s", proc_last_error().text);
    CHECK_CODE(trtcoll_alloc(ctx, (size_t)1 << 40, &b), TRTCOLL_EQUOTA);
    CHECK_OK(trtcoll_alloc(ctx, 1 << 20, &b));
    /* The other client has room of its own, but not its user. */
    CHECK_OK(trtcoll_alloc(second, 2 << 20, &c));
    void *d = NULL;
    CHECK_CODE(trtcoll_alloc(second, 1 << 20, &d), TRTCOLL_EQUOTA);
    CHECK_OK(trtcoll_free(ctx, b));
    CHECK_OK(trtcoll_alloc(second, 1 << 20, &d));
    trtcoll_ctx_close(second); /* and closing gives back */
    b = alloc_in_time(ctx, 1 << 20);
    second = proc_open(me, -1);
    c = alloc_in_time(second, 2 << 20);
    struct trtcoll_ctx *third = proc_open(me, -1), *fourth = NULL;
    struct trtcoll_ctx_options options = TRTCOLL_CTX_OPTIONS_INIT;
    options.socket_path = me->daemon->socket;
    CHECK_CODE(trtcoll_ctx_open(&options, &fourth), TRTCOLL_EQUOTA);
    struct trtcoll_ctx_info info = {.size = sizeof(info)};
    CHECK_OK(trtcoll_ctx_info(third, &info));
    CHECK_EQ(info.max_bytes, 4194304);
    CHECK_EQ(info.max_plans, 4);
    CHECK_EQ(info.max_groups, 3);
    CHECK_EQ(info.max_in_flight, 16);
    trtcoll_ctx_close(third);
    trtcoll_ctx_close(second);
    trtcoll_ctx_close(ctx);
}

static void objects_body(struct proc_me *me)
{
    struct trtcoll_ctx *ctx = proc_open(me, -1), *second = proc_open(me, -1);
    struct trtcoll_group *groups[3], *more = NULL;
    struct trtcoll_plan *plans[4], *plan = NULL;
    struct trtcoll_barrier_desc desc = TRTCOLL_BARRIER_DESC_INIT;
    char name[16];
    desc.lane = TRTCOLL_LANE_DIRECT;
    for (unsigned i = 0; i < 3; i++) {
        snprintf(name, sizeof(name), "g%u", i);
        CHECK_OK(trtcoll_group_create(ctx, name, 1, 0, 0, &groups[i]));
    }
    CHECK_CODE(trtcoll_group_create(ctx, "g3", 1, 0, 0, &more), TRTCOLL_EQUOTA);
    struct trtcoll_group *others[2];
    CHECK_OK(trtcoll_group_create(second, "h0", 1, 0, 0, &others[0]));
    CHECK_OK(trtcoll_group_create(second, "h1", 1, 0, 0, &others[1]));
    CHECK_CODE(trtcoll_group_create(second, "h2", 1, 0, 0, &more), TRTCOLL_EQUOTA); /* the user's five */
    for (unsigned i = 0; i < 4; i++)
        CHECK_OK(trtcoll_plan_create_barrier(groups[i % 2], &desc, &plans[i]));
    CHECK_CODE(trtcoll_plan_create_barrier(groups[2], &desc, &plan), TRTCOLL_EQUOTA);
    CHECK_MSG(strstr(proc_last_error().text, "plans") != NULL, "%s", proc_last_error().text);
    struct trtcoll_plan *second_plans[2];
    CHECK_OK(trtcoll_plan_create_barrier(others[0], &desc, &second_plans[0]));
    CHECK_OK(trtcoll_plan_create_barrier(others[0], &desc, &second_plans[1]));
    CHECK_CODE(trtcoll_plan_create_barrier(others[0], &desc, &plan), TRTCOLL_EQUOTA); /* the user's six */
    CHECK_OK(trtcoll_plan_release(plans[3]));
    CHECK_OK(trtcoll_plan_create_barrier(groups[2], &desc, &plans[3]));
    CHECK_OK(trtcoll_group_leave(groups[0]));
    CHECK_OK(trtcoll_group_create(ctx, "g3", 1, 0, 0, &groups[0]));
    trtcoll_ctx_close(second);
    trtcoll_ctx_close(ctx);
}

/* Rings take from the client's and the user's requests in flight; a ring that is full says EAGAIN and nothing is lost. */
static void in_flight_body(struct proc_me *me)
{
    struct trtcoll_ctx *ctx = proc_open(me, -1);
    struct trtcoll_group *group = proc_group(me, ctx, "flight");
    struct trtcoll_barrier_desc desc = TRTCOLL_BARRIER_DESC_INIT;
    struct trtcoll_run_args args = TRTCOLL_RUN_ARGS_INIT;
    struct trtcoll_plan *plan = NULL;
    struct trtcoll_event *events[64];
    desc.lane = TRTCOLL_LANE_SERVED;
    CHECK_OK(trtcoll_plan_create_barrier(group, &desc, &plan));
    unsigned posted = 0;
    if (me->rank == 0) {
        int code = 0;
        while (posted < 64 && !(code = trtcoll_plan_run(plan, &args, NULL, &events[posted])))
            posted++;
        CHECK_EQ(code, TRTCOLL_EAGAIN);
        CHECK_MSG(posted >= 8 && posted <= 16, "%u requests in flight, the quota is 16", posted);
        atomic_store(&me->slot->values[0], posted);
        proc_reach(me, 1);
    } else {
        proc_await(me, 0, 1);
        unsigned wanted = (unsigned)atomic_load(&me->shared->ranks[0].values[0]);
        for (unsigned i = 0; i < wanted; i++)
            CHECK_OK(trtcoll_plan_run(plan, &args, NULL, NULL));
    }
    for (unsigned i = 0; i < posted; i++) {
        CHECK_OK(trtcoll_event_wait(events[i], UINT32_MAX));
        trtcoll_event_put(events[i]);
    }
    CHECK_EQ(case_group_info(group).in_flight, 0);
    CHECK_OK(trtcoll_plan_run(plan, &args, NULL, NULL)); /* room again */
    trtcoll_ctx_close(ctx);
}

static void test_quota_of_bytes(void **state)
{
    (void)state;
    struct proc_daemon *daemon = proc_daemon_start(&(struct proc_settings){.devices = 2, .limits = few_bytes});
    proc_run_all(daemon, 1, bytes_body, NULL, 20000);
    proc_daemon_finish(daemon);
}

static void test_quota_of_objects(void **state)
{
    (void)state;
    struct proc_daemon *daemon = proc_daemon_start(&(struct proc_settings){.devices = 2, .limits = few_objects});
    proc_run_all(daemon, 1, objects_body, NULL, 20000);
    proc_run_all(daemon, 2, in_flight_body, NULL, 20000);
    proc_daemon_finish(daemon);
}

/* The smallest ring still carries the largest request. */
static void small_ring_body(struct proc_me *me)
{
    struct trtcoll_ctx *ctx = proc_open(me, -1);
    struct trtcoll_group *group = proc_group(me, ctx, "small");
    struct trtcoll_tensor tensors[16];
    struct trtcoll_all_to_all_desc desc = TRTCOLL_ALL_TO_ALL_DESC_INIT;
    struct trtcoll_run_args args = TRTCOLL_RUN_ARGS_INIT;
    struct trtcoll_plan *plan = NULL;
    unsigned n = (unsigned)me->nranks;
    static int32_t in[16 * 16][2], out[16][16 * 2];
    const void *ins[16 * 16];
    void *outs[16];
    for (unsigned g = 0; g < 16; g++) {
        tensors[g] = (struct trtcoll_tensor){.present = 1, .dtype = TRTCOLL_INT32, .ndim = 1, .shape = {2}};
        outs[g] = out[g];
        for (unsigned j = 0; j < n; j++) {
            in[g * n + j][0] = (int32_t)(g * 1000 + (unsigned)me->rank * 20 + j);
            in[g * n + j][1] = -1;
            ins[g * n + j] = in[g * n + j];
        }
    }
    desc.lane = TRTCOLL_LANE_SERVED;
    desc.list_count = 16;
    desc.tensors = tensors;
    args.in_list = ins;
    args.out_list = outs;
    CHECK_OK(trtcoll_plan_create_all_to_all(group, &desc, &plan));
    for (unsigned round = 0; round < 5; round++)
        CHECK_OK(trtcoll_plan_run(plan, &args, NULL, NULL));
    for (unsigned g = 0; g < 16; g++)
        for (unsigned j = 0; j < n; j++)
            CHECK_EQ(out[g][2 * j], (int32_t)(g * 1000 + j * 20 + (unsigned)me->rank));
    trtcoll_ctx_close(ctx);
}

static void test_smallest_ring(void **state)
{
    (void)state;
    struct proc_daemon *daemon = proc_daemon_start(&(struct proc_settings){.devices = 2, .ring_entries = 8});
    proc_run_all(daemon, 12, small_ring_body, NULL, 40000);
    proc_daemon_finish(daemon);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_kinds, proc_teardown),
        cmocka_unit_test_teardown(test_refusals, proc_teardown),
        cmocka_unit_test_teardown(test_busy, proc_teardown),
        cmocka_unit_test_teardown(test_quota_of_bytes, proc_teardown),
        cmocka_unit_test_teardown(test_quota_of_objects, proc_teardown),
        cmocka_unit_test_teardown(test_smallest_ring, proc_teardown),
    };
    return cmocka_run_group_tests_name("memory and quotas", tests, NULL, NULL);
}
