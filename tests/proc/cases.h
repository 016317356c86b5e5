/*
 * One random collective, run by all ranks of a group and compared with the reference. All ranks call with the same state of the
 * random numbers and make the same choices. Failures end the rank (CHECK).
 */
#ifndef PROC_CASES_H
#define PROC_CASES_H

#include "harness.h"
#include "reference.h"

struct case_all_reduce {
    unsigned dtype, redop, strategy, fusion, lane, flags;
    uint64_t max_tokens, tokens, hidden;
    ref_data data;
    bool in_place;
    uint64_t seed;
};

/* Fills the fields that random choice decides. `most`: elements of a message, about. */
struct case_all_reduce case_all_reduce_random(uint64_t *random, unsigned lane, size_t most);
/* Makes the plan, runs it `runs` times, checks every result, that all ranks and all runs have the same bits, releases the plan. */
void case_all_reduce_run(struct proc_me *me, struct trtcoll_group *group, const struct case_all_reduce *job, unsigned runs);

void case_all_gather(struct proc_me *me, struct trtcoll_group *group, uint64_t *random, unsigned lane);
void case_reduce_scatter(struct proc_me *me, struct trtcoll_group *group, uint64_t *random, unsigned lane);
void case_all_to_all(struct proc_me *me, struct trtcoll_group *group, uint64_t *random, unsigned lane);
void case_broadcast(struct proc_me *me, struct trtcoll_group *group, uint64_t *random, unsigned lane);
void case_barrier(struct proc_me *me, struct trtcoll_group *group, uint64_t *random, unsigned lane);

struct case_finalize {
    unsigned dtype, lane;
    uint64_t max_tokens, tokens, hidden;
    bool force, in_place;
    uint64_t seed;
};

struct case_finalize case_finalize_random(uint64_t *random, unsigned lane);
/* Makes the plan, runs it `runs` times on other data each, checks every byte, releases the plan. */
void case_finalize_run(struct proc_me *me, struct trtcoll_group *group, const struct case_finalize *job, unsigned runs);

/* Any of them. */
void case_any(struct proc_me *me, struct trtcoll_group *group, uint64_t *random, unsigned lane);

/* Runs the plan and waits, now with an event, now without. */
void case_execute(struct trtcoll_plan *plan, const struct trtcoll_run_args *args, bool with_event);
/* The same with lists of so many entries. */
void case_execute_lists(struct trtcoll_plan *plan, const struct trtcoll_run_args *args, unsigned ins, unsigned outs, bool with_event);
/* Number and rank of this process in the group, which need not be the run's. */
struct trtcoll_group_info case_group_info(struct trtcoll_group *group);
/* Memory of the exact size, so that a sanitizer sees the byte behind it; never NULL. */
void *case_buffer(size_t bytes);

#endif
