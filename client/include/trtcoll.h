/*
 * trtcoll.h: the public interface of libtrtcoll-client.
 *
 * trtcoll runs the collectives of LLM inference (all-reduce with fused residual + RMSNorm + quantisation, all-gather, reduce-scatter,
 * all-to-all, broadcast, barrier) for processes that attach to the node's daemon, trtcolld.
 *
 *   context   one attached process (trtcoll_ctx_open)
 *   group     a named, ordered set of ranks (trtcoll_group_join, trtcoll_group_create)
 *   plan      one collective, prepared by all ranks together (trtcoll_plan_create_*), run many times (trtcoll_plan_run)
 *   event     the completion of one run (trtcoll_event_wait, trtcoll_event_query)
 *
 * Conventions, unless a function says otherwise:
 *   Errors    functions return 0 or a negative TRTCOLL_E* code, never print, exit, abort or raise a signal. Output parameters are set
 *             on success only. trtcoll_last_error tells the calling thread the details of its latest failure.
 *   Threads   every function may be called from any thread. Collective calls of one group (creating plans, running them) must come in the
 *             same order on every rank: if several threads use one group, the caller orders them.
 *   Fork      a context belongs to the process that opened it: in a forked child every call on it returns TRTCOLL_EFORK.
 *   GPUs      a group's devices are all GPUs or all host devices. The GPU is opened when the first group on it becomes ready, in its
 *             primary context, which the CUDA runtime of the application shares; libcuda is loaded then and not before. A context works
 *             on one GPU. Pointers are then device pointers and runs are enqueued on streams; which stream a run is on may differ from
 *             run to run. What streams may still use stays mapped until they have passed it, also when its group or context is left.
 *   Structs   begin with `size`; set it with the initializer macro or to sizeof. Older, smaller structs are accepted, missing fields take
 *             their defaults (all zero). Larger ones are accepted if the unknown part is zero.
 *   Sizes     tensors are dense and row-major; counts are elements, `bytes` are bytes, times are milliseconds in calls and nanoseconds
 *             in results. Pointers are aligned to their element size; buffers do not overlap unless said.
 *   Waits     no call waits longer than its deadline, or the group's when it takes none.
 */
#ifndef TRTCOLL_H
#define TRTCOLL_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define TRTCOLL_API __attribute__((visibility("default")))
#else
#define TRTCOLL_API
#endif

#define TRTCOLL_VERSION_MAJOR 0
#define TRTCOLL_VERSION_MINOR 1
#define TRTCOLL_VERSION_PATCH 0

/* CUstream and CUevent of the CUDA driver API, without needing its header. NULL on host groups. */
struct CUstream_st;
struct CUevent_st;

struct trtcoll_ctx;
struct trtcoll_group;
struct trtcoll_plan;
struct trtcoll_event;

/* Stable codes. trtcoll_error_name and trtcoll_error_text put them into words. */
typedef enum trtcoll_error_code {
    TRTCOLL_OK = 0,
    TRTCOLL_EINVAL = -1,    /* invalid argument */
    TRTCOLL_ENOMEM = -2,    /* out of memory */
    TRTCOLL_EAGAIN = -3,    /* nothing was enqueued, retrying later is safe */
    TRTCOLL_ETIMEOUT = -4,  /* the deadline passed; last_error names the rank that did not arrive */
    TRTCOLL_ECONN = -5,     /* the daemon is gone or not reachable */
    TRTCOLL_EPEERDEAD = -6, /* a member of the group died; last_error has rank, pid and signal */
    TRTCOLL_EMISMATCH = -7, /* ranks disagree; last_error has rank, field and both values */
    TRTCOLL_EEXECUTOR = -8, /* an executor failed; the group can be re-formed */
    TRTCOLL_ENOSYS = -9,    /* operation unknown to this daemon */
    TRTCOLL_ENOTSUP = -10,  /* known, but not for these arguments or on this device; last_error says what is supported */
    TRTCOLL_EPERM = -11,    /* not permitted */
    TRTCOLL_EQUOTA = -12,   /* a quota is exhausted; last_error says which and how much is allowed */
    TRTCOLL_EEXIST = -13,   /* already exists */
    TRTCOLL_ENOENT = -14,   /* no such object */
    TRTCOLL_EBUSY = -15,    /* in use */
    TRTCOLL_EFORK = -16,    /* the context belongs to the parent process */
    TRTCOLL_EPROTO = -17,   /* protocol violation */
    TRTCOLL_EABI = -18,     /* no common ABI version */
    TRTCOLL_EABORTED = -19, /* aborted by a member or an operator */
    TRTCOLL_EDRAIN = -20,   /* the daemon is draining */
    TRTCOLL_EDEVICE = -21,  /* device fault */
    TRTCOLL_ENODE = -22,    /* a node of the group is lost */
    TRTCOLL_ECAPTURE = -23, /* not allowed during stream capture */
    TRTCOLL_EIO = -24,      /* a system call failed */
    TRTCOLL_EINTERNAL = -25 /* a defect of trtcoll */
} trtcoll_error_code;

typedef enum trtcoll_dtype {
    TRTCOLL_FP32 = 0,
    TRTCOLL_FP16 = 1,
    TRTCOLL_BF16 = 2,
    TRTCOLL_FP64 = 3,
    TRTCOLL_INT8 = 4,
    TRTCOLL_UINT8 = 5,
    TRTCOLL_INT32 = 6,
    TRTCOLL_UINT32 = 7,
    TRTCOLL_INT64 = 8,
    TRTCOLL_UINT64 = 9,
    TRTCOLL_FP8_E4M3 = 10, /* data movement only */
    TRTCOLL_BOOL = 11      /* data movement only */
} trtcoll_dtype;

