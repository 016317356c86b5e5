/* What trtcollctl finds in a stats segment: rows in order, who is late, what is wrong; files of older daemons, daemons that are gone. */
#include "client/ctl/verdict.h"
#include "daemon/control/stats.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cmocka_all.h"

struct fixture {
    char dir[64];
    char path[80];
    struct tcd_stats *stats;
};

static void put_daemon(struct tcd_stats *stats, pid_t pid)
{
    struct tcw_stats_daemon daemon = {.pid = (uint64_t)pid, .heartbeat_ns = tcw_now_ns(), .generation = 1, .clients = 2};

    strcpy(daemon.version, "0.1.0");
    tcd_stats_put(stats, TCW_STATS_TABLE_DAEMON, 0, &daemon);
}

static int setup(void **state)
{
    struct fixture *fixture = calloc(1, sizeof *fixture);

    strcpy(fixture->dir, "/tmp/trtcoll-test-ctl-XXXXXX");
    assert_non_null(mkdtemp(fixture->dir));
    snprintf(fixture->path, sizeof fixture->path, "%s/stats", fixture->dir);
    assert_int_equal(tcd_stats_create(fixture->dir, &(struct tcd_stats_capacity){4, 8, 8, 32, 8}, &fixture->stats), 0);
    put_daemon(fixture->stats, getpid());
    *state = fixture;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *fixture = *state;

    tcd_stats_destroy(fixture->stats);
    unlink(fixture->path);
    rmdir(fixture->dir);
    free(fixture);
    return 0;
}

static void put_group(struct fixture *fixture, unsigned index, const char *name, uint64_t epoch, tcc_group_state group_state, uint64_t size)
{
    struct tcw_stats_group group = {.group = 100 + index,
                                    .epoch = epoch,
                                    .size = size,
                                    .joined = size,
                                    .state = group_state,
                                    .culprit = TCW_NOBODY,
                                    .deadline_ns = 5000000000ull};

    strcpy(group.name, name);
    tcd_stats_put(fixture->stats, TCW_STATS_TABLE_GROUP, index, &group);
}

static void put_member(struct fixture *fixture, unsigned index, uint64_t group, uint64_t rank, uint64_t started, uint64_t missing,
                       uint64_t waiting_ns)
{
    struct tcw_stats_member member = {.group = group,
                                      .rank = rank,
                                      .client = 1 + rank,
                                      .pid = 9000 + rank,
                                      .direct_started = started,
                                      .direct_finished = started - (missing != 0),
                                      .direct_state = missing ? TCW_MEMBER_RUNNING : TCW_MEMBER_IDLE,
                                      .direct_since_ns = tcw_now_ns() - waiting_ns,
                                      .direct_missing = missing};

    tcd_stats_put(fixture->stats, TCW_STATS_TABLE_MEMBER, index, &member);
}

static void load(struct fixture *fixture, struct tcc_snapshot *snapshot)
{
    const char *why = "";

    if (tcc_snapshot_load(fixture->path, TCC_LOAD_LATENCY | TCC_LOAD_RECORDS, false, snapshot, &why))
        fail_msg("%s", why);
}

/* The only problem of `kind`; fails unless there is exactly one. */
static const struct tcc_problem *find(const struct tcc_verdict *verdict, const char *kind)
{
    const struct tcc_problem *found = NULL;

    for (size_t i = 0; i < verdict->count; i++) {
        if (strcmp(verdict->problems[i].kind, kind) != 0)
            continue;
        assert_null(found);
        found = &verdict->problems[i];
    }
    assert_non_null(found);
    return found;
}

static void expect_text(const struct tcc_problem *problem, const char *part)
{
    if (!strstr(problem->text, part))
        fail_msg("\"%s\" does not contain \"%s\"", problem->text, part);
}

static void test_healthy(void **state)
{
    struct fixture *fixture = *state;
    struct tcc_snapshot snapshot;
    struct tcc_verdict verdict;
    size_t count;

    put_group(fixture, 0, "tp1", 1, TCC_GROUP_READY, 2);
    put_group(fixture, 1, "tp0", 1, TCC_GROUP_READY, 2);
    put_member(fixture, 3, 101, 1, 7, 0, 0);
    put_member(fixture, 4, 101, 0, 8, 1ull << 1, 1000000); /* waits, but as short as everybody does now and then */
    put_member(fixture, 0, 100, 0, 5, 0, 0);
    load(fixture, &snapshot);
    assert_int_equal(snapshot.life, TCC_LIFE_OK);
    assert_string_equal(snapshot.groups[0].name, "tp0"); /* by name, wherever the rows lie */
    const struct tcw_stats_member *members = tcc_snapshot_members(&snapshot, 101, &count);
    assert_int_equal(count, 2);
    assert_int_equal(members[0].rank, 0);
    assert_int_equal(members[1].rank, 1);
    tcc_snapshot_members(&snapshot, 999, &count);
    assert_int_equal(count, 0);

    tcc_verdict_make(&snapshot, &verdict);
    assert_int_equal(verdict.count, 0);
    assert_string_equal(tcc_verdict_word(&snapshot, &verdict), "healthy");
    tcc_verdict_free(&verdict);
    tcc_snapshot_free(&snapshot);
}

