#include "run.h"

#include "args.h"
#include "cuda/gpu.h"
#include "error.h"

static const char *const slot_names[TCW_SLOT_COUNT] = {"in",   "out",   "residual_in", "residual_out", "norm_weight",
                                                       "bias", "scale", "quant_out",   "scale_out"};

/* Inputs are stored beside outputs and only read; the cast stands here once. */
static void *unqualified(const void *pointer)
{
    return (void *)(uintptr_t)pointer;
}

static size_t element_bytes(const struct trtcoll_plan *plan, unsigned slot, uint32_t tensor)
{
    switch (slot) {
    case TCW_SLOT_QUANT_OUT:
    case TCW_SLOT_SCALE_OUT:
        return 1;
    case TCW_SLOT_SCALE:
        return sizeof(float);
    default:
        return tcw_dtype_bytes(tcw_op_has_tokens(plan->desc.op) ? plan->desc.dtype : plan->desc.tensors[tensor].dtype);
    }
}

/* `index` counts this slot's buffers, `tensor` the list's entries. */
static int buffer_check(const struct trtcoll_plan *plan, uint64_t tokens, unsigned slot, uint32_t index, uint32_t tensor,
                        const void *pointer)
{
    const struct tcc_member *member = plan->member;

    if (!pointer) {
        /* Nothing is needed of a buffer of no bytes: a rank whose size is 0, or `in` of a broadcast on the others. */
        if (!tcw_plan_slot_bytes(&plan->desc, member->ready.size, member->ready.rank, tokens, slot, index))
            return 0;
        return tcc_fail(TRTCOLL_EINVAL, "args.%s is NULL%s, but this %s needs it", slot_names[slot],
                        plan->counts[slot] > 1 ? " in a list" : "", tcw_op_name(plan->desc.op));
    }
    if ((uintptr_t)pointer & (element_bytes(plan, slot, tensor) - 1)) /* powers of two */
        return tcc_fail(TRTCOLL_EINVAL, "args.%s is %p, which is not aligned to its element size of %zu bytes", slot_names[slot], pointer,
                        element_bytes(plan, slot, tensor));
    return 0;
}

/* A list: in_list or out_list, or for one tensor also in or out (`alone`). */
static int fill_list(const struct trtcoll_plan *plan, const struct trtcoll_run_args *args, unsigned slot, void *alone, struct tcc_run *run,
                     void **buffers)
{
    bool in = slot == TCW_SLOT_IN, all_to_all = plan->desc.op == TCW_OP_ALL_TO_ALL;
    bool has_list = in ? args->in_list != NULL : args->out_list != NULL;
    uint32_t each = in && all_to_all ? plan->member->ready.size : 1, count = 0, i, j;
    int code;

    if (has_list ? alone != NULL : all_to_all || plan->desc.tensor_count > 1)
        return tcc_fail(TRTCOLL_EINVAL, "this %s takes args.%s_list%s", tcw_op_name(plan->desc.op), slot_names[slot],
                        has_list ? ", so the single pointer must be NULL" : ", which is NULL");
    for (i = 0; i < plan->desc.tensor_count; i++) {
        if (!plan->desc.tensors[i].present)
            continue;
        for (j = 0; j < each; j++, count++) {
            void *pointer = !has_list ? alone : in ? unqualified(args->in_list[i * each + j]) : args->out_list[i * each + j];

            code = buffer_check(plan, run->tokens, slot, count, i, pointer);
            if (code)
                return code;
            buffers[count] = pointer;
        }
    }
    return 0;
}

static bool takes_lists(const struct trtcoll_plan *plan)
{
    return plan->desc.op == TCW_OP_ALL_GATHER || plan->desc.op == TCW_OP_REDUCE_SCATTER || plan->desc.op == TCW_OP_ALL_TO_ALL;
}

static int fill_buffers(const struct trtcoll_plan *plan, const struct trtcoll_run_args *args, struct tcc_run *run)
{
    void *const pointers[TCW_SLOT_COUNT] = {
        [TCW_SLOT_IN] = unqualified(args->in),
        [TCW_SLOT_OUT] = args->out,
        [TCW_SLOT_RESIDUAL_IN] = unqualified(args->residual_in),
        [TCW_SLOT_RESIDUAL_OUT] = args->residual_out,
        [TCW_SLOT_NORM_WEIGHT] = unqualified(args->norm_weight),
        [TCW_SLOT_BIAS] = unqualified(args->bias),
        [TCW_SLOT_SCALE] = unqualified(args->scale),
        [TCW_SLOT_QUANT_OUT] = args->quant_out,
        [TCW_SLOT_SCALE_OUT] = args->scale_out,
    };
    bool lists = takes_lists(plan);
    void **next = run->buffers;
    unsigned slot;
    int code = 0;

    if (!lists && (args->in_list || args->out_list))
        return tcc_fail(TRTCOLL_EINVAL, "%s takes no lists: args.in_list and args.out_list must be NULL", tcw_op_name(plan->desc.op));
    for (slot = 0; slot < TCW_SLOT_COUNT; slot++) {
        if (lists && slot <= TCW_SLOT_OUT) {
            code = fill_list(plan, args, slot, pointers[slot], run, next);
        } else if (plan->used & 1u << slot) {
            *next = pointers[slot];
            code = buffer_check(plan, run->tokens, slot, 0, 0, pointers[slot]);
        } else if (pointers[slot]) {
            code = tcc_fail(TRTCOLL_EINVAL, "args.%s is set, but this %s does not use it: it must be NULL", slot_names[slot],
                            tcw_op_name(plan->desc.op));
        }
        if (code)
            return code;
        next += plan->counts[slot];
    }
    return 0;
}

