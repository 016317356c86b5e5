/* Clients that are killed, stopped, late or aborted, with operations on the served lane. */
#include "cases_failure.h"

static void test_killed_at_each_step(void **state)
{
    (void)state;
    failure_killed_at_each_step(TRTCOLL_LANE_SERVED);
}

static void test_killed_at_any_moment(void **state)
{
    (void)state;
    failure_killed_at_any_moment(TRTCOLL_LANE_SERVED);
}

static void test_stopped(void **state)
{
    (void)state;
    failure_stopped(TRTCOLL_LANE_SERVED);
}

static void test_late(void **state)
{
    (void)state;
    failure_late(TRTCOLL_LANE_SERVED);
}

static void test_abort(void **state)
{
    (void)state;
    failure_abort(TRTCOLL_LANE_SERVED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_killed_at_each_step, proc_teardown),
        cmocka_unit_test_teardown(test_killed_at_any_moment, proc_teardown),
        cmocka_unit_test_teardown(test_stopped, proc_teardown),
        cmocka_unit_test_teardown(test_late, proc_teardown),
        cmocka_unit_test_teardown(test_abort, proc_teardown),
    };
    return cmocka_run_group_tests_name("failures, served lane", tests, NULL, NULL);
}