static void test_late(void **state)
{
    struct fixture *fixture = *state;
    struct tcc_snapshot snapshot;
    struct tcc_verdict verdict;

    put_group(fixture, 0, "tp0", 3, TCC_GROUP_READY, 4);
    put_member(fixture, 0, 100, 0, 43, 0x0c, 2000000000ull); /* waits for 2 and 3 */
    put_member(fixture, 1, 100, 1, 43, 0x08, 1900000000ull);
    put_member(fixture, 2, 100, 2, 43, 0x08, 1000000000ull); /* 2 has arrived meanwhile: it waits itself */
    put_member(fixture, 3, 100, 3, 42, 0, 0);
    load(fixture, &snapshot);
    tcc_verdict_make(&snapshot, &verdict);
    assert_int_equal(verdict.degraded, 1);
    const struct tcc_problem *problem = find(&verdict, "rank-late");
    assert_int_equal(problem->rank, 3);
    assert_int_equal(problem->step, 43);
    assert_string_equal(problem->group, "tp0");
    assert_true(problem->wait_ns >= 2000000000ull && problem->wait_ns < 60000000000ull);
    expect_text(problem, "rank 3 (pid 9003) of group tp0 is late by");
    expect_text(problem, "at step 43, direct lane: ranks 0-2 wait (deadline 5 s)");
    tcc_verdict_free(&verdict);
    tcc_snapshot_free(&snapshot);
}

/* Rank 1 has not seen yet that rank 0 is there; rank 0 is a run behind: it is the late one. And two that wait for each other are both
 * stuck. */
static void test_waiting_for_each_other(void **state)
{
    struct fixture *fixture = *state;
    struct tcc_snapshot snapshot;
    struct tcc_verdict verdict;

    put_group(fixture, 0, "tp0", 3, TCC_GROUP_READY, 2);
    put_member(fixture, 0, 100, 0, 42, 0x02, 2000000000ull);
    put_member(fixture, 1, 100, 1, 43, 0x01, 1000000000ull);
    load(fixture, &snapshot);
    tcc_verdict_make(&snapshot, &verdict);
    assert_int_equal(verdict.count, 1);
    const struct tcc_problem *problem = find(&verdict, "rank-late");
    assert_int_equal(problem->rank, 0);
    assert_int_equal(problem->step, 43);
    expect_text(problem, "rank 1 waits");
    tcc_verdict_free(&verdict);
    tcc_snapshot_free(&snapshot);

    put_member(fixture, 0, 100, 0, 43, 0x02, 2000000000ull);
    load(fixture, &snapshot);
    tcc_verdict_make(&snapshot, &verdict);
    assert_int_equal(verdict.count, 1);
    problem = find(&verdict, "ranks-stuck");
    assert_true(problem->rank == TCC_ABSENT);
    assert_true(problem->wait_ns >= 2000000000ull);
    expect_text(problem, "ranks 0, 1 of group tp0 have waited for each other for");
    tcc_verdict_free(&verdict);
    tcc_snapshot_free(&snapshot);
}

static void test_broken(void **state)
{
    struct fixture *fixture = *state;
    struct tcw_stats_group group = {.group = 7, .epoch = 1, .size = 2, .joined = 2, .state = TCC_GROUP_BROKEN, .code = 6, .culprit = 1};
    struct tcc_snapshot snapshot;
    struct tcc_verdict verdict;

    strcpy(group.name, "tp0");
    strcpy(group.problem, "killed by signal 9");
    tcd_stats_put(fixture->stats, TCW_STATS_TABLE_GROUP, 0, &group);
    put_group(fixture, 1, "tp1", 1, TCC_GROUP_FORMING, 2);
    put_member(fixture, 0, 101, 1, 0, 0, 0);
    load(fixture, &snapshot);
    tcc_verdict_make(&snapshot, &verdict);
    const struct tcc_problem *problem = find(&verdict, "group-broken");
    assert_int_equal(problem->severity, TCC_DEGRADED);
    assert_int_equal(problem->rank, 1);
    assert_string_equal(problem->text, "group tp0 (epoch 1) is broken: rank 1: killed by signal 9 (EPEERDEAD)");
    problem = find(&verdict, "group-forming");
    assert_int_equal(problem->severity, TCC_NOTICE);
    expect_text(problem, "not yet 0");
    tcc_verdict_free(&verdict);
    tcc_snapshot_free(&snapshot);

    /* the members have formed again: nothing is wrong any more, but it is still told */
    put_group(fixture, 2, "tp0", 2, TCC_GROUP_READY, 2);
    load(fixture, &snapshot);
    tcc_verdict_make(&snapshot, &verdict);
    assert_int_equal(verdict.degraded, 0);
    expect_text(find(&verdict, "group-broken"), "was broken and has formed again");
    assert_int_equal(snapshot.groups[0].epoch, 2); /* newest first */
    tcc_verdict_free(&verdict);
    tcc_snapshot_free(&snapshot);
}

