/*
 * Member page: one small memfd per membership (client x group instance) and lane owner. Design section 2 calls it the control page.
 *
 * Two of them exist per membership, of the same layout: the *client's page*, mapped by that client and by the control process, and the
 * *executor's page*, mapped by the executor worker and the control process. The control process writes the first part (deadline, abort),
 * the page's runner (client thread on the direct lane, executor worker on the served lane) writes the rest: progress, flight recorder,
 * histograms. The control process treats everything a client wrote as untrusted numbers: it copies, bounds and displays them.
 *
 * Owner: the control process holds the fd; mappings end with their processes. One writer per word.
 */
#ifndef TCW_MEMBER_H
#define TCW_MEMBER_H

#include <tcw/types.h>

#include <stdatomic.h>
#include <stdbool.h>

#define TCW_MEMBER_MAGIC 0x4d574354u /* "TCWM" */

enum {
    TCW_RECORDS = 256,        /* flight recorder entries, power of two */
    TCW_SIZE_CLASSES = 10,    /* message bytes: <=64, <=512, <=4K, <=32K, <=256K, <=2M, <=16M, <=128M, <=1G, larger */
    TCW_LATENCY_BUCKETS = 40, /* see tcw_latency_bucket */
    TCW_MEMBER_MAX_OPS = 8,
};

/* abort_word: 0 none; else low 32 bits the error code's magnitude, high 32 bits the culprit rank (0xffffffff: nobody's fault). */
static inline uint64_t tcw_abort_pack(int code, uint32_t culprit)
{
    return (uint64_t)culprit << 32 | (uint32_t)-code;
}
static inline int tcw_abort_code(uint64_t word)
{
    return -(int)(uint32_t)word;
}
static inline uint32_t tcw_abort_culprit(uint64_t word)
{
    return (uint32_t)(word >> 32);
}
#define TCW_NOBODY 0xffffffffu

/* Written by the control process before it raises abort_word (store-release), read after it (load-acquire). */
struct tcw_abort_info {
    int32_t code;
    uint32_t rank; /* culprit or TCW_NOBODY */
    int32_t pid;
    int32_t signal; /* of a death, 0 unknown or none */
    uint64_t step;  /* the culprit's last finished run */
    char text[TCW_TEXT_BYTES];
};

typedef enum tcw_member_state {
    TCW_MEMBER_IDLE = 0,
    TCW_MEMBER_RUNNING = 1,
    TCW_MEMBER_WAITING = 2,
    TCW_MEMBER_FAILED = 3
} tcw_member_state;

/* One request in the flight recorder. `sequence` is written last (store-release) and equals index + 1, so a torn entry shows. */
struct tcw_record {
    _Atomic uint64_t sequence; /* 0: never used */
    uint64_t bytes;
    uint64_t submit_ns; /* CLOCK_MONOTONIC */
    uint64_t start_ns;
    uint64_t end_ns; /* 0 while it runs */
    uint32_t plan_id;
    uint16_t op;
    uint8_t lane;
    uint8_t strategy;
    uint32_t dtype_fusion; /* dtype low 16, fusion high 16 */
    int32_t result;
    uint64_t step; /* run number in the group */
};

/*
 * What kernels of the direct lane tell the host, by posted writes of their last block; it sees replays of captured graphs too, and is still
 * there when the client is gone. Times are of the GPU's global timer (ns): differences count, not their zero.
 */
struct tcw_device_record {
    _Atomic uint64_t step; /* 0: never used; written last */
    uint64_t start_ns;
    uint64_t end_ns;
    uint32_t plan_id;
    uint32_t tokens;
};

enum { TCW_DEVICE_RECORDS = 256 };

struct tcw_device_progress {
    _Atomic uint64_t steps;      /* finished by this rank */
    _Atomic uint64_t fault;      /* 0, or tcw_abort_pack(code, rank) of the first failure: later kernels end at once */
    _Atomic uint64_t fault_step; /* written before it: the step that failed */
    _Atomic uint64_t their_step; /* written before it: the blamed rank's step as last seen */
    _Alignas(TCW_TWO_LINES) struct tcw_device_record records[TCW_DEVICE_RECORDS]; /* of step s: s % TCW_DEVICE_RECORDS */
};

struct tcw_member_page {
    /* constants, written before the fd is sent */
    uint32_t magic;
    uint32_t abi;
    uint64_t group_id;
    uint64_t epoch;
    uint32_t rank;
    uint32_t nranks;
    uint64_t reserved0[3];

