#include "host/loops.h"

extern const struct tck_loops tck_loops_portable;
#ifdef TCK_LOOPS_X86
extern const struct tck_loops tck_loops_avx2, tck_loops_avx512;
#endif

const struct tck_loops *tck_loops_find(const char *name)
{
#ifdef TCK_LOOPS_X86
    if (!strcmp(name, "avx512") && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
        return &tck_loops_avx512;
    /* every processor with AVX2 and FMA has F16C, which older compilers cannot ask for */
    if (!strcmp(name, "avx2") && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        return &tck_loops_avx2;
#endif
    return strcmp(name, "portable") ? NULL : &tck_loops_portable;
}

const struct tck_loops *tck_loops_best(void)
{
    static const char *const names[] = {"avx512", "avx2", "portable"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        const struct tck_loops *loops = tck_loops_find(names[i]);
        if (loops)
            return loops;
    }
    return NULL;
}
