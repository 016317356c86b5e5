/* top: rates per group between two looks at the stats. */
#include "command.h"
#include "json.h"
#include "screen.h"
#include "snapshot.h"
#include "table.h"
#include "verdict.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const struct tcc_option options[] = {
    {"batch", NULL, "print frames one after the other instead of taking over the terminal", 'b'},
    {"count", "N", "end after N frames", 'n'},
    {"interval", "SECONDS", "time between frames (default 1)", 'i'},
    TCC_OPTION_LIMIT,
    {0},
};

/* Missing ranks show up here sooner than in `status`: who watches wants to see them. */
#define MISSING_NS 100000000ull

/* The look before, kept from frame to frame: `tcc_repeat` has no place for it, and there is one `top` per process. */
static struct tcc_snapshot before;
static bool has_before;
static size_t limit;

/* One line. Rates are means over the ranks of the group; NAN: nothing to compare with yet. */
struct rates {
    const struct tcw_stats_group *group;
    double runs, bytes, latency_ns, share, errors;
    uint64_t step;
    bool direct, served; /* lanes that moved, or ever moved */
    uint64_t missing, missing_ns;
    tcw_lane missing_lane;
};

static void add_member(struct rates *rates, const struct tcw_stats_member *now, const struct tcw_stats_member *then, uint64_t *runs,
                       uint64_t *busy)
{
    uint64_t direct = tcc_or_zero(now->direct_finished), served = tcc_or_zero(now->served_finished);
    uint64_t step = tcc_or_zero(now->direct_started) + tcc_or_zero(now->served_started);

    if (step > rates->step)
        rates->step = step;
    rates->direct |= tcc_or_zero(now->direct_started) > 0;
    rates->served |= tcc_or_zero(now->served_started) > 0;
    if (!then)
        return;
    *runs += direct + served - tcc_or_zero(then->direct_finished) - tcc_or_zero(then->served_finished);
    *busy += tcc_or_zero(now->busy_ns) - tcc_or_zero(then->busy_ns);
    rates->bytes += (double)(tcc_or_zero(now->bytes) - tcc_or_zero(then->bytes));
    rates->errors += (double)(tcc_or_zero(now->errors) - tcc_or_zero(then->errors));
}

static void add_wait(const struct tcc_snapshot *snapshot, struct rates *rates, tcw_lane lane)
{
    struct tcc_wait wait = tcc_group_wait(snapshot, rates->group, lane);
    uint64_t age = wait.missing ? tcc_snapshot_age(snapshot, wait.since_ns) : 0;

    if (rates->group->state != TCC_GROUP_READY || age < MISSING_NS || age < rates->missing_ns)
        return;
    rates->missing = wait.missing;
    rates->missing_ns = age;
    rates->missing_lane = lane;
}

static struct rates measure(const struct tcc_snapshot *now, const struct tcw_stats_group *group)
{
    struct rates rates = {.group = group};
    double seconds = has_before ? ((double)now->as_of_ns - (double)before.as_of_ns) / 1e9 : 0;
    uint64_t runs = 0, busy = 0;
    size_t count;
    const struct tcw_stats_member *members = tcc_snapshot_members(now, group->group, &count);
    bool compared = seconds > 0 && tcc_snapshot_group(&before, group->group);

    for (size_t i = 0; i < count; i++)
        add_member(&rates, &members[i], compared ? tcc_snapshot_member(&before, group->group, members[i].rank) : NULL, &runs, &busy);
    if (compared && count) {
        double scale = seconds * (double)count;

        rates.runs = (double)runs / scale;
        rates.bytes /= scale;
        rates.errors /= scale;
        rates.share = (double)busy / 1e9 / scale;
        rates.latency_ns = runs ? (double)busy / (double)runs : NAN;
    } else {
        rates.runs = rates.bytes = rates.errors = rates.share = rates.latency_ns = NAN;
    }
    add_wait(now, &rates, TCW_LANE_DIRECT);
    add_wait(now, &rates, TCW_LANE_SERVED);
    return rates;
}

static int rank_of(const struct rates *rates)
{
    if (rates->group->state == TCC_GROUP_BROKEN)
        return 0;
    if (rates->missing)
        return 1;
    return rates->group->state == TCC_GROUP_FORMING ? 2 : 3;
}

/* What is wrong first, then the busiest. */
static int by_interest(const void *a, const void *b)
{
    const struct rates *x = a, *y = b;
    int order = rank_of(x) - rank_of(y);

    if (order)
        return order;
    if (isfinite(x->share) && isfinite(y->share) && x->share != y->share)
        return x->share > y->share ? -1 : 1;
    order = strcmp(x->group->name, y->group->name);
    return order ? order : x->group->epoch > y->group->epoch ? -1 : x->group->epoch < y->group->epoch;
}

