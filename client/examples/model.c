#include "model.h"

#include <stdbool.h>
#include <stdlib.h>

/* Activations that stay on this rank, in fp32. */
struct scratch {
    float x[CHUNK * HIDDEN];
    float sum[CHUNK * HIDDEN];
    float query[CHUNK * HIDDEN], key[CHUNK * HIDDEN], value[CHUNK * HIDDEN], mixed[CHUNK * HIDDEN];
    float gate[CHUNK * INNER], up[CHUNK * INNER];
    float scores[]; /* [capacity] */
};

static uint32_t local_heads(const struct model *model)
{
    return HEADS / model->weights->nranks;
}

struct model *model_create(const struct weights *weights, struct collectives *collectives, uint32_t capacity)
{
    struct model *model = calloc(1, sizeof(*model));
    if (!model)
        return NULL;
    size_t cache = (size_t)LAYERS * capacity * HEADS / weights->nranks * HEAD_DIM, chunk = (size_t)CHUNK * HIDDEN;
    size_t norms = (2 * LAYERS + 1) * (size_t)HIDDEN;
    model->weights = weights;
    model->collectives = collectives;
    model->capacity = capacity;
    model->sabotage_layer = -1;
    model->keys = malloc(cache * sizeof(bf16));
    model->values = malloc(cache * sizeof(bf16));
    model->scratch = malloc(sizeof(*model->scratch) + capacity * sizeof(float));
    model->residual = collectives->allocate(collectives, chunk * sizeof(bf16));
    model->normed = collectives->allocate(collectives, chunk * sizeof(bf16));
    model->partial = collectives->allocate(collectives, chunk * sizeof(bf16));
    model->norms = collectives->allocate(collectives, norms * sizeof(bf16));
    model->logits = collectives->allocate(collectives, 2 * VOCABULARY * sizeof(float));
    if (!model->keys || !model->values || !model->scratch || !model->residual || !model->normed || !model->partial || !model->norms ||
        !model->logits) {
        model_destroy(model);
        return NULL;
    }
    memcpy(model->norms, weights->norms, norms * sizeof(bf16));
    return model;
}

void model_destroy(struct model *model)
{
    if (!model)
        return;
    free(model->keys);
    free(model->values);
    free(model->scratch);
    free(model);
}

void model_reset(struct model *model)
{
    model->length = 0;
}

/* partial = this rank's heads, projected back to the hidden size. */
static void attention(struct model *model, uint32_t number, uint32_t count)
{
    const struct layer *layer = &model->weights->layers[number];
    struct scratch *s = model->scratch;
    uint32_t heads = local_heads(model), width = heads * HEAD_DIM;
    bf16 *keys = model->keys + (uint64_t)number * model->capacity * width,
         *values = model->values + (uint64_t)number * model->capacity * width;
    bf16_unpack(model->normed, s->x, count * HIDDEN);
    matmul(s->x, layer->query, s->query, count, width, HIDDEN);
    matmul(s->x, layer->key, s->key, count, width, HIDDEN);
    matmul(s->x, layer->value, s->value, count, width, HIDDEN);
    for (uint32_t t = 0; t < count; t++) {
        uint32_t position = model->length + t;
        for (uint32_t h = 0; h < heads; h++) {
            rotate(s->query + (uint64_t)t * width + h * HEAD_DIM, HEAD_DIM, position, ROTARY_BASE);
            rotate(s->key + (uint64_t)t * width + h * HEAD_DIM, HEAD_DIM, position, ROTARY_BASE);
        }
        bf16_pack(s->key + (uint64_t)t * width, keys + (uint64_t)position * width, width);
        bf16_pack(s->value + (uint64_t)t * width, values + (uint64_t)position * width, width);
        for (uint32_t h = 0; h < heads; h++)
            attend(s->query + (uint64_t)t * width + h * HEAD_DIM, keys + h * HEAD_DIM, values + h * HEAD_DIM, position + 1, width, HEAD_DIM,
                   s->scores, s->mixed + (uint64_t)t * width + h * HEAD_DIM);
    }
    matmul(s->mixed, layer->output, s->sum, count, HIDDEN, width);
    bf16_pack(s->sum, model->partial, count * HIDDEN);
    if ((int)number == model->sabotage_layer)
        memset(model->partial, 0, (size_t)count * HIDDEN * sizeof(bf16));
}

/* partial = this rank's columns of the gated MLP, projected back to the hidden size. */
static void mlp(struct model *model, uint32_t number, uint32_t count)
{
    const struct layer *layer = &model->weights->layers[number];
    struct scratch *s = model->scratch;
    uint32_t inner = INNER / model->weights->nranks;
    bf16_unpack(model->normed, s->x, count * HIDDEN);
    matmul(s->x, layer->gate, s->gate, count, inner, HIDDEN);
    matmul(s->x, layer->up, s->up, count, inner, HIDDEN);
    silu_multiply(s->gate, s->up, count * inner);
    matmul(s->gate, layer->down, s->sum, count, HIDDEN, inner);
    bf16_pack(s->sum, model->partial, count * HIDDEN);
}

/* Adds everybody's partial to the residual stream and norms it for the next block, whose norm weights are number `next`. */
static int combine(struct model *model, uint32_t next, uint32_t count)
{
    return model->collectives->reduce_norm(model->collectives, model->partial, model->residual, model->norms + (uint64_t)next * HIDDEN,
                                           model->normed, count);
}

int model_forward(struct model *model, const uint8_t *tokens, uint32_t count, const float **logits)
{
    const struct weights *weights = model->weights;
    for (uint32_t t = 0; t < count; t++) {
        bf16 *residual = model->residual + (uint64_t)t * HIDDEN;
        memcpy(residual, weights->embedding + (uint64_t)tokens[t] * HIDDEN, HIDDEN * sizeof(bf16));
        rms_norm(residual, weights->norms, model->normed + (uint64_t)t * HIDDEN, HIDDEN, NORM_EPS);
    }
    for (uint32_t l = 0; l < LAYERS; l++) {
        int result;
        attention(model, l, count);
        if ((result = combine(model, 2 * l + 1, count)) != 0)
            return result;
        mlp(model, l, count);
        if ((result = combine(model, 2 * l + 2, count)) != 0)
            return result;
    }
    model->length += count;

    float *mine = model->logits, *all = model->logits + VOCABULARY;
    bf16_unpack(model->normed + (uint64_t)(count - 1) * HIDDEN, model->scratch->x, HIDDEN);
    matmul(model->scratch->x, weights->head, mine, 1, VOCABULARY / weights->nranks, HIDDEN);
    *logits = all;
    return model->collectives->gather_logits(model->collectives, mine, all);
}
