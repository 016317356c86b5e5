#include "context.h"

#include "inject.h"
#include "stream.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct fake_context contexts[FAKE_MAX_DEVICES]; /* by ordinal */
static int visible = -1;                               /* -1: cuInit has not been called */
static uint64_t bytes_per_device = UINT64_C(8) << 30;
static unsigned island = FAKE_MAX_DEVICES; /* GPUs that reach each other */
static unsigned multiprocessors[FAKE_MAX_DEVICES];
static bool mps;
static bool unchecked;

static _Thread_local struct {
    struct fake_context *stack[64];
    unsigned depth;
} mine;

static CUuuid uuid_of(unsigned index)
{
    CUuuid uuid;
    unsigned char raw[sizeof(uuid.bytes)] = {0x7c, 0x01, 0x1f, 0xa4, 0xe0, 0x00, 0x4c, 0x0d, 0xa0, 0x00};
    raw[14] = (unsigned char)(index >> 8);
    raw[15] = (unsigned char)index;
    memcpy(uuid.bytes, raw, sizeof(raw));
    return uuid;
}

/* "GPU-7c011fa4-e000-4c0d-a000-000000000002", or the beginning of it. */
static bool names_uuid(const char *text, size_t length, unsigned index)
{
    CUuuid uuid = uuid_of(index);
    char full[48];
    size_t at = (size_t)snprintf(full, sizeof(full), "GPU-");
    for (unsigned i = 0; i < sizeof(uuid.bytes); i++)
        at += (size_t)snprintf(full + at, sizeof(full) - at, "%s%02x", i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "",
                               (unsigned char)uuid.bytes[i]);
    return length > 4 && length <= at && !strncasecmp(full, text, length);
}

static int index_named(const char *text, size_t length, unsigned machine)
{
    char *end;
    unsigned long number;
    for (unsigned i = 0; i < machine; i++)
        if (names_uuid(text, length, i))
            return (int)i;
    number = strtoul(text, &end, 10);
    return length && end == text + length && number < machine ? (int)number : -1;
}

/* The list ends at the first name that means nothing, or is there twice. */
static int choose_visible(const char *list, unsigned machine)
{
    int count = 0;
    while (count < FAKE_MAX_DEVICES) {
        size_t length = strcspn(list, ",");
        int index = index_named(list, length, machine);
        for (int i = 0; i < count; i++)
            if (index == (int)contexts[i].index)
                index = -1;
        if (index < 0)
            break;
        contexts[count].index = (unsigned)index;
        contexts[count].ordinal = count;
        count++;
        if (!list[length])
            break;
        list += length + 1;
    }
    return count;
}

/* One number for all, or one for each; the last counts for the rest. */
static void read_multiprocessors(const char *text)
{
    unsigned number = 132;
    for (unsigned i = 0; i < FAKE_MAX_DEVICES; i++) {
        if (text && atoi(text) > 0)
            number = (unsigned)atoi(text);
        multiprocessors[i] = number;
        text = text ? strchr(text, ',') : NULL;
        text = text ? text + 1 : NULL;
    }
}

CUresult fake_devices_init(void)
{
    const char *count_text = getenv("TRTCOLL_FAKE_GPUS"), *memory_text = getenv("TRTCOLL_FAKE_GPU_MEMORY");
    const char *list = getenv("CUDA_VISIBLE_DEVICES"), *island_text = getenv("TRTCOLL_FAKE_ISLAND"), *mps_text = getenv("TRTCOLL_FAKE_MPS");
    const char *unchecked_text = getenv("TRTCOLL_FAKE_UNCHECKED");
    unsigned machine = count_text ? (unsigned)atoi(count_text) : 4;
    if (visible >= 0)
        return visible ? CUDA_SUCCESS : CUDA_ERROR_NO_DEVICE;
    if (machine > FAKE_MAX_DEVICES)
        machine = FAKE_MAX_DEVICES;
    if (memory_text)
        bytes_per_device = strtoull(memory_text, NULL, 0);
    if (island_text && atoi(island_text) > 0)
        island = (unsigned)atoi(island_text);
    read_multiprocessors(getenv("TRTCOLL_FAKE_MULTIPROCESSORS"));
    mps = mps_text && atoi(mps_text) > 0;
    unchecked = unchecked_text && atoi(unchecked_text) > 0;
    if (list) {
        visible = choose_visible(list, machine);
    } else {
        for (unsigned i = 0; i < machine; i++)
            contexts[i] = (struct fake_context){.index = i, .ordinal = (int)i};
        visible = (int)machine;
    }
    return visible ? CUDA_SUCCESS : CUDA_ERROR_NO_DEVICE;
}

