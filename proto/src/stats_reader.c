#include <tcw/stats_reader.h>

#include <tcw/stats_layout.h>

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { FAST_TRIES = 64, SLOW_TRIES = 20, NAP_NS = 100000, ROW_BYTES_MAX = 1 << 16 };

struct table {
    struct tcw_stats_table_view view;
    uint64_t offset;
    uint32_t stride; /* row with its sequence word */
};

/* A table of this build, found in the file: for each of its fields the file's, NULL where the file has none. */
struct match {
    const struct table *table;
    const struct tcw_stats_field_view **fields;
};

struct tcw_stats_reader {
    const unsigned char *base;
    uint64_t bytes;
    char *path;
    dev_t device;
    ino_t inode;
    struct tcw_stats_header header;        /* as it was at opening; the live words are read from the mapping */
    struct tcw_stats_field_entry *entries; /* private copies: the views point into them */
    struct tcw_stats_field_view *fields;
    char (*names)[TCW_STATS_NAME_BYTES];
    struct table *tables;
    struct match *matches; /* by position in tcw_stats_schema */
    unsigned char *row;    /* scratch, as long as the longest row */
};

/* ---- opening: nothing of the file is believed before it was checked ---- */

static int problem(const char **why, int code, const char *text)
{
    *why = text;
    return code;
}

static bool inside(uint64_t offset, uint64_t count, uint64_t each, uint64_t bytes)
{
    return offset <= bytes && count * each <= bytes - offset; /* both factors are far below 2^32 */
}

static int check_header(const struct tcw_stats_header *header, uint64_t bytes, const char **why)
{
    if (header->magic != TCW_STATS_MAGIC)
        return problem(why, TCW_EPROTO, "not a stats segment");
    if (header->version != TCW_STATS_VERSION)
        return problem(why, TCW_EABI, "a stats segment of another version");
    if (header->header_bytes < sizeof *header || !header->ready)
        return problem(why, TCW_EPROTO, "the header is damaged");
    if (header->total_bytes > bytes)
        return problem(why, TCW_EPROTO, "the file is truncated");
    if (header->table_count > TCW_STATS_MAX_TABLES || header->field_count > TCW_STATS_MAX_FIELDS ||
        header->table_bytes < sizeof(struct tcw_stats_table_entry) || header->field_bytes < sizeof(struct tcw_stats_field_entry) ||
        header->table_bytes > ROW_BYTES_MAX || header->field_bytes > ROW_BYTES_MAX ||
        !inside(header->tables_offset, header->table_count, header->table_bytes, header->total_bytes) ||
        !inside(header->fields_offset, header->field_count, header->field_bytes, header->total_bytes))
        return problem(why, TCW_EPROTO, "the schema does not fit the file");
    return 0;
}

static void terminate(char *text, size_t bytes)
{
    text[bytes - 1] = '\0';
}

static int load_fields(struct tcw_stats_reader *reader, const char **why)
{
    const struct tcw_stats_header *header = &reader->header;
    for (uint32_t i = 0; i < header->field_count; ++i) {
        struct tcw_stats_field_entry *entry = &reader->entries[i];
        memcpy(entry, reader->base + header->fields_offset + (uint64_t)i * header->field_bytes, sizeof *entry);
        terminate(entry->name, sizeof entry->name);
        terminate(entry->unit, sizeof entry->unit);
        terminate(entry->help, sizeof entry->help);
        bool text = entry->type == TCW_STATS_TYPE_TEXT;
        if ((!text && entry->type != TCW_STATS_TYPE_U64) || !entry->name[0] || !entry->count || entry->count > ROW_BYTES_MAX ||
            entry->offset > ROW_BYTES_MAX || (entry->offset & 7))
            return problem(why, TCW_EPROTO, "a field of the schema is damaged");
        reader->fields[i] = (struct tcw_stats_field_view){
            .name = entry->name,
            .unit = entry->unit,
            .help = entry->help,
            .text = text,
            .kind = (tcw_stats_kind)entry->kind,
            .count = entry->count,
            .offset = entry->offset,
        };
    }
    return 0;
}

static bool field_fits(const struct tcw_stats_field_view *field, uint32_t row_bytes)
{
    uint64_t bytes = field->text ? field->count : 8ull * field->count;
    return field->offset + bytes <= row_bytes;
}

