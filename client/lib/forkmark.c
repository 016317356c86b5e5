#include "forkmark.h"

#include <sys/mman.h>

static size_t page_bytes(void)
{
    return (size_t)sysconf(_SC_PAGESIZE);
}

void tcc_fork_mark_create(struct tcc_fork_mark *mark)
{
    void *page = mmap(NULL, page_bytes(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    mark->pid = getpid();
    mark->word = NULL;
    if (page == MAP_FAILED)
        return;
    if (madvise(page, page_bytes(), MADV_WIPEONFORK)) {
        munmap(page, page_bytes());
        return;
    }
    mark->word = page;
    atomic_store_explicit(mark->word, 1, memory_order_relaxed);
}

void tcc_fork_mark_destroy(struct tcc_fork_mark *mark)
{
    if (mark->word)
        munmap((void *)mark->word, page_bytes());
    mark->word = NULL;
}
