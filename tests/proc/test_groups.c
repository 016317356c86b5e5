/* Groups: from the configuration, made at run time, incomplete, overlapping, left, re-formed, made again. */
#include "cases.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define TP4 "[{\"name\": \"tp\", \"ranks\": [0, 1, 2, 3]}, {\"name\": \"pair\", \"ranks\": [1, 3]}]"

static struct proc_daemon *start(const char *groups)
{
    return proc_daemon_start(&(struct proc_settings){.devices = 8, .groups = groups});
}

/* Whether the text speaks of this number as a word of its own. */
static bool names_number(const char *text, unsigned number)
{
    char digits[16];
    snprintf(digits, sizeof(digits), "%u", number);
    for (const char *at = strstr(text, digits); at; at = strstr(at + 1, digits)) {
        char before = at == text ? ' ' : at[-1], after = at[strlen(digits)];
        if (!(before >= '0' && before <= '9') && !(after >= '0' && after <= '9'))
            return true;
    }
    return false;
}

/* ---- configured groups ---- */

static void configured_body(struct proc_me *me)
{
    struct trtcoll_ctx *ctx = proc_open(me, me->rank);
    struct trtcoll_group *tp = NULL, *pair = NULL, *other = NULL;
    struct trtcoll_ctx_info info = {.size = sizeof(info)};
    CHECK_CODE(trtcoll_group_join(ctx, "nothing", -1, 0, &other), TRTCOLL_ENOENT);
    CHECK_CODE(trtcoll_group_join(ctx, "tp", 4, 0, &other), TRTCOLL_EINVAL);
    CHECK_CODE(trtcoll_group_join(ctx, "tp", (me->rank + 1) % 4, 0, &other), TRTCOLL_EINVAL); /* another device */
    CHECK(other == NULL);
    proc_barrier(me); /* else that rank may be taken, which is said first */
    CHECK_OK(trtcoll_group_join(ctx, "tp", me->rank % 2 ? me->rank : -1, 0, &tp));
    struct trtcoll_group_info group = case_group_info(tp);
    CHECK_EQ(group.rank, me->rank);
    CHECK_EQ(group.nranks, 4);
    CHECK_EQ(group.state, TRTCOLL_GROUP_READY);
    CHECK_EQ(group.device, me->rank);
    CHECK(strcmp(group.name, "tp") == 0);
    CHECK_OK(trtcoll_ctx_info(ctx, &info));
    CHECK_EQ(info.device, me->rank);
    CHECK_EQ(info.connected, 1);
    if (me->rank == 1 || me->rank == 3) {
        CHECK_OK(trtcoll_group_join(ctx, "pair", -1, 0, &pair));
        CHECK_EQ(case_group_info(pair).rank, me->rank == 3);
        proc_sum(pair, TRTCOLL_LANE_SERVED, 100);
    }
    proc_sum(tp, TRTCOLL_LANE_DIRECT, 100);
    proc_sum(tp, TRTCOLL_LANE_SERVED, 100);
    /* The name of a configured group cannot be taken, and the same rank not twice. */
    CHECK_CODE(trtcoll_group_create(ctx, "tp", 4, 0, 200, &other), TRTCOLL_EEXIST);
    CHECK_CODE(trtcoll_group_join(ctx, "tp", me->rank, 200, &other), TRTCOLL_EEXIST);
    struct trtcoll_ctx *second = proc_open(me, me->rank);
    CHECK_CODE(trtcoll_group_join(second, "tp", me->rank, 200, &other), TRTCOLL_EBUSY);
    trtcoll_ctx_close(second);
    proc_barrier(me);
    CHECK_OK(trtcoll_group_leave(tp));
    if (pair)
        CHECK_OK(trtcoll_group_leave(pair));
    trtcoll_ctx_close(ctx);
}

static void test_configured(void **state)
{
    (void)state;
    struct proc_daemon *daemon = start(TP4);
    proc_run_all(daemon, 4, configured_body, NULL, 30000);
    proc_run_all(daemon, 4, configured_body, NULL, 30000); /* and again with new processes */
    proc_daemon_finish(daemon);
}

