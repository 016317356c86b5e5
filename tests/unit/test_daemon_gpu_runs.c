/* What kernels recorded of their runs: what a look takes of it, and when two ranks differ. */
#include "cmocka_all.h"

#include "daemon/control/gpu_runs.h"
#include "daemon/control/judge.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { RANKS = 4, KEPT = TCW_DEVICE_RECORDS - 16 };

static const char state_of_tests[] = "context";

struct fixture {
    struct tcw_device_progress pages[RANKS];
    struct tcd_gpu_runs runs[RANKS];
};

static int set_up(void **state)
{
    struct fixture *fixture = aligned_alloc(_Alignof(struct fixture), sizeof(*fixture));

    if (fixture)
        memset(fixture, 0, sizeof(*fixture));
    *state = fixture;
    return fixture ? 0 : -1;
}

static int tear_down(void **state)
{
    free(*state);
    return 0;
}

/* As a kernel does at the end of a run. */
static void record(struct tcw_device_progress *page, uint64_t step, uint32_t plan_id, uint32_t tokens)
{
    struct tcw_device_record *at = &page->records[step % TCW_DEVICE_RECORDS];

    __atomic_store_n(&at->end_ns, 5 * step + 2, __ATOMIC_RELAXED);
    __atomic_store_n(&at->plan_id, plan_id, __ATOMIC_RELAXED);
    __atomic_store_n(&at->tokens, tokens, __ATOMIC_RELAXED);
    __atomic_store_n(&at->start_ns, 5 * step, __ATOMIC_RELAXED);
    atomic_store_explicit(&at->step, step, memory_order_release);
    atomic_store_explicit(&page->steps, step, memory_order_release);
}

static void record_all(struct fixture *fixture, uint64_t first, uint64_t last, uint32_t plan_id, uint32_t tokens)
{
    for (uint64_t step = first; step <= last; step++)
        for (unsigned rank = 0; rank < RANKS; rank++)
            record(&fixture->pages[rank], step, plan_id, tokens);
}

static void look(struct fixture *fixture)
{
    for (unsigned rank = 0; rank < RANKS; rank++)
        tcd_gpu_runs_look(&fixture->runs[rank], &fixture->pages[rank]);
}

static unsigned asked;

/* As if plans of other hundreds had other workspaces. */
static bool same_hundred(const void *context, const struct tcd_gpu_run *one, const struct tcd_gpu_run *other)
{
    asked++;
    assert_ptr_equal(context, state_of_tests);
    return one->plan_id / 100 == other->plan_id / 100;
}

static bool differ(const struct fixture *fixture, unsigned one, unsigned other, struct tcd_gpu_difference *difference)
{
    return tcd_gpu_runs_differ(&fixture->runs[one], &fixture->runs[other], same_hundred, state_of_tests, difference);
}

static void test_takes_the_latest(void **state)
{
    struct fixture *fixture = *state;
    const struct tcd_gpu_look *now = &fixture->runs[0].now;

    look(fixture);
    assert_int_equal(now->count, 0);
    record_all(fixture, 1, 3, 5, 7);
    look(fixture);
    assert_int_equal(now->last, 3);
    assert_int_equal(now->count, 3);
    assert_int_equal(now->runs[2].plan_id, 5);
    assert_int_equal(now->runs[2].tokens, 7);
    assert_int_equal(fixture->runs[0].before.count, 0);
    record_all(fixture, 4, 1000, 6, 8);
    look(fixture);
    assert_int_equal(now->last, 1000);
    assert_int_equal(now->count, KEPT);
    assert_int_equal(now->runs[(1000 - KEPT + 1) % TCW_DEVICE_RECORDS].plan_id, 6);
    assert_int_equal(fixture->runs[0].before.last, 3);
    /* Another workspace counts from the beginning; what the former one left behind has other numbers. */
    record_all(fixture, 1, 2, 9, 9);
    look(fixture);
    assert_int_equal(now->last, 2);
    assert_int_equal(now->count, 2);
}

