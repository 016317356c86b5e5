#include "comm_timing.h"

#include <stdlib.h>

enum { WARM_REPLAYS = 3, MOST_REPLAYS = 101 };

const char *comm_form_name(comm_form form)
{
    static const char *const names[COMM_FORM_COUNT] = {"plain", "norm", "fp8"};
    return names[form];
}

static struct tcw_plan_desc desc_of(comm_form form, uint64_t tokens)
{
    static const unsigned fusions[COMM_FORM_COUNT] = {TCW_FUSION_NONE, TCW_FUSION_RESIDUAL_RMS_NORM,
                                                      TCW_FUSION_RESIDUAL_RMS_NORM_QUANT_FP8};
    return comm_desc(TCW_BF16, fusions[form], COMM_TIMED_HIDDEN, tokens, TCW_PLAN_ACC_FP32);
}

void comm_timing_prepare(struct comm_rank *rank, uint64_t tokens)
{
    const uint64_t count = tokens * COMM_TIMED_HIDDEN;
    const float scale = 0.05f;
    struct tcw_plan_desc desc = desc_of(COMM_FORM_NORM, tokens);
    uint16_t *values = malloc(count * sizeof(*values));
    uint64_t state = rank->rank + 1;
    for (uint64_t i = 0; i < count; i++) { /* bf16 between 1/4 and 4, either sign */
        state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        values[i] = (uint16_t)((state >> 48 & 0x8000u) | (0x3e80u + (state >> 40 & 0x1ffu)));
    }
    comm_rank_cuda(rank, rank->cuda->cuMemcpyHtoD(rank->in, values, count * 2), "upload");
    comm_rank_cuda(rank, rank->cuda->cuMemcpyHtoD(rank->residual_in, values, count * 2), "upload");
    comm_rank_cuda(rank, rank->cuda->cuMemcpyHtoD(rank->gamma, values, COMM_TIMED_HIDDEN * 2), "upload");
    comm_rank_cuda(rank, rank->cuda->cuMemcpyHtoD(rank->scale, &scale, sizeof(scale)), "upload");
    comm_rank_cuda(rank, rank->cuda->cuStreamSynchronize(NULL), "upload");
    free(values);
    comm_rank_grow(rank, &desc);
}

