#include "chooser.h"

#include "text.h"
#include "tuning.h"

#include <tck/comm.h>

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { MIN_LATENCY_TOKENS = 128, TABLE_NAME_BYTES = 208, WHY_BYTES = 320 };

__attribute__((format(printf, 3, 4))) static void reject(struct tcd_choice *choice, const char *what, const char *format, ...)
{
    va_list args;

    char why[TCW_TEXT_BYTES];
    unsigned i;

    va_start(args, format);
    vsnprintf(why, sizeof(why), format, args);
    va_end(args);
    for (i = 0; i < choice->rejected_count; i++)
        if (!strcmp(choice->rejected[i].what, what) && !strcmp(choice->rejected[i].why, why))
            return; /* on the other lane already */
    if (choice->rejected_count == TCD_MAX_REJECTED)
        return;
    choice->rejected[choice->rejected_count].what = what;
    tcw_text_set(choice->rejected[choice->rejected_count].why, TCW_TEXT_BYTES, why);
    choice->rejected_count++;
}

static uint64_t all_ranks(uint32_t nranks)
{
    return nranks >= 64 ? UINT64_MAX : (1ull << nranks) - 1;
}

/* ---- the lane ---- */

static uint64_t without_direct(const struct tcd_choosing *choosing)
{
    return all_ranks(choosing->nranks) & ~choosing->direct_ranks;
}

static uint64_t without_served(const struct tcd_choosing *choosing)
{
    return all_ranks(choosing->nranks) & ~choosing->served_ranks;
}

/* The lane that somebody wants, AUTO if nobody does; refuses one that the clients cannot use. */
static int wanted_lane(const struct tcw_plan_desc *desc, const struct tcd_choosing *choosing, uint32_t *wanted, const char **why,
                       struct tcw_error *error)
{
    uint64_t unable;
    char ranks[TCW_TEXT_BYTES / 2];

    *wanted = desc->lane != TCW_LANE_AUTO ? desc->lane : choosing->lane;
    *why = desc->lane != TCW_LANE_AUTO ? "asked for" : choosing->lane != TCW_LANE_AUTO ? "configured for the group" : NULL;
    unable = *wanted == TCW_LANE_DIRECT ? without_direct(choosing) : *wanted == TCW_LANE_SERVED ? without_served(choosing) : 0;
    if (unable)
        return tcd_error_set(error, TCW_ENOTSUP, "the %s lane is %s, but the clients of %s did not ask for it in their hello",
                             tcw_lane_name(*wanted), *why, tcd_ranks_text(unable, ranks, sizeof(ranks)));
    return 0;
}

static int choose_lane(const struct tcw_plan_desc *desc, const struct tcd_choosing *choosing, struct tcd_choice *choice, const char **why,
                       struct tcw_error *error)
{
    uint64_t no_direct = without_direct(choosing), no_served = without_served(choosing);
    char ranks[TCW_TEXT_BYTES / 2];
    uint32_t wanted;

    if (wanted_lane(desc, choosing, &wanted, why, error))
        return error->code;
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
static int probe(const struct tcw_plan_desc *desc, const struct tcd_choosing *choosing, uint32_t strategy, struct tcd_choice *choice,
                 struct tcw_complaint *complaint)
{
    struct tcw_plan_desc resolved = *desc;
    uint64_t bytes = 0;
    int code;

    resolved.strategy = (uint16_t)strategy;
    code = tck_plan_workspace(choosing->kind, &resolved, choosing->nranks, &bytes, complaint);
    if (!code && bytes > choice->workspace_bytes)
        choice->workspace_bytes = bytes;
    return code;
}

static void add_step(struct tcd_choice *choice, uint64_t max_bytes, uint32_t strategy, uint32_t blocks)
{
    choice->decision.steps[choice->decision.step_count++] =
        (struct tcw_decision_step){.max_bytes = max_bytes, .strategy = strategy, .blocks = blocks};
}

static uint64_t largest_message(const struct tcw_plan_desc *desc, uint32_t nranks)
{
    return tcw_plan_message_bytes(desc, nranks, 0, desc->max_tokens);
}

static uint64_t row_bytes(const struct tcw_plan_desc *desc)
{
    return desc->hidden * tcw_dtype_bytes(desc->dtype);
}

static int choose_named(const struct tcw_plan_desc *desc, const struct tcd_choosing *choosing, uint32_t strategy, struct tcd_choice *choice,
                        struct tcw_error *error)
{
    struct tcw_complaint complaint = {0};
    int code = probe(desc, choosing, strategy, choice, &complaint);

