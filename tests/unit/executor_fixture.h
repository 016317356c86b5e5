/*
 * Real executor processes without a control process: the test program starts itself as the executors (executor_fixture_main), speaks to
 * them through daemon/control/executor.c on a loop of its own, and plays both the control process and the clients. Owner: the test.
 */
#ifndef TESTS_EXECUTOR_FIXTURE_H
#define TESTS_EXECUTOR_FIXTURE_H

#include "cmocka_all.h"
#include "plan_fixture.h"

#include "daemon/control/executor.h"
#include "daemon/executor/main.h"

#include <tck/comm.h>
#include <tcw/channel.h>
#include <tcw/member.h>
#include <tcw/ring.h>

#include <dirent.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { WORLD_MAX = 4, RING_ENTRIES = 64, CLIENT_BYTES = 1 << 20, PATIENCE_MS = 60000 };

struct world_report {
    struct tcd_ex_message message;
    unsigned device;
};

/* One rank: its executor's side as the control process holds it, and its client's side. */
struct world_rank {
    struct tcd_executor *executor;
    uint64_t attachment;
    uint64_t client;
    int workspace;
    int page_fd, ring_fd, sq_event, cq_event;
    struct tcw_member_page *page;
    void *ring_base;
    struct tcw_ring ring;
    uint32_t sequence;
    uint64_t memory; /* handle */
    int memory_fd;
    unsigned char *bytes;
};

struct world {
    uv_loop_t loop;
    unsigned nranks;
    struct world_rank ranks[WORLD_MAX];
    unsigned closed;
    /* seen */
    unsigned report_count;
    struct world_report reports[16];
    unsigned deaths;
    int death_status;
    uint64_t workspace_bytes;
    uint64_t deadline_ns;
    char mark[64]; /* exists if an executor ended badly */
};

struct world_answer {
    bool done;
    unsigned count; /* calls: must become one */
    struct tcd_ex_message message;
    int fd;
};

#if defined(__SANITIZE_ADDRESS__)
int __lsan_do_recoverable_leak_check(void);
#define WORLD_LEAKS() __lsan_do_recoverable_leak_check()
#else
#define WORLD_LEAKS() 0
#endif

/*
 * To be called first by main(): does not return in an executor. One that fails or leaks leaves a file behind: nobody asks for the exit
 * status of an executor that was told to leave.
 */
static inline void executor_fixture_main(int argc, char **argv)
{
    if (argc != 4 || strcmp(argv[1], "--executor") != 0)
        return;
    int status = tcd_executor_main((unsigned)atoi(argv[3]), NULL, 3);
    const char *mark = getenv("TRTCOLL_TEST_MARK");
    if ((status || WORLD_LEAKS()) && mark)
        fclose(fopen(mark, "w"));
    exit(status);
}

static inline void world_on_died(void *arg, struct tcd_executor *executor, pid_t pid, int status)
{
    struct world *world = arg;
    (void)executor;
    assert_true(pid > 0);
    ++world->deaths;
    world->death_status = status;
}

static inline void world_on_report(void *arg, struct tcd_executor *executor, const struct tcd_ex_message *message)
{
    struct world *world = arg;
    assert_true(world->report_count < 16);
    world->reports[world->report_count++] = (struct world_report){*message, tcd_executor_device(executor)};
}

static inline void world_on_timer(uv_timer_t *timer)
{
    *(bool *)timer->data = true;
}

/*
 * The end of a test that waits in vain is the end of all: its loop and its executors are on a stack that the next test would use, so
 * everything after it would fail too, for reasons of its own. Executors end with their parent.
 */
__attribute__((format(printf, 1, 2), noreturn)) static inline void world_give_up(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vprint_error(format, args);
    va_end(args);
    print_error("\n");
    exit(1);
}

