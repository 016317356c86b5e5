/*
 * What the copy kernel is given: boxes, cut into tiles of TCK_COPY_TILE units, a unit being the largest power of two, 16 at most, that
 * divides all addresses, pitches and row lengths of a box. Plain C and CUDA C++. Owner: nobody, travels by value.
 */
#ifndef TCK_CUDA_COPY_H
#define TCK_CUDA_COPY_H

#include <stdint.h>

enum {
    TCK_COPY_BOXES = 64,
    TCK_COPY_THREADS = 256,
    TCK_COPY_UNITS = 4 /* of a thread and tile */,
    TCK_COPY_TILE = TCK_COPY_THREADS * TCK_COPY_UNITS
};

struct tck_copy_box {
    const char *source;
    char *target;
    uint64_t source_pitch;
    uint64_t target_pitch;
    uint64_t row_units;
    uint64_t units; /* of all rows */
};

struct tck_copy_args {
    uint32_t count;
    uint32_t first_tile[TCK_COPY_BOXES + 1]; /* of each box; behind the last, the number of tiles */
    uint8_t shift[TCK_COPY_BOXES];           /* a unit of the box has 1 << shift bytes */
    struct tck_copy_box boxes[TCK_COPY_BOXES];
};

#endif
