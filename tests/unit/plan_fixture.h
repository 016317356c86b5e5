/* Good descriptors to start from. */
#ifndef TESTS_PLAN_FIXTURE_H
#define TESTS_PLAN_FIXTURE_H

#include <tcw/plan.h>

#include <string.h>

static inline uint32_t float_bits(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof(bits));
    return bits;
}

static inline struct tcw_plan_desc plan_of(unsigned op)
{
    struct tcw_plan_desc desc;
    memset(&desc, 0, sizeof(desc));
    desc.op = (uint16_t)op;
    desc.strategy = TCW_STRATEGY_AUTO;
    return desc;
}

static inline struct tcw_plan_desc plan_all_reduce(unsigned dtype, unsigned fusion, uint64_t tokens, uint64_t hidden)
{
    struct tcw_plan_desc desc = plan_of(TCW_OP_ALL_REDUCE);
    desc.dtype = (uint16_t)dtype;
    desc.fusion = (uint16_t)fusion;
    desc.max_tokens = tokens;
    desc.hidden = hidden;
    desc.eps_bits = fusion ? float_bits(1e-6f) : 0;
    return desc;
}

static inline void plan_add_tensor(struct tcw_plan_desc *desc, unsigned dtype, uint64_t outer, uint64_t extent, uint64_t inner)
{
    desc->tensors[desc->tensor_count++] =
        (struct tcw_tensor){.outer = outer, .extent = extent, .inner = inner, .dtype = dtype, .present = 1};
}

static inline void plan_add_absent(struct tcw_plan_desc *desc)
{
    desc->tensor_count++;
}

#endif
