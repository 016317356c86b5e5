#include "executor_process.h"

#include "process.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

struct tcd_executor_process {
    struct tcd_executor_process_events events;
    uv_process_t child;
    uv_poll_t poll;
    uv_poll_t hangup;
    int socket;
    int lifeline;     /* our end */
    unsigned handles; /* open on the loop */
    bool started;     /* the child exists: `ended` and `gone` are owed */
    bool reading;     /* the socket has not hung up */
    bool ended;
    bool want_writable;
};

static void on_closed(uv_handle_t *handle)
{
    struct tcd_executor_process *process = handle->data;
    if (--process->handles)
        return;
    close(process->socket);
    close(process->lifeline);
    if (process->started)
        process->events.gone(process->events.arg);
    free(process);
}

static void close_handles(struct tcd_executor_process *process)
{
    uv_close((uv_handle_t *)&process->child, on_closed);
    uv_close((uv_handle_t *)&process->poll, on_closed);
    uv_close((uv_handle_t *)&process->hangup, on_closed);
}

/* Takes what has arrived. False: there will be no more. */
static bool read_messages(struct tcd_executor_process *process)
{
    for (;;) {
        struct tcd_ex_message message;
        int fds[TCW_MAX_FDS];
        unsigned fd_count;
        int got = tcd_ex_receive(process->socket, &message, fds, &fd_count);
        if (got == 0)
            return true;
        if (got < 0)
            return false;
        process->events.message(process->events.arg, &message, fds, fd_count);
    }
}

static void on_poll(uv_poll_t *poll, int status, int events);

static void poll_update(struct tcd_executor_process *process)
{
    uv_poll_start(&process->poll, UV_READABLE | UV_DISCONNECT | (process->want_writable ? UV_WRITABLE : 0), on_poll);
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
    struct tcd_executor_process *process = poll->data;
    if (status < 0 || (events & (UV_READABLE | UV_DISCONNECT))) {
        if (!read_messages(process) || status < 0) {
            /* Dead, or as good as dead: without a socket it can only be replaced. */
            process->reading = false;
            uv_poll_stop(poll);
            tcd_executor_process_kill(process);
            return;
        }
    }
    if ((events & UV_WRITABLE) && process->want_writable) {
        process->want_writable = false;
        poll_update(process);
        process->events.writable(process->events.arg);
    }
}

/* Nobody has the other end of the lifeline any more. Who has ended is known later at the latest. */
static void on_hangup(uv_poll_t *poll, int status, int events)
{
    struct tcd_executor_process *process = poll->data;
    struct tcd_process child = {.pid = tcd_executor_process_pid(process), .pidfd = -1};
    struct tcd_fate fate;
    (void)status;
    (void)events;
    uv_poll_stop(poll);
    if (process->ended)
        return;
    tcd_process_fate(&child, &fate); /* our child, not reaped: the number is its */
    if (!fate.dead || !fate.known)
        return;
    if (process->reading)
        read_messages(process);
    process->reading = false;
    uv_poll_stop(&process->poll);
    process->events.dying(process->events.arg, fate.status);
}

static void on_exit_status(uv_process_t *child, int64_t exit_status, int term_signal)
{
    struct tcd_executor_process *process = child->data;
    process->ended = true; /* the pid may belong to somebody else from now on */
    if (process->reading)
        read_messages(process);
    process->reading = false;
    close_handles(process);
    process->events.ended(process->events.arg, (int)(exit_status & 0xff) << 8 | (term_signal & 0x7f));
}

/* Of the socketpair and of the lifeline. */
struct ends {
    int ours[2], theirs[2];
};

static void close_both(const int *fds)
{
    close(fds[0]);
    close(fds[1]);
}

static bool open_ends(struct ends *ends)
{
    int pair[2], line[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
        return false;
    if (pipe2(line, O_CLOEXEC | O_NONBLOCK) < 0) {
        close_both(pair);
        return false;
    }
    *ends = (struct ends){{pair[0], line[0]}, {pair[1], line[1]}};
    return true;
}

/* With our ends and its handles on the loop. NULL: they are still the caller's. */
static struct tcd_executor_process *create(uv_loop_t *loop, const struct tcd_executor_process_events *events, const struct ends *ends)
{
    struct tcd_executor_process *process = calloc(1, sizeof *process);
    if (!process)
        return NULL;
    process->events = *events;
    process->socket = ends->ours[0];
    process->lifeline = ends->ours[1];
    process->child.data = process->poll.data = process->hangup.data = process;
    /* All that can fail here is making them non-blocking, which they are. */
    uv_poll_init(loop, &process->poll, process->socket);
    uv_poll_init(loop, &process->hangup, process->lifeline);
    process->handles = 3;
    return process;
}

static int spawn(uv_loop_t *loop, struct tcd_executor_process *process, const struct tcd_executor_launch *launch, const struct ends *ends)
{
    char mode[] = "--executor", option[] = "--device", number[16], cuda[] = "--cuda";
    char *program = (char *)(uintptr_t)launch->program, *gpu = (char *)(uintptr_t)launch->gpu;
    char *argv[] = {program, mode, option, number, gpu ? cuda : NULL, gpu, NULL};
    uv_stdio_container_t stdio[5] = {
        {.flags = UV_IGNORE},
        {.flags = UV_INHERIT_FD, .data.fd = STDOUT_FILENO},
        {.flags = UV_INHERIT_FD, .data.fd = STDERR_FILENO},
        {.flags = UV_INHERIT_FD, .data.fd = ends->theirs[0]},
        {.flags = UV_INHERIT_FD, .data.fd = ends->theirs[1]},
    };
    uv_process_options_t options = {.file = program,
                                    .args = argv,
                                    .env = (char **)(uintptr_t)launch->environment,
                                    .exit_cb = on_exit_status,
                                    .stdio_count = 5,
                                    .stdio = stdio};
    snprintf(number, sizeof number, "%u", launch->device);
    return uv_spawn(loop, &process->child, &options);
}

int tcd_executor_process_start(uv_loop_t *loop, const struct tcd_executor_launch *launch, const struct tcd_executor_process_events *events,
                               struct tcd_executor_process **out)
{
    struct ends ends;
    if (!open_ends(&ends))
        return TCW_EEXECUTOR;
    struct tcd_executor_process *process = create(loop, events, &ends);
    if (!process) {
        close_both(ends.ours);
        close_both(ends.theirs);
        return TCW_ENOMEM;
    }
    int rc = spawn(loop, process, launch, &ends);
    close_both(ends.theirs);
    if (rc < 0) {
        close_handles(process);
        return TCW_EEXECUTOR;
    }
    process->started = process->reading = true;
    poll_update(process);
    uv_poll_start(&process->hangup, UV_READABLE | UV_DISCONNECT, on_hangup);
    *out = process;
    return 0;
}

int tcd_executor_process_send(struct tcd_executor_process *process, const struct tcd_ex_message *message, const int *fds, unsigned fd_count)
{
    return process->reading ? tcd_ex_send(process->socket, message, fds, fd_count) : TCW_ECONN;
}

void tcd_executor_process_want_writable(struct tcd_executor_process *process)
{
    if (!process->reading || process->want_writable)
        return;
    process->want_writable = true;
    poll_update(process);
}

void tcd_executor_process_kill(struct tcd_executor_process *process)
{
    if (!process->ended)
        uv_process_kill(&process->child, SIGKILL);
}

pid_t tcd_executor_process_pid(const struct tcd_executor_process *process)
{
    return uv_process_get_pid(&process->child);
}
