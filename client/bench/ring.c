/*
 * Ring round trip: a served barrier on a group of one. Nothing to wait for and nothing to move, so what is left is the way of an entry
 * through the ring, the executor and back.
 */
#include "fleet.h"

#include <stdlib.h>

enum { SAMPLES = 20000, WARM_UP = 500 };
#define BUDGET_NS 2000000000ull /* fewer samples where round trips are slow */

static int compare_samples(const void *a, const void *b)
{
    uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;
    return (left > right) - (left < right);
}

static int sample(struct trtcoll_plan *plan, uint64_t *ns)
{
    struct trtcoll_run_args args = TRTCOLL_RUN_ARGS_INIT;
    uint64_t start = loop_now_ns();
    int code = trtcoll_plan_run(plan, &args, NULL, NULL);
    *ns = loop_now_ns() - start;
    return code;
}

static int ring_body(struct fleet_rank *rank)
{
    static uint64_t samples[SAMPLES];
    struct ring_result *result = rank->slot;
    struct trtcoll_barrier_desc desc = TRTCOLL_BARRIER_DESC_INIT;
    struct trtcoll_plan *plan;
    desc.lane = TRTCOLL_LANE_SERVED;
    int code = trtcoll_plan_create_barrier(rank->group, &desc, &plan);
    if (code != 0)
        return fleet_complain(rank, "plan", code);
    for (uint32_t i = 0; i < WARM_UP && code == 0; i++)
        code = sample(plan, &samples[0]);
    uint64_t count = 0, start = loop_now_ns();
    while (code == 0 && count < SAMPLES && loop_now_ns() - start < BUDGET_NS)
        code = sample(plan, &samples[count++]);
    if (code != 0)
        return fleet_complain(rank, "barrier", code);
    qsort(samples, count, sizeof(samples[0]), compare_samples);
    uint64_t median = samples[count / 2], p99 = samples[count * 99 / 100];
    *result = (struct ring_result){
        .measured = true, .samples = count, .min_ns = (double)samples[0], .median_ns = (double)median, .p99_ns = (double)p99};
    return 0;
}

int ring_measure(const struct settings *settings, struct ring_result *result)
{
    struct fleet *fleet = fleet_start(settings, 1, sizeof(*result), ring_body, NULL);
    int status = fleet ? fleet_wait(fleet, 60) : EXIT_FAILED;
    if (status == 0)
        *result = *(struct ring_result *)fleet_slot(fleet, 0);
    fleet_destroy(fleet);
    return status;
}
