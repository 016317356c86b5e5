/*
 * A daemon for tests of the client library: one thread that speaks the contract to one client at a time, with an executor in the same
 * thread, and that lies where a test wants it to. Groups have one rank, so that runs need no peers.
 *
 * Owner: the test program; fake_start and fake_stop in setup and teardown. What tests change while the thread runs is atomic.
 */
#ifndef TESTS_CLIENT_FIXTURE_H
#define TESTS_CLIENT_FIXTURE_H

#include "cmocka_all.h"

#include <trtcoll.h>

#include <tcw/channel.h>
#include <tcw/member.h>
#include <tcw/ring.h>

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum fake_lie {
    FAKE_HONEST,
    /* at any request of opcode `lie_at` */
    FAKE_HANG_UP,
    FAKE_SILENCE,
    FAKE_REFUSE,
    FAKE_WRONG_OPCODE,
    FAKE_WRONG_SEQUENCE,
    FAKE_SHORT_PACKET,
    FAKE_BAD_MAGIC,
    FAKE_GARBAGE,
    FAKE_NO_FDS,
    FAKE_UNSEALED, /* memory that can shrink */
    FAKE_TOO_SMALL,
    FAKE_PIPES,       /* pipes where eventfds belong */
    FAKE_BAD_CONTENT, /* a page or ring of another ABI */
    FAKE_BAD_LANE,
    FAKE_TOO_MANY_FDS,
    FAKE_STARVE, /* honest, but nobody in this process can open a descriptor any more */
    FAKE_BAD_ABI,
    FAKE_NEW_FEATURES,
    FAKE_GOODBYE,
};

enum {
    FAKE_GENERATION = 77,
    FAKE_CLIENT = 5,
    FAKE_MEMORIES = 64,
    FAKE_RING = 8,
    FAKE_WORKSPACE = 8 << 20,
    FAKE_TIMEOUT_MS = 300,
    FAKE_PEERS_MS = 200
};

struct fake_memory {
    uint64_t handle;
    uint64_t bytes;
    unsigned char *base;
    bool own; /* allocated here, else registered */
};

struct fake;

/* What is different where the fake's devices are not the host's: see client_cuda_fixture.h. NULL in struct fake: host devices. */
struct fake_devices {
    void (*ready)(struct fake *fake, struct tcw_group_ready *ready);
    void (*workspaces)(struct fake *fake, struct tcw_plan_ready *ready, int *fds);
    void (*memory)(struct fake *fake, struct tcw_packet *request);
    void (*memory_drop)(struct fake *fake, struct fake_memory *memory);
    void (*execute)(struct fake *fake);
    void (*forget)(struct fake *fake);
};

struct fake {
    const struct fake_devices *devices;
    void *devices_arg;
    char folder[64];
    char path[96];
    int listener;
    _Atomic int connection; /* -1 once everything of the last client is forgotten */
    pthread_t thread;
    _Atomic bool stop;
    _Atomic int lie;
    _Atomic unsigned lie_at;     /* opcode; 0: none */
    _Atomic unsigned lane;       /* of the plans to come */
    _Atomic bool hold;           /* the executor takes nothing: see fake_hold */
    pthread_mutex_t executing;   /* held while it looks at `hold` and takes */
    _Atomic bool finish_one;     /* while holding: take one */
    _Atomic int result;          /* of completions */
    _Atomic bool corrupt;        /* completions name slots that do not exist */
    _Atomic unsigned counts[32]; /* messages seen, by opcode */
    _Atomic unsigned served;     /* requests taken */
    _Atomic uint64_t page_bytes_held;
    struct tcw_member_page *page;
    struct fake_memory memories[FAKE_MEMORIES];
    uint64_t next_handle;
    struct tcw_ring ring;
    void *ring_base;
    uint64_t ring_bytes;
    int sq_event, cq_event;
    uint32_t plans;
    int workspace;
    _Atomic uint64_t alloc_limit; /* quota in bytes, 0 none */
    uint64_t allocated;
};

static inline unsigned fake_count(struct fake *fake, unsigned opcode)
{
    return atomic_load(&fake->counts[opcode]);
}

static inline bool fake_lies(struct fake *fake, unsigned opcode, int lie)
{
    return atomic_load(&fake->lie_at) == opcode && atomic_load(&fake->lie) == lie;
}

