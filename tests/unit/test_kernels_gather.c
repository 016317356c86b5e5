/* Operations that move tensors, on random lists and shapes, byte for byte against plain index arithmetic. */
#include "kernels_fixture.h"
#include "kernels_reference.h"
#include "plan_fixture.h"

enum { MOST_BYTES = 1 << 19, GUARD = 64 };

/* The buffers of one rank: slot lists as a run wants them. */
struct buffers {
    const void *in[TCW_MAX_TENSORS * TCK_HOST_MAX_RANKS];
    void *out[TCW_MAX_TENSORS];
};

static uint64_t slot_bytes(const struct group *group, const struct tck_run *run, uint32_t rank, unsigned slot, uint32_t index)
{
    return tcw_plan_slot_bytes(run->desc, group->n, rank, run->tokens, slot, index);
}

/* Runs desc on all ranks with inputs made by `seed`, checks guards, and leaves inputs and outputs in b. */
static void run_all(struct group *group, const struct tcw_plan_desc *desc, uint64_t tokens, uint64_t seed, struct buffers *b)
{
    struct tck_run runs[TCK_HOST_MAX_RANKS];
    struct dice dice = {seed};
    struct tcw_complaint complaint;
    uint64_t workspace;
    if (tcw_plan_desc_check(desc, group->n, &complaint) || tcw_plan_tokens_check(desc, tokens, &complaint) ||
        tck_plan_workspace(TCK_DEVICE_HOST, desc, group->n, &workspace, &complaint))
        fail_msg("%s", complaint.text);
    for (uint32_t r = 0; r < group->n; r++) {
        runs[r] = (struct tck_run){.desc = desc, .plan_id = 9, .tokens = tokens, .in = b[r].in, .out = b[r].out};
        for (uint32_t i = 0; i < tcw_plan_slot_count(desc, group->n, TCW_SLOT_IN); i++) {
            uint64_t bytes = slot_bytes(group, &runs[r], r, TCW_SLOT_IN, i);
            uint8_t *in = malloc(bytes + 1);
            assert_true(in && bytes <= MOST_BYTES);
            for (uint64_t j = 0; j < bytes; j++)
                in[j] = (uint8_t)dice_roll(&dice);
            b[r].in[i] = in;
        }
        for (uint32_t i = 0; i < tcw_plan_slot_count(desc, group->n, TCW_SLOT_OUT); i++) {
            uint64_t bytes = slot_bytes(group, &runs[r], r, TCW_SLOT_OUT, i);
            b[r].out[i] = malloc(bytes + GUARD);
            assert_non_null(b[r].out[i]);
            memset(b[r].out[i], 0xc3, bytes + GUARD);
        }
    }
    group_run(group, runs);
    for (uint32_t r = 0; r < group->n; r++)
        for (uint32_t i = 0; i < tcw_plan_slot_count(desc, group->n, TCW_SLOT_OUT); i++) {
            const uint8_t *guard = (uint8_t *)b[r].out[i] + slot_bytes(group, &runs[r], r, TCW_SLOT_OUT, i);
            for (int j = 0; j < GUARD; j++)
                assert_int_equal(guard[j], 0xc3);
        }
}

static void free_all(const struct group *group, const struct tcw_plan_desc *desc, struct buffers *b)
{
    for (uint32_t r = 0; r < group->n; r++) {
        for (uint32_t i = 0; i < tcw_plan_slot_count(desc, group->n, TCW_SLOT_IN); i++)
            free((void *)(uintptr_t)b[r].in[i]);
        for (uint32_t i = 0; i < tcw_plan_slot_count(desc, group->n, TCW_SLOT_OUT); i++)
            free(b[r].out[i]);
    }
}

