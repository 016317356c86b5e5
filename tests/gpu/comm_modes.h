/*
 * The modes of comm_bench. Each forks its own ranks. 0, COMM_SKIP or 1.
 *
 * Owner: the main program's process. Threads: one.
 */
#ifndef TRTCOLL_TESTS_GPU_COMM_MODES_H
#define TRTCOLL_TESTS_GPU_COMM_MODES_H

#include <stdbool.h>
#include <stdint.h>

struct comm_options {
    uint32_t ranks;
    uint32_t seconds;  /* check, kill: how long to draw cases, to kill; every mode: at most about thrice that */
    uint64_t seed;     /* check */
    uint32_t gpus;     /* check, time, sweep: how many GPUs the ranks share; 0: each has one of its own */
    bool long_sizes;   /* time: up to 32 MB instead of 8 */
    bool nccl;         /* time: measure the library beside ours */
    bool eager;        /* time, sweep: enqueued one by one instead of captured; the library is captured always */
    uint32_t replays;  /* time */
    uint32_t soak;     /* kill: so many kills, however long they take; 0: as many as fit into the seconds */
    uint32_t spares;   /* kill: processes per GPU that wait to take a dead one's place; 0: as suits the ranks */
    const char *json;  /* time, sweep: file for the numbers */
    const char *label; /* what the numbers are filed under */
};

int comm_check(const struct comm_options *options);
int comm_time(const struct comm_options *options);
int comm_sweep(const struct comm_options *options);
int comm_kill(const struct comm_options *options);

#endif
