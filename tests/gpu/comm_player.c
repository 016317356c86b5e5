#include "comm_player.h"
#include "comm_rank.h"
#include "comm_reference.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { ROW = 20 }; /* launches between two looks at the page */

struct player {
    struct comm_rank rank;
    int socket;
    unsigned char *landing; /* what a run has left in device memory */
};

static void tell(struct player *player, comm_word word, uint64_t at_ns, uint64_t span_ns)
{
    struct comm_news news = {.word = word, .at_ns = at_ns, .span_ns = span_ns};
    if (send(player->socket, &news, sizeof(news), MSG_NOSIGNAL) != sizeof(news))
        _exit(1); /* nobody listens */
}

static uint64_t fault_of(const struct comm_rank *rank)
{
    return atomic_load(&rank->board->page[rank->rank]->device.fault);
}

static void loop_eager(struct comm_rank *rank, const struct tck_run *run)
{
    while (!fault_of(rank)) {
        for (int i = 0; i < ROW; i++)
            comm_rank_launch(rank, run);
        comm_rank_cuda(rank, rank->cuda->cuStreamSynchronize(rank->stream), "cuStreamSynchronize");
    }
}

static void loop_captured(struct comm_rank *rank, const struct tck_run *run)
{
    CUgraph graph;
    CUgraphExec exec;
    comm_rank_cuda(rank, rank->cuda->cuStreamBeginCapture(rank->stream, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL), "cuStreamBeginCapture");
    for (int i = 0; i < ROW; i++)
        comm_rank_launch(rank, run);
    comm_rank_cuda(rank, rank->cuda->cuStreamEndCapture(rank->stream, &graph), "cuStreamEndCapture");
    comm_rank_cuda(rank, rank->cuda->cuGraphInstantiate(&exec, graph, 0), "cuGraphInstantiate");
    while (!fault_of(rank)) {
        comm_rank_cuda(rank, rank->cuda->cuGraphLaunch(exec, rank->stream), "cuGraphLaunch");
        comm_rank_cuda(rank, rank->cuda->cuStreamSynchronize(rank->stream), "cuStreamSynchronize");
    }
    comm_rank_cuda(rank, rank->cuda->cuGraphExecDestroy(exec), "cuGraphExecDestroy");
    comm_rank_cuda(rank, rank->cuda->cuGraphDestroy(graph), "cuGraphDestroy");
}

/* Ordinary work of the context: memory is written on the stream and read back. */
static void check_memory(struct comm_rank *rank)
{
    unsigned char byte = 0;
    comm_rank_cuda(rank, rank->cuda->cuMemsetD8Async(rank->out, 0x5a, rank->board->region_bytes, rank->stream), "memset");
    comm_rank_cuda(rank, rank->cuda->cuStreamSynchronize(rank->stream), "cuStreamSynchronize");
    comm_rank_cuda(rank, rank->cuda->cuMemcpyDtoH(&byte, rank->out + 4711, 1), "copy");
    if (byte != 0x5a)
        comm_board_fail(rank->board, rank->rank, "memory reads %#x, not 0x5a", byte);
}

/* Later runs end at once, and ordinary work of the context goes on. */
static void check_health(struct comm_rank *rank, const struct tck_run *run)
{
    uint64_t start = tcw_now_ns();
    for (int i = 0; i < 100; i++)
        comm_rank_launch(rank, run);
    comm_rank_cuda(rank, rank->cuda->cuStreamSynchronize(rank->stream), "runs after the fault");
    if (tcw_now_ns() - start > UINT64_C(500000000))
        comm_board_fail(rank->board, rank->rank, "100 runs after the fault took %.1f ms", (double)(tcw_now_ns() - start) / 1e6);
    check_memory(rank);
}

static struct comm_case case_of(const struct comm_scene *scene)
{
    /* These sum in fp32 in any case. */
    uint32_t flags = scene->strategy == TCW_STRATEGY_SYMM_MEM || scene->strategy == TCW_STRATEGY_UB ? TCW_PLAN_ACC_FP32 : 0;
    struct comm_case test = {
        .desc = comm_desc(TCW_BF16, scene->fusion, COMM_SCENE_HIDDEN, scene->tokens, flags),
        .tokens = scene->tokens,
        .data = COMM_DATA_RANDOM,
        .seed = scene->number + 1,
        .mnnvl = scene->strategy == TCW_STRATEGY_MNNVL,
    };
    test.desc.strategy = (uint16_t)scene->strategy;
    return test;
}

static void form(struct player *player, const struct comm_case *test)
{
    struct comm_rank *rank = &player->rank;
    struct tcw_complaint complaint;
    uint64_t bytes = 0;
    if (tck_plan_workspace(TCK_DEVICE_CUDA, &test->desc, rank->nranks, &bytes, &complaint))
        comm_board_fail(rank->board, rank->rank, "no workspace: %s", complaint.text);
    comm_rank_workspace(rank, bytes);
    tell(player, COMM_FORMED, tcw_now_ns(), 0);
}

