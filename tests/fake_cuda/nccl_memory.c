/* Memory and windows: local bookkeeping, the fake has no use for them. */
#include "nccl_fake.h"

#include <stdlib.h>

enum { GRANULE = 2 << 20 };

struct ncclWindow_vidmem {
    struct ncclWindow_vidmem *next;
    struct ncclComm *comm;
};

ncclResult_t ncclMemAlloc(void **pointer, size_t bytes)
{
    CUmemAllocationProp prop = {.type = CU_MEM_ALLOCATION_TYPE_PINNED,
                                .requestedHandleTypes = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR,
                                .location = {.type = CU_MEM_LOCATION_TYPE_DEVICE}};
    CUmemAccessDesc access = {.flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE};
    size_t whole = (bytes + GRANULE - 1) / GRANULE * GRANULE;
    CUmemGenericAllocationHandle handle;
    CUdeviceptr address;
    CUdevice device;
    int count = 0;
    CUresult cuda;
    ncclResult_t result = nccl_enter("ncclMemAlloc");
    if (result)
        return result;
    if (cuCtxGetDevice(&device) || cuDeviceGetCount(&count))
        return nccl_fail(ncclUnhandledCudaError, "no device is current");
    prop.location.id = device;
    cuda = cuMemCreate(&handle, whole, &prop, 0);
    if (cuda)
        return nccl_fail(ncclUnhandledCudaError, "Cuda failure %d", (int)cuda);
    cuda = cuMemAddressReserve(&address, whole, GRANULE, 0, 0);
    if (!cuda)
        cuda = cuMemMap(address, whole, 0, handle, 0);
    access.location = prop.location;
    for (int i = 0; i < count && !cuda; i++) {
        int can = i == device;
        if (!can && (cuDeviceCanAccessPeer(&can, i, device) || !can))
            continue;
        access.location.id = i;
        cuda = cuMemSetAccess(address, whole, &access, 1);
    }
    (void)cuMemRelease(handle);
    if (cuda)
        return nccl_fail(ncclUnhandledCudaError, "Cuda failure %d", (int)cuda);
    *pointer = (void *)(uintptr_t)address;
    return ncclSuccess;
}

ncclResult_t ncclMemFree(void *pointer)
{
    CUdeviceptr base;
    size_t bytes;
    ncclResult_t result = nccl_enter("ncclMemFree");
    if (result || !pointer)
        return result;
    if (cuMemGetAddressRange(&base, &bytes, (CUdeviceptr)pointer) || base != (CUdeviceptr)pointer || cuMemUnmap(base, bytes) ||
        cuMemAddressFree(base, bytes))
        return nccl_fail(ncclInvalidArgument, "%p is not memory of ncclMemAlloc", pointer);
    return ncclSuccess;
}

ncclResult_t ncclCommWindowRegister(ncclComm_t comm, void *buffer, size_t bytes, ncclWindow_t *window, int flags)
{
    unsigned long long types = 0;
    ncclResult_t result = nccl_enter("ncclCommWindowRegister");
    if (!result)
        result = nccl_comm_check(comm);
    if (result)
        return result;
    if (!window || !bytes || (uintptr_t)buffer % NCCL_WIN_REQUIRED_ALIGNMENT || flags & ~NCCL_WIN_COLL_SYMMETRIC)
        return nccl_fail(ncclInvalidArgument, "window at %p, flags %d", buffer, flags);
    *window = NULL; /* what the real one answers for memory that it cannot share */
    if (cuPointerGetAttribute(&types, CU_POINTER_ATTRIBUTE_ALLOWED_HANDLE_TYPES, (CUdeviceptr)buffer))
        return nccl_fail(ncclUnhandledCudaError, "%p is not memory of a device", buffer);
    if (!(types & CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR))
        return ncclSuccess;
    *window = calloc(1, sizeof(**window));
    if (!*window)
        abort();
    (*window)->comm = comm;
    (*window)->next = comm->windows;
    comm->windows = *window;
    return ncclSuccess;
}

ncclResult_t ncclCommWindowDeregister(ncclComm_t comm, ncclWindow_t window)
{
    ncclResult_t result = nccl_enter("ncclCommWindowDeregister");
    if (result || !window)
        return result;
    if (window->comm != comm)
        return nccl_fail(ncclInvalidArgument, "the window is another communicator's");
    struct ncclWindow_vidmem **at = &comm->windows;
    while (*at && *at != window)
        at = &(*at)->next;
    if (*at)
        *at = window->next;
    free(window);
    return ncclSuccess;
}

void nccl_windows_free(struct ncclComm *comm)
{
    while (comm->windows) {
        struct ncclWindow_vidmem *window = comm->windows;
        comm->windows = window->next;
        free(window);
    }
}
