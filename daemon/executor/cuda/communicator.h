/*
 * Communicator: this rank's end of an NCCL communicator, with the stream on which everything of it runs (one of two: sides.h), the order
 * log that tells which launch comes next, and the memory that operations need in between. Several attachments (engines) may share one; it
 * outlives them.
 *
 * Lives in an executor process. The main thread makes and drops it, each in a thread of its own, because both wait for other processes.
 * What the library does there without a limit is a chore: if a peer ends in a bad moment, so does this process, in the end. Workers launch
 * under `lock`, in the order of the log. What has been launched has a ticket: the last kernel of it writes it to `ended`,
 * a word in memory of this process alone, so that no client can pretend that its operation has ended.
 */
#ifndef TCD_CUDA_COMMUNICATOR_H
#define TCD_CUDA_COMMUNICATOR_H

#include "library.h"
#include "sides.h"

#include "../../shared/gate.h"
#include "../engine.h"

#include <tck/cuda_driver.h>
#include <tck/memory.h>

#include <pthread.h>

typedef enum tcd_communicator_state {
    TCD_COMMUNICATOR_CONNECTING = 0,
    TCD_COMMUNICATOR_USABLE = 1,
    TCD_COMMUNICATOR_BROKEN = 2, /* and cannot be mended: dropped and made anew by the control process */
} tcd_communicator_state;

/* Memory for steps in between. All that has ever been handed out lasts as long as the communicator, because plans know it by address. */
struct tcd_cuda_scratch {
    struct tcd_cuda_scratch *next; /* smaller */
    struct tck_memory memory;
};

struct tcd_cuda_communicator {
    struct tcd_cuda_communicator *next; /* main thread */
    uint64_t id;
    uint32_t rank, nranks;
    _Atomic unsigned lanes; /* attachments that use it; written by the main thread */
    bool leaving;           /* main thread: it goes with the last of them */
    uint64_t drop_cookie;   /* DONE is owed then */
    struct tcd_ex_engine *engine;

    struct tcd_order_log *log;
    _Atomic uint64_t head; /* entries of the log that have been launched; advances under `lock` */
    _Atomic int state;
    _Atomic bool cancelled;      /* it is to be dropped: connecting ends early */
    _Atomic uint64_t broken_ns;  /* when it broke */
    struct tcd_ex_letter *fault; /* made beforehand; NULL once posted */

    _Atomic bool connecting; /* a thread is at it */
    _Atomic bool ending;     /* likewise: at ending what `library` was */

    pthread_mutex_t lock;      /* the next four, and order; while it is connecting they are that thread's */
    struct tcd_ex_chore calls; /* of whoever holds the lock */
    struct tcd_library_comm *library;
    struct tcd_cuda_sides sides;
    _Atomic uint64_t tickets; /* launched; advances under `lock` */

    _Atomic unsigned captured; /* requests kept for graphs, of all lanes */

    _Atomic uint64_t *ended; /* a page of its own, registered: tickets that have ended */
    CUdeviceptr ended_address;
    struct tck_memory small; /* where barriers sum */

    /* main thread; plans hold what they need of it */
    struct tcd_cuda_scratch *scratch; /* largest first */

    /* Window-registered memory for NCCL_SYMMETRIC, an input half and an output half; NULL: `window_why`. Constant once usable. */
    unsigned char *window;
    uint64_t window_bytes; /* of a half */
    struct tcd_library_window *registration;
    char window_why[TCW_TEXT_BYTES];
};

/* ---- main thread ---- */

/*
 * From COMM; fd: the order log, the caller's. Begins to connect; DONE is posted when it is usable or has failed. What has failed is kept
 * until it is dropped.
 */
int tcd_cuda_communicator_create(struct tcd_ex_engine *engine, const struct tcd_ex_message *message, int fd,
                                 struct tcd_cuda_communicator **communicator, char *text);
/* Ends and frees it in a thread of its own, then posts DONE with `cookie`. No lane uses it, nobody finds it any more. */
void tcd_cuda_communicator_drop(struct tcd_cuda_communicator *communicator, uint64_t cookie);
/* The same, at once: the process ends. */
void tcd_cuda_communicator_destroy(struct tcd_cuda_communicator *communicator);
/* At least `bytes` that last as long as the communicator. Launches of one communicator follow each other, so all plans may share it. */
int tcd_cuda_communicator_reserve(struct tcd_cuda_communicator *communicator, uint64_t bytes, unsigned char **base);

/* ---- workers ---- */

static inline uint64_t tcd_cuda_communicator_ended(const struct tcd_cuda_communicator *communicator)
{
    return atomic_load_explicit(communicator->ended, memory_order_acquire);
}
static inline bool tcd_cuda_communicator_is_broken(const struct tcd_cuda_communicator *communicator)
{
    return atomic_load_explicit(&communicator->state, memory_order_acquire) == TCD_COMMUNICATOR_BROKEN;
}
/*
 * Until the library has enqueued what it was told, normally at once. 0, or why it is not to be waited for: `until_ns` has passed, the
 * communicator is to be dropped, or an executor of the group is gone (`abort_word`). The caller holds `lock`.
 */
int tcd_cuda_communicator_settle(struct tcd_cuda_communicator *communicator, uint64_t until_ns, const _Atomic uint64_t *abort_word,
                                 char *text);
/*
 * Ends its running kernels and makes it unusable: peers are gone or out of step. Told to the control process once (FAULT, attachment 0).
 * Returns at once; the library takes longer, see tcd_library_abort. `locked`: the caller holds `lock`. TCW_EBUSY: another thread has been
 * inside the library for too long: the process cannot go on.
 */
int tcd_cuda_communicator_break(struct tcd_cuda_communicator *communicator, bool locked, const char *why);

#endif
