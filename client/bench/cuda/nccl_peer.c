#include "nccl_peer.h"

#include <stdlib.h>
#include <string.h>

#ifdef TRTCOLL_NCCL

#include <dlfcn.h>
#include <nccl.h>

struct nccl {
    struct gpu *gpu;
    ncclComm_t comm;
    __typeof__(&ncclGetUniqueId) get_unique_id;
    __typeof__(&ncclCommInitRank) comm_init_rank;
    __typeof__(&ncclCommDestroy) comm_destroy;
    __typeof__(&ncclAllReduce) all_reduce;
    __typeof__(&ncclGetErrorString) error_string;
};

_Static_assert(sizeof(ncclUniqueId) == NCCL_ID_BYTES, "what ranks meet by");

static void *library(void)
{
    static void *handle;
    if (!handle) {
        setenv("NCCL_NVLS_ENABLE", "0", 0); /* like the daemon: NVLink multicast only where somebody wants it */
        handle = dlopen("libnccl.so.2", RTLD_NOW | RTLD_LOCAL);
    }
    return handle;
}

static bool find(const char *name, void *function)
{
    void *symbol = library() ? dlsym(library(), name) : NULL;
    memcpy(function, &symbol, sizeof(symbol));
    return symbol != NULL;
}

static int check(struct nccl *nccl, ncclResult_t result, const char *what)
{
    return result == ncclSuccess ? 0 : gpu_fail(nccl->gpu, TRTCOLL_EDEVICE, "%s: %s", what, nccl->error_string(result));
}

uint32_t nccl_version(void)
{
    __typeof__(&ncclGetVersion) get_version;
    int version = 0;
    return find("ncclGetVersion", &get_version) && get_version(&version) == ncclSuccess ? (uint32_t)version : 0;
}

static bool find_all(struct nccl *nccl)
{
    return find("ncclGetUniqueId", &nccl->get_unique_id) && find("ncclCommInitRank", &nccl->comm_init_rank) &&
           find("ncclCommDestroy", &nccl->comm_destroy) && find("ncclAllReduce", &nccl->all_reduce) &&
           find("ncclGetErrorString", &nccl->error_string);
}

static int meet(struct nccl *nccl, void *meeting)
{
    struct fleet_rank *rank = nccl->gpu->rank;
    ncclUniqueId id;
    int code = rank->rank == 0 ? check(nccl, nccl->get_unique_id(&id), "ncclGetUniqueId") : 0;
    if (code == 0 && rank->rank == 0)
        memcpy(meeting, &id, sizeof(id));
    if (code == 0)
        code = gpu_barrier(nccl->gpu);
    if (code != 0)
        return code;
    memcpy(&id, meeting, sizeof(id));
    return check(nccl, nccl->comm_init_rank(&nccl->comm, (int)rank->nranks, id, (int)rank->rank), "ncclCommInitRank");
}

struct nccl *nccl_open(struct gpu *gpu, void *meeting, double *ms)
{
    struct nccl *nccl = calloc(1, sizeof(*nccl));
    if (!nccl)
        return NULL;
    nccl->gpu = gpu;
    if (!find_all(nccl)) {
        gpu_fail(gpu, TRTCOLL_ENOTSUP, "libnccl.so.2 was not found, or is too old");
        free(nccl);
        return NULL;
    }
    int code = gpu_barrier(gpu);
    uint64_t start = loop_now_ns();
    if (code == 0)
        code = meet(nccl, meeting);
    if (code != 0) {
        free(nccl);
        return NULL;
    }
    *ms = (double)(loop_now_ns() - start) / 1e6;
    return nccl;
}

void nccl_close(struct nccl *nccl)
{
    if (nccl)
        nccl->comm_destroy(nccl->comm);
    free(nccl);
}

int nccl_sum(struct nccl *nccl, CUdeviceptr in, CUdeviceptr out, uint64_t count)
{
    return check(nccl,
                 nccl->all_reduce((const void *)in, (void *)out, count, ncclBfloat16, ncclSum, nccl->comm, (cudaStream_t)nccl->gpu->stream),
                 "ncclAllReduce");
}

#else

uint32_t nccl_version(void)
{
    return 0;
}

struct nccl *nccl_open(struct gpu *gpu, void *meeting, double *ms)
{
    (void)meeting, (void)ms;
    gpu_fail(gpu, TRTCOLL_ENOTSUP, "this trtcoll-bench was built without NCCL");
    return NULL;
}

void nccl_close(struct nccl *nccl)
{
    (void)nccl;
}

int nccl_sum(struct nccl *nccl, CUdeviceptr in, CUdeviceptr out, uint64_t count)
{
    (void)nccl, (void)in, (void)out, (void)count;
    return TRTCOLL_ENOTSUP;
}

#endif
