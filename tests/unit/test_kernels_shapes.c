/*
 * How launches are cut, those of the two-shot kernels above all: what the kernels take for granted, whatever the message and the GPU.
 */
#include "cmocka_all.h"

#ifdef TRTCOLL_CUDA
#include "kernels/cuda/family.h"
#include "kernels/cuda/finalize.h"
#include "kernels/cuda/nvls.h"
#include "kernels/cuda/twoshot.h"

#include <tcw/types.h>

#include <stdbool.h>

enum { BUFFER_PACKS = 3 << 20, BF16_PACK = 8 };

static const struct tck_cuda_target h200 = {.compute = 90, .multiprocessors = 132, .registers = 64};

/* A message of `tokens` rows of `hidden` bf16 numbers. */
static struct tck_cuda_args make_args(uint32_t nranks, uint64_t tokens, uint32_t hidden, bool norm)
{
    struct tck_cuda_args args = {.link = {.nranks = nranks, .buffer_packs = BUFFER_PACKS}};
    args.run.tokens = tokens;
    args.run.row_packs = hidden / BF16_PACK;
    args.run.hidden = hidden;
    args.run.residual_in = norm ? &args : NULL;
    return args;
}

static struct tck_cuda_shape shape_of(const struct tck_cuda_args *args, const struct tck_cuda_target *target)
{
    struct tck_cuda_shape shape = {0};
    assert_int_equal(tck_cuda_twoshot_shape(args, target, &shape), 0);
    return shape;
}

/* Packs of the longest shard. */
static uint64_t slot_packs(const struct tck_cuda_args *args, const struct tck_cuda_shape *shape)
{
    if (args->run.residual_in)
        return (uint64_t)tck_twoshot_tokens((uint32_t)shape->tokens, args->link.nranks, 0) * args->run.row_packs;
    return tck_twoshot_shard((uint32_t)shape->tokens * args->run.row_packs, args->link.nranks);
}

/* Whether this block or cluster has a pack or row of its shard to work on. */
static bool has_work(const struct tck_cuda_args *args, const struct tck_cuda_shape *shape, uint32_t shard, uint32_t part)
{
    const uint32_t n = args->link.nranks, tokens = (uint32_t)shape->tokens;
    if (args->run.residual_in)
        return part < tck_twoshot_tokens(tokens, n, shard);
    uint64_t packs = (uint64_t)tokens * args->run.row_packs, first = shard * slot_packs(args, shape);
    return first + (uint64_t)part * shape->threads < packs;
}

/* On every rank one of the blocks or clusters posts the end of the run, and it is one that has to wait for others. */
static void check_posts(const struct tck_cuda_args *args, const struct tck_cuda_shape *shape)
{
    const uint32_t n = args->link.nranks, count = shape->grid / shape->cluster, parts = count / n;
    for (uint32_t rank = 0; rank < n; rank++) {
        unsigned posts = 0;
        for (uint32_t number = 0; number < count; number++) {
            uint32_t shard = (rank + number % n) % n, part = number / n;
            uint32_t rows = args->run.residual_in ? tck_twoshot_tokens((uint32_t)shape->tokens, n, shard) : 0;
            if (shard || !tck_twoshot_posts(shard, part, parts, rows)) {
                assert_false(tck_twoshot_posts(shard, part, parts, rows));
                continue;
            }
            posts++;
            assert_true(has_work(args, shape, shard, part));
        }
        assert_int_equal(posts, 1);
    }
}

static void check(const struct tck_cuda_args *args, const struct tck_cuda_target *target)
{
    const uint32_t n = args->link.nranks;
    const struct tck_cuda_shape shape = shape_of(args, target);
    assert_in_range(shape.tokens, 1, args->run.tokens);
    assert_true(2 * (n - 1) * slot_packs(args, &shape) <= BUFFER_PACKS);
    assert_in_range(shape.grid, 1, TCK_CUDA_MOST_BLOCKS);
    assert_int_equal(shape.grid % (n * shape.cluster), 0);
    assert_int_equal(shape.threads % 32, 0);
    assert_in_range(shape.threads, 32, args->run.residual_in ? TCK_TWOSHOT_MOST_norm(n) : TCK_TWOSHOT_MOST_plain(n));
    assert_true(args->run.residual_in || shape.cluster == 1);
    assert_true(target->compute >= 90 || shape.cluster == 1);
    check_posts(args, &shape);
}

