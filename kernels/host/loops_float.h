/*
 * Loops over fp32, fp16 or bf16, included once per type with T, T_BYTES and T_ROUND(v) defined (no include guard on purpose).
 * All arithmetic is fp32; T_ROUND rounds to T and back.
 */
#define PASTE_(a, b)           a##b
#define PASTE(a, b)            PASTE_(a, b)
#define OF(name)               PASTE(name, T)
#define AT(pointer, index)     ((const unsigned char *)(pointer) + (index)*T_BYTES)
#define AT_OUT(pointer, index) ((unsigned char *)(pointer) + (index)*T_BYTES)

/* Folds the sources at element `at`; n is 16, or less at the end. `op` and `wide` are constants wherever this is used. */
static ALWAYS_INLINE struct v16 OF(fold_)(const void *const *src, uint32_t count, size_t at, size_t n, unsigned op, bool wide)
{
    struct v16 acc = n == 16 ? OF(v16_load_)(AT(src[0], at)) : OF(v16_load_tail_)(AT(src[0], at), n);
    for (uint32_t i = 1; i < count; i++) {
        struct v16 x = n == 16 ? OF(v16_load_)(AT(src[i], at)) : OF(v16_load_tail_)(AT(src[i], at), n);
        acc = op == TCW_MIN ? v16_min(acc, x) : op == TCW_MAX ? v16_max(acc, x) : op == TCW_PROD ? v16_mul(acc, x) : v16_add(acc, x);
        if (!wide && op != TCW_MIN && op != TCW_MAX)
            acc = T_ROUND(acc);
    }
    return acc;
}

static ALWAYS_INLINE void OF(reduce_as_)(const struct tck_reduction *r, unsigned op, bool wide)
{
    const void *const *src = r->src;
    uint32_t count = r->count;
    size_t n = r->elements, at = 0;
    bool divide = op == TCW_AVG;
    struct v16 count16 = v16_set((float)r->count);
    for (; at + 64 <= n; at += 64) {
        struct v16 a = OF(fold_)(src, count, at, 16, op, wide);
        struct v16 b = OF(fold_)(src, count, at + 16, 16, op, wide);
        struct v16 c = OF(fold_)(src, count, at + 32, 16, op, wide);
        struct v16 d = OF(fold_)(src, count, at + 48, 16, op, wide);
        OF(v16_store_)(AT_OUT(r->dst, at), divide ? v16_div(a, count16) : a);
        OF(v16_store_)(AT_OUT(r->dst, at + 16), divide ? v16_div(b, count16) : b);
        OF(v16_store_)(AT_OUT(r->dst, at + 32), divide ? v16_div(c, count16) : c);
        OF(v16_store_)(AT_OUT(r->dst, at + 48), divide ? v16_div(d, count16) : d);
    }
    for (; at < n; at += 16) {
        size_t left = n - at < 16 ? n - at : 16;
        struct v16 a = OF(fold_)(src, count, at, left, op, wide);
        if (divide)
            a = v16_div(a, count16);
        if (left == 16)
            OF(v16_store_)(AT_OUT(r->dst, at), a);
        else
            OF(v16_store_tail_)(AT_OUT(r->dst, at), a, left);
    }
}

static void OF(reduce_)(const struct tck_reduction *r)
{
    bool wide = r->wide || T_BYTES == 4;
    switch (r->redop) {
    case TCW_MIN:
        OF(reduce_as_)(r, TCW_MIN, true);
        break;
    case TCW_MAX:
        OF(reduce_as_)(r, TCW_MAX, true);
        break;
    case TCW_PROD:
        if (wide)
            OF(reduce_as_)(r, TCW_PROD, true);
        else
            OF(reduce_as_)(r, TCW_PROD, false);
        break;
    case TCW_AVG:
        if (wide)
            OF(reduce_as_)(r, TCW_AVG, true);
        else
            OF(reduce_as_)(r, TCW_AVG, false);
        break;
    default:
        if (wide)
            OF(reduce_as_)(r, TCW_SUM, true);
        else
            OF(reduce_as_)(r, TCW_SUM, false);
    }
}

