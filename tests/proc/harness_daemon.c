#include "harness.h"

#include "harness_private.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { MAX_DAEMONS = 4 };

const struct proc_machine *proc_machine;

static struct proc_daemon *daemons[MAX_DAEMONS];

uint64_t proc_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* Shared by all processes of the test: the worst oversleeping of a nap. NULL until the first daemon is prepared. */
static _Atomic uint64_t *oversleeping_ns;

void proc_nap(void)
{
    struct timespec nap = {0, 1000000};
    uint64_t begin = proc_now_ns();
    nanosleep(&nap, NULL);
    uint64_t late = proc_now_ns() - begin - 1000000, worst = oversleeping_ns ? atomic_load(oversleeping_ns) : UINT64_MAX;
    while (late > worst && !atomic_compare_exchange_weak(oversleeping_ns, &worst, late))
        ;
}

unsigned proc_allowance_ms(void)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    unsigned base = 1500;
#else
    unsigned base = 500;
#endif
    return base + (oversleeping_ns ? (unsigned)(4 * atomic_load(oversleeping_ns) / 1000000) : 0);
}

const char *proc_daemon_path(void)
{
    const char *path = getenv("TRTCOLL_TEST_DAEMON");
    if (!path)
        fail_msg("TRTCOLL_TEST_DAEMON is not set: run this test through ctest");
    return path;
}

const char *proc_ctl_path(void)
{
    const char *path = getenv("TRTCOLL_TEST_CTL");
    if (!path)
        fail_msg("TRTCOLL_TEST_CTL is not set: trtcollctl was not built");
    return path;
}

/* ---- /proc ---- */

static unsigned count_children(pid_t pid, pid_t *pids, unsigned max)
{
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d/task/%d/children", pid, pid);
    FILE *file = fopen(path, "re");
    if (!file)
        return 0;
    unsigned count = 0;
    for (int child; fscanf(file, "%d", &child) == 1; count++)
        if (count < max)
            pids[count] = child;
    fclose(file);
    return count;
}

bool proc_census_take(pid_t pid, struct proc_census *census)
{
    char path[300], target[300], line[1024];
    *census = (struct proc_census){0};
    snprintf(path, sizeof(path), "/proc/%d/fd", pid);
    DIR *directory = opendir(path);
    if (!directory)
        return false;
    for (struct dirent *entry = readdir(directory); entry; entry = readdir(directory)) {
        if (entry->d_name[0] == '.')
            continue;
        snprintf(path, sizeof(path), "/proc/%d/fd/%.16s", pid, entry->d_name);
        ssize_t length = readlink(path, target, sizeof(target) - 1);
        if (length < 0)
            continue; /* closed meanwhile */
        target[length] = 0;
        if (pid == getpid() && strstr(target, "/fd") && strncmp(target, "/proc/", 6) == 0)
            continue; /* our own look */
        census->fds++;
        census->memfds += strncmp(target, "/memfd:", 7) == 0;
    }
    closedir(directory);
    snprintf(path, sizeof(path), "/proc/%d/maps", pid);
    FILE *file = fopen(path, "re");
    while (file && fgets(line, sizeof(line), file))
        census->maps += strstr(line, "/memfd:") != NULL;
    if (file)
        fclose(file);
    snprintf(path, sizeof(path), "/proc/%d/status", pid);
    file = fopen(path, "re");
    while (file && fgets(line, sizeof(line), file)) {
        unsigned long value;
        if (sscanf(line, "VmRSS: %lu", &value) == 1)
            census->rss_bytes = value * 1024u;
        if (sscanf(line, "Threads: %lu", &value) == 1)
            census->threads = (unsigned)value;
    }
    if (file)
        fclose(file);
    census->children = count_children(pid, NULL, 0);
    return true;
}

static bool stands_still(pid_t pid)
{
    char path[128], line[512];
    snprintf(path, sizeof(path), "/proc/%d/task", pid);
    DIR *directory = opendir(path);
    bool still = directory != NULL;
    for (struct dirent *entry = directory ? readdir(directory) : NULL; entry; entry = readdir(directory)) {
        if (entry->d_name[0] == '.')
            continue;
        snprintf(path, sizeof(path), "/proc/%d/task/%.16s/stat", pid, entry->d_name);
        FILE *file = fopen(path, "re");
        if (!file)
            continue; /* a thread that has ended */
        const char *name_end = fgets(line, sizeof(line), file) ? strrchr(line, ')') : NULL;
        still &= name_end && (name_end[2] == 'T' || name_end[2] == 'Z');
        fclose(file);
    }
    if (directory)
        closedir(directory);
    return still;
}

