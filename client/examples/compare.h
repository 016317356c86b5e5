/*
 * Do four ranks compute what one rank computes? Bounds for the answer, and the answer.
 */
#ifndef EXAMPLES_COMPARE_H
#define EXAMPLES_COMPARE_H

#include "decode.h"

#include <stdbool.h>

struct bounds {
    uint32_t roundings;  /* that may differ on the way to a logit */
    double deviation;    /* expected root mean square of a logit's difference, before the layers' gain */
    double largest, rms; /* what is accepted */
};

/* For logits of `head` (the whole one), computed by `nranks` ranks and by one. */
struct bounds bounds_derive(const bf16 *head, uint32_t nranks);

struct comparison {
    uint32_t equal_tokens; /* before the first difference */
    double largest, rms;   /* differences of logits, over those tokens and the one after them */
    double margin;         /* smallest lead of the reference's best logit over its second */
    bool same;             /* tokens equal, differences within the bounds, and the bounds small enough against the margin to mean it */
};

struct comparison compare_results(const struct decode_result *result, const struct decode_result *reference, const struct bounds *bounds);

#endif
