/* Plans of an instance as the control process keeps them: by number, and whether two of them meet in memory. */
#include "cmocka_all.h"

#include "daemon/control/plan.h"
#include "daemon/control/workspace.h"

#include <stdlib.h>

enum { PLANS = 4 };

/* Plans 3, 5, 7 and 9: the first two with one workspace, the third with another one, the last without. */
struct fixture {
    struct tcd_instance *instance;
    struct tcd_plan plans[PLANS];
    struct tcd_workspace workspaces[2];
};

static int set_up(void **state)
{
    struct fixture *fixture = calloc(1, sizeof(*fixture));

    *state = fixture;
    if (fixture)
        fixture->instance = calloc(1, sizeof(*fixture->instance));
    if (!fixture || !fixture->instance)
        return -1;
    tcd_list_init(&fixture->instance->plans);
    for (unsigned i = 0; i < PLANS; i++) {
        fixture->plans[i].number = 3 + 2 * i;
        fixture->plans[i].workspace = i < PLANS - 1 ? &fixture->workspaces[i / 2] : NULL;
        tcd_list_append(&fixture->instance->plans, &fixture->plans[i].link);
    }
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *fixture = *state;

    if (fixture)
        free(fixture->instance);
    free(fixture);
    return 0;
}

static void test_find(void **state)
{
    struct fixture *fixture = *state;

    for (unsigned i = 0; i < PLANS; i++) {
        assert_ptr_equal(tcd_plan_find(fixture->instance, 3 + 2 * i), &fixture->plans[i]);
        assert_null(tcd_plan_find(fixture->instance, 2 + 2 * i));
    }
    assert_null(tcd_plan_find(fixture->instance, UINT64_MAX));
    tcd_list_init(&fixture->instance->plans);
    assert_null(tcd_plan_find(fixture->instance, 3));
}

static void test_share_workspace(void **state)
{
    const struct fixture *fixture = *state;

    assert_true(tcd_plans_share_workspace(fixture->instance, 3, 5));
    assert_true(tcd_plans_share_workspace(fixture->instance, 5, 3));
    assert_true(tcd_plans_share_workspace(fixture->instance, 7, 7));
    assert_false(tcd_plans_share_workspace(fixture->instance, 5, 7)); /* each has its own */
    assert_false(tcd_plans_share_workspace(fixture->instance, 9, 9)); /* has none */
    assert_false(tcd_plans_share_workspace(fixture->instance, 3, 9));
    assert_false(tcd_plans_share_workspace(fixture->instance, 4, 4)); /* is not there */
    assert_false(tcd_plans_share_workspace(fixture->instance, 3, 11));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_find, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_share_workspace, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
