/*
 * trtcoll-bench --device cuda --tune: measures every strategy on every grid, in lockstep, and makes the file that choosing.tuning names.
 *
 * What a plan gets is the daemon's decision, so the daemon is told: before each turn the parent gives it a table with one step, by a
 * reload, and the ranks make their plans then. Turn 0 comes before, and is what the daemon does of its own accord.
 */
#include "../server.h"
#include "../tuning.h"
#include "cuda.h"
#include "operands.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { TURNS = TUNING_CANDIDATES + 1, TURN_S = 300, MOST_ONESHOT_BYTES = 32 << 20 };

static const uint32_t kinds[TUNING_KINDS] = {PART_DIRECT, PART_NORM};

struct tune_slot {
    _Atomic uint32_t wants, may; /* of rank 0: turns that have been asked for, and that the daemon is ready for */
    double us[TURNS][TUNING_KINDS][FIGURES_MAX_SIZES];
    uint32_t strategy[TUNING_KINDS][FIGURES_MAX_SIZES]; /* of turn 0 */
    char note[CUDA_NOTE_BYTES];
};

struct tune {
    struct gpu gpu;
    struct operands operands;
    struct trtcoll_plan *plan;
    struct trtcoll_run_args args;
    uint32_t count;
    uint64_t sizes[FIGURES_MAX_SIZES];
};

/* ---- a rank ---- */

static int enqueue(void *arg)
{
    struct tune *tune = arg;
    int code = trtcoll_plan_run(tune->plan, &tune->args, tune->gpu.stream, NULL);
    return code == 0 ? 0 : gpu_complain(&tune->gpu, code, "run");
}

static int time_plan(struct tune *tune, uint64_t bytes, double *us)
{
    const struct gpu_work work = {.enqueue = enqueue, .arg = tune, .graph = true};
    int code = operands_clear(&tune->operands, bytes);
    if (code == 0)
        code = enqueue(tune);
    if (code == 0)
        code = gpu_time(&tune->gpu, &work, tune->gpu.rank->settings->replays, us);
    return code == 0 ? operands_check(&tune->operands, bytes, false) : code;
}

/* Whether the daemon has chosen what it was told to. */
static int check_choice(struct tune *tune, uint32_t turn, uint32_t *strategy)
{
    struct trtcoll_plan_info info = {.size = sizeof(info)};
    int code = trtcoll_plan_info(tune->plan, &info);
    if (code != 0)
        return gpu_complain(&tune->gpu, code, "plan");
    *strategy = info.strategy;
    const bool oneshot = turn > 0 && strcmp(tuning_candidates[turn - 1].strategy, "oneshot") == 0;
    if (turn > 0 && info.strategy != (oneshot ? TRTCOLL_STRATEGY_ONESHOT : TRTCOLL_STRATEGY_TWOSHOT))
        return gpu_fail(&tune->gpu, TRTCOLL_EINTERNAL, "the daemon did not choose %s", tuning_candidates[turn - 1].strategy);
    return 0;
}

/* A one-shot sends everything to everybody: of long messages that is not worth its time. */
static bool is_hopeless(const struct tune *tune, uint32_t turn, uint64_t bytes)
{
    return turn > 0 && (turn - 1) % 2 == 0 && bytes * (tune->gpu.rank->nranks - 1) > MOST_ONESHOT_BYTES;
}

static int measure_one(struct tune *tune, uint32_t turn, uint32_t kind, uint32_t size, struct tune_slot *slot)
{
    const uint64_t bytes = tune->sizes[size];
    struct trtcoll_all_reduce_desc desc;
    uint32_t strategy = 0;
    tune->operands.part = kinds[kind];
    operands_describe(&tune->operands, bytes, &desc, &tune->args);
    desc.lane = TRTCOLL_LANE_DIRECT;
    desc.strategy = TRTCOLL_STRATEGY_AUTO;
    desc.flags |= TRTCOLL_GRAPH;
    tune->args.flags = TRTCOLL_PDL;
    int code = trtcoll_plan_create_all_reduce(tune->gpu.rank->group, &desc, &tune->plan);
    if (code != 0)
        return gpu_complain(&tune->gpu, code, "plan");
    code = check_choice(tune, turn, &strategy);
    if (code == 0 && turn == 0)
        slot->strategy[kind][size] = strategy;
    if (code == 0)
        code = time_plan(tune, bytes, &slot->us[turn][kind][size]);
    trtcoll_plan_release(tune->plan);
    return code;
}

