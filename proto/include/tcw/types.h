/*
 * Enumerations of the contract, shared by every process. Numbers are part of the ABI: append, never renumber.
 * Owner: nobody, constants only. Threads: any.
 */
#ifndef TCW_TYPES_H
#define TCW_TYPES_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define TCW_ABI_MIN 1u
#define TCW_ABI_MAX 1u

enum {
    TCW_NAME_BYTES = 64,  /* names of groups and clients, terminating NUL included */
    TCW_TEXT_BYTES = 256, /* explanations, terminating NUL included */
    TCW_MAX_RANKS = 64,   /* ranks in one group on the wire; devices may allow fewer */
    TCW_MAX_TENSORS = 16, /* entries of a list operation */
    TCW_MAX_REFS = 320,   /* buffer references of one request */
    TCW_MAX_FDS = 80,     /* descriptors beside one message */
};

/* Epoch-valued words and cache lines: two lines per contended word, because of adjacent-line prefetch. */
#define TCW_LINE      64u
#define TCW_TWO_LINES 128u

typedef enum tcw_op {
#define TCW_OP(number, NAME, name, help) TCW_OP_##NAME = (number),
#include <tcw/ops.def>
#undef TCW_OP
    TCW_OP_COUNT
} tcw_op;

typedef enum tcw_errno {
    TCW_OK_CODE = 0,
#define TCW_ERROR(number, NAME, text) TCW_##NAME = -(number),
#include <tcw/errors.def>
#undef TCW_ERROR
} tcw_errno;

typedef enum tcw_dtype {
    TCW_FP32 = 0,
    TCW_FP16 = 1,
    TCW_BF16 = 2,
    TCW_FP64 = 3,
    TCW_INT8 = 4,
    TCW_UINT8 = 5,
    TCW_INT32 = 6,
    TCW_UINT32 = 7,
    TCW_INT64 = 8,
    TCW_UINT64 = 9,
    TCW_FP8_E4M3 = 10, /* moved by size, never summed */
    TCW_BOOL = 11,     /* one byte; moved by size, never summed */
    TCW_DTYPE_COUNT
} tcw_dtype;

/* Numbers of seed enumerations (strategy, fusion) equal those of TensorRT-LLM, so that tables can be compared. */
typedef enum tcw_strategy {
    TCW_STRATEGY_NCCL = 0, /* on host devices: the library form, chunked two-shot with fp32 accumulation */
    TCW_STRATEGY_MIN_LATENCY = 1,
    TCW_STRATEGY_UB = 2,
    TCW_STRATEGY_AUTO = 3,
    TCW_STRATEGY_ONESHOT = 4,
    TCW_STRATEGY_TWOSHOT = 5,
    TCW_STRATEGY_LOWPRECISION = 6,
    TCW_STRATEGY_MNNVL = 7,
    TCW_STRATEGY_NCCL_SYMMETRIC = 8,
    TCW_STRATEGY_SYMM_MEM = 9,
    TCW_STRATEGY_COUNT
} tcw_strategy;

typedef enum tcw_fusion {
    TCW_FUSION_NONE = 0,
    TCW_FUSION_RESIDUAL_RMS_NORM = 1,
    TCW_FUSION_RESIDUAL_RMS_NORM_QUANT_FP8 = 4,
    TCW_FUSION_RESIDUAL_RMS_NORM_QUANT_NVFP4 = 5,
    TCW_FUSION_RESIDUAL_RMS_NORM_OUT_QUANT_FP8 = 6,
    TCW_FUSION_RESIDUAL_RMS_NORM_OUT_QUANT_NVFP4 = 7,
    TCW_FUSION_COUNT = 8
} tcw_fusion;

typedef enum tcw_redop { TCW_SUM = 0, TCW_MIN = 1, TCW_MAX = 2, TCW_PROD = 3, TCW_AVG = 4, TCW_REDOP_COUNT } tcw_redop;

typedef enum tcw_device_kind { TCW_DEVICE_HOST = 0, TCW_DEVICE_CUDA = 1, TCW_DEVICE_KIND_COUNT } tcw_device_kind;

typedef enum tcw_lane { TCW_LANE_AUTO = 0, TCW_LANE_DIRECT = 1, TCW_LANE_SERVED = 2, TCW_LANE_COUNT } tcw_lane;

/* Buffers of one run, in the order in which a request lists them. A slot that the plan does not use is skipped. */
typedef enum tcw_slot {
    TCW_SLOT_IN = 0,  /* list operations: one per present tensor (all-to-all: lists x ranks) */
    TCW_SLOT_OUT = 1, /* all-reduce: the sum (NONE) or the norm; list operations: one per present tensor */
    TCW_SLOT_RESIDUAL_IN = 2,
    TCW_SLOT_RESIDUAL_OUT = 3,
    TCW_SLOT_NORM_WEIGHT = 4, /* gamma, [hidden] */
    TCW_SLOT_BIAS = 5,        /* [hidden] */
    TCW_SLOT_SCALE = 6,       /* one fp32 */
    TCW_SLOT_QUANT_OUT = 7,   /* FP8 or packed NVFP4 codes */
    TCW_SLOT_SCALE_OUT = 8,   /* NVFP4 block scale factors, swizzled 128x4 */
    TCW_SLOT_COUNT
} tcw_slot;

/* Name tables. NULL for a number outside the list. */
const char *tcw_op_name(unsigned op);
const char *tcw_op_help(unsigned op);
const char *tcw_error_name(int code); /* "EPEERDEAD" for TCW_EPEERDEAD; "OK" for 0 */
const char *tcw_error_text(int code);
const char *tcw_dtype_name(unsigned dtype);
const char *tcw_strategy_name(unsigned strategy);
const char *tcw_fusion_name(unsigned fusion);
const char *tcw_redop_name(unsigned redop);
const char *tcw_lane_name(unsigned lane);
const char *tcw_slot_name(unsigned slot);
const char *tcw_message_name(unsigned opcode);

/* Bytes of one element, 0 for an unknown type. */
size_t tcw_dtype_bytes(unsigned dtype);

#ifdef __cplusplus
}
#endif
#endif
