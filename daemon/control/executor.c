#include "executor.h"

#include "executor_process.h"
#include "executor_requests.h"

#include <tcw/member.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    HEARTBEAT_MS = 1000,
    SILENCE_BEATS =
        10, /* without an answer; before watch.c stops feeding the watchdog: replacing an executor comes before ending the node */
    QUIT_MS = 5000,
    START_MS = 120000,     /* of a kept one: drivers and libraries take their time */
    FIRST_PAUSE_MS = 1000, /* of a kept one that could not be used, then twice as long each time */
    LONGEST_PAUSE_MS = 60000,
    FAILED_PAUSE_MS = 5000, /* of one that dies too often: until the next try */
    RETRY_MS = 5,
    DEFAULT_GRACE_S = 60,
    DEFAULT_RESTARTS = 10,
};
static const uint64_t failure_window_ns = 60000000000ull;

typedef enum executor_state {
    EXECUTOR_STOPPED,
    EXECUTOR_RUNNING,
    EXECUTOR_QUITTING, /* told to leave because it holds nothing; requests wait for the next process */
    EXECUTOR_DYING,    /* nothing of it runs any more and the callbacks know; likewise. It has not ended: its memory is still in use */
    EXECUTOR_ENDING,   /* the death is being told to the callbacks; likewise */
} executor_state;

struct tcd_executor {
    uv_loop_t *loop;
    char *program;
    unsigned device;
    struct tcd_executor_callbacks callbacks;
    unsigned grace_s, restart_limit;

    executor_state state;
    struct tcd_executor_process *process;
    unsigned processes; /* not yet off the loop: at most one lives, its predecessor may be closing */

    struct tcd_requests queue;    /* not sent yet */
    struct tcd_requests awaiting; /* sent, answer owed */
    struct tcd_requests local;    /* need no process, or could not be sent: answered in the next turn of the loop */
    uint64_t next_cookie;

    uv_timer_t heartbeat;
    uv_timer_t patience; /* with a process that was told to leave: kills it at the end */
    uv_timer_t retry;    /* sends again when the socket cannot say when */
    uv_idle_t answers;   /* runs `local` */
    unsigned handles;    /* open on the loop, of the four above and `revival` */

    uint64_t last_use_ns;
    uint64_t last_answer_ns;
    uint64_t ping_sent_ns; /* 0: none under way */
    unsigned silent_beats; /* since then. Not a time: while this process itself is stopped, nobody else is silent */

    bool restarting; /* the next start follows a death */
    unsigned restarts;
    unsigned deaths; /* within the window */
    uint64_t window_start_ns;

    /* Kept executors. */
    bool kept;
    char gpu[TCW_NAME_BYTES];
    char *const *environment;
    bool ready;
    int trouble; /* 0 none; else why it cannot be used, said by its last process or by the way that ended */
    char trouble_text[TCW_TEXT_BYTES];
    unsigned pause_ms;
    uv_timer_t revival;

    bool closing;
    void (*closed)(void *arg);
    void *closed_arg;
};

/* ---- answers without a process ---- */

static void answer_local(struct tcd_executor *executor)
{
    struct tcd_requests answered;
    tcd_requests_reset(&answered);
    tcd_requests_move(&answered, &executor->local);
    struct tcd_request *request;
    while ((request = tcd_requests_shift(&answered)))
        tcd_request_fail(request, request->code, request->code < 0 ? "the request could not be sent to the executor" : "");
}

static void on_local_answers(uv_idle_t *idle)
{
    uv_idle_stop(idle);
    answer_local(idle->data);
}

/* Never in the call that makes the request: the caller is not prepared for the answer yet. */
static void answer_later(struct tcd_executor *executor, struct tcd_request *request, int code)
{
    request->code = code;
    tcd_request_close_fds(request);
    tcd_requests_append(&executor->local, request);
    uv_idle_start(&executor->answers, on_local_answers);
}

/* ---- the process ---- */

