/* The served lane from a client's point of view: requests over rings to real executor processes, and what comes back. */
#include "executor_fixture.h"

#include <sched.h>

static float value_of(unsigned rank, unsigned run, unsigned i)
{
    return (float)((rank + 1) * 3 + run % 17 + i % 11);
}

/* One all-reduce of plan 9 on all ranks, checked element by element. */
static void run_sum(struct world *world, unsigned run, uint32_t tokens)
{
    unsigned count = tokens * 256;
    uint64_t out = 512 * 1024;
    for (unsigned r = 0; r < world->nranks; ++r) {
        float *in = (float *)(void *)world->ranks[r].bytes;
        for (unsigned i = 0; i < count; ++i)
            in[i] = value_of(r, run, i);
        memset(world->ranks[r].bytes + out, 0xee, count * sizeof(float));
        world_submit_sum(world, r, tokens, 0, out, 1000 + run);
    }
    for (unsigned r = 0; r < world->nranks; ++r) {
        struct tcw_cqe cqe = world_reap(world, r);
        assert_int_equal(cqe.result, 0);
        assert_int_equal(cqe.user_data, 1000 + run);
        assert_int_equal(cqe.culprit, 0xffff);
        assert_true(cqe.start_ns && cqe.end_ns >= cqe.start_ns);
    }
    for (unsigned i = 0; i < count; ++i) {
        float sum = 0;
        for (unsigned r = 0; r < world->nranks; ++r)
            sum += value_of(r, run, i);
        for (unsigned r = 0; r < world->nranks; ++r)
            assert_true(((float *)(void *)(world->ranks[r].bytes + out))[i] == sum);
    }
}

static void sums_on(unsigned nranks, unsigned runs)
{
    struct world world;
    world_open_group(&world, nranks);
    for (unsigned run = 0; run < runs; ++run)
        run_sum(&world, run, 1 + run * 7 % 64);
    for (unsigned r = 0; r < nranks; ++r) {
        assert_int_equal(atomic_load(&world.ranks[r].page->runs_finished), runs);
        assert_int_equal(atomic_load(&world.ranks[r].page->op_count[TCW_OP_ALL_REDUCE]), runs);
        assert_int_equal(atomic_load(&world.ranks[r].page->plan_hash), atomic_load(&world.ranks[0].page->plan_hash));
        assert_int_equal(world.ranks[r].page->records[0].lane, TCW_LANE_SERVED);
        assert_int_equal(world.ranks[r].page->records[0].strategy, TCW_STRATEGY_ONESHOT);
    }
    assert_int_equal(world.report_count, 0);
    world_close(&world);
}

static void test_sum_alone(void **state)
{
    (void)state;
    sums_on(1, 20);
}

/* A client that asks for no times gets none when all is well; the member page has them all the same, a little later. */
static void test_untimed(void **state)
{
    (void)state;
    enum { RUNS = 200 };
    struct world world;
    world_open_group(&world, 2);
    for (unsigned run = 0; run < RUNS; ++run) {
        uint32_t rows = run % 2 ? 1 : 4; /* 1 and 4 KiB: begun in time and later */
        uint64_t length = rows * 256u * sizeof(float);
        for (unsigned r = 0; r < 2; ++r) {
            struct tcw_ref refs[2] = {world_ref(&world, r, 0, length), world_ref(&world, r, 65536, length)};
            struct tcw_sqe head = {
                .op = TCW_OP_ALL_REDUCE, .flags = TCW_SQE_UNTIMED, .plan = 9, .user_data = run, .tokens = rows, .ref_count = 2};
            for (unsigned i = 0; i < rows * 256; ++i)
                ((float *)(void *)world.ranks[r].bytes)[i] = value_of(r, run, i);
            world_submit(&world, r, &head, refs);
        }
        for (unsigned r = 0; r < 2; ++r) {
            struct tcw_cqe cqe = world_reap(&world, r);
            assert_int_equal(cqe.result, 0);
            assert_int_equal(cqe.user_data, run);
            assert_int_equal(cqe.start_ns, 0);
            assert_int_equal(cqe.end_ns, 0);
            assert_int_equal(atomic_load(&world.ranks[r].page->runs_finished), run + 1); /* whoever leaves now has no run too few */
            const float *sums = (const float *)(const void *)(world.ranks[r].bytes + 65536);
            assert_true(sums[0] == value_of(0, run, 0) + value_of(1, run, 0));
        }
    }
    for (unsigned r = 0; r < 2; ++r) {
        struct tcw_member_page *page = world.ranks[r].page;
        while (atomic_load(&page->state) != TCW_MEMBER_IDLE)
            sched_yield();
        for (unsigned i = 0; i < RUNS; ++i) {
            assert_true(page->records[i].submit_ns && page->records[i].start_ns == page->records[i].submit_ns);
            assert_true(page->records[i].end_ns >= page->records[i].start_ns);
            assert_true(i == 0 || page->records[i].start_ns >= page->records[i - 1].end_ns);
        }
        assert_int_equal(atomic_load(&page->op_count[TCW_OP_ALL_REDUCE]), RUNS);
    }
    /* What fails is told in full. */
    struct tcw_ref refs[2] = {world_ref(&world, 0, 0, 4), world_ref(&world, 0, 65536, 4)};
    struct tcw_sqe head = {.op = TCW_OP_ALL_REDUCE, .flags = TCW_SQE_UNTIMED, .plan = 9, .tokens = 1, .ref_count = 2};
    world_submit(&world, 0, &head, refs);
    struct tcw_cqe cqe = world_reap(&world, 0);
    assert_int_equal(cqe.result, TCW_EINVAL);
    assert_true(cqe.culprit == 0 && cqe.end_ns);
    world_close(&world);
}

