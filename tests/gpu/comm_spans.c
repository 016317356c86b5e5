#include "comm_spans.h"

#include <stdio.h>
#include <stdlib.h>

void comm_spans_add(struct comm_spans *spans, uint64_t ns)
{
    if (spans->count == spans->room) {
        size_t room = spans->room ? 2 * spans->room : 256;
        double *more = realloc(spans->ms, room * sizeof(*more));
        if (!more) {
            perror("spans");
            return;
        }
        spans->ms = more;
        spans->room = room;
    }
    spans->ms[spans->count++] = (double)ns / 1e6;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

const char *comm_spans_text(struct comm_spans *spans, char *text, size_t bytes)
{
    if (!spans->count) {
        snprintf(text, bytes, "-");
        return text;
    }
    qsort(spans->ms, spans->count, sizeof(*spans->ms), compare);
    snprintf(text, bytes, "%.2f/%.2f/%.2f", spans->ms[0], spans->ms[spans->count / 2], spans->ms[spans->count - 1]);
    return text;
}

void comm_spans_free(struct comm_spans *spans)
{
    free(spans->ms);
    *spans = (struct comm_spans){0};
}
