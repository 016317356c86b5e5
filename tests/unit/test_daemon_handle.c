/* Handles, alarms, rows: what the control process keeps its objects with. */
#include "cmocka_all.h"

#include "daemon/control/alarm.h"
#include "daemon/control/handle.h"
#include "daemon/control/rows.h"

/* ---- handles ---- */

static void test_handle_finds(void **state)
{
    struct tcd_handles handles;
    int objects[40];
    uint64_t names[40];
    unsigned i;

    (void)state;
    tcd_handles_init(&handles, 1000);
    for (i = 0; i < 40; i++) {
        names[i] = tcd_handle_add(&handles, &objects[i]);
        assert_int_not_equal(names[i], 0);
        assert_int_equal(tcd_handle_index(names[i]), i);
    }
    for (i = 0; i < 40; i++)
        assert_ptr_equal(tcd_handle_get(&handles, names[i]), &objects[i]);
    assert_int_equal(handles.count, 40);
    tcd_handles_clear(&handles);
}

static void test_handle_stale(void **state)
{
    struct tcd_handles handles;
    int one, other;
    uint64_t first, second;

    (void)state;
    tcd_handles_init(&handles, 1000);
    first = tcd_handle_add(&handles, &one);
    tcd_handle_remove(&handles, first);
    assert_null(tcd_handle_get(&handles, first));
    second = tcd_handle_add(&handles, &other);
    assert_int_equal(tcd_handle_index(first), tcd_handle_index(second));
    assert_int_not_equal(first, second);
    assert_null(tcd_handle_get(&handles, first));
    assert_ptr_equal(tcd_handle_get(&handles, second), &other);
    /* Removing by the stale name must not touch the new object. */
    tcd_handle_remove(&handles, first);
    assert_ptr_equal(tcd_handle_get(&handles, second), &other);
    assert_int_equal(handles.count, 1);
    tcd_handles_clear(&handles);
}

static void test_handle_nonsense(void **state)
{
    struct tcd_handles handles;
    int object;
    uint64_t handle;

    (void)state;
    tcd_handles_init(&handles, 1000);
    assert_null(tcd_handle_get(&handles, 0));
    assert_null(tcd_handle_get(&handles, UINT64_MAX));
    handle = tcd_handle_add(&handles, &object);
    assert_null(tcd_handle_get(&handles, 0));
    assert_null(tcd_handle_get(&handles, handle + 1));
    assert_null(tcd_handle_get(&handles, handle + (1ull << 32)));
    assert_null(tcd_handle_get(&handles, (uint32_t)handle));
    tcd_handle_remove(&handles, UINT64_MAX);
    tcd_handles_clear(&handles);
}

static void test_handle_limit(void **state)
{
    struct tcd_handles handles;
    uint64_t names[20];
    unsigned i;
    int object;

    (void)state;
    tcd_handles_init(&handles, 20);
    for (i = 0; i < 20; i++) {
        names[i] = tcd_handle_add(&handles, &object);
        assert_int_not_equal(names[i], 0);
    }
    assert_int_equal(tcd_handle_add(&handles, &object), 0);
    tcd_handle_remove(&handles, names[7]);
    names[7] = tcd_handle_add(&handles, &object);
    assert_int_equal(tcd_handle_index(names[7]), 7);
    assert_int_equal(tcd_handle_add(&handles, &object), 0);
    tcd_handles_clear(&handles);
}

/* ---- alarms ---- */

struct bell {
    struct tcd_alarm alarm;
    struct tcd_clock *clock;
    struct bell *other;
    unsigned order;
    unsigned rings;
};
static unsigned order;

static void on_ring(void *arg)
{
    struct bell *bell = arg;

    bell->order = ++order;
    bell->rings++;
}

static void on_ring_stop_other(void *arg)
{
    struct bell *bell = arg;

    on_ring(arg);
    tcd_alarm_stop(&bell->other->alarm);
}

static void on_ring_again(void *arg)
{
    struct bell *bell = arg;

    on_ring(arg);
    if (bell->rings < 3)
        tcd_alarm_set(&bell->alarm, bell->clock, 0, on_ring_again, bell);
}

static void test_alarm_order(void **state)
{
    struct bell bells[4] = {0};
    struct tcd_clock clock;
    uv_loop_t loop;

    (void)state;
    order = 0;
    uv_loop_init(&loop);
    tcd_clock_open(&clock, &loop);
    tcd_alarm_set(&bells[0].alarm, &clock, 30, on_ring, &bells[0]);
    tcd_alarm_set(&bells[1].alarm, &clock, 10, on_ring, &bells[1]);
    tcd_alarm_set(&bells[2].alarm, &clock, 20, on_ring, &bells[2]);
    tcd_alarm_set(&bells[3].alarm, &clock, 1, on_ring, &bells[3]);
    tcd_alarm_set(&bells[3].alarm, &clock, 40, on_ring, &bells[3]); /* moved */
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(bells[1].order, 1);
    assert_int_equal(bells[2].order, 2);
    assert_int_equal(bells[0].order, 3);
    assert_int_equal(bells[3].order, 4);
    assert_int_equal(bells[3].rings, 1);
    tcd_clock_close(&clock);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&loop), 0);
}

static void test_alarm_stops_other(void **state)
{
    struct bell first = {0}, second = {0}, again = {0};
    struct tcd_clock clock;
    uv_loop_t loop;

    (void)state;
    order = 0;
    uv_loop_init(&loop);
    tcd_clock_open(&clock, &loop);
    first.other = &second;
    again.clock = &clock;
    tcd_alarm_set(&first.alarm, &clock, 5, on_ring_stop_other, &first);
    tcd_alarm_set(&second.alarm, &clock, 5, on_ring, &second);
    tcd_alarm_set(&again.alarm, &clock, 1, on_ring_again, &again);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(first.rings, 1);
    assert_int_equal(second.rings, 0);
    assert_int_equal(again.rings, 3);
    tcd_alarm_stop(&second.alarm);
    tcd_clock_close(&clock);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&loop), 0);
}

/* ---- rows ---- */

static void test_rows(void **state)
{
    struct tcd_rows rows;
    uint32_t i;

    (void)state;
    assert_int_equal(tcd_rows_open(&rows, 70), 0);
    for (i = 0; i < 70; i++)
        assert_int_equal(tcd_rows_take(&rows), i);
    assert_int_equal(tcd_rows_take(&rows), TCD_NO_ROW);
    tcd_rows_give(&rows, TCD_NO_ROW);
    assert_int_equal(tcd_rows_take(&rows), TCD_NO_ROW);
    tcd_rows_give(&rows, 65);
    tcd_rows_give(&rows, 3);
    assert_int_equal(tcd_rows_take(&rows), 3);
    assert_int_equal(tcd_rows_take(&rows), 65);
    tcd_rows_close(&rows);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_handle_finds), cmocka_unit_test(test_handle_stale), cmocka_unit_test(test_handle_nonsense),
        cmocka_unit_test(test_handle_limit), cmocka_unit_test(test_alarm_order),  cmocka_unit_test(test_alarm_stops_other),
        cmocka_unit_test(test_rows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
