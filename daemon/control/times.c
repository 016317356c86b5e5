#include "times.h"

#include "tuning.h"

#include <stdio.h>

enum { TIMES_TEXT_BYTES = 384 };

/* 0: not measured. */
static double time_of(const struct tcf_tuning_time *time, uint32_t strategy)
{
    return strategy == TCW_STRATEGY_ONESHOT ? time->oneshot_us : strategy == TCW_STRATEGY_TWOSHOT ? time->twoshot_us : 0;
}

static void add_time(cJSON *measured, const struct tcf_tuning_time *time, uint32_t strategy)
{
    cJSON *item = cJSON_CreateObject();

    cJSON_AddNumberToObject(item, "bytes", (double)time->bytes);
    cJSON_AddNumberToObject(item, "us", time_of(time, strategy));
    cJSON_AddItemToArray(measured, item);
}

/* At this very size; or at the next smaller and the next larger one, as far as there are. */
static void add_strategy(cJSON *times, const struct tcf_tuning_table *table, uint32_t strategy, uint64_t bytes)
{
    const struct tcf_tuning_time *below = NULL, *above = NULL;
    cJSON *item = cJSON_CreateObject(), *measured;
    uint32_t i;

    for (i = 0; i < table->time_count && !above; i++) {
        const struct tcf_tuning_time *time = &table->times[i];

        if (time_of(time, strategy) > 0 && time->bytes <= bytes)
            below = time;
        else if (time_of(time, strategy) > 0)
            above = time;
    }
    cJSON_AddStringToObject(item, "strategy", tcw_strategy_name(strategy));
    measured = cJSON_AddArrayToObject(item, "measured");
    if (below)
        add_time(measured, below, strategy);
    if (above && (!below || below->bytes < bytes))
        add_time(measured, above, strategy);
    cJSON_AddItemToArray(times, item);
}

void tcd_times_add(cJSON *answer, const struct tcd_times_question *question)
{
    static const uint32_t others[] = {TCW_STRATEGY_ONESHOT, TCW_STRATEGY_TWOSHOT};
    const struct tcf_tuning *tuning = question->tuning ? question->tuning : tcd_tuning_default();
    const struct tcf_tuning_table *table = tcf_tuning_find(tuning, question->nranks, question->fused);
    const char *kind = question->fused ? " with an epilogue" : "";
    char text[TIMES_TEXT_BYTES];
    cJSON *times;
    unsigned i;

    if (table->ranks != question->nranks || table->fused != question->fused) {
        snprintf(text, sizeof(text), "%s: no table for %u ranks%s", tuning->name, question->nranks, kind);
        cJSON_AddStringToObject(answer, "no_times", text);
        return;
    }
    if (!table->time_count) {
        snprintf(text, sizeof(text), "%s: no times in the table for %u ranks%s", tuning->name, question->nranks, kind);
        cJSON_AddStringToObject(answer, "no_times", text);
        return;
    }
    snprintf(text, sizeof(text), "%s: the table for %u ranks%s", tuning->name, question->nranks, kind);
    cJSON_AddStringToObject(answer, "times_of", text);
    times = cJSON_AddArrayToObject(answer, "times");
    add_strategy(times, table, question->strategy, question->bytes);
    for (i = 0; i < sizeof(others) / sizeof(others[0]); i++)
        if (others[i] != question->strategy)
            add_strategy(times, table, others[i], question->bytes);
}
