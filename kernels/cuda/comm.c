#include "cuda/device.h"
#include "cuda/finalize.h"
#include "cuda/nvls.h"
#include "cuda/tell.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

/* args.h says the same in words that nvcc understands. */
_Static_assert(sizeof(struct tck_cuda_record) == sizeof(struct tcw_device_record), "records of the flight recorder");
_Static_assert(offsetof(struct tck_cuda_record, start_ns) == offsetof(struct tcw_device_record, start_ns), "start_ns");
_Static_assert(offsetof(struct tck_cuda_record, end_ns) == offsetof(struct tcw_device_record, end_ns), "end_ns");
_Static_assert(offsetof(struct tck_cuda_record, plan_id) == offsetof(struct tcw_device_record, plan_id), "plan_id");
_Static_assert(offsetof(struct tck_cuda_record, tokens) == offsetof(struct tcw_device_record, tokens), "tokens");
_Static_assert(sizeof(struct tck_cuda_progress) == sizeof(struct tcw_device_progress), "progress");
_Static_assert(offsetof(struct tck_cuda_progress, fault) == offsetof(struct tcw_device_progress, fault), "fault");
_Static_assert(offsetof(struct tck_cuda_progress, fault_step) == offsetof(struct tcw_device_progress, fault_step), "fault_step");
_Static_assert(offsetof(struct tck_cuda_progress, their_step) == offsetof(struct tcw_device_progress, their_step), "their_step");
_Static_assert(offsetof(struct tck_cuda_progress, records) == offsetof(struct tcw_device_progress, records), "records");
_Static_assert((int)TCK_CUDA_RECORDS == (int)TCW_DEVICE_RECORDS && (int)TCK_CUDA_RANKS == (int)TCK_CUDA_MAX_RANKS, "sizes");
_Static_assert((int)TCK_CUDA_STAGED_BYTES / (int)TCK_CUDA_PACK == (int)TCK_CUDA_STAGED_PACKS, "staged");
_Static_assert(sizeof(struct tck_cuda_state) == 128 && sizeof(struct tck_cuda_door) == 32, "state");
_Static_assert(offsetof(struct tck_cuda_state, began_step) % 16 == 0, "written in one piece");
_Static_assert(TCK_CUDA_DOORS_OFFSET + TCK_CUDA_MOST_BLOCKS * sizeof(struct tck_cuda_door) <= TCK_CUDA_HEADER_BYTES, "doors");

enum { ONESHOT, TWOSHOT, NVLS_ONESHOT, NVLS_TWOSHOT, NVLS_REDUCE, FAMILIES, FORMS = 2, TYPES = 3 };

struct tck_cuda_comm {
    struct tck_device *device;
    struct tck_cuda_link link;
    struct tck_cuda_kernel kernels[FAMILIES][FORMS][TYPES];
    struct tck_cuda_kernel finalize;
};

static const struct {
    const char *name;
    tck_cuda_shape_function *shape;
} families[FAMILIES] = {{"oneshot", tck_cuda_oneshot_shape},
                        {"twoshot", tck_cuda_twoshot_shape},
                        {"nvls_oneshot", tck_cuda_nvls_oneshot_shape},
                        {"nvls_twoshot", tck_cuda_nvls_shape},
                        {"nvls_reduce", tck_cuda_nvls_shape}};

int tck_cuda_workspace_format(struct tck_device *device, void *base, uint64_t bytes)
{
    const struct tck_cuda_driver *driver = tck_cuda_driver();
    CUdeviceptr header = (CUdeviceptr)base, data = header + TCK_CUDA_HEADER_BYTES;
    CUstreamCaptureMode mode;
    CUstream stream;
    CUresult result;
    int code;
    if (bytes < TCK_CUDA_HEADER_BYTES)
        return TCW_EINVAL;
    code = tck_cuda_begin_setup(device, &mode);
    if (code)
        return code;
    /* Neither the default stream nor the context as a whole: those wait for every stream, and one of them may wait for a client. */
    result = driver->cuStreamCreateWithPriority(&stream, CU_STREAM_NON_BLOCKING, 0);
    if (result == CUDA_SUCCESS) {
        result = driver->cuMemsetD8Async(header, 0, TCK_CUDA_HEADER_BYTES, stream);
        if (result == CUDA_SUCCESS)
            result = driver->cuMemsetD32Async(data, TCK_CUDA_SENTINEL, (bytes - TCK_CUDA_HEADER_BYTES) / 4, stream);
        CUresult ended = driver->cuStreamSynchronize(stream);
        if (result == CUDA_SUCCESS)
            result = ended;
        driver->cuStreamDestroy(stream);
    }
    tck_cuda_end_setup(device, mode);
    return tck_cuda_code(result);
}

