/* What applications do around the library: fork, threads, several contexts, event loops, old and C++ programs. */
#include "cases.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- fork ---- */

static void forked_child(struct trtcoll_ctx *ctx, struct trtcoll_group *group, struct trtcoll_plan *plan, struct trtcoll_event *event)
{
    struct trtcoll_run_args args = TRTCOLL_RUN_ARGS_INIT;
    struct trtcoll_ctx_info ctx_info = {.size = sizeof(ctx_info)};
    struct trtcoll_group_info group_info = {.size = sizeof(group_info)};
    struct trtcoll_barrier_desc desc = TRTCOLL_BARRIER_DESC_INIT;
    struct trtcoll_group *other = NULL;
    struct trtcoll_plan *made = NULL;
    void *pointer = NULL;
    int fd = -1;
    CHECK_CODE(trtcoll_plan_run(plan, &args, NULL, NULL), TRTCOLL_EFORK);
    CHECK_CODE(trtcoll_event_wait(event, 10), TRTCOLL_EFORK);
    CHECK_CODE(trtcoll_event_query(event), TRTCOLL_EFORK);
    CHECK_CODE(trtcoll_group_create(ctx, "child", 1, 0, 10, &other), TRTCOLL_EFORK);
    CHECK_CODE(trtcoll_plan_create_barrier(group, &desc, &made), TRTCOLL_EFORK);
    CHECK_CODE(trtcoll_alloc(ctx, 4096, &pointer), TRTCOLL_EFORK);
    CHECK_CODE(trtcoll_ctx_info(ctx, &ctx_info), TRTCOLL_EFORK);
    CHECK_CODE(trtcoll_group_status(group, &group_info), TRTCOLL_EFORK);
    CHECK_CODE(trtcoll_group_abort(group, "from a child"), TRTCOLL_EFORK);
    CHECK_CODE(trtcoll_group_reform(group, 0, 10), TRTCOLL_EFORK);
    CHECK_CODE(trtcoll_group_fd(group, &fd), TRTCOLL_EFORK);
    CHECK_CODE(trtcoll_barrier(group), TRTCOLL_EFORK);
    CHECK_CODE(trtcoll_group_leave(group), TRTCOLL_EFORK);
    CHECK_CODE(trtcoll_plan_release(plan), TRTCOLL_EFORK);
    trtcoll_ctx_close(ctx); /* frees local memory, says nothing to the daemon */
}

static void fork_body(struct proc_me *me)
{
    struct trtcoll_ctx *ctx = proc_open(me, -1);
    struct trtcoll_group *group = proc_group(me, ctx, "fork");
    struct trtcoll_barrier_desc desc = TRTCOLL_BARRIER_DESC_INIT;
    struct trtcoll_run_args args = TRTCOLL_RUN_ARGS_INIT;
    struct trtcoll_plan *plan = NULL;
    struct trtcoll_event *event = NULL;
    desc.lane = TRTCOLL_LANE_SERVED;
    CHECK_OK(trtcoll_plan_create_barrier(group, &desc, &plan));
    if (me->rank == 0)
        CHECK_OK(trtcoll_plan_run(plan, &args, NULL, &event)); /* in flight while the child lives and dies */
    else
        CHECK_OK(trtcoll_plan_run(plan, &args, NULL, &event));
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        forked_child(ctx, group, plan, event);
        /* A child may have a context of its own. */
        struct proc_me mine = *me;
        char name[32];
        struct trtcoll_group *own = NULL;
        struct trtcoll_ctx *fresh = proc_open(&mine, -1);
        snprintf(name, sizeof(name), "child-%d", me->rank);
        CHECK_OK(trtcoll_group_create(fresh, name, 1, 0, 0, &own));
        proc_sum(own, TRTCOLL_LANE_SERVED, 10);
        trtcoll_ctx_close(fresh);
        _exit(0);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child);
    CHECK_MSG(status == 0, "the child failed: %s", me->slot->text);
    CHECK_OK(trtcoll_event_wait(event, UINT32_MAX));
    trtcoll_event_put(event);
    proc_sum(group, TRTCOLL_LANE_DIRECT, 100);
    proc_sum(group, TRTCOLL_LANE_SERVED, 100);
    trtcoll_ctx_close(ctx);
}

