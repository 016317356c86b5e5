/*
 * All-reduce in every form, against a reference in double precision and its own roundings: sums, residuals and everything behind them bit
 * for bit (the order of the norm's sum is documented), the norm also within one ulp of the true value.
 */
#include "kernels_fixture.h"
#include "kernels_reference.h"
#include "plan_fixture.h"

enum { MOST_ELEMENTS = 129 * 72 > 4 * 8192 ? 129 * 72 : 4 * 8192, MNNVL_ONE_SHOT = 524288 };

static const unsigned strategies[] = {TCW_STRATEGY_NCCL, TCW_STRATEGY_MIN_LATENCY, TCW_STRATEGY_ONESHOT, TCW_STRATEGY_TWOSHOT,
                                      TCW_STRATEGY_MNNVL};
static const unsigned fusions[] = {TCW_FUSION_NONE,
                                   TCW_FUSION_RESIDUAL_RMS_NORM,
                                   TCW_FUSION_RESIDUAL_RMS_NORM_QUANT_FP8,
                                   TCW_FUSION_RESIDUAL_RMS_NORM_QUANT_NVFP4,
                                   TCW_FUSION_RESIDUAL_RMS_NORM_OUT_QUANT_FP8,
                                   TCW_FUSION_RESIDUAL_RMS_NORM_OUT_QUANT_NVFP4};
enum { STRATEGIES = 5, FUSIONS = 6 };

/* One run of one group: inputs, outputs of every rank, and what they should be. Reused from case to case. */
struct buffers {
    uint8_t in[TCK_HOST_MAX_RANKS][MOST_ELEMENTS * 8];
    uint8_t out[TCK_HOST_MAX_RANKS][MOST_ELEMENTS * 8];
    uint8_t residual[MOST_ELEMENTS * 4], gamma[8192 * 4], bias[8192 * 4];
    uint8_t residual_out[TCK_HOST_MAX_RANKS][MOST_ELEMENTS * 4];
    uint8_t quant[TCK_HOST_MAX_RANKS][MOST_ELEMENTS];
    uint8_t scales[TCK_HOST_MAX_RANKS][MOST_ELEMENTS + 65536];
    float scale;
    double sum[MOST_ELEMENTS], u[MOST_ELEMENTS], norm[MOST_ELEMENTS];
};
static struct buffers *b;

struct subject {
    struct group *group;
    struct tcw_plan_desc desc;
    unsigned strategy;
    uint64_t tokens;
    unsigned data; /* kind of input */
    bool in_place;
};

enum { DATA_PLAIN, DATA_HARSH, DATA_ZEROS, DATA_HUGE, DATA_SUBNORMAL, DATA_KINDS };

static double draw(struct dice *dice, unsigned dtype, unsigned kind, uint64_t index)
{
    static const double harsh[] = {0.0, -0.0, INFINITY, -INFINITY, NAN, 65504, -65504, 3.38e38, 6e-8, -6e-8, 1e-40, 448};
    uint64_t bits = dice_roll(dice);
    double x = (double)(int32_t)bits / 0x1p29;
    switch (kind) {
    case DATA_HARSH:
        return bits >> 32 < UINT32_MAX / 20 ? harsh[bits % 12] : bits >> 60 == 0 ? -0.0 : x;
    case DATA_ZEROS: /* whole blocks of zeros of both signs */
        return index / 16 % 3 ? bits & 1 << 20 ? -0.0 : 0.0 : x;
    case DATA_HUGE: /* one giant per block */
        return index % 16 == 5 ? x * 20000 : x / 64;
    case DATA_SUBNORMAL:
        return ldexp(x, dtype == TCW_FP16 ? -16 : -127);
    default:
        return x;
    }
}

static void fill(struct dice *dice, unsigned dtype, unsigned kind, void *base, uint64_t n)
{
    for (uint64_t i = 0; i < n; i++) {
        uint64_t bits;
        if (dtype > TCW_FP64) {
            bits = dice_roll(dice);
            memcpy((uint8_t *)base + i * tcw_dtype_bytes(dtype), &bits, tcw_dtype_bytes(dtype));
        } else {
            ref_store(dtype, base, i, ref_round(dtype, draw(dice, dtype, kind, i)));
        }
    }
}

