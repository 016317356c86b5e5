#include "stats.h"

#include <tcw/stats_layout.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { PART_ALIGN = 64, TABLES_MAX = 16 };

struct table {
    const struct tcw_stats_schema_table *schema;
    uint32_t rows;
    uint32_t row_bytes;
    uint64_t offset;
    uint64_t *sequences; /* of every row, the next even number: a cleared row does not start again at a number that a reader may hold */
};

struct tcd_stats {
    unsigned char *base;
    uint64_t bytes;
    struct tcw_stats_header *header;
    struct table tables[TABLES_MAX]; /* by number */
};

static uint64_t align_part(uint64_t offset)
{
    return (offset + PART_ALIGN - 1) / PART_ALIGN * PART_ALIGN;
}

static uint32_t table_rows(tcw_stats_table table, const struct tcd_stats_capacity *capacity)
{
    switch (table) {
    case TCW_STATS_TABLE_DAEMON:
        return 1;
    case TCW_STATS_TABLE_DEVICE:
        return capacity->devices;
    case TCW_STATS_TABLE_CLIENT:
        return capacity->clients;
    case TCW_STATS_TABLE_GROUP:
        return capacity->groups;
    case TCW_STATS_TABLE_MEMBER:
        return capacity->members;
    case TCW_STATS_TABLE_LATENCY:
        return TCW_STATS_LATENCY_ROWS;
    case TCW_STATS_TABLE_RECORD:
        return capacity->members * 2 * TCW_STATS_RECORDS_PER_MEMBER;
    case TCW_STATS_TABLE_COMMUNICATOR:
        return capacity->communicators;
    }
    return 0;
}

/* Lays out the file: fills the tables and a header; the offsets of the schema's parts are in the header. */
static int plan_layout(struct tcd_stats *stats, const struct tcd_stats_capacity *capacity, struct tcw_stats_header *header)
{
    *header = (struct tcw_stats_header){
        .magic = TCW_STATS_MAGIC,
        .version = TCW_STATS_VERSION,
        .header_bytes = sizeof *header,
        .table_bytes = sizeof(struct tcw_stats_table_entry),
        .field_bytes = sizeof(struct tcw_stats_field_entry),
        .table_count = tcw_stats_schema_tables,
    };
    for (uint32_t i = 0; i < tcw_stats_schema_tables; ++i)
        header->field_count += tcw_stats_schema[i].field_count;
    header->tables_offset = align_part(sizeof *header);
    header->fields_offset = align_part(header->tables_offset + (uint64_t)header->table_count * header->table_bytes);
    uint64_t offset = align_part(header->fields_offset + (uint64_t)header->field_count * header->field_bytes);
    for (uint32_t i = 0; i < tcw_stats_schema_tables; ++i) {
        const struct tcw_stats_schema_table *schema = &tcw_stats_schema[i];
        struct table *table = &stats->tables[schema->number];
        table->schema = schema;
        table->rows = table_rows((tcw_stats_table)schema->number, capacity);
        table->row_bytes = schema->bytes + (uint32_t)sizeof(uint64_t);
        table->offset = offset;
        table->sequences = calloc(table->rows ? table->rows : 1, sizeof *table->sequences);
        if (!table->sequences)
            return TCW_ENOMEM;
        offset = align_part(offset + (uint64_t)table->rows * table->row_bytes);
    }
    header->total_bytes = offset;
    return 0;
}

static void write_schema(const struct tcd_stats *stats, const struct tcw_stats_header *header)
{
    struct tcw_stats_table_entry *tables = (void *)(stats->base + header->tables_offset);
    struct tcw_stats_field_entry *fields = (void *)(stats->base + header->fields_offset);
    uint32_t first = 0;
    for (uint32_t i = 0; i < tcw_stats_schema_tables; ++i) {
        const struct tcw_stats_schema_table *schema = &tcw_stats_schema[i];
        const struct table *table = &stats->tables[schema->number];
        struct tcw_stats_table_entry *entry = &tables[i];
        snprintf(entry->name, sizeof entry->name, "%s", schema->name);
        entry->number = schema->number;
        entry->first_field = first;
        entry->field_count = schema->field_count;
        entry->row_bytes = table->row_bytes;
        entry->rows = table->rows;
        entry->offset = table->offset;
        memcpy(&fields[first], schema->fields, schema->field_count * sizeof *fields);
        first += schema->field_count;
    }
}

