/* The channel and what it carries: descriptors that arrive, lie, are too many; packets that are cut; memfds that are none. */
#include "cmocka_all.h"

#include <tcw/channel.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

static unsigned open_fds(void)
{
    unsigned count = 0;
    DIR *directory = opendir("/proc/self/fd");
    assert_non_null(directory);
    while (readdir(directory))
        count++;
    closedir(directory);
    return count;
}

struct channel {
    int ends[2];
    unsigned fds_before;
};

static int setup(void **state)
{
    static struct channel channel;
    channel.fds_before = open_fds();
    *state = &channel;
    return socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, channel.ends);
}

/* Every test must leave no descriptor behind, whatever arrived. */
static int teardown(void **state)
{
    struct channel *channel = *state;
    close(channel->ends[0]);
    close(channel->ends[1]);
    unsigned now = open_fds();
    if (now != channel->fds_before)
        fprintf(stderr, "%u descriptors before, %u after\n", channel->fds_before, now);
    return now != channel->fds_before;
}

/* Sends exactly these bytes and descriptors, true or not. */
static void send_raw(int socket, const void *bytes, size_t size, const int *fds, unsigned count)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int) * 253)];
    } control;
    union {
        const void *in;
        void *out;
    } body = {.in = bytes};
    struct iovec part = {body.out, size};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    if (count) {
        memset(&control, 0, sizeof(control));
        message.msg_control = control.bytes;
        message.msg_controllen = CMSG_SPACE(sizeof(int) * count);
        struct cmsghdr *rights = CMSG_FIRSTHDR(&message);
        rights->cmsg_level = SOL_SOCKET;
        rights->cmsg_type = SCM_RIGHTS;
        rights->cmsg_len = CMSG_LEN(sizeof(int) * count);
        memcpy(CMSG_DATA(rights), fds, sizeof(int) * count);
    }
    assert_int_equal(sendmsg(socket, &message, MSG_NOSIGNAL), (ssize_t)size);
}

struct wire {
    struct tcw_header header;
    struct tcw_plan_ready ready;
};

static struct wire plan_ready(unsigned fds)
{
    struct wire wire;
    memset(&wire, 0, sizeof(wire));
    wire.header = (struct tcw_header){.magic = TCW_MESSAGE_MAGIC, .length = sizeof(wire.ready), .opcode = TCW_MSG_PLAN_READY};
    wire.header.fd_count = (uint16_t)fds;
    wire.ready.decision.step_count = 1;
    return wire;
}

static void expect_refusal(struct channel *channel)
{
    struct tcw_packet packet;
    const char *why = NULL;
    assert_int_equal(tcw_channel_receive(channel->ends[1], &packet, &why), TCW_EPROTO);
    assert_true(why && why[0]);
    assert_int_equal(packet.fd_count, 0);
}

static void test_round_trip(void **state)
{
    struct channel *channel = *state;
    struct tcw_packet packet;
    const char *why = NULL;
    int event = eventfd(5, EFD_NONBLOCK);
    struct tcw_mem_register wanted = {.bytes = 12345};
    assert_int_equal(tcw_channel_receive(channel->ends[1], &packet, &why), 0);
    assert_int_equal(tcw_channel_send(channel->ends[0], TCW_MSG_MEM_REGISTER, 17, 0x1122334455667788u, &wanted, &event, 1), 0);
    assert_int_equal(tcw_channel_receive(channel->ends[1], &packet, &why), 1);
    assert_int_equal(packet.header.opcode, TCW_MSG_MEM_REGISTER);
    assert_int_equal(packet.header.sequence, 17);
    assert_true(packet.header.generation == 0x1122334455667788u);
    assert_int_equal(packet.payload.MEM_REGISTER.bytes, 12345);
    assert_int_equal(packet.fd_count, 1);
    uint64_t count = 0;
    assert_int_equal(read(packet.fds[0], &count, sizeof(count)), sizeof(count)); /* the same eventfd */
    assert_int_equal(count, 5);
    assert_true(fcntl(packet.fds[0], F_GETFD) & FD_CLOEXEC);
    tcw_packet_close_fds(&packet);
    assert_int_equal(packet.fd_count, 0);
    close(event);
}

static void test_taken_descriptors_stay(void **state)
{
    struct channel *channel = *state;
    struct tcw_packet packet;
    const char *why;
    struct tcw_plan_ready ready = {.decision.step_count = 1};
    int fds[3] = {eventfd(0, 0), eventfd(0, 0), eventfd(0, 0)};
    assert_int_equal(tcw_channel_send(channel->ends[0], TCW_MSG_PLAN_READY, 1, 1, &ready, fds, 3), 0);
    for (int i = 0; i < 3; i++)
        close(fds[i]);
    assert_int_equal(tcw_channel_receive(channel->ends[1], &packet, &why), 1);
    int taken = packet.fds[1], gone = packet.fds[0];
    packet.fds[1] = -1;
    tcw_packet_close_fds(&packet);
    assert_true(fcntl(taken, F_GETFD) >= 0);
    assert_int_equal(fcntl(gone, F_GETFD), -1);
    close(taken);
}

