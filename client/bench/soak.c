/*
 * Soak: every rank runs plans at a fixed rate for a while. Served runs are posted without waiting, up to WINDOW at a time, and every one
 * must complete, once, with the right sum; what has not completed in the end is lost.
 */
#include "fleet.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { WINDOW = 64, OCTAVE = 16, BUCKETS = 48 * OCTAVE, VALUES = 7, DRAIN_MS = 30000, MARGIN_S = 90 };

struct soak_slot {
    uint64_t submitted, completed, lost, failed, wrong;
    uint64_t elapsed_ns, max_ns;
    uint64_t histogram[BUCKETS]; /* latencies, OCTAVE buckets per doubling */
};

struct flight {
    struct trtcoll_event *event;
    uint64_t run, submit_ns;
};

struct soak {
    struct fleet_rank *rank;
    struct soak_slot *slot;
    struct trtcoll_plan *plan;
    uint64_t floats;
    float *in[WINDOW], *out[WINDOW];
    struct flight flights[WINDOW]; /* in flight: runs head .. tail - 1, at run % WINDOW */
    uint64_t head, tail;
};

static uint32_t bucket_of(uint64_t ns)
{
    double position = log2((double)ns + 1) * OCTAVE;
    return position >= BUCKETS ? BUCKETS - 1 : (uint32_t)position;
}

/* Different runs carry different values, so that an output of an earlier run is noticed. */
static float value_of(uint64_t run, uint32_t rank)
{
    return (float)((rank + 1) * (run % VALUES + 1));
}

static void check_output(struct soak *soak, uint64_t run)
{
    const float *out = soak->out[run % WINDOW];
    float expected = 0;
    for (uint32_t rank = 0; rank < soak->rank->nranks; rank++)
        expected += value_of(run, rank);
    soak->slot->wrong += out[0] != expected || out[soak->floats - 1] != expected;
}

static void prepare_input(struct soak *soak, uint64_t run)
{
    float *in = soak->in[run % WINDOW], value = value_of(run, soak->rank->rank);
    for (uint64_t i = 0; i < soak->floats; i++)
        in[i] = value;
}

/* Takes the oldest run's result, waiting for it if asked. 1: it is still in flight. */
static int land(struct soak *soak, uint32_t timeout_ms)
{
    struct flight *flight = &soak->flights[soak->head % WINDOW];
    struct trtcoll_event_info info = {.size = sizeof(info)};
    int code = timeout_ms ? trtcoll_event_wait(flight->event, timeout_ms) : trtcoll_event_query(flight->event);
    if (code == TRTCOLL_ETIMEOUT) /* the wait's, or the run's */
        code = trtcoll_event_query(flight->event);
    if (code == TRTCOLL_EAGAIN) {
        if (timeout_ms)
            fprintf(stderr, "trtcoll-bench: rank %u: run %llu has not completed after %u ms\n", soak->rank->rank,
                    (unsigned long long)flight->run, timeout_ms);
        return 1;
    }
    if (code == 0) {
        uint64_t ns = loop_now_ns() - flight->submit_ns;
        if (trtcoll_event_status(flight->event, &info) == 0 && info.end_ns > flight->submit_ns)
            ns = info.end_ns - flight->submit_ns; /* rather than when it was looked at */
        soak->slot->completed++;
        soak->slot->histogram[bucket_of(ns)]++;
        soak->slot->max_ns = ns > soak->slot->max_ns ? ns : soak->slot->max_ns;
        check_output(soak, soak->head);
    } else {
        fleet_complain(soak->rank, "completion", code);
        soak->slot->failed++;
    }
    trtcoll_event_put(flight->event);
    soak->head++;
    return code;
}

/* Starts run number `tail`. */
static int launch(struct soak *soak)
{
    struct flight *flight = &soak->flights[soak->tail % WINDOW];
    struct trtcoll_run_args args = TRTCOLL_RUN_ARGS_INIT;
    int code;
    prepare_input(soak, soak->tail);
    args.tokens = 1;
    args.in = soak->in[soak->tail % WINDOW];
    args.out = soak->out[soak->tail % WINDOW];
    flight->run = soak->tail;
    flight->submit_ns = loop_now_ns();
    while ((code = trtcoll_plan_run(soak->plan, &args, NULL, &flight->event)) == TRTCOLL_EAGAIN && soak->head < soak->tail) {
        int landed = land(soak, DRAIN_MS);
        if (landed != 0)
            return landed;
    }
    if (code != 0)
        return fleet_complain(soak->rank, "run", code);
    soak->tail++;
    soak->slot->submitted++;
    return 0;
}