static void test_differ(void **state)
{
    struct fixture *fixture = *state;
    struct tcd_gpu_difference difference;

    record_all(fixture, 1, 50, 5, 7);
    look(fixture);
    look(fixture);
    assert_false(differ(fixture, 0, 1, &difference));
    record(&fixture->pages[0], 51, 5, 7);
    record(&fixture->pages[1], 51, 6, 7);
    look(fixture);
    assert_false(differ(fixture, 0, 1, &difference)); /* once is not enough */
    record(&fixture->pages[1], 52, 5, 9);
    look(fixture);
    assert_true(differ(fixture, 0, 1, &difference));
    assert_int_equal(difference.step, 51);
    assert_int_equal(difference.one.plan_id, 5);
    assert_int_equal(difference.other.plan_id, 6);
    assert_true(differ(fixture, 1, 0, &difference));
    assert_int_equal(difference.one.plan_id, 6);
    assert_false(differ(fixture, 0, 2, &difference)); /* which has not come to 51 */
}

/* Of two workspaces: runs of the same number have nothing to do with each other. */
static void test_other_workspace(void **state)
{
    struct fixture *fixture = *state;
    struct tcd_gpu_difference difference;

    for (uint64_t step = 1; step <= 10; step++) {
        record(&fixture->pages[0], step, 5, 7);
        record(&fixture->pages[1], step, step == 8 ? 6 : 105, 7);
    }
    look(fixture);
    look(fixture);
    assert_true(differ(fixture, 0, 1, &difference));
    assert_int_equal(difference.step, 8);
    record(&fixture->pages[1], 8, 106, 7);
    atomic_store(&fixture->pages[1].steps, 10);
    look(fixture);
    assert_false(differ(fixture, 0, 1, &difference));
}

/* Whoever writes a page cannot make others ask without end. */
static void test_asks_little(void **state)
{
    struct fixture *fixture = *state;
    struct tcd_gpu_difference difference;

    for (uint64_t step = 1; step <= 200; step++)
        for (unsigned rank = 0; rank < 2; rank++)
            record(&fixture->pages[rank], step, 100 * rank, 7);
    look(fixture);
    look(fixture);
    asked = 0;
    assert_false(differ(fixture, 0, 1, &difference));
    assert_in_range(asked, 1, 16);
}

/* The half of a record that comes last, before the other one: never seen, but nothing forbids it. */
static void half_record(struct tcw_device_progress *page, uint64_t step)
{
    struct tcw_device_record *at = &page->records[step % TCW_DEVICE_RECORDS];

    at->start_ns = 5 * step;
    atomic_store(&at->step, step);
    atomic_store(&page->steps, step);
}

static void test_half_records(void **state)
{
    struct fixture *fixture = *state;
    struct tcd_gpu_difference difference;

    for (uint64_t step = 1; step <= 40000; step++) {
        const bool seen = step == 300 || step == 20300 || step == 20400;

        record(&fixture->pages[0], step, (uint32_t)(step % 3), 7);
        if (seen) {
            half_record(&fixture->pages[1], step);
            look(fixture);
            assert_false(differ(fixture, 0, 1, &difference));
        }
        record(&fixture->pages[1], step, (uint32_t)(step % 3), 7);
    }
}

/* Between looks at two ranks, one may run on so far that they have nothing in common. */
static void test_nothing_in_common(void **state)
{
    struct fixture *fixture = *state;
    struct tcd_gpu_difference difference;
    uint64_t step;

    record_all(fixture, 1, 10, 5, 7);
    for (step = 11; step <= 10 + KEPT; step++)
        record(&fixture->pages[1], step, 6, 7);
    look(fixture);
    look(fixture);
    assert_false(differ(fixture, 0, 1, &difference));
    record(&fixture->pages[0], 11, 5, 7);
    look(fixture);
    look(fixture);
    assert_true(differ(fixture, 0, 1, &difference));
    assert_int_equal(difference.step, 11);
}

/* Clients can write anything there. */
static void test_noise(void **state)
{
    struct fixture *fixture = *state;
    struct tcd_gpu_difference difference;

    memset(&fixture->pages[0], 0xff, sizeof(fixture->pages[0]));
    for (unsigned rank = 1; rank < RANKS; rank++) /* the largest number there is, and records that fit */
        for (uint64_t back = TCW_DEVICE_RECORDS; back-- > 0;)
            record(&fixture->pages[rank], UINT64_MAX - back, UINT32_MAX - rank, 1);
    look(fixture);
    look(fixture);
    assert_int_equal(fixture->runs[0].now.count, 1); /* the only one with this number */
    assert_int_equal(fixture->runs[1].now.count, KEPT);
    assert_true(differ(fixture, 0, 1, &difference));
    assert_true(difference.step == UINT64_MAX);
    assert_true(differ(fixture, 1, 2, &difference));
    assert_true(difference.step == UINT64_MAX - KEPT + 1);
    memset(&fixture->pages[0], 0xff, sizeof(fixture->pages[0]));
    atomic_store(&fixture->pages[0].records[255].step, 0);
    look(fixture);
    assert_int_equal(fixture->runs[0].now.last, UINT64_MAX);
}

