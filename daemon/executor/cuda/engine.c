/* CUDA devices: opens the GPU and NCCL, keeps the communicators, and hands what belongs to one attachment to its lane. */
#include "../engine.h"

#include "ahead.h"
#include "communicator.h"
#include "lane.h"
#include "memory.h"
#include "multicast.h"
#include "operations.h"

#include <tck/cuda_comm.h>
#include <tck/cuda_driver.h>

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct tcd_cuda_engine {
    struct tcd_ex_engine engine; /* first: one is the other */
    bool has_library;
    char library_why[96];
    struct tcd_cuda_communicator *communicators;
};

static struct tcd_cuda_engine *own(struct tcd_ex_engine *engine)
{
    return (struct tcd_cuda_engine *)engine;
}

/* ---- communicators ---- */

static struct tcd_cuda_communicator **find(struct tcd_cuda_engine *engine, uint64_t id)
{
    struct tcd_cuda_communicator **at = &engine->communicators;
    while (*at && ((*at)->id != id || (*at)->leaving))
        at = &(*at)->next;
    return at;
}

struct order {
    struct tcd_ex_engine *engine;
    struct tcd_ex_letter *letter;
};

static void make_unique_id(void *arg)
{
    struct order *order = arg;
    struct tcd_ex_engine *engine = order->engine;
    struct tcd_ex_message *answer = &order->letter->message;
    answer->code = tck_cuda_enter(engine->device);
    if (answer->code == 0) {
        answer->code = tcd_library_unique_id(answer->blob, answer->text);
        tck_cuda_leave(engine->device);
    }
    tcd_ex_mailbox_post(engine->mailbox, order->letter);
    free(order);
}

/* A context's first kernel takes long, and waits for all that runs: better now than when somebody waits for a client there. */
static int launch_first(struct tck_device *device)
{
    const struct tck_cuda_driver *driver = tck_cuda_driver();
    struct tck_memory memory;
    CUstream stream;
    int rc = tck_memory_create(device, "trtcoll-first", 4096, &memory);
    if (rc < 0)
        return rc;
    CUresult result = driver->cuStreamCreateWithPriority(&stream, CU_STREAM_NON_BLOCKING, 0);
    rc = tck_cuda_code(result);
    if (rc == 0) {
        rc = tck_cuda_warm_up(device, memory.base, stream);
        result = driver->cuStreamSynchronize(stream);
        if (rc == 0)
            rc = tck_cuda_code(result);
        driver->cuStreamDestroy(stream);
    }
    tck_memory_release(&memory);
    return rc;
}

static void warm_up(void *arg)
{
    struct order *order = arg;
    struct tcd_ex_engine *engine = order->engine;
    struct tcd_ex_message *report = &order->letter->message;
    report->code = tck_cuda_enter(engine->device);
    if (report->code == 0) {
        report->code = launch_first(engine->device);
        if (report->code < 0)
            snprintf(report->text, sizeof report->text, "our kernels cannot be launched: %s", tcw_error_text(report->code));
        else
            report->code = tcd_library_warm_up(report->text);
        tck_cuda_leave(engine->device);
    }
    tcd_library_set_warming(false);
    report->opcode = TCD_EX_FAULT;
    if (report->code < 0)
        tcd_ex_mailbox_post(engine->mailbox, order->letter);
    else
        free(order->letter);
    free(order);
}

/* In a thread: the library looks at all network interfaces first. */
static int start(struct tcd_ex_engine *engine, const struct tcd_ex_message *message, const char *what, void (*work)(void *arg))
{
    struct order *order = calloc(1, sizeof *order);
    struct tcd_ex_letter *letter = tcd_ex_letter_answer(message);
    if (!order || !letter) {
        free(order);
        free(letter);
        return TCW_ENOMEM;
    }
    *order = (struct order){engine, letter};
    tcd_ex_chores_start(engine->chores, what, TCD_EX_PATIENT, work, order);
    return TCD_EX_LATER;
}