static void test_fork(void **state)
{
    (void)state;
    struct proc_daemon *daemon = proc_daemon_start(&(struct proc_settings){.devices = 2});
    proc_run_all(daemon, 2, fork_body, NULL, 30000);
    proc_daemon_finish(daemon);
}

/* ---- threads and contexts ---- */

enum { THREADS = 4, ROUNDS = 25 };

struct worker {
    struct proc_me *me;
    struct trtcoll_ctx *ctx;
    unsigned number;
    bool own_context;
};

/* Each thread has its own group, all threads share one context; or each has a context of its own. */
static void *worker_main(void *arg)
{
    struct worker *worker = arg;
    struct trtcoll_ctx *ctx = worker->own_context ? proc_open(worker->me, -1) : worker->ctx;
    struct trtcoll_group *group = NULL;
    char name[32];
    snprintf(name, sizeof(name), "thread-%u", worker->number);
    CHECK_OK(trtcoll_group_create(ctx, name, (uint32_t)worker->me->nranks, (uint32_t)worker->me->rank, 0, &group));
    for (unsigned i = 0; i < ROUNDS; i++)
        proc_sum(group, (worker->number + i) % 2 ? TRTCOLL_LANE_DIRECT : TRTCOLL_LANE_SERVED, 10 + 100 * worker->number);
    /* The latest failure belongs to the thread that had it. */
    struct trtcoll_group *none = NULL;
    snprintf(name, sizeof(name), "nothing-%u", worker->number);
    CHECK_CODE(trtcoll_group_join(ctx, name, -1, 10, &none), TRTCOLL_ENOENT);
    CHECK_MSG(strstr(proc_last_error().text, name) != NULL, "thread %u reads another thread's error: %s", worker->number,
              proc_last_error().text);
    CHECK_OK(trtcoll_group_leave(group));
    if (worker->own_context)
        trtcoll_ctx_close(ctx);
    return NULL;
}

static void threads_body(struct proc_me *me)
{
    for (unsigned own = 0; own < 2; own++) {
        struct trtcoll_ctx *ctx = proc_open(me, -1);
        struct worker workers[THREADS];
        pthread_t threads[THREADS];
        for (unsigned i = 0; i < THREADS; i++) {
            workers[i] = (struct worker){me, ctx, i, own};
            CHECK_EQ(pthread_create(&threads[i], NULL, worker_main, &workers[i]), 0);
        }
        for (unsigned i = 0; i < THREADS; i++)
            CHECK_EQ(pthread_join(threads[i], NULL), 0);
        trtcoll_ctx_close(ctx);
        proc_barrier(me);
    }
}

static void test_threads(void **state)
{
    (void)state;
    struct proc_daemon *daemon = proc_daemon_start(&(struct proc_settings){.devices = 2});
    proc_run_all(daemon, 2, threads_body, NULL, 60000);
    proc_daemon_finish(daemon);
}

/* Both ranks of a group in one process, as two contexts. */
static void *second_rank(void *arg)
{
    struct trtcoll_ctx *ctx = arg;
    struct trtcoll_group *group = NULL;
    CHECK_OK(trtcoll_group_create(ctx, "self", 2, 1, 0, &group));
    for (unsigned i = 0; i < 20; i++)
        proc_sum(group, i % 2 ? TRTCOLL_LANE_DIRECT : TRTCOLL_LANE_SERVED, 1000);
    CHECK_OK(trtcoll_group_leave(group));
    return NULL;
}

static void self_body(struct proc_me *me)
{
    struct trtcoll_ctx *first = proc_open(me, 0), *second = proc_open(me, 1);
    struct trtcoll_group *group = NULL;
    pthread_t thread;
    CHECK_EQ(pthread_create(&thread, NULL, second_rank, second), 0);
    CHECK_OK(trtcoll_group_create(first, "self", 2, 0, 0, &group));
    for (unsigned i = 0; i < 20; i++)
        proc_sum(group, i % 2 ? TRTCOLL_LANE_DIRECT : TRTCOLL_LANE_SERVED, 1000);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    trtcoll_ctx_close(first);
    trtcoll_ctx_close(second);
}

static void test_two_contexts(void **state)
{
    (void)state;
    struct proc_daemon *daemon = proc_daemon_start(&(struct proc_settings){.devices = 2});
    proc_run_all(daemon, 1, self_body, NULL, 30000);
    proc_daemon_finish(daemon);
}

/* ---- event loops ---- */

