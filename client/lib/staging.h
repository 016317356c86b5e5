/*
 * Daemon memory through which the served lane copies buffers that the executor does not know. Blocks of one size are cut from chunks;
 * chunks stay until the context closes, unless memory runs short or a chunk is condemned.
 *
 * Owner: the context. Threads: any. A block belongs to the request that took it; several requests may hold it (chained runs).
 */
#ifndef TCC_STAGING_H
#define TCC_STAGING_H

#include <tck/memory.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct trtcoll_ctx;
struct tcc_chunk;

struct tcc_block {
    struct tcc_block *next; /* free list */
    struct tcc_chunk *chunk;
    unsigned char *base;
    uint64_t offset; /* in the chunk's memory */
    uint32_t holders;
};

struct tcc_chunk {
    struct tcc_chunk *next;
    struct tck_memory memory;
    uint64_t handle;
    uint64_t block_bytes;
    uint32_t block_count;
    uint32_t in_use;
    /* An executor may still write here for a request that ended without it: no block is handed out again. */
    bool condemned;
    struct tcc_block blocks[];
};

struct tcc_staging {
    pthread_mutex_t lock;
    struct tcc_chunk *chunks;
    struct tcc_block *free; /* most recently used first */
};

int tcc_staging_create(struct tcc_staging *staging);
void tcc_staging_destroy(struct trtcoll_ctx *ctx); /* local only: the daemon drops its side with the connection */

/* A block of at least `bytes` (not zero). May ask the daemon for memory. 0 or a code with the last error set. */
int tcc_block_get(struct trtcoll_ctx *ctx, uint64_t bytes, struct tcc_block **block);
void tcc_block_hold(struct trtcoll_ctx *ctx, struct tcc_block *block);
/* `condemn`: the request ended locally while an executor may still be writing. */
void tcc_block_put(struct trtcoll_ctx *ctx, struct tcc_block *block, bool condemn);

/* Gives condemned chunks and, with `all`, unused ones back to the daemon. Asks the daemon: call it without locks. */
void tcc_staging_trim(struct trtcoll_ctx *ctx, bool all);

#endif
