#include "library.h"

#include <tcw/types.h>

#include <dlfcn.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static atomic_bool warming;

void tcd_library_set_warming(bool now)
{
    atomic_store(&warming, now);
}

bool tcd_library_is_warming(void)
{
    return atomic_load(&warming);
}

#ifdef TRTCOLL_NCCL

#include <nccl.h>

enum { LEAST_VERSION = NCCL_VERSION(2, 28, 0) };

static struct {
#define TCD_NCCL_FUNCTION(name) __typeof__(&name) name;
#include "nccl_functions.def"
#undef TCD_NCCL_FUNCTION
} nccl;

static const struct {
    const char *name;
    void *function;
} functions[] = {
#define TCD_NCCL_FUNCTION(name) {#name, &nccl.name},
#include "nccl_functions.def"
#undef TCD_NCCL_FUNCTION
};

/* Two communicators on the same resources: see tcd_library_derive. */
struct tcd_library_comm {
    ncclComm_t connection;
    ncclComm_t operations; /* NULL: not yet */
    bool deriving;         /* the library is at it, and may write `operations` at any time */
};

static ncclComm_t own(struct tcd_library_comm *comm)
{
    return comm->operations;
}

/* The library's last words say more than its codes, but they may be old: they are asked for when there is an error only. */
static int judge(const char *what, ncclResult_t result, ncclComm_t comm, char *text)
{
    if (result == ncclSuccess || result == ncclInProgress)
        return 0;
    const char *more = nccl.ncclGetLastError(comm);
    snprintf(text, TCW_TEXT_BYTES, "%s: %s%s%.160s", what, nccl.ncclGetErrorString(result), more && *more ? ": " : "", more ? more : "");
    return TCW_EDEVICE;
}

static int load(void *library, char *why, size_t why_bytes)
{
    for (size_t i = 0; i < sizeof functions / sizeof functions[0]; ++i) {
        void *function = dlsym(library, functions[i].name);
        if (!function) {
            snprintf(why, why_bytes, "libnccl.so.2 has no %s: 2.28 or newer is needed", functions[i].name);
            return TCW_ENOTSUP;
        }
        memcpy(functions[i].function, &function, sizeof function);
    }
    return 0;
}

int tcd_library_open(uint32_t *version, char *why, size_t why_bytes)
{
    int found = 0;
    void *library = dlopen("libnccl.so.2", RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        const char *reason = dlerror();
        snprintf(why, why_bytes, "%s", reason ? reason : "libnccl.so.2 cannot be loaded");
        return TCW_ENOTSUP;
    }
    int rc = load(library, why, why_bytes);
    if (rc == 0 && (nccl.ncclGetVersion(&found) != ncclSuccess || found < LEAST_VERSION)) {
        snprintf(why, why_bytes, "NCCL %d.%d.%d is too old: 2.28 or newer is needed", found / 10000, found / 100 % 100, found % 100);
        rc = TCW_ENOTSUP;
    }
    if (rc < 0)
        dlclose(library);
    else
        *version = (uint32_t)found;
    return rc;
}

/* ---- communicators ---- */

_Static_assert(sizeof(ncclUniqueId) == TCD_EX_BLOB_BYTES, "a unique id is a message's blob");

int tcd_library_unique_id(unsigned char blob[TCD_EX_BLOB_BYTES], char *text)
{
    ncclUniqueId id;
    int rc = judge("a unique id", nccl.ncclGetUniqueId(&id), NULL, text);
    if (rc == 0)
        memcpy(blob, &id, sizeof id);
    return rc;
}

int tcd_library_warm_up(char *text)
{
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    ncclComm_t alone = NULL;
    ncclUniqueId id;
    int rc = judge("a unique id", nccl.ncclGetUniqueId(&id), NULL, text);
    if (rc == 0)
        rc = judge("a communicator of one rank", nccl.ncclCommInitRankConfig(&alone, 1, id, 0, &config), NULL, text);
    tcd_library_set_warming(false); /* ending it takes as long again */
    if (rc == 0)
        rc = judge("ncclCommDestroy", nccl.ncclCommDestroy(alone), NULL, text);
    return rc;
}

int tcd_library_begin(const unsigned char blob[TCD_EX_BLOB_BYTES], uint32_t rank, uint32_t nranks, struct tcd_library_comm **out,
                      char *text)
{
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    struct tcd_library_comm *comm = calloc(1, sizeof *comm);
    ncclUniqueId id;
    *out = NULL;
    if (!comm)
        return TCW_ENOMEM;
    memcpy(&id, blob, sizeof id);
    config.blocking = 0;
    config.splitShare = 1; /* of those that will be split off */
    int rc =
        judge("ncclCommInitRankConfig", nccl.ncclCommInitRankConfig(&comm->connection, (int)nranks, id, (int)rank, &config), NULL, text);
    if (rc < 0)
        tcd_library_abort(comm);
    else
        *out = comm;
    return rc;
}