static void write_header(struct tcd_stats *stats, struct tcw_stats_header *header)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    header->pid = (uint64_t)getpid();
    header->start_ticks = tcw_process_start_ticks(header->pid);
    header->pid_namespace = tcw_process_pid_namespace();
    header->start_ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
    atomic_store(&header->heartbeat_ns, tcw_now_ns());
    header->latency_buckets = TCW_LATENCY_BUCKETS;
    for (unsigned i = 0; i < TCW_LATENCY_BUCKETS; ++i)
        header->latency_limits[i] = tcw_latency_bucket_limit(i);
    header->size_classes = TCW_SIZE_CLASSES;
    for (unsigned i = 0; i < TCW_SIZE_CLASSES; ++i)
        header->size_limits[i] = tcw_size_class_limit(i);
    memcpy(stats->base, header, sizeof *header);
    stats->header = (void *)stats->base;
    atomic_store_explicit(&stats->header->ready, 1, memory_order_release);
}

static int errno_code(void)
{
    return errno == ENOSPC || errno == ENOMEM ? TCW_ENOMEM : TCW_EIO;
}

/* Makes the file under a temporary name, with all its blocks, so that no later store can fault for lack of space. */
static int write_file(struct tcd_stats *stats, struct tcw_stats_header *header, const char *temporary, const char *path)
{
    unlink(temporary); /* of a daemon that died here; ours alone, because the runtime directory is locked */
    int fd = open(temporary, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0644);
    if (fd < 0)
        return TCW_EIO;
    int rc = 0, error = posix_fallocate(fd, 0, (off_t)header->total_bytes);
    void *base = error ? MAP_FAILED : mmap(NULL, header->total_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (base == MAP_FAILED) {
        errno = error ? error : errno;
        rc = errno_code();
    } else {
        stats->base = base;
        stats->bytes = header->total_bytes;
        write_schema(stats, header);
        write_header(stats, header);
        if (rename(temporary, path) < 0)
            rc = TCW_EIO;
    }
    close(fd);
    if (rc < 0)
        unlink(temporary);
    return rc;
}

int tcd_stats_create(const char *runtime_dir, const struct tcd_stats_capacity *capacity, struct tcd_stats **out)
{
    char temporary[4096], path[4096];
    int a = snprintf(path, sizeof path, "%s/stats", runtime_dir);
    int b = snprintf(temporary, sizeof temporary, "%s/stats.new", runtime_dir);
    if (a < 0 || b < 0 || (size_t)b >= sizeof temporary)
        return TCW_EINVAL;
    struct tcd_stats *stats = calloc(1, sizeof *stats);
    if (!stats)
        return TCW_ENOMEM;
    struct tcw_stats_header header;
    int rc = plan_layout(stats, capacity, &header);
    if (rc == 0)
        rc = write_file(stats, &header, temporary, path);
    if (rc < 0) {
        tcd_stats_destroy(stats);
        return rc;
    }
    *out = stats;
    return 0;
}

void tcd_stats_destroy(struct tcd_stats *stats)
{
    if (!stats)
        return;
    if (stats->base)
        munmap(stats->base, stats->bytes);
    for (unsigned i = 0; i < TABLES_MAX; ++i)
        free(stats->tables[i].sequences);
    free(stats);
}

static struct table *find_table(struct tcd_stats *stats, tcw_stats_table number)
{
    return (unsigned)number < TABLES_MAX && stats->tables[number].schema ? &stats->tables[number] : NULL;
}

static _Atomic uint64_t *row_words(const struct tcd_stats *stats, const struct table *table, uint32_t index)
{
    return (_Atomic uint64_t *)(void *)(stats->base + table->offset + (uint64_t)index * table->row_bytes);
}

void tcd_stats_put(struct tcd_stats *stats, tcw_stats_table number, uint32_t index, const void *row)
{
    struct table *table = find_table(stats, number);
    if (!table || index >= table->rows) {
        atomic_fetch_add_explicit(&stats->header->dropped, 1, memory_order_relaxed);
        return;
    }
    _Atomic uint64_t *words = row_words(stats, table, index);
    uint64_t sequence = table->sequences[index] += 2;
    atomic_store_explicit(&words[0], sequence - 1, memory_order_relaxed);
    for (uint32_t i = 0; i < table->schema->bytes / sizeof(uint64_t); ++i) {
        uint64_t word;
        memcpy(&word, (const unsigned char *)row + i * sizeof word, sizeof word);
        /* Release: a reader that sees this word sees the odd number too. */
        atomic_store_explicit(&words[1 + i], word, memory_order_release);
    }
    atomic_store_explicit(&words[0], sequence, memory_order_release);
    if (number == TCW_STATS_TABLE_DAEMON)
        atomic_store_explicit(&stats->header->heartbeat_ns, ((const struct tcw_stats_daemon *)row)->heartbeat_ns, memory_order_release);
}

void tcd_stats_clear(struct tcd_stats *stats, tcw_stats_table number, uint32_t index)
{
    struct table *table = find_table(stats, number);
    if (table && index < table->rows)
        atomic_store_explicit(&row_words(stats, table, index)[0], 0, memory_order_release);
}

uint32_t tcd_stats_rows(const struct tcd_stats *stats, tcw_stats_table number)
{
    return (unsigned)number < TABLES_MAX ? stats->tables[number].rows : 0;
}
