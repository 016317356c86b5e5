/* Several threads on one context, several contexts in one process, and forked children. */
#include "client_fixture.h"

#include <sys/wait.h>

enum { THREADS = 4, ROUNDS = 200 };

struct worker {
    struct fake_client *client;
    pthread_mutex_t *order; /* collective calls of one group are ordered by the caller */
    int id;
};

/* What a thread returns when something was wrong; only the joining thread may fail the test. */
static int something;

static void *complain(const char *what)
{
    fprintf(stderr, "a thread failed: %s: %s\n", what, fake_text());
    return &something;
}

static void *allocate_and_free(void *arg)
{
    struct worker *worker = arg;
    void *pointers[4];

    for (int round = 0; round < ROUNDS / 4; round++) {
        for (int i = 0; i < 4; i++) {
            if (trtcoll_alloc(worker->client->ctx, 4096u * (unsigned)(worker->id + 1), &pointers[i]))
                return complain("alloc");
            memset(pointers[i], worker->id, 4096);
        }
        for (int i = 0; i < 4; i++)
            if (*(unsigned char *)pointers[i] != worker->id || trtcoll_free(worker->client->ctx, pointers[i]))
                return complain("free");
    }
    return NULL;
}

static void *run_and_wait(void *arg)
{
    struct worker *worker = arg;
    struct trtcoll_event *event;
    float in, out;
    int code;

    for (int round = 0; round < ROUNDS; round++) {
        in = (float)(worker->id * ROUNDS + round);
        out = -1;
        do {
            pthread_mutex_lock(worker->order);
            code = fake_run(worker->client, &in, &out, 1, &event);
            pthread_mutex_unlock(worker->order);
        } while (code == TRTCOLL_EAGAIN);
        if (code)
            return complain("run");
        if (round % 3 == 0)
            while ((code = trtcoll_event_query(event)) == TRTCOLL_EAGAIN)
                sched_yield();
        else
            code = trtcoll_event_wait(event, UINT32_MAX);
        trtcoll_event_put(event);
        if (code || out != in)
            return complain("wait");
    }
    return NULL;
}

static void join_all(pthread_t *threads, int count)
{
    void *complaint;

    for (int i = 0; i < count; i++) {
        assert_int_equal(pthread_join(threads[i], &complaint), 0);
        assert_null(complaint);
    }
}

/* Requests of several threads are outstanding on one socket. */
static void test_requests(void **state)
{
    struct fake_client client = fake_attach(*state, TCW_LANE_DIRECT, 1);
    struct worker workers[THREADS];
    pthread_t threads[THREADS];

    for (int i = 0; i < THREADS; i++) {
        workers[i] = (struct worker){.client = &client, .id = i};
        assert_int_equal(pthread_create(&threads[i], NULL, allocate_and_free, &workers[i]), 0);
    }
    join_all(threads, THREADS);
    trtcoll_ctx_close(client.ctx);
}

/* Whoever is awake takes the completions of all. */
static void test_waits(void **state)
{
    struct fake_client client = fake_attach(*state, TCW_LANE_SERVED, 1);
    pthread_mutex_t order = PTHREAD_MUTEX_INITIALIZER;
    struct worker workers[2 * THREADS];
    pthread_t threads[2 * THREADS];

    for (int i = 0; i < 2 * THREADS; i++) {
        workers[i] = (struct worker){.client = &client, .order = &order, .id = i};
        assert_int_equal(pthread_create(&threads[i], NULL, i < THREADS ? run_and_wait : allocate_and_free, &workers[i]), 0);
    }
    join_all(threads, 2 * THREADS);
    trtcoll_ctx_close(client.ctx);
}

/* The direct lane too may be entered from several threads, in an order that the caller keeps. */
static void test_direct(void **state)
{
    struct fake_client client = fake_attach(*state, TCW_LANE_DIRECT, 1);
    pthread_mutex_t order = PTHREAD_MUTEX_INITIALIZER;
    struct trtcoll_group_info info = {.size = sizeof(info)};
    struct worker workers[THREADS];
    pthread_t threads[THREADS];

    for (int i = 0; i < THREADS; i++) {
        workers[i] = (struct worker){.client = &client, .order = &order, .id = i};
        assert_int_equal(pthread_create(&threads[i], NULL, run_and_wait, &workers[i]), 0);
    }
    join_all(threads, THREADS);
    assert_int_equal(trtcoll_group_status(client.group, &info), 0);
    assert_int_equal(info.runs_finished, THREADS * ROUNDS);
    trtcoll_ctx_close(client.ctx);
}

/* One thread asks all the time while another one lives by the eventfd: what the first takes, the second does not miss. */
struct asked {
    struct trtcoll_event *_Atomic event;
    _Atomic bool stop;
};

