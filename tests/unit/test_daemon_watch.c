/* Looking into member pages, adding up what is new, and judging what the ranks of a group say. */
#include "cmocka_all.h"

#include "daemon/control/judge.h"
#include "daemon/control/observe.h"
#include "daemon/control/page.h"

#include <string.h>
#include <unistd.h>

/* ---- observing ---- */

struct fixture {
    struct tcd_page page;
    struct tcd_totals totals;
    int fd;
};

static void open_page(struct fixture *fixture)
{
    memset(fixture, 0, sizeof(*fixture));
    assert_int_equal(tcd_page_open(&fixture->page, 7, 1, 2, 4, 1000, &fixture->fd), 0);
    assert_int_equal(tcw_member_page_check(fixture->page.map, fixture->page.bytes, 7, 2, 4), 0);
}

static void close_page(struct fixture *fixture)
{
    close(fixture->fd);
    tcd_page_close(&fixture->page);
    assert_null(fixture->page.map);
}

static void run(struct fixture *fixture, uint64_t bytes, uint64_t ns, int result)
{
    struct tcw_run_note note = {
        .plan_id = 3, .op = TCW_OP_ALL_REDUCE, .lane = TCW_LANE_DIRECT, .bytes = bytes, .tokens = 1, .submit_ns = 1000};
    uint64_t record = tcw_member_run_begin(fixture->page.map, &note, 1000);

    tcw_member_run_end(fixture->page.map, record, &note, 1000 + ns, result);
}

static uint64_t counted(const struct fixture *fixture, unsigned lane, unsigned size_class)
{
    uint64_t sum = 0;
    unsigned bucket;

    for (bucket = 0; bucket < TCW_LATENCY_BUCKETS; bucket++)
        sum += fixture->totals.latency[TCW_OP_ALL_REDUCE][lane - 1][size_class][bucket];
    return sum;
}

static void test_counts_differences(void **state)
{
    struct fixture fixture;
    bool moved;
    unsigned i;

    (void)state;
    open_page(&fixture);
    assert_true(tcd_page_observe(&fixture.page, TCW_LANE_DIRECT, &fixture.totals, &moved));
    assert_false(moved);
    for (i = 0; i < 5; i++)
        run(&fixture, 64, 300, 0);
    run(&fixture, 65, 1000000, 0);
    run(&fixture, 65, 1000000, TCW_ETIMEOUT);
    assert_true(tcd_page_observe(&fixture.page, TCW_LANE_DIRECT, &fixture.totals, &moved));
    assert_true(moved);
    assert_int_equal(counted(&fixture, TCW_LANE_DIRECT, 0), 5);
    assert_int_equal(counted(&fixture, TCW_LANE_DIRECT, 1), 1);
    assert_int_equal(counted(&fixture, TCW_LANE_SERVED, 0), 0);
    assert_true(fixture.totals.changed[TCW_OP_ALL_REDUCE][0][0]);
    assert_false(fixture.totals.changed[TCW_OP_ALL_REDUCE][0][2]);
    /* Another look counts nothing twice. */
    assert_true(tcd_page_observe(&fixture.page, TCW_LANE_DIRECT, &fixture.totals, &moved));
    assert_false(moved);
    assert_int_equal(counted(&fixture, TCW_LANE_DIRECT, 0), 5);
    assert_int_equal(tcd_page_observed(&fixture.page)->started, 7);
    assert_int_equal(tcd_page_observed(&fixture.page)->finished, 6);
    assert_int_equal(tcd_page_observed(&fixture.page)->errors, 1);
    assert_int_equal(tcd_page_observed(&fixture.page)->bytes, 5 * 64 + 65);
    close_page(&fixture);
}

