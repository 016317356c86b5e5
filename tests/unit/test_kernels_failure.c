/* Nothing hangs: late, missing, diverging and hostile ranks, aborts, deadlines, and long mixed histories on one workspace. */
#include "kernels_fixture.h"
#include "plan_fixture.h"

#include "kernels/host/layout.h"

#include <sched.h>

#if defined(__SANITIZE_THREAD__)
#define RACES_ON_PURPOSE 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define RACES_ON_PURPOSE 1
#endif
#endif

enum { MS = 1000000, SLACK_MS = 100, ELEMENTS = 1000 };

static float data_in[TCK_HOST_MAX_RANKS][ELEMENTS], data_out[TCK_HOST_MAX_RANKS][ELEMENTS];
static const void *ins[TCK_HOST_MAX_RANKS];
static void *outs[TCK_HOST_MAX_RANKS];
static struct tcw_plan_desc sum_desc;

static struct tck_run sum_run(uint32_t rank, uint32_t plan_id, uint64_t tokens)
{
    ins[rank] = data_in[rank];
    outs[rank] = data_out[rank];
    for (unsigned i = 0; i < ELEMENTS; i++)
        data_in[rank][i] = (float)(rank + 1);
    return (struct tck_run){
        .desc = &sum_desc, .plan_id = plan_id, .strategy = TCW_STRATEGY_ONESHOT, .tokens = tokens, .in = &ins[rank], .out = &outs[rank]};
}

static int set_up(void **state)
{
    (void)state;
    sum_desc = plan_all_reduce(TCW_FP32, TCW_FUSION_NONE, 10, ELEMENTS / 10);
    return 0;
}

static void run_once(struct group *group)
{
    struct tck_run runs[TCK_HOST_MAX_RANKS];
    for (uint32_t r = 0; r < group->n; r++)
        runs[r] = sum_run(r, 1, 10);
    group_run(group, runs);
    for (uint32_t r = 0; r < group->n; r++)
        assert_true(data_out[r][0] == (float)(group->n * (group->n + 1) / 2) && data_out[r][ELEMENTS - 1] == data_out[r][0]);
}

static void wait_until_missed(struct group *group, uint32_t waiter, uint64_t mask)
{
    uint64_t until = tcw_now_ns() + UINT64_C(20000000000);
    while (atomic_load(&group->ranks[waiter].missing) != mask) {
        assert_true(tcw_now_ns() < until);
        sched_yield();
    }
}

/* ---- saying that a run is under way ---- */

struct announced {
    struct group *group;
    uint32_t rank, times;
    bool posted; /* by then: the rank's own flag of its first step */
};

static void announce(void *arg)
{
    struct announced *announced = arg;
    struct group_rank *rank = &announced->group->ranks[announced->rank];
    const struct tck_flag *flag = (const struct tck_flag *)((const unsigned char *)rank->memory.base + TCK_HEADER_BYTES);

    announced->times++;
    announced->posted = atomic_load(&flag->sequence) == 1;
}

/* Once per run, however many steps it takes; where everybody waits for everybody, not before this rank has posted. */
static void test_under_way(void **state)
{
    (void)state;
    for (uint32_t n = 1; n <= 3; n++) {
        for (unsigned rows = 1; rows <= 10; rows += 9) {
            /* Ten rows take several steps of the two-shot. */
            struct group *group = group_open(n, TCK_HEADER_BYTES + 3 * 16384, NULL, NULL);
            struct announced announced[3];
            struct tck_run runs[3];
            for (uint32_t r = 0; r < n; r++) {
                announced[r] = (struct announced){.group = group, .rank = r};
                runs[r] = sum_run(r, 1, rows);
                runs[r].strategy = rows == 1 ? TCW_STRATEGY_ONESHOT : TCW_STRATEGY_TWOSHOT;
                runs[r].under_way = announce;
                runs[r].under_way_arg = &announced[r];
            }
            group_run(group, runs);
            for (uint32_t r = 0; r < n; r++) {
                assert_int_equal(announced[r].times, n > 1);
                assert_int_equal(announced[r].posted, n > 1);
            }
            group_run(group, runs);
            for (uint32_t r = 0; r < n; r++)
                assert_int_equal(announced[r].times, n > 1 ? 2 : 0);
            group_close(group);
        }
    }
}

