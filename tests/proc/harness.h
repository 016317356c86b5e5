/*
 * Harness of the process tests: a real daemon in a private directory, real client processes, and the proof that nothing is left behind.
 *
 * A test starts a daemon, forks ranks that run a function of the test, waits for them, and finishes the daemon:
 *
 *     struct proc_daemon *daemon = proc_daemon_start(&(struct proc_settings){.devices = 4});
 *     struct proc_run *run = proc_run_start(daemon, 4, body, NULL);
 *     proc_run_wait(run, 20000);
 *     proc_daemon_finish(daemon);
 *
 * Whatever fails, proc_teardown (the teardown of every test) kills by pid everything that was started and removes the directory.
 * Owner of all structs: the harness, freed by proc_teardown. Threads: one.
 */
#ifndef PROC_HARNESS_H
#define PROC_HARNESS_H

#include <trtcoll.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <cmocka.h>

enum {
    PROC_MAX_RANKS = 32,
    PROC_VALUES = 16,
    PROC_REACTION_MS = 250,   /* promised: a death is known to the survivors within this */
    PROC_PATIENCE_MS = 30000, /* for things that must happen, but not by a certain time */
};

/*
 * What a loaded machine may add to a promised time: half a second (three times that with sanitizers), and four times the longest
 * oversleeping that any process of the test has seen in its naps so far: where a nap of one millisecond takes a hundred, so does
 * everything.
 */
unsigned proc_allowance_ms(void);

/* ---- what kind of devices ---- */

/* Programs for other than host devices set proc_machine before their first daemon. */
struct proc_machine {
    const char *devices; /* "cuda" */
    /*
     * Runs a plan whose args are memory of malloc, and waits; `ins` and `outs` are the lengths of the lists, if there are any. Returns what
     * the run ended with.
     */
    int (*run)(struct trtcoll_plan *plan, const struct trtcoll_run_args *args, unsigned ins, unsigned outs, bool with_event);
};
extern const struct proc_machine *proc_machine; /* NULL: host devices */

/* ---- the daemon ---- */

/* Zero means: the harness's default, made for short tests. JSON texts may be NULL. */
struct proc_settings {
    unsigned devices;         /* devices 0..n-1 of the machine; default 4 */
    unsigned operation_ms;    /* deadlines: 20000 */
    unsigned join_ms;         /* 30000 */
    unsigned plan_ms;         /* 30000 */
    unsigned drain_ms;        /* 2000 */
    unsigned communicator_ms; /* 30000 */
    unsigned grace_s;         /* how long an idle executor stays: 60; PROC_GRACE_NONE: not at all */
    unsigned ring_entries;    /* 64 */
    const char *limits;       /* JSON object */
    const char *groups;       /* JSON array */
    const char *more;         /* further JSON members, each followed by a comma */
};
#define PROC_GRACE_NONE 0xffffffffu

/* What a process holds, as /proc shows it. */
struct proc_census {
    unsigned fds, memfds, maps; /* descriptors; of them memfds; mappings of memfds */
    unsigned children, threads;
    uint64_t rss_bytes;
};

struct proc_daemon {
    char base[64]; /* private directory: config.json, log, run/ */
    char runtime[80];
    char socket[96];
    char config[80];
    char log[80];
    pid_t pid; /* 0: stopped or dead */
    struct proc_settings settings;
    struct proc_census baseline;
};

/* Writes the configuration, starts the daemon, waits until it listens. Fails the test otherwise. */
struct proc_daemon *proc_daemon_start(const struct proc_settings *settings);
/* The same directory and configuration again, after the daemon was stopped or killed. */
void proc_daemon_restart(struct proc_daemon *daemon);
/* Writes the configuration of `settings` into the daemon's file, for a reload. */
void proc_daemon_configure(struct proc_daemon *daemon, const struct proc_settings *settings);
/* Only the directory and the configuration: for tests of the command line. */
struct proc_daemon *proc_daemon_prepare(const struct proc_settings *settings);
/*
 * The end of a good test: waits until the daemon and its executors hold no more than at the start, checks the runtime directory, stops the
 * daemon by SIGTERM and wants exit status 0, no sanitizer report in its log, no process left.
 */
void proc_daemon_finish(struct proc_daemon *daemon);
/* Only the first part: the daemon is alive and back to its baseline. */
void proc_daemon_settled(struct proc_daemon *daemon);
/* SIGKILL, reaped; executors must follow by themselves within PROC_PATIENCE_MS. */
void proc_daemon_kill(struct proc_daemon *daemon);
bool proc_daemon_alive(struct proc_daemon *daemon);
/* Sends SIGTERM and returns the wait status; fails the test if it takes longer than timeout_ms. */
int proc_daemon_stop(struct proc_daemon *daemon, unsigned timeout_ms);
/* Pids of the executors (children of the daemon), at most `max`. */
unsigned proc_daemon_executors(const struct proc_daemon *daemon, pid_t *pids, unsigned max);
/* Waits until `text` stands in the log; false after timeout_ms. */
bool proc_daemon_logged(const struct proc_daemon *daemon, const char *text, unsigned timeout_ms);

bool proc_census_take(pid_t pid, struct proc_census *census);
/* SIGSTOP, and waits until every thread of the process stands still: until then some may go on. */
void proc_stop(pid_t pid);

/* Runs a program to its end with its output captured; returns the wait status. argv ends with NULL. env entries "NAME=value", may be NULL.
 */
