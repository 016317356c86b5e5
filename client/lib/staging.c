#include "staging.h"

#include "context.h"
#include "error.h"

#include <string.h>

enum {
    SMALLEST = 4096,           /* block */
    CHUNK_BYTES = 1024 * 1024, /* of chunks that are cut up; larger blocks are chunks of their own */
    STEPS_PER_OCTAVE = 8,      /* block sizes between two powers of two: at most an eighth is wasted */
};

int tcc_staging_create(struct tcc_staging *staging)
{
    memset(staging, 0, sizeof(*staging));
    return pthread_mutex_init(&staging->lock, NULL) ? TRTCOLL_ENOMEM : 0;
}

void tcc_staging_destroy(struct trtcoll_ctx *ctx)
{
    struct tcc_chunk *chunk, *next;

    for (chunk = ctx->staging.chunks; chunk; chunk = next) {
        next = chunk->next;
        tcc_daemon_memory_unmap(ctx, &chunk->memory);
        tcc_free(ctx, chunk);
    }
    ctx->staging.chunks = NULL;
    ctx->staging.free = NULL;
    pthread_mutex_destroy(&ctx->staging.lock);
}

/* Rounded up to the next size that blocks have: powers of two up to a chunk, then eight steps per power of two. */
static uint64_t size_class(uint64_t bytes)
{
    uint64_t power = SMALLEST, step;

    while (power < bytes)
        power *= 2;
    if (power <= CHUNK_BYTES)
        return power;
    step = power / 2 / STEPS_PER_OCTAVE;
    return (bytes + step - 1) / step * step;
}

static struct tcc_block *take_free(struct tcc_staging *staging, uint64_t block_bytes)
{
    struct tcc_block **link, *block;

    pthread_mutex_lock(&staging->lock);
    for (link = &staging->free; *link && (*link)->chunk->block_bytes != block_bytes; link = &(*link)->next)
        ;
    block = *link;
    if (block) {
        *link = block->next;
        block->holders = 1;
        block->chunk->in_use++;
    }
    pthread_mutex_unlock(&staging->lock);
    return block;
}

/* With the lock: takes the chunk's blocks out of the free list. */
static void forget_blocks(struct tcc_staging *staging, const struct tcc_chunk *chunk)
{
    struct tcc_block **link = &staging->free;

    while (*link)
        if ((*link)->chunk == chunk)
            *link = (*link)->next;
        else
            link = &(*link)->next;
}

void tcc_staging_trim(struct trtcoll_ctx *ctx, bool all)
{
    struct tcc_staging *staging = &ctx->staging;
    struct tcc_chunk **link, *chunk, *unused = NULL;

    pthread_mutex_lock(&staging->lock);
    for (link = &staging->chunks; *link;) {
        chunk = *link;
        if (chunk->in_use || !(all || chunk->condemned)) {
            link = &chunk->next;
            continue;
        }
        *link = chunk->next;
        forget_blocks(staging, chunk);
        chunk->next = unused;
        unused = chunk;
    }
    pthread_mutex_unlock(&staging->lock);
    while (unused) {
        chunk = unused;
        unused = chunk->next;
        tcc_daemon_memory_put(ctx, &chunk->memory, chunk->handle);
        tcc_free(ctx, chunk);
    }
}

/* Makes a chunk of blocks of this size, all free. */
static int grow(struct trtcoll_ctx *ctx, uint64_t block_bytes)
{
    struct tcc_staging *staging = &ctx->staging;
    uint32_t count = block_bytes >= CHUNK_BYTES ? 1 : (uint32_t)(CHUNK_BYTES / block_bytes), i;
    struct tcc_chunk *chunk = tcc_alloc(ctx, sizeof(*chunk) + count * sizeof(struct tcc_block));
    int code;

    if (!chunk)
        return tcc_fail_code(TRTCOLL_ENOMEM, "staging memory");
    code = tcc_daemon_memory_get(ctx, count * block_bytes, &chunk->memory, &chunk->handle);
    if (code == TRTCOLL_EQUOTA || code == TRTCOLL_ENOMEM) {
        tcc_staging_trim(ctx, true);
        code = tcc_daemon_memory_get(ctx, count * block_bytes, &chunk->memory, &chunk->handle);
    }
    if (code) {
        tcc_free(ctx, chunk);
        return code;
    }
    chunk->block_bytes = block_bytes;
    chunk->block_count = count;
    pthread_mutex_lock(&staging->lock);
    chunk->next = staging->chunks;
    staging->chunks = chunk;
    for (i = count; i-- > 0;) {
        struct tcc_block *block = &chunk->blocks[i];

        block->chunk = chunk;
        block->offset = i * block_bytes;
        block->base = (unsigned char *)chunk->memory.base + block->offset;
        block->next = staging->free;
        staging->free = block;
    }
    pthread_mutex_unlock(&staging->lock);
    return 0;
}

int tcc_block_get(struct trtcoll_ctx *ctx, uint64_t bytes, struct tcc_block **block)
{
    uint64_t block_bytes;
    int code;

    if (bytes > 1ull << 48)
        return tcc_fail(TRTCOLL_ENOMEM, "%llu bytes cannot be staged", (unsigned long long)bytes);
    block_bytes = size_class(bytes);
    /* Another thread may take what was just made; each round makes more, so this ends with success or a refusal. */
    while (!(*block = take_free(&ctx->staging, block_bytes))) {
        code = grow(ctx, block_bytes);
        if (code)
            return code;
    }
    return 0;
}

void tcc_block_hold(struct trtcoll_ctx *ctx, struct tcc_block *block)
{
    pthread_mutex_lock(&ctx->staging.lock);
    block->holders++;
    pthread_mutex_unlock(&ctx->staging.lock);
}

void tcc_block_put(struct trtcoll_ctx *ctx, struct tcc_block *block, bool condemn)
{
    struct tcc_staging *staging = &ctx->staging;
    struct tcc_chunk *chunk = block->chunk;

    pthread_mutex_lock(&staging->lock);
    if (condemn && !chunk->condemned) {
        chunk->condemned = true;
        forget_blocks(staging, chunk);
    }
    if (!--block->holders) {
        chunk->in_use--;
        if (!chunk->condemned) {
            block->next = staging->free;
            staging->free = block;
        }
    }
    pthread_mutex_unlock(&staging->lock);
}
