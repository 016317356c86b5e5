/* Executors as processes: death, replacement, abort, deadlines, detaching under load, idle exit, and nothing left behind. */
#include "executor_fixture.h"

#include <linux/io_uring.h>
#include <sys/resource.h>
#include <sys/syscall.h>

static void quick_group(struct world *world)
{
    world_open_group(world, 2);
}

/* Rank 0 runs and waits for rank 1, who does not come. */
static void start_waiting(struct world *world)
{
    uint64_t before = atomic_load(&world->ranks[0].page->runs_started);
    world_submit_sum(world, 0, 2, 0, 65536, 1);
    while (atomic_load(&world->ranks[0].page->runs_started) == before)
        sched_yield();
}

static void test_starts_on_first_use(void **state)
{
    (void)state;
    struct world world;
    world_open(&world, 2);
    uv_run(&world.loop, UV_RUN_NOWAIT);
    assert_int_equal(tcd_executor_pid(world.ranks[0].executor), 0);
    /* Nothing to undo where nothing runs: done, later in the loop, without a process. */
    struct tcd_ex_message gone = world_message(&world, 0, TCD_EX_CLIENT_GONE), alloc = world_message(&world, 0, TCD_EX_ALLOC);
    struct world_answer answer = {.fd = -1};
    assert_int_equal(tcd_executor_request(world.ranks[0].executor, &gone, NULL, 0, world_on_answer, &answer), 0);
    assert_false(answer.done);
    WORLD_UNTIL(&world, answer.done);
    assert_int_equal(answer.message.code, 0);
    assert_int_equal(tcd_executor_pid(world.ranks[0].executor), 0);
    alloc.value = 5000;
    assert_int_equal(world_call(&world, 0, &alloc, NULL, 0, &answer), 0);
    assert_int_equal(answer.message.value, 8192);
    close(answer.fd);
    assert_true(tcd_executor_pid(world.ranks[0].executor) > 0);
    assert_int_equal(tcd_executor_pid(world.ranks[1].executor), 0);
    assert_true(tcd_executor_heartbeat_ns(world.ranks[0].executor) != 0);
    world_close(&world);
}

/* Nobody takes for done what only a process could have done: where none runs, one is started and asked. */
static void test_nothing_is_done_by_nobody(void **state)
{
    (void)state;
    static const uint32_t opcodes[] = {TCD_EX_MULTICAST, TCD_EX_MULTICAST_JOIN, TCD_EX_MULTICAST_BIND};
    for (unsigned i = 0; i < sizeof opcodes / sizeof opcodes[0]; ++i) {
        struct world world;
        world_open(&world, 1);
        struct tcd_ex_message message = world_message(&world, 0, opcodes[i]);
        const int fds[2] = {STDIN_FILENO, STDIN_FILENO};
        struct world_answer answer;
        message.nranks = 1;
        message.value = 2 << 20;
        assert_int_equal(world_call(&world, 0, &message, fds, i, &answer), TCW_ENOTSUP); /* a host device has none */
        assert_true(tcd_executor_pid(world.ranks[0].executor) > 0);
        world_close(&world);
    }
}

/* More requests at once than the socket takes: all are answered, in order. */
static void test_many_requests_at_once(void **state)
{
    (void)state;
    enum { MANY = 2000 };
    static struct world_answer answers[MANY];
    struct world world;
    world_open(&world, 1);
    struct tcd_ex_message alloc = world_message(&world, 0, TCD_EX_ALLOC), gone = world_message(&world, 0, TCD_EX_CLIENT_GONE);
    alloc.value = 4096;
    memset(answers, 0, sizeof answers);
    struct world_answer first;
    assert_int_equal(world_call(&world, 0, &alloc, NULL, 0, &first), 0);
    close(first.fd);
    for (unsigned i = 0; i < MANY; ++i)
        assert_int_equal(tcd_executor_request(world.ranks[0].executor, &gone, NULL, 0, world_on_answer, &answers[i]), 0);
    WORLD_UNTIL(&world, answers[MANY - 1].done);
    for (unsigned i = 0; i < MANY; ++i)
        assert_int_equal(answers[i].count, 1);
    world_close(&world);
}

struct ending {
    const struct tcd_executor *executor;
    unsigned answers;
    pid_t pid; /* when the answer came */
};

