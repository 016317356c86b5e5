#include "flight.h"

#include "error.h"

#include <string.h>

int tcc_flight_reserve(struct tcc_flight *flight, struct trtcoll_ctx *ctx, uint32_t count)
{
    if (count <= flight->room)
        return 0;
    tcc_flight_destroy(flight, ctx);
    flight->uses = tcc_alloc(ctx, count * sizeof(struct tcc_use));
    flight->refs = tcc_alloc(ctx, count * sizeof(struct tcw_ref));
    if (!flight->uses || !flight->refs) {
        tcc_flight_destroy(flight, ctx);
        return tcc_fail_code(TRTCOLL_ENOMEM, "request");
    }
    flight->room = count;
    return 0;
}

void tcc_flight_destroy(struct tcc_flight *flight, struct trtcoll_ctx *ctx)
{
    tcc_free(ctx, flight->uses);
    tcc_free(ctx, flight->refs);
    flight->uses = NULL;
    flight->refs = NULL;
    flight->room = 0;
}

static bool slot_is_out(unsigned slot)
{
    switch (slot) {
    case TCW_SLOT_OUT:
    case TCW_SLOT_RESIDUAL_OUT:
    case TCW_SLOT_QUANT_OUT:
    case TCW_SLOT_SCALE_OUT:
        return true;
    default:
        return false;
    }
}

/* What the run needs of every buffer, but not yet where the executor finds it. */
static void describe(struct tcc_flight *flight, const struct trtcoll_plan *plan, const struct tcc_run *run)
{
    const struct tcw_group_ready *ready = &plan->member->ready;
    uint32_t index, next = 0;
    unsigned slot;

    flight->staged = false;
    for (slot = 0; slot < TCW_SLOT_COUNT; slot++)
        for (index = 0; index < plan->counts[slot]; index++, next++) {
            uint64_t bytes = tcw_plan_slot_bytes(&plan->desc, ready->size, ready->rank, run->tokens, slot, index);
            bool out = slot_is_out(slot);

            /* The padding of scale factors is not written: what is there must come back. */
            flight->uses[next] =
                (struct tcc_use){.user = run->buffers[next], .bytes = bytes, .in = !out || slot == TCW_SLOT_SCALE_OUT, .out = out};
            flight->refs[next] = (struct tcw_ref){.length = bytes};
        }
    flight->count = next;
}

/* The buffers in memory that the executor knows. True: these are all. */
static bool locate(struct tcc_flight *flight, struct trtcoll_ctx *ctx)
{
    bool all = true;
    uint32_t i;

    pthread_mutex_lock(&ctx->memory.lock);
    for (i = 0; i < flight->count; i++) {
        struct tcc_use *use = &flight->uses[i];

        if (!use->bytes)
            continue;
        use->range = tcc_memory_find(&ctx->memory, use->user, use->bytes);
        if (use->range) {
            flight->refs[i].handle = use->range->handle;
            flight->refs[i].offset = (uintptr_t)use->user - use->range->start;
        } else {
            all = false;
        }
    }
    pthread_mutex_unlock(&ctx->memory.lock);
    return all;
}

/* Blocks for the others. */
static int stage(struct tcc_flight *flight, struct trtcoll_ctx *ctx)
{
    uint32_t i;
    int code;

    for (i = 0; i < flight->count; i++) {
        struct tcc_use *use = &flight->uses[i];

        if (!use->bytes || use->range)
            continue;
        code = tcc_block_get(ctx, use->bytes, &use->block);
        if (code)
            return code;
        flight->staged = true;
        flight->refs[i].handle = use->block->chunk->handle;
        flight->refs[i].offset = use->block->offset;
    }
    return 0;
}

bool tcc_flight_knows(struct trtcoll_ctx *ctx, const void *pointer, uint64_t bytes)
{
    struct tcc_range *range;

    pthread_mutex_lock(&ctx->memory.lock);
    range = tcc_memory_find(&ctx->memory, pointer, bytes);
    pthread_mutex_unlock(&ctx->memory.lock);
    if (range)
        tcc_range_drop(range);
    return range != NULL;
}

