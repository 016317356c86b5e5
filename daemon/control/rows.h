/*
 * Rows of one stats table: which are taken. Control process, loop thread. Freed by tcd_rows_close.
 */
#ifndef TCD_CONTROL_ROWS_H
#define TCD_CONTROL_ROWS_H

#include <stdint.h>

#define TCD_NO_ROW UINT32_MAX

struct tcd_rows {
    uint64_t *taken;
    uint32_t count;
};

int tcd_rows_open(struct tcd_rows *rows, uint32_t count);
void tcd_rows_close(struct tcd_rows *rows);
/* The lowest free row, TCD_NO_ROW when there is none: then the object is not shown. */
uint32_t tcd_rows_take(struct tcd_rows *rows);
/* Giving TCD_NO_ROW does nothing. */
void tcd_rows_give(struct tcd_rows *rows, uint32_t row);

#endif
