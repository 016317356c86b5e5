#include "cuda/image.h"

#include "cuda/device.h"

#include <tcw/types.h>

#include <stdlib.h>
#include <string.h>

/* Some launches begin with a name: the driver would be asked for it in one image after the other, which takes longer than the launch. */
struct tck_cuda_found {
    char *name;
    CUfunction function;
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
    if (!device->modules)
        return;
    for (size_t i = 0; tck_cuda_images[i].name; i++)
        tck_cuda_driver()->cuModuleUnload(device->modules[i]);
    free(device->modules);
    device->modules = NULL;
    while (device->found_count)
        free(device->found[--device->found_count].name);
    free(device->found);
    device->found = NULL;
}

static CUfunction recall(const struct tck_device *device, const char *name)
{
    for (size_t i = 0; i < device->found_count; i++)
        if (!strcmp(device->found[i].name, name))
            return device->found[i].function;
    return NULL;
}

/* What there is no memory for is looked up again. */
static void remember(struct tck_device *device, const char *name, CUfunction function)
{
    struct tck_cuda_found *found = realloc(device->found, (device->found_count + 1) * sizeof(*found));
    if (!found)
        return;
    device->found = found;
    found += device->found_count;
    *found = (struct tck_cuda_found){.name = strdup(name), .function = function};
    device->found_count += found->name != NULL;
}

static CUresult look_up(struct tck_device *device, const char *name, CUfunction *function)
{
    CUresult result = device->modules ? CUDA_SUCCESS : load(device);
    if (result != CUDA_SUCCESS)
        return result;
    result = CUDA_ERROR_NOT_FOUND;
    for (size_t i = 0; result == CUDA_ERROR_NOT_FOUND && tck_cuda_images[i].name; i++)
        result = tck_cuda_driver()->cuModuleGetFunction(function, device->modules[i], name);
    if (result == CUDA_SUCCESS)
        remember(device, name, *function);
    return result;
}

int tck_cuda_kernel(struct tck_device *device, const char *name, CUfunction *function)
{
    CUstreamCaptureMode mode;
    pthread_mutex_lock(&device->lock);
    *function = recall(device, name);
    pthread_mutex_unlock(&device->lock);
    if (*function)
        return 0;
    int code = tck_cuda_begin_setup(device, &mode);
    if (code)
        return code;
    pthread_mutex_lock(&device->lock);
    CUresult result = look_up(device, name, function);
    pthread_mutex_unlock(&device->lock);
    tck_cuda_end_setup(device, mode);
    return result == CUDA_ERROR_NOT_FOUND ? TCW_ENOTSUP : tck_cuda_code(result);
}
