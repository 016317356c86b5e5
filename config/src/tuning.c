#include <tcf/tuning.h>

#include "file.h"
#include "issues.h"
#include "option.h"
#include "reader.h"
#include "words.h"

#include <stdlib.h>
#include <string.h>

enum { FORMAT_VERSION = 1 };
static const uint64_t max_bytes_limit = 1ull << 50;
static const double max_us = 1e9;

/* ---- reading ---- */

/* A number of bytes; the last step has null: no limit. */
static void read_limit(const struct tcf_value *value, const struct tcf_tuning_table *table, struct tcf_tuning_step *step, bool last,
                       struct tcf_issues *issues)
{
    uint64_t before = table->step_count ? table->steps[table->step_count - 1].max_bytes : 0;

    step->max_bytes = UINT64_MAX;
    if (!value)
        return;
    if (last) {
        if (value->kind != TCF_NULL)
            tcf_value_reject(value, issues, "null in the last step: it serves every longer message");
        return;
    }
    if (tcf_read_integer(value, 1, max_bytes_limit, "bytes", &step->max_bytes, issues) && step->max_bytes <= before)
        tcf_value_reject(value, issues, "more than in the step before");
}

static void read_strategy(const struct tcf_value *value, struct tcf_tuning_step *step, struct tcf_issues *issues)
{
    if (!value)
        return;
    step->strategy = TCW_STRATEGY_ONESHOT;
    if (value->kind == TCF_TEXT && !strcmp(value->text, tcw_strategy_name(TCW_STRATEGY_TWOSHOT)))
        step->strategy = TCW_STRATEGY_TWOSHOT;
    else if (value->kind != TCF_TEXT || strcmp(value->text, tcw_strategy_name(TCW_STRATEGY_ONESHOT)) != 0)
        tcf_value_reject(value, issues, "\"oneshot\" or \"twoshot\"");
}

static void read_step(const struct tcf_value *value, struct tcf_tuning_table *table, struct tcf_issues *issues)
{
    struct tcf_tuning_step step = {.max_bytes = UINT64_MAX};
    const struct tcf_value *blocks = tcf_value_member(value, "blocks");
    uint64_t number;

    if (!tcf_keys_check(value, "max_bytes|strategy|blocks", issues))
        return;
    read_limit(tcf_read_member(value, "max_bytes", issues), table, &step, !value->next, issues);
    read_strategy(tcf_read_member(value, "strategy", issues), &step, issues);
    if (blocks && tcf_read_integer(blocks, 0, TCF_MAX_TUNING_BLOCKS, "blocks", &number, issues))
        step.blocks = (uint32_t)number;
    table->steps[table->step_count++] = step;
}

static void read_steps(const struct tcf_value *value, struct tcf_tuning_table *table, struct tcf_issues *issues)
{
    const struct tcf_value *entry;
    uint32_t count = value->kind == TCF_ARRAY ? tcf_value_count(value) : 0;

    if (count < 1 || count > TCW_MAX_DECISION_STEPS) {
        tcf_value_reject(value, issues, "an array of 1 to %d steps", TCW_MAX_DECISION_STEPS);
        return;
    }
    for (entry = value->first; entry; entry = entry->next)
        read_step(entry, table, issues);
}

/* Microseconds, 0 if absent. */
static double read_us(const struct tcf_value *value, struct tcf_issues *issues)
{
    if (!value)
        return 0;
    if (value->kind == TCF_NUMBER && value->number > 0 && value->number <= max_us)
        return value->number;
    tcf_value_reject(value, issues, "a number of microseconds, more than 0 and at most %.0f", max_us);
    return 0;
}