static void test_every_launch_is_possible(void **state)
{
    static const uint32_t hidden[] = {8, 2880, 7176, 8192, 16384};
    static const uint64_t tokens[] = {1, 2, 3, 17, 64, 513, 2048, 50000};
    static const uint32_t blocks[] = {0, 1, 16, 264, 5000};
    (void)state;
    for (uint32_t n = 2; n <= TCK_CUDA_RANKS; n++)
        for (size_t h = 0; h < sizeof(hidden) / sizeof(hidden[0]); h++)
            for (size_t t = 0; t < sizeof(tokens) / sizeof(tokens[0]); t++)
                for (size_t b = 0; b < sizeof(blocks) / sizeof(blocks[0]); b++)
                    for (int form = 0; form < 4; form++) {
                        struct tck_cuda_args args = make_args(n, tokens[t], hidden[h], form & 1);
                        struct tck_cuda_target target = h200;
                        target.compute = form & 2 ? 80 : 90;
                        target.blocks = blocks[b];
                        check(&args, &target);
                    }
}

/* Ranks that cut a launch differently would wait for each other forever. */
static void test_all_ranks_cut_alike(void **state)
{
    (void)state;
    for (int form = 0; form < 2; form++) {
        struct tck_cuda_args first = make_args(4, 1000, 8192, form), last = first;
        last.link.rank = 3;
        const struct tck_cuda_shape a = shape_of(&first, &h200), b = shape_of(&last, &h200);
        assert_int_equal(a.grid, b.grid);
        assert_int_equal(a.threads, b.threads);
        assert_int_equal(a.cluster, b.cluster);
        assert_int_equal(a.tokens, b.tokens);
    }
}

/* 4 GPUs, 8 MB: a pack for every thread, in several waves of the widest blocks. */
static void test_long_messages_come_in_waves(void **state)
{
    (void)state;
    struct tck_cuda_args args = make_args(4, 512, 8192, false);
    const struct tck_cuda_shape shape = shape_of(&args, &h200);
    assert_int_equal(shape.threads, 1024);
    assert_int_equal((uint64_t)shape.grid * shape.threads, 512 * 8192 / BF16_PACK);
    assert_true(shape.grid > 3 * h200.multiprocessors);
}

/* A thread of a one-shot has one pack too, as long as there are blocks; alone, where nobody is waited for, it may have many. */
static void test_one_shots_come_in_waves(void **state)
{
    (void)state;
    struct tck_cuda_args args = make_args(2, 512, 8192, false);
    struct tck_cuda_shape shape;
    args.run.row_packs = 1; /* as messages without rows are cut */
    for (uint64_t packs = 512; packs <= 2 << 20; packs *= 2) {
        args.run.tokens = packs;
        assert_int_equal(tck_cuda_oneshot_shape(&args, &h200, &shape), 0);
        assert_true(shape.grid <= TCK_CUDA_MOST_BLOCKS && shape.threads <= 512);
        assert_int_equal(shape.tokens, packs);
        if (packs <= 512 * TCK_CUDA_MOST_BLOCKS)
            assert_true((uint64_t)shape.grid * shape.threads >= packs);
    }
    args.link.nranks = 1;
    assert_int_equal(tck_cuda_oneshot_shape(&args, &h200, &shape), 0);
    assert_true(shape.grid <= tck_cuda_resident(&h200, shape.threads));
}

/* Lanes wait together, so in a block that ends within a warp they would wait for lanes that do not exist. */
static void check_warps(tck_cuda_shape_function *shape_function, uint32_t widest, const struct tck_cuda_args *args,
                        const struct tck_cuda_target *target)
{
    struct tck_cuda_shape shape = {0};
    assert_int_equal(shape_function(args, target, &shape), 0);
    assert_int_equal(shape.threads % 32, 0);
    assert_in_range(shape.threads, 32, widest);
    assert_in_range(shape.grid, 1, TCK_CUDA_MOST_BLOCKS);
    assert_int_equal(shape.grid % shape.cluster, 0);
    assert_in_range(shape.tokens, 1, args->run.tokens);
}

