/*
 * One generation of a group's workspaces on the direct lane: every rank's workspace mapped here, and the communicator over them. Plans
 * share it; a larger plan brings the next generation.
 *
 * Owner: the member. A generation that is not the newest goes when its last plan does and no stream or graph uses it any more. Threads: the
 * list under member.lock, running under member.run_lock.
 */
#ifndef TCC_WORKSPACE_H
#define TCC_WORKSPACE_H

#include <tck/comm.h>
#include <tcw/channel.h>

struct tcc_member;

struct tcc_workspace {
    struct tcc_workspace *next;
    uint64_t generation;
    uint64_t bytes;
    uint32_t plans;
    uint32_t count;
    struct tck_comm *comm;                       /* host devices, or */
    struct tcc_gpu_comm *gpu;                    /* see cuda/gpu.h */
    struct tck_memory memory[TCW_MAX_RANKS + 1]; /* of each rank, and a multicast object over them if `count` says so */
};

/*
 * The generation that a PLAN_READY names, with a plan added: the known one, or a new one from the first descriptors of `reply` (which are
 * taken). 0, or a code with the last error set.
 */
int tcc_workspace_get(struct tcc_member *member, struct tcw_packet *reply, struct tcc_workspace **workspace);
void tcc_workspace_put(struct tcc_member *member, struct tcc_workspace *workspace);
void tcc_workspaces_destroy(struct tcc_member *member);

#endif