static void read_time(const struct tcf_value *value, struct tcf_tuning_table *table, struct tcf_issues *issues)
{
    uint64_t before = table->time_count ? table->times[table->time_count - 1].bytes : 0;
    const struct tcf_value *bytes, *oneshot, *twoshot;
    struct tcf_tuning_time *time;

    if (!tcf_keys_check(value, "bytes|oneshot_us|twoshot_us", issues))
        return;
    bytes = tcf_read_member(value, "bytes", issues);
    oneshot = tcf_value_member(value, "oneshot_us");
    twoshot = tcf_value_member(value, "twoshot_us");
    time = &table->times[table->time_count++];
    if (bytes && tcf_read_integer(bytes, 1, max_bytes_limit, "bytes", &time->bytes, issues) && time->bytes <= before)
        tcf_value_reject(bytes, issues, "more than in the measurement before");
    if (!oneshot && !twoshot)
        tcf_value_reject(value, issues, "an object with \"oneshot_us\", \"twoshot_us\" or both");
    time->oneshot_us = read_us(oneshot, issues);
    time->twoshot_us = read_us(twoshot, issues);
}

static void read_times(const struct tcf_value *value, struct tcf_tuning_table *table, struct tcf_issues *issues)
{
    const struct tcf_value *entry;
    uint32_t count = value->kind == TCF_ARRAY ? tcf_value_count(value) : 0;

    if (count < 1 || count > TCF_MAX_TUNING_TIMES) {
        tcf_value_reject(value, issues, "an array of 1 to %d measurements", TCF_MAX_TUNING_TIMES);
        return;
    }
    for (entry = value->first; entry; entry = entry->next)
        read_time(entry, table, issues);
}

static bool is_twice(const struct tcf_tuning *tuning, const struct tcf_tuning_table *table)
{
    uint32_t i;

    for (i = 0; i < tuning->table_count; i++)
        if (tuning->tables[i].ranks == table->ranks && tuning->tables[i].fused == table->fused)
            return true;
    return false;
}

static void read_table(const struct tcf_value *value, struct tcf_tuning *tuning, struct tcf_issues *issues)
{
    struct tcf_tuning_table *table = &tuning->tables[tuning->table_count];
    const struct tcf_value *ranks, *fused, *steps, *measured;
    uint64_t number = 0;

    if (!tcf_keys_check(value, "ranks|fused|steps|measured", issues))
        return;
    ranks = tcf_read_member(value, "ranks", issues);
    fused = tcf_value_member(value, "fused");
    steps = tcf_read_member(value, "steps", issues);
    measured = tcf_value_member(value, "measured");
    if (ranks && tcf_read_integer(ranks, 1, TCW_MAX_RANKS, "ranks", &number, issues))
        table->ranks = (uint32_t)number;
    if (fused && fused->kind != TCF_TRUTH)
        tcf_value_reject(fused, issues, "true or false");
    table->fused = fused && fused->truth;
    if (steps)
        read_steps(steps, table, issues);
    if (measured)
        read_times(measured, table, issues);
    if (is_twice(tuning, table))
        tcf_value_reject(value, issues, "one table for a number of ranks, and one more that is fused");
    tuning->table_count++;
}

static void read_tables(const struct tcf_value *value, struct tcf_tuning *tuning, struct tcf_issues *issues)
{
    const struct tcf_value *entry;
    uint32_t count = value->kind == TCF_ARRAY ? tcf_value_count(value) : 0;

    if (count < 1 || count > TCF_MAX_TUNING_TABLES) {
        tcf_value_reject(value, issues, "an array of 1 to %d tables", TCF_MAX_TUNING_TABLES);
        return;
    }
    for (entry = value->first; entry; entry = entry->next)
        read_table(entry, tuning, issues);
}

static void read_root(const struct tcf_value *root, struct tcf_tuning *tuning, struct tcf_issues *issues)
{
    const struct tcf_value *version, *gpu, *tables;
    uint64_t number;

    if (!tcf_keys_check(root, "version|gpu|command|tables", issues))
        return;
    version = tcf_read_member(root, "version", issues);
    gpu = tcf_value_member(root, "gpu");
    tables = tcf_read_member(root, "tables", issues);
    if (version)
        tcf_read_integer(version, FORMAT_VERSION, FORMAT_VERSION, "", &number, issues);
    if (gpu && gpu->kind != TCF_TEXT)
        tcf_value_reject(gpu, issues, "a string: the GPU it was measured on");
    if (gpu && gpu->kind == TCF_TEXT)
        snprintf(tuning->gpu, sizeof(tuning->gpu), "%s", gpu->text);
    snprintf(tuning->name, sizeof(tuning->name), "%.150s%s%.63s%s", tcf_document_file(root->document),
             gpu && gpu->kind == TCF_TEXT ? " (" : "", gpu && gpu->kind == TCF_TEXT ? gpu->text : "",
             gpu && gpu->kind == TCF_TEXT ? ")" : "");
    if (tables)
        read_tables(tables, tuning, issues);
}

