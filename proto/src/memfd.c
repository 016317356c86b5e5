#include <tcw/channel.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/memfd.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U
#endif

enum { SEALS = F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL };

/* Kernels before 6.3 do not know the no-exec flag and refuse it. */
static int open_memfd(const char *name)
{
    int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL);

    return fd < 0 && errno == EINVAL ? memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING) : fd;
}

static int errno_code(int number)
{
    switch (number) {
    case ENOMEM:
    case ENOSPC:
    case EFBIG:
        return TCW_ENOMEM;
    default:
        return TCW_EIO;
    }
}

/* Reserving more than the machine has does not fail, it wakes the OOM killer; so ask first. Unknown counts as enough. */
static int memory_suffices(uint64_t bytes)
{
    FILE *file = fopen("/proc/meminfo", "re");
    char line[128];
    unsigned long long kib;
    int suffices = 1;

    while (file && fgets(line, sizeof(line), file))
        if (sscanf(line, "MemAvailable: %llu", &kib) == 1)
            suffices = bytes / 1024 < kib;
    if (file)
        fclose(file);
    return suffices;
}

int tcw_memfd_create(const char *name, uint64_t bytes, int reserve)
{
    int fd, code;

    if (!bytes || bytes > INT64_MAX)
        return TCW_EINVAL;
    if (reserve && !memory_suffices(bytes))
        return TCW_ENOMEM;
    fd = open_memfd(name);
    if (fd < 0)
        return errno_code(errno);
    if (ftruncate(fd, (off_t)bytes) || (reserve && fallocate(fd, 0, 0, (off_t)bytes)) || fcntl(fd, F_ADD_SEALS, SEALS)) {
        code = errno_code(errno);
        close(fd);
        return code;
    }
    return fd;
}

int tcw_memfd_check(int fd, uint64_t bytes, const char **why)
{
    struct stat status;
    struct statfs filesystem;
    int seals = fcntl(fd, F_GET_SEALS);

    if (seals < 0)
        *why = "not a memfd";
    else if (!(seals & F_SEAL_SHRINK))
        *why = "not sealed against shrinking (F_SEAL_SHRINK)";
    else if (seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE))
        *why = "sealed against writing";
    else if (fstatfs(fd, &filesystem) || filesystem.f_type != TMPFS_MAGIC)
        *why = "not ordinary shared memory (huge pages are not accepted)";
    else if (fstat(fd, &status) || !S_ISREG(status.st_mode) || (uint64_t)status.st_size < bytes)
        *why = "shorter than announced";
    else if ((fcntl(fd, F_GETFL) & O_ACCMODE) != O_RDWR)
        *why = "not open for reading and writing";
    else
        return 0;
    return TCW_EINVAL;
}