/* New operands on the board, what comes of them, and the operands on the GPU; nothing there may pass for a result. */
static void prepare(struct comm_rank *rank, const struct comm_case *test)
{
    struct comm_board *board = rank->board;
    uint64_t row = test->desc.hidden * tcw_dtype_bytes(test->desc.dtype), bytes = test->tokens * row;
    comm_reference_fill(board, rank->rank, test);
    comm_board_barrier(board);
    comm_reference_compute(board, rank->rank, test);
    comm_rank_cuda(rank, rank->cuda->cuMemcpyHtoD(rank->in, board->in[rank->rank], bytes), "upload of the input");
    comm_rank_cuda(rank, rank->cuda->cuMemcpyHtoD(rank->residual_in, board->residual, bytes), "upload of the residual");
    comm_rank_cuda(rank, rank->cuda->cuMemcpyHtoD(rank->gamma, board->gamma, row), "upload of gamma");
    comm_rank_cuda(rank, rank->cuda->cuStreamSynchronize(NULL), "uploads"); /* from pageable memory they may return before their end */
    comm_rank_cuda(rank, rank->cuda->cuMemsetD8Async(rank->out, 0xa5, bytes, rank->stream), "poison");
    comm_rank_cuda(rank, rank->cuda->cuMemsetD8Async(rank->residual_out, 0xa5, bytes, rank->stream), "poison");
    comm_rank_cuda(rank, rank->cuda->cuStreamSynchronize(rank->stream), "poison");
    comm_board_barrier(board);
}

/* How long the first run of the new group took; its results are right. */
static uint64_t run_first(struct player *player, const struct comm_case *test, const struct tck_run *run)
{
    struct comm_rank *rank = &player->rank;
    struct comm_board *board = rank->board;
    uint64_t bytes = test->tokens * test->desc.hidden * tcw_dtype_bytes(test->desc.dtype);
    struct comm_outputs outputs = {.out = player->landing, .residual_out = player->landing + board->region_bytes};
    char text[256];
    uint64_t start = tcw_now_ns();
    comm_rank_launch(rank, run);
    comm_rank_cuda(rank, rank->cuda->cuStreamSynchronize(rank->stream), "the first run");
    uint64_t span = tcw_now_ns() - start, fault = fault_of(rank);
    if (fault)
        comm_board_fail(board, rank->rank, "the first run: fault %s of rank %u", tcw_error_name(tcw_abort_code(fault)),
                        tcw_abort_culprit(fault));
    comm_rank_cuda(rank, rank->cuda->cuMemcpyDtoH(player->landing, rank->out, bytes), "download");
    comm_rank_cuda(rank, rank->cuda->cuMemcpyDtoH(player->landing + board->region_bytes, rank->residual_out, bytes), "download");
    if (comm_reference_compare(board, test, &outputs, text, sizeof(text)))
        comm_board_fail(board, rank->rank, "scene %llu: %s", (unsigned long long)test->seed - 1, text);
    return span;
}

static void play(struct player *player, const struct comm_scene *scene)
{
    struct comm_case test = case_of(scene);
    struct comm_rank *rank = &player->rank;
    struct comm_lists lists;
    struct tck_run run;
    form(player, &test);
    comm_rank_run(rank, &test.desc, scene->strategy, scene->tokens, &lists, &run);
    prepare(rank, &test);
    uint64_t span = run_first(player, &test, &run);
    tell(player, COMM_RIGHT, tcw_now_ns(), span);
    if (scene->captured)
        loop_captured(rank, &run);
    else
        loop_eager(rank, &run);
    uint64_t ended = tcw_now_ns();
    check_health(rank, &run);
    tell(player, COMM_ENDED, ended, 0);
}

int comm_player_main(struct comm_board *board, uint32_t rank, int socket)
{
    struct player player = {.socket = socket, .landing = malloc(2 * board->region_bytes)};
    struct comm_scene scene;
    alarm(board->seconds); /* whatever stands still, this process ends */
    int code = player.landing ? comm_rank_open(&player.rank, board, rank) : 1;
    if (code)
        return code;
    comm_rank_load(&player.rank);
    check_memory(&player.rank); /* the driver has kernels of its own, loaded at their first use */
    tell(&player, COMM_WAITING, tcw_now_ns(), 0);
    while (true) {
        alarm(0);
        if (recv(socket, &scene, sizeof(scene), 0) != sizeof(scene))
            return 1;
        alarm(board->seconds);
        if (scene.leave)
            break;
        play(&player, &scene);
    }
    comm_rank_close(&player.rank);
    free(player.landing);
    return 0;
}
