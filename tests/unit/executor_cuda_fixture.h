/*
 * Real executor processes of CUDA devices without a control process: the test program starts itself as the executors, over the fake driver
 * or a real one (LD_LIBRARY_PATH decides), and plays both the control process and the clients. Words are raised and read by the test's
 * processor, as a client does that gives up. Owner: the test.
 */
#ifndef TESTS_EXECUTOR_CUDA_FIXTURE_H
#define TESTS_EXECUTOR_CUDA_FIXTURE_H

#include "cmocka_all.h"
#include "plan_fixture.h"

#include "daemon/executor/main.h"
#include "daemon/shared/executor_wire.h"
#include "daemon/shared/gate.h"

#include <tck/cuda_driver.h>
#include <tck/memory.h>
#include <tcw/channel.h>
#include <tcw/member.h>
#include <tcw/ring.h>

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { WORLD_MAX = 4, RING_ENTRIES = 32, CLIENT_BYTES = 8 << 20, PATIENCE_MS = 30000, COMMUNICATOR = 500 };

static const uint64_t MEMORY = UINT64_C(1) << 32 | 5; /* handle of every rank's memory */

/* One membership: the control process's and the client's side of an attachment. */
struct member {
    unsigned rank;
    uint64_t attachment, client;
    int page_fd, ring_fd, sq_event, cq_event;
    struct tcw_member_page *page;
    void *ring_base;
    struct tcw_ring ring;
    uint64_t requests;
};

/* A group instance: members of all ranks and their gate. */
struct group {
    uint64_t id;
    int gate_fd;
    struct tcd_gate *gate;
    struct member members[WORLD_MAX];
};

struct executor {
    pid_t pid;
    int socket;
    struct tcd_ex_message ready;
    struct tck_device *device;
    struct tck_memory memory; /* of the client, as it maps it */
};

struct world {
    unsigned nranks;
    struct executor executors[WORLD_MAX];
    int order_fd;
    uint64_t cookie, deadline_ns;
    unsigned report_count;
    struct tcd_ex_message reports[32]; /* FAULT and VIOLATION; `rank` is the blamed one */
    unsigned reporters[32];
    unsigned answer_count;
    struct tcd_ex_message answers[16]; /* that came while another one was awaited */
};

/* To be called first by main(): does not return in an executor. */
static inline void executor_cuda_main(int argc, char **argv)
{
    if (argc == 5 && strcmp(argv[1], "--executor") == 0)
        exit(tcd_executor_main((unsigned)atoi(argv[2]), argv[4], 3));
}

/* Without a GPU, real or not, there is nothing to test. */
static inline bool executor_cuda_is_there(void)
{
    struct tck_device *device;
    char why[256];
    if (tck_device_open(NULL, 0, &device, why, sizeof why) < 0) {
        fprintf(stderr, "no GPU: %s\n", why);
        return false;
    }
    tck_device_close(device);
    return true;
}

#define WORLD_UNTIL(condition)                                                                                                             \
    do {                                                                                                                                   \
        uint64_t until_ = tcw_now_ns() + PATIENCE_MS * UINT64_C(1000000);                                                                  \
        while (!(condition)) {                                                                                                             \
            if (tcw_now_ns() > until_)                                                                                                     \
                fail_msg("in vain: %s", #condition);                                                                                       \
            sched_yield();                                                                                                                 \
        }                                                                                                                                  \
    } while (0)

/* ---- executors ---- */

/* Starts a process; READY is in *executor. */
static inline void executor_start(struct executor *executor, unsigned device, const char *name)
{
    int pair[2];
    char number[16];
    unsigned fd_count;
    int fds[TCW_MAX_FDS];
    snprintf(number, sizeof number, "%u", device);
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair), 0);
    executor->pid = fork();
    assert_true(executor->pid >= 0);
    if (executor->pid == 0) {
        char mode[] = "--executor", option[] = "--cuda", program[] = "/proc/self/exe";
        char *arguments[] = {program, mode, number, option, (char *)(uintptr_t)name, NULL};
        if (pair[1] == 3 ? fcntl(3, F_SETFD, 0) == 0 : dup2(pair[1], 3) == 3)
            execv(program, arguments);
        _exit(127);
    }
    close(pair[1]);
    executor->socket = pair[0];
    struct pollfd watched = {.fd = executor->socket, .events = POLLIN};
    assert_int_equal(poll(&watched, 1, PATIENCE_MS), 1);
    assert_int_equal(tcd_ex_receive(executor->socket, &executor->ready, fds, &fd_count), 1);
    assert_int_equal(executor->ready.opcode, TCD_EX_READY);
}