int tcd_library_derive(struct tcd_library_comm *comm, uint32_t rank, char *text)
{
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    comm->deriving = true;
    return judge("ncclCommSplit", nccl.ncclCommSplit(comm->connection, 0, (int)rank, &comm->operations, &config), comm->connection, text);
}

int tcd_library_state(struct tcd_library_comm *comm, char *text)
{
    ncclComm_t asked = comm->operations && !comm->deriving ? comm->operations : comm->connection;
    ncclResult_t state = ncclSuccess;
    int rc = judge("ncclCommGetAsyncError", nccl.ncclCommGetAsyncError(asked, &state), asked, text);
    if (rc < 0)
        return rc;
    if (state == ncclInProgress)
        return TCW_EAGAIN;
    rc = judge("NCCL", state, asked, text);
    if (rc < 0 || !comm->deriving)
        return rc;
    comm->deriving = false;
    if (!comm->operations)
        snprintf(text, TCW_TEXT_BYTES, "NCCL has made no communicator");
    return comm->operations ? 0 : TCW_EDEVICE;
}

void tcd_library_abort(struct tcd_library_comm *comm)
{
    /* What is still being derived there is only when the end of the connection has ended that too. */
    bool early = comm->operations && !comm->deriving;
    if (early)
        nccl.ncclCommAbort(comm->operations);
    if (comm->connection)
        nccl.ncclCommAbort(comm->connection);
    if (!early && comm->operations)
        nccl.ncclCommAbort(comm->operations);
    free(comm);
}

int tcd_library_memory(uint64_t bytes, void **base, char *text)
{
    return judge("ncclMemAlloc", nccl.ncclMemAlloc(base, bytes), NULL, text);
}

void tcd_library_memory_free(void *base)
{
    nccl.ncclMemFree(base);
}

int tcd_library_window(struct tcd_library_comm *comm, void *base, uint64_t bytes, struct tcd_library_window **window, char *text)
{
    *window = NULL;
    return judge("ncclCommWindowRegister",
                 nccl.ncclCommWindowRegister(own(comm), base, bytes, (ncclWindow_t *)(void *)window, NCCL_WIN_COLL_SYMMETRIC), own(comm),
                 text);
}

/* ---- operations ---- */

static ncclDataType_t type_of(unsigned dtype)
{
    switch (dtype) {
    case TCW_FP32:
        return ncclFloat32;
    case TCW_FP16:
        return ncclFloat16;
    case TCW_BF16:
        return ncclBfloat16;
    case TCW_FP64:
        return ncclFloat64;
    case TCW_INT8:
        return ncclInt8;
    case TCW_INT32:
        return ncclInt32;
    case TCW_UINT32:
        return ncclUint32;
    case TCW_INT64:
        return ncclInt64;
    case TCW_UINT64:
        return ncclUint64;
    default: /* bytes; checked plans reduce none of the others */
        return ncclUint8;
    }
}

static ncclRedOp_t reduction_of(unsigned redop)
{
    switch (redop) {
    case TCW_MIN:
        return ncclMin;
    case TCW_MAX:
        return ncclMax;
    case TCW_PROD:
        return ncclProd;
    case TCW_AVG:
        return ncclAvg;
    default:
        return ncclSum;
    }
}

int tcd_library_group_begin(char *text)
{
    return judge("ncclGroupStart", nccl.ncclGroupStart(), NULL, text);
}

int tcd_library_group_end(char *text)
{
    return judge("ncclGroupEnd", nccl.ncclGroupEnd(), NULL, text);
}

int tcd_library_all_reduce(struct tcd_library_comm *comm, const void *in, void *out, uint64_t count, unsigned dtype, unsigned redop,
                           CUstream stream, char *text)
{
    return judge("ncclAllReduce", nccl.ncclAllReduce(in, out, count, type_of(dtype), reduction_of(redop), own(comm), stream), own(comm),
                 text);
}

int tcd_library_reduce(struct tcd_library_comm *comm, const void *in, void *out, uint64_t count, unsigned dtype, unsigned redop,
                       uint32_t root, CUstream stream, char *text)
{
    return judge("ncclReduce", nccl.ncclReduce(in, out, count, type_of(dtype), reduction_of(redop), (int)root, own(comm), stream),
                 own(comm), text);
}

int tcd_library_reduce_scatter(struct tcd_library_comm *comm, const void *in, void *out, uint64_t count, unsigned dtype, unsigned redop,
                               CUstream stream, char *text)
{
    return judge("ncclReduceScatter", nccl.ncclReduceScatter(in, out, count, type_of(dtype), reduction_of(redop), own(comm), stream),
                 own(comm), text);
}

