/* Clients that lie in the memory they share: ring, member page, workspaces, eventfds. An innocent group does not notice. */
#include "cases_hostile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static void begin(struct proc_me *me, struct raw *raw, struct raw_ring *ring)
{
    raw_hello(raw, me);
    raw_ring_open(raw, ring, "hostile");
}

static void poke(struct raw_ring *ring)
{
    uint64_t one = 1;
    if (write(ring->sq_event, &one, sizeof(one)) < 0)
        CHECK(errno == EAGAIN);
}

/* ---- the ring works, to begin with ---- */

static void good_body(struct proc_me *me)
{
    struct raw raw;
    struct raw_ring ring;
    struct tcw_ref refs[2];
    begin(me, &raw, &ring);
    for (unsigned round = 0; round < 200; round++) {
        for (unsigned i = 0; i < 32; i++)
            ((float *)(void *)ring.data)[i] = (float)(i + round);
        struct tcw_sqe head = raw_ring_good(&ring, refs);
        CHECK_EQ(raw_ring_run(&ring, head, refs), 0);
        CHECK(memcmp(ring.data, ring.data + 4096, 128) == 0); /* a group of one: the sum is the input */
    }
    struct tcw_sqe nop = {.op = TCW_OP_NOP, .sequence = ring.sequence++};
    CHECK_EQ(raw_ring_run(&ring, nop, refs), 0);
    struct tcw_sqe unknown = {.op = 999, .sequence = ring.sequence++};
    CHECK_EQ(raw_ring_run(&ring, unknown, refs), TCW_ENOSYS);
    struct tcw_sqe again = raw_ring_good(&ring, refs);
    CHECK_EQ(raw_ring_run(&ring, again, refs), 0); /* an unknown operation harms nothing */
    raw_alive(&raw, "good requests");
    raw_ring_close(&ring);
    raw_close(&raw);
}

/* ---- requests that name what they may not ---- */

static void requests_body(struct proc_me *me)
{
    static const char *const lies[] = {"no such plan",        "plan of another generation",
                                       "other operation",     "too many tokens",
                                       "no tokens",           "too few references",
                                       "too many references", "unknown memory",
                                       "other generation",    "behind the end",
                                       "offset wraps",        "length wraps",
                                       "too short",           "too long",
                                       "unaligned",           "all ones"};
    for (unsigned lie = 0; lie < sizeof(lies) / sizeof(lies[0]); lie++) {
        struct raw raw;
        struct raw_ring ring;
        struct tcw_ref refs[8] = {{0}};
        begin(me, &raw, &ring);
        struct tcw_sqe head = raw_ring_good(&ring, refs);
        switch (lie) {
        case 0:
            head.plan += 1;
            break;
        case 1:
            head.plan += 1ull << 32;
            break;
        case 2:
            head.op = TCW_OP_BARRIER;
            break;
        case 3:
            head.tokens = 5;
            break;
        case 4:
            head.tokens = 0;
            break;
        case 5:
            head.ref_count = 1;
            break;
        case 6:
            head.ref_count = 3;
            refs[2] = refs[1];
            break;
        case 7:
            refs[0].handle += 1;
            break;
        case 8:
            refs[0].handle += 1ull << 32;
            break;
        case 9:
            refs[1].offset = ring.data_bytes - 64;
            break;
        case 10:
            refs[1].offset = UINT64_MAX - 63;
            break;
        case 11:
            refs[1].length = UINT64_MAX;
            break;
        case 12:
            refs[0].length = 127;
            break;
        case 13:
            refs[0].length = 129;
            break;
        case 14:
            refs[0].offset = 1;
            break;
        default:
            memset(refs, 0xff, sizeof(refs));
            break;
        }
        int result = raw_ring_run(&ring, head, refs);
        CHECK_MSG(result != 0, "carried out: %s", lies[lie]);
        raw_ring_close(&ring);
        raw_close(&raw);
    }
}