/* A root that never waits says so too; a rank whose peers never come says it before it waits for them. */
static void test_under_way_alone(void **state)
{
    (void)state;
    struct group *group = group_open(2, 65536 + 4096, NULL, NULL);
    struct tcw_plan_desc desc = plan_of(TCW_OP_BROADCAST);
    const void *in[1] = {data_in[0]};
    void *out[1] = {data_out[0]};
    struct announced announced = {.group = group};
    plan_add_tensor(&desc, TCW_FP32, 1, 1, ELEMENTS);
    struct tck_run run = {.desc = &desc, .plan_id = 1, .in = in, .out = out, .under_way = announce, .under_way_arg = &announced};
    group->ranks[0].run = &run;
    group->ranks[1].run = NULL;
    group_start(group);
    group_finish(group);
    assert_int_equal(group->ranks[0].code, 0);
    assert_true(announced.times == 1 && announced.posted);
    struct tck_run sum = sum_run(0, 1, 10);
    sum.under_way = announce;
    sum.under_way_arg = &announced;
    atomic_store(&group->deadline_ns, 20 * MS);
    group->ranks[0].run = &sum;
    group_start(group);
    group_finish(group);
    assert_int_equal(group->ranks[0].code, TCW_ETIMEOUT);
    assert_int_equal(announced.times, 2);
    group_start(group); /* refused at once */
    group_finish(group);
    assert_int_equal(group->ranks[0].code, TCW_ETIMEOUT);
    assert_int_equal(announced.times, 2);
    group_close(group);
}

/* The others name the missing rank and how far it came, in time; afterwards the communicator stays broken. */
static void test_missing_rank(void **state)
{
    (void)state;
    struct group *group = group_open(3, 65536 + 4096, NULL, NULL);
    struct tck_run runs[3];
    for (int i = 0; i < 4; i++)
        run_once(group);
    atomic_store(&group->deadline_ns, 60 * MS);
    for (uint32_t r = 0; r < 3; r++)
        runs[r] = sum_run(r, 1, 10);
    group->ranks[0].run = &runs[0];
    group->ranks[1].run = NULL;
    group->ranks[2].run = &runs[2];
    group_start(group);
    wait_until_missed(group, 0, 1 << 1);
    wait_until_missed(group, 2, 1 << 1);
    group_finish(group);
    for (uint32_t r = 0; r < 3; r += 2) {
        struct group_rank *rank = &group->ranks[r];
        assert_int_equal(rank->code, TCW_ETIMEOUT);
        assert_int_equal(rank->fault.code, TCW_ETIMEOUT);
        assert_int_equal(rank->fault.rank, 1);
        assert_int_equal(rank->fault.step, 4);
        assert_true(rank->ended_ns - rank->began_ns >= 60 * MS);
        assert_true(rank->ended_ns - rank->began_ns <= (60 + SLACK_MS) * MS);
        assert_int_equal(atomic_load(&rank->missing), 1 << 1);
    }
    group_start(group); /* once more: refused at once, the same way */
    group_finish(group);
    assert_int_equal(group->ranks[0].code, TCW_ETIMEOUT);
    assert_int_equal(group->ranks[0].fault.rank, 1);
    assert_true(group->ranks[0].ended_ns - group->ranks[0].began_ns < 30 * MS);
    group_close(group);
}

