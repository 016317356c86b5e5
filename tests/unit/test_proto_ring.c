/* The ring, one step at a time: shape, order, wrap-around, room, and what a hostile peer may write into it. */
#include "cmocka_all.h"
#include "ring_fixture.h"

#include <tcw/ring.h>

#include <stdatomic.h>
#include <stdio.h>

static struct tcw_sqe request(uint32_t sequence, uint16_t refs)
{
    struct tcw_sqe head = {.op = TCW_OP_ALL_REDUCE, .sequence = sequence, .plan = 0x500000003, .user_data = 1000 + sequence, .tokens = 4};
    head.ref_count = refs;
    return head;
}

static void fill_refs(struct tcw_ref *refs, unsigned count, unsigned seed)
{
    for (unsigned i = 0; i < count; i++)
        refs[i] = (struct tcw_ref){.handle = seed * 1000 + i, .offset = 16u * i, .length = seed + i};
}

static void submit(struct ring_fixture *ring, uint32_t sequence, uint16_t refs)
{
    struct tcw_ref list[TCW_MAX_REFS];
    bool wake;
    struct tcw_sqe head = request(sequence, refs);
    fill_refs(list, refs, sequence);
    assert_int_equal(tcw_ring_submit(&ring->client, &head, list, &wake), 0);
    assert_false(wake);
}

static void expect(struct ring_fixture *ring, uint32_t sequence, uint16_t refs)
{
    struct tcw_request taken;
    struct tcw_ref list[TCW_MAX_REFS];
    const char *why = NULL;
    memset(&taken, 0xee, sizeof(taken));
    assert_int_equal(tcw_ring_take(&ring->executor, &taken, &why), 1);
    assert_int_equal(taken.head.sequence, sequence);
    assert_int_equal(taken.head.user_data, 1000 + sequence);
    assert_int_equal(taken.head.ref_count, refs);
    assert_int_equal(taken.head.tokens, 4);
    fill_refs(list, refs, sequence);
    if (refs)
        assert_memory_equal(taken.refs, list, refs * sizeof(list[0]));
}

static void expect_empty(struct ring_fixture *ring)
{
    struct tcw_request taken;
    const char *why = NULL;
    assert_false(tcw_ring_pending(&ring->executor));
    assert_int_equal(tcw_ring_take(&ring->executor, &taken, &why), 0);
}

static void expect_violation(struct ring_fixture *ring)
{
    struct tcw_request taken;
    const char *why = NULL;
    assert_int_equal(tcw_ring_take(&ring->executor, &taken, &why), TCW_EPROTO);
    assert_non_null(why);
}

static void test_bytes(void **state)
{
    (void)state;
    /* One header page, five index words of 128 bytes, 8 x 128, 8 x 32: 4096 + 640 + 1024 + 256, in whole pages. */
    assert_int_equal(tcw_ring_bytes(8, 8, false), 8192);
    /* 4096 + 640 + 256 x 128 + 256 x 32 = 45696 */
    assert_int_equal(tcw_ring_bytes(256, 256, false), 49152);
    static const uint32_t refused[] = {0, 1, 4, 7, 9, 24, 8191, 8192, 0x80000000u, 0xffffffffu};
    for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
        assert_int_equal(tcw_ring_bytes(refused[i], 8, false), 0);
        assert_int_equal(tcw_ring_bytes(8, refused[i], false), 0);
    }
}

static void test_format_needs_room(void **state)
{
    (void)state;
    uint64_t bytes = tcw_ring_bytes(8, 16, false);
    void *memory = calloc(1, bytes);
    assert_non_null(memory);
    assert_int_equal(tcw_ring_format(memory, bytes - 1, 8, 16, false, 1, 2), TCW_EINVAL);
    assert_int_equal(tcw_ring_format(memory, bytes, 8, 12, false, 1, 2), TCW_EINVAL);
    assert_int_equal(tcw_ring_format(memory, bytes, 8, 16, false, 1, 2), 0);
    free(memory);
}

