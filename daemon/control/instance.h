/*
 * A group instance: one forming of a group, an epoch. FORMING while members join, READY when all have, BROKEN for good when one dies,
 * leaves, times out or disagrees. It owns its members, plans and workspaces, and is freed with its last member.
 * Control process, loop thread.
 */
#ifndef TCD_CONTROL_INSTANCE_H
#define TCD_CONTROL_INSTANCE_H

#include "alarm.h"
#include "client.h"
#include "page.h"
#include "rows.h"

#include <tcf/config.h>
#include <tck/device.h>

struct tcd_group;
struct tcd_attachment;
struct tcd_communicator;
struct tcd_plan;
struct tcd_workspace;

typedef enum tcd_instance_state { TCD_FORMING = 1, TCD_READY = 2, TCD_BROKEN = 3 } tcd_instance_state;

/* A rank of an instance and the client that plays it. */
struct tcd_member {
    struct tcd_instance *instance;
    struct tcd_client *client; /* NULL: nobody yet, or gone */
    struct tcd_link of_client;
    uint32_t rank;
    struct tcd_device *device;
    uint32_t row;                      /* in the stats; TCD_NO_ROW if there is none */
    struct tcd_page page;              /* the client's */
    struct tcd_attachment *attachment; /* NULL until a served plan */
    uint32_t multiprocessors;          /* CUDA: that the client sees of its GPU; 0: it has not said */
    uint64_t plans_created;
    uint32_t plans; /* that it holds */
    bool counted;   /* against the client's quota of groups */
    bool told;      /* BROKEN: its page is aborted and it has the announcement */

    /* GROUP_JOIN or GROUP_REFORM that waits for its answer: of a FORMING member, or of a BROKEN one that shrinks. */
    bool waiting;
    uint32_t sequence;
    uint64_t waits_since_ns;
    struct tcd_alarm patience;
};

struct tcd_instance {
    struct tcd_daemon *daemon;
    struct tcd_group *group;
    struct tcd_link link; /* in the group */
    uint64_t id;          /* handle in daemon->instances: the group id of messages */
    uint64_t epoch;
    tcd_instance_state state;
    uint32_t size;
    uint32_t present; /* members with a client */
    uint32_t row;
    uint64_t deadline_ns;
    struct tcw_error cause; /* BROKEN: why */

    /* After an orderly leave a member is told only when it has finished what the one that left had finished: it may do so without it. */
    uint64_t floor_direct, floor_served;
    uint64_t gentle_until_ns;
    struct tcd_alarm gentle;

    struct tcd_link plans; /* struct tcd_plan */
    struct tcd_plan *building;
    struct tcd_link workspaces; /* struct tcd_workspace */
    struct tcd_workspace *newest[TCW_LANE_COUNT];
    uint64_t generations; /* of workspaces, both lanes */
    uint32_t ready_plans;

    /* CUDA devices, served lane; once a plan has needed them. */
    struct tcd_communicator *communicator; /* NULL: none yet */
    int gate;                              /* memfd of struct tcd_gate; -1 */

    struct tcd_member members[];
};

/* How a member goes. `text` continues "rank 2 (pid 77) ...". */
struct tcd_departure {
    bool orderly;
    int signal;
    char text[TCW_STATS_TEXT + 64];
};

/* FORMING, without members. NULL: out of memory. */
struct tcd_instance *tcd_instance_create(struct tcd_group *group, uint32_t size);
struct tcd_instance *tcd_instance_find(struct tcd_daemon *daemon, uint64_t id);
struct tcd_member *tcd_instance_member(struct tcd_instance *instance, const struct tcd_client *client);
uint64_t tcd_instance_present_ranks(const struct tcd_instance *instance);

/* FORMING: the client takes the rank and waits for its answer. The last one makes the instance READY. */
void tcd_instance_enter(struct tcd_instance *instance, uint32_t rank, struct tcd_client *client, struct tcd_device *device,
                        uint32_t sequence, uint32_t timeout_ms);
/*
 * All ranks are taken: makes the member pages and answers everybody, as soon as all devices are known. May free the instance.
 */
void tcd_instance_complete(struct tcd_instance *instance);
/* FORMING instances that waited for this device to become known are completed, or dissolved. */
void tcd_instances_device_settled(struct tcd_device *device);
/* What uses this communicator is over. */
void tcd_instances_communicator_lost(struct tcd_daemon *daemon, const struct tcd_communicator *communicator, const struct tcw_error *cause);
/* Of all members; they are of one kind. */
tck_device_kind tcd_instance_kind(const struct tcd_instance *instance);
/* FORMING: refuses everybody who waits, and frees the instance. */
void tcd_instance_dissolve(struct tcd_instance *instance, const struct tcw_error *error);

/*
 * Clients make, break and leave groups as often as they like: a line about the instance is held against the client of this rank, or of the
 * first one present.
 */
bool tcd_instance_allows_line(const struct tcd_instance *instance, uint32_t rank, tcd_level level);

/* A member goes, in any state: the others learn of it, what it holds is given back. May free the instance. */
void tcd_member_depart(struct tcd_member *member, const struct tcd_departure *departure);
/* Only gives back; the others are not told. May free the instance. */
void tcd_member_remove(struct tcd_member *member);

/* Names a rank in texts: "rank 2 (pid 77)". */
const char *tcd_member_text(const struct tcd_member *member, char *text, size_t bytes);
/* The last run that a member is known to have finished, in both lanes together. */
uint64_t tcd_member_step(const struct tcd_member *member);

/* Handlers. */
void tcd_group_leave(struct tcd_client *client, uint32_t sequence, const struct tcw_group_leave *leave);
void tcd_group_abort(struct tcd_client *client, uint32_t sequence, const struct tcw_group_abort *abort);
void tcd_group_report(struct tcd_client *client, const struct tcw_group_report *report);

#endif