static void on_answer_after_end(void *arg, const struct tcd_ex_message *message, int fd)
{
    struct ending *ending = arg;
    (void)message;
    assert_int_equal(fd, -1);
    ++ending->answers;
    ending->pid = tcd_executor_pid(ending->executor);
}

static void test_killed_while_running(void **state)
{
    (void)state;
    struct world world;
    quick_group(&world);
    start_waiting(&world);
    struct tcd_executor *executor = world.ranks[0].executor;
    pid_t pid = tcd_executor_pid(executor);
    /* One request is on its way when it dies. */
    struct tcd_ex_message drop = world_message(&world, 0, TCD_EX_MEM_DROP);
    struct world_answer dropped = {.fd = -1};
    drop.handle = world.ranks[0].memory;
    assert_int_equal(tcd_executor_request(executor, &drop, NULL, 0, world_on_answer, &dropped), 0);
    uint64_t began = tcw_now_ns();
    assert_int_equal(kill(pid, SIGKILL), 0);
    WORLD_UNTIL(&world, world.deaths == 1);
    assert_true(tcw_now_ns() - began < 250000000u);
    assert_true(WIFSIGNALED(world.death_status) && WTERMSIG(world.death_status) == SIGKILL);
    /* Answers come when it has ended and uses its memory no more, also to what is asked in between. */
    struct ending late = {.executor = executor, .pid = pid};
    assert_int_equal(tcd_executor_request(executor, &drop, NULL, 0, on_answer_after_end, &late), 0);
    WORLD_UNTIL(&world, dropped.count == 1 && late.answers == 1);
    assert_int_equal(dropped.message.code, TCW_EEXECUTOR);
    assert_int_equal(late.pid, 0);
    assert_int_equal(tcd_executor_pid(executor), 0);

    /* The next use starts the next one, with a new membership; the other side gets its own too. */
    assert_int_equal(world_detach(&world, 1), 0);
    world_unmap(&world.ranks[0]);
    for (unsigned r = 0; r < 2; ++r) {
        world.ranks[r].attachment += 10;
        world_attach(&world, r);
    }
    assert_int_equal(tcd_executor_restarts(executor), 1);
    assert_true(tcd_executor_pid(executor) != pid);
    struct tcd_ex_message memory = world_message(&world, 0, TCD_EX_MEM);
    memory.handle = world.ranks[0].memory;
    memory.value = CLIENT_BYTES;
    assert_int_equal(world_call(&world, 0, &memory, &world.ranks[0].memory_fd, 1, NULL), 0);
    world_add_workspace(&world, 1, world.workspace_bytes);
    struct tcw_plan_desc desc = plan_all_reduce(TCW_FP32, TCW_FUSION_NONE, 64, 256);
    world_plan(&world, 9, &desc, 1);
    for (unsigned r = 0; r < 2; ++r)
        world_submit_sum(&world, r, 2, 0, 65536, 1);
    for (unsigned r = 0; r < 2; ++r)
        assert_int_equal(world_reap(&world, r).result, 0);
    world_close(&world);
}

static void test_dies_too_often(void **state)
{
    (void)state;
    struct world world;
    world_open(&world, 1);
    struct tcd_executor *executor = world.ranks[0].executor;
    tcd_executor_configure(executor, 60, 2);
    struct tcd_ex_message alloc = world_message(&world, 0, TCD_EX_ALLOC);
    alloc.value = 4096;
    for (unsigned i = 1; i <= 3; ++i) {
        struct world_answer answer;
        assert_false(tcd_executor_failed(executor));
        assert_int_equal(world_call(&world, 0, &alloc, NULL, 0, &answer), 0);
        close(answer.fd);
        assert_int_equal(kill(tcd_executor_pid(executor), SIGKILL), 0);
        WORLD_UNTIL(&world, world.deaths == i);
    }
    assert_true(tcd_executor_failed(executor));
    assert_int_equal(tcd_executor_request(executor, &alloc, NULL, 0, world_on_answer, NULL), TCW_EEXECUTOR);
    assert_int_equal(tcd_executor_restarts(executor), 2);
    world_close(&world);
}

