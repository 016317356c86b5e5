/*
 * The collectives of the model through trtcoll: one membership in a group, then per lane two plans and the memory they work on.
 *
 * Owner of both objects: the creator, a single thread of one rank's process. Collectives go before their membership.
 */
#ifndef EXAMPLES_COLLECTIVES_TRTCOLL_H
#define EXAMPLES_COLLECTIVES_TRTCOLL_H

#include "collectives.h"
#include "gpu.h"

#include <trtcoll.h>

/* An attached process that is a rank of a group. */
struct membership {
    struct trtcoll_ctx *ctx;
    struct trtcoll_group *group;
    struct gpu *gpu; /* NULL: host devices */
    uint32_t rank, nranks;
};

/* Collective: waits for the other ranks. 0 or a negative TRTCOLL_E* code; membership_close is right in both cases. */
int membership_open(struct membership *membership, const char *socket_path, const char *group, uint32_t rank);
void membership_close(struct membership *membership);

/* Collective: makes the plans of one lane. 0 or a negative TRTCOLL_E* code. */
int collectives_create_lane(struct membership *membership, trtcoll_lane lane, struct collectives **collectives);

/* What the daemon decided for the fused all-reduce, in words, and how many runs of both plans had to be copied. */
int collectives_lane_info(struct collectives *collectives, char *decision, size_t size, uint64_t *staged_runs);

#endif
