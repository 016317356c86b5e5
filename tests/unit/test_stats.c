/* The stats segment: what the writer puts, the reader gets; damaged files are refused; a racing reader never sees half a row. */
#include "daemon/control/stats.h"

#include <tcw/stats_layout.h>
#include <tcw/stats_reader.h>

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cmocka_all.h"

struct fixture {
    char dir[64];
    char path[80];
    struct tcd_stats *stats;
};

static const struct tcd_stats_capacity capacity = {.devices = 4, .clients = 8, .groups = 4, .members = 16, .communicators = 2};

static int setup(void **state)
{
    struct fixture *fixture = calloc(1, sizeof *fixture);
    strcpy(fixture->dir, "/tmp/trtcoll-test-stats-XXXXXX");
    assert_non_null(mkdtemp(fixture->dir));
    snprintf(fixture->path, sizeof fixture->path, "%s/stats", fixture->dir);
    assert_int_equal(tcd_stats_create(fixture->dir, &capacity, &fixture->stats), 0);
    *state = fixture;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *fixture = *state;
    tcd_stats_destroy(fixture->stats);
    unlink(fixture->path);
    assert_int_equal(rmdir(fixture->dir), 0); /* nothing else was left there */
    free(fixture);
    return 0;
}

static struct tcw_stats_reader *open_reader(const struct fixture *fixture)
{
    struct tcw_stats_reader *reader = NULL;
    const char *why = "";
    int rc = tcw_stats_reader_open(fixture->path, &reader, &why);
    if (rc < 0)
        fail_msg("%s: %s", tcw_error_name(rc), why);
    return reader;
}

static void test_put_and_get(void **state)
{
    struct fixture *fixture = *state;
    struct tcw_stats_reader *reader = open_reader(fixture);
    struct tcw_stats_client client = {.client = 7, .pid = 1234, .uid = 42, .refusals = 3}, got;
    strcpy(client.name, "engine \"0\"");

    assert_int_equal(tcw_stats_reader_get(reader, TCW_STATS_TABLE_CLIENT, 5, &got), 0);
    tcd_stats_put(fixture->stats, TCW_STATS_TABLE_CLIENT, 5, &client);
    assert_int_equal(tcw_stats_reader_get(reader, TCW_STATS_TABLE_CLIENT, 5, &got), 1);
    assert_memory_equal(&got, &client, sizeof got);

    client.client = 8;
    tcd_stats_put(fixture->stats, TCW_STATS_TABLE_CLIENT, 2, &client);
    uint32_t index = 0, seen = 0;
    uint64_t ids = 0;
    for (; tcw_stats_reader_next(reader, TCW_STATS_TABLE_CLIENT, &index, &got); ++index, ++seen)
        ids = ids * 10 + got.client;
    assert_int_equal(seen, 2);
    assert_int_equal(ids, 87);

    tcd_stats_clear(fixture->stats, TCW_STATS_TABLE_CLIENT, 5);
    assert_int_equal(tcw_stats_reader_get(reader, TCW_STATS_TABLE_CLIENT, 5, &got), 0);
    tcw_stats_reader_close(reader);
}

