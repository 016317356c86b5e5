#include "communicator.h"

#include "../mailbox.h"

#include <tck/cuda_comm.h>
#include <tcw/channel.h>
#include <tcw/member.h>

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum {
    CONNECT_S = 60,             /* if the control process does not say */
    POLL_NS = 500000,           /* while connecting */
    LOCK_S = 2,                 /* the longest that an enqueueing call may take when the communicator is to be ended */
    WINDOW_HALF = 16 << 20,     /* longer messages go in several pieces */
    SMALLEST_SCRATCH = 2 << 20, /* a granule */
};

/* ---- connecting ---- */

static void nap(void)
{
    const struct timespec time = {.tv_nsec = POLL_NS};
    nanosleep(&time, NULL);
}

/* Whether to go on waiting: 0, or why not. */
static int check_patience(const struct tcd_cuda_communicator *communicator, uint64_t until_ns, char *text)
{
    if (atomic_load(&communicator->cancelled)) {
        snprintf(text, TCW_TEXT_BYTES, "dropped while it was connecting");
        return TCW_EABORTED;
    }
    if (tcw_now_ns() < until_ns)
        return 0;
    snprintf(text, TCW_TEXT_BYTES, "rank %u has not connected to its %u peers in time", communicator->rank, communicator->nranks - 1);
    return TCW_ETIMEOUT;
}

/* Until what the library was last told has been done. */
static int settle(struct tcd_cuda_communicator *communicator, uint64_t until_ns, char *text)
{
    for (;;) {
        int rc = tcd_library_state(communicator->library, text);
        if (rc != TCW_EAGAIN)
            return rc;
        rc = check_patience(communicator, until_ns, text);
        if (rc < 0)
            return rc;
        nap();
    }
}

/* One sum across all ranks: what connects late connects now, and what does not work shows before anybody depends on it. */
static int warm_up(struct tcd_cuda_communicator *communicator, uint64_t until_ns, char *text)
{
    unsigned char *small = communicator->small.base;
    CUstream stream = communicator->sides.streams[0];
    int rc = tck_cuda_warm_up(communicator->engine->device, small, stream);
    if (rc < 0) {
        snprintf(text, TCW_TEXT_BYTES, "our kernels cannot be launched: %s", tcw_error_text(rc));
        return rc;
    }
    rc = tcd_library_all_reduce(communicator->library, small, small, 1, TCW_INT32, TCW_SUM, stream, text);
    if (rc == 0)
        rc = settle(communicator, until_ns, text);
    while (rc == 0) {
        CUresult result = tck_cuda_driver()->cuStreamQuery(stream);
        if (result == CUDA_SUCCESS)
            break;
        if (result != CUDA_ERROR_NOT_READY) {
            tck_cuda_text(result, text, TCW_TEXT_BYTES);
            return tck_cuda_code(result);
        }
        rc = check_patience(communicator, until_ns, text);
        nap();
    }
    return rc;
}

/*
 * Not every machine can do it: then plans that ask for it are refused, and nothing else suffers. That all ranks must agree on; one that has
 * no memory has no communicator.
 */
static int open_window(struct tcd_cuda_communicator *communicator, uint64_t until_ns, char *text)
{
    char *why = communicator->window_why;
    void *base = NULL;
    int rc = tcd_library_memory(2 * WINDOW_HALF, &base, text);
    if (rc < 0)
        return rc;
    if (tcd_library_window(communicator->library, base, 2 * WINDOW_HALF, &communicator->registration, why) == 0) {
        rc = settle(communicator, until_ns, text);
        if (rc == 0 && !communicator->registration)
            snprintf(why, TCW_TEXT_BYTES, "NCCL makes no window of memory that not all ranks can reach");
    }
    if (rc < 0 || !communicator->registration) {
        tcd_library_memory_free(base);
        return rc;
    }
    communicator->window = base;
    communicator->window_bytes = WINDOW_HALF;
    return 0;
}

static int make_streams(struct tcd_cuda_communicator *communicator, char *text)
{
    CUresult result = tcd_cuda_sides_open(&communicator->sides);
    if (result != CUDA_SUCCESS)
        tck_cuda_text(result, text, TCW_TEXT_BYTES);
    return tck_cuda_code(result);
}

/* The process may still be at what it does once. */
static int await_library(const struct tcd_cuda_communicator *communicator, uint64_t until_ns, char *text)
{
    int rc = 0;
    while (rc == 0 && tcd_library_is_warming()) {
        nap();
        rc = check_patience(communicator, until_ns, text);
    }
    return rc;
}

