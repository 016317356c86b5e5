#include "cuda/image.h"

#include "cuda/device.h"

#include <tcw/types.h>

#include <stdlib.h>
#include <string.h>

/* Some launches begin with a name: the driver would be asked for it in one image after the other, which takes longer than the launch. */
struct tck_cuda_found {
    char *name;
    struct tck_cuda_kernel kernel;
};

static size_t count_images(void)
{
    size_t count = 0;
    while (tck_cuda_images[count].name)
        count++;
    return count;
}

/* All of them at once: code is loaded for the GPU only when a kernel is looked up, so an image that nobody needs costs little. */
static CUresult load(struct tck_device *device)
{
    size_t count = count_images();
    CUmodule *modules = calloc(count + 1, sizeof(*modules));
    if (!modules)
        return CUDA_ERROR_OUT_OF_MEMORY;
    for (size_t i = 0; i < count; i++) {
        CUresult result = tck_cuda_driver()->cuModuleLoadData(&modules[i], tck_cuda_images[i].data);
        if (result != CUDA_SUCCESS) {
            while (i > 0)
                tck_cuda_driver()->cuModuleUnload(modules[--i]);
            free(modules);
            return result;
        }
    }
    device->modules = modules;
    return CUDA_SUCCESS;
}

void tck_cuda_unload_images(struct tck_device *device)
{
    for (size_t i = 0; device->modules && tck_cuda_images[i].name; i++)
        tck_cuda_driver()->cuModuleUnload(device->modules[i]);
}

void tck_cuda_forget_images(struct tck_device *device)
{
    while (device->found_count)
        free(device->found[--device->found_count].name);
    free(device->found);
    device->found = NULL;
    free(device->modules);
    device->modules = NULL;
}

static bool recall(const struct tck_device *device, const char *name, struct tck_cuda_kernel *kernel)
{
    for (size_t i = 0; i < device->found_count; i++)
        if (!strcmp(device->found[i].name, name)) {
            *kernel = device->found[i].kernel;
            return true;
        }
    return false;
}

/* What there is no memory for is looked up again. */
static void remember(struct tck_device *device, const char *name, const struct tck_cuda_kernel *kernel)
{
    struct tck_cuda_found *found = realloc(device->found, (device->found_count + 1) * sizeof(*found));
    if (!found)
        return;
    device->found = found;
    found += device->found_count;
    *found = (struct tck_cuda_found){.name = strdup(name), .kernel = *kernel};
    device->found_count += found->name != NULL;
}

/* Per thread, from what the driver answers about occupancy: that counts what is reserved besides. */
static uint32_t registers_of(CUfunction function)
{
    enum { REGISTERS = 65536, THREADS = 128 };
    int blocks = 0;
    if (tck_cuda_driver()->cuOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, function, THREADS, 0) != CUDA_SUCCESS || blocks < 1)
        blocks = 4;
    return REGISTERS / (THREADS * (uint32_t)blocks);
}

/*
 * What counts is what the code was compiled for (state.cuh, tck_stream_order), not what the GPU is: for GPUs without code of their own the
 * driver translates that of an older architecture.
 */
static bool overlaps(CUfunction function)
{
    int virtual_architecture = 0;
    return tck_cuda_driver()->cuFuncGetAttribute(&virtual_architecture, CU_FUNC_ATTRIBUTE_PTX_VERSION, function) == CUDA_SUCCESS &&
           virtual_architecture >= 90;
}

static CUresult look_up(struct tck_device *device, const char *name, struct tck_cuda_kernel *kernel)
{
    CUresult result = device->modules ? CUDA_SUCCESS : load(device);
    if (result != CUDA_SUCCESS)
        return result;
    result = CUDA_ERROR_NOT_FOUND;
    for (size_t i = 0; result == CUDA_ERROR_NOT_FOUND && tck_cuda_images[i].name; i++)
        result = tck_cuda_driver()->cuModuleGetFunction(&kernel->function, device->modules[i], name);
    if (result != CUDA_SUCCESS)
        return result;
    kernel->registers = registers_of(kernel->function);
    kernel->overlaps = overlaps(kernel->function);
    remember(device, name, kernel);
    return CUDA_SUCCESS;
}

int tck_cuda_kernel(struct tck_device *device, const char *name, struct tck_cuda_kernel *kernel)
{
    CUstreamCaptureMode mode;
    pthread_mutex_lock(&device->lock);
    bool known = recall(device, name, kernel);
    pthread_mutex_unlock(&device->lock);
    if (known)
        return 0;
    int code = tck_cuda_begin_setup(device, &mode);
    if (code)
        return code;
    pthread_mutex_lock(&device->lock);
    CUresult result = recall(device, name, kernel) ? CUDA_SUCCESS : look_up(device, name, kernel); /* somebody else may have been faster */
    pthread_mutex_unlock(&device->lock);
    tck_cuda_end_setup(device, mode);
    return result == CUDA_ERROR_NOT_FOUND ? TCW_ENOTSUP : tck_cuda_code(result);
}