static void test_program_that_is_not_there(void **state)
{
    (void)state;
    struct world world;
    world_open(&world, 1);
    struct tcd_executor *executor;
    struct tcd_executor_callbacks callbacks = {world_on_died, world_on_report, &world, NULL};
    assert_int_equal(tcd_executor_create(&world.loop, "/nonexistent/trtcolld", 7, &callbacks, &executor), 0);
    struct tcd_ex_message alloc = {.opcode = TCD_EX_ALLOC, .value = 4096};
    assert_int_equal(tcd_executor_request(executor, &alloc, NULL, 0, world_on_answer, NULL), TCW_EEXECUTOR);
    tcd_executor_destroy(executor, 100, world_on_closed, &world);
    WORLD_UNTIL(&world, world.closed == 1);
    world.closed = 0;
    world_close(&world);
}

static void test_abort(void **state)
{
    (void)state;
    struct world world;
    quick_group(&world);
    start_waiting(&world);
    for (unsigned i = 0; i < 10; ++i)
        world_submit_sum(&world, 0, 2, 0, 65536, 100 + i);
    struct tcd_ex_message abort = world_message(&world, 0, TCD_EX_ABORT);
    abort.code = TCW_EPEERDEAD;
    abort.rank = 1;
    uint64_t began = tcw_now_ns();
    assert_int_equal(tcd_executor_request(world.ranks[0].executor, &abort, NULL, 0, NULL, NULL), 0);
    for (unsigned i = 0; i < 11; ++i) {
        struct tcw_cqe cqe = world_reap(&world, 0);
        assert_int_equal(cqe.result, TCW_EPEERDEAD);
        assert_int_equal(cqe.culprit, 1);
        assert_int_equal(cqe.user_data, i ? 99 + i : 1);
    }
    assert_true(tcw_now_ns() - began < 250000000u);
    assert_int_equal(world_detach(&world, 0), 0);
    assert_int_equal(world.report_count, 0); /* the control process knows: it was the one to say so */
    world_close(&world);
}

static void test_deadline_names_the_late_rank(void **state)
{
    (void)state;
    struct world world;
    quick_group(&world);
    for (unsigned r = 0; r < 2; ++r)
        atomic_store(&world.ranks[r].page->deadline_ns, 50000000u);
    for (unsigned run = 0; run < 3; ++run) {
        for (unsigned r = 0; r < 2; ++r)
            world_submit_sum(&world, r, 2, 0, 65536, 1);
        for (unsigned r = 0; r < 2; ++r)
            assert_int_equal(world_reap(&world, r).result, 0);
    }
    uint64_t began = tcw_now_ns();
    start_waiting(&world);
    struct tcw_cqe cqe = world_reap(&world, 0);
    uint64_t took = tcw_now_ns() - began;
    assert_int_equal(cqe.result, TCW_ETIMEOUT);
    assert_int_equal(cqe.culprit, 1);
    assert_true(took >= 50000000u && took < 2000000000u);
    WORLD_UNTIL(&world, world.report_count == 1);
    assert_int_equal(world.reports[0].message.opcode, TCD_EX_FAULT);
    assert_int_equal(world.reports[0].message.code, TCW_ETIMEOUT);
    assert_int_equal(world.reports[0].message.rank, 1);
    assert_int_equal(world.reports[0].message.step, 3);
    assert_int_equal(world.reports[0].message.attachment, world.ranks[0].attachment);
    assert_int_equal(atomic_load(&world.ranks[0].page->state), TCW_MEMBER_FAILED);
    world_close(&world);
}

/* While one membership of an executor waits, another one works, and a third comes and goes. */
static void test_memberships_are_independent(void **state)
{
    (void)state;
    struct world world;
    quick_group(&world);
    start_waiting(&world);
    struct world_rank first = world.ranks[0];
    world.ranks[0].ring_base = NULL;
    world.ranks[0].attachment = 500;
    world.nranks = 1;
    world_attach(&world, 0);
    world_add_workspace(&world, 1, world.workspace_bytes);
    struct tcw_plan_desc desc = plan_all_reduce(TCW_FP32, TCW_FUSION_NONE, 64, 256);
    world_plan(&world, 9, &desc, 1);
    for (unsigned i = 0; i < 20; ++i) {
        world_submit_sum(&world, 0, 2, 0, 131072, i);
        assert_int_equal(world_reap(&world, 0).result, 0);
    }
    assert_int_equal(world_detach(&world, 0), 0);
    world.ranks[0] = first;
    world.nranks = 2;
    world_submit_sum(&world, 1, 2, 0, 65536, 1);
    for (unsigned r = 0; r < 2; ++r)
        assert_int_equal(world_reap(&world, r).result, 0);
    world_close(&world);
}

