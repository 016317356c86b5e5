/*
 * Lane: what an attachment to a CUDA device has besides: the words of its ring, its gate, its communicator, and its flights, the requests
 * that are under way. The worker enqueues a request as soon as all ranks have taken theirs, and completes it when a kernel has said that
 * it has ended; completions keep the order of the ring.
 *
 * Lives in an executor process. The main thread makes it (attach) and frees it (detach); in between the worker alone uses it. Registering
 * with CUDA is taken back by the worker, because that may wait for the device and the main thread must not.
 */
#ifndef TCD_CUDA_LANE_H
#define TCD_CUDA_LANE_H

#include "../attachment.h"
#include "captured.h"
#include "communicator.h"
#include "gate.h"
#include "words.h"

struct tcd_cuda_flight {
    uint64_t user_data;
    uint64_t number; /* in the ring */
    uint64_t taken;  /* in the gate */
    uint64_t ticket; /* of the communicator; 0: not launched, `result` is known */
    uint64_t pieces; /* launches and copies in the stream, or a few more */
    uint32_t pair;
    struct tcd_cuda_captured *captured; /* a replay of it: without a completion, and with no pins of its own; else NULL */
    const struct tck_run *run;          /* until it is launched */
    uint32_t pin_count;
    int result;
    uint32_t culprit;
    struct tcd_ex_plan *plan; /* NULL: there was none */
    struct tcw_run_note note;
    uint64_t record;
    uint64_t start_ns;
};

struct tcd_cuda_lane {
    struct tcd_ex_attachment *attachment;
    struct tcd_cuda_communicator *communicator;
    struct tcd_cuda_words words;
    struct tcd_gate_view view;
    struct tcd_cuda_captures captures;
    uint64_t group;   /* as the order log names it */
    CUdeviceptr page; /* the member page */
    bool registered;  /* it is */
    /* What our kernels look at while they wait. In memory of this process alone: its kernels end with it. */
    struct tcd_cuda_own {
        _Atomic uint64_t abort_word;
    } * own;
    CUdeviceptr own_address; /* 0: not registered */

    /* Queues: the oldest at `first`, indices free-running, capacities powers of two. */
    struct tcd_cuda_flight *flights;
    uint32_t capacity, first, last;
    struct tcd_ex_memory **pins; /* of all flights, in their order */
    uint32_t pin_capacity, pin_first, pin_last;
    uint64_t pieces; /* of all flights */

    /* Watching. */
    unsigned looks;              /* since the clock was read */
    uint64_t watched;            /* ticket at the head of the stream, ours */
    uint64_t watched_ns;         /* since when */
    uint64_t queried_ns;         /* when the device was last asked for its health */
    uint64_t ending_ns;          /* since when nothing is worth waiting for: 0, or all our words have been raised */
    struct tcd_gate_fault cause; /* then */
};

/* `fd`: the gate, the caller's. */
int tcd_cuda_lane_attach(struct tcd_ex_attachment *attachment, int fd, struct tcd_cuda_communicator *communicator, char *text);
void tcd_cuda_lane_detach(struct tcd_ex_attachment *attachment);

/* ---- worker: see engine.h ---- */

void tcd_cuda_lane_begin(struct tcd_ex_attachment *attachment);
void tcd_cuda_lane_end(struct tcd_ex_attachment *attachment);
int tcd_cuda_lane_run(struct tcd_ex_attachment *attachment, struct tcd_ex_plan *plan);
void tcd_cuda_lane_answer(struct tcd_ex_attachment *attachment, int result, uint32_t culprit);
bool tcd_cuda_lane_progress(struct tcd_ex_attachment *attachment);

/* ---- between lane.c, launch.c and flights.c ---- */

static inline bool tcd_cuda_lane_is_empty(const struct tcd_cuda_lane *lane)
{
    return lane->first == lane->last;
}
/* The one enqueued last, if it has not ended; NULL: nothing is under way. */
static inline const struct tcd_cuda_flight *tcd_cuda_lane_latest(const struct tcd_cuda_lane *lane)
{
    return tcd_cuda_lane_is_empty(lane) ? NULL : &lane->flights[(lane->last - 1) & (lane->capacity - 1)];
}
/* Nothing of it will run any more. */
bool tcd_cuda_lane_is_lost(const struct tcd_cuda_lane *lane);
/* The next flight, from attachment->job; takes its pins. NULL: the client has more in flight than it may, or there is no room yet. */
struct tcd_cuda_flight *tcd_cuda_flight_begin(struct tcd_cuda_lane *lane, struct tcd_ex_plan *plan, uint64_t start_ns);
/* The same for a replay. NULL: no room yet. */
struct tcd_cuda_flight *tcd_cuda_flight_begin_replay(struct tcd_cuda_lane *lane, struct tcd_cuda_captured *captured, uint64_t start_ns);
/* Serves one replay, whose inputs are there. */
void tcd_cuda_lane_replay(struct tcd_cuda_lane *lane, struct tcd_cuda_captured *captured, uint64_t start_ns);
/* It will not be launched. */
void tcd_cuda_flight_refuse(struct tcd_cuda_lane *lane, struct tcd_cuda_flight *flight, int result, uint32_t culprit);
/* Completes what has ended and watches the rest. */
void tcd_cuda_flights_progress(struct tcd_cuda_lane *lane);
/* From now on nothing is waited for: inputs that have not come are given up, so that the stream goes on. */
void tcd_cuda_lane_release(struct tcd_cuda_lane *lane, int code, uint32_t culprit);
/* The device is of no use any more: says so and ends the process. */
_Noreturn void tcd_cuda_lane_die(struct tcd_cuda_lane *lane, const char *why);

/*
 * Passes some time while something is waited for. `turn` counts the calls of one wait from 0. Completes and watches flights now and then;
 * true if the clock should be looked at.
 */
bool tcd_cuda_lane_pause(struct tcd_cuda_lane *lane, unsigned turn);

#endif
