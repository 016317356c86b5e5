/*
 * A context: one attachment of this process to the daemon, and everything that hangs on it.
 *
 * Owner: the application, from trtcoll_ctx_open to trtcoll_ctx_close. Threads: any, except during close. In a forked child only
 * tcc_forked and closing are allowed; closing there takes no lock (its owner may not exist any more) and sends nothing.
 *
 * Locks, in the order in which they may be taken (never the other way):
 *   group.create_lock    one plan creation, re-forming or one-call form of a group at a time
 *   member.run_lock      one direct run of a group instance at a time
 *   served.lock          one group instance's ring and its waiters
 *   ctx.lock, group.lock the lists of groups and of plans
 *   ctx.gpu_lock         opening the context's GPU
 *   gpu.lock             the memberships that streams still use, before run_lock
 *   memory.lock, staging.lock, member.lock, events.lock, rpc.lock    leaves, never held together
 * A blocking request to the daemon is made with no lock but create_lock.
 */
#ifndef TCC_CONTEXT_H
#define TCC_CONTEXT_H

#include "cuda/gpu.h"
#include "event.h"
#include "forkmark.h"
#include "memory.h"
#include "rpc.h"
#include "staging.h"
#include "trtcoll.h"

struct trtcoll_ctx {
    struct trtcoll_allocator allocator;
    trtcoll_log_fn log;
    void *log_arg;
    struct tcc_fork_mark fork_mark;
    uint32_t timeout_ms;
    struct tcw_hello_ok limits;
    _Atomic int32_t device;
    struct tcc_rpc rpc;
    struct tcc_memory memory;
    struct tcc_staging staging;
    struct tcc_event_pool events;
    struct tcc_gpu *_Atomic gpu; /* once a group on a GPU is ready; see cuda/gpu.h */
    pthread_mutex_t gpu_lock;    /* opening it */
    struct tcc_watcher *watcher; /* NULL: none was asked for */
    pthread_mutex_t lock;
    struct trtcoll_group *groups; /* under lock */
};

/* Memory of the context, from the application's allocator. Zeroed; NULL when there is none. */
void *tcc_alloc(struct trtcoll_ctx *ctx, size_t bytes);
void tcc_free(struct trtcoll_ctx *ctx, void *pointer);

static inline bool tcc_forked(const struct trtcoll_ctx *ctx)
{
    return tcc_fork_mark_forked(&ctx->fork_mark);
}

/* 0, or EINVAL or EFORK with the last error set: the first line of every public function. */
int tcc_ctx_enter(const struct trtcoll_ctx *ctx);

/* What this context works on; host devices until a group says otherwise. */
static inline tck_device_kind tcc_ctx_kind(const struct trtcoll_ctx *ctx)
{
    return atomic_load_explicit(&ctx->gpu, memory_order_acquire) ? TCK_DEVICE_CUDA : TCK_DEVICE_HOST;
}

/* Deadline of a request that waits for no peer. */
uint64_t tcc_ctx_deadline(const struct trtcoll_ctx *ctx);

/* To the application's log function, if it set one. */
__attribute__((format(printf, 3, 4))) void tcc_log(const struct trtcoll_ctx *ctx, int severity, const char *format, ...);

enum { TCC_LOG_ERROR = 3, TCC_LOG_WARNING = 4, TCC_LOG_INFO = 6, TCC_LOG_DEBUG = 7 };

/* A request that is answered by OK. 0, or a code with the last error set. */
int tcc_ctx_command(struct trtcoll_ctx *ctx, unsigned opcode, const void *payload, uint64_t deadline_ns);

#endif
