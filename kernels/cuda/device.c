#include "cuda/device.h"

#include "cuda/driver.h"
#include "cuda/memory.h"

#include <tcw/types.h>

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/*
 * Whether enter had to push the context, a bit for each enter of this thread that has not been left, the innermost lowest. leave needs to
 * know, and asking the driver instead would pop contexts of the application.
 */
static _Thread_local uint64_t pushed;

bool tck_cuda_built(void)
{
    return true;
}

CUcontext tck_cuda_context(const struct tck_device *device)
{
    return device->context;
}

CUdevice tck_cuda_ordinal(const struct tck_device *device)
{
    return device->ordinal;
}

const struct tck_device_facts *tck_device_facts(const struct tck_device *device)
{
    return &device->facts;
}

int tck_cuda_enter(struct tck_device *device)
{
    const struct tck_cuda_driver *driver = tck_cuda_driver();
    CUcontext current = NULL;
    if (driver->cuCtxGetCurrent(&current) == CUDA_SUCCESS && current == device->context) {
        pushed <<= 1;
        return 0;
    }
    if (driver->cuCtxPushCurrent(device->context) != CUDA_SUCCESS)
        return TCW_EDEVICE;
    pushed = pushed << 1 | 1;
    return 0;
}

void tck_cuda_leave(struct tck_device *device)
{
    (void)device;
    CUcontext popped;
    if (pushed & 1)
        tck_cuda_driver()->cuCtxPopCurrent(&popped);
    pushed >>= 1;
}

int tck_cuda_begin_setup(struct tck_device *device, CUstreamCaptureMode *mode)
{
    int code = tck_cuda_enter(device);
    if (code)
        return code;
    *mode = CU_STREAM_CAPTURE_MODE_RELAXED;
    tck_cuda_driver()->cuThreadExchangeStreamCaptureMode(mode);
    return 0;
}

void tck_cuda_end_setup(struct tck_device *device, CUstreamCaptureMode mode)
{
    tck_cuda_driver()->cuThreadExchangeStreamCaptureMode(&mode);
    tck_cuda_leave(device);
}

static int attribute(CUdevice ordinal, CUdevice_attribute which)
{
    int value = 0;
    return tck_cuda_driver()->cuDeviceGetAttribute(&value, which, ordinal) == CUDA_SUCCESS ? value : 0;
}

/*
 * Whether this process computes through an MPS server. The driver decides that once, in cuInit: it connects to the control daemon whose
 * sockets it finds in CUDA_MPS_PIPE_DIRECTORY (default /tmp/nvidia-mps). The attribute is its own answer for contexts of this process on
 * this GPU. Sockets in that directory would prove less: they may be left over, or belong to a daemon that serves other users or GPUs.
 * Nothing is said about other processes: whether executor and client share a server shows when both say yes, and use one directory.
 */
static bool is_mps_client(CUdevice ordinal)
{
    return attribute(ordinal, CU_DEVICE_ATTRIBUTE_MPS_ENABLED) != 0;
}

static void read_facts(struct tck_device *device)
{
    const struct tck_cuda_driver *driver = tck_cuda_driver();
    struct tck_device_facts *facts = &device->facts;
    CUdevice ordinal = device->ordinal;
    int version = 0;
    size_t bytes = 0;
    CUuuid uuid;

    facts->ordinal = ordinal;
    if (driver->cuDeviceGetName(facts->name, sizeof(facts->name), ordinal) != CUDA_SUCCESS)
        snprintf(facts->name, sizeof(facts->name), "GPU %d", ordinal);
    if (driver->cuDeviceGetUuid(&uuid, ordinal) == CUDA_SUCCESS)
        memcpy(facts->uuid, uuid.bytes, TCK_UUID_BYTES);
    if (driver->cuDeviceGetPCIBusId(facts->pci, sizeof(facts->pci), ordinal) != CUDA_SUCCESS)
        facts->pci[0] = 0;
    for (char *digit = facts->pci; *digit; digit++)
        *digit = (char)tolower((unsigned char)*digit);
    facts->compute = (uint32_t)attribute(ordinal, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR) * 10 +
                     (uint32_t)attribute(ordinal, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR);
    facts->multiprocessors = (uint32_t)attribute(ordinal, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT);
    if (driver->cuDeviceTotalMem(&bytes, ordinal) == CUDA_SUCCESS)
        facts->memory_bytes = bytes;
    if (driver->cuDriverGetVersion(&version) == CUDA_SUCCESS)
        facts->driver = (uint32_t)version;
    facts->stream_words = attribute(ordinal, CU_DEVICE_ATTRIBUTE_CAN_USE_64_BIT_STREAM_MEM_OPS) != 0;
    facts->mps = is_mps_client(ordinal);
    facts->multicast = attribute(ordinal, CU_DEVICE_ATTRIBUTE_MULTICAST_SUPPORTED) != 0;
    facts->fd_export = tck_cuda_memory_probe(device, false, NULL, 0) == 0;
    facts->fabric = tck_cuda_memory_probe(device, true, facts->fabric_why, sizeof(facts->fabric_why)) == 0;
}

