#include "loop.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { BATCHES = 9, PROBES = 4, MAX_RUNS_PER_BATCH = 20000 };

uint64_t loop_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static int compare_doubles(const void *a, const void *b)
{
    double left = *(const double *)a, right = *(const double *)b;
    return (left > right) - (left < right);
}

static int run_batch(const struct loop_subject *subject, uint64_t runs, double *ns)
{
    uint64_t start = loop_now_ns();
    for (uint64_t i = 0; i < runs; i++) {
        int code = subject->run(subject->arg);
        if (code != 0)
            return code;
    }
    *ns = (double)(loop_now_ns() - start) / (double)runs;
    return 0;
}

int loop_measure(const struct loop_subject *subject, uint64_t budget_ns, double *ns)
{
    double means[BATCHES], probe;
    /* The first touches pages and caches, the second tells how long a run takes. */
    int code = run_batch(subject, PROBES, &probe);
    if (code == 0)
        code = run_batch(subject, PROBES, &probe);
    if (code != 0)
        return code;
    uint64_t runs = (uint64_t)((double)budget_ns / (probe + 1) / BATCHES) + 1;
    if (runs > MAX_RUNS_PER_BATCH)
        runs = MAX_RUNS_PER_BATCH;
    if ((code = subject->agree(subject->arg, &runs)) != 0)
        return code;
    /* One batch more than counts: the first is warm-up. */
    code = run_batch(subject, runs, &probe);
    for (uint32_t i = 0; code == 0 && i < BATCHES; i++)
        code = run_batch(subject, runs, &means[i]);
    if (code != 0)
        return code;
    qsort(means, BATCHES, sizeof(means[0]), compare_doubles);
    *ns = means[BATCHES / 2];
    return 0;
}

uint32_t loop_sizes(uint64_t low, uint64_t high, uint64_t *sizes)
{
    uint32_t count = 0;
    for (uint64_t bytes = 8; bytes <= high && count < LOOP_MAX_CASES; bytes *= 2)
        if (bytes >= low)
            sizes[count++] = bytes;
    return count;
}

static uint16_t bf16_of(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof(bits));
    return (uint16_t)(bits >> 16); /* small integers are exact */
}

void loop_fill(void *buffer, uint64_t bytes, int is_bf16, uint32_t rank)
{
    float value = (float)(rank + 1);
    for (uint64_t i = 0; is_bf16 && i < bytes / 2; i++)
        ((uint16_t *)buffer)[i] = bf16_of(value);
    for (uint64_t i = 0; !is_bf16 && i < bytes / 4; i++)
        ((float *)buffer)[i] = value;
}

int loop_verify(const void *buffer, uint64_t bytes, int is_bf16, uint32_t nranks)
{
    uint64_t sum = (uint64_t)nranks * (nranks + 1) / 2, wrong = 0;
    float expected = (float)sum;
    for (uint64_t i = 0; is_bf16 && i < bytes / 2; i++)
        wrong += ((const uint16_t *)buffer)[i] != bf16_of(expected);
    for (uint64_t i = 0; !is_bf16 && i < bytes / 4; i++)
        wrong += ((const float *)buffer)[i] != expected;
    return wrong != 0;
}
