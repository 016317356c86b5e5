#include "cuda/copy.h"

#include <tck/cuda_comm.h>
#include <tcw/types.h>

enum { MOST_SHIFT = 4, BLOCKS_PER_MULTIPROCESSOR = 8 };

_Static_assert((int)TCK_COPY_BOXES == (int)TCK_CUDA_MAX_BOXES, "boxes of a launch");
_Static_assert(sizeof(struct tck_copy_args) <= 4096, "parameters of a kernel");

static uint8_t find_shift(const struct tck_cuda_box *box)
{
    uint64_t all = (uintptr_t)box->source | (uintptr_t)box->target | box->row_bytes;
    uint8_t shift = MOST_SHIFT;
    if (box->rows > 1)
        all |= box->source_pitch | box->target_pitch;
    while (all & ((UINT64_C(1) << shift) - 1))
        shift--;
    return shift;
}

/* Appends a box to the arguments; false if they would not hold its tiles. */
static bool add_box(struct tck_copy_args *args, const struct tck_cuda_box *box)
{
    struct tck_cuda_box b = *box;
    uint64_t units, tiles;
    if (!b.rows || !b.row_bytes)
        return true;
    if (b.row_bytes == b.source_pitch && b.row_bytes == b.target_pitch) { /* no gaps: one long row */
        b.row_bytes *= b.rows;
        b.rows = 1;
    }
    args->shift[args->count] = find_shift(&b);
    units = (b.row_bytes >> args->shift[args->count]) * b.rows;
    tiles = (units + TCK_COPY_TILE - 1) / TCK_COPY_TILE;
    if (tiles > UINT32_MAX - args->first_tile[args->count])
        return false;
    args->boxes[args->count] = (struct tck_copy_box){
        .source = b.source,
        .target = b.target,
        .source_pitch = b.source_pitch,
        .target_pitch = b.target_pitch,
        .row_units = b.row_bytes >> args->shift[args->count],
        .units = units,
    };
    args->count++;
    args->first_tile[args->count] = args->first_tile[args->count - 1] + (uint32_t)tiles;
    return true;
}

int tck_cuda_copy_launch(struct tck_device *device, const struct tck_cuda_box *boxes, unsigned count, CUstream stream)
{
    struct tck_copy_args args = {0};
    void *parameters[] = {&args};
    struct tck_cuda_kernel kernel;
    uint32_t tiles, most = tck_device_facts(device)->multiprocessors * BLOCKS_PER_MULTIPROCESSOR;
    int code;
    if (count > TCK_CUDA_MAX_BOXES)
        return TCW_EINVAL;
    for (unsigned i = 0; i < count; i++)
        if (!add_box(&args, &boxes[i]))
            return TCW_EINVAL;
    tiles = args.first_tile[args.count];
    if (!tiles)
        return 0;
    code = tck_cuda_kernel(device, "tck_copy", &kernel);
    if (code)
        return code;
    CUlaunchConfig config = {.gridDimX = tiles < most ? tiles : most,
                             .gridDimY = 1,
                             .gridDimZ = 1,
                             .blockDimX = TCK_COPY_THREADS,
                             .blockDimY = 1,
                             .blockDimZ = 1,
                             .hStream = stream};
    return tck_cuda_code(tck_cuda_driver()->cuLaunchKernelEx(&config, kernel.function, parameters, NULL));
}
