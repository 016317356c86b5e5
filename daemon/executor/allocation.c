#include "allocation.h"

#include <tck/memory.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

struct allocation {
    uint64_t bytes;
    uint64_t delay_ns; /* RECLAIM */
    int fd;            /* RECLAIM */
    bool workspace;
    struct tcd_ex_engine *engine;
    struct tcd_ex_letter *letter; /* the answer, made beforehand */
};

static void finish(struct allocation *allocation)
{
    tcd_ex_mailbox_post(allocation->engine->mailbox, allocation->letter);
    free(allocation);
}

static void allocate(void *arg)
{
    struct allocation *allocation = arg;
    struct tcd_ex_letter *letter = allocation->letter;
    struct tcd_ex_engine *engine = allocation->engine;
    struct tck_memory memory = {.fd = -1};
    int rc = allocation->bytes ? tck_memory_create(engine->device, "trtcoll", allocation->bytes, &memory) : TCW_EINVAL;
    if (rc == 0 && allocation->workspace && engine->ops->format) {
        rc = engine->ops->format(engine, memory.base, memory.bytes);
        if (rc < 0)
            tck_memory_release(&memory);
    }
    letter->message.opcode = rc < 0 ? TCD_EX_DONE : TCD_EX_ALLOCATED;
    letter->message.code = rc;
    if (rc == 0) {
        letter->message.value = memory.bytes;
        letter->fd = memory.fd; /* sent and closed */
        memory.fd = -1;
        tck_memory_release(&memory);
    } else {
        snprintf(letter->message.text, sizeof letter->message.text, "%llu bytes cannot be allocated: %s",
                 (unsigned long long)allocation->bytes, tcw_error_text(rc));
    }
    finish(allocation);
}

static void reclaim(void *arg)
{
    struct allocation *allocation = arg;
    bool host = !allocation->engine->device;
    struct timespec delay = {.tv_sec = (time_t)(allocation->delay_ns / 1000000000u), .tv_nsec = (long)(allocation->delay_ns % 1000000000u)};
    nanosleep(&delay, NULL);
    if (host && fallocate(allocation->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, (off_t)allocation->bytes))
        allocation->letter->message.code = TCW_EIO;
    close(allocation->fd);
    finish(allocation);
}

/* Takes what *order says; the answer is for `message`. */
static int start(const struct allocation *order, const struct tcd_ex_message *message, const char *what, void (*work)(void *arg))
{
    struct allocation *allocation = calloc(1, sizeof *allocation);
    struct tcd_ex_letter *letter = tcd_ex_letter_answer(message);
    if (!allocation || !letter) {
        free(allocation);
        free(letter);
        return TCW_ENOMEM;
    }
    *allocation = *order;
    allocation->letter = letter;
    /* Clearing pages takes its time: at the slowest, a beat for every 256 MiB. */
    unsigned limit = TCD_EX_PATIENT + (unsigned)(order->bytes >> 28 & 0xfffff) + (unsigned)(order->delay_ns / 1000000000u);
    tcd_ex_chores_start(order->engine->chores, what, limit, work, allocation);
    return 0;
}

int tcd_ex_allocation_start(const struct tcd_ex_message *message, struct tcd_ex_engine *engine)
{
    const struct allocation order = {.bytes = message->value, .fd = -1, .workspace = message->workspace_generation != 0, .engine = engine};
    return start(&order, message, "making memory", allocate);
}

int tcd_ex_reclaim_start(const struct tcd_ex_message *message, int fd, struct tcd_ex_engine *engine)
{
    const struct allocation order = {.bytes = message->value, .delay_ns = message->deadline_ns, .fd = fd, .engine = engine};
    return start(&order, message, "taking memory back", reclaim);
}

/* ---- multicast objects ---- */

struct multicast {
    struct tcd_ex_message message;
    int fds[2];
    struct tcd_ex_engine *engine;
    struct tcd_ex_letter *letter;
};

static void multicast(void *arg)
{
    struct multicast *order = arg;
    struct tcd_ex_letter *letter = order->letter;
    int object = -1;
    letter->message.code = order->engine->ops->multicast(order->engine, &order->message, order->fds, &object, letter->message.text);
    if (object >= 0) {
        letter->message.opcode = TCD_EX_ALLOCATED;
        letter->fd = object; /* sent and closed */
    }
    for (unsigned i = 0; i < 2; ++i)
        if (order->fds[i] >= 0)
            close(order->fds[i]);
    tcd_ex_mailbox_post(order->engine->mailbox, letter);
    free(order);
}

int tcd_ex_multicast_start(const struct tcd_ex_message *message, int *fds, unsigned fd_count, struct tcd_ex_engine *engine)
{
    unsigned wanted = message->opcode - TCD_EX_MULTICAST; /* none, the object, and the workspace */
    if (!engine->ops->multicast || fd_count != wanted)
        return TCW_ENOTSUP;
    struct multicast *order = calloc(1, sizeof *order);
    struct tcd_ex_letter *letter = tcd_ex_letter_answer(message);
    if (!order || !letter) {
        free(order);
        free(letter);
        return TCW_ENOMEM;
    }
    *order = (struct multicast){.message = *message, .fds = {-1, -1}, .engine = engine, .letter = letter};
    for (unsigned i = 0; i < fd_count; ++i) {
        order->fds[i] = fds[i];
        fds[i] = -1;
    }
    tcd_ex_chores_start(engine->chores, "a multicast object", TCD_EX_PATIENT, multicast, order);
    return 0;
}
