/*
 * Correctness: cases drawn at random from all strategies, types, fusions, hidden sizes and token counts, the same on all ranks, until the
 * time is over. Every draw runs on the one workspace that all before it have used, and several ways: alone, after a delay of one rank,
 * several launches back to back that alternate with another strategy, and captured.
 */
#include "comm_modes.h"
#include "comm_rank.h"
#include "comm_reference.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const unsigned dtypes[] = {TCW_BF16, TCW_FP16, TCW_FP32};
static const unsigned fusions[] = {TCW_FUSION_NONE,
                                   TCW_FUSION_RESIDUAL_RMS_NORM,
                                   TCW_FUSION_RESIDUAL_RMS_NORM_QUANT_FP8,
                                   TCW_FUSION_RESIDUAL_RMS_NORM_QUANT_NVFP4,
                                   TCW_FUSION_RESIDUAL_RMS_NORM_OUT_QUANT_FP8,
                                   TCW_FUSION_RESIDUAL_RMS_NORM_OUT_QUANT_NVFP4};
static const uint64_t hiddens[] = {8, 2880, 7168, 7176, 8192, 16384};
/* UB rounds its codes once less: proc/test_gpu_operations.c knows it. */
static const unsigned strategies[] = {TCW_STRATEGY_ONESHOT, TCW_STRATEGY_TWOSHOT, TCW_STRATEGY_MIN_LATENCY, TCW_STRATEGY_MNNVL,
                                      TCW_STRATEGY_SYMM_MEM};
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

struct draw {
    uint64_t state;
    uint64_t number;
};

static uint64_t draw(struct draw *d, uint64_t below)
{
    d->state = d->state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (d->state >> 33) % below;
}

/*
 * Where ranks share GPUs, each time that a block waits for its peers costs them a turn of each process, a millisecond: what makes thousands
 * of turns is left to ranks with GPUs of their own.
 */
enum { MOST_CROWDED_TOKENS = 1024, LEAST_CROWDED_BLOCKS = 16 };

static uint64_t draw_tokens(struct draw *d, const struct comm_board *board, uint64_t hidden)
{
    const uint32_t nranks = board->nranks;
    const uint64_t most = (12u << 20) / (hidden * 4);
    const uint64_t list[] = {1, nranks - 1, nranks, nranks + 1, 4, 15, 32, 33, 64, 128, 129, 257, 0};
    uint64_t tokens = list[draw(d, COUNT(list))];
    if (!tokens) /* now and then a large message */
        tokens = 1 + draw(d, comm_board_is_crowded(board) && most > MOST_CROWDED_TOKENS ? MOST_CROWDED_TOKENS : most);
    return tokens ? tokens : 1;
}

/* What a strategy really does where the case's own values must differ: which sums and squares are expected. */
static void draw_case(struct draw *d, const struct comm_board *board, struct comm_case *test, unsigned *strategy)
{
    const uint32_t nranks = board->nranks;
    do {
        unsigned dtype = dtypes[draw(d, COUNT(dtypes))], fusion = fusions[draw(d, COUNT(fusions))];
        uint64_t hidden = d->number % 17 == 16 ? 8 * (1 + draw(d, 3000)) : hiddens[draw(d, COUNT(hiddens))];
        uint64_t tokens = draw_tokens(d, board, hidden);
        uint32_t flags = (draw(d, 2) ? TCW_PLAN_ACC_FP32 : 0) | (draw(d, 4) ? 0 : TCW_PLAN_BIAS);
        *strategy = strategies[draw(d, COUNT(strategies))];
        *test = (struct comm_case){
            .desc = comm_desc(dtype, fusion, hidden, tokens, flags),
            .tokens = tokens,
            .data = draw(d, 3) ? COMM_DATA_RANDOM : (comm_data)draw(d, COMM_DATA_COUNT),
            .seed = ++d->number,
            .mnnvl = *strategy == TCW_STRATEGY_MNNVL,
            .scale = comm_fusion_is_fp4(fusion) ? 300.0f : 0.03f,
        };
        if (*strategy == TCW_STRATEGY_SYMM_MEM)
            test->desc.flags |= TCW_PLAN_ACC_FP32; /* it sums so in any case */
        test->desc.strategy = (uint16_t)*strategy;
        struct tcw_complaint complaint;
        uint64_t bytes;
        if (!tcw_plan_desc_check(&test->desc, nranks, &complaint) &&
            !tck_plan_workspace(TCK_DEVICE_CUDA, &test->desc, nranks, &bytes, &complaint) &&
            tokens * hidden * tcw_dtype_bytes(dtype) <= COMM_REGION_BYTES)
            return;
    } while (true);
}