/* One vector of u, stored, and its squares added to `squares`. */
static ALWAYS_INLINE void OF(row_step_)(const struct tck_row_sum *r, size_t at, size_t n, bool wide, struct v16 *squares)
{
    struct v16 u = T_ROUND(OF(fold_)(r->src, r->count, at, n, TCW_SUM, wide));
    if (r->bias)
        u = T_ROUND(v16_add(u, n == 16 ? OF(v16_load_)(AT(r->bias, at)) : OF(v16_load_tail_)(AT(r->bias, at), n)));
    if (r->residual)
        u = T_ROUND(v16_add(u, n == 16 ? OF(v16_load_)(AT(r->residual, at)) : OF(v16_load_tail_)(AT(r->residual, at), n)));
    if (n == 16)
        OF(v16_store_)(AT_OUT(r->dst, at), u);
    else
        OF(v16_store_tail_)(AT_OUT(r->dst, at), u, n);
    struct v16 square = v16_mul(u, u);
    *squares = v16_add(*squares, r->round_squares ? T_ROUND(square) : square);
}

static ALWAYS_INLINE float OF(row_sum_as_)(const struct tck_row_sum *r, bool wide)
{
    struct v16 squares[4] = {v16_set(0), v16_set(0), v16_set(0), v16_set(0)};
    float lanes[TCK_NORM_LANES];
    size_t n = r->hidden, at = 0;
    for (; at + 64 <= n; at += 64) {
        OF(row_step_)(r, at, 16, wide, &squares[0]);
        OF(row_step_)(r, at + 16, 16, wide, &squares[1]);
        OF(row_step_)(r, at + 32, 16, wide, &squares[2]);
        OF(row_step_)(r, at + 48, 16, wide, &squares[3]);
    }
    for (int i = 0; at < n; at += 16, i++)
        OF(row_step_)(r, at, n - at < 16 ? n - at : 16, wide, &squares[i]);
    for (int i = 0; i < 4; i++)
        v16_store_fp32(lanes + 16 * i, squares[i]);
    return tck_norm_tree(lanes);
}

static float OF(row_sum_)(const struct tck_row_sum *r)
{
    return r->wide || T_BYTES == 4 ? OF(row_sum_as_)(r, true) : OF(row_sum_as_)(r, false);
}

static ALWAYS_INLINE void OF(norm_step_)(const struct tck_row_norm *r, size_t at, size_t n)
{
    struct v16 u = n == 16 ? OF(v16_load_)(AT(r->u, at)) : OF(v16_load_tail_)(AT(r->u, at), n);
    struct v16 k = v16_set(r->inverse), gamma = v16_set(1.0f);
    if (r->gamma)
        gamma = n == 16 ? OF(v16_load_)(AT(r->gamma, at)) : OF(v16_load_tail_)(AT(r->gamma, at), n);
    struct v16 y = r->order == TCK_NORM_GAMMA_FIRST ? v16_mul(v16_mul(gamma, u), k) : v16_mul(v16_mul(u, k), gamma);
    y = T_ROUND(y);
    if (r->norm) {
        if (n == 16)
            OF(v16_store_)(AT_OUT(r->norm, at), y);
        else
            OF(v16_store_tail_)(AT_OUT(r->norm, at), y, n);
    }
    if (r->fp8) {
        uint8_t codes[16];
        struct v16 scaled = v16_mul(y, v16_set(r->fp8_multiplier));
        if (n == 16) {
            v16_store_e4m3(r->fp8 + at, scaled);
        } else {
            v16_store_e4m3(codes, scaled);
            memcpy(r->fp8 + at, codes, n);
        }
    }
    if (r->fp4) { /* hidden is a multiple of 16 then, and a block is a vector */
        uint8_t scale = tck_nvfp4_scale(v16_largest(y), r->fp4_global);
        r->fp4_scales[tck_nvfp4_scale_offset(r->row, at / 16, r->hidden / 16)] = scale;
        v16_store_e2m1(r->fp4 + at / 2, v16_mul(y, v16_set(tck_nvfp4_multiplier(scale, r->fp4_global))));
    }
}

static void OF(row_norm_)(const struct tck_row_norm *r)
{
    size_t at = 0;
    for (; at + 16 <= r->hidden; at += 16)
        OF(norm_step_)(r, at, 16);
    if (at < r->hidden)
        OF(norm_step_)(r, at, r->hidden - at);
}

#undef PASTE_
#undef PASTE
#undef OF
#undef AT
#undef AT_OUT
#undef T
#undef T_BYTES
#undef T_ROUND