static int load_kernels(struct tck_cuda_comm *comm)
{
    static const char *const forms[FORMS] = {"plain", "norm"};
    uint32_t n = comm->link.nranks;
    int count = comm->link.multicast ? FAMILIES : NVLS_ONESHOT;
    char name[64], ranks[8] = "n";
    int code = 0;
    if (n == 2 || n == 4 || n == 8)
        snprintf(ranks, sizeof(ranks), "%u", n);
    for (int family = 0; family < count && !code; family++)
        for (int form = 0; form < FORMS && !code; form++)
            for (unsigned type = 0; type < TYPES && !code; type++) {
                struct tck_cuda_kernel *kernel = &comm->kernels[family][form][type];
                if (n == 1) {
                    code = tck_cuda_epilogue_kernel(comm->device, type, form != 0, kernel);
                    continue;
                }
                if (family >= NVLS_ONESHOT)
                    snprintf(name, sizeof(name), "tck_%s_%s_%s", families[family].name, tck_cuda_type_name(type), forms[form]);
                else
                    snprintf(name, sizeof(name), "tck_%s_%s_%s_%s", families[family].name, tck_cuda_type_name(type), forms[form], ranks);
                code = tck_cuda_kernel(comm->device, name, kernel);
            }
    if (!code && n > 1)
        code = tck_cuda_kernel(comm->device, "tck_finalize", &comm->finalize);
    return code;
}

static int fill_link(struct tck_cuda_link *link, const struct tck_cuda_comm_params *params)
{
    enum { LINE_PACKS = 128 / TCK_CUDA_PACK };
    if (!params->nranks || params->nranks > TCK_CUDA_MAX_RANKS || params->rank >= params->nranks)
        return TCW_EINVAL;
    *link = (struct tck_cuda_link){
        .rank = params->rank,
        .nranks = params->nranks,
        .abort_word = (const uint64_t *)params->abort_word,
        .deadline_ns = (const uint64_t *)params->deadline_ns,
        .progress = (struct tck_cuda_progress *)params->progress,
    };
    if (params->nranks == 1) /* exchanges nothing */
        return 0;
    if (!params->workspaces || params->workspace_bytes <= TCK_CUDA_HEADER_BYTES || !params->abort_word || !params->deadline_ns ||
        !params->progress)
        return TCW_EINVAL;
    for (uint32_t i = 0; i < params->nranks; i++)
        link->workspaces[i] = params->workspaces[i];
    link->multicast = params->multicast;
    link->buffer_packs = (params->workspace_bytes - TCK_CUDA_HEADER_BYTES) / TCK_CUDA_PACK / TCK_CUDA_BUFFERS / LINE_PACKS * LINE_PACKS;
    return 0;
}

int tck_cuda_comm_create(const struct tck_cuda_comm_params *params, struct tck_cuda_comm **created)
{
    struct tck_cuda_comm *comm = calloc(1, sizeof(*comm));
    int code;
    if (!comm)
        return TCW_ENOMEM;
    comm->device = params->device;
    code = fill_link(&comm->link, params);
    if (!code)
        code = tck_cuda_enter(comm->device);
    if (!code) {
        code = load_kernels(comm);
        tck_cuda_leave(comm->device);
    }
    if (code)
        free(comm);
    else
        *created = comm;
    return code;
}

void tck_cuda_comm_destroy(struct tck_cuda_comm *comm)
{
    free(comm);
}

/* The family for a run, and what its strategy means for the arithmetic. */
static int choose(const struct tck_cuda_comm *comm, const struct tck_run *run, uint32_t *flags)
{
    enum { LIBRARY_ONE_SHOT_BYTES = 512 << 10, UB_ONE_SHOT_ELEMENTS = 128 << 10 }; /* of all ranks together: seed-spec 15.4, 13.3 */
    const struct tcw_plan_desc *desc = run->desc;
    uint64_t elements = run->tokens * desc->hidden * comm->link.nranks, bytes = elements * tcw_dtype_bytes(desc->dtype);
    int family;
    if (desc->flags & TCW_PLAN_ACC_FP32)
        *flags |= TCK_CUDA_WIDE;
    switch (run->strategy) {
    case TCW_STRATEGY_ONESHOT:
        return ONESHOT;
    case TCW_STRATEGY_TWOSHOT:
        return TWOSHOT;
    case TCW_STRATEGY_MIN_LATENCY:
        return run->tokens <= 128 || desc->hidden < comm->link.nranks ? ONESHOT : TWOSHOT;
    case TCW_STRATEGY_MNNVL:
        family = bytes <= LIBRARY_ONE_SHOT_BYTES ? ONESHOT : TWOSHOT;
        *flags |= TCK_CUDA_WIDE | TCK_CUDA_ROUND_SQUARES | (family == TWOSHOT ? TCK_CUDA_GAMMA_FIRST : 0);
        return family;
    case TCW_STRATEGY_SYMM_MEM: /* without multicast: any sum in fp32 that is rounded once (seed-spec 12) */
        *flags |= TCK_CUDA_WIDE;
        return bytes <= LIBRARY_ONE_SHOT_BYTES ? ONESHOT : TWOSHOT;
    case TCW_STRATEGY_UB:
        *flags |= TCK_CUDA_WIDE | TCK_CUDA_FP8_UNROUNDED;
        return elements <= UB_ONE_SHOT_ELEMENTS ? ONESHOT : TWOSHOT;
    default:
        return TCW_ENOTSUP;
    }
}