/* Detached in the middle of waiting and of work, again and again: quick, and neither a descriptor nor a mapping stays. */
static void test_detach_under_load(void **state)
{
    (void)state;
    struct world world;
    quick_group(&world);
    unsigned fds[2] = {0}, mappings[2] = {0};
    for (unsigned round = 0; round < 12; ++round) {
        for (unsigned i = 0; i < 20; ++i)
            world_submit_sum(&world, 0, 2, 0, 65536, i);
        for (unsigned i = 0; i < round; ++i)
            world_submit_sum(&world, 1, 2, 0, 65536, i);
        uint64_t began = tcw_now_ns();
        for (unsigned r = 0; r < 2; ++r)
            assert_int_equal(world_detach(&world, r), 0);
        assert_true(tcw_now_ns() - began < 1000000000u);
        for (unsigned r = 0; r < 2; ++r) {
            pid_t pid = tcd_executor_pid(world.ranks[r].executor);
            if (round == 0) {
                fds[r] = world_count_fds(pid);
                mappings[r] = world_count_mappings(pid);
            }
            assert_int_equal(world_count_fds(pid), fds[r]);
            assert_int_equal(world_count_mappings(pid), mappings[r]);
            world.ranks[r].attachment += 10;
            world_attach(&world, r);
        }
        world_add_workspace(&world, 1, world.workspace_bytes);
        struct tcw_plan_desc desc = plan_all_reduce(TCW_FP32, TCW_FUSION_NONE, 64, 256);
        world_plan(&world, 9, &desc, 1);
    }
    assert_int_equal(mappings[0], 1); /* the client's memory, which no membership owns */
    struct tcd_ex_message gone = world_message(&world, 0, TCD_EX_CLIENT_GONE);
    assert_int_equal(world_detach(&world, 0), 0);
    assert_int_equal(world_call(&world, 0, &gone, NULL, 0, NULL), 0);
    assert_int_equal(world_count_mappings(tcd_executor_pid(world.ranks[0].executor)), 0);
    world_close(&world);
}

static void test_idle_exit(void **state)
{
    (void)state;
    struct world world;
    world_open(&world, 1);
    struct tcd_executor *executor = world.ranks[0].executor;
    tcd_executor_configure(executor, 0, 10);
    struct tcd_ex_message alloc = world_message(&world, 0, TCD_EX_ALLOC);
    struct world_answer answer;
    alloc.value = 4096;
    assert_int_equal(world_call(&world, 0, &alloc, NULL, 0, &answer), 0);
    pid_t pid = tcd_executor_pid(executor);
    WORLD_UNTIL(&world, tcd_executor_pid(executor) == 0);
    assert_int_equal(world.deaths, 0);
    /* What it had allocated lives on. */
    unsigned char *base = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, answer.fd, 0);
    assert_true(base != MAP_FAILED);
    base[4095] = 1;
    munmap(base, 4096);
    close(answer.fd);
    /* One that holds something stays. */
    world_register(&world, 0, 5);
    assert_true(tcd_executor_pid(executor) != pid);
    assert_int_equal(tcd_executor_restarts(executor), 0);
    pid = tcd_executor_pid(executor);
    uint64_t until = tcw_now_ns() + 2500000000u; /* two heartbeats */
    WORLD_UNTIL(&world, tcw_now_ns() > until);
    assert_int_equal(tcd_executor_pid(executor), pid);
    world_close(&world);
}