/* Posts requests and sleeps in poll; every completion must be found by the wake-ups, though they coalesce. */
static void loop_body(struct proc_me *me)
{
    enum { FLIGHT = 8, TOTAL = 200 };
    struct trtcoll_ctx *ctx = proc_open(me, -1);
    struct trtcoll_group *group = proc_group(me, ctx, "loop");
    struct trtcoll_barrier_desc desc = TRTCOLL_BARRIER_DESC_INIT;
    struct trtcoll_run_args args = TRTCOLL_RUN_ARGS_INIT;
    struct trtcoll_plan *plan = NULL;
    struct trtcoll_event *events[FLIGHT] = {0};
    int fd = -1;
    desc.lane = TRTCOLL_LANE_SERVED;
    CHECK_OK(trtcoll_plan_create_barrier(group, &desc, &plan));
    CHECK_OK(trtcoll_group_fd(group, &fd));
    CHECK(fd >= 0);
    unsigned posted = 0, done = 0;
    while (done < TOTAL) {
        while (posted < TOTAL && posted - done < FLIGHT) {
            CHECK_OK(trtcoll_plan_run(plan, &args, NULL, &events[posted % FLIGHT]));
            posted++;
        }
        unsigned before = done;
        while (done < posted) { /* they complete in order */
            int code = trtcoll_event_query(events[done % FLIGHT]);
            if (code == TRTCOLL_EAGAIN)
                break;
            CHECK_EQ(code, 0);
            trtcoll_event_put(events[done % FLIGHT]);
            done++;
        }
        if (done > before)
            continue;
        struct pollfd wait = {.fd = fd, .events = POLLIN};
        CHECK_MSG(poll(&wait, 1, PROC_PATIENCE_MS) == 1, "no wake-up, %u of %u done", done, posted);
        uint64_t count;
        CHECK(read(fd, &count, sizeof(count)) == sizeof(count) || errno == EAGAIN);
    }
    /* It also tells that the group is broken. */
    if (me->rank == 0) {
        CHECK_OK(trtcoll_plan_run(plan, &args, NULL, &events[0]));
        proc_reach(me, 1);
        struct pollfd wait = {.fd = fd, .events = POLLIN};
        int code;
        while ((code = trtcoll_event_query(events[0])) == TRTCOLL_EAGAIN) {
            uint64_t count;
            CHECK_MSG(poll(&wait, 1, PROC_PATIENCE_MS) == 1, "no wake-up for a broken group");
            CHECK(read(fd, &count, sizeof(count)) == sizeof(count) || errno == EAGAIN);
        }
        CHECK_EQ(code, TRTCOLL_EABORTED);
        trtcoll_event_put(events[0]);
    } else {
        proc_await(me, 0, 1);
        CHECK_OK(trtcoll_group_abort(group, "wake up"));
    }
    trtcoll_ctx_close(ctx);
}

static void test_event_loop(void **state)
{
    (void)state;
    struct proc_daemon *daemon = proc_daemon_start(&(struct proc_settings){.devices = 2});
    proc_run_all(daemon, 2, loop_body, NULL, 40000);
    proc_daemon_finish(daemon);
}

/* ---- containers ---- */

/* Enters other PID, IPC and mount namespaces without a /dev/shm; false where that is not allowed. The caller's next child lives there. */
static bool enter_namespaces(void)
{
    if (unshare(CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWNS) != 0) {
        CHECK_MSG(errno == EPERM, "unshare: %s", strerror(errno));
        return false;
    }
    CHECK(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0);
    CHECK(mount("none", "/dev/shm", "tmpfs", MS_RDONLY, "size=4k") == 0);
    return true;
}

/* Forks; the child returns true, the parent false when the child has ended well. */
static bool in_child(const struct proc_me *me)
{
    int status;
    pid_t child = fork();
    CHECK(child >= 0);
    if (!child)
        return true;
    CHECK(waitpid(child, &status, 0) == child);
    CHECK_MSG(status == 0, "%s", me->slot->text);
    return false;
}

