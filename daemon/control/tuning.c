#include "tuning.h"

#include "daemon.h"

#include <tck/cuda_defaults.h>
#include <tck/cuda_times.h>
#include <tcw/message.h>

#include <string.h>

static const struct row {
    uint32_t ranks;
    bool fused;
    struct tcf_tuning_step step;
} rows[] = {
#define ROW(ranks, fused, max_bytes, strategy, blocks) {ranks, fused, {max_bytes, strategy, blocks}},
    TCK_CUDA_DEFAULTS(ROW)
#undef ROW
};
enum { ROWS = sizeof(rows) / sizeof(rows[0]) };
_Static_assert((int)ROWS <= (int)TCF_MAX_TUNING_TABLES, "even if each row were a table of its own");

static bool continues(const struct tcf_tuning_table *table, const struct row *row)
{
    return table->ranks == row->ranks && table->fused == row->fused;
}

static const struct measurement {
    uint32_t ranks;
    bool fused;
    struct tcf_tuning_time time;
} measurements[] = {
#define TIME(ranks, fused, bytes, oneshot_us, twoshot_us) {ranks, fused, {bytes, oneshot_us, twoshot_us}},
    TCK_CUDA_TIMES(TIME)
#undef TIME
};

static void fill_times(struct tcf_tuning_table *table)
{
    unsigned i;

    for (i = 0; i < sizeof(measurements) / sizeof(measurements[0]) && table->time_count < TCF_MAX_TUNING_TIMES; i++)
        if (measurements[i].ranks == table->ranks && measurements[i].fused == table->fused)
            table->times[table->time_count++] = measurements[i].time;
}

/* Rows of a table stand together. */
static void fill(struct tcf_tuning *tuning)
{
    struct tcf_tuning_table *table = NULL;
    unsigned i;

    tcw_text_set(tuning->name, sizeof(tuning->name), "the built-in tables (" TCK_CUDA_TIMES_GPU ")");
    for (i = 0; i < ROWS; i++) {
        if (!table || !continues(table, &rows[i])) {
            table = &tuning->tables[tuning->table_count++];
            table->ranks = rows[i].ranks;
            table->fused = rows[i].fused;
            fill_times(table);
        }
        if (table->step_count < TCW_MAX_DECISION_STEPS)
            table->steps[table->step_count++] = rows[i].step;
    }
}

const struct tcf_tuning *tcd_tuning_default(void)
{
    static struct tcf_tuning builtin;

    if (!builtin.table_count)
        fill(&builtin);
    return &builtin;
}

bool tcd_tuning_is_foreign(const struct tcf_tuning *tuning, const struct tcd_device *device)
{
    return tuning && *tuning->gpu && device->kind == TCF_DEVICE_CUDA && device->known &&
           strcmp(tuning->gpu, device->facts.device.name) != 0;
}

void tcd_tuning_note_foreign(struct tcd_daemon *daemon)
{
    const struct tcf_tuning *tuning = daemon->config->tuning;
    uint32_t i;

    for (i = 0; i < daemon->device_count && !daemon->tuning_noted; i++) {
        if (!tcd_tuning_is_foreign(tuning, &daemon->devices[i]))
            continue;
        tcd_log(TCD_NOTICE, "choosing.tuning: %s was measured on %s, device %u is %s; its tables are in effect all the same",
                daemon->config->options.tuning, tuning->gpu, daemon->devices[i].number, daemon->devices[i].facts.device.name);
        daemon->tuning_noted = true;
    }
}