void proc_stop(pid_t pid)
{
    uint64_t end = proc_now_ns() + PROC_PATIENCE_MS * 1000000ull;
    assert_int_equal(kill(pid, SIGSTOP), 0);
    while (!stands_still(pid)) {
        if (proc_now_ns() > end)
            fail_msg("process %d does not stop", pid);
        proc_nap();
    }
}

unsigned proc_daemon_executors(const struct proc_daemon *daemon, pid_t *pids, unsigned max)
{
    return count_children(daemon->pid, pids, max);
}

/* Whether a socket at this path is listening: the daemon is asked nothing, so its census is not disturbed. */
static bool socket_listens(const char *path)
{
    char line[512];
    bool found = false;
    FILE *file = fopen("/proc/net/unix", "re");
    while (file && !found && fgets(line, sizeof(line), file)) {
        unsigned flags;
        char name[256];
        if (sscanf(line, "%*s %*s %*s %x %*s %*s %*s %255s", &flags, name) == 2)
            found = flags & 0x10000 && strcmp(name, path) == 0;
    }
    if (file)
        fclose(file);
    return found;
}

/* ---- configuration ---- */

static void member(FILE *file, const char *name, const char *json)
{
    if (json)
        fprintf(file, "  \"%s\": %s,\n", name, json);
}

void proc_daemon_configure(struct proc_daemon *daemon, const struct proc_settings *given)
{
    struct proc_settings settings = *given;
#define DEFAULT(name, value) settings.name = settings.name ? settings.name : (value)
    DEFAULT(devices, 4);
    DEFAULT(operation_ms, 20000);
    DEFAULT(join_ms, 30000);
    DEFAULT(plan_ms, 30000);
    DEFAULT(communicator_ms, 30000);
    DEFAULT(drain_ms, 2000);
    DEFAULT(grace_s, 60);
    DEFAULT(ring_entries, 64);
#undef DEFAULT
    if (settings.grace_s == PROC_GRACE_NONE)
        settings.grace_s = 0;
    daemon->settings = settings;
    FILE *file = fopen(daemon->config, "we");
    assert_non_null(file);
    fprintf(file, "{\n");
    member(file, "limits", settings.limits);
    member(file, "groups", settings.groups);
    fprintf(file, "%s", settings.more ? settings.more : "");
    fprintf(file, "  \"runtime_dir\": \"%s\",\n", daemon->runtime);
    fprintf(file, "  \"deadlines\": {\"operation_ms\": %u, \"join_ms\": %u, \"plan_ms\": %u, \"drain_ms\": %u, \"communicator_ms\": %u},\n",
            settings.operation_ms, settings.join_ms, settings.plan_ms, settings.drain_ms, settings.communicator_ms);
    fprintf(file, "  \"executor\": {\"grace_s\": %u, \"restarts_per_minute\": 100},\n  \"ring\": {\"entries\": %u},\n", settings.grace_s,
            settings.ring_entries);
    fprintf(file, "  \"devices\": {\"%s\": %u}\n}\n", proc_machine ? proc_machine->devices : "host", settings.devices);
    assert_int_equal(fclose(file), 0);
}

