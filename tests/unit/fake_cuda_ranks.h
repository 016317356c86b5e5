/*
 * Processes that play ranks against the fake driver: forked before anybody touches CUDA, one function for all, a line of shared words and
 * sockets between them. A rank that fails says where and ends; its test fails. Owner: the test.
 */
#ifndef TESTS_FAKE_CUDA_RANKS_H
#define TESTS_FAKE_CUDA_RANKS_H

#include "cmocka_all.h"

#include <cuda.h>

#include <poll.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { RANKS_MAX = 4, SHARED_BYTES = 16384, RANK_SECONDS = 30 };

/* One page of words that CUDA can register, and bytes for anything. */
struct shared {
    _Alignas(4096) _Atomic uint64_t words[512];
    _Alignas(4096) unsigned char bytes[SHARED_BYTES - 4096];
};

struct rank {
    int rank, nranks;
    struct shared *shared;
    int sockets[RANKS_MAX][2]; /* of rank i: [0] everybody sends into, [1] it receives from */
    CUcontext context;
};

#define RANK_CHECK(condition)                                                                                                              \
    do {                                                                                                                                   \
        if (!(condition)) {                                                                                                                \
            fprintf(stderr, "rank %d: %s:%d: %s\n", rank->rank, __FILE__, __LINE__, #condition);                                           \
            _exit(1);                                                                                                                      \
        }                                                                                                                                  \
    } while (0)
#define RANK_CUDA(call)                                                                                                                    \
    do {                                                                                                                                   \
        CUresult result_ = (call);                                                                                                         \
        if (result_) {                                                                                                                     \
            fprintf(stderr, "rank %d: %s:%d: %s: %d\n", rank->rank, __FILE__, __LINE__, #call, (int)result_);                              \
            _exit(1);                                                                                                                      \
        }                                                                                                                                  \
    } while (0)

/* Its own device, current for this thread. */
static inline void rank_open(struct rank *rank)
{
    CUdevice device;
    RANK_CUDA(cuInit(0));
    RANK_CUDA(cuDeviceGet(&device, rank->rank));
    RANK_CUDA(cuDevicePrimaryCtxRetain(&rank->context, device));
    RANK_CUDA(cuCtxPushCurrent(rank->context));
}

static inline void rank_await(struct rank *rank, unsigned word, uint64_t value)
{
    time_t end = time(NULL) + RANK_SECONDS;
    while (rank->shared->words[word] < value) {
        RANK_CHECK(time(NULL) < end);
        sched_yield();
    }
}

static inline void rank_send_fd(struct rank *rank, int to, int fd)
{
    union {
        struct cmsghdr header;
        char room[CMSG_SPACE(sizeof(int))];
    } control = {.header = {.cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS}};
    char byte = 0;
    struct iovec data = {&byte, 1};
    struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control.room)};
    memcpy(CMSG_DATA(&control.header), &fd, sizeof(fd));
    RANK_CHECK(sendmsg(rank->sockets[to][0], &message, 0) == 1);
}

static inline int rank_receive_fd(struct rank *rank)
{
    union {
        struct cmsghdr header;
        char room[CMSG_SPACE(sizeof(int))];
    } control;
    char byte;
    struct iovec data = {&byte, 1};
    struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)};
    int fd;
    RANK_CHECK(recvmsg(rank->sockets[rank->rank][1], &message, MSG_CMSG_CLOEXEC) == 1);
    RANK_CHECK(message.msg_controllen >= CMSG_LEN(sizeof(int)));
    memcpy(&fd, CMSG_DATA(&control.header), sizeof(fd));
    return fd;
}

/* Runs `body` as every rank, each in a process of its own; all must succeed. */
static inline void run_ranks(int nranks, void (*body)(struct rank *rank))
{
    struct rank rank = {.nranks = nranks};
    pid_t pids[RANKS_MAX];
    rank.shared = mmap(NULL, sizeof(*rank.shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(rank.shared != MAP_FAILED);
    for (int i = 0; i < nranks; i++)
        assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, rank.sockets[i]), 0);
    fflush(NULL);
    for (rank.rank = 0; rank.rank < nranks; rank.rank++) {
        pids[rank.rank] = fork();
        assert_true(pids[rank.rank] >= 0);
        if (!pids[rank.rank]) {
            alarm(RANK_SECONDS);
            body(&rank);
            _exit(0);
        }
    }
    for (int i = 0; i < nranks; i++) {
        int status;
        assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
        if (status)
            print_error("rank %d ended with status 0x%x\n", i, status);
        rank.rank = status ? -1 : rank.rank;
    }
    for (int i = 0; i < nranks; i++) {
        close(rank.sockets[i][0]);
        close(rank.sockets[i][1]);
    }
    munmap(rank.shared, sizeof(*rank.shared));
    assert_int_not_equal(rank.rank, -1);
}

#endif
