/* Shareable memory, what plans need of it, and ranks that are processes of their own. */
#include "kernels_fixture.h"
#include "plan_fixture.h"

#include "kernels/host/layout.h"

#include <tcw/channel.h>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static void test_create_and_import(void **state)
{
    (void)state;
    struct tck_memory mine, theirs;
    assert_int_equal(tck_memory_create(NULL, "memory", 5000, &mine), 0);
    assert_true(mine.bytes >= 5000 && mine.bytes % 4096 == 0);
    assert_true(fcntl(mine.fd, F_GETFD) & FD_CLOEXEC);
    for (uint64_t i = 0; i < mine.bytes; i++)
        assert_int_equal(((uint8_t *)mine.base)[i], 0);
    assert_int_equal(ftruncate(mine.fd, 0), -1); /* sealed */
    int fd = fcntl(mine.fd, F_DUPFD_CLOEXEC, 0);
    assert_int_equal(tck_memory_import(NULL, fd, 5000, &theirs), 0);
    ((uint8_t *)mine.base)[4999] = 42;
    assert_int_equal(((uint8_t *)theirs.base)[4999], 42);
    tck_memory_release(&mine);
    assert_null(mine.base);
    assert_int_equal(mine.fd, -1);
    tck_memory_release(&mine); /* harmless */
    assert_int_equal(((uint8_t *)theirs.base)[4999], 42);
    tck_memory_release(&theirs);
    assert_int_equal(fcntl(fd, F_GETFD), -1); /* was taken over */
}

/* Memory of a client need not end with a page. */
static void test_import_of_part_of_a_page(void **state)
{
    (void)state;
    struct tck_memory memory;
    int fd = tcw_memfd_create("odd", 5000, 0);
    assert_true(fd >= 0);
    assert_int_equal(tck_memory_import(NULL, fd, 5001, &memory), TCW_EINVAL);
    assert_int_equal(tck_memory_import(NULL, fd, 5000, &memory), 0);
    ((uint8_t *)memory.base)[4999] = 42;
    tck_memory_release(&memory);
}

static void test_refusals(void **state)
{
    (void)state;
    struct tck_memory memory = {.fd = -1};
    assert_int_equal(tck_memory_create(NULL, "memory", 0, &memory), TCW_EINVAL);
    assert_int_equal(tck_memory_create(NULL, "memory", UINT64_MAX, &memory), TCW_EINVAL);
    int unsealed = memfd_create("unsealed", MFD_CLOEXEC), null = open("/dev/null", O_RDWR | O_CLOEXEC);
    assert_int_equal(ftruncate(unsealed, 8192), 0);
    assert_int_equal(tck_memory_import(NULL, unsealed, 8192, &memory), TCW_EINVAL);
    assert_int_equal(tck_memory_import(NULL, null, 8192, &memory), TCW_EINVAL);
    assert_true(fcntl(unsealed, F_GETFD) >= 0); /* refused: still the caller's */
    close(unsealed);
    close(null);
    struct tck_memory small;
    assert_int_equal(tck_memory_create(NULL, "memory", 4096, &small), 0);
    assert_int_equal(tck_memory_import(NULL, small.fd, 8192, &memory), TCW_EINVAL);
    tck_memory_release(&small);
    assert_int_equal(memory.fd, -1);
}

static void test_comm_refusals(void **state)
{
    (void)state;
    struct tck_memory memory;
    struct tck_comm *comm = NULL;
    assert_int_equal(tck_memory_create(NULL, "memory", 1 << 20, &memory), 0);
    void *workspaces[17] = {memory.base, memory.base};
    struct tck_comm_params good = {.rank = 1, .nranks = 2, .workspaces = workspaces, .workspace_bytes = 1 << 20}, params;
#define REFUSED(field, value, expected)                                                                                                    \
    do {                                                                                                                                   \
        params = good;                                                                                                                     \
        params.field = (value);                                                                                                            \
        assert_int_equal(tck_comm_create(&params, &comm), (expected));                                                                     \
    } while (0)
    REFUSED(nranks, 0, TCW_EINVAL);
    REFUSED(nranks, 17, TCW_EINVAL);
    REFUSED(rank, 2, TCW_EINVAL);
    REFUSED(workspace_bytes, 4096, TCW_EINVAL);
    REFUSED(nranks, 3, TCW_EINVAL); /* workspaces[2] is NULL */
    assert_null(comm);
    assert_int_equal(tck_comm_create(&good, &comm), 0); /* NULL abort and deadline words are allowed */
    tck_comm_destroy(comm);
    tck_comm_destroy(NULL);
    tck_memory_release(&memory);
}

