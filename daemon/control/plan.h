/*
 * A plan of an instance: the k-th PLAN_CREATE of every rank, matched. COLLECTING until all ranks have sent theirs, QUEUED behind an earlier
 * one, BUILDING while executors answer, READY while ranks hold it; FAILED plans stay until every rank has had its answer.
 * Owned by the instance. Control process, loop thread.
 */
#ifndef TCD_CONTROL_PLAN_H
#define TCD_CONTROL_PLAN_H

#include "chooser.h"
#include "communicator.h"
#include "instance.h"

typedef enum tcd_plan_state { TCD_PLAN_COLLECTING = 1, TCD_PLAN_QUEUED, TCD_PLAN_BUILDING, TCD_PLAN_READY, TCD_PLAN_FAILED } tcd_plan_state;

struct tcd_plan {
    struct tcd_instance *instance;
    struct tcd_link link; /* in the instance, in order of numbers */
    uint64_t handle;      /* in daemon->plans: what submissions name */
    uint64_t number;      /* k; the plan_id of messages */
    tcd_plan_state state;
    struct tcw_plan_desc desc; /* of the rank that came first */
    uint32_t first_rank;
    uint64_t arrived; /* ranks that have sent theirs */
    uint64_t waiting; /* of them, those without an answer */
    uint64_t holders; /* READY: ranks that have not released it */
    uint32_t sequences[TCW_MAX_RANKS];
    uint64_t since_ns;
    struct tcd_alarm patience;
    struct tcw_error error; /* FAILED */
    struct tcd_choice choice;
    struct tcd_workspace *workspace; /* NULL: not yet, or it needs none */
    struct tcd_communicator_wait communicator;
    uint32_t outstanding; /* answers of executors */
};

/* Handlers. */
void tcd_plan_create(struct tcd_client *client, uint32_t sequence, const struct tcw_plan_create *create);
void tcd_plan_release(struct tcd_client *client, uint32_t sequence, const struct tcw_plan_release *release);

/* In any state; NULL: no rank has sent it, or all have released it. */
struct tcd_plan *tcd_plan_find(const struct tcd_instance *instance, uint64_t number);

/* Whether both are there and exchange data through the same workspaces: then kernels count their runs together. */
bool tcd_plans_share_workspace(const struct tcd_instance *instance, uint64_t number, uint64_t other);

/* Ends a plan that is not READY: answers every rank that waits. May free it. */
void tcd_plan_fail(struct tcd_plan *plan, const struct tcw_error *error);

/* The instance is BROKEN: everybody who waits for a plan gets its cause. */
void tcd_plans_fail(struct tcd_instance *instance, const struct tcw_error *cause);
void tcd_plans_forget_member(struct tcd_member *member);
void tcd_plans_free(struct tcd_instance *instance);

#endif
