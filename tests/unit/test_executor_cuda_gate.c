/* The gate and the order log between threads: whatever happens, all ranks launch the same requests in the same order, or none does. */
#include "cmocka_all.h"

#include "daemon/executor/cuda/gate.h"

#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

enum { RANKS = 4, REQUESTS = 5000, ROUNDS = 100 };

static struct tcd_gate gate;
static struct tcd_order_log order;

struct rank {
    struct tcd_gate_view view;
    unsigned seed;
    uint64_t leave_at; /* request about which it changes its mind */
    uint64_t launched;
    struct tcd_gate_fault fault;
};

/* One request: true if it was launched. */
static bool pass(struct rank *rank, uint64_t tag, bool leave)
{
    tcd_gate_take(&rank->view, tag);
    for (;;) {
        switch (tcd_gate_look(&rank->view, &rank->fault)) {
        case TCD_GATE_OPEN:
            if (!rank->view.rank)
                tcd_gate_launch(&rank->view);
            return true;
        case TCD_GATE_GIVEN_UP:
            return false;
        default:
            break;
        }
        if (leave) {
            tcd_gate_give_up(&rank->view, TCW_ETIMEOUT, rank->view.rank);
            leave = false;
        }
        sched_yield();
    }
}

static void *rank_main(void *arg)
{
    struct rank *rank = arg;
    while (rank->launched < REQUESTS) {
        if (!pass(rank, rank->launched + 7, rank->launched + 1 == rank->leave_at))
            return NULL;
        ++rank->launched;
    }
    return NULL;
}

static void run_ranks(struct rank *ranks, unsigned count)
{
    pthread_t threads[RANKS];
    memset(&gate, 0, sizeof gate);
    for (unsigned i = 0; i < count; ++i) {
        ranks[i].view = (struct tcd_gate_view){.gate = &gate, .rank = i, .nranks = count};
        ranks[i].launched = 0;
    }
    for (unsigned i = 0; i < count; ++i)
        assert_int_equal(pthread_create(&threads[i], NULL, rank_main, &ranks[i]), 0);
    for (unsigned i = 0; i < count; ++i)
        pthread_join(threads[i], NULL);
}

static void test_all_pass(void **state)
{
    struct rank ranks[RANKS] = {{.seed = 0}};
    (void)state;
    run_ranks(ranks, RANKS);
    for (unsigned i = 0; i < RANKS; ++i)
        assert_int_equal(ranks[i].launched, REQUESTS);
}

/* The same numbers every time: a linear congruential generator's upper bits. */
static unsigned draw(unsigned *seed)
{
    *seed = *seed * 1664525u + 1013904223u;
    return *seed >> 16;
}

/* Ranks that want to leave, at any moment, one or several: all stop behind the same request. */
static void test_leaving_is_agreed(void **state)
{
    (void)state;
    unsigned seed = 1;
    for (unsigned round = 0; round < ROUNDS; ++round) {
        struct rank ranks[RANKS] = {{.seed = 0}};
        for (unsigned i = 0; i < RANKS; ++i)
            ranks[i].leave_at = draw(&seed) % 3 && i ? 0 : 1 + draw(&seed) % 40;
        run_ranks(ranks, RANKS);
        for (unsigned i = 1; i < RANKS; ++i) {
            assert_int_equal(ranks[i].launched, ranks[0].launched);
            if (ranks[i].launched < REQUESTS)
                assert_int_equal(ranks[i].fault.code, TCW_ETIMEOUT);
        }
    }
}

static struct rank rank_of(unsigned rank, unsigned nranks)
{
    return (struct rank){.view = {.gate = &gate, .rank = rank, .nranks = nranks}};
}

static void test_difference(void **state)
{
    struct rank first = rank_of(0, 3), second = rank_of(1, 3), third = rank_of(2, 3);
    struct tcd_gate_fault fault;
    (void)state;
    memset(&gate, 0, sizeof gate);
    tcd_gate_take(&first.view, tcd_gate_tag(3, 8));
    tcd_gate_take(&second.view, tcd_gate_tag(3, 9));
    assert_int_equal(tcd_gate_look(&second.view, &fault), TCD_GATE_SHUT);
    assert_int_equal(tcd_gate_missing(&first.view), 4);
    assert_int_equal(tcd_gate_look(&first.view, &fault), TCD_GATE_GIVEN_UP); /* need not wait for the third */
    assert_int_equal(fault.code, TCW_EMISMATCH);
    assert_int_equal(fault.rank, 1);
    assert_true(fault.mine == tcd_gate_tag(3, 8) && fault.theirs == tcd_gate_tag(3, 9));
    assert_int_equal(tcd_gate_look(&second.view, &fault), TCD_GATE_GIVEN_UP);
    assert_true(fault.mine == tcd_gate_tag(3, 9) && fault.theirs == tcd_gate_tag(3, 8));
    tcd_gate_take(&third.view, tcd_gate_tag(3, 8));
    assert_int_equal(tcd_gate_look(&third.view, &fault), TCD_GATE_GIVEN_UP);
    assert_true(fault.rank == 1 && fault.theirs == tcd_gate_tag(3, 9));
}

