/*
 * Loops over fp32, fp16 or bf16, included once per type with T, T_BYTES, T_ROUND(v) and T_STORE_EXACT(p, v) defined (no
 * include guard on purpose). All arithmetic is fp32; T_ROUND rounds to T and back, T_STORE_EXACT stores what is a T already.
 */
#define PASTE_(a, b)           a##b
#define PASTE(a, b)            PASTE_(a, b)
#define OF(name)               PASTE(name, T)
#define AT(pointer, index)     ((const unsigned char *)(pointer) + (index)*T_BYTES)
#define AT_OUT(pointer, index) ((unsigned char *)(pointer) + (index)*T_BYTES)

/* One step of a reduction. `op` and `wide` are constants in the hot loops. */
static HOT struct v16 OF(step_)(struct v16 acc, struct v16 x, unsigned op, bool wide)
{
    acc = op == TCW_MIN ? v16_min(acc, x) : op == TCW_MAX ? v16_max(acc, x) : op == TCW_PROD ? v16_mul(acc, x) : v16_add(acc, x);
    return wide || op == TCW_MIN || op == TCW_MAX ? acc : T_ROUND(acc);
}

/* Folds 16 elements of all sources. */
static HOT struct v16 OF(fold_)(const void *const *src, uint32_t count, size_t at, unsigned op, bool wide)
{
    struct v16 acc = OF(v16_load_)(AT(src[0], at));
    for (uint32_t i = 1; i < count; i++)
        acc = OF(step_)(acc, OF(v16_load_)(AT(src[i], at)), op, wide);
    return acc;
}

/* The same for the last n < 16. */
static COLD struct v16 OF(fold_tail_)(const void *const *src, uint32_t count, size_t at, size_t n, unsigned op, bool wide)
{
    struct v16 acc = OF(v16_load_tail_)(AT(src[0], at), n);
    for (uint32_t i = 1; i < count; i++)
        acc = OF(step_)(acc, OF(v16_load_tail_)(AT(src[i], at), n), op, wide);
    return acc;
}

/* Whole vectors; returns how many elements that was. */
static HOT size_t OF(reduce_as_)(const struct tck_reduction *r, unsigned op, bool wide)
{
    const void *const *src = r->src;
    struct v16 divisor = v16_set((float)r->count);
    uint32_t count = r->count;
    size_t n = r->elements, at = 0;
    for (; at + 64 <= n; at += 64) {
        struct v16 a = OF(fold_)(src, count, at, op, wide);
        struct v16 b = OF(fold_)(src, count, at + 16, op, wide);
        struct v16 c = OF(fold_)(src, count, at + 32, op, wide);
        struct v16 d = OF(fold_)(src, count, at + 48, op, wide);
        OF(v16_store_)(AT_OUT(r->dst, at), op == TCW_AVG ? v16_div(a, divisor) : a);
        OF(v16_store_)(AT_OUT(r->dst, at + 16), op == TCW_AVG ? v16_div(b, divisor) : b);
        OF(v16_store_)(AT_OUT(r->dst, at + 32), op == TCW_AVG ? v16_div(c, divisor) : c);
        OF(v16_store_)(AT_OUT(r->dst, at + 48), op == TCW_AVG ? v16_div(d, divisor) : d);
    }
    for (; at + 16 <= n; at += 16) {
        struct v16 a = OF(fold_)(src, count, at, op, wide);
        OF(v16_store_)(AT_OUT(r->dst, at), op == TCW_AVG ? v16_div(a, divisor) : a);
    }
    return at;
}

static COLD size_t OF(reduce_other_)(const struct tck_reduction *r, bool wide)
{
    return OF(reduce_as_)(r, r->redop, wide);
}

static void OF(reduce_)(const struct tck_reduction *r)
{
    bool wide = r->wide || T_BYTES == 4;
    size_t done = r->redop != TCW_SUM ? OF(reduce_other_)(r, wide)
                  : wide              ? OF(reduce_as_)(r, TCW_SUM, true)
                                      : OF(reduce_as_)(r, TCW_SUM, false);
    size_t left = r->elements - done;
    if (left) {
        struct v16 a = OF(fold_tail_)(r->src, r->count, done, left, r->redop, wide);
        if (r->redop == TCW_AVG)
            a = v16_div(a, v16_set((float)r->count));
        OF(v16_store_tail_)(AT_OUT(r->dst, done), a, left);
    }
}

/* Bias, residual: u. The operands may be NULL. */
static HOT struct v16 OF(add_operands_)(struct v16 sum, const struct v16 *bias, const struct v16 *residual)
{
    struct v16 u = T_ROUND(sum);
    if (bias)
        u = T_ROUND(v16_add(u, *bias));
    if (residual)
        u = T_ROUND(v16_add(u, *residual));
    return u;
}

static HOT void OF(add_squares_)(const struct tck_row_sum *r, struct v16 u, struct v16 *squares)
{
    struct v16 square = v16_mul(u, u);
    *squares = v16_add(*squares, r->round_squares ? T_ROUND(square) : square);
}

