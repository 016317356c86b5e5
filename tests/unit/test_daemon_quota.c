/* Quotas, words, log rates: nothing is taken that does not fit both limits, and refusals say what is allowed. */
#include "cmocka_all.h"

#include "daemon/control/log.h"
#include "daemon/control/quota.h"
#include "daemon/control/text.h"

#include <string.h>

static const struct tcf_options limits = {.client_bytes = 100,
                                          .uid_bytes = 150,
                                          .client_plans = 2,
                                          .uid_plans = 1000,
                                          .client_groups = 1,
                                          .uid_groups = 1000,
                                          .client_in_flight = 64,
                                          .uid_in_flight = 96};

static void test_client_limit(void **state)
{
    struct tcd_link accounts;
    struct tcd_account *account;
    struct tcd_usage usage = {{0}};
    struct tcw_error error;

    (void)state;
    tcd_list_init(&accounts);
    account = tcd_account_open(&accounts, 1000);
    assert_int_equal(tcd_quota_take(&usage, account, &limits, TCD_BYTES, 100, &error), 0);
    assert_int_equal(tcd_quota_take(&usage, account, &limits, TCD_BYTES, 1, &error), TCW_EQUOTA);
    assert_non_null(strstr(error.text, "limits.client.bytes"));
    assert_non_null(strstr(error.text, "100 allowed"));
    assert_int_equal(usage.amount[TCD_BYTES], 100);
    tcd_quota_give(&usage, account, TCD_BYTES, 40);
    assert_int_equal(tcd_quota_take(&usage, account, &limits, TCD_BYTES, 40, &error), 0);
    tcd_account_close(account, &usage);
    assert_true(tcd_list_empty(&accounts));
}

static void test_uid_limit(void **state)
{
    struct tcd_link accounts;
    struct tcd_account *mine, *same, *other;
    struct tcd_usage first = {{0}}, second = {{0}}, third = {{0}};
    struct tcw_error error;

    (void)state;
    tcd_list_init(&accounts);
    mine = tcd_account_open(&accounts, 1000);
    same = tcd_account_open(&accounts, 1000);
    other = tcd_account_open(&accounts, 1001);
    assert_ptr_equal(mine, same);
    assert_ptr_not_equal(mine, other);
    assert_int_equal(tcd_quota_take(&first, mine, &limits, TCD_BYTES, 90, &error), 0);
    assert_int_equal(tcd_quota_take(&second, mine, &limits, TCD_BYTES, 61, &error), TCW_EQUOTA);
    assert_non_null(strstr(error.text, "limits.uid.bytes"));
    assert_non_null(strstr(error.text, "uid 1000"));
    /* What did not fit the uid's limit is not held against the client either. */
    assert_int_equal(second.amount[TCD_BYTES], 0);
    assert_int_equal(tcd_quota_take(&second, mine, &limits, TCD_BYTES, 60, &error), 0);
    assert_int_equal(tcd_quota_take(&third, other, &limits, TCD_BYTES, 100, &error), 0);
    /* The end of a client frees what it held. */
    tcd_account_close(mine, &first);
    assert_int_equal(mine->usage.amount[TCD_BYTES], 60);
    assert_int_equal(tcd_quota_room(&second, mine, &limits, TCD_BYTES), 40);
    tcd_account_close(mine, &second);
    tcd_account_close(other, &third);
    assert_true(tcd_list_empty(&accounts));
}

/* A charge outlives its client: nobody of the uid can take those bytes before it ends, and the account stays for it. */
static void test_charge_outlives_client(void **state)
{
    struct tcd_link accounts;
    struct tcd_account *account;
    struct tcd_usage first = {{0}}, second = {{0}};
    struct tcw_error error;

    (void)state;
    tcd_list_init(&accounts);
    account = tcd_account_open(&accounts, 1000);
    assert_int_equal(tcd_quota_take(&first, account, &limits, TCD_BYTES, 90, &error), 0);
    tcd_charge_keep(&first, account, 80);
    assert_int_equal(first.amount[TCD_BYTES], 10);
    tcd_account_close(account, &first);
    assert_false(tcd_list_empty(&accounts));
    assert_ptr_equal(tcd_account_open(&accounts, 1000), account);
    assert_int_equal(tcd_quota_take(&second, account, &limits, TCD_BYTES, 71, &error), TCW_EQUOTA);
    assert_int_equal(tcd_quota_take(&second, account, &limits, TCD_BYTES, 70, &error), 0);
    tcd_charge_end(account, 80);
    assert_int_equal(account->usage.amount[TCD_BYTES], 70);
    tcd_charge_keep(&second, account, 70);
    tcd_account_close(account, &second);
    assert_false(tcd_list_empty(&accounts));
    tcd_charge_end(account, 70);
    assert_true(tcd_list_empty(&accounts));
}

