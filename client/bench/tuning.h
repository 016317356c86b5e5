/*
 * From measured times to the tables that choosing.tuning reads: who serves which message size. No state; any thread.
 */
#ifndef BENCH_TUNING_H
#define BENCH_TUNING_H

#include "figures.h"

#include <stdio.h>

enum { TUNING_CANDIDATES = 12, TUNING_KINDS = 2 /* plain, with an epilogue */, TUNING_MOST_TABLES = 10 };

/* What can serve a message: one of our strategies on a grid. */
struct tuning_candidate {
    const char *strategy; /* "oneshot" or "twoshot" */
    uint32_t blocks;      /* 0: the kernel's own rule */
};
extern const struct tuning_candidate tuning_candidates[TUNING_CANDIDATES];

/* Of one number of ranks and one kind of plan. */
struct tuning_table {
    uint32_t ranks;
    bool fused;
    uint32_t count;
    uint64_t sizes[FIGURES_MAX_SIZES];               /* ascending */
    double us[FIGURES_MAX_SIZES][TUNING_CANDIDATES]; /* 0: not measured */
    double old_us[FIGURES_MAX_SIZES];                /* of what the daemon chooses without the file */
    uint32_t old_strategy[FIGURES_MAX_SIZES];        /* likewise, as plans say it */
    uint32_t chosen[FIGURES_MAX_SIZES];              /* candidate */
};

/*
 * Fills in `chosen`: the fastest, but what served the size below, or else the kernel's own grid, where that is within 2 % of it:
 * differences like that are noise, and fewer steps are better.
 */
void tuning_choose(struct tuning_table *table);
/*
 * Up to which message size the choice for sizes[i] holds: where the straight lines through its times and those of the next choice cross, in
 * whole KB; halfway to the next size where one of the two was not measured there; UINT64_MAX for the last.
 */
uint64_t tuning_limit(const struct tuning_table *table, uint32_t i);

/* The file. */
void tuning_write(FILE *to, const char *gpu, const char *command, const struct tuning_table *tables, uint32_t count);
/* The same for people: per size, what served it and what does now. */
void tuning_print(FILE *to, const struct tuning_table *table);

#endif
