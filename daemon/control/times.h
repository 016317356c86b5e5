/*
 * What was measured of the strategies that a plan could have, for the answer of `trtcollctl explain`: the times at the sizes nearest to a
 * run's, from the table for as many ranks. Control process, loop thread.
 */
#ifndef TCD_CONTROL_TIMES_H
#define TCD_CONTROL_TIMES_H

#include <cJSON.h>
#include <tcf/tuning.h>

#include <stdbool.h>

/* Of a run with messages of so many bytes. */
struct tcd_times_question {
    const struct tcf_tuning *tuning; /* NULL: the built-in tables */
    uint32_t nranks;
    bool fused;
    uint64_t bytes;
    uint32_t strategy; /* chosen for it */
};

/*
 * Adds "times": for the chosen strategy, ONESHOT and TWOSHOT {"strategy", "measured": [{"bytes", "us"}, ...]}, an empty array where nothing
 * is known; and "times_of", which says whose they are. Where there are none for such a plan: "no_times", which says why.
 */
void tcd_times_add(cJSON *answer, const struct tcd_times_question *question);

#endif
