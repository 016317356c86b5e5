/* The served lane of CUDA devices: what real executor processes make of requests, operation by operation, and of several groups at once. */
#include "executor_cuda_fixture.h"

#include <math.h>

enum { IN = 0, OUT = 1 << 20, MORE = 2 << 20, LAST = 3 << 20, TOKENS = 8, HIDDEN = 64, COUNT = TOKENS * HIDDEN };

static float value_of(unsigned rank, unsigned run, unsigned i)
{
    return (float)((rank + 1) * 3 + run % 17 + i % 11);
}

static float sum_of(unsigned nranks, unsigned run, unsigned i)
{
    float sum = 0;
    for (unsigned r = 0; r < nranks; ++r)
        sum += value_of(r, run, i);
    return sum;
}

static struct tcw_sqe sum_head(uint64_t plan, uint32_t tokens, uint64_t user_data)
{
    return (struct tcw_sqe){.op = TCW_OP_ALL_REDUCE, .plan = plan, .user_data = user_data, .tokens = tokens, .ref_count = 2};
}

/* One fp32 sum of `plan` on all ranks, checked element by element. */
static void run_sum(struct world *world, struct group *group, uint64_t plan, unsigned run)
{
    static float data[COUNT];
    uint64_t numbers[WORLD_MAX];
    const struct tcw_ref refs[2] = {client_ref(IN, sizeof data), client_ref(OUT, sizeof data)};
    struct tcw_sqe head = sum_head(plan, TOKENS, 1000 + run);
    for (unsigned r = 0; r < world->nranks; ++r) {
        for (unsigned i = 0; i < COUNT; ++i)
            data[i] = value_of(r, run, i);
        client_write(world, r, IN, data, sizeof data);
        numbers[r] = client_run(&group->members[r], &head, refs);
    }
    for (unsigned r = 0; r < world->nranks; ++r) {
        struct tcw_cqe cqe = client_reap(&group->members[r]);
        assert_int_equal(cqe.result, 0);
        assert_int_equal(cqe.user_data, 1000 + run);
        assert_int_equal(cqe.culprit, 0xffff);
        assert_true(client_is_done(&group->members[r], numbers[r]));
        client_read(world, r, OUT, data, sizeof data);
        for (unsigned i = 0; i < COUNT; ++i)
            assert_true(data[i] == sum_of(world->nranks, run, i));
    }
}

static void plan_sum(struct world *world, const struct group *group, uint64_t handle, uint32_t strategy, uint64_t generation)
{
    struct tcw_plan_desc desc = plan_all_reduce(TCW_FP32, TCW_FUSION_NONE, TOKENS, HIDDEN);
    group_plan(world, group, handle, &desc, strategy, generation);
}

static void open_all(struct world *world, struct group *group, unsigned nranks)
{
    world_open(world, nranks);
    group_open(world, group, 77, COMMUNICATOR);
}

static void close_all(struct world *world, struct group *group)
{
    assert_int_equal(world->report_count, 0);
    group_close(world, group);
    world_close(world);
}

/* ---- the process ---- */

static void test_facts(void **state)
{
    struct executor executor;
    (void)state;
    executor_start(&executor, 1, "1");
    assert_int_equal(executor.ready.code, 0);
    const struct tcd_ex_facts facts = executor.ready.facts;
    assert_int_equal(executor.ready.value, (uint64_t)executor.pid);
    assert_true(facts.device.name[0] && facts.device.memory_bytes && facts.device.stream_words);
    assert_int_equal(facts.device.ordinal, 1);
    assert_true(facts.library >= 22800);
    assert_string_equal(facts.library_why, "");
    struct tcd_ex_message quit = {.opcode = TCD_EX_QUIT};
    assert_int_equal(tcd_ex_send(executor.socket, &quit, NULL, 0), 0);
    assert_int_equal(executor_wait(&executor), 0);

    char uuid[80] = "GPU-";
    for (unsigned i = 0; i < TCK_UUID_BYTES; ++i)
        sprintf(uuid + strlen(uuid), "%02x%s", facts.device.uuid[i], i == 3 || i == 5 || i == 7 || i == 9 ? "-" : "");
    executor_start(&executor, 0, uuid);
    assert_int_equal(executor.ready.code, 0);
    assert_int_equal(executor.ready.facts.device.ordinal, 1);
    close(executor.socket); /* the control process is gone */
    executor.socket = dup(0);
    assert_int_equal(executor_wait(&executor), 0);
}

static void test_no_such_device(void **state)
{
    static const char *const names[] = {"99", "GPU-00000000-1111-2222-3333-444444444444", "first", ""};
    (void)state;
    for (unsigned i = 0; i < 4; ++i) {
        struct executor executor;
        executor_start(&executor, 0, names[i]);
        assert_int_equal(executor.ready.code, i < 2 ? TCW_ENOTSUP : TCW_EINVAL);
        assert_true(executor.ready.text[0]);
        assert_int_equal(executor_wait(&executor), 1);
    }
}

/* ---- sums ---- */

