/*
 * The process behind a client: is it alive, and what is known of its end? It is nobody's child here, so it cannot be waited for; a pidfd
 * tells that it ended, and /proc tells the signal while its parent has not reaped it. Afterwards the pidfd does, from Linux 6.15 on.
 * Stands inside its client, which calls tcd_process_close. Control process, loop thread.
 */
#ifndef TCD_CONTROL_PROCESS_H
#define TCD_CONTROL_PROCESS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct tcd_process {
    pid_t pid; /* 0: in a pid namespace that is invisible from here */
    int pidfd; /* -1: the kernel gives none; then the socket alone tells */
};

/* The peer of a connected unix socket. */
void tcd_process_open(struct tcd_process *process, int socket, pid_t pid);
void tcd_process_close(struct tcd_process *process);

struct tcd_fate {
    bool dead;  /* ended, or on its way out: it runs no instruction of its own any more */
    bool known; /* status is what waitpid would tell its parent */
    int status;
};
void tcd_process_fate(const struct tcd_process *process, struct tcd_fate *fate);

/*
 * "was killed by signal 9 (Killed)", "exited with status 0", "ended without leaving" or "closed its connection"; returns the signal, 0 if
 * none or unknown.
 */
int tcd_fate_text(const struct tcd_fate *fate, char *text, size_t bytes);

#endif
