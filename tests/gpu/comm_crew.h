/*
 * The processes of the kill mode as the parent sees them: for every GPU the member that is its rank, and spares that have opened the GPU
 * and wait to take the member's place. Opening takes long (0.3 to 0.7 s), so several are at it while others play.
 *
 * Owner: the parent, which never touches CUDA. Threads: one. Players end with the parent, however that ends.
 */
#ifndef TRTCOLL_TESTS_GPU_COMM_CREW_H
#define TRTCOLL_TESTS_GPU_COMM_CREW_H

#include "comm_player.h"

enum { COMM_MOST_SPARES = 10, COMM_MOST_PLAYERS = COMM_MAX_RANKS * (1 + COMM_MOST_SPARES) };

struct comm_player {
    pid_t pid; /* 0: free */
    int socket;
    uint32_t rank;
    bool member;
    comm_word word; /* the last one */
    struct comm_news news[COMM_WORDS];
};

struct comm_crew {
    struct comm_board *board;
    int code; /* 0, or what the program answers: nothing can go on */
    struct comm_player players[COMM_MOST_PLAYERS];
};

/* Starts a member and `spares` spares for every GPU, and does not wait for them. Every later failure sets crew->code and is -1. */
int comm_crew_open(struct comm_crew *crew, struct comm_board *board, uint32_t spares);
/* Something is wrong that the crew has not noticed: nobody is asked to leave, all are killed. */
void comm_crew_abandon(struct comm_crew *crew);
/* Asks all to leave, kills who does not, waits for all. 0, COMM_SKIP or 1. */
int comm_crew_close(struct comm_crew *crew);

/* One more spare. */
int comm_crew_hire(struct comm_crew *crew, uint32_t rank);
/* The member, or NULL between its death and the next _cast. */
struct comm_player *comm_crew_member(struct comm_crew *crew, uint32_t rank);
/* Every rank that has no member takes a spare, waiting until one is ready. */
int comm_crew_cast(struct comm_crew *crew);

/* To all members. */
int comm_crew_order(struct comm_crew *crew, const struct comm_scene *scene);
/* Hears what there is to hear, for at most `ms`. -1 when somebody has ended who should not. */
int comm_crew_listen(struct comm_crew *crew, int ms);
/* Until every member but `except` has said `word`. */
int comm_crew_await(struct comm_crew *crew, comm_word word, uint32_t except);

/* SIGSTOP for a member. */
void comm_crew_stop(struct comm_crew *crew, uint32_t rank);
/* SIGKILL for a member; returns when it is gone, its GPU closed. */
int comm_crew_kill(struct comm_crew *crew, uint32_t rank);

#endif