static void test_sums(void **state)
{
    (void)state;
    for (unsigned nranks = 1; nranks <= WORLD_MAX; nranks *= 2) {
        struct world world;
        struct group group;
        open_all(&world, &group, nranks);
        plan_sum(&world, &group, 9, TCW_STRATEGY_NCCL, 0);
        for (unsigned run = 0; run < 40; ++run)
            run_sum(&world, &group, 9, run);
        for (unsigned r = 0; r < nranks; ++r) {
            const struct tcw_member_page *page = group.members[r].page;
            assert_int_equal(atomic_load(&page->runs_finished), 40);
            assert_int_equal(atomic_load(&page->op_count[TCW_OP_ALL_REDUCE]), 40);
            assert_int_equal(atomic_load(&page->plan_hash), atomic_load(&group.members[0].page->plan_hash));
            assert_int_equal(page->records[0].strategy, TCW_STRATEGY_NCCL);
            assert_int_equal(page->records[0].lane, TCW_LANE_SERVED);
        }
        close_all(&world, &group);
    }
}

/* As many in flight as the ring allows; nobody's inputs are there before all are posted. Completions keep the order. */
static void test_many_in_flight(void **state)
{
    static float data[COUNT];
    struct world world;
    struct group group;
    const uint64_t row = HIDDEN * sizeof(float);
    (void)state;
    open_all(&world, &group, 2);
    plan_sum(&world, &group, 9, TCW_STRATEGY_NCCL, 0);
    for (unsigned i = 0; i < COUNT; ++i)
        data[i] = 1;
    for (unsigned round = 0; round < 3; ++round) {
        uint64_t first[2];
        for (unsigned r = 0; r < 2; ++r)
            client_write(&world, r, IN, data, sizeof data);
        for (unsigned i = 0; i < RING_ENTRIES; ++i)
            for (unsigned r = 0; r < 2; ++r) {
                const struct tcw_ref refs[2] = {client_ref(IN, row), client_ref(OUT + i * row, row)};
                struct tcw_sqe head = sum_head(9, 1, i);
                uint64_t number = client_submit(&group.members[r], &head, refs);
                first[r] = i ? first[r] : number;
            }
        struct tcw_cqe cqe;
        assert_int_equal(tcw_ring_reap(&group.members[0].ring, &cqe), 0);
        for (unsigned i = 0; i < RING_ENTRIES; ++i)
            for (unsigned r = 0; r < 2; ++r)
                client_ready(&group.members[r], first[r] + i);
        for (unsigned r = 0; r < 2; ++r)
            for (unsigned i = 0; i < RING_ENTRIES; ++i) {
                cqe = client_reap(&group.members[r]);
                assert_int_equal(cqe.result, 0);
                assert_int_equal(cqe.user_data, i);
            }
        float got = 0;
        client_read(&world, 1, OUT + (RING_ENTRIES - 1) * row, &got, sizeof got);
        assert_true(got == 2);
    }
    close_all(&world, &group);
}

/* Refused and empty requests take their turn among the others and raise their words too. */
static void test_probes_between(void **state)
{
    struct world world;
    struct group group;
    (void)state;
    open_all(&world, &group, 2);
    plan_sum(&world, &group, 9, TCW_STRATEGY_NCCL, 0);
    struct tcw_sqe nop = {.op = TCW_OP_NOP, .user_data = 1}, unknown = {.op = TCW_OP_COUNT + 3, .user_data = 2};
    struct member *member = &group.members[0];
    const struct tcw_ref refs[2] = {client_ref(IN, 256), client_ref(OUT, 256)};
    struct tcw_sqe head = sum_head(9, 1, 3);
    client_run(&group.members[1], &head, refs);
    uint64_t sum = client_submit(member, &head, refs);
    uint64_t first = client_submit(member, &nop, NULL), second = client_submit(member, &unknown, NULL);
    WORLD_UNTIL(client_is_done(member, first) && client_is_done(member, second));
    assert_false(client_is_done(member, sum));
    client_ready(member, sum);
    assert_int_equal(client_reap(member).user_data, 3);
    assert_int_equal(client_reap(member).result, 0);
    assert_int_equal(client_reap(member).result, TCW_ENOSYS);
    assert_int_equal(client_reap(&group.members[1]).result, 0);
    run_sum(&world, &group, 9, 5);
    close_all(&world, &group);
}

/* Types and reductions that only the library knows. */
static void test_integers(void **state)
{
    struct world world;
    struct group group;
    static const struct {
        unsigned redop;
        int32_t wanted; /* of 3 and -5 */
    } cases[] = {{TCW_SUM, -2}, {TCW_MIN, -5}, {TCW_MAX, 3}, {TCW_PROD, -15}};
    (void)state;
    open_all(&world, &group, 2);
    for (unsigned c = 0; c < 4; ++c) {
        struct tcw_plan_desc desc = plan_all_reduce(TCW_INT32, TCW_FUSION_NONE, 1, 5);
        desc.redop = (uint16_t)cases[c].redop;
        group_plan(&world, &group, 20 + c, &desc, TCW_STRATEGY_NCCL, 0);
        const struct tcw_ref refs[2] = {client_ref(IN + 4, 20), client_ref(IN + 4, 20)}; /* in place, not aligned to more */
        struct tcw_sqe head = sum_head(20 + c, 1, c);
        for (unsigned r = 0; r < 2; ++r) {
            int32_t data[5];
            for (unsigned i = 0; i < 5; ++i)
                data[i] = r ? -5 : 3;
            client_write(&world, r, IN + 4, data, sizeof data);
            client_run(&group.members[r], &head, refs);
        }
        for (unsigned r = 0; r < 2; ++r) {
            int32_t data[5];
            assert_int_equal(client_reap(&group.members[r]).result, 0);
            client_read(&world, r, IN + 4, data, sizeof data);
            for (unsigned i = 0; i < 5; ++i)
                assert_int_equal(data[i], cases[c].wanted);
        }
    }
    close_all(&world, &group);
}

