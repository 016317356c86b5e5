/*
 * Engine: what differs between the kinds of devices in an executor. Messages, rings, plans, checks and pins are the same for all; an engine
 * makes and maps memory, and runs what has been checked: at once on host devices (host_engine.c), enqueued and completed later on CUDA
 * devices (cuda/engine.c).
 *
 * Lives in an executor process, which has exactly one; owned by the main thread. Where a function is NULL, there is nothing to do.
 */
#ifndef TCD_EXECUTOR_ENGINE_H
#define TCD_EXECUTOR_ENGINE_H

#include "../shared/executor_wire.h"
#include "chores.h"

#include <tck/device.h>

#include <stdbool.h>
#include <stddef.h>

struct tcd_ex_attachment;
struct tcd_ex_mailbox;
struct tcd_ex_memory;
struct tcd_ex_plan;
struct tcd_ex_workspace;
struct tcd_ex_engine;

enum { TCD_EX_LATER = 1 }; /* instead of a code: the answer follows from a thread */

struct tcd_ex_engine_ops {
    unsigned attach_fds; /* descriptors of ATTACH */

    /* ---- main thread; `text`: TCW_TEXT_BYTES, why not ---- */

    void (*close)(struct tcd_ex_engine *engine);
    void (*stop)(struct tcd_ex_engine *engine); /* the process is to end: threads that wait for others give up */
    /* Whether the device may be waiting for a client, other than because of `of`, a chore's. */
    bool (*waits)(struct tcd_ex_engine *engine, const void *of);
    /* Messages of one kind of device alone: a code or TCD_EX_LATER. *message gets what the answer carries. */
    int (*handle)(struct tcd_ex_engine *engine, struct tcd_ex_message *message, int *fds, unsigned fd_count, char *text);
    /* Maps client memory as the message says: fills base and bytes. Takes the descriptors that it sets to -1. */
    int (*memory_open)(struct tcd_ex_engine *engine, const struct tcd_ex_message *message, int *fds, unsigned fd_count,
                       struct tcd_ex_memory *memory, char *text);
    void (*memory_close)(struct tcd_ex_engine *engine, struct tcd_ex_memory *memory); /* CUDA: any thread */
    /* What an attachment needs besides; page and ring are mapped. `fds`: those behind the first four, the caller's. */
    int (*attach)(struct tcd_ex_attachment *attachment, const struct tcd_ex_message *message, const int *fds, char *text);
    void (*detach)(struct tcd_ex_attachment *attachment); /* the worker has ended or was never started */
    /* The communicator over a mapped workspace. */
    int (*workspace_open)(struct tcd_ex_attachment *attachment, struct tcd_ex_workspace *workspace, char *text);
    void (*workspace_close)(struct tcd_ex_workspace *workspace);
    /* Whether a checked plan can run here; what its runs need is made ready. */
    int (*plan)(struct tcd_ex_attachment *attachment, struct tcd_ex_plan *plan, char *text);

    /* ---- a thread of its own: fills in new memory that is to be a workspace ---- */

    int (*format)(struct tcd_ex_engine *engine, void *base, uint64_t bytes);

    /* ---- a thread of its own: MULTICAST and what follows it. `fds` are the caller's; *object: the new one's ---- */

    int (*multicast)(struct tcd_ex_engine *engine, const struct tcd_ex_message *message, const int *fds, int *object, char *text);

    /* ---- worker ---- */

    void (*begin)(struct tcd_ex_attachment *attachment); /* the thread starts */
    void (*end)(struct tcd_ex_attachment *attachment);   /* it ends: nothing may be under way afterwards */
    /*
     * Runs attachment->job, which is prepared: 0, and it owes its release, its place in the member page and its completion; or a code with
     * job->text, and nothing has been done.
     */
    int (*run)(struct tcd_ex_attachment *attachment, struct tcd_ex_plan *plan);
    /* Completes the request in attachment->job, which does not run. */
    void (*answer)(struct tcd_ex_attachment *attachment, int result, uint32_t culprit);
    /* Completes what has ended; whether anything is still under way. */
    bool (*progress)(struct tcd_ex_attachment *attachment);

    /* ---- worker: requests in captured graphs (struct tcw_captured); all or none of these ---- */

    /* Before attachment->job is looked at: returns when it is its turn among those of other groups and the replays of graphs, which
     * it serves meanwhile. */
    void (*await)(struct tcd_ex_attachment *attachment);
    /* Keeps attachment->job, which is prepared: 0, and its pins are taken; or a code with job->text. */
    int (*capture)(struct tcd_ex_attachment *attachment, struct tcd_ex_plan *plan);
    /* Forgets the one that attachment->job names. */
    int (*uncapture)(struct tcd_ex_attachment *attachment);
    /* Serves a replay whose turn has come; false: there was none. */
    bool (*replay)(struct tcd_ex_attachment *attachment);
    /* Whether any may come: they wake nobody. */
    bool (*expects_replays)(const struct tcd_ex_attachment *attachment);
};

struct tcd_ex_engine {
    const struct tcd_ex_engine_ops *ops;
    struct tck_device *device;      /* NULL: host */
    struct tcd_ex_mailbox *mailbox; /* for answers of threads */
    struct tcd_ex_chores *chores;   /* all that may stand still */
};

/* Device number of the configuration -> host device. Never fails. */
struct tcd_ex_engine *tcd_ex_host_engine(void);
/*
 * Opens a GPU, given by uuid ("GPU-..." or 32 hexadecimal digits) or ordinal, and what belongs to it; fills *facts. 0, or a code with
 * `text`.
 */
int tcd_ex_cuda_engine(const char *name, struct tcd_ex_engine **engine, struct tcd_ex_facts *facts, char *text);

#endif