static void test_still(void **state)
{
    struct fixture fixture;
    bool moved;

    (void)state;
    open_page(&fixture);
    run(&fixture, 1, 1, 0);
    tcd_page_observe(&fixture.page, TCW_LANE_DIRECT, &fixture.totals, &moved);
    assert_int_equal(tcd_page_observed(&fixture.page)->still, 0);
    tcd_page_observe(&fixture.page, TCW_LANE_DIRECT, &fixture.totals, &moved);
    tcd_page_observe(&fixture.page, TCW_LANE_DIRECT, &fixture.totals, &moved);
    assert_int_equal(tcd_page_observed(&fixture.page)->still, 2);
    run(&fixture, 1, 1, 0);
    tcd_page_observe(&fixture.page, TCW_LANE_DIRECT, &fixture.totals, &moved);
    assert_int_equal(tcd_page_observed(&fixture.page)->still, 0);
    close_page(&fixture);
}

static void test_records(void **state)
{
    struct fixture fixture;
    struct tcw_stats_record row;
    unsigned i;

    (void)state;
    open_page(&fixture);
    assert_false(tcd_page_record(&fixture.page, 0, &row));
    for (i = 0; i < TCW_RECORDS + 10; i++)
        run(&fixture, i, 5, i == TCW_RECORDS ? TCW_EPEERDEAD : 0);
    assert_false(tcd_page_record(&fixture.page, 9, &row)); /* written over */
    assert_true(tcd_page_record(&fixture.page, 10, &row));
    assert_int_equal(row.bytes, 10);
    assert_int_equal(row.plan_id, 3);
    assert_int_equal(row.end_ns, 1005);
    assert_true(tcd_page_record(&fixture.page, TCW_RECORDS, &row));
    assert_int_equal(row.result, -TCW_EPEERDEAD);
    assert_false(tcd_page_record(&fixture.page, TCW_RECORDS + 10, &row));
    close_page(&fixture);
}

/* What kernels leave behind: nothing but that tells of replayed graphs. Their clock is an hour ahead here. */
static void kernel(struct fixture *fixture, uint64_t step, uint64_t ns)
{
    struct tcw_device_progress *device = &fixture->page.map->device;
    struct tcw_device_record *record = &device->records[step % TCW_DEVICE_RECORDS];

    record->end_ns = tcw_now_ns() + 3600000000000u;
    record->start_ns = record->end_ns - ns;
    record->plan_id = 4;
    record->tokens = 17;
    atomic_store(&record->step, step);
    atomic_store(&device->steps, step);
}

static void test_replays(void **state)
{
    const uint64_t FAR = TCW_DEVICE_RECORDS + 5;
    struct fixture fixture;
    struct tcw_stats_record row;
    uint64_t step, tokens, before_ns;
    bool moved;

    (void)state;
    open_page(&fixture);
    before_ns = tcw_now_ns();
    run(&fixture, 64, 300, 0);
    kernel(&fixture, 1, 1000);
    kernel(&fixture, 2, 1000); /* launched, but not counted yet */
    assert_false(tcd_page_replay(&fixture.page, 2, &row, &tokens));
    tcd_page_observe(&fixture.page, TCW_LANE_DIRECT, &fixture.totals, &moved);
    assert_false(tcd_page_observed(&fixture.page)->replays);
    for (step = 3; step <= FAR; step++)
        kernel(&fixture, step, 1000 + step);
    tcd_page_observe(&fixture.page, TCW_LANE_DIRECT, &fixture.totals, &moved);
    assert_true(moved);
    assert_true(tcd_page_observed(&fixture.page)->replays);
    assert_false(tcd_page_replay(&fixture.page, 5, &row, &tokens)); /* written over */
    for (step = 6; step <= FAR; step++) {
        assert_true(tcd_page_replay(&fixture.page, step, &row, &tokens));
        assert_int_equal(row.step, step);
        assert_int_equal(row.plan_id, 4);
        assert_int_equal(tokens, 17);
        assert_int_equal(row.end_ns - row.start_ns, 1000 + step);
        /* On our clock, at most as late as the look at it. */
        assert_true(row.end_ns >= before_ns && row.end_ns <= tcw_now_ns());
        before_ns = row.end_ns;
    }
    /* Eager again: it stays so, because the kernels' count is another one than the runner's. */
    for (step = 0; step < 2 * FAR; step++)
        run(&fixture, 64, 300, 0);
    tcd_page_observe(&fixture.page, TCW_LANE_DIRECT, &fixture.totals, &moved);
    assert_true(tcd_page_observed(&fixture.page)->replays);
    /* Half of another record: times that do not fit. */
    fixture.page.map->device.records[7].end_ns = 0;
    assert_false(tcd_page_replay(&fixture.page, TCW_DEVICE_RECORDS + 7, &row, &tokens));
    assert_false(tcd_page_replay(&fixture.page, 7, &row, &tokens));
    close_page(&fixture);
}