static int load_tables(struct tcw_stats_reader *reader, const char **why)
{
    const struct tcw_stats_header *header = &reader->header;
    uint32_t longest = 0;
    for (uint32_t i = 0; i < header->table_count; ++i) {
        struct tcw_stats_table_entry entry;
        memcpy(&entry, reader->base + header->tables_offset + (uint64_t)i * header->table_bytes, sizeof entry);
        terminate(entry.name, sizeof entry.name);
        if (!entry.name[0] || entry.row_bytes < 16 || entry.row_bytes > ROW_BYTES_MAX || (entry.row_bytes & 7) || (entry.offset & 7) ||
            !inside(entry.offset, entry.rows, entry.row_bytes, header->total_bytes) || entry.first_field > header->field_count ||
            entry.field_count > header->field_count - entry.first_field)
            return problem(why, TCW_EPROTO, "a table of the schema is damaged");
        memcpy(reader->names[i], entry.name, sizeof entry.name);
        uint32_t row_bytes = entry.row_bytes - (uint32_t)sizeof(uint64_t);
        const struct tcw_stats_field_view *fields = reader->fields + entry.first_field;
        for (uint32_t j = 0; j < entry.field_count; ++j)
            if (!field_fits(&fields[j], row_bytes))
                return problem(why, TCW_EPROTO, "a field lies outside of its row");
        reader->tables[i] = (struct table){
            .view = {reader->names[i], entry.number, entry.rows, row_bytes, entry.field_count, fields},
            .offset = entry.offset,
            .stride = entry.row_bytes,
        };
        longest = row_bytes > longest ? row_bytes : longest;
    }
    reader->row = malloc(longest ? longest : 1);
    return reader->row ? 0 : problem(why, TCW_ENOMEM, "out of memory");
}

/* Finds the tables and fields of this build in the file. */
static int load_matches(struct tcw_stats_reader *reader, const char **why)
{
    for (uint32_t i = 0; i < tcw_stats_schema_tables; ++i) {
        const struct tcw_stats_schema_table *mine = &tcw_stats_schema[i];
        struct match *match = &reader->matches[i];
        match->fields = calloc(mine->field_count, sizeof *match->fields);
        if (!match->fields)
            return problem(why, TCW_ENOMEM, "out of memory");
        const struct tcw_stats_table_view *view = tcw_stats_reader_table(reader, mine->name);
        if (!view)
            continue;
        match->table = (const struct table *)view; /* the view is its first member */
        for (uint32_t j = 0; j < mine->field_count; ++j) {
            const struct tcw_stats_field_view *field = tcw_stats_table_field(view, mine->fields[j].name);
            if (field && field->text == (mine->fields[j].type == TCW_STATS_TYPE_TEXT))
                match->fields[j] = field;
        }
    }
    return 0;
}

static int load(struct tcw_stats_reader *reader, const char **why)
{
    memcpy(&reader->header, reader->base, sizeof reader->header);
    int rc = check_header(&reader->header, reader->bytes, why);
    if (rc < 0)
        return rc;
    reader->entries = calloc(reader->header.field_count + 1, sizeof *reader->entries);
    reader->fields = calloc(reader->header.field_count + 1, sizeof *reader->fields);
    reader->names = calloc(reader->header.table_count + 1, sizeof *reader->names);
    reader->tables = calloc(reader->header.table_count + 1, sizeof *reader->tables);
    reader->matches = calloc(tcw_stats_schema_tables, sizeof *reader->matches);
    if (!reader->entries || !reader->fields || !reader->names || !reader->tables || !reader->matches)
        return problem(why, TCW_ENOMEM, "out of memory");
    if ((rc = load_fields(reader, why)) < 0 || (rc = load_tables(reader, why)) < 0)
        return rc;
    return load_matches(reader, why);
}

static int map(struct tcw_stats_reader *reader, const char *path, const char **why)
{
    struct stat status;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY); /* should it be a pipe or a terminal, do not hang */
    if (fd < 0) {
        if (errno == ENOENT || errno == ENOTDIR)
            return problem(why, TCW_ENOENT, "there is no stats segment");
        return errno == EACCES || errno == EPERM ? problem(why, TCW_EPERM, "the stats segment is not readable for this user")
                                                 : problem(why, TCW_EIO, "the stats segment cannot be opened");
    }
    if (fstat(fd, &status) < 0 || !S_ISREG(status.st_mode) || (uint64_t)status.st_size < sizeof(struct tcw_stats_header)) {
        close(fd);
        return problem(why, TCW_EPROTO, "not a stats segment");
    }
    void *base = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_SHARED, fd, 0);
    close(fd);
    if (base == MAP_FAILED)
        return problem(why, TCW_EIO, "the stats segment cannot be mapped");
    reader->base = base;
    reader->bytes = (uint64_t)status.st_size;
    reader->device = status.st_dev;
    reader->inode = status.st_ino;
    return 0;
}