static void test_every_table_round_trips(void **state)
{
    struct fixture *fixture = *state;
    struct tcw_stats_reader *reader = open_reader(fixture);
    for (uint32_t t = 0; t < tcw_stats_schema_tables; ++t) {
        const struct tcw_stats_schema_table *schema = &tcw_stats_schema[t];
        uint64_t *row = calloc(1, schema->bytes), *got = malloc(schema->bytes);
        uint32_t last = tcd_stats_rows(fixture->stats, (tcw_stats_table)schema->number) - 1;
        for (uint32_t i = 0; i < schema->field_count; ++i) {
            const struct tcw_stats_field_entry *field = &schema->fields[i];
            if (field->type == TCW_STATS_TYPE_TEXT)
                snprintf((char *)row + field->offset, field->count, "%s.%s", schema->name, field->name);
            else
                for (uint32_t j = 0; j < field->count; ++j)
                    row[field->offset / 8 + j] = (uint64_t)t << 40 | i << 16 | (j + 1);
        }
        assert_int_equal(tcw_stats_reader_rows(reader, (tcw_stats_table)schema->number), last + 1);
        tcd_stats_put(fixture->stats, (tcw_stats_table)schema->number, last, row);
        assert_int_equal(tcw_stats_reader_get(reader, (tcw_stats_table)schema->number, last, got), 1);
        assert_memory_equal(row, got, schema->bytes);
        free(row);
        free(got);
    }
    assert_int_equal(tcd_stats_rows(fixture->stats, TCW_STATS_TABLE_RECORD), 16 * 2 * TCW_STATS_RECORDS_PER_MEMBER);
    assert_int_equal(tcw_stats_latency_row(TCW_MEMBER_MAX_OPS - 1, 2, TCW_SIZE_CLASSES - 1), TCW_STATS_LATENCY_ROWS - 1);
    tcw_stats_reader_close(reader);
}

static void test_discovery_by_name(void **state)
{
    struct fixture *fixture = *state;
    struct tcw_stats_reader *reader = open_reader(fixture);
    struct tcw_stats_latency latency = {.op = 3, .count = 9};
    latency.buckets[TCW_LATENCY_BUCKETS - 1] = 11;
    tcd_stats_put(fixture->stats, TCW_STATS_TABLE_LATENCY, 0, &latency);

    const struct tcw_stats_table_view *table = tcw_stats_reader_table(reader, "latency");
    assert_non_null(table);
    assert_null(tcw_stats_reader_table(reader, "no such table"));
    assert_int_equal(tcw_stats_reader_table_count(reader), 8);
    assert_ptr_equal(tcw_stats_reader_table_at(reader, 5), table);
    assert_null(tcw_stats_reader_table_at(reader, 8));
    unsigned char *row = malloc(table->row_bytes);
    assert_int_equal(tcw_stats_reader_copy(reader, table, 0, row), 1);
    const struct tcw_stats_field_view *buckets = tcw_stats_table_field(table, "buckets");
    assert_int_equal(buckets->count, TCW_LATENCY_BUCKETS);
    assert_int_equal(tcw_stats_row_u64(buckets, row, TCW_LATENCY_BUCKETS - 1), 11);
    assert_int_equal(tcw_stats_row_u64(buckets, row, TCW_LATENCY_BUCKETS), 0);
    assert_int_equal(tcw_stats_row_u64(tcw_stats_table_field(table, "op"), row, 0), 3);
    assert_int_equal(tcw_stats_row_u64(tcw_stats_table_field(table, "absent"), row, 0), 0);
    assert_string_equal(tcw_stats_row_text(tcw_stats_table_field(table, "op"), row), "");
    const struct tcw_stats_field_view *heartbeat = tcw_stats_table_field(tcw_stats_reader_table(reader, "daemon"), "heartbeat_ns");
    assert_string_equal(heartbeat->unit, "ns");
    assert_int_equal(heartbeat->kind, TCW_STATS_GAUGE);
    assert_int_equal(tcw_stats_reader_latency_limit(reader, 0), 250);
    assert_true(tcw_stats_reader_size_limit(reader, TCW_SIZE_CLASSES - 1) == UINT64_MAX);
    free(row);
    tcw_stats_reader_close(reader);
}

static void test_beyond_capacity_is_counted(void **state)
{
    struct fixture *fixture = *state;
    struct tcw_stats_reader *reader = open_reader(fixture);
    struct tcw_stats_group group = {.group = 1};
    struct tcw_stats_about about;
    tcd_stats_put(fixture->stats, TCW_STATS_TABLE_GROUP, capacity.groups, &group);
    tcd_stats_put(fixture->stats, (tcw_stats_table)99, 0, &group);
    tcd_stats_clear(fixture->stats, TCW_STATS_TABLE_GROUP, 1000);
    tcw_stats_reader_about(reader, &about);
    assert_int_equal(about.dropped, 2);
    assert_int_equal(tcw_stats_reader_get(reader, TCW_STATS_TABLE_GROUP, capacity.groups, &group), 0);
    tcw_stats_reader_close(reader);
}