/* What a broken group says is not said again as the latest problem, and a configuration that was taken since is none. */
static void test_nothing_twice(void **state)
{
    struct fixture *fixture = *state;
    struct tcw_stats_group group = {.group = 7, .epoch = 1, .size = 2, .joined = 2, .state = TCC_GROUP_BROKEN, .code = 6, .culprit = 1};
    struct tcw_stats_daemon daemon = {.pid = (uint64_t)getpid(), .heartbeat_ns = tcw_now_ns(), .reload_failures = 3};
    struct tcc_snapshot snapshot;
    struct tcc_verdict verdict;

    strcpy(group.name, "tp0");
    strcpy(group.problem, "killed by signal 9");
    strcpy(daemon.last_problem, "group 'tp0' (epoch 1) broke: killed by signal 9");
    tcd_stats_put(fixture->stats, TCW_STATS_TABLE_GROUP, 0, &group);
    tcd_stats_put(fixture->stats, TCW_STATS_TABLE_DAEMON, 0, &daemon);
    load(fixture, &snapshot);
    tcc_verdict_make(&snapshot, &verdict);
    find(&verdict, "group-broken");
    assert_int_equal(verdict.count, 1);
    tcc_verdict_free(&verdict);
    tcc_snapshot_free(&snapshot);

    strcpy(daemon.last_problem, "reload: trtcolld.json is not valid, nothing has changed");
    daemon.reload_refused = 1;
    tcd_stats_put(fixture->stats, TCW_STATS_TABLE_DAEMON, 0, &daemon);
    load(fixture, &snapshot);
    tcc_verdict_make(&snapshot, &verdict);
    expect_text(find(&verdict, "reload-refused"), "the changed configuration was refused");
    expect_text(find(&verdict, "last-problem"), "is not valid");
    tcc_verdict_free(&verdict);
    tcc_snapshot_free(&snapshot);
}

static void test_device_and_drain(void **state)
{
    struct fixture *fixture = *state;
    struct tcw_stats_device failed = {.device = 1, .failed = 1, .restarts = 11}, restarted = {.device = 0, .restarts = 1};
    struct tcw_stats_daemon daemon = {.pid = (uint64_t)getpid(), .heartbeat_ns = tcw_now_ns(), .draining = 1, .clients_expelled = 1};
    struct tcc_snapshot snapshot;
    struct tcc_verdict verdict;

    strcpy(failed.note, "dies at once");
    strcpy(daemon.last_problem, "client 3 \x1b[31mlied");
    tcd_stats_put(fixture->stats, TCW_STATS_TABLE_DEVICE, 1, &failed);
    tcd_stats_put(fixture->stats, TCW_STATS_TABLE_DEVICE, 0, &restarted);
    tcd_stats_put(fixture->stats, TCW_STATS_TABLE_DAEMON, 0, &daemon);
    load(fixture, &snapshot);
    tcc_verdict_make(&snapshot, &verdict);
    assert_int_equal(verdict.degraded, 2);
    assert_string_equal(verdict.problems[0].kind, "draining"); /* what does not work stands first */
    assert_string_equal(verdict.problems[1].kind, "device-failed");
    expect_text(&verdict.problems[1], "dies at once");
    expect_text(find(&verdict, "executor-restarted"), "device 0 died and was started again once");
    expect_text(find(&verdict, "clients-expelled"), "1 client was expelled");
    expect_text(find(&verdict, "last-problem"), "client 3 ?[31mlied");
    expect_text(find(&verdict, "draining"), "trtcollctl undrain");
    tcc_verdict_free(&verdict);
    tcc_snapshot_free(&snapshot);

    daemon.draining = 2; /* that cannot be taken back */
    daemon.reload_kept = 2;
    tcd_stats_put(fixture->stats, TCW_STATS_TABLE_DAEMON, 0, &daemon);
    load(fixture, &snapshot);
    tcc_verdict_make(&snapshot, &verdict);
    expect_text(find(&verdict, "draining"), "stopping: no new clients are let in");
    expect_text(find(&verdict, "reload-kept"), "2 changes of the configuration are not in effect");
    tcc_verdict_free(&verdict);
    tcc_snapshot_free(&snapshot);
}