/* A stopped receiver holds up the root of broadcasts, which holds up the others: they all name the receiver. */
static int broadcast_until_it_breaks(struct group_rank *rank)
{
    struct tcw_plan_desc desc = plan_of(TCW_OP_BROADCAST);
    const void *in[1] = {data_in[0]};
    void *out[1] = {data_out[rank->rank]};
    plan_add_tensor(&desc, TCW_FP32, 1, 1, ELEMENTS);
    for (unsigned k = 0; rank->rank != 2 || k < 5; k++) {
        struct tck_run run = {.desc = &desc, .plan_id = 1, .in = in, .out = out};
        if (tck_comm_run(rank->comm, &run, &rank->fault))
            break;
    }
    return 0;
}

static void test_culprit_behind_a_root(void **state)
{
    (void)state;
    struct group *group = group_open(4, 65536 + 4096, NULL, NULL);
    atomic_store(&group->deadline_ns, 50 * MS);
    group_run_body(group, broadcast_until_it_breaks);
    for (uint32_t r = 0; r < 4; r++) {
        if (r == 2)
            continue;
        assert_int_equal(group->ranks[r].fault.code, TCW_ETIMEOUT);
        assert_int_equal(group->ranks[r].fault.rank, 2);
        assert_int_equal(group->ranks[r].fault.step, 5);
    }
    group_close(group);
}

/* A deadline that is set while a rank waits without one ends that wait. */
static void test_deadline_changes(void **state)
{
    (void)state;
    struct group *group = group_open(2, 65536 + 4096, NULL, NULL);
    struct tck_run run = sum_run(0, 1, 10);
    atomic_store(&group->deadline_ns, 0);
    group->ranks[0].run = &run;
    group_start(group);
    wait_until_missed(group, 0, 1 << 1);
    uint64_t set = tcw_now_ns();
    atomic_store(&group->deadline_ns, 1);
    group_finish(group);
    assert_int_equal(group->ranks[0].code, TCW_ETIMEOUT);
    assert_int_equal(group->ranks[0].fault.step, 0);
    assert_true(group->ranks[0].ended_ns - set < SLACK_MS * MS);
    group_close(group);
}

static void test_abort_while_waiting(void **state)
{
    (void)state;
    for (uint32_t n = 2; n <= TCK_HOST_MAX_RANKS; n += 7) {
        struct group *group = group_open(n, 65536 + 4096, NULL, NULL);
        struct tck_run runs[TCK_HOST_MAX_RANKS];
        run_once(group);
        for (uint32_t r = 0; r + 1 < n; r++) {
            runs[r] = sum_run(r, 1, 10);
            group->ranks[r].run = &runs[r];
        }
        group->ranks[n - 1].run = NULL;
        group_start(group);
        for (uint32_t r = 0; r + 1 < n; r++)
            wait_until_missed(group, r, UINT64_C(1) << (n - 1));
        uint64_t raised = tcw_now_ns();
        atomic_store(&group->abort_word, tcw_abort_pack(TCW_EPEERDEAD, n - 1));
        group_finish(group);
        for (uint32_t r = 0; r + 1 < n; r++) {
            assert_int_equal(group->ranks[r].code, TCW_EPEERDEAD);
            assert_int_equal(group->ranks[r].fault.rank, n - 1);
            assert_true(group->ranks[r].ended_ns - raised < SLACK_MS * MS);
            assert_int_equal(atomic_load(&group->ranks[r].missing), 0);
        }
        group_close(group);
    }
}

/* An abort that came before is seen before anything runs, even where nobody would be waited for. */
static void test_abort_before(void **state)
{
    (void)state;
    struct group *group = group_open(1, 65536 + 4096, NULL, NULL);
    struct tck_run run = sum_run(0, 1, 10);
    atomic_store(&group->abort_word, tcw_abort_pack(TCW_EABORTED, TCW_NOBODY));
    group->ranks[0].run = &run;
    group_start(group);
    group_finish(group);
    assert_int_equal(group->ranks[0].code, TCW_EABORTED);
    assert_int_equal(group->ranks[0].fault.rank, TCW_NOBODY);
    group_close(group);
}