struct proc_daemon *proc_daemon_prepare(const struct proc_settings *settings)
{
    struct proc_daemon *daemon = calloc(1, sizeof(*daemon));
    assert_non_null(daemon);
    if (!oversleeping_ns) {
        void *shared = mmap(NULL, sizeof(*oversleeping_ns), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        assert_true(shared != MAP_FAILED);
        oversleeping_ns = shared;
    }
    atomic_store(oversleeping_ns, 0);
    const char *tmp = getenv("TMPDIR");
    snprintf(daemon->base, sizeof(daemon->base), "%.40s/trtcoll-test-XXXXXX", tmp && strlen(tmp) < 40 ? tmp : "/tmp");
    assert_non_null(mkdtemp(daemon->base));
    snprintf(daemon->runtime, sizeof(daemon->runtime), "%s/run", daemon->base);
    snprintf(daemon->socket, sizeof(daemon->socket), "%s/trtcolld.sock", daemon->runtime);
    snprintf(daemon->config, sizeof(daemon->config), "%s/config.json", daemon->base);
    snprintf(daemon->log, sizeof(daemon->log), "%s/log", daemon->base);
    assert_int_equal(mkdir(daemon->runtime, 0700), 0);
    unsigned i = 0;
    while (i < MAX_DAEMONS && daemons[i])
        i++;
    assert_true(i < MAX_DAEMONS);
    daemons[i] = daemon;
    proc_daemon_configure(daemon, settings);
    return daemon;
}

/* ---- life ---- */

static void print_log(const struct proc_daemon *daemon)
{
    FILE *file = fopen(daemon->log, "re");
    if (!file)
        return;
    fseek(file, 0, SEEK_END);
    long size = ftell(file);
    fseek(file, size > 12000 ? size - 12000 : 0, SEEK_SET);
    char line[1024];
    fprintf(stderr, "---- %s\n", daemon->log);
    while (fgets(line, sizeof(line), file))
        fputs(line, stderr);
    fprintf(stderr, "----\n");
    fclose(file);
}

bool proc_daemon_alive(struct proc_daemon *daemon)
{
    int status;
    if (!daemon->pid)
        return false;
    if (waitpid(daemon->pid, &status, WNOHANG) == 0)
        return true;
    fprintf(stderr, "the daemon has ended, wait status %#x\n", (unsigned)status);
    daemon->pid = 0;
    return false;
}

void proc_daemon_restart(struct proc_daemon *daemon)
{
    const char *program = proc_daemon_path();
    assert_int_equal(daemon->pid, 0);
    fflush(NULL);
    pid_t parent = getpid();
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        int log = open(daemon->log, O_WRONLY | O_CREAT | O_APPEND, 0600);
        if (getppid() != parent || log < 0 || dup2(log, 1) < 0 || dup2(log, 2) < 0)
            _exit(126);
        close(log);
        execl(program, "trtcolld", "--config", daemon->config, (char *)NULL);
        _exit(127);
    }
    daemon->pid = pid;
    uint64_t end = proc_now_ns() + PROC_PATIENCE_MS * 1000000ull;
    while (!socket_listens(daemon->socket)) {
        if (!proc_daemon_alive(daemon))
            fail_msg("the daemon ended instead of starting");
        if (proc_now_ns() > end)
            fail_msg("the daemon does not listen on %s", daemon->socket);
        proc_nap();
    }
    /* What it opens after listening (timers, signals) belongs to the baseline: wait until three looks agree. */
    struct proc_census now;
    for (int same = 0; same < 3;) {
        for (int i = 0; i < 5; i++)
            proc_nap();
        if (!proc_census_take(daemon->pid, &now))
            fail_msg("the daemon ended instead of starting");
        same = now.fds == daemon->baseline.fds && now.maps == daemon->baseline.maps ? same + 1 : 0;
        daemon->baseline = now;
        if (proc_now_ns() > end)
            fail_msg("the daemon does not come to rest");
    }
}

struct proc_daemon *proc_daemon_start(const struct proc_settings *settings)
{
    struct proc_daemon *daemon = proc_daemon_prepare(settings);
    proc_daemon_restart(daemon);
    return daemon;
}

/* An idle executor holds its standard streams, the socket to the daemon, its lifeline and one eventfd; the daemon the other two ends. */
enum { IDLE_EXECUTOR_FDS = 6, FDS_PER_EXECUTOR = 2 };
/* Communicators of GPUs that nobody uses, and whose order logs the daemon therefore keeps. */
enum { KEPT_COMMUNICATORS = 4 };

static bool settled(struct proc_daemon *daemon, struct proc_census *now)
{
    const struct proc_census *base = &daemon->baseline;
    pid_t executors[64];
    if (!proc_census_take(daemon->pid, now))
        return false;
    unsigned kept = proc_machine ? KEPT_COMMUNICATORS : 0;
    if (now->memfds > base->memfds + kept || now->maps > base->maps || now->fds > base->fds + kept + FDS_PER_EXECUTOR * now->children)
        return false;
    if (proc_machine)
        return true; /* what a driver keeps open in the executors is its own affair */
    unsigned count = proc_daemon_executors(daemon, executors, 64);
    for (unsigned i = 0; i < count && i < 64; i++) {
        struct proc_census idle;
        if (!proc_census_take(executors[i], &idle))
            return false;
        if (idle.memfds || idle.maps || idle.fds > IDLE_EXECUTOR_FDS) {
            *now = idle;
            return false;
        }
    }
    return true;
}