static int begin_warm_up(struct tcd_ex_engine *engine, const struct tcd_ex_message *message)
{
    tcd_library_set_warming(true);
    int rc = start(engine, message, "NCCL, making ready,", warm_up);
    if (rc < 0)
        tcd_library_set_warming(false);
    return rc;
}

static int begin(struct tcd_cuda_engine *engine, const struct tcd_ex_message *message, const int *fds, unsigned fd_count, char *text)
{
    struct tcd_cuda_communicator *communicator;
    if (fd_count != 1 || !message->communicator || *find(engine, message->communicator)) {
        snprintf(text, TCW_TEXT_BYTES, "%u descriptors instead of 1, or the id is in use", fd_count);
        return TCW_EINVAL;
    }
    int rc = tcd_cuda_communicator_create(&engine->engine, message, fds[0], &communicator, text);
    if (rc < 0)
        return rc;
    communicator->next = engine->communicators;
    engine->communicators = communicator;
    return TCD_EX_LATER;
}

static void forget(struct tcd_cuda_engine *engine, struct tcd_cuda_communicator *communicator)
{
    struct tcd_cuda_communicator **at = &engine->communicators;
    while (*at != communicator)
        at = &(*at)->next;
    *at = communicator->next;
    tcd_cuda_communicator_drop(communicator, communicator->drop_cookie);
}

static int drop(struct tcd_cuda_engine *engine, const struct tcd_ex_message *message)
{
    struct tcd_cuda_communicator *communicator = *find(engine, message->communicator);
    if (!communicator)
        return TCW_ENOENT;
    communicator->drop_cookie = message->cookie;
    communicator->leaving = true;
    atomic_store_explicit(&communicator->cancelled, true, memory_order_release); /* what runs there ends: see lanes */
    if (!communicator->lanes)
        forget(engine, communicator);
    return TCD_EX_LATER;
}

static int handle(struct tcd_ex_engine *engine, struct tcd_ex_message *message, int *fds, unsigned fd_count, char *text)
{
    if (!own(engine)->has_library) {
        snprintf(text, TCW_TEXT_BYTES, "no NCCL: %s", own(engine)->library_why);
        return TCW_ENOTSUP;
    }
    switch (message->opcode) {
    case TCD_EX_UNIQUE_ID:
        return start(engine, message, "NCCL, making a unique id,", make_unique_id);
    case TCD_EX_LIBRARY:
        return begin_warm_up(engine, message);
    case TCD_EX_COMM:
        return begin(own(engine), message, fds, fd_count, text);
    default: /* COMM_DROP */
        return drop(own(engine), message);
    }
}

/* ---- attachments ---- */

static int attach(struct tcd_ex_attachment *attachment, const struct tcd_ex_message *message, const int *fds, char *text)
{
    struct tcd_cuda_communicator *communicator = *find(own(attachment->engine), message->communicator);
    bool usable = communicator && atomic_load_explicit(&communicator->state, memory_order_acquire) == TCD_COMMUNICATOR_USABLE;
    if (!usable || communicator->rank != message->rank || communicator->nranks != message->nranks) {
        snprintf(text, TCW_TEXT_BYTES, "communicator %llu is not there, not usable, or of another size",
                 (unsigned long long)message->communicator);
        return TCW_ENOENT;
    }
    return tcd_cuda_lane_attach(attachment, fds[0], communicator, text);
}

static void detach(struct tcd_ex_attachment *attachment)
{
    struct tcd_cuda_communicator *communicator = attachment->cuda ? attachment->cuda->communicator : NULL;
    tcd_cuda_lane_detach(attachment);
    if (communicator && communicator->leaving && !communicator->lanes)
        forget(own(attachment->engine), communicator);
}

