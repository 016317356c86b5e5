/*
 * What an operator types about a collective, as a plan descriptor: `all-reduce 64x7168 --dtype bf16 ...`. Pure.
 */
#ifndef TCC_CTL_SHAPE_H
#define TCC_CTL_SHAPE_H

#include <stdbool.h>
#include <tcw/plan.h>

/* All but op and shape may be NULL: not given. */
struct tcc_shape_request {
    const char *op;
    const char *shape; /* all-reduce: TOKENSxHIDDEN; barrier: none; else elements of one rank's tensor, as N or AxBx... */
    const char *dtype, *fusion, *strategy, *lane, *redop, *sizes, *root, *eps, *max_tokens;
    bool bias, acc_fp32, graph;
};

/*
 * Fills *desc and *tokens, of the one run to be explained. 0, or TCW_EINVAL with *complaint: what was found and what is allowed. The
 * descriptor has not been checked against a group yet (tcw_plan_desc_check).
 */
int tcc_shape_parse(const struct tcc_shape_request *request, struct tcw_plan_desc *desc, uint64_t *tokens, struct tcw_complaint *complaint);

/* How many ranks `sizes` speaks of. */
unsigned tcc_shape_ranks(const char *sizes);

#endif
