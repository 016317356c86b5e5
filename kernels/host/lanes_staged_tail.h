/* Tails by way of a full vector on the stack, for instruction sets without masked memory access. Included by lanes_*.h. */
#ifndef TCK_HOST_LANES_STAGED_TAIL_H
#define TCK_HOST_LANES_STAGED_TAIL_H

#define V16_STAGED_TAIL(T, size)                                                                                                           \
    static inline struct v16 v16_load_tail_##T(const void *p, size_t n) {                                                                  \
        unsigned char stage[16 * (size)] = {0};                                                                                            \
        memcpy(stage, p, n *(size));                                                                                                       \
        return v16_load_##T(stage);                                                                                                        \
    } static inline void v16_store_tail_##T(void *p, struct v16 a, size_t n)                                                               \
    {                                                                                                                                      \
        unsigned char stage[16 * (size)];                                                                                                  \
        v16_store_##T(stage, a);                                                                                                           \
        memcpy(p, stage, n *(size));                                                                                                       \
    }

V16_STAGED_TAIL(fp32, 4)
V16_STAGED_TAIL(fp16, 2)
V16_STAGED_TAIL(bf16, 2)

#endif
