#include "cuda/memory.h"

#include "cuda/device.h"

#include <tcw/types.h>

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Memory of the GPU itself, to be exported in one way. */
static CUmemAllocationProp shareable(const struct tck_device *device, CUmemAllocationHandleType way)
{
    return (CUmemAllocationProp){
        .type = CU_MEM_ALLOCATION_TYPE_PINNED,
        .requestedHandleTypes = way,
        .location = {.type = CU_MEM_LOCATION_TYPE_DEVICE, .id = tck_cuda_ordinal(device)},
    };
}

/* `bytes` as whole granules of the device's memory; EINVAL if that is no size. */
static int whole_granules(const struct tck_device *device, uint64_t *bytes, size_t *granule)
{
    CUmemAllocationProp kind = shareable(device, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR);
    CUresult result = tck_cuda_driver()->cuMemGetAllocationGranularity(granule, &kind, CU_MEM_ALLOC_GRANULARITY_MINIMUM);
    if (result != CUDA_SUCCESS)
        return tck_cuda_code(result);
    if (!*bytes || *bytes > (uint64_t)INT64_MAX - *granule)
        return TCW_EINVAL;
    *bytes = (*bytes + *granule - 1) / *granule * *granule;
    return 0;
}

/* Maps the first `bytes` of an allocation for access from `device`. */
static CUresult map(struct tck_device *device, CUmemGenericAllocationHandle allocation, uint64_t bytes, size_t granule, void **base)
{
    const struct tck_cuda_driver *driver = tck_cuda_driver();
    CUmemAccessDesc access = {
        .location = {.type = CU_MEM_LOCATION_TYPE_DEVICE, .id = tck_cuda_ordinal(device)},
        .flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE,
    };
    CUdeviceptr address;
    CUresult result = driver->cuMemAddressReserve(&address, bytes, granule, 0, 0);
    if (result != CUDA_SUCCESS)
        return result;
    result = driver->cuMemMap(address, bytes, 0, allocation, 0);
    if (result != CUDA_SUCCESS)
        goto free_address;
    result = driver->cuMemSetAccess(address, bytes, &access, 1);
    if (result != CUDA_SUCCESS)
        goto unmap;
    *base = (void *)(uintptr_t)address;
    return CUDA_SUCCESS;

unmap:
    driver->cuMemUnmap(address, bytes);
free_address:
    driver->cuMemAddressFree(address, bytes);
    return result;
}

/* On a stream of its own: the default one would wait for every other stream, and one of those may wait for us. */
static CUresult zero(const void *base, uint64_t bytes)
{
    const struct tck_cuda_driver *driver = tck_cuda_driver();
    CUstream stream;
    CUresult result = driver->cuStreamCreateWithPriority(&stream, CU_STREAM_NON_BLOCKING, 0);
    if (result != CUDA_SUCCESS)
        return result;
    result = driver->cuMemsetD8Async((CUdeviceptr)(uintptr_t)base, 0, bytes, stream);
    if (result == CUDA_SUCCESS)
        result = driver->cuStreamSynchronize(stream);
    driver->cuStreamDestroy(stream);
    return result;
}

static CUresult export_fd(CUmemGenericAllocationHandle allocation, int *fd)
{
    CUresult result = tck_cuda_driver()->cuMemExportToShareableHandle(fd, allocation, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0);
    if (result == CUDA_SUCCESS)
        fcntl(*fd, F_SETFD, FD_CLOEXEC);
    return result;
}

int tck_cuda_memory_create(struct tck_device *device, uint64_t bytes, struct tck_memory *memory)
{
    struct tck_memory made = {.fd = -1, .device = device};
    size_t granule;
    CUstreamCaptureMode mode;
    int code = tck_cuda_begin_setup(device, &mode);
    if (code)
        return code;
    code = whole_granules(device, &bytes, &granule);
    if (code)
        goto leave;
    made.bytes = bytes;

    CUmemAllocationProp kind = shareable(device, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR);
    CUmemGenericAllocationHandle allocation;
    CUresult result = tck_cuda_driver()->cuMemCreate(&allocation, bytes, &kind, 0);
    if (result == CUDA_SUCCESS) {
        result = map(device, allocation, bytes, granule, &made.base);
        if (result == CUDA_SUCCESS)
            result = zero(made.base, bytes);
        if (result == CUDA_SUCCESS)
            result = export_fd(allocation, &made.fd);
        /* Mapping and descriptor keep it. */
        tck_cuda_driver()->cuMemRelease(allocation);
    }
    code = tck_cuda_code(result);
    if (!code)
        *memory = made;
    else if (made.base)
        tck_cuda_memory_unmap(&made);
leave:
    tck_cuda_end_setup(device, mode);
    return code;
}

