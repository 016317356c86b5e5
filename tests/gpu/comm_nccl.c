#include "comm_nccl.h"

#include <nccl.h>

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

struct comm_nccl {
    struct comm_rank *rank;
    void *library;
    ncclComm_t comm;
    __typeof__(&ncclGetUniqueId) get_unique_id;
    __typeof__(&ncclCommInitRank) comm_init_rank;
    __typeof__(&ncclCommDestroy) comm_destroy;
    __typeof__(&ncclAllReduce) all_reduce;
    __typeof__(&ncclGetErrorString) error_string;
    __typeof__(&ncclGetVersion) get_version;
};

static void check(struct comm_nccl *nccl, ncclResult_t result, const char *what)
{
    if (result != ncclSuccess)
        comm_board_fail(nccl->rank->board, nccl->rank->rank, "%s: %s", what, nccl->error_string(result));
}

static void find(struct comm_nccl *nccl, const char *name, void *function)
{
    void *symbol = dlsym(nccl->library, name);
    if (!symbol)
        comm_board_fail(nccl->rank->board, nccl->rank->rank, "libnccl.so.2 has no %s", name);
    memcpy(function, &symbol, sizeof(symbol));
}

struct comm_nccl *comm_nccl_open(struct comm_rank *rank)
{
    struct comm_nccl *nccl = calloc(1, sizeof(*nccl));
    ncclUniqueId id;
    _Static_assert(sizeof(id) == sizeof(rank->board->nccl_id), "unique id");
    setenv("NCCL_NVLS_ENABLE", "0", 1); /* multicast stays off */
    nccl->rank = rank;
    nccl->library = dlopen("libnccl.so.2", RTLD_NOW | RTLD_LOCAL);
    if (!nccl->library) {
        free(nccl);
        return NULL;
    }
    find(nccl, "ncclGetUniqueId", &nccl->get_unique_id);
    find(nccl, "ncclCommInitRank", &nccl->comm_init_rank);
    find(nccl, "ncclCommDestroy", &nccl->comm_destroy);
    find(nccl, "ncclAllReduce", &nccl->all_reduce);
    find(nccl, "ncclGetErrorString", &nccl->error_string);
    find(nccl, "ncclGetVersion", &nccl->get_version);
    if (!rank->rank) {
        check(nccl, nccl->get_unique_id(&id), "ncclGetUniqueId");
        memcpy(rank->board->nccl_id, &id, sizeof(id));
    }
    comm_board_barrier(rank->board);
    memcpy(&id, rank->board->nccl_id, sizeof(id));
    check(nccl, nccl->comm_init_rank(&nccl->comm, (int)rank->nranks, id, (int)rank->rank), "ncclCommInitRank");
    return nccl;
}

void comm_nccl_close(struct comm_nccl *nccl)
{
    check(nccl, nccl->comm_destroy(nccl->comm), "ncclCommDestroy");
    free(nccl); /* the library stays: it has threads */
}

int comm_nccl_version(const struct comm_nccl *nccl)
{
    int version = 0;
    (void)nccl->get_version(&version);
    return version;
}

void comm_nccl_sum(struct comm_nccl *nccl, CUdeviceptr in, CUdeviceptr out, uint64_t count)
{
    check(nccl, nccl->all_reduce((const void *)in, (void *)out, count, ncclBfloat16, ncclSum, nccl->comm, (cudaStream_t)nccl->rank->stream),
          "ncclAllReduce");
}
