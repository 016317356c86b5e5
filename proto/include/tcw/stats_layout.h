/*
 * How the stats segment lies in its file, and the schema as this build knows it. Writer: daemon/control/stats.c; reader:
 * tcw/stats_reader.h; nobody else looks at these structs. Owner: nobody, constants only. Threads: any.
 *
 * Header, table entries, field entries, rows: each part starts at a multiple of 64 bytes. Everything but heartbeat_ns, dropped and the rows
 * is constant once the file has its final name. Entry sizes are in the header, so later versions may make entries longer.
 */
#ifndef TCW_STATS_LAYOUT_H
#define TCW_STATS_LAYOUT_H

#include <tcw/stats.h>

enum {
    TCW_STATS_NAME_BYTES = 32,
    TCW_STATS_UNIT_BYTES = 16,
    TCW_STATS_HELP_BYTES = 96,
    TCW_STATS_MAX_TABLES = 64,
    TCW_STATS_MAX_FIELDS = 1024,
};

struct tcw_stats_header {
    uint32_t magic;
    uint32_t version;
    uint32_t header_bytes;
    _Atomic uint32_t ready; /* 1 once everything else is in place */
    uint64_t total_bytes;
    uint64_t pid;                      /* of the writer, in its own pid namespace */
    uint64_t start_ticks;              /* of that process: field 22 of /proc/PID/stat, so that a reused pid shows */
    uint64_t pid_namespace;            /* inode of /proc/self/ns/pid; the pid means something only in there */
    uint64_t start_ns;                 /* CLOCK_REALTIME */
    _Atomic uint64_t heartbeat_ns;     /* copy of the daemon row's */
    _Atomic uint64_t dropped;          /* rows that had no place */
    uint32_t table_count, table_bytes; /* entries and bytes of one */
    uint32_t field_count, field_bytes;
    uint64_t tables_offset, fields_offset;
    uint32_t latency_buckets, size_classes;
    uint64_t latency_limits[TCW_LATENCY_BUCKETS]; /* inclusive upper bounds, ns */
    uint64_t size_limits[TCW_SIZE_CLASSES];       /* inclusive upper bounds, bytes */
};

struct tcw_stats_table_entry {
    char name[TCW_STATS_NAME_BYTES];
    uint32_t number;
    uint32_t first_field, field_count;
    uint32_t row_bytes; /* with the sequence word in front */
    uint32_t rows;
    uint32_t reserved;
    uint64_t offset; /* of row 0 in the file */
};

typedef enum tcw_stats_type { TCW_STATS_TYPE_U64 = 1, TCW_STATS_TYPE_TEXT = 2 } tcw_stats_type;

struct tcw_stats_field_entry {
    char name[TCW_STATS_NAME_BYTES];
    char unit[TCW_STATS_UNIT_BYTES];
    char help[TCW_STATS_HELP_BYTES];
    uint32_t type;   /* tcw_stats_type */
    uint32_t kind;   /* tcw_stats_kind; 0 for text */
    uint32_t offset; /* behind the sequence word */
    uint32_t count;  /* numbers of an array, 1 for a single one, bytes of a text */
};

/* The schema of this build: tables in order of their numbers, fields in order of their offsets. */
struct tcw_stats_schema_table {
    const char *name;
    uint32_t number;
    uint32_t bytes; /* of the row's struct */
    uint32_t field_count;
    const struct tcw_stats_field_entry *fields;
};
extern const struct tcw_stats_schema_table tcw_stats_schema[];
extern const uint32_t tcw_stats_schema_tables;

/* The entry of one table, NULL for an unknown number. */
const struct tcw_stats_schema_table *tcw_stats_schema_find(uint32_t number);

/* Row of the latency table for an operation, a lane (1 or 2) and a size class; the table has TCW_STATS_LATENCY_ROWS. */
enum { TCW_STATS_LATENCY_ROWS = TCW_MEMBER_MAX_OPS * 2 * TCW_SIZE_CLASSES };
static inline uint32_t tcw_stats_latency_row(uint32_t op, uint32_t lane, uint32_t size_class)
{
    return (op * 2 + (lane - 1)) * TCW_SIZE_CLASSES + size_class;
}

/* Start time of a process in clock ticks since boot; 0: there is none, or it is a zombie; UINT64_MAX: there is, and that is all we may
 * know. */
uint64_t tcw_process_start_ticks(uint64_t pid);
/* Inode of the calling process's pid namespace, 0 if unknown. */
uint64_t tcw_process_pid_namespace(void);

#endif
