/*
 * Memory that both this process and the executor know: allocated from the daemon (trtcoll_alloc) or the application's own
 * (trtcoll_register). Looks up the handle of an address in sorted ranges.
 *
 * Owner: the context. Threads: any. A range that a request uses (`users`) cannot be freed.
 */
#ifndef TCC_MEMORY_H
#define TCC_MEMORY_H

#include <tck/memory.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct trtcoll_ctx;

struct tcc_range {
    uintptr_t start;
    uint64_t bytes; /* what the executor may touch */
    uint64_t handle;
    bool registered;        /* the application's mapping, else ours in `memory` */
    bool usable;            /* under the lock: the daemon has agreed, `handle` is set */
    _Atomic uint32_t users; /* requests in flight */
    struct tck_memory memory;
};

struct tcc_memory {
    pthread_mutex_t lock;
    struct tcc_range **ranges; /* by address, disjoint */
    uint32_t count, room;
};

int tcc_memory_create(struct tcc_memory *memory);
void tcc_memory_destroy(struct trtcoll_ctx *ctx); /* local only: the daemon drops its side with the connection */

/* With the lock: the range that holds all of [pointer, pointer + bytes), with a user added, or NULL. Give it back with tcc_range_drop. */
struct tcc_range *tcc_memory_find(struct tcc_memory *memory, const void *pointer, uint64_t bytes);

static inline void tcc_range_drop(struct tcc_range *range)
{
    atomic_fetch_sub_explicit(&range->users, 1, memory_order_release);
}

/* Daemon memory that is not entered into the ranges: 0 with *memory mapped and *handle set, or a code with the last error set. */
int tcc_daemon_memory_get(struct trtcoll_ctx *ctx, uint64_t bytes, struct tck_memory *memory, uint64_t *handle);
/* Local: a forked child leaves memory of GPUs as it is. */
void tcc_daemon_memory_unmap(struct trtcoll_ctx *ctx, struct tck_memory *memory);
void tcc_daemon_memory_put(struct trtcoll_ctx *ctx, struct tck_memory *memory, uint64_t handle);

#endif
