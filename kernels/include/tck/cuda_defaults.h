/*
 * Which of our kernels serves which message size on GPUs of SM 9.0: measured (tests/gpu/results, bf16, hidden 8192) for 2 and 4 GPUs of
 * one host, with the kernels' own grids (blocks 0). For 8 and 16 nothing has been measured: their sizes are those at which a one-shot
 * carries as many bytes as it does at the crossing of 4 GPUs.
 *
 *   TCK_CUDA_DEFAULT(ranks, fused, max_bytes, strategy, blocks), in ascending order of max_bytes for each kind of plan
 *
 * 2 GPUs: trtcollctl tune (tuning-2x-h200.json), which finds a plain one-shot ahead up to its last size, 32 MB. At 64 MB trtcoll-bench took
 * 188.6 us by one-shot (direct-2x-h200.json) and 189.2 by two-shot (direct-2x-h200-mps.json); at 256 MB 759 (in no file) and 750.
 * 4 GPUs: comm_bench sweep (kernels-4x-h200.json).
 *
 * A library is ahead of none of these up to 32 MB, nor of those for 2 GPUs without fusion up to 256 MB.
 *
 * Owner: nobody, constants only. Threads: any.
 */
#ifndef TCK_CUDA_DEFAULTS_H
#define TCK_CUDA_DEFAULTS_H

#include <tcw/types.h>

#define TCK_CUDA_DEFAULTS(TCK_CUDA_DEFAULT)                                                                                                \
    TCK_CUDA_DEFAULT(2, false, 65536 << 10, TCW_STRATEGY_ONESHOT, 0)                                                                       \
    TCK_CUDA_DEFAULT(2, false, UINT64_MAX, TCW_STRATEGY_TWOSHOT, 0)                                                                        \
    TCK_CUDA_DEFAULT(2, true, 8192 << 10, TCW_STRATEGY_ONESHOT, 0)                                                                         \
    TCK_CUDA_DEFAULT(2, true, UINT64_MAX, TCW_STRATEGY_TWOSHOT, 0)                                                                         \
    TCK_CUDA_DEFAULT(4, false, 160 << 10, TCW_STRATEGY_ONESHOT, 0)                                                                         \
    TCK_CUDA_DEFAULT(4, false, UINT64_MAX, TCW_STRATEGY_TWOSHOT, 0)                                                                        \
    TCK_CUDA_DEFAULT(4, true, 184 << 10, TCW_STRATEGY_ONESHOT, 0)                                                                          \
    TCK_CUDA_DEFAULT(4, true, UINT64_MAX, TCW_STRATEGY_TWOSHOT, 0)                                                                         \
    TCK_CUDA_DEFAULT(8, false, 68 << 10, TCW_STRATEGY_ONESHOT, 0)                                                                          \
    TCK_CUDA_DEFAULT(8, false, UINT64_MAX, TCW_STRATEGY_TWOSHOT, 0)                                                                        \
    TCK_CUDA_DEFAULT(8, true, 78 << 10, TCW_STRATEGY_ONESHOT, 0)                                                                           \
    TCK_CUDA_DEFAULT(8, true, UINT64_MAX, TCW_STRATEGY_TWOSHOT, 0)                                                                         \
    TCK_CUDA_DEFAULT(16, false, 32 << 10, TCW_STRATEGY_ONESHOT, 0)                                                                         \
    TCK_CUDA_DEFAULT(16, false, UINT64_MAX, TCW_STRATEGY_TWOSHOT, 0)                                                                       \
    TCK_CUDA_DEFAULT(16, true, 36 << 10, TCW_STRATEGY_ONESHOT, 0)                                                                          \
    TCK_CUDA_DEFAULT(16, true, UINT64_MAX, TCW_STRATEGY_TWOSHOT, 0)

#endif