/* Window memory of the library, also for messages longer than it. */
static void test_symmetric(void **state)
{
    struct world world;
    struct group group;
    (void)state;
    open_all(&world, &group, 2);
    plan_sum(&world, &group, 9, TCW_STRATEGY_NCCL_SYMMETRIC, 0);
    for (unsigned run = 0; run < 5; ++run)
        run_sum(&world, &group, 9, run);
    close_all(&world, &group);
}

/* Our own kernels, over workspaces of the executors. */
static void test_own_kernels(void **state)
{
    struct world world;
    struct group group;
    (void)state;
    open_all(&world, &group, 2);
    group_workspace(&world, &group, 16 << 20);
    plan_sum(&world, &group, 9, TCW_STRATEGY_ONESHOT, 1);
    for (unsigned run = 0; run < 10; ++run)
        run_sum(&world, &group, 9, run);
    assert_int_equal(group.members[0].page->records[3].strategy, TCW_STRATEGY_ONESHOT);
    /* One that is not aligned and has more to do than a sum is refused before anybody waits for it, and its group ends. */
    struct tcw_plan_desc desc = plan_all_reduce(TCW_FP32, TCW_FUSION_NONE, TOKENS, HIDDEN);
    desc.flags = TCW_PLAN_BIAS;
    group_plan(&world, &group, 10, &desc, TCW_STRATEGY_ONESHOT, 1);
    const struct tcw_ref refs[3] = {client_ref(IN + 4, 256), client_ref(OUT, 256), client_ref(LAST, 256)};
    struct tcw_sqe head = sum_head(10, 1, 1);
    head.ref_count = 3;
    uint64_t number = client_submit(&group.members[0], &head, refs);
    assert_int_equal(client_reap(&group.members[0]).result, TCW_EINVAL);
    assert_true(client_is_done(&group.members[0], number));
    const struct tcd_ex_message *report = world_report(&world, 0);
    assert_int_equal(report->code, TCW_EMISMATCH);
    assert_non_null(strstr(report->text, "aligned to 16 bytes"));
    world.report_count = 0;
    close_all(&world, &group);
}

/* Tokens of 256 bytes each, as decided by their size: ours up to four of them, the library above. Which ranks are aligned is their affair.
 */
static void test_mixed_strategies(void **state)
{
    static const uint32_t wanted[] = {TCW_STRATEGY_ONESHOT, TCW_STRATEGY_ONESHOT, TCW_STRATEGY_TWOSHOT, TCW_STRATEGY_TWOSHOT,
                                      TCW_STRATEGY_NCCL};
    struct tcw_plan_desc desc = plan_all_reduce(TCW_FP32, TCW_FUSION_NONE, TOKENS, HIDDEN);
    float data[5 * HIDDEN], got[5 * HIDDEN];
    struct world world;
    struct group group;
    (void)state;
    open_all(&world, &group, 2);
    group_workspace(&world, &group, 16 << 20);
    for (unsigned r = 0; r < 2; ++r) {
        struct tcd_ex_message plan = group_plan_message(&world, &group, r, 9, &desc, TCW_STRATEGY_ONESHOT, 1);
        plan.decision.step_count = 3;
        plan.decision.steps[0] = (struct tcw_decision_step){512, TCW_STRATEGY_ONESHOT, 2};
        plan.decision.steps[1] = (struct tcw_decision_step){1024, TCW_STRATEGY_TWOSHOT, 0};
        plan.decision.steps[2] = (struct tcw_decision_step){UINT64_MAX, TCW_STRATEGY_NCCL, 0};
        WORLD_DO(&world, r, &plan, NULL, 0);
    }
    for (unsigned run = 0; run < 20; ++run) {
        unsigned tokens = run % 5 + 1, bytes = tokens * HIDDEN * (unsigned)sizeof(float);
        uint64_t in = IN + (run & 1 ? 4 : 0), out = OUT + (run & 2 ? 12 : 0);
        struct tcw_sqe head = sum_head(9, tokens, run);
        for (unsigned r = 0; r < 2; ++r) {
            const struct tcw_ref refs[2] = {client_ref(r ? IN : in, bytes), client_ref(r ? OUT : out, bytes)};
            for (unsigned i = 0; i < tokens * HIDDEN; ++i)
                data[i] = value_of(r, run, i);
            client_write(&world, r, r ? IN : in, data, bytes);
            client_run(&group.members[r], &head, refs);
        }
        for (unsigned r = 0; r < 2; ++r) {
            assert_int_equal(client_reap(&group.members[r]).result, 0);
            client_read(&world, r, r ? OUT : out, got, bytes);
            for (unsigned i = 0; i < tokens * HIDDEN; ++i)
                assert_true(got[i] == sum_of(2, run, i));
            assert_int_equal(group.members[r].page->records[run].strategy, wanted[tokens - 1]);
        }
    }
    close_all(&world, &group);
}