/* A buffer that is longer than the memory it is said to lie in, whatever the offset. */
static void short_memory_body(struct proc_me *me)
{
    static const uint64_t offsets[] = {0, 4096, 8192, 1ull << 40, UINT64_MAX - 4095, UINT64_MAX - 32767};
    struct raw raw;
    struct raw_ring ring;
    for (unsigned i = 0; i < sizeof(offsets) / sizeof(offsets[0]); i++) {
        begin(me, &raw, &ring);
        struct tcw_plan_create create = {.group_id = ring.group_id, .desc = ring.desc};
        create.desc.hidden = 2048;
        CHECK_EQ(raw_ask(&raw, TCW_MSG_PLAN_CREATE, &create, NULL, 0), TCW_MSG_PLAN_READY);
        uint64_t plan = raw.packet.payload.PLAN_READY.plan;
        tcw_packet_close_fds(&raw.packet);
        struct tcw_mem_alloc alloc = {.bytes = 4096};
        CHECK_EQ(raw_ask(&raw, TCW_MSG_MEM_ALLOC, &alloc, NULL, 0), TCW_MSG_MEM_READY);
        uint64_t small = raw.packet.payload.MEM_READY.handle;
        tcw_packet_close_fds(&raw.packet);
        /* Four rows of 2048 floats: 32 KiB, read from good memory and written behind a page. */
        struct tcw_ref refs[2] = {{.handle = ring.memory, .length = 32768}, {.handle = small, .offset = offsets[i], .length = 32768}};
        struct tcw_sqe head = {.op = TCW_OP_ALL_REDUCE, .sequence = ring.sequence++, .plan = plan, .tokens = 4, .ref_count = 2};
        int result = raw_ring_run(&ring, head, refs);
        CHECK_MSG(result != 0, "32 KiB were written at offset %#llx of 4 KiB", (unsigned long long)offsets[i]);
        raw_ring_close(&ring);
        raw_close(&raw);
    }
}

/* Guesses the handles of other clients' memory. */
static void foreign_memory_body(struct proc_me *me)
{
    struct raw raw;
    struct raw_ring ring;
    struct tcw_ref refs[2];
    raw_hello(&raw, me);
    for (uint64_t index = 0; index < 8; index++) {
        for (uint64_t generation = 0; generation < 4; generation++) {
            raw_ring_open(&raw, &ring, "guesses");
            struct tcw_sqe head = raw_ring_good(&ring, refs);
            uint64_t handle = generation << 32 | index;
            if (handle != ring.memory) {
                refs[1].handle = handle;
                CHECK_MSG(raw_ring_run(&ring, head, refs) != 0, "wrote into foreign memory %#llx", (unsigned long long)handle);
            }
            struct tcw_group_leave leave = {.group_id = ring.group_id};
            CHECK_EQ(raw_ask(&raw, TCW_MSG_GROUP_LEAVE, &leave, NULL, 0), TCW_MSG_OK);
            struct tcw_mem_free release = {.handle = ring.memory};
            CHECK_EQ(raw_ask(&raw, TCW_MSG_MEM_FREE, &release, NULL, 0), TCW_MSG_OK);
            raw_ring_close(&ring);
        }
    }
    raw_close(&raw);
}

/* ---- writes into everything that is mapped ---- */

static void violations_body(struct proc_me *me)
{
    static const char *const lies[] = {"lonely continuation", "unknown flags",       "flags of GPUs", "reserved bits",
                                       "half a request",      "too many references", "all are heads", "torn continuation"};
    for (unsigned lie = 0; lie < sizeof(lies) / sizeof(lies[0]); lie++) {
        struct raw raw;
        struct raw_ring ring;
        struct tcw_ref refs[2];
        begin(me, &raw, &ring);
        union tcw_sq_entry *entry = &ring.ring.sq[0];
        struct tcw_sqe head = raw_ring_good(&ring, refs);
        memcpy(head.refs, refs, sizeof(refs));
        switch (lie) {
        case 0:
            head.op = TCW_SQE_CONTINUATION;
            break;
        case 1:
            head.flags = 0x4000;
            break;
        case 2:
            head.flags = TCW_SQE_CAPTURED;
            break;
        case 3:
            head.pair = 7;
            break;
        case 4:
            head.ref_count = 9;
            break;
        case 5:
            head.ref_count = 0xffff;
            break;
        case 6:
            head.ref_count = 9;
            entry[1].head = head;
            entry[1].head.flags |= TCW_RING_PHASE;
            break;
        default: /* the second entry is there, but of another request */
            head.ref_count = 9;
            entry[1].continuation.op = TCW_SQE_CONTINUATION;
            entry[1].continuation.flags = TCW_RING_PHASE;
            entry[1].continuation.sequence = head.sequence + 1;
            break;
        }
        head.flags |= TCW_RING_PHASE;
        entry->head = head;
        poke(&ring);
        raw_expelled(&raw, lies[lie]);
        raw_ring_close(&ring);
    }
}