/* The exit status of a process that ends by itself; -1: killed. */
static inline int executor_wait(struct executor *executor)
{
    int status = 0;
    assert_int_equal(waitpid(executor->pid, &status, 0), executor->pid);
    close(executor->socket);
    executor->pid = 0;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* Takes one message if there is one within `ms`: reports are kept, answers too. `fd`: of ALLOCATED. */
static inline bool world_take(struct world *world, unsigned rank, int ms, int *fd)
{
    struct tcd_ex_message message;
    int fds[TCW_MAX_FDS];
    unsigned fd_count;
    struct pollfd watched = {.fd = world->executors[rank].socket, .events = POLLIN};
    if (poll(&watched, 1, ms) != 1 || tcd_ex_receive(watched.fd, &message, fds, &fd_count) != 1)
        return false;
    if (message.opcode == TCD_EX_FAULT || message.opcode == TCD_EX_VIOLATION) {
        assert_true(world->report_count < 32);
        world->reporters[world->report_count] = rank;
        world->reports[world->report_count++] = message;
    } else {
        assert_true(world->answer_count < 16);
        world->answers[world->answer_count++] = message;
        if (fd_count)
            *fd = fds[0];
    }
    return true;
}

static inline uint64_t world_send(struct world *world, unsigned rank, struct tcd_ex_message *message, const int *fds, unsigned fd_count)
{
    message->cookie = ++world->cookie;
    assert_int_equal(tcd_ex_send(world->executors[rank].socket, message, fds, fd_count), 0);
    return message->cookie;
}

static inline struct tcd_ex_message world_await(struct world *world, unsigned rank, uint64_t cookie, int *fd)
{
    int own_fd = -1;
    for (uint64_t until = tcw_now_ns() + PATIENCE_MS * UINT64_C(1000000);;) {
        for (unsigned i = 0; i < world->answer_count; ++i)
            if (world->answers[i].cookie == cookie) {
                struct tcd_ex_message answer = world->answers[i];
                world->answers[i] = world->answers[--world->answer_count];
                return answer;
            }
        if (tcw_now_ns() > until)
            fail_msg("rank %u: no answer", rank);
        world_take(world, rank, 100, fd ? fd : &own_fd);
    }
}

static inline struct tcd_ex_message world_call(struct world *world, unsigned rank, struct tcd_ex_message *message, const int *fds,
                                               unsigned fd_count, int *fd)
{
    return world_await(world, rank, world_send(world, rank, message, fds, fd_count), fd);
}

/* Called and well answered. */
#define WORLD_DO(world, rank, message, fds, fd_count)                                                                                      \
    do {                                                                                                                                   \
        struct tcd_ex_message answer_ = world_call(world, rank, message, fds, fd_count, NULL);                                             \
        if (answer_.code)                                                                                                                  \
            fail_msg("rank %u: %d %s", rank, answer_.code, answer_.text);                                                                  \
    } while (0)

/* Waits for a report of `rank`'s executor and returns it. */
static inline const struct tcd_ex_message *world_report(struct world *world, unsigned rank)
{
    int fd = -1;
    for (uint64_t until = tcw_now_ns() + PATIENCE_MS * UINT64_C(1000000);;) {
        for (unsigned i = 0; i < world->report_count; ++i)
            if (world->reporters[i] == rank) {
                world->reporters[i] = WORLD_MAX; /* seen */
                return &world->reports[i];
            }
        if (tcw_now_ns() > until)
            fail_msg("rank %u: no report", rank);
        world_take(world, rank, 100, &fd);
    }
}

/* ---- the world ---- */

static inline void *world_shared(uint64_t bytes, int *fd)
{
    *fd = tcw_memfd_create("shared", bytes, 1);
    assert_true(*fd >= 0);
    void *base = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, *fd, 0);
    assert_true(base != MAP_FAILED);
    return base;
}

