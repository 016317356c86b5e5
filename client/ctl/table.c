#include "table.h"

#include "text.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

struct cell {
    char *text;
    unsigned width;
    tcc_style style;
};

struct tcc_table {
    const struct tcc_column *columns;
    size_t column_count;
    struct cell *cells;
    size_t used, capacity;
};

void *tcc_must(void *allocated)
{
    if (!allocated) {
        fputs("trtcollctl: out of memory\n", stderr);
        exit(1);
    }
    return allocated;
}

struct tcc_table *tcc_table_create(const struct tcc_column *columns, size_t count)
{
    struct tcc_table *table = tcc_must(calloc(1, sizeof *table));

    table->columns = columns;
    table->column_count = count;
    return table;
}

void tcc_table_free(struct tcc_table *table)
{
    if (!table)
        return;
    for (size_t i = 0; i < table->used; i++)
        free(table->cells[i].text);
    free(table->cells);
    free(table);
}

void tcc_table_cell(struct tcc_table *table, tcc_style style, const char *format, ...)
{
    struct cell *cell;
    va_list args;

    if (table->used == table->capacity) {
        table->capacity = table->capacity ? table->capacity * 2 : 64;
        table->cells = tcc_must(realloc(table->cells, table->capacity * sizeof *table->cells));
    }
    cell = &table->cells[table->used++];
    cell->style = style;
    va_start(args, format);
    if (vasprintf(&cell->text, format, args) < 0)
        cell->text = NULL;
    va_end(args);
    tcc_must(cell->text);
    cell->width = tcc_text_width(cell->text);
}

size_t tcc_table_rows(const struct tcc_table *table)
{
    return table->used / table->column_count;
}

static bool blank(const char *text)
{
    return !*text || strcmp(text, "-") == 0;
}

/* Width of a column; 0 when it is left out. */
static unsigned column_width(const struct tcc_table *table, size_t column, size_t rows)
{
    unsigned width = tcc_text_width(table->columns[column].title);
    bool empty = true;

    for (size_t row = 0; row < rows; row++) {
        const struct cell *cell = &table->cells[row * table->column_count + column];

        if (cell->width > width)
            width = cell->width;
        empty = empty && blank(cell->text);
    }
    return empty && table->columns[column].flags & TCC_OPTIONAL ? 0 : width;
}

/* Spaces are held back until something follows them, so no line ends in one. */
static void print_cell(const struct tcc_out *out, const struct cell *cell, bool right, unsigned width, unsigned *pending)
{
    unsigned space = width - cell->width;

    if (right)
        *pending += space;
    if (*cell->text) {
        fprintf(out->file, "%*s%s%s%s", (int)*pending, "", tcc_style_on(out, cell->style), cell->text, tcc_style_off(out, cell->style));
        *pending = 0;
    }
    *pending += right ? 2 : space + 2;
}

void tcc_table_print(const struct tcc_table *table, const struct tcc_out *out, unsigned indent, size_t limit)
{
    size_t rows = tcc_table_rows(table);
    size_t shown = limit && rows > limit ? limit : rows;
    unsigned *widths = tcc_must(calloc(table->column_count, sizeof *widths));

    for (size_t column = 0; column < table->column_count; column++)
        widths[column] = column_width(table, column, shown);
    for (size_t row = 0; row <= shown; row++) {
        unsigned pending = indent;

        for (size_t column = 0; column < table->column_count; column++) {
            struct cell title = {(char *)table->columns[column].title, tcc_text_width(table->columns[column].title), TCC_BOLD};
            const struct cell *cell = row ? &table->cells[(row - 1) * table->column_count + column] : &title;

            if (widths[column])
                print_cell(out, cell, table->columns[column].flags & TCC_RIGHT, widths[column], &pending);
        }
        fputc('\n', out->file);
    }
    if (shown < rows)
        tcc_print(out, TCC_DIM, "%*s... and %zu more (--limit 0 shows all)\n", (int)indent, "", rows - shown);
    free(widths);
}