typedef enum trtcoll_redop {
    TRTCOLL_SUM = 0,
    TRTCOLL_MIN = 1,
    TRTCOLL_MAX = 2,
    TRTCOLL_PROD = 3,
    TRTCOLL_AVG = 4 /* the sum divided by the number of ranks; integers truncate towards zero */
} trtcoll_redop;

/*
 * Algorithms of the all-reduce (numbers as in TensorRT-LLM). ONESHOT, TWOSHOT and MIN_LATENCY give the same bits: ascending ranks, rounded
 * to the type at every addition, or once with TRTCOLL_ACC_FP32. MNNVL and NCCL add in fp32 and round once; so do SYMM_MEM and UB, which
 * only GPUs have. Where the daemon is configured for NVLink multicast, MNNVL gives the same bits over it; for SYMM_MEM and UB the switch
 * adds then, in an order of its own: the last bit may differ from run to run, never from rank to rank.
 */
typedef enum trtcoll_strategy {
    TRTCOLL_STRATEGY_NCCL = 0,        /* the library form; on host devices a chunked two-shot */
    TRTCOLL_STRATEGY_MIN_LATENCY = 1, /* ONESHOT up to 128 tokens (or hidden < ranks), TWOSHOT above */
    TRTCOLL_STRATEGY_UB = 2,
    TRTCOLL_STRATEGY_AUTO = 3, /* chosen by the daemon, for all ranks at once; trtcoll_plan_info says what */
    TRTCOLL_STRATEGY_ONESHOT = 4,
    TRTCOLL_STRATEGY_TWOSHOT = 5,
    TRTCOLL_STRATEGY_LOWPRECISION = 6,
    TRTCOLL_STRATEGY_MNNVL = 7,
    TRTCOLL_STRATEGY_NCCL_SYMMETRIC = 8,
    TRTCOLL_STRATEGY_SYMM_MEM = 9
} trtcoll_strategy;

/* Fused epilogues of the all-reduce (numbers as in TensorRT-LLM). See trtcoll_all_reduce_desc for the formulas. */
typedef enum trtcoll_fusion {
    TRTCOLL_FUSION_NONE = 0,
    TRTCOLL_FUSION_RESIDUAL_RMS_NORM = 1,
    TRTCOLL_FUSION_RESIDUAL_RMS_NORM_QUANT_FP8 = 4,
    TRTCOLL_FUSION_RESIDUAL_RMS_NORM_QUANT_NVFP4 = 5,
    TRTCOLL_FUSION_RESIDUAL_RMS_NORM_OUT_QUANT_FP8 = 6,
    TRTCOLL_FUSION_RESIDUAL_RMS_NORM_OUT_QUANT_NVFP4 = 7
} trtcoll_fusion;

typedef enum trtcoll_lane {
    TRTCOLL_LANE_AUTO = 0,   /* chosen by the daemon */
    TRTCOLL_LANE_DIRECT = 1, /* this process runs the operation over the daemon's workspaces */
    TRTCOLL_LANE_SERVED = 2  /* the daemon's executor runs it */
} trtcoll_lane;

enum {
    TRTCOLL_ACC_FP32 = 1u << 0, /* ONESHOT, TWOSHOT, MIN_LATENCY on 16-bit types: accumulate in fp32, round once */
    TRTCOLL_BIAS = 1u << 1,     /* runs bring a bias vector [hidden], added to the sum before everything else */
    TRTCOLL_GRAPH = 1u << 2,    /* runs may be captured into CUDA graphs; refused on host groups */
    TRTCOLL_FORCE = 1u << 4     /* finalize: exchange the shards, however short the message is */
};

/* Flags of one run. */
enum {
    TRTCOLL_PDL = 1u << 0 /* programmatic dependent launch: the next kernel of the stream may start while this run ends. See plan_run */
};

typedef enum trtcoll_device_kind { TRTCOLL_DEVICE_HOST = 0, TRTCOLL_DEVICE_CUDA = 1 } trtcoll_device_kind;

#define TRTCOLL_MAX_TENSORS 16
#define TRTCOLL_MAX_RANKS   64
#define TRTCOLL_RANK_NONE   UINT32_MAX

/* ---- errors ---- */

/* Details of the calling thread's latest failed call. Fields that do not apply are 0, rank is TRTCOLL_RANK_NONE. */
struct trtcoll_error {
    uint32_t size;
    int32_t code;
    uint32_t rank;       /* whom it is about */
    int32_t pid;         /* its process */
    int32_t signal;      /* what killed it, 0 if unknown */
    int32_t device_code; /* error of the device or driver */
    uint64_t step;       /* the last step that rank is known to have finished */
    uint64_t mine;       /* EMISMATCH: this rank's value of `field` */
    uint64_t theirs;     /* EMISMATCH: rank's value */
    char group[64];
    char field[64];
    char text[256]; /* the whole story, for people */
};
#define TRTCOLL_ERROR_INIT                                                                                                                 \
    {                                                                                                                                      \
        sizeof(struct trtcoll_error), 0, TRTCOLL_RANK_NONE, 0, 0, 0, 0, 0, 0, {0}, {0},                                                    \
        {                                                                                                                                  \
            0                                                                                                                              \
        }                                                                                                                                  \
    }

/* Copies the details of this thread's latest failure into *error (at most error->size bytes). Returns its code. Since 0.1. */
TRTCOLL_API int trtcoll_last_error(struct trtcoll_error *error);
/* Static strings: "TRTCOLL_EPEERDEAD", "a member of the group has died". An unknown code gives "TRTCOLL_E?" and "unknown error". Since 0.1.
 */
TRTCOLL_API const char *trtcoll_error_name(int code);
TRTCOLL_API const char *trtcoll_error_text(int code);
/* "0.1.0". Since 0.1. */
TRTCOLL_API const char *trtcoll_version(void);

/* ---- context ---- */