/* Guarded by a pack on either side, which nobody writes. */
static void check_long_sum(struct world *world, unsigned rank, uint64_t out, unsigned run, unsigned count)
{
    enum { GUARD = 4 };
    float *got = malloc((count + 2 * GUARD) * sizeof *got);
    assert_non_null(got);
    client_read(world, rank, out - GUARD * sizeof *got, got, (count + 2 * GUARD) * sizeof *got);
    for (unsigned i = 0; i < count; ++i)
        if (got[GUARD + i] != sum_of(world->nranks, run, i))
            fail_msg("run %u, rank %u: %g at %u, not %g", run, rank, (double)got[GUARD + i], i, (double)sum_of(world->nranks, run, i));
    for (unsigned i = 0; i < GUARD; ++i)
        assert_true(got[i] == -1 && got[GUARD + count + i] == -1);
    free(got);
}

/*
 * Messages longer than the workspace takes at once, down to parts of a token, on ranks of which some have to stage them. It is one run all
 * the same.
 */
static void test_long_messages_staged(void **state)
{
    enum { LONG_TOKENS = 3, LONG_HIDDEN = 87380, LONG_COUNT = LONG_TOKENS * LONG_HIDDEN, LONG_BYTES = LONG_COUNT * 4, AT = 1 << 22 };
    static const struct {
        uint32_t strategy;
        uint64_t in[2], out[2];
    } cases[] = {
        {TCW_STRATEGY_TWOSHOT, {0, 4}, {AT, AT + 12}}, {TCW_STRATEGY_ONESHOT, {8, 0}, {AT, AT}},
        {TCW_STRATEGY_ONESHOT, {0, 4}, {AT + 4, AT}},  {TCW_STRATEGY_TWOSHOT, {AT + 4, AT + 8}, {AT + 4, AT + 8}},
        {TCW_STRATEGY_TWOSHOT, {0, 0}, {AT, AT + 12}},
    };
    static float data[LONG_COUNT + 16];
    struct world world;
    struct group group;
    (void)state;
    open_all(&world, &group, 2);
    group_workspace(&world, &group, 1 << 20);
    struct tcw_plan_desc desc = plan_all_reduce(TCW_FP32, TCW_FUSION_NONE, LONG_TOKENS, LONG_HIDDEN);
    group_plan(&world, &group, 9, &desc, TCW_STRATEGY_ONESHOT, 1);
    group_plan(&world, &group, 10, &desc, TCW_STRATEGY_TWOSHOT, 1);
    for (unsigned run = 0; run < sizeof cases / sizeof cases[0]; ++run) {
        struct tcw_sqe head = sum_head(cases[run].strategy == TCW_STRATEGY_ONESHOT ? 9 : 10, LONG_TOKENS, run);
        for (unsigned r = 0; r < 2; ++r) {
            const struct tcw_ref refs[2] = {client_ref(cases[run].in[r], LONG_BYTES), client_ref(cases[run].out[r], LONG_BYTES)};
            for (unsigned i = 0; i < LONG_COUNT + 16; ++i)
                data[i] = -1;
            client_write(&world, r, AT - 16, data, sizeof data);
            for (unsigned i = 0; i < LONG_COUNT; ++i)
                data[i] = value_of(r, run, i);
            client_write(&world, r, cases[run].in[r], data, LONG_BYTES);
            client_run(&group.members[r], &head, refs);
        }
        for (unsigned r = 0; r < 2; ++r) {
            const struct tcw_member_page *page = group.members[r].page;
            assert_int_equal(client_reap(&group.members[r]).result, 0);
            check_long_sum(&world, r, cases[run].out[r], run, LONG_COUNT);
            assert_int_equal(atomic_load(&page->device.steps), run + 1);
            assert_int_equal(page->device.records[run + 1].tokens, LONG_TOKENS);
            assert_int_equal(page->records[run].strategy, cases[run].strategy);
        }
    }
    close_all(&world, &group);
}

/*
 * Requests of many launches whose clients still compute: so few are enqueued ahead that the driver's queues have room, or the worker would
 * stand there, unable to give up a client that dies. The message is about 12 times what a launch takes, or a few more.
 */
