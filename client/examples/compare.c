#include "compare.h"

#include <math.h>

/*
 * Both sides compute in fp32 and round to bf16 at the same places, except in the 2 * LAYERS fused all-reduces. There, N ranks round N
 * partial results, N - 1 sums and the residual, one rank rounds its one partial result and the residual: 2N + 2 roundings that may differ.
 * A rounding to bf16 (8 significant bits) moves a value by at most u = 2^-9 of it, by u / sqrt(3) in the root mean square, independently of
 * the others. So the normed state, whose elements are about 1, differs by u / sqrt(3) * sqrt(2 * LAYERS * (2N + 2)), and a logit by that
 * times the length of its row of the head (an upper estimate: partial results are smaller than the state).
 *
 * GAIN allows for what later layers make of a difference: each reads the state and adds to it. The tables of this model damp differences of
 * the symbol, the noise weights pass them on; 4 covers both. The largest of some ten thousand normally distributed differences is below 5
 * deviations.
 */
#define GAIN 4.0
#define TAIL 5.0

struct bounds bounds_derive(const bf16 *head, uint32_t nranks)
{
    struct bounds bounds = {.roundings = 2 * LAYERS * (2 * nranks + 2)};
    double squares = 0;
    for (uint32_t i = 0; i < VOCABULARY * HIDDEN; i++)
        squares += (double)bf16_to_float(head[i]) * bf16_to_float(head[i]);
    bounds.deviation = ldexp(1, -9) / sqrt(3) * sqrt(bounds.roundings) * sqrt(squares / VOCABULARY);
    bounds.rms = GAIN * bounds.deviation;
    bounds.largest = TAIL * bounds.rms;
    return bounds;
}

/* Lead of the largest logit over the second. */
static double lead(const float *logits)
{
    float first = -INFINITY, second = -INFINITY;
    for (uint32_t v = 0; v < VOCABULARY; v++) {
        if (logits[v] > first) {
            second = first;
            first = logits[v];
        } else if (logits[v] > second) {
            second = logits[v];
        }
    }
    return (double)first - second;
}

struct comparison compare_results(const struct decode_result *result, const struct decode_result *reference, const struct bounds *bounds)
{
    struct comparison comparison = {.margin = INFINITY};
    double squares = 0;
    uint32_t compared = 0;
    for (uint32_t i = 0; i < reference->count && i < result->count; i++) {
        comparison.margin = fmin(comparison.margin, lead(reference->logits[i]));
        for (uint32_t v = 0; v < VOCABULARY; v++) {
            double difference = fabs((double)result->logits[i][v] - reference->logits[i][v]);
            squares += difference * difference;
            /* Written so that NaN counts as different. */
            if (!(difference <= comparison.largest))
                comparison.largest = difference;
        }
        compared++;
        if (result->tokens[i] != reference->tokens[i])
            break;
        comparison.equal_tokens++;
    }
    comparison.rms = sqrt(squares / ((double)compared * VOCABULARY));
    comparison.same = result->finished && result->count == reference->count && comparison.equal_tokens == reference->count &&
                      comparison.largest <= bounds->largest && comparison.rms <= bounds->rms && comparison.margin > 2 * bounds->largest;
    return comparison;
}
