#include "page.h"

#include <tcw/channel.h>

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

int tcd_page_open(struct tcd_page *page, uint64_t group_id, uint64_t epoch, uint32_t rank, uint32_t nranks, uint64_t deadline_ns, int *fd)
{
    uint64_t bytes = tcw_member_page_bytes();
    int memory = tcw_memfd_create("trtcoll-member", bytes, 1);
    void *map;

    if (memory < 0)
        return memory;
    map = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
    if (map == MAP_FAILED) {
        close(memory);
        return TCW_ENOMEM;
    }
    tcw_member_page_format(map, group_id, epoch, rank, nranks, deadline_ns);
    *page = (struct tcd_page){.map = map, .bytes = bytes};
    *fd = memory;
    return 0;
}

void tcd_page_close(struct tcd_page *page)
{
    if (page->map)
        munmap(page->map, page->bytes);
    free(page->seen);
    *page = (struct tcd_page){.map = NULL};
}

uint64_t tcd_page_started(const struct tcd_page *page)
{
    return page->map ? atomic_load_explicit(&page->map->runs_started, memory_order_acquire) : 0;
}

uint64_t tcd_page_finished(const struct tcd_page *page)
{
    uint64_t steps;

    if (!page->map)
        return 0;
    /* Kernels finish later than the calls that launch them return. */
    steps = atomic_load_explicit(&page->map->device.steps, memory_order_acquire);
    return steps ? steps : atomic_load_explicit(&page->map->runs_finished, memory_order_acquire);
}
