/*
 * Greedy decoding: a prompt in, the most likely next bytes out, with the logits they were chosen from.
 */
#ifndef EXAMPLES_DECODE_H
#define EXAMPLES_DECODE_H

#include "model.h"

#include <stdint.h>

enum { TOKENS_MAX = 256, PROMPT_MAX = 2048 };

/* Plain data: lives in memory that the rank's process shares with the one that compares. */
struct decode_result {
    uint32_t finished; /* 1 once everything below is complete */
    uint32_t count;
    uint8_t tokens[TOKENS_MAX];
    float logits[TOKENS_MAX][VOCABULARY];
    uint64_t prefill_ns, decode_ns;           /* the prompt; everything after the first token */
    uint64_t prefill_wait_ns, decode_wait_ns; /* of these, in collectives */
    uint64_t prefill_calls, decode_calls;
};

/* Called after every token with the number so far; may be NULL. */
typedef void (*decode_progress)(void *arg, uint32_t done, uint32_t count);

/* Resets the model, feeds the prompt (not empty) in chunks, then decodes `count` (1 to TOKENS_MAX) tokens. 0, or the code of a failed
 * collective. */
int decode_run(struct model *model, const uint8_t *prompt, uint32_t prompt_bytes, uint32_t count, decode_progress progress, void *arg,
               struct decode_result *result);

#endif
