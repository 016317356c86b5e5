/*
 * The measuring loop, the same code for trtcoll and for Open MPI: warm up, agree on a number of runs, time them in batches.
 * No state; one thread.
 */
#ifndef BENCH_LOOP_H
#define BENCH_LOOP_H

#include <stdint.h>

enum { LOOP_MAX_CASES = 32 };

/* What is measured, and how its ranks agree. */
struct loop_subject {
    int (*run)(void *arg);                             /* one collective; not 0: failure */
    int (*agree)(void *arg, uint64_t *rank_0_decides); /* all ranks get rank 0's value; not 0: failure */
    void *arg;
};

/*
 * Measures one case for about budget_ns. *ns: the median over batches of the mean time of a run, on this rank; the caller takes the largest
 * of all ranks. 0, or what run or agree returned.
 */
int loop_measure(const struct loop_subject *subject, uint64_t budget_ns, double *ns);

/* Sizes from `low` to `high` bytes (powers of two times 8), at most LOOP_MAX_CASES. Returns how many. */
uint32_t loop_sizes(uint64_t low, uint64_t high, uint64_t *sizes);

uint64_t loop_now_ns(void);

/* fp32 or bf16, filled with `rank` + 1 and compared with the sum over `nranks` ranks: exact in both types up to 16 ranks. */
void loop_fill(void *buffer, uint64_t bytes, int is_bf16, uint32_t rank);
int loop_verify(const void *buffer, uint64_t bytes, int is_bf16, uint32_t nranks); /* 0: right */

#endif