/* Those of the two-shot are looked at above. */
static void test_blocks_are_whole_warps(void **state)
{
    static const uint32_t hidden[] = {8, 40, 1000, 2880, 5120, 7176, 8192, 65536}, tokens[] = {1, 5, 133, 4096};
    static const uint32_t multiprocessors[] = {1, 2, 14, 63, 132}, computes[] = {0, 80, 90, 120};
    (void)state;
    for (uint32_t n = 2; n <= TCK_CUDA_RANKS; n++)
        for (size_t h = 0; h < sizeof(hidden) / sizeof(hidden[0]); h++)
            for (size_t t = 0; t < sizeof(tokens) / sizeof(tokens[0]); t++)
                for (size_t m = 0; m < sizeof(multiprocessors) / sizeof(multiprocessors[0]); m++)
                    for (size_t c = 0; c < sizeof(computes) / sizeof(computes[0]); c++) {
                        const struct tck_cuda_args plain = make_args(n, tokens[t], hidden[h], false);
                        const struct tck_cuda_args norm = make_args(n, tokens[t], hidden[h], true);
                        struct tck_cuda_target target = {.compute = computes[c], .multiprocessors = multiprocessors[m]};
                        for (target.blocks = 0; target.blocks <= 24; target.blocks += 12)
                            check_warps(tck_cuda_oneshot_shape, 256, &norm, &target);
                        target.blocks = 0;
                        check_warps(tck_cuda_oneshot_shape, 512, &plain, &target);
                        check_warps(tck_cuda_finalize_shape, 512, &plain, &target);
                        target.few_blocks = true;
                        check_warps(tck_cuda_oneshot_shape, 512, &plain, &target);
                    }
}

/* All rows of a one-shot at once if they find room; else fewer take turns than would find it. */
static void test_rows_take_turns(void **state)
{
    (void)state;
    struct tck_cuda_args args = make_args(2, 64, 8192, true);
    struct tck_cuda_shape shape;
    assert_int_equal(tck_cuda_oneshot_shape(&args, &h200, &shape), 0);
    assert_int_equal(shape.grid, 64 * shape.cluster);
    args.run.tokens = 256;
    assert_int_equal(tck_cuda_oneshot_shape(&args, &h200, &shape), 0);
    assert_in_range(shape.grid * shape.threads, 256 * h200.multiprocessors / 2, 256 * h200.multiprocessors);
    const uint32_t few = shape.grid;
    args.run.tokens = 8 * (few / shape.cluster);
    assert_int_equal(tck_cuda_oneshot_shape(&args, &h200, &shape), 0);
    assert_int_equal(shape.grid, few);
    args.run.tokens++; /* and twice as many when there would be more than eight turns */
    assert_int_equal(tck_cuda_oneshot_shape(&args, &h200, &shape), 0);
    assert_int_equal(shape.grid, 2 * few);
    args.link.nranks = 1;
    assert_int_equal(tck_cuda_oneshot_shape(&args, &h200, &shape), 0);
    assert_true(shape.grid * shape.threads > 512 * h200.multiprocessors);
}

/* As clients of MPS may have: the blocks of a part, which wait for each other, are there at the same time. */
static void test_few_multiprocessors(void **state)
{
    static const uint32_t hidden[] = {1024, 8192, 32768}, registers[] = {64, 128};
    (void)state;
    for (uint32_t multiprocessors = 1; multiprocessors <= h200.multiprocessors; multiprocessors++)
        for (uint32_t n = 2; n <= TCK_CUDA_RANKS; n++)
            for (unsigned form = 0; form < 2 * 2 * 3; form++) {
                struct tck_cuda_target target = h200;
                struct tck_cuda_args args = make_args(n, form % 3 ? 2048 : 3, hidden[form / 4], form & 1);
                target.multiprocessors = multiprocessors;
                target.registers = registers[form / 2 % 2];
                const struct tck_cuda_shape shape = shape_of(&args, &target);
                assert_true(tck_cuda_resident(&target, shape.threads) >= n * shape.cluster);
                check(&args, &target);
            }
}

/* Clusters are as wide as finds room in an eighth of what is ours, in all norm forms. */
static void test_clusters_of_shares(void **state)
{
    static tck_cuda_shape_function *const shapes[] = {tck_cuda_oneshot_shape, tck_cuda_twoshot_shape, tck_cuda_nvls_oneshot_shape,
                                                      tck_cuda_nvls_shape};
    static const struct {
        uint32_t multiprocessors, cluster;
    } shares[] = {{132, 8}, {66, 8}, {64, 8}, {63, 4}, {33, 4}, {16, 2}, {14, 1}, {1, 1}};
    (void)state;
    for (size_t s = 0; s < sizeof(shares) / sizeof(shares[0]); s++)
        for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++) {
            struct tck_cuda_args args = make_args(2, 4, 8192, true);
            struct tck_cuda_target target = h200;
            struct tck_cuda_shape shape;
            target.multiprocessors = shares[s].multiprocessors;
            assert_int_equal(shapes[i](&args, &target, &shape), 0);
            assert_int_equal(shape.cluster, shares[s].cluster);
            assert_int_equal(shape.grid % shape.cluster, 0);
        }
}