static bool executor_start(struct tcd_executor *executor);
static void executor_flush(struct tcd_executor *executor);
static void executor_close_finish(struct tcd_executor *executor);

static void executor_note_death(struct tcd_executor *executor)
{
    uint64_t now = tcw_now_ns();
    if (now - executor->window_start_ns > failure_window_ns) {
        executor->window_start_ns = now;
        executor->deaths = 0;
    }
    ++executor->deaths;
    executor->restarting = true;
}

static void on_patience(uv_timer_t *timer);
static void on_heartbeat(uv_timer_t *timer);
static int executor_offer(struct tcd_executor *executor, const struct tcd_ex_message *message, const int *fds, unsigned fd_count);

static void executor_quit(struct tcd_executor *executor)
{
    struct tcd_ex_message quit = {.opcode = TCD_EX_QUIT};
    executor->state = EXECUTOR_QUITTING;
    executor_offer(executor, &quit, NULL, 0);
    uv_timer_start(&executor->patience, on_patience, QUIT_MS, 0);
}

static void set_trouble(struct tcd_executor *executor, int code, const char *text)
{
    executor->trouble = code;
    snprintf(executor->trouble_text, sizeof executor->trouble_text, "%s", text);
    executor->pause_ms = executor->pause_ms ? executor->pause_ms * 2 : FIRST_PAUSE_MS;
    if (executor->pause_ms > LONGEST_PAUSE_MS)
        executor->pause_ms = LONGEST_PAUSE_MS;
}

static void on_ready(struct tcd_executor *executor, const struct tcd_ex_message *message)
{
    if (executor->closing || executor->state != EXECUTOR_RUNNING || executor->ready)
        return;
    executor->ready = message->code >= 0;
    if (executor->ready) {
        executor->trouble = 0;
        executor->pause_ms = 0;
        if (executor->kept) {
            uv_timer_stop(&executor->patience);
            uv_timer_start(&executor->heartbeat, on_heartbeat, HEARTBEAT_MS, HEARTBEAT_MS);
        }
    } else {
        set_trouble(executor, message->code, *message->text ? message->text : tcw_error_text(message->code));
        executor_quit(executor);
    }
    if (executor->callbacks.ready)
        executor->callbacks.ready(executor->callbacks.arg, executor, message);
    if (!executor->ready) {
        tcd_requests_fail(&executor->awaiting, executor->trouble, executor->trouble_text);
        tcd_requests_fail(&executor->queue, executor->trouble, executor->trouble_text);
    }
}

static void on_message(void *arg, const struct tcd_ex_message *message, int *fds, unsigned fd_count)
{
    struct tcd_executor *executor = arg;
    executor->last_answer_ns = tcw_now_ns();
    int fd = -1;
    for (unsigned i = 0; i < fd_count; ++i) {
        if (i == 0 && message->opcode == TCD_EX_ALLOCATED)
            fd = fds[i];
        else
            close(fds[i]);
    }
    switch (message->opcode) {
    case TCD_EX_DONE:
    case TCD_EX_ALLOCATED: {
        struct tcd_request *request = tcd_requests_take(&executor->awaiting, message->cookie);
        if (request && message->opcode == TCD_EX_ALLOCATED && fd < 0)
            tcd_request_fail(request, TCW_ENOMEM, "the daemon has no descriptor left for it");
        else if (request)
            tcd_request_finish(request, message, fd);
        else if (fd >= 0)
            close(fd);
        break;
    }
    case TCD_EX_FAULT:
    case TCD_EX_VIOLATION:
        if (!executor->closing && executor->callbacks.report)
            executor->callbacks.report(executor->callbacks.arg, executor, message);
        break;
    case TCD_EX_READY:
        on_ready(executor, message);
        break;
    default:
        break;
    }
}

static void on_writable(void *arg)
{
    executor_flush(arg);
}