    if (code) {
        tcd_error_set(error, code, "%s", complaint.text);
        if (complaint.field)
            tcw_text_set(error->field, sizeof(error->field), complaint.field);
        error->mine = complaint.mine;
        return code;
    }
    add_step(choice, UINT64_MAX, strategy, 0);
    return 0;
}

/* The seed's rule: ONESHOT up to 128 tokens or for rows too short to be split, TWOSHOT above. */
static int choose_min_latency(const struct tcw_plan_desc *desc, const struct tcd_choosing *choosing, struct tcd_choice *choice,
                              struct tcw_error *error)
{
    int code = choose_named(desc, choosing, TCW_STRATEGY_ONESHOT, choice, error);

    if (code || desc->hidden < choosing->nranks || desc->max_tokens <= MIN_LATENCY_TOKENS)
        return code;
    choice->decision.steps[0].max_bytes = MIN_LATENCY_TOKENS * row_bytes(desc);
    return choose_named(desc, choosing, TCW_STRATEGY_TWOSHOT, choice, error);
}

static int choose_auto(const struct tcw_plan_desc *desc, const struct tcd_choosing *choosing, struct tcd_choice *choice, char *why,
                       size_t why_bytes, struct tcw_error *error)
{
    uint64_t largest = largest_message(desc, choosing->nranks), limit = choosing->oneshot_bytes;
    struct tcw_complaint oneshot = {0}, twoshot = {0};
    bool splits = desc->hidden >= choosing->nranks;
    bool needs_long = largest > limit && splits;
    bool can_short = !probe(desc, choosing, TCW_STRATEGY_ONESHOT, choice, &oneshot);
    bool can_long = needs_long && !probe(desc, choosing, TCW_STRATEGY_TWOSHOT, choice, &twoshot);

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
        add_step(choice, limit, TCW_STRATEGY_ONESHOT, 0);
        add_step(choice, UINT64_MAX, TCW_STRATEGY_TWOSHOT, 0);
        snprintf(why, why_bytes, "ONESHOT up to %llu bytes (choosing.oneshot_bytes), TWOSHOT above", (unsigned long long)limit);
        return 0;
    }
    if (can_short || can_long) {
        uint32_t strategy = can_long ? TCW_STRATEGY_TWOSHOT : TCW_STRATEGY_ONESHOT;
        add_step(choice, UINT64_MAX, strategy, 0);
        snprintf(why, why_bytes, "%s at every size of this plan", tcw_strategy_name(strategy));
        return 0;
    }
    snprintf(why, why_bytes, "%s, because neither ONESHOT nor TWOSHOT can", tcw_strategy_name(TCW_STRATEGY_NCCL));
    return choose_named(desc, choosing, TCW_STRATEGY_NCCL, choice, error);
}

static uint32_t wanted_strategy(const struct tcw_plan_desc *desc, const struct tcd_choosing *choosing, const char **whose)
{
    *whose = desc->strategy != TCW_STRATEGY_AUTO ? "asked for" : "configured for the group";
    return desc->strategy != TCW_STRATEGY_AUTO ? desc->strategy : choosing->strategy;
}

