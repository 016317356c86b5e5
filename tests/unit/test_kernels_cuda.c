/*
 * The CUDA device layer. What needs no GPU is tested everywhere. The rest runs where a device can be opened: on a GPU, or with the fake
 * driver of tests/fake_cuda in the library path; elsewhere it is skipped, and what is tested is that opening is refused in clear words.
 */
#include "cmocka_all.h"

#include <tck/device.h>
#include <tck/memory.h>
#include <tcw/types.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef TRTCOLL_CUDA
#include "kernels/cuda/image.h"
#include "plan_fixture.h"

#include <tck/comm.h>
#include <tck/cuda_comm.h>
#include <tck/cuda_driver.h>

#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#endif

static struct tck_device *device; /* NULL: none can be opened */
static int open_code;
static char why[256];

static int open_device(void **state)
{
    (void)state;
    open_code = tck_device_open(NULL, 0, &device, why, sizeof(why));
    return 0;
}

static int close_device(void **state)
{
    (void)state;
    tck_device_close(device);
    tck_device_close(NULL); /* allowed */
    return 0;
}

static void test_built(void **state)
{
    (void)state;
#ifdef TRTCOLL_CUDA
    assert_true(tck_cuda_built());
#else
    assert_false(tck_cuda_built());
#endif
    assert_int_equal(tck_device_kind_of(NULL), TCK_DEVICE_HOST);
}

static void test_refusal_says_why(void **state)
{
    (void)state;
    if (device) {
        assert_int_equal(open_code, 0);
        return;
    }
    assert_true(open_code == TCW_ENOTSUP || open_code == TCW_EDEVICE);
    assert_true(strlen(why) > 10);
    /* Nothing was half done: it is refused again, for the same reason. */
    char again[sizeof(why)];
    struct tck_device *none = NULL;
    assert_int_equal(tck_device_open(NULL, 0, &none, again, sizeof(again)), open_code);
    assert_string_equal(again, why);
    assert_null(none);
    if (!tck_cuda_built())
        assert_string_equal(why, "CUDA devices are not built in");
}

#ifdef TRTCOLL_CUDA

/* Tests below need a device. TRTCOLL_TEST_GPU: there is one, so not to find it is a failure. */
static void need_device(void)
{
    if (!device && getenv("TRTCOLL_TEST_GPU"))
        fail_msg("%s", why);
    if (!device)
        skip();
}

/* Without a driver loaded, too. */
static void test_codes_and_texts(void **state)
{
    (void)state;
    char text[128];
    assert_int_equal(tck_cuda_code(CUDA_SUCCESS), 0);
    assert_int_equal(tck_cuda_code(CUDA_ERROR_OUT_OF_MEMORY), TCW_ENOMEM);
    assert_int_equal(tck_cuda_code(CUDA_ERROR_NOT_READY), TCW_EAGAIN);
    assert_int_equal(tck_cuda_code(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED), TCW_ECAPTURE);
    assert_int_equal(tck_cuda_code(CUDA_ERROR_NOT_SUPPORTED), TCW_ENOTSUP);
    assert_int_equal(tck_cuda_code(CUDA_ERROR_ILLEGAL_ADDRESS), TCW_EDEVICE);
    assert_ptr_equal(tck_cuda_text(CUDA_ERROR_NOT_PERMITTED, text, sizeof(text)), text);
    assert_string_equal(text, device ? "CUDA_ERROR_NOT_PERMITTED: operation not permitted" : "CUDA error 800");
}

static void test_images(void **state)
{
    (void)state;
    static const unsigned char magic[] = {0x50, 0xed, 0x55, 0xba};
    size_t i;
    for (i = 0; tck_cuda_images[i].name; i++) {
        const struct tck_cuda_image *image = &tck_cuda_images[i];
        assert_true(image->end > image->data + 64);
        assert_int_equal((uintptr_t)image->data % 64, 0);
        assert_memory_equal(image->data, magic, sizeof(magic));
        for (size_t k = 0; k < i; k++)
            assert_string_not_equal(image->name, tck_cuda_images[k].name);
    }
    assert_null(tck_cuda_images[i].data);
}

static void test_facts(void **state)
{
    (void)state;
    need_device();
    const struct tck_device_facts *facts = tck_device_facts(device);
    assert_int_equal(tck_device_kind_of(device), TCK_DEVICE_CUDA);
    assert_int_equal(facts->ordinal, 0);
    assert_true(facts->name[0] && facts->pci[0]);
    assert_true(facts->compute >= 70 && facts->multiprocessors && facts->memory_bytes && facts->driver >= 12080);
    assert_true(facts->fd_export && facts->stream_words);
    assert_true(facts->fabric || facts->fabric_why[0]);
}