/* Turns the loop until the condition holds, PATIENCE_MS at most. */
#define WORLD_UNTIL(world, condition)                                                                                                      \
    do {                                                                                                                                   \
        bool late_ = false;                                                                                                                \
        uv_timer_t timer_;                                                                                                                 \
        uv_update_time(&(world)->loop); /* the loop may have stood still for long */                                                       \
        uv_timer_init(&(world)->loop, &timer_);                                                                                            \
        timer_.data = &late_;                                                                                                              \
        uv_timer_start(&timer_, world_on_timer, PATIENCE_MS, 0);                                                                           \
        while (!(condition) && !late_)                                                                                                     \
            uv_run(&(world)->loop, UV_RUN_ONCE);                                                                                           \
        uv_close((uv_handle_t *)&timer_, NULL);                                                                                            \
        uv_run(&(world)->loop, UV_RUN_NOWAIT);                                                                                             \
        if (late_)                                                                                                                         \
            world_give_up("in vain: %s", #condition);                                                                                      \
    } while (0)

static inline void world_on_answer(void *arg, const struct tcd_ex_message *message, int fd)
{
    struct world_answer *answer = arg;
    answer->done = true;
    ++answer->count;
    answer->message = *message;
    answer->fd = fd;
}

/* Sends and waits for the answer; its code. */
static inline int world_call(struct world *world, unsigned rank, const struct tcd_ex_message *message, const int *fds, unsigned fd_count,
                             struct world_answer *answer)
{
    struct world_answer own;
    answer = answer ? answer : &own;
    *answer = (struct world_answer){.fd = -1};
    int rc = tcd_executor_request(world->ranks[rank].executor, message, fds, fd_count, world_on_answer, answer);
    if (rc < 0)
        return rc;
    WORLD_UNTIL(world, answer->done);
    assert_int_equal(answer->count, 1);
    return answer->message.code;
}

static inline struct tcd_ex_message world_message(const struct world *world, unsigned rank, uint32_t opcode)
{
    const struct world_rank *member = &world->ranks[rank];
    return (struct tcd_ex_message){
        .opcode = opcode, .attachment = member->attachment, .client = member->client, .rank = rank, .nranks = world->nranks};
}

static inline void world_add_workspace(struct world *world, uint64_t generation, uint64_t bytes)
{
    int fds[WORLD_MAX];
    for (unsigned i = 0; i < world->nranks; ++i) {
        struct tcd_ex_message alloc = world_message(world, i, TCD_EX_ALLOC);
        struct world_answer answer;
        alloc.value = bytes;
        assert_int_equal(world_call(world, i, &alloc, NULL, 0, &answer), 0);
        assert_int_equal(answer.message.opcode, TCD_EX_ALLOCATED);
        assert_true(answer.fd >= 0);
        fds[i] = answer.fd;
    }
    for (unsigned i = 0; i < world->nranks; ++i) {
        struct tcd_ex_message workspace = world_message(world, i, TCD_EX_WORKSPACE);
        workspace.workspace_generation = generation;
        workspace.workspace_bytes = bytes;
        assert_int_equal(world_call(world, i, &workspace, fds, world->nranks, NULL), 0);
    }
    for (unsigned i = 0; i < world->nranks; ++i)
        close(fds[i]);
}

static inline void world_attach(struct world *world, unsigned rank)
{
    struct world_rank *member = &world->ranks[rank];
    uint64_t ring_bytes = tcw_ring_bytes(RING_ENTRIES, RING_ENTRIES, false), page_bytes = tcw_member_page_bytes();
    member->page_fd = tcw_memfd_create("page", page_bytes, 1);
    member->ring_fd = tcw_memfd_create("ring", ring_bytes, 1);
    member->sq_event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    member->cq_event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    member->page = mmap(NULL, page_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, member->page_fd, 0);
    member->ring_base = mmap(NULL, ring_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, member->ring_fd, 0);
    assert_true(member->page != MAP_FAILED && member->ring_base != MAP_FAILED);
    tcw_member_page_format(member->page, 77, 1, rank, world->nranks, world->deadline_ns);
    assert_int_equal(tcw_ring_format(member->ring_base, ring_bytes, RING_ENTRIES, RING_ENTRIES, false, member->client, 1), 0);
    assert_int_equal(tcw_ring_open(&member->ring, member->ring_base, ring_bytes, member->sq_event, member->cq_event), 0);
    member->sequence = 0;

    struct tcd_ex_message attach = world_message(world, rank, TCD_EX_ATTACH);
    attach.spin_us = 20;
    attach.deadline_ns = world->deadline_ns;
    int fds[4] = {member->page_fd, member->ring_fd, member->sq_event, member->cq_event};
    assert_int_equal(world_call(world, rank, &attach, fds, 4, NULL), 0);
}

/* What a client's end leaves. */
static inline void world_unmap(struct world_rank *member)
{
    if (!member->ring_base)
        return;
    munmap(member->page, tcw_member_page_bytes());
    munmap(member->ring_base, member->ring.bytes);
    close(member->page_fd);
    close(member->ring_fd);
    close(member->sq_event);
    close(member->cq_event);
    member->ring_base = NULL;
}

static inline int world_detach(struct world *world, unsigned rank)
{
    struct tcd_ex_message detach = world_message(world, rank, TCD_EX_DETACH);
    int rc = world_call(world, rank, &detach, NULL, 0, NULL);
    world_unmap(&world->ranks[rank]);
    return rc;
}

static inline void world_register(struct world *world, unsigned rank, uint64_t handle)
{
    struct world_rank *member = &world->ranks[rank];
    member->memory = handle;
    member->memory_fd = tcw_memfd_create("client", CLIENT_BYTES, 1);
    member->bytes = mmap(NULL, CLIENT_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, member->memory_fd, 0);
    assert_true(member->bytes != MAP_FAILED);
    struct tcd_ex_message memory = world_message(world, rank, TCD_EX_MEM);
    memory.handle = handle;
    memory.value = CLIENT_BYTES;
    assert_int_equal(world_call(world, rank, &memory, &member->memory_fd, 1, NULL), 0);
}

static inline struct tcd_ex_message world_plan_message(const struct world *world, unsigned rank, uint64_t handle,
                                                       const struct tcw_plan_desc *desc, uint64_t generation)
{
    struct tcd_ex_message plan = world_message(world, rank, TCD_EX_PLAN);
    plan.handle = handle;
    plan.plan_id = (uint32_t)handle;
    plan.workspace_generation = generation;
    plan.desc = *desc;
    plan.decision = (struct tcw_decision){.lane = TCW_LANE_SERVED, .step_count = 1, .steps = {{UINT64_MAX, TCW_STRATEGY_ONESHOT, 0}}};
    return plan;
}

static inline void world_plan(struct world *world, uint64_t handle, const struct tcw_plan_desc *desc, uint64_t generation)
{
    for (unsigned i = 0; i < world->nranks; ++i) {
        struct tcd_ex_message plan = world_plan_message(world, i, handle, desc, generation);
        struct world_answer answer;
        if (world_call(world, i, &plan, NULL, 0, &answer))
            fail_msg("plan: %s", answer.message.text);
    }
}

/* Executors for `nranks` devices; nothing runs yet. */
static inline void world_open(struct world *world, unsigned nranks)
{
    memset(world, 0, sizeof *world);
    snprintf(world->mark, sizeof world->mark, "/tmp/trtcoll-test-mark-%d", (int)getpid());
    setenv("TRTCOLL_TEST_MARK", world->mark, 1);
    assert_int_equal(uv_loop_init(&world->loop), 0);
    world->nranks = nranks;
    world->deadline_ns = 10000000000u;
    world->workspace_bytes = 8u << 20;
    struct tcd_executor_callbacks callbacks = {world_on_died, world_on_report, world, NULL};
    for (unsigned i = 0; i < nranks; ++i) {
        struct world_rank *member = &world->ranks[i];
        assert_int_equal(tcd_executor_create(&world->loop, "/proc/self/exe", i, &callbacks, &member->executor), 0);
        member->attachment = 100 + i;
        member->client = 1000 + i;
        member->memory_fd = -1;
    }
}

/* A group of `nranks`, each attached, with one workspace generation (1), memory (handle 1 << 32 | 5) and an fp32 all-reduce (handle 9). */
static inline void world_open_group(struct world *world, unsigned nranks)
{
    world_open(world, nranks);
    for (unsigned i = 0; i < nranks; ++i) {
        world_attach(world, i);
        world_register(world, i, UINT64_C(1) << 32 | 5);
    }
    world_add_workspace(world, 1, world->workspace_bytes);
    struct tcw_plan_desc desc = plan_all_reduce(TCW_FP32, TCW_FUSION_NONE, 64, 256);
    world_plan(world, 9, &desc, 1);
}

static inline void world_on_closed(void *arg)
{
    ++((struct world *)arg)->closed;
}

/* Ends everything; nothing may be left on the loop, no process either. */
static inline void world_close(struct world *world)
{
    for (unsigned i = 0; i < world->nranks; ++i)
        tcd_executor_destroy(world->ranks[i].executor, 5000, world_on_closed, world);
    WORLD_UNTIL(world, world->closed == world->nranks);
    uv_run(&world->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&world->loop), 0);
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
    if (unlink(world->mark) == 0)
        fail_msg("an executor ended badly: see its output");
    for (unsigned i = 0; i < world->nranks; ++i) {
        struct world_rank *member = &world->ranks[i];
        world_unmap(member);
        if (member->memory_fd >= 0) {
            munmap(member->bytes, CLIENT_BYTES);
            close(member->memory_fd);
        }
    }
}