static const char *describe(const struct subject *s)
{
    static char text[256];
    snprintf(text, sizeof(text), "%u ranks, %s, strategy %s, fusion %s, redop %s, flags %u, [%llu, %llu], data %u", s->group->n,
             tcw_dtype_name(s->desc.dtype), tcw_strategy_name(s->strategy), tcw_fusion_name(s->desc.fusion), tcw_redop_name(s->desc.redop),
             s->desc.flags, (unsigned long long)s->tokens, (unsigned long long)s->desc.hidden, s->data);
    return text;
}

static bool is_wide(const struct subject *s)
{
    return s->strategy == TCW_STRATEGY_NCCL || s->strategy == TCW_STRATEGY_MNNVL || s->desc.flags & TCW_PLAN_ACC_FP32;
}

/* Integers are compared modulo 2^64 of their own width, computed here without the loops' tricks. */
static uint64_t integer_at(unsigned dtype, const void *base, uint64_t i)
{
    union {
        int8_t i8;
        uint8_t u8;
        int32_t i32;
        uint32_t u32;
        uint64_t u64;
    } v;
    memcpy(&v, (const uint8_t *)base + i * tcw_dtype_bytes(dtype), tcw_dtype_bytes(dtype));
    switch (dtype) {
    case TCW_INT8:
        return (uint64_t)v.i8;
    case TCW_UINT8:
        return v.u8;
    case TCW_INT32:
        return (uint64_t)v.i32;
    case TCW_UINT32:
        return v.u32;
    default:
        return v.u64;
    }
}

static void check_integers(const struct subject *s)
{
    unsigned dtype = s->desc.dtype;
    bool is_signed = dtype == TCW_INT8 || dtype == TCW_INT32 || dtype == TCW_INT64;
    size_t size = tcw_dtype_bytes(dtype);
    for (uint64_t i = 0; i < s->tokens * s->desc.hidden; i++) {
        uint64_t acc = integer_at(dtype, b->in[0], i);
        for (uint32_t r = 1; r < s->group->n; r++) {
            uint64_t x = integer_at(dtype, b->in[r], i);
            bool less = is_signed ? (int64_t)x < (int64_t)acc : x < acc;
            acc = s->desc.redop == TCW_MIN    ? (less ? x : acc)
                  : s->desc.redop == TCW_MAX  ? (less ? acc : x)
                  : s->desc.redop == TCW_PROD ? acc * x
                                              : acc + x;
        }
        if (s->desc.redop == TCW_AVG)
            acc = is_signed ? (uint64_t)((int64_t)acc / (int64_t)s->group->n) : acc / s->group->n;
        if (memcmp(&acc, b->out[0] + i * size, size))
            fail_msg("%s: element %llu", describe(s), (unsigned long long)i);
    }
}

/* The canonical order of the sum of squares. */
static double canonical_squares(const struct subject *s, const double *u)
{
    float lanes[64] = {0};
    for (uint64_t i = 0; i < s->desc.hidden; i++) {
        float square = (float)u[i] * (float)u[i];
        if (s->strategy == TCW_STRATEGY_MNNVL)
            square = (float)ref_round(s->desc.dtype, square);
        lanes[i % 64] += square;
    }
    for (int half = 32; half; half /= 2)
        for (int i = 0; i < half; i++)
            lanes[i] += lanes[i + half];
    return lanes[0];
}

static double ulp_of(unsigned dtype, double x)
{
    int e;
    frexp(x, &e);
    int digits = dtype == TCW_BF16 ? 8 : dtype == TCW_FP16 ? 11 : 24, least = dtype == TCW_FP16 ? -24 : dtype == TCW_BF16 ? -133 : -149;
    return ldexp(1.0, e - digits < least ? least : e - digits);
}

