/*
 * A group as the application holds it: a name, the present membership, the plans made on it, and the cache of the one-call forms.
 *
 * Owner: the context; ends with trtcoll_group_leave or the context. Threads: any. Lock order: see context.h.
 */
#ifndef TCC_GROUP_H
#define TCC_GROUP_H

#include "cache.h"
#include "member.h"

struct trtcoll_group {
    struct trtcoll_ctx *ctx;
    struct trtcoll_group *next; /* under ctx.lock */
    char name[TCW_NAME_BYTES];
    pthread_mutex_t create_lock; /* plan creation, re-forming, one-call forms */
    struct tcc_cache cache;      /* under create_lock */
    pthread_mutex_t lock;
    struct tcc_member *member;  /* under lock; never NULL */
    struct trtcoll_plan *plans; /* under lock */
};

/* 0, or EINVAL or EFORK with the last error set: the first line of every public function that takes a group. */
int tcc_group_enter(const struct trtcoll_group *group);

/* The present membership, held for the caller. */
struct tcc_member *tcc_group_member(struct trtcoll_group *group);

/* An announcement of the daemon about one of the context's groups. */
void tcc_groups_announced(struct trtcoll_ctx *ctx, const struct tcw_group_broken *broken);

/* For who watches over a context: ends what nobody will complete any more. True: requests are in flight. */
bool tcc_groups_watch(struct trtcoll_ctx *ctx);

/* Ends every group of a context that closes: in the owner's process with a message to the daemon, in a child without. */
void tcc_groups_end(struct trtcoll_ctx *ctx, bool forked);

/* Deadline of a request that waits for peers: the daemon answers it within timeout_ms. */
uint64_t tcc_peers_deadline(const struct trtcoll_ctx *ctx, uint32_t timeout_ms);

#endif