/* ---- the client's side ---- */

static inline struct tcw_ref world_ref(const struct world *world, unsigned rank, uint64_t offset, uint64_t length)
{
    return (struct tcw_ref){world->ranks[rank].memory, offset, length};
}

static inline void world_submit(struct world *world, unsigned rank, const struct tcw_sqe *head, const struct tcw_ref *refs)
{
    struct world_rank *member = &world->ranks[rank];
    struct tcw_sqe sqe = *head;
    bool wake = false;
    sqe.sequence = member->sequence++;
    assert_int_equal(tcw_ring_submit(&member->ring, &sqe, refs, &wake), 0);
    if (wake)
        tcw_ring_wake(member->sq_event);
}

/* The fp32 all-reduce of plan 9: `tokens` rows of 256 from `in` to `out`. */
static inline void world_submit_sum(struct world *world, unsigned rank, uint32_t tokens, uint64_t in, uint64_t out, uint64_t user_data)
{
    uint64_t length = tokens * 256u * sizeof(float);
    struct tcw_ref refs[2] = {world_ref(world, rank, in, length), world_ref(world, rank, out, length)};
    struct tcw_sqe head = {.op = TCW_OP_ALL_REDUCE, .plan = 9, .user_data = user_data, .tokens = tokens, .ref_count = 2};
    world_submit(world, rank, &head, refs);
}