static void reference_row(const struct subject *s, uint64_t row)
{
    unsigned dtype = s->desc.dtype;
    uint64_t hidden = s->desc.hidden, at = row * hidden;
    double *u = b->u + at, *norm = b->norm + at;
    double x[TCK_HOST_MAX_RANKS] = {0};
    unsigned step = dtype == TCW_FP64 ? TCW_FP64 : is_wide(s) ? TCW_FP32 : dtype;
    for (uint64_t i = 0; i < hidden; i++) {
        for (uint32_t r = 0; r < s->group->n; r++)
            x[r] = ref_load(dtype, b->in[r], at + i);
        u[i] = ref_fold(x, s->group->n, s->desc.redop, dtype, step);
        if (s->desc.flags & TCW_PLAN_BIAS)
            u[i] = ref_round(dtype, (float)(u[i] + ref_load(dtype, b->bias, i)));
        b->sum[at + i] = u[i];
        if (s->desc.fusion)
            u[i] = ref_round(dtype, (float)(u[i] + ref_load(dtype, b->residual, at + i)));
    }
    if (!s->desc.fusion)
        return;
    float eps, k = 0;
    memcpy(&eps, &s->desc.eps_bits, 4);
    k = 1.0f / sqrtf((float)canonical_squares(s, u) / (float)hidden + eps);
    double exact = 0;
    double limit =
        s->strategy == TCW_STRATEGY_MNNVL && dtype == TCW_FP16 ? 65504 : 1e38; /* beyond, squares or their sum overflow, as they may */
    bool fits = true;
    for (uint64_t i = 0; i < hidden; i++) {
        exact += u[i] * u[i];
        fits = fits && u[i] * u[i] < limit && exact < 1e38;
    }
    if (s->strategy == TCW_STRATEGY_MNNVL && dtype == TCW_FP16 && exact < 0.01 * (double)hidden)
        fits = false; /* and small squares lose their bits */
    exact = 1 / sqrt(exact / (double)hidden + (double)eps);
    bool gamma_first = s->strategy == TCW_STRATEGY_MNNVL && s->tokens * hidden * tcw_dtype_bytes(dtype) * s->group->n > MNNVL_ONE_SHOT;
    for (uint64_t i = 0; i < hidden; i++) {
        float g = (float)ref_load(dtype, b->gamma, i), uf = (float)u[i];
        norm[i] = ref_round(dtype, gamma_first ? (g * uf) * k : (uf * k) * g);
        double truth = u[i] * exact * (double)g;
        bool tame = fits && isfinite(truth) && isfinite(norm[i]) && fabs(truth) > 1e-30 && exact < 1e10;
        double tolerance = dtype == TCW_FP32 ? fabs(truth) * 1e-5 : ulp_of(dtype, truth);
        if (s->strategy == TCW_STRATEGY_MNNVL && dtype != TCW_FP32)
            tolerance *= 2;
        if (tame && fabs(norm[i] - truth) > tolerance)
            fail_msg("%s: norm %a is too far from %a", describe(s), norm[i], truth);
    }
}

static void check_quant_row(const struct subject *s, uint64_t row)
{
    uint64_t hidden = s->desc.hidden;
    const double *norm = b->norm + row * hidden;
    if (s->desc.fusion == TCW_FUSION_RESIDUAL_RMS_NORM_QUANT_FP8 || s->desc.fusion == TCW_FUSION_RESIDUAL_RMS_NORM_OUT_QUANT_FP8) {
        float m = 1.0f / b->scale;
        for (uint64_t i = 0; i < hidden; i++)
            if (b->quant[0][row * hidden + i] != ref_encode_e4m3((float)norm[i] * m))
                fail_msg("%s: FP8 code of row %llu, %llu", describe(s), (unsigned long long)row, (unsigned long long)i);
        return;
    }
    uint64_t blocks = hidden / 16, groups = (blocks + 3) / 4;
    for (uint64_t block = 0; block < blocks; block++) {
        float largest = 0;
        for (uint64_t i = block * 16; i < block * 16 + 16; i++)
            largest = fabs(norm[i]) > (double)largest ? (float)fabs(norm[i]) : largest;
        uint8_t sf = ref_encode_e4m3(b->scale * (largest * (1.0f / 6.0f)));
        uint64_t where = row / 128 * groups * 512 + block / 4 * 512 + row % 32 * 16 + row % 128 / 32 * 4 + block % 4;
        if (b->scales[0][where] != sf)
            fail_msg("%s: scale factor of row %llu, block %llu: %02x instead of %02x", describe(s), (unsigned long long)row,
                     (unsigned long long)block, b->scales[0][where], sf);
        float multiplier = sf ? b->scale / (float)ref_decode_e4m3(sf) : 0;
        for (uint64_t i = block * 16; i < block * 16 + 16; i++) {
            uint8_t byte = b->quant[0][(row * hidden + i) / 2], code = i & 1 ? byte >> 4 : byte & 15;
            if (code != ref_encode_e2m1((float)norm[i] * multiplier))
                fail_msg("%s: NVFP4 code of row %llu, %llu", describe(s), (unsigned long long)row, (unsigned long long)i);
        }
    }
}

static void check_values(const struct subject *s, const uint8_t *got, const double *want, const char *what)
{
    for (uint64_t i = 0; i < s->tokens * s->desc.hidden; i++)
        if (!ref_same(ref_load(s->desc.dtype, got, i), want[i]))
            fail_msg("%s: %s[%llu] is %a instead of %a", describe(s), what, (unsigned long long)i, ref_load(s->desc.dtype, got, i),
                     want[i]);
}