/* Peers may never come: so this part can be cancelled at any time. */
static int connect_all(struct tcd_cuda_communicator *communicator, const unsigned char *blob, uint64_t until_ns, char *text)
{
    int rc = tcd_library_begin(blob, communicator->rank, communicator->nranks, &communicator->library, text);
    if (rc == 0)
        rc = settle(communicator, until_ns, text);
    return rc;
}

static int derive(struct tcd_cuda_communicator *communicator, uint64_t until_ns, char *text)
{
    int rc = tcd_library_derive(communicator->library, communicator->rank, text);
    if (rc == 0)
        rc = settle(communicator, until_ns, text);
    return rc;
}

static unsigned ms_since(uint64_t *since_ns)
{
    uint64_t now_ns = tcw_now_ns(), from_ns = *since_ns;
    *since_ns = now_ns;
    return (unsigned)((now_ns - from_ns) / 1000000);
}

/* In `text`: why not, or how long it took. */
static int set_up(struct tcd_cuda_communicator *communicator, const unsigned char *blob, uint64_t until_ns, char *text)
{
    struct tcd_ex_engine *engine = communicator->engine;
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE), at_ns = tcw_now_ns();
    unsigned waited = 0, connected = 0, derived = 0, summed = 0;
    int rc = make_streams(communicator, text);
    if (rc == 0)
        rc = tck_cuda_register_host(engine->device, communicator->ended, page, &communicator->ended_address);
    if (rc == 0)
        rc = tck_memory_create(engine->device, "trtcoll-small", SMALLEST_SCRATCH, &communicator->small);
    if (rc == 0)
        rc = await_library(communicator, until_ns, text);
    waited = ms_since(&at_ns);
    if (rc == 0)
        rc = connect_all(communicator, blob, until_ns, text);
    connected = ms_since(&at_ns);
    if (rc == 0)
        rc = derive(communicator, until_ns, text);
    derived = ms_since(&at_ns);
    if (rc == 0)
        rc = warm_up(communicator, until_ns, text);
    summed = ms_since(&at_ns);
    if (rc == 0)
        rc = open_window(communicator, until_ns, text);
    if (rc == 0)
        snprintf(text, TCW_TEXT_BYTES, "ready to connect after %u ms, connected %u, derived %u, first sum %u, window %u", waited, connected,
                 derived, summed, ms_since(&at_ns));
    return rc;
}

struct order {
    struct tcd_cuda_communicator *communicator;
    struct tcd_ex_letter *letter; /* the answer */
    uint64_t until_ns;
    unsigned char blob[TCD_EX_BLOB_BYTES];
};

/* Of the device, 0 if it does not say. */
static uint64_t free_bytes(void)
{
    size_t left = 0, all;
    return tck_cuda_driver()->cuMemGetInfo(&left, &all) == CUDA_SUCCESS ? left : 0;
}

static void connect_in_thread(void *arg)
{
    struct order *order = arg;
    struct tcd_cuda_communicator *communicator = order->communicator;
    struct tcd_ex_engine *engine = communicator->engine;
    struct tcd_ex_message *answer = &order->letter->message;
    int rc = tck_cuda_enter(engine->device);
    if (rc == 0) {
        uint64_t before = free_bytes();
        rc = set_up(communicator, order->blob, order->until_ns, answer->text);
        uint64_t after = free_bytes();
        answer->value = after && after < before ? before - after : 0; /* and what others took or gave back meanwhile */
        tck_cuda_leave(engine->device);
    }
    answer->code = rc;
    if (rc < 0 && !answer->text[0])
        snprintf(answer->text, sizeof answer->text, "%s", tcw_error_text(rc));
    atomic_store_explicit(&communicator->state, rc < 0 ? TCD_COMMUNICATOR_BROKEN : TCD_COMMUNICATOR_USABLE, memory_order_release);
    tcd_ex_mailbox_post(engine->mailbox, order->letter);
    free(order);
    atomic_store(&communicator->connecting, false);
}