static void test_most_descriptors(void **state)
{
    struct channel *channel = *state;
    struct tcw_packet packet;
    const char *why;
    int fds[TCW_MAX_RANKS + 3];
    for (unsigned i = 0; i < TCW_MAX_RANKS + 3; i++)
        fds[i] = channel->ends[0];
    struct wire wire = plan_ready(TCW_MAX_RANKS + 3);
    send_raw(channel->ends[0], &wire, sizeof(wire), fds, TCW_MAX_RANKS + 3);
    assert_int_equal(tcw_channel_receive(channel->ends[1], &packet, &why), 1);
    assert_int_equal(packet.fd_count, TCW_MAX_RANKS + 3);
    tcw_packet_close_fds(&packet);
}

static void test_descriptor_lies(void **state)
{
    struct channel *channel = *state;
    static const struct {
        unsigned announced, sent;
    } lies[] = {{0, 1}, {1, 0}, {3, 2}, {2, 3}, {68, 68}, {80, 80}, {80, 81}, {81, 81}, {100, 100}, {253, 253}, {0, 253}, {0xffff, 253}};
    int fds[253];
    for (unsigned i = 0; i < 253; i++)
        fds[i] = channel->ends[0];
    for (size_t i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
        struct wire wire = plan_ready(lies[i].announced);
        send_raw(channel->ends[0], &wire, sizeof(wire), fds, lies[i].sent);
        unsigned before = open_fds();
        expect_refusal(channel);
        assert_int_equal(open_fds(), before); /* also those that no packet could hold */
    }
}

/* The receiver's own limit is nobody's lie: the message is there, its descriptors are not, and the next one comes whole. */
static void test_no_room_for_descriptors(void **state)
{
    struct channel *channel = *state;
    struct tcw_packet packet;
    struct rlimit all, few;
    const char *why = NULL;
    int fds[253], code;
    for (unsigned i = 0; i < 253; i++)
        fds[i] = channel->ends[0];
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &all), 0);
    for (unsigned room = 0; room < 3; room++) {
        struct wire wire = plan_ready(3);
        unsigned before = open_fds();
        int next = dup(channel->ends[0]); /* the lowest that is free, and what is above it most probably too */
        close(next);
        few = all;
        few.rlim_cur = (rlim_t)next + room;
        send_raw(channel->ends[0], &wire, sizeof(wire), fds, 3);
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
        code = tcw_channel_receive(channel->ends[1], &packet, &why);
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &all), 0);
        assert_int_equal(code, TCW_EQUOTA);
        assert_int_equal(packet.fd_count, 0);
        assert_int_equal(packet.header.opcode, TCW_MSG_PLAN_READY);
        assert_int_equal(open_fds(), before);
        send_raw(channel->ends[0], &wire, sizeof(wire), fds, 3);
        assert_int_equal(tcw_channel_receive(channel->ends[1], &packet, &why), 1);
        tcw_packet_close_fds(&packet);
        /* A message that is bad by itself stays so. */
        wire.header.magic++;
        send_raw(channel->ends[0], &wire, sizeof(wire), fds, 3);
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
        code = tcw_channel_receive(channel->ends[1], &packet, &why);
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &all), 0);
        assert_int_equal(code, TCW_EPROTO);
        assert_int_equal(open_fds(), before);
    }
}

static void test_truncation(void **state)
{
    struct channel *channel = *state;
    struct tcw_packet packet;
    const char *why = NULL;
    static unsigned char big[TCW_MESSAGE_MAX_BYTES * 2];
    struct wire wire = plan_ready(1);
    int fd = channel->ends[0];
    for (size_t size = 1; size < sizeof(wire); size += 7) {
        send_raw(channel->ends[0], &wire, size, &fd, 1);
        expect_refusal(channel);
    }
    memcpy(big, &wire, sizeof(wire));
    send_raw(channel->ends[0], big, sizeof(wire) + 1, &fd, 1);
    expect_refusal(channel);
    send_raw(channel->ends[0], big, sizeof(big), &fd, 1); /* longer than any packet */
    expect_refusal(channel);
    wire.header.length = sizeof(big) - sizeof(wire.header);
    memcpy(big, &wire, sizeof(wire));
    send_raw(channel->ends[0], big, sizeof(big), NULL, 0);
    expect_refusal(channel);
    /* And the channel still works. */
    wire = plan_ready(1);
    send_raw(channel->ends[0], &wire, sizeof(wire), &fd, 1);
    assert_int_equal(tcw_channel_receive(channel->ends[1], &packet, &why), 1);
    tcw_packet_close_fds(&packet);
}

