/*
 * Steps: the only way in which ranks exchange data. In step k every rank writes into its own buffer k % 3, publishes it by storing k + 1
 * into the buffer's flag, waits for the flags of the ranks it needs, and reads their buffers.
 *
 * Why three buffers, reused without clearing or acknowledgement (compare seed-spec 7.3). Rule 1: a rank publishes step j only after it has
 * finished reading everything it wanted from steps before j. Rule 2: before it publishes step k, a rank has seen every peer publish step
 * k - 2 or later. By rule 1 those peers have finished with step k - 3, whose data and flags stood in the buffer that step k overwrites.
 * An operation in which everybody waits for everybody gets rule 2 for nothing (it saw step k - 1); a broadcast root may run two steps
 * ahead of the slowest rank and has to look only then. Two buffers would be enough for the former, and would stop the root each step.
 *
 * Readers never touch an index or a size found in a workspace.
 */
#ifndef TCK_HOST_STEP_H
#define TCK_HOST_STEP_H

#include "host/wait.h"

static inline struct tck_flag *tck_step_flag(const struct tck_comm *comm, uint32_t rank)
{
    return (struct tck_flag *)(comm->base[rank] + comm->slot);
}

/* Where rank `rank` has (or this rank puts) its `bytes` of the current step; small payloads are in the flag's line. */
static inline unsigned char *tck_step_data(const struct tck_comm *comm, uint32_t rank, uint64_t bytes)
{
    struct tck_flag *flag = tck_step_flag(comm, rank);
    return bytes <= TCK_INLINE_BYTES ? flag->payload : (unsigned char *)flag + TCK_FLAG_BYTES;
}

/* The out-of-line data of the buffer after the current one; may be written as soon as all ranks' current step has been waited for. */
static inline unsigned char *tck_step_next_data(const struct tck_comm *comm)
{
    uint64_t next = comm->slot + comm->pitch == TCK_BUFFERS * comm->pitch ? 0 : comm->slot + comm->pitch;
    return comm->base[comm->rank] + next + TCK_FLAG_BYTES;
}

/* Rule 2. Must come before the first write into the step's own buffer. */
int tck_step_begin_slow(struct tck_comm *comm);
static inline int tck_step_begin(struct tck_comm *comm)
{
    if (comm->step >= TCK_BUFFERS)
        for (uint32_t i = 0; i < comm->nranks; i++)
            if (comm->known[i] + 1 < comm->step)
                return tck_step_begin_slow(comm);
    return 0;
}

/* Behind the first thing that this rank posts, or before it waits first: see struct tck_run. */
static inline void tck_step_under_way(struct tck_comm *comm)
{
    if (comm->under_way)
        return;
    comm->under_way = true;
    comm->run->under_way(comm->run->under_way_arg);
}

static inline void tck_step_publish(struct tck_comm *comm)
{
    struct tck_flag *flag = tck_step_flag(comm, comm->rank);
    flag->plan_id = comm->run->plan_id;
    flag->strategy = comm->run->strategy;
    flag->tokens = comm->run->tokens;
    comm->known[comm->rank] = comm->step + 1;
    atomic_store_explicit(&flag->sequence, comm->step + 1, memory_order_release);
    tck_step_under_way(comm); /* while that is on its way */
    /*
     * Its mirror is in nap(), wait.c: the peers see the flag, or we see that they sleep. It also keeps this rank from looking at its peers'
     * flags while its own stores wait for their lines, which would take the peers' lines away from stores that wait likewise.
     */
    atomic_thread_fence(memory_order_seq_cst);
    for (uint32_t i = 0; i < comm->nranks; i++)
        if (atomic_load_explicit(&comm->headers[i]->awaits, memory_order_relaxed) == comm->rank + 1)
            tck_wake(comm, i);
}

/*
 * Before a wait for everybody, of whom `bytes` each will be read: the lines behind a flag come one after the other, unless they are asked
 * for before it has come.
 */
void tck_step_ask(const struct tck_comm *comm, uint64_t bytes);

/* Waits for rank `peer`'s part of the current step, or everybody's, and compares tags: EMISMATCH when a peer runs something else. */
int tck_step_wait(struct tck_comm *comm, uint32_t peer);
int tck_step_wait_all(struct tck_comm *comm);

/* Ends the current step: nothing of it may be read afterwards. */
static inline void tck_step_end(struct tck_comm *comm)
{
    comm->step++;
    comm->slot += comm->pitch;
    if (comm->slot == TCK_BUFFERS * comm->pitch)
        comm->slot = 0;
}

#endif