static uint64_t wanted(const struct tcw_plan_desc *desc, uint32_t nranks)
{
    struct tcw_complaint complaint = {0};
    uint64_t bytes = 0;
    if (tck_plan_workspace(TCK_DEVICE_HOST, desc, nranks, &bytes, &complaint))
        fail_msg("%s", complaint.text);
    assert_int_equal(bytes % (8 << 20), 0);
    return bytes;
}

static void test_workspace_sizes(void **state)
{
    (void)state;
    struct tcw_plan_desc desc = plan_all_reduce(TCW_BF16, TCW_FUSION_NONE, 1 << 20, 8192);
    assert_int_equal(wanted(&desc, 16), 8 << 20); /* longer messages take more steps, not more memory */
    desc = plan_all_reduce(TCW_BF16, TCW_FUSION_RESIDUAL_RMS_NORM, 1 << 20, 8192);
    assert_int_equal(wanted(&desc, 16), 8 << 20);
    uint64_t last = 8 << 20;
    for (uint64_t hidden = 1 << 16; hidden <= 1 << 24; hidden *= 2) { /* two rows must fit a buffer */
        desc = plan_all_reduce(TCW_FP32, TCW_FUSION_RESIDUAL_RMS_NORM, 10, hidden);
        uint64_t bytes = wanted(&desc, 3);
        assert_true(bytes >= last && tck_layout_capacity(bytes) >= 2 * hidden * 4);
        assert_true(bytes == 8 << 20 || tck_layout_capacity(bytes - (8 << 20)) < 2 * hidden * 4);
        last = bytes;
    }
    assert_true(last > 8 << 20);
    desc = plan_all_reduce(TCW_BF16, TCW_FUSION_RESIDUAL_RMS_NORM, 1, UINT64_C(1) << 40);
    assert_true(wanted(&desc, 2) > UINT64_C(1) << 42);
}

static void refused(const struct tcw_plan_desc *desc, uint32_t nranks, const char *field, uint64_t value, const char *mentions)
{
    struct tcw_complaint complaint = {0};
    uint64_t bytes = 7;
    assert_int_equal(tck_plan_workspace(TCK_DEVICE_HOST, desc, nranks, &bytes, &complaint), TCW_ENOTSUP);
    assert_string_equal(complaint.field, field);
    assert_int_equal(complaint.mine, value);
    if (!strstr(complaint.text, mentions))
        fail_msg("\"%s\" does not mention %s", complaint.text, mentions);
    assert_int_equal(bytes, 7);
}

static void test_what_is_available(void **state)
{
    (void)state;
    static const unsigned absent[] = {TCW_STRATEGY_UB, TCW_STRATEGY_LOWPRECISION, TCW_STRATEGY_NCCL_SYMMETRIC, TCW_STRATEGY_SYMM_MEM};
    struct tcw_plan_desc desc = plan_all_reduce(TCW_BF16, TCW_FUSION_RESIDUAL_RMS_NORM_QUANT_NVFP4, 4, 64);
    for (unsigned i = 0; i < sizeof(absent) / sizeof(absent[0]); i++) {
        desc.strategy = (uint16_t)absent[i];
        refused(&desc, 4, "strategy", absent[i], "TWOSHOT");
        refused(&desc, 4, "strategy", absent[i], tcw_strategy_name(absent[i]));
    }
    desc.strategy = TCW_STRATEGY_AUTO;
    assert_int_equal(wanted(&desc, 16), 8 << 20);
    refused(&desc, 17, "nranks", 17, "16");
    desc.dtype = TCW_FP32;
    refused(&desc, 4, "dtype", TCW_FP32, "NVFP4");
    desc = plan_all_reduce(TCW_INT8, TCW_FUSION_RESIDUAL_RMS_NORM, 4, 64);
    refused(&desc, 4, "dtype", TCW_INT8, "fp16");
    desc = plan_all_reduce(TCW_BOOL, TCW_FUSION_NONE, 4, 64);
    refused(&desc, 4, "dtype", TCW_BOOL, "never reduced");
    desc = plan_of(TCW_OP_REDUCE_SCATTER);
    plan_add_tensor(&desc, TCW_FP8_E4M3, 1, 1, 1);
    refused(&desc, 4, "dtype", TCW_FP8_E4M3, "fp8");
    desc.op = TCW_OP_ALL_GATHER;
    assert_int_equal(wanted(&desc, 4), 8 << 20);
}

/* ---- ranks as processes ---- */