/* Padding of the swizzled scale factors must not be written; b->scales starts as 0xee, which no factor is (they are positive). */
static void check_padding(const struct subject *s)
{
    uint64_t blocks = s->desc.hidden / 16, written = 0;
    uint64_t total = (s->tokens + 127) / 128 * 128 * ((blocks + 3) / 4 * 4);
    for (uint64_t i = 0; i < total + 1024; i++)
        written += b->scales[0][i] != 0xee;
    assert_int_equal(written, s->tokens * blocks);
}

static void check(const struct subject *s)
{
    bool keeps_norm =
        s->desc.fusion != TCW_FUSION_RESIDUAL_RMS_NORM_QUANT_FP8 && s->desc.fusion != TCW_FUSION_RESIDUAL_RMS_NORM_QUANT_NVFP4;
    uint64_t elements = s->tokens * s->desc.hidden, bytes = elements * tcw_dtype_bytes(s->desc.dtype);
    for (uint32_t r = 1; r < s->group->n; r++) { /* the same on all ranks, NaN or not */
        if (keeps_norm)
            assert_memory_equal(b->out[r], b->out[0], bytes);
        if (s->desc.fusion) {
            assert_memory_equal(b->residual_out[r], b->residual_out[0], bytes);
            assert_memory_equal(b->quant[r], b->quant[0], elements);
            assert_memory_equal(b->scales[r], b->scales[0], elements / 16 + 1024);
        }
    }
    if (s->desc.dtype > TCW_FP64) {
        check_integers(s);
        return;
    }
    for (uint64_t row = 0; row < s->tokens; row++)
        reference_row(s, row);
    if (!s->desc.fusion) {
        check_values(s, b->out[0], b->sum, "sum");
        return;
    }
    check_values(s, b->residual_out[0], b->u, "residual_out");
    if (keeps_norm)
        check_values(s, b->out[0], b->norm, "norm");
    if (s->desc.fusion != TCW_FUSION_RESIDUAL_RMS_NORM)
        for (uint64_t row = 0; row < s->tokens; row++)
            check_quant_row(s, row);
    if (s->desc.fusion == TCW_FUSION_RESIDUAL_RMS_NORM_QUANT_NVFP4 || s->desc.fusion == TCW_FUSION_RESIDUAL_RMS_NORM_OUT_QUANT_NVFP4)
        check_padding(s);
}

/* Runs the subject once on its group and checks everything; `seed` makes the data. */
static void try(const struct subject *s, uint64_t seed)
{
    unsigned dtype = s->desc.dtype;
    uint64_t elements = s->tokens * s->desc.hidden, size = tcw_dtype_bytes(dtype);
    struct tck_run runs[TCK_HOST_MAX_RANKS];
    const void *in[TCK_HOST_MAX_RANKS];
    void *out[TCK_HOST_MAX_RANKS];
    uint8_t saved[64];
    struct dice dice = {seed};
    struct tcw_complaint complaint;

    assert_true(elements <= MOST_ELEMENTS && s->desc.hidden <= 8192);
    if (tcw_plan_desc_check(&s->desc, s->group->n, &complaint))
        fail_msg("%s: %s", describe(s), complaint.text);
    for (uint32_t r = 0; r < s->group->n; r++)
        fill(&dice, dtype, s->data, b->in[r], elements);
    if (dtype <= TCW_BF16) {
        fill(&dice, dtype, s->data, b->residual, elements);
        fill(&dice, dtype, DATA_PLAIN, b->gamma, s->desc.hidden);
        fill(&dice, dtype, s->data == DATA_HUGE ? DATA_PLAIN : s->data, b->bias, s->desc.hidden);
    }
    b->scale = s->desc.fusion == TCW_FUSION_RESIDUAL_RMS_NORM_QUANT_FP8 || s->desc.fusion == TCW_FUSION_RESIDUAL_RMS_NORM_OUT_QUANT_FP8
                   ? 0.0117f
                   : 448 * 6 / 3.7f;
    memset(saved, 0x77, sizeof(saved));
    for (uint32_t r = 0; r < s->group->n; r++) {
        in[r] = b->in[r];
        out[r] = b->out[r];
        memset(b->out[r], 0x11, elements * size);
        memset(b->out[r] + elements * size, 0x77, elements * size + sizeof(saved) <= sizeof(b->out[r]) ? sizeof(saved) : 0);
        memset(b->quant[r], 0x22, elements);
        memset(b->scales[r], 0xee, sizeof(b->scales[r]));
        if (s->desc.fusion) {
            memset(b->residual_out[r], 0x33, elements * size);
            if (s->in_place)
                memcpy(b->residual_out[r], b->residual, elements * size);
        }
        if (s->in_place) {
            memcpy(b->out[r], b->in[r], elements * size);
            in[r] = b->out[r];
        }
        runs[r] = (struct tck_run){
            .desc = &s->desc,
            .plan_id = 5,
            .strategy = s->strategy,
            .tokens = s->tokens,
            .in = &in[r],
            .out = &out[r],
            .residual_in = s->in_place ? b->residual_out[r] : b->residual,
            .residual_out = b->residual_out[r],
            .norm_weight = b->gamma,
            .bias = b->bias,
            .scale = &b->scale,
            .quant_out = b->quant[r],
            .scale_out = b->scales[r],
        };
    }
    group_run(s->group, runs);
    if (elements * size + sizeof(saved) <= sizeof(b->out[0]))
        assert_memory_equal(b->out[0] + elements * size, saved, sizeof(saved));
    check(s);
}

