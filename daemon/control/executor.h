/*
 * The control process's face of one executor process: starts it, speaks to it, notices its death, starts the next one.
 *
 * Lives in the control process (loop thread). Created for every configured device; the process itself is started on first use and, after a
 * death, again on next use (at most `restart_limit` times a minute, then the device is reported failed and requests are refused with
 * EEXECUTOR). Executors of GPUs are kept: started at once, and again whenever they end; while the GPU cannot be used, with growing pauses,
 * and requests are refused with what is in the way. One that leaves a heartbeat unanswered for 10 s is killed; one whose threads stand
 * still in a driver or a library says so and ends by itself (daemon/executor/chores.h). So a request that needs nobody but its executor has
 * its answer in bounded time. A request either gets its callback exactly once (with EEXECUTOR if the process died first, EAGAIN never) or
 * was refused synchronously.
 */
#ifndef TCD_CONTROL_EXECUTOR_H
#define TCD_CONTROL_EXECUTOR_H

#include "../shared/executor_wire.h"

#include <stdbool.h>
#include <sys/types.h>
#include <uv.h>

struct tcd_executor;

/* Answer to a request. `fd`: the memory, for ALLOC, the callee's to close; else -1. */
typedef void (*tcd_executor_done)(void *arg, const struct tcd_ex_message *answer, int fd);

struct tcd_executor_callbacks {
    /*
     * The process died or was killed: every attachment it served is gone. `status` as from waitpid. On devices work that it had launched
     * may go on for a moment: what it could still write to is free when a request that says so (MEM_DROP, DETACH) is answered.
     */
    void (*died)(void *arg, struct tcd_executor *executor, pid_t pid, int status);
    /* FAULT or VIOLATION. */
    void (*report)(void *arg, struct tcd_executor *executor, const struct tcd_ex_message *message);
    void *arg;
    /* READY: the facts of the device; or why it cannot be used (code): it is tried again later. May be NULL. */
    void (*ready)(void *arg, struct tcd_executor *executor, const struct tcd_ex_message *message);
};

/* `program`: path of trtcolld (started as `trtcolld --executor --device N`, the socketpair as descriptor 3). */
int tcd_executor_create(uv_loop_t *loop, const char *program, unsigned device, const struct tcd_executor_callbacks *callbacks,
                        struct tcd_executor **executor);
/* Asks it to quit, kills it after `grace_ms`; `closed` is called when nothing of it is left on the loop. */
void tcd_executor_destroy(struct tcd_executor *executor, unsigned grace_ms, void (*closed)(void *arg), void *arg);

/*
 * Sends a request, starting the process if none runs; messages queue while it starts. The fds are duplicated before return where needed:
 * the caller keeps its own. `done` may be NULL for messages without an answer. The cookie in *message is chosen here.
 */
int tcd_executor_request(struct tcd_executor *executor, const struct tcd_ex_message *message, const int *fds, unsigned fd_count,
                         tcd_executor_done done, void *arg);

/*
 * Settings that a reload may change. `grace_s`: how long a process that holds nothing (no attachment, no client memory) stays;
 * `restart_limit`: deaths a minute that are put up with; after one more the device counts as failed until a minute has passed. Defaults: 60
 * and 10.
 */
void tcd_executor_configure(struct tcd_executor *executor, unsigned grace_s, unsigned restart_limit);
/*
 * From now on the process is always there, for the GPU with this uuid or ordinal: `--cuda GPU` is added to its command line. It has two
 * minutes to be ready. The environment stays the caller's and must outlive the executor.
 */
void tcd_executor_keep(struct tcd_executor *executor, const char *gpu, char *const *environment);

unsigned tcd_executor_device(const struct tcd_executor *executor);
pid_t tcd_executor_pid(const struct tcd_executor *executor); /* 0: not running */
unsigned tcd_executor_restarts(const struct tcd_executor *executor);
uint64_t tcd_executor_heartbeat_ns(const struct tcd_executor *executor); /* last answer seen, CLOCK_MONOTONIC; 0 none */
bool tcd_executor_failed(const struct tcd_executor *executor);
bool tcd_executor_ready(const struct tcd_executor *executor); /* its process has said so */
/* Why a kept executor cannot be used at the moment, and the code; NULL: nothing is known against it. */
const char *tcd_executor_trouble(const struct tcd_executor *executor, int *code);

#endif