/* GPUs that are not alike: shapes that suit every model, whatever this rank's kernel needs. */
static void test_mixed_models(void **state)
{
    struct tck_cuda_target mixed = {.multiprocessors = 108};
    (void)state;
    for (int norm = 0; norm < 2; norm++) {
        struct tck_cuda_args args = make_args(4, 300, 8192, norm);
        const struct tck_cuda_shape two = shape_of(&args, &mixed);
        struct tck_cuda_shape one;
        check(&args, &mixed);
        assert_int_equal(tck_cuda_oneshot_shape(&args, &mixed, &one), 0);
        assert_int_equal(two.cluster, 1);
        assert_int_equal(one.cluster, 1);
        /* rows that do not find room at once take turns; packs come in waves of blocks */
        assert_true(norm ? one.grid * one.threads <= 256 * mixed.multiprocessors : one.grid * one.threads >= 300 * 8192 / BF16_PACK);
        assert_true(one.grid <= TCK_CUDA_MOST_BLOCKS);
    }
    assert_int_equal(tck_cuda_resident(&mixed, 512), 108);
}

/* 4 GPUs, 256 KB: all multiprocessors have some of it. */
static void test_short_messages_are_spread(void **state)
{
    (void)state;
    struct tck_cuda_args args = make_args(4, 16, 8192, false);
    const struct tck_cuda_shape shape = shape_of(&args, &h200);
    assert_int_equal((uint64_t)shape.grid * shape.threads, 16 * 8192 / BF16_PACK);
    assert_in_range(shape.grid, h200.multiprocessors - 4, h200.multiprocessors);
}

static void test_a_row_must_fit(void **state)
{
    struct tck_cuda_args args = make_args(4, 1, 8192, true);
    struct tck_cuda_shape shape;
    (void)state;
    args.link.buffer_packs = 6 * 1024 - 1;
    assert_int_equal(tck_cuda_twoshot_shape(&args, &h200, &shape), TCW_EINVAL);
    args.link.buffer_packs++;
    assert_int_equal(tck_cuda_twoshot_shape(&args, &h200, &shape), 0);
}

/* Executors keep so much memory for buffers that are not aligned, and no more, however large the workspace is. Rows are never staged. */
static void test_launches_can_be_staged(void **state)
{
    const uint64_t packs = UINT64_C(64) << 20; /* 1 GiB */
    (void)state;
    for (uint32_t n = 2; n <= TCK_CUDA_RANKS; n++)
        for (uint64_t buffer = UINT64_C(1) << 20; buffer <= UINT64_C(1) << 28; buffer *= 4) {
            struct tck_cuda_args plain = make_args(n, packs, BF16_PACK, false);
            struct tck_cuda_shape shape = {0};
            plain.link.buffer_packs = buffer;
            assert_in_range(shape_of(&plain, &h200).tokens, 1, TCK_CUDA_STAGED_PACKS);
            assert_int_equal(tck_cuda_oneshot_shape(&plain, &h200, &shape), 0);
            assert_in_range(shape.tokens, 1, TCK_CUDA_STAGED_PACKS);
        }
    struct tck_cuda_args rows = make_args(2, packs / 1024, 8192, true);
    rows.link.buffer_packs = UINT64_C(1) << 28;
    assert_int_equal(shape_of(&rows, &h200).tokens, packs / 1024);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_launch_is_possible),
        cmocka_unit_test(test_all_ranks_cut_alike),
        cmocka_unit_test(test_long_messages_come_in_waves),
        cmocka_unit_test(test_one_shots_come_in_waves),
        cmocka_unit_test(test_blocks_are_whole_warps),
        cmocka_unit_test(test_rows_take_turns),
        cmocka_unit_test(test_few_multiprocessors),
        cmocka_unit_test(test_clusters_of_shares),
        cmocka_unit_test(test_mixed_models),
        cmocka_unit_test(test_short_messages_are_spread),
        cmocka_unit_test(test_a_row_must_fit),
        cmocka_unit_test(test_launches_can_be_staged),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
#else
int main(void)
{
    return 77; /* built without CUDA */
}
#endif
