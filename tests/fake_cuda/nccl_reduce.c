#include "nccl_fake.h"

#include "arith/fp8.h"
#include "arith/half.h"

#include <string.h>

size_t nccl_type_bytes(ncclDataType_t type)
{
    static const unsigned char bytes[ncclNumTypes] = {
        [ncclInt8] = 1,    [ncclUint8] = 1,   [ncclInt32] = 4,   [ncclUint32] = 4,   [ncclInt64] = 8,      [ncclUint64] = 8,
        [ncclFloat16] = 2, [ncclFloat32] = 4, [ncclFloat64] = 8, [ncclBfloat16] = 2, [ncclFloat8e4m3] = 1, [ncclFloat8e5m2] = 1};
    return (unsigned)type < ncclNumTypes ? bytes[type] : 0;
}

/* The upper half of fp16, rounded to nearest, even. */
static uint8_t e5m2_from_float(float x)
{
    uint16_t half = tck_fp16_from_float(x);
    if ((half & 0x7fffu) > 0x7c00u)
        return (uint8_t)(half >> 8 | 0x02u);
    return (uint8_t)((half + 0x7fu + (half >> 8 & 1u)) >> 8);
}

/* Values of any floating type of up to 32 bits are added in fp32, a block of them at a time. */
enum { BLOCK = 256 };

static void load_block(float *to, const void *from, size_t count, ncclDataType_t type)
{
    const unsigned char *bytes = from;
    uint16_t half[BLOCK];
    if (type == ncclFloat16 || type == ncclBfloat16)
        memcpy(half, from, count * sizeof(half[0]));
    switch (type) {
    case ncclFloat16:
        for (size_t i = 0; i < count; i++)
            to[i] = tck_float_from_fp16(half[i]);
        break;
    case ncclBfloat16:
        for (size_t i = 0; i < count; i++)
            to[i] = tck_float_from_bf16(half[i]);
        break;
    case ncclFloat8e4m3:
        for (size_t i = 0; i < count; i++)
            to[i] = tck_float_from_e4m3(bytes[i]);
        break;
    case ncclFloat8e5m2:
        for (size_t i = 0; i < count; i++)
            to[i] = tck_float_from_fp16((uint16_t)(bytes[i] << 8));
        break;
    default:
        memcpy(to, from, count * sizeof(to[0]));
    }
}

static void store_block(void *to, const float *from, size_t count, ncclDataType_t type)
{
    unsigned char *bytes = to;
    uint16_t half[BLOCK];
    switch (type) {
    case ncclFloat16:
        for (size_t i = 0; i < count; i++)
            half[i] = tck_fp16_from_float(from[i]);
        memcpy(to, half, count * sizeof(half[0]));
        break;
    case ncclBfloat16:
        for (size_t i = 0; i < count; i++)
            half[i] = tck_bf16_from_float(from[i]);
        memcpy(to, half, count * sizeof(half[0]));
        break;
    case ncclFloat8e4m3:
        for (size_t i = 0; i < count; i++)
            bytes[i] = tck_e4m3_from_float(from[i]);
        break;
    case ncclFloat8e5m2:
        for (size_t i = 0; i < count; i++)
            bytes[i] = e5m2_from_float(from[i]);
        break;
    default:
        memcpy(to, from, count * sizeof(from[0]));
    }
}

#define FOLD(a, b, op)                                                                                                                     \
    ((op) == ncclProd ? (a) * (b) : (op) == ncclMax ? ((b) > (a) ? (b) : (a)) : (op) == ncclMin ? ((b) < (a) ? (b) : (a)) : (a) + (b))

static void fold_block(float *sum, const float *next, size_t count, ncclRedOp_t op)
{
    if (op == ncclSum || op == ncclAvg)
        for (size_t i = 0; i < count; i++)
            sum[i] += next[i];
    else
        for (size_t i = 0; i < count; i++)
            sum[i] = FOLD(sum[i], next[i], op);
}

static void reduce_floats(void *out, const void *const *src, unsigned sources, size_t count, ncclDataType_t type, ncclRedOp_t op)
{
    size_t bytes = nccl_type_bytes(type);
    float sum[BLOCK], next[BLOCK];
    for (size_t at = 0; at < count; at += BLOCK) {
        size_t length = count - at < BLOCK ? count - at : BLOCK;
        load_block(sum, (const unsigned char *)src[0] + at * bytes, length, type);
        for (unsigned s = 1; s < sources; s++) {
            load_block(next, (const unsigned char *)src[s] + at * bytes, length, type);
            fold_block(sum, next, length, op);
        }
        for (size_t i = 0; op == ncclAvg && i < length; i++)
            sum[i] /= (float)sources;
        store_block((unsigned char *)out + at * bytes, sum, length, type);
    }
}

static void reduce_double(void *out, const void *const *src, unsigned sources, ncclRedOp_t op)
{
    double sum, next;
    memcpy(&sum, src[0], sizeof(sum));
    for (unsigned i = 1; i < sources; i++) {
        memcpy(&next, src[i], sizeof(next));
        sum = FOLD(sum, next, op);
    }
    if (op == ncclAvg)
        sum /= sources;
    memcpy(out, &sum, sizeof(sum));
}

/* Sign-extended or zero-extended to 64 bits. */
static uint64_t to_bits(const void *at, ncclDataType_t type)
{
    size_t bytes = nccl_type_bytes(type);
    uint64_t bits = 0, sign = UINT64_C(1) << (8 * bytes - 1);
    bool is_signed = type == ncclInt8 || type == ncclInt32 || type == ncclInt64;
    memcpy(&bits, at, bytes);
    return is_signed ? (bits ^ sign) - sign : bits;
}

static bool is_less(uint64_t a, uint64_t b, ncclDataType_t type)
{
    return type == ncclInt8 || type == ncclInt32 || type == ncclInt64 ? (int64_t)a < (int64_t)b : a < b;
}

static void reduce_integer(void *out, const void *const *src, unsigned sources, ncclDataType_t type, ncclRedOp_t op)
{
    bool is_signed = type == ncclInt8 || type == ncclInt32 || type == ncclInt64;
    uint64_t sum = to_bits(src[0], type);
    for (unsigned i = 1; i < sources; i++) {
        uint64_t next = to_bits(src[i], type);
        if (op == ncclProd)
            sum *= next;
        else if (op == ncclMax)
            sum = is_less(sum, next, type) ? next : sum;
        else if (op == ncclMin)
            sum = is_less(next, sum, type) ? next : sum;
        else
            sum += next;
    }
    if (op == ncclAvg)
        sum = is_signed ? (uint64_t)((int64_t)sum / (int64_t)sources) : sum / sources;
    memcpy(out, &sum, nccl_type_bytes(type)); /* little-endian */
}

void nccl_reduce(void *out, const void *const *src, unsigned sources, size_t count, ncclDataType_t type, ncclRedOp_t op)
{
    size_t bytes = nccl_type_bytes(type);
    const void *here[NCCL_MAX_RANKS];
    if (type > ncclUint64 && type != ncclFloat64) {
        reduce_floats(out, src, sources, count, type, op);
        return;
    }
    for (size_t i = 0; i < count; i++) {
        void *to = (unsigned char *)out + i * bytes;
        for (unsigned s = 0; s < sources; s++)
            here[s] = (const unsigned char *)src[s] + i * bytes;
        if (type == ncclFloat64)
            reduce_double(to, here, sources, op);
        else
            reduce_integer(to, here, sources, type, op);
    }
}
