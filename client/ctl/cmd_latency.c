/* latency: histograms per operation, lane and size class. */
#include "command.h"
#include "histogram.h"
#include "json.h"
#include "snapshot.h"
#include "table.h"

#include <string.h>

static const struct tcc_option options[] = {
    {"op", "NAME", "only this operation, such as all-reduce", 'o'},
    {"lane", "LANE", "only this lane: direct or served", 0},
    {"chart", NULL, "a bar for every bucket", 'c'},
    {0},
};

struct selection {
    const char *op, *lane;
};

static bool wanted(const struct selection *selection, const struct tcw_stats_latency *row)
{
    const char *op = tcw_op_name((unsigned)row->op), *lane = tcw_lane_name((unsigned)row->lane);

    return (!selection->op || (op && strcmp(selection->op, op) == 0)) && (!selection->lane || (lane && strcmp(selection->lane, lane) == 0));
}

static struct tcc_histogram histogram(const struct tcc_snapshot *snapshot, const struct tcw_stats_latency *row)
{
    /* A file without the counts has no histogram. */
    return (struct tcc_histogram){row->buckets, snapshot->latency_limits, row->buckets[0] == TCC_ABSENT ? 0 : snapshot->latency_buckets};
}

/* Name of an operation, also of one that only a newer daemon knows. */
static struct tcc_text op_text(uint64_t op)
{
    struct tcc_text text;
    const char *name = op < 65536 ? tcw_op_name((unsigned)op) : NULL;

    if (name)
        snprintf(text.s, sizeof text.s, "%s", name);
    else
        snprintf(text.s, sizeof text.s, "operation %llu", (unsigned long long)op);
    return text;
}

/* An upper bound; the last bucket has none, so its lower one is shown. */
static struct tcc_text bound(const struct tcc_histogram *latency, uint64_t limit)
{
    struct tcc_text text;

    if (limit != UINT64_MAX || latency->buckets < 2)
        return tcc_ns(limit);
    snprintf(text.s, sizeof text.s, "> %.36s", tcc_ns(latency->limits[latency->buckets - 2]).s);
    return text;
}

static struct tcc_text size_text(const struct tcw_stats_latency *row)
{
    struct tcc_text text;

    if (row->size_limit == UINT64_MAX && row->size_class && row->size_class != TCC_ABSENT)
        snprintf(text.s, sizeof text.s, "> %.36s", tcc_bytes(tcw_size_class_limit((unsigned)row->size_class - 1)).s);
    else
        snprintf(text.s, sizeof text.s, "<= %.36s", tcc_bytes(row->size_limit).s);
    return text;
}

/* Buckets that any of the rows uses, so that all distributions have the same axis. */
static void common_span(const struct tcc_snapshot *snapshot, const struct selection *selection, size_t *first, size_t *last)
{
    *first = snapshot->latency_buckets;
    *last = 0;
    for (size_t i = 0; i < snapshot->latency_count; i++) {
        struct tcc_histogram latency = histogram(snapshot, &snapshot->latencies[i]);
        size_t low, high;

        if (!wanted(selection, &snapshot->latencies[i]) || !tcc_histogram_span(&latency, &low, &high))
            continue;
        if (low < *first)
            *first = low;
        if (high > *last)
            *last = high;
    }
}

static void print_chart(const struct tcc_out *out, const struct tcc_histogram *latency)
{
    enum { BAR = 50 };
    uint64_t total = tcc_histogram_total(latency), largest = 0;
    size_t first = 0, last = 0;

    if (!tcc_histogram_span(latency, &first, &last))
        return;
    for (size_t i = first; i <= last; i++)
        largest = latency->counts[i] > largest ? latency->counts[i] : largest;
    for (size_t i = first; i <= last; i++) {
        double part = (double)latency->counts[i] / (double)largest * BAR;
        int length = latency->counts[i] && part < 1 ? 1 : (int)(part + 0.5);

        fprintf(out->file, "    %12s |", bound(latency, latency->limits[i]).s);
        for (int column = 0; column < length; column++)
            fputs(out->utf8 ? "█" : "#", out->file);
        fprintf(out->file, "%*s%8s %7s\n", BAR + 1 - length, "", tcc_count(latency->counts[i]).s,
                tcc_percent((double)latency->counts[i] / (double)total).s);
    }
}

