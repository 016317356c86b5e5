/*
 * What is wrong, found in a snapshot: the first part of `status`, the whole of `health`. Owner: the command; tcc_verdict_free.
 */
#ifndef TCC_CTL_VERDICT_H
#define TCC_CTL_VERDICT_H

#include "snapshot.h"

#include <cjson/cJSON.h>

typedef enum tcc_severity {
    TCC_DEGRADED, /* something does not work now */
    TCC_NOTICE,   /* something to know: it was dealt with, or will be */
} tcc_severity;

struct tcc_problem {
    tcc_severity severity;
    const char *kind;  /* stable word for programs */
    const char *group; /* name, NULL: of no group; points into the snapshot */
    uint64_t epoch;    /* with a group */
    uint64_t rank;     /* to blame; TCC_ABSENT: none */
    uint64_t wait_ns;  /* how long others wait; TCC_ABSENT */
    uint64_t step;     /* at which step; TCC_ABSENT */
    char text[TCW_TEXT_BYTES + 160];
};

struct tcc_verdict {
    struct tcc_problem *problems; /* degraded first */
    size_t count;
    size_t degraded; /* how many of them */
};

/* Waits shorter than this are everyday life. */
#define TCC_LATE_NS 500000000ull

void tcc_verdict_make(const struct tcc_snapshot *snapshot, struct tcc_verdict *verdict);
void tcc_verdict_free(struct tcc_verdict *verdict);

/* "healthy", "degraded" or, for a daemon that does not run, how it is. */
const char *tcc_verdict_word(const struct tcc_snapshot *snapshot, const struct tcc_verdict *verdict);
void tcc_verdict_json(const struct tcc_verdict *verdict, cJSON *parent);

#endif
