#include "nccl_fake.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

/* What the bytes of a unique id say. */
struct locator {
    int32_t pid;
    int32_t fd;
    uint64_t secret;
};
_Static_assert(sizeof(struct locator) <= sizeof(ncclUniqueId), "fits");

/* Worlds made here that not all ranks have joined yet. */
struct made {
    struct made *next;
    int fd;
    struct nccl_world *world;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct made *all_made;

/* Lets go of worlds that everybody has found. */
static void sweep(void)
{
    struct made **link = &all_made;
    while (*link) {
        struct made *made = *link;
        uint32_t nranks = made->world->nranks;
        if (!nranks || made->world->ready < nranks) {
            link = &made->next;
            continue;
        }
        *link = made->next;
        nccl_world_close(made->world);
        close(made->fd);
        free(made);
    }
}

static struct nccl_world *map(int fd)
{
    void *base = mmap(NULL, sizeof(struct nccl_world), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    return base == MAP_FAILED ? NULL : base;
}

void nccl_world_sweep(void)
{
    pthread_mutex_lock(&lock);
    sweep();
    pthread_mutex_unlock(&lock);
}

ncclResult_t ncclGetUniqueId(ncclUniqueId *id)
{
    struct locator locator = {.pid = getpid()};
    struct made *made;
    ncclResult_t result = nccl_enter("ncclGetUniqueId");
    if (result)
        return result;
    made = calloc(1, sizeof(*made));
    locator.fd = memfd_create("fake-nccl", MFD_CLOEXEC);
    if (!made || locator.fd < 0 || ftruncate(locator.fd, sizeof(struct nccl_world)) || !(made->world = map(locator.fd)) ||
        getrandom(&locator.secret, sizeof(locator.secret), 0) != (ssize_t)sizeof(locator.secret)) {
        if (locator.fd >= 0)
            close(locator.fd);
        if (made && made->world)
            nccl_world_close(made->world);
        free(made);
        return nccl_fail(ncclSystemError, "ncclGetUniqueId: %s", strerror(errno));
    }
    made->world->secret = locator.secret;
    made->fd = locator.fd;
    pthread_mutex_lock(&lock);
    sweep();
    made->next = all_made;
    all_made = made;
    pthread_mutex_unlock(&lock);
    memset(id, 0, sizeof(*id));
    memcpy(id, &locator, sizeof(locator));
    return ncclSuccess;
}

struct nccl_world *nccl_world_open(const ncclUniqueId *id)
{
    struct locator locator;
    struct nccl_world *world = NULL;
    struct stat status;
    char path[64];
    int fd;
    memcpy(&locator, id, sizeof(locator));
    snprintf(path, sizeof(path), "/proc/%d/fd/%d", locator.pid, locator.fd);
    fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return NULL;
    if (!fstat(fd, &status) && status.st_size == (off_t)sizeof(*world))
        world = map(fd);
    close(fd);
    if (world && world->secret != locator.secret) {
        nccl_world_close(world);
        world = NULL;
    }
    return world;
}

void nccl_world_close(struct nccl_world *world)
{
    munmap(world, sizeof(*world));
}
