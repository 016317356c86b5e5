/* A daemon that lies, is silent or goes away at any step costs the client an error, never a crash, a hang or a descriptor. */
#include "client_fixture.h"

struct lie_case {
    unsigned opcode;
    int lie;
    int code;
};

/* Everything a program does, in order, until something fails. */
static int walk(struct fake *fake, unsigned lane)
{
    struct trtcoll_all_reduce_desc desc = TRTCOLL_ALL_REDUCE_DESC_INIT;
    struct trtcoll_run_args args = TRTCOLL_RUN_ARGS_INIT;
    struct trtcoll_ctx *ctx = NULL;
    struct trtcoll_group *group = NULL;
    struct trtcoll_plan *plan = NULL;
    float in[4] = {1, 2, 3, 4}, out[4] = {0};
    void *memory;
    int code;

    atomic_store(&fake->lane, lane);
    desc.dtype = TRTCOLL_FP32;
    desc.max_tokens = 4;
    args.tokens = 4;
    args.in = in;
    args.out = out;
    code = fake_open(fake, &ctx);
    if (!code)
        code = trtcoll_alloc(ctx, 10000, &memory);
    if (!code)
        code = trtcoll_free(ctx, memory);
    if (!code)
        code = trtcoll_group_create(ctx, "g", 1, 0, 0, &group);
    if (!code)
        code = trtcoll_plan_create_all_reduce(group, &desc, &plan);
    if (!code)
        code = trtcoll_plan_run(plan, &args, NULL, NULL);
    if (!code)
        assert_memory_equal(in, out, sizeof(in));
    if (!code)
        code = trtcoll_plan_release(plan);
    if (!code)
        code = trtcoll_group_leave(group);
    trtcoll_ctx_close(ctx);
    return code;
}

static void expect(struct fake *fake, unsigned lane, const struct lie_case *lie)
{
    unsigned before;
    int code;

    fake_await(fake->connection < 0);
    before = fake_open_fds();
    fake_lie(fake, lie->opcode, lie->lie);
    code = walk(fake, lane);
    fake_lie(fake, 0, FAKE_HONEST);
    if (code != lie->code)
        fail_msg("lane %u, lie %d at %s: %s, expected %s (%s)", lane, lie->lie, tcw_message_name(lie->opcode), trtcoll_error_name(code),
                 trtcoll_error_name(lie->code), fake_text());
    if (code)
        assert_true(strlen(fake_text()) > 10);
    fake_await(fake->connection < 0);
    if (fake_open_fds() != before)
        fail_msg("lane %u, lie %d at %s: %u descriptors were open, now %u", lane, lie->lie, tcw_message_name(lie->opcode), before,
                 fake_open_fds());
}

static void test_honest(void **state)
{
    const struct lie_case honest = {0, FAKE_HONEST, 0};

    expect(*state, TCW_LANE_DIRECT, &honest);
    expect(*state, TCW_LANE_SERVED, &honest);
}

/* What can go wrong with any answer. */
static void test_every_request(void **state)
{
    static const unsigned opcodes[] = {TCW_MSG_HELLO, TCW_MSG_MEM_ALLOC, TCW_MSG_GROUP_JOIN, TCW_MSG_PLAN_CREATE};
    static const struct lie_case lies[] = {
        {0, FAKE_HANG_UP, TRTCOLL_ECONN},      {0, FAKE_REFUSE, TRTCOLL_EQUOTA},   {0, FAKE_WRONG_OPCODE, TRTCOLL_EPROTO},
        {0, FAKE_SHORT_PACKET, TRTCOLL_ECONN}, {0, FAKE_BAD_MAGIC, TRTCOLL_ECONN}, {0, FAKE_GARBAGE, TRTCOLL_ECONN},
        {0, FAKE_GOODBYE, TRTCOLL_ECONN},
    };

    for (unsigned i = 0; i < sizeof(opcodes) / sizeof(opcodes[0]); i++)
        for (unsigned j = 0; j < sizeof(lies) / sizeof(lies[0]); j++) {
            struct lie_case lie = lies[j];

            lie.opcode = opcodes[i];
            expect(*state, TCW_LANE_DIRECT, &lie);
            expect(*state, TCW_LANE_SERVED, &lie);
        }
}

