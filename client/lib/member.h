/*
 * One membership: this process' place in one forming (epoch) of a group. Re-forming replaces it by a new one.
 *
 * Owner: counted. The group holds its present member; plans and events of served runs hold theirs, so that they keep working, and
 * keep telling why they cannot, after the group has moved on. Threads: any.
 */
#ifndef TCC_MEMBER_H
#define TCC_MEMBER_H

#include "context.h"

#include <tck/comm.h>
#include <tck/device.h>

struct tcc_lane;
struct tcc_served;
struct tcc_workspace;

/* Who says that the instance is broken; a better source replaces a lesser one. */
typedef enum tcc_failure_source {
    TCC_FAILURE_NONE = 0,
    TCC_FAILURE_LOCAL = 1, /* seen by this rank */
    TCC_FAILURE_PAGE = 2,  /* raised by the daemon in the member page */
    TCC_FAILURE_TOLD = 3,  /* announced by the daemon, with all details */
} tcc_failure_source;

struct tcc_member {
    struct trtcoll_ctx *ctx;
    _Atomic uint32_t holders;
    char name[TCW_NAME_BYTES];
    struct tcw_group_ready ready; /* constants: ids, rank, size, peers */
    struct tcw_member_page *page;

    /* Direct lane: one run at a time. */
    pthread_mutex_t run_lock;

    struct tcc_lane *lane;     /* on a GPU, else NULL: see cuda/gpu.h */
    struct tcc_member *parked; /* the next one that only streams still use, under the GPU's lock */

    pthread_mutex_t lock;
    struct tcc_workspace *workspaces; /* under lock; newest first */
    struct tcw_error failure;         /* under lock */
    tcc_failure_source source;        /* under lock */
    _Atomic int failed;               /* 0, or failure's code: the quick look */
    _Atomic bool suspect;             /* a run has failed in a way that breaks instances: the daemon's account comes, if it is not here */
    _Atomic bool left;                /* left or re-formed: the daemon has dropped its plans */

    /* Served lane: set once, with the first served plan (under the group's create_lock). */
    struct tcc_served *_Atomic served;
};

/* Maps the member page of a GROUP_READY answer and takes its descriptor. 0, or a code with the last error set. */
int tcc_member_create(struct trtcoll_ctx *ctx, const char *name, struct tcw_packet *reply, struct tcc_member **member);
void tcc_member_hold(struct tcc_member *member);
void tcc_member_drop(struct tcc_member *member);
/* What _drop does for the last holder. Sends nothing, takes no lock. */
void tcc_member_destroy(struct tcc_member *member);

static inline tck_device_kind tcc_member_kind(const struct tcc_member *member)
{
    return member->lane ? TCK_DEVICE_CUDA : TCK_DEVICE_HOST;
}

/* 0 while the instance works, else why it is broken: what is known here, what the daemon says, what a kernel has met. Three loads. */
static inline int tcc_member_failed(struct tcc_member *member)
{
    int code = atomic_load_explicit(&member->failed, memory_order_acquire);

    if (code)
        return code;
    code = tcw_abort_code(atomic_load_explicit(&member->page->abort_word, memory_order_acquire));
    return code ? code : tcw_abort_code(atomic_load_explicit(&member->page->device.fault, memory_order_acquire));
}

/* Notes a failure. A source that is no better than the known one changes nothing: false. */
bool tcc_member_break(struct tcc_member *member, const struct tcw_error *error, tcc_failure_source source);

/* Like it, for what this rank has seen itself: also reports it to the daemon, which breaks the instance for all. */
void tcc_member_report(struct tcc_member *member, const struct tcw_error *error);

/* Copies why the instance is broken, from the best source there is. False while it works. */
bool tcc_member_failure(struct tcc_member *member, struct tcw_error *error);

/* Whether a run that ends with this code ends the whole instance, which then knows more about it than the run does. */
bool tcc_member_breaks_with(int code);

/* An executor's completion can be faster than the daemon's account of what happened: waits for that, `ms` at most. True: it is here. */
bool tcc_member_await_failure(struct tcc_member *member, uint32_t ms);

/* Sets the last error to the failure and returns its code; 0 while the instance works. */
int tcc_member_fail(struct tcc_member *member);

/* For waits: reads announcements now and then. 0, or the code that ends them. */
int tcc_member_poll(void *member);

/* Has every event of a direct run that failed find out why: 0, or why the run of this step (0: not known) has failed. */
int tcc_member_fault(struct tcc_member *member, uint64_t step, uint32_t *rank);

static inline uint64_t tcc_member_deadline_ns(const struct tcc_member *member)
{
    return atomic_load_explicit(&member->page->deadline_ns, memory_order_relaxed);
}

#endif
