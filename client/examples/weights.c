/*
 * Weights from a seed, so that nothing has to be downloaded and every rank can make its own shard.
 *
 * Purely random weights would make a poor demonstration: the best two logits of such a model are often closer to each other than the
 * rounding differences between one rank and four, and comparing tokens would prove nothing. So the weights are random plus a structure that
 * makes every decision clear-cut, and makes every layer decide:
 *
 *   The residual stream carries one symbol (a byte) as a code of 256 signs. In each layer, attention follows a pointer: the symbol says how
 * far to look back (1 to REACH positions), and the heads fetch the symbol found there. The MLP, used as a table, replaces the fetched
 * symbol by another one (a permutation per layer) and erases what is no longer needed. The head reads the last symbol.
 *
 * So the next byte is found by LAYERS hops through the text. A hop that goes wrong in any layer changes the
 * token; rounding errors do not: codes are orthogonal, and the table's response is flat around the exact code. All remaining weights (12 of
 * 16 heads, three quarters of the MLP, and every entry a little) are plain noise, so that sums and logits are full of bits that have to be
 * right: a wrong sum that the symbols survive still shows in the logits.
 *
 * Regions of the residual stream, 256 elements each: the symbol in even layers, the symbol in odd layers, the fetched symbol, and a
 * constant that serves as bias. Written values are +-1, so the norm divides by known factors: RMS_SYMBOL with two regions in use (before
 * attention, before the head), RMS_FETCHED with three (before the MLP).
 */
#include "weights.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>

enum {
    CODE = 256, /* elements of a code, and number of codes */
    FETCHED_REGION = 2 * CODE,
    CONSTANT_REGION = 3 * CODE,
    HEAD_QUARTER = HEADS / MAX_SHARDS,  /* the structure is dealt evenly to quarters of the model, ... */
    INNER_QUARTER = INNER / MAX_SHARDS, /* ... so that every rank has a share of it */
    TABLE_QUARTER = 3 * CODE / MAX_SHARDS
};

/* The MLP's tables, CODE entries each. */
enum { SUBSTITUTE, ERASE_SYMBOL, ERASE_FETCHED };
_Static_assert((int)HIDDEN == 4 * CODE && (int)VOCABULARY == (int)CODE && (int)HEAD_DIM * MAX_SHARDS == CODE, "the structure fits");

#define RMS_SYMBOL        0.70710678f /* sqrt(2 regions / 4) */
#define RMS_FETCHED       0.86602540f /* sqrt(3 regions / 4) */
#define POINTER_SHARPNESS 14.0f       /* of query and of key */
#define GATE_SHARPNESS    32.0f
#define THRESHOLD         0.35f
#define LOGIT             16.0f /* of the right byte; the others are noise around 0 */

/* Standard deviations of the noise, of weights that meet activations of about 1. */
#define NOISE_HEADS      (0.5f / 32)
#define NOISE_OUTPUT     (0.10f / 32)
#define NOISE_DOWN       (0.16f / 32)
#define NOISE_STRUCTURED 0.02f /* factor, for rows of pointer heads and of the table */

/* Names of the random streams: a matrix or set of signs, and its layer. */
typedef enum stream {
    EMBEDDING,
    NORMS,
    HEAD,
    QUERY,
    KEY,
    VALUE,
    OUTPUT,
    GATE,
    UP,
    DOWN,
    SYMBOL_SIGNS,
    VALUE_SIGNS,
    FETCHED_SIGNS,
    CONSTANT_SIGNS,
    POINTERS,
    PERMUTATION
} stream;

static uint32_t mix(uint32_t x)
{
    x ^= x >> 16;
    x *= 0x7feb352du;
    x ^= x >> 15;
    x *= 0x846ca68bu;
    return x ^ x >> 16;
}

static uint32_t stream_key(uint64_t seed, stream name, uint32_t layer)
{
    return mix((uint32_t)seed ^ mix((uint32_t)(seed >> 32) ^ mix((uint32_t)name << 8 | layer)));
}

/* Number `index` of a stream: uniform, mean 0, standard deviation 1. */
static inline float noise_at(uint32_t key, uint32_t index)
{
    return (float)(int32_t)mix(key + index * 0x9e3779b9u) * (1.7320508f / 2147483648.0f);
}

static float sign_at(uint64_t seed, stream name, uint32_t layer, uint32_t k)
{
    return mix(stream_key(seed, name, layer) + k) & 1u ? -1.0f : 1.0f;
}

/* Row v of the 256 x 256 Hadamard matrix: rows are orthogonal. */
static float hadamard(uint32_t v, uint32_t k)
{
    return __builtin_parity(v & k) ? -1.0f : 1.0f;
}

