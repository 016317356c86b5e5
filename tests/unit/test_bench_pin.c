/* trtcoll-bench: which processors ranks are bound to, on the machine that this runs on. */
#include "client/bench/pin.h"

#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "cmocka_all.h"

enum { TEXT_BYTES = 256 };

/* Names the core of a processor; false where the machine does not say. */
static bool core_of(int processor, char *text)
{
    char path[96];
    snprintf(path, sizeof(path), "/sys/devices/system/cpu/cpu%d/topology/thread_siblings_list", processor);
    FILE *file = fopen(path, "re");
    bool known = file && fgets(text, TEXT_BYTES, file);
    if (file)
        fclose(file);
    return known;
}

/* Each of the allowed ones once, and then from the beginning. */
static void test_every_processor(void **state)
{
    cpu_set_t allowed, seen;
    (void)state;
    assert_int_equal(sched_getaffinity(0, sizeof(allowed), &allowed), 0);
    const uint32_t count = (uint32_t)CPU_COUNT(&allowed);
    CPU_ZERO(&seen);
    for (uint32_t rank = 0; rank < count; rank++) {
        int processor = pin_processor(rank);
        assert_in_range(processor, 0, CPU_SETSIZE - 1);
        CPU_SET(processor, &seen);
        assert_int_equal(pin_processor(rank + count), processor);
    }
    assert_true(CPU_EQUAL(&seen, &allowed));
}

/* No rank is on the core of an earlier one while an allowed processor of another core comes later. */
static void test_cores_first(void **state)
{
    static char cores[CPU_SETSIZE][TEXT_BYTES];
    cpu_set_t allowed;
    bool shared = false;
    (void)state;
    assert_int_equal(sched_getaffinity(0, sizeof(allowed), &allowed), 0);
    for (uint32_t rank = 0; rank < (uint32_t)CPU_COUNT(&allowed); rank++) {
        bool again = false;
        if (!core_of(pin_processor(rank), cores[rank]))
            skip();
        for (uint32_t earlier = 0; earlier < rank; earlier++)
            again |= !strcmp(cores[rank], cores[earlier]);
        assert_true(again || !shared);
        shared |= again;
    }
}

static void pin_to(const cpu_set_t *allowed)
{
    assert_int_equal(sched_setaffinity(0, sizeof(*allowed), allowed), 0);
}

/* Only what the process may use. */
static void test_one_allowed(void **state)
{
    cpu_set_t all, one;
    int last = pin_processor(0);
    (void)state;
    assert_int_equal(sched_getaffinity(0, sizeof(all), &all), 0);
    for (int processor = 0; processor < CPU_SETSIZE; processor++)
        if (CPU_ISSET(processor, &all))
            last = processor;
    CPU_ZERO(&one);
    CPU_SET(last, &one);
    pin_to(&one);
    for (uint32_t rank = 0; rank < 4; rank++)
        assert_int_equal(pin_processor(rank), last);
    pin_to(&all);
    pin_rank(0);
    assert_int_equal(sched_getaffinity(0, sizeof(one), &one), 0);
    assert_int_equal(CPU_COUNT(&one), 1);
    pin_to(&all);
    assert_true(CPU_ISSET(pin_processor(0), &one));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_processor),
        cmocka_unit_test(test_cores_first),
        cmocka_unit_test(test_one_allowed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