/* What the client says it has posted is asked only when it gives plans back: lies there are its own loss, and cost no connection. */
static void tails_body(struct proc_me *me)
{
    static const uint32_t lies[] = {0x7fffffffu, 0xfffffff0u, 5000, 1};
    struct raw raw;
    struct raw_ring ring;
    struct tcw_ref refs[2];
    begin(me, &raw, &ring);
    for (unsigned lie = 0; lie < sizeof(lies) / sizeof(lies[0]); lie++) {
        struct tcw_sqe head = raw_ring_good(&ring, refs);
        atomic_store(&ring.ring.indices->sq_tail, lies[lie]);
        poke(&ring);
        CHECK_EQ(raw_ring_run(&ring, head, refs), 0);
        atomic_store(&ring.ring.indices->sq_tail, lies[lie]);
        struct tcw_plan_create create = {.group_id = ring.group_id, .desc = ring.desc};
        CHECK_EQ(raw_ask(&raw, TCW_MSG_PLAN_CREATE, &create, NULL, 0), TCW_MSG_PLAN_READY);
        struct tcw_plan_release release = {.plan = raw.packet.payload.PLAN_READY.plan};
        CHECK_EQ(raw_ask(&raw, TCW_MSG_PLAN_RELEASE, &release, NULL, 0), TCW_MSG_OK);
        raw_alive(&raw, "a tail from nowhere");
    }
    raw_close(&raw);
    raw_ring_close(&ring);
}

/* More requests in flight than completions have room, with a completion head that lies. */
static void completions_body(struct proc_me *me)
{
    struct raw raw;
    struct raw_ring ring;
    struct tcw_ref none[1] = {{0}};
    bool wake;
    begin(me, &raw, &ring);
    for (unsigned i = 0; i < 1000; i++) { /* never reaps */
        struct tcw_sqe nop = {.op = TCW_OP_NOP, .sequence = ring.sequence++};
        uint64_t end = proc_now_ns() + 500 * 1000000ull;
        while (tcw_ring_submit(&ring.ring, &nop, none, &wake) == TCW_EAGAIN && proc_now_ns() < end)
            proc_nap();
        poke(&ring);
        if (proc_now_ns() >= end)
            break;
    }
    raw_expelled(&raw, "never reaps completions");
    raw_ring_close(&ring);

    begin(me, &raw, &ring);
    atomic_store(&ring.ring.indices->cq_head, 0x55555555u);
    for (unsigned i = 0; i <= ring.ring.cq_entries; i++) { /* the executor looks at the head when it runs out of room */
        struct tcw_sqe nop = {.op = TCW_OP_NOP, .sequence = ring.sequence++};
        CHECK_EQ(tcw_ring_submit(&ring.ring, &nop, none, &wake), 0);
    }
    poke(&ring);
    raw_expelled(&raw, "a completion head from nowhere");
    raw_ring_close(&ring);
}

/* Noise in the whole ring and the whole page, again and again, while requests run. */
static void noise_body(struct proc_me *me)
{
    uint64_t random = 99;
    for (unsigned round = 0; round < 12; round++) {
        struct raw raw;
        struct raw_ring ring;
        struct tcw_ref refs[2];
        begin(me, &raw, &ring);
        for (unsigned i = 0; i < 20; i++) {
            struct tcw_sqe head = raw_ring_good(&ring, refs);
            bool wake;
            tcw_ring_submit(&ring.ring, &head, refs, &wake);
            poke(&ring);
        }
        for (size_t i = 0; i < sizeof(*ring.page) / 8; i++)
            ((uint64_t *)(void *)ring.page)[i] = round % 3 == 0 ? UINT64_MAX : ref_random(&random);
        size_t first = round % 2 ? TCW_RING_HEADER_BYTES / 8 : 0;
        for (size_t i = first; i < ring.bytes / 8; i++)
            ((uint64_t *)ring.base)[i] = ref_random(&random);
        poke(&ring);
        /* The daemon copies pages for its statistics ten times a second: be there for that. */
        for (unsigned i = 0; i < 150; i++)
            proc_nap();
        raw_ring_close(&ring);
        raw_close(&raw);
    }
}

