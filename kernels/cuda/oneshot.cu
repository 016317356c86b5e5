/*
 * The kernels of the family "oneshot". Grid: any; norm, whole clusters of up to 8 blocks (below SM 9.0: single blocks). Blocks: whole
 * warps, up to 512 threads; norm, up to 256. Shapes: oneshot.c. Pointers aligned to 16 bytes, rows whole packs.
 */
#include "oneshot_kernels.cuh"

TCK_ONESHOT_TYPES(tck_oneshot, _2, 2)
TCK_ONESHOT_TYPES(tck_oneshot, _4, 4)
TCK_ONESHOT_TYPES(tck_oneshot, _8, 8)
TCK_ONESHOT_TYPES(tck_oneshot, _n, 0)