/* A context without a device takes whatever rank is free. */
static void free_rank_body(struct proc_me *me)
{
    struct trtcoll_ctx *ctx = proc_open(me, -1);
    struct trtcoll_group *tp = NULL;
    CHECK_OK(trtcoll_group_join(ctx, "tp", -1, 0, &tp));
    struct trtcoll_group_info info = case_group_info(tp);
    atomic_fetch_add(&me->shared->parent.values[1], 1ull << (8 * info.rank));
    CHECK_EQ(info.device, info.rank);
    proc_sum(tp, TRTCOLL_LANE_AUTO, 10);
    trtcoll_ctx_close(ctx); /* leaves by itself */
}

static void test_any_free_rank(void **state)
{
    (void)state;
    struct proc_daemon *daemon = start(TP4);
    struct proc_run *run = proc_run_start(daemon, 4, free_rank_body, NULL);
    struct proc_shared *shared = run->shared;
    proc_run_await_all(run, 0);
    while (atomic_load(&shared->parent.values[1]) != 0x01010101) {
        assert_true(atomic_load(&shared->parent.values[1]) <= 0x01010101);
        bool failed = false;
        for (int rank = 0; rank < 4; rank++)
            failed |= atomic_load(&shared->ranks[rank].failed) != 0;
        if (failed)
            break;
        proc_nap();
    }
    proc_run_wait(run, 30000);
    proc_daemon_finish(daemon);
}

/* ---- names, sizes, ranks ---- */

