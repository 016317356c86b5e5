#include "job.h"

#include <stdio.h>
#include <string.h>

static bool slot_is_output(unsigned slot)
{
    return slot == TCW_SLOT_OUT || slot == TCW_SLOT_RESIDUAL_OUT || slot == TCW_SLOT_QUANT_OUT || slot == TCW_SLOT_SCALE_OUT;
}

/* Outputs that may be the very buffer of an input. */
static bool may_be_in_place(const struct tcd_ex_plan *plan, const struct tcd_ex_buffer *out, const struct tcd_ex_buffer *in)
{
    if (out->slot == TCW_SLOT_RESIDUAL_OUT)
        return in->slot == TCW_SLOT_RESIDUAL_IN;
    return out->slot == TCW_SLOT_OUT && in->slot == TCW_SLOT_IN && out->index == in->index &&
           (tcw_op_has_tokens(plan->desc.op) || plan->desc.op == TCW_OP_BROADCAST);
}

static bool overlap(const struct tcw_ref *a, const struct tcw_ref *b)
{
    return a->handle == b->handle && a->length && b->length && a->offset < b->offset + b->length && b->offset < a->offset + a->length;
}

static int refuse(struct tcd_ex_job *job, int code, const char *what, unsigned slot, uint32_t index)
{
    snprintf(job->text, sizeof job->text, "%s (buffer %s[%u])", what, tcw_slot_name(slot), index);
    return code;
}

/* Every output against every other buffer. The ranges lie inside registrations, so their ends do not overflow. */
static int check_overlap(struct tcd_ex_job *job, const struct tcd_ex_plan *plan)
{
    const struct tcw_ref *refs = job->request.refs;
    for (uint32_t i = 0; i < plan->buffer_count; ++i) {
        if (!slot_is_output(plan->buffers[i].slot))
            continue;
        for (uint32_t j = 0; j < plan->buffer_count; ++j) {
            if (i == j || !overlap(&refs[i], &refs[j]))
                continue;
            bool same = refs[i].offset == refs[j].offset && refs[i].length == refs[j].length;
            if (same && (may_be_in_place(plan, &plan->buffers[i], &plan->buffers[j]) ||
                         may_be_in_place(plan, &plan->buffers[j], &plan->buffers[i])))
                continue;
            return refuse(job, TCW_EINVAL, "an output overlaps another buffer", plan->buffers[i].slot, plan->buffers[i].index);
        }
    }
    return 0;
}

static void fill_run(struct tcd_ex_job *job, struct tcd_ex_plan *plan)
{
    void *single[TCW_SLOT_COUNT] = {NULL};
    for (uint32_t i = plan->in_count + plan->out_count; i < plan->buffer_count; ++i)
        single[plan->buffers[i].slot] = job->addresses[i];
    job->run = (struct tck_run){
        .desc = &plan->desc,
        .plan_id = plan->plan_id,
        .strategy = plan->strategy,
        .blocks = plan->blocks,
        .multiprocessors = plan->decision.multiprocessors,
        .compute = plan->decision.compute,
        .tokens = plan->tokens,
        .in = (const void *const *)job->addresses,
        .out = job->addresses + plan->in_count,
        .residual_in = single[TCW_SLOT_RESIDUAL_IN],
        .residual_out = single[TCW_SLOT_RESIDUAL_OUT],
        .norm_weight = single[TCW_SLOT_NORM_WEIGHT],
        .bias = single[TCW_SLOT_BIAS],
        .scale = single[TCW_SLOT_SCALE],
        .quant_out = single[TCW_SLOT_QUANT_OUT],
        .scale_out = single[TCW_SLOT_SCALE_OUT],
    };
}

int tcd_ex_job_prepare(struct tcd_ex_job *job, struct tcd_ex_plan *plan, struct tcd_ex_client *client)
{
    const struct tcw_sqe *head = &job->request.head;
    struct tcw_complaint complaint;
    job->pin_count = 0;
    if (head->op != plan->desc.op) {
        snprintf(job->text, sizeof job->text, "operation %u does not belong to the plan, which is a %s", head->op,
                 tcw_op_name(plan->desc.op));
        return TCW_EINVAL;
    }
    if (head->ref_count != plan->buffer_count) {
        snprintf(job->text, sizeof job->text, "%u buffers, the plan has %u", head->ref_count, plan->buffer_count);
        return TCW_EINVAL;
    }
    if (!plan->sized || plan->tokens != head->tokens) {
        if (tcw_plan_tokens_check(&plan->desc, head->tokens, &complaint) < 0) {
            snprintf(job->text, sizeof job->text, "%.64s: %.180s", complaint.field, complaint.text);
            return TCW_EINVAL;
        }
        tcd_ex_plan_size(plan, head->tokens);
    }
    for (uint32_t i = 0; i < plan->buffer_count; ++i) {
        const struct tcd_ex_buffer *buffer = &plan->buffers[i];
        const struct tcw_ref *ref = &job->request.refs[i];
        if (ref->length != buffer->bytes)
            return refuse(job, TCW_EINVAL, "wrong length", buffer->slot, buffer->index);
        if (ref->offset & (buffer->align - 1u))
            return refuse(job, TCW_EINVAL, "not aligned to its elements", buffer->slot, buffer->index);
    }
    unsigned bad = 0;
    int rc = tcd_ex_client_pin(client, job->request.refs, plan->buffer_count, job->addresses, job->pins, &bad);
    if (rc < 0)
        return refuse(job, rc, rc == TCW_ENOENT ? "unknown or outdated memory handle" : "outside of the registered range",
                      plan->buffers[bad].slot, plan->buffers[bad].index);
    job->pin_count = plan->buffer_count;
    rc = check_overlap(job, plan);
    if (rc < 0)
        return rc;
    fill_run(job, plan);
    return 0;
}

bool tcd_ex_job_release(struct tcd_ex_job *job)
{
    unsigned count = job->pin_count;
    job->pin_count = 0;
    return count && tcd_ex_client_unpin(job->pins, count);
}
