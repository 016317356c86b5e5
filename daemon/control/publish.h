/*
 * The objects of the control process as rows of the stats segment. Control process, loop thread; owns the choice of rows.
 */
#ifndef TCD_CONTROL_PUBLISH_H
#define TCD_CONTROL_PUBLISH_H

#include "group.h"
#include "plan.h"

struct tcd_totals;

/* Everything that a timer keeps fresh: daemon, devices, clients, groups, members. */
void tcd_publish_all(struct tcd_daemon *daemon);
void tcd_publish_daemon(struct tcd_daemon *daemon);

void tcd_publish_client(const struct tcd_client *client);
void tcd_publish_client_ended(const struct tcd_client *client);

/* A group without instances has a row of its own; with instances they have. */
void tcd_publish_group(struct tcd_group *group);
void tcd_publish_group_ended(struct tcd_group *group);
void tcd_publish_group_began(struct tcd_group *group, struct tcd_instance *instance);
void tcd_publish_instance(const struct tcd_instance *instance);
void tcd_publish_instance_ended(struct tcd_instance *instance);

void tcd_publish_member_began(struct tcd_member *member);
void tcd_publish_member(const struct tcd_member *member);
/* The client is about to go; what its runs did stays to be seen until the instance ends. */
void tcd_publish_member_gone(const struct tcd_member *member);
void tcd_publish_member_ended(struct tcd_member *member);
/* The last runs of a lane, from the page. */
void tcd_publish_records(const struct tcd_member *member, const struct tcd_page *page, unsigned lane);
/* Cells that have changed. */
void tcd_publish_latency(struct tcd_daemon *daemon, struct tcd_totals *totals);

#endif