/*
 * The size that the other side announces is not trusted, and the driver does not tell the real one. It does not have to: it refuses to map
 * more than there is, and what is not mapped cannot be reached.
 */
int tck_cuda_memory_import(struct tck_device *device, int fd, uint64_t bytes, struct tck_memory *memory)
{
    void *base = NULL;
    size_t granule;
    if (fcntl(fd, F_GETFD) < 0)
        return TCW_EINVAL;
    CUstreamCaptureMode mode;
    int code = tck_cuda_begin_setup(device, &mode);
    if (code)
        return code;
    code = whole_granules(device, &bytes, &granule);
    if (code)
        goto leave;

    CUmemGenericAllocationHandle allocation;
    CUresult result =
        tck_cuda_driver()->cuMemImportFromShareableHandle(&allocation, (void *)(uintptr_t)fd, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR);
    if (result == CUDA_SUCCESS) {
        result = map(device, allocation, bytes, granule, &base);
        tck_cuda_driver()->cuMemRelease(allocation);
    }
    /* No GPU memory, or less than announced. */
    code = result == CUDA_ERROR_INVALID_VALUE || result == CUDA_ERROR_INVALID_HANDLE ? TCW_EINVAL : tck_cuda_code(result);
    if (!code)
        *memory = (struct tck_memory){.base = base, .bytes = bytes, .fd = fd, .device = device};
leave:
    tck_cuda_end_setup(device, mode);
    return code;
}

void tck_cuda_memory_unmap(struct tck_memory *memory)
{
    CUdeviceptr address = (CUdeviceptr)(uintptr_t)memory->base;
    CUstreamCaptureMode mode;
    if (tck_cuda_begin_setup(memory->device, &mode))
        return; /* the context is broken: the address range goes with the process */
    tck_cuda_driver()->cuMemUnmap(address, memory->bytes);
    tck_cuda_driver()->cuMemAddressFree(address, memory->bytes);
    tck_cuda_end_setup(memory->device, mode);
}

/* Attributes promise more than a machine may allow: fabric handles also need a channel of the fabric's memory service. So it is tried. */
int tck_cuda_memory_probe(struct tck_device *device, bool fabric, char *why, size_t why_bytes)
{
    const struct tck_cuda_driver *driver = tck_cuda_driver();
    CUmemAllocationProp kind = shareable(device, fabric ? CU_MEM_HANDLE_TYPE_FABRIC : CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR);
    CUmemGenericAllocationHandle allocation;
    CUmemFabricHandle fabric_handle;
    uint64_t bytes = 1;
    size_t granule;
    char text[160];
    int fd = -1;
    int code = whole_granules(device, &bytes, &granule);
    if (code)
        return code;
    CUresult result = driver->cuMemCreate(&allocation, bytes, &kind, 0);
    if (result == CUDA_SUCCESS) {
        result = fabric ? driver->cuMemExportToShareableHandle(&fabric_handle, allocation, CU_MEM_HANDLE_TYPE_FABRIC, 0)
                        : export_fd(allocation, &fd);
        if (fd >= 0)
            close(fd);
        driver->cuMemRelease(allocation);
    }
    if (result != CUDA_SUCCESS && why_bytes)
        snprintf(why, why_bytes, "%s", tck_cuda_text(result, text, sizeof(text)));
    return tck_cuda_code(result);
}

int tck_cuda_register_host(struct tck_device *device, void *base, uint64_t bytes, CUdeviceptr *address)
{
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    if (!base || !bytes || (uintptr_t)base % page || bytes % page)
        return TCW_EINVAL;
    CUstreamCaptureMode mode;
    int code = tck_cuda_begin_setup(device, &mode);
    if (code)
        return code;
    CUresult result = tck_cuda_driver()->cuMemHostRegister(base, bytes, CU_MEMHOSTREGISTER_DEVICEMAP | CU_MEMHOSTREGISTER_PORTABLE);
    if (result == CUDA_SUCCESS) {
        result = tck_cuda_driver()->cuMemHostGetDevicePointer(address, base, 0);
        if (result != CUDA_SUCCESS)
            tck_cuda_driver()->cuMemHostUnregister(base);
    }
    tck_cuda_end_setup(device, mode);
    return result == CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED ? TCW_EBUSY : tck_cuda_code(result);
}

void tck_cuda_unregister_host(struct tck_device *device, void *base)
{
    CUstreamCaptureMode mode;
    if (tck_cuda_begin_setup(device, &mode))
        return;
    tck_cuda_driver()->cuMemHostUnregister(base);
    tck_cuda_end_setup(device, mode);
}
