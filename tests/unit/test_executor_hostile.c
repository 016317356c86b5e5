/*
 * Clients that are wrong or evil. A wrong request gets its error and ends the group at once for the others, naming its rank; a broken ring
 * is reported; nobody can hold an executor's thread or reach memory that is not theirs.
 */
#include "executor_fixture.h"
#include "ring_fixture.h"

#include <fcntl.h>

static const uint32_t tokens = 2;
static const uint64_t length = 2 * 256 * sizeof(float);

struct bad_request {
    const char *what;
    struct tcw_sqe head;
    struct tcw_ref refs[3];
    int code;
};

/*
 * Rank 1 waits in an all-reduce; rank 0 posts `bad`. It is answered with its code, and the report names rank 0. The control process's
 * answer to that, an abort, releases rank 1.
 */
static void refused(struct world *world, const struct bad_request *bad)
{
    world_submit_sum(world, 1, tokens, 0, 65536, 1);
    while (atomic_load(&world->ranks[1].page->runs_started) == 0)
        sched_yield();
    uint64_t began = tcw_now_ns();
    world_submit(world, 0, &bad->head, bad->refs);
    struct tcw_cqe cqe = world_reap(world, 0);
    if (cqe.result != bad->code)
        fail_msg("%s: %s instead of %s", bad->what, tcw_error_name(cqe.result), tcw_error_name(bad->code));
    assert_int_equal(cqe.user_data, 42);
    WORLD_UNTIL(world, world->report_count == 1);
    const struct tcd_ex_message *report = &world->reports[0].message;
    assert_int_equal(report->opcode, TCD_EX_FAULT);
    assert_int_equal(report->code, TCW_EMISMATCH);
    assert_int_equal(report->rank, 0);
    assert_int_equal(report->attachment, world->ranks[0].attachment);
    assert_non_null(strstr(report->text, "rank 0 was refused"));
    for (unsigned r = 0; r < 2; ++r) {
        struct tcd_ex_message abort = world_message(world, r, TCD_EX_ABORT);
        abort.code = report->code;
        abort.rank = report->rank;
        assert_int_equal(world_call(world, r, &abort, NULL, 0, NULL), 0);
    }
    cqe = world_reap(world, 1);
    assert_int_equal(cqe.result, TCW_EMISMATCH);
    assert_int_equal(cqe.culprit, 0);
    assert_true(tcw_now_ns() - began < 2000000000u); /* not the deadline of 10 s */
    /* Over for good, and still polite. */
    world_submit_sum(world, 0, tokens, 0, 65536, 43);
    cqe = world_reap(world, 0);
    assert_int_equal(cqe.result, TCW_EMISMATCH);
    assert_int_equal(cqe.user_data, 43);
    assert_int_equal(world->report_count, 1);
}

static struct bad_request good_request(const struct world *world)
{
    return (struct bad_request){
        .head = {.op = TCW_OP_ALL_REDUCE, .plan = 9, .user_data = 42, .tokens = tokens, .ref_count = 2},
        .refs = {world_ref(world, 0, 0, length), world_ref(world, 0, 65536, length)},
    };
}