/* All the others that the process sees, each once, never itself. */
static void test_peers(void **state)
{
    struct tck_device_peer peers[32];
    unsigned count, least;
    int visible = 0;

    (void)state;
    need_device();
    assert_int_equal(tck_cuda_driver()->cuDeviceGetCount(&visible), CUDA_SUCCESS);
    count = tck_device_peers(device, peers, 32);
    assert_int_equal(count, visible - 1);
    for (unsigned i = 0; i < count; i++) {
        assert_memory_not_equal(peers[i].uuid, tck_device_facts(device)->uuid, TCK_UUID_BYTES);
        for (unsigned j = 0; j < i; j++)
            assert_memory_not_equal(peers[i].uuid, peers[j].uuid, TCK_UUID_BYTES);
    }
    least = count < 1 ? count : 1;
    assert_int_equal(tck_device_peers(device, peers, least), least);
}

static void test_open_by_uuid(void **state)
{
    (void)state;
    need_device();
    struct tck_device *same = NULL;
    unsigned char uuid[TCK_UUID_BYTES];
    memcpy(uuid, tck_device_facts(device)->uuid, sizeof(uuid));
    assert_int_equal(tck_device_open(uuid, -1, &same, why, sizeof(why)), 0);
    assert_int_equal(tck_device_facts(same)->ordinal, 0);
    assert_ptr_equal(tck_cuda_context(same), tck_cuda_context(device)); /* the primary one, there is only one */
    tck_device_close(same);

    memset(uuid, 0xab, sizeof(uuid));
    assert_int_equal(tck_device_open(uuid, 0, &same, why, sizeof(why)), TCW_ENOTSUP);
    assert_non_null(strstr(why, "GPU-abababab-abab-abab-abab-abababababab"));
    assert_non_null(strstr(why, "CUDA_VISIBLE_DEVICES"));
    assert_int_equal(tck_device_open(NULL, 1000, &same, why, sizeof(why)), TCW_ENOTSUP);
    assert_non_null(strstr(why, "1000"));
    assert_int_equal(tck_device_open(NULL, -1, &same, why, sizeof(why)), TCW_ENOTSUP);
}

static CUcontext current_context(void)
{
    CUcontext context = NULL;
    assert_int_equal(tck_cuda_driver()->cuCtxGetCurrent(&context), CUDA_SUCCESS);
    return context;
}

static void test_enter_and_leave(void **state)
{
    (void)state;
    need_device();
    assert_null(current_context());
    assert_int_equal(tck_cuda_enter(device), 0);
    assert_ptr_equal(current_context(), tck_cuda_context(device));
    assert_int_equal(tck_cuda_enter(device), 0);
    tck_cuda_leave(device);
    assert_ptr_equal(current_context(), tck_cuda_context(device));
    tck_cuda_leave(device);
    assert_null(current_context());

    /* What the application has made current stays. */
    CUcontext popped;
    assert_int_equal(tck_cuda_driver()->cuCtxPushCurrent(tck_cuda_context(device)), CUDA_SUCCESS);
    assert_int_equal(tck_cuda_enter(device), 0);
    tck_cuda_leave(device);
    assert_ptr_equal(current_context(), tck_cuda_context(device));
    assert_int_equal(tck_cuda_driver()->cuCtxPopCurrent(&popped), CUDA_SUCCESS);
}

static unsigned char read_byte(const struct tck_memory *memory, uint64_t offset)
{
    unsigned char value = 0xff;
    assert_int_equal(tck_cuda_enter(device), 0);
    assert_int_equal(tck_cuda_driver()->cuMemcpyDtoH(&value, (CUdeviceptr)(uintptr_t)memory->base + offset, 1), CUDA_SUCCESS);
    tck_cuda_leave(device);
    return value;
}

static void write_byte(const struct tck_memory *memory, uint64_t offset, unsigned char value)
{
    assert_int_equal(tck_cuda_enter(device), 0);
    assert_int_equal(tck_cuda_driver()->cuMemcpyHtoD((CUdeviceptr)(uintptr_t)memory->base + offset, &value, 1), CUDA_SUCCESS);
    tck_cuda_leave(device);
}