static int workspace_open(struct tcd_ex_attachment *attachment, struct tcd_ex_workspace *workspace, char *text)
{
    void *bases[TCK_CUDA_MAX_RANKS];
    const struct tcd_cuda_lane *lane = attachment->cuda;
    if (attachment->nranks > TCK_CUDA_MAX_RANKS) {
        snprintf(text, TCW_TEXT_BYTES, "our kernels serve up to %d ranks", TCK_CUDA_MAX_RANKS);
        return TCW_ENOTSUP;
    }
    for (uint32_t i = 0; i < attachment->nranks; ++i)
        bases[i] = workspace->ranks[i].base;
    const struct tck_cuda_comm_params params = {
        .device = attachment->engine->device,
        .rank = attachment->rank,
        .nranks = attachment->nranks,
        .workspaces = bases,
        .workspace_bytes = workspace->bytes,
        .abort_word = lane->own_address + offsetof(struct tcd_cuda_own, abort_word),
        .deadline_ns = lane->page + offsetof(struct tcw_member_page, deadline_ns),
        .progress = lane->page + offsetof(struct tcw_member_page, device),
    };
    return tck_cuda_comm_create(&params, &workspace->cuda);
}

static void workspace_close(struct tcd_ex_workspace *workspace)
{
    if (workspace->cuda)
        tck_cuda_comm_destroy(workspace->cuda);
}

static int check_step(const struct tcd_ex_attachment *attachment, const struct tcd_ex_plan *plan, uint32_t strategy, char *text)
{
    const struct tcd_cuda_communicator *communicator = attachment->cuda->communicator;
    if (!tcd_cuda_operation_is_library(&plan->desc, strategy) && !plan->workspace) {
        snprintf(text, TCW_TEXT_BYTES, "strategy %s needs a workspace", tcw_strategy_name(strategy));
        return TCW_EINVAL;
    }
    if (plan->desc.op == TCW_OP_ALL_REDUCE && strategy == TCW_STRATEGY_NCCL_SYMMETRIC && !communicator->window) {
        snprintf(text, TCW_TEXT_BYTES, "NCCL_SYMMETRIC is not available: %.200s", communicator->window_why);
        return TCW_ENOTSUP;
    }
    return 0;
}

static int plan(struct tcd_ex_attachment *attachment, struct tcd_ex_plan *plan, char *text)
{
    for (uint32_t i = 0; i < plan->decision.step_count; ++i) {
        int rc = check_step(attachment, plan, plan->decision.steps[i].strategy, text);
        if (rc < 0)
            return rc;
    }
    uint64_t bytes = tcd_cuda_operation_scratch(&plan->desc, &plan->decision, plan->nranks);
    int rc = tcd_cuda_communicator_reserve(attachment->cuda->communicator, bytes, &plan->scratch);
    if (rc < 0)
        snprintf(text, TCW_TEXT_BYTES, "%llu bytes for steps in between: %s", (unsigned long long)bytes, tcw_error_text(rc));
    return rc;
}

/* ---- the process ---- */

static int format(struct tcd_ex_engine *engine, void *base, uint64_t bytes)
{
    return tck_cuda_workspace_format(engine->device, base, bytes);
}

/* A stream that has not ended all that was launched may be waiting for inputs, or for peers who wait for theirs. */
static bool waits(struct tcd_ex_engine *engine, const void *of)
{
    for (const struct tcd_cuda_communicator *communicator = own(engine)->communicators; communicator; communicator = communicator->next)
        if (communicator != of && atomic_load(&communicator->tickets) > tcd_cuda_communicator_ended(communicator))
            return true;
    return false;
}

static void stop(struct tcd_ex_engine *engine)
{
    for (struct tcd_cuda_communicator *communicator = own(engine)->communicators; communicator; communicator = communicator->next)
        if (atomic_load(&communicator->state) == TCD_COMMUNICATOR_CONNECTING)
            atomic_store(&communicator->cancelled, true);
}

static void close_engine(struct tcd_ex_engine *engine)
{
    while (own(engine)->communicators) {
        struct tcd_cuda_communicator *communicator = own(engine)->communicators;
        own(engine)->communicators = communicator->next;
        tcd_cuda_communicator_destroy(communicator);
    }
    tck_device_close(engine->device);
    free(engine);
}