/* A client may write anything into its page. */
static void test_noise(void **state)
{
    struct fixture fixture;
    struct tcw_stats_record row;
    uint64_t tokens;
    bool moved;
    unsigned i;

    (void)state;
    open_page(&fixture);
    memset(fixture.page.map, 0xff, sizeof(*fixture.page.map));
    assert_true(tcd_page_observe(&fixture.page, TCW_LANE_DIRECT, &fixture.totals, &moved));
    for (i = 0; i < TCW_RECORDS; i++)
        tcd_page_record(&fixture.page, tcd_page_observed(&fixture.page)->records - i, &row);
    for (i = 0; i < TCW_DEVICE_RECORDS; i++)
        tcd_page_replay(&fixture.page, tcd_page_observed(&fixture.page)->device_steps - i, &row, &tokens);
    memset(fixture.page.map, 0x80, sizeof(*fixture.page.map));
    assert_true(tcd_page_observe(&fixture.page, TCW_LANE_DIRECT, &fixture.totals, &moved));
    close_page(&fixture);
}

/* ---- judging ---- */

enum { RANKS = 4 };

struct court {
    struct tcd_observed ranks[RANKS];
    struct tcd_evidence evidence;
};

/* Everybody rests after 10 equal runs. */
static void assemble(struct court *court)
{
    unsigned i;

    memset(court, 0, sizeof(*court));
    for (i = 0; i < RANKS; i++) {
        court->ranks[i] = (struct tcd_observed){.started = 10, .finished = 10, .records = 10, .hash = 99, .still = 5};
        court->evidence.ranks[i] = &court->ranks[i];
    }
    court->evidence.nranks = RANKS;
    court->evidence.lane = TCW_LANE_SERVED;
    court->evidence.deadline_ns = 1000000000;
    court->evidence.now_ns = 100000000000;
}

static void test_innocent(void **state)
{
    struct court court;
    struct tcw_error cause;

    (void)state;
    assemble(&court);
    assert_int_equal(tcd_judge(&court.evidence, &cause), 0);
    court.evidence.ranks[1] = NULL;
    assert_int_equal(tcd_judge(&court.evidence, &cause), 0);
}

static void test_other_history(void **state)
{
    struct court court;
    struct tcw_error cause;

    (void)state;
    assemble(&court);
    court.ranks[2].hash = 98;
    assert_int_equal(tcd_judge(&court.evidence, &cause), TCW_EMISMATCH);
    assert_int_equal(cause.rank, 2);
    assert_int_equal(cause.mine, 99);
    assert_int_equal(cause.theirs, 98);
    /* While it moves, or at another run, its hash says nothing. */
    court.ranks[2].still = 1;
    assert_int_equal(tcd_judge(&court.evidence, &cause), 0);
    court.ranks[2].still = 5;
    court.ranks[2].started = 11;
    court.ranks[2].records = 11;
    assert_int_equal(tcd_judge(&court.evidence, &cause), 0);
}

/* One rank against many is named, wherever it stands; also when the first rank is elsewhere and says nothing about the others. */
static void test_odd_history(void **state)
{
    struct court court;
    struct tcw_error cause;

    (void)state;
    assemble(&court);
    court.ranks[0].hash = 98;
    assert_int_equal(tcd_judge(&court.evidence, &cause), TCW_EMISMATCH);
    assert_int_equal(cause.rank, 0);
    assert_int_equal(cause.mine, 99);
    assert_int_equal(cause.theirs, 98);
    assert_non_null(strstr(cause.text, "rank 0"));
    assert_non_null(strstr(cause.text, "rank 1"));
    assemble(&court);
    court.ranks[0].started = court.ranks[0].records = 12;
    court.ranks[1].hash = 98;
    assert_int_equal(tcd_judge(&court.evidence, &cause), TCW_EMISMATCH);
    assert_int_equal(cause.rank, 1);
}

