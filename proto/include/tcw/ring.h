/*
 * Submission and completion rings of one group membership: the served lane's only shared structure between a client and an executor.
 *
 * One memfd, made and sealed (grow, shrink, seal) by the control process, mapped by the client and by one executor thread. Page one is
 * the ring header: written before the fd is sent, constant afterwards, copied once by each side (tcw_ring_open) and never read from the
 * mapping again. Every index is free-running; distance is unsigned subtraction; a distance above the entry count is a violation.
 *
 * Producer of submissions: the client (its lock serializes threads). Consumer: the executor's worker thread.
 * Producer of completions: that worker. Consumer: the client (its lock serializes threads).
 *
 * Whether an entry is there is said by the entry itself, so that the line which a waiting side polls is the line that it needs: each has a
 * phase bit in its first word, 1 where the ring is gone through for the first time, 0 the second time, and so on (memory begins as zero,
 * nothing is ever cleared). The writer stores that word last, with release; the reader loads it with acquire, copies the entry once and
 * judges the copy. No index of the producer takes part in this, so none can be lied about; the consumer's tells the producer what is free.
 *
 * A request is one head entry followed by as many continuation entries as its buffer references need, published by the head's first word.
 * A completion slot is reserved for every accepted request: the client never has more requests in flight than completion entries.
 */
#ifndef TCW_RING_H
#define TCW_RING_H

#include <tcw/types.h>

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

#define TCW_RING_MAGIC 0x52574354u /* "TCWR" */

enum { TCW_RING_MIN_ENTRIES = 8, TCW_RING_MAX_ENTRIES = 4096, TCW_RING_HEADER_BYTES = 4096 };

struct tcw_ring_header {
    uint32_t magic;
    uint32_t abi;
    uint32_t header_bytes;
    uint32_t sq_entry_bytes;
    uint32_t cq_entry_bytes;
    uint32_t sq_entries; /* power of two */
    uint32_t cq_entries; /* power of two */
    uint32_t reserved0;
    uint64_t indices_offset; /* struct tcw_ring_indices */
    uint64_t sq_offset;
    uint64_t cq_offset;
    uint64_t total_bytes;
    uint64_t client_id;
    uint64_t generation; /* of the daemon */
    uint64_t features;
    uint64_t words_offset;    /* struct tcw_words[cq_entries], whole pages; 0: none (host devices) */
    uint64_t captured_offset; /* struct tcw_captured[TCW_CAPTURED], behind them, the end of the memfd; 0 without words */
    uint64_t reserved[3];
};

/*
 * CUDA devices: how the stream of a client and the stream of its executor wait for each other, one pair per request in flight, registered
 * with CUDA by both. A request with running number s (64 bits, from 1; sqe.sequence has its low half) on pair p: the client's stream raises
 * words[p].ready to s when the inputs are there, an executor's kernel raises words[p].done to s when the outputs are. Numbers only grow;
 * waits are for "at least". Whoever gives up a request raises the words by a plain store, which needs no CUDA: no stream ever waits for a
 * process that is gone.
 */
struct tcw_words {
    _Alignas(TCW_TWO_LINES) _Atomic uint64_t ready; /* client's stream; executor and control process when they give up */
    _Alignas(TCW_TWO_LINES) _Atomic uint64_t done;  /* executor's kernels; client and control process when they give up */
};

/*
 * Requests in captured CUDA graphs. A graph can only write and wait for constants, so its requests have words of their own. While a stream
 * is captured, the client posts an entry with TCW_SQE_CAPTURED, whose `pair` is the index k here: the executor checks it like any request,
 * keeps it, pins its memory, and answers with a completion. Then the client captures
 *
 *     write turn[k] := TCW_TURN_EXECUTOR;  wait until turn[k] and over[k], read as 64 bits, are at least TCW_TURN_CLIENT
 *
 * The executor looks at `turn` of the requests that it keeps. Where it finds that it is its turn, it treats this as a request that has been
 * taken: it enqueues the operation and, behind it, turn[k] := TCW_TURN_CLIENT. A replay of k comes behind the one before it, so there is
 * never more than one of k to be served, and either side writes only when it is its turn.
 *
 * Whoever gives up (executor, control process, client) sets `over`, the high half of what graphs wait for, for all k and for ever: graphs
 * write the low half alone. So no replay can undo it, streams pass at once, and so does every later replay, without anybody who would have
 * to look after them. Had both been one word, a replay that begins when the one before it is released would wait for a process that is
 * gone.
 *
 * Order: an entry in the ring is posted by the host at once, the turn of a graph's request changes when its stream comes to it. An executor
 * that keeps captured requests, or serves several rings with one communicator, therefore takes an entry only when its `ready` word is
 * raised: then all come in the order of the client's streams, and nothing that waits stands on the executor's stream before what it waits
 * for. The price is that nothing is enqueued ahead.
 *
 * An entry with TCW_SQE_CAPTURED | TCW_SQE_RELEASE (op TCW_OP_NOP) gives k back when no graph has it any more. All end with the ring.
 */
