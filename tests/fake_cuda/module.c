#include "module.h"

#include "stream.h"

#include <stdlib.h>
#include <string.h>

enum { SHARED_DEFAULT = 48 << 10, SHARED_LIMIT = 227 << 10, THREADS_LIMIT = 1024, MAX_CLUSTER = 16, MULTIPROCESSORS = 132 };

static struct fake_module *modules;

struct kernel {
    struct fake_op op;
    const struct fake_twin *twin;
    struct fake_launch launch;
    _Alignas(16) unsigned char params[];
};

static struct fake_module *module_find(CUmodule handle)
{
    for (struct fake_module *module = modules; module; module = module->next)
        if ((CUmodule)module == handle)
            return module;
    return NULL;
}

static struct fake_function *function_find(CUfunction handle)
{
    for (struct fake_module *module = modules; module; module = module->next)
        for (struct fake_function *function = module->functions; function; function = function->next)
            if ((CUfunction)function == handle)
                return function;
    return NULL;
}

CUresult cuModuleLoadData(CUmodule *out, const void *image)
{
    CUresult result = fake_enter("cuModuleLoadData", FAKE_CONTEXT | FAKE_UNSAFE);
    struct fake_module *module;
    if (result)
        return result;
    if (!out || !image)
        return fake_leave(CUDA_ERROR_INVALID_VALUE);
    module = calloc(1, sizeof(*module));
    if (!module)
        abort();
    module->context = fake_context_current();
    module->next = modules;
    modules = module;
    *out = (CUmodule)module;
    return fake_leave(CUDA_SUCCESS);
}

CUresult cuModuleUnload(CUmodule handle)
{
    CUresult result = fake_enter("cuModuleUnload", FAKE_CONTEXT | FAKE_UNSAFE);
    struct fake_module *module, **link = &modules;
    if (result)
        return result;
    module = module_find(handle);
    if (!module)
        return fake_leave(CUDA_ERROR_INVALID_HANDLE);
    while (*link != module)
        link = &(*link)->next;
    *link = module->next;
    while (module->functions) {
        struct fake_function *function = module->functions;
        module->functions = function->next;
        free(function);
    }
    free(module);
    return fake_leave(CUDA_SUCCESS);
}

CUresult cuModuleGetFunction(CUfunction *out, CUmodule handle, const char *name)
{
    CUresult result = fake_enter("cuModuleGetFunction", FAKE_INIT);
    struct fake_function *function;
    struct fake_module *module;
    if (result)
        return result;
    module = module_find(handle);
    if (!module || !name || strlen(name) >= sizeof(function->name))
        return fake_leave(CUDA_ERROR_INVALID_HANDLE);
    for (function = module->functions; function; function = function->next)
        if (!strcmp(function->name, name))
            break;
    if (!function) {
        function = calloc(1, sizeof(*function));
        if (!function)
            abort();
        strcpy(function->name, name);
        function->twin = fake_twin_find(name);
        function->shared_limit = SHARED_DEFAULT;
        function->next = module->functions;
        module->functions = function;
    }
    *out = (CUfunction)function;
    return fake_leave(CUDA_SUCCESS);
}

/* As if compiled for what it runs on. */
CUresult cuFuncGetAttribute(int *value, CUfunction_attribute attribute, CUfunction handle)
{
    CUresult result = fake_enter("cuFuncGetAttribute", FAKE_INIT);
    if (result)
        return result;
    if (!function_find(handle))
        return fake_leave(CUDA_ERROR_INVALID_HANDLE);
    if (attribute != CU_FUNC_ATTRIBUTE_PTX_VERSION)
        return fake_leave(CUDA_ERROR_NOT_SUPPORTED);
    *value = 90;
    return fake_leave(CUDA_SUCCESS);
}

CUresult cuFuncSetAttribute(CUfunction handle, CUfunction_attribute attribute, int value)
{
    CUresult result = fake_enter("cuFuncSetAttribute", FAKE_INIT);
    struct fake_function *function;
    if (result)
        return result;
    function = function_find(handle);
    if (!function)
        return fake_leave(CUDA_ERROR_INVALID_HANDLE);
    if (attribute == CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES) {
        if (value < 0 || value > SHARED_LIMIT)
            return fake_leave(CUDA_ERROR_INVALID_VALUE);
        function->shared_limit = value > SHARED_DEFAULT ? value : SHARED_DEFAULT;
    }
    return fake_leave(CUDA_SUCCESS);
}

