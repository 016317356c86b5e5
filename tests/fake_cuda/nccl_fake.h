/*
 * The fake NCCL: communicators between processes, through a memfd that the maker of the unique id holds until all ranks have joined. Data
 * goes through one byte pipe per ordered pair of ranks; every operation is a list of sends and receives over these pipes, run in stream
 * order. It needs the fake driver, of which it is a client like any other.
 *
 * Owner: the process. A communicator is counted: the application, its joining thread, operations in streams and graphs.
 */
#ifndef TESTS_FAKE_CUDA_NCCL_FAKE_H
#define TESTS_FAKE_CUDA_NCCL_FAKE_H

#pragma GCC visibility push(default)
#include <nccl.h>
/* Declared without a prototype there. */
ncclResult_t ncclGroupStart(void); /* NOLINT(readability-redundant-declaration) */
ncclResult_t ncclGroupEnd(void);   /* NOLINT(readability-redundant-declaration) */
#pragma GCC visibility pop

#include <cuda.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { NCCL_MAX_RANKS = 16, NCCL_PIPE_BYTES = 64 << 10, NCCL_CHUNK_BYTES = 256 << 10 };

struct nccl_pipe {
    _Alignas(128) _Atomic uint64_t written;
    _Alignas(128) _Atomic uint64_t read;
    _Alignas(128) unsigned char data[NCCL_PIPE_BYTES];
};

struct nccl_world {
    uint64_t secret;         /* in the unique id, too */
    _Atomic uint32_t nranks; /* 0: nobody has come yet */
    _Atomic uint32_t came;   /* bit per rank */
    CUuuid devices[NCCL_MAX_RANKS];
    _Atomic uint32_t ready;                                 /* ranks whose entry in `devices` is there */
    _Atomic uint32_t gone;                                  /* bit per rank that has been destroyed or aborted, for messages */
    struct nccl_pipe pipes[NCCL_MAX_RANKS][NCCL_MAX_RANKS]; /* [sender][receiver] */
};

struct ncclComm {
    unsigned references;
    struct nccl_world *world; /* NULL: not mapped yet */
    ncclUniqueId id;
    int rank, nranks;
    bool blocking;
    CUcontext context;
    CUdevice device;
    struct ncclWindow_vidmem *windows; /* ended with it */
    _Atomic int result;                /* ncclResult_t; ncclInProgress while joining or connecting */
    _Atomic bool aborted, connected, finalized;
    _Atomic unsigned pending; /* operations in streams, those in graphs apart */
    pthread_mutex_t running;  /* one operation at a time */
};

/* Notes what went wrong, for ncclGetLastError, and passes it on. */
ncclResult_t nccl_fail(ncclResult_t result, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Every function begins with it: an injected error or ncclSuccess. */
ncclResult_t nccl_enter(const char *function);
void nccl_nap(unsigned *naps);

/* The shared memory of a unique id, mapped; NULL: its maker is gone. */
struct nccl_world *nccl_world_open(const ncclUniqueId *id);
void nccl_world_close(struct nccl_world *world);
/* Gives up what this process holds for ids whose ranks have all come. */
void nccl_world_sweep(void);

void nccl_comm_hold(struct ncclComm *comm);
void nccl_comm_drop(struct ncclComm *comm);
void nccl_windows_free(struct ncclComm *comm);
/* ncclInvalidArgument unless the communicator can be used now. */
ncclResult_t nccl_comm_check(const struct ncclComm *comm);
/* A communicator's start, on any thread. Ends with comm->result. */
void nccl_comm_join(struct ncclComm *comm);

/* One direction of an exchange with one rank. */
struct nccl_transfer {
    int peer;
    bool send;
    unsigned char *data;
    uint64_t bytes;
    uint64_t done;
    bool announced; /* the length is through */
};
/* Runs all of them at the same time; those of one pair and direction one after the other. False: aborted, or the ranks do not agree. */
bool nccl_exchange(struct ncclComm *comm, struct nccl_transfer *transfers, size_t count);

size_t nccl_type_bytes(ncclDataType_t type); /* 0: unknown */
/* out[i] = src[0][i] op src[1][i] op ...; out may be one of them. */
void nccl_reduce(void *out, const void *const *src, unsigned sources, size_t count, ncclDataType_t type, ncclRedOp_t op);

/* One call of the application, as groups collect it. */
typedef enum nccl_kind {
    NCCL_ALL_REDUCE,
    NCCL_REDUCE,
    NCCL_BROADCAST,
    NCCL_ALL_GATHER,
    NCCL_REDUCE_SCATTER,
    NCCL_SEND,
    NCCL_RECV
} nccl_kind;

struct nccl_call {
    nccl_kind kind;
    struct ncclComm *comm;
    CUstream stream;
    const void *send;
    void *receive;
    size_t count;
    ncclDataType_t type;
    ncclRedOp_t op;
    int peer; /* or root */
};
/* Runs calls of one communicator: collectives in their order, then all sends and receives together. A CUresult, for the stream. */
int nccl_calls_run(struct ncclComm *comm, const struct nccl_call *calls, size_t count);

/* Collects a call, or runs it at once outside of groups. */
ncclResult_t nccl_group_add(const struct nccl_call *call);
/* Inside of a group: ncclGroupEnd waits for the communicator. Takes a reference. */
bool nccl_group_add_init(struct ncclComm *comm);

#endif
