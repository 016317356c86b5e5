/*
 * Which of our kernels serves which message size on GPUs of SM 9.0: measured (tests/gpu/results, bf16, hidden 8192) for 2 and 4 GPUs of
 * one host. For 8 and 16 nothing has been measured: their sizes are those at which a one-shot carries as many bytes as it does at the
 * crossing of 4 GPUs. The kernels' own grids (blocks 0) were within 3 % of the best ones, but where a number stands.
 *
 *   TCK_CUDA_DEFAULT(ranks, fused, max_bytes, strategy, blocks), in ascending order of max_bytes for each kind of plan
 *
 * A library is ahead of none of these up to 32 MB, the largest size measured. Owner: nobody, constants only. Threads: any.
 */
#ifndef TCK_CUDA_DEFAULTS_H
#define TCK_CUDA_DEFAULTS_H

#include <tcw/types.h>

#define TCK_CUDA_DEFAULTS(TCK_CUDA_DEFAULT)                                                                                                \
    TCK_CUDA_DEFAULT(2, false, 8 << 20, TCW_STRATEGY_ONESHOT, 0)                                                                           \
    TCK_CUDA_DEFAULT(2, false, UINT64_MAX, TCW_STRATEGY_TWOSHOT, 264)                                                                      \
    TCK_CUDA_DEFAULT(2, true, 4 << 20, TCW_STRATEGY_ONESHOT, 0)                                                                            \
    TCK_CUDA_DEFAULT(2, true, UINT64_MAX, TCW_STRATEGY_TWOSHOT, 0)                                                                         \
    TCK_CUDA_DEFAULT(4, false, 336 << 10, TCW_STRATEGY_ONESHOT, 0)                                                                         \
    TCK_CUDA_DEFAULT(4, false, 768 << 10, TCW_STRATEGY_TWOSHOT, 0)                                                                         \
    TCK_CUDA_DEFAULT(4, false, 1280 << 10, TCW_STRATEGY_TWOSHOT, 32)                                                                       \
    TCK_CUDA_DEFAULT(4, false, UINT64_MAX, TCW_STRATEGY_TWOSHOT, 0)                                                                        \
    TCK_CUDA_DEFAULT(4, true, 1 << 20, TCW_STRATEGY_ONESHOT, 0)                                                                            \
    TCK_CUDA_DEFAULT(4, true, UINT64_MAX, TCW_STRATEGY_TWOSHOT, 0)                                                                         \
    TCK_CUDA_DEFAULT(8, false, 144 << 10, TCW_STRATEGY_ONESHOT, 0)                                                                         \
    TCK_CUDA_DEFAULT(8, false, UINT64_MAX, TCW_STRATEGY_TWOSHOT, 0)                                                                        \
    TCK_CUDA_DEFAULT(8, true, 432 << 10, TCW_STRATEGY_ONESHOT, 0)                                                                          \
    TCK_CUDA_DEFAULT(8, true, UINT64_MAX, TCW_STRATEGY_TWOSHOT, 0)                                                                         \
    TCK_CUDA_DEFAULT(16, false, 64 << 10, TCW_STRATEGY_ONESHOT, 0)                                                                         \
    TCK_CUDA_DEFAULT(16, false, UINT64_MAX, TCW_STRATEGY_TWOSHOT, 0)                                                                       \
    TCK_CUDA_DEFAULT(16, true, 200 << 10, TCW_STRATEGY_ONESHOT, 0)                                                                         \
    TCK_CUDA_DEFAULT(16, true, UINT64_MAX, TCW_STRATEGY_TWOSHOT, 0)

#endif