static void *ask(void *arg)
{
    struct asked *asked = arg;
    struct trtcoll_event *event;

    while (!atomic_load(&asked->stop)) {
        event = atomic_load(&asked->event);
        if (event)
            trtcoll_event_query(event);
    }
    return NULL;
}

static void test_eventfd_beside_queries(void **state)
{
    struct fake_client client = fake_attach(*state, TCW_LANE_SERVED, 1);
    struct asked asked = {NULL, false};
    struct trtcoll_event *events[ROUNDS];
    struct pollfd readable = {.events = POLLIN};
    pthread_t threads[THREADS];
    float in = 3, out = 0;
    uint64_t value;

    assert_int_equal(trtcoll_group_fd(client.group, &readable.fd), 0);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, ask, &asked), 0);
    for (int round = 0; round < ROUNDS; round++) {
        assert_int_equal(fake_run(&client, &in, &out, 1, &events[round]), 0);
        atomic_store(&asked.event, events[round]);
        while (trtcoll_event_query(events[round]) == TRTCOLL_EAGAIN) {
            assert_int_equal(poll(&readable, 1, 5000), 1);
            assert_int_equal(read(readable.fd, &value, sizeof(value)), sizeof(value));
        }
    }
    atomic_store(&asked.stop, true);
    join_all(threads, THREADS);
    for (int round = 0; round < ROUNDS; round++) {
        assert_int_equal(trtcoll_event_wait(events[round], 0), 0);
        trtcoll_event_put(events[round]);
    }
    trtcoll_ctx_close(client.ctx);
}

/* Many wait for the same event. */
static void *wait_for(void *arg)
{
    return trtcoll_event_wait(arg, UINT32_MAX) ? complain("wait") : NULL;
}

static void test_one_event(void **state)
{
    struct fake *fake = *state;
    struct fake_client client = fake_attach(fake, TCW_LANE_SERVED, 1);
    struct trtcoll_event *event;
    pthread_t threads[THREADS];
    float in = 3, out = 0;

    for (int round = 0; round < 20; round++) {
        fake_hold(fake);
        assert_int_equal(fake_run(&client, &in, &out, 1, &event), 0);
        for (int i = 0; i < THREADS; i++)
            assert_int_equal(pthread_create(&threads[i], NULL, wait_for, event), 0);
        atomic_store(&fake->hold, false);
        join_all(threads, THREADS);
        trtcoll_event_put(event);
    }
    trtcoll_ctx_close(client.ctx);
}

/* Each thread has its own latest error. */
static void *fail_otherwise(void *arg)
{
    struct trtcoll_error error = TRTCOLL_ERROR_INIT;

    if (trtcoll_last_error(&error) != 0)
        return complain("a new thread has no error");
    if (trtcoll_alloc(arg, 0, NULL) != TRTCOLL_EINVAL || trtcoll_last_error(&error) != TRTCOLL_EINVAL)
        return complain("its own error");
    return NULL;
}

static void test_errors_per_thread(void **state)
{
    struct fake_client client = fake_attach(*state, TCW_LANE_DIRECT, 1);
    struct trtcoll_error error = TRTCOLL_ERROR_INIT;
    pthread_t thread;
    int fd;

    assert_int_equal(trtcoll_group_fd(client.group, &fd), TRTCOLL_ENOENT);
    assert_int_equal(pthread_create(&thread, NULL, fail_otherwise, client.ctx), 0);
    join_all(&thread, 1);
    assert_int_equal(trtcoll_last_error(&error), TRTCOLL_ENOENT);
    assert_int_equal(error.rank, TRTCOLL_RANK_NONE);
    trtcoll_ctx_close(client.ctx);
}

struct counted {
    _Atomic long live, total;
};

static void *counted_allocate(void *arg, size_t bytes)
{
    struct counted *counted = arg;

    counted->live++;
    counted->total++;
    return malloc(bytes);
}

static void counted_release(void *arg, void *pointer)
{
    ((struct counted *)arg)->live--;
    free(pointer);
}

