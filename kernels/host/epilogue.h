/*
 * What happens to the sum of an all-reduce, token by token: bias, residual, RMSNorm, FP8, NVFP4 (seed-spec 4, 15.7). The same on every
 * rank and for every strategy; the residual_out row is the only intermediate, so no scratch memory exists.
 */
#ifndef TCK_HOST_EPILOGUE_H
#define TCK_HOST_EPILOGUE_H

#include "host/loops.h"

#include <tck/comm.h>

struct tck_epilogue {
    const struct tck_run *run;
    const struct tck_loops *loops;
    uint64_t row_bytes;
    struct tck_row_sum sum; /* the constants of all rows; sources and places are set per row */
    struct tck_row_norm norm;
};

/* `mnnvl`: squares rounded to T; `order`: of the output's product. */
void tck_epilogue_prepare(struct tck_epilogue *epilogue, const struct tck_run *run, const struct tck_loops *loops, bool wide, bool mnnvl,
                          tck_norm_order order);

/* Token `row`: its sum is that of `count` sources in ascending order (1: it is summed already). */
void tck_epilogue_row(struct tck_epilogue *epilogue, uint64_t row, const void *const *src, uint32_t count);

#endif