static int take_turn(struct tune *tune, uint32_t turn, struct tune_slot *slot)
{
    int code = 0;
    if (tune->gpu.rank->rank == 0) {
        atomic_store(&slot->wants, turn + 1);
        while (atomic_load(&slot->may) <= turn)
            usleep(1000);
    }
    code = gpu_barrier(&tune->gpu);
    for (uint32_t kind = 0; kind < TUNING_KINDS; kind++)
        for (uint32_t size = 0; size < tune->count && code == 0; size++)
            if (!is_hopeless(tune, turn, tune->sizes[size]))
                code = measure_one(tune, turn, kind, size, slot);
    return code;
}

static int tune_body(struct fleet_rank *rank)
{
    struct tune_slot *slot = rank->slot;
    struct tune tune = {.count = 0};
    tune.count = figures_sizes(PART_NORM, rank->settings->low, rank->settings->high, tune.sizes);
    int code = gpu_open(&tune.gpu, rank, slot->note);
    if (code == 0)
        code = operands_create(&tune.operands, &tune.gpu, PART_NORM, tune.sizes[tune.count - 1]);
    /* Once for nothing: while a workspace grows, executors use the GPUs too, and the first replays would count that. */
    if (code == 0)
        code = measure_one(&tune, 0, TUNING_KINDS - 1, tune.count - 1, slot);
    for (uint32_t turn = 0; turn < TURNS && code == 0; turn++)
        code = take_turn(&tune, turn, slot);
    return code; /* the process ends here, and everything with it */
}

/* ---- the parent ---- */

/* A file of one candidate for everything. */
static int tell_daemon(const struct settings *settings, const struct server *server, uint32_t turn)
{
    struct tuning_table tables[TUNING_KINDS];
    for (uint32_t kind = 0; kind < TUNING_KINDS; kind++)
        tables[kind] = (struct tuning_table){
            .ranks = settings->ranks, .fused = kinds[kind] == PART_NORM, .count = 1, .sizes = {1}, .chosen = {turn - 1}};
    FILE *file = fopen(settings->tuning_path, "w");
    if (!file)
        return EXIT_FAILED;
    tuning_write(file, "", settings->command, tables, TUNING_KINDS);
    if (fclose(file) != 0)
        return EXIT_FAILED;
    return server_reload(settings, server);
}

/* Waits for the ranks to want a turn. */
static bool await_wish(struct fleet *fleet, uint32_t turn)
{
    const struct tune_slot *first = fleet_slot(fleet, 0);
    for (uint64_t deadline = loop_now_ns() + TURN_S * 1000000000ull; loop_now_ns() < deadline && !bench_interrupted(); usleep(1000)) {
        if (atomic_load(&first->wants) > turn)
            return true;
        if (fleet_ended(fleet))
            break;
    }
    return false;
}

static void show_progress(const struct settings *settings, uint32_t turn)
{
    char grid[32] = "own grid";
    if (turn > 0 && tuning_candidates[turn - 1].blocks > 0)
        snprintf(grid, sizeof(grid), "%u blocks", tuning_candidates[turn - 1].blocks);
    fprintf(stderr, "trtcoll-bench: %u ranks, turn %u of %d: %s%s%s\n", settings->ranks, turn + 1, TURNS,
            turn > 0 ? tuning_candidates[turn - 1].strategy : "as the daemon chooses", turn > 0 ? ", " : "", turn > 0 ? grid : "");
}

static int play(struct settings *settings, const struct server *server, struct fleet *fleet)
{
    struct tune_slot *first = fleet_slot(fleet, 0);
    for (uint32_t turn = 0; turn < TURNS; turn++) {
        if (!await_wish(fleet, turn))
            break; /* and fleet_wait knows more */
        show_progress(settings, turn);
        if (turn > 0 && tell_daemon(settings, server, turn) != 0) {
            fprintf(stderr, "trtcoll-bench: the daemon does not take %s\n", settings->tuning_path);
            return EXIT_FAILED;
        }
        atomic_store(&first->may, turn + 1);
    }
    return fleet_wait(fleet, TURN_S);
}

/* The slowest rank counts. */
static double slowest(struct fleet *fleet, uint32_t ranks, uint32_t turn, uint32_t kind, uint32_t size)
{
    double most = 0;
    for (uint32_t rank = 0; rank < ranks; rank++) {
        double us = ((const struct tune_slot *)fleet_slot(fleet, rank))->us[turn][kind][size];
        most = us > most ? us : most;
    }
    return most;
}

static void collect(struct fleet *fleet, const struct settings *settings, struct tuning_table *tables)
{
    for (uint32_t kind = 0; kind < TUNING_KINDS; kind++) {
        struct tuning_table *table = &tables[kind];
        *table = (struct tuning_table){.ranks = settings->ranks, .fused = kinds[kind] == PART_NORM};
        table->count = figures_sizes(PART_NORM, settings->low, settings->high, table->sizes);
        for (uint32_t size = 0; size < table->count; size++) {
            table->old_us[size] = slowest(fleet, settings->ranks, 0, kind, size);
            table->old_strategy[size] = ((const struct tune_slot *)fleet_slot(fleet, 0))->strategy[kind][size];
            for (uint32_t c = 0; c < TUNING_CANDIDATES; c++)
                table->us[size][c] = slowest(fleet, settings->ranks, c + 1, kind, size);
        }
        tuning_choose(table);
    }
}

