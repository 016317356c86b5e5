/*
 * All-reduce over sizes. The peers take turns, round after round, so that a noisy minute hits all of them; every turn starts fresh
 * processes. A round counts the slowest rank, the result is the median of the rounds.
 */
#include "fleet.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PATIENCE_S = 600, HIDDEN = 1024 };

struct subject {
    struct fleet_rank *rank;
    struct trtcoll_plan *plan;
    struct trtcoll_run_args args;
};

struct turn {
    trtcoll_lane lane;
    const struct sweep_result *cases;
};

static int run(void *arg)
{
    struct subject *subject = arg;
    return trtcoll_plan_run(subject->plan, &subject->args, NULL, NULL);
}

static int agree(void *arg, uint64_t *value)
{
    return fleet_agree(((struct subject *)arg)->rank, value);
}

/* Rows as engines have them: up to HIDDEN elements, then several tokens. */
static int make_plan(struct fleet_rank *rank, trtcoll_lane lane, uint64_t bytes, struct subject *subject)
{
    struct trtcoll_all_reduce_desc desc = TRTCOLL_ALL_REDUCE_DESC_INIT;
    uint64_t elements = bytes / (rank->settings->bf16 ? 2 : 4);
    desc.dtype = rank->settings->bf16 ? TRTCOLL_BF16 : TRTCOLL_FP32;
    desc.lane = lane;
    desc.hidden = elements < HIDDEN ? elements : HIDDEN;
    desc.max_tokens = elements / desc.hidden;
    subject->args.tokens = desc.max_tokens;
    return trtcoll_plan_create_all_reduce(rank->group, &desc, &subject->plan);
}

static int measure_size(struct fleet_rank *rank, trtcoll_lane lane, uint64_t bytes, void *in, void *out, double *ns)
{
    struct subject subject = {.rank = rank, .args = TRTCOLL_RUN_ARGS_INIT};
    struct loop_subject loop = {.run = run, .agree = agree, .arg = &subject};
    int bf16 = rank->settings->bf16;
    int code = make_plan(rank, lane, bytes, &subject);
    if (code != 0)
        return fleet_complain(rank, "plan", code);
    loop_fill(in, bytes, bf16, rank->rank);
    memset(out, 0, bytes);
    subject.args.in = in;
    subject.args.out = out;
    code = loop_measure(&loop, rank->settings->budget_ns, ns);
    if (code != 0)
        return fleet_complain(rank, "all-reduce", code);
    trtcoll_plan_release(subject.plan);
    if (loop_verify(out, bytes, bf16, rank->nranks) != 0) {
        fprintf(stderr, "trtcoll-bench: rank %u: wrong sum of %llu bytes\n", rank->rank, (unsigned long long)bytes);
        return TRTCOLL_EINTERNAL;
    }
    return 0;
}

/* Direct: ordinary memory, as an engine's tensors are, and as the MPI peer has it. Served: memory of the daemon, so that nothing is copied.
 */
static int sweep_body(struct fleet_rank *rank)
{
    const struct turn *turn = rank->arg;
    const struct sweep_result *cases = turn->cases;
    uint64_t bytes = cases->sizes[cases->count - 1] < 4096 ? 4096 : cases->sizes[cases->count - 1];
    double *ns = rank->slot;
    void *in = NULL, *out = NULL;
    int code = 0;
    if (turn->lane == TRTCOLL_LANE_SERVED) {
        code = trtcoll_alloc(rank->ctx, bytes, &in);
        if (code == 0)
            code = trtcoll_alloc(rank->ctx, bytes, &out);
    } else if (posix_memalign(&in, 4096, bytes) != 0 || posix_memalign(&out, 4096, bytes) != 0) {
        code = TRTCOLL_ENOMEM;
    }
    if (code != 0)
        return fleet_complain(rank, "memory", code);
    for (uint32_t i = 0; i < cases->count && code == 0; i++)
        code = measure_size(rank, turn->lane, cases->sizes[i], in, out, &ns[i]);
    if (turn->lane == TRTCOLL_LANE_DIRECT) {
        free(in);
        free(out);
    }
    return code;
}

static int take_turn(const struct settings *settings, trtcoll_lane lane, const struct sweep_result *cases, double *ns)
{
    struct turn turn = {lane, cases};
    struct fleet *fleet = fleet_start(settings, settings->ranks, sizeof(double) * LOOP_MAX_CASES, sweep_body, &turn);
    int status = fleet ? fleet_wait(fleet, PATIENCE_S) : EXIT_FAILED;
    for (uint32_t i = 0; status == 0 && i < cases->count; i++) {
        ns[i] = 0;
        for (uint32_t rank = 0; rank < settings->ranks; rank++) {
            double mine = ((const double *)fleet_slot(fleet, rank))[i];
            ns[i] = mine > ns[i] ? mine : ns[i];
        }
    }
    fleet_destroy(fleet);
    return status;
}

static int compare_doubles(const void *a, const void *b)
{
    double left = *(const double *)a, right = *(const double *)b;
    return (left > right) - (left < right);
}

int sweep_measure(const struct settings *settings, struct sweep_result *result)
{
    static double rounds[PEERS][LOOP_MAX_CASES][BENCH_MAX_ROUNDS];
    bool with_mpi = settings->peers[PEER_MPI];
    int status = 0;
    result->count = loop_sizes(settings->low, settings->high, result->sizes);
    snprintf(result->mpi, sizeof(result->mpi), "not asked for");
    for (uint32_t round = 0; round < settings->rounds && status == 0; round++) {
        for (uint32_t peer = 0; peer < PEERS && status == 0; peer++) {
            double ns[LOOP_MAX_CASES] = {0};
            const char *reason = NULL;
            if (peer == PEER_MPI ? !with_mpi : !settings->peers[peer])
                continue;
            if (peer != PEER_MPI) {
                status = take_turn(settings, peer == PEER_DIRECT ? TRTCOLL_LANE_DIRECT : TRTCOLL_LANE_SERVED, result, ns);
            } else if (mpi_sweep(settings, result, ns, result->mpi, sizeof(result->mpi), &reason) != 0) {
                snprintf(result->mpi, sizeof(result->mpi), "%s", reason);
                with_mpi = false;
            }
            for (uint32_t i = 0; i < result->count; i++)
                rounds[peer][i][round] = ns[i];
        }
    }
    for (uint32_t peer = 0; peer < PEERS; peer++)
        for (uint32_t i = 0; i < result->count && status == 0; i++) {
            qsort(rounds[peer][i], settings->rounds, sizeof(double), compare_doubles);
            result->ns[peer][i] = peer == PEER_MPI && !with_mpi ? 0 : rounds[peer][i][settings->rounds / 2];
        }
    return status;
}