static const char *lanes(const struct rates *rates)
{
    return rates->direct && rates->served ? "both" : rates->direct ? "direct" : rates->served ? "served" : "-";
}

static void cell(struct tcc_table *table, double value, struct tcc_text text)
{
    tcc_table_cell(table, TCC_PLAIN, "%s", isfinite(value) ? text.s : "-");
}

static void print_table(struct tcc_session *session, const struct rates *all, size_t count)
{
    static const struct tcc_column columns[] = {
        {"GROUP", TCC_LEFT},  {"EPOCH", TCC_RIGHT},    {"RANKS", TCC_RIGHT},   {"LANE", TCC_LEFT},
        {"STEP", TCC_RIGHT},  {"RUNS/S", TCC_RIGHT},   {"BYTES/S", TCC_RIGHT}, {"MEAN", TCC_RIGHT},
        {"SHARE", TCC_RIGHT}, {"ERRORS/S", TCC_RIGHT}, {"MISSING", TCC_LEFT},
    };
    struct tcc_table *table = tcc_table_create(columns, sizeof columns / sizeof columns[0]);

    for (size_t i = 0; i < count; i++) {
        const struct rates *rates = &all[i];
        const struct tcw_stats_group *group = rates->group;
        bool broken = group->state == TCC_GROUP_BROKEN;

        tcc_table_cell(table, broken ? TCC_BAD : rates->missing ? TCC_WARN : TCC_PLAIN, "%s", tcc_dash(group->name));
        tcc_table_cell(table, TCC_PLAIN, "%s", tcc_number(group->epoch).s);
        tcc_table_cell(table, TCC_PLAIN, "%s/%s", tcc_number(group->joined).s, tcc_number(group->size).s);
        tcc_table_cell(table, TCC_PLAIN, "%s", lanes(rates));
        tcc_table_cell(table, TCC_PLAIN, "%s", tcc_number(rates->step).s);
        cell(table, rates->runs, tcc_rate(rates->runs));
        cell(table, rates->bytes, tcc_byte_rate(rates->bytes));
        cell(table, rates->latency_ns, tcc_ns(isfinite(rates->latency_ns) ? (uint64_t)rates->latency_ns : 0));
        cell(table, rates->share, tcc_percent(rates->share));
        if (rates->errors > 0)
            tcc_table_cell(table, TCC_BAD, "%s", tcc_rate(rates->errors).s);
        else
            cell(table, rates->errors, tcc_rate(rates->errors));
        if (broken)
            tcc_table_cell(table, TCC_BAD, "broken: %s", tcc_dash(group->problem));
        else if (group->state == TCC_GROUP_FORMING)
            tcc_table_cell(table, TCC_WARN, "forming");
        else if (rates->missing)
            tcc_table_cell(table, TCC_WARN, "%s for %s (%s)", tcc_ranks(rates->missing).s, tcc_ns(rates->missing_ns).s,
                           tcw_lane_name(rates->missing_lane));
        else
            tcc_table_cell(table, TCC_PLAIN, "-");
    }
    if (count)
        tcc_table_print(table, &session->out, 0, limit);
    else
        fputs("no groups\n", session->out.file);
    tcc_table_free(table);
}

static void print_head(struct tcc_session *session, const struct tcc_snapshot *now)
{
    struct tcc_verdict verdict;
    struct timespec clock;

    tcc_verdict_make(now, &verdict);
    clock_gettime(CLOCK_REALTIME, &clock);
    tcc_print(&session->out, TCC_BOLD, "trtcolld %s", tcc_dash(now->daemon.version));
    fprintf(session->out.file, " on %s: ", tcc_dash(now->daemon.node));
    tcc_print(&session->out, verdict.degraded ? TCC_BAD : TCC_GOOD, "%s", tcc_verdict_word(now, &verdict));
    fprintf(session->out.file, "  %s client%s, %s plan%s, %s", tcc_number(now->daemon.clients).s, tcc_plural(now->daemon.clients),
            tcc_number(now->daemon.plans).s, tcc_plural(now->daemon.plans), tcc_bytes(now->daemon.memory_bytes).s);
    tcc_print(&session->out, TCC_DIM, "  %s, every %g s%s\n", tcc_time((uint64_t)clock.tv_sec * 1000000000).s + 11, session->interval,
              session->batch || !session->out.terminal ? "" : ", q ends");
    if (verdict.count && verdict.degraded) {
        tcc_print(&session->out, TCC_BAD, "! ");
        fprintf(session->out.file, "%s\n", verdict.problems[0].text);
    }
    fputc('\n', session->out.file);
    tcc_verdict_free(&verdict);
}