bool tcc_flight_find(struct tcc_flight *flight, const struct trtcoll_plan *plan, const struct tcc_run *run)
{
    struct trtcoll_ctx *ctx = plan->member->ctx;

    if (plan->ref_count > flight->room)
        return false;
    describe(flight, plan, run);
    if (locate(flight, ctx))
        return true;
    tcc_flight_empty(flight, ctx, false, false);
    return false;
}

int tcc_flight_fill(struct tcc_flight *flight, const struct trtcoll_plan *plan, const struct tcc_run *run)
{
    struct trtcoll_ctx *ctx = plan->member->ctx;
    int code = tcc_flight_reserve(flight, ctx, plan->ref_count);

    if (code)
        return code;
    describe(flight, plan, run);
    if (locate(flight, ctx))
        return 0;
    code = stage(flight, ctx);
    if (code)
        tcc_flight_empty(flight, ctx, false, false);
    return code;
}

static bool overlap(const struct tcc_use *a, const struct tcc_use *b)
{
    return a->user < b->user + b->bytes && b->user < a->user + a->bytes;
}

static bool contains(const struct tcc_use *outer, const struct tcc_use *inner)
{
    return inner->user >= outer->user && inner->user + inner->bytes <= outer->user + outer->bytes;
}

/* The newest older output that this buffer overlaps in a way that the order of the ring alone does not make right, or NULL. */
static const struct tcc_use *pending_output(const struct tcc_use *use, const struct tcc_flight *newest)
{
    const struct tcc_flight *flight;
    uint32_t i;

    for (flight = newest; flight; flight = flight->older)
        for (i = 0; i < flight->count; i++) {
            const struct tcc_use *older = &flight->uses[i];

            if (!older->out || !older->bytes || !overlap(use, older))
                continue;
            /* Both where they lie: the executor runs in order. An output that is copied back later comes after all older ones. */
            if ((use->range && older->range) || (use->block && !use->in))
                continue;
            return older;
        }
    return NULL;
}

/* The older request's block already holds, or will hold when this one runs, what the input reads. */
static void share(struct tcc_use *use, struct tcw_ref *ref, struct trtcoll_ctx *ctx, const struct tcc_use *older)
{
    tcc_block_hold(ctx, older->block);
    tcc_block_put(ctx, use->block, false);
    use->block = older->block;
    use->in = false; /* there is nothing to copy */
    ref->handle = use->block->chunk->handle;
    ref->offset = use->block->offset + (uint64_t)(use->user - older->user);
}

tcc_hazard tcc_flight_load(struct tcc_flight *flight, struct trtcoll_ctx *ctx, const struct tcc_flight *newest)
{
    const struct tcc_use *older;
    uint32_t i;

    for (i = 0; i < flight->count; i++) {
        struct tcc_use *use = &flight->uses[i];

        if (!use->bytes || !newest)
            continue;
        older = pending_output(use, newest);
        if (!older)
            continue;
        if (!older->block || !use->block || use->out || !contains(older, use))
            return TCC_HAZARD_WAIT;
        share(use, &flight->refs[i], ctx, older);
    }
    for (i = 0; i < flight->count; i++)
        if (flight->uses[i].block && flight->uses[i].in)
            memcpy(flight->uses[i].block->base, flight->uses[i].user, flight->uses[i].bytes);
    return TCC_HAZARD_NONE;
}

void tcc_flight_empty(struct tcc_flight *flight, struct trtcoll_ctx *ctx, bool deliver, bool condemn)
{
    uint32_t i;

    for (i = 0; i < flight->count; i++) {
        struct tcc_use *use = &flight->uses[i];

        if (deliver && use->block && use->out)
            memcpy(use->user, use->block->base, use->bytes);
        if (use->block)
            tcc_block_put(ctx, use->block, condemn);
        if (use->range)
            tcc_range_drop(use->range);
    }
    flight->count = 0;
}