/* ---- a GPU that runs meanwhile ---- */

struct gpu {
    struct tcw_device_progress *page;
    _Atomic bool stop;
};

static uint32_t plan_of(uint64_t step)
{
    return (uint32_t)(step * 2654435761u >> 3);
}

static void *run_on(void *arg)
{
    struct gpu *gpu = arg;

    for (uint64_t step = 1; !atomic_load(&gpu->stop); step++) {
        record(gpu->page, step, plan_of(step), ~plan_of(step));
        for (volatile unsigned pause = 0; pause < step % 64; pause++) {
        }
    }
    return NULL;
}

static void test_nothing_half_written(void **state)
{
    struct fixture *fixture = *state;
    const struct tcd_gpu_look *now = &fixture->runs[0].now;
    struct gpu gpu = {.page = &fixture->pages[0]};
    uint64_t taken = 0, looks = 0;
    pthread_t thread;

    assert_int_equal(pthread_create(&thread, NULL, run_on, &gpu), 0);
    for (; (taken < 100000 || looks < 10000) && looks < 10000000; looks++) {
        tcd_gpu_runs_look(&fixture->runs[0], &fixture->pages[0]);
        for (uint32_t i = 0; i < now->count; i++) {
            const uint64_t step = now->last - i;
            const struct tcd_gpu_run *run = &now->runs[step % TCW_DEVICE_RECORDS];

            if (run->plan_id != plan_of(step) || run->tokens != ~plan_of(step))
                fail_msg("run %llu of %llu: plan %u, tokens %u", (unsigned long long)step, (unsigned long long)now->last, run->plan_id,
                         run->tokens);
        }
        taken += now->count;
    }
    atomic_store(&gpu.stop, true);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_true(taken >= 100000);
}

/* ---- judging ---- */

static void test_judged(void **state)
{
    struct fixture *fixture = *state;
    struct tcd_evidence evidence = {.nranks = RANKS, .lane = TCW_LANE_DIRECT, .same_run = same_hundred, .context = state_of_tests};
    struct tcw_error cause;

    for (unsigned rank = 0; rank < RANKS; rank++)
        evidence.gpu_runs[rank] = &fixture->runs[rank];
    assert_int_equal(tcd_judge(&evidence, &cause), 0);
    record_all(fixture, 1, 20, 5, 7);
    look(fixture);
    look(fixture);
    assert_int_equal(tcd_judge(&evidence, &cause), 0);
    /* The odd one of four, wherever it stands. */
    record_all(fixture, 21, 21, 5, 7);
    record(&fixture->pages[0], 21, 6, 7);
    look(fixture);
    assert_int_equal(tcd_judge(&evidence, &cause), 0);
    look(fixture);
    assert_int_equal(tcd_judge(&evidence, &cause), TCW_EMISMATCH);
    assert_int_equal(cause.rank, 0);
    assert_int_equal(cause.step, 21);
    assert_int_equal(cause.theirs, 6);
    assert_int_equal(cause.mine, 5);
    assert_string_equal(cause.field, "plan");
    assert_non_null(strstr(cause.text, "run 21 of the GPUs was plan 6 with 7 tokens on rank 0, but plan 5 with 7 tokens on rank 1"));
    /* Of two, the second; tokens. */
    evidence.nranks = 2;
    record(&fixture->pages[0], 21, 5, 8);
    record(&fixture->pages[0], 22, 5, 7);
    look(fixture);
    look(fixture);
    assert_int_equal(tcd_judge(&evidence, &cause), TCW_EMISMATCH);
    assert_int_equal(cause.rank, 1);
    assert_string_equal(cause.field, "tokens");
    assert_int_equal(cause.theirs, 7);
    assert_int_equal(cause.mine, 8);
    evidence.gpu_runs[1] = NULL;
    assert_int_equal(tcd_judge(&evidence, &cause), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_takes_the_latest, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_differ, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_other_workspace, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_asks_little, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_half_records, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_nothing_in_common, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_noise, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_nothing_half_written, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_judged, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