enum { TCW_CAPTURED = 256 };
enum {
    TCW_TURN_EXECUTOR = 1, /* the inputs of a replay are there; 0: there has been none yet */
    TCW_TURN_CLIENT = 2,   /* its outputs are there */
};

struct tcw_captured {
    _Alignas(TCW_TWO_LINES) _Atomic uint32_t turn; /* client's graphs and executor's kernels, in turns */
    _Atomic uint32_t over;                         /* whoever gives up: 1 */
};

/* Each word alone in two lines. The comment names its only writer. */
struct tcw_ring_indices {
    _Alignas(TCW_TWO_LINES) _Atomic uint32_t sq_tail;  /* client: what it has posted; looked at only when a plan is given back */
    _Alignas(TCW_TWO_LINES) _Atomic uint32_t sq_head;  /* executor */
    _Alignas(TCW_TWO_LINES) _Atomic uint32_t cq_head;  /* client */
    _Alignas(TCW_TWO_LINES) _Atomic uint32_t sq_sleep; /* executor: 1 while it sleeps on the submission eventfd */
    _Alignas(TCW_TWO_LINES) _Atomic uint32_t cq_sleep; /* client: 1 while it wants the completion eventfd written */
};

/* A range in memory the daemon knows: handle = index (low 32 bits) and generation (high 32 bits). No pointers. */
struct tcw_ref {
    uint64_t handle;
    uint64_t offset;
    uint64_t length;
};

enum { TCW_SQE_HEAD_REFS = 4, TCW_SQE_CONT_REFS = 5 };
enum { TCW_SQE_CONTINUATION = 0xffff }; /* `op` of a continuation entry */
enum {
    TCW_SQE_CAPTURED = 1, /* to be kept for replays: see struct tcw_captured */
    TCW_SQE_RELEASE = 2,  /* with it: no longer */
    TCW_SQE_UNTIMED = 4,  /* host devices: nobody will ask for the times of a success, so its completion need not wait for them: both 0 */
    TCW_SQE_FLAGS_KNOWN = 7
};
enum { TCW_RING_PHASE = 0x8000 }; /* in the flags of every entry, of both rings; only the functions below set it and look at it */

struct tcw_sqe {
    uint16_t op;        /* tcw_op; must equal the plan's */
    uint16_t flags;     /* TCW_SQE_CAPTURED, TCW_SQE_RELEASE: CUDA devices; TCW_SQE_UNTIMED: host devices */
    uint32_t sequence;  /* running number of requests of this ring */
    uint64_t plan;      /* handle: index and generation */
    uint64_t user_data; /* returned as it is */
    uint32_t tokens;    /* see tcw_plan_slot_bytes */
    uint16_t ref_count; /* all references of the request */
    uint16_t pair;      /* CUDA devices: index of its words, below cq_entries (captured: TCW_CAPTURED); else 0 */
    struct tcw_ref refs[TCW_SQE_HEAD_REFS];
};

struct tcw_sqe_continuation {
    uint16_t op; /* TCW_SQE_CONTINUATION */
    uint16_t flags;
    uint32_t sequence; /* the head's */
    struct tcw_ref refs[TCW_SQE_CONT_REFS];
};

union tcw_sq_entry {
    struct tcw_sqe head;
    struct tcw_sqe_continuation continuation;
    _Atomic uint32_t mark; /* the first word: with flags, and so with the phase */
};

struct tcw_cqe {
    uint16_t culprit; /* rank named by a failure, else 0xffff */
    uint16_t flags;
    int32_t result; /* 0 or a negative tcw_errno */
    uint64_t user_data;
    uint64_t start_ns; /* CLOCK_MONOTONIC */
    uint64_t end_ns;
};

union tcw_cq_entry {
    struct tcw_cqe cqe;
    _Atomic uint32_t mark;
};

_Static_assert(sizeof(struct tcw_ring_header) == 128, "ABI");
_Static_assert(sizeof(struct tcw_words) == 2 * TCW_TWO_LINES, "ABI");
_Static_assert(sizeof(struct tcw_captured) == TCW_TWO_LINES, "ABI");
_Static_assert(offsetof(struct tcw_captured, over) == offsetof(struct tcw_captured, turn) + 4 && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
               "together they are the 64 bits that streams wait for");
_Static_assert(sizeof(struct tcw_ring_indices) == 5 * TCW_TWO_LINES, "ABI");
_Static_assert(sizeof(struct tcw_ref) == 24, "ABI");
_Static_assert(sizeof(struct tcw_sqe) == 128, "ABI");
_Static_assert(sizeof(struct tcw_sqe_continuation) == 128, "ABI");
_Static_assert(sizeof(struct tcw_cqe) == 32, "ABI");
_Static_assert(sizeof(union tcw_sq_entry) == 128 && sizeof(union tcw_cq_entry) == 32, "the mark lies over the beginning");
_Static_assert(offsetof(struct tcw_sqe, flags) == 2 && offsetof(struct tcw_sqe_continuation, flags) == 2 &&
                   offsetof(struct tcw_cqe, flags) == 2,
               "flags are the high half of the mark");

