/* Requests that executors keep for captured graphs; the graph is played by hand, as struct tcw_captured says. */
#include "executor_cuda_fixture.h"

#include <time.h>

enum { RANKS = 2, TOKENS = 4, HIDDEN = 64, COUNT = TOKENS * HIDDEN, IN = 0, OUT = 1 << 20, PLAN = 9, PLAIN = 10, INDEX = 200 };

static const uint64_t BYTES = COUNT * sizeof(float);

static void open_world(struct world *world, struct group *group, uint64_t deadline_ms)
{
    struct tcw_plan_desc desc = plan_all_reduce(TCW_FP32, TCW_FUSION_NONE, TOKENS, HIDDEN);
    world_open(world, RANKS);
    world->deadline_ns = deadline_ms * 1000000;
    group_open(world, group, 77, COMMUNICATOR);
    group_plan(world, group, PLAIN, &desc, TCW_STRATEGY_NCCL, 0);
    desc.flags = TCW_PLAN_GRAPH;
    group_plan(world, group, PLAN, &desc, TCW_STRATEGY_NCCL, 0);
}

static struct tcw_sqe keep_head(uint64_t plan, unsigned index)
{
    return (struct tcw_sqe){.op = TCW_OP_ALL_REDUCE,
                            .flags = TCW_SQE_CAPTURED,
                            .plan = plan,
                            .user_data = 5000 + index,
                            .tokens = TOKENS,
                            .ref_count = 2,
                            .pair = (uint16_t)index};
}

static int post(struct member *member, const struct tcw_sqe *head, uint64_t in, uint64_t out, uint64_t bytes)
{
    const struct tcw_ref refs[2] = {client_ref(in, bytes), client_ref(out, bytes)};
    client_submit(member, head, refs);
    struct tcw_cqe cqe = client_reap(member);
    assert_int_equal(cqe.user_data, head->user_data);
    return cqe.result;
}

static int keep(struct member *member, unsigned index)
{
    const struct tcw_sqe head = keep_head(PLAN, index);
    return post(member, &head, IN, OUT, BYTES);
}

static int give_back(struct member *member, unsigned index)
{
    const struct tcw_sqe head = {.op = TCW_OP_NOP, .flags = TCW_SQE_CAPTURED | TCW_SQE_RELEASE, .user_data = 6000, .pair = (uint16_t)index};
    return post(member, &head, 0, 0, 0);
}

static void begin(struct world *world, struct group *group, unsigned rank, unsigned index, float value)
{
    static float data[COUNT];
    for (unsigned i = 0; i < COUNT; ++i)
        data[i] = value + (float)rank;
    client_write(world, rank, IN, data, BYTES);
    atomic_store(&group->members[rank].ring.captured[index].turn, TCW_TURN_EXECUTOR);
}

static void finish(struct world *world, struct group *group, unsigned rank, unsigned index, float sum)
{
    static float data[COUNT];
    struct tcw_captured *words = &group->members[rank].ring.captured[index];
    WORLD_UNTIL(atomic_load(&words->turn) == TCW_TURN_CLIENT);
    assert_int_equal(atomic_load(&words->over), 0);
    client_read(world, rank, OUT, data, BYTES);
    for (unsigned i = 0; i < COUNT; ++i)
        assert_true(data[i] == sum);
}

static void replay(struct world *world, struct group *group, unsigned index, float value)
{
    for (unsigned r = 0; r < RANKS; ++r)
        begin(world, group, r, index, value);
    for (unsigned r = 0; r < RANKS; ++r)
        finish(world, group, r, index, 2 * value + 1);
}

static void await_over(struct member *member)
{
    for (unsigned i = 0; i < TCW_CAPTURED; ++i)
        WORLD_UNTIL(atomic_load(&member->ring.captured[i].over));
}

static void test_replays(void **state)
{
    struct world world;
    struct group group;
    (void)state;
    open_world(&world, &group, 0);
    for (unsigned r = 0; r < RANKS; ++r) {
        assert_int_equal(keep(&group.members[r], INDEX), 0);
        assert_int_equal(keep(&group.members[r], 0), 0);
    }
    for (unsigned i = 0; i < 30; ++i)
        replay(&world, &group, i % 3 ? INDEX : 0, (float)i);
    /* After some quiet the executors nap; a plan that is dropped lives as long as what is kept of it. */
    for (unsigned r = 0; r < RANKS; ++r) {
        struct tcd_ex_message drop = world_message(&world, &group.members[r], TCD_EX_PLAN_DROP);
        drop.handle = PLAN;
        world_send(&world, r, &drop, NULL, 0);
        struct tcd_ex_message ping = {.opcode = TCD_EX_PING}; /* what has no answer has been done when the next is answered */
        WORLD_DO(&world, r, &ping, NULL, 0);
        assert_int_equal(give_back(&group.members[r], 0), 0);
    }
    struct timespec quiet = {.tv_nsec = 5000000};
    nanosleep(&quiet, NULL);
    replay(&world, &group, INDEX, 77);
    for (unsigned r = 0; r < RANKS; ++r) {
        assert_int_equal(keep(&group.members[r], 1), TCW_ENOENT);
        assert_int_equal(give_back(&group.members[r], INDEX), 0);
        assert_int_equal(give_back(&group.members[r], INDEX), TCW_ENOENT);
        assert_int_equal(atomic_load(&group.members[r].page->runs_finished), 31);
    }
    assert_int_equal(world.report_count, 0);
    group_close(&world, &group);
    world_close(&world);
}

