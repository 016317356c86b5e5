/* Failures of clients, for one lane. Each starts and finishes its own daemon. */
#ifndef PROC_CASES_FAILURE_H
#define PROC_CASES_FAILURE_H

#include "cases.h"

/* kill -9 of rank 1 of 3 at every step of its life. */
void failure_killed_at_each_step(unsigned lane);
/* kill -9 at a random moment of a stream of operations, several times. */
void failure_killed_at_any_moment(unsigned lane);
void failure_stopped(unsigned lane);
void failure_abort(unsigned lane);
/* A rank that is only late, but within the deadline, harms nobody. */
void failure_late(unsigned lane);

/* In a rank: a barrier plan of this lane. */
struct trtcoll_plan *failure_plan(struct trtcoll_group *group, unsigned lane);
/* The call returned `code`; checks it, who is blamed and that it came in time after the parent's kill. */
void failure_expect(struct proc_me *me, int code, int expected, uint32_t rank, double within_ms);
/* Survivors re-form and work in both lanes. */
void failure_go_on(struct trtcoll_group *group, uint32_t flags);
void failure_await_broken(struct trtcoll_group *group);

#endif