void proc_daemon_settled(struct proc_daemon *daemon)
{
    struct proc_census now;
    uint64_t end = proc_now_ns() + PROC_PATIENCE_MS / 2 * 1000000ull;
    while (!settled(daemon, &now)) {
        if (!proc_daemon_alive(daemon))
            fail_msg("the daemon has ended by itself");
        if (proc_now_ns() > end) {
            char command[64];
            snprintf(command, sizeof(command), "ls -l /proc/%d/fd >&2", daemon->pid);
            if (system(command) != 0)
                fprintf(stderr, "its descriptors cannot be listed\n");
            fail_msg("the daemon or an executor does not give back what it took: fds %u (at the start %u), memfds %u (%u), mapped %u (%u), "
                     "executors %u",
                     now.fds, daemon->baseline.fds, now.memfds, daemon->baseline.memfds, now.maps, daemon->baseline.maps, now.children);
        }
        proc_nap();
    }
}

bool proc_daemon_logged(const struct proc_daemon *daemon, const char *text, unsigned timeout_ms)
{
    uint64_t end = proc_now_ns() + timeout_ms * 1000000ull;
    do {
        char line[2048];
        FILE *file = fopen(daemon->log, "re");
        while (file && fgets(line, sizeof(line), file)) {
            if (strstr(line, text)) {
                fclose(file);
                return true;
            }
        }
        if (file)
            fclose(file);
        proc_nap();
    } while (proc_now_ns() < end);
    return false;
}

static void check_log(const struct proc_daemon *daemon)
{
    static const char *const reports[] = {"Sanitizer", "runtime error:", "Assertion"};
    for (size_t i = 0; i < sizeof(reports) / sizeof(reports[0]); i++)
        if (proc_daemon_logged(daemon, reports[i], 0))
            fail_msg("the daemon's log has a report: %s", reports[i]);
}

static void check_runtime_directory(const struct proc_daemon *daemon)
{
    static const char *const known[] = {".", "..", "trtcolld.sock", "trtcolld.lock", "stats"};
    DIR *directory = opendir(daemon->runtime);
    assert_non_null(directory);
    for (struct dirent *entry = readdir(directory); entry; entry = readdir(directory)) {
        bool fine = false;
        for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
            fine |= strcmp(entry->d_name, known[i]) == 0;
        if (!fine) {
            char name[256];
            snprintf(name, sizeof(name), "%s", entry->d_name);
            closedir(directory);
            fail_msg("left in the runtime directory: %s", name);
        }
    }
    closedir(directory);
}

static bool process_gone(pid_t pid)
{
    return kill(pid, 0) != 0 && errno == ESRCH;
}

static void await_gone(const pid_t *pids, unsigned count)
{
    uint64_t end = proc_now_ns() + PROC_PATIENCE_MS * 1000000ull;
    for (unsigned i = 0; i < count; i++) {
        while (!process_gone(pids[i])) {
            if (proc_now_ns() > end) {
                kill(pids[i], SIGKILL);
                fail_msg("executor %d outlives its daemon", pids[i]);
            }
            proc_nap();
        }
    }
}

int proc_daemon_stop(struct proc_daemon *daemon, unsigned timeout_ms)
{
    pid_t executors[64];
    unsigned count = proc_daemon_executors(daemon, executors, 64);
    assert_int_equal(kill(daemon->pid, SIGTERM), 0);
    int status;
    uint64_t end = proc_now_ns() + timeout_ms * 1000000ull;
    while (waitpid(daemon->pid, &status, WNOHANG) == 0) {
        if (proc_now_ns() > end)
            fail_msg("the daemon does not stop within %u ms", timeout_ms);
        proc_nap();
    }
    daemon->pid = 0;
    await_gone(executors, count < 64 ? count : 64);
    return status;
}