/* Waits for the next completion as a client does; the loop stands still meanwhile. False after `ms`. */
static inline bool world_reap_within(struct world *world, unsigned rank, struct tcw_cqe *cqe, unsigned ms)
{
    struct tcw_ring *ring = &world->ranks[rank].ring;
    uint64_t until = tcw_now_ns() + ms * UINT64_C(1000000);
    for (;;) {
        int got = tcw_ring_reap(ring, cqe);
        assert_true(got >= 0);
        if (got)
            return true;
        uint64_t now = tcw_now_ns();
        if (now >= until)
            return false;
        if (tcw_ring_arm_client(ring)) {
            struct pollfd watched = {.fd = ring->cq_event, .events = POLLIN};
            poll(&watched, 1, (int)((until - now) / 1000000 + 1));
            tcw_ring_disarm_client(ring);
        }
    }
}

static inline struct tcw_cqe world_reap(struct world *world, unsigned rank)
{
    struct tcw_cqe cqe = {0};
    if (!world_reap_within(world, rank, &cqe, PATIENCE_MS))
        world_give_up("rank %u: no completion", rank);
    return cqe;
}

/* Open descriptors of a process. */
static inline unsigned world_count_fds(pid_t pid)
{
    char path[64];
    unsigned count = 0;
    snprintf(path, sizeof path, "/proc/%d/fd", (int)pid);
    DIR *directory = opendir(path);
    assert_non_null(directory);
    while (readdir(directory))
        ++count;
    closedir(directory);
    return count - 2;
}

/* Lines of /proc/PID/maps that speak of memfds. */
static inline unsigned world_count_mappings(pid_t pid)
{
    char path[64], line[512];
    unsigned count = 0;
    snprintf(path, sizeof path, "/proc/%d/maps", (int)pid);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    while (fgets(line, sizeof line, file))
        count += strstr(line, "/memfd:") != NULL;
    fclose(file);
    return count;
}

#endif