static void sleep_until(uint64_t ns)
{
    struct timespec until = {(time_t)(ns / 1000000000u), (long)(ns % 1000000000u)};
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
}

/* Run k starts at start + k / rate, or as soon after as possible; all ranks stop after the same run. */
static int fly(struct soak *soak)
{
    const struct settings *settings = soak->rank->settings;
    uint64_t runs = (uint64_t)(settings->soak_s * settings->soak_rate), start = 0;
    int code = fleet_agree(soak->rank, &start); /* everybody is ready */
    start = loop_now_ns();
    for (uint64_t run = 0; run < runs && code == 0; run++) {
        uint64_t due = start + (uint64_t)((double)run / settings->soak_rate * 1e9);
        while (code == 0 && soak->head < soak->tail && (code = land(soak, 0)) == 0)
            ;
        code = code == 1 ? 0 : code;
        if (code == 0 && soak->tail - soak->head == WINDOW)
            code = land(soak, DRAIN_MS);
        if (loop_now_ns() < due)
            sleep_until(due);
        if (code == 0)
            code = launch(soak);
    }
    while (soak->head < soak->tail && code == 0)
        code = land(soak, DRAIN_MS);
    soak->slot->elapsed_ns = loop_now_ns() - start;
    soak->slot->lost = soak->tail - soak->head;
    return code;
}

static int soak_body(struct fleet_rank *rank)
{
    struct soak soak = {.rank = rank, .slot = rank->slot, .floats = rank->settings->soak_bytes / sizeof(float)};
    struct trtcoll_all_reduce_desc desc = TRTCOLL_ALL_REDUCE_DESC_INIT;
    void *memory;
    desc.dtype = TRTCOLL_FP32;
    desc.lane = *(const trtcoll_lane *)rank->arg;
    desc.hidden = soak.floats;
    int code = trtcoll_plan_create_all_reduce(rank->group, &desc, &soak.plan);
    if (code != 0)
        return fleet_complain(rank, "plan", code);
    code = trtcoll_alloc(rank->ctx, 2 * WINDOW * rank->settings->soak_bytes, &memory);
    if (code != 0)
        return fleet_complain(rank, "memory", code);
    for (uint32_t i = 0; i < WINDOW; i++) {
        soak.in[i] = (float *)memory + 2 * i * soak.floats;
        soak.out[i] = soak.in[i] + soak.floats;
    }
    return fly(&soak);
}

static double percentile(const uint64_t *histogram, uint64_t total, double share)
{
    uint64_t seen = 0;
    for (uint32_t i = 0; i < BUCKETS; i++) {
        seen += histogram[i];
        if (total > 0 && (double)seen >= share * (double)total)
            return exp2((i + 0.5) / OCTAVE);
    }
    return 0;
}

static void collect(struct fleet *fleet, const struct settings *settings, struct soak_result *result)
{
    uint64_t histogram[BUCKETS] = {0}, elapsed = 1;
    for (uint32_t rank = 0; rank < settings->ranks; rank++) {
        const struct soak_slot *slot = fleet_slot(fleet, rank);
        result->submitted += slot->submitted;
        result->completed += slot->completed;
        result->lost += slot->lost;
        result->failed += slot->failed;
        result->wrong += slot->wrong;
        elapsed = slot->elapsed_ns > elapsed ? slot->elapsed_ns : elapsed;
        result->max_ns = (double)slot->max_ns > result->max_ns ? (double)slot->max_ns : result->max_ns;
        for (uint32_t i = 0; i < BUCKETS; i++)
            histogram[i] += slot->histogram[i];
    }
    result->measured = true;
    result->seconds = (double)elapsed / 1e9;
    result->rate = (double)result->completed / settings->ranks / result->seconds;
    result->median_ns = percentile(histogram, result->completed, 0.5);
    result->p99_ns = percentile(histogram, result->completed, 0.99);
}

int soak_measure(const struct settings *settings, trtcoll_lane lane, struct soak_result *result)
{
    struct fleet *fleet = fleet_start(settings, settings->ranks, sizeof(struct soak_slot), soak_body, &lane);
    if (!fleet)
        return EXIT_FAILED;
    int status = fleet_wait(fleet, (uint32_t)(settings->soak_s * 4) + MARGIN_S);
    collect(fleet, settings, result);
    fleet_destroy(fleet);
    return status == 0 && result->lost == 0 && result->failed == 0 && result->wrong == 0 ? 0 : EXIT_FAILED;
}