static void test_allocator(void **state)
{
    struct fake *fake = *state;
    struct counted counted = {0};
    struct trtcoll_allocator allocator = {counted_allocate, counted_release, &counted};
    struct trtcoll_ctx_options options = TRTCOLL_CTX_OPTIONS_INIT;
    struct trtcoll_event *event;
    struct trtcoll_group *group;
    struct trtcoll_ctx *ctx;
    float in = 1, out = 0;
    void *memory;

    options.socket_path = fake->path;
    options.allocator = &allocator;
    assert_int_equal(trtcoll_ctx_open(&options, &ctx), 0);
    assert_int_equal(trtcoll_alloc(ctx, 100, &memory), 0);
    atomic_store(&fake->lane, TCW_LANE_SERVED);
    assert_int_equal(trtcoll_group_create(ctx, "g", 1, 0, 0, &group), 0);
    assert_int_equal(trtcoll_all_reduce(group, &in, &out, 1, TRTCOLL_FP32, TRTCOLL_SUM), 0);
    assert_true(counted.total >= 5);
    struct fake_client client = {.ctx = ctx, .group = group};
    struct trtcoll_all_reduce_desc desc = TRTCOLL_ALL_REDUCE_DESC_INIT;
    desc.dtype = TRTCOLL_FP32;
    assert_int_equal(trtcoll_plan_create_all_reduce(group, &desc, &client.plan), 0);
    fake_hold(fake);
    assert_int_equal(fake_run(&client, &in, &out, 1, &event), 0);
    trtcoll_ctx_close(ctx); /* with everything still open */
    assert_int_equal(counted.live, 0);
}

/* A child may not use what it inherited, and letting go of it leaves the parent alone. */
static void test_fork(void **state)
{
    struct fake *fake = *state;
    struct fake_client client = fake_attach(fake, TCW_LANE_SERVED, 1);
    struct trtcoll_event *event;
    float in = 4, out = 0;
    void *memory;
    int status;
    pid_t child;

    assert_int_equal(trtcoll_alloc(client.ctx, 4096, &memory), 0);
    fake_hold(fake);
    assert_int_equal(fake_run(&client, &in, &out, 1, &event), 0);
    child = fork();
    if (!child) {
        struct trtcoll_ctx_info info = {.size = sizeof(info)};
        struct trtcoll_group *group;
        void *more;
        int wrong = 0;

        wrong |= trtcoll_ctx_info(client.ctx, &info) != TRTCOLL_EFORK;
        wrong |= trtcoll_alloc(client.ctx, 1, &more) != TRTCOLL_EFORK;
        wrong |= trtcoll_group_create(client.ctx, "h", 1, 0, 0, &group) != TRTCOLL_EFORK;
        wrong |= trtcoll_group_leave(client.group) != TRTCOLL_EFORK;
        wrong |= trtcoll_plan_release(client.plan) != TRTCOLL_EFORK;
        wrong |= fake_run(&client, &in, &out, 1, NULL) != TRTCOLL_EFORK;
        wrong |= trtcoll_event_wait(event, 0) != TRTCOLL_EFORK;
        wrong |= trtcoll_event_query(event) != TRTCOLL_EFORK;
        wrong |= trtcoll_barrier(client.group) != TRTCOLL_EFORK;
        wrong |= trtcoll_last_error(NULL) != TRTCOLL_EFORK;
        trtcoll_event_put(event);
        trtcoll_ctx_close(client.ctx);
        _exit(wrong);
    }
    assert_true(child > 0);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    atomic_store(&fake->hold, false);
    assert_int_equal(trtcoll_event_wait(event, 5000), 0);
    assert_true(out == 4);
    memset(memory, 1, 4096);
    assert_int_equal(trtcoll_free(client.ctx, memory), 0);
    assert_int_equal(fake_count(fake, TCW_MSG_GROUP_LEAVE), 0);
    trtcoll_event_put(event);
    trtcoll_ctx_close(client.ctx);
}

/* The parent's threads wait on locks and conditions that the child inherits in that state. */
static void test_fork_while_waiting(void **state)
{
    struct fake *fake = *state;
    struct fake_client client = fake_attach(fake, TCW_LANE_SERVED, 1);
    struct trtcoll_event *event;
    pthread_t threads[THREADS];
    float in = 4, out = 0;
    int status;
    pid_t child;

    fake_hold(fake);
    assert_int_equal(fake_run(&client, &in, &out, 1, &event), 0);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, wait_for, event), 0);
    for (int round = 0; round < 20; round++) {
        poll(NULL, 0, round); /* whatever the threads are doing now */
        child = fork();
        if (!child) {
            alarm(20); /* a hang of the child fails the test */
            trtcoll_ctx_close(client.ctx);
            _exit(0);
        }
        assert_true(child > 0);
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    }
    atomic_store(&fake->hold, false);
    join_all(threads, THREADS);
    assert_true(out == 4);
    trtcoll_event_put(event);
    trtcoll_ctx_close(client.ctx);
}

#define with_fake(test) cmocka_unit_test_setup_teardown(test, fake_setup, fake_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        with_fake(test_requests),  with_fake(test_waits),     with_fake(test_eventfd_beside_queries),
        with_fake(test_direct),    with_fake(test_one_event), with_fake(test_errors_per_thread),
        with_fake(test_allocator), with_fake(test_fork),      with_fake(test_fork_while_waiting),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