/* The deadline of the context ends requests that nobody answers, or not by their number. */
static void test_silence(void **state)
{
    static const struct lie_case lies[] = {
        {TCW_MSG_HELLO, FAKE_SILENCE, TRTCOLL_ETIMEOUT},
        {TCW_MSG_HELLO, FAKE_WRONG_SEQUENCE, TRTCOLL_ETIMEOUT},
        {TCW_MSG_MEM_ALLOC, FAKE_SILENCE, TRTCOLL_ETIMEOUT},
        {TCW_MSG_MEM_ALLOC, FAKE_WRONG_SEQUENCE, TRTCOLL_ETIMEOUT},
    };

    for (unsigned i = 0; i < sizeof(lies) / sizeof(lies[0]); i++)
        expect(*state, TCW_LANE_DIRECT, &lies[i]);
    /* What was granted to a number that nobody waits for was given back. */
    assert_true(fake_count(*state, TCW_MSG_MEM_FREE) >= 1);
}

/* Requests that wait for peers have an end too, when they leave it to the daemon and the daemon is stuck. */
static void test_stuck_daemon(void **state)
{
    struct fake *fake = *state;
    struct fake_client client = fake_attach(fake, TCW_LANE_DIRECT, 4);
    const unsigned opcodes[] = {TCW_MSG_GROUP_JOIN, TCW_MSG_PLAN_CREATE, TCW_MSG_GROUP_REFORM};
    struct trtcoll_barrier_desc barrier = TRTCOLL_BARRIER_DESC_INIT;
    struct trtcoll_group *group;
    struct trtcoll_plan *plan;

    for (unsigned i = 0; i < 3; i++) {
        uint64_t start = tcw_now_ns(), ms;
        int code;

        fake_lie(fake, opcodes[i], FAKE_SILENCE);
        switch (opcodes[i]) {
        case TCW_MSG_GROUP_JOIN:
            code = trtcoll_group_create(client.ctx, "h", 1, 0, 0, &group);
            break;
        case TCW_MSG_PLAN_CREATE:
            code = trtcoll_plan_create_barrier(client.group, &barrier, &plan);
            break;
        default:
            /* the plan that nobody answered has broken the group */
            code = trtcoll_group_reform(client.group, 0, 0);
        }
        ms = (tcw_now_ns() - start) / 1000000;
        fake_lie(fake, 0, FAKE_HONEST);
        assert_int_equal(code, TRTCOLL_ETIMEOUT);
        assert_in_range(ms, FAKE_PEERS_MS + FAKE_TIMEOUT_MS - 1, 5000);
    }
    trtcoll_ctx_close(client.ctx);
}

static void test_hello(void **state)
{
    static const struct lie_case lies[] = {{TCW_MSG_HELLO, FAKE_BAD_ABI, TRTCOLL_EABI}, {TCW_MSG_HELLO, FAKE_NEW_FEATURES, TRTCOLL_EABI}};

    for (unsigned i = 0; i < sizeof(lies) / sizeof(lies[0]); i++)
        expect(*state, TCW_LANE_DIRECT, &lies[i]);
}

