/* Clients that lie on the socket. Each loses its own connection, or is refused; an innocent group does not notice. */
#include "cases_hostile.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

struct wire {
    struct tcw_header header;
    union tcw_payload payload;
};

static struct wire wire_of(const struct raw *raw, unsigned opcode)
{
    struct wire wire;
    memset(&wire, 0, sizeof(wire));
    wire.header = (struct tcw_header){.magic = TCW_MESSAGE_MAGIC, .length = tcw_message_bytes(opcode), .opcode = (uint16_t)opcode};
    wire.header.sequence = 1;
    wire.header.generation = raw->generation;
    return wire;
}

/* ---- malformed packets, before and after the hello ---- */

static void garbage_body(struct proc_me *me)
{
    for (unsigned greeted = 0; greeted < 2; greeted++) {
        for (unsigned kind = 0; kind < 10; kind++) {
            struct raw raw;
            if (greeted)
                raw_hello(&raw, me);
            else
                raw_connect(&raw, me);
            struct wire wire = wire_of(&raw, TCW_MSG_MEM_FREE);
            size_t size = sizeof(wire.header) + wire.header.length;
            static const char *const names[] = {
                "one byte",        "half a header",    "wrong magic",     "unknown opcode", "opcode of the daemon",
                "length too long", "length too short", "packet too long", "reserved bits",  "noise"};
            switch (kind) {
            case 0:
                size = 1;
                break;
            case 1:
                size = 16;
                break;
            case 2:
                wire.header.magic ^= 1;
                break;
            case 3:
                wire.header.opcode = 4711;
                break;
            case 4:
                wire = wire_of(&raw, TCW_MSG_HELLO_OK);
                size = sizeof(wire.header) + wire.header.length;
                break;
            case 5:
                wire.header.length += 8;
                break;
            case 6:
                wire.header.length -= 1;
                size -= 1;
                break;
            case 7:
                size = sizeof(wire);
                break;
            case 8:
                wire.header.reserved = 1;
                break;
            default:
                memset(&wire, 0xa5, sizeof(wire));
                break;
            }
            raw_send_bytes(&raw, &wire, size, NULL, 0);
            raw_expelled(&raw, names[kind]);
        }
    }
}

static void descriptors_body(struct proc_me *me)
{
    static const struct {
        unsigned opcode, announced, sent;
    } lies[] = {{TCW_MSG_MEM_FREE, 1, 0},       {TCW_MSG_MEM_FREE, 0, 1},          {TCW_MSG_MEM_FREE, 1, 1},
                {TCW_MSG_MEM_REGISTER, 0, 1},   {TCW_MSG_MEM_REGISTER, 1, 0},      {TCW_MSG_MEM_REGISTER, 2, 2},
                {TCW_MSG_MEM_REGISTER, 80, 80}, {TCW_MSG_MEM_REGISTER, 81, 81},    {TCW_MSG_HELLO, 1, 1},
                {TCW_MSG_GROUP_JOIN, 253, 253}, {TCW_MSG_PLAN_CREATE, 0xffff, 100}};
    int fds[253];
    for (size_t i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
        struct raw raw;
        raw_hello(&raw, me);
        for (unsigned k = 0; k < 253; k++)
            fds[k] = raw.socket;
        struct wire wire = wire_of(&raw, lies[i].opcode);
        wire.header.fd_count = (uint16_t)lies[i].announced;
        raw_send_bytes(&raw, &wire, sizeof(wire.header) + wire.header.length, fds, lies[i].sent);
        raw_expelled(&raw, "a lie about descriptors");
    }
}

/* ---- hello ---- */