/* A random list of tensors: absent entries, zero extents, every type. */
static struct tcw_plan_desc random_list(struct dice *dice, unsigned op, uint32_t n, bool sums)
{
    struct tcw_plan_desc desc = plan_of(op);
    uint64_t count = dice_below(dice, 3) ? 1 : 1 + dice_below(dice, 5);
    bool gathers = op == TCW_OP_ALL_GATHER || op == TCW_OP_REDUCE_SCATTER;
    if (gathers && dice_below(dice, 2)) {
        desc.flags = TCW_PLAN_SIZES;
        for (uint32_t i = 0; i < n; i++)
            desc.sizes[i] = dice_below(dice, 4) ? dice_below(dice, 12) : 0;
    }
    for (uint64_t t = 0; t < count; t++) {
        static const uint64_t inners[] = {1, 2, 3, 4, 8, 16, 17, 100};
        if (count > 1 && dice_below(dice, 4) == 0) {
            plan_add_absent(&desc);
            continue;
        }
        unsigned dtype = (unsigned)dice_below(dice, sums ? TCW_FP8_E4M3 : TCW_DTYPE_COUNT);
        if (!gathers)
            plan_add_tensor(&desc, dtype, 1, 1, dice_below(dice, 3000));
        else
            plan_add_tensor(&desc, dtype, dice_below(dice, 3) ? 1 + dice_below(dice, 9) : 1, desc.flags ? 0 : dice_below(dice, 12),
                            inners[dice_below(dice, 8)]);
    }
    return desc;
}

static uint64_t extent_of(const struct tcw_plan_desc *desc, const struct tcw_tensor *tensor, uint32_t rank, uint64_t tokens)
{
    return desc->flags & TCW_PLAN_SIZES ? desc->sizes[rank] : tokens ? tokens : tensor->extent;
}

/* A smaller extent than the plan's now and then, where all tensors have one. */
static uint64_t random_tokens(struct dice *dice, const struct tcw_plan_desc *desc)
{
    struct tcw_complaint complaint;
    uint64_t tokens = dice_below(dice, 5);
    return tcw_plan_tokens_check(desc, tokens, &complaint) ? 0 : tokens;
}

static void check_gather(const struct group *group, const struct tcw_plan_desc *desc, uint64_t tokens, const struct buffers *b)
{
    uint32_t buffer = 0;
    for (uint32_t t = 0; t < desc->tensor_count; t++) {
        const struct tcw_tensor *tensor = &desc->tensors[t];
        uint64_t line = tensor->inner * tcw_dtype_bytes(tensor->dtype);
        if (!tensor->present)
            continue;
        for (uint32_t r = 0; r < group->n; r++) {
            const uint8_t *out = b[r].out[buffer];
            for (uint64_t o = 0; o < tensor->outer; o++)
                for (uint32_t from = 0; from < group->n; from++) {
                    uint64_t bytes = extent_of(desc, tensor, from, tokens) * line;
                    assert_memory_equal(out, (const uint8_t *)b[from].in[buffer] + o * bytes, bytes);
                    out += bytes;
                }
        }
        buffer++;
    }
}

static void test_all_gather(void **state)
{
    (void)state;
    static struct buffers b[TCK_HOST_MAX_RANKS];
    struct dice dice = {1};
    for (uint32_t n = 1; n <= TCK_HOST_MAX_RANKS; n++) {
        struct group *group = group_open(n, n % 3 ? 1 << 20 : 65536 + 4096, NULL, NULL);
        for (unsigned i = 0; i < 14; i++) {
            struct tcw_plan_desc desc = random_list(&dice, TCW_OP_ALL_GATHER, n, false);
            uint64_t tokens = random_tokens(&dice, &desc);
            run_all(group, &desc, tokens, i, b);
            check_gather(group, &desc, tokens, b);
            free_all(group, &desc, b);
        }
        group_close(group);
    }
}

