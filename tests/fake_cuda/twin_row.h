/* What an all-reduce does with sums, by the code of host devices: shared by the twins. Owner: the twin that runs. */
#ifndef TESTS_FAKE_CUDA_TWIN_ROW_H
#define TESTS_FAKE_CUDA_TWIN_ROW_H

#include "twins.h"

#include "cuda/args.h"
#include "host/epilogue.h"

struct fake_twin_row {
    const struct tck_cuda_operation *operation;
    const struct tck_loops *loops;
    uint32_t dtype;
    bool rows;          /* a norm or a bias follows: whole tokens */
    uint64_t row_bytes; /* of a token */
    uint64_t total;     /* bytes of the launch's tokens */
    struct tcw_plan_desc desc;
    struct tck_run run;
    void *out[1];
    struct tck_epilogue epilogue;
};

/* 0, or CUDA_ERROR_ILLEGAL_ADDRESS, CUDA_ERROR_INVALID_VALUE. `row` must stay where it is. */
CUresult fake_twin_row_prepare(struct fake_twin_row *row, const struct fake_launch *launch, const struct tck_cuda_operation *operation);
/* Finishes `bytes` from byte `at` of the launch's message on, whole tokens where `rows`; src[i] is what rank i has there. */
void fake_twin_row_finish(struct fake_twin_row *row, const void *const *src, uint32_t count, uint64_t at, uint64_t bytes);

#endif