static void test_long_messages_ahead(void **state)
{
    enum { LONG_TOKENS = 16, LONG_HIDDEN = 65536, LONG_BYTES = LONG_TOKENS * LONG_HIDDEN * 4, LEAST = 1, MOST = 16 };
    struct world world;
    struct group group;
    (void)state;
    open_all(&world, &group, 2);
    group_workspace(&world, &group, 1 << 20);
    struct tcw_plan_desc desc = plan_all_reduce(TCW_FP32, TCW_FUSION_NONE, LONG_TOKENS, LONG_HIDDEN);
    group_plan(&world, &group, 9, &desc, TCW_STRATEGY_TWOSHOT, 1);
    const struct tcw_sqe head = sum_head(9, LONG_TOKENS, 0);
    const struct tcw_ref refs[2] = {client_ref(0, LONG_BYTES), client_ref(0, LONG_BYTES)};
    for (unsigned i = 0; i < RING_ENTRIES; ++i)
        for (unsigned r = 0; r < 2; ++r)
            client_submit(&group.members[r], &head, refs);
    for (unsigned run = 0; run < RING_ENTRIES; ++run) {
        const uint64_t left = RING_ENTRIES - run;
        WORLD_UNTIL(atomic_load(&group.gate->ranks[0].launched) >= run + (left < LEAST ? left : LEAST));
        for (unsigned r = 0; r < 2; ++r)
            client_ready(&group.members[r], run + 1);
        for (unsigned r = 0; r < 2; ++r)
            assert_int_equal(client_reap(&group.members[r]).result, 0);
        assert_true(atomic_load(&group.gate->ranks[0].launched) <= run + 1 + MOST);
    }
    close_all(&world, &group);
}

/* What follows a sum: bias and residual exactly, the norm as the formula says. The forms that write no norm sum into scratch memory. */
static void test_epilogues(void **state)
{
    static float in[COUNT], residual[COUNT], weight[HIDDEN], bias[HIDDEN], out[COUNT], residual_out[COUNT];
    static unsigned char codes[COUNT];
    struct world world;
    struct group group;
    const float scale = 1;
    (void)state;
    open_all(&world, &group, 2);
    struct tcw_plan_desc desc = plan_all_reduce(TCW_FP32, TCW_FUSION_RESIDUAL_RMS_NORM, TOKENS, HIDDEN);
    desc.flags = TCW_PLAN_BIAS;
    group_plan(&world, &group, 30, &desc, TCW_STRATEGY_NCCL, 0);
    desc = plan_all_reduce(TCW_FP32, TCW_FUSION_RESIDUAL_RMS_NORM_QUANT_FP8, TOKENS, HIDDEN);
    group_plan(&world, &group, 31, &desc, TCW_STRATEGY_NCCL, 0);
    for (unsigned i = 0; i < COUNT; ++i)
        residual[i] = (float)(i % 5);
    for (unsigned i = 0; i < HIDDEN; ++i)
        weight[i] = 1 + (float)(i % 2), bias[i] = (float)(i % 3);
    for (unsigned r = 0; r < 2; ++r) {
        for (unsigned i = 0; i < COUNT; ++i)
            in[i] = value_of(r, 0, i);
        client_write(&world, r, IN, in, sizeof in);
        client_write(&world, r, MORE, residual, sizeof residual);
        client_write(&world, r, LAST, weight, sizeof weight);
        client_write(&world, r, LAST + 4096, bias, sizeof bias);
        client_write(&world, r, LAST + 8192, &scale, sizeof scale);
        const struct tcw_ref with_norm[] = {client_ref(IN, sizeof in),         client_ref(OUT, sizeof out),
                                            client_ref(MORE, sizeof residual), client_ref(MORE + 65536, sizeof residual),
                                            client_ref(LAST, sizeof weight),   client_ref(LAST + 4096, sizeof bias)};
        const struct tcw_ref with_codes[] = {
            client_ref(IN, sizeof in),       client_ref(MORE, sizeof residual),     client_ref(MORE + 131072, sizeof residual),
            client_ref(LAST, sizeof weight), client_ref(LAST + 8192, sizeof scale), client_ref(OUT + 65536, sizeof codes)};
        struct tcw_sqe head = {.op = TCW_OP_ALL_REDUCE, .plan = 30, .tokens = TOKENS, .ref_count = 6};
        client_run(&group.members[r], &head, with_norm);
        head.plan = 31;
        client_run(&group.members[r], &head, with_codes);
    }
    for (unsigned r = 0; r < 2; ++r) {
        assert_int_equal(client_reap(&group.members[r]).result, 0);
        assert_int_equal(client_reap(&group.members[r]).result, 0);
        client_read(&world, r, OUT, out, sizeof out);
        client_read(&world, r, MORE + 65536, residual_out, sizeof residual_out);
        for (unsigned t = 0; t < TOKENS; ++t) {
            float squares = 0;
            for (unsigned h = 0; h < HIDDEN; ++h) {
                unsigned i = t * HIDDEN + h;
                float wanted = sum_of(2, 0, i) + bias[h] + residual[i];
                assert_true(residual_out[i] == wanted);
                squares += wanted * wanted;
            }
            for (unsigned h = 0; h < HIDDEN; ++h) {
                unsigned i = t * HIDDEN + h;
                float wanted = residual_out[i] / sqrtf(squares / HIDDEN) * weight[h];
                assert_true(fabsf(out[i] - wanted) < 1e-3f);
            }
        }
        client_read(&world, r, MORE + 131072, residual_out, sizeof residual_out);
        for (unsigned i = 0; i < COUNT; ++i)
            assert_true(residual_out[i] == sum_of(2, 0, i) + residual[i]);
        client_read(&world, r, OUT + 65536, codes, sizeof codes);
        unsigned zeros = 0;
        for (unsigned i = 0; i < COUNT; ++i)
            zeros += codes[i] == 0;
        assert_int_equal(zeros, 0); /* nothing of the norm is as small */
    }
    close_all(&world, &group);
}