static int choose_strategy(const struct tcw_plan_desc *desc, const struct tcd_choosing *choosing, struct tcd_choice *choice, char *why,
                           size_t why_bytes, struct tcw_error *error)
{
    const char *whose;
    uint32_t wanted = wanted_strategy(desc, choosing, &whose);

    if (desc->op != TCW_OP_ALL_REDUCE) {
        snprintf(why, why_bytes, "%s has one form", tcw_op_name(desc->op));
        return choose_named(desc, choosing, TCW_STRATEGY_NCCL, choice, error);
    }
    if (wanted == TCW_STRATEGY_AUTO)
        return choose_auto(desc, choosing, choice, why, why_bytes, error);
    snprintf(why, why_bytes, "%s is %s", tcw_strategy_name(wanted), whose);
    if (wanted == TCW_STRATEGY_MIN_LATENCY)
        return choose_min_latency(desc, choosing, choice, error);
    return choose_named(desc, choosing, wanted, choice, error);
}

/* ---- CUDA devices ---- */

static bool is_library(uint32_t strategy)
{
    return strategy == TCW_STRATEGY_NCCL || strategy == TCW_STRATEGY_NCCL_SYMMETRIC;
}

/* The plan as far as messages of so many bytes go. */
static struct tcw_plan_desc part_up_to(const struct tcw_plan_desc *desc, uint64_t bytes)
{
    struct tcw_plan_desc part = *desc;
    uint64_t tokens = bytes / row_bytes(desc);

    if (tokens < part.max_tokens)
        part.max_tokens = tokens ? tokens : 1;
    return part;
}

static const struct tcf_tuning_table *find_table(const struct tcw_plan_desc *desc, const struct tcd_choosing *choosing, char *name,
                                                 size_t name_bytes)
{
    const struct tcf_tuning *tuning = choosing->tuning ? choosing->tuning : tcd_tuning_default();
    const struct tcf_tuning_table *table = tcf_tuning_find(tuning, choosing->nranks, desc->fusion != TCW_FUSION_NONE);

    snprintf(name, name_bytes, "table for %u ranks%s of %.80s%s%s", table->ranks, table->fused ? ", fused," : "", tuning->name,
             *choosing->other_gpu ? ", but " : "", choosing->other_gpu);
    return table;
}

/* What the table would choose for messages longer than any of this plan, if it is something that this plan has nowhere. */
static void reject_longer(const struct tcf_tuning_table *table, uint32_t last, uint64_t largest, struct tcd_choice *choice)
{
    uint32_t known = 0, i;

    for (i = 0; i < choice->decision.step_count; i++)
        known |= 1u << choice->decision.steps[i].strategy;
    for (i = last + 1; i < table->step_count; i++) {
        if (!(known >> table->steps[i].strategy & 1))
            reject(choice, tcw_strategy_name(table->steps[i].strategy),
                   "the table has it for messages of more than %llu bytes, the largest of this plan has %llu",
                   (unsigned long long)table->steps[i - 1].max_bytes, (unsigned long long)largest);
        known |= 1u << table->steps[i].strategy;
    }
}

/*
 * What the table says about messages up to `limit`, as far as the plan's largest needs it, without what cannot run this plan: its
 * neighbours do it then. Above the limit there is room for one step more.
 */
static void choose_measured(const struct tcw_plan_desc *desc, const struct tcd_choosing *choosing, const struct tcf_tuning_table *table,
                            uint64_t limit, struct tcd_choice *choice)
{
    struct tcw_decision *decision = &choice->decision;
    uint64_t largest = largest_message(desc, choosing->nranks);
    bool whole = largest <= limit;
    uint32_t room = whole ? TCW_MAX_DECISION_STEPS : TCW_MAX_DECISION_STEPS - 1, refused = 0, i;

    largest = whole ? largest : limit;
    for (i = 0; i < table->step_count && decision->step_count < room; i++) {
        const struct tcf_tuning_step *step = &table->steps[i];
        struct tcw_plan_desc part = part_up_to(desc, step->max_bytes < largest ? step->max_bytes : largest);
        struct tcw_complaint complaint = {0};

        if (!(refused >> step->strategy & 1) && probe(&part, choosing, step->strategy, choice, &complaint)) {
            refused |= 1u << step->strategy;
            reject(choice, tcw_strategy_name(step->strategy), "%s", complaint.text);
        }
        if (!(refused >> step->strategy & 1))
            add_step(choice, step->max_bytes, step->strategy, step->blocks);
        if (step->max_bytes >= largest)
            break;
    }
    if (whole)
        reject_longer(table, i, largest, choice);
    if (decision->step_count)
        decision->steps[decision->step_count - 1].max_bytes = whole ? UINT64_MAX : limit;
}