static void check_scatter_element(const struct group *group, const struct tcw_tensor *tensor, unsigned redop, const struct buffers *b,
                                  uint32_t buffer, uint64_t in_index, const void *out, uint64_t out_index)
{
    size_t size = tcw_dtype_bytes(tensor->dtype);
    if (tensor->dtype <= TCW_FP64) {
        double x[TCK_HOST_MAX_RANKS] = {0};
        for (uint32_t i = 0; i < group->n; i++)
            x[i] = ref_load(tensor->dtype, b[i].in[buffer], in_index);
        double want = ref_fold(x, group->n, redop, tensor->dtype, tensor->dtype == TCW_FP64 ? TCW_FP64 : TCW_FP32);
        double got = ref_load(tensor->dtype, out, out_index);
        if (!ref_same(want, got))
            fail_msg("%s %s: %a instead of %a", tcw_dtype_name(tensor->dtype), tcw_redop_name(redop), got, want);
        return;
    }
    if (redop != TCW_SUM) /* the other integer reductions are compared in test_kernels_all_reduce */
        return;
    uint64_t sum = 0;
    for (uint32_t i = 0; i < group->n; i++) {
        uint64_t x = 0;
        memcpy(&x, (const uint8_t *)b[i].in[buffer] + in_index * size, size);
        sum += x;
    }
    assert_memory_equal((const uint8_t *)out + out_index * size, &sum, size);
}

static void check_scatter(const struct group *group, const struct tcw_plan_desc *desc, uint64_t tokens, const struct buffers *b)
{
    uint32_t buffer = 0;
    for (uint32_t t = 0; t < desc->tensor_count; t++) {
        const struct tcw_tensor *tensor = &desc->tensors[t];
        uint64_t total = 0, before = 0;
        if (!tensor->present)
            continue;
        for (uint32_t r = 0; r < group->n; r++)
            total += extent_of(desc, tensor, r, tokens);
        for (uint32_t r = 0; r < group->n; r++) {
            uint64_t mine = extent_of(desc, tensor, r, tokens);
            for (uint64_t o = 0; o < tensor->outer; o++)
                for (uint64_t i = 0; i < mine * tensor->inner; i++)
                    check_scatter_element(group, tensor, desc->redop, b, buffer, (o * total + before) * tensor->inner + i, b[r].out[buffer],
                                          o * mine * tensor->inner + i);
            before += mine;
        }
        buffer++;
    }
}

static void test_reduce_scatter(void **state)
{
    (void)state;
    static struct buffers b[TCK_HOST_MAX_RANKS];
    struct dice dice = {2};
    for (uint32_t n = 1; n <= TCK_HOST_MAX_RANKS; n++) {
        struct group *group = group_open(n, n % 3 ? 1 << 20 : 65536 + 4096, NULL, NULL);
        for (unsigned i = 0; i < 14; i++) {
            struct tcw_plan_desc desc = random_list(&dice, TCW_OP_REDUCE_SCATTER, n, true);
            uint64_t tokens = random_tokens(&dice, &desc);
            desc.redop = (uint16_t)dice_below(&dice, TCW_REDOP_COUNT);
            run_all(group, &desc, tokens, i, b);
            check_scatter(group, &desc, tokens, b);
            free_all(group, &desc, b);
        }
        group_close(group);
    }
}

static void test_all_to_all(void **state)
{
    (void)state;
    static struct buffers b[TCK_HOST_MAX_RANKS];
    struct dice dice = {3};
    for (uint32_t n = 1; n <= TCK_HOST_MAX_RANKS; n++) {
        struct group *group = group_open(n, n % 3 ? 1 << 20 : 65536 + 4096, NULL, NULL);
        for (unsigned i = 0; i < 8; i++) {
            struct tcw_plan_desc desc = random_list(&dice, TCW_OP_ALL_TO_ALL, n, false);
            run_all(group, &desc, 0, i, b);
            for (uint32_t t = 0, list = 0; t < desc.tensor_count; t++) {
                uint64_t bytes = desc.tensors[t].inner * tcw_dtype_bytes(desc.tensors[t].dtype);
                if (!desc.tensors[t].present)
                    continue;
                for (uint32_t r = 0; r < n; r++)
                    for (uint32_t from = 0; from < n; from++)
                        assert_memory_equal((uint8_t *)b[r].out[list] + from * bytes, b[from].in[list * n + r], bytes);
                list++;
            }
            free_all(group, &desc, b);
        }
        group_close(group);
    }
}

