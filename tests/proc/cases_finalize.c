#include "cases.h"

#include <stdlib.h>
#include <string.h>

/* The first token of a rank, from the definition: one token after the other goes to the rank whose turn it is. */
static uint64_t first_of(uint64_t tokens, unsigned ranks, unsigned rank)
{
    uint64_t first = 0;

    for (unsigned i = 0; i < rank; i++)
        first += tokens / ranks + (i < tokens % ranks);
    return first;
}

struct message {
    unsigned dtype;
    uint64_t tokens, hidden, row; /* row: bytes */
    unsigned ranks, rank;
    uint64_t seed;
    bool whole; /* every rank has all tokens before */
};

/* Any bits may be in the tokens, those that kernels use for their own purposes above all. */
static void fill(const struct message *message, uint64_t round, unsigned char *expected, unsigned char *in)
{
    uint64_t first = first_of(message->tokens, message->ranks, message->rank) * message->row,
             end = first_of(message->tokens, message->ranks, message->rank + 1) * message->row;

    ref_fill(message->dtype, REF_SPECIAL, message->seed + round, expected, message->tokens * message->hidden);
    for (uint64_t at = 0; at + 4 <= message->tokens * message->row; at += 64)
        memcpy(expected + at, "\0\0\0\x80", 4);
    if (message->whole) {
        memcpy(in, expected, message->tokens * message->row);
        return;
    }
    memset(in, 0xa0 + (int)message->rank, message->tokens * message->row); /* nobody's business */
    memcpy(in + first, expected + first, end - first);
}

void case_finalize_run(struct proc_me *me, struct trtcoll_group *group, const struct case_finalize *job, unsigned runs)
{
    struct trtcoll_group_info info = case_group_info(group);
    struct trtcoll_finalize_desc desc = TRTCOLL_FINALIZE_DESC_INIT;
    struct trtcoll_plan *plan = NULL;
    struct message message = {.dtype = job->dtype,
                              .tokens = job->tokens,
                              .hidden = job->hidden,
                              .row = job->hidden * ref_bytes(job->dtype),
                              .ranks = info.nranks,
                              .rank = info.rank,
                              .seed = job->seed};
    uint64_t bytes = message.tokens * message.row;
    unsigned char *expected = case_buffer(bytes), *out = case_buffer(bytes), *in = job->in_place ? out : case_buffer(bytes);

    (void)me;
    message.whole = !job->force && job->tokens * job->hidden * info.nranks <= 131072;
    desc.dtype = job->dtype;
    desc.lane = job->lane;
    desc.flags = job->force ? TRTCOLL_FORCE : 0;
    desc.max_tokens = job->max_tokens;
    desc.hidden = job->hidden;
    CHECK_OK(trtcoll_plan_create_finalize(group, &desc, &plan));
    for (unsigned run = 0; run < runs; run++) {
        struct trtcoll_run_args args = TRTCOLL_RUN_ARGS_INIT;

        fill(&message, run, expected, in);
        args.tokens = job->tokens;
        args.in = in;
        args.out = out;
        case_execute(plan, &args, run % 2);
        for (uint64_t at = 0; at < bytes; at++)
            CHECK_MSG(expected[at] == out[at], "run %u of finalize, %llu tokens of %llu: byte %llu is %#x, not %#x", run,
                      (unsigned long long)job->tokens, (unsigned long long)job->hidden, (unsigned long long)at, out[at], expected[at]);
    }
    if (in != out)
        free(in);
    free(out);
    free(expected);
    CHECK_OK(trtcoll_plan_release(plan));
}

struct case_finalize case_finalize_random(uint64_t *random, unsigned lane)
{
    static const unsigned types[] = {TRTCOLL_FP32, TRTCOLL_FP16, TRTCOLL_BF16};
    struct case_finalize job = {.lane = lane, .dtype = types[ref_random(random) % 3], .force = ref_random(random) % 2};

    job.tokens = 1 + ref_random(random) % (ref_random(random) % 2 ? 5 : 200);
    job.max_tokens = job.tokens + ref_random(random) % 3;
    job.hidden = 8 * (1 + ref_random(random) % (ref_random(random) % 2 ? 4 : 300));
    job.in_place = ref_random(random) % 3 == 0;
    job.seed = ref_random(random);
    return job;
}
