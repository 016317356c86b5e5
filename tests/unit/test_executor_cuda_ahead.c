/* What executors of CUDA devices enqueue before a client's stream has come to it: without MPS, nothing behind a long operation. */
#include "executor_cuda_fixture.h"

#include <time.h>

enum { RANKS = 2, PLAN = 3, ROW = 64 * sizeof(float), LONG = 16 << 20, QUIET_MS = 20 };

static const uint64_t LARGE = UINT64_C(1) << 32 | 6; /* handle of every rank's memory for long messages */

struct scene {
    struct world world;
    struct group group;
    struct tck_memory large[RANKS];
    uint64_t longs[RANKS], shorts[RANKS]; /* requests */
};

static uint64_t submit(struct member *member, uint64_t memory, uint64_t bytes)
{
    const struct tcw_ref refs[2] = {{memory, 0, bytes}, {memory, 0, bytes}};
    const struct tcw_sqe head = {.op = TCW_OP_ALL_REDUCE, .plan = PLAN, .tokens = (uint32_t)(bytes / ROW), .ref_count = 2};
    return client_submit(member, &head, refs);
}

static uint64_t taken(const struct scene *scene, unsigned rank)
{
    return atomic_load(&scene->group.gate->ranks[rank].taken);
}

/* A long request is under way and waits for the inputs of rank 1. A short one has been posted behind it; both executors have seen it. */
static void begin(struct scene *scene, bool mps)
{
    const struct tcw_plan_desc desc = plan_all_reduce(TCW_FP32, TCW_FUSION_NONE, LONG / ROW, ROW / sizeof(float));
    struct world *world = &scene->world;
    struct member *members = scene->group.members;
    setenv("TRTCOLL_FAKE_MPS", mps ? "1" : "0", 1);
    world_open(world, RANKS);
    group_open(world, &scene->group, 77, COMMUNICATOR);
    for (unsigned r = 0; r < RANKS; ++r) {
        struct tcd_ex_message memory = {.opcode = TCD_EX_MEM, .client = 1000 + r, .handle = LARGE, .value = LONG};
        assert_int_equal(tck_memory_create(world->executors[r].device, "large", LONG, &scene->large[r]), 0);
        memory.memory = (struct tcw_mem_register){.bytes = LONG, .kind = TCW_MEM_VMM, .piece_bytes = {scene->large[r].bytes}};
        WORLD_DO(world, r, &memory, &scene->large[r].fd, 1);
    }
    group_plan(world, &scene->group, PLAN, &desc, TCW_STRATEGY_NCCL, 0);
    for (unsigned r = 0; r < RANKS; ++r)
        scene->longs[r] = submit(&members[r], LARGE, LONG);
    client_ready(&members[0], scene->longs[0]);
    for (unsigned r = 0; r < RANKS; ++r)
        WORLD_UNTIL(taken(scene, r) == 1);
    for (unsigned r = 0; r < RANKS; ++r)
        scene->shorts[r] = submit(&members[r], MEMORY, ROW);
    for (unsigned r = 0; r < RANKS; ++r)
        WORLD_UNTIL(atomic_load(&members[r].ring.indices->sq_head) == 2);
}

static void end(struct scene *scene)
{
    struct member *members = scene->group.members;
    client_ready(&members[1], scene->longs[1]);
    for (unsigned r = 0; r < RANKS; ++r)
        WORLD_UNTIL(taken(scene, r) == 2); /* nothing long is under way any more */
    for (unsigned r = 0; r < RANKS; ++r)
        client_ready(&members[r], scene->shorts[r]);
    for (unsigned i = 0; i < 2; ++i)
        for (unsigned r = 0; r < RANKS; ++r)
            assert_int_equal(client_reap(&members[r]).result, 0);
    assert_int_equal(scene->world.report_count, 0);
    group_close(&scene->world, &scene->group);
    for (unsigned r = 0; r < RANKS; ++r)
        tck_memory_release(&scene->large[r]);
    world_close(&scene->world);
}

static void check_quiet(const struct scene *scene, unsigned rank)
{
    const struct timespec ms = {.tv_nsec = 1000000};
    for (unsigned i = 0; i < QUIET_MS; ++i) {
        assert_int_equal(taken(scene, rank), 1);
        nanosleep(&ms, NULL);
    }
}

static void test_turns(void **state)
{
    struct scene scene;
    (void)state;
    begin(&scene, false);
    for (unsigned r = 0; r < RANKS; ++r)
        check_quiet(&scene, r);
    end(&scene);
}

/* What its stream has come to does not stand waiting. */
static void test_turns_ready(void **state)
{
    struct scene scene;
    (void)state;
    begin(&scene, false);
    client_ready(&scene.group.members[0], scene.shorts[0]);
    WORLD_UNTIL(taken(&scene, 0) == 2);
    check_quiet(&scene, 1);
    end(&scene);
}

static void test_at_once(void **state)
{
    struct scene scene;
    (void)state;
    begin(&scene, true);
    for (unsigned r = 0; r < RANKS; ++r)
        WORLD_UNTIL(taken(&scene, r) == 2);
    end(&scene);
}

int main(int argc, char **argv)
{
    executor_cuda_main(argc, argv);
    if (!executor_cuda_is_there())
        return 77;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_turns),
        cmocka_unit_test(test_turns_ready),
        cmocka_unit_test(test_at_once),
    };
    return cmocka_run_group_tests_name("executor: what is enqueued ahead", tests, NULL, NULL);
}
