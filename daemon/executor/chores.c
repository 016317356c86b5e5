#include "chores.h"

#include <stdlib.h>

void tcd_ex_chores_open(struct tcd_ex_chores *chores)
{
    pthread_mutex_init(&chores->lock, NULL);
    chores->first = NULL;
    atomic_init(&chores->threads, 0);
    atomic_init(&chores->beat, 1);
}

void tcd_ex_chores_close(struct tcd_ex_chores *chores)
{
    pthread_mutex_destroy(&chores->lock);
}

void tcd_ex_chore_add(struct tcd_ex_chores *chores, struct tcd_ex_chore *chore, const char *what, unsigned limit, const void *of)
{
    chore->what = what;
    chore->of = of;
    chore->limit = limit;
    atomic_init(&chore->busy, 0);
    pthread_mutex_lock(&chores->lock);
    chore->next = chores->first;
    chore->at = &chores->first;
    if (chore->next)
        chore->next->at = &chore->next;
    chores->first = chore;
    pthread_mutex_unlock(&chores->lock);
}

void tcd_ex_chore_remove(struct tcd_ex_chores *chores, struct tcd_ex_chore *chore)
{
    pthread_mutex_lock(&chores->lock);
    *chore->at = chore->next;
    if (chore->next)
        chore->next->at = chore->at;
    pthread_mutex_unlock(&chores->lock);
}

struct thread {
    struct tcd_ex_chores *chores;
    struct tcd_ex_chore chore;
    void (*work)(void *arg);
    void *arg;
};

static void *thread_main(void *arg)
{
    struct thread *thread = arg;
    struct tcd_ex_chores *chores = thread->chores;
    thread->work(thread->arg);
    tcd_ex_chore_remove(chores, &thread->chore);
    free(thread);
    atomic_fetch_sub(&chores->threads, 1); /* the last touch: the process may end now */
    return NULL;
}

void tcd_ex_chores_start(struct tcd_ex_chores *chores, const char *what, unsigned limit, void (*work)(void *arg), void *arg)
{
    struct thread *thread = malloc(sizeof *thread);
    pthread_t id;
    if (!thread) {
        work(arg);
        return;
    }
    thread->chores = chores;
    thread->work = work;
    thread->arg = arg;
    tcd_ex_chore_add(chores, &thread->chore, what, limit, NULL);
    tcd_ex_chore_begin(chores, &thread->chore);
    atomic_fetch_add(&chores->threads, 1);
    if (pthread_create(&id, NULL, thread_main, thread) == 0)
        pthread_detach(id);
    else
        thread_main(thread);
}

const char *tcd_ex_chores_beat(struct tcd_ex_chores *chores, bool (*excused)(void *arg, const void *of), void *arg, unsigned *beats)
{
    uint64_t now = atomic_fetch_add_explicit(&chores->beat, 1, memory_order_relaxed) + 1;
    const char *what = NULL;
    pthread_mutex_lock(&chores->lock);
    for (struct tcd_ex_chore *chore = chores->first; chore && !what; chore = chore->next) {
        uint64_t since = atomic_load_explicit(&chore->busy, memory_order_relaxed);
        if (!since || !chore->limit || now - since <= chore->limit)
            continue;
        if (excused && excused(arg, chore->of)) {
            atomic_compare_exchange_strong(&chore->busy, &since, now); /* unless it has just ended */
            continue;
        }
        what = chore->what;
        *beats = (unsigned)(now - since);
    }
    pthread_mutex_unlock(&chores->lock);
    return what;
}
