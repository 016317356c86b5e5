/*
 * A communicator of host devices: one rank's view of a group's workspaces, and the operations that run over them. The same code runs
 * in a client (direct lane) and in an executor (served lane).
 *
 * Owner: the process that created it; one thread at a time may run operations on it. Blocking: tck_comm_run returns when this rank's part
 * is done, when the abort word is raised, or when the deadline passes - never later than the deadline plus one clock check.
 */
#ifndef TCK_COMM_H
#define TCK_COMM_H

#include <tck/memory.h>
#include <tcw/member.h>
#include <tcw/plan.h>

#include <stdatomic.h>
#include <stdbool.h>

enum { TCK_HOST_MAX_RANKS = 16 };

struct tck_comm;

struct tck_comm_params {
    uint32_t rank;
    uint32_t nranks;
    /* One workspace per rank, `workspace_bytes` each, mapped by the caller and outliving the communicator. */
    void *const *workspaces;
    uint64_t workspace_bytes;
    /* Read in every wait. May live in shared memory and may change at any time. abort_word: tcw_abort_pack; deadline: ns, 0 none. */
    const _Atomic uint64_t *abort_word;
    const _Atomic uint64_t *deadline_ns;
    /* Written while waiting, for observers: bit per missing rank. May be NULL. */
    _Atomic uint64_t *missing_ranks;
    /* Busy-wait budget before a waiter yields and then sleeps in short, bounded naps. */
    uint32_t spin_us;
    /* Asked now and then by long waits (every few ms at most); a non-zero answer (a negative tcw_errno) ends the wait with it. May be NULL.
     */
    int (*poll)(void *arg);
    void *poll_arg;
};

int tck_comm_create(const struct tck_comm_params *params, struct tck_comm **comm);
void tck_comm_destroy(struct tck_comm *comm);

/*
 * Smallest useful and wanted workspace (bytes per rank, headers included, a multiple of 8 MiB) for a checked plan. Messages longer than
 * the workspace run in several steps; a plan whose single row does not fit a step makes the workspace grow. TCW_ENOTSUP if the operation,
 * strategy, fusion, type or group size is not available on this kind of device, with *complaint saying what is.
 */
int tck_plan_workspace(tck_device_kind kind, const struct tcw_plan_desc *desc, uint32_t nranks, uint64_t *bytes,
                       struct tcw_complaint *complaint);

/* The buffers of one run. Lists follow tcw_plan_slot_count; unused slots are NULL. Sizes are tcw_plan_slot_bytes; the caller checked them.
 */
struct tck_run {
    const struct tcw_plan_desc *desc; /* checked */
    uint32_t plan_id;
    uint32_t strategy; /* resolved: never AUTO */
    uint32_t blocks;   /* CUDA: grid size as decided for this message size, 0: the kernel's own rule */
    /* CUDA: what the group has agreed on, see struct tcw_decision. multiprocessors 0: the ranks' GPUs and shares are known to be alike */
    uint32_t multiprocessors, compute;
    uint64_t tokens;
    const void *const *in;
    void *const *out;
    const void *residual_in;
    void *residual_out;
    const void *norm_weight;
    const void *bias;
    const float *scale;
    void *quant_out;
    void *scale_out;
    /*
     * Host devices: called once, when the first of this rank's data are on their way to its peers, or before, where it has to wait for one:
     * the place for what no peer should have to wait for. Not called where nothing is exchanged, or the run fails before. May be NULL.
     */
    void (*under_way)(void *arg);
    void *under_way_arg;
};

/* What went wrong. */
struct tck_fault {
    int code;          /* negative tcw_errno */
    uint32_t rank;     /* the rank it is about, or TCW_NOBODY */
    uint64_t step;     /* ETIMEOUT: that rank's last known step */
    const char *field; /* EMISMATCH: "plan", "tokens", ... */
    uint64_t mine, theirs;
};

/*
 * Runs one operation; collective: all ranks run the same plans in the same order with the same token counts. Buffers are aligned to their
 * element size. in == out is allowed for all-reduce, broadcast and reduce into place; other overlap is not.
 * 0, or a code with *fault filled: ETIMEOUT, EMISMATCH, whatever the abort word carries, whatever poll() answered. After a failure the
 * communicator is unusable: every later run returns the same code.
 */
int tck_comm_run(struct tck_comm *comm, const struct tck_run *run, struct tck_fault *fault);

#endif
