#include "cuda/operation.h"

#include <string.h>

enum { MOST_PACKS = 1u << 30 }; /* of one launch: kernels count in 32 bits */

static bool is_aligned(const void *pointer)
{
    return ((uintptr_t)pointer & (TCK_CUDA_PACK - 1)) == 0;
}

static uint32_t fusion_flags(unsigned fusion)
{
    switch (fusion) {
    case TCW_FUSION_RESIDUAL_RMS_NORM:
        return TCK_CUDA_WRITE_NORM;
    case TCW_FUSION_RESIDUAL_RMS_NORM_QUANT_FP8:
        return TCK_CUDA_WRITE_FP8;
    case TCW_FUSION_RESIDUAL_RMS_NORM_OUT_QUANT_FP8:
        return TCK_CUDA_WRITE_FP8 | TCK_CUDA_WRITE_NORM;
    case TCW_FUSION_RESIDUAL_RMS_NORM_QUANT_NVFP4:
        return TCK_CUDA_WRITE_FP4;
    case TCW_FUSION_RESIDUAL_RMS_NORM_OUT_QUANT_NVFP4:
        return TCK_CUDA_WRITE_FP4 | TCK_CUDA_WRITE_NORM;
    default:
        return 0;
    }
}

static int check_pointers(const struct tck_cuda_operation *o, bool norm, bool staged)
{
    const void *const all[] = {o->in, o->out, o->bias, o->residual_in, o->residual_out, o->gamma, o->quant_out, o->scale_out};
    bool quantizes = o->flags & (TCK_CUDA_WRITE_FP8 | TCK_CUDA_WRITE_FP4);
    if (!o->in || (!o->out && (!norm || o->flags & TCK_CUDA_WRITE_NORM)) || (norm && (!o->residual_in || !o->residual_out)) ||
        (quantizes && (!o->scale || !o->quant_out)) || (o->flags & TCK_CUDA_WRITE_FP4 && !o->scale_out))
        return TCW_EINVAL;
    if (staged)
        return norm || o->bias ? TCW_ENOTSUP : 0;
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
        if (!is_aligned(all[i]))
            return TCW_ENOTSUP;
    return ((uintptr_t)o->scale & 3) == 0 ? 0 : TCW_ENOTSUP;
}

static int prepare(const struct tck_run *run, const void *in, bool staged, struct tck_cuda_operation *operation)
{
    const struct tcw_plan_desc *desc = run->desc;
    uint64_t elements = TCK_CUDA_PACK / (tcw_dtype_bytes(desc->dtype) ? tcw_dtype_bytes(desc->dtype) : 1);
    bool norm = desc->fusion != TCW_FUSION_NONE;
    if (!tck_cuda_type_name(desc->dtype) || desc->hidden % elements || desc->hidden / elements > MOST_PACKS || desc->redop != TCW_SUM)
        return TCW_ENOTSUP;
    *operation = (struct tck_cuda_operation){
        .in = in,
        .out = run->out ? run->out[0] : NULL,
        .bias = desc->flags & TCW_PLAN_BIAS ? run->bias : NULL,
        .residual_in = norm ? run->residual_in : NULL,
        .residual_out = norm ? run->residual_out : NULL,
        .gamma = norm ? run->norm_weight : NULL,
        .flags = fusion_flags(desc->fusion),
        .tokens = run->tokens,
        .run_tokens = run->tokens,
        .row_packs = (uint32_t)(desc->hidden / elements),
        .hidden = (uint32_t)desc->hidden,
        .plan_id = run->plan_id,
    };
    memcpy(&operation->eps, &desc->eps_bits, sizeof(operation->eps));
    if (operation->flags & (TCK_CUDA_WRITE_FP8 | TCK_CUDA_WRITE_FP4)) {
        operation->scale = run->scale;
        operation->quant_out = run->quant_out;
        operation->scale_out = run->scale_out;
    }
    if (operation->flags & TCK_CUDA_WRITE_FP4 && (desc->dtype == TCW_FP32 || desc->hidden % 16))
        return TCW_ENOTSUP;
    if (!norm && !operation->bias) { /* rows mean nothing then, and can be cut anywhere */
        operation->tokens *= operation->row_packs;
        operation->row_packs = 1;
    }
    return check_pointers(operation, norm, staged);
}

int tck_cuda_operation_prepare(const struct tck_run *run, const void *in, struct tck_cuda_operation *operation)
{
    return prepare(run, in, false, operation);
}

int tck_cuda_operation_prepare_staged(const struct tck_run *run, struct tck_cuda_operation *operation)
{
    return prepare(run, run->in[0], true, operation);
}

static const void *behind(const void *pointer, uint64_t bytes)
{
    return pointer ? (const unsigned char *)pointer + bytes : NULL;
}
static void *behind_out(void *pointer, uint64_t bytes)
{
    return pointer ? (unsigned char *)pointer + bytes : NULL;
}

