#include "executor_wire.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

union control_space {
    struct cmsghdr align;
    unsigned char bytes[CMSG_SPACE(TCW_MAX_FDS * sizeof(int))];
};

int tcd_ex_send(int socket, const struct tcd_ex_message *message, const int *fds, unsigned fd_count)
{
    if (fd_count > TCW_MAX_FDS)
        return TCW_EIO;
    struct iovec part = {(void *)(uintptr_t)message, sizeof *message};
    struct msghdr packet = {.msg_iov = &part, .msg_iovlen = 1};
    union control_space space;
    if (fd_count) {
        memset(&space, 0, sizeof space);
        packet.msg_control = &space;
        packet.msg_controllen = CMSG_SPACE(fd_count * sizeof(int));
        struct cmsghdr *rights = CMSG_FIRSTHDR(&packet);
        rights->cmsg_level = SOL_SOCKET;
        rights->cmsg_type = SCM_RIGHTS;
        rights->cmsg_len = CMSG_LEN(fd_count * sizeof(int));
        memcpy(CMSG_DATA(rights), fds, fd_count * sizeof(int));
    }
    for (;;) {
        if (sendmsg(socket, &packet, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0)
            return 0;
        switch (errno) {
        case EINTR:
            continue;
        case EAGAIN:
            return TCW_EAGAIN;
        case ENOBUFS:
        case ENOMEM:
        case ETOOMANYREFS: /* too many descriptors under way: they are taken up as the peer reads */
            return TCW_EBUSY;
        case EPIPE:
        case ECONNRESET:
        case ENOTCONN:
            return TCW_ECONN;
        default:
            return TCW_EIO;
        }
    }
}

/* Moves the descriptors of a received packet to `fds`. If some had no place in this process, none; -1 if there is anything that does not
 * belong. */
static int descriptors_take(struct msghdr *packet, int *fds, unsigned *fd_count)
{
    int bad = packet->msg_flags & MSG_TRUNC;
    *fd_count = 0;
    for (struct cmsghdr *part = CMSG_FIRSTHDR(packet); part; part = CMSG_NXTHDR(packet, part)) {
        if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) {
            bad = 1;
            continue;
        }
        size_t count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < count; ++i) {
            int fd;
            memcpy(&fd, CMSG_DATA(part) + i * sizeof fd, sizeof fd);
            if (*fd_count < TCW_MAX_FDS) {
                fds[(*fd_count)++] = fd;
            } else {
                close(fd);
                bad = 1;
            }
        }
    }
    if (!bad && !(packet->msg_flags & MSG_CTRUNC))
        return 0;
    for (unsigned i = 0; i < *fd_count; ++i)
        close(fds[i]);
    *fd_count = 0;
    return bad ? -1 : 0;
}

int tcd_ex_receive(int socket, struct tcd_ex_message *message, int *fds, unsigned *fd_count)
{
    struct iovec part = {message, sizeof *message};
    union control_space space;
    struct msghdr packet = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &space, .msg_controllen = sizeof space};
    ssize_t bytes;
    do
        bytes = recvmsg(socket, &packet, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    while (bytes < 0 && errno == EINTR);
    *fd_count = 0;
    if (bytes < 0)
        return errno == EAGAIN ? 0 : TCW_ECONN;
    if (descriptors_take(&packet, fds, fd_count) < 0)
        return TCW_EPROTO;
    if (bytes == 0)
        return TCW_ECONN;
    if ((size_t)bytes != sizeof *message) {
        for (unsigned i = 0; i < *fd_count; ++i)
            close(fds[i]);
        *fd_count = 0;
        return TCW_EPROTO;
    }
    message->text[TCW_TEXT_BYTES - 1] = '\0';
    return 1;
}
