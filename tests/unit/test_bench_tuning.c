/* trtcoll-bench --tune: how tables are made of measurements, and that the daemon understands what is written. */
#include "client/bench/tuning.h"

#include <tcf/tuning.h>

#include <stdlib.h>
#include <string.h>

#include "cmocka_all.h"

enum { ONESHOT_OWN = 0, TWOSHOT_OWN = 1, ONESHOT_16 = 2, TWOSHOT_264 = 11 };

static struct tuning_table table_of(uint32_t count)
{
    struct tuning_table table = {.ranks = 4, .count = count};
    for (uint32_t i = 0; i < count; i++) {
        table.sizes[i] = UINT64_C(16384) << 2 * i;
        for (uint32_t c = 0; c < TUNING_CANDIDATES; c++)
            table.us[i][c] = 10;
    }
    return table;
}

/* What a daemon reads in a file of these tables. The caller frees it. */
static struct tcf_tuning *written(const char *gpu, const struct tuning_table *tables, uint32_t count)
{
    struct tcf_issues issues = {0};
    char *text = NULL;
    size_t bytes = 0;
    FILE *file = open_memstream(&text, &bytes);
    assert_non_null(file);
    tuning_write(file, gpu, "command", tables, count);
    assert_int_equal(fclose(file), 0);
    struct tcf_tuning *tuning = tcf_tuning_parse("t.json", text, bytes, &issues);
    assert_non_null(tuning);
    tcf_issues_free(&issues);
    free(text);
    return tuning;
}

static void test_candidates(void **state)
{
    (void)state;
    for (uint32_t c = 0; c < TUNING_CANDIDATES; c++) {
        assert_string_equal(tuning_candidates[c].strategy, c % 2 ? "twoshot" : "oneshot");
        assert_int_equal(tuning_candidates[c].blocks == 0, c < 2);
        assert_true(tuning_candidates[c].blocks <= TCF_MAX_TUNING_BLOCKS);
    }
}

static void test_fastest(void **state)
{
    struct tuning_table table = table_of(4);
    (void)state;
    table.us[0][ONESHOT_16] = 5;
    table.us[1][TWOSHOT_OWN] = 5;
    table.us[2][ONESHOT_OWN] = 0; /* not measured */
    table.us[2][TWOSHOT_264] = 5;
    table.us[3][TWOSHOT_264] = 8;
    tuning_choose(&table);
    assert_int_equal(table.chosen[0], ONESHOT_16);
    assert_int_equal(table.chosen[1], TWOSHOT_OWN);
    assert_int_equal(table.chosen[2], TWOSHOT_264);
    assert_int_equal(table.chosen[3], TWOSHOT_264);
    assert_true(tuning_limit(&table, 0) == (16384 + 65536) / 2);
    assert_true(tuning_limit(&table, 3) == UINT64_MAX);
}

/* Between two sizes: where the times of the two choices cross. */
static void test_limit(void **state)
{
    struct tuning_table table = table_of(3);
    const uint64_t apart = 65536 - 16384;
    (void)state;
    table.us[0][TWOSHOT_OWN] = 13;
    table.us[1][ONESHOT_OWN] = 11;
    table.chosen[1] = TWOSHOT_OWN;
    assert_true(tuning_limit(&table, 0) == 16384 + apart / 4 * 3);
    assert_true(tuning_limit(&table, 2) == UINT64_MAX);
    table.us[0][TWOSHOT_OWN] = 9.9; /* faster already, within the noise */
    assert_true(tuning_limit(&table, 0) == 16384);
    table.us[0][TWOSHOT_OWN] = 10.3; /* a ninth of the way is no whole KB */
    table.us[1][ONESHOT_OWN] = 12.4;
    assert_true(tuning_limit(&table, 0) == 16384 + 5 * 1024);
    table.us[1][ONESHOT_OWN] = 0; /* not measured */
    assert_true(tuning_limit(&table, 0) == 16384 + apart / 2);
    table.us[1][ONESHOT_OWN] = 10; /* no difference anywhere */
    table.us[0][TWOSHOT_OWN] = 10;
    assert_true(tuning_limit(&table, 0) == 16384 + apart / 2);
}

/* Within 2 % of the fastest: what was before, else the kernel's own grid. */
static void test_noise(void **state)
{
    struct tuning_table table = table_of(3);
    (void)state;
    table.us[0][ONESHOT_16] = 9.9; /* against 10 of its own grid */
    table.us[1][TWOSHOT_264] = 9.85;
    table.us[2][TWOSHOT_264] = 9.7;
    tuning_choose(&table);
    assert_int_equal(table.chosen[0], ONESHOT_OWN);
    assert_int_equal(table.chosen[1], ONESHOT_OWN);
    assert_int_equal(table.chosen[2], TWOSHOT_264);
}

