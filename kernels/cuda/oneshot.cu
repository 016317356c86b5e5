/*
 * The kernels of the family "oneshot". Grid: any; plain, blocks of up to 512 threads; norm, whole clusters of up to 8 blocks (below SM 9.0:
 * single blocks), threads a multiple of 32. Shapes: oneshot.c. Pointers aligned to 16 bytes, rows whole packs.
 */
#include "oneshot_kernels.cuh"

TCK_ONESHOT_TYPES(tck_oneshot, _2, 2)
TCK_ONESHOT_TYPES(tck_oneshot, _4, 4)
TCK_ONESHOT_TYPES(tck_oneshot, _8, 8)
TCK_ONESHOT_TYPES(tck_oneshot, _n, 0)
