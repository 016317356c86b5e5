#include <tcw/channel.h>

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

union control_buffer {
    struct cmsghdr align;
    char bytes[CMSG_SPACE(sizeof(int) * TCW_MAX_FDS)];
};

static void attach_fds(struct msghdr *message, union control_buffer *control, const int *fds, unsigned fd_count)
{
    struct cmsghdr *rights;

    memset(control, 0, sizeof(*control));
    message->msg_control = control->bytes;
    message->msg_controllen = CMSG_SPACE(sizeof(int) * fd_count);
    rights = CMSG_FIRSTHDR(message);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(sizeof(int) * fd_count);
    memcpy(CMSG_DATA(rights), fds, sizeof(int) * fd_count);
}

int tcw_channel_send(int socket, unsigned opcode, uint32_t sequence, uint64_t generation, const void *payload, const int *fds,
                     unsigned fd_count)
{
    struct tcw_header header = {.magic = TCW_MESSAGE_MAGIC,
                                .length = tcw_message_bytes(opcode),
                                .opcode = (uint16_t)opcode,
                                .fd_count = (uint16_t)fd_count,
                                .sequence = sequence,
                                .generation = generation};
    /* sendmsg only reads, but its vector is not const. */
    union {
        const void *in;
        void *out;
    } body = {.in = payload};
    struct iovec parts[2] = {{&header, sizeof(header)}, {body.out, header.length}};
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
    union control_buffer control;
    ssize_t sent;

    if (!header.length || fd_count > TCW_MAX_FDS)
        return TCW_EINVAL;
    if (fd_count)
        attach_fds(&message, &control, fds, fd_count);
    do
        sent = sendmsg(socket, &message, MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    if (sent >= 0)
        return 0;
    if (errno == EAGAIN || errno == EWOULDBLOCK || errno == ENOBUFS || errno == ETOOMANYREFS)
        return TCW_EAGAIN;
    return errno == EPIPE || errno == ECONNRESET || errno == ENOTCONN ? TCW_ECONN : TCW_EIO;
}

/* Takes every descriptor that arrived, also those beyond what a packet can hold: those are closed and counted. */
static unsigned collect_fds(struct msghdr *message, int *fds)
{
    struct cmsghdr *part;
    unsigned count = 0;

    for (part = CMSG_FIRSTHDR(message); part; part = CMSG_NXTHDR(message, part)) {
        size_t i, here;

        if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS)
            continue;
        here = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (i = 0; i < here; i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(part) + i * sizeof(int), sizeof(fd));
            if (count < TCW_MAX_FDS)
                fds[count] = fd;
            else
                close(fd);
            count++;
        }
    }
    return count;
}

/* As if all descriptors had arrived that the message announces: more than the `count` that did. */
static int check_without_fds(const struct tcw_packet *packet, size_t bytes, unsigned count, const char **why)
{
    unsigned announced = bytes < sizeof(packet->header) ? 0 : packet->header.fd_count;

    if (bytes >= sizeof(packet->header) && announced <= count) {
        *why = "more descriptors than announced";
        return TCW_EPROTO;
    }
    return tcw_message_check(&packet->header, &packet->payload, bytes, announced, why);
}

int tcw_channel_receive(int socket, struct tcw_packet *packet, const char **why)
{
    struct iovec parts[2] = {{&packet->header, sizeof(packet->header)}, {&packet->payload, sizeof(packet->payload)}};
    union control_buffer control;
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2, .msg_control = control.bytes, .msg_controllen = sizeof(control.bytes)};
    ssize_t received;
    unsigned count;

    packet->fd_count = 0;
    do
        received = recvmsg(socket, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    while (received < 0 && errno == EINTR);
    if (received < 0) {
        if (errno == EAGAIN || errno == EWOULDBLOCK)
            return 0;
        return errno == ECONNRESET || errno == ENOTCONN || errno == EPIPE ? TCW_ECONN : TCW_EIO;
    }
    count = collect_fds(&message, packet->fds);
    packet->fd_count = count < TCW_MAX_FDS ? count : TCW_MAX_FDS;
    /* On a packet socket end of file is a read of nothing; an empty packet is told apart by nobody, and is a fault either way. */
    if (!received && !count)
        return TCW_ECONN;
    if (message.msg_flags & MSG_TRUNC) {
        *why = "longer than any message";
    } else if (message.msg_flags & MSG_CTRUNC && count >= TCW_MAX_FDS) {
        *why = "more descriptors than any message carries";
    } else if (message.msg_flags & MSG_CTRUNC) {
        /* There was room in the packet, so what is missing the kernel could not open for this process. */
        tcw_packet_close_fds(packet);
        if (!check_without_fds(packet, (size_t)received, count, why))
            return TCW_EQUOTA;
    } else if (!tcw_message_check(&packet->header, &packet->payload, (size_t)received, count, why)) {
        return 1;
    }
    tcw_packet_close_fds(packet);
    return TCW_EPROTO;
}

void tcw_packet_close_fds(struct tcw_packet *packet)
{
    unsigned i;

    for (i = 0; i < packet->fd_count; i++)
        if (packet->fds[i] >= 0)
            close(packet->fds[i]);
    packet->fd_count = 0;
}