/* Both tables of one number of ranks, with a daemon of its own. */
static int tune_ranks(struct settings *settings, struct tuning_table *tables)
{
    char path[192];
    struct server server;
    settings->configured_group = false;
    settings->tuning_path = NULL;
    int status = server_start(settings, &server);
    if (status == 0) {
        struct fleet *fleet = fleet_start(settings, settings->ranks, sizeof(struct tune_slot), tune_body, NULL);
        snprintf(path, sizeof(path), "%s/tuning.json", server.directory);
        settings->tuning_path = path;
        status = fleet ? play(settings, &server, fleet) : EXIT_FAILED;
        if (status == 0)
            collect(fleet, settings, tables);
        else
            server_show_log(&server);
        fleet_destroy(fleet);
    }
    int stopped = server_stop(&server);
    settings->tuning_path = NULL;
    return status != 0 ? status : stopped;
}

static int refuse_path(const struct settings *settings, int error)
{
    fprintf(stderr, "trtcoll-bench: %s: %s\n", settings->tune_path, strerror(error));
    return EXIT_FAILED;
}

/* A file beside the one that is wanted. 0, or EXIT_FAILED after a message. */
static int open_beside(const struct settings *settings, char *path, size_t size, int *fd)
{
    if (snprintf(path, size, "%s.XXXXXX", settings->tune_path) >= (int)size)
        return refuse_path(settings, ENAMETOOLONG);
    *fd = mkstemp(path);
    return *fd >= 0 ? 0 : refuse_path(settings, errno);
}

/* Whether it will be possible: known before minutes are spent. */
static int try_to_save(const struct settings *settings)
{
    char path[512];
    int fd, status = open_beside(settings, path, sizeof(path), &fd);
    if (status == 0) {
        close(fd);
        unlink(path);
    }
    return status;
}

/* Whole or not at all, as a daemon may read it at any time. */
static int save(const struct settings *settings, const char *gpu, const struct tuning_table *tables, uint32_t count)
{
    char path[512];
    int fd, status = open_beside(settings, path, sizeof(path), &fd);
    if (status != 0)
        return status;
    FILE *file = fdopen(fd, "w");
    bool good = file != NULL;
    if (good) {
        tuning_write(file, gpu, settings->command, tables, count);
        good = fflush(file) == 0 && fchmod(fd, 0644) == 0 && fsync(fd) == 0;
        good = fclose(file) == 0 && good && rename(path, settings->tune_path) == 0;
    }
    if (good)
        return 0;
    status = refuse_path(settings, errno);
    unlink(path);
    return status;
}

/* The numbers of ranks to measure: the one asked for; or 2, 4, 8 and 16 as far as there are GPUs, and all of these. */
static uint32_t list_ranks(const struct settings *settings, uint32_t gpus, uint32_t *ranks)
{
    uint32_t count = 0;
    if (settings->ranks_given) {
        ranks[0] = settings->ranks;
        return 1;
    }
    for (uint32_t n = 2; n <= gpus && n <= BENCH_MAX_RANKS; n *= 2)
        ranks[count++] = n;
    if (gpus > 2 && gpus <= BENCH_MAX_RANKS && ranks[count - 1] != gpus)
        ranks[count++] = gpus;
    return count;
}

int cuda_tune(struct settings *settings, const struct cuda_facts *facts)
{
    static struct tuning_table tables[TUNING_MOST_TABLES];
    uint32_t ranks[TUNING_MOST_TABLES / TUNING_KINDS], count = list_ranks(settings, facts->gpus, ranks);
    if (try_to_save(settings) != 0)
        return EXIT_FAILED;
    for (uint32_t i = 0; i < count; i++) {
        settings->ranks = ranks[i];
        int status = tune_ranks(settings, &tables[i * TUNING_KINDS]);
        if (status != 0 || bench_interrupted())
            return status != 0 ? status : EXIT_FAILED;
    }
    int status = save(settings, facts->gpu, tables, count * TUNING_KINDS);
    if (status != 0)
        return status;
    if (settings->json) {
        tuning_write(stdout, facts->gpu, settings->command, tables, count * TUNING_KINDS);
        return 0;
    }
    printf("%u of %u %s\n", ranks[count - 1], facts->gpus, facts->gpu);
    for (uint32_t i = 0; i < count * TUNING_KINDS; i++)
        tuning_print(stdout, &tables[i]);
    printf("\nwritten to %s; a daemon uses it when choosing.tuning names it, after a reload\n", settings->tune_path);
    return 0;
}
