/*
 * Requests over the set-up socket. Several threads may have requests outstanding: whoever finds nobody reading reads for all, hands
 * replies to their callers by sequence number and announcements to the context.
 *
 * Owner: the context. Threads: any. Waits: every call has a deadline; a hang-up ends all of them with ECONN.
 */
#ifndef TCC_RPC_H
#define TCC_RPC_H

#include <tcw/channel.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

struct tcc_call;

struct tcc_rpc {
    int socket; /* open until tcc_rpc_destroy, so that pollers never meet a reused number */
    uint64_t generation;
    /* Called by whichever thread reads, without locks of this object; the packet carries no descriptors. */
    void (*announced)(void *arg, const struct tcw_packet *packet);
    void *arg;
    _Atomic bool gone;           /* hung up, or broken off after a protocol violation of the daemon */
    _Atomic uint64_t glanced_ns; /* when tcc_rpc_glance last read */
    pthread_mutex_t lock;
    pthread_cond_t changed; /* a reply was handed over, or the reader's place is free */
    bool reading;
    uint32_t sequence;
    struct tcc_call *calls;
    char farewell[TCW_TEXT_BYTES]; /* why it is gone */
};

int tcc_rpc_create(struct tcc_rpc *rpc, int socket, void (*announced)(void *arg, const struct tcw_packet *packet), void *arg);
/* Closes the socket; no call may be outstanding. In a forked child the locks are left as they are: others seem to hold or await them. */
void tcc_rpc_destroy(struct tcc_rpc *rpc, bool forked);

/*
 * Sends a request and waits for its answer, which must have opcode `expected`. 0: *reply is filled, its fds are the caller's.
 * Else a code with the last error set: the daemon's own refusal, ECONN, ETIMEOUT, EPROTO. reply->header.opcode is 0 when nothing came.
 */
int tcc_rpc_call(struct tcc_rpc *rpc, unsigned opcode, const void *payload, const int *fds, unsigned fd_count, unsigned expected,
                 uint64_t deadline_ns, struct tcw_packet *reply);

/* After a failure: was it that this process had no room for the answer's descriptors? The daemon takes what it granted for taken. */
static inline bool tcc_rpc_starved(const struct tcw_packet *reply)
{
    return reply->header.opcode == TCW_MSG_ERROR && reply->header.fd_count;
}

/* Sends a message that has no answer, or one whose answer nobody waits for. Best effort: tries for a few milliseconds. */
void tcc_rpc_notify(struct tcc_rpc *rpc, unsigned opcode, const void *payload);

/* Reads what has arrived, if nobody else is reading. Never blocks. */
void tcc_rpc_pump(struct tcc_rpc *rpc);
/* The same, but at most once every few milliseconds: for those who ask all the time. */
void tcc_rpc_glance(struct tcc_rpc *rpc, uint64_t now_ns);

static inline bool tcc_rpc_gone(struct tcc_rpc *rpc)
{
    return atomic_load_explicit(&rpc->gone, memory_order_acquire);
}

/* The last error for a connection that is gone: ECONN with the reason. */
int tcc_rpc_fail_gone(struct tcc_rpc *rpc);

#endif
