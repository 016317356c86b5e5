#include "context.h"

#include "args.h"
#include "address.h"
#include "clock.h"
#include "error.h"
#include "group.h"
#include "watcher.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DEFAULT_TIMEOUT_MS = 5000 };

static void *default_allocate(void *arg, size_t bytes)
{
    (void)arg;
    return malloc(bytes);
}

static void default_release(void *arg, void *pointer)
{
    (void)arg;
    free(pointer);
}

void *tcc_alloc(struct trtcoll_ctx *ctx, size_t bytes)
{
    void *pointer = ctx->allocator.allocate(ctx->allocator.arg, bytes);

    if (pointer)
        memset(pointer, 0, bytes);
    return pointer;
}

void tcc_free(struct trtcoll_ctx *ctx, void *pointer)
{
    if (pointer)
        ctx->allocator.release(ctx->allocator.arg, pointer);
}

int tcc_ctx_enter(const struct trtcoll_ctx *ctx)
{
    if (!ctx)
        return tcc_fail_plainly(TRTCOLL_EINVAL, "the context is NULL");
    if (tcc_forked(ctx))
        return tcc_fail_plainly(TRTCOLL_EFORK, "this context belongs to the parent process; open one in the child");
    return 0;
}

uint64_t tcc_ctx_deadline(const struct trtcoll_ctx *ctx)
{
    return tcc_deadline_after(tcw_now_ns(), ctx->timeout_ms);
}

void tcc_log(const struct trtcoll_ctx *ctx, int severity, const char *format, ...)
{
    char text[TCW_TEXT_BYTES + 128];
    va_list args;

    if (!ctx->log)
        return;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    ctx->log(ctx->log_arg, severity, text);
}

int tcc_ctx_command(struct trtcoll_ctx *ctx, unsigned opcode, const void *payload, uint64_t deadline_ns)
{
    struct tcw_packet reply;

    return tcc_rpc_call(&ctx->rpc, opcode, payload, NULL, 0, TCW_MSG_OK, deadline_ns, &reply);
}

/* Messages that no request waits for. */
static void announced(void *arg, const struct tcw_packet *packet)
{
    struct trtcoll_ctx *ctx = arg;

    switch (packet->header.opcode) {
    case TCW_MSG_GROUP_BROKEN:
        tcc_groups_announced(ctx, &packet->payload.GROUP_BROKEN);
        break;
    case TCW_MSG_DRAINING:
        tcc_log(ctx, TCC_LOG_WARNING, "trtcolld is draining: it takes no new groups and plans");
        break;
    case TCW_MSG_GOODBYE:
        tcc_log(ctx, TCC_LOG_WARNING, "trtcolld says goodbye: %s", packet->payload.GOODBYE.text);
        break;
    default:
        tcc_log(ctx, TCC_LOG_DEBUG, "announcement %s is not understood", tcw_message_name(packet->header.opcode));
        break;
    }
}

static int hello(struct trtcoll_ctx *ctx, const struct trtcoll_ctx_options *options, uint64_t deadline_ns)
{
    struct tcw_hello request = {.abi_min = TCW_ABI_MIN, .abi_max = TCW_ABI_MAX, .features = TCW_FEATURES_KNOWN, .device = options->device};
    const struct tcw_hello_ok *ok;
    struct tcw_packet reply;
    int code;

    tcw_text_set(request.name, sizeof(request.name), options->name ? options->name : program_invocation_short_name);
    code = tcc_rpc_call(&ctx->rpc, TCW_MSG_HELLO, &request, NULL, 0, TCW_MSG_HELLO_OK, deadline_ns, &reply);
    if (code)
        return code;
    ok = &reply.payload.HELLO_OK;
    if (ok->abi < TCW_ABI_MIN || ok->abi > TCW_ABI_MAX)
        return tcc_fail(TRTCOLL_EABI, "trtcolld %s speaks ABI %u, this library %u to %u", ok->version, ok->abi, TCW_ABI_MIN, TCW_ABI_MAX);
    if (ok->features & ~(uint64_t)TCW_FEATURES_KNOWN)
        return tcc_fail(TRTCOLL_EABI, "trtcolld %s insists on features (0x%llx) that this library does not know", ok->version,
                        (unsigned long long)ok->features);
    ctx->limits = *ok;
    ctx->rpc.generation = ok->generation;
    atomic_store_explicit(&ctx->device, ok->device, memory_order_relaxed);
    return 0;
}

static int options_read(const struct trtcoll_ctx_options *user, struct trtcoll_ctx_options *options)
{
    static const struct trtcoll_ctx_options defaults = TRTCOLL_CTX_OPTIONS_INIT;
    int code = tcc_args_in("options", user ? user : &defaults, options, sizeof(*options));

    if (code)
        return code;
    if (options->device < -1)
        return tcc_fail(TRTCOLL_EINVAL, "options.device is %d, allowed: -1 (any) or a device number", options->device);
    if (options->watch > 1)
        return tcc_fail(TRTCOLL_EINVAL, "options.watch is %u, allowed: 0 or 1", options->watch);
    if (options->allocator && (!options->allocator->allocate || !options->allocator->release))
        return tcc_fail_plainly(TRTCOLL_EINVAL, "options.allocator needs both allocate and release");
    if (!options->timeout_ms)
        options->timeout_ms = DEFAULT_TIMEOUT_MS;
    return 0;
}