/* Every field of a request that can be wrong, one after the other, each in a new instance of the group on the same executors. */
static void test_wrong_requests(void **state)
{
    (void)state;
    struct world world;
    world_open_group(&world, 2);
    unsigned rounds = 0;
    for (unsigned n = 0;; ++n, ++rounds) {
        struct bad_request bad = good_request(&world);
        bad.code = TCW_EINVAL;
        switch (n) {
        case 0:
            bad.what = "unknown plan";
            bad.head.plan = 8;
            bad.code = TCW_ENOENT;
            break;
        case 1:
            bad.what = "old plan generation";
            bad.head.plan = UINT64_C(7) << 32 | 9;
            bad.code = TCW_ENOENT;
            break;
        case 2:
            bad.what = "another operation";
            bad.head.op = TCW_OP_BROADCAST;
            break;
        case 3:
            bad.what = "too few buffers";
            bad.head.ref_count = 1;
            break;
        case 4:
            bad.what = "too many buffers";
            bad.head.ref_count = 3;
            break;
        case 5:
            bad.what = "no tokens";
            bad.head.tokens = 0;
            break;
        case 6:
            bad.what = "more tokens than the plan";
            bad.head.tokens = 65;
            bad.refs[0].length = bad.refs[1].length = 65 * 256 * 4;
            break;
        case 7:
            bad.what = "short buffer";
            bad.refs[1].length -= 4;
            break;
        case 8:
            bad.what = "long buffer";
            bad.refs[0].length += 4;
            break;
        case 9:
            bad.what = "unaligned buffer";
            bad.refs[0].offset = 2;
            break;
        case 10:
            bad.what = "end outside the registration";
            bad.refs[1].offset = CLIENT_BYTES - length + 4;
            break;
        case 11:
            bad.what = "offset near 2^64";
            bad.refs[0].offset = UINT64_MAX - 3 - length + 4;
            break;
        case 12:
            bad.what = "offset whose end wraps";
            bad.refs[0].offset = UINT64_MAX - 3;
            break;
        case 13:
            bad.what = "old memory generation";
            bad.refs[0].handle = UINT64_C(2) << 32 | 5;
            bad.code = TCW_ENOENT;
            break;
        case 14:
            bad.what = "no memory";
            bad.refs[0].handle = 0;
            bad.code = TCW_ENOENT;
            break;
        case 15:
            bad.what = "overlap in part";
            bad.refs[1].offset = length / 2;
            break;
        case 16:
            bad.what = "memory of another client";
            bad.refs[0].handle = 77;
            bad.code = TCW_ENOENT;
            break;
        default:
            bad.what = NULL;
            break;
        }
        if (!bad.what)
            break;
        if (n == 16) {
            struct tcd_ex_message other = world_message(&world, 0, TCD_EX_MEM);
            other.client = 4711;
            other.handle = 77;
            other.value = CLIENT_BYTES;
            assert_int_equal(world_call(&world, 0, &other, &world.ranks[1].memory_fd, 1, NULL), 0);
        }
        world.report_count = 0;
        refused(&world, &bad);
        for (unsigned r = 0; r < 2; ++r) {
            assert_int_equal(world_detach(&world, r), 0);
            world.ranks[r].attachment += 10;
            world_attach(&world, r);
        }
        world_add_workspace(&world, 1, world.workspace_bytes);
        struct tcw_plan_desc desc = plan_all_reduce(TCW_FP32, TCW_FUSION_NONE, 64, 256);
        world_plan(&world, 9, &desc, 1);
    }
    assert_int_equal(rounds, 17);
    for (unsigned r = 0; r < 2; ++r)
        world_submit_sum(&world, r, tokens, 0, 65536, 1);
    for (unsigned r = 0; r < 2; ++r)
        assert_int_equal(world_reap(&world, r).result, 0);
    world_close(&world);
}

/* A group of one has nobody to let down: the error is the request's alone. */
static void test_wrong_request_alone(void **state)
{
    (void)state;
    struct world world;
    world_open_group(&world, 1);
    struct bad_request bad = good_request(&world);
    bad.refs[0].length = 4;
    world_submit(&world, 0, &bad.head, bad.refs);
    assert_int_equal(world_reap(&world, 0).result, TCW_EINVAL);
    world_submit_sum(&world, 0, tokens, 0, 65536, 2);
    assert_int_equal(world_reap(&world, 0).result, 0);
    assert_int_equal(world.report_count, 0);
    world_close(&world);
}

static union tcw_sq_entry *next_entry(struct world_rank *member)
{
    return &member->ring.sq[member->ring.sq_local % RING_ENTRIES];
}

