#include "tuning.h"

#include "json_text.h"

#include <inttypes.h>
#include <string.h>

#define NOISE 1.02

/* The first two have the kernels' own grids; strategies alternate. */
const struct tuning_candidate tuning_candidates[TUNING_CANDIDATES] = {
    {"oneshot", 0},  {"twoshot", 0},  {"oneshot", 16},  {"twoshot", 16},  {"oneshot", 32},  {"twoshot", 32},
    {"oneshot", 64}, {"twoshot", 64}, {"oneshot", 132}, {"twoshot", 132}, {"oneshot", 264}, {"twoshot", 264},
};

static uint32_t fastest(const double *us)
{
    uint32_t best = 0;
    for (uint32_t c = 1; c < TUNING_CANDIDATES; c++)
        if (us[c] > 0 && (us[best] <= 0 || us[c] < us[best]))
            best = c;
    return best;
}

static bool is_near(const double *us, uint32_t candidate, uint32_t best)
{
    return us[candidate] > 0 && us[candidate] <= us[best] * NOISE;
}

void tuning_choose(struct tuning_table *table)
{
    for (uint32_t i = 0; i < table->count; i++) {
        const double *us = table->us[i];
        uint32_t best = fastest(us), own = best % 2, before = i > 0 ? table->chosen[i - 1] : best;
        table->chosen[i] = is_near(us, before, best) ? before : is_near(us, own, best) ? own : best;
        if (i == 0 && is_near(us, own, best))
            table->chosen[i] = own;
    }
}

/*
 * Where the lines through the times of the two choices, at this size and the next, cross: as a part of the way. The next choice may be the
 * faster one here already, by no more than noise.
 */
static double crossing(const double *here, const double *there, uint32_t now, uint32_t next)
{
    if (here[next] <= 0 || there[now] <= 0)
        return 0.5;
    const double ahead = here[next] > here[now] ? here[next] - here[now] : 0;
    const double behind = there[now] > there[next] ? there[now] - there[next] : 0;
    return ahead + behind > 0 ? ahead / (ahead + behind) : 0.5;
}

uint64_t tuning_limit(const struct tuning_table *table, uint32_t i)
{
    if (i + 1 >= table->count)
        return UINT64_MAX;
    const double way = crossing(table->us[i], table->us[i + 1], table->chosen[i], table->chosen[i + 1]);
    const uint64_t apart = table->sizes[i + 1] - table->sizes[i];
    return table->sizes[i] + ((uint64_t)(way * (double)apart) & ~UINT64_C(1023));
}

/* Of a strategy at a size: what the table chooses there, or else its fastest grid. 0: it was not measured. */
static double time_of(const struct tuning_table *table, uint32_t size, const char *strategy)
{
    const struct tuning_candidate *chosen = &tuning_candidates[table->chosen[size]];
    double least = 0;
    if (strcmp(chosen->strategy, strategy) == 0)
        return table->us[size][table->chosen[size]];
    for (uint32_t c = 0; c < TUNING_CANDIDATES; c++) {
        double us = strcmp(tuning_candidates[c].strategy, strategy) == 0 ? table->us[size][c] : 0;
        if (us > 0 && (least <= 0 || us < least))
            least = us;
    }
    return least;
}

static void write_times(FILE *to, const struct tuning_table *table)
{
    static const char *const strategies[] = {"oneshot", "twoshot"};
    bool first = true;
    for (uint32_t i = 0; i < table->count; i++) {
        const double us[] = {time_of(table, i, strategies[0]), time_of(table, i, strategies[1])};
        if (us[0] <= 0 && us[1] <= 0)
            continue;
        fprintf(to, "%s\n      {\"bytes\": %" PRIu64, first ? ", \"measured\": [" : ",", table->sizes[i]);
        for (uint32_t s = 0; s < 2; s++)
            if (us[s] > 0)
                fprintf(to, ", \"%s_us\": %.3f", strategies[s], us[s]);
        fprintf(to, "}");
        first = false;
    }
    if (!first)
        fprintf(to, "\n    ]");
}

static void write_table(FILE *to, const struct tuning_table *table)
{
    bool first = true;
    fprintf(to, "    {\"ranks\": %" PRIu32 ", \"fused\": %s, \"steps\": [", table->ranks, table->fused ? "true" : "false");
    for (uint32_t i = 0; i < table->count; i++) {
        const struct tuning_candidate *candidate = &tuning_candidates[table->chosen[i]];
        uint64_t limit = tuning_limit(table, i);
        if (i + 1 < table->count && table->chosen[i + 1] == table->chosen[i])
            continue; /* one step with the next */
        fprintf(to, "%s\n      {\"max_bytes\": ", first ? "" : ",");
        fprintf(to, limit == UINT64_MAX ? "null" : "%" PRIu64, limit);
        fprintf(to, ", \"strategy\": \"%s\", \"blocks\": %" PRIu32 "}", candidate->strategy, candidate->blocks);
        first = false;
    }
    fprintf(to, "\n    ]");
    write_times(to, table);
    fprintf(to, "}");
}

void tuning_write(FILE *to, const char *gpu, const char *command, const struct tuning_table *tables, uint32_t count)
{
    fprintf(to, "{\n  \"version\": 1,\n  \"gpu\": ");
    json_text(to, gpu);
    fprintf(to, ",\n  \"command\": ");
    json_text(to, command);
    fprintf(to, ",\n  \"tables\": [\n");
    for (uint32_t i = 0; i < count; i++) {
        write_table(to, &tables[i]);
        fprintf(to, "%s\n", i + 1 < count ? "," : "");
    }
    fprintf(to, "  ]\n}\n");
}

static const char *strategy_text(uint32_t strategy)
{
    static const char *const names[] = {"nccl", "min-latency", "ub", "auto", "oneshot", "twoshot"};
    return strategy < sizeof(names) / sizeof(names[0]) ? names[strategy] : "other";
}

void tuning_print(FILE *to, const struct tuning_table *table)
{
    fprintf(to, "\n%" PRIu32 " ranks, %s; us in a graph of 50, slowest rank\n", table->ranks,
            table->fused ? "with residual and RMSNorm" : "plain");
    fprintf(to, "%10s | %-12s %9s | %-12s %9s %7s\n", "message", "was", "us", "is", "us", "blocks");
    for (uint32_t i = 0; i < table->count; i++) {
        const struct tuning_candidate *candidate = &tuning_candidates[table->chosen[i]];
        char blocks[16] = "own";
        if (candidate->blocks > 0)
            snprintf(blocks, sizeof(blocks), "%" PRIu32, candidate->blocks);
        fprintf(to, "%7" PRIu64 " KB | %-12s %9.2f | %-12s %9.2f %7s\n", table->sizes[i] >> 10, strategy_text(table->old_strategy[i]),
                table->old_us[i], candidate->strategy, table->us[i][table->chosen[i]], blocks);
    }
}