static struct tcw_plan_desc descriptor(unsigned dtype, unsigned fusion, unsigned strategy, unsigned flags, uint64_t tokens, uint64_t hidden)
{
    struct tcw_plan_desc desc = plan_all_reduce(dtype, fusion, tokens, hidden);
    desc.strategy = (uint16_t)strategy;
    desc.flags = flags & TCW_PLAN_ACC_FP32 && dtype == TCW_FP32 ? flags & ~(unsigned)TCW_PLAN_ACC_FP32 : flags;
    return desc;
}

static bool makes_sense(unsigned dtype, unsigned fusion, uint64_t hidden)
{
    bool nvfp4 = fusion == TCW_FUSION_RESIDUAL_RMS_NORM_QUANT_NVFP4 || fusion == TCW_FUSION_RESIDUAL_RMS_NORM_OUT_QUANT_NVFP4;
    return !(nvfp4 && (dtype == TCW_FP32 || hidden % 16)) && !(fusion && hidden * tcw_dtype_bytes(dtype) % 16);
}

/* Every strategy, fusion, float type, flag and group size, on shapes around the group size. */
static void test_forms(void **state)
{
    (void)state;
    unsigned count = 0;
    for (uint32_t n = 1; n <= TCK_HOST_MAX_RANKS; n++) {
        struct group *group = group_open(n, 1 << 20, NULL, NULL);
        const uint64_t tokens[] = {1, n > 1 ? n - 1 : 1, n, n + 1};
        for (unsigned i = 0; i < STRATEGIES * FUSIONS * 3; i++) {
            unsigned strategy = strategies[i % STRATEGIES], fusion = fusions[i / STRATEGIES % FUSIONS], dtype = i / (STRATEGIES * FUSIONS);
            unsigned flags = (count % 3 ? 0 : TCW_PLAN_BIAS) | (count % 4 ? 0 : TCW_PLAN_ACC_FP32);
            uint64_t hidden = count % 5 ? 48 : 8 + 8 * (count % 13), m = tokens[count % 4];
            count++;
            if (!makes_sense(dtype, fusion, hidden))
                hidden = 80;
            if (!makes_sense(dtype, fusion, hidden))
                continue;
            struct subject s = {group,         descriptor(dtype, fusion, strategy, flags, m, hidden), strategy, m, count % DATA_KINDS,
                                count % 7 == 0};
            try(&s, count);
        }
        group_close(group);
    }
}

/* Plain reductions of every type, redop and strategy. Odd lengths, down to one element; two workspaces of different size. */
static void test_types(void **state)
{
    (void)state;
    unsigned count = 0;
    for (uint32_t n = 1; n <= TCK_HOST_MAX_RANKS; n += n < 3 ? 1 : n < 7 ? 2 : 3) {
        struct group *group = group_open(n, n % 2 ? 65536 + 4096 : 1 << 20, NULL, NULL);
        for (unsigned dtype = 0; dtype <= TCW_UINT64; dtype++)
            for (unsigned redop = 0; redop < TCW_REDOP_COUNT; redop++)
                for (unsigned i = 0; i < STRATEGIES; i++, count++) {
                    uint64_t hidden = count % 4 == 0 ? 1 : count % 4 == 1 ? 13 : 1 + count * 37 % 1500;
                    struct subject s = {
                        group,         descriptor(dtype, 0, strategies[i], 0, 3, hidden), strategies[i], 1 + count % 3, count % DATA_KINDS,
                        count % 5 == 0};
                    s.desc.redop = (uint16_t)redop;
                    try(&s, count);
                }
        group_close(group);
    }
}