/* The same strategy over a multicast object, where there is one. */
static int with_multicast(const struct tck_cuda_comm *comm, uint32_t strategy, int family)
{
    if (!comm->link.multicast || family < 0)
        return family;
    if (strategy == TCW_STRATEGY_MNNVL)
        return family == ONESHOT ? NVLS_ONESHOT : NVLS_TWOSHOT;
    return strategy == TCW_STRATEGY_SYMM_MEM || strategy == TCW_STRATEGY_UB ? NVLS_REDUCE : family;
}

/* Of kernels that count their blocks in the workspace and write the words; where others run, nothing is told. */
static int tells(const struct tck_cuda_comm *comm, int family, const struct tck_run *run, struct tck_cuda_args *args)
{
    bool can = comm->link.nranks > 1 && family <= TWOSHOT && run->tokens > 0 && args->signal.first;
    if (!can)
        args->signal = (struct tck_cuda_signal){0};
    return can;
}

/*
 * *args: the link, what the end tells, and in run.flags those that do not depend on the run. `served`: by executors, the same on all ranks
 * though some may stage and cannot tell. `staging`: NULL, none. 1: the end is told.
 */
static int launch(struct tck_cuda_comm *comm, const struct tck_run *run, CUstream stream, struct tck_cuda_args *args, bool served,
                  void *staging)
{
    const bool finalizes = run->desc->op == TCW_OP_UB_FINALIZE && comm->link.nranks > 1;
    struct tck_cuda_target target;
    tck_cuda_shape_function *shape = tck_cuda_finalize_shape;
    const struct tck_cuda_kernel *kernel = &comm->finalize;
    uint32_t flags = args->run.flags;
    int family = finalizes ? 0 : with_multicast(comm, run->strategy, choose(comm, run, &flags)), code;
    if (family < 0)
        return family;
    if (finalizes)
        code = tck_cuda_finalize_prepare(run, comm->link.nranks, &args->run);
    else
        code = staging ? tck_cuda_operation_prepare_staged(run, &args->run) : tck_cuda_operation_prepare(run, run->in[0], &args->run);
    if (code)
        return code;
    args->run.flags |= flags;
    if (comm->link.nranks == 1)
        family = ONESHOT;
    if (!finalizes) {
        shape = families[family].shape;
        kernel = &comm->kernels[family][args->run.residual_in != NULL][run->desc->dtype];
    }
    target = tck_cuda_operation_target(comm->device, run, kernel);
    target.blocks = run->blocks;
    target.few_blocks = served;
    int told = tells(comm, family, run, args);
    code = tck_cuda_operation_launch(kernel, shape, &target, args, (uint32_t)tcw_dtype_bytes(run->desc->dtype), staging, stream);
    return code ? code : told;
}

int tck_cuda_comm_launch(struct tck_cuda_comm *comm, const struct tck_run *run, CUstream stream, bool trigger_early)
{
    struct tck_cuda_args args = {.link = comm->link, .run.flags = trigger_early ? TCK_CUDA_TRIGGER_EARLY : 0};
    return launch(comm, run, stream, &args, false, NULL);
}

int tck_cuda_comm_launch_telling(struct tck_cuda_comm *comm, const struct tck_run *run, CUstream stream, const struct tck_cuda_end *end)
{
    struct tck_cuda_args args = {.link = comm->link, .signal = tck_cuda_signal_of(end)};
    return launch(comm, run, stream, &args, true, NULL);
}

int tck_cuda_comm_launch_staged(struct tck_cuda_comm *comm, const struct tck_run *run, CUstream stream, void *staging)
{
    struct tck_cuda_args args = {.link = comm->link};
    if (run->desc->op != TCW_OP_ALL_REDUCE || comm->link.nranks < 2)
        return TCW_ENOTSUP;
    return launch(comm, run, stream, &args, true, staging);
}

uint64_t tck_cuda_comm_launches(const struct tck_cuda_comm *comm, const struct tck_run *run)
{
    const uint64_t n = comm->link.nranks, packs = run->tokens * run->desc->hidden * tcw_dtype_bytes(run->desc->dtype) / TCK_CUDA_PACK;
    const uint64_t room = comm->link.buffer_packs < TCK_CUDA_STAGED_PACKS ? comm->link.buffer_packs : TCK_CUDA_STAGED_PACKS;
    /* One-shot leaves room for the messages of all others, two-shot for more than half of one, rounded to whole rows. */
    const uint64_t each = room / (n > 4 ? n - 1 : 4);
    return 1 + (each ? packs / each : 0);
}
