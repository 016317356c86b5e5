/*
 * Threads of an executor that stand still in NCCL or in the driver: when the control process has pinged often enough, the executor says
 * what it was and ends. Pings come as fast as they are answered here, so nobody waits for minutes.
 */
#include "executor_cuda_fixture.h"

#include "daemon/executor/chores.h"

enum { ROW = 64 * sizeof(float), IN = 0, OUT = 1 << 20, MANY = 4 * TCD_EX_PATIENT, EXIT_DEVICE = 3 };

static char faults[64];

static void write_fault(const char *function, const char *what, pid_t pid)
{
    FILE *file = fopen(faults, "w");
    assert_non_null(file);
    if (function)
        fprintf(file, "%s %s pid=%d\n", function, what, (int)pid);
    assert_int_equal(fclose(file), 0);
}

/* Executors keep the lines that they have seen: each test begins without any. */
static int no_faults(void **state)
{
    (void)state;
    write_fault(NULL, NULL, 0);
    return 0;
}

/* Pings until the executor ends, at least `least` times; what it said about it. */
static void expect_end(struct world *world, unsigned rank, unsigned least, const char *what)
{
    struct executor *executor = &world->executors[rank];
    struct tcd_ex_message ping = {.opcode = TCD_EX_PING};
    uint64_t until = tcw_now_ns() + PATIENCE_MS * UINT64_C(1000000);
    unsigned pings = 0, reports = world->report_count;
    int fd = -1;
    while (world->report_count == reports) {
        if (tcw_now_ns() > until)
            fail_msg("rank %u goes on after %u pings", rank, pings);
        if (tcd_ex_send(executor->socket, &ping, NULL, 0) == 0)
            ++pings;
        world_take(world, rank, 1, &fd);
    }
    const struct tcd_ex_message *report = world_report(world, rank);
    assert_int_equal(report->code, TCW_EEXECUTOR);
    assert_int_equal(report->attachment, 0);
    assert_int_equal(report->communicator, 0);
    if (!strstr(report->text, what))
        fail_msg("rank %u says: %s", rank, report->text);
    assert_true(pings > least);
    assert_int_equal(executor_wait(executor), EXIT_DEVICE);
}

/* Until nothing is under way there but `busy` threads: it holds one memory, and the attachments. Slowly: a thread may need a while to end.
 */
static void settle(struct world *world, unsigned rank, uint64_t attachments, uint64_t busy)
{
    struct tcd_ex_message ping = {.opcode = TCD_EX_PING};
    uint64_t until = tcw_now_ns() + PATIENCE_MS * UINT64_C(1000000);
    while (world_call(world, rank, &ping, NULL, 0, NULL).value != 1 + attachments + busy) {
        assert_true(tcw_now_ns() < until);
        poll(NULL, 0, 20);
    }
}

/* It answers them all. */
static void expect_life(struct world *world, unsigned rank)
{
    struct tcd_ex_message ping = {.opcode = TCD_EX_PING};
    for (unsigned i = 0; i < MANY; ++i)
        assert_int_equal(world_call(world, rank, &ping, NULL, 0, NULL).code, 0);
}

/* Both executors begin to make a communicator; the cookies of their answers. */
static void begin_communicator(struct world *world, uint64_t id, uint64_t deadline_ms, uint64_t cookies[2])
{
    struct tcd_ex_message unique = {.opcode = TCD_EX_UNIQUE_ID};
    struct tcd_ex_message blob = world_call(world, 0, &unique, NULL, 0, NULL);
    for (unsigned r = 0; r < 2; ++r) {
        struct tcd_ex_message comm = {.opcode = TCD_EX_COMM, .communicator = id, .rank = r, .nranks = 2};
        comm.deadline_ns = deadline_ms * 1000000;
        memcpy(comm.blob, blob.blob, sizeof comm.blob);
        cookies[r] = world_send(world, r, &comm, &world->order_fd, 1);
    }
}

/* The first sum blocks on one rank: its peer gives up in time, and it is given up. */
static void test_first_sum(void **state)
{
    struct world world;
    uint64_t cookies[2];
    (void)state;
    world_open(&world, 2);
    write_fault("ncclAllReduce", "hang", world.executors[0].pid);
    begin_communicator(&world, 600, 300, cookies);
    assert_int_equal(world_await(&world, 1, cookies[1], NULL).code, TCW_ETIMEOUT);
    expect_end(&world, 0, TCD_EX_PROMPT, "NCCL, making a communicator, has not returned");
    struct tcd_ex_message drop = {.opcode = TCD_EX_COMM_DROP, .communicator = 600};
    assert_int_equal(world_call(&world, 1, &drop, NULL, 0, NULL).code, 0);
    settle(&world, 1, 0, 0);
    expect_life(&world, 1);
    world_close(&world);
}