/* ---- moving ---- */

static unsigned char cell(unsigned rank, unsigned tensor, unsigned i)
{
    return (unsigned char)(rank * 90 + tensor * 40 + i * 7 + 1);
}

/* Lists along inner and outer dimensions, with sizes, an empty rank, an absent tensor; then with equal extents and fewer than planned. */
static void test_gather(void **state)
{
    struct world world;
    struct group group;
    (void)state;
    open_all(&world, &group, 2);
    struct tcw_plan_desc desc = plan_of(TCW_OP_ALL_GATHER);
    plan_add_tensor(&desc, TCW_UINT8, 3, 4, 5);
    plan_add_absent(&desc);
    plan_add_tensor(&desc, TCW_UINT8, 1, 4, 6);
    group_plan(&world, &group, 40, &desc, TCW_STRATEGY_AUTO, 0);
    desc.flags = TCW_PLAN_SIZES;
    desc.tensors[0].extent = desc.tensors[2].extent = 0;
    desc.sizes[0] = 1;
    desc.sizes[1] = 3;
    group_plan(&world, &group, 41, &desc, TCW_STRATEGY_AUTO, 0);
    desc.sizes[0] = 0;
    group_plan(&world, &group, 42, &desc, TCW_STRATEGY_AUTO, 0);
    static const struct {
        uint64_t plan;
        uint32_t tokens;
        unsigned of[2];
    } cases[] = {{40, 0, {4, 4}}, {40, 2, {2, 2}}, {41, 0, {1, 3}}, {42, 0, {0, 3}}};
    static const unsigned outer[2] = {3, 1}, line[2] = {5, 6};
    for (unsigned c = 0; c < 4; ++c) {
        unsigned total = cases[c].of[0] + cases[c].of[1];
        for (unsigned r = 0; r < 2; ++r) {
            struct tcw_ref refs[4];
            for (unsigned t = 0; t < 2; ++t) {
                unsigned char data[256];
                unsigned bytes = outer[t] * cases[c].of[r] * line[t];
                for (unsigned i = 0; i < bytes; ++i)
                    data[i] = cell(r, t, i);
                client_write(&world, r, IN + 4096 * t + 1, data, bytes);
                refs[t] = bytes ? client_ref(IN + 4096 * t + 1, bytes) : (struct tcw_ref){0, 0, 0};
                refs[2 + t] = client_ref(OUT + 4096 * t + 3, outer[t] * total * line[t]);
            }
            struct tcw_sqe head = {.op = TCW_OP_ALL_GATHER, .plan = cases[c].plan, .tokens = cases[c].tokens, .ref_count = 4};
            client_run(&group.members[r], &head, refs);
        }
        for (unsigned r = 0; r < 2; ++r) {
            assert_int_equal(client_reap(&group.members[r]).result, 0);
            for (unsigned t = 0; t < 2; ++t) {
                unsigned char data[256];
                unsigned bytes = outer[t] * total * line[t];
                client_read(&world, r, OUT + 4096 * t + 3, data, bytes);
                for (unsigned i = 0; i < bytes; ++i) {
                    unsigned row = i / (total * line[t]), column = i % (total * line[t]), cut = cases[c].of[0] * line[t];
                    unsigned from = column < cut ? 0 : 1, width = cases[c].of[from] * line[t];
                    assert_int_equal(data[i], cell(from, t, row * width + column - from * cut));
                }
            }
        }
    }
    close_all(&world, &group);
}

static void test_scatter(void **state)
{
    struct world world;
    struct group group;
    (void)state;
    open_all(&world, &group, 2);
    struct tcw_plan_desc desc = plan_of(TCW_OP_REDUCE_SCATTER);
    plan_add_tensor(&desc, TCW_INT32, 3, 2, 5);
    plan_add_tensor(&desc, TCW_INT32, 1, 2, 7);
    group_plan(&world, &group, 50, &desc, TCW_STRATEGY_AUTO, 0);
    desc.flags = TCW_PLAN_SIZES;
    desc.tensors[0].extent = desc.tensors[1].extent = 0;
    desc.sizes[0] = 3;
    desc.sizes[1] = 1;
    group_plan(&world, &group, 51, &desc, TCW_STRATEGY_AUTO, 0);
    static const struct {
        uint64_t plan;
        unsigned of[2];
    } cases[] = {{50, {2, 2}}, {51, {3, 1}}};
    static const unsigned outer[2] = {3, 1}, line[2] = {5, 7};
    for (unsigned c = 0; c < 2; ++c) {
        const unsigned total = 4;
        for (unsigned r = 0; r < 2; ++r) {
            struct tcw_ref refs[4];
            for (unsigned t = 0; t < 2; ++t) {
                int32_t data[64];
                unsigned count = outer[t] * total * line[t];
                for (unsigned i = 0; i < count; ++i)
                    data[i] = (int32_t)(i + 1000 * r + 100000 * t);
                client_write(&world, r, IN + 4096 * t, data, count * 4);
                refs[t] = client_ref(IN + 4096 * t, count * 4);
                refs[2 + t] = client_ref(OUT + 4096 * t, outer[t] * cases[c].of[r] * line[t] * 4);
            }
            struct tcw_sqe head = {.op = TCW_OP_REDUCE_SCATTER, .plan = cases[c].plan, .ref_count = 4};
            client_run(&group.members[r], &head, refs);
        }
        for (unsigned r = 0; r < 2; ++r) {
            assert_int_equal(client_reap(&group.members[r]).result, 0);
            for (unsigned t = 0; t < 2; ++t) {
                int32_t data[64];
                unsigned width = cases[c].of[r] * line[t], at = r ? cases[c].of[0] * line[t] : 0;
                client_read(&world, r, OUT + 4096 * t, data, outer[t] * width * 4);
                for (unsigned i = 0; i < outer[t] * width; ++i)
                    assert_int_equal(data[i], 2 * (int)(i / width * total * line[t] + at + i % width) + 1000 + 200000 * (int)t);
            }
        }
    }
    close_all(&world, &group);
}

