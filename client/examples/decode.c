#include "decode.h"

#include <time.h>

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* The first of the largest: every rank has the same logits, so every rank picks the same byte without asking. */
static uint8_t largest(const float *logits)
{
    uint32_t best = 0;
    for (uint32_t v = 1; v < VOCABULARY; v++)
        if (logits[v] > logits[best])
            best = v;
    return (uint8_t)best;
}

int decode_run(struct model *model, const uint8_t *prompt, uint32_t prompt_bytes, uint32_t count, decode_progress progress, void *arg,
               struct decode_result *result)
{
    struct collectives *collectives = model->collectives;
    const float *logits = NULL;
    int code = 0;
    memset(result, 0, sizeof(*result));
    model_reset(model);
    collectives->calls = collectives->wait_ns = 0;

    uint64_t start = now_ns();
    uint32_t fed = 0, chunk;
    do {
        chunk = prompt_bytes - fed < CHUNK ? prompt_bytes - fed : CHUNK;
        code = model_forward(model, prompt + fed, chunk, &logits);
        fed += chunk;
    } while (fed < prompt_bytes && code == 0);
    uint64_t first = now_ns();
    result->prefill_ns = first - start;
    result->prefill_calls = collectives->calls;
    result->prefill_wait_ns = collectives->wait_ns;

    for (uint32_t i = 0; code == 0; i++) {
        uint8_t token = largest(logits);
        memcpy(result->logits[i], logits, sizeof(result->logits[i]));
        result->tokens[i] = token;
        result->count = i + 1;
        if (progress)
            progress(arg, i + 1, count);
        if (i + 1 == count)
            break;
        code = model_forward(model, &token, 1, &logits);
    }
    result->decode_ns = now_ns() - first;
    result->decode_calls = collectives->calls - result->prefill_calls;
    result->decode_wait_ns = collectives->wait_ns - result->prefill_wait_ns;
    result->finished = code == 0;
    return code;
}
