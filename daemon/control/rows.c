#include "rows.h"

#include <tcw/types.h>

#include <stdlib.h>

int tcd_rows_open(struct tcd_rows *rows, uint32_t count)
{
    rows->count = count;
    rows->taken = calloc((count + 63) / 64, sizeof(*rows->taken));
    return rows->taken ? 0 : TCW_ENOMEM;
}

void tcd_rows_close(struct tcd_rows *rows)
{
    free(rows->taken);
    rows->taken = NULL;
    rows->count = 0;
}

uint32_t tcd_rows_take(struct tcd_rows *rows)
{
    uint32_t word, row;

    for (word = 0; word < (rows->count + 63) / 64; word++) {
        if (rows->taken[word] == UINT64_MAX)
            continue;
        row = word * 64 + (uint32_t)__builtin_ctzll(~rows->taken[word]);
        if (row >= rows->count)
            break;
        rows->taken[word] |= 1ull << row % 64;
        return row;
    }
    return TCD_NO_ROW;
}

void tcd_rows_give(struct tcd_rows *rows, uint32_t row)
{
    if (row < rows->count)
        rows->taken[row / 64] &= ~(1ull << row % 64);
}
