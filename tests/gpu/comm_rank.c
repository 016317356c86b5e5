#include "comm_rank.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

void comm_rank_cuda(struct comm_rank *self, CUresult result, const char *what)
{
    char text[128];
    if (result != CUDA_SUCCESS)
        comm_board_fail(self->board, self->rank, "%s: %s", what, tck_cuda_text(result, text, sizeof(text)));
}

static CUdeviceptr allocate(struct comm_rank *self, uint64_t bytes)
{
    CUdeviceptr address = 0;
    comm_rank_cuda(self, self->cuda->cuMemAlloc(&address, bytes), "cuMemAlloc");
    return address;
}

int comm_rank_open(struct comm_rank *self, struct comm_board *board, uint32_t rank)
{
    char why[256];
    int priority;
    *self = (struct comm_rank){.board = board, .rank = rank, .nranks = board->nranks};
    for (uint32_t i = 0; i < COMM_MAX_RANKS; i++)
        self->workspaces[i].fd = -1;
    int code = tck_device_open(NULL, (int)(rank % board->gpus), &self->device, why, sizeof(why));
    if (code == TCW_ENOTSUP) {
        printf("rank %u: %s\n", rank, why);
        return COMM_SKIP;
    }
    if (code || tck_cuda_enter(self->device))
        comm_board_fail(board, rank, "GPU %u: %s", rank % board->gpus, why);
    self->cuda = tck_cuda_driver();
    comm_rank_cuda(self, self->cuda->cuCtxGetStreamPriorityRange(NULL, &priority), "cuCtxGetStreamPriorityRange");
    comm_rank_cuda(self, self->cuda->cuStreamCreateWithPriority(&self->stream, CU_STREAM_NON_BLOCKING, priority), "cuStreamCreate");
    code = tck_cuda_register_host(self->device, board->page[rank], tcw_member_page_bytes(), &self->page);
    if (code)
        comm_board_fail(board, rank, "the member page cannot be registered: %s", tcw_error_name(code));
    CUdeviceptr *large[] = {&self->in, &self->out, &self->residual_in, &self->residual_out, &self->quant_out};
    for (size_t i = 0; i < sizeof(large) / sizeof(large[0]); i++)
        *large[i] = allocate(self, board->region_bytes);
    CUdeviceptr *small[] = {&self->gamma, &self->bias, &self->scale, &self->scale_out};
    for (size_t i = 0; i < sizeof(small) / sizeof(small[0]); i++)
        *small[i] = allocate(self, board->region_bytes / 8);
    return 0;
}

static void create_comm(struct comm_rank *self, void *const *workspaces, uint64_t bytes)
{
    struct tck_cuda_comm_params params = {
        .device = self->device,
        .rank = self->rank,
        .nranks = self->nranks,
        .workspaces = workspaces,
        .workspace_bytes = bytes,
        .abort_word = self->page + offsetof(struct tcw_member_page, abort_word),
        .deadline_ns = self->page + offsetof(struct tcw_member_page, deadline_ns),
        .progress = self->page + offsetof(struct tcw_member_page, device),
    };
    int code = tck_cuda_comm_create(&params, &self->comm);
    if (code)
        comm_board_fail(self->board, self->rank, "tck_cuda_comm_create: %s", tcw_error_name(code));
}

static void drop_workspaces(struct comm_rank *self)
{
    if (self->comm)
        tck_cuda_comm_destroy(self->comm);
    self->comm = NULL;
    for (uint32_t i = 0; i < self->nranks; i++)
        tck_memory_release(&self->workspaces[i]);
}

void comm_rank_close(struct comm_rank *self)
{
    CUdeviceptr all[] = {self->in,   self->out,   self->residual_in, self->residual_out, self->gamma,
                         self->bias, self->scale, self->quant_out,   self->scale_out};
    (void)self->cuda->cuStreamSynchronize(self->stream);
    drop_workspaces(self);
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
        (void)self->cuda->cuMemFree(all[i]);
    (void)self->cuda->cuStreamDestroy(self->stream);
    tck_cuda_unregister_host(self->device, self->board->page[self->rank]);
    tck_cuda_leave(self->device);
    tck_device_close(self->device);
}

void comm_rank_load(struct comm_rank *self)
{
    void *bases[COMM_MAX_RANKS];
    for (uint32_t i = 0; i < self->nranks; i++)
        bases[i] = (void *)self->in;
    create_comm(self, bases, self->board->region_bytes);
    drop_workspaces(self);
}