int tcw_stats_reader_open(const char *path, struct tcw_stats_reader **out, const char **why)
{
    const char *ignored;
    why = why ? why : &ignored;
    struct tcw_stats_reader *reader = calloc(1, sizeof *reader);
    if (!reader)
        return problem(why, TCW_ENOMEM, "out of memory");
    reader->path = strdup(path);
    int rc = reader->path ? map(reader, path, why) : problem(why, TCW_ENOMEM, "out of memory");
    if (rc == 0)
        rc = load(reader, why);
    if (rc < 0) {
        tcw_stats_reader_close(reader);
        return rc;
    }
    *out = reader;
    return 0;
}

void tcw_stats_reader_close(struct tcw_stats_reader *reader)
{
    if (!reader)
        return;
    if (reader->base)
        munmap((void *)(uintptr_t)reader->base, reader->bytes);
    if (reader->matches)
        for (uint32_t i = 0; i < tcw_stats_schema_tables; ++i)
            free(reader->matches[i].fields);
    free(reader->matches);
    free(reader->row);
    free(reader->tables);
    free(reader->names);
    free(reader->fields);
    free(reader->entries);
    free(reader->path);
    free(reader);
}

/* ---- about the file ---- */

static uint64_t load_word(const _Atomic uint64_t *word)
{
    return atomic_load_explicit(word, memory_order_acquire);
}

static tcw_stats_writer judge_writer(const struct tcw_stats_header *header, bool other_namespace, uint64_t age)
{
    if (other_namespace)
        return age <= TCW_STATS_STALE_NS ? TCW_STATS_WRITER_ALIVE : TCW_STATS_WRITER_GONE;
    uint64_t ticks = tcw_process_start_ticks(header->pid);
    if (!ticks || (ticks != UINT64_MAX && ticks != header->start_ticks))
        return TCW_STATS_WRITER_GONE;
    return age <= TCW_STATS_STALE_NS ? TCW_STATS_WRITER_ALIVE : TCW_STATS_WRITER_STUCK;
}

void tcw_stats_reader_about(const struct tcw_stats_reader *reader, struct tcw_stats_about *about)
{
    const struct tcw_stats_header *live = (const struct tcw_stats_header *)(const void *)reader->base;
    const struct tcw_stats_header *header = &reader->header;
    struct stat status;
    uint64_t heartbeat = load_word(&live->heartbeat_ns), now = tcw_now_ns();
    *about = (struct tcw_stats_about){
        .pid = header->pid,
        .start_ns = header->start_ns,
        .heartbeat_ns = heartbeat,
        .heartbeat_age_ns = heartbeat && heartbeat <= now ? now - heartbeat : UINT64_MAX,
        .dropped = load_word(&live->dropped),
        .version = header->version,
        .replaced = stat(reader->path, &status) == 0 && (status.st_dev != reader->device || status.st_ino != reader->inode),
        .other_namespace = header->pid_namespace != tcw_process_pid_namespace(),
    };
    about->writer = judge_writer(header, about->other_namespace, about->heartbeat_age_ns);
}

uint32_t tcw_stats_reader_latency_buckets(const struct tcw_stats_reader *reader)
{
    return reader->header.latency_buckets < TCW_LATENCY_BUCKETS ? reader->header.latency_buckets : TCW_LATENCY_BUCKETS;
}

uint64_t tcw_stats_reader_latency_limit(const struct tcw_stats_reader *reader, uint32_t bucket)
{
    return bucket < tcw_stats_reader_latency_buckets(reader) ? reader->header.latency_limits[bucket] : UINT64_MAX;
}

uint32_t tcw_stats_reader_size_classes(const struct tcw_stats_reader *reader)
{
    return reader->header.size_classes < TCW_SIZE_CLASSES ? reader->header.size_classes : TCW_SIZE_CLASSES;
}

uint64_t tcw_stats_reader_size_limit(const struct tcw_stats_reader *reader, uint32_t size_class)
{
    return size_class < tcw_stats_reader_size_classes(reader) ? reader->header.size_limits[size_class] : UINT64_MAX;
}

/* ---- discovery ---- */

uint32_t tcw_stats_reader_table_count(const struct tcw_stats_reader *reader)
{
    return reader->header.table_count;
}

const struct tcw_stats_table_view *tcw_stats_reader_table_at(const struct tcw_stats_reader *reader, uint32_t position)
{
    return position < reader->header.table_count ? &reader->tables[position].view : NULL;
}

const struct tcw_stats_table_view *tcw_stats_reader_table(const struct tcw_stats_reader *reader, const char *name)
{
    for (uint32_t i = 0; i < reader->header.table_count; ++i)
        if (!strcmp(reader->tables[i].view.name, name))
            return &reader->tables[i].view;
    return NULL;
}