/* A communicator over all executors. */
static inline void world_connect(struct world *world, uint64_t id)
{
    uint64_t cookies[WORLD_MAX];
    struct tcd_ex_message unique = {.opcode = TCD_EX_UNIQUE_ID, .communicator = id};
    struct tcd_ex_message blob = world_call(world, 0, &unique, NULL, 0, NULL);
    assert_int_equal(blob.code, 0);
    for (unsigned i = 0; i < world->nranks; ++i) {
        struct tcd_ex_message comm = {.opcode = TCD_EX_COMM, .communicator = id, .rank = i, .nranks = world->nranks};
        memcpy(comm.blob, blob.blob, sizeof comm.blob);
        cookies[i] = world_send(world, i, &comm, &world->order_fd, 1);
    }
    for (unsigned i = 0; i < world->nranks; ++i) {
        struct tcd_ex_message answer = world_await(world, i, cookies[i], NULL);
        if (answer.code)
            fail_msg("rank %u: %s", i, answer.text);
    }
}

static inline void world_register(struct world *world, unsigned rank)
{
    struct executor *executor = &world->executors[rank];
    struct tcd_ex_message memory = {.opcode = TCD_EX_MEM, .client = 1000 + rank, .handle = MEMORY, .value = CLIENT_BYTES};
    memory.memory = (struct tcw_mem_register){.bytes = CLIENT_BYTES, .kind = TCW_MEM_VMM, .piece_bytes = {executor->memory.bytes}};
    WORLD_DO(world, rank, &memory, &executor->memory.fd, 1);
}

static inline void world_open(struct world *world, unsigned nranks)
{
    memset(world, 0, sizeof *world);
    world->nranks = nranks;
    world->deadline_ns = 20000000000u;
    munmap(world_shared(sizeof(struct tcd_order_log), &world->order_fd), sizeof(struct tcd_order_log));
    for (unsigned i = 0; i < nranks; ++i) {
        struct executor *executor = &world->executors[i];
        char name[16], why[256];
        snprintf(name, sizeof name, "%u", i);
        executor_start(executor, i, name);
        if (executor->ready.code)
            fail_msg("%s", executor->ready.text);
        assert_int_equal(tck_device_open(NULL, (int)i, &executor->device, why, sizeof why), 0);
        assert_int_equal(tck_memory_create(executor->device, "client", CLIENT_BYTES, &executor->memory), 0);
        world_register(world, i);
    }
    world_connect(world, COMMUNICATOR);
}

static inline void world_close(struct world *world)
{
    for (unsigned i = 0; i < world->nranks; ++i) {
        struct executor *executor = &world->executors[i];
        struct tcd_ex_message quit = {.opcode = TCD_EX_QUIT};
        if (executor->pid) {
            assert_int_equal(tcd_ex_send(executor->socket, &quit, NULL, 0), 0);
            assert_int_equal(executor_wait(executor), 0);
        }
        tck_memory_release(&executor->memory);
        tck_device_close(executor->device);
    }
    close(world->order_fd);
}

/* ---- groups ---- */

static inline struct tcd_ex_message world_message(const struct world *world, const struct member *member, uint32_t opcode)
{
    return (struct tcd_ex_message){
        .opcode = opcode, .attachment = member->attachment, .client = member->client, .rank = member->rank, .nranks = world->nranks};
}