struct trtcoll_allocator {
    void *(*allocate)(void *arg, size_t bytes); /* zeroing is not needed; NULL: out of memory */
    void (*release)(void *arg, void *pointer);
    void *arg;
};

/* Severity as in syslog: 3 error, 4 warning, 6 info, 7 debug. Called on the thread that noticed; must not call trtcoll. */
typedef void (*trtcoll_log_fn)(void *arg, int severity, const char *text);

struct trtcoll_ctx_options {
    uint32_t size;
    int32_t device;          /* device number; -1: the group decides, or the daemon */
    const char *socket_path; /* NULL: $TRTCOLL_SOCKET, else where trtcolld(8) puts it: trtcoll(3), FILES */
    const char *name;        /* shown by trtcollctl; NULL: the program's name */
    uint32_t timeout_ms;     /* of attaching and of every request to the daemon that waits for no peer; 0: 5000 */
    uint32_t watch; /* 1: a thread of the library notices, without a call, when the daemon or an executor is gone, and ends what waits for
                       it; 0: that happens in the next call that waits for, queries or makes a run */
    const struct trtcoll_allocator *allocator; /* copied; NULL: malloc and free */
    trtcoll_log_fn log;                        /* NULL: silence */
    void *log_arg;
};
#define TRTCOLL_CTX_OPTIONS_INIT                                                                                                           \
    {                                                                                                                                      \
        sizeof(struct trtcoll_ctx_options), -1, NULL, NULL, 0, 0, NULL, NULL, NULL                                                         \
    }

/*
 * trtcoll_ctx_open: attach to the daemon.
 *
 * options    NULL: all defaults. Strings are copied.
 * Blocking   Up to timeout_ms. Connects, agrees on the ABI, receives limits. Opens no device.
 * Ownership  *ctx is the caller's until trtcoll_ctx_close. One process may open several; they share nothing.
 *
 * Returns 0 or: ECONN (no daemon at that path; the text names the path), EABI, EPERM (not in the configured users or groups),
 * EQUOTA (the node's client limit), EDRAIN, ETIMEOUT, EINVAL (a device that the node does not have), ENOMEM, EIO. Since 0.1.
 */
TRTCOLL_API int trtcoll_ctx_open(const struct trtcoll_ctx_options *options, struct trtcoll_ctx **ctx);

/*
 * trtcoll_ctx_close: leave all groups, release all plans, events, memory and the connection. NULL is allowed. The other members of its
 * groups see a member that left; a run that waits for this rank ends with EPEERDEAD there. No other thread may be inside a call on this
 * context. Memory from trtcoll_alloc is unmapped. In a forked child it frees only local memory and never disturbs the parent.
 * GPUs: runs that wait for peers end; the call waits up to the context's timeout_ms for streams to pass the runs that were made. Graphs
 * that captured runs should be destroyed before; where they are not, the memory that they use stays mapped until the process ends. Since
 * 0.1.
 */
TRTCOLL_API void trtcoll_ctx_close(struct trtcoll_ctx *ctx);

struct trtcoll_ctx_info {
    uint32_t size;
    int32_t device;     /* -1 while no group has fixed it */
    uint64_t client_id; /* as trtcollctl shows it */
    uint64_t daemon_generation;
    uint32_t max_groups, max_plans, max_in_flight;
    uint32_t connected; /* 0 once the daemon is known to be gone */
    uint64_t max_bytes;
    char daemon_version[64];
    uint32_t device_kind; /* trtcoll_device_kind; HOST until a group on a GPU is ready */
    uint32_t reserved;
    unsigned char device_uuid[16]; /* of the GPU */
};
/* Fills *info (info->size bytes at most). Local, never blocks. Since 0.1. */
TRTCOLL_API int trtcoll_ctx_info(struct trtcoll_ctx *ctx, struct trtcoll_ctx_info *info);

/* ---- groups ---- */

/*
 * trtcoll_group_join: become a member of a group from the daemon's configuration.
 *
 * rank       This process' rank, or -1: the lowest free rank whose device is this context's.
 * Blocking   Collective: returns when every rank of the group has joined, or after timeout_ms (0: the configuration's join deadline).
 * Ownership  *group is the context's; give it back with trtcoll_group_leave, or close the context.
 *
 * Returns 0 or: ENOENT (no such group), EPERM, EINVAL (rank out of range, or its device is not this context's), EBUSY (that rank
 * is taken), EQUOTA, ETIMEOUT (last_error's text names the absent ranks), EPEERDEAD (a joined member died meanwhile), EDRAIN, ECONN. Since
 * 0.1.
 */
TRTCOLL_API int trtcoll_group_join(struct trtcoll_ctx *ctx, const char *name, int rank, uint32_t timeout_ms, struct trtcoll_group **group);

/*
 * trtcoll_group_create: make a group at run time. Every member calls it with the same name and size and its own rank; blocking, ownership
 * and errors as trtcoll_group_join, and EMISMATCH (size differs from that of another member), EEXIST (a configured group, or one that is
 * complete, has this name). The name is 1 to 63 bytes of [A-Za-z0-9._:/-]. It is free again when all members have left. Since 0.1.
 */
TRTCOLL_API int trtcoll_group_create(struct trtcoll_ctx *ctx, const char *name, uint32_t size, uint32_t rank, uint32_t timeout_ms,
                                     struct trtcoll_group **group);

/*
 * trtcoll_group_leave: end the membership. Its plans are released; requests in flight are aborted. The other members see EPEERDEAD ("left")
 * in runs that need this rank. The group pointer is invalid afterwards. Never blocks on peers. GPUs: in graphs that captured runs of the
 * group these fail from then on. Since 0.1.
 */
TRTCOLL_API int trtcoll_group_leave(struct trtcoll_group *group);

typedef enum trtcoll_group_state {
    TRTCOLL_GROUP_READY = 2,
    TRTCOLL_GROUP_BROKEN = 3 /* nothing can run; leave or re-form */
} trtcoll_group_state;