struct sizes {
    uint64_t message, quant, scales;
};

static struct sizes sizes_of(const struct comm_case *test)
{
    uint64_t elements = test->tokens * test->desc.hidden;
    struct sizes sizes = {elements * tcw_dtype_bytes(test->desc.dtype), 0, 0};
    if (comm_fusion_is_fp8(test->desc.fusion))
        sizes.quant = elements;
    if (comm_fusion_is_fp4(test->desc.fusion)) {
        sizes.quant = elements / 2;
        sizes.scales = (test->tokens + 127) / 128 * 128 * ((test->desc.hidden / 16 + 3) / 4 * 4);
    }
    return sizes;
}

static void upload(struct comm_rank *self, const struct comm_case *test)
{
    const struct comm_board *board = self->board;
    uint64_t message = sizes_of(test).message, row = test->desc.hidden * tcw_dtype_bytes(test->desc.dtype);
    comm_rank_cuda(self, self->cuda->cuMemcpyHtoD(self->in, board->in[self->rank], message), "upload of the input");
    comm_rank_cuda(self, self->cuda->cuMemcpyHtoD(self->residual_in, board->residual, message), "upload of the residual");
    comm_rank_cuda(self, self->cuda->cuMemcpyHtoD(self->gamma, board->gamma, row), "upload of gamma");
    comm_rank_cuda(self, self->cuda->cuMemcpyHtoD(self->bias, board->bias, row), "upload of the bias");
    comm_rank_cuda(self, self->cuda->cuMemcpyHtoD(self->scale, &test->scale, sizeof(test->scale)), "upload of the scale");
    comm_rank_cuda(self, self->cuda->cuStreamSynchronize(NULL), "uploads"); /* from pageable memory they may return before their end */
}

/* What was there before must not pass for a result. */
static void poison(struct comm_rank *self, const struct comm_case *test)
{
    struct sizes sizes = sizes_of(test);
    const struct tck_cuda_driver *cuda = self->cuda;
    comm_rank_cuda(self, cuda->cuMemsetD8Async(self->out, 0xa5, sizes.message, self->stream), "poison");
    comm_rank_cuda(self, cuda->cuMemsetD8Async(self->residual_out, 0xa5, sizes.message, self->stream), "poison");
    if (sizes.quant)
        comm_rank_cuda(self, cuda->cuMemsetD8Async(self->quant_out, 0xa5, sizes.quant, self->stream), "poison");
    if (sizes.scales)
        comm_rank_cuda(self, cuda->cuMemsetD8Async(self->scale_out, 0xa5, sizes.scales, self->stream), "poison");
}

struct landing {
    unsigned char *out, *residual_out, *quant_out, *scale_out;
};

static uint64_t digest(uint64_t h, const unsigned char *bytes, uint64_t count)
{
    for (uint64_t i = 0; i + 8 <= count; i += 8) {
        uint64_t word;
        memcpy(&word, bytes + i, 8);
        h = (h ^ word) * UINT64_C(0x100000001b3);
        h ^= h >> 29;
    }
    return h;
}

