/* The member page: format and check, abort words, histogram classes, the flight recorder also while it is being read. */
#include "cmocka_all.h"

#include <tcw/member.h>

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct tcw_member_page *page_make(void)
{
    struct tcw_member_page *page = aligned_alloc(4096, tcw_member_page_bytes());
    assert_non_null(page);
    memset(page, 0, tcw_member_page_bytes());
    tcw_member_page_format(page, 0x700000001, 3, 2, 5, 1000);
    return page;
}

static void test_format_and_check(void **state)
{
    (void)state;
    struct tcw_member_page *page = page_make();
    uint64_t bytes = tcw_member_page_bytes();
    assert_true(bytes >= sizeof(*page) && bytes % (uint64_t)sysconf(_SC_PAGESIZE) == 0);
    assert_int_equal(tcw_member_page_check(page, bytes, 0x700000001, 2, 5), 0);
    assert_int_equal(atomic_load(&page->deadline_ns), 1000);
    assert_int_equal(atomic_load(&page->abort_word), 0);
    assert_int_equal(tcw_member_page_check(page, sizeof(*page) - 1, 0x700000001, 2, 5), TCW_EPROTO);
    assert_int_equal(tcw_member_page_check(page, 0, 0x700000001, 2, 5), TCW_EPROTO);
    assert_int_equal(tcw_member_page_check(page, bytes, 0x700000002, 2, 5), TCW_EPROTO);
    assert_int_equal(tcw_member_page_check(page, bytes, 0x700000001, 1, 5), TCW_EPROTO);
    assert_int_equal(tcw_member_page_check(page, bytes, 0x700000001, 2, 6), TCW_EPROTO);
    page->magic++;
    assert_int_equal(tcw_member_page_check(page, bytes, 0x700000001, 2, 5), TCW_EPROTO);
    page->magic--;
    page->abi++;
    assert_int_equal(tcw_member_page_check(page, bytes, 0x700000001, 2, 5), TCW_EPROTO);
    free(page);
}

static void test_abort_words(void **state)
{
    (void)state;
    uint64_t word = tcw_abort_pack(TCW_EPEERDEAD, 3);
    assert_int_equal(tcw_abort_code(word), TCW_EPEERDEAD);
    assert_int_equal(tcw_abort_culprit(word), 3);
    word = tcw_abort_pack(TCW_EABORTED, TCW_NOBODY);
    assert_int_equal(tcw_abort_code(word), TCW_EABORTED);
    assert_true(tcw_abort_culprit(word) == TCW_NOBODY);

    struct tcw_member_page *page = page_make();
    struct tcw_abort_info first = {.code = TCW_EPEERDEAD, .rank = 1, .pid = 42, .signal = 9, .step = 17};
    struct tcw_abort_info second = {.code = TCW_EABORTED, .rank = TCW_NOBODY};
    memset(first.text, 'x', sizeof(first.text)); /* not terminated */
    assert_int_equal(tcw_member_abort(page, &first), 1);
    assert_int_equal(tcw_member_abort(page, &second), 0); /* the first reason stands */
    assert_int_equal(tcw_abort_code(atomic_load(&page->abort_word)), TCW_EPEERDEAD);
    assert_int_equal(page->abort_info.pid, 42);
    assert_int_equal(page->abort_info.signal, 9);
    assert_int_equal(page->abort_info.step, 17);
    assert_int_equal(strlen(page->abort_info.text), TCW_TEXT_BYTES - 1);
    free(page);
}

static void test_size_classes(void **state)
{
    (void)state;
    assert_int_equal(tcw_size_class(0), 0);
    for (unsigned i = 0; i < TCW_SIZE_CLASSES; i++) {
        uint64_t limit = tcw_size_class_limit(i);
        assert_int_equal(tcw_size_class(limit), i);
        if (limit != UINT64_MAX)
            assert_int_equal(tcw_size_class(limit + 1), i + 1);
    }
    assert_int_equal(tcw_size_class_limit(0), 64);
    assert_int_equal(tcw_size_class_limit(2), 4096);
    assert_true(tcw_size_class_limit(TCW_SIZE_CLASSES - 1) == UINT64_MAX);
    assert_true(tcw_size_class_limit(1000) == UINT64_MAX);
}

