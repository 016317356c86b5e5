#include "rank.h"
#include "collectives_trtcoll.h"

#include <stdio.h>
#include <time.h>

enum { SABOTAGED_LAYER = LAYERS / 2, PAUSE_NS = 10000000 };

static const trtcoll_lane lane_numbers[LANES] = {[LANE_DIRECT] = TRTCOLL_LANE_DIRECT, [LANE_SERVED] = TRTCOLL_LANE_SERVED};

static int trouble(uint32_t rank, const char *what, int code)
{
    struct trtcoll_error error = TRTCOLL_ERROR_INIT;
    const char *text = trtcoll_last_error(&error) == code && error.text[0] ? error.text : trtcoll_error_text(code);
    fprintf(stderr, "tp_decode: rank %u: %s: %s: %s\n", rank, what, trtcoll_error_name(code), text);
    return EXIT_TROUBLE;
}

static void on_progress(void *arg, uint32_t done, uint32_t count)
{
    (void)count;
    atomic_store((_Atomic uint32_t *)arg, done);
}

static int run_lane(const struct task *task, uint32_t lane, struct membership *membership, const struct weights *weights,
                    struct rank_report *report)
{
    struct collectives *collectives = NULL;
    int code = collectives_create_lane(membership, lane_numbers[lane], &collectives);
    if (code != 0)
        return trouble(membership->rank, "make plans", code);
    struct model *model = model_create(weights, collectives, task->prompt_bytes + task->count);
    if (model) {
        if ((int)membership->rank == task->sabotaged_rank)
            model->sabotage_layer = SABOTAGED_LAYER;
        atomic_store(&report->done, 0);
        atomic_store(&report->lane, lane);
        code = decode_run(model, task->prompt, task->prompt_bytes, task->count, on_progress, &report->done, &report->lanes[lane].result);
        if (code == 0)
            code = collectives_lane_info(collectives, report->lanes[lane].decision, sizeof(report->lanes[lane].decision),
                                         &report->lanes[lane].staged_runs);
    } else {
        code = TRTCOLL_ENOMEM;
    }
    int status = code == 0 ? EXIT_SAME : trouble(membership->rank, "decode", code);
    model_destroy(model);
    collectives->destroy(collectives);
    return status;
}

int rank_run(const struct task *task, uint32_t rank, struct shared *shared)
{
    struct rank_report *report = &shared->ranks[rank];
    struct membership membership;
    int status = EXIT_TROUBLE, code = membership_open(&membership, task->socket_path, task->group, rank);
    struct weights *weights = NULL;
    if (code != 0) {
        trouble(rank, "join", code);
    } else if (membership.nranks != RANKS) {
        fprintf(stderr, "tp_decode: group %s has %u ranks, this example is cut for %d\n", task->group, membership.nranks, RANKS);
    } else if (!(weights = weights_create(task->seed, rank, RANKS))) {
        trouble(rank, "make weights", TRTCOLL_ENOMEM);
    } else {
        status = EXIT_SAME;
        for (uint32_t lane = 0; lane < LANES && status == EXIT_SAME; lane++)
            if (task->lanes[lane])
                status = run_lane(task, lane, &membership, weights, report);
    }
    if (status == EXIT_SAME) {
        atomic_fetch_add(&shared->decoded, 1);
        while (!atomic_load(&shared->leave))
            nanosleep(&(struct timespec){0, PAUSE_NS}, NULL);
    }
    weights_destroy(weights);
    membership_close(&membership);
    return status;
}
