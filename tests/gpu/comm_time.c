/*
 * Speed: sizes from 16 KB up, plain, with residual and RMSNorm, and with FP8 codes instead of the norm; every strategy, and NCCL in the
 * same run. The sweep adds the grid as a dimension.
 */
#include "comm_modes.h"
#include "comm_timing.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { POINTS = 4096, SIZES = 9, NCCL = 0, ONESHOT, TWOSHOT, STRATEGIES };

static const uint32_t strategies[STRATEGIES] = {TCW_STRATEGY_NCCL, TCW_STRATEGY_ONESHOT, TCW_STRATEGY_TWOSHOT};
static const uint64_t sizes[SIZES] = {16 << 10, 64 << 10, 256 << 10, 512 << 10, 1 << 20, 2 << 20, 4 << 20, 8 << 20, 32 << 20};

/* What is asked of 4 GPUs: our time / NCCL's. */
static const double wanted[COMM_FORM_COUNT][SIZES] = {
    [COMM_FORM_PLAIN] = {0.25, 0.28, 0.38, 0.42, 0.45, 0.46, 0.53, 0.66, 0.86},
    [COMM_FORM_NORM] = {0.33, 0.36, 0.43, 0.45, 0.50, 0.50, 0.57, 0.62, 0.75},
};

struct table {
    const struct comm_options *options;
    struct comm_point points[POINTS];
    unsigned count;
    double launch_us;
    int nccl_version;
};

static bool worth_it(const struct comm_rank *rank, const struct comm_point *point)
{
    /* On GPUs that ranks share, what finds room for all of them at once. */
    if (comm_board_is_crowded(rank->board) && comm_point_bytes(point) > 256u << 10)
        return false;
    /* A one-shot carries (N - 1) times the message: hopeless for large ones. */
    return point->strategy != TCW_STRATEGY_ONESHOT || comm_point_bytes(point) * (rank->nranks - 1) <= (12u << 20);
}

static void measure(struct comm_rank *rank, struct comm_nccl *nccl, struct table *table, struct comm_point point)
{
    if (table->count == POINTS || !worth_it(rank, &point))
        return;
    comm_timing_measure(rank, nccl, table->options->replays, &point);
    table->points[table->count++] = point;
}

static const struct comm_point *best(const struct table *table, comm_form form, uint64_t bytes, uint32_t strategy)
{
    const struct comm_point *found = NULL;
    for (unsigned i = 0; i < table->count; i++) {
        const struct comm_point *point = &table->points[i];
        if (point->form == form && comm_point_bytes(point) == bytes && point->strategy == strategy && (!found || point->us < found->us))
            found = point;
    }
    return found;
}

static void print_row(const struct comm_rank *rank, const struct table *table, comm_form form, int size)
{
    const struct comm_point *by[STRATEGIES], *ours = NULL;
    for (int i = 0; i < STRATEGIES; i++) {
        by[i] = best(table, form, sizes[size], strategies[i]);
        if (i != NCCL && by[i] && (!ours || by[i]->us < ours->us))
            ours = by[i];
    }
    if (!ours)
        return;
    /* What a two-shot must carry, at 360 GB/s. */
    double floor_us = 2.0 * (rank->nranks - 1) / rank->nranks * (double)sizes[size] / 360e3;
    printf("%-6s %6llu KB", comm_form_name(form), (unsigned long long)sizes[size] >> 10);
    for (int i = 1; i < STRATEGIES; i++)
        if (by[i])
            printf("  %8.2f (%3u)", by[i]->us, by[i]->blocks);
        else
            printf("  %14s", "-");
    printf("  %8.1f", floor_us);
    if (by[NCCL])
        printf("  %8.2f  %5.2f", by[NCCL]->us, ours->us / by[NCCL]->us);
    if (by[NCCL] && rank->nranks == 4 && wanted[form][size] > 0)
        printf("  %5.2f", wanted[form][size]);
    printf("\n");
}

static void print_table(const struct comm_rank *rank, const struct table *table)
{
    printf("%u ranks on %u x %s, us per operation%s (blocks; 0: own rule)\n", rank->nranks, rank->board->gpus,
           tck_device_facts(rank->device)->name, table->options->eager ? ", eager" : "");
    printf("%-6s %9s  %14s  %14s  %8s  %8s  %5s  %5s\n", "form", "bytes", "one-shot", "two-shot", "wire", "NCCL", "ratio", "want");
    for (int form = 0; form < COMM_FORM_COUNT; form++)
        for (int size = 0; size < SIZES; size++)
            print_row(rank, table, (comm_form)form, size);
    printf("host time of one eager launch: %.2f us\n", table->launch_us);
}

