/*
 * How long the kernels take that tck/cuda_defaults.h chooses between, in microseconds: one run in a CUDA graph of 50, with the kernels' own
 * grids (blocks 0), bf16, hidden 8192, on GPUs of one host. In tests/gpu/results: 2 ranks from tuning-2x-h200.json; 4 ranks from
 * kernels-4x-h200-time.json, plain its form "plain", fused its form "norm". For 8 and 16 ranks nothing has been measured. With 2 ranks the
 * strategy that is not chosen for a size stands there with the fastest of its grids.
 *
 *   TCK_CUDA_TIME(ranks, fused, bytes, oneshot_us, twoshot_us), in ascending order of bytes for each kind of plan; 0: not measured
 *
 * For people, through `trtcollctl explain`: nothing is chosen by them. Owner: nobody, constants only. Threads: any.
 */
#ifndef TCK_CUDA_TIMES_H
#define TCK_CUDA_TIMES_H

#define TCK_CUDA_TIMES_GPU "NVIDIA H200"

#define TCK_CUDA_TIMES(TCK_CUDA_TIME)                                                                                                      \
    TCK_CUDA_TIME(2, false, 16 << 10, 2.060, 3.219)                                                                                        \
    TCK_CUDA_TIME(2, false, 64 << 10, 2.253, 3.245)                                                                                        \
    TCK_CUDA_TIME(2, false, 128 << 10, 2.452, 3.330)                                                                                       \
    TCK_CUDA_TIME(2, false, 256 << 10, 2.819, 3.543)                                                                                       \
    TCK_CUDA_TIME(2, false, 512 << 10, 3.517, 3.951)                                                                                       \
    TCK_CUDA_TIME(2, false, 1024 << 10, 5.059, 5.050)                                                                                      \
    TCK_CUDA_TIME(2, false, 2048 << 10, 7.939, 8.801)                                                                                      \
    TCK_CUDA_TIME(2, false, 4096 << 10, 13.604, 14.286)                                                                                    \
    TCK_CUDA_TIME(2, false, 8192 << 10, 25.006, 25.675)                                                                                    \
    TCK_CUDA_TIME(2, false, 32768 << 10, 94.415, 94.790)                                                                                   \
    TCK_CUDA_TIME(2, true, 16 << 10, 2.695, 3.809)                                                                                         \
    TCK_CUDA_TIME(2, true, 64 << 10, 2.789, 3.942)                                                                                         \
    TCK_CUDA_TIME(2, true, 128 << 10, 2.938, 4.025)                                                                                        \
    TCK_CUDA_TIME(2, true, 256 << 10, 3.375, 4.230)                                                                                        \
    TCK_CUDA_TIME(2, true, 512 << 10, 4.096, 4.649)                                                                                        \
    TCK_CUDA_TIME(2, true, 1024 << 10, 5.784, 6.245)                                                                                       \
    TCK_CUDA_TIME(2, true, 2048 << 10, 9.280, 10.363)                                                                                      \
    TCK_CUDA_TIME(2, true, 4096 << 10, 14.710, 16.984)                                                                                     \
    TCK_CUDA_TIME(2, true, 8192 << 10, 27.903, 27.750)                                                                                     \
    TCK_CUDA_TIME(2, true, 32768 << 10, 106.859, 98.733)                                                                                   \
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
