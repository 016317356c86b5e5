/*
 * A group: a name and its successive instances. From the configuration (lives as long as the configuration names it) or made by its
 * members (lives as long as it has any). Control process, loop thread; freed by tcd_group_release.
 */
#ifndef TCD_CONTROL_GROUP_H
#define TCD_CONTROL_GROUP_H

#include "instance.h"

struct tcd_group {
    struct tcd_daemon *daemon;
    struct tcd_link link;
    char name[TCW_NAME_BYTES];
    bool configured;
    uint32_t uid;  /* of the first member: a group made by members is that user's */
    uint32_t size; /* of the current instances; a shrunk group returns to its configured size when everybody has left */
    uint32_t row;  /* while it has no instance */
    uint64_t epoch;
    struct tcd_link instances;
    struct tcd_instance *forming; /* at most one */
    struct tcd_instance *ready;   /* at most one */
};

struct tcd_group *tcd_group_find(struct tcd_daemon *daemon, const char *name);
/* Makes struct groups for the configuration's, and lets go of those it does not name any more. */
int tcd_groups_configure(struct tcd_daemon *daemon);
/* 0, or why no process can join this group of the configuration: other nodes, devices that are not built in. */
int tcd_group_runnable(struct tcd_daemon *daemon, const struct tcf_group *wanted, struct tcw_error *error);
/* Frees the group when nothing needs it any more. */
void tcd_group_release(struct tcd_group *group);
/* The latest BROKEN instance that still has members, or NULL. */
struct tcd_instance *tcd_group_broken(const struct tcd_group *group);
/* The longest wait of one operation. */
uint64_t tcd_group_deadline_ns(const struct tcd_group *group);

/* Handlers. */
void tcd_group_join(struct tcd_client *client, uint32_t sequence, const struct tcw_group_join *join);

#endif