/* Kernels write into the memory of all ranks. 0, or ENOTSUP with *error saying which devices are in the way, and what runs there. */
static int check_peers(const struct tcd_choosing *choosing, const char *remedy, struct tcw_error *error)
{
    if (choosing->nranks == 1 || !*choosing->no_peers)
        return 0;
    return tcd_error_set(error, TCW_ENOTSUP, "%s; %s", choosing->no_peers, remedy);
}

/* Our kernels: in the clients on the direct lane. 0, or why they cannot. */
static int choose_kernels(const struct tcw_plan_desc *desc, const struct tcd_choosing *choosing, struct tcd_choice *choice, char *why,
                          size_t why_bytes, struct tcw_error *error)
{
    const char *whose;
    uint32_t wanted = wanted_strategy(desc, choosing, &whose);
    char name[TABLE_NAME_BYTES];
    int code = 0;

    choice->decision.step_count = 0;
    choice->workspace_bytes = 0;
    if (!tcw_op_has_tokens(desc->op))
        return tcd_error_set(error, TCW_ENOTSUP, "%s is run by NCCL, which is in the executors", tcw_op_name(desc->op));
    if (desc->op == TCW_OP_UB_FINALIZE)
        wanted = TCW_STRATEGY_UB;
    if (is_library(wanted))
        return tcd_error_set(error, TCW_ENOTSUP, "%s is %s, and NCCL is in the executors", tcw_strategy_name(wanted), whose);
    if (check_peers(choosing, "the served lane runs it with nccl", error))
        return error->code;
    snprintf(why, why_bytes, "%s is %s", tcw_strategy_name(wanted), whose);
    if (desc->op == TCW_OP_UB_FINALIZE)
        snprintf(why, why_bytes, "%s has one kernel", tcw_op_name(desc->op));
    if (wanted == TCW_STRATEGY_MIN_LATENCY) {
        code = choose_min_latency(desc, choosing, choice, error);
    } else if (wanted != TCW_STRATEGY_AUTO) {
        code = choose_named(desc, choosing, wanted, choice, error);
    } else if (choosing->nranks == 1) {
        snprintf(why, why_bytes, "a group of one exchanges nothing");
        code = choose_named(desc, choosing, TCW_STRATEGY_ONESHOT, choice, error);
    } else {
        choose_measured(desc, choosing, find_table(desc, choosing, name, sizeof(name)), UINT64_MAX, choice);
        snprintf(why, why_bytes, "by size, %s", name);
        if (!choice->decision.step_count) /* what one of them says holds for all */
            code = choose_named(desc, choosing, TCW_STRATEGY_ONESHOT, choice, error);
    }
    if (!code && !choice->workspace_bytes && choosing->nranks > 1)
        code = tcd_error_set(error, TCW_ENOTSUP, "it needs no memory that ranks share, and only NCCL runs such plans");
    return code;
}

