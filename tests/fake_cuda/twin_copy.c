#include "twins.h"

#include "cuda/copy.h"

#include <string.h>

static CUresult touch(const struct fake_launch *launch, const void *base, uint64_t pitch, uint64_t row_bytes, uint64_t rows, bool write)
{
    return fake_memory_touch(launch->context, launch->name, base, pitch * (rows - 1) + row_bytes, write, false);
}

CUresult fake_twin_copy(const struct fake_launch *launch)
{
    const struct tck_copy_args *args = launch->params;
    for (uint32_t i = 0; i < args->count; i++) {
        const struct tck_copy_box *box = &args->boxes[i];
        uint64_t row_bytes = box->row_units << args->shift[i], rows = box->units / box->row_units;
        CUresult result = touch(launch, box->source, box->source_pitch, row_bytes, rows, false);
        if (!result)
            result = touch(launch, box->target, box->target_pitch, row_bytes, rows, true);
        if (result)
            return result;
        for (uint64_t row = 0; row < rows; row++)
            memcpy(box->target + row * box->target_pitch, box->source + row * box->source_pitch, row_bytes);
    }
    return CUDA_SUCCESS;
}