/* An executor that is stopped does not answer; destroying it takes the grace and no longer. */
static void test_destroy_kills_the_stuck(void **state)
{
    (void)state;
    struct world world;
    world_open(&world, 1);
    struct tcd_ex_message alloc = world_message(&world, 0, TCD_EX_ALLOC), ping = {.opcode = TCD_EX_PING};
    struct world_answer answer, never = {.fd = -1};
    alloc.value = 4096;
    assert_int_equal(world_call(&world, 0, &alloc, NULL, 0, &answer), 0);
    close(answer.fd);
    pid_t pid = tcd_executor_pid(world.ranks[0].executor);
    assert_int_equal(kill(pid, SIGSTOP), 0);
    assert_int_equal(tcd_executor_request(world.ranks[0].executor, &ping, NULL, 0, world_on_answer, &never), 0);
    /* In time of the loop, which counts whole milliseconds: by a finer clock the grace may seem up to one too short. */
    uv_update_time(&world.loop);
    uint64_t began_ms = uv_now(&world.loop);
    tcd_executor_destroy(world.ranks[0].executor, 200, world_on_closed, &world);
    assert_int_equal(tcd_executor_request(world.ranks[0].executor, &ping, NULL, 0, world_on_answer, NULL), TCW_EEXECUTOR);
    WORLD_UNTIL(&world, world.closed == 1);
    uint64_t took_ms = uv_now(&world.loop) - began_ms;
    assert_true(took_ms >= 200 && took_ms < 2000);
    assert_int_equal(never.count, 1);
    assert_int_equal(never.message.code, TCW_EEXECUTOR);
    assert_int_equal(world.deaths, 0);
    assert_int_equal(kill(pid, 0), -1);
    world.nranks = 0;
    world.closed = 0;
    world_close(&world);
}

/* Without its parent an executor ends, whatever it is doing. */
static void test_hang_up(void **state)
{
    (void)state;
    int report[2];
    assert_int_equal(pipe(report), 0);
    pid_t parent = fork();
    if (parent == 0) {
        struct world world;
        quick_group(&world);
        start_waiting(&world);
        for (unsigned r = 0; r < 2; ++r) {
            pid_t pid = tcd_executor_pid(world.ranks[r].executor);
            if (write(report[1], &pid, sizeof pid) != sizeof pid)
                _exit(1);
        }
        raise(SIGKILL);
    }
    close(report[1]);
    pid_t pids[2];
    assert_int_equal(read(report[0], pids, sizeof pids[0]), sizeof pids[0]);
    assert_int_equal(read(report[0], pids + 1, sizeof pids[1]), sizeof pids[1]);
    int status;
    assert_int_equal(waitpid(parent, &status, 0), parent);
    assert_true(WIFSIGNALED(status));
    uint64_t until = tcw_now_ns() + 5000000000u;
    for (unsigned r = 0; r < 2; ++r) {
        char path[64];
        snprintf(path, sizeof path, "/proc/%d/exe", (int)pids[r]);
        char target[8];
        while (readlink(path, target, sizeof target) >= 0 && tcw_now_ns() < until)
            usleep(1000);
        assert_true(tcw_now_ns() < until);
    }
    close(report[0]);
}

static void on_tick(uv_timer_t *timer)
{
    ++*(unsigned *)timer->data;
}

/*
 * Stopped: replaced within the 15 s that the watchdog of the service allows for. In time of this loop, as silence is counted: what a
 * machine that stands still takes away, the executor does not have either.
 */
static void test_silent(void **state)
{
    (void)state;
    enum { TICK_MS = 100 };
    struct world world;
    uv_timer_t ticker;
    unsigned ticks = 0;
    quick_group(&world);
    uv_timer_init(&world.loop, &ticker);
    ticker.data = &ticks;
    uv_update_time(&world.loop);
    uv_timer_start(&ticker, on_tick, TICK_MS, TICK_MS);
    assert_int_equal(kill(tcd_executor_pid(world.ranks[0].executor), SIGSTOP), 0);
    WORLD_UNTIL(&world, world.deaths == 1);
    assert_true(WIFSIGNALED(world.death_status) && WTERMSIG(world.death_status) == SIGKILL);
    uv_close((uv_handle_t *)&ticker, NULL);
    assert_true(ticks < 15000 / TICK_MS);
    WORLD_UNTIL(&world, tcd_executor_pid(world.ranks[0].executor) == 0);
    struct tcd_ex_message alloc = world_message(&world, 0, TCD_EX_ALLOC);
    struct world_answer answer;
    alloc.value = 4096;
    assert_int_equal(world_call(&world, 0, &alloc, NULL, 0, &answer), 0);
    close(answer.fd);
    world_close(&world);
}