const struct tcw_stats_field_view *tcw_stats_table_field(const struct tcw_stats_table_view *table, const char *name)
{
    for (uint32_t i = 0; table && i < table->field_count; ++i)
        if (!strcmp(table->fields[i].name, name))
            return &table->fields[i];
    return NULL;
}

/* ---- rows ---- */

/* One try. Words are loaded with acquire, so that the second look at the sequence comes last; the writer's stores release in turn. */
static int copy_once(const _Atomic uint64_t *words, uint32_t row_bytes, unsigned char *row)
{
    uint64_t sequence = load_word(&words[0]);
    if (!sequence)
        return 0;
    if (sequence & 1)
        return TCW_EAGAIN;
    for (uint32_t i = 0; i < row_bytes / 8; ++i) {
        uint64_t word = load_word(&words[1 + i]);
        memcpy(row + 8 * i, &word, sizeof word);
    }
    return atomic_load_explicit(&words[0], memory_order_relaxed) == sequence ? 1 : TCW_EAGAIN;
}

int tcw_stats_reader_copy(const struct tcw_stats_reader *reader, const struct tcw_stats_table_view *view, uint32_t index, void *row)
{
    const struct table *table = (const struct table *)view; /* the view is its first member */
    if (!table || index >= view->rows)
        return 0;
    const _Atomic uint64_t *words =
        (const _Atomic uint64_t *)(const void *)(reader->base + table->offset + (uint64_t)index * table->stride);
    int rc = TCW_EAGAIN;
    for (int i = 0; rc == TCW_EAGAIN && i < FAST_TRIES + SLOW_TRIES; ++i) {
        if (i >= FAST_TRIES)
            nanosleep(&(struct timespec){0, NAP_NS}, NULL);
        rc = copy_once(words, view->row_bytes, row);
    }
    if (rc == 1)
        for (uint32_t i = 0; i < view->field_count; ++i)
            if (view->fields[i].text)
                ((char *)row)[view->fields[i].offset + view->fields[i].count - 1] = '\0';
    return rc;
}

uint64_t tcw_stats_row_u64(const struct tcw_stats_field_view *field, const void *row, uint32_t index)
{
    uint64_t value;
    if (!field || field->text || index >= field->count)
        return 0;
    memcpy(&value, (const unsigned char *)row + field->offset + 8ull * index, sizeof value);
    return value;
}

const char *tcw_stats_row_text(const struct tcw_stats_field_view *field, const void *row)
{
    return field && field->text ? (const char *)row + field->offset : "";
}

/* Position in tcw_stats_schema of a table of this build. */
static const struct match *find_match(const struct tcw_stats_reader *reader, tcw_stats_table table,
                                      const struct tcw_stats_schema_table **schema)
{
    *schema = tcw_stats_schema_find(table);
    return *schema ? &reader->matches[*schema - tcw_stats_schema] : NULL;
}

uint32_t tcw_stats_reader_rows(const struct tcw_stats_reader *reader, tcw_stats_table table)
{
    const struct tcw_stats_schema_table *schema;
    const struct match *match = find_match(reader, table, &schema);
    return match && match->table ? match->table->view.rows : 0;
}

int tcw_stats_reader_get(const struct tcw_stats_reader *reader, tcw_stats_table table, uint32_t index, void *row)
{
    const struct tcw_stats_schema_table *schema;
    const struct match *match = find_match(reader, table, &schema);
    if (!match || !match->table)
        return 0;
    int rc = tcw_stats_reader_copy(reader, &match->table->view, index, reader->row);
    if (rc != 1)
        return rc;
    memset(row, 0, schema->bytes);
    for (uint32_t i = 0; i < schema->field_count; ++i) {
        const struct tcw_stats_field_entry *mine = &schema->fields[i];
        const struct tcw_stats_field_view *theirs = match->fields[i];
        if (!theirs)
            continue;
        uint32_t count = mine->count < theirs->count ? mine->count : theirs->count;
        unsigned char *to = (unsigned char *)row + mine->offset;
        memcpy(to, reader->row + theirs->offset, theirs->text ? count : 8ull * count);
        if (theirs->text)
            to[mine->count - 1] = '\0';
    }
    return 1;
}

bool tcw_stats_reader_next(const struct tcw_stats_reader *reader, tcw_stats_table table, uint32_t *index, void *row)
{
    uint32_t rows = tcw_stats_reader_rows(reader, table);
    for (uint32_t i = *index; i < rows; ++i)
        if (tcw_stats_reader_get(reader, table, i, row) == 1) {
            *index = i;
            return true;
        }
    return false;
}
