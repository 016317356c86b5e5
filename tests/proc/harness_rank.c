#include "harness.h"

#include "harness_private.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MAX_RUNS = 16 };

static struct proc_run *runs[MAX_RUNS];
static struct proc_slot *own_slot; /* in a rank: where a failure is written */

/* Present when the test is built with AddressSanitizer: the ranks leave by _exit, so they ask for the leak check themselves. */
int __lsan_do_recoverable_leak_check(void) __attribute__((weak));

/* ---- inside a rank ---- */

_Noreturn void proc_fail(const char *file, int line, const char *format, ...)
{
    char text[800];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    const char *name = strrchr(file, '/');
    if (!own_slot) { /* in the test's own process */
        fprintf(stderr, "%s:%d: %s\n", name ? name + 1 : file, line, text);
        fail();
        abort();
    }
    uint32_t first = 0;
    if (atomic_compare_exchange_strong(&own_slot->failed, &first, 1))
        snprintf(own_slot->text, sizeof(own_slot->text), "%s:%d: %s", name ? name + 1 : file, line, text);
    _exit(1);
}

struct trtcoll_error proc_last_error(void)
{
    struct trtcoll_error error = TRTCOLL_ERROR_INIT;
    trtcoll_last_error(&error);
    return error;
}

void proc_expect_code(const char *file, int line, const char *call, int code, int expected)
{
    if (code == expected)
        return;
    struct trtcoll_error error = proc_last_error();
    if (code == 0)
        proc_fail(file, line, "%s returned 0, expected %s", call, trtcoll_error_name(expected));
    proc_fail(file, line, "%s returned %s, expected %s; last error: %s, rank %d, field '%s', text '%s'", call, trtcoll_error_name(code),
              expected ? trtcoll_error_name(expected) : "0", trtcoll_error_name(error.code), (int)error.rank, error.field, error.text);
}

void proc_reach(struct proc_me *me, uint32_t step)
{
    atomic_store(&me->slot->step, step);
}

static void await_slot(struct proc_slot *slot, uint32_t step, const char *whose)
{
    uint64_t end = proc_now_ns() + 2 * PROC_PATIENCE_MS * 1000000ull;
    while (atomic_load(&slot->step) < step) {
        if (proc_now_ns() > end)
            proc_fail(__FILE__, __LINE__, "%s does not reach step %u, is at %u", whose, step, atomic_load(&slot->step));
        proc_nap();
    }
}

void proc_await(struct proc_me *me, int rank, uint32_t step)
{
    await_slot(&me->shared->ranks[rank], step, "another rank");
}

void proc_await_parent(struct proc_me *me, uint32_t step)
{
    await_slot(&me->shared->parent, step, "the test");
}

void proc_barrier(struct proc_me *me)
{
    uint64_t mine = atomic_fetch_add(&me->shared->arrived, 1);
    uint64_t wanted = (mine / (uint64_t)me->nranks + 1) * (uint64_t)me->nranks;
    uint64_t end = proc_now_ns() + 2 * PROC_PATIENCE_MS * 1000000ull;
    while (atomic_load(&me->shared->arrived) < wanted) {
        if (proc_now_ns() > end)
            proc_fail(__FILE__, __LINE__, "the other ranks do not come to the barrier");
        proc_nap();
    }
}

double proc_ms_since_parent(const struct proc_me *me)
{
    return (double)(proc_now_ns() - atomic_load(&me->shared->parent.values[0])) / 1e6;
}

struct trtcoll_ctx *proc_open(const struct proc_me *me, int device)
{
    struct trtcoll_ctx_options options = TRTCOLL_CTX_OPTIONS_INIT;
    struct trtcoll_ctx *ctx = NULL;
    options.socket_path = me->daemon->socket;
    options.device = device;
    options.timeout_ms = PROC_PATIENCE_MS;
    CHECK_OK(trtcoll_ctx_open(&options, &ctx));
    return ctx;
}

struct trtcoll_group *proc_group(struct proc_me *me, struct trtcoll_ctx *ctx, const char *name)
{
    struct trtcoll_group *group = NULL;
    CHECK_OK(trtcoll_group_create(ctx, name, (uint32_t)me->nranks, (uint32_t)me->rank, 0, &group));
    return group;
}