void tck_cuda_operation_cut(const struct tck_cuda_operation *whole, uint32_t element_bytes, uint64_t first, uint64_t tokens,
                            struct tck_cuda_operation *part)
{
    uint64_t bytes = first * whole->row_packs * TCK_CUDA_PACK, elements = bytes / element_bytes;
    *part = *whole;
    part->in = behind(whole->in, bytes);
    part->out = behind_out(whole->out, bytes);
    part->residual_in = behind(whole->residual_in, bytes);
    part->residual_out = behind_out(whole->residual_out, bytes);
    part->quant_out = behind_out(whole->quant_out, whole->flags & TCK_CUDA_WRITE_FP4 ? elements / 2 : elements);
    part->first_token = first;
    part->tokens = tokens;
    if (first + tokens == whole->tokens)
        part->flags |= TCK_CUDA_LAST;
}

const char *tck_cuda_type_name(unsigned dtype)
{
    return dtype == TCW_FP32 ? "fp32" : dtype == TCW_FP16 ? "fp16" : dtype == TCW_BF16 ? "bf16" : NULL;
}

struct tck_cuda_target tck_cuda_operation_target(const struct tck_device *device, const struct tck_run *run,
                                                 const struct tck_cuda_kernel *kernel)
{
    const struct tck_device_facts *facts = tck_device_facts(device);
    bool agreed = run->multiprocessors != 0;
    uint32_t compute = agreed ? run->compute : facts->compute;
    return (struct tck_cuda_target){.compute = compute,
                                    .multiprocessors = agreed ? run->multiprocessors : facts->multiprocessors,
                                    .registers = compute ? kernel->registers : 0};
}

static int enqueue(const struct tck_cuda_kernel *kernel, const struct tck_cuda_shape *shape, struct tck_cuda_args *args, CUstream stream)
{
    CUlaunchAttribute attributes[2];
    unsigned count = 0;
    void *parameters[] = {args};
    if (shape->cluster > 1) {
        attributes[count].id = CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION;
        attributes[count].value.clusterDim.x = shape->cluster;
        attributes[count].value.clusterDim.y = 1;
        attributes[count++].value.clusterDim.z = 1;
    }
    if (kernel->overlaps) {
        attributes[count].id = CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION;
        attributes[count++].value.programmaticStreamSerializationAllowed = 1;
    }
    CUlaunchConfig config = {.gridDimX = shape->grid,
                             .gridDimY = 1,
                             .gridDimZ = 1,
                             .blockDimX = shape->threads,
                             .blockDimY = 1,
                             .blockDimZ = 1,
                             .sharedMemBytes = shape->shared,
                             .hStream = stream,
                             .attrs = attributes,
                             .numAttrs = count};
    return tck_cuda_code(tck_cuda_driver()->cuLaunchKernelEx(&config, kernel->function, parameters, NULL));
}

static int copy(void *target, const void *source, uint64_t bytes, CUstream stream)
{
    return tck_cuda_code(tck_cuda_driver()->cuMemcpyAsync((CUdeviceptr)(uintptr_t)target, (CUdeviceptr)(uintptr_t)source, bytes, stream));
}

/* One launch; what of its in and out is not aligned is in `staging` meanwhile. */
static int enqueue_staged(const struct tck_cuda_kernel *kernel, const struct tck_cuda_shape *shape, struct tck_cuda_args *args,
                          void *staging, CUstream stream)
{
    const uint64_t bytes = args->run.tokens * args->run.row_packs * TCK_CUDA_PACK;
    void *out = args->run.out;
    int code = 0;
    if (bytes > TCK_CUDA_STAGED_BYTES)
        return TCW_EINVAL;
    if (!is_aligned(args->run.in)) {
        code = copy(staging, args->run.in, bytes, stream);
        args->run.in = staging;
    }
    if (!is_aligned(out))
        args->run.out = staging;
    if (!code)
        code = enqueue(kernel, shape, args, stream);
    return code || args->run.out == out ? code : copy(out, staging, bytes, stream);
}

int tck_cuda_operation_launch(const struct tck_cuda_kernel *kernel, tck_cuda_shape_function *shape_of, const struct tck_cuda_target *target,
                              const struct tck_cuda_args *whole, uint32_t element_bytes, void *staging, CUstream stream)
{
    uint64_t most = MOST_PACKS / whole->run.row_packs;
    struct tck_cuda_args args = *whole;
    int code = 0;
    for (uint64_t first = 0; !code && first < whole->run.tokens; first += args.run.tokens) {
        struct tck_cuda_shape shape = {0};
        uint64_t left = whole->run.tokens - first;
        args.run.tokens = left < most ? left : most;
        code = shape_of(&args, target, &shape);
        if (!code && whole->link.nranks > 1 && shape.grid > TCK_CUDA_MOST_BLOCKS)
            code = TCW_EINVAL;
        if (code)
            return code;
        tck_cuda_operation_cut(&whole->run, element_bytes, first, shape.tokens, &args.run);
        args.run.rounds = shape.rounds;
        args.run.round_packs = shape.round_packs;
        code = staging ? enqueue_staged(kernel, &shape, &args, staging, stream) : enqueue(kernel, &shape, &args, stream);
    }
    return code;
}
