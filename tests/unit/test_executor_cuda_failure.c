/*
 * What executors of CUDA devices make of clients that are late, differ or go, of executors that die and of devices that fail: every request
 * is completed, every word raised, the ones to blame are named, and communicators live on wherever they can.
 */
#include "executor_cuda_fixture.h"

enum { IN = 0, OUT = 1 << 20, ROW = 64 * sizeof(float) };

static char faults[64]; /* file of the fake driver */

static void write_faults(const char *text)
{
    FILE *file = fopen(faults, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static uint32_t strategy = TCW_STRATEGY_NCCL; /* of plan 9 */

static void open_group(struct world *world, struct group *group, uint64_t id, uint64_t communicator)
{
    struct tcw_plan_desc desc = plan_all_reduce(TCW_FP32, TCW_FUSION_NONE, 8, 64);
    bool kernels = strategy != TCW_STRATEGY_NCCL;
    group_open(world, group, id, communicator);
    if (kernels)
        group_workspace(world, group, 16 << 20);
    group_plan(world, group, 9, &desc, strategy, kernels);
}

static void open_world(struct world *world, struct group *group, unsigned nranks, uint64_t deadline_ms)
{
    world_open(world, nranks);
    world->deadline_ns = deadline_ms * 1000000;
    open_group(world, group, 77, COMMUNICATOR);
}

static uint64_t submit(struct member *member, uint32_t tokens)
{
    const struct tcw_ref refs[2] = {client_ref(IN, tokens * ROW), client_ref(OUT, tokens * ROW)};
    const struct tcw_sqe head = {.op = TCW_OP_ALL_REDUCE, .plan = 9, .tokens = tokens, .ref_count = 2};
    return client_submit(member, &head, refs);
}

/* A group that has failed ends; another one on the same communicator works. */
static void prove_health(struct world *world, struct group *broken, uint64_t communicator)
{
    struct group group;
    if (broken)
        group_close(world, broken);
    world->deadline_ns = PATIENCE_MS * UINT64_C(1000000); /* whether it works, not how soon */
    open_group(world, &group, 88, communicator);
    float one = 1, sum[WORLD_MAX] = {0};
    for (unsigned r = 0; r < world->nranks; ++r) {
        client_write(world, r, IN, &one, sizeof one);
        client_ready(&group.members[r], submit(&group.members[r], 1));
    }
    for (unsigned r = 0; r < world->nranks; ++r) {
        assert_int_equal(client_reap(&group.members[r]).result, 0);
        client_read(world, r, OUT, &sum[r], sizeof sum[r]);
        assert_true(sum[r] == (float)world->nranks);
    }
    group_close(world, &group);
}

static void expect(struct member *member, uint64_t number, int result, unsigned culprit)
{
    struct tcw_cqe cqe = client_reap(member);
    assert_int_equal(cqe.result, result);
    assert_int_equal(cqe.culprit, culprit);
    assert_true(client_is_done(member, number));
}

/* ---- before a launch ---- */

static void test_difference(void **state)
{
    struct world world;
    struct group group;
    (void)state;
    open_world(&world, &group, 4, 20000);
    uint64_t numbers[4];
    for (unsigned r = 0; r < 4; ++r)
        numbers[r] = submit(&group.members[r], r == 2 ? 5 : 6); /* nobody's inputs ever come: nothing waits for them */
    for (unsigned r = 0; r < 4; ++r)
        expect(&group.members[r], numbers[r], TCW_EMISMATCH, 2);
    const struct tcd_ex_message *report = world_report(&world, 1);
    assert_int_equal(report->code, TCW_EMISMATCH);
    assert_int_equal(report->rank, 2);
    assert_non_null(strstr(report->text, "tokens of all-reduce: 6 and 5"));
    report = world_report(&world, 2);
    assert_non_null(strstr(report->text, "tokens of all-reduce: 5 and 6"));
    uint64_t later = submit(&group.members[3], 6);
    expect(&group.members[3], later, TCW_EMISMATCH, 2); /* the group is over */
    prove_health(&world, &group, COMMUNICATOR);
    world_close(&world);
}

static void test_missing_rank(void **state)
{
    (void)state;
    for (unsigned there = 0; there < 2; ++there) {
        struct world world;
        struct group group;
        open_world(&world, &group, 2, 300);
        uint64_t number = submit(&group.members[there], 1);
        expect(&group.members[there], number, TCW_ETIMEOUT, !there);
        const struct tcd_ex_message *report = world_report(&world, there);
        assert_int_equal(report->code, TCW_ETIMEOUT);
        assert_int_equal(report->rank, !there);
        assert_int_equal(report->step, 0);
        number = submit(&group.members[!there], 1); /* too late: it learns why */
        expect(&group.members[!there], number, TCW_ETIMEOUT, !there);
        prove_health(&world, &group, COMMUNICATOR);
        world_close(&world);
    }
}

/* A request that its executor refuses ends the group, also for ranks that wait for it already. */
static void test_refused(void **state)
{
    struct world world;
    struct group group;
    (void)state;
    open_world(&world, &group, 2, 20000);
    uint64_t waiting = submit(&group.members[0], 1);
    const struct tcw_ref refs[2] = {client_ref(IN, ROW + 4), client_ref(OUT, ROW)};
    const struct tcw_sqe head = {.op = TCW_OP_ALL_REDUCE, .plan = 9, .tokens = 1, .ref_count = 2};
    uint64_t refused = client_submit(&group.members[1], &head, refs);
    expect(&group.members[1], refused, TCW_EINVAL, 1);
    expect(&group.members[0], waiting, TCW_EMISMATCH, 1);
    assert_int_equal(world_report(&world, 1)->rank, 1);
    prove_health(&world, &group, COMMUNICATOR);
    world_close(&world);
}

static void test_violation(void **state)
{
    struct world world;
    struct group group;
    (void)state;
    open_world(&world, &group, 1, 20000);
    struct tcw_sqe head = {.op = TCW_OP_NOP, .pair = RING_ENTRIES};
    bool wake;
    assert_int_equal(tcw_ring_submit(&group.members[0].ring, &head, NULL, &wake), 0);
    tcw_ring_wake(group.members[0].sq_event);
    const struct tcd_ex_message *report = world_report(&world, 0);
    assert_int_equal(report->opcode, TCD_EX_VIOLATION);
    prove_health(&world, &group, COMMUNICATOR);
    world_close(&world);
}

static void test_plans_that_cannot_run(void **state)
{
    struct world world;
    struct group group;
    (void)state;
    open_world(&world, &group, 1, 20000);
    struct tcw_plan_desc desc = plan_all_reduce(TCW_FP32, TCW_FUSION_NONE, 8, 64);
    struct tcd_ex_message plan = group_plan_message(&world, &group, 0, 20, &desc, TCW_STRATEGY_ONESHOT, 0);
    assert_int_equal(world_call(&world, 0, &plan, NULL, 0, NULL).code, TCW_EINVAL); /* without a workspace */
    plan = group_plan_message(&world, &group, 0, 21, &desc, TCW_STRATEGY_NCCL, 3);
    assert_int_equal(world_call(&world, 0, &plan, NULL, 0, NULL).code, TCW_ENOENT); /* with one that is not there */
    struct tcd_ex_message attach = world_message(&world, &group.members[0], TCD_EX_ATTACH);
    attach.attachment = 1;
    attach.communicator = COMMUNICATOR + 1;
    int fds[5] = {group.members[0].page_fd, group.members[0].ring_fd, eventfd(0, 0), eventfd(0, 0), group.gate_fd};
    assert_int_equal(world_call(&world, 0, &attach, fds, 5, NULL).code, TCW_ENOENT);
    assert_int_equal(world_call(&world, 0, &attach, fds, 4, NULL).code, TCW_EINVAL);
    close(fds[2]);
    close(fds[3]);
    prove_health(&world, &group, COMMUNICATOR);
    world_close(&world);
}

/* ---- after a launch ---- */

/* Inputs that do not come: the result of all ranks is an error that names whose they are. */
static void test_late_inputs(void **state)
{
    (void)state;
    for (unsigned late = 0; late < 2; ++late) {
        struct world world;
        struct group group;
        uint64_t good[2], bad[2];
        open_world(&world, &group, 2, 300);
        for (unsigned r = 0; r < 2; ++r) {
            good[r] = submit(&group.members[r], 1);
            client_ready(&group.members[r], good[r]);
            bad[r] = submit(&group.members[r], 2);
            if (r != late)
                client_ready(&group.members[r], bad[r]);
        }
        for (unsigned r = 0; r < 2; ++r) {
            expect(&group.members[r], good[r], 0, 0xffff);
            expect(&group.members[r], bad[r], TCW_ETIMEOUT, late);
        }
        const struct tcd_ex_message *report = world_report(&world, late);
        assert_int_equal(report->code, TCW_ETIMEOUT);
        assert_int_equal(report->rank, late);
        prove_health(&world, &group, COMMUNICATOR);
        world_close(&world);
    }
}

/* A dead client's inputs: the control process aborts, and everything that was launched ends at once. */
static void test_abort(void **state)
{
    struct world world;
    struct group group;
    uint64_t numbers[2][3];
    (void)state;
    open_world(&world, &group, 2, 0);
    for (unsigned r = 0; r < 2; ++r)
        for (unsigned i = 0; i < 3; ++i) {
            numbers[r][i] = submit(&group.members[r], 1);
            if (!r || !i)
                client_ready(&group.members[r], numbers[r][i]);
        }
    expect(&group.members[0], numbers[0][0], 0, 0xffff);
    uint64_t alone = submit(&group.members[0], 1); /* and one that waits for the other rank at the gate */
    WORLD_UNTIL(atomic_load(&group.gate->ranks[0].taken) == 4);
    WORLD_UNTIL(atomic_load(&group.members[1].page->runs_finished) == 1);
    group_abort(&world, &group, TCW_EPEERDEAD, 1);
    for (unsigned i = 1; i < 3; ++i)
        expect(&group.members[0], numbers[0][i], TCW_EPEERDEAD, 1);
    expect(&group.members[0], alone, TCW_EPEERDEAD, 1);
    expect(&group.members[1], numbers[1][0], 0, 0xffff);
    for (unsigned i = 1; i < 3; ++i)
        expect(&group.members[1], numbers[1][i], TCW_EPEERDEAD, 1);
    assert_int_equal(world.report_count, 0);
    prove_health(&world, &group, COMMUNICATOR);
    world_close(&world);
}

static const uint32_t kernels[] = {TCW_STRATEGY_ONESHOT, TCW_STRATEGY_TWOSHOT};

static void test_late_inputs_of_kernels(void **state)
{
    for (unsigned i = 0; i < 2; ++i) {
        strategy = kernels[i];
        test_late_inputs(state);
    }
    strategy = TCW_STRATEGY_NCCL;
}

static void test_abort_of_kernels(void **state)
{
    for (unsigned i = 0; i < 2; ++i) {
        strategy = kernels[i];
        test_abort(state);
    }
    strategy = TCW_STRATEGY_NCCL;
}

/* Detached in the middle of everything; another group on the same communicator does not notice more than a delay. */
static void test_detach_in_flight(void **state)
{
    struct world world;
    struct group group, other;
    (void)state;
    open_world(&world, &group, 2, 0);
    for (unsigned i = 0; i < 5; ++i)
        for (unsigned r = 0; r < 2; ++r)
            submit(&group.members[r], 1);
    /* Who is alone is enqueued ahead. */
    WORLD_UNTIL(atomic_load(&group.gate->ranks[0].launched) == 5);
    open_group(&world, &other, 78, COMMUNICATOR);
    uint64_t behind[2];
    for (unsigned r = 0; r < 2; ++r) {
        behind[r] = submit(&other.members[r], 1);
        client_ready(&other.members[r], behind[r]);
    }
    group_close(&world, &group);
    for (unsigned r = 0; r < 2; ++r)
        expect(&other.members[r], behind[r], 0, 0xffff);
    prove_health(&world, &other, COMMUNICATOR);
    world_close(&world);
}

/* Nobody waits behind another group whose clients still compute. */
static void test_groups_apart(void **state)
{
    struct world world;
    struct group group, other;
    uint64_t numbers[2], later;
    (void)state;
    open_world(&world, &group, 2, 0);
    open_group(&world, &other, 78, COMMUNICATOR);
    for (unsigned r = 0; r < 2; ++r)
        numbers[r] = submit(&group.members[r], 1);
    client_ready(&group.members[0], numbers[0]);
    for (unsigned i = 0; i < 20; ++i)
        for (unsigned r = 0; r < 2; ++r) {
            later = submit(&other.members[r], 1);
            client_ready(&other.members[r], later);
            if (r)
                for (unsigned k = 0; k < 2; ++k)
                    expect(&other.members[k], later, 0, 0xffff);
        }
    assert_int_equal(atomic_load(&group.gate->ranks[0].launched), 0);
    client_ready(&group.members[1], numbers[1]);
    for (unsigned r = 0; r < 2; ++r)
        expect(&group.members[r], numbers[r], 0, 0xffff);
    group_close(&world, &other);
    group_close(&world, &group);
    world_close(&world);
}

/* A client that raises `done` itself deceives nobody: its memory stays mapped until the stream is done with it. */
static void test_client_raises_done(void **state)
{
    struct world world;
    struct group group;
    (void)state;
    open_world(&world, &group, 2, 20000);
    uint64_t numbers[2];
    for (unsigned r = 0; r < 2; ++r)
        numbers[r] = submit(&group.members[r], 1);
    WORLD_UNTIL(atomic_load(&group.gate->ranks[0].launched) == 1);
    atomic_store(&client_words(&group.members[0], numbers[0])->done, UINT64_MAX);
    struct tcd_ex_message drop = {.opcode = TCD_EX_MEM_DROP, .client = 1000, .handle = MEMORY}, ping = {.opcode = TCD_EX_PING};
    uint64_t cookie = world_send(&world, 0, &drop, NULL, 0);
    for (unsigned i = 0; i < 20; ++i)
        WORLD_DO(&world, 0, &ping, NULL, 0);
    assert_int_equal(world.answer_count, 0);
    for (unsigned r = 0; r < 2; ++r)
        client_ready(&group.members[r], numbers[r]);
    assert_int_equal(world_await(&world, 0, cookie, NULL).code, 0);
    assert_int_equal(client_reap(&group.members[0]).result, 0);
    assert_int_equal(client_reap(&group.members[1]).result, 0);
    world_register(&world, 0);
    prove_health(&world, &group, COMMUNICATOR);
    world_close(&world);
}

/* ---- executors, devices, NCCL ---- */

static void drop_communicator(struct world *world, uint64_t id)
{
    for (unsigned r = 0; r < world->nranks; ++r) {
        struct tcd_ex_message drop = {.opcode = TCD_EX_COMM_DROP, .communicator = id};
        if (world->executors[r].pid)
            assert_int_equal(world_call(world, r, &drop, NULL, 0, NULL).code, 0);
    }
}

static void restart(struct world *world, unsigned rank)
{
    char name[16];
    snprintf(name, sizeof name, "%u", rank);
    executor_start(&world->executors[rank], rank, name);
    assert_int_equal(world->executors[rank].ready.code, 0);
    world_register(world, rank);
    /* The order log begins anew with the communicator. */
    close(world->order_fd);
    munmap(world_shared(sizeof(struct tcd_order_log), &world->order_fd), sizeof(struct tcd_order_log));
    world_connect(world, COMMUNICATOR + 1);
}

/* Killed while its peers' operations wait for it on the device, and others at the gate. */
static void test_executor_killed(void **state)
{
    (void)state;
    for (unsigned victim = 0; victim < 2; ++victim) {
        struct world world;
        struct group group;
        unsigned other = !victim;
        open_world(&world, &group, 2, 20000);
        uint64_t launched = submit(&group.members[other], 1);
        submit(&group.members[victim], 1);
        WORLD_UNTIL(atomic_load(&group.gate->ranks[0].launched) == 1);
        client_ready(&group.members[other], launched);
        uint64_t waiting = submit(&group.members[other], 1);
        WORLD_UNTIL(atomic_load(&group.gate->ranks[other].taken) == 2);
        kill(world.executors[victim].pid, SIGKILL);
        assert_int_equal(executor_wait(&world.executors[victim]), -1);
        uint64_t began_ns = tcw_now_ns();
        group_abort(&world, &group, TCW_EEXECUTOR, victim);
        expect(&group.members[other], launched, TCW_EEXECUTOR, victim);
        expect(&group.members[other], waiting, TCW_EEXECUTOR, victim);
        assert_true(tcw_now_ns() - began_ns < 3000000000u);
        const struct tcd_ex_message *report = world_report(&world, other);
        assert_int_equal(report->communicator, COMMUNICATOR);
        assert_int_equal(report->code, TCW_EEXECUTOR);
        group_close(&world, &group);
        drop_communicator(&world, COMMUNICATOR);
        restart(&world, victim);
        prove_health(&world, NULL, COMMUNICATOR + 1);
        world_close(&world);
    }
}

/* The control process drops a communicator that is in use: what runs there ends; it is gone when its last attachment is. */
static void test_dropped_in_use(void **state)
{
    struct world world;
    struct group group;
    uint64_t numbers[2], cookies[2];
    (void)state;
    open_world(&world, &group, 2, 20000);
    for (unsigned r = 0; r < 2; ++r)
        numbers[r] = submit(&group.members[r], 1);
    WORLD_UNTIL(atomic_load(&group.gate->ranks[0].launched) == 1);
    for (unsigned r = 0; r < 2; ++r) {
        struct tcd_ex_message drop = {.opcode = TCD_EX_COMM_DROP, .communicator = COMMUNICATOR};
        cookies[r] = world_send(&world, r, &drop, NULL, 0);
    }
    for (unsigned r = 0; r < 2; ++r) {
        struct tcw_cqe cqe = client_reap(&group.members[r]);
        assert_int_equal(cqe.result, TCW_EEXECUTOR);
        assert_true(client_is_done(&group.members[r], numbers[r]));
    }
    group_close(&world, &group);
    for (unsigned r = 0; r < 2; ++r)
        assert_int_equal(world_await(&world, r, cookies[r], NULL).code, 0);
    world_connect(&world, COMMUNICATOR + 1);
    world_close(&world);
}

/* A device that faults ends its executor, which says so first. */
static void test_device_fault(void **state)
{
    struct world world;
    struct group group;
    (void)state;
    open_world(&world, &group, 2, 20000);
    uint64_t numbers[2];
    for (unsigned r = 0; r < 2; ++r)
        numbers[r] = submit(&group.members[r], 1);
    WORLD_UNTIL(atomic_load(&group.gate->ranks[0].launched) == 1);
    char line[64];
    snprintf(line, sizeof line, "fault 700 device=1 pid=%d\n", (int)world.executors[1].pid);
    write_faults(line);
    const struct tcd_ex_message *report = world_report(&world, 1);
    assert_int_equal(report->code, TCW_EDEVICE);
    /* Seen by a look at the stream, or by NCCL if the executor has yet to come to its part. */
    assert_true(strstr(report->text, "ILLEGAL_ADDRESS") || strstr(report->text, "Cuda failure 700"));
    assert_int_equal(executor_wait(&world.executors[1]), 3);
    client_ready(&group.members[0], numbers[0]);
    group_abort(&world, &group, TCW_EEXECUTOR, 1);
    expect(&group.members[0], numbers[0], TCW_EEXECUTOR, 1);
    group_close(&world, &group);
    drop_communicator(&world, COMMUNICATOR);
    write_faults("");
    restart(&world, 1);
    prove_health(&world, NULL, COMMUNICATOR + 1);
    world_close(&world);
}

/* NCCL refuses a call when the peers have launched theirs already. */
static void test_library_fails(void **state)
{
    struct world world;
    struct group group;
    uint64_t numbers[2];
    (void)state;
    open_world(&world, &group, 2, 20000);
    char line[64];
    snprintf(line, sizeof line, "ncclAllReduce 3 pid=%d\n", (int)world.executors[1].pid);
    write_faults(line);
    for (unsigned r = 0; r < 2; ++r) {
        numbers[r] = submit(&group.members[r], 1);
        client_ready(&group.members[r], numbers[r]);
    }
    expect(&group.members[1], numbers[1], TCW_EDEVICE, 0xffff);
    unsigned seen = 0;
    for (unsigned i = 0; i < 2; ++i) {
        const struct tcd_ex_message *report = world_report(&world, 1);
        seen |= report->communicator == COMMUNICATOR ? 1 : report->attachment == group.members[1].attachment ? 2 : 0;
    }
    assert_int_equal(seen, 3);
    group_abort(&world, &group, TCW_EEXECUTOR, 1);
    expect(&group.members[0], numbers[0], TCW_EEXECUTOR, 1);
    group_close(&world, &group);
    write_faults("");
    drop_communicator(&world, COMMUNICATOR);
    close(world.order_fd);
    munmap(world_shared(sizeof(struct tcd_order_log), &world.order_fd), sizeof(struct tcd_order_log));
    world_connect(&world, COMMUNICATOR + 1);
    prove_health(&world, NULL, COMMUNICATOR + 1);
    world_close(&world);
}

/* A GPU that is full, or that waits for its clients, has no room and no time to load a kernel: what follows NCCL's work has been loaded. */
static void test_kernels_are_there(void **state)
{
    struct tcw_plan_desc desc = plan_all_reduce(TCW_FP32, TCW_FUSION_NONE, 8, 64);
    const struct tcw_ref refs[3] = {client_ref(IN, ROW), client_ref(OUT, ROW), client_ref(IN, ROW)};
    const struct tcw_sqe head = {.op = TCW_OP_ALL_REDUCE, .plan = 10, .tokens = 1, .ref_count = 3};
    struct world world;
    struct group group;
    (void)state;
    open_world(&world, &group, 2, 20000);
    write_faults("cuModuleGetFunction 2\n");
    desc.flags |= TCW_PLAN_BIAS; /* an epilogue */
    group_plan(&world, &group, 10, &desc, TCW_STRATEGY_NCCL, false);
    for (unsigned r = 0; r < 2; ++r)
        client_ready(&group.members[r], client_submit(&group.members[r], &head, refs));
    for (unsigned r = 0; r < 2; ++r)
        assert_int_equal(client_reap(&group.members[r]).result, 0);
    prove_health(&world, &group, COMMUNICATOR);
    write_faults("");
    world_close(&world);
}

/* Peers that do not come while it connects: it ends in time, or when it is told to. */
static void test_lonely_communicator(void **state)
{
    struct world world;
    (void)state;
    world_open(&world, 2);
    struct tcd_ex_message unique = {.opcode = TCD_EX_UNIQUE_ID}, drop = {.opcode = TCD_EX_COMM_DROP, .communicator = 600};
    struct tcd_ex_message blob = world_call(&world, 0, &unique, NULL, 0, NULL);
    struct tcd_ex_message comm = {.opcode = TCD_EX_COMM, .communicator = 600, .nranks = 2, .deadline_ns = 300000000};
    memcpy(comm.blob, blob.blob, sizeof comm.blob);
    assert_int_equal(world_call(&world, 0, &comm, &world.order_fd, 1, NULL).code, TCW_ETIMEOUT);
    assert_int_equal(world_call(&world, 0, &comm, &world.order_fd, 1, NULL).code, TCW_EINVAL); /* the id is known */
    assert_int_equal(world_call(&world, 0, &drop, NULL, 0, NULL).code, 0);
    assert_int_equal(world_call(&world, 0, &drop, NULL, 0, NULL).code, TCW_ENOENT);
    blob = world_call(&world, 0, &unique, NULL, 0, NULL);
    memcpy(comm.blob, blob.blob, sizeof comm.blob);
    comm.deadline_ns = 0;
    uint64_t cookie = world_send(&world, 0, &comm, &world.order_fd, 1);
    assert_int_equal(world_call(&world, 0, &drop, NULL, 0, NULL).code, 0);
    assert_int_equal(world_await(&world, 0, cookie, NULL).code, TCW_EABORTED);
    prove_health(&world, NULL, COMMUNICATOR);
    blob = world_call(&world, 0, &unique, NULL, 0, NULL);
    memcpy(comm.blob, blob.blob, sizeof comm.blob);
    world_send(&world, 0, &comm, &world.order_fd, 1); /* and the end of the process does not wait for it */
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
        cmocka_unit_test(test_difference),
        cmocka_unit_test(test_missing_rank),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_violation),
        cmocka_unit_test(test_plans_that_cannot_run),
        cmocka_unit_test(test_late_inputs),
        cmocka_unit_test(test_late_inputs_of_kernels),
        cmocka_unit_test(test_abort_of_kernels),
        cmocka_unit_test(test_abort),
        cmocka_unit_test(test_detach_in_flight),
        cmocka_unit_test(test_groups_apart),
        cmocka_unit_test(test_client_raises_done),
        cmocka_unit_test(test_executor_killed),
        cmocka_unit_test(test_dropped_in_use),
        cmocka_unit_test(test_device_fault),
        cmocka_unit_test(test_library_fails),
        cmocka_unit_test(test_kernels_are_there),
        cmocka_unit_test(test_lonely_communicator),
    };
    write_faults("");
    int failed = cmocka_run_group_tests_name("executor: cuda failures", tests, NULL, NULL);
    unlink(faults);
    return failed;
}
