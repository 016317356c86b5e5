/* Handing the application's own GPU memory over to the executor, for runs of the served lane without copies. */
#include "cuda/visit.h"

#include "error.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

/* What goes to the daemon. */
struct parcel {
    struct tcw_mem_register request;
    int fds[TCW_MEM_MAX_FDS];
    unsigned count;
};

static void parcel_close(struct parcel *parcel)
{
    while (parcel->count)
        close(parcel->fds[--parcel->count]);
}

static CUresult export_one(const struct tck_cuda_driver *driver, CUdeviceptr address, int *fd)
{
    CUmemGenericAllocationHandle handle = 0;
    CUresult result = driver->cuMemRetainAllocationHandle(&handle, (void *)(uintptr_t)address);

    if (result != CUDA_SUCCESS)
        return result;
    result = driver->cuMemExportToShareableHandle(fd, handle, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0);
    driver->cuMemRelease(handle);
    if (result == CUDA_SUCCESS)
        fcntl(*fd, F_SETFD, FD_CLOEXEC);
    return result;
}

/* What the executor's kernels write must be in its own GPU: others are told behind a fence for that one alone. */
static int check_gpu(struct tcc_gpu *gpu, CUdeviceptr address)
{
    int ordinal = -1;

    if (gpu->driver->cuPointerGetAttribute(&ordinal, CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL, address) == CUDA_SUCCESS &&
        ordinal != tck_cuda_ordinal(gpu->device))
        return tcc_fail(TRTCOLL_EINVAL, "%p lies on GPU %d of this process, the context's is %d", (void *)(uintptr_t)address, ordinal,
                        tck_cuda_ordinal(gpu->device));
    return 0;
}

/* Several allocations may lie side by side: growing segments of a framework's allocator do. */
static int pack_vmm(struct tcc_gpu *gpu, CUdeviceptr start, uint64_t bytes, struct parcel *parcel)
{
    CUdeviceptr next = start, base = 0;
    size_t size = 0;
    CUresult result;
    int code;

    while (next < start + bytes) {
        code = check_gpu(gpu, next);
        if (code)
            return code;
        if (parcel->count == TCW_MEM_MAX_FDS)
            return tcc_fail(TRTCOLL_ENOTSUP, "the range is made of more than %d allocations: register smaller parts of it",
                            TCW_MEM_MAX_FDS);
        result = gpu->driver->cuMemGetAddressRange(&base, &size, next);
        if (result == CUDA_SUCCESS)
            result = export_one(gpu->driver, next, &parcel->fds[parcel->count]);
        if (result != CUDA_SUCCESS)
            return tcc_driver_fail(result, "memory made with cuMemCreate can be registered if it was made to be exported as a descriptor");
        if (!parcel->count)
            parcel->request.offset = start - base;
        parcel->request.piece_bytes[parcel->count++] = size;
        next = base + size;
    }
    parcel->request.kind = TCW_MEM_VMM;
    return 0;
}

static int pack_ipc(struct tcc_gpu *gpu, CUdeviceptr start, uint64_t bytes, struct parcel *parcel)
{
    CUdeviceptr base = 0;
    CUipcMemHandle handle;
    size_t size = 0;
    CUresult result = gpu->driver->cuMemGetAddressRange(&base, &size, start);

    if (result != CUDA_SUCCESS)
        return tcc_driver_fail(result, "the pointer's allocation");
    if (bytes > size - (start - base))
        return tcc_fail(TRTCOLL_EINVAL, "%llu bytes from %p reach beyond their allocation, which ends after %llu",
                        (unsigned long long)bytes, (void *)(uintptr_t)start, (unsigned long long)(size - (start - base)));
    result = gpu->driver->cuIpcGetMemHandle(&handle, start);
    if (result != CUDA_SUCCESS) {
        tcc_driver_fail(result,
                        "this memory has no handle for other processes (memory of cudaMallocAsync pools and managed memory do not)");
        return tcc_error()->code = TRTCOLL_ENOTSUP;
    }
    _Static_assert(sizeof(handle) == TCW_IPC_HANDLE_BYTES, "copied whole");
    memcpy(parcel->request.ipc, &handle, sizeof(handle));
    parcel->request.offset = start - base;
    parcel->request.kind = TCW_MEM_IPC;
    return 0;
}

/* Memory of this GPU; made by cuMemCreate or not. */
static int look(struct tcc_gpu *gpu, CUdeviceptr start, bool *vmm)
{
    CUmemGenericAllocationHandle handle = 0;
    CUmemorytype type = 0;
    int code;

    if (gpu->driver->cuPointerGetAttribute(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, start) != CUDA_SUCCESS || type != CU_MEMORYTYPE_DEVICE)
        return tcc_fail(TRTCOLL_EINVAL, "%p is not memory of a GPU", (void *)(uintptr_t)start);
    code = check_gpu(gpu, start);
    if (code)
        return code;
    *vmm = gpu->driver->cuMemRetainAllocationHandle(&handle, (void *)(uintptr_t)start) == CUDA_SUCCESS;
    if (*vmm)
        gpu->driver->cuMemRelease(handle);
    return 0;
}

static int pack(struct tcc_gpu *gpu, CUdeviceptr start, uint64_t bytes, struct parcel *parcel)
{
    struct tcc_visit visit;
    bool vmm = false;
    int code = tcc_visit_begin(&visit, gpu);

    if (code)
        return code;
    code = look(gpu, start, &vmm);
    if (!code)
        code = vmm ? pack_vmm(gpu, start, bytes, parcel) : pack_ipc(gpu, start, bytes, parcel);
    tcc_visit_end(&visit);
    return code;
}

int tcc_share_register(struct trtcoll_ctx *ctx, const void *pointer, uint64_t bytes, uint64_t *handle)
{
    struct tcc_gpu *gpu = atomic_load_explicit(&ctx->gpu, memory_order_acquire);
    struct parcel parcel = {.request.bytes = bytes};
    struct tcw_packet reply;
    int code = pack(gpu, (CUdeviceptr)(uintptr_t)pointer, bytes, &parcel);

    if (!code)
        code = tcc_rpc_call(&ctx->rpc, TCW_MSG_MEM_REGISTER, &parcel.request, parcel.fds, parcel.count, TCW_MSG_MEM_READY,
                            tcc_ctx_deadline(ctx), &reply);
    parcel_close(&parcel);
    if (code)
        return code;
    tcw_packet_close_fds(&reply);
    *handle = reply.payload.MEM_READY.handle;
    return 0;
}

int tcc_share_check(struct tcc_gpu *gpu, const void *pointer)
{
    CUmemorytype type = 0;

    if (gpu->driver->cuPointerGetAttribute(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, (CUdeviceptr)(uintptr_t)pointer) == CUDA_SUCCESS)
        return 0;
    return tcc_fail(TRTCOLL_EINVAL, "%p is memory that no GPU knows: pass memory of the GPU, or page-locked memory", pointer);
}
