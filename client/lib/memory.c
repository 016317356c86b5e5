#include "memory.h"

#include "clock.h"
#include "context.h"
#include "cuda/gpu.h"
#include "error.h"
#include "group.h"

#include <string.h>
#include <time.h>
#include <unistd.h>

enum { SETTLE_MS = 100, SETTLE_NAP_NS = 20000 };

int tcc_memory_create(struct tcc_memory *memory)
{
    memset(memory, 0, sizeof(*memory));
    return pthread_mutex_init(&memory->lock, NULL) ? TRTCOLL_ENOMEM : 0;
}

void tcc_memory_destroy(struct trtcoll_ctx *ctx)
{
    struct tcc_memory *memory = &ctx->memory;
    uint32_t i;

    for (i = 0; i < memory->count; i++) {
        tcc_daemon_memory_unmap(ctx, &memory->ranges[i]->memory);
        tcc_free(ctx, memory->ranges[i]);
    }
    tcc_free(ctx, memory->ranges);
    memory->ranges = NULL;
    memory->count = 0;
    pthread_mutex_destroy(&memory->lock);
}

/* Index of the first range that ends behind `address`; count if there is none. */
static uint32_t first_behind(const struct tcc_memory *memory, uintptr_t address)
{
    uint32_t low = 0, high = memory->count;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;

        if (memory->ranges[middle]->start + memory->ranges[middle]->bytes > address)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

struct tcc_range *tcc_memory_find(struct tcc_memory *memory, const void *pointer, uint64_t bytes)
{
    uintptr_t address = (uintptr_t)pointer;
    uint32_t index = first_behind(memory, address);
    struct tcc_range *range;

    if (index == memory->count)
        return NULL;
    range = memory->ranges[index];
    if (!range->usable || address < range->start || bytes > range->bytes - (address - range->start))
        return NULL;
    atomic_fetch_add_explicit(&range->users, 1, memory_order_relaxed);
    return range;
}

/* With the lock: room for one more entry. */
static int reserve(struct trtcoll_ctx *ctx)
{
    struct tcc_memory *memory = &ctx->memory;
    uint32_t room = memory->room ? memory->room * 2 : 16;
    struct tcc_range **ranges;

    if (memory->count < memory->room)
        return 0;
    ranges = tcc_alloc(ctx, room * sizeof(struct tcc_range *));
    if (!ranges)
        return TRTCOLL_ENOMEM;
    if (memory->count)
        memcpy(ranges, memory->ranges, memory->count * sizeof(struct tcc_range *));
    tcc_free(ctx, memory->ranges);
    memory->ranges = ranges;
    memory->room = room;
    return 0;
}

static struct tcc_range *overlapping(const struct tcc_memory *memory, uintptr_t start, uint64_t bytes)
{
    uint32_t index = first_behind(memory, start);

    return index < memory->count && memory->ranges[index]->start < start + bytes ? memory->ranges[index] : NULL;
}

/* Enters a range: 0, ENOMEM or EEXIST. */
static int insert(struct trtcoll_ctx *ctx, struct tcc_range *range)
{
    struct tcc_memory *memory = &ctx->memory;
    uint32_t index;
    int code;

    pthread_mutex_lock(&memory->lock);
    code = overlapping(memory, range->start, range->bytes) ? TRTCOLL_EEXIST : reserve(ctx);
    if (!code) {
        index = first_behind(memory, range->start);
        memmove(&memory->ranges[index + 1], &memory->ranges[index], (memory->count - index) * sizeof(struct tcc_range *));
        memory->ranges[index] = range;
        memory->count++;
    }
    pthread_mutex_unlock(&memory->lock);
    return code;
}

static bool in_use(struct tcc_memory *memory, const void *pointer)
{
    uint32_t index;
    bool used;

    pthread_mutex_lock(&memory->lock);
    index = first_behind(memory, (uintptr_t)pointer);
    used = index < memory->count && memory->ranges[index]->start == (uintptr_t)pointer &&
           atomic_load_explicit(&memory->ranges[index]->users, memory_order_acquire);
    pthread_mutex_unlock(&memory->lock);
    return used;
}

/*
 * Runs that nobody waits for end when somebody looks. On GPUs a stream passes a run a moment before its completion is here: memory that
 * streams have done with must not look busy for that.
 */
static void settle(struct trtcoll_ctx *ctx, const void *pointer)
{
    const struct timespec nap = {.tv_nsec = SETTLE_NAP_NS};
    uint64_t until_ns = tcw_now_ns() + (tcc_ctx_kind(ctx) == TCK_DEVICE_CUDA ? SETTLE_MS * TCC_MS : 0);

    while (in_use(&ctx->memory, pointer)) {
        tcc_groups_watch(ctx);
        if (tcw_now_ns() >= until_ns)
            return;
        nanosleep(&nap, NULL);
    }
}

/* Takes out the range that starts at `pointer`: 0, or EINVAL or EBUSY with the last error set. */
static int take_out(struct tcc_memory *memory, const void *pointer, bool registered, struct tcc_range **range)
{
    uintptr_t start = (uintptr_t)pointer;
    uint32_t index;
    int code = 0;

    pthread_mutex_lock(&memory->lock);
    index = first_behind(memory, start);
    if (!pointer || index == memory->count || memory->ranges[index]->start != start || memory->ranges[index]->registered != registered) {
        code = tcc_fail(TRTCOLL_EINVAL, "%p is not the start of memory that was %s on this context", pointer,
                        registered ? "registered" : "allocated");
    } else if (atomic_load_explicit(&memory->ranges[index]->users, memory_order_acquire)) {
        code = tcc_fail(TRTCOLL_EBUSY,
                        "the memory at %p is used by a served request: wait for its event, or destroy the graphs that it was captured into",
                        pointer);
    } else {
        *range = memory->ranges[index];
        memory->count--;
        memmove(&memory->ranges[index], &memory->ranges[index + 1], (memory->count - index) * sizeof(struct tcc_range *));
    }
    pthread_mutex_unlock(&memory->lock);
    return code;
}

static int tell_freed(struct trtcoll_ctx *ctx, uint64_t handle)
{
    struct tcw_mem_free request = {.handle = handle};
    int code = tcc_ctx_command(ctx, TCW_MSG_MEM_FREE, &request, tcc_ctx_deadline(ctx));

    /* A daemon that is gone has dropped its side already. */
    return code == TRTCOLL_ECONN ? 0 : code;
}

int tcc_daemon_memory_get(struct trtcoll_ctx *ctx, uint64_t bytes, struct tck_memory *memory, uint64_t *handle)
{
    struct tcw_mem_alloc request = {.bytes = bytes};
    const struct tcw_mem_ready *ready;
    struct tcw_packet reply;
    int code = tcc_rpc_call(&ctx->rpc, TCW_MSG_MEM_ALLOC, &request, NULL, 0, TCW_MSG_MEM_READY, tcc_ctx_deadline(ctx), &reply);

    if (code)
        return code;
    ready = &reply.payload.MEM_READY;
    if (reply.fd_count != 1 || ready->bytes < bytes) {
        code = tcc_fail(TRTCOLL_EPROTO, "trtcolld answered a wish for %llu bytes with %llu bytes and %u descriptors",
                        (unsigned long long)bytes, (unsigned long long)ready->bytes, reply.fd_count);
    } else {
        code = tck_memory_import(tcc_gpu_device(atomic_load(&ctx->gpu)), reply.fds[0], ready->bytes, memory);
        if (code)
            code = tcc_fail(code, "memory of trtcolld could not be mapped: %s%s", trtcoll_error_text(code),
                            atomic_load(&ctx->gpu) ? "" : " (for memory of a GPU, join a group on it first)");
    }
    if (code) {
        tcw_packet_close_fds(&reply);
        tell_freed(ctx, ready->handle);
        return code;
    }
    /* The mapping keeps the memory alive; a descriptor less to count against the process' limit. */
    if (memory->fd >= 0)
        close(memory->fd);
    memory->fd = -1;
    *handle = ready->handle;
    return 0;
}

void tcc_daemon_memory_unmap(struct trtcoll_ctx *ctx, struct tck_memory *memory)
{
    if (!memory->device || !tcc_forked(ctx))
        tck_memory_release(memory);
}

void tcc_daemon_memory_put(struct trtcoll_ctx *ctx, struct tck_memory *memory, uint64_t handle)
{
    tell_freed(ctx, handle);
    tck_memory_release(memory);
}

int trtcoll_alloc(struct trtcoll_ctx *ctx, size_t bytes, void **pointer)
{
    struct tcc_range *range;
    int code = tcc_ctx_enter(ctx);

    if (code)
        return code;
    if (!bytes || !pointer)
        return tcc_fail_plainly(TRTCOLL_EINVAL, bytes ? "pointer is NULL" : "bytes is 0, at least 1 is needed");
    range = tcc_alloc(ctx, sizeof(*range));
    if (!range)
        return tcc_fail_code(TRTCOLL_ENOMEM, "trtcoll_alloc");
    code = tcc_daemon_memory_get(ctx, bytes, &range->memory, &range->handle);
    if (!code) {
        range->start = (uintptr_t)range->memory.base;
        range->bytes = range->memory.bytes;
        range->usable = true;
        code = insert(ctx, range);
        if (code) {
            tcc_daemon_memory_put(ctx, &range->memory, range->handle);
            code = tcc_fail_code(code, "trtcoll_alloc");
        }
    }
    if (code) {
        tcc_free(ctx, range);
        return code;
    }
    *pointer = range->memory.base;
    return 0;
}

int trtcoll_free(struct trtcoll_ctx *ctx, void *pointer)
{
    struct tcc_range *range = NULL;
    int code = tcc_ctx_enter(ctx);

    if (code)
        return code;
    settle(ctx, pointer);
    code = take_out(&ctx->memory, pointer, false, &range);
    if (code)
        return code;
    code = tell_freed(ctx, range->handle);
    tck_memory_release(&range->memory);
    tcc_free(ctx, range);
    return code;
}

/* Registration of a memfd. 0 with *handle set, or a code with the last error set. */
static int register_memfd(struct trtcoll_ctx *ctx, uint64_t bytes, int fd, uint64_t *handle)
{
    struct tcw_mem_register request = {.bytes = bytes};
    struct tcw_packet reply;
    int code = tcc_rpc_call(&ctx->rpc, TCW_MSG_MEM_REGISTER, &request, &fd, 1, TCW_MSG_MEM_READY, tcc_ctx_deadline(ctx), &reply);

    if (code)
        return code;
    tcw_packet_close_fds(&reply);
    *handle = reply.payload.MEM_READY.handle;
    return 0;
}

static int register_check(struct trtcoll_ctx *ctx, void *pointer, size_t bytes, int fd)
{
    const char *why = "";

    if (!pointer || !bytes || bytes > UINTPTR_MAX - (uintptr_t)pointer)
        return tcc_fail(TRTCOLL_EINVAL, "%p and %zu bytes are no range of memory", pointer, bytes);
    if (tcc_ctx_kind(ctx) == TCK_DEVICE_CUDA)
        return fd == -1 ? 0 : tcc_fail(TRTCOLL_EINVAL, "fd is %d: memory of GPUs is registered by its address, with fd -1", fd);
    if (tcw_memfd_check(fd, bytes, &why))
        return tcc_fail(TRTCOLL_EINVAL, "descriptor %d for %zu bytes: %s", fd, bytes, why);
    return 0;
}

int trtcoll_register(struct trtcoll_ctx *ctx, void *pointer, size_t bytes, int fd)
{
    struct tcc_range *range;
    uint64_t handle = 0;
    int code = tcc_ctx_enter(ctx);

    if (!code)
        code = register_check(ctx, pointer, bytes, fd);
    if (code)
        return code;
    range = tcc_alloc(ctx, sizeof(*range));
    if (!range)
        return tcc_fail_code(TRTCOLL_ENOMEM, "trtcoll_register");
    range->start = (uintptr_t)pointer;
    range->bytes = bytes;
    range->registered = true;
    range->memory.fd = -1;
    /* Entered before the daemon is asked, so that two threads cannot register the same memory. */
    code = insert(ctx, range);
    if (code == TRTCOLL_EEXIST)
        code = tcc_fail(code, "%p and %zu bytes overlap memory that this context knows already", pointer, bytes);
    else if (code)
        code = tcc_fail_code(code, "trtcoll_register");
    if (code) {
        tcc_free(ctx, range);
        return code;
    }
    code = fd < 0 ? tcc_share_register(ctx, pointer, bytes, &handle) : register_memfd(ctx, bytes, fd, &handle);
    if (code) {
        if (!take_out(&ctx->memory, pointer, true, &range))
            tcc_free(ctx, range);
        return code;
    }
    pthread_mutex_lock(&ctx->memory.lock);
    range->handle = handle;
    range->usable = true;
    pthread_mutex_unlock(&ctx->memory.lock);
    return 0;
}

int trtcoll_unregister(struct trtcoll_ctx *ctx, void *pointer)
{
    struct tcc_range *range = NULL;
    int code = tcc_ctx_enter(ctx);

    if (code)
        return code;
    settle(ctx, pointer);
    code = take_out(&ctx->memory, pointer, true, &range);
    if (code)
        return code;
    code = tell_freed(ctx, range->handle);
    tcc_free(ctx, range);
    return code;
}