/* A group instance that uses a communicator: every rank is attached. */
static inline void group_open(struct world *world, struct group *group, uint64_t id, uint64_t communicator)
{
    uint64_t ring_bytes = tcw_ring_bytes(RING_ENTRIES, RING_ENTRIES, true);
    memset(group, 0, sizeof *group);
    group->id = id;
    group->gate = world_shared(sizeof *group->gate, &group->gate_fd);
    for (unsigned i = 0; i < world->nranks; ++i) {
        struct member *member = &group->members[i];
        member->rank = i;
        member->attachment = id * 100 + i;
        member->client = 1000 + i;
        member->page = world_shared(tcw_member_page_bytes(), &member->page_fd);
        member->ring_base = world_shared(ring_bytes, &member->ring_fd);
        member->sq_event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        member->cq_event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        tcw_member_page_format(member->page, id, 1, i, world->nranks, world->deadline_ns);
        assert_int_equal(tcw_ring_format(member->ring_base, ring_bytes, RING_ENTRIES, RING_ENTRIES, true, member->client, 1), 0);
        assert_int_equal(tcw_ring_open(&member->ring, member->ring_base, ring_bytes, member->sq_event, member->cq_event), 0);
        struct tcd_ex_message attach = world_message(world, member, TCD_EX_ATTACH);
        attach.spin_us = 20;
        attach.deadline_ns = world->deadline_ns;
        attach.communicator = communicator;
        attach.value = id;
        int fds[5] = {member->page_fd, member->ring_fd, member->sq_event, member->cq_event, group->gate_fd};
        WORLD_DO(world, i, &attach, fds, 5);
    }
}

static inline void group_unmap(struct group *group, unsigned rank)
{
    struct member *member = &group->members[rank];
    munmap(member->page, tcw_member_page_bytes());
    munmap(member->ring_base, member->ring.bytes);
    close(member->page_fd);
    close(member->ring_fd);
    close(member->sq_event);
    close(member->cq_event);
}

/* Detaches every rank whose executor lives. */
static inline void group_close(struct world *world, struct group *group)
{
    uint64_t cookies[WORLD_MAX] = {0};
    for (unsigned i = 0; i < world->nranks; ++i) {
        struct tcd_ex_message detach = world_message(world, &group->members[i], TCD_EX_DETACH);
        if (world->executors[i].pid)
            cookies[i] = world_send(world, i, &detach, NULL, 0);
    }
    for (unsigned i = 0; i < world->nranks; ++i) {
        if (cookies[i])
            assert_int_equal(world_await(world, i, cookies[i], NULL).code, 0);
        group_unmap(group, i);
    }
    munmap(group->gate, sizeof *group->gate);
    close(group->gate_fd);
}

static inline void group_abort(struct world *world, struct group *group, int code, uint32_t culprit)
{
    for (unsigned i = 0; i < world->nranks; ++i) {
        struct tcd_ex_message abort_message = world_message(world, &group->members[i], TCD_EX_ABORT);
        abort_message.code = code;
        abort_message.rank = culprit;
        if (world->executors[i].pid)
            WORLD_DO(world, i, &abort_message, NULL, 0);
    }
}

/* Workspaces of our own kernels, generation 1. */
static inline void group_workspace(struct world *world, struct group *group, uint64_t bytes)
{
    int fds[WORLD_MAX];
    for (unsigned i = 0; i < world->nranks; ++i) {
        struct tcd_ex_message alloc = {.opcode = TCD_EX_ALLOC, .value = bytes, .workspace_generation = 1};
        fds[i] = -1;
        struct tcd_ex_message answer = world_call(world, i, &alloc, NULL, 0, &fds[i]);
        if (answer.opcode != TCD_EX_ALLOCATED)
            fail_msg("rank %u: %s", i, answer.text);
        assert_true(fds[i] >= 0);
    }
    for (unsigned i = 0; i < world->nranks; ++i) {
        struct tcd_ex_message workspace = world_message(world, &group->members[i], TCD_EX_WORKSPACE);
        workspace.workspace_generation = 1;
        workspace.workspace_bytes = bytes;
        WORLD_DO(world, i, &workspace, fds, world->nranks);
    }
    for (unsigned i = 0; i < world->nranks; ++i)
        close(fds[i]);
}