void proc_daemon_kill(struct proc_daemon *daemon)
{
    pid_t executors[64];
    unsigned count = proc_daemon_executors(daemon, executors, 64);
    assert_int_equal(kill(daemon->pid, SIGKILL), 0);
    waitpid(daemon->pid, NULL, 0);
    daemon->pid = 0;
    await_gone(executors, count < 64 ? count : 64);
}

void proc_daemon_finish(struct proc_daemon *daemon)
{
    if (daemon->pid) {
        proc_daemon_settled(daemon);
        check_runtime_directory(daemon);
        int status = proc_daemon_stop(daemon, PROC_PATIENCE_MS);
        if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
            fail_msg("the daemon stopped with wait status %#x", (unsigned)status);
    }
    check_runtime_directory(daemon);
    check_log(daemon);
    for (unsigned i = 0; i < MAX_DAEMONS; i++) {
        if (daemons[i] == daemon) {
            daemons[i] = NULL;
            proc_remove_tree(daemon->base);
            free(daemon);
            return;
        }
    }
}

/* Base directories hold files and one level of directories, all ours. */
void proc_remove_tree(const char *base)
{
    DIR *directory = opendir(base);
    if (!directory)
        return;
    for (struct dirent *entry = readdir(directory); entry; entry = readdir(directory)) {
        char path[512];
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        snprintf(path, sizeof(path), "%s/%.200s", base, entry->d_name);
        if (unlink(path) != 0 && errno == EISDIR)
            proc_remove_tree(path);
    }
    closedir(directory);
    rmdir(base);
}

int proc_teardown(void **state)
{
    (void)state;
    bool left = proc_runs_end();
    for (unsigned i = 0; i < MAX_DAEMONS; i++) {
        struct proc_daemon *daemon = daemons[i];
        if (!daemon)
            continue;
        left = true;
        daemons[i] = NULL;
        pid_t executors[64];
        unsigned count = daemon->pid ? proc_daemon_executors(daemon, executors, 64) : 0;
        if (daemon->pid) {
            kill(daemon->pid, SIGKILL);
            waitpid(daemon->pid, NULL, 0);
        }
        uint64_t end = proc_now_ns() + 3000000000ull;
        for (unsigned e = 0; e < count && e < 64; e++) {
            while (!process_gone(executors[e]) && proc_now_ns() < end)
                proc_nap();
            if (!process_gone(executors[e]))
                kill(executors[e], SIGKILL);
        }
        print_log(daemon);
        if (!getenv("TRTCOLL_TEST_KEEP"))
            proc_remove_tree(daemon->base);
        free(daemon);
    }
    (void)left;
    return 0;
}

/* ---- other programs ---- */

int proc_command(const char *const argv[], const char *const env[], unsigned timeout_ms, char *output, size_t size)
{
    int ends[2];
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    fflush(NULL);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
        if (null < 0 || dup2(null, 0) < 0 || dup2(ends[1], 1) < 0 || dup2(ends[1], 2) < 0)
            _exit(126);
        for (unsigned i = 0; env && env[i]; i++)
            putenv((char *)(uintptr_t)env[i]);
        execv(argv[0], (char *const *)(uintptr_t)argv);
        _exit(127);
    }
    close(ends[1]);
    fcntl(ends[0], F_SETFL, O_NONBLOCK);
    uint64_t end = proc_now_ns() + timeout_ms * 1000000ull;
    size_t length = 0;
    int status = 0;
    bool ended = false;
    for (;;) {
        char rest[256];
        bool room = length + 1 < size;
        ssize_t got = read(ends[0], room ? output + length : rest, room ? size - 1 - length : sizeof(rest));
        if (got > 0) {
            length += room ? (size_t)got : 0;
            continue;
        }
        if (ended)
            break;
        ended = waitpid(pid, &status, WNOHANG) == pid;
        if (!ended && proc_now_ns() > end) {
            kill(pid, SIGKILL);
            waitpid(pid, &status, 0);
            close(ends[0]);
            if (size)
                output[length] = 0;
            fail_msg("%s does not end within %u ms; it said: %s", argv[0], timeout_ms, size ? output : "");
        }
        if (!ended)
            proc_nap();
    }
    close(ends[0]);
    if (size)
        output[length] = 0;
    return status;
}