static void hello_body(struct proc_me *me)
{
    struct raw raw;
    struct tcw_hello good = {.abi_min = 1, .abi_max = 1, .features = TCW_FEATURE_DIRECT, .device = -1}, hello;
    static const struct {
        uint32_t min, max;
        bool fine;
    } ranges[] = {{1, 1, true},  {0, 1, true},   {1, 99, true}, {0, UINT32_MAX, true},
                  {2, 2, false}, {2, 99, false}, {0, 0, false}, {5, 1, false}};
    for (size_t i = 0; i < sizeof(ranges) / sizeof(ranges[0]); i++) {
        raw_connect(&raw, me);
        hello = good;
        hello.abi_min = ranges[i].min;
        hello.abi_max = ranges[i].max;
        if (ranges[i].fine) {
            CHECK_EQ(raw_ask(&raw, TCW_MSG_HELLO, &hello, NULL, 0), TCW_MSG_HELLO_OK);
            CHECK_EQ(raw.packet.payload.HELLO_OK.abi, 1);
            CHECK_EQ(raw.packet.payload.HELLO_OK.features, TCW_FEATURE_DIRECT);
            raw_close(&raw);
        } else {
            int answer = raw_ask(&raw, TCW_MSG_HELLO, &hello, NULL, 0);
            CHECK_MSG(answer == TCW_MSG_ERROR || answer == TCW_MSG_GOODBYE, "ABI %u to %u was answered by %d", ranges[i].min, ranges[i].max,
                      answer);
            CHECK_EQ(raw.packet.payload.ERROR.code, TCW_EABI);
            CHECK_MSG(raw.packet.payload.ERROR.text[0], "no text");
            raw_expelled(&raw, "an ABI that nobody speaks");
        }
    }
    /* Unknown features are never accepted silently. */
    raw_connect(&raw, me);
    hello = good;
    hello.features = 1ull << 40;
    raw_refused(&raw, TCW_MSG_HELLO, &hello, NULL, 0, TCW_EABI);
    raw_close(&raw);
    /* A device that is not there. */
    raw_connect(&raw, me);
    hello = good;
    hello.device = 4000;
    raw_refused(&raw, TCW_MSG_HELLO, &hello, NULL, 0, TCW_EINVAL);
    raw_close(&raw);
    /* Twice. */
    raw_hello(&raw, me);
    raw_send(&raw, TCW_MSG_HELLO, &good, NULL, 0);
    raw_expelled(&raw, "a second hello");
    /* Something else first. */
    raw_connect(&raw, me);
    struct tcw_group_join join = {.name = "early", .size = 1};
    raw_send(&raw, TCW_MSG_GROUP_JOIN, &join, NULL, 0);
    raw_expelled(&raw, "no hello");
    /* The generation of another daemon. */
    raw_hello(&raw, me);
    raw.generation ^= 1;
    raw_send(&raw, TCW_MSG_GROUP_JOIN, &join, NULL, 0);
    raw_expelled(&raw, "a wrong generation");
    /* Nothing at all, and gone. */
    raw_connect(&raw, me);
    raw_close(&raw);
    raw_hello(&raw, me);
    CHECK_EQ(shutdown(raw.socket, SHUT_WR), 0);
    raw_expelled(&raw, "half a hang-up");
}

/* ---- things that belong to others ---- */

static void handles_body(struct proc_me *me)
{
    struct raw raw;
    raw_hello(&raw, me);
    for (uint64_t index = 0; index < 12; index++) {
        for (uint64_t generation = 0; generation < 12; generation++) {
            uint64_t handle = generation << 32 | index;
            struct tcw_group_leave leave = {.group_id = handle};
            struct tcw_group_reform reform = {.group_id = handle, .timeout_ms = 1};
            struct tcw_group_abort abort_ = {.group_id = handle, .reason = "mine now"};
            struct tcw_plan_release release = {.plan = handle};
            struct tcw_mem_free release_memory = {.handle = handle};
            struct tcw_plan_create create = {.group_id = handle, .timeout_ms = 1};
            create.desc.op = TCW_OP_BARRIER;
            create.desc.strategy = TCW_STRATEGY_AUTO;
            raw_refused(&raw, TCW_MSG_GROUP_LEAVE, &leave, NULL, 0, TCW_ENOENT);
            raw_refused(&raw, TCW_MSG_GROUP_REFORM, &reform, NULL, 0, TCW_ENOENT);
            raw_refused(&raw, TCW_MSG_GROUP_ABORT, &abort_, NULL, 0, TCW_ENOENT);
            raw_refused(&raw, TCW_MSG_PLAN_RELEASE, &release, NULL, 0, TCW_ENOENT);
            raw_refused(&raw, TCW_MSG_MEM_FREE, &release_memory, NULL, 0, TCW_ENOENT);
            raw_refused(&raw, TCW_MSG_PLAN_CREATE, &create, NULL, 0, TCW_ENOENT);
            struct tcw_group_report report = {.group_id = handle, .code = TCW_ETIMEOUT, .rank = 0, .text = "not true"};
            raw_send(&raw, TCW_MSG_GROUP_REPORT, &report, NULL, 0); /* has no answer */
        }
    }
    raw_alive(&raw, "guessed handles");
    raw_close(&raw);
}

