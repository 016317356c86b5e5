/*
 * Messages of the set-up socket: SOCK_SEQPACKET, one message per packet, fixed header, flat little-endian payload, descriptors by
 * SCM_RIGHTS. Receivers work on private copies and check them with tcw_message_check before looking at a field.
 * Strings are NUL-terminated inside their arrays; bytes behind the NUL are zero.
 */
#ifndef TCW_MESSAGE_H
#define TCW_MESSAGE_H

#include <tcw/plan.h>
#include <tcw/types.h>

#define TCW_MESSAGE_MAGIC 0x4d435754u /* "TWCM" */

enum { TCW_MESSAGE_MAX_BYTES = 16384 }; /* header and payload */

typedef enum tcw_message {
#define TCW_MESSAGE(number, NAME, payload, name) TCW_MSG_##NAME = (number),
#include <tcw/messages.def>
#undef TCW_MESSAGE
    TCW_MESSAGE_COUNT
} tcw_message;

struct tcw_header {
    uint32_t magic;
    uint32_t length; /* payload bytes */
    uint16_t opcode;
    uint16_t fd_count;
    uint32_t sequence;   /* of the request; replies repeat it; 0 for announcements */
    uint64_t generation; /* of the daemon, as learned in hello; 0 in hello itself */
    uint64_t reserved;   /* 0 */
};

enum {
    TCW_FEATURE_DIRECT = 1u << 0,
    TCW_FEATURE_SERVED = 1u << 1,
    TCW_FEATURE_LISTS = 1u << 2,
    TCW_FEATURES_KNOWN = 7u,
};

struct tcw_hello {
    uint32_t abi_min, abi_max;
    uint64_t features;         /* wanted; unknown bits are refused */
    int32_t device;            /* wanted device number, -1: the daemon chooses */
    uint32_t role;             /* 0 client, 1 operator's tool: may only send ADMIN */
    char name[TCW_NAME_BYTES]; /* for people; may be empty */
};

struct tcw_hello_ok {
    uint32_t abi;
    int32_t device; /* -1 until a group fixes it */
    uint64_t features;
    uint64_t generation;
    uint64_t client_id;
    uint32_t max_groups, max_plans, max_in_flight, ring_entries;
    uint64_t max_bytes;
    uint32_t spin_us; /* how long a waiter may spin before it sleeps */
    uint32_t reserved;
    char version[TCW_NAME_BYTES];
    uint32_t join_ms, plan_ms; /* how long GROUP_JOIN, GROUP_REFORM and PLAN_CREATE wait for the other ranks if they do not say */
};

struct tcw_error {
    int32_t code;
    uint32_t rank; /* TCW_NOBODY if none is to blame */
    int32_t pid;
    int32_t signal;
    uint64_t step;
    uint64_t mine, theirs;      /* EMISMATCH: both values, of the receiving rank and of `rank` */
    char field[TCW_NAME_BYTES]; /* EMISMATCH, EINVAL: what */
    char text[TCW_TEXT_BYTES];  /* the whole story for people */
};

struct tcw_ok {
    uint64_t value;
};

enum { TCW_JOIN_FLAGS_KNOWN = 0 };

struct tcw_group_join {
    char name[TCW_NAME_BYTES];
    uint32_t size; /* 0: a configured group; else a group made by its members */
    int32_t rank;  /* -1: configured group, any free rank that fits the device */
    uint32_t flags;
    uint32_t timeout_ms; /* until all have joined; 0: the daemon's default */
};

struct tcw_group_ready {
    uint64_t group_id; /* handle for later messages: index and generation */
    uint64_t epoch;
    uint32_t rank, size;
    int32_t device;
    uint32_t spin_us;
    uint64_t deadline_ns;
    uint64_t page_bytes;  /* of the member page: fd 0 */
    uint32_t device_kind; /* tcw_device_kind, of all ranks */
    uint32_t reserved;
    uint8_t device_uuid[16]; /* CUDA: this rank's GPU */
    struct {
        int32_t pid;
        uint32_t uid;
        int32_t device;
        uint32_t reserved;
    } peers[TCW_MAX_RANKS];
};

struct tcw_group_leave {
    uint64_t group_id;
};

enum { TCW_REFORM_SHRINK = 1u << 0, TCW_REFORM_FLAGS_KNOWN = 1u };

struct tcw_group_reform {
    uint64_t group_id;
    uint32_t flags; /* SHRINK: survivors only, ranks made dense in order; else wait for the missing ranks to join again */
    uint32_t timeout_ms;
};

struct tcw_group_abort {
    uint64_t group_id;
    char reason[TCW_TEXT_BYTES];
};

struct tcw_group_report {
    uint64_t group_id;
    int32_t code;
    uint32_t rank; /* blamed, or TCW_NOBODY */
    uint64_t step;
    char text[TCW_TEXT_BYTES];
};

struct tcw_group_broken {
    uint64_t group_id;
    struct tcw_error error;
};