static void test_memory(void **state)
{
    (void)state;
    need_device();
    struct tck_memory mine, theirs;
    assert_int_equal(tck_memory_create(device, "memory", 5000, &mine), 0);
    assert_true(mine.bytes >= 5000 && mine.bytes % 65536 == 0);
    assert_true(fcntl(mine.fd, F_GETFD) & FD_CLOEXEC);
    assert_int_equal(read_byte(&mine, 0), 0);
    assert_int_equal(read_byte(&mine, mine.bytes - 1), 0);
    int fd = fcntl(mine.fd, F_DUPFD_CLOEXEC, 0);
    assert_int_equal(tck_memory_import(device, fd, 5000, &theirs), 0);
    assert_int_equal(theirs.bytes, mine.bytes);
    assert_ptr_not_equal(theirs.base, mine.base);
    write_byte(&mine, 4999, 42);
    assert_int_equal(read_byte(&theirs, 4999), 42);
    tck_memory_release(&mine);
    tck_memory_release(&mine); /* harmless */
    assert_int_equal(read_byte(&theirs, 4999), 42);
    tck_memory_release(&theirs);
    assert_int_equal(fcntl(fd, F_GETFD), -1); /* was taken over */
    assert_null(current_context());
}

/* What an executor of one GPU made is written by another GPU: the way in which all workspaces are used. */
static void test_memory_of_another_gpu(void **state)
{
    (void)state;
    need_device();
    struct tck_device *other = NULL;
    struct tck_memory mine, theirs;
    if (tck_device_open(NULL, 1, &other, why, sizeof(why)))
        skip();
    assert_int_equal(tck_memory_create(device, "memory", 4096, &mine), 0);
    int fd = fcntl(mine.fd, F_DUPFD_CLOEXEC, 0);
    assert_int_equal(tck_memory_import(other, fd, mine.bytes, &theirs), 0);
    assert_int_equal(tck_cuda_enter(other), 0);
    assert_int_equal(tck_cuda_driver()->cuMemsetD8((CUdeviceptr)(uintptr_t)theirs.base, 42, 4096), CUDA_SUCCESS);
    assert_int_equal(tck_cuda_driver()->cuCtxSynchronize(), CUDA_SUCCESS);
    tck_cuda_leave(other);
    assert_int_equal(read_byte(&mine, 4095), 42);
    tck_memory_release(&theirs);
    tck_memory_release(&mine);
    tck_device_close(other);
}

static void test_memory_refusals(void **state)
{
    (void)state;
    need_device();
    struct tck_memory mine, memory = {.fd = -1};
    assert_int_equal(tck_memory_create(device, "memory", 0, &memory), TCW_EINVAL);
    assert_int_equal(tck_memory_create(device, "memory", UINT64_MAX, &memory), TCW_EINVAL);
    assert_int_equal(tck_memory_create(device, "memory", UINT64_C(1) << 50, &memory), TCW_ENOMEM);

    /* The announced size is a lie: nothing is mapped, and the descriptor stays the caller's. */
    assert_int_equal(tck_memory_create(device, "memory", 1, &mine), 0);
    assert_int_equal(tck_memory_import(device, mine.fd, mine.bytes + 1, &memory), TCW_EINVAL);
    assert_int_equal(tck_memory_import(device, mine.fd, 64 * mine.bytes, &memory), TCW_EINVAL);
    assert_int_equal(tck_memory_import(device, mine.fd, 0, &memory), TCW_EINVAL);
    assert_true(fcntl(mine.fd, F_GETFD) >= 0);
    tck_memory_release(&mine);

    int null = open("/dev/null", O_RDWR | O_CLOEXEC), pipes[2];
    assert_int_equal(pipe(pipes), 0);
    assert_true(tck_memory_import(device, null, 4096, &memory) < 0);
    assert_true(tck_memory_import(device, pipes[0], 4096, &memory) < 0);
    assert_int_equal(tck_memory_import(device, -1, 4096, &memory), TCW_EINVAL);
    close(null);
    close(pipes[0]);
    close(pipes[1]);
    assert_null(memory.base);
    assert_null(current_context());
}

