/*
 * The served lane of one group instance: the ring, the requests in flight, and the threads that wait for them.
 *
 * Owner: the member, from its first served plan on. Threads: any, under `lock`; completions are taken by whoever waits, asks or submits.
 * Every accepted request ends exactly once: by its completion, or locally when the instance or the daemon is gone.
 */
#ifndef TCC_SERVED_H
#define TCC_SERVED_H

#include "flight.h"
#include "member.h"

#include <tcw/ring.h>

struct tcc_served {
    struct tcc_member *member; /* which holds this */
    void *base;
    uint64_t bytes;
    int sq_event, cq_event; /* owned */
    pthread_mutex_t lock;
    pthread_cond_t done; /* completions were taken, or the sleeper's place is free */
    struct tcw_ring ring;
    struct tcc_flight *flights; /* one per completion slot */
    struct tcc_flight *free;
    struct tcc_flight *oldest, *newest; /* submitted and not completed */
    struct tcc_flight *draining;        /* completed, but streams still use their staging blocks; linked by `newer` */
    struct tcc_words *words;            /* on a GPU, else NULL: see cuda/gpu.h */
    uint64_t requests;                  /* on a GPU: posted so far */
    struct tcc_captured *captured;      /* on a GPU: what graphs have, NULL before the first: see cuda/captured.h */
    _Atomic uint32_t in_flight;         /* written under the lock */
    _Atomic uint32_t taken;             /* completions whose events are done, as the ring counts them; written under the lock */
    uint32_t sequence;
    uint32_t waiters; /* threads on `done` */
    bool sleeping;    /* one thread sleeps on the completion eventfd for all */
    bool notify;      /* the application reads the completion eventfd: nobody else may */
    bool crowded;     /* fewer processors than threads that take part: every rank's client and executor */
    bool ended;       /* nothing more is submitted and nothing more is expected */
    int ended_code;
    uint64_t ending_ns; /* when the end was first noticed, 0 before */
};

/* Makes sure that the member has its ring: the known one, or from the last three descriptors of a PLAN_READY (taken). */
int tcc_served_ensure(struct tcc_member *member, struct tcw_packet *reply);
void tcc_served_destroy(struct tcc_served *served); /* local; takes no lock */

/* Waits until the event is complete or the time has come. */
void tcc_served_wait(struct trtcoll_event *event, uint64_t deadline_ns);
/* Takes completions if there are any, and notices the end of the instance or the daemon. Waits for nobody but who is at the same. */
void tcc_served_look(struct trtcoll_event *event);

/* With the lock: takes the completions that are there and what streams have drained, and wakes those who wait for them. */
void tcc_served_reap(struct tcc_served *served);
/*
 * With the lock: is there still somebody who will complete what is in flight? If not, and the grace has passed, ends it here.
 * How long a run may take is not judged: the daemon kills executors that are stuck, and executors end with the daemon.
 */
void tcc_served_check(struct tcc_served *served);

/*
 * With the lock: posts an entry about captured request `captured` - 1, with an event that nobody is given; fills in what *head lacks. The
 * entry has one of the event's holds then. False: there is no room, or nobody who would answer.
 */
bool tcc_served_post(struct tcc_served *served, struct trtcoll_event *event, struct tcw_sqe *head, const struct tcw_ref *refs,
                     uint32_t captured);

/* For who watches over a context: ends what nobody will complete any more. True: some of it is in flight. */
bool tcc_served_watch(struct tcc_served *served);

/* The membership ends: what is still in flight ends with the member's failure. */
void tcc_served_end(struct tcc_served *served);

/* From now on every completion makes the returned eventfd readable. */
int tcc_served_notify_fd(struct tcc_served *served);

/*
 * Without the lock: are there completions that nobody has taken? If not, the event of every completion that was published before is done.
 * Loads only, so that polling disturbs neither the executor nor other waiters; the last one is for who is overtaken by a whole round of the
 * ring between the first two.
 */
static inline bool tcc_served_news(const struct tcc_served *served)
{
    uint32_t taken = atomic_load_explicit(&served->taken, memory_order_acquire);

    return tcw_ring_completed(&served->ring, taken) || atomic_load_explicit(&served->taken, memory_order_relaxed) != taken;
}

static inline uint32_t tcc_served_in_flight(struct tcc_served *served)
{
    return atomic_load_explicit(&served->in_flight, memory_order_relaxed);
}

#endif