static void *fake_map(int fd, uint64_t bytes)
{
    void *base = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    assert_ptr_not_equal(base, MAP_FAILED);
    return base;
}

/* Shared memory as asked for, or as the lie wants it. */
static int fake_memfd(struct fake *fake, unsigned opcode, uint64_t bytes)
{
    int fd;

    if (fake_lies(fake, opcode, FAKE_UNSEALED)) {
        fd = memfd_create("lie", MFD_CLOEXEC);
        assert_int_equal(ftruncate(fd, (off_t)bytes), 0);
        return fd;
    }
    fd = tcw_memfd_create("fake", fake_lies(fake, opcode, FAKE_TOO_SMALL) ? 4096 : bytes, 0);
    assert_true(fd >= 0);
    return fd;
}

/* How many this process may open from now on; 0: as many as the system lets it. */
static inline void fake_descriptors(unsigned most)
{
    struct rlimit limit;

    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = most ? most : limit.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

static void fake_send(struct fake *fake, const struct tcw_packet *request, unsigned opcode, const void *payload, int *fds, unsigned count)
{
    unsigned asked = request->header.opcode;
    uint32_t sequence = request->header.sequence;
    struct tcw_error error = {.code = TCW_EQUOTA, .rank = TCW_NOBODY, .text = "the fake refuses"};
    struct tcw_ok ok = {0};
    unsigned char raw[256] = {0};
    struct tcw_header header = {.magic = TCW_MESSAGE_MAGIC, .length = sizeof(ok), .opcode = TCW_MSG_OK, .sequence = sequence};
    unsigned i;

    if (atomic_load(&fake->lie_at) != asked) {
        tcw_channel_send(fake->connection, opcode, sequence, FAKE_GENERATION, payload, fds, count);
    } else {
        switch (atomic_load(&fake->lie)) {
        case FAKE_HANG_UP:
            shutdown(fake->connection, SHUT_RDWR);
            break;
        case FAKE_SILENCE:
            break;
        case FAKE_REFUSE:
            tcw_channel_send(fake->connection, TCW_MSG_ERROR, sequence, FAKE_GENERATION, &error, NULL, 0);
            break;
        case FAKE_WRONG_OPCODE:
            tcw_channel_send(fake->connection, opcode == TCW_MSG_OK ? TCW_MSG_DRAINING : TCW_MSG_OK, sequence, FAKE_GENERATION, &ok, NULL,
                             0);
            break;
        case FAKE_WRONG_SEQUENCE:
            tcw_channel_send(fake->connection, opcode, sequence + 1000, FAKE_GENERATION, payload, fds, count);
            break;
        case FAKE_SHORT_PACKET:
            send(fake->connection, &header, 7, MSG_NOSIGNAL);
            break;
        case FAKE_BAD_MAGIC:
            header.magic++;
            memcpy(raw, &header, sizeof(header));
            send(fake->connection, raw, sizeof(header) + sizeof(ok), MSG_NOSIGNAL);
            break;
        case FAKE_GARBAGE:
            memset(raw, 0xa5, sizeof(raw));
            send(fake->connection, raw, sizeof(raw), MSG_NOSIGNAL);
            break;
        case FAKE_NO_FDS:
            tcw_channel_send(fake->connection, opcode, sequence, FAKE_GENERATION, payload, NULL, 0);
            break;
        case FAKE_GOODBYE:
            tcw_text_set(error.text, sizeof(error.text), "maintenance");
            tcw_channel_send(fake->connection, TCW_MSG_GOODBYE, 0, FAKE_GENERATION, &error, NULL, 0);
            shutdown(fake->connection, SHUT_RDWR);
            break;
        case FAKE_STARVE:
            fake_descriptors(3);
            tcw_channel_send(fake->connection, opcode, sequence, FAKE_GENERATION, payload, fds, count);
            break;
        default:
            tcw_channel_send(fake->connection, opcode, sequence, FAKE_GENERATION, payload, fds, count);
            break;
        }
    }
    for (i = 0; i < count; i++)
        close(fds[i]);
}

static void fake_hello(struct fake *fake, const struct tcw_packet *request)
{
    struct tcw_hello_ok ok = {.abi = TCW_ABI_MAX,
                              .device = 0,
                              .features = TCW_FEATURES_KNOWN,
                              .generation = FAKE_GENERATION,
                              .client_id = FAKE_CLIENT,
                              .max_in_flight = FAKE_RING,
                              .spin_us = 10,
                              .version = "fake",
                              .join_ms = FAKE_PEERS_MS,
                              .plan_ms = FAKE_PEERS_MS};

    if (fake_lies(fake, TCW_MSG_HELLO, FAKE_BAD_ABI))
        ok.abi = 99;
    if (fake_lies(fake, TCW_MSG_HELLO, FAKE_NEW_FEATURES))
        ok.features |= 1u << 20;
    fake_send(fake, request, TCW_MSG_HELLO_OK, &ok, NULL, 0);
}

static void fake_ready(struct fake *fake, const struct tcw_packet *request)
{
    struct tcw_group_ready ready = {.group_id = 1000 + atomic_load(&fake->counts[request->header.opcode]),
                                    .epoch = 1,
                                    .size = 1,
                                    .spin_us = 10,
                                    .page_bytes = tcw_member_page_bytes()};
    uint64_t deadline_ns = 200000000;
    int fd = fake_memfd(fake, request->header.opcode, ready.page_bytes);

    ready.peers[0].pid = getpid();
    if (fake->devices)
        fake->devices->ready(fake, &ready);
    if (fake->page)
        munmap(fake->page, tcw_member_page_bytes());
    fake->page = NULL;
    if (!fake_lies(fake, request->header.opcode, FAKE_TOO_SMALL)) {
        fake->page = fake_map(fd, ready.page_bytes);
        tcw_member_page_format(fake->page, ready.group_id, ready.epoch, 0, ready.size, deadline_ns);
        if (fake_lies(fake, request->header.opcode, FAKE_BAD_CONTENT))
            fake->page->abi++;
    }
    /* A new membership has a new ring and new workspaces. */
    if (fake->ring_base)
        munmap(fake->ring_base, fake->ring_bytes);
    fake->ring_base = NULL;
    fake->workspace = 0;
    fake_send(fake, request, TCW_MSG_GROUP_READY, &ready, &fd, 1);
}

static void fake_ring(struct fake *fake, struct tcw_plan_ready *ready, int *fds)
{
    uint64_t bytes = tcw_ring_bytes(FAKE_RING, FAKE_RING, fake->devices != NULL);
    int *ring_fds = fds + ready->workspace_fds;

    ready->ring_bytes = bytes;
    ring_fds[0] = fake_memfd(fake, TCW_MSG_PLAN_CREATE, bytes);
    if (fake->sq_event >= 0) {
        close(fake->sq_event);
        close(fake->cq_event);
    }
    fake->sq_event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    fake->cq_event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (fake_lies(fake, TCW_MSG_PLAN_CREATE, FAKE_PIPES)) {
        assert_int_equal(pipe2(ring_fds + 1, O_CLOEXEC), 0);
    } else {
        ring_fds[1] = dup(fake->sq_event);
        ring_fds[2] = dup(fake->cq_event);
    }
    if (fake_lies(fake, TCW_MSG_PLAN_CREATE, FAKE_TOO_SMALL))
        return;
    fake->ring_bytes = bytes;
    fake->ring_base = fake_map(ring_fds[0], bytes);
    assert_int_equal(tcw_ring_format(fake->ring_base, bytes, FAKE_RING, FAKE_RING, fake->devices != NULL, FAKE_CLIENT, FAKE_GENERATION), 0);
    assert_int_equal(tcw_ring_open(&fake->ring, fake->ring_base, bytes, fake->sq_event, fake->cq_event), 0);
    if (fake_lies(fake, TCW_MSG_PLAN_CREATE, FAKE_BAD_CONTENT))
        ((struct tcw_ring_header *)fake->ring_base)->abi++;
}

static void fake_plan(struct fake *fake, const struct tcw_packet *request)
{
    struct tcw_plan_ready ready = {.plan = ++fake->plans, .plan_id = fake->plans, .decision.step_count = 1, .reason = "because"};
    int fds[TCW_MAX_FDS];
    unsigned count;

    ready.decision.lane = fake_lies(fake, TCW_MSG_PLAN_CREATE, FAKE_BAD_LANE) ? 9 : atomic_load(&fake->lane);
    ready.decision.steps[0] = (struct tcw_decision_step){.max_bytes = UINT64_MAX, .strategy = TCW_STRATEGY_ONESHOT};
    if (ready.decision.lane == TCW_LANE_DIRECT && fake->devices) {
        fake->devices->workspaces(fake, &ready, fds);
    } else if (ready.decision.lane == TCW_LANE_DIRECT) {
        ready.workspace_generation = 1;
        ready.workspace_bytes = FAKE_WORKSPACE;
        ready.workspace_fds = fake->workspace ? 0 : 1;
        if (!fake->workspace)
            fds[0] = fake_memfd(fake, TCW_MSG_PLAN_CREATE, FAKE_WORKSPACE);
        fake->workspace = 1;
    } else if (!fake->ring_base) {
        fake_ring(fake, &ready, fds);
    }
    count = ready.workspace_fds + (ready.ring_bytes ? 3 : 0);
    if (fake_lies(fake, TCW_MSG_PLAN_CREATE, FAKE_TOO_MANY_FDS))
        fds[count++] = eventfd(0, EFD_CLOEXEC);
    fake_send(fake, request, TCW_MSG_PLAN_READY, &ready, fds, count);
}

static struct fake_memory *fake_memory_find(struct fake *fake, uint64_t handle)
{
    for (int i = 0; i < FAKE_MEMORIES; i++)
        if (fake->memories[i].handle == handle)
            return &fake->memories[i];
    return NULL;
}

static void fake_memory_make(struct fake *fake, struct tcw_packet *request)
{
    bool own = request->header.opcode == TCW_MSG_MEM_ALLOC;
    uint64_t bytes = own ? (request->payload.MEM_ALLOC.bytes + 4095) / 4096 * 4096 : request->payload.MEM_REGISTER.bytes;
    struct tcw_mem_ready ready = {.handle = ++fake->next_handle, .bytes = bytes};
    struct tcw_error quota = {.code = TCW_EQUOTA, .rank = TCW_NOBODY, .text = "no more bytes"};
    struct fake_memory *memory = fake_memory_find(fake, 0);
    int fd;

    if (own && atomic_load(&fake->alloc_limit) && fake->allocated + bytes > atomic_load(&fake->alloc_limit)) {
        fake_send(fake, request, TCW_MSG_ERROR, &quota, NULL, 0);
        return;
    }
    assert_non_null(memory);
    fd = own ? fake_memfd(fake, TCW_MSG_MEM_ALLOC, bytes) : request->fds[0];
    if (!fake_lies(fake, TCW_MSG_MEM_ALLOC, FAKE_TOO_SMALL)) {
        *memory = (struct fake_memory){.handle = ready.handle, .bytes = bytes, .base = fake_map(fd, bytes), .own = own};
        fake->allocated += own ? bytes : 0;
    }
    fake_send(fake, request, TCW_MSG_MEM_READY, &ready, &fd, own ? 1 : 0);
}

static void fake_memory_drop(struct fake *fake, struct fake_memory *memory)
{
    if (fake->devices)
        fake->devices->memory_drop(fake, memory);
    else
        munmap(memory->base, memory->bytes);
    fake->allocated -= memory->own ? memory->bytes : 0;
    memset(memory, 0, sizeof(*memory));
}

static void fake_answer(struct fake *fake, struct tcw_packet *request)
{
    struct tcw_ok ok = {0};
    struct fake_memory *memory;

    atomic_fetch_add(&fake->counts[request->header.opcode], 1);
    switch (request->header.opcode) {
    case TCW_MSG_HELLO:
        fake_hello(fake, request);
        break;
    case TCW_MSG_GROUP_JOIN:
    case TCW_MSG_GROUP_REFORM:
        fake_ready(fake, request);
        break;
    case TCW_MSG_PLAN_CREATE:
        fake_plan(fake, request);
        break;
    case TCW_MSG_MEM_ALLOC:
    case TCW_MSG_MEM_REGISTER:
        if (fake->devices)
            fake->devices->memory(fake, request);
        else
            fake_memory_make(fake, request);
        break;
    case TCW_MSG_GROUP_REPORT:
        break; /* has no answer */
    case TCW_MSG_MEM_FREE:
        memory = fake_memory_find(fake, request->payload.MEM_FREE.handle);
        if (memory)
            fake_memory_drop(fake, memory);
        fake_send(fake, request, TCW_MSG_OK, &ok, NULL, 0);
        break;
    default:
        fake_send(fake, request, TCW_MSG_OK, &ok, NULL, 0);
        break;
    }
    tcw_packet_close_fds(request);
}

/* The executor: copies every input to the output of the same position, which is what a group of one does. */
static void fake_execute_free(struct fake *fake)
{
    static struct tcw_request request;
    struct tcw_cqe cqe = {.culprit = 0xffff};
    struct fake_memory *from, *to;
    const char *why;

    if (!fake->ring_base || (atomic_load(&fake->hold) && !atomic_load(&fake->finish_one)))
        return;
    while (tcw_ring_take(&fake->ring, &request, &why) == 1) {
        atomic_fetch_add(&fake->served, 1);
        cqe.user_data = atomic_load(&fake->corrupt) ? 12345 : request.head.user_data;
        cqe.result = atomic_load(&fake->result);
        cqe.start_ns = tcw_now_ns();
        if (!cqe.result && request.head.ref_count == 2 && request.refs[0].length) {
            from = fake_memory_find(fake, request.refs[0].handle);
            to = fake_memory_find(fake, request.refs[1].handle);
            if (!from || !to || request.refs[0].offset + request.refs[0].length > from->bytes ||
                request.refs[1].offset + request.refs[1].length > to->bytes || request.refs[0].length != request.refs[1].length)
                cqe.result = TCW_EINVAL;
            else
                memmove(to->base + request.refs[1].offset, from->base + request.refs[0].offset, request.refs[0].length);
        }
        cqe.end_ns = tcw_now_ns();
        tcw_ring_complete(&fake->ring, &cqe);
        if (atomic_exchange(&fake->finish_one, false))
            return;
    }
}

static void fake_execute(struct fake *fake)
{
    pthread_mutex_lock(&fake->executing);
    if (fake->devices)
        fake->devices->execute(fake);
    else
        fake_execute_free(fake);
    pthread_mutex_unlock(&fake->executing);
}

/* From the return on the executor takes nothing, not even with a look that had begun before. */
static inline void fake_hold(struct fake *fake)
{
    pthread_mutex_lock(&fake->executing);
    atomic_store(&fake->hold, true);
    pthread_mutex_unlock(&fake->executing);
}

static void fake_forget(struct fake *fake)
{
    for (int i = 0; i < FAKE_MEMORIES; i++)
        if (fake->memories[i].handle)
            fake_memory_drop(fake, &fake->memories[i]);
    if (fake->page)
        munmap(fake->page, tcw_member_page_bytes());
    fake->page = NULL;
    if (fake->ring_base)
        munmap(fake->ring_base, fake->ring_bytes);
    fake->ring_base = NULL;
    if (fake->sq_event >= 0) {
        close(fake->sq_event);
        close(fake->cq_event);
    }
    fake->sq_event = fake->cq_event = -1;
    if (fake->devices)
        fake->devices->forget(fake);
    if (fake->connection >= 0)
        close(fake->connection);
    fake->connection = -1;
}

static void *fake_loop(void *arg)
{
    struct fake *fake = arg;
    struct tcw_packet packet;
    const char *why = "";
    int got;

    while (!atomic_load(&fake->stop)) {
        struct pollfd news[2] = {{.fd = fake->connection < 0 ? fake->listener : fake->connection, .events = POLLIN},
                                 {.fd = fake->sq_event, .events = 0}};

        poll(news, 2, 1);
        if (fake->connection < 0) {
            fake->connection = accept4(fake->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
            continue;
        }
        fake_execute(fake);
        got = tcw_channel_receive(fake->connection, &packet, &why);
        if (got == 1)
            fake_answer(fake, &packet);
        else if (got < 0)
            fake_forget(fake);
    }
    fake_forget(fake);
    return NULL;
}

static struct fake *fake_make(void)
{
    struct fake *fake = calloc(1, sizeof(*fake));

    assert_non_null(fake);
    return fake;
}

static void fake_begin(struct fake *fake)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    snprintf(fake->folder, sizeof(fake->folder), "/tmp/trtcoll-fake-XXXXXX");
    assert_non_null(mkdtemp(fake->folder));
    snprintf(fake->path, sizeof(fake->path), "%s/trtcolld.sock", fake->folder);
    snprintf(address.sun_path, sizeof(address.sun_path), "%s", fake->path);
    fake->connection = fake->sq_event = fake->cq_event = -1;
    atomic_store(&fake->lane, TCW_LANE_DIRECT);
    fake->listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    assert_int_equal(bind(fake->listener, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(listen(fake->listener, 8), 0);
    assert_int_equal(pthread_mutex_init(&fake->executing, NULL), 0);
    assert_int_equal(pthread_create(&fake->thread, NULL, fake_loop, fake), 0);
}

static inline struct fake *fake_start(void)
{
    struct fake *fake = fake_make();

    fake_begin(fake);
    return fake;
}

static void fake_stop(struct fake *fake)
{
    atomic_store(&fake->stop, true);
    pthread_join(fake->thread, NULL);
    pthread_mutex_destroy(&fake->executing);
    close(fake->listener);
    unlink(fake->path);
    rmdir(fake->folder);
    free(fake);
}

static inline int fake_setup(void **state)
{
    *state = fake_start();
    return 0;
}

static inline int fake_teardown(void **state)
{
    fake_stop(*state);
    return 0;
}

static inline void fake_lie(struct fake *fake, unsigned opcode, int lie)
{
    atomic_store(&fake->lie, lie);
    atomic_store(&fake->lie_at, opcode);
}

/* Waits for something that the fake's thread does; fails the test if it never comes. */
#define fake_await(condition)                                                                                                              \
    do {                                                                                                                                   \
        int rounds_ = 0;                                                                                                                   \
        while (!(condition)) {                                                                                                             \
            assert_true(rounds_++ < 5000);                                                                                                 \
            poll(NULL, 0, 1);                                                                                                              \
        }                                                                                                                                  \
    } while (0)

/* ---- the client's side ---- */

static inline int fake_open(struct fake *fake, struct trtcoll_ctx **ctx)
{
    struct trtcoll_ctx_options options = TRTCOLL_CTX_OPTIONS_INIT;

    options.socket_path = fake->path;
    options.timeout_ms = FAKE_TIMEOUT_MS;
    return trtcoll_ctx_open(&options, ctx);
}

/* A group of one with an fp32 all-reduce of up to `tokens` elements. */
struct fake_client {
    struct trtcoll_ctx *ctx;
    struct trtcoll_group *group;
    struct trtcoll_plan *plan;
};

static inline struct fake_client fake_attach(struct fake *fake, unsigned lane, uint64_t tokens)
{
    struct trtcoll_all_reduce_desc desc = TRTCOLL_ALL_REDUCE_DESC_INIT;
    struct fake_client client;

    atomic_store(&fake->lane, lane);
    desc.dtype = TRTCOLL_FP32;
    desc.max_tokens = tokens;
    assert_int_equal(fake_open(fake, &client.ctx), 0);
    assert_int_equal(trtcoll_group_create(client.ctx, "g", fake->devices ? 2 : 1, 0, 0, &client.group), 0);
    assert_int_equal(trtcoll_plan_create_all_reduce(client.group, &desc, &client.plan), 0);
    return client;
}

static inline int fake_run(struct fake_client *client, const float *in, float *out, uint64_t tokens, struct trtcoll_event **event)
{
    struct trtcoll_run_args args = TRTCOLL_RUN_ARGS_INIT;

    args.tokens = tokens;
    args.in = in;
    args.out = out;
    return trtcoll_plan_run(client->plan, &args, NULL, event);
}

static inline unsigned fake_open_fds(void)
{
    DIR *folder = opendir("/proc/self/fd");
    unsigned count = 0;

    assert_non_null(folder);
    while (readdir(folder))
        count++;
    closedir(folder);
    return count;
}

static inline const char *fake_text(void)
{
    static struct trtcoll_error error;

    error = (struct trtcoll_error)TRTCOLL_ERROR_INIT;
    trtcoll_last_error(&error);
    return error.text;
}

#endif
