#include "host/step.h"

enum { ASK_BYTES = 256 }; /* of one rank's part: a few lines, not more than can be on their way at once */

int tck_step_begin_slow(struct tck_comm *comm)
{
    struct tck_patience patience = {0};
    tck_step_under_way(comm);
    uint64_t wanted = comm->step - 1; /* step k - 2 has the sequence k - 1 */
    for (uint32_t i = 0; i < comm->nranks; i++) {
        if (i == comm->rank || comm->known[i] >= wanted)
            continue;
        int code = tck_wait_sequence(comm, i, wanted, &patience);
        if (code)
            return code;
        comm->known[i] = wanted;
    }
    tck_wait_done(comm, &patience);
    return 0;
}

static int complain(struct tck_comm *comm, uint32_t peer, const char *field, uint64_t mine, uint64_t theirs)
{
    comm->fault.field = field;
    comm->fault.mine = mine;
    comm->fault.theirs = theirs;
    return tck_comm_fail(comm, TCW_EMISMATCH, peer);
}

static int wait_one(struct tck_comm *comm, uint32_t peer, struct tck_patience *patience)
{
    const struct tck_flag *flag = tck_step_flag(comm, peer);
    const struct tck_run *run = comm->run;
    uint64_t wanted = comm->step + 1;
    if (!tck_wait_briefly(comm, &flag->sequence, wanted)) {
        int code = tck_wait_sequence(comm, peer, wanted, patience);
        if (code)
            return code;
    }
    comm->known[peer] = wanted;
    if (flag->plan_id != run->plan_id)
        return complain(comm, peer, "plan", run->plan_id, flag->plan_id);
    if (flag->tokens != run->tokens)
        return complain(comm, peer, "tokens", run->tokens, flag->tokens);
    if (flag->strategy != run->strategy)
        return complain(comm, peer, "strategy", run->strategy, flag->strategy);
    return 0;
}

void tck_step_ask(const struct tck_comm *comm, uint64_t bytes)
{
    if (bytes <= TCK_INLINE_BYTES || bytes > ASK_BYTES)
        return;
    for (uint32_t i = 0; i < comm->nranks; i++) {
        const unsigned char *data = tck_step_data(comm, i, bytes);
        for (uint64_t at = 0; i != comm->rank && at < bytes; at += TCW_LINE)
            __builtin_prefetch(data + at);
    }
}

int tck_step_wait(struct tck_comm *comm, uint32_t peer)
{
    struct tck_patience patience = {0};
    int code = wait_one(comm, peer, &patience);
    if (!code)
        tck_wait_done(comm, &patience);
    return code;
}

int tck_step_wait_all(struct tck_comm *comm)
{
    struct tck_patience patience = {0};
    for (uint32_t i = 1; i < comm->nranks; i++) {
        uint32_t peer = comm->rank + i < comm->nranks ? comm->rank + i : comm->rank + i - comm->nranks;
        int code = wait_one(comm, peer, &patience);
        if (code)
            return code;
    }
    tck_wait_done(comm, &patience);
    return 0;
}