static void verify(struct comm_rank *self, const struct comm_case *test, unsigned strategy, const char *way, const struct landing *land)
{
    struct comm_board *board = self->board;
    struct sizes sizes = sizes_of(test);
    unsigned fusion = test->desc.fusion;
    char text[256];
    bool none = fusion == TCW_FUSION_NONE;
    comm_rank_cuda(self, self->cuda->cuStreamSynchronize(self->stream), "cuStreamSynchronize");
    uint64_t fault = atomic_load(&board->page[self->rank]->device.fault);
    if (fault)
        comm_board_fail(board, self->rank, "case %llu, %s: fault %s of rank %u", (unsigned long long)test->seed, way,
                        tcw_error_name(tcw_abort_code(fault)), tcw_abort_culprit(fault));
    uint64_t h = 1;
    if (none || comm_fusion_keeps_norm(fusion)) {
        comm_rank_cuda(self, self->cuda->cuMemcpyDtoH(land->out, self->out, sizes.message), "download");
        h = digest(h, land->out, sizes.message);
    }
    if (!none) {
        comm_rank_cuda(self, self->cuda->cuMemcpyDtoH(land->residual_out, self->residual_out, sizes.message), "download");
        h = digest(h, land->residual_out, sizes.message);
    }
    if (sizes.quant) {
        comm_rank_cuda(self, self->cuda->cuMemcpyDtoH(land->quant_out, self->quant_out, sizes.quant), "download");
        h = digest(h, land->quant_out, sizes.quant);
    }
    if (sizes.scales)
        comm_rank_cuda(self, self->cuda->cuMemcpyDtoH(land->scale_out, self->scale_out, sizes.scales), "download");
    struct comm_outputs outputs = {land->out, land->residual_out, land->quant_out, land->scale_out};
    if (comm_reference_compare(board, test, &outputs, text, sizeof(text)))
        comm_board_fail(board, self->rank, "case %llu, %s, %s, %s, %s, %llu x %llu, flags %x, data %d: %s", (unsigned long long)test->seed,
                        way, tcw_strategy_name(strategy), tcw_dtype_name(test->desc.dtype), tcw_fusion_name(fusion),
                        (unsigned long long)test->tokens, (unsigned long long)test->desc.hidden, test->desc.flags, (int)test->data, text);
    board->digest[self->rank] = h;
    comm_board_barrier(board);
    if (board->digest[0] != h)
        comm_board_fail(board, self->rank, "case %llu, %s: other bits than rank 0", (unsigned long long)test->seed, way);
    comm_board_barrier(board);
}

/*
 * Launches between which nothing of the host happens; every other one with another strategy, some of another operation, the last one with
 * the case's own.
 */
static void launch_row(struct comm_rank *self, const struct tck_run *run, unsigned count)
{
    const struct tcw_plan_desc finalize = {.op = TCW_OP_UB_FINALIZE,
                                           .dtype = run->desc->dtype,
                                           .strategy = TCW_STRATEGY_AUTO,
                                           .flags = TCW_PLAN_FORCE,
                                           .max_tokens = run->desc->max_tokens,
                                           .hidden = run->desc->hidden};
    for (unsigned i = count; i-- > 0;) {
        struct tck_run other = *run;
        if (i % 3 == 2 && run->out[0]) {
            other.desc = &finalize;
            other.strategy = TCW_STRATEGY_UB;
        } else if (i & 1)
            other.strategy = run->strategy == TCW_STRATEGY_ONESHOT ? TCW_STRATEGY_TWOSHOT : TCW_STRATEGY_ONESHOT;
        comm_rank_launch(self, &other);
    }
}

static void replay_row(struct comm_rank *self, const struct tck_run *run, unsigned count)
{
    CUgraph graph;
    CUgraphExec exec;
    comm_rank_cuda(self, self->cuda->cuStreamBeginCapture(self->stream, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL), "cuStreamBeginCapture");
    launch_row(self, run, count);
    comm_rank_cuda(self, self->cuda->cuStreamEndCapture(self->stream, &graph), "cuStreamEndCapture");
    comm_rank_cuda(self, self->cuda->cuGraphInstantiate(&exec, graph, 0), "cuGraphInstantiate");
    for (int i = 0; i < 3; i++)
        comm_rank_cuda(self, self->cuda->cuGraphLaunch(exec, self->stream), "cuGraphLaunch");
    comm_rank_cuda(self, self->cuda->cuStreamSynchronize(self->stream), "cuStreamSynchronize");
    comm_rank_cuda(self, self->cuda->cuGraphExecDestroy(exec), "cuGraphExecDestroy");
    comm_rank_cuda(self, self->cuda->cuGraphDestroy(graph), "cuGraphDestroy");
}