/* Cutting, growing and unsealing what the daemon relies on is impossible; holes are harmless. */
static void files_body(struct proc_me *me)
{
    struct raw raw;
    struct raw_ring ring;
    struct tcw_ref refs[2];
    begin(me, &raw, &ring);
    const int files[] = {ring.ring_fd, ring.page_fd, ring.data_fd};
    for (unsigned i = 0; i < 3; i++) {
        CHECK_MSG(ftruncate(files[i], 0) != 0, "file %u can be cut", i);
        CHECK_MSG(ftruncate(files[i], 1 << 24) != 0, "file %u can grow", i);
        CHECK_MSG(fcntl(files[i], F_ADD_SEALS, F_SEAL_WRITE) != 0, "file %u can be sealed against the daemon", i);
    }
    CHECK_EQ(fallocate(ring.data_fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, (off_t)ring.data_bytes), 0);
    struct tcw_sqe head = raw_ring_good(&ring, refs);
    CHECK_EQ(raw_ring_run(&ring, head, refs), 0);
    CHECK_EQ(fallocate(ring.ring_fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, (off_t)ring.bytes), 0);
    CHECK_EQ(fallocate(ring.page_fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, (off_t)tcw_member_page_bytes()), 0);
    poke(&ring);
    for (unsigned i = 0; i < 150; i++)
        proc_nap();
    raw_ring_close(&ring);
    raw_close(&raw);
}

/* Makes the eventfds blocking and full, so that whoever reads or writes them carelessly hangs; then asks for completions and goes. */
static void eventfds_body(struct proc_me *me)
{
    for (unsigned round = 0; round < 3; round++) {
        struct raw raw;
        struct raw_ring ring;
        struct tcw_ref refs[2];
        begin(me, &raw, &ring);
        CHECK_EQ(fcntl(ring.cq_event, F_SETFL, O_NONBLOCK), 0);
        CHECK_EQ(fcntl(ring.sq_event, F_SETFL, O_NONBLOCK), 0);
        uint64_t count, most = UINT64_MAX - 1;
        if (read(ring.cq_event, &count, sizeof(count)) < 0)
            CHECK(errno == EAGAIN);
        CHECK_EQ(write(ring.cq_event, &most, sizeof(most)), sizeof(most));
        if (round == 1) {
            while (read(ring.sq_event, &count, sizeof(count)) > 0)
                ;
        }
        CHECK_EQ(fcntl(ring.cq_event, F_SETFL, 0), 0);
        CHECK_EQ(fcntl(ring.sq_event, F_SETFL, 0), 0);
        atomic_store(&ring.ring.indices->cq_sleep, 1);
        for (unsigned i = 0; i < 5; i++) {
            struct tcw_sqe head = raw_ring_good(&ring, refs);
            bool wake;
            CHECK_EQ(tcw_ring_submit(&ring.ring, &head, refs, &wake), 0);
            if (round != 1)
                CHECK_EQ(write(ring.sq_event, &(uint64_t){1}, 8), 8);
        }
        for (unsigned i = 0; i < 50; i++)
            proc_nap();
        /* The end of the group wakes whoever sleeps on the eventfd: that must not stop the daemon either. */
        if (round == 2) {
            struct tcw_group_abort end = {.group_id = ring.group_id, .reason = "on purpose"};
            raw_ask(&raw, TCW_MSG_GROUP_ABORT, &end, NULL, 0);
            raw_alive(&raw, "a break with a full eventfd");
        }
        raw_close(&raw);
        raw_ring_close(&ring);
    }
}

/* ---- plans that are allowed but absurd ---- */

