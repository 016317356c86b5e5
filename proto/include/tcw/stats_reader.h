/*
 * Reader of the stats segment (tcw/stats.h), for tools. Maps the file read-only, checks it whole before use, finds tables and fields by
 * their names in the schema of the file, and copies rows under their sequence locks: it never disturbs the daemon and works while that is
 * stuck or dead. Files of newer daemons (more tables, more fields) are readable; fields that the file lacks read as 0 or "".
 *
 * Owner: whoever opened it; tcw_stats_reader_close unmaps, and ends every pointer got from it. Threads: one at a time.
 */
#ifndef TCW_STATS_READER_H
#define TCW_STATS_READER_H

#include <tcw/stats.h>

struct tcw_stats_reader;

/*
 * Opens and checks `path`. 0; TCW_ENOENT: no such file; TCW_EPERM: not readable; TCW_EABI: another layout version; TCW_EPROTO: not a stats
 * segment, or damaged; TCW_ENOMEM, TCW_EIO. *why, if given, receives the reason in words (static string) on failure.
 */
int tcw_stats_reader_open(const char *path, struct tcw_stats_reader **reader, const char **why);
void tcw_stats_reader_close(struct tcw_stats_reader *reader); /* NULL is allowed */

/* ---- what the file says about itself ---- */

typedef enum tcw_stats_writer {
    TCW_STATS_WRITER_ALIVE = 0, /* the process is there and its loop turns */
    TCW_STATS_WRITER_STUCK = 1, /* the process is there; the heartbeat is older than TCW_STATS_STALE_NS */
    TCW_STATS_WRITER_GONE = 2,  /* the process has ended: the file is its last word */
} tcw_stats_writer;

#define TCW_STATS_STALE_NS 3000000000ull

struct tcw_stats_about {
    tcw_stats_writer writer;
    bool replaced;        /* another file has this path now (a new daemon): close and open again */
    bool other_namespace; /* the writer's pid means nothing here; `writer` is judged by the heartbeat alone */
    uint64_t pid;
    uint64_t start_ns;         /* CLOCK_REALTIME */
    uint64_t heartbeat_ns;     /* CLOCK_MONOTONIC, 0: none yet */
    uint64_t heartbeat_age_ns; /* UINT64_MAX: none yet, or from before the last boot */
    uint64_t dropped;          /* rows the segment had no place for */
    uint32_t version;
};
void tcw_stats_reader_about(const struct tcw_stats_reader *reader, struct tcw_stats_about *about);

/* Inclusive upper bounds of the file's latency buckets (ns) and size classes (bytes), UINT64_MAX for the last and beyond. */
uint32_t tcw_stats_reader_latency_buckets(const struct tcw_stats_reader *reader);
uint64_t tcw_stats_reader_latency_limit(const struct tcw_stats_reader *reader, uint32_t bucket);
uint32_t tcw_stats_reader_size_classes(const struct tcw_stats_reader *reader);
uint64_t tcw_stats_reader_size_limit(const struct tcw_stats_reader *reader, uint32_t size_class);

/* ---- rows as the structs of tcw/stats.h: the short way for a tool built with the tables it shows ---- */

/* Rows of a table, used or not; 0 if the file has no such table. */
uint32_t tcw_stats_reader_rows(const struct tcw_stats_reader *reader, tcw_stats_table table);

/*
 * Copies row `index` into the table's struct (struct tcw_stats_client for TCW_STATS_TABLE_CLIENT ...), matching fields by name. Texts are
 * NUL-terminated. 1: *row is filled; 0: empty row or no such row; TCW_EAGAIN: the writer kept changing it, or died while it did.
 */
int tcw_stats_reader_get(const struct tcw_stats_reader *reader, tcw_stats_table table, uint32_t index, void *row);

/* The next used row at or after *index into *row, for loops: true and *index is its number (continue with *index + 1); false: no more. */
bool tcw_stats_reader_next(const struct tcw_stats_reader *reader, tcw_stats_table table, uint32_t *index, void *row);

/* ---- discovery by name: for output that shows whatever the file holds ---- */

struct tcw_stats_field_view {
    const char *name;
    const char *unit; /* "" if none */
    const char *help;
    bool text;           /* else one or more u64 */
    tcw_stats_kind kind; /* of numbers */
    uint32_t count;      /* numbers: 1, or more for an array; text: bytes */
    uint32_t offset;     /* in a row got from tcw_stats_reader_copy */
};

struct tcw_stats_table_view {
    const char *name;
    uint32_t number;
    uint32_t rows;
    uint32_t row_bytes; /* what tcw_stats_reader_copy writes */
    uint32_t field_count;
    const struct tcw_stats_field_view *fields;
};

uint32_t tcw_stats_reader_table_count(const struct tcw_stats_reader *reader);
const struct tcw_stats_table_view *tcw_stats_reader_table_at(const struct tcw_stats_reader *reader, uint32_t position); /* NULL: no more */
const struct tcw_stats_table_view *tcw_stats_reader_table(const struct tcw_stats_reader *reader, const char *name);     /* NULL: none */
const struct tcw_stats_field_view *tcw_stats_table_field(const struct tcw_stats_table_view *table, const char *name);   /* NULL: none */

/* Copies row `index` as it is in the file into `row` (table->row_bytes bytes). Answers like tcw_stats_reader_get. */
int tcw_stats_reader_copy(const struct tcw_stats_reader *reader, const struct tcw_stats_table_view *table, uint32_t index, void *row);

/* Parts of a copied row. A NULL field, a wrong type or an index beyond the array reads as 0 or "". */
uint64_t tcw_stats_row_u64(const struct tcw_stats_field_view *field, const void *row, uint32_t index);
const char *tcw_stats_row_text(const struct tcw_stats_field_view *field, const void *row);

#endif