bool fake_devices_ready(void)
{
    return visible > 0;
}

bool fake_launches_unchecked(void)
{
    return unchecked;
}

int fake_device_count(void)
{
    return visible > 0 ? visible : 0;
}

struct fake_context *fake_context_of_ordinal(int ordinal)
{
    return ordinal >= 0 && ordinal < visible ? &contexts[ordinal] : NULL;
}

int fake_ordinal_of_index(unsigned index)
{
    for (int i = 0; i < visible; i++)
        if (contexts[i].index == index)
            return i;
    return -1;
}

struct fake_context *fake_context_current(void)
{
    return mine.depth ? mine.stack[mine.depth - 1] : NULL;
}

uint64_t fake_device_bytes(void)
{
    return bytes_per_device;
}

bool fake_context_reaches(const struct fake_context *context, unsigned index)
{
    return context->index / island == index / island;
}

CUresult fake_context_check(struct fake_context *context)
{
    int injected;
    if (!context)
        return CUDA_ERROR_INVALID_CONTEXT;
    if (!context->users)
        return CUDA_ERROR_CONTEXT_IS_DESTROYED;
    injected = fake_injected_fault(context->index);
    if (injected)
        fake_context_break(context, (CUresult)injected);
    return context->fault;
}

void fake_context_break(struct fake_context *context, CUresult fault)
{
    if (!context->fault)
        context->fault = fault;
    fake_changed();
}

static struct fake_context *from_handle(CUcontext handle)
{
    for (int i = 0; i < visible; i++)
        if ((CUcontext)&contexts[i] == handle)
            return &contexts[i];
    return NULL;
}

CUresult cuDeviceGetCount(int *count)
{
    CUresult result = fake_enter("cuDeviceGetCount", FAKE_INIT);
    if (result)
        return result;
    *count = visible;
    return fake_leave(CUDA_SUCCESS);
}

CUresult cuDeviceGet(CUdevice *device, int ordinal)
{
    CUresult result = fake_enter("cuDeviceGet", FAKE_INIT);
    if (result)
        return result;
    if (!fake_context_of_ordinal(ordinal))
        return fake_leave(CUDA_ERROR_INVALID_DEVICE);
    *device = ordinal;
    return fake_leave(CUDA_SUCCESS);
}

/* Enters, and finds the device. */
static CUresult enter_device(const char *function, CUdevice device, struct fake_context **context)
{
    CUresult result = fake_enter(function, FAKE_INIT);
    *context = NULL;
    if (result)
        return result;
    *context = fake_context_of_ordinal(device);
    return *context ? CUDA_SUCCESS : fake_leave(CUDA_ERROR_INVALID_DEVICE);
}

CUresult cuDeviceGetName(char *name, int bytes, CUdevice device)
{
    struct fake_context *context;
    CUresult result = enter_device("cuDeviceGetName", device, &context);
    if (result)
        return result;
    snprintf(name, (size_t)bytes, "Fake GPU %u", context->index);
    return fake_leave(CUDA_SUCCESS);
}

CUresult cuDeviceGetUuid(CUuuid *uuid, CUdevice device)
{
    struct fake_context *context;
    CUresult result = enter_device("cuDeviceGetUuid", device, &context);
    if (result)
        return result;
    *uuid = uuid_of(context->index);
    return fake_leave(CUDA_SUCCESS);
}

