/* The two streams of a communicator: which one is chosen, and that requests follow each other whatever is chosen. */
#include "executor_cuda_fixture.h"

#include "daemon/executor/cuda/sides.h"

enum { REQUESTS = 4000, PAGES = 8, KERNEL_NS = 2000, GOOD_NS = 10000, BAD_NS = 16500 };

struct bench {
    struct tck_device *device;
    struct tcd_cuda_sides sides;
    uint64_t bytes;
    uint64_t *words; /* [0]: the latest request; [i]: what request i found there */
    CUdeviceptr address;
    struct tcw_device_progress progress;
    uint64_t now_ns; /* of the device that writes it */
    unsigned used[TCD_CUDA_SIDES];
};

static void open_bench(struct bench *bench)
{
    char why[TCW_TEXT_BYTES];
    *bench = (struct bench){.bytes = (uint64_t)PAGES * (uint64_t)sysconf(_SC_PAGESIZE)};
    assert_true(bench->bytes > REQUESTS * sizeof(uint64_t));
    assert_int_equal(tck_device_open(NULL, 0, &bench->device, why, sizeof why), 0);
    assert_int_equal(tck_cuda_enter(bench->device), 0);
    void *base = mmap(NULL, bench->bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(base != MAP_FAILED);
    bench->words = base;
    assert_int_equal(tck_cuda_register_host(bench->device, base, bench->bytes, &bench->address), 0);
    assert_int_equal(tcd_cuda_sides_open(&bench->sides), CUDA_SUCCESS);
}

static void close_bench(struct bench *bench)
{
    tcd_cuda_sides_close(&bench->sides);
    tck_cuda_unregister_host(bench->device, bench->words);
    munmap(bench->words, bench->bytes);
    tck_cuda_leave(bench->device);
    tck_device_close(bench->device);
}

/* Where the next request goes: it is told that it will be recorded as `step`. */
static unsigned request(struct bench *bench, uint64_t step, CUstream *stream)
{
    assert_int_equal(tcd_cuda_sides_turn(&bench->sides, &bench->progress, stream), CUDA_SUCCESS);
    tcd_cuda_sides_enqueued(&bench->sides, &bench->progress, step);
    unsigned side = *stream == bench->sides.streams[1];
    assert_ptr_equal(*stream, bench->sides.streams[side]);
    ++bench->used[side];
    return side;
}

/* What the kernel writes that runs as `step`, so long after the one before. */
static void record(struct bench *bench, uint64_t step, uint64_t after_ns)
{
    struct tcw_device_record *record = &bench->progress.records[step % TCW_DEVICE_RECORDS];
    record->start_ns = bench->now_ns += after_ns;
    record->end_ns = bench->now_ns += KERNEL_NS;
    atomic_store(&record->step, step);
}

static void await(struct bench *bench)
{
    CUresult result;
    WORLD_UNTIL((result = tcd_cuda_sides_query(&bench->sides)) != CUDA_ERROR_NOT_READY);
    assert_int_equal(result, CUDA_SUCCESS);
}

static void test_order(void **state)
{
    (void)state;
    const struct tck_cuda_driver *driver = tck_cuda_driver();
    struct bench bench;
    CUstream stream;
    open_bench(&bench);
    for (uint64_t i = 1; i < REQUESTS; ++i) {
        request(&bench, i, &stream);
        assert_int_equal(driver->cuMemcpyAsync(bench.address + i * sizeof(uint64_t), bench.address, sizeof(uint64_t), stream),
                         CUDA_SUCCESS);
        assert_int_equal(driver->cuStreamWriteValue64(stream, bench.address, i, CU_STREAM_WRITE_VALUE_DEFAULT), CUDA_SUCCESS);
        record(&bench, i, GOOD_NS);
        if (i % 50 == 0)
            await(&bench);
    }
    await(&bench);
    for (uint64_t i = 1; i < REQUESTS; ++i)
        assert_int_equal(bench.words[i], i - 1);
    assert_true(bench.sides.trials > 0);
    assert_true(bench.used[0] > 0 && bench.used[1] > 0);
    assert_int_equal(bench.sides.home, 0);
    close_bench(&bench);
}

/* One side is slower, and the client pauses now and then: after a trial all requests are on the other one, and trials become rare. */
static void test_choice(void **state)
{
    (void)state;
    for (unsigned slow = 0; slow < TCD_CUDA_SIDES; ++slow) {
        struct bench bench;
        CUstream stream;
        unsigned settled = 0;
        open_bench(&bench);
        const uint64_t pause = bench.sides.pause;
        for (uint64_t i = 1; settled < 100; ++i) {
            assert_true(i < REQUESTS);
            unsigned side = request(&bench, i, &stream);
            record(&bench, i, (side == slow ? BAD_NS : GOOD_NS) + (i % 50 ? 0 : 500000));
            if (bench.sides.trials) {
                assert_int_equal(side, !slow);
                ++settled;
            }
        }
        assert_int_equal(bench.sides.trials, 1);
        assert_true(bench.sides.pause > pause);
        close_bench(&bench);
    }
}

/* Requests run long after they were enqueued: the verdict waits for the records. */
static void test_late_records(void **state)
{
    (void)state;
    enum { AHEAD = 100 };
    unsigned sides[REQUESTS];
    struct bench bench;
    CUstream stream;
    open_bench(&bench);
    for (uint64_t i = 1; i < 1000; ++i) {
        sides[i] = request(&bench, i, &stream);
        if (i > AHEAD)
            record(&bench, i - AHEAD, sides[i - AHEAD] ? GOOD_NS : BAD_NS);
    }
    assert_true(bench.sides.trials > 0);
    assert_int_equal(bench.sides.home, 1);
    close_bench(&bench);
}

/* Less than a difference of sides; others in between; no records at all: one stays. */
static void test_no_answer(void **state)
{
    (void)state;
    for (unsigned what = 0; what < 3; ++what) {
        struct bench bench;
        CUstream stream;
        open_bench(&bench);
        for (uint64_t i = 1; i < REQUESTS; ++i) {
            unsigned side = request(&bench, what == 1 && i % 8 == 0 ? 0 : i, &stream);
            if (what != 2)
                record(&bench, i, side ? GOOD_NS : GOOD_NS + 300);
        }
        assert_int_equal(bench.sides.home, 0);
        assert_int_equal(bench.sides.trials > 0, what == 0);
        assert_true(bench.used[1] < REQUESTS / 8); /* and nobody is away for long */
        close_bench(&bench);
    }
}

/* Two groups take turns on the communicator, and one of them goes: what was its is not looked at any more. */
static void test_another_lane(void **state)
{
    (void)state;
    struct bench bench;
    CUstream stream;
    struct tcw_device_progress *gone = calloc(1, sizeof *gone);
    uint64_t step = 1;
    assert_non_null(gone);
    open_bench(&bench);
    for (; bench.sides.series < TCD_CUDA_SERIES; ++step) {
        assert_int_equal(tcd_cuda_sides_turn(&bench.sides, gone, &stream), CUDA_SUCCESS);
        tcd_cuda_sides_enqueued(&bench.sides, gone, step);
    }
    free(gone);
    for (uint64_t i = 1; i < REQUESTS && !bench.sides.trials; ++i)
        record(&bench, i, request(&bench, i, &stream) ? GOOD_NS : BAD_NS);
    assert_int_equal(bench.sides.home, 1);
    close_bench(&bench);
}

int main(void)
{
    if (!executor_cuda_is_there())
        return 77;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order),     cmocka_unit_test(test_choice),       cmocka_unit_test(test_late_records),
        cmocka_unit_test(test_no_answer), cmocka_unit_test(test_another_lane),
    };
    return cmocka_run_group_tests_name("executor: cuda sides", tests, NULL, NULL);
}
