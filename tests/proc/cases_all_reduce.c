#include "cases.h"

#include <stdlib.h>
#include <string.h>

enum { LARGE = 50000 }; /* elements */

void *case_buffer(size_t bytes)
{
    void *buffer = malloc(bytes ? bytes : 1);
    CHECK(buffer != NULL);
    memset(buffer, 0xee, bytes);
    return buffer;
}

struct trtcoll_group_info case_group_info(struct trtcoll_group *group)
{
    struct trtcoll_group_info info = {.size = sizeof(info)};
    CHECK_OK(trtcoll_group_status(group, &info));
    return info;
}

void case_execute(struct trtcoll_plan *plan, const struct trtcoll_run_args *args, bool with_event)
{
    case_execute_lists(plan, args, 0, 0, with_event);
}

void case_execute_lists(struct trtcoll_plan *plan, const struct trtcoll_run_args *args, unsigned ins, unsigned outs, bool with_event)
{
    struct trtcoll_event *event = NULL;
    if (proc_machine) {
        CHECK_OK(proc_machine->run(plan, args, ins, outs, with_event));
        return;
    }
    CHECK_OK(trtcoll_plan_run(plan, args, NULL, with_event ? &event : NULL));
    if (!with_event)
        return;
    CHECK(event != NULL);
    CHECK_OK(trtcoll_event_wait(event, UINT32_MAX));
    CHECK_OK(trtcoll_event_query(event));
    trtcoll_event_put(event);
}

#define PICK(random, ...) ((const unsigned[]){__VA_ARGS__}[ref_random(random) % (sizeof((unsigned[]){__VA_ARGS__}) / sizeof(unsigned))])

struct case_all_reduce case_all_reduce_random(uint64_t *random, unsigned lane, size_t most)
{
    struct case_all_reduce job = {.lane = lane, .seed = ref_random(random)};
    job.strategy = PICK(random, TRTCOLL_STRATEGY_NCCL, TRTCOLL_STRATEGY_MIN_LATENCY, TRTCOLL_STRATEGY_AUTO, TRTCOLL_STRATEGY_ONESHOT,
                        TRTCOLL_STRATEGY_TWOSHOT, TRTCOLL_STRATEGY_MNNVL);
    job.fusion = PICK(random, 0, 0, 1, 4, 5, 6, 7);
    job.dtype = PICK(random, TRTCOLL_FP32, TRTCOLL_FP16, TRTCOLL_BF16);
    bool nvfp4 = job.fusion == 5 || job.fusion == 7;
    if (nvfp4 && job.dtype == TRTCOLL_FP32)
        job.dtype = TRTCOLL_BF16;
    job.data = (ref_data)PICK(random, REF_SMALL, REF_SMALL, REF_WIDE, REF_ZEROS, REF_SPIKES, REF_SPECIAL);
    if (job.dtype != TRTCOLL_FP32 && ref_random(random) % 4 == 0)
        job.flags |= TRTCOLL_ACC_FP32;
    if (ref_random(random) % 3 == 0)
        job.flags |= TRTCOLL_BIAS;
    if (job.fusion == 0) {
        job.hidden = PICK(random, 1, 3, 7, 8, 17, 64, 1000, 2880, 7176);
        if (ref_random(random) % 3 == 0) {
            job.flags = 0;
            job.dtype = PICK(random, TRTCOLL_FP64, TRTCOLL_INT8, TRTCOLL_UINT8, TRTCOLL_INT32, TRTCOLL_UINT32, TRTCOLL_INT64,
                             TRTCOLL_UINT64, TRTCOLL_FP32, TRTCOLL_BF16);
            job.redop = PICK(random, TRTCOLL_SUM, TRTCOLL_MIN, TRTCOLL_MAX, TRTCOLL_PROD, TRTCOLL_AVG);
            /* Products and averages of small numbers are exact or close; order of NaN in a minimum is nobody's promise. */
            if (job.redop != TRTCOLL_SUM)
                job.data = REF_SMALL;
        }
    } else {
        job.hidden = PICK(random, 16, 32, 64, 80, 1024, 2880, 4096, 7168, 8192);
        if (!nvfp4)
            job.hidden = PICK(random, 8, 24, 64, 2880, 7168, 7176, 8192);
        /* An infinity in a row makes all of its norm NaN or zero: nothing to compare. Squares of the largest numbers overflow. */
        if (job.data == REF_SPECIAL)
            job.data = REF_SPIKES;
    }
    uint64_t largest = most / job.hidden ? most / job.hidden : 1;
    job.tokens = PICK(random, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 128, 129, 300);
    if (job.tokens > largest)
        job.tokens = 1 + ref_random(random) % largest;
    job.max_tokens = job.tokens + ref_random(random) % 3;
    job.in_place = job.fusion == 0 && ref_random(random) % 2;
    return job;
}