void comm_rank_workspace(struct comm_rank *self, uint64_t bytes)
{
    struct comm_board *board = self->board;
    struct tck_memory *mine = &self->workspaces[self->rank];
    void *bases[COMM_MAX_RANKS];
    comm_rank_cuda(self, self->cuda->cuStreamSynchronize(self->stream), "cuStreamSynchronize");
    comm_board_barrier(board);
    drop_workspaces(self);
    int code = tck_memory_create(self->device, "workspace", bytes, mine);
    if (!code)
        code = tck_cuda_workspace_format(self->device, mine->base, bytes);
    if (code)
        comm_board_fail(board, self->rank, "a workspace of %llu bytes: %s", (unsigned long long)bytes, tcw_error_name(code));
    for (uint32_t i = 0; i < self->nranks; i++)
        if (i != self->rank && comm_board_send_fd(board, self->rank, i, mine->fd))
            comm_board_fail(board, self->rank, "cannot send to rank %u", i);
    for (uint32_t i = 0; i < self->nranks; i++) {
        if (i != self->rank) {
            int fd = comm_board_receive_fd(board, self->rank, i);
            code = fd < 0 ? TCW_EIO : tck_memory_import(self->device, fd, bytes, &self->workspaces[i]);
            if (code)
                comm_board_fail(board, self->rank, "the workspace of rank %u: %s", i, tcw_error_name(code));
        }
        bases[i] = self->workspaces[i].base;
    }
    create_comm(self, bases, bytes);
    self->workspace_bytes = bytes;
    comm_board_barrier(board);
}

void comm_rank_grow(struct comm_rank *self, const struct tcw_plan_desc *desc)
{
    struct tcw_complaint complaint;
    uint64_t bytes = 0;
    int code = tck_plan_workspace(TCK_DEVICE_CUDA, desc, self->nranks, &bytes, &complaint);
    if (code)
        comm_board_fail(self->board, self->rank, "no workspace: %s", complaint.text);
    if (bytes > self->workspace_bytes)
        comm_rank_workspace(self, bytes);
}

void comm_rank_run(struct comm_rank *self, const struct tcw_plan_desc *desc, uint32_t strategy, uint64_t tokens, struct comm_lists *lists,
                   struct tck_run *run)
{
    lists->in[0] = (const void *)self->in;
    lists->out[0] = (void *)self->out;
    *run = (struct tck_run){
        .desc = desc,
        .plan_id = 1,
        .strategy = strategy,
        .tokens = tokens,
        .in = lists->in,
        .out = lists->out,
        .residual_in = (const void *)self->residual_in,
        .residual_out = (void *)self->residual_out,
        .norm_weight = (const void *)self->gamma,
        .bias = desc->flags & TCW_PLAN_BIAS ? (const void *)self->bias : NULL,
        .scale = (const float *)self->scale,
        .quant_out = (void *)self->quant_out,
        .scale_out = (void *)self->scale_out,
    };
}

void comm_rank_launch(struct comm_rank *self, const struct tck_run *run)
{
    int code = tck_cuda_comm_launch(self->comm, run, self->stream, true);
    if (code)
        comm_board_fail(self->board, self->rank, "launch of %s, %llu tokens of %llu: %s", tcw_strategy_name(run->strategy),
                        (unsigned long long)run->tokens, (unsigned long long)run->desc->hidden, tcw_error_name(code));
}

uint32_t comm_gpu_count(void)
{
    int status;
    fflush(NULL);
    pid_t pid = fork();
    if (!pid) {
        int count = 0;
        char why[256];
        struct tck_device *device;
        while (count < COMM_MAX_RANKS && !tck_device_open(NULL, count, &device, why, sizeof(why)))
            count++;
        _exit(count);
    }
    return pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) ? (uint32_t)WEXITSTATUS(status) : 0;
}

struct tcw_plan_desc comm_desc(unsigned dtype, unsigned fusion, uint64_t hidden, uint64_t max_tokens, uint32_t flags)
{
    const float eps = 1e-5f;
    struct tcw_plan_desc desc = {
        .op = TCW_OP_ALL_REDUCE,
        .dtype = (uint16_t)dtype,
        .strategy = TCW_STRATEGY_AUTO,
        .fusion = (uint16_t)fusion,
        .redop = TCW_SUM,
        .flags = flags,
        .max_tokens = max_tokens,
        .hidden = hidden,
    };
    memcpy(&desc.eps_bits, &eps, sizeof(eps));
    return desc;
}