    /* control process */
    _Alignas(TCW_TWO_LINES) _Atomic uint64_t abort_word;
    _Atomic uint64_t deadline_ns; /* longest wait of one operation for its peers; may change at any time; 0: none */
    struct tcw_abort_info abort_info;

    /* runner: progress */
    _Alignas(TCW_TWO_LINES) _Atomic uint64_t runs_started;
    _Atomic uint64_t runs_finished;
    _Atomic uint64_t plan_hash; /* running hash over (plan_id, tokens) of started runs */
    _Atomic uint64_t state_since_ns;
    _Atomic uint64_t missing_ranks; /* while WAITING: bit per rank not yet arrived */
    _Atomic uint32_t state;         /* tcw_member_state */
    _Atomic uint32_t plan_id;       /* of the current or last run */

    /* runner: latency, per operation and size class */
    _Alignas(TCW_TWO_LINES) _Atomic uint32_t latency[TCW_MEMBER_MAX_OPS][TCW_SIZE_CLASSES][TCW_LATENCY_BUCKETS];
    _Atomic uint64_t op_count[TCW_MEMBER_MAX_OPS];
    _Atomic uint64_t op_bytes[TCW_MEMBER_MAX_OPS];
    _Atomic uint64_t op_errors[TCW_MEMBER_MAX_OPS];
    _Atomic uint64_t op_ns[TCW_MEMBER_MAX_OPS]; /* sum of end - submit */

    /* runner: flight recorder */
    _Alignas(TCW_TWO_LINES) _Atomic uint64_t record_head; /* records ever begun */
    _Alignas(TCW_TWO_LINES) struct tcw_record records[TCW_RECORDS];

    /* kernels of this rank, direct lane on CUDA devices */
    _Alignas(TCW_TWO_LINES) struct tcw_device_progress device;
};

/* Size of the memfd: the page rounded up to whole memory pages. */
uint64_t tcw_member_page_bytes(void);

void tcw_member_page_format(struct tcw_member_page *page, uint64_t group_id, uint64_t epoch, uint32_t rank, uint32_t nranks,
                            uint64_t deadline_ns);
/* TCW_EPROTO unless `bytes` of `page` are a member page of this ABI with this rank and size. */
int tcw_member_page_check(const struct tcw_member_page *page, uint64_t bytes, uint64_t group_id, uint32_t rank, uint32_t nranks);

/* Control process: fills abort_info and raises the word, once per epoch: a second call changes nothing and returns 0; the first returns 1.
 */
int tcw_member_abort(struct tcw_member_page *page, const struct tcw_abort_info *info);

unsigned tcw_size_class(uint64_t bytes);
uint64_t tcw_size_class_limit(unsigned size_class); /* inclusive upper bound, UINT64_MAX for the last */
/* Buckets grow by sqrt(2) from 250 ns: bucket 0 is <= 250 ns, the last is everything longer. */
unsigned tcw_latency_bucket(uint64_t ns);
uint64_t tcw_latency_bucket_limit(unsigned bucket); /* inclusive upper bound in ns, UINT64_MAX for the last */

/*
 * Runner: begin a run (claims a record, counts, hashes) and end it. `*record` is the index to pass to _end.
 *
 * On host devices a run of at most 1 KiB is begun, and its start read, when its first data are on their way to the peers: some tens of
 * nanoseconds after the call, or after the worker took the request, so that no peer waits for the bookkeeping. Where a client asks for no
 * times (TCW_SQE_UNTIMED), its completion comes first, and `end_ns` is when that has been posted. The run has been counted by then, with
 * _count: who leaves a group with all its runs done must not seem to lack one.
 */
struct tcw_run_note {
    uint32_t plan_id;
    uint16_t op;
    uint8_t lane;
    uint8_t strategy;
    uint32_t dtype_fusion;
    uint64_t bytes;
    uint64_t tokens;
    uint64_t submit_ns;
    bool counted; /* by _count */
};
uint64_t tcw_member_run_begin(struct tcw_member_page *page, const struct tcw_run_note *note, uint64_t start_ns);
/* Ahead of _end, of a run that has not failed. */
void tcw_member_run_count(struct tcw_member_page *page, struct tcw_run_note *note);
void tcw_member_run_end(struct tcw_member_page *page, uint64_t record, const struct tcw_run_note *note, uint64_t end_ns, int result);

uint64_t tcw_now_ns(void); /* CLOCK_MONOTONIC */

#endif