/* Every byte of the header that is not an identity is checked: flipping any bit must be noticed. */
static void test_open_checks_every_header_bit(void **state)
{
    struct ring_fixture ring;
    struct tcw_ring opened;
    (void)state;
    assert_int_equal(ring_fixture_make(&ring, 8, 16, -1, -1), 0);
    assert_int_equal(ring.client.sq_entries, 8);
    assert_int_equal(ring.client.cq_entries, 16);
    assert_int_equal(ring.client.client_id, 7);
    assert_int_equal(ring.client.generation, 9);
    unsigned char *bytes = ring.memory;
    for (size_t bit = 0; bit < sizeof(struct tcw_ring_header) * 8; bit++) {
        size_t byte = bit / 8;
        bytes[byte] ^= (unsigned char)(1u << bit % 8);
        int code = tcw_ring_open(&opened, ring.memory, ring.bytes, -1, -1);
        bool identity = (byte >= offsetof(struct tcw_ring_header, client_id) && byte < offsetof(struct tcw_ring_header, features));
        if (identity)
            assert_int_equal(code, 0);
        else
            assert_int_equal(code, TCW_EPROTO);
        bytes[byte] ^= (unsigned char)(1u << bit % 8);
    }
    for (uint64_t size = 0; size < ring.bytes; size += 512)
        assert_int_equal(tcw_ring_open(&opened, ring.memory, size, -1, -1), TCW_EPROTO);
    assert_int_equal(tcw_ring_open(&opened, ring.memory, ring.bytes + 4096, -1, -1), 0);
    ring_fixture_free(&ring);
}

static void test_header_is_copied_once(void **state)
{
    struct ring_fixture ring;
    (void)state;
    assert_int_equal(ring_fixture_make(&ring, 8, 8, -1, -1), 0);
    memset(ring.memory, 0xff, sizeof(struct tcw_ring_header)); /* the peer overwrites the header afterwards */
    submit(&ring, 1, 2);
    expect(&ring, 1, 2);
    ring_fixture_free(&ring);
}

static void test_order_and_wrap(void **state)
{
    struct ring_fixture ring;
    (void)state;
    assert_int_equal(ring_fixture_make(&ring, 8, 8, -1, -1), 0);
    expect_empty(&ring);
    uint32_t sent = 0, seen = 0;
    /* Requests of 1, 2 and 3 entries, kept between empty and full, so that every alignment of a continuation to the end occurs. */
    static const uint16_t refs[] = {0, 4, 5, 9, 10, 1, 14};
    for (unsigned round = 0; round < 200; round++) {
        submit(&ring, sent, refs[sent % 7]);
        sent++;
        if (round % 3 == 0) {
            submit(&ring, sent, refs[sent % 7]);
            sent++;
        }
        while (seen < sent) {
            expect(&ring, seen, refs[seen % 7]);
            seen++;
        }
    }
    expect_empty(&ring);
    ring_fixture_free(&ring);
}

static void test_indices_wrap_at_2_to_32(void **state)
{
    struct ring_fixture ring;
    (void)state;
    assert_int_equal(ring_fixture_make(&ring, 8, 8, -1, -1), 0);
    ring_fixture_start(&ring, 0xfffffffdu);
    expect_empty(&ring);
    for (uint32_t i = 0; i < 24; i++) {
        struct tcw_cqe cqe = {.user_data = i, .result = -(int)i};
        submit(&ring, i, 9);
        expect(&ring, i, 9);
        assert_int_equal(tcw_ring_complete(&ring.executor, &cqe), 0);
        memset(&cqe, 0, sizeof(cqe));
        assert_int_equal(tcw_ring_reap(&ring.client, &cqe), 1);
        assert_int_equal(cqe.user_data, i);
        assert_int_equal(cqe.result, -(int)i);
        assert_int_equal(tcw_ring_reap(&ring.client, &cqe), 0);
    }
    ring_fixture_free(&ring);
}

static void test_full_submission_ring(void **state)
{
    struct ring_fixture ring;
    struct tcw_ref list[TCW_MAX_REFS] = {0};
    bool wake = true;
    (void)state;
    assert_int_equal(ring_fixture_make(&ring, 8, 8, -1, -1), 0);
    for (uint32_t i = 0; i < 7; i++)
        submit(&ring, i, 0);
    struct tcw_sqe two = request(7, 5), one = request(7, 4);
    assert_int_equal(tcw_ring_submit(&ring.client, &two, list, &wake), TCW_EAGAIN); /* needs two entries, one is free */
    assert_false(wake);
    assert_int_equal(tcw_ring_submit(&ring.client, &one, list, &wake), 0);
    assert_int_equal(tcw_ring_submit(&ring.client, &one, list, &wake), TCW_EAGAIN);
    struct tcw_request taken;
    const char *why;
    for (uint32_t i = 0; i < 8; i++) {
        assert_int_equal(tcw_ring_take(&ring.executor, &taken, &why), 1);
        assert_int_equal(taken.head.sequence, i);
    }
    expect_empty(&ring);
    submit(&ring, 8, 39); /* 1 + 7 entries: the whole ring */
    struct tcw_sqe more = request(9, 0);
    assert_int_equal(tcw_ring_submit(&ring.client, &more, list, &wake), TCW_EAGAIN);
    expect(&ring, 8, 39);
    ring_fixture_free(&ring);
}