static void test_host_registration(void **state)
{
    (void)state;
    need_device();
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    unsigned char *base = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(base, MAP_FAILED);
    CUdeviceptr address = 0, again;
    assert_int_equal(tck_cuda_register_host(device, base + 1, page, &address), TCW_EINVAL);
    assert_int_equal(tck_cuda_register_host(device, base, page + 1, &address), TCW_EINVAL);
    assert_int_equal(tck_cuda_register_host(device, base, 0, &address), TCW_EINVAL);
    assert_int_equal(tck_cuda_register_host(device, base, 2 * page, &address), 0);
    assert_true(address != 0);
    assert_int_equal(tck_cuda_register_host(device, base, 2 * page, &again), TCW_EBUSY);

    /* The device reaches the very same bytes. */
    base[page] = 42;
    struct tck_memory view = {.base = (void *)(uintptr_t)address};
    assert_int_equal(read_byte(&view, page), 42);
    tck_cuda_unregister_host(device, base);
    assert_int_equal(tck_cuda_register_host(device, base, page, &again), 0);
    tck_cuda_unregister_host(device, base);
    munmap(base, 2 * page);
}

static void test_unknown_kernel(void **state)
{
    (void)state;
    need_device();
    if (!strncmp(tck_device_facts(device)->name, "Fake GPU", 8))
        skip(); /* does not look into images, so it has every kernel */
    struct tck_cuda_kernel kernel;
    assert_int_equal(tck_cuda_kernel(device, "tck_no_such_kernel", &kernel), TCW_ENOTSUP);
    assert_int_equal(tck_cuda_kernel(device, "tck_no_such_kernel", &kernel), TCW_ENOTSUP);
}

/* Words of either width, the second only where there is one, behind what the stream did before. */
static void test_tell(void **state)
{
    static const struct {
        bool narrow, second;
        uint64_t first_value, words[2];
    } cases[] = {{false, true, UINT64_C(0x1122334455667788), {UINT64_C(0x1122334455667788), 7}},
                 {true, true, UINT64_C(0x1122334455667788), {UINT64_C(0xffffffff55667788), 7}},
                 {false, false, 5, {5, UINT64_MAX}}};
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    CUdeviceptr address = 0;
    CUstream stream = NULL;

    (void)state;
    need_device();
    uint64_t *words = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(words, MAP_FAILED);
    assert_int_equal(tck_cuda_register_host(device, words, page, &address), 0);
    assert_int_equal(tck_cuda_enter(device), 0);
    assert_int_equal(tck_cuda_driver()->cuStreamCreateWithPriority(&stream, CU_STREAM_NON_BLOCKING, 0), CUDA_SUCCESS);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const struct tck_cuda_end end = {.first = address,
                                         .first_value = cases[i].first_value,
                                         .first_is_narrow = cases[i].narrow,
                                         .second = cases[i].second ? address + sizeof(words[0]) : 0,
                                         .second_value = 7};
        assert_int_equal(tck_cuda_driver()->cuMemsetD8Async(address, 0xff, 2 * sizeof(words[0]), stream), CUDA_SUCCESS);
        assert_int_equal(tck_cuda_tell_launch(device, &end, stream), 0);
        assert_int_equal(tck_cuda_driver()->cuStreamSynchronize(stream), CUDA_SUCCESS);
        assert_memory_equal(words, cases[i].words, sizeof(cases[i].words));
    }
    assert_int_equal(tck_cuda_driver()->cuStreamDestroy(stream), CUDA_SUCCESS);
    tck_cuda_leave(device);
    tck_cuda_unregister_host(device, words);
    munmap(words, page);
}

/* Another thread captures in the mode that forbids everything to everybody: the device layer goes on, and the capture stays good. */
static void test_setup_beside_a_capture(void **state)
{
    (void)state;
    need_device();
    const struct tck_cuda_driver *driver = tck_cuda_driver();
    CUstream stream;
    CUgraph graph = NULL;
    struct tck_memory memory, import;
    assert_int_equal(tck_cuda_enter(device), 0);
    assert_int_equal(driver->cuStreamCreateWithPriority(&stream, CU_STREAM_NON_BLOCKING, 0), CUDA_SUCCESS);
    assert_int_equal(driver->cuStreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_GLOBAL), CUDA_SUCCESS);
    assert_int_equal(tck_memory_create(device, "memory", 1, &memory), 0);
    int fd = fcntl(memory.fd, F_DUPFD_CLOEXEC, 0);
    assert_int_equal(tck_memory_import(device, fd, 1, &import), 0);
    tck_memory_release(&import);
    tck_memory_release(&memory);
    assert_int_equal(driver->cuStreamEndCapture(stream, &graph), CUDA_SUCCESS);
    assert_non_null(graph);
    driver->cuGraphDestroy(graph);
    driver->cuStreamDestroy(stream);
    tck_cuda_leave(device);
}

