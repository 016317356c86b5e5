/*
 * Attachment: one membership (client x group instance) served by this executor: its ring, its member page, the workspaces of its group, its
 * plans, and the worker thread that runs its requests.
 *
 * Lives in an executor process. The main thread creates it, adds workspaces and plans, stops it and frees it; the worker (worker.c) does
 * the rest. Both take `lock` for what they share. Stopping takes two steps, so that the main thread never waits: tcd_ex_attachment_stop
 * asks, `ended` tells (the mailbox is woken), tcd_ex_attachment_free joins and unmaps.
 */
#ifndef TCD_EXECUTOR_ATTACHMENT_H
#define TCD_EXECUTOR_ATTACHMENT_H

#include "client.h"
#include "engine.h"
#include "handle_map.h"
#include "job.h"
#include "mailbox.h"
#include "plan.h"

#include <tck/comm.h>
#include <tcw/member.h>
#include <tcw/ring.h>

/* One generation of a group's workspaces, all ranks' mapped, with a communicator of its own: growing never stops a plan. */
struct tcd_ex_workspace {
    struct tcd_ex_workspace *next; /* older */
    uint64_t generation;
    uint64_t bytes; /* of each rank's */
    uint32_t plans; /* that use it */
    const struct tcd_ex_engine_ops *ops;
    struct tck_comm *host;      /* host devices */
    struct tck_cuda_comm *cuda; /* CUDA devices */
    uint64_t runs;              /* of our kernels there, enqueued so far: the worker's */
    uint32_t mapped;
    struct tck_memory ranks[TCW_MAX_RANKS];
};

struct tcd_ex_attachment {
    struct tcd_ex_attachment *next; /* main thread */
    uint64_t id;
    uint32_t rank, nranks;
    uint32_t spin_us;
    bool crowded; /* fewer processors than threads that take part: every rank's client and worker */
    struct tcd_ex_client *client;
    struct tcd_ex_mailbox *mailbox;
    struct tcd_ex_engine *engine;
    const struct tcd_ex_engine_ops *ops;
    struct tcd_cuda_lane *cuda; /* CUDA devices: what else belongs to it */

    struct tcw_member_page *page;
    uint64_t page_bytes;
    void *ring_base;
    uint64_t ring_bytes;
    int sq_event, cq_event; /* shared with the client */
    int wake_event;         /* ours alone */
    int epoll;              /* the worker sleeps here on sq_event and wake_event */

    _Atomic uint64_t own_deadline_ns;
    const _Atomic uint64_t *deadline_ns; /* the page's, which the control process may change; own_deadline_ns if it says nothing */
    _Atomic uint64_t abort_word;         /* private to this process: no client can clear or raise it */
    _Atomic bool stop;
    _Atomic bool ended;   /* the worker's last act */
    _Atomic bool retired; /* plans wait to be dropped */

    pthread_mutex_t lock; /* the next three */
    struct tcd_ex_handle_map plans;
    uint32_t dropping;                   /* of the plans, those that wait for the worker to pass their last request */
    struct tcd_ex_workspace *workspaces; /* newest first */

    /* main thread */
    pthread_t thread;
    bool leaving;
    bool hoarding; /* it has been reported: see plan_drop */
    uint64_t detach_cookie;

    /* worker */
    struct tcw_ring ring;
    uint64_t requests; /* taken from the ring */
    struct tcd_ex_job job;
    struct tcd_ex_plan *last; /* plan found, NULL if it may be gone: only this thread frees plans */
    int failed_code;          /* of the group: every later request gets it */
    uint32_t failed_rank;
    bool violated;                           /* the ring is not touched again */
    struct tcd_ex_letter *fault, *violation; /* made beforehand; NULL once posted */
};

/* ---- main thread ---- */

/*
 * From ATTACH; fds: member page, ring, submission eventfd, completion eventfd, and what the engine wants besides. Starts the worker. Takes
 * the eventfds on success only; the others are the caller's in any case. 0 or a code with `text` (TCW_TEXT_BYTES).
 */
int tcd_ex_attachment_create(const struct tcd_ex_message *message, const int *fds, struct tcd_ex_client *client,
                             struct tcd_ex_engine *engine, struct tcd_ex_attachment **attachment, char *text);
/* From WORKSPACE; fds by rank, the caller's. */
int tcd_ex_attachment_workspace(struct tcd_ex_attachment *attachment, const struct tcd_ex_message *message, const int *fds,
                                unsigned fd_count, char *text);
int tcd_ex_attachment_plan(struct tcd_ex_attachment *attachment, const struct tcd_ex_message *message, char *text);
/* Requests posted before still run. */
int tcd_ex_attachment_plan_drop(struct tcd_ex_attachment *attachment, uint64_t handle);
/* Ends the running and all later requests with `code`. The first call counts. */
void tcd_ex_attachment_abort(struct tcd_ex_attachment *attachment, int code, uint32_t rank);
/* Asks the worker to end; may be repeated while it has not. */
void tcd_ex_attachment_stop(struct tcd_ex_attachment *attachment);
void tcd_ex_attachment_free(struct tcd_ex_attachment *attachment); /* only once `ended` */

/* ---- worker ---- */

static inline bool tcd_ex_attachment_stopping(const struct tcd_ex_attachment *attachment)
{
    return atomic_load_explicit(&attachment->stop, memory_order_acquire);
}

struct tcd_ex_plan *tcd_ex_attachment_find_plan(struct tcd_ex_attachment *attachment, uint64_t handle, uint32_t position);
/* Frees dropped plans whose last request has been taken and has ended. */
void tcd_ex_attachment_sweep_plans(struct tcd_ex_attachment *attachment);

#endif
