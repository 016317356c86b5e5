/*
 * The runtime directory: where it is, that it is ours alone, and the lock in it. Stands inside the daemon. Loop thread.
 */
#ifndef TCD_CONTROL_RUNTIME_H
#define TCD_CONTROL_RUNTIME_H

#include <limits.h>
#include <sys/types.h>

struct tcd_runtime {
    char dir[PATH_MAX];
    char socket_path[PATH_MAX];
    int lock; /* -1: none */
};

/* `wanted`: from the command line or the configuration; empty or NULL: the rule. */
void tcd_runtime_choose(struct tcd_runtime *runtime, const char *wanted);
/* Makes the directory and takes the lock. 0; TCW_EEXIST with the pid of the daemon that has it; another negative tcw_errno, logged. */
int tcd_runtime_open(struct tcd_runtime *runtime, pid_t *holder);
void tcd_runtime_close(struct tcd_runtime *runtime);

#endif
