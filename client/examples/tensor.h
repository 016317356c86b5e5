/*
 * The arithmetic of the example: bf16 storage, fp32 computation. Plain C that compilers turn into vector code; no state.
 */
#ifndef EXAMPLES_TENSOR_H
#define EXAMPLES_TENSOR_H

#include <stdint.h>
#include <string.h>

typedef uint16_t bf16;

static inline float bf16_to_float(bf16 value)
{
    uint32_t bits = (uint32_t)value << 16;
    float result;
    memcpy(&result, &bits, sizeof(result));
    return result;
}

/* Round to nearest, ties to even. For finite values; the example has no others. */
static inline bf16 bf16_from_float(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof(bits));
    return (bf16)((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

void bf16_unpack(const bf16 *from, float *to, uint32_t count);
void bf16_pack(const float *from, bf16 *to, uint32_t count);

/* out[m][n] = sum over k of x[m][k] * w[n][k]; all dense, `inner` a multiple of 16. Accumulates in fp32. */
void matmul(const float *x, const bf16 *w, float *out, uint32_t m, uint32_t n, uint32_t inner);

/* out = u / sqrt(mean(u^2) + eps) * weight: `hidden` elements. */
void rms_norm(const bf16 *u, const bf16 *weight, bf16 *out, uint32_t hidden, float eps);

/* gate = silu(gate) * up, with silu(z) = z / (1 + e^-z). */
void silu_multiply(float *gate, const float *up, uint32_t count);

/* Rotary positions: every pair (2i, 2i+1) of the head turns by position * base^(-2i / head_dim). */
void rotate(float *head, uint32_t head_dim, uint32_t position, float base);

/* Scaled dot-product attention of one query over `positions` keys and values that lie `stride` elements apart. `scores` is scratch. */
void attend(const float *query, const bf16 *keys, const bf16 *values, uint32_t positions, uint32_t stride, uint32_t head_dim, float *scores,
            float *out);

#endif