static void test_largest_request(void **state)
{
    struct ring_fixture ring;
    (void)state;
    assert_int_equal(ring_fixture_make(&ring, 128, 8, -1, -1), 0);
    submit(&ring, 1, TCW_MAX_REFS);
    expect(&ring, 1, TCW_MAX_REFS);
    assert_int_equal(tcw_sqe_entries(0), 1);
    assert_int_equal(tcw_sqe_entries(4), 1);
    assert_int_equal(tcw_sqe_entries(5), 2);
    assert_int_equal(tcw_sqe_entries(9), 2);
    assert_int_equal(tcw_sqe_entries(10), 3);
    assert_int_equal(tcw_sqe_entries(TCW_MAX_REFS), 65);
    ring_fixture_free(&ring);
}

static void test_full_completion_ring(void **state)
{
    struct ring_fixture ring;
    struct tcw_cqe cqe = {.user_data = 1};
    (void)state;
    assert_int_equal(ring_fixture_make(&ring, 8, 8, -1, -1), 0);
    for (uint64_t i = 0; i < 8; i++) {
        cqe.user_data = i;
        assert_int_equal(tcw_ring_complete(&ring.executor, &cqe), 0);
    }
    assert_int_equal(tcw_ring_complete(&ring.executor, &cqe), TCW_EPROTO);
    for (uint64_t i = 0; i < 8; i++) {
        assert_int_equal(tcw_ring_reap(&ring.client, &cqe), 1);
        assert_int_equal(cqe.user_data, i);
    }
    assert_int_equal(tcw_ring_reap(&ring.client, &cqe), 0);
    assert_int_equal(tcw_ring_complete(&ring.executor, &cqe), 0);
    ring_fixture_free(&ring);
}

/* The index words are the peer's to write: no value may lead outside the ring or be believed. */
static void test_hostile_indices(void **state)
{
    /* Far away in both directions: ahead of what was produced, and behind it by more than the ring is long. */
    static const uint32_t lies[] = {9, 100, 0x7fffffffu, 0x80000000u, 0xfffffff7u};
    (void)state;
    for (size_t i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
        struct ring_fixture ring;
        struct tcw_cqe cqe = {0};
        struct tcw_ref none[1] = {{0}};
        bool wake;
        struct tcw_sqe head = request(0, 0);
        assert_int_equal(ring_fixture_make(&ring, 8, 8, -1, -1), 0);
        atomic_store(&ring.client.indices->sq_tail, lies[i]); /* client lies to the executor: nothing is taken that is not there */
        expect_empty(&ring);
        submit(&ring, 0, 5);
        atomic_store(&ring.client.indices->sq_tail, lies[i]);
        expect(&ring, 0, 5);
        expect_empty(&ring);
        /* A producer looks at its consumer's index only when the ring seems full: then it must not believe this. */
        atomic_store(&ring.client.indices->cq_head, lies[i]);
        for (unsigned entry = 0; entry < 8; entry++)
            assert_int_equal(tcw_ring_complete(&ring.executor, &cqe), 0);
        assert_int_equal(tcw_ring_complete(&ring.executor, &cqe), TCW_EPROTO);
        atomic_store(&ring.client.indices->sq_head, 2 + lies[i]); /* and a broken executor to the client, which has used 2 entries */
        for (unsigned entry = 0; entry < 6; entry++)
            assert_int_equal(tcw_ring_submit(&ring.client, &head, none, &wake), 0);
        assert_int_equal(tcw_ring_submit(&ring.client, &head, none, &wake), TCW_EAGAIN);
        ring_fixture_free(&ring);
    }
}

