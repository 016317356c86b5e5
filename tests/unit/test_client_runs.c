/* What a run may bring, what the names may be, and which plans the one-call forms keep. */
#include "client_fixture.h"

enum { COUNT = 16 };

static void expect_text(int code, int expected, const char *part)
{
    if (code != expected)
        fail_msg("%s instead of %s: %s", trtcoll_error_name(code), trtcoll_error_name(expected), fake_text());
    if (!strstr(fake_text(), part))
        fail_msg("\"%s\" does not say \"%s\"", fake_text(), part);
}

static void test_arguments(void **state)
{
    struct fake_client client = fake_attach(*state, TCW_LANE_DIRECT, COUNT);
    struct trtcoll_run_args args = TRTCOLL_RUN_ARGS_INIT, good;
    float in[COUNT + 1] = {1}, out[COUNT] = {0};
    struct trtcoll_event *event = NULL;
    const void *list[1] = {in};

    args.tokens = COUNT;
    args.in = in;
    args.out = out;
    good = args;
    args.tokens = COUNT + 1;
    expect_text(trtcoll_plan_run(client.plan, &args, NULL, &event), TRTCOLL_EINVAL, "1 to 16");
    args.tokens = 0;
    expect_text(trtcoll_plan_run(client.plan, &args, NULL, &event), TRTCOLL_EINVAL, "tokens is 0");
    args = good;
    args.out = NULL;
    expect_text(trtcoll_plan_run(client.plan, &args, NULL, &event), TRTCOLL_EINVAL, "args.out is NULL");
    args = good;
    args.bias = in;
    expect_text(trtcoll_plan_run(client.plan, &args, NULL, &event), TRTCOLL_EINVAL, "args.bias is set");
    args = good;
    args.in_list = list;
    expect_text(trtcoll_plan_run(client.plan, &args, NULL, &event), TRTCOLL_EINVAL, "takes no lists");
    args = good;
    args.in = (const char *)in + 2;
    expect_text(trtcoll_plan_run(client.plan, &args, NULL, &event), TRTCOLL_EINVAL, "not aligned");
    args = good;
    args.flags = 1;
    expect_text(trtcoll_plan_run(client.plan, &args, NULL, &event), TRTCOLL_EINVAL, "flags");
    expect_text(trtcoll_plan_run(client.plan, &good, (struct CUstream_st *)in, &event), TRTCOLL_EINVAL, "stream");
    expect_text(trtcoll_plan_run(client.plan, NULL, NULL, &event), TRTCOLL_EINVAL, "NULL");
    expect_text(trtcoll_plan_run(NULL, &good, NULL, &event), TRTCOLL_EINVAL, "plan is NULL");
    assert_null(event);
    assert_int_equal(trtcoll_plan_run(client.plan, &good, NULL, &event), 0);
    assert_int_equal(trtcoll_event_query(event), 0);
    trtcoll_event_put(event);
    trtcoll_event_put(NULL);
    assert_int_equal(trtcoll_plan_release(NULL), 0);
    trtcoll_ctx_close(client.ctx);
    trtcoll_ctx_close(NULL);
}

/* One tensor may come alone or as a list of one; several only as a list. */
static void test_lists(void **state)
{
    struct fake_client client = fake_attach(*state, TCW_LANE_DIRECT, COUNT);
    struct trtcoll_tensor tensors[3] = {{.present = 1, .dtype = TRTCOLL_FP32, .ndim = 1, .shape = {4}},
                                        {.present = 0},
                                        {.present = 1, .dtype = TRTCOLL_INT8, .ndim = 1, .shape = {3}}};
    struct trtcoll_gather_desc desc = TRTCOLL_GATHER_DESC_INIT;
    struct trtcoll_run_args args = TRTCOLL_RUN_ARGS_INIT;
    float in[4] = {1, 2, 3, 4}, out[4] = {0};
    signed char bytes[3] = {7, 8, 9}, bytes_out[3] = {0};
    const void *in_list[3] = {in, (const void *)1, bytes};
    void *out_list[3] = {out, (void *)1, bytes_out};
    struct trtcoll_plan *one, *three;

    desc.tensors = tensors;
    assert_int_equal(trtcoll_plan_create_all_gather(client.group, &desc, &one), 0);
    desc.tensor_count = 3;
    assert_int_equal(trtcoll_plan_create_all_gather(client.group, &desc, &three), 0);
    args.in = in;
    args.out = out;
    assert_int_equal(trtcoll_plan_run(one, &args, NULL, NULL), 0);
    assert_memory_equal(in, out, sizeof(in));
    expect_text(trtcoll_plan_run(three, &args, NULL, NULL), TRTCOLL_EINVAL, "in_list");
    memset(out, 0, sizeof(out));
    args.in = NULL;
    args.in_list = in_list;
    assert_int_equal(trtcoll_plan_run(one, &args, NULL, NULL), 0); /* each side as it likes */
    assert_memory_equal(in, out, sizeof(in));
    args.out_list = out_list;
    expect_text(trtcoll_plan_run(three, &args, NULL, NULL), TRTCOLL_EINVAL, "must be NULL");
    args.out = NULL;
    memset(out, 0, sizeof(out));
    assert_int_equal(trtcoll_plan_run(three, &args, NULL, NULL), 0);
    assert_memory_equal(in, out, sizeof(in));
    assert_memory_equal(bytes, bytes_out, sizeof(bytes));
    in_list[2] = NULL;
    expect_text(trtcoll_plan_run(three, &args, NULL, NULL), TRTCOLL_EINVAL, "args.in is NULL in a list");
    trtcoll_ctx_close(client.ctx);
}