static void names_body(struct proc_me *me)
{
    struct trtcoll_ctx *ctx = proc_open(me, -1);
    struct trtcoll_group *group = NULL;
    char longest[80];
    static const char *const bad[] = {"", "a b", "a\"b", "\xc3\xa4", "new\nline", "a,b", "a*"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        CHECK_CODE(trtcoll_group_create(ctx, bad[i], 1, 0, 0, &group), TRTCOLL_EINVAL);
    memset(longest, 'x', sizeof(longest));
    longest[64] = 0;
    CHECK_CODE(trtcoll_group_create(ctx, longest, 1, 0, 0, &group), TRTCOLL_EINVAL);
    longest[63] = 0;
    CHECK_OK(trtcoll_group_create(ctx, longest, 1, 0, 0, &group));
    CHECK(strcmp(case_group_info(group).name, longest) == 0);
    CHECK_OK(trtcoll_group_leave(group));
    CHECK_OK(trtcoll_group_create(ctx, "Az09._:/-", 1, 0, 0, &group));
    proc_sum(group, TRTCOLL_LANE_DIRECT, 5);
    CHECK_OK(trtcoll_group_leave(group));
    group = NULL;
    CHECK_CODE(trtcoll_group_create(ctx, "g", 0, 0, 0, &group), TRTCOLL_EINVAL);
    CHECK_CODE(trtcoll_group_create(ctx, "g", 2, 2, 0, &group), TRTCOLL_EINVAL);
    CHECK_CODE(trtcoll_group_create(ctx, "g", TRTCOLL_MAX_RANKS + 1, 0, 0, &group), TRTCOLL_EINVAL);
    CHECK_CODE(trtcoll_group_create(ctx, "g", UINT32_MAX, 0, 0, &group), TRTCOLL_EINVAL);
    CHECK_CODE(trtcoll_group_create(ctx, NULL, 1, 0, 0, &group), TRTCOLL_EINVAL);
    CHECK(group == NULL);
    trtcoll_ctx_close(ctx);
}

static void test_names(void **state)
{
    (void)state;
    struct proc_daemon *daemon = start(NULL);
    proc_run_all(daemon, 1, names_body, NULL, 20000);
    proc_daemon_finish(daemon);
}

/* Rank 0 has made a group of 2 and waits; rank 1 comes with wrong ideas, then with the right one. */
static void disagree_body(struct proc_me *me)
{
    struct trtcoll_ctx *ctx = proc_open(me, -1);
    struct trtcoll_group *group = NULL, *wrong = NULL;
    if (me->rank == 0) {
        proc_reach(me, 1);
        CHECK_OK(trtcoll_group_create(ctx, "pair", 2, 0, 0, &group));
    } else {
        proc_await(me, 0, 1);
        /* Until rank 0 is in, this would found the group itself: so ask with the rank that is taken, until it is. */
        int code;
        while ((code = trtcoll_group_create(ctx, "pair", 2, 0, 1, &wrong)) == TRTCOLL_ETIMEOUT)
            ;
        CHECK_CODE(code, TRTCOLL_EBUSY);
        CHECK_CODE(trtcoll_group_create(ctx, "pair", 3, 1, 200, &wrong), TRTCOLL_EMISMATCH);
        struct trtcoll_error error = proc_last_error();
        CHECK_EQ(error.mine, 3);
        CHECK_EQ(error.theirs, 2);
        CHECK(wrong == NULL);
        CHECK_OK(trtcoll_group_create(ctx, "pair", 2, 1, 0, &group));
    }
    proc_sum(group, TRTCOLL_LANE_DIRECT, 50);
    /* Complete: nobody else gets in. */
    CHECK_CODE(trtcoll_group_create(ctx, "pair", 2, (uint32_t)me->rank, 200, &wrong), TRTCOLL_EEXIST);
    proc_barrier(me);
    trtcoll_ctx_close(ctx);
}

static void test_disagreement(void **state)
{
    (void)state;
    struct proc_daemon *daemon = start(NULL);
    proc_run_all(daemon, 2, disagree_body, NULL, 20000);
    proc_daemon_finish(daemon);
}

/* Ranks 1 and 3 of 5 never come. */
static void partial_body(struct proc_me *me)
{
    static const uint32_t ranks[] = {0, 2, 4};
    struct trtcoll_ctx *ctx = proc_open(me, -1);
    struct trtcoll_group *group = NULL;
    uint64_t start = proc_now_ns();
    CHECK_CODE(trtcoll_group_create(ctx, "partial", 5, ranks[me->rank], 400, &group), TRTCOLL_ETIMEOUT);
    double waited = (double)(proc_now_ns() - start) / 1e6;
    CHECK_MSG(waited < 400 + proc_allowance_ms(), "waited %.0f ms instead of 400", waited);
    struct trtcoll_error error = proc_last_error();
    CHECK_MSG(names_number(error.text, 1) && names_number(error.text, 3), "the absent ranks 1 and 3 are not named: %s", error.text);
    CHECK_MSG(strcmp(error.group, "partial") == 0, "group '%s'", error.group);
    CHECK(group == NULL);
    /* The name is free again. */
    proc_barrier(me);
    group = proc_group(me, ctx, "partial");
    proc_sum(group, TRTCOLL_LANE_SERVED, 50);
    trtcoll_ctx_close(ctx);
}

static void test_partial(void **state)
{
    (void)state;
    struct proc_daemon *daemon = start(NULL);
    proc_run_all(daemon, 3, partial_body, NULL, 20000);
    proc_daemon_finish(daemon);
}

/* ---- many groups ---- */

/* TP x PP x CP = 2 x 2 x 2: every rank is in four groups and works in all of them, in both lanes. */
static void grid_body(struct proc_me *me)
{
    int tp = me->rank & 1, pp = me->rank >> 1 & 1, cp = me->rank >> 2 & 1;
    struct trtcoll_ctx *ctx = proc_open(me, -1);
    struct trtcoll_group *groups[4];
    char name[32];
    snprintf(name, sizeof(name), "tp/pp%d/cp%d", pp, cp);
    CHECK_OK(trtcoll_group_create(ctx, name, 2, (uint32_t)tp, 0, &groups[0]));
    snprintf(name, sizeof(name), "pp/tp%d/cp%d", tp, cp);
    CHECK_OK(trtcoll_group_create(ctx, name, 2, (uint32_t)pp, 0, &groups[1]));
    snprintf(name, sizeof(name), "cp/tp%d/pp%d", tp, pp);
    CHECK_OK(trtcoll_group_create(ctx, name, 2, (uint32_t)cp, 0, &groups[2]));
    CHECK_OK(trtcoll_group_create(ctx, "world", 8, (uint32_t)me->rank, 0, &groups[3]));
    for (unsigned round = 0; round < 6; round++)
        for (unsigned i = 0; i < 4; i++)
            proc_sum(groups[i], (round + i) % 2 ? TRTCOLL_LANE_DIRECT : TRTCOLL_LANE_SERVED, 1 + 100 * i);
    for (unsigned i = 0; i < 4; i++)
        CHECK_OK(trtcoll_group_leave(groups[i]));
    trtcoll_ctx_close(ctx);
}

static void test_grid(void **state)
{
    (void)state;
    struct proc_daemon *daemon = start(NULL);
    proc_run_all(daemon, 8, grid_body, NULL, 60000);
    proc_daemon_finish(daemon);
}

static void engine_body(struct proc_me *me)
{
    const char *name = me->arg;
    uint64_t random = (uint64_t)name[0];
    struct trtcoll_ctx *ctx = proc_open(me, -1);
    struct trtcoll_group *group = proc_group(me, ctx, name);
    for (unsigned i = 0; i < 20; i++)
        case_any(me, group, &random, i % 2 ? TRTCOLL_LANE_DIRECT : TRTCOLL_LANE_SERVED);
    trtcoll_ctx_close(ctx);
}

static void test_two_engines(void **state)
{
    (void)state;
    struct proc_daemon *daemon = start(NULL);
    char one[] = "a-engine", two[] = "b-engine";
    struct proc_run *first = proc_run_start(daemon, 3, engine_body, one);
    struct proc_run *second = proc_run_start(daemon, 2, engine_body, two);
    proc_run_wait(first, 60000);
    proc_run_wait(second, 60000);
    proc_daemon_finish(daemon);
}

/* ---- leaving and coming back ---- */

static void reuse_body(struct proc_me *me)
{
    struct trtcoll_ctx *ctx = proc_open(me, -1);
    uint64_t last = 0;
    for (unsigned i = 0; i < 15; i++) {
        struct trtcoll_group *group = proc_group(me, ctx, "again");
        struct trtcoll_group_info info = case_group_info(group);
        CHECK_MSG(info.epoch > last, "epoch %llu after %llu", (unsigned long long)info.epoch, (unsigned long long)last);
        last = info.epoch;
        proc_sum(group, i % 2 ? TRTCOLL_LANE_DIRECT : TRTCOLL_LANE_SERVED, 64);
        CHECK_OK(trtcoll_group_leave(group));
        proc_barrier(me); /* the name is free when all have left */
    }
    trtcoll_ctx_close(ctx);
}

static void test_name_reused(void **state)
{
    (void)state;
    struct proc_daemon *daemon = start(NULL);
    proc_run_all(daemon, 3, reuse_body, NULL, 40000);
    proc_daemon_finish(daemon);
}

/* Rank 1 leaves politely while the others wait for it in an operation. */
static void leave_body(struct proc_me *me)
{
    unsigned lane = *(unsigned *)me->arg;
    struct trtcoll_ctx *ctx = proc_open(me, -1);
    struct trtcoll_group *group = proc_group(me, ctx, "leave");
    struct trtcoll_barrier_desc desc = TRTCOLL_BARRIER_DESC_INIT;
    struct trtcoll_run_args args = TRTCOLL_RUN_ARGS_INIT;
    struct trtcoll_plan *plan = NULL;
    desc.lane = lane;
    CHECK_OK(trtcoll_plan_create_barrier(group, &desc, &plan));
    CHECK_OK(trtcoll_plan_run(plan, &args, NULL, NULL));
    if (me->rank == 1) {
        proc_barrier(me);
        CHECK_OK(trtcoll_group_leave(group));
    } else {
        proc_barrier(me);
        CHECK_CODE(trtcoll_plan_run(plan, &args, NULL, NULL), TRTCOLL_EPEERDEAD);
        struct trtcoll_error error = proc_last_error();
        CHECK_EQ(error.rank, 1);
        CHECK_MSG(strstr(error.text, "left") != NULL, "the text does not say that it left: %s", error.text);
        CHECK_EQ(case_group_info(group).state, TRTCOLL_GROUP_BROKEN);
        CHECK_EQ(case_group_info(group).code, TRTCOLL_EPEERDEAD);
        CHECK_EQ(case_group_info(group).culprit, 1);
    }
    trtcoll_ctx_close(ctx);
}

static void test_leave_while_waiting(void **state)
{
    (void)state;
    struct proc_daemon *daemon = start(NULL);
    for (unsigned lane = TRTCOLL_LANE_DIRECT; lane <= TRTCOLL_LANE_SERVED; lane++)
        proc_run_all(daemon, 3, leave_body, &lane, 20000);
    proc_daemon_finish(daemon);
}

/* ---- re-forming ---- */

static void await_broken(struct trtcoll_group *group, int code)
{
    uint64_t end = proc_now_ns() + PROC_PATIENCE_MS * 1000000ull;
    while (case_group_info(group).state != TRTCOLL_GROUP_BROKEN) {
        CHECK_MSG(proc_now_ns() < end, "the group does not become broken");
        proc_nap();
    }
    CHECK_EQ(case_group_info(group).code, code);
}

/* Rank 1 of 4 is killed. The others go on as three, in the same order, with both lanes. */
static void shrink_body(struct proc_me *me)
{
    struct trtcoll_ctx *ctx = proc_open(me, -1);
    struct trtcoll_group *group = proc_group(me, ctx, "shrink");
    struct trtcoll_barrier_desc desc = TRTCOLL_BARRIER_DESC_INIT;
    struct trtcoll_run_args args = TRTCOLL_RUN_ARGS_INIT;
    struct trtcoll_plan *plan = NULL;
    CHECK_OK(trtcoll_plan_create_barrier(group, &desc, &plan));
    CHECK_OK(trtcoll_plan_run(plan, &args, NULL, NULL));
    CHECK_CODE(trtcoll_group_reform(group, TRTCOLL_REFORM_SHRINK, 100), TRTCOLL_EINVAL); /* not broken */
    uint64_t epoch = case_group_info(group).epoch;
    proc_reach(me, 1);
    if (me->rank == 1)
        proc_await_parent(me, 99);
    await_broken(group, TRTCOLL_EPEERDEAD);
    CHECK_CODE(trtcoll_plan_run(plan, &args, NULL, NULL), TRTCOLL_EPEERDEAD);
    CHECK_OK(trtcoll_group_reform(group, TRTCOLL_REFORM_SHRINK, 0));
    struct trtcoll_group_info info = case_group_info(group);
    CHECK_EQ(info.nranks, 3);
    CHECK_EQ(info.rank, me->rank > 1 ? me->rank - 1 : 0);
    CHECK_EQ(info.state, TRTCOLL_GROUP_READY);
    CHECK(info.epoch > epoch);
    CHECK(trtcoll_plan_run(plan, &args, NULL, NULL) != 0); /* a plan of the old epoch stays dead */
    CHECK_OK(trtcoll_plan_release(plan));
    proc_sum(group, TRTCOLL_LANE_DIRECT, 1000);
    proc_sum(group, TRTCOLL_LANE_SERVED, 1000);
    trtcoll_ctx_close(ctx);
}

static void test_shrink(void **state)
{
    (void)state;
    struct proc_daemon *daemon = start(NULL);
    struct proc_run *run = proc_run_start(daemon, 4, shrink_body, NULL);
    proc_run_await_all(run, 1);
    proc_run_kill(run, 1, SIGKILL);
    proc_run_wait(run, 30000);
    proc_daemon_finish(daemon);
}

static void keep_body(struct proc_me *me)
{
    bool restarted = me->arg != NULL;
    struct trtcoll_ctx *ctx = proc_open(me, me->rank);
    struct trtcoll_group *group = NULL;
    CHECK_OK(trtcoll_group_join(ctx, "tp", me->rank, 0, &group));
    if (!restarted) {
        proc_sum(group, TRTCOLL_LANE_SERVED, 10);
        proc_reach(me, 1);
        if (me->rank == 2)
            proc_await_parent(me, 99);
        await_broken(group, TRTCOLL_EPEERDEAD);
        CHECK_OK(trtcoll_group_reform(group, 0, 0));
    }
    struct trtcoll_group_info info = case_group_info(group);
    CHECK_EQ(info.rank, me->rank);
    CHECK_EQ(info.nranks, 4);
    proc_sum(group, TRTCOLL_LANE_DIRECT, 1000);
    proc_sum(group, TRTCOLL_LANE_SERVED, 1000);
    trtcoll_ctx_close(ctx);
}

/* A restarted process takes its old place. */
static void test_keep(void **state)
{
    (void)state;
    struct proc_daemon *daemon = start(TP4);
    struct proc_run *run = proc_run_start(daemon, 4, keep_body, NULL);
    proc_run_await_all(run, 1);
    proc_run_kill(run, 2, SIGKILL);
    proc_run_again(run, 2, keep_body, daemon);
    proc_run_wait(run, 30000);
    proc_daemon_finish(daemon);
}

static void reform_trouble_body(struct proc_me *me)
{
    struct trtcoll_ctx *ctx = proc_open(me, -1);
    struct trtcoll_group *group = proc_group(me, ctx, "trouble");
    if (me->rank == 0)
        CHECK_OK(trtcoll_group_abort(group, "to be re-formed"));
    await_broken(group, TRTCOLL_EABORTED);
    /* Different flags: both are told, and may try again. */
    if (me->rank != 2)
        CHECK_CODE(trtcoll_group_reform(group, me->rank == 1 ? TRTCOLL_REFORM_SHRINK : 0, 0), TRTCOLL_EMISMATCH);
    proc_barrier(me);
    /* Rank 2 does not come: the others learn who is missing. */
    if (me->rank != 2) {
        CHECK_CODE(trtcoll_group_reform(group, 0, 300), TRTCOLL_ETIMEOUT);
        struct trtcoll_error error = proc_last_error();
        CHECK_MSG(names_number(error.text, 2), "the absent rank 2 is not named: %s", error.text);
    }
    proc_barrier(me);
    CHECK_OK(trtcoll_group_reform(group, 0, 0));
    proc_sum(group, TRTCOLL_LANE_SERVED, 10);
    CHECK_CODE(trtcoll_group_reform(group, 4, 0), TRTCOLL_EINVAL);
    trtcoll_ctx_close(ctx);
}

static void test_reform_trouble(void **state)
{
    (void)state;
    struct proc_daemon *daemon = start(NULL);
    proc_run_all(daemon, 3, reform_trouble_body, NULL, 30000);
    proc_daemon_finish(daemon);
}

/* Breaks and re-forms often; nothing piles up in the daemon. */
static void reform_often_body(struct proc_me *me)
{
    struct trtcoll_ctx *ctx = proc_open(me, -1);
    struct trtcoll_group *group = proc_group(me, ctx, "often");
    for (unsigned i = 0; i < 10; i++) {
        proc_sum(group, i % 2 ? TRTCOLL_LANE_DIRECT : TRTCOLL_LANE_SERVED, 10);
        proc_barrier(me);
        if ((unsigned)me->rank == i % 3)
            CHECK_OK(trtcoll_group_abort(group, NULL));
        await_broken(group, TRTCOLL_EABORTED);
        CHECK_OK(trtcoll_group_reform(group, i % 2 ? TRTCOLL_REFORM_SHRINK : 0, 0));
    }
    proc_barrier(me);
    proc_reach(me, 1);
    proc_await_parent(me, 1);
    trtcoll_ctx_close(ctx);
}

static void test_reform_often(void **state)
{
    (void)state;
    struct proc_daemon *daemon = start(NULL);
    struct proc_run *run = proc_run_start(daemon, 3, reform_often_body, NULL);
    struct proc_census now;
    proc_run_await_all(run, 1);
    /* Three clients in one group without plans: a socket, a pidfd and a page each, and little else. */
    uint64_t end = proc_now_ns() + PROC_PATIENCE_MS * 1000000ull;
    do {
        proc_nap();
        assert_true(proc_census_take(daemon->pid, &now));
    } while (now.memfds > daemon->baseline.memfds + 6 && proc_now_ns() < end);
    assert_in_range(now.memfds, 0, daemon->baseline.memfds + 6);
    proc_run_reach(run, 1);
    proc_run_wait(run, 30000);
    proc_daemon_finish(daemon);
}

/* ---- who may join ---- */

enum { STRANGER = 4243 };

/* Root and the daemon's own user may join everything. Where the test runs as root, it looks from outside too, as somebody else. */
static void access_body(struct proc_me *me)
{
    bool root = geteuid() == 0, stranger = root && me->rank == 1;
    if (stranger)
        CHECK(setresgid(STRANGER, STRANGER, STRANGER) == 0 && setresuid(STRANGER, STRANGER, STRANGER) == 0);
    struct trtcoll_ctx *ctx = proc_open(me, -1);
    struct trtcoll_group *group = NULL;
    if (me->nranks > 1 && !stranger)
        proc_await(me, 1, 1); /* one after the other: the groups have one rank */
    CHECK_CODE(trtcoll_group_join(ctx, "theirs", -1, 0, &group), stranger ? TRTCOLL_EPERM : TRTCOLL_OK);
    CHECK_MSG((group != NULL) != stranger, "a refused group was handed out");
    if (group)
        CHECK_OK(trtcoll_group_leave(group));
    CHECK_OK(trtcoll_group_join(ctx, stranger ? "strangers" : "everybody", -1, 0, &group));
    proc_sum(group, TRTCOLL_LANE_SERVED, 10);
    trtcoll_ctx_close(ctx);
    proc_reach(me, 1);
}

static void test_access(void **state)
{
    (void)state;
    struct proc_daemon *daemon = proc_daemon_start(&(struct proc_settings){
        .devices = 4,
        .more = "\"socket_mode\": \"0666\",",
        .groups = "[{\"name\": \"theirs\", \"ranks\": [0], \"access\": {\"uids\": [4242]}},"
                  " {\"name\": \"strangers\", \"ranks\": [2], \"access\": {\"uids\": [4243]}},"
                  " {\"name\": \"everybody\", \"ranks\": [0]}]",
    });
    assert_int_equal(chmod(daemon->base, 0755), 0);
    assert_int_equal(chmod(daemon->runtime, 0755), 0);
    proc_run_all(daemon, 1, access_body, NULL, 20000);
    if (geteuid() == 0)
        proc_run_all(daemon, 2, access_body, NULL, 20000);
    proc_daemon_finish(daemon);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_configured, proc_teardown),
        cmocka_unit_test_teardown(test_any_free_rank, proc_teardown),
        cmocka_unit_test_teardown(test_names, proc_teardown),
        cmocka_unit_test_teardown(test_disagreement, proc_teardown),
        cmocka_unit_test_teardown(test_partial, proc_teardown),
        cmocka_unit_test_teardown(test_grid, proc_teardown),
        cmocka_unit_test_teardown(test_two_engines, proc_teardown),
        cmocka_unit_test_teardown(test_name_reused, proc_teardown),
        cmocka_unit_test_teardown(test_leave_while_waiting, proc_teardown),
        cmocka_unit_test_teardown(test_shrink, proc_teardown),
        cmocka_unit_test_teardown(test_keep, proc_teardown),
        cmocka_unit_test_teardown(test_reform_trouble, proc_teardown),
        cmocka_unit_test_teardown(test_reform_often, proc_teardown),
        cmocka_unit_test_teardown(test_access, proc_teardown),
    };
    return cmocka_run_group_tests_name("groups", tests, NULL, NULL);
}