static void test_peer_gone(void **state)
{
    struct channel *channel = *state;
    struct tcw_packet packet;
    const char *why = NULL;
    struct tcw_ok ok = {0};
    close(channel->ends[0]);
    assert_int_equal(tcw_channel_receive(channel->ends[1], &packet, &why), TCW_ECONN);
    assert_int_equal(tcw_channel_send(channel->ends[1], TCW_MSG_OK, 0, 0, &ok, NULL, 0), TCW_ECONN); /* and no SIGPIPE */
    channel->ends[0] = dup(channel->ends[1]);
}

static void test_last_words_are_heard(void **state)
{
    struct channel *channel = *state;
    struct tcw_packet packet;
    const char *why = NULL;
    struct tcw_error goodbye = {.code = TCW_EPROTO};
    assert_int_equal(tcw_channel_send(channel->ends[0], TCW_MSG_GOODBYE, 0, 0, &goodbye, NULL, 0), 0);
    close(channel->ends[0]);
    assert_int_equal(tcw_channel_receive(channel->ends[1], &packet, &why), 1);
    assert_int_equal(packet.payload.GOODBYE.code, TCW_EPROTO);
    assert_int_equal(tcw_channel_receive(channel->ends[1], &packet, &why), TCW_ECONN);
    channel->ends[0] = dup(channel->ends[1]);
}

static void test_full_socket(void **state)
{
    struct channel *channel = *state;
    struct tcw_ok ok = {.value = 1};
    unsigned sent = 0;
    int code;
    assert_int_equal(fcntl(channel->ends[0], F_SETFL, O_NONBLOCK), 0);
    while ((code = tcw_channel_send(channel->ends[0], TCW_MSG_OK, sent, 0, &ok, NULL, 0)) == 0)
        sent++;
    assert_int_equal(code, TCW_EAGAIN);
    assert_true(sent > 2);
    struct tcw_packet packet;
    const char *why;
    for (unsigned i = 0; i < sent; i++) {
        assert_int_equal(tcw_channel_receive(channel->ends[1], &packet, &why), 1);
        assert_int_equal(packet.header.sequence, i);
    }
    assert_int_equal(tcw_channel_receive(channel->ends[1], &packet, &why), 0);
}

static void test_bad_arguments(void **state)
{
    struct channel *channel = *state;
    struct tcw_packet packet;
    struct tcw_ok ok = {0};
    const char *why;
    int fds[TCW_MAX_FDS + 1] = {0};
    assert_int_equal(tcw_channel_send(channel->ends[0], 0, 0, 0, &ok, NULL, 0), TCW_EINVAL);
    assert_int_equal(tcw_channel_send(channel->ends[0], TCW_MESSAGE_COUNT, 0, 0, &ok, NULL, 0), TCW_EINVAL);
    assert_int_equal(tcw_channel_send(channel->ends[0], TCW_MSG_OK, 0, 0, &ok, fds, TCW_MAX_FDS + 1), TCW_EINVAL);
    assert_int_equal(tcw_channel_receive(channel->ends[1], &packet, &why), 0);
}

/* ---- memfds ---- */

static void expect_bad(int fd, uint64_t bytes, const char *what)
{
    const char *why = NULL;
    assert_true(fd >= 0);
    if (tcw_memfd_check(fd, bytes, &why) != TCW_EINVAL)
        fail_msg("accepted: %s", what);
    assert_true(why && why[0]);
    close(fd);
}

static int memfd(unsigned flags, size_t bytes, int seals)
{
    int fd = memfd_create("test", MFD_CLOEXEC | flags);
    if (fd < 0)
        return fd;
    assert_int_equal(ftruncate(fd, (off_t)bytes), 0);
    if (seals)
        assert_int_equal(fcntl(fd, F_ADD_SEALS, seals), 0);
    return fd;
}