unsigned tck_device_peers(const struct tck_device *device, struct tck_device_peer *peers, unsigned most)
{
    const struct tck_cuda_driver *driver = tck_cuda_driver();
    unsigned found = 0;
    int count = 0;
    if (driver->cuDeviceGetCount(&count) != CUDA_SUCCESS)
        return 0;
    for (int i = 0; i < count && found < most; i++) {
        CUdevice peer;
        CUuuid uuid;
        int can = 0;
        if (driver->cuDeviceGet(&peer, i) != CUDA_SUCCESS || peer == device->ordinal ||
            driver->cuDeviceGetUuid(&uuid, peer) != CUDA_SUCCESS ||
            driver->cuDeviceCanAccessPeer(&can, device->ordinal, peer) != CUDA_SUCCESS)
            continue;
        peers[found].mapped = can != 0;
        memcpy(peers[found++].uuid, uuid.bytes, TCK_UUID_BYTES);
    }
    return found;
}

static void say_uuid(const unsigned char *uuid, char *text, size_t bytes)
{
    char digits[2 * TCK_UUID_BYTES + 1];
    for (unsigned i = 0; i < TCK_UUID_BYTES; i++)
        snprintf(digits + 2 * i, 3, "%02x", uuid[i]);
    snprintf(text, bytes, "GPU-%.8s-%.4s-%.4s-%.4s-%.12s", digits, digits + 8, digits + 12, digits + 16, digits + 20);
}

/* The process sees only what CUDA_VISIBLE_DEVICES lets it see: if something is not found, that is the first place to look at. */
static void say_not_found(const unsigned char *uuid, int ordinal, int count, char *why, size_t why_bytes)
{
    const char *visible = getenv("CUDA_VISIBLE_DEVICES");
    char which[64];
    if (uuid)
        say_uuid(uuid, which, sizeof(which));
    else
        snprintf(which, sizeof(which), "GPU number %d", ordinal);
    snprintf(why, why_bytes, "%s is not among the %d GPU(s) that this process sees (CUDA_VISIBLE_DEVICES %s%s)", which, count,
             visible ? "is " : "is not set", visible ? visible : "");
}

static int find(const unsigned char *uuid, int wanted, CUdevice *ordinal, char *why, size_t why_bytes)
{
    const struct tck_cuda_driver *driver = tck_cuda_driver();
    char text[160];
    int count = 0;
    CUresult result = driver->cuDeviceGetCount(&count);
    for (int i = 0; result == CUDA_SUCCESS && i < count; i++) {
        CUuuid its;
        CUdevice candidate;
        result = driver->cuDeviceGet(&candidate, i);
        if (result == CUDA_SUCCESS && uuid)
            result = driver->cuDeviceGetUuid(&its, candidate);
        if (result == CUDA_SUCCESS && (uuid ? memcmp(its.bytes, uuid, TCK_UUID_BYTES) == 0 : i == wanted)) {
            *ordinal = candidate;
            return 0;
        }
    }
    if (result == CUDA_SUCCESS) {
        say_not_found(uuid, wanted, count, why, why_bytes);
        return TCW_ENOTSUP;
    }
    snprintf(why, why_bytes, "the GPUs cannot be listed: %s", tck_cuda_text(result, text, sizeof(text)));
    return TCW_EDEVICE;
}

int tck_device_open(const unsigned char *uuid, int ordinal, struct tck_device **opened, char *why, size_t why_bytes)
{
    CUdevice found = 0;
    int code = tck_cuda_driver_load(why, why_bytes);
    if (!code)
        code = find(uuid, ordinal, &found, why, why_bytes);
    if (code)
        return code;

    struct tck_device *device = calloc(1, sizeof(*device));
    if (!device) {
        snprintf(why, why_bytes, "out of memory");
        return TCW_ENOMEM;
    }
    device->ordinal = found;
    pthread_mutex_init(&device->lock, NULL);
    char text[160];
    CUresult result = tck_cuda_driver()->cuDevicePrimaryCtxRetain(&device->context, found);
    if (result != CUDA_SUCCESS) {
        snprintf(why, why_bytes, "no context on GPU %d: %s", found, tck_cuda_text(result, text, sizeof(text)));
        code = result == CUDA_ERROR_OUT_OF_MEMORY ? TCW_ENOMEM : TCW_EDEVICE;
        goto free_device;
    }
    CUstreamCaptureMode mode;
    code = tck_cuda_begin_setup(device, &mode);
    if (code) {
        snprintf(why, why_bytes, "the context of GPU %d cannot be used: did an earlier fault break it?", found);
        goto release_context;
    }
    read_facts(device);
    tck_cuda_end_setup(device, mode);
    *opened = device;
    return 0;

release_context:
    tck_cuda_driver()->cuDevicePrimaryCtxRelease(found);
free_device:
    pthread_mutex_destroy(&device->lock);
    free(device);
    return code;
}

void tck_device_close(struct tck_device *device)
{
    if (!device)
        return;
    CUstreamCaptureMode mode;
    if (tck_cuda_begin_setup(device, &mode) == 0) {
        tck_cuda_unload_images(device);
        tck_cuda_end_setup(device, mode);
    }
    tck_cuda_driver()->cuDevicePrimaryCtxRelease(device->ordinal);
    pthread_mutex_destroy(&device->lock);
    tck_cuda_forget_images(device);
    free(device);
}