struct trtcoll_group_info {
    uint32_t size;
    uint32_t rank;
    uint32_t nranks;
    uint32_t state;                       /* trtcoll_group_state */
    uint64_t epoch;                       /* grows with every re-forming */
    uint64_t deadline_ns;                 /* longest wait of one operation for its peers, now */
    int32_t code;                         /* BROKEN: why */
    uint32_t culprit;                     /* BROKEN: rank to blame or TRTCOLL_RANK_NONE */
    uint64_t runs_started, runs_finished; /* of this rank, direct lane */
    uint32_t in_flight;                   /* served requests not yet completed */
    int32_t device;
    char name[64];
    uint32_t device_kind; /* trtcoll_device_kind */
    uint32_t reserved;
    unsigned char device_uuid[16]; /* of this rank's GPU. There runs_started counts calls, runs_finished also replays of graphs; of served
                                      runs both do */
};
/*
 * Fills *info. Local (reads shared memory), never blocks; works when the daemon is gone, and then lets replays of graphs go that wait for
 * it. Since 0.1.
 */
TRTCOLL_API int trtcoll_group_status(struct trtcoll_group *group, struct trtcoll_group_info *info);

enum { TRTCOLL_REFORM_SHRINK = 1u << 0 };

/*
 * trtcoll_group_reform: make a broken group usable again, in a new epoch.
 *
 * flags      0: same size, same ranks; waits for missing ranks to join again under the same name (a restarted engine calls
 *            trtcoll_group_join or _create). TRTCOLL_REFORM_SHRINK: survivors only; ranks become dense, keeping their order.
 * Collective over the survivors: all call it with the same flags. All plans of the group are gone afterwards (release them, make new ones);
 * events of requests in flight report the failure. A rank whose run has just failed need not wait for the daemon to say so to the group:
 * the call does, for 2 s at most.
 *
 * Returns 0 or: EINVAL (the group is not broken), EMISMATCH (flags differ), ETIMEOUT (names the absent ranks), EPEERDEAD (another member
 * died: call again), ECONN, EDRAIN. Since 0.1.
 */
TRTCOLL_API int trtcoll_group_reform(struct trtcoll_group *group, uint32_t flags, uint32_t timeout_ms);

/*
 * trtcoll_group_abort: break the group for everybody, on purpose: running and later operations of every rank end with EABORTED. `reason`
 * (may be NULL) is part of their error text. Since 0.1.
 */
TRTCOLL_API int trtcoll_group_abort(struct trtcoll_group *group, const char *reason);

/*
 * trtcoll_group_fd: a non-blocking eventfd for event loops. Becomes readable when a served request of this group completes or the group
 * breaks: read 8 bytes from it, then query all outstanding events (notifications coalesce). Give the loop a timeout of its own as well,
 * say a second, and query then too: a daemon that is killed together with its executors writes no eventfd any more.
 * Owned by the group, valid until the group is left or re-formed.
 *
 * Returns 0 or ENOENT (the group has no served plan yet, so nothing can complete). Since 0.1.
 */
TRTCOLL_API int trtcoll_group_fd(struct trtcoll_group *group, int *fd);

/* ---- memory ---- */

/*
 * trtcoll_alloc: daemon-owned memory of this context's device, zeroed, page-aligned, mapped here and known to the executor: zero-copy on
 * both lanes. Counts against the client's byte quota. trtcoll_free gives it back; so does closing the context. GPUs: device memory; the
 * context must have joined a group first.
 * Returns 0 or EINVAL (0 bytes), EQUOTA, ENOMEM, ECONN. Since 0.1.
 */
TRTCOLL_API int trtcoll_alloc(struct trtcoll_ctx *ctx, size_t bytes, void **pointer);
/*
 * `pointer` from trtcoll_alloc. Returns when the executor has let go of it as well. EBUSY while a served request uses it, EINVAL if it is
 * not such a pointer. GPUs: streams must have done with it, as for cudaFree. ETIMEOUT if the daemon has not answered: the memory is
 * unmapped here all the same. Since 0.1.
 */
TRTCOLL_API int trtcoll_free(struct trtcoll_ctx *ctx, void *pointer);

/*
 * trtcoll_register: make own memory known to the executor for zero-copy served runs.
 *
 * pointer, bytes  a mapping of the memfd `fd` starting at file offset 0; `bytes` at most the file's size. The memfd must be sealed against
 *                 shrinking (F_SEAL_SHRINK), so that it can never fault under the daemon. The library duplicates `fd`.
 * GPUs            `fd` is -1; the range lies in memory of the context's GPU: of cudaMalloc, or of cuMemCreate if it was made to be
 *                 exported as a descriptor, also when several such allocations lie side by side (expandable segments of PyTorch). It must
 *                 stay allocated until it is unregistered. Other memory is ENOTSUP, the text says why; runs on it are staged.
 *
 * Memory that is neither allocated nor registered works on both lanes too: on the served lane it is staged (copied through daemon memory),
 * and trtcoll_plan_info counts such runs.
 *
 * Returns 0 or: EINVAL (not a memfd, not sealed, too short, not memory of the GPU; the text says which), ENOTSUP, EEXIST (overlaps a known
 * range), EQUOTA, ECONN. Since 0.1.
 */
TRTCOLL_API int trtcoll_register(struct trtcoll_ctx *ctx, void *pointer, size_t bytes, int fd);
/*
 * `pointer` as registered. Returns when the executor has let go of it as well. EBUSY while a served request uses it, EINVAL if it is not
 * registered. ETIMEOUT if the daemon has not answered: not registered any more, but an executor may still be writing. Since 0.1.
 */
TRTCOLL_API int trtcoll_unregister(struct trtcoll_ctx *ctx, void *pointer);

/* ---- plans ---- */