static void on_revival(uv_timer_t *timer)
{
    struct tcd_executor *executor = timer->data;
    if (executor->state == EXECUTOR_STOPPED && !executor->closing && !executor_start(executor))
        uv_timer_start(timer, on_revival, FAILED_PAUSE_MS, 0);
}

/* A kept one has ended: the next is started at once if this one had been good for anything. */
static void executor_revive(struct tcd_executor *executor)
{
    unsigned pause_ms = executor->pause_ms;
    if (!pause_ms && executor_start(executor))
        return;
    tcd_requests_fail(&executor->queue, TCW_EEXECUTOR, "the executor cannot be started");
    uv_timer_start(&executor->revival, on_revival, pause_ms ? pause_ms : FAILED_PAUSE_MS, 0);
}

/* It ended before it was ready, without saying what is in the way. */
static void note_stillbirth(struct tcd_executor *executor, int status)
{
    char text[96];
    snprintf(text, sizeof text, "its executor ended before it was ready (%s %d)", WIFSIGNALED(status) ? "signal" : "status",
             WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
    set_trouble(executor, TCW_EEXECUTOR, text);
}

static void stop_timers(struct tcd_executor *executor)
{
    executor->ping_sent_ns = 0;
    uv_timer_stop(&executor->heartbeat);
    uv_timer_stop(&executor->patience);
    uv_timer_stop(&executor->retry);
}

/* What the process knew is lost, and what it was asked will not be answered. */
static void executor_lose(struct tcd_executor *executor, pid_t pid, int status)
{
    if (executor->kept && !executor->ready)
        note_stillbirth(executor, status);
    executor->ready = false;
    if (!executor->closing)
        executor_note_death(executor);
    tcd_requests_move(&executor->awaiting, &executor->queue);
    if (!executor->closing && executor->callbacks.died)
        executor->callbacks.died(executor->callbacks.arg, executor, pid, status);
}

/* The next one is started when this one has ended: it finds the device free then. */
static void on_dying(void *arg, int status)
{
    struct tcd_executor *executor = arg;
    if (executor->state != EXECUTOR_RUNNING || executor->closing)
        return;
    executor->state = EXECUTOR_DYING;
    stop_timers(executor);
    executor_lose(executor, tcd_executor_process_pid(executor->process), status);
}

static void on_ended(void *arg, int status)
{
    struct tcd_executor *executor = arg;
    pid_t pid = tcd_executor_process_pid(executor->process);
    bool orderly = executor->state == EXECUTOR_QUITTING, known = executor->state == EXECUTOR_DYING;
    executor->process = NULL;
    executor->state = EXECUTOR_ENDING;
    stop_timers(executor);
    /* First what is lost, then the answers: who gets one must not take for alive what went with the process. */
    if (!orderly && !known)
        executor_lose(executor, pid, status);
    executor->ready = false;
    char text[64];
    snprintf(text, sizeof text, "the executor of device %u ended", executor->device);
    tcd_requests_fail(&executor->awaiting, TCW_EEXECUTOR, text);

    executor->state = EXECUTOR_STOPPED;
    if (executor->closing)
        return; /* the rest follows when the process is off the loop */
    if (executor->kept)
        executor_revive(executor);
    else if (executor->queue.first && !executor_start(executor))
        tcd_requests_fail(&executor->queue, TCW_EEXECUTOR, "the executor cannot be started");
}

static void on_gone(void *arg)
{
    struct tcd_executor *executor = arg;
    --executor->processes;
    executor_close_finish(executor);
}

static void on_patience(uv_timer_t *timer)
{
    struct tcd_executor *executor = timer->data;
    if (executor->process)
        tcd_executor_process_kill(executor->process);
}

static bool executor_start(struct tcd_executor *executor)
{
    if (tcd_executor_failed(executor))
        return false;
    struct tcd_executor_process_events events = {on_message, on_writable, on_dying, on_ended, on_gone, executor};
    struct tcd_executor_launch launch = {executor->program, executor->device, executor->kept ? executor->gpu : NULL, executor->environment};
    if (tcd_executor_process_start(executor->loop, &launch, &events, &executor->process) < 0) {
        executor_note_death(executor);
        return false;
    }
    ++executor->processes;
    if (executor->restarting)
        ++executor->restarts;
    executor->restarting = false;
    executor->state = EXECUTOR_RUNNING;
    executor->last_use_ns = tcw_now_ns();
    executor->last_answer_ns = 0;
    if (executor->kept)
        uv_timer_start(&executor->patience, on_patience, START_MS, 0);
    else
        uv_timer_start(&executor->heartbeat, on_heartbeat, HEARTBEAT_MS, HEARTBEAT_MS);
    executor_flush(executor);
    return true;
}

static void on_retry(uv_timer_t *timer)
{
    executor_flush(timer->data);
}

/* What became of a request that was offered to the socket. TCW_EAGAIN: it stays at the head of the queue. */
static int executor_offer(struct tcd_executor *executor, const struct tcd_ex_message *message, const int *fds, unsigned fd_count)
{
    int rc = tcd_executor_process_send(executor->process, message, fds, fd_count);
    if (rc == TCW_EAGAIN) {
        tcd_executor_process_want_writable(executor->process);
    } else if (rc == TCW_EBUSY) {
        uv_timer_start(&executor->retry, on_retry, RETRY_MS, 0);
        rc = TCW_EAGAIN;
    } else if (rc == TCW_ECONN) {
        /* It is dying: whatever is queued or awaited gets its answer when it is reaped. */
        tcd_executor_process_kill(executor->process);
        rc = TCW_EAGAIN;
    }
    return rc;
}

static void executor_flush(struct tcd_executor *executor)
{
    while (executor->state == EXECUTOR_RUNNING && executor->queue.first) {
        struct tcd_request *request = executor->queue.first;
        int rc = executor_offer(executor, &request->message, request->fds, request->fd_count);
        if (rc == TCW_EAGAIN)
            return;
        tcd_requests_shift(&executor->queue);
        if (rc < 0) {
            answer_later(executor, request, rc);
        } else if (request->message.cookie) {
            tcd_request_close_fds(request);
            tcd_requests_append(&executor->awaiting, request);
        } else {
            tcd_request_drop(request);
        }
    }
}

/* ---- heartbeat and idle exit ---- */

static void on_ping_answer(void *arg, const struct tcd_ex_message *answer, int fd)
{
    struct tcd_executor *executor = arg;
    (void)fd;
    uint64_t sent = executor->ping_sent_ns;
    executor->ping_sent_ns = 0;
    if (answer->code < 0 || executor->closing || executor->state != EXECUTOR_RUNNING)
        return;
    /* `value` counts what it holds. Nothing was asked of it since: it may go, its allocations live on in the descriptors handed over. */
    uint64_t idle = tcw_now_ns() - executor->last_use_ns;
    if (executor->kept || answer->value || executor->awaiting.first || executor->queue.first || executor->last_use_ns >= sent ||
        idle < executor->grace_s * 1000000000ull)
        return;
    executor_quit(executor);
}

static int executor_enqueue(struct tcd_executor *executor, const struct tcd_ex_message *message, const int *fds, unsigned fd_count,
                            tcd_executor_done done, void *arg, struct tcd_requests *list);

static void on_heartbeat(uv_timer_t *timer)
{
    struct tcd_executor *executor = timer->data;
    if (executor->state != EXECUTOR_RUNNING)
        return;
    if (executor->ping_sent_ns) {
        /* Nothing it does takes that long: it is stopped or stuck, and only a new one can help. */
        if (++executor->silent_beats >= SILENCE_BEATS)
            tcd_executor_process_kill(executor->process);
        return;
    }
    struct tcd_ex_message ping = {.opcode = TCD_EX_PING};
    if (executor_enqueue(executor, &ping, NULL, 0, on_ping_answer, executor, &executor->queue) == 0) {
        executor->ping_sent_ns = tcw_now_ns();
        executor->silent_beats = 0;
        executor_flush(executor);
    }
}

/* ---- requests ---- */

/* Without a process there is nothing that these could undo: they are done. */
static bool opcode_needs_process(uint32_t opcode)
{
    return opcode == TCD_EX_ALLOC || opcode == TCD_EX_ATTACH || opcode == TCD_EX_WORKSPACE || opcode == TCD_EX_PLAN ||
           opcode == TCD_EX_MEM || opcode == TCD_EX_RECLAIM || opcode == TCD_EX_UNIQUE_ID || opcode == TCD_EX_COMM ||
           opcode == TCD_EX_MULTICAST || opcode == TCD_EX_MULTICAST_JOIN || opcode == TCD_EX_MULTICAST_BIND;
}

static int executor_enqueue(struct tcd_executor *executor, const struct tcd_ex_message *message, const int *fds, unsigned fd_count,
                            tcd_executor_done done, void *arg, struct tcd_requests *list)
{
    struct tcd_request *request;
    int rc = tcd_request_create(message, fds, fd_count, done, arg, &request);
    if (rc < 0)
        return rc;
    request->message.cookie = done ? ++executor->next_cookie : 0;
    tcd_requests_append(list, request);
    return 0;
}

/*
 * What undoes something. Of the dying process it is answered when that has ended, because only then its memory is used no more; but what
 * waits for the next process may be meant.
 */
static int request_of_dying(struct tcd_executor *executor, const struct tcd_ex_message *message, const int *fds, unsigned fd_count,
                            tcd_executor_done done, void *arg)
{
    if (executor->queue.first)
        return executor_enqueue(executor, message, fds, fd_count, done, arg, &executor->queue);
    return done ? executor_enqueue(executor, message, NULL, 0, done, arg, &executor->awaiting) : 0;
}

int tcd_executor_request(struct tcd_executor *executor, const struct tcd_ex_message *message, const int *fds, unsigned fd_count,
                         tcd_executor_done done, void *arg)
{
    if (executor->closing)
        return TCW_EEXECUTOR;
    if (fd_count > TCW_MAX_FDS)
        return TCW_EINVAL;
    executor->last_use_ns = tcw_now_ns();
    if (executor->state == EXECUTOR_DYING && !opcode_needs_process(message->opcode))
        return request_of_dying(executor, message, fds, fd_count, done, arg);
    if (executor->state != EXECUTOR_RUNNING && !opcode_needs_process(message->opcode)) {
        if (!done)
            return 0;
        int rc = executor_enqueue(executor, message, NULL, 0, done, arg, &executor->local);
        if (rc == 0)
            uv_idle_start(&executor->answers, on_local_answers);
        return rc;
    }
    if (executor->trouble && !executor->ready && opcode_needs_process(message->opcode))
        return executor->trouble;
    if (executor->state == EXECUTOR_DYING && tcd_executor_failed(executor))
        return TCW_EEXECUTOR; /* there will be no next one for now */
    if (executor->state == EXECUTOR_STOPPED && !executor_start(executor))
        return TCW_EEXECUTOR;
    int rc = executor_enqueue(executor, message, fds, fd_count, done, arg, &executor->queue);
    if (rc == 0 && executor->state == EXECUTOR_RUNNING && executor->queue.first->next == NULL)
        executor_flush(executor);
    return rc;
}

/* ---- life ---- */

int tcd_executor_create(uv_loop_t *loop, const char *program, unsigned device, const struct tcd_executor_callbacks *callbacks,
                        struct tcd_executor **out)
{
    struct tcd_executor *executor = calloc(1, sizeof *executor);
    if (!executor)
        return TCW_ENOMEM;
    executor->program = strdup(program);
    if (!executor->program) {
        free(executor);
        return TCW_ENOMEM;
    }
    executor->loop = loop;
    executor->device = device;
    executor->callbacks = *callbacks;
    executor->grace_s = DEFAULT_GRACE_S;
    executor->restart_limit = DEFAULT_RESTARTS;
    tcd_requests_reset(&executor->queue);
    tcd_requests_reset(&executor->awaiting);
    tcd_requests_reset(&executor->local);
    uv_timer_init(loop, &executor->heartbeat);
    uv_timer_init(loop, &executor->patience);
    uv_timer_init(loop, &executor->retry);
    uv_timer_init(loop, &executor->revival);
    uv_idle_init(loop, &executor->answers);
    executor->heartbeat.data = executor->patience.data = executor->retry.data = executor->revival.data = executor->answers.data = executor;
    executor->handles = 5;
    *out = executor;
    return 0;
}

void tcd_executor_configure(struct tcd_executor *executor, unsigned grace_s, unsigned restart_limit)
{
    executor->grace_s = grace_s;
    executor->restart_limit = restart_limit;
}

void tcd_executor_keep(struct tcd_executor *executor, const char *gpu, char *const *environment)
{
    executor->environment = environment;
    snprintf(executor->gpu, sizeof executor->gpu, "%s", gpu);
    executor->kept = true;
    executor_revive(executor);
}

static void on_handle_closed(uv_handle_t *handle)
{
    struct tcd_executor *executor = handle->data;
    if (--executor->handles)
        return;
    if (executor->closed)
        executor->closed(executor->closed_arg);
    free(executor->program);
    free(executor);
}

/* Once no process is left: the last answers, then the handles. */
static void executor_close_finish(struct tcd_executor *executor)
{
    if (!executor->closing || executor->processes || uv_is_closing((uv_handle_t *)&executor->heartbeat))
        return;
    answer_local(executor);
    tcd_requests_fail(&executor->queue, TCW_EEXECUTOR, "the executor was stopped");
    tcd_requests_fail(&executor->awaiting, TCW_EEXECUTOR, "the executor was stopped");
    uv_close((uv_handle_t *)&executor->heartbeat, on_handle_closed);
    uv_close((uv_handle_t *)&executor->patience, on_handle_closed);
    uv_close((uv_handle_t *)&executor->retry, on_handle_closed);
    uv_close((uv_handle_t *)&executor->revival, on_handle_closed);
    uv_close((uv_handle_t *)&executor->answers, on_handle_closed);
}

void tcd_executor_destroy(struct tcd_executor *executor, unsigned grace_ms, void (*closed)(void *arg), void *arg)
{
    if (!executor || executor->closing)
        return;
    executor->closing = true;
    executor->closed = closed;
    executor->closed_arg = arg;
    if (executor->process) {
        struct tcd_ex_message quit = {.opcode = TCD_EX_QUIT};
        bool asked = executor->state == EXECUTOR_QUITTING || tcd_executor_process_send(executor->process, &quit, NULL, 0) == 0;
        uv_update_time(executor->loop); /* the grace counts from now, not from when this turn of the loop began */
        uv_timer_start(&executor->patience, on_patience, asked ? grace_ms : 0, 0);
    }
    executor_close_finish(executor);
}

unsigned tcd_executor_device(const struct tcd_executor *executor)
{
    return executor->device;
}
pid_t tcd_executor_pid(const struct tcd_executor *executor)
{
    return executor->process ? tcd_executor_process_pid(executor->process) : 0;
}
unsigned tcd_executor_restarts(const struct tcd_executor *executor)
{
    return executor->restarts;
}
uint64_t tcd_executor_heartbeat_ns(const struct tcd_executor *executor)
{
    return executor->last_answer_ns;
}

bool tcd_executor_failed(const struct tcd_executor *executor)
{
    return executor->deaths > executor->restart_limit && tcw_now_ns() - executor->window_start_ns <= failure_window_ns;
}

bool tcd_executor_ready(const struct tcd_executor *executor)
{
    return executor->ready;
}

const char *tcd_executor_trouble(const struct tcd_executor *executor, int *code)
{
    *code = executor->ready ? 0 : executor->trouble;
    return *code ? executor->trouble_text : NULL;
}