static void add_row(struct tcc_table *table, const struct tcc_out *out, const struct tcc_snapshot *snapshot,
                    const struct tcw_stats_latency *row, size_t first, size_t last)
{
    struct tcc_histogram latency = histogram(snapshot, row);
    char spark[3 * TCW_LATENCY_BUCKETS + 1];

    tcc_histogram_spark(&latency, first, last, out->utf8, spark);
    for (char *end = spark + strlen(spark); end > spark && end[-1] == ' ';)
        *--end = 0;
    tcc_table_cell(table, TCC_PLAIN, "%s", op_text(row->op).s);
    tcc_table_cell(table, TCC_PLAIN, "%s", tcw_lane_name((unsigned)row->lane) ? tcw_lane_name((unsigned)row->lane) : "?");
    tcc_table_cell(table, TCC_PLAIN, "%s", size_text(row).s);
    tcc_table_cell(table, TCC_PLAIN, "%s", tcc_count(tcc_histogram_total(&latency)).s);
    tcc_table_cell(table, TCC_BOLD, "%s", bound(&latency, tcc_histogram_quantile(&latency, 500)).s);
    tcc_table_cell(table, TCC_PLAIN, "%s", bound(&latency, tcc_histogram_quantile(&latency, 900)).s);
    tcc_table_cell(table, TCC_PLAIN, "%s", bound(&latency, tcc_histogram_quantile(&latency, 990)).s);
    tcc_table_cell(table, TCC_PLAIN, "%s", bound(&latency, tcc_histogram_quantile(&latency, 1000)).s);
    tcc_table_cell(table, TCC_PLAIN, "%s", spark);
}

static size_t print_text(struct tcc_session *session, const struct tcc_snapshot *snapshot, const struct selection *selection)
{
    char axis[96];
    struct tcc_column columns[] = {
        {"OPERATION", TCC_LEFT}, {"LANE", TCC_LEFT}, {"SIZE", TCC_RIGHT}, {"RUNS", TCC_RIGHT}, {"P50", TCC_RIGHT},
        {"P90", TCC_RIGHT},      {"P99", TCC_RIGHT}, {"MAX", TCC_RIGHT},  {axis, TCC_LEFT},
    };
    struct tcc_table *table = tcc_table_create(columns, sizeof columns / sizeof columns[0]);
    size_t first, last, rows;

    common_span(snapshot, selection, &first, &last);
    if (first <= last) {
        struct tcc_histogram any = {NULL, snapshot->latency_limits, snapshot->latency_buckets};

        snprintf(axis, sizeof axis, "%s .. %s", bound(&any, any.limits[first]).s, bound(&any, any.limits[last]).s);
    }
    for (size_t i = 0; first <= last && i < snapshot->latency_count; i++) {
        struct tcc_histogram latency = histogram(snapshot, &snapshot->latencies[i]);

        if (!wanted(selection, &snapshot->latencies[i]) || !tcc_histogram_total(&latency))
            continue;
        add_row(table, &session->out, snapshot, &snapshot->latencies[i], first, last);
    }
    rows = tcc_table_rows(table);
    if (rows)
        tcc_table_print(table, &session->out, 0, 0);
    tcc_table_free(table);
    return rows;
}

static void print_charts(struct tcc_session *session, const struct tcc_snapshot *snapshot, const struct selection *selection)
{
    for (size_t i = 0; i < snapshot->latency_count; i++) {
        const struct tcw_stats_latency *row = &snapshot->latencies[i];
        struct tcc_histogram latency = histogram(snapshot, row);

        if (!wanted(selection, row) || !tcc_histogram_total(&latency))
            continue;
        fputc('\n', session->out.file);
        tcc_print(&session->out, TCC_BOLD, "%s, %s lane, %s", op_text(row->op).s,
                  tcw_lane_name((unsigned)row->lane) ? tcw_lane_name((unsigned)row->lane) : "?", size_text(row).s);
        fprintf(session->out.file, ": %s runs\n", tcc_count(tcc_histogram_total(&latency)).s);
        print_chart(&session->out, &latency);
    }
}