static void write_json(const struct comm_rank *rank, const struct table *table)
{
    const struct tck_device_facts *facts = tck_device_facts(rank->device);
    FILE *file = fopen(table->options->json, "w");
    if (!file) {
        perror(table->options->json);
        return;
    }
    fprintf(file,
            "{\"label\": \"%s\", \"gpu\": \"%s\", \"ranks\": %u, \"gpus\": %u, \"compute\": %u, \"multiprocessors\": %u, \"cuda_driver\": "
            "%u, \"nccl\": %d,\n"
            " \"dtype\": \"bf16\", \"hidden\": %d, \"graph_operations\": %d, \"replays\": %u, \"launch_us\": %.3f,\n \"points\": [\n",
            table->options->label, facts->name, rank->nranks, rank->board->gpus, facts->compute, facts->multiprocessors, facts->driver,
            table->nccl_version, COMM_TIMED_HIDDEN, COMM_GRAPH_OPERATIONS, table->options->replays, table->launch_us);
    for (unsigned i = 0; i < table->count; i++) {
        const struct comm_point *point = &table->points[i];
        fprintf(file, "  {\"form\": \"%s\", \"bytes\": %llu, \"strategy\": \"%s\", \"blocks\": %u, \"us\": %.3f}%s\n",
                comm_form_name(point->form), (unsigned long long)comm_point_bytes(point), tcw_strategy_name(point->strategy), point->blocks,
                point->us, i + 1 < table->count ? "," : "");
    }
    fprintf(file, " ]}\n");
    fclose(file);
}

static unsigned size_count(const struct comm_options *options)
{
    return options->long_sizes ? SIZES : SIZES - 1;
}

static void measure_size(struct comm_rank *rank, struct comm_nccl *nccl, struct table *table, uint64_t bytes, const uint32_t *grids,
                         unsigned grid_count)
{
    for (int form = 0; form < COMM_FORM_COUNT; form++) {
        struct comm_point point = {.form = (comm_form)form, .tokens = bytes / 2 / COMM_TIMED_HIDDEN, .strategy = TCW_STRATEGY_NCCL};
        if (nccl && form != COMM_FORM_FP8)
            measure(rank, nccl, table, point);
        point.eager = table->options->eager;
        for (int i = 1; i < STRATEGIES; i++)
            for (unsigned grid = 0; grid < (form == COMM_FORM_FP8 ? 1 : grid_count); grid++) {
                point.strategy = strategies[i];
                point.blocks = grids[grid];
                measure(rank, nccl, table, point);
            }
    }
}

/* Rank 0's clock decides for all. */
static bool go_on(struct comm_rank *rank, uint64_t end)
{
    if (!rank->rank)
        atomic_store(&rank->board->go, tcw_now_ns() < end);
    comm_board_barrier(rank->board);
    bool answer = atomic_load(&rank->board->go);
    comm_board_barrier(rank->board);
    return answer;
}

static int time_rank(struct comm_board *board, uint32_t number, struct table *table, const uint32_t *grids, unsigned grid_count)
{
    const unsigned count = size_count(table->options);
    struct comm_rank rank;
    struct comm_nccl *nccl = NULL;
    int code = comm_rank_open(&rank, board, number);
    if (code)
        return code;
    comm_board_barrier(board);
    comm_timing_prepare(&rank, sizes[count - 1] / 2 / COMM_TIMED_HIDDEN);
    if (table->options->nccl && !comm_board_is_crowded(board))
        nccl = comm_nccl_open(&rank);
    table->nccl_version = nccl ? comm_nccl_version(nccl) : 0;
    const uint64_t end = tcw_now_ns() + table->options->seconds * UINT64_C(1000000000);
    for (unsigned size = 0; size < count && go_on(&rank, end); size++)
        measure_size(&rank, nccl, table, sizes[size], grids, grid_count);
    table->launch_us = comm_timing_launch(&rank, &(struct comm_point){.tokens = 1, .strategy = TCW_STRATEGY_ONESHOT});
    if (!number) {
        print_table(&rank, table);
        if (table->options->json)
            write_json(&rank, table);
    }
    if (nccl)
        comm_nccl_close(nccl);
    comm_rank_close(&rank);
    return 0;
}

static int default_grids(struct comm_board *board, uint32_t number, void *arg)
{
    static const uint32_t grids[] = {0};
    return time_rank(board, number, arg, grids, 1);
}

static int many_grids(struct comm_board *board, uint32_t number, void *arg)
{
    static const uint32_t grids[] = {0, 32, 64, 132, 264, 528, 1024};
    return time_rank(board, number, arg, grids, sizeof(grids) / sizeof(grids[0]));
}

static int run(const struct comm_options *options, comm_work *work)
{
    struct comm_board *board = comm_board_create(options->ranks, options->gpus, options->seconds * 3 + 60);
    struct table *table = calloc(1, sizeof(*table));
    pid_t pids[COMM_MAX_RANKS];
    table->options = options;
    comm_board_fork(board, work, table, pids);
    int code = comm_board_join(board, pids);
    free(table);
    comm_board_destroy(board);
    return code;
}

int comm_time(const struct comm_options *options)
{
    return run(options, default_grids);
}

int comm_sweep(const struct comm_options *options)
{
    return run(options, many_grids);
}
