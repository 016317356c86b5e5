/*
 * A device of this node as the control process sees it: its executor, who is bound to it, what is to be known about it.
 * Stands inside the daemon. Loop thread.
 */
#ifndef TCD_CONTROL_DEVICE_H
#define TCD_CONTROL_DEVICE_H

#include "executor.h"

#include <tcf/config.h>
#include <tcw/message.h>
#include <tcw/stats.h>

#include <stdbool.h>

struct tcd_daemon;

struct tcd_device {
    struct tcd_daemon *daemon;
    uint32_t number;
    tcf_device_kind kind;
    uint32_t ordinal;              /* among the node's devices of this kind */
    struct tcd_executor *executor; /* NULL: this kind is not built in */
    uint64_t incarnation;          /* changes when the executor's process ends: what was sent to it before is gone */
    uint32_t clients;              /* bound to it */
    uint32_t attachments;
    uint64_t memory_bytes;
    char note[TCW_STATS_TEXT];
    bool known; /* CUDA: some executor of it has been ready, so these are its facts */
    struct tcd_ex_facts facts;
    char told[TCW_TEXT_BYTES]; /* CUDA: why it could not be used when somebody was last told of it */
};

/* All devices of the local node; executors are made, not started. 0 or a negative tcw_errno. */
int tcd_devices_open(struct tcd_daemon *daemon);
/* The configuration may have changed: what of it concerns executors, and tables for GPUs. */
void tcd_devices_configure(struct tcd_daemon *daemon);
/* Ends the executors; the loop runs until the last one is gone. */
void tcd_devices_close(struct tcd_daemon *daemon, unsigned grace_ms);

struct tcd_device *tcd_device_find(struct tcd_daemon *daemon, uint32_t number);
/* The device with the fewest clients that operations can run on, among those that `fits` accepts (NULL: all); NULL: there is none. */
struct tcd_device *tcd_device_least(struct tcd_daemon *daemon, bool (*fits)(const void *arg, const struct tcd_device *device),
                                    const void *arg);
/* 0, or a code with *error saying why nothing can run on it. A GPU whose executor is still starting counts as usable. */
int tcd_device_check(const struct tcd_device *device, struct tcw_error *error);
/* What is to be known about it is known: always for host devices. */
bool tcd_device_known(const struct tcd_device *device);
tck_device_kind tcd_device_kind_of(const struct tcd_device *device);
/* Whether kernels on GPU `from` can be given memory of `to`. What is not known counts as possible. */
bool tcd_device_maps(const struct tcd_device *from, const struct tcd_device *to);
/* "host" and "cuda", for texts. */
const char *tcd_device_kind_name(tcf_device_kind kind);

/* tcd_executor_request with a refusal put into words. */
int tcd_device_request(struct tcd_device *device, const struct tcd_ex_message *message, const int *fds, unsigned fd_count,
                       tcd_executor_done done, void *arg, struct tcw_error *error);
/* The same for messages without an answer, to a device whose process may be gone: then there is nothing to tell it. */
void tcd_device_tell(struct tcd_device *device, const struct tcd_ex_message *message);

#endif