/* Reports about the own group: whatever they say, they end that group only. */
static void reports_body(struct proc_me *me)
{
    static const uint32_t ranks[] = {0, 1, 63, 64, TCW_NOBODY, 0x7fffffff};
    for (size_t i = 0; i < sizeof(ranks) / sizeof(ranks[0]); i++) {
        struct raw raw;
        struct raw_ring ring;
        raw_hello(&raw, me);
        raw_ring_open(&raw, &ring, "own");
        struct tcw_group_report report = {.group_id = ring.group_id, .code = INT32_MIN, .rank = ranks[i], .step = UINT64_MAX};
        memset(report.text, '%', sizeof(report.text) - 1);
        raw_send(&raw, TCW_MSG_GROUP_REPORT, &report, NULL, 0);
        raw_receive(&raw, 100);
        tcw_packet_close_fds(&raw.packet);
        raw_ring_close(&ring);
        raw_close(&raw);
    }
}

/*
 * Well-formed messages with payloads that are half zeros, half noise, in any order: the dispatch of the daemon under random input. What
 * is refused is refused; when the connection is closed, the next one goes on.
 */
static void random_body(struct proc_me *me)
{
    static const unsigned opcodes[] = {TCW_MSG_GROUP_JOIN,   TCW_MSG_GROUP_LEAVE, TCW_MSG_GROUP_REFORM, TCW_MSG_GROUP_ABORT,
                                       TCW_MSG_GROUP_REPORT, TCW_MSG_PLAN_CREATE, TCW_MSG_PLAN_RELEASE, TCW_MSG_MEM_ALLOC,
                                       TCW_MSG_MEM_REGISTER, TCW_MSG_MEM_FREE};
    uint64_t random = 2024, handles[8] = {0}, group = 0;
    unsigned groups = 0, plans = 0;
    struct raw raw;
    raw_hello(&raw, me);
    int fd = proc_memfd(65536, true);
    CHECK_EQ(fcntl(raw.socket, F_SETFL, O_NONBLOCK), 0);
    /* How much gets in depends on how fast the daemon answers: so long, and until enough did. */
    uint64_t end = proc_now_ns() + PROC_PATIENCE_MS * 1000000ull;
    for (unsigned i = 0; i < 4000 || ((groups <= 20 || plans <= 5) && proc_now_ns() < end); i++) {
        struct wire wire = wire_of(&raw, opcodes[ref_random(&random) % (sizeof(opcodes) / sizeof(opcodes[0]))]);
        unsigned char *bytes = (unsigned char *)&wire.payload;
        unsigned density = (unsigned)(ref_random(&random) % 4);
        for (uint32_t at = 0; density && at + 8 <= wire.header.length; at += 8) {
            uint64_t noise = ref_random(&random), choice = ref_random(&random) % 16;
            noise = choice < 8 ? 0 : choice < 12 ? noise % 5 : choice == 12 ? handles[noise % 8] : choice == 13 ? UINT64_MAX : noise;
            memcpy(bytes + at, &noise, sizeof(noise));
        }
        bool with_fd = wire.header.opcode == TCW_MSG_MEM_REGISTER;
        /* Some speak of a group that is there; the id comes first in all these messages. Plans do so more often than what ends it. */
        bool about_group = wire.header.opcode >= TCW_MSG_GROUP_LEAVE && wire.header.opcode <= TCW_MSG_PLAN_CREATE;
        if (about_group && ref_random(&random) % (wire.header.opcode == TCW_MSG_PLAN_CREATE ? 2 : 16) == 0)
            memcpy(bytes, &group, sizeof(group));
        switch (wire.header.opcode) { /* else nearly everything would end at the first check */
        case TCW_MSG_GROUP_JOIN:
            tcw_text_set(wire.payload.GROUP_JOIN.name, TCW_NAME_BYTES, ref_random(&random) % 2 ? "noise-a" : "noise-b");
            wire.payload.GROUP_JOIN.flags = 0;
            wire.payload.GROUP_JOIN.timeout_ms = 5;
            if (ref_random(&random) % 2) {
                wire.payload.GROUP_JOIN.size = 1;
                wire.payload.GROUP_JOIN.rank = 0;
            }
            break;
        case TCW_MSG_GROUP_ABORT:
            wire.payload.GROUP_ABORT.reason[TCW_TEXT_BYTES - 1] = 0;
            break;
        case TCW_MSG_GROUP_REPORT:
            wire.payload.GROUP_REPORT.text[TCW_TEXT_BYTES - 1] = 0;
            wire.payload.GROUP_REPORT.code |= INT32_MIN;
            break;
        case TCW_MSG_GROUP_REFORM:
            wire.payload.GROUP_REFORM.flags &= 1;
            wire.payload.GROUP_REFORM.timeout_ms = 5;
            break;
        case TCW_MSG_PLAN_CREATE:
            wire.payload.PLAN_CREATE.timeout_ms = 5;
            if (ref_random(&random) % 4 == 0) {
                memset(&wire.payload.PLAN_CREATE.desc, 0, sizeof(wire.payload.PLAN_CREATE.desc));
                wire.payload.PLAN_CREATE.desc.op = TCW_OP_BARRIER;
                wire.payload.PLAN_CREATE.desc.strategy = TCW_STRATEGY_AUTO;
            }
            wire.payload.PLAN_CREATE.desc.op %= 8;
            wire.payload.PLAN_CREATE.desc.dtype %= TCW_DTYPE_COUNT;
            wire.payload.PLAN_CREATE.desc.strategy %= TCW_STRATEGY_COUNT;
            wire.payload.PLAN_CREATE.desc.fusion %= TCW_FUSION_COUNT;
            wire.payload.PLAN_CREATE.desc.redop %= TCW_REDOP_COUNT;
            wire.payload.PLAN_CREATE.desc.lane %= TCW_LANE_COUNT;
            wire.payload.PLAN_CREATE.desc.tensor_count %= TCW_MAX_TENSORS + 1;
            break;
        case TCW_MSG_MEM_ALLOC:
            wire.payload.MEM_ALLOC.flags = wire.payload.MEM_ALLOC.reserved = 0;
            wire.payload.MEM_ALLOC.bytes %= 100000;
            break;
        case TCW_MSG_MEM_REGISTER:
            wire.payload.MEM_REGISTER.flags = wire.payload.MEM_REGISTER.kind = 0;
            break;
        default:
            break;
        }
        wire.header.fd_count = with_fd;
        wire.header.sequence = i;
        struct pollfd writable = {.fd = raw.socket, .events = POLLOUT};
        poll(&writable, 1, 1000);
        bool sent = raw_send_bytes(&raw, &wire, sizeof(wire.header) + wire.header.length, &fd, with_fd);
        /* What makes something gets time for its answer: its handle is used later. */
        unsigned patience = wire.header.opcode == TCW_MSG_GROUP_JOIN || wire.header.opcode == TCW_MSG_PLAN_CREATE ? 30 : 0;
        int code;
        while ((code = raw_receive(&raw, patience)) == 1) {
            patience = 0; /* remember handles, to use them wrongly later */
            if (raw.packet.header.opcode == TCW_MSG_GROUP_READY) {
                handles[i % 8] = group = raw.packet.payload.GROUP_READY.group_id;
                groups++;
            }
            if (raw.packet.header.opcode == TCW_MSG_PLAN_READY) {
                handles[i % 8] = raw.packet.payload.PLAN_READY.plan;
                plans++;
            }
            if (raw.packet.header.opcode == TCW_MSG_MEM_READY)
                handles[i % 8] = raw.packet.payload.MEM_READY.handle;
            tcw_packet_close_fds(&raw.packet);
        }
        if (code < 0 || (!sent && errno != EAGAIN)) {
            raw_close(&raw);
            raw_hello(&raw, me);
            CHECK_EQ(fcntl(raw.socket, F_SETFL, O_NONBLOCK), 0);
        }
    }
    CHECK_MSG(groups > 20 && plans > 5, "only %u groups and %u plans came of it: the noise does not get in", groups, plans);
    close(fd);
    raw_close(&raw);
}

