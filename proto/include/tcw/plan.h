/*
 * A plan's descriptor: what all ranks must agree on, and the arithmetic of its buffers. Pure functions over private copies; both sides
 * of every boundary call the same code, so a client can refuse early exactly what the daemon would refuse late.
 * Owner: the caller. Threads: any.
 */
#ifndef TCW_PLAN_H
#define TCW_PLAN_H

#include <tcw/types.h>

#ifdef __cplusplus
extern "C" {
#endif

enum {
    TCW_PLAN_ACC_FP32 = 1u << 0, /* ONESHOT, TWOSHOT, MIN_LATENCY: accumulate 16-bit types in fp32, round once */
    TCW_PLAN_BIAS = 1u << 1,     /* sum + bias before the residual add (or as the result, with fusion NONE) */
    TCW_PLAN_GRAPH = 1u << 2,    /* will be captured */
    TCW_PLAN_SIZES = 1u << 3,    /* `sizes` holds each rank's extent */
    TCW_PLAN_FORCE = 1u << 4,    /* ub-finalize: ranks exchange their shards, however short the message is */
    TCW_PLAN_FLAGS_KNOWN = 31u,
};

/*
 * One tensor of a data-moving operation, row-major [outer, extent, inner]: the dimensions before the one that ranks are concatenated
 * along, that one, and those behind it. `extent` is this operation's per-rank extent when there are no `sizes` (all-gather: of the
 * input; reduce-scatter: of the output; all-to-all and broadcast: 1, the whole tensor is `inner`), else 0.
 */
struct tcw_tensor {
    uint64_t outer;
    uint64_t extent;
    uint64_t inner;
    uint32_t dtype;
    uint32_t present; /* 0: an absent list entry, all other fields 0 */
};

struct tcw_plan_desc {
    uint16_t op;       /* tcw_op */
    uint16_t dtype;    /* operations of tokens: their type. Others: 0, each tensor has its own */
    uint16_t strategy; /* all-reduce; others TCW_STRATEGY_AUTO */
    uint16_t fusion;
    uint16_t redop;
    uint16_t lane; /* wanted lane */
    uint32_t flags;
    uint32_t root;         /* broadcast */
    uint32_t eps_bits;     /* fp32 bit pattern of epsilon */
    uint64_t max_tokens;   /* operations of tokens: largest token count of a run */
    uint64_t hidden;       /* operations of tokens: elements of one token */
    uint32_t tensor_count; /* list operations, else 0 (operations of tokens) or 1 */
    uint32_t reserved;
    uint64_t sizes[TCW_MAX_RANKS];
    struct tcw_tensor tensors[TCW_MAX_TENSORS];
};

/* Operations of tokens: all-reduce and ub-finalize. Their buffers hold whole tokens; the others move tensors. */
static inline int tcw_op_has_tokens(unsigned op)
{
    return op == TCW_OP_ALL_REDUCE || op == TCW_OP_UB_FINALIZE;
}

/* Rank r owns the tokens from tcw_shard_first(r) up to tcw_shard_first(r + 1): the first ranks one more where they do not divide. */
uint64_t tcw_shard_first(uint64_t tokens, uint32_t nranks, uint32_t rank);
/* ub-finalize: whether this run copies what the rank has: a group of one, and short messages unless TCW_PLAN_FORCE. */
int tcw_finalize_is_local(const struct tcw_plan_desc *desc, uint32_t nranks, uint64_t tokens);

enum { TCW_VALUE_TEXT_BYTES = 40 };

/* What is wrong with a descriptor or where two differ. Filled only on failure. */
struct tcw_complaint {
    const char *field;         /* static string */
    uint64_t mine;             /* the value found (tcw_plan_desc_check), or the value of `a` */
    uint64_t theirs;           /* for a difference: the value of `b` */
    char text[TCW_TEXT_BYTES]; /* what was found and what is allowed */
    char mine_text[TCW_VALUE_TEXT_BYTES], theirs_text[TCW_VALUE_TEXT_BYTES]; /* for a difference: both values in words */
};

/* 0, TCW_EINVAL, TCW_ENOSYS or TCW_ENOTSUP with *complaint filled. `nranks` is the size of the group. Reads only *desc. */
int tcw_plan_desc_check(const struct tcw_plan_desc *desc, uint32_t nranks, struct tcw_complaint *complaint);

/* 0 if equal in every field that must agree, else TCW_EMISMATCH with the first differing field and both values. */
int tcw_plan_desc_compare(const struct tcw_plan_desc *a, const struct tcw_plan_desc *b, struct tcw_complaint *complaint);

/* Stable 64-bit hash over all fields, for the running hash of a group's plans. */
uint64_t tcw_plan_desc_hash(const struct tcw_plan_desc *desc);

/*
 * Number of buffers of kind `slot` in one run of a checked plan, in list order: 0 when the plan does not use the slot.
 * all-to-all: IN has lists x ranks, OUT has lists; absent list entries count no buffer.
 */
uint32_t tcw_plan_slot_count(const struct tcw_plan_desc *desc, uint32_t nranks, unsigned slot);

/*
 * Bytes that buffer `index` of `slot` must have for a run with `tokens` on `rank`. `tokens`: of operations of tokens, their count
 * (1..max_tokens); others, 0 or, without sizes, the extent of this run (1..extent). Returns 0 for an unused slot. Never overflows for a
 * checked plan.
 */
uint64_t tcw_plan_slot_bytes(const struct tcw_plan_desc *desc, uint32_t nranks, uint32_t rank, uint64_t tokens, unsigned slot,
                             uint32_t index);

/* Payload bytes of one run, as benchmarks and histograms count them: operations of tokens M*H*size; others, this rank's larger side. */
uint64_t tcw_plan_message_bytes(const struct tcw_plan_desc *desc, uint32_t nranks, uint32_t rank, uint64_t tokens);

/* 0 or TCW_EINVAL: is `tokens` allowed for a run of this plan? */
int tcw_plan_tokens_check(const struct tcw_plan_desc *desc, uint64_t tokens, struct tcw_complaint *complaint);

/* Which strategy runs at which size, and where. Decided once per plan by the control process, equal on all ranks. */
struct tcw_decision_step {
    uint64_t max_bytes; /* this step serves message bytes up to here; the last one says UINT64_MAX */
    uint32_t strategy;
    uint32_t blocks; /* CUDA kernels: grid size, 0: the kernel's own rule; else 0 */
};

enum { TCW_MAX_DECISION_STEPS = 16 };

struct tcw_decision {
    uint32_t lane;
    uint32_t step_count; /* 1..TCW_MAX_DECISION_STEPS */
    struct tcw_decision_step steps[TCW_MAX_DECISION_STEPS];
    /*
     * CUDA: what kernels' grids are made of, where ranks see different numbers (shares of MPS, models). On the direct lane clients count,
     * on the served lane executors. Host devices: 0.
     */
    uint32_t multiprocessors; /* the least that any rank has */
    uint32_t compute;         /* 90 for SM 9.0; 0: not all ranks have the same */
};

/* The step that serves messages of this size. */
const struct tcw_decision_step *tcw_decision_step(const struct tcw_decision *decision, uint64_t message_bytes);
uint32_t tcw_decision_strategy(const struct tcw_decision *decision, uint64_t message_bytes);

#ifdef __cplusplus
}
#endif
#endif