/* A rank that leaves alone, because rank 0 has not come; when it comes, it finds that out. */
static void test_leaving_before_rank_0(void **state)
{
    struct rank first = rank_of(0, 2), second = rank_of(1, 2);
    struct tcd_gate_fault fault = {0};
    (void)state;
    memset(&gate, 0, sizeof gate);
    tcd_gate_take(&second.view, 1);
    assert_int_equal(tcd_gate_look(&second.view, &fault), TCD_GATE_SHUT);
    tcd_gate_give_up(&second.view, TCW_ETIMEOUT, 0);
    assert_int_equal(tcd_gate_look(&second.view, &fault), TCD_GATE_GIVEN_UP);
    assert_true(fault.code == TCW_ETIMEOUT && fault.rank == 0);
    tcd_gate_take(&first.view, 1);
    assert_int_equal(tcd_gate_look(&first.view, &fault), TCD_GATE_GIVEN_UP);
    assert_true(fault.code == TCW_ETIMEOUT && fault.rank == 0);
}

/* What is launched is launched, whoever wanted to leave at the same time. */
static void test_bound_by_rank_0(void **state)
{
    struct rank first = rank_of(0, 2), second = rank_of(1, 2);
    struct tcd_gate_fault fault = {0};
    (void)state;
    memset(&gate, 0, sizeof gate);
    tcd_gate_take(&second.view, 1);
    tcd_gate_take(&first.view, 1);
    assert_int_equal(tcd_gate_look(&first.view, &fault), TCD_GATE_OPEN);
    tcd_gate_give_up(&second.view, TCW_EABORTED, 1);
    assert_int_equal(tcd_gate_look(&second.view, &fault), TCD_GATE_SHUT); /* not known yet */
    tcd_gate_launch(&first.view);
    tcd_gate_give_up(&first.view, TCW_EABORTED, 1);
    assert_int_equal(tcd_gate_look(&second.view, &fault), TCD_GATE_OPEN);
    tcd_gate_take(&second.view, 2);
    assert_int_equal(tcd_gate_look(&second.view, &fault), TCD_GATE_GIVEN_UP);
}

static void test_spoiled(void **state)
{
    struct rank first = rank_of(0, 2), second = rank_of(1, 2);
    struct tcd_gate_fault fault = {0};
    (void)state;
    memset(&gate, 0, sizeof gate);
    assert_false(tcd_gate_spoiled(&first.view, 1, &fault));
    tcd_gate_give_up(&second.view, TCW_EPEERDEAD, 1);
    assert_false(tcd_gate_spoiled(&first.view, 1, &fault)); /* it only goes no further */
    tcd_gate_spoil(&second.view, 5);
    tcd_gate_spoil(&second.view, 3); /* the first counts: callers go from the oldest */
    assert_false(tcd_gate_spoiled(&first.view, 4, &fault));
    assert_true(tcd_gate_spoiled(&first.view, 5, &fault));
    assert_true(fault.code == TCW_EPEERDEAD && fault.rank == 1);
    assert_true(tcd_gate_spoiled(&second.view, 6, &fault));
}

static void *consumer_main(void *arg)
{
    uint64_t groups[2] = {11, 22}, seen = 0, *sum = arg;
    for (uint64_t head = 0; head < REQUESTS; ++head) {
        unsigned which = 0;
        while (!tcd_order_is_turn(&order, head, groups[which]))
            which ^= 1, sched_yield();
        seen = seen * 31 + groups[which];
        tcd_order_consume(&order, 1, head + 1);
    }
    *sum = seen;
    return NULL;
}

static void test_order(void **state)
{
    pthread_t thread;
    uint64_t sum = 0, wanted = 0;
    (void)state;
    memset(&order, 0, sizeof order);
    unsigned seed = 2;
    assert_int_equal(pthread_create(&thread, NULL, consumer_main, &sum), 0);
    for (unsigned i = 0; i < REQUESTS; ++i) {
        uint64_t group = draw(&seed) % 2 ? 11 : 22;
        while (!tcd_order_has_room(&order, 2))
            sched_yield();
        tcd_order_append(&order, group);
        wanted = wanted * 31 + group;
    }
    pthread_join(thread, NULL);
    assert_true(sum == wanted);
    for (unsigned i = 0; i < TCD_ORDER_ENTRIES; ++i)
        tcd_order_append(&order, 1);
    assert_false(tcd_order_has_room(&order, 2));
    assert_true(tcd_order_has_room(&order, 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_pass),        cmocka_unit_test(test_leaving_is_agreed),
        cmocka_unit_test(test_difference),      cmocka_unit_test(test_leaving_before_rank_0),
        cmocka_unit_test(test_bound_by_rank_0), cmocka_unit_test(test_spoiled),
        cmocka_unit_test(test_order),
    };
    return cmocka_run_group_tests_name("executor: gate", tests, NULL, NULL);
}