static inline struct tcd_ex_message group_plan_message(const struct world *world, const struct group *group, unsigned rank, uint64_t handle,
                                                       const struct tcw_plan_desc *desc, uint32_t strategy, uint64_t generation)
{
    struct tcd_ex_message plan = world_message(world, &group->members[rank], TCD_EX_PLAN);
    plan.handle = handle;
    plan.plan_id = (uint32_t)handle;
    plan.workspace_generation = generation;
    plan.desc = *desc;
    plan.decision = (struct tcw_decision){.lane = TCW_LANE_SERVED, .step_count = 1, .steps = {{UINT64_MAX, strategy, 0}}};
    return plan;
}

static inline void group_plan(struct world *world, const struct group *group, uint64_t handle, const struct tcw_plan_desc *desc,
                              uint32_t strategy, uint64_t generation)
{
    for (unsigned i = 0; i < world->nranks; ++i) {
        struct tcd_ex_message plan = group_plan_message(world, group, i, handle, desc, strategy, generation);
        WORLD_DO(world, i, &plan, NULL, 0);
    }
}

/* ---- the client's side ---- */

static inline void client_write(struct world *world, unsigned rank, uint64_t offset, const void *from, uint64_t bytes)
{
    struct executor *executor = &world->executors[rank];
    assert_int_equal(tck_cuda_enter(executor->device), 0);
    assert_int_equal(tck_cuda_driver()->cuMemcpyHtoD((CUdeviceptr)(uintptr_t)executor->memory.base + offset, from, bytes), CUDA_SUCCESS);
    tck_cuda_leave(executor->device);
}

static inline void client_read(struct world *world, unsigned rank, uint64_t offset, void *to, uint64_t bytes)
{
    struct executor *executor = &world->executors[rank];
    assert_int_equal(tck_cuda_enter(executor->device), 0);
    assert_int_equal(tck_cuda_driver()->cuMemcpyDtoH(to, (CUdeviceptr)(uintptr_t)executor->memory.base + offset, bytes), CUDA_SUCCESS);
    tck_cuda_leave(executor->device);
}

static inline struct tcw_ref client_ref(uint64_t offset, uint64_t length)
{
    return (struct tcw_ref){MEMORY, offset, length};
}

/* Posts a request; its number. Its inputs are said to be there by client_ready. */
static inline uint64_t client_submit(struct member *member, const struct tcw_sqe *head, const struct tcw_ref *refs)
{
    struct tcw_sqe sqe = *head;
    bool wake = false;
    sqe.sequence = (uint32_t)member->requests++;
    if (!(sqe.flags & TCW_SQE_CAPTURED))
        sqe.pair = (uint16_t)(sqe.sequence % RING_ENTRIES);
    assert_int_equal(tcw_ring_submit(&member->ring, &sqe, refs, &wake), 0);
    if (wake)
        tcw_ring_wake(member->sq_event);
    return member->requests;
}

static inline struct tcw_words *client_words(struct member *member, uint64_t number)
{
    return &member->ring.words[(number - 1) % RING_ENTRIES];
}

static inline void client_ready(struct member *member, uint64_t number)
{
    atomic_store(&client_words(member, number)->ready, number);
}

/* A request whose inputs are there. */
static inline uint64_t client_run(struct member *member, const struct tcw_sqe *head, const struct tcw_ref *refs)
{
    uint64_t number = client_submit(member, head, refs);
    client_ready(member, number);
    return number;
}

static inline struct tcw_cqe client_reap(struct member *member)
{
    struct tcw_cqe cqe = {0};
    int got = 0;
    WORLD_UNTIL((got = tcw_ring_reap(&member->ring, &cqe)) != 0);
    assert_int_equal(got, 1);
    return cqe;
}

static inline bool client_is_done(struct member *member, uint64_t number)
{
    return atomic_load(&client_words(member, number)->done) >= number;
}

#endif