/* Our kernels in the executors, for the messages that they carry faster than NCCL does. False: for none, the rejected say why. */
static bool choose_served_kernels(const struct tcw_plan_desc *desc, const struct tcd_choosing *choosing, struct tcd_choice *choice,
                                  char *why, size_t why_bytes)
{
    unsigned long long limit = choosing->served_kernels_bytes;
    char name[TABLE_NAME_BYTES];

    if (choosing->nranks == 1)
        return false;
    if (*choosing->no_peers) {
        reject(choice, "our kernels", "%s", choosing->no_peers);
        return false;
    }
    if (limit < row_bytes(desc)) {
        reject(choice, "our kernels", "messages have %llu bytes or more, and here they serve up to %llu (choosing.served_kernels_bytes)",
               (unsigned long long)row_bytes(desc), limit);
        return false;
    }
    choose_measured(desc, choosing, find_table(desc, choosing, name, sizeof(name)), limit, choice);
    if (choice->workspace_bytes > choosing->max_workspace_bytes) {
        reject(choice, "our kernels", "they need a workspace of %llu bytes, %llu are allowed (limits.workspace_bytes)",
               (unsigned long long)choice->workspace_bytes, (unsigned long long)choosing->max_workspace_bytes);
        choice->decision.step_count = 0;
        choice->workspace_bytes = 0;
    }
    if (!choice->decision.step_count)
        return false;
    if (largest_message(desc, choosing->nranks) <= limit) {
        reject(choice, tcw_strategy_name(TCW_STRATEGY_NCCL), "our kernels serve messages up to %llu bytes (choosing.served_kernels_bytes)",
               limit);
        snprintf(why, why_bytes, "by size, %s", name);
    } else {
        add_step(choice, UINT64_MAX, TCW_STRATEGY_NCCL, 0);
        snprintf(why, why_bytes, "by size, %s up to %llu bytes (choosing.served_kernels_bytes), NCCL above", name, limit);
    }
    return true;
}

static int choose_served(const struct tcw_plan_desc *desc, const struct tcd_choosing *choosing, struct tcd_choice *choice, char *why,
                         size_t why_bytes, struct tcw_error *error)
{
    const char *whose;
    uint32_t wanted = desc->op == TCW_OP_ALL_REDUCE ? wanted_strategy(desc, choosing, &whose) : TCW_STRATEGY_NCCL;
    uint64_t no_served = without_served(choosing);
    char ranks[TCW_TEXT_BYTES / 2];

    choice->decision.step_count = 0;
    choice->workspace_bytes = 0;
    if (no_served)
        return tcd_error_set(error, TCW_ENOTSUP, "the served lane: the clients of %s cannot use a ring",
                             tcd_ranks_text(no_served, ranks, sizeof(ranks)));
    if (choosing->no_library)
        return tcd_error_set(error, TCW_ENOTSUP, "the served lane of cuda devices needs NCCL: %.190s", choosing->no_library);
    if (desc->op == TCW_OP_ALL_REDUCE && choosing->nranks == 1 && wanted != TCW_STRATEGY_AUTO && !is_library(wanted)) {
        /* Refused as it would be in company; a rank alone has nobody to exchange with, and no workspace for it. */
        int code = choose_named(desc, choosing, wanted, choice, error);
        if (code)
            return code;
        choice->decision.step_count = 0;
        wanted = TCW_STRATEGY_AUTO;
    }
    if (wanted == TCW_STRATEGY_AUTO && choose_served_kernels(desc, choosing, choice, why, why_bytes))
        return 0;
    if (wanted == TCW_STRATEGY_AUTO)
        wanted = TCW_STRATEGY_NCCL;
    if (!is_library(wanted) && check_peers(choosing, "use strategy nccl or auto", error))
        return error->code;
    snprintf(why, why_bytes, "%s", tcw_strategy_name(wanted));
    if (wanted == TCW_STRATEGY_MIN_LATENCY)
        return choose_min_latency(desc, choosing, choice, error);
    return choose_named(desc, choosing, wanted, choice, error);
}

/* Those whose kernels have a form over multicast objects. */
static bool has_multicast_form(const struct tcw_decision *decision)
{
    uint32_t i;

    for (i = 0; i < decision->step_count; i++)
        if (decision->steps[i].strategy == TCW_STRATEGY_MNNVL || decision->steps[i].strategy == TCW_STRATEGY_SYMM_MEM ||
            decision->steps[i].strategy == TCW_STRATEGY_UB)
            return true;
    return false;
}