int proc_command(const char *const argv[], const char *const env[], unsigned timeout_ms, char *output, size_t size);
const char *proc_daemon_path(void);
const char *proc_ctl_path(void);

/* Teardown of every test: kills, removes, prints the log's tail if the test failed. */
int proc_teardown(void **state);

/* ---- ranks ---- */

struct proc_slot {
    _Atomic uint32_t step;
    _Atomic uint32_t failed;
    _Atomic uint32_t finished;
    _Atomic int32_t pid;
    _Atomic uint64_t values[PROC_VALUES];
    char text[1024];
};

struct proc_shared {
    struct proc_slot parent;
    struct proc_slot ranks[PROC_MAX_RANKS];
    _Atomic uint64_t arrived;
};

struct proc_me {
    int rank, nranks;
    const struct proc_daemon *daemon;
    struct proc_shared *shared;
    struct proc_slot *slot;
    void *arg;
};

typedef void (*proc_body)(struct proc_me *me);

struct proc_run {
    struct proc_daemon *daemon;
    struct proc_shared *shared;
    int nranks;
    proc_body body;
    void *arg;
    pid_t pids[PROC_MAX_RANKS]; /* 0: reaped */
    int expected_signal[PROC_MAX_RANKS];
};

struct proc_run *proc_run_start(struct proc_daemon *daemon, int nranks, proc_body body, void *arg);
/* Starts a replacement for a rank that has ended or been killed. */
void proc_run_again(struct proc_run *run, int rank, proc_body body, void *arg);
/*
 * Waits for all ranks, PROC_PATIENCE_MS longer than the time that should do. Each must return from its function, or die of the signal it
 * was sent by proc_run_kill. Fails the test otherwise.
 */
void proc_run_wait(struct proc_run *run, unsigned timeout_ms);
/* Waits until this rank has reached the step. */
void proc_run_await(struct proc_run *run, int rank, uint32_t step);
void proc_run_await_all(struct proc_run *run, uint32_t step);
/* Tells the ranks (proc_await_parent) to go on, and stores the time in the parent's values[0]. */
void proc_run_reach(struct proc_run *run, uint32_t step);
/*
 * Sends a signal and stores the time in the parent's values[0]; SIGKILL becomes the rank's expected end. It is reaped by
 * proc_run_wait: until then the daemon can still see what killed it.
 */
void proc_run_kill(struct proc_run *run, int rank, int signal);
/* Waits for the end of this one rank and reaps it. */
void proc_run_reap(struct proc_run *run, int rank);

/* Start, wait, done. */
void proc_run_all(struct proc_daemon *daemon, int nranks, proc_body body, void *arg, unsigned timeout_ms);

/* ---- inside a rank ---- */

uint64_t proc_now_ns(void);
void proc_nap(void); /* one millisecond */
void proc_reach(struct proc_me *me, uint32_t step);
void proc_await(struct proc_me *me, int rank, uint32_t step);
void proc_await_parent(struct proc_me *me, uint32_t step);
/* Every rank of the run, outside trtcoll. */
void proc_barrier(struct proc_me *me);

/* Ends this rank as failed, with the place and the text. */
_Noreturn void proc_fail(const char *file, int line, const char *format, ...) __attribute__((format(printf, 3, 4)));
void proc_expect_code(const char *file, int line, const char *call, int code, int expected);

#define CHECK(condition)                                                                                                                   \
    do {                                                                                                                                   \
        if (!(condition))                                                                                                                  \
            proc_fail(__FILE__, __LINE__, "not true: %s", #condition);                                                                     \
    } while (0)
#define CHECK_MSG(condition, ...)                                                                                                          \
    do {                                                                                                                                   \
        if (!(condition))                                                                                                                  \
            proc_fail(__FILE__, __LINE__, __VA_ARGS__);                                                                                    \
    } while (0)
#define CHECK_EQ(a, b)                                                                                                                     \
    do {                                                                                                                                   \
        long long check_a = (long long)(a), check_b = (long long)(b);                                                                      \
        if (check_a != check_b)                                                                                                            \
            proc_fail(__FILE__, __LINE__, "%s is %lld, expected %s = %lld", #a, check_a, #b, check_b);                                     \
    } while (0)
/* A trtcoll call that must succeed, or must fail with this code; the report shows trtcoll_last_error. */
#define CHECK_OK(call)         proc_expect_code(__FILE__, __LINE__, #call, (call), TRTCOLL_OK)
#define CHECK_CODE(call, code) proc_expect_code(__FILE__, __LINE__, #call, (call), (code))

/* Details of the latest failed call. */
struct trtcoll_error proc_last_error(void);
/* Opens a context on the test's daemon. device -1: any. */
struct trtcoll_ctx *proc_open(const struct proc_me *me, int device);
/* Makes or joins the group of all ranks of the run under this name. */
struct trtcoll_group *proc_group(struct proc_me *me, struct trtcoll_ctx *ctx, const char *name);
/* A plain fp32 sum in this lane over `count` elements, checked: rank r contributes r + 1 + index. Makes, runs and releases a plan. */
void proc_sum(struct trtcoll_group *group, unsigned lane, uint64_t count);
/* Milliseconds since the parent's last kill or reach. */
double proc_ms_since_parent(const struct proc_me *me);

/* In a rank and in the test's own process: a memfd of this size, sealed against shrinking if wanted. */
int proc_memfd(size_t bytes, bool sealed);

#endif
