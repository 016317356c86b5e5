/*
 * Client memory: made for a client by its device's executor, or its own memfd that it registered. Belongs to the client; its executor maps
 * it, and a new executor gets it again, because the control process keeps the descriptor. Control process, loop thread.
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
    bool registered;      /* the client's own */
    bool known;           /* the client has been told the handle */
    int fd;               /* -1 while the executor makes it */
    uint32_t sequence;    /* of the request, until it is answered */
    uint64_t incarnation; /* of the executor that knows it */
};

/* Handlers. MEM_REGISTER takes the descriptor out of the packet. */
void tcd_memory_alloc(struct tcd_client *client, uint32_t sequence, const struct tcw_mem_alloc *alloc);
void tcd_memory_register(struct tcd_client *client, uint32_t sequence, const struct tcw_mem_register *message, int *fd);
void tcd_memory_free(struct tcd_client *client, uint32_t sequence, const struct tcw_mem_free *message);

/* Tells the current executor of everything it does not know: before it serves the client. */
void tcd_memories_ensure(struct tcd_client *client);
/* The client ends. */
void tcd_memories_end(struct tcd_client *client);

#endif
