#include "process.h"

#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77
#endif

enum {
    FLAG_EXITING = 0x4
}; /* PF_EXITING, as field 9 of /proc/PID/stat shows it: set when a process starts to go, before its socket closes */

/*
 * struct pidfd_info of linux/pidfd.h as it was first, which every kernel that knows the request accepts; the header of this machine may be
 * older than its kernel.
 */
struct pidfd_answer {
    uint64_t mask; /* what is asked for, and what was answered */
    uint64_t cgroup;
    uint32_t ids[11];
    int32_t exit_code;
};
_Static_assert(sizeof(struct pidfd_answer) == 64, "the size is part of the request's number");
#define GET_INFO      _IOWR(0xff, 11, struct pidfd_answer)
#define INFO_EXIT_BIT (1ull << 3)

void tcd_process_open(struct tcd_process *process, int socket, pid_t pid)
{
    socklen_t bytes = sizeof(process->pidfd);

    process->pid = pid;
    /* From the socket, because a pid may have been reused since the peer connected. Kernels before 6.5 cannot. */
    if (getsockopt(socket, SOL_SOCKET, SO_PEERPIDFD, &process->pidfd, &bytes))
        process->pidfd = pid > 0 ? (int)syscall(SYS_pidfd_open, pid, 0) : -1;
    if (process->pidfd >= 0)
        fcntl(process->pidfd, F_SETFD, FD_CLOEXEC);
}

void tcd_process_close(struct tcd_process *process)
{
    if (process->pidfd >= 0)
        close(process->pidfd);
    process->pidfd = -1;
}

/* Reads state, flags and exit code of /proc/PID/stat. */
static bool read_stat(pid_t pid, char *state, unsigned *flags, int *exit_code)
{
    char path[64], text[1024], *at;
    ssize_t length;
    unsigned field;
    int fd;

    snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    length = read(fd, text, sizeof(text) - 1);
    close(fd);
    if (length <= 0)
        return false;
    text[length] = 0;
    /* The command's name stands in parentheses and may contain anything. */
    at = strrchr(text, ')');
    if (!at || sscanf(at + 1, " %c %*d %*d %*d %*d %*d %u", state, flags) != 2)
        return false;
    for (field = 2; field < 52; field++) {
        at = strchr(at + 1, ' ');
        if (!at)
            return false;
    }
    return sscanf(at, "%d", exit_code) == 1;
}

/* How it ended, once its parent has reaped it. Kernels before 6.15 keep that to themselves. */
static bool ask_end(int pidfd, int *exit_code)
{
    struct pidfd_answer answer = {.mask = INFO_EXIT_BIT};

    if (pidfd < 0 || ioctl(pidfd, GET_INFO, &answer) || !(answer.mask & INFO_EXIT_BIT))
        return false;
    *exit_code = answer.exit_code;
    return true;
}

void tcd_process_fate(const struct tcd_process *process, struct tcd_fate *fate)
{
    struct pollfd ended = {.fd = process->pidfd, .events = POLLIN};
    unsigned flags = 0;
    int exit_code = 0;
    char state = 0;
    bool seen;

    *fate = (struct tcd_fate){.dead = false};
    if (process->pidfd >= 0 && poll(&ended, 1, 0) == 1)
        fate->dead = true;
    seen = process->pid > 0 && read_stat(process->pid, &state, &flags, &exit_code);
    /* Read before asking: the answer says that the number belonged to our process while it was read. */
    if (seen && process->pidfd >= 0 && syscall(SYS_pidfd_send_signal, process->pidfd, 0, NULL, 0))
        seen = false;
    if (seen && (state == 'Z' || state == 'X' || (flags & FLAG_EXITING)))
        fate->dead = true;
    /* An exit code of 0 is also what the kernel shows to those who may not know. */
    if (seen && fate->dead && exit_code) {
        fate->known = true;
        fate->status = exit_code;
    } else if (ask_end(process->pidfd, &fate->status)) { /* after /proc: who was not reaped when that was read may be by now */
        fate->dead = true;
        fate->known = true;
    }
}

int tcd_fate_text(const struct tcd_fate *fate, char *text, size_t bytes)
{
    if (fate->known && WIFSIGNALED(fate->status)) {
        int number = WTERMSIG(fate->status);
        snprintf(text, bytes, "was killed by signal %d (%s)", number, strsignal(number));
        return number;
    }
    if (fate->known)
        snprintf(text, bytes, "exited with status %d", WEXITSTATUS(fate->status));
    else
        snprintf(text, bytes, fate->dead ? "ended without leaving" : "closed its connection");
    return 0;
}