/* Nothing but the socket needs to be shared: rank 1 lives in a container of its own. */
static void namespace_body(struct proc_me *me)
{
    if (me->rank == 1) {
        if (!in_child(me))
            return;
        bool inside = enter_namespaces();
        if (!in_child(me))
            _exit(0);
        CHECK(!inside || getpid() == 1);
    }
    struct trtcoll_ctx *ctx = proc_open(me, -1);
    struct trtcoll_group *group = proc_group(me, ctx, "containers");
    proc_sum(group, TRTCOLL_LANE_DIRECT, 5000);
    proc_sum(group, TRTCOLL_LANE_SERVED, 5000);
    if (me->rank == 1)
        _exit(0); /* dies without a word: the daemon knows it by its own number */
    struct trtcoll_barrier_desc desc = TRTCOLL_BARRIER_DESC_INIT;
    struct trtcoll_plan *plan = NULL;
    CHECK_CODE(trtcoll_plan_create_barrier(group, &desc, &plan), TRTCOLL_EPEERDEAD);
    CHECK(proc_last_error().pid > 1);
    trtcoll_ctx_close(ctx);
}

static void test_namespaces(void **state)
{
    (void)state;
    struct proc_daemon *daemon = proc_daemon_start(&(struct proc_settings){.devices = 2});
    proc_run_all(daemon, 2, namespace_body, NULL, 20000);
    proc_daemon_finish(daemon);
}

/* ---- surroundings ---- */

struct counted {
    unsigned live;
    uint64_t total;
};

static void *count_allocate(void *arg, size_t bytes)
{
    struct counted *counted = arg;
    void *pointer = malloc(bytes);
    if (pointer) {
        __atomic_fetch_add(&counted->live, 1, __ATOMIC_RELAXED);
        __atomic_fetch_add(&counted->total, 1, __ATOMIC_RELAXED);
    }
    return pointer;
}

static void count_release(void *arg, void *pointer)
{
    struct counted *counted = arg;
    if (pointer)
        __atomic_fetch_sub(&counted->live, 1, __ATOMIC_RELAXED);
    free(pointer);
}

static void count_lines(void *arg, int severity, const char *text)
{
    unsigned *lines = arg;
    CHECK(severity >= 3 && severity <= 7);
    CHECK(text[0]);
    __atomic_fetch_add(lines, 1, __ATOMIC_RELAXED);
}

