#include "chooser.h"

#include "text.h"

#include <tck/comm.h>

#include <stdarg.h>
#include <stdio.h>

enum { MIN_LATENCY_TOKENS = 128 };

__attribute__((format(printf, 3, 4))) static void reject(struct tcd_choice *choice, const char *what, const char *format, ...)
{
    va_list args;

    if (choice->rejected_count == TCD_MAX_REJECTED)
        return;
    choice->rejected[choice->rejected_count].what = what;
    va_start(args, format);
    vsnprintf(choice->rejected[choice->rejected_count].why, TCW_TEXT_BYTES, format, args);
    va_end(args);
    choice->rejected_count++;
}

static uint64_t all_ranks(uint32_t nranks)
{
    return nranks >= 64 ? UINT64_MAX : (1ull << nranks) - 1;
}

/* ---- the lane ---- */

static int choose_lane(const struct tcw_plan_desc *desc, const struct tcd_choosing *choosing, struct tcd_choice *choice, const char **why,
                       struct tcw_error *error)
{
    uint64_t all = all_ranks(choosing->nranks);
    uint64_t no_direct = all & ~choosing->direct_ranks, no_served = all & ~choosing->served_ranks;
    uint32_t wanted = desc->lane != TCW_LANE_AUTO ? desc->lane : choosing->lane;
    char ranks[TCW_TEXT_BYTES / 2];

    *why = desc->lane != TCW_LANE_AUTO ? "asked for" : choosing->lane != TCW_LANE_AUTO ? "configured for the group" : NULL;
    if ((wanted == TCW_LANE_DIRECT && no_direct) || (wanted == TCW_LANE_SERVED && no_served))
        return tcd_error_set(error, TCW_ENOTSUP, "the %s lane is %s, but the clients of %s did not ask for it in their hello",
                             tcw_lane_name(wanted), *why,
                             tcd_ranks_text(wanted == TCW_LANE_DIRECT ? no_direct : no_served, ranks, sizeof(ranks)));
    if (wanted == TCW_LANE_AUTO && !no_direct) {
        wanted = TCW_LANE_DIRECT;
        *why = "all ranks can map each other's workspaces";
        if (no_served)
            reject(choice, "served lane", "the clients of %s cannot use a ring", tcd_ranks_text(no_served, ranks, sizeof(ranks)));
        else
            reject(choice, "served lane", "the direct lane needs no executor");
    } else if (wanted == TCW_LANE_AUTO) {
        reject(choice, "direct lane", "the clients of %s cannot run operations", tcd_ranks_text(no_direct, ranks, sizeof(ranks)));
        if (no_served)
            return tcd_error_set(error, TCW_ENOTSUP,
                                 "neither lane: the clients of %s cannot use a ring, those of others cannot run operations",
                                 tcd_ranks_text(no_served, ranks, sizeof(ranks)));
        wanted = TCW_LANE_SERVED;
        *why = "not every rank can run operations itself";
    }
    choice->decision.lane = wanted;
    return 0;
}

/* ---- the strategies ---- */

/* Can this strategy run the plan? Remembers how large the workspace must be. */
static int probe(const struct tcw_plan_desc *desc, uint32_t nranks, uint32_t strategy, struct tcd_choice *choice,
                 struct tcw_complaint *complaint)
{
    struct tcw_plan_desc resolved = *desc;
    uint64_t bytes = 0;
    int code;

    resolved.strategy = (uint16_t)strategy;
    code = tck_plan_workspace(TCK_DEVICE_HOST, &resolved, nranks, &bytes, complaint);
    if (!code && bytes > choice->workspace_bytes)
        choice->workspace_bytes = bytes;
    return code;
}

static void add_step(struct tcd_choice *choice, uint64_t max_bytes, uint32_t strategy)
{
    choice->decision.steps[choice->decision.step_count++] = (struct tcw_decision_step){.max_bytes = max_bytes, .strategy = strategy};
}

static uint64_t largest_message(const struct tcw_plan_desc *desc, uint32_t nranks)
{
    return tcw_plan_message_bytes(desc, nranks, 0, desc->max_tokens);
}

static uint64_t row_bytes(const struct tcw_plan_desc *desc)
{
    return desc->hidden * tcw_dtype_bytes(desc->dtype);
}

static int choose_named(const struct tcw_plan_desc *desc, uint32_t nranks, uint32_t strategy, struct tcd_choice *choice,
                        struct tcw_error *error)
{
    struct tcw_complaint complaint = {0};
    int code = probe(desc, nranks, strategy, choice, &complaint);

    if (code) {
        tcd_error_set(error, code, "%s", complaint.text);
        if (complaint.field)
            tcw_text_set(error->field, sizeof(error->field), complaint.field);
        error->mine = complaint.mine;
        return code;
    }
    add_step(choice, UINT64_MAX, strategy);
    return 0;
}