struct buffers {
    void *in[TRTCOLL_MAX_RANKS]; /* of all ranks: every rank knows what the others send */
    void *own;                   /* this rank's input as it is handed over */
    void *residual_in, *norm_weight, *bias;
    void *out, *residual_out, *quant_out, *scale_out;
    size_t out_bytes, residual_bytes, quant_bytes, scale_bytes;
    float scale;
};

/* `all`: with the inputs of all ranks, for the reference; else only this rank's. */
static void buffers_make(struct buffers *b, const struct case_all_reduce *job, const struct trtcoll_group_info *info, bool all)
{
    size_t elements = job->tokens * job->hidden, bytes = elements * ref_bytes(job->dtype), row = job->hidden * ref_bytes(job->dtype);
    memset(b, 0, sizeof(*b));
    for (unsigned rank = 0; rank < info->nranks; rank++) {
        if (!all && rank != info->rank)
            continue;
        b->in[rank] = case_buffer(bytes);
        ref_fill(job->dtype, job->data, job->seed + rank, b->in[rank], elements);
        /* Products and averages must come out exact whatever the order: powers of two. */
        if (ref_is_float(job->dtype) && job->redop != TRTCOLL_SUM && job->redop != TRTCOLL_MIN && job->redop != TRTCOLL_MAX)
            for (size_t i = 0; i < elements; i++)
                ref_set(job->dtype, b->in[rank], i, (i + rank) % 3 ? 1.0 : (i % 2 ? 0.5 : -2.0));
    }
    b->own = job->in_place ? NULL : case_buffer(bytes);
    bool fused = job->fusion != TRTCOLL_FUSION_NONE, fp8 = job->fusion == 4 || job->fusion == 6;
    bool nvfp4 = job->fusion == 5 || job->fusion == 7;
    if (job->flags & TRTCOLL_BIAS) {
        b->bias = case_buffer(row);
        ref_fill(job->dtype, REF_SMALL, job->seed ^ 1, b->bias, job->hidden);
    }
    if (fused) {
        b->residual_in = case_buffer(bytes);
        b->norm_weight = case_buffer(row);
        b->residual_out = case_buffer(b->residual_bytes = bytes);
        ref_fill(job->dtype, job->data == REF_ZEROS ? REF_ZEROS : REF_SMALL, job->seed ^ 2, b->residual_in, elements);
        ref_fill(job->dtype, REF_SMALL, job->seed ^ 3, b->norm_weight, job->hidden);
    }
    if (!fp8 && !nvfp4)
        b->out = case_buffer(b->out_bytes = bytes);
    if (job->fusion == 6 || job->fusion == 7)
        b->out = case_buffer(b->out_bytes = bytes);
    if (fp8) {
        b->quant_out = case_buffer(b->quant_bytes = elements);
        b->scale = 0.01f + (float)(job->seed % 7) * 0.003f;
    }
    if (nvfp4) {
        b->quant_out = case_buffer(b->quant_bytes = elements / 2);
        b->scale_out = case_buffer(b->scale_bytes = (job->tokens + 127) / 128 * 128 * ((job->hidden / 16 + 3) / 4 * 4));
        b->scale = 448.0f * 6.0f / (2.0f + (float)(job->seed % 9));
    }
}

static void buffers_free(struct buffers *b)
{
    for (unsigned rank = 0; rank < TRTCOLL_MAX_RANKS; rank++)
        free(b->in[rank]);
    free(b->own);
    free(b->residual_in);
    free(b->norm_weight);
    free(b->bias);
    free(b->out);
    free(b->residual_out);
    free(b->quant_out);
    free(b->scale_out);
}

static uint64_t hash(uint64_t seed, const void *data, size_t bytes)
{
    const unsigned char *at = data;
    for (size_t i = 0; i < bytes; i++)
        seed = (seed ^ at[i]) * 0x100000001b3ull;
    return seed;
}

/* All ranks must hold the same bits: compared through the harness, not through the library under test. */
static void check_same_everywhere(struct proc_me *me, uint64_t mine)
{
    atomic_store(&me->slot->values[PROC_VALUES - 1], mine);
    proc_barrier(me);
    for (int rank = 0; rank < me->nranks; rank++)
        CHECK_MSG(atomic_load(&me->shared->ranks[rank].values[PROC_VALUES - 1]) == mine, "rank %d holds other bits than rank %d", rank,
                  me->rank);
    proc_barrier(me);
}

