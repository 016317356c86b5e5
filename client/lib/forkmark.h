/*
 * Tells a process from its forked child without a system call: a word in a page that the kernel hands to children zeroed.
 * Owner: the context. Reading is safe from any thread; in the child only tcc_fork_mark_destroy may follow.
 */
#ifndef TCC_FORKMARK_H
#define TCC_FORKMARK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>
#include <unistd.h>

struct tcc_fork_mark {
    _Atomic unsigned *word; /* NULL: the kernel cannot wipe pages, compare process ids instead */
    pid_t pid;
};

void tcc_fork_mark_create(struct tcc_fork_mark *mark);
void tcc_fork_mark_destroy(struct tcc_fork_mark *mark);

/* True in a child of the process that created the mark. */
static inline bool tcc_fork_mark_forked(const struct tcc_fork_mark *mark)
{
    if (mark->word)
        return atomic_load_explicit(mark->word, memory_order_relaxed) == 0;
    return getpid() != mark->pid;
}

#endif
