/*
 * A device as one process uses it. Host devices need no state: they are the NULL pointer. A CUDA device is the primary context of one GPU,
 * shared with the CUDA runtime of the application; libcuda.so.1 is loaded when the first one is opened and never before.
 *
 * Owner: who opened it; closing needs that nothing made on it is left. Threads: any; every function makes the context current for its
 * own duration and leaves the thread's context stack as it was.
 */
#ifndef TCK_DEVICE_H
#define TCK_DEVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum tck_device_kind { TCK_DEVICE_HOST = 0, TCK_DEVICE_CUDA = 1 } tck_device_kind;

enum { TCK_UUID_BYTES = 16 };

struct tck_device;

static inline tck_device_kind tck_device_kind_of(const struct tck_device *device)
{
    return device ? TCK_DEVICE_CUDA : TCK_DEVICE_HOST;
}

/* Whether this build has CUDA devices at all. */
bool tck_cuda_built(void);

/*
 * Opens a GPU: the one with this uuid among those that the process sees, or (uuid NULL) number `ordinal`. 0, or ENOTSUP (not built in, no
 * driver, no such GPU), EDEVICE (the driver refuses), with `why` (why_bytes) saying what.
 */
int tck_device_open(const unsigned char *uuid, int ordinal, struct tck_device **device, char *why, size_t why_bytes);
void tck_device_close(struct tck_device *device); /* NULL is allowed */

/* What is to be known about an open GPU. Constant while it is open. */
struct tck_device_facts {
    char name[64];
    unsigned char uuid[TCK_UUID_BYTES];
    char pci[16]; /* "0000:1b:00.0" */
    int32_t ordinal;
    uint32_t compute; /* 90 for SM 9.0 */
    uint32_t multiprocessors;
    uint64_t memory_bytes;
    uint32_t driver;   /* CUDA version of the driver, as cuDriverGetVersion: 13000 */
    bool stream_words; /* 64-bit stream memory operations */
    bool fd_export;    /* VMM memory as descriptors, by a real call */
    bool fabric;       /* fabric handles, by a real call */
    bool mps;          /* this process is a client of an MPS server */
    bool multicast;    /* NVLink multicast, as the driver says; never tried unless it is wanted */
    char fabric_why[96];
};
const struct tck_device_facts *tck_device_facts(const struct tck_device *device);

/* Another GPU that this process sees. */
struct tck_device_peer {
    unsigned char uuid[TCK_UUID_BYTES];
    bool mapped; /* the device's kernels can be given its memory, as the driver says */
};
/* Fills in at most `most` of them and returns how many. About GPUs that are not among them nothing is known. */
unsigned tck_device_peers(const struct tck_device *device, struct tck_device_peer *peers, unsigned most);

#endif