int tcd_library_all_gather(struct tcd_library_comm *comm, const void *in, void *out, uint64_t bytes, CUstream stream, char *text)
{
    return judge("ncclAllGather", nccl.ncclAllGather(in, out, bytes, ncclUint8, own(comm), stream), own(comm), text);
}

int tcd_library_broadcast(struct tcd_library_comm *comm, const void *in, void *out, uint64_t bytes, uint32_t root, CUstream stream,
                          char *text)
{
    return judge("ncclBroadcast", nccl.ncclBroadcast(in, out, bytes, ncclUint8, (int)root, own(comm), stream), own(comm), text);
}

int tcd_library_send(struct tcd_library_comm *comm, const void *in, uint64_t bytes, uint32_t peer, CUstream stream, char *text)
{
    return judge("ncclSend", nccl.ncclSend(in, bytes, ncclUint8, (int)peer, own(comm), stream), own(comm), text);
}

int tcd_library_receive(struct tcd_library_comm *comm, void *out, uint64_t bytes, uint32_t peer, CUstream stream, char *text)
{
    return judge("ncclRecv", nccl.ncclRecv(out, bytes, ncclUint8, (int)peer, own(comm), stream), own(comm), text);
}

#else

/* Built without nccl.h: opening says so, there is never a communicator, and nothing else is called. */
#pragma GCC diagnostic ignored "-Wunused-parameter"

static int absent(char *text, size_t bytes)
{
    snprintf(text, bytes, "this trtcolld was built without NCCL");
    return TCW_ENOTSUP;
}

int tcd_library_open(uint32_t *version, char *why, size_t why_bytes)
{
    return absent(why, why_bytes);
}

int tcd_library_unique_id(unsigned char blob[TCD_EX_BLOB_BYTES], char *text)
{
    return absent(text, TCW_TEXT_BYTES);
}

int tcd_library_begin(const unsigned char blob[TCD_EX_BLOB_BYTES], uint32_t rank, uint32_t nranks, struct tcd_library_comm **comm,
                      char *text)
{
    return absent(text, TCW_TEXT_BYTES);
}

int tcd_library_derive(struct tcd_library_comm *comm, uint32_t rank, char *text)
{
    return absent(text, TCW_TEXT_BYTES);
}

int tcd_library_warm_up(char *text)
{
    return absent(text, TCW_TEXT_BYTES);
}

int tcd_library_state(struct tcd_library_comm *comm, char *text)
{
    return absent(text, TCW_TEXT_BYTES);
}

void tcd_library_abort(struct tcd_library_comm *comm) {}

int tcd_library_memory(uint64_t bytes, void **base, char *text)
{
    return absent(text, TCW_TEXT_BYTES);
}

void tcd_library_memory_free(void *base) {}

int tcd_library_window(struct tcd_library_comm *comm, void *base, uint64_t bytes, struct tcd_library_window **window, char *text)
{
    return absent(text, TCW_TEXT_BYTES);
}

int tcd_library_group_begin(char *text)
{
    return absent(text, TCW_TEXT_BYTES);
}

int tcd_library_group_end(char *text)
{
    return absent(text, TCW_TEXT_BYTES);
}

int tcd_library_all_reduce(struct tcd_library_comm *comm, const void *in, void *out, uint64_t count, unsigned dtype, unsigned redop,
                           CUstream stream, char *text)
{
    return absent(text, TCW_TEXT_BYTES);
}

int tcd_library_reduce(struct tcd_library_comm *comm, const void *in, void *out, uint64_t count, unsigned dtype, unsigned redop,
                       uint32_t root, CUstream stream, char *text)
{
    return absent(text, TCW_TEXT_BYTES);
}

int tcd_library_reduce_scatter(struct tcd_library_comm *comm, const void *in, void *out, uint64_t count, unsigned dtype, unsigned redop,
                               CUstream stream, char *text)
{
    return absent(text, TCW_TEXT_BYTES);
}

int tcd_library_all_gather(struct tcd_library_comm *comm, const void *in, void *out, uint64_t bytes, CUstream stream, char *text)
{
    return absent(text, TCW_TEXT_BYTES);
}

int tcd_library_broadcast(struct tcd_library_comm *comm, const void *in, void *out, uint64_t bytes, uint32_t root, CUstream stream,
                          char *text)
{
    return absent(text, TCW_TEXT_BYTES);
}

int tcd_library_send(struct tcd_library_comm *comm, const void *in, uint64_t bytes, uint32_t peer, CUstream stream, char *text)
{
    return absent(text, TCW_TEXT_BYTES);
}

int tcd_library_receive(struct tcd_library_comm *comm, void *out, uint64_t bytes, uint32_t peer, CUstream stream, char *text)
{
    return absent(text, TCW_TEXT_BYTES);
}

#endif
