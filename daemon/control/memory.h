/*
 * Client memory: made for a client by its device's executor, or its own that it registered (host devices: a memfd; CUDA devices:
 * descriptors of VMM memory, or a legacy handle). Belongs to the client; its executor maps it, and a new executor gets it again, because
 * the control process keeps the descriptors. Control process, loop thread.
 */
#ifndef TCD_CONTROL_MEMORY_H
#define TCD_CONTROL_MEMORY_H

#include "client.h"

struct tcd_memory {
    struct tcd_client *client;
    struct tcd_link link; /* in the client */
    uint64_t handle;      /* in daemon->memories */
    uint64_t bytes;
    uint64_t charged;
    bool registered; /* the client's own */
    bool known;      /* the client has been told the handle */
    bool made;       /* false while the executor makes it */
    int *fds;        /* of the memory, fd_count */
    unsigned fd_count;
    uint32_t objects;            /* counted in the account: its descriptors, at least one */
    struct tcw_mem_register how; /* what executors of CUDA devices are told */
    uint32_t sequence;           /* of the request, until it is answered */
    uint64_t incarnation;        /* of the executor that knows it */
};

/* Handlers. MEM_REGISTER takes the descriptors out of the packet: sets them to -1. */
void tcd_memory_alloc(struct tcd_client *client, uint32_t sequence, const struct tcw_mem_alloc *alloc);
void tcd_memory_register(struct tcd_client *client, uint32_t sequence, const struct tcw_mem_register *message, int *fds, unsigned fd_count);
void tcd_memory_free(struct tcd_client *client, uint32_t sequence, const struct tcw_mem_free *message);

/* Tells the current executor of everything it does not know: before it serves the client. */
void tcd_memories_ensure(struct tcd_client *client);
/* The client ends. */
void tcd_memories_end(struct tcd_client *client);

#endif
