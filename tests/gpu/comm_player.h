/*
 * One process of the kill mode. It opens its GPU, loads the kernels, and then waits as a spare until it is given a scene; from there on it
 * is the rank of that GPU, scene after scene, until it is killed or told to leave. What it needs to be told and what it has to tell goes
 * through a socket.
 *
 * Owner: the process itself, single-threaded. The parent forks it and ends it (comm_crew.h).
 */
#ifndef TRTCOLL_TESTS_GPU_COMM_PLAYER_H
#define TRTCOLL_TESTS_GPU_COMM_PLAYER_H

#include "comm_board.h"

enum { COMM_SCENE_HIDDEN = 4096, COMM_SCENE_TOKENS = 64 }; /* the widest */

/*
 * Parent to player. The members of the group form anew: all workspaces are made, exchanged and mapped again, and a new communicator lies
 * over them. A first run is compared with the reference; then they run without pause until the kernels report a fault.
 */
struct comm_scene {
    uint64_t number; /* also the seed of the data */
    uint32_t strategy;
    uint16_t fusion;
    uint32_t tokens;
    bool captured;
    bool stop;  /* the parent's: SIGSTOP and the deadline, else SIGKILL and the abort word */
    bool leave; /* no scene: give everything back and exit with 0 */
};

/* Player to parent, in this order. */
typedef enum comm_word {
    COMM_BUSY = 0, /* nothing said yet */
    COMM_WAITING,  /* the GPU is open and the kernels are loaded */
    COMM_FORMED,   /* the group stands */
    COMM_RIGHT,    /* the first result was right; it runs without pause */
    COMM_ENDED,    /* its kernels have ended, and the context has passed all checks */
    COMM_WORDS
} comm_word;

struct comm_news {
    uint32_t word;
    uint64_t at_ns;   /* CLOCK_MONOTONIC; ENDED: before the checks */
    uint64_t span_ns; /* RIGHT: from the launch of the first run to its end */
};

/* The player's life; returns its exit status. */
int comm_player_main(struct comm_board *board, uint32_t rank, int socket);

#endif