/* Bounds of 2^64-1 mean "no bound" and become null. */
static void print_json(struct tcc_session *session, const struct tcc_snapshot *snapshot, const struct selection *selection)
{
    cJSON *document = tcc_json_begin("latency", snapshot);
    cJSON *limits = tcc_json_array(document, "bucket_limits_ns");
    cJSON *rows = tcc_json_array(document, "rows");

    for (uint32_t i = 0; i < snapshot->latency_buckets; i++)
        tcc_json_u64(limits, NULL, snapshot->latency_limits[i]);
    for (size_t i = 0; i < snapshot->latency_count; i++) {
        const struct tcw_stats_latency *row = &snapshot->latencies[i];
        struct tcc_histogram latency = histogram(snapshot, row);
        cJSON *item, *counts;

        if (!wanted(selection, row))
            continue;
        item = tcc_json_object(rows, NULL);
        tcc_json_text(item, "op", op_text(row->op).s);
        tcc_json_text(item, "lane", tcw_lane_name((unsigned)row->lane));
        tcc_json_u64(item, "size_class", row->size_class);
        tcc_json_u64(item, "size_limit_bytes", row->size_limit);
        tcc_json_u64(item, "runs", tcc_histogram_total(&latency));
        tcc_json_u64(item, "p50_ns", tcc_histogram_quantile(&latency, 500));
        tcc_json_u64(item, "p90_ns", tcc_histogram_quantile(&latency, 900));
        tcc_json_u64(item, "p99_ns", tcc_histogram_quantile(&latency, 990));
        tcc_json_u64(item, "max_ns", tcc_histogram_quantile(&latency, 1000));
        counts = tcc_json_array(item, "counts");
        for (size_t bucket = 0; bucket < latency.buckets; bucket++)
            tcc_json_u64(counts, NULL, latency.counts[bucket]);
    }
    tcc_json_end(document, session->out.file, session->compact);
}

static tcc_exit check(struct tcc_session *session, const struct selection *selection)
{
    bool known = !selection->op;

    for (unsigned op = 0; op < TCW_OP_COUNT; op++)
        known = known || (tcw_op_name(op) && strcmp(selection->op, tcw_op_name(op)) == 0);
    if (!known)
        return tcc_misuse(session, "--op: there is no operation \"%s\"", selection->op);
    if (selection->lane && strcmp(selection->lane, "direct") != 0 && strcmp(selection->lane, "served") != 0)
        return tcc_misuse(session, "--lane: found \"%s\", allowed: direct, served", selection->lane);
    return TCC_EXIT_OK;
}

static tcc_exit run(struct tcc_session *session)
{
    struct selection selection = {tcc_option(session, "op"), tcc_option(session, "lane")};
    struct tcc_snapshot snapshot;
    tcc_exit code = check(session, &selection);

    if (!code)
        code = tcc_session_snapshot(session, TCC_LOAD_LATENCY, &snapshot);
    if (code)
        return code;
    if (session->json) {
        print_json(session, &snapshot, &selection);
    } else {
        tcc_session_caution(session, &snapshot);
        if (!print_text(session, &snapshot, &selection))
            fputs("no runs yet\n", session->out.file);
        else if (tcc_option(session, "chart"))
            print_charts(session, &snapshot, &selection);
    }
    tcc_snapshot_free(&snapshot);
    return TCC_EXIT_OK;
}

const struct tcc_command tcc_command_latency = {
    .name = "latency",
    .help = "histograms per operation, lane and message size",
    .details =
        "Times are from submission to the end of a run, as one rank saw it, since the daemon started. Buckets grow by the square root of\n"
        "two; percentiles and MAX are the upper bounds of the buckets they fall into. The last column draws the distribution\n"
        "over the buckets between the two times in its title.",
    .options = options,
    .run = run,
};