static void test_overflow(void **state)
{
    struct tcd_link accounts;
    struct tcd_account *account;
    struct tcd_usage usage = {{0}};
    struct tcf_options lowered = limits;
    struct tcw_error error;

    (void)state;
    tcd_list_init(&accounts);
    account = tcd_account_open(&accounts, 0);
    assert_int_equal(tcd_quota_take(&usage, account, &limits, TCD_BYTES, 50, &error), 0);
    assert_int_equal(tcd_quota_take(&usage, account, &limits, TCD_BYTES, UINT64_MAX, &error), TCW_EQUOTA);
    assert_int_equal(tcd_quota_take(&usage, account, &limits, TCD_BYTES, UINT64_MAX - 49, &error), TCW_EQUOTA);
    /* A reload may lower a limit below what is held: nothing more, nothing lost. */
    lowered.client_bytes = 10;
    assert_int_equal(tcd_quota_room(&usage, account, &lowered, TCD_BYTES), 0);
    assert_int_equal(tcd_quota_take(&usage, account, &lowered, TCD_BYTES, 1, &error), TCW_EQUOTA);
    tcd_quota_give(&usage, account, TCD_BYTES, 50);
    assert_int_equal(usage.amount[TCD_BYTES], 0);
    tcd_account_close(account, &usage);
}

static void test_ranks_text(void **state)
{
    char text[TCW_TEXT_BYTES], small[12];

    (void)state;
    assert_string_equal(tcd_ranks_text(0, text, sizeof(text)), "no rank");
    assert_string_equal(tcd_ranks_text(1, text, sizeof(text)), "rank 0");
    assert_string_equal(tcd_ranks_text(1ull << 63, text, sizeof(text)), "rank 63");
    assert_string_equal(tcd_ranks_text(5, text, sizeof(text)), "ranks 0 and 2");
    assert_string_equal(tcd_ranks_text(0x2c, text, sizeof(text)), "ranks 2, 3 and 5");
    tcd_ranks_text(UINT64_MAX, text, sizeof(text));
    assert_true(strlen(text) < sizeof(text));
    assert_non_null(strstr(text, "62 and 63"));
    tcd_ranks_text(UINT64_MAX, small, sizeof(small));
    assert_true(strlen(small) < sizeof(small));
}

static void test_clean(void **state)
{
    char text[8];

    (void)state;
    memset(text, 'x', sizeof(text));
    tcd_text_clean(text, sizeof(text), "a\nb\033");
    assert_string_equal(text, "a?b?");
    tcd_text_clean(text, sizeof(text), "0123456789");
    assert_string_equal(text, "0123456");
}

static void test_rate(void **state)
{
    struct tcd_rate rate = {0};
    uint64_t now = 1000000000000ull;
    unsigned suppressed, allowed = 0, i;

    (void)state;
    for (i = 0; i < 1000; i++)
        allowed += tcd_rate_allow(&rate, 20, now + i, &suppressed);
    assert_int_equal(allowed, 20);
    assert_true(tcd_rate_allow(&rate, 20, now + 60000000000ull, &suppressed));
    assert_int_equal(suppressed, 1000 - allowed);
    assert_true(tcd_rate_allow(&rate, 20, now + 60000000001ull, &suppressed));
    assert_int_equal(suppressed, 0);
}

static void test_levels(void **state)
{
    tcd_level level;

    (void)state;
    assert_true(tcd_level_parse("err", &level));
    assert_int_equal(level, 3);
    assert_true(tcd_level_parse("debug", &level));
    assert_int_equal(level, 7);
    assert_false(tcd_level_parse("verbose", &level));
    assert_string_equal(tcd_level_name(TCD_NOTICE), "notice");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_client_limit), cmocka_unit_test(test_uid_limit),
        cmocka_unit_test(test_overflow),     cmocka_unit_test(test_ranks_text),
        cmocka_unit_test(test_clean),        cmocka_unit_test(test_rate),
        cmocka_unit_test(test_levels),       cmocka_unit_test(test_charge_outlives_client),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
