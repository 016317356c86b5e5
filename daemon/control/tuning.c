#include "tuning.h"

/* Where ONESHOT, which moves every rank's whole message to every rank, stops paying. */
enum { ONESHOT_BYTES = 256 * 1024 };

#define TABLE(number)                                                                                                                      \
    {                                                                                                                                      \
        .ranks = (number), .step_count = 2, .steps = { {ONESHOT_BYTES, TCW_STRATEGY_ONESHOT, 0}, {UINT64_MAX, TCW_STRATEGY_TWOSHOT, 0} }   \
    }

static const struct tcf_tuning builtin = {
    .name = "the built-in tables", .table_count = 4, .tables = {TABLE(2), TABLE(4), TABLE(8), TABLE(16)}};

const struct tcf_tuning *tcd_tuning_default(void)
{
    return &builtin;
}