/* Told to drop what is not made yet: it need not wait until the communicator would have had to be there. */
static void test_dropped(void **state)
{
    struct world world;
    uint64_t cookies[2];
    (void)state;
    world_open(&world, 2);
    write_fault("ncclCommWindowRegister", "hang", world.executors[0].pid);
    begin_communicator(&world, 600, 3600000, cookies);
    assert_int_equal(world_await(&world, 1, cookies[1], NULL).code, 0);
    settle(&world, 0, 0, 1);
    expect_life(&world, 0);
    struct tcd_ex_message drop = {.opcode = TCD_EX_COMM_DROP, .communicator = 600};
    assert_int_equal(tcd_ex_send(world.executors[0].socket, &drop, NULL, 0), 0);
    expect_end(&world, 0, TCD_EX_PROMPT, "that is to be dropped, has not returned");
    assert_int_equal(world_call(&world, 1, &drop, NULL, 0, NULL).code, 0);
    world_close(&world);
}

static void open_group(struct world *world, struct group *group)
{
    const struct tcw_plan_desc desc = plan_all_reduce(TCW_FP32, TCW_FUSION_NONE, 8, 64);
    group_open(world, group, 77, COMMUNICATOR);
    group_plan(world, group, 9, &desc, TCW_STRATEGY_NCCL, 0);
}

static uint64_t submit(struct member *member)
{
    const struct tcw_ref refs[2] = {client_ref(IN, ROW), client_ref(OUT, ROW)};
    const struct tcw_sqe head = {.op = TCW_OP_ALL_REDUCE, .plan = 9, .tokens = 1, .ref_count = 2};
    return client_submit(member, &head, refs);
}

/* A worker that does not come back from the library, with the communicator's lock; its peer waits in its stream. */
static void test_request(void **state)
{
    struct world world;
    struct group group;
    uint64_t number = 0;
    (void)state;
    world_open(&world, 2);
    open_group(&world, &group);
    write_fault("ncclAllReduce", "hang", world.executors[0].pid);
    for (unsigned r = 0; r < 2; ++r) {
        number = submit(&group.members[r]);
        client_ready(&group.members[r], number);
    }
    expect_end(&world, 0, TCD_EX_PATIENT, "a call of NCCL has not returned");
    group_abort(&world, &group, TCW_EEXECUTOR, 0);
    struct tcw_cqe cqe = client_reap(&group.members[1]);
    assert_int_equal(cqe.result, TCW_EEXECUTOR);
    assert_true(client_is_done(&group.members[1], number));
    settle(&world, 1, 1, 0);
    expect_life(&world, 1);
    group_close(&world, &group);
    world_close(&world);
}

/* Drivers make some calls wait for all that runs: nobody is late while a client's inputs are what the device waits for. */
static void test_waiting_for_client(void **state)
{
    struct world world;
    struct group group;
    uint64_t numbers[2][2];
    (void)state;
    world_open(&world, 2);
    world.deadline_ns = 0;
    open_group(&world, &group);
    for (unsigned i = 0; i < 2; ++i)
        for (unsigned r = 0; r < 2; ++r)
            numbers[r][i] = submit(&group.members[r]);
    const struct tcd_order_log *log = mmap(NULL, sizeof *log, PROT_READ, MAP_SHARED, world.order_fd, 0);
    assert_true(log != MAP_FAILED);
    WORLD_UNTIL(atomic_load(&log->tail) == 2); /* then rank 0 has launched the first */
    write_fault("cuMemCreate", "hang", world.executors[0].pid);
    struct tcd_ex_message alloc = {.opcode = TCD_EX_ALLOC, .value = 8 << 20};
    world_send(&world, 0, &alloc, NULL, 0);
    settle(&world, 0, 1, 1);
    expect_life(&world, 0);
    for (unsigned i = 0; i < 2; ++i)
        for (unsigned r = 0; r < 2; ++r)
            client_ready(&group.members[r], numbers[r][i]);
    for (unsigned i = 0; i < 2; ++i)
        for (unsigned r = 0; r < 2; ++r)
            assert_int_equal(client_reap(&group.members[r]).result, 0);
    expect_end(&world, 0, 0, "making memory has not returned");
    group_close(&world, &group);
    munmap((void *)(uintptr_t)log, sizeof *log);
    world_close(&world);
}

static void test_allocation(void **state)
{
    struct world world;
    (void)state;
    world_open(&world, 2);
    write_fault("cuMemCreate", "hang", world.executors[0].pid);
    struct tcd_ex_message alloc = {.opcode = TCD_EX_ALLOC, .value = 8 << 20};
    world_send(&world, 0, &alloc, NULL, 0);
    expect_end(&world, 0, TCD_EX_PATIENT, "making memory has not returned");
    world_close(&world);
}

/* What may wait for a client has no limit: the driver unmaps nothing while anything runs. */
static void test_unmapping(void **state)
{
    struct world world;
    (void)state;
    world_open(&world, 2);
    write_fault("cuMemUnmap", "hang", world.executors[0].pid);
    struct tcd_ex_message drop = {.opcode = TCD_EX_MEM_DROP, .client = 1000, .handle = MEMORY};
    world_send(&world, 0, &drop, NULL, 0);
    settle(&world, 0, 0, 0); /* the memory is gone, but for the thread that is at it */
    expect_life(&world, 0);
    assert_int_equal(world.report_count, 0);
    assert_int_equal(kill(world.executors[0].pid, SIGKILL), 0);
    assert_int_equal(executor_wait(&world.executors[0]), -1);
    world_close(&world);
}