static void test_latency_buckets(void **state)
{
    (void)state;
    assert_int_equal(tcw_latency_bucket(0), 0);
    assert_int_equal(tcw_latency_bucket(250), 0);
    assert_int_equal(tcw_latency_bucket(251), 1);
    assert_int_equal(tcw_latency_bucket_limit(2), 500);
    assert_int_equal(tcw_latency_bucket(UINT64_MAX), TCW_LATENCY_BUCKETS - 1);
    assert_true(tcw_latency_bucket_limit(TCW_LATENCY_BUCKETS - 1) == UINT64_MAX);
    assert_true(tcw_latency_bucket_limit(4000) == UINT64_MAX);
    for (unsigned i = 0; i < TCW_LATENCY_BUCKETS; i++) {
        uint64_t limit = tcw_latency_bucket_limit(i);
        assert_int_equal(tcw_latency_bucket(limit), i);
        if (i + 1 < TCW_LATENCY_BUCKETS) {
            assert_int_equal(tcw_latency_bucket(limit + 1), i + 1);
            assert_true(tcw_latency_bucket_limit(i + 1) > limit);
        }
        if (i && i + 1 < TCW_LATENCY_BUCKETS) { /* growth by sqrt(2), to within the rounding of small numbers */
            double ratio = (double)limit / (double)tcw_latency_bucket_limit(i - 1);
            assert_true(ratio > 1.411 && ratio < 1.418);
        }
    }
}

/* Counted ahead of its end, a run is not counted twice. */
static void test_counted_ahead(void **state)
{
    (void)state;
    struct tcw_member_page *page = page_make();
    for (uint64_t i = 0; i < 3; i++) {
        struct tcw_run_note note = {.plan_id = 7, .op = TCW_OP_ALL_REDUCE, .lane = TCW_LANE_SERVED, .bytes = 4};
        uint64_t record = tcw_member_run_begin(page, &note, 1);
        tcw_member_run_count(page, &note);
        assert_int_equal(atomic_load(&page->runs_finished), i + 1);
        assert_int_equal(atomic_load(&page->state), TCW_MEMBER_RUNNING);
        tcw_member_run_end(page, record, &note, 2, 0);
        assert_int_equal(atomic_load(&page->runs_finished), i + 1);
        assert_int_equal(atomic_load(&page->state), TCW_MEMBER_IDLE);
        assert_int_equal(page->records[i].end_ns, 2);
    }
    free(page);
}

static void test_runs(void **state)
{
    (void)state;
    struct tcw_member_page *page = page_make();
    struct tcw_run_note note = {.plan_id = 7, .op = TCW_OP_ALL_REDUCE, .lane = TCW_LANE_DIRECT, .strategy = TCW_STRATEGY_ONESHOT};
    note.bytes = 4096;
    note.tokens = 3;
    note.submit_ns = 1000;
    uint64_t hash = atomic_load(&page->plan_hash);
    for (unsigned i = 0; i < TCW_RECORDS + 10; i++) {
        uint64_t record = tcw_member_run_begin(page, &note, 2000 + i);
        assert_int_equal(record, i);
        assert_int_equal(atomic_load(&page->state), TCW_MEMBER_RUNNING);
        assert_int_equal(atomic_load(&page->runs_started), i + 1);
        assert_int_equal(page->records[i % TCW_RECORDS].end_ns, 0);
        tcw_member_run_end(page, record, &note, 1000 + 1000000, i == 5 ? TCW_ETIMEOUT : 0);
        assert_int_equal(atomic_load(&page->state), i == 5 ? TCW_MEMBER_FAILED : TCW_MEMBER_IDLE);
        assert_true(atomic_load(&page->plan_hash) != hash);
        hash = atomic_load(&page->plan_hash);
    }
    assert_int_equal(atomic_load(&page->runs_finished), TCW_RECORDS + 9); /* the failed one is not counted */
    assert_int_equal(atomic_load(&page->op_count[TCW_OP_ALL_REDUCE]), TCW_RECORDS + 10);
    assert_int_equal(atomic_load(&page->op_errors[TCW_OP_ALL_REDUCE]), 1);
    assert_int_equal(atomic_load(&page->op_bytes[TCW_OP_ALL_REDUCE]), 4096 * (TCW_RECORDS + 9));
    assert_int_equal(atomic_load(&page->op_ns[TCW_OP_ALL_REDUCE]), 1000000ull * (TCW_RECORDS + 10));
    assert_int_equal(atomic_load(&page->latency[TCW_OP_ALL_REDUCE][tcw_size_class(4096)][tcw_latency_bucket(1000000)]), TCW_RECORDS + 9);
    assert_int_equal(atomic_load(&page->records[9].sequence), TCW_RECORDS + 10);
    assert_int_equal(page->records[9].step, TCW_RECORDS + 10);
    assert_int_equal(page->records[9].plan_id, 7);
    assert_int_equal(atomic_load(&page->records[10].sequence), 11); /* not yet overwritten */

    /* The hash tells order and token counts apart. */
    struct tcw_member_page *other = page_make();
    struct tcw_member_page *third = page_make();
    struct tcw_run_note second = note;
    second.plan_id = 8;
    tcw_member_run_begin(other, &note, 1);
    tcw_member_run_begin(other, &second, 1);
    tcw_member_run_begin(third, &second, 1);
    tcw_member_run_begin(third, &note, 1);
    assert_true(atomic_load(&other->plan_hash) != atomic_load(&third->plan_hash));
    free(page);
    free(other);
    free(third);
}

