/*
 * Chores: what threads of an executor do for others while they may stand still in a driver or a library: memory, communicators, calls that
 * enqueue. Nobody can end such a thread from outside; what can end is the process, which holds nothing that cannot be made again. So every
 * chore has a limit, and when one stands still beyond it, the executor says so and ends (service.c); the control process starts the next.
 *
 * Limits are counted in beats, the pings of the control process, about one a second. While the node, or this process, is stopped there are
 * none, and nobody is late. Nor is anybody while the device waits for a client: drivers make some calls wait for all that runs there.
 *
 * Lives in an executor process; the service owns the list, the threads own their chores. Any thread, except where it says main thread.
 */
#ifndef TCD_EXECUTOR_CHORES_H
#define TCD_EXECUTOR_CHORES_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum {
    TCD_EX_UNLIMITED = 0, /* it may wait for a client */
    TCD_EX_PROMPT = 10,   /* nothing waits for anybody else: only trouble takes so long */
    TCD_EX_PATIENT = 60,  /* likewise, but much work, or for the first time */
};

struct tcd_ex_chore {
    struct tcd_ex_chore *next, **at;
    const char *what;      /* static: "what it does" has not returned */
    const void *of;        /* what the device may be waiting for because of it: that is no excuse. NULL: nothing */
    unsigned limit;        /* beats */
    _Atomic uint64_t busy; /* 0: not at it; else since which beat */
};

struct tcd_ex_chores {
    pthread_mutex_t lock; /* the list */
    struct tcd_ex_chore *first;
    _Atomic unsigned threads; /* started and not ended */
    _Atomic uint64_t beat;    /* from 1 */
};

void tcd_ex_chores_open(struct tcd_ex_chores *chores);
void tcd_ex_chores_close(struct tcd_ex_chores *chores);

/* A chore that is begun and ended many times, while it is in the list. */
void tcd_ex_chore_add(struct tcd_ex_chores *chores, struct tcd_ex_chore *chore, const char *what, unsigned limit, const void *of);
void tcd_ex_chore_remove(struct tcd_ex_chores *chores, struct tcd_ex_chore *chore);
static inline void tcd_ex_chore_begin(struct tcd_ex_chores *chores, struct tcd_ex_chore *chore)
{
    atomic_store_explicit(&chore->busy, atomic_load_explicit(&chores->beat, memory_order_relaxed), memory_order_relaxed);
}
static inline void tcd_ex_chore_end(struct tcd_ex_chore *chore)
{
    atomic_store_explicit(&chore->busy, 0, memory_order_relaxed);
}

/*
 * Work in a thread of its own, as one chore; the process waits for it before it ends in good order. Without a thread it is done in this
 * one: late is better than never.
 */
void tcd_ex_chores_start(struct tcd_ex_chores *chores, const char *what, unsigned limit, void (*work)(void *arg), void *arg);

/*
 * Main thread: a ping. NULL, or what has not returned for `*beats`. `excused`: whether the device may be waiting for a client, other than
 * because of `of`; asked before a chore counts as late, which has its whole limit again then. May be NULL.
 */
const char *tcd_ex_chores_beat(struct tcd_ex_chores *chores, bool (*excused)(void *arg, const void *of), void *arg, unsigned *beats);

#endif
