#include "snapshot.h"

#include "table.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* The tables as lists of fields: rows are nothing but 64-bit numbers and texts without gaps, so sizes give the offsets. */
struct field {
    const char *name;
    size_t bytes;
    bool text;
};

#define FIELD_U64(member, kind, unit, help)          {#member, 8, false},
#define FIELD_TEXT(member, bytes, help)              {#member, bytes, true},
#define FIELD_ARRAY(member, count, kind, unit, help) {#member, (count)*8, false},
#define FIELDS(number, NAME, name)                                                                                                         \
    static const struct field name##_fields[] = {TCW_STATS_##NAME##_FIELDS(FIELD_U64, FIELD_TEXT, FIELD_ARRAY)};
TCW_STATS_TABLES(FIELDS)
#undef FIELDS
#undef FIELD_ARRAY
#undef FIELD_TEXT
#undef FIELD_U64

struct table {
    const char *name;
    const struct field *fields;
    size_t field_count;
    size_t row_bytes;
};

static const struct table tables[] = {
#define TABLE(number, NAME, name)                                                                                                          \
    [number] = {#name, name##_fields, sizeof name##_fields / sizeof name##_fields[0], sizeof(struct tcw_stats_##name)},
    TCW_STATS_TABLES(TABLE)
#undef TABLE
};

/* Marks what the file lacks, and makes what it holds printable. */
static void complete_row(const struct table *table, const struct tcw_stats_table_view *view, bool ascii, char *row)
{
    size_t offset = 0;

    for (size_t i = 0; i < table->field_count; i++) {
        const struct field *field = &table->fields[i];

        if (field->text)
            tcc_text_clean(row + offset, ascii);
        else if (!view || !tcw_stats_table_field(view, field->name))
            memset(row + offset, 0xff, field->bytes);
        offset += field->bytes;
    }
}

/* All used rows of a table as an array; NULL without any. */
static void *load_rows(const struct tcw_stats_reader *reader, tcw_stats_table number, bool ascii, size_t *count)
{
    const struct table *table = &tables[number];
    const struct tcw_stats_table_view *view = tcw_stats_reader_table(reader, table->name);
    char *rows = NULL;
    size_t used = 0, capacity = 0;

    for (uint32_t index = 0; view; index++) {
        if (used == capacity) {
            capacity = capacity ? capacity * 2 : 16;
            rows = tcc_must(realloc(rows, capacity * table->row_bytes));
        }
        if (!tcw_stats_reader_next(reader, number, &index, rows + used * table->row_bytes))
            break;
        complete_row(table, view, ascii, rows + used * table->row_bytes);
        used++;
    }
    *count = used;
    return rows;
}

#define BY(a, b)                                                                                                                           \
    do {                                                                                                                                   \
        if ((a) != (b))                                                                                                                    \
            return (a) < (b) ? -1 : 1;                                                                                                     \
    } while (0)

static int by_device(const void *a, const void *b)
{
    const struct tcw_stats_device *x = a, *y = b;

    BY(x->device, y->device);
    return 0;
}

static int by_client(const void *a, const void *b)
{
    const struct tcw_stats_client *x = a, *y = b;

    BY(x->client, y->client);
    return 0;
}

static int by_group(const void *a, const void *b)
{
    const struct tcw_stats_group *x = a, *y = b;
    int order = strcmp(x->name, y->name);

    if (order)
        return order;
    BY(y->epoch, x->epoch);
    BY(y->group, x->group);
    return 0;
}

static int by_member(const void *a, const void *b)
{
    const struct tcw_stats_member *x = a, *y = b;

    BY(x->group, y->group);
    BY(x->rank, y->rank);
    return 0;
}

static int by_latency(const void *a, const void *b)
{
    const struct tcw_stats_latency *x = a, *y = b;

    BY(x->op, y->op);
    BY(x->lane, y->lane);
    BY(x->size_class, y->size_class);
    return 0;
}

static int by_record(const void *a, const void *b)
{
    const struct tcw_stats_record *x = a, *y = b;

    BY(x->group, y->group);
    BY(x->lane, y->lane);
    BY(x->step, y->step);
    BY(x->rank, y->rank);
    return 0;
}

static int by_communicator(const void *a, const void *b)
{
    const struct tcw_stats_communicator *x = a, *y = b;

    BY(x->communicator, y->communicator);
    return 0;
}

static void sort(void *rows, size_t count, size_t bytes, int (*order)(const void *, const void *))
{
    if (count > 1)
        qsort(rows, count, bytes, order);
}

/* The state letter of /proc/PID/stat; 0 if there is no such process. */
static char process_state(uint64_t pid)
{
    char path[64], line[512];
    const char *behind_name;
    size_t bytes;
    FILE *file;

    snprintf(path, sizeof path, "/proc/%llu/stat", (unsigned long long)pid);
    file = fopen(path, "re");
    if (!file)
        return 0;
    bytes = fread(line, 1, sizeof line - 1, file);
    fclose(file);
    line[bytes] = 0;
    behind_name = strrchr(line, ')');
    return behind_name && behind_name[1] == ' ' ? behind_name[2] : 0;
}

static tcc_life judge(const struct tcw_stats_about *about)
{
    char state = about->other_namespace ? 0 : process_state(about->pid);

    if (about->writer == TCW_STATS_WRITER_GONE || state == 'Z' || state == 'X')
        return TCC_LIFE_GONE;
    if (state == 'T' || state == 't')
        return TCC_LIFE_STOPPED;
    return about->writer == TCW_STATS_WRITER_STUCK ? TCC_LIFE_STUCK : TCC_LIFE_OK;
}

static void set_times(struct tcc_snapshot *snapshot)
{
    struct timespec real;
    uint64_t real_ns;

    clock_gettime(CLOCK_REALTIME, &real);
    real_ns = (uint64_t)real.tv_sec * 1000000000 + (uint64_t)real.tv_nsec;
    snapshot->taken_ns = tcw_now_ns();
    snapshot->as_of_ns = snapshot->taken_ns;
    snapshot->as_of_real_ns = real_ns;
    if (snapshot->life == TCC_LIFE_OK)
        return;
    snapshot->as_of_ns = snapshot->about.heartbeat_ns;
    snapshot->as_of_real_ns = snapshot->about.heartbeat_age_ns < real_ns ? real_ns - snapshot->about.heartbeat_age_ns : 0;
}

int tcc_snapshot_load(const char *path, unsigned flags, bool ascii, struct tcc_snapshot *snapshot, const char **why)
{
    struct tcw_stats_reader *reader;
    struct tcw_stats_daemon *daemon;
    size_t daemons;
    int rc = tcw_stats_reader_open(path, &reader, why);

    if (rc)
        return rc;
    memset(snapshot, 0, sizeof *snapshot);
    tcw_stats_reader_about(reader, &snapshot->about);
    snapshot->life = judge(&snapshot->about);

    daemon = load_rows(reader, TCW_STATS_TABLE_DAEMON, ascii, &daemons);
    if (daemons)
        snapshot->daemon = *daemon;
    else
        complete_row(&tables[TCW_STATS_TABLE_DAEMON], NULL, ascii, (char *)&snapshot->daemon);
    free(daemon);
    if (snapshot->daemon.pid == TCC_ABSENT)
        snapshot->daemon.pid = snapshot->about.pid;

    snapshot->devices = load_rows(reader, TCW_STATS_TABLE_DEVICE, ascii, &snapshot->device_count);
    snapshot->clients = load_rows(reader, TCW_STATS_TABLE_CLIENT, ascii, &snapshot->client_count);
    snapshot->groups = load_rows(reader, TCW_STATS_TABLE_GROUP, ascii, &snapshot->group_count);
    snapshot->members = load_rows(reader, TCW_STATS_TABLE_MEMBER, ascii, &snapshot->member_count);
    snapshot->communicators = load_rows(reader, TCW_STATS_TABLE_COMMUNICATOR, ascii, &snapshot->communicator_count);
    if (flags & TCC_LOAD_LATENCY)
        snapshot->latencies = load_rows(reader, TCW_STATS_TABLE_LATENCY, ascii, &snapshot->latency_count);
    if (flags & TCC_LOAD_RECORDS)
        snapshot->records = load_rows(reader, TCW_STATS_TABLE_RECORD, ascii, &snapshot->record_count);
    sort(snapshot->devices, snapshot->device_count, sizeof *snapshot->devices, by_device);
    sort(snapshot->clients, snapshot->client_count, sizeof *snapshot->clients, by_client);
    sort(snapshot->groups, snapshot->group_count, sizeof *snapshot->groups, by_group);
    sort(snapshot->members, snapshot->member_count, sizeof *snapshot->members, by_member);
    sort(snapshot->communicators, snapshot->communicator_count, sizeof *snapshot->communicators, by_communicator);
    sort(snapshot->latencies, snapshot->latency_count, sizeof *snapshot->latencies, by_latency);
    sort(snapshot->records, snapshot->record_count, sizeof *snapshot->records, by_record);

    snapshot->latency_buckets = tcw_stats_reader_latency_buckets(reader);
    if (snapshot->latency_buckets > TCW_LATENCY_BUCKETS)
        snapshot->latency_buckets = TCW_LATENCY_BUCKETS;
    for (uint32_t i = 0; i < snapshot->latency_buckets; i++)
        snapshot->latency_limits[i] = tcw_stats_reader_latency_limit(reader, i);
    set_times(snapshot); /* last, so that no row is from the future */
    tcw_stats_reader_close(reader);
    return 0;
}

void tcc_snapshot_free(struct tcc_snapshot *snapshot)
{
    free(snapshot->devices);
    free(snapshot->clients);
    free(snapshot->groups);
    free(snapshot->members);
    free(snapshot->latencies);
    free(snapshot->records);
    free(snapshot->communicators);
    memset(snapshot, 0, sizeof *snapshot);
}

const char *tcc_life_name(tcc_life life)
{
    static const char *const names[] = {"running", "stuck", "stopped", "gone"};

    return names[life];
}

bool tcc_snapshot_caution(const struct tcc_snapshot *snapshot, char *text, size_t size)
{
    unsigned long long pid = snapshot->daemon.pid;
    struct tcc_text when = snapshot->as_of_real_ns ? tcc_time(snapshot->as_of_real_ns) : (struct tcc_text){"before the last boot"};

    switch (snapshot->life) {
    case TCC_LIFE_OK:
        return false;
    case TCC_LIFE_STUCK:
        snprintf(text, size, "daemon pid %llu is stuck, its loop last turned %s ago; showing its state from %s", pid,
                 tcc_ns(snapshot->about.heartbeat_age_ns).s, when.s);
        return true;
    case TCC_LIFE_STOPPED:
        snprintf(text, size, "daemon pid %llu is stopped by a signal or a debugger; showing its state from %s", pid, when.s);
        return true;
    case TCC_LIFE_GONE:
        snprintf(text, size, "daemon pid %llu is gone; showing its last state from %s", pid, when.s);
        return true;
    }
    return false;
}

const struct tcw_stats_member *tcc_snapshot_members(const struct tcc_snapshot *snapshot, uint64_t group, size_t *count)
{
    size_t first = 0, behind;

    while (first < snapshot->member_count && snapshot->members[first].group != group)
        first++;
    for (behind = first; behind < snapshot->member_count && snapshot->members[behind].group == group;)
        behind++;
    *count = behind - first;
    return *count ? &snapshot->members[first] : NULL;
}

const struct tcw_stats_member *tcc_snapshot_member(const struct tcc_snapshot *snapshot, uint64_t group, uint64_t rank)
{
    for (size_t i = 0; i < snapshot->member_count; i++) {
        if (snapshot->members[i].group == group && snapshot->members[i].rank == rank)
            return &snapshot->members[i];
    }
    return NULL;
}

const struct tcw_stats_group *tcc_snapshot_group(const struct tcc_snapshot *snapshot, uint64_t group)
{
    for (size_t i = 0; i < snapshot->group_count; i++) {
        if (snapshot->groups[i].group == group)
            return &snapshot->groups[i];
    }
    return NULL;
}

const struct tcw_stats_client *tcc_snapshot_client(const struct tcc_snapshot *snapshot, uint64_t client)
{
    for (size_t i = 0; i < snapshot->client_count; i++) {
        if (snapshot->clients[i].client == client)
            return &snapshot->clients[i];
    }
    return NULL;
}

static const char *name_of(const char *const *names, size_t count, uint64_t value)
{
    if (value == TCC_ABSENT)
        return "-";
    return value < count ? names[value] : "?";
}

const char *tcc_group_state_name(uint64_t state)
{
    static const char *const names[] = {"configured", "forming", "ready", "broken"};

    return name_of(names, 4, state);
}

const char *tcc_member_state_name(uint64_t state)
{
    static const char *const names[] = {"idle", "running", "waiting", "failed"};

    return name_of(names, 4, state);
}

const char *tcc_device_kind_name(uint64_t kind)
{
    static const char *const names[] = {"host", "cuda"};

    return name_of(names, 2, kind);
}

struct tcc_progress tcc_member_progress(const struct tcw_stats_member *member, tcw_lane lane)
{
    struct tcc_progress progress = {member->direct_started,
                                    member->direct_finished,
                                    member->direct_hash,
                                    member->direct_state,
                                    member->direct_since_ns,
                                    member->direct_missing,
                                    false};

    if (lane == TCW_LANE_SERVED)
        progress = (struct tcc_progress){member->served_started,
                                         member->served_finished,
                                         member->served_hash,
                                         member->served_state,
                                         member->served_since_ns,
                                         member->served_missing,
                                         false};
    progress.waits = (progress.state == TCW_MEMBER_RUNNING || progress.state == TCW_MEMBER_WAITING) && tcc_or_zero(progress.missing);
    return progress;
}

struct tcc_wait tcc_group_wait(const struct tcc_snapshot *snapshot, const struct tcw_stats_group *group, tcw_lane lane)
{
    struct tcc_wait wait = {0};
    uint64_t everybody = group->size < 64 ? (1ull << group->size) - 1 : UINT64_MAX;
    size_t count;
    const struct tcw_stats_member *members = tcc_snapshot_members(snapshot, group->group, &count);

    /* A rank that waits in an earlier run than others is late itself: only the furthest are asked. */
    for (size_t i = 0; i < count; i++) {
        struct tcc_progress progress = tcc_member_progress(&members[i], lane);

        if (progress.waits && progress.missing & everybody && tcc_or_zero(progress.started) > wait.step)
            wait.step = progress.started;
    }
    for (size_t i = 0; i < count; i++) {
        struct tcc_progress progress = tcc_member_progress(&members[i], lane);

        if (!progress.waits || !(progress.missing & everybody) || tcc_or_zero(progress.started) != wait.step || members[i].rank >= 64)
            continue;
        wait.missing |= progress.missing & everybody;
        wait.waiting |= 1ull << members[i].rank;
        if (!wait.since_ns || progress.since_ns < wait.since_ns)
            wait.since_ns = progress.since_ns;
    }
    /* One of the furthest has arrived, even if another has not seen it yet. */
    wait.mutual = wait.missing && !(wait.missing & ~wait.waiting);
    wait.missing = wait.mutual ? wait.waiting : wait.missing & ~wait.waiting;
    return wait;
}

uint64_t tcc_snapshot_age(const struct tcc_snapshot *snapshot, uint64_t since_ns)
{
    if (since_ns == TCC_ABSENT)
        return TCC_ABSENT;
    return since_ns < snapshot->as_of_ns ? snapshot->as_of_ns - since_ns : 0;
}
