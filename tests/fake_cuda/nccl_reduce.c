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

static float to_float(const void *at, ncclDataType_t type)
{
    uint16_t half;
    float f;
    uint8_t byte;
    switch (type) {
    case ncclFloat16:
        memcpy(&half, at, sizeof(half));
        return tck_float_from_fp16(half);
    case ncclBfloat16:
        memcpy(&half, at, sizeof(half));
        return tck_float_from_bf16(half);
    case ncclFloat8e4m3:
        memcpy(&byte, at, sizeof(byte));
        return tck_float_from_e4m3(byte);
    case ncclFloat8e5m2:
        memcpy(&byte, at, sizeof(byte));
        return tck_float_from_fp16((uint16_t)(byte << 8));
    default:
        memcpy(&f, at, sizeof(f));
        return f;
    }
}

static void from_float(void *at, float f, ncclDataType_t type)
{
    uint16_t half;
    uint8_t byte;
    switch (type) {
    case ncclFloat16:
    case ncclBfloat16:
        half = type == ncclFloat16 ? tck_fp16_from_float(f) : tck_bf16_from_float(f);
        memcpy(at, &half, sizeof(half));
        break;
    case ncclFloat8e4m3:
    case ncclFloat8e5m2:
        byte = type == ncclFloat8e4m3 ? tck_e4m3_from_float(f) : e5m2_from_float(f);
        memcpy(at, &byte, sizeof(byte));
        break;
    default:
        memcpy(at, &f, sizeof(f));
    }
}

#define FOLD(a, b, op)                                                                                                                     \
    ((op) == ncclProd ? (a) * (b) : (op) == ncclMax ? ((b) > (a) ? (b) : (a)) : (op) == ncclMin ? ((b) < (a) ? (b) : (a)) : (a) + (b))

static void reduce_float(void *out, const void *const *src, unsigned sources, ncclDataType_t type, ncclRedOp_t op)
{
    float sum = to_float(src[0], type);
    for (unsigned i = 1; i < sources; i++) {
        float next = to_float(src[i], type);
        sum = FOLD(sum, next, op);
    }
    from_float(out, op == ncclAvg ? sum / (float)sources : sum, type);
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
    for (size_t i = 0; i < count; i++) {
        void *to = (unsigned char *)out + i * bytes;
        for (unsigned s = 0; s < sources; s++)
            here[s] = (const unsigned char *)src[s] + i * bytes;
        if (type <= ncclUint64)
            reduce_integer(to, here, sources, type, op);
        else if (type == ncclFloat64)
            reduce_double(to, here, sources, op);
        else
            reduce_float(to, here, sources, type, op);
    }
}