static void test_memory(void **state)
{
    static const struct lie_case lies[] = {
        {TCW_MSG_MEM_ALLOC, FAKE_NO_FDS, TRTCOLL_EPROTO},       {TCW_MSG_GROUP_JOIN, FAKE_NO_FDS, TRTCOLL_EPROTO},
        {TCW_MSG_GROUP_JOIN, FAKE_UNSEALED, TRTCOLL_EPROTO},    {TCW_MSG_GROUP_JOIN, FAKE_TOO_SMALL, TRTCOLL_EPROTO},
        {TCW_MSG_GROUP_JOIN, FAKE_BAD_CONTENT, TRTCOLL_EPROTO}, {TCW_MSG_PLAN_CREATE, FAKE_NO_FDS, TRTCOLL_EPROTO},
        {TCW_MSG_PLAN_CREATE, FAKE_BAD_LANE, TRTCOLL_EPROTO},   {TCW_MSG_PLAN_CREATE, FAKE_TOO_MANY_FDS, TRTCOLL_EPROTO},
    };

    for (unsigned i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
        expect(*state, TCW_LANE_DIRECT, &lies[i]);
        expect(*state, TCW_LANE_SERVED, &lies[i]);
    }
}

static void test_ring(void **state)
{
    static const struct lie_case lies[] = {
        {TCW_MSG_PLAN_CREATE, FAKE_UNSEALED, TRTCOLL_EPROTO},
        {TCW_MSG_PLAN_CREATE, FAKE_TOO_SMALL, TRTCOLL_EPROTO},
        {TCW_MSG_PLAN_CREATE, FAKE_PIPES, TRTCOLL_EPROTO},
        {TCW_MSG_PLAN_CREATE, FAKE_BAD_CONTENT, TRTCOLL_EPROTO},
    };

    for (unsigned i = 0; i < sizeof(lies) / sizeof(lies[0]); i++)
        expect(*state, TCW_LANE_SERVED, &lies[i]);
}

/* Whatever the code, memory that could fault or is too short is not used. */
static void test_unusable_memory(void **state)
{
    static const int lies[] = {FAKE_UNSEALED, FAKE_TOO_SMALL};
    struct fake *fake = *state;

    for (unsigned i = 0; i < 2; i++) {
        fake_lie(fake, TCW_MSG_MEM_ALLOC, lies[i]);
        assert_int_not_equal(walk(fake, TCW_LANE_DIRECT), 0);
        fake_lie(fake, TCW_MSG_PLAN_CREATE, lies[i]);
        assert_int_not_equal(walk(fake, TCW_LANE_DIRECT), 0);
    }
}

/* A plan that this rank cannot use must not leave the others waiting for it. */
static void test_unusable_plan_is_reported(void **state)
{
    struct fake *fake = *state;

    fake_lie(fake, TCW_MSG_PLAN_CREATE, FAKE_BAD_LANE);
    assert_int_equal(walk(fake, TCW_LANE_DIRECT), TRTCOLL_EPROTO);
    fake_await(fake_count(fake, TCW_MSG_GROUP_REPORT) == 1);
    assert_true(fake_count(fake, TCW_MSG_PLAN_RELEASE) >= 1);
}

/* A process that has opened too much loses the call, what it was to get is given back, and the connection goes on. */
static void test_out_of_descriptors(void **state)
{
    static const unsigned opcodes[] = {TCW_MSG_MEM_ALLOC, TCW_MSG_GROUP_JOIN, TCW_MSG_PLAN_CREATE};
    static const unsigned given_back[] = {TCW_MSG_MEM_FREE, TCW_MSG_GROUP_LEAVE, TCW_MSG_PLAN_RELEASE};
    static const unsigned lanes[] = {TCW_LANE_DIRECT, TCW_LANE_SERVED};
    struct fake *fake = *state;
    struct trtcoll_all_reduce_desc desc = TRTCOLL_ALL_REDUCE_DESC_INIT;
    struct trtcoll_ctx *ctx;
    struct trtcoll_group *group, *other;
    struct trtcoll_plan *plan;
    unsigned before, reports;
    void *memory;
    int code;

    desc.dtype = TRTCOLL_FP32;
    desc.max_tokens = 4;
    assert_int_equal(fake_open(fake, &ctx), 0);
    for (unsigned i = 0; i < 6; i++) {
        unsigned what = i % 3;

        atomic_store(&fake->lane, lanes[i / 3]);
        assert_int_equal(trtcoll_group_create(ctx, "g", 1, 0, 0, &group), 0);
        before = fake_count(fake, given_back[what]);
        reports = fake_count(fake, TCW_MSG_GROUP_REPORT);
        fake_lie(fake, opcodes[what], FAKE_STARVE);
        if (what == 0)
            code = trtcoll_alloc(ctx, 10000, &memory);
        else if (what == 1)
            code = trtcoll_group_create(ctx, "h", 1, 0, 0, &other);
        else
            code = trtcoll_plan_create_all_reduce(group, &desc, &plan);
        fake_descriptors(0);
        fake_lie(fake, 0, FAKE_HONEST);
        assert_int_equal(code, TRTCOLL_EIO);
        assert_non_null(strstr(fake_text(), "out of file descriptors"));
        fake_await(fake_count(fake, given_back[what]) == before + 1);
        if (what == 2) /* the other ranks must not wait for this one */
            fake_await(fake_count(fake, TCW_MSG_GROUP_REPORT) == reports + 1);
        assert_int_equal(trtcoll_group_leave(group), 0);
    }
    assert_int_equal(trtcoll_alloc(ctx, 10000, &memory), 0);
    trtcoll_ctx_close(ctx);
}