/* A process may be stopped between any two words of the beginning of a run; its page rests then, but nobody is to blame. */
static void test_stopped_while_it_begins(void **state)
{
    struct fixture done, stopped;
    struct court court;
    struct tcw_error cause;
    bool moved;
    unsigned i;

    (void)state;
    assemble(&court);
    open_page(&done);
    open_page(&stopped);
    run(&done, 1, 1, 0);
    run(&stopped, 1, 1, 0);
    atomic_fetch_add(&stopped.page.map->record_head, 1);
    atomic_fetch_add(&stopped.page.map->plan_hash, 1);
    for (i = 0; i < 5; i++) {
        assert_true(tcd_page_observe(&done.page, TCW_LANE_SERVED, &done.totals, &moved));
        assert_true(tcd_page_observe(&stopped.page, TCW_LANE_SERVED, &stopped.totals, &moved));
    }
    court.evidence.nranks = 2;
    court.evidence.ranks[0] = tcd_page_observed(&done.page);
    court.evidence.ranks[1] = tcd_page_observed(&stopped.page);
    assert_int_equal(tcd_judge(&court.evidence, &cause), 0);
    /* With as many records as runs it would have run something else. */
    atomic_fetch_sub(&stopped.page.map->record_head, 1);
    assert_true(tcd_page_observe(&stopped.page, TCW_LANE_SERVED, &stopped.totals, &moved));
    assert_int_equal(tcd_judge(&court.evidence, &cause), TCW_EMISMATCH);
    assert_int_equal(cause.rank, 1);
    close_page(&done);
    close_page(&stopped);
}

static void test_waits_in_vain(void **state)
{
    struct court court;
    struct tcw_error cause;

    (void)state;
    assemble(&court);
    court.ranks[0].started = 11;
    court.ranks[0].hash = 5;
    court.ranks[0].state = TCW_MEMBER_RUNNING;
    court.ranks[0].missing = 1u << 3;
    court.ranks[0].since_ns = court.evidence.now_ns - 1200000000;
    assert_int_equal(tcd_judge(&court.evidence, &cause), 0); /* the runner's own clock is first */
    court.ranks[0].since_ns = court.evidence.now_ns - 1400000000;
    assert_int_equal(tcd_judge(&court.evidence, &cause), TCW_ETIMEOUT);
    assert_int_equal(cause.rank, 3);
    assert_int_equal(cause.step, 10);
    assert_non_null(strstr(cause.text, "rank 3"));
    /* A rank that has begun the run is slow, not absent: the runners deal with that themselves. */
    court.ranks[3].started = 11;
    court.ranks[3].hash = 5;
    assert_int_equal(tcd_judge(&court.evidence, &cause), 0);
    court.ranks[3].started = 10;
    court.ranks[3].hash = 99;
    court.evidence.deadline_ns = 0;
    assert_int_equal(tcd_judge(&court.evidence, &cause), 0);
}

static void test_lies(void **state)
{
    struct court court;
    struct tcw_error cause;

    (void)state;
    assemble(&court);
    court.ranks[0].started = 11;
    court.ranks[0].state = TCW_MEMBER_RUNNING;
    court.ranks[0].missing = 1; /* itself */
    court.ranks[0].since_ns = 1;
    assert_int_equal(tcd_judge(&court.evidence, &cause), 0);
    court.ranks[0].missing = 1ull << 63; /* nobody */
    assert_int_equal(tcd_judge(&court.evidence, &cause), 0);
    court.ranks[0].missing = UINT64_MAX;
    court.ranks[0].since_ns = UINT64_MAX;
    assert_int_equal(tcd_judge(&court.evidence, &cause), 0);
}

/* ---- kernels ---- */