/* Nothing of the last 64 plans is made again; of 65, the one unused for longest is. */
static void test_cache(void **state)
{
    struct fake *fake = *state;
    struct fake_client client = fake_attach(fake, TCW_LANE_DIRECT, COUNT);
    unsigned made = fake_count(fake, TCW_MSG_PLAN_CREATE);
    char in[80] = {1}, out[80];

    for (unsigned count = 1; count <= 64; count++)
        assert_int_equal(trtcoll_broadcast(client.group, in, out, count, TRTCOLL_INT8, 0), 0);
    for (unsigned count = 1; count <= 64; count++)
        assert_int_equal(trtcoll_broadcast(client.group, in, out, count, TRTCOLL_INT8, 0), 0);
    assert_int_equal(fake_count(fake, TCW_MSG_PLAN_CREATE), made + 64);
    assert_int_equal(fake_count(fake, TCW_MSG_PLAN_RELEASE), 0);
    assert_int_equal(trtcoll_broadcast(client.group, in, out, 1, TRTCOLL_INT8, 0), 0); /* used: 2 is the oldest now */
    assert_int_equal(trtcoll_broadcast(client.group, in, out, 65, TRTCOLL_INT8, 0), 0);
    assert_int_equal(fake_count(fake, TCW_MSG_PLAN_RELEASE), 1);
    assert_int_equal(trtcoll_broadcast(client.group, in, out, 1, TRTCOLL_INT8, 0), 0);
    assert_int_equal(fake_count(fake, TCW_MSG_PLAN_CREATE), made + 65);
    assert_int_equal(trtcoll_broadcast(client.group, in, out, 2, TRTCOLL_INT8, 0), 0);
    assert_int_equal(fake_count(fake, TCW_MSG_PLAN_CREATE), made + 66);
    trtcoll_ctx_close(client.ctx);
}

/* Sizes are rounded up: few plans serve all. */
static void test_one_call_sizes(void **state)
{
    struct fake *fake = *state;
    struct fake_client client = fake_attach(fake, TCW_LANE_DIRECT, COUNT);
    unsigned made = fake_count(fake, TCW_MSG_PLAN_CREATE);
    int in[100], out[100];

    for (int i = 0; i < 100; i++)
        in[i] = i;
    for (unsigned count = 33; count <= 64; count++) {
        memset(out, 0xff, sizeof(out));
        assert_int_equal(trtcoll_all_reduce(client.group, in, out, count, TRTCOLL_INT32, TRTCOLL_MAX), 0);
        assert_memory_equal(in, out, count * sizeof(int));
        assert_int_equal(out[count], -1);
        assert_int_equal(trtcoll_all_gather(client.group, in, out, count, TRTCOLL_INT32), 0);
        assert_int_equal(trtcoll_reduce_scatter(client.group, in, out, count, TRTCOLL_INT32, TRTCOLL_SUM), 0);
        assert_int_equal(out[count], -1);
    }
    assert_int_equal(fake_count(fake, TCW_MSG_PLAN_CREATE), made + 3);
    assert_int_equal(trtcoll_barrier(client.group), 0);
    expect_text(trtcoll_all_reduce(client.group, in, out, 0, TRTCOLL_INT32, TRTCOLL_MAX), TRTCOLL_EINVAL, "count is 0");
    expect_text(trtcoll_all_gather(client.group, in, out, UINT64_MAX, TRTCOLL_INT32), TRTCOLL_EINVAL, "");
    expect_text(trtcoll_reduce_scatter(client.group, in, out, UINT64_MAX, TRTCOLL_INT32, 0), TRTCOLL_EINVAL, "");
    expect_text(trtcoll_all_reduce(client.group, in, out, UINT64_MAX, TRTCOLL_INT32, 0), TRTCOLL_EINVAL, "max_tokens");
    expect_text(trtcoll_all_reduce(NULL, in, out, 1, TRTCOLL_INT32, 0), TRTCOLL_EINVAL, "group is NULL");
    trtcoll_ctx_close(client.ctx);
}

