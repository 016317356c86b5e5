#include <tcw/types.h>

#include <tcw/message.h>

#define COUNT(array)       (sizeof(array) / sizeof((array)[0]))
#define PICK(array, index) ((index) < COUNT(array) ? (array)[index] : NULL)

static const char *const op_names[] = {
#define TCW_OP(number, NAME, name, help) [number] = (name),
#include <tcw/ops.def>
#undef TCW_OP
};

static const char *const op_helps[] = {
#define TCW_OP(number, NAME, name, help) [number] = (help),
#include <tcw/ops.def>
#undef TCW_OP
};

static const char *const error_names[] = {
    "OK",
#define TCW_ERROR(number, NAME, text) [number] = #NAME,
#include <tcw/errors.def>
#undef TCW_ERROR
};

static const char *const error_texts[] = {
    "no error",
#define TCW_ERROR(number, NAME, text) [number] = (text),
#include <tcw/errors.def>
#undef TCW_ERROR
};

static const char *const message_names[] = {
#define TCW_MESSAGE(number, NAME, payload, name) [number] = (name),
#include <tcw/messages.def>
#undef TCW_MESSAGE
};

struct dtype_entry {
    const char *name;
    size_t bytes;
};

static const struct dtype_entry dtypes[TCW_DTYPE_COUNT] = {
    [TCW_FP32] = {"fp32", 4},   [TCW_FP16] = {"fp16", 2},     [TCW_BF16] = {"bf16", 2},         [TCW_FP64] = {"fp64", 8},
    [TCW_INT8] = {"int8", 1},   [TCW_UINT8] = {"uint8", 1},   [TCW_INT32] = {"int32", 4},       [TCW_UINT32] = {"uint32", 4},
    [TCW_INT64] = {"int64", 8}, [TCW_UINT64] = {"uint64", 8}, [TCW_FP8_E4M3] = {"fp8-e4m3", 1}, [TCW_BOOL] = {"bool", 1},
};

static const char *const strategy_names[TCW_STRATEGY_COUNT] = {
    [TCW_STRATEGY_NCCL] = "nccl",
    [TCW_STRATEGY_MIN_LATENCY] = "min-latency",
    [TCW_STRATEGY_UB] = "ub",
    [TCW_STRATEGY_AUTO] = "auto",
    [TCW_STRATEGY_ONESHOT] = "oneshot",
    [TCW_STRATEGY_TWOSHOT] = "twoshot",
    [TCW_STRATEGY_LOWPRECISION] = "lowprecision",
    [TCW_STRATEGY_MNNVL] = "mnnvl",
    [TCW_STRATEGY_NCCL_SYMMETRIC] = "nccl-symmetric",
    [TCW_STRATEGY_SYMM_MEM] = "symm-mem",
};

static const char *const fusion_names[TCW_FUSION_COUNT] = {
    [TCW_FUSION_NONE] = "none",
    [TCW_FUSION_RESIDUAL_RMS_NORM] = "residual-rms-norm",
    [TCW_FUSION_RESIDUAL_RMS_NORM_QUANT_FP8] = "residual-rms-norm-quant-fp8",
    [TCW_FUSION_RESIDUAL_RMS_NORM_QUANT_NVFP4] = "residual-rms-norm-quant-nvfp4",
    [TCW_FUSION_RESIDUAL_RMS_NORM_OUT_QUANT_FP8] = "residual-rms-norm-out-quant-fp8",
    [TCW_FUSION_RESIDUAL_RMS_NORM_OUT_QUANT_NVFP4] = "residual-rms-norm-out-quant-nvfp4",
};

static const char *const redop_names[] = {"sum", "min", "max", "prod", "avg"};
static const char *const lane_names[] = {"auto", "direct", "served"};
static const char *const slot_names[] = {"in",   "out",   "residual_in", "residual_out", "norm_weight",
                                         "bias", "scale", "quant_out",   "scale_out"};

_Static_assert(COUNT(redop_names) == TCW_REDOP_COUNT, "a name for every number");
_Static_assert(COUNT(lane_names) == TCW_LANE_COUNT, "a name for every number");
_Static_assert(COUNT(slot_names) == TCW_SLOT_COUNT, "a name for every number");

const char *tcw_op_name(unsigned op)
{
    return PICK(op_names, op);
}
const char *tcw_op_help(unsigned op)
{
    return PICK(op_helps, op);
}
const char *tcw_dtype_name(unsigned dtype)
{
    return dtype < TCW_DTYPE_COUNT ? dtypes[dtype].name : NULL;
}
const char *tcw_strategy_name(unsigned strategy)
{
    return PICK(strategy_names, strategy);
}
const char *tcw_fusion_name(unsigned fusion)
{
    return PICK(fusion_names, fusion);
}
const char *tcw_redop_name(unsigned redop)
{
    return PICK(redop_names, redop);
}
const char *tcw_lane_name(unsigned lane)
{
    return PICK(lane_names, lane);
}
const char *tcw_slot_name(unsigned slot)
{
    return PICK(slot_names, slot);
}
const char *tcw_message_name(unsigned opcode)
{
    return PICK(message_names, opcode);
}

/* Negates without overflowing: any int may arrive from a peer. */
static unsigned error_index(int code)
{
    return 0u - (unsigned)code;
}

const char *tcw_error_name(int code)
{
    return PICK(error_names, error_index(code));
}
const char *tcw_error_text(int code)
{
    return PICK(error_texts, error_index(code));
}

size_t tcw_dtype_bytes(unsigned dtype)
{
    return dtype < TCW_DTYPE_COUNT ? dtypes[dtype].bytes : 0;
}