static void *open_and_close(void *arg)
{
    struct tck_device *mine = NULL;
    char text[256];
    (void)arg;
    for (int i = 0; i < 20; i++) {
        if (tck_device_open(NULL, 0, &mine, text, sizeof(text)))
            return text[0] ? (void *)1 : (void *)2;
        tck_device_close(mine);
    }
    return NULL;
}

static unsigned launched_cluster, launched_threads;

/* In place of the driver's: nothing is launched. */
static CUresult CUDAAPI see_launch(const CUlaunchConfig *config, CUfunction function, void **parameters, void **extra)
{
    (void)function;
    (void)parameters;
    (void)extra;
    launched_threads = config->blockDimX;
    launched_cluster = 1;
    for (unsigned i = 0; i < config->numAttrs; i++)
        if (config->attrs[i].id == CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION)
            launched_cluster = config->attrs[i].value.clusterDim.x;
    return CUDA_SUCCESS;
}

/* Ranks whose executors have different parts of their GPUs add a row's squares in the same order behind NCCL, too. */
static void test_epilogue_as_agreed(void **state)
{
    static const struct {
        uint32_t multiprocessors, compute, cluster;
    } agreed[] = {{132, 90, 8}, {63, 90, 4}, {14, 90, 1}, {132, 0, 1}};
    const struct tcw_plan_desc desc = plan_all_reduce(TCW_BF16, TCW_FUSION_RESIDUAL_RMS_NORM, 4, 8192);
    const void *in = &launched_cluster;
    void *buffer = (void *)(uintptr_t)4096, *out = buffer;
    (void)state;
    need_device();
    /* The table is the only one, and this process has one thread. */
    struct tck_cuda_driver *driver = (struct tck_cuda_driver *)(uintptr_t)tck_cuda_driver(), real = *driver;
    driver->cuLaunchKernelEx = see_launch;
    for (size_t i = 0; i < sizeof(agreed) / sizeof(agreed[0]); i++) {
        struct tck_run run = {.desc = &desc, .plan_id = 1, .tokens = 4, .in = &in, .out = &out};
        run.multiprocessors = agreed[i].multiprocessors;
        run.compute = agreed[i].compute;
        run.residual_in = run.norm_weight = buffer;
        run.residual_out = buffer;
        assert_int_equal(tck_cuda_epilogue_launch(device, &run, buffer, NULL), 0);
        assert_int_equal(launched_cluster, agreed[i].cluster);
        assert_true(launched_threads > 0);
    }
    *driver = real;
}

static void test_threads(void **state)
{
    (void)state;
    need_device();
    pthread_t threads[4];
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, open_and_close, NULL), 0);
    for (size_t i = 0; i < 4; i++) {
        void *result;
        pthread_join(threads[i], &result);
        assert_null(result);
    }
}

static void test_after_a_fork(void **state)
{
    (void)state;
    need_device();
    pid_t child = fork();
    assert_true(child >= 0);
    if (!child) {
        struct tck_device *none = NULL;
        int code = tck_device_open(NULL, 0, &none, why, sizeof(why));
        _exit(code == TCW_EDEVICE && strstr(why, "forked") ? 42 : 1);
    }
    int how;
    assert_int_equal(waitpid(child, &how, 0), child);
    assert_true(WIFEXITED(how));
    assert_int_equal(WEXITSTATUS(how), 42);
}

#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_built),
        cmocka_unit_test(test_refusal_says_why),
#ifdef TRTCOLL_CUDA
        cmocka_unit_test(test_codes_and_texts),
        cmocka_unit_test(test_images),
        cmocka_unit_test(test_facts),
        cmocka_unit_test(test_peers),
        cmocka_unit_test(test_open_by_uuid),
        cmocka_unit_test(test_enter_and_leave),
        cmocka_unit_test(test_memory),
        cmocka_unit_test(test_memory_of_another_gpu),
        cmocka_unit_test(test_memory_refusals),
        cmocka_unit_test(test_host_registration),
        cmocka_unit_test(test_unknown_kernel),
        cmocka_unit_test(test_tell),
        cmocka_unit_test(test_setup_beside_a_capture),
        cmocka_unit_test(test_epilogue_as_agreed),
        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_after_a_fork),
#endif
    };
    return cmocka_run_group_tests(tests, open_device, close_device);
}