static void publish(struct world_rank *member, uint32_t entries)
{
    while (entries-- > 0) /* the first one last */
        ring_entry_publish(&member->ring, member->ring.sq_local + entries);
    tcw_ring_wake(member->sq_event);
}

/* The ring itself is broken: reported once, never touched again, detachable; the other member and the executor live on. */
static void test_broken_rings(void **state)
{
    (void)state;
    struct world world;
    world_open_group(&world, 1);
    struct tcd_ex_message ping = {.opcode = TCD_EX_PING};
    for (unsigned n = 0; n < 6; ++n) {
        struct world_rank *member = &world.ranks[0];
        union tcw_sq_entry *entry = next_entry(member);
        memset(entry, 0, sizeof *entry);
        switch (n) {
        case 0: /* its continuation is not there */
            entry->head.op = TCW_OP_ALL_REDUCE;
            entry->head.ref_count = TCW_SQE_HEAD_REFS + 1;
            publish(member, 1);
            break;
        case 1: /* its continuation is there, and is none */
            entry->head.op = TCW_OP_ALL_REDUCE;
            entry->head.ref_count = TCW_SQE_HEAD_REFS + 1;
            publish(member, 2);
            break;
        case 2:
            entry->head.op = TCW_SQE_CONTINUATION;
            publish(member, 1);
            break;
        case 3:
            entry->head.flags = 1;
            publish(member, 1);
            break;
        case 4:
            entry->head.op = TCW_OP_ALL_REDUCE;
            entry->head.ref_count = TCW_MAX_REFS + 1;
            publish(member, 1);
            break;
        case 5: /* more in flight than completions have room: the head says that nothing was ever taken */
            for (unsigned i = 0; i <= RING_ENTRIES; ++i) {
                struct tcw_sqe nop = {.op = TCW_OP_NOP};
                bool wake;
                while (tcw_ring_submit(&member->ring, &nop, NULL, &wake) == TCW_EAGAIN)
                    sched_yield();
                tcw_ring_wake(member->sq_event);
            }
            break;
        }
        WORLD_UNTIL(&world, world.report_count == n + 1);
        assert_int_equal(world.reports[n].message.opcode, TCD_EX_VIOLATION);
        assert_int_equal(world.reports[n].message.client, member->client);
        assert_int_equal(world.reports[n].message.attachment, member->attachment);
        assert_true(world.reports[n].message.text[0] != 0);
        /* Whatever it does now, nobody looks. */
        publish(member, 1);
        publish(member, 5);
        assert_int_equal(world_call(&world, 0, &ping, NULL, 0, NULL), 0);
        assert_int_equal(world_detach(&world, 0), 0);
        member->attachment += 10;
        world_attach(&world, 0);
    }
    assert_int_equal(world.report_count, 6);
    assert_int_equal(world.deaths, 0);
    world_close(&world);
}

/* The client fills the eventfd that wakes it and makes it blocking: the worker goes on all the same. */
static void test_blocked_wake_up(void **state)
{
    (void)state;
    struct world world;
    world_open_group(&world, 1);
    struct world_rank *member = &world.ranks[0];
    assert_int_equal(eventfd_write(member->cq_event, UINT64_MAX - 1), 0);
    assert_int_equal(fcntl(member->cq_event, F_SETFL, 0), 0);
    atomic_store(&member->ring.indices->cq_sleep, 1);
    struct tcw_sqe nop = {.op = TCW_OP_NOP};
    world_submit(&world, 0, &nop, NULL);
    while (!tcw_ring_completed(&member->ring, 0))
        sched_yield();
    atomic_store(&member->ring.indices->cq_sleep, 1);
    world_submit(&world, 0, &nop, NULL);
    while (!tcw_ring_completed(&member->ring, 1))
        sched_yield();
    struct tcd_ex_message ping = {.opcode = TCD_EX_PING};
    assert_int_equal(world_call(&world, 0, &ping, NULL, 0, NULL), 0);
    uint64_t began = tcw_now_ns();
    assert_int_equal(world_detach(&world, 0), 0);
    assert_true(tcw_now_ns() - began < 2000000000u);
    world_close(&world);
}