static const struct tcd_ex_engine_ops cuda_ops = {
    .attach_fds = 5,
    .close = close_engine,
    .stop = stop,
    .waits = waits,
    .handle = handle,
    .memory_open = tcd_cuda_memory_open,
    .memory_close = tcd_cuda_memory_close,
    .attach = attach,
    .detach = detach,
    .workspace_open = workspace_open,
    .workspace_close = workspace_close,
    .plan = plan,
    .format = format,
    .multicast = tcd_cuda_multicast,
    .begin = tcd_cuda_lane_begin,
    .end = tcd_cuda_lane_end,
    .run = tcd_cuda_lane_run,
    .answer = tcd_cuda_lane_answer,
    .progress = tcd_cuda_lane_progress,
    .await = tcd_cuda_ahead_await,
    .capture = tcd_cuda_captured_add,
    .uncapture = tcd_cuda_captured_remove,
    .replay = tcd_cuda_captured_poll,
    .expects_replays = tcd_cuda_captured_expected,
};

/* "GPU-01234567-89ab-..." or the digits alone; false: it is no uuid. */
static bool parse_uuid(const char *name, unsigned char uuid[TCK_UUID_BYTES])
{
    unsigned digits = 0;
    if (!strncmp(name, "GPU-", 4))
        name += 4;
    for (; *name; ++name) {
        if (*name == '-')
            continue;
        if (!isxdigit((unsigned char)*name) || digits == 2 * TCK_UUID_BYTES)
            return false;
        unsigned value = isdigit((unsigned char)*name) ? (unsigned)(*name - '0') : (unsigned)(tolower((unsigned char)*name) - 'a' + 10);
        uuid[digits / 2] = (unsigned char)(digits % 2 ? uuid[digits / 2] << 4 | value : value);
        ++digits;
    }
    return digits == 2 * TCK_UUID_BYTES;
}

static int open_device(const char *name, struct tck_device **device, char *text)
{
    unsigned char uuid[TCK_UUID_BYTES];
    char *end = NULL;
    if (parse_uuid(name, uuid))
        return tck_device_open(uuid, -1, device, text, TCW_TEXT_BYTES);
    long ordinal = strtol(name, &end, 10);
    if (!*name || *end || ordinal < 0 || ordinal > 1024) {
        snprintf(text, TCW_TEXT_BYTES, "\"%.64s\" is neither the uuid nor the ordinal of a GPU", name);
        return TCW_EINVAL;
    }
    return tck_device_open(NULL, (int)ordinal, device, text, TCW_TEXT_BYTES);
}

int tcd_ex_cuda_engine(const char *name, struct tcd_ex_engine **out, struct tcd_ex_facts *facts, char *text)
{
    struct tcd_cuda_engine *engine = calloc(1, sizeof *engine);
    if (!engine)
        return TCW_ENOMEM;
    engine->engine.ops = &cuda_ops;
    /*
     * Kernels that are loaded when they are first launched make the driver wait for everything that runs, and what runs here may be waiting
     * for a client.
     */
    setenv("CUDA_MODULE_LOADING", "EAGER", 0);
    int rc = open_device(name, &engine->engine.device, text);
    if (rc == 0) {
        facts->device = *tck_device_facts(engine->engine.device);
        facts->peer_count = tck_device_peers(engine->engine.device, facts->peers, TCD_EX_PEERS);
        if (!facts->device.stream_words) {
            snprintf(text, TCW_TEXT_BYTES, "%s has no 64-bit stream memory operations", facts->device.name);
            tck_device_close(engine->engine.device);
            rc = TCW_ENOTSUP;
        }
    }
    if (rc < 0) {
        free(engine);
        return rc;
    }
    engine->has_library = tcd_library_open(&facts->library, facts->library_why, sizeof facts->library_why) == 0;
    memcpy(engine->library_why, facts->library_why, sizeof engine->library_why);
    *out = &engine->engine;
    return 0;
}
