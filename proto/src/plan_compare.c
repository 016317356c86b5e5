/* Do two ranks' descriptors say the same? And one number that stands for a descriptor. */
#include <tcw/plan.h>

#include <stdio.h>
#include <string.h>

static void say(char text[TCW_VALUE_TEXT_BYTES], uint64_t value, const char *name)
{
    if (name)
        snprintf(text, TCW_VALUE_TEXT_BYTES, "%s", name);
    else
        snprintf(text, TCW_VALUE_TEXT_BYTES, "%llu", (unsigned long long)value);
}

static int differ(struct tcw_complaint *complaint, const char *field, uint64_t mine, uint64_t theirs, const char *mine_name,
                  const char *theirs_name)
{
    complaint->field = field;
    complaint->mine = mine;
    complaint->theirs = theirs;
    say(complaint->mine_text, mine, mine_name);
    say(complaint->theirs_text, theirs, theirs_name);
    snprintf(complaint->text, sizeof(complaint->text), "%s: %s against %s", field, complaint->mine_text, complaint->theirs_text);
    return TCW_EMISMATCH;
}

/* People know epsilon as a number; in numbers it is the bits of one. */
static int differ_in_eps(struct tcw_complaint *complaint, uint32_t mine, uint32_t theirs)
{
    char mine_text[TCW_VALUE_TEXT_BYTES], theirs_text[TCW_VALUE_TEXT_BYTES];
    float a, b;
    int digits = 6; /* 9 tell any two apart */

    memcpy(&a, &mine, sizeof(a));
    memcpy(&b, &theirs, sizeof(b));
    do {
        snprintf(mine_text, sizeof(mine_text), "%.*g", digits, (double)a);
        snprintf(theirs_text, sizeof(theirs_text), "%.*g", digits, (double)b);
    } while (!strcmp(mine_text, theirs_text) && ++digits <= 9);
    return differ(complaint, "eps", mine, theirs, mine_text, theirs_text);
}

/* Static names, because a complaint outlives the call. */
static const char *const tensor_fields[TCW_MAX_TENSORS][5] = {
#define ROW(i)                                                                                                                             \
    {                                                                                                                                      \
        "tensors[" #i "].outer", "tensors[" #i "].extent", "tensors[" #i "].inner", "tensors[" #i "].dtype", "tensors[" #i "].present"     \
    }
    ROW(0), ROW(1), ROW(2), ROW(3), ROW(4), ROW(5), ROW(6), ROW(7), ROW(8), ROW(9), ROW(10), ROW(11), ROW(12), ROW(13), ROW(14), ROW(15),
#undef ROW
};

static int compare_tensor(const struct tcw_tensor *a, const struct tcw_tensor *b, const char *const fields[5],
                          struct tcw_complaint *complaint)
{
    if (a->present != b->present)
        return differ(complaint, fields[4], a->present, b->present, NULL, NULL);
    if (a->dtype != b->dtype)
        return differ(complaint, fields[3], a->dtype, b->dtype, tcw_dtype_name(a->dtype), tcw_dtype_name(b->dtype));
    if (a->outer != b->outer)
        return differ(complaint, fields[0], a->outer, b->outer, NULL, NULL);
    if (a->extent != b->extent)
        return differ(complaint, fields[1], a->extent, b->extent, NULL, NULL);
    if (a->inner != b->inner)
        return differ(complaint, fields[2], a->inner, b->inner, NULL, NULL);
    return 0;
}

int tcw_plan_desc_compare(const struct tcw_plan_desc *a, const struct tcw_plan_desc *b, struct tcw_complaint *complaint)
{
    uint32_t i;

#define SAME(field)                                                                                                                        \
    if (a->field != b->field)                                                                                                              \
    return differ(complaint, #field, a->field, b->field, NULL, NULL)
#define SAME_NAMED(field, name)                                                                                                            \
    if (a->field != b->field)                                                                                                              \
    return differ(complaint, #field, a->field, b->field, name(a->field), name(b->field))

    SAME_NAMED(op, tcw_op_name);
    SAME_NAMED(dtype, tcw_dtype_name);
    SAME_NAMED(redop, tcw_redop_name);
    SAME_NAMED(fusion, tcw_fusion_name);
    SAME_NAMED(strategy, tcw_strategy_name);
    SAME_NAMED(lane, tcw_lane_name);
    SAME(flags);
    SAME(root);
    SAME(hidden);
    SAME(max_tokens);
    if (a->eps_bits != b->eps_bits)
        return differ_in_eps(complaint, a->eps_bits, b->eps_bits);
    SAME(tensor_count);
    for (i = 0; i < TCW_MAX_RANKS; i++)
        if (a->sizes[i] != b->sizes[i])
            return differ(complaint, "sizes", a->sizes[i], b->sizes[i], NULL, NULL);
    for (i = 0; i < TCW_MAX_TENSORS; i++) {
        int code = compare_tensor(&a->tensors[i], &b->tensors[i], tensor_fields[i], complaint);
        if (code)
            return code;
    }
    return 0;
#undef SAME
#undef SAME_NAMED
}

/* FNV-1a over 64-bit words with a final mix: cheap, and the same on every machine of one byte order. */
uint64_t tcw_plan_desc_hash(const struct tcw_plan_desc *desc)
{
    uint64_t hash = 0xcbf29ce484222325ull;
    const unsigned char *bytes = (const unsigned char *)desc;
    size_t i;

    _Static_assert(sizeof(*desc) % sizeof(uint64_t) == 0, "no padding to hash");
    for (i = 0; i < sizeof(*desc); i += sizeof(uint64_t)) {
        uint64_t word;
        memcpy(&word, bytes + i, sizeof(word));
        hash = (hash ^ word) * 0x100000001b3ull;
        hash ^= hash >> 29;
    }
    return hash;
}
