/*
 * How long something took, each time: the least, the median and the most of it.
 *
 * Owner: who keeps the struct; zeroes are a valid one, _free gives back what it holds. Threads: one.
 */
#ifndef TRTCOLL_TESTS_GPU_COMM_SPANS_H
#define TRTCOLL_TESTS_GPU_COMM_SPANS_H

#include <stddef.h>
#include <stdint.h>

struct comm_spans {
    double *ms;
    size_t count, room;
};

void comm_spans_add(struct comm_spans *spans, uint64_t ns);
/* "least/median/most" in ms, or "-" of nothing; returns `text`. Sorts. */
const char *comm_spans_text(struct comm_spans *spans, char *text, size_t bytes);
void comm_spans_free(struct comm_spans *spans);

#endif