/*
 * All-reduce over M tokens of `hidden` elements: s = reduction over ranks of in[M][hidden].
 *
 *   bias    t = s + bias (TRTCOLL_BIAS), else t = s                       one rounding to dtype
 *   NONE    out = t
 *   fused   u = t + residual_in (one rounding); residual_out = u
 *           norm = u / sqrt(mean(u^2) + eps) * norm_weight    fp32, one rounding (TensorRT-LLM's fused RMSNorm: no mean subtraction)
 *           RESIDUAL_RMS_NORM, ..OUT_..: out = norm
 *           ..FP8:   quant_out = E4M3(norm * (1 / scale[0])), saturating, [M][hidden] bytes; scale is the dequantisation scale
 *           ..NVFP4: blocks of 16: sf = E4M3(scale[0] * max|norm| / 6), code = E2M1(norm * scale[0] / sf); quant_out [M][hidden/2]
 *                    bytes, element 2i in the low nibble; scale_out roundup(M,128) * roundup(hidden/16,4) bytes in the 128x4 swizzle,
 *                    padding untouched; scale is the encode scale, typically 448 * 6 / amax. Not with FP32.
 *
 * A group of one applies the epilogue too. Everything is the same bit for bit on all ranks and from run to run.
 *
 * dtype: fused FP32, FP16, BF16; plain also the integer types and FP64. redop: fused SUM only. hidden * element size: a multiple of 16 when
 * fused, and hidden itself too with NVFP4. Plain sums of other rows are NCCL's on GPUs, on the served lane.
 */
struct trtcoll_all_reduce_desc {
    uint32_t size;
    uint32_t dtype;      /* trtcoll_dtype */
    uint32_t redop;      /* trtcoll_redop */
    uint32_t strategy;   /* trtcoll_strategy */
    uint32_t fusion;     /* trtcoll_fusion */
    uint32_t lane;       /* trtcoll_lane */
    uint32_t flags;      /* TRTCOLL_ACC_FP32 | TRTCOLL_BIAS | TRTCOLL_GRAPH */
    float eps;           /* of the norm; 0 means 1e-6 */
    uint64_t max_tokens; /* largest M of a run, >= 1 */
    uint64_t hidden;     /* >= 1 */
};
#define TRTCOLL_ALL_REDUCE_DESC_INIT                                                                                                       \
    {                                                                                                                                      \
        sizeof(struct trtcoll_all_reduce_desc), TRTCOLL_BF16, TRTCOLL_SUM, TRTCOLL_STRATEGY_AUTO, TRTCOLL_FUSION_NONE, TRTCOLL_LANE_AUTO,  \
            0, 0, 1, 1                                                                                                                     \
    }

/* One tensor of a list: its shape and type, without a pointer. ndim 1..8. present = 0: an absent entry, skipped on every rank. */
struct trtcoll_tensor {
    uint32_t present;
    uint32_t dtype;
    uint32_t ndim;
    uint32_t reserved;
    uint64_t shape[8];
};

/*
 * All-gather: out = concatenation of all ranks' tensors along `dim`, ascending ranks. Reduce-scatter: reduction over all ranks, rank i
 * keeps slice i along `dim`. One tensor, or a list of up to 16 (which may differ in type and shape; absent entries stay absent).
 *
 * tensors    shape of the *input* of this rank. Without sizes all ranks have the same shape, and reduce-scatter's extent along dim is
 *            divisible by the group size. With sizes, sizes[i] is rank i's extent along dim (0 allowed): all-gather needs shape[dim] ==
 *            sizes[rank] in every present entry, reduce-scatter shape[dim] == sum(sizes).
 * dim        0 <= dim < ndim of every present entry; negative counts from the end.
 */
struct trtcoll_gather_desc {
    uint32_t size;
    int32_t dim;
    uint32_t lane;
    uint32_t redop;        /* reduce-scatter only; all-gather: 0 */
    uint32_t tensor_count; /* 1..16 */
    uint32_t flags;        /* TRTCOLL_GRAPH */
    const struct trtcoll_tensor *tensors;
    const uint64_t *sizes; /* group size entries, or NULL */
};
#define TRTCOLL_GATHER_DESC_INIT                                                                                                           \
    {                                                                                                                                      \
        sizeof(struct trtcoll_gather_desc), 0, TRTCOLL_LANE_AUTO, 0, 1, 0, NULL, NULL                                                      \
    }

/*
 * All-to-all in the Helix list form: for list g, in[g * N + j] goes to rank j; out[g] has shape [N, shape of g] and holds at [j] what rank
 * j had put at its position g * N + (this rank). All N tensors of a list have the same shape and type; lists may differ. A group of one
 * copies.
 */
struct trtcoll_all_to_all_desc {
    uint32_t size;
    uint32_t lane;
    uint32_t list_count; /* 1..16 */
    uint32_t flags;
    const struct trtcoll_tensor *tensors; /* one per list: the shape of one of its N tensors */
};
#define TRTCOLL_ALL_TO_ALL_DESC_INIT                                                                                                       \
    {                                                                                                                                      \
        sizeof(struct trtcoll_all_to_all_desc), TRTCOLL_LANE_AUTO, 1, 0, NULL                                                              \
    }

/* Broadcast: out = root's in, `count` elements. in is read on the root only (others may pass NULL); in == out is allowed. */
struct trtcoll_broadcast_desc {
    uint32_t size;
    uint32_t lane;
    uint32_t dtype;
    uint32_t root;
    uint64_t count;
    uint32_t flags;
    uint32_t reserved;
};
#define TRTCOLL_BROADCAST_DESC_INIT                                                                                                        \
    {                                                                                                                                      \
        sizeof(struct trtcoll_broadcast_desc), TRTCOLL_LANE_AUTO, TRTCOLL_BF16, 0, 0, 0, 0                                                 \
    }