static int polls;
static int hang_up(void *arg)
{
    return ++polls < *(int *)arg ? 0 : TCW_ECONN;
}

static void test_poll_ends_wait(void **state)
{
    (void)state;
    int limit = 3;
    struct group *group = group_open(2, 65536 + 4096, hang_up, &limit);
    struct tck_run run = sum_run(1, 1, 10);
    polls = 0;
    group->ranks[1].run = &run;
    group_start(group);
    group_finish(group);
    assert_int_equal(group->ranks[1].code, TCW_ECONN);
    assert_int_equal(group->ranks[1].fault.rank, TCW_NOBODY);
    assert_int_equal(polls, 3);
    assert_true(group->ranks[1].ended_ns - group->ranks[1].began_ns < (3 * 10 + SLACK_MS) * MS);
    group_close(group);
}

static void expect_mismatch(const struct group *group, uint32_t rank, uint32_t about, const char *field, uint64_t mine, uint64_t theirs)
{
    const struct group_rank *r = &group->ranks[rank];
    assert_int_equal(r->code, TCW_EMISMATCH);
    assert_int_equal(r->fault.rank, about);
    assert_string_equal(r->fault.field, field);
    assert_int_equal(r->fault.mine, mine);
    assert_int_equal(r->fault.theirs, theirs);
}

static void test_mismatch(void **state)
{
    (void)state;
    struct tck_run runs[3];
    for (unsigned what = 0; what < 3; what++) {
        struct group *group = group_open(3, 65536 + 4096, NULL, NULL);
        run_once(group);
        for (uint32_t r = 0; r < 3; r++) {
            runs[r] = sum_run(r, 7, 10);
            group->ranks[r].run = &runs[r];
        }
        if (what == 0)
            runs[2].plan_id = 8;
        else if (what == 1)
            runs[2].tokens = 9;
        else
            runs[2].strategy = TCW_STRATEGY_TWOSHOT;
        static const char *const fields[] = {"plan", "tokens", "strategy"};
        static const uint64_t theirs[] = {8, 9, TCW_STRATEGY_TWOSHOT}, ours[] = {7, 10, TCW_STRATEGY_ONESHOT};
        group_start(group);
        group_finish(group);
        expect_mismatch(group, 0, 2, fields[what], ours[what], theirs[what]);
        expect_mismatch(group, 1, 2, fields[what], ours[what], theirs[what]);
        expect_mismatch(group, 2, 0, fields[what], theirs[what], ours[what]);
        group_close(group);
    }
}

/* The waiter is deep asleep when the late rank comes; nothing is lost. */
static void test_delayed_rank(void **state)
{
    (void)state;
    struct group *group = group_open(5, 65536 + 4096, NULL, NULL);
    for (uint32_t late = 0; late < 5; late++) {
        group->ranks[late].delay_ns = 15 * MS;
        run_once(group);
        group->ranks[late].delay_ns = 0;
        for (uint32_t r = 0; r < 5; r++)
            assert_int_equal(atomic_load(&group->ranks[r].missing), 0);
    }
    group_close(group);
}

/* What upstream gets wrong: types, strategies and operations in any order on one workspace, back to back, ranks at their own pace. */
enum { HISTORY_RANKS = 5, HISTORY_RUNS = 400, HISTORY_BYTES = 8 * 3000 };