/* Nor for the workspaces of a group that leaves: the others are served meanwhile. */
static void test_unmapping_workspaces(void **state)
{
    const struct tcw_plan_desc desc = plan_all_reduce(TCW_FP32, TCW_FUSION_NONE, 8, 64);
    struct world world;
    struct group group, other;
    uint64_t numbers[2];
    (void)state;
    world_open(&world, 2);
    open_group(&world, &other);
    group_open(&world, &group, 78, COMMUNICATOR);
    group_workspace(&world, &group, 16 << 20);
    group_plan(&world, &group, 9, &desc, TCW_STRATEGY_ONESHOT, 1);
    settle(&world, 0, 2, 0);
    write_fault("cuMemUnmap", "hang", world.executors[0].pid);
    group_close(&world, &group);
    settle(&world, 0, 1, 1);
    expect_life(&world, 0);
    for (unsigned r = 0; r < 2; ++r) {
        numbers[r] = submit(&other.members[r]);
        client_ready(&other.members[r], numbers[r]);
    }
    for (unsigned r = 0; r < 2; ++r)
        assert_int_equal(client_reap(&other.members[r]).result, 0);
    assert_int_equal(world.report_count, 0);
    group_close(&world, &other);
    assert_int_equal(kill(world.executors[0].pid, SIGKILL), 0);
    assert_int_equal(executor_wait(&world.executors[0]), -1);
    world_close(&world);
}

/* The library is made ready beforehand; when that fails it is said, and nothing else suffers. */
static void test_library(void **state)
{
    struct world world;
    uint64_t cookies[2];
    (void)state;
    world_open(&world, 2);
    struct tcd_ex_message library = {.opcode = TCD_EX_LIBRARY};
    write_fault("ncclCommInitRankConfig", "5", world.executors[1].pid);
    for (unsigned r = 0; r < 2; ++r)
        assert_int_equal(tcd_ex_send(world.executors[r].socket, &library, NULL, 0), 0);
    const struct tcd_ex_message *report = world_report(&world, 1);
    assert_int_equal(report->opcode, TCD_EX_FAULT);
    assert_int_equal(report->attachment, 0);
    assert_non_null(strstr(report->text, "a communicator of one rank: "));
    begin_communicator(&world, 600, 0, cookies);
    for (unsigned r = 0; r < 2; ++r) {
        struct tcd_ex_message answer = world_await(&world, r, cookies[r], NULL);
        assert_int_equal(answer.code, 0);
        assert_non_null(strstr(answer.text, "connected "));
        assert_true(answer.value >= 32 << 20); /* the window alone */
    }
    settle(&world, 0, 0, 0);
    expect_life(&world, 0);
    assert_int_equal(world.report_count, 1);
    world_close(&world);
}

/* While that does not return, communicators wait for it, as long as they may; then it is too long. */
static void test_library_hangs(void **state)
{
    struct world world;
    uint64_t cookies[2];
    (void)state;
    world_open(&world, 2);
    struct tcd_ex_message library = {.opcode = TCD_EX_LIBRARY}, drop = {.opcode = TCD_EX_COMM_DROP, .communicator = 600};
    write_fault("ncclCommInitRankConfig", "hang", world.executors[0].pid);
    assert_int_equal(tcd_ex_send(world.executors[0].socket, &library, NULL, 0), 0);
    begin_communicator(&world, 600, 200, cookies);
    for (unsigned r = 0; r < 2; ++r) {
        assert_int_equal(world_await(&world, r, cookies[r], NULL).code, TCW_ETIMEOUT);
        assert_int_equal(world_call(&world, r, &drop, NULL, 0, NULL).code, 0);
    }
    expect_end(&world, 0, TCD_EX_PATIENT, "NCCL, making ready, has not returned");
    world_close(&world);
}

int main(int argc, char **argv)
{
    snprintf(faults, sizeof faults, "/tmp/trtcoll-test-faults-%d", (int)getpid());
    setenv("TRTCOLL_FAKE_FAULTS", faults, 0);
    executor_cuda_main(argc, argv);
    if (!executor_cuda_is_there())
        return 77;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_first_sum, no_faults),
        cmocka_unit_test_setup(test_dropped, no_faults),
        cmocka_unit_test_setup(test_request, no_faults),
        cmocka_unit_test_setup(test_waiting_for_client, no_faults),
        cmocka_unit_test_setup(test_allocation, no_faults),
        cmocka_unit_test_setup(test_unmapping, no_faults),
        cmocka_unit_test_setup(test_unmapping_workspaces, no_faults),
        cmocka_unit_test_setup(test_library, no_faults),
        cmocka_unit_test_setup(test_library_hangs, no_faults),
    };
    int failed = cmocka_run_group_tests_name("executor: cuda, threads that stand still", tests, NULL, NULL);
    unlink(faults);
    return failed;
}
