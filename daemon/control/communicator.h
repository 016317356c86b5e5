/*
 * A communicator of the collective library (NCCL) over an ordered list of GPUs: one rank in each one's executor. Making one takes about a
 * second and much memory, so it is kept when those who use it go, and shared by all instances on the same list. It ends when an executor
 * that has a rank of it dies, or reports it broken; the next who needs it gets a new one. One is made at a time.
 *
 * QUEUED -> MAKING -> READY -> ENDED. Owned by the daemon; freed when ENDED without users. Control process, loop thread.
 */
#ifndef TCD_CONTROL_COMMUNICATOR_H
#define TCD_CONTROL_COMMUNICATOR_H

#include "alarm.h"
#include "device.h"

typedef enum tcd_communicator_state {
    TCD_COMM_QUEUED = 0,
    TCD_COMM_MAKING = 1,
    TCD_COMM_READY = 2,
    TCD_COMM_ENDED = 3
} tcd_communicator_state;

struct tcd_communicator {
    struct tcd_daemon *daemon;
    struct tcd_link link; /* in daemon->communicators, oldest use first */
    uint64_t id;          /* handle in daemon->communicator_ids: what executors are told */
    tcd_communicator_state state;
    uint32_t size;
    struct tcd_device *devices[TCW_MAX_RANKS]; /* by rank */
    uint64_t incarnations[TCW_MAX_RANKS];      /* of their executors, once those were asked */
    uint64_t asked, outstanding;               /* ranks */
    bool configured;                           /* for a group of the configuration: kept without users */
    uint32_t users;
    struct tcd_link waits; /* struct tcd_communicator_wait */
    struct tcd_alarm patience;
    uint64_t began_ns, took_ns;
    uint64_t bytes; /* of each device, about; the largest of them */
    int order;      /* memfd of the order log */
    uint32_t row;
    struct tcw_error error; /* ENDED: why */
};

/* Somebody who waits for one to be READY; stands inside him. */
struct tcd_communicator_wait {
    struct tcd_link link;
    struct tcd_communicator *communicator;                  /* NULL: does not wait */
    void (*done)(void *arg, const struct tcw_error *error); /* NULL: it is READY */
    void *arg;
};

/* The one of this list, begun if there is none; counts the caller as a user. NULL with *error. */
struct tcd_communicator *tcd_communicator_get(struct tcd_daemon *daemon, struct tcd_device *const *devices, uint32_t size,
                                              struct tcw_error *error);
void tcd_communicator_put(struct tcd_communicator *communicator);

/* Of one that is QUEUED or MAKING: `done` is called once, from the loop, unless the wait is ended before. */
void tcd_communicator_await(struct tcd_communicator *communicator, struct tcd_communicator_wait *wait,
                            void (*done)(void *arg, const struct tcw_error *error), void *arg);
/* Waiting or not. */
void tcd_communicator_wait_end(struct tcd_communicator_wait *wait);

/* Begins what the groups of the configuration will need, where the devices are ready. */
void tcd_communicators_prepare(struct tcd_daemon *daemon);
/* The executor of a device has ended, after its attachments were told. */
void tcd_communicators_device_lost(struct tcd_device *device);
/* FAULT of an executor about a communicator: it ends, and with it the instances that use it. */
void tcd_communicator_fault(struct tcd_device *device, const struct tcd_ex_message *message);
/* The daemon ends: frees all; the loop does not turn any more. */
void tcd_communicators_clear(struct tcd_daemon *daemon);

/* "0, 1, 2 and 3": its devices. Returns `text`. */
const char *tcd_communicator_text(const struct tcd_communicator *communicator, char *text, size_t bytes);

#endif