static void test_sum_of_two(void **state)
{
    (void)state;
    sums_on(2, 200);
}

static void test_sum_of_four(void **state)
{
    (void)state;
    sums_on(4, 60);
}

/* Many requests in flight at once complete in order; in place is allowed. */
static void test_pipelined(void **state)
{
    (void)state;
    struct world world;
    world_open_group(&world, 2);
    for (unsigned r = 0; r < 2; ++r)
        for (unsigned i = 0; i < 256; ++i)
            ((float *)(void *)world.ranks[r].bytes)[i] = 1.0f;
    for (unsigned round = 0; round < 4; ++round) {
        for (unsigned r = 0; r < 2; ++r)
            memset(world.ranks[r].bytes + 4096, 0, 4096);
        for (unsigned i = 0; i < RING_ENTRIES; ++i)
            for (unsigned r = 0; r < 2; ++r)
                world_submit_sum(&world, r, 1, i % 2 ? 4096 : 0, i % 2 ? 4096 : 8192, i);
        for (unsigned r = 0; r < 2; ++r)
            for (unsigned i = 0; i < RING_ENTRIES; ++i) {
                struct tcw_cqe cqe = world_reap(&world, r);
                assert_int_equal(cqe.result, 0);
                assert_int_equal(cqe.user_data, i);
            }
        assert_true(((float *)(void *)(world.ranks[0].bytes + 8192))[7] == 2.0f);
    }
    world_close(&world);
}

static void test_nop_and_unknown_operations(void **state)
{
    (void)state;
    struct world world;
    world_open_group(&world, 2);
    struct tcw_sqe nop = {.op = TCW_OP_NOP, .user_data = 1};
    struct tcw_sqe unknown = {.op = TCW_OP_COUNT + 5, .user_data = 2, .plan = 9};
    struct tcw_sqe strange = {.op = TCW_OP_NOP, .user_data = 3, .plan = 9};
    world_submit(&world, 0, &nop, NULL);
    world_submit(&world, 0, &unknown, NULL);
    world_submit(&world, 0, &strange, NULL);
    assert_int_equal(world_reap(&world, 0).result, 0);
    assert_int_equal(world_reap(&world, 0).result, TCW_ENOSYS);
    assert_int_equal(world_reap(&world, 0).result, TCW_EINVAL);
    run_sum(&world, 1, 3); /* none of it was the group's business */
    assert_int_equal(world.report_count, 0);
    world_close(&world);
}

/* Lists, a request of several entries, an empty buffer. */
static void test_gather_list(void **state)
{
    (void)state;
    struct world world;
    world_open_group(&world, 2);
    struct tcw_plan_desc desc = plan_of(TCW_OP_ALL_GATHER);
    desc.flags = TCW_PLAN_SIZES;
    desc.sizes[0] = 0;
    desc.sizes[1] = 3;
    plan_add_tensor(&desc, TCW_INT32, 1, 0, 4);
    plan_add_absent(&desc);
    plan_add_tensor(&desc, TCW_UINT8, 1, 0, 5);
    plan_add_tensor(&desc, TCW_INT64, 1, 0, 2);
    world_plan(&world, 11, &desc, 1);
    const unsigned unit[3] = {16, 5, 16};
    for (unsigned r = 0; r < 2; ++r) {
        struct tcw_ref refs[6];
        for (unsigned t = 0; t < 3; ++t) {
            uint64_t length = r ? 3 * unit[t] : 0;
            refs[t] = r ? world_ref(&world, r, t * 4096, length) : (struct tcw_ref){0, 0, 0};
            memset(world.ranks[r].bytes + t * 4096, (int)(0x40 + t), length);
            refs[3 + t] = world_ref(&world, r, 65536 + t * 4096, 3 * unit[t]);
        }
        struct tcw_sqe head = {.op = TCW_OP_ALL_GATHER, .plan = 11, .user_data = 4, .ref_count = 6};
        world_submit(&world, r, &head, refs);
    }
    for (unsigned r = 0; r < 2; ++r) {
        assert_int_equal(world_reap(&world, r).result, 0);
        for (unsigned t = 0; t < 3; ++t)
            for (unsigned i = 0; i < 3 * unit[t]; ++i)
                assert_int_equal(world.ranks[r].bytes[65536 + t * 4096 + i], 0x40 + t);
    }
    world_close(&world);
}

