#include "shape.h"

#include "text.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

__attribute__((format(printf, 3, 4))) static int complain(struct tcw_complaint *complaint, const char *field, const char *format, ...)
{
    va_list args;

    *complaint = (struct tcw_complaint){.field = field};
    va_start(args, format);
    vsnprintf(complaint->text, sizeof complaint->text, format, args);
    va_end(args);
    return TCW_EINVAL;
}

/* Looks `word` up among names by number; the complaint lists them. */
static int number_of(const char *field, const char *word, const char *(*name)(unsigned), unsigned count, unsigned *number,
                     struct tcw_complaint *complaint)
{
    char allowed[200] = "";
    size_t used = 0;

    for (unsigned i = 0; i < count; i++) {
        if (!name(i))
            continue;
        if (strcmp(word, name(i)) == 0) {
            *number = i;
            return 0;
        }
        if (used + strlen(name(i)) + 3 < sizeof allowed)
            used += (size_t)snprintf(allowed + used, sizeof allowed - used, "%s%s", used ? ", " : "", name(i));
    }
    return complain(complaint, field, "%s: found \"%s\", allowed: %s", field, word, allowed);
}

/* "64x7168" into up to `most` positive factors; their number, 0 if it is no shape. */
static unsigned factors(const char *text, uint64_t *values, unsigned most)
{
    unsigned count = 0;

    while (count < most) {
        char part[24];
        size_t length = strcspn(text, "xX");

        if (length >= sizeof part)
            return 0;
        memcpy(part, text, length);
        part[length] = 0;
        if (!tcc_parse_u64(part, &values[count]) || !values[count])
            return 0;
        count++;
        text += length;
        if (!*text)
            return count;
        text++;
    }
    return 0;
}

static int parse_sizes(const char *text, struct tcw_plan_desc *desc, struct tcw_complaint *complaint)
{
    const char *from = text;

    for (unsigned rank = 0; rank < TCW_MAX_RANKS; rank++) {
        char part[24];
        size_t length = strcspn(from, ",");

        if (length >= sizeof part)
            break;
        memcpy(part, from, length);
        part[length] = 0;
        if (!tcc_parse_u64(part, &desc->sizes[rank]))
            break;
        from += length;
        if (!*from) {
            desc->flags |= TCW_PLAN_SIZES;
            return 0;
        }
        from++;
    }
    return complain(complaint, "sizes", "sizes: found \"%s\", allowed: one number for every rank, with commas between", text);
}

static int parse_tokens(const struct tcc_shape_request *request, unsigned dtype, struct tcw_plan_desc *desc, uint64_t *tokens,
                        struct tcw_complaint *complaint)
{
    uint64_t values[2];
    float eps = 1e-6f;

    if (!request->shape || factors(request->shape, values, 2) != 2)
        return complain(complaint, "shape", "shape: found \"%s\", %s takes TOKENSxHIDDEN, such as 64x7168",
                        request->shape ? request->shape : "", request->op);
    *tokens = desc->max_tokens = values[0];
    desc->hidden = values[1];
    desc->dtype = (uint16_t)dtype;
    if (request->max_tokens && (!tcc_parse_u64(request->max_tokens, &desc->max_tokens) || desc->max_tokens < *tokens))
        return complain(complaint, "max_tokens", "max-tokens: found \"%s\", allowed: %llu or more", request->max_tokens,
                        (unsigned long long)*tokens);
    if (request->eps) {
        char *end;

        eps = strtof(request->eps, &end);
        if (end == request->eps || *end || !(eps >= 0))
            return complain(complaint, "eps", "eps: found \"%s\", allowed: a number from 0 to 1", request->eps);
    }
    if (desc->fusion != TCW_FUSION_NONE || request->eps)
        memcpy(&desc->eps_bits, &eps, sizeof eps);
    return 0;
}

/* One tensor. Gathering operations concatenate along its only ranked dimension, the others move it whole. */
static int parse_tensor(const struct tcc_shape_request *request, unsigned dtype, struct tcw_plan_desc *desc,
                        struct tcw_complaint *complaint)
{
    bool gathers = desc->op == TCW_OP_ALL_GATHER || desc->op == TCW_OP_REDUCE_SCATTER;
    uint64_t values[8], inner = 1;
    unsigned count = request->shape ? factors(request->shape, values, 8) : 0;