static void test_all_to_all_broadcast_barrier(void **state)
{
    struct world world;
    struct group group;
    const unsigned bytes[2] = {100, 33};
    (void)state;
    open_all(&world, &group, 4);
    struct tcw_plan_desc desc = plan_of(TCW_OP_ALL_TO_ALL);
    plan_add_tensor(&desc, TCW_UINT8, 1, 1, bytes[0]);
    plan_add_absent(&desc);
    plan_add_tensor(&desc, TCW_UINT8, 1, 1, bytes[1]);
    group_plan(&world, &group, 60, &desc, TCW_STRATEGY_AUTO, 0);
    desc = plan_of(TCW_OP_BROADCAST);
    desc.root = 2;
    plan_add_tensor(&desc, TCW_UINT8, 1, 1, 100);
    group_plan(&world, &group, 61, &desc, TCW_STRATEGY_AUTO, 0);
    desc = plan_of(TCW_OP_BARRIER);
    group_plan(&world, &group, 62, &desc, TCW_STRATEGY_AUTO, 0);
    for (unsigned r = 0; r < 4; ++r) {
        struct tcw_ref refs[10];
        for (unsigned t = 0; t < 2; ++t) {
            for (unsigned to = 0; to < 4; ++to) {
                unsigned char data[128];
                memset(data, (int)(1 + t * 16 + r * 4 + to), sizeof data);
                client_write(&world, r, IN + 4096 * t + 256 * to, data, bytes[t]);
                refs[4 * t + to] = client_ref(IN + 4096 * t + 256 * to, bytes[t]);
            }
            refs[8 + t] = client_ref(OUT + 4096 * t, 4 * bytes[t]);
        }
        struct tcw_sqe head = {.op = TCW_OP_ALL_TO_ALL, .plan = 60, .ref_count = 10};
        client_run(&group.members[r], &head, refs);
        const struct tcw_ref both[2] = {r == 2 ? client_ref(IN, 100) : (struct tcw_ref){0, 0, 0}, client_ref(MORE, 100)};
        head = (struct tcw_sqe){.op = TCW_OP_BROADCAST, .plan = 61, .ref_count = 2};
        client_run(&group.members[r], &head, both);
        head = (struct tcw_sqe){.op = TCW_OP_BARRIER, .plan = 62};
        client_run(&group.members[r], &head, NULL);
    }
    for (unsigned r = 0; r < 4; ++r) {
        for (unsigned i = 0; i < 3; ++i)
            assert_int_equal(client_reap(&group.members[r]).result, 0);
        for (unsigned t = 0; t < 2; ++t) {
            unsigned char data[400];
            client_read(&world, r, OUT + 4096 * t, data, 4 * bytes[t]);
            for (unsigned i = 0; i < 4 * bytes[t]; ++i)
                assert_int_equal(data[i], 1 + t * 16 + i / bytes[t] * 4 + r);
        }
        unsigned char data[100];
        client_read(&world, r, MORE, data, sizeof data);
        for (unsigned i = 0; i < 100; ++i)
            assert_int_equal(data[i], 1 + 2 * 4);
    }
    close_all(&world, &group);
}

/* ---- several groups, memory ---- */

/* Two engines on one communicator, whose ranks bring their requests in different orders. */
static void test_two_groups(void **state)
{
    struct world world;
    struct group groups[2];
    (void)state;
    world_open(&world, 2);
    for (unsigned g = 0; g < 2; ++g) {
        group_open(&world, &groups[g], 77 + g, COMMUNICATOR);
        plan_sum(&world, &groups[g], 9, TCW_STRATEGY_NCCL, 0);
    }
    const struct tcw_ref refs[2][2] = {{client_ref(IN, 256), client_ref(OUT, 256)}, {client_ref(MORE, 256), client_ref(LAST, 256)}};
    for (unsigned run = 0; run < 100; ++run) {
        for (unsigned k = 0; k < 2; ++k)
            for (unsigned r = 0; r < 2; ++r) {
                unsigned g = k ^ r; /* rank 0 begins with the first group, rank 1 with the second */
                struct tcw_sqe head = sum_head(9, 1, run);
                client_run(&groups[g].members[r], &head, refs[g]);
            }
        for (unsigned g = 0; g < 2; ++g)
            for (unsigned r = 0; r < 2; ++r)
                assert_int_equal(client_reap(&groups[g].members[r]).result, 0);
    }
    run_sum(&world, &groups[1], 9, 3);
    group_close(&world, &groups[0]);
    run_sum(&world, &groups[1], 9, 4); /* the communicator stays */
    close_all(&world, &groups[1]);
}