static int mixed_history(struct group_rank *rank)
{
    static const unsigned strategies[] = {TCW_STRATEGY_ONESHOT, TCW_STRATEGY_TWOSHOT, TCW_STRATEGY_NCCL, TCW_STRATEGY_MNNVL,
                                          TCW_STRATEGY_MIN_LATENCY};
    static const unsigned dtypes[] = {TCW_FP32, TCW_INT8, TCW_FP64, TCW_INT32, TCW_UINT64};
    uint8_t *in = malloc(HISTORY_BYTES), *out = malloc(HISTORY_BYTES);
    const void *in_list[1] = {in};
    void *out_list[1] = {out};
    int code = in && out ? 0 : TCW_ENOMEM;
    struct dice dice = {5}, pace = {rank->rank}; /* the first is the same on all ranks */
    for (unsigned k = 0; !code && k < HISTORY_RUNS; k++) {
        unsigned strategy = strategies[dice_below(&dice, 5)], dtype = dtypes[dice_below(&dice, 5)];
        uint64_t n = 1 + dice_below(&dice, k % 10 ? 100 : 3000);
        bool broadcast = dice_below(&dice, 6) == 0;
        struct tcw_plan_desc desc;
        uint64_t want = HISTORY_RANKS * k % 3 + HISTORY_RANKS * (HISTORY_RANKS + 1) / 2;
        for (uint64_t i = 0; i < n; i++) {
            uint64_t x = rank->rank + 1 + (rank->rank ? 0 : HISTORY_RANKS * k % 3);
            float f = (float)x;
            double d = (double)x;
            const void *value = dtype == TCW_FP32 ? (void *)&f : dtype == TCW_FP64 ? (void *)&d : (void *)&x;
            memcpy(in + i * tcw_dtype_bytes(dtype), value, tcw_dtype_bytes(dtype));
        }
        if (broadcast) {
            desc = plan_of(TCW_OP_BROADCAST);
            desc.root = k % HISTORY_RANKS;
            plan_add_tensor(&desc, dtype, 1, 1, n);
            want = desc.root + 1 + (desc.root ? 0 : HISTORY_RANKS * k % 3);
        } else {
            desc = plan_all_reduce(dtype, TCW_FUSION_NONE, 1, n);
        }
        if (dice_below(&pace, 40) == 0)
            group_sleep(300000);
        struct tck_run run = {.desc = &desc,
                              .plan_id = k,
                              .strategy = broadcast ? TCW_STRATEGY_AUTO : strategy,
                              .tokens = broadcast ? 0 : 1,
                              .in = in_list,
                              .out = out_list};
        code = tck_comm_run(rank->comm, &run, &rank->fault);
        for (uint64_t i = 0; !code && i < n; i++) {
            float f = (float)want;
            double d = (double)want;
            const void *value = dtype == TCW_FP32 ? (void *)&f : dtype == TCW_FP64 ? (void *)&d : (void *)&want;
            if (memcmp(out + i * tcw_dtype_bytes(dtype), value, tcw_dtype_bytes(dtype)))
                code = TCW_EINTERNAL;
        }
    }
    free(in);
    free(out);
    return code;
}

static void test_mixed_history(void **state)
{
    (void)state;
    struct group *group = group_open(HISTORY_RANKS, 65536 + 4096, NULL, NULL);
    group_run_body(group, mixed_history);
    group_close(group);
}

/*
 * A peer writes anything anywhere into everybody's workspace while operations run: wrong results and errors are fine, a crash, a read
 * out of bounds (ASan) or a wait beyond the deadline is not.
 */
#ifndef RACES_ON_PURPOSE
struct vandal {
    struct group *group;
    uint64_t bytes;
    unsigned kind; /* 0: data, 1: doorbells, 2: flag lines, 3: all of it */
    _Atomic bool stop;
};

static void *vandalize(void *arg)
{
    struct vandal *vandal = arg;
    struct dice dice = {99};
    while (!atomic_load(&vandal->stop)) {
        unsigned char *base = vandal->group->ranks[dice_below(&dice, vandal->group->n)].memory.base;
        uint64_t pitch = tck_layout_pitch(vandal->bytes), where, value = dice_roll(&dice);
        unsigned kind = vandal->kind < 3 ? vandal->kind : (unsigned)dice_below(&dice, 3);
        uint64_t buffer = TCK_HEADER_BYTES + dice_below(&dice, TCK_BUFFERS) * pitch;
        if (kind == 0)
            where = buffer + TCK_FLAG_BYTES + dice_below(&dice, pitch - TCK_FLAG_BYTES - 8);
        else if (kind == 1)
            where = dice_below(&dice, 256);
        else
            where = buffer + dice_below(&dice, 57);
        if (dice_below(&dice, 2))
            value = dice_below(&dice, 8);
        memcpy(base + where, &value, 8);
        if (dice_below(&dice, 64) == 0)
            sched_yield();
    }
    return NULL;
}

