#include "runtime.h"

#include "log.h"

#include <tcw/types.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

void tcd_runtime_choose(struct tcd_runtime *runtime, const char *wanted)
{
    const char *systemd = getenv("RUNTIME_DIRECTORY"), *session = getenv("XDG_RUNTIME_DIR");
    size_t length;

    runtime->lock = -1;
    if (wanted && *wanted)
        snprintf(runtime->dir, sizeof(runtime->dir), "%s", wanted);
    else if (systemd && *systemd)
        snprintf(runtime->dir, sizeof(runtime->dir), "%.*s", (int)strcspn(systemd, ":"), systemd);
    else if (!geteuid())
        snprintf(runtime->dir, sizeof(runtime->dir), "/run/trtcoll");
    else if (session && *session)
        snprintf(runtime->dir, sizeof(runtime->dir), "%s/trtcoll", session);
    else
        snprintf(runtime->dir, sizeof(runtime->dir), "/tmp/trtcoll-%u", (unsigned)geteuid());
    length = strlen(runtime->dir);
    while (length > 1 && runtime->dir[length - 1] == '/')
        runtime->dir[--length] = 0;
    if (snprintf(runtime->socket_path, sizeof(runtime->socket_path), "%s/trtcolld.sock", runtime->dir) >= (int)sizeof(runtime->socket_path))
        runtime->socket_path[0] = 0;
}

static int fail(const struct tcd_runtime *runtime, const char *what)
{
    tcd_log(TCD_ERR, "%s: %s: %s", runtime->dir, what, strerror(errno));
    return TCW_EIO;
}

/* Somebody else's directory would let them replace the socket. */
static int make_dir(const struct tcd_runtime *runtime)
{
    struct stat status;

    if (mkdir(runtime->dir, 0755) && errno != EEXIST)
        return fail(runtime, "the runtime directory cannot be made");
    if (stat(runtime->dir, &status))
        return fail(runtime, "the runtime directory cannot be looked at");
    if (!S_ISDIR(status.st_mode) || (status.st_uid != geteuid() && status.st_uid != 0)) {
        tcd_log(TCD_ERR, "%s: not a directory that belongs to uid %u or root", runtime->dir, (unsigned)geteuid());
        return TCW_EPERM;
    }
    if ((status.st_mode & S_IWOTH) && !(status.st_mode & S_ISVTX)) {
        tcd_log(TCD_ERR, "%s: everybody may write there, so the socket could be replaced; use a directory of the daemon's own",
                runtime->dir);
        return TCW_EPERM;
    }
    return 0;
}

static pid_t read_pid(int fd)
{
    char text[32] = "";
    ssize_t length = pread(fd, text, sizeof(text) - 1, 0);

    return length > 0 ? (pid_t)strtol(text, NULL, 10) : 0;
}

int tcd_runtime_open(struct tcd_runtime *runtime, pid_t *holder)
{
    char path[PATH_MAX + 16];
    int code = make_dir(runtime);

    if (code)
        return code;
    snprintf(path, sizeof(path), "%s/trtcolld.lock", runtime->dir);
    runtime->lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
    if (runtime->lock < 0)
        return fail(runtime, "trtcolld.lock");
    if (flock(runtime->lock, LOCK_EX | LOCK_NB)) {
        *holder = read_pid(runtime->lock);
        code = errno == EWOULDBLOCK ? TCW_EEXIST : fail(runtime, "trtcolld.lock");
        close(runtime->lock);
        runtime->lock = -1;
        return code;
    }
    if (ftruncate(runtime->lock, 0) || dprintf(runtime->lock, "%d\n", (int)getpid()) < 0)
        return fail(runtime, "trtcolld.lock");
    return 0;
}

/* The file stays: removing it would let two daemons lock two files of the same name. Empty, it names nobody. */
void tcd_runtime_close(struct tcd_runtime *runtime)
{
    if (runtime->lock < 0)
        return;
    if (ftruncate(runtime->lock, 0))
        tcd_log(TCD_WARNING, "%s/trtcolld.lock still holds the pid: %s", runtime->dir, strerror(errno));
    close(runtime->lock);
    runtime->lock = -1;
}