static void test_broadcast(void **state)
{
    (void)state;
    static struct buffers b[TCK_HOST_MAX_RANKS];
    for (uint32_t n = 1; n <= TCK_HOST_MAX_RANKS; n++) {
        struct group *group = group_open(n, 65536 + 4096, NULL, NULL);
        static const uint64_t counts[] = {0, 1, 40, 41, 1000, 200000};
        for (unsigned i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
            struct tcw_plan_desc desc = plan_of(TCW_OP_BROADCAST);
            plan_add_tensor(&desc, TCW_FP8_E4M3, 1, 1, counts[i]);
            desc.root = i % n;
            run_all(group, &desc, 0, i, b);
            for (uint32_t r = 0; r < n; r++)
                assert_memory_equal(b[r].out[0], b[desc.root].in[0], counts[i]);
            free_all(group, &desc, b);
        }
        group_close(group);
    }
}

/*
 * Only the root reads `in`, and it does not wait for slow ranks until it is two steps ahead; they still get every message whole. The
 * barriers in between wait for ranks that the broadcasts before them did not.
 */
enum { AHEAD_RANKS = 4, AHEAD_COUNT = 24, AHEAD_BYTES = 30000 };

static int broadcast_at_own_pace(struct group_rank *rank)
{
    static uint8_t data[AHEAD_RANKS][AHEAD_BYTES];
    struct tcw_plan_desc desc = plan_of(TCW_OP_BROADCAST), barrier = plan_of(TCW_OP_BARRIER);
    struct tck_fault fault;
    plan_add_tensor(&desc, TCW_UINT8, 1, 1, AHEAD_BYTES);
    for (unsigned k = 0; k < AHEAD_COUNT; k++) {
        uint8_t *mine = data[rank->rank];
        const void *in[1] = {NULL};
        void *out[1] = {mine};
        desc.root = k / 8 % AHEAD_RANKS;
        if (rank->rank == desc.root) {
            memset(mine, (int)k + 1, AHEAD_BYTES);
            in[0] = mine; /* in place */
        } else if ((k + rank->rank) % 5 == 0) {
            group_sleep(1000000);
        }
        struct tck_run run = {.desc = &desc, .plan_id = 1, .in = in, .out = out};
        int code = tck_comm_run(rank->comm, &run, &fault);
        if (!code && k % 7 == 6)
            code = tck_comm_run(rank->comm, &(struct tck_run){.desc = &barrier, .plan_id = 2}, &fault);
        if (code)
            return code;
        for (unsigned i = 0; i < AHEAD_BYTES; i++)
            if (mine[i] != k + 1)
                return TCW_EINTERNAL;
    }
    return 0;
}

static void test_broadcast_runs_ahead(void **state)
{
    (void)state;
    struct group *group = group_open(AHEAD_RANKS, 65536 + 4096, NULL, NULL);
    group_run_body(group, broadcast_at_own_pace);
    group_close(group);
}

/* Nobody leaves a barrier before everybody has come. */
static void test_barrier(void **state)
{
    (void)state;
    struct tcw_plan_desc desc = plan_of(TCW_OP_BARRIER), nop = plan_of(TCW_OP_NOP);
    for (uint32_t n = 1; n <= TCK_HOST_MAX_RANKS; n += 5) {
        struct group *group = group_open(n, 65536 + 4096, NULL, NULL);
        struct tck_run runs[TCK_HOST_MAX_RANKS];
        for (uint32_t late = 0; late < n; late++) {
            for (uint32_t r = 0; r < n; r++)
                runs[r] = (struct tck_run){.desc = &desc, .plan_id = 1};
            group->ranks[late].delay_ns = 3000000;
            group_run(group, runs);
            group->ranks[late].delay_ns = 0;
            for (uint32_t r = 0; r < n; r++)
                for (uint32_t other = 0; other < n; other++)
                    assert_true(group->ranks[r].ended_ns >= group->ranks[other].began_ns);
            for (uint32_t r = 0; r < n; r++)
                runs[r].desc = &nop;
            group_run(group, runs);
        }
        group_close(group);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_gather), cmocka_unit_test(test_reduce_scatter),       cmocka_unit_test(test_all_to_all),
        cmocka_unit_test(test_broadcast),  cmocka_unit_test(test_broadcast_runs_ahead), cmocka_unit_test(test_barrier),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