static int map_log(struct tcd_cuda_communicator *communicator, int fd, char *text)
{
    const char *why = "cannot be mapped";
    void *base = MAP_FAILED;
    if (tcw_memfd_check(fd, sizeof(struct tcd_order_log), &why) == 0)
        base = mmap(NULL, sizeof(struct tcd_order_log), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (base == MAP_FAILED) {
        snprintf(text, TCW_TEXT_BYTES, "the order log: %s", why);
        return TCW_EINVAL;
    }
    communicator->log = base;
    return 0;
}

static void release(struct tcd_cuda_communicator *communicator)
{
    if (communicator->log)
        munmap(communicator->log, sizeof *communicator->log);
    if (communicator->ended)
        munmap((void *)communicator->ended, (size_t)sysconf(_SC_PAGESIZE));
    pthread_mutex_destroy(&communicator->lock);
    free(communicator->fault);
    free(communicator);
}

static struct tcd_ex_letter *prepare_answer(const struct tcd_cuda_communicator *communicator, uint64_t cookie)
{
    struct tcd_ex_letter *letter = tcd_ex_letter_create();
    if (!letter)
        return NULL;
    letter->message.opcode = TCD_EX_DONE;
    letter->message.cookie = cookie;
    letter->message.communicator = communicator->id;
    letter->message.rank = communicator->rank;
    letter->message.nranks = communicator->nranks;
    return letter;
}

int tcd_cuda_communicator_create(struct tcd_ex_engine *engine, const struct tcd_ex_message *message, int fd,
                                 struct tcd_cuda_communicator **out, char *text)
{
    if (!message->nranks || message->nranks > TCW_MAX_RANKS || message->rank >= message->nranks) {
        snprintf(text, TCW_TEXT_BYTES, "rank %u of %u", message->rank, message->nranks);
        return TCW_EINVAL;
    }
    struct tcd_cuda_communicator *communicator = calloc(1, sizeof *communicator);
    struct order *order = calloc(1, sizeof *order);
    if (!communicator || !order) {
        free(communicator);
        free(order);
        return TCW_ENOMEM;
    }
    communicator->id = message->communicator;
    communicator->rank = message->rank;
    communicator->nranks = message->nranks;
    communicator->engine = engine;
    communicator->small.fd = -1;
    pthread_mutex_init(&communicator->lock, NULL);
    void *page = mmap(NULL, (size_t)sysconf(_SC_PAGESIZE), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (page != MAP_FAILED)
        communicator->ended = page;
    communicator->fault = tcd_ex_letter_create();
    order->communicator = communicator;
    order->letter = prepare_answer(communicator, message->cookie);
    order->until_ns = tcw_now_ns() + (message->deadline_ns ? message->deadline_ns : CONNECT_S * UINT64_C(1000000000));
    memcpy(order->blob, message->blob, sizeof order->blob);
    int rc = communicator->ended && communicator->fault && order->letter ? map_log(communicator, fd, text) : TCW_ENOMEM;
    if (rc < 0) {
        free(order->letter);
        free(order);
        release(communicator);
        return rc;
    }
    tcd_ex_chore_add(engine->chores, &communicator->calls, "a call of NCCL", TCD_EX_PATIENT, communicator);
    communicator->connecting = true;
    uint64_t seconds = (order->until_ns - tcw_now_ns()) / 1000000000u;
    *out = communicator;
    tcd_ex_chores_start(engine->chores, "NCCL, making a communicator,", TCD_EX_PROMPT + (unsigned)seconds, connect_in_thread, order);
    return 0;
}

/* ---- the end ---- */

/* Nothing that it waits for will come, and only NCCL could still hold it. */
static void end_connecting(struct tcd_cuda_communicator *communicator)
{
    struct tcd_ex_chores *chores = communicator->engine->chores;
    struct tcd_ex_chore chore;
    atomic_store(&communicator->cancelled, true);
    tcd_ex_chore_add(chores, &chore, "NCCL, making a communicator that is to be dropped,", TCD_EX_PROMPT, communicator);
    tcd_ex_chore_begin(chores, &chore);
    while (atomic_load(&communicator->connecting))
        nap();
    tcd_ex_chore_remove(chores, &chore);
}

void tcd_cuda_communicator_destroy(struct tcd_cuda_communicator *communicator)
{
    struct tck_device *device = communicator->engine->device;
    end_connecting(communicator);
    while (atomic_load(&communicator->ending))
        nap();
    tcd_ex_chore_remove(communicator->engine->chores, &communicator->calls);
    if (tck_cuda_enter(device) == 0) {
        if (communicator->library)
            tcd_library_abort(communicator->library);
        if (communicator->window)
            tcd_library_memory_free(communicator->window);
        tcd_cuda_sides_close(&communicator->sides);
        if (communicator->ended_address)
            tck_cuda_unregister_host(device, (void *)communicator->ended);
        tck_memory_release(&communicator->small);
        while (communicator->scratch) {
            struct tcd_cuda_scratch *scratch = communicator->scratch;
            communicator->scratch = scratch->next;
            tck_memory_release(&scratch->memory);
            free(scratch);
        }
        tck_cuda_leave(device);
    }
    release(communicator);
}

static void drop_in_thread(void *arg)
{
    struct order *order = arg;
    struct tcd_ex_engine *engine = order->communicator->engine;
    tcd_cuda_communicator_destroy(order->communicator);
    tcd_ex_mailbox_post(engine->mailbox, order->letter);
    free(order);
}

void tcd_cuda_communicator_drop(struct tcd_cuda_communicator *communicator, uint64_t cookie)
{
    struct order *order = calloc(1, sizeof *order);
    if (!order || !(order->letter = prepare_answer(communicator, cookie)))
        abort(); /* an answer that never comes would hold the control process; a death is noticed */
    order->communicator = communicator;
    tcd_ex_chores_start(communicator->engine->chores, "dropping a communicator", TCD_EX_UNLIMITED, drop_in_thread, order);
}

int tcd_cuda_communicator_settle(struct tcd_cuda_communicator *communicator, uint64_t until_ns, const _Atomic uint64_t *abort_word,
                                 char *text)
{
    for (;;) {
        int rc = tcd_library_state(communicator->library, text);
        if (rc != TCW_EAGAIN)
            return rc;
        rc = check_patience(communicator, until_ns, text);
        if (rc < 0)
            return rc;
        if (tcw_abort_code(atomic_load_explicit(abort_word, memory_order_acquire)) == TCW_EEXECUTOR) {
            snprintf(text, TCW_TEXT_BYTES, "an executor of the group is gone");
            return TCW_EEXECUTOR;
        }
        sched_yield();
    }
}

struct ending {
    struct tcd_cuda_communicator *communicator;
    struct tcd_library_comm *library;
};

static void end_library(void *arg)
{
    struct ending *ending = arg;
    struct tcd_cuda_communicator *communicator = ending->communicator;
    struct tck_device *device = communicator->engine->device;
    if (tck_cuda_enter(device) == 0) {
        tcd_library_abort(ending->library);
        tck_cuda_leave(device);
    }
    free(ending);
    atomic_store(&communicator->ending, false);
}

/* In a thread of its own: kernels end at once, but the library waits for the streams of other communicators too. */
static void begin_ending(struct tcd_cuda_communicator *communicator)
{
    struct ending *ending = malloc(sizeof *ending);
    if (!ending)
        abort(); /* a death is noticed */
    *ending = (struct ending){communicator, communicator->library};
    communicator->library = NULL;
    communicator->ending = true;
    tcd_ex_chores_start(communicator->engine->chores, "ending a communicator", TCD_EX_UNLIMITED, end_library, ending);
}

int tcd_cuda_communicator_break(struct tcd_cuda_communicator *communicator, bool locked, const char *why)
{
    int usable = TCD_COMMUNICATOR_USABLE;
    if (!atomic_compare_exchange_strong(&communicator->state, &usable, TCD_COMMUNICATOR_BROKEN))
        return 0;
    atomic_store(&communicator->broken_ns, tcw_now_ns());
    struct tcd_ex_letter *letter = communicator->fault;
    communicator->fault = NULL; /* only this thread comes here */
    letter->message.opcode = TCD_EX_FAULT;
    letter->message.code = TCW_EEXECUTOR;
    letter->message.communicator = communicator->id;
    letter->message.rank = communicator->rank;
    letter->message.nranks = communicator->nranks;
    snprintf(letter->message.text, sizeof letter->message.text, "%s", why);
    tcd_ex_mailbox_post(communicator->engine->mailbox, letter);
    if (!locked) {
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_sec += LOCK_S;
        if (pthread_mutex_timedlock(&communicator->lock, &until))
            return TCW_EBUSY;
    }
    begin_ending(communicator);
    if (!locked)
        pthread_mutex_unlock(&communicator->lock);
    return 0;
}

/* ---- memory ---- */

int tcd_cuda_communicator_reserve(struct tcd_cuda_communicator *communicator, uint64_t bytes, unsigned char **base)
{
    struct tcd_cuda_scratch *largest = communicator->scratch;
    *base = NULL;
    if (!bytes)
        return 0;
    if (!largest || largest->memory.bytes < bytes) {
        /* At least twice as much as before: what is left behind is then less than what is in use. */
        uint64_t wanted = largest ? 2 * largest->memory.bytes : SMALLEST_SCRATCH;
        struct tcd_cuda_scratch *scratch = calloc(1, sizeof *scratch);
        if (!scratch)
            return TCW_ENOMEM;
        int rc = tck_memory_create(communicator->engine->device, "trtcoll-scratch", wanted < bytes ? bytes : wanted, &scratch->memory);
        if (rc < 0) {
            free(scratch);
            return rc;
        }
        close(scratch->memory.fd);
        scratch->memory.fd = -1;
        scratch->next = largest;
        communicator->scratch = largest = scratch;
    }
    *base = largest->memory.base;
    return 0;
}
