#include "explain.h"

#include "choosing.h"
#include "daemon.h"
#include "grids.h"
#include "group.h"
#include "text.h"
#include "times.h"

#include <inttypes.h>
#include <stdio.h>

/* JSON numbers are doubles; beyond 2^53 they would lie. */
static void add_u64(cJSON *object, const char *name, uint64_t value)
{
    char text[24];

    if (value <= 1ull << 53) {
        cJSON_AddNumberToObject(object, name, (double)value);
        return;
    }
    snprintf(text, sizeof(text), "%" PRIu64, value);
    cJSON_AddRawToObject(object, name, text);
}

static void add_steps(cJSON *answer, const struct tcw_decision *decision)
{
    cJSON *steps = cJSON_AddArrayToObject(answer, "steps");
    uint32_t i;

    for (i = 0; i < decision->step_count; i++) {
        cJSON *step = cJSON_CreateObject();
        const char *name = tcw_strategy_name(decision->steps[i].strategy);

        if (decision->steps[i].max_bytes == UINT64_MAX)
            cJSON_AddNullToObject(step, "max_bytes");
        else
            add_u64(step, "max_bytes", decision->steps[i].max_bytes);
        cJSON_AddStringToObject(step, "strategy", name ? name : "?");
        if (decision->steps[i].blocks)
            cJSON_AddNumberToObject(step, "blocks", decision->steps[i].blocks);
        cJSON_AddItemToArray(steps, step);
    }
}

static void add_rejected(cJSON *answer, const struct tcd_choice *choice)
{
    cJSON *rejected = cJSON_AddArrayToObject(answer, "rejected");
    unsigned i;

    for (i = 0; i < choice->rejected_count; i++) {
        cJSON *item = cJSON_CreateObject();
        cJSON_AddStringToObject(item, "what", choice->rejected[i].what);
        cJSON_AddStringToObject(item, "why", choice->rejected[i].why);
        cJSON_AddItemToArray(rejected, item);
    }
}

/* Of what there is a choice of. */
static void add_times(cJSON *answer, const struct tcw_plan_desc *desc, const struct tcd_choosing *choosing,
                      const struct tcw_decision *decision, uint64_t bytes)
{
    const struct tcd_times_question question = {.tuning = choosing->tuning,
                                                .nranks = choosing->nranks,
                                                .fused = desc->fusion != TCW_FUSION_NONE,
                                                .bytes = bytes,
                                                .strategy = tcw_decision_strategy(decision, bytes)};

    if (choosing->kind == TCK_DEVICE_CUDA && choosing->nranks > 1 && desc->op == TCW_OP_ALL_REDUCE)
        tcd_times_add(answer, &question);
}

static int find_ranks(struct tcd_daemon *daemon, const struct tcw_admin *question, const struct tcd_instance **instance,
                      const struct tcf_group **wanted, uint32_t *nranks, struct tcw_error *error)
{
    const struct tcd_group *group;

    *instance = NULL;
    *wanted = NULL;
    *nranks = question->size;
    if (*question->group) {
        group = tcd_group_find(daemon, question->group);
        if (!group)
            return tcd_error_set(error, TCW_ENOENT, "there is no group '%s'", question->group);
        *instance = group->ready;
        *wanted = group->configured ? tcf_config_group(daemon->config, group->name) : NULL;
        *nranks = group->size;
    }
    if (!*nranks || *nranks > TCW_MAX_RANKS)
        return tcd_error_set(error, TCW_EINVAL, "%u ranks; allowed are 1 to %d", *nranks, TCW_MAX_RANKS);
    return 0;
}

int tcd_explain(struct tcd_daemon *daemon, const struct tcw_admin *question, cJSON *answer, struct tcw_error *error)
{
    const struct tcw_plan_desc *desc = &question->desc;
    uint64_t tokens = question->tokens ? question->tokens : desc->max_tokens, bytes;
    const struct tcd_instance *instance;
    const struct tcf_group *wanted;
    struct tcw_complaint complaint = {0};
    struct tcd_choosing choosing;
    struct tcd_choice choice;
    const char *strategy;
    uint32_t nranks;
    int code;

    if (find_ranks(daemon, question, &instance, &wanted, &nranks, error))
        return error->code;
    code = tcw_plan_desc_check(desc, nranks, &complaint);
    if (!code)
        code = tcw_plan_tokens_check(desc, tokens, &complaint);
    if (code)
        return tcd_error_set(error, code, "%s", complaint.text);
    if (wanted && !instance && tcd_group_runnable(daemon, wanted, error))
        return error->code;
    tcd_choosing_set(&choosing, daemon, instance, wanted, nranks);
    if (tcd_choose(desc, &choosing, &choice, error))
        return error->code;
    if (instance)
        tcd_grids_agree(instance, &choice);
    bytes = tcw_plan_message_bytes(desc, nranks, 0, tokens);
    strategy = tcw_strategy_name(tcw_decision_strategy(&choice.decision, bytes));

    if (*question->group)
        cJSON_AddStringToObject(answer, "group", question->group);
    cJSON_AddNumberToObject(answer, "ranks", nranks);
    cJSON_AddStringToObject(answer, "device_kind", choosing.kind == TCK_DEVICE_CUDA ? "cuda" : "host");
    cJSON_AddStringToObject(answer, "op", tcw_op_name(desc->op));
    if (tcw_op_has_tokens(desc->op)) {
        add_u64(answer, "tokens", tokens);
        cJSON_AddStringToObject(answer, "fusion", tcw_fusion_name(desc->fusion));
    }
    add_u64(answer, "message_bytes", bytes);
    cJSON_AddStringToObject(answer, "lane", tcw_lane_name(choice.decision.lane));
    cJSON_AddStringToObject(answer, "strategy", strategy ? strategy : "?");
    cJSON_AddStringToObject(answer, "why", choice.reason);
    add_u64(answer, "workspace_bytes", choice.workspace_bytes);
    cJSON_AddBoolToObject(answer, "multicast", choice.multicast);
    add_steps(answer, &choice.decision);
    add_rejected(answer, &choice);
    add_times(answer, desc, &choosing, &choice.decision, bytes);
    return 0;
}