/* While its worker waits for a peer, a client makes and releases plans without end: it is reported, once. */
static void test_released_plans(void **state)
{
    (void)state;
    struct world world;
    world_open_group(&world, 2);
    struct tcw_plan_desc desc = plan_all_reduce(TCW_FP32, TCW_FUSION_NONE, 64, 256);
    world_submit_sum(&world, 0, tokens, 0, 65536, 1);
    while (atomic_load(&world.ranks[0].page->runs_started) == 0)
        sched_yield();
    for (uint64_t handle = 100; handle < 100 + 2100; ++handle) {
        struct tcd_ex_message plan = world_plan_message(&world, 0, handle, &desc, 1), drop = world_message(&world, 0, TCD_EX_PLAN_DROP);
        drop.handle = handle;
        assert_int_equal(tcd_executor_request(world.ranks[0].executor, &plan, NULL, 0, NULL, NULL), 0);
        assert_int_equal(tcd_executor_request(world.ranks[0].executor, &drop, NULL, 0, NULL, NULL), 0);
    }
    WORLD_UNTIL(&world, world.report_count == 1);
    assert_int_equal(world.reports[0].message.opcode, TCD_EX_VIOLATION);
    assert_int_equal(world.reports[0].message.client, world.ranks[0].client);
    assert_int_equal(world_detach(&world, 0), 0);
    assert_int_equal(world.report_count, 1);
    world_close(&world);
}

/* Draining the submission eventfd, or making it blocking, hurts nobody but its client. */
static void test_stolen_wake_up(void **state)
{
    (void)state;
    struct world world;
    world_open_group(&world, 2);
    assert_int_equal(fcntl(world.ranks[0].sq_event, F_SETFL, 0), 0);
    for (unsigned i = 0; i < 50; ++i) {
        for (unsigned r = 0; r < 2; ++r)
            world_submit_sum(&world, r, 1, 0, 65536, i);
        for (unsigned r = 0; r < 2; ++r)
            assert_int_equal(world_reap(&world, r).result, 0);
        while (!atomic_load(&world.ranks[0].ring.indices->sq_sleep))
            sched_yield();
        assert_int_equal(eventfd_write(world.ranks[0].sq_event, 1), 0);
        eventfd_t count;
        eventfd_read(world.ranks[0].sq_event, &count); /* perhaps before the worker saw it */
    }
    assert_int_equal(world_detach(&world, 0), 0);
    world_close(&world);
}

