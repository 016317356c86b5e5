/* Numbers into words, and the proof that the public numbers are those of the contract. */
#include "trtcoll.h"

#include <tcw/plan.h>

#define TCW_ERROR(number, NAME, text) _Static_assert((int)TRTCOLL_##NAME == (int)TCW_##NAME, "public code equals the contract's");
#include <tcw/errors.def>
#undef TCW_ERROR

#define SAME(name) _Static_assert((int)TRTCOLL_##name == (int)TCW_##name, "public number equals the contract's")
SAME(FP32);
SAME(FP16);
SAME(BF16);
SAME(FP64);
SAME(INT8);
SAME(UINT8);
SAME(INT32);
SAME(UINT32);
SAME(INT64);
SAME(UINT64);
SAME(FP8_E4M3);
SAME(BOOL);
SAME(SUM);
SAME(MIN);
SAME(MAX);
SAME(PROD);
SAME(AVG);
SAME(STRATEGY_NCCL);
SAME(STRATEGY_MIN_LATENCY);
SAME(STRATEGY_UB);
SAME(STRATEGY_AUTO);
SAME(STRATEGY_ONESHOT);
SAME(STRATEGY_TWOSHOT);
SAME(STRATEGY_LOWPRECISION);
SAME(STRATEGY_MNNVL);
SAME(STRATEGY_NCCL_SYMMETRIC);
SAME(STRATEGY_SYMM_MEM);
SAME(FUSION_NONE);
SAME(FUSION_RESIDUAL_RMS_NORM);
SAME(FUSION_RESIDUAL_RMS_NORM_QUANT_FP8);
SAME(FUSION_RESIDUAL_RMS_NORM_QUANT_NVFP4);
SAME(FUSION_RESIDUAL_RMS_NORM_OUT_QUANT_FP8);
SAME(FUSION_RESIDUAL_RMS_NORM_OUT_QUANT_NVFP4);
SAME(LANE_AUTO);
SAME(LANE_DIRECT);
SAME(LANE_SERVED);
SAME(MAX_TENSORS);
SAME(MAX_RANKS);
#undef SAME
_Static_assert((int)TRTCOLL_ACC_FP32 == (int)TCW_PLAN_ACC_FP32, "public flag equals the contract's");
_Static_assert((int)TRTCOLL_BIAS == (int)TCW_PLAN_BIAS, "public flag equals the contract's");
_Static_assert((int)TRTCOLL_GRAPH == (int)TCW_PLAN_GRAPH, "public flag equals the contract's");
_Static_assert((int)TRTCOLL_FORCE == (int)TCW_PLAN_FORCE, "public flag equals the contract's");
_Static_assert(TCW_DTYPE_COUNT == 12 && TCW_REDOP_COUNT == 5 && TCW_STRATEGY_COUNT == 10 && TCW_LANE_COUNT == 3,
               "a new number of the contract needs its public name");

static const struct {
    const char *name;
    const char *text;
} errors[] = {
    {"TRTCOLL_OK", "no error"},
#define TCW_ERROR(number, NAME, words) [number] = {"TRTCOLL_" #NAME, words},
#include <tcw/errors.def>
#undef TCW_ERROR
};

enum { ERROR_COUNT = sizeof(errors) / sizeof(errors[0]) };

/* Unsigned negation, because the code may be any number. */
static unsigned error_index(int code)
{
    unsigned index = 0u - (unsigned)code;

    return index < ERROR_COUNT ? index : ERROR_COUNT;
}

const char *trtcoll_error_name(int code)
{
    unsigned index = error_index(code);

    return index < ERROR_COUNT && errors[index].name ? errors[index].name : "TRTCOLL_E?";
}

const char *trtcoll_error_text(int code)
{
    unsigned index = error_index(code);

    return index < ERROR_COUNT && errors[index].text ? errors[index].text : "unknown error";
}

const char *trtcoll_op_name(uint32_t op)
{
    return tcw_op_name(op);
}

#define WORDS_OF(x) #x
#define WORDS(x)    WORDS_OF(x)

const char *trtcoll_version(void)
{
    return WORDS(TRTCOLL_VERSION_MAJOR) "." WORDS(TRTCOLL_VERSION_MINOR) "." WORDS(TRTCOLL_VERSION_PATCH);
}
