/*
 * The transformer of this example: its dimensions, and the part of it that one rank holds.
 *
 * Decoder-only, pre-norm: embedding, then LAYERS times (attention with a KV cache and rotary positions, gated MLP), a final RMSNorm and a
 * vocabulary head over bytes. Tensor parallel: a rank holds a share of the heads, of the MLP's inner columns and of the vocabulary rows.
 * Nothing here knows how ranks talk to each other: see collectives.h.
 */
#ifndef EXAMPLES_MODEL_H
#define EXAMPLES_MODEL_H

#include "collectives.h"
#include "tensor.h"
#include "weights.h"

#include <stdint.h>

/* One sequence on one shard. Owner: model_create's caller; free with model_destroy, before its weights and collectives. */
struct model {
    const struct weights *weights;
    struct collectives *collectives;
    uint32_t length;   /* positions in the KV cache */
    uint32_t capacity; /* positions it has room for */
    bf16 *keys;        /* [LAYERS][capacity][local heads * HEAD_DIM], rotated */
    bf16 *values;
    /* Activations that cross the wire live in the collectives' memory, so that nothing needs to be copied there: */
    bf16 *residual; /* [CHUNK][HIDDEN], the same on all ranks */
    bf16 *normed;   /* [CHUNK][HIDDEN], the same on all ranks */
    bf16 *partial;  /* [CHUNK][HIDDEN], this rank's share of a sum */
    bf16 *norms;    /* [2 * LAYERS + 1][HIDDEN], a copy of the weights' */
    float *logits;  /* [local vocabulary], then the gathered [VOCABULARY] */
    struct scratch *scratch;
    int sabotage_layer; /* a layer in which this rank contributes zeros instead of its attention; -1: none (see --break) */
};

/* NULL: out of memory. */
struct model *model_create(const struct weights *weights, struct collectives *collectives, uint32_t capacity);
void model_destroy(struct model *model);

/* Forgets the sequence. */
void model_reset(struct model *model);

/*
 * Appends `count` tokens (1 to CHUNK) to the sequence. *logits: VOCABULARY values for the last of them, valid until the next call.
 * Collective: all ranks call it with the same tokens. 0, or the negative TRTCOLL_E* code of a collective.
 */
int model_forward(struct model *model, const uint8_t *tokens, uint32_t count, const float **logits);

#endif