/* Entries that say they are there: no more is taken than the ring is long, however often they say so. */
static void test_hostile_marks(void **state)
{
    (void)state;
    for (uint32_t start = 0; start < 16; start++) {
        struct ring_fixture ring;
        struct tcw_request taken;
        const char *why = NULL;
        assert_int_equal(ring_fixture_make(&ring, 8, 8, -1, -1), 0);
        ring_fixture_start(&ring, start);
        expect_empty(&ring);
        for (uint32_t phase = 0; phase < 2; phase++) {
            uint32_t before = ring.executor.sq_local;
            for (unsigned i = 0; i < 8; i++)
                atomic_store(&ring.client.sq[i].mark, phase << 31); /* a NOP */
            while (tcw_ring_take(&ring.executor, &taken, &why) == 1) {
                assert_int_equal(taken.head.flags, 0);
                assert_true(ring.executor.sq_local - before <= 8);
            }
            assert_null(why);
        }
        ring_fixture_free(&ring);
    }
}

/* The first word is published as one: without it nothing is there, whatever the rest of the entry says. */
static void test_phase_decides(void **state)
{
    struct ring_fixture ring;
    struct tcw_cqe cqe = {.user_data = 5, .culprit = 0xffff, .result = -3};
    (void)state;
    assert_int_equal(ring_fixture_make(&ring, 8, 8, -1, -1), 0);
    for (uint32_t round = 0; round < 24; round++) {
        submit(&ring, round, 4);
        uint32_t at = round % 8, mark = atomic_load(&ring.client.sq[at].mark);
        atomic_store(&ring.client.sq[at].mark, mark ^ (uint32_t)TCW_RING_PHASE << 16);
        expect_empty(&ring);
        assert_true(tcw_ring_arm_executor(&ring.executor)); /* it may sleep */
        tcw_ring_disarm_executor(&ring.executor);
        atomic_store(&ring.client.sq[at].mark, mark);
        assert_true(tcw_ring_pending(&ring.executor));
        expect(&ring, round, 4);

        assert_false(tcw_ring_completed(&ring.client, round));
        assert_int_equal(tcw_ring_complete(&ring.executor, &cqe), 0);
        assert_true(tcw_ring_completed(&ring.client, round));
        assert_false(tcw_ring_completed(&ring.client, round + 8));
        assert_int_equal(tcw_ring_reap(&ring.client, &cqe), 1);
        assert_true(cqe.user_data == 5 && cqe.culprit == 0xffff && cqe.result == -3 && !cqe.flags);
    }
    ring_fixture_free(&ring);
}

/* A broken executor: flags of completions that no client knows. */
static void test_hostile_completions(void **state)
{
    (void)state;
    for (unsigned bit = 0; bit < 15; bit++) {
        struct ring_fixture ring;
        struct tcw_cqe cqe = {.user_data = 1, .flags = (uint16_t)(1u << bit)};
        assert_int_equal(ring_fixture_make(&ring, 8, 8, -1, -1), 0);
        assert_int_equal(tcw_ring_complete(&ring.executor, &cqe), 0);
        assert_int_equal(tcw_ring_reap(&ring.client, &cqe), TCW_EPROTO);
        ring_fixture_free(&ring);
    }
}

static void test_flags_of_hosts(void **state)
{
    struct ring_fixture ring;
    struct tcw_request taken;
    struct tcw_ref none[1] = {{0}};
    struct tcw_sqe head = request(1, 0);
    const char *why = NULL;
    bool wake;
    (void)state;
    assert_int_equal(ring_fixture_make(&ring, 8, 8, -1, -1), 0);
    head.flags = TCW_SQE_UNTIMED;
    for (unsigned i = 0; i < 20; i++) { /* in every phase */
        assert_int_equal(tcw_ring_submit(&ring.client, &head, none, &wake), 0);
        assert_int_equal(tcw_ring_take(&ring.executor, &taken, &why), 1);
        assert_int_equal(taken.head.flags, TCW_SQE_UNTIMED);
    }
    ring_fixture_free(&ring);
}

/* The longest request of all, in a ring that could never hold it. */
static void test_hostile_length(void **state)
{
    struct ring_fixture ring;
    (void)state;
    assert_int_equal(ring_fixture_make(&ring, 8, 8, -1, -1), 0);
    for (unsigned i = 0; i < 8; i++)
        ring.client.sq[i].continuation = (struct tcw_sqe_continuation){.op = TCW_SQE_CONTINUATION, .flags = TCW_RING_PHASE, .sequence = 3};
    ring.client.sq[0].head = request(3, TCW_MAX_REFS);
    expect_empty(&ring);
    ring_entry_publish(&ring.client, 0);
    expect_violation(&ring);
    ring_fixture_free(&ring);
}

