/*
 * Arithmetic on packs of 16 bytes, per type. Sums are those of seed-spec 7.4 and arith/half.h: an addition of two 16-bit numbers is exact
 * but for one rounding, so the packed instructions give the same bits as fp32 additions rounded after each.
 */
#ifndef TCK_CUDA_PACK_CUH
#define TCK_CUDA_PACK_CUH

#include "state.cuh"

struct tck_fp32 {
    enum { ELEMENTS = 4, HALF = 0 };
    static TCK_MEMBER uint4 add(uint4 a, uint4 b)
    {
        return make_uint4(add_word(a.x, b.x), add_word(a.y, b.y), add_word(a.z, b.z), add_word(a.w, b.w));
    }
    static TCK_MEMBER uint32_t add_word(uint32_t a, uint32_t b)
    {
        return __float_as_uint(__fadd_rn(__uint_as_float(a), __uint_as_float(b)));
    }
    static TCK_MEMBER void unpack(uint4 v, float f[4])
    {
        f[0] = __uint_as_float(v.x);
        f[1] = __uint_as_float(v.y);
        f[2] = __uint_as_float(v.z);
        f[3] = __uint_as_float(v.w);
    }
    static TCK_MEMBER uint4 pack(const float f[4])
    {
        return make_uint4(__float_as_uint(f[0]), __float_as_uint(f[1]), __float_as_uint(f[2]), __float_as_uint(f[3]));
    }
    static TCK_MEMBER float round(float f) { return f; }
};

/* Both 16-bit types, from what differs: W::add_words, W::low, W::high, W::pair. */
template <class W> struct tck_halves {
    enum { ELEMENTS = 8, HALF = 1 };
    static TCK_MEMBER uint4 add(uint4 a, uint4 b)
    {
        return make_uint4(W::add_words(a.x, b.x), W::add_words(a.y, b.y), W::add_words(a.z, b.z), W::add_words(a.w, b.w));
    }
    static TCK_MEMBER void unpack(uint4 v, float f[8])
    {
        f[0] = W::low(v.x), f[1] = W::high(v.x);
        f[2] = W::low(v.y), f[3] = W::high(v.y);
        f[4] = W::low(v.z), f[5] = W::high(v.z);
        f[6] = W::low(v.w), f[7] = W::high(v.w);
    }
    static TCK_MEMBER uint4 pack(const float f[8])
    {
        return make_uint4(W::pair(f[0], f[1]), W::pair(f[2], f[3]), W::pair(f[4], f[5]), W::pair(f[6], f[7]));
    }
    static TCK_MEMBER float round(float f) { return W::low(W::pair(f, 0.0f)); }
};

struct tck_fp16_words {
    static TCK_MEMBER uint32_t add_words(uint32_t a, uint32_t b)
    {
        uint32_t sum;
        asm("add.rn.f16x2 %0, %1, %2;" : "=r"(sum) : "r"(a), "r"(b));
        return sum;
    }
    static TCK_MEMBER float low(uint32_t w)
    {
        float f;
        asm("{ .reg .f16 l, h; mov.b32 {l, h}, %1; cvt.f32.f16 %0, l; }" : "=f"(f) : "r"(w));
        return f;
    }
    static TCK_MEMBER float high(uint32_t w)
    {
        float f;
        asm("{ .reg .f16 l, h; mov.b32 {l, h}, %1; cvt.f32.f16 %0, h; }" : "=f"(f) : "r"(w));
        return f;
    }
    static TCK_MEMBER uint32_t pair(float low, float high)
    {
        uint32_t w;
        asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(w) : "f"(high), "f"(low));
        return w;
    }
};

struct tck_bf16_words {
    static TCK_MEMBER uint32_t add_words(uint32_t a, uint32_t b)
    {
        uint32_t sum;
        asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(sum) : "r"(a), "r"(0x3f803f80u), "r"(b)); /* a * 1 + b: sm_80 has no other */
        return sum;
    }
    static TCK_MEMBER float low(uint32_t w) { return __uint_as_float(w << 16); }
    static TCK_MEMBER float high(uint32_t w) { return __uint_as_float(w & 0xffff0000u); }
    static TCK_MEMBER uint32_t pair(float low, float high)
    {
        uint32_t w;
        asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(w) : "f"(high), "f"(low));
        return w;
    }
};

struct tck_fp16 : tck_halves<tck_fp16_words> {
};
struct tck_bf16 : tck_halves<tck_bf16_words> {
};

/* A sum in the making, in ascending rank order: native (rounded at every step) or wide. */
template <class T> struct tck_sum {
    uint4 native;
    float wide[T::ELEMENTS];

    TCK_MEMBER void start(uint4 v, bool is_wide)
    {
        if (T::HALF && is_wide)
            T::unpack(v, wide);
        else
            native = v;
    }
    TCK_MEMBER void add(uint4 v, bool is_wide)
    {
        if (T::HALF && is_wide) {
            float f[T::ELEMENTS];
            T::unpack(v, f);
#pragma unroll
            for (int i = 0; i < T::ELEMENTS; i++)
                wide[i] = __fadd_rn(wide[i], f[i]);
        } else {
            native = T::add(native, v);
        }
    }
    TCK_MEMBER uint4 result(bool is_wide) const
    {
        return T::HALF && is_wide ? T::pack(wide) : native;
    }
};

#endif
