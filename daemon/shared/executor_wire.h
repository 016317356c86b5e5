/*
 * Messages between the control process and its executors, over a SOCK_SEQPACKET socketpair. Both ends are the same binary, so there is no
 * versioning; messages are by value, descriptors ride beside them (SCM_RIGHTS), no pointer crosses.
 *
 * Names: an *attachment* is one membership (group instance x rank) served by this executor; its id is chosen by the control process and
 * never reused. Replies carry the cookie of their request; a request with cookie 0 wants none.
 */
#ifndef TCD_EXECUTOR_WIRE_H
#define TCD_EXECUTOR_WIRE_H

#include <tck/device.h>
#include <tcw/message.h>
#include <tcw/plan.h>
#include <tcw/types.h>

typedef enum tcd_ex_opcode {
    /* control -> executor */
    TCD_EX_ALLOC = 1,        /* make memory of the device; answer ALLOCATED with the fd */
    TCD_EX_ATTACH = 2,       /* fds: executor's member page, ring memfd, submission eventfd, completion eventfd; CUDA: and the gate */
    TCD_EX_WORKSPACE = 3,    /* fds: nranks workspaces of one generation for an attachment */
    TCD_EX_PLAN = 4,         /* make a plan known; answer DONE */
    TCD_EX_PLAN_DROP = 5,    /* forget it: requests posted before still run, later ones that name it complete with ENOENT */
    TCD_EX_MEM = 6,          /* fd: client memory that requests may reference; answer DONE */
    TCD_EX_MEM_DROP = 7,     /* answer DONE once no running request uses it */
    TCD_EX_ABORT = 8,        /* end the attachment's running and later requests with this code */
    TCD_EX_DETACH = 9,       /* stop the worker, unmap everything of the attachment; answer DONE */
    TCD_EX_CLIENT_GONE = 10, /* drop all memory of a client */
    TCD_EX_QUIT = 11,        /* leave in an orderly way */
    TCD_EX_PING = 12,        /* answer DONE: the heartbeat; value = attachments, client memories and allocations under way */
    TCD_EX_RECLAIM = 13,     /* fd: memory that nobody uses any more: give its pages back; answer DONE. deadline_ns: wait so long before */
    TCD_EX_UNIQUE_ID = 14,   /* CUDA: make a unique id of the collective library; answer DONE with `blob` */
    TCD_EX_COMM = 15,        /* CUDA: begin communicator `communicator` as rank of nranks with the unique id in `blob`; fd 0: its order log;
                                answer DONE when it is usable (text: how long that took; value: bytes of the device, about) or has
                                failed, within deadline_ns */
    TCD_EX_COMM_DROP = 16,   /* CUDA: abort and forget it, whatever runs there ends; answer DONE. Attachments that still have it were
                                aborted before: an executor of another rank has died */
    TCD_EX_LIBRARY = 17,     /* CUDA: make the collective library ready, so that the first communicator need not; no answer */
    TCD_EX_MULTICAST = 18,   /* CUDA: make a multicast object for nranks workspaces of `value` bytes; answer ALLOCATED with its fd */
    TCD_EX_MULTICAST_JOIN = 19, /* CUDA, fd: the device joins it; answer DONE */
    TCD_EX_MULTICAST_BIND = 20, /* CUDA, fds: the object, and the workspace of `value` bytes that becomes a part of it; answer DONE */
    /* executor -> control */
    TCD_EX_READY = 32,     /* after start: value = pid; CUDA: facts, or code and text: then QUIT follows, and another try later */
    TCD_EX_ALLOCATED = 33, /* fd: the memory */
    TCD_EX_DONE = 34,      /* answer to everything else; code 0 or negative */
    TCD_EX_FAULT = 35,     /* an attachment failed while running: code, rank, step, text; with `communicator`: that one is broken; with
                              neither: something is wrong with the executor, and if it is grave, it ends */
    TCD_EX_VIOLATION = 36, /* the client behind an attachment broke the ring protocol: text; control closes that client */
} tcd_ex_opcode;

enum { TCD_EX_BLOB_BYTES = 128, TCD_EX_PEERS = 32 };

/* What an executor finds out about its GPU and tells with READY. Host devices: all zero. */
struct tcd_ex_facts {
    struct tck_device_facts device;
    uint32_t library;     /* version of NCCL as it counts, 22803; 0: none */
    char library_why[96]; /* why there is none */
    uint32_t peer_count;
    struct tck_device_peer peers[TCD_EX_PEERS]; /* of the other GPUs that it sees */
};

struct tcd_ex_message {
    uint32_t opcode;
    int32_t code;
    uint64_t cookie;
    uint64_t attachment;
    uint64_t client; /* memory belongs to a client, whatever group it is used in */
    uint64_t value;  /* ALLOC, MEM: bytes; READY: pid */
    uint64_t handle; /* MEM: memory handle as the client names it; PLAN: plan handle */
    uint32_t rank, nranks;
    uint32_t plan_id;
    uint32_t spin_us;
    uint64_t workspace_generation; /* WORKSPACE, PLAN */
    uint64_t workspace_bytes;
    uint64_t deadline_ns;
    uint64_t step;
    uint64_t communicator; /* COMM*, ATTACH on CUDA devices: the control process' id, never reused; 0 none */
    struct tcw_decision decision;
    struct tcw_plan_desc desc;
    union {
        unsigned char blob[TCD_EX_BLOB_BYTES]; /* UNIQUE_ID, COMM */
        struct tcd_ex_facts facts;             /* READY */
        struct tcw_mem_register memory;        /* MEM on CUDA devices: how it comes; fds as it says */
    };
    char text[TCW_TEXT_BYTES];
};

/*
 * Sends one message with up to TCW_MAX_FDS fds, blocking never: 0, TCW_ECONN, TCW_EIO; TCW_EAGAIN: when the socket is writable; TCW_EBUSY:
 * the kernel has no room, whatever the socket says about being writable: to be tried again a little later.
 */
int tcd_ex_send(int socket, const struct tcd_ex_message *message, const int *fds, unsigned fd_count);
/*
 * 1 received, 0 nothing there, TCW_ECONN closed, TCW_EPROTO malformed. fds (at most TCW_MAX_FDS) become the caller's. A process that has no
 * descriptor left for all of them gets none.
 */
int tcd_ex_receive(int socket, struct tcd_ex_message *message, int *fds, unsigned *fd_count);

#endif