CUresult cuDeviceGetPCIBusId(char *text, int bytes, CUdevice device)
{
    struct fake_context *context;
    CUresult result = enter_device("cuDeviceGetPCIBusId", device, &context);
    if (result)
        return result;
    if (bytes < 13)
        return fake_leave(CUDA_ERROR_INVALID_VALUE);
    snprintf(text, (size_t)bytes, "0000:%02x:00.0", 0x1b + context->index);
    return fake_leave(CUDA_SUCCESS);
}

CUresult cuDeviceTotalMem(size_t *bytes, CUdevice device)
{
    struct fake_context *context;
    CUresult result = enter_device("cuDeviceTotalMem", device, &context);
    if (result)
        return result;
    *bytes = bytes_per_device;
    return fake_leave(CUDA_SUCCESS);
}

CUresult cuDeviceCanAccessPeer(int *can, CUdevice device, CUdevice peer)
{
    struct fake_context *context;
    CUresult result = enter_device("cuDeviceCanAccessPeer", device, &context);
    if (result)
        return result;
    if (!fake_context_of_ordinal(peer))
        return fake_leave(CUDA_ERROR_INVALID_DEVICE);
    *can = device != peer && fake_context_reaches(context, fake_context_of_ordinal(peer)->index);
    return fake_leave(CUDA_SUCCESS);
}

static int attribute_of(CUdevice_attribute attribute, const struct fake_context *context)
{
    switch ((int)attribute) {
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR:
        return 9;
    case CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT:
        return (int)multiprocessors[context->index];
    case CU_DEVICE_ATTRIBUTE_MPS_ENABLED:
        return mps;
    case CU_DEVICE_ATTRIBUTE_MULTICAST_SUPPORTED:
        return 1;
    case CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK:
    case CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_X:
        return 1024;
    case CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR:
        return 2048;
    case CU_DEVICE_ATTRIBUTE_MAX_BLOCKS_PER_MULTIPROCESSOR:
    case CU_DEVICE_ATTRIBUTE_WARP_SIZE:
        return 32;
    case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK:
        return 48 << 10;
    case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN:
        return 227 << 10;
    case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR:
        return 228 << 10;
    case CU_DEVICE_ATTRIBUTE_CLOCK_RATE:
        return 1980000;
    case CU_DEVICE_ATTRIBUTE_PCI_BUS_ID:
        return 0x1b + (int)context->index;
    case CU_DEVICE_ATTRIBUTE_UNIFIED_ADDRESSING:
    case CU_DEVICE_ATTRIBUTE_CAN_MAP_HOST_MEMORY:
    case CU_DEVICE_ATTRIBUTE_CONCURRENT_KERNELS:
    case CU_DEVICE_ATTRIBUTE_COOPERATIVE_LAUNCH:
    case CU_DEVICE_ATTRIBUTE_CLUSTER_LAUNCH:
    case CU_DEVICE_ATTRIBUTE_HOST_REGISTER_SUPPORTED:
    case CU_DEVICE_ATTRIBUTE_CAN_USE_HOST_POINTER_FOR_REGISTERED_MEM:
    case CU_DEVICE_ATTRIBUTE_CAN_USE_64_BIT_STREAM_MEM_OPS:
    case CU_DEVICE_ATTRIBUTE_CAN_USE_STREAM_WAIT_VALUE_NOR:
    case CU_DEVICE_ATTRIBUTE_STREAM_PRIORITIES_SUPPORTED:
    case CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED:
    case CU_DEVICE_ATTRIBUTE_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR_SUPPORTED:
    case CU_DEVICE_ATTRIBUTE_HANDLE_TYPE_FABRIC_SUPPORTED: /* says so, and refuses: the same as on real machines without a channel */
    case CU_DEVICE_ATTRIBUTE_IPC_EVENT_SUPPORTED:
        return 1;
    default:
        return 0;
    }
}

CUresult cuDeviceGetAttribute(int *value, CUdevice_attribute attribute, CUdevice device)
{
    struct fake_context *context;
    CUresult result = enter_device("cuDeviceGetAttribute", device, &context);
    if (result)
        return result;
    *value = attribute_of(attribute, context);
    return fake_leave(CUDA_SUCCESS);
}