/* The seed's rule: ONESHOT up to 128 tokens or for rows too short to be split, TWOSHOT above. */
static int choose_min_latency(const struct tcw_plan_desc *desc, uint32_t nranks, struct tcd_choice *choice, struct tcw_error *error)
{
    int code = choose_named(desc, nranks, TCW_STRATEGY_ONESHOT, choice, error);

    if (code || desc->hidden < nranks || desc->max_tokens <= MIN_LATENCY_TOKENS)
        return code;
    choice->decision.steps[0].max_bytes = MIN_LATENCY_TOKENS * row_bytes(desc);
    return choose_named(desc, nranks, TCW_STRATEGY_TWOSHOT, choice, error);
}

static int choose_auto(const struct tcw_plan_desc *desc, const struct tcd_choosing *choosing, struct tcd_choice *choice, char *why,
                       size_t why_bytes, struct tcw_error *error)
{
    uint64_t largest = largest_message(desc, choosing->nranks), limit = choosing->oneshot_bytes;
    struct tcw_complaint oneshot = {0}, twoshot = {0};
    bool splits = desc->hidden >= choosing->nranks;
    bool needs_long = largest > limit && splits;
    bool can_short = !probe(desc, choosing->nranks, TCW_STRATEGY_ONESHOT, choice, &oneshot);
    bool can_long = needs_long && !probe(desc, choosing->nranks, TCW_STRATEGY_TWOSHOT, choice, &twoshot);

    if (!can_short)
        reject(choice, "ONESHOT", "%s", oneshot.text);
    if (!splits)
        reject(choice, "TWOSHOT", "hidden %llu cannot be split over %u ranks", (unsigned long long)desc->hidden, choosing->nranks);
    else if (!needs_long)
        reject(choice, "TWOSHOT", "the largest message has %llu bytes, ONESHOT serves up to %llu", (unsigned long long)largest,
               (unsigned long long)limit);
    else if (!can_long)
        reject(choice, "TWOSHOT", "%s", twoshot.text);
    if (can_short && can_long && limit) {
        add_step(choice, limit, TCW_STRATEGY_ONESHOT);
        add_step(choice, UINT64_MAX, TCW_STRATEGY_TWOSHOT);
        snprintf(why, why_bytes, "ONESHOT up to %llu bytes (choosing.oneshot_bytes), TWOSHOT above", (unsigned long long)limit);
        return 0;
    }
    if (can_short || can_long) {
        uint32_t strategy = can_long ? TCW_STRATEGY_TWOSHOT : TCW_STRATEGY_ONESHOT;
        add_step(choice, UINT64_MAX, strategy);
        snprintf(why, why_bytes, "%s at every size of this plan", tcw_strategy_name(strategy));
        return 0;
    }
    snprintf(why, why_bytes, "%s, because neither ONESHOT nor TWOSHOT can", tcw_strategy_name(TCW_STRATEGY_NCCL));
    return choose_named(desc, choosing->nranks, TCW_STRATEGY_NCCL, choice, error);
}

static int choose_strategy(const struct tcw_plan_desc *desc, const struct tcd_choosing *choosing, struct tcd_choice *choice, char *why,
                           size_t why_bytes, struct tcw_error *error)
{
    uint32_t wanted = desc->strategy != TCW_STRATEGY_AUTO ? desc->strategy : choosing->strategy;
    const char *whose = desc->strategy != TCW_STRATEGY_AUTO ? "asked for" : "configured for the group";

    if (desc->op != TCW_OP_ALL_REDUCE) {
        snprintf(why, why_bytes, "%s has one form", tcw_op_name(desc->op));
        return choose_named(desc, choosing->nranks, TCW_STRATEGY_NCCL, choice, error);
    }
    if (wanted == TCW_STRATEGY_AUTO)
        return choose_auto(desc, choosing, choice, why, why_bytes, error);
    snprintf(why, why_bytes, "%s is %s", tcw_strategy_name(wanted), whose);
    if (wanted == TCW_STRATEGY_MIN_LATENCY)
        return choose_min_latency(desc, choosing->nranks, choice, error);
    return choose_named(desc, choosing->nranks, wanted, choice, error);
}

int tcd_choose(const struct tcw_plan_desc *desc, const struct tcd_choosing *choosing, struct tcd_choice *choice, struct tcw_error *error)
{
    char strategy_why[TCW_TEXT_BYTES / 2] = "";
    const char *lane_why = "";

    *choice = (struct tcd_choice){.workspace_bytes = 0};
    if (desc->flags & TCW_PLAN_GRAPH)
        return tcd_error_set(error, TCW_ENOTSUP, "plans on host devices cannot be captured into CUDA graphs");
    if (choose_lane(desc, choosing, choice, &lane_why, error) ||
        choose_strategy(desc, choosing, choice, strategy_why, sizeof(strategy_why), error))
        return error->code;
    if (choice->workspace_bytes > choosing->max_workspace_bytes)
        return tcd_error_set(error, TCW_EQUOTA, "limits.workspace_bytes: the plan needs a workspace of %llu bytes, %llu are allowed",
                             (unsigned long long)choice->workspace_bytes, (unsigned long long)choosing->max_workspace_bytes);
    snprintf(choice->reason, sizeof(choice->reason), "%s lane: %s; %s", tcw_lane_name(choice->decision.lane), lane_why, strategy_why);
    return 0;
}
