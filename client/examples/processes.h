/*
 * The rank processes, as the parent sees them.
 * Owner: the parent's only thread. Between processes_start and processes_leave SIGCHLD is blocked.
 */
#ifndef EXAMPLES_PROCESSES_H
#define EXAMPLES_PROCESSES_H

#include "progress.h"
#include "rank.h"

#include <signal.h>
#include <sys/types.h>

struct processes {
    pid_t pids[RANKS]; /* 0: reaped */
    sigset_t before;   /* the parent's signal mask */
};

/* What the lanes are called. */
extern const char *const lane_names[LANES];

/* Starts the ranks. Each dies with the parent. */
void processes_start(struct processes *processes, const struct task *task, struct shared *shared);
/* Waits until all have decoded and shows their progress; they stay attached. EXIT_SAME, or EXIT_TROUBLE once all are gone. */
int processes_decode(struct processes *processes, const struct task *task, struct shared *shared, struct progress *progress);
/* Lets them leave and waits for their ends. EXIT_SAME or EXIT_TROUBLE. */
int processes_leave(struct processes *processes, struct shared *shared);

/* Runs a command line with sh. Its exit status, or 127. */
int processes_command(const char *command);

#endif
