/*
 * A text table: cells are added row by row, columns become as wide as their content. Owner: the command that made it, which frees it.
 */
#ifndef TCC_CTL_TABLE_H
#define TCC_CTL_TABLE_H

#include "out.h"

#include <stddef.h>

enum { TCC_LEFT = 0, TCC_RIGHT = 1, TCC_OPTIONAL = 2 /* left out while every cell is "" or "-" */ };

struct tcc_column {
    const char *title;
    unsigned flags;
};

struct tcc_table;

struct tcc_table *tcc_table_create(const struct tcc_column *columns, size_t count);
void tcc_table_free(struct tcc_table *table);

/* The next cell; after the last column a new row begins. */
__attribute__((format(printf, 3, 4))) void tcc_table_cell(struct tcc_table *table, tcc_style style, const char *format, ...);
size_t tcc_table_rows(const struct tcc_table *table);

/*
 * Prints header and rows, each line behind `indent` spaces and without trailing space. At most `limit` rows (0: all) and then a line that
 * says how many are missing.
 */
void tcc_table_print(const struct tcc_table *table, const struct tcc_out *out, unsigned indent, size_t limit);

/* malloc and friends for a tool: end the process with exit code 1 when memory is out. */
void *tcc_must(void *allocated);

#endif
