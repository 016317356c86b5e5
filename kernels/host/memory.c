#include "host/memory.h"

#include <tcw/channel.h>
#include <tcw/types.h>

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

static uint64_t whole_pages(uint64_t bytes)
{
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    return (bytes + page - 1) / page * page;
}

/* The largest size whose rounding up and signed conversions are safe. */
static int size_is_sane(uint64_t bytes)
{
    return bytes && bytes <= (uint64_t)INT64_MAX - (1u << 20) && (uint64_t)(size_t)bytes == bytes;
}

static int map(int fd, uint64_t bytes, struct tck_memory *memory)
{
    void *base = mmap(NULL, (size_t)bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (base == MAP_FAILED)
        return errno == ENOMEM ? TCW_ENOMEM : TCW_EIO;
    *memory = (struct tck_memory){.base = base, .bytes = bytes, .fd = fd};
    return 0;
}

int tck_host_memory_create(const char *name, uint64_t bytes, struct tck_memory *memory)
{
    if (!size_is_sane(bytes))
        return TCW_EINVAL;
    bytes = whole_pages(bytes);
    int fd = tcw_memfd_create(name, bytes, 1);
    if (fd < 0)
        return fd;
    int code = map(fd, bytes, memory);
    if (code)
        close(fd);
    return code;
}

int tck_host_memory_import(int fd, uint64_t bytes, struct tck_memory *memory)
{
    const char *why;
    if (!size_is_sane(bytes))
        return TCW_EINVAL;
    /* A file may end inside its last page: that page is there as a whole. */
    int code = tcw_memfd_check(fd, bytes, &why);
    return code ? code : map(fd, whole_pages(bytes), memory);
}

void tck_host_memory_unmap(struct tck_memory *memory)
{
    munmap(memory->base, (size_t)memory->bytes);
}