/* A larger workspace arrives while plans of the old one are in use; a dropped plan still serves what was posted before. */
static void test_growth_and_plan_drop(void **state)
{
    (void)state;
    struct world world;
    world_open_group(&world, 2);
    unsigned before = world_count_mappings(tcd_executor_pid(world.ranks[0].executor));
    world_add_workspace(&world, 2, world.workspace_bytes * 2);
    struct tcw_plan_desc desc = plan_all_reduce(TCW_INT32, TCW_FUSION_NONE, 8, 64);
    world_plan(&world, 10, &desc, 2);
    run_sum(&world, 1, 5);
    struct tcw_sqe head = {.op = TCW_OP_ALL_REDUCE, .plan = 10, .user_data = 5, .tokens = 8, .ref_count = 2};
    for (unsigned r = 0; r < 2; ++r) {
        struct tcw_ref refs[2] = {world_ref(&world, r, 0, 8 * 64 * 4), world_ref(&world, r, 8192, 8 * 64 * 4)};
        memset(world.ranks[r].bytes, 0, 4096);
        world_submit(&world, r, &head, refs);
        world_submit_sum(&world, r, 2, 0, 65536, 6);
    }
    for (unsigned r = 0; r < 2; ++r) {
        struct tcd_ex_message drop = world_message(&world, r, TCD_EX_PLAN_DROP);
        drop.handle = 9;
        assert_int_equal(world_call(&world, r, &drop, NULL, 0, NULL), 0);
    }
    for (unsigned r = 0; r < 2; ++r) {
        assert_int_equal(world_reap(&world, r).result, 0);
        assert_int_equal(world_reap(&world, r).result, 0);
    }
    /* With its last plan the old generation goes: one more generation than before was never needed for long. */
    WORLD_UNTIL(&world, world_count_mappings(tcd_executor_pid(world.ranks[0].executor)) == before);
    world_submit_sum(&world, 0, 2, 0, 65536, 7);
    assert_int_equal(world_reap(&world, 0).result, TCW_ENOENT);
    WORLD_UNTIL(&world, world.report_count == 1);
    assert_int_equal(world.reports[0].message.opcode, TCD_EX_FAULT);
    assert_int_equal(world.reports[0].message.code, TCW_EMISMATCH);
    assert_int_equal(world.reports[0].message.rank, 0);
    world_close(&world);
}

/* Memory that a running request uses is given back only when the request has ended. */
static void test_memory_drop_waits(void **state)
{
    (void)state;
    struct world world;
    world_open_group(&world, 2);
    world_submit_sum(&world, 0, 4, 0, 65536, 1);
    while (atomic_load(&world.ranks[0].page->runs_started) == 0)
        sched_yield();
    struct tcd_ex_message drop = world_message(&world, 0, TCD_EX_MEM_DROP), ping = {.opcode = TCD_EX_PING};
    struct world_answer dropped = {.fd = -1};
    drop.handle = world.ranks[0].memory;
    assert_int_equal(tcd_executor_request(world.ranks[0].executor, &drop, NULL, 0, world_on_answer, &dropped), 0);
    assert_int_equal(world_call(&world, 0, &ping, NULL, 0, NULL), 0); /* answered after the drop was seen */
    assert_false(dropped.done);
    world_submit_sum(&world, 1, 4, 0, 65536, 1);
    assert_int_equal(world_reap(&world, 0).result, 0);
    assert_int_equal(world_reap(&world, 1).result, 0);
    WORLD_UNTIL(&world, dropped.done);
    assert_int_equal(dropped.message.code, 0);
    assert_int_equal(world_call(&world, 0, &drop, NULL, 0, NULL), TCW_ENOENT);
    world_close(&world);
}

int main(int argc, char **argv)
{
    executor_fixture_main(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sum_alone),         cmocka_unit_test(test_untimed),
        cmocka_unit_test(test_sum_of_two),        cmocka_unit_test(test_sum_of_four),
        cmocka_unit_test(test_pipelined),         cmocka_unit_test(test_nop_and_unknown_operations),
        cmocka_unit_test(test_gather_list),       cmocka_unit_test(test_growth_and_plan_drop),
        cmocka_unit_test(test_memory_drop_waits),
    };
    return cmocka_run_group_tests_name("executor: serve", tests, NULL, NULL);
}