    if (!count)
        return complain(complaint, "shape", "shape: found \"%s\", %s takes the elements of one rank's tensor, such as 4096 or 64x7168",
                        request->shape ? request->shape : "", tcw_op_name(desc->op));
    for (unsigned i = gathers ? 1 : 0; i < count; i++) {
        if (__builtin_mul_overflow(inner, values[i], &inner))
            return complain(complaint, "shape", "shape: found \"%s\", which is more than 2^64 elements", request->shape);
    }
    if (request->sizes && values[0] != 1)
        return complain(complaint, "shape",
                        "shape: found \"%s\", but with sizes the first number is 1: they say how many of these each rank has",
                        request->shape);
    desc->tensor_count = 1;
    desc->tensors[0] = (struct tcw_tensor){
        .outer = 1, .extent = gathers ? (request->sizes ? 0 : values[0]) : 1, .inner = inner, .dtype = dtype, .present = 1};
    return request->sizes ? parse_sizes(request->sizes, desc, complaint) : 0;
}

static int parse_words(const struct tcc_shape_request *request, struct tcw_plan_desc *desc, unsigned *dtype,
                       struct tcw_complaint *complaint)
{
    struct {
        const char *field, *word;
        const char *(*name)(unsigned);
        unsigned count, number;
    } words[] = {
        {"operation", request->op, tcw_op_name, TCW_OP_COUNT, 0},
        {"dtype", request->dtype, tcw_dtype_name, TCW_DTYPE_COUNT, TCW_BF16},
        {"fusion", request->fusion, tcw_fusion_name, TCW_FUSION_COUNT, TCW_FUSION_NONE},
        {"strategy", request->strategy, tcw_strategy_name, TCW_STRATEGY_COUNT, TCW_STRATEGY_AUTO},
        {"lane", request->lane, tcw_lane_name, TCW_LANE_COUNT, TCW_LANE_AUTO},
        {"redop", request->redop, tcw_redop_name, TCW_REDOP_COUNT, TCW_SUM},
    };

    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        int rc = words[i].word ? number_of(words[i].field, words[i].word, words[i].name, words[i].count, &words[i].number, complaint) : 0;

        if (rc)
            return rc;
    }
    desc->op = (uint16_t)words[0].number;
    *dtype = words[1].number;
    desc->fusion = (uint16_t)words[2].number;
    desc->strategy = (uint16_t)words[3].number;
    desc->lane = (uint16_t)words[4].number;
    desc->redop = (uint16_t)words[5].number;
    return 0;
}

/* What only some operations know, and no descriptor would show. */
static int check_options(const struct tcc_shape_request *request, unsigned op, struct tcw_complaint *complaint)
{
    bool reduces = op == TCW_OP_ALL_REDUCE, counts = tcw_op_has_tokens(op),
         gathers = op == TCW_OP_ALL_GATHER || op == TCW_OP_REDUCE_SCATTER;

    if (request->sizes && !gathers)
        return complain(complaint, "sizes", "sizes: found \"%s\", %s takes none", request->sizes, request->op);
    if (request->max_tokens && !counts)
        return complain(complaint, "max_tokens", "max-tokens: found \"%s\", %s takes none", request->max_tokens, request->op);
    if (request->eps && !reduces)
        return complain(complaint, "eps", "eps: found \"%s\", %s takes none", request->eps, request->op);
    if (request->root && op != TCW_OP_BROADCAST)
        return complain(complaint, "root", "root: found \"%s\", %s takes none", request->root, request->op);
    return 0;
}

unsigned tcc_shape_ranks(const char *sizes)
{
    unsigned ranks = 1;

    for (; *sizes; sizes++)
        ranks += *sizes == ',';
    return ranks;
}

int tcc_shape_parse(const struct tcc_shape_request *request, struct tcw_plan_desc *desc, uint64_t *tokens, struct tcw_complaint *complaint)
{
    uint64_t root = 0;
    unsigned dtype;
    int rc;

    memset(desc, 0, sizeof *desc);
    *tokens = 0;
    rc = parse_words(request, desc, &dtype, complaint);
    if (!rc)
        rc = check_options(request, desc->op, complaint);
    if (rc)
        return rc;
    desc->flags =
        (request->bias ? TCW_PLAN_BIAS : 0u) | (request->acc_fp32 ? TCW_PLAN_ACC_FP32 : 0u) | (request->graph ? TCW_PLAN_GRAPH : 0u);
    if (request->root && (!tcc_parse_u64(request->root, &root) || root >= TCW_MAX_RANKS))
        return complain(complaint, "root", "root: found \"%s\", allowed: a rank", request->root);
    desc->root = (uint32_t)root;
    if (tcw_op_has_tokens(desc->op))
        return parse_tokens(request, dtype, desc, tokens, complaint);
    if (desc->op == TCW_OP_NOP || desc->op == TCW_OP_BARRIER)
        return request->shape ? complain(complaint, "shape", "shape: found \"%s\", %s takes none", request->shape, request->op) : 0;
    return parse_tensor(request, dtype, desc, complaint);
}
