#include "daemon.h"

#include "client.h"
#include "communicator.h"
#include "environment.h"
#include "group.h"
#include "instance_break.h"
#include "notify.h"
#include "publish.h"
#include "text.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

enum {
    EXIT_ALREADY_RUNNING = 3,
    EXIT_CONFIG = 2,
    EXECUTOR_GRACE_MS = 2000,
    STATS_GROUPS = TCF_MAX_GROUPS * 2,
    STATS_MEMBERS = 512,
    STATS_COMMUNICATORS = 64,
    MAX_HANDLES = 1 << 20,
};

/* ---- words ---- */

static uint64_t realtime_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000000000ull + (uint64_t)now.tv_nsec;
}

static void remember(struct tcd_daemon *daemon, const char *text)
{
    tcw_text_set(daemon->counters.last_problem, sizeof(daemon->counters.last_problem), text);
    daemon->counters.last_problem_ns = realtime_ns();
}

void tcd_daemon_problem(struct tcd_daemon *daemon, const char *format, ...)
{
    char text[TCW_TEXT_BYTES * 2];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    tcd_log(TCD_WARNING, "%s", text);
    remember(daemon, text);
}

void tcd_daemon_remember(struct tcd_daemon *daemon, const char *format, ...)
{
    char text[TCW_TEXT_BYTES * 2];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    remember(daemon, text);
}

void tcd_daemon_show_state(struct tcd_daemon *daemon)
{
    char text[sizeof(daemon->state_text)];

    snprintf(text, sizeof(text), "%s%u clients, %u group instances",
             daemon->stopping   ? "stopping, "
             : daemon->draining ? "draining, "
                                : "",
             (unsigned)daemon->counters.clients, daemon->instances.count);
    if (!strcmp(text, daemon->state_text))
        return;
    memcpy(daemon->state_text, text, sizeof(text));
    tcd_notify_status("%s", text);
}

/* ---- ending clients ---- */

static void on_reap(uv_idle_t *idle)
{
    uv_idle_stop(idle);
    tcd_clients_reap(idle->data);
}

/* An idle handle keeps the loop from sleeping, so the next turn comes at once. */
void tcd_daemon_reap_soon(struct tcd_daemon *daemon)
{
    uv_idle_start(&daemon->reaper, on_reap);
}

/* ---- stopping ---- */

static void close_all(struct tcd_daemon *daemon)
{
    tcd_alarm_stop(&daemon->drain_end);
    tcd_alarm_stop(&daemon->communicator_start);
    tcd_listener_close(&daemon->listener);
    tcd_signals_close(&daemon->signals);
    tcd_watch_close(&daemon->watch);
    uv_close((uv_handle_t *)&daemon->reaper, NULL);
    tcd_devices_close(daemon, EXECUTOR_GRACE_MS);
    tcd_clock_close(&daemon->clock);
}

/* The members are not to blame for each other's dismissal. */
static void abort_instances(struct tcd_daemon *daemon)
{
    struct tcw_error cause;
    uint32_t i;

    tcd_error_set(&cause, TCW_EABORTED, "the daemon ends");
    for (i = 0; i < daemon->instances.capacity; i++) {
        struct tcd_instance *instance = tcd_handle_at(&daemon->instances, i);
        if (instance)
            tcd_instance_break(instance, &cause);
    }
}

static void end_now(void *arg)
{
    struct tcd_daemon *daemon = arg;
    uint32_t i;

    if (daemon->ended)
        return;
    daemon->ended = true;
    abort_instances(daemon);
    for (i = 0; i < daemon->clients.capacity; i++) {
        struct tcd_client *client = tcd_handle_at(&daemon->clients, i);
        if (client)
            tcd_client_doom(client, TCD_DISMISSED, "the daemon ends");
    }
    tcd_clients_reap(daemon);
    daemon->draining = true;
    tcd_publish_all(daemon);
    close_all(daemon);
}

void tcd_daemon_client_ended(struct tcd_daemon *daemon)
{
    /* Not at once: this is called from within ending a client. */
    if (daemon->stopping && !daemon->ended && !daemon->counters.clients)
        tcd_alarm_set(&daemon->drain_end, &daemon->clock, 1, end_now, daemon);
}

void tcd_daemon_drain(struct tcd_daemon *daemon, bool drain)
{
    struct tcw_ok draining = {.value = 0};
    uint32_t i;

    if (daemon->draining == drain)
        return;
    daemon->draining = drain;
    tcd_log(TCD_NOTICE, drain ? "draining: nobody new is let in" : "new clients are let in again");
    for (i = 0; drain && i < daemon->clients.capacity; i++) {
        struct tcd_client *client = tcd_handle_at(&daemon->clients, i);
        if (client && client->greeted && !client->tool && !client->doom)
            tcd_client_send(client, TCW_MSG_DRAINING, 0, &draining, NULL, 0);
    }
    tcd_publish_daemon(daemon);
    tcd_daemon_show_state(daemon);
}