struct tcw_plan_create {
    uint64_t group_id;
    uint32_t timeout_ms;
    uint32_t multiprocessors; /* CUDA: that this process sees of its GPU; 0: as many as its executor */
    struct tcw_plan_desc desc;
};

/*
 * fds, in this order: `workspace_fds` workspaces (by rank, when the direct lane uses one this rank has not been sent yet), then if
 * `ring_bytes` != 0 the ring memfd, its submission eventfd, its completion eventfd (once per membership, with the first served plan).
 */
struct tcw_plan_ready {
    uint64_t plan;                 /* handle: what a submission names and PLAN_RELEASE takes */
    uint32_t plan_id;              /* number in the group, the same on all ranks */
    uint32_t workspace_fds;        /* one for each rank; with one more, that is the multicast object over all of them */
    uint64_t workspace_generation; /* grows; a plan keeps using the workspace it was made with */
    uint64_t workspace_bytes;      /* of each rank's workspace */
    uint64_t ring_bytes;
    struct tcw_decision decision;
    char reason[TCW_TEXT_BYTES]; /* why this lane and these strategies */
};

struct tcw_plan_release {
    uint64_t plan;
};

enum { TCW_MEM_FLAGS_KNOWN = 0 };

/* How memory is handed over. */
typedef enum tcw_mem_kind {
    TCW_MEM_MEMFD = 0, /* host devices: fd 0, a memfd of at least this size, sealed against shrinking */
    TCW_MEM_VMM = 1,   /* CUDA: one descriptor per VMM allocation, in address order; `offset` of the range in the first one */
    TCW_MEM_IPC = 2,   /* CUDA: `ipc` is a legacy handle of the allocation, `offset` of the range in it; no fd */
    TCW_MEM_KIND_COUNT
} tcw_mem_kind;

enum { TCW_IPC_HANDLE_BYTES = 64, TCW_MEM_MAX_FDS = 64 };

struct tcw_mem_alloc {
    uint64_t bytes;
    uint32_t flags;
    uint32_t reserved;
};

struct tcw_mem_register {
    uint64_t bytes; /* of the range */
    uint32_t flags;
    uint32_t kind;                         /* tcw_mem_kind */
    uint64_t offset;                       /* VMM, IPC */
    uint64_t piece_bytes[TCW_MEM_MAX_FDS]; /* VMM: size of each descriptor's allocation as mapped */
    uint8_t ipc[TCW_IPC_HANDLE_BYTES];
};

struct tcw_mem_ready {
    uint64_t handle;
    uint64_t bytes; /* as mapped: rounded up to whole pages */
};

struct tcw_mem_free {
    uint64_t handle;
};

typedef enum tcw_admin_command {
    TCW_ADMIN_DRAIN = 1,
    TCW_ADMIN_RELOAD = 2,
    TCW_ADMIN_EXPLAIN = 3,   /* uses `group` (or `size`) and `desc` */
    TCW_ADMIN_KICK = 4,      /* `value`: client id */
    TCW_ADMIN_LOG_LEVEL = 5, /* `value`: 3 err .. 7 debug */
    TCW_ADMIN_CONFIG = 6,    /* effective configuration */
    TCW_ADMIN_UNDRAIN = 7
} tcw_admin_command;

struct tcw_admin {
    uint32_t command;
    uint32_t size; /* EXPLAIN without a group: number of ranks */
    uint64_t value;
    uint64_t tokens; /* EXPLAIN: of one run */
    char group[TCW_NAME_BYTES];
    struct tcw_plan_desc desc;
};

struct tcw_admin_text {
    int32_t code;   /* 0 or why not */
    uint32_t more;  /* 1: another part follows */
    uint32_t bytes; /* of text */
    uint32_t reserved;
    char text[8192];
};

union tcw_payload {
#define TCW_MESSAGE(number, NAME, payload, name) struct payload NAME;
#include <tcw/messages.def>
#undef TCW_MESSAGE
};

_Static_assert(sizeof(struct tcw_header) == 32, "ABI");
_Static_assert(sizeof(union tcw_payload) + sizeof(struct tcw_header) <= TCW_MESSAGE_MAX_BYTES, "one packet");

/* Payload size that an opcode must have; 0 for an unknown one. */
uint32_t tcw_message_bytes(unsigned opcode);

/*
 * Checks a received packet of `bytes` bytes: magic, length, opcode, reserved fields, terminated strings, fd count against
 * `received_fds`, known flags, plan descriptors' enumerations within range (tcw_plan_desc_check needs the group and is the daemon's).
 * 0 or TCW_EPROTO with *why (static string).
 */
int tcw_message_check(const struct tcw_header *header, const union tcw_payload *payload, size_t bytes, unsigned received_fds,
                      const char **why);

/* Copies at most size-1 bytes and zeroes the rest. */
void tcw_text_set(char *to, size_t size, const char *from);

#endif