/* A request is posted, its stream has yet to come to a graph and then to its inputs: the graph is served first, on all ranks. */
static void test_order(void **state)
{
    struct world world;
    struct group group;
    const struct tcw_ref refs[2] = {client_ref(IN, BYTES), client_ref(OUT, BYTES)};
    const struct tcw_sqe head = {.op = TCW_OP_ALL_REDUCE, .plan = PLAIN, .user_data = 1, .tokens = TOKENS, .ref_count = 2};
    uint64_t numbers[RANKS];
    (void)state;
    open_world(&world, &group, 0);
    for (unsigned r = 0; r < RANKS; ++r)
        assert_int_equal(keep(&group.members[r], INDEX), 0);
    for (unsigned round = 0; round < 10; ++round) {
        for (unsigned r = 0; r < RANKS; ++r)
            numbers[r] = client_submit(&group.members[r], &head, refs);
        replay(&world, &group, INDEX, (float)round);
        for (unsigned r = 0; r < RANKS; ++r) {
            assert_false(client_is_done(&group.members[r], numbers[r]));
            client_ready(&group.members[r], numbers[r]);
        }
        for (unsigned r = 0; r < RANKS; ++r)
            assert_int_equal(client_reap(&group.members[r]).result, 0);
    }
    assert_int_equal(world.report_count, 0);
    group_close(&world, &group);
    world_close(&world);
}

/* What is refused is refused to its client alone. */
static void test_refused(void **state)
{
    struct world world;
    struct group group;
    struct tcw_sqe head;
    (void)state;
    open_world(&world, &group, 0);
    struct member *member = &group.members[0];
    head = keep_head(PLAIN, 1);
    assert_int_equal(post(member, &head, IN, OUT, BYTES), TCW_EINVAL);
    head = keep_head(77, 1);
    assert_int_equal(post(member, &head, IN, OUT, BYTES), TCW_ENOENT);
    head = keep_head(PLAN, 1);
    assert_int_equal(post(member, &head, IN, OUT, BYTES - 4), TCW_EINVAL);
    assert_int_equal(post(member, &head, IN, IN + 16, BYTES), TCW_EINVAL);
    assert_int_equal(post(member, &head, IN, UINT64_C(1) << 40, BYTES), TCW_EINVAL);
    head.op = TCW_OP_BARRIER;
    assert_int_equal(post(member, &head, IN, OUT, BYTES), TCW_EINVAL);
    assert_int_equal(keep(member, 1), 0);
    assert_int_equal(keep(member, 1), TCW_EINVAL);
    assert_int_equal(keep(&group.members[1], 1), 0);
    replay(&world, &group, 1, 3);
    assert_int_equal(world.report_count, 0);
    group_close(&world, &group);
    world_close(&world);
}

/* One rank alone replays: the deadline ends it, and nothing waits for anything afterwards. */
static void test_missing_rank(void **state)
{
    (void)state;
    for (unsigned there = 0; there < RANKS; ++there) {
        struct world world;
        struct group group;
        open_world(&world, &group, 300);
        for (unsigned r = 0; r < RANKS; ++r)
            assert_int_equal(keep(&group.members[r], INDEX), 0);
        begin(&world, &group, there, INDEX, 1);
        await_over(&group.members[there]);
        const struct tcd_ex_message *report = world_report(&world, there);
        assert_int_equal(report->code, TCW_ETIMEOUT);
        assert_int_equal(report->rank, !there);
        assert_int_equal(keep(&group.members[there], 1), TCW_ETIMEOUT);
        struct tcd_ex_message drop = {.opcode = TCD_EX_MEM_DROP, .client = 1000 + there, .handle = MEMORY};
        WORLD_DO(&world, there, &drop, NULL, 0); /* nothing is pinned for replays that will not come */
        assert_int_equal(give_back(&group.members[there], INDEX), TCW_ENOENT);
        group_close(&world, &group);
        world_close(&world);
    }
}

/* The end of the group reaches executors that nap, and so does that of the attachment. */
static void test_ends(void **state)
{
    (void)state;
    for (unsigned aborted = 0; aborted < 2; ++aborted) {
        struct world world;
        struct group group;
        open_world(&world, &group, 0);
        for (unsigned r = 0; r < RANKS; ++r)
            assert_int_equal(keep(&group.members[r], INDEX), 0);
        replay(&world, &group, INDEX, 5);
        begin(&world, &group, 0, INDEX, 1); /* and rank 1 never comes */
        if (aborted)
            group_abort(&world, &group, TCW_EPEERDEAD, 1);
        for (unsigned r = 0; r < RANKS && !aborted; ++r) {
            struct tcd_ex_message detach = world_message(&world, &group.members[r], TCD_EX_DETACH);
            world_await(&world, r, world_send(&world, r, &detach, NULL, 0), NULL);
        }
        for (unsigned r = 0; r < RANKS; ++r)
            await_over(&group.members[r]);
        for (unsigned r = 0; r < RANKS; ++r) { /* nothing is pinned any more, attached or not */
            struct tcd_ex_message drop = {.opcode = TCD_EX_MEM_DROP, .client = 1000 + r, .handle = MEMORY};
            WORLD_DO(&world, r, &drop, NULL, 0);
        }
        if (aborted) {
            group_close(&world, &group);
        } else {
            for (unsigned r = 0; r < RANKS; ++r)
                group_unmap(&group, r);
            munmap(group.gate, sizeof *group.gate);
            close(group.gate_fd);
        }
        world_close(&world);
    }
}

int main(int argc, char **argv)
{
    executor_cuda_main(argc, argv);
    if (!executor_cuda_is_there())
        return 77;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_replays),      cmocka_unit_test(test_order), cmocka_unit_test(test_refused),
        cmocka_unit_test(test_missing_rank), cmocka_unit_test(test_ends),
    };
    return cmocka_run_group_tests_name("executor: captured requests", tests, NULL, NULL);
}
