/*
 * A workspace set: memory of every rank of an instance for one lane, one generation. Made by the ranks' executors for a plan; used by every
 * later plan that fits; replaced by a larger one when a plan does not fit. An older set stays while a plan uses it.
 * Owned by the instance. Control process, loop thread.
 */
#ifndef TCD_CONTROL_WORKSPACE_H
#define TCD_CONTROL_WORKSPACE_H

#include "executor.h"
#include "instance.h"

struct tcd_workspace {
    struct tcd_link link;
    struct tcd_instance *instance;
    tcw_lane lane;
    uint64_t generation;
    uint64_t bytes; /* of each rank */
    uint32_t plans; /* that use it */
    bool captured;  /* CUDA graphs of its users may use it, whatever plans they still hold: it stays as long as the instance */
    uint32_t outstanding;
    uint64_t charged; /* ranks whose clients pay */
    uint64_t kept;    /* ranks whose clients are gone, and whose accounts pay */
    struct tcd_account *accounts[TCW_MAX_RANKS];
    struct tcd_workspace_order *orders[TCW_MAX_RANKS]; /* not answered yet */
    bool given;                                        /* all users have the descriptors */
    int fds[TCW_MAX_RANKS];                            /* -1; served: until given, as no client ever has them */
    int multicast;                                     /* object over all of them, -1: none */
};

/*
 * Charges the members and asks their executors; `done` is called with the argument that `make_arg` makes for each rank, and reports through
 * tcd_workspace_arrived. NULL with *error set.
 */
struct tcd_workspace *tcd_workspace_create(struct tcd_instance *instance, tcw_lane lane, uint64_t bytes, tcd_executor_done done,
                                           void *(*make_arg)(void *arg, uint32_t rank), void *arg, struct tcw_error *error);
/* Takes the memory of a rank; true when it was the last one: the set is the lane's newest from now on. */
bool tcd_workspace_arrived(struct tcd_workspace *workspace, uint32_t rank, int fd);

void tcd_workspace_use(struct tcd_workspace *workspace);
/* A plan lets go; frees what nobody can use any more. */
void tcd_workspace_drop(struct tcd_workspace *workspace);
/* All users have the descriptors. */
void tcd_workspace_given(struct tcd_workspace *workspace);
/* The descriptors are there, and not everybody has them. */
bool tcd_workspace_has_fds(const struct tcd_workspace *workspace);
/* No later plan may use it: not everybody has got it. */
void tcd_workspace_retire(struct tcd_workspace *workspace);

void tcd_workspaces_forget_member(struct tcd_member *member);
void tcd_workspaces_free(struct tcd_instance *instance);
uint64_t tcd_workspaces_bytes(const struct tcd_instance *instance);

#endif