static void test_about_the_writer(void **state)
{
    struct fixture *fixture = *state;
    struct tcw_stats_reader *reader = open_reader(fixture);
    struct tcw_stats_about about;
    struct tcw_stats_daemon row = {.pid = (uint64_t)getpid(), .heartbeat_ns = tcw_now_ns()};
    tcd_stats_put(fixture->stats, TCW_STATS_TABLE_DAEMON, 0, &row);
    tcw_stats_reader_about(reader, &about);
    assert_int_equal(about.writer, TCW_STATS_WRITER_ALIVE);
    assert_int_equal(about.pid, getpid());
    assert_int_equal(about.heartbeat_ns, row.heartbeat_ns);
    assert_false(about.replaced);
    assert_false(about.other_namespace);

    row.heartbeat_ns -= TCW_STATS_STALE_NS + 1000000000u;
    tcd_stats_put(fixture->stats, TCW_STATS_TABLE_DAEMON, 0, &row);
    tcw_stats_reader_about(reader, &about);
    assert_int_equal(about.writer, TCW_STATS_WRITER_STUCK);
    assert_true(about.heartbeat_age_ns > TCW_STATS_STALE_NS);

    struct tcd_stats *successor;
    assert_int_equal(tcd_stats_create(fixture->dir, &capacity, &successor), 0);
    tcw_stats_reader_about(reader, &about);
    assert_true(about.replaced);
    tcd_stats_destroy(successor);
    tcw_stats_reader_close(reader);
}

/* A writer that died: even as a zombie it counts as gone, and its rows stay readable. */
static void test_dead_writer(void **state)
{
    struct fixture *fixture = *state;
    pid_t child = fork();
    if (child == 0) {
        struct tcd_stats *stats;
        struct tcw_stats_daemon row = {.heartbeat_ns = tcw_now_ns(), .clients = 3};
        if (tcd_stats_create(fixture->dir, &capacity, &stats) < 0)
            _exit(1);
        tcd_stats_put(stats, TCW_STATS_TABLE_DAEMON, 0, &row);
        _exit(0);
    }
    siginfo_t info;
    assert_int_equal(waitid(P_PID, (id_t)child, &info, WEXITED | WNOWAIT), 0);
    struct tcw_stats_reader *reader = open_reader(fixture);
    struct tcw_stats_about about;
    struct tcw_stats_daemon row;
    tcw_stats_reader_about(reader, &about);
    assert_int_equal(about.writer, TCW_STATS_WRITER_GONE);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    tcw_stats_reader_about(reader, &about);
    assert_int_equal(about.writer, TCW_STATS_WRITER_GONE);
    assert_int_equal(tcw_stats_reader_get(reader, TCW_STATS_TABLE_DAEMON, 0, &row), 1);
    assert_int_equal(row.clients, 3);
    tcw_stats_reader_close(reader);
}

struct race {
    struct fixture *fixture;
    _Atomic bool stop;
};

static void *race_writer(void *arg)
{
    struct race *race = arg;
    struct tcw_stats_latency row;
    for (uint64_t n = 1; !atomic_load(&race->stop); ++n) {
        row.op = row.lane = row.size_class = row.size_limit = row.count = n;
        for (unsigned i = 0; i < TCW_LATENCY_BUCKETS; ++i)
            row.buckets[i] = n;
        tcd_stats_put(race->fixture->stats, TCW_STATS_TABLE_LATENCY, 3, &row);
        if (n % 64 == 0)
            tcd_stats_clear(race->fixture->stats, TCW_STATS_TABLE_LATENCY, 3);
    }
    return NULL;
}

