#include "lane.h"

#include "../outcome.h"

#include <tcw/channel.h>

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

enum {
    PINS_PER_FLIGHT = 4,
    TURNS_PER_LOOK = 32,   /* of a wait, between looks at the flights */
    NAP_NS = 50000,        /* of a wait that has outlasted its spinning */
    LAST_NAP_NS = 1000000, /* while the last flights end */
    TIMER_SLACK_NS = 1000, /* instead of 50 us: naps of that length are meant */
};

/* ---- main thread ---- */

static int map_gate(struct tcd_cuda_lane *lane, int fd, char *text)
{
    const char *why = "cannot be mapped";
    void *base = MAP_FAILED;
    if (tcw_memfd_check(fd, sizeof(struct tcd_gate), &why) == 0)
        base = mmap(NULL, sizeof(struct tcd_gate), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (base == MAP_FAILED) {
        snprintf(text, TCW_TEXT_BYTES, "the gate: %s", why);
        return TCW_EINVAL;
    }
    lane->view.gate = base;
    return 0;
}

/* Room for all entries of the ring and a replay of every captured request. */
static int make_queues(struct tcd_cuda_lane *lane, uint32_t entries)
{
    lane->capacity = 1;
    while (lane->capacity < entries + TCW_CAPTURED)
        lane->capacity *= 2;
    lane->pin_capacity = 1;
    while (lane->pin_capacity < TCW_MAX_REFS || lane->pin_capacity < entries * PINS_PER_FLIGHT)
        lane->pin_capacity *= 2;
    lane->flights = calloc(lane->capacity, sizeof lane->flights[0]);
    lane->pins = calloc(lane->pin_capacity, sizeof(struct tcd_ex_memory *));
    return lane->flights && lane->pins ? 0 : TCW_ENOMEM;
}

static int register_memory(struct tcd_cuda_lane *lane, char *text)
{
    struct tcd_ex_attachment *attachment = lane->attachment;
    struct tck_device *device = attachment->engine->device;
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    int rc = tcd_cuda_words_open(&lane->words, device, &attachment->ring);
    if (rc == 0)
        rc = tck_cuda_register_host(device, attachment->page, attachment->page_bytes, &lane->page);
    lane->registered = rc == 0;
    if (rc == 0) {
        void *own = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        lane->own = own == MAP_FAILED ? NULL : own;
        rc = lane->own ? tck_cuda_register_host(device, own, page, &lane->own_address) : TCW_ENOMEM;
    }
    if (rc < 0)
        snprintf(text, TCW_TEXT_BYTES, "the ring cannot be registered with the device: %s", tcw_error_text(rc));
    return rc;
}

int tcd_cuda_lane_attach(struct tcd_ex_attachment *attachment, int fd, struct tcd_cuda_communicator *communicator, char *text)
{
    if (!attachment->ring.words) {
        snprintf(text, TCW_TEXT_BYTES, "the ring has no words");
        return TCW_EINVAL;
    }
    struct tcd_cuda_lane *lane = calloc(1, sizeof *lane);
    if (!lane)
        return TCW_ENOMEM;
    attachment->cuda = lane; /* detach frees it, however far this comes */
    lane->attachment = attachment;
    lane->view.rank = attachment->rank;
    lane->view.nranks = attachment->nranks;
    lane->group = attachment->page->group_id;
    int rc = make_queues(lane, attachment->ring.cq_entries);
    if (rc == 0)
        rc = map_gate(lane, fd, text);
    if (rc == 0)
        rc = register_memory(lane, text);
    if (rc < 0)
        return rc;
    lane->communicator = communicator;
    ++communicator->lanes;
    return 0;
}

static void unregister(struct tcd_cuda_lane *lane)
{
    struct tcd_ex_attachment *attachment = lane->attachment;
    tcd_cuda_words_close(&lane->words);
    if (lane->registered)
        tck_cuda_unregister_host(attachment->engine->device, attachment->page);
    lane->registered = false;
    if (lane->own_address)
        tck_cuda_unregister_host(attachment->engine->device, lane->own);
    lane->own_address = 0;
}

void tcd_cuda_lane_detach(struct tcd_ex_attachment *attachment)
{
    struct tcd_cuda_lane *lane = attachment->cuda;
    if (!lane)
        return;
    attachment->cuda = NULL;
    unregister(lane); /* if there never was a worker to do it */
    if (lane->communicator)
        --lane->communicator->lanes;
    if (lane->view.gate)
        munmap(lane->view.gate, sizeof *lane->view.gate);
    if (lane->own)
        munmap(lane->own, (size_t)sysconf(_SC_PAGESIZE));
    free(lane->flights);
    free(lane->pins);
    free(lane);
}

/* ---- worker ---- */

static void nap(long ns)
{
    const struct timespec time = {.tv_nsec = ns};
    nanosleep(&time, NULL);
}

bool tcd_cuda_lane_pause(struct tcd_cuda_lane *lane, unsigned turn)
{
    const struct tcd_ex_attachment *attachment = lane->attachment;
    /* One turn is some tens of nanoseconds as long as nothing else is looked at. */
    unsigned spins = attachment->crowded ? TURNS_PER_LOOK : 32 * attachment->spin_us;
    if ((turn + 1) % TURNS_PER_LOOK && turn < spins) {
#if defined(__x86_64__) || defined(__i386__)
        __builtin_ia32_pause();
#elif defined(__aarch64__)
        __asm__ volatile("yield");
#endif
        return false;
    }
    tcd_cuda_flights_progress(lane);
    if (turn < spins)
        sched_yield();
    else
        nap(NAP_NS);
    return true;
}

void tcd_cuda_lane_begin(struct tcd_ex_attachment *attachment)
{
    prctl(PR_SET_TIMERSLACK, TIMER_SLACK_NS);
    if (tck_cuda_enter(attachment->engine->device) < 0)
        tcd_cuda_lane_die(attachment->cuda, "the device's context cannot be used");
}

void tcd_cuda_lane_end(struct tcd_ex_attachment *attachment)
{
    struct tcd_cuda_lane *lane = attachment->cuda;
    tcd_cuda_captured_give_up(lane); /* nobody looks at them any more */
    while (!tcd_cuda_lane_is_empty(lane)) {
        tcd_cuda_flights_progress(lane);
        if (!tcd_cuda_lane_is_empty(lane))
            nap(LAST_NAP_NS);
    }
    tcd_cuda_captured_end(lane);
    unregister(lane);
    tck_cuda_leave(attachment->engine->device);
}

bool tcd_cuda_lane_is_lost(const struct tcd_cuda_lane *lane)
{
    const struct tcd_ex_attachment *attachment = lane->attachment;
    return attachment->failed_code || attachment->violated || atomic_load_explicit(&attachment->abort_word, memory_order_acquire) ||
           tcd_cuda_communicator_is_broken(lane->communicator);
}

bool tcd_cuda_lane_progress(struct tcd_ex_attachment *attachment)
{
    struct tcd_cuda_lane *lane = attachment->cuda;
    if (tcd_cuda_lane_is_empty(lane))
        return false;
    tcd_cuda_flights_progress(lane);
    return !tcd_cuda_lane_is_empty(lane);
}

void tcd_cuda_lane_die(struct tcd_cuda_lane *lane, const char *why)
{
    struct tcd_ex_attachment *attachment = lane->attachment;
    tcd_ex_fail(attachment, TCW_EDEVICE, TCW_NOBODY, 0, why);
    atomic_store(&attachment->mailbox->fatal, true);
    tcd_ex_mailbox_wake(attachment->mailbox);
    for (;;) /* the main thread ends the process once it has said so */
        nap(LAST_NAP_NS);
}