/* Requests of the control process that make no sense are answered, and leave nothing behind. */
static void test_bad_messages(void **state)
{
    (void)state;
    struct world world;
    world_open_group(&world, 2);
    pid_t pid = tcd_executor_pid(world.ranks[0].executor);
    unsigned fds = world_count_fds(pid), mappings = world_count_mappings(pid);
    struct world_rank *member = &world.ranks[0];
    int good[4] = {member->page_fd, member->ring_fd, member->sq_event, member->cq_event};
    struct tcd_ex_message message = world_message(&world, 0, TCD_EX_ATTACH);
    assert_int_equal(world_call(&world, 0, &message, good, 4, NULL), TCW_EINVAL); /* the id is in use */
    message.attachment = 555;
    assert_int_equal(world_call(&world, 0, &message, good, 3, NULL), TCW_EINVAL);
    message.rank = 2;
    assert_int_equal(world_call(&world, 0, &message, good, 4, NULL), TCW_EINVAL);
    message.rank = 1; /* not this page's */
    assert_int_equal(world_call(&world, 0, &message, good, 4, NULL), TCW_EINVAL);
    message.rank = 0;
    int swapped[4] = {member->ring_fd, member->page_fd, member->sq_event, member->cq_event};
    assert_int_equal(world_call(&world, 0, &message, swapped, 4, NULL), TCW_EINVAL);
    int unsealed = memfd_create("unsealed", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    assert_int_equal(ftruncate(unsealed, 1 << 20), 0);
    int soft[4] = {member->page_fd, unsealed, member->sq_event, member->cq_event};
    assert_int_equal(world_call(&world, 0, &message, soft, 4, NULL), TCW_EINVAL);

    message = world_message(&world, 0, TCD_EX_MEM);
    message.handle = 99;
    message.value = 1 << 20;
    assert_int_equal(world_call(&world, 0, &message, &unsealed, 1, NULL), TCW_EINVAL);
    message.value = CLIENT_BYTES * 2;
    assert_int_equal(world_call(&world, 0, &message, &member->memory_fd, 1, NULL), TCW_EINVAL);
    message.value = CLIENT_BYTES;
    message.handle = member->memory;
    assert_int_equal(world_call(&world, 0, &message, &member->memory_fd, 1, NULL), TCW_EEXIST);
    message.handle = 0;
    assert_int_equal(world_call(&world, 0, &message, &member->memory_fd, 1, NULL), TCW_EINVAL);

    message = world_message(&world, 0, TCD_EX_WORKSPACE);
    message.workspace_generation = 2;
    message.workspace_bytes = world.workspace_bytes;
    int short_one[2] = {member->memory_fd, member->memory_fd};
    assert_int_equal(world_call(&world, 0, &message, short_one, 2, NULL), TCW_EINVAL);
    assert_int_equal(world_call(&world, 0, &message, short_one, 1, NULL), TCW_EINVAL);

    struct tcw_plan_desc desc = plan_all_reduce(TCW_FP32, TCW_FUSION_NONE, 64, 256);
    message = world_plan_message(&world, 0, 12, &desc, 3);
    assert_int_equal(world_call(&world, 0, &message, NULL, 0, NULL), TCW_ENOENT); /* no such workspace */
    message = world_plan_message(&world, 0, 9, &desc, 1);
    assert_int_equal(world_call(&world, 0, &message, NULL, 0, NULL), TCW_EEXIST);
    desc.dtype = 200;
    message = world_plan_message(&world, 0, 12, &desc, 1);
    assert_true(world_call(&world, 0, &message, NULL, 0, NULL) < 0);

    message = world_message(&world, 0, TCD_EX_DETACH);
    message.attachment = 12345;
    assert_int_equal(world_call(&world, 0, &message, NULL, 0, NULL), TCW_ENOENT);
    message = world_message(&world, 0, TCD_EX_ALLOC);
    struct world_answer answer;
    assert_true(world_call(&world, 0, &message, NULL, 0, &answer) < 0); /* no bytes */
    message.value = UINT64_MAX;
    assert_true(world_call(&world, 0, &message, NULL, 0, &answer) < 0);
    assert_int_equal(answer.fd, -1);
    message.opcode = 31;
    assert_int_equal(world_call(&world, 0, &message, NULL, 0, NULL), TCW_ENOSYS);

    close(unsealed);
    assert_int_equal(world_count_fds(pid), fds);
    assert_int_equal(world_count_mappings(pid), mappings);
    for (unsigned r = 0; r < 2; ++r)
        world_submit_sum(&world, r, tokens, 0, 65536, 1);
    for (unsigned r = 0; r < 2; ++r)
        assert_int_equal(world_reap(&world, r).result, 0);
    world_close(&world);
}

int main(int argc, char **argv)
{
    executor_fixture_main(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_wrong_requests), cmocka_unit_test(test_wrong_request_alone), cmocka_unit_test(test_broken_rings),
        cmocka_unit_test(test_released_plans), cmocka_unit_test(test_blocked_wake_up),     cmocka_unit_test(test_stolen_wake_up),
        cmocka_unit_test(test_bad_messages),
    };
    return cmocka_run_group_tests_name("executor: hostile", tests, NULL, NULL);
}