static void test_group_names(void **state)
{
    struct trtcoll_group *group = NULL;
    struct trtcoll_ctx *ctx;
    char name[80];

    assert_int_equal(fake_open(*state, &ctx), 0);
    memset(name, 'a', sizeof(name));
    name[64] = 0;
    expect_text(trtcoll_group_create(ctx, name, 1, 0, 0, &group), TRTCOLL_EINVAL, "63");
    expect_text(trtcoll_group_create(ctx, "", 1, 0, 0, &group), TRTCOLL_EINVAL, "63");
    expect_text(trtcoll_group_create(ctx, NULL, 1, 0, 0, &group), TRTCOLL_EINVAL, "63");
    expect_text(trtcoll_group_create(ctx, "a b", 1, 0, 0, &group), TRTCOLL_EINVAL, "a b");
    expect_text(trtcoll_group_create(ctx, "g", 65, 0, 0, &group), TRTCOLL_EINVAL, "size is 65");
    expect_text(trtcoll_group_create(ctx, "g", 0, 0, 0, &group), TRTCOLL_EINVAL, "size is 0");
    expect_text(trtcoll_group_create(ctx, "g", 2, 2, 0, &group), TRTCOLL_EINVAL, "rank is 2");
    expect_text(trtcoll_group_join(ctx, "g", -2, 0, &group), TRTCOLL_EINVAL, "rank is -2");
    expect_text(trtcoll_group_join(NULL, "g", 0, 0, &group), TRTCOLL_EINVAL, "NULL");
    assert_null(group);
    name[63] = 0;
    assert_int_equal(trtcoll_group_create(ctx, name, 1, 0, 0, &group), 0);
    trtcoll_ctx_close(ctx);
}

/* Structures that the library fills: as much as the caller has, and zero beyond what the library knows. */
static void test_out_structures(void **state)
{
    struct fake_client client = fake_attach(*state, TCW_LANE_DIRECT, COUNT);
    struct {
        struct trtcoll_group_info known;
        unsigned char future[16];
    } larger;
    _Alignas(struct trtcoll_group_info) unsigned char raw[sizeof(struct trtcoll_group_info)];
    struct trtcoll_group_info *smaller = (struct trtcoll_group_info *)raw;

    memset(&larger, 0xff, sizeof(larger));
    larger.known.size = sizeof(larger);
    assert_int_equal(trtcoll_group_status(client.group, &larger.known), 0);
    assert_int_equal(larger.known.size, sizeof(larger));
    assert_int_equal(larger.known.nranks, 1);
    assert_string_equal(larger.known.name, "g");
    assert_int_equal(larger.future[0] | larger.future[15], 0);
    memset(raw, 0xff, sizeof(raw));
    smaller->size = 16;
    assert_int_equal(trtcoll_group_status(client.group, smaller), 0);
    assert_int_equal(smaller->state, TRTCOLL_GROUP_READY);
    assert_int_equal(raw[16], 0xff);
    smaller->size = 2;
    assert_int_equal(trtcoll_group_status(client.group, smaller), TRTCOLL_EINVAL);
    assert_int_equal(trtcoll_group_status(client.group, NULL), TRTCOLL_EINVAL);
    trtcoll_ctx_close(client.ctx);
}

static void test_words(void **state)
{
    (void)state;
    assert_string_equal(trtcoll_error_name(TRTCOLL_EPEERDEAD), "TRTCOLL_EPEERDEAD");
    assert_string_equal(trtcoll_error_text(TRTCOLL_EPEERDEAD), "a member of the group has died");
    assert_string_equal(trtcoll_error_name(0), "TRTCOLL_OK");
    assert_string_equal(trtcoll_error_name(1), "TRTCOLL_E?");
    assert_string_equal(trtcoll_error_name(-1000), "TRTCOLL_E?");
    assert_string_equal(trtcoll_error_text(-2147483647 - 1), "unknown error");
    assert_string_equal(trtcoll_version(), "0.1.0");
    assert_string_equal(trtcoll_op_name(1), "all-reduce");
    assert_null(trtcoll_op_name(1000));
}

#define with_fake(test) cmocka_unit_test_setup_teardown(test, fake_setup, fake_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        with_fake(test_arguments),   with_fake(test_lists),          with_fake(test_cache),        with_fake(test_one_call_sizes),
        with_fake(test_group_names), with_fake(test_out_structures), cmocka_unit_test(test_words),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