struct order {
    const struct world *world;
    unsigned answers, deaths_before;
    int code;
};

static void on_last_answer(void *arg, const struct tcd_ex_message *message, int fd)
{
    struct order *order = arg;
    assert_int_equal(fd, -1);
    ++order->answers;
    order->deaths_before = order->world->deaths;
    order->code = message->code;
}

/* Whoever gets the answer EEXECUTOR finds everything else that went with the process marked as lost already. */
static void test_death_comes_before_answers(void **state)
{
    (void)state;
    struct world world;
    struct order order = {.world = &world};
    quick_group(&world);
    struct tcd_ex_message ping = {.opcode = TCD_EX_PING};
    pid_t pid = tcd_executor_pid(world.ranks[0].executor);
    assert_int_equal(kill(pid, SIGSTOP), 0);
    assert_int_equal(tcd_executor_request(world.ranks[0].executor, &ping, NULL, 0, on_last_answer, &order), 0);
    assert_int_equal(kill(pid, SIGKILL), 0);
    WORLD_UNTIL(&world, order.answers == 1);
    assert_int_equal(order.code, TCW_EEXECUTOR);
    assert_int_equal(order.deaths_before, 1);
    world_close(&world);
}

/* A request that the kernel does not send fails like any other: with one answer, and not inside the call that made it. */
static void test_unsendable(void **state)
{
    (void)state;
    struct world world;
    struct io_uring_params params = {0};
    quick_group(&world);
    int ring = (int)syscall(SYS_io_uring_setup, 1, &params); /* descriptors of this kind cannot be passed on, since Linux 6.7 */
    struct tcd_ex_message ping = {.opcode = TCD_EX_PING};
    struct world_answer answer = {.fd = -1};
    if (ring >= 0) {
        assert_int_equal(tcd_executor_request(world.ranks[0].executor, &ping, &ring, 1, world_on_answer, &answer), 0);
        assert_false(answer.done);
        WORLD_UNTIL(&world, answer.done);
        assert_int_equal(answer.count, 1);
        close(ring);
    }
    assert_int_equal(world_call(&world, 0, &ping, NULL, 0, NULL), 0);
    assert_int_equal(world.deaths, 0);
    world_close(&world);
}

/* No descriptor is left for the memory that an executor sends: that request fails, nothing else does. */
static void test_no_descriptor_left(void **state)
{
    (void)state;
    struct world world;
    struct rlimit limit, none;
    quick_group(&world);
    struct tcd_ex_message alloc = world_message(&world, 0, TCD_EX_ALLOC);
    struct world_answer answer;
    alloc.value = 4096;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    none = limit;
    int free_one = dup(0);
    assert_true(free_one >= 0);
    close(free_one);
    none.rlim_cur = (rlim_t)free_one; /* everything below is taken */
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    int code = world_call(&world, 0, &alloc, NULL, 0, &answer);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    assert_int_equal(code, TCW_ENOMEM);
    assert_int_equal(answer.fd, -1);
    assert_true(answer.message.text[0] != 0);
    assert_int_equal(world.deaths, 0);
    assert_int_equal(world_call(&world, 0, &alloc, NULL, 0, &answer), 0);
    close(answer.fd);
    world_close(&world);
}

int main(int argc, char **argv)
{
    executor_fixture_main(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_starts_on_first_use),
        cmocka_unit_test(test_nothing_is_done_by_nobody),
        cmocka_unit_test(test_many_requests_at_once),
        cmocka_unit_test(test_killed_while_running),
        cmocka_unit_test(test_dies_too_often),
        cmocka_unit_test(test_program_that_is_not_there),
        cmocka_unit_test(test_abort),
        cmocka_unit_test(test_deadline_names_the_late_rank),
        cmocka_unit_test(test_memberships_are_independent),
        cmocka_unit_test(test_detach_under_load),
        cmocka_unit_test(test_idle_exit),
        cmocka_unit_test(test_destroy_kills_the_stuck),
        cmocka_unit_test(test_hang_up),
        cmocka_unit_test(test_silent),
        cmocka_unit_test(test_death_comes_before_answers),
        cmocka_unit_test(test_unsendable),
        cmocka_unit_test(test_no_descriptor_left),
    };
    return cmocka_run_group_tests_name("executor: process", tests, NULL, NULL);
}
