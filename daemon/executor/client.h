/*
 * A client as an executor knows it: the memory its requests may reference. One per client id, shared by all its attachments here.
 *
 * Lives in an executor process. The main thread creates, fills and frees; workers resolve references under the client's lock and pin what
 * they use. Memory is unmapped by the main thread once it is dropped and no pin is left. The client itself is freed by
 * tcd_ex_clients_sweep when it has neither attachments nor memory.
 */
#ifndef TCD_EXECUTOR_CLIENT_H
#define TCD_EXECUTOR_CLIENT_H

#include "engine.h"
#include "handle_map.h"
#include "mailbox.h"

#include <tck/memory.h>
#include <tcw/ring.h>

#include <pthread.h>
#include <stdbool.h>

enum { TCD_EX_DROPPED = 1 << 30 };

struct tcd_ex_memory {
    struct tcd_ex_memory *next; /* among the dropped */
    struct tck_memory mapping;  /* the engine's */
    uint32_t kind;              /* tcw_mem_kind; the engine's */
    unsigned char *base;        /* of the range that requests may use */
    uint64_t bytes;
    _Atomic uint32_t pins; /* grows under the client's lock; TCD_EX_DROPPED comes on top when no request finds it any more */
    uint64_t drop_cookie;  /* answered when it is unmapped; 0 none */
};

struct tcd_ex_client {
    struct tcd_ex_client *next;
    uint64_t id;
    unsigned attachments; /* main thread */
    uint64_t gone_cookie; /* CLIENT_GONE to be answered, 0 none */
    pthread_mutex_t lock; /* all below, and to pin */
    struct tcd_ex_handle_map memory;
    struct tcd_ex_memory *dropped; /* out of the map, waiting for their pins */
};

struct tcd_ex_clients {
    struct tcd_ex_client *first;
    struct tcd_ex_engine *engine;
};

/* ---- main thread ---- */

/* Finds or makes it; NULL without memory. */
struct tcd_ex_client *tcd_ex_clients_get(struct tcd_ex_clients *clients, uint64_t id);
struct tcd_ex_client *tcd_ex_clients_find(struct tcd_ex_clients *clients, uint64_t id);

/* Maps a client's memory as a MEM says. Descriptors that it takes become -1. 0 or a code with `text` (TCW_TEXT_BYTES). */
int tcd_ex_client_memory_add(struct tcd_ex_clients *clients, struct tcd_ex_client *client, const struct tcd_ex_message *message, int *fds,
                             unsigned fd_count, char *text);
/* No request finds it from now on; DONE with `cookie` follows from a sweep. TCW_ENOENT if there is none. */
int tcd_ex_client_memory_drop(struct tcd_ex_client *client, uint64_t handle, uint64_t cookie);
/* Drops everything; DONE with `cookie` follows from a sweep. */
void tcd_ex_client_memory_drop_all(struct tcd_ex_client *client, uint64_t cookie);

/* Unmaps what is dropped and not pinned, answers, frees clients without anything. */
void tcd_ex_clients_sweep(struct tcd_ex_clients *clients, struct tcd_ex_mailbox *mailbox);
/* Memory ranges held, dropped or not. */
uint64_t tcd_ex_clients_memory_count(struct tcd_ex_clients *clients);

/* ---- workers ---- */

/*
 * Turns references into addresses and pins their memory, all or none. `pins` has room for `count`; pins[i] is NULL where the reference is
 * empty, or into the memory of the one before.
 * 0; TCW_ENOENT: unknown or old handle; TCW_EINVAL: outside the registration. *bad is the reference it is about.
 */
int tcd_ex_client_pin(struct tcd_ex_client *client, const struct tcw_ref *refs, unsigned count, void **addresses,
                      struct tcd_ex_memory **pins, unsigned *bad);
/* True if a drop waits for what has become free: wake the main thread. Takes no lock. */
bool tcd_ex_client_unpin(struct tcd_ex_memory *const *pins, unsigned count);

#endif
