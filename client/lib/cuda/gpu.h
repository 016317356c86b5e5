/*
 * What the library does on GPUs, as the rest of it sees it: a context's device, what memberships and workspaces have there, runs on
 * streams, and the marks by which the host learns that a stream has passed a run. Nothing here needs the driver's header; a build without
 * CUDA has absent.c instead, whose tcc_gpu_open refuses, so that nothing else is ever called.
 *
 * Owner: the context; the device is opened when its first group on a GPU becomes ready and stays open until the context closes, because
 * streams of the application may use what was made on it for as long as that. Threads: any; per membership, runs are ordered by run_lock
 * (direct lane) or served.lock. In a forked child nothing here may be called: CUDA does not survive fork.
 *
 * What a stream may still use is never taken from under it. A membership whose last holder goes is *parked* instead, until its runs have
 * finished and the graphs that captured them are gone, at the latest until the context closes.
 */
#ifndef TCC_CUDA_GPU_H
#define TCC_CUDA_GPU_H

#include "trtcoll.h"

#include <stdbool.h>
#include <stdint.h>

struct tcc_flight;
struct tcc_gpu;
struct tcc_lane;
struct tcc_member;
struct tcc_run;
struct tcc_served;
struct tcc_workspace;
struct tck_device;

/* ---- the device ---- */

/* Opens the context's GPU, or finds it open. 0, or a code with the last error set: a context has one GPU. */
int tcc_gpu_open(struct trtcoll_ctx *ctx, const unsigned char *uuid);
/* While the context closes: waits a while until streams have finished with what is parked. NULL device: nothing. */
void tcc_gpu_settle(struct trtcoll_ctx *ctx);
/* The last thing that goes; everything made on it is gone, or parked and now lost. */
void tcc_gpu_close(struct trtcoll_ctx *ctx);
/* For memory functions of the device layer; NULL before it is open: host memory. */
struct tck_device *tcc_gpu_device(const struct tcc_gpu *gpu);
const char *tcc_gpu_name(const struct tcc_gpu *gpu); /* for texts */
const unsigned char *tcc_gpu_uuid(const struct tcc_gpu *gpu);

/* ---- memberships and workspaces ---- */

int tcc_lane_create(struct tcc_member *member); /* registers its page */
void tcc_lane_destroy(struct tcc_member *member);
/* A communicator over the workspaces that are mapped. 0, or a code with the last error set. */
int tcc_lane_connect(struct tcc_member *member, struct tcc_workspace *workspace);
/* 0, or ENOTSUP with the last error set: this process may not use multicast objects, which its group has. */
int tcc_lane_multicast_check(void);
void tcc_lane_disconnect(struct tcc_member *member, struct tcc_workspace *workspace);
/* The membership ends: kernels that still wait for peers are let go. */
void tcc_lane_end(struct tcc_member *member);

/* Who may still use a membership (workspace NULL) or one of its workspaces. */
typedef enum tcc_lane_use {
    TCC_LANE_IDLE = 0,
    TCC_LANE_RUNNING = 1, /* streams, for a while */
    TCC_LANE_CAPTURED = 2 /* graphs, for as long as the application has them */
} tcc_lane_use;

tcc_lane_use tcc_lane_in_use(struct tcc_member *member, struct tcc_workspace *workspace);
/* What to do instead of destroying while it is in use. Looks again at all that are parked. */
void tcc_gpu_park(struct tcc_member *member);

/* ---- runs ---- */

int tcc_lane_run(struct trtcoll_plan *plan, const struct tcc_run *run, struct trtcoll_event **event);

/* ---- marks ---- */

/* 0: the stream has passed the event's mark; EAGAIN: not yet; EDEVICE with the last error set. */
int tcc_mark_query(struct trtcoll_event *event);
void tcc_mark_destroy(struct trtcoll_event *event);

/* ---- the served lane ---- */

int tcc_words_create(struct tcc_served *served); /* registers the ring's words */
void tcc_words_destroy(struct tcc_served *served);
/*
 * With served.lock, before the request is posted: enqueues its part of the caller's stream, that is copies into staging, `ready`, the wait
 * for `done`, copies out of staging, and the marks that flight and event need. `number` counts requests of the ring from 1.
 * 0: it must be posted now, whatever comes (*late: what failed behind the words, or 0). Else the executor must not hear of it.
 */
int tcc_words_enqueue(struct tcc_served *served, struct tcc_flight *flight, const struct tcc_run *run, uint64_t number, bool wants_event,
                      int *late);
/* The request has failed. Perhaps nobody else will raise `done` any more: done here, by a plain store. */
void tcc_words_failed(struct tcc_served *served, const struct tcc_flight *flight);
/* Whether a stream may still have to pass words of this ring. */
bool tcc_words_in_use(struct tcc_served *served);
/* 0: the stream has done with the flight's staging blocks; EAGAIN: not yet. */
int tcc_words_drained(struct tcc_served *served, const struct tcc_flight *flight);

/* ---- the served lane in graphs ---- */

/*
 * If the stream is being captured, captures the run into its graph: *captured. The executor has accepted it then. Waits for the executor,
 * not for streams; takes served.lock. 0, or a code with the last error set and the capture undisturbed.
 */
int tcc_captured_run(struct trtcoll_plan *plan, const struct tcc_run *run, bool wants_event, bool *captured);
/* Whether graphs have any. Takes served.lock. */
bool tcc_captured_in_use(struct tcc_served *served);
void tcc_captured_destroy(struct tcc_served *served);
/* With served.lock: */
bool tcc_captured_any(const struct tcc_served *served);
void tcc_captured_answered(struct tcc_served *served, const struct tcc_flight *flight, int result); /* flight->captured is set */
void tcc_captured_collect(struct tcc_served *served); /* gives back what no graph has any more */
void tcc_captured_refresh(struct tcc_served *served); /* the same, if any graph has gone since: for every run */
void tcc_captured_end(struct tcc_served *served);     /* replays pass from now on */

/* ---- memory ---- */

/*
 * Makes the application's GPU memory known to the executor: every VMM allocation under the range as a descriptor, or a legacy handle.
 * 0 with *handle set, or a code with the last error set: ENOTSUP for memory that cannot be shared, EINVAL for what is none of this GPU.
 */
int tcc_share_register(struct trtcoll_ctx *ctx, const void *pointer, uint64_t bytes, uint64_t *handle);
/* 0 if streams can copy to and from it without the host's help, or EINVAL with the last error set. */
int tcc_share_check(struct tcc_gpu *gpu, const void *pointer);

#endif