/* What the structure of one layer needs while its rows are made. */
struct blueprint {
    uint64_t seed;
    uint32_t layer;
    uint32_t region, next_region;                                               /* of the symbol before and after the layer */
    float symbol[CODE], next[CODE], fetched[CODE], value[CODE], constant[CODE]; /* signs that make codes of Hadamard rows */
    uint32_t distance[CODE];                                                    /* how far back symbol v points */
    uint32_t substitute[CODE];
};

/* A permutation that keeps printable bytes printable, so that the output can be looked at. */
static void permutation_fill(uint64_t seed, uint32_t layer, uint32_t *table)
{
    uint32_t key = stream_key(seed, PERMUTATION, layer), printable = 0x7f - 0x20;
    for (uint32_t i = 0; i < CODE; i++)
        table[i] = i;
    for (uint32_t i = printable - 1; i > 0; i--) {
        uint32_t *a = &table[0x20 + i], *b = &table[0x20 + mix(key + i) % (i + 1)], swap = *a;
        *a = *b;
        *b = swap;
    }
}

static void blueprint_fill(struct blueprint *blueprint, uint64_t seed, uint32_t layer)
{
    blueprint->seed = seed;
    blueprint->layer = layer;
    blueprint->region = layer % 2 ? CODE : 0;
    blueprint->next_region = layer % 2 ? 0 : CODE;
    for (uint32_t k = 0; k < CODE; k++) {
        blueprint->symbol[k] = sign_at(seed, SYMBOL_SIGNS, layer, k);
        blueprint->next[k] = sign_at(seed, SYMBOL_SIGNS, layer + 1, k);
        blueprint->fetched[k] = sign_at(seed, FETCHED_SIGNS, layer, k);
        blueprint->value[k] = sign_at(seed, VALUE_SIGNS, layer, k);
        blueprint->constant[k] = sign_at(seed, CONSTANT_SIGNS, 0, k);
        blueprint->distance[k] = 1 + mix(stream_key(seed, POINTERS, layer) + k) % REACH;
    }
    permutation_fill(seed, layer, blueprint->substitute);
}

/* Row or column `head * HEAD_DIM + i` of the attention: its place in the fetched code, or -1 for one of a noise head. */
static int32_t pointer_place(uint32_t index)
{
    uint32_t head = index / HEAD_DIM;
    return head % HEAD_QUARTER == 0 ? (int32_t)(head / HEAD_QUARTER * HEAD_DIM + index % HEAD_DIM) : -1;
}

/* Row or column of the MLP: table * CODE + symbol, or -1 for noise. */
static int32_t table_entry(uint32_t index)
{
    uint32_t within = index % INNER_QUARTER;
    return within < TABLE_QUARTER ? (int32_t)(index / INNER_QUARTER * TABLE_QUARTER + within) : -1;
}

/* Adds factor * code v, so that the row's product with a normed stream holding that code is factor. */
static void read_code(float *row, const float *signs, uint32_t v, float factor)
{
    for (uint32_t k = 0; k < CODE; k++)
        row[k] += factor / CODE * hadamard(v, k) * signs[k];
}

/* Query of a pointer head: from the symbol's code to "distance back", as a rotation that cancels the key's rotation there. */
static void structure_query(const struct blueprint *blueprint, uint32_t row_index, float *row)
{
    uint32_t i = row_index % HEAD_DIM;
    float frequency = powf(ROTARY_BASE, -(float)(i & ~1u) / HEAD_DIM);
    for (uint32_t v = 0; v < CODE; v++) {
        float angle = frequency * (float)blueprint->distance[v];
        read_code(row + blueprint->region, blueprint->symbol, v, RMS_SYMBOL * POINTER_SHARPNESS * (i & 1u ? -sinf(angle) : cosf(angle)));
    }
}

static void structure_key(const struct blueprint *blueprint, uint32_t row_index, float *row)
{
    if (row_index % 2 == 0)
        read_code(row + CONSTANT_REGION, blueprint->constant, 0, RMS_SYMBOL * POINTER_SHARPNESS);
}

/* Value and output together carry code v of the symbol, in another basis, to code v of the fetched region. */
static void structure_value(const struct blueprint *blueprint, uint32_t row_index, float *row)
{
    uint32_t place = (uint32_t)pointer_place(row_index);
    for (uint32_t k = 0; k < CODE; k++)
        row[blueprint->region + k] += RMS_SYMBOL / 16 * hadamard(place, k) * blueprint->value[k];
}

static float structure_output(const struct blueprint *blueprint, uint32_t row_index, uint32_t column)
{
    uint32_t place = (uint32_t)pointer_place(column), k = row_index % CODE;
    if (row_index / CODE != FETCHED_REGION / CODE)
        return 0;
    return hadamard(place, k) / 16 * blueprint->value[k] * blueprint->symbol[k] * blueprint->fetched[k];
}