CUresult cuOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, CUfunction handle, int threads, size_t shared)
{
    CUresult result = fake_enter("cuOccupancyMaxActiveBlocksPerMultiprocessor", FAKE_INIT);
    int by_threads, by_shared;
    if (result)
        return result;
    if (!function_find(handle))
        return fake_leave(CUDA_ERROR_INVALID_HANDLE);
    if (threads <= 0)
        return fake_leave(CUDA_ERROR_INVALID_VALUE);
    by_threads = threads > THREADS_LIMIT ? 0 : 2048 / threads < 32 ? 2048 / threads : 32;
    by_shared = shared > SHARED_LIMIT ? 0 : (int)((228 << 10) / (shared + (1 << 10)));
    *blocks = by_threads < by_shared ? by_threads : by_shared;
    return fake_leave(CUDA_SUCCESS);
}

static CUresult run_kernel(struct fake_op *op, struct fake_stream *stream)
{
    struct kernel *kernel = (struct kernel *)op;
    struct fake_launch launch = kernel->launch;
    launch.context = stream->context;
    launch.params = kernel->params;
    return kernel->twin->run(&launch);
}

static unsigned cluster_of(const CUlaunchConfig *config)
{
    for (unsigned i = 0; i < config->numAttrs; i++)
        if (config->attrs[i].id == CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION)
            return config->attrs[i].value.clusterDim.x;
    return 1;
}

static CUresult check_launch(const CUlaunchConfig *config, const struct fake_function *function)
{
    uint64_t threads = (uint64_t)config->blockDimX * config->blockDimY * config->blockDimZ;
    uint64_t blocks = (uint64_t)config->gridDimX * config->gridDimY * config->gridDimZ;
    if (!threads || threads > THREADS_LIMIT || !blocks || config->gridDimY > 65535 || config->gridDimZ > 65535 ||
        config->sharedMemBytes > (unsigned)function->shared_limit)
        return CUDA_ERROR_INVALID_VALUE;
    for (unsigned i = 0; i < config->numAttrs; i++) {
        const CUlaunchAttribute *attribute = &config->attrs[i];
        if (attribute->id == CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION) {
            unsigned x = attribute->value.clusterDim.x, y = attribute->value.clusterDim.y, z = attribute->value.clusterDim.z;
            if (!x || !y || !z || x * y * z > MAX_CLUSTER || config->gridDimX % x || config->gridDimY % y || config->gridDimZ % z)
                return CUDA_ERROR_INVALID_CLUSTER_SIZE;
        }
        if (attribute->id == CU_LAUNCH_ATTRIBUTE_COOPERATIVE && attribute->value.cooperative && blocks > (uint64_t)MULTIPROCESSORS * 32)
            return CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE;
    }
    return CUDA_SUCCESS;
}

CUresult cuLaunchKernelEx(const CUlaunchConfig *config, CUfunction handle, void **params, void **extra)
{
    CUresult result = fake_enter("cuLaunchKernelEx", FAKE_CONTEXT);
    struct fake_function *function;
    struct fake_stream *stream;
    struct kernel *kernel;
    if (result)
        return result;
    function = function_find(handle);
    result = !config || !function || extra ? CUDA_ERROR_INVALID_VALUE : fake_stream_find(config->hStream, &stream);
    if (!result)
        result = check_launch(config, function);
    if (!result && !function->twin) {
        fake_complain("kernel %s has no twin", function->name);
        result = CUDA_ERROR_NOT_SUPPORTED;
    }
    if (!result && (!params || !params[0]))
        result = CUDA_ERROR_INVALID_VALUE;
    if (result)
        return fake_leave(result);
    kernel = fake_op_new(sizeof(*kernel) + function->twin->param_bytes, run_kernel, NULL);
    kernel->twin = function->twin;
    kernel->launch = (struct fake_launch){
        .grid = {config->gridDimX, config->gridDimY, config->gridDimZ},
        .block = {config->blockDimX, config->blockDimY, config->blockDimZ},
        .cluster = cluster_of(config),
    };
    strcpy(kernel->launch.name, function->name);
    memcpy(kernel->params, params[0], function->twin->param_bytes);
    return fake_leave(fake_stream_submit(stream, &kernel->op));
}
