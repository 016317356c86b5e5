#include "raw.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { MOST_FDS = 253 };

void raw_connect(struct raw *raw, const struct proc_me *me)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    memset(raw, 0, sizeof(*raw));
    strncpy(address.sun_path, me->daemon->socket, sizeof(address.sun_path) - 1);
    raw->socket = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    CHECK(raw->socket >= 0);
    CHECK_MSG(connect(raw->socket, (struct sockaddr *)&address, sizeof(address)) == 0, "connect: %s", strerror(errno));
}

void raw_close(struct raw *raw)
{
    close(raw->socket);
    raw->socket = -1;
}

bool raw_send_bytes(struct raw *raw, const void *bytes, size_t size, const int *fds, unsigned fd_count)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int) * MOST_FDS)];
    } control;
    union {
        const void *in;
        void *out;
    } body = {.in = bytes};
    struct iovec part = {body.out, size};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    if (fd_count) {
        memset(&control, 0, sizeof(control));
        message.msg_control = control.bytes;
        message.msg_controllen = CMSG_SPACE(sizeof(int) * fd_count);
        struct cmsghdr *rights = CMSG_FIRSTHDR(&message);
        rights->cmsg_level = SOL_SOCKET;
        rights->cmsg_type = SCM_RIGHTS;
        rights->cmsg_len = CMSG_LEN(sizeof(int) * fd_count);
        memcpy(CMSG_DATA(rights), fds, sizeof(int) * fd_count);
    }
    ssize_t sent = sendmsg(raw->socket, &message, MSG_NOSIGNAL);
    CHECK_MSG(sent >= 0 || errno == EPIPE || errno == ECONNRESET || errno == EAGAIN, "sendmsg: %s", strerror(errno));
    return sent >= 0;
}

bool raw_send(struct raw *raw, unsigned opcode, const void *payload, const int *fds, unsigned fd_count)
{
    struct {
        struct tcw_header header;
        union tcw_payload payload;
    } wire;
    wire.header = (struct tcw_header){.magic = TCW_MESSAGE_MAGIC, .length = tcw_message_bytes(opcode), .opcode = (uint16_t)opcode};
    wire.header.fd_count = (uint16_t)fd_count;
    wire.header.sequence = ++raw->sequence;
    wire.header.generation = raw->generation;
    memcpy(&wire.payload, payload, wire.header.length);
    return raw_send_bytes(raw, &wire, sizeof(wire.header) + wire.header.length, fds, fd_count);
}

int raw_receive(struct raw *raw, unsigned timeout_ms)
{
    uint64_t end = proc_now_ns() + timeout_ms * 1000000ull;
    for (;;) {
        const char *why = "";
        int code = tcw_channel_receive(raw->socket, &raw->packet, &why);
        CHECK_MSG(code != TCW_EPROTO && code != TCW_EIO, "the daemon sent something malformed: %s", why);
        if (code)
            return code;
        uint64_t now = proc_now_ns();
        if (now >= end)
            return 0;
        struct pollfd wait = {.fd = raw->socket, .events = POLLIN};
        poll(&wait, 1, (int)((end - now) / 1000000 + 1));
    }
}

int raw_ask(struct raw *raw, unsigned opcode, const void *payload, const int *fds, unsigned fd_count)
{
    if (!raw_send(raw, opcode, payload, fds, fd_count))
        return TCW_ECONN;
    for (;;) {
        int code = raw_receive(raw, PROC_PATIENCE_MS);
        CHECK_MSG(code != 0, "no answer to %s", tcw_message_name(opcode));
        if (code < 0)
            return code;
        if (raw->packet.header.sequence == raw->sequence)
            return raw->packet.header.opcode;
        tcw_packet_close_fds(&raw->packet);
    }
}

void raw_refused(struct raw *raw, unsigned opcode, const void *payload, const int *fds, unsigned fd_count, int code)
{
    int answer = raw_ask(raw, opcode, payload, fds, fd_count);
    CHECK_MSG(answer == TCW_MSG_ERROR, "%s was answered by %s", tcw_message_name(opcode),
              answer > 0 ? tcw_message_name((unsigned)answer) : tcw_error_name(answer));
    const struct tcw_error *error = &raw->packet.payload.ERROR;
    CHECK_MSG(error->code == code, "%s was refused with %s instead of %s: %s", tcw_message_name(opcode), tcw_error_name(error->code),
              tcw_error_name(code), error->text);
    CHECK_MSG(error->text[0], "refused without a text");
}

void raw_expelled(struct raw *raw, const char *what)
{
    uint64_t end = proc_now_ns() + PROC_PATIENCE_MS * 1000000ull;
    for (;;) {
        int code = raw_receive(raw, PROC_PATIENCE_MS);
        if (code == TCW_ECONN)
            break;
        CHECK_MSG(code == 1 && proc_now_ns() < end, "still connected after: %s", what);
        if (raw->packet.header.opcode == TCW_MSG_GOODBYE)
            CHECK_MSG(raw->packet.payload.GOODBYE.text[0], "a goodbye without a reason after: %s", what);
        tcw_packet_close_fds(&raw->packet);
    }
    raw_close(raw);
}