static void test_reader_races_writer(void **state)
{
    struct race race = {.fixture = *state};
    struct tcw_stats_reader *reader = open_reader(race.fixture);
    pthread_t writer;
    assert_int_equal(pthread_create(&writer, NULL, race_writer, &race), 0);
    struct tcw_stats_latency row;
    uint64_t last = 0, whole = 0;
    uint64_t until = tcw_now_ns() + 60000000000u;
    while (whole < 20000 && tcw_now_ns() < until) {
        int rc = tcw_stats_reader_get(reader, TCW_STATS_TABLE_LATENCY, 3, &row);
        if (rc != 1)
            continue;
        ++whole;
        assert_true(row.op >= last);
        last = row.op;
        for (unsigned i = 0; i < TCW_LATENCY_BUCKETS; ++i)
            assert_int_equal(row.buckets[i], row.op);
    }
    atomic_store(&race.stop, true);
    pthread_join(writer, NULL);
    assert_int_equal(whole, 20000);
    tcw_stats_reader_close(reader);
}

/* A writer that died in the middle of a row leaves an odd sequence word. */
static void test_half_written_row(void **state)
{
    struct fixture *fixture = *state;
    struct tcw_stats_device device = {.device = 1};
    tcd_stats_put(fixture->stats, TCW_STATS_TABLE_DEVICE, 0, &device);
    int fd = open(fixture->path, O_RDWR);
    struct tcw_stats_header header;
    struct tcw_stats_table_entry entry;
    assert_int_equal(pread(fd, &header, sizeof header, 0), sizeof header);
    assert_int_equal(pread(fd, &entry, sizeof entry, (off_t)(header.tables_offset + header.table_bytes)), sizeof entry);
    assert_string_equal(entry.name, "device");
    uint64_t odd = 7;
    assert_int_equal(pwrite(fd, &odd, sizeof odd, (off_t)entry.offset), sizeof odd);
    close(fd);
    struct tcw_stats_reader *reader = open_reader(fixture);
    assert_int_equal(tcw_stats_reader_get(reader, TCW_STATS_TABLE_DEVICE, 0, &device), TCW_EAGAIN);
    tcw_stats_reader_close(reader);
}

static void write_copy(const char *path, const unsigned char *bytes, size_t count)
{
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, count), count);
    close(fd);
}

static void test_damaged_files(void **state)
{
    struct fixture *fixture = *state;
    struct tcw_stats_reader *reader;
    const char *why;
    char path[96];
    struct stat status;
    assert_int_equal(stat(fixture->path, &status), 0);
    size_t size = (size_t)status.st_size;
    unsigned char *good = malloc(size), *bad = malloc(size);
    int fd = open(fixture->path, O_RDONLY);
    assert_int_equal(read(fd, good, size), size);
    close(fd);
    const struct tcw_stats_header *header = (void *)good;
    snprintf(path, sizeof path, "%s/copy", fixture->dir);

    assert_int_equal(tcw_stats_reader_open(path, &reader, &why), TCW_ENOENT);
    assert_int_equal(tcw_stats_reader_open(fixture->dir, &reader, &why), TCW_EPROTO);
    assert_int_equal(tcw_stats_reader_open("/dev/zero", &reader, &why), TCW_EPROTO);
    size_t lengths[] = {0, 1, 100, sizeof *header - 1, sizeof *header, 4096, size - 1};
    for (unsigned i = 0; i < sizeof lengths / sizeof lengths[0]; ++i) {
        write_copy(path, good, lengths[i]);
        assert_int_equal(tcw_stats_reader_open(path, &reader, &why), TCW_EPROTO);
    }
    /* Each word of the header and the schema turned into something large: refused, or readable to its end without a fault. */
    size_t schema_end = header->fields_offset + (size_t)header->field_count * header->field_bytes;
    fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    assert_int_equal(write(fd, good, size), size);
    unsigned refused = 0;
    for (size_t at = 0; at < schema_end; at += 4) {
        const uint32_t garbage[] = {0xffffffffu, 0x7ffffff8u, 0x00010001u};
        for (unsigned g = 0; g < 3; ++g) {
            assert_int_equal(pwrite(fd, &garbage[g], 4, (off_t)at), 4);
            if (tcw_stats_reader_open(path, &reader, &why) < 0) {
                ++refused;
                continue;
            }
            for (uint32_t t = 0; t < tcw_stats_reader_table_count(reader); ++t) {
                const struct tcw_stats_table_view *table = tcw_stats_reader_table_at(reader, t);
                void *row = malloc(table->row_bytes);
                tcw_stats_reader_copy(reader, table, 0, row);
                if (table->rows)
                    tcw_stats_reader_copy(reader, table, table->rows - 1, row);
                free(row);
            }
            tcw_stats_reader_close(reader);
        }
        assert_int_equal(pwrite(fd, good + at, 4, (off_t)at), 4);
    }
    assert_true(refused > 100);
    close(fd);
    memcpy(bad, good, size);
    ((struct tcw_stats_header *)(void *)bad)->version = TCW_STATS_VERSION + 1;
    write_copy(path, bad, size);
    assert_int_equal(tcw_stats_reader_open(path, &reader, &why), TCW_EABI);
    unlink(path);
    free(good);
    free(bad);
}

