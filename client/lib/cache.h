/*
 * Plans of the one-call forms, by descriptor; the least recently used goes first. All ranks make the same calls in the same order, so
 * all caches hold the same and drop the same.
 *
 * Owner: the group, under its create_lock.
 */
#ifndef TCC_CACHE_H
#define TCC_CACHE_H

#include <stdint.h>

struct trtcoll_group;
struct trtcoll_plan;
struct tcw_plan_desc;

enum { TCC_CACHE_PLANS = 64 };

struct tcc_cache {
    struct trtcoll_plan *plans[TCC_CACHE_PLANS]; /* most recently used first */
    uint32_t count;
};

/* The plan of this descriptor, made if it is missing. 0 or the code of plan creation. */
int tcc_cache_get(struct trtcoll_group *group, const struct tcw_plan_desc *desc, struct trtcoll_plan **plan);

/* Releases everything. */
void tcc_cache_clear(struct trtcoll_group *group);

#endif