void tcd_daemon_stop(struct tcd_daemon *daemon)
{
    uint64_t patience = daemon->config->options.drain_ms;

    if (daemon->ended)
        return;
    if (daemon->stopping) {
        end_now(daemon);
        return;
    }
    daemon->stopping = true;
    tcd_notify_stopping();
    tcd_daemon_drain(daemon, true);
    tcd_publish_daemon(daemon);
    if (!daemon->counters.clients || !patience) {
        end_now(daemon);
        return;
    }
    tcd_log(TCD_NOTICE, "waiting up to %llu ms for %llu clients to leave", (unsigned long long)patience,
            (unsigned long long)daemon->counters.clients);
    tcd_alarm_set(&daemon->drain_end, &daemon->clock, patience, end_now, daemon);
}

/* ---- starting ---- */

/* Clients pass descriptors; the default soft limit is for interactive shells. */
static void raise_limits(void)
{
    struct rlimit files;

    if (getrlimit(RLIMIT_NOFILE, &files))
        return;
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
}

static int find_program(struct tcd_daemon *daemon)
{
    ssize_t length = readlink("/proc/self/exe", daemon->program, sizeof(daemon->program) - 1);

    if (length < 0) {
        tcd_log(TCD_ERR, "/proc/self/exe: %s", strerror(errno));
        return TCW_EIO;
    }
    daemon->program[length] = 0;
    return 0;
}

static int load_config(struct tcd_daemon *daemon, const struct tcd_daemon_options *options)
{
    struct tcf_issues issues = {0};
    tcd_level level = TCD_INFO;

    daemon->config_path = options->config_path;
    daemon->config = tcf_config_load(options->config_path, &issues);
    if (!daemon->config) {
        tcf_issues_print(&issues, stderr);
        tcf_issues_free(&issues);
        return TCW_EINVAL;
    }
    tcd_level_parse(options->log_level ? options->log_level : daemon->config->options.log_level, &level);
    tcd_log_set_level(level);
    return 0;
}

static int take_runtime(struct tcd_daemon *daemon, const struct tcd_daemon_options *options)
{
    pid_t holder = 0;
    int code;

    tcd_runtime_choose(&daemon->runtime, options->runtime_dir ? options->runtime_dir : daemon->config->options.runtime_dir);
    code = tcd_runtime_open(&daemon->runtime, &holder);
    if (code == TCW_EEXIST)
        fprintf(stderr, "trtcolld: %s: already running as pid %d\n", daemon->runtime.dir, (int)holder);
    return code;
}

static void prepare_counters(struct tcd_daemon *daemon)
{
    struct tcw_stats_daemon *counters = &daemon->counters;

    counters->pid = (uint64_t)getpid();
    counters->start_ns = realtime_ns();
    counters->generation = daemon->generation;
    tcw_text_set(counters->version, sizeof(counters->version), TCD_VERSION);
    tcw_text_set(counters->node, sizeof(counters->node), daemon->config->nodes[daemon->config->local_node].name);
}

static void prepare_tables(struct tcd_daemon *daemon)
{
    tcd_handles_init(&daemon->clients, MAX_HANDLES);
    tcd_handles_init(&daemon->instances, MAX_HANDLES);
    tcd_handles_init(&daemon->plans, MAX_HANDLES);
    tcd_handles_init(&daemon->memories, MAX_HANDLES);
    tcd_handles_init(&daemon->attachments, MAX_HANDLES);
    tcd_list_init(&daemon->groups);
    tcd_list_init(&daemon->accounts);
    tcd_list_init(&daemon->doomed);
    tcd_handles_init(&daemon->communicator_ids, MAX_HANDLES);
    tcd_list_init(&daemon->communicators);
    while (!daemon->generation)
        if (getrandom(&daemon->generation, sizeof(daemon->generation), 0) != (ssize_t)sizeof(daemon->generation))
            daemon->generation = realtime_ns() ^ (uint64_t)getpid() << 48;
}