static void test_hostile_entries(void **state)
{
    struct {
        const char *what;
        size_t offset;
        uint16_t value;
        unsigned entry;
    } lies[] = {
        {"a head that says continuation", offsetof(struct tcw_sqe, op), TCW_SQE_CONTINUATION, 0},
        {"a flag", offsetof(struct tcw_sqe, flags), TCW_RING_PHASE | 1, 0},
        {"another flag", offsetof(struct tcw_sqe, flags), TCW_RING_PHASE | TCW_SQE_RELEASE, 0},
        {"an unknown flag beside a known one", offsetof(struct tcw_sqe, flags), TCW_RING_PHASE | TCW_SQE_UNTIMED | 8, 0},
        {"the highest flag", offsetof(struct tcw_sqe, flags), TCW_RING_PHASE | 0x4000, 0},
        {"words where there are none", offsetof(struct tcw_sqe, pair), 1, 0},
        {"too many references", offsetof(struct tcw_sqe, ref_count), TCW_MAX_REFS + 1, 0},
        {"most references", offsetof(struct tcw_sqe, ref_count), 0xffff, 0},
        {"more references than were published", offsetof(struct tcw_sqe, ref_count), 15, 0},
        {"a continuation that is none", offsetof(struct tcw_sqe_continuation, op), TCW_OP_ALL_REDUCE, 1},
        {"a continuation with flags", offsetof(struct tcw_sqe_continuation, flags), TCW_RING_PHASE | 1, 1},
        {"a continuation that is not there", offsetof(struct tcw_sqe_continuation, flags), 0, 1},
        {"the last one is not there", offsetof(struct tcw_sqe_continuation, flags), 0, 2},
        {"a continuation of another request", offsetof(struct tcw_sqe_continuation, sequence), 77, 2},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
        struct ring_fixture ring;
        assert_int_equal(ring_fixture_make(&ring, 16, 8, -1, -1), 0);
        submit(&ring, 3, 14); /* a head and two continuations */
        memcpy((unsigned char *)&ring.client.sq[lies[i].entry] + lies[i].offset, &lies[i].value, sizeof(lies[i].value));
        struct tcw_request taken;
        const char *why = NULL;
        if (tcw_ring_take(&ring.executor, &taken, &why) != TCW_EPROTO)
            fail_msg("not noticed: %s", lies[i].what);
        assert_non_null(why);
        ring_fixture_free(&ring);
    }
}

/* Captured requests have words of their own, which only their entries may name. */
static void test_captured(void **state)
{
    enum { SQ = 16, CQ = 8 };
    const uint64_t bytes = tcw_ring_bytes(SQ, CQ, true);
    const struct {
        uint16_t flags, pair;
        int taken;
    } entries[] = {
        {0, CQ - 1, 1},
        {0, CQ, TCW_EPROTO},
        {TCW_SQE_CAPTURED, TCW_CAPTURED - 1, 1},
        {TCW_SQE_CAPTURED, TCW_CAPTURED, TCW_EPROTO},
        {TCW_SQE_CAPTURED | TCW_SQE_RELEASE, CQ, 1},
        {TCW_SQE_RELEASE, 0, TCW_EPROTO},
        {8, 0, TCW_EPROTO},
        {TCW_SQE_UNTIMED, 0, TCW_EPROTO},
        {TCW_SQE_CAPTURED | TCW_SQE_UNTIMED, 0, TCW_EPROTO},
    };
    (void)state;
    assert_true(bytes >= tcw_ring_bytes(SQ, CQ, false) + CQ * sizeof(struct tcw_words) + TCW_CAPTURED * sizeof(struct tcw_captured));
    for (size_t i = 0; i < sizeof(entries) / sizeof(entries[0]); i++) {
        struct tcw_sqe head = {.op = TCW_OP_NOP, .flags = entries[i].flags, .pair = entries[i].pair};
        void *base = aligned_alloc(4096, bytes);
        struct tcw_ring client, executor;
        struct tcw_request request;
        const char *why = NULL;
        bool wake;

        assert_non_null(base);
        memset(base, 0, bytes);
        assert_int_equal(tcw_ring_format(base, bytes, SQ, CQ, true, 1, 2), 0);
        assert_int_equal(tcw_ring_open(&client, base, bytes, -1, -1), 0);
        assert_int_equal(tcw_ring_open(&executor, base, bytes, -1, -1), 0);
        assert_ptr_equal((unsigned char *)(client.captured + TCW_CAPTURED), (unsigned char *)base + bytes);
        assert_true((unsigned char *)(client.words + CQ) <= (unsigned char *)client.captured);
        assert_int_equal(tcw_ring_submit(&client, &head, NULL, &wake), 0);
        assert_int_equal(tcw_ring_take(&executor, &request, &why), entries[i].taken);
        assert_int_equal(why != NULL, entries[i].taken < 0);
        free(base);
    }
}