/* One vector of u, stored, and its squares added to `squares`. */
static HOT void OF(row_step_)(const struct tck_row_sum *r, size_t at, bool wide, struct v16 *squares)
{
    struct v16 bias = r->bias ? OF(v16_load_)(AT(r->bias, at)) : v16_set(0);
    struct v16 residual = r->residual ? OF(v16_load_)(AT(r->residual, at)) : v16_set(0);
    struct v16 sum = OF(fold_)(r->src, r->count, at, TCW_SUM, wide);
    struct v16 u = OF(add_operands_)(sum, r->bias ? &bias : NULL, r->residual ? &residual : NULL);
    T_STORE_EXACT(AT_OUT(r->dst, at), u);
    OF(add_squares_)(r, u, squares);
}

/* The last n < 16: lanes behind are zero and add nothing. */
static COLD struct v16 OF(row_tail_)(const struct tck_row_sum *r, size_t at, size_t n, bool wide, struct v16 squares)
{
    struct v16 bias = r->bias ? OF(v16_load_tail_)(AT(r->bias, at), n) : v16_set(0);
    struct v16 residual = r->residual ? OF(v16_load_tail_)(AT(r->residual, at), n) : v16_set(0);
    struct v16 sum = OF(fold_tail_)(r->src, r->count, at, n, TCW_SUM, wide);
    struct v16 u = OF(add_operands_)(sum, r->bias ? &bias : NULL, r->residual ? &residual : NULL);
    OF(v16_store_tail_)(AT_OUT(r->dst, at), u, n);
    OF(add_squares_)(r, u, &squares);
    return squares;
}

static HOT float OF(row_sum_as_)(const struct tck_row_sum *r, bool wide)
{
    struct v16 squares[4] = {v16_set(0), v16_set(0), v16_set(0), v16_set(0)};
    float lanes[TCK_NORM_LANES];
    size_t n = r->hidden, at = 0;
    for (; at + 64 <= n; at += 64) {
        OF(row_step_)(r, at, wide, &squares[0]);
        OF(row_step_)(r, at + 16, wide, &squares[1]);
        OF(row_step_)(r, at + 32, wide, &squares[2]);
        OF(row_step_)(r, at + 48, wide, &squares[3]);
    }
    int i = 0;
    for (; at + 16 <= n; at += 16)
        OF(row_step_)(r, at, wide, &squares[i++]);
    if (at < n)
        squares[i] = OF(row_tail_)(r, at, n - at, wide, squares[i]);
    for (i = 0; i < 4; i++)
        v16_store_fp32(lanes + 16 * i, squares[i]);
    return tck_norm_tree(lanes);
}

static float OF(row_sum_)(const struct tck_row_sum *row)
{
    const struct tck_row_sum copy = *row, *r = &copy; /* which the stores cannot alias */
    return r->wide || T_BYTES == 4 ? OF(row_sum_as_)(r, true) : OF(row_sum_as_)(r, false);
}

static HOT struct v16 OF(normalize_)(const struct tck_row_norm *r, struct v16 u, struct v16 gamma)
{
    struct v16 k = v16_set(r->inverse);
    return T_ROUND(r->order == TCK_NORM_GAMMA_FIRST ? v16_mul(v16_mul(gamma, u), k) : v16_mul(v16_mul(u, k), gamma));
}

static HOT void OF(norm_step_)(const struct tck_row_norm *r, size_t at)
{
    struct v16 y = OF(normalize_)(r, OF(v16_load_)(AT(r->u, at)), r->gamma ? OF(v16_load_)(AT(r->gamma, at)) : v16_set(1));
    if (r->norm)
        T_STORE_EXACT(AT_OUT(r->norm, at), y);
    if (r->fp8)
        v16_store_e4m3(r->fp8 + at, v16_mul(y, v16_set(r->fp8_multiplier)));
    if (r->fp4) { /* a block is a vector */
        uint8_t scale = tck_nvfp4_scale(v16_largest(y), r->fp4_global);
        r->fp4_scales[tck_nvfp4_scale_offset(r->row, at / 16, r->hidden / 16)] = scale;
        v16_store_e2m1(r->fp4 + at / 2, v16_mul(y, v16_set(tck_nvfp4_multiplier(scale, r->fp4_global))));
    }
}

/* The last n < 16; never with NVFP4, whose rows are whole blocks. */
static COLD void OF(norm_tail_)(const struct tck_row_norm *r, size_t at, size_t n)
{
    struct v16 y = OF(normalize_)(r, OF(v16_load_tail_)(AT(r->u, at), n), r->gamma ? OF(v16_load_tail_)(AT(r->gamma, at), n) : v16_set(1));
    uint8_t codes[16];
    if (r->norm)
        OF(v16_store_tail_)(AT_OUT(r->norm, at), y, n);
    if (r->fp8) {
        v16_store_e4m3(codes, v16_mul(y, v16_set(r->fp8_multiplier)));
        memcpy(r->fp8 + at, codes, n);
    }
}

static void OF(row_norm_)(const struct tck_row_norm *row)
{
    const struct tck_row_norm copy = *row, *r = &copy;
    size_t at = 0;
    for (; at + 16 <= r->hidden; at += 16)
        OF(norm_step_)(r, at);
    if (at < r->hidden)
        OF(norm_tail_)(r, at, r->hidden - at);
}

#undef PASTE_
#undef PASTE
#undef OF
#undef AT
#undef AT_OUT
#undef T
#undef T_BYTES
#undef T_ROUND
#undef T_STORE_EXACT
