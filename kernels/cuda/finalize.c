#include "cuda/finalize.h"

#include <tcw/types.h>

enum {
    WARP = 32,
    WIDEST = 512,      /* threads, as the kernel's launch bounds say */
    MOST_BLOCKS = 128, /* the same on every GPU: the blocks of all ranks wait for each other by number */
};

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

int tck_cuda_finalize_prepare(const struct tck_run *run, uint32_t nranks, struct tck_cuda_operation *operation)
{
    uint64_t elements = TCK_CUDA_PACK / tcw_dtype_bytes(run->desc->dtype);
    int code = tck_cuda_operation_prepare(run, run->in[0], operation);
    if (code)
        return code;
    operation->row_packs = (uint32_t)(run->desc->hidden / elements); /* rows have owners, so they stay whole */
    operation->tokens = run->tokens;
    operation->flags = tcw_finalize_is_local(run->desc, nranks, run->tokens) ? TCK_CUDA_LOCAL : 0;
    return 0;
}

int tck_cuda_finalize_shape(const struct tck_cuda_args *args, const struct tck_cuda_target *target, struct tck_cuda_shape *shape)
{
    uint64_t room = args->link.buffer_packs - args->link.nranks, tokens = room / (args->run.row_packs + UINT64_C(1));
    (void)target;
    if (args->run.flags & TCK_CUDA_LOCAL)
        tokens = args->run.tokens;
    if (!tokens)
        return TCW_EINVAL;
    tokens = least(tokens, args->run.tokens);
    *shape = (struct tck_cuda_shape){.grid = (uint32_t)least(tokens, MOST_BLOCKS),
                                     .threads = (uint32_t)least((args->run.row_packs + WARP - 1) / WARP * WARP, WIDEST),
                                     .cluster = 1,
                                     .tokens = tokens};
    return 0;
}