static void enqueue(struct comm_rank *rank, struct comm_nccl *nccl, const struct comm_point *point, const struct tck_run *run)
{
    if (point->strategy != TCW_STRATEGY_NCCL) {
        comm_rank_launch(rank, run);
        return;
    }
    comm_nccl_sum(nccl, rank->in, rank->out, point->tokens * COMM_TIMED_HIDDEN);
    if (point->form != COMM_FORM_PLAIN) {
        int code = tck_cuda_epilogue_launch(rank->device, run, (const void *)rank->out, rank->stream);
        if (code)
            comm_board_fail(rank->board, rank->rank, "epilogue: %s", tcw_error_name(code));
    }
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double largest_of_all(struct comm_rank *rank, double mine)
{
    struct comm_board *board = rank->board;
    double most = 0;
    board->number[rank->rank][0] = mine;
    comm_board_barrier(board);
    for (uint32_t i = 0; i < rank->nranks; i++)
        most = board->number[i][0] > most ? board->number[i][0] : most;
    comm_board_barrier(board);
    return most;
}

static void enqueue_all(struct comm_rank *rank, struct comm_nccl *nccl, const struct comm_point *point, const struct tck_run *run)
{
    for (int i = 0; i < COMM_GRAPH_OPERATIONS; i++)
        enqueue(rank, nccl, point, run);
}

static CUgraphExec capture(struct comm_rank *rank, struct comm_nccl *nccl, const struct comm_point *point, const struct tck_run *run)
{
    CUgraph graph;
    CUgraphExec exec;
    comm_rank_cuda(rank, rank->cuda->cuStreamBeginCapture(rank->stream, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL), "cuStreamBeginCapture");
    enqueue_all(rank, nccl, point, run);
    comm_rank_cuda(rank, rank->cuda->cuStreamEndCapture(rank->stream, &graph), "cuStreamEndCapture");
    comm_rank_cuda(rank, rank->cuda->cuGraphInstantiate(&exec, graph, 0), "cuGraphInstantiate");
    comm_rank_cuda(rank, rank->cuda->cuGraphDestroy(graph), "cuGraphDestroy");
    return exec;
}

static void check_fault(struct comm_rank *rank, const struct comm_point *point)
{
    uint64_t fault = atomic_load(&rank->board->page[rank->rank]->device.fault);
    if (fault)
        comm_board_fail(rank->board, rank->rank, "%s, %s, %llu bytes, %u blocks: fault %s of rank %u", comm_form_name(point->form),
                        tcw_strategy_name(point->strategy), (unsigned long long)comm_point_bytes(point), point->blocks,
                        tcw_error_name(tcw_abort_code(fault)), tcw_abort_culprit(fault));
}

void comm_timing_measure(struct comm_rank *rank, struct comm_nccl *nccl, unsigned replays, struct comm_point *point)
{
    const struct tck_cuda_driver *cuda = rank->cuda;
    struct tcw_plan_desc desc = desc_of(point->form, point->tokens);
    struct comm_lists lists;
    struct tck_run run;
    CUevent begin, end;
    double times[MOST_REPLAYS];
    comm_rank_run(rank, &desc, point->strategy, point->tokens, &lists, &run);
    run.blocks = point->blocks;
    comm_rank_cuda(rank, cuda->cuEventCreate(&begin, CU_EVENT_DEFAULT), "cuEventCreate");
    comm_rank_cuda(rank, cuda->cuEventCreate(&end, CU_EVENT_DEFAULT), "cuEventCreate");
    CUgraphExec exec = point->eager ? NULL : capture(rank, nccl, point, &run);
    replays = replays > MOST_REPLAYS ? MOST_REPLAYS : replays;
    for (unsigned i = 0; i < WARM_REPLAYS + replays; i++) {
        float ms;
        comm_board_barrier(rank->board);
        comm_rank_cuda(rank, cuda->cuEventRecord(begin, rank->stream), "cuEventRecord");
        if (exec)
            comm_rank_cuda(rank, cuda->cuGraphLaunch(exec, rank->stream), "cuGraphLaunch");
        else
            enqueue_all(rank, nccl, point, &run);
        comm_rank_cuda(rank, cuda->cuEventRecord(end, rank->stream), "cuEventRecord");
        comm_rank_cuda(rank, cuda->cuEventSynchronize(end), "cuEventSynchronize");
        comm_rank_cuda(rank, cuda->cuEventElapsedTime(&ms, begin, end), "cuEventElapsedTime");
        if (i >= WARM_REPLAYS)
            times[i - WARM_REPLAYS] = (double)ms * 1e3 / COMM_GRAPH_OPERATIONS;
    }
    check_fault(rank, point);
    if (exec)
        comm_rank_cuda(rank, cuda->cuGraphExecDestroy(exec), "cuGraphExecDestroy");
    comm_rank_cuda(rank, cuda->cuEventDestroy(begin), "cuEventDestroy");
    comm_rank_cuda(rank, cuda->cuEventDestroy(end), "cuEventDestroy");
    qsort(times, replays, sizeof(times[0]), ascending);
    point->us = largest_of_all(rank, times[replays / 2]);
}

double comm_timing_launch(struct comm_rank *rank, const struct comm_point *point)
{
    enum { LAUNCHES = 200, BATCHES = 11 };
    struct tcw_plan_desc desc = desc_of(point->form, point->tokens);
    struct comm_lists lists;
    struct tck_run run;
    double times[BATCHES];
    comm_rank_run(rank, &desc, point->strategy, point->tokens, &lists, &run);
    for (int batch = 0; batch < BATCHES; batch++) {
        comm_board_barrier(rank->board);
        uint64_t start = tcw_now_ns();
        for (int i = 0; i < LAUNCHES; i++)
            comm_rank_launch(rank, &run);
        times[batch] = (double)(tcw_now_ns() - start) / 1e3 / LAUNCHES;
        comm_rank_cuda(rank, rank->cuda->cuStreamSynchronize(rank->stream), "cuStreamSynchronize");
    }
    check_fault(rank, point);
    qsort(times, BATCHES, sizeof(times[0]), ascending);
    return largest_of_all(rank, times[BATCHES / 2]);
}