struct trtcoll_barrier_desc {
    uint32_t size;
    uint32_t lane;
    uint32_t flags;
    uint32_t reserved;
};
#define TRTCOLL_BARRIER_DESC_INIT                                                                                                          \
    {                                                                                                                                      \
        sizeof(struct trtcoll_barrier_desc), TRTCOLL_LANE_AUTO, 0, 0                                                                       \
    }

/*
 * Finalize (userbuffers_allreduce_finalize of TensorRT-LLM): makes a residual whole that an all-reduce has left in shards. Rank r owns the
 * tokens of its part of M, cut as evenly as can be, the first ranks having one more; out = every token as its owner has it in `in`. Other
 * rows of `in` are not read. Bytes are moved as they are. Where M * hidden * ranks is at most 131072, such an all-reduce has left the
 * residual whole: then out = in, without an exchange, unless TRTCOLL_FORCE. The all-reduces of this library, UB included, leave
 * residual_out whole on every rank and need none of this. in == out is allowed. GPUs, direct lane: rows of whole 16 bytes.
 */
struct trtcoll_finalize_desc {
    uint32_t size;
    uint32_t dtype;      /* FP32, FP16, BF16 */
    uint32_t lane;       /* trtcoll_lane */
    uint32_t flags;      /* TRTCOLL_FORCE | TRTCOLL_GRAPH */
    uint64_t max_tokens; /* largest M of a run, >= 1 */
    uint64_t hidden;     /* >= 1 */
};
#define TRTCOLL_FINALIZE_DESC_INIT                                                                                                         \
    {                                                                                                                                      \
        sizeof(struct trtcoll_finalize_desc), TRTCOLL_BF16, TRTCOLL_LANE_AUTO, 0, 1, 1                                                     \
    }

/*
 * trtcoll_plan_create_*: prepare a collective. All slow work (agreement, mapping, growth of workspaces) happens here.
 *
 * Collective: every rank of the group calls it exactly once for each plan, in the same order among the group's plans, with the same
 * descriptor. The daemon compares: a difference ends the call on every rank with EMISMATCH naming rank, field and both values, and nothing
 * is made. A call that failed counts too: after ETIMEOUT, the rank that never called is still one plan behind, and its next call is
 * compared with the plan that the others waited for in vain.
 * Blocking   Until all ranks have called, at most the configuration's plan deadline.
 * Ownership  *plan belongs to the group; trtcoll_plan_release gives it back, leaving the group does too.
 *
 * Returns 0 or: EINVAL, ENOTSUP (the text says what is supported), EMISMATCH, ETIMEOUT (names the absent ranks), EQUOTA, ENOMEM, EPEERDEAD,
 * EEXECUTOR, EABORTED, ECONN, EDRAIN. Since 0.1.
 */
TRTCOLL_API int trtcoll_plan_create_all_reduce(struct trtcoll_group *group, const struct trtcoll_all_reduce_desc *desc,
                                               struct trtcoll_plan **plan);
TRTCOLL_API int trtcoll_plan_create_all_gather(struct trtcoll_group *group, const struct trtcoll_gather_desc *desc,
                                               struct trtcoll_plan **plan);
TRTCOLL_API int trtcoll_plan_create_reduce_scatter(struct trtcoll_group *group, const struct trtcoll_gather_desc *desc,
                                                   struct trtcoll_plan **plan);
TRTCOLL_API int trtcoll_plan_create_all_to_all(struct trtcoll_group *group, const struct trtcoll_all_to_all_desc *desc,
                                               struct trtcoll_plan **plan);
TRTCOLL_API int trtcoll_plan_create_broadcast(struct trtcoll_group *group, const struct trtcoll_broadcast_desc *desc,
                                              struct trtcoll_plan **plan);
TRTCOLL_API int trtcoll_plan_create_barrier(struct trtcoll_group *group, const struct trtcoll_barrier_desc *desc,
                                            struct trtcoll_plan **plan);
TRTCOLL_API int trtcoll_plan_create_finalize(struct trtcoll_group *group, const struct trtcoll_finalize_desc *desc,
                                             struct trtcoll_plan **plan);

/*
 * Gives the plan back. Not collective. Runs in flight finish first for the daemon; their events stay valid. NULL is allowed. GPUs: graphs
 * that captured its runs go on working, they hold what they need until they are destroyed. Since 0.1.
 */
TRTCOLL_API int trtcoll_plan_release(struct trtcoll_plan *plan);

struct trtcoll_plan_info {
    uint32_t size;
    uint32_t plan_id;  /* number in the group, as trtcollctl shows it */
    uint32_t op;       /* number, see trtcoll_op_name */
    uint32_t lane;     /* DIRECT or SERVED */
    uint32_t strategy; /* all-reduce: of a run with max_tokens */
    uint32_t reserved;
    uint64_t runs;        /* started by this process */
    uint64_t staged_runs; /* served runs that had to copy through daemon memory */
    char reason[256];     /* why this lane and strategy */
    uint32_t device_kind; /* trtcoll_device_kind */
    uint32_t reserved2;
};
/* Local, never blocks. Since 0.1. */
TRTCOLL_API int trtcoll_plan_info(struct trtcoll_plan *plan, struct trtcoll_plan_info *info);
TRTCOLL_API const char *trtcoll_op_name(uint32_t op); /* "all-reduce"; NULL if unknown. Since 0.1. */

/*
 * The buffers of one run. Which are needed follows from the plan; one that the plan does not use must be NULL, so that nothing is
 * dropped silently. All-reduce, finalize and broadcast use in and out. All-gather and reduce-scatter of one tensor use these or lists of
 * one entry; of several tensors, in_list and out_list (an absent entry's pointer is ignored). All-to-all always uses the lists. A buffer of
 * no bytes may be NULL. A barrier takes no buffers; its args may be NULL.
 */