int tcc_run_fill(const struct trtcoll_plan *plan, const struct trtcoll_run_args *user, struct tcc_run *run)
{
    static const struct trtcoll_run_args nothing = TRTCOLL_RUN_ARGS_INIT;
    struct trtcoll_run_args args;
    const struct tcw_decision_step *step;
    struct tcw_complaint complaint; /* filled by who complains: clearing it takes as long as the rest of this function */
    int code;

    if (!user && plan->desc.op == TCW_OP_BARRIER)
        user = &nothing;
    code = tcc_args_in("args", user, &args, sizeof(args));
    if (code)
        return code;
    if (args.flags & ~(plan->member->lane ? (uint32_t)TRTCOLL_PDL : 0u))
        return tcc_fail(TRTCOLL_EINVAL, "args.flags is 0x%x, allowed %s", args.flags,
                        plan->member->lane ? "is TRTCOLL_PDL" : "on host devices is nothing");
    code = tcw_plan_tokens_check(&plan->desc, args.tokens, &complaint);
    if (code)
        return tcc_fail_plainly(code, complaint.text);
    run->tokens = args.tokens;
    run->message_bytes = tcw_plan_message_bytes(&plan->desc, plan->member->ready.size, plan->member->ready.rank, args.tokens);
    step = tcw_decision_step(&plan->decision, run->message_bytes);
    run->strategy = step->strategy;
    run->blocks = step->blocks;
    run->pdl = args.flags & TRTCOLL_PDL;
    return fill_buffers(plan, &args, run);
}

void tcc_run_work(const struct trtcoll_plan *plan, const struct tcc_run *run, struct tck_run *work)
{
    void *const *next = run->buffers + plan->counts[TCW_SLOT_IN] + plan->counts[TCW_SLOT_OUT];

    *work = (struct tck_run){.desc = &plan->desc,
                             .plan_id = plan->plan_id,
                             .strategy = run->strategy,
                             .blocks = run->blocks,
                             .multiprocessors = plan->decision.multiprocessors,
                             .compute = plan->decision.compute,
                             .tokens = run->tokens,
                             .in = (const void *const *)run->buffers,
                             .out = run->buffers + plan->counts[TCW_SLOT_IN]};
    if (plan->used & 1u << TCW_SLOT_RESIDUAL_IN)
        work->residual_in = *next++;
    if (plan->used & 1u << TCW_SLOT_RESIDUAL_OUT)
        work->residual_out = *next++;
    if (plan->used & 1u << TCW_SLOT_NORM_WEIGHT)
        work->norm_weight = *next++;
    if (plan->used & 1u << TCW_SLOT_BIAS)
        work->bias = *next++;
    if (plan->used & 1u << TCW_SLOT_SCALE)
        work->scale = *next++;
    if (plan->used & 1u << TCW_SLOT_QUANT_OUT)
        work->quant_out = *next++;
    if (plan->used & 1u << TCW_SLOT_SCALE_OUT)
        work->scale_out = *next++;
}

int tcc_plan_run(struct trtcoll_plan *plan, const struct trtcoll_run_args *args, struct CUstream_st *stream, struct trtcoll_event **event)
{
    struct tcc_run run;
    int code = tcc_run_fill(plan, args, &run);

    if (code)
        return code;
    run.stream = stream;
    if (plan->workspace && plan->member->lane)
        return tcc_lane_run(plan, &run, event);
    return plan->workspace ? tcc_direct_run(plan, &run, event) : tcc_served_run(plan, &run, event);
}

int trtcoll_plan_run(struct trtcoll_plan *plan, const struct trtcoll_run_args *args, struct CUstream_st *stream,
                     struct trtcoll_event **event)
{
    int code = tcc_plan_enter(plan);

    if (code)
        return code;
    if (stream && !plan->member->lane)
        return tcc_fail_plainly(TRTCOLL_EINVAL, "stream must be NULL on a group of host devices");
    return tcc_plan_run(plan, args, stream, event);
}