/* All memory comes through the given allocator and goes back; nothing is printed, no signal handler and no environment touched. */
static void manners_body(struct proc_me *me)
{
    struct counted counted = {0};
    struct trtcoll_allocator allocator = {count_allocate, count_release, &counted};
    struct trtcoll_ctx_options options = TRTCOLL_CTX_OPTIONS_INIT;
    struct trtcoll_ctx *ctx = NULL;
    unsigned lines = 0;
    int ends[2], saved[2] = {dup(1), dup(2)};
    CHECK_EQ(pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
    dup2(ends[1], 1);
    dup2(ends[1], 2);
    CHECK_EQ(setenv("TRTCOLL_SOCKET", me->daemon->socket, 1), 0); /* instead of the option */
    options.allocator = &allocator;
    options.log = count_lines;
    options.log_arg = &lines;
    CHECK_OK(trtcoll_ctx_open(&options, &ctx));
    struct trtcoll_group *group = proc_group(me, ctx, "manners");
    proc_sum(group, TRTCOLL_LANE_DIRECT, 10);
    proc_sum(group, TRTCOLL_LANE_SERVED, 10);
    CHECK_OK(trtcoll_group_abort(group, "noise?"));
    CHECK(trtcoll_barrier(group) != 0);
    trtcoll_ctx_close(ctx);
    char text[64];
    dup2(saved[0], 1);
    dup2(saved[1], 2);
    close(saved[0]);
    close(saved[1]);
    close(ends[1]);
    ssize_t said = read(ends[0], text, sizeof(text) - 1);
    CHECK_MSG(said == 0, "the library printed: %.*s", (int)said, text);
    close(ends[0]);
    CHECK(counted.total > 0);
    CHECK_MSG(counted.live == 0, "%u pieces of memory were not given back", counted.live);
    unsetenv("TRTCOLL_SOCKET");
}

static void test_manners(void **state)
{
    (void)state;
    struct proc_daemon *daemon = proc_daemon_start(&(struct proc_settings){.devices = 1});
    proc_run_all(daemon, 1, manners_body, NULL, 20000);
    proc_daemon_finish(daemon);
}

/* Wrong uses of objects are errors, not crashes; names and texts exist for every code. */
static void nothing_body(struct proc_me *me)
{
    struct trtcoll_ctx *ctx = NULL;
    struct trtcoll_group *group = NULL;
    struct trtcoll_plan *plan = NULL;
    struct trtcoll_event_info info = {.size = sizeof(info)};
    void *pointer = NULL;
    (void)me;
    trtcoll_ctx_close(NULL);
    trtcoll_event_put(NULL);
    CHECK_OK(trtcoll_plan_release(NULL));
    CHECK_CODE(trtcoll_group_leave(NULL), TRTCOLL_EINVAL);
    CHECK_CODE(trtcoll_group_join(NULL, "x", 0, 0, &group), TRTCOLL_EINVAL);
    CHECK_CODE(trtcoll_alloc(NULL, 1, &pointer), TRTCOLL_EINVAL);
    CHECK_CODE(trtcoll_plan_create_barrier(NULL, NULL, &plan), TRTCOLL_EINVAL);
    CHECK_CODE(trtcoll_event_wait(NULL, 0), TRTCOLL_EINVAL);
    CHECK_CODE(trtcoll_event_status(NULL, &info), TRTCOLL_EINVAL);
    CHECK_CODE(trtcoll_ctx_open(NULL, NULL), TRTCOLL_EINVAL);
    struct trtcoll_ctx_options options = TRTCOLL_CTX_OPTIONS_INIT;
    options.socket_path = "/nonexistent/trtcolld.sock";
    CHECK_CODE(trtcoll_ctx_open(&options, &ctx), TRTCOLL_ECONN);
    CHECK(strstr(proc_last_error().text, "/nonexistent/trtcolld.sock") != NULL);
    char longer[300];
    memset(longer, 'x', sizeof(longer));
    longer[0] = '/';
    longer[299] = 0;
    options.socket_path = longer;
    CHECK(trtcoll_ctx_open(&options, &ctx) < 0);
    CHECK(ctx == NULL);
    CHECK(strcmp(trtcoll_version(), "0.1.0") == 0);
    for (int code = 0; code >= TRTCOLL_EINTERNAL; code--) {
        CHECK_MSG(strncmp(trtcoll_error_name(code), "TRTCOLL_", 8) == 0, "%d", code);
        CHECK(strcmp(trtcoll_error_text(code), "unknown error") != 0);
    }
    CHECK(strcmp(trtcoll_error_name(1), "TRTCOLL_E?") == 0 && strcmp(trtcoll_error_name(-26), "TRTCOLL_E?") == 0);
    CHECK(strcmp(trtcoll_error_text(-1000), "unknown error") == 0);
    CHECK(strcmp(trtcoll_op_name(1), "all-reduce") == 0 && trtcoll_op_name(99) == NULL);
}

static void test_nothing(void **state)
{
    (void)state;
    struct proc_daemon *daemon = proc_daemon_start(&(struct proc_settings){.devices = 1});
    proc_run_all(daemon, 1, nothing_body, NULL, 20000);
    proc_daemon_finish(daemon);
}

/* ---- C++ ---- */

static void test_cxx_program(void **state)
{
    (void)state;
    char program[512], variable[200], output[4096];
    const char *build = getenv("TRTCOLL_TEST_BUILD");
    assert_non_null(build);
    snprintf(program, sizeof(program), "%s/tests/program_cxx", build);
    if (access(program, X_OK) != 0) {
        print_message("no C++ compiler was there when this was built\n");
        return;
    }
    struct proc_daemon *daemon = proc_daemon_start(&(struct proc_settings){.devices = 2});
    snprintf(variable, sizeof(variable), "TRTCOLL_SOCKET=%s", daemon->socket);
    int status = proc_command((const char *const[]){program, NULL}, (const char *const[]){variable, NULL}, 20000, output, sizeof(output));
    if (status != 0)
        fail_msg("wait status %#x: %s", (unsigned)status, output);
    assert_string_equal(output, "the sum is 3\n");
    proc_daemon_finish(daemon);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_fork, proc_teardown),         cmocka_unit_test_teardown(test_threads, proc_teardown),
        cmocka_unit_test_teardown(test_two_contexts, proc_teardown), cmocka_unit_test_teardown(test_event_loop, proc_teardown),
        cmocka_unit_test_teardown(test_namespaces, proc_teardown),   cmocka_unit_test_teardown(test_manners, proc_teardown),
        cmocka_unit_test_teardown(test_nothing, proc_teardown),      cmocka_unit_test_teardown(test_cxx_program, proc_teardown),
    };
    return cmocka_run_group_tests_name("applications", tests, NULL, NULL);
}