enum { PROCESSES = 4, COUNT = 50000, ROUNDS = 30 };

/* One rank: imports everybody's memory by descriptor, as a client does, and checks sums until done. Returns an exit status. */
static int be_rank(uint32_t rank, const int *fds, uint64_t bytes, uint32_t rounds)
{
    static const unsigned strategies[] = {TCW_STRATEGY_ONESHOT, TCW_STRATEGY_TWOSHOT, TCW_STRATEGY_NCCL};
    static const uint64_t counts[] = {1, 8, 33, 2000, COUNT};
    static float in[COUNT], out[COUNT];
    static const _Atomic uint64_t no_abort, deadline = 400000000;
    struct tck_memory memory[PROCESSES];
    void *workspaces[PROCESSES];
    struct tck_comm *comm;
    struct tck_fault fault;
    const void *ins[1] = {in};
    void *outs[1] = {out};
    for (uint32_t i = 0; i < PROCESSES; i++) {
        if (tck_memory_import(NULL, fcntl(fds[i], F_DUPFD_CLOEXEC, 0), bytes, &memory[i]))
            return 10;
        workspaces[i] = memory[i].base;
    }
    struct tck_comm_params params = {.rank = rank,
                                     .nranks = PROCESSES,
                                     .workspaces = workspaces,
                                     .workspace_bytes = bytes,
                                     .abort_word = &no_abort,
                                     .deadline_ns = &deadline,
                                     .spin_us = 20};
    if (tck_comm_create(&params, &comm))
        return 11;
    for (uint32_t k = 0; k < rounds; k++) {
        struct tcw_plan_desc desc = plan_all_reduce(TCW_FP32, TCW_FUSION_NONE, 1, counts[k % 5]);
        struct tck_run run = {.desc = &desc, .plan_id = 3, .strategy = strategies[k % 3], .tokens = 1, .in = ins, .out = outs};
        for (uint64_t i = 0; i < desc.hidden; i++)
            in[i] = (float)(rank + k + i);
        int code = tck_comm_run(comm, &run, &fault);
        if (code)
            return code == TCW_ETIMEOUT ? 100 + (int)fault.rank * 10 + (int)(fault.step % 10) : 12;
        for (uint64_t i = 0; i < desc.hidden; i++)
            if (out[i] != (float)(PROCESSES * (k + i) + PROCESSES * (PROCESSES - 1) / 2))
                return 13;
    }
    tck_comm_destroy(comm);
    for (uint32_t i = 0; i < PROCESSES; i++)
        tck_memory_release(&memory[i]);
    return 0;
}

/* Runs every rank in a process; `quitter` (or nobody, -1) leaves after ten rounds. Returns their exit statuses. */
static void run_processes(int quitter, int status[PROCESSES])
{
    struct tck_memory memory[PROCESSES];
    int fds[PROCESSES];
    pid_t pids[PROCESSES];
    for (uint32_t i = 0; i < PROCESSES; i++) {
        assert_int_equal(tck_memory_create(NULL, "workspace", 1 << 20, &memory[i]), 0);
        fds[i] = memory[i].fd;
    }
    for (uint32_t i = 0; i < PROCESSES; i++) {
        pids[i] = fork();
        assert_true(pids[i] >= 0);
        if (!pids[i])
            _exit(be_rank(i, fds, memory[i].bytes, (int)i == quitter ? 10 : ROUNDS));
    }
    for (uint32_t i = 0; i < PROCESSES; i++) {
        int how;
        assert_int_equal(waitpid(pids[i], &how, 0), pids[i]);
        status[i] = WIFEXITED(how) ? WEXITSTATUS(how) : -WTERMSIG(how);
        tck_memory_release(&memory[i]);
    }
}

static void test_processes(void **state)
{
    (void)state;
    int status[PROCESSES];
    run_processes(-1, status);
    for (uint32_t i = 0; i < PROCESSES; i++)
        assert_int_equal(status[i], 0);
}

static void test_process_leaves(void **state)
{
    (void)state;
    int status[PROCESSES];
    run_processes(2, status);
    for (uint32_t i = 0; i < PROCESSES; i++)
        assert_int_equal(status[i], i == 2 ? 0 : 100 + 2 * 10 + 10 % 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_create_and_import), cmocka_unit_test(test_import_of_part_of_a_page), cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_comm_refusals),     cmocka_unit_test(test_workspace_sizes),          cmocka_unit_test(test_what_is_available),
        cmocka_unit_test(test_processes),         cmocka_unit_test(test_process_leaves),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