void proc_sum(struct trtcoll_group *group, unsigned lane, uint64_t count)
{
    struct trtcoll_group_info info = {.size = sizeof(info)};
    CHECK_OK(trtcoll_group_status(group, &info));
    struct trtcoll_all_reduce_desc desc = TRTCOLL_ALL_REDUCE_DESC_INIT;
    desc.dtype = TRTCOLL_FP32;
    desc.lane = lane;
    desc.hidden = count;
    struct trtcoll_plan *plan = NULL;
    CHECK_OK(trtcoll_plan_create_all_reduce(group, &desc, &plan));
    float *in = malloc(count * sizeof(float)), *out = malloc(count * sizeof(float));
    CHECK(in && out);
    for (uint64_t i = 0; i < count; i++)
        in[i] = (float)(info.rank + 1 + i % 1024);
    struct trtcoll_run_args args = TRTCOLL_RUN_ARGS_INIT;
    args.tokens = 1;
    args.in = in;
    args.out = out;
    CHECK_OK(proc_machine ? proc_machine->run(plan, &args, 0, 0, true) : trtcoll_plan_run(plan, &args, NULL, NULL));
    uint32_t n = info.nranks;
    for (uint64_t i = 0; i < count; i++)
        CHECK_EQ(out[i], (float)(n * (n + 1) / 2 + n * (i % 1024)));
    free(in);
    free(out);
    CHECK_OK(trtcoll_plan_release(plan));
}

int proc_memfd(size_t bytes, bool sealed)
{
    int fd = memfd_create("trtcoll-test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0 || ftruncate(fd, (off_t)bytes) != 0)
        proc_fail(__FILE__, __LINE__, "memfd: %s", strerror(errno));
    if (sealed && fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) != 0)
        proc_fail(__FILE__, __LINE__, "sealing: %s", strerror(errno));
    return fd;
}

/* ---- in the test's own process ---- */

static _Noreturn void rank_main(struct proc_run *run, int rank, proc_body body, void *arg, pid_t parent)
{
    struct proc_me me = {rank, run->nranks, run->daemon, run->shared, &run->shared->ranks[rank], arg};
    own_slot = me.slot;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(1);
    struct proc_census before, after;
    CHECK(proc_census_take(getpid(), &before));
    body(&me);
    CHECK(proc_census_take(getpid(), &after));
    if (proc_machine) /* drivers keep files open until the process ends */
        after = before;
    CHECK_MSG(after.fds <= before.fds, "this rank ends with %u descriptors and began with %u", after.fds, before.fds);
    CHECK_MSG(after.maps <= before.maps, "this rank ends with %u mapped memfds and began with %u", after.maps, before.maps);
    if (__lsan_do_recoverable_leak_check)
        CHECK_MSG(__lsan_do_recoverable_leak_check() == 0, "this rank leaks memory");
    atomic_store(&me.slot->finished, 1);
    _exit(0);
}

static void fork_rank(struct proc_run *run, int rank, proc_body body, void *arg)
{
    pid_t parent = getpid();
    fflush(NULL);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0)
        rank_main(run, rank, body, arg, parent);
    run->pids[rank] = pid;
    atomic_store(&run->shared->ranks[rank].pid, pid);
}