static void run_case(struct comm_rank *self, const struct comm_case *test, unsigned strategy, struct draw *d, const struct landing *land)
{
    static const char *const ways[] = {"alone", "delayed", "in a row", "captured", "in place"};
    struct comm_lists lists;
    struct tck_run run;
    uint64_t way = draw(d, COUNT(ways)), late = draw(d, self->nranks);
    uint32_t blocks = draw(d, 4) ? 0 : (uint32_t)((comm_board_is_crowded(self->board) ? LEAST_CROWDED_BLOCKS : 1) + draw(d, 64));
    comm_rank_grow(self, &test->desc);
    comm_rank_run(self, &test->desc, strategy, test->tokens, &lists, &run);
    run.blocks = blocks;
    if (test->desc.fusion != TCW_FUSION_NONE && way == 4)
        way = 0;
    upload(self, test);
    poison(self, test);
    comm_rank_cuda(self, self->cuda->cuStreamSynchronize(self->stream), "cuStreamSynchronize");
    if (way == 1 && self->rank == late)
        usleep(3000);
    if (way == 4) {
        comm_rank_cuda(self, self->cuda->cuMemcpyHtoD(self->out, self->board->in[self->rank], sizes_of(test).message), "upload");
        lists.in[0] = lists.out[0];
    }
    if (way == 2)
        launch_row(self, &run, 9);
    else if (way == 3)
        replay_row(self, &run, 3);
    else
        comm_rank_launch(self, &run);
    verify(self, test, strategy, ways[way], land);
}

static int check_rank(struct comm_board *board, uint32_t rank, void *arg)
{
    const struct comm_options *options = arg;
    struct comm_rank self;
    int code = comm_rank_open(&self, board, rank);
    if (code)
        return code;
    struct landing land = {malloc(COMM_REGION_BYTES), malloc(COMM_REGION_BYTES), malloc(COMM_REGION_BYTES), malloc(COMM_REGION_BYTES)};
    struct draw d = {.state = options->seed, .number = 0};
    comm_board_barrier(board);
    uint64_t end = tcw_now_ns() + options->seconds * UINT64_C(1000000000);
    while (true) {
        struct comm_case test;
        unsigned strategy;
        if (!rank)
            atomic_store(&board->go, tcw_now_ns() < end);
        comm_board_barrier(board);
        if (!atomic_load(&board->go))
            break;
        draw_case(&d, board, &test, &strategy);
        comm_reference_fill(board, rank, &test);
        comm_board_barrier(board);
        comm_reference_compute(board, rank, &test);
        comm_board_barrier(board);
        run_case(&self, &test, strategy, &d, &land);
        atomic_fetch_add(&board->checked[rank], 1);
    }
    free(land.out);
    free(land.residual_out);
    free(land.quant_out);
    free(land.scale_out);
    comm_rank_close(&self);
    return 0;
}

int comm_check(const struct comm_options *options)
{
    struct comm_board *board = comm_board_create(options->ranks, options->gpus, options->seconds * 3 + 60);
    pid_t pids[COMM_MAX_RANKS];
    struct comm_options copy = *options;
    comm_board_fork(board, check_rank, &copy, pids);
    int code = comm_board_join(board, pids);
    printf("check: %u ranks, %llu cases from seed %llu: %s\n", options->ranks, (unsigned long long)atomic_load(&board->checked[0]),
           (unsigned long long)options->seed,
           code == COMM_SKIP ? "skipped"
           : code            ? "FAILED"
                             : "right");
    if (!code && !atomic_load(&board->checked[0]))
        code = 1;
    comm_board_destroy(board);
    return code;
}
