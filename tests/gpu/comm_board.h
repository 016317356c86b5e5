/*
 * What the processes of a kernel test share: memory mapped before the fork, a barrier, sockets between all pairs, and one member page
 * per rank. The parent never touches CUDA, so that it can fork again.
 *
 * Owner: the parent makes and unmaps it; children inherit the mapping. Threads: one per process.
 */
#ifndef TRTCOLL_TESTS_GPU_COMM_BOARD_H
#define TRTCOLL_TESTS_GPU_COMM_BOARD_H

#include <tcw/member.h>

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum {
    COMM_MAX_RANKS = 16,
    COMM_SKIP = 77,
    COMM_REGION_BYTES = 64 << 20, /* largest message of a test; untouched pages cost nothing */
    COMM_NUMBERS = 64,
};

struct comm_board {
    uint32_t nranks;
    uint32_t gpus;         /* that the ranks are dealt out to in turn: at most one for each */
    uint32_t seconds;      /* every process ends itself after so long */
    uint64_t region_bytes; /* of every large buffer on a GPU; COMM_REGION_BYTES unless the parent sets less */
    _Atomic uint32_t arrived;
    _Atomic uint32_t generation;
    _Atomic uint32_t failed;
    _Atomic uint32_t go;
    unsigned char nccl_id[128];
    /* One writer each. */
    double number[COMM_MAX_RANKS][COMM_NUMBERS];
    uint64_t digest[COMM_MAX_RANKS];
    _Atomic uint64_t checked[COMM_MAX_RANKS];
    /* Mapped memory that only these pointers know; the same addresses in all processes. */
    struct tcw_member_page *page[COMM_MAX_RANKS];
    unsigned char *in[COMM_MAX_RANKS]; /* COMM_REGION_BYTES each */
    unsigned char *sum, *u, *norm, *residual, *gamma, *bias;
    int socket[COMM_MAX_RANKS][COMM_MAX_RANKS]; /* [i][j]: how i speaks with j */
};

/* `gpus`: that the ranks share; 0, or as many as ranks: each has one of its own. */
struct comm_board *comm_board_create(uint32_t nranks, uint32_t gpus, uint32_t seconds);
void comm_board_destroy(struct comm_board *board);

/* Whether some GPU has several ranks. */
static inline bool comm_board_is_crowded(const struct comm_board *board)
{
    return board->gpus < board->nranks;
}

/* Forks one child per rank that runs work(board, rank, arg) and exits with its answer. Returns their pids in `pids`. */
typedef int comm_work(struct comm_board *board, uint32_t rank, void *arg);
void comm_board_fork(struct comm_board *board, comm_work *work, void *arg, pid_t *pids);
/* Waits for all of them, kills the rest when one fails. 0, COMM_SKIP or 1. */
int comm_board_join(struct comm_board *board, const pid_t *pids);

/* A child that was just forked by `parent`: ends when that does. */
void comm_board_follow(pid_t parent);
/* Children: all ranks, or the process ends because another one failed. */
void comm_board_barrier(struct comm_board *board);
/* Children: says what is wrong, tells the others, ends the process. */
_Noreturn void comm_board_fail(struct comm_board *board, uint32_t rank, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* Children: hands `fd` to `peer`, and takes one from it (-1 on failure). */
int comm_board_send_fd(struct comm_board *board, uint32_t rank, uint32_t peer, int fd);
int comm_board_receive_fd(struct comm_board *board, uint32_t rank, uint32_t peer);

#endif
