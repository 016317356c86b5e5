/*
 * Any packet: sent over a real socket pair with a number of descriptors, received by the channel. What passes must be well formed
 * by an independent look: terminated texts, enumerations in range, the announced descriptors and no others.
 */
#include <tcw/channel.h>

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool condition)
{
    if (!condition)
        abort();
}

static void send_packet(int socket, const uint8_t *data, size_t size, unsigned fds)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int) * 128)];
    } control;
    union {
        const void *in;
        void *out;
    } body = {.in = data};
    struct iovec part = {body.out, size};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    if (fds) {
        memset(&control, 0, sizeof(control));
        message.msg_control = control.bytes;
        message.msg_controllen = CMSG_SPACE(sizeof(int) * fds);
        struct cmsghdr *rights = CMSG_FIRSTHDR(&message);
        rights->cmsg_level = SOL_SOCKET;
        rights->cmsg_type = SCM_RIGHTS;
        rights->cmsg_len = CMSG_LEN(sizeof(int) * fds);
        for (unsigned i = 0; i < fds; i++)
            memcpy(CMSG_DATA(rights) + i * sizeof(int), &socket, sizeof(int));
    }
    require(sendmsg(socket, &message, MSG_NOSIGNAL) == (ssize_t)size);
}

#define ENDS(array) require(memchr(array, 0, sizeof(array)) != NULL)

static void inspect(const struct tcw_packet *packet)
{
    const union tcw_payload *payload = &packet->payload;
    require(packet->header.magic == TCW_MESSAGE_MAGIC && packet->header.reserved == 0);
    require(packet->header.opcode > 0 && packet->header.opcode < TCW_MESSAGE_COUNT);
    require(packet->header.length == tcw_message_bytes(packet->header.opcode));
    require(packet->header.fd_count == packet->fd_count && packet->fd_count <= TCW_MAX_FDS);
    require(tcw_message_name(packet->header.opcode) != NULL);
    switch (packet->header.opcode) {
    case TCW_MSG_HELLO:
        ENDS(payload->HELLO.name);
        break;
    case TCW_MSG_GROUP_JOIN:
        ENDS(payload->GROUP_JOIN.name);
        break;
    case TCW_MSG_GROUP_ABORT:
        ENDS(payload->GROUP_ABORT.reason);
        break;
    case TCW_MSG_GROUP_REPORT:
        ENDS(payload->GROUP_REPORT.text);
        require(payload->GROUP_REPORT.code < 0);
        break;
    case TCW_MSG_PLAN_CREATE: {
        const struct tcw_plan_desc *desc = &payload->PLAN_CREATE.desc;
        require(tcw_dtype_name(desc->dtype) && tcw_strategy_name(desc->strategy) && tcw_redop_name(desc->redop));
        require(tcw_lane_name(desc->lane) && desc->tensor_count <= TCW_MAX_TENSORS);
        break;
    }
    case TCW_MSG_ADMIN:
        ENDS(payload->ADMIN.group);
        break;
    default:
        break;
    }
}

/* First byte: how many descriptors ride along. The rest is the packet. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int ends[2];
    struct tcw_packet packet;
    const char *why = NULL;
    if (size < 2 || size > 32768)
        return 0;
    require(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) == 0);
    send_packet(ends[0], data + 1, size - 1, data[0] % 100u);
    int code = tcw_channel_receive(ends[1], &packet, &why);
    require(code == 1 || (code == TCW_EPROTO && why && packet.fd_count == 0));
    if (code == 1) {
        inspect(&packet);
        tcw_packet_close_fds(&packet);
    }
    close(ends[0]);
    close(ends[1]);
    /* A descriptor that stays open is a leak that adds up: the next free number must not move. */
    static int first = -1;
    int probe = dup(STDERR_FILENO);
    if (first < 0)
        first = probe;
    require(probe == first);
    close(probe);
    return 0;
}