/* ---- memory that is none ---- */

static int bad_memory(unsigned kind, const char **name)
{
    int fd = -1, ends[2];
    switch (kind) {
    case 0:
        *name = "not sealed";
        return proc_memfd(8192, false);
    case 1:
        *name = "too short";
        return proc_memfd(4096, true);
    case 2:
        *name = "an eventfd";
        return eventfd(0, EFD_CLOEXEC);
    case 3:
        *name = "a device";
        return open("/dev/zero", O_RDWR | O_CLOEXEC);
    case 4:
        *name = "a directory";
        return open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    case 5:
        *name = "a pipe";
        CHECK_EQ(pipe2(ends, O_CLOEXEC), 0);
        close(ends[1]);
        return ends[0];
    case 6:
        *name = "sealed against writing";
        fd = proc_memfd(8192, true);
        CHECK_EQ(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), 0);
        return fd;
    case 7:
        *name = "sealed against future writing";
        fd = proc_memfd(8192, true);
        if (fcntl(fd, F_ADD_SEALS, 0x10) != 0) {
            close(fd);
            return bad_memory(6, name);
        }
        return fd;
    case 8:
        *name = "an ordinary file";
        fd = open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
        if (fd >= 0 && ftruncate(fd, 8192) == 0)
            return fd;
        return bad_memory(0, name);
    default:
        *name = "a socket";
        return socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    }
}