static struct trtcoll_ctx *new_ctx(const struct trtcoll_ctx_options *options)
{
    struct trtcoll_allocator allocator = {default_allocate, default_release, NULL};
    struct trtcoll_ctx *ctx;

    if (options->allocator)
        allocator = *options->allocator;
    ctx = allocator.allocate(allocator.arg, sizeof(*ctx));
    if (!ctx)
        return NULL;
    memset(ctx, 0, sizeof(*ctx));
    ctx->allocator = allocator;
    ctx->log = options->log;
    ctx->log_arg = options->log_arg;
    ctx->timeout_ms = options->timeout_ms;
    if (pthread_mutex_init(&ctx->lock, NULL))
        goto no_lock;
    if (tcc_memory_create(&ctx->memory))
        goto no_memory;
    if (tcc_staging_create(&ctx->staging))
        goto no_staging;
    if (tcc_event_pool_create(&ctx->events))
        goto no_events;
    if (pthread_mutex_init(&ctx->gpu_lock, NULL))
        goto no_gpu;
    tcc_fork_mark_create(&ctx->fork_mark);
    return ctx;

no_gpu:
    tcc_event_pool_destroy(ctx);
no_events:
    tcc_staging_destroy(ctx);
no_staging:
    tcc_memory_destroy(ctx);
no_memory:
    pthread_mutex_destroy(&ctx->lock);
no_lock:
    tcc_free(ctx, ctx);
    return NULL;
}

/* Everything local but the connection. */
static void free_ctx(struct trtcoll_ctx *ctx)
{
    struct trtcoll_allocator allocator = ctx->allocator;

    /* Events let go of memberships, streams finish with those, and then nothing of the GPU is in use any more. */
    tcc_event_pool_destroy(ctx);
    tcc_staging_destroy(ctx);
    tcc_memory_destroy(ctx);
    if (!tcc_forked(ctx))
        tcc_gpu_close(ctx);
    pthread_mutex_destroy(&ctx->gpu_lock);
    pthread_mutex_destroy(&ctx->lock);
    tcc_fork_mark_destroy(&ctx->fork_mark);
    allocator.release(allocator.arg, ctx);
}

int trtcoll_ctx_open(const struct trtcoll_ctx_options *user, struct trtcoll_ctx **result)
{
    struct trtcoll_ctx_options options;
    struct trtcoll_ctx *ctx;
    uint64_t deadline_ns;
    int code, fd;

    if (!result)
        return tcc_fail_plainly(TRTCOLL_EINVAL, "ctx is NULL: there is nowhere to put the result");
    code = options_read(user, &options);
    if (code)
        return code;
    deadline_ns = tcc_deadline_after(tcw_now_ns(), options.timeout_ms);
    ctx = new_ctx(&options);
    if (!ctx)
        return tcc_fail_code(TRTCOLL_ENOMEM, "context");
    fd = tcc_address_connect(options.socket_path, deadline_ns);
    if (fd < 0) {
        free_ctx(ctx);
        return fd;
    }
    if (tcc_rpc_create(&ctx->rpc, fd, announced, ctx)) {
        close(fd);
        free_ctx(ctx);
        return tcc_fail_code(TRTCOLL_ENOMEM, "context");
    }
    code = hello(ctx, &options, deadline_ns);
    if (code) {
        tcc_rpc_destroy(&ctx->rpc, false);
        free_ctx(ctx);
        return code;
    }
    if (options.watch)
        code = tcc_watcher_start(ctx);
    if (code) {
        trtcoll_ctx_close(ctx);
        return code;
    }
    tcc_log(ctx, TCC_LOG_INFO, "attached to trtcolld %s as client %llu", ctx->limits.version, (unsigned long long)ctx->limits.client_id);
    *result = ctx;
    return 0;
}

void trtcoll_ctx_close(struct trtcoll_ctx *ctx)
{
    if (!ctx)
        return;
    tcc_watcher_stop(ctx);
    tcc_groups_end(ctx, tcc_forked(ctx));
    tcc_rpc_destroy(&ctx->rpc, tcc_forked(ctx));
    free_ctx(ctx);
}

int trtcoll_ctx_info(struct trtcoll_ctx *ctx, struct trtcoll_ctx_info *user)
{
    struct trtcoll_ctx_info info = {0};
    struct tcc_gpu *gpu;
    int code = tcc_ctx_enter(ctx);

    if (code)
        return code;
    tcc_rpc_pump(&ctx->rpc);
    info.device = atomic_load_explicit(&ctx->device, memory_order_relaxed);
    info.client_id = ctx->limits.client_id;
    info.daemon_generation = ctx->limits.generation;
    info.max_groups = ctx->limits.max_groups;
    info.max_plans = ctx->limits.max_plans;
    info.max_in_flight = ctx->limits.max_in_flight;
    info.connected = !tcc_rpc_gone(&ctx->rpc);
    info.max_bytes = ctx->limits.max_bytes;
    tcw_text_set(info.daemon_version, sizeof(info.daemon_version), ctx->limits.version);
    gpu = atomic_load_explicit(&ctx->gpu, memory_order_acquire);
    if (gpu) {
        info.device_kind = TRTCOLL_DEVICE_CUDA;
        memcpy(info.device_uuid, tcc_gpu_uuid(gpu), sizeof(info.device_uuid));
    }
    return tcc_args_out("info", &info, sizeof(info), user);
}