static void print_json(struct tcc_session *session, const struct tcc_snapshot *now, const struct rates *all, size_t count)
{
    cJSON *document = tcc_json_begin("top", now);
    cJSON *groups;

    tcc_json_real(document, "interval_s", has_before ? ((double)now->as_of_ns - (double)before.as_of_ns) / 1e9 : NAN);
    groups = tcc_json_array(document, "groups");
    for (size_t i = 0; i < count; i++) {
        const struct rates *rates = &all[i];
        cJSON *item = tcc_json_object(groups, NULL);

        tcc_json_text(item, "name", rates->group->name);
        tcc_json_u64(item, "epoch", rates->group->epoch);
        tcc_json_text(item, "state", tcc_group_state_name(rates->group->state));
        tcc_json_u64(item, "joined", rates->group->joined);
        tcc_json_u64(item, "size", rates->group->size);
        tcc_json_text(item, "lane", lanes(rates));
        tcc_json_u64(item, "step", rates->step);
        tcc_json_real(item, "runs_per_s", rates->runs);
        tcc_json_real(item, "bytes_per_s", rates->bytes);
        tcc_json_real(item, "mean_latency_ns", rates->latency_ns);
        tcc_json_real(item, "share", rates->share);
        tcc_json_real(item, "errors_per_s", rates->errors);
        tcc_json_ranks(item, "missing", rates->missing);
        tcc_json_u64(item, "missing_for_ns", rates->missing ? rates->missing_ns : TCC_ABSENT);
    }
    tcc_json_end(document, session->out.file, session->compact);
}

static void keep(struct tcc_snapshot *now)
{
    if (has_before)
        tcc_snapshot_free(&before);
    before = *now;
    has_before = true;
}

static tcc_exit frame(struct tcc_session *session)
{
    struct tcc_snapshot now;
    struct rates *all;
    size_t count = 0;
    tcc_exit code = tcc_session_snapshot(session, 0, &now);

    if (code)
        return code;
    all = tcc_must(calloc(now.group_count + 1, sizeof *all));
    for (size_t i = 0; i < now.group_count; i++) {
        if (now.groups[i].state != TCC_GROUP_CONFIGURED)
            all[count++] = measure(&now, &now.groups[i]);
    }
    if (count)
        qsort(all, count, sizeof *all, by_interest);
    if (session->json) {
        print_json(session, &now, all, count);
    } else {
        print_head(session, &now);
        print_table(session, all, count);
    }
    free(all);
    keep(&now);
    return TCC_EXIT_OK;
}

static tcc_exit run(struct tcc_session *session)
{
    const char *interval = tcc_option(session, "interval");
    unsigned long long count = 0, lines = TCC_LIMIT;
    struct tcc_snapshot first;
    tcc_exit code;

    if (!tcc_option_u64(session, "count", 1, 1000000000, &count) || !tcc_option_u64(session, "limit", 0, 1000000000, &lines))
        return TCC_EXIT_USAGE;
    if (interval && !tcc_parse_seconds(interval, &session->interval))
        return tcc_misuse(session, "--interval: found \"%s\", allowed: seconds above 0, at most 86400", interval);
    if (session->interval <= 0)
        session->interval = 1;
    session->frames = (unsigned long)count;
    session->batch = tcc_option(session, "batch");
    session->compact = count != 1;
    limit = lines;

    /* Something to compare the first frame with. On a terminal a short look is enough, a script gets its whole interval. */
    code = tcc_session_snapshot(session, 0, &first);
    if (code)
        return code;
    keep(&first);
    if (!tcc_screen_wait(session->out.terminal && !session->batch && session->interval > 0.3 ? 0.3 : session->interval))
        return TCC_EXIT_OK;
    code = tcc_repeat(session, frame);
    tcc_snapshot_free(&before);
    has_before = false;
    return code;
}

const struct tcc_command tcc_command_top = {
    .name = "top",
    .help = "rates per group, refreshed",
    .details =
        "RUNS/S, BYTES/S and SHARE (of time spent inside collectives) are means over the ranks of a group, MEAN is the latency of a\n"
        "run from submission to its end. MISSING names the ranks that others wait for. Broken and waiting groups come first,\n"
        "then the busiest. q or Ctrl-C ends.",
    .options = options,
    .repeats_itself = true,
    .run = run,
};
