/*
 * How long the kernels take that tck/cuda_defaults.h chooses between, in microseconds: one run in a CUDA graph of 50, with the kernels' own
 * grids (blocks 0), bf16, hidden 8192, on GPUs of one host. From kernels-2x-h200-time.json and kernels-4x-h200-time.json in
 * tests/gpu/results: plain is their form "plain", fused their form "norm". For 8 and 16 ranks nothing has been measured.
 *
 *   TCK_CUDA_TIME(ranks, fused, bytes, oneshot_us, twoshot_us), in ascending order of bytes for each kind of plan; 0: not measured
 *
 * For people, through `trtcollctl explain`: nothing is chosen by them. Owner: nobody, constants only. Threads: any.
 */
#ifndef TCK_CUDA_TIMES_H
#define TCK_CUDA_TIMES_H

#define TCK_CUDA_TIMES_GPU "NVIDIA H200"

#define TCK_CUDA_TIMES(TCK_CUDA_TIME)                                                                                                      \
    TCK_CUDA_TIME(2, false, 16 << 10, 2.029, 3.168)                                                                                        \
    TCK_CUDA_TIME(2, false, 64 << 10, 2.202, 3.203)                                                                                        \
    TCK_CUDA_TIME(2, false, 256 << 10, 2.800, 3.574)                                                                                       \
    TCK_CUDA_TIME(2, false, 512 << 10, 3.515, 3.944)                                                                                       \
    TCK_CUDA_TIME(2, false, 1024 << 10, 5.018, 5.060)                                                                                      \
    TCK_CUDA_TIME(2, false, 2048 << 10, 7.832, 8.721)                                                                                      \
    TCK_CUDA_TIME(2, false, 4096 << 10, 13.525, 14.269)                                                                                    \
    TCK_CUDA_TIME(2, false, 8192 << 10, 24.989, 25.542)                                                                                    \
    TCK_CUDA_TIME(2, false, 32768 << 10, 0, 94.657)                                                                                        \
    TCK_CUDA_TIME(2, true, 16 << 10, 2.680, 3.733)                                                                                         \
    TCK_CUDA_TIME(2, true, 64 << 10, 2.744, 3.861)                                                                                         \
    TCK_CUDA_TIME(2, true, 256 << 10, 3.334, 4.172)                                                                                        \
    TCK_CUDA_TIME(2, true, 512 << 10, 4.079, 4.602)                                                                                        \
    TCK_CUDA_TIME(2, true, 1024 << 10, 5.761, 6.261)                                                                                       \
    TCK_CUDA_TIME(2, true, 2048 << 10, 9.192, 10.208)                                                                                      \
    TCK_CUDA_TIME(2, true, 4096 << 10, 14.541, 16.929)                                                                                     \
    TCK_CUDA_TIME(2, true, 8192 << 10, 27.629, 27.640)                                                                                     \
    TCK_CUDA_TIME(2, true, 32768 << 10, 0, 97.551)                                                                                         \
    TCK_CUDA_TIME(4, false, 16 << 10, 2.307, 3.238)                                                                                        \
    TCK_CUDA_TIME(4, false, 64 << 10, 2.757, 3.340)                                                                                        \
    TCK_CUDA_TIME(4, false, 256 << 10, 4.499, 3.926)                                                                                       \
    TCK_CUDA_TIME(4, false, 512 << 10, 6.691, 4.802)                                                                                       \
    TCK_CUDA_TIME(4, false, 1024 << 10, 11.189, 6.607)                                                                                     \
    TCK_CUDA_TIME(4, false, 2048 << 10, 20.127, 11.795)                                                                                    \
    TCK_CUDA_TIME(4, false, 4096 << 10, 39.797, 20.855)                                                                                    \
    TCK_CUDA_TIME(4, false, 8192 << 10, 0, 39.242)                                                                                         \
    TCK_CUDA_TIME(4, true, 16 << 10, 3.218, 4.146)                                                                                         \
    TCK_CUDA_TIME(4, true, 64 << 10, 3.466, 4.366)                                                                                         \
    TCK_CUDA_TIME(4, true, 256 << 10, 5.434, 4.914)                                                                                        \
    TCK_CUDA_TIME(4, true, 512 << 10, 7.715, 5.924)                                                                                        \
    TCK_CUDA_TIME(4, true, 1024 << 10, 12.641, 7.893)                                                                                      \
    TCK_CUDA_TIME(4, true, 2048 << 10, 23.940, 13.478)                                                                                     \
    TCK_CUDA_TIME(4, true, 4096 << 10, 48.403, 21.733)                                                                                     \
    TCK_CUDA_TIME(4, true, 8192 << 10, 0, 42.870)

#endif
