/* Every operation on the direct lane, against the reference. */
#include "cases_lanes.h"

static void test_random_operations(void **state)
{
    (void)state;
    lane_random_operations(TRTCOLL_LANE_DIRECT);
}

static void test_every_combination(void **state)
{
    (void)state;
    lane_every_combination(TRTCOLL_LANE_DIRECT);
}

static void test_large_messages(void **state)
{
    (void)state;
    lane_large_messages(TRTCOLL_LANE_DIRECT);
}

static void test_rotation(void **state)
{
    (void)state;
    lane_rotation(TRTCOLL_LANE_DIRECT);
}

static void test_quantised_twins(void **state)
{
    (void)state;
    lane_quantised_twins(TRTCOLL_LANE_DIRECT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_rotation, proc_teardown),          cmocka_unit_test_teardown(test_quantised_twins, proc_teardown),
        cmocka_unit_test_teardown(test_every_combination, proc_teardown), cmocka_unit_test_teardown(test_large_messages, proc_teardown),
        cmocka_unit_test_teardown(test_random_operations, proc_teardown),
    };
    return cmocka_run_group_tests_name("operations, direct lane", tests, NULL, NULL);
}