/* Nothing in it, but 2^40 rows of nothing: must be refused, or done at once. */
static void absurd_body(struct proc_me *me)
{
    struct raw raw;
    struct raw_ring ring;
    begin(me, &raw, &ring);
    for (unsigned kind = 0; kind < 6; kind++) {
        struct tcw_plan_create create = {.group_id = ring.group_id};
        create.desc = (struct tcw_plan_desc){.op = TCW_OP_ALL_GATHER, .strategy = TCW_STRATEGY_AUTO, .lane = TCW_LANE_SERVED};
        create.desc.tensor_count = 1;
        create.desc.tensors[0] = (struct tcw_tensor){.outer = 1ull << 40, .extent = 0, .inner = 1, .dtype = TCW_UINT8, .present = 1};
        if (kind == 1) {
            create.desc.op = TCW_OP_REDUCE_SCATTER;
            create.desc.flags = TCW_PLAN_SIZES;
        } else if (kind == 2) {
            create.desc.tensors[0].outer = 1ull << 47;
            create.desc.tensors[0].extent = 1;
            create.desc.tensors[0].inner = 0;
        } else if (kind == 3) {
            create.desc.op = TCW_OP_ALL_TO_ALL;
            create.desc.tensors[0].outer = create.desc.tensors[0].extent = 1;
            create.desc.tensors[0].inner = 0;
        } else if (kind == 4) {
            create.desc.tensors[0].outer = create.desc.tensors[0].inner = 1ull << 48;
        } else if (kind == 5) { /* a sum of nearly everything that can be named */
            create.desc = ring.desc;
            create.desc.max_tokens = 1ull << 31;
            create.desc.hidden = 1ull << 15;
        }
        int answer = raw_ask(&raw, TCW_MSG_PLAN_CREATE, &create, NULL, 0);
        CHECK_MSG(answer == TCW_MSG_PLAN_READY || answer == TCW_MSG_ERROR, "absurd plan %u was answered by %d", kind, answer);
        if (answer == TCW_MSG_ERROR)
            continue;
        tcw_packet_close_fds(&raw.packet);
        uint64_t plan = raw.packet.payload.PLAN_READY.plan;
        struct tcw_ref refs[2] = {{.handle = ring.memory}, {.handle = ring.memory, .offset = 4096}};
        struct tcw_sqe head = {.op = create.desc.op, .sequence = ring.sequence++, .plan = plan, .ref_count = 2};
        int result = raw_ring_run(&ring, head, refs);
        CHECK_MSG(result <= 0, "absurd plan %u has no completion", kind);
        struct tcw_plan_release release = {.plan = plan};
        CHECK_EQ(raw_ask(&raw, TCW_MSG_PLAN_RELEASE, &release, NULL, 0), TCW_MSG_OK);
    }
    raw_alive(&raw, "absurd plans");
    raw_ring_close(&ring);
    raw_close(&raw);
}

/* ---- memory that is kept ---- */

static uint64_t pages_of(int fd)
{
    struct stat status;
    CHECK_EQ(fstat(fd, &status), 0);
    return (uint64_t)status.st_blocks;
}

static int alloc_filled(struct raw *raw, uint64_t bytes, uint64_t *handle, void **map)
{
    struct tcw_mem_alloc alloc = {.bytes = bytes};
    CHECK_EQ(raw_ask(raw, TCW_MSG_MEM_ALLOC, &alloc, NULL, 0), TCW_MSG_MEM_READY);
    *handle = raw->packet.payload.MEM_READY.handle;
    CHECK_EQ(raw->packet.fd_count, 1);
    int fd = raw->packet.fds[0];
    *map = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    CHECK(*map != MAP_FAILED);
    memset(*map, 1, bytes);
    CHECK(pages_of(fd) > 0);
    return fd;
}

/* Given back, or left behind by a closed connection, but neither unmapped nor closed: the daemon's pages go all the same. */
static void hoard_body(struct proc_me *me)
{
    enum { BYTES = 32 << 20 };
    struct raw raw;
    uint64_t handle;
    void *map;
    raw_hello(&raw, me);
    for (unsigned round = 0; round < 4; round++) {
        int fd = alloc_filled(&raw, BYTES, &handle, &map);
        struct tcw_mem_free mem_free = {.handle = handle};
        CHECK_EQ(raw_ask(&raw, TCW_MSG_MEM_FREE, &mem_free, NULL, 0), TCW_MSG_OK);
        CHECK_EQ(pages_of(fd), 0);
        munmap(map, BYTES);
        close(fd);
    }
    int fd = alloc_filled(&raw, BYTES, &handle, &map);
    raw_close(&raw);
    uint64_t end = proc_now_ns() + PROC_PATIENCE_MS * 1000000ull;
    while (pages_of(fd) && proc_now_ns() < end)
        proc_nap();
    CHECK_EQ(pages_of(fd), 0);
    munmap(map, BYTES);
    close(fd);
}

static void test_hostile(void **state)
{
    (void)state;
    static const struct attack attacks[] = {
        {"a good raw client", good_body},
        {"requests that lie", requests_body},
        {"buffers longer than their memory", short_memory_body},
        {"memory of others", foreign_memory_body},
        {"violations of the ring", violations_body},
        {"tails from nowhere", tails_body},
        {"lies about completions", completions_body},
        {"noise everywhere", noise_body},
        {"cutting and sealing", files_body},
        {"eventfds that block", eventfds_body},
        {"absurd plans", absurd_body},
        {"memory that is kept", hoard_body},
    };
    hostile_run(&(struct proc_settings){.devices = 2, .operation_ms = 8000}, attacks, sizeof(attacks) / sizeof(attacks[0]));
}