static void memory_body(struct proc_me *me)
{
    struct raw raw;
    raw_hello(&raw, me);
    for (unsigned kind = 0; kind < 10; kind++) {
        const char *name = "";
        struct tcw_mem_register wanted = {.bytes = 8192};
        int fd = bad_memory(kind, &name);
        CHECK(fd >= 0);
        int answer = raw_ask(&raw, TCW_MSG_MEM_REGISTER, &wanted, &fd, 1);
        CHECK_MSG(answer == TCW_MSG_ERROR && raw.packet.payload.ERROR.code == TCW_EINVAL, "registered: %s (%d, %s)", name, answer,
                  answer == TCW_MSG_ERROR ? raw.packet.payload.ERROR.text : "");
        close(fd);
    }
    static const uint64_t sizes[] = {0, 8193, 1ull << 40, 1ull << 62, UINT64_MAX};
    int fd = proc_memfd(8192, true);
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        struct tcw_mem_register wanted = {.bytes = sizes[i]};
        int answer = raw_ask(&raw, TCW_MSG_MEM_REGISTER, &wanted, &fd, 1);
        CHECK_MSG(answer == TCW_MSG_ERROR, "registered %llu bytes of 8192", (unsigned long long)sizes[i]);
        struct tcw_mem_alloc alloc = {.bytes = sizes[i]};
        if (sizes[i] == 8193)
            continue;
        answer = raw_ask(&raw, TCW_MSG_MEM_ALLOC, &alloc, NULL, 0);
        CHECK_MSG(answer == TCW_MSG_ERROR, "allocated %llu bytes", (unsigned long long)sizes[i]);
    }
    close(fd);
    raw_alive(&raw, "impossible memory");
    raw_close(&raw);
}

/* ---- floods ---- */

/* Asks and never listens. The daemon must neither wait for it nor keep its answers without end. */
static void deaf_body(struct proc_me *me)
{
    struct raw raw;
    struct proc_census before, after;
    struct tcw_mem_free nothing = {.handle = 1};
    CHECK(proc_census_take(me->daemon->pid, &before));
    raw_hello(&raw, me);
    CHECK_EQ(fcntl(raw.socket, F_SETFL, O_NONBLOCK), 0);
    uint64_t end = proc_now_ns() + 1500 * 1000000ull;
    unsigned sent = 0;
    bool open = true;
    while (open && proc_now_ns() < end && sent < 200000) {
        struct pollfd writable = {.fd = raw.socket, .events = POLLOUT};
        if (poll(&writable, 1, 50) == 1) {
            if (writable.revents & (POLLHUP | POLLERR))
                break;
            if (raw_send(&raw, TCW_MSG_MEM_FREE, &nothing, NULL, 0))
                sent++;
            else if (errno != EAGAIN)
                open = false;
        }
    }
    CHECK(sent > 10);
    CHECK(proc_census_take(me->daemon->pid, &after));
    CHECK_MSG(after.rss_bytes < before.rss_bytes + (32u << 20), "the daemon grew by %llu bytes for a client that does not listen",
              (unsigned long long)(after.rss_bytes - before.rss_bytes));
    raw_close(&raw);
}

