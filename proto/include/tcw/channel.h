/*
 * One end of a SOCK_SEQPACKET connection: sends and receives whole messages with descriptors. Holds no buffer between calls.
 * Received descriptors are close-on-exec, bounded in number, and closed on any error. Owner: whoever holds the socket.
 */
#ifndef TCW_CHANNEL_H
#define TCW_CHANNEL_H

#include <tcw/message.h>

struct tcw_packet {
    struct tcw_header header;
    union tcw_payload payload;
    int fds[TCW_MAX_FDS];
    unsigned fd_count;
};

/*
 * Sends one message; `payload` has tcw_message_bytes(opcode) bytes. The caller keeps the fds. Never raises SIGPIPE.
 * 0; TCW_EAGAIN: the socket is full (only with a non-blocking socket); TCW_ECONN: the peer is gone; TCW_EIO.
 */
int tcw_channel_send(int socket, unsigned opcode, uint32_t sequence, uint64_t generation, const void *payload, const int *fds,
                     unsigned fd_count);

/*
 * Receives one message without blocking (MSG_DONTWAIT). 1: *packet is filled and has passed tcw_message_check; the fds are the caller's.
 * 0: nothing there. TCW_ECONN: the peer closed. TCW_EPROTO: malformed, truncated or with too many fds (all closed); *why says what.
 * TCW_EQUOTA: a good message, but this process may not open as many descriptors as came with it: *packet is filled without them. That is
 * not the sender's fault, and the connection goes on.
 */
int tcw_channel_receive(int socket, struct tcw_packet *packet, const char **why);

/* Closes the descriptors of a packet that nobody took (entries set to -1 were taken). */
void tcw_packet_close_fds(struct tcw_packet *packet);

/* memfds: close-on-exec, non-executable, sealed against grow, shrink and further sealing. Return the fd or a negative tcw_errno. */
int tcw_memfd_create(const char *name, uint64_t bytes, int reserve); /* reserve: allocate the pages now, so that use cannot fault */

/*
 * Checks a received memory fd: a memfd on tmpfs, not huge pages, at least `bytes` long, sealed against shrinking.
 * 0 or TCW_EINVAL with *why.
 */
int tcw_memfd_check(int fd, uint64_t bytes, const char **why);

#endif
