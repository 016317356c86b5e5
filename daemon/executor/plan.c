#include "plan.h"

#include <stdio.h>
#include <stdlib.h>

/* Element size of the list entry that buffer `index` belongs to. */
static uint32_t tensor_align(const struct tcw_plan_desc *desc, uint32_t nranks, unsigned slot, uint32_t index)
{
    uint32_t wanted = desc->op == TCW_OP_ALL_TO_ALL && slot == TCW_SLOT_IN ? index / nranks : index;
    for (uint32_t i = 0; i < desc->tensor_count; ++i)
        if (desc->tensors[i].present && !wanted--)
            return (uint32_t)tcw_dtype_bytes(desc->tensors[i].dtype);
    return 1;
}

static uint32_t buffer_align(const struct tcw_plan_desc *desc, uint32_t nranks, unsigned slot, uint32_t index)
{
    if (slot == TCW_SLOT_QUANT_OUT || slot == TCW_SLOT_SCALE_OUT)
        return 1;
    if (slot == TCW_SLOT_SCALE)
        return sizeof(float);
    return tcw_op_has_tokens(desc->op) ? (uint32_t)tcw_dtype_bytes(desc->dtype) : tensor_align(desc, nranks, slot, index);
}

int tcd_ex_plan_create(const struct tcd_ex_message *message, uint32_t rank, uint32_t nranks, struct tcd_ex_workspace *workspace,
                       struct tcd_ex_plan **out, char *text)
{
    struct tcw_complaint complaint;
    int rc = tcw_plan_desc_check(&message->desc, nranks, &complaint);
    if (rc < 0) {
        snprintf(text, TCW_TEXT_BYTES, "%.64s: %.180s", complaint.field, complaint.text);
        return rc;
    }
    if (message->decision.step_count < 1 || message->decision.step_count > TCW_MAX_DECISION_STEPS) {
        snprintf(text, TCW_TEXT_BYTES, "a decision of %u steps", message->decision.step_count);
        return TCW_EINVAL;
    }
    uint32_t count = 0;
    for (unsigned slot = 0; slot < TCW_SLOT_COUNT; ++slot)
        count += tcw_plan_slot_count(&message->desc, nranks, slot);
    if (count > TCW_MAX_REFS) {
        snprintf(text, TCW_TEXT_BYTES, "%u buffers in one run, at most %u are possible on the served lane", count, (unsigned)TCW_MAX_REFS);
        return TCW_ENOTSUP;
    }
    struct tcd_ex_plan *plan = calloc(1, sizeof *plan + count * sizeof plan->buffers[0]);
    if (!plan) {
        snprintf(text, TCW_TEXT_BYTES, "out of memory");
        return TCW_ENOMEM;
    }
    plan->handle = message->handle;
    plan->plan_id = message->plan_id;
    plan->rank = rank;
    plan->nranks = nranks;
    plan->desc = message->desc;
    plan->decision = message->decision;
    plan->workspace = workspace;
    for (unsigned slot = 0; slot < TCW_SLOT_COUNT; ++slot)
        for (uint32_t i = 0; i < tcw_plan_slot_count(&plan->desc, nranks, slot); ++i) {
            struct tcd_ex_buffer *buffer = &plan->buffers[plan->buffer_count++];
            buffer->slot = (uint16_t)slot;
            buffer->index = i;
            buffer->align = (uint16_t)buffer_align(&plan->desc, nranks, slot, i);
        }
    plan->in_count = tcw_plan_slot_count(&plan->desc, nranks, TCW_SLOT_IN);
    plan->out_count = tcw_plan_slot_count(&plan->desc, nranks, TCW_SLOT_OUT);
    *out = plan;
    return 0;
}

void tcd_ex_plan_free(struct tcd_ex_plan *plan)
{
    free(plan);
}

void tcd_ex_plan_size(struct tcd_ex_plan *plan, uint64_t tokens)
{
    if (plan->sized && plan->tokens == tokens)
        return;
    for (uint32_t i = 0; i < plan->buffer_count; ++i) {
        struct tcd_ex_buffer *buffer = &plan->buffers[i];
        buffer->bytes = tcw_plan_slot_bytes(&plan->desc, plan->nranks, plan->rank, tokens, buffer->slot, buffer->index);
    }
    plan->message_bytes = tcw_plan_message_bytes(&plan->desc, plan->nranks, plan->rank, tokens);
    const struct tcw_decision_step *step = tcw_decision_step(&plan->decision, plan->message_bytes);
    plan->strategy = step->strategy;
    plan->blocks = step->blocks;
    plan->tokens = tokens;
    plan->sized = true;
}

void tcd_ex_plan_note(const struct tcd_ex_plan *plan, uint64_t submit_ns, struct tcw_run_note *note)
{
    *note = (struct tcw_run_note){
        .plan_id = plan->plan_id,
        .op = plan->desc.op,
        .lane = TCW_LANE_SERVED,
        .strategy = (uint8_t)plan->strategy,
        .dtype_fusion = plan->desc.dtype | (uint32_t)plan->desc.fusion << 16,
        .bytes = plan->message_bytes,
        .tokens = plan->tokens,
        .submit_ns = submit_ns,
    };
}