/* A newer daemon: longer entries, one more table. An older one: without a field. Both are readable. */
static void test_other_versions(void **state)
{
    struct fixture *fixture = *state;
    struct tcw_stats_client client = {.client = 5, .requests = 77}, got;
    tcd_stats_put(fixture->stats, TCW_STATS_TABLE_CLIENT, 0, &client);
    struct tcw_stats_header header;
    int fd = open(fixture->path, O_RDWR);
    assert_int_equal(pread(fd, &header, sizeof header, 0), sizeof header);
    /* Rename the field `requests`, as if the file did not have it. */
    for (uint32_t i = 0; i < header.field_count; ++i) {
        off_t at = (off_t)(header.fields_offset + (uint64_t)i * header.field_bytes);
        char name[TCW_STATS_NAME_BYTES];
        assert_int_equal(pread(fd, name, sizeof name, at), sizeof name);
        if (!strcmp(name, "requests"))
            assert_int_equal(pwrite(fd, "unheard", 8, at), 8);
    }
    close(fd);
    struct tcw_stats_reader *reader = open_reader(fixture);
    assert_int_equal(tcw_stats_reader_get(reader, TCW_STATS_TABLE_CLIENT, 0, &got), 1);
    assert_int_equal(got.client, 5);
    assert_int_equal(got.requests, 0);
    const struct tcw_stats_table_view *table = tcw_stats_reader_table(reader, "client");
    assert_non_null(tcw_stats_table_field(table, "unheard"));
    tcw_stats_reader_close(reader);
}

static void test_no_place_for_the_file(void **state)
{
    (void)state;
    struct tcd_stats *stats = NULL;
    assert_true(tcd_stats_create("/nonexistent/directory", &capacity, &stats) < 0);
    assert_null(stats);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_put_and_get, setup, teardown),
        cmocka_unit_test_setup_teardown(test_every_table_round_trips, setup, teardown),
        cmocka_unit_test_setup_teardown(test_discovery_by_name, setup, teardown),
        cmocka_unit_test_setup_teardown(test_beyond_capacity_is_counted, setup, teardown),
        cmocka_unit_test_setup_teardown(test_about_the_writer, setup, teardown),
        cmocka_unit_test_setup_teardown(test_dead_writer, setup, teardown),
        cmocka_unit_test_setup_teardown(test_reader_races_writer, setup, teardown),
        cmocka_unit_test_setup_teardown(test_half_written_row, setup, teardown),
        cmocka_unit_test_setup_teardown(test_damaged_files, setup, teardown),
        cmocka_unit_test_setup_teardown(test_other_versions, setup, teardown),
        cmocka_unit_test(test_no_place_for_the_file),
    };
    return cmocka_run_group_tests_name("stats", tests, NULL, NULL);
}