static void test_written(void **state)
{
    struct tuning_table tables[2] = {table_of(4), table_of(2)};
    (void)state;
    tables[0].chosen[1] = tables[0].chosen[2] = TWOSHOT_OWN;
    tables[0].chosen[3] = TWOSHOT_264;
    tables[1].fused = true;
    struct tcf_tuning *tuning = written("a \"GPU\"", tables, 2);
    assert_non_null(strstr(tuning->name, "a \"GPU\""));
    const struct tcf_tuning_table *plain = tcf_tuning_find(tuning, 4, false), *fused = tcf_tuning_find(tuning, 4, true);
    assert_int_equal(plain->step_count, 3);
    assert_true(plain->steps[0].max_bytes == (16384 + 65536) / 2 && plain->steps[0].strategy == TCW_STRATEGY_ONESHOT);
    assert_true(plain->steps[1].max_bytes == ((UINT64_C(16384) << 4) + (UINT64_C(16384) << 6)) / 2);
    assert_int_equal(plain->steps[1].strategy, TCW_STRATEGY_TWOSHOT);
    assert_int_equal(plain->steps[1].blocks, 0);
    assert_true(plain->steps[2].max_bytes == UINT64_MAX);
    assert_int_equal(plain->steps[2].blocks, 264);
    assert_true(fused->fused && fused->step_count == 1);
    tcf_tuning_free(tuning);
}

/* What is chosen, and where it ends, as a daemon reads it: a crossing between sizes, one at a size, and one nobody measured. */
static void test_limits_written(void **state)
{
    struct tuning_table table = table_of(4);
    (void)state;
    for (uint32_t c = 0; c < TUNING_CANDIDATES; c++)
        for (uint32_t i = 0; i < table.count; i++)
            table.us[i][c] = 50;
    table.us[0][ONESHOT_OWN] = 10;
    table.us[0][TWOSHOT_OWN] = 12;
    table.us[1][ONESHOT_OWN] = 16;
    table.us[1][TWOSHOT_OWN] = 15; /* two thirds of the way */
    table.us[1][TWOSHOT_264] = 14.9;
    table.us[2][TWOSHOT_OWN] = 30; /* the other one, within the noise below, is far ahead */
    table.us[2][TWOSHOT_264] = 20;
    table.us[3][TWOSHOT_264] = 0;
    table.us[3][ONESHOT_16] = 40;
    tuning_choose(&table);
    struct tcf_tuning *tuning = written("GPU", &table, 1);
    const struct tcf_tuning_table *plain = tcf_tuning_find(tuning, 4, false);
    assert_int_equal(plain->step_count, 4);
    assert_true(plain->steps[0].max_bytes == 16384 + (65536 - 16384) / 3 * 2 && plain->steps[0].strategy == TCW_STRATEGY_ONESHOT);
    assert_true(plain->steps[1].max_bytes == 65536 && plain->steps[1].strategy == TCW_STRATEGY_TWOSHOT && plain->steps[1].blocks == 0);
    assert_true(plain->steps[2].max_bytes == (262144 + 1048576) / 2 && plain->steps[2].blocks == 264);
    assert_true(plain->steps[3].max_bytes == UINT64_MAX && plain->steps[3].strategy == TCW_STRATEGY_ONESHOT);
    assert_int_equal(plain->steps[3].blocks, 16);
    tcf_tuning_free(tuning);
}

/* Of the strategy in the steps the time on its grid there, of the other one its best; nothing of what was not measured. */
static void test_times_written(void **state)
{
    struct tuning_table tables[2] = {table_of(3), table_of(1)};
    (void)state;
    tables[0].us[0][ONESHOT_OWN] = 9.9; /* is near: chosen */
    tables[0].us[0][ONESHOT_16] = 9.8;
    tables[0].us[0][TWOSHOT_264] = 9.95;
    for (uint32_t c = 0; c < TUNING_CANDIDATES; c += 2)
        tables[0].us[1][c] = 0;
    for (uint32_t c = 0; c < TUNING_CANDIDATES; c++)
        tables[0].us[2][c] = tables[1].us[0][c] = 0;
    tables[1].fused = true;
    for (uint32_t t = 0; t < 2; t++)
        tuning_choose(&tables[t]);
    struct tcf_tuning *tuning = written("GPU", tables, 2);
    const struct tcf_tuning_table *plain = tcf_tuning_find(tuning, 4, false), *fused = tcf_tuning_find(tuning, 4, true);
    assert_int_equal(plain->time_count, 2);
    assert_true(plain->times[0].bytes == 16384 && plain->times[0].oneshot_us == 9.9 && plain->times[0].twoshot_us == 9.95);
    assert_true(plain->times[1].bytes == 65536 && plain->times[1].oneshot_us == 0 && plain->times[1].twoshot_us == 10);
    assert_true(fused->fused && fused->time_count == 0);
    tcf_tuning_free(tuning);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_candidates),     cmocka_unit_test(test_fastest), cmocka_unit_test(test_limit),
        cmocka_unit_test(test_noise),          cmocka_unit_test(test_written), cmocka_unit_test(test_times_written),
        cmocka_unit_test(test_limits_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
