/* The two streams of a communicator: which one is chosen, and that requests follow each other whatever is chosen. */
#include "executor_cuda_fixture.h"

#include "daemon/executor/cuda/sides.h"

enum { REQUESTS = 2000, PAGES = 8, SLOW_US = 300 };

struct bench {
    struct tck_device *device;
    struct tcd_cuda_sides sides;
    uint64_t bytes;
    uint64_t *words; /* [0]: the latest request; [i]: what request i found there */
    CUdeviceptr address;
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

/* Request `number`, from 1: notes which one was before it. Which side it took. */
static unsigned request(struct bench *bench, uint64_t number)
{
    const struct tck_cuda_driver *driver = tck_cuda_driver();
    CUstream stream;
    assert_int_equal(tcd_cuda_sides_turn(&bench->sides, &stream), CUDA_SUCCESS);
    assert_int_equal(driver->cuMemcpyAsync(bench->address + number * sizeof(uint64_t), bench->address, sizeof(uint64_t), stream),
                     CUDA_SUCCESS);
    assert_int_equal(driver->cuStreamWriteValue64(stream, bench->address, number, CU_STREAM_WRITE_VALUE_DEFAULT), CUDA_SUCCESS);
    assert_int_equal(tcd_cuda_sides_enqueued(&bench->sides), CUDA_SUCCESS);
    unsigned side = stream == bench->sides.streams[1];
    assert_ptr_equal(stream, bench->sides.streams[side]);
    ++bench->used[side];
    return side;
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
    struct bench bench;
    open_bench(&bench);
    for (uint64_t i = 1; i < REQUESTS; ++i) {
        request(&bench, i);
        if (i % 50 == 0)
            await(&bench);
    }
    await(&bench);
    for (uint64_t i = 1; i < REQUESTS; ++i)
        assert_int_equal(bench.words[i], i - 1);
    assert_true(bench.sides.trials > 0);
    assert_true(bench.used[0] > 0 && bench.used[1] > 0);
    close_bench(&bench);
}

/* One side is slower: after a trial all requests are on the other one, and trials become rare. */
static void test_choice(void **state)
{
    (void)state;
    for (unsigned slow = 0; slow < TCD_CUDA_SIDES; ++slow) {
        struct bench bench;
        unsigned settled = 0;
        open_bench(&bench);
        const uint64_t pause = bench.sides.pause;
        for (uint64_t i = 1; settled < 100; ++i) {
            assert_true(i < REQUESTS);
            unsigned side = request(&bench, i);
            await(&bench);
            if (side == slow && !bench.sides.rest)
                usleep(SLOW_US);
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

static void test_verdict(void **state)
{
    (void)state;
    static const struct {
        float ms[TCD_CUDA_SERIES];
        unsigned home, wanted;
    } cases[] = {
        {{.320f, .210f, .320f, .210f, .320f, .210f}, 0, 1}, /* clear */
        {{.320f, .210f, .320f, .210f, .320f, .210f}, 1, 0}, {{.210f, .320f, .210f, .320f, .210f, .320f}, 0, 0},
        {{.210f, .200f, .210f, .200f, .210f, .200f}, 0, 0}, /* less than a difference of sides */
        {{.320f, 9.00f, .330f, .210f, 7.00f, 9.00f}, 0, 1}, /* the client paused in most of them */
        {{.210f, .320f, 9.00f, .320f, 9.00f, .320f}, 1, 1},
    };
    for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; ++i)
        assert_int_equal(tcd_cuda_sides_choose(cases[i].ms, cases[i].home), cases[i].wanted);
}

int main(void)
{
    if (!executor_cuda_is_there())
        return 77;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_choice),
        cmocka_unit_test(test_verdict),
    };
    return cmocka_run_group_tests_name("executor: cuda sides", tests, NULL, NULL);
}