/* A note from a hostile runner or an unknown operation never writes outside the page. */
static void test_wild_notes(void **state)
{
    (void)state;
    uint64_t bytes = tcw_member_page_bytes();
    struct tcw_member_page *page = aligned_alloc(4096, bytes + 4096);
    assert_non_null(page);
    memset(page, 0, bytes);
    memset((char *)page + bytes, 0x5a, 4096);
    tcw_member_page_format(page, 1, 1, 0, 1, 0);
    struct tcw_run_note note = {.op = 0xffff, .bytes = UINT64_MAX, .submit_ns = UINT64_MAX};
    tcw_member_run_end(page, tcw_member_run_begin(page, &note, 0), &note, 0, 0);
    note.submit_ns = 0;
    tcw_member_run_end(page, UINT64_MAX, &note, UINT64_MAX, 0);
    for (unsigned i = 0; i < 4096; i++)
        assert_int_equal(((unsigned char *)page)[bytes + i], 0x5a);
    free(page);
}

/* ---- reader beside writer ---- */

struct reading {
    struct tcw_member_page *page;
    _Atomic int stop;
    uint64_t seen, torn;
};

/* What a tool does: copy the abort information only after the word, and believe it. */
static void *abort_reader(void *arg)
{
    struct reading *reading = arg;
    while (!atomic_load(&reading->stop)) {
        uint64_t word = atomic_load_explicit(&reading->page->abort_word, memory_order_acquire);
        if (word) {
            reading->seen++;
            reading->torn += reading->page->abort_info.code != tcw_abort_code(word) || reading->page->abort_info.step != 99 ||
                             strcmp(reading->page->abort_info.text, "why") != 0;
            break;
        }
    }
    return NULL;
}

static void test_abort_is_published_whole(void **state)
{
    (void)state;
    for (unsigned round = 0; round < 50; round++) {
        struct reading reading = {.page = page_make()};
        struct tcw_abort_info info = {.code = TCW_EDEVICE, .rank = 4, .step = 99, .text = "why"};
        pthread_t reader;
        assert_int_equal(pthread_create(&reader, NULL, abort_reader, &reading), 0);
        assert_int_equal(tcw_member_abort(reading.page, &info), 1);
        pthread_join(reader, NULL);
        assert_int_equal(reading.seen, 1);
        assert_int_equal(reading.torn, 0);
        free(reading.page);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_format_and_check), cmocka_unit_test(test_abort_words),
        cmocka_unit_test(test_size_classes),     cmocka_unit_test(test_latency_buckets),
        cmocka_unit_test(test_counted_ahead),    cmocka_unit_test(test_runs),
        cmocka_unit_test(test_wild_notes),       cmocka_unit_test(test_abort_is_published_whole),
    };
    return cmocka_run_group_tests_name("member page", tests, NULL, NULL);
}