/*
 * A table entry for symbol v reads its code with strength a: about 1 if it is there, 0 if not. gate = G (a - T) opens for the first and
 * closes for the second. Writing the new symbol multiplies with up = (2 - T - a) / (1 - T)^2: the product is flat at G around a = 1, so
 * that an inexact code becomes an exact one. Erasing multiplies with up = (1 - T a) / (1 - T)^2: the product is G a there, so as much is
 * taken away as there is.
 */
static void read_entry(const struct blueprint *blueprint, uint32_t entry, float constant, float symbol, float *row)
{
    read_code(row + CONSTANT_REGION, blueprint->constant, 0, RMS_FETCHED * constant);
    if (entry / CODE == ERASE_SYMBOL)
        read_code(row + blueprint->region, blueprint->symbol, entry % CODE, RMS_FETCHED * symbol);
    else
        read_code(row + FETCHED_REGION, blueprint->fetched, entry % CODE, RMS_FETCHED * symbol);
}

static void structure_gate(const struct blueprint *blueprint, uint32_t row_index, float *row)
{
    read_entry(blueprint, (uint32_t)table_entry(row_index), -THRESHOLD * GATE_SHARPNESS, GATE_SHARPNESS, row);
}

static void structure_up(const struct blueprint *blueprint, uint32_t row_index, float *row)
{
    uint32_t entry = (uint32_t)table_entry(row_index);
    float open = (1 - THRESHOLD) * (1 - THRESHOLD);
    if (entry / CODE == SUBSTITUTE)
        read_entry(blueprint, entry, (2 - THRESHOLD) / open, -1 / open, row);
    else
        read_entry(blueprint, entry, 1 / open, -THRESHOLD / open, row);
}

static float structure_down(const struct blueprint *blueprint, uint32_t row_index, uint32_t column)
{
    uint32_t entry = (uint32_t)table_entry(column), v = entry % CODE, k = row_index % CODE, region = row_index - k;
    switch (entry / CODE) {
    case SUBSTITUTE:
        return region == blueprint->next_region ? 1 / GATE_SHARPNESS * hadamard(blueprint->substitute[v], k) * blueprint->next[k] : 0;
    case ERASE_SYMBOL:
        return region == blueprint->region ? -1 / GATE_SHARPNESS * hadamard(v, k) * blueprint->symbol[k] : 0;
    default:
        return region == FETCHED_REGION ? -1 / GATE_SHARPNESS * hadamard(v, k) * blueprint->fetched[k] : 0;
    }
}

/* A part of a matrix: `rows` from `row`, `columns` from `column`, of a matrix with `width` columns. */
struct part {
    uint32_t row, rows, column, columns, width;
};

/* The matrices whose structure lies in whole rows. */
static void fill_rows(const struct blueprint *blueprint, stream name, struct part part, int32_t (*structured)(uint32_t),
                      void (*structure)(const struct blueprint *, uint32_t, float *), bf16 *out)
{
    uint32_t key = stream_key(blueprint->seed, name, blueprint->layer);
    float row[HIDDEN];
    for (uint32_t r = part.row; r < part.row + part.rows; r++, out += HIDDEN) {
        bool has_structure = structured(r) >= 0;
        float noise = has_structure ? NOISE_HEADS * NOISE_STRUCTURED : NOISE_HEADS;
        for (uint32_t k = 0; k < HIDDEN; k++)
            row[k] = noise * noise_at(key, r * HIDDEN + k);
        if (has_structure)
            structure(blueprint, r, row);
        bf16_pack(row, out, HIDDEN);
    }
}

/* The matrices whose structure lies in some columns. */
static void fill_columns(const struct blueprint *blueprint, stream name, struct part part, float noise, int32_t (*structured)(uint32_t),
                         float (*structure)(const struct blueprint *, uint32_t, uint32_t), bf16 *out)
{
    uint32_t key = stream_key(blueprint->seed, name, blueprint->layer);
    for (uint32_t r = part.row; r < part.row + part.rows; r++)
        for (uint32_t c = part.column; c < part.column + part.columns; c++) {
            float value = noise * noise_at(key, r * part.width + c);
            if (structured(c) >= 0)
                value = value * NOISE_STRUCTURED + structure(blueprint, r, c);
            *out++ = bf16_from_float(value);
        }
}