/* The shapes of seed-spec 24, rows up to 8192, and messages of many steps on a small workspace, one and two-shot alternating. */
static void test_shapes(void **state)
{
    (void)state;
    static const uint64_t shapes[][2] = {{1, 8},    {128, 8},  {129, 8},  {129, 72}, {1, 2880},
                                         {4, 2880}, {2, 7168}, {1, 7176}, {3, 7176}, {4, 8192}};
    static const uint32_t sizes[] = {1, 2, 3, 5, 6, 7, 9, 16};
    unsigned count = 3;
    for (unsigned g = 0; g < sizeof(sizes) / sizeof(sizes[0]); g++) {
        struct group *small = group_open(sizes[g], 4096 + 3 * 73728, NULL, NULL), *large = group_open(sizes[g], 8 << 20, NULL, NULL);
        for (unsigned i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++)
            for (unsigned j = 0; j < 4; j++, count++) {
                unsigned dtype = count % 3, strategy = strategies[(count / 2 + j) % STRATEGIES], fusion = fusions[(count + j) % FUSIONS];
                if (!makes_sense(dtype, fusion, shapes[i][1]))
                    fusion = TCW_FUSION_RESIDUAL_RMS_NORM;
                struct subject s = {count % 2 ? small : large,
                                    descriptor(dtype, fusion, strategy, 0, shapes[i][0], shapes[i][1]),
                                    strategy,
                                    shapes[i][0],
                                    count % DATA_KINDS,
                                    false};
                try(&s, count);
            }
        group_close(small);
        group_close(large);
    }
}

/* MNNVL is one-shot up to 512 KiB of all ranks together, and two-shot, with the other order of the norm's product, above. */
static void test_mnnvl_threshold(void **state)
{
    (void)state;
    struct group *group = group_open(16, 8 << 20, NULL, NULL);
    for (uint64_t tokens = 1; tokens <= 3; tokens++) {
        struct subject s = {group,
                            descriptor(TCW_BF16, TCW_FUSION_RESIDUAL_RMS_NORM, TCW_STRATEGY_MNNVL, 0, 3, 8192),
                            TCW_STRATEGY_MNNVL,
                            tokens,
                            DATA_PLAIN,
                            false};
        try(&s, tokens);
    }
    group_close(group);
}

/* The application's floating-point environment neither matters nor changes. */
static void test_environment(void **state)
{
    (void)state;
#if defined(__SSE2__)
    struct group *group = group_open(1, 1 << 20, NULL, NULL);
    float tiny[2] = {0x1p-140f, 0x1.000002p0f}, sum[2];
    const void *ins[1] = {tiny};
    void *outs[1] = {sum};
    struct tcw_plan_desc desc = descriptor(TCW_FP32, 0, TCW_STRATEGY_ONESHOT, TCW_PLAN_BIAS, 1, 2);
    float bias[2] = {0x1p-141f, 0x1p-25f};
    struct tck_run run = {.desc = &desc, .plan_id = 1, .strategy = TCW_STRATEGY_ONESHOT, .tokens = 1, .in = ins, .out = outs, .bias = bias};
    struct tck_fault fault;
    unsigned before = __builtin_ia32_stmxcsr();
    __builtin_ia32_ldmxcsr(0xdfc0); /* flush to zero, denormals are zero, round up */
    int code = tck_comm_run(group->ranks[0].comm, &run, &fault);
    unsigned after = __builtin_ia32_stmxcsr();
    __builtin_ia32_ldmxcsr(before);
    assert_int_equal(code, 0);
    assert_int_equal(after & ~0x3fu, 0xdfc0);
    assert_true(sum[0] == 0x1.8p-140f);
    assert_true(sum[1] == 0x1.000002p0f);
    group_close(group);
#endif
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forms),           cmocka_unit_test(test_types),       cmocka_unit_test(test_shapes),
        cmocka_unit_test(test_mnnvl_threshold), cmocka_unit_test(test_environment),
    };
    b = calloc(1, sizeof(*b));
    if (!b)
        return 1;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    free(b);
    return failed;
}