/* Many connections that say nothing. Afterwards a decent client still gets in. */
static void crowd_body(struct proc_me *me)
{
    enum { CROWD = 400 };
    static struct raw crowd[CROWD];
    struct rlimit limit = {2048, 2048};
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
        CHECK_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
    unsigned connected = 0;
    while (connected < CROWD && connected + 20 < limit.rlim_cur) {
        struct raw *raw = &crowd[connected];
        raw_connect(raw, me);
        connected++;
    }
    for (unsigned i = 0; i < connected; i++)
        raw_close(&crowd[i]);
    struct raw raw;
    struct tcw_hello hello = {.abi_min = 1, .abi_max = 1, .device = -1};
    uint64_t end = proc_now_ns() + PROC_PATIENCE_MS * 1000000ull;
    for (;;) {
        raw_connect(&raw, me);
        int answer = raw_ask(&raw, TCW_MSG_HELLO, &hello, NULL, 0);
        raw_close(&raw);
        if (answer == TCW_MSG_HELLO_OK)
            break;
        CHECK_MSG(proc_now_ns() < end, "nobody gets in after a crowd");
        proc_nap();
    }
}

static void test_hostile(void **state)
{
    (void)state;
    static const struct attack attacks[] = {
        {"malformed packets", garbage_body},
        {"lies about descriptors", descriptors_body},
        {"strange hellos", hello_body},
        {"handles of others", handles_body},
        {"wild reports", reports_body},
        {"random messages", random_body},
        {"memory that is none", memory_body},
        {"never listens", deaf_body},
        {"a crowd", crowd_body},
    };
    hostile_run(&(struct proc_settings){.devices = 2}, attacks, sizeof(attacks) / sizeof(attacks[0]));
}

/* ---- operators' commands ---- */

enum { STRANGER = 4243 };

/* The answer's code, whichever form it has. */
static int admin(struct raw *raw, uint32_t command)
{
    struct tcw_admin wanted = {.command = command, .value = 1};
    int answer = raw_ask(raw, TCW_MSG_ADMIN, &wanted, NULL, 0);
    if (answer == TCW_MSG_ADMIN_TEXT)
        return raw->packet.payload.ADMIN_TEXT.code;
    CHECK_MSG(answer == TCW_MSG_ERROR || answer == TCW_MSG_OK, "admin command %u was answered by %d", command, answer);
    return answer == TCW_MSG_ERROR ? raw->packet.payload.ERROR.code : 0;
}

/* Rights hang on the user: root and the daemon's own user are operators, a stranger is not. */
static void operator_body(struct proc_me *me)
{
    static const uint32_t commands[] = {TCW_ADMIN_DRAIN, TCW_ADMIN_RELOAD, TCW_ADMIN_KICK, TCW_ADMIN_LOG_LEVEL, TCW_ADMIN_UNDRAIN};
    struct raw raw;
    bool stranger = me->arg != NULL;
    if (stranger)
        CHECK(setresgid(STRANGER, STRANGER, STRANGER) == 0 && setresuid(STRANGER, STRANGER, STRANGER) == 0);
    raw_hello(&raw, me);
    for (size_t i = 0; stranger && i < sizeof(commands) / sizeof(commands[0]); i++)
        CHECK_EQ(admin(&raw, commands[i]), TCW_EPERM);
    CHECK(admin(&raw, 0) < 0);
    CHECK(admin(&raw, 4711) < 0);
    if (!stranger) {
        struct raw second;
        struct tcw_hello hello = {.abi_min = 1, .abi_max = 1, .device = -1};
        CHECK_EQ(admin(&raw, TCW_ADMIN_DRAIN), 0);
        raw_connect(&second, me);
        raw_refused(&second, TCW_MSG_HELLO, &hello, NULL, 0, TCW_EDRAIN);
        raw_close(&second);
        CHECK_EQ(admin(&raw, TCW_ADMIN_UNDRAIN), 0);
    }
    raw_close(&raw);
    raw_hello(&raw, me); /* nobody is kept out now */
    raw_close(&raw);
}

static void test_operators(void **state)
{
    (void)state;
    struct proc_daemon *daemon = proc_daemon_start(&(struct proc_settings){.devices = 2, .more = "\"socket_mode\": \"0666\","});
    char stranger[] = "stranger";
    assert_int_equal(chmod(daemon->base, 0755), 0);
    assert_int_equal(chmod(daemon->runtime, 0755), 0);
    proc_run_all(daemon, 1, operator_body, NULL, 20000);
    if (geteuid() == 0)
        proc_run_all(daemon, 1, operator_body, stranger, 20000);
    proc_daemon_finish(daemon);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_hostile, proc_teardown),
        cmocka_unit_test_teardown(test_operators, proc_teardown),
    };
    return cmocka_run_group_tests_name("hostile clients on the socket", tests, NULL, NULL);
}
