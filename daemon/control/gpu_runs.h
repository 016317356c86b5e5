/*
 * What the kernels of one rank ran lately, as their records on its member page said at the last two looks. Nobody on the host is asked
 * about replays of CUDA graphs; these records are all that is known of them. Clients can write there what they like.
 * Stands with what else was seen of the page. Control process, loop thread.
 */
#ifndef TCD_CONTROL_GPU_RUNS_H
#define TCD_CONTROL_GPU_RUNS_H

#include <tcw/member.h>

struct tcd_gpu_run {
    uint32_t plan_id, tokens;
};

struct tcd_gpu_record {
    struct tcd_gpu_run run;
    uint64_t start_ns, end_ns; /* of the GPU's clock */
};

/*
 * Run `step`, if its record is there and whole. It is written in two halves, without a word between them: half of another one gives itself
 * away by times that do not fit.
 */
bool tcd_gpu_record_read(const struct tcw_device_progress *device, uint64_t step, struct tcd_gpu_record *read);

/* Runs last - count + 1 to last. Each workspace counts its own: where a group uses several, runs of all of them may be among these. */
struct tcd_gpu_look {
    uint64_t last;
    uint32_t count;
    struct tcd_gpu_run runs[TCW_DEVICE_RECORDS]; /* run s: s % TCW_DEVICE_RECORDS */
};

struct tcd_gpu_runs {
    struct tcd_gpu_look now, before;
};

/* Zeroed: never looked. Takes what is whole and in no danger of being written over meanwhile. */
void tcd_gpu_runs_look(struct tcd_gpu_runs *runs, const struct tcw_device_progress *device);

struct tcd_gpu_difference {
    uint64_t step;
    struct tcd_gpu_run one, other;
};

/* Whether two runs of the same number, of two ranks, are one: that is, of the same workspace. May cost something: not asked often. */
typedef bool tcd_gpu_same(const void *context, const struct tcd_gpu_run *one, const struct tcd_gpu_run *other);

/*
 * Whether two ranks differ in a run that both remember, at both looks: so nothing that passes breaks a group. *difference: the earliest
 * that is still remembered.
 */
bool tcd_gpu_runs_differ(const struct tcd_gpu_runs *one, const struct tcd_gpu_runs *other, tcd_gpu_same *same, const void *context,
                         struct tcd_gpu_difference *difference);

#endif
