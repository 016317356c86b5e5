#include "judge.h"

#include "text.h"

enum { STILL_LOOKS = 2 };                      /* so many equal looks make a page comparable */
static const uint64_t SLACK_NS = 300000000ull; /* beyond a deadline: the runner itself is first */

/*
 * Only pages that were equal in several looks: the words of a moving page belong to different moments. And only between two runs or within
 * one: a runner that was stopped while it began a run has its record already, perhaps its hash, but has not started.
 */
static bool has_history(const struct tcd_observed *rank)
{
    return rank && rank->still >= STILL_LOOKS && rank->started && rank->records == rank->started;
}

/* Two ranks that rest at the same run must have got there the same way. */
static bool comparable(const struct tcd_observed *one, const struct tcd_observed *other)
{
    return has_history(one) && has_history(other) && one->started == other->started;
}

/* How many of those have run the same as `rank`, itself among them. */
static unsigned companions(const struct tcd_evidence *evidence, const struct tcd_observed *rank)
{
    unsigned count = 0;
    uint32_t i;

    for (i = 0; i < evidence->nranks; i++)
        count += comparable(rank, evidence->ranks[i]) && evidence->ranks[i]->hash == rank->hash;
    return count;
}

static int blame_history(const struct tcd_evidence *evidence, uint32_t culprit, uint32_t witness, struct tcw_error *cause)
{
    const struct tcd_observed *theirs = evidence->ranks[culprit], *mine = evidence->ranks[witness];

    tcd_error_set(cause, TCW_EMISMATCH,
                  "after %llu runs on the %s lane, rank %u has not run the same plans with the same token counts as rank %u",
                  (unsigned long long)theirs->started, tcw_lane_name(evidence->lane), culprit, witness);
    tcw_text_set(cause->field, sizeof(cause->field), "history");
    cause->rank = culprit;
    cause->mine = mine->hash;
    cause->theirs = theirs->hash;
    cause->step = theirs->finished;
    return cause->code;
}

/* Of two that differ, the one that fewer have run the same as; of two ranks alone nobody can know, and the second is named. */
static int judge_history(const struct tcd_evidence *evidence, struct tcw_error *cause)
{
    const struct tcd_observed *const *ranks = evidence->ranks;
    uint32_t i, j;

    for (i = 0; i < evidence->nranks; i++)
        for (j = i + 1; j < evidence->nranks; j++) {
            if (!comparable(ranks[i], ranks[j]) || ranks[i]->hash == ranks[j]->hash)
                continue;
            return companions(evidence, ranks[i]) < companions(evidence, ranks[j]) ? blame_history(evidence, i, j, cause)
                                                                                   : blame_history(evidence, j, i, cause);
        }
    return 0;
}

/* ---- what kernels ran ---- */

static bool kernels_differ(const struct tcd_evidence *evidence, uint32_t i, uint32_t j, struct tcd_gpu_difference *difference)
{
    return evidence->gpu_runs[i] && evidence->gpu_runs[j] &&
           tcd_gpu_runs_differ(evidence->gpu_runs[i], evidence->gpu_runs[j], evidence->same_run, evidence->context, difference);
}

/* How many of those have run something else than `rank`. */
static unsigned opponents(const struct tcd_evidence *evidence, uint32_t rank)
{
    struct tcd_gpu_difference difference;
    unsigned count = 0;
    uint32_t i;

    for (i = 0; i < evidence->nranks; i++)
        count += i != rank && kernels_differ(evidence, rank, i, &difference);
    return count;
}

static int blame_kernels(const struct tcd_evidence *evidence, uint32_t culprit, uint32_t witness, struct tcw_error *cause)
{
    struct tcd_gpu_difference difference;
    bool tokens;

    if (!kernels_differ(evidence, culprit, witness, &difference))
        return 0;
    tokens = difference.one.plan_id == difference.other.plan_id;
    tcd_error_set(cause, TCW_EMISMATCH, "run %llu of the GPUs was plan %u with %u tokens on rank %u, but plan %u with %u tokens on rank %u",
                  (unsigned long long)difference.step, difference.one.plan_id, difference.one.tokens, culprit, difference.other.plan_id,
                  difference.other.tokens, witness);
    tcw_text_set(cause->field, sizeof(cause->field), tokens ? "tokens" : "plan");
    cause->rank = culprit;
    cause->mine = tokens ? difference.other.tokens : difference.other.plan_id;
    cause->theirs = tokens ? difference.one.tokens : difference.one.plan_id;
    cause->step = difference.step;
    return cause->code;
}