static void test_memory(void **state)
{
    struct world world;
    struct group group;
    struct tck_memory pieces[2];
    (void)state;
    open_all(&world, &group, 1);
    /* A range that begins in one piece and ends in the next. */
    struct tcd_ex_message memory = {.opcode = TCD_EX_MEM, .client = 1000, .handle = 99, .value = 4096};
    memory.memory = (struct tcw_mem_register){.bytes = 4096, .kind = TCW_MEM_VMM};
    int fds[2];
    for (unsigned i = 0; i < 2; ++i) {
        assert_int_equal(tck_memory_create(world.executors[0].device, "piece", 1 << 20, &pieces[i]), 0);
        memory.memory.piece_bytes[i] = pieces[i].bytes;
        fds[i] = pieces[i].fd;
    }
    memory.memory.offset = pieces[0].bytes - 2048;
    WORLD_DO(&world, 0, &memory, fds, 2);
    plan_sum(&world, &group, 9, TCW_STRATEGY_NCCL, 0);
    const struct tcw_ref refs[2] = {client_ref(IN, 512), {99, 2048 - 256, 512}};
    struct tcw_sqe head = sum_head(9, 2, 1);
    float data[128], got[64];
    for (unsigned i = 0; i < 128; ++i)
        data[i] = (float)i;
    client_write(&world, 0, IN, data, sizeof data);
    uint64_t number = client_submit(&group.members[0], &head, refs);
    /* It is not unmapped while a request uses it. */
    struct tcd_ex_message drop = {.opcode = TCD_EX_MEM_DROP, .client = 1000, .handle = 99}, ping = {.opcode = TCD_EX_PING};
    WORLD_UNTIL(atomic_load(&group.members[0].page->runs_started) == 1);
    uint64_t cookie = world_send(&world, 0, &drop, NULL, 0);
    WORLD_DO(&world, 0, &ping, NULL, 0);
    assert_int_equal(world.answer_count, 0);
    client_ready(&group.members[0], number);
    assert_int_equal(client_reap(&group.members[0]).result, 0);
    assert_int_equal(world_await(&world, 0, cookie, NULL).code, 0);
    assert_int_equal(tck_cuda_enter(world.executors[0].device), 0);
    for (unsigned i = 0; i < 2; ++i) {
        CUdeviceptr at = (CUdeviceptr)(uintptr_t)pieces[i].base + (i ? 0 : pieces[0].bytes - 256);
        assert_int_equal(tck_cuda_driver()->cuMemcpyDtoH(got, at, sizeof got), CUDA_SUCCESS);
        for (unsigned k = 0; k < 64; ++k)
            assert_true(got[k] == (float)(64 * i + k));
    }
    tck_cuda_leave(world.executors[0].device);
    /* What is no memory of a GPU, or not as large as said. */
    memory.handle = 100;
    memory.memory.offset = pieces[0].bytes + pieces[1].bytes - 2048;
    assert_int_equal(world_call(&world, 0, &memory, fds, 2, NULL).code, TCW_EINVAL);
    memory.memory.offset = 0;
    memory.memory.piece_bytes[1] *= 2;
    assert_int_equal(world_call(&world, 0, &memory, fds, 2, NULL).code, TCW_EINVAL);
    memory.memory.kind = TCW_MEM_MEMFD;
    assert_int_equal(world_call(&world, 0, &memory, fds, 1, NULL).code, TCW_ENOTSUP);
    for (unsigned i = 0; i < 2; ++i)
        tck_memory_release(&pieces[i]);
    close_all(&world, &group);
}

int main(int argc, char **argv)
{
    executor_cuda_main(argc, argv);
    if (!executor_cuda_is_there())
        return 77;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_facts),
        cmocka_unit_test(test_no_such_device),
        cmocka_unit_test(test_sums),
        cmocka_unit_test(test_many_in_flight),
        cmocka_unit_test(test_probes_between),
        cmocka_unit_test(test_integers),
        cmocka_unit_test(test_symmetric),
        cmocka_unit_test(test_own_kernels),
        cmocka_unit_test(test_mixed_strategies),
        cmocka_unit_test(test_long_messages_staged),
        cmocka_unit_test(test_long_messages_ahead),
        cmocka_unit_test(test_epilogues),
        cmocka_unit_test(test_gather),
        cmocka_unit_test(test_scatter),
        cmocka_unit_test(test_all_to_all_broadcast_barrier),
        cmocka_unit_test(test_two_groups),
        cmocka_unit_test(test_memory),
    };
    return cmocka_run_group_tests_name("executor: cuda", tests, NULL, NULL);
}
