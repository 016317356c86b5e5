/*
 * The control process as a whole: what every object of it may look at. One per process, made and freed by tcd_daemon_run; objects hold a
 * pointer to it. Loop thread only.
 */
#ifndef TCD_CONTROL_DAEMON_H
#define TCD_CONTROL_DAEMON_H

#include "alarm.h"
#include "device.h"
#include "handle.h"
#include "list.h"
#include "listener.h"
#include "log.h"
#include "rows.h"
#include "runtime.h"
#include "signals.h"
#include "stats.h"
#include "waker.h"
#include "watch.h"

#include <tcf/config.h>

#include <limits.h>
#include <uv.h>

#define TCD_VERSION "0.1.0"

struct tcd_daemon {
    uv_loop_t loop;
    char program[PATH_MAX]; /* this binary, for executors */
    const char *config_path;
    struct tcf_config *config; /* immutable; a reload replaces it */
    struct tcd_runtime runtime;
    uint64_t generation;
    bool draining; /* nobody new is let in */
    bool stopping; /* draining, and leaving when everybody has left */
    bool ended;    /* only closing is left */
    struct tcd_alarm drain_end;

    struct tcd_clock clock;
    struct tcd_listener listener;
    struct tcd_signals signals;
    struct tcd_watch watch;
    struct tcd_waker waker;
    struct tcd_stats *stats;
    struct tcw_stats_daemon counters; /* the daemon's row, kept up to date */
    struct tcd_rows group_rows, member_rows, communicator_rows;

    struct tcd_device devices[TCF_MAX_DEVICES];
    uint32_t device_count;
    char **environment; /* of executors of GPUs */
    bool tuning_noted;  /* that choosing.tuning is of other GPUs (tuning.h) */

    struct tcd_link communicators;       /* struct tcd_communicator */
    struct tcd_handles communicator_ids; /* the same */
    struct tcd_communicator *making;     /* at most one at a time */
    struct tcd_alarm communicator_start;

    struct tcd_handles clients;     /* struct tcd_client */
    struct tcd_handles instances;   /* struct tcd_instance: group ids */
    struct tcd_handles plans;       /* struct tcd_plan */
    struct tcd_handles memories;    /* struct tcd_memory */
    struct tcd_handles attachments; /* struct tcd_attachment */
    struct tcd_link groups;         /* struct tcd_group */
    struct tcd_link accounts;       /* struct tcd_account */
    uint64_t last_client_id;
    uint64_t last_epoch; /* highest of the groups that are gone: a name that is taken again goes on from here, so no epoch repeats */
    uint32_t tools;      /* of the clients, operators' tools */
    uint32_t guests;     /* of the tools, those of users who may not administer */
    struct tcd_rate client_lines;
    char state_text[96]; /* as systemd knows it */

    /* Clients that are to end. Ending happens from the loop, never from inside another object's work. */
    struct tcd_link doomed;
    uv_idle_t reaper;
};

struct tcd_daemon_options {
    const char *config_path;
    const char *runtime_dir; /* NULL: the configuration's, else the rule */
    const char *log_level;   /* NULL: the configuration's */
};

/* Runs until stopped. The exit status of the process: 0, 1 failure, 2 configuration, 3 already running. */
int tcd_daemon_run(const struct tcd_daemon_options *options);

/* Logs a problem and remembers it as the latest. */
void tcd_daemon_problem(struct tcd_daemon *daemon, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Only remembers it. */
void tcd_daemon_remember(struct tcd_daemon *daemon, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Lets nobody new in, and tells clients; false ends it again. */
void tcd_daemon_drain(struct tcd_daemon *daemon, bool drain);
/* The way out: drain, wait for clients up to the drain deadline, then end. A second call ends at once. */
void tcd_daemon_stop(struct tcd_daemon *daemon);
/* Something is doomed: tcd_clients_reap runs in the next turn, which comes at once. */
void tcd_daemon_reap_soon(struct tcd_daemon *daemon);
/* Tells systemd what the daemon does, if that has changed. */
void tcd_daemon_show_state(struct tcd_daemon *daemon);
/* A client has ended: the last one may be what the daemon waits for. */
void tcd_daemon_client_ended(struct tcd_daemon *daemon);

#endif