/* As with history: the odd one, or the second of two. */
static int judge_runs(const struct tcd_evidence *evidence, struct tcw_error *cause)
{
    struct tcd_gpu_difference difference;
    uint32_t i, j;

    for (i = 0; i < evidence->nranks; i++)
        for (j = i + 1; j < evidence->nranks; j++)
            if (kernels_differ(evidence, i, j, &difference))
                return opponents(evidence, i) > opponents(evidence, j) ? blame_kernels(evidence, i, j, cause)
                                                                       : blame_kernels(evidence, j, i, cause);
    return 0;
}

/* ---- who waits ---- */

static bool waits_too_long(const struct tcd_evidence *evidence, const struct tcd_observed *waiter)
{
    return waiter && waiter->missing && waiter->still >= STILL_LOOKS &&
           (waiter->state == TCW_MEMBER_WAITING || waiter->state == TCW_MEMBER_RUNNING) && waiter->since_ns <= evidence->now_ns &&
           evidence->now_ns - waiter->since_ns > evidence->deadline_ns + SLACK_NS;
}

/* A rank that waits, longer than the deadline, for one that has not even begun the run: its own clock should have ended that. */
static int judge_waiting(const struct tcd_evidence *evidence, struct tcw_error *cause)
{
    uint32_t i, j;

    for (i = 0; i < evidence->nranks; i++) {
        const struct tcd_observed *waiter = evidence->ranks[i];

        if (!waits_too_long(evidence, waiter))
            continue;
        for (j = 0; j < evidence->nranks; j++) {
            const struct tcd_observed *late = evidence->ranks[j];

            if (j == i || !(waiter->missing >> j & 1) || (late && late->started >= waiter->started))
                continue;
            tcd_error_set(cause, TCW_ETIMEOUT, "rank %u has waited %llu ms on the %s lane for rank %u, whose last finished run is %llu", i,
                          (unsigned long long)((evidence->now_ns - waiter->since_ns) / 1000000), tcw_lane_name(evidence->lane), j,
                          (unsigned long long)(late ? late->finished : 0));
            cause->rank = j;
            cause->step = late ? late->finished : 0;
            return cause->code;
        }
    }
    return 0;
}

/* What a kernel says about itself comes from a client: it must at least make sense. */
static bool has_fault(const struct tcd_evidence *evidence, uint32_t rank)
{
    const struct tcd_observed *now = rank < evidence->nranks ? evidence->ranks[rank] : NULL;

    return now && now->device_fault && tcw_error_name(tcw_abort_code(now->device_fault));
}

/* Kernels that gave up. Of several, one that blames a rank that has not given up itself: the others have waited for those who wait. */
static int judge_kernels(const struct tcd_evidence *evidence, struct tcw_error *cause)
{
    uint32_t found = TCW_NOBODY, culprit, i;
    const struct tcd_observed *now;

    for (i = 0; i < evidence->nranks; i++) {
        if (!has_fault(evidence, i))
            continue;
        found = found == TCW_NOBODY ? i : found;
        if (has_fault(evidence, tcw_abort_culprit(evidence->ranks[i]->device_fault)))
            continue;
        found = i;
        break;
    }
    if (found == TCW_NOBODY)
        return 0;
    now = evidence->ranks[found];
    culprit = tcw_abort_culprit(now->device_fault);
    if (culprit < evidence->nranks)
        tcd_error_set(cause, tcw_abort_code(now->device_fault),
                      "the kernel of run %llu on rank %u ended with %s because of rank %u, last seen in run %llu",
                      (unsigned long long)now->device_fault_step, found, tcw_error_name(tcw_abort_code(now->device_fault)), culprit,
                      (unsigned long long)now->device_their_step);
    else
        tcd_error_set(cause, tcw_abort_code(now->device_fault), "the kernel of run %llu on rank %u ended with %s",
                      (unsigned long long)now->device_fault_step, found, tcw_error_name(tcw_abort_code(now->device_fault)));
    cause->rank = culprit < evidence->nranks ? culprit : TCW_NOBODY;
    cause->step = culprit < evidence->nranks ? now->device_their_step : now->device_fault_step;
    return cause->code;
}

int tcd_judge(const struct tcd_evidence *evidence, struct tcw_error *cause)
{
    int code = judge_kernels(evidence, cause);

    if (!code)
        code = judge_history(evidence, cause);
    if (!code)
        code = judge_runs(evidence, cause);
    return code || !evidence->deadline_ns ? code : judge_waiting(evidence, cause);
}