struct proc_run *proc_run_start(struct proc_daemon *daemon, int nranks, proc_body body, void *arg)
{
    assert_in_range(nranks, 1, PROC_MAX_RANKS);
    struct proc_run *run = calloc(1, sizeof(*run));
    assert_non_null(run);
    unsigned i = 0;
    while (i < MAX_RUNS && runs[i])
        i++;
    assert_true(i < MAX_RUNS);
    runs[i] = run;
    void *shared = mmap(NULL, sizeof(struct proc_shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(shared != MAP_FAILED);
    run->daemon = daemon;
    run->shared = shared;
    run->nranks = nranks;
    run->body = body;
    run->arg = arg;
    for (int rank = 0; rank < nranks; rank++)
        fork_rank(run, rank, body, arg);
    return run;
}

/* True when the rank has ended and is reaped; fails the test if it ended badly. */
static bool reap_rank(struct proc_run *run, int rank)
{
    int status;
    if (run->pids[rank] && waitpid(run->pids[rank], &status, WNOHANG) == 0)
        return false;
    if (!run->pids[rank])
        return true;
    run->pids[rank] = 0;
    bool killed = WIFSIGNALED(status) && WTERMSIG(status) == run->expected_signal[rank];
    bool returned = WIFEXITED(status) && WEXITSTATUS(status) == 0 && atomic_load(&run->shared->ranks[rank].finished);
    if (!killed && !returned)
        fail_msg("rank %d ended with wait status %#x: %s", rank, (unsigned)status, run->shared->ranks[rank].text);
    return true;
}

/* Reaps what has ended and returns how many still run. The killed come last: as long as they are zombies the daemon can see why. */
static int reap(struct proc_run *run)
{
    int running = 0, killed = 0;
    for (int rank = 0; rank < run->nranks; rank++) {
        if (run->expected_signal[rank])
            killed += run->pids[rank] != 0;
        else
            running += !reap_rank(run, rank);
    }
    for (int rank = 0; rank < run->nranks && killed && !running; rank++)
        running += !reap_rank(run, rank);
    return running;
}

void proc_run_reap(struct proc_run *run, int rank)
{
    uint64_t end = proc_now_ns() + PROC_PATIENCE_MS * 1000000ull;
    while (!reap_rank(run, rank)) {
        if (proc_now_ns() > end)
            fail_msg("rank %d does not end", rank);
        proc_nap();
    }
}

void proc_run_again(struct proc_run *run, int rank, proc_body body, void *arg)
{
    proc_run_reap(run, rank);
    struct proc_slot *slot = &run->shared->ranks[rank];
    atomic_store(&slot->step, 0);
    atomic_store(&slot->finished, 0);
    run->expected_signal[rank] = 0;
    fork_rank(run, rank, body, arg);
}

static void run_free(struct proc_run *run)
{
    for (unsigned i = 0; i < MAX_RUNS; i++)
        if (runs[i] == run)
            runs[i] = NULL;
    munmap(run->shared, sizeof(struct proc_shared));
    free(run);
}

static void run_kill(struct proc_run *run)
{
    for (int rank = 0; rank < run->nranks; rank++) {
        if (run->pids[rank] > 0) {
            kill(run->pids[rank], SIGKILL);
            waitpid(run->pids[rank], NULL, 0);
            run->pids[rank] = 0;
        }
    }
}

static void print_ranks(const struct proc_run *run)
{
    for (int rank = 0; rank < run->nranks; rank++) {
        const struct proc_slot *slot = &run->shared->ranks[rank];
        fprintf(stderr, "rank %d: step %u%s%s%s\n", rank, atomic_load(&slot->step), atomic_load(&slot->finished) ? ", finished" : "",
                atomic_load(&slot->failed) ? ", failed: " : "", slot->text);
    }
}

bool proc_runs_end(void)
{
    bool left = false;
    for (unsigned i = 0; i < MAX_RUNS; i++) {
        if (!runs[i])
            continue;
        left = true;
        print_ranks(runs[i]);
        run_kill(runs[i]);
        run_free(runs[i]);
    }
    return left;
}

void proc_run_wait(struct proc_run *run, unsigned timeout_ms)
{
    uint64_t end = proc_now_ns() + (timeout_ms + PROC_PATIENCE_MS) * 1000000ull;
    while (reap(run)) {
        if (proc_now_ns() > end)
            fail_msg("the ranks are not done after %u ms", timeout_ms + PROC_PATIENCE_MS);
        proc_nap();
    }
    run_free(run);
}

void proc_run_all(struct proc_daemon *daemon, int nranks, proc_body body, void *arg, unsigned timeout_ms)
{
    proc_run_wait(proc_run_start(daemon, nranks, body, arg), timeout_ms);
}

void proc_run_await(struct proc_run *run, int rank, uint32_t step)
{
    uint64_t end = proc_now_ns() + 2 * PROC_PATIENCE_MS * 1000000ull;
    while (atomic_load(&run->shared->ranks[rank].step) < step) {
        reap(run);
        if (proc_now_ns() > end)
            fail_msg("rank %d does not reach step %u", rank, step);
        proc_nap();
    }
}

void proc_run_await_all(struct proc_run *run, uint32_t step)
{
    for (int rank = 0; rank < run->nranks; rank++)
        if (run->pids[rank])
            proc_run_await(run, rank, step);
}

void proc_run_reach(struct proc_run *run, uint32_t step)
{
    atomic_store(&run->shared->parent.values[0], proc_now_ns());
    atomic_store(&run->shared->parent.step, step);
}

void proc_run_kill(struct proc_run *run, int rank, int signal)
{
    if (signal == SIGKILL)
        run->expected_signal[rank] = SIGKILL;
    atomic_store(&run->shared->parent.values[0], proc_now_ns());
    if (signal == SIGSTOP)
        proc_stop(run->pids[rank]);
    else
        assert_int_equal(kill(run->pids[rank], signal), 0);
}
