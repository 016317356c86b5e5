/*
 * tck_copy: copies boxes. Grid: any, blocks of TCK_COPY_THREADS threads; blocks take tiles with the stride of the grid. Sources and targets
 * do not overlap.
 */
#include "copy.h"

template <class Unit> static __device__ void copy_tile(const struct tck_copy_box &box, uint64_t first)
{
    Unit v[TCK_COPY_UNITS];
    char *to[TCK_COPY_UNITS];
    uint64_t row = first / box.row_units, at = first % box.row_units + threadIdx.x;
#pragma unroll
    for (uint32_t i = 0; i < TCK_COPY_UNITS; i++, at += TCK_COPY_THREADS) {
        uint64_t rows = (at | box.row_units) >> 32 ? at / box.row_units : (uint32_t)at / (uint32_t)box.row_units;
        row += rows;
        at -= rows * box.row_units;
        to[i] = nullptr;
        if (first + i * TCK_COPY_THREADS + threadIdx.x < box.units) {
            to[i] = box.target + row * box.target_pitch + at * sizeof(Unit);
            v[i] = *(const Unit *)(box.source + row * box.source_pitch + at * sizeof(Unit));
        }
    }
#pragma unroll
    for (uint32_t i = 0; i < TCK_COPY_UNITS; i++)
        if (to[i])
            *(Unit *)to[i] = v[i];
}

extern "C" __global__ void __launch_bounds__(TCK_COPY_THREADS) tck_copy(const __grid_constant__ struct tck_copy_args args)
{
    uint32_t box = 0;
    for (uint32_t tile = blockIdx.x; tile < args.first_tile[args.count]; tile += gridDim.x) {
        while (tile >= args.first_tile[box + 1])
            box++;
        uint64_t first = (uint64_t)(tile - args.first_tile[box]) * TCK_COPY_TILE;
        switch (args.shift[box]) {
        case 4:
            copy_tile<uint4>(args.boxes[box], first);
            break;
        case 3:
            copy_tile<uint2>(args.boxes[box], first);
            break;
        case 2:
            copy_tile<uint32_t>(args.boxes[box], first);
            break;
        case 1:
            copy_tile<uint16_t>(args.boxes[box], first);
            break;
        default:
            copy_tile<uint8_t>(args.boxes[box], first);
        }
    }
}
