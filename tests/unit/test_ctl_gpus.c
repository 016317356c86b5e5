/* What trtcollctl says about GPUs and communicators, for rows that few machines ever show: an older daemon's, ended and unfinished ones. */
#include "client/ctl/gpus.h"

#include "cmocka_all.h"

static void test_library(void **state)
{
    (void)state;
    assert_string_equal(tcc_gpu_library(&(struct tcw_stats_device){.library = 22809}).s, "2.28.9");
    assert_string_equal(tcc_gpu_library(&(struct tcw_stats_device){.library = 0}).s, "none");
    assert_string_equal(tcc_gpu_library(&(struct tcw_stats_device){.library = TCC_ABSENT}).s, "none");
}

static void test_bytes(void **state)
{
    (void)state;
    assert_string_equal(tcc_communicator_bytes(&(struct tcw_stats_communicator){.state = 0}).s, "queued");
    assert_string_equal(tcc_communicator_bytes(&(struct tcw_stats_communicator){.state = 1}).s, "making");
    assert_string_equal(tcc_communicator_bytes(&(struct tcw_stats_communicator){.state = 2, .bytes = 34 << 20}).s, "34 MiB");
    assert_string_equal(tcc_communicator_bytes(&(struct tcw_stats_communicator){.state = 2}).s, "-");
    assert_string_equal(tcc_communicator_bytes(&(struct tcw_stats_communicator){.state = 2, .bytes = TCC_ABSENT}).s, "-");
    assert_string_equal(tcc_communicator_bytes(&(struct tcw_stats_communicator){.state = TCC_ABSENT, .bytes = TCC_ABSENT}).s, "-");
}

static void test_of_group(void **state)
{
    struct tcw_stats_communicator rows[] = {
        {.communicator = 5, .state = 3}, {.communicator = 7, .state = 1}, {.communicator = 9, .state = 2}};
    struct tcc_snapshot snapshot = {.communicators = rows, .communicator_count = 3};

    (void)state;
    assert_ptr_equal(tcc_group_communicator(&snapshot, &(struct tcw_stats_group){.communicator = 9}), &rows[2]);
    assert_ptr_equal(tcc_group_communicator(&snapshot, &(struct tcw_stats_group){.communicator = 7}), &rows[1]);
    assert_null(tcc_group_communicator(&snapshot, &(struct tcw_stats_group){.communicator = 5})); /* ended: its memory is back */
    assert_null(tcc_group_communicator(&snapshot, &(struct tcw_stats_group){.communicator = 6})); /* gone */
    assert_null(tcc_group_communicator(&snapshot, &(struct tcw_stats_group){.communicator = 0}));
    assert_null(tcc_group_communicator(&snapshot, &(struct tcw_stats_group){.communicator = TCC_ABSENT}));
}

/* On a device everything that is there or being made counts, each once; what is queued or ended does not. */
static void test_of_device(void **state)
{
    struct tcw_stats_communicator rows[] = {{.state = 0, .device_bits = 3},
                                            {.state = 1, .device_bits = 3},
                                            {.state = 2, .device_bits = 3, .bytes = 100, .users = 4},
                                            {.state = 2, .device_bits = 6, .bytes = 20},
                                            {.state = 3, .device_bits = 3, .bytes = 3}};
    struct tcc_snapshot snapshot = {.communicators = rows, .communicator_count = 5};
    uint64_t bytes;

    (void)state;
    assert_int_equal(tcc_device_communicators(&snapshot, 0, &bytes), 2);
    assert_int_equal(bytes, 100);
    assert_int_equal(tcc_device_communicators(&snapshot, 1, &bytes), 3);
    assert_int_equal(bytes, 120);
    assert_int_equal(tcc_device_communicators(&snapshot, 2, &bytes), 1);
    assert_int_equal(bytes, 20);
    assert_int_equal(tcc_device_communicators(&snapshot, 3, &bytes), 0);
    assert_int_equal(bytes, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_library),
        cmocka_unit_test(test_bytes),
        cmocka_unit_test(test_of_group),
        cmocka_unit_test(test_of_device),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