static int open_stats(struct tcd_daemon *daemon)
{
    uint64_t clients = daemon->config->options.max_clients + 64; /* room for tools, and for a reload that allows a few more */
    struct tcd_stats_capacity capacity = {
        .devices = daemon->config->nodes[daemon->config->local_node].device_count,
        .clients = clients < 4096 ? (uint32_t)clients : 4096,
        .groups = STATS_GROUPS,
        .members = STATS_MEMBERS,
        .communicators = STATS_COMMUNICATORS,
    };
    int code = tcd_stats_create(daemon->runtime.dir, &capacity, &daemon->stats);

    if (!code)
        code = tcd_rows_open(&daemon->group_rows, STATS_GROUPS);
    if (!code)
        code = tcd_rows_open(&daemon->member_rows, STATS_MEMBERS);
    if (!code)
        code = tcd_rows_open(&daemon->communicator_rows, STATS_COMMUNICATORS);
    if (code)
        tcd_log(TCD_ERR, "%s/stats cannot be made: %s", daemon->runtime.dir, tcw_error_text(code));
    return code;
}

static int open_all(struct tcd_daemon *daemon)
{
    int code;

    tcd_clock_open(&daemon->clock, &daemon->loop);
    uv_idle_init(&daemon->loop, &daemon->reaper);
    daemon->reaper.data = daemon;
    if (tcd_waker_open(&daemon->waker))
        tcd_log(TCD_WARNING, "no asynchronous I/O: an application's event loop sees by its own timeouts that a group has broken");
    daemon->environment = tcd_environment_make(environ, daemon->config->options.multicast);
    if (!daemon->environment)
        return TCW_ENOMEM;
    tcd_environment_text(daemon->environment, daemon->counters.environment, sizeof(daemon->counters.environment));
    code = tcd_signals_open(&daemon->signals, daemon);
    if (!code)
        code = tcd_devices_open(daemon);
    if (!code)
        code = tcd_groups_configure(daemon);
    if (!code)
        code = tcd_watch_open(&daemon->watch, daemon);
    if (!code)
        code = tcd_listener_open(&daemon->listener, daemon);
    return code;
}

static void free_all(struct tcd_daemon *daemon)
{
    struct tcd_link *at, *safe;

    TCD_EACH_SAFE (at, safe, &daemon->groups)
        free(TCD_ENTRY(at, struct tcd_group, link));
    tcd_communicators_clear(daemon);
    tcd_handles_clear(&daemon->communicator_ids);
    tcd_rows_close(&daemon->communicator_rows);
    tcd_environment_free(daemon->environment);
    tcd_handles_clear(&daemon->clients);
    tcd_handles_clear(&daemon->instances);
    tcd_handles_clear(&daemon->plans);
    tcd_handles_clear(&daemon->memories);
    tcd_handles_clear(&daemon->attachments);
    tcd_waker_close(&daemon->waker);
    tcd_rows_close(&daemon->group_rows);
    tcd_rows_close(&daemon->member_rows);
    tcd_stats_destroy(daemon->stats);
    tcd_runtime_close(&daemon->runtime);
    tcf_config_free(daemon->config);
}

static int run(struct tcd_daemon *daemon)
{
    int code;

    if (uv_loop_init(&daemon->loop))
        return EXIT_FAILURE;
    code = open_all(daemon);
    if (code) {
        tcd_log(TCD_ERR, "cannot start: %s", tcw_error_text(code));
        end_now(daemon);
    } else {
        tcd_log(TCD_NOTICE, "trtcolld %s started, pid %d, node '%s', %u devices, %s", TCD_VERSION, (int)getpid(), daemon->counters.node,
                daemon->device_count, daemon->runtime.dir);
        tcd_notify_ready();
        tcd_daemon_show_state(daemon);
    }
    uv_run(&daemon->loop, UV_RUN_DEFAULT);
    if (uv_loop_close(&daemon->loop))
        tcd_log(TCD_ERR, "something was left on the loop");
    tcd_log(TCD_NOTICE, "trtcolld ended, pid %d", (int)getpid());
    return code ? EXIT_FAILURE : EXIT_SUCCESS;
}

int tcd_daemon_run(const struct tcd_daemon_options *options)
{
    struct tcd_daemon *daemon = calloc(1, sizeof(*daemon));
    int status = EXIT_FAILURE, code;

    if (!daemon)
        return EXIT_FAILURE;
    daemon->runtime.lock = -1;
    daemon->listener.socket = -1;
    daemon->waker.nothing = -1;
    tcd_log_open();
    raise_limits();
    prepare_tables(daemon);
    code = load_config(daemon, options);
    if (code) {
        status = EXIT_CONFIG;
    } else if ((code = take_runtime(daemon, options))) {
        status = code == TCW_EEXIST ? EXIT_ALREADY_RUNNING : EXIT_FAILURE;
    } else {
        prepare_counters(daemon);
        if (!find_program(daemon) && !open_stats(daemon))
            status = run(daemon);
    }
    free_all(daemon);
    free(daemon);
    return status;
}