/* A daemon that lacks a field: the field is renamed in the file's schema, so the reader does not find it. */
static void test_older_daemon(void **state)
{
    struct fixture *fixture = *state;
    struct tcc_snapshot snapshot;
    struct stat status;
    int fd = open(fixture->path, O_RDWR | O_CLOEXEC);

    put_group(fixture, 0, "tp0", 1, TCC_GROUP_READY, 2);
    assert_true(fd >= 0);
    assert_int_equal(fstat(fd, &status), 0);
    char *bytes = mmap(NULL, (size_t)status.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    assert_ptr_not_equal(bytes, MAP_FAILED);
    char *name = memmem(bytes, (size_t)status.st_size, "workspace_generation", 20);
    assert_non_null(name);
    name[0] = 'W';
    munmap(bytes, (size_t)status.st_size);
    close(fd);

    load(fixture, &snapshot);
    assert_int_equal(snapshot.group_count, 1);
    assert_true(snapshot.groups[0].workspace_generation == TCC_ABSENT);
    assert_int_equal(snapshot.groups[0].epoch, 1);
    assert_int_equal(snapshot.groups[0].deadline_ns, 5000000000ull); /* the fields behind it are where they were */
    tcc_snapshot_free(&snapshot);
}

static void test_life(void **state)
{
    struct fixture *fixture = *state;
    struct tcc_snapshot snapshot;
    struct tcc_verdict verdict;
    char text[256];
    int status;
    pid_t child = fork();

    assert_true(child >= 0);
    if (!child) {
        /* A segment tells who writes it when it is made, so the daemon of this test is a process of its own. */
        struct tcd_stats *stats;
        if (tcd_stats_create(fixture->dir, &(struct tcd_stats_capacity){1, 1, 1, 1, 8}, &stats))
            _exit(1);
        put_daemon(stats, getpid());
        raise(SIGSTOP);
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, WUNTRACED), child);
    assert_true(WIFSTOPPED(status));
    load(fixture, &snapshot);
    assert_int_equal(snapshot.life, TCC_LIFE_STOPPED);
    assert_true(tcc_snapshot_caution(&snapshot, text, sizeof text));
    assert_non_null(strstr(text, "is stopped"));
    tcc_snapshot_free(&snapshot);

    kill(child, SIGKILL);
    siginfo_t info;
    assert_int_equal(waitid(P_PID, (id_t)child, &info, WEXITED | WNOWAIT), 0);
    load(fixture, &snapshot); /* dead, but nobody has reaped it yet */
    assert_int_equal(snapshot.life, TCC_LIFE_GONE);
    tcc_snapshot_free(&snapshot);

    assert_int_equal(waitpid(child, NULL, 0), child);
    load(fixture, &snapshot);
    assert_int_equal(snapshot.life, TCC_LIFE_GONE);
    assert_true(snapshot.as_of_ns < snapshot.taken_ns);
    snprintf(text, sizeof text, "daemon pid %d is gone; showing its last state from 2", (int)child);
    tcc_verdict_make(&snapshot, &verdict);
    expect_text(find(&verdict, "daemon-gone"), text);
    assert_string_equal(tcc_verdict_word(&snapshot, &verdict), "gone");
    tcc_verdict_free(&verdict);
    tcc_snapshot_free(&snapshot);
}

static void test_no_segment(void **state)
{
    struct fixture *fixture = *state;
    struct tcc_snapshot snapshot;
    const char *why = NULL;
    char path[96];

    snprintf(path, sizeof path, "%s/nothing", fixture->dir);
    assert_int_equal(tcc_snapshot_load(path, 0, false, &snapshot, &why), TCW_ENOENT);
    assert_int_equal(tcc_snapshot_load("/dev/null", 0, false, &snapshot, &why), TCW_EPROTO);
    assert_non_null(why);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_healthy, setup, teardown),
        cmocka_unit_test_setup_teardown(test_late, setup, teardown),
        cmocka_unit_test_setup_teardown(test_waiting_for_each_other, setup, teardown),
        cmocka_unit_test_setup_teardown(test_broken, setup, teardown),
        cmocka_unit_test_setup_teardown(test_nothing_twice, setup, teardown),
        cmocka_unit_test_setup_teardown(test_device_and_drain, setup, teardown),
        cmocka_unit_test_setup_teardown(test_older_daemon, setup, teardown),
        cmocka_unit_test_setup_teardown(test_life, setup, teardown),
        cmocka_unit_test_setup_teardown(test_no_segment, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
