/*
 * A plan: one collective that all ranks have agreed on.
 *
 * Owner: its group (in its list), from creation to trtcoll_plan_release or the end of the group. It holds the membership it was made
 * in, and on the direct lane one generation of workspaces. Constant after creation but for the counters.
 */
#ifndef TCC_PLAN_H
#define TCC_PLAN_H

#include "group.h"
#include "workspace.h"

#include <tcw/plan.h>

struct trtcoll_plan {
    struct trtcoll_group *group;
    struct trtcoll_plan *next; /* under group.lock */
    struct tcc_member *member;
    struct tcc_workspace *workspace; /* direct lane */
    uint64_t handle;
    uint32_t plan_id;
    uint32_t used;                   /* bit per slot that a run brings */
    uint32_t counts[TCW_SLOT_COUNT]; /* buffers per slot */
    uint32_t ref_count;              /* buffers of a run */
    struct tcw_decision decision;
    struct tcw_plan_desc desc;
    _Atomic uint64_t runs, staged_runs; /* written under served.lock or member.run_lock: a plan has one lane */
    char reason[TCW_TEXT_BYTES];
};

/* Makes a plan of a checked descriptor, collectively. The caller holds create_lock. 0 or a code with the last error set. */
int tcc_plan_create(struct trtcoll_group *group, const struct tcw_plan_desc *desc, struct trtcoll_plan **plan);

/* Takes it out of its group and frees it, telling the daemon where that still knows it. */
int tcc_plan_release(struct trtcoll_plan *plan);

/* Frees what is local; the plan is in no list. */
void tcc_plan_destroy(struct trtcoll_plan *plan);

/* With the lock of its lane: one more run. */
static inline void tcc_plan_count(_Atomic uint64_t *runs)
{
    atomic_store_explicit(runs, atomic_load_explicit(runs, memory_order_relaxed) + 1, memory_order_relaxed);
}

/* 0, or EINVAL or EFORK with the last error set. */
int tcc_plan_enter(const struct trtcoll_plan *plan);

#endif