/* ---- inside one group ---- */

/*
 * Rank 1 scribbles over all workspaces of its group. Its own group may fail or compute nonsense, but rank 0 must come back from every
 * call within the deadline, alive.
 */
static void scribble_body(struct proc_me *me)
{
    if (me->rank == 0) {
        struct trtcoll_ctx *ctx = proc_open(me, 0);
        struct trtcoll_group *group = proc_group(me, ctx, "scribble");
        struct trtcoll_all_reduce_desc desc = TRTCOLL_ALL_REDUCE_DESC_INIT;
        struct trtcoll_plan *plan = NULL;
        float *in = case_buffer(4 << 20), *out = case_buffer(4 << 20);
        desc.dtype = TRTCOLL_FP32;
        desc.lane = TRTCOLL_LANE_DIRECT;
        desc.max_tokens = 1024;
        desc.hidden = 1024;
        CHECK_OK(trtcoll_plan_create_all_reduce(group, &desc, &plan));
        memset(in, 0, 4 << 20);
        struct trtcoll_run_args args = TRTCOLL_RUN_ARGS_INIT;
        args.tokens = 1024;
        args.in = in;
        args.out = out;
        int code = 0;
        for (unsigned i = 0; i < 50 && !code; i++) {
            uint64_t start = proc_now_ns();
            code = trtcoll_plan_run(plan, &args, NULL, NULL);
            CHECK_MSG((proc_now_ns() - start) / 1000000 <= 800 + 100 + proc_allowance_ms(), "a run took longer than the deadline");
        }
        CHECK_OK(trtcoll_plan_release(plan));
        proc_reach(me, 1);
        free(in);
        free(out);
        trtcoll_ctx_close(ctx);
        return;
    }
    struct raw raw;
    struct tcw_group_join join = {.name = "scribble", .size = 2, .rank = 1};
    raw_hello(&raw, me);
    CHECK_EQ(raw_ask(&raw, TCW_MSG_GROUP_JOIN, &join, NULL, 0), TCW_MSG_GROUP_READY);
    uint64_t group_id = raw.packet.payload.GROUP_READY.group_id;
    tcw_packet_close_fds(&raw.packet);
    struct tcw_plan_create create = {.group_id = group_id};
    create.desc = (struct tcw_plan_desc){.op = TCW_OP_ALL_REDUCE, .strategy = TCW_STRATEGY_AUTO, .lane = TCW_LANE_DIRECT};
    create.desc.max_tokens = create.desc.hidden = 1024;
    CHECK_EQ(raw_ask(&raw, TCW_MSG_PLAN_CREATE, &create, NULL, 0), TCW_MSG_PLAN_READY);
    CHECK_EQ(raw.packet.payload.PLAN_READY.workspace_fds, 2);
    uint64_t bytes = raw.packet.payload.PLAN_READY.workspace_bytes, random = 3;
    uint64_t *maps[2];
    for (unsigned i = 0; i < 2; i++) {
        CHECK_MSG(ftruncate(raw.packet.fds[i], 0) != 0, "a workspace can be cut");
        maps[i] = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, raw.packet.fds[i], 0);
        CHECK(maps[i] != MAP_FAILED);
    }
    while (atomic_load(&me->shared->ranks[0].step) == 0) {
        for (unsigned i = 0; i < 2; i++)
            for (uint64_t word = 0; word < bytes / 8; word += 1 + ref_random(&random) % 64)
                maps[i][word] = ref_random(&random) % 3 ? ref_random(&random) : ref_random(&random) % 8;
    }
    munmap(maps[0], bytes);
    munmap(maps[1], bytes);
    tcw_packet_close_fds(&raw.packet);
    raw_close(&raw);
}

static void test_scribbler(void **state)
{
    (void)state;
    struct proc_daemon *daemon = proc_daemon_start(&(struct proc_settings){.devices = 2, .operation_ms = 800});
    for (unsigned i = 0; i < 3; i++)
        proc_run_all(daemon, 2, scribble_body, NULL, 30000);
    proc_daemon_finish(daemon);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_hostile, proc_teardown),
        cmocka_unit_test_teardown(test_scribbler, proc_teardown),
    };
    return cmocka_run_group_tests_name("hostile clients in shared memory", tests, NULL, NULL);
}