struct trtcoll_run_args {
    uint32_t size;
    uint32_t flags;  /* TRTCOLL_PDL; 0 on host groups */
    uint64_t tokens; /* all-reduce, finalize: M, 1..max_tokens. Others: 0, or without sizes a smaller extent along dim than the plan's
                        (per-rank extent: of all-gather's input, of reduce-scatter's output) */
    const void *in;
    void *out;
    const void *residual_in;
    void *residual_out;      /* may equal residual_in */
    const void *norm_weight; /* [hidden] of dtype */
    const void *bias;        /* [hidden] of dtype */
    const float *scale;      /* one value */
    void *quant_out;
    void *scale_out;
    const void *const *in_list; /* tensor_count entries; all-to-all: list_count * ranks */
    void *const *out_list;      /* tensor_count entries; all-to-all: list_count */
};
#define TRTCOLL_RUN_ARGS_INIT                                                                                                              \
    {                                                                                                                                      \
        sizeof(struct trtcoll_run_args), 0, 0, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL                            \
    }

/*
 * trtcoll_plan_run: one execution of a prepared collective.
 *
 * Ordering   Runs of one group and lane execute in the order of their calls, which must be the same on every rank. GPUs, direct: a run on
 *            another stream than the one before it is made to wait for that. A stream must live until the group has made a run on another
 *            one or has been left. Captured runs are ordered by their graph, and its launches by the caller; runs of one group that
 *            overlap on the GPU break the group with EBUSY. Kernels of different groups on the same GPUs may each fill one and wait there
 *            for peers that find no room on another, until the deadline: where they could meet, give them the same order on all ranks, by
 *            one stream or by events. GPUs, served: a run waits for its own inputs and outputs only, and for the runs that were made
 *            before it.
 * Agreement  All ranks run the same plan with the same tokens. Host devices compare that as they exchange data, the served lane does
 *            before: EMISMATCH. Kernels of the direct lane on GPUs compare nothing. A rank that lacks data of another one waits for them;
 *            else it takes what came, and its run ends well. The daemon compares what ranks have called: when they have come to rest after
 *            equally many runs, a difference breaks the group with EMISMATCH, which names two ranks, the one that fewer agree with first;
 *            within about 0.3 s, 1.3 s if nothing had run for a second. It also compares the plans and tokens of the latest 240 runs that
 *            kernels have recorded as finished, replays among them, ten times a second while they run: what differs at two looks breaks
 *            the group likewise. So replays of graphs that send as much but run other plans are found if they last or the ranks then
 *            rest, and if somebody still holds the plans. Who waits for what never comes in a replay ends with ETIMEOUT, by the deadline.
 *            In all cases streams drain. The outputs of the run in question, and of those behind it, may be wrong on any rank, also where
 *            it ended with 0, until the group has been re-formed.
 * Lane       Host devices, direct: the calling thread runs the operation and the call returns when the result is there (at most the
 *            group's deadline). Host devices, served: posts a ring entry and returns; the buffers are the daemon's until the event has
 *            completed. GPUs: enqueues on `stream`, a kernel (direct) or the exchange with the daemon's executor (served). Work already
 *            in `stream` happens before the run reads its inputs, work enqueued after this call sees the outputs.
 * Blocking   Served and on GPUs: never waits for peers, and on GPUs not for the GPU either. May spin briefly for a ring slot; EAGAIN if
 *            none is free.
 * Capture    GPUs, plans made with TRTCOLL_GRAPH: allowed while `stream` is captured; `event` must be NULL then. The graph holds what its
 *            replays need until it and everything instantiated from it are destroyed: on the direct lane the workspaces, on the served
 *            lane the buffers, which cannot be freed or unregistered before (EBUSY). Else ECAPTURE, and the capture is not disturbed.
 *            Failures of replays show in the group's status and in the next calls. Plans may be made while other streams are captured.
 *            Served: the call waits for the executor, at most the context's timeout_ms, which accepts the run or not. Its buffers come
 *            from trtcoll_alloc or trtcoll_register, else ECAPTURE; graphs may have 256 of a group's runs at a time, then EAGAIN. Replays
 *            and other served runs of a group must come in the same order on every rank, given by streams: the executor takes them in the
 *            order in which the GPU comes to them. Graphs instantiated from one capture run one behind the other, as replays of one graph
 *            do. A daemon that has died is noticed by the context's watcher (`watch`), or in calls such as trtcoll_group_status: a stream
 *            that is waited for without either stands still.
 * PDL        With TRTCOLL_PDL the run does not hold back the kernel that follows it in `stream`, if that was launched as its programmatic
 *            dependent; that kernel must wait for it (cudaGridDependencySynchronize) before it touches the run's buffers. Without an
 *            event, as an event's mark stands between the two.
 * Buffers    GPUs, direct: aligned to 16 bytes (ENOTSUP). Served, with fusion or bias, in memory that the executor knows: likewise, and the
 *            executor finds out: the run fails with EINVAL, its group breaks. `in` may equal `out` for all-reduce and broadcast. Any
 *            pointer works; see trtcoll_register for zero copy on the served lane. A run may read what an unfinished run of the same group
 *            delivers. Where such buffers are staged and overlap only in part, the answer is EAGAIN until the earlier run has completed.
 * Failures   The outputs of a run that has failed are undefined. Where they lie in memory that the executor knows, and the run ended with
 *            a code that breaks the group, a late executor may still write to them: not any more once trtcoll_free or trtcoll_unregister
 *            of that memory has returned 0. After ECONN executors end with their daemon, but this process cannot know when: unmap such
 *            memory rather than use it for something else. Staged outputs keep what was in them.
 * stream     The CUDA stream to enqueue on, of the primary context of the group's GPU; NULL is the legacy default stream. NULL on host
 *            groups (anything else is EINVAL there).
 * event      NULL: on the served lane of host devices the call then waits for completion itself; on GPUs nobody waits, the stream gives
 *            the order, and failures show in the group's status and in the next calls. Otherwise *event receives the run's event, to be
 *            given back with trtcoll_event_put. On the direct lane of host devices it is complete already. Untouched on failure.
 *
 * Returns 0 or:
 *   EINVAL     a needed buffer is NULL, an unused one is not, tokens out of range, a stream on a host group or of another GPU
 *   ECAPTURE   see Capture; nothing was enqueued
 *   EDEVICE    the GPU has failed
 *   EAGAIN     ring full, or see Buffers; nothing was enqueued
 *   EQUOTA     staging needs more memory than the client may hold
 *   EPEERDEAD, ETIMEOUT, EMISMATCH, EEXECUTOR, EABORTED   the group is broken, last_error says why and by whom; re-form or leave
 *   ECONN      served lane: the daemon is gone (the direct lane goes on without it)
 * After a failure of the served lane nothing was enqueued. After one of the direct lane the output buffers' content is undefined. On GPUs,
 * after a failure that an event tells, outputs are undefined, also staged ones. Since 0.1.
 */