static void choose_multicast(const struct tcw_plan_desc *desc, const struct tcd_choosing *choosing, struct tcd_choice *choice)
{
    if (desc->op != TCW_OP_ALL_REDUCE || choosing->nranks == 1 || !has_multicast_form(&choice->decision))
        return;
    choice->multicast = !*choosing->no_multicast;
    if (!choice->multicast)
        reject(choice, "multicast", "%s", choosing->no_multicast);
}

/* Direct wherever our kernels can run the plan, served otherwise. */
static int choose_cuda(const struct tcw_plan_desc *desc, const struct tcd_choosing *choosing, struct tcd_choice *choice,
                       const char **lane_why, char *why, size_t why_bytes, struct tcw_error *error)
{
    struct tcw_error obstacle;
    char ranks[TCW_TEXT_BYTES / 2];
    uint32_t wanted;

    if (wanted_lane(desc, choosing, &wanted, lane_why, error))
        return error->code;
    if (wanted != TCW_LANE_SERVED) {
        if (without_direct(choosing))
            tcd_error_set(&obstacle, TCW_ENOTSUP, "the clients of %s cannot run operations",
                          tcd_ranks_text(without_direct(choosing), ranks, sizeof(ranks)));
        else if (!choose_kernels(desc, choosing, choice, why, why_bytes, &obstacle)) {
            choice->decision.lane = TCW_LANE_DIRECT;
            choose_multicast(desc, choosing, choice);
            if (wanted == TCW_LANE_AUTO) {
                *lane_why = "our kernels run it in the clients";
                reject(choice, "served lane", "the direct lane needs no executor");
            }
            return 0;
        }
        if (wanted == TCW_LANE_DIRECT) {
            tcd_error_set(error, obstacle.code, "the direct lane is %s: %.200s", *lane_why, obstacle.text);
            tcw_text_set(error->field, sizeof(error->field), obstacle.field);
            error->mine = obstacle.mine;
            return error->code;
        }
        *lane_why = "our kernels cannot run it";
        reject(choice, "direct lane", "%s", obstacle.text);
    }
    choice->decision.lane = TCW_LANE_SERVED;
    if (!choose_served(desc, choosing, choice, why, why_bytes, error) || wanted == TCW_LANE_SERVED)
        return error->code;
    if (!strcmp(obstacle.text, error->text))
        return error->code; /* the same on both */
    snprintf(ranks, sizeof(ranks), "%.110s", error->text);
    return tcd_error_set(error, error->code, "neither lane. Direct: %.110s. Served: %s", obstacle.text, ranks);
}

int tcd_choose(const struct tcw_plan_desc *desc, const struct tcd_choosing *choosing, struct tcd_choice *choice, struct tcw_error *error)
{
    char strategy_why[WHY_BYTES] = "";
    const char *lane_why = "";

    *choice = (struct tcd_choice){.workspace_bytes = 0};
    *error = (struct tcw_error){.code = 0};
    if (choosing->kind == TCK_DEVICE_CUDA) {
        if (choose_cuda(desc, choosing, choice, &lane_why, strategy_why, sizeof(strategy_why), error))
            return error->code;
    } else if (desc->flags & TCW_PLAN_GRAPH) {
        return tcd_error_set(error, TCW_ENOTSUP, "plans on host devices cannot be captured into CUDA graphs");
    } else if (choose_lane(desc, choosing, choice, &lane_why, error) ||
               choose_strategy(desc, choosing, choice, strategy_why, sizeof(strategy_why), error)) {
        return error->code;
    }
    if (choice->workspace_bytes > choosing->max_workspace_bytes)
        return tcd_error_set(error, TCW_EQUOTA, "limits.workspace_bytes: the plan needs a workspace of %llu bytes, %llu are allowed",
                             (unsigned long long)choice->workspace_bytes, (unsigned long long)choosing->max_workspace_bytes);
    snprintf(choice->reason, sizeof(choice->reason), "%s lane: %s; %.200s%s", tcw_lane_name(choice->decision.lane), lane_why, strategy_why,
             choice->multicast ? ", over NVLink multicast" : "");
    return 0;
}