CUresult cuDevicePrimaryCtxRetain(CUcontext *handle, CUdevice device)
{
    struct fake_context *context;
    CUresult result = enter_device("cuDevicePrimaryCtxRetain", device, &context);
    if (result)
        return result;
    if (!context->users++) {
        context->life++;
        context->fault = CUDA_SUCCESS;
    }
    *handle = (CUcontext)context;
    return fake_leave(CUDA_SUCCESS);
}

CUresult cuDevicePrimaryCtxRelease(CUdevice device)
{
    struct fake_context *context;
    CUresult result = enter_device("cuDevicePrimaryCtxRelease", device, &context);
    if (result)
        return result;
    if (!context->users)
        return fake_leave(CUDA_ERROR_INVALID_CONTEXT);
    if (context->users == 1)
        (void)fake_context_drain(context);
    context->users--;
    return fake_leave(CUDA_SUCCESS);
}

CUresult cuCtxPushCurrent(CUcontext handle)
{
    CUresult result = fake_enter("cuCtxPushCurrent", FAKE_INIT);
    struct fake_context *context;
    if (result)
        return result;
    context = from_handle(handle);
    if (!context || mine.depth == sizeof(mine.stack) / sizeof(mine.stack[0]))
        return fake_leave(CUDA_ERROR_INVALID_CONTEXT);
    if (!context->users)
        return fake_leave(CUDA_ERROR_CONTEXT_IS_DESTROYED);
    mine.stack[mine.depth++] = context;
    return fake_leave(CUDA_SUCCESS);
}

CUresult cuCtxPopCurrent(CUcontext *handle)
{
    CUresult result = fake_enter("cuCtxPopCurrent", FAKE_INIT);
    if (result)
        return result;
    if (!mine.depth)
        return fake_leave(CUDA_ERROR_INVALID_CONTEXT);
    mine.depth--;
    if (handle)
        *handle = (CUcontext)mine.stack[mine.depth];
    return fake_leave(CUDA_SUCCESS);
}

CUresult cuCtxSetCurrent(CUcontext handle)
{
    CUresult result = fake_enter("cuCtxSetCurrent", FAKE_INIT);
    struct fake_context *context;
    if (result)
        return result;
    context = from_handle(handle);
    if (handle && !context)
        return fake_leave(CUDA_ERROR_INVALID_CONTEXT);
    if (context && !mine.depth)
        mine.depth = 1;
    if (context)
        mine.stack[mine.depth - 1] = context;
    else if (mine.depth)
        mine.depth--;
    return fake_leave(CUDA_SUCCESS);
}

CUresult cuCtxGetCurrent(CUcontext *handle)
{
    CUresult result = fake_enter("cuCtxGetCurrent", FAKE_INIT);
    if (result)
        return result;
    *handle = (CUcontext)fake_context_current();
    return fake_leave(CUDA_SUCCESS);
}

CUresult cuCtxGetDevice(CUdevice *device)
{
    CUresult result = fake_enter("cuCtxGetDevice", FAKE_CONTEXT);
    if (result)
        return result;
    *device = fake_context_current()->ordinal;
    return fake_leave(CUDA_SUCCESS);
}

CUresult cuCtxSynchronize(void)
{
    CUresult result = fake_enter("cuCtxSynchronize", FAKE_CONTEXT | FAKE_UNSAFE);
    if (result)
        return result;
    return fake_leave(fake_context_drain(fake_context_current()));
}

CUresult cuCtxGetStreamPriorityRange(int *least, int *greatest)
{
    CUresult result = fake_enter("cuCtxGetStreamPriorityRange", FAKE_CONTEXT);
    if (result)
        return result;
    if (least)
        *least = 0;
    if (greatest)
        *greatest = -5;
    return fake_leave(CUDA_SUCCESS);
}

CUresult cuMemGetInfo(size_t *free_bytes, size_t *total)
{
    CUresult result = fake_enter("cuMemGetInfo", FAKE_CONTEXT);
    if (result)
        return result;
    *total = bytes_per_device;
    *free_bytes = bytes_per_device - fake_context_current()->in_use;
    return fake_leave(CUDA_SUCCESS);
}