void raw_alive(struct raw *raw, const char *what)
{
    struct tcw_mem_free nothing = {.handle = 0xffffffffffffffffu};
    int answer = raw_ask(raw, TCW_MSG_MEM_FREE, &nothing, NULL, 0);
    CHECK_MSG(answer == TCW_MSG_ERROR, "not alive after: %s (%d)", what, answer);
}

void raw_hello(struct raw *raw, const struct proc_me *me)
{
    struct tcw_hello hello = {.abi_min = TCW_ABI_MIN, .abi_max = TCW_ABI_MAX, .features = TCW_FEATURES_KNOWN, .device = -1};
    strcpy(hello.name, "raw");
    raw_connect(raw, me);
    int answer = raw_ask(raw, TCW_MSG_HELLO, &hello, NULL, 0);
    CHECK_MSG(answer == TCW_MSG_HELLO_OK, "hello was answered by %d", answer);
    raw->generation = raw->packet.payload.HELLO_OK.generation;
    raw->client_id = raw->packet.payload.HELLO_OK.client_id;
    CHECK(raw->generation != 0);
}

static void *map(int fd, uint64_t bytes)
{
    void *base = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    CHECK(base != MAP_FAILED);
    return base;
}

void raw_ring_open(struct raw *raw, struct raw_ring *ring, const char *group)
{
    memset(ring, 0, sizeof(*ring));
    struct tcw_group_join join = {.size = 1, .rank = 0};
    tcw_text_set(join.name, sizeof(join.name), group);
    CHECK_EQ(raw_ask(raw, TCW_MSG_GROUP_JOIN, &join, NULL, 0), TCW_MSG_GROUP_READY);
    ring->group_id = raw->packet.payload.GROUP_READY.group_id;
    ring->page_fd = raw->packet.fds[0];
    ring->page = map(ring->page_fd, raw->packet.payload.GROUP_READY.page_bytes);

    struct tcw_plan_create create = {.group_id = ring->group_id};
    create.desc = (struct tcw_plan_desc){.op = TCW_OP_ALL_REDUCE, .strategy = TCW_STRATEGY_AUTO, .lane = TCW_LANE_SERVED};
    create.desc.hidden = 8;
    create.desc.max_tokens = 4;
    ring->desc = create.desc;
    CHECK_EQ(raw_ask(raw, TCW_MSG_PLAN_CREATE, &create, NULL, 0), TCW_MSG_PLAN_READY);
    const struct tcw_plan_ready *ready = &raw->packet.payload.PLAN_READY;
    CHECK_EQ(raw->packet.fd_count, 3);
    ring->plan = ready->plan;
    ring->bytes = ready->ring_bytes;
    ring->ring_fd = raw->packet.fds[0];
    ring->sq_event = raw->packet.fds[1];
    ring->cq_event = raw->packet.fds[2];
    ring->base = map(ring->ring_fd, ring->bytes);
    CHECK_EQ(tcw_ring_open(&ring->ring, ring->base, ring->bytes, ring->sq_event, ring->cq_event), 0);

    struct tcw_mem_alloc alloc = {.bytes = 65536};
    CHECK_EQ(raw_ask(raw, TCW_MSG_MEM_ALLOC, &alloc, NULL, 0), TCW_MSG_MEM_READY);
    ring->memory = raw->packet.payload.MEM_READY.handle;
    ring->data_bytes = raw->packet.payload.MEM_READY.bytes;
    ring->data_fd = raw->packet.fds[0];
    ring->data = map(ring->data_fd, ring->data_bytes);
}

void raw_ring_close(struct raw_ring *ring)
{
    munmap(ring->page, tcw_member_page_bytes());
    munmap(ring->base, ring->bytes);
    munmap(ring->data, ring->data_bytes);
    close(ring->page_fd);
    close(ring->ring_fd);
    close(ring->data_fd);
    close(ring->sq_event);
    close(ring->cq_event);
}

struct tcw_sqe raw_ring_good(struct raw_ring *ring, struct tcw_ref refs[2])
{
    struct tcw_sqe head = {.op = TCW_OP_ALL_REDUCE, .sequence = ring->sequence++, .plan = ring->plan, .tokens = 4, .ref_count = 2};
    refs[0] = (struct tcw_ref){.handle = ring->memory, .offset = 0, .length = 128};
    refs[1] = (struct tcw_ref){.handle = ring->memory, .offset = 4096, .length = 128};
    return head;
}

int raw_ring_run(struct raw_ring *ring, struct tcw_sqe head, const struct tcw_ref *refs)
{
    bool wake = false;
    struct tcw_cqe cqe;
    head.user_data = 0x1234567800000000u + head.sequence;
    CHECK_EQ(tcw_ring_submit(&ring->ring, &head, refs, &wake), 0);
    if (wake)
        tcw_ring_wake(ring->sq_event);
    uint64_t end = proc_now_ns() + 1500 * 1000000ull;
    while (proc_now_ns() < end) {
        int got = tcw_ring_reap(&ring->ring, &cqe);
        CHECK_MSG(got >= 0, "the executor broke the completion ring");
        if (got) {
            CHECK(cqe.user_data == head.user_data);
            return cqe.result;
        }
        proc_nap();
    }
    return 1;
}