static void test_memfd_create(void **state)
{
    (void)state;
    for (int reserve = 0; reserve < 2; reserve++) {
        const char *why = NULL;
        int fd = tcw_memfd_create("test", 10000, reserve);
        assert_true(fd >= 0);
        assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
        assert_int_equal(fcntl(fd, F_GET_SEALS) & (F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL), F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL);
        assert_int_equal(ftruncate(fd, 4096), -1);
        assert_int_equal(ftruncate(fd, 1 << 20), -1);
        assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), -1);
        struct stat status;
        assert_int_equal(fstat(fd, &status), 0);
        assert_int_equal(status.st_size, 10000);
        if (reserve)
            assert_true(status.st_blocks * 512 >= 10000);
        assert_int_equal(tcw_memfd_check(fd, 10000, &why), 0);
        assert_int_equal(tcw_memfd_check(fd, 1, &why), 0);
        assert_int_equal(tcw_memfd_check(fd, 10001, &why), TCW_EINVAL);
        close(fd);
    }
    assert_int_equal(tcw_memfd_create("test", 0, 0), TCW_EINVAL);
    assert_int_equal(tcw_memfd_create("test", UINT64_MAX, 0), TCW_EINVAL);
    /* More than any machine has is refused before pages are taken: trying would wake the OOM killer. */
    assert_int_equal(tcw_memfd_create("test", 1ull << 50, 1), TCW_ENOMEM);
}

static void test_memfd_check(void **state)
{
    (void)state;
    char path[] = "/tmp/trtcoll-unit-XXXXXX";
    const char *why;
    int good = memfd(MFD_ALLOW_SEALING, 8192, F_SEAL_SHRINK);
    assert_int_equal(tcw_memfd_check(good, 8192, &why), 0);
    close(good);
    expect_bad(memfd(MFD_ALLOW_SEALING, 8192, F_SEAL_SHRINK), 8193, "too short");
    expect_bad(memfd(MFD_ALLOW_SEALING, 0, F_SEAL_SHRINK), 1, "empty");
    expect_bad(memfd(MFD_ALLOW_SEALING, 8192, F_SEAL_SHRINK), UINT64_MAX, "a size that no file has");
    expect_bad(memfd(MFD_ALLOW_SEALING, 8192, 0), 8192, "not sealed");
    expect_bad(memfd(MFD_ALLOW_SEALING, 8192, F_SEAL_GROW), 8192, "sealed against growing only");
    expect_bad(memfd(0, 8192, 0), 8192, "cannot be sealed");
    expect_bad(memfd(MFD_ALLOW_SEALING, 8192, F_SEAL_SHRINK | F_SEAL_WRITE), 8192, "sealed against writing");
    expect_bad(memfd(MFD_ALLOW_SEALING, 8192, F_SEAL_SHRINK | F_SEAL_FUTURE_WRITE), 8192, "sealed against future writing");
    expect_bad(eventfd(0, EFD_CLOEXEC), 1, "an eventfd");
    expect_bad(open("/dev/zero", O_RDWR | O_CLOEXEC), 1, "a device");
    expect_bad(open("/", O_RDONLY | O_CLOEXEC | O_DIRECTORY), 1, "a directory");
    int file = mkostemp(path, O_CLOEXEC);
    assert_int_equal(ftruncate(file, 8192), 0);
    unlink(path);
    expect_bad(file, 8192, "an ordinary file");
    int ends[2];
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    close(ends[1]);
    expect_bad(ends[0], 1, "a pipe");
    int writable = memfd(MFD_ALLOW_SEALING, 8192, F_SEAL_SHRINK);
    char self[64];
    snprintf(self, sizeof(self), "/proc/self/fd/%d", writable);
    expect_bad(open(self, O_RDONLY | O_CLOEXEC), 8192, "open for reading only");
    close(writable);
    /* Huge pages, where the kernel has any: they can fault when the pool is empty. */
    int huge = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_HUGETLB);
    if (huge >= 0) {
        if (ftruncate(huge, 2 << 20) == 0 && fcntl(huge, F_ADD_SEALS, F_SEAL_SHRINK) == 0)
            expect_bad(huge, 8192, "huge pages");
        else
            close(huge);
    }
    assert_int_equal(tcw_memfd_check(-1, 1, &why), TCW_EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_round_trip, setup, teardown),
        cmocka_unit_test_setup_teardown(test_taken_descriptors_stay, setup, teardown),
        cmocka_unit_test_setup_teardown(test_most_descriptors, setup, teardown),
        cmocka_unit_test_setup_teardown(test_descriptor_lies, setup, teardown),
        cmocka_unit_test_setup_teardown(test_no_room_for_descriptors, setup, teardown),
        cmocka_unit_test_setup_teardown(test_truncation, setup, teardown),
        cmocka_unit_test_setup_teardown(test_peer_gone, setup, teardown),
        cmocka_unit_test_setup_teardown(test_last_words_are_heard, setup, teardown),
        cmocka_unit_test_setup_teardown(test_full_socket, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bad_arguments, setup, teardown),
        cmocka_unit_test_setup_teardown(test_memfd_create, setup, teardown),
        cmocka_unit_test_setup_teardown(test_memfd_check, setup, teardown),
    };
    return cmocka_run_group_tests_name("channel", tests, NULL, NULL);
}