/* Entries that a request with `ref_count` references occupies. */
static inline uint32_t tcw_sqe_entries(uint32_t ref_count)
{
    if (ref_count <= TCW_SQE_HEAD_REFS)
        return 1;
    return 1 + (ref_count - TCW_SQE_HEAD_REFS + TCW_SQE_CONT_REFS - 1) / TCW_SQE_CONT_REFS;
}

/* A side's private view: constants copied and checked once, own indices local. */
struct tcw_ring {
    unsigned char *base;
    uint64_t bytes;
    struct tcw_ring_indices *indices;
    union tcw_sq_entry *sq;
    union tcw_cq_entry *cq;
    struct tcw_words *words;       /* NULL: none */
    struct tcw_captured *captured; /* NULL: none */
    uint32_t sq_entries, cq_entries;
    uint32_t sq_local; /* client: next to write; executor: next to read */
    uint32_t cq_local; /* client: next to read; executor: next to write */
    /* The peer's indices as last seen. Looking again costs a cache miss, so a producer does it only when the ring seems full. */
    uint32_t sq_head_seen;  /* client */
    uint32_t cq_head_seen;  /* executor */
    int sq_event, cq_event; /* eventfds, -1 if none; not owned */
    uint64_t client_id, generation;
};

/* Request as validated: a private copy, references gathered. */
struct tcw_request {
    struct tcw_sqe head;
    struct tcw_ref refs[TCW_MAX_REFS];
};

/* Bytes of a ring with these entry counts (powers of two within the limits), with words or without; 0 if they are not allowed. */
uint64_t tcw_ring_bytes(uint32_t sq_entries, uint32_t cq_entries, bool words);

/* Control process: writes the header into zeroed memory of tcw_ring_bytes(). */
int tcw_ring_format(void *base, uint64_t bytes, uint32_t sq_entries, uint32_t cq_entries, bool words, uint64_t client_id,
                    uint64_t generation);

/*
 * Either side: copies and checks the header of `bytes` mapped bytes (from fstat). TCW_EPROTO when it is not a ring of this ABI.
 * The mapping and the eventfds stay the caller's.
 */
int tcw_ring_open(struct tcw_ring *ring, void *base, uint64_t bytes, int sq_event, int cq_event);

/*
 * Client: posts one request. TCW_EAGAIN if the submission ring has no room. Completion slots are the caller's to count.
 * Sets *wake if the executor sleeps; the caller then writes the submission eventfd (tcw_ring_wake).
 */
int tcw_ring_submit(struct tcw_ring *ring, const struct tcw_sqe *head, const struct tcw_ref *refs, bool *wake);

/*
 * Executor: takes the next request into a private copy, checking what can be checked without knowing plans (indices, continuation
 * shape, reserved fields, counts). 1: *request is filled; 0: ring empty; TCW_EPROTO: violation, *why says which (static string), the ring
 * must not be used again.
 */
int tcw_ring_take(struct tcw_ring *ring, struct tcw_request *request, const char **why);

/* Whether the entry with this mark holds what stands at `position` of a ring with so many entries, and not yet what stood there before. */
static inline bool tcw_ring_there(const _Atomic uint32_t *mark, uint32_t position, uint32_t entries)
{
    uint32_t phase = atomic_load_explicit(mark, memory_order_acquire) >> 31;

    return phase == !(position & entries);
}

/* Executor: whether a request waits, without taking it. */
static inline bool tcw_ring_pending(const struct tcw_ring *ring)
{
    return tcw_ring_there(&ring->sq[ring->sq_local & (ring->sq_entries - 1)].mark, ring->sq_local, ring->sq_entries);
}

/* Client: whether a completion was published at this position of the ring, without taking it. Any thread. */
static inline bool tcw_ring_completed(const struct tcw_ring *ring, uint32_t position)
{
    return tcw_ring_there(&ring->cq[position & (ring->cq_entries - 1)].mark, position, ring->cq_entries);
}

/* Executor: publishes one completion. TCW_EPROTO if the client has moved its head beyond the tail or the ring is full. Wakes the client. */
int tcw_ring_complete(struct tcw_ring *ring, const struct tcw_cqe *cqe);

/* Client: takes one completion. 1 filled, 0 none, TCW_EPROTO violation. */
int tcw_ring_reap(struct tcw_ring *ring, struct tcw_cqe *cqe);

/*
 * Going to sleep. Sets this side's flag, issues the one full fence of the protocol (its peer stands in tcw_ring_submit and
 * tcw_ring_complete, between publishing the entry and reading the flag), and looks at the next entry again. True: nothing came in, block on
 * the eventfd, then call _disarm. False: work arrived, the flag is already cleared.
 */
bool tcw_ring_arm_executor(struct tcw_ring *ring);
void tcw_ring_disarm_executor(struct tcw_ring *ring);
bool tcw_ring_arm_client(struct tcw_ring *ring);
void tcw_ring_disarm_client(struct tcw_ring *ring);

/* Any side that gives up: replays of captured requests pass from now on. Nothing to do without words. */
void tcw_ring_captured_over(struct tcw_ring *ring);

/* Writes an eventfd once; EAGAIN counts as done. */
void tcw_ring_wake(int event);

#endif
