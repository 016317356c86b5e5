/*
 * GPUs, communicators and kernels for people and as JSON: parts of several commands. Nothing is printed about nodes without GPUs.
 */
#ifndef TCC_CTL_GPUS_H
#define TCC_CTL_GPUS_H

#include "command.h"
#include "json.h"
#include "snapshot.h"

/* What GPUs there are, and what the executors are started with. */
void tcc_gpus_print(const struct tcc_session *session, const struct tcc_snapshot *snapshot);
/* NCCL on a GPU that is known: "2.28.9", or "none". */
struct tcc_text tcc_gpu_library(const struct tcw_stats_device *device);
/* Adds to the object of a device. */
void tcc_gpu_json(cJSON *item, const struct tcw_stats_device *device);

/* One line for each communicator. */
void tcc_communicators_print(const struct tcc_session *session, const struct tcc_snapshot *snapshot);
/* How many are ready or being made with a rank on this device, and about how much of its memory they have taken. */
uint64_t tcc_device_communicators(const struct tcc_snapshot *snapshot, uint64_t device, uint64_t *bytes);
/* The one that a group uses, perhaps with others; NULL: none yet, or it has ended. */
const struct tcw_stats_communicator *tcc_group_communicator(const struct tcc_snapshot *snapshot, const struct tcw_stats_group *group);
/* What each of its GPUs gave for it, about; "queued" or "making" while that is to come, "-" if it is not known. */
struct tcc_text tcc_communicator_bytes(const struct tcw_stats_communicator *communicator);
void tcc_communicators_json(cJSON *document, const struct tcc_snapshot *snapshot);

/*
 * How the kernels of a rank stand beside those of the others: "failed: ETIMEOUT, because of rank 3", "2 runs behind for 3 s",
 * "nothing enqueued for 3 s while others wait"; empty: nothing to say.
 */
struct tcc_kernels {
    char s[128];
    bool bad;
};
struct tcc_kernels tcc_member_kernels(const struct tcc_snapshot *snapshot, const struct tcw_stats_member *member);
/* Some rank of the group has run kernels. */
bool tcc_group_has_kernels(const struct tcc_snapshot *snapshot, uint64_t group);

#endif
