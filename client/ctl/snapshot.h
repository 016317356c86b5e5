/*
 * What the stats segment said at one moment: the rows of its tables as sorted arrays, with texts cleaned for printing. Numbers that the
 * segment does not have (an older daemon) are TCC_ABSENT, texts "". Owner: the command that loaded it; tcc_snapshot_free.
 */
#ifndef TCC_CTL_SNAPSHOT_H
#define TCC_CTL_SNAPSHOT_H

#include "text.h"

#include <tcw/stats_reader.h>

/* The daemon, as far as it can be seen from outside. */
typedef enum tcc_life {
    TCC_LIFE_OK,
    TCC_LIFE_STUCK,   /* the process is there, but its loop has not turned for a while */
    TCC_LIFE_STOPPED, /* stopped by a signal or a debugger */
    TCC_LIFE_GONE,
} tcc_life;

enum { TCC_LOAD_LATENCY = 1, TCC_LOAD_RECORDS = 2 };

struct tcc_snapshot {
    struct tcw_stats_about about;
    tcc_life life;
    uint64_t taken_ns;      /* when it was read, CLOCK_MONOTONIC */
    uint64_t as_of_ns;      /* the moment the rows describe: now, or the last heartbeat of a daemon that does not run */
    uint64_t as_of_real_ns; /* the same, CLOCK_REALTIME; 0: before the last boot */

    struct tcw_stats_daemon daemon;
    struct tcw_stats_device *devices;             /* by number */
    struct tcw_stats_client *clients;             /* by id */
    struct tcw_stats_group *groups;               /* by name, newest epoch first */
    struct tcw_stats_member *members;             /* by group id and rank */
    struct tcw_stats_latency *latencies;          /* by operation, lane, size class; only with runs; TCC_LOAD_LATENCY */
    struct tcw_stats_record *records;             /* by group id, lane, step, rank; TCC_LOAD_RECORDS */
    struct tcw_stats_communicator *communicators; /* by id */
    size_t device_count, client_count, group_count, member_count, latency_count, record_count, communicator_count;

    uint32_t latency_buckets;
    uint64_t latency_limits[TCW_LATENCY_BUCKETS];
};

/* 0 or a code of tcw_stats_reader_open with *why. `ascii`: replace everything else in texts. */
int tcc_snapshot_load(const char *path, unsigned flags, bool ascii, struct tcc_snapshot *snapshot, const char **why);
void tcc_snapshot_free(struct tcc_snapshot *snapshot);

/* What is to be known about a snapshot of a daemon that does not run, in words; false: it runs. */
bool tcc_snapshot_caution(const struct tcc_snapshot *snapshot, char *text, size_t size);
const char *tcc_life_name(tcc_life life); /* "running", "stuck", "stopped", "gone" */

/* Members of a group, by rank; contiguous. */
const struct tcw_stats_member *tcc_snapshot_members(const struct tcc_snapshot *snapshot, uint64_t group, size_t *count);
const struct tcw_stats_member *tcc_snapshot_member(const struct tcc_snapshot *snapshot, uint64_t group, uint64_t rank);
const struct tcw_stats_group *tcc_snapshot_group(const struct tcc_snapshot *snapshot, uint64_t group);
const struct tcw_stats_client *tcc_snapshot_client(const struct tcc_snapshot *snapshot, uint64_t client);

typedef enum tcc_group_state { TCC_GROUP_CONFIGURED, TCC_GROUP_FORMING, TCC_GROUP_READY, TCC_GROUP_BROKEN } tcc_group_state;
const char *tcc_group_state_name(uint64_t state);
const char *tcc_member_state_name(uint64_t state);
const char *tcc_device_kind_name(uint64_t kind);

/* One lane of a member. */
struct tcc_progress {
    uint64_t started, finished, hash, state, since_ns, missing;
    bool waits; /* inside a run, for the ranks of `missing` */
};
struct tcc_progress tcc_member_progress(const struct tcw_stats_member *member, tcw_lane lane);

/* Who keeps a lane of a group waiting. */
struct tcc_wait {
    uint64_t missing;  /* ranks that the furthest wait for and that have not got there themselves; 0: nobody waits */
    uint64_t waiting;  /* the furthest ranks, which wait */
    uint64_t since_ns; /* the earliest of them, CLOCK_MONOTONIC */
    uint64_t step;     /* the run they are in */
    bool mutual;       /* all have got there and wait for each other: missing is equal to waiting */
};
struct tcc_wait tcc_group_wait(const struct tcc_snapshot *snapshot, const struct tcw_stats_group *group, tcw_lane lane);

/* Nanoseconds from `since_ns` to the moment of the snapshot, never negative. */
uint64_t tcc_snapshot_age(const struct tcc_snapshot *snapshot, uint64_t since_ns);

#endif
