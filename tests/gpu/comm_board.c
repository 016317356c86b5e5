#include "comm_board.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static void *map_shared(size_t bytes)
{
    void *base = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED) {
        perror("mmap");
        exit(1);
    }
    return base;
}

/* A memfd, as the daemon's pages are. */
static struct tcw_member_page *map_page(uint32_t rank, uint32_t nranks)
{
    uint64_t bytes = tcw_member_page_bytes();
    int fd = memfd_create("member page", MFD_CLOEXEC);
    void *base = MAP_FAILED;
    if (fd >= 0 && !ftruncate(fd, (off_t)bytes))
        base = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (base == MAP_FAILED) {
        perror("member page");
        exit(1);
    }
    close(fd);
    tcw_member_page_format(base, 1, 1, rank, nranks, UINT64_C(20000000000));
    return base;
}

struct comm_board *comm_board_create(uint32_t nranks, uint32_t gpus, uint32_t seconds)
{
    struct comm_board *board = map_shared(sizeof(*board));
    board->nranks = nranks;
    board->gpus = gpus && gpus < nranks ? gpus : nranks;
    board->seconds = seconds;
    board->region_bytes = COMM_REGION_BYTES;
    for (uint32_t i = 0; i < nranks; i++) {
        board->page[i] = map_page(i, nranks);
        board->in[i] = map_shared(COMM_REGION_BYTES);
        for (uint32_t j = 0; j < i; j++) {
            int pair[2];
            if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair)) {
                perror("socketpair");
                exit(1);
            }
            board->socket[i][j] = pair[0];
            board->socket[j][i] = pair[1];
        }
    }
    unsigned char **regions[] = {&board->sum, &board->u, &board->norm, &board->residual, &board->gamma, &board->bias};
    for (size_t i = 0; i < sizeof(regions) / sizeof(regions[0]); i++)
        *regions[i] = map_shared(COMM_REGION_BYTES);
    return board;
}

void comm_board_destroy(struct comm_board *board)
{
    unsigned char *regions[] = {board->sum, board->u, board->norm, board->residual, board->gamma, board->bias};
    for (size_t i = 0; i < sizeof(regions) / sizeof(regions[0]); i++)
        munmap(regions[i], COMM_REGION_BYTES);
    for (uint32_t i = 0; i < board->nranks; i++) {
        munmap(board->page[i], tcw_member_page_bytes());
        munmap(board->in[i], COMM_REGION_BYTES);
        for (uint32_t j = 0; j < board->nranks; j++)
            if (i != j)
                close(board->socket[i][j]);
    }
    munmap(board, sizeof(*board));
}

void comm_board_follow(pid_t parent)
{
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) || getppid() != parent)
        _exit(1);
}

void comm_board_fork(struct comm_board *board, comm_work *work, void *arg, pid_t *pids)
{
    pid_t parent = getpid();
    fflush(NULL);
    for (uint32_t rank = 0; rank < board->nranks; rank++) {
        pids[rank] = fork();
        if (pids[rank] < 0) {
            perror("fork");
            exit(1);
        }
        if (!pids[rank]) {
            comm_board_follow(parent);
            alarm(board->seconds);
            int code = work(board, rank, arg);
            fflush(NULL);
            _exit(code);
        }
    }
}

static void release_all(struct comm_board *board, uint32_t culprit)
{
    atomic_store(&board->failed, 1);
    for (uint32_t i = 0; i < board->nranks; i++) /* waiting kernels end, too */
        atomic_store(&board->page[i]->abort_word, tcw_abort_pack(TCW_EABORTED, culprit));
}

int comm_board_join(struct comm_board *board, const pid_t *pids)
{
    int answer = 0;
    for (uint32_t left = board->nranks; left; left--) {
        int status;
        pid_t pid = waitpid(-1, &status, 0);
        uint32_t rank = 0;
        while (rank < board->nranks && pids[rank] != pid)
            rank++;
        int code = pid > 0 && WIFEXITED(status) ? WEXITSTATUS(status) : 1;
        if (pid > 0 && WIFSIGNALED(status))
            fprintf(stderr, "rank %u: %s\n", rank, strsignal(WTERMSIG(status)));
        if (code == COMM_SKIP && !answer)
            answer = COMM_SKIP;
        if (code && code != COMM_SKIP) {
            release_all(board, rank);
            answer = 1;
        }
    }
    return answer;
}

void comm_board_barrier(struct comm_board *board)
{
    uint32_t generation = atomic_load(&board->generation);
    if (atomic_fetch_add(&board->arrived, 1) + 1 == board->nranks) {
        atomic_store(&board->arrived, 0);
        atomic_fetch_add(&board->generation, 1);
        return;
    }
    for (unsigned spins = 0; atomic_load(&board->generation) == generation; spins++) {
        if (atomic_load(&board->failed))
            _exit(1);
        if (spins > 20000)
            sched_yield();
    }
}

void comm_board_fail(struct comm_board *board, uint32_t rank, const char *format, ...)
{
    char text[512];
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof(text), format, list);
    va_end(list);
    fprintf(stderr, "rank %u: %s\n", rank, text);
    release_all(board, rank);
    fflush(NULL);
    _exit(1);
}

int comm_board_send_fd(struct comm_board *board, uint32_t rank, uint32_t peer, int fd)
{
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = {0};
    char byte = 0;
    struct iovec vector = {&byte, 1};
    struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof(control.bytes)};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(header), &fd, sizeof(int));
    return sendmsg(board->socket[rank][peer], &message, 0) == 1 ? 0 : -errno;
}

int comm_board_receive_fd(struct comm_board *board, uint32_t rank, uint32_t peer)
{
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control;
    char byte;
    int fd = -1;
    struct iovec vector = {&byte, 1};
    struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof(control.bytes)};
    if (recvmsg(board->socket[rank][peer], &message, MSG_CMSG_CLOEXEC) != 1)
        return -1;
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    if (header && header->cmsg_type == SCM_RIGHTS)
        memcpy(&fd, CMSG_DATA(header), sizeof(int));
    return fd;
}