/* What gives up stays given up: a graph that writes its half of the word does not undo it, and the whole is what it waits for, or more. */
static void test_captured_over(void **state)
{
    const uint64_t bytes = tcw_ring_bytes(8, 8, true);
    void *base = aligned_alloc(4096, bytes);
    struct tcw_ring ring;

    (void)state;
    assert_non_null(base);
    memset(base, 0, bytes);
    assert_int_equal(tcw_ring_format(base, bytes, 8, 8, true, 1, 2), 0);
    assert_int_equal(tcw_ring_open(&ring, base, bytes, -1, -1), 0);
    tcw_ring_captured_over(&ring);
    for (unsigned i = 0; i < TCW_CAPTURED; i++) {
        int64_t whole;

        for (uint32_t turn = 0; turn <= TCW_TURN_CLIENT; turn++) {
            atomic_store(&ring.captured[i].turn, turn);
            memcpy(&whole, (const void *)&ring.captured[i].turn, sizeof(whole));
            assert_true(whole >= TCW_TURN_CLIENT);
        }
    }
    free(base);
}

static void test_request_is_a_private_copy(void **state)
{
    struct ring_fixture ring;
    struct tcw_request taken;
    const char *why;
    (void)state;
    assert_int_equal(ring_fixture_make(&ring, 8, 8, -1, -1), 0);
    submit(&ring, 5, 9);
    assert_int_equal(tcw_ring_take(&ring.executor, &taken, &why), 1);
    memset(ring.client.sq, 0xff, 8 * sizeof(union tcw_sq_entry));
    struct tcw_ref list[9];
    fill_refs(list, 9, 5);
    assert_memory_equal(taken.refs, list, sizeof(list));
    assert_int_equal(taken.head.sequence, 5);
    ring_fixture_free(&ring);
}

static void test_sleep_flags(void **state)
{
    struct ring_fixture ring;
    struct tcw_sqe head = request(0, 0);
    struct tcw_ref none[1] = {{0}};
    bool wake = false;
    (void)state;
    assert_int_equal(ring_fixture_make(&ring, 8, 8, -1, -1), 0);
    assert_true(tcw_ring_arm_executor(&ring.executor));
    assert_int_equal(tcw_ring_submit(&ring.client, &head, none, &wake), 0);
    assert_true(wake);
    tcw_ring_disarm_executor(&ring.executor);
    assert_false(tcw_ring_arm_executor(&ring.executor)); /* work is waiting */
    assert_int_equal(atomic_load(&ring.client.indices->sq_sleep), 0);
    assert_int_equal(tcw_ring_submit(&ring.client, &head, none, &wake), 0);
    assert_false(wake);
    struct tcw_cqe cqe = {0};
    assert_true(tcw_ring_arm_client(&ring.client));
    assert_int_equal(tcw_ring_complete(&ring.executor, &cqe), 0);
    tcw_ring_disarm_client(&ring.client);
    assert_false(tcw_ring_arm_client(&ring.client));
    assert_int_equal(atomic_load(&ring.client.indices->cq_sleep), 0);
    ring_fixture_free(&ring);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bytes),
        cmocka_unit_test(test_format_needs_room),
        cmocka_unit_test(test_open_checks_every_header_bit),
        cmocka_unit_test(test_header_is_copied_once),
        cmocka_unit_test(test_order_and_wrap),
        cmocka_unit_test(test_indices_wrap_at_2_to_32),
        cmocka_unit_test(test_full_submission_ring),
        cmocka_unit_test(test_largest_request),
        cmocka_unit_test(test_full_completion_ring),
        cmocka_unit_test(test_hostile_indices),
        cmocka_unit_test(test_hostile_marks),
        cmocka_unit_test(test_phase_decides),
        cmocka_unit_test(test_hostile_completions),
        cmocka_unit_test(test_hostile_length),
        cmocka_unit_test(test_flags_of_hosts),
        cmocka_unit_test(test_hostile_entries),
        cmocka_unit_test(test_request_is_a_private_copy),
        cmocka_unit_test(test_sleep_flags),
        cmocka_unit_test(test_captured),
        cmocka_unit_test(test_captured_over),
    };
    return cmocka_run_group_tests_name("ring", tests, NULL, NULL);
}
