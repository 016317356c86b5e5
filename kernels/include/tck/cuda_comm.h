/*
 * A communicator of CUDA devices over daemon-owned workspaces: our own kernels. On the direct lane it lives in the client, on the served
 * lane in the executor. Runs are enqueued; all state that changes from run to run is in device memory, so that captured launches replay.
 *
 * Owner: the process that created it. Threads: one at a time; runs of one communicator must be ordered (one stream, or events between
 * streams), which the kernels check: overlapping runs end with EBUSY in the page instead of wrong results or a hang.
 * Only for code that is left out of builds without CUDA.
 */
#ifndef TCK_CUDA_COMM_H
#define TCK_CUDA_COMM_H

#include <tck/comm.h>
#include <tck/cuda_driver.h>

enum { TCK_CUDA_MAX_RANKS = 16 };

struct tck_cuda_comm;

struct tck_cuda_comm_params {
    struct tck_device *device;
    uint32_t rank;
    uint32_t nranks;
    /* Device addresses of all ranks' workspaces here, `workspace_bytes` each; they outlive the communicator. */
    void *const *workspaces;
    uint64_t workspace_bytes;
    /* All of them at once: MNNVL, SYMM_MEM and UB use it then (tck/cuda_multicast.h). NULL: there is no such thing. */
    void *multicast;
    /*
     * Device addresses of three places in host memory registered by the caller: the abort word and the deadline (ns, 0 none), which waiting
     * kernels read now and then, and the progress block, which the last block of a kernel writes.
     */
    CUdeviceptr abort_word;
    CUdeviceptr deadline_ns;
    CUdeviceptr progress; /* struct tcw_device_progress */
};

/* Executor, once for every new workspace, before anybody maps it: fills in headers and buffers as the kernels expect them. Blocks. */
int tck_cuda_workspace_format(struct tck_device *device, void *base, uint64_t bytes);

/* Loads kernels, opts in to shared memory. 0, EINVAL, ENOTSUP, EDEVICE. Never during capture. */
int tck_cuda_comm_create(const struct tck_cuda_comm_params *params, struct tck_cuda_comm **comm);
void tck_cuda_comm_destroy(struct tck_cuda_comm *comm);

/*
 * Enqueues one all-reduce (any strategy but NCCL and NCCL_SYMMETRIC, any fusion) on `stream`; pointers of *run are device pointers, aligned
 * to 16 bytes (else ENOTSUP). No other call of the driver than the launch. Collective like tck_comm_run. Failures in flight (abort,
 * deadline, overlap) end the kernel and show in progress->fault; later runs end at once. `trigger_early`: programmatic dependent
 * launch: let the next kernel of the stream start before this one has ended.
 */
int tck_cuda_comm_launch(struct tck_cuda_comm *comm, const struct tck_run *run, CUstream stream, bool trigger_early);

/*
 * What the end of a run tells others: one or two words, written in this order when everything that the run has written to memory of this
 * GPU is visible to who sees them. By a kernel, which is some microseconds earlier than what a stream writes. Words lie in any memory that
 * the GPU reaches; results elsewhere may take longer than the first of them, not than the second.
 */
struct tck_cuda_end {
    CUdeviceptr first, second; /* second: 0 none */
    uint64_t first_value, second_value;
    bool first_is_narrow; /* 32 bits, the second always has 64 */
};

/* Tells it behind everything that has been enqueued on `stream` so far: for operations that do not tell their end themselves. */
int tck_cuda_tell_launch(struct tck_device *device, const struct tck_cuda_end *end, CUstream stream);

/*
 * The same as tck_cuda_comm_launch without `trigger_early`; where it returns 1, the run tells its end, where 0, it cannot. Results in
 * memory of this GPU. All ranks of a run launch it like this or staged: the shapes are those of runs that tell.
 */
int tck_cuda_comm_launch_telling(struct tck_cuda_comm *comm, const struct tck_run *run, CUstream stream, const struct tck_cuda_end *end);

/*
 * The same for a sum of two ranks or more without fusion and bias (else ENOTSUP) in buffers that need not be aligned: what is not goes
 * through `staging`, aligned device memory of TCK_CUDA_STAGED_BYTES or the message if that is shorter, copied in before each launch and out
 * behind it. Launches are those of an aligned run, so each rank may do as its own buffers want it.
 */
enum { TCK_CUDA_STAGED_BYTES = 64 << 20 }; /* no launch takes more of such a sum, however large the workspace */
int tck_cuda_comm_launch_staged(struct tck_cuda_comm *comm, const struct tck_run *run, CUstream stream, void *staging);

/* How many launches a run takes, or a few more: for who must not fill the queues of a driver. Any thread, no call of the driver. */
uint64_t tck_cuda_comm_launches(const struct tck_cuda_comm *comm, const struct tck_run *run);

/*
 * What follows a sum that a library has computed: bias, residual, RMSNorm, quantisation, as run->desc says, rows [0, tokens) of `sum`
 * (contiguous, may equal run->out[0] where that is allowed). One launch. The same arithmetic as the fused kernels.
 */
int tck_cuda_epilogue_launch(struct tck_device *device, const struct tck_run *run, const void *sum, CUstream stream);

/*
 * Copies many strided boxes in one launch: gathers and scatters along inner dimensions. Box i: rows[i] rows of row_bytes[i], from
 * source[i] + row * source_pitch[i] to target[i] + row * target_pitch[i]. Any alignment; fast for 16-byte aligned rows. The array is copied
 * at the call. At most TCK_CUDA_MAX_BOXES.
 */
enum { TCK_CUDA_MAX_BOXES = 64 };
struct tck_cuda_box {
    const void *source;
    void *target;
    uint64_t source_pitch, target_pitch;
    uint64_t row_bytes;
    uint64_t rows;
};
int tck_cuda_copy_launch(struct tck_device *device, const struct tck_cuda_box *boxes, unsigned count, CUstream stream);

#endif