static uint64_t run_once(struct trtcoll_plan *plan, const struct case_all_reduce *job, const struct ref_all_reduce *reference,
                         struct buffers *b, const struct trtcoll_group_info *info, bool with_event)
{
    size_t bytes = job->tokens * job->hidden * ref_bytes(job->dtype);
    void *in = job->in_place ? b->out : b->own;
    memcpy(in, b->in[info->rank], bytes);
    if (b->scale_out)
        memset(b->scale_out, 0xee, b->scale_bytes);
    struct trtcoll_run_args args = TRTCOLL_RUN_ARGS_INIT;
    args.tokens = job->tokens;
    args.in = in;
    args.out = b->out;
    args.residual_in = b->residual_in;
    args.residual_out = b->residual_out;
    args.norm_weight = b->norm_weight;
    args.bias = b->bias;
    args.scale = b->quant_out ? &b->scale : NULL;
    args.quant_out = b->quant_out;
    args.scale_out = b->scale_out;
    case_execute(plan, &args, with_event);
    if (!job->in_place)
        CHECK_MSG(memcmp(in, b->in[info->rank], bytes) == 0, "the input was written");
    struct ref_outputs got = {b->out, b->residual_out, b->quant_out, b->scale_out, 0xee};
    const char *fault = reference ? ref_check_all_reduce(reference, &got) : NULL;
    CHECK_MSG(!fault, "%s; tokens %llu, hidden %llu, lane %u, data %d, in place %d, seed %llu", fault, (unsigned long long)job->tokens,
              (unsigned long long)job->hidden, job->lane, job->data, job->in_place, (unsigned long long)job->seed);
    uint64_t sum = hash(job->seed, b->out, b->out_bytes);
    sum = hash(sum, b->residual_out, b->residual_bytes);
    sum = hash(sum, b->quant_out, b->quant_bytes);
    return hash(sum, b->scale_out, b->scale_bytes);
}

void case_all_reduce_run(struct proc_me *me, struct trtcoll_group *group, const struct case_all_reduce *job, unsigned runs)
{
    struct trtcoll_group_info info = case_group_info(group);
    struct trtcoll_all_reduce_desc desc = TRTCOLL_ALL_REDUCE_DESC_INIT;
    struct trtcoll_plan_info plan_info = {.size = sizeof(plan_info)};
    struct trtcoll_plan *plan = NULL;
    struct buffers buffers;
    desc.dtype = job->dtype;
    desc.redop = job->redop;
    desc.strategy = job->strategy;
    desc.fusion = job->fusion;
    desc.lane = job->lane;
    desc.flags = job->flags;
    desc.eps = job->fusion ? 1e-5f : 0;
    desc.max_tokens = job->max_tokens;
    desc.hidden = job->hidden;
    CHECK_OK(trtcoll_plan_create_all_reduce(group, &desc, &plan));
    CHECK_OK(trtcoll_plan_info(plan, &plan_info));
    CHECK_MSG(job->lane == TRTCOLL_LANE_AUTO || plan_info.lane == job->lane, "asked for lane %u, got %u", job->lane, plan_info.lane);
    CHECK_MSG(job->strategy == TRTCOLL_STRATEGY_AUTO || plan_info.strategy == job->strategy ||
                  job->strategy == TRTCOLL_STRATEGY_MIN_LATENCY || info.nranks == 1,
              "asked for strategy %u, got %u", job->strategy, plan_info.strategy);
    /* All ranks must have the same bits in the end, so of a large message one of them looks at the numbers. */
    bool judge = job->tokens * job->hidden < LARGE || job->seed % info.nranks == info.rank;
    buffers_make(&buffers, job, &info, judge);
    struct ref_all_reduce reference = {.dtype = job->dtype, .redop = job->redop, .fusion = job->fusion, .flags = job->flags};
    reference.strategy = plan_info.strategy;
    reference.eps = (double)desc.eps;
    reference.nranks = info.nranks;
    reference.tokens = job->tokens;
    reference.hidden = job->hidden;
    reference.in = (const void *const *)buffers.in;
    reference.residual_in = buffers.residual_in;
    reference.norm_weight = buffers.norm_weight;
    reference.bias = buffers.bias;
    reference.scale = buffers.scale;
    uint64_t first = 0;
    for (unsigned i = 0; i < runs; i++) {
        uint64_t bits = run_once(plan, job, judge && !i ? &reference : NULL, &buffers, &info, (job->seed + i) % 2);
        CHECK_MSG(i == 0 || bits == first, "run %u has other bits than the first", i);
        first = bits;
    }
    check_same_everywhere(me, first);
    buffers_free(&buffers);
    CHECK_OK(trtcoll_plan_release(plan));
}