/* Takes the document. */
static struct tcf_tuning *build(struct tcf_document *document, uint32_t issues_before, struct tcf_issues *issues)
{
    struct tcf_tuning *tuning = document ? calloc(1, sizeof(*tuning)) : NULL;

    if (document && !tuning)
        tcf_issue_add(issues, tcf_document_file(document), "", "out of memory");
    if (tuning)
        read_root(tcf_document_root(document), tuning, issues);
    if (document)
        tcf_document_free(document);
    if (issues->count == issues_before)
        return tuning;
    free(tuning);
    return NULL;
}

struct tcf_tuning *tcf_tuning_parse(const char *file, const char *text, size_t bytes, struct tcf_issues *issues)
{
    uint32_t before = issues->count;

    if (!issues->items && !tcf_issues_reserve(issues))
        return NULL;
    return build(tcf_document_parse(file, text, bytes, issues), before, issues);
}

struct tcf_tuning *tcf_tuning_load(const char *path, struct tcf_issues *issues)
{
    uint32_t before = issues->count;

    if (!issues->items && !tcf_issues_reserve(issues))
        return NULL;
    return build(tcf_document_load(path, issues), before, issues);
}

void tcf_tuning_free(struct tcf_tuning *tuning)
{
    free(tuning);
}

/* ---- looking up ---- */

/* How far a table is from what is wanted; smaller is nearer. */
static uint32_t distance(const struct tcf_tuning_table *table, uint32_t ranks, bool fused)
{
    uint32_t far = table->ranks >= ranks ? table->ranks - ranks : TCW_MAX_RANKS + ranks - table->ranks;

    return far * 2 + (table->fused != fused);
}

const struct tcf_tuning_table *tcf_tuning_find(const struct tcf_tuning *tuning, uint32_t ranks, bool fused)
{
    const struct tcf_tuning_table *nearest = &tuning->tables[0];
    uint32_t i;

    for (i = 1; i < tuning->table_count; i++)
        if (distance(&tuning->tables[i], ranks, fused) < distance(nearest, ranks, fused))
            nearest = &tuning->tables[i];
    return nearest;
}

static bool times_equal(const struct tcf_tuning_table *one, const struct tcf_tuning_table *other)
{
    uint32_t i;

    if (one->time_count != other->time_count)
        return false;
    for (i = 0; i < one->time_count; i++)
        if (one->times[i].bytes != other->times[i].bytes || one->times[i].oneshot_us != other->times[i].oneshot_us ||
            one->times[i].twoshot_us != other->times[i].twoshot_us)
            return false;
    return true;
}

static bool tables_equal(const struct tcf_tuning_table *one, const struct tcf_tuning_table *other)
{
    uint32_t i;

    if (one->ranks != other->ranks || one->fused != other->fused || one->step_count != other->step_count)
        return false;
    for (i = 0; i < one->step_count; i++)
        if (one->steps[i].max_bytes != other->steps[i].max_bytes || one->steps[i].strategy != other->steps[i].strategy ||
            one->steps[i].blocks != other->steps[i].blocks)
            return false;
    return times_equal(one, other);
}

bool tcf_tuning_equal(const struct tcf_tuning *one, const struct tcf_tuning *other)
{
    uint32_t i;

    if (!one || !other)
        return one == other;
    if (one->table_count != other->table_count || strcmp(one->gpu, other->gpu) != 0)
        return false;
    for (i = 0; i < one->table_count; i++)
        if (!tables_equal(&one->tables[i], &other->tables[i]))
            return false;
    return true;
}
