/*
 * One rank's process: attaches, makes its shard of the weights, and decodes the prompt once per lane.
 */
#ifndef EXAMPLES_RANK_H
#define EXAMPLES_RANK_H

#include "decode.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum { RANKS = 4, LANES = 2 };

/* Order of `LANES` arrays. */
enum { LANE_DIRECT, LANE_SERVED };

/* What to do; the same for all ranks. */
struct task {
    const char *socket_path; /* NULL: as trtcoll finds it */
    const char *group;
    uint64_t seed;
    uint32_t count;
    bool lanes[LANES];
    int sabotaged_rank; /* -1: none */
    uint8_t prompt[PROMPT_MAX];
    uint32_t prompt_bytes;
};

/* What a rank reports, in memory shared with the parent, which may look at the counters at any time and at the rest when the rank has
 * ended. */
struct rank_report {
    _Atomic uint32_t lane, done; /* progress */
    struct {
        struct decode_result result;
        char decision[256];
        uint64_t staged_runs;
    } lanes[LANES];
};

/* Process exit codes, also of the ranks. */
enum { EXIT_SAME = 0, EXIT_DIFFERENT = 1, EXIT_USAGE = 2, EXIT_TROUBLE = 3 };

/* Memory of all processes. */
struct shared {
    _Atomic uint32_t decoded; /* ranks that have finished all lanes, and stay until ... */
    _Atomic uint32_t leave;   /* ... this is 1 */
    struct rank_report ranks[RANKS];
};

/* Runs the rank to its end; errors go to stderr. Returns the exit code of its process. */
int rank_run(const struct task *task, uint32_t rank, struct shared *shared);

#endif