static void test_kernels_are_seen(void **state)
{
    struct fixture fixture;
    const struct tcd_observed *seen;
    uint64_t since_ns;
    bool moved;

    (void)state;
    open_page(&fixture);
    tcd_page_observe(&fixture.page, TCW_LANE_DIRECT, &fixture.totals, &moved);
    assert_false(moved);
    run(&fixture, 1, 1, 0);
    assert_int_equal(tcd_page_finished(&fixture.page), 1);
    atomic_store(&fixture.page.map->device.steps, 40);
    assert_int_equal(tcd_page_finished(&fixture.page), 40);
    tcd_page_observe(&fixture.page, TCW_LANE_DIRECT, &fixture.totals, &moved);
    assert_true(moved);
    seen = tcd_page_observed(&fixture.page);
    assert_int_equal(seen->device_steps, 40);
    since_ns = seen->device_since_ns;
    assert_true(since_ns > 0);
    tcd_page_observe(&fixture.page, TCW_LANE_DIRECT, &fixture.totals, &moved);
    assert_false(moved);
    assert_true(seen->device_since_ns == since_ns);
    atomic_store(&fixture.page.map->device.fault_step, 41);
    atomic_store(&fixture.page.map->device.their_step, 39);
    atomic_store(&fixture.page.map->device.fault, tcw_abort_pack(TCW_ETIMEOUT, 3));
    tcd_page_observe(&fixture.page, TCW_LANE_DIRECT, &fixture.totals, &moved);
    assert_true(moved);
    assert_true(seen->device_fault == tcw_abort_pack(TCW_ETIMEOUT, 3));
    assert_int_equal(seen->device_fault_step, 41);
    assert_int_equal(seen->device_their_step, 39);
    close_page(&fixture);
}

static void test_kernels_are_judged(void **state)
{
    struct tcd_observed ranks[4] = {{.device_steps = 40}, {.device_steps = 40}, {.device_steps = 40}, {.device_steps = 39}};
    struct tcd_evidence evidence = {.nranks = 4, .lane = TCW_LANE_DIRECT, .now_ns = 1};
    struct tcw_error cause;
    unsigned i;

    (void)state;
    for (i = 0; i < 4; i++)
        evidence.ranks[i] = &ranks[i];
    assert_int_equal(tcd_judge(&evidence, &cause), 0);
    /* Rank 0 waited for rank 1, which waits itself: for rank 3. */
    ranks[0].device_fault = tcw_abort_pack(TCW_ETIMEOUT, 1);
    ranks[0].device_fault_step = 41;
    ranks[1].device_fault = tcw_abort_pack(TCW_ETIMEOUT, 3);
    ranks[1].device_fault_step = 41;
    ranks[1].device_their_step = 39;
    assert_int_equal(tcd_judge(&evidence, &cause), TCW_ETIMEOUT);
    assert_int_equal(cause.rank, 3);
    assert_int_equal(cause.step, 39);
    assert_non_null(strstr(cause.text, "run 41 on rank 1"));
    /* Each blames the other: one of them is as good as the other. */
    ranks[1].device_fault = tcw_abort_pack(TCW_EMISMATCH, 0);
    assert_int_equal(tcd_judge(&evidence, &cause), TCW_ETIMEOUT);
    assert_int_equal(cause.rank, 1);
    /* Nobody to blame; and nonsense is no fault. */
    ranks[0].device_fault = tcw_abort_pack(TCW_EBUSY, TCW_NOBODY);
    ranks[1].device_fault = 0;
    assert_int_equal(tcd_judge(&evidence, &cause), TCW_EBUSY);
    assert_true(cause.rank == TCW_NOBODY);
    ranks[0].device_fault = 0x7fffffffull;
    assert_int_equal(tcd_judge(&evidence, &cause), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_counts_differences),
        cmocka_unit_test(test_kernels_are_seen),
        cmocka_unit_test(test_kernels_are_judged),
        cmocka_unit_test(test_still),
        cmocka_unit_test(test_records),
        cmocka_unit_test(test_replays),
        cmocka_unit_test(test_noise),
        cmocka_unit_test(test_innocent),
        cmocka_unit_test(test_other_history),
        cmocka_unit_test(test_odd_history),
        cmocka_unit_test(test_stopped_while_it_begins),
        cmocka_unit_test(test_waits_in_vain),
        cmocka_unit_test(test_lies),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