static void test_goodbye_gives_the_reason(void **state)
{
    struct fake *fake = *state;
    struct trtcoll_ctx *ctx;
    void *memory;

    assert_int_equal(fake_open(fake, &ctx), 0);
    fake_lie(fake, TCW_MSG_MEM_ALLOC, FAKE_GOODBYE);
    assert_int_equal(trtcoll_alloc(ctx, 1, &memory), TRTCOLL_ECONN);
    assert_non_null(strstr(fake_text(), "maintenance"));
    assert_int_equal(trtcoll_alloc(ctx, 1, &memory), TRTCOLL_ECONN);
    assert_non_null(strstr(fake_text(), "maintenance"));
    trtcoll_ctx_close(ctx);
}

/* Who names no socket finds the daemon by its own rule. */
static void test_found_by_itself(void **state)
{
    struct fake *fake = *state;
    struct trtcoll_ctx *ctx;

    unsetenv("TRTCOLL_SOCKET");
    setenv("RUNTIME_DIRECTORY", fake->folder, 1);
    assert_int_equal(trtcoll_ctx_open(NULL, &ctx), 0);
    trtcoll_ctx_close(ctx);
    unsetenv("RUNTIME_DIRECTORY");
}

static void test_nobody_listens(void **state)
{
    struct trtcoll_ctx_options options = TRTCOLL_CTX_OPTIONS_INIT;
    struct trtcoll_ctx *ctx = NULL;
    char too_long[300];

    (void)state;
    options.socket_path = "/tmp/trtcoll-nobody/trtcolld.sock";
    assert_int_equal(trtcoll_ctx_open(&options, &ctx), TRTCOLL_ECONN);
    assert_non_null(strstr(fake_text(), "/tmp/trtcoll-nobody/trtcolld.sock"));
    memset(too_long, 'x', sizeof(too_long) - 1);
    too_long[sizeof(too_long) - 1] = 0;
    options.socket_path = too_long;
    assert_int_equal(trtcoll_ctx_open(&options, &ctx), TRTCOLL_EINVAL);
    assert_null(ctx);
}

#define with_fake(test) cmocka_unit_test_setup_teardown(test, fake_setup, fake_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        with_fake(test_honest),
        with_fake(test_every_request),
        with_fake(test_silence),
        with_fake(test_stuck_daemon),
        with_fake(test_hello),
        with_fake(test_memory),
        with_fake(test_ring),
        with_fake(test_unusable_memory),
        with_fake(test_unusable_plan_is_reported),
        with_fake(test_out_of_descriptors),
        with_fake(test_goodbye_gives_the_reason),
        with_fake(test_found_by_itself),
        cmocka_unit_test(test_nobody_listens),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