static int run_beside_vandal(struct group_rank *rank)
{
    static uint16_t in[3][4096], residual[4096], gamma[512], out[3][4096 * 3], residual_out[3][4096];
    static uint8_t quant[3][4096], scales[3][65536];
    const void *in_list[1] = {in[rank->rank]};
    void *out_list[1] = {out[rank->rank]};
    float scale = 3;
    struct dice dice = {17};
    for (unsigned k = 0; k < 50; k++) {
        struct tcw_plan_desc desc = plan_all_reduce(TCW_BF16, TCW_FUSION_RESIDUAL_RMS_NORM_OUT_QUANT_NVFP4, 8, 512);
        unsigned op = (unsigned)dice_below(&dice, 4);
        if (op) {
            desc = plan_of(op == 1 ? TCW_OP_ALL_GATHER : op == 2 ? TCW_OP_REDUCE_SCATTER : TCW_OP_BROADCAST);
            plan_add_tensor(&desc, TCW_FP16, 1, op == 3 ? 1 : 4, op == 3 ? 4000 : 300);
        }
        struct tck_run run = {.desc = &desc,
                              .plan_id = 1,
                              .strategy = op      ? TCW_STRATEGY_AUTO
                                          : k % 2 ? TCW_STRATEGY_TWOSHOT
                                                  : TCW_STRATEGY_ONESHOT,
                              .tokens = op ? 0 : 8,
                              .in = in_list,
                              .out = out_list,
                              .residual_in = residual,
                              .residual_out = residual_out[rank->rank],
                              .norm_weight = gamma,
                              .scale = &scale,
                              .quant_out = quant[rank->rank],
                              .scale_out = scales[rank->rank]};
        if (tck_comm_run(rank->comm, &run, &rank->fault))
            break;
    }
    return 0;
}

static void test_vandal(void **state)
{
    (void)state;
    enum { DEADLINE_MS = 20 };
    for (unsigned round = 0; round < 40; round++) {
        struct vandal vandal = {.group = group_open(3, 65536 + 4096, NULL, NULL), .bytes = 65536 + 4096, .kind = round % 4};
        pthread_t thread;
        atomic_store(&vandal.group->deadline_ns, DEADLINE_MS * MS);
        assert_int_equal(pthread_create(&thread, NULL, vandalize, &vandal), 0);
        uint64_t begin = tcw_now_ns();
        group_run_body(vandal.group, run_beside_vandal);
        uint64_t took = tcw_now_ns() - begin;
        atomic_store(&vandal.stop, true);
        pthread_join(thread, NULL);
        assert_true(took < UINT64_C(5000) * MS);
        group_close(vandal.group);
    }
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_under_way),        cmocka_unit_test(test_under_way_alone),
        cmocka_unit_test(test_missing_rank),     cmocka_unit_test(test_culprit_behind_a_root),
        cmocka_unit_test(test_deadline_changes), cmocka_unit_test(test_abort_while_waiting),
        cmocka_unit_test(test_abort_before),     cmocka_unit_test(test_poll_ends_wait),
        cmocka_unit_test(test_mismatch),         cmocka_unit_test(test_delayed_rank),
        cmocka_unit_test(test_mixed_history),
#ifndef RACES_ON_PURPOSE
        cmocka_unit_test(test_vandal),
#endif
    };
    return cmocka_run_group_tests(tests, set_up, NULL);
}
