#include "host/wait.h"

#include <linux/futex.h>
#include <sched.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum {
    SPINS_PER_CLOCK = 32,
    YIELD_NS = 1000000, /* how long a waiter stays runnable before it sleeps */
    /*
     * A yield that took this long gave the processor to somebody busy, not to the peer that is waited for. Newer schedulers also charge
     * yields as if their time had been used, so a waiter that goes on yielding beside busy threads can be kept off for seconds, while
     * one that sleeps is let in as soon as it is woken: for a while then, sleep instead.
     */
    LONG_YIELD_NS = 2000000,
    NO_YIELD_NS = 20000000,
    NAP_FIRST_NS = 100000, /* naps double from here */
    NAP_LAST_NS = 2000000, /* bounds what a lost wake, an abort or a changed deadline can cost */
    POLL_NS = 4000000,
};

static inline const _Atomic uint64_t *sequence_word(const struct tck_comm *comm, uint32_t peer, uint64_t wanted)
{
    const struct tck_flag *flag = (const struct tck_flag *)(comm->base[peer] + (wanted - 1) % TCK_BUFFERS * comm->pitch);
    return &flag->sequence;
}

static inline bool arrived(const _Atomic uint64_t *word, uint64_t wanted)
{
    return atomic_load_explicit(word, memory_order_acquire) >= wanted;
}

int tck_comm_fail(struct tck_comm *comm, int code, uint32_t rank)
{
    comm->fault.code = code;
    comm->fault.rank = rank;
    if (comm->missing_ranks && code != TCW_ETIMEOUT)
        atomic_store_explicit(comm->missing_ranks, 0, memory_order_relaxed);
    return code;
}

void tck_wake(struct tck_comm *comm, uint32_t peer)
{
    uint32_t me = comm->rank + 1;
    _Atomic uint32_t *awaits = &comm->headers[peer]->awaits;
    if (atomic_compare_exchange_strong(awaits, &me, 0))
        syscall(SYS_futex, awaits, FUTEX_WAKE, 1, NULL, NULL, 0);
}

static void nap(struct tck_comm *comm, uint32_t peer, const _Atomic uint64_t *word, uint64_t wanted, uint64_t ns)
{
    _Atomic uint32_t *awaits = &comm->headers[comm->rank]->awaits;
    struct timespec timeout = {.tv_nsec = (long)ns};
    atomic_store(awaits, peer + 1);
    if (atomic_load(word) <
        wanted) /* both sequentially consistent, as their mirror in tck_step_publish: one of the two sides sees the other */
        syscall(SYS_futex, awaits, FUTEX_WAIT, peer + 1, &timeout, NULL, 0);
    atomic_store_explicit(awaits, 0, memory_order_relaxed);
}

static void note_missing(struct tck_comm *comm, uint64_t wanted)
{
    uint64_t missing = 0;
    if (!comm->missing_ranks)
        return;
    for (uint32_t i = 0; i < comm->nranks; i++)
        if (i != comm->rank && !arrived(sequence_word(comm, i, wanted), wanted))
            missing |= UINT64_C(1) << i;
    atomic_store_explicit(comm->missing_ranks, missing, memory_order_relaxed);
}

/* The newest step that rank `peer` has published, + 1. */
static uint64_t latest_sequence(const struct tck_comm *comm, uint32_t peer)
{
    uint64_t latest = 0;
    for (uint64_t i = 1; i <= TCK_BUFFERS; i++) {
        uint64_t sequence = atomic_load_explicit(sequence_word(comm, peer, i), memory_order_relaxed);
        latest = sequence > latest ? sequence : latest;
    }
    return latest;
}

/* Who is to blame when `peer` does not come: it, unless it may be waiting itself for a rank that is further behind (a broadcast's root). */
static uint32_t find_culprit(const struct tck_comm *comm, uint32_t peer)
{
    uint64_t least = latest_sequence(comm, peer);
    uint32_t culprit = peer;
    for (uint32_t i = 0; i < comm->nranks; i++) {
        uint64_t latest = i == comm->rank ? least : latest_sequence(comm, i);
        if (latest < least) {
            least = latest;
            culprit = i;
        }
    }
    return culprit;
}

/* Everything but the flag that can end a wait. Returns 0 to go on. */
static int check_exits(struct tck_comm *comm, uint32_t peer, uint64_t wanted, uint64_t now, struct tck_patience *patience)
{
    uint64_t word = atomic_load_explicit(comm->abort_word, memory_order_acquire);
    if (word)
        return tck_comm_fail(comm, tcw_abort_code(word), tcw_abort_culprit(word));
    uint64_t deadline = atomic_load_explicit(comm->deadline_ns, memory_order_relaxed);
    if (deadline && comm->waited_ns + (now - patience->began_ns) >= deadline) {
        peer = find_culprit(comm, peer);
        comm->fault.step = atomic_load_explicit(&comm->headers[peer]->runs, memory_order_relaxed);
        note_missing(comm, wanted);
        return tck_comm_fail(comm, TCW_ETIMEOUT, peer);
    }
    if (comm->poll && now - patience->polled_ns >= POLL_NS) {
        patience->polled_ns = now;
        int code = comm->poll(comm->poll_arg);
        if (code)
            return tck_comm_fail(comm, code, TCW_NOBODY);
    }
    return 0;
}

static void yield(struct tck_comm *comm, uint64_t before_ns)
{
    sched_yield();
    uint64_t after_ns = tcw_now_ns();
    if (after_ns - before_ns >= LONG_YIELD_NS)
        comm->no_yield_until_ns = after_ns + NO_YIELD_NS;
}

int tck_wait_sequence(struct tck_comm *comm, uint32_t peer, uint64_t wanted, struct tck_patience *patience)
{
    const _Atomic uint64_t *word = sequence_word(comm, peer, wanted);
    uint64_t nap_ns = NAP_FIRST_NS;
    if (!patience->began_ns)
        patience->began_ns = patience->polled_ns = patience->last_ns = tcw_now_ns();
    uint64_t now = patience->began_ns;
    for (;;) {
        uint64_t waited = now - patience->began_ns;
        if (waited < comm->spin_ns) {
            for (int i = 0; i < SPINS_PER_CLOCK; i++) {
                if (arrived(word, wanted))
                    return 0;
                tck_pause();
            }
        } else if (waited < comm->spin_ns + YIELD_NS && now >= comm->no_yield_until_ns) {
            yield(comm, now);
        } else {
            note_missing(comm, wanted);
            nap(comm, peer, word, wanted, nap_ns);
            nap_ns = nap_ns * 2 < NAP_LAST_NS ? nap_ns * 2 : NAP_LAST_NS;
        }
        if (arrived(word, wanted))
            return 0;
        patience->last_ns = now = tcw_now_ns();
        int code = check_exits(comm, peer, wanted, now, patience);
        if (code)
            return code;
    }
}

void tck_wait_done(struct tck_comm *comm, const struct tck_patience *patience)
{
    if (!patience->began_ns)
        return;
    comm->waited_ns += patience->last_ns - patience->began_ns;
    if (comm->missing_ranks && atomic_load_explicit(comm->missing_ranks, memory_order_relaxed))
        atomic_store_explicit(comm->missing_ranks, 0, memory_order_relaxed);
}