TRTCOLL_API int trtcoll_plan_run(struct trtcoll_plan *plan, const struct trtcoll_run_args *args, struct CUstream_st *stream,
                                 struct trtcoll_event **event);

/* ---- events ---- */

/*
 * trtcoll_event_wait: wait until the run has completed, at most timeout_ms. UINT32_MAX: as long as the run takes. The group's deadline
 * bounds its waits for peers, and the daemon kills an executor that hangs, which fails the run. (Only who stops the daemon and its
 * executors too, with SIGSTOP, stops this as well.)
 * 0: done, the outputs are complete. ETIMEOUT with the run still in flight when timeout_ms was too short (trtcoll_event_query then returns
 * EAGAIN). Else the run's error. May be called again, from any thread. GPUs: a run has completed when its stream has passed it; where the
 * stream is held up by work of the application, so is the event. Since 0.1.
 */
TRTCOLL_API int trtcoll_event_wait(struct trtcoll_event *event, uint32_t timeout_ms);
/* 0: done; EAGAIN: still running; else the run's error. Never blocks. Since 0.1. */
TRTCOLL_API int trtcoll_event_query(struct trtcoll_event *event);

struct trtcoll_event_info {
    uint32_t size;
    int32_t code;  /* as trtcoll_event_query */
    uint32_t rank; /* of a failure: whom it is about, or TRTCOLL_RANK_NONE */
    uint32_t lane;
    uint64_t submit_ns; /* CLOCK_MONOTONIC */
    uint64_t start_ns;  /* 0 until done */
    uint64_t end_ns;    /* 0 until done */
};
TRTCOLL_API int trtcoll_event_status(struct trtcoll_event *event, struct trtcoll_event_info *info);
/*
 * GPUs: the CUDA event that is recorded behind the run, to let other streams wait for it (cuStreamWaitEvent); without timing. It is the
 * library's, valid until trtcoll_event_put. It says that the stream has passed the run, not that the run went well: trtcoll_event_query
 * does. ENOTSUP for a run of a host group. Since 0.1.
 */
TRTCOLL_API int trtcoll_event_cuda(struct trtcoll_event *event, struct CUevent_st **handle);
/* Gives the event back, completed or not. NULL is allowed. Since 0.1. */
TRTCOLL_API void trtcoll_event_put(struct trtcoll_event *event);

/* ---- one-call forms ---- */

/*
 * Collectives without plans in the caller's hands: they look for a plan of the same descriptor in the group's cache (64 entries, least
 * recently used goes first) and make it when it is missing, then run and wait. Collective like both; one at a time per group. The plan's
 * size is the next power of two (desc->max_tokens is not looked at), so that few plans serve all sizes; a broadcast's is exact. On GPUs
 * they run on the legacy default stream and wait until it has passed the run. Errors as the two calls. Since 0.1.
 */
TRTCOLL_API int trtcoll_all_reduce(struct trtcoll_group *group, const void *in, void *out, uint64_t count, uint32_t dtype, uint32_t redop);
TRTCOLL_API int trtcoll_all_reduce_fused(struct trtcoll_group *group, const struct trtcoll_all_reduce_desc *desc,
                                         const struct trtcoll_run_args *args);
TRTCOLL_API int trtcoll_all_gather(struct trtcoll_group *group, const void *in, void *out, uint64_t count,
                                   uint32_t dtype); /* count: per rank */
TRTCOLL_API int trtcoll_reduce_scatter(struct trtcoll_group *group, const void *in, void *out, uint64_t count, uint32_t dtype,
                                       uint32_t redop); /* count: per rank, of out */
TRTCOLL_API int trtcoll_broadcast(struct trtcoll_group *group, const void *in, void *out, uint64_t count, uint32_t dtype, uint32_t root);
TRTCOLL_API int trtcoll_barrier(struct trtcoll_group *group);
/* force: see trtcoll_finalize_desc; 0 where `in` is the residual of an all-reduce over UB of the same size. */
TRTCOLL_API int trtcoll_userbuffers_allreduce_finalize(struct trtcoll_group *group, const void *in, void *out, uint64_t tokens,
                                                       uint64_t hidden, uint32_t dtype, int force);

/* ---- what is supported ---- */

/*
 * trtcoll_supports: would a group of `nranks` on this context's device accept such an all-reduce? 0 yes; else the code that plan creation
 * would return, with the reason in trtcoll_last_error. What only the daemon knows (quotas, its configuration) is not asked. Local, never
 * blocks. Since 0.1.
 */
TRTCOLL_API int trtcoll_supports(struct trtcoll_ctx *ctx, uint32_t nranks, const struct trtcoll_all_reduce_desc *desc);

#ifdef __cplusplus
}
#endif
#endif
