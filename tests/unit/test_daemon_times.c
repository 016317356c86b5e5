/* What explain says was measured: the nearest sizes, the chosen strategy first, and why there is nothing where there is nothing. */
#include "cmocka_all.h"

#include "daemon/control/times.h"
#include "daemon/control/tuning.h"

#include <tck/cuda_times.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { STEP_COUNT = 1, ONESHOT = TCW_STRATEGY_ONESHOT, TWOSHOT = TCW_STRATEGY_TWOSHOT };

static const struct tcf_tuning measured = {
    .name = "t.json",
    .table_count = 2,
    .tables = {{.ranks = 4,
                .step_count = STEP_COUNT,
                .steps = {{UINT64_MAX, TCW_STRATEGY_ONESHOT, 0}},
                .time_count = 3,
                .times = {{100, 1.5, 2.5}, {200, 3.5, 0}, {400, 0, 4.5}}},
               {.ranks = 8, .fused = true, .step_count = STEP_COUNT, .steps = {{UINT64_MAX, TCW_STRATEGY_ONESHOT, 0}}}},
};

/* As text, which the next call overwrites. */
static const char *ask(const struct tcf_tuning *tuning, uint32_t nranks, bool fused, uint64_t bytes, uint32_t strategy)
{
    static char text[1024];
    const struct tcd_times_question question = {tuning, nranks, fused, bytes, strategy};
    cJSON *answer = cJSON_CreateObject();

    tcd_times_add(answer, &question);
    assert_true(cJSON_PrintPreallocated(answer, text, sizeof(text), false));
    cJSON_Delete(answer);
    return text;
}

static void expect_times(uint64_t bytes, uint32_t strategy, const char *times)
{
    char wanted[512];

    snprintf(wanted, sizeof(wanted), "{\"times_of\":\"t.json: the table for 4 ranks\",\"times\":[%s]}", times);
    assert_string_equal(ask(&measured, 4, false, bytes, strategy), wanted);
}

#define OF(strategy, measured) "{\"strategy\":\"" strategy "\",\"measured\":[" measured "]}"
#define AT(bytes, us)          "{\"bytes\":" bytes ",\"us\":" us "}"

static void test_nearest_sizes(void **state)
{
    (void)state;
    expect_times(100, ONESHOT, OF("oneshot", AT("100", "1.5")) "," OF("twoshot", AT("100", "2.5")));
    expect_times(7, TWOSHOT, OF("twoshot", AT("100", "2.5")) "," OF("oneshot", AT("100", "1.5")));
    expect_times(150, ONESHOT,
                 OF("oneshot", AT("100", "1.5") "," AT("200", "3.5")) "," OF("twoshot", AT("100", "2.5") "," AT("400", "4.5")));
    expect_times(200, TWOSHOT, OF("twoshot", AT("100", "2.5") "," AT("400", "4.5")) "," OF("oneshot", AT("200", "3.5")));
    expect_times(1u << 30, TWOSHOT, OF("twoshot", AT("400", "4.5")) "," OF("oneshot", AT("200", "3.5")));
}

static void test_another_strategy(void **state)
{
    (void)state;
    expect_times(100, TCW_STRATEGY_NCCL, OF("nccl", "") "," OF("oneshot", AT("100", "1.5")) "," OF("twoshot", AT("100", "2.5")));
}

static void test_nothing_measured(void **state)
{
    (void)state;
    assert_string_equal(ask(&measured, 8, true, 100, ONESHOT),
                        "{\"no_times\":\"t.json: no times in the table for 8 ranks with an epilogue\"}");
    assert_string_equal(ask(&measured, 4, true, 100, ONESHOT), "{\"no_times\":\"t.json: no table for 4 ranks with an epilogue\"}");
    assert_string_equal(ask(&measured, 2, false, 100, ONESHOT), "{\"no_times\":\"t.json: no table for 2 ranks\"}");
}

/* Every row of tck/cuda_times.h arrives in its table, and the larger groups have none. */
static void test_builtin(void **state)
{
    static const struct {
        uint32_t ranks;
        bool fused;
        struct tcf_tuning_time time;
    } rows[] = {
#define ROW(ranks, fused, bytes, oneshot_us, twoshot_us) {ranks, fused, {bytes, oneshot_us, twoshot_us}},
        TCK_CUDA_TIMES(ROW)
#undef ROW
    };
    const struct tcf_tuning *tuning = tcd_tuning_default();
    uint32_t i, place = 0, total = 0;

    (void)state;
    for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const struct tcf_tuning_table *table = tcf_tuning_find(tuning, rows[i].ranks, rows[i].fused);

        place = i && rows[i - 1].ranks == rows[i].ranks && rows[i - 1].fused == rows[i].fused ? place + 1 : 0;
        assert_true(table->ranks == rows[i].ranks && table->fused == rows[i].fused && place < table->time_count);
        assert_true(table->times[place].bytes == rows[i].time.bytes);
        assert_true(!place || table->times[place - 1].bytes < table->times[place].bytes);
        assert_true(table->times[place].oneshot_us == rows[i].time.oneshot_us);
        assert_true(table->times[place].twoshot_us == rows[i].time.twoshot_us);
    }
    for (i = 0; i < tuning->table_count; i++) {
        total += tuning->tables[i].time_count;
        assert_int_equal(tuning->tables[i].time_count > 0, tuning->tables[i].ranks <= 4);
    }
    assert_int_equal(total, sizeof(rows) / sizeof(rows[0]));
    assert_non_null(strstr(ask(NULL, 2, false, 1 << 20, ONESHOT), TCK_CUDA_TIMES_GPU));
    assert_non_null(strstr(ask(NULL, 8, false, 1 << 20, ONESHOT), "no times in the table for 8 ranks"));
    assert_non_null(strstr(ask(NULL, 3, false, 1 << 20, ONESHOT), "no table for 3 ranks"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nearest_sizes),
        cmocka_unit_test(test_another_strategy),
        cmocka_unit_test(test_nothing_measured),
        cmocka_unit_test(test_builtin),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
