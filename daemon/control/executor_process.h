/*
 * One executor process as its parent sees it: the child, the socketpair to it, its lifeline (a pipe that hangs up when it dies), and
 * the three handles on the loop that watch them.
 *
 * Lives in the control process (loop thread); made by control/executor.c for every start. Frees itself once the child is reaped and all
 * handles are closed, right after calling `gone`.
 */
#ifndef TCD_CONTROL_EXECUTOR_PROCESS_H
#define TCD_CONTROL_EXECUTOR_PROCESS_H

#include "../shared/executor_wire.h"

#include <stdbool.h>
#include <sys/types.h>
#include <uv.h>

struct tcd_executor_process;

struct tcd_executor_process_events {
    /* A message arrived. The fds are the callee's to close. */
    void (*message)(void *arg, const struct tcd_ex_message *message, int *fds, unsigned fd_count);
    void (*writable)(void *arg); /* asked for with _want_writable, once */
    /*
     * None of its threads runs any more, and everything it had sent was delivered; but the kernel is still at work on what it held, and a
     * device may be. `status` as from waitpid. Often comes long before `ended`, and need not come at all.
     */
    void (*dying)(void *arg, int status);
    /* The child is reaped; everything it had sent was delivered before. `status` as from waitpid. Nothing can be sent any more. */
    void (*ended)(void *arg, int status);
    void (*gone)(void *arg); /* the last call */
    void *arg;
};

/* What is started: `program --executor --device N [--cuda GPU]`, its end of the socketpair as descriptor 3, the lifeline's as 4. */
struct tcd_executor_launch {
    const char *program;
    unsigned device;
    const char *gpu;          /* uuid or ordinal; NULL: a host device */
    char *const *environment; /* NULL: the parent's */
};

/* 0, TCW_ENOMEM or TCW_EEXECUTOR (nothing is called then). */
int tcd_executor_process_start(uv_loop_t *loop, const struct tcd_executor_launch *launch, const struct tcd_executor_process_events *events,
                               struct tcd_executor_process **process);

/* As tcd_ex_send. */
int tcd_executor_process_send(struct tcd_executor_process *process, const struct tcd_ex_message *message, const int *fds,
                              unsigned fd_count);
void tcd_executor_process_want_writable(struct tcd_executor_process *process);
void tcd_executor_process_kill(struct tcd_executor_process *process); /* SIGKILL; `ended` follows */
pid_t tcd_executor_process_pid(const struct tcd_executor_process *process);

#endif
