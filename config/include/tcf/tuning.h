/*
 * Tables of strategies by message size for groups of CUDA devices, as measured on a node: read from the file that choosing.tuning names,
 * validated whole, then immutable. Owner: the configuration that names it. Threads: read-only, any.
 */
#ifndef TCF_TUNING_H
#define TCF_TUNING_H

#include <tcf/config.h>
#include <tcw/plan.h>

enum { TCF_MAX_TUNING_TABLES = 64, TCF_MAX_TUNING_BLOCKS = 1024, TCF_MAX_TUNING_TIMES = 32 };

struct tcf_tuning_step {
    uint64_t max_bytes; /* message bytes up to here; UINT64_MAX in the last step */
    uint32_t strategy;  /* ONESHOT or TWOSHOT: AUTO never chooses what computes other bits */
    uint32_t blocks;    /* grid size, 0: the kernel's own rule */
};

/* What was measured at one message size; 0: not measured. For people: nothing is chosen by it. */
struct tcf_tuning_time {
    uint64_t bytes;
    double oneshot_us, twoshot_us;
};

struct tcf_tuning_table {
    uint32_t ranks;
    bool fused; /* for plans with an epilogue */
    uint32_t step_count;
    struct tcf_tuning_step steps[TCW_MAX_DECISION_STEPS];
    uint32_t time_count; /* may be 0 */
    struct tcf_tuning_time times[TCF_MAX_TUNING_TIMES];
};

struct tcf_tuning {
    char name[256]; /* for people: the file, and the GPU if it says so */
    char gpu[64];   /* the model it was measured on, as the driver calls it; empty: the file does not say */
    uint32_t table_count;
    struct tcf_tuning_table tables[TCF_MAX_TUNING_TABLES];
};

/* NULL and *issues filled when anything is wrong. */
struct tcf_tuning *tcf_tuning_load(const char *path, struct tcf_issues *issues);
/* The same for text in memory, under the name `file`. */
struct tcf_tuning *tcf_tuning_parse(const char *file, const char *text, size_t bytes, struct tcf_issues *issues);
void tcf_tuning_free(struct tcf_tuning *tuning);

/*
 * The table for this number of ranks. Without one of exactly this kind: of the same number but the other kind; of the next larger number;
 * of the next smaller number. Never NULL: there is at least one table.
 */
const struct tcf_tuning_table *tcf_tuning_find(const struct tcf_tuning *tuning, uint32_t ranks, bool fused);
bool tcf_tuning_equal(const struct tcf_tuning *one, const struct tcf_tuning *other); /* either may be NULL */

#endif
