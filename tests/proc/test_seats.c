/* Seats: no user takes every one of them, administrators get in whatever others do, and the log stays readable. */
#include "cases.h"
#include "raw.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { STRANGER = 4243, UID_SEATS = 2, TOOL_SEATS = 16, GUEST_SEATS = 8 };

static const struct tcw_hello hello = {.abi_min = TCW_ABI_MIN, .abi_max = TCW_ABI_MAX, .device = -1};
static const struct tcw_hello tool = {.abi_min = TCW_ABI_MIN, .abi_max = TCW_ABI_MAX, .device = -1, .role = 1};

static void become_stranger(void)
{
    CHECK(setresgid(STRANGER, STRANGER, STRANGER) == 0 && setresuid(STRANGER, STRANGER, STRANGER) == 0);
}

static struct proc_daemon *start(const char *limits)
{
    struct proc_daemon *daemon =
        proc_daemon_start(&(struct proc_settings){.devices = 1, .limits = limits, .more = "\"socket_mode\": \"0666\","});
    assert_int_equal(chmod(daemon->base, 0755), 0);
    assert_int_equal(chmod(daemon->runtime, 0755), 0);
    return daemon;
}

/* Seats that were given back are free as soon as the daemon has seen that. */
static void sit(struct raw *raw, const struct proc_me *me, const struct tcw_hello *greeting)
{
    uint64_t end = proc_now_ns() + PROC_PATIENCE_MS * 1000000ull;
    for (;;) {
        raw_connect(raw, me);
        if (raw_ask(raw, TCW_MSG_HELLO, greeting, NULL, 0) == TCW_MSG_HELLO_OK)
            break;
        CHECK_MSG(proc_now_ns() < end, "nobody gets in: %s", raw->packet.payload.ERROR.text);
        raw_close(raw);
        proc_nap();
    }
    raw->generation = raw->packet.payload.HELLO_OK.generation;
}

static void expect_refused(const struct proc_me *me, const struct tcw_hello *greeting, const char *words)
{
    struct raw raw;
    raw_connect(&raw, me);
    raw_refused(&raw, TCW_MSG_HELLO, greeting, NULL, 0, TCW_EQUOTA);
    CHECK_MSG(strstr(raw.packet.payload.ERROR.text, words) != NULL, "no '%s' in: %s", words, raw.packet.payload.ERROR.text);
    raw_close(&raw);
}

/* ---- clients ---- */

static void client_seats_body(struct proc_me *me)
{
    struct raw seats[UID_SEATS], operator;
    if (me->rank == 1)
        become_stranger();
    for (unsigned i = 0; i < UID_SEATS; i++)
        sit(&seats[i], me, &hello);
    expect_refused(me, &hello, "limits.uid.clients: 2 clients of uid");
    expect_refused(me, &hello, "allowed: 2");
    sit(&operator, me, &tool); /* takes no client's seat */
    raw_close(&operator);
    proc_barrier(me); /* the ranks are different users: neither was in the other's way */
    raw_close(&seats[0]);
    sit(&seats[0], me, &hello);
    for (unsigned i = 0; i < UID_SEATS; i++)
        raw_close(&seats[i]);
}

static void test_client_seats(void **state)
{
    (void)state;
    struct proc_daemon *daemon = start("{\"max_clients\": 5, \"uid\": {\"clients\": 2}}");
    proc_run_all(daemon, geteuid() == 0 ? 2 : 1, client_seats_body, NULL, 30000);
    proc_daemon_finish(daemon);
}

/* ---- operators' tools ---- */

static void ask_for_config(struct raw *raw)
{
    struct tcw_admin wanted = {.command = TCW_ADMIN_CONFIG};
    CHECK_EQ(raw_ask(raw, TCW_MSG_ADMIN, &wanted, NULL, 0), TCW_MSG_ADMIN_TEXT);
}

/* Rank 1 is a stranger, who takes what it gets and says nothing. */
static void guests_body(struct proc_me *me)
{
    become_stranger();
    struct raw guests[GUEST_SEATS];
    for (unsigned i = 0; i < GUEST_SEATS; i++)
        sit(&guests[i], me, &tool);
    expect_refused(me, &tool, "no administrators");
    proc_reach(me, 1);
    for (unsigned i = 0; i < GUEST_SEATS; i++)
        raw_expelled(&guests[i], "a silent tool");
    sit(&guests[0], me, &tool);
    ask_for_config(&guests[0]);
    raw_close(&guests[0]);
    proc_reach(me, 2);
}

static void tool_seats_body(struct proc_me *me)
{
    bool crowded = me->nranks > 1;
    if (me->rank == 1) {
        guests_body(me);
        return;
    }
    unsigned count = TOOL_SEATS - (crowded ? GUEST_SEATS : 0);
    struct raw tools[TOOL_SEATS];
    if (crowded)
        proc_await(me, 1, 1);
    for (unsigned i = 0; i < count; i++)
        sit(&tools[i], me, &tool);
    if (!crowded)
        expect_refused(me, &tool, "16 operators' tools");
    else
        proc_await(me, 1, 2); /* until the silent guests are gone: administrators may be as silent */
    for (unsigned i = 0; i < count; i++) {
        ask_for_config(&tools[i]);
        raw_close(&tools[i]);
    }
}

static void test_tool_seats(void **state)
{
    (void)state;
    struct proc_daemon *daemon = start(NULL);
    proc_run_all(daemon, 1, tool_seats_body, NULL, 30000);
    if (geteuid() == 0)
        proc_run_all(daemon, 2, tool_seats_body, NULL, 40000);
    proc_daemon_finish(daemon);
}

/* ---- the log ---- */

enum { ROUNDS = 300, GROUP_LINES = 100, CLIENT_LINES = 20 };

static void busy_body(struct proc_me *me)
{
    struct trtcoll_ctx *ctx = proc_open(me, -1);
    for (unsigned i = 0; i < ROUNDS; i++) {
        struct trtcoll_group *group = NULL;
        CHECK_OK(trtcoll_group_create(ctx, "flood", 1, 0, 0, &group));
        if (i % 2)
            CHECK_OK(trtcoll_group_abort(group, NULL));
        CHECK_OK(trtcoll_group_leave(group));
    }
    trtcoll_ctx_close(ctx);
}

static unsigned count_lines(const char *path, const char *words)
{
    char line[2048];
    unsigned lines = 0;
    FILE *file = fopen(path, "re");
    assert_non_null(file);
    while (fgets(line, sizeof(line), file))
        lines += strstr(line, words) != NULL;
    fclose(file);
    return lines;
}

static void test_group_lines(void **state)
{
    (void)state;
    struct proc_daemon *daemon = start(NULL);
    uint64_t begin = proc_now_ns();
    proc_run_all(daemon, 1, busy_body, NULL, 60000);
    unsigned windows = 2 + (unsigned)((proc_now_ns() - begin) / 10000000000ull);
    unsigned lines = count_lines(daemon->log, "group 'flood'");
    assert_in_range(lines, GROUP_LINES, windows * (GROUP_LINES + CLIENT_LINES));
    proc_daemon_finish(daemon);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_client_seats, proc_teardown),
        cmocka_unit_test_teardown(test_tool_seats, proc_teardown),
        cmocka_unit_test_teardown(test_group_lines, proc_teardown),
    };
    return cmocka_run_group_tests_name("seats and lines", tests, NULL, NULL);
}