static void fill_layer(uint64_t seed, uint32_t number, uint32_t rank, uint32_t nranks, struct layer *layer)
{
    uint32_t heads = HEADS * HEAD_DIM / nranks, inner = INNER / nranks;
    struct part head_rows = {rank * heads, heads, 0, HIDDEN, HIDDEN}, head_columns = {0, HIDDEN, rank * heads, heads, HEADS * HEAD_DIM};
    struct part inner_rows = {rank * inner, inner, 0, HIDDEN, HIDDEN}, inner_columns = {0, HIDDEN, rank * inner, inner, INNER};
    struct blueprint blueprint;
    blueprint_fill(&blueprint, seed, number);
    fill_rows(&blueprint, QUERY, head_rows, pointer_place, structure_query, layer->query);
    fill_rows(&blueprint, KEY, head_rows, pointer_place, structure_key, layer->key);
    fill_rows(&blueprint, VALUE, head_rows, pointer_place, structure_value, layer->value);
    fill_columns(&blueprint, OUTPUT, head_columns, NOISE_OUTPUT, pointer_place, structure_output, layer->output);
    fill_rows(&blueprint, GATE, inner_rows, table_entry, structure_gate, layer->gate);
    fill_rows(&blueprint, UP, inner_rows, table_entry, structure_up, layer->up);
    fill_columns(&blueprint, DOWN, inner_columns, NOISE_DOWN, table_entry, structure_down, layer->down);
}

/* Embedding (the first symbol and the constant), norm weights around 1, and the head (reads the last symbol). */
static void fill_ends(uint64_t seed, struct weights *weights)
{
    uint32_t rows = VOCABULARY / weights->nranks, last_region = LAYERS % 2 ? CODE : 0;
    uint32_t embedding = stream_key(seed, EMBEDDING, 0), norms = stream_key(seed, NORMS, 0), head = stream_key(seed, HEAD, 0);
    float signs[CODE], row[HIDDEN];
    for (uint32_t v = 0; v < VOCABULARY; v++) {
        for (uint32_t k = 0; k < HIDDEN; k++)
            row[k] = NOISE_HEADS * noise_at(embedding, v * HIDDEN + k);
        for (uint32_t k = 0; k < CODE; k++) {
            row[k] += hadamard(v, k) * sign_at(seed, SYMBOL_SIGNS, 0, k);
            row[CONSTANT_REGION + k] += sign_at(seed, CONSTANT_SIGNS, 0, k);
        }
        bf16_pack(row, weights->embedding + (uint64_t)v * HIDDEN, HIDDEN);
    }
    for (uint32_t i = 0; i < (2 * LAYERS + 1) * HIDDEN; i++)
        weights->norms[i] = bf16_from_float(1 + 0.03f * noise_at(norms, i));
    for (uint32_t k = 0; k < CODE; k++)
        signs[k] = sign_at(seed, SYMBOL_SIGNS, LAYERS, k);
    for (uint32_t r = 0; r < rows; r++) {
        uint32_t v = weights->rank * rows + r;
        for (uint32_t k = 0; k < HIDDEN; k++)
            row[k] = NOISE_HEADS * noise_at(head, v * HIDDEN + k);
        read_code(row + last_region, signs, v, RMS_SYMBOL * LOGIT);
        bf16_pack(row, weights->head + (uint64_t)r * HIDDEN, HIDDEN);
    }
}

/* Hands out consecutive parts of the one allocation. */
static bf16 *take(bf16 **next, uint64_t elements)
{
    bf16 *part = *next;
    *next += elements;
    return part;
}

struct weights *weights_create(uint64_t seed, uint32_t rank, uint32_t nranks)
{
    if ((nranks != 1 && nranks != 2 && nranks != MAX_SHARDS) || rank >= nranks)
        return NULL;
    uint64_t attention = (uint64_t)HEADS * HEAD_DIM * HIDDEN / nranks, mlp = (uint64_t)INNER * HIDDEN / nranks;
    uint64_t ends = (VOCABULARY + (2 * LAYERS + 1) + VOCABULARY / nranks) * (uint64_t)HIDDEN;
    struct weights *weights = calloc(1, sizeof(*weights));
    if (!weights)
        return NULL;
    weights->rank = rank;
    weights->nranks = nranks;
    weights->bytes = (ends + LAYERS * (4 * attention + 3 * mlp)) * sizeof(bf16);
    weights->memory = malloc(weights->bytes);
    if (!weights->memory) {
        free(weights);
        return NULL;
    }
    bf16 *next = weights->memory;
    weights->embedding = take(&next, VOCABULARY * HIDDEN);
    weights->norms = take(&next, (2 * LAYERS + 1) * HIDDEN);
    weights->head = take(&next, VOCABULARY / nranks * HIDDEN);
    fill_ends(seed, weights);
    for (uint32_t l = 0; l < LAYERS; l++) {
        struct layer *layer = &weights->layers[l];
        layer->query = take(&next, attention);
        layer->key = take(&next, attention);
        layer->value = take(&next, attention);
        layer->output = take(&next, attention);
        layer->gate = take(&next, mlp);
        layer->up = take(&next, mlp);
        layer->down = take(&next, mlp);
        fill_layer(seed, l, rank, nranks, layer);
    }
    return weights;
}

void weights_destroy(struct weights *weights)
{
    if (weights)
        free(weights->memory);
    free(weights);
}
