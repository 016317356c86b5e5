/*
 * trtcoll-bench --device cuda: results, and who measures them. Owner: the parent process, which never touches CUDA itself, so that it can
 * fork; each measurement starts processes of its own.
 */
#ifndef BENCH_CUDA_CUDA_H
#define BENCH_CUDA_CUDA_H

#include "../bench.h"
#include "../figures.h"

#include <stdio.h>

enum { CUDA_NOTE_BYTES = 256, CUDA_TEXT_BYTES = 4096, CUDA_LANES = 2 };

/* Of rank 0's GPU, its driver, and what else matters. */
struct cuda_facts {
    char gpu[64], driver[64]; /* the kernel's part of the driver; "" unknown */
    uint32_t gpus;            /* that there are */
    uint32_t compute;         /* 90: SM 9.0 */
    uint32_t cuda, nccl;      /* 13000, 22803; 0: none */
    bool mps;
};

struct cuda_times {
    double nccl, nccl_computing, ours, ours_computing; /* us in the stream; 0: not measured */
    double ours_captured;                              /* served, in a graph */
    double norm;                                       /* PART_FP8: ours without the quantisation */
    uint32_t strategy, lane;                           /* what the plan got */
};

/* One of STAGES. */
struct cuda_stage {
    bool measured;
    uint32_t count;
    uint64_t sizes[FIGURES_MAX_SIZES];
    struct cuda_times times[FIGURES_MAX_SIZES];
    double host_mean_us, host_p99_us;         /* of a trtcoll_plan_run of the smallest size */
    double nccl_host_mean_us, launch_mean_us; /* beside it: of NCCL's call, and of a launch of a small kernel alone */
    double setup_ms;                          /* of NCCL's communicator, in process */
    char note[CUDA_NOTE_BYTES];               /* what went wrong, "" nothing */
};

/* Restart of all clients of a group: from trtcoll_ctx_open until the first all-reduce is done. */
struct cuda_restart {
    bool measured;
    double context_ms;                               /* before all that: the process opens its GPU */
    double nccl_ms;                                  /* NCCL instead, its first all-reduce included */
    double cold_ms[CUDA_LANES], warm_ms[CUDA_LANES]; /* direct, served; first time, and after a kill */
    /* Of the warm time: membership, memory, plan, run. */
    double join_ms[CUDA_LANES], alloc_ms[CUDA_LANES], plan_ms[CUDA_LANES], run_ms[CUDA_LANES];
    char note[CUDA_NOTE_BYTES];
};

/* What left the GPU's free memory. */
struct cuda_memory {
    bool measured;
    uint64_t executor, first, second; /* bytes: the executor's context; what an engine adds beside its own context */
    char ctl[CUDA_TEXT_BYTES];        /* trtcollctl memory, with both engines */
    char note[CUDA_NOTE_BYTES];
};

struct cuda_results {
    struct cuda_facts facts;
    struct cuda_stage stages[STAGES];
    struct cuda_restart restart;
    struct cuda_memory memory;
};

/* Each starts a daemon of its own and fills in what it could measure, with a note about what not. 0 or an exit code. */
int cuda_facts_measure(const struct settings *settings, struct cuda_facts *facts);
int cuda_stage_measure(struct settings *settings, uint32_t part, struct cuda_stage *stage);
int cuda_restart_measure(struct settings *settings, struct cuda_restart *restart);
int cuda_memory_measure(struct settings *settings, struct cuda_memory *memory);

/* Makes tables of strategies, shows them and writes settings->tune_path. 0 or an exit code. */
int cuda_tune(struct settings *settings, const struct cuda_facts *facts);

void cuda_report_text(const struct settings *settings, const struct cuda_results *results, FILE *to);
void cuda_report_json(const struct settings *settings, const struct cuda_results *results, FILE *to);

#endif
